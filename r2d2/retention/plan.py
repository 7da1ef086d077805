"""The plan: for every table whether to keep or delete it, what either costs, and why."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2d2.errors import R2D2Error, UsageError
from r2d2.model import Recipe
from r2d2.retention.costs import CostModel, rebuild_cost, rebuild_seconds
from r2d2.retention.optret import Option, solve
from r2d2.retention.prices import PriceBook


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A table as the plan sees it.

    Attributes:
        table: Its position in the lake's list of tables.
        bytes: Stored bytes of its snapshot.
        history_bytes: Bytes kept for older versions only; they go with the table.
        columns: Number of columns.
        may_delete: Whether the plan may delete it at all.
        keep_reason: Why it may not be deleted, as a person should read it after "kept: ".
    """

    table: int
    id: str
    bytes: int
    history_bytes: int
    rows: int
    columns: int
    may_delete: bool
    keep_reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a table. Costs are in the plan's currency, over its horizon.

    Attributes:
        reason: A short sentence with ids as they are, not escaped.
        cost_kept: Cost of storing it with its history.
        cost_deleted: Cost of rebuilding it at each read, by the recipe of the plan, for a kept table by its cheapest
            one; None without recipes.
        recipe: How a deleted table comes back; None for a kept one.
        saving_per_month: What its deletion saves, > 0; 0 for a kept table.
        rebuild_seconds, rebuild_cost: Of one rebuild; None for a kept table.
    """

    table: int
    delete: bool
    reason: str
    cost_kept: float
    cost_deleted: float | None
    recipe: Recipe | None
    saving_per_month: float
    rebuild_seconds: float | None
    rebuild_cost: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A decision for every table, and what they save together.

    Attributes:
        decisions: One per candidate, ordered by table.
        optimal: Proved the cheapest, ties settled. A plan that the time limit stopped may differ from run to run.
        gap: The saving is at most this share of the best possible one below it; 0 if proved the cheapest.
    """

    decisions: tuple[Decision, ...]
    savings_per_month: float
    currency: str
    optimal: bool
    gap: float


def plan_retention(
    candidates: Sequence[Candidate],
    recipes: Sequence[Recipe],
    prices: PriceBook,
    *,
    reads_per_month: float,
    horizon_months: float,
    time_limit_seconds: float = 60.0,
) -> Plan:
    """The cheapest plan in which every deleted table has a recipe whose parents are all kept.

    A table is only deleted if that saves more than nothing. Where plans cost the same, the table with more columns is
    kept, then the one with more rows, then the one with the smaller id. The order of the arguments does not matter.

    Args:
        candidates: All tables, also those that must be kept.
        recipes: Checked recipes; children and parents are among the candidates.
        reads_per_month: Reads of each table, at least 0.
        horizon_months: Months that are counted, > 0.
        time_limit_seconds: For the integer programs; reductions and reasons are not counted.

    Raises:
        UsageError: If reads, horizon or time limit are out of range.
        ValueError: If candidates repeat a table, a recipe names a table that is not a candidate, has no parents or is
            its own parent, or a size is negative.
    """
    if not time_limit_seconds >= 0:
        raise UsageError(f"the time limit must be a number of seconds of at least 0, got {time_limit_seconds}")
    costs = CostModel(prices=prices, reads_per_month=reads_per_month, horizon_months=horizon_months)
    _check_input(candidates, recipes)
    offers = _Offers(candidates, recipes, costs)
    solution = solve(offers.options(), time_limit_seconds=time_limit_seconds)
    chosen = offers.choose(frozenset(offers.ranked[rank].table for rank in solution.deleted))
    saved = math.fsum(offers.saving(recipe) for recipe in chosen.values())
    decisions = _decide(offers, chosen)
    return Plan(
        decisions=decisions,
        savings_per_month=math.fsum(decision.saving_per_month for decision in decisions),
        currency=prices.currency,
        optimal=solution.optimal,
        gap=0.0 if solution.bound <= saved or solution.optimal else (solution.bound - saved) / solution.bound,
    )


def _check_input(candidates: Sequence[Candidate], recipes: Sequence[Recipe]) -> None:
    tables = {candidate.table for candidate in candidates}
    if len(tables) < len(candidates):
        raise ValueError("two candidates have the same table")
    for candidate in candidates:
        if min(candidate.bytes, candidate.history_bytes) < 0:
            raise ValueError(f"table {candidate.table}: bytes must not be negative")
    for recipe in recipes:
        if not recipe.parents or recipe.child in recipe.parents:
            raise ValueError(f"recipe of table {recipe.child}: parents must be one or more other tables")
        if not tables.issuperset((recipe.child, *recipe.parents)):
            raise ValueError(f"recipe of table {recipe.child}: it names a table that is not a candidate")
        if recipe.read_bytes < 0:
            raise ValueError(f"recipe of table {recipe.child}: read_bytes must not be negative")


