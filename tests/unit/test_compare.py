"""Comparison of bags and its plan, against counters."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.errors import EngineError
from r2d2.model import FileStamp, Fragment, Harvest
from r2d2.scan import beginnings, compare
from r2d2.scan.bucket import answer_bucket
from r2d2.scan.compare import QUESTIONS
from r2d2.scan.covers import answers_of
from r2d2.scan.job import check_complete
from r2d2.scan.members import Question
from r2d2.scan.plan import Buckets, Pair, TableScan, assign_buckets, deal, items_of, question_rows
from r2d2.scan.reports import FINGERPRINTS, REPORT
from tests.unit.fingerprint_rows import packed_row

FULL = -1  # all 64 bits set: nothing is above it

# Few values, so that first lanes meet without the second, and rows repeat.
rows = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 1)), max_size=12)


def fingerprint_table(bags: dict[int, list[tuple[int, int]]]) -> pa.Table:
    """Each bag in two parts, as of two files."""
    packed = [
        packed_row(0, table, 0, Counter(part))
        for table, bag in bags.items()
        for part in (bag[: len(bag) // 2], bag[len(bag) // 2 :])
        if part
    ]
    return pa.Table.from_pylist(packed, schema=FINGERPRINTS)


def pairs_of(*pairs: tuple[int, int], last: int = FULL) -> pa.Table:
    where = {"first_bucket": 0, "buckets": 1}
    listed = [{**where, "child": c, "parent": p, "column_set": 0, "last": last, "parents": b""} for c, p in pairs]
    return pa.Table.from_pylist(listed, schema=QUESTIONS)


@given(child=rows, parent=rows, last=st.sampled_from([FULL, -2, 0, 1]))
def test_verdicts_equal_those_of_counters(
    child: list[tuple[int, int]], parent: list[tuple[int, int]], last: int
) -> None:
    (verdict,) = answer_bucket(fingerprint_table({0: child, 1: parent}), pairs_of((0, 1), last=last)).to_pylist()
    kept = Counter(row for row in child if row[0] % 2**64 <= last % 2**64)
    there = Counter(parent)
    assert verdict["distinct"] == len(kept)
    assert verdict["missing"] == sum(row not in there for row in kept)
    assert verdict["excess"] == sum(there[row] < count for row, count in kept.items())


# Lanes whose first bits differ, and some that agree in them and differ later.
hashes = st.lists(st.tuples(st.sampled_from([n << 60 | low for n in range(-8, 8) for low in (0, 1)]), st.just(0)))


@given(
    tables=st.lists(hashes, min_size=2, max_size=5), child=st.integers(0, 1), begins=st.sampled_from([2, 16, 1 << 20])
)
def test_rows_that_no_child_has_do_not_change_who_holds_those_of_a_child(
    tables: list[list[tuple[int, int]]], child: int, begins: int
) -> None:
    parents = tuple(number for number in range(len(tables)) if number != child)
    buckets = dict.fromkeys(range(len(tables)), Buckets(first=0, count=1))
    question = Question(child=child, column_set=0, parents=parents)
    asked = question_rows([], [question], buckets, dict.fromkeys(buckets, 1 << 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "LEAST_LEFT_OUT", 0)
        patch.setattr(beginnings, "BEGINS", begins)
        told = answer_bucket(fingerprint_table(dict(enumerate(tables))), asked).to_pylist()
    rows_of = {number: len(rows) for number, rows in enumerate(tables)}
    (answer,) = answers_of(told, [question], rows_of, set(rows_of)).about.values()
    own, others = set(tables[child]), [set(tables[parent]) for parent in parents]
    assert answer.missing == len(own - set().union(*others))
    assert answer.rows == (rows_of[child], *(rows_of[parent] for parent in parents))
    assert answer.distinct[0] == len(own)
    outside = [distinct - len(own & there) for distinct, there in zip(answer.distinct[1:], others, strict=True)]
    assert [number > 0 for number in outside] == [bool(there - own) for there in others]


@given(tables=st.lists(hashes, min_size=2, max_size=5), first=st.sampled_from([1, 3, 1024]), asked=st.data())
def test_rows_that_no_child_has_may_be_left_out(
    tables: list[list[tuple[int, int]]], first: int, asked: st.DataObject
) -> None:
    """The answers are the same but for how many of a child's rows were looked at once some are missing."""
    ends = [(child, parent) for child in range(len(tables)) for parent in range(len(tables)) if child != parent]
    pairs = asked.draw(st.lists(st.sampled_from(ends), min_size=1, unique=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "LEAST_LEFT_OUT", 0)
        patch.setattr(compare, "FIRST_ROWS", first)
        patch.setattr(beginnings, "BEGINS", asked.draw(st.sampled_from([2, 16, 1 << 20])))
        told = answer_bucket(fingerprint_table(dict(enumerate(tables))), pairs_of(*pairs)).to_pylist()
    assert {(verdict["child"], verdict["parent"]) for verdict in told} == set(pairs)
    for verdict in told:
        child, parent = (Counter(tables[verdict[end]]) for end in ("child", "parent"))
        missing = sum(row not in parent for row in child)
        assert (verdict["child_rows"], verdict["parent_rows"]) == (child.total(), parent.total())
        assert (verdict["missing"] > 0) == (missing > 0)
        assert verdict["missing"] <= min(missing, verdict["distinct"])
        assert verdict["distinct"] <= len(child)
        if not missing:
            assert verdict["distinct"] == len(child)
            assert verdict["excess"] == sum(parent[row] < count for row, count in child.items())


def test_reports_pass_through() -> None:
    report = {
        "bucket": 0, "table": 3, "column_set": REPORT, "packed": b"",
        "rows_read": 5, "bytes_read": 7, "error": "Changed", "message": "changed", "status": "failed",
    }  # fmt: skip
    found = answer_bucket(pa.Table.from_pylist([report], schema=FINGERPRINTS), pairs_of()).to_pylist()
    assert [(row["child"], row["table"], row["bytes_read"], row["error"]) for row in found] == [
        (REPORT, 3, 7, "Changed")
    ]


@given(
    links=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda p: p[0] != p[1]), min_size=1),
    sizes=st.lists(st.integers(0, 5000), min_size=31, max_size=31),
    limit=st.integers(1, 3000),
)
def test_tables_of_a_pair_share_their_buckets(links: list[tuple[int, int]], sizes: list[int], limit: int) -> None:
    pairs = [Pair(child=c, parent=p, column_set=0) for c, p in links]
    buckets = assign_buckets(pairs, dict(enumerate(sizes)), parallelism=2, bucket_rows=limit)
    for pair in pairs:
        assert buckets[pair.child] == buckets[pair.parent]
    asked = question_rows(pairs, [], buckets, dict.fromkeys(buckets, 1 << 64)).to_pylist()
    assert [(q["child"], q["parent"]) for q in asked] == [(pair.child, pair.parent) for pair in pairs]
    for q in asked:
        assert Buckets(first=q["first_bucket"], count=q["buckets"]) == buckets[q["child"]]


