"""Row identity: SQL for DuckDB that turns a row into a 128-bit fingerprint, equal for equal rows.

A leaf value becomes a *digest*, two 64-bit lanes, so that values that collide in one lane do not collide in the other.
Digests know neither the column's name nor its position. A row fingerprint combines the digests of an ordered list of
leaves: many column subsets of one scan share the work on the values.

Most values have a *word* of 64 bits that tells all values of their kind apart; each lane mixes it with a secret
constant of the kind. Texts have two words, hashes of different bytes.

What equals what is the contract's *Values*. A number is hashed in the first of these forms that holds it exactly, so
that the source type does not matter: a double; a 64-bit integer; a short decimal, whose nearest double is no other's; a
64-bit integer and a rest of 18 digits; its plain decimal text. NULL has one digest, without a type class.
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
HASH_VERSION = f"4+duckdb{DUCKDB_VERSION}"
"""Names everything that decides a fingerprint, the keys apart. DuckDB's `hash()` is not stable across its versions."""

_MAX_DAYS = 106_751_990
_DAY_MICROSECONDS = 86_400_000_000
_WITHIN_32_BITS = frozenset(["tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger"])
_EXACT_INTEGER = 1 << 53
"""A double holds every integer up to this."""
_WORD_DIGITS = 18
"""Digits of a decimal that DuckDB keeps in a 64-bit word, whose `hash` is that of the word."""
_EXACT_DIGITS = 15
"""Decimals of so many digits have different doubles next to them, and integers of so many are doubles."""
_SHORT = ((13, 2), (9, 6))
"""Digits before and behind the point of short decimals, at most; together they are _EXACT_DIGITS."""


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


