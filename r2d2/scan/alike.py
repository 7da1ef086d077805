"""Fingerprints of files that are stored alike, in one query for all of them.

To plan the digests of a file's columns takes DuckDB as long as to compute them for some fifty thousand rows. Files with
the same columns, of whatever tables, are therefore read by one query, whose rows say which file they come from.

An item is scanned here only if its fingerprints fit into memory, and counts only if nothing goes wrong with any of its
files. All others are left to the other readers, the last of which says what is wrong.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.model import LeafPath, fold
from r2d2.scan.digests import lanes_sql
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.faithful import StoredFile, check_faithful
from r2d2.scan.files import GLOB_CHARACTERS, check_unchanged, duckdb_path
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.items import EVERYTHING, ScanFile, ScanItem
from r2d2.scan.observe import Observation, Observer, expected_of
from r2d2.scan.reports import FingerprintRows, oddities, report_batch, report_row
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.sample import observe_each
from r2d2.scan.small import bytes_asked_for
from r2d2.scan.source import FILE_COLUMN, FILE_NUMBER, Source, alike_source, leaf_observer
from r2d2.scan.wide import has_many_leaves

MEMORY_SHARE = 16
"""The part of a kernel's memory that the fingerprints of the items that are scanned together are to take."""
MOST_FILES = 512
"""Files of one query, at most: an error in one of them costs the query."""
LEAST_BYTES = 2 << 20
"""Stored bytes of the files of one query from which on planning it takes less than it saves."""
LEAST_FILE_BYTES = 64 << 10
"""Stored bytes of a file, on average, from which on DuckDB takes less to open it than it saves."""

_FINGERPRINT_BYTES = 32  # packed, and the lanes that they are packed from
_PARSED_FOOTER = 16  # times its stored bytes
_BATCH_ROWS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of an item, and the place of that one among the items."""

    place: int
    item: ScanItem
    file: ScanFile
    footer: Footer

    @property
    def held_bytes(self) -> int:
        """Memory of its footer, and of its fingerprints if all of them are kept."""
        fingerprints = _FINGERPRINT_BYTES * self.footer.rows * len(self.item.column_sets)
        return fingerprints + _PARSED_FOOTER * self.footer.footer_bytes

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is the same for all files of one query."""
        layout, item = self.footer.layout, self.item
        return (
            layout.digest,
            layout.writer,
            tuple((name, item.partition_schema.field(name).type) for name in sorted(self.file.partition)),
            item.column_sets,
            item.exact,
            bool(item.leaves),
        )


@dataclass
class _Told:
    """What one query has found of one item."""

    rows: FingerprintRows
    oddities: list[dict[str, Any]]


def scan_alike(
    items: Iterable[ScanItem], hasher: RowHasher, limits: KernelLimits
) -> Generator[pa.RecordBatch, None, deque[ScanItem]]:
    """Scan items with files that can be read by one query.

    Yields:
        Their fingerprints below their thresholds, and their reports; schema FINGERPRINTS.

    Returns:
        The items that are to be scanned in another way.
    """
    left = deque[ScanItem]()
    most = limits.memory_bytes // MEMORY_SHARE
    together: list[list[_File]] = []
    room = most
    for place, item in enumerate(items):
        files = _opened(place, item, most)
        if files is None:
            left.append(item)
            continue
        held = sum(one.held_bytes for one in files)
        room -= held
        if room < 0:
            yield from _scanned(together, hasher, limits, left)
            together, room = [], most - held
        together.append(files)
    yield from _scanned(together, hasher, limits, left)
    return left


def with_company(items: Iterable[ScanItem]) -> tuple[list[ScanItem], list[ScanItem]]:
    """Items that are likely to be scanned fastest with others among them, and the rest: files are not opened."""
    groups: dict[tuple[Any, ...], list[ScanItem]] = {}
    for item in items:
        partition = tuple(item.files[0].partition) if item.files else ()
        groups.setdefault((item.column_sets, bool(item.leaves), partition), []).append(item)
    many: list[ScanItem] = []
    rest: list[ScanItem] = []
    for group in groups.values():
        sizes = [file.stamp.size for item in group for file in item.files]
        is_worth = len(sizes) > 1 and sum(sizes) >= max(LEAST_BYTES, len(sizes) * LEAST_FILE_BYTES)
        (many if is_worth else rest).extend(group)
    return many, rest


