"""Random tables, the libraries that write them as Parquet, and what is really in the files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from hypothesis import strategies as st

TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32()),
    *(pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("us", "Asia/Tokyo")),
    *(pa.decimal128(5, 2), pa.decimal128(18, 3), pa.decimal128(38, 10)),
]
LONG_TEXTS = [
    *("a" * 70 + "x", "z" * 70, "z" * 63 + "\u00e9" * 9, "b" * 300, "b" * 5000, "\x7f" * 80, "\uffff" * 30),
    *("\U0010ffff" * 20, "\U0010ffff" * 100, "\ud7ff" * 40, "a" + "\U0010ffff" * 30),
]
LONG_BYTES = [b"\xff" * 3, b"\xff" * 64, b"\xff" * 300, b"a" + b"\xff" * 80, b"\x80" * 70, b"\0" * 80, b"z" * 5000]

Writer = Callable[[pa.Table, str], None]


def values_of(dtype: pa.DataType) -> st.SearchStrategy[Any]:
    t = pa.types
    if t.is_integer(dtype):
        bits, signed = dtype.bit_width, t.is_signed_integer(dtype)
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    if t.is_floating(dtype):
        return st.floats(width=32) if t.is_float32(dtype) else st.floats()
    if t.is_boolean(dtype):
        return st.booleans()
    if t.is_string(dtype):
        short = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=90)
        return short | st.sampled_from(LONG_TEXTS)
    if t.is_binary(dtype):
        return st.binary(max_size=90) | st.sampled_from(LONG_BYTES)
    if t.is_decimal(dtype):
        most = 10**dtype.precision - 1
        return st.integers(-most, most).map(lambda n: Decimal(f"{n}e-{dtype.scale}"))
    if t.is_date(dtype):
        return st.dates()
    return st.integers(-(2**62), 2**62) if dtype.unit == "ns" else st.integers(-(10**13), 10**13)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 7))
    columns = {}
    for i, dtype in enumerate(draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))):
        cells = draw(st.lists(st.none() | values_of(dtype), min_size=rows, max_size=rows))
        columns[f"c{i}"] = exact_array(cells, dtype)
    return pa.table(columns)


def exact_array(cells: list[Any], dtype: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(dtype):
        return pa.array(cells, pa.int64()).cast(dtype)
    return pa.array(cells, dtype)


def write_pyarrow(table: pa.Table, path: str) -> None:
    pq.write_table(table, path, row_group_size=2, store_decimal_as_integer=len(table) % 2 == 0)


def write_int96(table: pa.Table, path: str) -> None:
    pq.write_table(table, path, row_group_size=3, use_deprecated_int96_timestamps=True)


def write_duckdb(table: pa.Table, path: str) -> None:
    duckdb.from_arrow(table).write_parquet(path)


def write_polars(table: pa.Table, path: str) -> None:
    pl.from_arrow(table).write_parquet(path, row_group_size=2)  # type: ignore[union-attr]


def write_fastparquet(table: pa.Table, path: str) -> None:
    known = [c.name for c in table.schema if not pa.types.is_date(c.type)]  # it refuses Python's dates
    data = table.select(known).append_column("row", pa.array(range(len(table)), pa.int64()))
    fastparquet.write(path, data.to_pandas(), row_group_offsets=2)


def write_delta_rs(table: pa.Table, path: str) -> None:
    known = [c.name for c in table.schema if not pa.types.is_unsigned_integer(c.type)]  # Delta has none
    data = table.select(known).append_column("row", pa.array(range(len(table)), pa.int64()))
    with tempfile.TemporaryDirectory() as folder:
        write_deltalake(folder, data)
        written = next(Path(folder).glob("*.parquet"), None)
        if written is None:  # an empty table has no files
            pq.write_table(data, path)
        else:
            written.rename(path)


WRITERS = [write_pyarrow, write_int96, write_duckdb, write_polars, write_fastparquet, write_delta_rs]


def written(folder: Path, table: pa.Table, writer: Writer) -> str:
    """The path of a table that a writer has written, in place of the last one in the folder."""
    path = folder / "t.parquet"
    path.unlink(missing_ok=True)
    writer(table, str(path))
    return str(path)


def read_cells(path: str, name: str) -> tuple[list[Any], pa.DataType]:
    """What pyarrow reads from a column; dates and timestamps as stored numbers with their unit's microseconds."""
    column = pq.ParquetFile(path).read(columns=[name]).column(0)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    dtype = column.type
    if pa.types.is_date(dtype):
        return [None if n is None else n * 86_400_000_000 for n in column.cast(pa.int32()).to_pylist()], dtype
    if pa.types.is_timestamp(dtype):
        scale = {"ms": Decimal(1000), "us": Decimal(1), "ns": Decimal("0.001")}[dtype.unit]
        return [None if n is None else n * scale for n in column.cast(pa.int64()).to_pylist()], dtype
    return [cell.encode() if isinstance(cell, str) else cell for cell in column.to_pylist()], dtype


def decoded(bound: bytes, cell: Any) -> Any:
    """A claim's bound as a value that compares with a cell."""
    if isinstance(cell, bytes):
        return bound
    return float(bound) if isinstance(cell, float) else Decimal(bound.decode())
