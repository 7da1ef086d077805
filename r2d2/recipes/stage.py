"""Stage *recipes*: how each contained table comes back from each table that contains it, found out by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r2d2.model import Edge, Recipe
from r2d2.recipes.check import Checked, check_recipes
from r2d2.recipes.offer import Offer
from r2d2.recipes.selection import search_queries
from r2d2.recipes.sql import build_recipe, no_rebuild_reason
from r2d2.recipes.stars import needed_edges, portions
from r2d2.recipes.stored import (
    CHECKED,
    RECIPES,
    REFUSED,
    SEVERAL,
    UNCHECKED,
    Ends,
    read_offers,
    read_reasons,
    read_recipes,
    write_recipes,
)
from r2d2.recipes.union import offer_unions
from r2d2.recipes.version import offer_versions
from r2d2.scan.bag_sums import BagSum
from r2d2.scan.covers import OtherUnions

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

__all__ = ["Offer", "confirm_recipes", "read_offers", "read_reasons", "read_recipes", "run_recipes"]


Step = Callable[["StageRun", Sequence[Edge]], Offer]
"""Looks for recipes of one or more kinds, given the edges that no earlier step has served."""


def offer_projections(run: StageRun, edges: Sequence[Edge]) -> Offer:
    """Recipes that metadata alone suggests. Tables without rows are never rebuilt from one another."""
    found, harvests = run.inventory.found, run.inventory.harvests
    recipes: list[Recipe] = []
    reasons: dict[Ends, str] = {}
    for edge in edges:
        ends = (found[edge.child], found[edge.parent], harvests[edge.child], harvests[edge.parent])
        if edge.parent_rows == 0:
            reasons[edge.child, edge.parent] = "neither table has a row"
        elif reason := no_rebuild_reason(edge, *ends):
            reasons[edge.child, edge.parent] = reason
        elif recipe := build_recipe(edge, *ends):
            recipes.append(recipe)
    return Offer(recipes=recipes, reasons=reasons)


EDGE_STEPS: tuple[Step, ...] = (offer_projections, search_queries, offer_versions)
"""In this order, the recipes of edges that are the cheapest to run and to understand first."""


def run_recipes(run: StageRun, edges: Sequence[Edge], must_stay: Set[int], other_unions: OtherUnions) -> dict[str, int]:
    """Store a checked recipe of every edge that offers one, and for each other edge the reason.

    With `--recipes chosen` the recipes are stored unchecked, for `confirm_recipes`.

    Args:
        run: The audit.
        edges: Verified containments.
        must_stay: Tables that no plan deletes.
        other_unions: Asked where no recipe is found from the tables of a union.

    Returns:
        The recipes, and bytes that were read.
    """
    active = [edge for edge in edges if run.inventory.are_active(edge)]
    needed, reasons = needed_edges(active, run.inventory, must_stay)
    ladder = _Ladder(run=run, check=run.config.recipes == "all", reasons=reasons)
    first, *later = portions(needed, run.inventory, must_stay)
    ladder.climb(first, (*EDGE_STEPS, lambda run, _: offer_unions(run, other_unions)))
    strict = {(edge.child, edge.parent) for edge in needed if edge.relation != "equal"}
    for portion in later:
        served = {child for child, _ in ladder.served() & strict}
        ladder.climb([edge for edge in portion if edge.child not in served])
        skipped = [(edge.child, edge.parent) for edge in portion if edge.child in served]
        ladder.reasons |= dict.fromkeys(skipped, "not needed: other tables that contain it have recipes for it")
    return ladder.store()


def confirm_recipes(run: StageRun, edges: Sequence[Edge], wanted: Sequence[Recipe]) -> dict[str, int]:
    """Check stored recipes that a plan wants; in place of those that fail, others are stored where there are any.

    Args:
        run: The audit.
        edges: Verified containments.
        wanted: Stored recipes that were not checked.

    Returns:
        The recipes, and bytes that were read.
    """
    ladder = _Ladder(run=run, check=False, reasons=read_reasons(run.store), found=read_offers(run.store))
    refused = ladder.judge(wanted)
    lost = {ends for recipe in refused for ends in _ends(recipe)}
    open_edges = [edge for edge in edges if (edge.child, edge.parent) in lost and run.inventory.are_active(edge)]
    ladder.climb(open_edges)  # of a union there is one recipe only
    return ladder.store()


@dataclass(kw_only=True)
class _Ladder:
    """Takes edges from step to step until one offers a recipe that holds.

    Attributes:
        check: Run what a step offers before the next step is asked.
        found: Recipes with their status.
        reasons: Why edges have none so far.
        sums: Of the rows of children that were read, with which what recipes return is compared.
    """

    run: StageRun
    check: bool
    reasons: dict[Ends, str]
    found: dict[Recipe, str] = field(default_factory=dict)
    sums: dict[int, BagSum] = field(default_factory=dict)
    bytes_read: int = 0

    def climb(self, edges: Sequence[Edge], steps: Sequence[Step] = EDGE_STEPS) -> None:
        last: list[Recipe] = []
        for step in steps:
            served = self.served()
            offer = step(self.run, [edge for edge in edges if (edge.child, edge.parent) not in served])
            last += offer.last
            self.reasons |= offer.reasons
            self.sums |= offer.sums
            self.bytes_read += offer.bytes_read
            self._take(offer.recipes)
        served = self.served()
        self._take([recipe for recipe in last if served.isdisjoint(_ends(recipe))])
        for edge in edges:
            self.reasons.setdefault((edge.child, edge.parent), "no query that was tried gives the child back")

    def _take(self, recipes: Sequence[Recipe]) -> None:
        fresh = [recipe for recipe in recipes if recipe not in self.found]
        if self.check:
            self.judge(fresh)
        else:
            self.found |= dict.fromkeys(fresh, UNCHECKED)

    def judge(self, recipes: Sequence[Recipe]) -> Iterable[Recipe]:
        """Run recipes; returns those that are refused."""
        checked = _check(self.run, recipes, self.sums)
        self.found |= {**dict.fromkeys(checked.good, CHECKED), **dict.fromkeys(checked.refused, REFUSED)}
        for recipe, reason in checked.refused.items():
            for ends in _ends(recipe):
                if ends[1] != SEVERAL or ends not in self.reasons:  # of a union the reason of its first tables stands
                    self.reasons[ends] = reason
        self.bytes_read += checked.bytes_read
        return checked.refused

    def store(self) -> dict[str, int]:
        served = self.served()
        reasons = {ends: reason for ends, reason in self.reasons.items() if ends not in served}
        write_recipes(self.run.store, self.found, reasons)
        usable = sum(status != REFUSED for status in self.found.values())
        counts = {"recipes": usable, "bytes_read": self.bytes_read}
        self.run.store.commit(RECIPES, counts)
        return counts

    def served(self) -> set[Ends]:
        """Ends of edges, and unions, that a recipe serves."""
        return {ends for recipe, status in self.found.items() if status != REFUSED for ends in _ends(recipe)}


def _ends(recipe: Recipe) -> list[Ends]:
    """The edge, or the union, that a recipe serves."""
    return [(recipe.child, SEVERAL if recipe.kind == "union" else recipe.parents[0])]


def _check(run: StageRun, recipes: Sequence[Recipe], sums: dict[int, BagSum]) -> Checked:
    if not recipes:
        return Checked(good=(), refused={}, bytes_read=0)
    with run.engine.scratch_session() as spark:
        return check_recipes(spark, recipes, run.inventory, run.kernels, run.engine_frames(spark), sums)
