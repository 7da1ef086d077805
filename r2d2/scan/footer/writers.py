"""Which statistics of a footer its writer got right.

The format says what statistics mean; some versions of some writers wrote others. A file names its writer in
`created_by`, so what such a version may have got wrong is left out. Each rule stands for a known defect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

_VERSION = re.compile(r"^(?P<name>.*?) version v?(?P<major>\d{1,6})\.(?P<minor>\d{1,6})", re.DOTALL)
_PARQUET_CPP, _PARQUET_MR, _PARQUET_RS = "parquet-cpp", "parquet-mr", "parquet-rs"
_WRONG_BOUNDS = ("arrow2", "hyparquet")  # of several pages, of decimals
_LARGEST_FLOATS = {pa.float32(): (2.0 - 2.0**-23) * 2.0**127, pa.float64(): (2.0 - 2.0**-52) * 2.0**1023}


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Who wrote a file.

    Attributes:
        name: Lower case, without the version; empty where the file does not say.
        version: Major and minor number, (0, 0) where the file does not say.
    """

    name: str
    version: tuple[int, int]


@lru_cache(maxsize=256)
def parse_writer(created_by: str) -> Writer:
    """The writer that a footer's `created_by` names."""
    found = _VERSION.match(created_by)
    if found is None:
        return Writer(name=created_by.lower(), version=(0, 0))
    return Writer(name=found["name"].lower(), version=(int(found["major"]), int(found["minor"])))


def has_outer_bounds(created_by: str, dtype: pa.DataType, physical: str, *, may_be_codes: bool) -> bool:
    """Whether no value of a column of that writer lies outside of its bounds.

    Args:
        created_by: Of the footer, empty where unknown.
        dtype: Of the leaf; INT96 and dates of legacy calendars are for the caller to leave out.
        physical: Parquet's name of the type as stored.
        may_be_codes: The writer may have been given codes and a dictionary in place of values.
    """
    writer = parse_writer(created_by)
    if writer.name.startswith(_WRONG_BOUNDS):
        return False
    if pa.types.is_floating(dtype):
        return _skips_nan(writer)
    if pa.types.is_unsigned_integer(dtype):
        return _orders_bytes(writer) and not (_is_old_polars(writer) and dtype == pa.uint64())
    if pa.types.is_decimal(dtype):
        return _has_outer_decimals(writer, physical)
    if pa.types.is_string(dtype) or pa.types.is_binary(dtype):
        return _has_outer_texts(writer, may_be_codes=may_be_codes)
    return True


def counts_nulls(created_by: str, dtype: pa.DataType, *, may_be_codes: bool) -> bool:
    """Whether a writer's counts of NULL are right; see `counts_some_nulls` for those that are not zero."""
    writer = parse_writer(created_by)
    is_text = pa.types.is_string(dtype) or pa.types.is_binary(dtype)
    is_bytes = is_text or pa.types.is_unsigned_integer(dtype) or pa.types.is_decimal(dtype)
    if is_bytes and _is_before_orders(writer):  # parquet-cpp and parquet-mr believe none of these statistics
        return False
    # It counted the NULLs of the dictionary, not those of the codes.
    return not (writer.name.startswith(_PARQUET_CPP) and writer.version < (6, 0) and is_text and may_be_codes)


def counts_some_nulls(created_by: str) -> bool:
    """Whether a writer's counts of NULL above zero are right.

    Polars 1.40 to 1.44, among others that do not say their version, multiplied them by the number of pages.
    """
    return not _is_old_polars(parse_writer(created_by))


def is_bound(value: float, dtype: pa.DataType) -> bool:
    """Whether a float in a footer says anything: NaN does not, nor does the largest finite number.

    Older parquet-cpp puts the latter in place of the bound of a column in which all values are the same infinity.
    """
    return value == value and abs(value) != _LARGEST_FLOATS.get(dtype)


def _orders_bytes(writer: Writer) -> bool:
    """Whether bounds of strings, binary, unsigned integers and decimals in bytes follow their real order.

    Statistics from before the format defined column orders compare signed bytes. A writer that names itself not at all
    may be a parquet-mr of that time.
    """
    return not _is_before_orders(writer) and writer.name != "" and not writer.name.startswith("fastparquet")


def _is_before_orders(writer: Writer) -> bool:
    if writer.name.startswith(_PARQUET_MR):
        return writer.version < (1, 10)
    return writer.name.startswith(_PARQUET_CPP) and "arrow" not in writer.name and writer.version < (1, 3)


def _skips_nan(writer: Writer) -> bool:
    """Whether bounds of floats hold all values beside a NaN.

    parquet-cpp compared values in pairs at first and did not look at the one next to a NaN.
    """
    if writer.name.startswith(_PARQUET_CPP):
        return "arrow" in writer.name or writer.version >= (1, 5)
    return writer.name != ""


def _has_outer_decimals(writer: Writer, physical: str) -> bool:
    if physical == "BYTE_ARRAY":  # parquet-rs compares them as text, some even as prefixes
        return False
    if physical != "FIXED_LEN_BYTE_ARRAY":
        return True
    return _orders_bytes(writer) and not _is_old_polars(writer)  # it merged pages as unsigned bytes


def _has_outer_texts(writer: Writer, *, may_be_codes: bool) -> bool:
    if writer.name.startswith(_PARQUET_RS) and writer.version < (5, 2):  # the order was lost on the way
        return False
    # Up to 10 the bounds of a column of codes are those of its first batch; 11 still got those of pages wrong.
    is_old_cpp = writer.name.startswith(_PARQUET_CPP) and writer.version < (12, 0)
    return _orders_bytes(writer) and not (is_old_cpp and may_be_codes)


def _is_old_polars(writer: Writer) -> bool:
    """Whether it is a Polars before 2.0, none of which says its version."""
    return writer.name.startswith("polars") and writer.version < (2, 0)
