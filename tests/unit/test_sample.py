"""The sample lake: its truth, that what is written is what the truth is about, and that it deletes nobody's files."""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import UsageError
from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.partitions import partition_scalar
from r2d2.lake.text.table import TextOptions
from r2d2.model import Fragment, Harvest, leaves, type_class
from r2d2.sample import MARKER, SampleTruth, sample_tables, write_sample
from r2d2.sample.truth import TruthTable, canonical, find_edges

TABLES = {table.id: table for table in sample_tables()}
UTC = datetime.UTC


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> SampleTruth:
    return write_sample(str(tmp_path_factory.mktemp("sample") / "lake"))


# --- the truth --------------------------------------------------------------------------------------------------------


def verdict(truth: SampleTruth, child: str, parent: str) -> str:
    edge = next((edge for edge in truth.edges if (edge.child, edge.parent) == (child, parent)), None)
    if edge is None:
        return "none"
    return "equal" if edge.relation == "equal" else "bag" if edge.bag else "set"


def test_every_plant_holds(truth: SampleTruth) -> None:
    wrong = [plant for plant in truth.plants if verdict(truth, plant.child, plant.parent) != plant.verdict]
    assert wrong == []
    both_ways = [plant for plant in truth.plants if plant.kind in ("equal", "near")]
    assert [plant for plant in both_ways if verdict(truth, plant.parent, plant.child) != plant.verdict] == []


def test_the_truth_has_enough_of_each_kind(truth: SampleTruth) -> None:
    assert 40 <= len(truth.tables) <= 80
    assert sum(edge.set and not edge.bag for edge in truth.edges) >= 10
    assert sum(edge.fewer_columns for edge in truth.edges) >= 10
    assert sum(edge.relation == "equal" for edge in truth.edges) >= 10
    assert sum(edge.proposable == "projection" for edge in truth.edges) >= 10
    assert sum(is_odd(edge.child) for edge in truth.edges) >= 5
    assert {plant.kind for plant in truth.plants} >= {"snapshot", "filtered", "near", "trap", "empty", "union"}


def is_odd(table: str) -> bool:
    """A column of NULLs, or another number type than the original's."""
    rows = TABLES[table].rows
    odd_types = {"marketing/contacts.parquet", "finance/products", "finance/payment_amounts"}
    return table in odd_types or any(rows.num_rows and c.null_count == rows.num_rows for c in rows.columns)


def test_unions_are_those_planted(truth: SampleTruth) -> None:
    planted: dict[str, set[str]] = {}
    for plant in truth.plants:
        if plant.kind == "union":
            planted.setdefault(plant.child, set()).add(plant.parent)
    assert {union.child: set(union.parents) for union in truth.unions} == planted


def test_a_proposable_edge_has_all_rows_of_its_parent(truth: SampleTruth) -> None:
    for edge in truth.edges:
        if edge.proposable:
            assert edge.bag
            assert edge.child_rows == edge.parent_rows > 0
            assert (edge.proposable == "equal") == (edge.relation == "equal")


def test_the_tables_do_not_depend_on_the_process() -> None:
    program = "import tests.unit.test_sample as t; print(t.digest())"
    folder = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == digest()


def digest() -> str:
    """A digest of the rows of all tables."""
    total = hashlib.sha256()
    for name, table in sorted(TABLES.items()):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.rows.schema) as writer:
            writer.write_table(table.rows)
        total.update(name.encode())
        total.update(sink.getvalue())
    return total.hexdigest()


def test_the_truth_files_say_the_same(truth: SampleTruth) -> None:
    folder = Path(truth.folder) / "_truth"
    with (folder / "edges.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["child"], row["parent"], row["relation"]) for row in rows] == [
        (edge.child, edge.parent, edge.relation) for edge in truth.edges
    ]
    assert [(row["set"], row["bag"]) for row in rows] == [
        (str(edge.set).lower(), str(edge.bag).lower()) for edge in truth.edges
    ]
    with (folder / "proposable.csv").open(newline="") as file:
        kinds = {(row["child"], row["parent"]): row["kind"] for row in csv.DictReader(file)}
    assert kinds == {(edge.child, edge.parent): edge.proposable for edge in truth.edges if edge.proposable}


