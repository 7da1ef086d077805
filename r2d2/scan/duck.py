"""DuckDB connections of kernels: one per kernel call, bounded in threads and memory, spilling to a scratch folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
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
    ms of processor time, so those that were used without an error and spilled nothing wait for the next call. What a
    connection had created went with it; filesystems are the database's own and are taken from it, since the next call
    may come with other credentials.
    """
    root = _idle_database(limits) or _new_database(limits)
    with _private_folder() as folder:
        scratch = os.path.join(folder, "spilled")  # made by DuckDB once it spills
        is_sound = False
        try:
            with _connected(root, scratch) as connection:
                yield connection
            _unregister_filesystems(root)
            is_sound = not os.path.exists(scratch)
        finally:
            if is_sound:
                _IDLE[limits].append(root)
            else:
                root.close()


_IDLE: dict[KernelLimits, deque[duckdb.DuckDBPyConnection]] = defaultdict(deque)
"""Databases that wait, by the connections that keep them open."""


def _idle_database(limits: KernelLimits) -> duckdb.DuckDBPyConnection | None:
    while True:
        try:
            root = _IDLE[limits].pop()  # which threads may do at once
            root.execute("SELECT 1")
        except IndexError:
            return None
        except duckdb.Error:  # an error that ends a database was met, and reported, by the kernel before
            root.close()
        else:
            return root


def _new_database(limits: KernelLimits) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_bytes}B",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


def _unregister_filesystems(root: duckdb.DuckDBPyConnection) -> None:
    for name in root.list_filesystems():
        root.unregister_filesystem(name)


@contextmanager
def _private_folder() -> Iterator[str]:
    """A folder that only this user may look into, for one call."""
    folder = tempfile.mkdtemp(prefix="r2d2-spill-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _connected(root: duckdb.DuckDBPyConnection, scratch: str) -> duckdb.DuckDBPyConnection:
    connection = root.cursor()
    connection.execute(f"SET temp_directory = {quote_text(scratch)}")
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
