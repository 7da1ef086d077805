"""Older versions of a Delta table: what the log still says of each, and until when it can be read.

A version can be read while the log reaches back to it and none of its files was vacuumed. A file that a later version
removed is kept for `delta.deletedFileRetentionDuration`, a commit for `delta.logRetentionDuration`.
"""

from __future__ import annotations

import datetime
import hashlib
import heapq
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from r2d2.errors import TableFault
from r2d2.lake.delta.files import list_files
from r2d2.lake.delta.log import Action, Replay, as_object, log_files
from r2d2.lake.delta.stats import file_stats, live_rows
from r2d2.lake.delta.table import table_uri
from r2d2.model import FileStamp, FoundTable
from r2d2.scan.files import is_remote

MOST_VERSIONS = 1000
"""Versions of one table that are looked at, the newest."""

_KEPT_FILES = ("delta.deletedFileRetentionDuration", datetime.timedelta(days=7))
_KEPT_LOG = ("delta.logRetentionDuration", datetime.timedelta(days=30))
_CLEANED = "delta.enableExpiredLogCleanup"
_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
_PART = re.compile(r"(\d{1,9})\s+([a-z]+?)s?(?=\s|$)")

_MILLISECOND = datetime.timedelta(milliseconds=1)

Key = tuple[str, str]
Milliseconds = int


@dataclass(frozen=True, kw_only=True)
class OldVersion:
    """A version before the newest one whose rows the log tells.

    Attributes:
        version: Its number.
        rows: Live rows.
        columns: Names of its top-level columns.
        expires: The day, UTC, from which a vacuum or a clean-up of the log may make it unreadable; None where nothing
            that it needs is ever removed.
    """

    version: int
    rows: int
    columns: tuple[str, ...]
    expires: datetime.date | None


@dataclass(frozen=True, kw_only=True)
class _Version:
    """A version as the replay has seen it."""

    number: int
    rows: int
    columns: tuple[str, ...]
    files: int
    kept_files: datetime.timedelta
    log_ends: Milliseconds | None


@dataclass(kw_only=True)
class _Live:
    """The live files, from version to version.

    Attributes:
        added: By file: the version that added it and its rows, None where the log does not tell.
        unknown: Files whose rows are not known.
        rows: Of the others.
        name: A number that stands for the set of files.
        removals: First version that had a file, first that had it no more, and when it was removed.
    """

    added: dict[Key, tuple[int, int | None]] = field(default_factory=dict)
    unknown: int = 0
    rows: int = 0
    name: int = 0
    removals: list[tuple[int, int, Milliseconds]] = field(default_factory=list)

    def add(self, key: Key, version: int, rows: int | None) -> None:
        """A file is there from a version on."""
        first = self._forget(key)
        self.added[key] = (version if first is None else first, rows)
        self._count(key, rows, 1)

    def remove(self, key: Key, version: int, time: Milliseconds) -> None:
        """A version removes a file."""
        first = self._forget(key)
        if first is not None:
            self.removals.append((first, version, time))

    def _forget(self, key: Key) -> int | None:
        if key not in self.added:
            return None
        first, rows = self.added.pop(key)
        self._count(key, rows, -1)
        return first

    def _count(self, key: Key, rows: int | None, sign: int) -> None:
        self.unknown += sign if rows is None else 0
        self.rows += sign * (rows or 0)
        self.name ^= int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), "big")


def old_versions(found: FoundTable) -> list[OldVersion]:
    """The older versions of a Delta table that can still be read, as far as the log says, the newest first.

    Of versions with the same files the newest is listed. Whether all files are still there is not checked.

    Raises:
        TableFault: If the log cannot be read.
    """
    uri = table_uri(found)
    log, commits, checkpoints = log_files(list_files(uri))
    replay, live, versions = Replay(uri, log), _Live(), list[_Version]()
    previous, log_begins = -1, None
    for number in sorted({*commits, *checkpoints}):
        is_next = number == previous + 1 and number in commits
        if not is_next:
            if number not in checkpoints:
                continue
            replay, live, versions, log_begins = Replay(uri, log), _Live(), [], None
            for name in checkpoints[number]:
                replay.fold_checkpoint(name)
            for key, file in replay.state.live.items():
                live.add(key, number, live_rows(file.add, file_stats(file.add)))
        previous = number
        if number in commits:
            actions = replay.read_commit(number, commits[number])
            log_begins = _earlier(log_begins, _written(actions, log[commits[number]]))
            if is_next:
                _fold(replay, live, number, actions)
            if (version := _version(number, replay, live, log_begins)) is not None:
                versions.append(version)
    return _distinct(versions, live.removals, newest=previous)


