"""A Spark cluster whose workers get R2D2 with the job, one of which dies in the middle: the results of Sail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from deltalake import write_deltalake

import r2d2
from r2d2.session import delta_package
from tests.integration.audit_helpers import Results, run_audit

pytestmark = [pytest.mark.java, pytest.mark.slow]

JOB = Path(__file__).parents[2] / "jobs" / "audit.py"
SPARK = Path(pyspark.__path__[0])
PATIENCE_SECONDS = 240
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running master and its workers, each with one core, in process groups of their own."""

    url: str
    workers: tuple[subprocess.Popen[bytes], ...]


def clean_environment() -> dict[str, str]:
    """The environment without what would lead workers to this checkout."""
    hidden = ("PYTHONPATH", "SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def until(condition: Callable[[], bool], alive: subprocess.Popen[Any], log: Path) -> None:
    """Wait until something holds, while a process lives."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert alive.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(subprocess.TimeoutExpired):
            alive.wait(timeout=0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(log: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """One of Spark's own classes in a process group of its own, which ends with the block."""
    command = [str(SPARK / "bin" / "spark-class"), *map(str, arguments)]
    with log.open("wb") as words:
        process = subprocess.Popen(
            command,
            stdout=words,
            stderr=words,
            stdin=subprocess.DEVNULL,
            env=clean_environment() | {"SPARK_LOCAL_IP": "127.0.0.1"},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE_SECONDS)


@contextlib.contextmanager
def standalone_cluster(folder: Path) -> Iterator[Cluster]:
    """A master and two workers, all registered."""
    port, page = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    deploy = "org.apache.spark.deploy"
    with contextlib.ExitStack() as stack:
        address = ("--host", "127.0.0.1", "--port", port, "--webui-port", page)
        master = stack.enter_context(started(folder / "master.log", f"{deploy}.master.Master", *address))
        until(lambda: master_says(page) is not None, master, folder / "master.log")
        limits = ("--host", "127.0.0.1", "--webui-port", 0, "--cores", 1, "--memory", "1g")
        workers = tuple(
            stack.enter_context(
                started(
                    folder / f"worker{number}.log",
                    f"{deploy}.worker.Worker",
                    *limits,
                    "--work-dir",
                    folder / f"worker{number}",
                    url,
                )
            )
            for number in range(WORKERS)
        )
        until(lambda: (master_says(page) or {}).get("aliveworkers") == WORKERS, master, folder / "master.log")
        yield Cluster(url=url, workers=workers)


def master_says(page: int) -> dict[str, Any] | None:
    """What the master's page says in JSON; None before it is there, or is still the front page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
            return dict(json.load(answer))
    except (OSError, json.JSONDecodeError):
        return None


# ---- R2D2 as users send it along


def packed_r2d2(folder: Path) -> Path:
    """The package alone, as `--py-files` takes it."""
    archive = folder / "r2d2.zip"
    command = [sys.executable, "-m", "zipfile", "-c", str(archive), "r2d2/"]
    subprocess.run(command, cwd=Path(r2d2.__path__[0]).parent, check=True)
    return archive


def python_without_r2d2(folder: Path) -> Path:
    """A Python with all that R2D2 needs, and without R2D2 itself: no `.pth` file leads to a checkout."""
    script = folder / "python"
    libraries, python = sysconfig.get_path("purelib"), os.path.realpath(sys.executable)
    script.write_text(f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:{libraries}"\nexec "{python}" "$@"\n')
    script.chmod(0o755)
    return script


def imports(python: Path, module: str) -> bool:
    command = [python, "-c", f"import {module}"]
    return subprocess.run(command, cwd="/", env=clean_environment(), capture_output=True, check=False).returncode == 0


def submitted(cluster: Cluster, folder: Path, *arguments: object) -> list[str]:
    """The command, its events logged in `events`."""
    (folder / "events").mkdir()
    settings = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.memory": "512m",
        "spark.cores.max": str(WORKERS),
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": f"{PATIENCE_SECONDS}s",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (folder / "events").as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
        "spark.ui.enabled": "false",
    }
    command = [SPARK / "bin" / "spark-submit", "--master", cluster.url, "--packages", delta_package()]
    command += ["--py-files", packed_r2d2(folder)]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    return [*map(str, command), str(JOB), *map(str, arguments)]


# ---- the audit


def write_lake(lake: Path) -> None:
    rows = pa.table({"id": pa.array(range(50), pa.int64()), "text": [f"row {n % 9}" for n in range(50)]})
    lake.mkdir()
    pq.write_table(rows, lake / "all.parquet")
    pq.write_table(rows.select(["text"]).slice(0, 9), lake / "texts.parquet")
    write_deltalake(str(lake / "delta"), rows.slice(0, 20))
    write_deltalake(str(lake / "delta"), rows.slice(20), mode="append")
    for number in range(6):
        pq.write_table(rows.slice(3 * number, 10), lake / f"part{number}.parquet")


def events_of(folder: Path) -> list[dict[str, Any]]:
    (log,) = (folder / "events").iterdir()
    return [json.loads(line) for line in log.read_text().splitlines()]


def done_tasks(events: list[dict[str, Any]]) -> Counter[str]:
    """Tasks by executor that ended well."""
    ended = [event for event in events if event["Event"] == "SparkListenerTaskEnd"]
    return Counter(e["Task Info"]["Executor ID"] for e in ended if e["Task End Reason"]["Reason"] == "Success")


def proposed(results: Results) -> Mapping[str, tuple[tuple[str, ...], str]]:
    return {row["table"]: (tuple(row["parents"]), row["recipe_kind"]) for row in results.proposals}


def has_finished_a_stage(work: Path) -> bool:
    """Whether a stage has written its mark; `os.walk` passes over folders that Spark removes meanwhile."""
    return any("_done.json" in files for _, _, files in os.walk(work))


def test_the_death_of_a_worker_changes_nothing(tmp_path: Path) -> None:
    write_lake(tmp_path / "lake")
    by_sail = run_audit(tmp_path / "lake", tmp_path / "sail")
    python, log, work = python_without_r2d2(tmp_path), tmp_path / "submit.log", tmp_path / "work"
    assert imports(python, "duckdb")
    assert not imports(python, "r2d2")
    with standalone_cluster(tmp_path) as cluster, log.open("wb") as words:
        lake_and_work = ((tmp_path / "lake").as_uri(), "--out", tmp_path / "spark", "--work", work.as_uri())
        environment = clean_environment() | {"PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1"}
        job = subprocess.Popen(
            submitted(cluster, tmp_path, *lake_and_work), env=environment, cwd=tmp_path, stdout=words, stderr=words
        )
        try:
            until(lambda: has_finished_a_stage(work), job, log)
            kill(cluster.workers[0])
            assert job.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text(errors="replace")[-3000:]
        finally:
            job.kill()
            job.wait()
    by_spark, events = Results.read(tmp_path / "spark"), events_of(tmp_path)
    assert sorted(done_tasks(events)) == ["0", "1"]
    lost = next(number for number, event in enumerate(events) if event["Event"] == "SparkListenerExecutorRemoved")
    assert len(done_tasks(events[lost:])) == 1
    assert by_spark.edge_keys == by_sail.edge_keys
    assert by_spark.not_ok() == by_sail.not_ok() == {}
    assert ("all.parquet", "delta", "equal", True, True, 50, 50) in by_spark.edge_keys
    assert len(by_sail.proposals) == 8
    assert proposed(by_spark) == proposed(by_sail)
