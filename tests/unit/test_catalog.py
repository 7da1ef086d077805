"""Which tables a catalog has, as pyiceberg's configuration names it, and at which metadata file each is pinned."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyiceberg.catalog
import pytest
import yaml
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.utils.config import Config

from r2d2.errors import LakeError
from r2d2.lake.harvest import found_from_json, found_to_json
from r2d2.lake.iceberg.catalog import current_metadata, discover_catalog
from r2d2.lake.iceberg.table import harvest_iceberg
from r2d2.model import Format, FoundTable, Status
from tests.integration.iceberg_tables import Lake

ROWS = pa.table({"id": [1, 2]})
SECRET = "SECRET-4711"


def configure(patch: pytest.MonkeyPatch, home: Path, **catalogs: dict[str, str]) -> None:
    """Write pyiceberg's configuration and have it read again."""
    if catalogs:
        (home / ".pyiceberg.yaml").write_text(yaml.safe_dump({"catalog": catalogs}))
    patch.setenv("PYICEBERG_HOME", str(home))
    patch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlCatalog]:
    """The catalog `main`, empty."""
    properties = {"uri": f"sqlite:///{tmp_path}/main.db", "warehouse": f"file://{tmp_path}/lake"}
    configure(monkeypatch, tmp_path, main={"type": "sql", **properties})
    made = SqlCatalog("main", **properties)
    yield made
    made.close()


def create(catalog: SqlCatalog, *names: str, **options: Any) -> Any:
    catalog.create_namespace_if_not_exists(names[:-1])
    table = catalog.create_table(names, ROWS.schema, **options)
    table.append(ROWS)
    return table


def by_id(*patterns: str) -> dict[str, FoundTable]:
    return {table.id: table for table in discover_catalog("main", patterns)}


def test_tables_of_all_namespaces_are_found_at_their_metadata_file(catalog: SqlCatalog, tmp_path: Path) -> None:
    tables = {name: create(catalog, *name.split(".")) for name in ("sales.orders", "sales.eu.orders", "hr.people")}
    catalog.create_namespace("empty")
    found = by_id()
    assert list(found) == sorted(f"main.{name}" for name in tables)
    assert [table.table for table in found.values()] == [0, 1, 2]
    for name, table in tables.items():
        one = found[f"main.{name}"]
        assert (one.format, one.fault) == (Format.ICEBERG, None)
        assert f"file://{one.metadata}" == table.metadata_location
        assert f"file://{one.uri}" == table.location()
        assert found_from_json(found_to_json(one)) == one
        assert harvest_iceberg(one).version == str(table.metadata.current_snapshot_id)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["sales*"], ["main.sales.eu.t", "main.sales.t", "main.sales_old.t"]),
        (["sales"], ["main.sales.t"]),
        (["sales.*", "hr"], ["main.hr.t", "main.sales.eu.t"]),
        (["SALES"], []),
        (["[hs]?"], ["main.hr.t"]),
        (["*"], ["main.hr.t", "main.sales.eu.t", "main.sales.t", "main.sales_old.t"]),
        ([""], []),
    ],
)
def test_patterns_choose_namespaces(catalog: SqlCatalog, patterns: list[str], names: list[str]) -> None:
    for namespace in ("sales", "sales.eu", "sales_old", "hr"):
        create(catalog, *namespace.split("."), "t")
    assert list(by_id(*patterns)) == names


def test_the_metadata_file_counts_that_the_catalog_names_whatever_lies_beside_it(
    catalog: SqlCatalog, tmp_path: Path
) -> None:
    table = create(catalog, "n", "t")
    pinned = by_id()["main.n.t"]
    version = table.metadata.current_snapshot_id
    table.append(ROWS)
    newer = Path(table.metadata_location.removeprefix("file://"))
    shutil.copy(newer, newer.with_name(newer.name.replace("00002-", "00009-")))
    assert harvest_iceberg(pinned).version == str(version)
    assert harvest_iceberg(pinned).rows == 2
    assert harvest_iceberg(by_id()["main.n.t"]).rows == 4
    catalog.drop_table("n.t")
    elsewhere = tmp_path / "elsewhere.metadata.json"
    shutil.move(newer, elsewhere)
    catalog.register_table("n.t", f"file://{elsewhere}")
    found = by_id()["main.n.t"]
    assert (found.metadata, harvest_iceberg(found).rows) == (str(elsewhere), 4)


def test_metadata_in_another_folder_is_read_through_its_catalog(catalog: SqlCatalog, tmp_path: Path) -> None:
    properties = {f"write.{kind}.path": f"file://{tmp_path}/other/{kind}" for kind in ("metadata", "data")}
    table = create(catalog, "n", "t", properties=properties)
    found = by_id()["main.n.t"]
    assert str(found.metadata).startswith(f"{tmp_path}/other/metadata/")
    shutil.rmtree(found.uri, ignore_errors=True)
    made = harvest_iceberg(found)
    assert (made.rows, made.history_bytes) == (2, 0)
    assert f"file://{made.fragments[0].data_uri}".startswith(f"{properties['write.data.path']}/")
    assert f"file://{found.uri}" == table.location()


