"""Manifests of an Iceberg table: which data files a snapshot has, and which files delete rows of which."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.avro.file import AvroFile
from pyiceberg.io import InputFile, InputStream
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
)

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.files import reading, shown
from r2d2.lake.iceberg.metadata import kept_snapshots, location_uri
from r2d2.scan.files import open_file, stamp

PATH_FIELD = 2147483546
"""Reserved id of the column `file_path` in files of position deletes."""

_NEWEST_SCHEMA = 3
_EQUALITY, _REFERENCED, _OFFSET, _LENGTH = 135, 143, 144, 145
_PLACES = {
    found.field_id: place
    for place, found in enumerate(MANIFEST_ENTRY_SCHEMAS[_NEWEST_SCHEMA].find_field("data_file").field_type.fields)  # type: ignore[attr-defined]
}
_MAX_ROWS = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A live file of a snapshot.

    Attributes:
        path: Its location as the manifest writes it.
        uri: Where that is.
        content: Rows, positions to delete, or values to delete.
        file_format: Of the file.
        spec: Id of its partition spec.
        partition: Values of the partition tuple by id of the partition field.
        rows: Records of the file.
        size: Bytes of the file.
        sequence: Data sequence number: deletes apply to files that are not newer.
        snapshot: The snapshot that added it, where known.
        has_offsets: It says where its row groups begin, as files do that an engine has written for the table.
        equality: Ids of the columns by whose values it deletes rows; empty for other files.
        referenced: The one data file whose rows it deletes.
        offset, length: Place of a deletion vector in the file.
        values, nulls, nans: Counts by field id.
        lows, highs: Bounds by field id.
    """

    path: str
    uri: str
    content: DataFileContent
    file_format: FileFormat
    spec: int
    partition: Mapping[int, Any]
    rows: int
    size: int
    sequence: int
    snapshot: int | None
    has_offsets: bool
    equality: tuple[int, ...]
    referenced: str | None
    offset: int | None
    length: int | None
    values: Mapping[int, int]
    nulls: Mapping[int, int]
    nans: Mapping[int, int]
    lows: Mapping[int, bytes]
    highs: Mapping[int, bytes]

    @property
    def partition_key(self) -> tuple[int, tuple[tuple[int, Any], ...]]:
        """Files are in the same partition if their specs and tuples are equal."""
        values = ((number, "NaN" if value != value else value) for number, value in self.partition.items())
        return self.spec, tuple(sorted(values, key=lambda item: item[0]))


