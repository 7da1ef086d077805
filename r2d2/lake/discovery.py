"""Which tables a lake holds, from its listing alone: no file is opened.

The endings of data files count in any case (`.CSV` is CSV), as the engines look at contents rather than endings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from r2d2.errors import LakeError, UsageError
from r2d2.model import FileStamp, Format, FoundTable, Status
from r2d2.scan.files import filesystem, info_token, is_remote

_TEXT_ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSON,
    ".ndjson": Format.JSON,
}
_ENDINGS = {
    ".parquet": Format.PARQUET,
    ".parq": Format.PARQUET,
    ".orc": Format.ORC,
    ".avro": Format.AVRO,
    **{ending + packed: kind for ending, kind in _TEXT_ENDINGS.items() for packed in ("", ".gz", ".zst")},
}
_NOT_READ = {Format.ORC: "ORC", Format.AVRO: "Avro"}
_LOG_FOLDER = "_delta_log"


class _Kind(StrEnum):
    """What an entry of a folder is."""

    FILE = "a file"
    FOLDER = "a folder"
    LINK = "a link"
    SPECIAL = "a pipe, a socket or a device"
    UNREADABLE = "not accessible"


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What the listing of a lake shows.

    Attributes:
        tables: Sorted by id; `table` is the position.
        other_files: Plain files that no format claims.
        links: Symbolic links, none of them followed.
    """

    tables: tuple[FoundTable, ...]
    other_files: int = 0
    links: int = 0


@dataclass(kw_only=True)
class _Folder:
    """A listed folder. Paths within the lake start with a slash; that of the lake itself is empty.

    Attributes:
        odd: Entries named like data that are never opened, each with what it is.
        doubts: Reasons why an engine may read more in the folder than its files.
        unlisted: Reason why the folder could not be listed.
        mixed: There is a sub-folder other than those in `subfolders`, never opened.
    """

    files: list[FileStamp] = field(default_factory=list)
    subfolders: dict[str, None] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, None] = field(default_factory=dict)
    unlisted: str | None = None
    mixed: bool = False
    is_delta: bool = False
    is_iceberg: bool = False
    log_fault: str | None = None
    other_files: int = 0
    links: int = 0

    def add(self, path: str, name: str, kind: _Kind, stamp: FileStamp | None = None) -> bool:
        """Take in the entry `path/name`; whether it is a folder to look into."""
        child = f"{path}/{name}"
        if name == _LOG_FOLDER:
            self.is_delta = True
            if kind is not _Kind.FOLDER:
                self.log_fault = f"its {_LOG_FOLDER} is {kind.value}, not a folder"
        elif kind is _Kind.LINK:
            self.links += 1
        elif name.startswith(("_", ".")):
            if name.startswith("_") and "=" in name:
                self.doubts[f"holds {_shown(name)}, which Spark reads although its name says that it is skipped"] = None
        elif kind is _Kind.FOLDER and (data_format(name) is None or _is_partition(name)):
            self.subfolders[child] = None
            return True
        elif data_format(name) is None:
            self.other_files += 1
        elif kind is _Kind.FILE and stamp is not None:
            self.files.append(stamp)
        else:
            self.odd[child] = kind.value
            self.mixed |= kind is _Kind.FOLDER
        return False


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """Folders by path, each before those in it, below the lake's uri."""

    root: str
    folders: dict[str, _Folder]


def discover(lake: str, *, files_as_tables: bool = False) -> Discovery:
    """List a lake and name its tables.

    A folder that is one table fails as a whole where its files may not be all it holds: a pipe among them, a
    sub-folder that cannot be listed, a name that is not UTF-8. Pipes, sockets, devices and folders that
    are named like data files are failed tables of their own as well. A table in the lake's own folder has the id `.`.

    Args:
        lake: Local folder or object-store URL (listed with one recursive call).
        files_as_tables: Make each data file a table of its own, those of Delta and Iceberg tables excepted.

    Raises:
        LakeError: If the lake does not exist or cannot be listed.
        UsageError: If it is a file, or no filesystem is known for its URL.
    """
    listing = _list_remote(lake) if is_remote(lake) else _list_local(lake)
    tables: list[FoundTable] = []
    other_files = links = 0
    pure = _pure_folders(listing.folders)
    pending, seen = [""], set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        folder = listing.folders[path]
        is_table = path != "" and pure[path] and not files_as_tables and len(_formats(listing.folders, path)) < 2
        below = _subtree(listing.folders, path) if is_table else [path]
        other_files += sum(listing.folders[sub].other_files for sub in below)
        links += sum(listing.folders[sub].links for sub in below)
        if _has_log(folder):
            tables.append(_log_table(listing, path))
            pending += [sub for sub in _subtree(listing.folders, path) if _has_log(listing.folders[sub])]
            continue
        members = [listing.folders[sub] for sub in below]
        tables += [_odd_table(listing, child, kind) for member in members for child, kind in member.odd.items()]
        tables += _folder_table(listing, path, members) if is_table else _file_tables(listing, path)
        if not is_table:
            pending += folder.subfolders
    return Discovery(tables=numbered(tables), other_files=other_files, links=links)


