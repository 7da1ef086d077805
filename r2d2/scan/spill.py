"""Fingerprints in files of the work folder instead of the engine's shuffle.

So it is for engines that hold shuffles in memory, and where a second scan follows from what a first one has found
(`scan.passes`). A job that scans writes: each task a file of its own, in *runs* that are sorted by bucket, and filters
of the children's rows if they are asked for. The last job reads: each task its
buckets, one after the other, from all files. So a task holds a run or a bucket at a time, however many fingerprints
there are.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import EngineError
from r2d2.scan.files import filesystem
from r2d2.scan.plan import deal
from r2d2.scan.reports import FILTER, FINGERPRINTS, REPORT, SPILLED, Words, filter_batch, spilled_batch, unpack
from r2d2.scan.row_filter import RowFilter, joined, read_filters, write_filters
from r2d2.workers import map_batches

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPILLED_ROWS = 4_000_000
"""Expected fingerprints of a job from which on it spills them: 64 MB, of which an engine may hold several copies."""

RUN_BYTES = 32 << 20

BucketAnswer = Callable[[pa.Table, pa.Table], pa.Table]
"""A kernel that is given the fingerprints and the questions of one bucket."""

Kernel = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_TASKS = pa.schema(
    [
        ("files", pa.list_(pa.string())),
        ("buckets", pa.list_(pa.int32())),
        ("segments", pa.list_(pa.binary())),  # by bucket: words that name file, start and end of each segment
    ]
)


@dataclass(frozen=True, kw_only=True)
class Spill:
    """Where fingerprints are spilled to, and when.

    Attributes:
        folder: Path or URL of a folder that all workers reach.
        least_rows: Expected fingerprints of a comparison from which on it spills them in any case; None for engines
            whose shuffle takes any number.
        run_bytes: Fingerprints that a writing task holds before it sorts and writes them.
    """

    folder: str
    least_rows: int | None = None
    run_bytes: int = RUN_BYTES


@contextmanager
def spill_folder(spill: Spill) -> Iterator[str]:
    """A folder for the files of one comparison, which go when the block ends."""
    folder = f"{spill.folder}/{uuid.uuid4().hex}"
    fs, path = filesystem(folder)
    with _engine_error("written"):
        fs.makedirs(path, exist_ok=True)
    try:
        yield folder
    finally:
        fs.invalidate_cache()
        with suppress(FileNotFoundError):  # in an object store it is there only once there are files in it
            fs.rm(path, recursive=True)


def answer_from_files(
    spark: SparkSession,
    told: pa.Table,
    tasks: int,
    folder: str,
    questions: pa.Table,
    answer: BucketAnswer,
    schema: pa.Schema,
) -> pa.Table:
    """The last job: answers to all questions, and what `answer` makes of the reports.

    Args:
        spark: Session of the audit.
        told: What `writer` has yielded in all tasks of all scans.
        tasks: Into which the job is dealt.
        folder: Where the fingerprints are.
        questions: With `first_bucket` and `buckets`, besides whatever `answer` understands.
        answer: See BucketAnswer.
        schema: Of what it returns.
    """
    told = told.cast(FINGERPRINTS)
    told = told.filter(pc.not_equal(told["column_set"], FILTER))
    is_index = pc.equal(told["column_set"], SPILLED)
    reported = answer(told.filter(pc.invert(is_index)), questions.schema.empty_table())
    work = _tasks_of(told.filter(is_index), questions, tasks)
    if not work.num_rows:
        return reported
    asked = write_questions(questions, f"{folder}/questions")
    read = map_batches(spark.createDataFrame(work).repartition(work.num_rows), _reader(asked, answer), schema)
    return pa.concat_tables([reported, read.toArrow().cast(schema)])


def write_questions(questions: pa.Table, uri: str) -> str:
    """Write questions into a file, for all tasks: there may be many about each bucket; returns its URI."""
    fs, path = filesystem(uri)
    with _engine_error("written"), fs.open(path, "wb") as file:
        file.write(memoryview(_stream(questions)))
    return uri


def spilled_filters(told: pa.Table, places: Mapping[int, int], rows_of: Mapping[int, int], uri: str) -> str:
    """Write the filters that `writer` has yielded in all tasks into a file, for all tasks.

    Args:
        told: What `writer` has yielded.
        places: Of the filters, by column set.
        rows_of: How many rows each must have taken in at least.
        uri: Of the file.

    Returns:
        Its URI.

    Raises:
        EngineError: If filters were lost on the way, or it cannot be written.
    """
    rows = told.filter(pc.equal(told["column_set"], FILTER))
    taken: Counter[int] = Counter()
    for column_set, own in zip(rows["bucket"].to_pylist(), rows["rows_read"].to_pylist(), strict=True):
        taken[column_set] += own
    if any(taken[column_set] < least for column_set, least in rows_of.items()):
        raise EngineError("the engine lost rows between the passes of a comparison; nothing was asserted")
    empty = ((column_set, RowFilter.empty(own).pack()) for column_set, own in places.items())
    found = zip(rows["bucket"].to_pylist(), rows["packed"].to_pylist(), strict=True)
    with _engine_error("written"):
        write_filters(joined([*empty, *found]), uri)
    return uri


def with_filters(kernel: Kernel, uri: str) -> Kernel:
    """The kernel of a second pass: that the filters cannot be read is no table's fault."""

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _engine_error("read"):
            read_filters(uri)
        yield from kernel(batches)

    return scan


