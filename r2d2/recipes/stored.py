"""The stored tables of the stage *recipes*: what rebuilds which table, and why nothing rebuilds some from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.model import Recipe

if TYPE_CHECKING:
    from r2d2.store.stages import StageStore

RECIPES = "recipes"
"""Name of the stage."""

Ends = tuple[int, int]
"""Child and parent of an edge; of a union the child and SEVERAL."""

SEVERAL = -1
"""In place of a parent: several tables together."""

CHECKED, UNCHECKED, REFUSED = "checked", "unchecked", "refused"
"""What is known of a recipe: it was run and gave the child back; it was not run; it was run and did not."""

STORED_RECIPES = pa.schema(
    [
        ("child", pa.int32()),
        ("parents", pa.list_(pa.int32())),
        ("kind", pa.string()),
        ("setup_sql", pa.list_(pa.string())),
        ("recipe_sql", pa.string()),
        ("read_bytes", pa.int64()),
        ("stored_bytes", pa.int64()),
        ("expires", pa.date32()),
        ("status", pa.string()),  # CHECKED, UNCHECKED or REFUSED
    ]
)
REASONS = pa.schema([("child", pa.int32()), ("parent", pa.int32()), ("reason", pa.string())])
"""Edges and unions without a recipe."""


def write_recipes(store: StageStore, recipes: Mapping[Recipe, str], reasons: Mapping[Ends, str]) -> None:
    """Store recipes, each with its status, and why edges and unions without one have none."""
    rows = [{**asdict(recipe), "status": status} for recipe, status in recipes.items()]
    told = [{"child": child, "parent": parent, "reason": text} for (child, parent), text in sorted(reasons.items())]
    store.write_table(RECIPES, "recipes", pa.Table.from_pylist(rows, schema=STORED_RECIPES))
    store.write_table(RECIPES, "reasons", pa.Table.from_pylist(told, schema=REASONS))


def read_offers(store: StageStore) -> dict[Recipe, str]:
    """All stored recipes, each with its status."""
    rows = store.read_table(RECIPES, "recipes", STORED_RECIPES).to_pylist()
    return {_recipe(row): row["status"] for row in rows}


def read_recipes(store: StageStore) -> list[Recipe]:
    """The recipes that were run and gave their child back."""
    return [recipe for recipe, status in read_offers(store).items() if status == CHECKED]


def read_reasons(store: StageStore) -> dict[Ends, str]:
    """Why edges and unions have no recipe, in words, by child and parent."""
    rows = store.read_table(RECIPES, "reasons", REASONS).to_pylist()
    return {(row["child"], row["parent"]): row["reason"] for row in rows}


def _recipe(row: Mapping[str, Any]) -> Recipe:
    values = {name: row[name] for name in STORED_RECIPES.names if name != "status"}
    return Recipe(**{**values, "parents": tuple(row["parents"]), "setup_sql": tuple(row["setup_sql"])})
