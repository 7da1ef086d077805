"""The engine's part of a comparison: jobs that scan tables, in one pass or two, and compare their rows by buckets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import AnalysisException, PySparkException

from r2d2.errors import EngineError, TableFailed, TableFault, TableUnsupported
from r2d2.model import Harvest, LeafOfFile, leaf_path
from r2d2.scan.bucket import answer_bucket
from r2d2.scan.compare import QUESTIONS, VERDICTS, Verdict
from r2d2.scan.covers import Answers, answers_of
from r2d2.scan.duck import KernelLimits
from r2d2.scan.evidence import of_table
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import EVERYTHING, ScanItem
from r2d2.scan.members import Question
from r2d2.scan.passes import Passes, passes_of
from r2d2.scan.plan import (
    Buckets,
    Pair,
    TableScan,
    assign_buckets,
    balanced,
    items_of,
    leaves_of,
    pairs_of,
    question_rows,
)
from r2d2.scan.reports import FINGERPRINTS, HIDDEN_NAN, LIE, REPORT
from r2d2.scan.rowhash import RowHasher
from r2d2.scan.spill import Kernel, Spill, answer_from_files, spill_folder, spilled_filters, with_filters, writer
from r2d2.session import engine_errors, own_words, pyspark_errors, union_all
from r2d2.workers import map_batches, map_cogroups

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
        tasks: Into which the work of a job is dealt.
        spill: Where and when fingerprints go into files in place of the engine's shuffle.
        queries: Whose rows kernels of one job take at most.
    """

    hasher: RowHasher
    limits: KernelLimits
    parallelism: int
    tasks: int
    spill: Spill
    queries: int = 200


