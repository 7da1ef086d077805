"""Kernels in processes of their own: called from a thread, as Sail does, and what becomes of failures and deaths."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r2d2 import workers
from r2d2.errors import EngineError, TableFailed, UsageError

SCHEMA = pa.schema([("n", pa.int64()), ("process", pa.int64())])


class Frame:
    """What `map_batches` and the others ask of a frame, grouped or not: it hands over what an engine would call."""

    def mapInArrow(self, function: Callable[..., Any], _: str) -> Any:  # noqa: N802 - pyspark's name
        return function

    def applyInArrow(self, function: Callable[..., Any], _: str) -> Any:  # noqa: N802 - pyspark's name
        return function


WORKERS = 2


@pytest.fixture(autouse=True)
def few_workers() -> Iterator[None]:
    workers.start(WORKERS)
    yield
    workers.close()


def over_batches(kernel: workers.BatchKernel) -> Any:
    return workers.map_batches(Frame(), kernel, SCHEMA)  # type: ignore[arg-type]


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in another thread; a generator is exhausted there."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: list(function(*arguments))).result(60)


def batches(count: int, rows: int = 3) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield pa.record_batch({"n": [number] * rows})


def told_process(sources: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Two batches for each one, with the process that makes them."""
    for batch in sources:
        for _ in range(2):
            yield pa.record_batch([batch["n"], pa.array([os.getpid()] * len(batch))], schema=SCHEMA)


def test_a_thread_has_its_kernels_run_elsewhere_and_the_main_thread_itself() -> None:
    mapped = over_batches(told_process)
    here, there = list(mapped(batches(3))), in_thread(mapped, batches(3))
    assert [batch["n"] for batch in here] == [batch["n"] for batch in there]
    assert {pid for batch in here for pid in batch["process"].to_pylist()} == {os.getpid()}
    (process,) = {pid for batch in there for pid in batch["process"].to_pylist()}
    assert process != os.getpid()
    assert {pid for batch in in_thread(mapped, batches(1)) for pid in batch["process"].to_pylist()} == {process}


def test_a_kernel_sees_the_environment_of_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials may be set, changed and removed between two audits of one session."""

    def told(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"secret": [os.environ.get("R2D2_TEST_SECRET")]})

    mapped = over_batches(told)
    for secret in (None, "one", "two", None):
        if secret is None:
            monkeypatch.delenv("R2D2_TEST_SECRET", raising=False)
        else:
            monkeypatch.setenv("R2D2_TEST_SECRET", secret)
        (batch,) = in_thread(mapped, batches(1))
        assert batch["secret"].to_pylist() == [secret]


def test_without_processes_kernels_run_in_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError

    workers.close()
    monkeypatch.setattr(workers.subprocess, "Popen", refused)
    workers.start(WORKERS)
    found = in_thread(over_batches(told_process), batches(2))
    assert {pid for batch in found for pid in batch["process"].to_pylist()} == {os.getpid()}


def test_where_no_worker_runs_kernels_run_in_their_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the interpreter of a program that embeds Python is that program."""
    workers.close()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    workers.start(WORKERS)
    for _ in range(2):
        found = in_thread(over_batches(told_process), batches(2))
        assert {pid for batch in found for pid in batch["process"].to_pylist()} == {os.getpid()}
    assert len([record for record in caplog.records if "does not run as a worker" in record.message]) == 1


