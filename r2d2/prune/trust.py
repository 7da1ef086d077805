"""Which claims may count for what: the trust table, by source, writer and type of a claim.

A bound is at least an outer bound, or it does not count at all. Whether it is also a value of a row, or how far from
one it can be, depends on who wrote it. The facts behind the table are in `docs/soundness.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from r2d2.model import Claim


class Reading(StrEnum):
    """What a claim's bounds are, the weakest first."""

    NOTHING = "nothing"  # not even outer bounds
    COVER = "cover"  # no value lies outside; there may be none inside (floats: rows may all be NaN)
    INTERVAL = "interval"  # no value lies outside; where there is a value, one lies inside
    MILLISECONDS = "milliseconds"  # within 999 microseconds of the first and the last value
    PREFIX = "prefix"  # cut from the first and the last value
    POINT = "point"  # the first and the last value


@dataclass(frozen=True, kw_only=True, order=True)
class Suspect:
    """A writer and a type whose claims were found to be wrong, and do not count in this audit any more."""

    source: str
    writer: str
    type: str


_FAMILIES = (
    ("parquet-cpp", "parquet-cpp"),
    ("duckdb", "duckdb"),
    ("polars ", "polars"),
    ("parquet-rs", "parquet-rs"),
    ("parquet-mr", "parquet-mr"),
    ("fastparquet", "fastparquet"),
    ("delta-rs", "delta-rs"),
    ("datafusion", "datafusion"),
    ("apache-spark", "delta-spark"),
    ("pyiceberg", "pyiceberg"),
    ("iceberg", "iceberg"),
)
_UNKNOWN = "unknown"

_TYPE_GROUPS = (
    ("int", "integer"),
    ("uint", "integer"),
    ("date", "date"),
    ("timestamp", "timestamp"),
    ("decimal", "decimal"),
    ("bool", "boolean"),
    ("float", "float"),
    ("double", "float"),
    ("string", "text"),
    ("large_string", "text"),
    ("binary", "text"),
    ("large_binary", "text"),
    ("fixed_size_binary", "text"),
)

_NOTHING, _COVER, _I = Reading.NOTHING, Reading.COVER, Reading.INTERVAL
_P, _X, _M = Reading.POINT, Reading.PREFIX, Reading.MILLISECONDS
_FOOTER = {"integer": _P, "date": _P, "timestamp": _P, "decimal": _P, "boolean": _P, "float": _P, "text": _X}
_DELTA = {"integer": _P, "date": _P, "timestamp": _M, "decimal": _I, "boolean": _P, "float": _P, "text": _X}
_ICEBERG = {"integer": _P, "date": _P, "timestamp": _P, "decimal": _P, "boolean": _P, "float": _P, "text": _X}
_FOOTER_FAMILIES = ("parquet-cpp", "duckdb", "polars", "parquet-rs", "delta-rs", "datafusion", "parquet-mr")
_TABLE = {
    **{("footer", family): _FOOTER for family in _FOOTER_FAMILIES},
    **{("delta-log", family): _DELTA for family in ("delta-rs", "delta-spark")},
    **{("iceberg", family): _ICEBERG for family in ("iceberg", "pyiceberg")},
}
_UNKNOWN_FOOTER = {"float": _COVER, "decimal": _NOTHING, "text": _NOTHING}
"""Writers have got the order of these wrong more than once."""
_UNKNOWN_LOG = {"float": _COVER}


def reading_of(claim: Claim) -> Reading:
    """What the bounds of a claim are, going by its source, writer and type."""
    if claim.source == "partition":
        return Reading.POINT
    group = type_group(claim.type)
    unknown = _UNKNOWN_FOOTER if claim.source == "footer" else _UNKNOWN_LOG
    known = _TABLE.get((claim.source, writer_family(claim.writer)))
    return (known or unknown).get(group, Reading.INTERVAL)


def tells_nulls(claim: Claim) -> bool:
    """Whether `nulls = 0` means that no row is NULL.

    Importers of footers count a missing count as zero, and a log does not say that it was filled by one.
    """
    return claim.source not in ("delta-log", "iceberg") or writer_family(claim.writer) != _UNKNOWN


def suspect(claim: Claim) -> Suspect:
    """Whom to distrust after a claim was found to be wrong."""
    return Suspect(source=claim.source, writer=writer_family(claim.writer), type=type_group(claim.type))


@lru_cache(maxsize=1024)
def writer_family(writer: str) -> str:
    """The writer behind the many texts by which its versions name themselves."""
    lower = writer.lower()
    return next((family for start, family in _FAMILIES if lower.startswith(start)), _UNKNOWN)


@lru_cache(maxsize=1024)
def type_group(dtype: str) -> str:
    """Types whose bounds a writer treats alike."""
    return next((group for start, group in _TYPE_GROUPS if dtype.startswith(start)), dtype)
