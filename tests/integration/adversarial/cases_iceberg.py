"""Iceberg tables: bounds in manifests that are cut off, raised, left out or of deleted rows; evolved columns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import DoubleType, LongType, StringType

from tests.integration import iceberg_tables
from tests.integration.adversarial.case import ANY, BAG, NONE, REFUTE, Case
from tests.integration.adversarial.writers import Made, Place, arrow, column, doubles, longs, texts

LONG = "z" * 5000
LAST = "\U0010ffff"

Change = Callable[[Any, str], None]
"""Changes a table of pyiceberg, given the prefix of its columns."""


def iceberg(first: pa.Table, *changes: Change, **properties: str) -> Made:
    """By pyiceberg: a table, and changes to it; in names of properties `__` stands for a point, `_` for a hyphen."""

    def write(place: Place) -> None:
        named = place.named(first)
        place.folder.mkdir(parents=True)
        options = {name.replace("__", ".").replace("_", "-"): value for name, value in properties.items()}
        with tempfile.TemporaryDirectory() as scratch:
            catalog = SqlCatalog("c", uri=f"sqlite:///{scratch}/catalog.db", warehouse=f"file://{scratch}")
            catalog.create_namespace("n")
            table = catalog.create_table(
                "n.t", schema=named.schema, location=f"file://{place.folder}", properties=options
            )
            if named.num_rows:
                table.append(named)
            for change in changes:
                change(table, place.prefix)
            catalog.close()

    return Made((write,))


def append(more: pa.Table) -> Change:
    """Appends rows in a file of their own."""

    def change(table: Any, prefix: str) -> None:
        table.append(more.rename_columns([prefix + name for name in more.column_names]))

    return change


def widen(name: str, wider: Any) -> Change:
    """Changes the type of a column."""

    def change(table: Any, prefix: str) -> None:
        with table.update_schema() as update:
            update.update_column(prefix + name, field_type=wider)

    return change


def add_column(name: str, dtype: Any) -> Change:
    """Adds a column that the files so far lack."""

    def change(table: Any, prefix: str) -> None:
        with table.update_schema() as update:
            update.add_column(prefix + name, dtype)

    return change


def rename_and_add_again(table: Any, prefix: str) -> None:
    """Renames a column, and adds another of its old name."""
    with table.update_schema() as update:
        update.rename_column(prefix + "a", prefix + "b")
    with table.update_schema() as update:
        update.add_column(prefix + "a", LongType())


def add_file_of_two_row_groups(table: Any, prefix: str) -> None:
    """Takes in a Parquet file of which one row group has no bounds."""
    path = Path(table.location().removeprefix("file://")) / "data" / "added.parquet"
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, pa.schema([(prefix + "a", pa.string())])) as writer:
        for value in (LONG, "a"):
            writer.write_table(pa.table({prefix + "a": [value]}))
    table.add_files([f"file://{path}"])


def delete_rows(*positions: int) -> Callable[[Place], None]:
    """Deletes rows of the table's only data file by a file of positions."""

    def change(place: Place) -> None:
        (data,) = place.folder.glob("data/*.parquet")
        rows = [(f"file://{data}", position) for position in positions]
        deletes = iceberg_tables.delete_file(place.folder / "deletes" / "positions.parquet", rows)
        iceberg_tables.commit(place.folder, [deletes])

    return change


BOUNDS = [
    Case(
        name="iceberg_bounds_of_16_characters",
        covers=("T7",),
        child=iceberg(texts("abcdefghijklmnopqrstuvwxyz")),
        parent=arrow(texts("abcdefghijklmnopqrstuvwxyz", "b")),
    ),
    Case(
        name="iceberg_bounds_of_the_parent",
        covers=("T7",),
        child=arrow(texts("abcdefghijklmnopqrstuvwxyz")),
        parent=iceberg(texts("abcdefghijklmnopqrstuvwxyz")),
        back=BAG,
    ),
    Case(
        name="iceberg_upper_bound_raised_within",
        covers=("T6",),
        child=iceberg(texts("a" + LAST * 20)),
        parent=arrow(texts("a" + LAST * 20)),
        back=BAG,
    ),
    Case(
        name="iceberg_without_upper_bound",
        covers=("T6", "T7"),
        child=arrow(texts(LAST * 20)),
        parent=iceberg(texts(LAST * 20, "a")),
    ),
    Case(
        name="iceberg_bounds_left_out",
        covers=("T7",),
        child=arrow(longs(5, None)),
        parent=iceberg(longs(5, None, 6), write__metadata__metrics__default="none"),
    ),
    Case(
        name="iceberg_counts_only",
        covers=("T7",),
        child=iceberg(longs(5, None), write__metadata__metrics__default="counts"),
        parent=iceberg(longs(5, None, 6), write__metadata__metrics__default="counts"),
    ),
    Case(
        name="iceberg_added_file_with_a_huge_text",
        covers=("S25", "T10"),
        child=arrow(texts(LONG)),
        parent=iceberg(texts(), add_file_of_two_row_groups),
    ),
    Case(
        name="iceberg_nan",
        covers=("T12",),
        child=iceberg(doubles(float("nan"), -0.0)),
        parent=iceberg(doubles(0.0, float("nan"), 1.0)),
    ),
    Case(
        name="iceberg_numbers_of_disjoint_ranges",
        child=iceberg(longs(1, 2)),
        parent=iceberg(longs(3, 4)),
        there=NONE,
        metadata=REFUTE,
    ),
]

DELETES = [
    Case(
        name="iceberg_deleted_rows_of_the_child",
        covers=("T33", "S111"),
        child=iceberg(longs(0, 1, 2, None)).then(delete_rows(0, 3)),
        parent=arrow(longs(1, 2)),
        back=BAG,
    ),
    Case(
        name="iceberg_deleted_rows_of_the_parent",
        covers=("T33", "S111"),
        child=arrow(longs(0)),
        parent=iceberg(longs(0, 1, 2, None)).then(delete_rows(0, 3)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="iceberg_rows_all_deleted",
        covers=("T33",),
        child=arrow(longs(1)),
        parent=iceberg(longs(0, 1)).then(delete_rows(0, 1)),
        there=NONE,
        back=BAG,
        metadata=ANY,
    ),
]

COLUMNS = [
    Case(
        name="iceberg_float_widened",
        covers=("T38",),
        child=arrow(doubles(float(np.float32(3.4)))),
        parent=iceberg(column(pa.float32(), 3.4), widen("a", DoubleType()), append(doubles(0.1))),
    ),
    Case(
        name="iceberg_int_widened",
        covers=("T38",),
        child=iceberg(column(pa.int32(), 7), widen("a", LongType()), append(longs(2**40))),
        parent=arrow(longs(2**40, 7)),
        back=BAG,
    ),
    Case(
        name="iceberg_column_that_files_lack",
        covers=("T37", "S37"),
        child=arrow(pa.table({"a": [1], "b": pa.array([None], pa.string())})),
        parent=iceberg(longs(1), add_column("b", StringType()), append(pa.table({"a": [2], "b": ["x"]}))),
    ),
    Case(
        name="iceberg_column_of_an_old_name",
        covers=("T36", "S41"),
        child=iceberg(longs(100), rename_and_add_again, append(pa.table({"b": [2], "a": [3]}))),
        parent=arrow(pa.table({"a": pa.array([None, 3], pa.int64()), "b": [100, 2]})),
        back=BAG,
    ),
]

CASES = [*BOUNDS, *DELETES, *COLUMNS]
