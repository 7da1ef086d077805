"""Every recipe, run in plain sessions of every engine, gives its table back: names, order, types and bag of rows.

The lakes are audited on Sail by the command. The tables' own rows are read here without anything of the audit.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zstandard
from deltalake import DeltaTable, write_deltalake

from r2d2.lake.discovery import discover
from r2d2.lake.parquet import harvest_parquet
from r2d2.session import Engine
from tests.integration.audit_helpers import Results

pytestmark = pytest.mark.slow

UTC = dt.UTC
ROWS = 12
PLAIN = {"usual": {}, "elsewhere": {"spark.sql.session.timeZone": "Asia/Tokyo", "spark.sql.ansi.enabled": "false"}}


# ---- a lake with parents and the children that come back from them


@dataclass(frozen=True, kw_only=True)
class Store:
    """How a table is written.

    Attributes:
        name: Ending of the table's id.
        partition: Column whose values name folders, if any.
    """

    name: str
    partition: str | None = None

    def write(self, folder: Path, table: pa.Table) -> None:
        """Write a table; its rows go to two files where the format allows it."""
        path = folder.with_name(folder.name + self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.name.endswith("delta"):
            halves = [
                table.take(list(part)) for part in (range(5), range(5, ROWS))
            ]  # deltalake dies of slices of structs
            write_deltalake(str(path), halves[0], partition_by=[self.partition] if self.partition else None)
            write_deltalake(str(path), halves[1], mode="append")
        elif self.name.endswith(".parquet"):
            pq.write_table(table, path)
        elif self.partition:
            write_hive(path, table, self.partition)
        elif self.name.endswith("_folder"):
            path.mkdir()
            pq.write_table(table.slice(0, 5), path / "part-0.parquet")
            pq.write_table(table.slice(5).select(table.column_names[::-1]), path / "part-1.parquet")
        else:
            write_text(path, table)


def write_hive(path: Path, table: pa.Table, column: str) -> None:
    for number, value in enumerate(table[column].to_pylist()):
        text = "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe=" ")
        part = path / f"{quote(column, safe=' ')}={text}"
        part.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(number, 1).drop_columns([column]), part / f"{number}.parquet")


def write_text(path: Path, table: pa.Table) -> None:
    if ".json" in path.name:
        content = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    else:
        content = separated(table, "\t" if ".tsv" in path.name else ",")
    packed = gzip.compress(content.encode()) if path.name.endswith(".gz") else content.encode()
    path.write_bytes(zstandard.compress(packed) if path.name.endswith(".zst") else packed)


def separated(table: pa.Table, delimiter: str) -> str:
    fields = [table.column_names, *([written(value) for value in row.values()] for row in table.to_pylist())]
    assert not any(delimiter in field or '"' in field for line in fields for field in line)
    return "".join(delimiter.join(line) + "\n" for line in fields)


def written(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


PARQUET, FOLDER, DELTA = Store(name=".parquet"), Store(name="_folder"), Store(name="_delta")
HIVE, PARTED = Store(name="_hive", partition="group"), Store(name="_parted_delta", partition="group")
CSV, TSV, CSV_GZ = Store(name=".csv"), Store(name=".tsv"), Store(name=".csv.gz")
JSON, JSON_ZST = Store(name=".jsonl"), Store(name=".json.zst")


def simple(key: str, parent: Store) -> pa.Table:
    """Values that text can hold; the name of the first column keeps the lake's scenarios apart."""
    numbers = range(ROWS)
    # Engines read NULL and what is not ASCII in names of folders differently: there are no such parents.
    odd = ("=:#", "plain") if parent is HIVE else ("é=:#", None)
    return pa.table(
        {
            key: pa.array([n * 1_000_003 for n in numbers], pa.int64()),
            "group": [("a b%20", "x'y", *odd)[n % 4] for n in numbers],
            "ratio": [None if n % 5 == 0 else n / 8 for n in numbers],
            "open": [n % 3 == 0 for n in numbers],
            "price": pa.array([Decimal(n) / 4 for n in numbers], pa.decimal128(9, 2)),
            "day": [dt.date(1999, 12, 31) + dt.timedelta(days=n) for n in numbers],
            "extra": [f"only the parent has this {n}" for n in numbers],
        }
    )


def nested(n: int, *, whole: bool) -> dict[str, Any] | None:
    inner = {"odd `name'": f"v{n}", "t": dt.datetime(2020, 7, 1, 12, 0, 0, n, UTC)}
    wide = {"x": n, "inner": inner if n % 2 else None}
    narrow = {"inner": {"odd `name'": f"v{n}"} if n % 2 else None}
    return None if n % 3 == 0 else (wide if whole else narrow)


