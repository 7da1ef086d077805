"""Fingerprints of wide tables: DuckDB reads the values, and those of one type are digested together.

A query with two expressions per leaf for its digest, and four to observe it, takes DuckDB much longer to plan and to
set up than to run. Here the query that reads the rows does little but name columns. Digests and aggregates are those
for single columns, so fingerprints and observations are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.model import LeafPath
from r2d2.scan.by_type import VALUE, digest_arrays, observe_arrays
from r2d2.scan.combine import Lanes, row_fingerprints
from r2d2.scan.duck import connect_beside
from r2d2.scan.items import ScanItem
from r2d2.scan.observe import Observation, Observer, observer
from r2d2.scan.rowhash import Column, Digest, RowHasher, RowPart, row_parts
from r2d2.scan.sample import Seen
from r2d2.scan.source import Source, leaf_of, struct_digest

WIDE_LEAVES = 64
"""Leaves from which on this is faster than one query for everything."""

TEXT_BYTES = 1 << 28
"""What the texts of one batch may take. DuckDB holds a text once for many rows, and Arrow once for each."""

_BATCH_VALUES = 1 << 20
_VECTOR_ROWS = 2048
"""Rows that DuckDB hands over at least."""

_LENGTHS = {"VARCHAR": "strlen", "BLOB": "octet_length"}
_CARRIED = re.compile(
    r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|DECIMAL\(.*\)|BOOLEAN|DATE|"
    r"TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?|VARCHAR|BLOB"
)
"""Types whose values come back to DuckDB from Arrow as they were."""


@dataclass(frozen=True, kw_only=True)
class WideRows:
    """Some rows of a source.

    Attributes:
        rows: How many.
        fingerprints: By column set, in the item's order.
        values: The further expressions, as v0, v1, ….
    """

    rows: int
    fingerprints: Sequence[Lanes]
    values: pa.RecordBatch


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Where the digests of leaves and structs come from, by their places.

    Attributes:
        place: Of each leaf and struct.
        carried: Leaves whose values are handed over, as x<place>.
        digested: What the query digests, as a<place> and b<place>.
        missing: Leaves that the source lacks.
    """

    place: Mapping[RowPart, int]
    carried: Mapping[int, Column]
    digested: Mapping[int, Digest]
    missing: Sequence[int]

    @property
    def by_type(self) -> Iterable[tuple[pa.DataType, list[int]]]:
        """Carried leaves of the same types in DuckDB and in Arrow."""
        groups: dict[tuple[str, pa.DataType], list[int]] = {}
        for place, leaf in self.carried.items():
            groups.setdefault((str(leaf.duckdb_type), leaf.type), []).append(place)
        return [(dtype, places) for (_, dtype), places in groups.items()]

    def sql(self, source: Source, values: Sequence[str]) -> str:
        """The query for the rows."""
        columns = [f"{leaf.sql} AS x{place}" for place, leaf in self.carried.items()]
        columns += [f"{own.first} AS a{place}, {own.second} AS b{place}" for place, own in self.digested.items()]
        columns += [f"{value} AS v{i}" for i, value in enumerate(values)]
        return f"SELECT {', '.join(columns or ['0 AS nothing'])} FROM {source.relation}"


def has_many_leaves(item: ScanItem) -> bool:
    """Whether the rows of an item are better read by `wide_rows`."""
    return len(_paths(item)) >= WIDE_LEAVES


def is_wide(source: Source, item: ScanItem) -> bool:
    """Whether an item has many leaves, all of which `wide_rows` can read from its source."""
    if not has_many_leaves(item):
        return False
    leaves = (leaf_of(source, path) for path in _paths(item))
    return source.is_stored or all(leaf is None or _is_carried(leaf) for leaf in leaves)


