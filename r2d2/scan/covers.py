"""The stored table of unions: tables all of whose rows several others hold together, and no one of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from r2d2.store.stages import StageStore

UNIONS = "unions"
"""Name of the stage that stores them."""

STORED_UNIONS = pa.schema(
    [
        ("child", pa.int32()),
        ("parents", pa.list_(pa.int32())),
        ("bag", pa.bool_()),
        ("child_rows", pa.int64()),
        ("distinct", pa.int64()),
        ("parent_rows", pa.list_(pa.int64())),
        ("outside", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Union:
    """A child that some tables hold together, as a set at least; none of them could be left out.

    Attributes:
        child: Position of the table.
        parents: Positions of the tables that hold it, ascending.
        bag: They hold each row at least as often together as the child does.
        child_rows: Its rows, repeated ones too.
        distinct: Its distinct rows.
        parent_rows: Rows of each parent.
        outside: Distinct rows of each parent, under the child's columns, that the child lacks.
    """

    child: int
    parents: tuple[int, ...]
    bag: bool
    child_rows: int
    distinct: int
    parent_rows: tuple[int, ...]
    outside: tuple[int, ...]

    @property
    def tables(self) -> tuple[int, ...]:
        """Child and parents."""
        return (self.child, *self.parents)


def write_unions(store: StageStore, unions: Sequence[Union]) -> None:
    """Store unions."""
    rows = [asdict(union) for union in unions]
    store.write_table(UNIONS, "unions", pa.Table.from_pylist(rows, schema=STORED_UNIONS))


def read_unions(store: StageStore) -> list[Union]:
    """The stored unions, by child; none where the audit did not look for them."""
    rows = store.read_table(UNIONS, "unions", STORED_UNIONS).to_pylist()
    lists = ("parents", "parent_rows", "outside")
    unions = [Union(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows]
    return sorted(unions, key=lambda union: union.child)
