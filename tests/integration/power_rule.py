"""A plain form of the rule by which metadata refutes: what exact statistics say, as far as their writer is believed.

Nothing here comes from the tool: it is what its verdicts are measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tests.integration.power_lake import NAN, File

# ---- which statistics are believed


@dataclass(frozen=True, kw_only=True)
class Trust:
    """How far the statistics of a writer are believed for a type.

    Attributes:
        bounds: There are bounds that hold all values.
        witness: Bounds are the first and the last of the values (`points`), have one between them (`interval`), or may
            have none, as all rows may be NaN (`none`).
        cut: What it cuts a text to; None for writers that say which bounds are whole.
        milliseconds: It cuts times to them.
        nulls: Counts of NULL are believed.
        no_nulls: A count of zero is: `always`, `never`, or where it is `bounded`.
        nans: It counts NaN.
        beside_nan: Which bounds a column with NaN has: `both`, `low` or `none`.
        infinite: Infinities are bounds.
    """

    bounds: bool = True
    witness: str = "points"
    cut: Callable[[bytes], bytes] | None = None
    milliseconds: bool = False
    nulls: bool = True
    no_nulls: str = "always"
    nans: bool = False
    beside_nan: str = "both"
    infinite: bool = False


def to_bytes(length: int) -> Callable[[bytes], bytes]:
    return lambda text: text[:length].decode(errors="ignore").encode()


def to_characters(length: int) -> Callable[[bytes], bytes]:
    return lambda text: text.decode()[:length].encode()


KINDS = ("integer", "double", "decimal", "date", "timestamp", "instant", "text", "boolean")
EVERYTHING = Trust(nans=True, infinite=True)
EXACT = Trust()
NO_BOUNDS = Trust(bounds=False)
NOTHING = Trust(bounds=False, nulls=False, no_nulls="never")
FOOTER = dict.fromkeys(KINDS, EXACT)
OF_LOG = Trust(no_nulls="bounded")  # a zero without bounds may be invented
LOG = dict.fromkeys(KINDS, OF_LOG) | {
    "decimal": NO_BOUNDS,  # writers round them to doubles
    "timestamp": replace(OF_LOG, milliseconds=True),
    "instant": replace(OF_LOG, milliseconds=True),
}
ADDED = Trust(witness="interval", no_nulls="never")

TRUST: Mapping[str, Mapping[str, Trust]] = {
    "pyarrow": FOOTER,
    "duckdb": FOOTER | {"double": Trust(nans=True, beside_nan="none")},
    "polars": FOOTER | {"text": Trust(cut=to_bytes(64))},
    # No family of the trust table: its bounds are no values. It has none for booleans, and none of use for texts.
    "fastparquet": dict.fromkeys(KINDS, Trust(witness="interval"))
    | {"double": Trust(witness="none"), "text": NO_BOUNDS, "boolean": NO_BOUNDS},
    # It writes instants as INT96, which have no bounds, and does not say which texts are whole.
    "parquet-mr": FOOTER
    | {"double": Trust(beside_nan="low"), "instant": NO_BOUNDS, "text": Trust(cut=to_bytes(1 << 20))},
    "delta-rs": LOG | {"text": replace(OF_LOG, cut=to_bytes(64))},
    # Its largest double is NaN; it has no bounds of booleans, without which a zero is not believed.
    "delta-spark": LOG
    | {
        "double": replace(OF_LOG, beside_nan="low"),
        "text": replace(OF_LOG, cut=to_characters(32)),
        "boolean": replace(NO_BOUNDS, no_nulls="never"),
    },
    # A manifest does not tell files that were written with the table from those that were added to it.
    "pyiceberg": dict.fromkeys(KINDS, NOTHING) | {"integer": ADDED, "date": ADDED},
}


def kind_of(dtype: pa.DataType) -> str:
    t = pa.types
    if t.is_timestamp(dtype):
        return "timestamp" if dtype.tz is None else "instant"
    checks = (t.is_integer, t.is_floating, t.is_decimal, t.is_date, t.is_boolean)
    names = ("integer", "double", "decimal", "date", "boolean")
    return next((name for name, check in zip(names, checks, strict=True) if check(dtype)), "text")


# ---- the rule, in plain terms

Interval = tuple[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is known of a column of a file.

    Attributes:
        has: What at least one row is: `value` (NaN is one), `null`, `nan`.
        may: What rows may be: these, or `plain` (neither NULL nor NaN).
        low, high: No plain value lies outside; None is unbounded.
        witnesses: Closed intervals with a value in each.
    """

    has: frozenset[str]
    may: frozenset[str]
    low: Any = None
    high: Any = None
    witnesses: tuple[Interval, ...] = ()

    def may_meet(self, low: Any, high: Any) -> bool:
        """Whether a value of an interval may be in the file."""
        below = self.low is not None and high < self.low
        above = self.high is not None and low > self.high
        return "plain" in self.may and not below and not above


