"""Filters of rows: what was taken in is never said to be elsewhere, and a comparison in two passes loses nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2d2.errors import EngineError
from r2d2.model import FileStamp, Fragment, Harvest
from r2d2.scan import passes, row_filter
from r2d2.scan.bucket import answer_bucket
from r2d2.scan.items import EVERYTHING, ColumnSet, ScanItem
from r2d2.scan.members import Question
from r2d2.scan.passes import passes_of
from r2d2.scan.plan import Buckets, Pair, TableScan, question_rows
from r2d2.scan.reports import FINGERPRINTS, REPORT, FingerprintRows
from r2d2.scan.row_filter import RowFilter, joined, places_for
from r2d2.scan.spill import spilled_filters, with_filters, writer

lanes = st.integers(0, (1 << 64) - 1)


@given(own=st.lists(lanes), others=st.lists(lanes), length=st.integers(3, 20))
def test_rows_that_were_taken_in_may_be_there(own: list[int], others: list[int], length: int) -> None:
    parts = [RowFilter.empty(1 << length) for _ in range(2)]
    for part, rows in zip(parts, (own[::2], own[1::2]), strict=True):
        part.add(np.array(rows, np.uint64))
    packed = joined((7, part.pack()) for part in parts)
    found = RowFilter.unpack(packed[7])
    assert found.may_have(np.array(own, np.uint64)).all()
    begins = {word >> 64 - length for word in own}
    assert found.may_have(np.array(others, np.uint64)).tolist() == [word >> 64 - length in begins for word in others]


@given(rows=st.dictionaries(st.integers(0, 99), st.integers(0, 1 << 40), min_size=1), tasks=st.integers(1, 4000))
def test_filters_have_room_for_their_rows(rows: dict[int, int], tasks: int) -> None:
    places = places_for(rows, tasks)
    most = min(row_filter.MOST_PLACES, 8 * row_filter.MOST_COLLECTED_BYTES // tasks)
    assert sum(places.values()) <= most + len(rows) * row_filter.LEAST_PLACES
    assert (
        all(places[column_set] > own for column_set, own in rows.items()) if places else sum(rows.values()) > most / 8
    )
    assert all(own & (own - 1) == 0 for own in places.values())


# --- the plan ---------------------------------------------------------------------------------------------------------


def scan_of(
    table: int, rows: int | None, sets: tuple[int, ...], threshold: int = EVERYTHING, evidence: bytes = b""
) -> TableScan:
    stamp = FileStamp(uri=str(table), size=1, token="")
    schema = pa.schema([("x", pa.int64())])
    fragments = (Fragment(stamp=stamp, data_uri=str(table), rows=rows),)
    return TableScan(
        table=table,
        harvest=Harvest(schema=schema, version="0", fragments=fragments, table_bytes=rows or 1000),
        column_sets=tuple(ColumnSet(id=number, paths=(("x",),)) for number in sets),
        threshold=threshold,
        evidence=evidence,
    )


def keys_of(scans: Sequence[TableScan]) -> list[tuple[int, int]]:
    return [(scan.table, own.id) for scan in scans for own in scan.column_sets]


@given(asked=st.data())
def test_each_column_set_of_a_table_is_scanned_in_one_pass(asked: st.DataObject) -> None:
    draw = asked.draw
    tables = draw(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 9_000_000)), st.booleans()), min_size=2))
    ends = st.tuples(*[st.integers(0, len(tables) - 1)] * 2, st.integers(0, 2)).filter(lambda own: own[0] != own[1])
    pairs = [Pair(*own) for own in draw(st.lists(ends, min_size=1, unique=True))]
    sets = {t: tuple(sorted({s for c, p, s in pairs if t in (c, p)})) for t in range(len(tables))}
    scans = [
        scan_of(t, n, sets[t], EVERYTHING if w else 1 << 40, draw(st.sampled_from([b"", b"", b"told"])))
        for t, (n, w) in enumerate(tables)
        if sets[t]
    ]
    found = passes_of(scans, pairs, [])
    parts = [keys_of(found.first), keys_of(found.second)]
    assert Counter(itertools.chain(*parts)) == Counter(keys_of(scans))
    children = {(pair.child, pair.column_set) for pair in pairs}
    assert children <= set(parts[0])
    assert all(number in found.places for _, number in parts[1])
    assert found.children == {key for key in children if key[1] in found.places}
    assert all(scan.threshold == EVERYTHING for scan in found.second)
    sizes = {scan.table: scan.harvest.table_bytes for scan in scans}
    assert sum(sizes[table] for table in found.read_twice) <= passes.TWICE_SHARE * sum(sizes.values())
    assert not any(scan.evidence for scan in found.second)
    assert found.rows_of.keys() == sizes.keys()
    assert all(0 <= found.rows_of[scan.table] <= scan.expected_rows for scan in scans)
    assert bool(found.second) == (found.rows < sum(scan.expected_rows for scan in scans))


def test_a_large_parent_of_small_children_is_looked_into_later() -> None:
    scans = [scan_of(0, 20, (0,)), scan_of(1, 5_000_000, (0, 1)), scan_of(2, 30, (1,)), scan_of(3, 4_000_000, (1,))]
    pairs = [Pair(0, 1, 0), Pair(2, 1, 1), Pair(3, 1, 1)]
    found = passes_of(scans, pairs, [])
    assert keys_of(found.second) == []  # its rows would be read twice
    found = passes_of([*scans, scan_of(4, 90_000_000, (1,))], [*pairs, Pair(3, 4, 1)], [])
    assert keys_of(found.second) == [(1, 0), (4, 1)]


# --- both passes ------------------------------------------------------------------------------------------------------

# Lanes that share first bits and differ later, and rows that repeat.
words = st.sampled_from([(n << 60 | low) & (1 << 64) - 1 for n in range(16) for low in (0, 1, 2)])
bags = st.lists(st.tuples(words, st.integers(0, 1)), max_size=30)


def batches_of(tables: dict[int, list[tuple[int, int]]], buckets: Buckets, filters: str) -> list[pa.RecordBatch]:
    """What a scan of some tables yields, each in two parts."""
    found = []
    for table, rows in tables.items():
        item = ScanItem(
            table=table,
            files=(),
            partition_schema=pa.schema([]),
            column_sets=(ColumnSet(id=3, paths=()),),
            filters=filters,
            first_bucket=buckets.first,
            buckets=buckets.count,
        )
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            kept = FingerprintRows()
            first, second = (np.array([row[lane] for row in part], np.uint64) for lane in (0, 1))
            kept.add_rows(item, 3, first, second)
            found.append(kept.batch())
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tables=st.lists(bags, min_size=2, max_size=5),
    children=st.sets(st.integers(0, 3), min_size=1),
    buckets=st.integers(1, 3),
    places=st.sampled_from([8, 16, 1 << 12]),
)
def test_two_passes_say_what_one_says(
    tables: list[list[tuple[int, int]]], children: set[int], buckets: int, places: int, tmp_path: Path
) -> None:
    row_filter.read_filters.cache_clear()
    own = children & set(range(len(tables)))
    parents = [table for table in range(len(tables)) if table not in own]
    pairs = [Pair(child, parent, 3) for child in own for parent in range(len(tables)) if child != parent]
    questions = [Question(child=child, column_set=3, parents=tuple(parents)) for child in own if len(parents) > 1]
    of = dict.fromkeys(range(len(tables)), Buckets(first=0, count=buckets))
    asked = question_rows(pairs, questions, of, dict.fromkeys(of, EVERYTHING))
    first = batches_of({child: tables[child] for child in own}, of[0], "")
    kernel = writer(str(tmp_path), 1 << 20, {3: places}, frozenset((child, 3) for child in own))
    told = pa.Table.from_batches(kernel(iter(first)), FINGERPRINTS)
    noted = {3: sum(len(tables[child]) for child in own)}
    uri = spilled_filters(told, {3: places}, noted, str(tmp_path / f"filters-{len(list(tmp_path.iterdir()))}"))
    second = batches_of({parent: tables[parent] for parent in parents}, of[0], uri)
    found: dict[tuple[int, int], Counter[str]] = {pair[:2]: Counter() for pair in pairs}
    alone: Counter[int] = Counter()
    sizes: Counter[int] = Counter()
    for bucket in range(buckets):
        rows = pa.Table.from_batches([*first, *second], FINGERPRINTS)
        rows = rows.filter(pa.array([own == bucket for own in rows["bucket"].to_pylist()], pa.bool_()))
        for row in answer_bucket(rows, asked).to_pylist():
            if row["parent"] >= 0:
                found[row["child"], row["parent"]].update({name: row[name] for name in NAMES})
            elif row["parent"] == -4:
                alone[row["child"]] += row["missing"]
            elif row["parent"] == -3:
                sizes[row["child"]] += row["child_rows"]
    for (child, parent), verdict in found.items():
        here, there = Counter(tables[child]), Counter(tables[parent])
        assert (verdict["child_rows"], verdict["parent_rows"]) == (len(tables[child]), len(tables[parent]))
        assert verdict["missing"] == sum(row not in there for row in here)
        assert verdict["excess"] == sum(there[row] < count for row, count in here.items())
    for question in questions:
        others = {row for parent in question.parents for row in tables[parent]}
        others |= {row for other in own - {question.child} for row in tables[other]}
        assert alone[question.child] == len(set(tables[question.child]) - others)
        assert all(sizes[table] == len(tables[table]) for table in question.tables)


NAMES = ("missing", "excess", "child_rows", "parent_rows")


def test_filters_that_are_gone_end_the_audit(tmp_path: Path) -> None:
    scan = with_filters(lambda batches: batches, str(tmp_path / "gone"))
    with pytest.raises(EngineError, match="could not be read"):
        list(scan(iter(())))


def test_filters_that_were_lost_on_the_way_end_the_audit(tmp_path: Path) -> None:
    kernel = writer(str(tmp_path), 1 << 20, {3: 8}, frozenset({(0, 3), (1, 3)}))
    batches = [list(kernel(iter(batches_of({t: [(1, 1), (1, 1)]}, Buckets(first=0, count=1), "")))) for t in (0, 1)]
    told = [pa.Table.from_batches(own, FINGERPRINTS) for own in batches]
    spilled_filters(pa.concat_tables(told), {3: 8}, {3: 4}, str(tmp_path / "filters"))
    with pytest.raises(EngineError, match="lost rows"):
        spilled_filters(told[0], {3: 8}, {3: 4}, str(tmp_path / "filters"))


def test_reports_are_not_taken_in() -> None:
    report = {
        "bucket": 0, "table": 1, "column_set": REPORT, "packed": b"",
        "rows_read": 1, "bytes_read": 0, "error": "", "message": "", "status": "",
    }  # fmt: skip
    batch = pa.RecordBatch.from_pylist([report], schema=FINGERPRINTS)
    told = list(writer("memory://none", 1, {3: 8}, frozenset({(1, 3)}))(iter([batch])))
    assert [own["column_set"] for part in told for own in part.to_pylist()] == [REPORT]