# --- the oracle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, Decimal("1.00"), True),
        (0.5, Decimal("0.50"), True),
        (0.1, Decimal("0.1"), False),
        (2**53 + 1, 2.0**53, False),
        (0.0, -0.0, True),
        (float("nan"), -float("nan"), True),
        (float("nan"), None, False),
        (None, None, True),
        (None, "", False),
        (1, "1", False),
        (1, True, False),
        ("a", b"a", False),
        ("a", "A", False),
        (datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), True),  # noqa: DTZ001
        (datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=UTC), False),
        (datetime.datetime(2024, 1, 1, 5), datetime.datetime(2024, 1, 1, 5, tzinfo=UTC), False),  # noqa: DTZ001
        ([1, 2], [2, 1], False),
        ([1], [1.0], True),
        ([None], [], False),
        ([{"a": 1, "b": None}], [{"B": None, "A": 1}], True),
        ([{"a": 1}], [{"a": 1, "b": None}], False),
    ],
)  # fmt: skip
def test_equality_of_values_is_the_contracts(one: Any, other: Any, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same
    assert not same or hash(canonical(one)) == hash(canonical(other))


def edges_of(**tables: pa.Table) -> dict[tuple[str, str], str]:
    edges = find_edges([TruthTable(name, rows) for name, rows in tables.items()])
    return {(e.child, e.parent): "equal" if e.relation == "equal" else "bag" if e.bag else "set" for e in edges}


small_tables = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["x", None])), max_size=6)


@settings(max_examples=60, deadline=None)
@given(child=small_tables, parent=small_tables)
def test_containment_is_taking_rows_away_one_by_one(child: list[Any], parent: list[Any]) -> None:
    def table(rows: list[Any]) -> pa.Table:
        return pa.table(
            {"n": pa.array([n for n, _ in rows], pa.int32()), "s": pa.array([s for _, s in rows], pa.string())}
        )

    left = list(parent)
    bag = True
    for row in child:
        if row in left:
            left.remove(row)
        else:
            bag = False
    in_set = all(row in parent for row in child)
    expected = "equal" if bag and not left else "bag" if bag else "set" if in_set else None
    assert edges_of(c=table(child), p=table(parent)).get(("c", "p")) == expected


def test_names_and_structs() -> None:
    lower, upper = pa.table({"a": [1]}), pa.table({"A": [1], "z": [2]})
    both = pa.table({"a": [1], "A": [5]})
    assert edges_of(lower=lower, upper=upper, both=both) == {("lower", "upper"): "bag", ("lower", "both"): "bag"}
    kind = pa.struct([("f", pa.int32()), ("g", pa.int32())])
    missing = pa.table({"s": pa.array([None], kind)})
    filled = pa.table({"s": pa.array([{"f": None, "g": None}], kind)})
    narrow = pa.table({"S": pa.array([{"F": None}], pa.struct([("F", pa.string())]))})
    plain = pa.table({"s": pa.array([None], pa.int32())})
    assert edges_of(missing=missing, filled=filled, narrow=narrow, plain=plain) == {("narrow", "filled"): "bag"}


# --- the lake ---------------------------------------------------------------------------------------------------------


def test_the_lake_is_small_and_holds_just_the_tables(truth: SampleTruth) -> None:
    found = discover(truth.folder)
    assert tuple(table.id for table in found.tables) == truth.tables == tuple(sorted(TABLES))
    assert [table.fault for table in found.tables if table.fault] == []
    assert (found.other_files, found.links) == (0, 0)
    sizes = [path.stat().st_size for path in Path(truth.folder).rglob("*") if path.is_file()]
    assert sum(sizes) < 30_000_000


def test_the_audit_reads_what_the_truth_is_about(truth: SampleTruth, tmp_path: Path) -> None:
    for found in discover(truth.folder).tables:
        planned = TABLES[found.id].rows
        harvest = harvest_table(found, TextOptions(csv_delimiter=None, csv_types="infer"), str(tmp_path))
        assert sorted(harvest.schema.names) == sorted(planned.schema.names), found.id
        assert harvest.rows == planned.num_rows, found.id
        if planned.num_rows:
            assert classes(harvest.schema) == classes(planned.schema), found.id
        assert bag(read_back(harvest)) == bag(planned), found.id


