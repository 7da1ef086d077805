"""What a Parquet footer's statistics claim, against the rows of the same files as several libraries write them."""

from __future__ import annotations

import datetime
import math
import random
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableFailed
from r2d2.model import Claim, LeafPath
from r2d2.prune.evidence import prefix_end, prefix_start
from r2d2.prune.trust import Reading, reading_of
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.footer.thrift import ChunkFacts, footer_facts
from r2d2.scan.footer.values import bound_decoder, has_signed_order
from r2d2.scan.footer.writers import Writer as KnownWriter
from r2d2.scan.footer.writers import has_outer_bounds, is_bound, parse_writer
from r2d2.session import Engine
from tests.unit.forgery import BINARY, BOUNDS, COLUMN_ORDERS, MAX, MIN, STRUCT, TRUE, Struct, forge, forged
from tests.unit.parquet_tables import (
    LONG_BYTES,
    LONG_TEXTS,
    WRITERS,
    Writer,
    decoded,
    exact_array,
    read_cells,
    tables,
    write_pyarrow,
    written,
)

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC).replace(tzinfo=None)


def footer_of(tmp_path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Footer:
    path = tmp_path / "t.parquet"
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return read_footer(str(path))


def claims_of(path: Path | str) -> dict[LeafPath, Claim]:
    return {claim.leaf: claim for claim in footer_claims(read_footer(str(path)), 0)}


def bounds(claims: Sequence[Claim]) -> dict[str, tuple[Any, ...]]:
    return {".".join(c.leaf): (c.nulls, c.low, c.high) for c in claims}


# --- claims against rows ----------------------------------------------------------------------------------------------


def check_claim(claim: Claim, cells: Sequence[Any]) -> None:
    """Everything that a claim may be taken for must be true of the column's cells."""
    held = [cell for cell in cells if cell is not None and cell == cell]
    assert claim.nulls in (None, sum(cell is None for cell in cells))
    assert claim.nans in (None, sum(cell is not None and cell != cell for cell in cells))
    if not held:
        assert not claim.low_exact
        assert not claim.high_exact
        return
    first, last = min(held), max(held)
    if claim.low is not None:
        check_low(claim, claim.low, first)
    if claim.high is not None:
        check_high(claim, claim.high, last)


def check_low(claim: Claim, bound: bytes, first: Any) -> None:
    low = decoded(bound, first)
    assert low <= first, "a value lies below the bound"
    assert low == first or not claim.low_exact, "no value is at the bound that is said to be exact"
    reading = reading_of(claim)
    if reading is Reading.POINT:
        assert low == (math.floor(first) if claim.type.startswith("timestamp[ns") else first)
    if reading is Reading.PREFIX and (end := prefix_end(bound)) is not None:
        assert first < end
        assert first.startswith(bound)


def check_high(claim: Claim, bound: bytes, last: Any) -> None:
    high = decoded(bound, last)
    assert high >= last, "a value lies above the bound"
    assert high == last or not claim.high_exact, "no value is at the bound that is said to be exact"
    reading = reading_of(claim)
    if reading is Reading.POINT:
        assert high == (math.ceil(last) if claim.type.startswith("timestamp[ns") else last)
    if reading is Reading.PREFIX and (start := prefix_start(bound)) is not None:
        assert start <= last


@settings(max_examples=50, deadline=None)
@given(table=tables())
@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_claim_says_is_true_of_the_rows(writer: Writer, table: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/t.parquet"
        writer(table, path)
        footer = read_footer(path)
        claims = footer_claims(footer, 3)
        assert footer.rows == len(table)
        assert [(claim.fragment, claim.leaf) for claim in claims] == [(3, (name,)) for name in footer.schema.names]
        for claim in claims:
            cells, dtype = read_cells(path, claim.leaf[0])
            check_claim(claim, cells)
            held = [cell for cell in cells if cell is not None]
            if writer is write_pyarrow and held and (pa.types.is_integer(dtype) or pa.types.is_decimal(dtype)):
                assert claim.nulls is not None
                assert (decoded(claim.low, 0), decoded(claim.high, 0)) == (min(held), max(held))
                assert claim.low_exact
                assert claim.high_exact


def seeded_columns(seed: int) -> pa.Table:
    """Columns of types that every engine writes."""
    draw = random.Random(seed)
    pools = {
        pa.int32(): [-(2**31), -5, 0, 7, 2**31 - 1],
        pa.int64(): [-(2**63), 5, 2**63 - 1],
        pa.float64(): [math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -1e300],
        pa.float32(): [math.nan, 0.0, -0.0, 0.5],
        pa.bool_(): [True, False],
        pa.string(): ["", "a", "\u00e9", *LONG_TEXTS],
        pa.binary(): [b"", b"\x80", *LONG_BYTES],
        pa.date32(): [datetime.date(1, 1, 1), datetime.date(1969, 12, 31), datetime.date(9999, 12, 31)],
        pa.timestamp("us", "UTC"): [-(10**13), -1, 0, 999, 10**15],
        pa.timestamp("us"): [-1, 1, 1001],
        pa.decimal128(9, 2): [Decimal("-1.50"), Decimal("9999999.99")],
        pa.decimal128(18, 2): [Decimal("-2.25"), Decimal("9007199254740993.00")],
        pa.decimal128(38, 10): [Decimal("-1e-10"), Decimal("12345678901234567890.5")],
    }
    rows = draw.randint(1, 4)
    columns = {
        f"c{i}": exact_array([draw.choice([None, *pool]) for _ in range(rows)], dtype)
        for i, (dtype, pool) in enumerate(pools.items())
    }
    return pa.table(columns | {"nothing": pa.nulls(rows, pa.int64())})


def test_what_a_claim_says_is_true_of_the_rows_that_an_engine_wrote(engine: Engine, tmp_path: Path) -> None:
    for seed in range(8):
        pq.write_table(seeded_columns(seed), tmp_path / f"{seed}.parquet")
        engine.spark.read.parquet(str(tmp_path / f"{seed}.parquet")).coalesce(1).write.parquet(
            str(tmp_path / str(seed))
        )
        files = list((tmp_path / str(seed)).glob("**/*.parquet"))
        assert files
        for file in files:
            for claim in footer_claims(read_footer(str(file)), 0):
                check_claim(claim, read_cells(str(file), claim.leaf[0])[0])


def test_nanoseconds_are_rounded_outwards_and_then_not_exact(tmp_path: Path) -> None:
    (claim,) = footer_claims(footer_of(tmp_path, {"t": pa.array([-1500, 1, 3000], pa.timestamp("ns"))}), 0)
    assert (claim.low, claim.low_exact, claim.high, claim.high_exact) == (b"-2", False, b"3", True)


def test_decimals_and_years_beyond_pythons_are_exact(tmp_path: Path) -> None:
    columns = {
        "d": pa.array([Decimal("0.0000001"), Decimal("1234567890123456789012345678901.1234567")], pa.decimal128(38, 7)),
        "t": pa.array([-(2**62), 2**62], pa.timestamp("us")),
    }
    assert bounds(footer_claims(footer_of(tmp_path, columns), 0)) == {
        "d": (0, b"0.0000001", b"1234567890123456789012345678901.1234567"),
        "t": (0, str(-(2**62)).encode(), str(2**62).encode()),
    }


def test_one_row_group_without_bounds_leaves_the_file_without(tmp_path: Path) -> None:
    huge = "z" * 5000  # pyarrow keeps no bounds of values of this size
    columns = {"s": [huge, "a"], "n": [None, 5], "f": [math.nan, 1.0]}
    footer = footer_of(tmp_path, columns, row_group_size=1)
    assert bounds(footer_claims(footer, 0)) == {"s": (0, None, None), "n": (1, b"5", b"5"), "f": (0, None, None)}


def test_files_without_statistics_claim_nothing_but_rows(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64()), pa.field("required", pa.int64(), nullable=False)])
    footer = footer_of(tmp_path, pa.table({"a": [1], "required": [1]}, schema=schema), write_statistics=False)
    assert bounds(footer_claims(footer, 0)) == {"a": (None, None, None), "required": (0, None, None)}


