"""Kernels of the search for unions, against searches of everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.errors import EngineError
from r2d2.model import SchemaClass, SchemaGraph, TypeClass
from r2d2.scan import members
from r2d2.scan.compare import SEVERAL, Bag
from r2d2.scan.covers import Answers, answers_of, questions_about
from r2d2.scan.evidence import Flag, LeafEvidence, number_key, pack
from r2d2.scan.kinds import Kinds
from r2d2.scan.members import Question, answers, questions_of
from r2d2.scan.plan import Buckets, Pair, question_rows
from r2d2.unions import cover as cover_module
from r2d2.unions import overlap
from r2d2.unions.candidates import blocks_of
from r2d2.unions.cover import Holders
from r2d2.unions.overlap import Block, candidates
from r2d2.unions.ranked import Ranked
from r2d2.unions.stage import _union

Row = tuple[int | None, ...]
Interval = tuple[bytes | None, bytes | None]

# ---- covers

Bags = dict[int, Counter[int]]
"""Rows by table."""


def kinds_of(tables: Bags) -> Kinds:
    """The kinds of all rows of some tables."""
    rows = sorted({row for own in tables.values() for row in own})
    held = [
        (place, table, tables[table][row])
        for place, row in enumerate(rows)
        for table in sorted(tables)
        if tables[table][row]
    ]
    row, table, count = (np.array([one[i] for one in held], np.int64) for i in range(3))
    return Kinds.of_rows(len(rows), row, table, count)


def each(kinds: Kinds) -> list[tuple[frozenset[int], int]]:
    """The tables that hold each kind, and its rows."""
    ends = zip(kinds.held.starts[:-1].tolist(), kinds.held.starts[1:].tolist(), kinds.distinct.tolist(), strict=True)
    return [(frozenset(kinds.held.items[start:end].tolist()), distinct) for start, end, distinct in ends]


many_tables = st.lists(st.lists(st.integers(0, 15), max_size=14), min_size=2, max_size=8).map(
    lambda tables: {3 * number: Counter(rows) for number, rows in enumerate(tables)}
)


def cover_by_hand(child: int, parents: Sequence[int], tables: Bags) -> list[int] | None:
    """The cover as docs/unions.md words it."""
    chosen: list[int] = []
    left = set(tables[child])
    while left:
        gains = [len(left & set(tables[parent])) for parent in parents]
        if not max(gains):
            return None
        chosen.append(parents[gains.index(max(gains))])
        left -= set(tables[chosen[-1]])
    for parent in chosen[::-1]:
        others = [other for other in chosen if other != parent]
        if set(tables[child]) <= {row for other in others for row in tables[other]}:
            chosen = others
    return chosen


@pytest.mark.parametrize("gathered", [0, cover_module._GATHERED, 1000])
@given(tables=many_tables, without=st.sets(st.integers(0, 7), max_size=2))
def test_covers_are_those_of_a_look_at_every_row(gathered: int, tables: Bags, without: set[int]) -> None:
    holders = Holders(Kinds.unpack(kinds_of(tables).pack()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cover_module, "_GATHERED", gathered)
        for child, rows in tables.items():
            parents = [table for table in tables if table != child and table // 3 not in without]
            want = cover_by_hand(child, parents, tables) if parents else None
            found = holders.cover(child, parents) if parents else None
            assert (found is None) == (want is None)
            if found is not None and want is not None:
                assert list(found.tables) == want
                together = sum((tables[table] for table in want), Counter())
                assert found.bag == (not rows - together)
                assert list(found.shared) == [len(set(rows) & set(tables[table])) for table in want]


@given(buckets=st.lists(many_tables, max_size=4))
def test_the_order_of_buckets_changes_nothing(buckets: list[Bags]) -> None:
    parts = [kinds_of(tables) for tables in buckets]
    one, other = Kinds.joined(parts), Kinds.joined(parts[::-1])
    assert one.pack() == other.pack() == Kinds.unpack(one.pack()).pack()
    assert len(set(each(one))) == len(each(one)), "no kind comes twice"
    assert sum(one.distinct) == sum(len({row for own in tables.values() for row in own}) for tables in buckets)


# ---- members of a bucket


def bag(rows: Sequence[int]) -> Bag:
    """Rows as fingerprints: a row's number is its first lane, read as unsigned."""
    counted = sorted(Counter(rows).items())
    ids = np.array([row for row, _ in counted], np.int64)
    return Bag(ids=ids, first=ids << 60, counts=np.array([count for _, count in counted], np.int64))