def _questions_in(uri: str) -> pa.Table:
    fs, path = filesystem(uri)
    with _engine_error("read"):
        return pa.ipc.open_stream(fs.cat_file(path)).read_all()


# --- writing ----------------------------------------------------------------------------------------------------------


def writer(
    folder: str, run_bytes: int, places: Mapping[int, int] | None = None, children: Set[tuple[int, int]] = frozenset()
) -> Kernel:
    """The kernel of the first job, behind the scan: FINGERPRINTS in, the same with SPILLED rows in their place out.

    Args:
        folder: Where it writes.
        run_bytes: See Spill.
        places: Of filters, by column set, that it yields behind that; see FILTER.
        children: Tables and column sets whose rows these take in.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filters = {column_set: RowFilter.empty(own) for column_set, own in (places or {}).items()}
        yield from spill_batches(_noted(batches, filters, children), f"{folder}/{uuid.uuid4().hex}", run_bytes)
        yield filter_batch({column_set: own for column_set, own in filters.items() if own.rows})

    return write


def _noted(
    batches: Iterable[pa.RecordBatch], filters: Mapping[int, RowFilter], children: Set[tuple[int, int]]
) -> Iterator[pa.RecordBatch]:
    """The batches as they are; filters take in the rows of children."""
    for batch in batches:
        if filters:
            keys = zip(batch["table"].to_pylist(), batch["column_set"].to_pylist(), strict=True)
            for key, packed in zip(keys, batch["packed"], strict=True):
                if key[1] in filters and key in children:
                    first, _, counts = unpack(packed.as_buffer())
                    filters[key[1]].add(first, counts)
        yield batch


def spill_batches(batches: Iterable[pa.RecordBatch], uri: str, run_bytes: int) -> Iterator[pa.RecordBatch]:
    """Write fingerprints to a file of their own, if there are any.

    Args:
        batches: Schema FINGERPRINTS.
        uri: Of the file.
        run_bytes: See Spill.

    Yields:
        The reports as they are and, once the file is complete, a row for each of its runs: see SPILLED.

    Raises:
        EngineError: If it cannot be written: this ends the audit.
    """
    runs = _Runs(uri)
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        rows = batch.cast(FINGERPRINTS)
        is_report = pc.equal(rows["column_set"], REPORT)
        if pc.any(is_report).as_py():
            yield rows.filter(is_report)
        held.append(rows.filter(pc.invert(is_report)))
        size += held[-1].nbytes
        if size >= run_bytes:
            runs.add(held)
            held, size = [], 0
    runs.add(held)
    runs.close()
    yield spilled_batch(uri, runs.indexes)


class _Runs:
    """A file of runs, made when there is something to write.

    Attributes:
        indexes: Of each run: bucket, start and end of each segment.
    """

    def __init__(self, uri: str) -> None:
        self.indexes: list[Words] = []
        self._uri = uri
        self._file: Any = None
        self._end = 0

    def add(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write some rows as a run: one serialized batch per bucket."""
        rows = pa.Table.from_batches(batches, FINGERPRINTS).combine_chunks()
        if not rows.num_rows:
            return
        buckets = rows["bucket"].to_numpy()
        order = np.argsort(buckets, kind="stable")
        index: list[tuple[int, int, int]] = []
        for places in np.split(order, np.flatnonzero(np.diff(buckets[order])) + 1):
            (segment,) = rows.take(pa.array(places)).to_batches()
            start = self._end
            self._write(segment.serialize())
            index.append((int(buckets[places[0]]), start, self._end))
        self.indexes.append(np.array(index, np.int64))

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            with _engine_error("written"):
                self._file.close()

    def _write(self, data: pa.Buffer) -> None:
        with _engine_error("written"):
            if self._file is None:
                fs, path = filesystem(self._uri)
                self._file = fs.open(path, "wb")
            self._file.write(memoryview(data))
        self._end += data.size


