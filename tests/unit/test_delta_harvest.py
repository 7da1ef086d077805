"""Harvest of Delta tables by deltalake and by hand, with deltalake as the oracle of what is live."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.files import data_file_uri
from r2d2.lake.delta.stats import partition_value
from r2d2.lake.delta.table import PADDED
from r2d2.lake.delta.vectors import vector_deletes
from r2d2.model import Claim, FileStamp, Harvest
from r2d2.scan.files import stamp
from tests.integration.delta_tables import (
    assert_claims_hold,
    drop_commits_before_checkpoint,
    harvest,
    parquet_rows,
    rust_appended,
    rust_cleaned_log,
    rust_deleted_from,
    rust_partitioned,
    rust_plain,
)

MAKERS = (rust_plain, rust_partitioned, rust_appended, rust_deleted_from, rust_cleaned_log)
FIELD = {"name": "a", "type": "long", "nullable": True, "metadata": {}}


def assert_agrees_with_deltalake(path: str | Path, found: Harvest) -> None:
    table = DeltaTable(path)
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert found.version == str(table.version())
    assert {f.data_uri for f in found.fragments} == {data_file_uri(str(path), a["path"]) for a in actions}
    assert {Path(f.data_uri).read_bytes()[:4] for f in found.fragments} <= {b"PAR1"}
    assert found.table_bytes == sum(a["size_bytes"] for a in actions)
    assert found.schema.names == pa.schema(table.schema().to_arrow()).names


@pytest.mark.parametrize("make", MAKERS)
def test_deltalake_tables_have_the_same_files_rows_and_true_claims(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "t")
    found = harvest(tmp_path / "t")
    assert_agrees_with_deltalake(tmp_path / "t", found)
    assert_claims_hold(found, parquet_rows)
    assert found.rows == DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows
    assert (found.reader, found.no_parent_reason, found.bytes_read > 0) == ("files", None, True)
    assert all(fragment.stamp == stamp(fragment.stamp.uri) for fragment in found.fragments)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "overwrite", "delete", "optimize", "checkpoint", "clean", "vacuum"]),
        st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=7,
)


def apply_operation(path: str, operation: str, values: list[int | None]) -> None:
    if operation in ("append", "overwrite"):
        table = pa.table({"a": pa.array(values, pa.int64()), "p": pa.array([str(v) for v in values])})
        write_deltalake(path, table, mode=operation, partition_by=["p"])
    elif operation == "delete":
        DeltaTable(path).delete(f"a >= {values[0] or 0}")
    elif operation == "optimize":
        DeltaTable(path).optimize.compact()
    elif operation == "vacuum":
        DeltaTable(path).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    else:
        DeltaTable(path).create_checkpoint()
        if operation == "clean":
            drop_commits_before_checkpoint(path)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(operations=OPERATIONS)
def test_any_history_replays_to_what_deltalake_sees(operations: list[tuple[str, list[int | None]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder).resolve() / "t")
        apply_operation(path, "append", [0, None])
        for operation, values in operations:
            apply_operation(path, operation, values)
        found = harvest(path)
        assert_agrees_with_deltalake(path, found)
        assert_claims_hold(found, parquet_rows)
        on_disk = sum(file.stat().st_size for file in Path(path).rglob("*.parquet") if "_delta_log" not in file.parts)
        assert found.history_bytes == on_disk - found.table_bytes
        assert found.rows == DeltaTable(path).to_pyarrow_table().num_rows


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
COLUMNS = {
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "b": (pa.int8(), st.integers(-128, 127)),
    "d": (pa.date32(), st.dates()),
    "t": (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    "n": (pa.timestamp("us"), st.datetimes()),
    "s": (pa.string(), st.one_of(TEXT, TEXT.map(lambda text: text * 80))),
    "o": (pa.bool_(), st.booleans()),
    "f": (pa.float64(), st.floats()),
    "h": (pa.float32(), st.floats(width=32)),
    "x": (pa.binary(), st.binary(max_size=3)),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()}), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_claims_hold_for_values_of_every_type(rows: list[dict[str, Any]]) -> None:
    schema = pa.schema([(name, dtype) for name, (dtype, _) in COLUMNS.items()])
    nested = pa.table({"top": pa.array(rows, pa.struct(schema))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "t"
        write_deltalake(path, pa.Table.from_pylist(rows, schema))
        write_deltalake(path.with_name("nested"), nested)
        found = harvest(path)
        assert found.schema == schema
        assert_claims_hold(found, parquet_rows)
        assert_claims_hold(harvest(path.with_name("nested")), parquet_rows)
        bounded = {claim.leaf[0] for claim in found.claims if claim.low is not None or claim.high is not None}
        assert bounded >= {name for name in ("i", "b") if any(row[name] is not None for row in rows)}
        assert "x" not in bounded


def test_a_table_in_an_object_store_is_harvested_like_a_local_one(tmp_path: Path) -> None:
    rust_partitioned(tmp_path / "t")
    DeltaTable(tmp_path / "t").create_checkpoint()
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "t"), "/bucket/t", recursive=True)
    try:
        here, there = harvest(tmp_path / "t"), harvest("memory://bucket/t")
        assert [f.data_uri.removeprefix("memory://bucket/t") for f in there.fragments] == [
            f.data_uri.removeprefix(str(tmp_path / "t")) for f in here.fragments
        ]
        assert (there.claims, there.table_bytes, there.history_bytes) == (here.claims, here.table_bytes, 0)
        store.rm(there.fragments[0].data_uri)
        with pytest.raises(TableFailed, match="a data file named by the log is missing"):
            harvest("memory://bucket/t")
    finally:
        store.rm("/bucket", recursive=True)


def test_a_vacuumed_or_resized_data_file_fails_the_table(tmp_path: Path) -> None:
    rust_appended(tmp_path)
    victim = Path(harvest(tmp_path).fragments[0].data_uri)
    with victim.open("ab") as file:
        file.write(b"x")
    with pytest.raises(TableFailed, match="does not have the size"):
        harvest(tmp_path)
    victim.unlink()
    with pytest.raises(TableFailed, match="a data file named by the log is missing"):
        harvest(tmp_path)
    victim.symlink_to(tmp_path)
    with pytest.raises(TableFailed, match="not a plain file"):
        harvest(tmp_path)


def test_history_is_what_vacuum_would_free(tmp_path: Path) -> None:
    rust_deleted_from(tmp_path)
    before = harvest(tmp_path).history_bytes
    rust_plain(tmp_path / "nested")
    for name, size in (("_tmp/f", 1), (".crc", 1), ("_change_data/f", 5), ("_p=1/f", 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert before > 0
    assert harvest(tmp_path).history_bytes == before + 12


def remove(name: str) -> Callable[[Path], None]:
    return lambda log: (log / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda log: (log / name).write_text(text) and None


CHECKPOINT = f"{2:020}.checkpoint.parquet"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove(f"{1:020}.json"), "commit 1 of the Delta log is missing, and there is no checkpoint"),
        (remove(f"{0:020}.json"), "commit 0 of the Delta log is missing"),
        (write(f"{1:020}.json", '{"add":'), "commit 1 of the Delta log is not valid JSON"),
        (write(f"{1:020}.json", "[" * 100_000), "commit 1 of the Delta log is not valid JSON"),
        (write(f"{1:020}.json", ""), "commit 1 of the Delta log holds no actions"),
        (write(f"{1:020}.json", '{"add":{"size":3}}'), "has no path"),
        (write(f"{1:020}.json", '{"add":{"path":"%ff.parquet","size":3}}'), "not UTF-8"),
        (write(f"{0:020}.json", '{"commitInfo":{}}'), "no protocol or no metadata"),
        (write(CHECKPOINT, "PAR1"), "a checkpoint of the Delta log cannot be read"),
    ],
)
def test_a_damaged_log_fails_the_table(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    rust_appended(tmp_path)
    damage(tmp_path / "_delta_log")
    with pytest.raises(TableFailed, match=message):
        harvest(tmp_path)


def test_a_log_with_a_gap_after_its_checkpoint_or_without_all_parts_fails(tmp_path: Path) -> None:
    rust_cleaned_log(tmp_path)
    log = tmp_path / "_delta_log"
    shutil.move(log / f"{3:020}.json", log / f"{4:020}.json")
    with pytest.raises(TableFailed, match="commit 3 of the Delta log is missing after the checkpoint of version 2"):
        harvest(tmp_path)
    shutil.move(log / CHECKPOINT, log / f"{2:020}.checkpoint.{1:010}.{2:010}.parquet")
    with pytest.raises(TableFailed, match="parts of a checkpoint"):
        harvest(tmp_path)


def test_an_empty_log_fails(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(TableFailed, match="no commit and no complete checkpoint"):
        harvest(tmp_path)


def test_no_recipe_reads_a_log_without_the_commit_of_its_version(tmp_path: Path) -> None:
    rust_appended(tmp_path)
    DeltaTable(tmp_path).create_checkpoint()
    for commit in (tmp_path / "_delta_log").glob("*.json"):
        commit.unlink()
    assert "Spark does not read" in str(harvest(tmp_path).no_parent_reason)


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a`b", "é", "g*", "q?", "[a]", "{a}", "\\", "\n", '"', "a@v3"])
def test_no_recipe_reads_a_path_that_some_engine_cannot_open(name: str, tmp_path: Path) -> None:
    rust_plain(tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / name)
    assert harvest(tmp_path / "plain").no_parent_reason is None
    found = harvest(tmp_path / name)
    assert found.rows == 3
    assert "path" in str(found.no_parent_reason)


# ---- logs by hand


def hand_made(
    path: Path,
    *,
    fields: list[dict[str, Any]] | None = None,
    protocol: dict[str, Any] | None = None,
    configuration: dict[str, str] | None = None,
    add: dict[str, Any] | None = None,
    partition_columns: tuple[str, ...] = (),
    info: dict[str, Any] | None = None,
) -> Path:
    """A table of one commit, whose one file has 4 bytes."""
    log = path / "_delta_log"
    log.mkdir(parents=True)
    (path / "f.parquet").write_bytes(b"PAR1")
    schema = {"type": "struct", "fields": [FIELD] if fields is None else fields}
    actions = [
        {"commitInfo": info or {"engineInfo": "Apache-Spark/4.2.0 Delta-Lake/4.4.0", "operation": "WRITE"}},
        {"protocol": protocol or {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "i",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": list(partition_columns),
                "configuration": configuration or {},
            }
        },
        {"add": {"path": "f.parquet", "size": 4, "partitionValues": {}, "dataChange": True} | (add or {})},
    ]
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": {"minReaderVersion": 4}}, "reader version 4"),
        ({"protocol": {"minReaderVersion": 3, "readerFeatures": ["v2Checkpoint", "x-new"]}}, "x-new"),
        *(
            ({"protocol": {"minReaderVersion": 3, "readerFeatures": [feature]}}, feature)
            for feature in (
                "catalogManaged",
                "catalogOwned-preview",
                "variantType",
                "variantType-preview",
                "variantShredding",
                "variantShredding-preview",
                "redirectReaderWriter-preview",
                "geospatial",
            )
        ),
        ({"configuration": {"delta.coordinatedCommits.commitCoordinator-preview": "c"}}, "coordinatedCommits"),
        ({"configuration": {"delta.coordinatedCommits.commitCoordinator": "c"}}, "coordinatedCommits"),
        ({"configuration": {"delta.redirectReaderWriter-preview": "{}"}}, "redirectReaderWriter"),
        ({"fields": [FIELD | {"type": "time(6)"}]}, r"time\(6\)"),
        ({"add": {"deletionVector": {"storageType": "z", "pathOrInlineDv": "x", "cardinality": 1}}}, "storage type z"),
        ({"fields": [FIELD | {"type": "variant"}]}, "variant"),
        ({"fields": [FIELD | {"type": "interval day to second"}]}, "interval day to second"),
        ({"fields": [FIELD | {"type": {"type": "array", "elementType": "void", "containsNull": True}}]}, "void"),
        ({"fields": [FIELD | {"type": {"type": "udt"}}]}, "udt"),
        ({"fields": [FIELD | {"type": "decimal(39,0)"}]}, "decimal"),
        ({"fields": []}, "without columns"),
        ({"add": {"partitionValues": {"a": ""}}, "partition_columns": ("a",)}, "whether a partition value"),
        ({"add": {"partitionValues": {"a": "x"}}, "partition_columns": ("a",)}, "not a plain int64"),
        ({"add": {"path": "file://elsewhere/f.parquet"}}, "another host"),
    ],
)
def test_what_is_not_read_is_named(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TableUnsupported, match=message):
        harvest(hand_made(tmp_path / "t", **arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"fields": [{"name": "a"}]},
        {"fields": [FIELD, FIELD]},
        {"configuration": {"delta.columnMapping.mode": "name"}},
        {"partition_columns": ("missing",)},
        {"partition_columns": ("a",)},
        {"add": {"partitionValues": {"a": 1}}, "partition_columns": ("a",)},
        {"add": {"size": None}},
        {"protocol": {"minWriterVersion": 2}},
    ],
)
def test_a_log_that_contradicts_itself_fails(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TableFailed):
        harvest(hand_made(tmp_path / "t", **arguments))


def test_types_of_the_log_are_arrow_types(tmp_path: Path) -> None:
    struct = {"type": "struct", "fields": [FIELD, FIELD | {"name": "B", "type": "timestamp_ntz"}]}
    types: dict[str, tuple[Any, pa.DataType]] = {
        "collated": ("string collate UTF8_LCASE", pa.string()),
        "char": ("char(5)", pa.string()),
        "dec": ("decimal(38, 10)", pa.decimal128(38, 10)),
        "bare": ("decimal", pa.decimal128(10, 0)),
        "nest": (
            {"type": "map", "keyType": "date", "valueType": {"type": "array", "elementType": struct}},
            pa.map_(pa.date32(), pa.list_(pa.struct([("a", pa.int64()), ("B", pa.timestamp("us"))]))),
        ),
        "small": ("byte", pa.int8()),
    }
    fields = [FIELD | {"name": name, "type": dtype} for name, (dtype, _) in types.items()]
    found = harvest(hand_made(tmp_path / "t", fields=fields))
    assert found.schema == pa.schema([(name, dtype) for name, (_, dtype) in types.items()])
    assert found.reader == "files"


def test_structs_in_lists_need_the_engine_once_the_schema_changed(tmp_path: Path) -> None:
    element = {"type": "struct", "fields": [FIELD]}
    wider = {"type": "struct", "fields": [FIELD, FIELD | {"name": "b"}]}
    old, new = ([FIELD | {"type": {"type": "array", "elementType": e}}] for e in (element, wider))
    path = hand_made(tmp_path / "t", fields=old)
    assert harvest(path).reader == "files"
    metadata = hand_made(tmp_path / "new", fields=new) / "_delta_log" / f"{0:020}.json"
    shutil.copy(metadata, path / "_delta_log" / f"{1:020}.json")
    assert (harvest(path).reader, harvest(path).rows) == ("engine", None)


def test_columns_that_differ_in_case_forbid_recipes(tmp_path: Path) -> None:
    found = harvest(hand_made(tmp_path / "t", fields=[FIELD, FIELD | {"name": "A"}]))
    assert "case" in str(found.no_parent_reason)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from(["", "x", "\ud800", "%", "file:", [], [1], {}, {"a": 1}]),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_log_with_any_part_replaced_is_read_or_is_a_fault(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stats = json.dumps(about(1, 2))
        vector = {"storageType": "u", "pathOrInlineDv": "0" * 20, "offset": 1, "sizeInBytes": 1, "cardinality": 1}
        add = {
            "stats": stats,
            "partitionValues": {"p": "1"},
            "deletionVector": data.draw(st.sampled_from([None, vector])),
        }
        path = hand_made(Path(folder) / "t", fields=[FIELD, FIELD | {"name": "p"}], add=add, partition_columns=("p",))
        commit = path / "_delta_log" / f"{0:020}.json"
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        metadata = actions[2]["metaData"]
        metadata["schemaString"] = json.loads(metadata["schemaString"])
        actions[3]["add"]["stats"] = json.loads(stats)
        holder, key = data.draw(st.sampled_from(list(nodes(actions))))
        holder[key] = data.draw(JUNK)
        if isinstance(actions[2], dict) and isinstance(actions[2].get("metaData"), dict):
            actions[2]["metaData"]["schemaString"] = json.dumps(actions[2]["metaData"].get("schemaString"))
        if isinstance(actions[3], dict) and isinstance(actions[3].get("add"), dict):
            actions[3]["add"]["stats"] = json.dumps(actions[3]["add"].get("stats"))
        commit.write_text("\n".join(map(json.dumps, actions)))
        with contextlib.suppress(TableFault):
            harvest(path)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value, as its container and key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(pairs):
        yield value, key
        yield from nodes(part)


STRING = FIELD | {"type": "string"}
WRITERS = {
    "spark": {"engineInfo": "Apache-Spark/4.2.0 Delta-Lake/4.4.0", "operation": "WRITE"},
    "convert": {"engineInfo": "Apache-Spark/4.2.0 Delta-Lake/4.4.0", "operation": "CONVERT"},
    "stranger": {"engineInfo": "Unheard-Of/1", "operation": "WRITE"},
    "rust": {"engineInfo": "delta-rs:py-1.6.6", "operation": "WRITE"},
}
VECTOR = {"deletionVector": {"storageType": "i", "pathOrInlineDv": "wi5b=", "sizeInBytes": 4, "cardinality": 2}}


def one_claim(
    path: Path, stats: dict[str, Any] | str, **arguments: Any
) -> tuple[int | None, bytes | None, bytes | None]:
    text = stats if isinstance(stats, str) else json.dumps(stats)
    arguments["add"] = arguments.get("add", {}) | {"stats": text}
    claims = harvest(hand_made(path, **arguments)).claims
    assert len(claims) <= 1
    return (claims[0].nulls, claims[0].low, claims[0].high) if claims else (None, None, None)


def about(low: Any, high: Any, nulls: Any = 1, rows: Any = 4) -> dict[str, Any]:
    return {"numRecords": rows, "minValues": {"a": low}, "maxValues": {"a": high}, "nullCount": {"a": nulls}}


UNKNOWN = (None, None, None)


@pytest.mark.parametrize(
    ("dtype", "writer", "stats", "expected"),
    [
        ("long", "spark", about(1, 9007199254740993), (1, b"1", b"9007199254740993")),
        ("long", "convert", about(1, 2), (1, b"1", b"2")),
        ("long", "spark", about(1.5, True), (1, None, None)),
        ("long", "spark", about(None, None, 0), UNKNOWN),
        ("long", "spark", about(None, None, 4), (4, None, None)),
        ("long", "spark", about(1, 2, 9), (None, b"1", b"2")),
        ("string", "spark", about("a", "b\x7f"), (1, b"a", b"b\x7f")),
        ("string", "spark", about("a", None), (1, b"a", None)),
        ("string", "spark", about("\ud800", "b"), (1, None, b"b")),
        ("string", "convert", about("a", "b"), UNKNOWN),
        ("string", "convert", about("a", "b", 0), UNKNOWN),
        ("string", "stranger", about("a", "b", 4), (4, None, None)),
        ("double", "spark", about(1.5, 2.5), (1, b"1.5", b"2.5")),
        ("double", "spark", about(1.5, "NaN"), (1, b"1.5", None)),
        ("double", "spark", about("NaN", "NaN"), (1, None, None)),
        ("double", "spark", about("-Infinity", 10**400), (1, None, None)),
        ("double", "convert", about(1.5, 2.5), (1, None, None)),
        ("float", "spark", about(3.4, 1e39), (1, b"3.4000000953674316", None)),
        ("float", "spark", about(-0.0, 16777217.0000001), (1, b"-0.0", b"16777218.0")),
        ("long", "convert", about(None, None, 1), UNKNOWN),
        ("decimal(20,0)", "spark", about(1, 9223372036854775807), (1, None, None)),
        ("binary", "spark", about("a", "b", 0), (0, None, None)),
        ("date", "spark", about("1970-01-02", "9999-99-99"), (1, b"86400000000", None)),
        ("date", "convert", about("1500-01-01", "1970-01-02"), (1, None, b"86400000000")),
        ("date", "spark", about("1900-01-01", "+10000-01-01"), (1, b"-2208988800000000", None)),
        (
            "timestamp",
            "spark",
            about("1970-01-01T00:00:00.001Z", "1970-01-01T01:00:00.001+01:00"),
            (1, b"1000", b"1999"),
        ),
        (
            "timestamp",
            "spark",
            about("1799-12-31T16:07:02.000-07:52:58", "1970-01-01T00:00:00"),
            (1, b"-5364662400000000", None),
        ),
        ("timestamp_ntz", "spark", about("1970-01-01", "1970-01-01T00:00:00.001Z"), (1, b"0", None)),
        ({"type": "array", "elementType": "long"}, "spark", about(1, 2), UNKNOWN),
        ("long", "spark", '{"numRecords":', UNKNOWN),
        ("long", "spark", "[1]", UNKNOWN),
    ],
)
def test_trust_of_statistics(dtype: Any, writer: str, stats: Any, expected: tuple[Any, ...], tmp_path: Path) -> None:
    assert one_claim(tmp_path / "t", stats, fields=[FIELD | {"type": dtype}], info=WRITERS[writer]) == expected


@pytest.mark.parametrize(("nulls", "expected"), [(0, 0), (1, None), (4, 2)])
def test_a_deletion_vector_leaves_only_none_and_all_of_null_counts(
    nulls: int, expected: int | None, tmp_path: Path
) -> None:
    path = hand_made(tmp_path / "t", add=VECTOR | {"stats": json.dumps(about(1, 9, nulls))})
    found = harvest(path)
    assert (found.rows, found.reader, found.reader_reason) == (2, "files", None)
    assert [(claim.nulls, claim.low, claim.writer) for claim in found.claims] == [(expected, b"1", "")]


def test_bounds_of_collated_and_padded_texts_are_not_used(tmp_path: Path) -> None:
    for name in ("__COLLATIONS", "__CHAR_VARCHAR_TYPE_STRING"):
        field = STRING | {"metadata": {name: "x"}}
        assert one_claim(tmp_path / name, about("a", "b"), fields=[field]) == (1, None, None)


def test_float_bounds_of_a_widened_column_are_not_used(tmp_path: Path) -> None:
    change = {"delta.typeChanges": [{"fromType": "float", "toType": "double"}]}
    field = FIELD | {"type": "double", "metadata": change}
    assert one_claim(tmp_path / "t", about(3.4, 3.4), fields=[field]) == (1, None, None)


def test_texts_of_fixed_length_are_no_parents(tmp_path: Path) -> None:
    for dtype, expected in (("char(5)", PADDED), ("varchar(5)", None), ("array<char(3)>", PADDED)):
        field = STRING | {"metadata": {"__CHAR_VARCHAR_TYPE_STRING": dtype}}
        assert harvest(hand_made(tmp_path / dtype.strip("<>()"), fields=[field])).no_parent_reason == expected


def test_texts_with_a_collation_are_no_parents(tmp_path: Path) -> None:
    field = STRING | {"metadata": {"__COLLATIONS": {"a": "spark.UTF8_LCASE"}}}
    assert "collation" in str(harvest(hand_made(tmp_path / "t", fields=[field])).no_parent_reason)


def test_files_outside_the_folder_are_no_parents(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    found = harvest(hand_made(tmp_path / "t", add={"path": "../f.parquet"}))
    assert "outside its folder" in str(found.no_parent_reason)


def test_files_by_absolute_path_are_no_parents(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    for name, path in (("slash", f"{tmp_path}/f.parquet"), ("uri", f"file:{tmp_path}/f.parquet")):
        assert "absolute path" in str(harvest(hand_made(tmp_path / name, add={"path": path})).no_parent_reason)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    one=st.fixed_dictionaries({"offset": st.integers(1, 2), "sizeInBytes": st.integers(34, 35)}),
    other=st.fixed_dictionaries({"offset": st.integers(1, 2), "sizeInBytes": st.integers(34, 35)}),
    kinds=st.tuples(st.sampled_from("up"), st.sampled_from("up")),
)
def test_the_same_deletion_vector_has_one_name_however_the_log_spells_it(
    one: dict[str, int], other: dict[str, int], kinds: tuple[str, str]
) -> None:
    """The example of the format's protocol: a uuid in 20 letters with a random folder before it."""
    paths = {
        "u": "ab^-aqEH.-t@S}K{vb[*k^",
        "p": "file:/lake/t%20x/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin",
    }
    uri = "/lake/t x/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
    stamps = {uri: FileStamp(uri=uri, size=100, token="1")}
    vectors = [
        {"storageType": kind, "pathOrInlineDv": paths[kind], "cardinality": 3} | numbers
        for kind, numbers in zip(kinds, (one, other), strict=True)
    ]
    names = [vector_deletes("/lake/t x", {"deletionVector": vector}, "/lake/t x/f", stamps) for vector in vectors]
    assert (names[0] == names[1]) == (one == other)


