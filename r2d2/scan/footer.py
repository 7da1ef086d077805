"""Parquet footers: what the columns of a file are, and what its statistics claim about them.

Types follow the Parquet schema, not the Arrow schema that some writers embed: Spark and DuckDB see only the former.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import Claim, LeafPath, encode_bound, leaves
from r2d2.scan.files import open_file, stamp

_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_TRAILER_BYTES = 8
_FIRST_READ_BYTES = 1 << 16
_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RuntimeError)
_UNUSABLE = (pa.ArrowException, OSError, ValueError, ArithmeticError, TypeError)

_INSTANT = pa.timestamp("us", tz="UTC")
_PHYSICAL = {
    "BOOLEAN": pa.bool_(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "INT96": _INSTANT,
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BYTE_ARRAY": pa.binary(),
    "FIXED_LEN_BYTE_ARRAY": pa.binary(),
}
_LOGICAL = {
    "Null": pa.null(),
    "String": pa.string(),
    "Enum": pa.string(),
    "JSON": pa.string(),
    "BSON": pa.binary(),
    "Date": pa.date32(),
}
_INTEGERS = {
    (bits, signed): pa.type_for_alias(f"{'int' if signed else 'uint'}{bits}")
    for bits in (8, 16, 32, 64)
    for signed in (True, False)
}
_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
_VARIANT = re.compile(r"^ *(?:required|optional|repeated) group .* \(Variant\(\d+\)\) \{$", re.MULTILINE)

_SPARK_VERSION = b"org.apache.spark.version"
_SPARK_ROW = b"org.apache.spark.sql.parquet.row.metadata"
_LEGACY_MARKS = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")
_SPARK_ONLY = ("interval", "calendarinterval", "variant", "time(", "geometry", "geography")

_MICROS_PER_DAY = 86_400_000_000
_WRITER = re.compile(r"^(parquet-mr|parquet-cpp|fastparquet)\S* version (\d+)\.(\d+)")
_ORDERS_BYTES_SINCE = {"parquet-mr": (1, 10), "parquet-cpp": (1, 3)}


@dataclass(frozen=True, kw_only=True)
class Footer:
    """The footer of one Parquet file.

    Attributes:
        schema: One nullable field per top-level column, in file order, names verbatim (they may repeat).
        int96: Leaves that hold values stored as INT96.
        rows: Rows of the file.
        writer: `created_by`, or empty.
        column_bytes: Compressed bytes of all column chunks, per top-level column.
        footer_bytes: Bytes of the footer with its trailer.
        legacy_calendar: The file holds dates or timestamps as Spark 2 wrote them; only Spark reads them as meant.
        metadata: The footer as pyarrow parsed it.
    """

    schema: pa.Schema
    int96: frozenset[LeafPath]
    rows: int
    writer: str
    column_bytes: tuple[int, ...]
    footer_bytes: int
    legacy_calendar: bool
    metadata: pq.FileMetaData


def read_footer(uri: str) -> Footer:
    """Read the footer of a Parquet file, and nothing else of it.

    Args:
        uri: Absolute local path or object-store URL.

    Raises:
        TableFailed: If the file is missing, no plain file, empty, cut off or not Parquet.
        TableUnsupported: If it is encrypted, or a column has a type that the contract does not list.
    """
    name = repr(os.path.basename(uri))
    metadata, footer_bytes = _parse(_footer_bytes(uri, name), name)
    schema, int96 = _schema(metadata, name)
    keys = metadata.metadata or {}
    _refuse_spark_types(keys, name)
    return Footer(
        schema=schema,
        int96=int96,
        rows=metadata.num_rows,
        writer=metadata.created_by or "",
        column_bytes=_column_bytes(metadata, schema),
        footer_bytes=footer_bytes,
        legacy_calendar=_is_legacy(keys, schema, has_int96=bool(int96)),
        metadata=metadata,
    )


def footer_claims(footer: Footer, fragment: int) -> list[Claim]:
    """What the statistics of a footer say about each leaf that is not inside an array or a map.

    `nulls` of a struct's leaf counts the rows whose struct is NULL too. Bounds are outer bounds of the values that are
    neither NULL nor NaN, over all row groups: a string's bound may be cut off, and one row group without a bound leaves
    the file without one. Nanoseconds are rounded outwards to microseconds.

    Args:
        footer: From `read_footer`.
        fragment: Position of the file in the table's fragments.
    """
    groups = [footer.metadata.row_group(i) for i in range(footer.metadata.num_row_groups)]
    return [
        _claim(footer, groups, fragment, leaf, dtype, column)
        for leaf, dtype, column in _leaf_columns(footer.schema)
        if _width(dtype) == 1 and not pa.types.is_list(dtype)
    ]


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


def _parse(data: bytes, name: str) -> tuple[pq.FileMetaData, int]:
    """The parsed footer and its bytes.

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
    return metadata, len(data)


