"""Harvest and scan of Iceberg tables by pyiceberg and by hand, with pyiceberg's own reading as the oracle."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import DateType, DecimalType, DoubleType, IntegerType, LongType, StringType

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.discovery import discover
from r2d2.lake.iceberg.manifests import files_named_in_manifests
from r2d2.lake.iceberg.stats import decode_bound
from r2d2.lake.iceberg.table import is_current
from r2d2.model import Harvest, encode_bound, leaves
from r2d2.scan.deletes import decode_vector
from r2d2.scan.field_ids import field_id
from tests.integration.iceberg_tables import (
    Lake,
    commit,
    delete_file,
    edit_metadata,
    fault_of,
    fingerprints_of,
    fingerprints_of_rows,
    found,
    harvest,
    newest_metadata,
    read_by_pyiceberg,
    vector_file,
)

UTC = dt.UTC
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking real tables takes minutes
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
PLAIN = pa.schema([("id", pa.int64()), ("name", pa.string())])
EVERY_TYPE = pa.schema(
    [
        ("i", pa.int32()),
        ("l", pa.int64()),
        ("f", pa.float32()),
        ("g", pa.float64()),
        ("d", pa.decimal128(9, 2)),
        ("b", pa.bool_()),
        ("t", pa.string()),
        ("x", pa.binary()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("wall", pa.timestamp("us")),
        ("s", pa.struct([("a", pa.int32()), ("z", pa.struct([("deep", pa.string())]))])),
        ("ls", pa.list_(pa.struct([("x", pa.int32()), ("y", pa.string())]))),
        ("m", pa.map_(pa.string(), pa.int64())),
    ]
)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path) as made:
        yield made


def value(dtype: pa.DataType, rng: random.Random) -> Any:
    """A value of a type, drawn from few, edges among them."""
    if rng.random() < 0.2:
        return None
    t = pa.types
    if t.is_struct(dtype):
        return {field.name: value(field.type, rng) for field in dtype}
    if t.is_list(dtype) or t.is_large_list(dtype):
        return [value(dtype.value_type, rng) for _ in range(rng.randrange(3))]
    if t.is_map(dtype):
        return [(key, value(dtype.item_type, rng)) for key in rng.sample("abc", rng.randrange(3))]
    if t.is_integer(dtype):
        return rng.choice([0, 1, -1, 7, 2**31 - 1, -(2**31), *([2**53 + 1] if t.is_int64(dtype) else [])])
    if t.is_floating(dtype):
        return rng.choice([0.0, -0.0, 1.5, float("nan"), float("inf"), 0.1])
    if t.is_decimal(dtype):
        return Decimal(rng.choice(["0.00", "1.10", "-9999999.99"]))
    if t.is_boolean(dtype):
        return rng.random() < 0.5
    if t.is_date(dtype):
        return rng.choice([dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29)])
    if t.is_timestamp(dtype):
        at = EPOCH + dt.timedelta(microseconds=rng.choice([-1, 1_704_067_200_000_001]))
        return at if dtype.tz else at.replace(tzinfo=None)
    text = rng.choice(["", "a", "é", "z" * 40, "\U0010ffff" * 20])
    return text.encode() if t.is_binary(dtype) or t.is_large_binary(dtype) else text


def append(table: Table, rng: random.Random) -> None:
    schema = table.schema().as_arrow()
    rows = [{field.name: value(field.type, rng) for field in schema} for _ in range(rng.randrange(1, 5))]
    table.append(pa.Table.from_pylist(rows, schema=schema))


# ---- operations of the property test: each changes a table if it can


def add_column(table: Table, rng: random.Random) -> None:
    name = rng.choice(["l", "t", "new", "NEW"])
    taken = {column.lower() for column in table.schema().as_arrow().names}
    if name.lower() not in taken:
        with table.update_schema() as update:
            update.add_column(name, rng.choice([StringType(), IntegerType(), DateType()]))


def drop_column(table: Table, rng: random.Random) -> None:
    names = table.schema().as_arrow().names
    if len(names) > 2:
        with table.update_schema() as update:
            update.delete_column(rng.choice([name for name in names if name != "i"]))


def rename_column(table: Table, rng: random.Random) -> None:
    names = [name for name in table.schema().as_arrow().names if name != "i"]
    new = rng.choice(["l", "renamed", "t", "a.b"])
    if new not in names:
        with table.update_schema() as update:
            update.rename_column(rng.choice([name for name in names if "." not in name] or ["i"]), new)


def evolve_struct(table: Table, rng: random.Random) -> None:
    if "s" in table.schema().as_arrow().names:
        with table.update_schema() as update:
            kids = [field.name for field in table.schema().find_field("s").field_type.fields]  # type: ignore[union-attr]
            if "a" in kids and "renamed" not in kids:
                update.rename_column("s.a", "renamed")
            elif "a" not in kids:
                update.add_column(("s", "a"), StringType())


def widen(table: Table, rng: random.Random) -> None:
    with table.update_schema() as update:
        for field in table.schema().fields:
            if field.name in ("i", "f", "d"):
                wide = {"i": LongType(), "f": DoubleType(), "d": DecimalType(18, 2)}[field.name]
                if str(field.field_type) in ("int", "float", "decimal(9, 2)"):
                    update.update_column(field.name, wide)


def delete_rows(table: Table, rng: random.Random) -> None:
    table.delete(rng.choice(["i > 0", "i IS NULL", "i = 7"]))


def overwrite(table: Table, rng: random.Random) -> None:
    table.overwrite(table.scan().to_arrow().slice(0, 3))


def add_partition(table: Table, rng: random.Random) -> None:
    with table.update_spec() as update:
        if not table.spec().fields:
            update.add_identity("i")


def drop_partition(table: Table, rng: random.Random) -> None:
    if table.spec().fields:
        with table.update_spec() as update:
            update.remove_field(table.spec().fields[0].name)


OPERATIONS: tuple[Callable[[Table, random.Random], None], ...] = (
    append,
    append,
    add_column,
    drop_column,
    rename_column,
    evolve_struct,
    widen,
    delete_rows,
    overwrite,
    add_partition,
    drop_partition,
)


@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")
@settings(max_examples=15, deadline=None, phases=UNSHRUNK)
@given(seed=st.integers(0, 2**32), operations=st.lists(st.sampled_from(OPERATIONS), max_size=6))
def test_whatever_was_done_to_a_table_the_kernel_reads_what_pyiceberg_reads(
    seed: int, operations: list[Callable[[Table, random.Random], None]]
) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch, Lake(Path(scratch)) as lake:
        table = lake.create("t", EVERY_TYPE)
        append(table, rng)
        for operation in operations:
            operation(table, rng)
        append(table, rng)
        made = harvest(lake.folder("t"))
        rows = read_by_pyiceberg(lake.folder("t"))
        assert made.version == str(table.metadata.current_snapshot_id)
        assert made.rows == rows.num_rows
        assert made.schema.names == rows.schema.names
        assert fingerprints_of(made) == fingerprints_of_rows(rows, Path(scratch) / "rows.parquet")
        assert_claims_hold(made)
        edit_metadata(lake.folder("t"), snapshots=signed_by_java(lake.folder("t")))
        assert_claims_hold(harvest(lake.folder("t")))


def signed_by_java(folder: Path) -> list[dict[str, Any]]:
    """The snapshots of a table, as if Iceberg's own library had committed them."""
    snapshots = json.loads(newest_metadata(folder).read_text())["snapshots"]
    return [
        {**s, "summary": {**s["summary"], "iceberg-version": "Apache Iceberg 1.10.0 (commit 0)"}} for s in snapshots
    ]


