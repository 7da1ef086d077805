"""Makers of small lakes in which containment is common, and a brute-force oracle of the edges an audit must find."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import random
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import write_deltalake

from r2d2.model import LeafPath, fold_path, is_case_sensitive, leaves
from r2d2.report.results import leaf_name

EdgeFact = tuple[str, str, str, bool, bool, int, int]
"""Child, parent, relation, bag, set, child rows, parent rows."""

Lake = Mapping[str, pa.Table]
"""Table ids with what each table means."""


# ---- the oracle: values as Python objects that are equal exactly where the contract says so


def canonical(value: Any, dtype: pa.DataType) -> Any:
    """A hashable object for a value of an Arrow type; equal values of the contract give equal objects."""
    t = pa.types
    if value is None:
        return None
    if t.is_boolean(dtype):
        return "boolean", value
    if isinstance(value, int | float | Decimal):
        return "number", Fraction(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str | bytes):
        return ("string", value.encode()) if isinstance(value, str) else ("binary", value)
    if isinstance(value, dt.date):
        return _canonical_time(value)
    if t.is_map(dtype):
        entries = [(canonical(k, dtype.key_type), canonical(v, dtype.item_type)) for k, v in value]
        return "map", frozenset(Counter(entries).items())
    if t.is_struct(dtype):
        return "struct", frozenset((f.name.lower(), canonical(value[f.name], f.type)) for f in dtype)
    return "array", tuple(canonical(item, dtype.value_type) for item in value)


def _canonical_time(value: dt.date) -> Any:
    if not isinstance(value, dt.datetime):
        return "wall clock", dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001
    return ("wall clock", value) if value.tzinfo is None else ("instant", value.astimezone(dt.UTC))


def leaf_column(table: pa.Table, path: LeafPath) -> list[Any]:
    """Canonical values of one leaf, each with the number of structs that are there above it."""
    field = table.schema.field(path[0])
    return [_leaf(value, field.type, path[1:], 0) for value in table[path[0]].to_pylist()]


def _leaf(value: Any, dtype: pa.DataType, path: LeafPath, depth: int) -> Any:
    if not path or value is None:
        return depth, canonical(value, dtype) if not path else None
    return _leaf(value[path[0]], dtype.field(path[0]).type, path[1:], depth + 1)


def expected_edges(lake: Lake, *, exact_names: bool = False) -> set[EdgeFact]:
    """All containments of a lake, by comparing all rows of all pairs whose columns fit."""
    columns = {
        name: {path: leaf_column(table, path) for path, _ in leaves(table.schema)} for name, table in lake.items()
    }
    found = set()
    for child, parent in permutations(lake, 2):
        exact = exact_names or any(is_case_sensitive(list(columns[table])) for table in (child, parent))
        fact = _edge(columns[child], columns[parent], lake[child].num_rows, lake[parent].num_rows, exact=exact)
        if fact is not None:
            found.add((child, parent, *fact))
    return found


def _edge(
    child: Mapping[LeafPath, list[Any]],
    parent: Mapping[LeafPath, list[Any]],
    child_rows: int,
    parent_rows: int,
    *,
    exact: bool,
) -> tuple[str, bool, bool, int, int] | None:
    key: Callable[[LeafPath], LeafPath] = (lambda path: path) if exact else fold_path
    of_parent = {key(path): values for path, values in parent.items()}
    if not child or not all(key(path) in of_parent for path in child):
        return None
    child_bag = Counter(zip(*child.values(), strict=True))
    parent_bag = Counter(zip(*[of_parent[key(path)] for path in child], strict=True))
    if not child_bag.keys() <= parent_bag.keys():
        return None
    bag = child_bag <= parent_bag
    equal = bag and len(child) == len(parent) and child_rows == parent_rows
    return "equal" if equal else "contained", bag, True, child_rows, parent_rows


def on_utc_clock(table: pa.Table) -> pa.Table:
    """The table with its dates and zone-less timestamps as instants."""
    for position, field in enumerate(table.schema):
        column = table[position].cast(pa.timestamp("us")) if pa.types.is_date(field.type) else table[position]
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            table = table.set_column(position, field.name, pc.assume_timezone(column, "UTC"))
    return table


def edge_facts(edges: pa.Table) -> set[EdgeFact]:
    """The rows of `edges.parquet` in the oracle's form."""
    names = ("child", "parent", "relation", "bag", "set", "child_rows", "parent_rows")
    return set(zip(*[edges[name].to_pylist() for name in names], strict=True))


def compared_columns(table: pa.Table) -> set[str]:
    """What the column `columns` of an edge lists for a child, in any order."""
    return {leaf_name(path) for path, _ in leaves(table.schema)}


