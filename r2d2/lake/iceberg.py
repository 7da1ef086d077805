"""Harvest of an Iceberg table: its current snapshot from metadata and manifests, without opening a data file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta_files import Files, list_files
from r2d2.lake.iceberg_manifests import PATH_FIELD, Entry, ManifestReader
from r2d2.lake.iceberg_metadata import FOLDER, PartitionField, TableMetadata, metadata_files, read_metadata
from r2d2.lake.iceberg_schema import leaf_ids, parse_schema, stored_as
from r2d2.lake.iceberg_stats import computed_by, manifest_claims
from r2d2.model import Claim, FileStamp, FoundTable, Fragment, Harvest
from r2d2.scan.deletes import DeleteFile, Deletes
from r2d2.scan.field_ids import field_id
from r2d2.scan.files import is_remote, stamp

NO_PARENT_REASON = "Spark and Sail read Iceberg tables only with a catalog or Iceberg's own runtime"

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PartitionKey = tuple[int, tuple[tuple[int, Any], ...]]


def harvest_iceberg(found: FoundTable) -> Harvest:
    """Pin the current snapshot of an Iceberg table and read its metadata from the manifests.

    Args:
        found: The table; its uri is the folder that holds `metadata`, local or in an object store.

    Returns:
        One fragment per live data file, sorted by uri; the schema's fields carry their field ids. `history_bytes` are
        the files below the folder that the snapshot does not use, those of `metadata`, names with a leading `_` or `.`
        and tables nested in it left out.

    Raises:
        TableFailed: If metadata, a manifest or a file that it names is missing or damaged.
        TableUnsupported: For what cannot be read faithfully, named in the message.
    """
    uri = found.uri.rstrip("/") if is_remote(found.uri) else os.path.abspath(found.uri)
    files = list_files(uri)
    metadata = read_metadata(uri, files)
    schema = parse_schema(metadata.schema, metadata.name_mapping)
    reader = ManifestReader(table_uri=uri)
    entries = reader.entries(metadata.snapshot) if metadata.snapshot is not None else []
    _check_readable(entries)
    data = sorted((entry for entry in entries if entry.content is DataFileContent.DATA), key=lambda entry: entry.uri)
    stamps = _stamps(entries, files)
    deletes = _DeleteIndex([e for e in entries if e.content is not DataFileContent.DATA], stamps)
    fragments, claims = _fragments(data, stamps, deletes, metadata, schema)
    return Harvest(
        schema=schema,
        version=metadata.version,
        fragments=fragments,
        claims=claims,
        table_bytes=sum(file.size for file in stamps.values()),
        history_bytes=_history_bytes(files, stamps),
        no_parent_reason=NO_PARENT_REASON,
        stored_as=stored_as(schema),
        bytes_read=metadata.bytes_read + reader.bytes_read,
    )


def is_current(found: FoundTable, harvest: Harvest) -> bool:
    """Whether a table still has the snapshot and the schema that were harvested."""
    uri = found.uri.rstrip("/") if is_remote(found.uri) else os.path.abspath(found.uri)
    try:
        metadata = read_metadata(uri, metadata_files(uri))
        schema = parse_schema(metadata.schema, metadata.name_mapping)
    except TableFault:
        return False
    return metadata.version == harvest.version and bool(schema.equals(harvest.schema, check_metadata=True))


# --- files ------------------------------------------------------------------------------------------------------------


def _check_readable(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.content is DataFileContent.EQUALITY_DELETES:
            raise TableUnsupported("equality deletes are not supported", error="IcebergDeletes")
        is_vector = entry.content is DataFileContent.POSITION_DELETES and entry.file_format is FileFormat.PUFFIN
        if entry.file_format is not FileFormat.PARQUET and not is_vector:
            kind = "data" if entry.content is DataFileContent.DATA else "delete"
            raise TableUnsupported(
                f"{kind} files of format {entry.file_format.value} are not supported", error="IcebergFormat"
            )
        if is_vector and (entry.referenced is None or entry.offset is None or entry.length is None):
            raise TableFailed("a deletion vector lacks its place or its data file", error="IcebergManifest")
    paths = [entry.uri for entry in entries if entry.content is DataFileContent.DATA]
    if len(set(paths)) < len(paths):
        raise TableFailed("the manifests name a data file twice", error="IcebergManifest")


def _stamps(entries: Sequence[Entry], files: Files) -> dict[str, FileStamp]:
    """Stamps of data and delete files by uri: from the listing, one by one where they lie elsewhere."""
    listed = {file.uri: file for file in files.values()}
    return {entry.uri: _stamp(entry, listed) for entry in entries}


def _stamp(entry: Entry, listed: Mapping[str, FileStamp]) -> FileStamp:
    try:
        found = listed.get(entry.uri) or stamp(entry.uri)
    except TableFailed as exc:
        if exc.error != "FileMissing":
            raise
        raise TableFailed("a file named by the manifests is missing", error="FileMissing") from exc
    if found.size != entry.size:
        raise TableFailed("a file does not have the size that the manifests say", error="FileSize")
    return found


def _history_bytes(files: Files, used: Mapping[str, FileStamp]) -> int:
    logs = ("/_delta_log/", f"/{FOLDER}")
    nested = tuple({name.split(log)[0] + "/" for name in files for log in logs if log in name})
    return sum(
        file.size
        for name, file in files.items()
        if file.uri not in used
        and not name.startswith((FOLDER, *nested))
        and not any(part.startswith((".", "_")) for part in name.split("/"))
    )


# --- deletes ----------------------------------------------------------------------------------------------------------


class _DeleteIndex:
    """Finds the delete files of a data file, by the rules of the specification's *Scan Planning*."""

    def __init__(self, deletes: Sequence[Entry], stamps: Mapping[str, FileStamp]) -> None:
        self._stamps = stamps
        self._by_path: dict[str, list[Entry]] = {}
        self._by_partition: dict[_PartitionKey, list[Entry]] = {}
        for entry in deletes:
            if entry.referenced is not None:
                self._by_path.setdefault(entry.referenced, []).append(entry)
            else:
                self._by_partition.setdefault(entry.partition_key, []).append(entry)

    def of(self, data: Entry) -> list[Entry]:
        """Delete files that may delete rows of a data file: its vector, which holds all older deletes, or the others.

        Raises:
            TableFailed: If the file has two vectors, or a delete file names it that is of another partition.
        """
        own = [entry for entry in self._by_path.get(data.path, ()) if entry.sequence >= data.sequence]
        if any(entry.partition_key != data.partition_key for entry in own):
            raise TableFailed("a delete file names a data file of another partition", error="IcebergManifest")
        vectors = [entry for entry in own if entry.file_format is FileFormat.PUFFIN]
        if len(vectors) > 1:
            raise TableFailed("a data file has two deletion vectors", error="IcebergManifest")
        shared = self._by_partition.get(data.partition_key, ())
        return vectors or own + [e for e in shared if e.sequence >= data.sequence and _may_name(e, data.path)]

    def text_of(self, data: Entry, deletes: Sequence[Entry]) -> str:
        """The name of the deletes for the fragment; empty without any."""
        return Deletes(path=data.path, files=tuple(sorted(map(self._file, deletes), key=_order))).to_text()

    def _file(self, entry: Entry) -> DeleteFile:
        pinned = self._stamps[entry.uri]
        is_vector = entry.file_format is FileFormat.PUFFIN
        return DeleteFile(
            uri=pinned.uri,
            size=pinned.size,
            token=pinned.token,
            offset=entry.offset if is_vector else None,
            length=entry.length if is_vector else None,
            rows=entry.rows if is_vector else None,
        )