@dataclass(frozen=True, kw_only=True)
class AfterScan:
    """What a task does with the fingerprints that it makes: a kernel that takes FINGERPRINTS, and its output."""

    kernel: Kernel
    schema: pa.Schema


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
        answers: To the questions about several parents; none where one of their tables has a fault.
    """

    verdicts: Mapping[Pair, Verdict]
    rows_of: Mapping[int, int] = field(default_factory=dict)
    faults: Mapping[int, TableFault] = field(default_factory=dict)
    bytes_read: int = 0
    lies: Sequence[LeafOfFile] = ()
    hidden_nans: Sequence[LeafOfFile] = ()
    answers: Answers = field(default_factory=Answers)


def compare_tables(
    spark: SparkSession,
    scans: Sequence[TableScan],
    pairs: Sequence[Pair],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    questions: Sequence[Question] = (),
) -> Comparison:
    """Fingerprint tables, answer pairs, and say which parents hold the rows of some children.

    Args:
        spark: Session of the audit.
        scans: Every table of the pairs and questions, once, with the column sets they need.
        pairs: What is compared.
        kernels: How to hash and within what limits.
        engine_frame_of: The engine's rows of a table whose harvest asks for the engine's reader; may raise TableFault.
        questions: About several parents; at most one per child.
    """
    if not pairs and not questions:
        return Comparison(verdicts={})
    passes = passes_of(scans, pairs, questions, kernels.tasks)
    buckets = assign_buckets([*pairs, *pairs_of(questions)], passes.rows_of, parallelism=kernels.parallelism)
    thresholds = {scan.table: scan.threshold for scan in scans}
    asked = question_rows(pairs, questions, buckets, thresholds)
    rows, faults = _answered(spark, passes, buckets, kernels, engine_frame_of, asked)
    found = _outcome(rows, scans, pairs, questions, buckets, faults)
    by_engine = (scan.harvest for scan in (*passes.first, *passes.second) if scan.harvest.reader == "engine")
    return replace(found, bytes_read=found.bytes_read + sum(harvest.table_bytes for harvest in by_engine))


def _answered(
    spark: SparkSession,
    passes: Passes,
    buckets: Mapping[int, Buckets],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    questions: pa.Table,
) -> tuple[pa.Table, dict[int, TableFault]]:
    """Fingerprint tables and answer questions about them, bucket by bucket: in one job, or several with files between.

    Returns:
        Rows of VERDICTS, and the faults of tables that the engine's reader refused, or that it has read twice with
        different results.
    """
    spill = kernels.spill
    if not passes.second and (spill.least_rows is None or passes.rows < spill.least_rows):

        def meet(frames: Sequence[DataFrame]) -> pa.Table:
            if not frames:  # no table that can be read has a file
                times = np.repeat(np.arange(questions.num_rows), questions["buckets"])
                return answer_bucket(FINGERPRINTS.empty_table(), questions.take(pa.array(times)))
            return _shuffled(spark, frames, questions)

        return over_fingerprints(spark, passes.first, buckets, kernels, engine_frame_of, meet)

    def spilled(scans: Sequence[TableScan], write: Kernel) -> tuple[pa.Table, dict[int, TableFault]]:
        after = AfterScan(kernel=write, schema=FINGERPRINTS)
        return over_fingerprints(spark, scans, buckets, kernels, engine_frame_of, gathered(FINGERPRINTS), after)

    with spill_folder(spill) as folder:
        told, faults = spilled(passes.first, writer(folder, spill.run_bytes, passes.places, passes.children))
        if passes.second:
            filters = spilled_filters(told, passes.places, _rows_noted(told, passes, faults), f"{folder}/filters")
            later = [replace(scan, filters=filters) for scan in passes.second]
            rest, refused = spilled(later, writer(folder, spill.run_bytes))
            rest, miscounted = _told_again(rest, passes)
            told, faults = pa.concat_tables([told, rest]), {**miscounted, **refused, **faults}
        with engine_errors():
            rows = answer_from_files(spark, told, kernels.tasks, folder, questions, answer_bucket, VERDICTS)
    return rows, faults


def _ends(told: pa.Table) -> list[dict[str, Any]]:
    """The reports that end an item."""
    reports = told.filter(pc.equal(told["column_set"], REPORT)).to_pylist()
    return [row for row in reports if row["status"] not in (LIE, HIDDEN_NAN)]


def _rows_noted(told: pa.Table, passes: Passes, refused: Mapping[int, TableFault]) -> dict[int, int]:
    """The rows that filters must have, by column set: of all children but those with a fault, which get no verdict."""
    faults, rows_of = faults_of(_ends(told), passes.first, refused)
    noted = dict.fromkeys(passes.places, 0)
    for table, column_set in passes.children:
        noted[column_set] += 0 if table in faults else rows_of[table]
    return noted


def _told_again(told: pa.Table, passes: Passes) -> tuple[pa.Table, dict[int, TableFault]]:
    """What a second pass has told, where the rows of a table that the first has counted too are not counted again.

    Returns:
        Rows of FINGERPRINTS, and the faults of tables of which another number of rows was read.
    """
    told = told.cast(FINGERPRINTS)
    faults, _ = faults_of(_ends(told), passes.second, {})
    is_report = pc.equal(told["column_set"], REPORT)
    is_again = pc.and_(is_report, pc.is_in(told["table"], pa.array(sorted(passes.read_twice), pa.int32())))
    rows_read = pc.if_else(is_again, 0, told["rows_read"])
    return told.set_column(told.schema.get_field_index("rows_read"), "rows_read", rows_read).cast(FINGERPRINTS), faults


def gathered(schema: pa.Schema) -> Callable[[Sequence[DataFrame]], pa.Table]:
    """Collects the rows of frames of a schema as they are."""

    def gather(frames: Sequence[DataFrame]) -> pa.Table:
        return union_all(frames).toArrow() if frames else schema.empty_table()

    return gather


def over_fingerprints(
    spark: SparkSession,
    scans: Sequence[TableScan],
    buckets: Mapping[int, Buckets],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    collect: Callable[[Sequence[DataFrame]], pa.Table],
    after: AfterScan | None = None,
) -> tuple[pa.Table, dict[int, TableFault]]:
    """Fingerprint tables and run a job over the frames of their fingerprints, without those the engine cannot read.

    Args:
        spark: Session of the audit.
        scans: Each table once.
        buckets: Where each table's fingerprints go.
        kernels: How to hash and within what limits.
        engine_frame_of: See `compare_tables`.
        collect: Runs the job over frames of the schema FINGERPRINTS, or that of `after`.
        after: What the tasks that scan do with the fingerprints.

    Returns:
        What `collect` returns, and the faults of tables that the engine's reader refused.
    """
    faults: dict[int, TableFault] = {}
    frames = _engine_frames(scans, buckets, kernels, engine_frame_of, faults, after)
    items = [item for scan in scans for item in _file_items(scan, buckets[scan.table])]
    files = [_mapped(_file_frame(spark, items, kernels), _item_scanner(kernels), after, scans)] if items else []
    with engine_errors():
        try:
            with pyspark_errors():
                rows = collect([*files, *frames.values()])
        except PySparkException as exc:
            if not frames or own_words(exc):
                raise
            faults |= _unreadable_frames(frames, {scan.table: scan.harvest for scan in scans})
            rows = collect([*files, *(frame for table, frame in frames.items() if table not in faults)])
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
    after: AfterScan | None,
) -> dict[int, DataFrame]:
    """Fingerprints of the tables that the engine reads; what it refuses at once is added to `faults`."""
    frames: dict[int, DataFrame] = {}
    for scan in scans:
        if scan.harvest.reader == "engine":
            try:
                frames[scan.table] = _scanned(engine_frame_of(scan.table), scan, buckets[scan.table], kernels, after)
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
    bins = balanced(items, kernels.tasks)
    work = spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
    return work.repartition(len(bins))


def _mapped(frame: DataFrame, scan: Kernel, after: AfterScan | None, scans: Sequence[TableScan]) -> DataFrame:
    """What a scan makes of a frame, and `after` of that, as one kernel: Spark would start more workers for two."""
    for filters in {own.filters for own in scans} - {""}:
        scan = with_filters(scan, filters)
    if after is None:
        return map_batches(frame, scan, FINGERPRINTS)
    then = after.kernel

    def both(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return then(scan(batches))

    return map_batches(frame, both, after.schema)


def _item_scanner(kernels: Kernels) -> Kernel:
    hasher, limits = kernels.hasher, kernels.limits

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = [text for texts in batch.column(0).to_pylist() for text in texts]
            yield from scan_items(map(ScanItem.from_json, texts), hasher, limits)

    return scan


def _scanned(
    frame: DataFrame, scan: TableScan, buckets: Buckets, kernels: Kernels, after: AfterScan | None
) -> DataFrame:
    from r2d2.scan.engine_reader import batch_scanner

    item = ScanItem(
        table=scan.table,
        files=(),
        partition_schema=pa.schema([]),
        column_sets=scan.column_sets,
        threshold=scan.threshold,
        filters=scan.filters,
        leaves=leaves_of(scan),
        evidence=base64.b64encode(of_table(scan.evidence)).decode() if scan.evidence else "",
        first_bucket=buckets.first,
        buckets=buckets.count,
    )
    kernel = batch_scanner(item.to_json(), scan.harvest.schema.names, kernels.hasher, kernels.limits)
    return _mapped(frame, kernel, after, [scan])


def _shuffled(spark: SparkSession, frames: Sequence[DataFrame], questions: pa.Table) -> pa.Table:
    """Answers and reports, in one job in which fingerprints meet by the engine's shuffle."""
    from pyspark.sql.functions import col, explode, sequence

    def answer(rows: pa.Table, asked: pa.Table) -> pa.Table:
        return answer_bucket(rows.cast(FINGERPRINTS), asked.select(QUESTIONS.names).cast(QUESTIONS))

    places = explode(sequence(col("first_bucket"), col("first_bucket") + col("buckets") - 1))
    asked = spark.createDataFrame(questions).select(places.alias("bucket"), *QUESTIONS.names)
    grouped = union_all(frames).groupBy("bucket").cogroup(asked.groupBy("bucket"))
    return map_cogroups(grouped, answer, VERDICTS).toArrow()


