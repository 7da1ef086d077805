"""Which rows some tables may have: Bloom filters with one hash function, a row's first lane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.scan.beginnings import beginnings
from r2d2.scan.files import filesystem

LEAST_PLACES = 1 << 10
MOST_PLACES = 1 << 26
"""Places of all filters of a comparison together, a byte each in every task, but for those of LEAST_PLACES."""
MOST_COLLECTED_BYTES = 256 << 20
"""What the driver takes of filters, eight places in a byte, from all tasks together."""
PLACES_PER_ROW = 16
"""Places for each row, where they may be so many: of the rows that the tables lack one in sixteen is kept."""

_SCHEMA = pa.schema([("column_set", pa.int32()), ("packed", pa.binary())])


@dataclass(kw_only=True, eq=False)
class RowFilter:
    """The first bits of the first lanes of some rows.

    Attributes:
        there: For each value of the first bits, whether a row has it; a power of two, at least eight.
        rows: How many were taken in since it was made, repeated ones too.
    """

    there: npt.NDArray[np.bool_]
    rows: int = 0

    @classmethod
    def empty(cls, places: int) -> RowFilter:
        """A filter of no rows."""
        return cls(there=np.zeros(places, bool))

    def add(self, first: npt.NDArray[Any], counts: npt.NDArray[Any] | None = None) -> None:
        """Take in the rows of some first lanes; counts of None count each once."""
        self.there[beginnings(first, len(self.there))] = True
        self.rows += len(first) if counts is None else int(counts.sum())

    def may_have(self, first: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether rows with these first lanes may be there; where not, they are certainly not."""
        found: npt.NDArray[np.bool_] = self.there[beginnings(first, len(self.there))]
        return found

    def pack(self) -> bytes:
        """The filter as bytes, eight places in one."""
        return np.packbits(self.there).tobytes()

    @classmethod
    def unpack(cls, packed: bytes) -> RowFilter:
        """Inverse of `pack`."""
        return cls(there=np.unpackbits(np.frombuffer(packed, np.uint8)).view(bool))


def places_for(rows: Mapping[int, int], tasks: int) -> dict[int, int]:
    """Places of the filters of some column sets.

    They are at least PLACES_PER_ROW for each row, or as many as there is room for; none where that is less than two.

    Args:
        rows: How many each takes in.
        tasks: Each has filters of its own, which are joined then.
    """
    most = min(MOST_PLACES, 8 * MOST_COLLECTED_BYTES // tasks)
    each = min(PLACES_PER_ROW, most // max(1, 2 * sum(rows.values())))
    return {s: max(LEAST_PLACES, 1 << (each * own).bit_length()) for s, own in rows.items()} if each > 1 else {}


def joined(filters: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """The packed filters of all tasks as one for each column set."""
    found: dict[int, npt.NDArray[np.uint8]] = {}
    for column_set, packed in filters:
        own = np.frombuffer(packed, np.uint8)
        found[column_set] = found[column_set] | own if column_set in found else own
    return {column_set: words.tobytes() for column_set, words in found.items()}


def write_filters(filters: Mapping[int, bytes], uri: str) -> None:
    """Write packed filters, by column set, into a file for all tasks.

    Raises:
        OSError: If it cannot be written.
    """
    columns = [pa.array(list(filters), pa.int32()), pa.array(list(filters.values()), pa.binary())]
    fs, path = filesystem(uri)
    with fs.open(path, "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as stream:
        stream.write_table(pa.table(columns, _SCHEMA))


@lru_cache(maxsize=1)
def read_filters(uri: str) -> Mapping[int, RowFilter]:
    """The filters in a file, whose name is never used again; they are held until others are read.

    Raises:
        OSError: If it cannot be read.
    """
    fs, path = filesystem(uri)
    rows = pa.ipc.open_stream(fs.cat_file(path)).read_all().to_pylist()
    return {row["column_set"]: RowFilter.unpack(row["packed"]) for row in rows}
