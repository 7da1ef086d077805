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
    "timestamp[us]": [dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 1, 1)],  # noqa: DTZ001
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
    comparable = [(f, n) for f, n in zip(model.schema, model.ids, strict=True) if not pa.types.is_floating(f.type)]
    chosen = sorted(rng.sample(comparable, rng.choice([1, 1, 2])), key=lambda one: one[1])
    ids = tuple(number for _, number in chosen)
    there = [tuple(row.get(number) for number in ids) for _, _, row in model.rows]
    values = [*rng.sample(there, min(len(there), rng.randrange(3))), tuple(value(f.type, rng) for f, _ in chosen)]
    schema = with_ids(pa.schema([f for f, _ in chosen]), ids)
    rows = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in values], schema=schema)
    name, path = f"del{len(model.deletes)}", model.lake.folder("t") / "data"
    part = rng.choice([True, False, None])
    is_local = bool(model.table.spec().fields) and rng.random() < 0.6
    made = equality_file(path / f"{name}.parquet", rows, ids, partition=Record(part) if is_local else Record())
    sequence = rng.choice([None, rng.randrange(1, model.sequence + 1)])  # a file may be committed late
    spec = model.table.spec() if is_local else PartitionSpec()
    commit(model.lake.folder("t"), [made], spec=spec, sequence=sequence)
    model.table = model.lake.adopt("t")
    scope = model.key(part) if is_local else None
    model.deletes.append((sequence or model.sequence, scope, ids, set(values)))


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


@settings(max_examples=15, deadline=None, phases=UNSHRUNK)
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


# ---- one thing at a time


IDS = pa.schema([("id", pa.int64()), ("name", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path) as made:
        yield made


def small(lake: Lake, rows: int = 4, **options: Any) -> Table:
    table = lake.create("t", IDS, **options)
    table.append(pa.table({"id": list(range(rows)), "name": [None, *"abcdefgh"[: rows - 1]]}, schema=IDS))
    return table


def keys(columns: dict[str, Any], ids: list[int], schema: pa.Schema = IDS) -> pa.Table:
    fields = with_ids(pa.schema([schema.field(name) for name in columns]), ids)
    return pa.table(columns, schema=fields)


def test_vectors_positions_and_values_are_taken_together(lake: Lake, tmp_path: Path) -> None:
    table, data = small(lake, 8), lake.folder("t") / "data"
    (task,) = table.scan().plan_files()
    commit(lake.folder("t"), [delete_file(data / "p.parquet", [(task.file.file_path, 0)])])
    commit(lake.folder("t"), [equality_file(data / "a.parquet", keys({"id": [1, 2]}, [1]), [1])])
    commit(lake.folder("t"), [equality_file(data / "b.parquet", keys({"name": ["b", "c", "zz"]}, [2]), [2])])
    made = harvest(lake.folder("t"))
    assert made.rows is None
    expected = pa.table({"id": [4, 5, 6, 7], "name": list("defg")}, schema=IDS)
    assert fingerprints_of(made) == fingerprints_of_rows(expected, tmp_path / "rows.parquet")
    # A vector rules over the positions, not over the values.
    commit(lake.folder("t"), [vector_file(data / "v.puffin", task.file.file_path, [7])])
    edit_metadata(lake.folder("t"), **{"format-version": 3, "next-row-id": 0})
    expected = pa.table({"id": [0, 4, 5, 6], "name": [None, *"def"]}, schema=IDS)
    assert fingerprints_of(harvest(lake.folder("t"))) == fingerprints_of_rows(expected, tmp_path / "rows.parquet")


def test_claims_about_all_rows_are_silenced_and_equal_deletes_have_one_name(lake: Lake) -> None:
    small(lake)
    assert [(c.leaf, c.nulls) for c in harvest(lake.folder("t")).claims] == [(("id",), 0)]
    path = lake.folder("t") / "data/d.parquet"
    commit(lake.folder("t"), [equality_file(path, keys({"id": [1]}, [1]), [1])])
    made = harvest(lake.folder("t"))
    assert [(c.writer, c.nulls) for c in made.claims] == [("", 0)]
    assert (made.rows, made.fragments[0].rows) == (None, None)
    assert harvest(lake.folder("t")).fragments[0].deletes == made.fragments[0].deletes != ""
    path.write_bytes(path.read_bytes())
    assert fault_of(made) == ("failed", "changed during the audit")


def test_a_column_of_an_imported_hive_layout_is_compared_by_its_partition(lake: Lake, tmp_path: Path) -> None:
    from pyiceberg.manifest import DataFileContent, FileFormat

    schema = pa.schema([("id", pa.int64()), ("day", pa.date32())])
    table = lake.create("t", schema)
    with table.update_spec() as update:
        update.add_identity("day")
    (lake.folder("t") / "data").mkdir()
    path = lake.folder("t") / "data/x.parquet"
    pq.write_table(pa.table({"id": [1, 2]}, schema=with_ids(pa.schema([("id", pa.int64())]), [1])), path)
    fields = {
        "content": DataFileContent.DATA,
        "file_path": f"file://{path}",
        "file_format": FileFormat.PARQUET,
        "record_count": 2,
        "file_size_in_bytes": path.stat().st_size,
    }
    for day in (19_000, 19_001):
        copied = path.with_name(f"{day}.parquet")
        copied.write_bytes(path.read_bytes())
        file = {**fields, "file_path": f"file://{copied}", "partition": Record(day)}
        commit(lake.folder("t"), [file], spec=table.spec(), data=True)
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=n) for n in (19_000, 19_001)]
    gone = keys({"id": [2], "day": [days[0]]}, [1, 2], schema)
    commit(lake.folder("t"), [equality_file(path.with_name("d.parquet"), gone, [1, 2])])
    live = [(1, days[0]), (1, days[1]), (2, days[1])]
    expected = pa.Table.from_pylist([{"id": n, "day": day} for n, day in live], schema=schema)
    assert fingerprints_of(harvest(lake.folder("t"))) == fingerprints_of_rows(expected, tmp_path / "rows.parquet")


