"""Stages *schema graph* and *min-max*: from the metadata of all tables to the candidate pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from r2d2.model import Claim, Harvest, LeafPath, SchemaClass, SchemaGraph, TypeClass, leaves, type_class
from r2d2.prune.evidence import Evidence, fragment_evidence, merge_evidence
from r2d2.prune.minmax import BLOCK_PAIRS, TableEvidence, surviving
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.scan.plan import Pair, column_order, matching_paths
from r2d2.scan.stored import read_graph, write_graph, write_pairs

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

GRAPH = "schema_graph"
MINMAX = "minmax"


def run_schema_graph(run: StageRun) -> dict[str, int]:
    """Store the schema graph of the tables that take part.

    Returns:
        Classes, edges between them, and the pairs of tables that these stand for.
    """
    graph = build_schema_graph(run.inventory.leaf_paths(), case_sensitive=run.config.case_sensitive)
    write_graph(run.store, GRAPH, graph)
    counts = {"classes": len(graph.classes), "edges": len(graph.edges), "pairs": graph.pairs}
    run.store.commit(GRAPH, counts)
    return counts


def run_minmax(run: StageRun) -> dict[str, int]:
    """Store the pairs of the schema graph that metadata does not refute.

    Returns:
        How many there are.
    """
    graph = read_graph(run.store, GRAPH, case_sensitive=run.config.case_sensitive)
    evidence = {table: table_evidence(harvest, utc=run.utc) for table, harvest in run.inventory.active()}
    pairs = sorted(pair for edge in graph.edges for pair in _edge_pairs(graph, edge, evidence))
    write_pairs(run.store, MINMAX, pairs)
    counts = {"pairs": len(pairs)}
    run.store.commit(MINMAX, counts)
    return counts


def table_evidence(harvest: Harvest, *, utc: bool) -> TableEvidence:
    """Cover and witnesses of all leaves of a table."""
    claims: dict[LeafPath, dict[int, Claim]] = {}
    for claim in harvest.claims:
        claims.setdefault(claim.leaf, {})[claim.fragment] = claim
    kinds = {path: _kind(type_class(dtype), utc=utc) for path, dtype in leaves(harvest.schema)}
    # The engine's reader is used where files hold deleted or otherwise shifted rows: no witnesses from those.
    live = harvest.reader_reason is None
    return TableEvidence(
        rows=harvest.rows,
        kinds=kinds,
        leaves={path: _leaf_evidence(harvest, claims.get(path, {}), kind, live) for path, kind in kinds.items()},
    )


def _leaf_evidence(harvest: Harvest, claims: Mapping[int, Claim], kind: TypeClass, live: bool) -> Evidence:
    return merge_evidence(
        fragment_evidence(claims.get(number), fragment.rows, kind, has_witnesses=live)
        for number, fragment in enumerate(harvest.fragments)
    )


def _kind(kind: TypeClass, *, utc: bool) -> TypeClass:
    return TypeClass.INSTANT if utc and kind is TypeClass.WALL_CLOCK else kind


def _edge_pairs(graph: SchemaGraph, edge: tuple[int, int], evidence: Mapping[int, TableEvidence]) -> Iterator[Pair]:
    child, parent = graph.classes[edge[0]], graph.classes[edge[1]]
    child_paths = column_order(sorted(child.names))
    parent_paths = matching_paths(child_paths, sorted(parent.names), exact=child.exact or parent.exact)
    for children, parents in _blocks(child, parent):
        kept = surviving(
            [evidence[table] for table in children],
            [evidence[table] for table in parents],
            child_paths,
            parent_paths,
        )
        for row, column in np.argwhere(kept):
            if children[row] != parents[column]:
                yield Pair(child=children[row], parent=parents[column], column_set=child.id)


def _blocks(child: SchemaClass, parent: SchemaClass) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Cuts of the pairs of two classes, each of at most about BLOCK_PAIRS."""
    size = max(1, BLOCK_PAIRS // len(parent.tables))
    for _, members in groupby(enumerate(child.tables), key=lambda place: place[0] // size):
        yield [table for _, table in members], parent.tables