Kind = tuple[str, str]
"""A condition in SQL, and the label of the values for which it holds."""


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
        return self._both(lambda lane: self._mixed("hash(NULL)", self._constant(lane, "null")))

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
            return self._unless_null(sql, self._struct(sql, duckdb_type, dtype, depth))
        kind = type_class(dtype)
        if kind is TypeClass.NULL:
            return self.missing()
        if kind is TypeClass.NUMBER:
            return self._number(sql, duckdb_type)
        if kind is TypeClass.BOOLEAN:
            return self._word(sql, f"hash({sql})", "boolean")
        if kind in (TypeClass.WALL_CLOCK, TypeClass.INSTANT):
            return self._time(sql, duckdb_type, TypeClass.INSTANT if self.utc else kind)
        if kind is TypeClass.STRING:
            return self._bytes(sql, f"CAST({sql} AS VARCHAR)", "string")
        if kind is TypeClass.BINARY:
            return self._bytes(sql, f"CAST({sql} AS BLOB)", "binary")
        if kind is TypeClass.ARRAY:
            return self._unless_null(sql, self._array(sql, _list_child(duckdb_type), dtype.value_type, depth))
        return self._unless_null(sql, self._map(sql, duckdb_type, dtype, depth))

    def _unless_null(self, sql: str, digest: Digest) -> Digest:
        return self._first_of((f"{sql} IS NULL", self.missing()), otherwise=digest)

    def _first_of(self, *cases: tuple[str, Digest], otherwise: Digest) -> Digest:
        """The digest of the first case whose condition holds."""

        def lane_sql(lane: int) -> str:
            whens = " ".join(f"WHEN {condition} THEN {_lane(digest, lane)}" for condition, digest in cases)
            return f"CASE {whens} ELSE {_lane(otherwise, lane)} END"

        return self._both(lane_sql)

    def _number(self, sql: str, duckdb_type: Any) -> Digest:
        if duckdb_type.id in ("double", "float") or duckdb_type.id in _WITHIN_32_BITS:
            return self._double(sql, f"CAST({sql} AS DOUBLE)")
        if duckdb_type.id == "bigint":
            return self._integer(sql)
        if duckdb_type.id == "decimal":
            return self._decimal(sql, *(size for _, size in duckdb_type.children))
        return self._large_integer(sql)

    def _double(self, sql: str, double: str, *kinds: Kind) -> Digest:
        """Digest of a double, on which `hash` tells all apart but the zeros, and the NaNs, from one another."""
        return self._word(sql, f"hash({double})", "number", *kinds)

    def _integer(self, sql: str) -> Digest:
        """Digest of an integer of 64 bits, with a sign."""
        double = f"CAST({sql} AS DOUBLE)"
        misses = (
            f"({sql} NOT BETWEEN {-_EXACT_INTEGER} AND {_EXACT_INTEGER} "
            f"AND coalesce(TRY_CAST({double} AS BIGINT), ~{sql}) <> {sql})"
        )
        word = f"CASE WHEN {misses} THEN hash({sql}) ELSE hash({double}) END"
        return self._word(sql, word, "number", (misses, "integer"))

    def _large_integer(self, sql: str) -> Digest:
        """Digest of an integer that may have more bits."""
        integer = f"CAST({sql} AS HUGEINT)"
        double = _huge_as_double(integer)
        return self._first_of(
            (f"{sql} IS NULL", self.missing()),
            (f"{sql} BETWEEN {-_EXACT_INTEGER} AND {_EXACT_INTEGER}", self._double(sql, f"CAST({sql} AS DOUBLE)")),
            (f"TRY_CAST({double} AS HUGEINT) = {integer}", self._double(sql, double)),
            (f"TRY_CAST({sql} AS BIGINT) IS NOT NULL", self._word(sql, f"hash(TRY_CAST({sql} AS BIGINT))", "integer")),
            otherwise=self._bytes(sql, f"CAST({sql} AS VARCHAR)", "number"),
        )

    def _decimal(self, sql: str, precision: int, scale: int) -> Digest:
        if scale == 0 and precision <= _EXACT_DIGITS:
            return self._double(sql, f"CAST({sql} AS DOUBLE)")
        if scale == 0:
            return self._integer(f"CAST({sql} AS BIGINT)") if precision <= _WORD_DIGITS else self._large_integer(sql)
        if precision <= _WORD_DIGITS:
            return self._word_decimal(sql, precision, scale)
        wide = self._wide_decimal(sql, precision, scale)
        if scale < _WORD_DIGITS:
            fits = _is_below(sql, _WORD_DIGITS - scale, precision, scale)
            word = self._word_decimal(f"CAST({sql} AS DECIMAL({_WORD_DIGITS}, {scale}))", _WORD_DIGITS, scale)
            wide = self._first_of((fits, word), otherwise=wide)
        return self._unless_null(sql, wide)

    def _word_decimal(self, sql: str, precision: int, scale: int) -> Digest:
        """Digest of a decimal whose digits fit into 64 bits, on which DuckDB computes fast."""
        short = self._short_decimals(sql, precision, scale)
        for condition, digest in short:
            if not condition:
                return digest
        long = self._long_decimal(sql, precision, scale)
        return self._first_of((f"{sql} IS NULL", self.missing()), *short, otherwise=long)

    def _short_decimals(self, sql: str, precision: int, scale: int) -> list[tuple[str, Digest]]:
        """When a decimal is short, and its digest then: its double, which is nearest to it or the number itself."""
        found = []
        for digits, most in _SHORT:
            conditions = [_is_below(sql, digits, precision, scale)] if precision - scale > digits else []
            conditions += [_is_multiple(sql, most)] if scale > most else []
            places = min(scale, most)
            is_narrow = precision <= _EXACT_DIGITS and places == scale
            narrow = sql if is_narrow else f"CAST({sql} AS DECIMAL({_EXACT_DIGITS}, {places}))"
            kind = (f"NOT {_is_dyadic(narrow, places)}", "short")
            found.append((" AND ".join(conditions), self._double(sql, f"CAST({narrow} AS DOUBLE)", kind)))
        return found

    def _long_decimal(self, sql: str, precision: int, scale: int) -> Digest:
        """Digest of a decimal of _WORD_DIGITS that is not short."""
        whole, part = _whole_and_part(sql, precision, scale)
        dyadic = _is_dyadic(sql, scale)
        double = f"CAST({sql} AS DOUBLE)"
        if precision > _EXACT_DIGITS:  # a double may still miss it
            scaled = f"CAST(CAST({sql} AS DECIMAL(38, {scale})) * {2**scale} AS BIGINT)"
            double = f"CAST({scaled} AS DOUBLE)"
            dyadic += f" AND TRY_CAST({double} AS BIGINT) = {scaled}"
            double = f"({double} / {float(2**scale)!r})"
        return self._first_of(
            (f"{part} = 0", self._integer(f"CAST({sql} AS BIGINT)")),
            (dyadic, self._double(sql, double)),
            otherwise=self._whole_and_part(whole, part),
        )

    def _wide_decimal(self, sql: str, precision: int, scale: int) -> Digest:
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
            *((condition or "true", digest) for condition, digest in self._short_decimals(sql, precision, scale)),
            (f"{part} = 0 AND {fits}", self._integer(f"CAST({whole} AS BIGINT)")),
            (dyadic, self._double(sql, f"({double} / {float(2**scale)!r})")),
            (
                f"{fits} AND {has_18_digits}" if scale > _WORD_DIGITS else fits,
                self._whole_and_part(whole, part),
            ),
            otherwise=self._bytes(sql, f"rtrim(rtrim({point}, '0'), '.')", "number"),
        )

    def _whole_and_part(self, whole: str, part: str) -> Digest:
        """Digest of a number from its integral part, of 64 bits, and the rest, of at most 18 digits."""
        whole, part = f"hash(CAST({whole} AS BIGINT))", f"hash(CAST({part} AS DECIMAL({_WORD_DIGITS}, {_WORD_DIGITS})))"
        return self._both(lambda lane: self._mix(lane, f"hash({self._mix(lane, whole, 'whole')}, {part})", "part"))

    def _time(self, sql: str, duckdb_type: Any, kind: TypeClass) -> Digest:
        label = kind.value
        if duckdb_type.id == "date":
            days = f"({sql} - DATE '1970-01-01')"
            fits = f"{days} BETWEEN {-_MAX_DAYS} AND {_MAX_DAYS}"
            word = f"CASE WHEN {fits} THEN hash({days} * {_DAY_MICROSECONDS}) ELSE hash({days}) END"
            return self._word(sql, word, label, (f"NOT {fits}", f"{label} days"))
        if duckdb_type.id == "timestamptz_ns":  # the kernel's clock is UTC
            return self._time(f"CAST({sql} AS TIMESTAMP_NS)", duckdb.sqltype("TIMESTAMP_NS"), kind)
        whole = f"hash(epoch_us({sql}))"
        kinds = [(f"NOT isfinite({sql})", f"{label} infinite")]
        if duckdb_type.id == "timestamp_ns":
            is_fine = f"epoch_ns({sql}) % 1000 <> 0"
            whole = f"CASE WHEN {is_fine} THEN hash(epoch_ns({sql})) ELSE {whole} END"
            kinds.append((is_fine, f"{label} ns"))
        word = f"CASE WHEN isfinite({sql}) THEN {whole} ELSE hash(CAST({sql} AS VARCHAR)) END"
        return self._word(sql, word, label, *kinds)

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

    def _word(self, sql: str, word: str, label: str, *kinds: Kind) -> Digest:
        """Digest of a value from its word.

        Args:
            sql: The value; where it is NULL, the word has to be `hash(NULL)`.
            word: Tells all values of one kind apart.
            label: Of the values of no other kind.
            kinds: Others, which may share words with them.
        """
        return self._both(lambda lane: self._of_word(lane, sql, word, label, *kinds))

    def _of_word(self, lane: int, sql: str, word: str, label: str, *kinds: Kind) -> str:
        # DuckDB computes an expression that is not inside a CASE once for both lanes.
        whens = "".join(f" WHEN {condition} THEN {self._constant(lane, kind)}" for condition, kind in kinds)
        null, other = self._constant(lane, "null"), self._constant(lane, label)
        return self._mixed(word, f"CASE WHEN {sql} IS NULL THEN {null}{whens} ELSE {other} END")

    def _bytes(self, sql: str, text: str, label: str) -> Digest:
        """Digest of a byte string: the second lane hashes it behind a salt, so that other bytes stand together."""
        salted = f"hash({self._salt(label)} || {text})"
        return Digest(first=self._of_word(0, sql, f"hash({text})", label), second=self._of_word(1, sql, salted, label))

    def _salt(self, label: str) -> str:
        text = self._bits(1, "salt").to_bytes(8, "big").hex()[:3]
        return f"'{text}'::BLOB" if label == "binary" else f"'{text}'"

    def _mix(self, lane: int, word: str, label: str) -> str:
        return self._mixed(word, self._constant(lane, label))

    def _mixed(self, word: str, constant: str) -> str:
        return f"hash(xor({word}, {constant}))"

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


def _is_below(sql: str, digits: int, precision: int, scale: int) -> str:
    """Whether a decimal has at most so many digits before the point; its type has more."""
    bound = f"CAST('{10**digits}' AS DECIMAL({precision}, {scale}))"
    return f"({sql} > -{bound} AND {sql} < {bound})"


def _is_multiple(sql: str, scale: int) -> str:
    """Whether a decimal has at most so many digits behind the point."""
    return f"({sql} % CAST('0.{1:0{scale}}' AS DECIMAL({scale}, {scale})) = 0)"


def _is_dyadic(sql: str, scale: int) -> str:
    """Whether a decimal is a multiple of 2^-scale, as all doubles of so many decimal places are."""
    return f"({sql} % CAST('0.{5**scale:0{scale}}' AS DECIMAL({scale}, {scale})) = 0)"


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
