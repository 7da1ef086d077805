"""Which children may be the union of several tables: what metadata leaves over, in one job."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError
from r2d2.model import SchemaClass, SchemaGraph
from r2d2.scan.plan import column_order, compared_paths
from r2d2.scan.stored import EVIDENCE, EVIDENCE_TABLES
from r2d2.session import engine_errors, union_all
from r2d2.unions.overlap import Block, candidates
from r2d2.unions.ranked import Ranked
from r2d2.workers import map_cogroups

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from r2d2.lake.run import StageRun

BLOCK_TABLES = 20_000
"""Children of one block: see `prune.blocks`."""

DONE = -1
_ITEMS = pa.schema([("item", pa.int32()), ("blocks", pa.list_(pa.string()))])
_MEMBERS = pa.schema([("item", pa.int32()), ("table", pa.int32())])
_FOUND = pa.schema([("item", pa.int32()), ("child", pa.int32()), ("parents", pa.list_(pa.int32()))])


def blocks_of(graph: SchemaGraph, children: Collection[int], parents: Collection[int]) -> Iterator[Block]:
    """The children of each class with all parents that have their columns.

    Args:
        graph: Classes, and edges between them.
        children: Tables that are asked about.
        parents: Tables that may hold their rows.
    """
    above: dict[int, set[int]] = {c.id: {c.id} for c in graph.classes}
    for child, parent in graph.edges:
        above[child].add(parent)
    for c in graph.classes:
        own = dict.fromkeys(table for table in c.tables if table in children)
        sides = [(_of(graph.classes[p], parents, own), _places(c, graph.classes[p])) for p in sorted(above[c.id])]
        filled = tuple((tables, places) for tables, places in sides if tables)
        if sum(len(tables) for tables, _ in filled) > 2:  # a child and two others at least
            for start in range(0, len(own), BLOCK_TABLES):
                part = tuple(islice(own, start, start + BLOCK_TABLES))
                yield Block(column_set=c.id, children=part, parents=filled)


def _of(c: SchemaClass, *either: Collection[int]) -> tuple[int, ...]:
    return tuple(table for table in c.tables if any(table in tables for tables in either))


def _places(child: SchemaClass, parent: SchemaClass) -> tuple[int, ...]:
    """Per leaf of the child, in order, the place of the parent's leaf of that name."""
    place = {path: number for number, path in enumerate(column_order(list(parent.names)))}
    return tuple(place[path] for path in compared_paths(child, parent)[1])


def by_metadata(run: StageRun, blocks: Sequence[Block], evidence_stage: str) -> dict[int, list[int]]:
    """Children that metadata does not refute, each with the tables that may hold its rows.

    Args:
        run: The audit.
        blocks: What to ask.
        evidence_stage: Whose evidence of all tables is stored.

    Raises:
        EngineError: If the engine has lost work items.
    """
    if not blocks:
        return {}
    items = _items(blocks, 1 + sum(len(block.tables) for block in blocks) // (4 * run.kernels.parallelism))
    spark = run.engine.spark
    texts = [{"item": n, "blocks": [block.to_json() for block in own]} for n, own in enumerate(items)]
    needed = [
        {"item": n, "table": t} for n, own in enumerate(items) for t in sorted(set().union(*(b.tables for b in own)))
    ]
    with engine_errors():
        stored = [run.store.read_frame(evidence_stage, name, EVIDENCE) for name in _stored(run)]
        members = spark.createDataFrame(pa.Table.from_pylist(needed, schema=_MEMBERS))
        asked = spark.createDataFrame(pa.Table.from_pylist(texts, schema=_ITEMS))
        rows = _answered(union_all(stored).join(members, "table"), asked)
    done = set(rows.filter(pc.equal(rows["child"], DONE))["item"].to_pylist())
    if done != set(range(len(items))):
        raise EngineError("the engine lost work items of the search for unions; nothing was refuted")
    return {row["child"]: row["parents"] for row in rows.to_pylist() if row["child"] != DONE}


def _stored(run: StageRun) -> list[str]:
    return [name for name in EVIDENCE_TABLES if run.inventory.places(name.removeprefix("evidence-"))]


def _items(blocks: Sequence[Block], tables: int) -> list[list[Block]]:
    """Blocks in work items of about as many tables each."""
    items: list[list[Block]] = []
    room = 0
    for block in blocks:
        if not items or len(block.tables) > room:
            items.append([])
            room = tables
        items[-1].append(block)
        room -= len(block.tables)
    return items


def _answered(evidence: DataFrame, items: DataFrame) -> pa.Table:
    def answer(tables: pa.Table, items: pa.Table) -> pa.Table:
        packed = dict(zip(tables["table"].to_pylist(), tables["evidence"].to_pylist(), strict=True))
        evidence = Ranked.of(packed)
        (item,) = items.to_pylist()
        found = [pair for text in item["blocks"] for pair in candidates(Block.from_json(text), evidence)]
        rows = [{"item": item["item"], "child": child, "parents": parents} for child, parents in [*found, (DONE, [])]]
        return pa.Table.from_pylist(rows, schema=_FOUND)

    return map_cogroups(evidence.groupBy("item").cogroup(items.groupBy("item")), answer, _FOUND).toArrow()
