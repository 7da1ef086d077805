"""Text files of a lake as local, decompressed, checked snapshots, and the Parquet copies written from them."""

from __future__ import annotations

import codecs
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import FileStamp
from r2d2.scan.files import check_unchanged, filesystem, is_remote, open_file

_CHUNK_BYTES = 1 << 20
_ZSTD_INPUT_BYTES = 2048  # one block of a hostile stream grows 32,768-fold, so this bounds its output to 64 MiB
_GROUP_BYTES = 64 << 20
_GROUP_ROWS = 122_880


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A local file with the decompressed text of one file of the lake, without byte order mark.

    Attributes:
        path: Local path.
        size: Bytes of the text.
        carriage_returns, line_feeds, pairs: How often CR, LF, and CR followed by LF occur.
        has_nul: Whether a NUL character occurs.
        zstd_frames: Frames of its zstd stream; 0 for other files.
    """

    path: str
    size: int
    carriage_returns: int
    line_feeds: int
    pairs: int
    has_nul: bool
    zstd_frames: int

    @property
    def only_line_feeds(self) -> bool:
        """Whether no CR occurs."""
        return self.carriage_returns == 0

    @property
    def only_pairs(self) -> bool:
        """Whether CR and LF occur only as CR LF."""
        return self.carriage_returns == self.line_feeds == self.pairs


def take_snapshot(pinned: FileStamp, path: str) -> Snapshot:
    """Copy a file of the lake, decompressed, to a local path, in bounded memory.

    Args:
        pinned: The file; its ending (`.gz`, `.zst`) says how it is compressed.
        path: Where the copy goes.

    Raises:
        TableFailed: If the file is empty, unreadable or not UTF-8, or its compressed stream is cut off, fails its
            checksum or is followed by other bytes.
        TableUnsupported: If its zstd stream needs a larger window than 128 MiB.
        TableChanged: If it is not the pinned file any more.
    """
    counter = _Counter()
    frames = [0]
    with open(path, "wb") as copy:
        for chunk in _utf8(_read_errors(_text_chunks(pinned.uri, frames))):
            counter.add(chunk)
            copy.write(chunk)
    check_unchanged(pinned)
    if counter.size == 0:
        raise TableFailed("a file of the table is empty: it has no column", error="NoColumns")
    return Snapshot(path=path, zstd_frames=frames[0], **counter.counts())


class _Counter:
    """Counts of the characters that engines disagree about, over chunks."""

    def __init__(self) -> None:
        self.size = self.carriage_returns = self.line_feeds = self.pairs = 0
        self.has_nul = False
        self._last = b""

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.carriage_returns += chunk.count(b"\r")
        self.line_feeds += chunk.count(b"\n")
        self.pairs += chunk.count(b"\r\n") + (self._last == b"\r" and chunk[:1] == b"\n")
        self.has_nul = self.has_nul or b"\0" in chunk
        self._last = chunk[-1:] or self._last

    def counts(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def _read_errors(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise TableFailed("a gzip file of the table is damaged, cut off or has a wrong checksum", error="Gzip") from exc
    except zstandard.ZstdError as exc:
        if "memory" in str(exc):
            raise TableUnsupported("a zstd file needs a window above 128 MiB", error="Zstd") from exc
        raise TableFailed("a zstd file of the table is damaged or has a wrong checksum", error="Zstd") from exc
    except OSError as exc:
        raise TableFailed(f"a file of the table cannot be read: {type(exc).__name__}", error="Unreadable") from exc


def _text_chunks(uri: str, frames: list[int]) -> Iterator[bytes]:
    with open_file(uri) as raw:
        if uri.lower().endswith(".zst"):
            yield from _zstd_chunks(raw, frames)
        elif uri.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield from iter(lambda: stream.read(_CHUNK_BYTES), b"")
        else:
            yield from iter(lambda: raw.read(_CHUNK_BYTES), b"")


def _zstd_chunks(raw: Any, frames: list[int]) -> Iterator[bytes]:
    """The text of all frames; the library itself says nothing about a stream that ends within one."""
    frame = None
    for data in iter(lambda: raw.read(_ZSTD_INPUT_BYTES), b""):
        rest = data
        while rest:
            if frame is None:
                frame = zstandard.ZstdDecompressor().decompressobj()
                frames[0] += 1
            yield frame.decompress(rest)
            rest = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise TableFailed("a zstd file of the table is cut off", error="Zstd")


def _utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes without a leading byte order mark, checked."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    head = b""
    is_head = True
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            if not is_head:
                yield chunk
                continue
            head += chunk
            if len(head) >= len(codecs.BOM_UTF8):
                is_head = False
                yield head.removeprefix(codecs.BOM_UTF8)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as exc:
        raise TableFailed("a file of the table is not UTF-8 text", error="NotUtf8") from exc
    if is_head:
        yield head


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, uri: str) -> int:
    """Write batches as one Parquet file that appears whole or not at all.

    Args:
        batches: Their columns are taken by position and have the schema's types.
        schema: Names and types of the file.
        uri: Local path (its folder is made) or object-store URL.

    Returns:
        Rows written.
    """
    if is_remote(uri):
        with tempfile.TemporaryDirectory(prefix="r2d2-put-") as folder:
            local = os.path.join(folder, "copy.parquet")
            rows = _write_local(batches, schema, local)
            fs, path = filesystem(uri)
            fs.put_file(local, path)
        return rows
    os.makedirs(os.path.dirname(uri), exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".partial", dir=os.path.dirname(uri))
    os.close(handle)
    try:
        rows = _write_local(batches, schema, partial)
        os.replace(partial, uri)
    except BaseException:
        os.unlink(partial)
        raise
    return rows


def _write_local(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: str) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _row_groups(batches, schema):
            writer.write_table(group, row_group_size=max(1, group.num_rows))
            rows += group.num_rows
    return rows


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(held, schema=schema)
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held, schema=schema)
