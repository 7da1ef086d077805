"""Bag sums of many frames of few rows, by kernels that take the rows of many frames at once.

To plan the fingerprints of a frame costs DuckDB tens of milliseconds, however few rows it has. Here rows travel to few
kernels as Arrow batches, and values of one type are digested together, whatever frame and column they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.model import leaves
from r2d2.scan.bag_sums import SUMS, BagSum, sum_row
from r2d2.scan.by_type import digest_arrays
from r2d2.scan.combine import Lanes, row_fingerprints
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.plan import column_order
from r2d2.scan.rowhash import RowHasher, check_hash_version
from r2d2.scan.spill import Kernel

KERNEL_BYTES = 64 << 20
"""Rows that a kernel takes at once; their digests may need as much again."""

PIECES = pa.schema([("table", pa.int32()), ("rows", pa.binary())])
"""Rows of a table: a batch in Arrow's stream format."""

TABLE = "r2d2_table"
"""The last column of a frame that several tables share: whose row it is, a position among them."""


def are_plain(schema: pa.Schema) -> bool:
    """Whether each column has one value per row, and there is one."""
    return len(schema) > 0 and not any(pa.types.is_nested(column.type) for column in schema)


def packed_rows(batch: pa.RecordBatch) -> bytes:
    """A batch in Arrow's stream format, compressed: a task may hold all pieces of its work at once."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def column_places(schema: pa.Schema) -> list[int]:
    """Positions of columns in the order in which a row's fingerprint combines them."""
    return [schema.get_field_index(name) for (name,) in column_order([path for path, _ in leaves(schema)])]


def packer(tables: Sequence[int]) -> Kernel:
    """The kernel that makes PIECES of the rows of some tables: of one, or, told apart by TABLE, of several."""

    def packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            pieces = [(tables[place], packed_rows(rows)) for place, rows in _by_table(batch, len(tables))]
            yield pa.RecordBatch.from_pylist([{"table": table, "rows": rows} for table, rows in pieces], PIECES)

    return packed


def _by_table(batch: pa.RecordBatch, tables: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    if tables == 1:
        yield 0, batch
        return
    places = batch.column(TABLE)
    rows = batch.drop_columns([TABLE])
    for place in pc.unique(places).to_pylist():
        yield place, rows.filter(pc.equal(places, place))


def summer(places: Mapping[int, Sequence[int]], hasher: RowHasher, limits: KernelLimits) -> Kernel:
    """The kernel that adds up PIECES to rows of SUMS.

    Args:
        places: By table, its `column_places`.
        hasher: Row identity.
        limits: Of one kernel call.
    """

    def summed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        check_hash_version()
        held: list[tuple[int, pa.RecordBatch]] = []
        room = KERNEL_BYTES
        for table, rows in _unpacked(batches):
            held.append((table, rows))
            room -= rows.nbytes
            if room <= 0:
                yield _sums(held, places, hasher, limits)
                held, room = [], KERNEL_BYTES
        if held:
            yield _sums(held, places, hasher, limits)

    return summed


def _unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        for table, packed in zip(batch["table"].to_pylist(), batch["rows"], strict=True):
            for rows in pa.ipc.open_stream(packed.as_buffer()):
                yield table, rows


def _sums(
    held: Sequence[tuple[int, pa.RecordBatch]],
    places: Mapping[int, Sequence[int]],
    hasher: RowHasher,
    limits: KernelLimits,
) -> pa.RecordBatch:
    """The sums of some pieces, schema SUMS."""
    digests = _digests([rows for _, rows in held], hasher, limits)
    told = []
    for number, (table, _) in enumerate(held):
        first, second = row_fingerprints(hasher, (digests[number, place] for place in places[table]))
        told.append(sum_row(table, 0, BagSum.of(first, second, None)))
    return pa.RecordBatch.from_pylist(told, schema=SUMS)


def _digests(pieces: Sequence[pa.RecordBatch], hasher: RowHasher, limits: KernelLimits) -> dict[tuple[int, int], Lanes]:
    """The digests of all values, by piece and column."""
    by_type: dict[pa.DataType, list[tuple[int, int]]] = {}
    for number, rows in enumerate(pieces):
        for place, column in enumerate(rows.columns):
            by_type.setdefault(column.type, []).append((number, place))
    found: dict[tuple[int, int], Lanes] = {}
    with connect(limits) as connection:
        for dtype, places in by_type.items():
            arrays = [pieces[number].column(place) for number, place in places]
            found |= zip(places, digest_arrays(connection, hasher, dtype, arrays), strict=True)
    return found