# ---- values and parents

TEXTS = (
    "",
    "a",
    "A",
    "b",
    "é",
    "e\u0301",
    "\U0001f600",
    "line\nbreak",
    "quote'\"",
    "x" * 70,
    "x" * 69 + "y",
    "\U0010ffff" * 20,
)
INTEGERS = (0, 1, 2, 3, 7, -1, 255, 2**31 - 1, -(2**31))
LONGS = (*INTEGERS, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1.0, 0.5, 0.1, -2.25, 1e300, 2.0**53, math.nan, math.inf, -math.inf)
DAYS = (dt.date(1970, 1, 1), dt.date(2024, 2, 29), dt.date(1600, 1, 1), dt.date(9999, 12, 31))
WALLS = (*[dt.datetime(d.year, d.month, d.day) for d in DAYS], dt.datetime(2024, 2, 29, 12, 30, 0, 1))  # noqa: DTZ001
POINT = pa.struct([("x", pa.int32()), ("label", pa.string())])

Maker = Callable[[random.Random], Any]
KINDS: dict[str, tuple[pa.DataType, Maker]] = {
    "i": (pa.int32(), lambda r: r.choice(INTEGERS)),
    "l": (pa.int64(), lambda r: r.choice(LONGS)),
    "f": (pa.float64(), lambda r: r.choice(REALS)),
    "g": (pa.float32(), lambda r: r.choice((0.0, -0.0, 0.5, 1.0, 3.0, math.nan))),
    "m": (pa.decimal128(12, 2), lambda r: Decimal(r.randrange(-300, 300, 25)) / 100),
    "t": (pa.string(), lambda r: r.choice(TEXTS)),
    "x": (pa.binary(), lambda r: r.choice(TEXTS).encode() + b"\xff" * r.randrange(3)),
    "b": (pa.bool_(), lambda r: r.random() < 0.5),
    "d": (pa.date32(), lambda r: r.choice(DAYS)),
    "w": (pa.timestamp("us"), lambda r: r.choice(WALLS)),
    "z": (pa.timestamp("us", tz="UTC"), lambda r: r.choice(WALLS).replace(tzinfo=dt.UTC)),
    "list": (pa.list_(pa.int32()), lambda r: [r.choice((None, 0, 1, 2)) for _ in range(r.randrange(4))]),
    "point": (POINT, lambda r: {"x": r.choice((None, 1, 2)), "label": r.choice((None, "", "p"))}),
    "deep": (pa.list_(POINT), lambda r: [r.choice((None, {"x": 1, "label": None})) for _ in range(r.randrange(3))]),
    "map": (
        pa.map_(pa.string(), pa.int32()),
        lambda r: [(k, r.choice((None, 1))) for k in r.sample(["k", "é", ""], r.randrange(3))],
    ),
    "void": (pa.int64(), lambda _: None),
}  # fmt: skip
NAMES = {"t": "Text", "i": "id"}


def random_table(rng: random.Random, *, rows: int | None = None, kinds: Sequence[str] | None = None) -> pa.Table:
    """A table with an `id` and some columns of other kinds, every third of which has NULLs."""
    rows = rng.randrange(1, 40) if rows is None else rows
    kinds = ["i", *rng.sample([kind for kind in KINDS if kind != "i"], rng.randrange(2, 6))] if kinds is None else kinds
    columns = {}
    for kind in kinds:
        dtype, make = KINDS[kind]
        gaps = rng.choice((0.0, 0.0, 0.3))
        values = [None if rng.random() < gaps else make(rng) for _ in range(rows)]
        columns[NAMES.get(kind, kind)] = pa.array(values, dtype)
    return pa.table(columns)


# ---- from parents to children, and to tables that only look like children


def subset(rng: random.Random, table: pa.Table) -> pa.Table:
    """Some of the rows, maybe none."""
    return table.filter(pa.array([rng.random() < 0.6 for _ in range(table.num_rows)], pa.bool_()))


def projected(rng: random.Random, table: pa.Table) -> pa.Table:
    """Some of the columns, at least one."""
    return table.select(rng.sample(table.column_names, rng.randint(1, table.num_columns)))


def duplicated(rng: random.Random, table: pa.Table) -> pa.Table:
    """Some rows once more, so that only set containment may hold."""
    more = [i for i in range(table.num_rows) if rng.random() < 0.3]
    return pa.concat_tables([table, table.take(pa.array(more, pa.int64()))])


def shuffled(rng: random.Random, table: pa.Table) -> pa.Table:
    """Rows and columns in another order."""
    names = rng.sample(table.column_names, table.num_columns)
    return table.select(names).take(pa.array(rng.sample(range(table.num_rows), table.num_rows), pa.int64()))


