"""Harvest of text tables: each file is converted once into a typed Parquet copy, which all later stages read."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from r2d2.errors import NotOneTable, TableFailed
from r2d2.lake.discovery import holds_other_files, listing_token
from r2d2.lake.partitions import (
    infer_partition_types,
    kept_partitions,
    partition_bound,
    partition_scalar,
    partition_values,
)
from r2d2.lake.text.csv import CsvTable, csv_view_options, read_csv_table, write_csv_copy
from r2d2.lake.text.files import Snapshot, take_snapshot
from r2d2.lake.text.json_lines import (
    NO_PARENT_REASON,
    Shape,
    observe_lines,
    shape_schema,
    write_json_copy,
)
from r2d2.model import Claim, Format, FoundTable, Fragment, Harvest
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.footer.read import read_footer

Values = dict[str, str | None]

_GLOB_OR_CONTROL = re.compile(r"[*?\[\]{}\\\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How text is read.

    Attributes:
        csv_delimiter: One character; None is a comma, and a tab for `.tsv`.
        csv_types: `infer` or `text`.
    """

    csv_delimiter: str | None
    csv_types: str


@dataclass(frozen=True, kw_only=True)
class _Converted:
    """What a format's conversion yields: columns of the files, rows per file, and the reason against recipes."""

    schema: pa.Schema
    rows: tuple[int, ...]
    quirk: str | None


def harvest_text(found: FoundTable, options: TextOptions, target: str) -> Harvest:
    """Convert a text table's files and read the metadata of the copies.

    Args:
        found: A CSV, TSV or JSON table; its files may be compressed and lie under partition folders.
        options: How CSV is read.
        target: Folder of the copies, local path or URL; they are called `<table>-<n>.parquet`.

    Returns:
        One fragment per file, in the order of `found.files`. Partition columns stand behind those of the files.

    Raises:
        TableFailed: If a file is damaged or breaks the rules of its format, or the files do not fit together.
        TableUnsupported: For values that no column type holds exactly.
        TableChanged: If a file is not the pinned one.
    """
    delimiter = options.csv_delimiter or ("\t" if found.format is Format.TSV else ",")
    copies = [f"{target.rstrip('/')}/{found.table}-{n}.parquet" for n in range(len(found.files))]
    with tempfile.TemporaryDirectory(prefix="r2d2-text-") as scratch:
        if found.format is Format.JSON:
            converted = _convert_json(found, copies, scratch)
        else:
            converted = _convert_csv(found, copies, scratch, delimiter, infer=options.csv_types == "infer")
    values = [partition_values(file.uri[len(found.uri) :]) for file in found.files]
    claims = [_copy_claims(uri, n, rows) for n, (uri, rows) in enumerate(zip(copies, converted.rows, strict=True))]
    types = kept_partitions(infer_partition_types(values), values, converted.schema, claims, converted.rows)
    fragments = [
        Fragment(stamp=file, data_uri=uri, rows=rows, partition={name: own[name] for name in types})
        for file, uri, rows, own in zip(found.files, copies, converted.rows, values, strict=True)
    ]
    table_bytes = sum(file.size for file in found.files)
    return Harvest(
        schema=pa.schema([*converted.schema, *types.items()]),
        version=listing_token(found),
        fragments=tuple(fragments),
        claims=(*chain.from_iterable(claims), *_partition_claims(types, fragments)),
        table_bytes=table_bytes,
        no_parent_reason=converted.quirk,
        view_options={} if found.format is Format.JSON else csv_view_options(delimiter),
        bytes_read=table_bytes,
    )


def _convert_csv(found: FoundTable, copies: Sequence[str], scratch: str, delimiter: str, *, infer: bool) -> _Converted:
    table: CsvTable = read_csv_table(found.files, delimiter, infer=infer, scratch=scratch)
    rows = tuple(write_csv_copy(table, file, uri) for file, uri in zip(table.files, copies, strict=True))
    return _Converted(schema=table.schema, rows=rows, quirk=_location_quirk(found) or table.quirk)


def _convert_json(found: FoundTable, copies: Sequence[str], scratch: str) -> _Converted:
    shape = Shape()
    snapshots: list[Snapshot] = []
    seen: list[tuple[int, set[str]]] = []
    for n, file in enumerate(found.files):
        snapshots.append(take_snapshot(file, os.path.join(scratch, f"{n}.txt")))
        seen.append(observe_lines(snapshots[-1], shape))
    _check_widest([keys for _, keys in seen])
    schema = shape_schema(shape)
    for snapshot, uri, (rows, _) in zip(snapshots, copies, seen, strict=True):
        if write_json_copy(snapshot, shape, schema, uri) != rows:
            raise TableFailed("the Parquet copy of a JSON file lost rows", error="RowCount")
    return _Converted(schema=schema, rows=tuple(rows for rows, _ in seen), quirk=NO_PARENT_REASON)


def _check_widest(keys: Sequence[set[str]]) -> None:
    widest = max(keys, key=len)
    if not all(one <= widest for one in keys):
        raise NotOneTable


def _copy_claims(uri: str, fragment: int, rows: int) -> list[Claim]:
    footer = read_footer(uri)
    if footer.rows != rows:
        raise TableFailed("the Parquet copy of a text file has another number of rows", error="RowCount")
    return footer_claims(footer, fragment)


# --- partition columns ------------------------------------------------------------------------------------------------


def _partition_claims(types: Mapping[str, pa.DataType], fragments: Sequence[Fragment]) -> Iterator[Claim]:
    for n, fragment in enumerate(fragments):
        for name, dtype in types.items():
            text = fragment.partition[name]
            bound = partition_bound(partition_scalar(text, dtype))
            nulls = fragment.rows if text is None else 0
            yield Claim(
                fragment=n,
                leaf=(name,),
                source="partition",
                writer="",
                type=str(dtype),
                nulls=nulls,
                low=bound,
                high=bound,
            )


# --- recipes ----------------------------------------------------------------------------------------------------------


def _location_quirk(found: FoundTable) -> str | None:
    """Why no view over the table's path reads exactly its files on both engines."""
    folder = found.uri.rstrip("/")
    if _GLOB_OR_CONTROL.search(folder) or ":" in folder.split("://", 1)[-1]:
        return "its path has characters that Spark or Sail do not take literally"
    if [file.uri for file in found.files] == [found.uri]:
        return None
    if any(os.path.dirname(file.uri) != folder for file in found.files):
        return "text tables with partition folders are not read by recipes yet"
    if any(_GLOB_OR_CONTROL.search(file.uri) or ":" in os.path.basename(file.uri) for file in found.files):
        return "a file's name has characters that Spark or Sail do not take literally"
    if len({_compression(file.uri) for file in found.files}) > 1:
        return "its files are compressed in different ways, which Sail does not read together"
    if holds_other_files(found):
        return "its folder holds other files, which Spark and Sail would read too"
    return None


def _compression(uri: str) -> str:
    ending = os.path.splitext(uri)[1].lower()
    return ending if ending in (".gz", ".zst") else ""
