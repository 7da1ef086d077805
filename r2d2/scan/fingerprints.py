"""The scan kernel: files of a table in, fingerprints of its rows out, counted and ready to be compared.

Rows with equal fingerprints are counted within a file; later steps add the counts up. A kernel never raises for a
table's fault: what went wrong is a *report* row, which ends the output of every item.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence

import duckdb
import pyarrow as pa

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.scan.alike import scan_alike, with_company
from r2d2.scan.deletes import Deletes
from r2d2.scan.digests import digest_sql, lanes_sql
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.equality import deleted_positions
from r2d2.scan.faithful import StoredFile, check_engine_reads, check_faithful
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.items import EVERYTHING, ScanFile, ScanItem
from r2d2.scan.observe import expected_of
from r2d2.scan.reports import FingerprintRows, oddities, report, report_batch
from r2d2.scan.rowhash import RowHasher, check_hash_version
from r2d2.scan.sample import Seen, observe, sample_batches, sample_sql
from r2d2.scan.small import bytes_asked_for, read_small_item
from r2d2.scan.source import Source, leaf_observer, parquet_source
from r2d2.scan.together import SmallItem, scan_together
from r2d2.scan.wide import is_wide, wide_rows

_BATCH_ROWS = 1 << 18
_SMALL_SHARE = 16
"""The part of a kernel's memory that decoded small files, their digests and fingerprints are to take."""


def scan_items(items: Iterable[ScanItem], hasher: RowHasher, limits: KernelLimits) -> Iterator[pa.RecordBatch]:
    """Fingerprints of the rows of each item, and its report behind them; files are read together where they can be.

    Yields:
        Batches of the schema FINGERPRINTS.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    many, rest = with_company(items)
    left = yield from scan_alike(many, hasher, limits)
    large = yield from _scan_small([*rest, *left], hasher, limits)
    tried = set(map(id, many))
    pending = yield from scan_alike([item for item in large if id(item) not in tried], hasher, limits)
    pending.extend(item for item in large if id(item) in tried)
    while pending:
        with connect(limits) as connection:
            usable = True
            while pending and usable:
                usable = yield from _scan_item(connection, pending.popleft(), hasher)


def _scan_small(
    items: Iterable[ScanItem], hasher: RowHasher, limits: KernelLimits
) -> Generator[pa.RecordBatch, None, deque[ScanItem]]:
    """Scan the items that have small files only; returns the others, and those with which something went wrong."""
    left: deque[ScanItem] = deque()
    group: list[SmallItem] = []
    room = limits.memory_bytes // _SMALL_SHARE
    for item in items:
        small = _read_small_item(item)
        if small is None:
            left.append(item)
            continue
        group.append(small)
        room -= small.needed_bytes
        if room <= 0:
            yield from _scan_group(group, hasher, limits, left)
            group, room = [], limits.memory_bytes // _SMALL_SHARE
    if group:
        yield from _scan_group(group, hasher, limits, left)
    return left


def _read_small_item(item: ScanItem) -> SmallItem | None:
    try:
        files = read_small_item(item)
    except Exception:  # noqa: BLE001 - the reader of single files will say what is wrong
        return None
    return None if files is None else SmallItem(item=item, files=files)


def _scan_group(
    group: Sequence[SmallItem], hasher: RowHasher, limits: KernelLimits, left: deque[ScanItem]
) -> Iterator[pa.RecordBatch]:
    """Scan some items together; if that fails they are added to those that are left."""
    try:
        with connect(limits) as connection:
            batches = scan_together(connection, group, hasher)
    except Exception:  # noqa: BLE001 - one file among many: each alone shows which
        left.extend(small.item for small in group)
    else:
        yield from batches


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
            bytes_read += bytes_asked_for(item, file, footer, deletes)
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
    names = names if item.schema is None else set(footer.schema.names)
    check_faithful(connection, [StoredFile(path=path, uri=file.data_uri, footer=footer)], names)
    source = parquet_source(
        connection, path, footer, file.partition, types, exact=item.exact, table=item.schema, deleted=deleted
    )
    live = footer.rows - (deleted.num_rows if deleted is not None else 0)
    if item.leaves:
        yield from _sampled(connection, source, item, file, hasher, live)
        return
    rows = 0
    for seen, batch in fingerprint_batches(connection, source, item, hasher):
        rows += seen
        yield batch
    if rows != live:
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
    observed = zip(observers, seen.leaves, strict=True)
    odd = [row for observer, leaf in observed for row in oddities(item, file, observer, leaf, live)]
    if odd:
        yield report_batch(odd)


def observed_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher, seen: Seen
) -> Iterator[pa.RecordBatch]:
    """Fingerprints of a source's rows below the threshold, and what is observed of its leaves."""
    if is_wide(source, item):
        yield from (batch for _, batch in _wide_batches(connection, source, item, hasher, seen))
        return
    if source.is_stored:
        observe(connection, source.relation, seen)
        kept = 0
        for number, batch in _row_batches(connection, source, item, hasher, is_filtered=True):
            kept += number
            yield batch
        if item.threshold == EVERYTHING and kept != seen.rows:
            raise _miscounted()
        return
    digests, lanes = digest_sql(source, item, hasher, [observer.value for observer in seen.observers])
    sql = sample_sql(digests, lanes, seen.observers, None if item.threshold == EVERYTHING else item.threshold)
    for column_set, sampled in sample_batches(connection, sql, lanes, seen, _BATCH_ROWS):
        rows = FingerprintRows()
        lanes_and_counts = (sampled.column(name).to_numpy(zero_copy_only=False) for name in ("h1", "h2", "n"))
        rows.add(item, column_set, *lanes_and_counts)
        yield rows.batch()


def _miscounted() -> TableFailed:
    return TableFailed("a file has another number of rows than its footer says", error="RowCount")


def fingerprint_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Fingerprints of a source's rows below the threshold for all column sets of an item, in one scan.

    Equal ones are counted here, batch by batch, since to let DuckDB group the rows of a table is costly.

    Yields:
        How many rows of the source a batch stands for, and the batch, schema FINGERPRINTS.
    """
    if is_wide(source, item):
        yield from _wide_batches(connection, source, item, hasher)
        return
    yield from _row_batches(connection, source, item, hasher, is_filtered=False)


def _row_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher, *, is_filtered: bool
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """See `fingerprint_batches`; filtered, rows that have no fingerprint below the threshold do not count."""
    sql, lanes = lanes_sql(source, item, hasher, item.threshold if is_filtered else EVERYTHING)
    for batch in connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
        rows = FingerprintRows()
        for place, own in enumerate(lanes):
            first, second = (batch.column(f"{lane}{place}").to_numpy(zero_copy_only=False) for lane in "hg")
            rows.add_rows(item, own.column_set, first, second)
        yield batch.num_rows, rows.batch()


def _wide_batches(
    connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher, seen: Seen | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for found in wide_rows(connection, source, item, hasher, seen=seen):
        rows = FingerprintRows()
        for own, lanes in zip(item.column_sets, found.fingerprints, strict=True):
            rows.add_rows(item, own.id, *lanes)
        yield found.rows, rows.batch()
