"""Files of a lake, local or in an object store: opening, pinning, and names that DuckDB takes literally."""

from __future__ import annotations

import os
import stat
from functools import cache
from typing import Any

import duckdb
import fsspec
from fsspec.core import url_to_fs

from r2d2.errors import TableChanged, TableFailed
from r2d2.model import FileStamp

GLOB_CHARACTERS = "*?[]{}"


def is_expanded(path: str) -> bool:
    """Whether an engine may take a path for a pattern, or cannot open it as it is written."""
    return bool(set(path) & set(GLOB_CHARACTERS + "\\")) or not path.isprintable()


def is_remote(uri: str) -> bool:
    """Whether a uri names an object store."""
    return "://" in uri


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a uri and the path on it."""
    if is_remote(uri):
        fs, path = url_to_fs(uri)
        return fs, path
    return _local(), uri


@cache
def _local() -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("file")


def info_token(info: dict[str, Any]) -> str:
    """What changes when an object of a store is rewritten: its ETag, version or modification time."""
    for name in ("ETag", "etag", "generation", "version_id", "mtime", "LastModified", "last_modified"):
        if info.get(name):
            return str(info[name]).strip('"')
    return ""


def stamp(uri: str) -> FileStamp:
    """Size and token of a file now.

    Raises:
        TableFailed: If it does not exist, cannot be read or is not a plain file.
    """
    try:
        if is_remote(uri):
            fs, path = filesystem(uri)
            fs.invalidate_cache()
            info = fs.info(path)
            return FileStamp(uri=uri, size=int(info["size"]), token=info_token(info))
        found = os.lstat(uri)
    except FileNotFoundError as exc:
        raise TableFailed("a file of the table is missing", error="FileMissing") from exc
    except OSError as exc:
        raise TableFailed(f"a file of the table cannot be read: {type(exc).__name__}", error="Unreadable") from exc
    if not stat.S_ISREG(found.st_mode):
        raise TableFailed("a file of the table is not a plain file", error="NotAFile")
    return FileStamp(uri=uri, size=found.st_size, token=str(found.st_mtime_ns))


def check_unchanged(pinned: FileStamp) -> None:
    """Raise TableChanged unless the file is still the pinned one."""
    if stamp(pinned.uri) != pinned:
        raise TableChanged


def open_file(uri: str) -> Any:
    """A binary, seekable file object for reading."""
    if not is_remote(uri):
        return open(uri, "rb")
    fs, path = filesystem(uri)
    return fs.open(path, "rb")


def duckdb_path(connection: duckdb.DuckDBPyConnection, uri: str) -> str:
    """A path that DuckDB opens as this one file, whatever characters its name has.

    Object stores reach DuckDB through their registered fsspec filesystem.
    """
    if is_remote(uri):
        fs, _ = filesystem(uri)
        protocols = [fs.protocol] if isinstance(fs.protocol, str) else list(fs.protocol)
        if not any(connection.filesystem_is_registered(protocol) for protocol in protocols):
            connection.register_filesystem(fs)
    return "".join(f"[{character}]" if character in "*?[" else character for character in uri)
