"""Writers of the tables of the cases: each library that users write tables with, and hands that edit their files."""

from __future__ import annotations

import datetime as dt
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake
from fastparquet.cencoding import from_buffer

DATA = "data.parquet"
_TRAILER_BYTES = 8
_EXACT_FLAGS = (7, 8)  # is_max_value_exact, is_min_value_exact


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a table is made.

    Attributes:
        folder: The table's own folder, which does not exist yet.
        prefix: Starts the name of every column.
        spark: A classic Spark session with Delta's extensions, for makers that need one.
    """

    folder: Path
    prefix: str
    spark: Any = None

    @property
    def parent(self) -> Path:
        """Folder of the case's parent, which is made before the child."""
        return self.folder.parent / "parent"

    def named(self, table: pa.Table) -> pa.Table:
        """The table with the prefix before its column names."""
        return table.rename_columns([self.prefix + name for name in table.column_names])

    def sql(self, template: str) -> str:
        """A statement: `{t}` is the table, `{p}` the case's parent, `{c}` the prefix, `{folder}` the table's folder."""
        return (
            template.replace("{t}", f"delta.`{self.folder}`")
            .replace("{p}", f"delta.`{self.parent}`")
            .replace("{c}", self.prefix)
            .replace("{folder}", str(self.folder))
        )


Step = Callable[[Place], None]


@dataclass(frozen=True)
class Made:
    """A table as the steps that make it."""

    steps: tuple[Step, ...]
    needs_spark: bool = False

    def then(self, *steps: Step) -> Made:
        """The table after more steps."""
        return replace(self, steps=(*self.steps, *steps))

    def with_spark(self, *steps: Step) -> Made:
        """The table after more steps that need Spark."""
        return Made((*self.steps, *steps), needs_spark=True)

    def write(self, place: Place) -> None:
        """Make the table."""
        for step in self.steps:
            step(place)


# ---- values


def column(dtype: pa.DataType, *values: Any) -> pa.Table:
    """A table with one column, `a`."""
    return pa.table({"a": pa.array(values, dtype)})


def texts(*values: str | None) -> pa.Table:
    """A column of texts."""
    return column(pa.string(), *values)


def longs(*values: int | None) -> pa.Table:
    """A column of 64-bit integers."""
    return column(pa.int64(), *values)


def doubles(*values: float | None) -> pa.Table:
    """A column of doubles."""
    return column(pa.float64(), *values)


# ---- Parquet