def split_into_files(folder: FoundTable) -> list[FoundTable]:
    """The files of a folder that turned out not to be one table, each as a table; their positions are still open."""
    return [
        replace(folder, id=f"{folder.id}/{file.uri[len(folder.uri) + 1 :]}", uri=file.uri, files=(file,))
        for file in folder.files
    ]


def listing_token(found: FoundTable) -> str:
    """The version of a table that has no log: a digest of its files' relative paths, sizes and tokens.

    It changes when a file is added, removed or rewritten, and not when the lake moves.
    """
    files = sorted((file.uri[len(found.uri) :], file.size, file.token) for file in found.files)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def holds_other_files(found: FoundTable) -> bool:
    """Whether an engine that is given a table's folder would meet files that are not the table's: links, notes, ….

    Names that start with `_` or `.` do not count: no engine reads them.
    """
    own = sorted(file.uri[len(found.uri) + 1 :] for file in found.files)
    if own == [""]:
        return False
    fs, path = filesystem(found.uri)
    below = (str(entry)[len(path.rstrip("/")) + 1 :] for entry in fs.find(path))
    return own != sorted(name for name in below if not any(part[:1] in ("_", ".") for part in name.split("/")))


def data_format(name: str) -> Format | None:
    """The format that a file's ending stands for."""
    lowered = name.lower()
    return next((kind for ending, kind in _ENDINGS.items() if lowered.endswith(ending)), None)


def _is_partition(name: str) -> bool:
    return name.find("=") > 0


# --- listing ----------------------------------------------------------------------------------------------------------


def _list_local(lake: str) -> _Listing:
    root = os.path.abspath(lake)
    if not os.path.exists(root):
        raise LakeError(f"the lake {_shown(lake)} does not exist")
    if not os.path.isdir(root):
        raise UsageError(f"the lake must be a folder, and {_shown(lake)} is none")
    base = root.rstrip("/")
    folders: dict[str, _Folder] = {}
    pending = [""]
    while pending:
        path = pending.pop()
        folder = folders[path] = _Folder()
        try:
            with os.scandir(base + path or "/") as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as exc:
            if not path:
                raise LakeError(f"the lake {_shown(lake)} cannot be listed: {type(exc).__name__}") from exc
            folder.unlisted = f"{_shown(path[1:])} cannot be listed: {type(exc).__name__}"
            continue
        for entry in listed:
            folder.add(path, entry.name, *_entry(entry, f"{base}{path}/{entry.name}"))
        _mark_iceberg(folders, path, [entry.name for entry in listed])
        pending += folder.subfolders
    return _Listing(root=base, folders=folders)


def _entry(entry: os.DirEntry[str], uri: str) -> tuple[_Kind, FileStamp | None]:
    """What a local entry is; plain files with their stamp."""
    try:
        if entry.is_symlink():
            return _Kind.LINK, None
        if entry.is_dir(follow_symlinks=False):
            return _Kind.FOLDER, None
        if not entry.is_file(follow_symlinks=False):
            return _Kind.SPECIAL, None
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return _Kind.UNREADABLE, None
    return _Kind.FILE, FileStamp(uri=uri, size=found.st_size, token=str(found.st_mtime_ns))


def _list_remote(lake: str) -> _Listing:
    try:
        fs, path = filesystem(lake)
    except (ImportError, ValueError) as exc:
        raise UsageError(f"no filesystem for the lake {_shown(lake)}: {exc}") from exc
    if "file" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
        return _list_local(path)
    path = path.rstrip("/")
    found = _find(fs, path, lake)
    folders = {"": _Folder()}
    root = lake.rstrip("/") + ("/" if lake.endswith((":///", "://")) else "")
    for key, info in sorted(found.items()):
        relative = key[len(path) :]
        if info.get("type") != "directory" and not key.endswith("/"):
            stamp = FileStamp(uri=root + relative, size=int(info["size"] or 0), token=info_token(info))
            _add_object(folders, relative, stamp, is_link=bool(info.get("islink")))
    return _Listing(root=root, folders=folders)


def _find(fs: Any, path: str, lake: str) -> dict[str, dict[str, Any]]:
    """All objects below a path, from one listing call where the store has one."""
    try:
        fs.invalidate_cache()
        found: dict[str, dict[str, Any]] = fs.find(path, detail=True)
        exists = bool(found) or _is_there(fs, path)
    except Exception as exc:  # each store's client has its own classes of errors
        raise LakeError(f"the lake {_shown(lake)} cannot be listed: {type(exc).__name__}") from exc
    if not exists:
        raise LakeError(f"the lake {_shown(lake)} does not exist")
    if path in found and len(found) == 1:
        raise UsageError(f"the lake must be a folder, and {_shown(lake)} is a file")
    return found


