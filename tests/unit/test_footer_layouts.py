"""What footers have in common is made from the bytes that they have in common, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.scan.footer import layout
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.footer.read import read_footer
from r2d2.scan.footer.recent import Recent
from r2d2.scan.footer.thrift import TYPE_ORDER, Encoding, column_orders, encodings, footer_facts
from tests.unit.forgery import BINARY, Struct, forged
from tests.unit.parquet_tables import WRITERS, Writer, tables, written

_PLACES = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-(2**31), 2**31 - 1))


def alone(footer: bytes) -> bytes:
    """A file that holds a footer and nothing else."""
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def test_a_footer_without_its_rows_says_all_else(tmp_path: Path) -> None:
    @settings(max_examples=40, deadline=None)
    @given(table=tables(), writer=st.sampled_from(WRITERS))
    def check(table: pa.Table, writer: Writer) -> None:
        path = written(tmp_path, table, writer)
        facts = read_footer(path).facts
        whole, rowless = pq.read_metadata(path), pq.read_metadata(pa.BufferReader(alone(facts.rowless)))
        assert (rowless.num_rows, rowless.num_row_groups) == (0, 0)
        assert (rowless.metadata, rowless.created_by) == (whole.metadata, whole.created_by)
        assert str(rowless.schema).partition("\n")[2] == str(whole.schema).partition("\n")[2]
        again = footer_facts(facts.rowless)
        assert (again.rowless, again.groups, again.ordered) == (facts.rowless, [], facts.ordered)

    check()


def test_files_share_a_layout_as_long_as_schema_writer_and_metadata_are_the_same(tmp_path: Path) -> None:
    def layout_of(name: str, table: pa.Table, **options: object) -> layout.Layout:
        pq.write_table(table, tmp_path / name, **options)
        return read_footer(str(tmp_path / name)).layout

    rows = pa.table({"i": [1, 2, 3], "s": ["a", None, "b"]})
    first = layout_of("a", rows)
    assert layout_of("b", rows.slice(0, 0)) is first
    assert layout_of("c", pa.concat_tables([rows] * 100), row_group_size=7) is first
    assert layout_of("d", rows.rename_columns(["i", "t"])) is not first
    assert layout_of("e", rows.replace_schema_metadata({"org.apache.spark.legacyDateTime": ""})) is not first


def test_a_writer_that_is_not_believed_takes_no_belief_from_others(tmp_path: Path) -> None:
    def is_believed(name: str) -> bool:
        return footer_claims(read_footer(str(tmp_path / name)), 0)[0].low is not None

    pq.write_table(pa.table({"f": [1.5]}), tmp_path / "known")
    data = (tmp_path / "known").read_bytes()

    def rename(footer: Struct) -> None:
        footer[6] = (BINARY, b"")

    (tmp_path / "unknown").write_bytes(forged(data, rename))
    assert [is_believed(name) for name in ("unknown", "known", "unknown")] == [False, True, False]


# --- bytes that are looked up -----------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


@given(found=st.lists(_PLACES, max_size=20), behind=st.binary(max_size=9))
def test_encodings_are_read_as_written(found: list[Encoding], behind: bytes) -> None:
    head = bytes([len(found) << 4 | 12]) if len(found) < 15 else bytes([0xFC, len(found)])
    written = head + b"".join(b"".join(b"\x15" + varint(n or 0) for n in one) + b"\0" for one in found)
    assert encodings(b"\0" + written + behind, 1) == (found, 1 + len(written))


@given(found=st.lists(st.booleans(), max_size=20), behind=st.binary(max_size=9))
def test_column_orders_are_read_as_written(found: list[bool], behind: bytes) -> None:
    head = bytes([len(found) << 4 | 12]) if len(found) < 15 else bytes([0xFC, len(found)])
    written = head + b"".join(TYPE_ORDER if one else b"\x2c\0\0" for one in found)
    assert column_orders(b"\0" + written + behind, 1) == (found, 1 + len(written))


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_values_used_last_are_kept_up_to_a_size() -> None:
    recent: Recent[str] = Recent(10)
    assert recent.get("a") is None
    assert [recent.put(key, key.upper(), 5) for key in "ab"] == ["A", "B"]
    assert recent.put("a", "again", 5) == "A", "the first stays"
    assert recent.get("b") == "B"
    assert recent.get("a") == "A"
    recent.put("c", "C", 1)
    assert [recent.get(key) for key in "abc"] == ["A", None, "C"]
    recent.put("d", "D", 11)
    assert [recent.get(key) for key in "abcd"] == [None] * 4


def test_layouts_are_forgotten_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"i": [1]}), tmp_path / "t")
    facts = read_footer(str(tmp_path / "t")).facts
    monkeypatch.setattr(layout, "_RECENT", Recent(0))
    one, other = layout.layout_of(facts, "t"), layout.layout_of(facts, "t")
    assert one is not other
    assert one.columns[0].leaf == other.columns[0].leaf
    assert one.schema == other.schema
