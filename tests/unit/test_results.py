"""The result folder: what is committed comes back, and no fault shows a mixed or half-written audit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import UsageError
from r2d2.recipes.key_files import write_keys
from r2d2.recipes.sql import view_statement
from r2d2.store.key_lists import KEYS
from r2d2.store.results import REPORT_FILE, RESULT_SCHEMAS, SUMMARY_FILE, TABLE_FILES, ResultFolder, read_results

ALL_FILES = {*TABLE_FILES.values(), REPORT_FILE, SUMMARY_FILE}

names = st.text(st.characters(codec="utf-8"), max_size=8)
edge_rows = st.lists(
    st.fixed_dictionaries(
        {
            "child": names,
            "parent": names,
            "relation": st.sampled_from(["equal", "contained"]),
            "bag": st.booleans(),
            "set": st.booleans(),
            "child_rows": st.integers(0, 2**62),
            "parent_rows": st.integers(0, 2**62),
            "columns": st.lists(names, max_size=3),
            "proof": st.just("scan"),
            "recipe_reason": st.none() | names,
        }
    ),
    max_size=12,
)


def results_of(run: str, **rows: list[dict[str, Any]]) -> dict[str, pa.Table]:
    """Result tables of a run; where no rows are given, one whose text is the run's name."""
    marked = {
        name: [{field.name: run for field in schema if pa.types.is_string(field.type)}]
        for name, schema in RESULT_SCHEMAS.items()
    }
    return {
        name: pa.Table.from_pylist(rows.get(name, marked[name]), schema=schema)
        for name, schema in RESULT_SCHEMAS.items()
    }


def commit(out: Path, run: str, html: str | None = None) -> None:
    with ResultFolder.open(str(out), "s3://bucket/lake") as folder:
        folder.commit(results_of(run), {"run_id": run}, run if html is None else html)


def committed_run(out: Path) -> str | None:
    """The run whose results a folder shows; None for none. Fails on a mixture."""
    try:
        tables, summary = read_results(str(out))
    except UsageError:
        assert not (out / SUMMARY_FILE).exists(), "a commit mark over results that cannot be read"
        return None
    shown = {table.column(0)[0].as_py() for table in tables.values()} | {(out / REPORT_FILE).read_text()}
    assert shown == {summary["run_id"]}
    return str(summary["run_id"])


def runs_of_files(out: Path) -> set[str]:
    """The runs that the files lying in a folder belong to."""
    found = {pq.read_table(path).column(0)[0].as_py() for path in out.glob("*.parquet")}
    found |= {path.read_text() for path in out.glob("report.html")}
    return found | {json.loads(path.read_text())["run_id"] for path in out.glob("summary.json")}


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@settings(max_examples=25, deadline=None)
@given(rows=edge_rows, shuffle=st.randoms(use_true_random=False))
def test_results_come_back_in_an_order_that_does_not_depend_on_the_one_given(
    rows: list[dict[str, Any]], shuffle: Any
) -> None:
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        for out, given_rows in ((first, rows), (second, shuffled)):
            with ResultFolder.open(out, "lake-elsewhere") as folder:
                folder.commit(results_of("r", edges=given_rows), {"run_id": "r"}, "page")
        tables, summary = read_results(first)
        assert all((Path(first) / name).read_bytes() == (Path(second) / name).read_bytes() for name in ALL_FILES)
    found = tables["edges"].to_pylist()
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    assert sorted(found, key=key) == sorted(rows, key=key)
    ids = [(row["child"].encode(), row["parent"].encode()) for row in found]
    assert ids == sorted(ids), "edges lie in the byte order of child and parent"
    assert summary == {"run_id": "r"}


def test_every_table_has_its_schema_and_no_other_file_lies_there(tmp_path: Path) -> None:
    shuffled_columns = {name: table.select(table.column_names[::-1]) for name, table in results_of("run").items()}
    with ResultFolder.open(str(tmp_path / "a" / "b"), "s3://bucket/lake") as folder:
        folder.commit(shuffled_columns, {"run_id": "run"}, "<p>\udcff</p>")
    assert {name: pq.read_schema(folder.path / file) for name, file in TABLE_FILES.items()} == RESULT_SCHEMAS
    assert {path.name for path in folder.path.iterdir()} == ALL_FILES | {".lock"}
    assert (folder.path / REPORT_FILE).read_text() == "<p>\\udcff</p>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables.pop("near"), "missing or unknown: near"),
        (lambda tables: tables.update(extra=tables["near"]), "missing or unknown: extra"),
        (lambda tables: tables.update(near=tables["near"].drop_columns("low")), "columns of near are"),
        (lambda tables: tables.update(near=tables["near"].append_column("x", pa.array([1]))), "columns of near are"),
    ],
)
def test_incomplete_results_are_refused_and_older_ones_stay(tmp_path: Path, change: Any, message: str) -> None:
    commit(tmp_path, "old")
    tables = results_of("new")
    change(tables)
    with ResultFolder.open(str(tmp_path), "s3://b/l") as folder, pytest.raises(ValueError, match=message):
        folder.commit(tables, {"run_id": "new"}, "new")
    assert committed_run(tmp_path) == "old"


