"""Makers of real Iceberg tables by pyiceberg, delete files written by hand, and pyiceberg's own reading of a table."""

from __future__ import annotations

import json
import re
import struct
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    UNASSIGNED_SEQ,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    read_manifest_list,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import StaticTable, Table
from pyiceberg.typedef import Record
from pyroaring import BitMap64

from r2d2.lake.iceberg.table import harvest_iceberg
from r2d2.model import Format, FoundTable, Harvest, leaves
from r2d2.scan.duck import KernelLimits
from r2d2.scan.fingerprints import scan_items
from r2d2.scan.items import ColumnSet
from r2d2.scan.plan import Buckets, TableScan, column_order, items_of
from r2d2.scan.reports import REPORT
from r2d2.scan.rowhash import RowHasher
from tests.unit.fingerprint_rows import counted

HASHER = RowHasher(lane_keys=(0x0123456789ABCDEF, 0xFEDCBA9876543210))
Fingerprints = Counter[tuple[int, int]]


class Lake:
    """A warehouse of pyiceberg in a folder; its catalog lies beside it."""

    def __init__(self, folder: Path, location: str | None = None, **properties: str) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "lake"
        self.location = location or f"file://{self.path}"
        catalog = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": self.location}
        self.catalog = SqlCatalog("c", **catalog, **properties)
        self.catalog.create_namespace("n")

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.catalog.close()

    def create(self, name: str, schema: pa.Schema, **options: Any) -> Table:
        return self.catalog.create_table(f"n.{name}", schema=schema, location=f"{self.location}/{name}", **options)

    def adopt(self, name: str) -> Table:
        """Tell the catalog that the newest metadata file is the table's."""
        self.catalog.drop_table(f"n.{name}")
        return self.catalog.register_table(f"n.{name}", f"file://{newest_metadata(self.folder(name))}")

    def folder(self, name: str) -> Path:
        return self.path / name


def found(folder: Path) -> FoundTable:
    return FoundTable(table=0, id="t", format=Format.ICEBERG, uri=str(folder))


def harvest(folder: Path) -> Harvest:
    """The harvest of the Iceberg table in a folder."""
    return harvest_iceberg(found(folder))


def newest_metadata(folder: Path) -> Path:
    return max((folder / "metadata").glob("*.metadata.json"), key=lambda path: int(path.name.split("-")[0].strip("v")))


def read_by_pyiceberg(folder: Path) -> pa.Table:
    return StaticTable.from_metadata(str(newest_metadata(folder))).scan().to_arrow()


# ---- fingerprints: of a table as the kernel reads it, and of rows that another library has read


def fingerprints_of(harvest: Harvest) -> Fingerprints:
    """Counted fingerprints of a table's rows over all its leaves, read by the kernel from its pinned files.

    Raises:
        AssertionError: With the kernel's own words if it could not read a file.
    """
    counts, reports = counted(_scanned(harvest))
    for row in reports:
        assert row["error"] == "", (row["status"], row["message"])
    return Counter({(first, second): count for (_, first, second), count in counts.items()})


def fault_of(harvest: Harvest) -> tuple[str, str]:
    """Status and message of the first fault that the kernel met."""
    reports = (row for batch in _scanned(harvest) for row in batch.to_pylist() if row["column_set"] == REPORT)
    return next(((row["status"], row["message"]) for row in reports if row["error"]), ("", ""))


def _scanned(harvest: Harvest) -> Iterable[pa.RecordBatch]:
    paths = column_order([path for path, _ in leaves(harvest.schema)])
    scan = TableScan(table=0, harvest=harvest, column_sets=(ColumnSet(id=0, paths=paths),))
    items = [type(item).from_json(item.to_json()) for item in items_of(scan, Buckets(first=0, count=1))]
    return scan_items(items, HASHER, KernelLimits())


def fingerprints_of_rows(rows: pa.Table, path: Path) -> Fingerprints:
    """The same of rows in memory, by way of one plain Parquet file."""
    from r2d2.lake.parquet import harvest_parquet
    from r2d2.scan.files import stamp

    pq.write_table(rows, path)
    file = stamp(str(path))
    return fingerprints_of(
        harvest_parquet(FoundTable(table=0, id="t", format=Format.PARQUET, uri=str(path), files=(file,)))
    )


# ---- commits that pyiceberg cannot make: delete files


class _Writer(ManifestWriterV2):
    """Writes manifests of any content, with the fields of format version 3."""

    manifest_content = ManifestContent.DELETES

    def content(self) -> ManifestContent:
        return self.manifest_content

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes" if self.content() is ManifestContent.DELETES else "data"}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = self._with_partition(3)
        return AvroOutputFile(
            output_file=self._output_file,
            file_schema=schema,
            record_schema=schema,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


class _DataWriter(_Writer):
    manifest_content = ManifestContent.DATA


def delete_file(path: Path, rows: Sequence[tuple[str, int]], **fields: Any) -> dict[str, Any]:
    """A Parquet file of position deletes, and what a manifest says of it."""
    schema = pa.schema([pa.field("file_path", pa.string(), False), pa.field("pos", pa.int64(), False)])
    columns = [[file for file, _ in rows], [position for _, position in rows]]
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path)
    return _entry(path, FileFormat.PARQUET, len(rows), **fields)


