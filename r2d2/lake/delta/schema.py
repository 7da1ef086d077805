"""The schema of a Delta table: Spark's JSON types as Arrow types, and the physical names of its leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.delta.files import shown
from r2d2.model import LeafPath, check_supported
from r2d2.scan.field_ids import with_id, with_name

_PRIMITIVES = {
    "string": pa.string(),
    "long": pa.int64(),
    "integer": pa.int32(),
    "short": pa.int16(),
    "byte": pa.int8(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "decimal": pa.decimal128(10, 0),
}
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")
_STRING = re.compile(r"(?:string collate .+|(?:var)?char\(\d+\))")
_PHYSICAL_NAME = "delta.columnMapping.physicalName"
_ID = "delta.columnMapping.id"
_TYPE_CHANGES = "delta.typeChanges"
_BYTEWISE = frozenset({"comment", _ID, _PHYSICAL_NAME, _TYPE_CHANGES})


@dataclass(frozen=True, kw_only=True)
class DeltaLeaf:
    """A leaf of the table outside arrays and maps, where statistics can speak of it.

    Attributes:
        path: Its logical leaf path.
        physical: The names under which statistics have it.
        type: Arrow type.
        plain: Whether nothing is attached to the field that could change what its bounds mean (a collation, CHAR).
        widened: Whether older files may have the leaf in a narrower type, and their statistics with it.
    """

    path: LeafPath
    physical: tuple[str, ...]
    type: pa.DataType
    plain: bool
    widened: bool


@dataclass(frozen=True, kw_only=True)
class DeltaSchema:
    """Columns of a Delta table.

    Attributes:
        arrow: All columns, every field nullable so that types of different tables compare.
        leaves: Leaves in the order of `r2d2.model.leaves`.
        partition: Logical name of each partition column by its physical name.
    """

    arrow: pa.Schema
    leaves: tuple[DeltaLeaf, ...]
    partition: dict[str, str]


def parse_schema(text: Any, partition_columns: Any, *, mapping: str) -> DeltaSchema:
    """Read the schema of a metaData action.

    Args:
        text: Its `schemaString`.
        partition_columns: Its `partitionColumns`, logical names.
        mapping: `none`; `name` or `id` where files and statistics use physical names, and columns are found in files by
            name or by id. The fields of the Arrow schema then carry what they are found by, see `scan.field_ids`.

    Raises:
        TableUnsupported: For a type that the contract does not list, named in the message.
        TableFailed: If the schema is broken.
    """
    try:
        fields, mapped = json.loads(text)["fields"], mapping != "none"
        columns = [_field(field, mapping) for field in fields]
        arrow = pa.schema([_unstored(c) if c.name in (partition_columns or ()) else c for c in columns])
        leaves = tuple(leaf for field in fields for leaf in _leaves(field, (), (), mapped))
        physical = {str(field["name"]): _physical(field, mapped) for field in fields}
        partition = {physical[name]: name for name in partition_columns or ()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise TableFailed("the schema in the Delta log is broken", error="DeltaLog") from exc
    if not fields:
        raise TableUnsupported("a Delta table without columns is not supported", error="NoColumns")
    if len(physical) < len(fields):
        raise TableFailed("the schema in the Delta log has two columns of the same name", error="DeltaLog")
    return DeltaSchema(arrow=arrow, leaves=leaves, partition=partition)


def _unstored(field: pa.Field) -> pa.Field:
    """A partition column, which is not looked for in files."""
    return field.remove_metadata()


def arrow_type(dtype: Any, mapping: str = "none") -> pa.DataType:
    """Arrow type of a type in Spark's JSON form: a name, or an object for struct, array and map.

    Raises:
        TableUnsupported: For every other type.
    """
    if isinstance(dtype, dict):
        return _nested_type(dtype, mapping)
    name = str(dtype)
    if name in _PRIMITIVES:
        return _PRIMITIVES[name]
    if match := _DECIMAL.fullmatch(name):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return pa.decimal128(precision, scale)
    if _STRING.fullmatch(name):
        return pa.string()
    raise TableUnsupported(f"columns of type {shown(name)} are not supported", error="Type")


def holds_structs_in_lists(schema: pa.Schema) -> bool:
    """Whether an array or a map holds structs, whose fields a data file of an older schema may lack."""
    return any(_has_struct(dtype, inside=False) for dtype in schema.types)


def _has_struct(dtype: pa.DataType, *, inside: bool) -> bool:
    if pa.types.is_struct(dtype):
        return inside or any(_has_struct(child.type, inside=False) for child in dtype)
    if pa.types.is_map(dtype):
        return _has_struct(dtype.key_type, inside=True) or _has_struct(dtype.item_type, inside=True)
    return bool(pa.types.is_list(dtype)) and _has_struct(dtype.value_type, inside=True)


def _nested_type(dtype: dict[str, Any], mapping: str) -> pa.DataType:
    kind = dtype.get("type")
    if kind == "array":
        return pa.list_(arrow_type(dtype["elementType"], mapping))
    if kind == "map":
        return pa.map_(arrow_type(dtype["keyType"], mapping), arrow_type(dtype["valueType"], mapping))
    if kind != "struct":
        raise TableUnsupported(f"columns of type {shown(kind)} are not supported", error="Type")
    struct = pa.struct([_field(field, mapping) for field in dtype["fields"]])
    if len({child.name for child in struct}) < struct.num_fields:
        raise TableFailed("the schema in the Delta log has two struct fields of the same name", error="DeltaLog")
    check_supported(struct)
    return struct


def _field(field: dict[str, Any], mapping: str) -> pa.Field:
    arrow = pa.field(str(field["name"]), arrow_type(field["type"], mapping))
    if mapping == "none":
        return arrow
    physical = str(field["metadata"][_PHYSICAL_NAME])
    return with_name(arrow, physical) if mapping == "name" else with_id(arrow, int(field["metadata"][_ID]), [])


def _leaves(field: dict[str, Any], path: LeafPath, physical: tuple[str, ...], mapped: bool) -> Iterator[DeltaLeaf]:
    path, physical = (*path, str(field["name"])), (*physical, _physical(field, mapped))
    dtype = field["type"]
    if isinstance(dtype, dict) and dtype.get("type") == "struct":
        for child in dtype["fields"]:
            yield from _leaves(child, path, physical, mapped)
    else:
        marks = set(field.get("metadata") or {})
        plain = not isinstance(dtype, str) or (marks <= _BYTEWISE and dtype in _PRIMITIVES)
        widened = _TYPE_CHANGES in marks
        yield DeltaLeaf(path=path, physical=physical, type=arrow_type(dtype), plain=plain, widened=widened)


def _physical(field: dict[str, Any], mapped: bool) -> str:
    return str(field["metadata"][_PHYSICAL_NAME] if mapped else field["name"])