def said(file: File, column: str, trust: Trust) -> Said:
    """What the exact statistics of a column of a file say, as far as they are believed."""
    cells = file.cells[column]
    plain = [cell for cell in cells if cell is not None and cell != NAN]
    facts = {
        "value": any(c is not None for c in cells),
        "null": None in cells,
        "nan": NAN in cells,
        "plain": bool(plain),
    }
    has = frozenset(name for name, so in facts.items() if so)
    if not facts["value"] and (trust.nulls or not cells):
        return Said(has=has, may=has)
    low, high, witnesses = bounds_of(plain, "nan" in has, trust) if plain and trust.bounds else (None, None, ())
    may = set(has) | (set() if trust is EVERYTHING else {"value", "plain"})
    has_bound = low is not None or high is not None
    known_zero = trust.no_nulls == "always" or (trust.no_nulls == "bounded" and has_bound)
    may |= set() if trust.nulls and known_zero else {"null"}
    may |= {"nan"} if kind_of(file.types[column]) == "double" and not trust.nans else set()
    unseen = {"plain"} | (set() if trust.nulls else {"value", "null"}) | (set() if trust.nans else {"nan"})
    if not known_zero and not has_bound and "null" not in has:
        unseen.add("value")  # nobody says how many are no NULL
    return Said(has=has - unseen, may=frozenset(may), low=low, high=high, witnesses=witnesses)


def bounds_of(plain: Sequence[Any], beside_nan: bool, trust: Trust) -> tuple[Any, Any, tuple[Interval, ...]]:
    low, high = min(plain), max(plain)
    first, last = (low, low), (high, high)
    if isinstance(low, bytes) and trust.cut is not None:
        first, last = _of_cut_minimum(trust.cut(low)), _of_cut_maximum(high, trust.cut(high))
        low, high = first[0], last[1]
    elif trust.milliseconds:
        first, last = (_milliseconds(value) for value in (low, high))
        low, high = first[0], last[1]
    elif trust.witness == "interval":
        first = last = (low, high)
    known = [trust.infinite or not _is_infinite(end) for end in (low, high)]
    if beside_nan and trust.beside_nan != "both":
        known = [known[0] and trust.beside_nan == "low", False]
    witnesses = (*[first] * known[0], *[last] * known[1]) if trust.witness != "none" else ()
    return low if known[0] else None, high if known[1] else None, witnesses


def _of_cut_minimum(kept: bytes) -> Interval:
    return kept, _raised(kept)


def _of_cut_maximum(maximum: bytes, kept: bytes) -> Interval:
    """All but its last character is where the value begins, whether it was cut and raised or not."""
    return kept.decode()[:-1].encode(), maximum if kept == maximum else _raised(kept)


def _raised(text: bytes) -> bytes:
    return text[:-1] + bytes([text[-1] + 1]) if text else b"\xff"


def _milliseconds(value: int) -> Interval:
    return value - value % 1000, value - value % 1000 + 999


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def misses(child: Sequence[Said], parent: Sequence[Said]) -> bool:
    """Whether a file of the child proves a row that no file of the parent can have, in one column."""
    may = frozenset(what for file in parent for what in file.may)
    return any(
        bool(file.has - may) or any(not any(its.may_meet(*w) for its in parent) for w in file.witnesses)
        for file in child
    )
