"""Stage 2 refutes nothing that is contained, whatever metadata says or keeps silent about, and most of the rest."""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.lake.delta.table import harvest_delta
from r2d2.lake.discovery import discover
from r2d2.lake.parquet import harvest_parquet
from r2d2.model import Claim, FileStamp, Format, Fragment, Harvest, TypeClass, encode_bound, fold_path, leaves
from r2d2.prune import minmax
from r2d2.prune.blocks import Block, survivors_of
from r2d2.prune.evidence import packed_evidence, prefix_end, prefix_start
from r2d2.prune.explain import Refutation, Rule, Side, refutations
from r2d2.scan.evidence import number_key, number_of
from r2d2.scan.plan import column_order, matching_paths
from tests.integration import lake_makers as makers

Row = tuple[Any, ...]
KNOWN_WRITERS = ("parquet-cpp-arrow version 26.0.0", "DuckDB version v2.0.0", "Polars", "parquet-mr version 1.15.0")
MAX_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A column's type: its class, its Arrow type, and values to draw from."""

    type_class: TypeClass
    arrow: pa.DataType
    draw: Callable[[random.Random], Any]

    @property
    def type(self) -> str:
        return str(self.arrow)


def _text(rng: random.Random) -> str:
    letters = ("a", "b", "z", "\x00", "\x7f", "é", "\ud7ff", "\ue000", MAX_CHARACTER)
    return "".join(rng.choice(letters) for _ in range(rng.choice((0, 1, 2, 3, 31, 32, 33, 40))))


def _bytes(rng: random.Random) -> bytes:
    return bytes(rng.choice((0, 1, 0x7F, 0x80, 0xC3, 0xFE, 0xFF)) for _ in range(rng.choice((0, 1, 2, 3, 32, 35))))


