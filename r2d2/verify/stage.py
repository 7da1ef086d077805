"""Stage *verify*: the only place that asserts a containment, from the fingerprints of every row of both tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import Edge, SchemaClass, SchemaGraph, leaf_key
from r2d2.scan.job import Comparison, FrameOf, Kernels, Verdict, compare_tables
from r2d2.scan.plan import Pair, TableScan, column_order, column_sets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from r2d2.lake.inventory import Inventory
    from r2d2.store.stages import StageStore

STAGE = "verify"
EDGES = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("relation", pa.string()),
        ("bag", pa.bool_()),
        ("set", pa.bool_()),
        ("child_rows", pa.int64()),
        ("parent_rows", pa.int64()),
        ("columns", pa.list_(pa.string())),
        ("proof", pa.string()),
    ]
)


def run_verify(
    spark: SparkSession,
    store: StageStore,
    inventory: Inventory,
    graph: SchemaGraph,
    pairs: Sequence[Pair],
    kernels: Kernels,
    engine_frame_of: FrameOf,
) -> tuple[list[Edge], Comparison]:
    """The containments among some pairs, sorted and stored; tables that failed on the way leave the inventory."""
    scans = [
        TableScan(table=table, harvest=inventory.harvests[table], column_sets=sets)
        for table, sets in sorted(column_sets(pairs, graph).items())
    ]
    comparison = compare_tables(spark, scans, pairs, kernels, engine_frame_of)
    for table, fault in comparison.faults.items():
        inventory.fail(table, STAGE, fault)
    class_of = {table: schema_class for schema_class in graph.classes for table in schema_class.tables}
    edges = [
        edge_of(pair, verdict, comparison, class_of[pair.child], class_of[pair.parent])
        for pair, verdict in sorted(comparison.verdicts.items())
        if verdict.missing == 0
    ]
    rows = [{**dataclasses.asdict(edge), "columns": [leaf_key(path) for path in edge.columns]} for edge in edges]
    store.write_table(STAGE, "edges", pa.Table.from_pylist(rows, schema=EDGES))
    store.commit(STAGE, {"edges": len(edges), "bytes_read": comparison.bytes_read})
    return edges, comparison


def edge_of(pair: Pair, verdict: Verdict, comparison: Comparison, child: SchemaClass, parent: SchemaClass) -> Edge:
    """The edge of a pair none of whose child rows is missing; the classes are those of its tables."""
    child_rows, parent_rows = comparison.rows_of[pair.child], comparison.rows_of[pair.parent]
    bag = verdict.excess == 0
    equal = bag and len(child.names) == len(parent.names) and child_rows == parent_rows
    return Edge(
        child=pair.child,
        parent=pair.parent,
        relation="equal" if equal else "contained",
        bag=bag,
        set=True,
        child_rows=child_rows,
        parent_rows=parent_rows,
        columns=column_order(sorted(child.names)),
    )
