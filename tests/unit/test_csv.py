from __future__ import annotations

import csv
import datetime
import gzip
import io
import re
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableChanged, TableFailed, TableUnsupported
from r2d2.lake.text.csv import CsvTable, read_csv_table, spark_header, write_csv_copy
from r2d2.lake.text.table import TextOptions, harvest_text
from r2d2.model import Format, FoundTable
from r2d2.scan.files import stamp

SCRATCH = tempfile.TemporaryDirectory(prefix="r2d2-test-")

few = settings(max_examples=60, deadline=None, derandomize=True)

nasty = st.text(alphabet=list('ab"\n\r,;\t \\\0\u00e9\u2028\ufeff\U0001f600'), max_size=6)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.none() | nasty, min_size=width, max_size=width), max_size=8)
)


def read(data: bytes | Sequence[bytes], *, name: str = "t.csv", delimiter: str = ",", infer: bool = True) -> CsvTable:
    """The table of these files, its copies written; rows are checked by the callers through `rows`."""
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    stamps = []
    for n, content in enumerate([data] if isinstance(data, bytes) else data):
        path = folder / f"{n}-{name}"
        path.write_bytes(content)
        stamps.append(stamp(str(path)))
    return read_csv_table(stamps, delimiter, infer=infer, scratch=tempfile.mkdtemp(dir=SCRATCH.name))


def rows(table: CsvTable) -> list[tuple[Any, ...]]:
    """All rows of the typed copies."""
    found: list[tuple[Any, ...]] = []
    for file in table.files:
        uri = file.path + ".copy"
        assert write_csv_copy(table, file, uri) == file.rows
        copy = pq.read_table(uri)
        assert copy.schema.remove_metadata() == table.schema
        found += list(zip(*(column.to_pylist() for column in copy.columns), strict=True))
    return found


def column_type(*texts: str | None) -> pa.DataType:
    lines = "".join(f"{'' if text is None else text},x\n" for text in texts)
    return read(f"c,end\n{lines}".encode()).schema.field("c").type


def quoted(field: str | None, *, always: bool) -> str:
    if field is None:
        return ""
    needs_quotes = always or field == "" or any(character in field for character in '",;\t\n\r')
    return '"' + field.replace('"', '""') + '"' if needs_quotes else field


# --- rows -------------------------------------------------------------------------------------------------------------


@few
@given(
    table=tables,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    always=st.booleans(),
    last=st.booleans(),
    delimiter=st.sampled_from(",;\t"),
)
def test_fields_come_back_as_pythons_csv_reader_sees_them(
    table: list[list[str | None]], line_end: str, always: bool, last: bool, delimiter: str
) -> None:
    width = len(table[0]) if table else 2
    header = delimiter.join(f"h{index}" for index in range(width))
    lines = [header, *(delimiter.join(quoted(field, always=always) for field in row) for row in table)]
    text = line_end.join(lines) + (line_end if last else "")
    oracle = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row][1:]
    found = rows(read(text.encode(), delimiter=delimiter, infer=False))
    assert [["" if value is None else value for value in row] for row in found] == oracle
    assert found == [tuple(row) for row in table if row != [None]]  # a lone empty field is a blank line


@few
@given(text=st.text(alphabet=list('a",\n'), max_size=14))
def test_text_that_pythons_strict_reader_refuses_fails(text: str) -> None:
    data = "x,y\n" + text
    try:
        oracle = [row for row in csv.reader(io.StringIO(data, newline=""), strict=True) if row]
    except csv.Error:
        oracle = [[]]
    if {len(row) for row in oracle} == {2}:
        found = rows(read(data.encode(), infer=False))
        assert [["" if value is None else value for value in row] for row in found] == oracle[1:]
    else:
        with pytest.raises(TableFailed, match="quoting rules"):
            read(data.encode())