def assert_claims_hold(made: Harvest) -> None:
    """Every claim about a top-level column, against the values in its file; strings compare as bytes."""
    ids = {(column.name,): field_id(column) for column in made.schema}
    for claim in made.claims:
        if claim.leaf not in ids:
            continue
        file = pq.ParquetFile(made.fragments[claim.fragment].data_uri)
        tags = [(f.metadata or {}).get(b"PARQUET:field_id", f.name.encode()) for f in file.schema_arrow]
        stored = [n for n, tag in enumerate(tags) if tag in (b"%d" % ids[claim.leaf], claim.leaf[0].encode())]
        assert stored, "a claim about a column that the file lacks"
        values = [comparable(v) for v in file.read().column(stored[0]).to_pylist()]
        present = [v for v in values if v is not None and v == v]
        assert claim.nulls in (None, values.count(None))
        assert claim.nans in (None, sum(v != v for v in values))
        for low in present if claim.low is not None else ():
            assert bound(claim.low, low) <= low
        for high in present if claim.high is not None else ():
            assert bound(claim.high, high) >= high


def comparable(found_value: Any) -> Any:
    if isinstance(found_value, dt.datetime):
        at = found_value if found_value.tzinfo else found_value.replace(tzinfo=UTC)
        return (at - EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(found_value, dt.date):
        return (found_value - EPOCH.date()).days * 86_400_000_000
    if isinstance(found_value, bool):
        return int(found_value)
    return found_value.encode() if isinstance(found_value, str) else found_value


def bound(encoded: bytes, like: Any) -> Any:
    return encoded if isinstance(like, bytes) else type(like)(encoded.decode())


# ---- what stands in the harvest


def small(lake: Lake, name: str = "t", **options: Any) -> Table:
    table = lake.create(name, PLAIN, **options)
    table.append(pa.table({"id": [1, 2, 3], "name": ["a", "b", None]}, schema=PLAIN))
    return table


def test_partitioned_tables_are_read_from_their_files(lake: Lake, tmp_path: Path) -> None:
    schema = pa.schema([("k", pa.string()), ("day", pa.timestamp("us", tz="UTC")), ("n", pa.int64())])
    table = lake.create("t", schema)
    with table.update_spec() as update:
        update.add_identity("k")
        update.add_field("day", DayTransform())
        update.add_field("n", BucketTransform(3))
    at = dt.datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        {"k": k, "day": at + dt.timedelta(hours=7 * n), "n": n} for n, k in enumerate(["a b", "", None, "é/%20", "a b"])
    ]
    table.append(pa.Table.from_pylist(rows, schema=schema))
    made = harvest(lake.folder("t"))
    assert made.rows == 5
    assert fingerprints_of(made) == fingerprints_of_rows(table.scan().to_arrow(), tmp_path / "rows.parquet")


