"""The named shapes. Each takes a scale, 1 for the size that its line says, and a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from benchmarks.lakes.columns import Column, day_of, key_columns, plain_columns, texts
from benchmarks.lakes.lake import Table
from benchmarks.lakes.plan import Plan, tables_of, with_corrections
from benchmarks.lakes.rows import Rows, corrected, drawn
from benchmarks.lakes.tpch import tpch


@dataclass(frozen=True)
class Shape:
    """A named shape of a lake."""

    says: str
    tables: Callable[[float, int], list[Table]]


def times(count: int, scale: float, least: int = 1) -> int:
    return max(least, round(count * scale))


def mixed(scale: float, seed: int) -> list[Table]:
    plan = Plan(
        tables=times(5_000, scale, 12), families=times(640, scale, 3), family_skew=1.3, rows=330, row_skew=1.0,
        columns=12, classes=3, contained=0.1, near=0.1, repeated=0.02,
    )  # fmt: skip
    return tables_of(plan, seed)


def one_schema(scale: float, seed: int) -> list[Table]:
    """Scaled by rows and, less, by tables, so that pairs stay many."""
    plan = Plan(
        tables=times(300, scale**0.5, 8), rows=times(33_000, scale**0.5, 40), row_skew=0.25, columns=8,
        contained=0.15, near=0.5, overlap=1.1,
    )  # fmt: skip
    return tables_of(plan, seed)


def tiny(scale: float, seed: int) -> list[Table]:
    tables = times(10_000, scale, 12)
    plan = Plan(
        tables=tables, families=max(3, tables // 20), family_skew=0.3, rows=20, columns=8, classes=2,
        contained=0.05, near=0.05, overlap=3,
    )  # fmt: skip
    return tables_of(plan, seed)


def wide(scale: float, seed: int) -> list[Table]:
    plan = Plan(
        tables=times(40, scale, 6), families=times(4, scale), rows=times(520, scale**0.5, 10), row_skew=0.3,
        columns=times(1_500, scale, 20), classes=3, contained=0.2, near=0.2, own_names=False,
    )  # fmt: skip
    return tables_of(plan, seed)


def long_texts(scale: float, seed: int) -> list[Table]:
    text = Column("text", partial(texts, seed=99, length=1_024))
    plan = Plan(
        tables=times(60, scale, 6), rows=times(1_500, scale**0.5, 10), row_skew=0.2, columns=3, contained=0.1, near=0.3,
        extra=(text,),
    )  # fmt: skip
    return tables_of(plan, seed)


def daily(scale: float, seed: int) -> list[Table]:
    """One dump a day; one in fifty is loaded again, half of these with a few rows corrected, and a few cover a week."""
    rng = np.random.default_rng(seed)
    days, per_day = times(5_000, scale, 20), 500
    columns = (*key_columns(scatter=False), Column("day", partial(day_of, rows_per_day=per_day)), *plain_columns(7))
    tables = []
    for day in range(days):
        first, last = day, day + 1
        kind = rng.integers(100)
        if kind == 0:
            last = day + 7
        elif kind <= 2:
            first, last = (int(rng.integers(day + 1)),) * 2
            last += 1
        rows = Rows.of_range(first * per_day, last * per_day)
        tables.append(Table(name=f"day-{day:05}", columns=columns, layers=(_reloaded(rng, rows, int(kind)),)))
    return tables


def _reloaded(rng: np.random.Generator, rows: Rows, kind: int) -> Rows:
    if kind == 1:
        return drawn(rng, rows, max(1, rows.size * 9 // 10))
    return with_corrections(rng, rows, 0.01) if kind == 2 else rows


def snapshots(scale: float, seed: int) -> list[Table]:
    """A table as it was every night: it grows, and on one night in three some of its older rows are corrected."""
    rng = np.random.default_rng(seed)
    nights, per_night = times(60, scale**0.5, 6), times(3_500, scale**0.5, 20)
    columns = (*key_columns(scatter=False), Column("day", partial(day_of, rows_per_day=per_night)), *plain_columns(9))
    rows, tables = Rows.of_range(0, per_night), []
    for night in range(nights):
        if night:
            rows |= Rows.of_range(night * per_night, (night + 1) * per_night)
            if rng.integers(3) == 0:
                changed = drawn(rng, rows, max(1, per_night // 100)).expand()
                rows = (rows - Rows.of_codes(changed)) | Rows.of_codes(corrected(changed))
        tables.append(Table(name=f"night-{night:03}", columns=columns, layers=(rows,)))
    return tables


def big(scale: float, seed: int) -> list[Table]:
    """One big table in eight files; ranges, samples, narrow copies and near misses of it."""
    rng = np.random.default_rng(seed)
    size = times(20_000_000, scale, 400)
    day = Column("day", partial(day_of, rows_per_day=size // 100 + 1))
    columns = (*key_columns(scatter=False), day, *plain_columns(8))
    base = Rows.of_range(0, size)
    tables = [Table(name="events", columns=columns, layers=(base,), files=8)]
    for number in range(25):
        share = (0.02, 0.05, 0.1, 0.2, 0.3)[number % 5]
        kind = ("range", "sample", "narrow", "near", "other")[number // 5]
        start = int(rng.integers(int(size * (1 - share)) + 1))
        rows = Rows.of_range(start, start + int(size * share))
        if kind == "sample":
            rows = drawn(rng, base, int(size * share))
        elif kind == "near":
            rows = with_corrections(rng, rows, 1 / size)
        elif kind == "other":
            rows = Rows.of_range(size - int(size * share / 2), size + int(size * share / 2))
        chosen = columns[:8] if kind == "narrow" else columns
        tables.append(Table(name=f"{kind}-{number:02}", columns=chosen, layers=(rows,)))
    return tables


def skew(scale: float, seed: int) -> list[Table]:
    """One huge table and many tiny ones in 28 schema classes: parts of it, near misses, strange rows, 3 to 5 to 2."""
    rng = np.random.default_rng(seed)
    size = times(4_000_000, scale, 2_000)
    columns = (*key_columns(scatter=True), *plain_columns(8))
    narrow = [(0, 1, *others) for others in combinations(range(2, len(columns)), 6)]
    base, strange = Rows.of_range(0, size), Rows.of_range(size, 2 * size)
    tables = [Table(name="huge", columns=columns, layers=(base,), files=4)]
    for number in range(times(3_000, scale, 10)):
        kind = rng.integers(10)
        rows = drawn(rng, base if kind < 8 else strange, int(rng.integers(20, 200)))
        if 3 <= kind < 8:
            rows = with_corrections(rng, rows, 0.01)
        chosen = tuple(columns[place] for place in narrow[number % len(narrow)])
        tables.append(Table(name=f"part-{number:04}", columns=chosen, layers=(rows,)))
    return tables


SHAPES: Mapping[str, Shape] = {
    "mixed": Shape("5,000 tables of mixed sizes in 1,500 schema classes, 640 families with a few containments", mixed),
    "one_schema": Shape("300 tables of one schema, 10 M rows, thousands of near misses", one_schema),
    "daily": Shape("5,000 daily dumps of one schema, a few of them loaded twice", daily),
    "tiny": Shape("10,000 tables of 20 rows in 1,000 schema classes", tiny),
    "snapshots": Shape("60 nightly snapshots of a growing table with late corrections", snapshots),
    "big": Shape("one table of 20 M rows and 25 derived from it", big),
    "wide": Shape("40 tables of up to 1,500 columns", wide),
    "texts": Shape("60 tables of long texts, no two alike", long_texts),
    "skew": Shape("one table of 4 M rows among 3,000 of 20 to 200", skew),
    "tpch": Shape("TPC-H lineitem and orders at scale factor 1 and 30 tables derived from them", tpch),
}
