"""Stage *near*: pairs of tables with a high, partial overlap, and the smallest difference that explains each.

Estimates from samples, for people: nothing is refuted or asserted here.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.model import leaf_key, leaf_path
from r2d2.near.answers import NO_PARENT
from r2d2.near.difference import Finding, NearDuplicate, near_duplicate, smallest_difference
from r2d2.near.estimates import Extent, Interval, Overlap
from r2d2.near.job import sample_tables
from r2d2.near.plan import SketchPlan, plan_sketches
from r2d2.scan.stored import VERIFY, read_graph

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.store.stages import StageStore

NEAR = "near"
"""Name of the stage."""

_INTERVAL = pa.struct([("estimate", pa.float64()), ("low", pa.float64()), ("high", pa.float64())])
NEAR_PAIRS = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("difference", pa.string()),
        ("containment", _INTERVAL),
        ("differing", pa.list_(pa.string())),
        ("columns", pa.list_(pa.string())),
        ("rows_only_in_child", _INTERVAL),
        ("sampled", pa.int64()),
    ]
)
_EDGES = pa.schema([("child", pa.int32()), ("parent", pa.int32()), ("relation", pa.string())])

Ends = tuple[int, int]


def run_near(run: StageRun, graph_stage: str, threshold: float) -> dict[str, int]:
    """Store the near-duplicates among the tables that take part; tables that fail on the way are stored too.

    Of equal tables only the first takes part.

    Args:
        run: The audit, whose containments are verified.
        graph_stage: Whose schema classes are compared.
        threshold: Least estimated containment, above 0 and below 1.

    Returns:
        The pairs, and bytes that were read.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    edges = run.store.read_table(VERIFY, "edges", _EDGES).to_pylist()
    copies = {max(edge["child"], edge["parent"]) for edge in edges if edge["relation"] == "equal"}
    harvests = {
        table: harvest for table, harvest in run.inventory.active() if table not in copies and harvest.rows != 0
    }
    plan = plan_sketches(graph, harvests, run.config.lane_keys, run.config.sketch_rows)
    spark = run.engine.spark
    sampled = sample_tables(spark, harvests, plan.sketchings, threshold, run.kernels, run.engine_frames(spark))
    run.fail(NEAR, sampled.faults)
    verified = {(edge["child"], edge["parent"]) for edge in edges}
    rows_of = {table: harvest.rows for table, harvest in harvests.items()}
    pairs = near_duplicates(sampled.answers, plan, verified, rows_of)
    rows = [
        {
            **dataclasses.asdict(pair),
            "differing": [leaf_key(path) for path in pair.differing],
            "columns": [leaf_key(path) for path in pair.columns],
        }
        for pair in pairs
    ]
    run.store.write_table(NEAR, "pairs", pa.Table.from_pylist(rows, schema=NEAR_PAIRS))
    counts = {"pairs": len(pairs), "bytes_read": sampled.bytes_read}
    run.store.commit(NEAR, counts)
    return counts


def read_near(store: StageStore) -> list[NearDuplicate]:
    """The stored near-duplicates, sorted by child and parent; none where the stage did not run."""
    rows = store.read_table(NEAR, "pairs", NEAR_PAIRS).to_pylist()
    return sorted((_near_duplicate(row) for row in rows), key=lambda pair: (pair.child, pair.parent))


def _near_duplicate(row: Mapping[str, Any]) -> NearDuplicate:
    paths = {name: tuple(leaf_path(key) for key in row[name]) for name in ("differing", "columns")}
    intervals = {name: Interval(**row[name]) for name in ("containment", "rows_only_in_child")}
    return NearDuplicate(**{**row, **paths, **intervals})


def near_duplicates(
    answers: Sequence[Mapping[str, Any]],
    plan: SketchPlan,
    verified: set[Ends],
    rows_of: Mapping[int, int | None],
) -> list[NearDuplicate]:
    """The near-duplicates that overlaps show, by child and parent.

    Args:
        answers: Rows of ANSWERS.
        plan: Names their buckets.
        verified: Containments, which are no near-duplicates.
        rows_of: Rows by table, where known.
    """
    distinct: dict[int, Interval] = {}
    findings: dict[Ends, list[Finding]] = defaultdict(list)
    for row in answers:
        comparison, choice = plan.of_bucket(row["bucket"])
        extent = Extent(kept=row["kept"], limit=int(row["limit"]) if row["limit"] else None)
        ends = (row["child"], row["parent"])
        if row["parent"] == NO_PARENT:
            distinct[row["child"]] = extent.distinct()
        elif ends not in verified:
            left_out = tuple(comparison.paths[place] for place in choice)
            columns = tuple(path for path in comparison.paths if path not in left_out)
            seen = Overlap(sampled=row["sampled"], matched=row["matched"], whole=row["whole"])
            findings[ends].append(Finding(left_out=left_out, columns=columns, extent=extent, overlap=seen))
    chosen = {ends: smallest_difference(own, distinct[ends[0]]) for ends, own in sorted(findings.items())}
    return [near_duplicate(*ends, found, rows_of.get(ends[0])) for ends, found in chosen.items() if found is not None]
