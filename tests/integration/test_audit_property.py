"""The edges of an audit are exactly those of a brute-force comparison of all rows, whatever wrote the tables."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from r2d2 import AuditConfig, audit
from r2d2.scan import alike
from r2d2.session import Engine
from r2d2.store.results import read_results
from tests.integration import lake_makers as makers
from tests.integration.lake_makers import EdgeFact, Lake, compared_columns, edge_facts, expected_edges

KEYS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


def edges_of(engine: Engine, lake: Path, **options: Any) -> set[EdgeFact]:
    """The edges that an audit finds; fails where a table takes no part or an edge lists other columns."""
    with tempfile.TemporaryDirectory() as out:
        audit(AuditConfig(lake=str(lake), out=out, lane_keys=KEYS, **options), spark=engine.spark)
        tables, _ = read_results(out)
    assert tables["failures"].to_pylist() == []
    return edge_facts(tables["edges"])


def assert_same(found: set[EdgeFact], expected: set[EdgeFact]) -> None:
    assert sorted(expected - found) == [], "containments lost"
    assert sorted(found - expected) == [], "containments asserted that do not hold"


@settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**64 - 1), tables=st.integers(12, 20))
def test_edges_are_those_of_brute_force(engine: Engine, seed: int, tables: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        meaning = makers.write_lake(rng, makers.random_lake(rng, tables), Path(folder, "lake"))
        note(str({name: table.schema.to_string() for name, table in meaning.items()}))
        expected = expected_edges(meaning)
        assert_same(edges_of(engine, Path(folder, "lake")), expected)


@pytest.fixture(scope="module")
def base() -> list[pa.Table]:
    """Tables with edges of every kind, and pairs of fitting columns without an edge."""
    tables = makers.random_lake(random.Random(5), 14)
    relations = {(relation, bag) for _, _, relation, bag, _, rows, _ in expected_edges(by_number(tables)) if rows}
    assert relations == {("equal", True), ("contained", True), ("contained", False)}
    return tables


def by_number(tables: Sequence[pa.Table]) -> Lake:
    return {f"{number:02}": table for number, table in enumerate(tables)}


def test_edges_list_the_compared_columns(engine: Engine, base: list[pa.Table], tmp_path: Path) -> None:
    meaning = makers.write_lake(random.Random(1), base, tmp_path / "lake")
    audit(AuditConfig(lake=str(tmp_path / "lake"), out=str(tmp_path / "out")), spark=engine.spark)
    edges = read_results(str(tmp_path / "out"))[0]["edges"].to_pylist()
    assert edges
    for edge in edges:
        assert set(edge["columns"]) == compared_columns(meaning[edge["child"]]), edge


@pytest.mark.core("spark")
def test_edges_are_the_same_on_every_engine(engine: Engine, base: list[pa.Table], tmp_path: Path) -> None:
    meaning = makers.write_lake(random.Random(2), base, tmp_path / "lake")
    assert_same(edges_of(engine, tmp_path / "lake"), expected_edges(meaning))


@pytest.mark.parametrize(
    "options",
    [{"kernel_threads": 1}, {"kernel_threads": 5}, {"sketch_rows": 16, "whole_rows": 0}, {"memory_bytes": 256 << 20}],
    ids=str,
)
def test_edges_do_not_depend_on_the_configuration(
    engine: Engine, base: list[pa.Table], tmp_path: Path, options: dict[str, Any]
) -> None:
    meaning = makers.write_lake(random.Random(3), base, tmp_path / "lake")
    assert_same(edges_of(engine, tmp_path / "lake", **options), expected_edges(meaning))


def test_edges_do_not_depend_on_which_files_are_read_by_one_query(
    engine: Engine, base: list[pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    scan = alike._scan

    def noted(connection: Any, group: Sequence[Any], *rest: Any) -> Any:
        sizes.append(len(group))
        return scan(connection, group, *rest)

    for name, value in (("LEAST_BYTES", 0), ("LEAST_FILE_BYTES", 0), ("_scan", noted)):
        monkeypatch.setattr(alike, name, value)
    rng = random.Random(8)
    makes = (makers.subset, makers.near_miss, makers.shuffled)
    tables = [table for own in base[:8] for table in (own, *(make(rng, own) for make in makes))]
    lake = {f"{number:03}.parquet": table for number, table in enumerate(tables)}
    for options in ({}, {"sketch_rows": 16, "whole_rows": 0}):
        folder = tmp_path / str(len(options))
        folder.mkdir()
        for name, table in lake.items():
            pq.write_table(table, folder / name, row_group_size=7)
        assert_same(edges_of(engine, folder, **options), expected_edges(lake))
    if engine.name == "sail":  # whose kernels run here
        assert max(sizes) > 1


def test_case_sensitive_names_and_the_utc_clock_change_the_edges_as_they_say(
    engine: Engine, base: list[pa.Table], tmp_path: Path
) -> None:
    times = pa.table({"d": pa.array([0, 1, None], pa.date32())})
    others = [
        makers.retyped(random.Random(1), times),
        makers.on_utc_clock(times),
        makers.recased(random.Random(1), times),
    ]
    meaning = makers.write_lake(
        random.Random(7), [*base, times, *others], tmp_path / "lake", writers=("pyarrow", "duckdb")
    )
    utc = {name: makers.on_utc_clock(table) for name, table in meaning.items()}
    usual, exact, on_utc = expected_edges(meaning), expected_edges(meaning, exact_names=True), expected_edges(utc)
    assert exact < usual < on_utc
    assert_same(edges_of(engine, tmp_path / "lake", case_sensitive=True), exact)
    assert_same(edges_of(engine, tmp_path / "lake", timestamps="utc"), on_utc)


def test_the_engines_reader_finds_the_same(engine: Engine, base: list[pa.Table], tmp_path: Path) -> None:
    """Some tables the engine cannot read, and says so; about all others both readers agree."""
    meaning = makers.write_lake(random.Random(8), base, tmp_path / "lake")
    config = AuditConfig(lake=str(tmp_path / "lake"), out=str(tmp_path / "out"), reader="engine", lane_keys=KEYS)
    audit(config, spark=engine.spark)
    tables, _ = read_results(config.out)
    judged = {row["table"] for row in tables["tables"].to_pylist() if row["status"] == "ok"}
    refused = {row["table"]: row["message"] for row in tables["failures"].to_pylist()}
    assert all(message.startswith("the engine's reader c") for message in refused.values()), refused
    assert len(judged) > len(meaning) / 2
    expected = expected_edges({name: table for name, table in meaning.items() if name in judged})
    assert expected
    assert_same(edge_facts(tables["edges"]), expected)


def test_edges_do_not_depend_on_names_row_order_and_column_order(
    engine: Engine, base: list[pa.Table], tmp_path: Path
) -> None:
    """Other names mean another order of the tables, of the work and of the pairs."""
    rng = random.Random(4)
    renamed = rng.sample(range(len(base)), len(base))
    (tmp_path / "lake").mkdir()
    for name, number in enumerate(renamed):
        file = tmp_path / "lake" / f"t{name:02}.parquet"
        pq.write_table(makers.shuffled(rng, base[number]), file, row_group_size=5)
    ids = {f"t{name:02}.parquet": f"{number:02}" for name, number in enumerate(renamed)}
    found = {(ids[child], ids[parent], *fact) for child, parent, *fact in edges_of(engine, tmp_path / "lake")}
    assert_same(found, expected_edges(by_number(base)))


def test_small_sketches_lose_no_containment_of_larger_tables(engine: Engine, tmp_path: Path) -> None:
    """Thousands of rows, so that sketches and probes see a part of them only."""
    rng = random.Random(6)
    parent = makers.random_table(rng, rows=3000, kinds=("i", "l", "t", "z", "f"))
    one_off = makers.near_miss(rng, parent)
    tables = [
        parent,
        makers.subset(rng, parent),
        makers.projected(rng, parent),
        makers.duplicated(rng, parent),
        one_off,
    ]
    meaning = makers.write_lake(rng, tables, tmp_path / "lake", writers=("pyarrow", "folder", "deltalake"))
    assert_same(edges_of(engine, tmp_path / "lake", sketch_rows=16, whole_rows=0), expected_edges(meaning))
