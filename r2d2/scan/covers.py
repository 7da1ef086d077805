"""The stored tables of the search for unions: candidates, what stages have found out about them, and the unions.

A union is a table all of whose rows several others hold together, and no one of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.errors import EngineError
from r2d2.scan.members import SIZES, Kinds, Question, joined

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
        ("kinds", pa.binary()),
    ]
)

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
    """Which tables hold the rows of a child.

    Attributes:
        child: Position of the table.
        parents: The tables that were asked about, ascending.
        whole: All rows of all of them were looked at, not samples.
        missing: At least how many rows of the child no parent has, of those that were looked at; 0 if all are held.
        rows: Of the child and the parents, where these are whole.
        distinct: Likewise: distinct rows under the child's columns.
        kinds: Of all rows of the child, where the answer is whole and nothing is missing.
    """

    child: int
    parents: tuple[int, ...]
    whole: bool
    missing: int
    rows: tuple[int, ...]
    distinct: tuple[int, ...]
    kinds: Kinds

    def of(self, parents: Sequence[int]) -> Answer:
        """What some of the parents hold, where the answer is whole."""
        places = [self.parents.index(parent) for parent in parents]
        own = [0, *(1 + place for place in places)]
        kinds = self.kinds.of(places)
        return Answer(
            child=self.child,
            parents=tuple(parents),
            whole=self.whole,
            missing=self.missing + int(kinds.distinct[~kinds.held.any(axis=1)].sum()),
            rows=tuple(self.rows[place] for place in own),
            distinct=tuple(self.distinct[place] for place in own),
            kinds=kinds,
        )


def answers_of(
    told: Iterable[Mapping[str, Any]], questions: Sequence[Question], rows_of: Mapping[int, int], whole: Set[int]
) -> dict[int, Answer]:
    """The answers that all buckets give together, by child.

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
        else:
            missing[row["child"]] += row["missing"]
            parts.setdefault(row["child"], []).append(row["packed"])
    answers = {}
    for question in readable:
        is_whole = whole >= set(question.tables)
        rows, distinct = zip(
            *(sizes.get((table, question.column_set), (0, 0)) for table in question.tables), strict=True
        )
        if is_whole and rows != tuple(rows_of[table] for table in question.tables):
            raise EngineError("the engine lost rows between the scan and the search for unions; nothing was asserted")
        packed = parts.get(question.child, []) if is_whole and not missing[question.child] else []
        answers[question.child] = Answer(
            child=question.child,
            parents=question.parents,
            whole=is_whole,
            missing=missing[question.child],
            rows=rows,
            distinct=distinct,
            kinds=joined([Kinds.unpack(part) for part in packed], len(question.parents)),
        )
    return answers


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


def write_answers(store: StageStore, stage: str, answers: Mapping[int, Answer]) -> None:
    """Store what a stage knows about candidates."""
    rows = [{**vars(answer), "kinds": answer.kinds.pack()} for _, answer in sorted(answers.items())]
    store.write_table(stage, "answers", pa.Table.from_pylist(rows, schema=ANSWERS))


def read_answers(store: StageStore, stage: str) -> dict[int, Answer]:
    """What a stage has stored about candidates, by child."""
    rows = store.read_table(stage, "answers", ANSWERS).to_pylist()
    lists = ("parents", "rows", "distinct")
    answers = [
        Answer(**{**row, **{name: tuple(row[name]) for name in lists}, "kinds": Kinds.unpack(row["kinds"])})
        for row in rows
    ]
    return {answer.child: answer for answer in answers}


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
        outside: Distinct rows of each parent, under the child's columns, that the child lacks.
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
