"""Row identity: SQL for DuckDB that turns a row into a 128-bit fingerprint, equal for equal rows.

A leaf value becomes a *digest*, two 64-bit lanes computed from different bytes, so that values that collide in one
lane do not collide in the other. Digests know neither the column's name nor its position. A row fingerprint combines
the digests of an ordered list of leaves: many column subsets of one scan share the work on the values.

What equals what is the contract's *Values*. A number is hashed as the double it equals exactly, else as its plain
decimal text; so the source type does not matter. NULL has one digest, without a type class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from r2d2.errors import EngineError
from r2d2.model import LeafPath, TypeClass, fold, leaf_key, type_class

DUCKDB_VERSION = "2.0.0"
HASH_VERSION = f"2+duckdb{DUCKDB_VERSION}"
"""Names everything that decides a fingerprint, the keys apart. DuckDB's `hash()` is not stable across its versions."""

_EXACT_INTEGERS = 1 << 53
_MAX_DAYS = 106_751_990
_DAY_MICROSECONDS = 86_400_000_000
_NARROW_DECIMAL_DIGITS = 15


def check_hash_version() -> None:
    """Refuse to fingerprint with another DuckDB than the pinned one.

    Raises:
        EngineError: This ends the audit: fingerprints of different versions cannot be compared.
    """
    if duckdb.__version__ != DUCKDB_VERSION:
        raise EngineError(
            f"this worker has duckdb {duckdb.__version__}, but row fingerprints {HASH_VERSION} need duckdb "
            f"{DUCKDB_VERSION}; install that version on every worker"
        )


