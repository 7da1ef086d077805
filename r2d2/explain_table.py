"""What the plan of a finished audit does with one table, and why."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from r2d2.errors import UsageError
from r2d2.explain import check_known
from r2d2.replan import Instance, read_instance
from r2d2.report.escape import bytes_text, money_text, seconds_text, visible
from r2d2.store.results import read_results

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class RecipeTold:
    """A recipe that was run and gave the table back.

    Attributes:
        refused: What keeps the plan from using it; empty where nothing does.
        cost_deleted: Over the horizon.
    """

    kind: str
    parents: tuple[str, ...]
    through: tuple[str, ...]
    rebuild_seconds: float
    rebuild_cost: float
    cost_deleted: float
    expires: str | None
    refused: str


@dataclass(frozen=True, kw_only=True)
class TableExplanation:
    """What an audit and its plan say of a table. Costs are over the plan's horizon.

    Attributes:
        recipes: The cheapest first; None where the files that the plan counted with are not there any more.
        rebuilds: Deleted tables that are rebuilt from it.
        contained_in, contains: Tables of verified containments, equal ones in both.
        unions: Sets of tables that hold all its rows only together.
    """

    table: str
    status: str
    decision: str
    reason: str
    constraint: str | None
    currency: str
    bytes: int | None
    history_bytes: int | None
    cost_kept: float | None
    cost_deleted: float | None
    reads_per_month: float | None
    latency_bound_seconds: float | None
    recipes: tuple[RecipeTold, ...] | None
    rebuilds: tuple[str, ...]
    contained_in: tuple[str, ...]
    contains: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The explanation for machines."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The explanation for a person; names are escaped."""
        size = bytes_text(self.bytes) + (
            f" and {bytes_text(self.history_bytes)} of history" if self.history_bytes else ""
        )
        told = [f"{visible(self.table, None)}: {self.decision}, {visible(self.reason, None)}"]
        told.append(f"  {size}; status {self.status}")
        told.append(f"  kept it costs {money_text(self.cost_kept, self.currency)} over the horizon" + self._deleted())
        if self.reads_per_month is not None:
            told.append(f"  read {self.reads_per_month:.3g} times a month")
        if self.latency_bound_seconds is not None:
            told.append(f"  a rebuild may take {seconds_text(self.latency_bound_seconds)}")
        if self.constraint is not None:
            told.append(f"  what binds: {self.constraint}")
        told += self._recipes()
        for title, names in (
            ("deleted tables rebuilt from it", self.rebuilds),
            ("contained in", self.contained_in),
            ("contains", self.contains),
        ):
            told += _listed(title, names)
        for parents in self.unions:
            told += _listed("held only together by", parents)
        return told

    def _deleted(self) -> str:
        return "" if self.cost_deleted is None else f", deleted {money_text(self.cost_deleted, self.currency)}"

    def _recipes(self) -> Iterator[str]:
        if self.recipes is None:
            yield "  recipes are not priced: a file that the plan counted with is not there any more"
        for recipe in (self.recipes or ())[:_SHOWN]:
            names = ", ".join(visible(parent, None) for parent in recipe.parents)
            through = "".join(f" through {visible(table, None)}" for table in recipe.through)
            took, cost = seconds_text(recipe.rebuild_seconds), money_text(recipe.rebuild_cost, self.currency)
            why = f"; not used: {recipe.refused}" if recipe.refused else ""
            yield f"  recipe {recipe.kind} from {names}{through}: {took} and {cost} a rebuild{why}"
        if len(self.recipes or ()) > _SHOWN:
            yield f"  and {len(self.recipes or ()) - _SHOWN} more recipes in recipes.parquet"


def _listed(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(visible(name, None) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"  {title}: {shown}{more}"]


def explain_table(out: str, table: str) -> TableExplanation:
    """What the stored plan in `out` does with a table; the lake is not read.

    Raises:
        UsageError: If there is no finished audit, or it knows no such table.
    """
    tables, summary = read_results(out)
    check_known(table, tables["tables"])
    found, decision = _row(tables["tables"], table), _row(tables["decisions"], table)
    try:
        planned = str((summary.get("plan_inputs") or {}).get("planned_at", ""))
        moment = datetime.datetime.fromisoformat(planned)
        instance: Instance | None = read_instance(out, {}, now=moment)
    except (UsageError, ValueError):
        instance = None
    candidate = None if instance is None else _candidate_of(instance, table)
    edges = tables["edges"].select(["child", "parent"]).to_pylist()
    unions = tables["unions"].to_pylist()
    return TableExplanation(
        table=table,
        status=found["status"],
        decision="deleted" if decision["decision"] == "delete" else "retained",
        reason=decision["reason"],
        constraint=decision["constraint"],
        currency=str(summary.get("currency") or "USD"),
        bytes=found["bytes"],
        history_bytes=_row(tables["candidates"], table)["history_bytes"],
        cost_kept=decision["cost_kept"],
        cost_deleted=decision["cost_deleted"],
        reads_per_month=None if candidate is None else candidate.reads_per_month,
        latency_bound_seconds=None if candidate is None else candidate.latency_bound_seconds,
        recipes=None if instance is None else tuple(_recipes(instance, table, _gone(tables["proposals"]))),
        rebuilds=tuple(row["table"] for row in tables["proposals"].to_pylist() if table in row["parents"]),
        contained_in=tuple(sorted(edge["parent"] for edge in edges if edge["child"] == table)),
        contains=tuple(sorted(edge["child"] for edge in edges if edge["parent"] == table)),
        unions=tuple(tuple(row["parents"]) for row in unions if row["child"] == table),
    )


def _row(rows: pa.Table, table: str) -> Mapping[str, Any]:
    found = [row for row in rows.to_pylist() if row["table"] == table]
    if not found:
        raise UsageError(f"the results do not fit together: one of them lacks the table {table!r}; audit again")
    row: Mapping[str, Any] = found[0]
    return row


def _gone(proposals: pa.Table) -> frozenset[str]:
    return frozenset(proposals["table"].to_pylist())


def _candidate_of(instance: Instance, table: str) -> Any:
    return next(candidate for candidate in instance.prepared.candidates if candidate.id == table)


def _recipes(instance: Instance, table: str, gone: frozenset[str]) -> Iterator[RecipeTold]:
    offers = instance.offers
    ids = [fact.id for fact in instance.facts]
    number = ids.index(table)
    groups = (("", offers.recipes), ("it takes too long", offers.too_slow), ("it expires too soon", offers.expiring))
    for why, recipes in groups:
        for recipe in recipes.get(number, ()):
            parents = tuple(ids[parent] for parent in recipe.parents)
            missing = "" if gone.isdisjoint(parents) else "the plan deletes a table that it reads"
            yield RecipeTold(
                kind=recipe.kind,
                parents=parents,
                through=tuple(ids[other] for other in dict.fromkeys(recipe.through)),
                rebuild_seconds=offers.seconds(recipe),
                rebuild_cost=offers.rebuild_cost(recipe),
                cost_deleted=offers.cost_deleted(recipe),
                expires=None if recipe.expires is None else recipe.expires.isoformat(),
                refused=why or missing,
            )
