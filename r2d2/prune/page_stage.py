"""The second job of stage *min-max*: pages of Parquet files refute pairs that the bounds of files have left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError
from r2d2.lake.inventory import SOURCES
from r2d2.model import Harvest, SchemaGraph, spark_ddl
from r2d2.prune.blocks import parent_places
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
from r2d2.prune.pages import Belief, PagedTable, paged_table
from r2d2.scan.plan import Pair, deal
from r2d2.scan.stored import EVIDENCE, MINMAX
from r2d2.session import union_all

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.store.stages import StageStore

LEAST_BYTES = 1 << 20
"""Stored bytes of the tables of the open pairs below which a scan of them costs less than a further job."""

PAGED_BYTES = 1 << 17
"""A child with fewer bytes hardly has a column of several pages."""

WIDE_COLUMNS = 64
COLUMN_BYTES = 1 << 12
"""A parent of that many columns, with fewer bytes per column and file, is scanned in less time than its pages take."""

_LEAST_BUDGET = 1 << 17
_BUDGET_SHARE = 4
"""Pages, and footers read for them, may take one in so many of a table's bytes."""

_OPENING_BYTES = 1 << 18
_NAME = "pages"
PAGE_REASONS = pa.schema([ANSWERS.field(name) for name in ("child", "parent", "column_set", "reason")])
"""Pairs that pages refute, with a `PageRefutation` in text form."""

_ITEMS = pa.schema([("item", pa.int32()), ("works", pa.list_(pa.string()))])
_MEMBERS = pa.schema([("item", pa.int32()), ("table", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class PageVerdicts:
    """The pairs that pages refute, with the reasons, and the bytes that were read for all pairs."""

    refuted: Mapping[Pair, str] = field(default_factory=dict)
    bytes_read: int = 0


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
    asked = [pair for pair in pairs if run.inventory.are_active(pair) and not _has_thin_columns(harvests[pair.parent])]
    tables = {table for pair in asked for table in (pair.child, pair.parent)}
    if sum(harvests[table].table_bytes for table in tables) < LEAST_BYTES:
        return PageVerdicts()
    work = _works(graph, asked, harvests, belief)
    if not work:
        return PageVerdicts()
    children = _children(asked, harvests, belief)
    items = [[work[place] for place in places] for places in deal([_cost(harvests, one) for one in work], _bins(run))]
    return _verdicts(_run(run, items, children, belief), len(items))


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
    store.write_table(MINMAX, _NAME, pa.Table.from_pylist(rows, schema=PAGE_REASONS))


def read_page_refutation(store: StageStore, pair: Pair) -> PageRefutation | None:
    """Why pages refute a pair, if they do."""
    rows = store.read_table(MINMAX, _NAME, PAGE_REASONS)
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


def _has_thin_columns(harvest: Harvest) -> bool:
    columns = len(harvest.schema)
    return columns >= WIDE_COLUMNS and harvest.table_bytes < COLUMN_BYTES * columns * len(harvest.fragments)


def _budget(harvest: Harvest) -> int:
    return _LEAST_BUDGET + harvest.table_bytes // _BUDGET_SHARE


def _children(pairs: Sequence[Pair], harvests: Mapping[int, Harvest], belief: Belief) -> list[PagedTable]:
    """The children whose pages may have witnesses that their files have not."""
    tables = (_paged(table, harvests[table], belief) for table in sorted({pair.child for pair in pairs}))
    return [table for table in tables if any(file.stamp.size >= PAGED_BYTES for file in table.files)]


def _paged(table: int, harvest: Harvest, belief: Belief) -> PagedTable:
    return paged_table(table, harvest, budget=_budget(harvest), utc=belief.utc)


def _cost(harvests: Mapping[int, Harvest], work: ParentWork) -> int:
    files = len(work.parent.files)
    return _budget(harvests[work.parent.table]) + files * _OPENING_BYTES


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
        frame = spark.createDataFrame(work).repartition(len(bins)).mapInArrow(_witnesser(belief), spark_ddl(WITNESSES))
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
    return grouped.cogroup(asked).applyInArrow(answer_item, spark_ddl(ANSWERS)).toArrow()


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
        raise EngineError("the engine lost work items of min-max; nothing was refuted")
    return PageVerdicts(refuted=refuted, bytes_read=of_parents + sum(of_children.values()))
