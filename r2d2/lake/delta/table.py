"""Harvest of a Delta table: its current snapshot from the log, without opening a data file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.delta.files import Files, data_file_uri, is_absolute, list_files, shown
from r2d2.lake.delta.log import LOG, LiveFile, Snapshot, as_milliseconds, as_object, parse_json, read_snapshot
from r2d2.lake.delta.schema import DeltaSchema, holds_structs_in_lists, parse_schema
from r2d2.lake.delta.stats import file_stats, hides_nan, hides_values, live_rows, log_claims, partition_claim
from r2d2.lake.delta.vectors import vector_deletes, vector_uri
from r2d2.model import Claim, FileStamp, FoundTable, Fragment, Harvest, LeafPath, fold, is_case_sensitive, leaves
from r2d2.scan.field_ids import stored_identities
from r2d2.scan.files import filesystem, is_remote, open_file, stamp

READER_FEATURES = frozenset(
    {
        "columnMapping",
        "deletionVectors",
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
"""Features of the protocol that readers must know and that are read right here; any other makes a table unsupported."""

_NEWEST_READER_VERSION = 3
_UNREAD_PROPERTIES = {
    "delta.coordinatedCommits.commitCoordinator": "coordinatedCommits",
    "delta.redirectReaderWriter": "redirectReaderWriter",
}
"""Beginnings of table properties that move commits or data elsewhere, by the name of their feature."""

TOLD = ("owner", "tags", "r2d2.keep")
"""Table properties that policies ask for."""

PADDED = "it has CHAR columns, which some engines pad with blanks"
"""Reason against recipes and against the engine's reader: texts are compared by the bytes that the files hold."""

_WIDENED = re.compile(r"delta\.typeChanges")
_COLLATED = re.compile(r"__COLLATIONS|string collate ", re.IGNORECASE)
_CHAR = re.compile(r"(?<!var)char\(\d+\)")
_UNOPENABLE = re.compile(r'[^ -~]|[ "#%*<>?\[\]\\`{}]')
_TIME_TRAVEL = re.compile(r"@(?:v\d+|\d{17})$")


def harvest_delta(found: FoundTable, version: int | None = None) -> Harvest:
    """Pin the newest snapshot of a Delta table, or an older one, and read its metadata from the log.

    Args:
        found: The table; its uri is the folder that holds `_delta_log`, local or in an object store.
        version: The older version.

    Returns:
        One fragment per live data file, sorted by uri. `history_bytes` are the files below the folder that the
        snapshot does not use, names with a leading `_` or `.` and tables nested in it left out; files of a shallow
        clone's source count in `table_bytes` of both.

    Raises:
        TableFailed: If the log or a file that it names is missing or damaged.
        TableUnsupported: For protocol features, types and partition values that are not read.
    """
    uri = table_uri(found)
    files = list_files(uri)
    snapshot = read_snapshot(uri, files, version)
    _check_protocol(snapshot)
    mode = _column_mapping(snapshot)
    metadata = snapshot.metadata
    schema = parse_schema(metadata.get("schemaString"), metadata.get("partitionColumns"), mapping=mode)
    stamps = _live_stamps(snapshot.live, files)
    vectors = _vector_stamps(uri, snapshot.live, files)
    fragments, claims = _fragments(uri, snapshot.live, stamps, vectors, schema)
    engine_reason = _engine_reason(snapshot, schema)
    return Harvest(
        schema=schema.arrow,
        version=str(snapshot.version),
        fragments=fragments,
        claims=claims,
        table_bytes=sum(file.size for file in (*stamps, *vectors)),
        history_bytes=_history_bytes(files, {file.uri for file in (*stamps, *vectors)}),
        reader="files" if engine_reason is None else "engine",
        reader_reason=engine_reason,
        spark_only_reason=_spark_only_reason(snapshot, schema),
        no_parent_reason=_no_parent_reason(uri, snapshot, schema),
        stored_as=_stored_as(uri, snapshot, schema, mode),
        created_ms=as_milliseconds(metadata.get("createdTime")),
        written_ms=snapshot.written_ms,
        properties=_told(_configuration(snapshot)),
        bytes_read=snapshot.bytes_read,
    )


def table_uri(found: FoundTable) -> str:
    """The folder of a table, absolute, without a slash at its end."""
    return found.uri.rstrip("/") if is_remote(found.uri) else os.path.abspath(found.uri)


