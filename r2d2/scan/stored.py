"""The stored tables by which the stages of the funnel meet: the schema graph, evidence, and the pairs that are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.model import SchemaClass, SchemaGraph, is_case_sensitive, leaf_key, leaf_path
from r2d2.scan.plan import Pair

if TYPE_CHECKING:
    from r2d2.store.stages import StageStore

CLASSES = pa.schema([("class", pa.int32()), ("leaves", pa.list_(pa.string())), ("tables", pa.list_(pa.int32()))])
CLASS_EDGES = pa.schema([("child", pa.int32()), ("parent", pa.int32())])
STORED_PAIRS = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("column_set", pa.int32()),
        ("bag_excluded", pa.bool_()),  # counts in the metadata exclude a containment as bags
    ]
)
EVIDENCE = pa.schema([("table", pa.int32()), ("evidence", pa.binary())])
"""What metadata proves about each table, as `scan.evidence.pack` writes it."""


def write_graph(store: StageStore, stage: str, graph: SchemaGraph) -> None:
    """Store a schema graph."""
    classes = [
        {"class": c.id, "leaves": [leaf_key(path) for path in sorted(c.names)], "tables": list(c.tables)}
        for c in graph.classes
    ]
    edges = [{"child": child, "parent": parent} for child, parent in graph.edges]
    store.write_table(stage, "classes", pa.Table.from_pylist(classes, schema=CLASSES))
    store.write_table(stage, "edges", pa.Table.from_pylist(edges, schema=CLASS_EDGES))


def read_graph(store: StageStore, stage: str, *, case_sensitive: bool) -> SchemaGraph:
    """A stored schema graph."""
    classes = []
    for row in sorted(store.read_table(stage, "classes", CLASSES).to_pylist(), key=lambda row: row["class"]):
        names = frozenset(leaf_path(key) for key in row["leaves"])
        exact = case_sensitive or is_case_sensitive(list(names))
        classes.append(SchemaClass(id=row["class"], names=names, exact=exact, tables=tuple(row["tables"])))
    edges = store.read_table(stage, "edges", CLASS_EDGES).to_pylist()
    return SchemaGraph(classes=tuple(classes), edges=tuple(sorted((row["child"], row["parent"]) for row in edges)))


def write_pairs(store: StageStore, stage: str, pairs: Mapping[Pair, bool]) -> None:
    """Store pairs with their marks: see STORED_PAIRS.bag_excluded."""
    columns: dict[str, list[Any]] = {name: [getattr(pair, name) for pair in pairs] for name in STORED_PAIRS.names[:3]}
    store.write_table(stage, "pairs", pa.table({**columns, "bag_excluded": list(pairs.values())}, schema=STORED_PAIRS))


def read_pairs(store: StageStore, stage: str) -> dict[Pair, bool]:
    """Stored pairs with their marks, sorted."""
    rows = store.read_table(stage, "pairs", STORED_PAIRS).to_pylist()
    return dict(
        sorted(
            (Pair(**{name: row[name] for name in row if name != "bag_excluded"}), row["bag_excluded"]) for row in rows
        )
    )
