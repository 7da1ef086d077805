"""Makes lakes, runs peers on them and keeps what they cost and found.

    python -m benchmarks.run --shape mixed --scale 0.1 --peers r2d2 scan hash-sets
    python -m benchmarks.run --quick --results build/bench     what `make bench` runs
    python -m benchmarks.run --all                             everything, for hours

Every run is a process of its own, one at a time, and its answer is compared with the lake's truth before its time
counts. R2D2 is timed with the session up; what a cold start costs beside that is kept too. Peers that judge pair by
pair judge pairs in random order until their budget is spent, and their time is extrapolated to all pairs. Results go
to RESULTS/SHAPE-SCALE.json, where a peer's new run replaces its old one; `python -m benchmarks.report` makes pages and
plots of them. Peers outside the project's environment need `benchmarks/environments.sh` once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.lakes.lake import FACTS, Facts, read_facts, read_truth, write_lake
from benchmarks.lakes.shapes import SHAPES
from benchmarks.peers.__main__ import from_json
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.peers.tables import Answer, Edge
from benchmarks.process_tree import Finished, run_watched
from r2d2.scan.duck import quote_name, quote_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
STANDARD = ("r2d2", "r2d2-pairs", "scan", "hash-sets", "minmax-except", "except")
QUICK = {
    "mixed": 0.1, "one_schema": 0.05, "daily": 0.05, "tiny": 0.03, "snapshots": 0.1, "big": 0.01, "wide": 0.2,
    "texts": 0.2, "skew": 0.05, "tpch": 0.02,
}  # fmt: skip
QUICK_BUDGET_SECONDS, QUICK_TIMEOUT_SECONDS = 5.0, 120.0
KEPT_FACTS = (
    "bytes_read", "cold_start_seconds", "column_sets", "counts", "judged_column_sets", "judged_pairs", "lake_bytes",
    "minmax_seconds", "pairs_left", "sampled_columns", "sampled_rows", "schema_stages", "stages",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Found pairs beside the truth; among the pairs that were judged, where not all were."""

    judged: int | None
    true: int
    found: int
    missed: int
    wrong: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a peer.

    Attributes:
        seconds: For all pairs, with the session up.
        extrapolated: Not all pairs were judged.
        cpu_seconds, read_bytes: Of the timed part and, but for R2D2, what it starts for it; not extrapolated.
        wall_seconds, process_cpu_seconds, peak_rss_bytes: Of the whole process tree.
        sets, bags: What it found; None where it looks for none.
        wrong_proposals: Deletions that it proposes whose table is not contained, as a bag, in a named parent, nor in
            several of them together.
    """

    peer: str
    status: str
    started: str
    machine: Mapping[str, Any]
    seconds: float | None = None
    extrapolated: bool = False
    cpu_seconds: float | None = None
    read_bytes: int | None = None
    wall_seconds: float | None = None
    process_cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    pairs: int | None = None
    sets: Quality | None = None
    bags: Quality | None = None
    proposals: int | None = None
    wrong_proposals: int | None = None
    versions: Mapping[str, str] | None = None
    facts: Mapping[str, Any] | None = None


def run_peer(name: str, folder: Path, *, threads: int, budget_seconds: float, timeout_seconds: float) -> Run:
    """Run a peer in a process of its own and judge its answer."""
    peer, facts = PEERS[name], read_facts(folder)
    begun: dict[str, Any] = {
        "peer": name,
        "started": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}",
        "machine": machine(),
    }
    python = python_of(peer)
    if not python.exists():
        return Run(**begun, status=f"left out: no environment {peer.environment}; run benchmarks/environments.sh")
    if peer.most_pairs is not None and facts.schema_pairs > peer.most_pairs:
        return Run(**begun, status=f"left out: it lists all pairs, here {facts.schema_pairs:,}")
    with tempfile.TemporaryDirectory(prefix="r2d2-bench-") as scratch:
        out, log = Path(scratch) / "answer.json", Path(scratch) / "log"
        command = [str(python), "-m", "benchmarks.peers", name, str(folder), "--out", str(out)]
        command += ["--threads", str(threads), "--budget", str(budget_seconds)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": str(python), "TMPDIR": scratch}
        finished = run_watched(command, timeout_seconds=timeout_seconds, log=log, env=environment)
        if finished.status != 0 or not out.exists():
            return Run(**begun, **cost_of(finished), status=failure(finished, log, timeout_seconds))
        answer, versions = from_json(out.read_text())
    return Run(**begun, **cost_of(finished), status="ok", versions=versions, **judged(peer, answer, folder))


def python_of(peer: Peer) -> Path:
    """The interpreter of a peer's environment."""
    if peer.environment is None:
        return Path(sys.executable)
    return ROOT / ".tools" / "bench" / peer.environment / "bin" / "python"