def test_a_struct_leaf_counts_the_rows_whose_struct_is_null_and_lists_claim_nothing(tmp_path: Path) -> None:
    columns = {
        "m": pa.array([[("k", 9)]] * 3, pa.map_("string", "int8")),
        "s": [{"l": [[7]], "a": 1}, None, {"l": [], "a": None}],
    }
    (claim,) = footer_claims(footer_of(tmp_path, columns), 0)
    assert (claim.leaf, claim.nulls, claim.low, claim.high) == (("s", "a"), 2, b"1", b"1")
    assert claim.low_exact


# --- exact bounds and NaN ---------------------------------------------------------------------------------------------


def test_a_bound_is_exact_if_a_row_group_with_that_bound_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "d.parquet")
    texts = ["a" * 300, "b", "y", "z" * 300]  # DuckDB cuts bounds to 256 bytes
    duckdb.from_arrow(pa.table({"s": texts, "t": texts[::-1], "u": ["m"] * 4})).write_parquet(path)
    claims = claims_of(path)
    assert (claims["s",].low_exact, claims["s",].high_exact) == (False, False)
    assert (claims["u",].low_exact, claims["u",].high_exact) == (True, True)
    rows = pa.table({"s": ["a" * 300] * 2048 + ["b", *["c"] * 2047]})
    duckdb.from_arrow(rows).write_parquet(path, row_group_size=2048)
    assert read_footer(path).metadata.num_row_groups == 2
    claim = claims_of(path)["s",]
    assert (claim.low_exact, claim.high_exact) == (False, True)


