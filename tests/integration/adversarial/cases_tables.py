"""Whole tables: rows and columns, names, Parquet folders, Hive partitions, text files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc

from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, SET, Case
from tests.integration.adversarial.writers import (
    Made,
    Place,
    arrow,
    column,
    doubles,
    files,
    footer_edit,
    longs,
    polars,
    rust,
    spark,
    text,
    texts,
)

NAN = float("nan")
HOSTILE = """x y`"'\\;--\u00e9{}"""


def two(first: Any, second: Any) -> pa.Table:
    """A table with the columns `a` and `b`."""
    return pa.table({"a": first, "b": second})


def as_decimal(precision: int, scale: int, value: float) -> pa.Table:
    """A column with a decimal that equals a double."""
    return pa.table({"a": pa.array([value]).cast(pa.decimal128(precision, scale))})


def linked(place: Place) -> None:
    """The same file under a second partition value."""
    (file,) = place.folder.rglob("*.parquet")
    other = Path(str(file).replace(f"{place.prefix}p=1", f"{place.prefix}p=2"))
    other.parent.mkdir()
    os.link(file, other)


def orc_file(table: pa.Table) -> Made:
    """An ORC file."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        orc.write_table(place.named(table), place.folder / "data.orc")

    return Made((write,))


def _without_statistics_of_no_rows(footer: Any) -> None:
    """Nothing is said of row groups without rows."""
    footer.row_groups = []


ROWS = [
    Case(
        name="rows_repeated",
        covers=("S81",),
        child=arrow(longs(1, 1, 2)),
        parent=arrow(longs(1, 2)),
        there=SET,
        back=BAG,
    ),
    Case(
        name="rows_repeated_equally_often_in_all",
        covers=("S81",),
        child=arrow(longs(1, 1, 2)),
        parent=rust(longs(1, 2, 2)),
        there=SET,
        back=SET,
    ),
    Case(
        name="rows_and_none",
        covers=("S83",),
        child=arrow(longs(1)),
        parent=arrow(longs()),
        there=NONE,
        back=BAG,
        metadata=REFUTE,
    ),
    Case(
        name="rows_twice_and_none",
        covers=("S95",),
        child=rust(longs(5, 5)),
        parent=rust(longs()),
        there=NONE,
        back=BAG,
        metadata=REFUTE,
    ),
    Case(
        name="rows_none_at_all",
        covers=("T46",),
        child=arrow(texts()),
        parent=rust(longs()),
        back=BAG,
    ),
    Case(
        name="rows_none_in_one_file",
        covers=("T46",),
        child=files({"0.parquet": longs(1, 2), "1.parquet": longs()}),
        parent=files({"0.parquet": longs(), "1.parquet": longs(), "2.parquet": longs(2, 1)}),
        back=BAG,
    ),
    Case(
        name="rows_none_in_a_row_group",
        covers=("T46",),
        child=arrow(longs(), longs(1), longs()),
        parent=arrow(longs(1, 2)),
    ),
    Case(
        name="rows_none_and_no_row_group",
        covers=("T46",),
        child=arrow(longs()).then(footer_edit(_without_statistics_of_no_rows)),
        parent=arrow(longs(1)),
    ),
    Case(
        name="rows_of_other_columns_together",
        covers=("S91",),
        child=arrow(two([1], ["x"])),
        parent=arrow(two([1, 2], ["y", "x"])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="rows_that_cancel_out",
        covers=("S93",),
        child=arrow(two([1], [1])),
        parent=arrow(two([2], [2])),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="rows_of_the_same_marginals",
        covers=("S93",),
        child=arrow(two([1, 2], [3, 4])),
        parent=arrow(two([1, 2], [4, 3])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="rows_with_swapped_columns",
        covers=("S93",),
        child=arrow(two([1, 2], [2, 2])),
        parent=arrow(two([2, 2], [1, 2])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="rows_repeated_in_a_projection",
        covers=("S81",),
        child=arrow(longs(1, 1)),
        parent=polars(two([1, 1, 2], ["x", "y", "z"])),
    ),
    Case(
        name="rows_once_more_than_in_a_projection",
        covers=("S81",),
        child=arrow(longs(1, 1, 1)),
        parent=polars(two([1, 1, 2], ["x", "y", "z"])),
        there=SET,
    ),
]

NAMES = [
    Case(
        name="column_order",
        covers=("S89",),
        child=arrow(pa.table({"a": [1], "b": [2]})),
        parent=arrow(pa.table({"b": [2], "a": [1]})),
        back=BAG,
    ),
    Case(
        name="column_case",
        covers=("T52",),
        child=arrow(pa.table({"A": [1]})),
        parent=rust(pa.table({"a": [1, 2]})),
    ),
    Case(
        name="columns_that_differ_by_case",
        covers=("T52",),
        child=arrow(pa.table({"A": [1]})),
        parent=arrow(pa.table({"a": [1], "A": [7]})),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="columns_that_differ_by_case_in_both",
        covers=("T52",),
        child=arrow(pa.table({"A": [7]})),
        parent=arrow(pa.table({"a": [1], "A": [7]})),
    ),
    Case(
        name="column_case_of_other_letters",
        covers=("T52",),
        child=arrow(pa.table({"\u00c9\u00d1": [1]})),
        parent=arrow(pa.table({"\u00e9\u00f1": [1, 2]})),
    ),
    Case(
        name="column_names_with_quotes",
        covers=("T52",),
        child=arrow(pa.table({HOSTILE: ["x"], "a.b": [1]})),
        parent=polars(pa.table({"a.b": [1, 2], HOSTILE: ["x", "y"]})),
    ),
]

FOLDERS = [
    Case(
        name="file_of_the_same_name_and_size",
        covers=("S105",),
        child=arrow(longs(1, 2, 3), compression="none", use_dictionary=False),
        parent=arrow(longs(1, 9, 3), compression="none", use_dictionary=False),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="file_under_two_partition_values",
        covers=("S109",),
        child=files({"{c}p=1/0.parquet": longs(5)}).then(linked),
        parent=files({"{c}p=1/0.parquet": longs(5)}),
        there=NONE,
        back=BAG,
        metadata=ANY,
    ),
    Case(
        name="file_without_a_column",
        covers=("S37", "T37"),
        child=files({"0.parquet": longs(1), "1.parquet": two([2], ["x"])}),
        parent=arrow(two([1, 2, 3], [None, "x", None])),
    ),
    Case(
        name="file_without_a_column_as_parent",
        covers=("S37", "T37"),
        child=arrow(two([1], pa.array([None], pa.string()))),
        parent=files({"0.parquet": longs(1), "1.parquet": two([2], ["x"])}),
    ),
    Case(
        name="file_of_a_narrower_type",
        covers=("T38",),
        child=arrow(longs(2**40, 7)),
        parent=files({"0.parquet": column(pa.int32(), 7), "1.parquet": longs(2**40)}),
        back=BAG,
    ),
    Case(
        name="file_of_floats_among_doubles",
        covers=("T38",),
        child=arrow(doubles(3.4000000953674316)),
        parent=files({"0.parquet": column(pa.float32(), 3.4), "1.parquet": doubles(0.1)}),
    ),
    Case(
        name="file_of_another_decimal",
        covers=("T38",),
        child=arrow(doubles(1.5, 2.125)),
        parent=files({"0.parquet": as_decimal(4, 1, 1.5), "1.parquet": as_decimal(9, 3, 2.125)}),
        back=BAG,
    ),
    Case(
        name="file_of_orc",
        covers=("T47",),
        child=orc_file(longs(1)),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
        not_read={"child": "ORC"},
    ),
]

BOXES = [
    Case(
        name="box_that_no_file_of_the_parent_meets",
        child=files({"0.parquet": two([5], ["x"]), "1.parquet": two([25], ["x"])}),
        parent=files({"0.parquet": two([0, 9], ["y", "z"]), "1.parquet": two([20, 30], ["w", "x"])}),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="box_of_nulls",
        covers=("T29",),
        child=files({"0.parquet": two([5], pa.array([None], pa.string())), "1.parquet": two([20], ["x"])}),
        parent=files({"0.parquet": two([5, 6], pa.array([None, None], pa.string())), "1.parquet": two([20], ["x"])}),
    ),
    Case(
        name="box_of_nan",
        covers=("T12",),
        child=files({"0.parquet": two([5], [NAN]), "1.parquet": two([20], [1.0])}),
        parent=files({"0.parquet": two([6, 5], [7.0, NAN]), "1.parquet": two([20], [1.0])}),
    ),
    Case(
        name="box_without_statistics",
        covers=("T10",),
        child=files({"0.parquet": two([5], ["x"]), "1.parquet": two([70], ["z"])}),
        parent=files({"0.parquet": two([5], ["x"])}).then(
            *files({"1.parquet": two([70, 80], ["z", "z"])}, write_statistics=False).steps
        ),
    ),
    Case(
        name="box_of_a_file_without_rows",
        covers=("T46",),
        child=files({"0.parquet": two([5], ["x"]), "1.parquet": two([], pa.array([], pa.string()))}),
        parent=files({"0.parquet": two([5, 5], ["x", "y"]), "1.parquet": two([], pa.array([], pa.string()))}),
    ),
    Case(
        name="box_of_one_value_in_several_files",
        covers=("S109",),
        child=files({"{c}p=1/0.parquet": longs(7, 7, 8)}),
        parent=files(
            {
                "{c}p=1/0.parquet": longs(7),
                "{c}p=1/1.parquet": longs(8),
                "{c}p=1/2.parquet": longs(7),
                "{c}p=2/0.parquet": longs(7),
            }
        ),
    ),
    Case(
        name="box_of_one_value_more_often_than_in_all_files",
        covers=("S81",),
        child=files({"{c}p=1/0.parquet": longs(7, 7, 7)}),
        parent=files({"{c}p=1/0.parquet": longs(7), "{c}p=1/1.parquet": longs(7), "{c}p=2/0.parquet": longs(7, 7)}),
        there=SET,
    ),
]

HIVE = [
    Case(
        name="partition_value_with_a_zero",
        covers=("S45", "T35"),
        child=arrow(pa.table({"a": [5], "p": ["01"]})),
        parent=files({"{c}p=01/0.parquet": longs(5)}),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="partition_value_that_is_a_number",
        covers=("T35",),
        child=arrow(pa.table({"a": [5], "p": [1]})),
        parent=files({"{c}p=01/0.parquet": longs(5), "{c}p=2/0.parquet": longs(6)}),
    ),
    Case(
        name="partition_value_of_null",
        covers=("T35",),
        child=arrow(pa.table({"a": [5], "p": pa.array([None], pa.int64())})),
        parent=files({"{c}p=__HIVE_DEFAULT_PARTITION__/0.parquet": longs(5), "{c}p=7/0.parquet": longs(6)}),
    ),
    Case(
        name="partition_value_with_escapes",
        covers=("T35",),
        child=arrow(pa.table({"a": [5], "p": ["a/b c=%"]})),
        parent=files({"{c}p=a%2Fb c=%25/0.parquet": longs(5), "{c}p=x/0.parquet": longs(6)}),
    ),
    Case(
        name="partition_value_of_a_day",
        covers=("T35",),
        child=arrow(pa.table({"a": [5], "p": pa.array([19_723], pa.date32())})),
        parent=files({"{c}p=2024-01-01/0.parquet": longs(5)}),
        back=BAG,
    ),
    Case(
        name="partition_beyond_the_parents",
        covers=("S109",),
        child=files({"{c}p=1/0.parquet": longs(5), "{c}p=3/0.parquet": longs(5)}),
        parent=files({"{c}p=1/0.parquet": longs(5), "{c}p=2/0.parquet": longs(5)}),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="partition_in_the_log_only",
        covers=("S43", "T34"),
        child=rust(two([1, 2, 3], ["x", "y", None]), partition_by=["b"]),
        parent=arrow(two([1, 2, 3, 4], ["x", "y", None, "z"])),
    ),
]

TEXT = [
    Case(
        name="csv_empty_text_and_null",
        covers=("S117",),
        child=text("t.csv", '{c}a,{c}b\n1,""\n2,\n3,x\n'),
        parent=arrow(two([1, 2, 3], ["", None, "x"])),
        back=BAG,
    ),
    Case(
        name="csv_null_is_not_the_empty_text",
        covers=("S117",),
        child=text("t.csv", "{c}a,{c}b\n1,\n3,x\n"),
        parent=arrow(two([1, 3], ["", "x"])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="csv_of_spark",
        covers=("S117",),
        child=spark("SELECT 1 AS {c}a, 'x' AS {c}b UNION ALL SELECT 2, NULL", file_format="csv", header="true"),
        parent=arrow(two([1, 2, 3], ["x", None, "y"])),
    ),
    Case(
        name="csv_text_that_looks_like_a_number",
        covers=("S45",),
        child=text("t.csv", "{c}a,{c}b\n01,x\n"),
        parent=arrow(two([1], ["x"])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="csv_number",
        child=text("t.csv", "{c}a,{c}b\n9007199254740993,0.10\n"),
        parent=arrow(two([2**53 + 1], [0.1])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="json_number_and_text",
        covers=("S45",),
        child=text("t.jsonl", '{"{c}a": 1, "{c}b": "x"}\n{"{c}a": 2, "{c}b": "y"}\n'),
        parent=arrow(two([1, 2], ["x", "y"])),
        back=BAG,
    ),
    Case(
        name="json_text_is_never_a_number",
        covers=("S45",),
        child=text("t.jsonl", '{"{c}a": "1"}\n'),
        parent=arrow(longs(1)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="json_without_a_key",
        covers=("S117",),
        child=text("t.jsonl", '{"{c}a": 1}\n{"{c}a": 2, "{c}b": null}\n{"{c}a": 3, "{c}b": ""}\n'),
        parent=arrow(two([1, 2, 3], [None, None, ""])),
        back=BAG,
    ),
]

CASES = [*ROWS, *NAMES, *FOLDERS, *BOXES, *HIVE, *TEXT]
