"""Values of partition folders, and the types that Spark 4.2 was seen to infer for them."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.partitions import (
    infer_partition_types,
    kept_partitions,
    partition_bound,
    partition_scalar,
    partition_values,
)
from r2d2.model import Claim


def typed(*folder_values: str) -> tuple[pa.DataType, list[Any]]:
    """Type and values of a partition column whose folders have these values."""
    values = [partition_values(f"p={value}/a.parquet") for value in folder_values]
    dtype = infer_partition_types(values)["p"]
    return dtype, [partition_scalar(value["p"], dtype) for value in values]


INT, LONG, DOUBLE, STRING = pa.int32(), pa.int64(), pa.float64(), pa.string()
NULL = "__HIVE_DEFAULT_PARTITION__"
SPARK = [  # folders' values, type, values: the answers of Spark 4.2 to spark.read.parquet
    (["01"], INT, [1]),
    (["+5", "-0"], INT, [5, 0]),
    (["0" * 43 + "1"], INT, [1]),
    (["1", "3000000000"], LONG, [1, 3000000000]),
    (["1", "1.5"], DOUBLE, [1.0, 1.5]),
    (["3000000000", "1.5"], STRING, ["3000000000", "1.5"]),
    (["12345678901234567890", "1"], pa.decimal128(20, 0), [Decimal(12345678901234567890), Decimal(1)]),
    (["12345678901234567890", "1.5"], STRING, ["12345678901234567890", "1.5"]),
    (["1."], pa.decimal128(1, 0), [Decimal(1)]),
    (["1E0"], pa.decimal128(1, 0), [Decimal(1)]),
    (["1.0E1"], pa.decimal128(2, 0), [Decimal(10)]),
    (["1e5"], pa.decimal128(6, 0), [Decimal(100000)]),
    (["1e400"], DOUBLE, [math.inf]),
    (["1" * 38], pa.decimal128(38, 0), [Decimal("1" * 38)]),
    (["1" * 39, "1"], DOUBLE, [1.111111111111111e38, 1.0]),
    (["1", "1."], pa.decimal128(10, 0), [Decimal(1), Decimal(1)]),
    (["3000000000", "1."], pa.decimal128(20, 0), [Decimal(3000000000), Decimal(1)]),
    (["0" * 45 + "."], pa.decimal128(1, 0), [Decimal(0)]),
    (["1d", "3f"], DOUBLE, [1.0, 3.0]),
    ([" 1", "1 "], DOUBLE, [1.0, 1.0]),
    (["Infinity", "-Infinity", ".5", "0.0", "1E-2"], DOUBLE, [math.inf, -math.inf, 0.5, 0.0, 0.01]),
    (["inf", "nan", "1e", "-", ".", "true", "1_000"], STRING, ["inf", "nan", "1e", "-", ".", "true", "1_000"]),
    (["2021-01-01", "0001-01-01"], pa.date32(), [datetime.date(2021, 1, 1), datetime.date(1, 1, 1)]),
    (["2021-1-5"], STRING, ["2021-1-5"]),
    (["2021-02-30"], STRING, ["2021-02-30"]),
    (["2021-01-01T10%3A00"], STRING, ["2021-01-01T10:00"]),
    (["20210101"], INT, [20210101]),
    (["2021-01-01", "5"], STRING, ["2021-01-01", "5"]),
    (["2021-01-01", "1.5"], STRING, ["2021-01-01", "1.5"]),
    ([NULL], pa.null(), [None]),
    ([NULL, "1"], INT, [None, 1]),
    ([NULL, "2021-01-01"], pa.date32(), [None, datetime.date(2021, 1, 1)]),
    (["a=b", "é", "10%3A00"], STRING, ["a=b", "é", "10:00"]),
]


@pytest.mark.parametrize(("folders", "dtype", "values"), SPARK)
def test_types_are_those_that_spark_infers(folders, dtype, values):
    assert typed(*folders) == (dtype, values)


def test_nan_is_a_double():
    dtype, values = typed("NaN", "1")
    assert dtype == DOUBLE
    assert math.isnan(values[0])


@pytest.mark.parametrize(
    "value",
    ["2021-01-01 10:00:00", "2021-01-01 10%3A00%3A00.5", "0x1p3", "\u0661", "%31", "1%2E5", "%4EaN", NULL[:-1] + "%5F"],
)
def test_values_that_readers_understand_differently_are_unsupported(value):
    with pytest.raises(TableUnsupported, match="partition column 'p'"):
        typed(value)


def test_a_possible_timestamp_beside_a_sure_string_is_a_string():
    assert typed("2021-01-01 10:00:00", "x") == (STRING, ["2021-01-01 10:00:00", "x"])


def test_names_and_values_are_decoded_in_the_order_of_the_folders():
    found = partition_values("b=1/other/a%20%C3%A9=x%2Fy=z/%C3%A9=é/file=5.parquet")
    assert list(found.items()) == [("b", "1"), ("a é", "x/y=z"), ("é", "é")]
    assert partition_values("file.parquet") == partition_values("") == {}


@settings(max_examples=200, deadline=None)
@given(name=st.text(min_size=1, max_size=8), value=st.text(min_size=1, max_size=8))
def test_escaped_text_comes_back_unless_its_type_is_in_doubt(name, value):
    path = f"{quote(name, safe='')}={quote(value, safe='')}/a.parquet".replace("%2E", ".")
    try:
        assert partition_values(path) == {name: None if value == NULL else value}
    except TableUnsupported:
        assert any(char.isdigit() for char in value) or "nan" in value.lower() or "infinity" in value.lower()


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=5))
def test_integers_of_any_size_keep_their_value(values):
    dtype, found = typed(*map(str, values))
    assert found == values
    assert all(pa.scalar(value, dtype).as_py() == value for value in found)
    assert pa.types.is_integer(dtype) == all(-(2**63) <= value < 2**63 for value in values)


@pytest.mark.parametrize("others", ["b=1/a=1/f", "a=1/f", "a=1/B=1/f", "f", "a=1/b=1/c=1/f"])
def test_files_with_other_partition_columns_fail_the_table(others):
    with pytest.raises(TableFailed, match="same partition folders"):
        infer_partition_types([partition_values("a=1/b=1/f"), partition_values(others)])


@pytest.mark.parametrize(
    ("path", "match"), [("a=1/a=2/f", "comes twice"), ("a=/f", "has no value"), ("a=%FF/f", "not UTF-8")]
)
def test_paths_that_are_no_partitions_fail_the_table(path, match):
    with pytest.raises(TableFailed, match=match):
        partition_values(path)


def test_a_value_of_another_type_is_refused_without_being_shown():
    with pytest.raises(TableFailed, match="a partition value is no int32") as caught:
        partition_scalar("secret", INT)
    assert "secret" not in str(caught.value)


# --- partition columns that are in the files too ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (None, None),
        ("x", b"x"),
        (7, b"7"),
        (Decimal("1E+2"), b"100"),
        (Decimal("0E-10"), b"0.0000000000"),
        (1.5, b"1.5"),
        (math.inf, None),
        (math.nan, None),
        (datetime.date(1969, 12, 31), b"-86400000000"),
        (datetime.date(9999, 12, 31), b"253402214400000000"),
    ],
)
def test_a_partition_value_is_a_bound(value: Any, bound: bytes | None) -> None:
    assert partition_bound(value) == bound


def claim_of(fragment: int, name: str, column: list[int | None]) -> Claim:
    """What a footer says of a column of integers."""
    held = [value for value in column if value is not None]
    low, high = (str(min(held)).encode(), str(max(held)).encode()) if held else (None, None)
    return Claim(
        fragment=fragment, leaf=(name,), source="footer", writer="", type="int64",
        nulls=len(column) - len(held), low=low, high=high,
    )  # fmt: skip


FILES = st.lists(
    st.sampled_from([None, 1, 2]).flatmap(
        lambda value: st.tuples(
            st.just(value),
            st.lists(st.one_of(st.just(value), st.just(value), st.sampled_from([None, 1, 2])), max_size=3),
        )
    ),
    min_size=1,
    max_size=3,
)


@given(files=FILES, name=st.sampled_from(["p", "P"]), forgets=st.booleans())
def test_a_partition_column_may_be_in_the_files_if_all_rows_hold_its_value(
    files: list[tuple[int | None, list[int | None]]], name: str, forgets: bool
) -> None:
    values = [{"q": "x", "p": None if value is None else str(value)} for value, _ in files]
    types = infer_partition_types(values)
    claims = [[claim_of(i, name, column)] for i, (_, column) in enumerate(files)]
    if forgets:
        claims[-1] = []
    agrees = all(row == value for value, column in files for row in column) and not forgets
    columns = pa.schema([("c", pa.string()), (name, pa.int64())])
    rows = [len(column) for _, column in files]
    if agrees and types["p"] != pa.null():
        assert kept_partitions(types, values, columns, claims, rows) == {"q": pa.string()}
    else:
        with pytest.raises(TableFailed, match="'p' is in the files too"):
            kept_partitions(types, values, columns, claims, rows)


def test_partition_columns_that_differ_by_case_are_refused() -> None:
    values: list[dict[str, str | None]] = [{"p": "1", "P": "1"}]
    with pytest.raises(TableFailed, match="only by case"):
        kept_partitions(infer_partition_types(values), values, pa.schema([]), [[]], [1])
