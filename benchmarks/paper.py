"""The pipeline of the paper that R2D2 began with, as it describes it, on Spark, and the baseline it compares with.

SIGMOD 2024, "R2D2: Reducing Redundancy and Duplication in Data Lakes", arXiv:2312.13427. Three stages remove edges from
a graph of tables: the schema graph, built around cluster centres (SGB); minimum and maximum of each column as the
metadata state them (MMP); and, per edge, one query that looks for a few sampled rows of the child in the parent (CLP).
What is left is most likely, not surely, a containment. The baseline clusters schemas by similarity and compares within
clusters.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.lakes.lake import read_truth
from benchmarks.peers.duck import NOTHING, Bounds, footer_bounds
from benchmarks.peers.spark import quoted, read
from benchmarks.peers.tables import Answer, Edge, PeerTable, Task, groups_of, read_tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SAMPLED_COLUMNS, SAMPLED_ROWS = 4, 10
ROUNDS = 20

Schemas = Mapping[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The graph after a stage, beside the truth.

    Attributes:
        edges: Edges left.
        correct: Of these, the true ones.
        incorrect: Of these, the others.
        undetected: True edges that are missing.
        judged: Edges that the stage looked at; fewer than it was given where its time was up, and then the counts
            are of these alone.
    """

    name: str
    edges: int
    correct: int
    incorrect: int
    undetected: int
    judged: int
    seconds: float


def stage(name: str, edges: Collection[Edge], truth: set[Edge], judged: int, seconds: float) -> Stage:
    correct = len(truth.intersection(edges))
    return Stage(
        name=name,
        edges=len(edges),
        correct=correct,
        incorrect=len(edges) - correct,
        undetected=len(truth) - correct,
        judged=judged,
        seconds=seconds,
    )


# ---- schema graph


def schema_graph(schemas: Schemas) -> set[Edge]:
    """SGB: pairs (child, parent) with the child's columns among the parent's.

    Tables come widest first. One joins the cluster of every centre that has all its columns, or becomes a centre. Two
    tables are compared only within a cluster; no pair is lost, for what holds the parent holds the child too.
    """
    clusters: dict[str, list[str]] = {}
    for table in sorted(schemas, key=lambda name: (-len(schemas[name]), name)):
        centres = [centre for centre in clusters if schemas[table] <= schemas[centre]]
        for centre in centres:
            clusters[centre].append(table)
        if not centres:
            clusters[table] = [table]
    return {edge for members in clusters.values() for edge in fitting_pairs(members, schemas)}


def fitting_pairs(members: Sequence[str], schemas: Schemas) -> set[Edge]:
    """Pairs of some tables with the child's columns among the parent's."""
    return {(c, p) for c in members for p in members if c != p and schemas[c] <= schemas[p]}


def clustered_schema_graph(schemas: Schemas, seed: int) -> set[Edge]:
    """The baseline: k-means over the schemas as vectors of column names; tables are compared within a cluster.

    The number of clusters is the square root of half the number of different schemas.
    """
    classes = sorted(set(schemas.values()), key=sorted)
    names = {name: place for place, name in enumerate(sorted({name for names in classes for name in names}))}
    vectors = np.zeros((len(classes), len(names)), np.float32)
    for place, columns in enumerate(classes):
        vectors[place, [names[name] for name in columns]] = 1
    label = dict(zip(classes, k_means(vectors, max(1, round((len(classes) / 2) ** 0.5)), seed), strict=True))
    clusters: dict[int, list[str]] = {}
    for table, columns in schemas.items():
        clusters.setdefault(label[columns], []).append(table)
    return {edge for members in clusters.values() for edge in fitting_pairs(members, schemas)}


def k_means(vectors: npt.NDArray[np.float32], k: int, seed: int) -> list[int]:
    """Lloyd's algorithm from randomly chosen vectors: the cluster of each vector."""
    centres = vectors[np.random.default_rng(seed).choice(len(vectors), k, replace=False)].copy()
    labels = np.zeros(len(vectors), np.intp)
    for _ in range(ROUNDS):
        distances = (centres**2).sum(1) - 2 * vectors @ centres.T
        labels = distances.argmin(1)
        for cluster in np.unique(labels).tolist():
            centres[cluster] = vectors[labels == cluster].mean(0)
    return [int(label) for label in labels]


# ---- min-max and contents


