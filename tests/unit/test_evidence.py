"""Stage 2 refutes nothing that is contained, whatever metadata says or keeps silent about, and most of the rest."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.lake.delta import harvest_delta
from r2d2.lake.discovery import discover
from r2d2.lake.parquet import harvest_parquet
from r2d2.model import Claim, Format, Harvest, LeafPath, TypeClass, encode_bound, fold_path, leaves
from r2d2.prune.evidence import fragment_evidence, merge_evidence, prefix_end, prefix_start
from r2d2.prune.minmax import TableEvidence, surviving
from r2d2.prune.stage import table_evidence
from r2d2.scan.plan import column_order, matching_paths
from tests.integration import lake_makers as makers

Row = tuple[Any, ...]
KNOWN_WRITERS = ("parquet-cpp-arrow version 26.0.0", "DuckDB version v2.0.0", "Polars", "parquet-mr version 1.15.0")
MAX_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A column's type: its class, its Arrow name, and values to draw from."""

    type_class: TypeClass
    type: str
    draw: Callable[[random.Random], Any]


def _text(rng: random.Random) -> str:
    letters = ("a", "b", "z", "\x00", "\x7f", "é", "\ud7ff", "\ue000", MAX_CHARACTER)
    return "".join(rng.choice(letters) for _ in range(rng.choice((0, 1, 2, 3, 31, 32, 33, 40))))


def _bytes(rng: random.Random) -> bytes:
    return bytes(rng.choice((0, 1, 0x7F, 0x80, 0xC3, 0xFE, 0xFF)) for _ in range(rng.choice((0, 1, 2, 3, 32, 35))))


INTEGERS = (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), 10**18 + 1)
REALS = (0.0, -0.0, 0.1, 5e-324, -1.5, 2.0**53, 2.0**63, 1.7976931348623157e308, math.inf, -math.inf, math.nan)
DECIMALS = ("0.1", "-0.0000000001", "0.1000000001", "9007199254740993.5", "-9999999999999999999999999999.9999999999")
KINDS = (
    Kind(type_class=TypeClass.NUMBER, type="int64", draw=lambda r: r.choice((*INTEGERS, r.randint(-9, 9)))),
    Kind(type_class=TypeClass.NUMBER, type="double", draw=lambda r: r.choice((*REALS, r.uniform(-9, 9)))),
    Kind(type_class=TypeClass.NUMBER, type="decimal128(38, 10)", draw=lambda r: Decimal(r.choice(DECIMALS))),
    Kind(type_class=TypeClass.BOOLEAN, type="bool", draw=lambda r: r.random() < 0.5),
    Kind(type_class=TypeClass.WALL_CLOCK, type="timestamp[us]", draw=lambda r: r.choice((*INTEGERS, 86_400_000_000))),
    Kind(type_class=TypeClass.INSTANT, type="timestamp[ms, tz=UTC]", draw=lambda r: 1000 * r.randint(-(2**52), 2**52)),
    Kind(type_class=TypeClass.STRING, type="string", draw=_text),
    Kind(type_class=TypeClass.BINARY, type="binary", draw=_bytes),
)


# ---- metadata as writers leave it


def bound(value: Any) -> bytes | None:
    return encode_bound(format(value, "f") if isinstance(value, Decimal) else value)


def comparable(values: Sequence[Any]) -> list[Any]:
    """The values that bounds speak of: neither NULL nor NaN."""
    return [value for value in values if value is not None and value == value]


def exact_claim(values: Sequence[Any], kind: Kind, fragment: int, writer: str) -> Claim:
    """What a careful writer says: exact bounds and counts."""
    known = comparable(values)
    low, high = (min(known), max(known)) if known else (None, None)
    return Claim(
        fragment=fragment,
        leaf=("x",),
        source="footer",
        writer=writer,
        type=kind.type,
        nulls=sum(value is None for value in values),
        low=bound(low),
        high=bound(high),
    )


