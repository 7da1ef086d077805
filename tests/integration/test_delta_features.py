"""Every feature of Delta that is read, in whole audits beside copies, subsets and near-copies of the same rows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2 import pipeline
from r2d2.errors import TableUnsupported
from r2d2.model import Harvest
from r2d2.scan.deletes import Deletes
from r2d2.session import Engine
from tests.integration.audit_helpers import EdgeKey, Results, RunInProcess, run_audit
from tests.integration.delta_features import CASES, READ, TABLE, UNREAD, Case, MadeLake, counted, make_lake
from tests.integration.delta_tables import assert_claims_hold, harvest

pytestmark = [pytest.mark.java, pytest.mark.slow]

CLONES = {"clone_kept", "clone_changed"}
"""Their logs name files by absolute path, which Sail's reader does not open."""
NEEDS_ENGINE = {"evolved_in_list"}


@pytest.fixture(scope="session")
def made(spark_process: RunInProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MadeLake]:
    """The lake with all cases, and what Spark reads from it."""
    lake = tmp_path_factory.mktemp("features") / "lake"
    outcome = spark_process(make_lake, str(lake))
    assert outcome.wrong == {}
    return lake, outcome


@pytest.fixture(scope="session")
def lake(made: tuple[Path, MadeLake]) -> Path:
    """The lake with all cases."""
    return made[0]


def table_of(lake: Path, case: Case) -> Path:
    return lake / case.folder / case.name / TABLE


def logged(table: Path) -> str:
    return "".join(file.read_text() for file in sorted((table / "_delta_log").glob("*.json")))


# ---- the tables are what they are meant to be


@pytest.mark.parametrize("case", [*READ, *(case for case, _ in UNREAD)], ids=lambda case: case.name)
def test_the_log_shows_the_feature(case: Case, lake: Path) -> None:
    log = logged(table_of(lake, case))
    assert [mark for mark in case.marks if mark not in log] == []


def test_logs_have_the_files_that_they_are_about(lake: Path) -> None:
    kinds = {
        "multi_part_checkpoint": "*.checkpoint.*.*.parquet",
        "v2_checkpoint_json": "*.checkpoint.*-*.json",
        "v2_checkpoint_parquet": "*.checkpoint.*-*.parquet",
        "compacted_log": "*.compacted.json",
        "constrained": "*.crc",
        "struct_statistics": "*.checkpoint.parquet",
    }
    for name, pattern in kinds.items():
        assert list((lake / "more" / name / TABLE / "_delta_log").glob(pattern)), name
    assert list((lake / "more" / "v2_checkpoint_json" / TABLE / "_delta_log" / "_sidecars").iterdir())
    assert list((lake / "more" / "change_data_feed" / TABLE / "_change_data").glob("*.parquet"))
    (checkpoint,) = (lake / "more" / "struct_statistics" / TABLE / "_delta_log").glob("*4.checkpoint.parquet")
    add = pq.read_schema(checkpoint).field("add").type
    assert "stats_parsed" in (names := [field.name for field in add])
    assert "stats" not in names


# ---- harvest


@pytest.mark.parametrize("case", READ, ids=lambda case: case.name)
def test_every_claim_is_true_of_the_rows_that_spark_reads(case: Case, made: tuple[Path, MadeLake]) -> None:
    lake, outcome = made
    rows = outcome.rows[case.name]
    found = harvest(table_of(lake, case))
    assert_claims_hold(found, lambda uri: rows.get(uri, []))
    assert found.rows == sum(map(len, rows.values()))
    assert set(rows) <= {fragment.data_uri for fragment in found.fragments}
    assert (found.reader == "engine") == (case.name in NEEDS_ENGINE)


def test_bounds_are_known_where_writers_are_trusted(lake: Path) -> None:
    bounded = {
        name: {claim.leaf[0] for claim in harvest(lake / "more" / name / TABLE).claims if claim.low is not None}
        for name in ("struct_statistics", "row_tracking", "generated", "clustered")
    }
    assert bounded == {
        "struct_statistics": {"id", "s"},
        "row_tracking": {"id", "s"},
        "generated": {"id", "twice"},
        "clustered": {"id", "s"},
    }


