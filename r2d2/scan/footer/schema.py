"""The columns of a Parquet file as Arrow types.

Types follow the Parquet schema, not the Arrow schema that some writers embed: Spark and DuckDB see only the former.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import LeafPath, leaves

_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RuntimeError)

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


class StoredType(NamedTuple):
    """How a Parquet column is stored.

    Attributes:
        physical: Parquet's name of the type.
        length: Bytes of a value of type FIXED_LEN_BYTE_ARRAY.
        required: It holds no NULL and is in no array.
    """

    physical: str
    length: int
    required: bool


@dataclass(frozen=True, kw_only=True)
class FooterSchema:
    """The columns of a footer.

    Attributes:
        schema: As Arrow types.
        int96: Leaves that hold values stored as INT96.
        stored: One entry per Parquet column.
        coded: Top-level columns that the embedded Arrow schema, if there is one, has as codes and a dictionary.
    """

    schema: pa.Schema
    int96: frozenset[LeafPath]
    stored: tuple[StoredType, ...]
    coded: frozenset[str]


def footer_schema(metadata: pq.FileMetaData, name: str) -> FooterSchema:
    """The columns of a footer; `name` is that of its file, for messages."""
    try:
        if _VARIANT.search(str(metadata.schema)):
            raise TableUnsupported("columns of type VARIANT are not supported", error="Type")
        columns = [metadata.schema.column(i) for i in range(metadata.num_columns)]
        stored = tuple(StoredType(c.physical_type, c.length, c.max_definition_level == 0) for c in columns)
        types = iter(
            [_leaf_type(own.physical, c.logical_type.to_json()) for own, c in zip(stored, columns, strict=True)]
        )
        shape = metadata.schema.to_arrow_schema()
        schema = pa.schema([pa.field(field.name, _with_types(field.type, types)) for field in shape])
    except StopIteration as exc:
        raise TableFailed(f"{name} has an embedded Arrow schema that is not its own", error="Schema") from exc
    except _UNREADABLE as exc:
        raise TableFailed(f"{name} has a schema that cannot be read: {type(exc).__name__}", error="Schema") from exc
    if next(types, None) is not None:
        raise TableFailed(f"{name} has an embedded Arrow schema that is not its own", error="Schema")
    return FooterSchema(
        schema=schema,
        int96=_int96(schema, stored),
        stored=stored,
        coded=frozenset(field.name for field in shape if "dictionary<" in str(field.type)),
    )


def _int96(schema: pa.Schema, stored: Sequence[StoredType]) -> frozenset[LeafPath]:
    if all(own.physical != "INT96" for own in stored):
        return frozenset()
    return frozenset(
        leaf
        for leaf, dtype, first in leaf_columns(schema)
        if any(own.physical == "INT96" for own in stored[first : first + width(dtype)])
    )


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


# --- leaves and columns -----------------------------------------------------------------------------------------------


def width(dtype: pa.DataType) -> int:
    """Parquet leaf columns below a type."""
    t = pa.types
    if t.is_map(dtype):
        return width(dtype.key_type) + width(dtype.item_type)
    if t.is_list(dtype):
        return width(dtype.value_type)
    return sum(width(child.type) for child in dtype) if t.is_struct(dtype) else 1


def leaf_columns(schema: pa.Schema) -> Iterator[tuple[LeafPath, pa.DataType, int]]:
    """Leaves with their types and the position of their first Parquet column."""
    first = 0
    for leaf, dtype in leaves(schema):
        yield leaf, dtype, first
        first += width(dtype)


# --- what Spark's metadata says of types -----------------------------------------------------------------------------


def refuse_spark_types(keys: dict[bytes, bytes], name: str) -> None:
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


def is_legacy(keys: dict[bytes, bytes], schema: pa.Schema, *, has_int96: bool) -> bool:
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
