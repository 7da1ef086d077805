"""Schemas of Iceberg tables as Arrow schemas whose fields carry their Iceberg ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.delta.files import shown
from r2d2.model import LeafPath
from r2d2.scan.field_ids import ELEMENT, KEY, VALUE, field_id, inner_fields, with_id

_PRIMITIVES = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "timestamp_ns": pa.timestamp("ns"),
    "string": pa.string(),
    "binary": pa.binary(),
}
_DECIMAL = re.compile(r"decimal\( *(\d{1,2}) *, *(\d{1,2}) *\)")
_FIXED = re.compile(r"fixed\[\d+\]")
_BROKEN = (LookupError, TypeError, ValueError, AttributeError, RecursionError)


def parse_schema(raw: Mapping[str, Any], name_mapping: str | None) -> pa.Schema:
    """An Arrow schema with field ids from a table's current schema.

    Args:
        raw: The schema as in the metadata file.
        name_mapping: JSON list that names the columns of files without ids; None where there is none.

    Raises:
        TableUnsupported: For a type that the contract does not list, or a default value for older files.
        TableFailed: If the schema or the mapping is broken.
    """
    try:
        mapping = _Mapping(json.loads(name_mapping) if name_mapping is not None else [])
        fields = [_field(field, mapping) for field in raw["fields"]]
        ids = [number for field in fields for number in _ids(field)]
    except _BROKEN as exc:
        raise TableFailed("the schema in the Iceberg metadata is broken", error="IcebergMetadata") from exc
    if not fields:
        raise TableUnsupported("an Iceberg table without columns is not supported", error="NoColumns")
    if len(set(ids)) < len(ids) or len({field.name for field in fields}) < len(fields):
        raise TableFailed("the Iceberg schema has two columns of one name or id", error="IcebergMetadata")
    return pa.schema(fields)


def column_of_id(number: int, schemas: Sequence[Mapping[str, Any]], name_mapping: str | None) -> pa.Field:
    """The top-level column of an id, with id and names, as the last of some schemas has it that has it at all.

    Args:
        number: The field id.
        schemas: As in the metadata file.
        name_mapping: See `parse_schema`.

    Raises:
        TableUnsupported: If no schema has such a top-level column, or it has a type that is not read.
        TableFailed: If a schema or the mapping is broken.
    """
    try:
        raw = [field for schema in schemas for field in schema["fields"] if int(field["id"]) == number]
        mapping = _Mapping(json.loads(name_mapping) if name_mapping is not None else [])
        if raw:
            return _field(raw[-1], mapping)
    except _BROKEN as exc:
        raise TableFailed("the schema in the Iceberg metadata is broken", error="IcebergMetadata") from exc
    raise TableUnsupported("equality deletes by fields of structs are not supported", error="IcebergDeletes")


def leaf_ids(schema: pa.Schema) -> Iterator[tuple[int, LeafPath, pa.DataType]]:
    """Field id, path and type of each leaf that is no array, map or part of one."""

    def walk(path: LeafPath, field: pa.Field) -> Iterator[tuple[int, LeafPath, pa.DataType]]:
        if pa.types.is_struct(field.type):
            for child in field.type:
                yield from walk((*path, child.name), child)
        elif not pa.types.is_nested(field.type):
            yield field_id(field), path, field.type

    for column in schema:
        yield from walk((column.name,), column)


class _Mapping:
    """A level of a name mapping: by field id, the names that the field may have in files, and the level below."""

    def __init__(self, entries: Any) -> None:
        names = [str(name) for entry in entries for name in entry["names"]]
        if len(set(names)) < len(names):
            raise ValueError
        self._by_id = {entry.get("field-id"): entry for entry in entries}

    def names(self, number: int) -> list[str]:
        return [str(name) for name in self._by_id[number]["names"]] if number in self._by_id else []

    def below(self, number: int) -> _Mapping:
        return _Mapping((self._by_id[number].get("fields") or []) if number in self._by_id else [])


def _field(raw: Mapping[str, Any], mapping: _Mapping) -> pa.Field:
    number, name = int(raw["id"]), str(raw["name"])
    if raw.get("initial-default") is not None:
        raise TableUnsupported(f"column {shown(name)!r} has a default value for older files", error="IcebergDefault")
    dtype = _type(raw["type"], mapping.below(number))
    return with_id(pa.field(name, dtype), number, mapping.names(number))


def _inner(name: str, number: Any, raw: Any, mapping: _Mapping, *, nullable: bool = True) -> pa.Field:
    dtype = _type(raw, mapping.below(int(number)))
    return with_id(pa.field(name, dtype, nullable), int(number), mapping.names(int(number)))


def _type(raw: Any, mapping: _Mapping) -> pa.DataType:
    if isinstance(raw, dict):
        return _nested(raw, mapping)
    name = str(raw)
    if name in _PRIMITIVES:
        return _PRIMITIVES[name]
    if match := _DECIMAL.fullmatch(name):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return pa.decimal128(precision, scale)
    if _FIXED.fullmatch(name):
        return pa.binary()
    raise TableUnsupported(f"columns of type {shown(name)} are not supported", error="Type")


def _nested(raw: Mapping[str, Any], mapping: _Mapping) -> pa.DataType:
    kind = raw.get("type")
    if kind == "list":
        return pa.list_(_inner(ELEMENT, raw["element-id"], raw["element"], mapping))
    if kind == "map":
        key = _inner(KEY, raw["key-id"], raw["key"], mapping, nullable=False)
        return pa.map_(key, _inner(VALUE, raw["value-id"], raw["value"], mapping))
    if kind != "struct":
        raise TableUnsupported(f"columns of type {shown(kind)} are not supported", error="Type")
    children = [_field(field, mapping) for field in raw["fields"]]
    if len({child.name for child in children}) < len(children):
        raise TableFailed("the Iceberg schema has two struct fields of one name", error="IcebergMetadata")
    return pa.struct(children)


def _ids(field: pa.Field) -> Iterator[int]:
    yield field_id(field)
    for child in inner_fields(field.type):
        yield from _ids(child)
