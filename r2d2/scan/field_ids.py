"""Columns of a file found by field id or stored name.

Iceberg, and Delta with column mapping, rename, move, drop and widen columns without touching files.

The table's Arrow schema carries the ids in the metadata of its fields, where Arrow itself puts those of Parquet, and
beside them the names under which files without ids have the column. Where it carries names alone, ids do not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import LeafPath
from r2d2.scan.duck import quote_text

ELEMENT, KEY, VALUE = "element", "key", "value"

_ID = b"PARQUET:field_id"
_NAMES = b"r2d2:names"
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
_INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}

StoredColumns = dict[str, tuple[int, pa.DataType]]


@dataclass(frozen=True, kw_only=True)
class _Node:
    """An element of a Parquet schema."""

    name: str
    id: int | None
    children: tuple[_Node, ...]


_Match = Callable[[_Node, Sequence[pa.Field]], pa.Field | None]


def with_id(field: pa.Field, number: int, names: Sequence[str]) -> pa.Field:
    """A field with its id, and the names that it may have in files without ids."""
    return field.with_metadata({_ID: str(number), _NAMES: json.dumps(list(names))})


def with_name(field: pa.Field, name: str) -> pa.Field:
    """A field with the name that files have for it."""
    return field.with_metadata({_NAMES: json.dumps([name])})


def field_id(field: pa.Field) -> int:
    """The id of a field that has one."""
    return int(field.metadata[_ID])


def has_stored_names(schema: pa.Schema) -> bool:
    """Whether the table's columns are found by field id or stored name, not by their own names."""
    return any(_NAMES in (field.metadata or {}) for field in schema)


def stored_identities(schema: pa.Schema, kind: str) -> dict[LeafPath, str]:
    """By leaf, what decides which values of a file are its: ids and names of its field, and of those above and in it.

    Two tables of one kind with equal entries find the same values in a file that both have, whatever they call them.
    """

    def walk(path: LeafPath, above: list[Any], field: pa.Field) -> Iterator[tuple[LeafPath, str]]:
        if pa.types.is_struct(field.type):
            for child in field.type:
                yield from walk((*path, child.name), [*above, _identity(field)], child)
        else:
            within = [[_identity(child) for child in _all_fields(field.type)]]
            yield path, f"{kind} " + json.dumps([*above, _identity(field), *within])

    return dict(leaf for column in schema for leaf in walk((column.name,), [], column))


def _identity(field: pa.Field) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in sorted((field.metadata or {}).items())}


def _all_fields(dtype: pa.DataType) -> Iterator[pa.Field]:
    for child in inner_fields(dtype):
        yield child
        yield from _all_fields(child.type)


def columns_by_id(
    connection: duckdb.DuckDBPyConnection, path: str, stored: pa.Schema, table: pa.Schema
) -> StoredColumns:
    """Position and type in a file of each column of a table that the file has.

    Args:
        connection: Reads the file's ids: Arrow may take them from a schema that the writer has embedded.
        path: As `files.duckdb_path` returns it.
        stored: Columns of the file, from its footer.
        table: The table's schema, with ids.

    Returns:
        By the table's name of the column. Fields of structs have the table's names too; those that the table no longer
        has get a name that none of its fields has.

    Raises:
        TableUnsupported: If the file cannot be read faithfully as the table's schema says.
        TableFailed: If the file has two columns of one id.
    """
    nodes = _parquet_tree(connection, path)
    if len(nodes) != len(stored):
        raise TableFailed("DuckDB sees other columns than the file's footer has", error="Columns")
    match = _matcher(nodes, table)
    found: StoredColumns = {}
    for index, (node, field) in enumerate(zip(nodes, stored, strict=True)):
        column = match(node, list(table))
        if column is None:
            continue
        if column.name in found:
            raise TableFailed("a file has two columns of the same field id", error="Columns")
        found[column.name] = (index, _read_as(node, field.type, column.type, match, whole=False))
    return found


# --- the file's own ids -----------------------------------------------------------------------------------------------


def _parquet_tree(connection: duckdb.DuckDBPyConnection, path: str) -> tuple[_Node, ...]:
    sql = f"SELECT name, coalesce(num_children, 0), field_id FROM parquet_schema([{quote_text(path)}])"
    rows = iter(connection.execute(sql).fetchall())

    def node() -> _Node:
        name, children, number = next(rows)
        return _Node(name=name, id=number, children=tuple(node() for _ in range(children)))

    try:
        return node().children
    except (StopIteration, RuntimeError, RecursionError) as exc:
        raise TableFailed("a file's schema is broken", error="Schema") from exc


def _matcher(nodes: Sequence[_Node], table: pa.Schema) -> _Match:
    if any(_ID in (column.metadata or {}) for column in table) and any(_has_id(node) for node in nodes):
        return _by_id
    if not any(_names(column) for column in table):
        raise TableUnsupported("a data file has no field ids, and the table has no names for it", error="FieldIds")
    return _by_name


def _has_id(node: _Node) -> bool:
    return node.id is not None or any(_has_id(child) for child in node.children)