def test_nan_counts_need_every_row_group_that_may_hold_one(tmp_path: Path) -> None:
    path = str(tmp_path / "d.parquet")
    cells = [math.nan] * 3 + [None] * 2045 + [1.0] * 2047 + [math.nan]
    duckdb.from_arrow(pa.table({"f": cells, "i": range(len(cells))})).write_parquet(path, row_group_size=2048)
    claims = claims_of(path)
    assert (claims["f",].nans, claims["f",].nulls, claims["i",].nans) == (4, 2045, None)
    assert footer_claims(footer_of(tmp_path, {"f": [1.0]}), 0)[0].nans is None
    columns = {"f": pa.array([None, None], pa.float64())}
    assert footer_claims(footer_of(tmp_path, columns), 0)[0].nans == 0


@pytest.mark.parametrize("dtype", [pa.float32(), pa.float64()])
def test_neither_nan_nor_the_largest_float_is_a_bound(dtype: pa.DataType) -> None:
    largest = float(np.finfo(dtype.to_pandas_dtype()).max)
    assert [is_bound(value, dtype) for value in (math.nan, largest, -largest)] == [False] * 3
    assert [is_bound(value, dtype) for value in (math.inf, -0.0, largest / 2)] == [True] * 3
    assert is_bound(float(np.finfo(np.float32).max), pa.float64())


FACTS = "row_group_id, row_group_num_rows, num_values, total_compressed_size, min_is_exact, max_is_exact"
COUNTS = "stats_null_count, stats_nan_count"


def facts_of_duckdb(path: str) -> list[tuple[Any, ...]]:
    query = f"SELECT {FACTS}, {COUNTS} FROM parquet_metadata($path) ORDER BY row_group_id, column_id"
    return duckdb.execute(query, {"path": path}).fetchall()


def test_facts_are_those_that_duckdb_reads(tmp_path: Path) -> None:
    @settings(max_examples=40, deadline=None)
    @given(table=tables(), writer=st.sampled_from(WRITERS))
    def check(table: pa.Table, writer: Writer) -> None:
        path = written(tmp_path, table, writer)
        seen = [
            (i, group.rows, one.values, one.compressed_bytes, one.low_exact, one.high_exact, one.nulls, one.nans)
            for i, group in enumerate(read_footer(path).facts.groups)
            for one in group.chunks
        ]
        expected = [(*row[:4], row[4] is True, row[5] is True, *row[6:]) for row in facts_of_duckdb(path)]
        assert seen == expected

    check()


def pyarrow_bounds(statistics: Any, dtype: pa.DataType) -> tuple[Any, Any] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    t = pa.types
    if t.is_temporal(dtype) or t.is_string(dtype) or t.is_binary(dtype):
        return statistics.min_raw, statistics.max_raw
    return statistics.min, statistics.max


