"""The report as data: one frozen value that the terminal and the page show, each in its own way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.model import Status
from r2d2.report.near import NearPair, shown_near

Row = TypeVar("Row")

SHOWN_PROPOSALS = 300
SHOWN_ROWS = 400
"""Rows that a listing holds at most, so that a report of a large lake stays light; the result files hold all."""


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[Row]):
    """The first rows of a result and how many there are in all."""

    rows: tuple[Row, ...]
    total: int

    @property
    def more(self) -> int:
        """Rows that are only in the result file."""
        return self.total - len(self.rows)


@dataclass(frozen=True, kw_only=True)
class FunnelStep:
    """What was left after a stage.

    Attributes:
        key: Name in `summary.json`'s counts; `pairs` is the number of ordered pairs of different tables.
        label: What was left, for a person.
        unit: `tables`, `pairs` or `containments`.
        count: How many; None is unknown.
        removed: Share of the step before that this one removed, 0 to 1; None where there is nothing to compare.
    """

    key: str
    label: str
    unit: str
    count: int | None
    removed: float | None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A table that may go, as a row of `proposals.parquet`.

    Money is in the report's currency, and a cost is that of one rebuild. None is unknown.
    """

    table: str
    parents: tuple[str, ...]
    recipe_kind: str
    setup_sql: tuple[str, ...]
    recipe_sql: str
    bytes: int | None
    history_bytes: int | None
    saving_per_month: float | None
    rebuild_seconds: float | None
    rebuild_cost: float | None
    reason: str
    through: tuple[str, ...] = ()

    @property
    def holds_values(self) -> bool:
        """Whether the SQL may hold values of rows: only predicates have any."""
        return any(re.search(r"\bWHERE\b", statement) for statement in (*self.setup_sql, self.recipe_sql))


@dataclass(frozen=True, kw_only=True)
class Containment:
    """A verified edge, as a row of `edges.parquet`, without its columns."""

    child: str
    parent: str
    relation: str
    bag: bool
    set: bool
    child_rows: int | None
    parent_rows: int | None
    proof: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A table that stays. `cost_deleted` is None where deleting it was never an option."""

    table: str
    reason: str
    cost_kept: float | None
    cost_deleted: float | None
    constraint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A table, or with a parent a pair, that could not be judged."""

    table: str
    parent: str | None
    stage: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A table of a kind that R2D2 does not read."""

    table: str
    format: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Misleading:
    """Statistics of one writer and type that rows contradict: not believed in this audit.

    Attributes:
        source: Where they stand: `footer`, `delta-log`, `iceberg` or `partition`.
        writer: The family of writers.
        type: The group of types.
        tables: Tables in which they were found to be wrong.
    """

    source: str
    writer: str
    type: str
    tables: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the audit; bytes are those it read."""

    name: str
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a person is told about an audit.

    Attributes:
        formats: Number of tables by format, most frequent first.
        statuses: Number of tables by status.
        proposals: By saving, the largest first, then by name.
        kept: Those that could have gone first, then by name.
        failures: Unsupported tables are not among them.
        deletable_bytes: Of the current snapshots of the proposed tables; None if one is unknown.
        history_bytes: Bytes of older versions of the proposed tables.
        near: Near-duplicates that would save the most; `near_total` says how many there are.
    """

    run_id: str
    lake: str
    out: str
    tables: int
    formats: tuple[tuple[str, int], ...]
    statuses: Mapping[str, int]
    funnel: tuple[FunnelStep, ...]
    lake_bytes: int | None
    bytes_read: int | None
    deletable: int
    deletable_bytes: int | None
    history_bytes: int | None
    savings_per_month: float | None
    currency: str
    proposals: Listing[Proposal]
    kept: Listing[Kept]
    edges: Listing[Containment]
    failures: Listing[Failure]
    unsupported: Listing[Unsupported]
    misleading: tuple[Misleading, ...]
    near: tuple[NearPair, ...]
    near_total: int
    stages: tuple[Stage, ...]
    config: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def deletable_share(self) -> float | None:
        """Share of the lake's bytes that the proposed tables hold."""
        if not self.lake_bytes or self.deletable_bytes is None:
            return None
        return min(1.0, self.deletable_bytes / self.lake_bytes)

    @property
    def seconds(self) -> float:
        """Seconds of all stages together."""
        return sum(stage.seconds or 0.0 for stage in self.stages)


def build_report(results: Mapping[str, pa.Table], summary: Mapping[str, Any]) -> Report:
    """The report of a finished audit.

    Args:
        results: The result tables by name, with the columns of RESULT_SCHEMAS.
        summary: The content of `summary.json`; what it lacks is unknown.
    """
    tables, proposals = results["tables"], results["proposals"]
    config = summary.get("config") or {}
    return Report(
        run_id=str(summary.get("run_id", "")),
        lake=_audited(config),
        out=str(config.get("out", "")),
        tables=tables.num_rows,
        formats=tuple(sorted(Counter(tables["format"].to_pylist()).items(), key=lambda item: (-item[1], str(item[0])))),
        statuses=Counter(tables["status"].to_pylist()),
        funnel=_funnel(summary.get("counts") or {}, tables.num_rows),
        lake_bytes=summary.get("lake_bytes"),
        bytes_read=summary.get("bytes_read"),
        deletable=proposals.num_rows,
        deletable_bytes=_total(proposals["bytes"]),
        history_bytes=_total(proposals["history_bytes"]),
        savings_per_month=summary.get("savings_per_month"),
        currency=str(summary.get("currency") or "USD"),
        proposals=_proposals(proposals),
        kept=_kept(results["decisions"]),
        edges=_edges(results["edges"]),
        failures=_failures(results["failures"], tables),
        unsupported=_unsupported(tables),
        misleading=tuple(_misleading(row) for row in summary.get("misleading_statistics") or ()),
        near=shown_near(results["near"], set(proposals["table"].to_pylist())),
        near_total=results["near"].num_rows,
        stages=tuple(_stage(stage) for stage in summary.get("stages") or ()),
        config=config,
        versions={str(name): str(version) for name, version in (summary.get("versions") or {}).items()},
    )


