"""Every trap as a pair of tables by real writers: the verdict is right, and metadata never says more than it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from r2d2.errors import TableUnsupported
from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Harvest
from r2d2.session import Engine
from tests.integration.adversarial.case import BAG, KEEP, NONE, REFUTE, Case
from tests.integration.adversarial.lake import (
    CASES,
    NOT_APPLICABLE,
    SIDES,
    UTC_CASES,
    metadata_says,
    pages_refute,
    write_lake,
    write_spark_tables,
)
from tests.integration.audit_helpers import Results, RunInProcess, run_audit

pytestmark = [pytest.mark.slow, pytest.mark.java, pytest.mark.timeout(1800)]  # the first test makes all tables

ALL = (*CASES, *UTC_CASES)
TRAPS = [f"T{number}" for number in range(1, 53)]
EXAMPLES = [f"S{number}" for number in range(1, 120, 2)]

Edge = tuple[str, str, str, bool, bool]


@pytest.fixture(scope="session")
def lakes(spark_process: RunInProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The lake of all cases, and that of the cases on the UTC clock."""
    folder = tmp_path_factory.mktemp("adversarial")
    made = {name: folder / name for name in ("cases", "utc")}
    spark_process(write_spark_tables, {name: str(lake) for name, lake in made.items()})
    write_lake(CASES, made["cases"])
    write_lake(UTC_CASES, made["utc"])
    return made


@pytest.fixture(scope="session")
def harvests(lakes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Harvest | str]:
    """Metadata of every table, or why it is unsupported."""
    options = TextOptions(csv_delimiter=None, csv_types="infer")
    copies = str(tmp_path_factory.mktemp("copies"))
    found: dict[str, Harvest | str] = {}
    for lake in lakes.values():
        for table in discover(str(lake)).tables:
            try:
                assert table.fault is None, table.fault
                found[table.id] = harvest_table(table, options, copies)
            except (TableUnsupported, AssertionError) as exc:
                found[table.id] = str(exc)
    return found


@contextmanager
def small_pages_count() -> Iterator[None]:
    """Pages of small tables are looked at like those of large ones while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("r2d2.prune.page_stage.worth_reading", lambda pairs, **_: pairs)
        patch.setattr("r2d2.prune.page_stage.PAGED_BYTES", 0)
        yield


@pytest.fixture(scope="session")
def audits(engine: Engine, lakes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Results]:
    """Audits of the two lakes."""
    out = tmp_path_factory.mktemp("results")
    recipes = "all" if engine.name == "sail" else "chosen"  # edges are judged here; a recipe costs Spark a job
    with small_pages_count():
        return {
            "cases": run_audit(lakes["cases"], out / "cases", spark=engine.spark, recipes=recipes),
            "utc": run_audit(lakes["utc"], out / "utc", spark=engine.spark, recipes=recipes, timestamps="utc"),
        }


def audited(audits: Mapping[str, Results], case: Case) -> Results:
    return audits["utc" if case in UTC_CASES else "cases"]


def edges_of(results: Results) -> set[Edge]:
    names = ("child", "parent", "relation", "bag", "set")
    return {tuple(edge[name] for name in names) for edge in results.edges}  # type: ignore[misc]


def expected_edges(case: Case, unread: set[str]) -> set[Edge]:
    child, parent = case.table("child"), case.table("parent")
    if {child, parent} & unread:
        return set()
    relation = "equal" if case.there is case.back is BAG else "contained"
    edges = {(child, parent): case.there, (parent, child): case.back}
    return {(*pair, relation, holds is BAG, True) for pair, holds in edges.items() if holds is not NONE}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_the_audit_finds_what_holds(case: Case, engine: Engine, audits: Mapping[str, Results]) -> None:
    results = audited(audits, case)
    ids = {case.table(side): side for side in SIDES}
    not_ok = {ids[table]: found for table, found in results.not_ok().items() if table in ids}
    reasons = {**case.not_read, **({} if engine.is_spark else case.spark_only)}
    assert not_ok.keys() == reasons.keys(), not_ok
    for side, (status, reason) in not_ok.items():
        assert status == "unsupported"
        assert re.search(reasons[side], reason)
    found = {edge for edge in edges_of(results) if edge[0] in ids or edge[1] in ids}
    assert found == expected_edges(case, {case.table(side) for side in not_ok})


def test_every_table_is_audited_and_none_fails(audits: Mapping[str, Results]) -> None:
    for name, cases in (("cases", CASES), ("utc", UTC_CASES)):
        assert {row["table"] for row in audits[name].tables} == {c.table(side) for c in cases for side in SIDES}
        assert [row for row in audits[name].tables if row["status"] == "failed"] == []


def test_the_engines_reader_finds_the_same_of_all_that_it_reads(
    engine: Engine, lakes: dict[str, Path], tmp_path: Path
) -> None:
    results = run_audit(lakes["cases"], tmp_path, spark=engine.spark, reader="engine")
    assert [row["table"] for row in results.tables if row["status"] == "failed"] == []
    unread = set(results.not_ok())
    expected = {edge for case in CASES for edge in expected_edges(case, unread)}
    assert len(unread) < len(results.tables) / 4
    assert edges_of(results) == expected


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_metadata_says_no_more_than_it_knows(case: Case, harvests: Mapping[str, Harvest | str]) -> None:
    found = {side: harvests[case.table(side)] for side in SIDES}
    unread = {side: reason for side, reason in found.items() if isinstance(reason, str)}
    assert unread.keys() == case.not_read.keys(), unread
    child, parent = found["child"], found["parent"]
    if isinstance(child, str) or isinstance(parent, str):
        return
    utc = case in UTC_CASES
    refuted, not_a_bag = metadata_says(child, parent, utc=utc)
    assert not (refuted and case.metadata is KEEP)
    assert refuted or case.metadata is not REFUTE
    assert not (not_a_bag and case.there is BAG)
    refuted_back, not_a_bag_back = metadata_says(parent, child, utc=utc)
    assert not (refuted_back and case.back is not NONE)
    assert not (not_a_bag_back and case.back is BAG)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_pages_refute_no_containment(case: Case, harvests: Mapping[str, Harvest | str]) -> None:
    child, parent = (harvests[case.table(side)] for side in ("child", "parent"))
    if not isinstance(child, str) and not isinstance(parent, str):
        utc = case in UTC_CASES
        with small_pages_count():
            assert not (case.there is not NONE and pages_refute(child, parent, utc=utc))
            assert not (case.back is not NONE and pages_refute(parent, child, utc=utc))


def test_every_trap_and_example_has_a_case_or_a_reason() -> None:
    covered = {tag for case in ALL for tag in case.covers}
    assert covered <= {*TRAPS, *EXAMPLES}
    assert {*TRAPS, *EXAMPLES} - covered == set(NOT_APPLICABLE) - covered


def test_names_of_cases_differ() -> None:
    names = [case.name for case in ALL]
    assert len(set(names)) == len(names)


def test_the_page_on_soundness_names_cases_that_exist() -> None:
    table = (Path(__file__).parents[3] / "docs" / "soundness.md").read_text().split("\n| group | trap |")[1]
    named = set(re.findall(r"`(\w+)`", table))
    assert len(named) > 20
    assert named <= {case.name for case in ALL}
