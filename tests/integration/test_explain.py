"""`r2d2 explain` on a finished audit: every stage's verdict in words, values only where asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.cli import main
from r2d2.session import Engine
from tests.integration.audit_helpers import run_audit

SECRET = "kfz-tuevsiegel"


def write_lake(lake: Path) -> None:
    rows = {
        "all": {"x": list(range(3000)), "t": [f"row{n}" for n in range(3000)]},
        "some": {"x": [5, 6], "t": ["row5", "row6"]},
        "twice": {"x": [5, 5], "t": ["row5", "row5"]},
        "below": {"x": [-4, 6], "t": [SECRET, "row6"]},
        "null": {"x": pa.array([None, 6], pa.int64()), "t": ["row6", "row6"]},
        "number": {"x": [1], "t": [1]},
        "crossed": {"x": [5, 6], "t": ["row6", "row5"]},
        "wider": {"x": [5], "t": ["row5"], "z\n<b>": [1]},
        "broken": {},
    }
    lake.mkdir()
    for name, columns in rows.items():
        pq.write_table(pa.table(columns), lake / f"{name}.parquet")
    (lake / "broken.parquet").write_bytes(b"PAR1 and no more")


@pytest.fixture(scope="module")
def audited(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    write_lake(folder / "lake")
    run_audit(folder / "lake", folder / "out", spark=engine.spark)
    shutil.rmtree(folder / "lake")  # nothing of it is read again
    return folder / "out"


def explain(audited: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments, "--out", str(audited)])
    said = capsys.readouterr()
    return int(str(ended.value.code)), said.out, said.err


def told(audited: Path, capsys: pytest.CaptureFixture[str], child: str, parent: str) -> dict[str, Any]:
    status, out, _ = explain(audited, capsys, f"{child}.parquet", f"{parent}.parquet", "--json")
    assert status == 0
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    ("child", "parent", "verdict", "stage", "reason"),
    [
        ("some", "all", "contained", "verify", "every row was compared"),
        ("twice", "some", "contained", "verify", "some rows occur less often in the parent"),
        (
            "below",
            "all",
            "not contained",
            "min-max",
            "column `x`: the child has a value below all values of the parent",
        ),
        ("null", "all", "not contained", "min-max", "column `x` has a NULL in the child and none in the parent"),
        ("number", "all", "not contained", "min-max", "column `t` holds values of type class number in the child and"),
        ("crossed", "some", "not contained", "MinHash", "the parent lacks 2"),
        ("wider", "all", "not contained", "schema graph", "the parent lacks the columns `z\n<b>`"),
        ("some", "broken", "not judged", "harvest", "broken.parquet is failed"),
    ],
)
def test_each_verdict_has_its_reason(
    child: str, parent: str, verdict: str, stage: str, reason: str, audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(audited, capsys, child, parent)
    assert (found["verdict"], found["stage"]) == (verdict, stage)
    assert any(reason in one for one in found["reasons"]), found["reasons"]
    assert "values" not in found


def test_values_are_shown_only_to_who_asks(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ("below.parquet", "all.parquet")
    _, plain, _ = explain(audited, capsys, *pair)
    _, full, _ = explain(audited, capsys, *pair, "--show-values")
    assert SECRET not in plain
    assert "-4 against 0" not in plain
    assert "-4 against 0" in full
    assert SECRET in full


def test_names_are_shown_as_text(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = explain(audited, capsys, "wider.parquet", "all.parquet")
    assert "z\n" not in out
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "all.parquet"), "knows no table 'nothing'"),
        (("ALL", "some.parquet"), "similar: all.parquet"),
        (("all.parquet", "all.parquet"), "two different tables"),
    ],
)
def test_wrong_names_are_usage_errors(
    arguments: tuple[str, ...], message: str, audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, said = explain(audited, capsys, *arguments)
    assert status == 2
    assert message in said


def test_a_folder_without_an_audit_or_its_evidence_is_a_usage_error(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(tmp_path, capsys, "a", "b")[0] == 2
    copy = tmp_path / "copy"
    shutil.copytree(audited, copy, ignore=shutil.ignore_patterns(".evidence"))
    status, _, said = explain(copy, capsys, "below.parquet", "all.parquet")
    assert status == 2
    assert "run the audit again" in said


def test_evidence_is_the_owners_alone_and_only_of_the_last_audit(engine: Engine, audited: Path, tmp_path: Path) -> None:
    (kept,) = (audited / ".evidence").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert (audited / ".evidence").stat().st_mode & 0o077 == 0
    write_lake(tmp_path / "lake")
    for _ in range(2):
        found = run_audit(tmp_path / "lake", tmp_path / "out", spark=engine.spark)
    assert [folder.name for folder in (tmp_path / "out" / ".evidence").iterdir()] == [found.summary["run_id"]]


def write_paged_lake(lake: Path) -> None:
    """Parents with a dictionary, and with pages and row groups with gaps between them."""
    lake.mkdir()
    names = [f"row{n}" for n in range(0, 200, 2)]
    sorted_values = [1000 * (n // 100) + n % 100 for n in range(1000)]
    pq.write_table(pa.table({"t": names * 10}), lake / "names.parquet")
    pq.write_table(pa.table({"t": ["row2", "row4"]}), lake / "named.parquet")
    pq.write_table(pa.table({"t": ["row2", "row41", "row98"]}), lake / "unnamed.parquet")
    pq.write_table(pa.table({"t": ["row113"]}), lake / "one.parquet")
    pages = {"use_dictionary": False, "write_page_index": True, "data_page_size": 800, "write_batch_size": 100}
    pq.write_table(pa.table({"x": sorted_values}), lake / "paged.parquet", **pages)
    pq.write_table(pa.table({"x": sorted_values}), lake / "grouped.parquet", use_dictionary=False, row_group_size=100)
    pq.write_table(pa.table({"x": [550]}), lake / "between.parquet")
    pq.write_table(pa.table({"x": [50, 5050]}), lake / "within.parquet")


@pytest.mark.core
def test_pages_refute_and_explain_says_how(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2d2.prune.page_stage.worth_reading", lambda pairs, **_: pairs)
    write_paged_lake(tmp_path / "lake")
    found = run_audit(tmp_path / "lake", tmp_path / "out", spark=engine.spark)
    edges = {(edge["child"], edge["parent"]) for edge in found.edges}
    assert edges == {
        ("named.parquet", "names.parquet"),
        ("within.parquet", "paged.parquet"),
        ("within.parquet", "grouped.parquet"),
        ("paged.parquet", "grouped.parquet"),
        ("grouped.parquet", "paged.parquet"),
    }
    (bytes_read,) = [stage["bytes"] for stage in found.summary["stages"] if stage["name"] == "pages"]
    assert 0 < bytes_read < found.summary["lake_bytes"]
    reasons = {
        ("one", "names"): "a value that the dictionaries of the parent's files lack",
        ("between", "paged"): "a value in none of the ranges of the parent's pages",
        ("between", "grouped"): "a value in none of the ranges of the parent's pages",
    }
    for (child, parent), reason in reasons.items():
        told_of = told(tmp_path / "out", capsys, child, parent)
        assert (told_of["verdict"], told_of["stage"]) == ("not contained", "min-max")
        assert any(reason in one for one in told_of["reasons"]), told_of["reasons"]
    _, plain, _ = explain(tmp_path / "out", capsys, "one.parquet", "names.parquet")
    _, full, _ = explain(tmp_path / "out", capsys, "one.parquet", "names.parquet", "--show-values")
    assert "row113" not in plain
    assert "row113" in full
    every = {row["table"] for row in found.tables}
    for child, parent in sorted((c, p) for c in every for p in every if c != p and (c, p) not in edges):
        _, out, _ = explain(tmp_path / "out", capsys, child, parent, "--json")
        assert json.loads(out)["reasons"], (child, parent)
