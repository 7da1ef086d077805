"""Key lists on disk: private Parquet files under DIR/keys, named by what they hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import UsageError
from r2d2.model import fold, spark_ddl, spark_name
from r2d2.recipes.sql import view_statement
from r2d2.scan.files import is_expanded
from r2d2.store.key_lists import KEYS, NEW, is_whole

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.recipes.keys import KeyList


def keeps_keys(run: StageRun) -> bool:
    """Whether the engine can read files below the result folder."""
    return run.engine.workers_share_files and not is_expanded(os.path.abspath(run.config.out))


def write_keys(out: str, content: bytes) -> str:
    """Write a key list below the result folder, readable by its owner alone.

    Returns:
        Its absolute path. The name is a digest of the content, so older results may use the same file.

    Raises:
        UsageError: If it cannot be written there.
    """
    folder = os.path.join(os.path.abspath(out), KEYS)
    path = os.path.join(folder, f"{hashlib.sha256(content).hexdigest()}.parquet")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if not is_whole(path):  # a killed audit may have left a part of it
            _write(path, content)
    except OSError as exc:
        why = os.strerror(exc.errno or 0)
        raise UsageError(f"a key list cannot be written to {folder!r}: {why}; choose another --out") from exc
    return path


def _write(path: str, content: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + NEW)
    descriptor = os.open(path + NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + NEW, path)


def key_join(run: StageRun, keys: KeyList, parent: str) -> tuple[str, str]:
    """Write a key list; returns the statement that defines its name, and the SQL that keeps the rows of a parent in it.

    The list has every key once, so a join repeats no row. It comes first: an engine without statistics holds the first
    side in memory and reads the other one past it.

    Args:
        run: The audit.
        keys: The list.
        parent: The name of the parent in SQL.
    """
    path = write_keys(run.config.out, keys.content)
    view = _free(f"keys {os.path.basename(path)[:16]}", {fold(table.id) for table in run.inventory.found})
    listed = pq.read_schema(pa.BufferReader(keys.content))
    pairs = (
        f"{'.'.join(map(spark_name, leaf))} = {spark_name(name)}"
        for leaf, name in zip(keys.paths, listed.names, strict=True)
    )
    statement = view_statement(view, f" ({spark_ddl(listed)})", "parquet", {"path": path})
    return statement, f"{spark_name(view)} JOIN {parent} ON {' AND '.join(pairs)}"


def _free(name: str, taken: set[str]) -> str:
    """The name, with underscores until nothing else has it."""
    while fold(name) in taken:
        name += "_"
    return name
