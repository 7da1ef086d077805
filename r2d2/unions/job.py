"""The engine's part of the search for unions: one job that scans tables and asks, bucket by bucket, who holds what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError, TableFault
from r2d2.model import SchemaGraph
from r2d2.scan.compare import bags_of
from r2d2.scan.items import EVERYTHING
from r2d2.scan.job import faults_of, run_in_buckets
from r2d2.scan.plan import Buckets, Pair, TableScan, assign_buckets, column_sets
from r2d2.scan.reports import REPORT
from r2d2.unions.cover import Kind
from r2d2.unions.members import (
    MEMBERS,
    NO_ANSWER,
    NO_PARENT,
    QUESTIONS,
    Question,
    answers,
    positions_of,
    questions_of,
    questions_text,
)

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

_REPORT_COLUMNS = ["table", "rows_read", "bytes_read", "error", "message", "status"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one parent has of a child.

    Attributes:
        rows: Its rows.
        outside: Its distinct rows, under the child's columns, that are not the child's.
    """

    rows: int
    outside: int


@dataclass(kw_only=True)
class Answer:
    """Which parents hold the rows of a child.

    Attributes:
        kinds: Its rows by the tables that hold them, in a fixed order.
        excess: Distinct rows that are there more often than in the chosen parents together.
        rows: Rows, repeated ones too.
        least: Of the rows that no parent holds: the least first lane, unsigned; None without such rows.
        parts: By chosen parent.
    """

    kinds: list[Kind] = field(default_factory=list)
    excess: int = 0
    rows: int = 0
    least: int | None = None
    parts: dict[int, Part] = field(default_factory=dict)

    @property
    def distinct(self) -> int:
        """Distinct rows."""
        return sum(kind.distinct for kind in self.kinds)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Outcome of a job: an answer for each child whose tables could all be read, and what the job has read."""

    of: Mapping[int, Answer]
    faults: Mapping[int, TableFault]
    bytes_read: int


def ask(run: StageRun, graph: SchemaGraph, questions: Sequence[Question], threshold_of: Mapping[int, int]) -> Answers:
    """Fingerprint the tables of some questions and answer them.

    Args:
        run: The audit.
        graph: Whose classes number the column sets.
        questions: At most one per child; `lasts` are filled in here.
        threshold_of: See ScanItem.threshold, by table; tables that it leaves out are read whole.

    Raises:
        EngineError: If the engine has lost rows on the way.
    """
    pairs = [
        Pair(child=question.child, parent=parent, column_set=question.column_set)
        for question in questions
        for parent in question.parents
    ]
    scans = [
        TableScan(
            table=table,
            harvest=run.inventory.harvests[table],
            column_sets=own,
            threshold=threshold_of.get(table, EVERYTHING),
        )
        for table, own in sorted(column_sets(pairs, graph).items())
    ]
    rows_of = {scan.table: scan.expected_rows for scan in scans}
    buckets = assign_buckets(pairs, rows_of, parallelism=run.kernels.parallelism)
    spark = run.engine.spark
    asked = _by_bucket(questions, buckets, threshold_of)
    rows, faults = run_in_buckets(
        spark, scans, buckets, run.kernels, run.engine_frames(spark), questions=asked, answer=_answer, schema=MEMBERS
    )
    return _outcome(rows, questions, scans, faults)


def _by_bucket(
    questions: Sequence[Question], buckets: Mapping[int, Buckets], threshold_of: Mapping[int, int]
) -> pa.Table:
    by_bucket: dict[int, list[Question]] = defaultdict(list)
    for question in questions:
        tables = (question.child, *question.parents)
        complete = replace(question, lasts=tuple(_last(threshold_of.get(table, EVERYTHING)) for table in tables))
        own = buckets[question.child]
        for number in range(own.count):
            by_bucket[own.first + number].append(complete)
    rows = [{"bucket": bucket, "questions": questions_text(own)} for bucket, own in sorted(by_bucket.items())]
    return pa.Table.from_pylist(rows, schema=QUESTIONS)


def _last(threshold: int) -> int:
    last = threshold - 1
    return last - (1 << 64) if last >= 1 << 63 else last


def _answer(fingerprints: pa.Table, questions: pa.Table) -> pa.Table:
    """The kernel: rows of MEMBERS, and the reports found among the fingerprints."""
    is_report = pc.equal(fingerprints["column_set"], REPORT)
    bags = bags_of(fingerprints.filter(pc.invert(is_report)))
    asked = [question for text in questions["questions"].to_pylist() for question in questions_of(text)]
    reports = fingerprints.filter(is_report).select(_REPORT_COLUMNS).to_pylist()
    return pa.Table.from_pylist([*answers(bags, asked), *({**NO_ANSWER, **row} for row in reports)], schema=MEMBERS)


def _outcome(
    rows: pa.Table, questions: Sequence[Question], scans: Sequence[TableScan], found_faults: Mapping[int, TableFault]
) -> Answers:
    told: dict[int, list[dict[str, Any]]] = {question.child: [] for question in questions}
    reports: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        if row["child"] == REPORT:
            reports.append(row)
        else:
            told[row["child"]].append(row)
    faults, read = faults_of(reports, scans, found_faults)
    readable = [question for question in questions if not faults.keys() & {question.child, *question.parents}]
    of = {question.child: _merged(told[question.child], question) for question in readable}
    whole = {scan.table for scan in scans if scan.threshold == EVERYTHING}
    if any(of[child].rows != read[child] for child in of if child in whole):
        raise EngineError("the engine lost rows between the scan and the search for unions; nothing was asserted")
    engine_bytes = sum(scan.harvest.table_bytes for scan in scans if scan.harvest.reader == "engine")
    return Answers(of=of, faults=faults, bytes_read=engine_bytes + sum(row["bytes_read"] for row in reports))


def _merged(rows: Sequence[Mapping[str, Any]], question: Question) -> Answer:
    """The answers of all buckets as one."""
    answer = Answer()
    distinct: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        if row["parent"] != NO_PARENT:
            part = answer.parts.get(row["parent"], Part(rows=0, outside=0))
            answer.parts[row["parent"]] = Part(rows=part.rows + row["rows"], outside=part.outside + row["excess"])
            continue
        distinct[row["held"], row["open"]] += row["distinct"]
        answer.excess += row["excess"]
        answer.rows += row["rows"]
        if not positions_of(row["held"]) and not positions_of(row["open"]):
            least = row["least"] % (1 << 64)
            answer.least = least if answer.least is None else min(answer.least, least)
    answer.kinds = [
        Kind(held=_named(held, question), open=_named(may, question), distinct=count)
        for (held, may), count in sorted(distinct.items())
    ]
    return answer


def _named(text: str, question: Question) -> frozenset[int]:
    return frozenset(question.parents[place] for place in positions_of(text))
