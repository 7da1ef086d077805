"""Tables that share files: proved without reading them, and only as far as the files go."""

from __future__ import annotations

import json
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.session import Engine
from tests.integration.audit_helpers import Results, run_audit


def clone(source: Path, target: Path, *, files: int | None = None) -> None:
    """A shallow clone as Spark makes it: a log whose paths are absolute, here of the first files only."""
    log = target / "_delta_log"
    log.mkdir(parents=True)
    actions = []
    for commit in sorted((source / "_delta_log").glob("*.json")):
        actions += [json.loads(line) for line in commit.read_text().splitlines()]
    adds = [action for action in actions if "add" in action][:files]
    for action in adds:
        action["add"]["path"] = (source / action["add"]["path"]).as_uri()
    head = [{kind: action[kind]} for kind in ("protocol", "metaData") for action in actions if kind in action][:2]
    info = {"commitInfo": {"operation": "CLONE", "engineInfo": "Apache-Spark/4.2.0 Delta-Lake/4.4.0"}}
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, [info, *head, *adds])) + "\n")


def proofs(found: Results) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row["child"], row["parent"]): (row["relation"], row["proof"]) for row in found.edges}


@pytest.mark.core("spark")
def test_clones_are_proved_by_their_files(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for first in (0, 100):
        rows = pa.table({"x": range(first, first + 100)})
        deltalake.write_deltalake(str(lake / "source"), rows, mode="append")
    clone(lake / "source", lake / "whole")
    clone(lake / "source", lake / "part", files=1)
    (lake / "copy").mkdir()
    pq.write_table(pa.table({"x": range(200)}), lake / "copy" / "part.parquet")
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, reader="files")
    shared = {
        ("whole", "source"): ("equal", "file-identity"),
        ("source", "whole"): ("equal", "file-identity"),
        ("part", "source"): ("contained", "file-identity"),
        ("part", "whole"): ("contained", "file-identity"),
    }
    read = {
        ("part", "copy"): ("contained", "scan"),
        **{(a, b): ("equal", "scan") for t in ("whole", "source") for a, b in ((t, "copy"), ("copy", t))},
    }
    assert proofs(found) == {**shared, **read}
    assert {row["table"] for row in found.proposals} <= {"copy"}, "the files of a clone must stay"


def test_a_lake_of_clones_alone_is_not_read(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    deltalake.write_deltalake(str(lake / "source"), pa.table({"x": range(1000)}))
    clone(lake / "source", lake / "clone")
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, reader="files")
    assert set(proofs(found).values()) == {("equal", "file-identity")}
    assert [stage["bytes"] for stage in found.summary["stages"] if stage["name"] in ("MinHash", "verify")] == [0, 0]


def with_file(source: Path, target: Path, numbers: list[int]) -> None:
    """A clone of a table that has got one more file since."""
    clone(source, target)
    deltalake.write_deltalake(str(target), pa.table({"x": pa.array(numbers, pa.int64())}), mode="append")


def test_what_clones_have_in_common_cancels(engine: Engine, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    deltalake.write_deltalake(str(lake / "source"), pa.table({"x": range(50_000)}))
    for name, numbers in {
        "base": [-1, -2, -2, -3],
        "copy": [-3, -2, -2, -1],  # equal to base, in another order
        "fewer": [-1, -2],  # contained as a bag
        "repeats": [-1, -1],  # contained as a set
        "again": [7, 8],  # rows of the shared file once more: contained as a set, in the source too
        "other": [-9],
    }.items():
        with_file(lake / "source", lake / name, numbers)
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, reader="files")
    held = {(row["child"], row["parent"]): (row["relation"], row["bag"], row["proof"]) for row in found.edges}
    clones = ("base", "copy", "fewer", "repeats", "again", "other")
    expected = {("source", name): ("contained", True, "file-identity") for name in clones}
    for wider in ("base", "copy"):
        expected[("fewer", wider)] = ("contained", True, "scan")
        expected[("repeats", wider)] = ("contained", False, "scan")
    expected |= dict.fromkeys((("base", "copy"), ("copy", "base")), ("equal", True, "scan"))
    expected |= {("again", name): ("contained", False, "scan") for name in (*clones, "source") if name != "again"}
    expected[("repeats", "fewer")] = ("contained", False, "scan")
    assert held == expected
    stages = {stage["name"]: stage["bytes"] for stage in found.summary["stages"]}
    assert stages["MinHash"] == 0