def test_a_large_component_is_spread() -> None:
    pairs = [Pair(child=0, parent=1, column_set=0)]
    assert assign_buckets(pairs, {0: 500, 1: 1500}, parallelism=1, bucket_rows=100)[0] == Buckets(first=0, count=20)


@given(costs=st.lists(st.integers(0, 1000)), bins=st.integers(1, 9))
def test_dealing_loses_nothing_and_balances(costs: list[int], bins: int) -> None:
    dealt = deal(costs, bins)
    assert sorted(position for positions in dealt for position in positions) == list(range(len(costs)))
    assert len(dealt) == min(bins, len(costs))
    loads = [sum(max(1, costs[position]) for position in positions) for positions in dealt]
    if loads:
        assert max(loads) - min(loads) <= max(*costs, 1)


def test_files_become_items_of_bounded_bytes() -> None:
    sizes = [1, 40 << 20, 40 << 20, 1, 200 << 20, 3]
    fragments = tuple(
        Fragment(stamp=FileStamp(uri=f"f{n}", size=size, token=""), data_uri=f"f{n}", rows=1)
        for n, size in enumerate(sizes)
    )
    scan = TableScan(table=0, harvest=Harvest(schema=pa.schema([]), version="", fragments=fragments), column_sets=())
    items = items_of(scan, Buckets(first=0, count=1))
    assert [[file.stamp.uri for file in item.files] for item in items] == [["f0", "f1"], ["f2", "f3"], ["f4"], ["f5"]]


@pytest.mark.parametrize(
    "answers",
    [
        (1, 3, 7),  # one of two buckets
        (3, 3, 7),
        (2, 2, 7),  # a row of the child is missing
        (2, 3, 6),  # a row of the parent
    ],
)
def test_verdicts_without_all_rows_assert_nothing(answers: tuple[int, int, int]) -> None:
    pair = Pair(child=0, parent=1, column_set=0)
    names = ("buckets", "child_rows", "parent_rows")
    check_complete(pair, dict(zip(names, (2, 3, 7), strict=True)), 2, {0: 3, 1: 7})
    with pytest.raises(EngineError, match="the engine lost rows"):
        check_complete(pair, dict(zip(names, answers, strict=True)), 2, {0: 3, 1: 7})
