"""The order of the stages: from a lake to the results of one audit."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from r2d2.config import AuditConfig
from r2d2.errors import TableChanged, UsageError
from r2d2.lake.delta.table import newest_version
from r2d2.lake.discovery import discover, listing_token, split_into_files
from r2d2.lake.iceberg.catalog import check_library, current_metadata, discover_catalog
from r2d2.lake.ignored import as_compared
from r2d2.lake.run import StageRun
from r2d2.lake.stage import run_harvest
from r2d2.minhash.stage import run_minhash
from r2d2.model import Edge, Format, FoundTable, Harvest, Recipe, Status
from r2d2.near.difference import NearDuplicate
from r2d2.near.stage import read_near, run_near
from r2d2.planning import Planned, Planner, bound_tables, is_usable
from r2d2.prune.page_stage import run_pages
from r2d2.prune.stage import run_minmax, run_schema_graph, stored_suspects
from r2d2.prune.trust import Suspect
from r2d2.recipes.stage import read_reasons, read_recipes, run_recipes
from r2d2.report.data import build_report
from r2d2.report.html import render_html
from r2d2.report.plans import plan_summary
from r2d2.report.results import result_tables, stored_bytes
from r2d2.retention.catalog_usage import read_catalog_accesses
from r2d2.retention.facts import PlanInputs, load_inputs
from r2d2.retention.usage import is_in_catalog
from r2d2.scan.covers import Union, read_unions
from r2d2.scan.duck import LEAST_KERNEL_BYTES, KernelLimits
from r2d2.scan.files import GLOB_CHARACTERS, is_expanded, is_remote
from r2d2.scan.job import Kernels
from r2d2.scan.rowhash import HASH_VERSION, RowHasher
from r2d2.scan.spill import SPILLED_ROWS, Spill
from r2d2.scan.stored import GRAPH, MINHASH, MINMAX, PAGES, read_leaves
from r2d2.session import Engine, open_engine
from r2d2.store.results import ResultFolder
from r2d2.store.stages import StageStore
from r2d2.unions.stage import other_unions, run_candidates, run_unions
from r2d2.verify.stage import read_edges, run_verify

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Hears which stage begins."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage of `total` steps begins; None where it cannot be counted."""


class Silence:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int | None) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A finished audit.

    Attributes:
        out: Folder with the results.
        summary: What `summary.json` holds.
        failed: Tables that failed.
    """

    out: str
    summary: Mapping[str, Any]
    failed: int

    @property
    def exit_status(self) -> int:
        """0, or 3 where tables failed."""
        return 3 if self.failed else 0


@dataclass(kw_only=True)
class StageClock:
    """Seconds and bytes of each stage, in order."""

    progress: Progress
    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[dict[str, Any]]:
        """Time a stage; its body may set `bytes` in the entry it gets."""
        self.progress.stage(name, total)
        entry: dict[str, Any] = {"name": name, "seconds": 0.0, "bytes": 0}
        begun = time.monotonic()
        log.info("stage %s begins", name)
        yield entry
        entry["seconds"] = round(time.monotonic() - begun, 3)
        log.info("stage %s ends after %.1f s, %d bytes read", name, entry["seconds"], entry["bytes"])
        self.stages.append(entry)

    def run(self, name: str, stage: Callable[[], dict[str, int]], total: int | None = None) -> dict[str, int]:
        """Time a stage that returns its counts."""
        with self.stage(name, total) as entry:
            counts = stage()
            entry["bytes"] = counts.get("bytes_read", 0)
        return counts


def audit(config: AuditConfig, *, spark: SparkSession | None = None, progress: Progress | None = None) -> Audit:
    """Audit a lake or a catalog and write the results to `config.out`.

    Args:
        config: What to audit and how.
        spark: A session to use instead of starting `config.engine`; it is not stopped.
        progress: Hears of each stage.

    Raises:
        UsageError: For a wrong configuration.
        LakeError: If the lake, or the catalog, cannot be read.
        EngineError: If the engine cannot be started, or workers cannot be used.
    """
    clock = StageClock(progress=progress or Silence())
    inputs = load_inputs(config.plan_options, datetime.datetime.now(datetime.UTC), lake_root(config))
    in_catalog = find_in_catalog(config, clock)
    folders = [lake_folder(config.lake)] if config.lake is not None else table_folders(in_catalog)
    with ResultFolder.open(config.out, *folders) as results:
        found = in_catalog if config.lake is None else find_in_lake(config, clock)
        check_library(found)
        with clock.stage("session"):
            engine = open_engine(config, spark)
        run_id = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        # The folder is locked, so this is what a killed audit has left.
        shutil.rmtree(os.path.join(results.path, ".work"), ignore_errors=True)
        with engine:
            check_reachable(engine, config, folders)
            inputs = ask_catalog(engine, inputs, clock)
            store = StageStore(engine.spark, f"{work_folder(config, str(results.path))}/{run_id}")
            run = StageRun(config=config, engine=engine, store=store, kernels=kernels_of(config, engine, store.uri))
            listed_bytes = sum(file.size for table in found for file in table.files)
            engine.prepare(run.kernels.parallelism, len(found), listed_bytes)
            try:
                outcome = run_stages(run, clock, found, inputs)
                results.keep_evidence(run_id, store.copy_tables)
            finally:
                store.remove()
        summary = {"run_id": run_id, **summarise(run, outcome, clock, inputs)}
        with clock.stage("report"):
            tables = result_tables(
                run.inventory,
                outcome.edges,
                outcome.planned.plan,
                outcome.rows_of,
                outcome.planned.facts,
                outcome.recipes,
                outcome.recipe_reasons,
                outcome.unions,
                outcome.near,
                inputs.catalog_accesses,
            )
            summary["stages"] = clock.stages
            results.commit(tables, summary, render_html(build_report(tables, summary)))
    failed = sum(f.status == Status.FAILED.value for f in run.inventory.failures.values())
    return Audit(out=str(results.path), summary=summary, failed=failed)


def ask_catalog(engine: Engine, inputs: PlanInputs, clock: StageClock) -> PlanInputs:
    """The inputs with what tables of the engine's catalog say of reads, if any is asked."""
    if not any(map(is_in_catalog, inputs.options.access)):
        return inputs
    with clock.stage("accesses"):
        return inputs.with_catalog(read_catalog_accesses(engine.spark, inputs.options.access))


