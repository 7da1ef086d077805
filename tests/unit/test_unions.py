"""Kernels of the search for unions, against searches of everything."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.errors import EngineError
from r2d2.model import SchemaClass, SchemaGraph, TypeClass
from r2d2.scan import members
from r2d2.scan.compare import Bag
from r2d2.scan.covers import Answer, answers_of, questions_about
from r2d2.scan.evidence import Flag, LeafEvidence, number_key, pack
from r2d2.scan.members import Kinds, Question, answers, joined, questions_of, questions_text
from r2d2.unions import overlap
from r2d2.unions.candidates import blocks_of
from r2d2.unions.cover import greedy, is_bag, minimal, outside
from r2d2.unions.overlap import Block, candidates
from r2d2.unions.ranked import Ranked

Row = tuple[int | None, ...]
Interval = tuple[bytes | None, bytes | None]

# ---- covers


@st.composite
def held_rows(draw: st.DrawFn) -> Kinds:
    """Kinds each of which some parent holds."""
    parents = draw(st.integers(1, 7))
    holders = st.frozensets(st.integers(0, parents - 1), min_size=1, max_size=4)
    rows = draw(st.lists(st.tuples(holders, st.integers(1, 50)), min_size=1, max_size=12))
    held = np.array([[place in own for place in range(parents)] for own, _ in rows])
    return replace(Kinds.none(parents), held=held, distinct=np.array([count for _, count in rows], np.int64))


def greedy_by_hand(kinds: Kinds) -> list[int]:
    """The cover as docs/unions.md words it."""
    left = list(zip(kinds.held.tolist(), kinds.distinct.tolist(), strict=True))
    chosen: list[int] = []
    while left:
        gains = [sum(count for held, count in left if held[place]) for place in range(kinds.held.shape[1])]
        chosen.append(gains.index(max(gains)))
        left = [(held, count) for held, count in left if not held[chosen[-1]]]
    return chosen


@given(held_rows())
def test_a_cover_takes_the_table_that_adds_most_and_a_minimal_one_needs_all_its_tables(kinds: Kinds) -> None:
    cover = greedy(kinds)
    assert cover == greedy_by_hand(kinds)
    least = minimal(kinds, cover)
    assert kinds.held[:, least].any(axis=1).all()
    for place in least:
        assert not kinds.held[:, [other for other in least if other != place]].any(axis=1).all()


@given(parts=st.lists(held_rows(), max_size=4), parents=st.integers(1, 7))
def test_the_order_of_buckets_changes_nothing(parts: list[Kinds], parents: int) -> None:
    own = [part for part in parts if part.held.shape[1] == parents]
    one, other = joined(own, parents), joined(own[::-1], parents)
    assert one.pack() == other.pack() == Kinds.unpack(one.pack()).pack()
    assert greedy(one) == greedy(other)


# ---- members of a bucket


def bag(rows: Sequence[int]) -> Bag:
    """Rows as fingerprints: a row's number is its first lane, read as unsigned."""
    counted = sorted(Counter(rows).items())
    ids = np.array([row for row, _ in counted], np.int64)
    return Bag(ids=ids, first=ids << 60, counts=np.array([count for _, count in counted], np.int64))


bags = st.lists(st.integers(0, 15), max_size=12)


def answer_to(question: Question, tables: Sequence[list[int]]) -> Answer:
    """The answer about tables all of which were read whole."""
    told = answers({(n, question.column_set): bag(rows) for n, rows in enumerate(tables) if rows}, [question])
    rows = [{"child_rows": 0, "missing": 0, "packed": b"", **row} for row in told]
    read = {n: len(own) for n, own in enumerate(tables)}
    return answers_of(rows, [question], read, set(read))[question.child]