def _check_protocol(snapshot: Snapshot) -> None:
    protocol, metadata = snapshot.protocol, snapshot.metadata
    version = protocol.get("minReaderVersion")
    if not isinstance(version, int):
        raise TableFailed("the protocol in the Delta log has no minReaderVersion", error="DeltaLog")
    if version > _NEWEST_READER_VERSION:
        raise TableUnsupported(f"Delta reader version {version} is not supported", error="DeltaProtocol")
    features = protocol.get("readerFeatures") or []
    if not isinstance(features, list):
        raise TableFailed("the readerFeatures in the Delta log are not a list", error="DeltaLog")
    unknown = sorted(set(map(str, features)) - READER_FEATURES)
    if unknown:
        raise TableUnsupported(f"the Delta feature {shown(unknown[0])} is not supported", error="DeltaProtocol")
    for prefix, feature in _UNREAD_PROPERTIES.items():
        if any(name.startswith(prefix) for name in _configuration(snapshot)):
            raise TableUnsupported(f"the Delta feature {feature} is not supported", error="DeltaProtocol")
    provider = as_object(metadata.get("format")).get("provider", "parquet")
    if provider != "parquet":
        raise TableUnsupported("Delta tables over files other than Parquet are not supported", error="DeltaProtocol")


def _configuration(snapshot: Snapshot) -> Mapping[str, Any]:
    return as_object(snapshot.metadata.get("configuration"))


def _told(configuration: Mapping[str, Any]) -> dict[str, str]:
    """The properties by which people say something about a table, as text that can be stored."""
    told = {name: configuration[name] for name in TOLD if isinstance(configuration.get(name), str)}
    return {name: value.encode("utf-8", "backslashreplace").decode() for name, value in told.items()}


def _column_mapping(snapshot: Snapshot) -> str:
    mode = str(_configuration(snapshot).get("delta.columnMapping.mode", "none"))
    if mode not in ("none", "name", "id"):
        raise TableUnsupported("the Delta column mapping mode is not supported", error="DeltaProtocol")
    return mode


def _live_stamps(live: tuple[LiveFile, ...], files: Files) -> list[FileStamp]:
    """Stamps of the live files: from the listing, one by one where they lie elsewhere or came after it."""
    if len({file.uri for file in live}) < len(live):
        raise TableFailed("the Delta log names a data file twice", error="DeltaLog")
    listed = {file.uri: file for file in files.values()}
    return [_live_stamp(file, listed) for file in live]


def _live_stamp(file: LiveFile, listed: Mapping[str, FileStamp]) -> FileStamp:
    try:
        found = listed.get(file.uri) or stamp(file.uri)
    except TableFailed as exc:
        if exc.error != "FileMissing":
            raise
        raise TableFailed("a data file named by the log is missing", error="FileMissing") from exc
    if found.size != file.add.get("size"):
        raise TableFailed("a data file does not have the size that the log says", error="FileSize")
    return found


def _vector_stamps(table_uri: str, live: tuple[LiveFile, ...], files: Files) -> list[FileStamp]:
    """Stamps of the files that hold the deletion vectors in force."""
    listed = {file.uri: file for file in files.values()}
    named = {uri for file in live if (uri := vector_uri(table_uri, file.add)) is not None}
    try:
        return [listed.get(uri) or stamp(uri) for uri in sorted(named)]
    except TableFailed as exc:
        raise TableFailed("a deletion vector named by the log is missing or unreadable", error=exc.error) from exc


def _fragments(
    table_uri: str,
    live: tuple[LiveFile, ...],
    stamps: list[FileStamp],
    vectors: list[FileStamp],
    schema: DeltaSchema,
) -> tuple[tuple[Fragment, ...], tuple[Claim, ...]]:
    fragments: list[Fragment] = []
    claims: list[Claim] = []
    pinned_vectors = {vector.uri: vector for vector in vectors}
    for position, (file, pinned) in enumerate(zip(live, stamps, strict=True)):
        stats = file_stats(file.add)
        rows = live_rows(file.add, stats)
        partition = _partition(file.add, schema)
        vector = vector_deletes(table_uri, file.add, pinned.uri, pinned_vectors)
        deletes = vector.to_text() if vector else ""
        fragments.append(Fragment(stamp=pinned, data_uri=pinned.uri, rows=rows, partition=partition, deletes=deletes))
        claims.extend(log_claims(position, file, stats, schema))
        for name, text in partition.items():
            claims.append(partition_claim(position, name, schema.arrow.field(name).type, text, rows))
    return tuple(fragments), tuple(claims)


def _partition(add: Mapping[str, Any], schema: DeltaSchema) -> dict[str, str | None]:
    values = as_object(add.get("partitionValues"))
    try:
        partition = {name: values[physical] for physical, name in schema.partition.items()}
    except KeyError as exc:
        raise TableFailed("a data file in the Delta log lacks a partition value", error="DeltaLog") from exc
    if not all(value is None or isinstance(value, str) for value in partition.values()):
        raise TableFailed("a partition value in the Delta log is not text", error="DeltaLog")
    return partition


def _stored_as(uri: str, snapshot: Snapshot, schema: DeltaSchema, mode: str) -> dict[LeafPath, str]:
    """See Harvest.stored_as; where older files have values that are not in them, no other table's leaf is the same."""
    if _has_defaults(snapshot):
        return {leaf: f"defaults of {uri}" for leaf, _ in leaves(schema.arrow)}
    return {} if mode == "none" else stored_identities(schema.arrow, f"delta {mode}")


