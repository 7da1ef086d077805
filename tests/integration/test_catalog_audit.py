"""Whole audits of a pyiceberg catalog: what is compared, what a commit does to it, and how wrong usage ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from r2d2.config import AuditConfig
from r2d2.errors import LakeError, UsageError
from r2d2.pipeline import audit
from r2d2.session import Engine
from tests.integration.audit_helpers import EdgeKey, Results
from tests.integration.iceberg_tables import commit, equality_file, with_ids
from tests.integration.test_iceberg_tables import at_the_end_of, decisions, edge, equal, orders
from tests.unit.test_catalog import configure

HOSTILE = "a'; DROP `x`\n<b>$(id)"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlCatalog]:
    """The catalog `main` with the namespaces `sales`, `sales.eu` and `hr`."""
    properties = {"uri": f"sqlite:///{tmp_path}/main.db", "warehouse": f"file://{tmp_path}/lake"}
    configure(monkeypatch, tmp_path, main={"type": "sql", **properties})
    made = SqlCatalog("main", **properties)
    for namespace in ("sales", "sales.eu", "hr"):
        made.create_namespace(namespace)
    yield made
    made.close()


def create(catalog: SqlCatalog, *names: str, rows: pa.Table, **options: Any) -> Any:
    table = catalog.create_table(names, rows.schema, **options)
    table.append(rows)
    return table


def run(out: Path, engine: Engine, **options: Any) -> Results:
    audit(AuditConfig(catalog="main", out=str(out), **options), spark=engine.spark)
    return Results.read(out)


def folder_of(table: Any) -> Path:
    return Path(table.location().removeprefix("file://"))


@pytest.mark.core("spark")
def test_tables_of_a_catalog_are_compared_at_what_it_names(catalog: SqlCatalog, tmp_path: Path, engine: Engine) -> None:
    create(catalog, "sales", "orders", rows=orders(range(20)))
    create(catalog, "sales", "eu", HOSTILE, rows=orders(range(5)), location=f"file://{tmp_path}/lake/odd")
    create(catalog, "hr", "all", rows=orders(range(30)))
    deleted_from = create(catalog, "sales", "some", rows=orders(range(25)))
    ids = with_ids(pa.schema([("id", pa.int32())]), [1])
    gone = pa.table({"id": pa.array(range(20, 25), pa.int32())}, schema=ids)
    commit(folder_of(deleted_from), [equality_file(folder_of(deleted_from) / "data/d.parquet", gone, [1])])
    register_newest(catalog, "sales.some", folder_of(deleted_from))
    dropped = create(catalog, "hr", "dropped", rows=orders(range(3)))
    catalog.drop_table("hr.dropped")
    orphan = folder_of(dropped) / "data"
    assert list(orphan.glob("*.parquet")), "its files stay, and no table has them"

    results = run(tmp_path / "out", engine)
    assert results.not_ok() == {}
    odd, some, whole, everything = (
        f"main.sales.eu.{HOSTILE}", "main.sales.some", "main.sales.orders", "main.hr.all"
    )  # fmt: skip
    within = {edge(child, everything, n, 30) for child, n in ((odd, 5), (some, 20), (whole, 20))}
    assert results.edge_keys == within | equal(some, whole, rows=20) | {
        edge(odd, some, 5, 20),
        edge(odd, whole, 5, 20),
    }
    assert results.proposals == []
    assert (results.summary["config"]["lake"], results.summary["config"]["catalog"]) == (None, "main")
    page = (tmp_path / "out/report.html").read_text()
    assert "catalog main" in page
    assert "<b>$(id)" not in page


def register_newest(catalog: SqlCatalog, name: str, folder: Path) -> None:
    from tests.integration.iceberg_tables import newest_metadata

    catalog.drop_table(name)
    catalog.register_table(name, f"file://{newest_metadata(folder)}")


def test_only_chosen_namespaces_are_looked_at(catalog: SqlCatalog, tmp_path: Path, engine: Engine) -> None:
    for names in (("sales", "t"), ("sales", "eu", "t"), ("hr", "t")):
        create(catalog, *names, rows=orders(range(3)))
    results = run(tmp_path / "out", engine, schema=("sales*",))
    assert results.edge_keys == equal("main.sales.t", "main.sales.eu.t", rows=3)
    assert [row["table"] for row in results.tables] == ["main.sales.eu.t", "main.sales.t"]
    assert "catalog main (sales*)" in (tmp_path / "out/report.html").read_text()
    none = run(tmp_path / "out", engine, schema=("nothing",))
    assert (none.tables, none.edges) == ([], [])


def test_a_commit_or_a_drop_during_the_audit_keeps_the_table(
    catalog: SqlCatalog, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = create(catalog, "sales", "t", rows=orders(range(3)))
    for name in ("u", "v"):
        create(catalog, "sales", name, rows=orders(range(3)))

    def change() -> None:
        table.append(orders(range(3, 4)))
        catalog.drop_table("sales.u")

    at_the_end_of(monkeypatch, "run_verify", change)
    results = run(tmp_path / "out", engine)
    assert results.not_ok() == {}
    assert results.edge_keys == equal("main.sales.t", "main.sales.u", "main.sales.v", rows=3)
    newer = "kept: a newer version was written during the audit"
    reasons = {row["table"]: row["reason"] for row in decisions(tmp_path / "out")}
    assert [name for name, reason in reasons.items() if reason == newer] == ["main.sales.t", "main.sales.u"]


def test_what_cannot_be_read_is_said_of_each_table(catalog: SqlCatalog, tmp_path: Path, engine: Engine) -> None:
    """And two tables of one location, or that share a file, bind one another."""
    broken = create(catalog, "hr", "broken", rows=orders(range(3)))
    Path(broken.metadata_location.removeprefix("file://")).unlink()
    lost = create(catalog, "hr", "lost", rows=orders(range(3)))
    next((folder_of(lost) / "data").glob("*.parquet")).unlink()
    twin = create(catalog, "hr", "one", rows=orders(range(3)))
    catalog.register_table("hr.two", twin.metadata_location)
    adopting = catalog.create_table("sales.adopting", orders([]).schema)
    plain = folder_of(lost) / "data/plain.parquet"
    pq.write_table(orders(range(3)), plain)
    adopting.add_files([f"file://{plain}"])
    results = run(tmp_path / "out", engine)
    assert results.not_ok() == {
        "main.hr.broken": ("failed", "the catalog cannot load it: FileNotFoundError"),
        "main.hr.lost": ("failed", "a file named by the manifests is missing"),
    }
    names = ("main.hr.one", "main.hr.two", "main.sales.adopting")
    assert results.edge_keys == equal(*names, rows=3)
    reasons = {row["table"]: row["reason"] for row in decisions(tmp_path / "out")}
    read_by_another = "kept: another table of the lake reads its files, or lies in its folder"
    assert [reasons[name] for name in names] == [
        read_by_another,
        read_by_another,
        "kept: it reads files that are not its own",
    ]


def test_results_never_lie_in_a_table(catalog: SqlCatalog, tmp_path: Path, engine: Engine) -> None:
    table = create(catalog, "hr", "t", rows=orders(range(3)))
    before = sorted(folder_of(table).rglob("*"))
    with pytest.raises(UsageError, match="inside the lake"):
        run(folder_of(table) / "out", engine)
    assert sorted(folder_of(table).rglob("*")) == before


def test_an_unknown_catalog_leaves_nothing_behind(catalog: SqlCatalog, tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(LakeError, match="the catalog 'other' cannot be opened"):
        audit(AuditConfig(catalog="other", out=str(tmp_path / "out")), spark=engine.spark)
    assert not (tmp_path / "out").exists()


def test_a_broken_configuration_of_the_library_is_said_at_once(catalog: SqlCatalog, tmp_path: Path) -> None:
    """Also where no catalog is asked for."""
    create(catalog, "hr", "t", rows=orders(range(3)))
    (tmp_path / ".pyiceberg.yaml").write_text("catalog: {")
    environment = {**os.environ, "PYICEBERG_HOME": str(tmp_path)}
    for source, status in ((["--catalog", "main"], 4), ([str(tmp_path / "lake")], 2)):
        command = [sys.executable, "-m", "r2d2.cli", "audit", *source, "--out", str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, done.stdout) == (status, "")
        assert ".pyiceberg.yaml" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_command_line_takes_the_catalog_from_the_environment(
    catalog: SqlCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(catalog, "sales", "t", rows=orders(range(3)))
    create(catalog, "hr", "t", rows=orders(range(2)))
    monkeypatch.setenv("PYICEBERG_HOME", "/nowhere")
    monkeypatch.setenv("PYICEBERG_CATALOG__MAIN__URI", f"sqlite:///{tmp_path}/main.db")

    def ended(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "r2d2.cli", "audit", "--out", str(tmp_path / "out"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=dict(os.environ))
        return done.returncode, done.stdout, done.stderr

    status, shown, said = ended("--catalog", "main", "--json")
    assert (status, said) == (0, "")
    assert json.loads(shown)["counts"]["verified_edges"] == 1
    expected: set[EdgeKey] = {edge("main.hr.t", "main.sales.t", 2, 3)}
    assert Results.read(tmp_path / "out").edge_keys == expected
    status, shown, said = ended("--catalog", "nowhere")
    assert (status, shown) == (4, "")
    assert said.startswith("r2d2: the catalog 'nowhere' cannot be opened: ")
    assert len(said.splitlines()) == 1