def test_rows_longer_than_a_block_and_many_blocks() -> None:
    long = 'x,"\n' * 1_200_000
    many = [("é" * (index % 50), f"{index}\n") for index in range(120_000)]
    text = "a,b\n" + f"{quoted(long, always=True)},1\n" + "".join(f'{a},"{b}"\n' for a, b in many)
    found = rows(read(text.encode(), infer=False))
    assert found[0] == (long, "1")
    assert found[1:] == [(a or None, b) for a, b in many]


@pytest.mark.parametrize("text", ["a\n\n1\n\r\n\n2\n\n", "\r\n\na\n1\n2", "\ufeffa\n1\n2\n", '\ufeff"a"\n1\n2\n'])
def test_blank_lines_and_a_byte_order_mark_are_skipped(text: str) -> None:
    table = read(text.encode())
    assert table.schema.names == ["a"]
    assert rows(table) == [(1,), (2,)]


@pytest.mark.parametrize("text", ["a,b", "a,b\n", '"a","b"\r\n\r\n'])
def test_a_header_alone_is_a_table_without_rows(text: str) -> None:
    table = read(text.encode())
    assert table.schema == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert rows(table) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column"),
        (b"\n\r\n", "no column"),
        (b"\xef\xbb\xbf", "no column"),
        (b"a,b\n1\n", "row 1 .*not as wide"),
        (b"a,b\n1,2\n1,2,\n", "row 2 .*not as wide"),
        (b'a,b\n1,2\n1,"x', "row 2 .*quoting"),
        (b'a,"b\n1,2\n', "header .*quoting"),
        (b'a,b\n"x"y,2\n', "quoting"),
        (b"a\nsecret\xff\n", "not UTF-8"),
        (b"a\nsecret\xc3", "not UTF-8"),
        ("a\n1\n".encode("utf-16"), "not UTF-8"),
        (b"a,a,a0\n1,2,3\n", "repeats a name"),
    ],
)
def test_damaged_files_fail_without_showing_values(data: bytes, message: str) -> None:
    with pytest.raises(TableFailed, match=message) as caught:
        read(data)
    assert "secret" not in str(caught.value)


def test_a_byte_order_mark_that_begins_a_value_is_kept() -> None:
    for line_end in ("\n", "\r\n", "\r", "\n\n"):
        table = read(line_end.join(["a,b", "\ufeffx,1", "\ufeffy,2"]).encode())
        assert rows(table) == [("\ufeffx", 1), ("\ufeffy", 2)]


def test_a_delimiter_beyond_ascii_is_unsupported() -> None:
    with pytest.raises(TableUnsupported, match="ASCII"):
        read("a§b\n".encode(), delimiter="§")


