"""Stage *recipes*: the rebuilds that verified edges offer, before they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from r2d2.model import Edge, Recipe
from r2d2.recipes.sql import build_recipe

if TYPE_CHECKING:
    from r2d2.lake.inventory import Inventory


def build_recipes(edges: Sequence[Edge], inventory: Inventory) -> list[Recipe]:
    """Recipes of all edges that offer one. Tables without rows are never rebuilt from one another."""
    recipes = [
        build_recipe(
            edge,
            inventory.found[edge.child],
            inventory.found[edge.parent],
            inventory.harvests[edge.child],
            inventory.harvests[edge.parent],
        )
        for edge in edges
        if edge.parent_rows > 0 and inventory.are_active(edge)
    ]
    return [recipe for recipe in recipes if recipe is not None]
