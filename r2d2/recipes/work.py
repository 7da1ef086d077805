"""The job of a search: work items go to kernels, and with them the rows of the tables that only the engine reads.

However many tables there are, it is one job for the items whose tables the kernel reads itself, and one for the others.
In the second each table is read once; its rows travel as compressed Arrow batches to the items that are about it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from r2d2.errors import EngineError, TableFailed, TableFault
from r2d2.model import Harvest, leaf_key, leaf_path, spark_ddl
from r2d2.recipes.columns import PredicateColumn
from r2d2.recipes.keys import KeyList
from r2d2.recipes.rows import Load, create_rows, insert_rows, load_rows
from r2d2.recipes.search import Answer
from r2d2.scan.bag_sums import BAG_FIELDS, BagSum
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.pieces import packed_rows
from r2d2.scan.plan import Buckets, TableScan, deal, items_of
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.source import arrow_source
from r2d2.session import engine_errors, union_all
from r2d2.workers import map_batches, map_cogroups

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from r2d2.lake.run import StageRun

log = logging.getLogger(__name__)

ANSWERS = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("kind", pa.string()),
        ("condition", pa.string()),
        ("keys", pa.string()),  # the listed leaves, as a JSON list of their keys
        ("content", pa.binary()),
        ("reason", pa.string()),
        *BAG_FIELDS,  # of the child's rows; _NO_ROWS where they were not read
    ]
)
"""No NULLs, which not every engine hands over from a kernel alike."""

_PIECES = pa.schema([("item", pa.int32()), ("table", pa.int32()), ("rows", pa.binary())])
"""Rows of tables that the engine reads: a batch in Arrow's stream format for each item that is about its table."""
_ITEMS = pa.schema([("item", pa.int32()), ("work", pa.string())])

_NO_ROWS = -1

KERNEL_ITEMS = 64
"""Work items of one kernel call."""

Kernel = Callable[[Sequence[str], Load], Iterable[Answer]]
"""Answers work items in text form."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A work item.

    Attributes:
        text: What the kernel is given.
        cost: About how long it takes, in bytes.
        by_engine: Tables whose rows the engine reads.
    """

    text: str
    cost: int
    by_engine: tuple[int, ...] = ()


def scan_items(table: int, harvest: Harvest, sets: tuple[ColumnSet, ...]) -> tuple[ScanItem, ...]:
    """What a kernel loads of a table: its files, or, without files, the rows that come with the work item."""
    if harvest.reader == "files":
        return tuple(items_of(TableScan(table=table, harvest=harvest, column_sets=sets), Buckets(first=0, count=1)))
    no_columns = pa.schema([])
    return (ScanItem(table=table, files=(), partition_schema=no_columns, column_sets=sets, schema=harvest.schema),)


def run_work(run: StageRun, work: Sequence[Work], kernel: Kernel) -> list[Answer]:
    """The answers to all work items."""
    by_files = [one for one in work if not one.by_engine]
    by_engine = [one for one in work if one.by_engine]
    answers = [*_by_files(run, by_files, kernel), *_by_engine(run, by_engine, kernel)]
    return sorted(answers, key=lambda answer: (answer.child, answer.parent))


def _by_files(run: StageRun, work: Sequence[Work], kernel: Kernel) -> list[Answer]:
    if not work:
        return []
    dealt = deal([one.cost for one in work], run.kernels.tasks)
    bins = [[work[place].text for place in places] for places in dealt]
    items = run.engine.spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
    with engine_errors():
        rows = map_batches(items.repartition(len(bins)), _over_files(kernel), ANSWERS).toArrow()
    return list(map(_answer, rows.to_pylist()))


def _over_files(kernel: Kernel) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def searched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = [text for texts in batch.column(0).to_pylist() for text in texts]
            for start in range(0, len(texts), KERNEL_ITEMS):
                for answer in kernel(texts[start : start + KERNEL_ITEMS], load_rows):
                    yield pa.RecordBatch.from_pylist([_row(answer)], schema=ANSWERS)

    return searched


def _by_engine(run: StageRun, work: Sequence[Work], kernel: Kernel) -> list[Answer]:
    """Answers about tables that the engine reads; where it cannot, the kernel says of each item that it has no rows."""
    if not work:
        return []
    pieces = _pieces(run, work)
    try:
        with engine_errors():
            rows = _cogrouped(run.engine.spark, pieces, work, kernel).toArrow() if pieces else ANSWERS.empty_table()
    except EngineError as exc:
        log.warning("the tables that only the engine reads were not searched: %s", exc)
        rows = ANSWERS.empty_table()
    answers = list(map(_answer, rows.to_pylist()))
    if answers:
        return answers
    return list(kernel([one.text for one in work], load_pieces({})))