@settings(max_examples=40, deadline=None)
@given(table=tables(), writer=st.sampled_from(WRITERS))
def test_bounds_are_those_that_pyarrow_reads(table: pa.Table, writer: Writer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/t.parquet"
        writer(table, path)
        footer = read_footer(path)
        for i, group in enumerate(footer.facts.groups):
            for j, (facts, dtype) in enumerate(zip(group.chunks, footer.schema.types, strict=True)):
                expected = pyarrow_bounds(footer.metadata.row_group(i).column(j).statistics, dtype)
                stored = footer.metadata.schema.column(j)
                ordered = footer.facts.ordered[j] if footer.facts.ordered else False
                bounds = (facts.low, facts.high) if ordered else (facts.old_low, facts.old_high)
                decode = bound_decoder(dtype, stored.physical_type, stored.length)
                if expected is not None:
                    assert ordered or has_signed_order(dtype, stored.physical_type)
                    assert tuple(None if raw is None else decode(raw) for raw in bounds) == expected


PHYSICAL_TYPES = {
    "BOOLEAN": (1, [pa.bool_()]),
    "INT32": (4, [pa.int8(), pa.int32(), pa.uint32(), pa.date32(), pa.decimal128(9, 2)]),
    "INT64": (8, [pa.int64(), pa.uint64(), pa.timestamp("us"), pa.decimal128(18, 4)]),
    "FLOAT": (4, [pa.float32()]),
    "DOUBLE": (8, [pa.float64()]),
    "FIXED_LEN_BYTE_ARRAY": (7, [pa.binary(), pa.decimal128(15, 3)]),
}


@given(raw=st.binary(max_size=20), physical=st.sampled_from(list(PHYSICAL_TYPES)))
def test_a_bound_of_another_size_than_its_type_is_none(raw: bytes, physical: str) -> None:
    size, types = PHYSICAL_TYPES[physical]
    for dtype in types:
        value = bound_decoder(dtype, physical, size)(raw)
        assert len(raw) == size or value is None
    assert bound_decoder(pa.timestamp("us", "UTC"), "INT96", 0)(raw) is None


def test_a_decimal_bound_beyond_its_precision_is_none() -> None:
    decode = bound_decoder(pa.decimal128(38, 2), "FIXED_LEN_BYTE_ARRAY", 5000)
    assert decode((10**38 - 1).to_bytes(5000, "big")) == Decimal("9" * 36 + ".99")
    assert decode((10**38).to_bytes(5000, "big")) is None
    assert decode(b"\x80" + bytes(4999)) is None


def rich_footer() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/t.parquet"
        duckdb.sql("SELECT i::DOUBLE AS f, 's' || i AS s, {'x': [i]} AS n FROM range(5000) t(i)").write_parquet(
            path, row_group_size=2048
        )
        return read_footer(path).data


RICH = rich_footer()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_facts_or_a_value_error(data: st.DataObject) -> None:
    damaged = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))])
    for footer in (cut, data.draw(st.binary(max_size=40))):
        try:
            facts = footer_facts(footer)
        except ValueError:
            continue
        chunks = [chunk for group in facts.groups for chunk in group.chunks]
        assert all(isinstance(chunk, ChunkFacts) for chunk in chunks)
        assert all(isinstance(chunk.low_exact, bool) and isinstance(chunk.low, bytes | None) for chunk in chunks)


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\x1c" * 100_000,  # structs in structs
        b"\x19" * 100_000,  # lists of lists
        b"\x19\xfc" + b"\xff" * 9 + b"\x01",  # more elements than bytes
        b"\x15" + b"\xff" * 100_000,  # a number without an end
        b"\x18" + b"\xff" * 8 + b"\x7f",  # a text longer than the footer
        b"\x49\x15\x02",  # row groups that are numbers
        b"\x49\x1c\x19\x1c\x00\x00",  # row groups without an end
        b"\x1d\x00",  # a type that does not exist
    ],
)
def test_hostile_footers_are_refused(footer: bytes) -> None:
    with pytest.raises(ValueError, match="footer"):
        footer_facts(footer)


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {1: (BINARY, b"\x01"), 2: (BINARY, b"\x02")},  # the deprecated ones, which do not count beside an order
        {MIN: (BINARY, b"")},
        {MIN: (BINARY, bytes(7)), MAX: (BINARY, bytes(8))},
        {MIN: (BINARY, bytes(8)), MAX: (BINARY, bytes(9))},
        {MIN: (TRUE, True), MAX: (BINARY, bytes(8))},  # of another type
    ],
)
def test_bounds_of_the_wrong_size_or_type_are_none(tmp_path: Path, bounds: Struct) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"i": [3, 4]}), path)

    def change(_: Struct, statistics: Struct) -> None:
        for field in BOUNDS:
            statistics.pop(field, None)
        statistics.update(bounds)

    forge(path, change)
    (claim,) = claims_of(path).values()
    assert (claim.nulls, claim.low, claim.high) == (0, None, None)


def test_without_column_orders_only_signed_numbers_have_bounds(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"i": [3, 4], "u": pa.array([3, 4], pa.uint64()), "s": ["a", "b"]}), path)
    path.write_bytes(forged(path.read_bytes(), lambda footer: footer.__delitem__(COLUMN_ORDERS)))
    claims = claims_of(path)
    assert {leaf[0]: (claim.low, claim.low_exact) for leaf, claim in claims.items()} == {
        "i": (b"3", False),
        "u": (None, False),
        "s": (None, False),
    }


