"""An audit that is stopped ends at once with the contract's status and leaves older results as they were."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.store.results import SUMMARY_FILE, read_results

END_SECONDS = 15
BIG_ROWS = 400_000


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lake that is audited in no time and one that takes some seconds."""
    folder = tmp_path_factory.mktemp("lakes")
    small, big = folder / "small", folder / "big"
    small.mkdir()
    big.mkdir()
    rows = pa.table({"a": pa.array(range(BIG_ROWS), pa.int64()), "t": [f"text {i % 9973}" for i in range(BIG_ROWS)]})
    pq.write_table(rows.slice(0, 10), small / "whole.parquet")
    pq.write_table(rows.slice(2, 5), small / "part.parquet")
    pq.write_table(rows, big / "00.parquet")
    for copy in range(1, 12):
        shutil.copy(big / "00.parquet", big / f"{copy:02}.parquet")
    for number in range(100):
        pq.write_table(rows.slice(number, 50), big / f"small {number}.parquet")
    return small, big


IN_WORKERS = "from r2d2 import session; session.LEAST_WORKER_BYTES = 0; from r2d2.cli import main; main()"
"""The command line, with kernels in processes of their own whatever the lake's size."""


@contextlib.contextmanager
def running(lake: Path, out: Path, *, in_workers: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A running audit. It hears Ctrl-C even where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    program = ["-c", IN_WORKERS] if in_workers else ["-m", "r2d2.cli"]
    command = [sys.executable, *program, "audit", str(lake), "--out", str(out), "-v"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read the log until a line has the words."""
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"the audit ended before {words!r}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_over(out: Path) -> list[str]:
    work = out / ".work"
    return os.listdir(work) if work.exists() else []


@pytest.fixture(scope="module")
def audited(lakes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the small lake."""
    out = tmp_path_factory.mktemp("results") / "out"
    finish(lakes[0], out)
    assert left_over(out) == []
    return out


def finish(lake: Path, out: Path) -> None:
    with running(lake, out) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("number", "moment", "in_workers"),
    [
        (signal.SIGINT, "stage session begins", False),
        (signal.SIGTERM, "stage harvest begins", True),
        (signal.SIGINT, "stage MinHash begins", False),
        (signal.SIGINT, "stage MinHash begins", True),
        (signal.SIGTERM, "stage MinHash begins", True),
        (signal.SIGINT, "stage verify begins", False),
    ],
)
def test_a_stopped_audit_leaves_older_results_whole(
    lakes: tuple[Path, Path], audited: Path, tmp_path: Path, number: signal.Signals, moment: str, in_workers: bool
) -> None:
    out = tmp_path / "out"
    shutil.copytree(audited, out)
    older = contents(out)
    with running(lakes[1], out, in_workers=in_workers) as process:
        wait_for(process, moment)
        sent = time.monotonic()
        process.send_signal(number)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert time.monotonic() - sent < END_SECONDS
    assert said == ""
    assert complained.splitlines()[-1] == "r2d2: interrupted; the results folder is as it was before"
    assert "Traceback" not in complained
    assert contents(out) == older
    assert left_over(out) == []
    assert read_results(str(out))[1]["counts"]["tables"] == 2
    assert left_over(out) == []


def test_a_stopped_first_audit_leaves_no_results_and_can_be_repeated(lakes: tuple[Path, Path], tmp_path: Path) -> None:
    small, big = lakes
    out = tmp_path / "out"
    with running(big, out) as process:
        wait_for(process, "stage min-max begins")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (out / SUMMARY_FILE).exists()
    assert left_over(out) == []
    finish(small, out)
    assert read_results(str(out))[1]["counts"]["verified_edges"] == 1


def test_a_killed_audit_does_not_lock_its_folder(lakes: tuple[Path, Path], tmp_path: Path) -> None:
    small, big = lakes
    out = tmp_path / "out"
    with running(big, out, in_workers=True) as process:
        wait_for(process, "stage MinHash begins")
        process.kill()  # the workers, which hold its stderr, end soon after
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    finish(small, out)
    assert read_results(str(out))[1]["counts"]["tables"] == 2
    assert left_over(out) == []
