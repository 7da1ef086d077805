"""The engine's part of bag sums: one job that adds up the rows of tables, or of many frames of few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2d2.errors import EngineError, TableFault
from r2d2.model import spark_ddl
from r2d2.scan.bag_sums import SUMS, BagSum, summed
from r2d2.scan.job import AfterScan, FrameOf, Kernels, faults_of, gathered, over_fingerprints
from r2d2.scan.pieces import PIECES, column_places, packer, summer
from r2d2.scan.plan import Buckets, TableScan
from r2d2.scan.reports import REPORT
from r2d2.session import engine_errors, union_all
from r2d2.workers import map_batches

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_ONE_BUCKET = Buckets(first=0, count=1)


@dataclass(frozen=True, kw_only=True)
class Summed:
    """Outcome of a job: the sums of the tables that were read whole, the faults of the others.

    Attributes:
        of: Sums by table, under its one column set.
        faults: By table.
        bytes_read: Compressed bytes of the column chunks asked for, plus footers.
    """

    of: Mapping[int, BagSum]
    faults: Mapping[int, TableFault]
    bytes_read: int


def sum_tables(spark: SparkSession, scans: Sequence[TableScan], kernels: Kernels, engine_frame_of: FrameOf) -> Summed:
    """The bag sums of all rows of some tables, in one job without a shuffle.

    Args:
        spark: Session of the audit.
        scans: Each with one column set and no threshold.
        kernels: How to hash and within what limits.
        engine_frame_of: See `scan.job.compare_tables`.

    Raises:
        EngineError: If the engine has lost rows on the way.
    """
    buckets = dict.fromkeys((scan.table for scan in scans), _ONE_BUCKET)
    after = AfterScan(kernel=summed, schema=SUMS)
    rows, found = over_fingerprints(spark, scans, buckets, kernels, engine_frame_of, gathered(SUMS), after)
    told = rows.to_pylist()
    reports = [row for row in told if row["column_set"] == REPORT]
    faults, rows_of = faults_of(reports, scans, found)
    sums = {scan.table: BagSum() for scan in scans if scan.table not in faults}
    for row in told:
        if row["column_set"] != REPORT and row["table"] in sums:
            sums[row["table"]] += BagSum.of_row(row)
    if any(own.rows != rows_of[table] for table, own in sums.items()):
        raise EngineError("the engine lost rows between the scan and their sums; nothing was asserted")
    engine_bytes = sum(scan.harvest.table_bytes for scan in scans if scan.harvest.reader == "engine")
    return Summed(
        of=sums,
        faults=faults,
        bytes_read=engine_bytes + sum(row["bytes_read"] for row in reports),
    )


@dataclass(frozen=True, kw_only=True)
class SmallFrame:
    """Few rows of some tables of one schema.

    Attributes:
        frame: Columns c0, c1, …, and behind them TABLE if there are several tables.
        tables: Their numbers, different from those of other frames.
        schema: Of the tables; see `are_plain`.
    """

    frame: DataFrame
    tables: Sequence[int]
    schema: pa.Schema


def sum_small_frames(frames: Sequence[SmallFrame], kernels: Kernels) -> dict[int, BagSum]:
    """The bag sums of all rows of some frames, by table.

    Args:
        frames: At least one.
        kernels: How to hash and within what limits.

    Raises:
        EngineError: If any of the frames does not run.
    """
    places = {table: column_places(one.schema) for one in frames for table in one.tables}
    pieces = [one.frame.mapInArrow(packer(one.tables), spark_ddl(PIECES)) for one in frames]
    kernel = summer(places, kernels.hasher, kernels.limits)
    with engine_errors():
        rows = map_batches(union_all(pieces).repartition(kernels.parallelism), kernel, SUMS).toArrow()
    sums = dict.fromkeys(places, BagSum())
    for row in rows.to_pylist():
        sums[row["table"]] += BagSum.of_row(row)
    return sums
