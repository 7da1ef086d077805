"""The log of a Delta table: one snapshot replayed from JSON commits and checkpoints, without opening a data file.

Commits are authoritative and `_last_checkpoint` and compacted logs are not needed: the listing says which versions and
checkpoints exist. What a library would drop (tightBounds, deletion vectors, who wrote a file) is kept.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from r2d2.errors import TableFailed, TableFault
from r2d2.lake.delta.checkpoint import (
    checkpoint_actions,
    complete_checkpoints,
    has_incomplete_checkpoint,
    sidecar_name,
)
from r2d2.lake.delta.files import Files, data_file_uri, reading
from r2d2.scan.files import open_file

LOG = "_delta_log/"
PROVENANCE_COMMITS = 100
"""Commits before the checkpoint that are read, where they are still there, only to learn who wrote a file."""

_COMMIT = re.compile(r"(\d{20})\.json")

Action = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The commit that added a file: its engine and operation, empty where the log no longer says."""

    engine: str = ""
    operation: str = ""


@dataclass(frozen=True, kw_only=True)
class LiveFile:
    """An add action of the snapshot.

    Attributes:
        uri: Absolute uri of the data file.
        add: The action as logged.
        origin: The commit that added it.
    """

    uri: str
    add: Action
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A Delta table at one version.

    Attributes:
        version: The newest version that the listing showed, or the older one that was asked for.
        protocol, metadata: The actions in force.
        live: Live files, sorted by uri.
        schemas: Every schema text that the log still shows.
        whole_history: Whether the log still reaches back to version 0.
        has_commit: Whether the commit of this very version is still there, not only its checkpoint.
        written_ms: When the commit of this version says it was made; None where that is not known.
        bytes_read: Bytes of the log files that were read.
    """

    version: int
    protocol: Action
    metadata: Action
    live: tuple[LiveFile, ...]
    schemas: frozenset[str]
    whole_history: bool
    has_commit: bool
    written_ms: int | None
    bytes_read: int


@dataclass
class _State:
    """What replay has seen so far."""

    protocol: Action | None = None
    metadata: Action | None = None
    live: dict[tuple[str, str], LiveFile] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=set)


def read_snapshot(table_uri: str, files: Files, version: int | None = None) -> Snapshot:
    """Replay the log up to the newest version of the listing, or to an older one.

    Args:
        table_uri: Folder of the table, absolute, without a slash at its end.
        files: What `list_files` returned for it.
        version: The older version.

    Raises:
        TableFailed: If the log is empty, has a gap, or cannot be read.
    """
    log, commits, checkpoints = log_files(files)
    if not commits and not checkpoints:
        raise TableFailed("the Delta log has no commit and no complete checkpoint", error="DeltaLog")
    version = max([*commits, *checkpoints]) if version is None else version
    base = max((checkpoint for checkpoint in checkpoints if checkpoint <= version), default=-1)
    missing = next((v for v in range(base + 1, version + 1) if v not in commits), None)
    if missing is not None:
        raise TableFailed(_gap(missing, log, checkpoints), error="DeltaLog")
    return Replay(table_uri, log).run(version, base, commits, checkpoints.get(base, []))


def log_files(files: Files) -> tuple[Files, dict[int, str], dict[int, list[str]]]:
    """The files of a log by name; by version, its commits and the files of its complete checkpoints.

    Args:
        files: What `list_files` returned for the table.
    """
    log = {name.removeprefix(LOG): file for name, file in files.items() if name.startswith(LOG)}
    commits = {int(match[1]): name for name in log if (match := _COMMIT.fullmatch(name))}
    return log, commits, complete_checkpoints(log)


def _gap(missing: int, log: Files, checkpoints: dict[int, list[str]]) -> str:
    if has_incomplete_checkpoint(log):
        return f"commit {missing} of the Delta log is missing, and so are parts of a checkpoint"
    after = f" after the checkpoint of version {max(checkpoints)}" if checkpoints else ", and there is no checkpoint"
    return f"commit {missing} of the Delta log is missing{after}"


class Replay:
    """Reads the files of one log and folds their actions."""

    def __init__(self, table_uri: str, log: Files) -> None:
        self.table_uri = table_uri
        self.log = log
        self.state = _State()
        self.origins: dict[str, Origin] = {}
        self.written_ms: int | None = None
        self.bytes_read = 0

    def run(self, version: int, base: int, commits: dict[int, str], checkpoint: list[str]) -> Snapshot:
        """Replay a checkpoint and the commits after it, up to a version."""
        earlier = self._read_provenance(base, commits)
        for name in checkpoint:
            self.fold_checkpoint(name)
        for v in range(base + 1, version + 1):
            self.fold_commit(self.read_commit(v, commits[v]))
        state = self.state
        if state.protocol is None or state.metadata is None:
            raise TableFailed("the Delta log has no protocol or no metadata", error="DeltaLog")
        return Snapshot(
            version=version,
            protocol=state.protocol,
            metadata=state.metadata,
            live=tuple(sorted(state.live.values(), key=lambda file: file.uri)),
            schemas=frozenset(state.schemas),
            whole_history=earlier == 0,
            has_commit=version in commits,
            written_ms=self.written_ms if version in commits else None,
            bytes_read=self.bytes_read,
        )

    def _read_provenance(self, base: int, commits: dict[int, str]) -> int:
        """Learn writers from the unbroken run of commits up to the checkpoint; returns its first version."""
        first = base + 1
        found: list[list[Action]] = []
        while first > max(0, base + 1 - PROVENANCE_COMMITS) and first - 1 in commits:
            try:
                found.append(self.read_commit(first - 1, commits[first - 1]))
            except TableFault:  # the checkpoint replaces it, so a broken one only leaves writers unknown
                break
            first -= 1
        for actions in reversed(found):
            self._note_origins(actions)
            self._note_schemas(actions)
        return first

    def _note_origins(self, actions: list[Action]) -> None:
        info = next((info for action in actions if (info := as_object(action.get("commitInfo")))), {})
        self.written_ms = as_milliseconds(info.get("inCommitTimestamp", info.get("timestamp")))
        origin = Origin(engine=str(info.get("engineInfo") or ""), operation=str(info.get("operation") or ""))
        for action in actions:
            if action.get("add") is not None:
                self.origins[self.key(action["add"])[0]] = origin

    def _note_schemas(self, actions: list[Action]) -> None:
        for action in actions:
            if metadata := as_object(action.get("metaData")):
                self.state.schemas.add(str(metadata.get("schemaString")))

    def read_commit(self, version: int, name: str) -> list[Action]:
        """The actions of a commit."""
        return self._json_actions(name, f"commit {version} of the Delta log")

    def fold_commit(self, actions: list[Action]) -> None:
        """Bring the state to the version that a commit makes."""
        self._note_origins(actions)
        # within one version a file may be removed and added with another deletion vector, in any order
        for action in actions:
            if action.get("remove") is not None:
                self.state.live.pop(self.key(action["remove"]), None)
        self._fold(actions)

    def _fold(self, actions: list[Action]) -> None:
        self._note_schemas(actions)
        for action in actions:
            if action.get("add") is not None:
                key = self.key(action["add"])
                origin = self.origins.get(key[0], Origin())
                self.state.live[key] = LiveFile(uri=key[0], add=action["add"], origin=origin)
            self.state.protocol = as_object(action.get("protocol")) or self.state.protocol
            self.state.metadata = as_object(action.get("metaData")) or self.state.metadata

    def key(self, action: Any) -> tuple[str, str]:
        """The data file and its deletion vector: what identifies a logical file."""
        path = as_object(action).get("path")
        if not isinstance(path, str):
            raise TableFailed("an action of the Delta log has no path", error="DeltaLog")
        vector = as_object(action.get("deletionVector"))
        offset = vector.get("offset")
        name = f"{vector.get('storageType', '')}{vector.get('pathOrInlineDv', '')}"
        return data_file_uri(self.table_uri, path), name if offset is None else f"{name}@{offset}"

    def fold_checkpoint(self, name: str) -> None:
        """Add what a file of a checkpoint holds to the state."""
        what = "a checkpoint of the Delta log"
        actions = self._json_actions(name, what) if name.endswith(".json") else self._parquet_actions(name, what)
        self._fold(actions)
        for action in actions:
            if sidecar := as_object(action.get("sidecar")):
                self._fold(self._parquet_actions(sidecar_name(sidecar), "a sidecar of a checkpoint"))

    def _open(self, name: str, what: str) -> Any:
        stamp = self.log.get(name)
        if stamp is None:
            raise TableFailed(f"{what} is missing", error="FileMissing")
        self.bytes_read += stamp.size
        return open_file(stamp.uri)

    def _json_actions(self, name: str, what: str) -> list[Action]:
        with reading(what), self._open(name, what) as file:
            content = file.read()
        try:
            actions = [parse_json(line) for line in content.split(b"\n") if line.strip()]
        except (ValueError, RecursionError) as exc:
            raise TableFailed(f"{what} is not valid JSON", error="DeltaLog") from exc
        if not actions or not all(isinstance(action, dict) for action in actions):
            raise TableFailed(f"{what} holds no actions", error="DeltaLog")
        return actions

    def _parquet_actions(self, name: str, what: str) -> list[Action]:
        with reading(what), self._open(name, what) as file:
            return checkpoint_actions(file)


def parse_json(text: bytes | str) -> Any:
    """JSON with exact numbers: integers as int, all others as Decimal."""
    return json.loads(text, parse_float=Decimal)


def as_milliseconds(value: Any) -> int | None:
    """Milliseconds since 1970 as a log has them; None for what is no time of the years 1970 to 9999."""
    return value if type(value) is int and 0 <= value < 253_402_300_800_000 else None


def as_object(value: Any) -> Action:
    """A part of an action that is an object, empty where it is absent.

    Raises:
        TableFailed: If it is there and is none.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TableFailed("a part of the Delta log is not a JSON object where one is due", error="DeltaLog")
    return value