def in_range(child: Bounds, parent: Bounds, columns: Collection[str]) -> bool:
    """MMP: whether no stated minimum of the child is below the parent's, and no maximum above."""
    for name in columns:
        (low, high, _), (parent_low, parent_high, _) = child[name], parent[name]
        if NOTHING not in (low, parent_low) and (low < parent_low or high > parent_high):
            return False
    return True


def sample_found(
    spark: SparkSession, child: PeerTable, parent: PeerTable, *, columns: int, rows: int, seed: int
) -> bool:
    """CLP: whether some random rows of the child, in some random columns of it, are all in the parent."""
    chosen = sorted(
        random.Random(f"{seed} {child.id} {parent.id}").sample(child.columns, min(columns, len(child.columns)))
    )
    from pyspark.sql import functions as F

    mine = [F.col(quoted(name)).alias(f"c{place}") for place, name in enumerate(chosen)]
    sample = read(spark, child).select(mine).orderBy(F.rand(seed)).limit(rows).alias("child")
    its = read(spark, parent).select(mine).alias("parent")
    match = [F.col(f"child.c{place}").eqNullSafe(F.col(f"parent.c{place}")) for place in range(len(chosen))]
    return sample.join(its, match, "left_anti").isEmpty()


# ---- the whole pipeline


def paper_peer(task: Task, spark: SparkSession, *, columns: int = SAMPLED_COLUMNS, rows: int = SAMPLED_ROWS) -> Answer:
    """All stages on a lake, each beside the truth; the last one stops when the budget is spent and extrapolates."""
    truth = read_truth(task.folder, bag=False)
    begun = time.monotonic()
    tables = {table.id: table for table in read_tables(task.tables_folder)}
    schemas = {name: frozenset(table.columns) for name, table in tables.items()}
    graph, graph_seconds = timed(lambda: schema_graph(schemas), since=begun)
    baseline, baseline_seconds = timed(lambda: clustered_schema_graph(schemas, task.seed))
    fitting = {(c.id, p.id) for group in groups_of(list(tables.values())) for c, p in group.all()}
    begun = time.monotonic()
    bounds = {name: footer_bounds(table) for name, table in tables.items()}
    kept, minmax_seconds = timed(
        lambda: {(c, p) for c, p in graph if in_range(bounds[c], bounds[p], schemas[c])}, since=begun
    )
    found, asked, contents_seconds = sampled(
        task, kept, lambda c, p: sample_found(spark, tables[c], tables[p], columns=columns, rows=rows, seed=task.seed)
    )
    stages = [
        stage("ground truth", truth, truth, len(truth), 0.0),
        stage("SGB", graph, truth, len(graph), graph_seconds),
        stage("MMP", kept, truth, len(graph), minmax_seconds),
        stage("CLP", found, truth if len(asked) == len(kept) else truth & asked, len(asked), contents_seconds),
    ]
    schema_stages = [
        stage("SGB", graph, fitting, len(graph), graph_seconds),
        stage("schema clustering", baseline, fitting, len(baseline), baseline_seconds),
    ]
    return Answer(
        edges=frozenset(found),
        asked=frozenset(asked) if len(asked) < len(kept) else None,
        seconds=graph_seconds + minmax_seconds + contents_seconds,
        pairs=len(fitting),
        facts={
            "sampled_columns": columns,
            "sampled_rows": rows,
            "judged_pairs": len(asked),
            "stages": [asdict(found) for found in stages],
            "schema_stages": [asdict(found) for found in schema_stages],
        },
    )


def timed(work: Callable[[], set[Edge]], *, since: float | None = None) -> tuple[set[Edge], float]:
    begun = time.monotonic() if since is None else since
    return work(), time.monotonic() - begun


def sampled(
    task: Task, edges: Collection[Edge], judge: Callable[[str, str], bool]
) -> tuple[set[Edge], set[Edge], float]:
    """Edges that a judge keeps, those that it was asked, and the time for all of them."""
    order = sorted(edges)
    random.Random(task.seed).shuffle(order)
    found, asked, begun = set(), set(), time.monotonic()
    for edge in order:
        asked.add(edge)
        if judge(*edge):
            found.add(edge)
        if time.monotonic() - begun > task.budget_seconds:
            break
    return found, asked, (time.monotonic() - begun) * len(order) / max(1, len(asked))