def _has_defaults(snapshot: Snapshot) -> bool:
    return "EXISTS_DEFAULT" in str(snapshot.metadata.get("schemaString"))


def _engine_reason(snapshot: Snapshot, schema: DeltaSchema) -> str | None:
    """Why the table's rows are not those of its Parquet files, deleted rows left out and columns found as it says."""
    if _has_defaults(snapshot):
        return "its columns may have default values for older files"
    constant = snapshot.whole_history and len(snapshot.schemas) <= 1
    if holds_structs_in_lists(schema.arrow) and not constant:
        return "structs inside its arrays or maps may have changed"
    return None


def _spark_only_reason(snapshot: Snapshot, schema: DeltaSchema) -> str | None:
    """Why Sail's reader would not, or might not, return what the files hold."""
    if reason := _misread_reason(snapshot, schema):
        return reason
    if any(hides_nan(file, file_stats(file.add), schema) for file in snapshot.live):
        return "its log has one bound for all values of a column, which Sail takes for NaN too"
    return None


def _misread_reason(snapshot: Snapshot, schema: DeltaSchema) -> str | None:
    """The same, without what the scan finds out about NaN."""
    if _WIDENED.search(str(snapshot.metadata.get("schemaString"))):
        return "the type of some columns was widened, and Sail rounds or cuts their older values"
    if any(is_absolute(file.add["path"]) for file in snapshot.live):
        return "its log names files by absolute path, which Sail does not open"
    if any(hides_values(file, file_stats(file.add), schema) for file in snapshot.live):
        return "its log has one bound for all values of a column, which Sail takes for the values"
    return None


def _no_parent_reason(uri: str, snapshot: Snapshot, schema: DeltaSchema) -> str | None:
    if _CHAR.search(str(snapshot.metadata.get("schemaString"))):
        return PADDED
    if _UNOPENABLE.search(uri) or _TIME_TRAVEL.search(uri):
        return "its path cannot be opened by every engine"
    if _COLLATED.search(str(snapshot.metadata.get("schemaString"))):
        return "it has columns with a collation, by which Spark compares them and Sail does not"
    if reason := _misread_reason(snapshot, schema):
        return reason
    if any(not file.uri.startswith(f"{uri}/") for file in snapshot.live):
        return "its log names files outside its folder"
    if not snapshot.has_commit:
        return "the log no longer has the commit of its version, without which Spark does not read a pinned version"
    paths = [path for path, _ in leaves(schema.arrow)]
    names = [fold(name) for name in schema.arrow.names]
    if is_case_sensitive(paths) or len(set(names)) < len(names):
        return "it has columns whose names differ only in case"
    return None


def _history_bytes(files: Files, used: set[str]) -> int:
    nested = tuple({name.split(LOG)[0] for name in files if "/" + LOG in name and not name.startswith(LOG)})
    return sum(
        file.size
        for name, file in files.items()
        if file.uri not in used and not _is_hidden(name) and not name.startswith(nested)
    )


def _is_hidden(name: str) -> bool:
    """Whether vacuum leaves a file alone: names with a leading `_` or `.`, folders of partitions and changes apart."""
    *folders, last = name.split("/")
    hidden = (folder.startswith((".", "_")) and "=" not in folder and folder != "_change_data" for folder in folders)
    return last.startswith((".", "_")) or any(hidden)


def newest_version(uri: str) -> int | None:
    """The newest version that a table's log names now; None where the log cannot be listed or has no commit."""
    try:
        fs, path = filesystem(f"{uri}/_delta_log")
        fs.invalidate_cache()
        names = [str(name).rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)]
    except OSError:
        return None
    return max((int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name)), default=None)


def files_named_in_log(uri: str) -> set[str]:
    """Uris of all data files that the readable parts of a log name, removed ones too.

    For tables that are not harvested, of which it must still be known whose files they read. Nothing is raised: what
    cannot be read here, no reader of the table can read either.
    """
    named: set[str] = set()
    with contextlib.suppress(TableFault):
        for name, file in list_files(uri).items():
            if name.startswith("_delta_log/"):
                named |= _named_in(uri, name, file.uri)
    return named


def _named_in(table_uri: str, name: str, uri: str) -> set[str]:
    paths: list[Any] = []
    with contextlib.suppress(Exception), open_file(uri) as source:
        if name.endswith(".json"):
            for line in source:
                with contextlib.suppress(ValueError):
                    paths.append(as_object(as_object(parse_json(line)).get("add")).get("path"))
        elif name.endswith(".parquet"):
            adds = pq.read_table(source, columns=["add"]).column("add").to_pylist()
            paths += [as_object(add).get("path") for add in adds]
    named = set()
    for path in paths:
        with contextlib.suppress(TableFault):
            if isinstance(path, str):
                named.add(data_file_uri(table_uri, path))
    return named
