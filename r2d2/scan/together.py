"""Fingerprints of many small files at once, in a number of queries that does not depend on how many they are.

Values of one type are digested together, whatever file and column they come from, and rows of equally many leaves are
combined together, whatever table they belong to. The expressions are those for single files, so the fingerprints are
the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.model import LeafPath
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.observe import Expected, Observation, Observer, expected_of, hides_nan, is_lie, observer
from r2d2.scan.reports import (
    HIDDEN_NAN,
    LIE,
    FingerprintRows,
    below,
    counted,
    leaf_report_row,
    report_batch,
    report_row,
)
from r2d2.scan.rowhash import Column, Digest, RowHasher
from r2d2.scan.small import NULL, Literal, SmallFile, working_bytes
from r2d2.scan.source import literal_column

Words = npt.NDArray[np.uint64]
Lanes = tuple[Words, Words]
"""Two lanes: digests of values, or fingerprints of rows, in the order of the rows."""


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
        columns = [[digests.of(one.file, one.column_set.paths[place]) for one in rows] for place in range(leaves)]
        _keep(rows, _combined(connection, hasher, [_joined(column) for column in columns]), kept)
    return kept.batch()


def _joined(lanes: Sequence[Lanes]) -> Lanes:
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
            self._arrays |= zip(map(id, same), self._split(same, self._digested(dtype, same)), strict=True)

    def of(self, file: SmallFile, path: LeafPath) -> Lanes:
        """The digests of a leaf in all rows of a file."""
        value = file.values[path]
        if not isinstance(value, Literal):
            return self._arrays[id(value)]
        if value not in self._literals:
            self._literals[value] = self._literal(value)
        first, second = self._literals[value]
        return np.full(file.rows, first, np.uint64), np.full(file.rows, second, np.uint64)

    def _digested(self, dtype: pa.DataType, arrays: Sequence[pa.Array]) -> Lanes:
        values = pa.concat_arrays(list(arrays))
        self._connection.register("small_values", pa.table({"i": np.arange(len(values)), "v": values}))
        types = self._connection.sql("SELECT v FROM small_values").types
        digest = self._hasher.value(Column(sql="v", duckdb_type=types[0], type=dtype))
        return _ordered(self._connection, f"SELECT i, {digest.first} AS a, {digest.second} AS b FROM small_values")

    @staticmethod
    def _split(arrays: Sequence[pa.Array], lanes: Lanes) -> Iterator[Lanes]:
        start = 0
        for array in arrays:
            yield lanes[0][start : start + len(array)], lanes[1][start : start + len(array)]
            start += len(array)

    def _literal(self, literal: Literal) -> tuple[np.uint64, np.uint64]:
        if literal == NULL:
            digest = self._hasher.missing()
        else:
            digest = self._hasher.value(literal_column(self._connection, literal.text, literal.type))
        (found,) = self._connection.sql(f"SELECT {digest.first}, {digest.second}").fetchall()
        return np.uint64(found[0]), np.uint64(found[1])


def _combined(connection: duckdb.DuckDBPyConnection, hasher: RowHasher, columns: Sequence[Lanes]) -> Lanes:
    """Fingerprints of rows from the digests of their leaves, in the order of the leaves."""
    names = {f"{lane}{place}": words[index] for place, words in enumerate(columns) for index, lane in enumerate("ab")}
    connection.register("small_rows", pa.table({"i": np.arange(len(columns[0][0])), **names}))
    row = hasher.row([Digest(first=f"a{place}", second=f"b{place}") for place in range(len(columns))])
    return _ordered(connection, f"SELECT i, {row.first} AS a, {row.second} AS b FROM small_rows")


def _ordered(connection: duckdb.DuckDBPyConnection, sql: str) -> Lanes:
    """The columns a and b of a query in the order of its column i, which numbers the rows."""
    found = connection.sql(sql).to_arrow_table()
    places = np.asarray(found["i"])
    lanes = [np.asarray(found[name]) for name in ("a", "b")]
    if len(places) and (np.diff(places) != 1).any():
        for index, words in enumerate(lanes):
            lanes[index] = np.empty_like(words)
            lanes[index][places] = words
    return lanes[0], lanes[1]


def _keep(rows: Sequence[_Rows], fingerprints: Lanes, kept: FingerprintRows) -> None:
    """Collect the fingerprints below the thresholds of their tables."""
    start = 0
    for one in rows:
        first, second = (lane[start : start + one.file.rows] for lane in fingerprints)
        start += one.file.rows
        kept.add(one.item, one.column_set.id, *counted(*below(one.item.threshold, first, second)))


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
        for one, seen in zip(same, _observations(connection, same), strict=True):
            path = one.observer.expected.path
            if is_lie(one.observer, seen, one.file.rows):
                yield leaf_report_row(one.item, LIE, one.file.file.number, path)
            if hides_nan(one.observer, seen, whole_file=True):
                yield leaf_report_row(one.item, HIDDEN_NAN, one.file.file.number, path)


def _observed(item: ScanItem, file: SmallFile) -> Iterator[_Observed]:
    for expected in expected_of(base64.b64decode(file.file.evidence), item.leaves):
        array = file.values.get(expected.path)
        if array is not None and not isinstance(array, Literal):
            found = _observer(expected, array.type)
            if found is not None:
                yield _Observed(item=item, file=file, observer=found, array=array)


def _observer(expected: Expected, dtype: pa.DataType) -> Observer | None:
    return observer(expected, "v", dtype)


def _observations(connection: duckdb.DuckDBPyConnection, same: Sequence[_Observed]) -> Iterator[Observation]:
    """What is seen of leaves of one type, in their order."""
    numbers = np.repeat(np.arange(len(same)), [len(one.array) for one in same])
    values = pa.concat_arrays([one.array for one in same])
    connection.register("small_values", pa.table({"s": numbers, "v": values}))
    first = same[0].observer
    aggregates = ", ".join(first.aggregates("v"))
    sql = f"SELECT s, {aggregates} FROM (SELECT s, {first.value} AS v FROM small_values) GROUP BY s"
    found: Mapping[int, tuple[Any, ...]] = {row[0]: row[1:] for row in connection.sql(sql).fetchall()}
    for number in range(len(same)):
        low, high, counted, nans = found.get(number, (None, None, 0, 0))
        yield Observation(low=low, high=high, values=counted, nans=nans)
