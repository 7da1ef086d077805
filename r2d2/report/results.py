"""Turns the values of an audit into the tables of the result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from r2d2.lake.inventory import Inventory
from r2d2.model import Edge, Recipe, Status, spark_type
from r2d2.near.difference import NearDuplicate
from r2d2.recipes.stored import SEVERAL
from r2d2.report.near import leaf_name, near_row
from r2d2.report.plans import access_rows, candidate_row, decision_row, proposal_row, recipe_row
from r2d2.retention.facts import TableFacts
from r2d2.retention.plan import Plan
from r2d2.retention.usage import CatalogAccesses
from r2d2.scan.covers import Union
from r2d2.store.results import RESULT_SCHEMAS


def result_tables(
    inventory: Inventory,
    edges: Sequence[Edge],
    plan: Plan,
    rows_of: Mapping[int, int | None],
    facts: Sequence[TableFacts],
    recipes: Sequence[Recipe] = (),
    recipe_reasons: Mapping[tuple[int, int], str] | None = None,
    unions: Sequence[Union] = (),
    near: Sequence[NearDuplicate] = (),
    accesses: CatalogAccesses | None = None,
) -> dict[str, pa.Table]:
    """All result tables by name.

    Args:
        inventory: Tables and failures.
        edges: Verified containments.
        plan: A decision for every table.
        rows_of: Rows by table, where known.
        facts: What the plan counted with, by table.
        recipes: Those that were run and gave their child back.
        recipe_reasons: Why edges have none, by child and parent; why unions have none, by child and SEVERAL.
        unions: Tables that only several others together hold.
        near: Pairs with a high, partial overlap.
        accesses: What sources in the engine's catalog say, by source and name.
    """
    reasons = recipe_reasons or {}
    ids = [table.id for table in inventory.found]
    rows: dict[str, list[dict[str, Any]]] = {
        "tables": [_table_row(inventory, table, rows_of) for table in range(len(ids))],
        "edges": [_edge_row(edge, ids, reasons.get((edge.child, edge.parent))) for edge in edges],
        "unions": [_union_row(union, ids, reasons.get((union.child, SEVERAL))) for union in unions],
        "near": [near_row(pair, ids, stored_bytes(inventory, pair.child)) for pair in near],
        "recipes": [recipe_row(recipe, ids) for recipe in recipes],
        "proposals": [proposal_row(d, ids, facts[d.table]) for d in plan.decisions if d.delete],
        "decisions": [decision_row(decision, ids) for decision in plan.decisions],
        "candidates": [candidate_row(fact) for fact in facts],
        "accesses": access_rows(accesses or {}),
        "failures": [
            {"table": ids[f.table], "parent": None, "stage": f.stage, "error": f.error, "message": f.message}
            for f in inventory.failures.values()
        ],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in RESULT_SCHEMAS.items()}


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


def _edge_row(edge: Edge, ids: Sequence[str], recipe_reason: str | None) -> dict[str, Any]:
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
        "recipe_reason": recipe_reason,
    }


def _union_row(union: Union, ids: Sequence[str], recipe_reason: str | None) -> dict[str, Any]:
    parents = sorted(ids[parent] for parent in union.parents)
    row = {"child": ids[union.child], "parents": parents, "set": True, "bag": union.bag}
    return row | {"recipe_reason": recipe_reason}
