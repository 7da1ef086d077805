"""Hive partition folders: their values, and the types that Spark infers for them.

The rules of inference were taken from what Spark 4.2 answers for single values and for mixtures of them. A value about
which the session's time zone, or the locale's digits, would decide makes its column unsupported.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import Claim, encode_bound, fold, type_class

NULL_TEXT = "__HIVE_DEFAULT_PARTITION__"

_EPOCH = datetime.date(1970, 1, 1)
_MAX_DECIMAL_DIGITS = 38
_INT_DIGITS, _LONG_DIGITS = 10, 20  # decimal digits that Spark reserves for INT and BIGINT when it widens
_BLANKS = "".join(map(chr, range(33)))  # what Java trims

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_JAVA_DOUBLE = re.compile(rf"(?:{_NUMBER.pattern})[fFdD]?|[+-]?(?:NaN|Infinity)")
_JAVA_HEX_DOUBLE = re.compile(r"[+-]?0[xX][0-9a-fA-F.]+[pP][+-]?[0-9]+[fFdD]?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[+-]?[0-9]+-[0-9]{1,2}-[0-9]{1,2} +[0-9]{1,2}:.*", re.DOTALL)


class _Kind(Enum):
    """What Spark takes one value for; UNSURE depends on the session."""

    NULL = "null"
    INT = "int"
    LONG = "long"
    DECIMAL = "decimal"
    DOUBLE = "double"
    DATE = "date"
    STRING = "string"
    UNSURE = "unsure"


def partition_values(relative_path: str) -> dict[str, str | None]:
    """Partition columns and their values from the folders of a file's path.

    Args:
        relative_path: The file's path below its table's folder, `/`-separated, as listed.

    Returns:
        Decoded names and values, outermost folder first; None is NULL. Empty without partition folders.

    Raises:
        TableFailed: If a column comes twice, a value is empty, or an escaped name or value is not UTF-8.
        TableUnsupported: If a value looks like a number or a date only once its escapes are decoded: readers disagree
            on its type.
    """
    values: dict[str, str | None] = {}
    for folder in relative_path.split("/")[:-1]:
        name, equals, raw = folder.partition("=")
        if not equals or not name:
            continue
        column = _decoded(name)
        if column in values:
            raise TableFailed(f"partition column {column!r} comes twice in one path", error="Partition")
        if not raw:
            raise TableFailed(f"a folder of partition column {column!r} has no value", error="Partition")
        values[column] = None if raw == NULL_TEXT else _value(raw, column)
    return values


def infer_partition_types(values_per_file: Sequence[Mapping[str, str | None]]) -> dict[str, pa.DataType]:
    """The type that Spark infers for each partition column over all files of a table.

    Args:
        values_per_file: Per file what `partition_values` returned.

    Returns:
        int32, int64, decimal128(p, 0), float64, date32, string, or null where every value is NULL.

    Raises:
        TableFailed: If the files do not all have the same partition columns in the same order.
        TableUnsupported: If a column may hold timestamps, whose instants depend on the session's time zone.
    """
    columns = {tuple(values) for values in values_per_file}
    if len(columns) > 1:
        raise TableFailed("the files do not have the same partition folders in the same order", error="Partition")
    names = next(iter(columns), ())
    return {name: _column_type(name, {values[name] for values in values_per_file}) for name in names}


def partition_scalar(text: str | None, dtype: pa.DataType) -> Any:
    """A partition value as a Python value of an inferred type; None stays None.

    Raises:
        TableFailed: If the text is no value of the type.
    """
    if text is None:
        return None
    t = pa.types
    try:
        if t.is_integer(dtype):
            return int(text)
        if t.is_decimal(dtype):
            return Decimal(int(Decimal(text)))
        if t.is_floating(dtype):
            return _double(text)
        if t.is_date(dtype):
            return datetime.date.fromisoformat(text)
    except (ValueError, ArithmeticError) as exc:
        raise TableFailed(f"a partition value is no {dtype}", error="Partition") from exc
    if t.is_string(dtype):
        return text
    raise TableFailed(f"partition columns of type {dtype} are not read", error="Partition")


def partition_bound(value: Any) -> bytes | None:
    """A typed partition value as the bound of a claim, low and high alike.

    Args:
        value: As `partition_scalar` returns it, or whatever `encode_bound` takes; None is NULL.
    """
    if isinstance(value, datetime.date):
        value = (value - _EPOCH) // datetime.timedelta(microseconds=1)
    return encode_bound(format(value, "f") if isinstance(value, Decimal) else value)


def kept_partitions(
    types: Mapping[str, pa.DataType],
    values: Sequence[Mapping[str, str | None]],
    columns: pa.Schema,
    claims: Sequence[Sequence[Claim]],
    rows: Sequence[int],
) -> dict[str, pa.DataType]:
    """The partition columns that are not in the files; one that is in them must be proved the same there.

    Args:
        types: From `infer_partition_types`.
        values: Per file what `partition_values` returned.
        columns: Of the files.
        claims: Per file.
        rows: Per file.

    Raises:
        TableFailed: If two partition columns differ only by case, or a column of the files has the name of one,
            whatever its case, and possibly other values.
    """
    in_files = {fold(name): name for name in columns.names}
    if len({fold(name) for name in types}) < len(types):
        raise TableFailed("two partition columns differ only by case", error="Partition")
    for name, dtype in types.items():
        twin = in_files.get(fold(name))
        if twin is not None and not _agree(columns.field(twin), dtype, [own[name] for own in values], claims, rows):
            raise TableFailed(
                f"partition column {name!r} is in the files too, and their metadata does not prove the same values",
                error="Partition",
            )
    return {name: dtype for name, dtype in types.items() if fold(name) not in in_files}


def _agree(
    column: pa.Field,
    dtype: pa.DataType,
    texts: Sequence[str | None],
    claims: Sequence[Sequence[Claim]],
    rows: Sequence[int],
) -> bool:
    """Whether the claims prove that a column of the files holds each file's partition value and nothing else."""
    if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
        return False
    if type_class(column.type) is not type_class(dtype):
        return False
    for text, own, count in zip(texts, claims, rows, strict=True):
        claim = next((claim for claim in own if claim.leaf == (column.name,)), None)
        if claim is None or not _is_constant(claim, count, partition_scalar(text, dtype)):
            return False
    return True