bags = st.lists(st.integers(0, 15), max_size=12)


def answers_to(questions: Sequence[Question], tables: Sequence[list[int]]) -> Answers:
    """The answers about tables all of which were read whole."""
    own = {(n, q.column_set): bag(rows) for q in questions for n, rows in enumerate(tables) if rows}
    rows = [{"child_rows": 0, "missing": 0, "packed": b"", **row} for row in answers(own, questions)]
    read = {n: len(own) for n, own in enumerate(tables)}
    return answers_of(rows, questions, read, set(read))


@pytest.mark.parametrize("cells", [1, 7, members.CELLS])
@given(tables=st.lists(bags, min_size=2, max_size=6), asked=st.sets(st.integers(0, 5), min_size=1))
def test_members_are_those_of_a_look_at_every_row(cells: int, tables: list[list[int]], asked: set[int]) -> None:
    every = range(len(tables))
    children = [child for child in every if child in asked]
    questions = [
        Question(child=child, column_set=3, parents=tuple(other for other in every if other != child))
        for child in children
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(members, "CELLS", cells)
        found = answers_to(questions, tables)
    held = []
    for child in children:
        answer, own = found.about[child], tables[child]
        others = {row for other in every if other != child for row in tables[other]}
        assert answer.missing == len(set(own) - others)
        assert answer.rows == tuple(len(tables[table]) for table in (child, *answer.parents))
        assert answer.distinct == tuple(len(set(tables[table])) for table in (child, *answer.parents))
        if not answer.missing and own:
            held.append(child)
    rows = {row for child in held for row in tables[child]}
    want = Counter(frozenset(n for n in every if row in tables[n]) for row in rows)
    assert Counter(dict(each(found.kinds(3)))) == want


def test_who_holds_rows_is_said_of_the_tables_of_a_question_only() -> None:
    question = Question(child=0, column_set=3, parents=(1, 2))
    found = answers_to([question], [[1, 2], [1], [2], [1, 2]])
    assert sorted(held for held, _ in each(found.kinds(3))) == [frozenset({0, 1}), frozenset({0, 2})]


def test_later_answers_count_and_have_their_own_kinds() -> None:
    tables = [[1, 2], [1], [2]]
    first = answers_to([Question(child=0, column_set=3, parents=(1, 2))], tables)
    later = answers_to([Question(child=1, column_set=3, parents=(0, 2))], tables)
    both = first.and_later(later).and_later(first)
    assert both.about.keys() == {0, 1}
    for child, source in ((0, first), (1, later)):
        assert both.kinds(both.about[child].group).pack() == source.kinds(3).pack()
    assert both.parts.keys() == {answer.group for answer in both.about.values()}, "what no answer names is dropped"
    groups = [answer.group for answer in replace(first, parts={}).and_later(later).about.values()]
    assert len(set(groups)) == 2


def test_kinds_in_which_no_child_is_held_are_dropped() -> None:
    assert answers_to([Question(child=0, column_set=3, parents=(1, 2))], [[1, 2], [1], [3]]).parts == {}


def test_a_union_is_not_asserted_from_a_part_of_the_rows() -> None:
    question = Question(child=0, column_set=3, parents=(1, 2))
    found = answers_to([question], [[1, 2], [1], [2]])
    union = _union(Holders(found.kinds(3)), question, found.about[0])
    assert union is not None
    assert (union.parents, union.bag, union.outside) == ((1, 2), True, (0, 0))
    lost = kinds_of({0: Counter([1]), 1: Counter([1]), 2: Counter([3])})
    with pytest.raises(EngineError, match="the engine lost rows"):
        _union(Holders(lost), question, found.about[0])


@given(child=bags, parents=st.lists(bags, min_size=1, max_size=3), reach=st.integers(0, 15))
def test_a_sample_refutes_only_by_rows_that_all_samples_would_have(
    child: list[int], parents: list[list[int]], reach: int
) -> None:
    last = (reach << 60) if reach < 8 else (reach << 60) - (1 << 64)
    question = Question(child=0, column_set=0, parents=tuple(range(1, len(parents) + 1)), last=last)
    kept = [child, *([row for row in own if row <= reach] for own in parents)]
    told = list(answers({(n, 0): bag(rows) for n, rows in enumerate(kept) if rows}, [question]))
    assert any(row.get("missing") for row in told) == (
        not {row for row in child if row <= reach} <= {row for own in parents for row in own}
    )
    assert not any(row.get("packed") for row in told), "a sample names no holders"


def test_answers_without_all_rows_assert_nothing() -> None:
    question = Question(child=0, column_set=0, parents=(1, 2))
    tables = {(0, 0): bag([1, 2]), (1, 0): bag([1]), (2, 0): bag([2, 3])}
    told = [{"child_rows": 0, "missing": 0, "packed": b"", **row} for row in answers(tables, [question])]
    read = {0: 2, 1: 1, 2: 2}
    assert answers_of(told, [question], read, set(read)).about[0].missing == 0
    assert answers_of(told, [question], {0: 2, 1: 1}, {0, 1}).about == {}, "the third table has a fault"
    for table in read:
        with pytest.raises(EngineError, match="the engine lost rows"):
            answers_of(told, [question], {**read, table: 9}, set(read))


def test_questions_travel_as_rows() -> None:
    question = Question(child=1, column_set=2, parents=(4, 5))
    buckets, thresholds = {1: Buckets(first=3, count=2)}, {1: 1 << 64, 4: 8, 5: 9}
    rows = question_rows([Pair(child=1, parent=5, column_set=2)], [question], buckets, thresholds)
    assert rows["first_bucket"].to_pylist() == [3, 3]
    assert rows["last"].to_pylist() == [8, 7], "what all samples have"
    assert questions_of(rows.filter(pc.equal(rows["parent"], SEVERAL))) == [replace(question, last=7)]


def test_questions_are_about_tables_that_are_active() -> None:
    tables = SchemaClass(id=0, names=frozenset({("a",)}), exact=False, tables=(0, 1, 2, 3))
    graph = SchemaGraph(classes=(tables,), edges=((0, 0),))
    candidates = {3: [1, 2], 0: [1, 2, 3], 1: [0, 3]}
    assert questions_about(candidates, graph, lambda table: table != 3) == [
        Question(child=0, column_set=0, parents=(1, 2))
    ]


# ---- candidates by metadata

values = st.one_of(st.none(), st.integers(-5, 20))


@st.composite
def lakes(draw: st.DrawFn) -> list[list[Row]]:
    width = draw(st.integers(1, 3))
    row = st.tuples(*[values] * width)
    return draw(st.lists(st.lists(row, max_size=5), min_size=2, max_size=7))


def evidence_of(rows: list[Row], width: int, slack: Sequence[int]) -> bytes:
    """Evidence of a table, true but loose by `slack` where that is not 0."""
    return pack([leaf_evidence([row[leaf] for row in rows], slack[leaf % len(slack)]) for leaf in range(width)], ())


def leaf_evidence(column: list[int | None], slack: int) -> LeafEvidence:
    known = [value for value in column if value is not None]
    flags = Flag.HAS_ROW if column else Flag(0)
    flags |= (Flag.HAS_VALUE | Flag.MAY_VALUE) if known else Flag(0)
    flags |= (Flag.HAS_NULL | Flag.MAY_NULL) if len(known) < len(column) else Flag(0)
    if slack == 3:  # nothing is known
        return LeafEvidence(kind=TypeClass.NUMBER, flags=Flag.MAY_VALUE | Flag.MAY_NULL | Flag.MAY_NAN)
    if not known:
        return LeafEvidence(kind=TypeClass.NUMBER, flags=flags)
    low, high = min(known), max(known)
    return LeafEvidence(
        kind=TypeClass.NUMBER,
        flags=flags,
        low=number_key(low - slack),
        high=number_key(high + slack),
        first_high=None if slack == 2 else number_key(low),
        last_low=None if slack == 2 else number_key(high),
    )


@given(lake=lakes(), slack=st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_no_table_that_holds_a_row_of_a_union_is_left_out(lake: list[list[Row]], slack: list[int]) -> None:
    tables = [rows for rows in lake if rows] or [[(1,)]]
    width = len(tables[0][0])
    ids = tuple(range(len(tables)))
    block = Block(column_set=0, children=ids, parents=((ids, tuple(range(width))),))
    found = dict(
        candidates(
            Block.from_json(block.to_json()),
            Ranked.of({n: evidence_of(t, width, slack) for n, t in enumerate(tables)}),
        )
    )
    for child, rows in enumerate(tables):
        holders = {n for n, other in enumerate(tables) if n != child and set(other) & set(rows)}
        is_held = set(rows) <= {row for n, other in enumerate(tables) if n != child for row in other}
        if is_held and len(holders) > 1:
            assert holders <= set(found[child])
    if slack == [0]:
        for child, parents in found.items():
            for parent in parents:
                assert all(meet(tables[child], tables[parent], leaf) for leaf in range(width))


def meet(one: list[Row], other: list[Row], leaf: int) -> bool:
    mine, its = [row[leaf] for row in one], [row[leaf] for row in other]
    known, there = [v for v in mine if v is not None], [v for v in its if v is not None]
    if known and there and min(known) <= max(there) and min(there) <= max(known):
        return True
    return None in mine and None in its


@st.composite
def evidence_of_many(draw: st.DrawFn) -> list[list[LeafEvidence]]:
    width, tables = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    columns = st.builds(leaf_evidence, st.lists(values, max_size=4), st.integers(0, 3))
    kinds = st.sampled_from([TypeClass.NUMBER, TypeClass.NUMBER, TypeClass.STRING])
    leaf = st.builds(lambda one, kind: replace(one, kind=kind), columns, kinds)
    return draw(st.lists(st.lists(leaf, min_size=width, max_size=width), min_size=tables, max_size=tables))


@pytest.mark.parametrize("step", [1, 5, overlap.STEP_PAIRS])
@given(tables=evidence_of_many(), own=st.integers(1, 6), files=st.integers(0, 2))
def test_candidates_are_those_of_a_look_at_every_pair(
    step: int, tables: list[list[LeafEvidence]], own: int, files: int
) -> None:
    ids, places = tuple(range(len(tables))), tuple(range(len(tables[0])))
    sides = ((ids[:own], places), (ids[own:], places[::-1]))  # the leaves of the second class are the other way round
    packed = {n: pack(one[:: -1 if n >= own else 1], [one] * files) for n, one in enumerate(tables)}
    block = Block(column_set=0, children=ids[:own], parents=tuple(side for side in sides if side[0]))
    want = {}
    for child in ids[:own]:
        found = [n for n in ids if n != child and all(map(may_meet, tables[child], tables[n]))]
        leaves = zip(tables[child], zip(*(tables[n] for n in found), strict=True), strict=False)
        if len(found) > 1 and all(is_met(one, others) for one, others in leaves):
            want[child] = found
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(overlap, "STEP_PAIRS", step)
        assert dict(candidates(block, Ranked.of(packed))) == want


def may_meet(one: LeafEvidence, other: LeafEvidence) -> bool:
    both = one.flags & other.flags
    touch = one.kind is other.kind and touches((one.low, one.high), (other.low, other.high))
    return bool(both & (Flag.MAY_NULL | Flag.MAY_NAN) or (both & Flag.MAY_VALUE and touch))


def touches(one: Interval, other: Interval) -> bool:
    return all(a is None or b is None or a <= b for a, b in ((one[0], other[1]), (other[0], one[1])))


def is_met(one: LeafEvidence, others: Sequence[LeafEvidence]) -> bool:
    """Whether some other table may hold the value of each witness, some NULL and some NaN, as far as there are any."""
    alike = [(own.low, own.high) for own in others if own.flags & Flag.MAY_VALUE and own.kind is one.kind]
    first = (None, None) if one.first_high is None else (one.low, one.first_high)
    last = (None, None) if one.last_low is None else (one.last_low, one.high)
    values_met = all(any(touches(witness, cover) for cover in alike) for witness in (first, last))
    return (not one.flags & Flag.HAS_VALUE or values_met) and all(
        not one.flags & has or any(own.flags & may for own in others)
        for has, may in ((Flag.HAS_NULL, Flag.MAY_NULL), (Flag.HAS_NAN, Flag.MAY_NAN))
    )


def test_disjoint_tables_are_no_candidates_however_many() -> None:
    tables = [[(day,), (day,)] for day in range(3000)]
    ids = tuple(range(len(tables)))
    block = Block(column_set=0, children=ids, parents=((ids, (0,)),))
    evidence = Ranked.of({n: evidence_of(rows, 1, [0]) for n, rows in enumerate(tables)})
    assert list(candidates(block, evidence)) == []


def test_blocks_put_the_children_of_a_class_against_all_that_have_their_columns() -> None:
    narrow, wide = frozenset({("a",)}), frozenset({("b",), ("a",)})
    classes = (
        SchemaClass(id=0, names=narrow, exact=False, tables=(0, 1, 4)),
        SchemaClass(id=1, names=wide, exact=False, tables=(2, 3)),
    )
    graph = SchemaGraph(classes=classes, edges=((0, 0), (0, 1), (1, 1)))
    (block,) = blocks_of(graph, children={0, 2}, parents={1, 2, 3, 4})
    assert block == Block(column_set=0, children=(0,), parents=(((0, 1, 4), (0,)), ((2, 3), (0,))))
