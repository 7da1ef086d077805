"""The lakes of all cases, which of them stand for which trap, and what metadata says about a pair."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from r2d2.model import Harvest, leaves
from r2d2.prune.blocks import answer, blocks_of
from r2d2.prune.evidence import packed_evidence
from r2d2.prune.page_items import DONE
from r2d2.prune.page_stage import page_answers
from r2d2.prune.pages import Belief
from r2d2.prune.schema_graph import build_schema_graph, fits
from r2d2.scan.plan import Pair
from tests.integration.adversarial import (
    cases_delta,
    cases_iceberg,
    cases_nested,
    cases_numbers,
    cases_tables,
    cases_text,
    cases_time,
)
from tests.integration.adversarial.case import Case
from tests.integration.adversarial.writers import Place
from tests.integration.audit_helpers import QUICK_SPARK, classic_engine

SIDES = ("parent", "child")  # in the order in which they are made
CASES: tuple[Case, ...] = (
    *cases_text.CASES,
    *cases_numbers.CASES,
    *cases_time.CASES,
    *cases_nested.CASES,
    *cases_tables.CASES,
    *cases_delta.CASES,
    *cases_iceberg.CASES,
)
UTC_CASES: tuple[Case, ...] = tuple(cases_time.UTC_CASES)

NOT_APPLICABLE = {
    "T42": "statistics of a catalog (ANALYZE) are never read",
    "T45": "no pair of tables but a change during the audit: test_bad_input.py and test_safety.py change lakes",
    "S101": "statistics of a catalog (ANALYZE) are never read",
    "S115": "no signature is stored or exchanged: sketches are made anew in every audit with keys of its own",
    "S119": "no pair of tables but a change during the audit: the version that is scanned is the one of the metadata",
}


def write_lake(cases: Sequence[Case], lake: Path) -> None:
    """Make the tables that need no Spark."""
    for case in cases:
        _write(case, lake, None)


def write_spark_tables(lakes: dict[str, str]) -> None:
    """Make the tables that need Spark, by the name of their set of cases."""
    with classic_engine() as engine, ThreadPoolExecutor(4) as pool:
        sets = {"cases": CASES, "utc": UTC_CASES}
        work = [(case, Path(lake)) for name, lake in lakes.items() for case in sets[name]]
        list(pool.map(lambda job: _write(*job, engine.spark), work))


def _write(case: Case, lake: Path, spark: Any) -> None:
    """Make the tables of a case that need Spark, or those that do not."""
    sides = [side for side in SIDES if getattr(case, side).needs_spark == (spark is not None)]
    session = _quick_session(spark) if sides and spark is not None else None
    for side in sides:
        try:
            getattr(case, side).write(Place(folder=lake / case.table(side), prefix=f"{case.name}_", spark=session))
        except Exception as exc:
            raise RuntimeError(f"{case.table(side)} could not be made: {exc}") from exc


def _quick_session(spark: Any) -> Any:
    """A session with settings of its own that suit tables of a few rows."""
    session = spark.newSession()
    for name, value in QUICK_SPARK.items():
        session.conf.set(name, value)
    return session


def pages_refute(child: Harvest, parent: Harvest, *, utc: bool = False) -> bool:
    """Whether dictionaries and bounds of pages refute the child in the parent."""
    tables = {0: child, 1: parent}
    paths = {place: [path for path, _ in leaves(table.schema)] for place, table in tables.items()}
    graph = build_schema_graph(paths, case_sensitive=False)
    if len(graph.class_of) < len(tables) or not fits(graph.class_of[0], graph.class_of[1]):
        return False
    evidence = {place: packed_evidence(table, utc=utc) for place, table in tables.items()}
    pair = Pair(child=0, parent=1, column_set=graph.class_of[0].id)
    rows = page_answers(graph, [pair], tables, evidence, Belief(utc=utc)).to_pylist()
    return any(row["child"] != DONE for row in rows)


def metadata_says(child: Harvest, parent: Harvest, *, utc: bool = False) -> tuple[bool, bool]:
    """Whether metadata alone refutes the child in the parent, and whether it excludes that it is a bag of its rows."""
    tables = (child, parent)
    graph = build_schema_graph(
        {place: [path for path, _ in leaves(table.schema)] for place, table in enumerate(tables)}, case_sensitive=False
    )
    evidence = {place: packed_evidence(table, utc=utc) for place, table in enumerate(tables)}
    found = answer(0, list(blocks_of(graph)), evidence).to_pylist()
    survived = [row for row in found if (row["child"], row["parent"]) == (0, 1)]
    return not survived, not survived or survived[0]["bag_excluded"]
