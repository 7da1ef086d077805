"""Which delete files of an Iceberg table may delete rows of which data file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.delta.files import shown
from r2d2.lake.iceberg.manifests import PATH_FIELD, Entry
from r2d2.lake.iceberg.metadata import TableMetadata
from r2d2.lake.iceberg.schema import column_of_id
from r2d2.model import FileStamp, schema_to_bytes
from r2d2.scan.deletes import DeleteFile, Deletes
from r2d2.scan.field_ids import field_id

_PartitionKey = tuple[int, tuple[tuple[int, Any], ...]]


class DeleteIndex:
    """Finds the delete files of a data file, by the rules of the specification's *Scan Planning*."""

    def __init__(
        self, deletes: Sequence[Entry], stamps: Mapping[str, FileStamp], metadata: TableMetadata, schema: pa.Schema
    ) -> None:
        """Sort the delete files of a snapshot by what they may delete.

        Args:
            deletes: The delete files.
            stamps: What pins them, by uri.
            metadata: Of the table.
            schema: Its current columns.

        Raises:
            TableUnsupported: If values are compared that the kernel does not compare as Iceberg does.
            TableFailed: If a delete file has a partition spec that the table lacks.
        """
        self._stamps = stamps
        self._by_path: dict[str, list[Entry]] = {}
        self._by_partition: dict[_PartitionKey, list[Entry]] = {}
        self._by_value: dict[_PartitionKey | None, list[Entry]] = {}
        for entry in deletes:
            if entry.content is DataFileContent.EQUALITY_DELETES:
                scope = None if _is_unpartitioned(entry, metadata) else entry.partition_key
                self._by_value.setdefault(scope, []).append(entry)
            elif entry.referenced is not None:
                self._by_path.setdefault(entry.referenced, []).append(entry)
            else:
                self._by_partition.setdefault(entry.partition_key, []).append(entry)
        ids = sorted({number for entries in self._by_value.values() for entry in entries for number in entry.equality})
        self._columns = {number: _compared(number, metadata, schema) for number in ids}

    def of(self, data: Entry) -> list[Entry]:
        """Delete files that may delete rows of a data file.

        Of those that name positions, its vector holds all older ones.

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
        named = vectors or own + [e for e in shared if e.sequence >= data.sequence and _may_name(e, data.path)]
        by_value = [*self._by_value.get(None, ()), *self._by_value.get(data.partition_key, ())]
        return named + [entry for entry in by_value if entry.sequence > data.sequence]

    def text_of(self, data: Entry, deletes: Sequence[Entry], partition: Mapping[int, str | None]) -> str:
        """The name of the deletes for the fragment.

        Args:
            data: The data file.
            deletes: What `of` returns for it.
            partition: By column id, values of identity partitions as text.
        """
        compared = sorted({number for entry in deletes for number in entry.equality})
        schema = pa.schema([self._columns[number] for number in compared])
        return Deletes(
            path=data.path,
            files=tuple(sorted(map(self._file, deletes), key=_order)),
            schema=base64.b64encode(schema_to_bytes(schema)).decode() if compared else "",
            defaults={str(number): text for number, text in partition.items() if number in compared},
        ).to_text()

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
            columns=entry.equality,
        )


def _order(file: DeleteFile) -> tuple[str, int]:
    return file.uri, file.offset or 0


def _may_name(delete: Entry, path: str) -> bool:
    """Whether a file of position deletes may name a data file, going by the bounds of its paths."""
    low, high, own = delete.lows.get(PATH_FIELD), delete.highs.get(PATH_FIELD), path.encode()
    return (low is None or low <= own) and (high is None or own <= high)


def _is_unpartitioned(entry: Entry, metadata: TableMetadata) -> bool:
    """Whether a file of equality deletes counts for all partitions: its spec has no field that was not removed."""
    if entry.spec not in metadata.specs:
        raise TableFailed("a manifest has a partition spec that the table lacks", error="IcebergManifest")
    return all(part.transform == "void" for part in metadata.specs[entry.spec])


def _compared(number: int, metadata: TableMetadata, schema: pa.Schema) -> pa.Field:
    """A column by which rows are deleted, called by its id; it may have been dropped since.

    Iceberg tells 0.0 from -0.0 there.
    """
    column = column_of_id(number, metadata.schemas, metadata.name_mapping)
    says = f"equality deletes by column {shown(column.name)!r} are not supported"
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        raise TableUnsupported(f"{says}, of type {column.type}", error="IcebergDeletes")
    is_dropped = all(field_id(current) != number for current in schema)
    sources = {part.source for spec in metadata.specs.values() for part in spec if part.transform == "identity"}
    if is_dropped and (metadata.name_mapping is not None or number in sources):
        raise TableUnsupported(f"{says}, which was dropped", error="IcebergDeletes")
    return column.with_name(str(number))
