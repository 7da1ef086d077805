"""Work items of a scan: files of one table, and what to fingerprint of them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from r2d2.model import FileStamp, LeafPath, schema_from_bytes, schema_to_bytes

EVERYTHING = 1 << 64
"""The threshold that keeps every fingerprint."""


@dataclass(frozen=True, kw_only=True)
class ColumnSet:
    """An ordered list of leaves under a number: rows of two tables are compared over one column set.

    The paths are those of the table that is scanned; the order is that of the child's folded leaf paths.
    """

    id: int
    paths: tuple[LeafPath, ...]


@dataclass(frozen=True, kw_only=True)
class ScanFile:
    """One file of a scan.

    Attributes:
        stamp: The pinned file in the lake.
        data_uri: The Parquet file to read, another one only for text files.
        partition: Values of partition columns, as text that DuckDB casts to their types.
        deletes: What deletes rows of it, as `deletes.Deletes` in text form; empty where nothing does.
        number: Position among the table's fragments.
        evidence: What metadata had proved of its leaves, packed by `scan.evidence`, in base64; empty where the scan
            need not compare what it sees with it.
    """

    stamp: FileStamp
    data_uri: str
    partition: dict[str, str | None] = field(default_factory=dict)
    deletes: str = ""
    number: int = 0
    evidence: str = ""


@dataclass(frozen=True, kw_only=True)
class ScanItem:
    """Work for one kernel call: some files of one table and the column sets to fingerprint.

    Attributes:
        table: Position of the table.
        files: Read one after the other.
        partition_schema: Types of the partition columns.
        column_sets: All computed in one pass; with none the engine reads the rows, and the files are only checked for
            what its reader would lose.
        threshold: Keep fingerprints whose first lane is below it, read as unsigned; EVERYTHING keeps all.
        filters: A file of `scan.row_filter`: rows that its filters do not hold are only counted; empty for none.
        exact: The table has columns that differ only by case.
        schema: The table's columns, where they are found by field id.
        leaves: All leaves of the table in the order of the evidence; none where there is no evidence.
        evidence: What metadata had proved of the table as a whole, where the engine reads it; see ScanFile.evidence.
        first_bucket, buckets: A fingerprint goes to bucket `first_bucket + first % buckets`.
    """

    table: int
    files: tuple[ScanFile, ...]
    partition_schema: pa.Schema
    column_sets: tuple[ColumnSet, ...]
    threshold: int = EVERYTHING
    filters: str = ""
    exact: bool = False
    schema: pa.Schema | None = None
    leaves: tuple[LeafPath, ...] = ()
    evidence: str = ""
    first_bucket: int = 0
    buckets: int = 1

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(
            {
                "table": self.table,
                "files": [{**vars(file), "stamp": vars(file.stamp)} for file in self.files],
                "partition_schema": _schema_to_text(self.partition_schema),
                "column_sets": [[s.id, [list(path) for path in s.paths]] for s in self.column_sets],
                "threshold": self.threshold,
                "filters": self.filters,
                "exact": self.exact,
                "schema": None if self.schema is None else _schema_to_text(self.schema),
                "leaves": [list(path) for path in self.leaves],
                "evidence": self.evidence,
                "first_bucket": self.first_bucket,
                "buckets": self.buckets,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ScanItem:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            table=raw["table"],
            files=tuple(ScanFile(**{**file, "stamp": FileStamp(**file["stamp"])}) for file in raw["files"]),
            partition_schema=_schema_from_text(raw["partition_schema"]),
            column_sets=tuple(
                ColumnSet(id=number, paths=tuple(tuple(path) for path in paths)) for number, paths in raw["column_sets"]
            ),
            threshold=raw["threshold"],
            filters=raw["filters"],
            exact=raw["exact"],
            schema=None if raw["schema"] is None else _schema_from_text(raw["schema"]),
            leaves=tuple(tuple(path) for path in raw["leaves"]),
            evidence=raw["evidence"],
            first_bucket=raw["first_bucket"],
            buckets=raw["buckets"],
        )


def _schema_to_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema_to_bytes(schema)).decode()


@lru_cache(maxsize=64)
def _schema_from_text(text: str) -> pa.Schema:
    return schema_from_bytes(base64.b64decode(text))
