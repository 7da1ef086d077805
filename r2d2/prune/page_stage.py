"""Stage *pages*: pages of Parquet files refute pairs that the bounds of files have left.

They do nothing that a scan would not do, so only pairs are asked about that may spare tables a scan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError
from r2d2.lake.inventory import SOURCES
from r2d2.model import Harvest, SchemaGraph
from r2d2.prune.blocks import parent_places
from r2d2.prune.page_gain import worth_reading
from r2d2.prune.page_items import (
    ANSWERS,
    AS_CHILD,
    DONE,
    MOST_QUESTIONS,
    WITNESSES,
    ParentWork,
    answer_pages,
    table_to_json,
    witness_batches,
)
from r2d2.prune.page_rule import PageRefutation, Question
from r2d2.prune.pages import Belief, PagedTable, has_pages, paged_table
from r2d2.prune.stage import stored_suspects
from r2d2.scan.covers import questions_about, read_candidates
from r2d2.scan.plan import Pair, deal
from r2d2.scan.stored import (
    EVIDENCE,
    GRAPH,
    MINMAX,
    PAGES,
    read_graph,
    read_pairs,
    read_verdicts,
    write_pairs,
)
from r2d2.session import engine_errors, union_all
from r2d2.workers import map_batches, map_cogroups

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.store.stages import StageStore

LEAST_BYTES = 1 << 20
"""What the scans that may be spared are worth at least: less costs less than a further job."""

PAGED_BYTES = 1 << 17
"""A child with fewer bytes hardly has a column of several pages."""

OPENING_BYTES = 1 << 18
COLUMN_BYTES = 1 << 12
"""To open a file, and to look at the pages of a column, costs as much time as to scan so many bytes."""

_LEAST_BUDGET = 1 << 17
_BUDGET_SHARE = 4
"""Pages, and footers read for them, may take one in so many of a table's bytes."""

_NAME = "refuted"
PAGE_REASONS = pa.schema([ANSWERS.field(name) for name in ("child", "parent", "column_set", "reason")])
"""Pairs that pages refute, with a `PageRefutation` in text form."""

