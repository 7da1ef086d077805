"""A source is one relation in DuckDB that yields rows of a table: a Parquet file, or Arrow batches of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import duckdb
import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import LeafPath, fold
from r2d2.scan.duck import quote_text
from r2d2.scan.field_ids import columns_by_id
from r2d2.scan.footer.read import Footer
from r2d2.scan.observe import Expected, Observer, observer
from r2d2.scan.rowhash import Column, Digest, RowHasher, leaf_column, leaf_value

T = TypeVar("T")

_ROW_NUMBER = "file_row_number"  # DuckDB's option and the column that it adds
FILE_COLUMN = "file_index"
"""DuckDB's column for the number of a row's file in the list of those that are read; a file's own column hides it."""
FILE_NUMBER = "source.file"
"""That number in a source of several files, from 0."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A relation with its columns by name.

    Attributes:
        relation: SQL that stands after FROM; its columns are called c0, c1, ….
        columns: Top-level columns by the table's name of them.
        exact: Names that differ by case are different, because the table has such columns.
        is_stored: It can be read more than once.
    """

    relation: str
    columns: Mapping[str, Column]
    exact: bool = False
    is_stored: bool = True

    def column(self, name: str) -> Column | None:
        """The column of this exact name, else the only one that differs by case; None where the source lacks it."""
        return self._named.find(name)

    @cached_property
    def _named(self) -> Named[Column]:
        return Named(self.columns, exact=self.exact)


class Named(Generic[T]):
    """Columns to be found by name, as tables name them."""

    def __init__(self, columns: Mapping[str, T], *, exact: bool) -> None:
        self._columns = columns
        self._folded: dict[str, list[T]] = {}
        for name, column in () if exact else columns.items():
            self._folded.setdefault(fold(name), []).append(column)

    def find(self, name: str) -> T | None:
        """What has this exact name, else, unless names are exact, the only one whose name differs by case."""
        if name in self._columns:
            return self._columns[name]
        found = self._folded.get(fold(name), [])
        return found[0] if len(found) == 1 else None


def parquet_source(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    footer: Footer,
    partition: Mapping[str, Any],
    partition_types: Mapping[str, pa.DataType],
    *,
    exact: bool = False,
    table: pa.Schema | None = None,
    deleted: pa.Table | None = None,
) -> Source:
    """The live rows of one Parquet file with the partition columns added.

    Args:
        connection: Where the relation lives.
        path: As `files.duckdb_path` returns it.
        footer: Of the same file; columns are matched by position, since DuckDB renames duplicates.
        partition: Typed values of the partition columns.
        partition_types: Their types.
        exact: See Source.
        table: The table's schema where its columns are found by field id; those that the file lacks have the
            partition's value, else NULL.
        deleted: Positions of the rows that are not live, a table of `deletes.POSITIONS`.

    Raises:
        TableFailed: If DuckDB sees other columns than the footer has.
        TableUnsupported: If the file's columns cannot be read as the table's.
    """
    relation, types = parquet_relation(connection, path, footer, numbered=deleted is not None)
    by_id = None if table is None else columns_by_id(connection, path, footer.schema, table)
    places = _own_places(footer, partition) if by_id is None else by_id
    columns = {
        name: Column(sql=f"source.c{index}", duckdb_type=types[index], type=dtype)
        for name, (index, dtype) in places.items()
    }
    for name, value in partition.items():
        if name not in columns:
            columns[name] = literal_column(connection, value, partition_types[name])
    if deleted is not None:
        connection.register("deleted_rows", deleted)
        relation += " ANTI JOIN deleted_rows ON source.row = deleted_rows.pos"
    return Source(relation=relation, columns=columns, exact=exact)


