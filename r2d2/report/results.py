"""Turns the values of an audit into the tables of the result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from r2d2.lake.inventory import Inventory
from r2d2.model import Edge, LeafPath, Status, spark_type
from r2d2.retention.plan import Decision, Plan
from r2d2.store.results import RESULT_SCHEMAS


def result_tables(
    inventory: Inventory, edges: Sequence[Edge], plan: Plan, rows_of: Mapping[int, int | None]
) -> dict[str, pa.Table]:
    """All result tables by name.

    Args:
        inventory: Tables and failures.
        edges: Verified containments.
        plan: A decision for every table.
        rows_of: Rows by table, where known.
    """
    ids = [table.id for table in inventory.found]
    rows: dict[str, list[dict[str, Any]]] = {
        "tables": [_table_row(inventory, table, rows_of) for table in range(len(ids))],
        "edges": [_edge_row(edge, ids) for edge in edges],
        "unions": [],
        "near": [],
        "proposals": [_proposal_row(decision, inventory) for decision in plan.decisions if decision.delete],
        "decisions": [_decision_row(decision, ids) for decision in plan.decisions],
        "failures": [
            {"table": ids[f.table], "parent": None, "stage": f.stage, "error": f.error, "message": f.message}
            for f in inventory.failures.values()
        ],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in RESULT_SCHEMAS.items()}


def leaf_name(path: LeafPath) -> str:
    """A leaf path as SQL writes it: names joined by dots, in backticks where they hold a dot or a backtick."""
    return ".".join("`" + name.replace("`", "``") + "`" if set(name) & {".", "`"} else name for name in path)


def _table_row(inventory: Inventory, table: int, rows_of: Mapping[int, int | None]) -> dict[str, Any]:
    found, failure, harvest = inventory.found[table], inventory.failures.get(table), inventory.harvests.get(table)
    columns = [{"name": c.name, "type": spark_type(c.type)} for c in harvest.schema] if harvest else []
    return {
        "table": found.id,
        "format": found.format.value,
        "rows": rows_of.get(table),
        "bytes": stored_bytes(inventory, table),
        "files": len(harvest.fragments) if harvest else len(found.files),
        "columns": columns,
        "version": harvest.version if harvest else None,
        "status": failure.status if failure else Status.OK.value,
        "reason": failure.message if failure else None,
    }


def stored_bytes(inventory: Inventory, table: int) -> int:
    """Bytes of a table's snapshot; those of its listed files where it could not be harvested."""
    harvest = inventory.harvests.get(table)
    return harvest.table_bytes if harvest else sum(file.size for file in inventory.found[table].files)


def _edge_row(edge: Edge, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "child": ids[edge.child],
        "parent": ids[edge.parent],
        "relation": edge.relation,
        "bag": edge.bag,
        "set": edge.set,
        "child_rows": edge.child_rows,
        "parent_rows": edge.parent_rows,
        "columns": [leaf_name(path) for path in edge.columns],
        "proof": edge.proof,
    }


def _proposal_row(decision: Decision, inventory: Inventory) -> dict[str, Any]:
    recipe, harvest = decision.recipe, inventory.harvests[decision.table]
    if recipe is None:
        raise ValueError(f"table {decision.table} is deleted without a recipe")
    return {
        "table": inventory.found[decision.table].id,
        "parents": [inventory.found[parent].id for parent in recipe.parents],
        "recipe_kind": recipe.kind,
        "setup_sql": list(recipe.setup_sql),
        "recipe_sql": recipe.recipe_sql,
        "bytes": harvest.table_bytes,
        "history_bytes": harvest.history_bytes,
        "saving_per_month": decision.saving_per_month,
        "rebuild_seconds": decision.rebuild_seconds,
        "rebuild_cost": decision.rebuild_cost,
        "reason": decision.reason,
    }


def _decision_row(decision: Decision, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "table": ids[decision.table],
        "decision": "delete" if decision.delete else "retain",
        "reason": decision.reason,
        "cost_kept": decision.cost_kept,
        "cost_deleted": decision.cost_deleted,
    }