# --- types ------------------------------------------------------------------------------------------------------------


def _schema(metadata: pq.FileMetaData, name: str) -> tuple[pa.Schema, frozenset[LeafPath]]:
    """The schema, and the leaves with INT96 values."""
    try:
        if _VARIANT.search(str(metadata.schema)):
            raise TableUnsupported("columns of type VARIANT are not supported", error="Type")
        columns = [metadata.schema.column(i) for i in range(metadata.num_columns)]
        types = iter([_leaf_type(c.physical_type, c.logical_type.to_json()) for c in columns])
        shape = metadata.schema.to_arrow_schema()
        schema = pa.schema([pa.field(field.name, _with_types(field.type, types)) for field in shape])
    except StopIteration as exc:
        raise TableFailed(f"{name} has an embedded Arrow schema that is not its own", error="Schema") from exc
    except _UNREADABLE as exc:
        raise TableFailed(f"{name} has a schema that cannot be read: {type(exc).__name__}", error="Schema") from exc
    if next(types, None) is not None:
        raise TableFailed(f"{name} has an embedded Arrow schema that is not its own", error="Schema")
    int96 = frozenset(
        leaf
        for leaf, dtype, first in _leaf_columns(schema)
        if any(column.physical_type == "INT96" for column in columns[first : first + _width(dtype)])
    )
    return schema, int96


def _with_types(shape: pa.DataType, types: Iterator[pa.DataType]) -> pa.DataType:
    """A type nested like `shape`, with the Parquet leaves' own types.

    The shape may come from an embedded Arrow schema, so only what Parquet knows of it is kept.
    """
    t = pa.types
    while isinstance(shape, pa.BaseExtensionType):
        shape = shape.storage_type
    if t.is_struct(shape):
        if shape.num_fields == 0:
            raise TableUnsupported("structs without fields are not supported", error="Type")
        return pa.struct([pa.field(child.name, _with_types(child.type, types)) for child in shape])
    if t.is_map(shape):
        return pa.map_(_with_types(shape.key_type, types), _with_types(shape.item_type, types))
    if _is_any_list(shape):
        return pa.list_(_with_types(shape.value_type, types))
    return next(types)


def _is_any_list(dtype: pa.DataType) -> bool:
    t = pa.types
    plain = t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype)
    return bool(plain or t.is_list_view(dtype) or t.is_large_list_view(dtype))


@lru_cache(maxsize=1024)
def _leaf_type(physical: str, logical_json: str) -> pa.DataType:
    """The Arrow type of a Parquet leaf column."""
    logical = json.loads(logical_json)
    kind = logical["Type"]
    if kind == "None":
        return _PHYSICAL[physical]
    if kind in _LOGICAL:
        return _LOGICAL[kind]
    if kind == "Int":
        return _INTEGERS[logical["bitWidth"], logical["isSigned"]]
    if kind == "Timestamp":
        return pa.timestamp(_UNITS[logical["timeUnit"]], tz="UTC" if logical["isAdjustedToUTC"] else None)
    if kind == "Decimal" and logical["precision"] <= 38:
        return pa.decimal128(logical["precision"], logical["scale"])
    shown = f"DECIMAL({logical['precision']},{logical['scale']})" if kind == "Decimal" else str(kind).upper()
    raise TableUnsupported(f"columns of type {shown} are not supported", error="Type")


