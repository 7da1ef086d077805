"""Which edges need a recipe: among many equal tables not every pair does, nor does every table above a small one."""

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

FIRST_PARENTS = 8
"""Tables that contain a child and are asked for a recipe at once; twice as many follow while none has one."""
LASTING_PARENTS = 4
"""Of these, tables that are likely to be kept; the others are those that cost least to read."""


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


def portions(edges: Sequence[Edge], inventory: Inventory, must_stay: Set[int] = frozenset()) -> list[list[Edge]]:
    """Edges in the order in which they are to be tried: later ones only for children without a recipe so far.

    In a chain of snapshots the edges grow with the square of the tables, and nobody needs a way back from each. Pairs
    of equal tables are all in the first portion, and so are the first parents of each child.
    """
    contained = {edge.child for edge in edges if edge.relation != "equal"}
    above: dict[int, list[Edge]] = {}
    found: list[list[Edge]] = [[edge for edge in edges if edge.relation == "equal"]]
    for edge in edges:
        if edge.relation != "equal":
            above.setdefault(edge.child, []).append(edge)
    for own in above.values():
        for rank, edge in enumerate(_ranked(own, inventory, must_stay, contained)):
            place = (rank // FIRST_PARENTS + 1).bit_length() - 1
            found += [[] for _ in range(place + 1 - len(found))]
            found[place].append(edge)
    return found


def _ranked(edges: Sequence[Edge], inventory: Inventory, must_stay: Set[int], contained: Set[int]) -> list[Edge]:
    """The edges of one child: some parents that are likely to be kept, then those of the fewest bytes."""

    def small(edge: Edge) -> tuple[int, str]:
        return inventory.harvests[edge.parent].table_bytes, inventory.found[edge.parent].id

    lasting = [edge for edge in edges if edge.parent in must_stay or edge.parent not in contained]
    first = sorted(lasting, key=lambda edge: (edge.parent not in must_stay, *small(edge)))[:LASTING_PARENTS]
    chosen = {edge.parent for edge in first}
    return first + sorted((edge for edge in edges if edge.parent not in chosen), key=small)


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
