"""The current metadata file of an Iceberg table found by path, and what it says, before any manifest is read."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.files import Files, data_file_uri, list_files, reading, shown
from r2d2.lake.delta.log import parse_json
from r2d2.model import FileStamp
from r2d2.scan.files import open_file, stamp

FOLDER = "metadata/"
FORMAT_VERSIONS = (1, 2, 3)

_NAME = re.compile(r"(?:v(\d{1,18})|(\d{1,18})-.+?)(?:\.gz)?\.metadata\.json(?:\.gz)?", re.DOTALL)
_HINT = FOLDER + "version-hint.text"
_ENDING = ".metadata.json"
_MAX_HINT_BYTES = 1 << 10
_GZIP = b"\x1f\x8b"
_MAX_BYTES = 1 << 30
_NO_SNAPSHOT = -1
_URI_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True, kw_only=True)
class PartitionField:
    """A field of a partition spec.

    Attributes:
        id: Its id, by which a manifest's partition tuples name it.
        source: Id of the column that it is computed from.
        transform: Its name in the metadata, `identity` for the value itself.
    """

    id: int
    source: int
    transform: str


@dataclass(frozen=True, kw_only=True)
class TableMetadata:
    """What one metadata file says.

    Attributes:
        schema: The current schema as in the file.
        name_mapping: `schema.name-mapping.default`, unparsed; None where the table has none.
        schemas: All schemas that the table has had, the current one last.
        specs: Partition specs by id.
        snapshot: The current snapshot; None for a table without one.
        snapshots: All snapshots that the table keeps.
        bytes_read: Bytes of the file.
    """

    schema: Mapping[str, Any]
    name_mapping: str | None
    schemas: Sequence[Mapping[str, Any]]
    specs: Mapping[int, Sequence[PartitionField]]
    snapshot: Mapping[str, Any] | None
    snapshots: Sequence[Mapping[str, Any]]
    bytes_read: int

    @property
    def version(self) -> str:
        """Id of the current snapshot; empty for a table without one."""
        return "" if self.snapshot is None else str(self.snapshot["snapshot-id"])

    @cached_property
    def writers(self) -> Mapping[object, str]:
        """By snapshot id, the library that committed it, where its summary says."""
        return {
            snapshot["snapshot-id"]: str(snapshot["summary"].get("iceberg-version", ""))
            for snapshot in self.snapshots
            if isinstance(snapshot.get("summary"), dict) and isinstance(snapshot.get("snapshot-id"), int)
        }


def location_uri(table_uri: str, location: object) -> str:
    """Uri of a location in Iceberg's metadata, which is absolute and never percent-encoded.

    Raises:
        TableFailed: If it is no absolute location.
        TableUnsupported: If it is a file of another host.
    """
    if not isinstance(location, str) or not (location.startswith("/") or _URI_SCHEME.match(location)):
        raise TableFailed("the Iceberg metadata names a file without its absolute path", error="IcebergMetadata")
    try:
        return data_file_uri(table_uri, urllib.parse.quote(location, safe="/:"))
    except UnicodeError as exc:
        raise TableFailed("a location in the Iceberg metadata is not UTF-8", error="IcebergMetadata") from exc


def read_metadata(table_uri: str, files: Files) -> TableMetadata:
    """Read the newest metadata file of a table.

    Args:
        table_uri: Its folder.
        files: The files below it.

    Raises:
        TableFailed: If there is none, if it cannot be told which is the newest, or if it is damaged.
        TableUnsupported: For what R2D2 does not read.
    """
    raw, size = _read(current_file(files).uri)
    metadata = _parse(raw, size)
    _check_metadata_folder(table_uri, raw)
    return metadata


def read_pinned_metadata(uri: str) -> TableMetadata:
    """Read the metadata file that a catalog names; see `read_metadata`."""
    stamp(uri)  # refuses what is no plain file
    return _parse(*_read(uri))


def metadata_files(table_uri: str) -> Files:
    """The files in a table's metadata folder, named as in the listing of the whole table."""
    return {FOLDER + name: file for name, file in list_files(f"{table_uri}/{FOLDER.rstrip('/')}").items()}


def current_file(files: Files) -> FileStamp:
    """The metadata file of the highest version.

    Writers without a catalog count `v1`, `v2`, … and leave a hint, which may lag behind; those with one number their
    files too. Two files of one number are commits that raced: only the catalog knows which of them won.

    Raises:
        TableFailed: If there is none, or it cannot be told.
    """
    numbered = _numbered(files)
    if not numbered:
        raise TableFailed("the table has no metadata file with a version in its name", error="IcebergMetadata")
    newest = max(numbered)
    if len(numbered[newest]) > 1:
        raise TableFailed("two metadata files have the table's highest version", error="IcebergMetadata")
    hint = _hint(files)
    if hint is not None and not _leads_to(hint, newest, numbered):
        raise TableFailed("version-hint.text names another version than the newest file", error="IcebergMetadata")
    return numbered[newest][0]


def _numbered(files: Files) -> dict[int, list[FileStamp]]:
    numbered: dict[int, list[FileStamp]] = {}
    for name, file in files.items():
        match = _NAME.fullmatch(name.removeprefix(FOLDER)) if name.startswith(FOLDER) else None
        if match is not None and "/" not in name.removeprefix(FOLDER):
            numbered.setdefault(int(match[1] or match[2]), []).append(file)
    return numbered


