"""`r2d2 plan` and `r2d2 explain TABLE` on stored results: no engine, and no lake at all."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r2d2.cli import main
from r2d2.config import AuditConfig
from r2d2.errors import UsageError
from r2d2.recipes.sql import view_statement
from r2d2.replan import options_of, replan, write_plan
from r2d2.store.key_lists import KEYS
from r2d2.store.results import RESULT_SCHEMAS, ResultFolder, read_results

GIB = 1 << 30
NOW = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)
SIZES = {"big": 100, "half": 50, "part": 20, "copy": 100, "odd\n<name>": 5, "empty": 0}
PARENTS = {"half": ["big"], "part": ["half"], "copy": ["big"], "odd\n<name>": ["big"]}


def view(table: str) -> str:
    return f"CREATE OR REPLACE TEMPORARY VIEW `{table}` USING parquet OPTIONS (path 'p')"


def recipe(child: str, parents: list[str], **changes: Any) -> dict[str, Any]:
    setup = [view(parent) for parent in parents]
    read = sum(SIZES[parent] for parent in parents) * GIB
    base = {"recipe_kind": "selection", "recipe_sql": f"SELECT {child}", "stored_bytes": 0, "expires": None}
    return {
        **base,
        "child": child,
        "parents": parents,
        "setup_sql": setup,
        "read_bytes": read,
        "through": [],
        **changes,
    }


def chain() -> dict[str, Any]:
    """What an audit with --chains 1 stores: part from big, half on the way."""
    on_the_way = "CREATE OR REPLACE TEMPORARY VIEW `half` AS SELECT half"
    return recipe("part", ["big"], setup_sql=[view("big"), on_the_way], read_bytes=150 * GIB, through=["half"])


def rows(*recipes: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    column = {"name": "x", "type": "bigint"}
    tables = [
        {"table": name, "format": "parquet", "rows": size, "bytes": size * GIB, "status": "ok", "columns": [column]}
        for name, size in SIZES.items()
    ]
    candidates = [
        {"table": name, "history_bytes": 0, "shared_bytes": 0, "last_write": NOW, "tags": [], "keep": False}
        for name in SIZES
    ]
    candidates[-1]["keep_reason"] = "it has no rows"
    edges = [
        {"child": child, "parent": parent, "relation": "contained", "bag": True, "set": True}
        for child, parents in PARENTS.items()
        for parent in parents
    ]
    decisions = [{"table": name, "decision": "retain", "reason": "kept: so far"} for name in SIZES]
    return {
        "tables": tables,
        "candidates": candidates,
        "edges": edges,
        "decisions": decisions,
        "recipes": list(recipes),
    }


def summary(**options: Any) -> dict[str, Any]:
    config = AuditConfig(lake="/nowhere/lake", out="out", **options).public()
    return {
        "run_id": "20261125T000000Z-1",
        "versions": {},
        "config": config,
        "counts": {"tables": 6, "deletable": 0},
        "savings_per_month": 0.0,
        "currency": "USD",
        "stages": [],
    }


def write_results(out: Path, *recipes: dict[str, Any], **options: Any) -> Path:
    found = rows(*(recipes or (recipe(child, parents) for child, parents in PARENTS.items())))
    tables = {name: pa.Table.from_pylist(found.get(name, []), schema=schema) for name, schema in RESULT_SCHEMAS.items()}
    with ResultFolder.open(str(out)) as folder:
        folder.keep_evidence(summary()["run_id"], lambda place: (Path(place) / "evidence").write_text("x") and None)
        folder.commit(tables, summary(**options), "<html></html>")
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_results(tmp_path / "out")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr()
    return int(str(ended.value.code)), said.out, said.err


def planned(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> dict[str, Any]:
    status, said, _ = run(capsys, "plan", str(out), "--json", *arguments)
    assert status == 0
    found: dict[str, Any] = json.loads(said)
    return found


def decisions(found: dict[str, Any]) -> dict[str, str]:
    return {row["table"]: row["reason"] for row in found["decisions"]}


def test_a_plan_is_printed_with_reasons_and_a_curve(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in out.iterdir() if file.is_file()}
    status, said, told = run(capsys, "plan", str(out))
    assert (status, told) == (0, "r2d2: nothing was written; --write puts this plan in place\n")
    assert "3 of 6 tables may go: 166 GB, saving 3.56 USD per month; the stored plan saves 0.00 USD." in said
    assert "  big: kept: parent of 3 deleted tables" in said
    assert "  part: kept: `half`, which it would be rebuilt from, is deleted" in said
    assert "odd\\n<name>" in said
    assert "Savings against latency" in said
    assert {file: file.read_bytes() for file in out.iterdir() if file.is_file()} == before


def test_every_option_changes_the_plan(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reads.csv").write_text("table,reads_per_month\ncopy,1000\nnowhere,1\n")
    rule = '[[rule]]\nname = "gdpr-hold"\nkeep = true\ntable = "copy"\n'
    (tmp_path / "policy.toml").write_text(rule)
    (tmp_path / "prices.toml").write_text('extends = "aws-s3"\n[storage]\nprice_per_month = 0.046\n')
    plain = planned(capsys, out)
    assert plain["savings_per_month"] == pytest.approx(155 * 0.023)
    assert planned(capsys, out, "--prices", "aws-s3/standard-ia")["savings_per_month"] == pytest.approx(155 * 0.0125)
    assert planned(capsys, out, "--prices", str(tmp_path / "prices.toml"))["savings_per_month"] == pytest.approx(
        2 * plain["savings_per_month"]
    )
    read = planned(capsys, out, "--access", str(tmp_path / "reads.csv"))
    assert decisions(read)["copy"] == "kept: costs less to keep than to rebuild"
    assert read["warnings"] == ["1 of the tables named in the accesses are not in the audit: nowhere"]
    assert read["plan_inputs"]["unknown_access_names"] == ["nowhere"]
    assert decisions(planned(capsys, out, "--assume-reads", "1000"))["half"].startswith("kept: costs less")
    held = planned(capsys, out, "--policy", str(tmp_path / "policy.toml"))
    assert decisions(held)["copy"] == "kept: policy 'gdpr-hold'"
    slow = planned(capsys, out, "--max-latency", "15min")
    assert decisions(slow)["copy"] == "kept: latency 18.4 min > 15 min"
    assert decisions(slow)["part"].startswith("its rows are a selection of `half`")
    longer = planned(capsys, out, "--horizon", "24")
    costs = [{row["table"]: row["cost_kept"] for row in plan["decisions"]}["big"] for plan in (plain, longer)]
    assert costs == [pytest.approx(100 * 0.023 * 12), pytest.approx(100 * 0.023 * 24)]


def test_the_curve_rises_to_the_plan_without_a_bound(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, out)
    points = found["pareto"]["points"]
    assert [round(point["max_latency_seconds"]) for point in points] == [567, 1104]
    assert [point["savings_per_month"] for point in points] == [
        pytest.approx(20 * 0.023),
        pytest.approx(found["savings_per_month"]),
    ]


def test_chains_are_used_where_they_were_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = [recipe(child, parents) for child, parents in PARENTS.items()]
    out = write_results(tmp_path / "run", *plain, chain(), chains=1)
    assert planned(capsys, out)["deletable"] == 4
    assert decisions(planned(capsys, out, "--chains", "0"))["part"].startswith("kept: `half`")
    chained = planned(capsys, out, "--chains", "1")
    assert decisions(chained)["part"] == "rebuilt from `big` through `half`"
    (part,) = [row for row in chained["decisions"] if row["table"] == "part"]
    assert part["rebuild_seconds"] == pytest.approx(60 + 150 * GIB / 1e8)
    never = write_results(tmp_path / "never", *plain)
    asked = planned(capsys, never, "--chains", "2")
    assert asked["deletable"] == 3
    assert "only chains that an audit has run are used" in asked["warnings"][0]
    assert "--chains 2" in asked["warnings"][0]


def test_recipes_without_their_key_list_are_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = hashlib.sha256(b"keys").hexdigest()
    file = tmp_path / "o'ut" / KEYS / f"{name}.parquet"
    keys = view_statement(f"keys {name[:16]}", " (`key 0` BIGINT)", "parquet", {"path": str(file)})
    out = write_results(tmp_path / "o'ut", recipe("copy", ["big"], setup_sql=[view("big"), keys], stored_bytes=4))
    file.parent.mkdir()
    for content, deletable in ((b"keys", 1), (b"", 0), (None, 0)):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        found = planned(capsys, out)
        assert found["deletable"] == deletable
        assert any("key lists" in told and "copy" in told for told in found["warnings"]) == (not deletable)
    file.write_bytes(b"keys")
    run(capsys, "plan", str(out), "--out", str(tmp_path / "copy"))
    with ResultFolder.open(str(out)) as folder:
        folder.commit({name: schema.empty_table() for name, schema in RESULT_SCHEMAS.items()}, summary(), "")
    assert planned(capsys, tmp_path / "copy")["deletable"] == 1, "an audit leaves the key lists of others' proposals"


def test_write_replaces_the_plan_and_nothing_else(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, was = read_results(str(out))
    status, _, told = run(capsys, "plan", str(out), "--max-latency", "15min", "--write")
    assert (status, told) == (0, f"r2d2: the plan in {out} was replaced\n")
    after, now = read_results(str(out))
    assert {name for name in before if not before[name].equals(after[name])} == {"decisions", "proposals"}
    assert after["proposals"]["table"].to_pylist() == ["part"]
    assert (now["counts"]["deletable"], now["run_id"]) == (1, was["run_id"])
    assert now["config"]["max_latency_seconds"] == 900
    assert (out / ".evidence" / now["run_id"] / "evidence").is_file(), "explain needs it"
    assert "part" in (out / "report.html").read_text()
    # the next plan begins where this one ended
    assert planned(capsys, out)["deletable"] == 1
    assert planned(capsys, out, "--no-max-latency")["deletable"] == 3


def test_out_writes_a_copy(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_results(str(out))[0]
    status, _, told = run(capsys, "plan", str(out), "--assume-reads", "1000", "--out", str(tmp_path / "copy"))
    assert (status, told) == (0, f"r2d2: the results with this plan are in {tmp_path / 'copy'}\n")
    assert read_results(str(out))[0]["decisions"].equals(before["decisions"])
    tables, now = read_results(str(tmp_path / "copy"))
    assert tables["proposals"].num_rows == 0
    assert now["config"]["assume_reads"] == 1000
    assert (tmp_path / "copy" / ".evidence" / now["run_id"] / "evidence").is_file()


def test_the_stored_policy_holds_until_it_is_lifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nname = "hold"\nkeep = true\ntable = "*"\n')
    out = write_results(tmp_path / "out", policy=str(policy))
    assert planned(capsys, out)["deletable"] == 0
    assert planned(capsys, out, "--no-policy")["deletable"] == 3
    policy.unlink()
    status, _, told = run(capsys, "plan", str(out))
    assert status == 2, "a hold that cannot be read is not lifted"
    assert "policy.toml' cannot be read (FileNotFoundError)" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-latency", "soon"], "--max-latency must be a duration such as 90s, 15min, 2h or 1d, got 'soon'"),
        (["--prices", "aws"], "there is no price book or file 'aws'; built-in books: aws-s3, azure-adls-gen2"),
        (["--prices", "aws-s3/tape"], "no tier 'tape'; known: standard-ia, one-zone-ia, glacier-instant-retrieval"),
        (["--access", "gone.csv"], "gone.csv' cannot be read (FileNotFoundError); give a CSV or Parquet file"),
        (["--policy", "gone.toml"], "gone.toml' cannot be read (FileNotFoundError); give the path of a TOML"),
        (["--horizon", "0"], "horizon must be at least 1, got 0.0"),
        (["--assume-reads", "-1"], "assume-reads must be at least 0, got -1.0"),
        (["--assume-reads", "nan"], "assume-reads must be at least 0, got nan"),
        (["--chains", "-1"], "chains must be from 0 to 8, got -1"),
        (["--write", "--out", "x"], "--write replaces the plan in DIR, --out writes another folder: give one of them"),
        (["--policy", "x", "--no-policy"], "--policy and --no-policy exclude each other"),
        (["--max-latency", "1h", "--no-max-latency"], "--max-latency and --no-max-latency exclude each other"),
        (["--lake", "x"], "No such option"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(
    out: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    status, said, told = run(capsys, "plan", str(out), *arguments)
    assert (status, said) == (2, "")
    assert says in told


def test_what_is_no_audit_is_refused(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "plan", str(tmp_path))[0] == 2
    (out / "candidates.parquet").unlink()
    status, _, told = run(capsys, "plan", str(out))
    assert (status, "damaged" in told) == (2, True)


def test_results_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    out = write_results(tmp_path / "out", {**recipe("half", ["big"]), "parents": ["stranger"]})
    with pytest.raises(UsageError, match="do not fit together"):
        replan(str(out), {}, now=NOW)


def test_another_audit_in_between_is_noticed(out: Path) -> None:
    made = replan(str(out), {}, now=NOW, with_curve=False)
    moved = dataclasses.replace(made, summary={**made.summary, "run_id": "another"})
    with pytest.raises(UsageError, match="another audit has written its results"):
        write_plan(moved)


def test_options_not_given_are_those_of_the_audit() -> None:
    config = {"assume_reads": 3.0, "horizon_months": 24.0, "access": ["a.csv"], "engine": "sail"}
    made = options_of({"config": config}, {"horizon_months": 36.0})
    assert (made.assume_reads, made.horizon_months, made.access, made.policy) == (3.0, 36.0, ("a.csv",), None)


# ---- explain TABLE


def told_of(capsys: pytest.CaptureFixture[str], out: Path, table: str) -> dict[str, Any]:
    status, said, _ = run(capsys, "explain", table, "--out", str(out), "--json")
    assert status == 0
    found: dict[str, Any] = json.loads(said)
    return found


def test_explain_tells_what_becomes_of_a_table(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "plan", str(out), "--write")
    big, part = told_of(capsys, out, "big"), told_of(capsys, out, "part")
    assert (big["decision"], big["constraint"], big["recipes"]) == ("retained", "parent", [])
    assert sorted(big["rebuilds"]) == sorted(big["contains"]) == ["copy", "half", "odd\n<name>"]
    assert (part["decision"], part["constraint"], part["contained_in"]) == ("retained", "conflict", ["half"])
    (only,) = part["recipes"]
    assert (only["kind"], only["parents"]) == ("selection", ["half"])
    assert only["refused"] == "the plan deletes a table that it reads"
    assert only["rebuild_seconds"] == pytest.approx(30 + 50 * GIB / 1e8)
    status, said, _ = run(capsys, "explain", "odd\n<name>", "--out", str(out))
    assert status == 0
    assert said.startswith("odd\\n<name>: deleted, its rows are a selection of `big`")
    assert "recipe selection from big: 18 min 24 s" in said


def test_explain_refuses_an_unknown_table(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, told = run(capsys, "explain", "bi", "--out", str(out))
    assert (status, "the audit knows no table 'bi'" in told, "similar: big" in told) == (2, True, True)


def test_explain_without_the_files_of_the_plan_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_results(tmp_path / "out", policy=str(tmp_path / "gone.toml"))
    assert told_of(capsys, out, "half")["recipes"] is None
    assert "recipes are not priced" in run(capsys, "explain", "half", "--out", str(out))[1]
