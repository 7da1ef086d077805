"""The tables of an audit with what is known of them, and which of them still take part: a view of stored tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.harvest import HARVESTS, found_from_json, found_to_json, harvest_from_row
from r2d2.model import Claim, Edge, FoundTable, Harvest, LeafPath, Status, leaves

if TYPE_CHECKING:
    from r2d2.scan.plan import Pair
    from r2d2.store.stages import StageStore

HARVEST = "harvest"
"""The stage that stores the inventory."""

FOUND = pa.schema([("table", pa.int32()), ("found", pa.string()), ("source", pa.string()), ("row", pa.int32())])
FAILURES = pa.schema(
    [
        ("table", pa.int32()),
        ("stage", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)
_HEADS = pa.schema([column for column in HARVESTS if column.name != "claims"])
SOURCES = ("tables", "files")
"""Stored harvests: of the tables of the listing, and of the files of folders that are not one table."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a table takes no part, for `failures.parquet`."""

    table: int
    stage: str
    status: str
    error: str
    message: str


@dataclass(kw_only=True)
class Inventory:
    """All tables found, the metadata of those that could be harvested, and the failures so far.

    A table fails once; from then on it is not among `active`, and its pairs count as unverified.

    Attributes:
        found: All tables.
        harvests: Metadata by table, without the claims: those of a large lake are too many for one process.
        failures: By table.
        stored: In which stored harvest and under which number a table's metadata stands.
    """

    found: tuple[FoundTable, ...]
    harvests: dict[int, Harvest] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    stored: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def fail(self, table: int, stage: str, fault: TableFault) -> None:
        """Take a table out of the audit; the first reason stays."""
        self.failures.setdefault(
            table,
            Failure(table=table, stage=stage, status=fault.status, error=fault.error, message=str(fault)),
        )

    def is_active(self, table: int) -> bool:
        """Whether a table was harvested and has not failed."""
        return table in self.harvests and table not in self.failures

    def are_active(self, pair: Pair | Edge) -> bool:
        """Whether both tables of a pair, or of an edge, take part."""
        return self.is_active(pair.child) and self.is_active(pair.parent)

    def active(self) -> Iterator[tuple[int, Harvest]]:
        """Tables that take part, ascending, with their metadata."""
        return ((table, self.harvests[table]) for table in sorted(self.harvests) if table not in self.failures)

    def places(self, source: str) -> dict[int, int]:
        """By row of a stored harvest: the table whose metadata stands there."""
        return {row: table for table, (own, row) in self.stored.items() if own == source}

    def leaf_paths(self) -> dict[int, list[LeafPath]]:
        """Leaf paths of the tables that take part."""
        return {table: [path for path, _ in leaves(harvest.schema)] for table, harvest in self.active()}


def write_found(store: StageStore, found: Sequence[FoundTable], places: Mapping[str, tuple[str, int]]) -> None:
    """Store the tables of the audit.

    Args:
        store: Stage tables.
        found: All tables, by position.
        places: By table id, in which stored harvest and under which number its row stands.
    """
    rows = []
    for table in found:
        source, row = places.get(table.id, ("", -1))
        rows.append({"table": table.table, "found": found_to_json(table), "source": source, "row": row})
    store.write_table(HARVEST, "found", pa.Table.from_pylist(rows, schema=FOUND))


def write_failures(store: StageStore, stage: str, inventory: Inventory) -> None:
    """Store the failures of one stage."""
    rows = [dataclasses.asdict(failure) for failure in inventory.failures.values() if failure.stage == stage]
    store.write_table(stage, "failures", pa.Table.from_pylist(rows, schema=FAILURES))


def read_inventory(store: StageStore, reader: str) -> Inventory:
    """The inventory that the harvest has stored.

    Args:
        store: Stage tables.
        reader: Which reader the audit asks for: `auto`, `files` or `engine`.
    """
    rows = {
        (source, row["table"]): row
        for source in SOURCES
        for row in store.read_table(HARVEST, source, _HEADS).to_pylist()
    }
    places = sorted(store.read_table(HARVEST, "found", FOUND).to_pylist(), key=lambda place: place["table"])
    inventory = Inventory(
        found=tuple(found_from_json(place["found"]) for place in places),
        stored={place["table"]: (place["source"], place["row"]) for place in places if place["source"]},
    )
    for table, place in zip(inventory.found, places, strict=True):
        try:
            harvest = _harvest(table, rows.get((place["source"], place["row"])))
            inventory.harvests[table.table] = _with_reader(harvest, reader)
        except TableFault as fault:
            inventory.fail(table.table, "discovery" if table.fault else HARVEST, fault)
    return inventory


def claims_of(store: StageStore, inventory: Inventory, tables: Sequence[int]) -> dict[int, tuple[Claim, ...]]:
    """The stored claims of a few tables."""
    found: dict[int, tuple[Claim, ...]] = {}
    for source in SOURCES if tables else ():
        rows = {row: table for row, table in inventory.places(source).items() if table in tables}
        stored = store.read_table(HARVEST, source, HARVESTS) if rows else HARVESTS.empty_table()
        for row in stored.filter(pc.is_in(stored["table"], pa.array(rows, pa.int32()))).to_pylist():
            found[rows[row["table"]]] = harvest_from_row(row).claims
    return found


def _harvest(table: FoundTable, row: Mapping[str, Any] | None) -> Harvest:
    if table.fault is not None:
        raise fault_of(table.fault_status, table.fault, "Listing")
    if row is None:
        raise TableFailed("the harvest returned nothing for it", error="Lost")
    if row["status"] != Status.OK.value:
        raise fault_of(Status(row["status"]), row["message"], row["error"])
    return harvest_from_row(dict(row))


def fault_of(status: Status, message: str, error: str) -> TableFault:
    """A fault from its parts."""
    kind = TableUnsupported if status is Status.UNSUPPORTED else TableFailed
    return kind(message, error=error)


def _with_reader(harvest: Harvest, reader: str) -> Harvest:
    """The harvest with the reader that the audit asks for; refused where the kernel would not read it faithfully."""
    if reader == "engine":
        return dataclasses.replace(harvest, reader="engine")
    if reader == "files" and harvest.reader == "engine":
        raise TableUnsupported(f"the files reader cannot read it: {harvest.reader_reason}", error="Reader")
    return harvest
