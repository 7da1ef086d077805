"""Random lakes in which most tables nearly contain one another, by every writer, and what really lies in each file."""

from __future__ import annotations

import datetime as dt
import random
import string
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog

from r2d2.lake.discovery import discover
from r2d2.lake.harvest import harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Fragment, Harvest
from tests.integration.audit_helpers import QUICK_SPARK, classic_engine

INSTANT = pa.timestamp("us", tz="UTC")
NAN = "NaN"
"""Stands for every NaN, which equals itself and has no place in the order."""

SPARK_FORMATS = {"parquet-mr": "parquet", "delta-spark": "delta"}
"""The writers that need Spark, and what it calls their formats."""

_SPARK_SETTINGS = {
    **QUICK_SPARK,
    "spark.sql.timestampType": "TIMESTAMP_NTZ",  # that of Arrow's timestamps without a zone
}
_DAY_US = 86_400_000_000
_MOST_PARTITIONS = 8

Draw = Callable[[random.Random], Any]


# ---- tables


def _double(rng: random.Random) -> float:
    return rng.choice((0.0, -0.0, 2.0**53, 1e300)) if rng.random() < 0.1 else rng.randint(-400, 400) / 8


def _odd_double(rng: random.Random) -> float:
    return float(rng.choice(("nan", "inf", "-inf"))) if rng.random() < 0.1 else _double(rng)


def _moment(rng: random.Random) -> dt.datetime:
    return dt.datetime(2000, 1, 1) + dt.timedelta(microseconds=rng.randint(-(10**15), 10**15))  # noqa: DTZ001


def _letters(rng: random.Random, alphabet: str, most: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))


COLUMNS: dict[str, tuple[pa.DataType, Draw]] = {
    "i": (pa.int32(), lambda r: r.randint(-60, 60)),
    "few": (pa.int32(), lambda r: r.randint(0, _MOST_PARTITIONS - 3)),
    "l": (pa.int64(), lambda r: r.choice((2**53, 2**53 + 1)) if r.random() < 0.1 else r.randint(-(10**9), 10**9)),
    "f": (pa.float64(), _double),
    "g": (pa.float64(), _odd_double),
    "m": (pa.decimal128(12, 2), lambda r: Decimal(r.randint(-9999, 9999)).scaleb(-2)),
    "n": (pa.decimal128(25, 4), lambda r: Decimal(r.randint(-(10**22), 10**22)).scaleb(-4)),
    "d": (pa.date32(), lambda r: dt.date(1990, 1, 1) + dt.timedelta(days=r.randint(-4000, 4000))),
    "w": (pa.timestamp("us"), _moment),
    "z": (INSTANT, lambda r: dt.datetime(1969, 12, 31, 23, 59, 59, r.randint(990_000, 999_999), tzinfo=dt.UTC)),
    "s": (pa.string(), lambda r: _letters(r, string.ascii_letters, 6)),
    "long": (pa.string(), lambda r: "common/prefix/" * 5 + _letters(r, "abcdefgh", 4)),
    "u": (pa.string(), lambda r: _letters(r, "aé\u6c34\U0001f600~", 50)),
    "b": (pa.bool_(), lambda r: r.random() < 0.5),
}


def random_table(rng: random.Random) -> pa.Table:
    """Some columns, every third with NULLs, now and then one of nothing else."""
    rows = rng.randint(5, 50)
    columns = {}
    for name in rng.sample(list(COLUMNS), rng.randint(3, 6)):
        dtype, draw = COLUMNS[name]
        gaps = rng.choice((0.0, 0.0, 0.0, 0.0, 0.2, 0.2, 1.0))
        columns[name] = pa.array([None if rng.random() < gaps else draw(rng) for _ in range(rows)], dtype)
    return pa.table(columns)


def sampled(rng: random.Random, table: pa.Table) -> pa.Table:
    """Some of the rows, some of them twice, in another order."""
    rows = range(table.num_rows)
    return table.take(pa.array(rng.choices(rows, k=rng.randint(0, table.num_rows)) if rows else [], pa.int64()))


def reordered(rng: random.Random, table: pa.Table) -> pa.Table:
    """Most of the columns, or one of them, in another order."""
    most = rng.randint(max(1, table.num_columns - 2), table.num_columns)
    return table.select(rng.sample(table.column_names, 1 if rng.random() < 0.25 else most))


