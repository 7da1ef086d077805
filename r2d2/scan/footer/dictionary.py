"""Dictionary pages: the values that a column chunk refers to, decoded in bulk."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.scan.footer.thrift import ChunkFacts, page_header

MOST_BYTES = 1 << 23
"""Of a dictionary page after decompression; a larger one is not looked at."""

_DATA_PAGES, _INDEX_PAGE, _DICTIONARY_PAGE = (0, 3), 1, 2
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_NUMBERS = {"INT32": "<i4", "INT64": "<i8", "FLOAT": "<f4", "DOUBLE": "<f8"}
_WORD_BYTES = 8
_DAMAGED = (pa.ArrowException, OSError, ValueError, IndexError, OverflowError)


def refers_to_dictionary(facts: ChunkFacts) -> bool:
    """Whether all values of a chunk are in its dictionary: its footer says so of each kind of page.

    The list of encodings alone would not tell, as PLAIN stands there for the dictionary as for data pages. A kind of
    page that is not known may hold values too.
    """
    without_values = (_INDEX_PAGE, _DICTIONARY_PAGE)
    pages = [(kind, encoding) for kind, encoding, _ in facts.encodings or () if kind not in without_values]
    dictionaries = (_PLAIN_DICTIONARY, _RLE_DICTIONARY)
    return bool(pages) and all(kind in _DATA_PAGES and encoding in dictionaries for kind, encoding in pages)


def dictionary_values(data: bytes, codec: int | None, physical: str, size: int, dtype: pa.DataType) -> Any:
    """The distinct values of a dictionary page as the file stores them, ascending, without NaN.

    Args:
        data: Starts with the page's header.
        codec: Parquet's number of the compression.
        physical: Parquet's name of the type as stored.
        size: Bytes of a value of type FIXED_LEN_BYTE_ARRAY.
        dtype: Of the leaf.

    Returns:
        A NumPy array of numbers or a list of integers or bytes; None where the page is not whole, or not understood.
    """
    try:
        header = page_header(data)
        if header.kind != _DICTIONARY_PAGE or header.encoding not in (_PLAIN, _PLAIN_DICTIONARY):
            return None
        count, packed, plain = header.values or 0, header.compressed_bytes or 0, header.uncompressed_bytes or 0
        body = data[header.size : header.size + packed]
        if count < 0 or packed < 0 or len(body) != packed or not 0 <= plain <= MOST_BYTES:
            return None
        if header.crc is not None and zlib.crc32(body) != header.crc & 0xFFFFFFFF:
            return None
        return _decoded(_decompressed(body, codec, plain), count, physical, size, dtype)
    except _DAMAGED:
        return None


def _decompressed(body: bytes, codec: int | None, size: int) -> bytes:
    if codec == 0:
        if len(body) != size:
            raise ValueError("a page has another size than its header says")
        return body
    if codec not in _CODECS:
        raise ValueError("a page is compressed in a way that is not read")
    return bytes(pa.decompress(body, decompressed_size=size, codec=_CODECS[codec], asbytes=True)) if size else b""


def _decoded(data: bytes, count: int, physical: str, size: int, dtype: pa.DataType) -> Any:
    is_decimal = pa.types.is_decimal(dtype)
    if physical in _NUMBERS:
        values = _numbers(data, count, physical, dtype)
    elif physical == "FIXED_LEN_BYTE_ARRAY" and size > 0 and len(data) == count * size:
        is_word = is_decimal and size <= _WORD_BYTES
        values = _words(data, size) if is_word else [data[at : at + size] for at in range(0, len(data), size)]
    elif physical == "BYTE_ARRAY":
        values = _byte_arrays(data, count)
    else:
        return None
    if not isinstance(values, np.ndarray):
        values = sorted({int.from_bytes(raw, "big", signed=True) for raw in values} if is_decimal else set(values))
    if is_decimal and len(values) > 0:
        most = 10**dtype.precision
        return values if -most < int(values[0]) and int(values[-1]) < most else None
    return values


def _words(data: bytes, size: int) -> npt.NDArray[np.int64]:
    """Big-endian integers with a sign, of so many bytes each, at most _WORD_BYTES; distinct and ascending."""
    stored = np.frombuffer(data, np.uint8).reshape(-1, size)
    words = np.zeros((len(stored), _WORD_BYTES), np.uint8)
    words[stored[:, 0] >= 1 << 7] = 0xFF
    words[:, _WORD_BYTES - size :] = stored
    return np.unique(words.view(">i8").ravel().astype(np.int64))


def _numbers(data: bytes, count: int, physical: str, dtype: pa.DataType) -> Any:
    layout = np.dtype(_NUMBERS[physical])
    if pa.types.is_unsigned_integer(dtype):
        layout = np.dtype(layout.str.replace("i", "u"))
    if len(data) != count * layout.itemsize:
        raise ValueError("a page holds another number of values than its header says")
    values = np.unique(np.frombuffer(data, layout))
    if layout.kind == "f":
        return values[~np.isnan(values)].astype(np.float64)
    if pa.types.is_integer(dtype) and dtype.bit_width < 8 * layout.itemsize and len(values):
        limits = np.iinfo(dtype.to_pandas_dtype())
        if values[0] < limits.min or values[-1] > limits.max:
            raise ValueError("a page holds values that its type has not")
    return values


def _byte_arrays(data: bytes, count: int) -> list[bytes]:
    values, at = [], 0
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        values.append(data[start:at])
        if at > len(data):
            raise ValueError("a page is cut off")
    if at != len(data):
        raise ValueError("a page holds another number of values than its header says")
    return values
