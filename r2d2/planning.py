"""From verified edges to a plan whose every recipe was run: solve, check what was chosen, and solve again."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from r2d2.lake.delta.table import files_named_in_log
from r2d2.lake.inventory import Inventory
from r2d2.lake.run import StageRun
from r2d2.model import Edge, Format, FoundTable, Recipe
from r2d2.recipes.check import check_recipes
from r2d2.recipes.sql import no_recipe_reason
from r2d2.recipes.stage import build_recipes
from r2d2.report.results import stored_bytes
from r2d2.retention.plan import Candidate, Plan, plan_retention
from r2d2.retention.prices import PriceBook
from r2d2.scan.files import is_remote


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Decides which tables may go, and proposes nothing that was not run."""

    run: StageRun
    prices: PriceBook

    def plan(
        self, edges: Sequence[Edge], rows_of: Mapping[int, int | None], changed: Set[int] = frozenset()
    ) -> tuple[Plan, int]:
        """A plan all of whose recipes gave their table back, and the bytes read to find out.

        Args:
            edges: Verified containments.
            rows_of: Rows by table, where known.
            changed: Tables with a newer version than the one that was audited. They stay, and no recipe reads them: a
                vacuum may take the audited version at any time.
        """
        inventory, config = self.run.inventory, self.run.config
        recipes = [recipe for recipe in build_recipes(edges, inventory) if changed.isdisjoint(recipe.parents)]
        confirmed: set[Recipe] = set()
        bytes_read = 0
        lasting = lasting_reasons(inventory, rows_of, changed, propose_empty=config.propose_empty)
        while True:
            keep = {**unrebuilt_reasons(inventory, edges, recipes), **lasting}
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


def lasting_reasons(
    inventory: Inventory, rows_of: Mapping[int, int | None], changed: Set[int], *, propose_empty: bool
) -> dict[int, str]:
    """Why some tables may not be deleted, whatever it would save and whichever recipes work."""
    reasons = {table: f"it could not be judged ({f.message})" for table, f in inventory.failures.items()}
    for table in changed:
        reasons.setdefault(table, "a newer version was written during the audit")
    for table, reason in bound_tables(inventory).items():
        reasons.setdefault(table, reason)
    for table, harvest in inventory.active():
        if rows_of.get(table) == 0 and not propose_empty:
            reasons.setdefault(table, "it has no rows, and empty tables are proposed on request only")
        no_recipe = no_recipe_reason(inventory.found[table], harvest)
        if no_recipe is not None:
            reasons.setdefault(table, no_recipe)
    return reasons


def unrebuilt_reasons(inventory: Inventory, edges: Sequence[Edge], recipes: Sequence[Recipe]) -> dict[int, str]:
    """Why contained tables that no recipe gives back are kept."""
    reasons: dict[int, str] = {}
    rebuildable = {recipe.child for recipe in recipes}
    for edge in edges:
        if edge.child not in rebuildable:
            parent = inventory.found[edge.parent].id
            how = "no query that was run gives it back" if edge.bag else "it repeats rows that are there less often"
            reasons.setdefault(edge.child, f"contained in `{parent}`, but {how}")
    return reasons


def bound_tables(inventory: Inventory) -> dict[int, str]:
    """Tables that must stay because of where files lie, with the reason.

    A table whose folder holds a file that another table reads or has read (a shallow clone), or another table; and a
    table that reads files that are not its own, since deleting it would free nothing.
    """
    homes: dict[str, list[int]] = {}
    placed = [found for found in inventory.found if found.uri]
    for found in placed:
        homes.setdefault(_real(found.uri), []).append(found.table)
    bound: dict[int, str] = {}
    for found in placed:
        home = _real(found.uri)
        for uri in {_real(uri) for uri in (found.uri, *_files_of(inventory, found))}:
            if uri != home and not uri.startswith(home.rstrip("/") + "/"):
                bound.setdefault(found.table, "it reads files that are not its own")
            for other in (table for above in _ancestors(uri) for table in homes.get(above, ()) if table != found.table):
                bound[other] = "another table of the lake reads its files, or lies in its folder"
    return bound


def _files_of(inventory: Inventory, found: FoundTable) -> Iterable[str]:
    """Uris of the files that a table reads, as far as they can be known for one that was not harvested."""
    if found.format is Format.ICEBERG:
        return _files_of_iceberg(inventory, found)
    if found.table in inventory.harvests:
        return (fragment.stamp.uri for fragment in inventory.harvests[found.table].fragments)
    if found.format is Format.DELTA:
        return files_named_in_log(found.uri)
    return (file.uri for file in found.files)


def _files_of_iceberg(inventory: Inventory, found: FoundTable) -> set[str]:
    """Files of all snapshots that the table keeps, since time travel reads the older ones."""
    from r2d2.lake.iceberg.manifests import files_named_in_manifests

    harvest = inventory.harvests.get(found.table)
    live = {fragment.stamp.uri for fragment in harvest.fragments} if harvest is not None else set()
    pinned = {found.metadata} if found.metadata is not None else set()
    return live | pinned | files_named_in_manifests(found.uri, found.metadata, of_all_versions=harvest is None)


def _ancestors(uri: str) -> Iterator[str]:
    while True:
        yield uri
        above = os.path.dirname(uri)
        if above == uri or not above:
            return
        uri = above


def _real(uri: str) -> str:
    """A local path without links, which a clone's log may or may not follow."""
    return uri if is_remote(uri) else os.path.join(_real_folder(os.path.dirname(uri)), os.path.basename(uri))


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
