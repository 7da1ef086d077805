"""Writing the sample lake: a new folder, or one that an earlier call wrote, and nothing else ever."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from r2d2.errors import UsageError
from r2d2.sample.plan import Plant, SampleLake
from r2d2.sample.tables import sample_lake
from r2d2.sample.truth import TruthEdge, TruthTable, TruthUnion, find_edges, find_unions

MARKER = "_r2d2_sample"
"""File that marks a folder as ours and lists the files written to it, as a JSON list of relative paths."""

TRUTH_FOLDER = "_truth"


@dataclass(frozen=True, kw_only=True)
class SampleTruth:
    """What is known about a written sample lake.

    Attributes:
        folder: The lake.
        tables: Ids, sorted.
        edges: Every containment that holds, sorted by child and parent.
        unions: Tables covered only by several others together.
        plants: What single tables were made to show; the edges hold more, since one table shows several things.
    """

    folder: str
    tables: tuple[str, ...]
    edges: tuple[TruthEdge, ...]
    unions: tuple[TruthUnion, ...]
    plants: tuple[Plant, ...]


def write_sample(folder: str, *, overwrite: bool = False) -> SampleTruth:
    """Write a small demonstration lake, and its truth into `_truth/` inside it.

    The tables come out the same on every call; Delta's names of files and times are new each time.

    Args:
        folder: Local folder, created where it does not exist.
        overwrite: Replace a lake that an earlier call wrote there.

    Raises:
        UsageError: If the folder is not empty and not to be overwritten, or holds anything that an earlier call did not
            write (nothing is removed then), or cannot be written.
    """
    with _usage_errors(folder):
        replaced = _replaceable_files(folder, overwrite=overwrite)
        os.makedirs(folder, exist_ok=True)
        lake = sample_lake()
        truth = _truth(folder, lake)
        # Delta's writer fails below folders with `%`, `[` or a backslash in their names, so it never sees this one.
        with tempfile.TemporaryDirectory(prefix="r2d2-sample-") as scratch:
            _write_tables(lake, scratch)
            _write_truth(truth, os.path.join(scratch, TRUTH_FOLDER))
            _replace(folder, replaced, scratch)
    return truth


@contextlib.contextmanager
def _usage_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UsageError(f"the sample cannot be written to {folder!r}: {exc.strerror or type(exc).__name__}") from exc


# --- what was there ---------------------------------------------------------------------------------------------------


def _replaceable_files(folder: str, *, overwrite: bool) -> list[str]:
    """Files that an earlier call wrote and this one may remove; raises where anything else is there."""
    if "://" in folder:
        raise UsageError(f"the sample is written to a local folder, and {folder!r} is a URL")
    if not os.path.lexists(folder):
        return []
    if not os.path.isdir(folder):
        raise UsageError(f"the sample needs a folder, and {folder!r} is a file")
    if not os.listdir(folder):
        return []
    if not overwrite:
        raise UsageError(f"the folder {folder!r} is not empty; name another one, or overwrite an earlier sample")
    ours = _marked_files(folder)
    present = list(_all_files(folder))
    foreign = sorted(set(present) - ours)
    if foreign:
        raise UsageError(
            f"the folder {folder!r} holds files that the sample did not write, {foreign[0]!r} among them; "
            "move them away, or name another folder"
        )
    return present


def _marked_files(folder: str) -> set[str]:
    marker = os.path.join(folder, MARKER)
    if os.path.islink(marker) or not os.path.isfile(marker):
        raise UsageError(f"the folder {folder!r} was not written by the sample (it has no file {MARKER}): not replaced")
    try:
        with open(marker, encoding="utf-8") as file:
            names = json.load(file)
    except ValueError as exc:
        raise UsageError(f"the file {MARKER} in {folder!r} is damaged: the folder is not replaced") from exc
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"the file {MARKER} in {folder!r} is damaged: the folder is not replaced")
    return set(names)


def _all_files(folder: str) -> Iterator[str]:
    """Paths of all files, links and empty folders in a folder, relative to it; links are not followed."""
    for path, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(path, name), folder)
        if not files and not folders:
            yield os.path.relpath(path, folder)


def _raise(error: OSError) -> None:
    raise error


# --- writing ----------------------------------------------------------------------------------------------------------


def _write_tables(lake: SampleLake, folder: str) -> None:
    for table in lake.tables:
        path = os.path.join(folder, table.id)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        table.layout.write(table.rows, path)


def _replace(folder: str, old: Sequence[str], scratch: str) -> None:
    """Put the scratch folder's content in the place of the old files; the marker covers both until that is done."""
    new = [MARKER, *_all_files(scratch)]
    _write_marker(folder, {*old, *new})
    _remove_files(folder, [name for name in old if name != MARKER])
    for name in sorted(os.listdir(scratch)):
        shutil.move(os.path.join(scratch, name), os.path.join(folder, name))
    _write_marker(folder, new)


def _write_marker(folder: str, names: Iterable[str]) -> None:
    marker = os.path.join(folder, MARKER)
    unfinished = marker + ".new"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(sorted({*names, os.path.basename(unfinished)}), file, ensure_ascii=False, indent=0)
    os.replace(unfinished, marker)


def _remove_files(folder: str, names: Iterable[str]) -> None:
    """Remove files, and the folders that this leaves empty."""
    emptied: set[str] = set()
    for name in names:
        os.unlink(os.path.join(folder, name))
        emptied.update(_folders_above(name))
    for parent in sorted(emptied, key=len, reverse=True):
        os.rmdir(os.path.join(folder, parent))


def _folders_above(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name


def _truth(folder: str, lake: SampleLake) -> SampleTruth:
    tables = [TruthTable(table.id, table.rows) for table in lake.tables]
    edges = find_edges(tables)
    return SampleTruth(
        folder=folder,
        tables=tuple(sorted(table.id for table in lake.tables)),
        edges=tuple(edges),
        unions=tuple(find_unions(tables, edges)),
        plants=tuple(lake.plants),
    )


def _write_truth(truth: SampleTruth, folder: str) -> None:
    os.mkdir(folder)
    edges = [
        (e.child, e.parent, e.relation, _flag(e.set), _flag(e.bag), e.child_rows, e.parent_rows) for e in truth.edges
    ]
    proposable = [(e.child, e.parent, e.proposable) for e in truth.edges if e.proposable]
    unions = [(union.child, json.dumps(union.parents, ensure_ascii=False)) for union in truth.unions]
    planted = [(plant.child, plant.parent, plant.kind, plant.verdict) for plant in truth.plants]
    for name, header, rows in (
        ("edges", "child,parent,relation,set,bag,child_rows,parent_rows", edges),
        ("proposable", "child,parent,kind", proposable),
        ("unions", "child,parents", unions),
        ("planted", "child,parent,kind,verdict", planted),
    ):
        _write_csv(os.path.join(folder, f"{name}.csv"), header.split(","), rows)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _write_csv(path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
