"""What real writers' metadata refutes: no containment ever, and nearly all that their statistics can be believed for.

All ordered pairs of tables with fitting columns are judged. R2D2_POWER_PAIRS in the environment sets how many at least,
6,000 if unset, and a fifth as many in lakes half of whose tables Spark wrote. `python -m
tests.integration.test_refuting_power` prints what is refuted, by writer, as a Markdown table; with `--spark` that of
Spark's writers too.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import Harvest, leaves
from r2d2.prune.blocks import DONE, answer, blocks_of
from r2d2.prune.evidence import packed_evidence
from r2d2.prune.schema_graph import build_schema_graph
from tests.integration.audit_helpers import RunInProcess, own_process
from tests.integration.power_lake import (
    COLUMNS,
    SPARK_FORMATS,
    WRITERS,
    Written,
    plans,
    read_lake,
    write,
    write_by_spark,
)
from tests.integration.power_rule import EVERYTHING, EXACT, TRUST, Said, kind_of, misses, said

PAIRS = int(os.environ.get("R2D2_POWER_PAIRS", "6000"))
TABLES = 100
SHARE = 0.95
ALL_WRITERS = (*WRITERS, *SPARK_FORMATS)
WITH_SPARK = (*SPARK_FORMATS, *SPARK_FORMATS, *WRITERS)  # half as often as all others together


# ---- judging all pairs of a lake


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair: what holds, and what is refuted by whom.

    Attributes:
        child, parent: The writers.
        contained, bag: What brute force over the rows finds.
        refuted, not_a_bag: What the metadata stages say.
        exact: The rule refutes it on the exact statistics of all columns.
        believed_by: The columns by which it does on those that are believed.
        naive: What a comparison of minima, maxima and counts refutes.
    """

    tables: tuple[str, str]
    child: str
    parent: str
    contained: bool
    bag: bool
    refuted: bool
    not_a_bag: bool
    exact: bool
    believed_by: frozenset[str]
    naive: bool

    @property
    def believed(self) -> bool:
        """The rule refutes it on statistics that are believed."""
        return bool(self.believed_by)


class Table:
    """A table with what the oracles need of it, each computed once."""

    def __init__(self, written: Written) -> None:
        self.written = written
        self.columns = tuple(sorted(written.harvest.schema.names))
        self._bags: dict[tuple[str, ...], Counter[tuple[Any, ...]]] = {}

    def bag(self, columns: tuple[str, ...]) -> Counter[tuple[Any, ...]]:
        if columns not in self._bags:
            self._bags[columns] = Counter(self.written.rows(columns))
        return self._bags[columns]

    @cached_property
    def exact(self) -> dict[str, list[Said]]:
        return {c: [said(file, c, EVERYTHING) for file in self.written.files] for c in self.columns}

    @cached_property
    def believed(self) -> dict[str, list[Said]]:
        trust = TRUST[self.written.writer]
        return {
            c: [said(f, c, EXACT if c in f.partition else trust[kind_of(f.types[c])]) for f in self.written.files]
            for c in self.columns
        }

    @cached_property
    def naive(self) -> dict[str, tuple[Any, Any, int]]:
        return {c: naive_statistics(self.written.harvest, c) for c in self.columns}


def naive_statistics(harvest: Harvest, column: str) -> tuple[Any, Any, int]:
    """Minimum, maximum and NULLs as one first writes it down: what is missing is zero, or empty."""
    claims = [claim for claim in harvest.claims if claim.leaf == (column,)]
    is_text = pa.types.is_string(COLUMNS[column][0])
    lows, highs = (
        [_naive(getattr(c, end), is_text) for c in claims] or [_naive(None, is_text)] for end in ("low", "high")
    )
    return min(lows), max(highs), sum(claim.nulls or 0 for claim in claims)


def _naive(bound: bytes | None, is_text: bool) -> Any:
    return (bound or b"") if is_text else Decimal((bound or b"0").decode())


def naively_refuted(child: Table, parent: Table) -> bool:
    pairs = [(child.naive[column], parent.naive[column]) for column in child.columns]
    return any(
        low < its_low or high > its_high or nulls > its_nulls
        for (low, high, nulls), (its_low, its_high, its_nulls) in pairs
    )


def judge(tables: Sequence[Table]) -> list[Judged]:
    """All ordered pairs of tables whose columns fit."""
    kept = survivors([table.written.harvest for table in tables])
    return [
        judged(child, parent, kept.get((c, p)))
        for c, child in enumerate(tables)
        for p, parent in enumerate(tables)
        if c != p and set(child.columns) <= set(parent.columns)
    ]


