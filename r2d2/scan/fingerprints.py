"""The scan kernel: files of a table in, fingerprints of its rows out, counted and ready to be compared.

Rows with equal fingerprints are counted within a file; later steps add the counts up. A kernel never raises for a
table's fault: what went wrong is a *report* row, which ends the output of every item.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.model import FileStamp, LeafPath, schema_from_bytes, schema_to_bytes
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.footer import Footer, read_footer
from r2d2.scan.rowhash import Digest, RowHasher, check_hash_version, structs_on
from r2d2.scan.source import Source, leaf_digests, parquet_source

FINGERPRINTS = pa.schema(
    [
        pa.field("bucket", pa.int32()),  # rows that may equal one another share it
        pa.field("table", pa.int32()),
        pa.field("column_set", pa.int32()),  # REPORT in a report
        pa.field("first", pa.int64()),  # lanes of the fingerprint, their 64 bits read as signed
        pa.field("second", pa.int64()),
        pa.field("count", pa.int64()),
        pa.field("rows_read", pa.int64()),  # of a report, as the columns below
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),  # empty where the item was read whole
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
"""No NULLs: Sail cannot pass them through a cogrouped kernel."""

REPORT = -1
EVERYTHING = 1 << 64
"""The threshold that keeps every fingerprint."""

_BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class ColumnSet:
    """An ordered list of leaves under a number: rows of two tables are compared over one column set.

    The paths are those of the table that is scanned; the order is that of the child's folded leaf paths.
    """

    id: int
    paths: tuple[LeafPath, ...]


@dataclass(frozen=True, kw_only=True)
class ScanFile:
    """One file of a scan.

    Attributes:
        stamp: The pinned file in the lake.
        data_uri: The Parquet file to read, another one only for text files.
        partition: Values of partition columns, as text that DuckDB casts to their types.
    """

    stamp: FileStamp
    data_uri: str
    partition: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScanItem:
    """Work for one kernel call: some files of one table and the column sets to fingerprint.

    Attributes:
        table: Position of the table.
        files: Read one after the other.
        partition_schema: Types of the partition columns.
        column_sets: All computed in one pass.
        threshold: Keep fingerprints whose first lane is below it, read as unsigned; EVERYTHING keeps all.
        exact: The table has columns that differ only by case.
        first_bucket, buckets: A fingerprint goes to bucket `first_bucket + first % buckets`.
    """

    table: int
    files: tuple[ScanFile, ...]
    partition_schema: pa.Schema
    column_sets: tuple[ColumnSet, ...]
    threshold: int = EVERYTHING
    exact: bool = False
    first_bucket: int = 0
    buckets: int = 1

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(
            {
                "table": self.table,
                "files": [[f.stamp.uri, f.stamp.size, f.stamp.token, f.data_uri, f.partition] for f in self.files],
                "partition_schema": base64.b64encode(schema_to_bytes(self.partition_schema)).decode(),
                "column_sets": [[s.id, [list(path) for path in s.paths]] for s in self.column_sets],
                "threshold": self.threshold,
                "exact": self.exact,
                "first_bucket": self.first_bucket,
                "buckets": self.buckets,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ScanItem:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            table=raw["table"],
            files=tuple(
                ScanFile(stamp=FileStamp(uri=uri, size=size, token=token), data_uri=data, partition=partition)
                for uri, size, token, data, partition in raw["files"]
            ),
            partition_schema=schema_from_bytes(base64.b64decode(raw["partition_schema"])),
            column_sets=tuple(
                ColumnSet(id=number, paths=tuple(tuple(path) for path in paths)) for number, paths in raw["column_sets"]
            ),
            threshold=raw["threshold"],
            exact=raw["exact"],
            first_bucket=raw["first_bucket"],
            buckets=raw["buckets"],
        )


def scan_items(items: Iterable[ScanItem], hasher: RowHasher, limits: KernelLimits) -> Iterator[pa.RecordBatch]:
    """Fingerprints of the rows of each item, then its report; all over one connection, which costs 12 ms to open.

    Yields:
        Batches of the schema FINGERPRINTS.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    pending = deque(items)
    while pending:
        with connect(limits) as connection:
            usable = True
            while pending and usable:
                usable = yield from _scan_item(connection, pending.popleft(), hasher)


def _scan_item(
    connection: duckdb.DuckDBPyConnection, item: ScanItem, hasher: RowHasher
) -> Generator[pa.RecordBatch, None, bool]:
    """Scan one item; returns whether the connection can be used again."""
    rows_read = bytes_read = 0
    fault: TableFault | None = None
    usable = True
    try:
        for file in item.files:
            check_unchanged(file.stamp)
            footer = read_footer(file.data_uri)
            if footer.legacy_calendar:  # seen only here where a log, not the footers, was harvested
                raise TableUnsupported(
                    "a file has dates of Spark's legacy calendar: use --reader engine", error="Reader"
                )
            if file.data_uri == file.stamp.uri:
                bytes_read += footer.footer_bytes + needed_bytes(footer, item.column_sets)
            yield from _scan_file(connection, item, file, footer, hasher)
            check_unchanged(file.stamp)
            rows_read += footer.rows
    except TableFault as exc:
        fault = exc
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        fault = unreadable(exc)
        usable = not isinstance(exc, (duckdb.InternalException, duckdb.FatalException))
    yield report(item, rows_read, bytes_read, fault)
    return usable


def unreadable(exc: BaseException) -> TableFailed:
    """A reader's error as a table's fault; the reader's own words are dropped, since they may quote values."""
    return TableFailed(f"a file of the table could not be read ({type(exc).__name__})", error=type(exc).__name__)