INTEGERS = (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), 10**18 + 1)
REALS = (0.0, -0.0, 0.1, 5e-324, -1.5, 2.0**53, 2.0**63, 1.7976931348623157e308, math.inf, -math.inf, math.nan)
DECIMALS = ("0.1", "-0.0000000001", "0.1000000001", "9007199254740993.5", "-9999999999999999999999999999.9999999999")
KINDS = (
    Kind(type_class=TypeClass.NUMBER, arrow=pa.int64(), draw=lambda r: r.choice((*INTEGERS, r.randint(-9, 9)))),
    Kind(type_class=TypeClass.NUMBER, arrow=pa.float64(), draw=lambda r: r.choice((*REALS, r.uniform(-9, 9)))),
    Kind(type_class=TypeClass.NUMBER, arrow=pa.decimal128(38, 10), draw=lambda r: Decimal(r.choice(DECIMALS))),
    Kind(type_class=TypeClass.BOOLEAN, arrow=pa.bool_(), draw=lambda r: r.random() < 0.5),
    Kind(
        type_class=TypeClass.WALL_CLOCK, arrow=pa.timestamp("us"), draw=lambda r: r.choice((*INTEGERS, 86_400_000_000))
    ),
    Kind(
        type_class=TypeClass.INSTANT,
        arrow=pa.timestamp("ms", tz="UTC"),
        draw=lambda r: 1000 * r.randint(-(2**52), 2**52),
    ),
    Kind(type_class=TypeClass.STRING, arrow=pa.string(), draw=_text),
    Kind(type_class=TypeClass.BINARY, arrow=pa.binary(), draw=_bytes),
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
        nans=sum(value != value for value in values),
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


def raised_in_place(maximum: bytes) -> bytes | None:
    """A cut maximum as older versions of parquet-rs raise it: the last byte that can be, with all behind it kept."""
    for place in range(len(maximum) - 1, -1, -1):
        if maximum[place] < 0xFF:
            changed = maximum[:place] + bytes([maximum[place] + 1]) + maximum[place + 1 :]
            with contextlib.suppress(UnicodeDecodeError):
                changed.decode()
                return changed
    return None


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
    changes = {"source": rng.choice(("footer", "delta-log")), "nulls": claim.nulls, "nans": claim.nans}
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
    parts: Sequence[Sequence[Row]]
    harvest: Harvest


Claims = Callable[[random.Random, Sequence[Any], Kind, int], Claim | None]


def table_of(rng: random.Random, rows: Sequence[Row], kinds: Sequence[Kind], claims_of: Claims) -> Table:
    """Deal rows into fragments and describe each."""
    parts: list[list[Row]] = [[] for _ in range(rng.randint(1, 3))]
    for row in rows:
        rng.choice(parts).append(row)
    fragments, claims = [], []
    for number, part in enumerate(parts):
        deleted = random_rows(rng, kinds, rng.randint(1, 3)) if claims_of is some_claim and rng.random() < 0.15 else []
        known = claims_of is careful or rng.random() < 0.9
        fragments.append(fragment_of(number, len(part) if known else None, deletes="some" if deleted else ""))
        for c, kind in enumerate(kinds):
            live, gone = ([row[c] for row in some] for some in (part, deleted))
            claim = claims_of(rng, [*live, *gone], kind, number)
            if claim is not None:
                nulls = None if deleted and any(value is None for value in gone) else claim.nulls
                claims.append(with_bounds(claim, leaf=(f"c{c}",), nulls=nulls))
    return Table(rows=rows, parts=parts, harvest=harvest_of(fragments, claims, kinds))


def fragment_of(number: int, rows: int | None, *, deletes: str = "") -> Fragment:
    stamp = FileStamp(uri=f"/{number}", size=1, token="")
    return Fragment(stamp=stamp, data_uri=stamp.uri, rows=rows, deletes=deletes)


def harvest_of(fragments: Sequence[Fragment], claims: Sequence[Claim], kinds: Sequence[Kind]) -> Harvest:
    schema = pa.schema([(f"c{c}", kind.arrow) for c, kind in enumerate(kinds)])
    return Harvest(schema=schema, version="1", fragments=tuple(fragments), claims=tuple(claims))


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


def kept(child: Harvest, parent: Harvest, parent_leaf: Sequence[int]) -> tuple[bool, bool]:
    """Whether stage 2 keeps a pair, and whether it excludes a containment as bags."""
    evidence = {0: packed_evidence(child, utc=False), 1: packed_evidence(parent, utc=False)}
    block = Block(column_set=0, children=(0,), parents=(1,), parent_leaf=tuple(parent_leaf))
    found = survivors_of(block, evidence).to_pylist()
    return bool(found), any(row["bag_excluded"] for row in found)


def survives(child: Table, parent: Table) -> bool:
    return kept(child.harvest, parent.harvest, range(len(child.harvest.schema)))[0]


# ---- the claims


@settings(max_examples=400, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_a_contained_table_is_never_refuted(rng: random.Random) -> None:
    child, parent = drawn_pair(rng)
    assert survives(child, parent), (child, parent)


def naively_refuted(child: Table, parent: Table) -> bool:
    """The rule one writes first: outside the parent's minimum and maximum, or more NULLs; what is missing is zero."""
    for leaf in {claim.leaf for claim in child.harvest.claims}:
        mine, its = ([claim for claim in table.harvest.claims if claim.leaf == leaf] for table in (child, parent))
        ends = [[getattr(claim, end) or b"" for claim in mine] for end in ("low", "high")]
        limits = [[getattr(claim, end) or b"" for claim in its] or [b""] for end in ("low", "high")]
        nulls = [sum(claim.nulls or 0 for claim in claims) for claims in (mine, its)]
        if min(ends[0]) < min(limits[0]) or max(ends[1]) > max(limits[1]) or nulls[0] > nulls[1]:
            return True
    return False


def test_the_naive_rule_would_lose_containments_of_the_same_data() -> None:
    """A control of the test above: its data are hard enough to tell a wrong rule from a right one."""
    pairs = [drawn_pair(random.Random(seed)) for seed in range(4000)]
    lost = sum(naively_refuted(child, parent) for child, parent in pairs)
    assert lost > 100
    assert all(survives(child, parent) for child, parent in pairs)


SEPARABLE = (
    Kind(type_class=TypeClass.NUMBER, arrow=pa.int64(), draw=lambda r: r.randint(-(10**6), 10**6)),
    Kind(type_class=TypeClass.NUMBER, arrow=pa.float64(), draw=lambda r: r.uniform(-1e3, 1e3)),
    Kind(
        type_class=TypeClass.NUMBER, arrow=pa.decimal128(38, 10), draw=lambda r: Decimal(r.randint(-9999, 9999)) / 100
    ),
    Kind(
        type_class=TypeClass.WALL_CLOCK, arrow=pa.date32(), draw=lambda r: r.randint(-(10**4), 10**4) * 86_400_000_000
    ),
    Kind(
        type_class=TypeClass.STRING,
        arrow=pa.string(),
        draw=lambda r: "".join(r.choice("abcdefghijklmnop") for _ in range(r.randint(4, 40))),
    ),
    Kind(type_class=TypeClass.BINARY, arrow=pa.binary(), draw=lambda r: r.randbytes(6)),
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
    refuted = sum(not survives(child, parent) for child, parent in pairs)
    assert len(pairs) > 100
    assert refuted >= 0.97 * len(pairs)


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
        ([(0.0,)], [(-0.0,)], False),
        ([(2**53 + 1,)], [(2**53,)], True),  # both round to one double
        ([(2**63 - 1,)], [(-(2**63),)], True),
    ],
)  # fmt: skip
def test_single_rows(child: list[Row], parent: list[Row], refuted: bool) -> None:
    tables = [table_of(random.Random(0), rows, [NUMBER], careful) for rows in (child, parent)]
    assert survives(tables[0], tables[1]) is not refuted


def test_values_of_another_class_refute_and_nulls_of_one_do_not() -> None:
    text, number = (table_of(random.Random(0), [row], [kind], careful) for row, kind in ((("1",), TEXT), (ONE, NUMBER)))
    nulls = table_of(random.Random(0), [NOTHING], [TEXT], careful)
    both = table_of(random.Random(0), [ONE, NOTHING], [NUMBER], careful)
    assert not survives(text, number)
    assert survives(nulls, both)


def described(claim: Claim, kind: Kind, rows: int, *, deletes: str = "") -> Table:
    """A table of one file of which only one claim is known."""
    fragment = fragment_of(0, rows, deletes=deletes)
    return Table(rows=(), parts=(), harvest=harvest_of([fragment], [with_bounds(claim, leaf=("c0",))], [kind]))


@pytest.mark.parametrize("deletes", ["", "some"])
def test_bounds_of_a_file_with_deleted_rows_are_no_values(deletes: str) -> None:
    """Where rows of a file were deleted, its minimum and its NULLs may be among them; its interval holds the rest."""
    five = table_of(random.Random(0), [(5,), (6,)], [NUMBER], careful)
    beyond = table_of(random.Random(0), [(50,), (60,)], [NUMBER], careful)
    child = described(exact_claim([1, 5, 9], NUMBER, 0, KNOWN_WRITERS[0]), NUMBER, 2, deletes=deletes)
    assert survives(child, five) is bool(deletes)
    assert not survives(child, beyond)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1]], ids=["int64", "double"])
