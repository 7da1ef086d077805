"""Pairs that share files: what they have in common cancels, and only the rest of both tables is compared.

As bags, a child is contained in its parent exactly if what is left of it is contained in what is left of the parent.
Rows that are not there may still be among the shared ones, so for these the rest of the child is compared with the
whole parent as sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from r2d2.model import Harvest, SchemaGraph
from r2d2.scan.compare import Verdict
from r2d2.scan.identity import remainders
from r2d2.scan.job import Comparison, compare_tables
from r2d2.scan.plan import Pair, TableScan, column_sets

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun


def compare_remainders(run: StageRun, graph: SchemaGraph, pairs: Sequence[Pair]) -> Comparison:
    """Verdicts of pairs that share files; `distinct` counts rows of what is left of the child."""
    harvests = run.inventory.harvests
    rests = {pair: remainders(harvests[pair.child], harvests[pair.parent]) for pair in pairs}
    first = _compare_parts(run, graph, rests)
    open_pairs = {
        pair: (rests[pair][0], harvests[pair.parent]) for pair, verdict in first.verdicts.items() if verdict.missing > 0
    }
    second = _compare_parts(run, graph, open_pairs)
    verdicts = {**first.verdicts, **{pair: _not_a_bag(verdict) for pair, verdict in second.verdicts.items()}}
    faults = {**second.faults, **first.faults}
    return Comparison(
        verdicts={p: v for p, v in verdicts.items() if p.child not in faults and p.parent not in faults},
        rows_of={table: harvests[table].rows or 0 for pair in pairs for table in (pair.child, pair.parent)},
        faults=faults,
        bytes_read=first.bytes_read + second.bytes_read,
    )


def _not_a_bag(verdict: Verdict) -> Verdict:
    return replace(verdict, excess=max(1, verdict.excess))


def _compare_parts(run: StageRun, graph: SchemaGraph, asked: Mapping[Pair, tuple[Harvest, Harvest]]) -> Comparison:
    """Compare two parts for each pair; the outcome is told of the pairs and tables they stand for."""
    sets = column_sets(list(asked), graph)
    numbers = itertools.count(len(run.inventory.found))  # a part counts as a table that no other part is
    scans: list[TableScan] = []
    stand_in: dict[Pair, Pair] = {}
    table_of: dict[int, int] = {}
    for pair, parts in asked.items():
        child, parent = next(numbers), next(numbers)
        stand_in[Pair(child=child, parent=parent, column_set=pair.column_set)] = pair
        for number, table, part in zip((child, parent), (pair.child, pair.parent), parts, strict=True):
            table_of[number] = table
            own = tuple(own for own in sets[table] if own.id == pair.column_set)
            scans.append(TableScan(table=number, harvest=part, column_sets=own))
    spark = run.engine.spark
    found = compare_tables(spark, scans, list(stand_in), run.kernels, run.engine_frames(spark))
    return Comparison(
        verdicts={stand_in[pair]: verdict for pair, verdict in found.verdicts.items()},
        faults={table_of[number]: fault for number, fault in found.faults.items()},
        bytes_read=found.bytes_read,
    )