def wide_rows(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    item: ScanItem,
    hasher: RowHasher,
    *,
    values: Sequence[str] = (),
    seen: Seen | None = None,
) -> Iterator[WideRows]:
    """Fingerprints of all rows of a source under all column sets of an item.

    Args:
        connection: Where the source lives; not to be used before the last rows are there.
        source: The rows.
        item: The column sets.
        hasher: Row identity.
        values: Further expressions over the source.
        seen: Takes in what is observed of its leaves; complete once the iterator ends.
    """
    step = _batch_rows(item)
    parts = _parts(connection, source, item, hasher)
    observed = _Observed.of(parts, seen) if seen else None
    if observed:
        observed.see_uncarried(connection, source)
    sets = [[parts.place[part] for part in row_parts(own.paths)] for own in item.column_sets]
    # Closed whatever happens: an open result would make the connection useless for the next table.
    with (
        connect_beside(connection) as other,
        connection.sql(parts.sql(source, values)).to_arrow_reader(step) as batches,
    ):
        for batch in batches:
            for rows in (batch.slice(start, step) for start in range(0, batch.num_rows, step)):
                if observed:
                    observed.see(other, rows)
                digests = _digests(other, hasher, parts, rows)
                yield WideRows(
                    rows=rows.num_rows,
                    fingerprints=[row_fingerprints(hasher, (digests[place] for place in own)) for own in sets],
                    values=rows.select([f"v{i}" for i in range(len(values))]),
                )


def _paths(item: ScanItem) -> list[LeafPath]:
    return list(dict.fromkeys(path for column_set in item.column_sets for path in column_set.paths))


# --- what is handed over ----------------------------------------------------------------------------------------------


def _parts(connection: duckdb.DuckDBPyConnection, source: Source, item: ScanItem, hasher: RowHasher) -> _Parts:
    parts = row_parts(_paths(item))
    leaves = {place: leaf_of(source, path) for place, (kind, path) in enumerate(parts) if kind == "leaf"}
    known = {place: leaf for place, leaf in leaves.items() if leaf is not None}
    carried = {place: leaf for place, leaf in known.items() if _is_carried(leaf)}
    if source.is_stored:
        carried = _without_long_texts(connection, source, carried, item)
    digested = {place: hasher.value(leaf) for place, leaf in known.items() if place not in carried}
    structs = {place: struct_digest(hasher, source, path) for place, (kind, path) in enumerate(parts) if kind != "leaf"}
    return _Parts(
        place={part: place for place, part in enumerate(parts)},
        carried=carried,
        digested=digested | structs,
        missing=[place for place, leaf in leaves.items() if leaf is None],
    )


def _is_carried(leaf: Column) -> bool:
    return _CARRIED.fullmatch(str(leaf.duckdb_type)) is not None


def _without_long_texts(
    connection: duckdb.DuckDBPyConnection, source: Source, leaves: Mapping[int, Column], item: ScanItem
) -> dict[int, Column]:
    """The leaves without those whose texts would take too much, written out in all rows of a batch."""
    if has_short_texts(connection, source, leaves.values(), item):
        return dict(leaves)
    lengths = {place: sql for place, leaf in leaves.items() if (sql := _length(leaf)) is not None}
    each = _row(connection, f"SELECT {', '.join(f'max({sql})' for sql in lengths.values())} FROM {source.relation}")
    most = _most_bytes(len(lengths), item)
    long = {place for place, length in zip(lengths, each, strict=True) if length is not None and length > most}
    return {place: leaf for place, leaf in leaves.items() if place not in long}


def has_short_texts(
    connection: duckdb.DuckDBPyConnection, source: Source, leaves: Iterable[Column], item: ScanItem
) -> bool:
    """Whether the texts of some leaves, written out in all rows of a batch, take little.

    Args:
        connection: Where the source lives.
        source: The rows.
        leaves: Some of its leaves.
        item: Whose column sets `wide_rows` is to fingerprint.
    """
    lengths = [sql for leaf in leaves if (sql := _length(leaf)) is not None]
    if not lengths:
        return True
    (longest,) = _row(connection, f"SELECT max(greatest({', '.join(['0', *lengths])})) FROM {source.relation}")
    return longest is None or longest <= _most_bytes(len(lengths), item)


