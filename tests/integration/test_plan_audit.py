"""Plans of whole audits: chains that were run, what logs say of tables, and planning again with the lake gone."""

from __future__ import annotations

import collections
import datetime
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from r2d2.session import Engine
from r2d2.store.results import read_results
from tests.integration.audit_helpers import planned, run_audit

pytestmark = pytest.mark.core("spark")
ROWS = 4000


def write_lake(lake: Path) -> None:
    """Each row of `thrice` three times, `once` its distinct rows, `column` one column of those: a chain.

    From `thrice` no query gives `column` back: its values repeat, but three times less often.
    """
    lake.mkdir()
    once = pa.table({"id": range(ROWS), "x": [n % 7 for n in range(ROWS)], "t": [f"text {n * n}" for n in range(ROWS)]})
    pq.write_table(pa.concat_tables([once] * 3), lake / "thrice.parquet")
    pq.write_table(once, lake / "once.parquet")
    pq.write_table(once.select(["x"]), lake / "column.parquet")
    write_delta(lake / "owned", {"owner": "finance", "tags": "pii, raw"})
    write_delta(lake / "kept", {"r2d2.keep": "true"})


def write_delta(folder: Path, properties: dict[str, str]) -> None:
    """A Delta table with properties of its own, which Spark allows and this writer does not."""
    write_deltalake(str(folder), pa.table({"o": range(9)}))
    commit = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"] |= properties
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions))


@pytest.fixture(scope="module")
def audited(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an audit with chains, whose lake was moved away; `moved` beside them is the lake."""
    folder = tmp_path_factory.mktemp("plan")
    write_lake(folder / "lake")
    (folder / "reads.csv").write_text("table,reads_per_month\nthrice.parquet,3\nelsewhere,1\n")
    access = (str(folder / "reads.csv"),)
    run_audit(folder / "lake", folder / "out", spark=engine.spark, chains=1, access=access)
    shutil.move(folder / "lake", folder / "moved")
    return folder / "out"


def test_a_chain_is_proposed_after_it_was_run(audited: Path) -> None:
    tables, _ = read_results(str(audited))
    gone = {row["table"]: row for row in tables["proposals"].to_pylist()}
    assert gone["once.parquet"]["parents"] == gone["column.parquet"]["parents"] == ["thrice.parquet"]
    assert gone["column.parquet"]["through"] == ["once.parquet"]
    assert gone["column.parquet"]["rebuild_seconds"] > 60, "two recipes have two start-ups"
    assert [row["through"] for row in tables["recipes"].to_pylist() if row["through"]] == [["once.parquet"]]


def test_a_chain_gives_its_table_back_from_kept_tables_alone(audited: Path, engine: Engine) -> None:
    lake = audited.parent / "moved"
    shutil.copytree(lake, audited.parent / "lake")
    for name in ("once.parquet", "column.parquet"):
        (audited.parent / "lake" / name).unlink()
    (row,) = [r for r in read_results(str(audited))[0]["proposals"].to_pylist() if r["table"] == "column.parquet"]
    with engine.scratch_session() as spark:
        for statement in row["setup_sql"]:
            spark.sql(statement)
        rebuilt = [found[0] for found in spark.sql(row["recipe_sql"]).collect()]
        for name in ("once.parquet", "thrice.parquet"):
            spark.sql(f"DROP VIEW IF EXISTS `{name}`")
    shutil.rmtree(audited.parent / "lake")
    assert collections.Counter(rebuilt) == collections.Counter(pq.read_table(lake / "column.parquet")["x"].to_pylist())


def test_planning_again_reads_nothing_of_the_lake(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (audited.parent / "lake").exists()
    stored = read_results(str(audited))[0]["decisions"].to_pylist()
    again = planned(capsys, audited)
    names = ("table", "decision", "reason", "cost_kept", "cost_deleted", "constraint")
    assert [{name: row[name] for name in names} for row in again["decisions"]] == stored
    assert again["plan_inputs"]["unknown_access_names"] == ["elsewhere"]
    shorter = {row["table"]: row["reason"] for row in planned(capsys, audited, "--chains", "0")["decisions"]}
    assert shorter["column.parquet"] == "kept: `once.parquet`, which it would be rebuilt from, is deleted"
    bound = {row["table"]: row["constraint"] for row in planned(capsys, audited, "--max-latency", "45s")["decisions"]}
    assert bound["column.parquet"] == "conflict", "the chain takes a minute"
    assert all(row["decision"] == "retain" for row in planned(capsys, audited, "--max-latency", "1s")["decisions"])


def test_logs_and_files_tell_owners_tags_and_times(audited: Path) -> None:
    told = {row["table"]: row for row in read_results(str(audited))[0]["candidates"].to_pylist()}
    assert (told["owned"]["owner"], told["owned"]["tags"]) == ("finance", ["pii", "raw"])
    assert (told["kept"]["keep"], told["owned"]["keep"]) == (True, False)
    now = datetime.datetime.now(datetime.UTC)
    for row in told.values():
        assert abs((now - row["last_write"]).total_seconds()) < 3600
    assert told["owned"]["created"] is not None
    assert told["once.parquet"]["created"] is None
    (reason,) = [
        row["reason"] for row in read_results(str(audited))[0]["decisions"].to_pylist() if row["table"] == "kept"
    ]
    assert reason == "kept: its table property r2d2.keep says so"
