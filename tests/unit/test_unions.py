"""Kernels of the search for unions, against searches of everything."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.model import SchemaClass, SchemaGraph, TypeClass
from r2d2.scan.compare import Bag, Verdict
from r2d2.scan.evidence import Flag, LeafEvidence, number_key, pack
from r2d2.scan.plan import Pair
from r2d2.unions import members
from r2d2.unions.candidates import blocks_of, not_counted_out
from r2d2.unions.cover import Kind, is_refuted, minimal, proposed
from r2d2.unions.members import Question, answers, positions_of, questions_of, questions_text
from r2d2.unions.overlap import Block, candidates

Row = tuple[int | None, ...]

# ---- covers

kinds = st.lists(
    st.builds(
        Kind,
        held=st.frozensets(st.integers(0, 7), min_size=1, max_size=4),
        open=st.just(frozenset[int]()),
        distinct=st.integers(1, 50),
    ),
    min_size=1,
    max_size=12,
)


@given(kinds)
def test_a_proposed_cover_holds_all_rows_and_a_minimal_one_needs_all_its_tables(kinds: list[Kind]) -> None:
    cover = proposed(kinds)
    assert all(kind.held & set(cover) for kind in kinds)
    assert len(cover) == len(set(cover))
    least = minimal(kinds, cover)
    assert all(kind.held & set(least) for kind in kinds)
    for table in least:
        assert not all(kind.held & (set(least) - {table}) for kind in kinds)
    assert proposed(kinds[::-1]) == cover


def test_rows_that_a_sample_leaves_open_are_no_refutation() -> None:
    held, may, none = frozenset({1}), frozenset({2}), frozenset[int]()
    assert not is_refuted([Kind(held=held, open=none, distinct=1), Kind(held=none, open=may, distinct=1)])
    assert is_refuted([Kind(held=held, open=none, distinct=1), Kind(held=none, open=none, distinct=1)])
    assert proposed([Kind(held=none, open=may, distinct=100)]) == [2]


# ---- members of a bucket


def bag(rows: Sequence[int]) -> Bag:
    """Rows as fingerprints: a row's number is its first lane, read as unsigned."""
    counted = sorted(Counter(rows).items())
    ids = np.array([row for row, _ in counted], np.int64)
    return Bag(ids=ids, first=ids << 60, counts=np.array([count for _, count in counted], np.int64))


bags = st.lists(st.integers(0, 15), max_size=12)


