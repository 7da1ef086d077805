"""JSON lines: exact types over a whole table, in two passes of Python's parser.

The first pass walks every value to find the columns' types, the second builds Arrow batches of exactly these types.
Both hold one batch of rows. Together they read about 6 MB of text per second and core; readers that sniff are faster
and change values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

import pyarrow as pa

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.text.files import Snapshot, write_parquet
from r2d2.model import LeafPath, leaf_key

NO_PARENT_REASON = "JSON lines are not used to rebuild other tables yet"

_BATCH_ROWS = 10_000
_BATCH_BYTES = 16 << 20
_MAX_LINE_BYTES = 64 << 20
_MAX_DEPTH = 32
_TOO_LARGE = 10**38
_INFINITIES = (float("inf"), float("-inf"))
_INT64 = range(-(1 << 63), 1 << 63)
_ELEMENT = "[]"


@dataclass(kw_only=True)
class Shape:
    """What has been seen at one place of the rows.

    Attributes:
        classes: Names of JSON classes seen there (`string`, `number`, `boolean`, `object`, `array`), null apart.
        low, high: Least and greatest integer.
        has_double: Whether a number with point or exponent was seen.
        inexact: Whether an integer was seen that no double equals.
        fields: Shapes of an object's members, in order of first appearance.
        element: Shape of an array's elements.
    """

    classes: set[str] = field(default_factory=set)
    low: int = 0
    high: int = 0
    has_double: bool = False
    inexact: bool = False
    fields: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None


def observe_lines(snapshot: Snapshot, shape: Shape) -> tuple[int, set[str]]:
    """First pass: add the rows of a file to a table's shape.

    Args:
        snapshot: The file.
        shape: Of the table's rows; grows.

    Returns:
        Rows, and the keys of the rows' objects.

    Raises:
        TableFailed: If the file is not one JSON object per line, an object repeats a key, a value is not JSON (NaN), a
            string has half a surrogate pair, or no row has a key.
        TableUnsupported: For an array or a pretty-printed object, numbers beyond 38 digits or the range of doubles,
            lines longer than 64 MiB, nesting deeper than 32.
    """
    rows = 0
    keys: set[str] = set()
    for row in _checked_rows(snapshot):
        rows += 1
        keys.update(row)
        _observe(shape, row, 0)
    if not keys:
        raise TableFailed("a JSON file has no row with a key: it has no column", error="NoColumns")
    return rows, keys


def shape_schema(shape: Shape) -> pa.Schema:
    """The columns of a table of that shape.

    Raises:
        TableFailed: If a column has values of several classes.
        TableUnsupported: If objects are always empty, or integers that no double equals stand beside doubles.
    """
    return pa.schema([(name, _dtype(child, (name,))) for name, child in shape.fields.items()])


def write_json_copy(snapshot: Snapshot, shape: Shape, schema: pa.Schema, uri: str) -> int:
    """Second pass: write the typed Parquet copy of one file.

    Args:
        snapshot: The file.
        shape: Of the table.
        schema: From `shape_schema`.
        uri: Where the copy goes.

    Returns:
        Rows written.
    """
    return write_parquet(_record_batches(snapshot, shape, schema), schema, uri)


def _record_batches(snapshot: Snapshot, shape: Shape, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    widens = _widens(shape)
    dtype = pa.struct(list(schema))
    for rows in _batches(snapshot):
        values = [_widened(row, shape) for row in rows] if widens else rows
        yield pa.RecordBatch.from_struct_array(pa.array(values, type=dtype))


def _batches(snapshot: Snapshot) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists bounded by number; long lines make short lists."""
    rows = _rows(snapshot)
    average = max(1, snapshot.size // max(1, snapshot.line_feeds))
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // average))
    while batch := list(islice(rows, size)):
        yield batch


# --- parsing ----------------------------------------------------------------------------------------------------------


def _checked_rows(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Rows with all checks that need the text."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
    for place, (number, text) in enumerate(_lines(snapshot)):
        if place == 0 and (text.startswith("[") or text == "{"):
            raise TableUnsupported("it is one JSON document; only JSON lines are read", error="JsonDocument")
        row = _row(decoder, text, number)
        if "\\u" in text:
            _check_surrogates(row)
        yield row


def _rows(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Rows that the first pass has checked."""
    decoder = json.JSONDecoder()
    return (_row(decoder, text, number) for number, text in _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    number = 0
    with open(snapshot.path, "rb") as file:
        while line := file.readline(_MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > _MAX_LINE_BYTES:
                raise TableUnsupported("a line of a JSON file is longer than 64 MiB", error="LongLine")
            if text := line.decode().strip(" \t\r\n"):
                yield number, text


def _row(decoder: json.JSONDecoder, text: str, number: int) -> dict[str, Any]:
    try:
        row = decoder.decode(text)
    except RecursionError as exc:
        raise _too_deep() from exc
    except json.JSONDecodeError as exc:
        raise _not_lines(number) from exc
    except ValueError as exc:  # more digits than Python converts
        raise _too_long_integer() from exc
    if not isinstance(row, dict):
        raise _not_lines(number)
    return row


def _not_lines(number: int) -> TableFailed:
    return TableFailed(
        f"line {number} of a JSON file is not one JSON object, as JSON lines need it", error="NotJsonLines"
    )


def _too_deep() -> TableUnsupported:
    return TableUnsupported(f"JSON values nested deeper than {_MAX_DEPTH} are not supported", error="Depth")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise TableFailed("an object of a JSON file repeats a key", error="DuplicateKey")
    return members


def _too_long_integer() -> TableUnsupported:
    return TableUnsupported("integers of more than 38 digits are not supported", error="BigInteger")


def _constant(_: str) -> NoReturn:
    raise TableFailed("a JSON file contains NaN or Infinity, which JSON does not have", error="NotJson")


def _check_surrogates(row: dict[str, Any]) -> None:
    """Escapes can write half a surrogate pair, which is no text."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise TableFailed("a string of a JSON file has half a surrogate pair", error="Surrogate") from exc
    except RecursionError as exc:
        raise _too_deep() from exc


# --- types ------------------------------------------------------------------------------------------------------------


def _observe(shape: Shape, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        shape.classes.add("string")
    elif kind is int:
        _observe_integer(shape, value)
    elif kind is float:
        _observe_double(shape, value)
    elif kind is bool:
        shape.classes.add("boolean")
    elif value is not None:
        _observe_nested(shape, value, depth)


def _observe_nested(shape: Shape, value: dict[str, Any] | list[Any], depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        shape.classes.add("object")
        fields = shape.fields
        for name, member in value.items():
            if name not in fields:
                fields[name] = Shape()
            _observe(fields[name], member, depth + 1)
    else:
        shape.classes.add("array")
        shape.element = shape.element or Shape()
        for element in value:
            _observe(shape.element, element, depth + 1)


def _observe_double(shape: Shape, value: float) -> None:
    if value in _INFINITIES:
        raise TableUnsupported("numbers beyond the range of doubles are not supported", error="BigNumber")
    shape.classes.add("number")
    shape.has_double = True


def _observe_integer(shape: Shape, value: int) -> None:
    if not -_TOO_LARGE < value < _TOO_LARGE:
        raise _too_long_integer()
    shape.classes.add("number")
    shape.low, shape.high = min(shape.low, value), max(shape.high, value)
    shape.inexact = shape.inexact or float(value) != value


def _dtype(shape: Shape, path: LeafPath) -> pa.DataType:
    if len(shape.classes) > 1:
        kinds = " and ".join(sorted(shape.classes))
        raise TableFailed(f"column {leaf_key(path)} holds values of several types: {kinds}", error="MixedTypes")
    kind = next(iter(shape.classes), "string")
    if kind == "object":
        return _struct(shape, path)
    if kind == "array":
        return pa.list_(_dtype(shape.element or Shape(), (*path, _ELEMENT)))
    if kind == "number":
        return _number(shape, path)
    return pa.bool_() if kind == "boolean" else pa.string()


def _struct(shape: Shape, path: LeafPath) -> pa.DataType:
    if not shape.fields:
        raise TableUnsupported(f"column {leaf_key(path)} holds only empty objects", error="EmptyObject")
    return pa.struct([(name, _dtype(child, (*path, name))) for name, child in shape.fields.items()])


def _number(shape: Shape, path: LeafPath) -> pa.DataType:
    if shape.has_double and shape.inexact:
        raise TableUnsupported(
            f"column {leaf_key(path)} holds doubles, and integers that no double equals", error="MixedNumbers"
        )
    if shape.has_double:
        return pa.float64()
    if shape.low in _INT64 and shape.high in _INT64:
        return pa.int64()
    return pa.decimal128(max(len(str(abs(shape.low))), len(str(shape.high))), 0)


# --- integers in columns of doubles -----------------------------------------------------------------------------------


def _widens(shape: Shape) -> bool:
    """Whether a column of doubles is somewhere, which may hold integers that pyarrow would refuse."""
    below = [*shape.fields.values(), *([shape.element] if shape.element else [])]
    return shape.has_double or any(_widens(child) for child in below)


def _widened(value: Any, shape: Shape) -> Any:
    """The value with doubles for the integers of columns of doubles."""
    if isinstance(value, dict):
        return {name: _widened(member, shape.fields[name]) for name, member in value.items()}
    if isinstance(value, list) and shape.element is not None:
        return [_widened(element, shape.element) for element in value]
    if shape.has_double and isinstance(value, int):
        return float(value)
    return value
