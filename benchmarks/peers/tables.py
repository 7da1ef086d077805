"""What all peers share: the tables of a lake, its pairs, and answers."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.lakes.lake import read_truth

CHECKS = 20

Edge = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class PeerTable:
    """A table of a lake.

    Attributes:
        paths: Its Parquet files.
        columns: Names of its columns, sorted.
    """

    id: str
    paths: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a peer is asked.

    Attributes:
        folder: Of a lake with its truth.
        threads: Threads that it may use.
        budget_seconds: Time after which a peer that works pair by pair stops and extrapolates.
        seed: For the order of pairs.
    """

    folder: Path
    threads: int
    budget_seconds: float
    seed: int = 0

    @property
    def tables_folder(self) -> Path:
        return self.folder / "tables"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a peer found.

    Attributes:
        edges: Pairs that it says are contained; None where it says nothing of pairs.
        asked: The pairs that it judged; None for all.
        seconds: Time for all pairs, extrapolated where not all were judged.
        pairs: Pairs that it had to judge.
        bag_edges: Pairs that it says are contained as bags, where it tells.
        proposals: Table and parents of each deletion that it proposes.
        facts: More about the run.
    """

    edges: frozenset[Edge] | None
    seconds: float
    asked: frozenset[Edge] | None = None
    pairs: int | None = None
    bag_edges: frozenset[Edge] | None = None
    proposals: tuple[tuple[str, tuple[str, ...]], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_tables(folder: Path) -> list[PeerTable]:
    """The tables of a folder, their columns from the footer of the first file."""
    return [_table(entry) for entry in sorted(folder.iterdir())]


def _table(entry: Path) -> PeerTable:
    paths = sorted(entry.glob("*.parquet")) if entry.is_dir() else [entry]
    names = pq.read_schema(paths[0]).names
    return PeerTable(id=entry.name, paths=tuple(map(str, paths)), columns=tuple(sorted(names)))


@dataclass(frozen=True, kw_only=True)
class Group:
    """The pairs of one column set: tables that have just these columns, and tables that have at least these.

    Each child is one of the parents too, and no pair with itself.
    """

    columns: tuple[str, ...]
    children: tuple[PeerTable, ...]
    parents: tuple[PeerTable, ...]

    @property
    def pairs(self) -> int:
        return len(self.children) * (len(self.parents) - 1)

    def pair(self, place: int) -> tuple[PeerTable, PeerTable]:
        """The pair at a place below `pairs`; children come first among the parents."""
        child, parent = divmod(place, len(self.parents) - 1)
        return self.children[child], self.parents[parent + (parent >= child)]

    def all(self) -> Iterator[tuple[PeerTable, PeerTable]]:
        return (self.pair(place) for place in range(self.pairs))


def groups_of(tables: Sequence[PeerTable]) -> list[Group]:
    """All pairs of tables whose columns fit, by the child's column set."""
    classes: dict[tuple[str, ...], list[PeerTable]] = defaultdict(list)
    for table in tables:
        classes[table.columns].append(table)
    having: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for columns in classes:
        for name in columns:
            having[name].append(columns)
    groups = []
    for columns, children in classes.items():
        rarest = min(columns, key=lambda name: len(having[name]))
        wider = [c for c in having[rarest] if c != columns and set(columns) <= set(c)]
        parents = [*children, *(table for other in wider for table in classes[other])]
        if len(parents) > 1:
            groups.append(Group(columns=columns, children=tuple(children), parents=tuple(parents)))
    return groups


Judge = Callable[[PeerTable, PeerTable], bool]
"""Whether a child (its columns, as rows) is contained in a parent."""


def by_pair(task: Task, judge: Judge) -> Answer:
    """Judge pairs in random order until all are judged or the budget is spent; then extrapolate."""
    begun = time.monotonic()
    groups = groups_of(read_tables(task.tables_folder))
    listing = time.monotonic() - begun
    return judged(groups, judge, task, listing)


def judged(groups: Sequence[Group], judge: Judge, task: Task, before_seconds: float) -> Answer:
    """Like `by_pair`, for groups that exist; `before_seconds` were spent on all of them.

    Where not all pairs were judged, some true ones are added after the clock has stopped, so that a peer that loses
    containments is seen to.
    """
    pairs = sum(group.pairs for group in groups)
    verdicts: dict[Edge, bool] = {}
    begun = time.monotonic()
    for child, parent in in_random_order(groups, task.seed):
        verdicts[child.id, parent.id] = judge(child, parent)
        if time.monotonic() - begun > task.budget_seconds:
            break
    spent = time.monotonic() - begun
    judged_pairs = len(verdicts)
    is_sample = judged_pairs < pairs
    if is_sample:
        verdicts |= {(child.id, parent.id): judge(child, parent) for child, parent in some_true_pairs(task)}
    return Answer(
        edges=frozenset(pair for pair, is_contained in verdicts.items() if is_contained),
        asked=frozenset(verdicts) if is_sample else None,
        seconds=before_seconds + (spent * pairs / judged_pairs if judged_pairs else 0),
        pairs=pairs,
        facts={"judged_pairs": judged_pairs},
    )


def some_true_pairs(task: Task) -> list[tuple[PeerTable, PeerTable]]:
    """A few pairs of which the lake's truth says that they are contained, as bags too."""
    truth = sorted(read_truth(task.folder, bag=True))
    tables = {table.id: table for table in read_tables(task.tables_folder)}
    chosen = random.Random(task.seed).sample(truth, min(CHECKS, len(truth)))
    return [(tables[child], tables[parent]) for child, parent in chosen]


def by_group(task: Task, contained: Callable[[Group], set[Edge]]) -> Answer:
    """Judge group after group until the budget is spent; then extrapolate by their number."""
    begun = time.monotonic()
    groups = groups_of(read_tables(task.tables_folder))
    random.Random(task.seed).shuffle(groups)
    found: set[Edge] = set()
    done = 0
    for group in groups:
        found |= contained(group)
        done += 1
        if time.monotonic() - begun > task.budget_seconds:
            break
    seconds = (time.monotonic() - begun) * len(groups) / max(1, done)
    asked = ((child.id, parent.id) for group in groups[:done] for child, parent in group.all())
    return Answer(
        edges=frozenset(found),
        asked=frozenset(asked) if done < len(groups) else None,
        seconds=seconds,
        pairs=sum(group.pairs for group in groups),
        facts={"column_sets": len(groups), "judged_column_sets": done},
    )


def in_random_order(groups: Sequence[Group], seed: int) -> Iterator[tuple[PeerTable, PeerTable]]:
    """All pairs, each once, without a list of them."""
    total = sum(group.pairs for group in groups)
    ends: list[int] = []
    for group in groups:
        ends.append((ends[-1] if ends else 0) + group.pairs)
    for place in shuffled(total, seed):
        number = _group_at(ends, place)
        yield groups[number].pair(place - (ends[number - 1] if number else 0))


def _group_at(ends: Sequence[int], place: int) -> int:
    return bisect_right(ends, place)


def shuffled(total: int, seed: int) -> Iterator[int]:
    """The numbers below a total in random order, lazily: drawn, those that came before left out."""
    rng = random.Random(seed)
    if total <= 1_000_000:
        yield from rng.sample(range(total), total)
        return
    seen: set[int] = set()
    while len(seen) < total:
        place = rng.randrange(total)
        if place not in seen:
            seen.add(place)
            yield place
