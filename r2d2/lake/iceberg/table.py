"""Harvest of an Iceberg table: its current snapshot from metadata and manifests, without opening a data file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.files import Files, list_files
from r2d2.lake.delta.log import as_milliseconds
from r2d2.lake.iceberg.deletes import DeleteIndex
from r2d2.lake.iceberg.manifests import Entry, ManifestReader
from r2d2.lake.iceberg.metadata import (
    FOLDER,
    PartitionField,
    TableMetadata,
    metadata_files,
    read_metadata,
    read_pinned_metadata,
)
from r2d2.lake.iceberg.schema import leaf_ids, parse_schema
from r2d2.lake.iceberg.stats import computed_by, manifest_claims
from r2d2.model import Claim, FileStamp, FoundTable, Fragment, Harvest
from r2d2.scan.field_ids import field_id, stored_identities
from r2d2.scan.files import is_remote, stamp

NO_PARENT_REASON = "Spark and Sail read Iceberg tables only with a catalog or Iceberg's own runtime"

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def harvest_iceberg(found: FoundTable) -> Harvest:
    """Pin the current snapshot of an Iceberg table and read its metadata from the manifests.

    Args:
        found: The table; its uri is the folder that holds `metadata`, local or in an object store. A metadata file that
            a catalog names may lie anywhere.

    Returns:
        One fragment per live data file, sorted by uri; the schema's fields carry their field ids. `history_bytes` are
        the files below the folder that the snapshot does not use, those of `metadata`, names with a leading `_` or `.`
        and tables nested in it left out.

    Raises:
        TableFailed: If metadata, a manifest or a file that it names is missing or damaged.
        TableUnsupported: For what cannot be read faithfully, named in the message.
    """
    uri = found.uri.rstrip("/") if is_remote(found.uri) else os.path.abspath(found.uri)
    files = _listing(uri, is_pinned=found.metadata is not None)
    metadata = read_metadata(uri, files) if found.metadata is None else read_pinned_metadata(found.metadata)
    schema = parse_schema(metadata.schema, metadata.name_mapping)
    reader = ManifestReader(table_uri=uri)
    entries = reader.entries(metadata.snapshot) if metadata.snapshot is not None else []
    _check_readable(entries)
    data = sorted((entry for entry in entries if entry.content is DataFileContent.DATA), key=lambda entry: entry.uri)
    stamps = _stamps(entries, files)
    deletes = DeleteIndex([e for e in entries if e.content is not DataFileContent.DATA], stamps, metadata, schema)
    fragments, claims = _fragments(data, stamps, deletes, metadata, schema)
    return Harvest(
        schema=schema,
        version=metadata.version,
        fragments=fragments,
        claims=claims,
        table_bytes=sum(file.size for file in stamps.values()),
        history_bytes=_history_bytes(files, stamps),
        no_parent_reason=NO_PARENT_REASON,
        stored_as=stored_identities(schema, "iceberg"),
        written_ms=None if metadata.snapshot is None else as_milliseconds(metadata.snapshot.get("timestamp-ms")),
        bytes_read=metadata.bytes_read + reader.bytes_read,
    )


def is_current(found: FoundTable, harvest: Harvest) -> bool:
    """Whether a table without a catalog still has the snapshot and the schema that were harvested."""
    uri = found.uri.rstrip("/") if is_remote(found.uri) else os.path.abspath(found.uri)
    try:
        metadata = read_metadata(uri, metadata_files(uri))
        schema = parse_schema(metadata.schema, metadata.name_mapping)
    except TableFault:
        return False
    return metadata.version == harvest.version and bool(schema.equals(harvest.schema, check_metadata=True))


# --- files ------------------------------------------------------------------------------------------------------------


def _listing(uri: str, *, is_pinned: bool) -> Files:
    """The files below a table's folder, which need not exist where a catalog knows of the metadata."""
    try:
        return list_files(uri)
    except TableFailed as exc:
        if is_pinned and exc.error == "FileMissing":
            return {}
        raise


def _check_readable(entries: Sequence[Entry]) -> None:
    for entry in entries:
        is_vector = entry.content is DataFileContent.POSITION_DELETES and entry.file_format is FileFormat.PUFFIN
        if entry.file_format is not FileFormat.PARQUET and not is_vector:
            kind = "data" if entry.content is DataFileContent.DATA else "delete"
            raise TableUnsupported(
                f"{kind} files of format {entry.file_format.value} are not supported", error="IcebergFormat"
            )
        if entry.content is DataFileContent.EQUALITY_DELETES and not entry.equality:
            raise TableFailed("an equality delete file does not say what it compares", error="IcebergManifest")
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


# --- fragments --------------------------------------------------------------------------------------------------------


def _fragments(
    data: Sequence[Entry],
    stamps: Mapping[str, FileStamp],
    index: DeleteIndex,
    metadata: TableMetadata,
    schema: pa.Schema,
) -> tuple[tuple[Fragment, ...], tuple[Claim, ...]]:
    leaves = list(leaf_ids(schema))
    names = {field_id(column): column.name for column in schema}
    fragments: list[Fragment] = []
    claims: list[Claim] = []
    for position, entry in enumerate(data):
        deletes = index.of(entry)
        partition = dict(_identity_partition(entry, metadata, schema))
        fragments.append(
            Fragment(
                stamp=stamps[entry.uri],
                data_uri=entry.uri,
                rows=_live_rows(entry, deletes),
                partition={names[number]: text for number, text in partition.items()},
                deletes=index.text_of(entry, deletes, partition) if deletes else "",
            )
        )
        writer = computed_by(entry, metadata.writers.get(entry.snapshot, ""))
        claims.extend(manifest_claims(position, entry, leaves, writer, has_deletes=bool(deletes)))
    return tuple(fragments), tuple(claims)


def _live_rows(entry: Entry, deletes: Sequence[Entry]) -> int | None:
    """Rows that are left: only vectors count what they delete."""
    if any(delete.file_format is not FileFormat.PUFFIN for delete in deletes):
        return None
    left = entry.rows - sum(delete.rows for delete in deletes)
    if left < 0:
        raise TableFailed("a deletion vector deletes more rows than its data file has", error="IcebergManifest")
    return left


def _identity_partition(entry: Entry, metadata: TableMetadata, schema: pa.Schema) -> Iterator[tuple[int, str | None]]:
    """Values, as text by field id, of the columns that a file of an imported Hive layout lacks."""
    if entry.spec not in metadata.specs:
        raise TableFailed("a manifest has a partition spec that the table lacks", error="IcebergManifest")
    columns = {field_id(column): column for column in schema}
    for part in metadata.specs[entry.spec]:
        if part.transform == "identity" and part.source in columns and part.id in entry.partition:
            column = columns[part.source]
            yield part.source, _as_text(entry.partition[part.id], column.type)
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