@dataclass(frozen=True, kw_only=True)
class Digest:
    """SQL expressions of the two lanes of a value's digest, both UBIGINT and never NULL."""

    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A top-level column of a relation.

    Attributes:
        sql: Expression that yields it.
        duckdb_type: Its type in the relation (a DuckDBPyType).
        type: Its Arrow type, which decides the type class: DuckDB reads INT96 as a zone-less timestamp.
    """

    sql: str
    duckdb_type: Any
    type: pa.DataType


@dataclass(frozen=True, kw_only=True)
class RowHasher:
    """Builds digests and fingerprints under one set of keys and comparison options.

    Attributes:
        lane_keys: Secret 64-bit keys of the lanes.
        case_sensitive: Field names of structs inside arrays and maps compare exactly.
        utc: Dates, zone-less timestamps and instants are one class, read on the UTC clock.
    """

    lane_keys: tuple[int, int]
    case_sensitive: bool = False
    utc: bool = False

    def leaf(self, column: Column, path: LeafPath) -> Digest:
        """Digest of the leaf at a path; the path's first name is the column's own."""
        return self.value(leaf_column(column, path))

    def value(self, column: Column) -> Digest:
        """Digest of a column's whole value."""
        return self._value(column.sql, column.duckdb_type, column.type, depth=0)

    def presence(self, column: Column, path: LeafPath) -> Digest:
        """Digest of whether the struct at a path is NULL."""
        sql, _ = leaf_value(column, path)
        return self._both(
            lambda lane: (
                f"CASE WHEN {sql} IS NULL THEN {self._constant(lane, 'absent')} "
                f"ELSE {self._constant(lane, 'present')} END"
            )
        )

    def missing(self) -> Digest:
        """Digest of NULL."""
        return self._both(lambda lane: self._constant(lane, "null"))

    def row(self, digests: Sequence[Digest]) -> Digest:
        """Fingerprint of a row from the digests of its leaves, in the order given."""
        label = _row_label(len(digests))
        first = _combine([digest.first for digest in digests])
        second = _combine([digest.second for digest in digests])
        return Digest(first=self._mix(0, first, label), second=self._mix(1, second, label))

    def row_constants(self, leaves: int) -> tuple[int, int]:
        """What `row` mixes into the lanes of a row of so many leaves."""
        label = _row_label(leaves)
        return self._bits(0, label), self._bits(1, label)

    def _value(self, sql: str, duckdb_type: Any, dtype: pa.DataType, depth: int) -> Digest:
        if pa.types.is_struct(dtype):
            inner = self._struct(sql, duckdb_type, dtype, depth)
        else:
            inner = self._leaf_value(sql, duckdb_type, dtype, depth)
        return self._both(
            lambda lane: f"CASE WHEN {sql} IS NULL THEN {self._constant(lane, 'null')} ELSE {_lane(inner, lane)} END"
        )

    def _leaf_value(self, sql: str, duckdb_type: Any, dtype: pa.DataType, depth: int) -> Digest:
        kind = type_class(dtype)
        if kind is TypeClass.NULL:
            return self.missing()
        if kind is TypeClass.NUMBER:
            return self._number(sql, duckdb_type)
        if kind is TypeClass.BOOLEAN:
            return self._word(f"hash({sql})", "boolean")
        if kind in (TypeClass.WALL_CLOCK, TypeClass.INSTANT):
            return self._time(sql, duckdb_type, TypeClass.INSTANT if self.utc else kind)
        if kind is TypeClass.STRING:
            return self._bytes(f"CAST({sql} AS VARCHAR)", "string")
        if kind is TypeClass.BINARY:
            return self._bytes(f"CAST({sql} AS BLOB)", "binary")
        if kind is TypeClass.ARRAY:
            return self._array(sql, _list_child(duckdb_type), dtype.value_type, depth)
        return self._map(sql, duckdb_type, dtype, depth)

    def _number(self, sql: str, duckdb_type: Any) -> Digest:
        if duckdb_type.id in ("double", "float"):
            return self._double(sql)
        if duckdb_type.id == "decimal":
            return self._decimal(sql, *(size for _, size in duckdb_type.children))
        if duckdb_type.id in ("tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger"):
            return self._integer(sql)
        limit = _EXACT_INTEGERS
        small = f"{sql} BETWEEN {'0' if duckdb_type.id == 'ubigint' else -limit} AND {limit}"
        exact = f"{small} OR TRY_CAST(CAST({sql} AS DOUBLE) AS HUGEINT) = CAST({sql} AS HUGEINT)"
        return self._exact_or_text(exact, self._integer(sql), f"CAST({sql} AS VARCHAR)")

    def _decimal(self, sql: str, precision: int, scale: int) -> Digest:
        if scale == 0 and precision <= _NARROW_DECIMAL_DIGITS:
            return self._integer(sql)
        text = f"CAST({sql} AS VARCHAR)"
        unscaled = f"CAST(replace({text}, '.', '') AS HUGEINT)"
        if scale == 0:
            unscaled = f"CAST({sql} AS HUGEINT)"
        elif precision <= _NARROW_DECIMAL_DIGITS:
            unscaled = f"CAST(round(CAST({sql} AS DOUBLE) * 1e{scale}) AS BIGINT)"
        # A double holds unscaled / 10^s exactly only if 5^s divides the unscaled value and the quotient fits.
        odd, kind = (5**scale, "BIGINT" if precision <= _NARROW_DECIMAL_DIGITS else "HUGEINT")
        quotient = f"({unscaled} // CAST({odd} AS {kind}))"
        double = f"CAST({quotient} AS DOUBLE)" if kind == "BIGINT" else _huge_as_double(quotient)
        exact = f"{unscaled} % CAST({odd} AS {kind}) = 0 AND TRY_CAST({double} AS HUGEINT) = {quotient}"
        if scale > 0:
            point = f"replace({text}, '.', '0.')" if precision == scale else text
            text = f"rtrim(rtrim({point}, '0'), '.')"
        return self._exact_or_text(exact, self._integer(double, divisor=2**scale), text)

    def _exact_or_text(self, exact: str, plain: Digest, text: str) -> Digest:
        spelled = self._bytes(text, "number")
        return self._both(lambda lane: f"CASE WHEN {exact} THEN {_lane(plain, lane)} ELSE {_lane(spelled, lane)} END")

    def _integer(self, sql: str, divisor: int = 1) -> Digest:
        """Digest of an integer over a power of two that a double holds exactly; it is never NaN, nor -0."""
        fraction = f" / {float(divisor)!r}" if divisor > 1 else ""
        return self._word(f"hash(CAST({sql} AS DOUBLE){fraction})", "number")

    def _double(self, sql: str) -> Digest:
        value = f"CAST({sql} AS DOUBLE)"
        word = f"CASE WHEN isnan({value}) THEN hash(CAST('NaN' AS DOUBLE)) ELSE hash({value} + 0.0::DOUBLE) END"
        return self._word(word, "number")

    def _time(self, sql: str, duckdb_type: Any, kind: TypeClass) -> Digest:
        label = kind.value
        if duckdb_type.id == "date":
            days = f"({sql} - DATE '1970-01-01')"
            near = self._word(f"hash({days} * {_DAY_MICROSECONDS})", label)
            far = self._word(f"hash({days})", f"{label} days")
            fits = f"{days} BETWEEN {-_MAX_DAYS} AND {_MAX_DAYS}"
            return self._both(lambda lane: f"CASE WHEN {fits} THEN {_lane(near, lane)} ELSE {_lane(far, lane)} END")
        if duckdb_type.id == "timestamptz_ns":  # the kernel's clock is UTC
            return self._time(f"CAST({sql} AS TIMESTAMP_NS)", duckdb.sqltype("TIMESTAMP_NS"), kind)
        whole = self._word(f"hash(epoch_us({sql}))", label)
        infinite = self._bytes(f"CAST({sql} AS VARCHAR)", f"{label} infinite")
        if duckdb_type.id == "timestamp_ns":
            below = f"(epoch_ns({sql}) % 1000)"
            fine = self._both(lambda lane: self._mix(lane, f"hash({_lane(whole, lane)}, {below})", f"{label} ns"))
            coarse = whole
            whole = self._both(
                lambda lane: f"CASE WHEN {below} = 0 THEN {_lane(coarse, lane)} ELSE {_lane(fine, lane)} END"
            )
        finite = whole
        return self._both(
            lambda lane: f"CASE WHEN isfinite({sql}) THEN {_lane(finite, lane)} ELSE {_lane(infinite, lane)} END"
        )

    def _struct(self, sql: str, duckdb_type: Any, dtype: pa.StructType, depth: int) -> Digest:
        names = [field.name if self.case_sensitive else fold(field.name) for field in dtype]
        if len(set(names)) < len(names):
            names = [field.name for field in dtype]
        order = sorted(range(len(names)), key=lambda i: (names[i], dtype.field(i).name))
        digests = [
            self._value(f"struct_extract_at({sql}, {i + 1})", _child_type(duckdb_type, i), dtype.field(i).type, depth)
            for i in order
        ]
        label = "struct " + leaf_key(tuple(names[i] for i in order))
        return Digest(
            first=self._mix(0, _combine([d.first for d in digests]), label),
            second=self._mix(1, _combine([d.second for d in digests]), label),
        )

    def _array(self, sql: str, duckdb_item: Any, item: pa.DataType, depth: int) -> Digest:
        name = f"e{depth}"
        digest = self._value(name, duckdb_item, item, depth + 1)
        return self._list(sql, lambda lane: f"list_transform({sql}, lambda {name}: {_lane(digest, lane)})", "array")

    def _map(self, sql: str, duckdb_type: Any, dtype: pa.MapType, depth: int) -> Digest:
        name = f"e{depth}"
        (_, duckdb_key), (_, duckdb_item) = duckdb_type.children
        key = self._value(f"struct_extract_at({name}, 1)", duckdb_key, dtype.key_type, depth + 1)
        item = self._value(f"struct_extract_at({name}, 2)", duckdb_item, dtype.item_type, depth + 1)

        def entries(lane: int) -> str:
            entry = f"hash({_lane(key, lane)}, {_lane(item, lane)})"
            return f"list_sort(list_transform(map_entries({sql}), lambda {name}: {entry}))"

        return self._list(sql, entries, "map")

    def _list(self, sql: str, digests: Callable[[int], str], label: str) -> Digest:
        size = f"len({sql})" if label == "array" else f"cardinality({sql})"
        return self._both(lambda lane: self._mix(lane, f"hash(hash({digests(lane)}), {size})", label))

    def _word(self, hashed: str, label: str) -> Digest:
        """Digest of a value of at most 64 bits, on which `hash` is injective: one hash serves both lanes."""
        return self._both(lambda lane: self._mix(lane, hashed, label))

    def _bytes(self, sql: str, label: str) -> Digest:
        """Digest of a byte string: each lane hashes it behind a salt of its own, of another length modulo 8."""
        return self._both(lambda lane: self._mix(lane, f"hash({self._salt(lane, label)} || {sql})", label))

    def _salt(self, lane: int, label: str) -> str:
        text = self._bits(lane, "salt").to_bytes(8, "big").hex()[: (3, 6)[lane]]
        return f"'{text}'::BLOB" if label == "binary" else f"'{text}'"

    def _mix(self, lane: int, word: str, label: str) -> str:
        return f"hash(xor({word}, {self._constant(lane, label)}))"

    def _constant(self, lane: int, label: str) -> str:
        return f"{self._bits(lane, label)}::UBIGINT"

    def _bits(self, lane: int, label: str) -> int:
        key = self.lane_keys[lane].to_bytes(8, "big")
        message = f"{lane} {label}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(message, digest_size=8, key=key).digest(), "big")

    def _both(self, lane_sql: Callable[[int], str]) -> Digest:
        return Digest(first=lane_sql(0), second=lane_sql(1))


