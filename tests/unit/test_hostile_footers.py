"""Footers that say anything at all: a file is harvested and scanned, or its table fails; the process goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.forgery import BINARY, I64, STRUCT, Struct, forged

_I16, _I32, _LIST = 4, 5, 9
_NUMBERS = {_I16: 15, _I32: 31, I64: 63}
_SIZE_STATISTICS = 16

HARVEST = """
import sys
import pyarrow as pa
from r2d2.errors import TableFault
from r2d2.model import leaves
from r2d2.scan.duck import KernelLimits
from r2d2.scan.files import stamp
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import ColumnSet, ScanFile, ScanItem
from r2d2.scan.footer.read import read_footer
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.rowhash import RowHasher

for path in sys.argv[2:]:
    print(path, flush=True)
    try:
        footer = read_footer(path)
        footer_claims(footer, 0)
    except TableFault:
        continue
    if sys.argv[1] == "scan":
        item = ScanItem(
            table=0,
            files=(ScanFile(stamp=stamp(path), data_uri=path),),
            partition_schema=pa.schema([]),
            column_sets=(ColumnSet(id=0, paths=tuple(leaf for leaf, _ in leaves(footer.schema))),),
        )
        list(scan_items([item], RowHasher(lane_keys=(1, 2)), KernelLimits()))
print("end")
"""


def originals(folder: Path) -> list[bytes]:
    rows = 100
    columns = {
        "i": list(range(rows)),
        "s": [f"v{n % 7}" for n in range(rows)],
        "d": pa.array([Decimal(n) / 4 for n in range(rows)], pa.decimal128(30, 2)),
        "f": [n * 0.5 if n % 5 else None for n in range(rows)],
        "b": [n % 2 == 0 for n in range(rows)],
        "t": pa.array(range(rows), pa.timestamp("us")),
        "n": [{"x": n, "y": [n, None]} for n in range(rows)],
    }
    path = folder / "original.parquet"
    found = []
    for options in ({"row_group_size": 60}, {"use_dictionary": False, "use_deprecated_int96_timestamps": True}):
        pq.write_table(pa.table(columns), path, **options)
        found.append(path.read_bytes())
    return found


def containers(kind: int, value: Any) -> Iterator[tuple[int, Any]]:
    """The structs and lists of a footer that hold something, with their types."""
    if kind == STRUCT and value:
        yield kind, value
        for own, inner in value.values():
            yield from containers(own, inner)
    if kind == _LIST and value[1]:
        yield kind, value
        for inner in value[1]:
            yield from containers(value[0], inner)


def change_struct(struct: Struct, draw: random.Random) -> None:
    number = draw.choice(list(struct))
    match draw.randrange(4):
        case 0:
            del struct[number]
        case 1:
            struct[draw.randint(1, 16)] = struct[number]
        case _:
            kind, value = struct[number]
            struct[number] = (kind, other_than(kind, value, draw))


def change_list(values: list[Any], draw: random.Random) -> None:
    match draw.randrange(3):
        case 0:
            draw.shuffle(values)
        case 1:
            values.pop()
        case _:
            values.append(values[0])


def other_than(kind: int, value: Any, draw: random.Random) -> Any:
    if kind in _NUMBERS:
        top = 1 << _NUMBERS[kind]
        return draw.choice([0, 1, -1, value + 1, value - 1, min(2**31 - 1, top - 1), top - 1, -top]) % top
    if kind == BINARY:
        return draw.choice([b"", value[:-1], value + b"\0", b"\xff" * 8, b"x" * 300])
    if kind == _LIST:
        return (value[0], value[1][: draw.randint(0, len(value[1]))])
    return value


def change_footer(footer: Struct, draw: random.Random) -> None:
    for _ in range(draw.choice([1, 1, 2, 4])):
        kind, value = draw.choice(list(containers(STRUCT, footer)))
        if kind == STRUCT:
            change_struct(value, draw)
        else:
            change_list(value[1], draw)


def check_that_the_process_ends_normally(paths: list[Path], depth: str) -> None:
    command = [sys.executable, "-c", HARVEST, depth, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    reached = done.stdout.splitlines()
    assert done.returncode == 0, f"ended by {done.returncode} over {reached[-1:]}: {done.stderr[-800:]}"
    assert reached == [*map(str, paths), "end"]


@pytest.mark.parametrize(("depth", "files"), [("harvest", 400), ("scan", 60)])
def test_no_footer_ends_the_process(tmp_path: Path, depth: str, files: int) -> None:
    draw = random.Random(20)
    sources = originals(tmp_path)
    paths = [tmp_path / f"{n}.parquet" for n in range(files)]
    for path in paths:
        path.write_bytes(forged(draw.choice(sources), lambda footer: change_footer(footer, draw)))
    check_that_the_process_ends_normally(paths, depth)


def test_neither_short_bounds_nor_wrong_histograms_end_the_process(tmp_path: Path) -> None:
    """pyarrow ends the process when it is asked for such a column chunk, or for its statistics."""
    schema = pa.schema([pa.field("i", pa.int64())])
    paths = [tmp_path / "bounds.parquet", tmp_path / "histogram.parquet"]
    for path, number, field in (
        (paths[0], 12, (STRUCT, {5: (BINARY, b""), 6: (BINARY, b"")})),
        (paths[1], _SIZE_STATISTICS, (STRUCT, {3: (_LIST, (I64, [1, 2, 3, 4]))})),
    ):
        pq.write_table(pa.table({"i": [1]}, schema=schema), path)

        def change(footer: Struct, number: int = number, field: tuple[int, Any] = field) -> None:
            footer[4][1][1][0][1][1][1][0][3][1][number] = field

        path.write_bytes(forged(path.read_bytes(), change))
    check_that_the_process_ends_normally(paths, "scan")