def test_equal_deletion_vectors_have_equal_names(lake: Path) -> None:
    source, kept, changed = (
        deletes_by_file(harvest(lake / "core" / name / TABLE))
        for name in ("clone_source", "clone_kept", "clone_changed")
    )
    inline, on_disk = (deletes_by_file(harvest(lake / "core" / name / TABLE)) for name in ("dv_inline", "dv_delete"))
    (shared,) = kept
    names = {source[shared], kept[shared], changed[shared]}
    assert "" not in names
    assert len(names) == 3
    assert [name for uri, name in changed.items() if uri != shared] == [""]
    assert all(Deletes.from_text(name).inline for name in inline.values())
    assert all("deletion_vector_" in name for name in on_disk.values())


def deletes_by_file(found: Harvest) -> dict[str, str]:
    return {fragment.data_uri: fragment.deletes for fragment in found.fragments}


def test_a_clone_names_the_deletion_vectors_of_its_source_as_the_source_does(lake: Path, tmp_path: Path) -> None:
    """The source is set back to the version that was cloned, by hand: its later commits are taken away."""
    source = lake / "core" / "clone_source" / TABLE
    now = harvest(source)
    log = tmp_path / "source" / "_delta_log"
    log.mkdir(parents=True)
    for commit in sorted((source / "_delta_log").glob("*.json"))[:3]:
        shutil.copy(commit, log)
    for file in [*source.glob("*.parquet"), *source.glob("deletion_vector_*")]:
        shutil.copy2(file, tmp_path / "source")
    then = deletes_by_file(harvest(tmp_path / "source"))
    kept = deletes_by_file(harvest(lake / "core" / "clone_kept" / TABLE))
    assert [name.replace(str(tmp_path / "source"), str(source)) for name in then.values()] == list(kept.values())
    assert set(kept) == {fragment.data_uri for fragment in now.fragments}


@pytest.mark.parametrize(("case", "reason"), UNREAD, ids=lambda value: getattr(value, "name", None))
def test_what_is_not_read_is_named(case: Case, reason: str, lake: Path) -> None:
    with pytest.raises(TableUnsupported, match=reason):
        harvest(table_of(lake, case))


# ---- whole audits


def edge(child: str, parent: str, tables: dict[str, pa.Table]) -> EdgeKey | None:
    """The edge that counting rows in Python gives."""
    names = tables[child].column_names
    if not set(names) <= set(tables[parent].column_names):
        return None
    inner, outer = counted(tables[child]), counted(tables[parent], names)
    if not inner.keys() <= outer.keys():
        return None
    bag = inner <= outer
    same = len(names) == tables[parent].num_columns and inner == outer
    return (child, parent, "equal" if same else "contained", bag, True, inner.total(), outer.total())


def truth(lake: Path, cases: tuple[Case, ...]) -> dict[str, pa.Table]:
    """Rows by table id, ids relative to the lake."""
    tables = {}
    for case in cases:
        folder = lake / case.folder / case.name
        for file in folder.glob("*.parquet"):
            tables[f"{case.folder}/{case.name}/{file.name}"] = pq.read_table(file)
        tables[f"{case.folder}/{case.name}/{TABLE}"] = pq.read_table(folder / "copy.parquet")
    return tables


def assert_finds(results: Results, tables: dict[str, pa.Table], missing: set[str]) -> None:
    """Fail unless an audit found exactly the edges among the tables that it could read."""
    read = {name: table for name, table in tables.items() if name not in missing}
    expected = {found for pair in permutations(read, 2) if (found := edge(*pair, read)) is not None}
    assert results.edge_keys == expected
    assert {name: results.status(name) for name in tables} == {
        name: "unsupported" if name in missing else "ok" for name in tables
    }
    rows = {row["table"]: row["rows"] for row in results.tables}
    assert {name: rows[name] for name in read} == {name: table.num_rows for name, table in read.items()}


def assert_safe(results: Results) -> None:
    """Fail if a plan deletes what a clone reads, or rebuilds a table from one that not every engine reads alike."""
    deleted = {row["table"].removeprefix("core/") for row in results.proposals}
    parents = {parent.removeprefix("core/") for row in results.proposals for parent in row["parents"]}
    assert len(deleted) > 5
    assert f"clone_source/{TABLE}" not in deleted
    assert parents.isdisjoint(f"{name}/{TABLE}" for name in ("char_varchar", *CLONES))


def test_an_audit_finds_exactly_the_containments_of_all_features(engine: Engine, lake: Path, tmp_path: Path) -> None:
    results = run_audit(lake, tmp_path, spark=engine.spark)
    unread = {f"unread/{case.name}/{TABLE}": reason for case, reason in UNREAD}
    assert set(results.not_ok()) == set(unread)
    for name, reason in unread.items():
        assert results.status(name) == "unsupported"
        assert reason in results.not_ok()[name][1]
    assert_finds(results, truth(lake, READ), set())
    assert_safe(results)


