"""The values that stages exchange: tables, fragments, claims, and the schemas of the stored tables.

No engine and no I/O here. Types of user tables are written as Arrow types everywhere: what a reader that knows the
format returns (INT96 as `timestamp[us, UTC]`, unsigned integers as such, a CSV column as inferred).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa

from r2d2.errors import TableUnsupported

LEGACY_CALENDAR = "a file has dates or timestamps in Spark's legacy calendar"
"""Reason for the engine's reader: Apache Spark alone turns such dates into those that were meant."""

LeafPath = tuple[str, ...]
"""Names from a top-level column down to a value that is not a struct: `("s", "a")` is field a of column s."""


LeafOfFile = tuple[int, int, LeafPath]
"""Table, position of the fragment (-1 where it is not known), leaf."""


class Format(StrEnum):
    """How a table is stored."""

    PARQUET = "parquet"
    DELTA = "delta"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    ICEBERG = "iceberg"
    ORC = "orc"
    AVRO = "avro"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """Whether a table takes part in the audit."""

    OK = "ok"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


class TypeClass(StrEnum):
    """Types whose values may equal one another; values of different classes never do."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    WALL_CLOCK = "wall clock"
    INSTANT = "instant"
    STRING = "string"
    BINARY = "binary"
    ARRAY = "array"
    MAP = "map"
    NULL = "null"


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """What pins a file: it has not changed while size and token stay the same.

    Attributes:
        uri: Absolute local path, or an object-store URL.
        size: Bytes.
        token: Modification time in nanoseconds (local) or ETag or version (object store).
    """

    uri: str
    size: int
    token: str


@dataclass(frozen=True, kw_only=True)
class FoundTable:
    """A table as the listing of the lake, or a catalog, shows it.

    Attributes:
        table: Position in the list of all tables sorted by id, from 0.
        id: Path relative to the lake, `/`-separated; with a catalog its name, namespace and table, joined by dots.
        uri: The file, or the folder of the table; empty where the catalog could not say.
        files: The data files, sorted by uri; empty for formats whose log lists them (Delta).
        metadata: The metadata file that a catalog names for it; None where its folder tells which is the newest.
        fault: Reason why it cannot be read, known from the listing alone.
        fault_status: `failed` or `unsupported`, where there is a fault.
    """

    table: int
    id: str
    format: Format
    uri: str
    files: tuple[FileStamp, ...] = ()
    metadata: str | None = None
    fault: str | None = None
    fault_status: Status = Status.FAILED


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """One file of a table at one snapshot.

    Attributes:
        stamp: The file in the lake.
        data_uri: The Parquet file that holds its rows: the file itself, or the converted copy of a text file in the
            work folder.
        rows: Live rows, where metadata says.
        partition: Values of partition columns as text (None is NULL), typed by the table's schema.
        deletes: Names what deletes rows of the file at this snapshot; equal names delete the same rows, an empty one
            deletes none.
    """

    stamp: FileStamp
    data_uri: str
    rows: int | None
    partition: dict[str, str | None] = field(default_factory=dict)
    deletes: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What metadata says about one leaf in one fragment. Missing is None, and None is unknown, never zero.

    Attributes:
        fragment: Position in the table's fragments.
        leaf: Leaf path in the table's schema.
        source: `footer`, `delta-log` or `partition`.
        writer: `created_by` of the footer, or the engine named in the log; empty where unknown.
        type: Arrow type of the leaf in that file, as text.
        nulls: Live rows that are NULL there.
        low, high: Bounds as `encode_bound` writes them.
        nans: Rows that are NaN there.
        low_exact, high_exact: The writer says that the bound is a value of the column, not only beyond all of them.
    """

    fragment: int
    leaf: LeafPath
    source: str
    writer: str
    type: str
    nulls: int | None
    low: bytes | None
    high: bytes | None
    nans: int | None = None
    low_exact: bool = False
    high_exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """A table's metadata, read without a scan of its rows (text files apart: they are converted once).

    Attributes:
        schema: Columns in the table's order, partition columns included.
        version: Delta version, or a digest of the file list with sizes and tokens.
        fragments: In a fixed order.
        claims: Evidence for the metadata stages.
        table_bytes: Stored bytes of this snapshot.
        history_bytes: Bytes kept only for older versions.
        reader: `files` where the kernel reads the table faithfully, else `engine`.
        reader_reason: Why the kernel cannot read it.
        spark_only_reason: Why Apache Spark's reader alone, and not Sail's, returns what its files hold.
        no_parent_reason: Why no recipe may read it; None where one may.
        view_options: Options of the `CREATE TEMPORARY VIEW` that reads it (text formats).
        stored_as: By leaf, what its values in the files are found by, where that is not its name (column mapping, field
            ids): of tables that share a file, leaves with equal entries are the same values.
        created_ms, written_ms: Milliseconds since 1970 when the table was made and its snapshot committed, as far as a
            log says; None where it does not.
        properties: Those of the table's own properties that policies ask for, where a log has them.
        bytes_read: What the harvest itself read.
    """

    schema: pa.Schema
    version: str
    fragments: tuple[Fragment, ...]
    claims: tuple[Claim, ...] = ()
    table_bytes: int = 0
    history_bytes: int = 0
    reader: str = "files"
    reader_reason: str | None = None
    spark_only_reason: str | None = None
    no_parent_reason: str | None = None
    view_options: dict[str, str] = field(default_factory=dict)
    stored_as: dict[LeafPath, str] = field(default_factory=dict)
    created_ms: int | None = None
    written_ms: int | None = None
    properties: dict[str, str] = field(default_factory=dict)
    bytes_read: int = 0

    @property
    def rows(self) -> int | None:
        """Live rows of the table; None as soon as one fragment's are unknown, or where the sum cannot be meant."""
        counts = [fragment.rows for fragment in self.fragments]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) and sum(known) < 1 << 62 else None


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A verified containment.

    Attributes:
        child, parent: Table positions.
        relation: `equal` or `contained`.
        bag, set: Which containments hold; bag implies set.
        columns: Leaf paths compared, those of the child.
        proof: `scan`, `file-identity` or `transitive`.
    """

    child: int
    parent: int
    relation: str
    bag: bool
    set: bool
    child_rows: int
    parent_rows: int
    columns: tuple[LeafPath, ...]
    proof: str = "scan"


RECIPE_KINDS = ("equal", "projection", "distinct", "selection", "version", "union", "key_list")
"""What a recipe may be, the cheapest to understand first."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a child table comes back from its parents.

    Attributes:
        child: Table position of the table that is rebuilt.
        parents: Table positions it is rebuilt from.
        kind: One of RECIPE_KINDS.
        setup_sql: Statements that define the parents' names, and a key list's, in a plain session.
        recipe_sql: The query that yields the child.
        read_bytes: Bytes of the parents, and of a key list, that the query reads.
        stored_bytes: Bytes of what the recipe itself needs kept: its key list.
        expires: The day from which a vacuum may remove the older version that it reads; None where it lasts.
        through: Deleted tables that are rebuilt on the way, each by a recipe of its own, one as often as it is rebuilt.
    """

    child: int
    parents: tuple[int, ...]
    kind: str
    setup_sql: tuple[str, ...]
    recipe_sql: str
    read_bytes: int
    stored_bytes: int = 0
    expires: datetime.date | None = None
    through: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """Recipes that run one after another."""
        return 1 + len(self.through)


Names = frozenset[LeafPath]


@dataclass(frozen=True, kw_only=True)
class SchemaClass:
    """Tables with the same leaf paths.

    Attributes:
        id: Position among the classes.
        names: Exact leaf paths.
        exact: Compared case-sensitively.
        tables: Members, ascending.
    """

    id: int
    names: Names
    exact: bool
    tables: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SchemaGraph:
    """Classes, and edges (child class, parent class); a class with members to compare has an edge to itself."""

    classes: tuple[SchemaClass, ...]
    edges: tuple[tuple[int, int], ...]

    @cached_property
    def class_of(self) -> dict[int, SchemaClass]:
        """The class of each table."""
        return {table: c for c in self.classes for table in c.tables}

    @property
    def pairs(self) -> int:
        """Ordered pairs of different tables whose names allow a containment."""
        sizes = [len(c.tables) for c in self.classes]
        return sum(sizes[c] * (sizes[p] - (c == p)) for c, p in self.edges)


@lru_cache(maxsize=1 << 14)
def leaf_key(path: LeafPath) -> str:
    """Text form of a leaf path, injective: a JSON list of the names."""
    return json.dumps(list(path), ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1 << 14)
def leaf_path(key: str) -> LeafPath:
    """Inverse of `leaf_key`."""
    return tuple(json.loads(key))


def fold(name: str) -> str:
    """A name as Spark's case-insensitive resolution sees it."""
    return name.lower()


