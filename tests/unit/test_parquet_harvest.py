"""Types and damage of Parquet files, and tables of several files."""

from __future__ import annotations

import base64
import datetime
import itertools
import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.errors import TableChanged, TableFailed, TableUnsupported
from r2d2.lake.discovery import discover, listing_token
from r2d2.lake.parquet import _common_type, harvest_parquet
from r2d2.model import Claim, FoundTable, Harvest
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.footer.recent import Recent

UTC = datetime.UTC
EPOCH = datetime.datetime.fromtimestamp(0, UTC).replace(tzinfo=None)


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def footer_of(tmp_path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Footer:
    return read_footer(str(write(tmp_path / "t.parquet", columns, **options)))


def bounds(claims: list[Claim] | tuple[Claim, ...]) -> dict[tuple[int, str], tuple[Any, ...]]:
    return {(c.fragment, ".".join(c.leaf)): (c.nulls, c.low, c.high) for c in claims}


# --- calendars -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["org.apache.spark.legacyDateTime", "org.apache.spark.legacyINT96"])
def test_legacy_calendars_have_no_bounds_of_time_and_need_the_engine(tmp_path, mark):
    data = pa.table({"d": [datetime.date(1000, 1, 1)], "t": [EPOCH], "i": [1]}).replace_schema_metadata({mark: ""})
    footer = footer_of(tmp_path / "t", data)
    assert footer.legacy_calendar
    assert bounds(footer_claims(footer, 0)) == {
        (0, "d"): (0, None, None),
        (0, "t"): (0, None, None),
        (0, "i"): (0, b"1", b"1"),
    }
    harvest = harvest_of(tmp_path)
    assert (harvest.reader, harvest.reader_reason) == (
        "engine",
        "a file has dates or timestamps in Spark's legacy calendar",
    )


def test_old_sparks_wrote_the_legacy_calendar_without_marks(tmp_path):
    def is_legacy(version: str, **options: Any) -> bool:
        data = pa.table({"t": [[{"a": EPOCH}]]}).replace_schema_metadata({"org.apache.spark.version": version})
        return footer_of(tmp_path, data, **options).legacy_calendar

    assert is_legacy("2.4.8")
    assert not is_legacy("3.0.1")
    assert is_legacy("3.0.1", use_deprecated_int96_timestamps=True)
    assert not is_legacy("3.1.0", use_deprecated_int96_timestamps=True)


# --- types ------------------------------------------------------------------------------------------------------------


def test_types_are_parquets_and_not_those_of_an_embedded_arrow_schema(tmp_path):
    columns = {
        "dictionary": pa.array(["a"]).dictionary_encode(),
        "duration": pa.array([1], pa.duration("us")),
        "large": pa.array(["a"], pa.large_string()),
        "view": pa.array([b"a"], pa.binary_view()),
        "tokyo": pa.array([EPOCH], pa.timestamp("us", "Asia/Tokyo")),
        "seconds": pa.array([EPOCH], pa.timestamp("s")),
        "fixed": pa.array([b"ab"], pa.binary(2)),
        "date64": pa.array([datetime.date(2020, 1, 1)], pa.date64()),
        "d64": pa.array([Decimal("1.00")], pa.decimal64(10, 2)),
        "nested": pa.array([[{"x": "q"}]], pa.list_(pa.struct([("x", pa.large_string())]))).cast(
            pa.large_list(pa.struct([("x", pa.dictionary(pa.int32(), pa.string()))]))
        ),
        "tensor": pa.array([[1, 2]], pa.list_(pa.int32(), 2)),
        "list_view": pa.array([[1]], pa.list_view(pa.uint8())),
        "map": pa.array([[("k", EPOCH)]], pa.map_(pa.string(), pa.timestamp("ms", "UTC"))),
        "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())),
        "nothing": pa.nulls(1),
        "u64": pa.array([1], pa.uint64()),
    }
    assert footer_of(tmp_path, columns).schema == pa.schema(
        {
            "dictionary": pa.string(),
            "duration": pa.int64(),
            "large": pa.string(),
            "view": pa.binary(),
            "tokyo": pa.timestamp("us", "UTC"),
            "seconds": pa.timestamp("ms"),
            "fixed": pa.binary(),
            "date64": pa.date32(),
            "d64": pa.decimal128(10, 2),
            "nested": pa.list_(pa.struct([("x", pa.string())])),
            "tensor": pa.list_(pa.int32()),
            "list_view": pa.list_(pa.uint8()),
            "map": pa.map_(pa.string(), pa.timestamp("ms", "UTC")),
            "bool8": pa.int8(),
            "nothing": pa.null(),
            "u64": pa.uint64(),
        }
    )


def test_int96_is_an_instant_wherever_it_is(tmp_path):
    times = pa.array([EPOCH], pa.timestamp("us"))
    columns = {"t": times, "s": pa.array([{"t": EPOCH, "i": 1}]), "l": pa.array([[EPOCH]]), "i": [1]}
    footer = footer_of(tmp_path, columns, use_deprecated_int96_timestamps=True)
    instant = pa.timestamp("us", "UTC")
    assert footer.int96 == {("t",), ("s", "t"), ("l",)}
    assert footer.schema.field("t").type == instant
    assert footer.schema.field("s").type == pa.struct([("t", instant), ("i", pa.int64())])
    assert footer.schema.field("l").type == pa.list_(instant)
    assert bounds(footer_claims(footer, 0))[0, "t"][1:] == (None, None)


def test_names_repeated_or_odd_are_kept_and_bytes_belong_to_their_column(tmp_path):
    names = ["a", "a", "", "A", "x (Variant(1)) {", "s.a", '\u00e9\n`"']
    arrays = [pa.array(range(1000)), *[pa.array([1] * 1000)] * 5, pa.array([{"x": 1, "y": [i]} for i in range(1000)])]
    footer = footer_of(tmp_path, pa.table(arrays, names=names), row_group_size=400)
    assert footer.schema.names == names
    group_bytes = [footer.metadata.row_group(i).column for i in range(3)]
    assert footer.column_bytes[0] == sum(column(0).total_compressed_size for column in group_bytes)
    assert footer.column_bytes[6] == sum(column(i).total_compressed_size for column in group_bytes for i in (6, 7))
    assert footer.footer_bytes < os.path.getsize(tmp_path / "t.parquet")


def test_duckdbs_and_polars_types(tmp_path):
    path = str(tmp_path / "d.parquet")
    duckdb.sql(
        "SELECT 1::UTINYINT a, '[1]'::JSON j, 'x'::ENUM('x') e, 1.5::DECIMAL(4,1) i32, 1.5::DECIMAL(18,1) i64, "
        "1.5::DECIMAL(38,1) flba, '2020-01-01'::TIMESTAMPTZ tz, '2020-01-01'::TIMESTAMP_S s, MAP {'k': 1} m"
    ).write_parquet(path)
    instant, wall = pa.timestamp("us", "UTC"), pa.timestamp("us")
    decimals = {name: pa.decimal128(digits, 1) for name, digits in (("i32", 4), ("i64", 18), ("flba", 38))}
    assert read_footer(path).schema == pa.schema(
        {"a": pa.uint8(), "j": pa.string(), "e": pa.string(), **decimals}
        | {"tz": instant, "s": wall, "m": pa.map_(pa.string(), pa.int32())}
    )
    pl.DataFrame(
        {"c": pl.Series(["a"], dtype=pl.Categorical), "d": pl.Series([1], dtype=pl.Duration("us"))}
    ).write_parquet(path)
    assert read_footer(path).schema == pa.schema({"c": pa.string(), "d": pa.int64()})


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (pa.array([datetime.time(1)]), "TIME"),
        (pa.array([1], pa.float16()), "FLOAT16"),
        (pa.array([Decimal(1)], pa.decimal256(50, 2)), r"DECIMAL\(50,2\)"),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16], pa.binary(16))), "UUID"),
        (pa.array([[{"t": datetime.time(1)}]]), "TIME"),
    ],
)
def test_types_outside_the_contract_are_unsupported_by_name(tmp_path, column, name):
    with pytest.raises(TableUnsupported, match=f"columns of type {name} are not supported"):
        footer_of(tmp_path, {"c": column})