@pytest.mark.parametrize("cells", [1, 7, members.CELLS])
@given(child=bags, parents=st.lists(bags, min_size=1, max_size=5), chosen=st.integers(0, 5))
def test_members_are_those_of_a_look_at_every_row(
    cells: int, child: list[int], parents: list[list[int]], chosen: int
) -> None:
    tables = [child, *parents]
    question = Question(
        child=0,
        column_set=3,
        chosen=tuple(range(1, min(chosen, len(parents)) + 1)),
        others=tuple(range(min(chosen, len(parents)) + 1, len(parents) + 1)),
        lasts=(-1,) * len(tables),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(members, "CELLS", cells)
        told = list(answers({(n, 3): bag(rows) for n, rows in enumerate(tables) if rows}, [question]))
    want: Counter[tuple[frozenset[int], int]] = Counter()
    for row in set(child):
        mine = {place for place, parent in enumerate(question.chosen) if row in tables[parent]}
        its = {place for place, parent in enumerate(question.parents) if row in tables[parent]}
        there = sum(tables[parent].count(row) for parent in question.chosen)
        want[frozenset(mine or its), int(child.count(row) > there)] += 1
    seen: Counter[tuple[frozenset[int], int]] = Counter()
    for answer in told:
        if answer["parent"] == -1:
            seen[positions_of(answer["held"]), 1] += answer["excess"]
            seen[positions_of(answer["held"]), 0] += answer["distinct"] - answer["excess"]
            assert answer["open"] == "0"
    assert +seen == want
    outside = {answer["parent"]: (answer["distinct"], answer["excess"], answer["rows"]) for answer in told}
    for parent in question.chosen:
        own = tables[parent]
        if own:
            assert outside[parent] == (len(set(own)), len(set(own) - set(child)), len(own))


@given(child=bags, parent=bags, reach=st.integers(0, 15))
def test_above_its_threshold_a_sampled_table_may_hold_a_row(child: list[int], parent: list[int], reach: int) -> None:
    last = (reach << 60) if reach < 8 else (reach << 60) - (1 << 64)
    question = Question(child=0, column_set=0, chosen=(), others=(1,), lasts=(-1, last))
    kept = [row for row in parent if row <= reach]
    told = list(answers({(n, 0): bag(rows) for n, rows in enumerate((child, kept)) if rows}, [question]))
    refuted = sum(answer["distinct"] for answer in told if answer["held"] == answer["open"] == "0")
    assert refuted == len({row for row in child if row <= reach and row not in parent})


def test_questions_travel_as_text() -> None:
    question = Question(child=1, column_set=2, chosen=(3,), others=(4, 5), lasts=(-1, 7, 8, 9))
    assert questions_of(questions_text([question])) == [question]


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
        candidates(Block.from_json(block.to_json()), {n: evidence_of(t, width, slack) for n, t in enumerate(tables)})
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


def test_disjoint_tables_are_no_candidates_however_many() -> None:
    tables = [[(day,), (day,)] for day in range(3000)]
    ids = tuple(range(len(tables)))
    block = Block(column_set=0, children=ids, parents=((ids, (0,)),))
    assert list(candidates(block, {n: evidence_of(rows, 1, [0]) for n, rows in enumerate(tables)})) == []


def test_blocks_put_the_children_of_a_class_against_all_that_have_their_columns() -> None:
    narrow, wide = frozenset({("a",)}), frozenset({("b",), ("a",)})
    classes = (
        SchemaClass(id=0, names=narrow, exact=False, tables=(0, 1, 4)),
        SchemaClass(id=1, names=wide, exact=False, tables=(2, 3)),
    )
    graph = SchemaGraph(classes=classes, edges=((0, 0), (0, 1), (1, 1)))
    (block,) = blocks_of(graph, children={0, 2}, parents={1, 2, 3, 4})
    assert block == Block(column_set=0, children=(0,), parents=(((0, 1, 4), (0,)), ((2, 3), (0,))))


# ---- what verdicts of samples say


@pytest.mark.parametrize(
    ("missing", "thresholds", "kept"),
    [
        ((6, 5), (9, 9), False),  # 4 and 5 of 10 rows
        ((5, 5), (9, 9), True),
        ((6, None), (9, 9), True),  # nothing is known of the second
        ((10, 10), (3, 3), True),  # neither sample reaches as far as the child's: its size is not known
        ((10, 10), (9, 3), False),
    ],
)
def test_samples_count_out_a_child(missing: tuple[int | None, ...], thresholds: tuple[int, int], kept: bool) -> None:
    pairs = {n: Pair(child=0, parent=n, column_set=5) for n in (1, 2)}
    verdicts = {
        pairs[n]: Verdict(distinct=10, missing=m, excess=m)
        for n, m in zip((1, 2), missing, strict=True)
        if m is not None
    }
    reach = {0: 9, 1: thresholds[0], 2: thresholds[1]}
    assert not_counted_out({0: [1, 2]}, {0: 5}, verdicts, reach) == ([0] if kept else [])


@given(samples=st.lists(st.frozensets(st.integers(0, 9)), min_size=2, max_size=4), asked=st.sets(st.integers(0, 3)))
def test_a_child_that_the_candidates_hold_is_never_counted_out(samples: list[frozenset[int]], asked: set[int]) -> None:
    child = frozenset().union(*samples)
    verdicts = {
        Pair(child=9, parent=n, column_set=0): Verdict(distinct=len(child), missing=len(child - own), excess=0)
        for n, own in enumerate(samples)
        if n in asked
    }
    reach = dict.fromkeys((9, *range(len(samples))), 1)
    assert not_counted_out({9: list(range(len(samples)))}, {9: 0}, verdicts, reach) == [9]


def test_positions_are_those_that_are_set() -> None:
    for places in itertools.chain.from_iterable(itertools.combinations(range(10), size) for size in range(4)):
        assert positions_of(f"{sum(1 << place for place in places):x}") == set(places)