def _by_id(node: _Node, fields: Sequence[pa.Field]) -> pa.Field | None:
    if node.id is None:
        raise TableUnsupported("a data file has field ids for some of its columns only", error="FieldIds")
    return next((field for field in fields if _ID in (field.metadata or {}) and field_id(field) == node.id), None)


def _by_name(node: _Node, fields: Sequence[pa.Field]) -> pa.Field | None:
    return next((field for field in fields if node.name in _names(field)), None)


def _names(field: pa.Field) -> list[str]:
    return list(json.loads((field.metadata or {}).get(_NAMES, b"[]")))


# --- types ------------------------------------------------------------------------------------------------------------


def _read_as(node: _Node, stored: pa.DataType, wanted: pa.DataType, match: _Match, *, whole: bool) -> pa.DataType:
    """The stored type with the table's names of struct fields.

    Args:
        node: The stored column.
        stored: Its type.
        wanted: The table's type of it.
        match: Finds the table's field for a stored one.
        whole: Structs must have exactly the table's fields, as within arrays and maps, which are compared as a whole.
    """
    t = pa.types
    if t.is_struct(wanted) and t.is_struct(stored) and len(node.children) == stored.num_fields:
        return _read_struct(node, stored, wanted, match, whole=whole)
    if t.is_list(wanted) and t.is_list(stored):
        (element,) = _entries(node, 1)
        _check_place(element, wanted.value_field, match)
        return pa.list_(_read_as(element, stored.value_type, wanted.value_type, match, whole=True))
    if t.is_map(wanted) and t.is_map(stored):
        key, value = _entries(node, 2)
        _check_place(key, wanted.key_field, match)
        _check_place(value, wanted.item_field, match)
        return pa.map_(
            _read_as(key, stored.key_type, wanted.key_type, match, whole=True),
            _read_as(value, stored.item_type, wanted.item_type, match, whole=True),
        )
    if node.children or not _is_promotion(stored, wanted):
        raise TableUnsupported(f"a data file stores {stored} where the table has {wanted}", error="StoredType")
    return stored


def _read_struct(
    node: _Node, stored: pa.StructType, wanted: pa.StructType, match: _Match, *, whole: bool
) -> pa.DataType:
    unnamed = "\0" * (1 + max(len(field.name) for field in wanted))
    fields, matched = [], set()
    for place, (child, field) in enumerate(zip(node.children, stored, strict=True)):
        own = match(child, list(wanted))
        if own is None:
            fields.append(pa.field(f"{unnamed}{place}", field.type))
            continue
        if own.name in matched:
            raise TableFailed("a file has two fields of the same field id", error="Columns")
        matched.add(own.name)
        fields.append(pa.field(own.name, _read_as(child, field.type, own.type, match, whole=whole)))
    if whole and len(matched) < max(len(fields), wanted.num_fields):
        raise TableUnsupported("structs inside its arrays or maps have changed", error="StoredType")
    if not matched:
        raise TableUnsupported("a data file has none of the fields of a struct", error="StoredType")
    return pa.struct(fields)


def _entries(node: _Node, count: int) -> tuple[_Node, ...]:
    """What is stored once per element of a list, or entry of a map, in the layout that Parquet prescribes."""
    entry = node.children[0] if len(node.children) == 1 else None
    if entry is None or len(entry.children) != count:
        raise TableUnsupported("a data file stores lists or maps in an old layout", error="StoredType")
    return entry.children


def _check_place(node: _Node, field: pa.Field, match: _Match) -> None:
    """Elements, keys and values have ids too; a name mapping finds them by their place."""
    if match is _by_id and _ID in (field.metadata or {}) and match(node, [field]) is None:
        raise TableUnsupported("the elements of an array or map have changed", error="StoredType")


def _is_promotion(stored: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether the wanted type holds every value of the stored one: then they are the same values."""
    t = pa.types
    if stored == wanted:
        return True
    if bits := _INTEGER_BITS.get(str(stored)):
        if t.is_decimal128(wanted):
            return bool(wanted.precision - wanted.scale >= _DIGITS[bits])
        return bits < _INTEGER_BITS.get(str(wanted), 0) or (bits <= 32 and t.is_float64(wanted))
    if t.is_float32(stored):
        return bool(t.is_float64(wanted))
    if t.is_decimal128(stored) and t.is_decimal128(wanted):
        whole = wanted.precision - wanted.scale >= stored.precision - stored.scale
        return bool(whole and wanted.scale >= stored.scale)
    if t.is_timestamp(wanted) and wanted.tz is None and t.is_date32(stored):
        return True
    if t.is_timestamp(stored) and t.is_timestamp(wanted):
        return (stored.unit, wanted.unit) == ("ms", "us") and (stored.tz is None) == (wanted.tz is None)
    return False


def inner_fields(dtype: pa.DataType) -> Iterator[pa.Field]:
    """The fields directly inside a type."""
    if pa.types.is_map(dtype):
        yield from (dtype.key_field, dtype.item_field)
    elif pa.types.is_nested(dtype):
        yield from (dtype.field(index) for index in range(dtype.num_fields))
