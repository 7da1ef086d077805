"""Whole audits of lakes with Iceberg tables: what they contain, what reads their files, and what may go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from pyiceberg.types import LongType

from r2d2.lake.iceberg.table import NO_PARENT_REASON
from r2d2.session import Engine
from tests.integration.audit_helpers import EdgeKey, Results, run_audit
from tests.integration.iceberg_tables import Lake, commit, delete_file, edit_metadata, newest_metadata, vector_file


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path) as made:
        made.path.mkdir(exist_ok=True)
        yield made


def orders(numbers: range | list[int]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(numbers, pa.int32()),
            "region": pa.array([("north", "south é", None)[n % 3] for n in numbers], pa.string()),
            "amount": pa.array([float("nan") if n % 7 == 0 else n / 8 for n in numbers], pa.float64()),
        }
    )


def iceberg(lake: Lake, name: str, *parts: pa.Table) -> Any:
    table = lake.create(name, parts[0].schema)
    for part in parts:
        table.append(part)
    return table


def parquet(lake: Lake, name: str, rows: pa.Table) -> None:
    (lake.path / name).mkdir(parents=True)
    pq.write_table(rows, lake.path / name / "part-0.parquet")


def edge(child: str, parent: str, rows: int, of: int) -> EdgeKey:
    return child, parent, "equal" if rows == of else "contained", True, True, rows, of


def equal(*names: str, rows: int) -> set[EdgeKey]:
    return {edge(one, other, rows, rows) for one in names for other in names if one != other}


def proposed(results: Results) -> dict[str, list[str]]:
    return {row["table"]: row["parents"] for row in results.proposals}


@pytest.mark.core("spark")
def test_iceberg_and_parquet_contain_one_another_and_only_parquet_rebuilds(
    lake: Lake, tmp_path: Path, engine: Engine
) -> None:
    iceberg(lake, "ice", orders(range(30)), orders(range(30, 40)))
    iceberg(lake, "part", orders(range(10, 20)))
    parquet(lake, "copy", orders(range(40)))
    parquet(lake, "some", orders(range(5, 25)))
    parquet(lake, "other", orders(range(35, 45)))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {}
    bigger = {edge(child, parent, n, 40) for child, n in (("part", 10), ("some", 20)) for parent in ("ice", "copy")}
    assert results.edge_keys == equal("ice", "copy", rows=40) | bigger | {edge("part", "some", 10, 20)}
    assert proposed(results)["ice"] == ["copy"]
    assert "copy" not in proposed(results)
    assert all("ice" not in parents and "part" not in parents for parents in proposed(results).values())
    (row,) = [row for row in results.tables if row["table"] == "ice"]
    assert (row["format"], row["rows"], row["files"]) == ("iceberg", 40, 2)
    assert row["version"] == str(lake.catalog.load_table("n.ice").metadata.current_snapshot_id)


def test_evolved_and_deleted_from_tables_are_compared_as_they_are_read(
    lake: Lake, tmp_path: Path, engine: Engine
) -> None:
    table = iceberg(lake, "ice", orders(range(20)))
    with table.update_schema() as update:
        update.rename_column("region", "place")
        update.update_column("id", LongType())
        update.delete_column("amount")
    with table.update_schema() as update:
        update.add_column("region", LongType())
    paths = [task.file.file_path for task in table.scan().plan_files()]
    commit(lake.folder("ice"), [delete_file(lake.folder("ice") / "data/d.parquet", [(paths[0], n) for n in range(5)])])
    table = iceberg(lake, "vector", orders(range(20)))
    paths = [task.file.file_path for task in table.scan().plan_files()]
    commit(lake.folder("vector"), [vector_file(lake.folder("vector") / "data/v.puffin", paths[0], range(5))])
    edit_metadata(lake.folder("vector"), **{"format-version": 3, "next-row-id": 0})

    live = orders(range(5, 20))
    renamed = pa.table({"id": live["id"], "place": live["region"], "region": pa.nulls(15, pa.int64())})
    parquet(lake, "as_it_is", renamed)
    parquet(lake, "as_it_was", orders(range(20)))
    parquet(lake, "without", live)
    parquet(lake, "deleted", orders(range(5)))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {}
    within = {edge(child, "as_it_was", n, 20) for child, n in (("without", 15), ("vector", 15), ("deleted", 5))}
    assert results.edge_keys == (equal("ice", "as_it_is", rows=15) | equal("vector", "without", rows=15) | within)


def test_tables_whose_files_an_iceberg_table_has_adopted_stay(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    """So does what was adopted in an older snapshot, or by a table that is not read."""
    for name in ("source", "older", "broken", "free"):
        parquet(lake, name, orders(range(10)))
    parquet(lake, "all", orders(range(20)))
    for name, files in (("ice", ["source"]), ("was", ["older"]), ("unread", ["broken"])):
        table = lake.create(name, orders([]).schema)
        table.add_files([f"file://{lake.path}/{file}/part-0.parquet" for file in files])
        if name == "was":
            table.overwrite(orders(range(100, 103)))
    edit_metadata(lake.folder("unread"), **{"format-version": 9})
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {"unread": ("unsupported", "Iceberg format version 9 is not supported")}
    assert edge("source", "all", 10, 20) in results.edge_keys
    assert edge("ice", "all", 10, 20) in results.edge_keys
    assert not {"source", "older", "broken", "ice", "was"} & set(proposed(results))
    assert proposed(results)["free"]


def test_empty_tables_without_files_are_contained_in_one_another(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    lake.create("one", orders([]).schema)
    lake.create("two", orders([]).schema)
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {}
    assert results.edge_keys == equal("one", "two", rows=0)
    iceberg(lake, "three", orders([1]))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.edge_keys == equal("one", "two", rows=0) | {
        edge("one", "three", 0, 1),
        edge("two", "three", 0, 1),
    }


def test_what_cannot_be_read_is_said_of_each_table(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    iceberg(lake, "good", orders(range(3)))
    for name in ("cut", "gone", "list"):
        iceberg(lake, name, orders(range(3)))
    newest = newest_metadata(lake.folder("cut"))
    newest.write_bytes(newest.read_bytes()[:100])
    next(lake.folder("gone").glob("data/*.parquet")).unlink()
    next(lake.folder("list").glob("metadata/snap-*.avro")).write_bytes(b"")
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {
        "cut": ("failed", "the table's metadata file cannot be read: JSONDecodeError"),
        "gone": ("failed", "a file named by the manifests is missing"),
        "list": ("failed", "a manifest list of the table cannot be read: EOFError"),
    }
    assert results.edge_keys == set()


def test_the_engines_reader_is_refused(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    iceberg(lake, "ice", orders(range(3)))
    parquet(lake, "copy", orders(range(3)))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark, reader="engine")
    status, reason = results.not_ok()["ice"]
    assert (status, "Iceberg's own runtime" in reason) == ("unsupported", True)
    assert results.status("copy") == "ok"


def test_a_commit_during_the_audit_keeps_the_table_and_its_edges(
    lake: Lake, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = iceberg(lake, "ice", orders(range(5)))
    parquet(lake, "copy", orders(range(5)))
    at_the_end_of(monkeypatch, "run_verify", lambda: table.append(orders(range(5, 6))))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.not_ok() == {}
    assert results.edge_keys == equal("ice", "copy", rows=5)
    assert proposed(results) == {}


def at_the_end_of(monkeypatch: pytest.MonkeyPatch, stage: str, action: Callable[[], object]) -> None:
    """Something happens to the lake when a stage of the audit ends."""
    import r2d2.pipeline as pipeline

    whole = getattr(pipeline, stage)

    def run(*args: Any, **options: Any) -> Any:
        result = whole(*args, **options)
        action()
        return result

    monkeypatch.setattr(pipeline, stage, run)


def test_a_copied_table_reads_the_files_of_its_source_and_binds_it(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    iceberg(lake, "ice", orders(range(5)))
    shutil.copytree(lake.folder("ice"), lake.path / "copied")
    parquet(lake, "copy", orders(range(9)))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert edge("ice", "copied", 5, 5) in results.edge_keys
    assert proposed(results) == {}
    reasons = {row["table"]: row["reason"] for row in decisions(tmp_path / "out")}
    assert reasons["ice"] == "kept: another table of the lake reads its files, or lies in its folder"
    assert reasons["copied"] == "kept: it reads files that are not its own"


def decisions(out: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(out / "decisions.parquet").to_pylist())


def test_no_row_value_or_query_of_an_iceberg_table_is_a_parents(lake: Lake, tmp_path: Path, engine: Engine) -> None:
    iceberg(lake, "ice", orders(range(5)))
    iceberg(lake, "twin", orders(range(5)))
    results = run_audit(lake.path, tmp_path / "out", spark=engine.spark)
    assert results.edge_keys == equal("ice", "twin", rows=5)
    assert proposed(results) == {}
    assert "Iceberg" in NO_PARENT_REASON
    assert json.loads((tmp_path / "out/summary.json").read_text())["counts"]["deletable"] == 0


@pytest.fixture
def bucket() -> Iterator[str]:
    """The URL of an empty bucket in a running store, which everybody finds through the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("ice")
        yield "s3://ice"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.slow
def test_a_table_in_a_bucket_is_read_like_a_local_one(tmp_path: Path, bucket: str) -> None:
    store = {
        "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
        "s3.access-key-id": "test",
        "s3.secret-access-key": "test",
        "s3.region": "us-east-1",
    }
    with Lake(tmp_path) as local, Lake(tmp_path / "other", location=f"{bucket}/lake", **store) as remote:
        for lake in (local, remote):
            table = iceberg(lake, "a b%20", orders(range(10)), orders(range(10, 20)))
            with table.update_schema() as update:
                update.rename_column("region", "place")
            iceberg(lake, "part", orders(range(5)).rename_columns(["id", "place", "amount"]))
        here = run_audit(local.path, tmp_path / "here")
        there = run_audit(f"{bucket}/lake", tmp_path / "there")
    assert there.not_ok() == {}
    assert there.edge_keys == here.edge_keys == {edge("part", "a b%20", 5, 20)}
    described = ("table", "format", "rows", "bytes", "files", "columns")
    assert [[row[name] for name in described] for row in there.tables] == [
        [row[name] for name in described] for row in here.tables
    ]
