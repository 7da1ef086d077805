"""Chains: a recipe that reads a deleted table, put together with a recipe of that table, and so on to kept tables.

A chain is a recipe like any other once it is put together: its parents are the kept tables that it ends in, its setup
defines each deleted table on the way by that table's own recipe, and its bytes and steps are those of all its parts.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from r2d2.model import Recipe, fold, spark_name

MOST_WAYS = 32
"""Ways to rebuild one table that are carried on, those of the fewest steps and bytes first."""

ViewName = Callable[[str], str]
"""Name, in backticks, of the view that a setup statement defines."""


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A recipe with some of its parents replaced by ways to rebuild them."""

    recipe: Recipe
    replaced: Mapping[int, _Way] = field(default_factory=dict)
    parents: frozenset[int]
    through: tuple[int, ...] = ()
    read_bytes: int
    stored_bytes: int
    written_bytes: int = 0
    expires: datetime.date | None

    @property
    def order(self) -> tuple[int, int, int, int, list[int], tuple[int, ...], str]:
        steps = len(self.through)
        parents = sorted(self.parents)
        return (steps, self.read_bytes, self.written_bytes, self.stored_bytes, parents, self.through, self.recipe.kind)

    def beats(self, other: _Way) -> bool:
        """Whether it asks for no other table, and costs and takes no more at any price."""
        return (
            self.parents <= other.parents
            and len(self.through) <= len(other.through)
            and self.read_bytes <= other.read_bytes
            and self.written_bytes <= other.written_bytes
            and self.stored_bytes <= other.stored_bytes
            and (self.expires is None or (other.expires is not None and self.expires >= other.expires))
        )


def compose_chains(
    recipes: Sequence[Recipe],
    ids: Sequence[str],
    sizes: Sequence[int],
    *,
    depth: int,
    view_name: ViewName,
    kept: Set[int] = frozenset(),
) -> list[Recipe]:
    """Recipes that rebuild tables through up to `depth` deleted ones in a row, unchecked.

    Chains that read as much and ask for as much as another way of the same table are left out.

    Args:
        recipes: Without chains.
        ids: Of all tables, by position.
        sizes: Stored bytes of each table's snapshot.
        depth: At least 0; 0 gives none.
        view_name: See ViewName.
        kept: Tables that no plan deletes: a chain through one of them would be of no use.
    """
    plain: dict[int, list[_Way]] = defaultdict(list)
    for recipe in recipes:
        plain[recipe.child].append(_plain(recipe))
    ways = {child: _needed(found) for child, found in plain.items()}
    for _ in range(depth):
        ways = {
            child: _needed([*found, *(longer for way in found for longer in _longer(way, ways, sizes, kept))])
            for child, found in plain.items()
        }
    composed = (_composed(way, ids, view_name) for found in ways.values() for way in found if way.through)
    return [recipe for recipe in composed if recipe is not None]


def _plain(recipe: Recipe) -> _Way:
    return _Way(
        recipe=recipe,
        parents=frozenset(recipe.parents),
        read_bytes=recipe.read_bytes,
        stored_bytes=recipe.stored_bytes,
        expires=recipe.expires,
    )


def _needed(ways: Sequence[_Way]) -> list[_Way]:
    """Those that no other beats."""
    needed: list[_Way] = []
    for way in sorted(ways, key=lambda w: w.order):
        if not any(other.beats(way) for other in needed):
            needed.append(way)
    plain = [way for way in needed if not way.through]
    return plain + [way for way in needed if way.through][:MOST_WAYS]


def _longer(way: _Way, ways: Mapping[int, Sequence[_Way]], sizes: Sequence[int], kept: Set[int]) -> Iterator[_Way]:
    """The way with one or more of its parents replaced."""
    found = [way]
    for parent in way.recipe.parents:
        if parent in kept:
            continue
        longer = [_replaced(one, parent, by, sizes) for one in found for by in ways.get(parent, ())]
        found = _needed([*found, *(one for one in longer if one is not None)])
    return (one for one in found if one.through)


def _replaced(way: _Way, parent: int, by: _Way, sizes: Sequence[int]) -> _Way | None:
    """None where a table would be rebuilt from itself, or is both kept and rebuilt."""
    child = way.recipe.child
    parents = (way.parents - {parent}) | by.parents
    through = (*way.through, parent, *by.through)
    if child in parents or child in through or not parents.isdisjoint(through):
        return None
    return _Way(
        recipe=way.recipe,
        replaced={**way.replaced, parent: by},
        parents=parents,
        through=through,
        read_bytes=way.read_bytes + by.read_bytes,
        stored_bytes=way.stored_bytes + by.stored_bytes,
        written_bytes=way.written_bytes + by.written_bytes + sizes[parent],
        expires=min((day for day in (way.expires, by.expires) if day is not None), default=None),
    )


def _composed(way: _Way, ids: Sequence[str], view_name: ViewName) -> Recipe | None:
    """The recipe of a chain; None where one name would stand for two things."""
    setup = _setup(way, ids, view_name)
    views = {fold(view_name(statement)): statement for statement in setup}
    child = fold(spark_name(ids[way.recipe.child]))
    needed = {spark_name(ids[table]) for table in (*way.parents, *way.through)}
    defined = {view_name(statement) for statement in setup}
    if len(views) < len(setup) or child in views or not needed <= defined:
        return None
    return Recipe(
        child=way.recipe.child,
        parents=tuple(sorted(way.parents)),
        kind=way.recipe.kind,
        setup_sql=setup,
        recipe_sql=way.recipe.recipe_sql,
        read_bytes=way.read_bytes,
        stored_bytes=way.stored_bytes,
        expires=way.expires,
        through=way.through,
    )


def _setup(way: _Way, ids: Sequence[str], view_name: ViewName) -> tuple[str, ...]:
    """Statements of all parts, each once: what a statement reads is defined before it."""
    gone = {spark_name(ids[parent]) for parent in way.replaced}
    statements: dict[str, None] = {}
    for parent in way.recipe.parents:
        if parent in way.replaced:
            by = way.replaced[parent]
            statements |= dict.fromkeys(_setup(by, ids, view_name))
            statements[f"CREATE OR REPLACE TEMPORARY VIEW {spark_name(ids[parent])} AS {by.recipe.recipe_sql}"] = None
    own = [statement for statement in way.recipe.setup_sql if view_name(statement) not in gone]
    return tuple(statements | dict.fromkeys(own))