# --- reading ----------------------------------------------------------------------------------------------------------


def _tasks_of(indexes: pa.Table, questions: pa.Table, tasks: int) -> pa.Table:
    """The buckets that are asked about, with where their fingerprints lie, dealt into tasks of about equal bytes."""
    files = indexes["message"].to_pylist()
    segments = [np.frombuffer(packed.as_buffer(), np.int64).reshape(-1, 3) for packed in indexes["packed"]]
    numbers = np.repeat(np.arange(len(files)), [len(own) for own in segments])
    found = np.column_stack([np.concatenate([np.empty((0, 3), np.int64), *segments]), numbers])
    by_bucket = _by_key(found[:, 0])
    buckets = _asked(questions)
    places = [found[by_bucket[bucket]] if bucket in by_bucket else found[:0] for bucket in buckets]
    costs = [int((own[:, 2] - own[:, 1]).sum()) for own in places]
    rows = [
        {
            "files": files,
            "buckets": [buckets[place] for place in own],
            "segments": [places[place][:, [3, 1, 2]].tobytes() for place in own],
        }
        for own in deal(costs, tasks)
    ]
    return pa.Table.from_pylist(rows, schema=_TASKS)


def _asked(questions: pa.Table) -> list[int]:
    """The buckets that are asked about."""
    ranges = questions.group_by(["first_bucket", "buckets"]).aggregate([]).to_pylist()
    return sorted({one["first_bucket"] + number for one in ranges for number in range(one["buckets"])})


def _of_bucket(questions: pa.Table, bucket: int) -> pa.Table:
    first = questions["first_bucket"]
    end = pc.add(first, questions["buckets"])
    return questions.filter(pc.and_(pc.less_equal(first, bucket), pc.greater(end, bucket)))


def _by_key(keys: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """The places of each key."""
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1) if len(keys) else []
    return {int(keys[places[0]]): places for places in groups}


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _reader(asked: str, answer: BucketAnswer) -> Kernel:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            questions = _questions_in(asked)
            for task in batch.to_pylist():
                for bucket, segments in zip(task["buckets"], task["segments"], strict=True):
                    rows = read_segments(task["files"], np.frombuffer(segments, np.int64).reshape(-1, 3))
                    yield from answer(rows, _of_bucket(questions, bucket)).to_batches()

    return read


def read_segments(files: Sequence[str], segments: npt.NDArray[np.int64]) -> pa.Table:
    """The rows of FINGERPRINTS that lie in some segments, each a file's number, its start and its end there.

    Raises:
        EngineError: If they cannot be read whole.
    """
    batches: list[pa.RecordBatch] = []
    if len(segments):
        numbers, starts, ends = segments.T.tolist()
        fs, _ = filesystem(files[numbers[0]])
        with _engine_error("read"):
            found = fs.cat_ranges([filesystem(files[n])[1] for n in numbers], starts, ends, on_error="raise")
            for data, start, end in zip(found, starts, ends, strict=True):
                if not isinstance(data, bytes) or len(data) != end - start:
                    raise OSError
                batches.append(pa.ipc.read_record_batch(pa.py_buffer(data), FINGERPRINTS))
    return pa.Table.from_batches(batches, FINGERPRINTS)


@contextmanager
def _engine_error(done: str) -> Iterator[None]:
    """Say that a file of the work folder could not be written or read."""
    try:
        yield
    except (OSError, pa.ArrowException) as exc:
        message = f"fingerprints in the work folder could not be {done} ({type(exc).__name__}): is it full?"
        raise EngineError(message) from exc