def test_outer_bounds_of_floats_are_no_witness_as_every_row_may_be_nan(kind: Kind) -> None:
    loose = with_bounds(exact_claim([7, 9], kind, 0, ""), source="delta-log", nans=None)
    child = described(loose, kind, 2)
    parent = described(exact_claim([1, 2], kind, 0, KNOWN_WRITERS[0]), kind, 2)
    assert survives(child, parent) is (kind.type == "double")


def test_a_proved_nan_refutes_a_parent_that_provably_has_none() -> None:
    child, parent = (
        described(exact_claim(values, KINDS[1], 0, KNOWN_WRITERS[0]), KINDS[1], 2)
        for values in ([1.0, math.nan], [1.0, 2.0])
    )
    assert not survives(child, parent)
    silent = [with_bounds(claim, nans=None) for claim in parent.harvest.claims]
    assert survives(child, described(silent[0], KINDS[1], 2))


def small_numbers(rng: random.Random, columns: int, rows: int) -> list[Row]:
    return [tuple(rng.choice((None, *range(6))) for _ in range(columns)) for _ in range(rows)]


def refuted_by_files(child: Table, parent: Table) -> bool:
    """The two rules on files, in words of sets: exact ends of every file, every NULL known."""
    columns = range(len(child.harvest.schema))
    boxes = [[[box_of([row[c] for row in part]) for c in columns] for part in table.parts] for table in (child, parent)]
    mine, its = (
        [box for box, part in zip(own, t.parts, strict=True) if part]
        for own, t in zip(boxes, (child, parent), strict=True)
    )
    union = any(
        value is not None and not any(value in other[c] for other in its)
        for box in mine
        for c in columns
        for value in witnesses(box[c])
    )
    nulls = any(None in box[c] and not any(None in other[c] for other in its) for box in mine for c in columns)
    apart = any(all(any(not box[c] & other[c] for c in columns) for other in its) for box in mine)
    return union or nulls or apart