@pytest.mark.parametrize(("value", "name"), [("INTERVAL 1 DAY", "INTERVAL"), ("{'a': 1}::VARIANT", "VARIANT")])
def test_duckdbs_own_types_are_unsupported_by_name(tmp_path, value, name):
    path = str(tmp_path / "d.parquet")
    duckdb.execute(f"COPY (SELECT {value} AS c, 1 AS i) TO '{path}'")
    with pytest.raises(TableUnsupported, match=name):
        read_footer(path)


def test_types_that_only_sparks_metadata_names_are_unsupported(tmp_path):
    row = '{"type":"struct","fields":[{"name":"i","type":{"type":"array","elementType":"interval year to month"}}]}'
    data = pa.table({"i": [[1]]}).replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": row})
    with pytest.raises(TableUnsupported, match="INTERVAL YEAR TO MONTH"):
        footer_of(tmp_path, data)


# --- damage -----------------------------------------------------------------------------------------------------------


WHOLE = pa.BufferOutputStream()
pq.write_table(pa.table({"a": range(5), "s": ["x"] * 5}), WHOLE)
WHOLE_BYTES = WHOLE.getvalue().to_pybytes()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, len(WHOLE_BYTES) - 1))
def test_a_cut_off_file_fails(size):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.parquet"
        path.write_bytes(WHOLE_BYTES[:size])
        with pytest.raises(TableFailed, match=r"'cut\.parquet'"):
            read_footer(str(path))


