"""Random columns that are the same everywhere.

They are derived from the raw bits of a bit generator: NumPy promises that these stay the same across its versions, and
not so for its distributions.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime.date(1970, 1, 1)
_DAY_SECONDS = 86_400
_MICROSECONDS = 1_000_000


class Draw:
    """Columns of one length, each call another one.

    Args:
        seed: Literal seed.
        rows: Length of every column.
    """

    def __init__(self, seed: int, rows: int) -> None:
        self.rows = rows
        self._bits = np.random.PCG64(seed)

    def _raw(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.asarray(self._bits.random_raw(self.rows), dtype=np.uint64)

    def integers(self, low: int, high: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Integers from low to below high, as int64."""
        return (self._raw() % np.uint64(high - low)).astype(np.int64) + low

    def order(self) -> pa.Array:
        """A permutation of the positions."""
        return pa.array(np.argsort(self._raw(), kind="stable"))

    def chance(self, percent: int) -> pa.Array:
        """Booleans, true with about that probability."""
        return pa.array(self.integers(0, 100) < percent)

    def pick(self, options: Sequence[str | None]) -> pa.Array:
        """Strings, each option equally likely."""
        return pa.array([options[int(i)] for i in self.integers(0, len(options))], pa.string())

    def cents(self, low: int, high: int, precision: int = 10) -> pa.Array:
        """Amounts with two digits after the point, from low to below high hundredths."""
        amounts = [Decimal(int(cents)).scaleb(-2) for cents in self.integers(low, high)]
        return pa.array(amounts, pa.decimal128(precision, 2))

    def eighths(self, low: int, high: int) -> pa.Array:
        """Doubles that are multiples of 1/8, from low to below high."""
        return pa.array(self.integers(low * 8, high * 8) / 8.0)

    def days(self, first: str, count: int) -> pa.Array:
        """Dates of the `count` days from the first on."""
        start = (datetime.date.fromisoformat(first) - _EPOCH).days
        return dates(self.integers(start, start + count))

    def times(self, days: pa.Array, *, zone: str | None = None) -> pa.Array:
        """A whole second on each of the given days, as a timestamp in microseconds."""
        seconds = day_numbers(days) * _DAY_SECONDS + self.integers(0, _DAY_SECONDS)
        return pa.array(seconds * _MICROSECONDS).cast(pa.timestamp("us", zone))


def dates(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    """Dates from days since 1970."""
    return pa.array(numbers.astype(np.int32)).cast(pa.date32())


def day_numbers(days: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Days since 1970 of dates, none of them NULL."""
    return np.asarray(days.cast(pa.int32()).to_numpy(), dtype=np.int64)


def texts(pattern: str, numbers: Sequence[int]) -> pa.Array:
    """Strings made from a pattern with one number in it."""
    return pa.array([pattern.format(int(number)) for number in numbers], pa.string())


def emptied(values: pa.Array, nulls: pa.Array) -> pa.Array:
    """The values with NULL where the second column is true."""
    return pc.if_else(nulls, pa.scalar(None, values.type), values)
