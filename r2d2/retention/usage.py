"""How often tables are read: a table of reads per month, or exports of Unity Catalog's system tables."""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from r2d2.errors import UsageError
from r2d2.retention.offers import DAYS_PER_MONTH
from r2d2.retention.rows import as_moment, read_rows

PLAIN = ("table", "reads_per_month")
LINEAGE = ("source_table_full_name", "source_path", "event_time")
AUDIT = ("service_name", "action_name", "request_params", "event_time")

_OPTIONAL = {PLAIN: ("last_read",), LINEAGE: ("event_id",), AUDIT: ()}
SHAPES = [shape for base in (PLAIN, LINEAGE, AUDIT) for shape in ((*base, *_OPTIONAL[base]), base)]
"""Columns that are looked for, two for each kind of table: with those that it need not have, and without."""
SERVICE = "unityCatalog"
LOOK_UP, READ_FILES = "getTable", "generateTemporaryTableCredential"
NAME_KEYS = {LOOK_UP: "full_name_arg", READ_FILES: "table_full_name"}
"""Parameters of an audited action that name the table."""
IN_CATALOG = "table:"
"""What a source begins with that is a table of the engine's catalog."""
_SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """How often and when a table was read.

    Attributes:
        reads_per_month: None where only the last read is known.
        last_read: None where unknown.
    """

    reads_per_month: float | None
    last_read: datetime.datetime | None = None


CatalogAccesses = Mapping[str, Mapping[str, Access]]
"""What sources in the engine's catalog say, by source and name."""


@dataclass(frozen=True, kw_only=True)
class Accesses:
    """What is known of reads, by the names that the sources use: table ids, catalog names or paths."""

    by_name: Mapping[str, Access] = field(default_factory=dict)

    def joined(self, other: Accesses) -> Accesses:
        """What both say; of a table that both know, the most reads and the latest count."""
        found = dict(self.by_name)
        for name, access in other.by_name.items():
            found[name] = _larger(found[name], access) if name in found else access
        return Accesses(by_name=found)

    def match(self, ids: Iterable[str], root: str | None) -> tuple[dict[str, Access], list[str]]:
        """Accesses by table id, and the names that are of no table.

        Args:
            ids: Of all tables.
            root: The lake's path or URL, below which paths are ids; None with a catalog.
        """
        known = set(ids)
        folded: dict[str, list[str]] = defaultdict(list)
        for table in known:
            folded[table.lower()].append(table)
        found: dict[str, Access] = {}
        unknown = []
        for name, access in self.by_name.items():
            meant = _table_of(name, known, folded, root)
            if meant is None:
                unknown.append(name)
            else:
                found[meant] = _larger(found[meant], access) if meant in found else access
        return found, sorted(unknown)


def is_in_catalog(source: str) -> bool:
    """Whether a source is a table of the engine's catalog, no file."""
    return source.startswith(IN_CATALOG)