def test_format_version_1_is_read(lake: Lake, tmp_path: Path) -> None:
    table = small(lake, properties={"format-version": "1"})
    table.overwrite(pa.table({"id": [7], "name": ["x"]}, schema=PLAIN), overwrite_filter="id = 2")
    raw = json.loads(newest_metadata(lake.folder("t")).read_text())
    assert raw["format-version"] == 1
    made = harvest(lake.folder("t"))
    assert made.rows == 3
    assert fingerprints_of(made) == fingerprints_of_rows(table.scan().to_arrow(), tmp_path / "rows.parquet")
    oldest = {name: value for name, value in raw.items() if name not in ("schemas", "partition-specs")}
    edit_metadata(lake.folder("t"), **oldest)
    newest = newest_metadata(lake.folder("t"))
    newest.write_text(json.dumps(oldest))  # as before there were several schemas and specs
    assert harvest(lake.folder("t")).schema.equals(made.schema, check_metadata=True)


def test_a_table_without_a_snapshot_is_empty(lake: Lake) -> None:
    lake.create("t", PLAIN)
    made = harvest(lake.folder("t"))
    assert (made.version, made.rows, made.fragments, made.table_bytes) == ("", 0, (), 0)
    assert made.schema.names == ["id", "name"]


def test_bytes_are_those_of_the_snapshot_and_older_files_are_history(lake: Lake) -> None:
    table = small(lake)
    (old,) = lake.folder("t").glob("data/*.parquet")
    table.overwrite(pa.table({"id": [9], "name": ["z"]}, schema=PLAIN))
    (new,) = set(lake.folder("t").glob("data/*.parquet")) - {old}
    made = harvest(lake.folder("t"))
    assert (made.table_bytes, made.history_bytes) == (new.stat().st_size, old.stat().st_size)
    assert [f.data_uri for f in made.fragments] == [str(new)]
    assert made.no_parent_reason is not None


