"""Runs kernels in processes of their own where the engine runs them as threads of one.

Sail calls all kernels from threads of its own process, where only one of them at a time may execute Python. Apache
Spark gives each task a process with one thread, in which kernels run as they are. So a kernel decides where it runs: in
the main thread at once, in any other one in a worker, if this process was told to start some. Workers are kept for the
next kernel, and end with the process that has started them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.abc import MetaPathFinder
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.errors import EngineError
from r2d2.model import spark_ddl

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

BatchKernel = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
GroupKernel = Callable[..., pa.Table]

_BOOT = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
sys.path[:] = json.loads(sys.argv[1])[0]
from r2d2.workers import serve
serve()
"""

# What is said in either direction; anything longer is a batch or a table in Arrow's stream format, or a failure.
_READY, _NEXT, _END, _SAME = b"R", b"N", b"E", b"S"
_FAILED = b"!"
_BATCHES, _GROUP = b"B", b"G"


def map_batches(frame: DataFrame, kernel: BatchKernel, schema: pa.Schema) -> DataFrame:
    """What a kernel makes of the batches of a frame, one call for each partition."""
    told = _Told(kernel)

    def mapped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _over_batches(told, batches)

    return frame.mapInArrow(mapped, spark_ddl(schema))


def map_groups(grouped: Any, kernel: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> DataFrame:
    """What a kernel makes of each group of a grouped frame."""
    told = _Told(kernel)

    def mapped(rows: pa.Table) -> pa.Table:
        return _over_tables(told, rows)

    found: DataFrame = grouped.applyInArrow(mapped, spark_ddl(schema))
    return found


def map_cogroups(grouped: Any, kernel: Callable[[pa.Table, pa.Table], pa.Table], schema: pa.Schema) -> DataFrame:
    """What a kernel makes of each two groups of two frames that are grouped together."""
    told = _Told(kernel)

    def mapped(rows: pa.Table, others: pa.Table) -> pa.Table:
        return _over_tables(told, rows, others)

    found: DataFrame = grouped.applyInArrow(mapped, spark_ddl(schema))
    return found


def start(count: int) -> None:
    """Have at least so many workers for kernels to come."""
    _POOL.start(count)


def close() -> None:
    """End all workers, those that are in the midst of something too; kernels to come run in their threads."""
    _POOL.close()


# Functions of this module, which travel to where kernels run by their names alone.


def _over_batches(told: _Told, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found: Iterator[pa.RecordBatch] = told.kernel()(batches) if _is_alone() else _POOL.over_batches(told, batches)
    return found


def _over_tables(told: _Told, *tables: pa.Table) -> pa.Table:
    found: pa.Table = told.kernel()(*tables) if _is_alone() else _POOL.over_tables(told, *tables)
    return found


def _is_alone() -> bool:
    """Whether this thread has its process for itself."""
    return threading.get_ident() == threading.main_thread().ident


class _Told:
    """A kernel as bytes, which travel to workers as they are.

    Attributes:
        pickled: The kernel.
        name: Different for all kernels.
    """

    def __init__(self, kernel: Callable[..., Any]) -> None:
        from pyspark.cloudpickle import dumps

        self.pickled: bytes = dumps(kernel)  # type: ignore[no-untyped-call]
        self.name = uuid.uuid4().bytes

    def kernel(self) -> Callable[..., Any]:
        """The kernel itself, for this process; it keeps the last one that its main thread has asked for."""
        global _last  # noqa: PLW0603 - what a task asks for again with each of its groups
        name, kernel = _last
        if name != self.name:
            kernel = pickle.loads(self.pickled)
            if _is_alone():
                _last = self.name, kernel
        found: Callable[..., Any] = kernel
        return found


_last: tuple[bytes, Any] = (b"", None)


class _Worker:
    """A process that runs one kernel after the other."""

    def __init__(self) -> None:
        self._scratch = tempfile.mkdtemp(prefix="r2d2-worker-")
        ours, theirs = socket.socketpair()
        try:
            with ours, theirs:
                told = [list(map(os.path.abspath, sys.path)), theirs.fileno(), os.getpid(), self._scratch]
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, json.dumps(told)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                self._pipe = Connection(ours.detach())
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        self._is_ready = False
        self._kernel = b""
        self._environment = dict(os.environ)

    def is_ready(self) -> bool:
        """Whether it runs; waits until it is known whether it can."""
        if not self._is_ready:
            with contextlib.suppress(EngineError):
                self._is_ready = self.receive() == _READY
        return self._is_ready

    def begin(self, kind: bytes, told: _Told) -> None:
        """Say which kernel is to be called next, and in which environment: it may hold other credentials by now."""
        environment = dict(os.environ)
        self.send(kind)
        self.send(_SAME if environment == self._environment else pickle.dumps(environment))
        self.send(_SAME if told.name == self._kernel else told.pickled)
        self._kernel, self._environment = told.name, environment

    def send(self, said: bytes | pa.Buffer) -> None:
        try:
            self._pipe.send_bytes(said)
        except (OSError, ValueError):
            raise _ended() from None

    def receive(self) -> bytes:
        """What the worker says next.

        Raises:
            EngineError: If it is gone.
            Exception: The one that its kernel has raised.
        """
        try:
            said = self._pipe.recv_bytes()
        except (EOFError, OSError):
            raise _ended() from None
        if said[:1] == _FAILED:
            raise pickle.loads(said[1:])
        return said

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End it, and remove what its kernels had no time to remove; whoever talks to it hears that it has ended."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def hang_up(self) -> None:
        """To be called by whoever talks to it, last."""
        with contextlib.suppress(OSError):
            self._pipe.close()


def _ended() -> EngineError:
    return EngineError("a process in which kernels run has ended, perhaps for want of memory; lower --memory")


class _Pool:
    """The workers of this process, none until they are started.

    A kernel that finds all of them busy does not wait for one, which may itself wait for what the kernel is to take
    from it: it runs in its thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a call may be ended by the garbage collector, whatever its thread is at
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._most = 0

    def start(self, count: int) -> None:
        with self._lock:
            self._most = max(self._most, count) if sys.executable else 0
            while len(self._all) < self._most and (worker := self._started()):
                self._idle.append(worker)

    def over_batches(self, told: _Told, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with self._worker() as worker:
            if worker is None:
                yield from told.kernel()(batches)
                return
            worker.begin(_BATCHES, told)
            while (said := worker.receive()) != _END:
                if said == _NEXT:
                    batch = next(batches, None)
                    worker.send(_END if batch is None else _packed([batch], batch.schema))
                else:
                    yield from _opened(said)

    def over_tables(self, told: _Told, *tables: pa.Table) -> pa.Table:
        with self._worker() as worker:
            if worker is None:
                return told.kernel()(*tables)
            worker.begin(_GROUP, told)
            worker.send(bytes([len(tables)]))
            for table in tables:
                worker.send(_packed(table.to_batches(), table.schema))
            found: pa.Table = _opened(worker.receive()).read_all()
            return found

    def close(self) -> None:
        with self._lock:
            ended, idle = self._all, self._idle
            self._all, self._idle, self._most = set(), [], 0
        for worker in ended:
            worker.kill()
        for worker in idle:
            worker.hang_up()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker | None]:
        """A worker for one call, if one is free; it is given back only if it has said all that it had to say."""
        worker = self._taken()
        if worker is None:
            yield None
            return
        try:
            yield worker
        except BaseException:  # what it still has to say belongs to a call that is over
            self._end(worker)
            raise
        self._give_back(worker)

    def _taken(self) -> _Worker | None:
        worker = self._idle_or_new()
        if worker is None or worker.is_ready():
            return worker
        self._end(worker)
        log.warning("kernels run in threads: the interpreter %s does not run as a worker", sys.executable)
        self._most = 0
        return None

    def _idle_or_new(self) -> _Worker | None:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
                self._end(worker)
            return self._started() if len(self._all) < self._most else None

    def _started(self) -> _Worker | None:
        """A new worker, unless the system allows no more processes."""
        try:
            worker = _Worker()
        except OSError as exc:
            log.info("kernels run in threads: no process could be started (%s)", type(exc).__name__)
            return None
        self._all.add(worker)
        return worker

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            is_ours = worker in self._all  # else `close` has ended it
            if is_ours:
                self._idle.append(worker)
        if not is_ours:
            self._end(worker)

    def _end(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.kill()
        worker.hang_up()


_POOL = _Pool()
atexit.register(close)


def _packed(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _opened(packed: bytes) -> pa.RecordBatchStreamReader:
    return pa.ipc.open_stream(pa.py_buffer(packed))


# --- in the worker ----------------------------------------------------------------------------------------------------


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, for half a second, to see whether it is given some; no kernel has any."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("kernels have no use for pandas", name=name)


class _Alone(BaseException):
    """The process that has started this one is gone; no kernel is to catch that."""


def serve() -> None:
    """The main function of a worker: calls kernels until the process that has started it is gone."""
    _, end, parent, tempfile.tempdir = json.loads(sys.argv[1])
    sys.meta_path.insert(0, _WithoutPandas())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with Connection(end) as pipe, contextlib.suppress(_Alone):
        _serve(pipe)
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)


def _serve(pipe: Connection) -> None:
    _say(pipe, _READY)
    kernel: Callable[..., Any] | None = None
    while True:
        kind, environment, told = (_hear(pipe) for _ in range(3))
        try:
            if environment != _SAME:
                os.environ.clear()
                os.environ.update(pickle.loads(environment))
            if told != _SAME:
                kernel = pickle.loads(told)
            if kernel is None:
                raise EngineError("a worker was asked for a kernel that it does not know")
            (_call_batches if kind == _BATCHES else _call_group)(pipe, kernel)
        except Exception as exc:  # noqa: BLE001 - it is raised again where the engine has called
            _say(pipe, _FAILED + _as_bytes(exc))


def _say(pipe: Connection, said: bytes | pa.Buffer) -> None:
    try:
        pipe.send_bytes(said)
    except OSError:
        raise _Alone from None


def _hear(pipe: Connection) -> bytes:
    try:
        return pipe.recv_bytes()
    except (EOFError, OSError):
        raise _Alone from None


def _call_batches(pipe: Connection, kernel: BatchKernel) -> None:
    for batch in kernel(_batches(pipe)):
        _say(pipe, _packed([batch], batch.schema))
    _say(pipe, _END)


def _batches(pipe: Connection) -> Iterator[pa.RecordBatch]:
    while True:
        if not _is_alone():  # it would speak while the main thread does
            raise EngineError("a kernel asked for its batches from another thread")
        _say(pipe, _NEXT)
        said = _hear(pipe)
        if said == _END:
            return
        yield from _opened(said)


def _call_group(pipe: Connection, kernel: GroupKernel) -> None:
    (count,) = _hear(pipe)
    found = kernel(*[_opened(_hear(pipe)).read_all() for _ in range(count)])
    _say(pipe, _packed(found.to_batches(), found.schema))


def _as_bytes(exc: Exception) -> bytes:
    """An exception that can be raised elsewhere: itself where that works, else one of its type's name."""
    try:
        pickled = pickle.dumps(exc)
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001 - some exceptions cannot be built from what they say they are built from
        return pickle.dumps(RuntimeError(type(exc).__name__))
    return pickled


def _end_with(parent: int) -> None:
    """End this process soon after another one has ended, whatever it is at."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
    os._exit(1)