def test_a_footer_that_only_pyarrow_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"i": [1]}), path)
    nested: Struct = {}
    for _ in range(20):
        nested = {1: (STRUCT, nested)}
    path.write_bytes(forged(path.read_bytes(), lambda footer: footer.update({90: (STRUCT, nested)})))
    assert pq.read_metadata(path).num_rows == 1
    with pytest.raises(TableFailed, match="nested too deeply"):
        read_footer(str(path))


# --- whom to believe --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("created_by", "name", "version"),
    [
        ("", "", (0, 0)),
        ("parquet-mr", "parquet-mr", (0, 0)),
        ("parquet-mr version 1.10.0 (build x)", "parquet-mr", (1, 10)),
        ("parquet-mr version 1.5.0-cdh5.12.0", "parquet-mr", (1, 5)),
        ("parquet-cpp version 1.5.1-SNAPSHOT", "parquet-cpp", (1, 5)),
        ("parquet-cpp-arrow version 26.0.1", "parquet-cpp-arrow", (26, 0)),
        ("DuckDB version v2.0.0 (build d54cbbe3df)", "duckdb", (2, 0)),
        ("Polars (python) version 2.1.0 (build 7f)", "polars (python)", (2, 1)),
        ("Polars", "polars", (0, 0)),
        ("delta-rs version py-1.6.6", "delta-rs version py-1.6.6", (0, 0)),
        ("a version\n version 3.4", "a version\n", (3, 4)),
        ("x version 1." + "9" * 5000, "x", (1, 999999)),
        (f"x version {'9' * 5000}.1", f"x version {'9' * 5000}.1", (0, 0)),
    ],
)
def test_writers_and_their_versions(created_by: str, name: str, version: tuple[int, int]) -> None:
    assert parse_writer(created_by) == KnownWriter(name=name, version=version)


