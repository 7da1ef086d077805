"""From checked recipes to a plan. With unchecked ones: solve, check what was chosen, and solve again."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from r2d2.lake.delta.table import files_named_in_log
from r2d2.lake.inventory import Inventory
from r2d2.lake.run import StageRun
from r2d2.model import Edge, Format, FoundTable, Harvest, LeafPath, Recipe
from r2d2.recipes.check import check_recipes
from r2d2.recipes.sql import no_recipe_reason, view_name
from r2d2.recipes.stage import confirm_recipes, read_offers, read_reasons
from r2d2.recipes.stored import REFUSED, SEVERAL, UNCHECKED, Ends
from r2d2.report.near import leaf_name
from r2d2.report.results import stored_bytes
from r2d2.retention.chains import compose_chains
from r2d2.retention.facts import PlanInputs, Prepared, TableFacts, prepare
from r2d2.retention.plan import Plan, plan_retention
from r2d2.retention.policy import Properties, split_tags
from r2d2.scan.files import is_remote

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss"}
"""Other names of an object store: a clone's log may use another one than LAKE."""
_NOT_KEPT = ("", "false", "0", "no", "off")
"""Values of `r2d2.keep` that let a table go; any other may mean that its owner wants it."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan and what it was made of.

    Attributes:
        plan: All its recipes gave their table back.
        facts: What it counted with, by table.
        prepared: The same, with what people said in their files.
        chains: Recipes through deleted tables that were run and gave their table back.
        bytes_read: What was read to find out.
    """

    plan: Plan
    facts: Sequence[TableFacts]
    prepared: Prepared
    chains: Sequence[Recipe]
    bytes_read: int


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Decides which tables may go, and proposes nothing that was not run."""

    run: StageRun
    inputs: PlanInputs

    def plan(
        self, edges: Sequence[Edge], rows_of: Mapping[int, int | None], changed: Set[int] = frozenset()
    ) -> Planned:
        """A plan all of whose recipes gave their table back.

        Args:
            edges: Verified containments.
            rows_of: Rows by table, where known.
            changed: Tables with a newer version than the one that was audited. They stay, and no recipe reads them: a
                vacuum may take the audited version at any time.
        """
        checks = _ChainChecks(run=self.run)
        bytes_read = 0
        lasting = lasting_reasons(self.run.inventory, rows_of, changed, propose_empty=self.run.config.propose_empty)
        lasting = {**ignored_reasons(self.run.ignored), **lasting}
        while True:
            offers = {recipe: status for recipe, status in read_offers(self.run.store).items() if status != REFUSED}
            usable = [recipe for recipe in offers if is_usable(recipe, self.run.inventory, changed)]
            reasons = unrebuilt_reasons(self.run.inventory, edges, usable, read_reasons(self.run.store))
            facts = table_facts(self.run.inventory, rows_of, lasting, reasons)
            prepared = prepare(facts, self.inputs)
            chains = [recipe for recipe in self._chains(usable, prepared) if recipe not in checks.refused]
            plan = self._solve(prepared, [*usable, *chains])
            chosen = [decision.recipe for decision in plan.decisions if decision.recipe is not None]
            unchecked = [recipe for recipe in chosen if offers.get(recipe) == UNCHECKED]
            untried = [recipe for recipe in chosen if recipe.through and recipe not in checks.good]
            if not unchecked and not untried:
                good = [recipe for recipe in chains if recipe in checks.good]
                return Planned(plan=plan, facts=facts, prepared=prepared, chains=good, bytes_read=bytes_read)
            if unchecked:
                bytes_read += confirm_recipes(self.run, edges, unchecked)["bytes_read"]
            bytes_read += checks.run_all(untried)

    def kept_by_policy(self, rows_of: Mapping[int, int | None]) -> set[int]:
        """Tables that the policy or their owner wants kept."""
        prepared = prepare(table_facts(self.run.inventory, rows_of, {}, {}), self.inputs)
        return {candidate.table for candidate in prepared.candidates if not candidate.may_delete}

    def _chains(self, recipes: Sequence[Recipe], prepared: Prepared) -> list[Recipe]:
        if not self.inputs.options.chains:
            return []
        candidates = prepared.candidates
        return compose_chains(
            recipes,
            [candidate.id for candidate in candidates],
            [candidate.bytes for candidate in candidates],
            depth=self.inputs.options.chains,
            view_name=view_name,
            kept={candidate.table for candidate in candidates if not candidate.may_delete},
        )

    def _solve(self, prepared: Prepared, recipes: Sequence[Recipe]) -> Plan:
        return plan_retention(
            prepared.candidates,
            recipes,
            self.inputs.prices,
            reads_per_month=self.inputs.options.assume_reads,
            horizon_months=self.inputs.options.horizon_months,
            today=self.inputs.now.date(),
        )


@dataclass(kw_only=True)
class _ChainChecks:
    """Which chains gave their table back when they were run, and which did not."""

    run: StageRun
    good: set[Recipe] = field(default_factory=set)
    refused: set[Recipe] = field(default_factory=set)

    def run_all(self, chains: Sequence[Recipe]) -> int:
        """Run chains; returns the bytes that were read."""
        if not chains:
            return 0
        with self.run.engine.scratch_session() as spark:
            frames = self.run.engine_frames(spark)
            checked = check_recipes(spark, chains, self.run.inventory, self.run.kernels, frames)
        self.good.update(checked.good)
        self.refused.update(checked.refused)
        return checked.bytes_read


def is_usable(recipe: Recipe, inventory: Inventory, changed: Set[int]) -> bool:
    """Whether the tables of a recipe still take part, and none that it reads has changed."""
    tables = (recipe.child, *recipe.parents, *recipe.through)
    return changed.isdisjoint(recipe.parents) and all(map(inventory.is_active, tables))


def table_facts(
    inventory: Inventory,
    rows_of: Mapping[int, int | None],
    keep: Mapping[int, str],
    no_recipe: Mapping[int, str],
) -> list[TableFacts]:
    """What the plan counts with, by table.

    Args:
        inventory: The tables.
        rows_of: Rows by table, where known.
        keep: Why some tables may not be deleted.
        no_recipe: Why some contained tables have no recipe.
    """
    facts = []
    for found in inventory.found:
        harvest = inventory.harvests.get(found.table)
        facts.append(
            TableFacts(
                table=found.table,
                id=found.id,
                bytes=stored_bytes(inventory, found.table),
                history_bytes=harvest.history_bytes if harvest else 0,
                shared_bytes=_shared_bytes(found, harvest) if harvest else 0,
                rows=rows_of.get(found.table),
                columns=len(harvest.schema) if harvest else 0,
                keep_reason=keep.get(found.table),
                no_recipe_reason=no_recipe.get(found.table),
                created=_moment(harvest.created_ms) if harvest else None,
                last_write=_last_write(found, harvest) if harvest else None,
                properties=_properties(harvest) if harvest else Properties(),
            )
        )
    return facts


def _shared_bytes(found: FoundTable, harvest: Harvest) -> int:
    """Bytes of files that lie outside the table's own folder, as those of a clone's source do."""
    if found.format is not Format.DELTA:
        return 0
    home = _real(found.uri).rstrip("/") + "/"
    stamps = (fragment.stamp for fragment in harvest.fragments)
    return sum(stamp.size for stamp in stamps if not _real(stamp.uri).startswith(home))


def _last_write(found: FoundTable, harvest: Harvest) -> datetime.datetime | None:
    """When the snapshot was committed; without a log the newest time of its files, which object stores do not tell."""
    if found.format in (Format.DELTA, Format.ICEBERG):
        return _moment(harvest.written_ms)
    stamps = [fragment.stamp for fragment in harvest.fragments]
    if not stamps or any(is_remote(stamp.uri) or not stamp.token.isdecimal() for stamp in stamps):
        return None
    return _moment(max(int(stamp.token) for stamp in stamps) // 1_000_000)


def _moment(milliseconds: int | None) -> datetime.datetime | None:
    if milliseconds is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _properties(harvest: Harvest) -> Properties:
    told = harvest.properties
    keep = told.get("r2d2.keep", "").strip().lower() not in _NOT_KEPT
    return Properties(owner=told.get("owner"), tags=split_tags(told.get("tags")), keep=keep)


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


def ignored_reasons(ignored: Mapping[int, Sequence[LeafPath]]) -> dict[int, str]:
    """Why tables stay whose columns were not all compared, by table, from the leaves that were left out."""
    return {
        table: f"this audit ignores its column {leaf_name(paths[0])}, which no recipe would give back exactly"
        for table, paths in ignored.items()
    }


def unrebuilt_reasons(
    inventory: Inventory, edges: Sequence[Edge], recipes: Sequence[Recipe], why: Mapping[Ends, str]
) -> dict[int, str]:
    """Why contained tables that no recipe gives back are kept.

    Args:
        inventory: The tables.
        edges: Verified containments.
        recipes: Those that may be used.
        why: Reasons of edges and unions without a recipe.
    """
    reasons: dict[int, str] = {}
    rebuildable = {recipe.child for recipe in recipes}
    for (child, of), how in why.items():
        if of == SEVERAL and child not in rebuildable:
            reasons[child] = f"only several tables together contain it, and {how}"
    for edge in edges:
        if edge.child not in rebuildable:
            parent = inventory.found[edge.parent].id
            how = why.get((edge.child, edge.parent), "no query that was run gives it back")
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
    """One spelling: local paths without links, which a clone's log may or may not follow; one scheme for each store."""
    if is_remote(uri):
        scheme, _, rest = uri.partition("://")
        return f"{_SCHEMES.get(scheme.lower(), scheme.lower())}://{rest}"
    return os.path.join(_real_folder(os.path.dirname(uri)), os.path.basename(uri))


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