def test_files_of_all_snapshots_are_named_whatever_is_wrong_with_the_table(lake: Lake) -> None:
    table = small(lake)
    table.overwrite(pa.table({"id": [9], "name": ["z"]}, schema=PLAIN))
    written = {str(path) for path in lake.folder("t").rglob("*") if path.suffix in (".parquet", ".avro")}
    named = partial(files_named_in_manifests, str(lake.folder("t")))
    assert named(of_all_versions=True) == named(of_all_versions=False) == written
    (lake.folder("t") / "metadata/00099-broken.metadata.json").write_text("{")
    assert named(of_all_versions=True) == written
    shutil.rmtree(lake.folder("t") / "metadata")
    assert named(of_all_versions=True) == named(of_all_versions=False) == set()


def test_a_commit_or_a_new_schema_makes_a_harvest_outdated(lake: Lake) -> None:
    table = small(lake)
    made = harvest(lake.folder("t"))
    assert is_current(found(lake.folder("t")), made)
    with table.update_schema() as update:
        update.rename_column("name", "title")
    assert not is_current(found(lake.folder("t")), made)
    made = harvest(lake.folder("t"))
    table.append(pa.table({"id": [1], "title": ["x"]}))
    assert not is_current(found(lake.folder("t")), made)
    assert is_current(found(lake.folder("t")), harvest(lake.folder("t")))
    shutil.rmtree(lake.folder("t") / "metadata")
    assert not is_current(found(lake.folder("t")), made)


# ---- imported files


def imported(lake: Lake, rows: pa.Table, path: Path) -> Table:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)
    table = lake.create("t", rows.schema)
    table.add_files([f"file://{path}"])
    return table


def test_imported_files_are_found_by_name_also_after_a_rename(lake: Lake, tmp_path: Path) -> None:
    rows = pa.table({"id": [1, None], "s": pa.array([{"a": 1}, None]), "l": pa.array([[{"x": 1}], []])})
    table = imported(lake, rows, lake.path / "files/a.parquet")
    with table.update_schema() as update:
        update.rename_column("id", "number")
        update.rename_column("s.a", "b")
    made = harvest(lake.folder("t"))
    expected = fingerprints_of_rows(read_by_pyiceberg(lake.folder("t")), tmp_path / "rows.parquet")
    assert made.fragments[0].data_uri == str(lake.path / "files/a.parquet")
    assert fingerprints_of(made) == expected
    edit_metadata(lake.folder("t"), properties={})
    assert fault_of(harvest(lake.folder("t"))) == (
        "unsupported",
        "a data file has no field ids, and the table has no names for it",
    )


def test_a_column_of_an_imported_hive_layout_comes_from_the_partition(lake: Lake, tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("k", pa.string())])
    table = lake.create("t", schema)
    with table.update_spec() as update:
        update.add_identity("day")
        update.add_identity("k")
    # pyiceberg refuses to import such files, so the manifest is written by hand.
    rows = pa.table({"id": [1, 2]}).cast(pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})]))
    pq.write_table(rows, lake.path / "x.parquet")
    from pyiceberg.manifest import DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    fields = {
        "content": DataFileContent.DATA,
        "file_path": f"file://{lake.path}/x.parquet",
        "file_format": FileFormat.PARQUET,
        "record_count": 2,
        "file_size_in_bytes": (lake.path / "x.parquet").stat().st_size,
    }
    commit(lake.folder("t"), [{**fields, "partition": Record(19_000, "a'b")}], spec=table.spec(), data=True)
    day = dt.date(1970, 1, 1) + dt.timedelta(days=19_000)
    expected = pa.Table.from_pylist([{"id": n, "day": day, "k": "a'b"} for n in (1, 2)], schema=schema)
    assert fingerprints_of(harvest(lake.folder("t"))) == fingerprints_of_rows(expected, tmp_path / "rows.parquet")


