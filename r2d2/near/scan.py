"""The kernel of the near-duplicate scan: files of a table in, samples of its rows out.

It reads as the scan kernel does and, like it, never raises for a table's fault: a report ends every item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.near.estimates import Words
from r2d2.near.hashing import LeafKey, Smallest, row_hashes
from r2d2.near.work import Sketching, Work
from r2d2.scan.deletes import Deletes
from r2d2.scan.digests import digests_sql
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.equality import deleted_positions
from r2d2.scan.faithful import StoredFile, check_faithful
from r2d2.scan.files import check_unchanged, duckdb_path
from r2d2.scan.fingerprints import unreadable
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import ScanFile, ScanItem
from r2d2.scan.rowhash import RowHasher, check_hash_version, structs_on
from r2d2.scan.small import bytes_asked_for
from r2d2.scan.source import Source, arrow_source, parquet_source

SKETCHES = pa.schema(
    [
        pa.field("bucket", pa.int32()),  # samples of one bucket are compared; REPORT in a report
        pa.field("table", pa.int32()),
        pa.field("choice", pa.int32()),  # which leaves are left out
        pa.field("is_child", pa.bool_()),
        pa.field("size", pa.int32()),  # hashes of a sample
        pa.field("hashes", pa.binary()),  # the `size + 1` smallest of these rows, 8 bytes each, or all
        pa.field("rows_read", pa.int64()),  # of a report, as the columns below
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
"""No NULLs: Sail cannot pass them to a grouped kernel."""

REPORT = -1

_BATCH_VALUES = 1 << 22
_BATCH_ROWS = 65_536


def sketch_works(works: Iterable[Work], hasher: RowHasher, limits: KernelLimits) -> Iterator[pa.RecordBatch]:
    """Samples of the rows of each item, and its report behind them.

    Yields:
        Batches of the schema SKETCHES.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    waiting = iter(works)
    work = next(waiting, None)
    while work is not None:
        with connect(limits) as connection:
            usable = True
            while work is not None and usable:
                found, usable = _sketch_work(connection, work, hasher)
                yield found
                work = next(waiting, None)


def sketch_batches(
    batches: Iterator[pa.RecordBatch], work: Work, names: Sequence[str], hasher: RowHasher, limits: KernelLimits
) -> Iterator[pa.RecordBatch]:
    """Samples of rows that the engine hands over, then a report with the number of rows seen."""
    check_hash_version()
    taker = _Taker(work)
    fault: TableFault | None = None
    first = next(batches, None)
    try:
        if first is not None:
            with connect(limits) as connection:
                reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
                connection.register("engine_rows", reader)
                taker.take(connection, arrow_source(connection, "engine_rows", first.schema, names), hasher)
    except TableFault as exc:
        fault = exc
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        said = f"the kernel cannot take the rows of the engine's reader ({type(exc).__name__})"
        fault = TableUnsupported(said, error=type(exc).__name__)
    yield taker.result(0, fault)


def _sketch_work(connection: duckdb.DuckDBPyConnection, work: Work, hasher: RowHasher) -> tuple[pa.RecordBatch, bool]:
    """Samples of one item, and whether the connection can be used again."""
    taker = _Taker(work)
    bytes_read = 0
    try:
        for file in work.item.files:
            bytes_read += _sketch_file(connection, work.item, file, taker, hasher)
    except TableFault as exc:
        return taker.result(bytes_read, exc), True
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        usable = not isinstance(exc, (duckdb.InternalException, duckdb.FatalException))
        return taker.result(bytes_read, unreadable(exc)), usable
    return taker.result(bytes_read, None), True