@pytest.mark.parametrize("footer", [b"", b"\x15", b"garbage" * 9])
def test_a_damaged_footer_fails(tmp_path, footer):
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(TableFailed, match="damaged Parquet footer"):
        read_footer(str(path))


def test_pipes_and_missing_files_fail_without_being_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(TableFailed, match="not a plain file"):
        read_footer(str(tmp_path / "pipe.parquet"))
    with pytest.raises(TableFailed, match="missing"):
        read_footer(str(tmp_path / "none.parquet"))


class LocalKeys(pe.KmsClient):
    """Wraps keys in base64 only."""

    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return base64.b64encode(key_bytes)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_files_are_unsupported(tmp_path, plaintext_footer):
    data, path = pa.table({"a": [1], "b": [2]}), tmp_path / "e.parquet"
    config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["a"]}, plaintext_footer=plaintext_footer)
    keys = pe.CryptoFactory(LocalKeys).file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, data.schema, encryption_properties=keys) as writer:
        writer.write_table(data)
    with pytest.raises(TableUnsupported, match="encrypted"):
        read_footer(str(path))


# --- tables of several files ------------------------------------------------------------------------------------------


def found_in(lake: Path) -> FoundTable:
    (found,) = discover(str(lake)).tables
    return found


def harvest_of(lake: Path) -> Harvest:
    return harvest_parquet(found_in(lake))


def test_a_footer_is_parsed_once_as_long_as_its_bytes_are_the_same(tmp_path, monkeypatch):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"a": [1]}), path)
    first = read_footer(path)
    assert read_footer(path) is first
    pq.write_table(pa.table({"b": [1]}), path)
    assert read_footer(path).schema.names == ["b"]
    monkeypatch.setattr("r2d2.scan.footer.read._RECENT", Recent(0))
    pq.write_table(pa.table({"c": [1]}), path)
    assert read_footer(path) == read_footer(path)
    assert read_footer(path) is not read_footer(path)


def test_a_table_of_files_has_the_widest_files_columns(tmp_path):
    write(tmp_path / "t/1.parquet", {"b": [1, None]})
    write(tmp_path / "t/2.parquet", {"a": ["x"], "b": [5], "s": [{"p": 1, "q": "y"}]})
    harvest = harvest_of(tmp_path)
    found = found_in(tmp_path)
    assert harvest.schema == pa.schema(
        {"a": pa.string(), "b": pa.int64(), "s": pa.struct([("p", pa.int64()), ("q", pa.string())])}
    )
    assert bounds(harvest.claims) == {
        (0, "a"): (2, None, None),
        (0, "b"): (1, b"1", b"1"),
        (0, "s.p"): (2, None, None),
        (0, "s.q"): (2, None, None),
        (1, "a"): (0, b"x", b"x"),
        (1, "b"): (0, b"5", b"5"),
        (1, "s.p"): (0, b"1", b"1"),
        (1, "s.q"): (0, b"y", b"y"),
    }
    assert [(f.stamp, f.data_uri, f.rows, f.partition) for f in harvest.fragments] == [
        (stamp, stamp.uri, rows, {}) for stamp, rows in zip(found.files, (2, 1), strict=True)
    ]
    assert harvest.rows == 3
    assert harvest.table_bytes == sum(file.size for file in found.files)
    assert 0 < harvest.bytes_read < harvest.table_bytes
    assert harvest.version == listing_token(found)
    assert (harvest.reader, harvest.no_parent_reason) == ("files", None)