class _Offers:
    """Candidates in order of preference, their recipes, and what each would cost and save over the horizon."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        recipes: Sequence[Recipe],
        costs: CostModel,
    ) -> None:
        self.costs = costs
        self.ranked = sorted(candidates, key=lambda c: (-c.columns, -c.rows, c.id, c.table))
        self.rank = {candidate.table: i for i, candidate in enumerate(self.ranked)}
        self.by_table = {candidate.table: candidate for candidate in candidates}
        self.recipes: dict[int, list[Recipe]] = defaultdict(list)
        for recipe in recipes:
            self.recipes[recipe.child].append(recipe)
        for found in self.recipes.values():
            found.sort(key=self._preference)

    def _preference(self, recipe: Recipe) -> tuple[float, bool, int, list[int], str, str]:
        """Cheap recipes first, then equal tables, few and preferred parents; the rest only makes the order total."""
        ranks = sorted(self.rank[parent] for parent in recipe.parents)
        cost = self.cost_deleted(recipe)
        return (
            cost,
            recipe.kind != "equal",
            len(ranks),
            ranks,
            recipe.kind,
            recipe.recipe_sql,
        )

    def cost_kept(self, table: int) -> float:
        candidate = self.by_table[table]
        return self.costs.cost_kept(candidate.bytes + candidate.history_bytes)

    def cost_deleted(self, recipe: Recipe) -> float:
        return self.costs.cost_deleted(recipe.read_bytes, self.by_table[recipe.child].bytes)

    def saving(self, recipe: Recipe) -> float:
        return self.cost_kept(recipe.child) - self.cost_deleted(recipe)

    def options(self) -> list[Option]:
        """The recipes that save something, on tables that may be deleted, tables numbered by preference."""
        return [
            Option(
                child=self.rank[recipe.child],
                parents=frozenset(self.rank[parent] for parent in recipe.parents),
                saving=self.saving(recipe),
            )
            for candidate in self.ranked
            for recipe in self.recipes.get(candidate.table, ())
            if candidate.may_delete and self.saving(recipe) > 0
        ]

    def choose(self, deleted: frozenset[int]) -> dict[int, Recipe]:
        """The preferred recipe of each deleted table among those whose parents are kept."""
        chosen = {}
        for table in deleted:
            usable = (recipe for recipe in self.recipes[table] if deleted.isdisjoint(recipe.parents))
            recipe = next(usable, None)
            if recipe is None or not self.by_table[table].may_delete or self.saving(recipe) <= 0:
                raise R2D2Error(f"the plan deletes table {table} without a recipe for it; please report this")
            chosen[table] = recipe
        return chosen


def _decide(offers: _Offers, chosen: Mapping[int, Recipe]) -> tuple[Decision, ...]:
    uses = Counter(parent for recipe in chosen.values() for parent in set(recipe.parents))
    return tuple(
        _deleted(offers, chosen[table]) if table in chosen else _kept(offers, table, chosen, uses[table])
        for table in sorted(offers.by_table)
    )


def _deleted(offers: _Offers, recipe: Recipe) -> Decision:
    prices = offers.costs.prices
    return Decision(
        table=recipe.child,
        delete=True,
        reason=_why_deleted(offers, recipe),
        cost_kept=offers.cost_kept(recipe.child),
        cost_deleted=offers.cost_deleted(recipe),
        recipe=recipe,
        saving_per_month=offers.saving(recipe) / offers.costs.horizon_months,
        rebuild_seconds=rebuild_seconds(recipe.read_bytes, prices),
        rebuild_cost=rebuild_cost(recipe.read_bytes, offers.by_table[recipe.child].bytes, prices),
    )


def _kept(offers: _Offers, table: int, chosen: Mapping[int, Recipe], uses: int) -> Decision:
    recipes = offers.recipes.get(table, [])
    return Decision(
        table=table,
        delete=False,
        reason="kept: " + _why_kept(offers, table, chosen, uses),
        cost_kept=offers.cost_kept(table),
        cost_deleted=offers.cost_deleted(recipes[0]) if recipes else None,
        recipe=None,
        saving_per_month=0.0,
        rebuild_seconds=None,
        rebuild_cost=None,
    )


def _why_deleted(offers: _Offers, recipe: Recipe) -> str:
    names = " and ".join(f"`{offers.by_table[parent].id}`" for parent in recipe.parents)
    if recipe.kind == "equal":
        return f"equal to {names}"
    if recipe.kind == "projection":
        return f"its columns are a projection of {names}"
    return f"rebuilt from {names}"


def _why_kept(offers: _Offers, table: int, chosen: Mapping[int, Recipe], uses: int) -> str:
    candidate, recipes = offers.by_table[table], offers.recipes.get(table, [])
    if not candidate.may_delete:
        return candidate.keep_reason
    if uses:
        return f"parent of {uses} deleted table{'s' if uses > 1 else ''}"
    if not recipes:
        return "no other table contains it"
    saving = offers.saving(recipes[0])
    if saving <= 0:
        return "costs less to keep than to rebuild" if saving < 0 else "deleting it would save nothing"
    missing = next((parent for parent in recipes[0].parents if parent in chosen), None)
    if missing is None:
        return "deleting it may save something, but that was not settled"
    return f"`{offers.by_table[missing].id}`, which it would be rebuilt from, is deleted"
