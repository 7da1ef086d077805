"""Kernel: which of several tables hold each row of a child, in one bucket of fingerprints.

Rows that the same tables hold are one *kind*. Where a table was sampled, only fingerprints that all samples would have
kept are looked at: a row among them that no table holds is nowhere, and nothing else is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.scan.compare import ALL, Bag, up_to

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

KINDS, SIZES = -2, -3
"""What stands for the parent in answers: about rows of a child, and about the size of a table."""

CELLS = 1 << 24
"""Rows of a child times parents that are looked at in one step, with about 4 bytes each."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which of some parents hold the rows of a child?

    Attributes:
        child: Position of the table.
        column_set: What its rows are compared by.
        parents: The tables that are asked about, ascending.
        last: Rows with a first lane above it are not asked about: unsigned bits, ALL unless some table is sampled.
    """

    child: int
    column_set: int
    parents: tuple[int, ...]
    last: int = ALL

    @property
    def tables(self) -> tuple[int, ...]:
        """Child and parents."""
        return (self.child, *self.parents)


def questions_text(questions: Sequence[Question]) -> str:
    """Questions about one bucket as text."""
    return json.dumps([vars(question) for question in questions])


def questions_of(text: str) -> list[Question]:
    """Inverse of `questions_text`."""
    return [Question(**{**raw, "parents": tuple(raw["parents"])}) for raw in json.loads(text)]


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Distinct rows of a child, those held by the same parents together; some kinds may come more than once.

    Attributes:
        held: (kinds, parents): whether a parent holds the rows.
        distinct: (kinds,): how many rows.
        needed: (short rows,): how often the child has a row that some parent which holds it has less often; equal
            short rows come once.
        there: (short rows, parents): how often each parent has that row, at most `needed`.
    """

    held: Mask
    distinct: Numbers
    needed: Numbers
    there: Numbers

    @classmethod
    def none(cls, parents: int) -> Kinds:
        """The kinds of a child without rows."""
        no_rows = np.empty(0, np.int64)
        return cls(
            held=np.empty((0, parents), bool), distinct=no_rows, needed=no_rows, there=no_rows.reshape(0, parents)
        )

    def pack(self) -> bytes:
        """All of it as bytes."""
        head = np.array([*self.held.shape, len(self.needed)], np.int64)
        numbers = (head, self.distinct, self.needed, self.there)
        return b"".join(part.tobytes() for part in (*numbers, np.packbits(self.held)))

    @classmethod
    def unpack(cls, packed: bytes) -> Kinds:
        """Inverse of `pack`."""
        kinds, parents, short = np.frombuffer(packed, np.int64, 3).tolist()
        numbers = np.frombuffer(packed, np.int64, kinds + short * (1 + parents), 24)
        distinct, needed, there = np.split(numbers, [kinds, kinds + short])
        bits = np.frombuffer(packed, np.uint8, offset=24 + numbers.nbytes)
        held = np.unpackbits(bits, count=kinds * parents).astype(bool).reshape(kinds, parents)
        return cls(held=held, distinct=distinct, needed=needed, there=there.reshape(short, parents))

    def of(self, places: Sequence[int]) -> Kinds:
        """What some of the parents hold, given by their places."""
        own = np.array(places, np.intp)
        return Kinds(held=self.held[:, own], distinct=self.distinct, needed=self.needed, there=self.there[:, own])


def joined(parts: Sequence[Kinds], parents: int) -> Kinds:
    """The kinds of several buckets as one."""
    if not parts:
        return Kinds.none(parents)
    names = ("held", "distinct", "needed", "there")
    held, distinct, needed, there = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return _grouped(held, distinct, needed, there)