@dataclass(kw_only=True)
class ManifestReader:
    """Reads manifests, each once, and counts the bytes."""

    table_uri: str
    bytes_read: int = 0
    named: set[str] = field(default_factory=set)

    def entries(self, snapshot: Mapping[str, Any]) -> list[Entry]:
        """Live data files and delete files of a snapshot.

        Raises:
            TableFailed: If a manifest is missing or damaged.
            TableUnsupported: For encrypted manifests, and snapshots from before there were manifest lists.
        """
        return [entry for manifest in self.manifests(snapshot) for entry in self._entries(manifest)]

    def manifests(self, snapshot: Mapping[str, Any]) -> list[ManifestFile]:
        """Manifests of a snapshot."""
        if snapshot.get("key-id") is not None:
            raise TableUnsupported("encrypted Iceberg tables are not supported", error="Encrypted")
        if "manifest-list" not in snapshot:
            raise TableUnsupported("snapshots without a manifest list are not supported", error="IcebergFormat")
        with reading("a manifest list of the table"):
            manifests = list(read_manifest_list(self._input(snapshot["manifest-list"])))
        if any(manifest.key_metadata is not None for manifest in manifests):
            raise TableUnsupported("encrypted Iceberg tables are not supported", error="Encrypted")
        return manifests

    def _entries(self, manifest: ManifestFile) -> Iterator[Entry]:
        with reading("a manifest of the table"):
            partition_ids, entries = self.all_entries(manifest)
            found = [
                self._entry(entry, manifest, partition_ids)
                for entry in entries
                if entry.status != ManifestEntryStatus.DELETED
            ]
        yield from found

    def all_entries(self, manifest: ManifestFile) -> tuple[list[int], list[ManifestEntry]]:
        """Ids of the fields of the partition tuples, and all entries, those of removed files too."""
        avro = AvroFile[ManifestEntry](
            self._input(manifest.manifest_path),
            MANIFEST_ENTRY_SCHEMAS[_NEWEST_SCHEMA],
            read_types={-1: ManifestEntry, 2: DataFile},
            read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
        )
        with avro as reader:
            entries = list(reader)
            data_file: Any = reader.schema.find_field("data_file").field_type
            partition: Any = next(f.field_type for f in data_file.fields if f.name == "partition")
            return [child.field_id for child in partition.fields], entries

    def _entry(self, entry: ManifestEntry, manifest: ManifestFile, partition_ids: list[int]) -> Entry:
        file = entry.data_file
        is_delete = manifest.content is ManifestContent.DELETES
        content = file.content or DataFileContent.DATA
        if (content is not DataFileContent.DATA) != is_delete:
            raise TableFailed("a manifest mixes data files and delete files", error="IcebergManifest")
        if file[_PLACES[131]] is not None:
            raise TableUnsupported("encrypted data files are not supported", error="Encrypted")
        return Entry(
            path=file.file_path,
            uri=location_uri(self.table_uri, file.file_path),
            content=content,
            file_format=file.file_format,
            spec=manifest.partition_spec_id,
            partition={number: file.partition[place] for place, number in enumerate(partition_ids)},
            rows=_count(file.record_count),
            size=_count(file.file_size_in_bytes),
            sequence=_sequence(entry, manifest),
            snapshot=entry.snapshot_id if entry.snapshot_id is not None else manifest.added_snapshot_id,
            has_offsets=bool(file.split_offsets),
            equality=tuple(sorted(file[_PLACES[_EQUALITY]] or ())),
            referenced=file[_PLACES[_REFERENCED]],
            offset=file[_PLACES[_OFFSET]],
            length=file[_PLACES[_LENGTH]],
            values=dict(file.value_counts or {}),
            nulls=dict(file.null_value_counts or {}),
            nans=dict(file.nan_value_counts or {}),
            lows=dict(file.lower_bounds or {}),
            highs=dict(file.upper_bounds or {}),
        )

    def _input(self, location: object) -> _Input:
        uri = location_uri(self.table_uri, location)
        self.named.add(uri)
        stamp(uri)  # refuses what is no plain file
        with open_file(uri) as source:
            data = bytes(source.read())
        self.bytes_read += len(data)
        return _Input(str(location), data)


class _Input(InputFile):
    """Bytes that were read, as pyiceberg wants them."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__(location)
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - pyiceberg's interface
        return io.BytesIO(self._data)


def _count(number: Any) -> int:
    if not isinstance(number, int) or not 0 <= number < _MAX_ROWS:
        raise TableFailed(f"a manifest counts {shown(number)} rows or bytes", error="IcebergManifest")
    return number


def _sequence(entry: ManifestEntry, manifest: ManifestFile) -> int:
    """The data sequence number; new files have that of their manifest, and format version 1 has none."""
    number = entry.sequence_number
    if number is None and (manifest.sequence_number in (None, 0) or entry.status == ManifestEntryStatus.ADDED):
        number = manifest.sequence_number or 0
    if number is None:
        raise TableFailed("a manifest entry lacks its sequence number", error="IcebergManifest")
    return number


def files_named_in_manifests(table_uri: str, pinned: str | None = None, *, of_all_versions: bool) -> set[str]:
    """Uris of all files that a table's snapshots lead to: manifests, data files, delete files.

    Nothing is raised: what cannot be read here, no reader of the table can read either.

    Args:
        table_uri: The table's folder.
        pinned: The metadata file that a catalog names; None means the newest in the folder.
        of_all_versions: Look into every metadata file, not only the newest: for tables that were not harvested, whose
            newest one may not be known.
    """
    reader = ManifestReader(table_uri=table_uri)
    seen: set[str] = set()
    for snapshot in kept_snapshots(table_uri, pinned, of_all_versions=of_all_versions):
        manifests: list[ManifestFile] = []
        with contextlib.suppress(TableFault):
            manifests = reader.manifests(snapshot)
        for manifest in (m for m in manifests if m.manifest_path not in seen):
            seen.add(manifest.manifest_path)
            with contextlib.suppress(Exception):
                for entry in reader.all_entries(manifest)[1]:
                    with contextlib.suppress(TableFault):
                        reader.named.add(location_uri(table_uri, entry.data_file.file_path))
    return reader.named