def core_truth(lake: Path) -> Any:
    cases = tuple(case for case in CASES if case.folder == "core")
    return {name.removeprefix("core/"): table for name, table in truth(lake, cases).items()}


@pytest.mark.core("spark")
def test_engines_find_the_same_containments(engine: Engine, lake: Path, tmp_path: Path) -> None:
    results = run_audit(lake / "core", tmp_path, spark=engine.spark, recipes="chosen")
    assert_finds(results, core_truth(lake), set())
    assert_safe(results)


def test_the_engines_reader_finds_the_same_containments(engine: Engine, lake: Path, tmp_path: Path) -> None:
    results = run_audit(lake / "core", tmp_path, spark=engine.spark, reader="engine")
    unread = {"char_varchar"} | (set() if engine.is_spark else {*CLONES, "widened"})
    assert {name.removesuffix(f"/{TABLE}"): status for name, (status, _) in results.not_ok().items()} == dict.fromkeys(
        unread, "unsupported"
    ), results.not_ok()
    assert_finds(results, core_truth(lake), {f"{name}/{TABLE}" for name in unread})


# ---- tables that are written while an audit runs


@pytest.fixture
def small_lake(lake: Path, tmp_path: Path) -> Path:
    """Copies of a plain table and of one with a deletion vector, each beside two Parquet copies of its rows."""
    for name, folder in (("row_tracking", "more"), ("dv_delete", "core")):
        shutil.copytree(lake / folder / name, tmp_path / "lake" / name)
        shutil.copy(tmp_path / "lake" / name / "copy.parquet", tmp_path / "lake" / name / "twin.parquet")
    return tmp_path / "lake"


def before_the_scan(monkeypatch: pytest.MonkeyPatch, write: Callable[[], None]) -> None:
    """Let something be written once the metadata of all tables has been read."""
    stage = pipeline.run_minhash

    def then_write(*arguments: Any) -> Any:
        write()
        return stage(*arguments)

    monkeypatch.setattr(pipeline, "run_minhash", then_write)


def remove_all_files(table: Path) -> None:
    """Commit a version without files; the files stay."""
    actions = [json.loads(line) for line in logged(table).splitlines()]
    added = [action["add"] for action in actions if "add" in action]
    removed = [
        {"remove": {key: add[key] for key in ("path", "deletionVector") if key in add} | {"dataChange": True}}
        for add in added
    ]
    commit = table / "_delta_log" / f"{int(harvest(table).version) + 1:020}.json"
    commit.write_text("\n".join(map(json.dumps, removed)))


def test_the_rows_of_the_pinned_version_are_judged(
    small_lake: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("row_tracking", "dv_delete")
    before_the_scan(monkeypatch, lambda: [remove_all_files(small_lake / name / TABLE) for name in names] and None)
    results = run_audit(small_lake, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {}
    relations = {(row["child"], row["parent"]): row["relation"] for row in results.edges}
    for name in names:
        assert relations[f"{name}/{TABLE}", f"{name}/copy.parquet"] == "equal"
        assert relations[f"{name}/copy.parquet", f"{name}/{TABLE}"] == "equal"
    assert all(harvest(small_lake / name / TABLE).rows == 0 for name in names)
    used = {row["table"] for row in results.proposals} | {p for row in results.proposals for p in row["parents"]}
    assert used == {f"{name}/{file}.parquet" for name in names for file in ("copy", "subset", "twin")}


@pytest.mark.parametrize(
    ("table", "pattern"),
    [("row_tracking", "*.parquet"), ("dv_delete", "*.parquet"), ("dv_delete", "deletion_vector_*.bin")],
)
def test_a_vacuum_during_the_audit_fails_the_table(
    table: str, pattern: str, small_lake: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = list((small_lake / table / TABLE).glob(pattern))
    before_the_scan(monkeypatch, lambda: [victim.unlink() for victim in victims] and None)
    results = run_audit(small_lake, tmp_path / "out", spark=engine.spark)
    assert Counter(status for status, _ in results.not_ok().values()) == {"failed": 1}
    assert all(f"{table}/{TABLE}" not in (row["child"], row["parent"]) for row in results.edges)
    other = ({"row_tracking", "dv_delete"} - {table}).pop()
    assert (f"{other}/{TABLE}", f"{other}/copy.parquet") in {(row["child"], row["parent"]) for row in results.edges}
