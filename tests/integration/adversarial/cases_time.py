"""Dates and timestamps: truncated and rebased bounds, zones, units, calendars; and all three on the UTC clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow as pa

from tests.integration.adversarial.case import ANY, BAG, KEEP, NONE, REFUTE, Case
from tests.integration.adversarial.writers import (
    arrow,
    column,
    delta,
    delta_sql,
    duck,
    fast,
    no_commit_info,
    operation,
    polars,
    rust,
    spark,
    utc,
    wall,
)

INSTANT = pa.timestamp("us", tz="UTC")
NEW_YORK = {"spark.sql.session.timeZone": "America/New_York"}
LOS_ANGELES = {"spark.sql.session.timeZone": "America/Los_Angeles"}
NEW_YEAR = (2024, 1, 1)
LEGACY = {
    "spark.sql.parquet.datetimeRebaseModeInWrite": "LEGACY",
    "spark.sql.parquet.int96RebaseModeInWrite": "LEGACY",
}


def instants(*values: dt.datetime | None) -> pa.Table:
    """A column of instants."""
    return column(INSTANT, *values)


def walls(*values: dt.datetime | None) -> pa.Table:
    """A column of zone-less timestamps."""
    return column(pa.timestamp("us"), *values)


def days(*values: dt.date | None) -> pa.Table:
    """A column of dates."""
    return column(pa.date32(), *values)


def nanos(*values: int | None, tz: str | None = None) -> pa.Table:
    """A column of timestamps in nanoseconds since 1970."""
    return column(pa.timestamp("ns", tz=tz), *values)


FINE = (2024, 1, 1, 12, 0, 0, 123_999)

PRECISION = [
    Case(
        name="milliseconds_in_the_parents_log",
        covers=("S9", "T19"),
        child=arrow(instants(utc(*FINE))),
        parent=delta(instants(utc(*FINE))),
        back=BAG,
    ),
    Case(
        name="milliseconds_in_the_log_of_rust",
        covers=("S9", "T19"),
        child=rust(walls(wall(*FINE))),
        parent=rust(walls(wall(*FINE), wall(*NEW_YEAR))),
    ),
    Case(
        name="microsecond_before_1970",
        covers=("T19",),
        child=arrow(instants(utc(1969, 12, 31, 23, 59, 59, 999_999))),
        parent=rust(instants(utc(1969, 12, 31, 23, 59, 59, 999_999))),
        back=BAG,
    ),
    Case(
        name="seconds_in_the_zone_offset",
        covers=("T20",),
        child=arrow(instants(utc(1799, 12, 31, 23, 59, 59, 1))),
        parent=delta(instants(utc(1799, 12, 31, 23, 59, 59, 1)), conf=LOS_ANGELES),
        back=BAG,
    ),
    Case(
        name="wall_clock_in_the_log",
        covers=("T20",),
        child=arrow(walls(wall(1500, 1, 1), wall(*FINE))),
        parent=delta(walls(wall(1500, 1, 1), wall(*FINE), wall(*NEW_YEAR)), conf=NEW_YORK),
    ),
    Case(
        name="int96_without_statistics",
        covers=("S49", "T22"),
        child=spark(instants(utc(*FINE)), conf={"spark.sql.parquet.outputTimestampType": "INT96"}),
        parent=arrow(instants(utc(*FINE))),
        back=BAG,
    ),
    Case(
        name="int96_as_parent",
        covers=("S49", "T22"),
        child=arrow(instants(utc(*FINE))),
        parent=arrow(instants(utc(*FINE), utc(1980, 1, 1)), use_deprecated_int96_timestamps=True),
    ),
    Case(
        name="int96_is_an_instant",
        covers=("S49", "T21", "T22"),
        child=arrow(walls(wall(*FINE)), use_deprecated_int96_timestamps=True),
        parent=arrow(walls(wall(*FINE))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="units_of_timestamps",
        covers=("T23",),
        child=arrow(column(pa.timestamp("ms"), wall(*NEW_YEAR))),
        parent=arrow(walls(wall(*NEW_YEAR), wall(*FINE))),
    ),
    Case(
        name="nanoseconds_that_are_none",
        covers=("T23",),
        child=arrow(nanos(1_704_067_200_000_001_000)),
        parent=arrow(walls(wall(2024, 1, 1, 0, 0, 0, 1))),
        back=BAG,
    ),
    Case(
        name="nanoseconds_are_not_rounded",
        covers=("T23",),
        child=arrow(nanos(1_704_067_200_000_001_001)),
        parent=arrow(walls(wall(2024, 1, 1, 0, 0, 0, 1))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="nanoseconds_apart",
        covers=("T23",),
        child=arrow(nanos(1_001, tz="UTC")),
        parent=arrow(nanos(1_002, tz="UTC")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="nanoseconds_in_a_wider_range",
        covers=("T23",),
        child=duck(nanos(-1, 1_001)),
        parent=polars(nanos(-1, 1_001, 5)),
    ),
    Case(
        name="nanoseconds_of_fastparquet",
        covers=("T25", "T23"),
        child=fast(column(pa.timestamp("ns"), wall(*NEW_YEAR)), stats=True),
        parent=arrow(walls(wall(*NEW_YEAR))),
        back=BAG,
    ),
    Case(
        name="first_and_last_day",
        covers=("T24",),
        child=arrow(days(dt.date(1, 1, 1), dt.date(9999, 12, 31))),
        parent=delta(days(dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2024, 1, 1))),
    ),
    Case(
        name="days_of_disjoint_ranges",
        child=arrow(days(dt.date(2024, 1, 1))),
        parent=rust(days(dt.date(2024, 1, 2))),
        there=NONE,
        metadata=REFUTE,
    ),
]

CALENDARS = [
    Case(
        name="legacy_calendar_of_days",
        covers=("T24",),
        child=arrow(days(dt.date(1000, 1, 1))),
        parent=spark(days(dt.date(1000, 1, 1)), conf=LEGACY),
        back=BAG,
        spark_only={"parent": "legacy calendar"},
    ),
    Case(
        name="legacy_calendar_of_other_days",
        covers=("T24",),
        child=arrow(days(dt.date(1000, 1, 6))),
        parent=spark(days(dt.date(1000, 1, 1)), conf=LEGACY),
        there=NONE,
        metadata=ANY,
        spark_only={"parent": "legacy calendar"},
    ),
    Case(
        name="legacy_calendar_of_int96",
        covers=("T24", "T22"),
        child=spark(instants(utc(1000, 1, 1)), conf={**LEGACY, "spark.sql.parquet.outputTimestampType": "INT96"}),
        parent=arrow(instants(utc(1000, 1, 1))),
        back=BAG,
        spark_only={"child": "legacy calendar"},
    ),
    Case(
        name="days_of_a_converted_log",
        covers=("T24",),
        child=arrow(days(dt.date(1000, 1, 1))),
        parent=rust(days(dt.date(1000, 1, 1))).then(operation("CONVERT")),
        back=BAG,
    ),
    Case(
        name="days_of_a_log_without_writers",
        covers=("T24", "T32"),
        child=arrow(days(dt.date(2024, 1, 1))),
        parent=rust(days(dt.date(2024, 1, 1), dt.date(2024, 1, 2))).then(no_commit_info),
    ),
]

ZONES = [
    Case(
        name="day_and_wall_clock",
        covers=("S53", "T21"),
        child=arrow(days(dt.date(*NEW_YEAR), None)),
        parent=arrow(walls(wall(*NEW_YEAR), None)),
        back=BAG,
    ),
    Case(
        name="day_and_noon",
        covers=("S53",),
        child=arrow(walls(wall(2024, 1, 1, 12))),
        parent=arrow(days(dt.date(*NEW_YEAR))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="day_widened_in_delta",
        covers=("T38",),
        child=arrow(days(dt.date(*NEW_YEAR))),
        parent=delta_sql(
            "CREATE TABLE {t} ({c}a date) USING delta TBLPROPERTIES"
            " ('delta.enableTypeWidening' = 'true', 'delta.feature.timestampNtz' = 'supported')",
            "INSERT INTO {t} VALUES (date'2024-01-01')",
            "ALTER TABLE {t} ALTER COLUMN {c}a TYPE timestamp_ntz",
            "INSERT INTO {t} VALUES (timestamp_ntz'2024-01-01 12:00:00.5')",
        ),
    ),
    Case(
        name="day_and_instant",
        covers=("S53", "T21"),
        child=arrow(days(dt.date(*NEW_YEAR))),
        parent=arrow(instants(utc(*NEW_YEAR))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="wall_clock_and_instant",
        covers=("T21",),
        child=arrow(walls(wall(*NEW_YEAR))),
        parent=rust(instants(utc(*NEW_YEAR))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="instant_of_a_session_in_another_zone",
        covers=("S51",),
        child=spark(
            "SELECT timestamp'2024-01-01 00:00:00+00:00' AS {c}a",
            conf={**NEW_YORK, "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"},
        ),
        parent=arrow(instants(utc(*NEW_YEAR))),
        back=BAG,
    ),
    Case(
        name="instants_with_zones_of_arrow",
        covers=("S51",),
        child=arrow(column(pa.timestamp("us", tz="America/New_York"), utc(*NEW_YEAR))),
        parent=duck(instants(utc(*NEW_YEAR), utc(2024, 1, 2))),
    ),
    Case(
        name="day_and_number",
        child=arrow(days(dt.date(1970, 1, 2))),
        parent=arrow(column(pa.int32(), 1)),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="day_and_its_text",
        child=arrow(days(dt.date(*NEW_YEAR))),
        parent=arrow(column(pa.string(), "2024-01-01")),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="time_of_day",
        child=arrow(column(pa.time64("us"), dt.time(1))),
        parent=arrow(column(pa.int64(), 3_600_000_000)),
        there=NONE,
        metadata=ANY,
        not_read={"child": "TIME"},
    ),
    Case(
        name="interval",
        child=spark("SELECT INTERVAL '1' DAY AS {c}a"),
        parent=arrow(column(pa.int64(), 86_400_000_000)),
        there=NONE,
        metadata=ANY,
        not_read={"child": "INTERVAL"},
    ),
]

CASES = [*PRECISION, *CALENDARS, *ZONES]


def _on_utc_clock(name: str) -> Case:
    """A case whose tables are equal on the UTC clock, under a name of its own."""
    (found,) = [case for case in CASES if case.name == name]
    return replace(found, name=f"utc_{name}", there=BAG, back=BAG, metadata=KEEP)


UTC_CASES = [
    _on_utc_clock("day_and_wall_clock"),
    _on_utc_clock("day_and_instant"),
    _on_utc_clock("wall_clock_and_instant"),
    _on_utc_clock("int96_is_an_instant"),
    Case(
        name="utc_nanoseconds_of_another_clock",
        covers=("T23",),
        child=arrow(nanos(1_704_067_200_000_000_001)),
        parent=arrow(nanos(1_704_067_200_000_000_001, 5, tz="UTC")),
    ),
    Case(
        name="utc_nanoseconds_are_not_rounded",
        covers=("T23",),
        child=arrow(nanos(1_704_067_200_000_000_001)),
        parent=arrow(instants(utc(*NEW_YEAR))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="utc_day_and_noon",
        covers=("S53",),
        child=arrow(days(dt.date(*NEW_YEAR))),
        parent=arrow(instants(utc(2024, 1, 1, 12))),
        there=NONE,
        metadata=ANY,
    ),
    Case(
        name="utc_day_of_a_log_and_fine_instant",
        covers=("S53", "T19"),
        child=rust(days(dt.date(*NEW_YEAR))),
        parent=rust(instants(utc(*NEW_YEAR), utc(*FINE))),
    ),
]