@pytest.mark.parametrize("cells", [1, 7, members.CELLS])
@given(child=bags, parents=st.lists(bags, min_size=1, max_size=5))
def test_members_are_those_of_a_look_at_every_row(cells: int, child: list[int], parents: list[list[int]]) -> None:
    question = Question(child=0, column_set=3, parents=tuple(range(1, len(parents) + 1)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(members, "CELLS", cells)
        answer = answer_to(question, [child, *parents])
    assert (answer.missing > 0) == (not set(child) <= {row for own in parents for row in own})
    assert answer.rows == tuple(len(own) for own in (child, *parents))
    assert answer.distinct == tuple(len(set(own)) for own in (child, *parents))
    if answer.missing:
        return
    want = Counter(frozenset(n for n, own in enumerate(parents) if row in own) for row in set(child))
    seen = [(frozenset(np.flatnonzero(held).tolist()), int(n)) for held, n in each(answer.kinds)]
    assert sorted(map(str, seen)) == sorted(map(str, want.items()))
    for size in range(len(parents) + 1):
        for chosen in itertools.combinations(range(len(parents)), size):
            there = Counter(row for place in chosen for row in parents[place])
            if set(child) <= there.keys():
                assert is_bag(answer.kinds, chosen) == (not Counter(child) - there)
    for place, own in enumerate(parents):
        assert outside(answer.kinds, place, answer.distinct[1 + place]) == len(set(own) - set(child))


def each(kinds: Kinds) -> Iterator[tuple[np.ndarray, int]]:
    return zip(kinds.held, kinds.distinct, strict=True)


@given(child=bags, parents=st.lists(bags, min_size=3, max_size=5), chosen=st.sets(st.integers(1, 3), min_size=1))
def test_an_answer_about_many_is_one_about_fewer(child: list[int], parents: list[list[int]], chosen: set[int]) -> None:
    tables, fewer = [child, *parents], tuple(sorted(chosen))
    many = answer_to(Question(child=0, column_set=0, parents=tuple(range(1, len(tables)))), tables)
    few = answer_to(Question(child=0, column_set=0, parents=fewer), tables)
    told = many.of(fewer)
    assert (told.rows, told.distinct) == (few.rows, few.distinct)
    assert many.missing > 0 or (told.missing > 0) == (few.missing > 0)
    if not many.missing and not few.missing:
        assert greedy(joined([told.kinds], len(fewer))) == greedy(told.kinds) == greedy(few.kinds)
        assert is_bag(told.kinds, range(len(fewer))) == is_bag(few.kinds, range(len(fewer)))


@given(child=bags, parents=st.lists(bags, min_size=1, max_size=3), reach=st.integers(0, 15))
def test_a_sample_refutes_only_by_rows_that_all_samples_would_have(
    child: list[int], parents: list[list[int]], reach: int
) -> None:
    last = (reach << 60) if reach < 8 else (reach << 60) - (1 << 64)
    question = Question(child=0, column_set=0, parents=tuple(range(1, len(parents) + 1)), last=last)
    kept = [child, *([row for row in own if row <= reach] for own in parents)]
    told = list(answers({(n, 0): bag(rows) for n, rows in enumerate(kept) if rows}, [question]))
    assert any(row["missing"] for row in told) == (
        not {row for row in child if row <= reach} <= {row for own in parents for row in own}
    )
    assert not any(row.get("packed") for row in told), "a sample names no holders"


def test_answers_without_all_rows_assert_nothing() -> None:
    question = Question(child=0, column_set=0, parents=(1, 2))
    tables = {(0, 0): bag([1, 2]), (1, 0): bag([1]), (2, 0): bag([2, 3])}
    told = [{"child_rows": 0, "missing": 0, "packed": b"", **row} for row in answers(tables, [question])]
    read = {0: 2, 1: 1, 2: 2}
    assert answers_of(told, [question], read, set(read))[0].missing == 0
    assert answers_of(told, [question], {0: 2, 1: 1}, {0, 1}) == {}, "the third table has a fault"
    for table in read:
        with pytest.raises(EngineError, match="the engine lost rows"):
            answers_of(told, [question], {**read, table: 9}, set(read))


def test_questions_travel_as_text() -> None:
    question = Question(child=1, column_set=2, parents=(4, 5), last=7)
    assert questions_of(questions_text([question])) == [question]


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