def test_commit_needs_the_folder_to_be_held(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="entered first"):
        ResultFolder.open(str(tmp_path), "s3://b/l").commit(results_of("x"), {}, "")


def test_entering_leaves_older_results_alone_and_clears_what_a_crash_left(tmp_path: Path) -> None:
    commit(tmp_path, "old")
    (tmp_path / ".edges.parquet.new").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    with ResultFolder.open(str(tmp_path), "s3://b/l"):
        pass
    assert committed_run(tmp_path) == "old"
    assert {path.name for path in tmp_path.iterdir()} == ALL_FILES | {".lock", "notes.txt"}


def test_a_folder_in_or_of_the_lake_is_refused_whatever_way_it_is_written(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    (lake / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(lake / "sub")
    for out in (lake, lake / "." / "sub" / "..", f"{lake}/"):
        with pytest.raises(UsageError, match="is the lake itself"), ResultFolder.open(str(out), str(lake)):
            pass
    for out in (lake / "out", lake / "sub" / "deep" / "out", tmp_path / "link" / "out", tmp_path / "link"):
        for name in (str(lake), f"file://{lake}", f"{lake}/../lake/"):
            with pytest.raises(UsageError, match="is inside the lake"), ResultFolder.open(str(out), name):
                pass
    assert list(lake.rglob("*")) == [lake / "sub"], "a refused folder is not created"


def test_a_lake_that_does_not_exist_is_not_created_by_its_results(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="is inside the lake"),
        ResultFolder.open(str(tmp_path / "typo" / "out"), str(tmp_path / "typo")),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_beside_or_above_the_lake_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    for out in (tmp_path / "lake2", tmp_path / "lak", tmp_path):
        with ResultFolder.open(str(out), str(tmp_path / "lake")):
            assert (out / ".lock").exists()


@pytest.mark.parametrize("out", ["s3://bucket/out", "", "a\0b"])
def test_only_a_local_path_can_hold_results(out: str) -> None:
    with pytest.raises(UsageError, match="path on this machine"):
        ResultFolder.open(out, "s3://bucket/lake")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UsageError, match="is a file or lies under one"), ResultFolder.open(str(out), "s3://b/l"):
            pass
    (tmp_path / "out" / "edges.parquet").mkdir(parents=True)
    with (
        pytest.raises(UsageError, match=r"edges\.parquet .* is not a file"),
        ResultFolder.open(str(tmp_path / "out"), "s3://b/l"),
    ):
        pass


NOT_ROOT = """
import os, sys
from r2d2.errors import UsageError
from r2d2.recipes.key_files import write_keys
from r2d2.recipes.sql import view_statement
from r2d2.store.results import ResultFolder
if os.geteuid() == 0:  # permissions mean nothing to root
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for out in sys.argv[1:]:
    try:
        ResultFolder.open(out, "s3://b/l").__enter__()
    except UsageError as error:
        print(error)
"""


def test_a_folder_without_write_permission_is_refused() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        closed = Path(place, "closed")
        commit(closed, "old")
        os.chmod(closed, 0o555)
        done = run_python(NOT_ROOT, str(closed), str(closed / "new"))
        os.chmod(closed, 0o755)
        assert done.stdout.count("is not writable; choose another --out") == 2, done.stderr
        assert committed_run(closed) == "old"


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from test_results import commit
from r2d2.errors import UsageError
from r2d2.recipes.key_files import write_keys
from r2d2.recipes.sql import view_statement
from pathlib import Path
size = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    commit(Path(sys.argv[2]), "new", html="x" * 1_000_000)
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [0, 1_500, 100_000])
def test_a_full_disk_leaves_older_results_whole_and_nothing_else(tmp_path: Path, size: int) -> None:
    commit(tmp_path, "old")
    done = run_python(LIMITED, str(Path(__file__).parent), str(tmp_path), str(size))
    assert "is full; free some space" in done.stdout, done.stderr
    assert committed_run(tmp_path) == "old"
    assert {path.name for path in tmp_path.iterdir()} == ALL_FILES | {".lock"}