def _refuse_spark_types(keys: dict[bytes, bytes], name: str) -> None:
    """Raise for types that Spark stores as plain numbers or structs and names only in its own metadata."""
    try:
        row = json.loads(keys.get(_SPARK_ROW, b"null"))
    except (ValueError, RecursionError):
        return  # Spark ignores it too
    found = next((kind for kind in _spark_type_names(row) if kind.startswith(_SPARK_ONLY) or kind == "udt"), None)
    if found is not None:
        raise TableUnsupported(f"{name} has columns of Spark's type {found.upper()}, not supported", error="Type")


def _spark_type_names(node: Any) -> Iterator[str]:
    """Every type name in the JSON form of a Spark type."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key in ("type", "elementType", "keyType", "valueType"):
            yield from _spark_type_names(node.get(key))
        for child in node.get("fields", ()):
            yield from _spark_type_names(child)


def _is_legacy(keys: dict[bytes, bytes], schema: pa.Schema, *, has_int96: bool) -> bool:
    """Whether Spark shifts the file's dates or timestamps from the Julian calendar when it reads them."""
    if any(mark in keys for mark in _LEGACY_MARKS):
        return True
    version = keys.get(_SPARK_VERSION)
    if version is None:
        return False
    return (version < b"3.1.0" and has_int96) or (version < b"3.0.0" and _has_temporal(schema))


def _has_temporal(nodes: Iterable[Any]) -> bool:
    return any(pa.types.is_temporal(node.type) or _has_temporal(_children(node.type)) for node in nodes)


def _children(dtype: pa.DataType) -> list[pa.Field]:
    return [dtype.field(i) for i in range(dtype.num_fields)] if pa.types.is_nested(dtype) else []


# --- leaves and columns -----------------------------------------------------------------------------------------------


def _width(dtype: pa.DataType) -> int:
    """Parquet leaf columns below a type."""
    t = pa.types
    if t.is_map(dtype):
        return _width(dtype.key_type) + _width(dtype.item_type)
    if t.is_list(dtype):
        return _width(dtype.value_type)
    return sum(_width(child.type) for child in dtype) if t.is_struct(dtype) else 1


def _leaf_columns(schema: pa.Schema) -> Iterator[tuple[LeafPath, pa.DataType, int]]:
    """Leaves with their types and the position of their first Parquet column."""
    first = 0
    for leaf, dtype in leaves(schema):
        yield leaf, dtype, first
        first += _width(dtype)


def _column_bytes(metadata: pq.FileMetaData, schema: pa.Schema) -> tuple[int, ...]:
    """Compressed bytes of each top-level column."""
    sizes = [0] * metadata.num_columns
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for column in range(metadata.num_columns):
            sizes[column] += group.column(column).total_compressed_size
    remaining = iter(sizes)
    return tuple(sum(next(remaining) for _ in range(_width(field.type))) for field in schema)


# --- statistics -------------------------------------------------------------------------------------------------------


def _claim(footer: Footer, groups: list[Any], fragment: int, leaf: LeafPath, dtype: pa.DataType, column: int) -> Claim:
    parquet_column = footer.metadata.schema.column(column)
    chunks = [group.column(column) for group in groups]
    trusted = all(chunk.num_values == group.num_rows for chunk, group in zip(chunks, groups, strict=True))
    required = parquet_column.max_definition_level == 0
    nulls = [_nulls(chunk, required=required) if trusted else None for chunk in chunks]
    low, high = None, None
    if trusted and _has_usable_bounds(footer, parquet_column, leaf, dtype):
        low, high = _bounds(chunks, nulls, dtype)
    return Claim(
        fragment=fragment,
        leaf=leaf,
        source="footer",
        writer=footer.writer,
        type=str(dtype),
        nulls=None if any(count is None for count in nulls) else sum(count for count in nulls if count is not None),
        low=low,
        high=high,
    )


