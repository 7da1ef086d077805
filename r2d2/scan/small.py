"""Small files, decoded whole: what a kernel needs to fingerprint many of them at once.

A query over one file costs DuckDB some twenty milliseconds whatever the file holds, and decoding a small one a third of
one. Only what pyarrow is known to read as DuckDB does is decoded here, and whatever is doubtful about a file is left to
the reader of single files, whose answer counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from r2d2.model import LeafPath, fold
from r2d2.scan.deletes import Deletes
from r2d2.scan.files import check_unchanged, is_remote, open_file
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.footer.schema import width
from r2d2.scan.items import ScanFile, ScanItem
from r2d2.scan.source import Named

SMALL_BYTES = 2 << 20
"""Compressed bytes of a small file, and of the columns that are wanted of it."""
SMALL_VALUES = 1 << 19
"""Values that are decoded of a small file at most."""
WIDE_COLUMNS = 64
"""Columns from which on the two limits above are these: what DuckDB takes for a query grows with the columns."""
WIDE_BYTES = 16 << 20
WIDE_VALUES = 1 << 22
SMALL_DECODED_BYTES = 64 << 20
"""What a small file takes at most once decoded: its dictionaries may hold long texts."""
SMALL_ITEM_BYTES = 128 << 20
"""What all files of an item take at most while they are fingerprinted: many may hold little but repeated values."""

_BATCH_ROWS = 65_536
_DIGEST_BYTES = 16
_FIRST_MICROSECOND = -9_223_372_022_400_000_000
"""DuckDB's first timestamp, in 290309 BC; its reader of files refuses those before."""
_TYPES = frozenset(
    [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32()]
    + [pa.timestamp(unit, tz=zone) for unit in ("us", "ns") for zone in (None, "UTC")]
)


@dataclass(frozen=True, kw_only=True)
class Literal:
    """One value in all rows: the text of a partition value (None is NULL), and its type."""

    text: str | None
    type: pa.DataType


NULL = Literal(text=None, type=pa.null())
"""What a file has in a column that it lacks."""


@dataclass(frozen=True, kw_only=True)
class SmallFile:
    """A decoded file.

    Attributes:
        file: Which one.
        rows: Its rows.
        bytes_read: Compressed bytes of the columns asked for, plus the footer, where the file is one of the lake.
        values: By path of a leaf: its values, or what all rows have there.
    """

    file: ScanFile
    rows: int
    bytes_read: int
    values: Mapping[LeafPath, pa.Array | Literal]

    @cached_property
    def decoded_bytes(self) -> int:
        """Memory of its values."""
        return sum(array.nbytes for array in self.values.values() if not isinstance(array, Literal))


def read_small_item(item: ScanItem) -> list[SmallFile] | None:
    """The decoded files of an item; None where some of them are to be read one by one."""
    if not is_candidate(item):
        return None
    files: list[SmallFile] = []
    room = SMALL_ITEM_BYTES
    for file in item.files:
        small = read_small(item, file)
        if small is None:
            return None
        room -= working_bytes(item, small)
        if room < 0:
            return None
        files.append(small)
    return files


def working_bytes(item: ScanItem, file: SmallFile) -> int:
    """Memory of the values of a file of an item, of their digests, and of the fingerprints of its rows."""
    return file.decoded_bytes + _DIGEST_BYTES * file.rows * (len(file.values) + 3 * len(item.column_sets))


def is_candidate(item: ScanItem) -> bool:
    """Whether the files of an item may be small ones, as far as that is known before they are opened."""
    return (
        bool(item.column_sets)
        and item.schema is None
        and all(len(path) == 1 for column_set in item.column_sets for path in column_set.paths)
        and not any(file.deletes for file in item.files)
        and sum(file.stamp.size for file in item.files) <= _most_bytes(len(_paths(item)))
    )


def _paths(item: ScanItem) -> list[LeafPath]:
    """The leaves that are wanted, each once."""
    return list(dict.fromkeys(path for column_set in item.column_sets for path in column_set.paths))


def _most_bytes(columns: int) -> int:
    return WIDE_BYTES if columns >= WIDE_COLUMNS else SMALL_BYTES


def _most_values(columns: int) -> int:
    return WIDE_VALUES if columns >= WIDE_COLUMNS else SMALL_VALUES


def read_small(item: ScanItem, file: ScanFile) -> SmallFile | None:
    """A file in decoded form; None where it is to be read alone.

    Raises:
        TableFault: If it has changed, or has no footer that can be read.
        pa.ArrowException: If its pages cannot be decoded.
    """
    check_unchanged(file.stamp)
    footer = read_footer(file.data_uri)
    places = _places(item, file, footer)
    if places is None or not _is_small(footer, places):
        return None
    columns = sorted({place for place in places.values() if not isinstance(place, Literal)})
    if not columns:
        return None
    arrays = dict(zip(columns, _decoded(file.data_uri, footer, columns), strict=True))
    if not all(_is_plain(arrays[column], footer, column) for column in columns):
        return None
    check_unchanged(file.stamp)
    return SmallFile(
        file=file,
        rows=footer.rows,
        bytes_read=bytes_asked_for(item, file, footer),
        values={path: place if isinstance(place, Literal) else arrays[place] for path, place in places.items()},
    )


