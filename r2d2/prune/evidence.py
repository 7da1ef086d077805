"""What metadata proves about a column: its cover and its witnesses.

*Cover*: an interval that holds the value of every live row. *Witness*: an interval that holds the value of at least one
live row. A child's witness disjoint from the parent's cover proves that a child row is not in the parent; nothing else
here proves anything. Missing or doubtful metadata widens covers and removes witnesses.

Only two ends of the witnesses matter against an interval: the smallest upper end and the largest lower end. All ends
are rounded outwards where they are encoded, so that rounding can only weaken the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from r2d2.model import Claim, TypeClass

TEXT_PREFIX = 32
"""Bytes of a string bound that take part in comparisons; a longer prefix would refute a little more."""

_KNOWN_WRITERS = ("parquet-cpp", "DuckDB", "Polars", "parquet-rs", "parquet-mr", "delta-rs", "Apache-Spark")
_POINT_TYPES = ("int", "uint", "date", "timestamp", "decimal", "bool", "float", "double")
_MAX_CHARACTER = "\U0010ffff".encode()


@dataclass(frozen=True, kw_only=True)
class NumberRange:
    """Ends on the line of float64, rounded outwards. Infinite ends say nothing."""

    first_high: float = math.inf  # smallest upper end of a witness
    last_low: float = -math.inf  # largest lower end of a witness
    low: float = -math.inf  # cover
    high: float = math.inf


@dataclass(frozen=True, kw_only=True)
class TextRange:
    """The same for bytes; None says nothing."""

    first_high: bytes | None = None
    last_low: bytes | None = None
    low: bytes | None = None
    high: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Cover and witnesses of one leaf over all fragments of a table.

    Attributes:
        has_value, has_null: Proved: a live row is not NULL, is NULL.
        may_value, may_null: Not excluded.
        number, text: Ranges of the non-NULL values, in the domain of the type class.
    """

    has_value: bool = False
    has_null: bool = False
    may_value: bool = False
    may_null: bool = False
    number: NumberRange | None = None
    text: TextRange | None = None


def fragment_evidence(claim: Claim | None, rows: int | None, kind: TypeClass, *, has_witnesses: bool) -> Evidence:
    """Evidence of one leaf in one fragment.

    Args:
        claim: What metadata says there; None where it says nothing.
        rows: Live rows of the fragment; None where unknown.
        kind: Type class of the leaf in the table.
        has_witnesses: The fragment's claims speak of live rows only (no deleted rows in its file).
    """
    if rows == 0:
        return Evidence(number=_no_numbers(kind), text=_no_texts(kind))
    number = _number_range(claim, kind)
    text = _text_range(claim, kind)
    nulls = claim.nulls if claim else None
    if nulls is not None and nulls == rows:
        return Evidence(has_null=has_witnesses, may_null=True, number=_no_numbers(kind), text=_no_texts(kind))
    has_value = nulls is not None and rows is not None and 0 <= nulls < rows
    evidence = Evidence(
        has_value=has_value and has_witnesses,
        has_null=nulls is not None and nulls > 0 and has_witnesses,
        may_value=True,
        may_null=nulls != 0 or (claim is not None and _is_imported(claim)),
        number=number,
        text=text,
    )
    return evidence if evidence.has_value else _without_witnesses(evidence)


def merge_evidence(parts: Iterable[Evidence]) -> Evidence:
    """Evidence of a table's leaf from that of its fragments: covers unite, witnesses add up."""
    merged: Evidence | None = None
    for part in parts:
        merged = part if merged is None else _merge(merged, part)
    return merged or Evidence()


def _merge(one: Evidence, other: Evidence) -> Evidence:
    return Evidence(
        has_value=one.has_value or other.has_value,
        has_null=one.has_null or other.has_null,
        may_value=one.may_value or other.may_value,
        may_null=one.may_null or other.may_null,
        number=_merge_numbers(one.number, other.number),
        text=_merge_texts(one.text, other.text),
    )


def _merge_numbers(one: NumberRange | None, other: NumberRange | None) -> NumberRange | None:
    if one is None or other is None:
        return None
    return NumberRange(
        first_high=min(one.first_high, other.first_high),
        last_low=max(one.last_low, other.last_low),
        low=min(one.low, other.low),
        high=max(one.high, other.high),
    )


def _merge_texts(one: TextRange | None, other: TextRange | None) -> TextRange | None:
    """Like numbers; an empty cover is `low` above `high`."""
    if one is None or other is None:
        return None
    highs = [r.first_high for r in (one, other) if r.first_high is not None]
    lows = [r.last_low for r in (one, other) if r.last_low is not None]
    covers = [r for r in (one, other) if not _is_empty(r)] or [one]
    return TextRange(
        first_high=min(highs, default=None),
        last_low=max(lows, default=None),
        low=None if any(r.low is None for r in covers) else min(r.low for r in covers if r.low is not None),
        high=None if any(r.high is None for r in covers) else max(r.high for r in covers if r.high is not None),
    )