def renamed(path: Path, writer: str) -> Path:
    """The file with another `created_by`, which follows its length in the footer."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    real = pq.read_metadata(path).created_by.encode()
    assert footer.count(bytes([len(real)]) + real) == 1
    footer = footer.replace(bytes([len(real)]) + real, bytes([len(writer)]) + writer.encode())
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).created_by == writer
    return path


ALL = frozenset({"i", "u", "s", "c", "b", "d", "f", "t"})
SIGNED = frozenset({"i", "t", "f"})
TEXT = frozenset({"s", "c", "b"})


@pytest.mark.parametrize(
    ("writer", "believed"),
    [
        ("parquet-cpp-arrow version 26.0.1", ALL),
        ("parquet-cpp-arrow version 12.0.0", ALL),
        ("parquet-cpp-arrow version 11.0.0", ALL - {"c"}),  # "c" was written as codes and a dictionary
        ("parquet-cpp version 1.5.1-SNAPSHOT", ALL - {"c"}),
        ("parquet-cpp version 1.4.1-SNAPSHOT", ALL - {"c", "f"}),
        ("parquet-cpp version 1.2.0", {"i", "t"}),
        ("parquet-mr version 1.17.0 (build x)", ALL),
        ("parquet-mr version 1.10.0", ALL),
        ("parquet-mr version 1.9.0", SIGNED),
        ("parquet-mr version 1.7.0 (build x)", SIGNED),
        ("parquet-mr version 1.5.0-cdh5.12.0", SIGNED),
        ("parquet-mr", SIGNED),
        ("parquet-rs version 5.2.0", ALL),
        ("parquet-rs version 5.1.0", ALL - TEXT),
        ("Polars (python) version 2.1.0 (build x)", ALL),
        ("Polars", ALL - {"u", "d"}),
        ("Arrow2 - Native Rust implementation of Arrow", set()),
        ("hyparquet", set()),
        ("fastparquet-python version 1.0.0", SIGNED),
        ("an unknown writer", ALL),
        ("", {"i", "t"}),
    ],
)
def test_a_file_is_believed_as_far_as_its_writer(tmp_path: Path, writer: str, believed: set[str]) -> None:
    columns = {
        "i": [1, 2],
        "u": pa.array([1, 2**63 + 5], pa.uint64()),
        "s": ["a", "\u00e9"],
        "c": pa.array(["a", "\u00e9"]).dictionary_encode(),
        "b": [b"a", b"\xff"],
        "d": pa.array([Decimal("1.5"), Decimal("-1.5")], pa.decimal128(30, 1)),
        "f": [1.0, 2.0],
        "t": [EPOCH, EPOCH],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", store_decimal_as_integer=False)
    claims = claims_of(renamed(tmp_path / "t.parquet", writer))
    bounded = {leaf[0] for leaf, claim in claims.items() if claim.low is not None and claim.high is not None}
    exact = {leaf[0] for leaf, claim in claims.items() if claim.low_exact and claim.high_exact}
    assert bounded == exact == believed
    assert {claim.writer for claim in claims.values()} == {writer}
    assert {claim.nulls for claim in claims.values()} <= {0, None}  # pyarrow hides all that some old writers say


@pytest.mark.parametrize(
    ("writer", "nulls"),
    [
        ("parquet-cpp-arrow version 26.0.1", {"s": 1, "c": 1, "i": 0}),
        ("parquet-cpp-arrow version 5.0.0", {"s": 1, "c": None, "i": 0}),  # those of the dictionary were counted
        ("Polars", {"s": None, "c": None, "i": 0}),  # counts may be multiplied
        ("Polars (rust) version 2.0.0", {"s": 1, "c": 1, "i": 0}),
    ],
)
def test_counts_of_nulls_are_believed_as_far_as_their_writer(
    tmp_path: Path, writer: str, nulls: dict[str, int | None]
) -> None:
    columns = {"s": ["a", None], "c": pa.array(["a", None]).dictionary_encode(), "i": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    claims = claims_of(renamed(tmp_path / "t.parquet", writer))
    assert {leaf[0]: claim.nulls for leaf, claim in claims.items()} == nulls


def test_without_an_arrow_schema_an_old_column_may_have_been_codes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"s": ["a"], "i": [1]}), tmp_path / "t.parquet", store_schema=False)
    claims = claims_of(renamed(tmp_path / "t.parquet", "parquet-cpp-arrow version 10.0.1"))
    assert (claims["s",].low, claims["i",].low) == (None, b"1")


def test_decimals_of_varying_length_have_no_bounds() -> None:
    """Their order is neither that of text nor that of fixed bytes; no library at hand writes them."""
    decimal = pa.decimal128(20, 2)
    for writer in ("parquet-rs version 59.3.0", "parquet-mr version 1.17.0", "DuckDB version v2.0.0"):
        assert has_outer_bounds(writer, decimal, "FIXED_LEN_BYTE_ARRAY", may_be_codes=False)
        assert not has_outer_bounds(writer, decimal, "BYTE_ARRAY", may_be_codes=False)


@pytest.mark.parametrize(
    ("real", "false", "claimed"),
    [
        (b"", b"", (1, b"3", b"7")),
        (b"\x16\x02(\x04", b"\x16\x04(\x04", (None, b"3", b"7")),  # two NULLs in two rows, and bounds
        (b"\x16\x02(\x04", b"\x16\x06(\x04", (None, b"3", b"7")),  # three NULLs in two rows
        (b"\x16\x02(\x04", b"\x16\x01(\x04", (None, b"3", b"7")),  # -1 NULLs
        (b"\x18\x04\x03\0\0\0\x11", b"\x18\x04\x09\0\0\0\x11", (1, None, None)),  # a minimum of 9 below 5
    ],
)
def test_statistics_that_contradict_themselves_are_left_out(
    tmp_path: Path, real: bytes, false: bytes, claimed: tuple[Any, ...]
) -> None:
    path = tmp_path / "t.parquet"
    column = pa.array([7, None, 3, 5], pa.int32())
    pq.write_table(pa.table({"i": column}), path, row_group_size=2, use_dictionary=False)
    footer = read_footer(str(path)).data
    assert not real or footer.count(real) == 1
    path.write_bytes(path.read_bytes()[: -len(footer)] + (footer.replace(real, false) if real else footer))
    (claim,) = claims_of(path).values()
    assert (claim.nulls, claim.low, claim.high) == claimed


def test_fastparquets_signed_bounds_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    data = pa.table({"u": pa.array([1, 2**63 + 5], pa.uint64()), "s": ["a", "\u00e9"], "i": [-1, 5]})
    fastparquet.write(str(path), data.to_pandas())
    found = bounds(list(claims_of(path).values()))
    assert found["i"] == (0, b"-1", b"5")
    assert found["u"][1:] == found["s"][1:] == (None, None)
