"""Dictionaries and bounds of pages: no containment is refuted, what an exact rule would is, damage is survived."""

from __future__ import annotations

import json
import math
import random
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Harvest, leaves
from r2d2.prune import page_rule, page_stage
from r2d2.prune.blocks import blocks_of, survivors_of
from r2d2.prune.evidence import packed_evidence
from r2d2.prune.page_items import DONE
from r2d2.prune.page_rule import PageRefutation
from r2d2.prune.page_stage import page_answers
from r2d2.prune.pages import Belief
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.prune.trust import Suspect
from r2d2.scan.footer import pages
from r2d2.scan.footer.dictionary import MOST_BYTES, dictionary_values, refers_to_dictionary
from r2d2.scan.footer.pages import Source, Wanted, chunk_spans
from r2d2.scan.footer.read import read_footer
from r2d2.scan.footer.stored_order import first_at, key_of, last_at
from r2d2.scan.footer.thrift import ChunkFacts
from r2d2.scan.plan import Pair
from tests.unit.forgery import BINARY, NULL_COUNT, NUM_VALUES, Struct, forge
from tests.unit.parquet_tables import TYPES, exact_array, read_cells, values_of, write_delta_rs, write_fastparquet

CODECS = ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]
PAGED_TYPES = [*TYPES, pa.timestamp("us"), pa.binary(3), pa.decimal128(9, 2), pa.decimal128(12, 0)]
NUMBERS = {"i": pa.int32(), "l": pa.int64(), "d": pa.float64(), "f": pa.float32(), "x": pa.decimal128(20, 4)}
BELIEF = Belief(utc=False)
_LIST, _ENCODING_STATS = 9, 13


@pytest.fixture(autouse=True, scope="module")
def _small_children_have_pages() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_stage, "PAGED_BYTES", 0)
        yield


def pyarrow_writer(draw: st.DrawFn) -> Callable[[pa.Table, str], None]:
    options = {
        "compression": draw(st.sampled_from(CODECS)),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "row_group_size": draw(st.sampled_from([4, 16, 1000])),
        "data_page_size": draw(st.sampled_from([16, 1 << 20])),
        "write_batch_size": 4,
        "dictionary_pagesize_limit": draw(st.sampled_from([24, 1 << 20])),  # a chunk gives up its dictionary midway
        "use_dictionary": draw(st.sampled_from([True, True, False])),
        "write_page_index": draw(st.booleans()),
        "write_page_checksum": draw(st.booleans()),
        "store_decimal_as_integer": draw(st.booleans()),
        "write_statistics": draw(st.sampled_from([True, True, False])),
    }
    return lambda table, path: pq.write_table(table, path, **options)


def write_duckdb(table: pa.Table, path: str) -> None:
    duckdb.from_arrow(table).write_parquet(path)


def write_polars(table: pa.Table, path: str) -> None:
    pl.from_arrow(table).write_parquet(path, row_group_size=16, data_page_size=64)  # type: ignore[union-attr]


@st.composite
def writers(draw: st.DrawFn) -> Callable[[pa.Table, str], None]:
    other = draw(st.sampled_from([None, None, None, write_duckdb, write_polars, write_fastparquet, write_delta_rs]))
    return other or pyarrow_writer(draw)


def harvested(folder: str) -> dict[int, Harvest]:
    options = TextOptions(csv_delimiter=None, csv_types="infer")
    return {t.table: harvest_table(t, options, folder) for t in discover(folder, files_as_tables=True).tables}


def only_c(harvest: Harvest) -> Harvest:
    """Without the column that some writers need beside one that they may leave out."""
    schema = pa.schema([harvest.schema.field("c")])
    return replace(harvest, schema=schema, claims=tuple(claim for claim in harvest.claims if claim.leaf == ("c",)))