def _is_there(fs: Any, path: str) -> bool:
    """What fsspec's `exists` says, which says no whatever goes wrong."""
    try:
        fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _add_object(folders: dict[str, _Folder], relative: str, stamp: FileStamp, *, is_link: bool) -> None:
    *above, name = relative.split("/")[1:]
    path = ""
    for part in above:
        folder = folders[path]
        if f"{path}/{part}" not in folder.subfolders and not folder.add(path, part, _Kind.FOLDER):
            return
        path = f"{path}/{part}"
        folders.setdefault(path, _Folder())
    folders[path].add(path, name, _Kind.LINK if is_link else _Kind.FILE, stamp)
    _mark_iceberg(folders, path, [name])


def _mark_iceberg(folders: dict[str, _Folder], path: str, names: list[str]) -> None:
    parent, _, last = path.rpartition("/")
    if path and last == "metadata" and any(name.endswith((".metadata.json", ".metadata.json.gz")) for name in names):
        folders[parent].is_iceberg = True


# --- tables -----------------------------------------------------------------------------------------------------------


def _pure_folders(folders: dict[str, _Folder]) -> dict[str, bool]:
    """For each folder, whether it and all below have no sub-folders but `key=value` ones."""
    pure: dict[str, bool] = {}
    for path, folder in reversed(folders.items()):
        is_log = folder.is_delta or folder.is_iceberg or folder.mixed
        pure[path] = not is_log and all(
            _is_partition(sub.rpartition("/")[2]) and pure[sub] for sub in folder.subfolders
        )
    return pure


def _subtree(folders: dict[str, _Folder], path: str) -> list[str]:
    found = [path]
    for current in found:
        found += folders[current].subfolders
    return found


def _formats(folders: dict[str, _Folder], path: str) -> set[Format | None]:
    return {data_format(file.uri) for sub in _subtree(folders, path) for file in folders[sub].files}


def _has_log(folder: _Folder) -> bool:
    return folder.is_delta or folder.is_iceberg


def _log_table(listing: _Listing, path: str) -> FoundTable:
    folder = listing.folders[path]
    if folder.is_delta:
        return _table(listing, path, Format.DELTA, fault=folder.log_fault)
    return _table(listing, path, Format.ICEBERG)


def _odd_table(listing: _Listing, path: str, kind: str) -> FoundTable:
    return _table(listing, path, data_format(path) or Format.UNKNOWN, fault=f"is {kind}, named like a data file")


def _file_tables(listing: _Listing, path: str) -> Iterator[FoundTable]:
    """One table per data file of a folder that is no table, and one for what could not be listed."""
    folder = listing.folders[path]
    for file in folder.files:
        yield _table(listing, file.uri[len(listing.root) :], data_format(file.uri) or Format.UNKNOWN, (file,))
    if folder.unlisted:
        yield _table(listing, path, Format.UNKNOWN, fault=folder.unlisted)


def _folder_table(listing: _Listing, path: str, members: list[_Folder]) -> Iterator[FoundTable]:
    """The one table of a folder, unless nothing in it is data."""
    files = tuple(sorted((file for member in members for file in member.files), key=lambda file: file.uri))
    unlisted = [member.unlisted for member in members if member.unlisted]
    if not files and not unlisted:
        return
    doubts = [doubt for member in members for doubt in member.doubts]
    kind = next((data_format(file.uri) for file in files), None) or Format.UNKNOWN
    odd = [f"holds {_shown(child[1:])}, which is {kind}" for member in members for child, kind in member.odd.items()]
    fault = next(iter(unlisted + doubts + odd), None)
    yield _table(listing, path, kind, files, fault=fault)


def _table(
    listing: _Listing, path: str, kind: Format, files: tuple[FileStamp, ...] = (), *, fault: str | None = None
) -> FoundTable:
    """A found table, its position still open; names that are not UTF-8 are escaped, as no engine can be told them."""
    uri = listing.root + path
    status = Status.FAILED
    if any(not _is_text(name) for name in [uri, *(file.uri for file in files)]):
        fault, files = fault or "has a file or folder whose name is not UTF-8", ()
    elif fault is None and kind in _NOT_READ:
        fault, status = f"{_NOT_READ[kind]} tables are not read", Status.UNSUPPORTED
    return FoundTable(
        table=0,
        id=_escaped(path[1:]) or ".",
        format=kind,
        uri=_escaped(uri),
        files=files,
        fault=fault,
        fault_status=status,
    )


def numbered(tables: Sequence[FoundTable]) -> tuple[FoundTable, ...]:
    """Tables sorted by id; where escaping or an object store gave one id twice, the later ones get a number."""
    used: set[str] = set()
    unique = []
    for table in sorted(tables, key=lambda table: (table.id, table.uri)):
        number, name = 1, table.id
        while name in used:
            number, name = number + 1, f"{table.id} ({number + 1})"
        used.add(name)
        unique.append(replace(table, id=name))
    return tuple(replace(table, table=i) for i, table in enumerate(sorted(unique, key=lambda table: table.id)))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(name: str) -> str:
    """A name in which each byte that is not UTF-8 is written as the escape of its stand-in character."""
    return name.encode("utf-8", "backslashreplace").decode()


def _shown(name: str) -> str:
    """A name for a message: in quotes, with control characters escaped."""
    return repr(_escaped(name))