@lru_cache(maxsize=1 << 14)
def fold_path(path: LeafPath) -> LeafPath:
    """`fold` for each name of a leaf path."""
    return tuple(fold(name) for name in path)


def leaves(schema: pa.Schema) -> list[tuple[LeafPath, pa.DataType]]:
    """Leaf paths of a schema with their types, depth first in column order."""

    def walk(path: LeafPath, dtype: pa.DataType) -> Iterator[tuple[LeafPath, pa.DataType]]:
        if pa.types.is_struct(dtype):
            for child in dtype:
                yield from walk((*path, child.name), child.type)
        else:
            yield path, dtype

    return [leaf for column in schema for leaf in walk((column.name,), column.type)]


def is_case_sensitive(paths: list[LeafPath]) -> bool:
    """Whether two leaf paths differ only by case: such a table is compared case-sensitively."""
    return len({fold_path(path) for path in paths}) < len(set(paths))


def type_class(dtype: pa.DataType) -> TypeClass:
    """The type class of a leaf's Arrow type.

    Raises:
        TableUnsupported: For TIME, INTERVAL and every type that the contract does not list.
    """
    t = pa.types
    if t.is_null(dtype):
        return TypeClass.NULL
    if t.is_boolean(dtype):
        return TypeClass.BOOLEAN
    if t.is_integer(dtype) or t.is_float32(dtype) or t.is_float64(dtype) or t.is_decimal128(dtype):
        return TypeClass.NUMBER
    if t.is_string(dtype) or t.is_large_string(dtype):
        return TypeClass.STRING
    if t.is_binary(dtype) or t.is_large_binary(dtype) or t.is_fixed_size_binary(dtype):
        return TypeClass.BINARY
    if t.is_date32(dtype):
        return TypeClass.WALL_CLOCK
    if t.is_timestamp(dtype):
        return TypeClass.WALL_CLOCK if dtype.tz is None else TypeClass.INSTANT
    if t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype):
        check_supported(dtype.value_type)
        return TypeClass.ARRAY
    if t.is_map(dtype):
        check_supported(dtype.key_type)
        check_supported(dtype.item_type)
        return TypeClass.MAP
    raise TableUnsupported(f"columns of type {dtype} are not supported", error="Type")


