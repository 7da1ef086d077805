"""The scan kernel: files of a table in, fingerprints of its rows out, counted and ready to be compared.

Rows with equal fingerprints are counted within a file; later steps add the counts up. A kernel never raises for a
table's fault: what went wrong is a *report* row, which ends the output of every item.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.model import LeafPath, leaf_key
from r2d2.scan.deletes import Deletes
from r2d2.scan.digests import digests_sql
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.equality import deleted_positions
from r2d2.scan.faithful import check_engine_reads, check_faithful
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanFile, ScanItem
from r2d2.scan.observe import expected_of, hides_nan, is_lie
from r2d2.scan.rowhash import Digest, RowHasher, check_hash_version, structs_on
from r2d2.scan.sample import Lanes, Seen, buckets_of, sample_batches, sample_sql
from r2d2.scan.source import Source, leaf_observer, parquet_source

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
LIE, HIDDEN_NAN = "lie", "hidden NaN"
"""Status of reports that are no end of an item: the message names a file and a leaf whose metadata is wrong, or in
which `observe.hides_nan` holds."""

_BATCH_ROWS = 65_536


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
            if not item.column_sets:
                check_engine_reads(file.data_uri)
                continue
            check_unchanged(file.stamp)
            footer = read_footer(file.data_uri)
            if footer.legacy_calendar:  # seen only here where a log, not the footers, was harvested
                advice = ": use --reader engine" if item.schema is None else ""
                raise TableUnsupported(f"a file has dates of Spark's legacy calendar{advice}", error="Reader")
            deletes = Deletes.from_text(file.deletes) if file.deletes else None
            if file.data_uri == file.stamp.uri:
                bytes_read += footer.footer_bytes + needed_bytes(footer, item.column_sets)
                bytes_read += deletes.bytes if deletes else 0
            path = duckdb_path(connection, file.data_uri)
            deleted = deleted_positions(connection, deletes, path, footer) if deletes else None
            rows = footer.rows - (deleted.num_rows if deleted is not None else 0)
            yield from _scan_file(connection, item, file, footer, hasher, deleted)
            check_unchanged(file.stamp)
            rows_read += rows
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
    connection: duckdb.DuckDBPyConnection,
    item: ScanItem,
    file: ScanFile,
    footer: Footer,
    hasher: RowHasher,
    deleted: pa.Table | None,
) -> Iterator[pa.RecordBatch]:
    types = {column.name: column.type for column in item.partition_schema}
    names = {path[0] for column_set in item.column_sets for path in column_set.paths} - set(file.partition)
    path = duckdb_path(connection, file.data_uri)
    # Columns found by id may have any name in the file.
    check_faithful(connection, path, file.data_uri, footer, names if item.schema is None else footer.schema.names)
    source = parquet_source(
        connection, path, footer, file.partition, types, exact=item.exact, table=item.schema, deleted=deleted
    )
    live = footer.rows - (deleted.num_rows if deleted is not None else 0)
    if item.leaves:
        yield from _sampled(connection, source, item, file, hasher, live)
        return
    rows = 0
    for batch in fingerprint_batches(connection, source, item, hasher):
        rows += rows_of_set(batch, item.column_sets[0].id)
        yield batch
    if item.threshold == EVERYTHING and rows != live:
        raise _miscounted()


def _sampled(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    item: ScanItem,
    file: ScanFile,
    hasher: RowHasher,
    live: int,
) -> Iterator[pa.RecordBatch]:
    """Fingerprints of a file below the threshold, then reports of the leaves about which its metadata lies."""
    expected = expected_of(base64.b64decode(file.evidence), item.leaves)
    paths = (path for column_set in item.column_sets for path in column_set.paths)
    wanted = {path for path in paths if path[0] not in file.partition}
    observers = [found for one in expected if one.path in wanted and (found := leaf_observer(source, one)) is not None]
    seen = Seen(observers=observers)
    yield from observed_batches(connection, source, item, hasher, seen)
    if seen.rows != live:
        raise _miscounted()
    for observer, leaf in zip(observers, seen.leaves, strict=True):
        if is_lie(observer, leaf, live):
            yield leaf_report(item, LIE, file.number, observer.expected.path)
        if hides_nan(observer, leaf, whole_file=True):
            yield leaf_report(item, HIDDEN_NAN, file.number, observer.expected.path)


def observed_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher, seen: Seen
) -> Iterator[pa.RecordBatch]:
    """Fingerprints below the threshold in one pass over a source, in which its leaves are observed."""
    digests, lanes = digest_sql(source, item, hasher, [observer.value for observer in seen.observers])
    sql = sample_sql(digests, lanes, seen.observers, None if item.threshold == EVERYTHING else item.threshold)
    for column_set, batch in sample_batches(connection, sql, lanes, seen, _BATCH_ROWS):
        yield _fingerprints(batch, item, buckets_of(batch.column("h1"), item.first_bucket, item.buckets), column_set)


def _miscounted() -> TableFailed:
    return TableFailed("a file has another number of rows than its footer says", error="RowCount")


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
    digests, lanes = digest_sql(source, item, hasher, [])
    if len(lanes) == 1:
        (own,) = lanes
        rows = f"SELECT {own.column_set} AS s, {own.first} AS h1, {own.second} AS h2 FROM ({digests})"
    else:
        sets = ", ".join(f"{{'s': {own.column_set}, 'h1': {own.first}, 'h2': {own.second}}}" for own in lanes)
        rows = f"SELECT unnest([{sets}], recursive := true) FROM ({digests})"
    return f"SELECT {selected} FROM ({rows})"


def digest_sql(source: Source, item: ScanItem, hasher: RowHasher, values: Sequence[str]) -> tuple[str, list[Lanes]]:
    """A query for the digests of all leaves, each computed once, and the lanes of each column set over them.

    Args:
        source: The rows.
        item: The column sets.
        hasher: Row identity.
        values: Further expressions over the source, which the query yields as v0, v1, ….
    """
    paths = list(dict.fromkeys(path for column_set in item.column_sets for path in column_set.paths))
    keys: list[tuple[str, LeafPath]] = [("leaf", path) for path in paths]
    keys += [("struct", path) for path in structs_on(paths)]
    place = {key: index for index, key in enumerate(keys)}
    lanes = [(column_set.id, _row_of(hasher, column_set, place)) for column_set in item.column_sets]
    return (
        digests_sql(hasher, source, paths, values),
        [Lanes(column_set=number, first=row.first, second=row.second) for number, row in lanes],
    )


def _row_of(hasher: RowHasher, column_set: ColumnSet, place: dict[tuple[str, LeafPath], int]) -> Digest:
    wanted: list[tuple[str, LeafPath]] = [("leaf", path) for path in column_set.paths]
    wanted += [("struct", path) for path in structs_on(column_set.paths)]
    return hasher.row([Digest(first=f"a{place[key]}", second=f"b{place[key]}") for key in wanted])


def _to_fingerprints(batch: pa.RecordBatch, item: ScanItem) -> pa.RecordBatch:
    return _fingerprints(batch, item, batch.column("bucket").cast(pa.int32()), batch.column("s").cast(pa.int32()))


def _fingerprints(
    batch: pa.RecordBatch, item: ScanItem, bucket: pa.Array, column_set: pa.Array | int
) -> pa.RecordBatch:
    rows = batch.num_rows
    if isinstance(column_set, int):
        column_set = pa.array(np.full(rows, column_set, np.int32))
    zeros, empty = pa.array(np.zeros(rows, np.int64)), pa.repeat(pa.scalar(""), rows)
    lanes = [_signed(batch.column(name)) for name in ("h1", "h2")]
    table = pa.array(np.full(rows, item.table, np.int32))
    columns = [bucket, table, column_set, *lanes, batch.column("n").cast(pa.int64()), zeros, zeros, empty, empty, empty]
    return pa.RecordBatch.from_arrays(columns, schema=FINGERPRINTS)


def _signed(words: Any) -> pa.Array:
    return pa.array(words.to_numpy(zero_copy_only=False).view(np.int64))


def report(item: ScanItem, rows_read: int, bytes_read: int, fault: TableFault | None) -> pa.RecordBatch:
    """The row that ends an item: what was read, and what went wrong."""
    return _report(
        item,
        rows_read=rows_read,
        bytes_read=bytes_read,
        error=fault.error if fault else "",
        message=str(fault) if fault else "",
        status=fault.status if fault else "",
    )


def _report(item: ScanItem, **told: Any) -> pa.RecordBatch:
    nothing: dict[str, Any] = dict.fromkeys(("first", "second", "count", "rows_read", "bytes_read"), 0)
    nothing.update(dict.fromkeys(("error", "message", "status"), ""))
    row = {**nothing, "bucket": item.first_bucket, "table": item.table, "column_set": REPORT, **told}
    return pa.RecordBatch.from_pylist([row], schema=FINGERPRINTS)


def leaf_report(item: ScanItem, status: str, fragment: int, path: LeafPath) -> pa.RecordBatch:
    """The row that says what is odd about a leaf of a file: LIE or HIDDEN_NAN."""
    message = json.dumps({"fragment": fragment, "leaf": leaf_key(path)})
    return _report(item, message=message, status=status)
