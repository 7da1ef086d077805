"""Small children of one parent that come back by key lists: their lists are run together, and each is judged alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.recipes import check, key_files, shared_lists
from r2d2.session import Engine
from tests.integration.recipe_checks import assert_comes_back, audited

pytestmark = [pytest.mark.slow, pytest.mark.core("spark")]

ROWS = 3_000
CHILDREN = 9


def write_lake(lake: Path) -> dict[str, pa.Table]:
    """A parent, and random samples of it under all of its columns or some, with and without its key."""
    lake.mkdir()
    rng = np.random.default_rng(1)
    numbers = rng.permutation(ROWS)
    parent = pa.table(
        {
            "r2d2_lists_0": pa.array(numbers % 7, pa.int32()),
            "key 0": pa.array(numbers + 100, pa.int64()),
            "it`s": [f"n{number * number} " * 9 for number in numbers],
            "day": pa.array(rng.integers(0, 5_000, ROWS), pa.int32()).cast(pa.date32()),
        }
    )
    pq.write_table(parent, lake / "parent.parquet")
    children = {}
    for number in range(CHILDREN):
        columns = [["key 0", "it`s", "day"], ["it`s", "day"], parent.column_names][number % 3]
        rows = parent.take(pa.array(rng.choice(ROWS, 300 + number, replace=False))).select(columns)
        children[f"child{number}.parquet"] = rows
        pq.write_table(rows, lake / f"child{number}.parquet")
    return children


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lists each query had that was run for several."""
    sizes: list[int] = []
    run = check.together
    monkeypatch.setattr(shared_lists, "MOST_LISTS", 2)  # one of three of a shape is left over

    def counted(spark: Any, queries: Any, name: str) -> Any:
        sizes.append(len(queries))
        return run(spark, queries, name)

    monkeypatch.setattr(check, "together", counted)
    return sizes


def test_each_child_comes_back(engine: Engine, tmp_path: Path, shared: list[int]) -> None:
    children = write_lake(tmp_path / "lake")
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    recipes = {row["child"]: row for row in results["recipes"]}
    assert {child: row["recipe_kind"] for child, row in recipes.items()} == dict.fromkeys(children, "key_list")
    assert len(shared) >= 2
    assert set(shared) == {2}
    for child, rows in children.items():
        assert_comes_back(engine, recipes[child], rows)


def test_a_list_that_lacks_a_key_is_refused_and_no_other(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: list[int]
) -> None:
    children = write_lake(tmp_path / "lake")
    spoiled: list[str] = []
    write = key_files.write_keys

    def forgetful(out: str, content: bytes) -> str:
        path = write(out, content)
        if not spoiled:
            keys = pq.read_table(path)
            pq.write_table(keys.slice(1), path)
            spoiled.append(path)
        return path

    monkeypatch.setattr(key_files, "write_keys", forgetful)
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    assert spoiled
    assert shared
    recipes = [row["child"] for row in results["recipes"]]
    (refused,) = set(children) - set(recipes)
    reasons = {row["child"]: row["recipe_reason"] for row in results["edges"]}
    assert reasons[refused] == "a query of the kind 'key_list' gave other rows when it was run"