def _audited(config: Mapping[str, Any]) -> str:
    """What was audited: a lake, or namespaces of a catalog."""
    if config.get("catalog") is None:
        return str(config.get("lake") or "")
    chosen = ", ".join(map(str, config.get("schema") or ()))
    return f"catalog {config['catalog']}" + (f" ({chosen})" if chosen else "")


_STEPS = (
    ("tables", "tables", "tables found", None),
    ("pairs", "pairs", "possible pairs", None),
    ("schema_pairs", "pairs", "columns fit", "pairs"),
    ("minmax_pairs", "pairs", "after min-max", "schema_pairs"),
    ("minhash_pairs", "pairs", "after MinHash", "minmax_pairs"),
    ("verified_edges", "containments", "proved on every row", "minhash_pairs"),
    ("deletable", "tables", "may go", None),
)


def _funnel(counts: Mapping[str, Any], tables: int) -> tuple[FunnelStep, ...]:
    known = {**counts, "tables": tables, "pairs": tables * (tables - 1)}
    return tuple(
        FunnelStep(key=key, label=label, unit=unit, count=known.get(key), removed=_removed(known, key, before))
        for key, unit, label, before in _STEPS
    )


def _removed(counts: Mapping[str, int | None], key: str, before_key: str | None) -> float | None:
    before, after = counts.get(before_key) if before_key else None, counts.get(key)
    if not before or after is None or after > before:
        return None
    return (before - after) / before


def _total(column: pa.ChunkedArray) -> int | None:
    """Sum of a column; None if a value is unknown, which is not zero."""
    return None if column.null_count else int(pc.sum(column, min_count=0).as_py())


def _first(table: pa.Table, *names: str) -> pa.Table:
    """The first rows in the order of some columns."""
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names])
    return table.take(order[:SHOWN_ROWS])


def _take(table: pa.Table, key: Callable[[Mapping[str, Any]], Any], columns: Sequence[str], limit: int) -> pa.Table:
    """The first rows in the order of a key that needs only some columns."""
    small = table.select(list(columns)).to_pylist()
    order = sorted(range(len(small)), key=lambda row: key(small[row]))
    return table.take(pa.array(order[:limit], pa.int64()))


def _records(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows with lists as tuples."""
    for row in table.to_pylist():
        yield {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _proposals(table: pa.Table) -> Listing[Proposal]:
    def by_saving(row: Mapping[str, Any]) -> Any:
        saving = row["saving_per_month"]
        return saving is None, -(saving or 0.0), row["table"]

    rows = _records(_take(table, by_saving, ("saving_per_month", "table"), SHOWN_PROPOSALS))
    return Listing(rows=tuple(Proposal(**_texts(row, "reason")) for row in rows), total=table.num_rows)


def _kept(decisions: pa.Table) -> Listing[Kept]:
    kept = decisions.filter(pc.equal(decisions["decision"], "retain")).drop_columns("decision")
    first = _take(kept, lambda row: (row["cost_deleted"] is None, row["table"]), ("cost_deleted", "table"), SHOWN_ROWS)
    return Listing(rows=tuple(Kept(**_texts(row, "reason")) for row in _records(first)), total=kept.num_rows)


def _edges(edges: pa.Table) -> Listing[Containment]:
    first = _first(edges.select([column.name for column in fields(Containment)]), "child", "parent")
    return Listing(rows=tuple(Containment(**row) for row in _records(first)), total=edges.num_rows)


def _failures(failures: pa.Table, tables: pa.Table) -> Listing[Failure]:
    """What failed: the failures, and every failed table that they do not name."""
    of_status: dict[str, dict[str, str]] = {Status.FAILED: {}, Status.UNSUPPORTED: {}}
    for row in tables.select(["table", "status", "reason"]).to_pylist():
        if row["status"] in of_status:
            of_status[row["status"]][row["table"]] = row["reason"] or ""
    rows = [
        Failure(**_texts(row, "stage", "error", "message"))
        for row in _records(failures)
        if row["parent"] is not None or row["table"] not in of_status[Status.UNSUPPORTED]
    ]
    named = {row.table for row in rows if row.parent is None}
    for name, reason in of_status[Status.FAILED].items():
        if name not in named:
            rows.append(Failure(table=name, parent=None, stage="", error="Failed", message=reason))
    rows.sort(key=lambda row: (row.parent is not None, row.table, row.parent or ""))
    return Listing(rows=tuple(rows[:SHOWN_ROWS]), total=len(rows))


def _unsupported(tables: pa.Table) -> Listing[Unsupported]:
    found = tables.filter(pc.equal(tables["status"], Status.UNSUPPORTED.value)).select(["table", "format", "reason"])
    rows = _records(_first(found, "table"))
    return Listing(rows=tuple(Unsupported(**_texts(row, "format", "reason")) for row in rows), total=found.num_rows)


def _texts(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return row | {name: row[name] or "" for name in names}


def _misleading(row: Mapping[str, Any]) -> Misleading:
    texts = {name: str(row.get(name, "")) for name in ("source", "writer", "type")}
    return Misleading(**texts, tables=tuple(map(str, row.get("tables") or ())))


def _stage(stage: Mapping[str, Any]) -> Stage:
    return Stage(name=str(stage.get("name", "")), seconds=stage.get("seconds"), bytes=stage.get("bytes"))