def cost_of(finished: Finished) -> dict[str, Any]:
    return {
        "wall_seconds": round(finished.wall_seconds, 2),
        "process_cpu_seconds": round(finished.cpu_seconds, 2),
        "peak_rss_bytes": finished.peak_rss_bytes,
    }


def failure(finished: Finished, log: Path, timeout_seconds: float) -> str:
    """Why a run has no answer: the type of the error that its log ends with."""
    if finished.status == -9:
        late = finished.wall_seconds > timeout_seconds
        return f"stopped after {timeout_seconds:.0f} s" if late else "killed, most likely for want of memory"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"failed: {lines[-1].split(':')[0][:80] if lines else finished.status}"


def judged(peer: Peer, answer: Answer, folder: Path) -> dict[str, Any]:
    """An answer beside the truth, as attributes of a run."""
    sets, bags = read_truth(folder, bag=False), read_truth(folder, bag=True)
    found_sets, found_bags = (None, answer.edges) if peer.bag else (answer.edges, answer.bag_edges)
    wrong = [
        table
        for table, parents in answer.proposals
        if not any((table, parent) in bags for parent in parents) and not held_together(folder, table, parents)
    ]
    facts = {name: answer.facts[name] for name in KEPT_FACTS if name in answer.facts}
    return {
        "seconds": round(answer.seconds, 3),
        "extrapolated": answer.asked is not None,
        "cpu_seconds": round(answer.facts["cpu_seconds"], 2),
        "read_bytes": answer.facts["read_bytes"],
        "pairs": answer.pairs,
        "sets": quality(found_sets, sets, answer.asked),
        "bags": quality(found_bags, bags, answer.asked),
        "proposals": len(answer.proposals) if answer.bag_edges is not None else None,
        "wrong_proposals": len(wrong) if answer.bag_edges is not None else None,
        "facts": facts,
    }


def held_together(folder: Path, table: str, parents: Sequence[str]) -> bool:
    """Whether some tables of a lake hold the bag of a table's rows together: the truth names single parents only."""
    if len(parents) < 2:
        return False
    with duckdb.connect() as connection:
        child, *others = (stored_rows(folder / "tables" / name) for name in (table, *parents))
        columns = ", ".join(map(quote_name, connection.sql(f"FROM {child}").columns))
        union = " UNION ALL ".join(f"SELECT {columns} FROM {other}" for other in others)
        return not connection.sql(f"SELECT {columns} FROM {child} EXCEPT ALL ({union}) LIMIT 1").fetchall()


def stored_rows(table: Path) -> str:
    """The rows of a table, a file or a folder of them, as a relation of DuckDB's SQL."""
    files = sorted(table.rglob("*.parquet")) if table.is_dir() else [table]
    return f"read_parquet([{', '.join(quote_text(str(file)) for file in files)}], hive_partitioning = false)"


def quality(found: frozenset[Edge] | None, truth: set[Edge], asked: frozenset[Edge] | None) -> Quality | None:
    """Found pairs beside the true ones among those asked; None where nothing was looked for."""
    if found is None:
        return None
    true = truth if asked is None else truth & asked
    return Quality(
        judged=None if asked is None else len(asked),
        true=len(true),
        found=len(found),
        missed=len(true - found),
        wrong=len(found - true),
    )


