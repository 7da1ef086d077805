"""What each metadata rule refutes in a lake, the rules one after the other on the pairs that are left; no engine runs.

python benchmarks/refuting_power.py LAKE [--case-sensitive] [--truth truth.csv] [--json]

The truth has the columns child, parent and set_fraction, 1.0 for pairs that are contained, or set (true, false) as that
of the demonstration lake; a pair that it does not list is not contained. The kernels are those of the audit.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2d2.errors import TableFault
from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Harvest, SchemaGraph, TypeClass, leaves
from r2d2.prune.blocks import DONE, Block, answer, blocks_of
from r2d2.prune.boxes import FileVerdict, file_verdict, has_files
from r2d2.prune.evidence import packed_evidence
from r2d2.prune.minmax import Indices, Leaves, Mask, Tables, is_set, more_often, outside, tables_of
from r2d2.prune.page_stage import page_answers
from r2d2.prune.pages import Belief
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.scan.evidence import KINDS, Flag
from r2d2.scan.footer.layout import StoredColumn
from r2d2.scan.footer.pages import Wanted
from r2d2.scan.identity import identities
from r2d2.scan.plan import Pair

PairId = tuple[int, int]
LeafRule = Callable[[Leaves, Leaves], Mask]

_TEXTS = (KINDS[TypeClass.STRING], KINDS[TypeClass.BINARY])


# ---- the rules on tables as wholes, as the parts of `minmax.refuted`


def other_class(child: Leaves, parent: Leaves) -> Mask:
    found: Mask = is_set(child.flags, Flag.HAS_VALUE) & (child.kind != parent.kind)
    return found


def nulls(child: Leaves, parent: Leaves) -> Mask:
    lacks_null = is_set(child.flags, Flag.HAS_NULL) & ~is_set(parent.flags, Flag.MAY_NULL)
    only_nulls = is_set(child.flags, Flag.HAS_VALUE) & ~is_set(parent.flags, Flag.MAY_VALUE)
    found: Mask = lacks_null | only_nulls
    return found


def nans(child: Leaves, parent: Leaves) -> Mask:
    return is_set(child.flags, Flag.HAS_NAN) & ~is_set(parent.flags, Flag.MAY_NAN)


def ranges(child: Leaves, parent: Leaves) -> Mask:
    found: Mask = is_set(child.flags, Flag.HAS_VALUE) & (child.kind == parent.kind) & outside(child, parent)
    return found


def ranges_of_numbers(child: Leaves, parent: Leaves) -> Mask:
    return ranges(child, parent) & ~np.isin(child.kind, _TEXTS)


def ranges_of_texts(child: Leaves, parent: Leaves) -> Mask:
    return ranges(child, parent) & np.isin(child.kind, _TEXTS)


LEAF_RULES: Mapping[str, LeafRule] = {
    "type classes": other_class,
    "NULLs": nulls,
    "NaN": nans,
    "ranges of tables: numbers and times": ranges_of_numbers,
    "ranges of tables: text and binary": ranges_of_texts,
}
FILE_RULES: Mapping[str, Callable[[FileVerdict], bool]] = {
    "ranges of files": lambda verdict: verdict.union is not None,
    "boxes of files": lambda verdict: verdict.box is not None,
}


# ---- pairs


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a block, keys ranked together.

    Attributes:
        places: Per table of either side, its position in the side's arrays.
    """

    block: Block
    children: Tables
    parents: Tables

    def places(self, pairs: Sequence[PairId]) -> tuple[Indices, Indices]:
        """Positions of some pairs in the arrays of the sides."""
        of_child, of_parent = (
            {table: place for place, table in enumerate(side)} for side in (self.block.children, self.block.parents)
        )
        places = [(of_child[child], of_parent[parent]) for child, parent in pairs]
        c, p = zip(*places, strict=True)
        return np.array(c, np.intp), np.array(p, np.intp)


Alive = list[tuple[Sides, list[PairId]]]
"""The pairs that are left, by block."""


