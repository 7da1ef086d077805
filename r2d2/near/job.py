"""The engine's part of the search for near-duplicates: one job that samples tables and compares the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.errors import PySparkException

from r2d2.errors import TableFault, TableUnsupported
from r2d2.model import LeafPath
from r2d2.near.answers import ANSWERS, answer_bucket
from r2d2.near.scan import SKETCHES, sketch_batches, sketch_works
from r2d2.near.work import Sketching, Work
from r2d2.scan.items import ColumnSet
from r2d2.scan.job import FrameOf, Kernels, faults_of
from r2d2.scan.plan import Buckets, TableScan, deal, items_of
from r2d2.scan.reports import REPORT
from r2d2.session import engine_errors, pyspark_errors, union_all
from r2d2.workers import map_batches, map_groups

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from r2d2.model import Harvest

Scanner = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_OPENING_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Outcome of the job.

    Attributes:
        answers: Rows of ANSWERS about tables that were read whole, reports left out.
        faults: By table.
        bytes_read: Compressed bytes of the column chunks asked for, plus footers.
    """

    answers: Sequence[Mapping[str, Any]]
    faults: Mapping[int, TableFault]
    bytes_read: int


def sample_tables(
    spark: SparkSession,
    harvests: Mapping[int, Harvest],
    sketchings: Mapping[int, tuple[Sketching, ...]],
    threshold: float,
    kernels: Kernels,
    engine_frame_of: FrameOf,
) -> Sampled:
    """Sample tables and tell which samples overlap.

    Args:
        spark: Session of the audit.
        harvests: Their metadata.
        sketchings: What to sample of each.
        threshold: Least estimated containment.
        kernels: How to hash and within what limits.
        engine_frame_of: The engine's rows of a table whose harvest asks for the engine's reader; may raise TableFault.
    """
    scans = {table: _scan(table, harvests[table], own) for table, own in sorted(sketchings.items())}
    faults: dict[int, TableFault] = {}
    works = [
        Work(item=item, sketchings=sketchings[table])
        for table, scan in scans.items()
        if scan.harvest.reader == "files"
        for item in items_of(scan, Buckets(first=0, count=1))
    ]
    files = [_file_frame(spark, works, kernels)] if works else []
    of_engine = _engine_frames(scans, sketchings, kernels, engine_frame_of, faults)
    with engine_errors():
        try:
            with pyspark_errors():
                rows = _answers([*files, *of_engine.values()], threshold)
        except PySparkException:
            if not of_engine:
                raise
            faults |= _unreadable(of_engine)
            readable = [frame for table, frame in of_engine.items() if table not in faults]
            rows = _answers([*files, *readable], threshold)
    reports = [{**row, "table": row["child"]} for row in rows if row["bucket"] == REPORT]
    found, _ = faults_of(reports, list(scans.values()), faults)
    engine_bytes = sum(scan.harvest.table_bytes for scan in scans.values() if scan.harvest.reader == "engine")
    return Sampled(
        answers=[row for row in rows if row["bucket"] != REPORT and not found.keys() & {row["child"], row["parent"]}],
        faults=found,
        bytes_read=sum(row["bytes_read"] for row in reports) + engine_bytes,
    )


def _scan(table: int, harvest: Harvest, sketchings: Sequence[Sketching]) -> TableScan:
    paths: dict[LeafPath, None] = {path: None for one in sketchings for path in one.terms.paths}
    return TableScan(table=table, harvest=harvest, column_sets=(ColumnSet(id=0, paths=tuple(paths)),))


def _file_frame(spark: SparkSession, works: Sequence[Work], kernels: Kernels) -> DataFrame:
    costs = [sum(file.stamp.size + _OPENING_BYTES for file in work.item.files) for work in works]
    bins = [[works[place].to_json() for place in places] for places in deal(costs, kernels.tasks)]
    frame = spark.createDataFrame(pa.table({"works": pa.array(bins, pa.list_(pa.string()))}))
    return map_batches(frame.repartition(len(bins)), _sketcher(kernels), SKETCHES)


def _sketcher(kernels: Kernels) -> Scanner:
    hasher, limits = kernels.hasher, kernels.limits

    def sketch(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = [text for texts in batch.column(0).to_pylist() for text in texts]
            yield from sketch_works(map(Work.from_json, texts), hasher, limits)

    return sketch


def _engine_frames(
    scans: Mapping[int, TableScan],
    sketchings: Mapping[int, tuple[Sketching, ...]],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    faults: dict[int, TableFault],
) -> dict[int, DataFrame]:
    """Samples of the tables that the engine reads; what it refuses at once is added to `faults`."""
    frames: dict[int, DataFrame] = {}
    for table, scan in scans.items():
        if scan.harvest.reader != "engine":
            continue
        try:
            frame = engine_frame_of(table)
        except TableFault as fault:
            faults[table] = fault
        except PySparkException as exc:
            faults[table] = _refused(exc)
        else:
            kernel = _batch_sketcher(scan, sketchings[table], kernels)
            frames[table] = map_batches(frame, kernel, SKETCHES)
    return frames


def _batch_sketcher(scan: TableScan, sketchings: tuple[Sketching, ...], kernels: Kernels) -> Scanner:
    (item, *_) = items_of(scan, Buckets(first=0, count=1))
    text = Work(item=item, sketchings=sketchings).to_json()
    names, hasher, limits = scan.harvest.schema.names, kernels.hasher, kernels.limits

    def sketch(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from sketch_batches(batches, Work.from_json(text), names, hasher, limits)

    return sketch


def _unreadable(frames: Mapping[int, DataFrame]) -> dict[int, TableFault]:
    """After the job has failed: which of the tables that the engine reads it cannot read, each tried alone."""
    faults: dict[int, TableFault] = {}
    for table, frame in frames.items():
        try:
            with pyspark_errors():
                frame.groupBy("table").count().toArrow()
        except PySparkException as exc:
            faults[table] = _refused(exc)
    return faults


def _refused(exc: PySparkException) -> TableFault:
    """The engine's own words may quote values."""
    return TableUnsupported(f"the engine's reader could not read it ({type(exc).__name__})", error="EngineReader")


def _answers(frames: Sequence[DataFrame], threshold: float) -> list[dict[str, Any]]:
    if not frames:
        return []

    def answer(sketches: pa.Table) -> pa.Table:
        return answer_bucket(sketches.cast(SKETCHES), threshold)

    rows: pa.Table = map_groups(union_all(list(frames)).groupBy("bucket"), answer, ANSWERS).toArrow()
    return list(rows.to_pylist())