def raised(maximum: bytes, *, is_text: bool) -> bytes | None:
    """A cut maximum with its last character or byte raised, those that cannot be raised dropped first."""
    if not is_text:
        return prefix_end(maximum)
    text = maximum.decode().rstrip(MAX_CHARACTER)
    if not text:
        return None
    following = ord(text[-1]) + 1
    return (text[:-1] + chr(0xE000 if following == 0xD800 else following)).encode()


def cut(value: bytes, length: int, *, is_text: bool) -> bytes:
    return value.decode()[:length].encode() if is_text else value[:length]


def truncated(rng: random.Random, claim: Claim, kind: Kind) -> Claim:
    """Bounds of strings cut at any length, the maximum raised or a largest character appended."""
    is_text, low, high = kind.type_class is TypeClass.STRING, claim.low, claim.high
    if low is not None:
        low = cut(low, rng.randrange(len(low) + 1), is_text=is_text)
    if high is not None:
        kept = cut(high, rng.randrange(len(high) + 1), is_text=is_text)
        if kept != high:
            appended = kept + MAX_CHARACTER.encode() * 2
            high = appended if is_text and rng.random() < 0.3 and appended >= high else raised(kept, is_text=is_text)
    return with_bounds(claim, low=low, high=high)


def with_bounds(claim: Claim, **changes: Any) -> Claim:
    return Claim(**{**{name: getattr(claim, name) for name in Claim.__dataclass_fields__}, **changes})


def loosened(rng: random.Random, claim: Claim, values: Sequence[Any], kind: Kind) -> Claim:
    """Outer bounds: those of more values than there are, from a writer that nobody knows or a log."""
    more = [*values, *[kind.draw(rng) for _ in range(rng.randrange(4))]]
    outer = exact_claim(more, kind, claim.fragment, rng.choice(("", "odd-writer 1.0")))
    changes = {"source": rng.choice(("footer", "delta-log")), "nulls": claim.nulls}
    return with_bounds(outer, **changes)


