"""Evidence: what metadata proves about the leaves of a table, file by file, as arrays that kernels work on.

*Cover*: an interval that holds the value of every live row. *Witness*: an interval that holds the value of at least one
live row. The ends of both are *keys*: bytes in the order of the values, so that numbers of every type, times and
strings are compared in one way, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntFlag

import numpy as np
import pyarrow as pa

from r2d2.model import TypeClass

WHOLE = -1
"""File number of the rows that speak of a table as a whole."""

UNKNOWN = -1
"""A count that metadata does not tell."""

ROWS = pa.schema(
    [
        pa.field("file", pa.int32()),  # position of the fragment, or WHOLE
        pa.field("kind", pa.int8()),
        pa.field("flags", pa.int16()),
        pa.field("rows", pa.int64()),  # live rows, or UNKNOWN
        pa.field("nulls", pa.int64()),  # live rows that are NULL, or UNKNOWN
        pa.field("low", pa.binary()),  # cover; NULL is unbounded
        pa.field("high", pa.binary()),
        pa.field("first_high", pa.binary()),  # upper end of the witness that starts at low; NULL: there is none
        pa.field("last_low", pa.binary()),  # lower end of the witness that ends at high
    ]
)
"""Evidence of one table: a row per leaf in the order of `plan.column_order` that speaks of the whole table, then, if it
has several files, such a row per leaf for each file."""

_FLIPPED = bytes(range(255, -1, -1))

KINDS = {kind: number for number, kind in enumerate(TypeClass)}


class Flag(IntFlag):
    """`HAS_…`: proved of a live row. `MAY_…`: not excluded. A value is whatever is not NULL, NaN included."""

    HAS_ROW = 1
    HAS_VALUE = 2
    HAS_NULL = 4
    HAS_NAN = 8
    MAY_VALUE = 16
    MAY_NULL = 32
    MAY_NAN = 64


@dataclass(frozen=True, kw_only=True)
class LeafEvidence:
    """Evidence of one leaf in one file or in a whole table; the attributes are the columns of ROWS."""

    kind: TypeClass
    flags: Flag
    rows: int | None = None
    nulls: int | None = None
    low: bytes | None = None
    high: bytes | None = None
    first_high: bytes | None = None
    last_low: bytes | None = None


def nothing_known(kind: TypeClass) -> LeafEvidence:
    """Evidence that refutes nothing."""
    return LeafEvidence(kind=kind, flags=Flag.MAY_VALUE | Flag.MAY_NULL | Flag.MAY_NAN)


def pack(whole: Sequence[LeafEvidence], files: Iterable[Sequence[LeafEvidence]]) -> bytes:
    """Evidence of a table in the form in which it is stored and travels.

    Args:
        whole: Per leaf, of the whole table.
        files: The same per file; left out where there is one file only.
    """
    numbered = [(WHOLE, leaf) for leaf in whole]
    numbered += [(number, leaf) for number, leaves in enumerate(files) for leaf in leaves]
    counts = [
        (
            number,
            KINDS[leaf.kind],
            int(leaf.flags),
            UNKNOWN if leaf.rows is None else leaf.rows,
            UNKNOWN if leaf.nulls is None else leaf.nulls,
        )
        for number, leaf in numbered
    ]
    ends = [(leaf.low, leaf.high, leaf.first_high, leaf.last_low) for _, leaf in numbered]
    columns = [*zip(*counts, strict=True), *zip(*ends, strict=True)] if numbered else [()] * len(ROWS)
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, ROWS, strict=True)]
    return bytes(pa.RecordBatch.from_arrays(arrays, schema=ROWS).serialize())


def unpack(packed: bytes) -> pa.RecordBatch:
    """Inverse of `pack`: a batch of the schema ROWS."""
    return pa.ipc.read_record_batch(pa.py_buffer(packed), ROWS)


def of_table(packed: bytes) -> bytes:
    """The packed evidence of a table as a whole, without that of its files."""
    rows = unpack(packed)
    return bytes(rows.slice(0, int(np.count_nonzero(np.asarray(rows.column("file")) == WHOLE))).serialize())


def of_file(packed: bytes, number: int) -> bytes:
    """The packed evidence of one file of a table, a row per leaf."""
    rows = unpack(packed)
    files = np.asarray(rows.column("file"))
    leaves = int(np.count_nonzero(files == WHOLE))
    first = leaves * (number + 1) if len(files) > leaves else 0
    return bytes(rows.slice(first, leaves).serialize())


def number_key(value: int | Decimal) -> bytes:
    """A finite number as bytes that compare like the numbers do; equal numbers have equal keys.

    The sign, the decimal exponent, the digits without zeros at either end; all bits flipped for negative numbers.
    """
    if not value:
        return b"\x80"
    if isinstance(value, int):
        digits = str(abs(value))
        point = len(digits)
    else:
        mantissa, exponent = f"{value.copy_abs():E}".split("E")  # as written, all digits are kept
        digits, point = mantissa.replace(".", ""), int(exponent) + 1
    body = (point + (1 << 15)).to_bytes(3, "big") + digits.rstrip("0").encode() + b"\0"
    return b"\xc0" + body if value > 0 else b"\x40" + body.translate(_FLIPPED)


def number_of(key: bytes) -> Decimal:
    """Inverse of `number_key`."""
    if key == b"\x80":
        return Decimal(0)
    negative = key[:1] == b"\x40"
    body = key[1:].translate(_FLIPPED) if negative else key[1:]
    point = int.from_bytes(body[:3], "big") - (1 << 15)
    digits = tuple(byte - ord("0") for byte in body[3:-1])
    return Decimal((int(negative), digits, point - len(digits)))
