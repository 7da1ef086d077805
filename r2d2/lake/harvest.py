"""Harvest: metadata of every table, in one job over the tables of the lake; text files are converted on the way.

A table is one work item. What is wrong with it becomes its status; the job itself never fails for a table's fault.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.table import harvest_delta
from r2d2.lake.parquet import harvest_parquet
from r2d2.lake.partitions import partition_scalar
from r2d2.lake.text.table import TextOptions, harvest_text
from r2d2.model import (
    Claim,
    FileStamp,
    Format,
    FoundTable,
    Fragment,
    Harvest,
    Status,
    check_supported,
    leaf_key,
    leaf_path,
    schema_from_bytes,
    schema_to_bytes,
)

CLAIM = pa.struct(
    [
        ("fragment", pa.int32()),
        ("leaf", pa.string()),
        ("source", pa.string()),
        ("writer", pa.string()),
        ("type", pa.string()),
        ("nulls", pa.int64()),
        ("low", pa.binary()),
        ("high", pa.binary()),
        ("nans", pa.int64()),
        ("low_exact", pa.bool_()),
        ("high_exact", pa.bool_()),
    ]
)
FRAGMENT = pa.struct(
    [
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("token", pa.string()),
        ("data_uri", pa.string()),
        ("rows", pa.int64()),
        ("partition", pa.string()),
        ("deletes", pa.string()),
    ]
)
HARVESTS = pa.schema(
    [
        ("table", pa.int32()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("schema", pa.binary()),
        ("version", pa.string()),
        ("table_bytes", pa.int64()),
        ("history_bytes", pa.int64()),
        ("reader", pa.string()),
        ("reader_reason", pa.string()),
        ("spark_only_reason", pa.string()),
        ("no_parent_reason", pa.string()),
        ("view_options", pa.string()),
        ("stored_as", pa.string()),
        ("created_ms", pa.int64()),
        ("written_ms", pa.int64()),
        ("properties", pa.string()),
        ("bytes_read", pa.int64()),
        ("fragments", pa.list_(FRAGMENT)),
        ("claims", pa.list_(CLAIM)),
    ]
)

_BATCH_ELEMENTS = 1 << 13
"""Tables, files and claims that are turned into Arrow together."""


def harvest_table(found: FoundTable, options: TextOptions, text_folder: str) -> Harvest:
    """Metadata of one table.

    Raises:
        TableFault: Where the table cannot take part.
    """
    if found.format is Format.PARQUET:
        harvest = harvest_parquet(found)
    elif found.format is Format.DELTA:
        harvest = harvest_delta(found)
    elif found.format in (Format.CSV, Format.TSV, Format.JSON):
        harvest = harvest_text(found, options, text_folder)
    elif found.format is Format.ICEBERG:
        from r2d2.lake.iceberg.table import harvest_iceberg  # its library takes a second to load

        harvest = harvest_iceberg(found)
    else:
        raise TableUnsupported(f"tables of format {found.format.value} are not supported yet", error="Format")
    if found.format is not Format.PARQUET:  # whose types were checked, once for all files of a layout
        for column in harvest.schema:
            check_supported(column.type)
    return harvest if found.format in (Format.DELTA, Format.ICEBERG) else with_plain_partitions(harvest)


def with_plain_partitions(harvest: Harvest) -> Harvest:
    """The harvest with partition values as every SQL reads them: Spark takes `1.5f` for a number, others do not."""

    def plain(name: str, text: str | None) -> str | None:
        return None if text is None else str(partition_scalar(text, harvest.schema.field(name).type))

    if not any(fragment.partition for fragment in harvest.fragments):
        return harvest
    fragments = tuple(
        dataclasses.replace(f, partition={name: plain(name, text) for name, text in f.partition.items()})
        for f in harvest.fragments
    )
    return dataclasses.replace(harvest, fragments=fragments)


def harvest_or_fault(found: FoundTable, options: TextOptions, text_folder: str) -> Harvest | TableFault:
    """Metadata of one table, or what is wrong with it."""
    try:
        return harvest_table(found, options, text_folder)
    except TableFault as fault:
        return fault
    except Exception as exc:  # noqa: BLE001 - a reader's surprise about one file must not end the audit of all others
        return _surprise(exc)


def _surprise(exc: Exception) -> TableFault:
    return TableFailed(f"the table's metadata could not be read ({type(exc).__name__})", error=type(exc).__name__)


def _fault_rows(table: int, fault: TableFault) -> pa.RecordBatch:
    message = str(fault).encode("utf-8", "backslashreplace").decode()
    row = {"table": table, "status": fault.status, "error": fault.error, "message": message}
    return pa.RecordBatch.from_pylist([row], schema=HARVESTS)


# --- rows of HARVESTS -------------------------------------------------------------------------------------------------


def harvest_rows(harvests: Sequence[tuple[int, Harvest]]) -> pa.RecordBatch:
    """The rows of HARVESTS of tables whose status is ok, made column by column: row by row takes ten times as long.

    Raises:
        Exception: If one of them cannot be stored, or not read back.
    """
    found = [harvest for _, harvest in harvests]
    columns: dict[str, Any] = {
        name: [getattr(harvest, name) for harvest in found]
        for name in (
            "version", "table_bytes", "history_bytes", "reader", "reader_reason", "spark_only_reason",
            "no_parent_reason", "created_ms", "written_ms", "bytes_read"
        )
    }  # fmt: skip
    columns["table"] = [table for table, _ in harvests]
    columns["status"] = [Status.OK.value] * len(found)
    columns["error"] = columns["message"] = [None] * len(found)
    columns["schema"] = [_readable(schema_to_bytes(harvest.schema)) for harvest in found]
    columns["view_options"] = [_object(harvest.view_options) for harvest in found]
    columns["stored_as"] = [_object({leaf_key(path): key for path, key in one.stored_as.items()}) for one in found]
    columns["properties"] = [_object(harvest.properties) for harvest in found]
    columns["fragments"] = _lists([harvest.fragments for harvest in found], FRAGMENT, _FRAGMENT_FIELDS)
    columns["claims"] = _lists([harvest.claims for harvest in found], CLAIM, _CLAIM_FIELDS)
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in HARVESTS], schema=HARVESTS)


_FRAGMENT_FIELDS: Mapping[str, Callable[[Fragment], Any]] = {
    "uri": attrgetter("stamp.uri"),
    "size": attrgetter("stamp.size"),
    "token": attrgetter("stamp.token"),
    "data_uri": attrgetter("data_uri"),
    "rows": attrgetter("rows"),
    "partition": lambda fragment: _object(fragment.partition),
    "deletes": attrgetter("deletes"),
}
_CLAIM_FIELDS: Mapping[str, Callable[[Claim], Any]] = {
    **{name: attrgetter(name) for name in CLAIM.names},
    "leaf": lambda claim: leaf_key(claim.leaf),
}


def _lists(lists: Sequence[Sequence[Any]], element: pa.StructType, fields: Mapping[str, Callable[[Any], Any]]) -> Any:
    """Lists of values as lists of structs, with a reader per field."""
    values = [value for one in lists for value in one]
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    columns = [pa.array([*map(fields[field.name], values)], field.type) for field in element]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(element)))


def _object(values: Mapping[str, Any]) -> str:
    """JSON of a mapping; most are empty."""
    return json.dumps(values) if values else "{}"


def _mapping(text: str) -> dict[str, Any]:
    """Inverse of `_object`."""
    return dict(json.loads(text)) if text != "{}" else {}


def _readable(schema: bytes) -> bytes:
    """A stored schema, once it was read back: types nested too deeply are found here, not on the driver."""
    _schema(schema)
    return schema


@lru_cache(maxsize=512)
def _schema(data: bytes) -> pa.Schema:
    return schema_from_bytes(data)


def harvest_from_row(row: dict[str, Any]) -> Harvest:
    """The value behind a row of HARVESTS whose status is ok; the claims may be left out."""
    return Harvest(
        schema=_schema(row["schema"]),
        version=row["version"],
        fragments=tuple(
            Fragment(
                stamp=FileStamp(uri=f["uri"], size=f["size"], token=f["token"]),
                data_uri=f["data_uri"],
                rows=f["rows"],
                partition=_mapping(f["partition"]),
                deletes=f["deletes"],
            )
            for f in row["fragments"]
        ),
        claims=tuple(Claim(**{**claim, "leaf": leaf_path(claim["leaf"])}) for claim in row.get("claims", ())),
        table_bytes=row["table_bytes"],
        history_bytes=row["history_bytes"],
        reader=row["reader"],
        reader_reason=row["reader_reason"],
        spark_only_reason=row["spark_only_reason"],
        no_parent_reason=row["no_parent_reason"],
        view_options=_mapping(row["view_options"]),
        stored_as={leaf_path(key): name for key, name in _mapping(row["stored_as"]).items()},
        created_ms=row["created_ms"],
        written_ms=row["written_ms"],
        properties=_mapping(row["properties"]),
        bytes_read=row["bytes_read"],
    )


# --- work items -------------------------------------------------------------------------------------------------------


def found_to_json(found: FoundTable) -> str:
    """Text form of a found table, for a row of a DataFrame of work items."""
    return json.dumps({**vars(found), "files": [vars(file) for file in found.files]})


def found_from_json(text: str) -> FoundTable:
    """Inverse of `found_to_json`."""
    raw = json.loads(text)
    return FoundTable(
        **{
            **raw,
            "format": Format(raw["format"]),
            "fault_status": Status(raw["fault_status"]),
            "files": tuple(FileStamp(**file) for file in raw["files"]),
        }
    )


def harvest_batches(texts: Iterable[str], options: TextOptions, text_folder: str) -> Iterator[pa.RecordBatch]:
    """Rows of HARVESTS, in any order, for work items in text form."""
    held: list[tuple[int, Harvest]] = []
    elements = 0
    for text in texts:
        found = found_from_json(text)
        outcome = harvest_or_fault(found, options, text_folder)
        if isinstance(outcome, TableFault):
            yield _fault_rows(found.table, outcome)
            continue
        held.append((found.table, outcome))
        elements += 1 + len(outcome.fragments) + len(outcome.claims)
        if elements >= _BATCH_ELEMENTS:
            yield from _batches(held)
            held, elements = [], 0
    yield from _batches(held)


def _batches(harvests: Sequence[tuple[int, Harvest]]) -> Iterator[pa.RecordBatch]:
    """The rows of some tables; one that cannot be stored fails alone."""
    if not harvests:
        return
    try:
        yield harvest_rows(harvests)
    except Exception as exc:  # noqa: BLE001 - see harvest_or_fault
        if len(harvests) == 1:
            yield _fault_rows(harvests[0][0], _surprise(exc))
            return
        for one in harvests:
            yield from _batches([one])