def judged(harvests: Mapping[int, Harvest], belief: Belief = BELIEF) -> tuple[bool, PageRefutation | None]:
    """Whether bounds of files refute table 0 in table 1, and why pages do."""
    paths = {table: [path for path, _ in leaves(harvest.schema)] for table, harvest in harvests.items()}
    graph = build_schema_graph(paths, case_sensitive=False)
    evidence = {table: packed_evidence(harvest, utc=False) for table, harvest in harvests.items()}
    kept = {
        (row["child"], row["parent"]) for block in blocks_of(graph) for row in survivors_of(block, evidence).to_pylist()
    }
    pair = Pair(child=0, parent=1, column_set=graph.class_of[0].id)
    rows = page_answers(graph, [pair], harvests, evidence, belief).to_pylist()
    reasons = [PageRefutation.from_json(row["reason"]) for row in rows if row["child"] != DONE]
    return (0, 1) not in kept, reasons[0] if reasons else None


def canonical(cell: Any) -> Any:
    if isinstance(cell, float):
        return "nan" if math.isnan(cell) else cell + 0.0
    return cell


def rows_of(path: str, names: Sequence[str]) -> set[tuple[Any, ...]]:
    columns = [[canonical(cell) for cell in read_cells(path, name)[0]] for name in names]
    return set(zip(*columns, strict=True))


@st.composite
def cells_of(draw: st.DrawFn, dtype: pa.DataType) -> list[Any]:
    """Cells of few distinct values, so that dictionaries are worth it; sorted ones give pages narrow bounds."""
    values = st.binary(min_size=3, max_size=3) if pa.types.is_fixed_size_binary(dtype) else values_of(dtype)
    distinct = draw(st.lists(values, min_size=1, max_size=8))
    cells = draw(st.lists(st.none() | st.sampled_from(distinct), max_size=40))
    if not pa.types.is_floating(dtype) and draw(st.booleans()):
        cells.sort(key=lambda cell: (cell is None, cell))
    return cells


@st.composite
def pairs(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """A child and a parent of the same columns: its rows, or a few other ones too."""
    dtype = draw(st.sampled_from(PAGED_TYPES))
    cells = draw(cells_of(dtype))
    kept = [cell for cell in cells if draw(st.integers(0, 3)) == 0]
    if draw(st.booleans()):
        kept += draw(cells_of(dtype))[:2]
    child, parent = exact_array(kept, dtype), exact_array(cells, dtype)
    if pa.types.is_string(dtype) and draw(st.booleans()):
        unused = pa.array(["never drawn \0", "never drawn \0\0"])
        parent = parent.dictionary_encode()
        all_values = pa.concat_arrays([parent.dictionary, unused])
        parent = pa.DictionaryArray.from_arrays(parent.indices, all_values)
    return pa.table({"c": child}), pa.table({"c": parent})


@settings(max_examples=220)
@given(tables=pairs(), of_child=writers(), of_parent=writers())
def test_no_containment_is_refuted(
    tables: tuple[pa.Table, pa.Table],
    of_child: Callable[[pa.Table, str], None],
    of_parent: Callable[[pa.Table, str], None],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.parquet" for name in ("a", "b")]
        for write, table, path in zip((of_child, of_parent), tables, paths, strict=True):
            write(table, path)
        harvests = harvested(folder)
        if any("c" not in harvest.schema.names for harvest in harvests.values()):
            return  # the writer has left out a column that it cannot write
        harvests = {table: only_c(harvest) for table, harvest in harvests.items()}
        by_files, by_pages = judged(harvests)
        if rows_of(paths[0], ["c"]) <= rows_of(paths[1], ["c"]):
            assert not by_files
            assert by_pages is None


@pytest.mark.parametrize("dtype", PAGED_TYPES, ids=str)
@settings(max_examples=12)
@given(data=st.data())
def test_no_row_of_the_parent_is_refuted(dtype: pa.DataType, data: st.DataObject) -> None:
    """Many small pages with bounds, or a dictionary of few values, on both sides."""
    cells = data.draw(cells_of(dtype)) * 2
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(cells))] * 2)))
    kept = cells[first:last]
    with tempfile.TemporaryDirectory() as folder:
        for name, own in (("a", kept), ("b", cells)):
            pq.write_table(
                pa.table({"c": exact_array(own, dtype)}),
                f"{folder}/{name}.parquet",
                use_dictionary=data.draw(st.booleans()),
                write_page_index=True,
                data_page_size=16,
                write_batch_size=4,
                row_group_size=data.draw(st.sampled_from([20, 1000])),
            )
        assert judged(harvested(folder)) == (False, None)


