"""The tables of an audit with what is known of them, and which of them still take part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from r2d2.errors import TableFault
from r2d2.model import FoundTable, Harvest, LeafPath, leaves


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
    """

    found: tuple[FoundTable, ...]
    harvests: Mapping[int, Harvest] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)

    def fail(self, table: int, stage: str, fault: TableFault) -> None:
        """Take a table out of the audit; the first reason stays."""
        self.failures.setdefault(
            table,
            Failure(table=table, stage=stage, status=fault.status, error=fault.error, message=str(fault)),
        )

    def is_active(self, table: int) -> bool:
        """Whether a table was harvested and has not failed."""
        return table in self.harvests and table not in self.failures

    def active(self) -> Iterator[tuple[int, Harvest]]:
        """Tables that take part, ascending, with their metadata."""
        return ((table, self.harvests[table]) for table in sorted(self.harvests) if table not in self.failures)

    def leaf_paths(self) -> dict[int, list[LeafPath]]:
        """Leaf paths of the tables that take part."""
        return {table: [path for path, _ in leaves(harvest.schema)] for table, harvest in self.active()}