def some_claim(rng: random.Random, values: Sequence[Any], kind: Kind, fragment: int) -> Claim | None:
    """One of the claims that may stand in the metadata of a fragment with these values."""
    claim = exact_claim(values, kind, fragment, rng.choice(KNOWN_WRITERS))
    if rng.random() < 0.1:
        return None
    if rng.random() < 0.3:
        claim = loosened(rng, claim, values, kind)
    elif kind.type_class in (TypeClass.STRING, TypeClass.BINARY) and rng.random() < 0.7:
        claim = truncated(rng, claim, kind)
    elif values and len(set(map(repr, values))) == 1 and comparable(values):
        claim = with_bounds(claim, source=rng.choice(("footer", "partition")), writer="")
    for name, silence in (("nulls", 0.3), ("low", 0.15), ("high", 0.15)):
        if rng.random() < silence:
            claim = with_bounds(claim, **{name: None})
    return claim


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows in fragments, and the metadata about them."""

    rows: Sequence[Row]
    claims: Sequence[Sequence[Claim | None]]  # by column, then fragment
    evidence: TableEvidence


Claims = Callable[[random.Random, Sequence[Any], Kind, int], Claim | None]


def table_of(rng: random.Random, rows: Sequence[Row], kinds: Sequence[Kind], claims_of: Claims) -> Table:
    """Deal rows into fragments and describe each."""
    parts: list[list[Row]] = [[] for _ in range(rng.randint(1, 3))]
    for row in rows:
        rng.choice(parts).append(row)
    known = [claims_of is careful or rng.random() < 0.9 for _ in parts]
    claims = [
        [claims_of(rng, [row[c] for row in part], kind, number) for number, part in enumerate(parts)]
        for c, kind in enumerate(kinds)
    ]
    merged = {
        (f"c{c}",): merge_evidence(
            fragment_evidence(claim, len(part) if is_known else None, kind.type_class, has_witnesses=True)
            for claim, part, is_known in zip(claims[c], parts, known, strict=True)
        )
        for c, kind in enumerate(kinds)
    }
    evidence = TableEvidence(
        rows=len(rows) if all(known) else None,
        kinds={(f"c{c}",): kind.type_class for c, kind in enumerate(kinds)},
        leaves=merged,
    )
    return Table(rows=rows, claims=claims, evidence=evidence)


def careful(_rng: random.Random, values: Sequence[Any], kind: Kind, fragment: int) -> Claim:
    return exact_claim(values, kind, fragment, KNOWN_WRITERS[0])


def random_rows(rng: random.Random, kinds: Sequence[Kind], count: int) -> list[Row]:
    gaps = [rng.choice((0.0, 0.3, 0.8, 1.0)) for _ in kinds]
    return [
        tuple(None if rng.random() < gap else kind.draw(rng) for kind, gap in zip(kinds, gaps, strict=True))
        for _ in range(count)
    ]


def converted(rng: random.Random, rows: Sequence[Row], kinds: Sequence[Kind]) -> tuple[list[Row], list[Kind]]:
    """The same values in other types: numbers in a type that holds them, columns of NULLs in any."""
    columns, types = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in kinds], list(kinds)
    for c, column in enumerate(columns):
        if all(value is None for value in column):
            types[c] = rng.choice(KINDS)
        elif types[c].type == "int64" and rng.random() < 0.5:
            to = float if all(value is None or float(value) == value for value in column) else Decimal
            columns[c] = [None if value is None else to(value) for value in column]
            types[c] = KINDS[1] if to is float else KINDS[2]
        elif types[c].type == "double" and all(value is None or math.isfinite(value) for value in column):
            columns[c] = [None if value is None else Decimal(value) for value in column]
            types[c] = KINDS[2]
    return [tuple(row) for row in zip(*columns, strict=True)], types


def drawn_pair(rng: random.Random) -> tuple[Table, Table]:
    """A child that is contained in a parent as a set of rows, each with metadata of some writer."""
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(1, 3))]
    rows = random_rows(rng, kinds, rng.randint(0, 12))
    chosen = [rng.choice(rows) for _ in range(rng.randint(0, 8))] if rows else []
    child_rows, child_kinds = converted(rng, chosen, kinds)
    return table_of(rng, child_rows, child_kinds, some_claim), table_of(rng, rows, kinds, some_claim)


def survives(child: TableEvidence, parent: TableEvidence) -> bool:
    paths = sorted(child.leaves)
    return bool(surviving([child], [parent], paths, paths)[0, 0])


# ---- the claims


@settings(max_examples=400, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_a_contained_table_is_never_refuted(rng: random.Random) -> None:
    child, parent = drawn_pair(rng)
    assert survives(child.evidence, parent.evidence), (child, parent)


def naively_refuted(child: Table, parent: Table) -> bool:
    """The rule one writes first: outside the parent's minimum and maximum, or more NULLs; what is missing is zero."""
    for of_child, of_parent in zip(child.claims, parent.claims, strict=True):
        ends = [[getattr(claim, end, None) or b"" for claim in of_child] for end in ("low", "high")]
        limits = [[getattr(claim, end, None) or b"" for claim in of_parent] for end in ("low", "high")]
        nulls = [sum(getattr(claim, "nulls", 0) or 0 for claim in claims) for claims in (of_child, of_parent)]
        if min(ends[0]) < min(limits[0]) or max(ends[1]) > max(limits[1]) or nulls[0] > nulls[1]:
            return True
    return False


def test_the_naive_rule_would_lose_containments_of_the_same_data() -> None:
    """A control of the test above: its data are hard enough to tell a wrong rule from a right one."""
    pairs = [drawn_pair(random.Random(seed)) for seed in range(4000)]
    lost = sum(naively_refuted(child, parent) for child, parent in pairs)
    assert lost > 100
    assert all(survives(child.evidence, parent.evidence) for child, parent in pairs)


