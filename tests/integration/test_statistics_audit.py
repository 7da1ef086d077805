"""Metadata that lies: what the scan sees is compared with it, and what it had refuted is looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.session import Engine
from tests.integration.audit_helpers import Results, run_audit

Stats = dict[str, Any]


def write_parquet(path: Path, columns: Mapping[str, list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)


def write_delta(path: Path, columns: Mapping[str, list[Any]], lie: Callable[[Stats], None] | None = None) -> None:
    """A Delta table by delta-rs, the statistics in its log changed afterwards."""
    deltalake.write_deltalake(str(path), pa.table(dict(columns)))
    if lie is None:
        return
    log = path / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "add" in action:
            stats = json.loads(action["add"]["stats"])
            lie(stats)
            action["add"]["stats"] = json.dumps(stats)
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


def edges(found: Results) -> set[tuple[str, str]]:
    return {(row["child"], row["parent"]) for row in found.edges}


def misleading(found: Results) -> list[tuple[str, str, str, list[str]]]:
    rows = found.summary["misleading_statistics"]
    return [(row["source"], row["writer"], row["type"], row["tables"]) for row in rows]


def set_stat(kind: str, value: Any) -> Callable[[Stats], None]:
    def lie(stats: Stats) -> None:
        stats[kind]["x"] = value

    return lie


def test_a_parent_whose_maximum_is_too_low_loses_no_child(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write_delta(lake / "all", {"x": list(range(10))}, set_stat("maxValues", 5))
    write_parquet(lake / "high" / "part.parquet", {"x": [8, 9]})
    write_parquet(lake / "low" / "part.parquet", {"x": [1, 2]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark)
    assert edges(found) == {("high", "all"), ("low", "all")}
    assert misleading(found) == [("delta-log", "delta-rs", "integer", ["all"])]
    assert "min-max again" in [stage["name"] for stage in found.summary["stages"]]
    assert "rows contradict" in (tmp_path / "out" / "report.html").read_text()


def test_honest_statistics_are_looked_at_once(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write_delta(lake / "all", {"x": list(range(10)), "t": [None, *"bcdefghij"]})
    write_parquet(lake / "low" / "part.parquet", {"x": [1, 2], "t": ["b", "c"]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark)
    assert edges(found) == {("low", "all")}
    assert misleading(found) == []
    assert [stage["name"] for stage in found.summary["stages"]].count("min-max") == 1


@pytest.mark.parametrize(
    ("values", "lie"),
    [
        ([5, 6], set_stat("minValues", 0)),  # a minimum that no row has
        ([5, 6], set_stat("maxValues", 40)),
        ([5, 6], set_stat("nullCount", 1)),  # a NULL that is not there
    ],
)
def test_a_child_that_claims_values_it_has_not_keeps_its_parents(
    values: list[int], lie: Callable[[Stats], None], engine: Engine, tmp_path: Path
) -> None:
    """The child is looked at only because of a parent that the lie does not refute."""
    lake = tmp_path / "lake"
    write_delta(lake / "child", {"x": values}, lie)
    write_parquet(lake / "right" / "part.parquet", {"x": [4, 5, 6, 7]})
    write_parquet(lake / "wide" / "part.parquet", {"x": [None, 0, 3, 40]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark)
    assert edges(found) == {("child", "right")}
    assert misleading(found) == [("delta-log", "delta-rs", "integer", ["child"])]


def test_a_parent_that_denies_its_null_loses_no_child(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write_delta(lake / "all", {"x": [1, None, 3]}, set_stat("nullCount", 0))
    write_parquet(lake / "null" / "part.parquet", {"x": pa.array([None, 3], pa.int64())})
    write_parquet(lake / "low" / "part.parquet", {"x": [1]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark)
    assert edges(found) == {("null", "all"), ("low", "all")}
    assert misleading(found) == [("delta-log", "delta-rs", "integer", ["all"])]


@pytest.mark.core("spark")
def test_what_the_engine_reads_is_compared_too(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    write_delta(lake / "all", {"x": list(range(10))}, set_stat("maxValues", 5))
    write_parquet(lake / "high" / "part.parquet", {"x": [8, 9]})
    write_parquet(lake / "low" / "part.parquet", {"x": [1, 2]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, reader="engine")
    assert edges(found) == {("high", "all"), ("low", "all")}
    assert misleading(found) == [("delta-log", "delta-rs", "integer", ["all"])]


def test_only_the_writer_and_type_that_lied_are_distrusted(engine: Engine, tmp_path: Path) -> None:
    """A text column of the same writer goes on refuting; the lying type of other tables does not any more."""
    lake = tmp_path / "lake"
    write_delta(lake / "all", {"x": list(range(10)), "t": ["a"] * 10}, set_stat("maxValues", 5))
    write_delta(lake / "other", {"x": [1, 2], "t": ["z", "z"]})
    write_parquet(lake / "low" / "part.parquet", {"x": [1, 2], "t": ["a", "a"]})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark)
    assert edges(found) == {("low", "all")}
    assert misleading(found) == [("delta-log", "delta-rs", "integer", ["all"])]
    assert found.summary["counts"]["minmax_pairs"] == 2  # low and all, each in the other