def _pieces(run: StageRun, work: Sequence[Work]) -> list[DataFrame]:
    from pyspark.errors import PySparkException

    frame_of = run.engine_frames(run.engine.spark)
    items_of_table: dict[int, list[int]] = {}
    for number, one in enumerate(work):
        for table in one.by_engine:
            items_of_table.setdefault(table, []).append(number)
    frames = []
    for table, items in sorted(items_of_table.items()):
        try:
            frames.append(frame_of(table).mapInArrow(_packer(table, items), spark_ddl(_PIECES)))
        except (TableFault, PySparkException) as exc:
            log.info("a table's rows are not searched: %s", type(exc).__name__)
    return frames


def _packer(table: int, items: Sequence[int]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = packed_rows(batch)
            for item in items:
                yield pa.RecordBatch.from_pylist([{"item": item, "table": table, "rows": rows}], schema=_PIECES)

    return packed


def _cogrouped(spark: SparkSession, pieces: Sequence[DataFrame], work: Sequence[Work], kernel: Kernel) -> DataFrame:
    def searched(pieces: pa.Table, items: pa.Table) -> pa.Table:
        by_table: dict[int, list[bytes]] = {}
        for table, rows in zip(pieces["table"].to_pylist(), pieces["rows"].to_pylist(), strict=True):
            by_table.setdefault(table, []).append(rows)
        load = load_pieces(by_table)
        rows = list(map(_row, kernel(items["work"].to_pylist(), load)))
        return pa.Table.from_pylist(rows, schema=ANSWERS)

    listed = [{"item": number, "work": one.text} for number, one in enumerate(work)]
    items = spark.createDataFrame(pa.Table.from_pylist(listed, schema=_ITEMS))
    grouped = union_all(list(pieces)).groupBy("item").cogroup(items.groupBy("item"))
    return map_cogroups(grouped, searched, ANSWERS)


def load_pieces(by_table: Mapping[int, Sequence[bytes]]) -> Load:
    """Loads tables of files as `load_rows` does, and the others from their pieces."""

    def load(
        connection: duckdb.DuckDBPyConnection,
        name: str,
        items: Sequence[ScanItem],
        hasher: RowHasher,
        columns: Sequence[PredicateColumn],
    ) -> int:
        if any(item.files for item in items):
            return load_rows(connection, name, items, hasher, columns)
        create_rows(connection, name, items, columns)
        return sum(
            _load_pieces(connection, name, by_table.get(item.table, ()), item, hasher, columns) for item in items
        )

    return load


def _load_pieces(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    pieces: Sequence[bytes],
    item: ScanItem,
    hasher: RowHasher,
    columns: Sequence[PredicateColumn],
) -> int:
    if not pieces or item.schema is None:
        raise TableFailed("the engine's reader handed over no rows", error="EngineReader")
    schema = pa.ipc.open_stream(pieces[0]).schema
    batches = (batch.cast(schema) for piece in pieces for batch in pa.ipc.open_stream(piece))
    connection.register("engine_rows", pa.RecordBatchReader.from_batches(schema, batches))
    source = arrow_source(connection, "engine_rows", schema, item.schema.names)
    added = insert_rows(connection, name, source, item, hasher, columns)
    connection.unregister("engine_rows")
    return added


def _row(answer: Answer) -> dict[str, object]:
    keys = answer.keys
    return {
        "child": answer.child,
        "parent": answer.parent,
        "kind": answer.kind,
        "condition": answer.where,
        "keys": json.dumps([leaf_key(path) for path in keys.paths] if keys else []),
        "content": keys.content if keys else b"",
        "reason": answer.reason,
        **(answer.bag or BagSum(rows=_NO_ROWS)).to_row(),
    }


def _answer(row: Mapping[str, object]) -> Answer:
    paths = tuple(leaf_path(key) for key in json.loads(str(row["keys"])))
    content = row["content"]
    return Answer(
        child=int(str(row["child"])),
        parent=int(str(row["parent"])),
        kind=str(row["kind"]),
        where=str(row["condition"]),
        keys=KeyList(paths=paths, content=content) if paths and isinstance(content, bytes) else None,
        reason=str(row["reason"]),
        bag=None if row["rows"] == _NO_ROWS else BagSum.of_row(row),
    )