def test_a_commit_or_a_drop_changes_what_is_current(catalog: SqlCatalog) -> None:
    table, _ = create(catalog, "n", "t"), create(catalog, "n", "u")
    before = current_metadata("main")
    assert before == {table.id: table.metadata for table in discover_catalog("main")}
    table.append(ROWS)
    catalog.drop_table("n.u")
    now = current_metadata("main")
    assert list(now) == ["main.n.t"]
    assert now["main.n.t"] != before["main.n.t"]
    catalog.destroy_tables()
    assert current_metadata("main") == {}


def test_what_cannot_be_loaded_is_a_fault_of_its_own_table(catalog: SqlCatalog) -> None:
    broken, missing, _ = (create(catalog, "n", name) for name in ("broken", "missing", "good"))
    Path(broken.metadata_location.removeprefix("file://")).write_text(f'{{"{SECRET}": ')
    Path(missing.metadata_location.removeprefix("file://")).unlink()
    found = by_id()
    assert {name: table.fault for name, table in found.items()} == {
        "main.n.broken": "the catalog cannot load it: ValidationError",
        "main.n.good": None,
        "main.n.missing": "the catalog cannot load it: FileNotFoundError",
    }
    assert {table.uri for table in found.values() if table.fault} == {""}


def test_views_and_namespaces_that_cannot_be_listed_are_named(
    catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(catalog, "n", "t")
    catalog.create_namespace("secret")
    list_tables = SqlCatalog.list_tables

    def refuse(self: SqlCatalog, namespace: Any) -> Any:
        if namespace == ("secret",):
            raise PermissionError(SECRET)
        return list_tables(self, namespace)

    monkeypatch.setattr(SqlCatalog, "list_tables", refuse)
    monkeypatch.setattr(SqlCatalog, "list_views", lambda _, namespace: [(*namespace, "v")])
    found = {name: (table.fault, table.fault_status) for name, table in by_id().items()}
    assert found == {
        "main.n.t": (None, Status.FAILED),
        "main.n.v": ("views are not read", Status.UNSUPPORTED),
        "main.secret": ("its tables cannot be listed: PermissionError", Status.FAILED),
    }


@pytest.mark.parametrize("name", ["a b%20", "é'", "x[1]*", "$(id)", 'q"`', "a\nb", "..", "a/b", "t.u"])
def test_names_are_taken_literally(catalog: SqlCatalog, tmp_path: Path, name: str) -> None:
    create(catalog, "n", name, location=f"file://{tmp_path}/lake/x")
    (found,) = discover_catalog("main")
    assert (found.id, found.fault) == (f"main.n.{name}", None)
    assert harvest_iceberg(found).rows == 2


def test_one_id_for_two_tables_is_numbered(catalog: SqlCatalog) -> None:
    create(catalog, "a", "b", "c")
    create(catalog, "a", "b.c")
    assert list(by_id()) == ["main.a.b.c", "main.a.b.c (2)"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "the catalog 'x' cannot be opened: ValueError; configure it in .pyiceberg.yaml"),
        ({"type": "no-such-type"}, "the catalog 'x' cannot be opened: ValueError"),
        ({"type": "sql", "uri": f"sqlite:////nowhere/{SECRET}/x.db"}, "catalog 'x' cannot be"),
        ({"type": "rest", "uri": f"http://user:{SECRET}@127.0.0.1:1/"}, "the catalog 'x' cannot be opened"),
    ],
)
def test_no_catalog_or_one_out_of_reach_is_an_error_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, str], says: str
) -> None:
    configure(monkeypatch, tmp_path, **({"x": config} if config else {}))
    with pytest.raises(LakeError, match=says) as refused:
        discover_catalog("x")
    assert SECRET not in str(refused.value)
    assert current_metadata("x") == {}


def test_nothing_is_written_where_there_is_no_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "new.db"
    database.touch()
    configure(monkeypatch, tmp_path, x={"type": "sql", "uri": f"sqlite:///{database}"})
    with pytest.raises(LakeError, match="namespaces of catalog 'x' cannot be listed: OperationalError"):
        discover_catalog("x")
    assert database.read_bytes() == b""


def test_the_lake_of_a_catalog_is_found_by_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways lead to the same harvest."""
    from tests.integration.iceberg_tables import harvest

    with Lake(tmp_path) as lake:
        configure(monkeypatch, tmp_path, c={"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db"})
        lake.create("t", ROWS.schema).append(ROWS)
        (found,) = discover_catalog("c")
        assert found.id == "c.n.t"
        assert harvest_iceberg(found) == harvest(lake.folder("t"))