def answers(bags: Mapping[tuple[int, int], Bag], questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """What one bucket says to some questions.

    Yields:
        Per child, in portions: its rows that were looked at, how many no parent has, at least, and where all have one
        and the question is about all rows, their kinds. Then the size of each table that was asked about as a whole.

    Args:
        bags: By table and column set; a table without fingerprints here has none.
        questions: About these tables.
    """
    by_set: dict[int, list[Question]] = {}
    for question in questions:
        by_set.setdefault(question.column_set, []).append(question)
    bags_by_set: dict[int, dict[int, Bag]] = {}
    for (table, column_set), bag in bags.items():
        bags_by_set.setdefault(column_set, {})[table] = bag
    for column_set, asked in by_set.items():
        own = bags_by_set.get(column_set)
        if own:
            holders = _Holders.of(own)
            for question in asked:
                if question.child in own:
                    yield from _about_rows(own[question.child], question, holders)
            whole = {table for question in asked if question.last == ALL for table in question.tables}
            yield from (_size(table, column_set, own[table]) for table in sorted(whole & own.keys()))


def _size(table: int, column_set: int, bag: Bag) -> dict[str, Any]:
    rows = int(bag.counts.sum())
    return {"child": table, "parent": SIZES, "column_set": column_set, "distinct": len(bag.ids), "child_rows": rows}


@dataclass(frozen=True, kw_only=True)
class _Holders:
    """The tables that hold each row under one column set, and how often; those of one row stand together.

    Attributes:
        starts: Where those of a row start, by its number, and where the last ones end.
        tables, counts: In this order.
        place_of: By table, its place among the parents of a question while this is answered, else -1.
    """

    starts: Numbers
    tables: Numbers
    counts: Numbers
    place_of: Numbers

    @classmethod
    def of(cls, bags: Mapping[int, Bag]) -> _Holders:
        ids = np.concatenate([bag.ids for bag in bags.values()])
        order = np.argsort(ids, kind="stable")
        tables = np.repeat(np.array(list(bags), np.int64), [len(bag.ids) for bag in bags.values()])
        return cls(
            starts=np.concatenate([[0], np.cumsum(np.bincount(ids))]),
            tables=tables[order],
            counts=np.concatenate([bag.counts for bag in bags.values()])[order],
            place_of=np.full(max(bags) + 1, -1, np.int64),
        )

    def how_many(self, ids: Numbers) -> Numbers:
        """How many tables hold each of some rows."""
        return self.starts[ids + 1] - self.starts[ids]

    def among(self, ids: Numbers, parents: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Who of some parents holds some rows: position of the row, place of the parent, how often."""
        starts, sizes = self.starts[ids], self.how_many(ids)
        row = np.repeat(np.arange(len(ids)), sizes)
        position = np.arange(len(row)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        there = parents < len(self.place_of)
        self.place_of[parents[there]] = np.flatnonzero(there)
        place = self.place_of[self.tables[position]]
        self.place_of[parents[there]] = -1
        kept = place >= 0
        return row[kept], place[kept], self.counts[position[kept]]


def _about_rows(child: Bag, question: Question, holders: _Holders) -> Iterator[dict[str, Any]]:
    asked = up_to(child, question.last)
    parents = np.array(question.parents, np.int64)
    about = {"child": question.child, "parent": KINDS, "column_set": question.column_set}
    alone = int(np.count_nonzero(holders.how_many(asked.ids) == 1))
    if alone:  # no need to look who has the others
        yield {**about, "distinct": len(asked.ids), "missing": alone}
        return
    step = max(1, CELLS // len(parents))
    for start in range(0, len(asked.ids), step):
        counts = asked.counts[start : start + step]
        row, place, there = holders.among(asked.ids[start : start + step], parents)
        missing = int(np.count_nonzero(np.bincount(row, minlength=len(counts)) == 0))
        is_answered = question.last == ALL and missing == 0
        packed = _kinds(counts, row, place, there, len(parents)).pack() if is_answered else b""
        yield {**about, "distinct": len(counts), "missing": missing, "packed": packed}


def _kinds(counts: Numbers, row: Numbers, place: Numbers, there: Numbers, parents: int) -> Kinds:
    """The kinds of some rows.

    Args:
        counts: How often the child has each.
        row, place, there: Who holds them: see `_Holders.among`.
        parents: How many are asked about.
    """
    held = np.zeros((len(counts), parents), bool)
    held[row, place] = True
    is_short = np.zeros(len(counts), bool)
    is_short[row[there < counts[row]]] = True
    number = np.cumsum(is_short) - 1
    often = np.zeros((np.count_nonzero(is_short), parents), np.int64)
    chosen = is_short[row]
    often[number[row[chosen]], place[chosen]] = np.minimum(there, counts[row])[chosen]
    return _grouped(held, np.ones(len(counts), np.int64), counts[is_short], often)


def _grouped(held: Mask, distinct: Numbers, needed: Numbers, there: Numbers) -> Kinds:
    """Kinds without repetitions."""
    bits = np.packbits(held, axis=1, bitorder="little")
    first, group = _groups(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.int64))
    counted = np.bincount(group, weights=distinct, minlength=len(first)).astype(np.int64)
    short, _ = _groups(np.column_stack([needed, there]))
    return Kinds(held=held[first], distinct=counted, needed=needed[short], there=there[short])


def _groups(words: Numbers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """One row of each kind, and the kind of each row; sorted by words, since numpy's own way is slow for many rows."""
    order = np.lexsort(words.T)
    begins = np.ones(len(order), bool)
    begins[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    inverse = np.empty(len(order), np.intp)
    inverse[order] = np.cumsum(begins) - 1
    return order[begins], inverse