def test_deletion_vectors_in_the_log_are_named_by_their_content() -> None:
    texts = ("wi5b=", "wi5b=", "wi5b0")
    vectors = [{"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": 4, "cardinality": 1} for text in texts]
    first, second, third = (vector_deletes("/t", {"deletionVector": vector}, "/t/f", {}) for vector in vectors)
    assert first == second != third
    assert vector_deletes("/t", {}, "/t/f", {}) is vector_deletes("/t", {"deletionVector": None}, "/t/f", {}) is None


# ---- what real writers get wrong, or leave out


def claim_of(path: Path, leaf: str) -> Claim | None:
    return next((claim for claim in harvest(path).claims if claim.leaf == (leaf,)), None)


def bounds_of(path: Path, leaf: str) -> tuple[int | None, bytes | None, bytes | None]:
    claim = claim_of(path, leaf)
    return (None, None, None) if claim is None else (claim.nulls, claim.low, claim.high)


def test_imported_bounds_that_skip_a_row_group_are_not_used(tmp_path: Path) -> None:
    """deltalake takes bounds from footers; one of a text above 4096 bytes is missing there, and it goes on without."""
    (tmp_path / "t").mkdir()
    texts = pa.table({"s": ["z" * 5000, "a"]})
    pq.write_table(texts, tmp_path / "t" / "f.parquet", row_group_size=1)
    convert_to_deltalake(str(tmp_path / "t"))
    assert '\\"maxValues\\":{\\"s\\":\\"a\\"}' in (tmp_path / "t" / "_delta_log" / f"{0:020}.json").read_text()
    assert bounds_of(tmp_path / "t", "s") == UNKNOWN
    assert harvest(tmp_path / "t").rows == 2


