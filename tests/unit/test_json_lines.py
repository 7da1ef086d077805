from __future__ import annotations

import gzip
import json
import math
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.text.table import TextOptions, harvest_text
from r2d2.model import Format, FoundTable, Harvest
from r2d2.scan.files import stamp

SCRATCH = tempfile.TemporaryDirectory(prefix="r2d2-test-")
OPTIONS = TextOptions(csv_delimiter=None, csv_types="infer")


def harvest(*files: bytes, name: str = "t.json") -> Harvest:
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    paths = [folder / "lake" / f"{n}-{name}" for n in range(len(files))]
    (folder / "lake").mkdir()
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    stamps = tuple(stamp(str(path)) for path in paths)
    found = FoundTable(table=0, id="t", format=Format.JSON, uri=str(folder / "lake"), files=stamps)
    return harvest_text(found, OPTIONS, str(folder / "work"))


def rows(found: Harvest) -> list[dict[str, Any]]:
    copies = [pq.read_table(fragment.data_uri) for fragment in found.fragments]
    assert all(copy.schema.remove_metadata() == found.schema for copy in copies)
    assert [copy.num_rows for copy in copies] == [fragment.rows for fragment in found.fragments]
    return [row for copy in copies for row in copy.to_pylist()]


def column(*values: str) -> tuple[pa.DataType, list[Any]]:
    found = harvest("".join(f'{{"c": {value}}}\n' for value in values).encode())
    return found.schema.field("c").type, [row["c"] for row in rows(found)]


# --- values come back -------------------------------------------------------------------------------------------------


