"""From claims to evidence: what the metadata of a file, and of a whole table, proves about each of its leaves.

Missing or doubtful metadata widens covers and removes witnesses; it never does the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation

from r2d2.model import Claim, Fragment, Harvest, TypeClass, leaves, type_class
from r2d2.prune.trust import Reading, Suspect, reading_of, suspect, tells_nulls
from r2d2.scan.evidence import Flag, LeafEvidence, nothing_known, number_key, pack
from r2d2.scan.plan import column_order

_TEXT = (TypeClass.STRING, TypeClass.BINARY)
_NUMBERS = (TypeClass.NUMBER, TypeClass.BOOLEAN, TypeClass.WALL_CLOCK, TypeClass.INSTANT)
_FLOATS = ("float", "double")
_MILLISECOND_US = 999
_LARGEST = "\U0010ffff\x7f"
"""Characters that are appended to a cut maximum, or cannot be raised and may stay where one before them was."""

Ends = tuple[bytes | None, bytes | None, bytes | None, bytes | None]


def packed_evidence(harvest: Harvest, *, utc: bool, suspects: Collection[Suspect] = ()) -> bytes:
    """The evidence of a table as `scan.evidence.pack` writes it, leaves in the order of `plan.column_order`.

    Args:
        harvest: Its metadata, claims included.
        utc: Dates, zone-less timestamps and instants are read on one clock.
        suspects: Writers and types whose claims do not count.
    """
    kinds = {path: _kind(type_class(dtype), utc=utc) for path, dtype in leaves(harvest.schema)}
    paths = column_order(sorted(kinds))
    trusted = [claim for claim in harvest.claims if not suspects or suspect(claim) not in suspects]
    claims = {(claim.fragment, claim.leaf): claim for claim in trusted}
    files = [
        [leaf_evidence(claims.get((number, path)), fragment, kinds[path]) for path in paths]
        for number, fragment in enumerate(harvest.fragments)
    ]
    whole = [merged([file[place] for file in files], kinds[path]) for place, path in enumerate(paths)]
    return pack(whole, files if len(files) > 1 else ())


def leaf_evidence(claim: Claim | None, fragment: Fragment, kind: TypeClass) -> LeafEvidence:
    """Evidence of one leaf in one file.

    Args:
        claim: What metadata says there; None where it says nothing.
        fragment: The file.
        kind: Type class of the leaf in the table.
    """
    rows = fragment.rows
    if rows == 0:
        return LeafEvidence(kind=kind, flags=Flag(0), rows=0, nulls=0)
    has_row = Flag.HAS_ROW if rows else Flag(0)
    if claim is None:
        unknown = nothing_known(kind)
        return LeafEvidence(kind=kind, flags=unknown.flags | has_row, rows=rows)
    nulls = claim.nulls
    if nulls is not None and nulls == rows:
        return LeafEvidence(kind=kind, flags=has_row | Flag.HAS_NULL | Flag.MAY_NULL, rows=rows, nulls=nulls)
    low, high, first_high, last_low = _ends(claim, fragment, kind)
    flags = has_row | _seen(claim, fragment) | _possible(claim)
    if Flag.HAS_VALUE not in flags:
        first_high = last_low = None
    exact = nulls if not fragment.deletes and tells_nulls(claim) else None
    return LeafEvidence(
        kind=kind, flags=flags, rows=rows, nulls=exact, low=low, high=high, first_high=first_high, last_low=last_low
    )


def merged(parts: Sequence[LeafEvidence], kind: TypeClass) -> LeafEvidence:
    """Evidence of a table's leaf from that of its files: covers unite, witnesses add up."""
    if len(parts) == 1:
        return parts[0]
    flags = Flag(0)
    for part in parts:
        flags |= part.flags
    filled = [part for part in parts if Flag.MAY_VALUE in part.flags]
    return LeafEvidence(
        kind=kind,
        flags=flags,
        rows=_sum([part.rows for part in parts]),
        nulls=_sum([part.nulls for part in parts]),
        low=_outermost([part.low for part in filled], min),
        high=_outermost([part.high for part in filled], max),
        first_high=min((part.first_high for part in filled if part.first_high is not None), default=None),
        last_low=max((part.last_low for part in filled if part.last_low is not None), default=None),
    )


