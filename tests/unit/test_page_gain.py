"""Pairs are held against pages only where that may spare tables a scan that costs more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Harvest
from r2d2.prune.page_gain import GAIN, worth_reading
from r2d2.prune.page_stage import LEAST_BYTES, page_bytes, scan_bytes
from r2d2.scan.plan import Pair

TABLES = range(8)
SIZES = st.fixed_dictionaries({table: st.integers(0, 20) for table in TABLES})


def pair(child: int, parent: int) -> Pair:
    return Pair(child=child, parent=parent, column_set=0)


def tables_of(pairs: Iterable[Pair]) -> set[int]:
    return {table for one in pairs for table in (one.child, one.parent)}


def linked_with(first: Pair, pairs: Sequence[Pair], read_anyway: set[int]) -> set[Pair]:
    """The pairs that share tables with a pair, and with those in turn, that may be spared."""
    found = {first}
    while more := {p for p in pairs if tables_of([p]) & tables_of(found) - read_anyway} - found:
        found |= more
    return found


@given(
    ends=st.sets(st.tuples(st.sampled_from(TABLES), st.sampled_from(TABLES)).filter(lambda ends: ends[0] != ends[1])),
    read_anyway=st.sets(st.sampled_from(TABLES)),
    scans=SIZES,
    pages=SIZES,
)
def test_pairs_are_asked_where_the_tables_that_they_link_cost_more_than_the_pages(
    ends: set[tuple[int, int]], read_anyway: set[int], scans: Mapping[int, int], pages: Mapping[int, int]
) -> None:
    pairs = [pair(*one) for one in sorted(ends)]
    expected = []
    for one in pairs:
        group = linked_with(one, pairs, read_anyway)
        gain = sum(scans[table] for table in tables_of(group) - read_anyway)
        if gain > GAIN * sum(pages[parent] for parent in {p.parent for p in group}):
            expected.append(one)
    assert worth_reading(pairs, read_anyway, scans, pages, least_bytes=0) == expected
    gains = sum(scans[table] for table in tables_of(expected) - read_anyway)
    assert worth_reading(pairs, read_anyway, scans, pages, least_bytes=gains) == expected
    assert worth_reading(pairs, read_anyway, scans, pages, least_bytes=gains + 1) == []


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """A table of one file and ten columns."""
    folder = tmp_path_factory.mktemp("lake")
    pq.write_table(pa.table({f"c{place}": [1] for place in range(10)}), folder / "t.parquet")
    (found,) = discover(str(folder), files_as_tables=True).tables
    return harvest_table(found, TextOptions(csv_delimiter=None, csv_types="infer"), str(folder))


def asked(harvest: Harvest, size: int, pairs: Sequence[Pair], read_anyway: Iterable[int] = ()) -> list[Pair]:
    """Those of some pairs that are asked about where all tables are like one of a size."""
    table = replace(harvest, table_bytes=size)
    scans = dict.fromkeys(tables_of(pairs), scan_bytes(table))
    pages = dict.fromkeys(tables_of(pairs), page_bytes(table))
    return worth_reading(pairs, set(read_anyway), scans, pages, LEAST_BYTES)


VERSIONS = [pair(number, number + 1) for number in range(40)]


def test_pages_of_large_tables_are_read(harvest: Harvest) -> None:
    assert asked(harvest, 2 << 20, VERSIONS) == VERSIONS


def test_pages_of_small_files_are_not_read(harvest: Harvest) -> None:
    assert asked(harvest, 20_000, VERSIONS) == []


def test_pages_that_spare_many_small_files_are_read(harvest: Harvest) -> None:
    extracts = [pair(number, 0) for number in range(1, 40)]
    assert asked(harvest, 20_000, extracts) == extracts


def test_tables_that_are_read_anyway_are_not_spared(harvest: Harvest) -> None:
    assert asked(harvest, 2 << 20, VERSIONS, range(41)) == []
    assert asked(harvest, 2 << 20, VERSIONS, range(2, 41)) == [pair(0, 1), pair(1, 2)]


def test_many_thin_columns_are_left_to_the_scan(harvest: Harvest) -> None:
    wide = replace(harvest, schema=pa.schema([(f"c{place}", pa.int64()) for place in range(1000)]))
    assert asked(wide, 2 << 20, VERSIONS) == []
    assert asked(wide, 64 << 20, VERSIONS) == VERSIONS