def classes(schema: pa.Schema) -> dict[tuple[str, ...], str]:
    return {path: type_class(dtype).value for path, dtype in leaves(schema)}


def bag(rows: pa.Table) -> Counter[tuple[Any, ...]]:
    table = TruthTable("", rows)
    return table.counter(tuple(sorted(table.paths)))


def read_back(harvest: Harvest) -> pa.Table:
    """The rows of a table by pyarrow alone, from the files that the harvest names."""
    return pa.concat_tables([read_fragment(fragment, harvest.schema) for fragment in harvest.fragments])


def read_fragment(fragment: Fragment, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(fragment.data_uri, coerce_int96_timestamp_unit="us") as file:
        rows = file.read()

    def columns() -> Iterator[pa.ChunkedArray | pa.Array]:
        for field in schema:
            if field.name in fragment.partition:
                value = partition_scalar(fragment.partition[field.name], field.type)
                yield pa.array([value] * rows.num_rows, field.type)
            elif field.name in rows.column_names:
                yield rows.column(field.name).cast(field.type)
            else:
                yield pa.nulls(rows.num_rows, field.type)

    return pa.Table.from_arrays(list(columns()), schema=schema)


# --- the folder -------------------------------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_delta(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files that are not part of a Delta table, whose names are random; the marker lists those names."""
    deltas = tuple({name.split("_delta_log")[0] for name in files if "_delta_log" in name})
    return {name: data for name, data in files.items() if not name.startswith(deltas) and name != MARKER}


def test_a_sample_is_replaced_by_the_same_sample(truth: SampleTruth, tmp_path: Path) -> None:
    """Also in a folder whose name Delta's writer would not take, and after its files and marker were edited."""
    folder = tmp_path / "my%20lake [1] #é"
    shutil.copytree(truth.folder, folder)
    (folder / "sales" / "products.parquet").unlink()
    (folder / "exports" / "products.tsv").write_text("edited")
    (tmp_path / "data").write_text("precious")
    names = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps([*names, "../data"]))
    again = write_sample(str(folder), overwrite=True)
    assert (again.edges, again.plants, again.unions) == (truth.edges, truth.plants, truth.unions)
    assert without_delta(listing(folder)) == without_delta(listing(Path(truth.folder)))
    assert tuple(table.id for table in discover(str(folder)).tables) == truth.tables
    assert (tmp_path / "data").read_text() == "precious"
    assert set(os.listdir(tmp_path)) == {folder.name, "data"}


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a\n1\n")
    with pytest.raises(UsageError, match="is not empty"):
        write_sample(str(tmp_path))
    with pytest.raises(UsageError, match="was not written by the sample"):
        write_sample(str(tmp_path), overwrite=True)
    assert listing(tmp_path) == {"mine.csv": b"a\n1\n"}


@pytest.mark.parametrize("marker", ["{", '{"a": 1}', "[1]", "\udcff"])
def test_a_damaged_marker_replaces_nothing(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_bytes(marker.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="is damaged"):
        write_sample(str(tmp_path), overwrite=True)


@pytest.mark.parametrize("make", ["file", "link", "linked folder", "empty folder"])
def test_what_a_person_added_to_a_sample_is_kept(tmp_path: Path, make: str) -> None:
    lake, elsewhere = tmp_path / "lake", tmp_path / "elsewhere"
    (lake / "sales").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "data").write_text("precious")
    (lake / "sales" / "a.csv").write_text("a\n")
    (lake / MARKER).write_text('["_r2d2_sample", "sales/a.csv", "../elsewhere/data"]')
    added = lake / "sales" / "added"
    if make == "file":
        added.write_text("mine")
    elif make == "empty folder":
        added.mkdir()
    else:
        added.symlink_to(elsewhere / "data" if make == "link" else elsewhere)
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="did not write, 'sales/added' among them"):
        write_sample(str(lake), overwrite=True)
    assert listing(tmp_path) == before
    assert os.path.lexists(added)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        write_sample(str(tmp_path / "file"))
    with pytest.raises(UsageError, match="is a URL"):
        write_sample("s3://bucket/lake")
    with pytest.raises(UsageError, match="cannot be written"):
        write_sample(str(tmp_path / "file" / "lake"))