def leaf_column(column: Column, path: LeafPath) -> Column:
    """The leaf at a path as a column of its own; the path's first name is the column's own."""
    sql, duckdb_type, dtype = column.sql, column.duckdb_type, column.type
    for name in path[1:]:
        index = _field_index(dtype, name)
        sql = f"struct_extract_at({sql}, {index + 1})"
        duckdb_type, dtype = _child_type(duckdb_type, index), dtype.field(index).type
    return Column(sql=sql, duckdb_type=duckdb_type, type=dtype)


def leaf_value(column: Column, path: LeafPath) -> tuple[str, pa.DataType]:
    """SQL of the value of the leaf at a path, and its Arrow type; the path's first name is the column's own."""
    sql, dtype = column.sql, column.type
    for name in path[1:]:
        index = _field_index(dtype, name)
        sql, dtype = f"struct_extract_at({sql}, {index + 1})", dtype.field(index).type
    return sql, dtype


RowPart = tuple[str, LeafPath]
"""A part of a row: "leaf" or "struct", and its path."""


def row_parts(paths: Sequence[LeafPath]) -> list[RowPart]:
    """What a row's fingerprint combines, in order: its leaves, and whether each struct above them is NULL."""
    return [*(("leaf", path) for path in paths), *(("struct", path) for path in structs_on(paths))]


def structs_on(paths: Sequence[LeafPath]) -> list[LeafPath]:
    """Paths of the structs above some leaves, each once, in order of first appearance."""
    return list(dict.fromkeys(path[:end] for path in paths for end in range(1, len(path))))


def _row_label(leaves: int) -> str:
    return f"row {leaves}"


def _huge_as_double(sql: str) -> str:
    """A HUGEINT as DOUBLE: DuckDB's own cast of a negative one below -2^53 may miss the double that it equals."""
    return f"(sign({sql}) * CAST(abs({sql}) AS DOUBLE))"


def _lane(digest: Digest, lane: int) -> str:
    return digest.second if lane else digest.first


def _combine(words: Sequence[str]) -> str:
    return f"hash({', '.join(words)})"


def _field_index(dtype: pa.StructType, name: str) -> int:
    return next(index for index in range(dtype.num_fields) if dtype.field(index).name == name)


def _child_type(duckdb_type: Any, index: int) -> Any:
    return duckdb_type.children[index][1]


def _list_child(duckdb_type: Any) -> Any:
    return duckdb_type.children[0][1]
