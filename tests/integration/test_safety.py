"""Tables that must not go, and metadata made to mislead: each case once gave a wrong answer, or could."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from r2d2 import pipeline
from r2d2.session import Engine, union_all
from tests.integration.audit_helpers import Results, run_audit

ROWS = pa.table({"id": list(range(2000)), "note": [f"note {n}" for n in range(2000)]})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def audited(lake: Path, engine: Engine, **options: Any) -> Results:
    return run_audit(lake, lake.parent / "out", spark=engine.spark, **options)


def proposed(results: Results) -> set[str]:
    return {row["table"] for row in results.proposals}


def edges(results: Results) -> set[tuple[str, str]]:
    return {(row["child"], row["parent"]) for row in results.edges}


def commit(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020}.json"


def edit(table: Path, change: Callable[[dict[str, Any]], None], version: int = 0) -> None:
    """Change every action of a commit."""
    actions = [json.loads(line) for line in commit(table, version).read_text().splitlines()]
    for action in actions:
        change(action)
    commit(table, version).write_text("\n".join(json.dumps(action) for action in actions) + "\n")


def clone(source: Path, target: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """A shallow clone of a table's first version: a log with absolute paths."""

    def absolute(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["path"] = f"file://{source}/{action['add']['path']}"
        change(action)

    commit(target, 0).parent.mkdir(parents=True)
    commit(target, 0).write_text(commit(source, 0).read_text())
    edit(target, absolute)


def needs_variant(action: dict[str, Any]) -> None:
    if "protocol" in action:
        action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7} | {
            "readerFeatures": ["variantType"],
            "writerFeatures": ["variantType"],
        }


def test_the_source_of_a_clone_stays_also_after_its_files_have_left_it(lake: Path, engine: Engine) -> None:
    write_deltalake(str(lake / "source"), ROWS)
    clone(lake / "source", lake / "clone")
    other = ROWS.slice(0, 1500)
    write_deltalake(str(lake / "source"), other, mode="overwrite")
    pq.write_table(other, lake / "twin.parquet")
    assert proposed(audited(lake, engine)) == {"twin.parquet"}


def test_the_source_of_a_clone_that_is_not_read_stays(lake: Path, engine: Engine) -> None:
    write_deltalake(str(lake / "source"), ROWS)
    clone(lake / "source", lake / "clone", needs_variant)
    pq.write_table(ROWS, lake / "twin.parquet")
    results = audited(lake, engine)
    assert results.status("clone") == "unsupported"
    assert proposed(results) == {"twin.parquet"}


def test_the_source_of_a_clone_stays_whatever_links_lead_to_it(lake: Path, engine: Engine) -> None:
    write_deltalake(str(lake / "source"), ROWS)
    clone(lake / "source", lake / "clone")
    pq.write_table(ROWS, lake / "twin.parquet")
    link = lake.parent / "link"
    link.symlink_to(lake)
    assert proposed(run_audit(link, lake.parent / "out", spark=engine.spark)) == {"twin.parquet"}


def test_a_table_that_holds_another_stays(lake: Path, engine: Engine) -> None:
    write_deltalake(str(lake / "outer"), ROWS)
    write_deltalake(str(lake / "outer/inner"), pa.table({"other": [1]}))
    pq.write_table(ROWS, lake / "twin.parquet")
    results = audited(lake, engine)
    assert results.status("outer/inner") == "ok"
    assert proposed(results) == {"twin.parquet"}