def _nulls(chunk: Any, *, required: bool) -> int | None:
    """NULLs of a column chunk, where they are known."""
    if required or chunk.num_values == 0:
        return 0
    statistics = chunk.statistics
    if statistics is None or not statistics.has_null_count:
        return None
    return int(statistics.null_count) if 0 <= statistics.null_count <= chunk.num_values else None


def _has_usable_bounds(footer: Footer, column: Any, leaf: LeafPath, dtype: pa.DataType) -> bool:
    """Whether minimum and maximum of such a column mean what they say."""
    if leaf in footer.int96 or pa.types.is_null(dtype):
        return False
    if footer.legacy_calendar and pa.types.is_temporal(dtype):
        return False
    by_bytes = column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
    return _orders_bytes(footer.writer) if by_bytes or pa.types.is_unsigned_integer(dtype) else True


@lru_cache(maxsize=256)
def _orders_bytes(writer: str) -> bool:
    """Whether a writer's bounds of strings, binary, unsigned integers and decimals in bytes follow their real order.

    Statistics from before the format defined column orders compare signed bytes. A writer that names itself not at all
    may be a parquet-mr of that time.
    """
    found = _WRITER.match(writer)
    if found is None:
        return bool(writer) and not writer.startswith(("fastparquet", "parquet-mr", "parquet-cpp version"))
    since = _ORDERS_BYTES_SINCE.get(found[1])
    return since is not None and ("arrow" in writer or (int(found[2]), int(found[3])) >= since)


def _bounds(chunks: list[Any], nulls: list[int | None], dtype: pa.DataType) -> tuple[bytes | None, bytes | None]:
    """Encoded bounds over all row groups that may hold a value."""
    lows, highs = [], []
    for chunk, null_count in zip(chunks, nulls, strict=True):
        if null_count == chunk.num_values:
            continue
        low, high = _chunk_bounds(chunk.statistics, dtype)
        lows.append(low)
        highs.append(high)
    lowest = None if None in lows else min(lows, default=None)
    highest = None if None in highs else max(highs, default=None)
    if lowest is not None and highest is not None and lowest > highest:
        return None, None
    return _encoded(lowest), _encoded(highest)


def _chunk_bounds(statistics: Any, dtype: pa.DataType) -> tuple[Any, Any]:
    """Bounds of one column chunk as values that compare like the column's; None where there is none."""
    if statistics is None or not statistics.has_min_max:
        return None, None
    try:
        if pa.types.is_temporal(dtype):
            return _micros(statistics.min_raw, dtype, round_up=False), _micros(statistics.max_raw, dtype, round_up=True)
        return _comparable(statistics.min), _comparable(statistics.max)
    except _UNUSABLE:
        return None, None


def _micros(raw: int, dtype: pa.DataType, *, round_up: bool) -> int:
    """A stored date or timestamp as microseconds since 1970.

    The stored number is used since Python's dates end in the year 9999 and know no nanoseconds.
    """
    if pa.types.is_date(dtype):
        return raw * _MICROS_PER_DAY
    if dtype.unit == "ns":
        return -(-raw // 1000) if round_up else raw // 1000
    return raw * 1000 if dtype.unit == "ms" else raw


def _comparable(value: Any) -> Any:
    """A typed bound; strings as bytes, since they compare by bytes, and None for NaN."""
    if isinstance(value, str):
        return value.encode()
    return value if value == value else None


def _encoded(value: Any) -> bytes | None:
    """`encode_bound`, with decimals in plain notation, all their digits kept."""
    if value is None or isinstance(value, (bytes, float, int)):
        return encode_bound(value)
    return encode_bound(format(value, "f"))
