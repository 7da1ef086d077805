"""A lake in an S3-compatible store gives the same results as its local copy."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from deltalake import write_deltalake
from moto.server import ThreadedMotoServer
from pyiceberg.catalog import load_catalog

from r2d2.config import AuditConfig
from r2d2.errors import LakeError
from r2d2.pipeline import audit
from tests.integration.audit_helpers import Results, run_audit
from tests.unit.test_catalog import configure

pytestmark = pytest.mark.slow

ROWS = pa.table(
    {
        "id": pa.array(range(30), pa.int64()),
        "kind": [("a b", "ü", "c=d")[n % 3] for n in range(30)],
        "note": [None if n % 4 == 0 else f"n{n}" for n in range(30)],
    }
)
BUCKET = "lakes"


@pytest.fixture(scope="module")
def store() -> Iterator[s3fs.S3FileSystem]:
    """A running store with an empty bucket; everybody finds it through the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        for region in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.setenv(region, "us-east-1")
        patch.setenv("AWS_ALLOW_HTTP", "true")  # Sail refuses plain HTTP without it
        s3fs.S3FileSystem.clear_instance_cache()
        fs = s3fs.S3FileSystem()
        fs.mkdir(BUCKET)
        yield fs
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def lake(store: s3fs.S3FileSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local lake whose copy lies in the bucket, under `lake`."""
    folder = tmp_path_factory.mktemp("store") / "lake"
    write_lake(folder)
    store.put(str(folder), f"{BUCKET}/lake", recursive=True)
    return folder


def write_lake(lake: Path) -> None:
    for folder in ("folder", "hive/kind=a b", "hive/kind=c=d"):
        (lake / folder).mkdir(parents=True)
    pq.write_table(ROWS, lake / "all.parquet")
    pq.write_table(ROWS.slice(0, 20), lake / "folder" / "part-0.parquet")
    pq.write_table(ROWS.slice(20).select(["note", "id", "kind"]), lake / "folder" / "part-1.parquet")
    for number, kind in ((0, "a b"), (2, "c=d")):
        pq.write_table(ROWS.slice(number, 1).drop_columns(["kind"]), lake / "hive" / f"kind={kind}" / "x.parquet")
    pq.write_table(ROWS.select(["id", "note"]), lake / "it's 50%, ü.parquet")
    write_deltalake(str(lake / "delta"), ROWS.slice(0, 10))
    write_deltalake(str(lake / "delta"), ROWS.slice(10, 15), mode="append")
    write_deltalake(str(lake / "parted"), ROWS, partition_by=["kind"])
    (lake / "few.csv").write_text("id,note\n0,\n1,n1\n2,n2\n")
    (lake / "few.csv.gz").write_bytes(gzip.compress(b"id,note\n2,n2\n1,n1\n"))
    (lake / "lines.jsonl").write_text('{"id": 5, "kind": "c=d"}\n{"id": 3, "kind": "a b"}\n')
    (lake / "ragged.csv").write_text("id,note\n0\n")


def recipes(results: Results) -> list[tuple[str, str]]:
    return [(row["table"], row["recipe_sql"]) for row in results.proposals]


@pytest.mark.parametrize(("reader", "work"), [("files", None), ("engine", f"s3://{BUCKET}/scratch")])
def test_a_lake_in_a_bucket_gives_what_its_local_copy_gives(
    store: s3fs.S3FileSystem, lake: Path, tmp_path: Path, reader: str, work: str | None
) -> None:
    local = run_audit(lake, tmp_path / "local", reader=reader)
    remote = run_audit(f"s3://{BUCKET}/lake", tmp_path / "remote", reader=reader, work=work)
    store.invalidate_cache()
    assert store.find(f"{BUCKET}/scratch") == []
    assert set(local.not_ok()) == {"ragged.csv"}
    assert remote.not_ok() == local.not_ok()
    assert remote.edge_keys == local.edge_keys
    assert len(local.edges) > 20
    assert recipes(remote) == recipes(local)
    assert len(remote.proposals) >= 3
    described = ("table", "format", "rows", "bytes", "files", "columns", "status")
    assert [[row[name] for name in described] for row in remote.tables] == [
        [row[name] for name in described] for row in local.tables
    ]


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/nothing/here", "s3://no-such-bucket/lake"])
def test_a_lake_that_is_not_there_is_an_error_of_the_lake(store: s3fs.S3FileSystem, tmp_path: Path, uri: str) -> None:
    with pytest.raises(LakeError, match=r"does not exist|cannot be listed"):
        run_audit(uri, tmp_path / "out")


def test_a_glue_catalog_over_a_bucket_is_audited(
    store: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"warehouse": f"s3://{BUCKET}/warehouse", "s3.endpoint": os.environ["AWS_ENDPOINT_URL"]}
    configure(monkeypatch, tmp_path, main={"type": "glue", "s3.region": "us-east-1", **place})
    catalog = load_catalog("main")
    for name, rows in (("sales.all", ROWS), ("sales.some", ROWS.slice(3, 9)), ("hr.other", ROWS.slice(0, 2))):
        catalog.create_namespace_if_not_exists(name.split(".")[0])
        catalog.create_table(name, ROWS.schema).append(rows)
    audit(AuditConfig(catalog="main", schema=("sales",), out=str(tmp_path / "out")))
    results = Results.read(tmp_path / "out")
    assert results.not_ok() == {}
    assert [(row["child"], row["parent"]) for row in results.edges] == [("main.sales.some", "main.sales.all")]
