"""Fingerprints in files: none is lost on the way, and a task holds a run or a bucket of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.errors import EngineError
from r2d2.scan.reports import FINGERPRINTS, REPORT, SPILLED
from r2d2.scan.spill import _reader, _tasks_of, write_questions, writer
from tests.unit.fingerprint_rows import counted, packed_row

Row = tuple[int, int, int, Counter[tuple[int, int]]]

QUESTIONS = pa.schema([("first_bucket", pa.int32()), ("buckets", pa.int32()), ("name", pa.int32())])
ASKED = -3
"""Column set of the rows by which the test's kernel tells which bucket it was asked about."""

fingerprints = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 1)), min_size=1, max_size=6).map(Counter)
rows = st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 1), fingerprints)
batches = st.lists(rows, max_size=4)


def batch_of(listed: list[Row]) -> pa.RecordBatch:
    """Some rows of fingerprints and a report."""
    report = {**packed_row(0, 9, REPORT, Counter()), "packed": b"", "rows_read": 1}
    return pa.RecordBatch.from_pylist([*(packed_row(*row) for row in listed), report], schema=FINGERPRINTS)


def echo(found: pa.Table, questions: pa.Table) -> pa.Table:
    """A kernel that returns what it is given."""
    asked = [{**packed_row(0, name, ASKED, Counter()), "packed": b""} for name in questions["name"].to_pylist()]
    return pa.concat_tables([pa.Table.from_pylist(asked, schema=FINGERPRINTS), found])


def written(folder: Path, tasks: list[list[pa.RecordBatch]], run_bytes: int) -> pa.Table:
    """What the writing tasks say."""
    kernel = writer(str(folder), run_bytes)
    return pa.Table.from_batches([batch for own in tasks for batch in kernel(iter(own))], FINGERPRINTS)


def read(told: pa.Table, asked: list[tuple[int, int]], tasks: int, folder: str = "memory://asked") -> pa.Table:
    """What the reading tasks hand to their kernel; a question is about so many buckets from a first one on."""
    first, buckets = ([one[place] for one in asked] for place in (0, 1))
    questions = pa.table({"first_bucket": first, "buckets": buckets, "name": range(len(asked))}, schema=QUESTIONS)
    work = _tasks_of(told.filter(pc.equal(told["column_set"], SPILLED)), questions, tasks)
    assert work.num_rows <= tasks
    kernel = _reader(write_questions(questions, f"{folder}/questions"), echo)
    return pa.Table.from_batches(
        [batch for task in work.to_batches(max_chunksize=1) for batch in kernel(iter([task]))], FINGERPRINTS
    )


@given(
    tasks=st.lists(st.lists(batches, max_size=4), min_size=1, max_size=3),
    asked=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), min_size=1, max_size=9),
    run_bytes=st.sampled_from([1, 300, 1 << 20]),
    readers=st.integers(1, 4),
)
def test_every_bucket_gets_all_of_its_fingerprints_once(
    tasks: list[list[list[Row]]], asked: list[tuple[int, int]], run_bytes: int, readers: int
) -> None:
    expected: Counter[tuple[int, ...]] = Counter()
    for bucket, table, column_set, own in (row for task in tasks for batch in task for row in batch):
        for lanes, count in own.items():
            is_there = any(first <= bucket < first + number for first, number in asked)
            expected[bucket, table, column_set, *lanes] += count if is_there else 0
    with tempfile.TemporaryDirectory() as folder:
        told = written(Path(folder), [[batch_of(batch) for batch in task] for task in tasks], run_bytes)
        found = read(told, asked, readers)
    reports = told.filter(pc.equal(told["column_set"], REPORT))
    assert reports["rows_read"].to_pylist() == [1] * sum(map(len, tasks))
    is_asked = pc.equal(found["column_set"], ASKED)
    times = Counter({name: number for name, (_, number) in enumerate(asked)})
    assert Counter(found.filter(is_asked)["table"].to_pylist()) == times, "each question once in each of its buckets"
    assert lanes_of(found.filter(pc.invert(is_asked))) == +expected


