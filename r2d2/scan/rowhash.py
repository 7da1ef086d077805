"""Row identity: SQL for DuckDB that turns a row into a 128-bit fingerprint, equal for equal rows.

A leaf value becomes a *digest*, two 64-bit lanes computed from different bytes, so that values that collide in one
lane do not collide in the other. Digests know neither the column's name nor its position. A row fingerprint combines
the digests of an ordered list of leaves: many column subsets of one scan share the work on the values.

What equals what is the contract's *Values*. A number is hashed in the first of these forms that holds it exactly, so
that the source type does not matter: a 64-bit integer; a double; a 64-bit integer and a rest of 18 digits; its plain
decimal text. NULL has one digest, without a type class.
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
HASH_VERSION = f"3+duckdb{DUCKDB_VERSION}"
"""Names everything that decides a fingerprint, the keys apart. DuckDB's `hash()` is not stable across its versions."""

_MAX_DAYS = 106_751_990
_DAY_MICROSECONDS = 86_400_000_000
_WITHIN_64_BITS = frozenset(["tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger"])
_INTEGERS_END = "9223372036854775808.0::DOUBLE"
_WORD_DIGITS = 18
"""Digits of a decimal that DuckDB keeps in a 64-bit word, whose `hash` is that of the word."""
_EXACT_DIGITS = 15
"""Digits of an integer that a double holds in any case."""


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
            return self._double(f"CAST({sql} AS DOUBLE)")
        if duckdb_type.id == "decimal":
            return self._decimal(sql, *(size for _, size in duckdb_type.children))
        if duckdb_type.id in _WITHIN_64_BITS:
            return self._integer(sql)
        return self._large_integer(sql)

    def _integer(self, sql: str) -> Digest:
        """Digest of an integer of 64 bits, with a sign."""
        return self._word(f"hash(CAST({sql} AS BIGINT))", "number")

    def _large_integer(self, sql: str) -> Digest:
        """Digest of an integer that may have more bits."""
        double = f"CAST({sql} AS DOUBLE)"
        return self._first_of(
            (f"TRY_CAST({sql} AS BIGINT) IS NOT NULL", self._integer(sql)),
            (f"TRY_CAST({double} AS HUGEINT) = CAST({sql} AS HUGEINT)", self._fraction(double)),
            otherwise=self._bytes(f"CAST({sql} AS VARCHAR)", "number"),
        )

    def _double(self, sql: str) -> Digest:
        # NaN is above all numbers and equal to itself, but statistics of files leave it out: it is asked for first.
        integral = self._first_of(
            (f"isnan({sql})", self._fraction("CAST('NaN' AS DOUBLE)")),
            (f"{sql} >= -({_INTEGERS_END}) AND {sql} < {_INTEGERS_END}", self._integer(sql)),
            otherwise=self._fraction(sql),
        )
        return self._first_of((f"{sql} = trunc({sql})", integral), otherwise=self._fraction(sql))

    def _fraction(self, sql: str) -> Digest:
        """Digest of a double that is no integer of 64 bits, so never a zero, and no NaN but the one of `_double`."""
        return self._word(f"hash({sql})", "double")

    def _decimal(self, sql: str, precision: int, scale: int) -> Digest:
        if precision <= _WORD_DIGITS:
            return self._narrow_decimal(sql, precision, scale)
        wide = self._wide_decimal(sql, precision, scale)
        if scale >= _WORD_DIGITS:
            return wide
        bound = f"CAST('{10 ** (_WORD_DIGITS - scale)}' AS DECIMAL({precision}, {scale}))"
        narrow = self._narrow_decimal(f"CAST({sql} AS DECIMAL({_WORD_DIGITS}, {scale}))", _WORD_DIGITS, scale)
        return self._first_of((f"{sql} > -{bound} AND {sql} < {bound}", narrow), otherwise=wide)

    def _narrow_decimal(self, sql: str, precision: int, scale: int) -> Digest:
        """Digest of a decimal whose digits fit into 64 bits, on which DuckDB computes fast."""
        if scale == 0:
            return self._integer(sql)
        whole, part = _whole_and_part(sql, precision, scale)
        dyadic = _is_dyadic(sql, scale)
        double = f"CAST({sql} AS DOUBLE)"
        if precision > _EXACT_DIGITS:  # a double may still miss it
            scaled = f"CAST(CAST({sql} AS DECIMAL(38, {scale})) * {2**scale} AS BIGINT)"
            double = f"CAST({scaled} AS DOUBLE)"
            dyadic += f" AND TRY_CAST({double} AS BIGINT) = {scaled}"
            double = f"({double} / {float(2**scale)!r})"
        return self._first_of(
            (f"{part} = 0", self._integer(sql)),
            (dyadic, self._fraction(double)),
            otherwise=self._whole_and_part(whole, part),
        )

    def _wide_decimal(self, sql: str, precision: int, scale: int) -> Digest:
        if scale == 0:
            return self._large_integer(sql)
        text = f"CAST({sql} AS VARCHAR)"
        whole, part = _whole_and_part(sql, precision, scale)
        fits = "true"
        if precision - scale > _WORD_DIGITS:
            low, high = (f"CAST('{end}' AS DECIMAL({precision}, {scale}))" for end in (-(1 << 63) - 1, 1 << 63))
            fits = f"{sql} > {low} AND {sql} < {high}"
        # A double holds unscaled / 10^s exactly only if 5^s divides the unscaled value and the quotient fits.
        quotient = f"(CAST(replace({text}, '.', '') AS HUGEINT) // CAST({5**scale} AS HUGEINT))"
        double = _huge_as_double(quotient)
        dyadic = f"{_is_dyadic(sql, scale)} AND TRY_CAST({double} AS HUGEINT) = {quotient}"
        has_18_digits = f"TRY_CAST({part} AS DECIMAL({_WORD_DIGITS}, {_WORD_DIGITS})) = {part}"
        point = f"replace({text}, '.', '0.')" if precision == scale else text
        return self._first_of(
            (f"{part} = 0 AND {fits}", self._integer(whole)),
            (dyadic, self._fraction(f"({double} / {float(2**scale)!r})")),
            (
                f"{fits} AND {has_18_digits}" if scale > _WORD_DIGITS else fits,
                self._whole_and_part(whole, part),
            ),
            otherwise=self._bytes(f"rtrim(rtrim({point}, '0'), '.')", "number"),
        )

    def _whole_and_part(self, whole: str, part: str) -> Digest:
        """Digest of a number from its integral part, of 64 bits, and the rest, of at most 18 digits."""
        whole, part = f"hash(CAST({whole} AS BIGINT))", f"CAST({part} AS DECIMAL({_WORD_DIGITS}, {_WORD_DIGITS}))"
        return self._both(lambda lane: self._mix(lane, f"hash({self._mix(lane, whole, 'whole')}, {part})", "part"))

    def _first_of(self, *cases: tuple[str, Digest], otherwise: Digest) -> Digest:
        """The digest of the first case whose condition holds."""

        def lane_sql(lane: int) -> str:
            whens = " ".join(f"WHEN {condition} THEN {_lane(digest, lane)}" for condition, digest in cases)
            return f"CASE {whens} ELSE {_lane(otherwise, lane)} END"

        return self._both(lane_sql)

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


def _whole_and_part(sql: str, precision: int, scale: int) -> tuple[str, str]:
    """The integral part of a decimal and the rest, which has its sign."""
    if precision == scale:
        return "0", sql
    return f"trunc({sql})", f"({sql} % CAST(1 AS DECIMAL(1, 0)))"


def _is_dyadic(sql: str, scale: int) -> str:
    """Whether a decimal is a multiple of 2^-scale, as all doubles of so many decimal places are."""
    return f"{sql} % CAST('0.{5**scale:0{scale}}' AS DECIMAL({scale}, {scale})) = 0"


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