def load_accesses(paths: Sequence[str]) -> Accesses:
    """What some sources say together; of a table that several know, the most reads and the latest count.

    Args:
        paths: Each a CSV or Parquet file, a folder of Parquet files or a Delta table, with the columns `table`,
            `reads_per_month` and perhaps `last_read`, or those of `system.access.table_lineage` or of
            `system.access.audit`. Events become reads per month over the time from the first to the last of them.

    Raises:
        UsageError: If a source cannot be read, lacks columns, or has a value out of range.
    """
    found = Accesses()
    for path in paths:
        what = f"accesses {path!r}"
        shape, rows = read_rows(path, what, SHAPES)
        reader = (plain, _lineage, _audited)[shape // 2]
        found = found.joined(Accesses(by_name=reader(rows, what)))
    return found


def plain(rows: pa.Table, what: str) -> dict[str, Access]:
    """Accesses of a table that says them itself, by name.

    Raises:
        UsageError: If a value is out of range or a table stands there twice; the message begins with `what`.
    """
    found: dict[str, Access] = {}
    for row in rows.to_pylist():
        name = row["table"]
        if not name:
            raise UsageError(f"{what}: a row names no table")
        if name in found:
            raise UsageError(f"{what}: table {name!r} stands there twice; give one row for each table")
        last_read = as_moment(row.get("last_read"), f"{what}: last_read of table {name!r}")
        found[name] = Access(reads_per_month=_reads(row["reads_per_month"], name, what), last_read=last_read)
    return found


def _reads(value: Any, name: str, what: str) -> float | None:
    if value is None:
        return None
    try:
        reads = float(value)
    except (TypeError, ValueError):
        reads = -1.0
    if not 0 <= reads < 1e15:
        raise UsageError(f"{what}: reads_per_month of table {name!r} must be a number of at least 0")
    return reads


def _lineage(rows: pa.Table, what: str) -> dict[str, Access]:
    """Each event that reads a table counts once, however many tables it writes."""
    events: dict[str, set[Any]] = defaultdict(set)
    last: dict[str, datetime.datetime] = {}
    moments = []
    for number, row in enumerate(rows.to_pylist()):
        moment = _event_time(row, what)
        moments.append(moment)
        name = row["source_table_full_name"] or row["source_path"]
        if name:
            events[name].add(row.get("event_id") or number)
            last[name] = max(moment, last.get(name, moment))
    return rates({name: len(ids) for name, ids in events.items()}, last, moments)


def _audited(rows: pa.Table, what: str) -> dict[str, Access]:
    """A read looks a table up and asks for access to its files; the more frequent of the two counts."""
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[str, datetime.datetime] = {}
    moments = []
    for row in rows.to_pylist():
        moment = _event_time(row, what)
        moments.append(moment)
        action = row["action_name"]
        if row["service_name"] != SERVICE or action not in NAME_KEYS:
            continue
        parameters = _parameters(row["request_params"], what)
        name = parameters.get(NAME_KEYS[action])
        if name and (action == LOOK_UP or "READ" in str(parameters.get("operation", "READ")).upper()):
            counts[name, action] += 1
            last[name] = max(moment, last.get(name, moment))
    return rates({name: max(counts[name, action] for action in NAME_KEYS) for name in last}, last, moments)


def rates(
    reads: Mapping[str, int], last: Mapping[str, datetime.datetime], moments: Sequence[datetime.datetime]
) -> dict[str, Access]:
    """Reads per month of tables.

    Args:
        reads, last: How often and when last each table was read.
        moments: Of events, read or not: the first and the last among them bound the time that they cover.
    """
    months = _months(moments)
    return {name: Access(reads_per_month=count / months, last_read=last[name]) for name, count in reads.items()}


def _event_time(row: Mapping[str, Any], what: str) -> datetime.datetime:
    moment = as_moment(row["event_time"], f"{what}: event_time")
    if moment is None:
        raise no_event_time(what)
    return moment


def no_event_time(what: str) -> UsageError:
    """The error for an event without a time."""
    return UsageError(f"{what}: an event has no event_time")


def _parameters(value: Any, what: str) -> dict[str, Any]:
    """Parameters of a request: a map, which pyarrow returns as pairs, a struct, or JSON in CSV."""
    try:
        found = json.loads(value) if isinstance(value, str) else dict(value or {})
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{what}: request_params must be a map, or JSON in CSV") from exc
    return found if isinstance(found, dict) else {}


def _months(moments: Sequence[datetime.datetime]) -> float:
    """The time that events cover, at least a day: fewer would make a rate of one event."""
    covered = (max(moments) - min(moments)).total_seconds() if moments else 0.0
    return max(covered, _SECONDS_PER_DAY) / _SECONDS_PER_DAY / DAYS_PER_MONTH


def _larger(one: Access, other: Access) -> Access:
    reads = [a.reads_per_month for a in (one, other) if a.reads_per_month is not None]
    last = [a.last_read for a in (one, other) if a.last_read is not None]
    return Access(reads_per_month=max(reads, default=None), last_read=max(last, default=None))


def _table_of(name: str, known: set[str], folded: Mapping[str, list[str]], root: str | None) -> str | None:
    """The table that a source means: its id, a path below the lake, or its id in another case where that is clear."""
    names = [name]
    if root is not None and name.startswith(root.rstrip("/") + "/"):
        names.append(name[len(root.rstrip("/")) + 1 :].rstrip("/"))
    for candidate in names:
        if candidate in known:
            return candidate
    alike = folded.get(names[-1].lower(), [])
    return alike[0] if len(alike) == 1 else None