@pytest.mark.parametrize("other", [(4, 8, 1), (None, 8, 1), (0, None, 1), (3, 0, 1)])
def test_pages_of_an_unknown_kind_or_encoding_may_hold_any_value(other: tuple[int | None, int | None, int]) -> None:
    known = [(2, 0, 1), (1, 0, 1), (0, 8, 5), (3, 2, 1)]
    assert refers_to_dictionary(ChunkFacts(encodings=known))
    assert not refers_to_dictionary(ChunkFacts(encodings=[*known, other]))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_dictionary_that_was_given_up_midway_covers_nothing(version: str, tmp_path: Path) -> None:
    parent = ["few"] * 1000 + [f"one of many {n:05}" for n in range(2000)]
    pq.write_table(pa.table({"c": ["one of many 01999"]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"c": parent}),
        tmp_path / "b.parquet",
        dictionary_pagesize_limit=64,
        data_page_version=version,
        write_batch_size=100,
    )
    facts = read_footer(str(tmp_path / "b.parquet")).facts.groups[0].chunks[0]
    assert facts.dictionary_offset is not None
    assert judged(harvested(str(tmp_path))) == (False, None)


@settings(max_examples=100)
@given(
    kinds=st.tuples(*[st.sampled_from(sorted(NUMBERS))] * 2),
    values=st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    other=st.integers(-60, 60),
    halves=st.booleans(),
    data=st.data(),
)
def test_a_value_that_a_dictionary_lacks_refutes_across_types(
    kinds: tuple[str, str], values: list[int], other: int, halves: bool, data: st.DataObject
) -> None:
    """The exact rule: the child's least and greatest value are among the parent's values."""
    held = [{0: 1.0, 1: value * 0.5}[int(halves)] if kinds == ("d", "f") else value for value in values]
    child, parent = pa.array([other], NUMBERS[kinds[0]]), pa.array(held, pa.float64()).cast(NUMBERS[kinds[1]])
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"c": child}), f"{folder}/a.parquet")
        # Enough rows for the dictionary to be the smaller part of the chunk.
        repeated = pa.concat_arrays([parent] * data.draw(st.integers(40, 60)))
        size = data.draw(st.sampled_from([len(parent) * 20, 10_000]))
        pq.write_table(
            pa.table({"c": repeated}),
            f"{folder}/b.parquet",
            row_group_size=size,
            compression=data.draw(st.sampled_from(CODECS)),
        )
        by_files, by_pages = judged(harvested(folder))
    assert (by_files or by_pages is not None) == (other not in held)