def _most_bytes(texts: int, item: ScanItem) -> int:
    """How long the longest of so many texts in a row may be."""
    return TEXT_BYTES // (max(_VECTOR_ROWS, _batch_rows(item)) * texts)


def _batch_rows(item: ScanItem) -> int:
    return max(1, _BATCH_VALUES // len(_paths(item)))


def _length(leaf: Column) -> str | None:
    """SQL of the bytes of a text; None for other types."""
    function = _LENGTHS.get(str(leaf.duckdb_type))
    return None if function is None else f"{function}({leaf.sql})"


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = connection.sql(sql).fetchall()
    return tuple(row)


def _digests(
    connection: duckdb.DuckDBPyConnection, hasher: RowHasher, parts: _Parts, rows: pa.RecordBatch
) -> dict[int, Lanes]:
    """Digests of all leaves and structs, by place."""
    found: dict[int, Lanes] = {
        place: (np.asarray(rows.column(f"a{place}")), np.asarray(rows.column(f"b{place}"))) for place in parts.digested
    }
    for dtype, places in parts.by_type:
        arrays = [rows.column(f"x{place}") for place in places]
        found |= zip(places, digest_arrays(connection, hasher, dtype, arrays), strict=True)
    if parts.missing:
        (nulls,) = digest_arrays(connection, hasher, pa.null(), [pa.nulls(rows.num_rows, pa.int32())])
        found |= dict.fromkeys(parts.missing, nulls)
    return found


# --- what the values say of the metadata ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Observed:
    """What a scan observes.

    Attributes:
        seen: Takes it in.
        groups: By type, an observer of values called VALUE, the places of the leaves and what is seen of each.
        uncarried: Observers of leaves that are not handed over, and what is seen of each.
    """

    seen: Seen
    groups: Sequence[tuple[Observer, Sequence[int], Sequence[Observation]]]
    uncarried: Sequence[tuple[Observer, Observation]]

    @classmethod
    def of(cls, parts: _Parts, seen: Seen) -> _Observed:
        by_place = {
            parts.place["leaf", one.expected.path]: (one, leaf)
            for one, leaf in zip(seen.observers, seen.leaves, strict=True)
        }
        groups = []
        for dtype, places in parts.by_type:
            own = [place for place in places if place in by_place]
            found = observer(by_place[own[0]][0].expected, VALUE, dtype) if own else None
            if found is not None:
                groups.append((found, own, [by_place[place][1] for place in own]))
        uncarried = [pair for place, pair in by_place.items() if place not in parts.carried]
        return cls(seen=seen, groups=groups, uncarried=uncarried)

    def see(self, connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatch) -> None:
        """Take in some rows."""
        self.seen.rows += rows.num_rows
        for found, places, leaves in self.groups:
            arrays = [rows.column(f"x{place}") for place in places]
            for leaf, own in zip(leaves, observe_arrays(connection, found, arrays), strict=True):
                leaf.join(own)

    def see_uncarried(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        """Take in all values of the other leaves of a source, which is read for them once more."""
        if not self.uncarried:
            return
        values = ", ".join(f"{one.value} AS v{i}" for i, (one, _) in enumerate(self.uncarried))
        aggregates = [sql for i, (one, _) in enumerate(self.uncarried) for sql in one.aggregates(f"v{i}")]
        row = _row(connection, f"SELECT {', '.join(aggregates)} FROM (SELECT {values} FROM {source.relation})")
        for place, (_, leaf) in enumerate(self.uncarried):
            low, high, known, nans = row[4 * place : 4 * place + 4]
            leaf.join(Observation(low=low, high=high, values=known, nans=nans))
