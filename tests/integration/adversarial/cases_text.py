"""Strings and bytes: bounds that are cut off, raised, dropped, invented or ordered in another way; what equals what."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, Case
from tests.integration.adversarial.writers import (
    arrow,
    column,
    created_by,
    delta,
    delta_sql,
    duck,
    fast,
    longs,
    operation,
    polars,
    rust,
    rust_convert,
    spark,
    statistics,
    stats_edit,
    texts,
)

LONG = "z" * 5000
LAST = "\U0010ffff"


def _iceberg_bounds(stats: dict[str, Any], prefix: str) -> None:
    """Bounds of 16 characters, the upper one raised, as they come along from an Iceberg table."""
    low, high = stats["minValues"][prefix + "a"][:16], stats["maxValues"][prefix + "a"][:16]
    stats["minValues"][prefix + "a"] = low
    stats["maxValues"][prefix + "a"] = high[:-1] + chr(ord(high[-1]) + 1)
    stats.pop("tightBounds", None)


def _lossy_binary(stats: dict[str, Any], prefix: str) -> None:
    """Bounds of bytes as text, what is not UTF-8 replaced."""
    stats["minValues"][prefix + "a"] = stats["maxValues"][prefix + "a"] = "\ufffd"


CUT = [
    Case(
        name="cut_minimum_of_polars",
        covers=("S1", "T3", "T4"),
        child=polars(texts("a" * 70 + "x")),
        parent=arrow(texts("a" * 70 + "x", "b")),
    ),
    Case(
        name="cut_maximum_of_polars",
        covers=("T3", "T4"),
        child=arrow(texts("a" * 70 + "x")),
        parent=polars(texts("a" * 70 + "x", "A")),
    ),
    Case(
        name="cut_to_last_characters",
        covers=("T2", "T3"),
        child=polars(texts(LAST * 30)),
        parent=arrow(texts(LAST * 30, "b")),
    ),
    Case(
        name="cut_by_duckdb",
        covers=("T3", "T4"),
        child=duck(texts("a" * 300, "a" * 299 + "b")),
        parent=arrow(texts("a" * 300, "a" * 299 + "b", "b")),
    ),
    Case(
        name="cut_by_rust",
        covers=("T3", "T4"),
        child=rust(texts("m" * 100, "m" * 99 + "z")),
        parent=arrow(texts("m" * 99 + "z", "m" * 100)),
        back=BAG,
    ),
    Case(
        name="cut_by_parquet_mr",
        covers=("T3", "T4"),
        child=spark(texts("abcdefghij", "abcdefghiz"), parquet__statistics__truncate__length="4"),
        parent=arrow(texts("abcdefghij", "abcdefghiz", "b")),
    ),
    Case(
        name="cut_parents_bounds",
        covers=("T3",),
        child=arrow(texts("abcdefghij", "abcdefghiz")),
        parent=spark(texts("abcdefghij", "abcdefghiz"), parquet__statistics__truncate__length="4"),
        back=BAG,
    ),
    Case(
        name="cut_minimum_of_delta",
        covers=("T1",),
        child=delta(texts("m" * 40)),
        parent=arrow(texts("m" * 40, "n")),
    ),
    Case(
        name="minimum_of_just_the_cut_length",
        covers=("S7", "T1"),
        child=delta(texts("m" * 32)),
        parent=arrow(texts("m" * 32)),
        back=BAG,
    ),
    Case(
        name="same_cut_bounds_of_other_texts",
        covers=("T1", "T2"),
        child=delta(texts("m" * 32 + "a")),
        parent=delta(texts("m" * 32 + "b")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="short_prefix_of_delta",
        covers=("T1", "T2"),
        child=delta(texts("abcdef", "abcxyz"), dataSkippingStringPrefixLength="2"),
        parent=delta(texts("abcdef", "abcxyz", "abd")),
    ),
    Case(
        name="tie_breaker_above_the_maximum",
        covers=("S3", "T2"),
        child=delta(texts("z" * 40)),
        parent=arrow(texts("z" * 40)),
        back=BAG,
    ),
    Case(
        name="tie_breaker_of_the_last_character",
        covers=("S3", "T2"),
        child=delta(texts("\u00e9" * 40)),
        parent=arrow(texts("\u00e9" * 40)),
        back=BAG,
    ),
    Case(
        name="no_maximum_of_last_characters",
        covers=("T2",),
        child=arrow(texts(LAST * 70)),
        parent=delta(texts(LAST * 70, "a")),
    ),
    Case(
        name="clone_of_an_iceberg_table_as_child",
        covers=("S5", "T8", "T32"),
        child=rust(texts("abcdefghijklmnopqrstuvwxyz")).then(stats_edit(_iceberg_bounds), operation("CLONE")),
        parent=arrow(texts("abcdefghijklmnopqrstuvwxyz")),
        back=BAG,
    ),
    Case(
        name="convert_of_an_iceberg_table_as_parent",
        covers=("S5", "T8"),
        child=arrow(texts("abcdefghijklmnopqrstuvwxyz")),
        parent=rust(texts("abcdefghijklmnopqrstuvwxyz", "b")).then(stats_edit(_iceberg_bounds), operation("CONVERT")),
    ),
]

HUGE = [
    Case(
        name="no_bounds_of_huge_texts",
        covers=("T9",),
        child=spark(texts(LONG, None)),
        parent=arrow(texts(LONG, None, "a")),
    ),
    Case(
        name="no_null_count_of_huge_texts",
        covers=("T9",),
        child=arrow(texts(None)),
        parent=spark(texts(LONG, None)),
    ),
    Case(
        name="huge_text_in_one_row_group",
        covers=("T9", "T10"),
        child=arrow(texts(LONG)),
        parent=arrow(texts(LONG), texts("a")),
    ),
    Case(
        name="converted_with_a_huge_text",
        covers=("S25", "T10"),
        child=arrow(texts(LONG)),
        parent=arrow(texts(LONG), texts("a")).then(rust_convert),
    ),
    Case(
        name="converted_by_spark_with_a_huge_text",
        covers=("S25", "T10"),
        child=arrow(texts(LONG)),
        parent=arrow(texts(LONG), texts("a")).with_spark(
            lambda place: place.spark.sql(f"CONVERT TO DELTA parquet.`{place.folder}`")
        ),
    ),
    Case(
        name="converted_nulls_beside_a_huge_text",
        covers=("T11", "T9"),
        child=arrow(texts(None)),
        parent=spark(texts(LONG, None)).then(rust_convert),
    ),
]

WRITERS = [
    Case(
        name="signed_order_of_old_writers",
        covers=("S23", "T25"),
        child=arrow(texts("\u00e9", "zz")).then(
            statistics(max=b"zz", min="\u00e9".encode(), max_value=None, min_value=None),
            created_by("parquet-mr version 1.8.2 (build x)"),
        ),
        parent=arrow(texts("\u00e9", "zz")),
        back=BAG,
    ),
    Case(
        name="signed_order_of_a_nameless_writer",
        covers=("T25",),
        child=arrow(texts("\u00e9", "zz")),
        parent=arrow(texts("\u00e9", "zz")).then(
            statistics(max=b"zz", min="\u00e9".encode(), max_value=None, min_value=None), created_by("")
        ),
        back=BAG,
    ),
    Case(
        name="fastparquet_text",
        covers=("T25",),
        child=fast(texts("\u00e9", "zz"), stats=True),
        parent=arrow(texts("\u00e9", "zz", "a")),
    ),
    Case(
        name="fastparquet_text_as_parent",
        covers=("T25",),
        child=arrow(texts("\u00e9")),
        parent=fast(texts("\u00e9", "zz"), stats=True),
    ),
    Case(
        name="order_of_utf16",
        covers=("T25",),
        child=arrow(texts("\uffee", "\U00010000")),
        parent=delta(texts("\uffee", "\U00010000")),
        back=BAG,
    ),
    Case(
        name="bounds_wider_than_the_file",
        covers=("T50",),
        child=arrow(texts("m")).then(statistics(min_value=b"a", max_value=b"z"), created_by("ClickHouse v26.8.1.1")),
        parent=arrow(texts("m", "n")),
    ),
    Case(
        name="binary_bounds_as_text",
        covers=("T28",),
        child=arrow(column(pa.binary(), b"\xff")),
        parent=rust(column(pa.binary(), b"\xff", b"\xfe")).then(stats_edit(_lossy_binary)),
    ),
    Case(
        name="binary_order",
        covers=("T28",),
        child=polars(column(pa.binary(), b"\x80", b"\x7f")),
        parent=rust(column(pa.binary(), b"\x80", b"\x7f", b"")),
    ),
    Case(
        name="raised_byte_of_a_binary_maximum",
        covers=("T3",),
        child=polars(column(pa.binary(), b"\xff" * 70)),
        parent=arrow(column(pa.binary(), b"\xff" * 70)),
        back=BAG,
    ),
    Case(
        name="dictionary_with_unused_values",
        covers=("S99",),
        child=arrow(pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([1, 1], pa.int8()), ["a", "m", "z"])})),
        parent=arrow(texts("m", "m")),
        back=BAG,
    ),
    Case(
        name="enum_with_unused_values",
        covers=("S99",),
        child=duck(texts("m", "b"), "SELECT CAST(a AS ENUM ('a', 'b', 'm', 'z')) AS a FROM rows_to_write"),
        parent=arrow(texts("m", "b", "x")),
    ),
    Case(
        name="dictionary_given_up_midway",
        child=arrow(texts("late 39")),
        parent=arrow(
            texts(*["early"] * 40, *(f"late {n}" for n in range(60))), dictionary_pagesize_limit=40, write_batch_size=10
        ),
    ),
    Case(
        name="value_that_a_dictionary_lacks",
        child=arrow(texts("early 2")),
        parent=arrow(texts(*["early 1", "early 3"] * 40)),
        there=NONE,
        metadata=ANY,
    ),
]

EQUALITY = [
    Case(
        name="empty_text_and_another",
        covers=("S113",),
        child=arrow(texts("")),
        parent=arrow(texts("a")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="empty_text_and_null",
        covers=("S113",),
        child=arrow(texts("", "a")),
        parent=arrow(texts(None, "a")),
        there=NONE,
        metadata=ANY,
    ),
    Case(name="empty_text", covers=("S113",), child=rust(texts("")), parent=arrow(texts("", "a"))),
    Case(
        name="empty_text_as_the_least",
        covers=("S113",),
        child=rust(texts("")),
        parent=rust(texts("", "a")),
    ),
    Case(
        name="text_and_bytes",
        covers=("S75",),
        child=arrow(column(pa.binary(), b"abc")),
        parent=arrow(texts("abc")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_and_number",
        covers=("S45",),
        child=arrow(texts("1")),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_and_boolean",
        covers=("S45",),
        child=arrow(texts("true")),
        parent=arrow(column(pa.bool_(), True)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_with_a_separator",
        covers=("S67",),
        child=arrow(pa.table({"a": ["a|b"], "b": ["c"]})),
        parent=arrow(pa.table({"a": ["a"], "b": ["b|c"]})),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_or_null_in_another_column",
        covers=("S67",),
        child=arrow(pa.table({"a": ["z"], "b": pa.array([None], pa.string())})),
        parent=arrow(pa.table({"a": pa.array([None], pa.string()), "b": ["z"]})),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_that_ends_in_zero",
        child=arrow(texts("a\0")),
        parent=polars(texts("a")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_that_ends_in_blanks",
        covers=("T41",),
        child=arrow(texts("a ")),
        parent=arrow(texts("a")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_forms_of_one_letter",
        covers=("S57",),
        child=arrow(texts("e\u0301")),
        parent=arrow(texts("\u00e9")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="text_of_disjoint_ranges",
        child=arrow(texts("a", "c")),
        parent=polars(texts("x", "z")),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="text_sizes_of_arrow",
        child=arrow(column(pa.large_string(), "a", None)),
        parent=arrow(column(pa.string_view(), "a", None)),
        back=BAG,
    ),
]

COLLATIONS = [
    Case(
        name="collation_without_case",
        covers=("S55", "T40"),
        child=spark("SELECT 'a' COLLATE UTF8_LCASE AS {c}a"),
        parent=spark("SELECT 'A' COLLATE UTF8_LCASE AS {c}a"),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="collation_with_the_same_bytes",
        covers=("S55", "T40"),
        child=spark("SELECT 'a' COLLATE UTF8_LCASE AS {c}a"),
        parent=spark("SELECT a COLLATE UNICODE_CI AS {c}a FROM VALUES ('a'), ('B') AS t(a)"),
    ),
    Case(
        name="collation_of_unicode",
        covers=("S57", "T40"),
        child=spark("SELECT concat('e', '\\u0301') COLLATE UNICODE AS {c}a"),
        parent=spark("SELECT '\\u00e9' COLLATE UNICODE AS {c}a"),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="char_is_padded",
        covers=("T41",),
        child=arrow(texts("ab   ")),
        parent=delta_sql(
            "CREATE TABLE {c}t ({c}a CHAR(5)) USING parquet LOCATION '{folder}'", "INSERT INTO {c}t VALUES ('ab')"
        ),
        back=BAG,
    ),
    Case(
        name="char_stored_without_blanks",
        covers=("T41",),
        child=arrow(texts("ab")),
        parent=delta_sql("CREATE TABLE {t} ({c}a CHAR(5)) USING delta", "INSERT INTO {t} VALUES ('ab')"),
        back=BAG,
    ),
    Case(
        name="varchar",
        covers=("T41",),
        child=delta_sql("CREATE TABLE {t} ({c}a VARCHAR(5)) USING delta", "INSERT INTO {t} VALUES ('ab ')"),
        parent=arrow(texts("ab ", "ab")),
    ),
]

CASES = [*CUT, *HUGE, *WRITERS, *EQUALITY, *COLLATIONS]