def retyped(rng: random.Random, table: pa.Table) -> pa.Table:
    """Each column in another type that holds its values, where there is one."""
    for position, field in enumerate(table.schema):
        if str(field.type) in _WIDER:
            wider = rng.choice(_WIDER[str(field.type)])
            table = table.set_column(position, field.name, table[position].cast(wider))
        if table[position].null_count == table.num_rows and not pa.types.is_nested(field.type):
            dtype = rng.choice((pa.string(), pa.date32(), pa.float64()))
            table = table.set_column(position, field.name, pa.nulls(table.num_rows, dtype))
    return table


_WIDER = {
    "int32": [pa.int64(), pa.float64(), pa.decimal128(12, 0), pa.decimal128(38, 10)],
    "int64": [pa.decimal128(20, 0), pa.decimal128(38, 2)],
    "float": [pa.float64()],
    "decimal128(12, 2)": [pa.decimal128(18, 4), pa.decimal128(38, 20)],
    "date32[day]": [pa.timestamp("us"), pa.timestamp("ms")],
    "string": [pa.large_string()],
}


def recased(_rng: random.Random, table: pa.Table) -> pa.Table:
    """The same with names in the other case."""
    return table.rename_columns([name.swapcase() for name in table.column_names])


def near_miss(rng: random.Random, table: pa.Table) -> pa.Table:
    """One value changed to one that is easily taken for it, or a whole column to a look-alike type."""
    position = rng.randrange(table.num_columns)
    field = table.schema.field(position)
    look_alike = _LOOK_ALIKES.get(str(field.type))
    if look_alike is not None and rng.random() < 0.5:
        return table.set_column(position, field.name, look_alike(table[position]))
    values = table[position].to_pylist()
    if values:
        row = rng.randrange(len(values))
        values[row] = None if values[row] is not None else KINDS[_kind_of(field)][1](rng)
    return table.set_column(position, field.name, pa.array(values, field.type))


_LOOK_ALIKES: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    "int32": lambda column: column.cast(pa.string()),
    "int64": lambda column: pa.array([None if v is None else float(v) for v in column.to_pylist()], pa.float64()),
    "timestamp[us]": lambda column: pc.assume_timezone(column, "UTC"),
    "string": lambda column: column.cast(pa.binary()),
    "bool": lambda column: column.cast(pa.int32()),
    "float": lambda column: pa.array([None if v is None else v + 1e-17 for v in column.to_pylist()], pa.float64()),
}


def _kind_of(field: pa.Field) -> str:
    return next((kind for kind, (dtype, _) in KINDS.items() if dtype == field.type and kind != "void"), "void")


STEPS = (subset, projected, duplicated, shuffled, retyped, recased, near_miss)


# ---- writers: each returns what the written table means


@dataclass(frozen=True, kw_only=True)
class Writer:
    """How a table reaches the lake.

    Attributes:
        suffix: Ending of the table's id; none for folders.
        can_write: Whether it writes such a table so that its meaning is known.
        write: Writes the table at a path; returns what then lies there.
    """

    suffix: str
    can_write: Callable[[pa.Table], bool]
    write: Callable[[random.Random, pa.Table, Path], pa.Table]