def near_miss(rng: random.Random, table: pa.Table) -> pa.Table:
    """One value of one column changed to another one, to NULL or from it."""
    position = rng.randrange(table.num_columns)
    field, values = table.schema.field(position), table[position].to_pylist()
    if values:
        values[rng.randrange(len(values))] = None if rng.random() < 0.2 else COLUMNS[field.name][1](rng)
    return table.set_column(position, field, pa.array(values, field.type))


STEPS = (sampled, reordered, near_miss)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A table to be written.

    Attributes:
        writer: Name of its writer, which starts its folder's name.
        parts: Its rows, a file or commit for each part.
        partition: A column whose values name folders.
        seed: Of the writer's own choices.
    """

    number: int
    writer: str
    parts: tuple[pa.Table, ...]
    partition: str | None
    seed: int

    @property
    def folder(self) -> str:
        """Id of the table in its lake."""
        return f"{self.writer}-{self.number:03}"


def plans(seed: int, tables: int, writers: Sequence[str]) -> list[Plan]:
    """A lake as a function of its seed: a few tables, and others drawn from them, each by one of the writers."""
    rng = random.Random(seed)
    made = [random_table(rng) for _ in range(max(1, tables // 8))]
    while len(made) < tables:
        table = rng.choice(made)
        for step in rng.sample(STEPS, rng.randint(1, len(STEPS))):
            table = step(rng, table)
        made.append(table)
    return [_plan(rng, number, table, writers) for number, table in enumerate(made)]


def _plan(rng: random.Random, number: int, table: pa.Table, writers: Sequence[str]) -> Plan:
    writer = rng.choice([name for name in writers if _can_write(name, table)])
    parts = tuple(_parts(rng, table)) if writer != "fastparquet" else (table,)
    may_part = writer in _PARTITIONING and table.num_columns > 1 and table.num_rows > 0 and "few" in table.column_names
    partition = "few" if may_part and table["few"].null_count < table.num_rows and rng.random() < 0.7 else None
    return Plan(number=number, writer=writer, parts=parts, partition=partition, seed=rng.getrandbits(32))


_PARTITIONING = ("pyarrow", "delta-rs", *SPARK_FORMATS)


def _can_write(writer: str, table: pa.Table) -> bool:
    # fastparquet takes no dates, and turns decimals into doubles
    dropped = (pa.date32(), pa.decimal128(12, 2), pa.decimal128(25, 4))
    return writer != "fastparquet" or (table.num_rows > 0 and not any(f.type in dropped for f in table.schema))


def _parts(rng: random.Random, table: pa.Table) -> list[pa.Table]:
    """One to three parts: any rows in each, or those between two values of a column."""
    if table.num_rows and rng.random() < 0.6:
        table = table.sort_by(rng.choice(table.column_names))
    cuts = sorted(rng.randint(0, table.num_rows) for _ in range(rng.choice((0, 0, 1, 2))))
    return [table.slice(start, end - start) for start, end in zip([0, *cuts], [*cuts, table.num_rows], strict=True)]


# ---- writers


def write(plan: Plan, lake: Path) -> None:
    """Write a table that needs no Spark."""
    _WRITERS[plan.writer](plan, lake / plan.folder, random.Random(plan.seed))


def write_by_spark(lake: str, planned: Sequence[Plan]) -> None:
    """Write tables that need Spark, all in one session; for a process of its own."""
    with classic_engine() as engine, ThreadPoolExecutor(4) as pool:
        session = engine.spark.newSession()
        for name, value in _SPARK_SETTINGS.items():
            session.conf.set(name, value)
        list(pool.map(lambda plan: _by_spark(session, plan, Path(lake, plan.folder)), planned))


def _by_spark(session: Any, plan: Plan, folder: Path) -> None:
    for part in plan.parts:
        writer = session.createDataFrame(part).coalesce(1).write.mode("append").format(SPARK_FORMATS[plan.writer])
        (writer.partitionBy(plan.partition) if plan.partition else writer).save(str(folder))


def _by_pyarrow(plan: Plan, folder: Path, rng: random.Random) -> None:
    for number, part in enumerate(plan.parts):
        for place, rows in _in_folders(part, plan.partition).items():
            (folder / place).mkdir(parents=True, exist_ok=True)
            size = rng.choice((3, 10, 1000))
            pq.write_table(rows, folder / place / f"{number}.parquet", row_group_size=size)


def _in_folders(table: pa.Table, partition: str | None) -> dict[str, pa.Table]:
    if partition is None:
        return {"": table}
    values, rest = table[partition].to_pylist(), table.drop_columns([partition])
    return {
        f"{partition}={'__HIVE_DEFAULT_PARTITION__' if value is None else value}": rest.filter(
            pa.array([own == value for own in values])
        )
        for value in set(values)
    }


def _by_duckdb(plan: Plan, folder: Path, _rng: random.Random) -> None:
    folder.mkdir()
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for number, part in enumerate(plan.parts):
            connection.from_arrow(part).write_parquet(str(folder / f"{number}.parquet"))


def _by_polars(plan: Plan, folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    for number, part in enumerate(plan.parts):
        frame = pl.DataFrame(pl.from_arrow(part))
        frame.write_parquet(folder / f"{number}.parquet", row_group_size=rng.choice((3, 10, 1000)))


def _by_fastparquet(plan: Plan, folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    (part,) = plan.parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, size = str(folder / "0.parquet"), rng.choice((3, 10, 1000))
        fastparquet.write(path, part.to_pandas(), write_index=False, row_group_offsets=size)


def _by_delta_rs(plan: Plan, folder: Path, _rng: random.Random) -> None:
    for part in plan.parts:
        write_deltalake(folder, part, mode="append", partition_by=[plan.partition] if plan.partition else None)


def _by_pyiceberg(plan: Plan, folder: Path, _rng: random.Random) -> None:
    with InMemoryCatalog("c", warehouse=f"file://{folder.parent}") as catalog:
        catalog.create_namespace("n")
        table = catalog.create_table("n.t", schema=plan.parts[0].schema, location=f"file://{folder}")
        for part in plan.parts:
            table.append(part)


_WRITERS: dict[str, Callable[[Plan, Path, random.Random], None]] = {
    "pyarrow": _by_pyarrow,
    "duckdb": _by_duckdb,
    "polars": _by_polars,
    "fastparquet": _by_fastparquet,
    "delta-rs": _by_delta_rs,
    "pyiceberg": _by_pyiceberg,
}
WRITERS = tuple(_WRITERS)


# ---- what lies there


@dataclass(frozen=True, kw_only=True)
class File:
    """The rows of one file.

    Attributes:
        cells: Per column, its cells: None, NAN, or what has the order of the values.
        types: Per column, the type in the file.
        partition: The columns whose values are not in the file but in its path or the log.
    """

    rows: int
    cells: Mapping[str, Sequence[Any]]
    types: Mapping[str, pa.DataType]
    partition: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A table of a lake: its metadata, and the rows that lie in its files as pyarrow reads them."""

    id: str
    harvest: Harvest
    files: tuple[File, ...]

    @property
    def writer(self) -> str:
        """Name of its writer."""
        return self.id.rsplit("-", 1)[0]

    def rows(self, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """The rows over some columns."""
        return [row for file in self.files for row in zip(*(file.cells[name] for name in columns), strict=True)]


def read_lake(lake: Path) -> list[Written]:
    """All tables of a lake."""
    options = TextOptions(csv_delimiter=None, csv_types="infer")
    tables = []
    for found in discover(str(lake)).tables:
        harvest = harvest_table(found, options, "")
        files = tuple(_file(fragment, harvest.schema) for fragment in harvest.fragments)
        tables.append(Written(id=found.id, harvest=harvest, files=files))
    return tables


def _file(fragment: Fragment, schema: pa.Schema) -> File:
    file = pq.ParquetFile(fragment.data_uri, coerce_int96_timestamp_unit="us")
    stored = file.read()
    columns = {name: stored[name] for name in stored.column_names}
    for name, text in fragment.partition.items():
        values = pa.array([text] * stored.num_rows, pa.string())
        columns[name] = pa.chunked_array([values]).cast(schema.field(name).type)
    int96 = {c.name for c in map(file.schema.column, range(len(file.schema))) if c.physical_type == "INT96"}
    return File(
        rows=stored.num_rows,
        cells={name: _cells(column) for name, column in columns.items()},
        types={name: INSTANT if name in int96 else column.type for name, column in columns.items()},
        partition=frozenset(fragment.partition),
    )


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Cells that are equal and ordered as the contract says: Python's numbers are across their types."""
    t = pa.types
    if t.is_date(column.type):
        return [None if day is None else day * _DAY_US for day in column.cast(pa.int32()).to_pylist()]
    if t.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_pylist()
    if t.is_string(column.type) or t.is_large_string(column.type):
        return [None if text is None else text.encode() for text in column.to_pylist()]
    return [NAN if cell != cell else cell for cell in column.to_pylist()]