def test_integers_widen_to_the_narrowest_type_that_holds_both():
    integers = {
        (bits, signed): pa.type_for_alias(f"{'' if signed else 'u'}int{bits}")
        for bits in (8, 16, 32, 64)
        for signed in (True, False)
    }

    def extent(dtype: pa.DataType) -> tuple[int, int]:
        if pa.types.is_decimal(dtype):
            return -(10**dtype.precision) + 1, 10**dtype.precision - 1
        bits, signed = dtype.bit_width, pa.types.is_signed_integer(dtype)
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def holds(wide: pa.DataType, *others: pa.DataType) -> bool:
        return all(extent(wide)[0] <= extent(o)[0] and extent(o)[1] <= extent(wide)[1] for o in others)

    for one, other in itertools.product(integers.values(), repeat=2):
        common = _common_type(one, other)
        assert holds(common, one, other)
        assert not any(holds(d, one, other) and holds(common, d) and d != common for d in integers.values())


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.array([1.5], pa.float32()), pa.array([0.1]), pa.float64()),
        (
            pa.array([Decimal("1.5")], pa.decimal128(3, 1)),
            pa.array([Decimal("0.25")], pa.decimal128(4, 2)),
            pa.decimal128(4, 2),
        ),
        (pa.array([[1]], pa.list_(pa.int8())), pa.array([[1]], pa.list_(pa.uint8())), pa.list_(pa.int16())),
        (pa.array([{"a": 1}]), pa.array([{"a": 1}], pa.struct([("a", pa.int8())])), pa.struct([("a", pa.int64())])),
    ],
)
def test_widened_tables_are_no_parents(tmp_path, one, other, common):
    write(tmp_path / "t/1.parquet", {"c": one})
    write(tmp_path / "t/2.parquet", {"c": other})
    harvest = harvest_of(tmp_path)
    assert harvest.schema == pa.schema({"c": common})
    assert harvest.no_parent_reason == "its files store column 'c' in different types, which engines widen differently"
    assert {claim.type for claim in harvest.claims} <= {str(one.type), str(other.type), "int64", "int8"}


def test_a_column_without_a_type_fits_any_and_claims_the_tables_leaves(tmp_path):
    write(tmp_path / "t/1.parquet", {"c": pa.nulls(2), "d": pa.nulls(2)}, write_statistics=False)
    write(tmp_path / "t/2.parquet", {"c": [{"x": 1}], "d": [[1]]})
    harvest = harvest_of(tmp_path)
    assert harvest.schema == pa.schema({"c": pa.struct([("x", pa.int64())]), "d": pa.list_(pa.int64())})
    assert bounds(harvest.claims) == {(0, "c.x"): (None,) * 3, (0, "d"): (None,) * 3, (1, "c.x"): (0, b"1", b"1")}
    assert harvest.no_parent_reason is None


@pytest.mark.parametrize(
    ("one", "other", "match"),
    [
        ({"c": [1]}, {"c": ["1"]}, "disagree on column 'c': int64 and string"),
        ({"c": [1]}, {"c": [1.0]}, "int64 and double"),
        ({"c": [1]}, {"c": pa.array([Decimal(1)], pa.decimal128(5, 0))}, "disagree on column"),
        ({"c": [EPOCH]}, {"c": [EPOCH.replace(tzinfo=UTC)]}, "disagree on column"),
        ({"c": [datetime.date(2020, 1, 1)]}, {"c": [EPOCH]}, "disagree on column"),
        ({"c": [{"a": 1}]}, {"c": [{"a": 1, "b": 2}]}, "disagree on column"),
        ({"c": [1]}, {"C": [1]}, "disagree on the case of column"),
        ({"a": [1], "b": [1]}, {"c": [1]}, "widest file lacks"),
        ({"c": pa.array([1], pa.decimal128(38, 0))}, {"c": pa.array([1], pa.decimal128(38, 9))}, "disagree on column"),
    ],
)
def test_files_that_do_not_fit_fail_the_table(tmp_path, one, other, match):
    write(tmp_path / "t/1.parquet", one)
    write(tmp_path / "t/2.parquet", other)
    with pytest.raises(TableFailed, match=match):
        harvest_of(tmp_path)


def test_one_damaged_file_fails_the_table(tmp_path):
    write(tmp_path / "t/1.parquet", {"c": [1]})
    (tmp_path / "t/2.parquet").touch()
    with pytest.raises(TableFailed, match=r"'2.parquet' is no Parquet file: it has 0 bytes"):
        harvest_of(tmp_path)