def test_a_delta_table_written_during_the_audit_stays(
    lake: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deltalake(str(lake / "live"), ROWS)
    pq.write_table(ROWS, lake / "a.parquet")
    pq.write_table(ROWS, lake / "b.parquet")
    read_edges = pipeline.read_edges

    def write_first(*arguments: Any) -> Any:
        write_deltalake(str(lake / "live"), ROWS, mode="append")
        return read_edges(*arguments)

    monkeypatch.setattr(pipeline, "read_edges", write_first)
    results = audited(lake, engine)
    assert ("live", "a.parquet") in edges(results)
    assert "live" not in proposed(results)
    assert len(proposed(results)) >= 1


@pytest.mark.parametrize("rows", [10**20, 2**63 - 1])
def test_absurd_row_counts_do_not_end_the_audit(lake: Path, engine: Engine, rows: int) -> None:
    def boast(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["stats"] = json.dumps({"numRecords": rows})

    write_deltalake(str(lake / "d"), ROWS)
    edit(lake / "d", boast)
    pq.write_table(ROWS, lake / "a.parquet")
    pq.write_table(ROWS, lake / "b.parquet")
    assert {("a.parquet", "b.parquet"), ("b.parquet", "a.parquet")} <= edges(audited(lake, engine))


def test_a_log_with_half_a_character_does_not_end_the_audit(lake: Path, engine: Engine) -> None:
    def rename(action: dict[str, Any]) -> None:
        if "commitInfo" in action:
            action["commitInfo"] |= {"engineInfo": "Apache-Spark/\ud800", "operation": "WRITE"}

    write_deltalake(str(lake / "d"), ROWS)
    edit(lake / "d", rename)
    pq.write_table(ROWS, lake / "a.parquet")
    results = audited(lake, engine)
    assert {row["table"] for row in results.tables} == {"d", "a.parquet"}


def test_the_log_rules_over_a_partition_column_in_the_files(lake: Path, engine: Engine) -> None:
    write_deltalake(str(lake / "d"), pa.table({"id": [1, 2], "p": [5, 5]}), partition_by=["p"])
    (file,) = (lake / "d").rglob("*.parquet")
    pq.write_table(pa.table({"id": [1, 2], "p": [7, 7]}), file)

    def resize(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["size"] = file.stat().st_size

    edit(lake / "d", resize)
    pq.write_table(pa.table({"id": [1, 2], "p": [5, 5]}), lake / "five.parquet")
    pq.write_table(pa.table({"id": [1, 2], "p": [7, 7]}), lake / "seven.parquet")
    found = edges(audited(lake, engine, reader="files"))
    assert found == {("d", "five.parquet"), ("five.parquet", "d")}


def test_columns_that_differ_by_case_are_not_mistaken_for_one_another(lake: Path, engine: Engine) -> None:
    (lake / "t").mkdir()
    pq.write_table(pa.table({"a": [1, 2], "A": [0, 9]}), lake / "t/1.parquet")
    pq.write_table(pa.table({"a": [3]}), lake / "t/2.parquet")
    pq.write_table(pa.table({"a": [1, 3], "A": [0, 3]}), lake / "wrong.parquet")
    pq.write_table(pa.table({"a": [1, 3], "A": pa.array([0, None], pa.int64())}), lake / "right.parquet")
    assert edges(audited(lake, engine)) == {("right.parquet", "t")}


def test_a_raised_byte_of_a_binary_maximum_loses_nothing(lake: Path, engine: Engine) -> None:
    value = b"a" * 32 + b"\xff" * 100
    table = pa.table({"key": pa.array([value], pa.binary())})
    write_deltalake(str(lake / "rust"), table)
    (file,) = (lake / "rust").glob("*.parquet")
    (lake / "child.parquet").write_bytes(file.read_bytes())
    pq.write_table(pa.table({"key": pa.array([value, b"b"], pa.binary())}), lake / "parent.parquet")
    assert {("child.parquet", "parent.parquet"), ("rust", "parent.parquet")} <= edges(audited(lake, engine))


def test_no_recipe_makes_decimals_of_doubles(lake: Path, engine: Engine) -> None:
    numbers = [2**70 + n * 2**20 for n in range(200)]
    pq.write_table(pa.table({"x": pa.array(numbers, pa.decimal128(22, 0))}), lake / "exact.parquet")
    doubles = {"x": [float(n) for n in numbers], "y": list(range(200))}
    pq.write_table(pa.table(doubles), lake / "doubles.parquet")
    results = audited(lake, engine)
    assert ("exact.parquet", "doubles.parquet") in edges(results)
    assert proposed(results) == set()


def test_dates_of_the_legacy_calendar_are_no_days_of_this_one(lake: Path, engine: Engine) -> None:
    days = pa.table({"day": pa.array([-354280, -354281], pa.int32()).cast(pa.date32())})
    pq.write_table(days, lake / "plain.parquet")
    marked = days.replace_schema_metadata({"org.apache.spark.legacyDateTime": "", "org.apache.spark.version": "2.4.8"})
    pq.write_table(marked, lake / "legacy.parquet")
    results = audited(lake, engine)
    assert edges(results) == set()
    assert engine.is_spark or results.status("legacy.parquet") == "unsupported"


@pytest.mark.core
def test_no_recipe_reads_a_column_in_which_some_sessions_lose_nan(lake: Path, engine: Engine) -> None:
    """Sail with its default settings takes a file's only bound for all of its values, though NaN is none of them."""
    rows = {"constant": [1.0, float("nan"), 1.0], "varied": [1.0, float("nan"), 2.0]}
    for name, values in rows.items():
        for copy in ("a", "b"):
            (lake / f"{name}_{copy}").mkdir()
            table = pa.table({"x": values * 700, "note": [f"{name} {n}" for n in range(2100)]})
            pq.write_table(table, lake / f"{name}_{copy}" / "part.parquet")
    results = audited(lake, engine)
    assert edges(results) == {(f"{n}_{a}", f"{n}_{b}") for n in rows for a, b in ("ab", "ba")}
    assert {name.split("_")[0] for name in proposed(results)} == {"varied"}


def test_hundreds_of_frames_are_united(engine: Engine) -> None:
    """Chained one after the other they end the process of the embedded engine."""
    frames = [engine.spark.range(number, number + 1) for number in range(700)]
    assert sorted(union_all(frames).toArrow()["id"].to_pylist()) == list(range(700))
