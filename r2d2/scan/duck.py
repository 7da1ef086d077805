"""DuckDB connections of kernels: one per kernel call, bounded in threads and memory, spilling to a scratch folder."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import duckdb

from r2d2.session import cpu_count

LEAST_KERNEL_BYTES = 128 << 20
"""Memory that a kernel gets in any case."""

_BELIEVE_STATISTICS = "statistics_propagation,filter_pushdown"
"""Optimizers that fold `x IS NULL`, narrow a type or skip a row group on the word of a footer, which may be wrong."""


@dataclass(frozen=True, kw_only=True)
class KernelLimits:
    """What one kernel call may use.

    Attributes:
        threads: DuckDB threads; the engine runs many kernels at once.
        machine_bytes: Memory of all kernels of one machine before DuckDB spills.
        kernels: Kernels that run at once.
        spread: They run on several machines, on each at most one per CPU.
    """

    threads: int = 1
    machine_bytes: int = 1 << 30
    kernels: int = 1
    spread: bool = False

    @property
    def memory_bytes(self) -> int:
        """Memory of one kernel before DuckDB spills; to be asked where the kernel runs."""
        here = min(self.kernels, cpu_count()) if self.spread else self.kernels
        return max(LEAST_KERNEL_BYTES, self.machine_bytes // here)


@contextmanager
def connect(limits: KernelLimits) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an in-memory database that nobody else uses meanwhile.

    It believes no statistics, downloads no extensions, and cleans up what it spilled. To make a database takes some 30
    ms of processor time, so those that were used without an error and spilled nothing wait for the next call; what a
    connection had created or registered went with it.
    """
    database, connection = _idle_database(limits) or _new_database(limits)
    is_sound = False
    try:
        with connection:
            yield connection
        is_sound = not os.path.exists(database.scratch)
    finally:
        if is_sound:
            _IDLE[limits].append(database)
        else:
            database.close()


@dataclass(frozen=True, kw_only=True)
class _Database:
    """A database, by the connection that keeps it open, and the folder that it would spill to."""

    root: duckdb.DuckDBPyConnection
    scratch: str  # below `_private_folder`; made by DuckDB once it spills

    def close(self) -> None:
        self.root.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


_IDLE: dict[KernelLimits, deque[_Database]] = defaultdict(deque)


def _idle_database(limits: KernelLimits) -> tuple[_Database, duckdb.DuckDBPyConnection] | None:
    while True:
        try:
            database = _IDLE[limits].pop()  # which threads may do at once
        except IndexError:
            return None
        try:
            return database, _connected(database)
        except duckdb.Error:  # an error that ends a database was met, and reported, by the kernel before
            database.close()


def _new_database(limits: KernelLimits) -> tuple[_Database, duckdb.DuckDBPyConnection]:
    scratch = os.path.join(_private_folder(), uuid.uuid4().hex)
    root = duckdb.connect(
        config={
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_bytes}B",
            "temp_directory": scratch,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    database = _Database(root=root, scratch=scratch)
    try:
        return database, _connected(database)
    except BaseException:
        database.close()
        raise


def _private_folder() -> str:
    """A folder that only this user may look into, the same for all processes: some of them end without clearing up."""
    folder = os.path.join(tempfile.gettempdir(), f"r2d2-spill-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    found = os.lstat(folder)
    is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return folder if is_private else tempfile.mkdtemp(prefix="r2d2-spill-")


def _connected(database: _Database) -> duckdb.DuckDBPyConnection:
    connection = database.root.cursor()
    connection.execute("SET preserve_insertion_order = false")
    _hide_progress(connection)
    _set_up(connection)
    return connection


@contextmanager
def connect_beside(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A second connection within the limits of one of `connect`, for queries while a result of that is being read."""
    with connection.cursor() as other:
        _set_up(other)
        yield other


def _set_up(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET disabled_optimizers = '{_BELIEVE_STATISTICS}'")


def _hide_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """Turn the progress bar off where it is on: in Jupyter without ipywidgets DuckDB refuses even the turning off."""
    if connection.execute("SELECT current_setting('enable_progress_bar')").fetchone() != (False,):
        connection.execute("SET enable_progress_bar = false")


def quote_name(name: str) -> str:
    """A name as an identifier of DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal of DuckDB's SQL."""
    return "'" + text.replace("'", "''") + "'"