def all_pairs(graph: SchemaGraph, evidence: Mapping[int, bytes]) -> Alive:
    alive: Alive = []
    for block in blocks_of(graph):
        children, parents = tables_of(
            *((side, [evidence[t] for t in side]) for side in (block.children, block.parents))
        )
        pairs = [(child, parent) for child in block.children for parent in block.parents if child != parent]
        alive.append((Sides(block=block, children=children, parents=parents), pairs))
    return alive


def without_rows(sides: Sides, pairs: Sequence[PairId]) -> Mask:
    """Pairs whose child has rows and whose parent has none."""
    c, p = sides.places(pairs)
    has_row = is_set(sides.children.evidence.flags[sides.children.first[c]], Flag.HAS_ROW)
    refuted: Mask = has_row & (sides.parents.evidence.rows[sides.parents.first[p]] == 0)
    return refuted


def by_leaves(rule: LeafRule) -> Callable[[Sides, Sequence[PairId]], Mask]:
    def refuted(sides: Sides, pairs: Sequence[PairId]) -> Mask:
        c, p = sides.places(pairs)
        found = np.zeros(len(pairs), bool)
        for leaf, other in enumerate(sides.block.parent_leaf):
            child = sides.children.evidence.at(sides.children.first[c] + leaf)
            found |= rule(child, sides.parents.evidence.at(sides.parents.first[p] + other))
        return found

    return refuted


def by_files(rule: Callable[[FileVerdict], bool]) -> Callable[[Sides, Sequence[PairId]], Mask]:
    def refuted(sides: Sides, pairs: Sequence[PairId]) -> Mask:
        return np.array([verdict is not None and rule(verdict) for verdict in verdicts(sides, pairs)], bool)

    return refuted


def verdicts(sides: Sides, pairs: Sequence[PairId]) -> list[FileVerdict | None]:
    """What the files of each pair say; None where they say no more than the tables."""
    places = zip(*(side.tolist() for side in sides.places(pairs)), strict=True)
    return [
        file_verdict(sides.children, sides.parents, child, parent, sides.block.parent_leaf)
        if has_files(sides.children, sides.parents, child, parent)
        else None
        for child, parent in places
    ]


RULES: Mapping[str, Callable[[Sides, Sequence[PairId]], Mask]] = {
    "row counts": without_rows,
    **{name: by_leaves(rule) for name, rule in LEAF_RULES.items()},
    **{name: by_files(rule) for name, rule in FILE_RULES.items()},
}


# ---- the rules on pages


class Indexes(Belief):
    """Believes bounds of pages and of row groups, and no dictionary."""

    def of(self, column: StoredColumn) -> Wanted | None:
        wanted = super().of(column)
        return None if wanted is None else dataclasses.replace(wanted, dictionary=False)


PAGE_RULES: Mapping[str, Belief] = {
    "bounds of pages and row groups": Indexes(utc=False),
    "dictionaries of parents": Belief(utc=False),
}


@dataclass(kw_only=True)
class Pages:
    """The tables of the pairs that are left, and what was read of their pages."""

    graph: SchemaGraph
    evidence: Mapping[int, bytes]
    harvests: Mapping[int, Harvest]
    bytes_read: int = 0

    def refuted(self, pairs: set[PairId], belief: Belief) -> set[PairId]:
        """The pairs that pages refute."""
        of_class = self.graph.class_of
        asked = [Pair(child=child, parent=parent, column_set=of_class[child].id) for child, parent in sorted(pairs)]
        rows = page_answers(self.graph, asked, self.harvests, self.evidence, belief).to_pylist()
        self.bytes_read += sum(row["bytes"] for row in rows)
        return {(row["child"], row["parent"]) for row in rows if row["child"] != DONE}


