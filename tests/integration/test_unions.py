"""Unions: tables that several others hold together, planted and drawn at random, against a search of all subsets."""

from __future__ import annotations

import csv
import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.recipes import selection
from r2d2.session import Engine
from tests.integration.recipe_checks import assert_comes_back, audited

pytestmark = pytest.mark.slow

Row = tuple[Any, ...]
Tables = dict[str, tuple[tuple[str, ...], list[Row]]]
"""By name: columns and rows."""

GROUPS = 20


@dataclass(frozen=True, kw_only=True)
class Random:
    """Groups of tables of one universe of rows; groups have no column in common."""

    groups: tuple[Tables, ...]

    @classmethod
    def drawn(cls, seed: int, groups: int = GROUPS, times: int = 1) -> Random:
        """Groups from a literal seed, with so many times the rows."""
        source = random.Random(seed)
        return cls(groups=tuple(drawn_group(source, number, times) for number in range(groups)))


def drawn_group(source: random.Random, number: int, times: int) -> Tables:
    """Up to six tables over few rows, so that unions, copies, repeated rows and near misses are all common."""
    names = (f"g{number}_a", f"g{number}_b", f"g{number}_c")
    texts = ("x", "y", None, "z" * 40)
    universe = [(n // 2, texts[n % 4], n / 4 if n % 3 else None) for n in range(times * source.choice((12, 40, 40)))]
    tables: Tables = {}
    for table in range(source.randint(3, 6)):
        rows = source.choices(universe, k=times * source.choice((0, 2, 5, 9, 9, 30)))
        if source.random() < 0.5:
            rows = list(dict.fromkeys(rows))
        if table > 1 and source.random() < 0.6:
            rows = [row for name in source.sample(sorted(tables), min(len(tables), 2)) for row in tables[name][1]]
            rows = source.sample(rows, max(0, len(rows) - source.choice((0, 0, 1))))
        width = source.choice((2, 3, 3, 3, 3))
        tables[f"t{number}_{table}"] = (names[:width], [(*row, None)[:width] for row in rows])
    return tables


def expected_unions(tables: Tables) -> dict[str, set[frozenset[str]]]:
    """By child: all sets of tables that hold it and could do without none of them; children of one table left out."""
    found: dict[str, set[frozenset[str]]] = {}
    for child, (columns, rows) in tables.items():
        held = {
            other: {row[: len(columns)] for row in its}
            for other, (names, its) in tables.items()
            if other != child and set(columns) <= set(names)
        }
        covers = {
            frozenset(chosen)
            for size in range(1, len(held) + 1)
            for chosen in itertools.combinations(sorted(held), size)
            if set(rows) <= set().union(*(held[name] for name in chosen))
        }
        least = {cover for cover in covers if not any(other < cover for other in covers)}
        if rows and least and all(len(cover) > 1 for cover in least):
            found[child] = least
    return found


def write(lake: Path, tables: Tables) -> None:
    lake.mkdir(exist_ok=True)
    types = (pa.int64(), pa.string(), pa.float64())
    for name, (columns, rows) in tables.items():
        arrays = {c: pa.array([row[i] for row in rows], types[i]) for i, c in enumerate(columns)}
        pq.write_table(pa.table(arrays), lake / f"{name}.parquet")


def bag_holds(tables: Tables, child: str, parents: frozenset[str]) -> bool:
    columns, rows = tables[child]
    there = Counter(row[: len(columns)] for parent in parents for row in tables[parent][1])
    return not Counter(rows) - there


def test_unions_are_those_of_a_search_of_all_subsets(engine: Engine, tmp_path: Path) -> None:
    check_against_all_subsets(engine, tmp_path, Random.drawn(36))


@pytest.mark.core("spark")
def test_unions_of_tables_that_are_sampled_in_part_are_those_of_all_subsets(engine: Engine, tmp_path: Path) -> None:
    """Tables of more and of fewer than 64 rows; the former are not sampled whole."""
    check_against_all_subsets(engine, tmp_path, Random.drawn(67, groups=4, times=8), sketch_rows=16, whole_rows=0)


def check_against_all_subsets(engine: Engine, folder: Path, drawn: Random, **options: Any) -> None:
    for group in drawn.groups:
        write(folder / "lake", group)
    results = audited(engine, folder / "lake", folder / "out", recipes="chosen", **options)
    found = {row["child"].removesuffix(".parquet"): row for row in results["unions"]}
    seen = 0
    for tables in drawn.groups:
        want = expected_unions(tables)
        assert {child for child in tables if child in found} == set(want)
        for child, covers in want.items():
            parents = frozenset(name.removesuffix(".parquet") for name in found[child]["parents"])
            assert parents in covers, child
            assert found[child]["set"]
            assert found[child]["bag"] == bag_holds(tables, child, parents)
            seen += 1
    assert seen > len(drawn.groups) // 2, "the lake has unions to be found"


@pytest.mark.parametrize("options", [{}, {"sketch_rows": 16, "whole_rows": 0}], ids=str)
def test_a_candidate_that_cannot_be_read_is_left_out(engine: Engine, tmp_path: Path, options: dict[str, int]) -> None:
    universe = [(n, f"row {n}", n / 8) for n in range(900)]
    tables = {
        name: (("k", "t", "v"), universe[rows])
        for name, rows in {
            "low": slice(500),
            "high": slice(400, 900),
            "broken": slice(1, 899),
            "child": slice(900),
        }.items()
    }
    write(tmp_path / "lake", tables)
    path = tmp_path / "lake" / "broken.parquet"
    path.write_bytes(path.read_bytes()[:4] + b"\xff" * 200 + path.read_bytes()[204:])
    results = audited(engine, tmp_path / "lake", tmp_path / "out", recipes="chosen", **options)
    assert [row["table"] for row in results["failures"]] == ["broken.parquet"]
    found = [(row["child"], row["parents"]) for row in results["unions"]]
    assert found == [("child.parquet", ["high.parquet", "low.parquet"])]


def test_the_same_lake_has_the_same_unions_whatever_the_keys(engine: Engine, tmp_path: Path) -> None:
    source = random.Random(3)
    universe = [(n, f"row {n}", n / 8) for n in range(12_000)]
    tables = {f"part{n}": (("k", "t", "v"), source.sample(universe, 6_000)) for n in range(6)}
    tables["whole"] = (("k", "t", "v"), sorted({row for _, rows in list(tables.values())[:4] for row in rows}))
    write(tmp_path / "lake", tables)
    one, other = (
        audited(engine, tmp_path / "lake", tmp_path / f"out{n}", lane_keys=(n, n + 1), recipes="chosen")["unions"]
        for n in (1, 7)
    )
    assert one == other
    assert "whole.parquet" in {row["child"] for row in one}


def test_without_unions_none_are_looked_for(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "lake", planted(1))
    results = audited(engine, tmp_path / "lake", tmp_path / "out", no_unions=True)
    assert results["unions"] == []
    assert "union" not in {row["recipe_kind"] for row in results["recipes"]}


# ---- recipes


def planted(cases: int = 10) -> Tables:
    """Children by name: `plain…` comes back without predicates, `cut…` with, `less…` lacks one row of its parents."""
    tables: Tables = {}
    for number in range(cases):
        columns = (f"p{number}_id", f"p{number}_name", f"p{number}_value")
        rows: list[Row] = [(n, f"n {n % 7}", math.nan if n % 11 == 5 else n / 4) for n in range(300)]
        if number % 2:
            rows = [*rows, *rows[:20]]  # repeated rows
        cuts = sorted({0, len(rows), 37 + number, 150 + 3 * number})
        parts = [rows[start:end] for start, end in itertools.pairwise(cuts)]
        for part, own in enumerate(parts):
            tables[f"plain{number}_part{part}"] = (columns, own)
        tables[f"plain{number}"] = (columns, rows)
        columns = tuple(name.replace("p", "c", 1) for name in columns)
        tables[f"cut{number}_low"] = (columns, rows[: 160 + number])
        tables[f"cut{number}_high"] = (columns, rows[(120 if number % 2 == 0 else 160 + number) : 300])
        tables[f"cut{number}"] = (columns, rows[40:260])
        columns = tuple(name.replace("c", "l", 1) for name in columns)
        tables[f"less{number}_low"] = (columns, rows[:150])
        tables[f"less{number}_high"] = (columns, rows[151:300])
        tables[f"less{number}"] = (columns, rows[10:290])
    return tables


@pytest.mark.parametrize("most_bytes", [selection.MAX_SEARCH_BYTES, 0])
def test_planted_unions_come_back(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """Parts are searched in the rows, or, where tables are too large, taken within the child's bounds."""
    monkeypatch.setattr(selection, "MAX_SEARCH_BYTES", most_bytes)
    tables = planted()
    write(tmp_path / "lake", tables)
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    wanted = {f"{kind}{n}.parquet" for kind in ("plain", "cut") for n in range(10)}
    assert {row["child"] for row in results["unions"]} == wanted
    recipes = union_recipes(results)
    assert set(recipes) == wanted
    for child, recipe in recipes.items():
        assert ("WHERE" in recipe["recipe_sql"]) == child.startswith("cut")
        assert_comes_back(engine, recipe, pq.read_table(tmp_path / "lake" / child))


def union_recipes(results: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By child. Each union has one, or the reason why it has none."""
    recipes = {row["child"]: row for row in results["recipes"] if row["recipe_kind"] == "union"}
    for row in results["unions"]:
        assert (row["recipe_reason"] is None) == (row["child"] in recipes), row
        assert row["recipe_reason"] is None or len(row["recipe_reason"]) > 20
    return recipes


HARD = ("dropped", "listed", "folded", "again", "keyed")
"""Unions whose child's bounds hold other rows of the parents too."""


def hard(name: str, number: int, odd: float | None) -> dict[str, pa.Table]:
    """Two parents and a child under a name of HARD, or `floats`, which nothing tells apart; `odd` is some float."""
    chance = random.Random(number)
    rows: list[Row] = [
        (
            n,
            chance.choice(("north", "south", None)),
            chance.choice((odd, None, n / 4 + 0.125)),
            f"{chance.getrandbits(256):064x}",
        )
        for n in range(600)
    ]
    low, high = rows[::2], rows[1::2]
    chosen = [row for row in rows if row[1] == "north"]
    if name == "folded":  # which rows a parent lacks follows no rule
        low, high = ([row for row in rows if row[0] > 400 or chance.random() < 0.7] for _ in range(2))
        chosen = [row for row in rows[:400] if row in low or row in high]
    elif name == "again":
        low = [*low, *low[:40]]
        chosen = [row for row in (*low, *high) if row[1] == "north"]
    elif name in ("keyed", "floats"):
        chosen = [row for row in rows if chance.random() < 0.5]
    columns = [f"{name}{number}_{column}" for column in ("id", "group", "value", "note")]
    shown = {"dropped": (0, 2, 3), "floats": (2,)}.get(name, (0, 1, 2, 3))
    if name == "floats":
        low, high, chosen = ([(0, None, row[0] / 4, "") for row in own] for own in (low, high, chosen))
    types = (pa.int64(), pa.string(), pa.float64(), pa.string())

    def table(own: list[Row], places: Sequence[int]) -> pa.Table:
        return pa.table({columns[i]: pa.array([row[i] for row in own], types[i]) for i in places})

    whole = (2,) if name == "floats" else (0, 1, 2, 3)
    return {"low": table(low, whole), "high": table(high, whole), "child": table(chosen, shown)}


@pytest.mark.parametrize("reader", ["files", "engine"])
@pytest.mark.core("spark")
def test_parts_of_unions_are_searched_in_rows(engine: Engine, tmp_path: Path, reader: str) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for number, name in enumerate((*HARD, "floats")):
        odd = math.nan if reader == "files" else 0.5  # no recipe reads a table whose NaN engines may lose
        for side, table in hard(name, number, odd).items():
            pq.write_table(table, lake / f"{name}{number}_{side}.parquet")
    results = audited(engine, lake, tmp_path / "out", reader=reader)
    recipes = union_recipes(results)
    wanted = {f"{name}{number}_child.parquet": name for number, name in enumerate(HARD)}
    assert wanted.keys() <= recipes.keys()
    (without,) = (row for row in results["unions"] if row["child"] not in recipes)
    assert "no short predicate" in without["recipe_reason"]
    (kept,) = (row for row in results["decisions"] if row["table"] == without["child"])
    assert without["recipe_reason"] in kept["reason"]
    for child, recipe in recipes.items():
        assert_comes_back(engine, recipe, pq.read_table(lake / child))
    for child, name in wanted.items():
        assert ("DISTINCT" in recipes[child]["recipe_sql"]) == (name == "folded"), child
        assert (recipes[child]["stored_bytes"] > 0) == (name == "keyed"), child


def in_the_way(name: str) -> dict[str, pa.Table]:
    """A child, decoys that the search names first since they hold more of it, and parts that give it back.

    `drawn`: two decoys hold half of the child each, by chance, and other rows, and no column tells which.
    `glob`: of the decoys, without other rows, no path works on both engines.
    `cut`: as `drawn`, but the parts have other rows, which a predicate leaves out.
    """
    chance = random.Random(name)
    texts = [f"{chance.getrandbits(256):064x}" for _ in range(4000)]
    rows, others = texts[:1200], texts[1200:]
    chosen = set(chance.sample(range(1200), 600))
    halves = [[row for place, row in enumerate(rows) if (place in chosen) == side] for side in (True, False)]
    extra = [[], []] if name == "glob" else [others[:500], others[500:1000]]
    decoy = "decoy[{}]" if name == "glob" else "decoy{}"
    tables = {decoy.format(n): halves[n] + extra[n] for n in range(2)} | {"child": rows}
    outside = [others[1000 + 100 * n : 1100 + 100 * n] if name == "cut" else [] for n in range(3)]
    found = {f"{name}_{table}": pa.table({f"{name}_t": own}) for table, own in tables.items()}
    for n in range(3):
        own = rows[400 * n : 400 * n + 400]
        years = [2020 + n] * 400 + [1990] * len(outside[n])
        found[f"{name}_part{n}"] = pa.table({f"{name}_t": own + outside[n], f"{name}_year": years})
    return found


def test_where_a_parent_is_in_the_way_others_give_the_child_back(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    names = ("drawn", "glob", "cut")
    for table, own in itertools.chain.from_iterable(in_the_way(name).items() for name in names):
        pq.write_table(own, tmp_path / "lake" / f"{table}.parquet")
    results = audited(engine, tmp_path / "lake", tmp_path / "out")
    recipes = union_recipes(results)
    for name in names:
        child = f"{name}_child.parquet"
        (named,) = (row["parents"] for row in results["unions"] if row["child"] == child)
        assert any("decoy" in parent for parent in named), "the search for unions knows rows only"
        assert sorted(recipes[child]["parents"]) == [f"{name}_part{n}.parquet" for n in range(3)]
        assert ("WHERE" in recipes[child]["recipe_sql"]) == (name == "cut")
        assert_comes_back(engine, recipes[child], pq.read_table(tmp_path / "lake" / child))


@pytest.mark.open_data
def test_unions_of_the_real_lake(open_data: Path, engine: Engine, tmp_path: Path) -> None:
    results = audited(engine, open_data / "parquet", tmp_path / "out", case_sensitive=True)
    with (open_data / "truth_union.csv").open() as file:
        truth = {row["child"]: int(row["n_parents_greedy"]) for row in csv.DictReader(file)}
    assert {row["child"]: len(row["parents"]) for row in results["unions"]} == truth
    recipes = union_recipes(results)
    assert set(recipes) == set(truth)
    for child, recipe in recipes.items():
        assert_comes_back(engine, recipe, pq.read_table(open_data / "parquet" / child))
