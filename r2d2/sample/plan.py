"""What the sample lake consists of: tables, and the relations that they were made to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from r2d2.sample.layout import Layout

VERDICTS = {
    "equal": "equal",
    "projection": "bag",
    "filtered": "bag",
    "snapshot": "bag",
    "empty": "bag",
    "repeated": "set",
    "union": "none",
    "near": "none",
    "trap": "none",
}
"""What each kind of plant means: `equal`, contained as a `bag`, only as a `set`, or `none`."""


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """A table of the sample lake.

    Attributes:
        id: Path relative to the lake.
        rows: What a faithful reader sees.
        layout: How it is stored.
    """

    id: str
    rows: pa.Table
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A relation that a table was made to have; `kind` is a key of VERDICTS."""

    child: str
    parent: str
    kind: str

    @property
    def verdict(self) -> str:
        """`equal`, `bag`, `set` or `none`."""
        return VERDICTS[self.kind]


@dataclass(kw_only=True)
class SampleLake:
    """All tables and plants, in the order in which they are made."""

    tables: list[SampleTable] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)

    def add(self, name: str, rows: pa.Table, layout: Layout, **plants: str | Sequence[str]) -> None:
        """Add a table.

        Args:
            name: Its id.
            rows: Its rows.
            layout: How it is stored.
            plants: By kind, the table or tables that are its parents in that way.
        """
        self.tables.append(SampleTable(id=name, rows=rows.combine_chunks(), layout=layout))
        for kind, parents in plants.items():
            for parent in [parents] if isinstance(parents, str) else parents:
                self.plants.append(Plant(child=name, parent=parent, kind=kind))
