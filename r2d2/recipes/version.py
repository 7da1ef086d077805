"""Recipes of kind *version*: a table that equals an older version of a Delta table, as long as its history is kept.

The log alone says which versions may be meant: those with as many rows as the table and with its columns. What it says
of a version's files is looked at once more before a recipe reads them.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.errors import TableFault
from r2d2.lake.delta.history import OldVersion, readable_versions
from r2d2.lake.delta.table import harvest_delta
from r2d2.lake.harvest import found_from_json, found_to_json
from r2d2.model import Edge, Format, Harvest, Recipe, fold
from r2d2.recipes.offer import Offer
from r2d2.recipes.sql import build_recipe
from r2d2.scan.identity import proved
from r2d2.scan.plan import deal
from r2d2.scan.stored import VERIFY
from r2d2.session import engine_errors
from r2d2.workers import map_batches

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

MOST_VERSIONS = 8
"""Versions of one Delta table that are tried for one child, the newest; one with the same files is tried alone."""

_HELD = pa.schema([("child", pa.int32())])
_WORK = pa.schema([("found", pa.list_(pa.string()))])
_VERSIONS = pa.schema(
    [
        ("table", pa.int32()),
        ("version", pa.int64()),
        ("rows", pa.int64()),
        ("columns", pa.list_(pa.string())),
        ("expires", pa.string()),  # empty where nothing that the version needs is ever removed
    ]
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A child that may equal an older version of a parent."""

    child: int
    parent: int
    old: OldVersion


def offer_versions(run: StageRun, edges: Sequence[Edge], today: datetime.date | None = None) -> Offer:
    """Recipes that read older versions, for the children that have no other recipe.

    Args:
        run: The audit.
        edges: Containments whose child has no recipe.
        today: The day of the audit, UTC: a version that may be gone by then is not proposed.
    """
    day = datetime.datetime.now(datetime.UTC).date() if today is None else today
    parents = {edge.parent for edge in edges}
    tables = [
        table
        for table, harvest in run.inventory.active()
        if run.inventory.found[table].format is Format.DELTA
        and harvest.version != "0"
        and (harvest.history_bytes > 0 or table in parents)
    ]
    if not tables:
        return Offer()
    versions = {
        table: [old for old in own if old.expires is None or old.expires > day]
        for table, own in _old_versions(run, tables).items()
    }
    children = _children(run, edges)
    found = candidates(children, versions, case_sensitive=run.config.case_sensitive)
    return Offer(recipes=_recipes(run, found))


def _children(run: StageRun, edges: Sequence[Edge]) -> dict[int, Harvest]:
    """Tables with rows that no earlier kind of recipe gives back."""
    held = set(run.store.read_table(VERIFY, "edges", _HELD)["child"].to_pylist()) - {edge.child for edge in edges}
    left_out = held | run.ignored.keys()
    return {table: harvest for table, harvest in run.inventory.active() if harvest.rows and table not in left_out}


def _old_versions(run: StageRun, tables: Sequence[int]) -> dict[int, list[OldVersion]]:
    """The older versions of some Delta tables, in one job."""
    dealt = deal([1] * len(tables), run.kernels.tasks)
    bins = [[found_to_json(run.inventory.found[tables[place]]) for place in places] for places in dealt]
    with engine_errors():
        work = run.engine.spark.createDataFrame(pa.table({"found": bins}, schema=_WORK))
        rows = map_batches(work.repartition(len(bins)), _reader(), _VERSIONS).toArrow()
    versions: dict[int, list[OldVersion]] = defaultdict(list)
    for row in rows.to_pylist():
        expires = datetime.date.fromisoformat(row["expires"]) if row["expires"] else None
        old = OldVersion(version=row["version"], rows=row["rows"], columns=tuple(row["columns"]), expires=expires)
        versions[row["table"]].append(old)
    return versions


def _reader() -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for found in (found_from_json(text) for texts in batch.column(0).to_pylist() for text in texts):
                rows = [_row(found.table, old) for old in readable_versions(found)]
                yield pa.RecordBatch.from_pylist(rows, schema=_VERSIONS)

    return read


def _row(table: int, old: OldVersion) -> dict[str, Any]:
    expires = old.expires.isoformat() if old.expires else ""
    return {**dataclasses.asdict(old), "table": table, "columns": list(old.columns), "expires": expires}


def candidates(
    children: Mapping[int, Harvest], versions: Mapping[int, Sequence[OldVersion]], *, case_sensitive: bool
) -> list[Candidate]:
    """Versions with as many rows as a child and with its columns, those of each Delta table in their order."""
    by_rows: dict[int, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for child, harvest in children.items():
        by_rows[harvest.rows or 0].append((child, _names(harvest.schema.names, case_sensitive)))
    return [
        Candidate(child=child, parent=parent, old=old)
        for parent, own in versions.items()
        for old in own
        for child, names in by_rows.get(old.rows, ())
        if child != parent and names <= _names(old.columns, case_sensitive)
    ]


def _names(columns: Sequence[str], case_sensitive: bool) -> frozenset[str]:
    return frozenset(columns) if case_sensitive else frozenset(map(fold, columns))


def _recipes(run: StageRun, found: Sequence[Candidate]) -> list[Recipe]:
    by_pair: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    for candidate in found:
        by_pair[candidate.child, candidate.parent].append(candidate)
    versions = _Versions(run)
    return [
        recipe
        for _, own in sorted(by_pair.items())
        for candidate in _first(own, versions, run.inventory.harvests)
        if (recipe := _recipe(run, candidate, versions)) is not None
    ]


class _Versions:
    """Metadata of older versions, each read once; None where a version cannot be read any more."""

    def __init__(self, run: StageRun) -> None:
        self._run = run
        self._known: dict[tuple[int, int], Harvest | None] = {}

    def of(self, candidate: Candidate) -> Harvest | None:
        """The metadata of a candidate's version."""
        key = (candidate.parent, candidate.old.version)
        if key not in self._known:
            try:
                self._known[key] = harvest_delta(self._run.inventory.found[candidate.parent], candidate.old.version)
            except TableFault:  # files of it are gone, or it used what is not read
                self._known[key] = None
        return self._known[key]


def _first(own: Sequence[Candidate], versions: _Versions, harvests: Mapping[int, Harvest]) -> list[Candidate]:
    """The version whose files are the child's, alone; else the newest that can still be read."""
    readable: list[Candidate] = []
    for candidate in own:
        harvest = versions.of(candidate)
        if harvest is not None:
            if proved(harvests[candidate.child], harvest):
                return [candidate]
            readable.append(candidate)
        if len(readable) == MOST_VERSIONS:
            break
    return readable


def _recipe(run: StageRun, candidate: Candidate, versions: _Versions) -> Recipe | None:
    found, harvests = run.inventory.found, run.inventory.harvests
    harvest = versions.of(candidate)
    if harvest is None:
        return None
    rows = candidate.old.rows
    edge = Edge(
        child=candidate.child,
        parent=candidate.parent,
        relation="contained",
        bag=True,
        set=True,
        child_rows=rows,
        parent_rows=rows,
        columns=(),
    )
    recipe = build_recipe(edge, found[edge.child], found[edge.parent], harvests[edge.child], harvest)
    return recipe and dataclasses.replace(recipe, kind="version", expires=candidate.old.expires)