def bytes_asked_for(item: ScanItem, file: ScanFile, footer: Footer, deletes: Deletes | None = None) -> int:
    """Bytes of a file's footer and deletes, and of the chunks that an item touches; none if it is not of the lake."""
    if file.data_uri != file.stamp.uri:
        return 0
    wanted = {path[0].lower() for column_set in item.column_sets for path in column_set.paths}
    columns = zip(footer.schema.names, footer.column_bytes, strict=True)
    chunks = sum(size for name, size in columns if name.lower() in wanted)
    return footer.footer_bytes + chunks + (deletes.bytes if deletes else 0)


def _places(item: ScanItem, file: ScanFile, footer: Footer) -> dict[LeafPath, int | Literal] | None:
    """Where each leaf of an item comes from: a column of the file, by position, or a literal; None: read it alone."""
    if footer.legacy_calendar:
        return None
    declared = {fold(name) for name in file.partition}  # a partition value rules over a column of the file
    types = {column.name: column.type for column in item.partition_schema}
    columns: dict[str, int | Literal] = {
        field.name: index for index, field in enumerate(footer.schema) if fold(field.name) not in declared
    }
    columns |= {name: Literal(text=text, type=types[name]) for name, text in file.partition.items()}
    by_name = Named(columns, exact=item.exact)
    found: dict[LeafPath, int | Literal] = {}
    for path in _paths(item):
        place = by_name.find(path[0])
        if isinstance(place, int) and ((path[0],) in footer.int96 or not _is_readable(footer.schema.field(place))):
            return None
        found[path] = NULL if place is None else place
    return found


def _is_readable(field: pa.Field) -> bool:
    return field.type in _TYPES or pa.types.is_decimal128(field.type)


def _is_small(footer: Footer, places: Mapping[LeafPath, int | Literal]) -> bool:
    columns = {place for place in places.values() if isinstance(place, int)}
    return footer.rows * max(1, len(columns)) <= _most_values(len(columns)) and sum(
        footer.column_bytes[column] for column in columns
    ) <= _most_bytes(len(columns))


def _decoded(uri: str, footer: Footer, columns: Sequence[int]) -> Iterator[pa.Array]:
    """Top-level columns of a file, by position, each as one array."""
    source: Any = open_file(uri) if is_remote(uri) else uri
    file = pq.ParquetFile(source, metadata=footer.metadata)
    with file:
        batches = file.reader.iter_batches(
            _BATCH_ROWS,
            row_groups=list(range(footer.metadata.num_row_groups)),
            column_indices=[_first_leaf(footer, column) for column in columns],
            use_threads=False,
        )
        parts = list(_bounded(batches))
    for place, column in enumerate(columns):
        dtype = footer.schema.field(column).type
        chunks = [_as_declared(part.column(place), dtype) for part in parts]
        yield chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], dtype)


def _first_leaf(footer: Footer, column: int) -> int:
    """Position among the Parquet columns of a top-level column's first."""
    if footer.metadata.num_columns == len(footer.schema):
        return column
    return sum(width(footer.schema.field(index).type) for index in range(column))


def _bounded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    total = 0
    for batch in batches:
        total += sum(map(_decoded_bytes, batch.columns))
        if total > SMALL_DECODED_BYTES:
            raise pa.ArrowInvalid("too large for a small file")
        yield batch


def _decoded_bytes(array: pa.Array) -> int:
    """What an array takes, at most, once the values of its dictionary stand in their places."""
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    return len(array) * (pc.max(pc.binary_length(array.dictionary)).as_py() or 0)


def _as_declared(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    """The array in the type that the Parquet schema declares, where a writer's Arrow schema only words it otherwise."""
    t = pa.types
    if t.is_dictionary(array.type) and array.type.value_type == dtype:
        return array.dictionary_decode()
    if (array.type, dtype) in ((pa.large_string(), pa.string()), (pa.large_binary(), pa.binary())):
        return array.cast(dtype)
    if t.is_timestamp(array.type) and t.is_timestamp(dtype) and array.type.tz and dtype.tz:
        return array.cast(dtype) if array.type.unit == dtype.unit else array
    return array


def _is_plain(array: pa.Array, footer: Footer, column: int) -> bool:
    """Whether an array holds what DuckDB would read: valid values of the declared type, NULL where it is claimed."""
    if len(array) != footer.rows or array.type != footer.schema.field(column).type:
        return False
    if pa.types.is_string(array.type) or pa.types.is_decimal(array.type):
        array.validate(full=True)
    if pa.types.is_timestamp(array.type) and not _is_in_range(array):
        return False
    return _chunks_are_true(array, footer, _first_leaf(footer, column))


def _is_in_range(timestamps: pa.Array) -> bool:
    """Whether DuckDB's reader of files takes all of some timestamps."""
    low = pc.min(timestamps.view(pa.int64())).as_py()
    return low is None or timestamps.type.unit == "ns" or low >= _FIRST_MICROSECOND


def _chunks_are_true(array: pa.Array, footer: Footer, column: int) -> bool:
    """Whether every chunk has as many values as its rows, and is all NULL if it says so: DuckDB would not look."""
    start = 0
    for group in footer.facts.groups:
        chunk, rows = group.chunks[column], group.rows or 0
        claimed = chunk.nulls is not None and chunk.nulls >= rows
        if chunk.values != rows or (claimed and array.slice(start, rows).null_count != rows):
            return False
        start += rows
    return True