def equality_file(path: Path, rows: pa.Table, ids: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A Parquet file of equality deletes, and what a manifest says of it.

    Args:
        path: Of the file.
        rows: Its columns, with field ids.
        ids: Of the columns that are compared.
        fields: Of `data_file`, to be changed.
    """
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows, path)
    content = {"content": DataFileContent.EQUALITY_DELETES, "equality_ids": list(ids)}
    return {**_entry(path, FileFormat.PARQUET, rows.num_rows), **content, **fields}


def with_ids(schema: pa.Schema, ids: Sequence[int]) -> pa.Schema:
    """A schema whose fields have these ids in Parquet."""
    return pa.schema(
        [f.with_metadata({"PARQUET:field_id": str(number)}) for f, number in zip(schema, ids, strict=True)]
    )


def vector_file(path: Path, data_file: str, positions: Iterable[int], **fields: Any) -> dict[str, Any]:
    """A Puffin file with one deletion vector, laid out by hand as the specification says."""
    bitmap = BitMap64(positions)
    payload = b"\xd1\xd3\x39\x64" + bitmap.serialize()
    blob = struct.pack(">I", len(payload)) + payload + struct.pack(">I", zlib.crc32(payload))
    properties = {"referenced-data-file": data_file, "cardinality": str(len(bitmap))}
    described = {"type": "deletion-vector-v1", "fields": [], "snapshot-id": -1, "sequence-number": -1}
    footer = json.dumps({"blobs": [{**described, "offset": 4, "length": len(blob), "properties": properties}]}).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PFA1" + blob + b"PFA1" + footer + struct.pack("<II", len(footer), 0) + b"PFA1")
    place = {"referenced_data_file": data_file, "content_offset": 4, "content_size_in_bytes": len(blob)}
    return _entry(path, FileFormat.PUFFIN, len(bitmap), **place, **fields)


def _entry(path: Path, kind: FileFormat, rows: int, **fields: Any) -> dict[str, Any]:
    return {
        "content": DataFileContent.POSITION_DELETES,
        "file_path": f"file://{path}",
        "file_format": kind,
        "partition": Record(),
        "record_count": rows,
        "file_size_in_bytes": path.stat().st_size,
        **fields,
    }


def commit(
    folder: Path,
    files: Sequence[Mapping[str, Any]],
    *,
    spec: PartitionSpec | None = None,
    sequence: int | None = None,
    summary: Mapping[str, str] | None = None,
    data: bool = False,
) -> None:
    """Add files to a table by a new snapshot, written with pyiceberg's own manifest writers.

    Args:
        folder: The table's.
        files: Fields of `data_file` by name, each file of one partition spec.
        spec: The partition spec, else that without fields.
        sequence: Data sequence number of the files, else that of the snapshot.
        summary: Added to the snapshot's summary.
        data: They are data files, not delete files.
    """
    path = newest_metadata(folder)
    raw = json.loads(path.read_text())
    table = StaticTable.from_metadata(str(path))
    version = int(re.match(r"v?(\d+)", path.name)[1]) + 1  # type: ignore[index]
    number = raw.get("last-sequence-number", 0) + 1
    snapshot_id, io = 1000 + version, PyArrowFileIO()
    manifest_path, list_path = (f"file://{folder}/metadata/{name}-{version}.avro" for name in ("m", "snap"))
    before = [s for s in raw["snapshots"] if s["snapshot-id"] == raw.get("current-snapshot-id")]
    manifests: list[ManifestFile] = []
    if before:
        manifests = list(read_manifest_list(io.new_input(before[0]["manifest-list"])))
    kind = _DataWriter if data else _Writer
    writer = kind(spec or PartitionSpec(), table.schema(), io.new_output(manifest_path), snapshot_id, "deflate")
    with writer:
        for fields in files:
            known = {f.name for f in DATA_FILE_TYPE[3].fields}
            assert set(fields) <= known, set(fields) - known
            writer.add_entry(
                ManifestEntry.from_args(
                    _table_format_version=3,
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=snapshot_id,
                    sequence_number=sequence,
                    data_file=DataFile.from_args(_table_format_version=3, **fields),
                )
            )
    manifests.append(writer.to_manifest_file())
    assert manifests[-1].sequence_number == UNASSIGNED_SEQ
    parent = before[0]["snapshot-id"] if before else None
    with write_manifest_list(2, io.new_output(list_path), snapshot_id, parent, number, "deflate") as written:
        written.add_manifests(manifests)
    raw["snapshots"].append(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": parent,
            "sequence-number": number,
            "timestamp-ms": raw["last-updated-ms"] + 1,
            "manifest-list": list_path,
            "summary": {"operation": "overwrite", **(summary or {})},
            "schema-id": raw["current-schema-id"],
        }
    )
    raw |= {"current-snapshot-id": snapshot_id, "last-sequence-number": number, "refs": {}}
    (folder / "metadata" / f"{version:05d}-{uuid.uuid4()}.metadata.json").write_text(json.dumps(raw))


def edit_metadata(folder: Path, **changes: Any) -> None:
    """Write a newer metadata file with some entries changed."""
    path = newest_metadata(folder)
    version = int(re.match(r"v?(\d+)", path.name)[1]) + 1  # type: ignore[index]
    raw = json.loads(path.read_text()) | changes
    (folder / "metadata" / f"{version:05d}-by-hand.metadata.json").write_text(json.dumps(raw))
