"""What the tests of whole audits share: running one, reading what it found, and Spark in a process of its own."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r2d2.cli import main
from r2d2.config import AuditConfig
from r2d2.pipeline import audit
from r2d2.store.results import read_results

Rows = list[dict[str, Any]]
EdgeKey = tuple[str, str, str, bool, bool, int, int]
RunInProcess = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What an audit wrote, its tables as lists of rows."""

    tables: Rows
    edges: Rows
    proposals: Rows
    failures: Rows
    summary: dict[str, Any]

    @classmethod
    def read(cls, out: str | Path) -> Results:
        """The results in a folder."""
        tables, summary = read_results(str(out))
        rows = {name: tables[name].to_pylist() for name in ("tables", "edges", "proposals", "failures")}
        return cls(summary=summary, **rows)

    @property
    def edge_keys(self) -> set[EdgeKey]:
        """Child, parent, relation, bag, set and the two row counts of each edge."""
        names = ("child", "parent", "relation", "bag", "set", "child_rows", "parent_rows")
        return {tuple(edge[name] for name in names) for edge in self.edges}  # type: ignore[misc]

    def status(self, table: str) -> str:
        """A table's status."""
        (found,) = [row["status"] for row in self.tables if row["table"] == table]
        return str(found)

    def not_ok(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each table that could not be judged."""
        return {row["table"]: (row["status"], row["reason"]) for row in self.tables if row["status"] != "ok"}


QUICK_SPARK = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
"""For sessions that make or read tables of few rows: compiling a query takes longer than running it."""


def run_audit(lake: str | Path, out: str | Path, *, spark: Any = None, **options: Any) -> Results:
    """Audit a lake, on a running session if one is given, and read the results."""
    audit(AuditConfig(lake=str(lake), out=str(out), **options), spark=spark)
    return Results.read(out)


def planned(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> dict[str, Any]:
    """What the command line plans again from the results in a folder, as JSON."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(out), "--json", *arguments])
    assert ended.value.code == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@contextlib.contextmanager
def own_process(*, keeps_spark: bool = False) -> Iterator[RunInProcess]:
    """Yields `run(function, *args)`, which calls an importable function in one other process.

    A process holds one classic Spark session at most, and one kind of session functions of pyspark, so a test that
    needs a classic session of its own beside the running engine starts it there.

    Args:
        keeps_spark: Spark starts with the process, and `classic_engine` gives what runs already.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_forget_connect_mode) as pool:
        if keeps_spark:
            pool.submit(_keep_spark)  # what is run later finds it, or fails to start it and says why
        yield lambda function, *args: pool.submit(function, *args).result()


def _forget_connect_mode() -> None:
    os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)


def _keep_spark() -> None:
    classic_engine()  # which ends with the process


def classic_engine() -> Any:
    """A classic Spark engine with Delta, to be stopped by the caller; for functions that run in their own process."""
    from r2d2.session import open_engine

    return open_engine(AuditConfig(lake="unused", out="unused", engine="spark", master="local[2]"))
