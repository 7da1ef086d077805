"""Why a table is kept or deleted, in a word for machines and in a sentence for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from r2d2.model import Recipe
from r2d2.retention.offers import Offers

_NAMED_PARENTS = 3


class Constraint(StrEnum):
    """What keeps a table."""

    POLICY = "policy"
    """A rule of the policy, or a reason that no policy can lift."""
    PARENT = "parent"
    """Deleted tables are rebuilt from it."""
    NO_RECIPE = "recipe"
    """Nothing rebuilds it."""
    EXPIRES = "expires"
    """What rebuilds it does not last for the horizon."""
    LATENCY = "latency"
    """What rebuilds it takes too long."""
    COST = "cost"
    """Deleting it saves nothing."""
    CONFLICT = "conflict"
    """A table that it would be rebuilt from is deleted, which saves more."""
    UNSETTLED = "unsettled"
    """The time limit came first."""


class Uses:
    """The recipes of the plan: by child, and how many of them read a table."""

    def __init__(self, chosen: Mapping[int, Recipe]) -> None:
        self.chosen = chosen
        self.count = Counter(parent for recipe in chosen.values() for parent in set(recipe.parents))


def why_deleted(offers: Offers, recipe: Recipe) -> str:
    """How a deleted table comes back."""
    names = _names(offers, recipe.parents)
    if recipe.through:
        return f"rebuilt from {names} through {_names(offers, tuple(dict.fromkeys(recipe.through)))}"
    words = {
        "equal": f"equal to {names}",
        "projection": f"its columns are a projection of {names}",
        "distinct": f"its rows are the distinct ones of {names}",
        "selection": f"its rows are a selection of {names}",
        "version": f"an older version of {names}",
        "union": f"its rows are those of {names} together",
    }
    return words.get(recipe.kind, f"rebuilt from {names}")


def _names(offers: Offers, tables: tuple[int, ...]) -> str:
    named = [f"`{offers.by_table[table].id}`" for table in tables[:_NAMED_PARENTS]]
    more = len(tables) - len(named)
    if more:
        return ", ".join(named) + f" and {more} more"
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def why_kept(offers: Offers, table: int, uses: Uses) -> tuple[Constraint, str]:
    """What binds a kept table, the strongest first, and a sentence to follow "kept: "."""
    candidate, recipes, count = offers.by_table[table], offers.recipes.get(table, []), uses.count[table]
    if not candidate.may_delete:
        return Constraint.POLICY, candidate.keep_reason
    if count:
        return Constraint.PARENT, f"parent of {count} deleted table{'s' if count > 1 else ''}"
    if not recipes:
        return _why_no_recipe(offers, table)
    saving = offers.saving(recipes[0])
    if saving <= 0:
        why = "costs less to keep than to rebuild" if saving < 0 else "deleting it would save nothing"
        return Constraint.COST, why
    missing = next((parent for parent in recipes[0].parents if parent in uses.chosen), None)
    if missing is None:
        return Constraint.UNSETTLED, "deleting it may save something, but that was not settled"
    why = f"`{offers.by_table[missing].id}`, which it would be rebuilt from, is deleted"
    return Constraint.CONFLICT, why


def _why_no_recipe(offers: Offers, table: int) -> tuple[Constraint, str]:
    candidate, slow, expiring = offers.by_table[table], offers.too_slow.get(table), offers.expiring.get(table)
    if slow:
        took, bound = duration_text(min(map(offers.seconds, slow))), duration_text(offers.latency_bound(table))
        rule = f" (policy {candidate.latency_rule!r})" if candidate.latency_rule else ""
        return Constraint.LATENCY, f"latency {took} > {bound}{rule}"
    if expiring:
        last = max(recipe.expires for recipe in expiring if recipe.expires is not None)
        months = offers.costs.horizon_months
        return Constraint.EXPIRES, f"its recipe works until {last} only, within the horizon of {months:g} months"
    return Constraint.NO_RECIPE, candidate.no_recipe_reason or "no other table contains it"


def duration_text(seconds: float) -> str:
    """Seconds in the unit a person would use, exact enough to see which of two is longer."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"
