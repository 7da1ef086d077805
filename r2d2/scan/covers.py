"""The stored tables of the search for unions: candidates, what stages have found out about them, and the unions.

A union is a table all of whose rows several others hold together, and no one of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.errors import EngineError
from r2d2.scan.kinds import Kinds
from r2d2.scan.members import ALONE, KINDS, SIZES, Question

if TYPE_CHECKING:
    from r2d2.model import SchemaGraph
    from r2d2.store.stages import StageStore

UNIONS = "unions"
"""Name of the stage that stores them."""

CANDIDATES = pa.schema([("child", pa.int32()), ("parents", pa.list_(pa.int32()))])
"""Tables that may hold rows of a child; none where there are too many."""

ANSWERS = pa.schema(
    [
        ("child", pa.int32()),
        ("parents", pa.list_(pa.int32())),
        ("whole", pa.bool_()),
        ("missing", pa.int64()),
        ("rows", pa.list_(pa.int64())),
        ("distinct", pa.list_(pa.int64())),
        ("group", pa.int32()),
    ]
)
STORED_KINDS = pa.schema([("group", pa.int32()), ("kinds", pa.large_binary())])
"""What buckets say about the tables of a group."""

STORED_UNIONS = pa.schema(
    [
        ("child", pa.int32()),
        ("parents", pa.list_(pa.int32())),
        ("bag", pa.bool_()),
        ("child_rows", pa.int64()),
        ("distinct", pa.int64()),
        ("parent_rows", pa.list_(pa.int64())),
        ("outside", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether several tables hold the rows of a child.

    Attributes:
        child: Position of the table.
        parents: The tables that were asked about, ascending.
        whole: All rows of all of them were looked at, not samples.
        missing: How many rows of the child no other table of the comparison has, of those that were looked at.
        rows: Of the child and the parents, where these are whole.
        distinct: Likewise: distinct rows under the child's columns. Those of a parent that no child has may count as
            one.
        group: Where its rows are among the kinds, if the answer is whole and nothing is missing.
    """

    child: int
    parents: tuple[int, ...]
    whole: bool
    missing: int
    rows: tuple[int, ...]
    distinct: tuple[int, ...]
    group: int


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers about some children, and who holds which of their rows.

    Attributes:
        about: By child.
        parts: By group of answers, the packed kinds of its buckets.
    """

    about: Mapping[int, Answer] = field(default_factory=dict)
    parts: Mapping[int, Sequence[bytes]] = field(default_factory=dict)

    def kinds(self, group: int) -> Kinds:
        """The kinds of a group's rows."""
        return Kinds.joined([Kinds.unpack(part) for part in self.parts.get(group, ())])

    def and_later(self, later: Answers) -> Answers:
        """These and later ones, which count where both are about a child."""
        shift = 1 + max((answer.group for answer in self.about.values()), default=-1)
        shifted = {child: replace(answer, group=answer.group + shift) for child, answer in later.about.items()}
        about = {**self.about, **shifted}
        parts = {**self.parts, **{group + shift: own for group, own in later.parts.items()}}
        return Answers(about=about, parts=_needed(parts, about))


def _needed(parts: Mapping[int, Sequence[bytes]], about: Mapping[int, Answer]) -> dict[int, Sequence[bytes]]:
    """The kinds in which a child of some answers may be found."""
    groups = {answer.group for answer in about.values() if answer.whole and not answer.missing}
    return {group: own for group, own in parts.items() if group in groups}


def answers_of(
    told: Iterable[Mapping[str, Any]], questions: Sequence[Question], rows_of: Mapping[int, int], whole: Set[int]
) -> Answers:
    """The answers that all buckets give together.

    Args:
        told: What `members.answers` yields.
        questions: About these tables.
        rows_of: Rows that were read, by table, without the tables that have a fault: nothing is said of these.
        whole: The tables of which every fingerprint was kept.

    Raises:
        EngineError: If the engine has lost rows on the way.
    """
    readable = [question for question in questions if rows_of.keys() >= set(question.tables)]
    missing = dict.fromkeys((question.child for question in questions), 0)
    parts: dict[int, list[bytes]] = {}
    sizes: dict[tuple[int, int], list[int]] = {}
    for row in told:
        if row["parent"] == SIZES:
            size = sizes.setdefault((row["child"], row["column_set"]), [0, 0])
            size[0] += row["child_rows"]
            size[1] += row["distinct"]
        elif row["parent"] == KINDS:
            parts.setdefault(row["column_set"], []).append(row["packed"])
        elif row["parent"] == ALONE:
            missing[row["child"]] += row["missing"]
        else:
            raise EngineError("the engine returned an answer of no known kind; nothing was asserted")
    answers = {}
    for question in readable:
        is_whole = whole >= set(question.tables)
        rows, distinct = zip(
            *(sizes.get((table, question.column_set), (0, 0)) for table in question.tables), strict=True
        )
        if is_whole and rows != tuple(rows_of[table] for table in question.tables):
            raise EngineError("the engine lost rows between the scan and the search for unions; nothing was asserted")
        answers[question.child] = Answer(
            child=question.child,
            parents=question.parents,
            whole=is_whole,
            missing=missing[question.child],
            rows=rows,
            distinct=distinct,
            group=question.column_set,
        )
    return Answers(about=answers, parts=_needed(parts, answers))


