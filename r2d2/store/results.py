"""The result folder of an audit: the contract's files, committed together, `summary.json` last."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from r2d2.errors import UsageError
from r2d2.store.key_lists import KEYS, keep_key_lists, remove_key_lists

_TEXT, _TEXTS, _FLAG = pa.string(), pa.list_(pa.string()), pa.bool_()
_SIZE, _REAL, _MOMENT = pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")
_COLUMNS = pa.list_(pa.struct({"name": pa.string(), "type": pa.string()}))

RESULT_SCHEMAS: dict[str, pa.Schema] = {
    "tables": pa.schema(
        {"table": _TEXT, "format": _TEXT, "rows": _SIZE, "bytes": _SIZE, "files": _SIZE}
        | {"columns": _COLUMNS, "version": _TEXT, "status": _TEXT, "reason": _TEXT}
    ),
    "edges": pa.schema(
        {"child": _TEXT, "parent": _TEXT, "relation": _TEXT, "bag": _FLAG, "set": _FLAG}
        | {"child_rows": _SIZE, "parent_rows": _SIZE, "columns": _TEXTS, "proof": _TEXT, "recipe_reason": _TEXT}
    ),
    "unions": pa.schema({"child": _TEXT, "parents": _TEXTS, "set": _FLAG, "bag": _FLAG, "recipe_reason": _TEXT}),
    "near": pa.schema(
        {"child": _TEXT, "parent": _TEXT, "estimate": _REAL, "low": _REAL, "high": _REAL, "differing_columns": _TEXTS}
        | {"difference": _TEXT, "columns": _TEXTS, "rows_only_in_child": _REAL, "rows_only_in_child_low": _REAL}
        | {"rows_only_in_child_high": _REAL, "sampled_rows": _SIZE, "child_bytes": _SIZE, "suggestion": _TEXT}
    ),
    "recipes": pa.schema(
        {"child": _TEXT, "parents": _TEXTS, "recipe_kind": _TEXT, "setup_sql": _TEXTS, "recipe_sql": _TEXT}
        | {"read_bytes": _SIZE, "stored_bytes": _SIZE, "expires": pa.date32(), "through": _TEXTS}
    ),
    "proposals": pa.schema(
        {"table": _TEXT, "parents": _TEXTS, "recipe_kind": _TEXT, "setup_sql": _TEXTS, "recipe_sql": _TEXT}
        | {"bytes": _SIZE, "history_bytes": _SIZE, "saving_per_month": _REAL}
        | {"rebuild_seconds": _REAL, "rebuild_cost": _REAL, "reason": _TEXT, "through": _TEXTS}
    ),
    "decisions": pa.schema(
        {"table": _TEXT, "decision": _TEXT, "reason": _TEXT, "cost_kept": _REAL, "cost_deleted": _REAL}
        | {"constraint": _TEXT}
    ),
    "candidates": pa.schema(
        {"table": _TEXT, "history_bytes": _SIZE, "shared_bytes": _SIZE, "keep_reason": _TEXT}
        | {"no_recipe_reason": _TEXT, "created": _MOMENT, "last_write": _MOMENT}
        | {"owner": _TEXT, "tags": _TEXTS, "keep": _FLAG}
    ),
    "accesses": pa.schema({"source": _TEXT, "table": _TEXT, "reads_per_month": _REAL, "last_read": _MOMENT}),
    "failures": pa.schema({"table": _TEXT, "parent": _TEXT, "stage": _TEXT, "error": _TEXT, "message": _TEXT}),
}
"""Columns of each result file. They only ever grow."""

SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
TABLE_FILES: dict[str, str] = {name: f"{name}.parquet" for name in RESULT_SCHEMAS}

_LOCK_FILE = ".lock"
_EVIDENCE = ".evidence"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ResultFolder:
    """The folder of one audit's results, held for that audit alone.

    Used as a context manager. Entering checks the folder, creates it and takes its lock, which the operating system
    releases when the process ends, however it ends. Older results stay whole until `commit`.
    """

    def __init__(self, out: str, lakes: Sequence[str]) -> None:
        self._lakes = lakes
        self._out = out
        self.path = Path(os.path.abspath(out))
        self._lock: int | None = None

    @classmethod
    def open(cls, out: str, *lakes: str) -> ResultFolder:
        """The result folder `out` of an audit of some folders; nothing is touched until it is entered.

        Raises:
            UsageError: If `out` is no local path.
        """
        if not out or "\0" in out or "://" in out:
            raise UsageError(f"the result folder must be a path on this machine, got {out!r}")
        return cls(out, lakes)

    def __enter__(self) -> Self:
        """Check, create and lock the folder.

        Raises:
            UsageError: If it is a file, cannot be written to, is full, is the lake or inside it, or is in use by
                another audit.
        """
        for lake in self._lakes:
            _check_outside(self._out, lake)
        with _usage_errors(self._out):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        try:
            with _usage_errors(self._out):
                self._remove_unfinished()
                self._remove_old_evidence()
                self._probe()
            self._check_targets()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def commit(self, tables: Mapping[str, pa.Table], summary: Mapping[str, Any], report_html: str) -> None:
        """Replace the folder's results by these.

        The order is what makes it safe. First everything new is written beside the old files and flushed to the disk,
        so that a full disk or a crash leaves the older results whole. Then the old commit mark (`summary.json`) goes,
        then the other old files, then the new ones take their places, and the new mark comes last. From the moment
        the old mark is gone until the new one is there the folder has no results; old and new files never lie there
        together, whether a crash or a power cut ends it.

        Args:
            tables: One table for each name of RESULT_SCHEMAS, with the columns of its schema in any order.
            summary: What becomes `summary.json`.
            report_html: The page for a person.

        Raises:
            UsageError: If the folder is full or cannot be written to any more.
            ValueError: If a table or a column is missing or unknown, or the folder is not held.
        """
        if self._lock is None:
            raise ValueError("commit needs the result folder to be entered first")
        contents = {TABLE_FILES[name]: _parquet_bytes(table) for name, table in _result_tables(tables).items()}
        contents[REPORT_FILE] = report_html.encode("utf-8", "backslashreplace")
        contents[SUMMARY_FILE] = (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()
        try:
            with _usage_errors(self._out):
                for name, content in contents.items():
                    _write_durably(self.path / _new(name), content)
                keep_key_lists(tables["proposals"])
                self._swap(list(contents))
                self._remove_old_evidence()
                remove_key_lists(self.path, tables["recipes"])
        except BaseException:
            with contextlib.suppress(OSError):
                self._remove_unfinished()
            raise

    def keep_evidence(self, run_id: str, copy_tables: Callable[[str], None]) -> None:
        """Keep the stored tables of an audit beside its results, for `explain`: readable by their owner alone.

        Args:
            run_id: The audit, whose results are committed next.
            copy_tables: Writes the tables into the folder that it is given.

        Raises:
            UsageError: If the folder is full or cannot be written to any more.
        """
        folder = self.path / _EVIDENCE / run_id
        with _usage_errors(self._out):
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700)
            copy_tables(str(folder))

    def _remove_old_evidence(self) -> None:
        """Remove the evidence of all audits but the one whose results are here."""
        try:
            kept = json.loads((self.path / SUMMARY_FILE).read_bytes()).get("run_id")
        except (OSError, ValueError, AttributeError):
            kept = None
        with contextlib.suppress(OSError):
            for folder in (self.path / _EVIDENCE).iterdir():
                if folder.name != kept:
                    shutil.rmtree(folder, ignore_errors=True)

    def _swap(self, names: list[str]) -> None:
        for name in reversed(names):
            (self.path / name).unlink(missing_ok=True)
            if name == SUMMARY_FILE:
                _flush_folder(self.path)
        _flush_folder(self.path)
        for name in names:
            if name == SUMMARY_FILE:
                _flush_folder(self.path)
            os.replace(self.path / _new(name), self.path / name)
        _flush_folder(self.path)

    def _take_lock(self) -> int:
        path = self.path / _LOCK_FILE
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(lock)
            raise UsageError(
                f"{self._out!r} is in use by another audit; wait for it to end or choose another --out"
            ) from exc
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove_unfinished(self) -> None:
        for name in (*TABLE_FILES.values(), REPORT_FILE, SUMMARY_FILE):
            (self.path / _new(name)).unlink(missing_ok=True)

    def _probe(self) -> None:
        """Write something: the only test of a folder that root, quotas and read-only mounts do not fool."""
        probe = self.path / _new(SUMMARY_FILE)
        try:
            _write_durably(probe, b"{}\n")
        finally:
            probe.unlink(missing_ok=True)

    def _check_targets(self) -> None:
        for name in (*TABLE_FILES.values(), REPORT_FILE, SUMMARY_FILE):
            try:
                mode = os.lstat(self.path / name).st_mode
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                raise UsageError(
                    f"{name} in {self._out!r} is not a file, so results cannot take its place; move it away"
                )
        if os.path.lexists(self.path / KEYS) and not stat.S_ISDIR(os.lstat(self.path / KEYS).st_mode):
            raise UsageError(f"{KEYS} in {self._out!r} is not a folder, so key lists cannot go there; move it away")


def read_results(out: str) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """The tables and the summary of the finished audit in a folder.

    Columns that a newer version added are left out.

    Raises:
        UsageError: If there is no finished audit, it is damaged, or it is replaced while it is read.
    """
    folder = Path(out)
    mark = _read_mark(folder)
    try:
        tables = {name: _read_table(folder / file, RESULT_SCHEMAS[name]) for name, file in TABLE_FILES.items()}
        summary = json.loads(mark)
    except (OSError, pa.ArrowException, KeyError, ValueError) as exc:
        raise UsageError(
            f"the results in {out!r} are damaged or just being replaced ({type(exc).__name__}); run the audit again"
        ) from exc
    if not isinstance(summary, dict):
        raise UsageError(f"{SUMMARY_FILE} in {out!r} is not a JSON object; run the audit again")
    if _read_mark(folder) != mark:
        raise UsageError(f"the results in {out!r} were replaced while they were read; read them again")
    return tables, summary


def evidence_folder(out: str, summary: Mapping[str, Any]) -> str:
    """Where the stored tables of the finished audit lie.

    Raises:
        UsageError: If they are not there any more.
    """
    run_id = str(summary.get("run_id", ""))
    folder = Path(out) / _EVIDENCE / run_id
    if not run_id or os.path.basename(run_id) != run_id or not folder.is_dir():
        raise UsageError(f"the evidence of the audit in {out!r} is not there any more; run the audit again")
    return str(folder)


def _new(name: str) -> str:
    """Name of a file that is not committed yet; it ends so that no pattern for result files matches it."""
    return f".{name}.new"


def _read_mark(folder: Path) -> bytes:
    try:
        return (folder / SUMMARY_FILE).read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(f"there is no finished audit in {str(folder)!r} (no {SUMMARY_FILE})") from exc


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    # a file object, so that no name of the folder means a URL or a dataset of partitions
    with path.open("rb") as source:
        return pq.ParquetFile(source).read(columns=schema.names).select(schema.names).cast(schema)


def _result_tables(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    if set(tables) != set(RESULT_SCHEMAS):
        odd = sorted(set(tables) ^ set(RESULT_SCHEMAS))
        raise ValueError(f"results are exactly {', '.join(RESULT_SCHEMAS)}; missing or unknown: {', '.join(odd)}")
    return {name: _sorted(_cast(name, tables[name])) for name in RESULT_SCHEMAS}


def _cast(name: str, table: pa.Table) -> pa.Table:
    schema = RESULT_SCHEMAS[name]
    if sorted(table.column_names) != sorted(schema.names):
        raise ValueError(f"columns of {name} are {', '.join(schema.names)}, got {', '.join(table.column_names)}")
    return table.select(schema.names).cast(schema)


def _sorted(table: pa.Table) -> pa.Table:
    """Rows in one order whatever order they came in: by all columns but lists of structs, names by their bytes."""
    keys = {name: _sort_key(table[name]) for name in table.column_names}
    sortable = pa.table({name: key for name, key in keys.items() if key is not None})
    return table.take(pc.sort_indices(sortable, sort_keys=[(name, "ascending") for name in sortable.column_names]))


def _sort_key(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    if not pa.types.is_list(column.type):
        return column
    return pc.binary_join(column, "\0") if pa.types.is_string(column.type.value_type) else None


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_outside(out: str, lake: str) -> None:
    root = _local_path(lake)
    if root is None:
        return
    target, root = os.path.realpath(out), os.path.realpath(root)
    if _same_folder(target, root):
        raise UsageError(f"--out {out!r} is the lake itself; choose a folder outside it")
    for ancestor in Path(target).parents:
        if _same_folder(str(ancestor), root):
            raise UsageError(f"--out {out!r} is inside the lake; choose a folder outside it")


def _local_path(lake: str) -> str | None:
    """The lake's path on this machine; None for an object store."""
    if lake.startswith(("file:", "local:")):
        return unquote(urlsplit(lake).path)
    return None if "://" in lake else lake


def _same_folder(path: str, other: str) -> bool:
    """Whether two paths are one folder, also through bind mounts and on file systems that ignore case."""
    try:
        return path == other or os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _usage_errors(out: str) -> Iterator[None]:
    """Say what is wrong with the folder instead of which system call failed."""
    try:
        yield
    except OSError as exc:
        raise UsageError(_reason(out, exc)) from exc


def _reason(out: str, exc: OSError) -> str:
    if exc.errno in _FULL:
        return f"{out!r} is full; free some space or choose another --out"
    if isinstance(exc, FileExistsError | NotADirectoryError):
        return f"{out!r} is a file or lies under one; --out must be a folder"
    if isinstance(exc, PermissionError) or exc.errno in (errno.EROFS, errno.ELOOP):
        return f"{out!r} is not writable; choose another --out"
    return f"{out!r} cannot be used for results: {os.strerror(exc.errno or 0)}"