def _sketch_file(
    connection: duckdb.DuckDBPyConnection, item: ScanItem, file: ScanFile, taker: _Taker, hasher: RowHasher
) -> int:
    """Take in the live rows of a file; returns the bytes read of the lake."""
    check_unchanged(file.stamp)
    footer = read_footer(file.data_uri)
    if footer.legacy_calendar:
        advice = ": use --reader engine" if item.schema is None else ""
        raise TableUnsupported(f"a file has dates of Spark's legacy calendar{advice}", error="Reader")
    deletes = Deletes.from_text(file.deletes) if file.deletes else None
    path = duckdb_path(connection, file.data_uri)
    deleted = deleted_positions(connection, deletes, path, footer) if deletes else None
    names = {path[0] for column_set in item.column_sets for path in column_set.paths} - set(file.partition)
    names = names if item.schema is None else set(footer.schema.names)
    check_faithful(connection, [StoredFile(path=path, uri=file.data_uri, footer=footer)], names)
    types = {column.name: column.type for column in item.partition_schema}
    source = parquet_source(
        connection, path, footer, file.partition, types, exact=item.exact, table=item.schema, deleted=deleted
    )
    rows = taker.take(connection, source, hasher)
    check_unchanged(file.stamp)
    if rows != footer.rows - (deleted.num_rows if deleted is not None else 0):
        raise TableFailed("a file has another number of rows than its footer says", error="RowCount")
    return bytes_asked_for(item, file, footer, deletes)


class _Taker:
    """Takes samples of the rows of one item."""

    def __init__(self, work: Work) -> None:
        self._work = work
        (column_set,) = work.item.column_sets
        self._paths = column_set.paths
        self._leaves = {path: place for place, path in enumerate(self._paths)}
        self._structs = {path: len(self._paths) + place for place, path in enumerate(structs_on(self._paths))}
        self._samples = {
            one.bucket: [Smallest(count=one.size + 1) for _ in one.terms.lacking] for one in work.sketchings
        }
        self._rows = 0

    def take(self, connection: duckdb.DuckDBPyConnection, source: Source, hasher: RowHasher) -> int:
        """Take in the rows of a source; returns how many they are."""
        terms = len(self._leaves) + len(self._structs)
        wanted = ", ".join(f"a{place}" for place in range(terms))
        sql = f"SELECT {wanted} FROM ({digests_sql(hasher, source, self._paths, [])})"
        batch_rows = max(1024, min(_BATCH_ROWS, _BATCH_VALUES // terms))
        rows = 0
        for batch in connection.sql(sql).to_arrow_reader(batch_rows):
            rows += batch.num_rows
            self._add([np.asarray(column) for column in batch.columns])
        self._rows += rows
        return rows

    def _add(self, digests: Sequence[Words]) -> None:
        known: dict[tuple[int, LeafKey], Words] = {}

        def words(place: int, key: LeafKey) -> Words:
            if (place, key) not in known:
                known[place, key] = key.words(digests[place])
            return known[place, key]

        for one in self._work.sketchings:
            terms = one.terms
            places = [self._leaves[path] for path in terms.paths] + [self._structs[path] for path in terms.structs]
            added = [words(place, key) for place, key in zip(places, terms.keys, strict=True)]
            total = np.add.reduce(added)
            for sample, lacking in zip(self._samples[one.bucket], terms.lacking, strict=True):
                sums = total
                for term in lacking:
                    sums = sums - added[term]
                sample.add(row_hashes(sums))

    def result(self, bytes_read: int, fault: TableFault | None) -> pa.RecordBatch:
        """The samples, none where something went wrong, and the report."""
        rows = [] if fault else [row for one in self._work.sketchings for row in self._sample_rows(one)]
        rows.append(
            _row(
                bucket=REPORT,
                table=self._work.item.table,
                rows_read=self._rows,
                bytes_read=bytes_read,
                error=fault.error if fault else "",
                message=str(fault) if fault else "",
                status=fault.status if fault else "",
            )
        )
        return pa.RecordBatch.from_pylist(rows, schema=SKETCHES)

    def _sample_rows(self, one: Sketching) -> Iterator[dict[str, Any]]:
        for choice, sample in enumerate(self._samples[one.bucket]):
            yield _row(
                bucket=one.bucket + choice,
                table=self._work.item.table,
                choice=choice,
                is_child=one.is_child,
                size=one.size,
                hashes=sample.result().tobytes(),
            )


def _row(**told: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("choice", "size", "rows_read", "bytes_read"), 0)
    return {**numbers, "is_child": False, "hashes": b"", "error": "", "message": "", "status": "", **told}
