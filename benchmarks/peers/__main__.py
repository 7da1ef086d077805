"""Runs one peer on a lake in this process and writes its answer as JSON: `python -m benchmarks.run` calls it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

from benchmarks.peers.registry import PEERS
from benchmarks.peers.tables import Answer, Task
from benchmarks.process_tree import tree_use

PACKAGES = (
    "r2d2-lake", "duckdb", "pyarrow", "numpy", "pandas", "pyspark", "pysail", "datasketch", "datacompy", "desbordante",
)  # fmt: skip
PAIRS = ("edges", "bag_edges", "asked")


def versions() -> dict[str, str]:
    """Versions of what matters here and is installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def as_json(answer: Answer) -> str:
    """An answer as text."""
    pairs = {name: getattr(answer, name) for name in PAIRS}
    listed = {name: None if found is None else sorted(found) for name, found in pairs.items()}
    return json.dumps({**vars(answer), **listed, "versions": versions()})


def from_json(text: str) -> tuple[Answer, dict[str, str]]:
    """The answer that a text holds, and the versions that gave it."""
    raw = json.loads(text)
    used = raw.pop("versions")
    for name in PAIRS:
        raw[name] = None if raw[name] is None else frozenset(map(tuple, raw[name]))
    raw["proposals"] = tuple((table, tuple(parents)) for table, parents in raw["proposals"])
    return Answer(**raw), used


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=60.0)
    options = parser.parse_args()
    task = Task(folder=options.folder, threads=options.threads, budget_seconds=options.budget)
    cpu_seconds, read_bytes = tree_use()
    answer = PEERS[options.peer].run(task)
    used = tree_use()
    facts = {"cpu_seconds": used[0] - cpu_seconds, "read_bytes": used[1] - read_bytes, **answer.facts}
    options.out.write_text(as_json(Answer(**{**vars(answer), "facts": facts})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