def alike_source(
    connection: duckdb.DuckDBPyConnection,
    paths: Sequence[str],
    footer: Footer,
    partitions: Sequence[Mapping[str, Any]],
    partition_types: Mapping[str, pa.DataType],
    *,
    exact: bool,
) -> Source:
    """The rows of several Parquet files with the partition columns added, and FILE_NUMBER.

    Args:
        connection: Where the relation lives.
        paths: As `files.duckdb_path` returns them, none of them a pattern.
        footer: Of one of them; the others have the same columns, none of which is called FILE_COLUMN.
        partitions: The partition values of each file, as text; all have the same columns.
        partition_types: Their types.
        exact: See Source.

    Raises:
        TableFailed: If DuckDB sees other columns than the footer has.
    """
    files = f"[{', '.join(map(quote_text, paths))}]"
    rows = f"read_parquet({files}, hive_partitioning = false, union_by_name = false)"
    added = [_of_file([own[name] for own in partitions], partition_types[name]) for name in partitions[0]]
    names = [f"c{index}" for index in range(len(footer.schema))] + [f"p{index}" for index in range(len(added))]
    relation = f"(SELECT {', '.join(['*', *added, FILE_COLUMN])} FROM {rows}) AS source({', '.join([*names, 'file'])})"
    types = connection.sql(f"SELECT * FROM {relation}").types
    if len(types) != len(names) + 1:
        raise TableFailed("DuckDB sees other columns than the file's footer has", error="Columns")
    _check_decimals(types, footer)
    places = _own_places(footer, partitions[0])
    for index, name in enumerate(partitions[0], start=len(footer.schema)):
        places[name] = index, partition_types[name]
    columns = {
        name: Column(sql=f"source.{names[index]}", duckdb_type=types[index], type=dtype)
        for name, (index, dtype) in places.items()
    }
    return Source(relation=relation, columns=columns, exact=exact)


def _of_file(values: Sequence[Any], dtype: pa.DataType) -> str:
    """SQL of the one of some values that belongs to a row's file."""
    return f"([{', '.join(_literal(value, dtype) for value in values)}])[CAST({FILE_COLUMN} + 1 AS BIGINT)]"


def _own_places(footer: Footer, partition: Mapping[str, Any]) -> dict[str, tuple[int, pa.DataType]]:
    """Position and type of a file's columns by name; a partition value rules over a column of the file."""
    declared = {fold(name) for name in partition}
    places = {field.name: (index, field.type) for index, field in enumerate(footer.schema)}
    return {name: place for name, place in places.items() if fold(name) not in declared}


def parquet_relation(
    connection: duckdb.DuckDBPyConnection, path: str, footer: Footer, *, numbered: bool
) -> tuple[str, list[Any]]:
    """All rows of a file as a relation called `source`, and the DuckDB types of its columns.

    Args:
        connection: Where the relation lives.
        path: As `files.duckdb_path` returns it.
        footer: Of the same file. Its columns are called c0, c1, … in its order.
        numbered: Add the position of each row, from 0, as the column `row`.

    Raises:
        TableFailed: If DuckDB sees other columns than the footer has.
        TableUnsupported: If the file has a column of the name by which DuckDB numbers rows.
    """
    if numbered and _ROW_NUMBER in map(fold, footer.schema.names):
        raise TableUnsupported(f"a file with deleted rows has a column called {_ROW_NUMBER}", error="Columns")
    option = f", {_ROW_NUMBER} = true" if numbered else ""
    scan = f"read_parquet([{quote_text(path)}], hive_partitioning = false, union_by_name = false{option})"
    names = [f"c{index}" for index in range(len(footer.schema))] + (["row"] if numbered else [])
    relation = f"{scan} AS source({', '.join(names)})"
    types = connection.sql(f"SELECT * FROM {relation}").types
    if len(types) != len(names):
        raise TableFailed("DuckDB sees other columns than the file's footer has", error="Columns")
    _check_decimals(types, footer)
    return relation, types


def _check_decimals(types: Sequence[Any], footer: Footer) -> None:
    """Raise TableFailed if DuckDB reads decimals in another scale: a footer has two, and each reader goes by one."""
    for own, field in zip(types, footer.schema, strict=False):
        if not _are_same_decimals(own, field.type):
            message = f"the footer says two things about the decimals of column {field.name!r}"
            raise TableFailed(message, error="Columns")


