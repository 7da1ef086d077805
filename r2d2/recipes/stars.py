"""Which edges need a recipe: among many equal tables not every pair does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING

from r2d2.model import Edge
from r2d2.recipes.sql import no_parent_reason

if TYPE_CHECKING:
    from r2d2.lake.inventory import Inventory
    from r2d2.recipes.stored import Ends

SMALL_CLASS = 5
"""Equal tables up to this number get a recipe for every pair of them."""


def needed_edges(
    edges: Sequence[Edge], inventory: Inventory, must_stay: Set[int] = frozenset()
) -> tuple[list[Edge], dict[Ends, str]]:
    """The edges that need a recipe, and why the others do not.

    A class of more than SMALL_CLASS equal tables has a *centre*: of the tables that a recipe may read, the one that
    the plan keeps, by `must_stay` or else by its tie rule. Members come back from the centre, and the centre from each
    of them; every other child of the class comes back from the centre alone.
    """
    centre_of = {
        table: centre
        for members in equal_classes(edges)
        if len(members) > SMALL_CLASS and (centre := _centre(members, inventory, must_stay)) is not None
        for table in members
    }
    needed: list[Edge] = []
    reasons: dict[Ends, str] = {}
    for edge in edges:
        centre = centre_of.get(edge.parent, edge.parent)
        if edge.parent == centre or (edge.relation == "equal" and edge.child == centre):
            needed.append(edge)
        else:
            serving = inventory.found[centre].id
            reasons[edge.child, edge.parent] = f"not needed: the parent equals `{serving}`, which serves instead"
    return needed, reasons


def equal_classes(edges: Iterable[Edge]) -> list[list[int]]:
    """Classes of two or more equal tables, each ascending."""
    classes: dict[int, set[int]] = {}
    for edge in edges:
        if edge.relation == "equal":
            classes.setdefault(edge.child, {edge.child}).add(edge.parent)
    return [list(members) for members in sorted({tuple(sorted(members)) for members in classes.values()})]


def _centre(members: Sequence[int], inventory: Inventory, must_stay: Set[int]) -> int | None:
    """The centre of a class; None where no recipe may read any of its tables."""
    readable = [t for t in members if no_parent_reason(inventory.found[t], inventory.harvests[t]) is None]
    return min(
        readable,
        key=lambda t: (t not in must_stay, -len(inventory.harvests[t].schema), inventory.found[t].id, t),
        default=None,
    )
