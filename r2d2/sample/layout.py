"""Ways to store a table in the sample lake. Each writes exactly the rows it is given."""

from __future__ import annotations

import datetime
import gzip
import io
import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from deltalake import write_deltalake

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class Layout(Protocol):
    """Writes a table to a path that does not exist yet, in a folder that does."""

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the rows."""


def slices(rows: pa.Table, count: int) -> list[pa.Table]:
    """The rows cut into so many pieces of about the same size."""
    bounds = [rows.num_rows * i // count for i in range(count + 1)]
    return [rows.slice(low, high - low) for low, high in itertools.pairwise(bounds)]


# --- Parquet ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """One Parquet file.

    Attributes:
        writer: `pyarrow`, `duckdb`, or `delta-rs` for the Parquet writer of Rust.
        group_rows: Rows of a row group (pyarrow).
        compression: Codec (pyarrow).
        int96: Instants as INT96 (pyarrow).
    """

    writer: str = "pyarrow"
    group_rows: int = 8_192
    compression: str = "snappy"
    int96: bool = False

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the file."""
        if self.writer == "duckdb":
            _write_with_duckdb(rows, path)
        elif self.writer == "delta-rs":
            _write_with_delta_rs(rows, path)
        else:
            pq.write_table(
                rows,
                path,
                row_group_size=self.group_rows,
                compression=self.compression,
                use_deprecated_int96_timestamps=self.int96,
            )


DUCKDB, RUST = ParquetFile(writer="duckdb"), ParquetFile(writer="delta-rs")


def _write_with_duckdb(rows: pa.Table, path: str) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.from_arrow(rows).write_parquet(path, compression="zstd")


def _write_with_delta_rs(rows: pa.Table, path: str) -> None:
    """Move the only data file of a throw-away Delta table."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix="_") as scratch:
        write_deltalake(scratch, rows)
        (name,) = [name for name in os.listdir(scratch) if name.endswith(".parquet")]
        shutil.move(os.path.join(scratch, name), path)


@dataclass(frozen=True, kw_only=True)
class ParquetFolder:
    """A folder of Parquet files, written by different writers in turn.

    Attributes:
        files: How many.
        lean: Leave out a file's columns that are NULL throughout; one file must have them all.
    """

    files: int
    lean: bool = False

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the folder."""
        os.mkdir(path)
        writers = (ParquetFile(), ParquetFile(writer="duckdb"), ParquetFile(compression="gzip"))
        for number, piece in enumerate(slices(rows, self.files)):
            kept = _without_null_columns(piece) if self.lean else piece
            writers[number % len(writers)].write(kept, os.path.join(path, f"part-{number:04d}.parquet"))


def _without_null_columns(rows: pa.Table) -> pa.Table:
    return rows.select([name for name in rows.column_names if rows.column(name).null_count < rows.num_rows])


@dataclass(frozen=True, kw_only=True)
class HiveFolder:
    """A folder with a `key=value` folder per value of a column, which is not in the files.

    Attributes:
        by: The column; its type is the one that readers infer from the folders' names.
        files: Files per folder.
    """

    by: str
    files: int = 1

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the folder."""
        values = rows.column(self.by)
        for value in sorted(values.unique().to_pylist(), key=str):
            chosen = rows.filter(pc.is_null(values) if value is None else pc.equal(values, value))
            text = _HIVE_NULL if value is None else quote(str(value), safe="")
            folder = os.path.join(path, f"{self.by}={text}")
            os.makedirs(folder)
            for number, piece in enumerate(slices(chosen.drop_columns([self.by]), self.files)):
                ParquetFile().write(piece, os.path.join(folder, f"data_{number}.parquet"))


# --- Delta ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeltaTable:
    """A Delta table.

    Attributes:
        partition_by: Its partition columns.
        commits: In how many appends the rows come.
        rewritten: Older versions, later overwritten, whose files stay as history.
        added: A column that the first commit does not have yet; it is NULL in the first of at least two slices.
    """

    partition_by: tuple[str, ...] = ()
    commits: int = 1
    rewritten: int = 0
    added: str | None = None

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the table, commit by commit."""
        by = list(self.partition_by) or None
        for number in range(self.rewritten):
            older = rows.slice(0, rows.num_rows * (number + 1) // (self.rewritten + 1))
            write_deltalake(path, older, partition_by=by, mode="overwrite")
        for number, piece in enumerate(slices(rows, self.commits)):
            first = piece.drop_columns([self.added]) if self.added and number == 0 else piece
            write_deltalake(
                path,
                first,
                partition_by=by,
                mode="append" if number else "overwrite",
                schema_mode="merge" if self.added and number else None,
            )


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A CSV file: tabs for `.tsv`, compressed where its name ends so."""

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the file."""
        delimiter = "\t" if ".tsv" in os.path.basename(path) else ","
        columns = [_csv_column(column.to_pylist(), delimiter) for column in rows.columns]
        lines = [rows.column_names, *zip(*columns, strict=True)]
        _write_text("".join(delimiter.join(line) + "\n" for line in lines), path)


def _csv_column(values: list[Any], delimiter: str) -> list[str]:
    fine = any(isinstance(value, datetime.datetime) and value.microsecond for value in values)
    return [_csv_field(value, delimiter, fine=fine) for value in values]


def _csv_field(value: Any, delimiter: str, *, fine: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        special = not value or any(mark in value for mark in (delimiter, '"', "\n", "\r"))
        return '"' + value.replace('"', '""') + '"' if special else value
    return _plain_text(value, fine=fine)


def _plain_text(value: Any, *, fine: bool) -> str:
    """The text of a value that is neither NULL nor a string, in the form from which its type is inferred."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="microseconds" if fine else "seconds")
    if isinstance(value, float) and (not math.isfinite(value) or "e" in repr(value)):
        raise ValueError("a double without a plain text form cannot be written to a sample CSV file")
    return str(value)


@dataclass(frozen=True, kw_only=True)
class JsonFile:
    """JSON lines, compressed where the name ends so; NULL is written as null."""

    def write(self, rows: pa.Table, path: str) -> None:
        """Write the file."""
        _write_text("".join(_json_lines(rows)), path)


def _json_lines(rows: pa.Table) -> Iterator[str]:
    for row in rows.to_pylist():
        yield json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _write_text(text: str, path: str) -> None:
    data = text.encode()
    if path.endswith(".gz"):
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    elif path.endswith(".zst"):
        data = zstandard.ZstdCompressor().compress(data)
    with open(path, "wb") as target:
        target.write(data)