def _outermost(ends: Sequence[bytes | None], outermost: Callable[[Iterable[bytes]], bytes]) -> bytes | None:
    """The end of a cover that holds several; None as soon as one of them has none."""
    known = [end for end in ends if end is not None]
    return outermost(known) if known and len(known) == len(ends) else None


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) and sum(known) < 1 << 62 else None


def _kind(kind: TypeClass, *, utc: bool) -> TypeClass:
    return TypeClass.INSTANT if utc and kind is TypeClass.WALL_CLOCK else kind


def _seen(claim: Claim, fragment: Fragment) -> Flag:
    """What is proved of a live row."""
    seen, rows, nulls = Flag(0), fragment.rows, claim.nulls
    whole = not fragment.deletes
    attained = whole and reading_of(claim) in (Reading.POINT, Reading.PREFIX, Reading.MILLISECONDS)
    bounded = claim.low is not None or claim.high is not None
    if (nulls is not None and rows is not None and nulls < rows) or (attained and bounded):
        seen |= Flag.HAS_VALUE
    if nulls is not None and nulls > 0 and whole:
        seen |= Flag.HAS_NULL
    if claim.nans is not None and claim.nans > 0 and whole:
        seen |= Flag.HAS_NAN | Flag.HAS_VALUE
    return seen


def _possible(claim: Claim) -> Flag:
    possible = Flag.MAY_VALUE
    if claim.nulls != 0 or not tells_nulls(claim):
        possible |= Flag.MAY_NULL
    if claim.type in _FLOATS and claim.nans != 0:
        possible |= Flag.MAY_NAN
    return possible


def _ends(claim: Claim, fragment: Fragment, kind: TypeClass) -> Ends:
    """Cover (low, high) and the inner ends of the witnesses at its two sides (first_high, last_low)."""
    low, high = _key(claim.low, claim, kind), _key(claim.high, claim, kind)
    reading = reading_of(claim)
    if reading is Reading.NOTHING or (low is not None and high is not None and low > high):
        return None, None, None, None  # bounds the wrong way round are a lie: believe nothing of it
    if fragment.deletes and reading is not Reading.COVER:
        reading = Reading.INTERVAL
    if reading is Reading.COVER:
        return low, high, None, None
    if reading is Reading.INTERVAL:
        return low, high, high, low
    if reading is Reading.POINT:
        return low, high, low, high
    if reading is Reading.MILLISECONDS:
        return low, high, _shifted(claim.low, _MILLISECOND_US), _shifted(claim.high, -_MILLISECOND_US)
    first_high = low if claim.low_exact else prefix_end(low)
    last_low = high if claim.high_exact else prefix_start(high)
    return low, high, first_high, last_low


def _key(bound: bytes | None, claim: Claim, kind: TypeClass) -> bytes | None:
    """A claim's bound as a key; None where it has none, or one that is no value of the kind."""
    if bound is None or kind in _TEXT:
        return bound
    if kind not in _NUMBERS:
        return None
    try:
        number = Decimal(float(bound)) if claim.type in _FLOATS else _plain(bound)
    except (InvalidOperation, UnicodeDecodeError, ValueError, OverflowError):
        return None
    return number_key(number) if isinstance(number, int) or number.is_finite() else None


def _plain(bound: bytes) -> int | Decimal:
    """The number that digits stand for; most are whole, which are read and keyed in half the time."""
    try:
        return int(bound)
    except ValueError:
        return Decimal(bound.decode())


def _shifted(bound: bytes | None, microseconds: int) -> bytes | None:
    return None if bound is None else number_key(int(bound) + microseconds)


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
    """A byte string not above the real value behind a maximum that may be truncated and raised; None if unknown.

    Writers cut the maximum and raise its last character by one, or one before it where the last cannot be raised and is
    dropped or stays; or they append a largest one. Raising a byte of a longer character may skip others, so such a
    character is dropped here, and one of a single byte is lowered by one.
    """
    if maximum is None:
        return None
    kept = maximum.rstrip(b"\0")  # a byte that was raised beyond 0xFF leaves 0x00 behind
    try:
        text = kept.decode().rstrip(_LARGEST)
    except UnicodeDecodeError:
        return kept[:-1]
    last = text[-1:]
    return (text[:-1] + chr(ord(last) - 1) if "\0" < last < "\x80" else text[:-1]).encode()