def _is_constant(claim: Claim, rows: int, value: Any) -> bool:
    """Whether a claim proves that each row holds the value."""
    if rows == 0:
        return True
    if value is None:
        return claim.nulls == rows
    bound = partition_bound(value)
    return bound is not None and claim.nulls == 0 and claim.low == bound and claim.high == bound


def _decoded(raw: str) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as exc:
        raise TableFailed("a partition folder's escaped name is not UTF-8", error="Partition") from exc


def _value(raw: str, column: str) -> str:
    """A decoded value; Spark infers its type from the text that still has the escapes."""
    value = _decoded(raw)
    if value != raw and (value == NULL_TEXT or _kind(value) is not _Kind.STRING):
        raise TableUnsupported(
            f"a value of partition column {column!r} is a number or time in escapes", error="Partition"
        )
    return value


def _column_type(name: str, values: set[str | None]) -> pa.DataType:
    kinds = {_kind(value) for value in values} - {_Kind.NULL}
    if not kinds:
        return pa.null()
    if _Kind.STRING in kinds:
        return pa.string()
    if _Kind.UNSURE in kinds:
        raise TableUnsupported(
            f"partition column {name!r} may hold timestamps or numbers that readers understand differently",
            error="Partition",
        )
    if kinds == {_Kind.DATE}:
        return pa.date32()
    if _Kind.DATE in kinds or (_Kind.DOUBLE in kinds and kinds & {_Kind.LONG, _Kind.DECIMAL}):
        return pa.string()
    if _Kind.DOUBLE in kinds:
        return pa.float64()
    if _Kind.DECIMAL in kinds:
        return pa.decimal128(max(_digits(value) for value in values if value is not None), 0)
    return pa.int64() if _Kind.LONG in kinds else pa.int32()


def _kind(value: str | None) -> _Kind:
    if value is None:
        return _Kind.NULL
    if _INTEGER.fullmatch(value) and _is_long(value):
        return _Kind.INT if -(2**31) <= int(value) < 2**31 else _Kind.LONG
    if _NUMBER.fullmatch(value) and 0 < _decimal_digits(value) <= _MAX_DECIMAL_DIGITS:
        return _Kind.DECIMAL
    if _JAVA_DOUBLE.fullmatch(value.strip(_BLANKS)):
        return _Kind.DOUBLE
    if _DATE.fullmatch(value):
        return _Kind.DATE if _is_date(value) else _Kind.STRING
    return _Kind.UNSURE if _is_unsure(value) else _Kind.STRING


def _is_long(value: str) -> bool:
    return len(value.lstrip("+-0")) < _LONG_DIGITS and -(2**63) <= int(value) < 2**63


def _decimal_digits(value: str) -> int:
    """Digits before the point of a number without a fraction in its notation; 0 for one with."""
    _, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int) or exponent > _MAX_DECIMAL_DIGITS:
        return _MAX_DECIMAL_DIGITS + 1
    significant = "".join(map(str, digits)).lstrip("0")
    return 0 if exponent < 0 else max(1, len(significant)) + exponent


def _digits(value: str) -> int:
    """Decimal digits that a value's own type has in Spark, for widening."""
    kind = _kind(value)
    return {_Kind.INT: _INT_DIGITS, _Kind.LONG: _LONG_DIGITS}.get(kind) or _decimal_digits(value)


def _is_date(value: str) -> bool:
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_unsure(value: str) -> bool:
    """Timestamps; hexadecimal floats; numbers in the digits of other scripts, which Java reads in part."""
    trimmed = value.strip(_BLANKS)
    if _TIMESTAMP.fullmatch(trimmed) or _JAVA_HEX_DOUBLE.fullmatch(trimmed):
        return True
    western = "".join(str(int(char)) if char.isdecimal() else char for char in trimmed)
    return western != trimmed and _JAVA_DOUBLE.fullmatch(western) is not None


def _double(text: str) -> float:
    number = text.strip(_BLANKS)
    return float(number if number.endswith(("N", "y")) else number.rstrip("fFdD"))
