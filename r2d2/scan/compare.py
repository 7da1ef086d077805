"""Comparison of bags of fingerprints: which rows of a child a parent lacks, and which it has less often.

Works on one bucket: all fingerprints of some tables whose first lane falls into it. The verdicts of a
pair's buckets add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
        distinct: Distinct child rows compared.
        missing: Of those, absent from the parent.
        excess: Of those, more frequent in the child than in the parent.
    """

    distinct: int
    missing: int
    excess: int


@dataclass(frozen=True, kw_only=True)
class Bag:
    """Distinct rows of one table under one column set.

    Attributes:
        ids: Sorted numbers that stand for fingerprints within a bucket.
        first: First lane of each, as signed bits.
        counts: Occurrences of each.
    """

    ids: Words
    first: Words
    counts: Words


def bags_of(fingerprints: pa.Table) -> dict[tuple[int, int], Bag]:
    """Bags by (table, column set), fingerprints numbered so that equal ones have equal numbers."""
    parts: dict[tuple[int, int], list[tuple[Words, Words, Words | None]]] = {}
    keys = zip(fingerprints["table"].to_pylist(), fingerprints["column_set"].to_pylist(), strict=True)
    for key, packed in zip(keys, fingerprints["packed"], strict=True):
        parts.setdefault(key, []).append(unpack(packed.as_buffer()))
    if not parts:
        return {}
    first, second = (np.concatenate([part[lane] for own in parts.values() for part in own]) for lane in (0, 1))
    ids, first_of = numbered(first, second)
    bags: dict[tuple[int, int], Bag] = {}
    start = 0
    for key, own in parts.items():
        end = start + sum(len(part[0]) for part in own)
        bags[key] = _bag(ids[start:end], first_of, [part[2] for part in own], [len(part[0]) for part in own])
        start = end
    return bags


def numbered(first: Words, second: Words) -> tuple[Words, Words]:
    """Numbers of fingerprints, in the order of their first lanes and equal for equal ones; first lanes by number."""
    order = np.argsort(first)
    starts, clash = _run_starts_of(first[order], second[order])
    if clash:  # rows with one first lane and different second ones
        order = np.lexsort((second, first))
        starts, _ = _run_starts_of(first[order], second[order])
    ids = np.empty(len(first), np.int64)
    ids[order] = np.cumsum(starts) - 1
    return ids, first[order[starts]]


def _run_starts_of(first: Words, second: Words) -> tuple[npt.NDArray[np.bool_], bool]:
    """Where a row differs from the one before, and whether some differ by the second lane alone."""
    other_first, other_second = np.diff(first) != 0, np.diff(second) != 0
    starts = np.ones(len(first), bool)
    starts[1:] = other_first | other_second
    return starts, bool((other_second & ~other_first).any())


def _bag(ids: Words, first_of: Words, counts: Sequence[Words | None], sizes: Sequence[int]) -> Bag:
    """The bag of some numbered fingerprints; counts are given by parts of these sizes."""
    if all(own is None for own in counts):
        ordered = np.sort(ids)
        starts = _run_starts(ordered)
        counted = np.diff(starts, append=len(ordered))
    else:
        occurrences = [np.ones(size, np.int64) if own is None else own for own, size in zip(counts, sizes, strict=True)]
        order = np.argsort(ids)
        ordered = ids[order]
        starts = _run_starts(ordered)
        counted = np.add.reduceat(np.concatenate(occurrences)[order], starts)
    distinct = ordered[starts]
    return Bag(ids=distinct, first=first_of[distinct], counts=counted)


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

    def missing_and_excess(self, child: Bag) -> tuple[int, int]:
        """Distinct child rows that the held bag lacks, and those that it has less often (the former included)."""
        there = self._counts[child.ids]
        return int(np.count_nonzero(there == 0)), int(np.count_nonzero(there < child.counts))


_COUNTS = ("distinct", "missing", "excess", "child_rows", "parent_rows")
_EMPTY = Bag(ids=np.empty(0, np.int64), first=np.empty(0, np.int64), counts=np.empty(0, np.int64))


def verdicts(bags: dict[tuple[int, int], Bag], pairs: pa.Table) -> Iterator[dict[str, Any]]:
    """One verdict per pair of some QUESTIONS; equal bags, as copies have, are compared with others only once."""
    contents = {key: _content(bag) for key, bag in bags.items()}
    lookup = Lookup(1 + max((int(bag.ids[-1]) for bag in bags.values() if len(bag.ids)), default=-1))
    known: dict[tuple[bytes, bytes, int], tuple[int, ...]] = {}
    for pair in sorted(pairs.to_pylist(), key=lambda pair: (pair["column_set"], pair["parent"])):
        child, parent = (pair["child"], pair["column_set"]), (pair["parent"], pair["column_set"])
        question = (contents.get(child, b""), contents.get(parent, b""), pair["last"])
        if question not in known:
            compared, there = up_to(bags.get(child, _EMPTY), pair["last"]), bags.get(parent, _EMPTY)
            lookup.hold(there)
            sizes = (int(compared.counts.sum()), int(there.counts.sum()))
            known[question] = (len(compared.ids), *lookup.missing_and_excess(compared), *sizes)
        named = {name: pair[name] for name in ("child", "parent", "column_set")}
        yield {**named, **dict(zip(_COUNTS, known[question], strict=True))}


def _content(bag: Bag) -> bytes:
    """A name of a bag's rows and counts within its bucket."""
    digest = hashlib.blake2b(bag.ids.tobytes(), digest_size=16)
    digest.update(bag.counts.tobytes())
    return digest.digest()


def up_to(bag: Bag, last: int) -> Bag:
    """The rows whose first lane, read as unsigned, is at most `last`, which is given as signed bits."""
    if last == ALL:
        return bag
    kept = bag.first.view(np.uint64) <= np.int64(last).view(np.uint64)
    return Bag(ids=bag.ids[kept], first=bag.first[kept], counts=bag.counts[kept])


def _run_starts(words: Words) -> npt.NDArray[np.intp]:
    changes = np.ones(len(words), bool)
    changes[1:] = np.diff(words) != 0
    return np.flatnonzero(changes)
