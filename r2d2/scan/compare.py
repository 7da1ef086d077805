"""Comparison of bags of fingerprints: which rows of a child a parent lacks, and which it has less often.

Works on one bucket: all fingerprints of some tables whose first lane falls into it. The verdicts of a
pair's buckets add up.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.scan.beginnings import begin_alike, beginnings, tell_apart
from r2d2.scan.ordering import changes, order_of, ordered
from r2d2.scan.reports import Words, unpack

ALL = -1
"""As the last first lane that is looked at: all 64 bits are set, so nothing is above it."""

QUESTIONS = pa.schema(
    [
        pa.field("first_bucket", pa.int32()),  # of those where it is asked
        pa.field("buckets", pa.int32()),
        pa.field("child", pa.int32()),
        pa.field("parent", pa.int32()),  # SEVERAL in a question about several, see `scan.members`
        pa.field("column_set", pa.int32()),
        pa.field("last", pa.int64()),  # unsigned bits: rows with a first lane above it are not compared
        pa.field("parents", pa.binary()),  # of SEVERAL: 32-bit words; empty in a question about a pair
    ]
)
SEVERAL = -1

Key = tuple[int, int]
"""A table and a column set."""

LEAST_LEFT_OUT = 1 << 13
"""Rows, of tables that are not looked for in others, from which on it is worth while to leave some out."""

FIRST_ROWS = 1024
"""Rows of a child, of those of the least hashes, that are looked at first: most pairs are refuted by them."""

VERDICTS = pa.schema(
    [
        pa.field("child", pa.int32()),  # REPORT in a report
        pa.field("parent", pa.int32()),  # KINDS and SIZES in answers of `scan.members`
        pa.field("column_set", pa.int32()),
        pa.field("distinct", pa.int64()),  # distinct child rows compared
        pa.field("missing", pa.int64()),  # of those, absent from the parent
        pa.field("excess", pa.int64()),  # of those, more frequent in the child than in the parent
        pa.field("child_rows", pa.int64()),  # rows of the child that reached the comparison, repeated ones too
        pa.field("parent_rows", pa.int64()),
        pa.field("packed", pa.binary()),  # kinds of rows, see `scan.members.Kinds`
        pa.field("table", pa.int32()),  # the columns of a report, see FINGERPRINTS
        pa.field("rows_read", pa.int64()),
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of a pair.

    Attributes:
        distinct: Distinct child rows compared; if any is missing, others may not have been looked at.
        missing: Of those, absent from the parent.
        excess: Of those, more frequent in the child than in the parent.
        whole: Both tables were read whole, not sampled: if none is missing, all rows were compared.
    """

    distinct: int
    missing: int
    excess: int
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Bag:
    """Distinct rows of one table under one column set.

    Attributes:
        ids: Sorted numbers that stand for fingerprints within a bucket.
        first: First lane of each, as signed bits.
        counts: Occurrences of each.
        others: Rows that are left out, since no child has them.
    """

    ids: Words
    first: Words
    counts: Words
    others: int = 0

    @cached_property
    def rows(self) -> int:
        """All of them, repeated ones too."""
        return int(self.counts.sum()) + self.others

    @property
    def end(self) -> int:
        """Above all of its numbers."""
        return int(self.ids[-1]) + 1 if len(self.ids) else 0

    def where(self, kept: npt.NDArray[np.bool_]) -> Bag:
        """Some of its distinct rows, and none of the others."""
        return self if kept.all() else Bag(ids=self.ids[kept], first=self.first[kept], counts=self.counts[kept])


_Part = tuple[Words, Words, Words | None]
_Parts = dict[Key, list[_Part]]


def bags_of(fingerprints: pa.Table, children: Set[Key]) -> dict[Key, Bag]:
    """Bags by (table, column set), fingerprints numbered so that equal ones have equal numbers.

    Args:
        fingerprints: Schema FINGERPRINTS, without reports.
        children: Those whose rows are looked for. Rows that none of them has may be left out of the others' bags, and
            are only counted.
    """
    parts: _Parts = {}
    others: Counter[Key] = Counter()
    table, column_set, left_out = (fingerprints[name].to_pylist() for name in ("table", "column_set", "rows_read"))
    for key, rows, packed in zip(zip(table, column_set, strict=True), left_out, fingerprints["packed"], strict=True):
        parts.setdefault(key, []).append(unpack(packed.as_buffer()))
        others[key] += rows
    others.update(_leave_out(parts, children))
    lanes = [part for own in parts.values() for part in own]
    first, second = (np.concatenate([_NOTHING, *(part[lane] for part in lanes)]) for lane in (0, 1))
    order, starts = ordered(first, second)
    # Those of one bag stay in the order of their numbers.
    owners = np.repeat(np.arange(len(parts)), [sum(len(part[0]) for part in own) for own in parts.values()])[order]
    by_owner = order_of(owners)
    owners, ids = owners[by_owner], (np.cumsum(starts) - 1)[by_owner]
    begins = np.flatnonzero(changes(ids) | changes(owners))
    counts = np.diff(begins, append=len(ids))
    if len(begins) and any(part[2] is not None for part in lanes):
        times = np.concatenate([np.ones(len(part[0]), np.int64) if part[2] is None else part[2] for part in lanes])
        counts = np.add.reduceat(times[order[by_owner]], begins)
    distinct = ids[begins]
    whole = Bag(ids=distinct, first=first[order[starts]][distinct], counts=counts)
    ends = np.cumsum(np.bincount(owners[begins], minlength=len(parts)))
    return {
        key: Bag(
            ids=whole.ids[start:end],
            first=whole.first[start:end],
            counts=whole.counts[start:end],
            others=others[key],
        )
        for key, (start, end) in zip(parts, itertools.pairwise([0, *ends.tolist()]), strict=True)
    }


