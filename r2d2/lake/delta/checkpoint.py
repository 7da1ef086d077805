"""Checkpoints of a Delta log: which of them are complete, and the actions of their Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_V2_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.[0-9A-Za-z-]{36}\.(?:json|parquet)")
_PART = re.compile(r"(\d{20})\.checkpoint\.(\d{10})\.(\d{10})\.parquet")
_ACTIONS = ("add", "metaData", "protocol", "sidecar")


def complete_checkpoints(log: Iterable[str]) -> dict[int, list[str]]:
    """The files of one complete checkpoint per version that has one."""
    complete: dict[int, list[str]] = {}
    parts: dict[tuple[int, int], dict[int, str]] = {}
    for name in sorted(log):
        if match := _PART.fullmatch(name):
            parts.setdefault((int(match[1]), int(match[3])), {})[int(match[2])] = name
        elif match := _CHECKPOINT.fullmatch(name) or _V2_CHECKPOINT.fullmatch(name):
            complete[int(match[1])] = [name]
    for (version, count), named in parts.items():
        if version not in complete and set(named) == set(range(1, count + 1)):
            complete[version] = [named[i] for i in sorted(named)]
    return complete


def has_incomplete_checkpoint(log: Iterable[str]) -> bool:
    """Whether a checkpoint lacks some of its parts."""
    names = list(log)
    complete = complete_checkpoints(names)
    return any(int(part[1]) not in complete for name in names if (part := _PART.fullmatch(name)))


def checkpoint_actions(file: Any) -> list[dict[str, Any]]:
    """Actions of a Parquet checkpoint or sidecar, like those of commits, but dates in days, timestamps in microseconds.

    Tombstones are left out: whatever a checkpoint adds is live.
    """
    parquet = pq.ParquetFile(file, coerce_int96_timestamp_unit="us")
    columns = [column for column in parquet.schema_arrow.names if column in _ACTIONS]
    return [
        {key: _present(value) for key, value in row.items() if value is not None}
        for batch in parquet.iter_batches(columns=columns)
        for row in _castable(batch).to_pylist(maps_as_pydicts="strict")
    ]


def sidecar_name(sidecar: dict[str, Any]) -> str:
    """Name of a sidecar relative to the log, from a path that may be a mere file name or absolute."""
    return "_sidecars/" + unquote(str(sidecar.get("path"))).rsplit("/", 1)[-1]


def _present(value: Any) -> Any:
    """A checkpoint's action without its absent fields, as a commit would have it."""
    return {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else value


def _castable(batch: pa.RecordBatch) -> pa.Table:
    """Dates as days and timestamps as microseconds: Python's own types do not reach as far as the table's."""
    table = pa.Table.from_batches([batch])
    return table.cast(pa.schema([pa.field(f.name, _numeric(f.type)) for f in table.schema]))


def _numeric(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_date32(dtype):
        return pa.int32()
    if pa.types.is_timestamp(dtype):
        return pa.int64() if dtype.unit == "us" else pa.string()
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(child.name, _numeric(child.type)) for child in dtype])
    return dtype