def box_of(values: Sequence[Any]) -> set[Any]:
    """All that lies between the ends of some small numbers, and NULL if it is among them."""
    known = [value for value in values if value is not None]
    inside = set(range(min(known), max(known) + 1)) if known else set()
    return inside | ({None} if len(known) < len(values) else set())


def witnesses(box: set[Any]) -> tuple[Any, ...]:
    known = [value for value in box if value is not None]
    return (min(known), max(known)) if known else ()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_files_refute_exactly_what_the_rules_say(rng: random.Random) -> None:
    kinds = [NUMBER] * rng.randint(1, 3)
    child, parent = (
        table_of(rng, small_numbers(rng, len(kinds), rng.randint(1, most)), kinds, careful) for most in (3, 9)
    )
    assert survives(child, parent) is not refuted_by_files(child, parent)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_counts_exclude_no_bag_that_is_contained_and_some_that_are_not(rng: random.Random) -> None:
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(1, 3))]
    rows = random_rows(rng, kinds, rng.randint(1, 9))
    child = table_of(rng, rng.sample(rows, rng.randint(1, len(rows))), kinds, some_claim)
    parent = table_of(rng, rows, kinds, some_claim)
    assert kept(child.harvest, parent.harvest, range(len(kinds))) == (True, False)
    twice = table_of(rng, [*rows, *rows], kinds, careful)
    assert kept(twice.harvest, table_of(rng, rows, kinds, careful).harvest, range(len(kinds))) == (True, True)


def test_a_constant_in_more_rows_than_the_parent_can_hold_is_no_bag_of_it() -> None:
    child = table_of(random.Random(0), [(1, 2)] * 3, [NUMBER] * 2, careful)
    parts = [[(1, 2)] * 2, [(7, 2)] * 9]
    fragments = [fragment_of(number, len(part)) for number, part in enumerate(parts)]
    claims = [
        with_bounds(careful(random.Random(0), [row[c] for row in part], NUMBER, number), leaf=(f"c{c}",))
        for number, part in enumerate(parts)
        for c in range(2)
    ]
    parent = harvest_of(fragments, claims, [NUMBER] * 2)
    assert kept(child.harvest, parent, range(2)) == (True, True)


