"""Stage *unions*: children that several tables hold together, no single one alone.

Metadata names the tables that may hold rows of a child, samples refute most children and propose few tables for the
others, and only fingerprints of every row assert that tables hold all of them. Which tables are named follows from
all rows alone, never from a sample: whatever the keys of the fingerprints, the same lake has the same unions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import SchemaGraph
from r2d2.scan.covers import UNIONS, Union, write_unions
from r2d2.scan.plan import sample_threshold
from r2d2.scan.stored import VERIFY, read_graph, read_verdicts
from r2d2.unions.candidates import blocks_of, by_metadata, not_counted_out
from r2d2.unions.cover import is_refuted, minimal, proposed
from r2d2.unions.job import Answer, ask
from r2d2.unions.members import Question

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

log = logging.getLogger(__name__)

MOST_PARENTS = 400
"""Parents of one union, at most: beyond a year of daily parts it is no answer that helps."""

SAMPLE_FACTOR = 4
"""Times the rows of a sketch: what a sample does not refute costs a look at all rows."""

_EDGES = pa.schema([("child", pa.int32()), ("parent", pa.int32()), ("relation", pa.string())])


def run_unions(run: StageRun, graph_stage: str, evidence_stage: str, samples_stage: str) -> dict[str, int]:
    """Store the unions among the tables that no single table holds.

    Args:
        run: The audit, whose containments are verified.
        graph_stage: Whose schema classes are compared.
        evidence_stage: Whose evidence of all tables is stored.
        samples_stage: Whose verdicts say what samples of pairs have in common.

    Returns:
        The unions, children whose rows had to be looked at, and bytes that were read.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    edges = run.store.read_table(VERIFY, "edges", _EDGES).to_pylist()
    held = {edge["child"] for edge in edges}
    copies = {max(edge["child"], edge["parent"]) for edge in edges if edge["relation"] == "equal"}
    active = {table for table, harvest in run.inventory.active() if harvest.rows != 0}
    blocks = list(blocks_of(graph, active - held, active - copies))
    found = by_metadata(run, blocks, evidence_stage)
    for child in sorted(child for child, parents in found.items() if not parents):
        log.warning("%s: too many tables may hold its rows; no union was looked for", run.inventory.found[child].id)
    column_set_of = {child: graph.class_of[child].id for child in found}
    several = {child: parents for child, parents in found.items() if parents}
    harvests = run.inventory.harvests
    sampled = {table: sample_threshold(harvests[table], run.config.sketch_rows) for table in active}
    left = not_counted_out(several, column_set_of, read_verdicts(run.store, samples_stage), sampled)
    search = _Search(run=run, graph=graph, candidates={child: several[child] for child in sorted(left)})
    unions = search.run_all()
    write_unions(run.store, unions)
    counts = {"unions": len(unions), "children": len(left), "bytes_read": search.bytes_read}
    run.store.commit(UNIONS, counts)
    return counts


@dataclass(kw_only=True)
class _Search:
    """The search for covers of some children, a few jobs for all of them together.

    Attributes:
        run: The audit.
        graph: Its schema classes.
        candidates: By child, the tables that may hold rows of it.
        bytes_read: By all jobs so far.
    """

    run: StageRun
    graph: SchemaGraph
    candidates: dict[int, list[int]]
    bytes_read: int = 0

    def run_all(self) -> list[Union]:
        """The unions among the children, by child."""
        likely = self._covered(self._sampled())
        covers: dict[int, list[int]] = {}
        for child, answer in self._ask({child: ((), self.candidates[child]) for child in likely}, {}).items():
            cover = [] if is_refuted(answer.kinds) else minimal(answer.kinds, proposed(answer.kinds))
            if 1 < len(cover) <= MOST_PARENTS:  # one that holds it alone was denied by metadata
                covers[child] = cover
        confirmed = self._ask({child: (cover, ()) for child, cover in covers.items()}, {})
        return [
            _union(child, covers[child], answer)
            for child, answer in sorted(confirmed.items())
            if not is_refuted(answer.kinds)
        ]

    def _sampled(self) -> dict[int, list[int]]:
        """A cover that samples propose for each child that they do not refute."""
        answers = self._ask({child: ((), parents) for child, parents in self.candidates.items()}, self._thresholds())
        open_answers = {child: answer for child, answer in answers.items() if not is_refuted(answer.kinds)}
        return {child: proposed(answer.kinds) for child, answer in open_answers.items()}

    def _thresholds(self) -> dict[int, int]:
        tables = {*self.candidates, *(table for parents in self.candidates.values() for table in parents)}
        harvests = self.run.inventory.harvests
        rows = SAMPLE_FACTOR * self.run.config.sketch_rows
        return {table: sample_threshold(harvests[table], rows) for table in tables}

    def _covered(self, covers: Mapping[int, Sequence[int]]) -> list[int]:
        """Children whose proposed cover holds all rows, or lacks some that another candidate may hold.

        What a cover lacks is looked for in the others by its least fingerprint, so that few need to be compared.
        """
        answers = self._ask({child: (cover, ()) for child, cover in covers.items() if cover}, {})
        unseen = {child for child, cover in covers.items() if not cover}  # whose sample had no row
        lacking = {child: answer.least for child, answer in answers.items() if answer.least is not None}
        asked = {child: (covers[child], self._others(child, covers[child])) for child in lacking}
        thresholds: dict[int, int] = {}
        for child, (cover, others) in asked.items():
            for table in (child, *cover, *others):
                thresholds[table] = max(thresholds.get(table, 0), lacking[child] + 1)
        found = {child for child, answer in self._ask(asked, thresholds).items() if answer.least is None}
        return sorted(unseen | found | (answers.keys() - lacking.keys()))

    def _others(self, child: int, cover: Iterable[int]) -> list[int]:
        return sorted(set(self.candidates[child]) - set(cover))

    def _ask(
        self, asked: Mapping[int, tuple[Sequence[int], Sequence[int]]], thresholds: Mapping[int, int]
    ) -> dict[int, Answer]:
        """Answers about chosen and other parents by child; tables that fail take no further part."""
        found: dict[int, Answer] = {}
        while questions := self._questions({child: asked[child] for child in asked.keys() - found.keys()}):
            answers = ask(self.run, self.graph, questions, thresholds)
            self.run.fail(UNIONS, answers.faults)
            self.bytes_read += answers.bytes_read
            found |= answers.of
            if not answers.faults:
                break
        return found

    def _questions(self, asked: Mapping[int, tuple[Sequence[int], Sequence[int]]]) -> list[Question]:
        inventory = self.run.inventory
        questions = [
            Question(
                child=child,
                column_set=self.graph.class_of[child].id,
                chosen=tuple(chosen),
                others=tuple(table for table in others if inventory.is_active(table)),
            )
            for child, (chosen, others) in sorted(asked.items())
            if all(inventory.is_active(table) for table in (child, *chosen))
        ]
        return [question for question in questions if question.parents]


def _union(child: int, cover: Sequence[int], answer: Answer) -> Union:
    parents = tuple(sorted(cover))
    return Union(
        child=child,
        parents=parents,
        bag=answer.excess == 0,
        child_rows=answer.rows,
        distinct=answer.distinct,
        parent_rows=tuple(answer.parts[parent].rows for parent in parents),
        outside=tuple(answer.parts[parent].outside for parent in parents),
    )