def check_supported(dtype: pa.DataType) -> None:
    """Raise TableUnsupported if a type, or a type within it, is not of the contract."""
    if pa.types.is_struct(dtype):
        if dtype.num_fields == 0:
            raise TableUnsupported("structs without fields are not supported", error="Type")
        for child in dtype:
            check_supported(child.type)
    else:
        type_class(dtype)


_SPARK_TYPES = {
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "uint8": "smallint",
    "uint16": "int",
    "uint32": "bigint",
    "uint64": "decimal(20,0)",
    "float": "float",
    "double": "double",
    "string": "string",
    "large_string": "string",
    "binary": "binary",
    "large_binary": "binary",
    "date32[day]": "date",
    "null": "void",
}


def spark_type(dtype: pa.DataType) -> str:
    """The type that Spark gives to such a column, in Spark's DDL.

    Names of struct fields are quoted with backticks where they are not plain words. Nanosecond timestamps, which Spark
    cannot read, keep their Arrow name.
    """
    t = pa.types
    if t.is_decimal(dtype):
        return f"decimal({dtype.precision},{dtype.scale})"
    if t.is_timestamp(dtype) and dtype.unit != "ns":
        return "timestamp_ntz" if dtype.tz is None else "timestamp"
    if t.is_fixed_size_binary(dtype):
        return "binary"
    if t.is_struct(dtype):
        return "struct<" + ",".join(f"{spark_name(c.name)}:{spark_type(c.type)}" for c in dtype) + ">"
    if t.is_map(dtype):
        return f"map<{spark_type(dtype.key_type)},{spark_type(dtype.item_type)}>"
    if t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype):
        return f"array<{spark_type(dtype.value_type)}>"
    return _SPARK_TYPES.get(str(dtype), str(dtype))


def spark_name(name: str) -> str:
    """A name as an identifier of Spark SQL: in backticks, those inside doubled."""
    return "`" + name.replace("`", "``") + "`"


def spark_ddl(schema: pa.Schema) -> str:
    """A schema as Spark's DDL."""
    return ", ".join(f"{spark_name(column.name)} {spark_type(column.type)}" for column in schema)


def encode_bound(value: Any) -> bytes | None:
    """A bound of a claim as bytes: text of numbers (dates and timestamps: microseconds since 1970), bytes of strings.

    Args:
        value: int, float, Decimal, bool, str, bytes or None. NaN and infinities are unbounded: None.
    """
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return (
        str(int(value)) if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
    ).encode()


def schema_to_bytes(schema: pa.Schema) -> bytes:
    """A schema for a stored table."""
    return bytes(schema.remove_metadata().serialize())


def schema_from_bytes(data: bytes) -> pa.Schema:
    """Inverse of `schema_to_bytes`."""
    return pa.ipc.read_schema(pa.py_buffer(data))