_INNER = pa.struct([("odd `name'", pa.string()), ("t", pa.timestamp("us", "UTC"))])
WHOLE = pa.struct([("x", pa.int32()), ("inner", _INNER)])
PART = pa.struct([("inner", pa.struct([("odd `name'", pa.string())]))])


def rich(*, child: bool) -> pa.Table:
    """Values of every type; those of the child have other types, all with the same values, and another order."""
    numbers = range(ROWS)
    real = [(float("nan"), -0.0, None, 0.5)[n % 4] for n in numbers]
    price = [Decimal(n) / 4 for n in numbers]
    lists = [([], None, [None], [n])[n % 4] for n in numbers]
    maps = [([], None, [("b", n), ("a", None)])[n % 3] for n in numbers]
    wall = [dt.datetime(2024, 3, 31, 2, 30) + dt.timedelta(microseconds=n) for n in numbers]  # noqa: DTZ001
    table = pa.table(
        {
            "rich id": pa.array(numbers, pa.int64() if child else pa.int32()),
            "narrow": pa.array([n - 6 for n in numbers], pa.int8() if child else pa.int64()),
            "whole": pa.array(numbers, pa.decimal128(5, 0) if child else pa.float64()),
            "real": pa.array(real, pa.float32() if child else pa.float64()),
            "price": pa.array(price, pa.decimal128(38, 4) if child else pa.decimal128(9, 2)),
            "text": pa.array([("", None, "it's \\ \"q\"", "ü\n")[n % 4] for n in numbers], pa.string()),
            "bytes": pa.array([(b"", b"\xff\x00", None)[n % 3] for n in numbers], pa.binary()),
            "day": pa.array([dt.date(2024, 1, n + 1) for n in numbers], pa.date32()).cast(
                pa.timestamp("us") if child else pa.date32()
            ),
            "midnight": pa.array([dt.date(1950, 1, n + 1) for n in numbers], pa.date32()).cast(
                pa.date32() if child else pa.timestamp("us")
            ),
            "instant": pa.array([dt.datetime(1969, 12, 31, 23, 59, 59, n * 1000, UTC) for n in numbers]).cast(
                pa.timestamp("ms", "UTC") if child else pa.timestamp("us", "UTC")
            ),
            "wall": pa.array(wall, pa.timestamp("us")),
            "list": pa.array(lists, pa.list_(pa.int64() if child else pa.int32())),
            "map": pa.array(maps, pa.map_(pa.string(), pa.int64())),
            "structs": pa.array([[{"a": n}, None] for n in numbers], pa.list_(pa.struct([("a", pa.int32())]))),
            "struct": pa.array([nested(n, whole=not child) for n in numbers], PART if child else WHOLE),
            "no value": pa.nulls(ROWS, pa.date32() if child else pa.string()),
            "no struct": pa.nulls(ROWS, pa.string() if child else pa.binary()),
            "extra": [f"only the parent has this {n}" for n in numbers],
        }
    )  # fmt: skip
    return table.select(table.column_names[-2::-1]) if child else table


HOSTILE = ["a.b", "a`b", "it's", 'say "q"', "ünï 漢", "select", "x; DROP VIEW y --", "{v} %s $1", "(1)", "<b>&amp;"]
HOSTILE_TABLES = ["it's", "semi;colon -- no", "per%20cent", "<b>&amp;", "ünï 漢", "tick`tock", 'say "q"', "a=b", "${x}"]


def hostile() -> pa.Table:
    columns = {name: [f"{name} {n}" for n in range(ROWS)] for name in HOSTILE}
    return pa.table({**columns, "extra": [f"only the parent has this {n}" for n in range(ROWS)]})


def write_lake(lake: Path) -> set[str]:
    """Write the lake.

    Returns:
        The ids of the children, each of which some parent in its own folder gives back.
    """
    rest = [PARQUET, FOLDER, HIVE, DELTA, PARTED, CSV, TSV, CSV_GZ, JSON, JSON_ZST]
    children = set()
    for number, parent in enumerate([PARQUET, FOLDER, HIVE, DELTA, PARTED, CSV, TSV, CSV_GZ]):
        folder = lake / f"p{number}"
        table = simple(f"k{number}", parent)
        parent.write(folder / "parent", table)
        for store in [rest[(number + step) % len(rest)] for step in (1, 4, 7)]:
            store.write(folder / "child", child_of(table, store))
            children.add(f"p{number}/child{store.name}")
    for name, store in (("rich", PARQUET), ("rich_in", DELTA), ("rich_folder", FOLDER)):
        store.write(lake / "rich" / f"{name}_child", rich(child=True))
        children.add(f"rich/{name}_child{store.name}")
    PARQUET.write(lake / "rich" / "parent", rich(child=False))
    return children | write_hostile(lake / "names")


