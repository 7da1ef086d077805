"""The values of one column of a Parquet file, decoded through pyarrow: what claims about its pages are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.scan.files import open_file
from r2d2.scan.footer.read import Footer
from r2d2.scan.footer.stored_order import first_at, last_at, stored_value

_BATCH_ROWS = 65_536

Interval = tuple[bytes | None, bytes | None]


def intervals_with_values(
    uri: str, footer: Footer, position: int, dtype: pa.DataType, intervals: Sequence[Interval]
) -> list[bool]:
    """Which intervals of keys hold a value of a column.

    Args:
        uri: The file that the footer was read from.
        footer: Its footer.
        position: Of the Parquet column, which is not inside an array or a map.
        dtype: Its type.
        intervals: Closed; None is unbounded.

    Raises:
        Exception: Whatever pyarrow raises for pages that it cannot read.
    """
    ends = [(first_at(low, dtype), last_at(high, dtype)) for low, high in intervals]
    found = [False] * len(ends)
    for values in _batches(uri, footer, position, dtype):
        for place, (first, last) in enumerate(ends):
            found[place] = found[place] or _has_one(values, first, last)
    return found


def _has_one(values: Any, first: Any, last: Any) -> bool:
    if not isinstance(values, np.ndarray):
        return any((first is None or first <= value) and (last is None or value <= last) for value in values)
    within = np.ones(len(values), bool)
    if first is not None:
        within &= values >= first
    if last is not None:
        within &= values <= last
    return bool(within.any())


def _batches(uri: str, footer: Footer, position: int, dtype: pa.DataType) -> Iterator[Any]:
    """Values that are not NULL, as the file stores them: arrays of numbers, lists of all else."""
    with open_file(uri) as file:
        reader = pq.ParquetFile(file, metadata=footer.metadata, page_checksum_verification=True).reader
        groups = list(range(footer.metadata.num_row_groups))
        for batch in reader.iter_batches(_BATCH_ROWS, row_groups=groups, column_indices=[position], use_threads=False):
            yield _stored(_leaf(batch.column(0)), dtype)


def _leaf(array: pa.Array) -> pa.Array:
    while True:
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        elif pa.types.is_struct(array.type):
            (array,) = array.flatten()
        elif pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        else:
            return array.drop_null()


def _stored(array: pa.Array, dtype: pa.DataType) -> Any:
    t = pa.types
    if t.is_string(dtype) or t.is_binary(dtype):
        return [cell.encode() if isinstance(cell, str) else bytes(cell) for cell in array.to_pylist()]
    if t.is_decimal(dtype):
        return [stored_value(cell, dtype) for cell in array.cast(dtype).to_pylist()]
    if t.is_boolean(dtype):
        return [int(cell) for cell in array.to_pylist()]
    numbers = array.cast(dtype)
    if t.is_temporal(dtype):
        numbers = numbers.cast(pa.int32() if t.is_date(dtype) else pa.int64())
    return np.asarray(numbers.to_numpy(zero_copy_only=False))
