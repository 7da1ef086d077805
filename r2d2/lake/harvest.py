"""Harvest: metadata of every table, in one job over the tables of the lake; text files are converted on the way.

A table is one work item. What is wrong with it becomes its status; the job itself never fails for a table's fault.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from r2d2.errors import TableFault, TableUnsupported
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
    for column in harvest.schema:
        check_supported(column.type)
    return harvest if found.format in (Format.DELTA, Format.ICEBERG) else with_plain_partitions(harvest)


def with_plain_partitions(harvest: Harvest) -> Harvest:
    """The harvest with partition values as every SQL reads them: Spark takes `1.5f` for a number, others do not."""

    def plain(name: str, text: str | None) -> str | None:
        return None if text is None else str(partition_scalar(text, harvest.schema.field(name).type))

    fragments = tuple(
        dataclasses.replace(f, partition={name: plain(name, text) for name, text in f.partition.items()})
        for f in harvest.fragments
    )
    return dataclasses.replace(harvest, fragments=fragments)


def harvest_batch(found: FoundTable, options: TextOptions, text_folder: str) -> pa.RecordBatch:
    """The row of HARVESTS for one table, whatever happens to it."""
    try:
        harvest = harvest_table(found, options, text_folder)
        row = {"table": found.table, "status": Status.OK.value, **harvest_to_row(harvest)}
        batch = pa.RecordBatch.from_pylist([row], schema=HARVESTS)
        harvest_from_row(batch.to_pylist()[0])  # what cannot be read back is found here, not on the driver
    except TableFault as fault:
        return _failed(found, fault.status, fault.error, str(fault))
    except Exception as exc:  # noqa: BLE001 - a reader's surprise about one file must not end the audit of all others
        message = f"the table's metadata could not be read ({type(exc).__name__})"
        return _failed(found, Status.FAILED.value, type(exc).__name__, message)
    return batch


def _failed(found: FoundTable, status: str, error: str, message: str) -> pa.RecordBatch:
    message = message.encode("utf-8", "backslashreplace").decode()
    row = {"table": found.table, "status": status, "error": error, "message": message}
    return pa.RecordBatch.from_pylist([row], schema=HARVESTS)


def harvest_to_row(harvest: Harvest) -> dict[str, Any]:
    """What a row of HARVESTS holds of a table, without its number and status."""
    scalars = {
        name: getattr(harvest, name)
        for name in (
            "version", "table_bytes", "history_bytes", "reader", "reader_reason", "spark_only_reason",
            "no_parent_reason", "created_ms", "written_ms", "bytes_read"
        )
    }  # fmt: skip
    return {
        **scalars,
        "schema": schema_to_bytes(harvest.schema),
        "view_options": json.dumps(harvest.view_options),
        "stored_as": json.dumps({leaf_key(path): name for path, name in harvest.stored_as.items()}),
        "properties": json.dumps(harvest.properties),
        "fragments": [_fragment_row(fragment) for fragment in harvest.fragments],
        "claims": [{**vars(claim), "leaf": leaf_key(claim.leaf)} for claim in harvest.claims],
    }


def _fragment_row(fragment: Fragment) -> dict[str, Any]:
    return {
        **dataclasses.asdict(fragment.stamp),
        "data_uri": fragment.data_uri,
        "rows": fragment.rows,
        "partition": json.dumps(fragment.partition),
        "deletes": fragment.deletes,
    }


def harvest_from_row(row: dict[str, Any]) -> Harvest:
    """The value behind a row of HARVESTS whose status is ok; the claims may be left out."""
    return Harvest(
        schema=schema_from_bytes(row["schema"]),
        version=row["version"],
        fragments=tuple(
            Fragment(
                stamp=FileStamp(uri=f["uri"], size=f["size"], token=f["token"]),
                data_uri=f["data_uri"],
                rows=f["rows"],
                partition=json.loads(f["partition"]),
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
        view_options=json.loads(row["view_options"]),
        stored_as={leaf_path(key): name for key, name in json.loads(row["stored_as"]).items()},
        created_ms=row["created_ms"],
        written_ms=row["written_ms"],
        properties=json.loads(row["properties"]),
        bytes_read=row["bytes_read"],
    )


def found_to_json(found: FoundTable) -> str:
    """Text form of a found table, for a row of a DataFrame of work items."""
    return json.dumps(dataclasses.asdict(found))


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


def harvest_batches(texts: Iterator[str], options: TextOptions, text_folder: str) -> Iterator[pa.RecordBatch]:
    """Rows of HARVESTS, a batch per table, for work items in text form."""
    for text in texts:
        yield harvest_batch(found_from_json(text), options, text_folder)
