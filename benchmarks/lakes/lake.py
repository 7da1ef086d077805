"""A lake before it is written: its tables, their files, and which table is contained in which."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.lakes.columns import Column
from benchmarks.lakes.rows import FAMILY_SHIFT, Rows
from benchmarks.lakes.write import write_delta, write_file

TRUTH, FACTS, TABLES = "truth.parquet", "facts.json", "tables"
_EDGES = pa.schema([("child", pa.string()), ("parent", pa.string()), ("bag", pa.bool_())])


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to be written.

    Attributes:
        name: Its id, without the file ending.
        columns: Its columns.
        layers: Rows that occur at least once, at least twice, and so on.
        files: 1 makes a file of it, more a folder with as many.
        delta: It is a Delta table, its folder made even of one file.
        adopts: A Delta table written before it and how many of that one's files, its first ones, are this one's too,
            named by absolute path as in a shallow clone. They hold the first of its rows.
    """

    name: str
    columns: tuple[Column, ...]
    layers: tuple[Rows, ...]
    files: int = 1
    delta: bool = False
    adopts: tuple[str, int] | None = None

    @property
    def id(self) -> str:
        """The id that an audit gives it."""
        return f"{self.name}.parquet" if self.files == 1 and not self.delta else self.name

    @property
    def rows(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def family(self) -> int:
        return int(self.layers[0].starts[0]) >> FAMILY_SHIFT

    @property
    def names(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns)


@dataclass(frozen=True, order=True)
class Containment:
    """A table whose rows are all in another; as a bag, too, if `bag`."""

    child: str
    parent: str
    bag: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a lake is, for reports.

    Attributes:
        classes: Different sets of columns.
        schema_pairs: Ordered pairs of tables whose first has no column that the second lacks.
        edges, bag_edges: Contained pairs as sets, and as bags.
    """

    shape: str
    scale: float
    seed: int
    tables: int
    files: int
    rows: int
    bytes: int
    classes: int
    schema_pairs: int
    edges: int
    bag_edges: int


def contained(tables: Sequence[Table]) -> list[Containment]:
    """The exact truth, from codes alone."""
    found = []
    by_family: dict[int, list[Table]] = defaultdict(list)
    for table in tables:
        by_family[table.family].append(table)
    for family in by_family.values():
        found += [edge for child, parent in _in_span(family) if (edge := containment(child, parent)) is not None]
    return sorted(found)


def containment(child: Table, parent: Table) -> Containment | None:
    """Whether a child, of the parent's family, is contained."""
    if not child.names <= parent.names or not child.layers[0] <= parent.layers[0]:
        return None
    bag = len(child.layers) <= len(parent.layers) and all(
        mine <= its for mine, its in zip(child.layers, parent.layers, strict=False)
    )
    return Containment(child.id, parent.id, bag)


def _in_span(family: Sequence[Table]) -> Iterator[tuple[Table, Table]]:
    """Pairs the first of which has its lowest and highest code between those of the second, and no more rows."""
    low = np.array([table.layers[0].starts[0] for table in family])
    high = np.array([table.layers[0].ends[-1] for table in family])
    size = np.array([table.layers[0].size for table in family])
    for place, child in enumerate(family):
        near = (low <= low[place]) & (high >= high[place]) & (size >= size[place])
        yield from ((child, family[other]) for other in np.flatnonzero(near).tolist() if other != place)


def schema_pairs(tables: Sequence[Table]) -> tuple[int, int]:
    """Schema classes, and pairs of tables whose columns fit."""
    sizes: dict[frozenset[str], int] = defaultdict(int)
    for table in tables:
        sizes[table.names] += 1
    having: dict[str, list[frozenset[str]]] = defaultdict(list)
    for names in sizes:
        for name in names:
            having[name].append(names)
    pairs = 0
    for names, count in sizes.items():
        rarest = min(names, key=lambda name: len(having[name]))
        pairs += count * (sum(sizes[other] for other in having[rarest] if names <= other) - 1)
    return len(sizes), pairs


def write_lake(tables: Sequence[Table], folder: Path, *, shape: str, scale: float, seed: int) -> Facts:
    """Write tables, truth and facts into a folder, replacing what an earlier call left there."""
    shutil.rmtree(folder / TABLES, ignore_errors=True)
    (folder / TABLES).mkdir(parents=True)
    for table in tables:
        write_table(table, folder / TABLES)
    edges = contained(tables)
    pq.write_table(pa.Table.from_pylist([asdict(edge) for edge in edges], schema=_EDGES), folder / TRUTH)
    paths = [path for path in (folder / TABLES).rglob("*.parquet") if path.is_file()]
    classes, pairs = schema_pairs(tables)
    facts = Facts(
        shape=shape,
        scale=scale,
        seed=seed,
        tables=len(tables),
        files=len(paths),
        rows=sum(table.rows for table in tables),
        bytes=sum(path.stat().st_size for path in paths),
        classes=classes,
        schema_pairs=pairs,
        edges=len(edges),
        bag_edges=sum(edge.bag for edge in edges),
    )
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=2))
    return facts


def write_table(table: Table, folder: Path) -> None:
    """Write the files of a table."""
    codes = np.concatenate([layer.expand() for layer in table.layers])
    if table.delta:
        write_delta(folder, table.id, table.columns, np.array_split(codes, table.files), table.adopts)
        return
    if table.files == 1:
        write_file(folder / table.id, table.columns, codes)
        return
    (folder / table.id).mkdir()
    for number, part in enumerate(np.array_split(codes, table.files)):
        write_file(folder / table.id / f"part-{number:05}.parquet", table.columns, part)


def read_truth(folder: Path, *, bag: bool) -> set[tuple[str, str]]:
    """The contained pairs of a written lake, as sets or as bags."""
    rows = pq.read_table(folder / TRUTH)
    kept = rows.filter(pc.field("bag")) if bag else rows
    return set(zip(kept["child"].to_pylist(), kept["parent"].to_pylist(), strict=True))


def read_facts(folder: Path) -> Facts:
    """The facts of a written lake."""
    return Facts(**json.loads((folder / FACTS).read_text()))