# --- which files ------------------------------------------------------------------------------------------------------


def _opened(place: int, item: ScanItem, most: int) -> list[_File] | None:
    """The files of an item with their footers; None where it is to be scanned alone."""
    if not item.column_sets or item.schema is not None or has_many_leaves(item):
        return None
    files: list[_File] = []
    room = most
    for file in item.files:
        if file.deletes or set(file.data_uri) & set(GLOB_CHARACTERS):
            return None
        try:
            opened = _File(place=place, item=item, file=file, footer=read_footer(file.data_uri))
        except Exception:  # noqa: BLE001 - the reader of single files will say what is wrong
            return None
        room -= opened.held_bytes
        if room < 0 or not _is_plain(opened.footer):
            return None
        files.append(opened)
    return files or None


def _is_plain(footer: Footer) -> bool:
    """Whether the columns of a file decide how DuckDB reads it, and none of them hides the number of the file."""
    named = FILE_COLUMN in map(fold, footer.schema.names)
    return not named and not footer.legacy_calendar and b"geo" not in (footer.metadata.metadata or {})


# --- the queries ------------------------------------------------------------------------------------------------------


def _scanned(
    together: Sequence[Sequence[_File]], hasher: RowHasher, limits: KernelLimits, left: deque[ScanItem]
) -> Iterator[pa.RecordBatch]:
    """Scan some items by as few queries as their files allow."""
    groups = _groups([one for files in together for one in files])
    with_others = {one.place for group in groups if len(group) > 1 for one in group}
    told: dict[int, list[_Told]] = {place: [] for place in with_others}
    failed = {files[0].place for files in together} - with_others
    for group in groups:
        _read(group, hasher, limits, told, failed)
    for files in together:
        place, item = files[0].place, files[0].item
        if place in failed:
            left.append(item)
            continue
        found = told.pop(place)
        for own in found:
            yield own.rows.batch()
        rows = sum(one.footer.rows for one in files)
        size = sum(bytes_asked_for(item, one.file, one.footer) for one in files)
        odd = [row for own in found for row in own.oddities]
        yield report_batch([*odd, report_row(item, rows, size, None)])


def _read(
    group: Sequence[_File],
    hasher: RowHasher,
    limits: KernelLimits,
    told: Mapping[int, list[_Told]],
    failed: set[int],
) -> None:
    """Add what is found of some files to what is told of their items; one that fails is found by halving.

    Args:
        group: The files.
        hasher: Row identity.
        limits: Of the kernel.
        told: By place of the items.
        failed: Places of items that are given up, to which those with files that cannot be read are added.
    """
    left = [one for one in group if one.place not in failed]
    if not left:
        return
    try:
        with connect(limits) as connection:
            found = _scan(connection, left, hasher)
    except Exception:  # noqa: BLE001 - the reader of single files will say what is wrong
        if len(left) == 1:
            failed.add(left[0].place)
            return
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            _read(half, hasher, limits, told, failed)
        return
    for place, own in found.items():
        told[place].append(own)


def _groups(files: Sequence[_File]) -> list[list[_File]]:
    """Files that can be read by one query, none of them twice in one."""
    open_groups: dict[tuple[Any, ...], list[_File]] = {}
    groups: list[list[_File]] = []
    times: dict[tuple[Any, ...], int] = {}
    for one in files:
        own = (one.kind, one.file.data_uri)
        times[own] = times.get(own, -1) + 1
        key = (one.kind, times[own])
        if len(open_groups.get(key, ())) in (0, MOST_FILES):
            open_groups[key] = []
            groups.append(open_groups[key])
        open_groups[key].append(one)
    return groups