def test_strings_of_imports_claim_nothing(lake: Lake) -> None:
    """The first row group has no statistics, since its value is long; pyiceberg records the bounds of the second."""
    path = lake.path / "files/a.parquet"
    path.parent.mkdir(parents=True)
    rows = pa.table({"t": ["z" * 5000, "a"], "n": [1, None]})
    with pq.ParquetWriter(path, rows.schema) as writer:
        for n in range(2):
            writer.write_table(rows.slice(n, 1))
    table = lake.create("t", rows.schema)
    table.add_files([f"file://{path}"])
    made = harvest(lake.folder("t"))
    assert {claim.leaf for claim in made.claims} == {("n",)}
    assert_claims_hold(made)


# ---- deletes


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(
    files=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    deletes=st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 29)), max_size=20), max_size=3),
    late=st.booleans(),
)
def test_position_deletes_take_away_the_rows_they_name_and_no_others(
    files: list[int], deletes: list[list[tuple[int, int]]], late: bool
) -> None:
    with tempfile.TemporaryDirectory() as scratch, Lake(Path(scratch)) as lake:
        table = lake.create("t", PLAIN)
        for number, count in enumerate(files):
            ids = [100 * number + n for n in range(count)]
            table.append(pa.table({"id": ids, "name": [f"n{n % 3}" for n in ids]}, schema=PLAIN))
        paths = [path for _, path in sorted((ids_of(path)[0], path) for path in data_paths(table))]
        live = {(f, n) for f, count in enumerate(files) for n in range(count)}
        for number, wanted in enumerate(deletes):
            named = [(f % len(files), n % files[f % len(files)]) for f, n in wanted]
            rows = sorted((paths[f], n) for f, n in named)
            made = delete_file(lake.folder("t") / f"data/del{number}.parquet", rows)
            commit(lake.folder("t"), [made], sequence=1 if late else None)
            live -= {(f, n) for f, n in named if f == 0 or not late}  # older deletes leave newer files alone
        ids = [100 * f + n for f, n in sorted(live)]
        expected = pa.table({"id": ids, "name": [f"n{n % 3}" for n in ids]}, schema=PLAIN)
        assert fingerprints_of(harvest(lake.folder("t"))) == fingerprints_of_rows(expected, Path(scratch) / "r.parquet")


def data_paths(table: Table) -> list[str]:
    return [task.file.file_path for task in table.scan().plan_files()]


def ids_of(location: str) -> list[int]:
    return list(pq.read_table(location.removeprefix("file://"), columns=["id"]).column("id").to_pylist())


def test_deletes_make_rows_unknown_and_silence_what_is_said_about_all_rows(lake: Lake) -> None:
    table = small(lake)
    (task,) = table.scan().plan_files()
    assert [(c.leaf, c.nulls) for c in harvest(lake.folder("t")).claims] == [(("id",), 0)]
    before = harvest(lake.folder("t")).table_bytes
    commit(lake.folder("t"), [delete_file(lake.folder("t") / "data/d.parquet", [(task.file.file_path, 2)] * 2)])
    made = harvest(lake.folder("t"))
    assert made.rows is None
    assert made.fragments[0].deletes != ""
    assert made.table_bytes == before + (lake.folder("t") / "data/d.parquet").stat().st_size
    assert sum(fingerprints_of(made).values()) == 2
    assert harvest(lake.folder("t")).fragments[0].deletes == made.fragments[0].deletes
    edit_metadata(lake.folder("t"), snapshots=signed_by_java(lake.folder("t")))
    claims = harvest(lake.folder("t")).claims
    assert {(claim.leaf, claim.writer, claim.nulls, claim.nans) for claim in claims} == {
        (("id",), "", 0, None),
        (("name",), "", None, None),
    }


