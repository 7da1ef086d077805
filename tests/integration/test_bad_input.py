"""Damaged tables, hostile names and wrong usage: one bad table never stops an audit, and no message quotes a row."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from deltalake import write_deltalake

from r2d2 import AuditConfig, audit, pipeline
from r2d2.session import Engine
from r2d2.store.results import ResultFolder, read_results
from tests.integration.lake_makers import edge_facts, expected_edges

SECRET = "SECRET-4711"
SECRET_NUMBER = 471104711
ROWS = pa.table({"a": [f"{SECRET} {i}" for i in range(50)], "n": [SECRET_NUMBER + i for i in range(50)]})
TEXT = "".join(f"{SECRET} {i},{SECRET_NUMBER + i}\n" for i in range(2000))

# A process that root's right to open everything is taken from, so that modes count for root too.
_WITHOUT_OVERRIDE = (
    "import ctypes, os, sys; libc = ctypes.CDLL(None); [libc.prctl(24, right, 0, 0, 0) for right in (1, 2)];"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def r2d2(*arguments: str | Path, plain_user: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command line; it must end within two minutes."""
    before = ["-c", _WITHOUT_OVERRIDE] if plain_user else []
    return subprocess.run(
        [sys.executable, *before, "-m", "r2d2.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


# ---- damaged tables; each maker gets the path of its table


def truncated(path: Path) -> None:
    pq.write_table(ROWS, path)
    path.write_bytes(path.read_bytes()[:-20])


def cut_in_half(path: Path) -> None:
    """The footer is gone, and a row of text is last."""
    pq.write_table(ROWS, path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(SECRET.encode()) + 40])


def overwritten_pages(path: Path) -> None:
    """The footer is right, so that the damage shows only when rows are read."""
    pq.write_table(ROWS, path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)


def delta_with_a_gap(path: Path) -> None:
    for _ in range(3):
        write_deltalake(path, ROWS, mode="append")
    (path / "_delta_log" / f"{1:020}.json").unlink()


def delta_without_a_file(path: Path) -> None:
    write_deltalake(path, ROWS)
    next(path.glob("*.parquet")).unlink()


def delta_with_a_broken_commit(path: Path) -> None:
    write_deltalake(path, ROWS)
    (path / "_delta_log" / f"{1:020}.json").write_text('{"add": "' + SECRET)


def delta_with_a_changed_file(path: Path) -> None:
    write_deltalake(path, ROWS)
    next(path.glob("*.parquet")).write_bytes(SECRET.encode())


def with_content(content: bytes | str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode()) and None


def flipped_gzip(path: Path) -> None:
    """Stored without compression, so that the flipped byte is one of a value and only the checksum tells."""
    content = bytearray(gzip.compress(f"a,n\n{TEXT}".encode(), compresslevel=0))
    content[content.index(b"4711 77,")] ^= 1
    path.write_bytes(content)


def with_type(dtype: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.sql(f"SELECT '{SECRET}' AS a, NULL::{dtype} AS odd").to_parquet(str(path))

    return make


def nanoseconds_of_day(path: Path) -> None:
    pq.write_table(ROWS.append_column("t", pa.array([SECRET_NUMBER] * 50, pa.time64("ns"))), path)


def identifiers(path: Path) -> None:
    pq.write_table(ROWS.append_column("u", pa.array([uuid.UUID(int=i).bytes for i in range(50)], pa.uuid())), path)


def clashing_folder(path: Path) -> None:
    path.mkdir()
    pq.write_table(ROWS, path / "1.parquet")
    pq.write_table(ROWS.set_column(1, "n", ROWS["a"]), path / "2.parquet")


def folder_named_like_a_file(path: Path) -> None:
    path.mkdir()
    pq.write_table(ROWS, path / "inside.bin")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A damaged table: how to make it, and what must be said about it."""

    make: Callable[[Path], Any]
    says: str
    status: str = "failed"


WIDTH = "row 2001 of a CSV file breaks the quoting rules or is not as wide as the header"
TYPE = r"columns of type .* are not supported"
DAMAGED = {
    "truncated.parquet": Damage(make=truncated, says="truncated.parquet"),
    "half.parquet": Damage(make=cut_in_half, says="half.parquet"),
    "zero.parquet": Damage(make=with_content(b""), says="no Parquet file: it has 0 bytes"),
    "text.parquet": Damage(make=with_content(TEXT), says="text.parquet"),
    "pages.parquet": Damage(make=overwritten_pages, says=r"a file of the table could not be read \(\w+\)"),
    "delta_gap": Damage(make=delta_with_a_gap, says="commit 1 of the Delta log is missing"),
    "delta_lost": Damage(make=delta_without_a_file, says="a data file named by the log is missing"),
    "delta_broken": Damage(make=delta_with_a_broken_commit, says="commit 1 of the Delta log is not valid JSON"),
    "delta_changed": Damage(make=delta_with_a_changed_file, says="does not have the size that the log says"),
    "ragged.csv": Damage(make=with_content(f"a,n\n{TEXT}{SECRET},1,2\n"), says=WIDTH),
    "short.csv": Damage(make=with_content(f"a,n\n{TEXT}{SECRET}\n"), says=WIDTH),
    "quote.csv": Damage(make=with_content(f'a,n\n{TEXT}"{SECRET},1\n'), says=WIDTH),
    "latin1.csv": Damage(make=with_content(f"a,n\n{SECRET} é,1\n".encode("latin-1")), says="UTF-8"),
    "no_columns.csv": Damage(make=with_content(b""), says="it has no column"),
    "cut.csv.gz": Damage(make=with_content(gzip.compress(f"a,n\n{TEXT}".encode())[:-30]), says="gzip .* cut off"),
    "cut.csv.zst": Damage(make=with_content(zstandard.compress(f"a,n\n{TEXT}".encode())[:-30]), says="zstd .* cut off"),
    "flipped.csv.gz": Damage(make=flipped_gzip, says="gzip .* wrong checksum"),
    "plain.csv.gz": Damage(make=with_content(f"a,n\n{TEXT}"), says="gzip file .* damaged"),
    "cut.jsonl": Damage(make=with_content('{"a": "' + SECRET), says="line 1 of a JSON file"),
    "array.json": Damage(make=with_content(f'["{SECRET}"]\n'), says="only JSON lines are read", status="unsupported"),
    "empty.jsonl": Damage(make=with_content(b""), says="it has no column"),
    "clash": Damage(make=clashing_folder, says="files disagree on column 'n': int64 and string"),
    "pipe.parquet": Damage(make=os.mkfifo, says="a pipe"),
    "folder.parquet": Damage(make=folder_named_like_a_file, says="is a folder, named like a data file"),
    "time.parquet": Damage(make=nanoseconds_of_day, says=TYPE, status="unsupported"),
    "uuid.parquet": Damage(make=identifiers, says=TYPE, status="unsupported"),
    "interval.parquet": Damage(make=with_type("INTERVAL"), says=TYPE, status="unsupported"),
    "table.orc": Damage(make=with_content(SECRET), says="ORC tables are not read", status="unsupported"),
}  # fmt: skip
NOT_UTF8 = b"caf\xe9.parquet"


# ---- sound tables with hostile names

FILE_NAMES = [
    "a b", "%20", "%2e%2e", "a..b", "x..", "<script>alert(1)<script>", '"double"', "'single'", "`tick`", "g*", "g?",
    "[g]", "{g,g1}", "new\nline", "tab\t", "esc\x1b[31mred", "back\\slash", "\U0001f600", "'; DROP TABLE x; --", "-rf",
    "#hash", "$HOME", "&amp;", "{{7*7}}", "\u202egnp", "k=v", "~", "x" * 200,
]  # fmt: skip
COLUMN_NAMES = [
    'double"', "single'", "tick`", "dot.ted", "new\nline", "\U0001f600", "'; DROP TABLE x; --", "esc\x1b[31m", "%s",
    "{}", "a b", "$1", "*", "select", "c0", "<b>", "back\\slash", "\u202egnp", "",
]  # fmt: skip


def hostile_columns(rows: int) -> pa.Table:
    return pa.table({name: [f"{SECRET} {i} {j}" for j in range(rows)] for i, name in enumerate(COLUMN_NAMES)})


def sound_tables() -> dict[str, pa.Table]:
    """Tables that must be audited rightly in the midst of the damaged ones."""
    tables = {"parent.parquet": ROWS, "child.parquet": ROWS.slice(10, 5), "other.parquet": pa.table({"z": [SECRET]})}
    tables |= {f"{name}.parquet": ROWS.slice(i, 1) for i, name in enumerate(FILE_NAMES)}
    tables |= {"g1.parquet": ROWS.slice(40, 3), "gg.parquet": ROWS.slice(43, 2)}
    tables |= {"columns.parquet": hostile_columns(9), "columns_child.parquet": hostile_columns(4)}
    tables |= {f"column {i}.parquet": hostile_columns(9).select([i]) for i in range(len(COLUMN_NAMES))}
    wide = pa.table({f"w{i}": [SECRET_NUMBER, i] for i in range(2000)})
    tables |= {"wide.parquet": wide, "wide_child.parquet": wide.select(range(0, 2000, 20)).slice(1, 1)}
    tables |= {"no_rows.parquet": ROWS.slice(0, 0), "no_columns.parquet": pa.table({})}
    return tables


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An audit of all the bad input at once."""

    ended: subprocess.CompletedProcess[str]
    tables: dict[str, pa.Table]
    summary: dict[str, Any]
    out: Path

    def row(self, name: str, table: str) -> dict[str, Any]:
        """The one row of a result about a table."""
        (found,) = [row for row in self.tables[name].to_pylist() if row["table"] == table]
        return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("bad")
    lake, out = folder / "lake", folder / "out"
    lake.mkdir()
    for name, damage in DAMAGED.items():
        damage.make(lake / name)
    for name, table in sound_tables().items():
        pq.write_table(table, lake / name)
    Path(os.fsdecode(os.fsencode(lake) + b"/" + NOT_UTF8)).write_bytes((lake / "parent.parquet").read_bytes())
    (lake / "link.parquet").symlink_to("parent.parquet")
    ended = r2d2("audit", lake, "--out", out, "-v")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    tables, summary = read_results(str(out))
    return Finished(ended=ended, tables=tables, summary=summary, out=out)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_named_with_a_reason(finished: Finished, name: str) -> None:
    damage = DAMAGED[name]
    table, failure = finished.row("tables", name), finished.row("failures", name)
    assert (table["status"], table["reason"]) == (damage.status, failure["message"])
    assert re.search(damage.says, failure["message"]), failure["message"]
    assert failure["parent"] is None
    assert failure["stage"]
    assert failure["error"]
    assert finished.row("decisions", name)["decision"] == "retain"


def test_a_name_that_is_not_utf8_is_a_failed_table(finished: Finished) -> None:
    failed = {row["table"]: row["message"] for row in finished.tables["failures"].to_pylist()}
    assert failed.keys() - DAMAGED.keys() == {"caf\\udce9.parquet"}
    assert "not UTF-8" in failed["caf\\udce9.parquet"]


def test_all_else_is_audited_rightly(finished: Finished) -> None:
    """No neighbour is read for a name with a glob, nothing is lost for its name, and no damaged table has an edge."""
    sound = sound_tables()
    rows = {row["table"]: row["rows"] for row in finished.tables["tables"].to_pylist() if row["status"] == "ok"}
    assert rows == {name: table.num_rows for name, table in sound.items()}
    assert edge_facts(finished.tables["edges"]) == expected_edges(sound)


def test_every_table_has_one_decision(finished: Finished) -> None:
    tables = finished.tables["tables"]["table"].to_pylist()
    assert sorted(finished.tables["decisions"]["table"].to_pylist()) == tables
    assert finished.summary["counts"]["tables"] == len(tables) == len(DAMAGED) + len(sound_tables()) + 1


def test_no_row_value_is_quoted_anywhere(finished: Finished) -> None:
    shown = {file.name: file.read_bytes() for file in finished.out.iterdir() if file.is_file()}
    assert "report.html" in shown
    shown |= {"stdout": finished.ended.stdout.encode(), "stderr": finished.ended.stderr.encode()}
    for name, table in finished.tables.items():  # the constants of predicates alone are values of rows
        public = [column for column in table.column_names if column not in ("recipe_sql", "setup_sql")]
        shown[name] = json.dumps(table.select(public).to_pylist(), default=str).encode()
    for name in ("proposals.parquet", "recipes.parquet"):
        del shown[name]
    for name, content in shown.items():
        assert SECRET.encode() not in content, name
        assert str(SECRET_NUMBER)[:-2].encode() not in content, name


def test_no_control_character_reaches_a_person(finished: Finished) -> None:
    shown = finished.ended.stdout + finished.ended.stderr + (finished.out / "report.html").read_text("utf-8")
    assert set(re.findall(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)) == set()
    assert "<script>alert" not in shown


# ---- tables that change while the audit runs


def replace(path: Path) -> None:
    """Another file of the same size takes the path."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(path.read_bytes())
    stamp = path.stat()
    os.utime(fresh, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    fresh.rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [replace, remove])
@pytest.mark.parametrize("stage", ["run_schema_graph", "run_minhash", "run_verify", "run_recipes"])
def test_a_table_that_changes_during_the_audit_is_never_in_an_edge(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, change: Callable[[Path], None]
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for name in ("parent", "child", "steady"):
        pq.write_table(ROWS.slice(0, 50 if name == "parent" else 20), lake / f"{name}.parquet")
    run = getattr(pipeline, stage)

    def change_first(*arguments: Any, **options: Any) -> Any:
        if (lake / "child.parquet").exists() and not changed:
            changed.append(lake / "child.parquet")
            change(lake / "child.parquet")
        return run(*arguments, **options)

    changed: list[Path] = []
    monkeypatch.setattr(pipeline, stage, change_first)
    done = audit(AuditConfig(lake=str(lake), out=str(tmp_path / "out")), spark=engine.spark)
    tables, _ = read_results(done.out)
    (failure,) = tables["failures"].to_pylist()
    assert changed
    assert (done.exit_status, failure["table"]) == (3, "child.parquet")
    assert re.search("changed during the audit" if change is replace else "changed|missing", failure["message"])
    assert {(e["child"], e["parent"]) for e in tables["edges"].to_pylist()} == {("steady.parquet", "parent.parquet")}
    assert set(tables["proposals"]["table"].to_pylist()) <= {"steady.parquet"}


# ---- wrong usage


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(ROWS, folder / "a.parquet")
    return folder


def test_a_lake_that_does_not_exist(tmp_path: Path) -> None:
    ended = r2d2("audit", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert ended.returncode == 4
    assert re.fullmatch(r"r2d2: the lake .*nowhere.* does not exist\n", ended.stderr)


def test_a_lake_that_is_a_file(lake: Path, tmp_path: Path) -> None:
    ended = r2d2("audit", lake / "a.parquet", "--out", tmp_path / "out")
    assert ended.returncode == 2
    assert re.fullmatch(r"r2d2: the lake must be a folder, and .*a\.parquet.* is none\n", ended.stderr)


def test_a_lake_that_cannot_be_read(lake: Path, tmp_path: Path) -> None:
    lake.chmod(0)
    ended = r2d2("audit", lake, "--out", tmp_path / "out", plain_user=True)
    lake.chmod(0o700)
    assert ended.returncode == 4
    assert re.fullmatch(r"r2d2: the lake .*lake.* cannot be listed: PermissionError\n", ended.stderr)


def test_a_file_and_a_folder_that_cannot_be_read_fail_alone(lake: Path, tmp_path: Path) -> None:
    pq.write_table(ROWS, lake / "locked.parquet")
    (lake / "locked").mkdir()
    for name in ("locked.parquet", "locked"):
        (lake / name).chmod(0)
    ended = r2d2("audit", lake, "--out", tmp_path / "out", plain_user=True)
    (lake / "locked").chmod(0o700)
    assert ended.returncode == 3, ended.stderr
    messages = {r["table"]: r["message"] for r in read_results(str(tmp_path / "out"))[0]["failures"].to_pylist()}
    assert messages.keys() == {"locked.parquet", "locked"}
    assert all("PermissionError" in message for message in messages.values())


def test_an_empty_lake_is_done_and_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    ended = r2d2("audit", tmp_path / "lake", "--out", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    assert re.search("no tables|empty", ended.stdout, re.IGNORECASE)
    tables, summary = read_results(str(tmp_path / "out"))
    assert summary["counts"] == dict.fromkeys(summary["counts"], 0)
    assert all(table.num_rows == 0 for table in tables.values())


def file_as_out(lake: Path) -> Path:
    out = lake.parent / "out"
    out.write_text("mine")
    return out


def locked_out(lake: Path) -> Path:
    out = lake.parent / "out"
    out.mkdir(mode=0o500)
    return out


WRONG_FOLDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (file_as_out, "is a file or lies under one; --out must be a folder"),
    "not writable": (locked_out, "is not writable; choose another --out"),
    "the lake": (lambda lake: lake, "is the lake itself; choose a folder outside it"),
    "inside the lake": (lambda lake: lake / "results", "is inside the lake; choose a folder outside it"),
}


@pytest.mark.parametrize("kind", WRONG_FOLDERS)
def test_a_result_folder_that_cannot_be_one(lake: Path, kind: str) -> None:
    choose, says = WRONG_FOLDERS[kind]
    out = choose(lake)
    ended = r2d2("audit", lake, "--out", out, plain_user=True)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert str(out) in ended.stderr
    assert [entry.name for entry in lake.iterdir()] == ["a.parquet"]


def test_a_result_folder_in_use_by_another_audit(lake: Path, tmp_path: Path) -> None:
    with ResultFolder.open(str(tmp_path / "out"), str(lake)):
        ended = r2d2("audit", lake, "--out", tmp_path / "out")
    assert ended.returncode == 2
    assert "in use by another audit; wait for it to end or choose another --out" in ended.stderr


def test_an_engine_that_does_not_answer_is_refused_at_once(lake: Path, tmp_path: Path) -> None:
    ended = r2d2("audit", lake, "--out", tmp_path / "out", "--engine", "sc://127.0.0.1:1/;token=hush")
    assert ended.returncode == 1
    assert "no Spark Connect server answers at 127.0.0.1:1" in ended.stderr
    assert "hush" not in ended.stderr
