"""What a process and all that it starts use, from /proc; Linux only."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one process has used so far.

    Attributes:
        cpu_seconds: User and system time, its waited-for children left out.
        rss_bytes: Resident memory now.
        read_bytes: Bytes that it asked to read, cached or not; memory-mapped files are not among them.
    """

    cpu_seconds: float
    rss_bytes: int
    read_bytes: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A process tree that has ended.

    Attributes:
        cpu_seconds: Of all its processes; what one used in the last tenth of a second before its end is missing, but
            for the first process and those that it waited for.
        peak_rss_bytes: The largest sum over its processes, looked at ten times a second.
    """

    status: int
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


def run_watched(command: Sequence[str], *, timeout_seconds: float, log: Path, env: Mapping[str, str]) -> Finished:
    """Run a command, its output to a file, and watch its process tree; killed with all its processes on timeout."""
    started = time.monotonic()
    cpu: dict[int, float] = {}
    peak = 0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=dict(env), start_new_session=True
        )
    while True:
        used = tree(process.pid)
        cpu |= {pid: usage.cpu_seconds for pid, usage in used.items()}
        peak = max(peak, sum(usage.rss_bytes for usage in used.values()))
        ended, status, resources = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - started > timeout_seconds:
            kill(used)
        time.sleep(SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Finished(
        status=process.returncode,
        wall_seconds=time.monotonic() - started,
        cpu_seconds=max(resources.ru_utime + resources.ru_stime, sum(cpu.values())),
        peak_rss_bytes=peak,
    )


def kill(pids: Mapping[int, Usage]) -> None:
    """End processes of a tree at once."""
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def tree(root: int) -> dict[int, Usage]:
    """Usage of a process and its descendants; those that end meanwhile are left out."""
    children = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _stat(int(entry))):
            children[int(fields[1])].append(int(entry))
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        if (usage := _usage(pid)) is not None:
            found[pid] = usage
    return found


def tree_use() -> tuple[float, int]:
    """CPU seconds, and bytes asked for, of this process and its living descendants so far."""
    used = tree(os.getpid()).values()
    return sum(usage.cpu_seconds for usage in used), sum(usage.read_bytes for usage in used)


def seconds_since_start() -> float:
    """Seconds since this process was started."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(_stat(os.getpid())[19]) / _TICKS


def _usage(pid: int) -> Usage | None:
    fields = _stat(pid)
    if not fields:
        return None
    return Usage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        rss_bytes=int(fields[21]) * _PAGE,
        read_bytes=_read_bytes(pid),
    )


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
