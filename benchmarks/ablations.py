"""What each stage before verification saves: whole audits with one of them left out.

    python -m benchmarks.ablations --scale 0.1

Stages before verification only refute pairs, or prove them from files, so leaving one out must not change what is
found, only what it costs; each answer is compared with the lake's truth. The schema graph cannot be left out: without
it no columns are there to compare. On Sail the kernels are threads of the audit's own process, so an ablation replaces
functions of the stages in that process; R2D2 needs no switch for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.lakes.columns import Column, key_columns, words
from benchmarks.lakes.lake import FACTS, Table, read_facts, write_lake
from benchmarks.lakes.plan import Plan, tables_of
from benchmarks.lakes.rows import Rows, codes_of
from benchmarks.lakes.shapes import SHAPES, times
from benchmarks.peers.__main__ import as_json, from_json
from benchmarks.peers.registry import PEERS
from benchmarks.peers.tables import Task
from benchmarks.process_tree import run_watched
from benchmarks.run import RESULTS, ROOT, cost_of, failure, judged, machine, say

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.model import Harvest

RESULT = "ablations.json"


# ---- lakes


def many_files(scale: float, seed: int) -> list[Table]:
    """Tables of eight days, a file each, the first and last ones common to all: ranges of files refute, of tables not.

    One in five has the first halves of the days of the table before it.
    """
    rng = np.random.default_rng(seed)
    few_words = (Column(f"word_{place}", partial(words, seed=10 + place)) for place in range(6))
    columns = (*key_columns(scatter=False), *few_words)
    per_day = times(2_000, scale, 20)
    tables: list[Table] = []
    for number in range(times(200, scale**0.5, 10)):
        days = np.sort(np.append(rng.choice(np.arange(1, 63), 6, replace=False), [0, 63])).astype(np.int64) * per_day
        rows = Rows.of_ranges(codes_of(days), codes_of(days + per_day))
        if number % 5 == 4:
            rows = Rows.of_ranges(tables[-1].layers[0].starts, tables[-1].layers[0].starts + per_day // 2)
        tables.append(Table(name=f"days-{number:03}", columns=columns, layers=(rows,), files=len(days)))
    return tables


def clones(scale: float, seed: int) -> list[Table]:
    """Delta tables in groups: one of eight files, clones of all or some of them, one with a file of its own beside."""
    plan = Plan(
        tables=times(50, scale**0.5, 3), families=times(50, scale**0.5, 3), rows=times(80_000, scale, 200),
        contained=0, near=0,
    )  # fmt: skip
    made = []
    for source in tables_of(plan, seed):
        codes = source.layers[0].expand()
        parts = np.array_split(codes, 8)
        first = replace(source, files=8, delta=True)
        some = Rows.of_codes(np.concatenate(parts[:5]))
        fresh = codes_of(np.arange(len(parts[0]), dtype=np.int64) + (1 << 30), family=source.family)
        made += [
            first,
            replace(first, name=f"{source.name}-all", adopts=(source.name, 8)),
            replace(first, name=f"{source.name}-some", layers=(some,), files=5, adopts=(source.name, 5)),
            replace(first, name=f"{source.name}-more", layers=(source.layers[0] | Rows.of_codes(fresh),), files=9,
                    adopts=(source.name, 8)),
        ]  # fmt: skip
    return made


LAKES: Mapping[str, Callable[[float, int], list[Table]]] = {
    "mixed": SHAPES["mixed"].tables,
    "one_schema": SHAPES["one_schema"].tables,
    "many_files": many_files,
    "clones": clones,
}


# ---- stages left out


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A stage left out.

    Attributes:
        says: For people.
        replaced: Module, name of its function, and what stands in for it.
    """

    says: str
    replaced: tuple[tuple[str, str, Callable[..., Any]], ...] = ()


def evidence_without_claims(harvest: Harvest, *, utc: bool, suspects: frozenset[Any]) -> bytes:
    """What is known of a table when no statistics are."""
    from r2d2.prune.evidence import packed_evidence

    return packed_evidence(replace(harvest, claims=()), utc=utc, suspects=suspects)


def no_files(*_: Any) -> bool:
    """No pair is looked at file by file."""
    return False


def nothing(*_: Any) -> tuple[()]:
    """No pair shares files."""
    return ()


def no_pages(*_: Any) -> Any:
    """No page of a file is read."""
    from r2d2.prune.page_stage import PageVerdicts

    return PageVerdicts()


def all_survive(run: StageRun, _graph: str, _evidence: str, pairs_stage: str) -> dict[str, int]:
    """MinHash that looks at no row: every pair survives."""
    from r2d2.scan.stored import MINHASH, read_pairs, write_leaves, write_pairs, write_verdicts

    pairs = read_pairs(run.store, pairs_stage)
    write_verdicts(run.store, MINHASH, {})
    write_leaves(run.store, MINHASH, "lies", ())
    write_leaves(run.store, MINHASH, "hidden_nans", ())
    write_pairs(run.store, MINHASH, pairs)
    counts = {"pairs": len(pairs), "lies": 0, "bytes_read": 0}
    run.store.commit(MINHASH, counts)
    return counts


