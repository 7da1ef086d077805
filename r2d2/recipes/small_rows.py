"""Rows of many small tables at once, as `rows.load_rows` would give them: files decoded whole, values by type.

A query that decodes and digests one small table takes DuckDB longer than all else that a search does with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import TableFault
from r2d2.recipes.columns import Kind, PredicateColumn
from r2d2.scan.by_type import digest_arrays
from r2d2.scan.combine import Lanes, row_fingerprints
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.small import Literal, SmallFile, is_candidate, read_small_item

GROUP_BYTES = 64 << 20
"""Decoded bytes of the tables that are digested together."""

_VALUES = -1
"""Number of the column set of what predicates may name."""


@dataclass(frozen=True, kw_only=True)
class WantedTable:
    """A table of a search.

    Attributes:
        name: What it is called in DuckDB, if it comes there.
        items: Its files, with the column sets whose fingerprints are wanted.
        columns: Whose values are wanted.
    """

    name: str
    items: Sequence[ScanItem]
    columns: Sequence[PredicateColumn]


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    table: WantedTable
    files: Sequence[SmallFile]


def small_tables(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[WantedTable],
    hasher: RowHasher,
    most_rows: int,
    most_bytes: int,
) -> list[pa.Table | None]:
    """The rows of each table that is small.

    Args:
        connection: With nothing under way.
        tables: What is wanted.
        hasher: Row identity.
        most_rows: A table of more rows is not small.
        most_bytes: Memory of all of them.
    """
    found: list[pa.Table | None] = [None] * len(tables)
    group: dict[int, _Decoded] = {}
    group_bytes = 0
    for place, table in enumerate(tables):
        decoded = _decoded(table, most_rows)
        own_bytes = sum(file.decoded_bytes for file in decoded.files) if decoded else 0
        if decoded is None or own_bytes > most_bytes:
            continue
        most_bytes -= own_bytes
        if group_bytes + own_bytes > GROUP_BYTES:
            _fill(found, connection, group, hasher)
            group, group_bytes = {}, 0
        group[place] = decoded
        group_bytes += own_bytes
    _fill(found, connection, group, hasher)
    return found


def _decoded(table: WantedTable, most_rows: int) -> _Decoded | None:
    """The files of a table; None where they are not small, or hold what this module does not know."""
    paths = tuple(column.path for column in table.columns)
    values = (ColumnSet(id=_VALUES, paths=paths),) if paths else ()
    files: list[SmallFile] = []
    for item in table.items:
        wider = replace(item, column_sets=(*item.column_sets, *values))
        if not is_candidate(wider):
            return None
        try:
            most_rows -= sum(read_footer(file.data_uri).rows for file in item.files)
            own = read_small_item(wider) if most_rows >= 0 else None
        except (TableFault, pa.ArrowException):  # to be told by who reads it alone, if at all
            return None
        if own is None or any(isinstance(value, Literal) for file in own for value in file.values.values()):
            return None
        files += own
    return _Decoded(table=table, files=files) if files else None


def _fill(
    found: list[pa.Table | None],
    connection: duckdb.DuckDBPyConnection,
    group: Mapping[int, _Decoded],
    hasher: RowHasher,
) -> None:
    digests = _digests(connection, list(group.values()), hasher)
    for place, one in group.items():
        with suppress(pa.ArrowException):  # a value that the table's type does not hold
            found[place] = _rows(one, digests, hasher)


def _rows(decoded: _Decoded, digests: Mapping[int, Lanes], hasher: RowHasher) -> pa.Table:
    files, columns = decoded.files, decoded.table.columns
    found: dict[str, Any] = {}
    for column_set in decoded.table.items[0].column_sets:
        parts = [
            row_fingerprints(hasher, [digests[id(file.values[path])] for path in column_set.paths]) for file in files
        ]
        for lane, name in enumerate("hg"):
            found[f"{name}{column_set.id}"] = np.concatenate([part[lane] for part in parts])
    for place, column in enumerate(columns):
        found[f"v{place}"] = _stored(pa.chunked_array([file.values[column.path] for file in files]), column)
    return pa.table(found)


def _digests(
    connection: duckdb.DuckDBPyConnection, group: Sequence[_Decoded], hasher: RowHasher
) -> Mapping[int, Lanes]:
    """Of the leaves of all column sets, by identity of the array."""
    by_type: dict[pa.DataType, dict[int, pa.Array]] = {}
    for one in group:
        paths = {path for column_set in one.table.items[0].column_sets for path in column_set.paths}
        for array in (file.values[path] for file in one.files for path in paths):
            by_type.setdefault(array.type, {})[id(array)] = array
    return {
        name: lanes
        for dtype, arrays in by_type.items()
        for name, lanes in zip(arrays, digest_arrays(connection, hasher, dtype, list(arrays.values())), strict=True)
    }


def _stored(values: pa.ChunkedArray, column: PredicateColumn) -> pa.ChunkedArray:
    """Values as `PredicateColumn.stored_sql` has them.

    Raises:
        pa.ArrowException: If Arrow has no such conversion, or a value does not fit.
    """
    dtype = values.type
    if column.kind is Kind.DECIMAL:
        return values.cast(pa.decimal128(column.digits, column.scale))
    if column.kind.is_float:
        return pc.add(values.cast(pa.float64()), 0.0)
    if column.kind is Kind.TEXT:
        return values.cast(pa.string())
    if column.kind is Kind.BYTES:
        texts = [None if value is None else value.hex().upper() for value in values.cast(pa.binary()).to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if column.kind is Kind.DATE:
        _expect(pa.types.is_date32(dtype))
        return values.cast(pa.int32()).cast(pa.int64())
    if column.kind in (Kind.WALL, Kind.INSTANT):
        _expect(pa.types.is_timestamp(dtype) and dtype.unit == "us")
    return values.cast(pa.int64())


def _expect(is_so: bool) -> None:
    if not is_so:
        raise pa.ArrowNotImplementedError("left to DuckDB")