def _outcome(
    rows: pa.Table,
    scans: Sequence[TableScan],
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    buckets: Mapping[int, Buckets],
    found_faults: Mapping[int, TableFault],
) -> Comparison:
    is_pair = pc.and_(pc.greater(rows["child"], REPORT), pc.greater(rows["parent"], REPORT))
    sums = _sums_of_pairs(rows.filter(is_pair))
    reports: list[dict[str, Any]] = []
    members: list[dict[str, Any]] = []
    told: dict[str, list[LeafOfFile]] = {LIE: [], HIDDEN_NAN: []}
    for row in rows.filter(pc.invert(is_pair)).to_pylist():
        if row["status"] in told:
            place = json.loads(row["message"])
            told[row["status"]].append((row["table"], place["fragment"], leaf_path(place["leaf"])))
        elif row["child"] == REPORT:
            reports.append(row)
        else:
            members.append(row)
    faults, rows_of = faults_of(reports, scans, found_faults)
    whole = {scan.table for scan in scans if scan.threshold == EVERYTHING}
    rows_of_whole = {table: rows for table, rows in rows_of.items() if table in whole}
    verdicts: dict[Pair, Verdict] = {}
    for pair in pairs:
        if pair.child not in faults and pair.parent not in faults:
            own = sums.get(pair, _NO_ANSWER)
            check_complete(pair, own, buckets[pair.child].count, rows_of_whole)
            is_whole = pair.child in whole and pair.parent in whole
            verdicts[pair] = Verdict(**{name: own[name] for name in _FOUND}, whole=is_whole)
    return Comparison(
        verdicts=verdicts,
        rows_of=rows_of,
        faults=faults,
        answers=answers_of(members, questions, {t: n for t, n in rows_of.items() if t not in faults}, whole),
        lies=sorted(told[LIE]),
        hidden_nans=sorted(told[HIDDEN_NAN]),
        bytes_read=sum(row["bytes_read"] for row in reports),
    )


