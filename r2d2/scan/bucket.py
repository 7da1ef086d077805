"""Kernel: all questions about one bucket of fingerprints, those about pairs and those about several parents."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.compare import SEVERAL, VERDICTS, bags_of, verdicts
from r2d2.scan.members import answers, questions_of
from r2d2.scan.reports import NO_REPORT, REPORT

_NO_COUNTS = dict.fromkeys(("distinct", "missing", "excess", "child_rows", "parent_rows"), 0)
_NO_VERDICT = {
    "child": REPORT,
    "parent": REPORT,
    "column_set": REPORT,
    **_NO_COUNTS,
    "packed": b"",
    "table": REPORT,
    **NO_REPORT,
}


def answer_bucket(fingerprints: pa.Table, questions: pa.Table) -> pa.Table:
    """Answers about a bucket, with the reports found among its fingerprints.

    Args:
        fingerprints: Schema FINGERPRINTS; a fingerprint may come in several rows whose counts add up.
        questions: Schema QUESTIONS; where else they are asked does not matter.

    Returns:
        Schema VERDICTS: one row per pair, then what `members.answers` says, then one row per report.
    """
    is_report = pc.equal(fingerprints["column_set"], REPORT)
    children = set(zip(questions["child"].to_pylist(), questions["column_set"].to_pylist(), strict=True))
    bags = bags_of(fingerprints.filter(pc.invert(is_report)), children)
    is_pair = pc.not_equal(questions["parent"], SEVERAL)
    rows = [{**_NO_VERDICT, **verdict} for verdict in verdicts(bags, questions.filter(is_pair))]
    about_several = questions_of(questions.filter(pc.invert(is_pair)))
    rows += [{**_NO_VERDICT, **answer} for answer in answers(bags, about_several)]
    reports = fingerprints.filter(is_report).select(["table", *NO_REPORT]).to_pylist()
    rows += [{**_NO_VERDICT, **row} for row in reports]
    return pa.Table.from_pylist(rows, schema=VERDICTS)