def test_decimals_of_a_log_are_rounded_and_not_used(tmp_path: Path) -> None:
    values = pa.array([Decimal("99999999999999999.99"), Decimal("-99999999999999999.99")], pa.decimal128(19, 2))
    write_deltalake(tmp_path / "t", pa.table({"m": values}))
    assert "99999999999999999.99" not in (tmp_path / "t" / "_delta_log" / f"{0:020}.json").read_text()
    assert bounds_of(tmp_path / "t", "m") == (0, None, None)


def test_infinities_leave_a_side_open_and_nan_both(tmp_path: Path) -> None:
    for name, values, expected in (
        ("inf", [1.5, float("inf"), None], (1, b"1.5", None)),
        ("nan", [float("nan"), float("nan")], UNKNOWN),
        ("both", [float("nan"), -2.0, 0.0], (0, b"-2.0", b"0.0")),
    ):
        write_deltalake(tmp_path / name, pa.table({"f": pa.array(values, pa.float64())}))
        assert bounds_of(tmp_path / name, "f") == expected, name


def test_columns_without_statistics_are_unknown(tmp_path: Path) -> None:
    """By number of columns, and in files from before a column existed: neither bounds nor a count of NULLs."""
    properties = {"delta.dataSkippingNumIndexedCols": "1"}
    write_deltalake(
        tmp_path / "t",
        pa.table({"a": [1], "b": [None]}, pa.schema([("a", pa.int64()), ("b", pa.int64())])),
        configuration=properties,
    )
    assert bounds_of(tmp_path / "t", "a") == (0, b"1", b"1")
    assert claim_of(tmp_path / "t", "b") is None
    write_deltalake(tmp_path / "e", pa.table({"a": [1]}))
    write_deltalake(tmp_path / "e", pa.table({"a": [2], "b": [5]}), mode="append", schema_mode="merge")
    assert [claim.low for claim in harvest(tmp_path / "e").claims if claim.leaf == ("b",)] == [b"5"]