def test_deletes_of_other_files_and_partitions_do_not_touch_a_file(lake: Lake) -> None:
    table = lake.create("t", PLAIN)
    with table.update_spec() as update:
        update.add_identity("name")
    table.append(pa.table({"id": [1, 2], "name": ["a", "b"]}, schema=PLAIN))
    paths = {task.file.partition[0]: task.file.file_path for task in table.scan().plan_files()}
    # Written for partition a, so that what it says of b's file does not count.
    from pyiceberg.typedef import Record

    wrong = delete_file(lake.folder("t") / "data/d.parquet", [(paths["b"], 0)], partition=Record("a"))
    commit(lake.folder("t"), [wrong], spec=table.spec())
    assert sum(fingerprints_of(harvest(lake.folder("t"))).values()) == 2
    named = delete_file(
        lake.folder("t") / "data/e.parquet", [(paths["b"], 0)], partition=Record("a"), referenced_data_file=paths["b"]
    )
    commit(lake.folder("t"), [named], spec=table.spec())
    with pytest.raises(TableFailed, match="of another partition"):
        harvest(lake.folder("t"))


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(positions=st.sets(st.integers(0, 49)), beyond=st.booleans())
def test_deletion_vectors_take_away_the_rows_they_name(positions: set[int], beyond: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch, Lake(Path(scratch)) as lake:
        table = lake.create("t", PLAIN)
        rows = pa.table({"id": list(range(50)), "name": ["x"] * 50}, schema=PLAIN)
        table.append(rows)
        (task,) = table.scan().plan_files()
        # A vector rules over older files of positions.
        commit(lake.folder("t"), [delete_file(lake.folder("t") / "data/d.parquet", [(task.file.file_path, 49)])])
        deleted = positions | ({50} if beyond else set())
        commit(lake.folder("t"), [vector_file(lake.folder("t") / "data/v.puffin", task.file.file_path, deleted)])
        edit_metadata(lake.folder("t"), **{"format-version": 3, "next-row-id": 0})
        if beyond and len(deleted) <= 50:
            assert fault_of(harvest(lake.folder("t")))[1] == "a delete file names rows that its data file does not have"
            return
        if beyond:
            with pytest.raises(TableFailed, match="more rows than its data file has"):
                harvest(lake.folder("t"))
            return
        made = harvest(lake.folder("t"))
        assert made.rows == 50 - len(positions)
        live = rows.take([n for n in range(50) if n not in positions])
        assert fingerprints_of(made) == fingerprints_of_rows(live, Path(scratch) / "r.parquet")


def test_a_vector_that_was_damaged_fails_its_table(lake: Lake) -> None:
    table = small(lake)
    (task,) = table.scan().plan_files()
    puffin = lake.folder("t") / "data/v.puffin"
    commit(lake.folder("t"), [vector_file(puffin, task.file.file_path, [1])])
    made = harvest(lake.folder("t"))
    assert sum(fingerprints_of(made).values()) == 2
    data = bytearray(puffin.read_bytes())
    data[30] ^= 1
    puffin.write_bytes(data)
    assert fault_of(made) == ("failed", "changed during the audit")
    assert fault_of(harvest(lake.folder("t"))) == ("failed", "a deletion vector is damaged")


@pytest.mark.parametrize("blob", [b"", b"\0" * 8, b"\0" * 40, b"\0\0\0\x04\xd1\xd3\x39\x64\0\0\0\0"])
def test_what_is_no_deletion_vector_is_damaged(blob: bytes) -> None:
    with pytest.raises(TableFailed, match="a deletion vector is damaged"):
        decode_vector(blob)


# ---- what is not read, and what is broken


def test_what_cannot_be_read_is_unsupported_by_name(lake: Lake) -> None:
    from pyiceberg.manifest import FileFormat

    for number, file_format in enumerate((FileFormat.ORC, FileFormat.AVRO)):
        name = f"u{number}"
        folder = small(lake, name) and lake.folder(name)
        commit(folder, [delete_file(folder / "data/d.parquet", [], file_format=file_format)])
        with pytest.raises(TableUnsupported, match=f"delete files of format {file_format.value}"):
            harvest(folder)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("uuid", "type uuid"),
        ("time", "type time"),
        ("variant", "type variant"),
        ("timestamptz_ns", "type timestamptz_ns"),
        ("geometry(srid:1)", "type geometry"),
        ({"type": "list", "element-id": 9, "element": "unknown", "element-required": False}, "type unknown"),
    ],
)
def test_types_outside_the_contract_are_unsupported_by_name(lake: Lake, dtype: Any, says: str) -> None:
    small(lake)
    field = {"id": 1, "name": "x", "required": False, "type": dtype}
    edit_metadata(lake.folder("t"), schemas=[{"schema-id": 0, "type": "struct", "fields": [field]}])
    with pytest.raises(TableUnsupported, match=says):
        harvest(lake.folder("t"))


