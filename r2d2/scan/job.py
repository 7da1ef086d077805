"""The engine's part of a comparison: one job that scans tables and compares their rows bucket by bucket."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.errors import AnalysisException, PySparkException

from r2d2.errors import EngineError, TableFailed, TableFault, TableUnsupported
from r2d2.model import Harvest, LeafOfFile, leaf_path, spark_ddl
from r2d2.scan.compare import VERDICTS, Verdict, compare_bucket
from r2d2.scan.duck import KernelLimits
from r2d2.scan.evidence import of_table
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import EVERYTHING, ScanItem
from r2d2.scan.plan import Buckets, Pair, TableScan, assign_buckets, balanced, items_of, leaves_of, pair_rows
from r2d2.scan.reports import FINGERPRINTS, HIDDEN_NAN, LIE, REPORT
from r2d2.scan.rowhash import RowHasher
from r2d2.session import engine_errors, pyspark_errors, union_all

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FrameOf = Callable[[int], "DataFrame"]


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What every kernel of an audit is given.

    Attributes:
        hasher: Row identity.
        limits: Of one kernel call.
        parallelism: Kernels that run at once.
    """

    hasher: RowHasher
    limits: KernelLimits
    parallelism: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Outcome of a job: verdicts of the pairs whose tables were read whole, faults of the others.

    Attributes:
        verdicts: By pair.
        faults: By table.
        rows_of: Rows seen, by table.
        bytes_read: Compressed bytes of the column chunks asked for, plus footers.
        lies: Where a scan contradicts what metadata had proved: table, position of the fragment, leaf.
        hidden_nans: The same for floats in which some engines lose NaN: see `observe.hides_nan`.
    """

    verdicts: Mapping[Pair, Verdict]
    rows_of: Mapping[int, int] = field(default_factory=dict)
    faults: Mapping[int, TableFault] = field(default_factory=dict)
    bytes_read: int = 0
    lies: Sequence[LeafOfFile] = ()
    hidden_nans: Sequence[LeafOfFile] = ()


def compare_tables(
    spark: SparkSession,
    scans: Sequence[TableScan],
    pairs: Sequence[Pair],
    kernels: Kernels,
    engine_frame_of: FrameOf,
) -> Comparison:
    """Fingerprint tables and answer pairs.

    Args:
        spark: Session of the audit.
        scans: Every table of the pairs, once.
        pairs: Questions; each table's scan has the column sets they need.
        kernels: How to hash and within what limits.
        engine_frame_of: The engine's rows of a table whose harvest asks for the engine's reader; may raise TableFault.
    """
    if not pairs:
        return Comparison(verdicts={})
    buckets = assign_buckets(pairs, {scan.table: scan.expected_rows for scan in scans}, parallelism=kernels.parallelism)
    questions = pair_rows(pairs, buckets, {scan.table: scan.threshold for scan in scans})
    rows, faults = run_in_buckets(
        spark, scans, buckets, kernels, engine_frame_of, questions=questions, answer=compare_bucket, schema=VERDICTS
    )
    return _outcome(rows, scans, pairs, buckets, faults)


def run_in_buckets(
    spark: SparkSession,
    scans: Sequence[TableScan],
    buckets: Mapping[int, Buckets],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    *,
    questions: pa.Table,
    answer: Callable[[pa.Table, pa.Table], pa.Table],
    schema: pa.Schema,
) -> tuple[pa.Table, dict[int, TableFault]]:
    """Fingerprint tables and answer questions about them, bucket by bucket, in one job.

    Args:
        spark: Session of the audit.
        scans: Every table that is asked about, once.
        buckets: Where each table's fingerprints go.
        kernels: How to hash and within what limits.
        engine_frame_of: See `compare_tables`.
        questions: Rows with a `bucket`, besides whatever `answer` understands.
        answer: Kernel; is given the fingerprints and the questions of one bucket.
        schema: Of what it returns.

    Returns:
        The answers, and the faults of tables that the engine's reader refused.
    """
    faults: dict[int, TableFault] = {}
    frames = _engine_frames(scans, buckets, kernels, engine_frame_of, faults)
    items = [item for scan in scans for item in _file_items(scan, buckets[scan.table])]
    files = [_file_frame(spark, items, kernels)] if items else []
    with engine_errors():
        try:
            with pyspark_errors():
                rows = _run(spark, [*files, *frames.values()], questions, answer, schema)
        except PySparkException:
            if not frames:
                raise
            faults |= _unreadable_frames(frames, {scan.table: scan.harvest for scan in scans})
            readable = [frame for table, frame in frames.items() if table not in faults]
            rows = _run(spark, [*files, *readable], questions, answer, schema)
    return rows, faults


def _file_items(scan: TableScan, buckets: Buckets) -> list[ScanItem]:
    """Work on the files of a table: the kernel reads them, or only checks them where the engine reads."""
    items = items_of(scan, buckets)
    if scan.harvest.reader == "files":
        return items
    return [replace(item, column_sets=()) for item in items if all(file.data_uri for file in item.files)]


def _engine_frames(
    scans: Sequence[TableScan],
    buckets: Mapping[int, Buckets],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    faults: dict[int, TableFault],
) -> dict[int, DataFrame]:
    """Fingerprints of the tables that the engine reads; what it refuses at once is added to `faults`."""
    frames: dict[int, DataFrame] = {}
    for scan in scans:
        if scan.harvest.reader == "engine":
            try:
                frames[scan.table] = _scanned(engine_frame_of(scan.table), scan, buckets[scan.table], kernels)
            except TableFault as fault:
                faults[scan.table] = fault
            except PySparkException as exc:
                faults[scan.table] = _engine_fault(exc, scan.harvest)
    return frames


def _unreadable_frames(frames: Mapping[int, DataFrame], harvests: Mapping[int, Harvest]) -> dict[int, TableFault]:
    """After a job has failed: which of the tables that the engine reads it cannot read, each tried alone."""
    faults: dict[int, TableFault] = {}
    for table, frame in frames.items():
        try:
            with pyspark_errors():
                frame.groupBy("table").count().toArrow()
        except PySparkException as exc:
            faults[table] = _engine_fault(exc, harvests[table])
    return faults


def _engine_fault(exc: PySparkException, harvest: Harvest) -> TableFault:
    """What the engine refuses to open, or is made to read, is unsupported there; its own words may quote values."""
    is_forced = harvest.reader_reason is None
    kind = TableUnsupported if is_forced or isinstance(exc, AnalysisException) else TableFailed
    return kind(f"the engine's reader could not read it ({type(exc).__name__})", error="EngineReader")


def _file_frame(spark: SparkSession, items: Sequence[ScanItem], kernels: Kernels) -> DataFrame:
    bins = balanced(items, 4 * kernels.parallelism)
    work = spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
    return work.repartition(len(bins)).mapInArrow(_item_scanner(kernels), spark_ddl(FINGERPRINTS))


def _item_scanner(kernels: Kernels) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    hasher, limits = kernels.hasher, kernels.limits

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = [text for texts in batch.column(0).to_pylist() for text in texts]
            yield from scan_items(map(ScanItem.from_json, texts), hasher, limits)

    return scan


def _scanned(frame: DataFrame, scan: TableScan, buckets: Buckets, kernels: Kernels) -> DataFrame:
    from r2d2.scan.engine_reader import batch_scanner

    item = ScanItem(
        table=scan.table,
        files=(),
        partition_schema=pa.schema([]),
        column_sets=scan.column_sets,
        threshold=scan.threshold,
        leaves=leaves_of(scan),
        evidence=base64.b64encode(of_table(scan.evidence)).decode() if scan.evidence else "",
        first_bucket=buckets.first,
        buckets=buckets.count,
    )
    kernel = batch_scanner(item.to_json(), scan.harvest.schema.names, kernels.hasher, kernels.limits)
    return frame.mapInArrow(kernel, spark_ddl(FINGERPRINTS))


def _run(
    spark: SparkSession,
    frames: Sequence[DataFrame],
    questions: pa.Table,
    answer: Callable[[pa.Table, pa.Table], pa.Table],
    schema: pa.Schema,
) -> pa.Table:
    """Answers and reports, in one job; where no table that can be read has a file, no row is anywhere."""
    if not frames:
        return answer(FINGERPRINTS.empty_table(), questions)
    fingerprints = union_all(frames)
    asked, types = spark.createDataFrame(questions), questions.schema

    def answer_bucket(rows: pa.Table, asked: pa.Table) -> pa.Table:
        return answer(rows.cast(FINGERPRINTS), asked.cast(types))

    grouped = fingerprints.groupBy("bucket").cogroup(asked.groupBy("bucket"))
    return grouped.applyInArrow(answer_bucket, spark_ddl(schema)).toArrow()


def _outcome(
    rows: pa.Table,
    scans: Sequence[TableScan],
    pairs: Sequence[Pair],
    buckets: Mapping[int, Buckets],
    found_faults: Mapping[int, TableFault],
) -> Comparison:
    answers: dict[Pair, list[dict[str, Any]]] = {pair: [] for pair in pairs}
    reports: list[dict[str, Any]] = []
    told: dict[str, list[LeafOfFile]] = {LIE: [], HIDDEN_NAN: []}
    for row in rows.to_pylist():
        if row["status"] in told:
            place = json.loads(row["message"])
            told[row["status"]].append((row["table"], place["fragment"], leaf_path(place["leaf"])))
        elif row["child"] == REPORT:
            reports.append(row)
        else:
            answers[Pair.of(row)].append(row)
    faults, rows_of = faults_of(reports, scans, found_faults)
    judged = {pair: own for pair, own in answers.items() if pair.child not in faults and pair.parent not in faults}
    whole = {scan.table for scan in scans if scan.threshold == EVERYTHING}
    for pair, own in judged.items():
        check_complete(pair, own, buckets[pair.child].count, {t: n for t, n in rows_of.items() if t in whole})
    return Comparison(
        verdicts={
            pair: Verdict(**{name: sum(row[name] for row in own) for name in ("distinct", "missing", "excess")})
            for pair, own in judged.items()
        },
        rows_of=rows_of,
        faults=faults,
        lies=sorted(told[LIE]),
        hidden_nans=sorted(told[HIDDEN_NAN]),
        bytes_read=sum(row["bytes_read"] for row in reports)
        + sum(scan.harvest.table_bytes for scan in scans if scan.harvest.reader == "engine"),
    )


def faults_of(
    reports: Sequence[Mapping[str, Any]], scans: Sequence[TableScan], found_faults: Mapping[int, TableFault]
) -> tuple[dict[int, TableFault], dict[int, int]]:
    """The tables that could not be read whole, with the reason, and the rows seen of each table."""
    faults = {**{row["table"]: _fault(row) for row in reversed(reports) if row["error"]}, **found_faults}
    rows_of = {scan.table: 0 for scan in scans}
    for row in reports:
        rows_of[row["table"]] += row["rows_read"]
    for scan in scans:
        if scan.table not in faults and scan.harvest.rows not in (None, rows_of[scan.table]):
            message = "a reader returned another number of rows than the metadata says"
            faults[scan.table] = TableFailed(message, error="RowCount")
    return faults, rows_of


def check_complete(pair: Pair, answers: Sequence[Mapping[str, Any]], asked: int, rows_of: Mapping[int, int]) -> None:
    """No verdict stands on less than all rows: every bucket must have answered, over all rows of tables read whole.

    Raises:
        EngineError: If the engine has lost rows or answers on the way between the kernels.
    """
    children, parents = (sum(row[name] for row in answers) for name in ("child_rows", "parent_rows"))
    is_whole = pair.child in rows_of and pair.parent in rows_of
    if len(answers) != asked or (is_whole and (children, parents) != (rows_of[pair.child], rows_of[pair.parent])):
        raise EngineError("the engine lost rows between the scan and the comparison; nothing was asserted")


def _fault(row: Mapping[str, Any]) -> TableFault:
    kind = TableUnsupported if row["status"] == TableUnsupported.status else TableFailed
    return kind(row["message"], error=row["error"])