def _order(file: DeleteFile) -> tuple[str, int]:
    return file.uri, file.offset or 0


def _may_name(delete: Entry, path: str) -> bool:
    """Whether a file of position deletes may name a data file, going by the bounds of its paths."""
    low, high, own = delete.lows.get(PATH_FIELD), delete.highs.get(PATH_FIELD), path.encode()
    return (low is None or low <= own) and (high is None or own <= high)


# --- fragments --------------------------------------------------------------------------------------------------------


def _fragments(
    data: Sequence[Entry],
    stamps: Mapping[str, FileStamp],
    index: _DeleteIndex,
    metadata: TableMetadata,
    schema: pa.Schema,
) -> tuple[tuple[Fragment, ...], tuple[Claim, ...]]:
    leaves = list(leaf_ids(schema))
    fragments: list[Fragment] = []
    claims: list[Claim] = []
    for position, entry in enumerate(data):
        deletes = index.of(entry)
        fragments.append(
            Fragment(
                stamp=stamps[entry.uri],
                data_uri=entry.uri,
                rows=_live_rows(entry, deletes),
                partition=dict(_identity_partition(entry, metadata, schema)),
                deletes=index.text_of(entry, deletes) if deletes else "",
            )
        )
        writer = computed_by(entry, metadata.writers.get(entry.snapshot, ""))
        claims.extend(manifest_claims(position, entry, leaves, writer, has_deletes=bool(deletes)))
    return tuple(fragments), tuple(claims)


