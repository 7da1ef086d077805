"""Stage *MinHash*: samples of rows refute pairs whose child has a sampled row that the parent lacks.

The sample of a table under a column set holds every distinct fingerprint below a threshold that follows from its row
count alone. So a child's fingerprint below both thresholds that is not in the parent's sample is not in the parent.
The same samples say of children that several tables may hold together whether some row is in none of these. Where all
tables together have few rows, all rows are compared: that takes less than to read what samples leave once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from r2d2.model import SchemaGraph
from r2d2.scan.covers import Answers, questions_about, read_answers, read_candidates, write_answers
from r2d2.scan.job import Comparison, compare_tables
from r2d2.scan.members import Question
from r2d2.scan.plan import WHOLE_FACTOR, Pair, TableScan, column_sets, pairs_of, sample_threshold
from r2d2.scan.stored import (
    MINHASH,
    read_evidence,
    read_graph,
    read_leaves,
    read_pairs,
    read_verdicts,
    write_leaves,
    write_pairs,
    write_verdicts,
)

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun


def run_minhash(run: StageRun, graph_stage: str, evidence_stage: str, pairs_stage: str) -> dict[str, int]:
    """Store the pairs of an earlier stage that samples do not refute; tables that fail on the way are stored too.

    Pairs that this stage has answered before are not asked again, nor are questions about unions. What the scan sees of
    each file is compared with what the metadata had proved of it: claims that are wrong are stored, and leaves in which
    some engines lose NaN.

    Args:
        run: The audit.
        graph_stage: Whose schema classes the pairs belong to.
        evidence_stage: Whose evidence of all tables is stored, and the pairs that share most of their files.
        pairs_stage: Whose pairs are asked.

    Returns:
        The pairs that survive, wrong claims so far, and bytes that were read.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    pairs = read_pairs(run.store, pairs_stage)
    verdicts = read_verdicts(run.store, MINHASH)
    asked = [pair for pair in pairs if pair not in verdicts and run.inventory.are_active(pair)]
    answers = read_answers(run.store, MINHASH)
    questions = [q for q in _questions(run, graph, evidence_stage) if not _is_answered(q, answers)]
    comparison = _compare(run, asked, questions, graph, evidence_stage)
    run.fail(MINHASH, comparison.faults)
    verdicts |= comparison.verdicts
    lies = read_leaves(run.store, MINHASH, "lies") | set(comparison.lies)
    hidden = read_leaves(run.store, MINHASH, "hidden_nans") | set(comparison.hidden_nans)
    survivors = {
        pair: mark
        for pair, mark in pairs.items()
        if pair in verdicts and verdicts[pair].missing == 0 and run.inventory.are_active(pair)
    }
    write_verdicts(run.store, MINHASH, verdicts)
    write_answers(run.store, MINHASH, answers.and_later(comparison.answers))
    write_leaves(run.store, MINHASH, "lies", lies)
    write_leaves(run.store, MINHASH, "hidden_nans", hidden)
    write_pairs(run.store, MINHASH, survivors)
    counts = {"pairs": len(survivors), "lies": len(lies), "bytes_read": comparison.bytes_read}
    run.store.commit(MINHASH, counts)
    return counts


def _questions(run: StageRun, graph: SchemaGraph, sharing_stage: str) -> list[Question]:
    """About the children that several tables may hold together; where files are shared, few rows are read anyway."""
    sharing = {pair.child for pair in read_pairs(run.store, sharing_stage, name="sharing")}
    candidates = {child: parents for child, parents in read_candidates(run.store).items() if child not in sharing}
    return questions_about(candidates, graph, run.inventory.is_active)


def _is_answered(question: Question, answers: Answers) -> bool:
    known = answers.about.get(question.child)
    return known is not None and set(question.parents) <= set(known.parents)


def _compare(
    run: StageRun, pairs: Sequence[Pair], questions: Sequence[Question], graph: SchemaGraph, evidence_stage: str
) -> Comparison:
    """Samples of all tables, or all of their rows where these are few."""
    sets = column_sets([*pairs, *pairs_of(questions)], graph)
    evidence = read_evidence(run.store, evidence_stage, sets)
    scans = [
        TableScan(table=table, harvest=run.inventory.harvests[table], column_sets=own, evidence=evidence[table])
        for table, own in sorted(sets.items())
    ]
    if not _are_few(scans, run.config.whole_rows):
        scans = _sampled(scans, questions, run.config.sketch_rows)
    spark = run.engine.spark
    return compare_tables(spark, scans, pairs, run.kernels, run.engine_frames(spark), questions)


def _are_few(scans: Sequence[TableScan], most: int) -> bool:
    """Whether all rows may be compared: they are known to be few, and the kernels read them, which can read twice."""
    known = all(scan.harvest.rows is not None and scan.harvest.reader == "files" for scan in scans)
    return known and sum(scan.expected_rows for scan in scans) <= most


def _sampled(scans: Sequence[TableScan], questions: Sequence[Question], rows: int) -> list[TableScan]:
    """Scans of samples; larger ones of tables that are asked about together, since what is left is read whole."""
    together = {table for question in questions for table in question.tables}
    factors = (WHOLE_FACTOR if scan.table in together else 1 for scan in scans)
    return [
        replace(scan, threshold=sample_threshold(scan.harvest, rows, factor))
        for scan, factor in zip(scans, factors, strict=True)
    ]