@pytest.mark.parametrize("seed", range(12))
def test_groups_of_tables_lose_and_add_no_pair(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tables of one class, judged in groups of three, groups of groups included, against pair by pair."""
    rng = random.Random(seed)
    kinds = [rng.choice(KINDS) for _ in range(2)]
    rows = random_rows(rng, kinds, 12)
    tables = []
    for _ in range(40):
        drawn = [rng.choice(rows) for _ in range(rng.randint(0, 3))]
        own = [KINDS[6] if rng.random() < 0.05 and all(row[0] is None for row in drawn) else kinds[0], kinds[1]]
        tables.append(table_of(rng, drawn, own, rng.choice((careful, some_claim))))
    evidence = {number: packed_evidence(table.harvest, utc=False) for number, table in enumerate(tables)}
    numbers = tuple(evidence)

    def survivors_among(children: Sequence[int], parents: Sequence[int]) -> set[tuple[int, int, bool]]:
        block = Block(column_set=0, children=tuple(children), parents=tuple(parents), parent_leaf=(0, 1))
        return {(r["child"], r["parent"], r["bag_excluded"]) for r in survivors_of(block, evidence).to_pylist()}

    one_by_one = {found for c in numbers for p in numbers for found in survivors_among([c], [p])}
    monkeypatch.setattr(minmax, "STEP_PAIRS", 20)
    monkeypatch.setattr(minmax, "GROUP", 3)
    monkeypatch.setattr(minmax, "FEW_PAIRS", 0)
    monkeypatch.setattr(minmax, "STEP_CELLS", 1)  # leaf by leaf
    assert survivors_among(numbers, numbers) == one_by_one
    assert 0 < len(one_by_one) < 40 * 39


@given(numbers=st.lists(st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False)), min_size=2))
def test_keys_of_numbers_have_the_order_of_the_numbers(numbers: list[int | Decimal]) -> None:
    keys = [number_key(number) for number in numbers]
    for (one, key), (other, its) in pairwise(zip(numbers, keys, strict=True)):
        assert (one < other, one == other) == (key < its, key == its)


@given(number=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False).map(Decimal)))
def test_a_key_keeps_all_digits_of_a_number(number: int | Decimal) -> None:
    assert number_of(number_key(number)) == number


@given(value=st.binary(max_size=5), length=st.integers(0, 5))
def test_prefix_end_lies_above_all_that_begins_with_it(value: bytes, length: int) -> None:
    end = prefix_end(value[:length])
    assert end is None or value < end


@settings(max_examples=500)
@given(
    value=st.one_of(
        st.text(st.sampled_from("ab\x7f\x80¿ÿ\ud7ff\ue000" + MAX_CHARACTER), max_size=5).map(str.encode),
        st.text(max_size=5).map(str.encode),
        st.binary(max_size=5),
    ),
    length=st.integers(0, 5),
)
def test_prefix_start_lies_below_the_value_behind_a_cut_maximum(value: bytes, length: int) -> None:
    try:
        text: str | None = value.decode()
    except UnicodeDecodeError:
        text = None
    kept = value[:length] if text is None else text[:length].encode()
    maxima = [value, raised(kept, is_text=text is not None)] if kept != value else [value]
    if text is not None and kept != value:
        maxima += [raised_in_place(kept), kept + b"\x7f", kept + MAX_CHARACTER.encode()]
    for maximum in maxima:
        start = prefix_start(maximum)
        assert start is None or start <= value, (maximum, start)


# ---- real files


def harvests(lake: Path) -> dict[str, Harvest]:
    return {
        found.id: harvest_delta(found) if found.format is Format.DELTA else harvest_parquet(found)
        for found in discover(str(lake)).tables
    }


def parent_leaf(child: Harvest, parent: Harvest) -> Sequence[int] | None:
    """For each leaf of the child the place of the parent's of that name, where the names fit."""
    own, other = ([path for path, _ in leaves(harvest.schema)] for harvest in (child, parent))
    if not own or not {fold_path(path) for path in own} <= {fold_path(path) for path in other}:
        return None
    order = column_order(sorted(other))
    return [order.index(path) for path in matching_paths(column_order(sorted(own)), sorted(other), exact=False)]


def survivors(found: Mapping[str, Harvest]) -> tuple[set[tuple[str, str]], int]:
    """Pairs that stage 2 keeps, and how many it was asked about."""
    places = {pair: parent_leaf(found[pair[0]], found[pair[1]]) for pair in permutations(found, 2)}
    asked = {pair: place for pair, place in places.items() if place is not None}
    alive = {pair for pair, place in asked.items() if kept(found[pair[0]], found[pair[1]], place)[0]}
    return alive, len(asked)


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
        alive, asked = survivors(harvests(Path(folder, "lake")))
    contained = {(child, parent) for child, parent, *_ in makers.expected_edges(meaning)}
    assert contained <= alive, contained - alive
    assert len(alive) < asked, "no pair at all was refuted"


# ---- explanations


def explained(child: Table, parent: Table) -> list[Refutation]:
    leaf_paths = [(f"c{c}",) for c in range(len(child.harvest.schema))]
    sides = [Side(evidence=packed_evidence(t.harvest, utc=False), leaves=leaf_paths) for t in (child, parent)]
    return refutations(sides[0], sides[1], range(len(leaf_paths)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_a_pair_has_a_reason_exactly_if_it_is_refuted(rng: random.Random) -> None:
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(1, 3))]
    child, parent = (
        table_of(rng, random_rows(rng, kinds, rng.randint(0, most)), kinds, rng.choice((careful, some_claim)))
        for most in (3, 9)
    )
    assert bool(explained(child, parent)) is not survives(child, parent)


def test_a_reason_names_the_values_apart_from_the_words() -> None:
    child, parent = (table_of(random.Random(0), [row], [NUMBER], careful) for row in ((7,), (9,)))
    (reason,) = explained(child, parent)
    assert (reason.rule, reason.leaf, reason.child_value, reason.parent_value) == (Rule.BELOW, ("c0",), "7", "9")


@given(number=st.decimals(allow_nan=False, allow_infinity=False))
def test_keys_of_numbers_can_be_read_back(number: Decimal) -> None:
    assert number_of(number_key(number)) == number
