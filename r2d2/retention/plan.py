"""The plan: for every table whether to keep or delete it, what either costs, and why."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2d2.errors import UsageError
from r2d2.model import Recipe
from r2d2.retention.costs import CostModel
from r2d2.retention.offers import Candidate, Offers
from r2d2.retention.optret import solve
from r2d2.retention.prices import PriceBook
from r2d2.retention.reasons import Uses, why_deleted, why_kept

TIME_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a table. Costs are in the plan's currency, over its horizon.

    Attributes:
        reason: A short sentence with ids as they are, not escaped.
        constraint: What decided, in a word: `saving` for a deleted table; for a kept one what would have to change
            first, see `reasons.Constraint`.
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
    constraint: str
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
    today: datetime.date | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Plan:
    """The cheapest plan in which every deleted table is rebuilt by one checked recipe from tables that are kept.

    A table is deleted only where that saves more than nothing. Where plans cost the same, the table with more columns
    is kept, then the one with more rows, more reads, the older one, the one with the smaller id. The order of the
    arguments does not matter.

    Args:
        candidates: All tables, also those that must be kept.
        recipes: Checked recipes; children and parents are among the candidates.
        reads_per_month: Reads of each table of which none are known, at least 0.
        horizon_months: Months that are counted, > 0.
        today: The first day of the horizon: a recipe that expires within it is not used. None uses no recipe that
            expires at all.
        time_limit_seconds: For solving what reductions leave; reductions and reasons are not counted.

    Raises:
        UsageError: If reads, horizon or time limit are out of range.
        ValueError: If candidates repeat a table, a recipe names a table that is not a candidate, has no parents or is
            its own parent, or a size is negative.
    """
    offers = make_offers(
        candidates, recipes, prices, reads_per_month=reads_per_month, horizon_months=horizon_months, today=today
    )
    return plan_of(offers, time_limit_seconds=time_limit_seconds)


def make_offers(
    candidates: Sequence[Candidate],
    recipes: Sequence[Recipe],
    prices: PriceBook,
    *,
    reads_per_month: float,
    horizon_months: float,
    today: datetime.date | None,
) -> Offers:
    """The instance of a plan, its input checked; arguments and errors as for `plan_retention`."""
    costs = CostModel(prices=prices, reads_per_month=reads_per_month, horizon_months=horizon_months)
    _check_input(candidates, recipes, prices)
    return Offers(candidates, recipes, costs, today)


def plan_of(offers: Offers, *, time_limit_seconds: float = TIME_LIMIT_SECONDS) -> Plan:
    """Solve an instance and say why; raises UsageError for a time limit below 0."""
    if not time_limit_seconds >= 0:
        raise UsageError(f"the time limit must be a number of seconds of at least 0, got {time_limit_seconds}")
    solution = solve(offers.options(), time_limit_seconds=time_limit_seconds)
    chosen = offers.choose(frozenset(offers.ranked[rank].table for rank in solution.deleted))
    saved = math.fsum(offers.saving(recipe) for recipe in chosen.values())
    decisions = _decide(offers, chosen)
    return Plan(
        decisions=decisions,
        savings_per_month=math.fsum(decision.saving_per_month for decision in decisions),
        currency=offers.costs.prices.currency,
        optimal=solution.optimal,
        gap=0.0 if solution.bound <= saved or solution.optimal else (solution.bound - saved) / solution.bound,
    )


def _check_input(candidates: Sequence[Candidate], recipes: Sequence[Recipe], prices: PriceBook) -> None:
    tables = {candidate.table for candidate in candidates}
    if len(tables) < len(candidates):
        raise ValueError("two candidates have the same table")
    for candidate in candidates:
        if min(candidate.bytes, candidate.history_bytes, candidate.shared_bytes) < 0:
            raise ValueError(f"table {candidate.table}: bytes must not be negative")
        if candidate.tier is not None and candidate.tier not in prices.tiers:
            known = ", ".join(prices.tiers) or "none"
            raise UsageError(f"table {candidate.id!r} lies in tier {candidate.tier!r}; {prices.name} knows {known}")
    for recipe in recipes:
        if not recipe.parents or recipe.child in recipe.parents:
            raise ValueError(f"recipe of table {recipe.child}: parents must be one or more other tables")
        if not tables.issuperset((recipe.child, *recipe.parents, *recipe.through)):
            raise ValueError(f"recipe of table {recipe.child}: it names a table that is not a candidate")
        if min(recipe.read_bytes, recipe.stored_bytes) < 0:
            raise ValueError(f"recipe of table {recipe.child}: read_bytes must not be negative, nor stored_bytes")


def _decide(offers: Offers, chosen: Mapping[int, Recipe]) -> tuple[Decision, ...]:
    uses = Uses(chosen)
    return tuple(
        _deleted(offers, chosen[table]) if table in chosen else _kept(offers, table, uses)
        for table in sorted(offers.by_table)
    )


def _deleted(offers: Offers, recipe: Recipe) -> Decision:
    return Decision(
        table=recipe.child,
        delete=True,
        reason=why_deleted(offers, recipe),
        constraint="saving",
        cost_kept=offers.cost_kept(recipe.child),
        cost_deleted=offers.cost_deleted(recipe),
        recipe=recipe,
        saving_per_month=offers.saving(recipe) / offers.costs.horizon_months,
        rebuild_seconds=offers.seconds(recipe),
        rebuild_cost=offers.rebuild_cost(recipe),
    )


def _kept(offers: Offers, table: int, uses: Uses) -> Decision:
    cheapest = next(iter(offers.recipes.get(table, ())), None)
    constraint, why = why_kept(offers, table, uses)
    return Decision(
        table=table,
        delete=False,
        reason=f"kept: {why}",
        constraint=constraint.value,
        cost_kept=offers.cost_kept(table),
        cost_deleted=None if cheapest is None else offers.cost_deleted(cheapest),
        recipe=None,
        saving_per_month=0.0,
        rebuild_seconds=None,
        rebuild_cost=None,
    )
