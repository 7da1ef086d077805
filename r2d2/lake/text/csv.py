"""CSV and TSV tables: their columns, typed without loss, and when an engine may read them in a recipe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from r2d2.errors import NotOneTable, TableFailed, TableUnsupported
from r2d2.lake.text.csv_records import Layout, find_records, write_fields
from r2d2.lake.text.csv_types import NULL_TEXT, ColumnForms, column_forms, duckdb_type, merged
from r2d2.lake.text.files import Snapshot, take_snapshot, write_parquet
from r2d2.model import FileStamp, fold
from r2d2.scan.duck import KernelLimits, connect, quote_text
from r2d2.scan.files import duckdb_path

_BATCH_ROWS = 10_000
_SHARED_DELIMITERS = ",\t;|:"
_SPARK_MAX_COLUMNS = 20_000  # Spark's parser stops at 20,480


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """One file of a table, read as text.

    Attributes:
        path: Local Parquet file whose columns c0, c1, … hold the fields as text; an empty field is NULL.
        names: Column names, as Spark renames them.
        forms: Per column.
        rows: Rows.
        quirk: Why Spark or Sail may read the file differently, if so.
    """

    path: str
    names: tuple[str, ...]
    forms: tuple[ColumnForms, ...]
    rows: int
    quirk: str | None


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A CSV table, read as text, with its types.

    Attributes:
        files: In the table's order.
        schema: Names of the widest file, inferred types.
        quirk: Why Spark or Sail may read the table differently, if so.
    """

    files: tuple[CsvFile, ...]
    schema: pa.Schema
    quirk: str | None


def read_csv_table(files: Sequence[FileStamp], delimiter: str, *, infer: bool, scratch: str) -> CsvTable:
    """Read the files of one CSV table into scratch files and find the table's columns.

    Args:
        files: Pinned files of one table, at least one.
        delimiter: One ASCII character.
        infer: Whether to infer types; else all columns are strings.
        scratch: Local folder for the scratch files.

    Raises:
        TableFailed: If a file is damaged, not UTF-8, without a column, has a row that is not as wide as its header or
            breaks the quoting rules, or has a column that the widest file lacks.
        TableUnsupported: If a row is longer than 256 MiB or the delimiter is not ASCII.
    """
    if not delimiter.isascii():
        raise TableUnsupported("a CSV delimiter must be an ASCII character", error="Delimiter")
    with connect(KernelLimits()) as connection:
        read = [_read_file(connection, file, delimiter, os.path.join(scratch, str(n))) for n, file in enumerate(files)]
    widest = max(read, key=lambda file: len(file.names))
    positions = [_positions(file, widest) for file in read]
    fields = [(name, _column_type(read, positions, name) if infer else pa.string()) for name in widest.names]
    same_headers = all(file.names == widest.names for file in read)
    quirks = [file.quirk for file in read if file.quirk]
    quirks += [] if same_headers else ["its files do not have the same header"]
    quirks += [] if delimiter in _SHARED_DELIMITERS else ["its delimiter is unusual"]
    return CsvTable(files=tuple(read), schema=pa.schema(fields), quirk=quirks[0] if quirks else None)


def write_csv_copy(table: CsvTable, file: CsvFile, uri: str) -> int:
    """Write the typed Parquet copy of one file; columns that it lacks are NULL.

    Returns:
        Rows written.
    """
    places = {fold(name): index for index, name in enumerate(file.names)}
    columns = [
        f"CAST({f'c{places[fold(field.name)]}' if fold(field.name) in places else 'NULL'} AS {duckdb_type(field.type)})"
        for field in table.schema
    ]
    with connect(KernelLimits()) as connection:
        query = f"SELECT {', '.join(columns)} FROM {_scan(connection, file.path)}"
        reader = connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        rows = write_parquet(reader, table.schema, uri)
    if rows != file.rows:
        raise TableFailed("the Parquet copy of a CSV file lost rows", error="RowCount")
    return rows


def csv_view_options(delimiter: str) -> dict[str, str]:
    """Options with which Spark 4.2 and Sail 0.7.2 read a CSV table, of explicit schema, as this module does."""
    return {
        "header": "true",
        "sep": delimiter,
        "quote": '"',
        "escape": '"',
        "nullValue": NULL_TEXT,
        "mode": "FAILFAST",
        "multiLine": "true",
        "encoding": "UTF-8",
        "enforceSchema": "true",
        "ignoreLeadingWhiteSpace": "false",
        "ignoreTrailingWhiteSpace": "false",
        "maxCharsPerColumn": "-1",
    }


def spark_header(fields: Sequence[str]) -> tuple[str, ...]:
    """Names of columns as Spark 4.2 makes them from a header, case-insensitively.

    An empty name becomes `_c` and its position; a repeated one gets its position appended, in all its places.

    Raises:
        TableFailed: If two names are still equal but for case, which Spark refuses.
    """
    counts = Counter(fold(field) for field in fields)
    names = tuple(
        f"_c{index}" if not field else f"{field}{index}" if counts[fold(field)] > 1 else field
        for index, field in enumerate(fields)
    )
    if len({fold(name) for name in names}) < len(names):
        raise TableFailed("the header repeats a name, and renaming as Spark does repeats one again", error="Header")
    return names


def _column_type(files: Sequence[CsvFile], positions: Sequence[dict[str, int]], name: str) -> pa.DataType:
    found = [(file, place.get(fold(name))) for file, place in zip(files, positions, strict=True)]
    return merged([file.forms[index] for file, index in found if index is not None]).dtype


def _positions(file: CsvFile, widest: CsvFile) -> dict[str, int]:
    """Columns of a file by folded name."""
    if not {fold(name) for name in file.names} <= {fold(name) for name in widest.names}:
        raise NotOneTable
    return {fold(name): index for index, name in enumerate(file.names)}


def _read_file(connection: duckdb.DuckDBPyConnection, pinned: FileStamp, delimiter: str, path: str) -> CsvFile:
    snapshot = take_snapshot(pinned, path + ".txt")
    layout = find_records(snapshot, delimiter)
    text_copy = path + ".parquet"
    write_fields(snapshot, layout, delimiter, text_copy)
    os.unlink(snapshot.path)
    forms = tuple(column_forms(connection, duckdb_path(connection, text_copy), len(layout.header), layout.rows))
    return CsvFile(
        path=text_copy,
        names=spark_header(layout.header),
        forms=forms,
        rows=layout.rows,
        quirk=_quirk(snapshot, layout, forms),
    )


def _quirk(snapshot: Snapshot, layout: Layout, forms: Sequence[ColumnForms]) -> str | None:
    """Why Spark or Sail may read the file differently. Tried on Spark 4.2 and Sail 0.7.2."""
    line_ends_agree = snapshot.only_line_feeds or (
        snapshot.only_pairs and not any(form.carriage_return for form in forms)
    )
    for holds, reason in (
        (any(form.empty_text for form in forms), 'it contains "", which Sail reads as NULL'),
        (not line_ends_agree, "its line ends are mixed, or a value contains a line end that Spark rewrites"),
        (any(form.null_text for form in forms), "it contains the text that stands for NULL in views"),
        (snapshot.has_nul, "it contains a NUL character"),
        (snapshot.zstd_frames > 1, "its zstd stream has several frames"),
        (len(layout.header) > _SPARK_MAX_COLUMNS, "it has more columns than Spark's CSV reader takes"),
    ):
        if holds:
            return reason
    return None


def _scan(connection: duckdb.DuckDBPyConnection, path: str) -> str:
    return f"read_parquet([{quote_text(duckdb_path(connection, path))}], hive_partitioning = false)"