def judged(child: Table, parent: Table, kept: bool | None) -> Judged:
    """One pair; `kept` is None where the metadata stages drop it, else whether they exclude that it is a bag."""
    mine, its = child.bag(child.columns), parent.bag(child.columns)
    return Judged(
        tables=(child.written.id, parent.written.id),
        child=child.written.writer,
        parent=parent.written.writer,
        contained=mine.keys() <= its.keys(),
        bag=mine <= its,
        refuted=kept is None,
        not_a_bag=kept is not False,
        exact=any(misses(child.exact[c], parent.exact[c]) for c in child.columns),
        believed_by=frozenset(c for c in child.columns if misses(child.believed[c], parent.believed[c])),
        naive=naively_refuted(child, parent),
    )


def survivors(harvests: Sequence[Harvest]) -> dict[tuple[int, int], bool]:
    """Pairs that the metadata stages keep, and whether they exclude a containment as bags."""
    paths = {place: [path for path, _ in leaves(harvest.schema)] for place, harvest in enumerate(harvests)}
    graph = build_schema_graph(paths, case_sensitive=False)
    evidence = {place: packed_evidence(harvest, utc=False) for place, harvest in enumerate(harvests)}
    rows = answer(0, list(blocks_of(graph)), evidence).to_pylist()
    return {(row["child"], row["parent"]): row["bag_excluded"] for row in rows if row["child"] != DONE}


def judged_lakes(
    folder: Path, pairs: int, writers: Sequence[str] = WRITERS, in_spark: RunInProcess | None = None
) -> list[Judged]:
    """Lakes of ever new seeds until there are as many pairs."""
    found: list[Judged] = []
    for seed in itertools.count():
        if len(found) >= pairs:
            return found
        found += judged_lake(folder / str(seed) / "lake", seed, writers, in_spark=in_spark)
    return found


def judged_lake(
    lake: Path, seed: int, writers: Sequence[str], tables: int = TABLES, in_spark: RunInProcess | None = None
) -> list[Judged]:
    """All pairs of one lake; `in_spark` runs what needs Spark, in a process of its own."""
    lake.mkdir(parents=True)
    made = plans(seed, tables, writers)
    for plan in made:
        if plan.writer not in SPARK_FORMATS:
            write(plan, lake)
    if in_spark is not None:
        in_spark(write_by_spark, str(lake), [plan for plan in made if plan.writer in SPARK_FORMATS])
    return judge([Table(written) for written in read_lake(lake)])


# ---- shares by writer


@dataclass(frozen=True, kw_only=True)
class Power:
    """Of the pairs that are not contained and have tables of a writer: how many are refuted.

    Attributes:
        pairs: Such pairs.
        exact: Those that the rule refutes on exact statistics.
        exact_refuted: Those of them that metadata refutes.
        believed, believed_refuted: The same for statistics that are believed.
        own, own_refuted: Those refuted on exact statistics both tables of which it wrote, and what metadata refutes.
    """

    writer: str
    pairs: int
    exact: int
    exact_refuted: int
    believed: int
    believed_refuted: int
    own: int
    own_refuted: int
    refuted: int


def power_by_writer(pairs: Sequence[Judged]) -> list[Power]:
    """A row for each writer, over the pairs whose child or parent it wrote, and one over all pairs."""
    apart = [pair for pair in pairs if not pair.contained]
    sets = {w: [pair for pair in apart if w in (pair.child, pair.parent)] for w in ALL_WRITERS} | {"all": apart}
    return [_power(writer, found) for writer, found in sets.items() if found]


def _power(writer: str, pairs: Sequence[Judged]) -> Power:
    exact, believed = ([pair for pair in pairs if getattr(pair, name)] for name in ("exact", "believed"))
    own = [pair for pair in exact if pair.child == pair.parent == writer]
    return Power(
        writer=writer,
        pairs=len(pairs),
        exact=len(exact),
        exact_refuted=sum(pair.refuted for pair in exact),
        believed=len(believed),
        believed_refuted=sum(pair.refuted for pair in believed),
        own=len(own),
        own_refuted=sum(pair.refuted for pair in own),
        refuted=sum(pair.refuted for pair in pairs),
    )