_FOUND = ("distinct", "missing", "excess")
_COUNTS = (*_FOUND, "child_rows", "parent_rows")
_NO_ANSWER = dict.fromkeys((*_COUNTS, "buckets"), 0)


def _sums_of_pairs(rows: pa.Table) -> dict[Pair, dict[str, int]]:
    """The counts of each pair over its buckets, and how many of these have answered: too many rows for Python."""
    keys = ["child", "parent", "column_set"]
    summed = rows.group_by(keys).aggregate([*((name, "sum") for name in _COUNTS), ([], "count_all")])
    return {
        Pair.of(row): {**{name: row[f"{name}_sum"] for name in _COUNTS}, "buckets": row["count_all"]}
        for row in summed.to_pylist()
    }


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


def check_complete(pair: Pair, sums: Mapping[str, int], asked: int, rows_of: Mapping[int, int]) -> None:
    """No verdict stands on less than all rows: every bucket must have answered, over all rows of tables read whole.

    Args:
        pair: Whose verdict it is.
        sums: Over the answers: `buckets` that gave one, `child_rows` and `parent_rows` that reached them.
        asked: Buckets.
        rows_of: Rows of the tables that were read whole.

    Raises:
        EngineError: If rows or answers were lost on the way between the kernels.
    """
    there = (sums["child_rows"], sums["parent_rows"])
    is_whole = pair.child in rows_of and pair.parent in rows_of
    if sums["buckets"] != asked or (is_whole and there != (rows_of[pair.child], rows_of[pair.parent])):
        raise EngineError("the engine lost rows between the scan and the comparison; nothing was asserted")


def _fault(row: Mapping[str, Any]) -> TableFault:
    kind = TableUnsupported if row["status"] == TableUnsupported.status else TableFailed
    return kind(row["message"], error=row["error"])