def sorted_with_gaps(folder: Path, **options: Any) -> None:
    """A parent in whose every second page the child's value would lie, were it not in the gap between two pages."""
    parent = [1000 * (n // 100) + n % 100 for n in range(1000)]
    pq.write_table(pa.table({"c": [550]}), folder / "a.parquet")
    pq.write_table(
        pa.table({"c": parent}),
        folder / "b.parquet",
        use_dictionary=False,
        write_page_index=True,
        data_page_size=800,
        write_batch_size=100,
        **options,
    )


def test_a_value_between_pages_is_refuted_by_the_column_index(tmp_path: Path) -> None:
    sorted_with_gaps(tmp_path)
    by_files, reason = judged(harvested(str(tmp_path)))
    assert not by_files
    assert reason is not None
    assert (reason.sources, reason.low, reason.high) == (("column index",), reason.high, reason.low)


def test_a_value_between_row_groups_needs_no_index(tmp_path: Path) -> None:
    sorted_with_gaps(tmp_path, row_group_size=100)
    _, reason = judged(harvested(str(tmp_path)), Belief(utc=False))
    assert reason is not None
    pq.write_table(
        pq.read_table(tmp_path / "b.parquet"), tmp_path / "b.parquet", row_group_size=100, use_dictionary=False
    )
    _, reason = judged(harvested(str(tmp_path)))
    assert reason is not None
    assert reason.sources == ("row group",)


@pytest.mark.parametrize(
    "suspect",
    [
        Suspect(source="footer", writer="parquet-cpp", type="integer"),
        Suspect(source="delta-log", writer="delta-rs", type="integer"),
    ],
)
def test_bounds_of_pages_fall_with_the_claims_of_their_type(suspect: Suspect, tmp_path: Path) -> None:
    sorted_with_gaps(tmp_path)
    assert judged(harvested(str(tmp_path)), Belief(utc=False, suspects=frozenset({suspect})))[1] is None


def test_a_dictionary_needs_no_belief(tmp_path: Path) -> None:
    pq.write_table(pa.table({"c": [2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"c": [1, 3] * 200}), tmp_path / "b.parquet")
    suspects = frozenset({Suspect(source="footer", writer="parquet-cpp", type="integer")})
    _, reason = judged(harvested(str(tmp_path)), Belief(utc=False, suspects=suspects))
    assert reason is not None
    assert reason.sources == ("dictionary",)


def test_counts_of_null_fall_with_the_claims_of_their_type(tmp_path: Path) -> None:
    """The first row group, which has the child's value, claims to be all NULL; the second has a dictionary."""
    pq.write_table(pa.table({"c": [5]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"c": [5] * 400 + [1, 9] * 200}), tmp_path / "b.parquet", row_group_size=400)
    chunks: list[Struct] = []

    def claim_nulls(chunk: Struct, statistics: Struct) -> None:
        if not chunks:
            statistics.clear()
            statistics[NULL_COUNT] = chunk[NUM_VALUES]
        chunks.append(chunk)

    forge(tmp_path / "b.parquet", claim_nulls)
    suspects = frozenset({Suspect(source="footer", writer="parquet-cpp", type="integer")})
    assert judged(harvested(str(tmp_path)))[1] is not None
    assert judged(harvested(str(tmp_path)), Belief(utc=False, suspects=suspects)) == (False, None)


@pytest.mark.parametrize("parent", [pa.array([-5, 7] * 200), pa.array([b"A", b"z"] * 200), pa.nulls(400)])
def test_values_of_another_type_class_are_not_held_against_pages(parent: pa.Array, tmp_path: Path) -> None:
    """A log without statistics leaves such a pair to the pages, whose keys have another form."""
    write_deltalake(str(tmp_path / "a"), pa.table({"c": ["Azzzzzzzzz", "B name"]}))
    (log,) = (tmp_path / "a" / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("\n".join(json.dumps(without_statistics(action)) for action in actions))
    pq.write_table(pa.table({"c": parent}), tmp_path / "b.parquet")
    assert judged(harvested(str(tmp_path)))[1] is None


def without_statistics(action: dict[str, Any]) -> dict[str, Any]:
    if "add" in action:
        del action["add"]["stats"]
    return action


def test_a_page_of_the_child_is_a_witness(tmp_path: Path) -> None:
    """Least and greatest value of the child are the parent's, a value at the end of a page is not."""
    child = [*range(100), *range(1000, 1100), *range(5000, 5100)]
    parent = [n for n in child if n != 1000] * 3
    pq.write_table(
        pa.table({"c": child}),
        tmp_path / "a.parquet",
        use_dictionary=False,
        write_page_index=True,
        data_page_size=800,
        write_batch_size=100,
    )
    pq.write_table(pa.table({"c": parent}), tmp_path / "b.parquet")
    by_files, reason = judged(harvested(str(tmp_path)))
    assert not by_files
    assert reason is not None
    assert reason.low == reason.high == key_of(1000, pa.int64(), up=False)


def test_a_file_that_has_changed_gives_nothing(tmp_path: Path) -> None:
    sorted_with_gaps(tmp_path)
    harvests = harvested(str(tmp_path))
    with (tmp_path / "b.parquet").open("ab") as file:
        file.write(b"x")
    assert judged(harvests)[1] is None


def test_a_partition_value_rules_over_a_column_of_the_file(tmp_path: Path) -> None:
    for table, region, stored in (("a", "x", "y"), ("b", "x", "x")):
        folder = tmp_path / table / f"region={region}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"c": [1] * 100, "region": [stored] * 100}), folder / "part.parquet")
    options = TextOptions(csv_delimiter=None, csv_types="infer")
    harvests = {}
    for found in discover(str(tmp_path)).tables:
        try:
            harvests[found.table] = harvest_table(found, options, str(tmp_path))
        except Exception:  # noqa: BLE001 - a folder whose files contradict it fails
            return
    assert judged(harvests)[1] is None


@pytest.mark.parametrize("dtype", [pa.int64(), pa.float64(), pa.string(), pa.decimal128(22, 2), pa.timestamp("ns")])
def test_bounds_of_pages_that_lie_are_found_out(dtype: pa.DataType, tmp_path: Path) -> None:
    """The index is that of a file without one value, between two pages: its ends and NULLs are right."""
    values = [1000 * (n // 100) + n % 100 for n in range(1000)]
    lying = [n if n != 5005 else 5550 for n in values]
    texts = pa.types.is_string(dtype)
    child, honest, true = (
        pa.array([f"{n:06}" for n in own]) if texts else _numbers(own, dtype) for own in ([5550], values, lying)
    )
    pq.write_table(pa.table({"c": child}), tmp_path / "a.parquet")
    files = []
    for array in (honest, true):
        pq.write_table(
            pa.table({"c": array}),
            tmp_path / "b.parquet",
            use_dictionary=False,
            compression="none",
            write_page_index=True,
            data_page_size=800,
            write_batch_size=100,
        )
        facts = read_footer(str(tmp_path / "b.parquet")).facts.groups[0].chunks[0]
        files.append(((tmp_path / "b.parquet").read_bytes(), facts.index_offset or 0, facts.index_bytes or 0))
    (of_honest, start, size), (of_true, place, other_size) = files
    assert judged(harvested(str(tmp_path))) == (False, None)  # the true index
    assert size == other_size
    (tmp_path / "b.parquet").write_bytes(of_true[:place] + of_honest[start : start + size] + of_true[place + size :])
    assert judged(harvested(str(tmp_path))) == (False, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_rule, "CHECKED_BYTES", 0)
        assert judged(harvested(str(tmp_path)))[1] is not None


def _numbers(values: list[int], dtype: pa.DataType) -> pa.Array:
    array = pa.array(values, pa.int64())
    return array.cast(pa.timestamp("us")).cast(dtype) if pa.types.is_timestamp(dtype) else array.cast(dtype)


# ---- order of stored values


@given(dtype=st.sampled_from(PAGED_TYPES), data=st.data())
def test_keys_stand_where_their_values_do(dtype: pa.DataType, data: st.DataObject) -> None:
    """A column holds a value within the keys of two others exactly if it is not below the one nor above the other."""
    if pa.types.is_fixed_size_binary(dtype) or pa.types.is_boolean(dtype):
        return
    array = exact_array(data.draw(st.lists(values_of(dtype), min_size=3, max_size=3)), dtype)
    numbers = [n for n in _stored(array) if not (isinstance(n, float) and not math.isfinite(n))]
    if len(numbers) < 3:
        return
    (low, high), value = sorted(numbers[:2]), numbers[2]
    ends = key_of(low, dtype, up=False), key_of(high, dtype, up=True)
    first, last = first_at(ends[0], dtype), last_at(ends[1], dtype)
    if low <= value <= high:
        assert first <= value <= last
    elif not (pa.types.is_timestamp(dtype) and dtype.unit == "ns"):
        assert not first <= value <= last


def _stored(array: pa.Array) -> list[Any]:
    dtype = array.type
    if pa.types.is_timestamp(dtype):
        return list(array.cast(pa.int64()).to_pylist())
    if pa.types.is_date(dtype):
        return list(array.cast(pa.int32()).to_pylist())
    if pa.types.is_decimal(dtype):
        return [int(cell.scaleb(dtype.scale)) for cell in array.to_pylist()]
    return [cell.encode() if isinstance(cell, str) else cell for cell in array.to_pylist()]


# ---- damaged and hostile pages


def test_damaged_pages_say_nothing_or_the_truth(tmp_path: Path) -> None:
    """Bytes of pages and indexes are changed at random; nothing is raised, and no page takes more than its limit."""
    path = tmp_path / "b.parquet"
    values = {
        "s": [f"v{n % 9}" for n in range(400)],
        "i": [n % 7 for n in range(400)],
        "f": [n % 5 * 0.5 for n in range(400)],
    }
    dice = random.Random(7)
    for compression in ("none", "snappy", "zstd", "gzip"):
        pq.write_table(pa.table(values), path, compression=compression, write_page_index=True, data_page_size=64)
        whole = path.read_bytes()
        footer = read_footer(str(path))
        wanted = [Wanted(column=column, dictionary=True, index=True) for column in footer.layout.columns]
        for dictionary in (True, False):
            asked = [Wanted(column=one.column, dictionary=dictionary, index=True) for one in wanted]
            for _ in range(60):
                damaged = bytearray(whole)
                for _ in range(dice.randint(1, 6)):
                    damaged[dice.randrange(4, footer.data_end)] = dice.randrange(256)
                path.write_bytes(damaged)
                found, _ = chunk_spans(str(path), footer, asked, 1 << 20)
                assert len(found) == len(asked)


def test_a_page_that_claims_to_be_huge_takes_no_memory() -> None:
    header = (
        bytes([0x15, 0x04, 0x15]) + _varint(2 * (MOST_BYTES + 1)) + bytes([0x15, 0x08, 0x4C, 0x15, 0x02, 0x15, 0, 0, 0])
    )
    claims_many = (
        bytes([0x15, 0x04, 0x15, 0x08, 0x15, 0x08, 0x4C, 0x15]) + _varint(2 * (1 << 30)) + bytes([0x15, 0, 0, 0])
    )
    tracemalloc.start()
    for data in (header + b"\0" * 4, claims_many + b"\0" * 4):
        assert dictionary_values(data, 6, "BYTE_ARRAY", 0, pa.string()) is None
        assert dictionary_values(data, 0, "BYTE_ARRAY", 0, pa.string()) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_the_dictionaries_of_many_row_groups_take_bounded_memory(tmp_path: Path) -> None:
    """Each of eight takes 15 kB in the file and more than a megabyte in memory."""
    values = [f"{n:08x}-value" for n in range(8 * 24_000)]
    groups = [values[start : start + 24_000] * 3 for start in range(0, len(values), 24_000)]
    table = pa.table({"c": [cell for group in groups for cell in group]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=72_000, compression="zstd")
    footer = read_footer(str(tmp_path / "a.parquet"))
    wanted = [Wanted(column=column, dictionary=True, index=True) for column in footer.layout.columns]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MOST_HELD_BYTES", 1 << 20)
        tracemalloc.start()
        spans, read = chunk_spans(str(tmp_path / "a.parquet"), footer, wanted, 1 << 30)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert spans == [[]]
    assert peak < 1 << 23
    assert read < 1 << 18
    (whole,), _ = chunk_spans(str(tmp_path / "a.parquet"), footer, wanted, 1 << 30)
    assert sum(len(chunk.spans.lows) for chunk in whole) == len(values)


def _varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def test_a_wrong_checksum_is_no_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "b.parquet"
    pq.write_table(pa.table({"c": [1, 3] * 200}), path, compression="none", write_page_checksum=True)
    data, footer = bytearray(path.read_bytes()), read_footer(str(path))
    (column,) = footer.layout.columns
    wanted = [Wanted(column=column, dictionary=True, index=False)]
    ((spans,),), _ = chunk_spans(str(path), footer, wanted, 1 << 20)
    assert (spans.source, list(spans.spans.lows)) == (Source.DICTIONARY, [1, 3])
    data[data.index((3).to_bytes(8, "little"))] = 9
    path.write_bytes(data)
    assert chunk_spans(str(path), footer, wanted, 1 << 20)[0] == [[]]


def test_a_list_of_encodings_of_another_type_is_no_list(tmp_path: Path) -> None:
    """It is declared to hold text, and its bytes are a whole structure to readers that do not look at types."""
    structure = bytes([0, 0x15, 0, 0x15, 2, 0x18, 13, *b"thirteen char", 0])
    pq.write_table(pa.table({"c": [1, 2]}), tmp_path / "a.parquet")

    def change(chunk: Struct, _statistics: Struct) -> None:
        chunk[_ENCODING_STATS] = (_LIST, (BINARY, [structure]))

    forge(tmp_path / "a.parquet", change)
    (facts,) = read_footer(str(tmp_path / "a.parquet")).facts.groups[0].chunks
    assert facts.encodings is None
    assert facts.dictionary_offset == 4
