"""The engine's reader: Spark opens the table, the kernel fingerprints the Arrow batches it gets.

For what the kernel cannot read faithfully (defaults of old Delta files, legacy calendars), and for all tables
where the audit asks for it. Columns travel as c0, c1, … so that no name can clash.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.errors import TableFault, TableUnsupported
from r2d2.model import Format, Fragment, Harvest, is_case_sensitive, leaves, spark_ddl, spark_type
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.evidence import WHOLE
from r2d2.scan.files import is_expanded
from r2d2.scan.fingerprints import fingerprint_batches, observed_batches
from r2d2.scan.items import ScanItem
from r2d2.scan.observe import exceeds, expected_of, hides_nan
from r2d2.scan.reports import HIDDEN_NAN, LIE, leaf_report, report
from r2d2.scan.rowhash import RowHasher, check_hash_version
from r2d2.scan.sample import Seen
from r2d2.scan.source import arrow_source, leaf_observer
from r2d2.session import union_all

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MICROSECONDS = ("timestamp[us]", "timestamp[us, tz=UTC]", "timestamp[ms]", "timestamp[ms, tz=UTC]")


def engine_frame(spark: SparkSession, harvest: Harvest, format_: Format, uri: str) -> DataFrame:
    """A table's rows through the engine's reader, columns in the table's order, named c0, c1, ….

    Raises:
        TableUnsupported: Where the engine would not read what the metadata says.
    """
    check_engine_can_read(harvest, format_, uri)
    if format_ is Format.DELTA:
        frame = spark.read.format("delta").option("versionAsOf", harvest.version).load(uri)
        return _numbered(frame, harvest.schema)
    return union_all([_parquet_frame(spark, harvest, files) for files in _by_partition(harvest.fragments)])


def check_engine_can_read(harvest: Harvest, format_: Format, uri: str) -> None:
    """Raise TableUnsupported for what some engine is known to read differently or not at all."""
    if format_ is Format.ICEBERG:
        raise TableUnsupported("the engine's reader needs Iceberg's own runtime or a catalog", error="Reader")
    uris = [uri] if format_ is Format.DELTA else [fragment.data_uri for fragment in harvest.fragments]
    if any(is_expanded(path) for path in uris):
        raise TableUnsupported("the engine's reader cannot open its path", error="Path")
    if is_case_sensitive([path for path, _ in leaves(harvest.schema)]):
        raise TableUnsupported("the engine's reader cannot tell columns apart that differ by case", error="Columns")
    for column in harvest.schema:
        _check_type(column.type)


def _check_type(dtype: pa.DataType) -> None:
    if pa.types.is_timestamp(dtype) and str(dtype) not in _MICROSECONDS:
        raise TableUnsupported(f"the engine's reader cannot read {dtype}", error="Type")
    for index in range(dtype.num_fields):
        _check_type(dtype.field(index).type)


def _by_partition(fragments: Sequence[Fragment]) -> list[list[Fragment]]:
    groups: dict[tuple[tuple[str, str | None], ...], list[Fragment]] = {}
    for fragment in fragments:
        groups.setdefault(tuple(sorted(fragment.partition.items())), []).append(fragment)
    return list(groups.values())


def _parquet_frame(spark: SparkSession, harvest: Harvest, fragments: Sequence[Fragment]) -> DataFrame:
    """Files with one partition value: the partition columns are literals, since engines decode folder names apart."""
    from pyspark.sql import functions as F

    partition = fragments[0].partition
    stored = pa.schema([column for column in harvest.schema if column.name not in partition])
    paths = [fragment.data_uri for fragment in fragments]
    frame = spark.read.schema(spark_ddl(stored)).option("recursiveFileLookup", "true").parquet(*paths)
    frame = frame.toDF(*[f"f{index}" for index in range(len(stored))])
    places = {column.name: index for index, column in enumerate(stored)}
    columns = [
        F.lit(partition[column.name]).cast(spark_type(column.type))
        if column.name in partition
        else F.col(f"f{places[column.name]}")
        for column in harvest.schema
    ]
    return frame.select(*[column.alias(f"c{index}") for index, column in enumerate(columns)])


def _numbered(frame: DataFrame, schema: pa.Schema) -> DataFrame:
    if [name.lower() for name in frame.columns] != [name.lower() for name in schema.names]:
        raise TableUnsupported("the engine's reader sees other columns than the metadata has", error="Columns")
    return frame.toDF(*[f"c{index}" for index in range(len(schema))])


def batch_scanner(
    item_text: str, names: Sequence[str], hasher: RowHasher, limits: KernelLimits
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The kernel for `mapInArrow` over an engine frame: batches of rows in, FINGERPRINTS out."""

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from scan_batches(batches, ScanItem.from_json(item_text), names, hasher, limits)

    return scan


def scan_batches(
    batches: Iterator[pa.RecordBatch], item: ScanItem, names: Sequence[str], hasher: RowHasher, limits: KernelLimits
) -> Iterator[pa.RecordBatch]:
    """Fingerprints of rows that the engine hands over, then a report with the number of rows seen."""
    check_hash_version()
    seen: dict[str, int] = {"rows": 0}
    first = next(batches, None)
    try:
        if first is not None:
            yield from _scan(chain([first], batches), first.schema, seen, item, names, hasher, limits)
    except TableFault as fault:
        yield report(item, 0, 0, fault)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        said = f"the kernel cannot take the rows of the engine's reader ({type(exc).__name__})"
        yield report(item, 0, 0, TableUnsupported(said, error=type(exc).__name__))
    else:
        yield report(item, seen["rows"], 0, None)


def _scan(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    seen: dict[str, int],
    item: ScanItem,
    names: Sequence[str],
    hasher: RowHasher,
    limits: KernelLimits,
) -> Iterator[pa.RecordBatch]:
    def counted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            seen["rows"] += batch.num_rows
            yield batch

    with connect(limits) as connection:
        connection.register("engine_rows", pa.RecordBatchReader.from_batches(schema, counted()))
        source = arrow_source(connection, "engine_rows", schema, names)
        if not item.leaves:
            yield from (batch for _, batch in fingerprint_batches(connection, source, item, hasher))
            return
        wanted = {path for column_set in item.column_sets for path in column_set.paths}
        expected = [one for one in expected_of(base64.b64decode(item.evidence), item.leaves) if one.path in wanted]
        observed = Seen(observers=[found for one in expected if (found := leaf_observer(source, one)) is not None])
        yield from observed_batches(connection, source, item, hasher, observed)
        for observer, leaf in zip(observed.observers, observed.leaves, strict=True):
            if exceeds(observer, leaf, observed.rows):
                yield leaf_report(item, LIE, WHOLE, observer.expected.path)
            if hides_nan(observer, leaf, whole_file=False):
                yield leaf_report(item, HIDDEN_NAN, WHOLE, observer.expected.path)