def find_in_catalog(config: AuditConfig, clock: StageClock) -> tuple[FoundTable, ...]:
    """The tables of the catalog to be audited, if it is one."""
    if config.catalog is None:
        return ()
    with clock.stage("discovery"):
        return discover_catalog(config.catalog, config.schema)


def find_in_lake(config: AuditConfig, clock: StageClock) -> tuple[FoundTable, ...]:
    """The tables of the lake to be audited."""
    with clock.stage("discovery"):
        return discover(lake_folder(config.lake), files_as_tables=config.files_as_tables).tables


def lake_folder(lake: str | None) -> str:
    """The lake as an absolute path or URL."""
    if lake is None:
        raise UsageError("an audit of a catalog has no LAKE")
    return lake if is_remote(lake) else os.path.abspath(lake)


def lake_root(config: AuditConfig) -> str | None:
    """The lake as an absolute path or URL; None with a catalog."""
    return None if config.lake is None else lake_folder(config.lake)


def table_folders(found: Sequence[FoundTable]) -> list[str]:
    """Where the tables of a catalog lie, each folder once."""
    return sorted({table.uri for table in found if table.uri})


def check_reachable(engine: Engine, config: AuditConfig, folders: Sequence[str]) -> None:
    """Refuse local paths that workers elsewhere cannot see."""
    if engine.workers_share_files:
        return
    for folder in (folder for folder in folders if not is_remote(folder)):
        message = f"the workers of {config.engine} do not see the local folder {folder}: give an object-store URL"
        raise UsageError(message)
    if config.work is None or not is_remote(config.work):
        raise UsageError(f"the workers of {config.engine} do not see local folders: give --work an object-store URL")


