"""What counts as a table, on real folders, and the same tree in an object store."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import LakeError, UsageError
from r2d2.lake.discovery import Discovery, discover, holds_other_files, listing_token
from r2d2.model import Format, FoundTable, Status
from r2d2.scan.files import stamp


def build(lake: Path, *paths: str) -> Path:
    """A lake with these files, each holding its own path."""
    for path in paths:
        file = lake / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return lake


def ids(found: Discovery) -> dict[str, str]:
    """Format by table id, those with a fault marked."""
    return {table.id: table.format.value + ("!" if table.fault else "") for table in found.tables}


def one(found: Discovery, name: str) -> FoundTable:
    return next(table for table in found.tables if table.id == name)


def test_the_lakes_own_folder_is_never_a_table_and_a_leaf_folder_is_one(tmp_path):
    lake = build(tmp_path, "a.parquet", "b.csv", "sales/1.parquet", "sales/2.snappy.parquet", "deep/er/x.json.gz")
    found = discover(str(lake))
    assert ids(found) == {"a.parquet": "parquet", "b.csv": "csv", "sales": "parquet", "deep/er": "json"}
    assert [table.table for table in found.tables] == [0, 1, 2, 3]
    assert [table.id for table in found.tables] == sorted(table.id for table in found.tables)
    assert [file.uri for file in one(found, "sales").files] == [
        f"{lake}/sales/1.parquet",
        f"{lake}/sales/2.snappy.parquet",
    ]
    assert one(found, "a.parquet").uri == f"{lake}/a.parquet"


def test_a_folder_with_other_sub_folders_leaves_each_file_a_table(tmp_path):
    lake = build(tmp_path, "m/a.csv", "m/b.csv", "m/sub/c.csv", "h/y=1/z=2/a.csv", "h/y=2/z=3/b.csv")
    assert ids(discover(str(lake))) == {"m/a.csv": "csv", "m/b.csv": "csv", "m/sub": "csv", "h": "csv"}


def test_hive_folders_are_tables_of_their_own_where_their_parent_is_none(tmp_path):
    lake = build(tmp_path, "k=1/a.csv", "m/k=1/a.csv", "m/other/b.csv", "n/k=1/sub/a.csv", "n/k=1/b.csv", "n/c.csv")
    assert ids(discover(str(lake))) == {
        "k=1": "csv",
        "m/k=1": "csv",
        "m/other": "csv",
        "n/k=1/sub": "csv",
        "n/k=1/b.csv": "csv",
        "n/c.csv": "csv",
    }


def test_files_as_tables_makes_each_file_one_but_keeps_delta_tables(tmp_path):
    lake = build(tmp_path, "s/1.csv", "s/2.csv", "h/k=1/a.csv", "d/_delta_log/0.json", "d/p.parquet")
    found = discover(str(lake), files_as_tables=True)
    assert ids(found) == {"s/1.csv": "csv", "s/2.csv": "csv", "h/k=1/a.csv": "csv", "d": "delta"}


def test_logs_make_tables_and_only_logs_below_them_do(tmp_path):
    lake = build(
        tmp_path,
        *("d/_delta_log/0.json", "d/p.parquet", "d/k=1/q.parquet", "d/sub/x.csv", "d/nested/_delta_log/0.json"),
        *("i/metadata/v1.metadata.json", "i/data/p.parquet", "up/k=1/_delta_log/0.json", "up/a.csv"),
    )
    found = discover(str(lake))
    assert ids(found) == {"d": "delta", "d/nested": "delta", "i": "iceberg", "up/k=1": "delta", "up/a.csv": "csv"}
    assert one(found, "d").files == ()
    assert (one(found, "i").files, one(found, "i").fault) == ((), None)


def test_a_log_in_the_lakes_own_folder_makes_the_lake_one_table(tmp_path):
    assert ids(discover(str(build(tmp_path, "_delta_log/0.json", "p.parquet", "s/q.parquet")))) == {".": "delta"}


def test_a_linked_delta_log_fails_the_table_instead_of_hiding_its_log(tmp_path):
    lake = build(tmp_path, "d/p.parquet", "elsewhere.txt")
    (lake / "d/_delta_log").symlink_to(lake)
    found = discover(str(lake))
    assert ids(found) == {"d": "delta!"}
    assert "_delta_log is a link" in (one(found, "d").fault or "")


def test_formats_that_are_not_read_are_unsupported_by_name(tmp_path):
    found = discover(str(build(tmp_path, "o/a.orc", "v.avro")))
    assert {t.id: (t.fault_status, t.fault) for t in found.tables} == {
        "o": (Status.UNSUPPORTED, "ORC tables are not read"),
        "v.avro": (Status.UNSUPPORTED, "Avro tables are not read"),
    }


def test_files_of_two_formats_in_one_folder_are_tables_of_their_own(tmp_path):
    found = discover(
        str(build(tmp_path, "m/a.csv", "m/k=1/b.parquet", "same/a.json", "same/b.jsonl", "same/c.ndjson.zst"))
    )
    assert ids(found) == {"m/a.csv": "csv", "m/k=1": "parquet", "same": "json"}


def test_endings_count_in_any_case_and_other_files_are_counted(tmp_path):
    found = discover(
        str(build(tmp_path, "A.PARQUET", "b.Csv.GZ", "README", "c.csv.bak", "s/x.txt", "_x.csv", ".y.csv"))
    )
    assert ids(found) == {"A.PARQUET": "parquet", "b.Csv.GZ": "csv"}
    assert found.other_files == 3


def test_skipped_names_make_no_tables(tmp_path):
    lake = build(tmp_path, "s/_SUCCESS", "s/.part.crc", "s/a.csv", "s/_temporary/0/b.csv", ".hidden/a.csv", "_x/a.csv")
    assert ids(discover(str(lake))) == {"s": "csv"}


def test_a_skipped_name_that_spark_reads_fails_the_folder(tmp_path):
    found = discover(str(build(tmp_path, "s/a.csv", "s/_k=1/b.csv")))
    assert ids(found) == {"s": "csv!"}
    assert "'_k=1'" in (one(found, "s").fault or "")


def test_links_are_neither_followed_nor_tables(tmp_path):
    lake = build(tmp_path / "lake", "s/a.csv")
    outside = build(tmp_path / "outside", "x.csv", "y/z.csv")
    (lake / "link.csv").symlink_to(outside / "x.csv")
    (lake / "s/more.csv").symlink_to(outside / "x.csv")
    (lake / "folder").symlink_to(outside)
    (lake / "loop").symlink_to(lake)
    (lake / "dangling.parquet").symlink_to(lake / "nothing")
    found = discover(str(lake))
    assert ids(found) == {"s": "csv"}
    assert [file.uri for file in one(found, "s").files] == [f"{lake}/s/a.csv"]
    assert found.links == 5


def test_pipes_sockets_and_folders_named_like_files_fail_unopened(tmp_path, monkeypatch):
    lake = build(tmp_path, "good.csv", "folder.csv/inner.csv", "t/a.csv")
    os.mkfifo(lake / "pipe.parquet")
    os.mkfifo(lake / "t/pipe.csv")
    monkeypatch.chdir(lake)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.json")
        found = discover(str(lake))
    assert ids(found) == {
        "good.csv": "csv",
        "folder.csv": "csv!",
        "pipe.parquet": "parquet!",
        "socket.json": "json!",
        "t": "csv!",
        "t/pipe.csv": "csv!",
    }
    assert all(table.fault_status is Status.FAILED for table in found.tables if table.fault)
    assert "'t/pipe.csv'" in (one(found, "t").fault or "")


def test_a_folder_of_pipes_only_is_no_table(tmp_path):
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t/pipe.csv")
    assert ids(discover(str(tmp_path))) == {"t/pipe.csv": "csv!"}


HOSTILE = [
    *("a b.csv", "a\nb.csv", "g*.csv", "[x].csv", "{a,b}.csv", "back\\slash.csv", "é😀.csv"),
    *("'\"`;--.csv", "%20.csv"),
]


def test_hostile_names_are_ids_as_they_are(tmp_path):
    found = discover(str(build(tmp_path, *HOSTILE)))
    assert ids(found) == dict.fromkeys(HOSTILE, "csv")
    assert all(table.files == (stamp(f"{tmp_path}/{table.id}"),) for table in found.tables)


def test_names_that_are_not_utf8_fail_with_an_escaped_id(tmp_path):
    lake = build(tmp_path, "s/a.csv", "t/a.csv")
    for name in (b"x\xff.csv", b"x\xfe.csv", b"s/\xff.csv", b"t/\xff.txt"):
        Path(os.fsdecode(os.fsencode(lake) + b"/" + name)).write_text("a")
    os.mkdir(os.fsencode(lake) + b"/f\xff")
    (Path(os.fsdecode(os.fsencode(lake) + b"/f\xff")) / "a.csv").write_text("a")
    found = discover(str(lake))
    assert ids(found) == {"x\\udcff.csv": "csv!", "x\\udcfe.csv": "csv!", "s": "csv!", "f\\udcff": "csv!", "t": "csv"}
    assert all(table.uri.encode() and table.id.encode() for table in found.tables)
    assert all("not UTF-8" in table.fault for table in found.tables if table.fault)


def test_an_escaped_id_does_not_take_that_of_another_table(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.csv")).write_text("a")
    build(tmp_path, "x\\udcff.csv")
    found = discover(str(tmp_path))
    assert len({table.id for table in found.tables}) == 2


def test_a_folder_that_cannot_be_listed_fails_its_table(tmp_path):
    lake = build(tmp_path, "h/k=1/a.csv", "m/a.csv", "m/sub/b.csv")
    too_long = "x" * 200
    for start in ("h/k=2", "m/other"):  # a path longer than the system takes can be made step by step only
        (lake / start).mkdir()
        here = os.open(lake / start, os.O_RDONLY)
        for _ in range(22):
            name = f"k={too_long}"
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
    found = discover(str(lake))
    assert {name.split("/k=x")[0]: kind for name, kind in ids(found).items()} == {
        "h": "csv!",
        "m/a.csv": "csv",
        "m/sub": "csv",
        "m/other": "unknown!",
    }
    assert all("cannot be listed: OSError" in table.fault for table in found.tables if table.fault)


def test_local_stamps_are_those_of_the_scan(tmp_path):
    found = discover(str(build(tmp_path, "s/1.csv", "s/2.csv", "a.json")))
    assert all(file == stamp(file.uri) for table in found.tables for file in table.files)


def test_empty_files_are_kept_and_an_empty_lake_has_no_tables(tmp_path):
    assert discover(str(tmp_path)) == Discovery(tables=())
    (tmp_path / "empty.parquet").touch()
    assert [(file.size) for table in discover(str(tmp_path)).tables for file in table.files] == [0]


def test_the_lake_must_be_a_folder_that_exists(tmp_path):
    build(tmp_path, "file.csv")
    with pytest.raises(UsageError, match="must be a folder"):
        discover(f"{tmp_path}/file.csv")
    with pytest.raises(LakeError, match="does not exist"):
        discover(f"{tmp_path}/nothing")
    with pytest.raises(LakeError, match="does not exist"):
        discover(f"memory://{uuid.uuid4().hex}")
    with pytest.raises(UsageError, match="no filesystem"):
        discover("nosuchstore://x")
    fsspec.filesystem("memory").pipe("/only.csv", b"a")
    with pytest.raises(UsageError, match="is a file"):
        discover("memory://only.csv")


def test_a_file_url_is_the_local_folder(tmp_path):
    lake = build(tmp_path, "s/1.csv")
    (lake / "link.csv").symlink_to(lake / "s/1.csv")
    assert discover(f"file://{lake}") == discover(str(lake))


def test_the_listing_token_sees_each_change_and_no_move(tmp_path):
    def token(lake: Path) -> str:
        return listing_token(one(discover(str(lake)), "s"))

    lake = build(tmp_path / "one", "s/1.csv", "s/k=1/2.csv", "other.csv")
    before = token(lake)
    lake = lake.rename(tmp_path / "two")
    build(lake, "more.csv")
    assert token(lake) == before
    times = os.stat(lake / "s/1.csv")
    seen = {before}
    (lake / "s/1.csv").write_text("changed size")
    seen.add(token(lake))
    os.utime(lake / "s/1.csv", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    seen.add(token(lake))
    build(lake, "s/3.csv")
    seen.add(token(lake))
    (lake / "s/3.csv").rename(lake / "s/4.csv")
    seen.add(token(lake))
    (lake / "s/4.csv").unlink()
    seen.add(token(lake))
    assert len(seen) == 5  # the last is that of before 3.csv came


FOLDERS = st.sampled_from(["a", "b", "k=1", "k=2", "_h", ".d", "_k=3", "x.csv", "metadata", "_delta_log", "=v", "k="])
FILES = st.sampled_from(["x.csv", "y.csv", "z.parquet", "n.txt", "_s.csv", "_k=1.csv", "v.metadata.json"])
TREES = st.lists(st.tuples(st.lists(FOLDERS, max_size=3), FILES).map(lambda t: "/".join([*t[0], t[1]])), max_size=8)


def without_prefixes(paths: list[str]) -> list[str]:
    """Paths of which none is a folder of another."""
    kept: list[str] = []
    for path in dict.fromkeys(paths):
        if not any(path.startswith(f"{k}/") or k.startswith(f"{path}/") for k in kept):
            kept.append(path)
    return kept


def shape(found: Discovery, root: str) -> list[tuple[object, ...]]:
    def files(table: FoundTable) -> list[tuple[str, int]]:
        return [(file.uri[len(root) :], file.size) for file in table.files]

    return [(t.table, t.id, t.format, t.uri[len(root) :], t.fault, t.fault_status, files(t)) for t in found.tables]


@settings(max_examples=80, deadline=None)
@given(tree=TREES, files_as_tables=st.booleans())
def test_an_object_store_shows_the_same_tables_and_each_data_file_is_in_one(tree, files_as_tables):
    paths = without_prefixes(tree)
    store, name = fsspec.filesystem("memory"), uuid.uuid4().hex
    store.pipe(f"/{name}/keep.txt", b"")
    with tempfile.TemporaryDirectory() as lake:
        build(Path(lake), "keep.txt")
        (Path(lake) / "keep.txt").write_bytes(b"")
        build(Path(lake), *paths)
        for path in paths:
            store.pipe(f"/{name}/{path}", path.encode())
        local = discover(lake, files_as_tables=files_as_tables)
        remote = discover(f"memory://{name}/", files_as_tables=files_as_tables)
        assert shape(local, lake) == shape(remote, f"memory://{name}")
        assert local.other_files == remote.other_files
        logs = [t.uri for t in local.tables if t.format in (Format.DELTA, Format.ICEBERG)]
        covered = Counter(file.uri for t in local.tables for file in t.files)
        assert set(covered.values()) <= {1}
        for path in paths:
            *above, last = path.split("/")
            skipped = any(part.startswith(("_", ".")) or part == "x.csv" for part in above) or last.startswith("_")
            in_log = any(f"{lake}/{path}".startswith(f"{log}/") for log in logs)
            is_data = last.endswith((".csv", ".parquet", ".json"))
            assert (f"{lake}/{path}" in covered) == (is_data and not skipped and not in_log)


@pytest.mark.parametrize(
    ("others", "holds"),
    [
        ([], False),
        (["t/_SUCCESS", "t/.part.crc", "t/_log/x.txt"], False),
        (["t/notes.txt"], True),
        (["t/k=1/readme.md"], True),
    ],
)
def test_files_that_are_not_the_tables_are_seen(tmp_path, others, holds):
    lake = build(tmp_path, "t/k=1/a.parquet", "t/k=2/b.parquet", "single.parquet")
    for other in others:
        (lake / other).parent.mkdir(parents=True, exist_ok=True)
        (lake / other).write_text("x")
    found = discover(str(lake))
    assert holds_other_files(one(found, "t")) is holds
    assert not holds_other_files(one(found, "single.parquet"))


def test_a_link_in_a_tables_folder_is_another_file(tmp_path):
    lake = build(tmp_path, "t/a.parquet", "elsewhere/b.parquet")
    (lake / "t/link.parquet").symlink_to(lake / "elsewhere/b.parquet")
    assert holds_other_files(one(discover(str(lake)), "t"))