def needed_bytes(footer: Footer, column_sets: Sequence[ColumnSet]) -> int:
    """Compressed bytes of the column chunks that the column sets touch."""
    wanted = {path[0].lower() for column_set in column_sets for path in column_set.paths}
    names = footer.schema.names
    return sum(size for name, size in zip(names, footer.column_bytes, strict=True) if name.lower() in wanted)


def _scan_file(
    connection: duckdb.DuckDBPyConnection, item: ScanItem, file: ScanFile, footer: Footer, hasher: RowHasher
) -> Iterator[pa.RecordBatch]:
    types = {column.name: column.type for column in item.partition_schema}
    path = duckdb_path(connection, file.data_uri)
    source = parquet_source(connection, path, footer, file.partition, types, exact=item.exact)
    rows = 0
    for batch in fingerprint_batches(connection, source, item, hasher):
        rows += rows_of_set(batch, item.column_sets[0].id)
        yield batch
    if item.threshold == EVERYTHING and rows != footer.rows:
        raise TableFailed("a file has another number of rows than its footer says", error="RowCount")


def rows_of_set(batch: pa.RecordBatch, column_set: int) -> int:
    """Rows that a batch of fingerprints counts for one column set."""
    counts = batch.column("count").to_numpy(zero_copy_only=False)
    return int(counts[batch.column("column_set").to_numpy(zero_copy_only=False) == column_set].sum())


def fingerprint_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher
) -> Iterator[pa.RecordBatch]:
    """Counted fingerprints of a source's rows for all column sets of an item, in one scan."""
    reader = connection.sql(fingerprint_sql(source, item, hasher)).to_arrow_reader(_BATCH_ROWS)
    for batch in reader:
        if batch.num_rows:
            yield _to_fingerprints(batch, item)


def fingerprint_sql(source: Source, item: ScanItem, hasher: RowHasher) -> str:
    """The query behind `fingerprint_batches`: fingerprints below the threshold, counted, with their buckets."""
    kept = "" if item.threshold == EVERYTHING else f" WHERE h1 < {item.threshold}::UBIGINT"
    bucket = f"{item.first_bucket} + CAST(h1 % {item.buckets} AS INTEGER)"
    rows = row_sql(source, item, hasher, "*")
    return f"SELECT {bucket} AS bucket, s, h1, h2, count(*) AS n FROM ({rows}){kept} GROUP BY ALL"


def row_sql(source: Source, item: ScanItem, hasher: RowHasher, selected: str) -> str:
    """A query for the column sets (s) and lanes (h1, h2) of all rows: digests once per leaf, then one row per set."""
    paths = list(dict.fromkeys(path for column_set in item.column_sets for path in column_set.paths))
    digests = leaf_digests(hasher, source, paths)
    keys: list[tuple[str, LeafPath]] = [("leaf", path) for path in paths]
    keys += [("struct", path) for path in structs_on(paths)]
    place = {key: index for index, key in enumerate(keys)}
    leaf_columns = ", ".join(f"{d.first} AS a{i}, {d.second} AS b{i}" for i, d in enumerate(digests))
    leaf_query = f"SELECT {leaf_columns} FROM {source.relation}"
    lanes = [(column_set.id, _row_of(hasher, column_set, place)) for column_set in item.column_sets]
    if len(lanes) == 1:
        (number, row), *_ = lanes
        rows = f"SELECT {number} AS s, {row.first} AS h1, {row.second} AS h2 FROM ({leaf_query})"
    else:
        sets = ", ".join(f"{{'s': {number}, 'h1': {row.first}, 'h2': {row.second}}}" for number, row in lanes)
        rows = f"SELECT unnest([{sets}], recursive := true) FROM ({leaf_query})"
    return f"SELECT {selected} FROM ({rows})"


def _row_of(hasher: RowHasher, column_set: ColumnSet, place: dict[tuple[str, LeafPath], int]) -> Digest:
    wanted: list[tuple[str, LeafPath]] = [("leaf", path) for path in column_set.paths]
    wanted += [("struct", path) for path in structs_on(column_set.paths)]
    return hasher.row([Digest(first=f"a{place[key]}", second=f"b{place[key]}") for key in wanted])


def _to_fingerprints(batch: pa.RecordBatch, item: ScanItem) -> pa.RecordBatch:
    rows = batch.num_rows
    zeros, empty = pa.array(np.zeros(rows, np.int64)), pa.repeat(pa.scalar(""), rows)
    return pa.RecordBatch.from_arrays(
        [
            batch.column("bucket").cast(pa.int32()),
            pa.array(np.full(rows, item.table, np.int32)),
            batch.column("s").cast(pa.int32()),
            _signed(batch.column("h1")),
            _signed(batch.column("h2")),
            batch.column("n").cast(pa.int64()),
            zeros,
            zeros,
            empty,
            empty,
            empty,
        ],
        schema=FINGERPRINTS,
    )


def _signed(words: Any) -> pa.Array:
    return pa.array(words.to_numpy(zero_copy_only=False).view(np.int64))


def report(item: ScanItem, rows_read: int, bytes_read: int, fault: TableFault | None) -> pa.RecordBatch:
    """The row that ends an item: what was read, and what went wrong."""
    row = {
        "bucket": item.first_bucket,
        "table": item.table,
        "column_set": REPORT,
        "first": 0,
        "second": 0,
        "count": 0,
        "rows_read": rows_read,
        "bytes_read": bytes_read,
        "error": fault.error if fault else "",
        "message": str(fault) if fault else "",
        "status": fault.status if fault else "",
    }
    return pa.RecordBatch.from_pylist([row], schema=FINGERPRINTS)
