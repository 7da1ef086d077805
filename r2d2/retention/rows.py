"""Small tables that people give beside an audit: Parquet, Delta or CSV, read by the names of their columns."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset

from r2d2.errors import UsageError


def read_rows(path: str, what: str, wanted: Sequence[Sequence[str]]) -> tuple[int, pa.Table]:
    """The columns of a table on this machine, in the first of some shapes whose columns it has.

    Args:
        path: A CSV or Parquet file, a folder of Parquet files, or a Delta table. CSV is read as text.
        what: What it is, for messages, such as `accesses 'x.csv'`.
        wanted: For each shape the columns that it needs; others are left out.

    Returns:
        The number of the shape, and the table.

    Raises:
        UsageError: If it cannot be read, or has the columns of no shape.
    """
    try:
        names, read = _open(path)
        number = shape_of(names, what, wanted)
        return number, read(list(wanted[number]))
    except UsageError:
        raise
    except Exception as exc:  # libraries quote what they read, and differ in what they raise
        why = f"{what} cannot be read ({type(exc).__name__})"
        raise UsageError(f"{why}; give a CSV or Parquet file or a Delta table on this machine") from exc


def shape_of(names: Sequence[str], what: str, wanted: Sequence[Sequence[str]]) -> int:
    """The number of the first of some shapes whose columns a table has.

    Args:
        names: The table's columns.
        what, wanted: As for `read_rows`.

    Raises:
        UsageError: If it has the columns of none.
    """
    for number, columns in enumerate(wanted):
        if set(columns) <= set(names):
            return number
    shapes = "; or ".join(", ".join(columns) for columns in wanted)
    raise UsageError(f"{what} has the columns {', '.join(names)}; expected: {shapes}")


def _open(path: str) -> tuple[list[str], Any]:
    """Names of the columns, and a function that reads some of them."""
    place = Path(path)
    if (place / "_delta_log").is_dir():
        from deltalake import DeltaTable

        table = DeltaTable(path)
        dataset = table.to_pyarrow_dataset()
        return dataset.schema.names, lambda columns: dataset.to_table(columns=columns)
    if place.is_dir():
        folder = pa.dataset.dataset(path, format="parquet")
        return folder.schema.names, lambda columns: folder.to_table(columns=columns)
    if place.exists() and not place.is_file():  # a pipe would block for ever
        raise UsageError(f"{path!r} is not a plain file")
    if place.suffix.lower() == ".csv":
        return _open_csv(place)
    file = pa.dataset.dataset(str(place.absolute()), format="parquet")
    return file.schema.names, lambda columns: file.to_table(columns=columns)


def _open_csv(place: Path) -> tuple[list[str], Any]:
    with place.open(encoding="utf-8-sig") as lines:
        names = [name.strip().strip('"') for name in lines.readline().rstrip("\r\n").split(",")]

    def read(columns: list[str]) -> pa.Table:
        texts = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        reading = pa.csv.ReadOptions(column_names=names, skip_rows=1)
        parsing = pa.csv.ParseOptions(newlines_in_values=True)
        with place.open("rb") as source:
            table = pa.csv.read_csv(source, read_options=reading, parse_options=parsing, convert_options=texts)
        return table.select(columns)

    return names, read


def as_moment(value: Any, what: str) -> datetime.datetime | None:
    """A date, timestamp or ISO text as a moment; without a zone it is UTC.

    Raises:
        UsageError: For anything else, named `what`.
    """
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
        except ValueError as exc:
            raise UsageError(f"{what} must be a date or a time such as 2026-01-31T08:00:00Z") from exc
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    raise UsageError(f"{what} must be a date or a time, got {type(value).__name__}")