def work_folder(config: AuditConfig, out: str) -> str:
    """Where stage tables go: `--work`, else inside the results, else where engines take the path literally.

    Raises:
        UsageError: If `--work` has characters that engines expand.
    """
    if config.work is not None:
        if is_expanded(config.work):
            raise UsageError(f"--work must not contain any of {GLOB_CHARACTERS} or a backslash: engines expand them")
        return config.work if is_remote(config.work) else os.path.abspath(config.work)
    return (
        os.path.join(tempfile.gettempdir(), f"r2d2-{os.getuid()}") if is_expanded(out) else os.path.join(out, ".work")
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the stages found, beside the inventory."""

    counts: Mapping[str, int]
    edges: Sequence[Edge]
    recipes: Sequence[Recipe]
    recipe_reasons: Mapping[tuple[int, int], str]
    unions: Sequence[Union]
    near: Sequence[NearDuplicate]
    planned: Planned
    rows_of: Mapping[int, int | None]
    suspects: Mapping[Suspect, Sequence[int]]


QUERIES = 200
"""Whose rows kernels of one job take; each is a part of the job's plan."""
QUERIES_PER_KERNEL = 8
"""The same where all tasks of a job run at once, for each kernel that should."""


def kernels_of(config: AuditConfig, engine: Engine, work: str) -> Kernels:
    """Row identity and limits of the kernels of an audit with a work folder.

    Half of the memory is DuckDB's; what kernels hold beside it, fingerprints above all, takes the other half.
    """
    parallelism = config.kernel_threads or engine.parallelism
    hasher = RowHasher(lane_keys=config.lane_keys, case_sensitive=config.case_sensitive, utc=config.timestamps == "utc")
    half = config.memory_bytes // 2
    tasks, queries = 4 * parallelism, QUERIES
    if engine.starts_all_tasks:
        tasks = parallelism = max(1, min(parallelism, half // LEAST_KERNEL_BYTES))
        queries = QUERIES_PER_KERNEL * parallelism
    limits = KernelLimits(machine_bytes=half, kernels=parallelism, spread=not engine.workers_share_files)
    spill = Spill(folder=f"{work}/spill", least_rows=SPILLED_ROWS if engine.shuffles_in_memory else None)
    return Kernels(hasher=hasher, limits=limits, parallelism=parallelism, tasks=tasks, spill=spill, queries=queries)


def run_stages(run: StageRun, clock: StageClock, found: Sequence[FoundTable], inputs: PlanInputs) -> Outcome:
    """All stages, from harvest to the plan; they meet in stored tables."""
    harvested = clock.run("harvest", lambda: run_harvest(run, found), len(found))
    run.check_engine_reader()
    stored_bytes = sum(harvest.table_bytes for _, harvest in run.inventory.active())
    run.engine.prepare(run.kernels.parallelism, harvested["tables"], stored_bytes)  # Delta's files were not listed
    graph = clock.run("schema graph", lambda: run_schema_graph(run))
    candidates, surviving = refute(run, clock)
    while (suspects := len(stored_suspects(run, MINHASH))) > candidates["suspects"]:
        log.warning("metadata of %d writers and types is wrong; what it had refuted is looked at again", suspects)
        candidates, surviving = refute(run, clock, " again")
    refuse_misread_parents(run)
    clock.run("verify", lambda: run_verify(run, GRAPH, MINMAX, MINHASH), surviving["pairs"])
    if not run.config.no_unions:
        clock.run("unions", lambda: run_unions(run, GRAPH, MINMAX))
    near = run.config.near
    if near is not None:
        clock.run("near-duplicates", lambda: run_near(run, GRAPH, near))
    run.show_ignored()
    edges = [as_compared(edge, run.ignored) for edge in read_edges(run.store) if run.inventory.are_active(edge)]
    rows_of = {table: harvest.rows for table, harvest in run.inventory.harvests.items()}
    rows_of |= {edge.child: edge.child_rows for edge in edges} | {edge.parent: edge.parent_rows for edge in edges}
    planner = Planner(run=run, inputs=inputs)
    must_stay = bound_tables(run.inventory).keys() | run.ignored.keys() | planner.kept_by_policy(rows_of)
    exact = [edge for edge in edges if edge.child not in run.ignored]
    others = partial(other_unions, run, GRAPH)
    clock.run("recipes", lambda: run_recipes(run, exact, must_stay, others), len(exact))
    with clock.stage("plan") as entry:
        planned = planner.plan(edges, rows_of)
        entry["bytes"] = planned.bytes_read
    with clock.stage("final check"):
        written = newly_written(run)
        if fail_changed(run) or written:
            edges = [edge for edge in edges if run.inventory.are_active(edge)]
            planned = planner.plan(edges, rows_of, written)
    for warning in planned.prepared.warnings():
        log.warning("%s", warning)
    counts = {
        "tables": harvested["tables"],
        "schema_pairs": graph["pairs"],
        "minmax_pairs": candidates["pairs"],
        "minhash_pairs": surviving["pairs"] + candidates["not_sampled"],
        "verified_edges": len(edges),
        "deletable": sum(decision.delete for decision in planned.plan.decisions),
    }
    checked = [recipe for recipe in read_recipes(run.store) if is_usable(recipe, run.inventory, written)]
    return Outcome(
        counts=counts,
        edges=edges,
        recipes=[*checked, *planned.chains],
        recipe_reasons=read_reasons(run.store),
        unions=[
            union
            for union in read_unions(run.store)
            if union.child not in run.ignored and all(map(run.inventory.is_active, union.tables))
        ],
        near=[pair for pair in read_near(run.store) if all(map(run.inventory.is_active, (pair.child, pair.parent)))],
        planned=planned,
        rows_of=rows_of,
        suspects=stored_suspects(run, MINHASH),
    )


def refute(run: StageRun, clock: StageClock, again: str = "") -> tuple[dict[str, int], dict[str, int]]:
    """Refute by metadata, then by samples; counts of both stages, whose names end in `again`."""
    candidates = clock.run(f"min-max{again}", lambda: run_minmax(run, MINHASH))
    if not run.config.no_unions:
        clock.run(f"union candidates{again}", lambda: run_candidates(run, GRAPH, MINMAX))
    paged = clock.run(f"pages{again}", lambda: run_pages(run, MINHASH))
    surviving = clock.run(f"MinHash{again}", lambda: run_minhash(run, GRAPH, MINMAX, PAGES), paged["pairs"])
    return {**candidates, "pairs": paged["pairs"] + candidates["not_sampled"]}, surviving


def refuse_misread_parents(run: StageRun) -> None:
    """No recipe may read a table that a session of Sail with its default settings would misread."""
    reasons = {
        "hidden_nans": "Sail's default settings lose the NaN in column {!r}",
        "lies": "its metadata is wrong about column {!r}, and Sail may take it for the values",
    }
    for name, reason in reasons.items():
        for table, _, leaf in sorted(read_leaves(run.store, MINHASH, name)):
            harvest = run.inventory.harvests[table]
            told = harvest.no_parent_reason or reason.format(leaf[0])
            run.inventory.harvests[table] = replace(harvest, no_parent_reason=told)


def summarise(run: StageRun, outcome: Outcome, clock: StageClock, inputs: PlanInputs) -> dict[str, Any]:
    """What `summary.json` says beside the run's id. `bytes_read` leaves out the checks of recipes."""
    plan, prices, prepared = outcome.planned.plan, inputs.prices, outcome.planned.prepared
    funnel = [stage["bytes"] for stage in clock.stages if stage["name"] not in ("recipes", "plan")]
    return {
        "versions": {**run.engine.versions, "row_hash": HASH_VERSION},
        "config": {**run.config.public(), "engine_used": run.engine.name, "price_book": prices.name},
        "counts": dict(outcome.counts),
        "bytes_read": sum(funnel),
        "lake_bytes": sum(stored_bytes(run.inventory, table.table) for table in run.inventory.found),
        "stages": clock.stages,
        **plan_summary(plan, inputs, prepared),
        "misleading_statistics": [
            {**asdict(suspect), "tables": [run.inventory.found[table].id for table in sorted(tables)]}
            for suspect, tables in sorted(outcome.suspects.items())
        ],
    }


def newly_written(run: StageRun) -> set[int]:
    """Tables with a newer version than the audited one: their edges hold for that version, they stay."""
    config, found = run.config, run.inventory.found
    if config.catalog is not None:
        now = current_metadata(config.catalog, config.schema)
        return {table for table, _ in run.inventory.active() if now.get(found[table].id) != found[table].metadata}
    return {table for table, harvest in run.inventory.active() if not _is_newest(found[table], harvest)}


def _is_newest(found: FoundTable, harvest: Harvest) -> bool:
    """Whether the pinned version is still the newest; tables without a log are pinned by their files."""
    if found.format is Format.DELTA:
        return str(newest_version(found.uri)) == harvest.version
    if found.format is Format.ICEBERG:
        from r2d2.lake.iceberg.table import is_current

        return is_current(found, harvest)
    return True


def fail_changed(run: StageRun) -> bool:
    """List the lake again; tables whose files are not the pinned ones fail. Those with a log are pinned by version."""
    if run.config.lake is None:
        return False
    listed = discover(lake_folder(run.config.lake), files_as_tables=run.config.files_as_tables).tables
    files = [file for table in listed for file in split_into_files(table)]
    now = {table.id: listing_token(table) for table in (*files, *listed)}
    changed = [
        table
        for table, _ in run.inventory.active()
        if run.inventory.found[table].format not in (Format.DELTA, Format.ICEBERG)
        and now.get(run.inventory.found[table].id) != listing_token(run.inventory.found[table])
    ]
    run.fail("final check", {table: TableChanged() for table in changed})
    return bool(changed)
