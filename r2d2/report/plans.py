"""Plans as rows of the result files, and what a plan asks for out of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from r2d2.model import Recipe
from r2d2.retention.facts import PlanInputs, Prepared, TableFacts
from r2d2.retention.plan import Decision, Plan
from r2d2.retention.policy import Properties
from r2d2.retention.usage import Access, CatalogAccesses

SHOWN_NAMES = 50


def recipe_row(recipe: Recipe, ids: Sequence[str]) -> dict[str, Any]:
    """A row of `recipes.parquet`."""
    return {
        "child": ids[recipe.child],
        "parents": [ids[parent] for parent in recipe.parents],
        "recipe_kind": recipe.kind,
        "setup_sql": list(recipe.setup_sql),
        "recipe_sql": recipe.recipe_sql,
        "read_bytes": recipe.read_bytes,
        "stored_bytes": recipe.stored_bytes,
        "expires": recipe.expires,
        "through": [ids[table] for table in recipe.through],
    }


def proposal_row(decision: Decision, ids: Sequence[str], fact: TableFacts) -> dict[str, Any]:
    """A row of `proposals.parquet`, for a deleted table."""
    recipe = decision.recipe
    if recipe is None:
        raise ValueError(f"table {decision.table} is deleted without a recipe")
    return {
        "table": fact.id,
        "parents": [ids[parent] for parent in recipe.parents],
        "recipe_kind": recipe.kind,
        "setup_sql": list(recipe.setup_sql),
        "recipe_sql": recipe.recipe_sql,
        "bytes": fact.bytes,
        "history_bytes": fact.history_bytes,
        "saving_per_month": decision.saving_per_month,
        "rebuild_seconds": decision.rebuild_seconds,
        "rebuild_cost": decision.rebuild_cost,
        "reason": decision.reason,
        "through": [ids[table] for table in dict.fromkeys(recipe.through)],
    }


def decision_row(decision: Decision, ids: Sequence[str]) -> dict[str, Any]:
    """A row of `decisions.parquet`."""
    return {
        "table": ids[decision.table],
        "decision": "delete" if decision.delete else "retain",
        "reason": decision.reason,
        "cost_kept": decision.cost_kept,
        "cost_deleted": decision.cost_deleted,
        "constraint": decision.constraint,
    }


def candidate_row(fact: TableFacts) -> dict[str, Any]:
    """A row of `candidates.parquet`."""
    return {
        "table": fact.id,
        "history_bytes": fact.history_bytes,
        "shared_bytes": fact.shared_bytes,
        "keep_reason": fact.keep_reason,
        "no_recipe_reason": fact.no_recipe_reason,
        "created": fact.created,
        "last_write": fact.last_write,
        "owner": fact.properties.owner,
        "tags": list(fact.properties.tags),
        "keep": fact.properties.keep,
    }


def access_rows(told: CatalogAccesses) -> list[dict[str, Any]]:
    """Rows of `accesses.parquet`, from what sources in the engine's catalog say."""
    return [
        {"source": source, "table": name, **asdict(access)}
        for source, by_name in told.items()
        for name, access in by_name.items()
    ]


def accesses_of(rows: pa.Table) -> dict[str, dict[str, Access]]:
    """What `accesses.parquet` keeps, by source and name."""
    told: dict[str, dict[str, Access]] = {}
    for row in rows.to_pylist():
        access = Access(reads_per_month=row["reads_per_month"], last_read=row["last_read"])
        told.setdefault(row["source"], {})[row["table"]] = access
    return told


def plan_summary(plan: Plan, inputs: PlanInputs, prepared: Prepared) -> dict[str, Any]:
    """What `summary.json` says of a plan."""
    prices, unknown = inputs.prices, prepared.unknown_accesses
    return {
        "savings_per_month": plan.savings_per_month,
        "currency": plan.currency,
        "plan_optimal": plan.optimal,
        "plan_gap": plan.gap,
        "plan_inputs": {
            "price_book": prices.name,
            "prices_of": prices.date.isoformat(),
            "planned_at": inputs.now.isoformat(timespec="seconds"),
            "tables_with_accesses": len(prepared.accesses),
            "unknown_accesses": len(unknown),
            "unknown_access_names": list(unknown[:SHOWN_NAMES]),
            "unknown_properties": list(prepared.unknown_properties[:SHOWN_NAMES]),
            "rules": dict(prepared.rules),
        },
    }


def facts_of(tables: pa.Table, candidates: pa.Table) -> list[TableFacts]:
    """What `tables.parquet` and `candidates.parquet` say of each table, sorted by id.

    Raises:
        ValueError: If they are not about the same tables.
    """
    told = {row["table"]: row for row in candidates.to_pylist()}
    rows = sorted(tables.select(["table", "rows", "bytes", "columns"]).to_pylist(), key=lambda row: row["table"])
    if {row["table"] for row in rows} != told.keys():
        raise ValueError("tables and candidates are not of the same audit")
    return [_fact(number, row, told[row["table"]]) for number, row in enumerate(rows)]


def _fact(number: int, row: Mapping[str, Any], told: Mapping[str, Any]) -> TableFacts:
    return TableFacts(
        table=number,
        id=row["table"],
        bytes=row["bytes"] or 0,
        history_bytes=told["history_bytes"],
        shared_bytes=told["shared_bytes"],
        rows=row["rows"],
        columns=len(row["columns"] or ()),
        keep_reason=told["keep_reason"],
        no_recipe_reason=told["no_recipe_reason"],
        created=told["created"],
        last_write=told["last_write"],
        properties=Properties(owner=told["owner"], tags=tuple(told["tags"] or ()), keep=bool(told["keep"])),
    )


def recipes_of(recipes: pa.Table, ids: Iterable[str]) -> list[Recipe]:
    """The recipes of `recipes.parquet`, tables by their position among the ids."""
    place = {table: number for number, table in enumerate(ids)}
    return [
        Recipe(
            child=place[row["child"]],
            parents=tuple(place[parent] for parent in row["parents"]),
            kind=row["recipe_kind"],
            setup_sql=tuple(row["setup_sql"]),
            recipe_sql=row["recipe_sql"],
            read_bytes=row["read_bytes"],
            stored_bytes=row["stored_bytes"],
            expires=row["expires"],
            through=tuple(place[table] for table in row["through"] or ()),
        )
        for row in recipes.to_pylist()
    ]
