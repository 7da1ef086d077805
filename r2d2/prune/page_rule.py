"""Stage 2, kernel: what the pages of the parents' files refute beyond the bounds of files.

The union rule with finer intervals. A witness of the child that lies in the cover of some file of the parent is held
against what that file's pages say: the dictionary of a column chunk, the bounds of its pages, or those of its row
groups. Files are read only while a witness is open.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from r2d2.prune.pages import Belief, PagedTable, Witness, held_by_rows, spans_of
from r2d2.scan.evidence import Flag, unpack
from r2d2.scan.footer.pages import ChunkSpans, Source

CHECKED_BYTES = 1 << 22
"""Bytes of a parent's columns that are read to check bounds of pages before they refute."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A candidate pair, seen from its parent.

    Attributes:
        child: Position of the child.
        column_set: The child's schema class.
        parent_leaf: Per leaf of the child, in order, the place of the parent's leaf of that name.
    """

    child: int
    column_set: int
    parent_leaf: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PageRefutation:
    """Why a pair is refuted.

    Attributes:
        leaf: The child's leaf, by its place.
        child_file: File of the child with the witness, or WHOLE.
        sources: What the parent's files have been read for.
        low, high: Ends of the witness, as keys.
    """

    leaf: int
    child_file: int
    sources: tuple[str, ...]
    low: bytes | None
    high: bytes | None

    def to_json(self) -> str:
        """Text form; `from_json` is its inverse."""
        ends = {name: None if end is None else end.hex() for name, end in (("low", self.low), ("high", self.high))}
        return json.dumps({**asdict(self), **ends})

    @classmethod
    def from_json(cls, text: str) -> PageRefutation:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        ends = {name: None if raw[name] is None else bytes.fromhex(raw[name]) for name in ("low", "high")}
        return cls(**{**raw, **ends, "sources": tuple(raw["sources"])})


@dataclass(kw_only=True)
class _Open:
    """An interval of keys in which some children have a value, and which no file of the parent is known to touch.

    Attributes:
        askers: Positions of questions, the child's leaf and its file.
        sources: What it was held against.
        believed: Files of the parent that it misses by bounds, which are claims.
    """

    low: bytes | None
    high: bytes | None
    askers: list[tuple[int, int, int]]
    sources: set[Source]
    believed: set[int]


def judge(
    parent: PagedTable,
    evidence: bytes,
    questions: Sequence[Question],
    witnesses: Sequence[Mapping[int, Sequence[Witness]]],
    belief: Belief,
) -> tuple[dict[int, PageRefutation], int]:
    """Which questions the pages of a parent's files refute.

    Args:
        parent: The parent.
        evidence: Its packed evidence.
        questions: The pairs.
        witnesses: By question: of the child, by its leaf, each of the type class of the parent's leaf.
        belief: What is believed.

    Returns:
        Reasons by position of the question, and the bytes that were read.
    """
    rows = unpack(evidence)
    open_at = _open_intervals(questions, witnesses)
    files = {file.number: file for file in parent.files}
    several = len(rows) > len(parent.leaves)
    left = parent.budget
    for number in range(len(rows) // len(parent.leaves) - 1 if several else 1):
        first = len(parent.leaves) * (number + 1) if several else 0
        touched = {leaf: _touched(rows, first + leaf, own) for leaf, own in open_at.items() if own}
        touched = {leaf: own for leaf, own in touched.items() if own}
        if not touched:
            continue
        spans: Mapping[int, Sequence[ChunkSpans]] = {}
        if number in files and left > 0:
            places = sorted(touched)
            spans, read = spans_of(parent, files[number], places, belief, left, dictionary=True)
            left -= read
        for leaf, own in touched.items():
            met = _met(own, spans.get(leaf), number)
            open_at[leaf] = [one for one in open_at[leaf] if id(one) not in met]
        if not any(open_at.values()):
            break
    read_rows = _check_rows(parent, open_at, belief)
    return _reasons(open_at), parent.budget - left + read_rows


def _check_rows(parent: PagedTable, open_at: dict[int, list[_Open]], belief: Belief) -> int:
    """Drop intervals in which a file has a value in spite of its bounds of pages; returns the bytes that were read."""
    left = CHECKED_BYTES
    for leaf, intervals in list(open_at.items()):
        kept = intervals
        for file in parent.files:
            own = [one for one in kept if file.number in one.believed]
            if own:
                ends = [(one.low, one.high) for one in own]
                held, read = held_by_rows(parent, file, leaf, ends, belief, left)
                left -= read
                wrong = {id(one) for one, holds in zip(own, held, strict=True) if holds}
                kept = [one for one in kept if id(one) not in wrong]
        open_at[leaf] = kept
    return CHECKED_BYTES - left


def _open_intervals(
    questions: Sequence[Question], witnesses: Sequence[Mapping[int, Sequence[Witness]]]
) -> dict[int, list[_Open]]:
    """Intervals by the parent's leaf, each once."""
    found: dict[int, dict[tuple[bytes | None, bytes | None], _Open]] = defaultdict(dict)
    for number, (question, own) in enumerate(zip(questions, witnesses, strict=True)):
        for leaf, other in enumerate(question.parent_leaf):
            for low, high, file in own.get(leaf, ()):
                new = _Open(low=low, high=high, askers=[], sources=set(), believed=set())
                found[other].setdefault((low, high), new).askers.append((number, leaf, file))
    return {leaf: list(own.values()) for leaf, own in found.items()}


def _touched(rows: pa.RecordBatch, row: int, intervals: Sequence[_Open]) -> list[_Open]:
    """The intervals that meet the cover of a leaf of a file."""
    if not rows.column("flags")[row].as_py() & int(Flag.MAY_VALUE):
        return []
    low, high = rows.column("low")[row].as_py(), rows.column("high")[row].as_py()
    return [
        one
        for one in intervals
        if not (one.high is not None and low is not None and one.high < low)
        and not (one.low is not None and high is not None and one.low > high)
    ]


def _met(intervals: Sequence[_Open], chunks: Sequence[ChunkSpans] | None, file: int) -> set[int]:
    """Which intervals a file may have a value in: all of them where nothing is known of its pages."""
    if not chunks:
        return {id(one) for one in intervals}
    met = set()
    for one in intervals:
        sources = {chunk.source for chunk in chunks}
        one.sources |= sources
        if sources != {Source.DICTIONARY}:
            one.believed.add(file)
        if any(chunk.spans.touch(one.low, one.high) for chunk in chunks):
            met.add(id(one))
    return met


def _reasons(open_at: Mapping[int, Sequence[_Open]]) -> dict[int, PageRefutation]:
    """One reason for each question with an interval that is still open: that of its first leaf."""
    found: dict[int, PageRefutation] = {}
    for one in (one for own in open_at.values() for one in own):
        for number, leaf, file in one.askers:
            if number not in found or leaf < found[number].leaf:
                sources = tuple(sorted(source.value for source in one.sources))
                found[number] = PageRefutation(leaf=leaf, child_file=file, sources=sources, low=one.low, high=one.high)
    return found