def _leave_out(parts: _Parts, children: Set[Key]) -> dict[Key, int]:
    """Leave rows out that no child has, by their first bits, where these are many; returns how many are left out."""
    sets: dict[int, list[Key]] = {}
    for key in parts:
        sets.setdefault(key[1], []).append(key)
    left_out: dict[Key, int] = {}
    for keys in sets.values():
        wanted = [part[0] for key in keys if key in children for part in parts[key]]
        others = [(key, part) for key in keys if key not in children for part in parts[key]]
        sizes = [len(part[0]) for _, part in others]
        if not others or sum(sizes) < LEAST_LEFT_OUT or not tell_apart(sum(map(len, wanted))):
            continue
        there = beginnings(np.concatenate([_NOTHING, *wanted]))
        kept = begin_alike(beginnings(np.concatenate([part[0] for _, part in others])), there)
        for key, _ in others:
            parts[key], left_out[key] = [], 0
        for (key, part), own in zip(others, np.split(kept, np.cumsum(sizes)[:-1]), strict=True):
            parts[key].append(_taken(part, own))
            left_out[key] += _rows(part, ~own)
    return left_out


def _rows(part: _Part, chosen: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(chosen) if part[2] is None else part[2][chosen].sum())


def _taken(part: _Part, chosen: npt.NDArray[np.bool_]) -> _Part:
    first, second, counts = part
    return first[chosen], second[chosen], None if counts is None else counts[chosen]


def numbered(first: Words, second: Words) -> tuple[Words, Words]:
    """Numbers of fingerprints, in the order of their first lanes and equal for equal ones; first lanes by number."""
    order, starts = ordered(first, second)
    ids = np.empty(len(first), np.int64)
    ids[order] = np.cumsum(starts) - 1
    return ids, first[order[starts]]


class Lookup:
    """How often one bag has each number: bags that are asked about one parent after the other share its memory."""

    def __init__(self, numbers: int) -> None:
        """For numbers below `numbers`."""
        self._counts = np.zeros(numbers, np.int64)
        self._held = _EMPTY

    def hold(self, bag: Bag) -> None:
        """Answer for this bag from now on."""
        if bag is not self._held:
            self._counts[self._held.ids] = 0
            self._counts[bag.ids] = bag.counts
            self._held = bag

    def distinct_missing_excess(self, child: Bag) -> tuple[int, int, int]:
        """Distinct child rows that were looked at, those that the held bag lacks, and those that it has less often.

        The last include the second. If any of the first FIRST_ROWS is missing, no others are looked at.
        """
        found = self._missing_excess(child.ids[:FIRST_ROWS], child.counts[:FIRST_ROWS])
        if found[0] or len(child.ids) <= FIRST_ROWS:
            return min(len(child.ids), FIRST_ROWS), *found
        return len(child.ids), *self._missing_excess(child.ids, child.counts)

    def _missing_excess(self, ids: Words, counts: Words) -> tuple[int, int]:
        there = self._counts[ids]
        return int(np.count_nonzero(there == 0)), int(np.count_nonzero(there < counts))


_COUNTS = ("distinct", "missing", "excess", "child_rows", "parent_rows")
_NOTHING = np.empty(0, np.int64)
_EMPTY = Bag(ids=_NOTHING, first=_NOTHING, counts=_NOTHING)


def verdicts(bags: dict[Key, Bag], pairs: pa.Table) -> Iterator[dict[str, Any]]:
    """One verdict per pair of some QUESTIONS; equal bags, as copies have, are compared with others only once."""
    contents = _contents(bags)
    lookup = Lookup(max((bag.end for bag in bags.values()), default=0))
    known: dict[tuple[Hashable, Hashable, int], tuple[int, ...]] = {}
    for pair in sorted(pairs.to_pylist(), key=lambda pair: (pair["column_set"], pair["parent"])):
        child, parent = (pair["child"], pair["column_set"]), (pair["parent"], pair["column_set"])
        question = (contents.get(child, b""), contents.get(parent, b""), pair["last"])
        if question not in known:
            compared, there = up_to(bags.get(child, _EMPTY), pair["last"]), bags.get(parent, _EMPTY)
            lookup.hold(there)
            known[question] = (*lookup.distinct_missing_excess(compared), compared.rows, there.rows)
        named = {name: pair[name] for name in ("child", "parent", "column_set")}
        yield {**named, **dict(zip(_COUNTS, known[question], strict=True))}


def _contents(bags: Mapping[Key, Bag]) -> dict[Key, Hashable]:
    """A name of each bag's rows and counts within its bucket: its own where no other has as many rows."""
    sizes = Counter((column_set, len(bag.ids)) for (_, column_set), bag in bags.items())
    return {key: _content(bag) if sizes[key[1], len(bag.ids)] > 1 else key for key, bag in bags.items()}


def _content(bag: Bag) -> bytes:
    digest = hashlib.blake2b(bag.others.to_bytes(8), digest_size=16)
    digest.update(bag.ids.tobytes())
    digest.update(bag.counts.tobytes())
    return digest.digest()


def up_to(bag: Bag, last: int) -> Bag:
    """The rows whose first lane, read as unsigned, is at most `last`, which is given as signed bits."""
    if last == ALL:
        return bag
    return bag.where(bag.first.view(np.uint64) <= np.int64(last).view(np.uint64))
