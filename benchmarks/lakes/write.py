"""Files of tables: Parquet, and Delta tables that share theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lakes.columns import Column
from benchmarks.lakes.rows import Codes

CHUNK = 1 << 20


def rows_of(columns: Sequence[Column], codes: Codes) -> pa.Table:
    """The rows with some codes."""
    return pa.table({column.name: column.values(codes) for column in columns})


def write_file(path: Path, columns: Sequence[Column], codes: Codes) -> None:
    """One Parquet file, in row groups of a million rows."""
    with pq.ParquetWriter(path, rows_of(columns, codes[:0]).schema) as writer:
        for start in range(0, max(1, len(codes)), CHUNK):
            writer.write_table(rows_of(columns, codes[start : start + CHUNK]))


def write_delta(
    folder: Path, name: str, columns: Sequence[Column], parts: Sequence[Codes], adopts: tuple[str, int] | None
) -> None:
    """A Delta table of a file per part; the first ones are another table's where it adopts them."""
    from deltalake import write_deltalake  # the environments of other peers, which read truths, have none

    taken = adopts[1] if adopts is not None else 0
    if adopts is not None:
        _adopt(folder / adopts[0], folder / name, taken)
    for part in parts[taken:]:
        write_deltalake(str(folder / name), rows_of(columns, part), mode="append")


def _adopt(source: Path, clone: Path, taken: int) -> None:
    """A log whose first version names files of another table by absolute path."""
    actions = [
        json.loads(line)
        for log in sorted((source / "_delta_log").glob("*.json"))
        for line in log.read_text().splitlines()
    ]
    kept = [action for action in actions if "protocol" in action or "metaData" in action][:2]
    adds = [action["add"] for action in actions if "add" in action][:taken]
    kept += [{"add": {**add, "path": _absolute(source, add)}} for add in adds]
    (clone / "_delta_log").mkdir(parents=True)
    first = clone / "_delta_log" / f"{0:020}.json"
    first.write_text("".join(json.dumps(action) + "\n" for action in kept))


def _absolute(source: Path, add: dict[str, Any]) -> str:
    path = str(add["path"])
    return path if "://" in path else (source / path).resolve().as_uri()