def _scan(connection: duckdb.DuckDBPyConnection, group: Sequence[_File], hasher: RowHasher) -> dict[int, _Told]:
    """What some files hold, by place of their items."""
    told = {one.place: _Told(FingerprintRows(), []) for one in group}
    first = group[0]
    paths = [duckdb_path(connection, one.file.data_uri) for one in group]
    for one in group:
        check_unchanged(one.file.stamp)
    wanted = {path for own in first.item.column_sets for path in own.paths if path[0] not in first.file.partition}
    check_faithful(
        connection,
        [
            StoredFile(path=path, uri=one.file.data_uri, footer=one.footer)
            for path, one in zip(paths, group, strict=True)
        ],
        {path[0] for path in wanted},
    )
    types = {column.name: column.type for column in first.item.partition_schema}
    partitions = [one.file.partition for one in group]
    source = alike_source(connection, paths, first.footer, partitions, types, exact=first.item.exact)
    if first.item.leaves:
        _observe(connection, source, group, wanted, told)
    _fingerprint(connection, source, group, hasher, told)
    for one in group:
        check_unchanged(one.file.stamp)
    return told


def _fingerprint(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    group: Sequence[_File],
    hasher: RowHasher,
    told: Mapping[int, _Told],
) -> None:
    """Add the fingerprints of all rows of some files to those of their items."""
    item = group[0].item
    threshold = max(one.item.threshold for one in group) if item.leaves else EVERYTHING
    sql, lanes = lanes_sql(source, item, hasher, threshold, [FILE_NUMBER])
    rows_of = np.zeros(len(group), np.int64)
    for batch in connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        numbers = columns.pop()
        if (np.diff(numbers.view(np.int64)) < 0).any():
            order = np.argsort(numbers, kind="stable")
            numbers, columns = numbers[order], [column[order] for column in columns]
        counts = np.bincount(numbers.astype(np.int64), minlength=len(group))
        rows_of += counts
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts).tolist():
            one, part = group[number], slice(ends[number] - counts[number], ends[number])
            for place, own in enumerate(lanes):
                first, second = columns[2 * place][part], columns[2 * place + 1][part]
                told[one.place].rows.add_rows(one.item, own.column_set, first, second)
    _check_rows(rows_of.tolist(), group, is_sample=threshold != EVERYTHING)


def _check_rows(rows_of: Sequence[int], group: Sequence[_File], *, is_sample: bool) -> None:
    for one, rows in zip(group, rows_of, strict=True):
        if rows > one.footer.rows or (rows < one.footer.rows and not is_sample):
            raise ValueError("a file has another number of rows than its footer says")


# --- what the values say of the metadata ------------------------------------------------------------------------------


def _observe(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    group: Sequence[_File],
    wanted: Set[LeafPath],
    told: Mapping[int, _Told],
) -> None:
    """Add what is odd about some leaves of files to what is told of their items."""
    expected = [
        [leaf for leaf in expected_of(base64.b64decode(one.file.evidence), one.item.leaves) if leaf.path in wanted]
        for one in group
    ]
    observers: dict[LeafPath, Observer | None] = {}
    for leaf in (leaf for own in expected for leaf in own):
        if leaf.path not in observers:
            observers[leaf.path] = leaf_observer(source, leaf)
    known = {path: one for path, one in observers.items() if one is not None}
    seen = observe_each(connection, source.relation, list(known.values()))
    _check_rows([seen[number].rows if number in seen else 0 for number in range(len(group))], group, is_sample=False)
    for number, (one, own) in enumerate(zip(group, expected, strict=True)):
        leaves = dict(zip(known, seen[number].leaves, strict=True)) if number in seen else {}
        for leaf in own:
            if leaf.path not in known:
                continue
            observer = replace(known[leaf.path], expected=leaf)
            observation = leaves.get(leaf.path, Observation())
            told[one.place].oddities += oddities(one.item, one.file, observer, observation, one.footer.rows)