def lanes_of(found: pa.Table) -> Counter[tuple[int, ...]]:
    """How often each fingerprint occurs, by bucket, table and column set."""
    counts: Counter[tuple[int, ...]] = Counter()
    for place in range(found.num_rows):
        row = found.slice(place, 1)
        for lanes, count in counted(row.to_batches())[0].items():
            counts[row["bucket"][0].as_py(), row["table"][0].as_py(), *lanes] += count
    return counts


def one_file(folder: Path) -> tuple[pa.Table, Path]:
    """What a task says that has written a file of two runs, and the file."""
    batch = batch_of([(0, 0, 0, Counter({(1, 1): 1})), (1, 0, 0, Counter({(2, 1): 2}))])
    told = written(folder, [[batch, batch]], 1)
    (file,) = folder.iterdir()
    return told, file


def test_tasks_without_fingerprints_make_no_file(tmp_path: Path) -> None:
    told = written(tmp_path, [[batch_of([])], []], 1)
    assert told["column_set"].to_pylist() == [REPORT]
    assert not list(tmp_path.iterdir())


def test_a_file_that_has_lost_bytes_or_is_gone_ends_the_comparison(tmp_path: Path) -> None:
    told, file = one_file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(EngineError, match="fingerprints in the work folder could not be read"):
        read(told, [(0, 2)], 1)
    file.unlink()
    with pytest.raises(EngineError, match="fingerprints in the work folder could not be read"):
        read(told, [(0, 2)], 1)


def test_a_folder_that_cannot_be_written_ends_the_comparison(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="fingerprints in the work folder could not be written"):
        written(tmp_path / "missing", [[batch_of([(0, 0, 0, Counter({(1, 1): 1}))])]], 1)


def test_files_in_an_object_store(tmp_path: Path) -> None:
    tasks = [[batch_of([(bucket, 0, 0, Counter({(bucket, 1): 1})) for bucket in range(3)])] for _ in range(2)]
    kernel = writer("memory://spill", 1)
    told = pa.Table.from_batches([batch for own in tasks for batch in kernel(iter(own))], FINGERPRINTS)
    assert lanes_of(read(told, [(2, 1)], 1).filter(pc.field("column_set") != ASKED)) == Counter({(2, 0, 0, 2, 1): 2})


HELD_MB = 64
SPILLING = """
import resource, sys
import numpy as np, pyarrow as pa
from r2d2.scan.reports import FINGERPRINTS, pack
from r2d2.scan.spill import writer, read_segments
from tests.unit.fingerprint_rows import _NOTHING

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

def batches():
    words = np.arange(1 << 12)
    row = {**_NOTHING, "table": 0, "column_set": 0, "packed": pack(words, words, None)}
    for _ in range(24):
        yield pa.RecordBatch.from_pylist([{**row, "bucket": bucket} for bucket in range(64)], schema=FINGERPRINTS)

next(batches())
before = peak()
told = pa.Table.from_batches(list(writer(sys.argv[1], 8 << 20)(batches())), FINGERPRINTS)
found = 0
for bucket in range(64):
    for row in told.to_pylist():
        segments = np.frombuffer(row["packed"], np.int64).reshape(-1, 3)
        own = segments[segments[:, 0] == bucket] * [0, 1, 1]
        found += read_segments([row["message"]], own).num_rows
print(found, peak() - before)
"""


def test_spilling_holds_a_run_at_a_time(tmp_path: Path) -> None:
    """100 MB of fingerprints, written and read again."""
    command = [sys.executable, "-c", SPILLING, str(tmp_path)]
    root = Path(__file__).parents[2]
    found, grown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout.split()
    assert int(found) == 24 * 64
    assert int(grown) < HELD_MB