SEPARABLE = (
    Kind(type_class=TypeClass.NUMBER, type="int64", draw=lambda r: r.randint(-(10**6), 10**6)),
    Kind(type_class=TypeClass.NUMBER, type="double", draw=lambda r: r.uniform(-1e3, 1e3)),
    Kind(type_class=TypeClass.NUMBER, type="decimal128(38, 10)", draw=lambda r: Decimal(r.randint(-9999, 9999)) / 100),
    Kind(
        type_class=TypeClass.WALL_CLOCK, type="date32[day]", draw=lambda r: r.randint(-(10**4), 10**4) * 86_400_000_000
    ),
    Kind(
        type_class=TypeClass.STRING,
        type="string",
        draw=lambda r: "".join(r.choice("abcdefghijklmnop") for _ in range(r.randint(4, 40))),
    ),
    Kind(type_class=TypeClass.BINARY, type="binary", draw=lambda r: r.randbytes(6)),
)


def separated_pair(rng: random.Random, kind: Kind) -> tuple[Table, Table] | None:
    """A child with a value below or above all values of the parent; None where the draw has none."""
    parent, child = ([kind.draw(rng) for _ in range(rng.randint(2, 20))] for _ in range(2))
    if min(parent) <= min(child) and max(child) <= max(parent):
        return None
    tables = [table_of(rng, [(value,) for value in values], [kind], careful) for values in (child, parent)]
    return tables[0], tables[1]


@pytest.mark.parametrize("kind", SEPARABLE, ids=lambda kind: kind.type)
def test_exact_statistics_refute_what_they_separate(kind: Kind) -> None:
    rng = random.Random(1)
    pairs = [pair for _ in range(300) if (pair := separated_pair(rng, kind)) is not None]
    refuted = sum(not survives(child.evidence, parent.evidence) for child, parent in pairs)
    assert len(pairs) > 100
    assert refuted >= 0.9 * len(pairs)


ONE, NOTHING = (1,), (None,)
NUMBER, TEXT = KINDS[0], KINDS[6]


@pytest.mark.parametrize(
    ("child", "parent", "refuted"),
    [
        ([ONE, NOTHING], [ONE, ONE], True),  # a NULL that the parent provably lacks
        ([NOTHING], [ONE], True),
        ([NOTHING], [ONE, NOTHING], False),
        ([ONE], [NOTHING], True),  # a value, and the parent has only NULLs
        ([ONE], [], True),
        ([], [ONE], False),
        ([], [], False),
        ([(math.nan,)], [ONE], False),  # bounds do not speak of NaN
        ([(0.0,)], [(-0.0,)], False),
        ([(2**53 + 1,)], [(2.0**53,)], False),  # both round to one double: unknown, not equal
        ([(2**53 + 4,)], [(2.0**53,)], True),
        ([(2**63 - 1,)], [(2.0**63,)], False),
    ],
)  # fmt: skip
def test_single_rows(child: list[Row], parent: list[Row], refuted: bool) -> None:
    tables = [table_of(random.Random(0), rows, [NUMBER], careful) for rows in (child, parent)]
    assert survives(tables[0].evidence, tables[1].evidence) is not refuted


def test_values_of_another_class_refute_and_nulls_of_one_do_not() -> None:
    text, number = (table_of(random.Random(0), [row], [kind], careful) for row, kind in ((("1",), TEXT), (ONE, NUMBER)))
    nulls = table_of(random.Random(0), [NOTHING], [TEXT], careful)
    both = table_of(random.Random(0), [ONE, NOTHING], [NUMBER], careful)
    assert not survives(text.evidence, number.evidence)
    assert survives(nulls.evidence, both.evidence)


def test_claims_without_witnesses_refute_nothing() -> None:
    """Where rows of a file were deleted, its minimum and its NULLs may be among them."""
    claim = exact_claim([1, None, 9], NUMBER, 0, KNOWN_WRITERS[0])
    leaf = fragment_evidence(claim, 2, TypeClass.NUMBER, has_witnesses=False)
    child = TableEvidence(rows=2, kinds={("c0",): TypeClass.NUMBER}, leaves={("c0",): leaf})
    parent = table_of(random.Random(0), [(5,), (6,)], [NUMBER], careful)
    assert survives(child, parent.evidence)