def questions_about(
    candidates: Mapping[int, Sequence[int]], graph: SchemaGraph, is_active: Callable[[int], bool]
) -> list[Question]:
    """Questions about active children with several active candidates, by child."""
    left = {c: tuple(filter(is_active, parents)) for c, parents in sorted(candidates.items()) if is_active(c)}
    return [
        Question(child=child, column_set=graph.class_of[child].id, parents=parents)
        for child, parents in left.items()
        if len(parents) > 1
    ]


def write_candidates(store: StageStore, candidates: Mapping[int, Sequence[int]]) -> None:
    """Store candidates by child."""
    rows = [{"child": child, "parents": list(parents)} for child, parents in sorted(candidates.items())]
    store.write_table(UNIONS, "candidates", pa.Table.from_pylist(rows, schema=CANDIDATES))


def read_candidates(store: StageStore) -> dict[int, list[int]]:
    """Stored candidates by child; none where the audit does not look for unions."""
    rows = store.read_table(UNIONS, "candidates", CANDIDATES).to_pylist()
    return {row["child"]: row["parents"] for row in rows}


def write_answers(store: StageStore, stage: str, answers: Answers) -> None:
    """Store what a stage knows about candidates."""
    rows = [vars(answer) for _, answer in sorted(answers.about.items())]
    parts = [{"group": group, "kinds": part} for group, own in sorted(answers.parts.items()) for part in own]
    store.write_table(stage, "answers", pa.Table.from_pylist(rows, schema=ANSWERS))
    store.write_table(stage, "kinds", pa.Table.from_pylist(parts, schema=STORED_KINDS))


def read_answers(store: StageStore, stage: str) -> Answers:
    """What a stage has stored about candidates."""
    lists = ("parents", "rows", "distinct")
    answers = [
        Answer(**{**row, **{name: tuple(row[name]) for name in lists}})
        for row in store.read_table(stage, "answers", ANSWERS).to_pylist()
    ]
    parts: dict[int, list[bytes]] = {}
    for row in store.read_table(stage, "kinds", STORED_KINDS).to_pylist():
        parts.setdefault(row["group"], []).append(row["kinds"])
    return Answers(about={answer.child: answer for answer in answers}, parts=parts)


@dataclass(frozen=True, kw_only=True)
class Union:
    """A child that some tables hold together, as a set at least; none of them could be left out.

    Attributes:
        child: Position of the table.
        parents: Positions of the tables that hold it, ascending.
        bag: They hold each row at least as often together as the child does.
        child_rows: Its rows, repeated ones too.
        distinct: Its distinct rows.
        parent_rows: Rows of each parent.
        outside: Distinct rows of each parent, under the child's columns, that the child lacks: at least so many, and
            none only if it lacks none.
    """

    child: int
    parents: tuple[int, ...]
    bag: bool
    child_rows: int
    distinct: int
    parent_rows: tuple[int, ...]
    outside: tuple[int, ...]

    @property
    def tables(self) -> tuple[int, ...]:
        """Child and parents."""
        return (self.child, *self.parents)


OtherUnions = Callable[[Mapping[int, Set[int]]], Sequence[Union]]
"""Given by child the tables that are in the way: unions of the children without these."""


def write_unions(store: StageStore, unions: Sequence[Union]) -> None:
    """Store unions."""
    rows = [asdict(union) for union in unions]
    store.write_table(UNIONS, "unions", pa.Table.from_pylist(rows, schema=STORED_UNIONS))


def read_unions(store: StageStore) -> list[Union]:
    """The stored unions, by child; none where the audit did not look for them."""
    rows = store.read_table(UNIONS, "unions", STORED_UNIONS).to_pylist()
    lists = ("parents", "parent_rows", "outside")
    unions = [Union(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows]
    return sorted(unions, key=lambda union: union.child)