def test_a_default_value_for_older_files_is_unsupported(lake: Lake) -> None:
    small(lake)
    fields = [{"id": 7, "name": "x", "required": False, "type": "long", "initial-default": 5}]
    edit_metadata(lake.folder("t"), schemas=[{"schema-id": 0, "type": "struct", "fields": fields}])
    with pytest.raises(TableUnsupported, match="column 'x' has a default value"):
        harvest(lake.folder("t"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format-version": 4}, "format version 4"),
        ({"encryption-keys": [{}]}, "encrypted"),
        ({"properties": {"write.metadata.path": "file:///elsewhere"}}, "metadata in another folder"),
        ({"current-snapshot-id": 5}, "broken"),
        ({"current-schema-id": 5}, "broken"),
        ({"schemas": 5}, "broken"),
        ({"snapshots": None}, "broken"),
        ({"partition-specs": [{"spec-id": 9, "fields": []}]}, "partition spec that the table lacks"),
        ({"properties": {"schema.name-mapping.default": "[{}]"}}, "schema in the Iceberg metadata is broken"),
    ],
)
def test_metadata_that_means_something_else_is_refused(lake: Lake, changes: dict[str, Any], says: str) -> None:
    small(lake)
    edit_metadata(lake.folder("t"), **changes)
    with pytest.raises(TableFault, match=says):
        harvest(lake.folder("t"))


def test_changed_structs_within_lists_are_unsupported(lake: Lake) -> None:
    rows = pa.table({"l": pa.array([[{"x": 1}]])})
    table = lake.create("t", rows.schema)
    table.append(rows)
    with table.update_schema() as update:
        update.add_column(("l", "y"), StringType())
    assert fault_of(harvest(lake.folder("t"))) == ("unsupported", "structs inside its arrays or maps have changed")


def files_of(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern))


@pytest.mark.parametrize("pattern", ["metadata/snap-*.avro", "metadata/*-m0.avro", "data/*.parquet"])
@pytest.mark.parametrize("cut", [None, 0, 0.5])
def test_a_missing_or_cut_file_fails_the_table(lake: Lake, pattern: str, cut: float | None) -> None:
    small(lake)
    path = files_of(lake.folder("t"), pattern)
    data = path.read_bytes()
    path.unlink()
    if cut is not None:
        path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(TableFailed, match=r"missing|cannot be read|does not have the size"):
        harvest(lake.folder("t"))


def test_a_file_that_is_a_link_fails_the_table(lake: Lake) -> None:
    small(lake)
    path = files_of(lake.folder("t"), "data/*.parquet")
    path.rename(lake.path / "moved.parquet")
    path.symlink_to(lake.path / "moved.parquet")
    with pytest.raises(TableFailed, match="not a plain file"):
        harvest(lake.folder("t"))


# ---- which metadata file is the current one


def as_hadoop(folder: Path, versions: list[int], suffix: str = ".metadata.json") -> None:
    """The same history as writers without a catalog keep it."""
    for number, path in enumerate(sorted((folder / "metadata").glob("*.metadata.json"))):
        data = path.read_bytes()
        path.unlink()
        if number in versions:
            packed = gzip.compress(data) if "gz" in suffix else data
            (folder / "metadata" / f"v{number}{suffix}").write_bytes(packed)


@pytest.mark.parametrize("suffix", [".metadata.json", ".gz.metadata.json", ".metadata.json.gz"])
@pytest.mark.parametrize(
    ("versions", "hint", "rows"),
    [
        ([0, 1, 2], None, 4),
        ([0, 1, 2], "2", 4),
        ([0, 1, 2], "1\n", 4),
        ([0, 1, 2], "nonsense", 4),
        ([0, 1], "1", 3),
        ([0, 2], "0", "another version"),
        ([0, 1], "2", "another version"),
    ],
)
def test_the_newest_version_counts_and_the_hint_must_lead_there(
    lake: Lake, suffix: str, versions: list[int], hint: str | None, rows: int | str
) -> None:
    small(lake).append(pa.table({"id": [4], "name": ["d"]}, schema=PLAIN))
    as_hadoop(lake.folder("t"), versions, suffix)
    if hint is not None:
        (lake.folder("t") / "metadata/version-hint.text").write_text(hint)
    (listed,) = [table for table in discover(str(lake.path)).tables if table.format.value == "iceberg"]
    assert (listed.id, listed.fault) == ("t", None)
    if isinstance(rows, int):
        assert harvest(lake.folder("t")).rows == rows
    else:
        with pytest.raises(TableFailed, match=rows):
            harvest(lake.folder("t"))