def _with_pyarrow(rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    pq.write_table(
        table,
        path,
        row_group_size=rng.choice((1, 3, 7, 1000)),
        version=rng.choice(("2.4", "2.6")),
        use_dictionary=rng.random() < 0.5,
        write_statistics=rng.random() < 0.8,
        data_page_version=rng.choice(("1.0", "2.0")),
        compression=rng.choice(("none", "snappy", "zstd")),
        store_schema=rng.random() < 0.5,
    )
    return table


def _with_duckdb(rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows_to_write", table)
        connection.table("rows_to_write").to_parquet(str(path), row_group_size=rng.choice((2048, 4096)))
    return table


def _with_polars(_rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    pl.from_arrow(table).write_parquet(path)
    return table


def _with_fastparquet(_rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastparquet.write(str(path), table.to_pandas(), write_index=False)
    return pq.read_table(path)  # it stores NaN as NULL: what lies there counts


def _with_deltalake(rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    cut = rng.randrange(table.num_rows + 1)
    write_deltalake(path, table.slice(0, cut))
    write_deltalake(path, table.slice(cut), mode="append")
    return table


def _as_folder(rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    path.mkdir()
    cuts = sorted(rng.randrange(table.num_rows + 1) for _ in range(2))
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, table.num_rows], strict=True)):
        _with_pyarrow(rng, table.slice(start, end - start), path / f"part {number}.parquet")
    return table


def _as_hive(rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    stored = table.drop_columns(["id"])
    ids = table["id"].to_pylist()
    for value in dict.fromkeys(ids):
        folder = path / ("id=__HIVE_DEFAULT_PARTITION__" if value is None else f"id={value}")
        folder.mkdir(parents=True)
        _with_pyarrow(rng, stored.filter(pa.array([own == value for own in ids])), folder / "0.parquet")
    return table


def _as_csv(_rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    """Texts are quoted, so that an empty one differs from NULL, and start with a letter, so that none looks typed."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(table.column_names)
    for row in zip(*[column.to_pylist() for column in table.columns], strict=True):
        cells = ["" if v is None else '"' + v.replace('"', '""') + '"' if isinstance(v, str) else str(v) for v in row]
        sink.write(",".join(cells) + "\n")
    path.write_bytes(sink.getvalue().encode())
    return table


def _as_json(_rng: random.Random, table: pa.Table, path: Path) -> pa.Table:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()), encoding="utf-8")
    return table


def _only(*types: str) -> Callable[[pa.Table], bool]:
    return lambda table: {str(field.type) for field in table.schema} <= set(types)


def _csv_fits(table: pa.Table) -> bool:
    """Two columns at least, as a lone NULL would be a blank line; no text column that reads as another type."""
    return (
        table.num_columns > 1
        and _only("int32", "int64", "date32[day]", "string")(table)
        and all("a" in column.to_pylist() for column in table.columns if pa.types.is_string(column.type))
    )


def _json_fits(table: pa.Table) -> bool:
    finite = all(
        v is None or math.isfinite(v) for c in table.columns if pa.types.is_floating(c.type) for v in c.to_pylist()
    )
    return (
        table.num_rows > 0
        and finite
        and _only("int32", "int64", "double", "string", "bool", "list<element: int32>")(table)
    )


def _holds(*checks: Callable[[pa.DataType], bool]) -> Callable[[pa.Table], bool]:
    return lambda table: any(check(dtype) for dtype in _all_types(table.schema) for check in checks)


def _all_types(fields: Any) -> list[pa.DataType]:
    found = []
    for field in fields:
        found.append(field.type)
        if pa.types.is_nested(field.type):
            found += _all_types([field.type.field(i) for i in range(field.type.num_fields)])
    return found


def _fits_fastparquet(table: pa.Table) -> bool:
    return table.num_rows > 0 and _only("int32", "int64", "double", "string")(table)


WRITERS: dict[str, Writer] = {
    "pyarrow": Writer(suffix=".parquet", can_write=lambda _: True, write=_with_pyarrow),
    "duckdb": Writer(suffix=".parquet", can_write=lambda _: True, write=_with_duckdb),
    "polars": Writer(suffix=".parquet", can_write=lambda table: not _holds(pa.types.is_map)(table), write=_with_polars),
    "fastparquet": Writer(suffix=".parquet", can_write=_fits_fastparquet, write=_with_fastparquet),
    "deltalake": Writer(suffix="", can_write=lambda table: not _holds(pa.types.is_null)(table), write=_with_deltalake),
    "folder": Writer(suffix="", can_write=lambda _: True, write=_as_folder),
    "hive": Writer(
        suffix="",
        can_write=lambda table: (
            table.num_rows > 0
            and table.num_columns > 1
            and "id" in table.column_names
            and pa.types.is_integer(table.schema.field("id").type)
        ),
        write=_as_hive,
    ),
    "csv": Writer(suffix=".csv", can_write=_csv_fits, write=_as_csv),
    "json": Writer(suffix=".jsonl", can_write=_json_fits, write=_as_json),
}


# ---- lakes


def random_lake(rng: random.Random, tables: int) -> list[pa.Table]:
    """Parents, tables drawn from them in a few steps, and unrelated ones."""
    made = [random_table(rng), random_table(rng), random_table(rng, kinds=("i", "l", "t", "d"))]
    while len(made) < tables - 1:
        table = rng.choice(made)
        for step in rng.sample(STEPS, rng.randint(1, 3)):
            table = step(rng, table)
        made.append(table)
    return [*made, retyped(rng, made[0].slice(0, 0))]


def write_lake(rng: random.Random, tables: Sequence[pa.Table], lake: Path, *, writers: Sequence[str] = ()) -> Lake:
    """Write each table with a writer drawn from those that can; which one is part of its id."""
    lake.mkdir(parents=True)
    meaning = {}
    for number, table in enumerate(tables):
        name = rng.choice([n for n, w in WRITERS.items() if (not writers or n in writers) and w.can_write(table)])
        table_id = f"{number:02}_{name}{WRITERS[name].suffix}"
        meaning[table_id] = WRITERS[name].write(rng, table, lake / table_id)
    return meaning
