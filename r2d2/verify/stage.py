"""Stage *verify*: the only place that asserts a containment.

It does so from the fingerprints of every row of both tables, or because the child's files are all the parent's. Which
tables hold the rows of a child that none is likely to hold alone is asked along the way: both need every row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import Edge, SchemaClass, SchemaGraph, leaf_key, leaf_path
from r2d2.scan.compare import Verdict
from r2d2.scan.covers import questions_about, read_answers, read_candidates, write_answers
from r2d2.scan.job import Comparison, compare_tables
from r2d2.scan.members import Question
from r2d2.scan.plan import Pair, TableScan, column_order, column_sets, pairs_of
from r2d2.scan.stored import VERIFY, read_graph, read_identical, read_pairs, read_verdicts, write_verdicts
from r2d2.verify.remainders import compare_remainders

if TYPE_CHECKING:
    from r2d2.lake.inventory import Inventory
    from r2d2.lake.run import StageRun
    from r2d2.store.stages import StageStore

EDGES = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("relation", pa.string()),
        ("bag", pa.bool_()),
        ("set", pa.bool_()),
        ("child_rows", pa.int64()),
        ("parent_rows", pa.int64()),
        ("columns", pa.list_(pa.string())),
        ("proof", pa.string()),
    ]
)


def run_verify(run: StageRun, graph_stage: str, identity_stage: str, pairs_stage: str) -> dict[str, int]:
    """Store the containments among the pairs of earlier stages; tables that fail on the way are stored too.

    Args:
        run: The audit.
        graph_stage: Whose schema classes the pairs belong to.
        identity_stage: Whose pairs are proved by their files.
        pairs_stage: Whose pairs are decided here, by their rows; it has compared samples of them.

    Returns:
        The edges, and bytes that were read.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    surviving = list(read_pairs(run.store, pairs_stage))
    sampled = sampled_whole(run, surviving, pairs_stage)
    pairs = [pair for pair in surviving if pair not in sampled.verdicts]
    held = {pair.child for pair, verdict in sampled.verdicts.items() if verdict.missing == 0}
    questions = _questions(run, graph, pairs, held, identity_stage, pairs_stage)
    scans = [
        TableScan(table=table, harvest=run.inventory.harvests[table], column_sets=sets)
        for table, sets in sorted(column_sets([*pairs, *pairs_of(questions)], graph).items())
    ]
    spark = run.engine.spark
    by_rows = compare_tables(spark, scans, pairs, run.kernels, run.engine_frames(spark), questions)
    run.fail(VERIFY, by_rows.faults)
    write_answers(run.store, VERIFY, by_rows.answers)
    sharing = [pair for pair in read_pairs(run.store, identity_stage, name="sharing") if run.inventory.are_active(pair)]
    by_rest = compare_remainders(run, graph, sharing)
    run.fail(VERIFY, by_rest.faults)
    class_of = graph.class_of
    write_verdicts(run.store, VERIFY, {**sampled.verdicts, **by_rows.verdicts, **by_rest.verdicts})
    edges = [
        edge_of(pair, verdict, comparison.rows_of, class_of[pair.child], class_of[pair.parent])
        for comparison in (sampled, by_rows, by_rest)
        for pair, verdict in sorted(comparison.verdicts.items())
        if verdict.missing == 0 and run.inventory.are_active(pair)
    ]
    edges += identical_edges(read_identical(run.store, identity_stage), run.inventory, class_of)
    rows = [{**dataclasses.asdict(edge), "columns": [leaf_key(path) for path in edge.columns]} for edge in edges]
    run.store.write_table(VERIFY, "edges", pa.Table.from_pylist(rows, schema=EDGES))
    counts = {"edges": len(edges), "bytes_read": by_rows.bytes_read + by_rest.bytes_read}
    run.store.commit(VERIFY, counts)
    return counts


