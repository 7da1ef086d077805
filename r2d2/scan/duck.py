"""DuckDB connections of kernels: one per kernel call, bounded in threads and memory, spilling to a scratch folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

_BELIEVE_STATISTICS = "statistics_propagation,filter_pushdown"
"""Optimizers that fold `x IS NULL`, narrow a type or skip a row group on the word of a footer, which may be wrong."""


@dataclass(frozen=True, kw_only=True)
class KernelLimits:
    """What one kernel call may use.

    Attributes:
        threads: DuckDB threads; the engine runs many kernels at once.
        memory_bytes: Memory before DuckDB spills.
    """

    threads: int = 1
    memory_bytes: int = 1 << 30


@contextmanager
def connect(limits: KernelLimits) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that believes no statistics, downloads no extensions, and cleans up what it spilled."""
    with tempfile.TemporaryDirectory(prefix="r2d2-spill-") as scratch:
        connection = duckdb.connect(
            config={
                "threads": limits.threads,
                "memory_limit": f"{limits.memory_bytes}B",
                "temp_directory": scratch,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "preserve_insertion_order": False,
            }
        )
        try:
            _hide_progress(connection)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET disabled_optimizers = '{_BELIEVE_STATISTICS}'")
            yield connection
        finally:
            connection.close()


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
