"""Which of several tables hold which rows: rows that the same tables hold are one *kind*.

Said once for all children that are asked about: per child it would be said again for every table that has a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.scan.bag_sums import ODD, mixed
from r2d2.scan.ordering import changes, order_of, order_of_hashes

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Lists of numbers, one after the other.

    Attributes:
        starts: Where each begins among the items, and where the last one ends.
        items: Of all of them.
    """

    starts: Numbers
    items: npt.NDArray[Any]

    @classmethod
    def of(cls, owners: Numbers, items: npt.NDArray[Any], count: int) -> Lists:
        """So many lists of items that belong to owners, given ascending."""
        return cls(starts=np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]), items=items)

    @classmethod
    def by_owner(cls, owners: npt.NDArray[Any], items: npt.NDArray[Any], count: int) -> Lists:
        """So many lists of items that belong to owners in any order; those of one stay in their order."""
        order = order_of(owners)
        return cls.of(owners[order], items[order], count)

    @classmethod
    def joined(cls, parts: Sequence[Lists]) -> Lists:
        """The lists of all parts, at least one."""
        ends = np.cumsum([0, *(len(part.items) for part in parts)])
        starts = [part.starts[:-1] + end for part, end in zip(parts, ends, strict=False)]
        return cls(starts=np.concatenate([*starts, ends[-1:]]), items=np.concatenate([part.items for part in parts]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def sizes(self) -> Numbers:
        """Items of each."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Numbers:
        """The list of each item."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def at(self, lists: npt.NDArray[np.intp]) -> Numbers:
        """Positions of the items of some lists, one list after the other."""
        sizes = self.sizes[lists]
        ends = np.cumsum(sizes)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts[lists] - ends + sizes, sizes)

    def taken(self, lists: npt.NDArray[np.intp]) -> Lists:
        """Some of the lists."""
        starts = np.concatenate([[0], np.cumsum(self.sizes[lists])])
        return Lists(starts=starts, items=self.items[self.at(lists)])


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Distinct rows under one column set, those that the same tables hold together; some kinds may come more than once.

    Attributes:
        held: Of each kind, the tables that hold its rows, ascending.
        distinct: (kinds,): how many rows.
        repeated: Of each row that some table has several times, the tables that hold it, ascending; rows that are
            alike in this come once.
        often: How often each of these tables has it; beside the items of `repeated`.
    """

    held: Lists
    distinct: Numbers
    repeated: Lists
    often: Numbers

    @classmethod
    def of_rows(cls, rows: int, row: Numbers, table: Numbers, count: Numbers) -> Kinds:
        """The kinds of so many rows.

        Args:
            rows: How many.
            row, table, count: Which row is held by which table, and how often; ascending.
        """
        is_repeated = np.zeros(rows, bool)
        is_repeated[row[count > 1]] = True
        chosen, number = is_repeated[row], np.cumsum(is_repeated) - 1
        tables = table.astype(np.int32)
        return cls(
            held=Lists.of(row, tables, rows),
            distinct=np.ones(rows, np.int64),
            repeated=Lists.of(number[row[chosen]], tables[chosen], int(np.count_nonzero(is_repeated))),
            often=count[chosen],
        ).grouped()

    @classmethod
    def joined(cls, parts: Sequence[Kinds]) -> Kinds:
        """The kinds of several buckets as one."""
        if not parts:
            nothing = np.empty(0, np.int64)
            return cls.of_rows(0, nothing, nothing, nothing)
        distinct, often = (np.concatenate([getattr(part, name) for part in parts]) for name in ("distinct", "often"))
        held, repeated = (Lists.joined([getattr(part, name) for part in parts]) for name in ("held", "repeated"))
        return cls(held=held, distinct=distinct, repeated=repeated, often=often).grouped()

    def grouped(self) -> Kinds:
        """The same without repetitions, in an order that follows from what they are."""
        first, group = _groups(self.held)
        chosen, _ = _groups(self._with_often())
        return Kinds(
            held=self.held.taken(first),
            distinct=np.bincount(group, weights=self.distinct, minlength=len(first)).astype(np.int64),
            repeated=self.repeated.taken(chosen),
            often=self.often[self.repeated.at(chosen)],
        )

    def _with_often(self) -> Lists:
        """Repeated rows as lists of tables, each with how often it has the row."""
        items = np.column_stack([self.repeated.items, self.often]).ravel()
        return Lists(starts=2 * self.repeated.starts, items=items)

    def pack(self) -> bytes:
        """All of it as bytes."""
        lists = (self.held, self.repeated)
        head = np.array([number for own in lists for number in (len(own), len(own.items))], np.int64)
        numbers = [head, self.distinct, self.often, *(own.starts for own in lists), *(own.items for own in lists)]
        return b"".join(part.tobytes() for part in numbers)

    @classmethod
    def unpack(cls, packed: bytes) -> Kinds:
        """Inverse of `pack`."""
        kinds, held, rows, repeated = np.frombuffer(packed, np.int64, 4).tolist()
        ends = np.cumsum([4, kinds, repeated, kinds + 1, rows + 1])
        numbers = np.frombuffer(packed, np.int64, int(ends[-1]))
        _, distinct, often, starts, repeated_starts = np.split(numbers, ends[:-1])
        tables = np.frombuffer(packed, np.int32, held + repeated, numbers.nbytes)
        return cls(
            held=Lists(starts=starts, items=tables[:held]),
            distinct=distinct,
            repeated=Lists(starts=repeated_starts, items=tables[held:]),
            often=often,
        )


def _groups(lists: Lists) -> tuple[npt.NDArray[np.intp], Numbers]:
    """One list of each content, and the content of each list; lists of equal content may rarely count as several."""
    words = _hashes(lists)
    order = order_of_hashes(words)
    begins = changes(words[order])
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(begins) - 1
    first = order[begins]
    other = ~_equal(lists, first[group])
    if other.any():  # another content of the same hash
        group[other] = len(first) + np.arange(np.count_nonzero(other))
        first = np.concatenate([first, np.flatnonzero(other)])
    return first, group


def _hashes(lists: Lists) -> npt.NDArray[np.uint64]:
    """Of each list: a sum over its items and where in it they are."""
    place = (np.arange(len(lists.items)) - np.repeat(lists.starts[:-1], lists.sizes)).astype(np.uint64)
    words = mixed(lists.items.astype(np.uint64) + (place + np.uint64(1)) * ODD)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words, dtype=np.uint64)])
    found: npt.NDArray[np.uint64] = sums[lists.starts[1:]] - sums[lists.starts[:-1]]
    return found


def _equal(lists: Lists, others: npt.NDArray[np.intp]) -> Mask:
    """Whether each list is the same as another one of them."""
    equal: Mask = lists.sizes == lists.sizes[others]
    chosen = np.flatnonzero(equal)
    differs = lists.items[lists.at(chosen)] != lists.items[lists.at(others[chosen])]
    equal[np.repeat(chosen, lists.sizes[chosen])[differs]] = False
    return equal
