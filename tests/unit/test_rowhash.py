"""Row identity: fingerprints are equal exactly where the contract says that rows are."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import r2d2.scan.rowhash as rowhash
from r2d2.errors import EngineError
from r2d2.model import FileStamp, leaves
from r2d2.scan.digests import lanes_sql
from r2d2.scan.duck import KernelLimits, quote_text
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.footer.read import read_footer
from r2d2.scan.items import ColumnSet, ScanFile, ScanItem
from r2d2.scan.rowhash import HASH_VERSION, RowHasher
from r2d2.scan.source import parquet_source
from tests.unit.fingerprint_rows import counted

HASHER = RowHasher(lane_keys=(0x0123456789ABCDEF, 0xFEDCBA9876543210))
Fingerprint = tuple[int, int]


def fingerprints(path: Path, hasher: RowHasher = HASHER) -> dict[Fingerprint, int]:
    """Counted fingerprints of the rows of a Parquet file, over all its leaves."""
    paths = tuple(sorted(path_ for path_, _ in leaves(read_footer(str(path)).schema)))
    item = ScanItem(
        table=0,
        files=(ScanFile(stamp=stamp(str(path)), data_uri=str(path)),),
        partition_schema=pa.schema([]),
        column_sets=(ColumnSet(id=0, paths=paths),),
    )
    counts, (report,) = counted(scan_items([item], hasher, KernelLimits()))
    assert report["error"] == "", report
    return {(first, second): count for (_, first, second), count in counts.items()}


def of_table(table: pa.Table, path: Path, **options: Any) -> dict[Fingerprint, int]:
    pq.write_table(table, path, **options)
    return fingerprints(path)


def of_values(
    values: list[Any], dtype: pa.DataType, path: Path, hasher: RowHasher = HASHER, **options: Any
) -> list[Fingerprint]:
    """The fingerprint of each value alone in a row, in order."""
    pq.write_table(pa.table({"x": pa.array(values, dtype)}), path, **options)
    with duckdb.connect() as connection:
        source = parquet_source(connection, str(path), read_footer(str(path)), {}, {})
        item = ScanItem(
            table=0, files=(), partition_schema=pa.schema([]), column_sets=(ColumnSet(id=0, paths=(("x",),)),)
        )
        return [(row[0], row[1]) for row in connection.sql(lanes_sql(source, item, hasher)[0]).fetchall()]


# The oracle: values as Python objects that are equal exactly where the contract says so.

NUMBER_TYPES = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.float32(), pa.float64(),
    pa.decimal128(4, 2), pa.decimal128(4, 4), pa.decimal128(12, 2), pa.decimal128(15, 3), pa.decimal128(15, 6),
    pa.decimal128(15, 7), pa.decimal128(16, 6), pa.decimal128(18, 6), pa.decimal128(15, 15), pa.decimal128(17, 1),
    pa.decimal128(18, 0), pa.decimal128(18, 3), pa.decimal128(18, 17), pa.decimal128(18, 18), pa.decimal128(19, 2),
    pa.decimal128(20, 0), pa.decimal128(25, 2), pa.decimal128(38, 0), pa.decimal128(38, 10), pa.decimal128(38, 17),
    pa.decimal128(38, 18), pa.decimal128(38, 20), pa.decimal128(38, 37), pa.decimal128(38, 38),
]  # fmt: skip

EDGES = [
    Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(1, 10), Fraction(-5, 100), Fraction(1, 3),
    Fraction(2**53), Fraction(2**53 + 1), Fraction(2**63 - 1), Fraction(2**63 + 5), Fraction(-(2**63)),
    Fraction(10**17 + 1, 10**2), Fraction(99, 100), Fraction(125, 1000), Fraction(10**37), Fraction(10**37 + 1),
    Fraction(1, 2**18), Fraction(255), Fraction(-(2**63) - 1), Fraction(2**64 - 1, 2), Fraction(-(2**64) - 1, 2),
    Fraction(2**64 + 1, 2), Fraction(2**63), Fraction(2**64 - 1), Fraction(2**63 - 1, 2),
    Fraction(10**18 - 1, 10), Fraction(2**54 + 1, 4), Fraction(10**19 - 1, 10**19), Fraction(10**18 - 1, 10**18),
    Fraction(-(10**18) + 1, 10**18), Fraction(1, 10**18), Fraction(1, 10**19), Fraction(10**20 + 1, 10),
    Fraction(-1, 8), Fraction(2**53 - 1, 8), Fraction(2**53 + 1, 8), Fraction(10**16 + 5, 10),
    Fraction(-(10**17) + 25, 10**2),
    Fraction(10**15 - 1, 10**6), Fraction(10**15 + 1, 10**6), Fraction(1, 10**6), Fraction(1, 10**7),
    Fraction(-(10**15) + 1, 10**6), Fraction(10**15 - 1, 100), Fraction(10**15 + 1, 100), Fraction(10**9),
    Fraction(2**30) + Fraction(1, 64), Fraction(10**11 + 1, 100),
]  # fmt: skip


def as_typed(value: Fraction, dtype: pa.DataType) -> Any:
    """The value in an Arrow type if the type holds it exactly, else None."""
    if pa.types.is_floating(dtype):
        try:
            near = float(value)
        except OverflowError:
            return None
        if pa.types.is_float32(dtype):
            near = pa.scalar(near, pa.float32()).as_py()
        return near if math.isfinite(near) and Fraction(near) == value else None
    scale = dtype.scale if pa.types.is_decimal(dtype) else 0
    unscaled = value * 10**scale
    if unscaled.denominator != 1:
        return None
    if pa.types.is_decimal(dtype):
        return Decimal(int(unscaled)).scaleb(-scale, WIDE) if abs(unscaled) < 10**dtype.precision else None
    low, high = (
        (0, 2**dtype.bit_width) if "uint" in str(dtype) else (-(2 ** (dtype.bit_width - 1)), 2 ** (dtype.bit_width - 1))
    )
    return int(value) if low <= value < high else None


WIDE = decimal.Context(prec=60)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(numbers=EDGES)
@example(numbers=[Fraction(-(2**53) - 2), Fraction(-(2**60) - 2**10), Fraction(-(2**90) - 2**50)])
@given(
    numbers=st.lists(
        st.one_of(
            st.sampled_from(EDGES),
            st.integers(-(2**70), 2**70).map(Fraction),
            st.decimals(-(10**6), 10**6, places=3).map(Fraction),
            st.builds(
                lambda digits, scale: Fraction(digits, 10**scale), st.integers(-(10**20), 10**20), st.integers(0, 20)
            ),
            st.builds(
                lambda digits, scale: Fraction(digits, 2**scale), st.integers(-(2**55), 2**55), st.integers(0, 18)
            ),
            st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
        ),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_numbers_are_equal_by_value_whatever_their_type(numbers: list[Fraction], tmp_path: Path) -> None:
    numbers = [*numbers, *EDGES[:6]]
    prints: dict[Fraction, set[Fingerprint]] = defaultdict(set)
    for dtype in NUMBER_TYPES:
        typed = [(number, as_typed(number, dtype)) for number in dict.fromkeys(numbers)]
        held = [(number, value) for number, value in typed if value is not None]
        found = of_values([value for _, value in held], dtype, tmp_path / "number.parquet")
        for (number, _), print_ in zip(held, found, strict=True):
            prints[number].add(print_)
    assert all(len(found) == 1 for found in prints.values()), "a fingerprint depends on the type"
    assert len({lane for found in prints.values() for print_ in found for lane in print_}) == 2 * len(prints)


def test_values_of_a_dictionary_that_no_row_of_a_case_has_do_no_harm(tmp_path: Path) -> None:
    """Casts within a case would fail for the values of other cases."""
    doubles = [1.0, 0.5, math.nan, math.inf, -math.inf, 1e300, -(2.0**63), 2.0**63]
    decimals = [Decimal(10**27), Decimal("0.5"), Decimal(2**63), Decimal("-12.34"), Decimal("0.9999999999"), Decimal(7)]
    large = [2**64 - 1, 2**63, 1, 2**53 + 1]
    words = [Decimal(10**11), Decimal("0.5"), Decimal("-12.34"), Decimal("999999999.9"), Decimal("999999999999.123456")]
    typed = [
        (doubles, pa.float64()),
        (decimals, pa.decimal128(38, 10)),
        (large, pa.uint64()),
        (large, pa.decimal128(38)),
    ]
    typed += [(words, pa.decimal128(*size)) for size in ((18, 6), (25, 6), (38, 18), (38, 6))]
    for values, dtype in typed:
        alone = [of_values([value], dtype, tmp_path / "alone")[0] for value in values]
        together = of_values(values * 3000, dtype, tmp_path / "together", use_dictionary=True, row_group_size=8000)
        assert together == alone * 3000


TICK = dt.datetime(2020, 1, 1, 12, 30, 15, 123456)  # noqa: DTZ001 - zone-less on purpose
MIDNIGHT = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - zone-less on purpose

# (value, type, what it equals): equal keys must have equal fingerprints, others different ones.
CASES: list[tuple[Any, pa.DataType, Any]] = [
    (None, pa.int64(), "null"),
    (None, pa.string(), "null"),
    (None, pa.list_(pa.int8()), "null"),
    (None, pa.null(), "null"),
    (0, pa.int64(), 0),
    (-0.0, pa.float64(), 0),
    (0.0, pa.float32(), 0),
    (math.nan, pa.float64(), "nan"),
    (math.nan, pa.float32(), "nan"),
    (math.inf, pa.float64(), "inf"),
    (math.inf, pa.float32(), "inf"),
    (-math.inf, pa.float64(), "-inf"),
    (0.1, pa.float32(), "0.1f"),
    (0.1, pa.float64(), "0.1d"),
    (Decimal("0.1"), pa.decimal128(3, 1), "0.1"),
    (True, pa.bool_(), "true"),
    (False, pa.bool_(), "false"),
    (1, pa.int8(), 1),
    ("1", pa.string(), "'1'"),
    ("", pa.string(), "''"),
    (b"", pa.binary(), "x''"),
    (b"1", pa.binary(), "x'1'"),
    (b"1", pa.binary(1), "x'1'"),
    ("é", pa.string(), "nfc"),
    ("e\u0301", pa.string(), "nfd"),
    ("a\0", pa.string(), "a nul"),
    ("a", pa.string(), "a"),
    (MIDNIGHT.date(), pa.date32(), "midnight"),
    (MIDNIGHT, pa.timestamp("us"), "midnight"),
    (MIDNIGHT, pa.timestamp("ms"), "midnight"),
    (MIDNIGHT, pa.timestamp("ns"), "midnight"),
    (MIDNIGHT, pa.timestamp("us", "UTC"), "instant"),
    (MIDNIGHT, pa.timestamp("ms", "Europe/Paris"), "instant"),
    (TICK, pa.timestamp("us"), "tick"),
    (TICK, pa.timestamp("ns"), "tick"),
    (pa.scalar(1577881815123456001, pa.timestamp("ns")).value, pa.timestamp("ns"), "tick and 1 ns"),
    (dt.date(1, 1, 1), pa.date32(), "year 1"),
    (dt.datetime(1, 1, 1), pa.timestamp("us"), "year 1"),  # noqa: DTZ001
    ([], pa.list_(pa.int64()), "[]"),
    ([], pa.list_(pa.string()), "[]"),
    ([None], pa.list_(pa.string()), "[null]"),
    ([None], pa.list_(pa.int32()), "[null]"),
    ([1], pa.list_(pa.int64()), "[1]"),
    ([1.0], pa.large_list(pa.float32()), "[1]"),
    ([1, None], pa.list_(pa.int64()), "[1, null]"),
    ([1, 2], pa.list_(pa.int64()), "[1, 2]"),
    ([2, 1], pa.list_(pa.int64()), "[2, 1]"),
    ([[1], [2]], pa.list_(pa.list_(pa.int64())), "[[1], [2]]"),
    ([[1, 2]], pa.list_(pa.list_(pa.int64())), "[[1, 2]]"),
    ([[1, 2], []], pa.list_(pa.list_(pa.int64())), "[[1, 2], []]"),
    ([{"a": 1, "b": 2}], pa.list_(pa.struct({"a": pa.int8(), "b": pa.int8()})), "[{a1b2}]"),
    ([{"b": 2, "a": 1}], pa.list_(pa.struct({"b": pa.int64(), "a": pa.int64()})), "[{a1b2}]"),
    ([{"a": 2, "b": 1}], pa.list_(pa.struct({"a": pa.int8(), "b": pa.int8()})), "[{a2b1}]"),
    ([{"a": 1, "c": 2}], pa.list_(pa.struct({"a": pa.int8(), "c": pa.int8()})), "[{a1c2}]"),
    ([{"a": None}], pa.list_(pa.struct({"a": pa.int8()})), "[{a null}]"),
    ([("k", 1), ("l", 2)], pa.map_(pa.string(), pa.int64()), "k1l2"),
    ([("l", 2), ("k", 1)], pa.map_(pa.string(), pa.int8()), "k1l2"),
    ([("k", 2), ("l", 1)], pa.map_(pa.string(), pa.int64()), "k2l1"),
    ([("k", 1), ("k", 1)], pa.map_(pa.string(), pa.int64()), "k1k1"),
    ([("k", 1)], pa.map_(pa.string(), pa.int64()), "k1"),
    ([], pa.map_(pa.string(), pa.int64()), "map []"),
]


def test_values_are_equal_exactly_where_the_contract_says(tmp_path: Path) -> None:
    prints: dict[Any, Fingerprint] = {}
    for value, dtype, key in CASES:
        (found,) = of_values([value], dtype, tmp_path / "case.parquet", store_schema=False)
        assert prints.setdefault(key, found) == found, (value, dtype)
    assert len(set(prints.values())) == len(prints)
    assert len({lane for found in prints.values() for lane in found}) == 2 * len(prints)


def test_int96_is_an_instant(tmp_path: Path) -> None:
    (int96,) = of_values([TICK], pa.timestamp("us"), tmp_path / "a", use_deprecated_int96_timestamps=True)
    (instant,) = of_values([TICK], pa.timestamp("us", "UTC"), tmp_path / "b")
    assert int96 == instant


def test_utc_makes_one_clock_of_all(tmp_path: Path) -> None:
    utc = RowHasher(lane_keys=HASHER.lane_keys, utc=True)
    found = set()
    for value, dtype in (
        (MIDNIGHT, pa.timestamp("us", "UTC")),
        (MIDNIGHT, pa.timestamp("us")),
        (MIDNIGHT.date(), pa.date32()),
    ):
        found.update(of_values([value], dtype, tmp_path / "t", utc))
    assert len(found) == 1


def test_a_null_struct_is_not_a_struct_of_nulls(tmp_path: Path) -> None:
    dtype = pa.struct({"a": pa.int64(), "b": pa.string()})
    absent, empty = of_values([None, {"a": None, "b": None}], dtype, tmp_path / "t")
    assert absent != empty


def test_a_dotted_column_is_not_a_field(tmp_path: Path) -> None:
    dotted = of_table(pa.table({"s.a": [1]}), tmp_path / "t")
    field = of_table(pa.table({"s": [{"a": 1}]}), tmp_path / "t")
    assert dotted != field


def test_values_are_bound_to_their_columns(tmp_path: Path) -> None:
    rows = pa.table({"a": [1, 2, None, 3], "b": [2, 1, 3, None]})
    assert len(of_table(rows, tmp_path / "t")) == 4
    swapped = pa.table({"a": [1], "b": [2]}), pa.table({"a": [2], "b": [1]})
    assert of_table(swapped[0], tmp_path / "t") != of_table(swapped[1], tmp_path / "t")


def test_two_thousand_columns(tmp_path: Path) -> None:
    wide = pa.table({f"c{number}": [1, 2, 2] for number in range(2000)})
    assert sorted(of_table(wide, tmp_path / "t").values()) == [1, 2]


def test_hostile_column_names(tmp_path: Path) -> None:
    names = ['"', "`", "a.b", "new\nline", "\U0001f600", "'; DROP TABLE x; --", " ", "source", "a0", "c0", "é"]
    table = pa.table([pa.array([number]) for number in range(len(names))], names=names)
    assert list(of_table(table, tmp_path / "t").values()) == [1]


def unhash(word: int) -> int:
    """The 64-bit word that DuckDB's integer hash maps to `word`: its finaliser, inverted."""
    inverse = pow(0xD6E8FEB86659FD93, -1, 1 << 64)
    for _ in range(2):
        word ^= word >> 32
        word = word * inverse % (1 << 64)
    return word ^ word >> 32