def child_of(table: pa.Table, store: Store) -> pa.Table:
    """A projection in reverse order, of columns whose type the format keeps; no line of a text is blank."""
    dropped = ["extra", "price", "day"] if "json" in store.name else ["extra"]
    kept = table.drop_columns(dropped)
    return kept.select(kept.column_names[::-1])


def write_hostile(folder: Path) -> set[str]:
    table = hostile()
    PARQUET.write(folder / "parent it's a `b` %20 ü", table)
    own = pa.table({"own": range(ROWS), "it's": ["x"] * ROWS, "more": ["more than the others"] * ROWS})
    (folder / "p'ar").mkdir(parents=True)
    pq.write_table(own, folder / "p'ar" / "t.parquet")
    write_deltalake(str(folder / "narrow"), own.drop_columns(["more"]))
    for name in HOSTILE_TABLES:
        PARQUET.write(folder / name, table.select(HOSTILE[::-1]))
    return {f"names/{name}.parquet" for name in HOSTILE_TABLES} | {"names/narrow"}


# ---- the rows of a table, read without the audit


def canonical(value: Any, spark_type: str = "") -> Any:
    """A value whose `==` and hash are the contract's equality; instants are told from wall clocks by the type."""
    if isinstance(value, bool | bytes):
        return (type(value).__name__, value)
    if isinstance(value, float) and value != value:
        return ("NaN",)
    if isinstance(value, dt.datetime):
        if value.tzinfo is None and spark_type == "timestamp":  # INT96, which pyarrow gives without a zone
            value = value.replace(tzinfo=UTC)
        return value if value.tzinfo is None else ("instant", value.astimezone(UTC).isoformat())
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return ("map", frozenset((canonical(k), canonical(v)) for k, v in value))
    if isinstance(value, list):
        return ("map",) if spark_type.startswith("map") else ("array", *map(canonical, value))
    if isinstance(value, dict):
        return ("struct", *((name, canonical(field)) for name, field in value.items()))
    return value


def bag(rows: list[dict[str, Any]], columns: dict[str, str]) -> Counter[tuple[Any, ...]]:
    """How often each row occurs; a column that a row lacks is NULL."""
    return Counter(tuple(canonical(row.get(name), kind) for name, kind in columns.items()) for row in rows)


def read_rows(path: Path, kind: str, columns: dict[str, str]) -> list[dict[str, Any]]:
    if kind == "delta":
        return DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [row | partition_of(file.relative_to(path), columns) for file in files for row in file_rows(file, columns)]


def partition_of(file: Path, columns: dict[str, str]) -> dict[str, Any]:
    parts = [part.partition("=") for part in file.parts[:-1]]
    texts = {unquote(name): None if text == "__HIVE_DEFAULT_PARTITION__" else unquote(text) for name, _, text in parts}
    return {name: typed(text, columns[name]) for name, text in texts.items()}


