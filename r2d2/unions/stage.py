"""Stage *unions*: children that several tables hold together, no single one alone.

Metadata names the tables that may hold rows of a child before any row is read. MinHash asks its samples about these,
and verify asks all rows of what is left, so that no table is read for this alone; only what could not be asked there is
scanned here. A union is only asserted from the fingerprints of every row of the child and of all candidates, so which
tables are named never follows from a sample: whatever the keys of the fingerprints, the same lake has the same unions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.errors import EngineError
from r2d2.model import SchemaGraph
from r2d2.scan.covers import (
    UNIONS,
    Answer,
    Answers,
    Union,
    questions_about,
    read_answers,
    read_candidates,
    write_answers,
    write_candidates,
    write_unions,
)
from r2d2.scan.job import compare_tables
from r2d2.scan.plan import Pair, TableScan, column_sets, pairs_of
from r2d2.scan.stored import MINHASH, VERIFY, read_graph, read_identical
from r2d2.unions.candidates import blocks_of, by_metadata
from r2d2.unions.cover import Holders

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.scan.members import Question

log = logging.getLogger(__name__)

MOST_PARENTS = 400
"""Parents of one union, at most: beyond a year of daily parts it is no answer that helps."""

_EDGES = pa.schema([("child", pa.int32()), ("parent", pa.int32()), ("relation", pa.string())])


def run_candidates(run: StageRun, graph_stage: str, evidence_stage: str) -> dict[str, int]:
    """Store, before rows are read, which tables may hold rows of which children.

    Args:
        run: The audit.
        graph_stage: Whose schema classes are compared.
        evidence_stage: Whose evidence of all tables is stored; children that it proves to be in another are left out.

    Returns:
        The children.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    proved = {pair.child for pair in read_identical(run.store, evidence_stage) if run.inventory.are_active(pair)}
    active = _with_rows(run)
    found = by_metadata(run, list(blocks_of(graph, active - proved, active)), evidence_stage)
    write_candidates(run.store, found)
    return {"children": len(found)}


def run_unions(run: StageRun, graph_stage: str, evidence_stage: str) -> dict[str, int]:
    """Store the unions among the tables that no single table holds.

    Args:
        run: The audit, whose containments are verified.
        graph_stage: Whose schema classes are compared.
        evidence_stage: Whose evidence of all tables is stored.

    Returns:
        The unions, and bytes that were read here.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    search = _Search(run=run, graph=graph, candidates=_candidates(run, graph, evidence_stage))
    unions = search.run_all()
    write_unions(run.store, unions)
    write_answers(run.store, UNIONS, search.found)
    counts = {"unions": len(unions), "bytes_read": search.bytes_read}
    run.store.commit(UNIONS, counts)
    return counts


def other_unions(run: StageRun, graph_stage: str, without: Mapping[int, Set[int]]) -> list[Union]:
    """Other tables that hold the children of unions together, as far as is known from all rows that were read.

    Args:
        run: The audit, whose unions are stored.
        graph_stage: Whose schema classes were compared.
        without: By child, the tables that are not to be among them.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    stored = read_candidates(run.store)
    left = {child: [table for table in stored.get(child, ()) if table not in own] for child, own in without.items()}
    return _Search(run=run, graph=graph, candidates=left, found=read_answers(run.store, UNIONS)).known_unions()


def _with_rows(run: StageRun) -> set[int]:
    return {table for table, harvest in run.inventory.active() if harvest.rows != 0}


def _edges(run: StageRun) -> list[tuple[Pair, bool]]:
    """The containments between tables that are active, and whether they are equal."""
    rows = run.store.read_table(VERIFY, "edges", _EDGES).to_pylist()
    edges = [
        (Pair(child=row["child"], parent=row["parent"], column_set=-1), row["relation"] == "equal") for row in rows
    ]
    return [edge for edge in edges if run.inventory.are_active(edge[0])]


def _candidates(run: StageRun, graph: SchemaGraph, evidence_stage: str) -> dict[int, list[int]]:
    """The stored candidates; those of children that had too many are looked for again, one of equal tables for all."""
    stored = read_candidates(run.store)
    edges = _edges(run)
    undecided = {child for child, parents in stored.items() if not parents} - {pair.child for pair, _ in edges}
    copies = {max(pair.child, pair.parent) for pair, is_equal in edges if is_equal}
    blocks = list(blocks_of(graph, undecided & _with_rows(run), _with_rows(run) - copies)) if undecided else []
    again = by_metadata(run, blocks, evidence_stage)
    for child in sorted(child for child, parents in again.items() if not parents):
        log.warning("%s: too many tables may hold its rows; no union was looked for", run.inventory.found[child].id)
    return {child: parents for child, parents in {**stored, **again}.items() if parents}


