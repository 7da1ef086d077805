"""NULLs, structs, arrays and maps: what is equal, and what counts of NULLs mean."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, SET, Case
from tests.integration.adversarial.writers import (
    arrow,
    column,
    delta,
    delta_sql,
    doubles,
    duck,
    longs,
    polars,
    rust,
    spark,
    texts,
)

POINT = pa.struct([("x", pa.int64()), ("y", pa.string())])
LIST = pa.list_(pa.int64())
MAP = pa.map_(pa.string(), pa.int64())


def nulls(rows: int, dtype: pa.DataType) -> pa.Table:
    """A column of NULLs."""
    return column(dtype, *[None] * rows)


def points(*values: dict[str, Any] | None) -> pa.Table:
    """A column of structs."""
    return column(POINT, *values)


NULLS = [
    Case(
        name="null_among_values",
        covers=("S85", "T29"),
        child=arrow(longs(None)),
        parent=arrow(longs(1, None)),
    ),
    Case(
        name="null_in_all_rows",
        covers=("S87", "T29"),
        child=arrow(longs(None)),
        parent=rust(longs(None)),
        back=BAG,
    ),
    Case(
        name="null_twice",
        covers=("S87",),
        child=arrow(longs(None, None)),
        parent=rust(longs(None)),
        there=SET,
        back=BAG,
    ),
    Case(
        name="null_of_all_types",
        covers=("T29",),
        child=arrow(nulls(2, pa.string())),
        parent=rust(nulls(2, pa.date32())),
        back=BAG,
    ),
    Case(
        name="null_without_a_type",
        covers=("T29",),
        child=arrow(nulls(1, pa.null())),
        parent=arrow(doubles(None, 1.0)),
    ),
    Case(
        name="null_of_a_type_that_holds_others",
        covers=("T29",),
        child=arrow(nulls(1, pa.string())),
        parent=polars(longs(7, None)),
    ),
    Case(
        name="null_and_an_array",
        covers=("S63",),
        child=arrow(nulls(1, LIST)),
        parent=arrow(nulls(1, pa.string())),
        back=BAG,
    ),
    Case(
        name="null_where_there_is_none",
        child=arrow(longs(None, 1)),
        parent=arrow(longs(1, 2)),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="null_where_none_may_be",
        covers=("T49",),
        child=arrow(longs(None, 1)),
        parent=arrow(longs(1, 2).cast(pa.schema([pa.field("a", pa.int64(), nullable=False)])), write_statistics=False),
        there=NONE,
        metadata=REFUTE,
    ),
    Case(
        name="null_forbidden_by_delta",
        covers=("T49",),
        child=arrow(longs(1)),
        parent=delta_sql("CREATE TABLE {t} ({c}a BIGINT NOT NULL) USING delta", "INSERT INTO {t} VALUES (1), (2)"),
    ),
    Case(
        name="null_count_missing",
        covers=("T29",),
        child=arrow(longs(None)),
        parent=arrow(longs(1, None), write_statistics=False),
    ),
]

STRUCTS = [
    Case(
        name="struct_of_nulls_and_null_struct",
        covers=("S65", "T30"),
        child=arrow(points({"x": None, "y": None})),
        parent=arrow(points(None)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="null_struct_in_every_writer",
        covers=("S65", "T30"),
        child=duck(points(None, {"x": 1, "y": None})),
        parent=delta(points(None, {"x": 1, "y": None}, {"x": None, "y": None})),
    ),
    Case(
        name="struct_null_counts_with_null_parents",
        covers=("T30",),
        child=rust(points(None, {"x": None, "y": "b"}, {"x": 1, "y": "b"})),
        parent=polars(points(None, {"x": None, "y": "b"}, {"x": 1, "y": "b"})),
        back=BAG,
    ),
    Case(
        name="struct_field_order",
        child=arrow(points({"x": 1, "y": "a"})),
        parent=arrow(column(pa.struct([("Y", pa.string()), ("X", pa.int32())]), {"Y": "a", "X": 1})),
        back=BAG,
    ),
    Case(
        name="struct_with_fewer_fields",
        child=arrow(column(pa.struct([("y", pa.string())]), {"y": "a"})),
        parent=arrow(points({"x": 1, "y": "a"})),
    ),
    Case(
        name="struct_and_a_column_with_a_point",
        child=arrow(pa.table({"a.x": [1]})),
        parent=arrow(column(pa.struct([("x", pa.int64())]), {"x": 1})),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="struct_and_its_text",
        child=arrow(column(pa.struct([("x", pa.int64())]), {"x": 1})),
        parent=arrow(texts('{"x":1}')),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="struct_bounds_beyond_the_parents",
        covers=("T30",),
        child=arrow(points({"x": 1, "y": "a"}, {"x": 9, "y": "a"})),
        parent=rust(points({"x": 1, "y": "a"}, {"x": 2, "y": "a"})),
        there=NONE,
        metadata=REFUTE,
    ),
]

ARRAYS = [
    Case(
        name="array_with_a_null",
        covers=("S63",),
        child=arrow(column(LIST, [1, None])),
        parent=arrow(column(LIST, [1])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="array_of_a_null_and_empty",
        covers=("S63", "T30"),
        child=arrow(column(LIST, [None])),
        parent=arrow(column(LIST, [])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="array_empty_and_null",
        covers=("S63", "T30"),
        child=arrow(column(LIST, [])),
        parent=arrow(column(LIST, None)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="array_counts_of_nulls",
        covers=("T30",),
        child=rust(column(LIST, [], None, [1, None])),
        parent=arrow(column(LIST, None, [], [1, None])),
        back=BAG,
    ),
    Case(
        name="array_empty_of_other_elements",
        child=arrow(column(pa.list_(pa.string()), [], [None])),
        parent=rust(column(pa.list_(pa.date32()), [], [None])),
        back=BAG,
    ),
    Case(
        name="array_order",
        child=arrow(column(LIST, [1, 2])),
        parent=arrow(column(LIST, [2, 1])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="array_nesting",
        child=arrow(column(pa.list_(LIST), [[1], [2]])),
        parent=arrow(column(pa.list_(LIST), [[1, 2], []])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="array_of_other_numbers",
        child=arrow(column(pa.list_(pa.float32()), [1.0, None], [0.5])),
        parent=polars(column(pa.list_(pa.float64()), [1.0, None], [0.5])),
        back=BAG,
    ),
    Case(
        name="array_values_are_not_bounds_of_rows",
        covers=("T30",),
        child=arrow(column(LIST, [1, 100])),
        parent=arrow(column(LIST, [1, 100], [5])),
    ),
    Case(
        name="array_of_nan_and_zero",
        child=arrow(column(pa.list_(pa.float64()), [float("nan"), -0.0])),
        parent=duck(column(pa.list_(pa.float64()), [float("nan"), 0.0])),
        back=BAG,
    ),
    Case(
        name="array_of_fixed_size",
        child=arrow(column(pa.list_(pa.int64(), 2), [1, 2])),
        parent=arrow(column(pa.large_list(pa.int64()), [1, 2])),
        back=BAG,
    ),
    Case(
        name="array_of_structs",
        child=arrow(column(pa.list_(POINT), [{"x": 1, "y": "a"}, None])),
        parent=duck(column(pa.list_(POINT), [{"x": 1, "y": "a"}, {"x": None, "y": None}])),
        there=NONE,
        metadata=ANY,
    ),
]

MAPS = [
    Case(
        name="map_with_a_key_twice",
        covers=("S61",),
        child=arrow(column(MAP, [("k", 1), ("k", 2)])),
        parent=arrow(column(MAP, [("k", 2)])),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="map_with_a_key_twice_in_another_order",
        covers=("S61",),
        child=arrow(column(MAP, [("k", 1), ("k", 2)])),
        parent=arrow(column(MAP, [("k", 2), ("k", 1)])),
        back=BAG,
    ),
    Case(
        name="map_order",
        covers=("S61", "T30"),
        child=arrow(column(MAP, [("k", 1), ("j", None)])),
        parent=rust(column(MAP, [("j", None), ("k", 1)])),
        back=BAG,
    ),
    Case(
        name="map_and_array_of_entries",
        child=arrow(column(MAP, [("k", 1)])),
        parent=arrow(
            column(pa.list_(pa.struct([("key", pa.string()), ("value", pa.int64())])), [{"key": "k", "value": 1}])
        ),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="map_empty_and_null",
        covers=("T30",),
        child=arrow(column(MAP, [])),
        parent=rust(column(MAP, None)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="variant",
        covers=("S59",),
        child=delta_sql("""CREATE TABLE {t} USING delta AS SELECT parse_json('{"a":1,"b":2}') AS {c}a"""),
        parent=spark("""SELECT parse_json('{"b":2,"a":1}') AS {c}a"""),
        there=NONE,
        metadata=ANY,
        not_read={"child": "(?i)variant", "parent": "VARIANT"},
    ),
]

CASES = [*NULLS, *STRUCTS, *ARRAYS, *MAPS]