# ---- the report


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule on the pairs that the rules before it left.

    Attributes:
        refuted_contained: Refuted pairs that are contained, by the truth; None without one.
        left_contained, left_other: Pairs left that are contained, and that are not; None without a truth.
    """

    rule: str
    pairs: int
    refuted: int
    left: int
    seconds: float
    refuted_contained: int | None = None
    left_contained: int | None = None
    left_other: int | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rules on a lake.

    Attributes:
        skipped: Tables whose metadata could not be read.
        harvest_seconds: For listing the lake and reading its metadata.
        bag_excluded: Of the pairs left, those whose counts exclude a containment as bags.
        proved: Of the pairs left, those that shared files prove.
        page_bytes: Bytes of pages, and of footers with them, that the rules on pages read.
        agrees: The audit's own kernel leaves the same pairs to the rules on pages.
    """

    tables: int
    skipped: int
    harvest_seconds: float
    steps: tuple[Step, ...]
    bag_excluded: int
    proved: int
    page_bytes: int
    agrees: bool


def measure(lake: str, *, case_sensitive: bool, truth: set[tuple[str, str]] | None) -> Report:
    started = time.perf_counter()
    names, harvests, skipped = harvested(lake)
    harvest_seconds = time.perf_counter() - started
    contained = None if truth is None else of_truth(truth, names)
    paths = {table: [path for path, _ in leaves(harvest.schema)] for table, harvest in harvests.items()}
    started = time.perf_counter()
    graph = build_schema_graph(paths, case_sensitive=case_sensitive)
    graph_seconds = time.perf_counter() - started
    evidence = {table: packed_evidence(harvest, utc=False) for table, harvest in harvests.items()}
    alive = all_pairs(graph, evidence)
    steps = [step("names of columns", len(names) * (len(names) - 1), pairs_in(alive), graph_seconds, contained)]
    for name, rule in RULES.items():
        before, started = pairs_in(alive), time.perf_counter()
        alive = [(sides, applied(rule, sides, pairs)) for sides, pairs in alive if pairs]
        seconds = time.perf_counter() - started
        steps.append(
            step(name, len(before), pairs_in(alive), seconds, None if contained is None else contained & before)
        )
    agrees = kept_by_the_audit(graph, evidence) == pairs_in(alive)
    pages = Pages(graph=graph, evidence=evidence, harvests=harvests)
    for name, belief in PAGE_RULES.items():
        before, started = pairs_in(alive), time.perf_counter()
        refuted = pages.refuted(before, belief)
        seconds = time.perf_counter() - started
        alive = [(sides, [pair for pair in pairs if pair not in refuted]) for sides, pairs in alive]
        steps.append(
            step(name, len(before), pairs_in(alive), seconds, None if contained is None else contained & before)
        )
    left = pairs_in(alive)
    return Report(
        tables=len(harvests),
        skipped=skipped,
        harvest_seconds=harvest_seconds,
        steps=tuple(steps),
        bag_excluded=len(left & bags_excluded(alive)),
        proved=len({(found.pair.child, found.pair.parent) for found in identities(graph, harvests)} & left),
        page_bytes=pages.bytes_read,
        agrees=agrees,
    )


def harvested(lake: str) -> tuple[dict[int, str], dict[int, Harvest], int]:
    """Ids and metadata of the tables of a lake, and how many have none."""
    options = TextOptions(csv_delimiter=None, csv_types="infer")
    names, harvests, found = {}, {}, discover(lake).tables
    with tempfile.TemporaryDirectory() as copies:
        for table in found:
            try:
                if table.fault is None:
                    harvests[table.table] = harvest_table(table, options, copies)
                    names[table.table] = table.id
            except TableFault:
                continue
    return names, harvests, len(found) - len(harvests)


def of_truth(truth: set[tuple[str, str]], names: Mapping[int, str]) -> set[PairId]:
    """The contained pairs of a truth as positions of tables."""
    tables = {name: table for table, name in names.items()}
    return {(tables[child], tables[parent]) for child, parent in truth if child in tables and parent in tables}


def pairs_in(alive: Alive) -> set[PairId]:
    return {pair for _, pairs in alive for pair in pairs}