def _questions(
    run: StageRun,
    graph: SchemaGraph,
    pairs: Sequence[Pair],
    held: Collection[int],
    identity_stage: str,
    samples_stage: str,
) -> list[Question]:
    """About the children that several tables may hold together, as far as samples leave that open.

    A child of which a pair is left is likely to be in one table, and then it is no union. It is asked about only if
    that reads no more bytes than would be read again if it is not.

    Args:
        run: The audit.
        graph: Its schema classes.
        pairs: What is compared by all rows.
        held: Children that are known to be in one table.
        identity_stage: See `run_verify`.
        samples_stage: Has asked samples the same.
    """
    sharing = {pair.child for pair in read_pairs(run.store, identity_stage, name="sharing")}
    candidates = read_candidates(run.store)
    left = {
        child: candidates[child]
        for child, answer in read_answers(run.store, samples_stage).about.items()
        if not answer.whole and not answer.missing and child in candidates.keys() - {*held, *sharing}
    }
    questions = questions_about(left, graph, run.inventory.is_active)
    paired = {pair.child for pair in pairs}
    asked = [question for question in questions if question.child not in paired]
    read = {table for pair in (*pairs, *pairs_of(asked)) for table in (pair.child, pair.parent)}
    sizes = {table: harvest.table_bytes for table, harvest in run.inventory.harvests.items()}
    for question in questions:
        tables = set(question.tables)
        if question.child in paired and _bytes_of(tables - read, sizes) <= _bytes_of(tables & read, sizes):
            asked.append(question)
            read |= tables
    return asked


def _bytes_of(tables: Collection[int], sizes: Mapping[int, int]) -> int:
    return sum(sizes[table] for table in tables)


def sampled_whole(run: StageRun, pairs: Sequence[Pair], samples_stage: str) -> Comparison:
    """What an earlier stage has found out about pairs whose tables it has read whole: nothing adds to that.

    The fingerprints in a sample have all their bits, and a sample without a threshold was checked for having every row.
    """
    rows_of = {table: harvest.rows for table, harvest in run.inventory.active() if harvest.rows is not None}
    found = read_verdicts(run.store, samples_stage)
    whole = {pair for pair, verdict in found.items() if verdict.whole and {pair.child, pair.parent} <= rows_of.keys()}
    return Comparison(verdicts={pair: found[pair] for pair in pairs if pair in whole}, rows_of=rows_of)


def read_edges(store: StageStore) -> list[Edge]:
    """The stored containments, sorted by child and parent."""
    rows = store.read_table(VERIFY, "edges", EDGES).to_pylist()
    edges = [Edge(**{**row, "columns": tuple(leaf_path(key) for key in row["columns"])}) for row in rows]
    return sorted(edges, key=lambda edge: (edge.child, edge.parent))


def identical_edges(
    identical: Mapping[Pair, bool], inventory: Inventory, class_of: Mapping[int, SchemaClass]
) -> list[Edge]:
    """The edges of pairs that files prove, whether or not they are equal."""
    active = [pair for pair in identical if inventory.are_active(pair)]
    return [
        Edge(
            child=pair.child,
            parent=pair.parent,
            relation="equal" if identical[pair] else "contained",
            bag=True,
            set=True,
            child_rows=inventory.harvests[pair.child].rows or 0,
            parent_rows=inventory.harvests[pair.parent].rows or 0,
            columns=column_order(list(class_of[pair.child].names)),
            proof="file-identity",
        )
        for pair in active
    ]


def edge_of(pair: Pair, verdict: Verdict, rows_of: Mapping[int, int], child: SchemaClass, parent: SchemaClass) -> Edge:
    """The edge of a pair none of whose child rows is missing; the classes are those of its tables."""
    child_rows, parent_rows = rows_of[pair.child], rows_of[pair.parent]
    bag = verdict.excess == 0
    equal = bag and len(child.names) == len(parent.names) and child_rows == parent_rows
    return Edge(
        child=pair.child,
        parent=pair.parent,
        relation="equal" if equal else "contained",
        bag=bag,
        set=True,
        child_rows=child_rows,
        parent_rows=parent_rows,
        columns=column_order(list(child.names)),
    )