def _are_same_decimals(duckdb_type: Any, dtype: pa.DataType) -> bool:
    if pa.types.is_decimal(dtype):
        return str(duckdb_type) == f"DECIMAL({dtype.precision},{dtype.scale})"
    if not pa.types.is_nested(dtype):
        return True
    children = [dtype.field(index).type for index in range(dtype.num_fields)]
    if pa.types.is_map(dtype):
        children = [dtype.key_type, dtype.item_type]
    return all(_are_same_decimals(own, child) for (_, own), child in zip(duckdb_type.children, children, strict=False))


def arrow_source(connection: duckdb.DuckDBPyConnection, view: str, schema: pa.Schema, names: Sequence[str]) -> Source:
    """The rows of a registered Arrow reader, whose columns are c0, c1, …, under the table's names."""
    types = connection.sql(f"SELECT * FROM {view}").types
    relation = f"{view} AS source"
    columns = {
        name: Column(sql=f"source.c{index}", duckdb_type=types[index], type=schema.field(index).type)
        for index, name in enumerate(names)
    }
    return Source(relation=relation, columns=columns, is_stored=False)


def literal_column(connection: duckdb.DuckDBPyConnection, value: Any, dtype: pa.DataType) -> Column:
    """A column with one value in all rows."""
    sql = _literal(value, dtype)
    return Column(sql=sql, duckdb_type=connection.sql(f"SELECT {sql} AS x").types[0], type=dtype)


def _literal(value: Any, dtype: pa.DataType) -> str:
    return f"CAST({'NULL' if value is None else quote_text(str(value))} AS {sql_type(dtype)})"


def sql_type(dtype: pa.DataType) -> str:
    """DuckDB's name of the type of a partition column, or of another plain value."""
    return _SQL_TYPES.get(str(dtype)) or f"DECIMAL({dtype.precision}, {dtype.scale})"


def leaf_observer(source: Source, expected: Expected) -> Observer | None:
    """How to observe a leaf of a source; None where the source lacks it, or it has no order."""
    column = source.column(expected.path[0])
    resolved = _resolve(column.type, expected.path, exact=source.exact) if column else None
    return None if column is None or resolved is None else observer(expected, *leaf_value(column, resolved))


def leaf_of(source: Source, path: LeafPath) -> Column | None:
    """A leaf of a source as a column of its own; None where the source lacks it."""
    column = source.column(path[0])
    resolved = _resolve(column.type, path, exact=source.exact) if column else None
    return None if column is None or resolved is None else leaf_column(column, resolved)


def struct_digest(hasher: RowHasher, source: Source, path: LeafPath) -> Digest:
    """Digest of whether a struct of a source is NULL; one that it lacks is."""
    column = source.column(path[0])
    resolved = _resolve(column.type, path, exact=source.exact) if column else None
    if column is None or resolved is None:
        return hasher.presence(Column(sql="NULL", duckdb_type=None, type=pa.null()), path[:1])
    return hasher.presence(column, resolved)


def _resolve(dtype: pa.DataType, path: LeafPath, *, exact: bool) -> LeafPath | None:
    """The path with the field names that this source uses; None where it has no such field."""
    resolved = [path[0]]
    for name in path[1:]:
        if not pa.types.is_struct(dtype):
            return None
        fields = [dtype.field(index) for index in range(dtype.num_fields)]
        found = [f for f in fields if f.name == name]
        if not found and not exact:
            found = [f for f in fields if fold(f.name) == fold(name)]
        if len(found) != 1:
            return None
        resolved.append(found[0].name)
        dtype = found[0].type
    return tuple(resolved)


_SQL_TYPES = {
    "null": "INTEGER",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "int16": "SMALLINT",
    "int8": "TINYINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
    "timestamp[ns]": "TIMESTAMP_NS",
    "timestamp[us]": "TIMESTAMP",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}
