"""The stored tables by which the stages of the funnel meet: the schema graph, evidence, and the pairs that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.model import LeafOfFile, SchemaClass, SchemaGraph, is_case_sensitive, leaf_key, leaf_path
from r2d2.scan.compare import Verdict
from r2d2.scan.plan import Pair

if TYPE_CHECKING:
    from r2d2.store.stages import StageStore

GRAPH, MINMAX, PAGES, MINHASH, VERIFY = "schema_graph", "minmax", "pages", "minhash", "verify"
"""Names of the stages whose tables others read."""

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
IDENTICAL = pa.schema(
    [("child", pa.int32()), ("parent", pa.int32()), ("column_set", pa.int32()), ("equal", pa.bool_())]
)
"""Pairs that files prove: all of the child's are the parent's; `equal` where they are the same files."""
VERDICTS = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("column_set", pa.int32()),
        ("distinct", pa.int64()),  # distinct child rows that were looked at
        ("missing", pa.int64()),  # of those, not in the parent
        ("excess", pa.int64()),  # of those, there less often than in the child
        ("whole", pa.bool_()),  # both tables were read whole, not sampled
    ]
)
"""What a comparison of rows has found out about each pair."""
LEAVES_OF_FILES = pa.schema([("table", pa.int32()), ("fragment", pa.int32()), ("leaf", pa.string())])
"""Leaves of files of which a scan has something to tell."""
EVIDENCE = pa.schema([("table", pa.int32()), ("evidence", pa.binary())])
"""What metadata proves about each table, as `scan.evidence.pack` writes it."""
EVIDENCE_TABLES = ("evidence-tables", "evidence-files")
"""Stored evidence: of the tables of the listing, and of the files of folders that are not one table."""


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


def write_pairs(store: StageStore, stage: str, pairs: Mapping[Pair, bool], *, name: str = "pairs") -> None:
    """Store pairs with their marks: see STORED_PAIRS.bag_excluded."""
    _write_marked(store, stage, name, STORED_PAIRS, pairs)


def read_pairs(store: StageStore, stage: str, *, name: str = "pairs") -> dict[Pair, bool]:
    """Stored pairs with their marks, sorted."""
    return _read_marked(store, stage, name, STORED_PAIRS)


def write_identical(store: StageStore, stage: str, pairs: Mapping[Pair, bool]) -> None:
    """Store pairs that files prove, and whether they are equal: see IDENTICAL."""
    _write_marked(store, stage, "identical", IDENTICAL, pairs)


def read_identical(store: StageStore, stage: str) -> dict[Pair, bool]:
    """Stored pairs that files prove, sorted."""
    return _read_marked(store, stage, "identical", IDENTICAL)


def write_verdicts(store: StageStore, stage: str, verdicts: Mapping[Pair, Verdict]) -> None:
    """Store what rows say of pairs."""
    rows = [{**pair._asdict(), **asdict(verdict)} for pair, verdict in sorted(verdicts.items())]
    store.write_table(stage, "verdicts", pa.Table.from_pylist(rows, schema=VERDICTS))


def read_verdicts(store: StageStore, stage: str) -> dict[Pair, Verdict]:
    """What rows say of pairs, as far as a stage has asked."""
    rows = store.read_table(stage, "verdicts", VERDICTS).to_pylist()
    counts = VERDICTS.names[3:]
    return {Pair.of(row): Verdict(**{name: row[name] for name in counts}) for row in rows}


def write_leaves(store: StageStore, stage: str, name: str, leaves: Iterable[LeafOfFile]) -> None:
    """Store leaves of files: `lies` (claims that turned out to be wrong) or `hidden_nans`."""
    rows = [{"table": table, "fragment": fragment, "leaf": leaf_key(leaf)} for table, fragment, leaf in sorted(leaves)]
    store.write_table(stage, name, pa.Table.from_pylist(rows, schema=LEAVES_OF_FILES))


def read_leaves(store: StageStore, stage: str, name: str) -> set[LeafOfFile]:
    """Stored leaves of files: table, position of the fragment, leaf."""
    rows = store.read_table(stage, name, LEAVES_OF_FILES).to_pylist()
    return {(row["table"], row["fragment"], leaf_path(row["leaf"])) for row in rows}


def read_evidence(store: StageStore, stage: str, tables: Collection[int]) -> dict[int, bytes]:
    """The packed evidence of some tables."""
    parts = [store.read_table(stage, name, EVIDENCE) for name in EVIDENCE_TABLES]
    wanted = pa.array(sorted(tables), pa.int32())
    kept = [part.filter(pc.is_in(part["table"], wanted)) for part in parts]
    return {row["table"]: row["evidence"] for part in kept for row in part.to_pylist()}


def _write_marked(store: StageStore, stage: str, name: str, schema: pa.Schema, pairs: Mapping[Pair, bool]) -> None:
    """Pairs, and one mark of each in the last column of a schema."""
    columns: dict[str, list[Any]] = {key: [getattr(pair, key) for pair in pairs] for key in schema.names[:-1]}
    store.write_table(stage, name, pa.table({**columns, schema.names[-1]: list(pairs.values())}, schema=schema))


def _read_marked(store: StageStore, stage: str, name: str, schema: pa.Schema) -> dict[Pair, bool]:
    rows = store.read_table(stage, name, schema).to_pylist()
    return dict(sorted((Pair.of(row), bool(row[schema.names[-1]])) for row in rows))