def machine() -> dict[str, Any]:
    """What the run ran on, and how busy that was before it."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def median_run(runs: Sequence[Run]) -> Run:
    """The run of middle time, one that failed before all others."""
    failed = [run for run in runs if run.seconds is None]
    if failed:
        return failed[0]
    middle = statistics.median_low([run.seconds for run in runs if run.seconds is not None])
    return next(run for run in runs if run.seconds == middle)


def make_lake(shape: str, scale: float, seed: int, lakes: Path) -> Path:
    """The folder of a lake, which is made where it is not there."""
    folder = lakes / f"{shape}-{scale:g}-{seed}"
    if not (folder / FACTS).exists():
        say(f"{shape} at {scale:g}: making the lake")
        folder.mkdir(parents=True, exist_ok=True)
        write_lake(SHAPES[shape].tables(scale, seed), folder, shape=shape, scale=scale, seed=seed)
    return folder


def run_shape(shape: str, scale: float, peers: Sequence[str], options: argparse.Namespace) -> None:
    """Run peers on a lake, in turn where there are repetitions, and store the runs."""
    folder = make_lake(shape, scale, options.seed, options.lakes)
    facts = read_facts(folder)
    say(f"{shape} at {scale:g}: {facts.tables:,} tables, {facts.bytes / 1e6:,.0f} MB, {facts.schema_pairs:,} pairs")
    runs: dict[str, list[Run]] = {name: [] for name in peers}
    for _ in range(options.repeat):
        for name in peers:
            run = run_peer(
                name, folder, threads=options.threads, budget_seconds=options.budget, timeout_seconds=options.timeout
            )
            runs[name].append(run)
            say(f"  {name:14} {told(run)}")
    store(options.results / f"{shape}-{scale:g}.json", facts, {name: made for name, made in runs.items() if made})


def told(run: Run) -> str:
    """A run in a line."""
    if run.seconds is None:
        return run.status
    found = run.sets or run.bags
    words = "" if found is None else f"{found.true} true, {found.missed} missed, {found.wrong} wrong"
    return f"{'~' if run.extrapolated else ''}{run.seconds:,.2f} s, {run.cpu_seconds} s of CPU, {words}"


def store(path: Path, facts: Facts, runs: Mapping[str, Sequence[Run]]) -> None:
    """Put runs into a result file; those of other peers on the same lake stay."""
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    kept = old.get("runs", {}) if old.get("lake") == asdict(facts) else {}
    new = {
        name: {**asdict(median_run(made)), "all_seconds": [run.seconds for run in made]} for name, made in runs.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"lake": asdict(facts), "runs": {**kept, **new}}, indent=1, sort_keys=True) + "\n")


def say(line: str) -> None:
    print(line, flush=True)


def asked_for(options: argparse.Namespace) -> Iterator[tuple[str, float, Sequence[str]]]:
    """Shapes, their scales, and the peers to run on each."""
    shapes = options.shape or (SHAPES if options.all or options.quick else ())
    for shape in shapes:
        default = QUICK[shape] if options.quick else 1.0
        peers = options.peers or (tuple(PEERS) if options.all else STANDARD)
        extra = ("paper",) if options.quick and not options.peers and shape in ("snapshots", "tpch") else ()
        yield shape, options.scale or default, (*peers, *extra)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "\n".join(
        [
            "shapes:",
            *(f"  {name:14} {shape.says}" for name, shape in SHAPES.items()),
            "peers:",
            *(f"  {name:14} {peer.says}" for name, peer in PEERS.items()),
        ]
    )
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        epilog=names,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lakes = Path(tempfile.gettempdir()) / "r2d2-benchmarks"
    made.add_argument("--shape", nargs="+", choices=SHAPES, metavar="SHAPE", help="shapes to run")
    made.add_argument("--scale", type=float, help="share of the full size (default: 1, with --quick small ones)")
    made.add_argument("--peers", nargs="+", choices=PEERS, metavar="PEER", help=f"default: {' '.join(STANDARD)}")
    made.add_argument("--all", action="store_true", help="all peers, and all shapes unless --shape names some")
    made.add_argument("--quick", action="store_true", help="small scales, in a quarter of an hour")
    made.add_argument(
        "--repeat", type=int, default=1, help="runs of each peer, in turn; the median counts (default: 1)"
    )
    made.add_argument("--budget", type=float, help="seconds for peers that judge pair by pair (default: 60)")
    made.add_argument("--timeout", type=float, help="seconds after which any run is stopped (default: 7200)")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    made.add_argument("--seed", type=int, default=0, help="of the lakes (default: 0)")
    made.add_argument("--lakes", type=Path, default=lakes, help=f"folder that keeps the lakes (default: {lakes})")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder for results (default: benchmarks/results)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    command = parser()
    options = command.parse_args(arguments)
    if not (options.shape or options.all or options.quick):
        command.error("nothing to run: give --shape, --quick or --all")
    options.budget = options.budget or (QUICK_BUDGET_SECONDS if options.quick else 60.0)
    options.timeout = options.timeout or (QUICK_TIMEOUT_SECONDS if options.quick else 7200.0)
    for shape, scale, peers in asked_for(options):
        run_shape(shape, scale, peers, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