def _hint(files: Files) -> int | None:
    """The version that the hint names: a number, or a metadata file; None without a hint, or one that means nothing."""
    if _HINT not in files:
        return None
    with reading("version-hint.text"), open_file(files[_HINT].uri) as source:
        text = source.read(_MAX_HINT_BYTES).decode("ascii", "replace").strip()
    named = re.fullmatch(r"(\d{1,18})", text, re.ASCII) or _NAME.fullmatch(text) or _NAME.fullmatch(text + _ENDING)
    return None if named is None else int(named[1] or named[2])


def _leads_to(hint: int, newest: int, numbered: Mapping[int, object]) -> bool:
    """Whether each version from the hint on is there, as readers without a catalog follow them."""
    return hint <= newest and newest - hint < len(numbered) and all(n in numbered for n in range(hint, newest))


def _read(uri: str) -> tuple[dict[str, Any], int]:
    with reading("the table's metadata file"), open_file(uri) as source:
        data = bytes(source.read(_MAX_BYTES))
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MAX_BYTES) if data.startswith(_GZIP) else data
        raw = parse_json(plain)
    if not isinstance(raw, dict):
        raise TableFailed("the table's metadata file is not a JSON object", error="IcebergMetadata")
    return raw, len(data)


def _parse(raw: Mapping[str, Any], size: int) -> TableMetadata:
    version = raw.get("format-version")
    if version not in FORMAT_VERSIONS:
        raise TableUnsupported(f"Iceberg format version {shown(version)} is not supported", error="IcebergFormat")
    if raw.get("encryption-keys"):
        raise TableUnsupported("encrypted Iceberg tables are not supported", error="Encrypted")
    try:
        properties = raw.get("properties") or {}
        schema = _current_schema(raw)
        return TableMetadata(
            schema=schema,
            name_mapping=properties.get("schema.name-mapping.default"),
            schemas=[*map(dict, raw.get("schemas") or ()), schema],
            specs=_specs(raw),
            snapshot=_current_snapshot(raw),
            snapshots=_snapshots(raw),
            bytes_read=size,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        raise TableFailed("the table's metadata file is broken", error="IcebergMetadata") from exc


def _current_schema(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    if "schemas" not in raw:
        return dict(raw["schema"])
    (schema,) = [s for s in raw["schemas"] if s["schema-id"] == raw["current-schema-id"]]
    return dict(schema)


def _specs(raw: Mapping[str, Any]) -> dict[int, list[PartitionField]]:
    if "partition-specs" not in raw:  # format version 1 before there were several
        return {0: _spec_fields(raw.get("partition-spec") or [])}
    return {int(spec["spec-id"]): _spec_fields(spec["fields"]) for spec in raw["partition-specs"]}


def _spec_fields(fields: Sequence[Mapping[str, Any]]) -> list[PartitionField]:
    first_id = 1000
    return [
        PartitionField(
            id=int(field.get("field-id", first_id + place)),
            source=_source(field),
            transform=str(field["transform"]),
        )
        for place, field in enumerate(fields)
    ]


def _source(field: Mapping[str, Any]) -> int:
    if "source-id" not in field:
        raise TableUnsupported("partition fields of several columns are not supported", error="IcebergPartition")
    return int(field["source-id"])


def _snapshots(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [dict(snapshot) for snapshot in raw.get("snapshots") or []]


def _current_snapshot(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    current = raw.get("current-snapshot-id")
    if current is None or current == _NO_SNAPSHOT:
        return None
    (snapshot,) = [s for s in _snapshots(raw) if s["snapshot-id"] == current]
    return snapshot


def _check_metadata_folder(table_uri: str, raw: Mapping[str, Any]) -> None:
    """Refuse a table whose newer metadata files would lie elsewhere."""
    elsewhere = (raw.get("properties") or {}).get("write.metadata.path")
    if elsewhere is not None and location_uri(table_uri, elsewhere).rstrip("/") != f"{table_uri}/{FOLDER}".rstrip("/"):
        raise TableUnsupported("the table keeps its metadata in another folder", error="IcebergMetadata")


def kept_snapshots(table_uri: str, pinned: str | None, *, of_all_versions: bool) -> Iterator[Mapping[str, Any]]:
    """Snapshots that a table's metadata names, each once; nothing is raised.

    Args:
        table_uri: Its folder.
        pinned: The metadata file that a catalog names; None means the newest in the folder.
        of_all_versions: Look into every metadata file that can be read.
    """
    seen: set[Any] = set()
    for uri in _metadata_uris(table_uri, pinned, of_all_versions=of_all_versions):
        with contextlib.suppress(TableFault, TypeError, ValueError):
            for snapshot in _snapshots(_read(uri)[0]):
                if snapshot.get("manifest-list") not in seen:
                    seen.add(snapshot.get("manifest-list"))
                    yield snapshot


def _metadata_uris(table_uri: str, pinned: str | None, *, of_all_versions: bool) -> list[str]:
    uris = [] if pinned is None else [pinned]
    with contextlib.suppress(TableFault):
        if of_all_versions:
            uris += [file.uri for files in _numbered(metadata_files(table_uri)).values() for file in files]
        elif pinned is None:
            uris.append(current_file(metadata_files(table_uri)).uri)
    return uris
