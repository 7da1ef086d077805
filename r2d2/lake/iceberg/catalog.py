"""The Iceberg tables of a catalog, each pinned by the metadata file that the catalog names for it."""

from __future__ import annotations

import contextlib
import fnmatch
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from r2d2.errors import LakeError, TableFault, UsageError
from r2d2.lake.discovery import numbered
from r2d2.model import Format, FoundTable, Status

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

log = logging.getLogger(__name__)

_Identifier = tuple[str, ...]


def discover_catalog(name: str, patterns: Sequence[str] = ()) -> tuple[FoundTable, ...]:
    """The tables of a catalog that is configured as pyiceberg wants it; nothing is written there.

    Views, tables that cannot be loaded and namespaces that cannot be listed are tables with a fault. An id is the
    catalog's name, the namespace and the table's name, joined by dots.

    Args:
        name: Of the catalog in the configuration.
        patterns: Shell patterns, in which case counts, for the dotted namespace: only those that match one of them are
            listed; none asks for all.

    Returns:
        Sorted by id; `table` is the position.

    Raises:
        LakeError: If no such catalog is configured, or it cannot be reached.
    """
    with _open_catalog(name) as catalog:
        try:
            namespaces = _namespaces(catalog)
        except Exception as exc:  # messages of clients may hold addresses with passwords
            raise LakeError(f"the namespaces of catalog {name!r} cannot be listed: {type(exc).__name__}") from exc
        chosen = [namespace for namespace in namespaces if _matches(namespace, patterns)]
        return numbered([table for namespace in chosen for table in _tables(catalog, name, namespace)])


def current_metadata(name: str, patterns: Sequence[str] = ()) -> dict[str, str]:
    """By table id, the metadata file that the catalog names now; nothing where it cannot be asked any more."""
    try:
        tables = discover_catalog(name, patterns)
    except LakeError as exc:
        log.warning("%s; all of its tables are kept", exc)
        return {}
    return {table.id: table.metadata for table in tables if table.metadata is not None}


def check_library(found: Sequence[FoundTable]) -> None:
    """Make sure that the library for Iceberg's metadata works, if a table needs it: it reads its configuration at once.

    Raises:
        UsageError: If it cannot be loaded.
    """
    if any(table.format is Format.ICEBERG for table in found):
        try:
            import pyiceberg.manifest  # noqa: F401
        except Exception as exc:
            message = f"pyiceberg cannot be loaded ({type(exc).__name__}): look at .pyiceberg.yaml, its configuration"
            raise UsageError(message) from exc


@contextlib.contextmanager
def _open_catalog(name: str) -> Iterator[Catalog]:
    try:
        from pyiceberg.catalog import load_catalog  # reads the configuration

        catalog = load_catalog(name, init_catalog_tables="false")  # else a catalog in a database creates its tables
    except Exception as exc:
        raise LakeError(
            f"the catalog {name!r} cannot be opened: {type(exc).__name__}; configure it in .pyiceberg.yaml or by "
            "PYICEBERG_CATALOG__… as pyiceberg does, and install pyiceberg's extra for its type"
        ) from exc
    with contextlib.closing(catalog):
        yield catalog


def _namespaces(catalog: Catalog) -> list[_Identifier]:
    """All namespaces, those within others too."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    found = {tuple(namespace): None for namespace in catalog.list_namespaces()}
    pending = list(found)
    for outer in pending:
        with contextlib.suppress(NoSuchNamespaceError):  # dropped since, or the catalog has no namespaces in others
            for inner in map(tuple, catalog.list_namespaces(outer)):
                if inner not in found:
                    found[inner] = None
                    pending.append(inner)
    return sorted(found)


def _matches(namespace: _Identifier, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(".".join(namespace), pattern) for pattern in patterns)


def _tables(catalog: Catalog, name: str, namespace: _Identifier) -> Iterator[FoundTable]:
    try:
        tables = sorted(set(map(tuple, catalog.list_tables(namespace))))
    except Exception as exc:  # noqa: BLE001 - one namespace must not end the audit of all others
        yield _fault((name, *namespace), f"its tables cannot be listed: {type(exc).__name__}")
        return
    views = _views(catalog, namespace) - set(tables)
    yield from (_found(catalog, name, table) for table in tables)
    yield from (_fault((name, *view), "views are not read", Status.UNSUPPORTED) for view in sorted(views))


def _views(catalog: Catalog, namespace: _Identifier) -> set[_Identifier]:
    """Views, where the catalog knows any: they are only named, so that not being told of them loses nothing."""
    with contextlib.suppress(Exception):
        return set(map(tuple, catalog.list_views(namespace)))
    return set()


def _found(catalog: Catalog, name: str, table: _Identifier) -> FoundTable:
    from r2d2.lake.iceberg.metadata import location_uri

    try:
        loaded = catalog.load_table(table)
        uri = location_uri("", loaded.location()).rstrip("/")
        metadata = location_uri(uri, loaded.metadata_location)
    except TableFault as fault:
        return _fault((name, *table), str(fault))
    except Exception as exc:  # noqa: BLE001 - one table must not end the audit of all others
        return _fault((name, *table), f"the catalog cannot load it: {type(exc).__name__}")
    return FoundTable(table=0, id=_id((name, *table)), format=Format.ICEBERG, uri=uri, metadata=metadata)


def _fault(parts: Sequence[str], reason: str, status: Status = Status.FAILED) -> FoundTable:
    return FoundTable(table=0, id=_id(parts), format=Format.UNKNOWN, uri="", fault=reason, fault_status=status)


def _id(parts: Sequence[str]) -> str:
    """Names joined by dots; what no UTF-8 can hold is escaped."""
    return ".".join(parts).encode("utf-8", "backslashreplace").decode()