def lanes(sql: str, dtype: str, arrow: pa.DataType) -> Fingerprint:
    connection = duckdb.connect()
    column = rowhash.Column(sql="x", duckdb_type=connection.sql(f"SELECT CAST(NULL AS {dtype})").types[0], type=arrow)
    digest = HASHER.leaf(column, ("x",))
    (row,) = connection.sql(f"SELECT {digest.first}, {digest.second} FROM (SELECT {sql} AS x)").fetchall()
    return row[0], row[1]


def test_a_collision_of_numbers_in_the_first_lane_is_none_in_the_second() -> None:
    text = str(2**63 + 3)  # neither a 64-bit integer nor a double: hashed as text
    (word,) = duckdb.sql(f"SELECT hash('{text}')").fetchall()[0]
    mixed = word ^ HASHER._bits(0, "number") ^ HASHER._bits(0, "integer")
    integer = pa.array([unhash(mixed)], pa.uint64()).view(pa.int64())[0].as_py()
    ((check,),) = duckdb.sql(f"SELECT hash(CAST('{integer}' AS BIGINT))").fetchall()
    assert check == mixed, "the construction no longer fits DuckDB's hash"
    assert int(float(integer)) != integer, "the construction does not fit these keys"
    number, spelled = lanes(f"{integer}::BIGINT", "BIGINT", pa.int64()), lanes(text, "UBIGINT", pa.uint64())
    assert number[0] == spelled[0]
    assert number[1] != spelled[1]


