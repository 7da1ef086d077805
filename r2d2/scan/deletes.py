"""Rows that delete files remove from a data file: Parquet files of positions or values, or one deletion vector."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import TableFailed
from r2d2.model import FileStamp
from r2d2.scan.duck import quote_name, quote_text
from r2d2.scan.files import check_unchanged, duckdb_path, open_file
from r2d2.scan.footer.read import read_footer

POSITIONS = pa.schema([pa.field("pos", pa.int64())])

_MAGIC = b"\xd1\xd3\x39\x64"
_MAX_VECTOR_BYTES = 1 << 31
_PATH, _POSITION = "file_path", "pos"


@dataclass(frozen=True, kw_only=True)
class DeleteFile:
    """A file that deletes rows.

    Attributes:
        uri, size, token: What pins it, as in FileStamp.
        offset, length: Where a deletion vector stands in it; None for a Parquet file of positions.
        rows: Rows that the vector deletes; None for a Parquet file.
        columns: Ids of the columns by whose values a Parquet file deletes rows; empty where it deletes by position.
    """

    uri: str
    size: int
    token: str
    offset: int | None = None
    length: int | None = None
    rows: int | None = None
    columns: tuple[int, ...] = ()

    @property
    def stamp(self) -> FileStamp:
        """What pins the file."""
        return FileStamp(uri=self.uri, size=self.size, token=self.token)


@dataclass(frozen=True, kw_only=True)
class Deletes:
    """All that deletes rows of one data file.

    Attributes:
        path: The data file's location as the table's metadata writes it, by which delete files name it.
        files: Sorted.
        schema: The columns by whose values rows are deleted, as `schema_to_bytes` writes them, in base64. Each is
            called by its id, has its type in the table, and carries its id and names as `field_ids` wants them.
        defaults: By column, the value as text (None is NULL) that rows have where the data file lacks it.
        inline: A deletion vector that stands in the table's log, in hexadecimal without length and checksum.
        rows: Rows that the inline vector deletes.
    """

    path: str
    files: tuple[DeleteFile, ...]
    schema: str = ""
    defaults: Mapping[str, str | None] = field(default_factory=dict)
    inline: str = ""
    rows: int = 0

    def to_text(self) -> str:
        """The name for `Fragment.deletes`: equal for the same deletes of the same file."""
        files = [astuple(file) for file in self.files]
        defaults = dict(sorted(self.defaults.items()))
        return json.dumps([self.path, files, self.schema, defaults, self.inline, self.rows])

    @classmethod
    def from_text(cls, text: str) -> Deletes:
        """Inverse of `to_text`."""
        path, files, schema, defaults, inline, rows = json.loads(text)
        known = tuple(map(_delete_file, files))
        return cls(path=path, files=known, schema=schema, defaults=defaults, inline=inline, rows=rows)

    @property
    def by_value(self) -> tuple[DeleteFile, ...]:
        """The files that delete rows by their values."""
        return tuple(file for file in self.files if file.columns)

    @property
    def bytes(self) -> int:
        """Bytes that are read to learn which rows are gone."""
        return sum(file.size if file.length is None else file.length for file in self.files)


def _delete_file(values: Iterable[Any]) -> DeleteFile:
    *pinned, columns = values
    names = ("uri", "size", "token", "offset", "length", "rows")
    return DeleteFile(**dict(zip(names, pinned, strict=True)), columns=tuple(columns))


def named_positions(connection: duckdb.DuckDBPyConnection, deletes: Deletes, rows: int) -> pa.Array:
    """Positions of the rows of a data file that its delete files name, each once, from 0.

    Args:
        connection: Reads the Parquet files.
        deletes: What deletes rows; files that delete by value are passed over.
        rows: Rows of the data file.

    Raises:
        TableFailed: If a delete file is missing, changed or damaged, or deletes rows that the data file does not have.
    """
    found = [_positions(connection, deletes.path, file) for file in deletes.files if not file.columns]
    if deletes.inline:
        found.append(_checked(_bitmap(bytes.fromhex(deletes.inline)), deletes.rows))
    positions = pc.unique(pa.chunked_array(found, pa.int64()))
    bounds = pc.min_max(positions).as_py()
    if positions.null_count or (len(positions) and not 0 <= bounds["min"] <= bounds["max"] < rows):
        raise TableFailed("a delete file names rows that its data file does not have", error="DeleteFile")
    return positions


def _positions(connection: duckdb.DuckDBPyConnection, path: str, file: DeleteFile) -> pa.Array:
    check_unchanged(file.stamp)
    positions = _parquet_positions(connection, path, file.uri) if file.offset is None else _vector_positions(file)
    check_unchanged(file.stamp)
    return positions


def _parquet_positions(connection: duckdb.DuckDBPyConnection, path: str, uri: str) -> pa.Array:
    schema = read_footer(uri).schema
    stored = {name: schema.field(name).type for name in (_PATH, _POSITION) if schema.names.count(name) == 1}
    if stored != {_PATH: pa.string(), _POSITION: pa.int64()}:
        raise TableFailed("a delete file has other columns than paths and positions", error="DeleteFile")
    scan = f"read_parquet([{quote_text(duckdb_path(connection, uri))}], hive_partitioning = false)"
    sql = f"SELECT {quote_name(_POSITION)} FROM {scan} WHERE {quote_name(_PATH)} = ?"
    return connection.sql(sql, params=[path]).to_arrow_table().column(0).combine_chunks().cast(pa.int64())


def _vector_positions(file: DeleteFile) -> pa.Array:
    if file.offset is None or file.length is None or not 0 <= file.offset <= file.offset + file.length <= file.size:
        raise TableFailed("a deletion vector lies outside its file", error="DeleteFile")
    with open_file(file.uri) as source:
        source.seek(file.offset)
        blob = bytes(source.read(min(file.length, _MAX_VECTOR_BYTES)))
    return _checked(decode_vector(blob), file.rows)


def _checked(positions: npt.NDArray[np.int64], rows: int | None) -> pa.Array:
    if len(positions) != rows:
        raise TableFailed("a deletion vector deletes another number of rows than the metadata says", error="DeleteFile")
    return pa.array(positions)


def decode_vector(blob: bytes) -> npt.NDArray[np.int64]:
    """Positions in a blob of the type `deletion-vector-v1`, or in a Delta file of vectors, ascending.

    Raises:
        TableFailed: If it is damaged.

    Source:
        Puffin specification, Delta protocol: length and checksum big-endian around the vector.
    """
    vector = blob[4:-4]
    framed = len(blob) == int.from_bytes(blob[:4], "big") + 8 and zlib.crc32(vector) == int.from_bytes(blob[-4:], "big")
    if not framed:
        raise TableFailed("a deletion vector is damaged", error="DeleteFile")
    return _bitmap(vector)


def _bitmap(vector: bytes) -> npt.NDArray[np.int64]:
    """Positions in a vector: a magic number, then a bitmap in Roaring's portable 64-bit form."""
    from pyroaring import BitMap64

    if vector[:4] != _MAGIC:
        raise TableFailed("a deletion vector is damaged", error="DeleteFile")
    try:
        return np.array(BitMap64.deserialize(vector[4:]).to_array(), np.uint64).astype(np.int64)
    except (ValueError, RuntimeError, MemoryError) as exc:
        raise TableFailed("a deletion vector is damaged", error="DeleteFile") from exc