@dataclass(kw_only=True)
class _Search:
    """The search for unions among some children.

    Attributes:
        run: The audit.
        graph: Its schema classes.
        candidates: By child, the tables that may hold rows of it.
        found: What was found out here about all rows.
        bytes_read: By all jobs so far.
    """

    run: StageRun
    graph: SchemaGraph
    candidates: Mapping[int, Sequence[int]]
    found: Answers = field(default_factory=Answers)
    bytes_read: int = 0

    def run_all(self) -> list[Union]:
        """The unions among the children, by child."""
        while unanswered := [q for q in self.open_questions() if self._answer(q) is None]:
            self._ask(unanswered)  # a table that fails opens questions about others
        return self.known_unions()

    def known_unions(self) -> list[Union]:
        """The unions among the children that all rows are known of, by child."""
        return sorted(self._unions(), key=lambda union: union.child)

    def _unions(self) -> Iterator[Union]:
        """The unions, group by group: who holds which rows is unpacked once for all children of one."""
        groups: dict[tuple[int, int], tuple[Answers, list[tuple[Question, Answer]]]] = {}
        for question in self.open_questions():
            known = self._answer(question)
            if known is not None and not known[1].missing and known[1].distinct[0]:
                answers, answer = known
                groups.setdefault((id(answers), answer.group), (answers, []))[1].append((question, answer))
        for (_, group), (answers, asked) in groups.items():
            holders = Holders(answers.kinds(group))
            for question, answer in asked:
                union = _union(holders, question, answer)
                if union is not None:
                    yield union

    def open_questions(self) -> list[Question]:
        """About the children that no table alone holds and that samples do not refute."""
        held = {pair.child for pair, _ in _edges(self.run)}
        left = {child: parents for child, parents in self.candidates.items() if child not in held}
        questions = questions_about(left, self.graph, self.run.inventory.is_active)
        return [q for q in questions if not any(_refutes(answer, q) for _, answer in self._known(q.child))]

    def _known(self, child: int) -> Iterator[tuple[Answers, Answer]]:
        """What is known about a child, and where."""
        for answers in (self.found, self._stored[VERIFY], self._stored[MINHASH]):
            if child in answers.about:
                yield answers, answers.about[child]

    @cached_property
    def _stored(self) -> dict[str, Answers]:
        return {stage: read_answers(self.run.store, stage) for stage in (VERIFY, MINHASH)}

    def _answer(self, question: Question) -> tuple[Answers, Answer] | None:
        """What all rows say, if they were asked."""
        wanted = set(question.parents)
        known = self._known(question.child)
        return next((own for own in known if own[1].whole and wanted <= set(own[1].parents)), None)

    def _ask(self, questions: Sequence[Question]) -> None:
        harvests, spark = self.run.inventory.harvests, self.run.engine.spark
        scans = [
            TableScan(table=table, harvest=harvests[table], column_sets=own)
            for table, own in sorted(column_sets(pairs_of(questions), self.graph).items())
        ]
        frames = self.run.engine_frames(spark)
        comparison = compare_tables(spark, scans, [], self.run.kernels, frames, questions)
        self.run.fail(UNIONS, comparison.faults)
        self.found = self.found.and_later(comparison.answers)
        self.bytes_read += comparison.bytes_read


def _refutes(answer: Answer, question: Question) -> bool:
    """Whether some rows of the child are in none of the tables that a question is about."""
    return answer.missing > 0 and set(question.parents) <= set(answer.parents)


def _union(holders: Holders, question: Question, answer: Answer) -> Union | None:
    """The union that all rows show; None where one table holds them, none does, or too many are needed.

    Raises:
        EngineError: If the engine has lost some of the child's rows on the way.
    """
    if holders.rows_of(question.child) != answer.distinct[0]:
        raise EngineError("the engine lost rows on the way to the search for unions; nothing was asserted")
    cover = holders.cover(question.child, question.parents)
    if cover is None or not 1 < len(cover.tables) <= MOST_PARENTS:
        return None
    place_of = {table: place for place, table in enumerate((answer.child, *answer.parents))}
    shared = dict(zip(cover.tables, cover.shared, strict=True))
    parents = tuple(sorted(cover.tables))
    return Union(
        child=answer.child,
        parents=parents,
        bag=cover.bag,
        child_rows=answer.rows[0],
        distinct=answer.distinct[0],
        parent_rows=tuple(answer.rows[place_of[parent]] for parent in parents),
        outside=tuple(answer.distinct[place_of[parent]] - shared[parent] for parent in parents),
    )
