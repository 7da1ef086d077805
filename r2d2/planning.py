"""From verified edges to a plan whose every recipe was run: solve, check what was chosen, and solve again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2d2.lake.inventory import Inventory
from r2d2.lake.run import StageRun
from r2d2.model import Edge, Recipe
from r2d2.recipes.check import check_recipes
from r2d2.recipes.sql import no_recipe_reason
from r2d2.recipes.stage import build_recipes
from r2d2.report.results import stored_bytes
from r2d2.retention.plan import Candidate, Plan, plan_retention
from r2d2.retention.prices import PriceBook


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Decides which tables may go, and proposes nothing that was not run."""

    run: StageRun
    prices: PriceBook

    def plan(self, edges: Sequence[Edge], rows_of: Mapping[int, int | None]) -> tuple[Plan, int]:
        """A plan all of whose recipes gave their table back, and the bytes read to find out."""
        inventory, config = self.run.inventory, self.run.config
        recipes = build_recipes(edges, inventory)
        confirmed: set[Recipe] = set()
        bytes_read = 0
        while True:
            keep = keep_reasons(inventory, edges, recipes, rows_of, propose_empty=config.propose_empty)
            plan = plan_retention(
                plan_candidates(inventory, rows_of, keep),
                recipes,
                self.prices,
                reads_per_month=config.assume_reads,
                horizon_months=config.horizon_months,
            )
            chosen = [d.recipe for d in plan.decisions if d.recipe is not None and d.recipe not in confirmed]
            if not chosen:
                return plan, bytes_read
            good, read = self._check(chosen)
            bytes_read += read
            confirmed.update(good)
            refused = set(chosen) - set(good)
            recipes = [recipe for recipe in recipes if recipe not in refused]

    def _check(self, recipes: Sequence[Recipe]) -> tuple[list[Recipe], int]:
        with self.run.engine.scratch_session() as spark:
            frames = self.run.engine_frames(spark)
            return check_recipes(spark, recipes, self.run.inventory, self.run.kernels, frames)


def plan_candidates(
    inventory: Inventory, rows_of: Mapping[int, int | None], keep: Mapping[int, str]
) -> list[Candidate]:
    """Every table as the plan sees it; those with a reason to keep may not be deleted."""
    return [
        Candidate(
            table=found.table,
            id=found.id,
            bytes=stored_bytes(inventory, found.table),
            history_bytes=inventory.harvests[found.table].history_bytes if found.table in inventory.harvests else 0,
            rows=rows_of.get(found.table) or 0,
            columns=len(inventory.harvests[found.table].schema) if found.table in inventory.harvests else 0,
            may_delete=found.table not in keep,
            keep_reason=keep.get(found.table, ""),
        )
        for found in inventory.found
    ]


def keep_reasons(
    inventory: Inventory,
    edges: Sequence[Edge],
    recipes: Sequence[Recipe],
    rows_of: Mapping[int, int | None],
    *,
    propose_empty: bool,
) -> dict[int, str]:
    """Why some tables may not be deleted, whatever it would save."""
    reasons = {table: f"it could not be judged ({f.message})" for table, f in inventory.failures.items()}
    for table in shared_tables(inventory):
        reasons.setdefault(table, "another table of the lake reads its files")
    for table, harvest in inventory.active():
        if rows_of.get(table) == 0 and not propose_empty:
            reasons.setdefault(table, "it has no rows, and empty tables are proposed on request only")
        no_recipe = no_recipe_reason(inventory.found[table], harvest)
        if no_recipe is not None:
            reasons.setdefault(table, no_recipe)
    rebuildable = {recipe.child for recipe in recipes}
    for edge in edges:
        if edge.child not in rebuildable:
            parent = inventory.found[edge.parent].id
            how = "no query that was run gives it back" if edge.bag else "it repeats rows that are there less often"
            reasons.setdefault(edge.child, f"contained in `{parent}`, but {how}")
    return reasons


def shared_tables(inventory: Inventory) -> set[int]:
    """Tables with a file that another table reads too: the source of a shallow clone, and the clone."""
    uses = Counter(uri for h in inventory.harvests.values() for uri in {f.stamp.uri for f in h.fragments})
    return {
        table
        for table, harvest in inventory.harvests.items()
        if any(uses[fragment.stamp.uri] > 1 for fragment in harvest.fragments)
    }