HOLDER = """
import sys
from r2d2.store.results import ResultFolder
with ResultFolder.open(sys.argv[1], "s3://b/l"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_audit_at_a_time_and_a_killed_one_frees_the_folder(tmp_path: Path) -> None:
    commit(tmp_path, "old")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="in use by another audit"), ResultFolder.open(str(tmp_path), "s3://b/l"):
            pass
        assert committed_run(tmp_path) == "old", "readers need no lock"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    commit(tmp_path, "new")
    assert committed_run(tmp_path) == "new"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import pandas  # else pyarrow imports it in every child
from test_results import ResultFolder, commit, results_of

def in_child(work):
    child = os.fork()  # before Arrow is used here
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]

def killed_commit(out, fatal):
    calls = 0
    def counted(call):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return wrapper
    with ResultFolder.open(str(out), "s3://b/l") as folder:
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        folder.commit(results_of("new"), {"run_id": "new"}, "new")

fatal, status = 0, 9
while status == 9:
    fatal += 1
    out = Path(sys.argv[2], f"{fatal:03}")
    in_child(lambda: commit(out, "old"))
    status = in_child(lambda: killed_commit(out, fatal))
sys.exit(status)
"""


def test_a_kill_at_any_step_of_a_commit_leaves_old_results_or_none_or_new_ones(tmp_path: Path) -> None:
    done = run_python(KILLED, str(Path(__file__).parent), str(tmp_path))
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.iterdir())
    assert len(folders) > 2 * len(ALL_FILES), "every write, removal and renaming is a step"
    assert all(len(runs_of_files(out)) <= 1 for out in folders), "old and new files never lie there together"
    outcomes = [committed_run(out) for out in folders]
    order = {"old": 0, None: 1, "new": 2}
    assert [order[run] for run in outcomes] == sorted(order[run] for run in outcomes)
    assert set(outcomes) == {"old", None, "new"}
    for out in folders:
        commit(out, "next")
        assert committed_run(out) == "next"
        assert {path.name for path in out.iterdir()} == ALL_FILES | {".lock"}


def test_reading_says_what_is_missing_or_damaged(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="no finished audit"):
            read_results(str(out))
    commit(tmp_path, "run")
    (tmp_path / "edges.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="damaged"):
        read_results(str(tmp_path))
    commit(tmp_path, "run")
    (tmp_path / SUMMARY_FILE).write_text("[]")
    with pytest.raises(UsageError, match="not a JSON object"):
        read_results(str(tmp_path))


def test_columns_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    commit(tmp_path, "run")
    path = tmp_path / "edges.parquet"
    pq.write_table(pq.read_table(path).append_column("newer", pa.array(["x"])), path)
    assert read_results(str(tmp_path))[0]["edges"].schema == RESULT_SCHEMAS["edges"]


def test_key_lists_stay_while_a_recipe_reads_them(tmp_path: Path) -> None:
    keys = tmp_path / KEYS
    keys.mkdir()
    used, unused = (keys / f"{digit * 64}.parquet" for digit in "ab")
    for file in (used, unused, keys / "mine.txt"):
        file.write_bytes(b"")
    row = {"child": "r", "setup_sql": [f"CREATE OR REPLACE TEMPORARY VIEW `k` USING parquet OPTIONS (path '{used}')"]}
    with ResultFolder.open(str(tmp_path), "lake") as folder:
        folder.commit(results_of("r", recipes=[row]), {"run_id": "r"}, "r")
    assert {file.name for file in keys.iterdir()} == {used.name, "mine.txt"}
    with ResultFolder.open(str(tmp_path), "lake") as folder:
        folder.commit(results_of("s"), {"run_id": "s"}, "s")
    assert {file.name for file in keys.iterdir()} == {"mine.txt"}


def test_key_lists_of_proposals_stay_for_good(tmp_path: Path) -> None:
    out = tmp_path / "it's"
    (out / KEYS).mkdir(parents=True)
    proposed, offered = (out / KEYS / f"{digit * 64}.parquet" for digit in "ab")
    for file in (proposed, offered):
        file.write_bytes(b"")
    rows = [
        {"setup_sql": [view_statement(f"keys {f.name[:16]}_", " (x INT)", "parquet", {"path": str(f)})]}
        for f in (proposed, offered)
    ]
    made = [results_of("r", recipes=rows, proposals=rows[:1]), results_of("s"), results_of("t")]
    for tables in made:
        with ResultFolder.open(str(out), "lake") as folder:
            folder.commit(tables, {"run_id": "r"}, "r")
    assert {file.name for file in (out / KEYS).iterdir()} == {proposed.name}


def test_a_key_list_that_was_cut_is_written_again(tmp_path: Path) -> None:
    path = Path(write_keys(str(tmp_path), b"keys"))
    path.write_bytes(b"ke")
    assert write_keys(str(tmp_path), b"keys") == str(path)
    assert path.read_bytes() == b"keys"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_key_list_goes_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / KEYS).write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be written"):
        write_keys(str(tmp_path), b"keys")
    with pytest.raises(UsageError, match="not a folder"):
        commit(tmp_path, "run")
