"""Rows of tables in DuckDB, for the search: of a parent its stored values and fingerprints, of a child its counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.recipes.columns import PredicateColumn
from r2d2.scan.deletes import Deletes
from r2d2.scan.digests import digest_sql
from r2d2.scan.duck import connect_beside
from r2d2.scan.equality import deleted_positions
from r2d2.scan.faithful import StoredFile, check_faithful
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import ScanFile, ScanItem
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.source import Source, leaf_of, parquet_source
from r2d2.scan.wide import has_many_leaves, has_short_texts, wide_rows

Load = Callable[[duckdb.DuckDBPyConnection, str, Sequence[ScanItem], RowHasher, Sequence[PredicateColumn]], int]
"""Fills a table as `load_rows` does."""


def load_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    items: Sequence[ScanItem],
    hasher: RowHasher,
    columns: Sequence[PredicateColumn],
) -> int:
    """Fill a table with all rows of some items; returns how many.

    It gets the lanes of each column set as h<number>, g<number>, and the stored values as v0, v1, ….

    Args:
        connection: Where the table is created.
        name: Its name.
        items: Of one table.
        hasher: Row identity.
        columns: Whose values to keep.

    Raises:
        TableFault: If a file cannot be read faithfully, or has changed.
    """
    create_rows(connection, name, items, columns)
    return sum(_load_file(connection, name, item, file, hasher, columns) for item in items for file in item.files)


def create_rows(
    connection: duckdb.DuckDBPyConnection, name: str, items: Sequence[ScanItem], columns: Sequence[PredicateColumn]
) -> None:
    """Create the empty table."""
    sets = items[0].column_sets if items else ()
    lanes = [f"{lane}{one.id} UBIGINT" for one in sets for lane in ("h", "g")]
    values = [f"v{place} {column.stored_type}" for place, column in enumerate(columns)]
    connection.execute(f"CREATE TEMP TABLE {name} ({', '.join([*lanes, *values])})")


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    item: ScanItem,
    hasher: RowHasher,
    columns: Sequence[PredicateColumn],
) -> int:
    """Add the rows of a source; returns how many."""
    stored = [column.stored_sql(leaf_of(source, column.path)) for column in columns]
    digests, lanes = digest_sql(source, item, hasher, stored)
    selected = [sql for lane in lanes for sql in (lane.first, lane.second)] + [f"v{i}" for i in range(len(columns))]
    (added,) = first_row(connection, f"INSERT INTO {name} SELECT {', '.join(selected)} FROM ({digests})") or (0,)
    return int(added)


def _insert_wide_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source_in: Callable[[duckdb.DuckDBPyConnection], Source],
    item: ScanItem,
    hasher: RowHasher,
    columns: Sequence[PredicateColumn],
) -> int | None:
    """Add the rows of a source, which another connection reads, batch by batch; None where its texts are too long."""
    added = 0
    with connect_beside(connection) as reader:
        source = source_in(reader)
        leaves = [leaf_of(source, column.path) for column in columns]
        if not has_short_texts(reader, source, [leaf for leaf in leaves if leaf is not None], item):
            return None
        stored = [column.stored_sql(leaf) for column, leaf in zip(columns, leaves, strict=True)]
        for rows in wide_rows(reader, source, item, hasher, values=stored):
            lanes = [words for fingerprints in rows.fingerprints for words in fingerprints]
            names = [f"c{place}" for place in range(len(lanes) + len(stored))]
            connection.register("wide_rows", pa.table([*map(pa.array, lanes), *rows.values.columns], names))
            connection.execute(f"INSERT INTO {name} SELECT * FROM wide_rows")
            connection.unregister("wide_rows")
            added += rows.rows
    return added


def first_row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...] | None:
    """The first row of a query, which is read to its end: an open result would keep its tables from being dropped."""
    rows = connection.execute(sql).fetchall()
    return rows[0] if rows else None


def _load_file(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    item: ScanItem,
    file: ScanFile,
    hasher: RowHasher,
    columns: Sequence[PredicateColumn],
) -> int:
    check_unchanged(file.stamp)
    footer = read_footer(file.data_uri)
    if footer.legacy_calendar:
        raise TableUnsupported("a file has dates of Spark's legacy calendar", error="Reader")
    path = duckdb_path(connection, file.data_uri)
    deletes = Deletes.from_text(file.deletes) if file.deletes else None
    deleted = deleted_positions(connection, deletes, path, footer) if deletes else None
    check_faithful(connection, [StoredFile(path=path, uri=file.data_uri, footer=footer)], footer.schema.names)
    types = {column.name: column.type for column in item.partition_schema}

    def source_in(reader: duckdb.DuckDBPyConnection) -> Source:
        return parquet_source(
            reader, path, footer, file.partition, types, exact=item.exact, table=item.schema, deleted=deleted
        )

    added = _insert_wide_rows(connection, name, source_in, item, hasher, columns) if has_many_leaves(item) else None
    if added is None:
        added = insert_rows(connection, name, source_in(connection), item, hasher, columns)
    if added != footer.rows - (deleted.num_rows if deleted is not None else 0):
        raise TableFailed("a file has another number of rows than its footer says", error="RowCount")
    check_unchanged(file.stamp)
    return added