def test_what_a_killed_kernel_has_not_removed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that DuckDB has spilled, say."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    workers.close()
    workers.start(1)

    def spills(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        (Path(tempfile.mkdtemp()) / "rows").write_text("secret")
        os.kill(os.getpid(), signal.SIGKILL)
        yield from ()

    with pytest.raises(EngineError, match="has ended"):
        in_thread(over_batches(spills), batches(1))
    assert list(tmp_path.rglob("rows")) == []
    workers.close()
    assert list(tmp_path.iterdir()) == []


def test_batches_come_one_by_one() -> None:
    """A kernel may yield before it has seen all, and need not read to the end."""
    asked = []

    def watched() -> Iterator[pa.RecordBatch]:
        for batch in batches(50):
            asked.append(batch)
            yield batch

    def first_two(sources: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from told_process(iter([next(sources), next(sources)]))

    assert len(in_thread(over_batches(first_two), watched())) == 4
    assert len(asked) == 2
    assert in_thread(over_batches(told_process), iter(())) == []


def test_groups_go_elsewhere_too() -> None:
    def both(one: pa.Table, other: pa.Table) -> pa.Table:
        return pa.table({"n": [one.num_rows, other.num_rows, os.getpid()]})

    def alone(one: pa.Table) -> pa.Table:
        return both(one, one)

    rows = pa.table({"n": range(5), "text": ["é", None, "", "x", "y"]})
    cogrouped, grouped = workers.map_cogroups(Frame(), both, SCHEMA), workers.map_groups(Frame(), alone, SCHEMA)
    for mapped, tables in ((cogrouped, (rows, rows.slice(1, 2))), (grouped, (rows,))):
        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(mapped, *tables).result(60)["n"].to_pylist()  # type: ignore[operator]
        assert found[:2] == [5, tables[-1].num_rows]
        assert found[2] != os.getpid()


@pytest.mark.parametrize(
    "error", [EngineError("the words"), TableFailed("the words", error="Odd"), UsageError("the words")], ids=repr
)
def test_an_error_of_a_kernel_is_raised_here(error: Exception) -> None:
    def fails(sources: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from told_process(iter([next(sources)]))
        raise error

    with pytest.raises(type(error), match=r"^the words$"):
        in_thread(over_batches(fails), batches(2))
    assert len(in_thread(over_batches(told_process), batches(2))) == 4, "the next kernel runs"


def test_an_error_that_cannot_travel_tells_its_type_only() -> None:
    class Odd(Exception):
        def __init__(self, one: str, other: str) -> None:
            super().__init__(one + other)

    def fails(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise Odd("a value", "another")

    with pytest.raises(RuntimeError, match=r"^Odd$"):
        in_thread(over_batches(fails), batches(1))


def test_a_worker_that_dies_is_an_error_and_no_result() -> None:
    def dies(sources: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from told_process(iter([next(sources)]))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(EngineError, match="a process in which kernels run has ended"):
        in_thread(over_batches(dies), batches(2))
    assert len(in_thread(over_batches(told_process), batches(2))) == 4


def test_what_nobody_wants_any_more_disturbs_no_later_call() -> None:
    def first_only() -> list[pa.RecordBatch]:
        with contextlib.closing(over_batches(told_process)(batches(5))) as found:
            return [next(found)]

    for _ in range(3):
        assert len(in_thread(first_only)) == 1
        assert [batch["n"][0].as_py() for batch in in_thread(over_batches(told_process), batches(2))] == [0, 0, 1, 1]


def test_kernels_that_feed_one_another_never_wait_for_a_worker() -> None:
    """Each takes its batches from the one before, so all are under way at once; there are fewer workers."""

    def chained() -> Iterator[pa.RecordBatch]:
        source = batches(4)
        for _ in range(3 + 2 * WORKERS):
            source = over_batches(lambda sources: (batch.select(["n"]) for batch in sources))(source)
        return source

    assert [batch["n"][0].as_py() for batch in in_thread(chained)] == [0, 1, 2, 3]
    assert len(workers._POOL._all) <= WORKERS


def test_to_close_ends_kernels_that_are_under_way() -> None:
    begun = threading.Event()

    def sleeps(sources: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        next(sources)
        time.sleep(300)
        yield from sources

    def told() -> Iterator[pa.RecordBatch]:
        begun.set()
        yield from batches(1)

    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(lambda: list(over_batches(sleeps)(told())))
        assert begun.wait(60)
        workers.close()
        with pytest.raises(EngineError, match="has ended"):
            result.result(60)


SCRIPT = """
import sys, threading, time
import pyarrow as pa
from r2d2 import workers
from tests.unit.test_workers import Frame, SCHEMA, batches

def sleeps(sources):
    for batch in sources:
        time.sleep(300)
        yield batch

def told():
    print(*[worker.process.pid for worker in workers._POOL._all], flush=True)
    yield from batches(1)

workers.start(2)
mapped = workers.map_batches(Frame(), sleeps, SCHEMA)
thread = threading.Thread(target=lambda: list(mapped(told())), daemon=True)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_process_that_has_started_them(number: signal.Signals) -> None:
    """Also one that is busy, and however it ends."""
    workers.close()
    before = set(os.listdir(tempfile.gettempdir()))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        ours = list(map(int, process.stdout.readline().split()))
        assert ours
        process.send_signal(number)
        process.wait(30)
    deadline = time.monotonic() + 30
    while (left := left_of(ours, before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def left_of(processes: list[int], before: set[str]) -> list[object]:
    """Processes that run still, and folders of workers that were not there before."""
    folders = {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("r2d2-worker-")} - before
    return [*filter(is_running, processes), *folders]


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