def _live_rows(entry: Entry, deletes: Sequence[Entry]) -> int | None:
    """Rows that are left: files of positions may name a row twice, vectors count what they delete."""
    if any(delete.file_format is not FileFormat.PUFFIN for delete in deletes):
        return None
    left = entry.rows - sum(delete.rows for delete in deletes)
    if left < 0:
        raise TableFailed("a deletion vector deletes more rows than its data file has", error="IcebergManifest")
    return left


def _identity_partition(entry: Entry, metadata: TableMetadata, schema: pa.Schema) -> Iterator[tuple[str, str | None]]:
    """Values, as text, of the columns that a file of an imported Hive layout lacks; others have them in the file."""
    if entry.spec not in metadata.specs:
        raise TableFailed("a manifest has a partition spec that the table lacks", error="IcebergManifest")
    columns = {field_id(column): column for column in schema}
    for part in metadata.specs[entry.spec]:
        if part.transform == "identity" and part.source in columns and part.id in entry.partition:
            column = columns[part.source]
            yield column.name, _as_text(entry.partition[part.id], column.type)
        elif part.transform == "identity" and _is_nested(part, schema):
            raise TableUnsupported("partitions by fields of structs are not supported", error="IcebergPartition")


def _is_nested(part: PartitionField, schema: pa.Schema) -> bool:
    return any(number == part.source for number, path, _ in leaf_ids(schema) if len(path) > 1)


def _as_text(value: Any, dtype: pa.DataType) -> str | None:
    """A value of a partition tuple as DuckDB casts it to the column's type."""
    t = pa.types
    if value is None:
        return None
    try:
        if t.is_date32(dtype):
            return (_EPOCH + datetime.timedelta(days=int(value))).date().isoformat()
        if t.is_timestamp(dtype) and dtype.unit == "us":
            instant = _EPOCH + datetime.timedelta(microseconds=int(value))
            return (instant if dtype.tz else instant.replace(tzinfo=None)).isoformat(sep=" ")
    except (OverflowError, ValueError, TypeError) as exc:
        raise TableUnsupported("a partition value is out of range", error="IcebergPartition") from exc
    if t.is_decimal128(dtype):
        return format(value, "f")
    if t.is_integer(dtype) or t.is_string(dtype) or t.is_boolean(dtype) or t.is_floating(dtype):
        return str(value)
    raise TableUnsupported(f"partitions by columns of type {dtype} are not supported", error="IcebergPartition")