def arrow(*tables: pa.Table, **options: Any) -> Made:
    """By pyarrow: one file, a row group for each table."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        named = [place.named(table) for table in tables]
        with pq.ParquetWriter(place.folder / DATA, named[0].schema, **options) as writer:
            for table in named:
                writer.write_table(table)

    return Made((write,))


def files(tables: Mapping[str, pa.Table], **options: Any) -> Made:
    """By pyarrow: a file for each table, by its path in the table's folder, `{c}` being the prefix."""

    def write(place: Place) -> None:
        for path, table in tables.items():
            target = place.folder / path.replace("{c}", place.prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(place.named(table), target, **options)

    return Made((write,))


def duck(table: pa.Table, select: str = "SELECT * FROM rows_to_write") -> Made:
    """By DuckDB; the statement may cast the table's columns, which have no prefix in it."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("rows_to_write", table)
            names = [f'{name} AS "{place.prefix}{name}"' for name in connection.sql(select).columns]
            connection.sql(f"SELECT {', '.join(names)} FROM ({select})").write_parquet(str(place.folder / DATA))

    return Made((write,))


def polars(table: pa.Table) -> Made:
    """By polars."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        pl.DataFrame(pl.from_arrow(place.named(table))).write_parquet(place.folder / DATA)

    return Made((write,))


def fast(table: pa.Table, **options: Any) -> Made:
    """By fastparquet, which takes pandas frames."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = place.named(table).to_pandas()
            fastparquet.write(str(place.folder / DATA), frame, write_index=False, **options)

    return Made((write,))


def spark(
    table: pa.Table | str, *, file_format: str = "parquet", conf: Mapping[str, str] | None = None, **options: Any
) -> Made:
    """By Apache Spark: a table, or a query in which `{c}` starts the column names.

    Args:
        table: The rows.
        file_format: Of the files.
        conf: Settings of the session while it writes.
        options: Of the writer, `__` standing for a point.
    """

    def write(place: Place) -> None:
        session, frame = place.spark, _frame(place, table)
        writer = frame.coalesce(1).write
        for name, value in options.items():
            writer = writer.option(name.replace("__", "."), value)
        _with_conf(session, conf or {}, lambda: writer.format(file_format).save(str(place.folder)))

    return Made((write,), needs_spark=True)


def _frame(place: Place, table: pa.Table | str) -> Any:
    if isinstance(table, str):
        return place.spark.sql(place.sql(table))
    frames: list[Any] = []
    zoneless = {"spark.sql.timestampType": "TIMESTAMP_NTZ"}  # of Arrow, not of the session
    _with_conf(place.spark, zoneless, lambda: frames.append(place.spark.createDataFrame(place.named(table))))
    return frames[0]


def _with_conf(session: Any, conf: Mapping[str, str], action: Callable[[], Any]) -> None:
    before = {name: session.conf.get(name, None) for name in conf}
    for name, value in conf.items():
        session.conf.set(name, value)
    try:
        action()
    finally:
        for name, value in before.items():
            session.conf.unset(name) if value is None else session.conf.set(name, value)


# ---- Delta


def rust(*tables: pa.Table, **options: Any) -> Made:
    """By deltalake: a commit for each table. Columns of `partition_by` are named without the prefix."""

    def write(place: Place) -> None:
        own = dict(options)
        if "partition_by" in own:
            own["partition_by"] = [place.prefix + name for name in own["partition_by"]]
        for table in tables:
            write_deltalake(place.folder, place.named(table), mode="append", **own)

    return Made((write,))


def rust_delete(predicate: str) -> Step:
    """Deletes rows with deltalake."""

    def delete(place: Place) -> None:
        DeltaTable(place.folder).delete(place.sql(predicate))

    return delete


def rust_convert(place: Place) -> None:
    """Makes a Delta table of the folder's Parquet files with deltalake."""
    convert_to_deltalake(place.folder)


def delta(table: pa.Table | str, *, conf: Mapping[str, str] | None = None, **properties: str) -> Made:
    """By delta-spark: the rows of a table or of a query, in one file.

    Args:
        table: The rows.
        conf: Settings of the session while it writes.
        properties: Of the table, `__` standing for a point, without the leading `delta.`.
    """

    def write(place: Place) -> None:
        session, frame = place.spark, _frame(place, table)
        writer = frame.coalesce(1).write.format("delta")
        for name, value in properties.items():
            writer = writer.option("delta." + name.replace("__", "."), value)
        _with_conf(session, conf or {}, lambda: writer.save(str(place.folder)))

    return Made((write,), needs_spark=True)


def delta_sql(*statements: str, conf: Mapping[str, str] | None = None) -> Made:
    """By statements of Spark SQL; see `Place.sql`."""
    return Made((run_sql(*statements, conf=conf),), needs_spark=True)


def run_sql(*statements: str, conf: Mapping[str, str] | None = None) -> Step:
    """Runs statements of Spark SQL."""

    def run(place: Place) -> None:
        def execute() -> None:
            for statement in statements:
                place.spark.sql(place.sql(statement))

        _with_conf(place.spark, conf or {}, execute)

    return run


# ---- text


def text(name: str, content: str) -> Made:
    """A text file, `{c}` in it being the prefix."""

    def write(place: Place) -> None:
        place.folder.mkdir(parents=True)
        (place.folder / name).write_text(content.replace("{c}", place.prefix), encoding="utf-8")

    return Made((write,))


# ---- hands that edit files


def footer_edit(edit: Callable[[Any], None]) -> Step:
    """Changes the footer of each Parquet file of the folder; the change gets the thrift structure `FileMetaData`."""

    def change(place: Place) -> None:
        for file in sorted(place.folder.rglob("*.parquet")):
            data = file.read_bytes()
            start = len(data) - _TRAILER_BYTES - int.from_bytes(data[-8:-4], "little")
            footer = from_buffer(data[start:-_TRAILER_BYTES], "FileMetaData")
            edit(footer)
            for element in footer.schema:
                if element.converted_type is not None:
                    element.logicalType = None  # the same again, which the library does not write as it was read
            changed = bytes(footer.to_bytes())
            file.write_bytes(data[:start] + changed + len(changed).to_bytes(4, "little") + b"PAR1")
            for checksum in file.parent.glob(f".{file.name}.crc"):
                checksum.unlink()

    return change


def created_by(writer: str) -> Step:
    """Names another writer in the footers."""

    def edit(footer: Any) -> None:
        footer.created_by = writer.encode()

    return footer_edit(edit)


def statistics(number: int = 0, **values: Any) -> Step:
    """Changes the statistics of a column, given by its position, in all row groups; they are exact no more."""

    def edit(footer: Any) -> None:
        for group in footer.row_groups:
            found = group.columns[number].meta_data.statistics
            for name, value in values.items():
                setattr(found, name, value)
            for flag in _EXACT_FLAGS:
                found.contents.pop(flag, None)

    return footer_edit(edit)


def log_edit(edit: Callable[[dict[str, Any]], None]) -> Step:
    """Changes the actions of all commits of a Delta log; the change gets one action as an object."""

    def change(place: Place) -> None:
        log = place.folder / "_delta_log"
        for commit in sorted(log.glob("*.json")):
            actions = [json.loads(line) for line in commit.read_text().splitlines()]
            for action in actions:
                edit(action)
            commit.write_text("".join(json.dumps(action) + "\n" for action in actions))
            for checksum in (log / f".{commit.name}.crc", log / f"{commit.stem}.crc"):
                checksum.unlink(missing_ok=True)

    return change


def stats_edit(edit: Callable[[dict[str, Any], str], None]) -> Step:
    """Changes the statistics of all files in a Delta log; the change gets them and the prefix."""

    def change(place: Place) -> None:
        def of_action(action: dict[str, Any]) -> None:
            if "add" in action:
                stats = json.loads(action["add"]["stats"])
                edit(stats, place.prefix)
                action["add"]["stats"] = json.dumps(stats)

        log_edit(of_action)(place)

    return change


def operation(name: str) -> Step:
    """Names another operation as the one that wrote the commits of a Delta log."""

    def edit(action: dict[str, Any]) -> None:
        if "commitInfo" in action:
            action["commitInfo"]["operation"] = name

    return log_edit(edit)


def no_commit_info(place: Place) -> None:
    """Removes from a Delta log who wrote what."""
    for commit in (place.folder / "_delta_log").glob("*.json"):
        lines = commit.read_text().splitlines()
        commit.write_text("".join(line + "\n" for line in lines if not re.match(r'\{"commitInfo"', line)))


def utc(*parts: int) -> dt.datetime:
    """An instant."""
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


def wall(*parts: int) -> dt.datetime:
    """A zone-less timestamp."""
    return dt.datetime(*parts)  # type: ignore[arg-type] # noqa: DTZ001


def repeated(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables after one another."""
    return pa.concat_tables(tables)