def applied(rule: Callable[[Sides, Sequence[PairId]], Mask], sides: Sides, pairs: Sequence[PairId]) -> list[PairId]:
    return [pair for pair, refuted in zip(pairs, rule(sides, pairs).tolist(), strict=True) if not refuted]


def step(rule: str, pairs: int, after: set[PairId], seconds: float, contained: set[PairId] | None) -> Step:
    """What a rule did; `pairs` is their number before it, `contained` those of them that are contained."""
    done = Step(rule=rule, pairs=pairs, refuted=pairs - len(after), left=len(after), seconds=seconds)
    if contained is None:
        return done
    kept = len(after & contained)
    return dataclasses.replace(
        done, refuted_contained=len(contained) - kept, left_contained=kept, left_other=len(after) - kept
    )


def bags_excluded(alive: Alive) -> set[PairId]:
    """Pairs whose counts of rows or NULLs, or those of their files, exclude a containment as bags."""
    found: set[PairId] = set()
    for sides, pairs in alive:
        if pairs:
            more = by_leaves(
                lambda child, parent: more_often(child.nulls, parent.nulls) | more_often(child.rows, parent.rows)
            )
            found |= {pair for pair, excluded in zip(pairs, more(sides, pairs).tolist(), strict=True) if excluded}
            of_files = zip(pairs, verdicts(sides, pairs), strict=True)
            found |= {pair for pair, verdict in of_files if verdict is not None and verdict.bag_excluded}
    return found


def kept_by_the_audit(graph: SchemaGraph, evidence: Mapping[int, bytes]) -> set[PairId]:
    """The pairs that the audit's own order of the same rules keeps."""
    kept = answer(0, list(blocks_of(graph)), evidence).to_pylist()
    return {(row["child"], row["parent"]) for row in kept if row["child"] != DONE}


def read_truth(path: Path) -> set[tuple[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["child"], row["parent"]) for row in rows if _is_contained(row)}


def _is_contained(row: Mapping[str, str]) -> bool:
    return float(row["set_fraction"]) == 1.0 if "set_fraction" in row else row["set"] == "true"


def markdown(report: Report) -> str:
    with_truth = report.steps[0].left_contained is not None
    names = ["rule", "pairs", "refuted", "left", "seconds"]
    names += ["refuted though contained", "left: contained", "left: not contained"] if with_truth else []
    rows = [names, ["---"] + ["--:"] * (len(names) - 1), *(_cells(step, with_truth) for step in report.steps)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{table}\n\n"
        f"{report.tables} tables, {report.skipped} without metadata; their metadata was read in"
        f" {report.harvest_seconds:.1f} s. Counts exclude {report.bag_excluded} of the pairs left as bags;"
        f" shared files prove {report.proved}. The rules on pages read {report.page_bytes:,} bytes."
    )


def _cells(step: Step, with_truth: bool) -> list[str]:
    counts = [step.pairs, step.refuted, step.left]
    truth = [step.refuted_contained, step.left_contained, step.left_other] if with_truth else []
    return [step.rule, *(f"{n:,}" for n in counts), f"{step.seconds:.3f}", *(f"{n:,}" for n in truth)]


def main() -> int:
    parser = argparse.ArgumentParser(description="What each metadata rule refutes in a lake.")
    parser.add_argument("lake")
    parser.add_argument("--case-sensitive", action="store_true", help="compare names of columns exactly")
    parser.add_argument("--truth", type=Path, help="CSV with child, parent, and set_fraction or set")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    options = parser.parse_args()
    truth = None if options.truth is None else read_truth(options.truth)
    report = measure(options.lake, case_sensitive=options.case_sensitive, truth=truth)
    print(json.dumps(dataclasses.asdict(report), indent=2) if options.json else markdown(report))
    if not report.agrees:
        print("the audit's own kernel leaves other pairs", file=sys.stderr)
    return 0 if report.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
