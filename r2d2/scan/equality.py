"""Rows that equality deletes remove from a data file: those whose values in some columns stand in a delete file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import groupby

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import schema_from_bytes
from r2d2.scan.deletes import POSITIONS, DeleteFile, Deletes, named_positions
from r2d2.scan.faithful import StoredFile, check_faithful
from r2d2.scan.field_ids import columns_by_id
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.source import literal_column, parquet_relation, sql_type

_KEYS = "deleted_keys"


def deleted_positions(connection: duckdb.DuckDBPyConnection, deletes: Deletes, path: str, footer: Footer) -> pa.Table:
    """Positions of the deleted rows of a data file, each once, from 0.

    Args:
        connection: Reads the Parquet files.
        deletes: What deletes rows.
        path: The data file, as `files.duckdb_path` returns it.
        footer: Of the data file.

    Returns:
        A table of the schema `deletes.POSITIONS`.

    Raises:
        TableFailed: If a delete file is missing, changed or damaged, or deletes rows that the data file does not have.
        TableUnsupported: If a file has other types than the table's in the columns that are compared.
    """
    found = [named_positions(connection, deletes, footer.rows)]
    columns = schema_from_bytes(base64.b64decode(deletes.schema)) if deletes.by_value else pa.schema([])
    for ids, files in groupby(sorted(deletes.by_value, key=lambda file: file.columns), key=lambda file: file.columns):
        compared = [columns.field(str(number)) for number in ids]
        _collect_keys(connection, files, compared)
        found.append(_equal_positions(connection, deletes, path, footer, compared))
    return pa.table([pc.unique(pa.chunked_array(found, pa.int64()))], schema=POSITIONS)


def _collect_keys(
    connection: duckdb.DuckDBPyConnection, files: Iterable[DeleteFile], compared: Sequence[pa.Field]
) -> None:
    """Fill a temporary table with the values of all delete files that compare the same columns."""
    types = ", ".join(f"k{place} {sql_type(column.type)}" for place, column in enumerate(compared))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_KEYS} ({types})")
    for file in files:
        check_unchanged(file.stamp)
        connection.execute(f"INSERT INTO {_KEYS} {_keys_sql(connection, file, compared)}")
        check_unchanged(file.stamp)


def _keys_sql(connection: duckdb.DuckDBPyConnection, file: DeleteFile, compared: Sequence[pa.Field]) -> str:
    footer, path = read_footer(file.uri), duckdb_path(connection, file.uri)
    if footer.legacy_calendar:
        raise TableUnsupported("a delete file has dates of Spark's legacy calendar", error="Calendar")
    found = columns_by_id(connection, path, footer.schema, pa.schema(compared))
    if len(found) < len(compared):
        raise TableFailed("an equality delete file lacks a column that it compares", error="DeleteFile")
    names = [footer.schema.names[index] for index, _ in found.values()]
    check_faithful(connection, [StoredFile(path=path, uri=file.uri, footer=footer)], names)
    relation, _ = parquet_relation(connection, path, footer, numbered=False)
    keys = (f"CAST(source.c{found[column.name][0]} AS {sql_type(column.type)})" for column in compared)
    return f"SELECT DISTINCT {', '.join(keys)} FROM {relation}"


def _equal_positions(
    connection: duckdb.DuckDBPyConnection, deletes: Deletes, path: str, footer: Footer, compared: Sequence[pa.Field]
) -> pa.Array:
    """Positions of the rows of a data file whose values are among the collected ones; NULL equals NULL."""
    found = columns_by_id(connection, path, footer.schema, pa.schema(compared))
    relation, _ = parquet_relation(connection, path, footer, numbered=True)
    equal = []
    for place, column in enumerate(compared):
        if column.name in found:
            value = f"CAST(source.c{found[column.name][0]} AS {sql_type(column.type)})"
        else:
            value = literal_column(connection, deletes.defaults.get(column.name), column.type).sql
        equal.append(f"{value} IS NOT DISTINCT FROM {_KEYS}.k{place}")
    sql = f"SELECT source.row FROM {relation} SEMI JOIN {_KEYS} ON {' AND '.join(equal)}"
    return connection.sql(sql).to_arrow_table().column(0).combine_chunks().cast(pa.int64())
