"""Files of a Delta table: one listing of its folder, and the uris that paths in its log stand for."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from r2d2.errors import R2D2Error, TableFailed, TableUnsupported
from r2d2.model import FileStamp
from r2d2.scan.files import filesystem, info_token, is_remote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")

Files = dict[str, FileStamp]


def shown(name: object) -> str:
    """A name from the log for a message: short, and text that can be stored whatever the log held."""
    return str(name)[:80].encode("utf-8", "backslashreplace").decode()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while `what` is read into a fault of the table.

    Messages of libraries may quote what they read, so only the exception's type is passed on.
    """
    try:
        yield
    except R2D2Error:
        raise
    except FileNotFoundError as exc:
        raise TableFailed(f"{what} is missing", error="FileMissing") from exc
    except Exception as exc:
        raise TableFailed(f"{what} cannot be read: {type(exc).__name__}", error="Unreadable") from exc


def list_files(uri: str) -> Files:
    """Every plain file below a table's folder by its `/`-separated path there: one listing, links not followed."""
    with reading("the folder of the table"):
        return _list_remote(uri) if is_remote(uri) else _list_local(uri)


def _list_remote(uri: str) -> Files:
    fs, path = filesystem(uri)
    root = path.rstrip("/") + "/"
    fs.invalidate_cache()
    found = {str(name): info for name, info in fs.find(path, detail=True).items()}
    relative = {name.removeprefix(root): info for name, info in found.items() if name.startswith(root)}
    return {
        name: FileStamp(uri=f"{uri}/{name}", size=int(info["size"]), token=info_token(info))
        for name, info in relative.items()
    }


def _list_local(uri: str) -> Files:
    files: Files = {}
    for folder, _, names in os.walk(uri, onerror=_raise):
        for name in names:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except FileNotFoundError:  # gone since the folder was listed: not a file of the table any more
                continue
            if stat.S_ISREG(info.st_mode):
                relative = os.path.relpath(path, uri).replace(os.sep, "/")
                files[relative] = FileStamp(uri=path, size=info.st_size, token=str(info.st_mtime_ns))
    return files


def _raise(exc: OSError) -> None:
    raise exc


def is_absolute(path: str) -> bool:
    """Whether a path in the log names its file without the table's folder, as in a shallow clone."""
    return path.startswith("/") or _SCHEME.match(path) is not None


def data_file_uri(table_uri: str, path: str) -> str:
    """Absolute uri of a path in the log: percent-decoded once, relative to the table unless it is absolute.

    Raises:
        TableFailed: If the path is not text.
        TableUnsupported: If it is a file of another host.
    """
    decoded = _decode(path)
    scheme = _SCHEME.match(path)
    if scheme is not None:
        return _absolute(scheme.group(1).lower(), decoded[scheme.end(1) + 1 :])
    if not is_remote(table_uri):
        return posixpath.normpath(posixpath.join(table_uri, decoded))
    if decoded.startswith("/"):
        parts = urlsplit(table_uri)
        return f"{parts.scheme}://{parts.netloc}{decoded}"
    return f"{table_uri}/{decoded}"


def _decode(path: str) -> str:
    try:
        decoded = unquote(path, errors="strict")
        decoded.encode()
    except UnicodeError as exc:
        raise TableFailed("a path in the Delta log is not UTF-8", error="DeltaLog") from exc
    return decoded


def _absolute(scheme: str, rest: str) -> str:
    if scheme != "file":
        return {"s3a": "s3", "s3n": "s3"}.get(scheme, scheme) + ":" + rest
    if rest.startswith("//"):
        host, _, rest = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise TableUnsupported("a data file lies on another host", error="DeltaPath")
    return posixpath.normpath("/" + rest.lstrip("/"))
