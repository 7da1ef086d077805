"""Databases of kernels are used again, and nothing of a kernel stays in them."""

from __future__ import annotations

import gc
import io
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from r2d2.scan import duck
from r2d2.scan.duck import KernelLimits, connect

LIMITS = KernelLimits(machine_bytes=200 << 20)


@pytest.fixture(autouse=True)
def no_databases_wait() -> Iterator[None]:
    duck._IDLE.clear()
    yield
    duck._IDLE.clear()


def waiting() -> int:
    return len(duck._IDLE[LIMITS])


def test_what_a_kernel_made_is_gone() -> None:
    table = pa.table({"x": range(10_000)})
    held = weakref.ref(table)
    with connect(LIMITS) as connection:
        connection.execute("CREATE TEMP TABLE made AS SELECT 1")
        connection.register("given", table)
        connection.execute("SET preserve_insertion_order = true")
        reader = connection.sql("SELECT * FROM given").to_arrow_reader(100)
        next(reader)
    assert waiting() == 1
    del table, reader
    gc.collect()
    assert held() is None
    with connect(LIMITS) as connection:
        assert waiting() == 0
        names = (
            "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
        )
        assert connection.sql(names).fetchall() == []
        settings = "SELECT current_setting('preserve_insertion_order'), current_setting('TimeZone')"
        assert connection.sql(settings).fetchall() == [(False, "UTC")]


def test_each_kernel_reads_from_the_store_that_is_meant_now() -> None:
    class Store(MemoryFileSystem):
        protocol = ("first", "second")  # a database lists only the first
        cachable = False
        text = ""

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path]

        def open(self, *_: Any, **__: Any) -> io.BytesIO:
            return io.BytesIO(self.text.encode())

        def size(self, _: str) -> int:
            return len(self.text)

    for text in ("one", "two"):
        store = Store()
        store.text = text
        with connect(LIMITS) as connection:
            connection.register_filesystem(store)
            assert connection.sql("SELECT content FROM read_text('first://x')").fetchall() == [(text,)]
        assert waiting() == 1


def test_a_database_with_an_error_is_not_used_again() -> None:
    with pytest.raises(duckdb.Error), connect(LIMITS) as connection:
        connection.execute("SELECT nothing")
    assert waiting() == 0


def test_one_that_was_closed_meanwhile_is_replaced() -> None:
    with connect(LIMITS):
        pass
    duck._IDLE[LIMITS][0].close()
    with connect(LIMITS) as connection:
        assert connection.sql("SELECT 1").fetchall() == [(1,)]


def test_what_was_spilled_is_removed() -> None:
    with connect(LIMITS) as connection:
        ((scratch,),) = connection.sql("SELECT current_setting('temp_directory')").fetchall()
        connection.execute(
            "CREATE TEMP TABLE long AS SELECT hash(range) AS a, hash(-range) AS b FROM range(15_000_000)"
        )
        assert os.listdir(scratch)
        assert stat.S_IMODE(os.stat(os.path.dirname(scratch)).st_mode) == 0o700
    assert not os.path.exists(scratch)
    assert waiting() == 0


def test_no_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):
        with connect(LIMITS) as connection:
            (folder,) = tmp_path.iterdir()
            ((scratch,),) = connection.sql("SELECT current_setting('temp_directory')").fetchall()
            assert Path(scratch).parent == folder
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(duckdb.Error), connect(LIMITS) as connection:
        connection.execute("SELECT nothing")
    assert list(tmp_path.iterdir()) == []


def test_kernels_at_the_same_time_have_databases_of_their_own() -> None:
    def count(number: int) -> int:
        with connect(LIMITS) as connection:
            connection.execute(f"CREATE TABLE shared AS SELECT {number} AS x")
            ((found,),) = connection.sql("SELECT x FROM shared").fetchall()
            connection.execute("DROP TABLE shared")
        return int(found)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(40))) == list(range(40))
    assert 1 <= waiting() <= 4