def markdown(rows: Iterable[Power]) -> str:
    head = (
        "| child or parent by | not contained | refuted by metadata | by exact statistics | of these by metadata"
        " | both by it: by exact statistics | of these by metadata | by believed statistics | of these by metadata |"
    )
    lines = [
        f"| {r.writer} | {r.pairs:,} | {_percent(r.refuted, r.pairs)} | {r.exact:,}"
        f" | {_percent(r.exact_refuted, r.exact)} | {r.own:,} | {_percent(r.own_refuted, r.own)}"
        f" | {r.believed:,} | {_percent(r.believed_refuted, r.believed)} |"
        for r in rows
    ]
    return "\n".join([head, "|---" + "|--:" * 8 + "|", *lines])


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# ---- the claims


@pytest.fixture(scope="module")
def pairs_without_spark(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    return judged_lakes(tmp_path_factory.mktemp("power"), PAIRS)


@pytest.fixture(scope="module")
def pairs_with_spark(spark_process: RunInProcess, tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    return judged_lakes(tmp_path_factory.mktemp("power_spark"), PAIRS // 5, WITH_SPARK, spark_process)


@pytest.fixture(
    params=["without", pytest.param("with", marks=[pytest.mark.engine, pytest.mark.java, pytest.mark.slow])]
)
def pairs(request: pytest.FixtureRequest) -> list[Judged]:
    """Judged pairs of tables, without and with Spark among the writers."""
    found: list[Judged] = request.getfixturevalue(f"pairs_{request.param}_spark")
    return found


def test_no_containment_is_refuted(pairs: Sequence[Judged]) -> None:
    contained = [pair for pair in pairs if pair.contained]
    assert len(contained) > len(pairs) / 20
    assert [pair for pair in contained if pair.refuted] == []
    assert [pair for pair in contained if pair.bag and pair.not_a_bag] == []


def test_what_believed_statistics_refute_is_refuted(pairs: Sequence[Judged]) -> None:
    rows = power_by_writer(pairs)
    often = {row.writer for row in rows if row.believed > 20}
    assert often >= ({*SPARK_FORMATS} if any(row.writer in SPARK_FORMATS for row in rows) else {*WRITERS})
    for row in rows:
        assert row.believed_refuted >= SHARE * row.believed, row


def test_what_one_column_alone_refutes_is_refuted(pairs: Sequence[Judged]) -> None:
    """Each kind of column for itself: in most pairs several refute, so one that never did would hardly be missed."""
    alone = {column: [pair for pair in pairs if pair.believed_by == {column}] for column in COLUMNS}
    assert sum(len(found) > 2 for found in alone.values()) > len(COLUMNS) / 2
    for column, found in alone.items():
        assert sum(pair.refuted for pair in found) >= SHARE * len(found), column


def test_the_oracle_believes_nothing_wrong(pairs: Sequence[Judged]) -> None:
    """A control of the oracle: what exact statistics refute, believed or not, is not contained."""
    assert [pair for pair in pairs if pair.contained and (pair.exact or pair.believed)] == []


@settings(max_examples=max(4, PAIRS // 1500), deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32))
def test_any_lake_keeps_its_containments_and_loses_what_is_believed(seed: int) -> None:
    """Small lakes that Hypothesis draws, each for itself."""
    with tempfile.TemporaryDirectory() as folder:
        found = judged_lake(Path(folder, "lake"), seed, WRITERS, tables=40)
    believed = [pair for pair in found if pair.believed and not pair.contained]
    assert [pair for pair in found if pair.contained and (pair.refuted or (pair.bag and pair.not_a_bag))] == []
    assert sum(pair.refuted for pair in believed) >= SHARE * len(believed)


def test_the_naive_rule_would_lose_containments(pairs: Sequence[Judged]) -> None:
    """A control of the data: they are hard enough to tell a wrong rule from a right one."""
    contained = [pair for pair in pairs if pair.contained]
    assert sum(pair.naive for pair in contained) > len(contained) / 20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        judged_pairs = judged_lakes(Path(made, "without"), PAIRS)
        if "--spark" in sys.argv:
            with own_process(keeps_spark=True) as run:
                judged_pairs += judged_lakes(Path(made, "with"), PAIRS // 5, WITH_SPARK, run)
    print(markdown(power_by_writer(judged_pairs)))
    contained_pairs = [pair for pair in judged_pairs if pair.contained]
    print(f"\n{len(judged_pairs):,} pairs, {len(contained_pairs):,} of them contained; none of these is refuted,")
    print(f"{sum(pair.naive for pair in contained_pairs):,} are by the naive rule")
