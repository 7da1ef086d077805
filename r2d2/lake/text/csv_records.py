"""The records of a CSV file: where they are, and their fields as text.

Records are found by a regular expression, one match per row, which refuses whatever is not a row of the header's width;
pyarrow then reads the fields, and both must see the same number of rows. pyarrow alone accepts an open quote at the end
and text after a closing quote; DuckDB accepts a superfluous delimiter at the end of a row and leaves out the rows after
an open quote.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.text.files import Snapshot

_BLOCK_BYTES = 4 << 20
_MAX_ROW_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the records of a file are.

    Attributes:
        header: Fields of the first record, unquoted.
        body: Offset behind the header's line end.
        rows: Records behind it.
        longest: Bytes of the longest of them.
    """

    header: tuple[str, ...]
    body: int
    rows: int
    longest: int


_LINE_ENDS = re.compile(rb"[\r\n]*")
_RECORD_END = rb"(?:\r\n|\n|\r|\Z)"
_QUOTED = rb'"[^"]*(?:""[^"]*)*"'


def find_records(snapshot: Snapshot, delimiter: str) -> Layout:
    """Check the structure of a whole file; its last line gets a line end if it has none.

    Args:
        snapshot: The file.
        delimiter: One ASCII character.

    Raises:
        TableFailed: If there is no header, or a record breaks the quoting rules or is not as wide as the header.
        TableUnsupported: If a record is longer than 256 MiB.
    """
    _end_last_line(snapshot.path)
    with open(snapshot.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        header, body = _header(text, delimiter)
        rows, longest = _count_records(text, body, _record_pattern(delimiter, len(header)))
    return Layout(header=header, body=body, rows=rows, longest=longest)


def _header(text: mmap.mmap, delimiter: str) -> tuple[tuple[str, ...], int]:
    place = _line_ends(text, 0)
    if place == len(text):
        raise TableFailed("a file of the table has only blank lines: it has no column", error="NoColumns")
    field = re.compile(rb"(%b|%b)(%b|%b)" % (_QUOTED, _plain(delimiter), re.escape(delimiter.encode()), _RECORD_END))
    fields: list[str] = []
    while True:
        found = field.match(text, place)
        if found is None:
            raise TableFailed("the header of a CSV file breaks the quoting rules", error="Quotes")
        fields.append(_unquoted(found.group(1)))
        place = found.end()
        if found.group(2) != delimiter.encode():
            return tuple(fields), place


def _count_records(text: mmap.mmap, place: int, record: re.Pattern[bytes]) -> tuple[int, int]:
    rows = longest = 0
    while (start := _line_ends(text, place)) < len(text):
        found = record.match(text, start)
        if found is None:
            raise TableFailed(
                f"row {rows + 1} of a CSV file breaks the quoting rules or is not as wide as the header", error="Row"
            )
        place = found.end()
        longest = max(longest, place - start)
        rows += 1
    if longest > _MAX_ROW_BYTES:
        raise TableUnsupported("a row of a CSV file is longer than 256 MiB", error="LongRow")
    return rows, longest


def _line_ends(text: mmap.mmap, place: int) -> int:
    found = _LINE_ENDS.match(text, place)
    return place if found is None else found.end()


def _record_pattern(delimiter: str, columns: int) -> re.Pattern[bytes]:
    """One record of exactly so many fields with its line end; quotes matter only where they begin a field."""
    field = rb"(?:%b|%b)" % (_QUOTED, _plain(delimiter))
    return re.compile(rb"(?:%b%b){%d}%b%b" % (field, re.escape(delimiter.encode()), columns - 1, field, _RECORD_END))


def _plain(delimiter: str) -> bytes:
    """An unquoted field, possibly empty: a quote within it is an ordinary character."""
    return rb'(?:[^"\r\n%b][^\r\n%b]*)?' % (_in_set(delimiter), _in_set(delimiter))


def _in_set(delimiter: str) -> bytes:
    """The delimiter as a member of a character class."""
    return b"\\x%02x" % ord(delimiter)


def _unquoted(field: bytes) -> str:
    return (field[1:-1].replace(b'""', b'"') if field.startswith(b'"') else field).decode()


def write_fields(snapshot: Snapshot, layout: Layout, delimiter: str, path: str) -> None:
    """Write the records' fields as a Parquet file with text columns c0, c1, …; an empty field is NULL.

    Raises:
        TableFailed: If the file cannot be read as so many rows.
    """
    schema = pa.schema([(f"c{index}", pa.string()) for index in range(len(layout.header))])
    rows = 0
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for batch in _field_batches(snapshot, layout, delimiter, schema) if layout.rows else ():
            rows += batch.num_rows
            writer.write_batch(batch)
    if rows != layout.rows:
        raise TableFailed("a CSV file was read as two different numbers of rows", error="RowCount")


def _field_batches(snapshot: Snapshot, layout: Layout, delimiter: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    block_bytes = max(_BLOCK_BYTES, 2 * layout.longest)
    with pa.OSFile(snapshot.path) as file:
        file.seek(layout.body - 1)  # at the header's line end, a blank line: pyarrow strips U+FEFF from the beginning
        try:
            yield from pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(use_threads=False, column_names=schema.names, block_size=block_bytes),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter, quote_char='"', double_quote=True, escape_char=False, newlines_in_values=True
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=schema,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as exc:
            raise TableFailed("a CSV file could not be read as rows", error="Row") from exc


def _end_last_line(path: str) -> None:
    """At the end of a file without line end, pyarrow takes an empty field for a quoted one if the one before was."""
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) not in b"\r\n":
            file.write(b"\n")
