"""An instance of the plan: tables in order of preference, their recipes, and what each would cost and save."""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from r2d2.errors import R2D2Error
from r2d2.model import Recipe
from r2d2.retention.costs import CostModel, rebuild_cost, rebuild_seconds
from r2d2.retention.instance import Option

DAYS_PER_MONTH = 365.25 / 12


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
        no_recipe_reason: Why it has no recipe although others contain it; empty where there is no more to say.
        shared_bytes: Of `bytes`, those of files in another table's folder, which count there.
        reads_per_month: None where no accesses of it are known.
        latency_bound_seconds: The longest time that a rebuild may take; None is any.
        latency_rule: Name of the policy rule that says so; empty for the bound of the whole plan.
        tier: Of the price book; None is its default.
        since: Seconds since 1970 when it was made, or last written; None where unknown.
    """

    table: int
    id: str
    bytes: int
    history_bytes: int
    rows: int
    columns: int
    may_delete: bool
    keep_reason: str
    no_recipe_reason: str = ""
    shared_bytes: int = 0
    reads_per_month: float | None = None
    latency_bound_seconds: float | None = None
    latency_rule: str = ""
    tier: str | None = None
    since: float | None = None


class Offers:
    """Candidates, and the recipes that the plan may use, the cheapest first.

    Attributes:
        recipes: By child, those that are fast enough and last long enough.
        too_slow, expiring: By child, those that are not.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        recipes: Sequence[Recipe],
        costs: CostModel,
        today: datetime.date | None = None,
    ) -> None:
        self.costs = costs
        self.ranked = sorted(candidates, key=_preference)
        self.rank = {candidate.table: i for i, candidate in enumerate(self.ranked)}
        self.by_table = {candidate.table: candidate for candidate in candidates}
        self.recipes: dict[int, list[Recipe]] = defaultdict(list)
        self.too_slow: dict[int, list[Recipe]] = defaultdict(list)
        self.expiring: dict[int, list[Recipe]] = defaultdict(list)
        last_day = None if today is None else _last_day(today, costs.horizon_months)
        for recipe in recipes:
            if recipe.expires is not None and (last_day is None or recipe.expires <= last_day):
                self.expiring[recipe.child].append(recipe)
            elif self.seconds(recipe) > self.latency_bound(recipe.child):
                self.too_slow[recipe.child].append(recipe)
            else:
                self.recipes[recipe.child].append(recipe)
        for found in self.recipes.values():
            found.sort(key=self._order)

    def _order(self, recipe: Recipe) -> tuple[float, int, bool, int, list[int], str, str]:
        """Cheap recipes first, then equal tables, few and preferred parents; the rest only makes the order total."""
        ranks = sorted(self.rank[parent] for parent in recipe.parents)
        cost = self.cost_deleted(recipe)
        return (cost, recipe.steps, recipe.kind != "equal", len(ranks), ranks, recipe.kind, recipe.recipe_sql)

    def latency_bound(self, table: int) -> float:
        """Seconds that a rebuild of the table may take; infinite where nobody said."""
        bound = self.by_table[table].latency_bound_seconds
        return math.inf if bound is None else bound

    def seconds(self, recipe: Recipe) -> float:
        """Seconds of one rebuild, those of tables on the way included."""
        return rebuild_seconds(recipe.read_bytes, self.costs.prices, recipe.steps)

    def written_bytes(self, recipe: Recipe) -> int:
        """Bytes that one rebuild writes, tables on the way included."""
        return sum(self.by_table[table].bytes for table in (recipe.child, *recipe.through))

    def _tiers(self, recipe: Recipe) -> list[str | None]:
        return [self.by_table[table].tier for table in recipe.parents]

    def rebuild_cost(self, recipe: Recipe) -> float:
        """Cost of one rebuild."""
        prices, written = self.costs.prices, self.written_bytes(recipe)
        return rebuild_cost(recipe.read_bytes, written, prices, recipe.steps, self._tiers(recipe))

    def cost_kept(self, table: int) -> float:
        """Cost of keeping the table over the horizon; files in another table's folder count there."""
        candidate = self.by_table[table]
        own = max(0, candidate.bytes - candidate.shared_bytes)
        return self.costs.cost_kept(own, history_bytes=candidate.history_bytes, tier=candidate.tier)

    def cost_deleted(self, recipe: Recipe) -> float:
        """Cost of the table over the horizon if it is deleted and rebuilt by the recipe."""
        return self.costs.cost_deleted(
            recipe.read_bytes,
            self.written_bytes(recipe),
            reads_per_month=self.by_table[recipe.child].reads_per_month,
            steps=recipe.steps,
            recipe_bytes=recipe.stored_bytes,
            tiers=self._tiers(recipe),
        )

    def saving(self, recipe: Recipe) -> float:
        """What deleting the recipe's child saves over the horizon; negative where it costs."""
        return self.cost_kept(recipe.child) - self.cost_deleted(recipe)

    def options(self) -> list[Option]:
        """The recipes that save something, on tables that may be deleted, tables numbered by preference."""
        return [option for option, _ in self.timed_options()]

    def timed_options(self) -> list[tuple[Option, float]]:
        """As `options`, each with the seconds of one rebuild."""
        return [
            (
                Option(
                    child=self.rank[recipe.child],
                    parents=frozenset(self.rank[parent] for parent in recipe.parents),
                    saving=saving,
                ),
                self.seconds(recipe),
            )
            for candidate in self.ranked
            if candidate.may_delete
            for recipe in self.recipes.get(candidate.table, ())
            if (saving := self.saving(recipe)) > 0
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


def _preference(candidate: Candidate) -> tuple[int, int, float, float, str, int]:
    """More columns, more rows, more reads, older, smaller id."""
    since = math.inf if candidate.since is None else candidate.since
    reads = candidate.reads_per_month or 0.0
    return (-candidate.columns, -candidate.rows, -reads, since, candidate.id, candidate.table)


def _last_day(today: datetime.date, horizon_months: float) -> datetime.date:
    try:
        return today + datetime.timedelta(days=math.ceil(horizon_months * DAYS_PER_MONTH))
    except OverflowError:
        return datetime.date.max
