"""The stored tables by which the stages of the funnel meet: the schema graph, and the pairs that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import SchemaClass, SchemaGraph, is_case_sensitive, leaf_key, leaf_path
from r2d2.scan.plan import Pair

if TYPE_CHECKING:
    from r2d2.store.stages import StageStore

CLASSES = pa.schema([("class", pa.int32()), ("leaves", pa.list_(pa.string())), ("tables", pa.list_(pa.int32()))])
CLASS_EDGES = pa.schema([("child", pa.int32()), ("parent", pa.int32())])
STORED_PAIRS = pa.schema([("child", pa.int32()), ("parent", pa.int32()), ("column_set", pa.int32())])


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


def write_pairs(store: StageStore, stage: str, pairs: Sequence[Pair]) -> None:
    """Store pairs."""
    columns: Mapping[str, list[int]] = {name: [getattr(pair, name) for pair in pairs] for name in STORED_PAIRS.names}
    store.write_table(stage, "pairs", pa.table(dict(columns), schema=STORED_PAIRS))


def read_pairs(store: StageStore, stage: str) -> list[Pair]:
    """Stored pairs, sorted."""
    return sorted(Pair(**row) for row in store.read_table(stage, "pairs", STORED_PAIRS).to_pylist())