def test_nulls_of_a_struct_count_for_its_leaves(tmp_path: Path) -> None:
    struct = pa.array([None, {"x": None}, {"x": 3}], pa.struct([("x", pa.int64())]))
    write_deltalake(tmp_path / "t", pa.table({"s": struct}))
    (claim,) = harvest(tmp_path / "t").claims
    assert (claim.leaf, claim.nulls, claim.low) == (("s", "x"), 2, b"3")


def test_a_file_without_rows_claims_none(tmp_path: Path) -> None:
    stats = {"numRecords": 0, "minValues": {}, "maxValues": {}, "nullCount": {"a": 0}}
    found = harvest(hand_made(tmp_path / "t", add={"stats": json.dumps(stats)}))
    assert found.rows == 0
    assert all(claim.nulls == 0 and claim.low is None for claim in found.claims)


def test_side_files_of_a_log_decide_nothing(tmp_path: Path) -> None:
    """Checksums, compactions, commits that are only staged, and `_last_checkpoint`, made by hand to mislead."""
    rust_appended(tmp_path)
    before = harvest(tmp_path)
    log = tmp_path / "_delta_log"
    lie = (log / f"{0:020}.json").read_text()
    (log / "_staged_commits").mkdir()
    for name in (
        f"{2:020}.crc",
        f"{0:020}.{2:020}.compacted.json",
        f"_staged_commits/{3:020}.5b2f0a3e-7d0e-4d8c-9d6f-3b9b8d1c7a10.json",
        "_last_checkpoint",
        f"{3:020}.json.tmp",
        f".{3:020}.json.crc",
    ):
        (log / name).write_text(lie)
    after = harvest(tmp_path)
    assert (after.version, after.fragments, after.claims) == (before.version, before.fragments, before.claims)


