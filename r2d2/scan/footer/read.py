"""Parquet footers: what a file holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import LeafPath
from r2d2.scan.files import open_file, stamp
from r2d2.scan.footer.layout import MAGIC, UNREADABLE, Layout, layout_of
from r2d2.scan.footer.recent import Recent
from r2d2.scan.footer.thrift import FooterFacts, footer_facts

_ENCRYPTED_MAGIC = b"PARE"
_TRAILER_BYTES = 8
_FIRST_READ_BYTES = 1 << 16
_RECENT_BYTES = 16 << 20
"""Stored bytes of the footers that are kept; parsed they take about eight times as much."""


@dataclass(frozen=True, kw_only=True)
class Footer:
    """The footer of one Parquet file.

    Attributes:
        layout: What it has in common with those of other files.
        rows: Rows of the file.
        column_bytes: Compressed bytes of all column chunks, per top-level column; never more than the file has.
        data: The footer with its trailer, as stored.
        data_end: Where in the file it begins.
        facts: What it says of row groups and column chunks: one entry per Parquet column in each row group.
        metadata: The footer as pyarrow parsed it. Its column chunks are not to be asked for: pyarrow ends the process
            over statistics of the wrong size.
    """

    layout: Layout
    rows: int
    column_bytes: tuple[int, ...]
    data: bytes
    data_end: int
    facts: FooterFacts
    metadata: pq.FileMetaData

    @property
    def schema(self) -> pa.Schema:
        """One nullable field per top-level column, in file order, names verbatim (they may repeat)."""
        return self.layout.schema

    @property
    def int96(self) -> frozenset[LeafPath]:
        """Leaves that hold values stored as INT96."""
        return self.layout.int96

    @property
    def writer(self) -> str:
        """`created_by`, empty where it is missing or no text."""
        return self.layout.writer

    @property
    def legacy_calendar(self) -> bool:
        """The file holds dates or timestamps as Spark 2 wrote them; only Spark reads them as meant."""
        return self.layout.legacy_calendar

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
    data, data_end = _footer_bytes(uri, name)
    known = _RECENT.get((data, data_end))
    if known is None:
        known = _parsed(data, data_end, name)
        _RECENT.put((data, data_end), known, len(data))
    return known


_RECENT: Recent[Footer] = Recent(_RECENT_BYTES)


def _parsed(data: bytes, data_end: int, name: str) -> Footer:
    metadata = _parse(data, name)
    facts = _facts(data, metadata, name)
    layout = layout_of(facts, name)
    return Footer(
        layout=layout,
        rows=metadata.num_rows,
        column_bytes=_column_bytes(facts, layout.widths, data_end),
        data=data,
        data_end=data_end,
        facts=facts,
        metadata=metadata,
    )


# --- bytes ------------------------------------------------------------------------------------------------------------


def _footer_bytes(uri: str, name: str) -> tuple[bytes, int]:
    """The last bytes of a file, from the start of its footer on, and where that is."""
    size = stamp(uri).size
    if size < len(MAGIC) + _TRAILER_BYTES:
        raise TableFailed(f"{name} is no Parquet file: it has {size} bytes", error="NotParquet")
    try:
        with open_file(uri) as file:
            tail = _last_bytes(file, size, min(size, _FIRST_READ_BYTES))
            length = _footer_length(tail, size, name)
            return (tail[-length:] if length <= len(tail) else _last_bytes(file, size, length)), size - length
    except OSError as exc:
        raise TableFailed(f"{name} cannot be read: {type(exc).__name__}", error="Unreadable") from exc


def _last_bytes(file: Any, size: int, count: int) -> bytes:
    file.seek(size - count)
    return bytes(file.read(count))


def _footer_length(tail: bytes, size: int, name: str) -> int:
    """Bytes of footer and trailer together."""
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise TableUnsupported(f"{name} is encrypted", error="Encrypted")
    if tail[-4:] != MAGIC:
        raise TableFailed(f"{name} is no Parquet file, or is cut off: it does not end like one", error="NotParquet")
    length = int.from_bytes(tail[-8:-4], "little") + _TRAILER_BYTES
    if length + len(MAGIC) > size:
        raise TableFailed(f"{name} is damaged: its footer is longer than the file", error="NotParquet")
    return length


def _parse(data: bytes, name: str) -> pq.FileMetaData:
    """The parsed footer.

    A footer in plain text of a file with encrypted columns is followed by a signature.
    """
    try:
        reader = pq.ParquetReader()  # a ParquetFile would look up columns by name as well
        reader.open(pa.BufferReader(MAGIC + data))
        metadata = reader.metadata
    except UNREADABLE as exc:
        raise TableFailed(f"{name} has a damaged Parquet footer: {type(exc).__name__}", error="NotParquet") from exc
    if metadata.serialized_size + _TRAILER_BYTES != len(data):
        raise TableUnsupported(f"{name} has a signed footer or encrypted columns", error="Encrypted")
    return metadata


def _facts(data: bytes, metadata: pq.FileMetaData, name: str) -> FooterFacts:
    """What the footer says of row groups and column chunks, where it can be true."""
    try:
        facts = footer_facts(data)
    except ValueError as exc:
        raise TableFailed(f"{name} has a damaged Parquet footer: {exc}", error="NotParquet") from exc
    chunks = [chunk for group in facts.groups for chunk in group.chunks]
    if {len(group.chunks) for group in facts.groups} - {metadata.num_columns}:
        raise TableFailed(f"{name} has a row group with other columns than its schema", error="NotParquet")
    if any(chunk.external for chunk in chunks):
        raise TableUnsupported(f"{name} has its data in other files", error="External")
    counts = [group.rows for group in facts.groups] + [chunk.values for chunk in chunks]
    if not all(count is not None and count >= 0 for count in counts):
        raise TableFailed(f"{name} has a footer with counts missing or below zero", error="NotParquet")
    if sum(group.rows or 0 for group in facts.groups) != metadata.num_rows:
        raise TableFailed(f"{name} has a footer that miscounts its rows", error="NotParquet")
    return facts


def _column_bytes(facts: FooterFacts, widths: Sequence[int], most: int) -> tuple[int, ...]:
    """Compressed bytes of each top-level column; a footer that claims more than a file has would overflow sums."""
    columns = zip(*(group.chunks for group in facts.groups), strict=True)
    sizes = iter([sum(max(chunk.compressed_bytes or 0, 0) for chunk in chunks) for chunks in columns])
    return tuple(min(most, sum(islice(sizes, count))) for count in widths)