ABLATIONS: Mapping[str, Ablation] = {
    "none": Ablation(says="nothing left out"),
    "min-max": Ablation(
        says="no statistics", replaced=(("r2d2.prune.stage", "_evidence_of", evidence_without_claims),)
    ),
    "boxes": Ablation(says="no look at single files", replaced=(("r2d2.prune.blocks", "has_files", no_files),)),
    "pages": Ablation(
        says="no dictionaries and bounds of pages", replaced=(("r2d2.prune.page_stage", "refuted_by_pages", no_pages),)
    ),
    "MinHash": Ablation(says="no samples", replaced=(("r2d2.pipeline", "run_minhash", all_survive),)),
    "file identity": Ablation(
        says="shared files prove nothing",
        replaced=(("r2d2.prune.stage", "identities", nothing), ("r2d2.prune.stage", "sharing_pairs", nothing)),
    ),
}


@contextlib.contextmanager
def left_out(ablation: Ablation) -> Iterator[None]:
    """Replace the functions of an ablation while the block runs.

    Raises:
        AttributeError: If R2D2 has no such function.
    """
    import importlib

    with contextlib.ExitStack() as stack:
        for module_name, name, stand_in in ablation.replaced:
            module = importlib.import_module(module_name)
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, stand_in)
        yield


# ---- runs


def run_ablation(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One audit in a process of its own, as a dictionary for the result file."""
    with tempfile.TemporaryDirectory(prefix="r2d2-bench-") as scratch:
        out, log = Path(scratch) / "answer.json", Path(scratch) / "log"
        command = [sys.executable, "-m", "benchmarks.ablations", "--only", name, str(folder), str(out)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": scratch}
        begun = machine()
        finished = run_watched(command, timeout_seconds=options.timeout, log=log, env=environment)
        if finished.status != 0:
            return {"status": failure(finished, log, options.timeout), "machine": begun}
        answer, versions = from_json(out.read_text())
    found = judged(PEERS["r2d2"], answer, folder)
    quality = {side: found[side] and asdict(found[side]) for side in ("sets", "bags")}
    return {"status": "ok", "machine": begun, "versions": versions, **cost_of(finished), **found, **quality}


def audit_without(name: str, folder: Path, out: Path, threads: int) -> None:
    """Audit a lake in this process and write the answer."""
    from benchmarks.peers.r2d2_audit import r2d2_audit

    with left_out(ABLATIONS[name]):
        answer = r2d2_audit(Task(folder=folder, threads=threads, budget_seconds=0), "sail")
    out.write_text(as_json(answer))


def make_lake(shape: str, scale: float, lakes: Path) -> Path:
    """The folder of a lake of this module, which is made where it is not there."""
    folder = lakes / f"ablation-{shape}-{scale:g}"
    if not (folder / FACTS).exists():
        say(f"{shape} at {scale:g}: making the lake")
        folder.mkdir(parents=True, exist_ok=True)
        write_lake(LAKES[shape](scale, 0), folder, shape=shape, scale=scale, seed=0)
    return folder


def run_lake(shape: str, options: argparse.Namespace) -> dict[str, Any]:
    """All ablations on one lake, in turn where there are repetitions; the median counts."""
    folder = make_lake(shape, options.scale, options.lakes)
    facts = read_facts(folder)
    say(f"{shape}: {facts.tables:,} tables, {facts.bytes / 1e6:,.0f} MB, {facts.edges:,} containments")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ABLATIONS}
    for _ in range(options.repeat):
        for name, made in runs.items():
            made.append(run_ablation(name, folder, options))
            say(f"  without {name:14} {made[-1].get('seconds', made[-1]['status'])}")
    return {"lake": asdict(facts), "runs": {name: median(made) for name, made in runs.items()}}


def median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run of middle CPU time, one that failed before all others."""
    failed = [run for run in runs if run["status"] != "ok"]
    if failed:
        return failed[0]
    middle = statistics.median_low([run["cpu_seconds"] for run in runs])
    return next(run for run in runs if run["cpu_seconds"] == middle)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size of the lakes (default: 1)")
    parser.add_argument("--lake", nargs="+", choices=LAKES, default=list(LAKES), metavar="LAKE", help=" ".join(LAKES))
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turn; the median counts (default: 1)")
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds after which a run is stopped")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--lakes", type=Path, default=Path(tempfile.gettempdir()) / "r2d2-benchmarks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for ablations.json")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        name, folder, out = options.only
        audit_without(name, Path(folder), Path(out), options.threads)
        return 0
    path = options.results / RESULT
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for shape in options.lake:
        stored[shape] = run_lake(shape, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
