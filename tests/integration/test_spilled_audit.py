"""Audits whose fingerprints all go through files of the work folder find what all others find."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2 import pipeline
from r2d2.errors import EngineError
from r2d2.scan import job, passes, plan
from r2d2.scan.spill import Spill, spill_folder, spilled_filters
from r2d2.session import Engine
from r2d2.store.results import read_results
from tests.integration import lake_makers as makers
from tests.integration.audit_helpers import run_audit
from tests.integration.lake_makers import EdgeFact, edge_facts, expected_edges
from tests.integration.test_audit_property import assert_same


@pytest.fixture
def spilled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every comparison spills, every batch is a run; the folders that comparisons were given."""
    folders: list[str] = []

    @contextmanager
    def watched(spill: Spill) -> Iterator[str]:
        with spill_folder(spill) as folder:
            folders.append(folder)
            yield folder
        assert not Path(folder).exists()

    monkeypatch.setattr(Engine, "shuffles_in_memory", True)
    monkeypatch.setattr(pipeline, "SPILLED_ROWS", 0)
    monkeypatch.setattr(pipeline, "Spill", partial(Spill, run_bytes=1))
    monkeypatch.setattr(job, "spill_folder", watched)
    yield folders
    assert folders


@pytest.mark.core
def test_edges_are_those_of_brute_force(engine: Engine, spilled: list[str], tmp_path: Path) -> None:
    check_edges(engine, tmp_path, reader="auto")


def test_the_engines_reader_spills_too(engine: Engine, spilled: list[str], tmp_path: Path) -> None:
    check_edges(engine, tmp_path, reader="engine")


@pytest.mark.parametrize("reader", ["files", "engine"])
def test_a_work_folder_that_cannot_be_written_ends_the_audit(
    engine: Engine, spilled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """Also where the engine reads the tables: it is not their fault."""

    @contextmanager
    def missing(spill: Spill) -> Iterator[str]:
        with spill_folder(spill) as folder:
            spilled.append(folder)
            yield f"{folder}/missing"

    monkeypatch.setattr(job, "spill_folder", missing)
    (tmp_path / "lake").mkdir()
    for name in "ab":
        pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "lake" / f"{name}.parquet")
    with pytest.raises(EngineError, match="fingerprints in the work folder could not be written"):
        run_audit(tmp_path / "lake", tmp_path / "out", spark=engine.spark, reader=reader, no_unions=True)


SAMPLED = {"sketch_rows": 16, "whole_rows": 0}
"""Leaves something to *verify*."""


@pytest.fixture
def two_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """*verify* takes a second pass wherever a parent has more rows than its children; the files of their filters."""
    files: list[str] = []

    def watched(told: pa.Table, places: Mapping[int, int], rows_of: Mapping[int, int], uri: str) -> str:
        files.append(uri)
        return spilled_filters(told, places, rows_of, uri)

    monkeypatch.setattr(plan, "WHOLE_FACTOR", 0)
    monkeypatch.setattr(passes, "LEAST_SPARED", 1)
    monkeypatch.setattr(passes, "CHILD_SHARE", 0)
    monkeypatch.setattr(passes, "TWICE_SHARE", 9)
    monkeypatch.setattr(job, "spilled_filters", watched)
    yield files
    assert files


@pytest.mark.parametrize("reader", [pytest.param("auto", marks=pytest.mark.core), "engine"])
def test_two_passes_find_the_same(engine: Engine, two_passes: list[str], tmp_path: Path, reader: str) -> None:
    check_edges(engine, tmp_path, reader=reader, **SAMPLED)


def test_two_passes_find_the_same_unions(
    engine: Engine, two_passes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"x": [number * number % 97 for number in range(9000)], "y": range(9000)})
    tables = {
        "low": rows.slice(0, 5000),
        "high": rows.slice(4500, 4500),
        "some": rows.slice(3000, 800),
        "child": pa.concat_tables([rows.slice(4900, 200), rows.slice(4950, 100), rows.slice(100, 5)]),
        "names": rows.slice(4000, 2000).select(["x"]),
    }
    (tmp_path / "lake").mkdir()
    for name, table in tables.items():
        pq.write_table(table, tmp_path / "lake" / f"{name}.parquet", row_group_size=1000)
    twice = run_audit(tmp_path / "lake", tmp_path / "twice", spark=engine.spark, **SAMPLED)
    monkeypatch.undo()
    once = run_audit(tmp_path / "lake", tmp_path / "once", spark=engine.spark, **SAMPLED)
    assert once.edges
    assert twice.edges == once.edges
    unions = [read_results(str(tmp_path / name))[0]["unions"].to_pylist() for name in ("twice", "once")]
    assert unions[1]
    assert unions[0] == unions[1]


def check_edges(engine: Engine, folder: Path, *, reader: str, **more: Any) -> None:
    """The edges of a random lake with a broken table are those that its rows have."""
    meaning = makers.write_lake(random.Random(9), makers.random_lake(random.Random(5), 14), folder / "lake")
    (folder / "lake" / "broken.parquet").write_bytes(b"PAR1 is no table PAR1")
    options = {"reader": reader, "no_unions": True, "recipes": "chosen", **more}
    found = run_audit(folder / "lake", folder / "out", spark=engine.spark, **options)
    judged = {row["table"] for row in found.tables if row["status"] == "ok"}
    assert found.status("broken.parquet") == "failed"
    assert judged == set(meaning) if reader == "auto" else len(judged) > len(meaning) / 2
    expected: set[EdgeFact] = expected_edges({name: meaning[name] for name in judged})
    assert expected
    assert_same(edge_facts(pa.Table.from_pylist(found.edges)), expected)
