"""R2D2 itself: a whole audit with the session up; what the session and the first audit cost beside that is told."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.tables import Answer, Task
from benchmarks.process_tree import seconds_since_start, tree_use


def r2d2_audit(task: Task, engine: str, *, no_unions: bool = False) -> Answer:
    """A warm-up audit of one table from a cold process, the same again, then the audit that counts."""
    from r2d2.config import AuditConfig, default_memory_bytes
    from r2d2.pipeline import audit
    from r2d2.session import open_engine

    with tempfile.TemporaryDirectory(prefix="r2d2-bench-") as scratch:
        folder = Path(scratch)
        one = folder / "one"
        one.mkdir()
        pq.write_table(pa.table({"x": [1, 2, 3]}), one / "table.parquet")

        def config(lake: Path, out: str) -> AuditConfig:
            master = f"local[{task.threads}]" if engine == "spark" else None
            return AuditConfig(
                lake=str(lake),
                out=str(folder / out),
                engine=engine,
                master=master,
                kernel_threads=task.threads,
                memory_bytes=default_memory_bytes(),
                no_unions=no_unions,
            )

        with open_engine(config(one, "unused")) as opened:
            audit(config(one, "cold"), spark=opened.spark)
            cold = seconds_since_start()
            begun = time.monotonic()
            audit(config(one, "warm"), spark=opened.spark)
            warm = time.monotonic() - begun
            cpu_seconds, read_bytes = tree_use()
            begun = time.monotonic()
            finished = audit(config(task.tables_folder, "results"), spark=opened.spark)
            seconds = time.monotonic() - begun
            used = tree_use()
        answer = answer_of(folder / "results", dict(finished.summary), seconds)
    cost = {"cpu_seconds": used[0] - cpu_seconds, "read_bytes": used[1] - read_bytes}
    return replace(answer, facts={**answer.facts, **cost, "cold_start_seconds": cold - warm})


def answer_of(out: Path, summary: dict[str, Any], seconds: float) -> Answer:
    """What an audit found, from its results."""
    from r2d2.store.results import read_results

    tables, _ = read_results(str(out))
    edges = tables["edges"].to_pylist()
    facts = {name: summary[name] for name in ("counts", "stages", "bytes_read", "lake_bytes", "versions")}
    return Answer(
        edges=frozenset((edge["child"], edge["parent"]) for edge in edges),
        bag_edges=frozenset((edge["child"], edge["parent"]) for edge in edges if edge["bag"]),
        proposals=tuple((row["table"], tuple(row["parents"])) for row in tables["proposals"].to_pylist()),
        seconds=seconds,
        pairs=summary["counts"]["schema_pairs"],
        facts=facts,
    )