def file_rows(file: Path, columns: dict[str, str]) -> list[dict[str, Any]]:
    if file.name.endswith(".parquet"):
        with file.open("rb") as source:
            return list(pq.ParquetFile(source, coerce_int96_timestamp_unit="us").read().to_pylist())
    if ".json" in file.name:
        return [json.loads(line) for line in content_of(file).splitlines() if line]
    text = pyarrow.csv.read_csv(
        pa.py_buffer(content_of(file)),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if ".tsv" in file.name else ",", newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return [{name: typed(field, columns[name]) for name, field in row.items()} for row in text.to_pylist()]


def content_of(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name.endswith(".gz"):
        content = gzip.decompress(content)
    return zstandard.decompress(content) if file.name.endswith(".zst") else content


def typed(text: str | None, spark_type: str) -> Any:
    return None if text is None else PARSERS[spark_type.partition("(")[0]](text)


PARSERS: dict[str, Any] = {
    "string": str,
    "int": int,
    "bigint": int,
    "double": float,
    "decimal": Decimal,
    "boolean": lambda text: text == "true",
    "date": dt.date.fromisoformat,
    "timestamp_ntz": dt.datetime.fromisoformat,
}


# ---- recipes in plain sessions


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the command found in a lake.

    Attributes:
        results: All of it.
        columns: Type by name, by table.
        bags: Rows of each proposed table as they lie in its files.
    """

    results: Results
    columns: dict[str, dict[str, str]]
    bags: dict[str, Counter[tuple[Any, ...]]]


def audited(lake: Path, out: Path) -> Audited:
    command = [sys.executable, "-m", "r2d2.cli", "audit", str(lake), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    results = Results.read(out)
    kinds = {row["table"]: row["format"] for row in results.tables}
    columns = {row["table"]: {column["name"]: column["type"] for column in row["columns"]} for row in results.tables}
    return Audited(
        results=results,
        columns=columns,
        bags={
            table: bag(read_rows(lake / table, kinds[table], columns[table]), columns[table])
            for table in (row["table"] for row in results.proposals)
        },
    )


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folder = tmp_path_factory.mktemp("recipes_sample")
    lake = folder / "lake"
    subprocess.run([sys.executable, "-m", "r2d2.cli", "sample", str(lake)], check=True, capture_output=True)
    return audited(lake, folder / "out")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audited, set[str]]:
    """The lake made here, and the tables that must be proposed."""
    folder = tmp_path_factory.mktemp("recipes_generated")
    children = write_lake(folder / "lake")
    return audited(folder / "lake", folder / "out"), children


@contextmanager
def plain_session(engine: Engine, settings: dict[str, str]) -> Iterator[Any]:
    """A session without views, that has these settings and otherwise the engine's own."""
    with engine.scratch_session() as spark:
        for name, value in settings.items():
            spark.conf.set(name, value)
        yield spark


def type_text(spark: Any, spark_type: str) -> str:
    """A type in the words of the session, which quote field names in their own way."""
    (field,) = spark.sql(f"SELECT CAST(NULL AS {spark_type})").schema
    return str(field.dataType.simpleString())


def assert_comes_back(spark: Any, found: Audited, proposal: dict[str, Any]) -> None:
    for statement in proposal["setup_sql"]:
        spark.sql(statement)
    frame = spark.sql(proposal["recipe_sql"])
    columns = found.columns[proposal["table"]]
    types = {name: type_text(spark, kind) if "<" in kind else kind for name, kind in columns.items()}
    assert [(field.name, field.dataType.simpleString()) for field in frame.schema] == list(types.items())
    assert bag(frame.toArrow().to_pylist(), columns) == found.bags[proposal["table"]], proposal["table"]


@pytest.mark.core
def test_every_recipe_of_the_sample_gives_its_table_back(engine: Engine, sample: Audited) -> None:
    assert len(sample.results.proposals) >= 15
    with plain_session(engine, PLAIN["elsewhere"]) as spark:
        for proposal in sample.results.proposals:
            assert_comes_back(spark, sample, proposal)


@pytest.mark.core("spark")
@pytest.mark.parametrize("settings", PLAIN)
def test_every_recipe_over_formats_types_and_names_gives_its_table_back(
    engine: Engine, generated: tuple[Audited, set[str]], settings: str
) -> None:
    found, _ = generated
    assert found.results.proposals
    with plain_session(engine, PLAIN[settings]) as spark:
        for proposal in found.results.proposals:
            assert_comes_back(spark, found, proposal)


def test_every_child_that_has_a_parent_is_proposed(generated: tuple[Audited, set[str]]) -> None:
    found, children = generated
    assert found.results.not_ok() == {}
    assert {proposal["table"] for proposal in found.results.proposals} == children


def test_the_rows_read_here_are_as_many_as_the_audit_saw(sample: Audited) -> None:
    rows = {row["table"]: row["rows"] for row in sample.results.tables}
    assert {table: bag.total() for table, bag in sample.bags.items()} == {table: rows[table] for table in sample.bags}


@pytest.mark.parametrize("value", [None, "é"])
def test_a_folder_name_that_engines_read_differently_makes_no_parent(tmp_path: Path, value: str | None) -> None:
    """Spark would run the recipe and be content; Sail reads NULL as text, and escapes as they stand."""
    table = pa.table({"id": [1, 2], "group": pa.array(["plain", value], pa.string())})
    HIVE.write(tmp_path / "lake" / "parent", table)
    (found,) = discover(str(tmp_path / "lake")).tables
    assert harvest_parquet(found).no_parent_reason is not None