def _is_empty(text: TextRange) -> bool:
    return text.low is not None and text.high is not None and text.low > text.high


def _no_numbers(kind: TypeClass) -> NumberRange | None:
    return NumberRange(low=math.inf, high=-math.inf) if _is_number(kind) else None


def _no_texts(kind: TypeClass) -> TextRange | None:
    return TextRange(low=b"\x01", high=b"") if _is_text(kind) else None


def _without_witnesses(evidence: Evidence) -> Evidence:
    number = evidence.number and replace(evidence.number, first_high=math.inf, last_low=-math.inf)
    text = evidence.text and replace(evidence.text, first_high=None, last_low=None)
    return replace(evidence, number=number, text=text)


def _is_number(kind: TypeClass) -> bool:
    return kind in (TypeClass.NUMBER, TypeClass.BOOLEAN, TypeClass.WALL_CLOCK, TypeClass.INSTANT)


def _is_text(kind: TypeClass) -> bool:
    return kind in (TypeClass.STRING, TypeClass.BINARY)


def _number_range(claim: Claim | None, kind: TypeClass) -> NumberRange | None:
    if not _is_number(kind):
        return None
    if claim is None:
        return NumberRange()
    low = _rounded(claim.low, up=False)
    high = _rounded(claim.high, up=True)
    if low > high:  # such a claim is a lie: believe nothing of it
        return NumberRange()
    if _may_be_of_other_rows(claim):
        return NumberRange(low=low, high=high)
    if not _is_point(claim):
        return NumberRange(first_high=high, last_low=low, low=low, high=high)
    return NumberRange(
        first_high=min(_rounded(claim.low, up=True, missing=math.inf), high),
        last_low=max(_rounded(claim.high, up=False, missing=-math.inf), low),
        low=low,
        high=high,
    )


def _is_point(claim: Claim) -> bool:
    """Whether both bounds are values of live rows, by source, writer and type."""
    if claim.source == "partition":
        return True
    return claim.source == "footer" and _is_known(claim.writer) and claim.type.startswith(_POINT_TYPES)


def _may_be_of_other_rows(claim: Claim) -> bool:
    """Whether there may be no number between the bounds: outer bounds of floats are silent about NaN in every row."""
    return claim.source != "partition" and claim.type in ("float", "double") and not _is_known(claim.writer)


def _is_imported(claim: Claim) -> bool:
    """Whether a log's claim may come from footers that were incomplete, whose gaps some importers count as zero."""
    return claim.source == "delta-log" and not claim.writer


def _is_known(writer: str) -> bool:
    return writer.lower().startswith(tuple(known.lower() for known in _KNOWN_WRITERS))


def _rounded(bound: bytes | None, *, up: bool, missing: float | None = None) -> float:
    """A bound as float64, rounded up or down; a missing one, or one that is no number, is unbounded."""
    unbounded = (math.inf if up else -math.inf) if missing is None else missing
    if bound is None:
        return unbounded
    try:
        exact = Decimal(bound.decode())
        nearest = float(exact)
    except (InvalidOperation, UnicodeDecodeError, ValueError, OverflowError):
        return unbounded
    if not math.isfinite(nearest):
        return unbounded
    if up and Decimal(nearest) < exact:
        return math.nextafter(nearest, math.inf)
    if not up and Decimal(nearest) > exact:
        return math.nextafter(nearest, -math.inf)
    return nearest


def _text_range(claim: Claim | None, kind: TypeClass) -> TextRange | None:
    if not _is_text(kind):
        return None
    if claim is None:
        return TextRange()
    low, high = claim.low, claim.high
    if low is not None and high is not None and low > high:
        return TextRange()
    if claim.source == "partition":
        return TextRange(first_high=high, last_low=low, low=low, high=high)
    if claim.source == "footer" and _is_known(claim.writer):
        return TextRange(first_high=prefix_end(low), last_low=prefix_start(high), low=low, high=high)
    return TextRange(first_high=high, last_low=low, low=low, high=high)


def prefix_end(prefix: bytes | None) -> bytes | None:
    """The least byte string above every string with a prefix; None is unbounded.

    A truncated minimum is a prefix of a real value, which therefore lies below this end.
    """
    if prefix is None:
        return None
    kept = bytearray(prefix)
    while kept and kept[-1] == 0xFF:
        kept.pop()
    if not kept:
        return None
    kept[-1] += 1
    return bytes(kept)


def prefix_start(maximum: bytes | None) -> bytes | None:
    """A byte string not above the real value behind a maximum that may be truncated and incremented; None if unknown.

    Writers cut the maximum and raise its last character, or append a largest one.
    """
    if maximum is None:
        return None
    kept = maximum.rstrip(b"\0")  # a byte that was raised beyond 0xFF leaves 0x00 behind
    while kept.endswith(_MAX_CHARACTER):
        kept = kept[: -len(_MAX_CHARACTER)]
    try:
        text = kept.decode()
    except UnicodeDecodeError:
        return kept[:-1]
    return text[:-1].encode()
