"""A scan that keeps a sample of the fingerprints and observes all values.

Of a source that can be read again, the values are observed by a query of their own. Of one that is read once, rows
whose fingerprints are not kept fall into one group, so that the aggregates of all groups are those of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.scan.observe import Observation, Observer
from r2d2.scan.source import FILE_NUMBER

_AGGREGATES = 4


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """The fingerprint of a row under one column set, as two SQL expressions over the digests of the leaves."""

    column_set: int
    first: str
    second: str


@dataclass(kw_only=True)
class Seen:
    """What a sampling scan saw beside the fingerprints: all rows, and the observed leaves."""

    observers: Sequence[Observer]
    rows: int = 0
    leaves: list[Observation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaves = [Observation() for _ in self.observers]

    def take_in(self, rows: int, aggregates: Sequence[Any]) -> None:
        """Take in some rows, and the aggregates of all observers over them."""
        self.rows += rows
        for place, leaf in enumerate(self.leaves):
            low, high, known, nans = aggregates[_AGGREGATES * place : _AGGREGATES * (place + 1)]
            leaf.join(Observation(low=low, high=high, values=known, nans=nans))


def observe(connection: duckdb.DuckDBPyConnection, relation: str, seen: Seen) -> None:
    """Take in all rows of a relation, and what their values are."""
    ((_, rows, *found),) = connection.sql(_observing(relation, seen.observers, "0")).fetchall()
    seen.take_in(rows, found)


def observe_each(
    connection: duckdb.DuckDBPyConnection, relation: str, observers: Sequence[Observer]
) -> dict[int, Seen]:
    """What `observe` sees of each file of a relation, by its number; of files without rows there is nothing."""
    each: dict[int, Seen] = {}
    sql = f"{_observing(relation, observers, FILE_NUMBER)} GROUP BY number"
    for number, rows, *found in connection.sql(sql).fetchall():
        each[number] = Seen(observers=observers)
        each[number].take_in(rows, found)
    return each


def _observing(relation: str, observers: Sequence[Observer], number: str) -> str:
    values = "".join(f", {one.value} AS v{i}" for i, one in enumerate(observers))
    rows = f"SELECT {number} AS number{values} FROM {relation}"
    return f"SELECT any_value(number), count(*){_aggregated(observers)} FROM ({rows})"


def _aggregated(observers: Sequence[Observer]) -> str:
    aggregates = [sql for i, observer in enumerate(observers) for sql in observer.aggregates(f"v{i}")]
    return "".join(f", {sql} AS o{i}" for i, sql in enumerate(aggregates))


def sample_sql(digests: str, lanes: Sequence[Lanes], observers: Sequence[Observer], threshold: int | None) -> str:
    """The query of a sampling scan over a source that is read once.

    Args:
        digests: Query for the digests of all leaves and, as v0, v1, …, the values to observe.
        lanes: The column sets.
        observers: Leaves to observe.
        threshold: Fingerprints whose first lane is below it are kept; None keeps all.
    """
    rows = ", ".join(f"{own.first} AS h{i}, {own.second} AS g{i}" for i, own in enumerate(lanes))
    values = "".join(f", v{i}" for i in range(len(observers)))
    kept = [("true" if threshold is None else f"h{i} < {threshold}::UBIGINT") for i in range(len(lanes))]
    keys = ", ".join(
        f"CASE WHEN {k} THEN h{i} END AS k{i}, CASE WHEN {k} THEN g{i} END AS l{i}" for i, k in enumerate(kept)
    )
    named = _aggregated(observers)
    grouped = ", ".join(f"k{i}, l{i}" for i in range(len(lanes)))
    inner = f"SELECT {rows}{values} FROM ({digests})"
    return f"SELECT {grouped}, count(*) AS n{named} FROM (SELECT {keys}{values} FROM ({inner})) GROUP BY {grouped}"


def sample_batches(
    connection: duckdb.DuckDBPyConnection, sql: str, lanes: Sequence[Lanes], seen: Seen, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Run a sampling scan.

    Args:
        connection: Where its source lives.
        sql: From `sample_sql`.
        lanes: Its column sets.
        seen: Takes in what is observed; complete once the iterator ends.
        batch_rows: Groups per batch.

    Yields:
        Column set, and a batch of kept fingerprints: h1, h2 (unsigned lanes) and n (rows that have them). The same
        fingerprint may come more than once.
    """
    for batch in connection.sql(sql).to_arrow_reader(batch_rows):
        seen.rows += pc.sum(batch.column("n")).as_py() or 0
        for place, leaf in enumerate(seen.leaves):
            leaf.add([batch.column(f"o{_AGGREGATES * place + i}") for i in range(_AGGREGATES)])
        for place, own in enumerate(lanes):
            columns = {"h1": batch.column(f"k{place}"), "h2": batch.column(f"l{place}"), "n": batch.column("n")}
            kept = pa.RecordBatch.from_pydict(columns).filter(pc.is_valid(columns["h1"]))
            if kept.num_rows:
                yield own.column_set, kept