@pytest.mark.parametrize(("type_", "refuted"), [("double", False), ("float", False), ("int64", True)])
def test_outer_bounds_of_floats_are_no_witness_as_every_row_may_be_nan(type_: str, refuted: bool) -> None:
    loose = with_bounds(exact_claim([7, 9], NUMBER, 0, ""), type=type_, source="delta-log")
    tight = exact_claim([1.0, math.nan], KINDS[1], 0, KNOWN_WRITERS[0])
    child, parent = (
        TableEvidence(
            rows=2,
            kinds={("c0",): TypeClass.NUMBER},
            leaves={("c0",): fragment_evidence(claim, 2, TypeClass.NUMBER, has_witnesses=True)},
        )
        for claim in (loose, tight)
    )
    assert survives(child, parent) is not refuted


@given(value=st.binary(max_size=5), length=st.integers(0, 5))
def test_prefix_end_lies_above_all_that_begins_with_it(value: bytes, length: int) -> None:
    end = prefix_end(value[:length])
    assert end is None or value < end


@given(value=st.one_of(st.text(max_size=5).map(str.encode), st.binary(max_size=5)), length=st.integers(0, 5))
def test_prefix_start_lies_below_the_value_behind_a_cut_maximum(value: bytes, length: int) -> None:
    try:
        text: str | None = value.decode()
    except UnicodeDecodeError:
        text = None
    kept = value[:length] if text is None else text[:length].encode()
    maxima = [value, raised(kept, is_text=text is not None)] if kept != value else [value]
    for maximum in maxima:
        start = prefix_start(maximum)
        assert start is None or start <= value, (maximum, start)


# ---- real files


def harvests(lake: Path) -> dict[str, Harvest]:
    return {
        found.id: harvest_delta(found) if found.format is Format.DELTA else harvest_parquet(found)
        for found in discover(str(lake)).tables
    }


def fitting_paths(child: Harvest, parent: Harvest) -> tuple[Sequence[LeafPath], Sequence[LeafPath]] | None:
    """Leaves to compare, where the names fit."""
    own, other = ([path for path, _ in leaves(harvest.schema)] for harvest in (child, parent))
    if not own or not {fold_path(path) for path in own} <= {fold_path(path) for path in other}:
        return None
    paths = column_order(sorted(own))
    return paths, matching_paths(paths, sorted(other), exact=False)


def survivors(found: Mapping[str, Harvest]) -> tuple[set[tuple[str, str]], int]:
    """Pairs that stage 2 keeps, and how many it was asked about."""
    evidence = {name: table_evidence(harvest, utc=False) for name, harvest in found.items()}
    kept, asked = set(), 0
    for child, parent in permutations(found, 2):
        paths = fitting_paths(found[child], found[parent])
        if paths is not None:
            asked += 1
            if surviving([evidence[child]], [evidence[parent]], *paths)[0, 0]:
                kept.add((child, parent))
    return kept, asked


def long_texts(rng: random.Random) -> pa.Table:
    """Strings and binaries longer than the bounds that writers keep, that differ only late."""
    texts = ["x" * 63 + rng.choice("ab") + MAX_CHARACTER * 9 + rng.choice("ab") for _ in range(20)]
    binaries = [b"\xff" * rng.randrange(80) + b"\xfe" for _ in range(20)]
    return pa.table({"Text": texts, "x": pa.array(binaries), "i": list(range(20))})


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_real_files_are_never_refuted_by_their_footers(seed: int) -> None:
    """Every containment that brute force finds survives what the writers wrote into footers and logs."""
    rng = random.Random(seed)
    texts = long_texts(rng)
    tables = [*makers.random_lake(rng, 10), texts, *[step(rng, texts) for step in makers.STEPS]]
    with tempfile.TemporaryDirectory() as folder:
        writers = ("pyarrow", "duckdb", "polars", "fastparquet", "folder", "hive", "deltalake")
        meaning = makers.write_lake(rng, tables, Path(folder, "lake"), writers=writers)
        kept, asked = survivors(harvests(Path(folder, "lake")))
    contained = {(child, parent) for child, parent, *_ in makers.expected_edges(meaning)}
    assert contained <= kept, contained - kept
    assert len(kept) < asked, "no pair at all was refuted"