def test_partition_columns_come_last_and_claim_their_value(tmp_path):
    write(tmp_path / "t/day=2020-01-02/k=__HIVE_DEFAULT_PARTITION__/1.parquet", {"c": [1, 2]})
    write(tmp_path / "t/day=2020-01-03/k=01/1.parquet", {"c": [3]})
    harvest = harvest_of(tmp_path)
    assert harvest.schema == pa.schema({"c": pa.int64(), "day": pa.date32(), "k": pa.int32()})
    assert [f.partition for f in harvest.fragments] == [
        {"day": "2020-01-02", "k": None},
        {"day": "2020-01-03", "k": "01"},
    ]
    micros = [str((datetime.date(2020, 1, day) - EPOCH.date()).days * 86_400_000_000).encode() for day in (2, 3)]
    partition_claims = [claim for claim in harvest.claims if claim.source == "partition"]
    assert bounds(partition_claims) == {
        (0, "day"): (0, micros[0], micros[0]),
        (0, "k"): (2, None, None),
        (1, "day"): (0, micros[1], micros[1]),
        (1, "k"): (0, b"1", b"1"),
    }


@pytest.mark.parametrize(
    ("folder", "column", "agrees"),
    [
        ("p=7", pa.array([7, 7]), True),
        ("p=7", pa.array([7, 8]), False),
        ("p=7", pa.array([7, None]), False),
        ("p=7", pa.array(["7", "7"]), False),
        ("p=x", pa.array(["x", "x"]), True),
        ("p=1.5", pa.array([1.5, 1.5]), False),  # a NaN may hide from a double's bounds
        ("p=2020-01-02", pa.array([datetime.date(2020, 1, 2)] * 2), True),
        ("p=__HIVE_DEFAULT_PARTITION__", pa.array([None, None], pa.int64()), False),
        ("p=7", None, False),
    ],
)
def test_a_partition_column_in_the_files_must_be_proved_the_same(tmp_path, folder, column, agrees):
    write(tmp_path / f"t/{folder}/1.parquet", {"c": [1, 2]} | ({} if column is None else {"p": column}) | {"z": [1, 2]})
    write(
        tmp_path / f"t/{folder}/2.parquet",
        {"c": [1, 2], "p": pa.array([7, 7]) if column is None else column, "z": [1, 2]},
    )
    if agrees:
        harvest = harvest_of(tmp_path)
        assert harvest.schema == pa.schema({"c": pa.int64(), "p": column.type, "z": pa.int64()})
        assert [f.partition for f in harvest.fragments] == [{}, {}]
    else:
        with pytest.raises(TableFailed, match="partition column 'p' is in the files too"):
            harvest_of(tmp_path)


def test_two_columns_of_one_name_are_unsupported(tmp_path):
    write(tmp_path / "t/1.parquet", pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(TableUnsupported, match="of the same name"):
        harvest_of(tmp_path)


@pytest.mark.parametrize(
    ("path", "columns", "match"),
    [
        ("t/1.parquet", {"c": pa.array([[1]], pa.list_(pa.timestamp("ns")))}, "nanosecond"),
        ("g*.parquet", {"c": [1]}, "characters"),
        ("t{a,b}/1.parquet", {"c": [1]}, "characters"),
        ("t/new\nline.parquet", {"c": [1]}, "characters"),
        ("t/back\\slash.parquet", {"c": [1]}, "characters"),
        ("t/p=%C3%A9/1.parquet", {"c": [1]}, "escapes outside ASCII"),
        ("t/P=1/1.parquet", {"c": [1], "p": [1]}, "spell partition column 'P' otherwise"),
        ("t/1.parquet", {"c": [1], "C": [1]}, "only by case"),
        ("t/1.parquet", {"s": [{"a": 1, "A": 2}]}, "only by case"),
    ],
)
def test_tables_that_no_recipe_may_read(tmp_path, path, columns, match):
    write(tmp_path / path, columns)
    reason = harvest_of(tmp_path).no_parent_reason
    assert reason is not None
    assert match in reason


def test_a_file_rewritten_since_the_listing_is_noticed(tmp_path):
    path = write(tmp_path / "t/1.parquet", {"c": [1]})
    found = found_in(tmp_path)
    write(path, {"c": [2, 3]})
    with pytest.raises(TableChanged, match="changed during the audit"):
        harvest_parquet(found)
