"""Fingerprints of many small files at once, in a number of queries that does not depend on how many they are.

Values of one type are digested together, whatever file and column they come from, and rows of equally many leaves are
combined together, whatever table they belong to. The expressions are those for single files, so the fingerprints are
the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.model import LeafPath
from r2d2.scan.by_type import VALUE, digest_arrays, observe_arrays
from r2d2.scan.combine import Lanes, row_fingerprints
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.observe import Observer, expected_of, observer
from r2d2.scan.reports import FingerprintRows, oddities, report_batch, report_row
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.small import NULL, Literal, SmallFile, working_bytes
from r2d2.scan.source import literal_column


@dataclass(frozen=True, kw_only=True)
class SmallItem:
    """A work item all of whose files are decoded."""

    item: ScanItem
    files: Sequence[SmallFile]

    @property
    def needed_bytes(self) -> int:
        """Memory of its values, their digests, and the fingerprints of its rows."""
        return sum(working_bytes(self.item, file) for file in self.files)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows of one file under one column set."""

    item: ScanItem
    column_set: ColumnSet
    file: SmallFile


def scan_together(
    connection: duckdb.DuckDBPyConnection, works: Sequence[SmallItem], hasher: RowHasher
) -> list[pa.RecordBatch]:
    """Fingerprints of the rows of some items below their thresholds, and all their reports; schema FINGERPRINTS.

    A row that is there several times may be so in the result.
    """
    found = _fingerprints(connection, works, hasher)
    told = [*_oddities(connection, works)]
    for work in works:
        rows, size = (sum(getattr(file, name) for file in work.files) for name in ("rows", "bytes_read"))
        told.append(report_row(work.item, rows, size, None))
    return [found, report_batch(told)]


# --- fingerprints -----------------------------------------------------------------------------------------------------


def _fingerprints(
    connection: duckdb.DuckDBPyConnection, works: Sequence[SmallItem], hasher: RowHasher
) -> pa.RecordBatch:
    kept = FingerprintRows()
    digests = _Digests(connection, hasher, [file for work in works for file in work.files])
    by_width: dict[int, list[_Rows]] = {}
    for work in works:
        for file in work.files:
            for own in work.item.column_sets if file.rows else ():
                by_width.setdefault(len(own.paths), []).append(_Rows(item=work.item, column_set=own, file=file))
    for leaves, rows in sorted(by_width.items()):
        columns = (_joined([digests.of(one.file, one.column_set.paths[i]) for one in rows]) for i in range(leaves))
        _keep(rows, row_fingerprints(hasher, columns), kept)
    return kept.batch()


def _joined(lanes: Sequence[Lanes]) -> Lanes:
    if len(lanes) == 1:
        return lanes[0]
    first, second = (np.concatenate([own[lane] for own in lanes]) for lane in (0, 1))
    return first, second


class _Digests:
    """Digests of all values of some files."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, hasher: RowHasher, files: Sequence[SmallFile]) -> None:
        self._connection, self._hasher = connection, hasher
        self._literals: dict[Literal, tuple[np.uint64, np.uint64]] = {}
        self._arrays: dict[int, Lanes] = {}
        arrays = {
            id(value): value for file in files for value in file.values.values() if not isinstance(value, Literal)
        }
        by_type: dict[pa.DataType, list[pa.Array]] = {}
        for array in arrays.values():
            by_type.setdefault(array.type, []).append(array)
        for dtype, same in by_type.items():
            self._arrays |= zip(map(id, same), digest_arrays(connection, hasher, dtype, same), strict=True)

    def of(self, file: SmallFile, path: LeafPath) -> Lanes:
        """The digests of a leaf in all rows of a file."""
        value = file.values[path]
        if not isinstance(value, Literal):
            return self._arrays[id(value)]
        if value not in self._literals:
            self._literals[value] = self._literal(value)
        first, second = self._literals[value]
        return np.full(file.rows, first, np.uint64), np.full(file.rows, second, np.uint64)

    def _literal(self, literal: Literal) -> tuple[np.uint64, np.uint64]:
        if literal == NULL:
            digest = self._hasher.missing()
        else:
            digest = self._hasher.value(literal_column(self._connection, literal.text, literal.type))
        (found,) = self._connection.sql(f"SELECT {digest.first}, {digest.second}").fetchall()
        return np.uint64(found[0]), np.uint64(found[1])


def _keep(rows: Sequence[_Rows], fingerprints: Lanes, kept: FingerprintRows) -> None:
    """Collect the fingerprints below the thresholds of their tables."""
    start = 0
    for one in rows:
        first, second = (lane[start : start + one.file.rows] for lane in fingerprints)
        start += one.file.rows
        kept.add_rows(one.item, one.column_set.id, first, second)


# --- what the values say of the metadata ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Observed:
    """A leaf of a file that is to be observed."""

    item: ScanItem
    file: SmallFile
    observer: Observer
    array: pa.Array


def _oddities(connection: duckdb.DuckDBPyConnection, works: Sequence[SmallItem]) -> Iterator[dict[str, Any]]:
    """Reports of the leaves about which metadata lies, or in which some engines lose NaN."""
    by_type: dict[pa.DataType, list[_Observed]] = {}
    for work in works:
        for file in work.files if work.item.leaves else ():
            for one in _observed(work.item, file):
                by_type.setdefault(one.array.type, []).append(one)
    for same in by_type.values():
        observations = observe_arrays(connection, same[0].observer, [one.array for one in same])
        for one, seen in zip(same, observations, strict=True):
            yield from oddities(one.item, one.file.file, one.observer, seen, one.file.rows)


def _observed(item: ScanItem, file: SmallFile) -> Iterator[_Observed]:
    for expected in expected_of(base64.b64decode(file.file.evidence), item.leaves):
        array = file.values.get(expected.path)
        if array is not None and not isinstance(array, Literal):
            found = observer(expected, VALUE, array.type)
            if found is not None:
                yield _Observed(item=item, file=file, observer=found, array=array)