def test_a_file_that_changed_since_it_was_pinned_fails(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a\n1\n")
    pinned = stamp(str(path))
    path.write_bytes(b"a\n1\n2\n")
    with pytest.raises(TableChanged, match="changed"):
        read_csv_table([pinned], ",", infer=True, scratch=str(tmp_path))


# --- compression ------------------------------------------------------------------------------------------------------

PLAIN = b"a,b\n" + b"".join(b"%d,x%d\n" % (n, n * n) for n in range(5_000))
HALVES = PLAIN[:20_000], PLAIN[20_000:]
PACKERS = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_read_like_plain_ones_also_in_several_members(ending: str) -> None:
    expected = rows(read(PLAIN))
    for data in (PACKERS[ending](PLAIN), b"".join(PACKERS[ending](half) for half in HALVES)):
        assert rows(read(data, name=f"t.csv.{ending}")) == expected


@pytest.mark.parametrize("ending", PACKERS)
def test_damaged_streams_fail(ending: str) -> None:
    packed = PACKERS[ending](PLAIN)
    cuts = [packed[:size] for size in (1, 5, len(packed) // 2, len(packed) - 1)]
    flipped = [packed[:-3] + bytes([packed[-3] ^ 1]) + packed[-2:]]
    for data in (*cuts, *flipped, packed + b"garbage", packed + packed[: len(packed) // 2], b"a,b\n1,2\n"):
        with pytest.raises(TableFailed, match=r"gzip|zstd"):
            read(data, name=f"t.csv.{ending}")


# --- header -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["a", "a", "b"], ("a0", "a1", "b")),
        (["a", "A", "b"], ("a0", "A1", "b")),
        (["", "x", ""], ("_c0", "x", "_c2")),
        ([" a ", "a"], (" a ", "a")),
        (["X", "É", "é"], ("X", "É1", "é2")),
        (["a\nb", "c"], ("a\nb", "c")),
    ],
)
def test_header_names_are_those_that_spark_gives(header: list[str], names: tuple[str, ...]) -> None:
    assert spark_header(header) == names
    data = ",".join(quoted(name, always=True) for name in header).encode()
    assert read(data).schema.names == list(names)


# --- types ------------------------------------------------------------------------------------------------------------


def written_back(value: Any, text: str) -> str:
    """The text that a plain writer gives for a value of an inferred type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return np.format_float_positional(value, unique=True, trim="0")
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.datetime):
        plain = f"{value.year:04}-{value:%m-%d %H:%M:%S}"
        return f"{plain}.{value.microsecond:06}" if "." in text else plain
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


number_like = st.from_regex(r"\A[-+]?[0-9]{0,4}(\.[0-9]{0,4})?(e-?[0-9])?\Z")
texts_of = [
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-3, 300).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**6), max_value=10**6).map(
        "{:f}".format
    ),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda x: np.format_float_positional(x, trim="0")),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: np.format_float_positional(x, trim="0")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    number_like,
    st.from_regex(r"\A-?[1-9]\.[0-9]{13,19}[1-9]\Z"),
    st.sampled_from(["true", "false", "True", "t", "1"]),
    st.dates().map(str),
    st.sampled_from(["2021-02-30", "0000-01-01", "10000-01-01", "2021-2-3", "infinity", "epoch", "2021-01-01 (BC)"]),
    st.datetimes().map(lambda t: f"{t.year:04}-{t:%m-%d %H:%M:%S}"),
    st.datetimes().map(lambda t: f"{t.year:04}-{t:%m-%d %H:%M:%S}.{t.microsecond:06}"),
    st.sampled_from(["2021-01-01 24:00:00", "2021-01-01 23:59:60", "2021-01-01T00:00:00", "2021-01-01 00:00:00Z"]),
    st.sampled_from(["NaN", "nan", "inf", "-0", "-0.0", "007", "+1", "1.", ".5", "1e5", "0x1", "1_000", " 1", "1 "]),
]
columns = st.one_of(
    *[st.lists(st.none() | texts.filter(bool), min_size=1, max_size=5) for texts in texts_of]
) | st.lists(st.one_of(*texts_of).filter(bool), max_size=3)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(table=st.lists(columns, min_size=1, max_size=8))
def test_writing_inferred_columns_back_gives_the_same_text(table: list[list[str | None]]) -> None:
    height = max(map(len, table))
    padded = [texts + [None] * (height - len(texts)) for texts in table]
    header = "".join(f"c{index}," for index in range(len(table))) + "end\n"
    read_back = read(
        (header + "".join(",".join(text or "" for text in row) + ",x\n" for row in zip(*padded, strict=True))).encode()
    )
    for index, (texts, values) in enumerate(
        zip(padded, zip(*rows(read_back), strict=True) if height else (), strict=False)
    ):
        dtype = read_back.schema.field(index).type
        back = [
            None if value is None else written_back(value, text or "")
            for value, text in zip(values, texts, strict=True)
        ]
        assert back == texts, dtype


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "-9223372036854775808", None, "9223372036854775807"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["1", "2.5"], pa.string()),
        (["0.10", "-3.99", None], pa.decimal128(3, 2)),
        (["9" * 36 + ".25"], pa.decimal128(38, 2)),
        (["9" * 37 + ".25"], pa.string()),
        (["0." + "1" * 38], pa.decimal128(38, 38)),
        (["1.5", "2.25", "100000000000000000000.0"], pa.float64()),
        (["0.00001", "2.5"], pa.float64()),
        (["1.50", "2.5"], pa.string()),
        (["0.1", "0.30000000000000001"], pa.string()),
        (["-0.0", "0.5"], pa.float64()),
        (["-0.00"], pa.string()),
        (["true", "false", None], pa.bool_()),
        (["true", "False"], pa.string()),
        (["2020-02-29", "0001-01-01", "9999-12-31"], pa.date32()),
        (["2020-02-29", "2021-02-29"], pa.string()),
        (["2020-01-01 00:00:00", "9999-12-31 23:59:59"], pa.timestamp("us")),
        (["2020-01-01 00:00:00.000000", "1969-12-31 23:59:59.999999"], pa.timestamp("us")),
        (["2020-01-01 00:00:00", "2020-01-01 00:00:00.000001"], pa.string()),
        (["2020-01-01", "2020-01-01 00:00:00"], pa.string()),
        ([None, None], pa.string()),
        (['""', "1"], pa.string()),
        *[([text], pa.string()) for text in ("-0", "007", "+1", "1.", ".5", "1e5", "NaN", "inf", "24:00", " 1", "1 ")],
    ],
)
def test_plain_columns_get_the_narrowest_type(texts: list[str | None], dtype: pa.DataType) -> None:
    assert column_type(*texts) == dtype


def test_types_hold_over_all_files_and_missing_columns_are_null() -> None:
    table = read([b"a,b\n1,x\n", b"B,c,A\ny,1.5,2\n", b"a\n07\n"])
    assert table.schema == pa.schema([("B", pa.string()), ("c", pa.decimal128(2, 1)), ("A", pa.string())])
    assert rows(table) == [("x", None, "1"), ("y", Decimal("1.5"), "2"), (None, None, "07")]
    with pytest.raises(TableFailed, match="folder's widest file lacks"):
        read([b"a,b\n", b"a,c\n"])


def test_csv_types_text_reads_strings_only() -> None:
    table = read(b'a,b\n1,\n2,""\n', infer=False)
    assert rows(table) == [("1", None), ("2", "")]


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "quirk"),
    [
        (b'a,b\r\n1,\r\n" x, ""y""",2\r\n', None),
        (b'a,b\n"x\ny",\n', None),
        (b'a,b\n"",1\n', "Sail reads as NULL"),
        (b"a,b\n1,2\r\n", "line ends"),
        (b"a,b\r1,2\r", "line ends"),
        (b'a,b\r\n"x\r\ny",2\r\n', "line ends"),
        (b"a,b\n\0,2\n", "NUL"),
        (b"a,b\nr2d2:null,2\n", "stands for NULL"),
    ],
)
def test_files_that_engines_read_differently_are_marked(data: bytes, quirk: str | None) -> None:
    found = read(data).quirk
    assert (found is None) if quirk is None else re.search(quirk, found or "")


# --- harvest ----------------------------------------------------------------------------------------------------------


def found_table(
    folder: Path, files: dict[str, bytes], kind: Format = Format.CSV, *, single: bool = False
) -> FoundTable:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    stamps = tuple(stamp(str(folder / name)) for name in sorted(files))
    uri = stamps[0].uri if single else str(folder)
    return FoundTable(table=7, id="t", format=kind, uri=uri, files=stamps)


INFER = TextOptions(csv_delimiter=None, csv_types="infer")


def test_a_harvest_describes_the_copies(tmp_path: Path) -> None:
    found = found_table(tmp_path / "lake", {"a.csv": b"x,y\n1,p\n3,\n", "b.csv": b"x,y\n2,q\n"})
    harvest = harvest_text(found, INFER, str(tmp_path / "work"))
    assert harvest.schema == pa.schema([("x", pa.int64()), ("y", pa.string())])
    assert [(f.stamp, f.data_uri, f.rows, f.partition) for f in harvest.fragments] == [
        (file, str(tmp_path / "work" / f"7-{n}.parquet"), 2 - n, {}) for n, file in enumerate(found.files)
    ]
    assert [(c.fragment, c.leaf, c.nulls, c.low, c.high) for c in harvest.claims] == [
        (0, ("x",), 0, b"1", b"3"),
        (0, ("y",), 1, b"p", b"p"),
        (1, ("x",), 0, b"2", b"2"),
        (1, ("y",), 0, b"q", b"q"),
    ]
    assert harvest.table_bytes == harvest.bytes_read == sum(file.size for file in found.files)
    assert harvest.no_parent_reason is None
    assert harvest.view_options["sep"] == ","
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["7-0.parquet", "7-1.parquet"]


def test_partition_columns_follow_those_of_the_files(tmp_path: Path) -> None:
    files = {"day=2020-01-01/a.tsv": b"x\n1\n", "day=__HIVE_DEFAULT_PARTITION__/a.tsv": b"x\n1\n2\n"}
    harvest = harvest_text(found_table(tmp_path / "lake", files, Format.TSV), INFER, str(tmp_path / "work"))
    assert harvest.schema == pa.schema([("x", pa.int64()), ("day", pa.date32())])
    assert [fragment.partition for fragment in harvest.fragments] == [{"day": "2020-01-01"}, {"day": None}]
    claims = [(c.fragment, c.nulls, c.low, c.high) for c in harvest.claims if c.source == "partition"]
    midnight = b"1577836800000000"
    assert claims == [(0, 0, midnight, midnight), (1, 2, None, None)]
    assert harvest.view_options["sep"] == "\t"
    assert "partition" in (harvest.no_parent_reason or "")


def test_a_partition_column_in_the_files_must_agree(tmp_path: Path) -> None:
    agreeing = found_table(tmp_path / "a", {"K=1/a.csv": b"k,x\n1,5\n1,6\n", "K=2/a.csv": b"k,x\n2,5\n"})
    harvest = harvest_text(agreeing, INFER, str(tmp_path / "work"))
    assert harvest.schema.names == ["k", "x"]
    assert harvest.fragments[0].partition == {}
    for n, body in enumerate((b"2,5\n", b"1,5\n2,5\n", b",5\n", b"1,5\n,5\n")):
        other = found_table(tmp_path / str(n), {"k=1/a.csv": b"k,x\n" + body})
        with pytest.raises(TableFailed, match="'k' is in the files too"):
            harvest_text(other, INFER, str(tmp_path / "work"))


@pytest.mark.parametrize(
    "name", ["g*.csv", "q?.csv", "b[1].csv", "c{a,b}.csv", "back\\slash.csv", "new\nline.csv", "co:lon.csv"]
)
def test_names_that_engines_do_not_take_literally_are_no_parents(tmp_path: Path, name: str) -> None:
    neighbour = tmp_path / "lake" / "ga.csv"
    found = found_table(tmp_path / "lake", {name: b"a\n1\n"}, single=True)
    neighbour.write_bytes(b"a\n2\n")
    harvest = harvest_text(found, INFER, str(tmp_path / "work"))
    assert harvest.rows == 1
    assert "characters" in (harvest.no_parent_reason or "")


def test_a_folder_with_other_files_is_no_parent(tmp_path: Path) -> None:
    found = found_table(tmp_path / "lake", {"a.csv": b"a\n1\n"})
    (tmp_path / "lake" / "_SUCCESS").touch()
    assert harvest_text(found, INFER, str(tmp_path / "work")).no_parent_reason is None
    (tmp_path / "lake" / "notes.txt").touch()
    assert "other files" in (harvest_text(found, INFER, str(tmp_path / "work")).no_parent_reason or "")


def test_a_folder_of_mixed_compression_is_no_parent(tmp_path: Path) -> None:
    found = found_table(tmp_path / "lake", {"a.csv": b"a\n1\n", "b.csv.gz": gzip.compress(b"a\n2\n")})
    harvest = harvest_text(found, INFER, str(tmp_path / "work"))
    assert harvest.rows == 2
    assert "compressed in different ways" in (harvest.no_parent_reason or "")


def test_a_failed_conversion_leaves_no_copy(tmp_path: Path) -> None:
    found = found_table(tmp_path / "lake", {"a.csv": b"a\n1\n", "b.csv": b'a\n"\n'})
    with pytest.raises(TableFailed, match="quoting"):
        harvest_text(found, INFER, str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()
