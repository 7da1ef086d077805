"""Whole audits whose kernels run in processes of their own: the same results, and clear ends where one is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r2d2 import session, workers
from r2d2.errors import EngineError
from r2d2.session import Engine
from r2d2.store.results import RESULT_SCHEMAS, read_results
from tests.integration import lake_makers as makers
from tests.integration.audit_helpers import run_audit


def write_lake(lake: Path) -> None:
    makers.write_lake(random.Random(9), makers.random_lake(random.Random(5), 14), lake)


@pytest.fixture
def with_workers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lakes of any size get workers, where the engine runs in this process."""
    if engine.runs_here:
        monkeypatch.setattr(session, "LEAST_WORKER_BYTES", 0)
    yield
    workers.close()


def results_of(lake: Path, out: Path, engine: Engine, **options: Any) -> dict[str, list[dict[str, Any]]]:
    run_audit(lake, out, spark=engine.spark, lane_keys=(5, 6), **options)
    tables, _ = read_results(str(out))
    return {name: tables[name].to_pylist() for name in RESULT_SCHEMAS}


def worker_processes() -> list[int]:
    return [worker.process.pid for worker in workers._POOL._all]


@pytest.mark.parametrize("reader", ["auto", "engine"])
def test_where_kernels_run_changes_no_result(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """The second audit starts the workers."""
    write_lake(tmp_path / "lake")
    options = {"reader": reader, "near": 0.8, "sketch_rows": 16, "whole_rows": 0}
    found = {}
    for least in (1 << 60, 0):
        monkeypatch.setattr(session, "LEAST_WORKER_BYTES", least)
        found[least] = results_of(tmp_path / "lake", tmp_path / f"out{least}", engine, **options)
        assert bool(worker_processes()) == (engine.runs_here and not least)
        for rows in found[least].values():
            for row in rows:  # key lists lie in the folder of the results
                for name in ("setup_sql", "recipe_sql"):
                    row[name] = str(row.get(name)).replace(f"out{least}", "out")
    workers.close()
    one, other = found.values()
    for name in RESULT_SCHEMAS:
        assert one[name] == other[name], name
    assert all(one[name] for name in ("edges", "recipes", "near")), "there is something to compare"


def test_a_killed_worker_ends_the_audit(engine: Engine, tmp_path: Path, with_workers: None) -> None:
    """Not with fewer results: what it was at is not known."""
    if not engine.runs_here:
        return
    write_lake(tmp_path / "lake")
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.5):
            for worker in [worker for worker in workers._POOL._all if worker._is_ready]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(EngineError, match="a process in which kernels run has ended"):
            run_audit(tmp_path / "lake", tmp_path / "out", spark=engine.spark)
    finally:
        stop.set()
        killer.join()
    assert not (tmp_path / "out" / "summary.json").exists()
    run_audit(tmp_path / "lake", tmp_path / "out", spark=engine.spark)
    assert worker_processes()
