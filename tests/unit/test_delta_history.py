"""Older versions of Delta tables by hand-written logs: deletion vectors, gaps, files that come back, odd retention."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from r2d2.lake.delta.history import OldVersion, old_versions, readable_versions
from r2d2.model import Format, FoundTable

DAY = 86_400_000
START = 1_700_000_000_000
SCHEMA = json.dumps({"type": "struct", "fields": [{"name": "a", "type": "long", "nullable": True, "metadata": {}}]})


def add(name: str, rows: int | None, deleted: int = 0) -> dict[str, Any]:
    action: dict[str, Any] = {"path": name, "size": 1, "partitionValues": {}, "modificationTime": 0, "dataChange": True}
    if rows is not None:
        action["stats"] = json.dumps({"numRecords": rows})
    if deleted:
        vector = {"storageType": "u", "pathOrInlineDv": f"{name:a>20}{deleted}", "offset": 1, "sizeInBytes": 40}
        action["deletionVector"] = vector | {"cardinality": deleted}
    return {"add": action}


def remove(name: str, day: float | None, deleted: int = 0) -> dict[str, Any]:
    action = dict(add(name, None, deleted)["add"])
    return {"remove": action if day is None else action | {"deletionTimestamp": START + int(day * DAY)}}


def log(folder: Path, *commits: list[dict[str, Any]], kept: dict[str, str] | None = None) -> FoundTable:
    """A log whose version n was written on day n."""
    (folder / "_delta_log").mkdir(parents=True, exist_ok=True)
    for version, actions in enumerate(commits):
        first: list[dict[str, Any]] = [{"commitInfo": {"timestamp": START + version * DAY}}]
        if version == 0:
            configuration = {"delta.logRetentionDuration": "interval 1000 days", **(kept or {})}
            metadata = {"id": "x", "schemaString": SCHEMA, "partitionColumns": [], "configuration": configuration}
            first += [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]
        path = folder / "_delta_log" / f"{version:020}.json"
        path.write_text("\n".join(map(json.dumps, [*first, *actions])) + "\n")
    return FoundTable(table=0, id="t", format=Format.DELTA, uri=str(folder))


def day(number: float) -> dt.date:
    return dt.datetime.fromtimestamp((START + number * DAY) / 1000, dt.UTC).date()


def told(found: FoundTable) -> dict[int, tuple[int, dt.date | None]]:
    return {old.version: (old.rows, old.expires) for old in old_versions(found)}


def test_deletion_vectors_count_and_the_file_without_one_is_removed(tmp_path: Path) -> None:
    found = log(tmp_path, [add("f", 10)], [remove("f", 1), add("f", 10, deleted=4)], [remove("f", 2, 4), add("g", 1)])
    assert told(found) == {1: (6, day(9)), 0: (10, day(8))}


def test_files_without_a_count_leave_a_version_out(tmp_path: Path) -> None:
    found = log(tmp_path, [add("f", None)], [add("g", 3)], [remove("f", 2)], [add("h", 1)])
    assert told(found) == {2: (3, day(1000))}


def test_a_removal_without_a_time_may_be_long_ago(tmp_path: Path) -> None:
    found = log(tmp_path, [add("f", 1)], [remove("f", None), add("g", 2)])
    assert told(found) == {0: (1, dt.date(1970, 1, 8))}


def test_the_earliest_removal_of_a_version_dates_it_and_others_do_not(tmp_path: Path) -> None:
    found = log(
        tmp_path,
        [add("f", 1), add("g", 2)],
        [remove("g", 1), add("h", 4)],
        [remove("h", 2), add("i", 8)],
        [remove("f", 3)],
    )
    assert told(found) == {2: (9, day(10)), 1: (5, day(9)), 0: (3, day(8))}


def test_of_versions_with_the_same_files_the_newest_is_told(tmp_path: Path) -> None:
    found = log(tmp_path, [add("f", 1)], [], [add("g", 2)], [remove("g", 3)], [add("h", 4)], [])
    assert told(found) == {3: (1, day(1000)), 2: (3, day(10))}


@pytest.mark.parametrize(
    ("text", "days"),
    [("interval 1 week", 7), ("2 days", 2), ("interval 36 hours", 1.5), ("interval 1 day 12 hours", 1.5), ("soon", 0)],
)
def test_retention_is_read_or_counts_as_none(tmp_path: Path, text: str, days: float) -> None:
    found = log(
        tmp_path, [add("f", 1)], [remove("f", 1), add("g", 2)], kept={"delta.deletedFileRetentionDuration": text}
    )
    assert told(found) == {0: (1, day(1 + days))}


def test_versions_before_a_gap_are_gone(tmp_path: Path) -> None:
    found = log(tmp_path, *[[add(f"f{n}", 1)] for n in range(5)])
    (tmp_path / "_delta_log" / f"{2:020}.json").unlink()
    assert {version for version in told(found) if version > 1} == set()


def test_a_broken_log_has_no_versions(tmp_path: Path) -> None:
    found = log(tmp_path, [add("f", 1)], [add("g", 2)])
    (tmp_path / "_delta_log" / f"{1:020}.json").write_text("{")
    assert list[OldVersion](readable_versions(found)) == []
