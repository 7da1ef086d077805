"""Parquet footers: what a file holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import LeafPath
from r2d2.scan.files import open_file, stamp
from r2d2.scan.footer_schema import footer_schema, is_legacy, refuse_spark_types, width

_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_TRAILER_BYTES = 8
_FIRST_READ_BYTES = 1 << 16
_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RuntimeError)


@dataclass(frozen=True, kw_only=True)
class Footer:
    """The footer of one Parquet file.

    Attributes:
        schema: One nullable field per top-level column, in file order, names verbatim (they may repeat).
        int96: Leaves that hold values stored as INT96.
        rows: Rows of the file.
        writer: `created_by`, or empty.
        column_bytes: Compressed bytes of all column chunks, per top-level column.
        data: The footer with its trailer, as stored.
        legacy_calendar: The file holds dates or timestamps as Spark 2 wrote them; only Spark reads them as meant.
        metadata: The footer as pyarrow parsed it.
    """

    schema: pa.Schema
    int96: frozenset[LeafPath]
    rows: int
    writer: str
    column_bytes: tuple[int, ...]
    data: bytes
    legacy_calendar: bool
    metadata: pq.FileMetaData

    @property
    def footer_bytes(self) -> int:
        """Bytes of the footer with its trailer."""
        return len(self.data)


def read_footer(uri: str) -> Footer:
    """Read the footer of a Parquet file, and nothing else of it.

    Args:
        uri: Absolute local path or object-store URL.

    Raises:
        TableFailed: If the file is missing, no plain file, empty, cut off or not Parquet.
        TableUnsupported: If it is encrypted, or a column has a type that the contract does not list.
    """
    name = repr(os.path.basename(uri))
    data = _footer_bytes(uri, name)
    metadata = _parse(data, name)
    schema, int96 = footer_schema(metadata, name)
    keys = metadata.metadata or {}
    refuse_spark_types(keys, name)
    return Footer(
        schema=schema,
        int96=int96,
        rows=metadata.num_rows,
        writer=metadata.created_by or "",
        column_bytes=_column_bytes(metadata, schema),
        data=data,
        legacy_calendar=is_legacy(keys, schema, has_int96=bool(int96)),
        metadata=metadata,
    )


# --- bytes ------------------------------------------------------------------------------------------------------------


def _footer_bytes(uri: str, name: str) -> bytes:
    """The last bytes of a file, from the start of its footer on."""
    size = stamp(uri).size
    if size < len(_MAGIC) + _TRAILER_BYTES:
        raise TableFailed(f"{name} is no Parquet file: it has {size} bytes", error="NotParquet")
    try:
        with open_file(uri) as file:
            tail = _last_bytes(file, size, min(size, _FIRST_READ_BYTES))
            length = _footer_length(tail, size, name)
            return tail[-length:] if length <= len(tail) else _last_bytes(file, size, length)
    except OSError as exc:
        raise TableFailed(f"{name} cannot be read: {type(exc).__name__}", error="Unreadable") from exc


def _last_bytes(file: Any, size: int, count: int) -> bytes:
    file.seek(size - count)
    return bytes(file.read(count))


def _footer_length(tail: bytes, size: int, name: str) -> int:
    """Bytes of footer and trailer together."""
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise TableUnsupported(f"{name} is encrypted", error="Encrypted")
    if tail[-4:] != _MAGIC:
        raise TableFailed(f"{name} is no Parquet file, or is cut off: it does not end like one", error="NotParquet")
    length = int.from_bytes(tail[-8:-4], "little") + _TRAILER_BYTES
    if length + len(_MAGIC) > size:
        raise TableFailed(f"{name} is damaged: its footer is longer than the file", error="NotParquet")
    return length


def _parse(data: bytes, name: str) -> pq.FileMetaData:
    """The parsed footer.

    A footer in plain text of a file with encrypted columns is followed by a signature. Such a file must be refused
    here: asking pyarrow for an encrypted column chunk ends the process.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(_MAGIC + data))
    except _UNREADABLE as exc:
        raise TableFailed(f"{name} has a damaged Parquet footer: {type(exc).__name__}", error="NotParquet") from exc
    if metadata.serialized_size + _TRAILER_BYTES != len(data):
        raise TableUnsupported(f"{name} has a signed footer or encrypted columns", error="Encrypted")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise TableFailed(f"{name} has a footer that miscounts its rows", error="NotParquet")
    if any(group.num_columns and group.column(0).file_path for group in groups):
        raise TableUnsupported(f"{name} has its data in other files", error="External")
    return metadata


def _column_bytes(metadata: pq.FileMetaData, schema: pa.Schema) -> tuple[int, ...]:
    """Compressed bytes of each top-level column."""
    sizes = [0] * metadata.num_columns
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for column in range(metadata.num_columns):
            sizes[column] += group.column(column).total_compressed_size
    remaining = iter(sizes)
    return tuple(sum(next(remaining) for _ in range(width(field.type))) for field in schema)
