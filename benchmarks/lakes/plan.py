"""Random lakes: tables x rows x columns x schema classes x containments x size skew x near misses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.lakes.columns import Column, key_columns, plain_columns
from benchmarks.lakes.lake import Table
from benchmarks.lakes.rows import Codes, Rows, corrected, drawn

NEAR_MISSES = (0.0001, 0.001, 0.01, 0.1, 0.3)
"""Shares of a near miss's rows that its source lacks; at least one row each."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a random lake is made of.

    Attributes:
        tables, families: Tables, and groups of them that draw from the same rows.
        family_skew: Sigma of the logarithm of the families' sizes.
        rows, row_skew: Median rows of a table, and sigma of their logarithm.
        columns: Columns of the widest class of a family, key and amount included.
        classes: Schema classes of a family, each wider than the one before it.
        contained, near: Shares of tables drawn from another table; the near ones with a few rows changed.
        repeated: Share of tables some rows of which occur twice.
        overlap: Rows of a family are its largest table times this: the smaller, the more two tables have in common.
        scatter: Keys all over their range; else they count up.
        own_names: Each family has names of columns of its own.
        extra: Columns beside key, amount and those of all kinds.
    """

    tables: int
    families: int = 1
    family_skew: float = 0.0
    rows: int = 1_000
    row_skew: float = 0.0
    columns: int = 10
    classes: int = 1
    contained: float = 0.1
    near: float = 0.1
    repeated: float = 0.0
    overlap: float = 1.5
    scatter: bool = True
    own_names: bool = True
    extra: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Draft:
    """Rows and schema class of a table that is not yet named."""

    layers: tuple[Rows, ...]
    level: int


def tables_of(plan: Plan, seed: int) -> list[Table]:
    """The tables of a plan; a function of its arguments alone."""
    rng = np.random.default_rng(seed)
    tables: list[Table] = []
    for family, count in enumerate(family_sizes(rng, plan)):
        levels = columns_of(plan, family)
        for draft in drafts(rng, plan, family, count):
            tables.append(Table(name=f"t{len(tables):05}", columns=levels[draft.level], layers=draft.layers))
    return tables


def family_sizes(rng: np.random.Generator, plan: Plan) -> list[int]:
    """Tables of each family, at least one each where there are enough."""
    families = min(plan.families, plan.tables)
    weights = np.exp(rng.normal(0, plan.family_skew, families))
    shares = np.floor(weights / weights.sum() * (plan.tables - families)).astype(int) + 1
    shares[: plan.tables - shares.sum()] += 1
    return [int(share) for share in shares]


def columns_of(plan: Plan, family: int) -> list[tuple[Column, ...]]:
    """Columns of each schema class of a family, the narrowest first."""
    keys = key_columns(scatter=plan.scatter)
    others = plain_columns(plan.columns - len(keys), f"f{family}_c" if plan.own_names else "c") + plan.extra
    widths = np.linspace(len(others) // 3, len(others), plan.classes).astype(int) if plan.classes > 1 else [len(others)]
    return [keys + others[:width] for width in widths]


def drafts(rng: np.random.Generator, plan: Plan, family: int, count: int) -> Iterator[Draft]:
    """The tables of one family: drawn from its rows, or from an earlier table as a part or a near miss."""
    sizes = np.maximum(2, plan.rows * np.exp(rng.normal(0, plan.row_skew, count))).astype(int)
    space = Rows.of_range(0, int(sizes.max() * plan.overlap) + 1, family=family)
    made: list[Draft] = []
    for size in sizes.tolist():
        kind = rng.random()
        if not made or kind >= plan.contained + plan.near:
            draft = Draft((drawn(rng, space, size),), int(rng.integers(plan.classes)))
        else:
            draft = part_of(rng, made[int(rng.integers(len(made)))], is_near=kind >= plan.contained)
        if rng.random() < plan.repeated:
            draft = Draft((draft.layers[0], drawn(rng, draft.layers[0], max(1, size // 10))), draft.level)
        made.append(draft)
        yield draft


def part_of(rng: np.random.Generator, source: Draft, *, is_near: bool) -> Draft:
    """Half to all of a table's rows, in some of its columns; a near miss has a few corrected rows instead."""
    rows = source.layers[0]
    chosen = drawn(rng, rows, max(1, int(rows.size * rng.uniform(0.5, 1.05))))
    level = int(rng.integers(source.level + 1))
    return Draft((with_corrections(rng, chosen, float(rng.choice(NEAR_MISSES))) if is_near else chosen,), level)


def with_corrections(rng: np.random.Generator, rows: Rows, share: float) -> Rows:
    """The same rows, a share of them (at least one) in their next versions."""
    changed: Codes = drawn(rng, rows, max(1, int(rows.size * share))).expand()
    return (rows - Rows.of_codes(changed)) | Rows.of_codes(corrected(changed))