def test_two_files_of_one_version_are_not_chosen_from(lake: Lake) -> None:
    small(lake)
    path = newest_metadata(lake.folder("t"))
    shutil.copy(path, path.with_name(path.name.replace("-", "-x")))
    with pytest.raises(TableFailed, match="two metadata files"):
        harvest(lake.folder("t"))


@pytest.mark.parametrize("name", ["a b%20c", "é'", "x[1]*", "k=v", "$(id)", "100%", "+"])
def test_names_are_taken_literally(lake: Lake, name: str) -> None:
    small(lake, name)
    column = f"c{name}\n`\"'"
    fields = [
        {"id": 1, "name": column, "required": False, "type": "long"},
        {"id": 2, "name": "name", "required": False, "type": "string"},
    ]
    edit_metadata(lake.folder(name), schemas=[{"schema-id": 0, "type": "struct", "fields": fields}])
    (table,) = discover(str(lake.path)).tables
    assert table.id == name
    made = harvest(lake.folder(name))
    assert made.schema.names == [column, "name"]
    assert sum(fingerprints_of(made).values()) == 3


@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        ((5).to_bytes(4, "little"), pa.int64(), b"5"),
        ((-5).to_bytes(8, "little", signed=True), pa.int64(), b"-5"),
        (b"\0\0\0", pa.int64(), None),
        (b"\x00\x00\xc0\x7f", pa.float64(), None),
        (b"\xcd\xcc\xcc\x3d", pa.float64(), repr(0.10000000149011612).encode()),
        (b"\xff", pa.decimal128(18, 2), b"-0.01"),
        ((1).to_bytes(4, "little"), pa.timestamp("us"), b"86400000000"),
        ((1).to_bytes(4, "little"), pa.timestamp("us", tz="UTC"), None),
        ((1).to_bytes(8, "little"), pa.timestamp("ns"), None),
        (b"\x01", pa.bool_(), b"1"),
        (b"", pa.string(), None),
    ],
)
def test_bounds_have_the_length_of_the_type_they_were_written_for(
    data: bytes, dtype: pa.DataType, expected: bytes | None
) -> None:
    decoded = decode_bound(data, dtype)
    assert encode_bound(format(decoded, "f") if isinstance(decoded, Decimal) else decoded) == expected


def test_only_the_same_leaves_of_the_same_schema_are_stored_alike(lake: Lake) -> None:
    table = lake.create("t", EVERY_TYPE)
    before = harvest(lake.folder("t"))
    with table.update_schema() as update:
        update.rename_column("l", "long")
        update.add_column(("ls", "z"), StringType())
        update.delete_column("t")
    with table.update_schema() as update:
        update.add_column("t", StringType())
    after = harvest(lake.folder("t"))
    assert set(before.stored_as) == {path for path, _ in leaves(EVERY_TYPE)}
    assert before.stored_as["l",] == after.stored_as["long",]
    assert before.stored_as["s", "a"] == after.stored_as["s", "a"]
    assert len(set(before.stored_as.values())) == len(before.stored_as)
    assert {path for path in before.stored_as if before.stored_as[path] != after.stored_as.get(path)} == {
        ("l",),
        ("ls",),
        ("t",),
    }


def test_all_leaves_have_ids(lake: Lake) -> None:
    lake.create("t", EVERY_TYPE)
    schema = harvest(lake.folder("t")).schema
    assert [path for path, _ in leaves(schema)] == [path for path, _ in leaves(EVERY_TYPE)]
    assert len({field_id(column) for column in schema}) == len(EVERY_TYPE)