def objects(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Objects with all, some or NULL members; never empty, so that a struct stays a struct."""
    first = next(iter(members))
    return st.fixed_dictionaries(
        {first: members[first]}, optional={name: st.none() | kind for name, kind in members.items() if name != first}
    )


text = st.text(max_size=5)
scalars = st.sampled_from([
    text,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
])  # fmt: skip
of_one_kind = st.recursive(
    scalars,
    lambda kinds: (
        kinds.map(lambda kind: st.lists(st.none() | kind, max_size=3))
        | st.dictionaries(text, kinds, min_size=1, max_size=3).map(objects)
    ),
    max_leaves=4,
)


tables = st.dictionaries(text, of_one_kind, min_size=1, max_size=3).flatmap(
    lambda kinds: st.lists(objects(kinds), min_size=1, max_size=6)
)


def same(value: Any, stored: Any) -> bool:
    """Whether a JSON value is what is stored: members that are missing are NULL, numbers compare by value."""
    if isinstance(value, dict):
        return isinstance(stored, dict) and set(value) <= set(stored) and all(
            same(value.get(name), member) for name, member in stored.items()
        )  # fmt: skip
    if isinstance(value, list):
        return isinstance(stored, list) and len(value) == len(stored) and all(map(same, value, stored))
    if isinstance(value, float) and isinstance(stored, float):
        return value == stored and math.copysign(1, value) == math.copysign(1, stored)
    return value == stored and isinstance(value, bool) == isinstance(stored, bool)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(table=tables, ascii_only=st.booleans(), line_end=st.sampled_from(["\n", "\r\n", "\n\n", " \n\t\n"]))
def test_values_come_back(table: list[dict[str, Any]], ascii_only: bool, line_end: str) -> None:
    data = line_end.join(json.dumps(row, ensure_ascii=ascii_only) for row in table)
    found = harvest(data.encode())
    stored = rows(found)
    assert len(stored) == len(table)
    assert all(map(same, table, stored))
    assert found.schema.names == list(dict.fromkeys(name for row in table for name in row))


def test_many_batches() -> None:
    lines = [{"a": n, "s": "é" * (n % 7), "d": n / 4 if n % 3 else n} for n in range(25_000)]
    assert rows(harvest("".join(json.dumps(line) + "\n" for line in lines).encode())) == lines


def test_files_may_be_compressed_and_begin_with_a_byte_order_mark() -> None:
    assert rows(harvest(gzip.compress(b'\xef\xbb\xbf{"a": 1}\n'), name="t.json.gz")) == [{"a": 1}]


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        (["1", "-9223372036854775808", "null"], pa.int64(), [1, -(2**63), None]),
        (["9223372036854775808", "-1"], pa.decimal128(19, 0), [Decimal(2**63), Decimal(-1)]),
        (["-" + "9" * 38], pa.decimal128(38, 0), [Decimal("-" + "9" * 38)]),
        (["1.0", "2", "1e3", "-0.0"], pa.float64(), [1.0, 2.0, 1000.0, -0.0]),
        (["0.5", str(2**60)], pa.float64(), [0.5, float(2**60)]),
        (['"1"', '"2020-01-01"', '"true"', '""'], pa.string(), ["1", "2020-01-01", "true", ""]),
        (["null", "null"], pa.string(), [None, None]),
        (["[]", "[null]"], pa.list_(pa.string()), [[], [None]]),
        (["[1]", "[2.5]"], pa.list_(pa.float64()), [[1.0], [2.5]]),
        (['{"x": 1}', "{}", "null"], pa.struct([("x", pa.int64())]), [{"x": 1}, {"x": None}, None]),
    ],
)
def test_types_are_those_of_json(values: list[str], dtype: pa.DataType, stored: list[Any]) -> None:
    assert column(*values) == (dtype, stored)


def test_columns_stand_in_order_of_first_appearance_over_the_files() -> None:
    found = harvest(b'{"b": 1}\n', b'{"a": null, "b": 2.5, "B": [{"x": 1}]}\n{"c": true}\n')
    assert found.schema == pa.schema([
        ("b", pa.float64()), ("a", pa.string()), ("B", pa.list_(pa.struct([("x", pa.int64())]))), ("c", pa.bool_())
    ])  # fmt: skip
    assert rows(found)[0] == {"b": 1.0, "a": None, "B": None, "c": None}


def test_json_is_no_parent_and_has_claims() -> None:
    found = harvest(b'{"a": {"x": 3}}\n{"a": {"x": 5}}\n{}\n')
    assert "JSON" in (found.no_parent_reason or "")
    assert [(c.leaf, c.nulls, c.low, c.high) for c in found.claims] == [(("a", "x"), 1, b"3", b"5")]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([b""], "no column"),
        ([b"\n \n"], "no column"),
        ([b"{}\n{}\n"], "no column"),
        ([b'{"a": 1}\n{"a": 1} {"a": 2}\n'], "line 2 .*not one JSON object"),
        ([b'{"a": 1}\n{"a": "secret'], "line 2 .*not one JSON object"),
        ([b'{"a": "secret"}\n1\n'], "line 2 .*not one JSON object"),
        ([b'{"a": "tab\there"}\n'], "not one JSON object"),
        ([b'{"a": 01}\n'], "not one JSON object"),
        ([b'{"a": NaN}\n'], "NaN or Infinity"),
        ([b'{"a": [-Infinity]}\n'], "NaN or Infinity"),
        ([b'{"a": 1, "a": 1}\n'], "repeats a key"),
        ([b'{"a": [{"b": 1, "b": 2}]}\n'], "repeats a key"),
        ([b'{"a": "secret\xff"}\n'], "not UTF-8"),
        ([b'{"a": "secret\\ud800"}\n'], "surrogate"),
        ([b'{"\\uDC00": 1}\n'], "surrogate"),
        ([b'{"a": {"b": [1, "secret"]}}\n'], r'column \["a","b","\[\]"\].*number and string'),
        ([b'{"a": 1}\n', b'{"a": true}\n'], r'column \["a"\].*boolean and number'),
        ([b'{"a": [1]}\n{"a": {"x": 1}}\n'], "array and object"),
        ([b'{"a": 1, "b": 1}\n', b'{"a": 1, "c": 1}\n'], "folder's widest file lacks"),
    ],
)
def test_damaged_tables_fail_without_showing_values(files: Sequence[bytes], message: str) -> None:
    with pytest.raises(TableFailed, match=message) as caught:
        harvest(*files)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1" + "0" * 38, "38 digits"),
        ("1" * 5_000, "38 digits"),
        ("1e400", "range of doubles"),
        ("{}", "empty objects"),
        ("[[{}]]", "empty objects"),
        (f"[0.5, {2**53 + 1}]", "no double equals"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ("[" * 200_000 + "]" * 200_000, "nested deeper"),
        ('{"x":' * 200_000 + "1" + "}" * 200_000, "nested deeper"),
    ],
)
def test_what_no_column_type_holds_is_unsupported(value: str, message: str) -> None:
    with pytest.raises(TableUnsupported, match=message):
        harvest(b'{"c": %s}\n' % value.encode())


def test_the_depth_limit_is_exact() -> None:
    found = harvest(b'{"c": ' + b"[" * 31 + b"1" + b"]" * 31 + b"}\n")
    assert found.rows == 1
    assert "list" in str(found.schema.field("c").type)


@pytest.mark.parametrize("content", [b'[{"a": 1},\n{"a": 2}]\n', b'[{"a": 1}]', b'\n{\n  "a": 1\n}\n'])
def test_documents_are_unsupported(content: bytes) -> None:
    with pytest.raises(TableUnsupported, match="only JSON lines are read"):
        harvest(content)