def test_a_table_of_files_without_ids_is_compared_by_its_name_mapping(lake: Lake, tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]}, schema=IDS)
    (lake.path / "files").mkdir(parents=True)
    pq.write_table(rows, lake.path / "files/a.parquet")
    table = lake.create("t", IDS)
    table.add_files([f"file://{lake.path}/files/a.parquet"])
    with table.update_schema() as update:
        update.rename_column("id", "number")
    (lake.folder("t") / "data").mkdir()
    path = lake.folder("t") / "data/d.parquet"
    commit(lake.folder("t"), [equality_file(path, keys({"id": [2], "name": ["b"]}, [1, 2]), [1, 2])])
    commit(lake.folder("t"), [equality_file(path.with_name("e.parquet"), keys({"name": [None]}, [2]), [2])])
    expected = rows.slice(0, 1).rename_columns(["number", "name"])
    assert fingerprints_of(harvest(lake.folder("t"))) == fingerprints_of_rows(expected, tmp_path / "rows.parquet")


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (pa.float64(), "column 'x' are not supported, of type double"),
        (pa.struct([("a", pa.int32())]), "column 'x' are not supported, of type struct"),
    ],
)
def test_what_is_not_compared_as_iceberg_does_is_unsupported_by_name(lake: Lake, dtype: pa.DataType, says: str) -> None:
    schema = pa.schema([("x", dtype), ("id", pa.int64())])
    lake.create("t", schema).append(pa.Table.from_pylist([{"x": None, "id": 1}], schema=schema))
    made = equality_file(lake.folder("t") / "data/d.parquet", keys({"id": [1]}, [2], schema), [1])
    commit(lake.folder("t"), [made])
    with pytest.raises(TableUnsupported, match=says):
        harvest(lake.folder("t"))


def test_values_of_a_dropped_partition_column_are_unsupported(lake: Lake) -> None:
    table = small(lake)
    commit(lake.folder("t"), [equality_file(lake.folder("t") / "data/d.parquet", keys({"id": [1]}, [1]), [1])])
    table = lake.adopt("t")
    with table.update_schema() as update:
        update.delete_column("id")
    assert sum(fingerprints_of(harvest(lake.folder("t"))).values()) == 3
    edit_metadata(
        lake.folder("t"),
        **{
            "partition-specs": [
                {"spec-id": 0, "fields": []},
                {"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1000, "name": "id", "transform": "identity"}]},
            ]
        },
    )
    with pytest.raises(TableUnsupported, match="column 'id' are not supported, which was dropped"):
        harvest(lake.folder("t"))


def test_a_removed_partition_field_leaves_deletes_for_all_partitions(lake: Lake) -> None:
    small(lake)
    fields = [{"source-id": 1, "field-id": 1000, "name": "id", "transform": "void"}]
    specs = [{"spec-id": 0, "fields": []}, {"spec-id": 1, "fields": fields}]
    edit_metadata(lake.folder("t"), **{"partition-specs": specs, "last-partition-id": 1000})
    table = lake.adopt("t")
    made = equality_file(lake.folder("t") / "data/d.parquet", keys({"id": [1]}, [1]), [1], partition=Record(None))
    commit(lake.folder("t"), [made], spec=table.specs()[1])
    assert sum(fingerprints_of(harvest(lake.folder("t"))).values()) == 3


@pytest.mark.parametrize(
    ("ids", "columns", "changes", "says"),
    [
        ([1], {"name": ["a"]}, {}, "lacks a column that it compares"),
        ([1], {"id": [1]}, {"equality_ids": None}, "does not say what it compares"),
        ([9], {"id": [1]}, {}, "by fields of structs"),
        ([2], {"id": [1], "name": ["a"]}, {"file_size_in_bytes": 1}, "does not have the size"),
    ],
)
def test_broken_delete_files_fail_their_table(
    lake: Lake, ids: list[int], columns: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    small(lake)
    numbers = [{"id": 1, "name": 2}[name] for name in columns]
    made = equality_file(lake.folder("t") / "data/d.parquet", keys(columns, numbers), ids, **changes)
    commit(lake.folder("t"), [made])
    try:
        status, message = fault_of(harvest(lake.folder("t")))
    except (TableFailed, TableUnsupported) as fault:
        status, message = fault.status, str(fault)
    assert (status in ("failed", "unsupported"), says in message) == (True, True), message


def test_a_type_that_the_table_does_not_have_is_unsupported(lake: Lake) -> None:
    small(lake)
    rows = pa.table({"id": ["1"]}, schema=with_ids(pa.schema([("id", pa.string())]), [1]))
    commit(lake.folder("t"), [equality_file(lake.folder("t") / "data/d.parquet", rows, [1])])
    assert fault_of(harvest(lake.folder("t"))) == ("unsupported", "a data file stores string where the table has int64")
