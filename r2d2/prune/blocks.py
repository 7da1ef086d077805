"""Stage 2 as work items: blocks of pairs of schema classes, and the kernel that answers one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from r2d2.model import SchemaClass, SchemaGraph
from r2d2.prune.boxes import file_verdict, has_files
from r2d2.prune.minmax import surviving, tables_of
from r2d2.scan.plan import column_order, compared_paths

BLOCK_TABLES = 20_000
"""Children of one block: the evidence of a table of 40 columns takes about 10 kB while it is judged."""

ITEM_EDGES = 1024
"""Class edges in one work item, at most."""

SURVIVORS = pa.schema(
    [
        pa.field("item", pa.int32()),
        pa.field("child", pa.int32()),  # DONE in the row that ends the answer to an item
        pa.field("parent", pa.int32()),
        pa.field("column_set", pa.int32()),
        pa.field("bag_excluded", pa.bool_()),
    ]
)
DONE = -1
_PAIRS = pa.schema(list(SURVIVORS)[1:])


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some children of one class against all tables of another.

    Attributes:
        column_set: The schema class of the children.
        children, parents: Positions of tables.
        parent_leaf: Per leaf of the children, in order, the place of the parents' leaf of that name.
    """

    column_set: int
    children: tuple[int, ...]
    parents: tuple[int, ...]
    parent_leaf: tuple[int, ...]

    @property
    def tables(self) -> int:
        """Tables whose evidence is needed, which is what a block costs: few pairs are ever looked at."""
        return len(self.children) + len(self.parents)


def blocks_of(graph: SchemaGraph, *, block_tables: int = BLOCK_TABLES) -> Iterator[Block]:
    """The pairs of a schema graph in blocks."""
    for edge in graph.edges:
        child, parent = (graph.classes[end] for end in edge)
        places = parent_places(child, parent)
        for start in range(0, len(child.tables), block_tables):
            yield Block(
                column_set=child.id,
                children=child.tables[start : start + block_tables],
                parents=parent.tables,
                parent_leaf=places,
            )


def parent_places(child: SchemaClass, parent: SchemaClass) -> tuple[int, ...]:
    """See Block.parent_leaf."""
    place = {path: number for number, path in enumerate(column_order(list(parent.names)))}
    _, paths = compared_paths(child, parent)
    return tuple(place[path] for path in paths)


def items_of(blocks: Iterable[Block], *, item_tables: int) -> list[list[Block]]:
    """Blocks in work items of about as many tables each, in order."""
    items: list[list[Block]] = []
    room = 0
    for block in blocks:
        if not items or block.tables > room or len(items[-1]) >= ITEM_EDGES:
            items.append([])
            room = item_tables
        items[-1].append(block)
        room -= block.tables
    return items


def to_json(blocks: Sequence[Block]) -> str:
    """A work item as text."""
    return json.dumps([vars(block) for block in blocks])


def from_json(text: str) -> list[Block]:
    """Inverse of `to_json`."""
    names = ("children", "parents", "parent_leaf")
    return [
        Block(column_set=raw["column_set"], **{name: tuple(raw[name]) for name in names}) for raw in json.loads(text)
    ]


def answer(item: int, blocks: Sequence[Block], evidence: Mapping[int, bytes]) -> pa.Table:
    """The pairs of a work item that survive, and the row that says that the item was answered: schema SURVIVORS."""
    done = pa.Table.from_pylist([{"child": DONE, "parent": DONE, "column_set": DONE, "bag_excluded": False}], _PAIRS)
    rows = pa.concat_tables([*(survivors_of(block, evidence) for block in blocks), done])
    return rows.add_column(0, SURVIVORS.field(0), pa.array(np.full(len(rows), item, np.int32)))


def survivors_of(block: Block, evidence: Mapping[int, bytes]) -> pa.Table:
    """The surviving pairs of a block: the columns of SURVIVORS without the item."""
    children, parents = tables_of(*((side, [evidence[t] for t in side]) for side in (block.children, block.parents)))
    c, p, bag_excluded = surviving(children, parents, block.parent_leaf)
    kept = np.ones(len(c), bool)
    several = (children.files[c] > 1) | (parents.files[p] > 1)
    for place in np.flatnonzero(several).tolist():
        child, parent = int(c[place]), int(p[place])
        if has_files(children, parents, child, parent):
            verdict = file_verdict(children, parents, child, parent, block.parent_leaf)
            kept[place] = not verdict.refuted
            bag_excluded[place] |= verdict.bag_excluded
    ids = (children.ids[c[kept]], parents.ids[p[kept]], np.full(np.count_nonzero(kept), block.column_set))
    columns = [*(pa.array(column.astype(np.int32)) for column in ids), pa.array(bag_excluded[kept])]
    return pa.Table.from_arrays(columns, schema=_PAIRS)
