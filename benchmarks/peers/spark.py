"""Peers on Spark: exceptAll per pair, and theta sketches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.peers.tables import Answer, Edge, Group, PeerTable, Task, by_group, by_pair

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

LG_NOMINAL = 12


@contextmanager
def spark_session(threads: int) -> Iterator[SparkSession]:
    """A local session with Spark's defaults but for memory and the web page."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{threads}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    session = builder.config("spark.driver.memory", "4g").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    try:
        session.range(10).count()
        yield session
    finally:
        session.stop()


def read(spark: SparkSession, table: PeerTable) -> DataFrame:
    return spark.read.parquet(*table.paths)


def except_all(task: Task, spark: SparkSession) -> Answer:
    """exceptAll of each pair whose columns fit: containment as bags."""

    def contained(child: PeerTable, parent: PeerTable) -> bool:
        columns = [quoted(name) for name in child.columns]
        return read(spark, child).select(columns).exceptAll(read(spark, parent).select(columns)).isEmpty()

    return by_pair(task, contained)


def theta_sketches(task: Task, spark: SparkSession) -> Answer:
    """A sketch per table and column set, in one job per set; a pair stays where the sketches' difference is empty.

    It refutes pairs and proves none, so what stays is no more than likely. Column sets beyond the budget are
    extrapolated by their pairs.
    """
    return by_group(task, lambda group: undiffering(spark, group))


def undiffering(spark: SparkSession, group: Group) -> set[Edge]:
    """Pairs of a group whose sketches have no difference."""
    from pyspark.sql import functions as F

    table_of = {path: table.id for table in group.parents for path in table.paths}
    hashed = F.xxhash64(*(F.col(quoted(name)) for name in group.columns))
    rows = (
        spark.read.option("mergeSchema", "false")
        .parquet(*table_of)
        .select(file_name().alias("file"), hashed.alias("h"))
    )
    ids = spark.createDataFrame(list(table_of.items()), "file string, id string")
    sketches = (
        rows.join(F.broadcast(ids), "file").groupBy("id").agg(F.theta_sketch_agg("h", LG_NOMINAL).alias("sketch"))
    )
    stored = sketches.persist()
    children = stored.where(F.col("id").isin([table.id for table in group.children]))
    pairs = children.alias("c").crossJoin(stored.alias("p")).where("c.id != p.id")
    missing = F.theta_sketch_estimate(F.theta_difference("c.sketch", "p.sketch"))
    kept = pairs.where(missing == 0).select("c.id", "p.id").collect()
    stored.unpersist()
    return {(row[0], row[1]) for row in kept}


def file_name() -> Column:
    """The path of a row's file as it was given."""
    from pyspark.sql import functions as F

    return F.url_decode(F.regexp_replace(F.input_file_name(), "^file:/*", "/"))


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