def test_loose_statistics_name_no_writer(tmp_path: Path) -> None:
    stats = about(1, 2) | {"tightBounds": False}
    (claim,) = harvest(hand_made(tmp_path / "t", add={"stats": json.dumps(stats)})).claims
    assert (claim.writer, claim.low) == ("", b"1")


def test_the_writer_survives_a_checkpoint_while_its_commit_does(tmp_path: Path) -> None:
    rust_appended(tmp_path)
    DeltaTable(tmp_path).create_checkpoint()
    assert {claim.writer for claim in harvest(tmp_path).claims} == {"delta-rs:py-1.6.6"}
    (tmp_path / "_delta_log" / f"{1:020}.json").write_text("{broken")
    assert sorted(claim.writer for claim in harvest(tmp_path).claims) == ["", "", "delta-rs:py-1.6.6"]


@pytest.mark.parametrize(
    ("table", "path", "uri"),
    [
        ("/lake/t", "p=a%20b%2520/f.parquet", "/lake/t/p=a b%20/f.parquet"),
        ("/lake/t", "p=a:b/+.parquet", "/lake/t/p=a:b/+.parquet"),
        ("/lake/t", "file:/o/%C3%A9.parquet", "/o/é.parquet"),
        ("/lake/t", "file:///o/f.parquet", "/o/f.parquet"),
        ("/lake/t", "/o/f.parquet", "/o/f.parquet"),
        ("/lake/t", "ab%3A/f.parquet", "/lake/t/ab:/f.parquet"),
        ("s3://b/t", "f%20.parquet", "s3://b/t/f .parquet"),
        ("s3://b/t", "s3a://c/o/f.parquet", "s3://c/o/f.parquet"),
        ("s3://b/t", "/o/f.parquet", "s3://b/o/f.parquet"),
    ],
)
def test_paths_of_the_log_are_decoded_once(table: str, path: str, uri: str) -> None:
    assert data_file_uri(table, path) == uri


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (pa.string(), "007", "007"),
        (pa.int32(), "007", 7),
        (pa.int32(), "2147483648", None),
        (pa.int32(), "1_0", None),
        (pa.int32(), "٣", None),
        (pa.date32(), "1970-01-02", 86_400_000_000),
        (pa.date32(), "1970-1-2", None),
        (pa.timestamp("us", tz="UTC"), "1970-01-01T00:00:01.000000Z", 1_000_000),
        (pa.timestamp("us", tz="UTC"), "1970-01-01 00:00:01", None),
        (pa.timestamp("us"), "1970-01-01 00:00:01", 1_000_000),
        (pa.bool_(), "true", True),
        (pa.bool_(), "1", None),
        (pa.float32(), "3.4", 3.4000000953674316),
        (pa.binary(), "a", None),
    ],
)
def test_partition_values_have_the_type_of_the_log_or_are_refused(dtype: pa.DataType, text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(TableUnsupported, match="not a plain"):
            partition_value(dtype, text)
    else:
        assert partition_value(dtype, text) == value


@pytest.mark.parametrize(
    ("text", "rows", "expected"),
    [("7", 4, (0, b"7", b"7")), (None, 4, (4, None, None)), ("7", None, (None, b"7", b"7"))],
)
def test_partition_values_are_claims(
    text: str | None, rows: int | None, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    stats = {} if rows is None else {"stats": json.dumps({"numRecords": rows})}
    path = hand_made(tmp_path / "t", add={"partitionValues": {"a": text}} | stats, partition_columns=("a",))
    (claim,) = harvest(path).claims
    assert (claim.nulls, claim.low, claim.high) == expected
    assert (claim.source, claim.leaf, harvest(path).fragments[0].partition) == ("partition", ("a",), {"a": text})


@pytest.mark.parametrize(
    ("dtype", "writer", "stats", "only_spark", "no_parent"),
    [
        ("double", "rust", about(1.5, 1.5), True, False),  # whether NaN stands beside it is seen by the scan
        ("double", "rust", about(1.5, 1.5) | {"numRecords": 2, "nullCount": {"a": 1}}, False, False),
        ("double", "spark", about(1.5, 1.5), False, False),
        ("double", "rust", about(1.5, 2.5), False, False),
        ("double", "convert", about(1.5, 1.5), True, True),
        ("decimal(18,2)", "rust", about(9007199254740992.5, 9007199254740992.5), True, True),
        ("decimal(18,2)", "spark", about(9007199254740992.5, 9007199254740992.5), False, False),
        ("decimal(9,2)", "rust", about(1.5, 1.5), False, False),
        ("string", "convert", about("a", "a"), True, True),
        ("string", "spark", about("a", "a"), False, False),
        ("long", "stranger", about(1, 1), False, False),
    ],
)
def test_bounds_that_sail_takes_for_values_keep_it_away(
    dtype: str, writer: str, stats: dict[str, Any], only_spark: bool, no_parent: bool, tmp_path: Path
) -> None:
    add = {"stats": json.dumps(stats)}
    found = harvest(hand_made(tmp_path / "t", fields=[FIELD | {"type": dtype}], info=WRITERS[writer], add=add))
    assert (found.spark_only_reason is not None, found.no_parent_reason is not None) == (only_spark, no_parent)