_ITEMS = pa.schema([("item", pa.int32()), ("works", pa.list_(pa.string()))])
_MEMBERS = pa.schema([("item", pa.int32()), ("table", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class PageVerdicts:
    """The pairs that pages refute, with the reasons, and the bytes that were read for all pairs."""

    refuted: Mapping[Pair, str] = field(default_factory=dict)
    bytes_read: int = 0


def run_pages(run: StageRun, samples_stage: str) -> dict[str, int]:
    """Store the pairs of stage *min-max* that pages do not refute, and why they refute the others.

    Args:
        run: The audit, with the candidates of unions stored.
        samples_stage: If it ran before, nothing more is asked about its pairs, and claims that it found to be wrong do
            not count: see `run_minmax`.

    Returns:
        The pairs that are left, and bytes of pages that were read.
    """
    graph = read_graph(run.store, GRAPH, case_sensitive=run.config.case_sensitive)
    pairs = read_pairs(run.store, MINMAX)
    known = read_verdicts(run.store, samples_stage)
    candidates = [pair for pair in pairs if pair not in known and run.inventory.are_active(pair)]
    belief = Belief(utc=run.utc, suspects=frozenset(stored_suspects(run, samples_stage)))
    with engine_errors():
        found = refuted_by_pages(run, graph, candidates, belief)
    write_page_verdicts(run.store, found.refuted)
    left = {pair: mark for pair, mark in pairs.items() if pair not in found.refuted}
    write_pairs(run.store, PAGES, left)
    counts = {"pairs": len(left), "bytes_read": found.bytes_read}
    run.store.commit(PAGES, counts)
    return counts


def refuted_by_pages(run: StageRun, graph: SchemaGraph, pairs: Sequence[Pair], belief: Belief) -> PageVerdicts:
    """Which of some pairs the pages of their tables' files refute, where that can be worth a job.

    Args:
        run: The audit, with the evidence of its tables stored.
        graph: Its schema graph.
        pairs: The candidates.
        belief: What is believed of pages.

    Raises:
        EngineError: If the engine lost an answer.
    """
    harvests = run.inventory.harvests
    asked = _worth_asking(run, graph, pairs)
    if not asked:
        return PageVerdicts()
    work = _works(graph, asked, harvests, belief)
    children = _children(asked, harvests, belief)
    costs = [page_bytes(harvests[one.parent.table]) for one in work]
    items = [[work[place] for place in places] for places in deal(costs, _bins(run))]
    return _verdicts(_run(run, items, children, belief), len(items))


def _worth_asking(run: StageRun, graph: SchemaGraph, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose pages may spare some of their tables the scan for samples."""
    harvests = run.inventory.harvests
    paged = {parent for parent in {pair.parent for pair in pairs} if has_pages(harvests[parent])}
    asked = [pair for pair in pairs if pair.parent in paged]
    unasked = {table for pair in pairs if pair.parent not in paged for table in (pair.child, pair.parent)}
    questions = questions_about(read_candidates(run.store), graph, run.inventory.is_active)
    return worth_reading(
        asked,
        read_anyway=unasked.union(*(question.tables for question in questions)),
        scan_bytes={table: scan_bytes(harvests[table]) for table in {t for p in asked for t in (p.child, p.parent)}},
        page_bytes={parent: page_bytes(harvests[parent]) for parent in paged},
        least_bytes=LEAST_BYTES,
    )


def scan_bytes(harvest: Harvest) -> int:
    """What a scan of a table costs."""
    return harvest.table_bytes + OPENING_BYTES * len(harvest.fragments)


def page_bytes(harvest: Harvest) -> int:
    """What a look at the pages of a table costs, as bytes of a scan."""
    files = (OPENING_BYTES + COLUMN_BYTES * len(harvest.schema)) * len(harvest.fragments)
    return min(_budget(harvest), harvest.table_bytes) + files


def page_answers(
    graph: SchemaGraph,
    pairs: Sequence[Pair],
    harvests: Mapping[int, Harvest],
    evidence: Mapping[int, bytes],
    belief: Belief,
) -> pa.Table:
    """The same without an engine, whatever it is worth: rows of ANSWERS, of one item."""
    texts = [table_to_json(table) for table in _children(pairs, harvests, belief)]
    pages = {row["table"]: row["pages"] for batch in witness_batches(texts, belief) for row in batch.to_pylist()}
    return answer_pages(0, _works(graph, pairs, harvests, belief), evidence, pages, belief)


def write_page_verdicts(store: StageStore, refuted: Mapping[Pair, str]) -> None:
    """Store why pages refute pairs."""
    rows = [
        {"child": pair.child, "parent": pair.parent, "column_set": pair.column_set, "reason": reason}
        for pair, reason in sorted(refuted.items())
    ]
    store.write_table(PAGES, _NAME, pa.Table.from_pylist(rows, schema=PAGE_REASONS))


def read_page_refutation(store: StageStore, pair: Pair) -> PageRefutation | None:
    """Why pages refute a pair, if they do."""
    rows = store.read_table(PAGES, _NAME, PAGE_REASONS)
    own = rows.filter(pc.and_(pc.equal(rows["child"], pair.child), pc.equal(rows["parent"], pair.parent)))
    return PageRefutation.from_json(own["reason"][0].as_py()) if len(own) else None


def _works(
    graph: SchemaGraph, pairs: Sequence[Pair], harvests: Mapping[int, Harvest], belief: Belief
) -> list[ParentWork]:
    """The candidates by parent, without parents whose files cannot be looked at."""
    class_of, questions = graph.class_of, defaultdict(list)
    places: dict[tuple[int, int], tuple[int, ...]] = {}
    for pair in pairs:
        child, parent = class_of[pair.child], class_of[pair.parent]
        edge = (child.id, parent.id)
        if edge not in places:
            places[edge] = parent_places(child, parent)
        question = Question(child=pair.child, column_set=pair.column_set, parent_leaf=places[edge])
        questions[pair.parent].append(question)
    found = []
    for table, own in sorted(questions.items()):
        parent_table = _paged(table, harvests[table], belief)
        if parent_table.files:
            parts = [tuple(own[start : start + MOST_QUESTIONS]) for start in range(0, len(own), MOST_QUESTIONS)]
            found += [ParentWork(parent=parent_table, questions=part) for part in parts]
    return found


def _budget(harvest: Harvest) -> int:
    return _LEAST_BUDGET + harvest.table_bytes // _BUDGET_SHARE


def _children(pairs: Sequence[Pair], harvests: Mapping[int, Harvest], belief: Belief) -> list[PagedTable]:
    """The children whose pages may have witnesses that their files have not."""
    tables = (_paged(table, harvests[table], belief) for table in sorted({pair.child for pair in pairs}))
    return [table for table in tables if any(file.stamp.size >= PAGED_BYTES for file in table.files)]


def _paged(table: int, harvest: Harvest, belief: Belief) -> PagedTable:
    return paged_table(table, harvest, budget=_budget(harvest), utc=belief.utc)


def _bins(run: StageRun) -> int:
    return 4 * run.kernels.parallelism


def _run(
    run: StageRun, items: Sequence[Sequence[ParentWork]], children: Sequence[PagedTable], belief: Belief
) -> pa.Table:
    """The answers to all items, in one job."""
    from pyspark.sql import functions as F

    spark = run.engine.spark
    stored = [f"evidence-{source}" for source in SOURCES if run.inventory.places(source)]
    parts = [run.store.read_frame(MINMAX, name, EVIDENCE) for name in stored]
    facts = [part.select("table", F.col("evidence").alias("bytes"), F.lit(False).alias("pages")) for part in parts]
    if children:
        texts = [table_to_json(table) for table in children]
        bins = deal([len(text) for text in texts], _bins(run))
        work = pa.table({"works": pa.array([[texts[i] for i in own] for own in bins], pa.list_(pa.string()))})
        frame = map_batches(spark.createDataFrame(work).repartition(len(bins)), _witnesser(belief), WITNESSES)
        facts.append(frame.select("table", F.col("pages").alias("bytes"), F.lit(True).alias("pages")))
    members = spark.createDataFrame(_members(items))
    texts_of = pa.table(
        {"item": list(range(len(items))), "works": [[one.to_json() for one in own] for own in items]}, schema=_ITEMS
    )

    def answer_item(tables: pa.Table, works: pa.Table) -> pa.Table:
        (item,) = works.to_pylist()
        packed: dict[bool, dict[int, bytes]] = {False: {}, True: {}}
        for row in tables.to_pylist():
            packed[row["pages"]][row["table"]] = row["bytes"]
        own = [ParentWork.from_json(text) for text in item["works"]]
        return answer_pages(item["item"], own, packed[False], packed[True], belief)

    grouped = union_all(facts).join(members, "table").groupBy("item")
    asked = spark.createDataFrame(texts_of).groupBy("item")
    return map_cogroups(grouped.cogroup(asked), answer_item, ANSWERS).toArrow()


def _witnesser(belief: Belief) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def witness(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for texts in batch.column(0).to_pylist():
                yield from witness_batches(texts, belief)

    return witness


def _members(items: Sequence[Sequence[ParentWork]]) -> pa.Table:
    """Which tables' evidence each work item needs."""
    needed = [
        sorted({table for one in own for table in (one.parent.table, *(q.child for q in one.questions))})
        for own in items
    ]
    columns = {
        "item": [number for number, tables in enumerate(needed) for _ in tables],
        "table": [table for tables in needed for table in tables],
    }
    return pa.table(columns, schema=_MEMBERS)


def _verdicts(rows: pa.Table, items: int) -> PageVerdicts:
    refuted: dict[Pair, str] = {}
    of_children: dict[int, int] = {}
    of_parents, ended = 0, set()
    for row in rows.to_pylist():
        if row["child"] != DONE:
            refuted[Pair.of(row)] = row["reason"]
        elif row["parent"] == DONE:
            ended.add(row["item"])
        elif row["column_set"] == AS_CHILD:
            of_children[row["parent"]] = row["bytes"]
        else:
            of_parents += row["bytes"]
    if ended != set(range(items)):
        raise EngineError("the engine lost work items of stage pages; nothing was refuted")
    return PageVerdicts(refuted=refuted, bytes_read=of_parents + sum(of_children.values()))