def test_a_collision_of_strings_in_the_first_lane_is_none_in_the_second() -> None:
    one, other = colliding_strings()
    assert one != other
    first, second = (lanes(quote_text(text), "VARCHAR", pa.string()) for text in (one, other))
    assert first[0] == second[0], "the construction no longer fits DuckDB's hash"
    assert first[1] != second[1]


def colliding_strings() -> tuple[str, str]:
    """Two texts that DuckDB's string hash cannot tell apart.

    The hash takes eight bytes at a time and multiplies by an odd constant in between. A change of a block's high bits
    reaches only high bits of the product, where a change of the next block can undo it; so such pairs are common.
    """
    query = "SELECT t FROM (SELECT unnest(?::VARCHAR[]) AS t) WHERE hash(t) = hash(?)"
    for start in range(500):
        text = f"{start:05d}" + "a" * 24
        original = text.encode()
        changed = []
        for low in range(32, 127):
            other = bytearray(original)
            other[7], other[15] = original[7] ^ 0x40, low
            changed.append(other.decode("latin-1"))
        for (found,) in duckdb.execute(query, [changed, text]).fetchall():
            if found != text:
                return text, found
    raise AssertionError("no collision found")


FROZEN_ROWS = pa.table(
    {
        "number": pa.array([1, 2, None, 2**53 + 1]),
        "text": ["a", "é", None, ""],
        "amount": pa.array([Decimal("0.10"), Decimal("2.50"), None, Decimal(7)], pa.decimal128(9, 2)),
        "day": pa.array([dt.date(2020, 1, 1), dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
        "list": [[1, None], [], None, [3]],
        "struct": [{"a": 1.5, "b": True}, {"a": None, "b": False}, None, {"a": -0.0, "b": None}],
        "map": pa.array([[("k", 1)], [], None, [("l", 2), ("k", 1)]], pa.map_(pa.string(), pa.int8())),
        "bytes": [b"x", b"", None, b"\xff"],
    }
)
FROZEN: list[Fingerprint] = [
    (-7819193823898170106, 3218893346893424152),
    (-6137355380644402119, 8695434868354332139),
    (-3968445421378604451, -1516028808421012955),
    (-3278995235745824789, -1464808919040799563),
]


def test_fingerprints_are_frozen(tmp_path: Path) -> None:
    """A change here needs a new HASH_VERSION and a line under *Changed results*."""
    found = of_table(FROZEN_ROWS, tmp_path / "t", row_group_size=1)
    assert sorted(found) == FROZEN


def test_version_names_the_hash_of_duckdb() -> None:
    assert f"4+duckdb{duckdb.__version__}" == HASH_VERSION


def test_another_duckdb_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rowhash, "DUCKDB_VERSION", "1.0.0")
    item = ScanItem(table=0, files=(), partition_schema=pa.schema([]), column_sets=())
    with pytest.raises(EngineError, match=r"this worker has duckdb .* need duckdb 1\.0\.0"):
        list(scan_items([item], HASHER, KernelLimits()))


def test_a_changed_file_is_reported(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t")
    old = FileStamp(uri=str(tmp_path / "t"), size=1, token="1")
    item = ScanItem(
        table=7,
        files=(ScanFile(stamp=old, data_uri=old.uri),),
        partition_schema=pa.schema([]),
        column_sets=(ColumnSet(id=0, paths=(("a",),)),),
    )
    (report,) = pa.Table.from_batches(list(scan_items([item], HASHER, KernelLimits()))).to_pylist()
    assert (report["table"], report["error"], report["message"]) == (7, "Changed", "changed during the audit")