def _fold(replay: Replay, live: _Live, number: int, actions: list[Action]) -> None:
    for action in actions:
        if action.get("remove") is not None:
            at = action["remove"].get("deletionTimestamp")
            live.remove(replay.key(action["remove"]), number, at if isinstance(at, int) and at > 0 else 0)
    replay.fold_commit(actions)
    for action in actions:
        if action.get("add") is not None:
            key = replay.key(action["add"])
            live.add(key, number, live_rows(action["add"], file_stats(action["add"])))


def _version(number: int, replay: Replay, live: _Live, log_begins: Milliseconds) -> _Version | None:
    metadata = replay.state.metadata or {}
    configuration = as_object(metadata.get("configuration"))
    columns = _columns(metadata.get("schemaString"))
    kept_log = None if configuration.get(_CLEANED) == "false" else _retention(configuration, *_KEPT_LOG)
    if live.unknown or not columns:
        return None
    return _Version(
        number=number,
        rows=live.rows,
        columns=columns,
        files=live.name,
        kept_files=_retention(configuration, *_KEPT_FILES),
        log_ends=None if kept_log is None else log_begins + kept_log // _MILLISECOND,
    )


def _columns(schema: Any) -> tuple[str, ...]:
    try:
        return tuple(str(column["name"]) for column in json.loads(schema)["fields"])
    except (TypeError, ValueError, KeyError, RecursionError):
        return ()


def _written(actions: list[Action], stamp: FileStamp) -> Milliseconds:
    """When a commit was written: the earlier of what it says itself and the time of its file; 0 where neither tells."""
    said = [as_object(action.get("commitInfo")).get("timestamp") for action in actions]
    times = [time for time in said if isinstance(time, int) and time > 0]
    if not is_remote(stamp.uri):
        times.append(int(stamp.token) // 1_000_000)
    return min(times, default=0)


def _earlier(one: Milliseconds | None, other: Milliseconds) -> Milliseconds:
    return other if one is None else min(one, other)


def _retention(configuration: Mapping[str, Any], name: str, default: datetime.timedelta) -> datetime.timedelta:
    """How long a property keeps files; not at all where it says what is not understood."""
    if name not in configuration:
        return default
    text = str(configuration[name]).strip().lower().removeprefix("interval").strip()
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip() or any(f"{unit}s" not in _UNITS for _, unit in parts):
        return datetime.timedelta(0)
    return sum((datetime.timedelta(**{f"{unit}s": int(count)}) for count, unit in parts), datetime.timedelta(0))


def _distinct(versions: list[_Version], removals: list[tuple[int, int, Milliseconds]], newest: int) -> list[OldVersion]:
    """Versions of which no newer one, nor the newest, has the same files, with the day until which they are kept."""
    waiting = sorted(removals, key=lambda removal: removal[1])
    gone: list[tuple[Milliseconds, int]] = []
    seen: set[int] = set()
    found: list[OldVersion] = []
    for version in reversed(versions[-MOST_VERSIONS:]):
        while waiting and waiting[-1][1] > version.number:
            first, _, time = waiting.pop()
            heapq.heappush(gone, (time, first))
        while gone and gone[0][1] > version.number:
            heapq.heappop(gone)
        if version.files not in seen and version.number < newest and version.rows:
            ends = [] if version.log_ends is None else [version.log_ends]
            ends += [gone[0][0] + version.kept_files // _MILLISECOND] if gone else []
            found.append(_old_version(version, ends))
        seen.add(version.files)
    return found


def _old_version(version: _Version, ends: list[Milliseconds]) -> OldVersion:
    expires = _day(min(ends)) if ends else None
    return OldVersion(version=version.number, rows=version.rows, columns=version.columns, expires=expires)


def _day(time: Milliseconds) -> datetime.date:
    try:
        return (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=time)).date()
    except OverflowError:
        return datetime.date.max


def readable_versions(found: FoundTable) -> Iterator[OldVersion]:
    """`old_versions`, none where the log cannot be read: then the table has failed, or will fail, elsewhere."""
    try:
        yield from old_versions(found)
    except TableFault:
        return
