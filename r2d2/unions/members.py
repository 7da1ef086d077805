"""Kernel: which of several tables hold each row of a child, in one bucket of fingerprints.

Rows held by the same tables are one answer. A table that was sampled says nothing of a fingerprint above its
threshold: there it may hold the row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.scan.compare import Bag

Mask = npt.NDArray[np.bool_]

QUESTIONS = pa.schema([("bucket", pa.int32()), ("questions", pa.string())])
MEMBERS = pa.schema(
    [
        pa.field("child", pa.int32()),  # REPORT in a report
        pa.field("parent", pa.int32()),  # of an answer about one parent; NO_PARENT in one about rows of the child
        pa.field("held", pa.string()),  # positions of the parents that hold the rows, as text
        pa.field("open", pa.string()),  # positions of those that may
        pa.field("distinct", pa.int64()),  # distinct rows of the child; of the parent
        pa.field("excess", pa.int64()),  # of those, more often there than in the chosen parents; not in the child
        pa.field("rows", pa.int64()),  # rows, repeated ones too
        pa.field("least", pa.int64()),  # unsigned bits: the least first lane among them
        pa.field("table", pa.int32()),  # the columns of a report
        pa.field("rows_read", pa.int64()),
        pa.field("bytes_read", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("status", pa.string()),
    ]
)
NO_PARENT = -1

CELLS = 1 << 24
"""Rows of a child times parents that are looked at in one step, with about 5 bytes each."""

_COUNTS = {"distinct": 0, "excess": 0, "rows": 0, "least": 0}
NO_REPORT = {"table": -1, "rows_read": 0, "bytes_read": 0, "error": "", "message": "", "status": ""}
NO_ANSWER = {"child": -1, "parent": NO_PARENT, "held": "", "open": "", **_COUNTS}


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which of some parents hold the rows of a child?

    Attributes:
        child: Position of the table.
        column_set: What its rows are compared by.
        chosen: Parents that are to hold every row together.
        others: Parents that are asked for the rows that no chosen one holds.
        lasts: For the child, the chosen and the others, one after another: the last first lane, as signed bits, up to
            which the table's fingerprints were kept.
    """

    child: int
    column_set: int
    chosen: tuple[int, ...]
    others: tuple[int, ...] = ()
    lasts: tuple[int, ...] = field(default=())

    @property
    def parents(self) -> tuple[int, ...]:
        """All parents; answers name them by their positions here."""
        return (*self.chosen, *self.others)


def questions_text(questions: Sequence[Question]) -> str:
    """Questions about one bucket as text."""
    return json.dumps([asdict(question) for question in questions])


def questions_of(text: str) -> list[Question]:
    """Inverse of `questions_text`."""
    lists = ("chosen", "others", "lasts")
    return [Question(**{**raw, **{name: tuple(raw[name]) for name in lists}}) for raw in json.loads(text)]


def positions_of(text: str) -> frozenset[int]:
    """Positions of parents as MEMBERS names them."""
    bits = int(text or "0", 16)
    return frozenset(place for place in range(bits.bit_length()) if bits >> place & 1)


def answers(bags: Mapping[tuple[int, int], Bag], questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """Rows of MEMBERS about the fingerprints of one bucket.

    Args:
        bags: By table and column set; a table without fingerprints here has none.
        questions: About these tables.
    """
    for question in questions:
        child = bags.get((question.child, question.column_set))
        if child is not None:
            for part in _parts(_up_to(child, question.lasts[0]), max(1, CELLS // len(question.parents))):
                yield from _about_rows(bags, question, part)
        for parent in question.chosen:
            its = bags.get((parent, question.column_set))
            if its is not None:
                yield {**NO_REPORT, **NO_ANSWER, "child": question.child, "parent": parent, **_about_parent(its, child)}


def _about_parent(parent: Bag, child: Bag | None) -> dict[str, int]:
    lacking = len(parent.ids) if child is None else np.count_nonzero(~_found(parent, child)[0])
    return {"distinct": len(parent.ids), "excess": int(lacking), "rows": int(parent.counts.sum())}


def _parts(bag: Bag, rows: int) -> Iterator[Bag]:
    for start in range(0, len(bag.ids), rows):
        own = slice(start, start + rows)
        yield Bag(ids=bag.ids[own], first=bag.first[own], counts=bag.counts[own])


def _about_rows(bags: Mapping[tuple[int, int], Bag], question: Question, child: Bag) -> Iterator[dict[str, Any]]:
    held = np.zeros((len(child.ids), len(question.parents)), bool)
    may = np.zeros_like(held)
    there = np.zeros(len(child.ids), np.int64)
    for place, parent in enumerate(question.parents):
        may[:, place] = child.first.view(np.uint64) > np.int64(question.lasts[1 + place]).view(np.uint64)
        bag = bags.get((parent, question.column_set))
        if bag is not None:
            held[:, place], counts = _found(child, bag)
            there += counts if place < len(question.chosen) else 0
    may &= ~held
    in_chosen = held[:, : len(question.chosen)].any(axis=1)
    for matrix in (held, may):
        matrix[in_chosen, len(question.chosen) :] = False
    first, inverse = _groups(np.concatenate([held, may], axis=1))
    sums = {
        "distinct": np.bincount(inverse),
        "excess": np.bincount(inverse, weights=child.counts > there).astype(np.int64),
        "rows": np.bincount(inverse, weights=child.counts).astype(np.int64),
    }
    least = np.full(len(first), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, inverse, child.first.view(np.uint64))
    for group, row in enumerate(first):
        counted = {name: int(of_group[group]) for name, of_group in sums.items()}
        said = {"held": _text(held[row]), "open": _text(may[row]), "least": int(least[group].view(np.int64))}
        yield {**NO_REPORT, **NO_ANSWER, "child": question.child, **counted, **said}


def _groups(states: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """One row of each kind, and the kind of each row; sorted by words, since numpy's own way is slow for many rows."""
    bits = np.packbits(states, axis=1, bitorder="little")
    words = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)
    order = np.lexsort(words.T)
    begins = np.ones(len(order), bool)
    begins[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    inverse = np.empty(len(order), np.intp)
    inverse[order] = np.cumsum(begins) - 1
    return order[begins], inverse


def _found(child: Bag, parent: Bag) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Which rows of one bag are in another, and how often they are there."""
    place = np.minimum(np.searchsorted(parent.ids, child.ids), len(parent.ids) - 1)
    found: Mask = parent.ids[place] == child.ids
    return found, np.where(found, parent.counts[place], 0)


def _up_to(bag: Bag, last: int) -> Bag:
    kept = bag.first.view(np.uint64) <= np.int64(last).view(np.uint64)
    return Bag(ids=bag.ids[kept], first=bag.first[kept], counts=bag.counts[kept])


def _text(mask: Mask) -> str:
    """Positions that are set, as a hexadecimal number."""
    return f"{int.from_bytes(np.packbits(mask, bitorder='little').tobytes(), 'little'):x}"
