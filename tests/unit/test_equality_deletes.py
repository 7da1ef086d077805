"""Equality deletes, against a plain implementation of the specification over random tables and deletes."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, DecimalType, IntegerType, LongType, StringType

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.iceberg_metadata import read_metadata
from r2d2.lake.delta_files import list_files
from tests.integration.iceberg_tables import (
    Lake,
    commit,
    delete_file,
    edit_metadata,
    equality_file,
    fault_of,
    fingerprints_of,
    fingerprints_of_rows,
    harvest,
    vector_file,
    with_ids,
)

UTC = dt.UTC
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking real tables takes minutes
COLUMNS = pa.schema(
    [
        ("part", pa.bool_()),
        ("i", pa.int32()),
        ("t", pa.string()),
        ("d", pa.decimal128(9, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("wall", pa.timestamp("us")),
        ("x", pa.binary()),
        ("f", pa.float64()),
    ]
)
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int32": [0, -1, 2**31 - 1],
    "int64": [0, -1, 2**31 - 1, 2**40],
    "string": ["", "a", "A", "a ", "é'\n"],
    "binary": [b"", b"a", b"\xff\0"],
    "date32[day]": [dt.date(1, 1, 1), dt.date(2024, 2, 29)],
    "timestamp[us, tz=UTC]": [dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), dt.datetime(2024, 1, 1, tzinfo=UTC)],
    "timestamp[us]": [dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 1, 1)],
    "double": [0.0, -0.0, 1.5],
}
Key = tuple[int, Any]


@dataclass
class Model:
    """What the specification says that a table holds; rows and deletes are by field id.

    Attributes:
        rows: Sequence number, partition and values of each row ever added.
        deletes: Sequence number, partition (None for all), compared columns and their values of each delete.
    """

    lake: Lake
    table: Table
    rng: random.Random
    rows: list[tuple[int, Key, dict[int, Any]]] = field(default_factory=list)
    deletes: list[tuple[int, Key | None, tuple[int, ...], set[tuple[Any, ...]]]] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        plain = self.table.schema().as_arrow()
        small = {"large_string": pa.string(), "large_binary": pa.binary()}
        return pa.schema([f.with_type(small.get(str(f.type), f.type)) for f in plain])

    @property
    def ids(self) -> list[int]:
        return [column.field_id for column in self.table.schema().fields]

    @property
    def sequence(self) -> int:
        return self.table.metadata.last_sequence_number

    def key(self, part: Any) -> Key:
        return (self.table.spec().spec_id, part if self.table.spec().fields else None)

    def live(self) -> pa.Table:
        """The rows that no delete removes, as the table's columns are now."""
        kept = [row for sequence, key, row in self.rows if not any(self._gone(sequence, key, row))]
        columns = dict(zip(self.schema.names, self.ids, strict=True))
        return pa.Table.from_pylist(
            [{name: row.get(number) for name, number in columns.items()} for row in kept], schema=self.schema
        )

    def _gone(self, sequence: int, key: Key, row: dict[int, Any]) -> Iterator[bool]:
        for later, scope, ids, values in self.deletes:
            reaches = sequence < later and scope in (None, key)
            yield reaches and tuple(row.get(number) for number in ids) in values


def value(dtype: pa.DataType, rng: random.Random) -> Any:
    if rng.random() < 0.25:
        return None
    if pa.types.is_decimal(dtype):
        return Decimal(rng.choice(["0.00", "1.10", "-9999999.99"]))
    return rng.choice(VALUES[str(dtype)])


# ---- operations


def append(model: Model) -> None:
    schema, ids = model.schema, model.ids
    rows = [{f.name: value(f.type, model.rng) for f in schema} for _ in range(model.rng.randrange(1, 12))]
    model.table.append(pa.Table.from_pylist(rows, schema=schema))
    for row in rows:
        values = dict(zip(ids, row.values(), strict=True))
        model.rows.append((model.sequence, model.key(row["part"]), values))


def delete_by_value(model: Model) -> None:
    """Rows equal to some that are there, and to some that are not, in one partition or in all."""
    rng = model.rng
    comparable = [(f, n) for f, n in zip(model.schema, model.ids, strict=True) if f.name != "f"]
    chosen = sorted(rng.sample(comparable, rng.choice([1, 1, 2])), key=lambda one: one[1])
    ids = tuple(number for _, number in chosen)
    there = [tuple(row.get(number) for number in ids) for _, _, row in model.rows]
    values = rng.sample(there, min(len(there), rng.randrange(3))) + [tuple(value(f.type, rng) for f, _ in chosen)]
    schema = with_ids(pa.schema([f for f, _ in chosen]), ids)
    rows = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in values], schema=schema)
    name, path = f"del{len(model.deletes)}", model.lake.folder("t") / "data"
    part = rng.choice([True, False, None])
    is_local = bool(model.table.spec().fields) and rng.random() < 0.6
    made = equality_file(path / f"{name}.parquet", rows, ids, partition=Record(part) if is_local else Record())
    commit(model.lake.folder("t"), [made], spec=model.table.spec() if is_local else PartitionSpec())
    model.table = model.lake.adopt("t")
    model.deletes.append((model.sequence, model.key(part) if is_local else None, ids, set(values)))


def add_column(model: Model) -> None:
    taken = {name.lower() for name in model.schema.names}
    name = next(name for name in ("t", "new", "newer", "d", *(f"c{n}" for n in range(9))) if name not in taken)
    with model.table.update_schema() as update:
        update.add_column(name, model.rng.choice([StringType(), IntegerType(), DateType()]))


def drop_column(model: Model) -> None:
    names = [name for name in model.schema.names if name not in ("part", "i")]
    if names:
        with model.table.update_schema() as update:
            update.delete_column(model.rng.choice(names))


def rename_column(model: Model) -> None:
    names = [name for name in model.schema.names if name != "part"]
    name = model.rng.choice(names)
    with model.table.update_schema() as update:
        update.rename_column(name, f"{name}_")


def widen(model: Model) -> None:
    with model.table.update_schema() as update:
        for column in model.table.schema().fields:
            if str(column.field_type) == "int":
                update.update_column(column.name, LongType())
            elif str(column.field_type) == "decimal(9, 2)":
                update.update_column(column.name, DecimalType(18, 2))


def add_partition(model: Model) -> None:
    if not model.table.spec().fields:
        with model.table.update_spec() as update:
            update.add_identity("part")


OPERATIONS: tuple[Callable[[Model], None], ...] = (
    append,
    append,
    delete_by_value,
    delete_by_value,
    delete_by_value,
    add_column,
    drop_column,
    rename_column,
    widen,
    add_partition,
)


@settings(max_examples=25, deadline=None, phases=UNSHRUNK)
@given(seed=st.integers(0, 2**32), operations=st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=8))
def test_rows_are_deleted_as_the_specification_says(seed: int, operations: list[Callable[[Model], None]]) -> None:
    with tempfile.TemporaryDirectory() as scratch, Lake(Path(scratch)) as lake:
        model = Model(lake, lake.create("t", COLUMNS), random.Random(seed))
        append(model)
        for operation in operations:
            operation(model)
        delete_by_value(model)
        made = harvest(lake.folder("t"))
        assert fingerprints_of(made) == fingerprints_of_rows(model.live(), Path(scratch) / "rows.parquet")
        assert made.rows in (None, model.live().num_rows)
