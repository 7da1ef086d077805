"""Planted recipes are found, each of the cheapest kind, and every recipe gives its table back on every engine."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r2d2.model import RECIPE_KINDS
from r2d2.session import Engine
from r2d2.store.key_lists import KEYS
from r2d2.store.results import read_results
from tests.integration.recipe_lake import Case, planted
from tests.integration.test_recipes_run import PLAIN, bag, plain_session, read_rows

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Planted:
    """The audited lake of planted recipes."""

    lake: Path
    out: Path
    cases: list[Case]
    recipes: dict[str, dict[str, Any]]
    reasons: dict[str, str | None]
    columns: dict[str, dict[str, str]]
    proposed: set[str]


def audit_planted(folder: Path, cases: list[Case], *options: str) -> Planted:
    lake, out = folder / "lake", folder / "out"
    for case in cases:
        case.write(lake)
    command = [sys.executable, "-m", "r2d2.cli", "audit", str(lake), "--out", str(out), *options]
    subprocess.run(command, check=True, capture_output=True)
    tables, _ = read_results(str(out))
    return Planted(
        lake=lake,
        out=out,
        cases=cases,
        recipes={row["child"]: row for row in tables["recipes"].to_pylist()},
        reasons={row["child"]: row["recipe_reason"] for row in tables["edges"].to_pylist()},
        columns={
            row["table"]: {column["name"]: column["type"] for column in row["columns"]}
            for row in tables["tables"].to_pylist()
        },
        proposed=set(tables["proposals"]["table"].to_pylist()),
    )


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return audit_planted(tmp_path_factory.mktemp("recipe_kinds"), planted())


def test_every_planted_recipe_is_found_and_has_the_cheapest_kind(lake: Planted) -> None:
    found = {case.child_id: lake.recipes[case.child_id]["recipe_kind"] for case in lake.cases if case.kind}
    assert found == {case.child_id: case.kind for case in lake.cases if case.kind}
    assert Counter(case.kind for case in lake.cases)[None] == 10
    assert set(found.values()) <= set(RECIPE_KINDS)


def test_what_is_almost_right_has_no_recipe(lake: Planted) -> None:
    almost = {case.child_id for case in lake.cases if case.kind is None}
    assert almost.isdisjoint(lake.recipes)
    assert almost.isdisjoint(lake.proposed)
    assert all(lake.reasons.get(child) for child in almost if child in lake.reasons)


def test_every_edge_has_a_recipe_or_a_reason(lake: Planted) -> None:
    for child, reason in lake.reasons.items():
        assert (reason is None) == (child in lake.recipes), child


@pytest.mark.core("spark")
@pytest.mark.parametrize("settings", ["elsewhere"])
def test_every_recipe_gives_its_table_back(engine: Engine, lake: Planted, settings: str) -> None:
    with plain_session(engine, PLAIN[settings]) as spark:
        for child, recipe in lake.recipes.items():
            for statement in recipe["setup_sql"]:
                spark.sql(statement)
            columns = lake.columns[child]
            rows = bag(spark.sql(recipe["recipe_sql"]).toArrow().to_pylist(), columns)
            assert rows == bag(read_rows(lake.lake / child, "parquet", columns), columns), recipe["recipe_sql"]


def test_key_lists_are_private_small_and_all_in_use(lake: Planted) -> None:
    recipes = [recipe for recipe in lake.recipes.values() if recipe["recipe_kind"] == "key_list"]
    files = {file.name: file.stat() for file in (lake.out / KEYS).iterdir()}
    assert stat.S_IMODE((lake.out / KEYS).stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.st_mode) for one in files.values()} <= {0o600, 0o400}, "0o400: a proposal reads it"
    assert {Path(path).name for recipe in recipes for path in key_paths(recipe)} == set(files)
    for recipe in recipes:
        (path,) = key_paths(recipe)
        assert os.path.isabs(path)
        assert recipe["stored_bytes"] == files[Path(path).name].st_size
        assert 4 * recipe["stored_bytes"] <= (lake.lake / recipe["child"] / "part-0.parquet").stat().st_size
        assert len(recipe["parents"]) == 1


def key_paths(recipe: dict[str, Any]) -> list[str]:
    return [text.split("path '")[1].split("'")[0] for text in recipe["setup_sql"] if f"/{KEYS}/" in text]


def test_the_same_tables_give_the_same_recipes_however_they_are_checked(lake: Planted, tmp_path: Path) -> None:
    """Row fingerprints have other keys in each audit; what is sampled does not depend on them."""
    again = audit_planted(tmp_path, lake.cases[::5], "--recipes", "chosen")
    assert {recipe["recipe_kind"] for recipe in again.recipes.values()} == set(RECIPE_KINDS) - {"version", "union"}
    for child, recipe in again.recipes.items():
        setup = [text.replace(str(tmp_path), str(lake.lake.parent)) for text in recipe["setup_sql"]]
        assert {**recipe, "setup_sql": setup} == lake.recipes[child]
    folders = {case.name for case in again.cases}
    assert again.proposed == {table for table in lake.proposed if table.split("/")[0] in folders}


def test_tables_that_the_engine_reads_have_the_same_recipes(lake: Planted, tmp_path: Path) -> None:
    """Of odd numbers, whose parents have no NaN: no recipe reads a table whose NaN an engine may lose."""
    odd = [case for case in lake.cases if case.name[-1] in "13579"]
    again = audit_planted(tmp_path, odd[::3], "--reader", "engine")
    assert len({recipe["recipe_kind"] for recipe in again.recipes.values()}) > 3
    assert {case.child_id for case in again.cases if case.kind} <= again.recipes.keys()
    for child, recipe in again.recipes.items():
        setup = [text.replace(str(tmp_path), str(lake.lake.parent)) for text in recipe["setup_sql"]]
        assert {**recipe, "setup_sql": setup} == lake.recipes[child]
