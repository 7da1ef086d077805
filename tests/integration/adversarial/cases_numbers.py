"""Numbers: NaN, zeros, infinities, decimals and integers of every width, in bounds and as values."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, SET, Case
from tests.integration.adversarial.writers import (
    arrow,
    column,
    created_by,
    delta,
    delta_sql,
    doubles,
    duck,
    fast,
    footer_edit,
    longs,
    polars,
    rust,
    spark,
    statistics,
)

NAN = math.nan


def decimals(precision: int, scale: int, *values: str | None) -> pa.Table:
    """A column of decimals."""
    return column(pa.decimal128(precision, scale), *[None if v is None else Decimal(v) for v in values])


def floats(*values: float | None) -> pa.Table:
    """A column of 32-bit floats."""
    return column(pa.float32(), *values)


def _swap_decimal_bytes(footer: Any) -> None:
    """Bounds of a decimal with their bytes in the wrong order."""
    for group in footer.row_groups:
        found = group.columns[0].meta_data.statistics
        low, high = sorted((found.min_value[::-1], found.max_value[::-1]))
        found.min_value, found.max_value = low, high


NANS = [
    Case(
        name="nan_as_the_maximum",
        covers=("S11", "T12"),
        child=spark(doubles(NAN, 1.0)),
        parent=arrow(doubles(NAN, 1.0, 2.0)),
    ),
    Case(
        name="nan_beyond_the_bounds",
        covers=("T12",),
        child=arrow(doubles(NAN)),
        parent=polars(doubles(1.0, NAN)),
    ),
    Case(
        name="nan_only",
        covers=("T12",),
        child=spark(doubles(NAN)),
        parent=arrow(doubles(NAN)),
        back=BAG,
    ),
    Case(
        name="nan_only_by_duckdb",
        covers=("T12",),
        child=duck(doubles(NAN, NAN)),
        parent=rust(doubles(NAN, 1.0)),
        there=SET,
    ),
    Case(
        name="nan_in_one_row_group_of_two",
        covers=("T12", "T5"),
        child=arrow(doubles(NAN, NAN)),
        parent=arrow(doubles(NAN, NAN), doubles(1.0)),
    ),
    Case(
        name="nan_and_null",
        covers=("S13",),
        child=arrow(doubles(NAN)),
        parent=arrow(doubles(None)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="nan_stored_as_null",
        covers=("S13", "T51"),
        child=fast(doubles(NAN, 1.0)),
        parent=arrow(doubles(None, 1.0)),
        back=BAG,
    ),
    Case(
        name="nan_in_the_logs_of_two_writers",
        covers=("T13",),
        child=delta(doubles(NAN, 1.0)),
        parent=rust(doubles(NAN, 1.0)),
        back=BAG,
    ),
    Case(
        name="nan_of_a_converted_row_group",
        covers=("S27", "T14"),
        child=arrow(doubles(1e300)),
        parent=spark(
            "SELECT id, CASE id WHEN 0 THEN 1e300D WHEN 1 THEN double('NaN') ELSE id - 2D END AS {c}a"
            " FROM range(0, 4, 1, 1)",
            parquet__block__row__count__limit="2",
        ).with_spark(lambda place: place.spark.sql(f"CONVERT TO DELTA parquet.`{place.folder}`")),
    ),
    Case(
        name="nan_of_floats_and_doubles",
        covers=("T12",),
        child=arrow(floats(NAN, 0.5)),
        parent=arrow(doubles(0.5, NAN)),
        back=BAG,
    ),
    Case(
        name="nan_payloads",
        covers=("T12",),
        child=arrow(pa.table({"a": np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)})),
        parent=arrow(doubles(NAN, NAN)),
        back=BAG,
    ),
    Case(
        name="nan_bound_of_another_writer",
        covers=("T12", "T50"),
        child=arrow(doubles(5.0)),
        parent=arrow(doubles(5.0, NAN)).then(
            statistics(min_value=np.float64(5.0).tobytes(), max_value=np.float64(NAN).tobytes())
        ),
    ),
]

ZEROS = [
    Case(
        name="zero_in_a_bloom_filter",
        covers=("S15", "T15"),
        child=arrow(doubles(-0.0)),
        parent=spark("SELECT 0.0D AS {c}a", parquet__bloom__filter__enabled="true"),
        back=BAG,
    ),
    Case(
        name="zero_as_duckdb_stores_it",
        covers=("T15",),
        child=duck(doubles(-0.0)),
        parent=duck(doubles(0.0)),
        back=BAG,
    ),
    Case(
        name="zero_widened_by_pyarrow",
        covers=("T5", "T15"),
        child=arrow(doubles(0.0, 0.0)),
        parent=duck(doubles(0.0, 0.0)),
        back=BAG,
    ),
    Case(
        name="zero_of_other_types",
        covers=("T15",),
        child=arrow(doubles(-0.0)),
        parent=rust(longs(0)),
        back=BAG,
    ),
    Case(
        name="infinities_of_a_log",
        covers=("T16",),
        child=arrow(doubles(math.inf, -math.inf)),
        parent=rust(doubles(math.inf, -math.inf, 1.0)),
    ),
    Case(
        name="infinities_only",
        covers=("T16",),
        child=rust(doubles(math.inf)),
        parent=arrow(doubles(math.inf, 1.0)),
    ),
    Case(
        name="infinity_and_a_large_number",
        covers=("T16",),
        child=arrow(doubles(1.7e308)),
        parent=arrow(doubles(math.inf)),
        there=NONE,
        metadata=ANY,
    ),
]

DECIMALS = [
    Case(
        name="decimal_saturated_in_the_log",
        covers=("S17", "T17"),
        child=arrow(decimals(20, 0, "99999999999999999998")),
        parent=rust(decimals(20, 0, "99999999999999999998", "1")),
    ),
    Case(
        name="decimal_rounded_in_the_log",
        covers=("T17",),
        child=arrow(decimals(18, 2, "9007199254740993.00")),
        parent=rust(decimals(18, 2, "9007199254740993.00")),
        back=BAG,
    ),
    Case(
        name="decimal_inside_its_logged_bounds",
        covers=("T17",),
        child=rust(decimals(19, 2, "99999999999999999.99", "-99999999999999999.99")),
        parent=rust(decimals(19, 2, "99999999999999999.99", "-99999999999999999.99", "0")),
    ),
    Case(
        name="decimal_of_many_digits_in_json",
        covers=("S19", "T17"),
        child=delta(decimals(22, 2, "12345678901234567890.12")),
        parent=arrow(decimals(22, 2, "12345678901234567890.12")),
        back=BAG,
    ),
    Case(
        name="decimal_stored_in_four_ways",
        covers=("T18",),
        child=spark(decimals(10, 2, "-1.50", "1.50", "0.00"), conf={"spark.sql.parquet.writeLegacyFormat": "true"}),
        parent=duck(decimals(10, 2, "-1.50", "1.50", "0.00", "2.00")),
    ),
    Case(
        name="decimal_stored_as_integer",
        covers=("T18",),
        child=arrow(decimals(10, 2, "-1.50", "1.50"), store_decimal_as_integer=True),
        parent=arrow(decimals(10, 2, "-1.50", "1.50"), store_decimal_as_integer=False),
        back=BAG,
    ),
    Case(
        name="decimal_stored_by_polars",
        covers=("T18",),
        child=polars(decimals(30, 2, "-1.50", "1.50")),
        parent=spark(decimals(30, 2, "-1.50", "1.50")),
        back=BAG,
    ),
    Case(
        name="decimal_bounds_with_swapped_bytes",
        covers=("T18", "T50"),
        child=arrow(decimals(30, 2, "1.50", "1.51")),
        parent=arrow(decimals(30, 2, "1.50", "1.51")).then(
            footer_edit(_swap_decimal_bytes), created_by("hyparquet-writer")
        ),
        back=BAG,
    ),
    Case(
        name="decimal_of_another_scale",
        covers=("S69",),
        child=arrow(decimals(10, 2, "1.50")),
        parent=arrow(decimals(12, 1, "1.5")),
        back=BAG,
    ),
    Case(
        name="decimal_that_hashes_like_its_digits",
        covers=("S73",),
        child=arrow(decimals(10, 2, "1.50")),
        parent=arrow(longs(150)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="decimal_without_a_common_type",
        covers=("S79",),
        child=arrow(decimals(38, 10, "1234567890123456789012345678.5", "0.1")),
        parent=arrow(decimals(38, 0, "7", "1234567890123456789012345678")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="decimal_of_two_large_scales",
        covers=("S79",),
        child=arrow(decimals(38, 10, "123456789012345678.5", "-0.0000000001")),
        parent=arrow(decimals(38, 20, "123456789012345678.5", "-0.0000000001")),
        back=BAG,
    ),
    Case(
        name="decimal_and_the_double_next_to_it",
        covers=("S77",),
        child=arrow(doubles(0.1)),
        parent=arrow(decimals(10, 2, "0.10")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="decimal_and_its_double",
        child=arrow(doubles(0.5, -2.25, 1e22)),
        parent=arrow(decimals(38, 4, "0.5", "-2.25", "10000000000000000000000")),
        back=BAG,
    ),
    Case(
        name="decimal_of_38_digits",
        child=arrow(decimals(38, 0, "9" * 38)),
        parent=polars(decimals(38, 0, "9" * 38, "-" + "9" * 38)),
    ),
    Case(
        name="decimal_and_the_long_beside_it",
        child=arrow(decimals(20, 0, "9223372036854775807")),
        parent=rust(longs(2**63 - 1, -(2**63))),
    ),
    Case(
        name="decimal_beyond_38_digits",
        child=arrow(column(pa.decimal256(50, 0), Decimal(1))),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
        not_read={"child": r"DECIMAL\(50,0\)"},
    ),
]

INTEGERS = [
    Case(
        name="unsigned_beyond_the_sign",
        covers=("S21", "T26"),
        child=arrow(column(pa.uint64(), 2**63 + 5)),
        parent=arrow(column(pa.uint64(), 2**63 + 5, 1)),
    ),
    Case(
        name="unsigned_by_duckdb",
        covers=("S21", "T26"),
        child=duck(column(pa.uint64(), 2**63 + 5, 1)),
        parent=arrow(decimals(20, 0, str(2**63 + 5), "1")),
        back=BAG,
    ),
    Case(
        name="unsigned_of_32_bits",
        covers=("T26",),
        child=polars(column(pa.uint32(), 2**32 - 1, 0)),
        parent=arrow(longs(2**32 - 1, 0, -1)),
    ),
    Case(
        name="unsigned_of_8_bits",
        covers=("T26",),
        child=arrow(column(pa.uint8(), 255)),
        parent=duck(column(pa.uint8(), 255, 1)),
    ),
    Case(
        name="unsigned_by_an_old_writer",
        covers=("T25", "T26"),
        child=arrow(column(pa.uint32(), 2**32 - 1)),
        parent=arrow(column(pa.uint32(), 2**32 - 1, 1)).then(
            statistics(max=b"\1\0\0\0", min=b"\xff\xff\xff\xff", max_value=None, min_value=None),
            created_by("parquet-mr version 1.8.0"),
        ),
    ),
    Case(
        name="int_and_bigint",
        covers=("S71",),
        child=arrow(column(pa.int32(), 1)),
        parent=arrow(longs(1)),
        back=BAG,
    ),
    Case(
        name="int_of_all_widths",
        covers=("S71",),
        child=arrow(column(pa.int8(), -128, 127)),
        parent=polars(column(pa.int16(), -128, 127, 300)),
    ),
    Case(
        name="bigint_in_an_int_column_with_bloom_filter",
        covers=("S97",),
        child=arrow(longs(7)),
        parent=spark(column(pa.int32(), 7, 8), parquet__bloom__filter__enabled="true"),
    ),
    Case(
        name="bigint_beside_its_double",
        child=arrow(longs(2**53 + 1)),
        parent=arrow(doubles(2.0**53)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="bigint_and_its_double",
        child=arrow(longs(2**53, -(2**63))),
        parent=arrow(doubles(2.0**53, -(2.0**63))),
        back=BAG,
    ),
    Case(
        name="bigint_at_the_end_of_the_doubles",
        child=arrow(longs(2**63 - 1)),
        parent=arrow(longs(2**63 - 1, 2**63 - 2)),
    ),
    Case(
        name="boolean_and_number",
        covers=("T28",),
        child=arrow(column(pa.bool_(), True)),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="boolean_without_bounds",
        covers=("T28",),
        child=rust(column(pa.bool_(), True)),
        parent=delta(column(pa.bool_(), True, False)),
    ),
    Case(
        name="numbers_of_disjoint_ranges",
        child=arrow(longs(1, 2)),
        parent=arrow(longs(5, 9)),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="numbers_beyond_a_log",
        child=rust(longs(1, 20)),
        parent=rust(longs(1, 9)),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="integers_with_gaps_as_pandas_sees_them",
        covers=("T51",),
        child=arrow(longs(2**53 + 1, None)),
        parent=arrow(longs(2**53 + 1, None, 2**53)),
    ),
    Case(
        name="integers_with_loose_bounds",
        covers=("T50",),
        child=arrow(longs(5)).then(
            statistics(min_value=np.int64(0).tobytes(), max_value=np.int64(100).tobytes()),
            created_by("ClickHouse v26.8.1.1"),
        ),
        parent=arrow(longs(5, 6)),
    ),
]

FLOATS = [
    Case(
        name="float_and_the_double_of_its_text",
        covers=("S77",),
        child=arrow(floats(0.1)),
        parent=arrow(doubles(0.1)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="float_and_its_double",
        covers=("S77",),
        child=arrow(floats(0.1)),
        parent=arrow(doubles(float(np.float32(0.1)), 0.1)),
    ),
    Case(
        name="float_in_the_logs_of_two_writers",
        covers=("T39",),
        child=rust(floats(3.4, -3.4)),
        parent=delta(floats(3.4, -3.4)),
        back=BAG,
    ),
    Case(
        name="float_widened_in_delta",
        covers=("S39", "T38"),
        child=arrow(doubles(float(np.float32(3.4)))),
        parent=delta_sql(
            "CREATE TABLE {t} ({c}a float) USING delta TBLPROPERTIES ('delta.enableTypeWidening' = 'true')",
            "INSERT INTO {t} VALUES (3.4F)",
            "ALTER TABLE {t} ALTER COLUMN {c}a TYPE double",
            "INSERT INTO {t} VALUES (0.1D)",
        ),
    ),
    Case(
        name="float_of_16_bits",
        child=arrow(pa.table({"a": pa.array(np.array([0.5], np.float16))})),
        parent=arrow(doubles(0.5)),
        there=NONE,
        metadata=ANY,
        not_read={"child": "FLOAT16"},
    ),
]

CASES = [*NANS, *ZEROS, *DECIMALS, *INTEGERS, *FLOATS]
