"""Stages *schema graph* and *min-max*: from the metadata of all tables to the candidate pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError
from r2d2.lake.harvest import HARVESTS, harvest_from_row
from r2d2.lake.ignored import without_leaves
from r2d2.lake.inventory import HARVEST, SOURCES, claims_of
from r2d2.model import Harvest, LeafPath
from r2d2.prune.blocks import BLOCK_TABLES, DONE, SURVIVORS, Block, answer, blocks_of, from_json, items_of, to_json
from r2d2.prune.evidence import packed_evidence
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.prune.trust import Suspect, suspect
from r2d2.scan.evidence import WHOLE
from r2d2.scan.identity import identities, sharing_pairs
from r2d2.scan.plan import Pair
from r2d2.scan.stored import (
    EVIDENCE,
    GRAPH,
    MINMAX,
    read_graph,
    read_leaves,
    write_graph,
    write_identical,
    write_pairs,
)
from r2d2.session import engine_errors, union_all
from r2d2.workers import map_batches, map_cogroups

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from r2d2.lake.run import StageRun

_ITEMS = pa.schema([("item", pa.int32()), ("blocks", pa.string())])
_MEMBERS = pa.schema([("item", pa.int32()), ("table", pa.int32())])
_BATCH_BYTES = 1 << 20
"""Evidence that is handed over together: a batch per table takes longer than to make it."""


def run_schema_graph(run: StageRun) -> dict[str, int]:
    """Store the schema graph of the tables that take part.

    Returns:
        Classes, edges between them, and the pairs of tables that these stand for.
    """
    graph = build_schema_graph(run.inventory.leaf_paths(), case_sensitive=run.config.case_sensitive)
    write_graph(run.store, GRAPH, graph)
    counts = {"classes": len(graph.classes), "edges": len(graph.edges), "pairs": graph.pairs}
    run.store.commit(GRAPH, counts)
    return counts


def run_minmax(run: StageRun, lies_stage: str) -> dict[str, int]:
    """Store the evidence of all tables, and the pairs of the schema graph that it does not refute.

    Args:
        run: The audit.
        lies_stage: Whose scan has found claims that are wrong, if it ran before: all claims of such a writer and type
            do not count.

    Returns:
        How many pairs there are, how many of them are not for samples to refute (files prove them, or they share most
        of their files), and how many writers and types are not believed.
    """
    graph = read_graph(run.store, GRAPH, case_sensitive=run.config.case_sensitive)
    suspects = stored_suspects(run, lies_stage)
    blocks = list(blocks_of(graph))
    tables = {table for block in blocks for table in (*block.children, *block.parents)}
    with engine_errors():
        _store_evidence(run, tables, frozenset(suspects))
        rows = _answers(run, blocks) if blocks else SURVIVORS.empty_table()
        harvests = dict(run.inventory.active())
        proved = {found.pair: found.equal for found in identities(graph, harvests)}
        pairs = {Pair.of(row): row["bag_excluded"] for row in rows.to_pylist() if row["child"] != DONE}
    open_pairs = {pair: mark for pair, mark in pairs.items() if pair not in proved}
    sharing = set(sharing_pairs(open_pairs, graph, harvests))
    write_identical(run.store, MINMAX, proved)
    write_pairs(run.store, MINMAX, {pair: open_pairs[pair] for pair in sorted(sharing)}, name="sharing")
    write_pairs(run.store, MINMAX, {pair: mark for pair, mark in open_pairs.items() if pair not in sharing})
    counts = {
        "pairs": len(pairs.keys() | proved.keys()),
        "not_sampled": len(proved) + len(sharing),
        "suspects": len(suspects),
    }
    run.store.commit(MINMAX, counts)
    return counts


def stored_suspects(run: StageRun, lies_stage: str) -> dict[Suspect, list[int]]:
    """Writers and types with claims that a scan has found to be wrong, and the tables in which it found them."""
    wrong: dict[int, set[tuple[int, LeafPath]]] = {}
    for table, fragment, leaf in read_leaves(run.store, lies_stage, "lies"):
        wrong.setdefault(table, set()).add((fragment, leaf))
    suspects: dict[Suspect, list[int]] = {}
    for table, claims in claims_of(run.store, run.inventory, sorted(wrong)).items():
        for claim in claims:
            is_wrong = not wrong[table].isdisjoint({(claim.fragment, claim.leaf), (WHOLE, claim.leaf)})
            if is_wrong and table not in suspects.get(suspect(claim), ()):
                suspects.setdefault(suspect(claim), []).append(table)
    return suspects


def _store_evidence(run: StageRun, tables: Collection[int], suspects: frozenset[Suspect]) -> None:
    """One job per stored harvest: the claims of its tables become evidence."""
    for source in SOURCES:
        places = run.inventory.places(source)
        if places:
            wanted = {row: table for row, table in places.items() if table in tables}
            ignored = {row: run.ignored[table] for row, table in wanted.items() if table in run.ignored}
            kernel = _evidence_kernel(wanted, ignored, utc=run.utc, suspects=suspects)
            frame = map_batches(run.store.read_frame(HARVEST, source, HARVESTS), kernel, EVIDENCE)
            run.store.write_frame(MINMAX, f"evidence-{source}", frame)


def _evidence_kernel(
    wanted: Mapping[int, int],
    ignored: Mapping[int, Collection[LeafPath]],
    *,
    utc: bool,
    suspects: frozenset[Suspect],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def evidence(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: dict[int, bytes] = {}
        room = _BATCH_BYTES
        for row in (row for batch in batches for row in batch.to_pylist() if row["table"] in wanted):
            harvest = without_leaves(harvest_from_row(row), ignored.get(row["table"], ()))
            packed = _evidence_of(harvest, utc=utc, suspects=suspects)
            held[wanted[row["table"]]] = packed
            room -= len(packed)
            if room <= 0:
                yield _evidence_batch(held)
                held, room = {}, _BATCH_BYTES
        yield _evidence_batch(held)

    return evidence


def _evidence_batch(packed: Mapping[int, bytes]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"table": [*packed], "evidence": [*packed.values()]}, schema=EVIDENCE)


def _evidence_of(harvest: Harvest, *, utc: bool, suspects: frozenset[Suspect]) -> bytes:
    """The evidence of a table; none at all where its claims are beyond understanding."""
    try:
        return packed_evidence(harvest, utc=utc, suspects=suspects)
    except Exception:  # noqa: BLE001 - one table's odd metadata must not end the job for all others
        return packed_evidence(dataclasses.replace(harvest, claims=()), utc=utc)


def _answers(run: StageRun, blocks: Sequence[Block]) -> pa.Table:
    """The surviving pairs of all blocks, in one job; rows of SURVIVORS."""
    tables = sum(block.tables for block in blocks)
    items = items_of(blocks, item_tables=min(BLOCK_TABLES, 1 + tables // (4 * run.kernels.parallelism)))
    spark = run.engine.spark
    texts = pa.table({"item": list(range(len(items))), "blocks": [to_json(item) for item in items]}, schema=_ITEMS)
    members = _members(items)
    stored = [f"evidence-{source}" for source in SOURCES if run.inventory.places(source)]
    parts = [run.store.read_frame(MINMAX, name, EVIDENCE) for name in stored]
    evidence = union_all(parts)
    rows = _run(evidence.join(spark.createDataFrame(members), "table"), spark.createDataFrame(texts))
    done = set(rows.filter(pc.equal(rows["child"], DONE))["item"].to_pylist())
    if done != set(range(len(items))):
        raise EngineError("the engine lost work items of min-max; nothing was refuted")
    return rows


def _run(evidence: DataFrame, items: DataFrame) -> pa.Table:
    def answer_item(tables: pa.Table, items: pa.Table) -> pa.Table:
        packed = dict(zip(tables["table"].to_pylist(), tables["evidence"].to_pylist(), strict=True))
        (item,) = items.to_pylist()
        return answer(item["item"], from_json(item["blocks"]), packed)

    grouped = evidence.groupBy("item").cogroup(items.groupBy("item"))
    return map_cogroups(grouped, answer_item, SURVIVORS).toArrow()


def _members(items: Sequence[Sequence[Block]]) -> pa.Table:
    """Which tables' evidence each work item needs."""
    needed = [sorted({table for block in blocks for table in (*block.children, *block.parents)}) for blocks in items]
    columns = {
        "item": [number for number, tables in enumerate(needed) for _ in tables],
        "table": [table for tables in needed for table in tables],
    }
    return pa.table(columns, schema=_MEMBERS)
