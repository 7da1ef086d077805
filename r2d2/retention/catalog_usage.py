"""How often tables are read, asked of tables that the engine's catalog knows, as Unity Catalog's system tables.

They may hold years of events of a whole company: the engine counts, and only counts come back.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from r2d2.errors import UsageError
from r2d2.retention.rows import as_moment, shape_of
from r2d2.retention.usage import (
    IN_CATALOG,
    LOOK_UP,
    NAME_KEYS,
    READ_FILES,
    SERVICE,
    SHAPES,
    Access,
    is_in_catalog,
    no_event_time,
    plain,
    rates,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession


def read_catalog_accesses(spark: SparkSession, sources: Iterable[str]) -> dict[str, dict[str, Access]]:
    """What tables of the catalog say, by source and name.

    Args:
        spark: Its time zone is UTC.
        sources: Names of tables after IN_CATALOG, of the shapes that `load_accesses` reads; paths are left out.

    Raises:
        UsageError: If there is no such table, it may not be read, lacks columns, or has a value out of range.
    """
    return {source: _read(spark, source) for source in sources if is_in_catalog(source)}


def _read(spark: SparkSession, source: str) -> dict[str, Access]:
    from pyspark.errors import PySparkException

    from r2d2.session import pyspark_errors

    what = f"accesses {source!r}"
    try:
        with pyspark_errors():
            frame = spark.table(source.removeprefix(IN_CATALOG))
            number = shape_of(frame.columns, what, SHAPES)
            read = (_plain, _lineage, _audited)[number // 2]
            return read(frame.select(*SHAPES[number]), what)
    except PySparkException as exc:
        why = f"{what} cannot be read ({type(exc).__name__})"
        raise UsageError(f"{why}; name a table that the engine knows and that you may read") from None


def _plain(frame: DataFrame, what: str) -> dict[str, Access]:
    return plain(frame.toArrow(), what)


def _lineage(frame: DataFrame, what: str) -> dict[str, Access]:
    """Each event that reads a table counts once, however many tables it writes."""
    from pyspark.sql import functions as F

    event = _filled(F.col("event_id")) if "event_id" in frame.columns else F.lit(None).cast("string")
    named = frame.select(
        F.coalesce(_filled(F.col("source_table_full_name")), _filled(F.col("source_path"))).alias("name"),
        event.alias("event"),
        "event_time",
    )
    reads = F.count_distinct("event") + F.sum(F.when(F.col("event").isNull(), 1).otherwise(0))
    return _rates(_counted(named, ["name"], reads), what)


def _audited(frame: DataFrame, what: str) -> dict[str, Access]:
    """A read looks a table up and asks for access to its files; the more frequent of the two counts."""
    from pyspark.sql import functions as F

    is_ours, action = F.col("service_name") == SERVICE, F.col("action_name")
    parameter = _parameters(frame, what)
    is_read = F.upper(F.coalesce(parameter("operation"), F.lit("READ"))).contains("READ")
    looked_up, files_read = (_filled(parameter(NAME_KEYS[kind])) for kind in (LOOK_UP, READ_FILES))
    named = F.when(is_ours & (action == LOOK_UP), looked_up).when(
        is_ours & (action == READ_FILES) & is_read, files_read
    )
    events = frame.select(named.alias("name"), F.when(named.isNotNull(), action).alias("action"), "event_time")
    return _rates(_counted(events, ["name", "action"], F.count("*")), what)


def _parameters(frame: DataFrame, what: str) -> Callable[[str], Column]:
    """The value of a request's parameter by its name."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import MapType, StringType

    kind, column = frame.schema["request_params"].dataType, F.col("request_params")
    if isinstance(kind, MapType):
        return lambda name: column[name]
    if isinstance(kind, StringType):
        return lambda name: F.get_json_object(column, f"$.{name}")
    raise UsageError(f"{what}: request_params must be a map, or JSON as text")


def _filled(column: Column) -> Column:
    from pyspark.sql import functions as F

    return F.when(column != "", column)


def _counted(events: DataFrame, keys: list[str], reads: Column) -> pa.Table:
    """Reads, first and last moment of each group of events, and how many of these have no time."""
    from pyspark.sql import functions as F

    moments = (F.min("event_time").alias("first"), F.max("event_time").alias("last"))
    timeless = F.count("*") - F.count("event_time")
    return events.groupBy(*keys).agg(reads.alias("reads"), *moments, timeless.alias("timeless")).toArrow()


def _rates(counted: pa.Table, what: str) -> dict[str, Access]:
    """Of a name's groups the one with the most reads counts; the group without a name only tells of time."""
    reads: dict[str, int] = {}
    last: dict[str, datetime.datetime] = {}
    moments = []
    for row in counted.to_pylist():
        ends = [as_moment(row[end], f"{what}: event_time") for end in ("first", "last")]
        if row["timeless"] or None in ends:
            raise no_event_time(what)
        moments += [end for end in ends if end is not None]
        if (name := row["name"]) is not None:
            reads[name] = max(reads.get(name, 0), row["reads"])
            last[name] = max(moments[-1], last.get(name, moments[-1]))
    return rates(reads, last, moments)
