"""Harvest of tables that delta-spark wrote, against what Spark itself reads from them."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from r2d2.errors import TableUnsupported
from r2d2.model import Harvest
from tests.integration import delta_tables
from tests.integration.audit_helpers import QUICK_SPARK
from tests.integration.delta_tables import assert_claims_hold, harvest, parquet_rows, spark_rows

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SETTINGS = {
    "spark.jars.packages": "io.delta:delta-spark_4.2_2.13:4.4.0",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "America/New_York",
    "spark.ui.enabled": "false",
    **QUICK_SPARK,
}


Maker = Callable[[Any, str], None]


@pytest.fixture(scope="module")
def delta_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A classic Spark session with Delta's extensions."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]")
    builder = builder.config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def made(delta_spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Maker], Path]:
    """The table that a maker makes, which is made once and not to be changed."""

    @functools.cache
    def table_of(make: Maker) -> Path:
        path = tmp_path_factory.mktemp("made") / "t"
        make(delta_spark, str(path))
        return path

    return table_of


def assert_agrees_with_spark(spark: Any, path: Path, found: Harvest) -> None:
    rows = spark_rows(spark, path)
    read = spark.read.format("delta").load(str(path)).toArrow()
    history = spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").collect()[0]
    detail = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").collect()[0]
    assert found.version == str(history["version"])
    assert len(found.fragments) == detail["numFiles"]
    assert found.schema.names == read.schema.names
    assert found.schema.types == nullable(read.schema).types
    assert found.rows == read.num_rows
    assert_claims_hold(found, lambda uri: rows.get(uri, []))
    for claim in (claim for claim in found.claims if claim.source == "partition"):
        values = {row[claim.leaf[0]] for row in rows[found.fragments[claim.fragment].data_uri]}
        assert len(values) == 1
        assert (values == {None}) == (claim.nulls == found.fragments[claim.fragment].rows)


def nullable(schema: pa.Schema) -> pa.Schema:
    """A schema without the names and NOT NULL marks that types of lists and maps carry."""

    def plain(dtype: pa.DataType) -> pa.DataType:
        if pa.types.is_struct(dtype):
            return pa.struct([pa.field(child.name, plain(child.type)) for child in dtype])
        if pa.types.is_map(dtype):
            return pa.map_(plain(dtype.key_type), plain(dtype.item_type))
        if pa.types.is_list(dtype):
            return pa.list_(plain(dtype.value_type))
        if pa.types.is_timestamp(dtype) and dtype.tz is not None:
            return pa.timestamp("us", tz="UTC")
        return dtype

    return pa.schema([pa.field(field.name, plain(field.type)) for field in schema])


def v2_json(spark: Any, path: str) -> None:
    delta_tables.spark_v2_checkpoint(spark, path, top_level="json")


def v2_parquet(spark: Any, path: str) -> None:
    delta_tables.spark_v2_checkpoint(spark, path, top_level="parquet")


READ_AS_FILES = (
    delta_tables.spark_plain,
    delta_tables.spark_partitioned,
    delta_tables.spark_evolved,
    delta_tables.spark_type_widening,
    delta_tables.spark_multi_part_checkpoint,
    delta_tables.spark_struct_statistics,
    delta_tables.spark_generated_column,
    v2_json,
    v2_parquet,
)


@pytest.mark.parametrize("make", READ_AS_FILES, ids=lambda make: make.__name__)
def test_the_harvest_says_what_spark_reads(make: Maker, delta_spark: Any, made: Callable[[Maker], Path]) -> None:
    table = made(make)
    found = harvest(table)
    assert_agrees_with_spark(delta_spark, table, found)
    assert (found.reader, found.reader_reason) == ("files", None)
    assert (found.no_parent_reason is None) is (make is not delta_tables.spark_type_widening)
    assert sum(len(parquet_rows(fragment.data_uri)) for fragment in found.fragments) == found.rows
    assert DeltaTable(table).version() == int(found.version)


@pytest.mark.parametrize("make", [v2_json, v2_parquet, delta_tables.spark_multi_part_checkpoint])
def test_a_cleaned_log_gives_the_same_snapshot(
    make: Maker, delta_spark: Any, made: Callable[[Maker], Path], tmp_path: Path
) -> None:
    shutil.copytree(made(make), tmp_path / "t")
    whole = harvest(tmp_path / "t")
    log = tmp_path / "t" / "_delta_log"
    newest = max(file.name[:20] for file in log.glob("*.checkpoint.*"))
    cleaned = [commit for commit in log.glob("*.json") if commit.name[20:] == ".json" and commit.name[:20] < newest]
    assert cleaned
    for commit in cleaned:
        commit.unlink()
    left = harvest(tmp_path / "t")
    assert (left.version, left.fragments, left.table_bytes) == (whole.version, whole.fragments, whole.table_bytes)
    assert {(c.leaf, c.fragment) for c in left.claims} <= {(c.leaf, c.fragment) for c in whole.claims}
    assert_agrees_with_spark(delta_spark, tmp_path / "t", left)


def test_statistics_of_a_checkpoint_without_json_are_used(
    delta_spark: Any, made: Callable[[Maker], Path], tmp_path: Path
) -> None:
    path = tmp_path / "t"
    shutil.copytree(made(delta_tables.spark_struct_statistics), path)
    delta_tables.drop_commits_before_checkpoint(path)
    assert harvest(path).fragments
    found = harvest(path)
    bounded = {claim.leaf[0] for claim in found.claims if claim.low is not None}
    assert bounded >= {"a", "d", "t"}
    assert_agrees_with_spark(delta_spark, path, found)


def test_deletion_vectors_are_read_with_their_files(delta_spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "t"
    delta_tables.spark_deletion_vector(delta_spark, str(path))
    found = harvest(path)
    assert_agrees_with_spark(delta_spark, path, found)
    (vector,) = path.rglob("deletion_vector_*.bin")
    (fragment,) = found.fragments
    assert (found.reader, found.reader_reason, found.rows) == ("files", None, 8)
    assert found.table_bytes == fragment.stamp.size + vector.stat().st_size
    assert found.history_bytes == 0


def test_column_mapping_keeps_logical_names(delta_spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "t"
    delta_tables.spark_column_mapping(delta_spark, str(path))
    found = harvest(path)
    assert_agrees_with_spark(delta_spark, path, found)
    assert (found.reader, found.reader_reason) == ("files", None)
    assert sorted(str(fragment.partition) for fragment in found.fragments) == ["{'q': 'u'}", "{'q': 'v'}"]
    assert {claim.low for claim in found.claims if claim.leaf == ("c",)} == {b"100", b"2"}
    assert {claim.low for claim in found.claims if claim.leaf == ("b",)} == {b"new"}


def test_a_shallow_clone_reads_its_sources_files(delta_spark: Any, tmp_path: Path) -> None:
    delta_tables.spark_partitioned(delta_spark, str(tmp_path / "source é"))
    delta_tables.spark_shallow_clone(delta_spark, str(tmp_path / "clone"), str(tmp_path / "source é"))
    source, clone = harvest(tmp_path / "source é"), harvest(tmp_path / "clone")
    assert_agrees_with_spark(delta_spark, tmp_path / "clone", clone)
    assert [fragment.stamp for fragment in clone.fragments] == [fragment.stamp for fragment in source.fragments]
    assert (clone.reader, clone.history_bytes) == ("files", 0)
    assert {claim.writer for claim in clone.claims} == {""}


def test_a_variant_is_named(delta_spark: Any, tmp_path: Path) -> None:
    delta_spark.sql(f"CREATE TABLE delta.`{tmp_path}/t` (a variant) USING delta")
    with pytest.raises(TableUnsupported, match="variantType"):
        harvest(tmp_path / "t")
