"""A lake with planted recipes: each child has one parent in its own folder, and columns that no other folder has."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 400
UTC = dt.UTC
GROUPS = ["it's", "back\\slash", "plain", "ünï 漢", "", 'say "q"', "per%cent", "a AND b", "z--", "`tick`"]
NAMES = [
    ("id", "when", "amount", "group", "flag", "blob", "note"),
    ("a`b", "it's", "x.y", "select", "Group By", "ünï", "; DROP"),
]

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A child planted in a parent.

    Attributes:
        name: Folder of the two.
        kind: The cheapest kind of recipe that gives the child back; None where none does.
        parent, child: Their rows.
        columns_of_predicate: Words that the recipe's predicate must have.
    """

    name: str
    kind: str | None
    parent: pa.Table
    child: pa.Table
    columns_of_predicate: tuple[str, ...] = ()

    @property
    def child_id(self) -> str:
        """Id of the child in the lake."""
        return f"{self.name}/child"

    def write(self, lake: Path) -> None:
        """Write both tables."""
        for table, rows in (("parent", self.parent), ("child", self.child)):
            (lake / self.name / table).mkdir(parents=True)
            pq.write_table(rows, lake / self.name / table / "part-0.parquet")


def names_of(number: int) -> list[str]:
    """The columns of a folder: hostile in every other one."""
    return [f"{name} {number}" for name in NAMES[number % 2]]


def parent_of(number: int, rows: int = ROWS) -> pa.Table:
    """A parent whose values are all told apart by id; its types depend on the number."""
    chance = random.Random(number)
    ids = chance.sample(range(-50_000, 50_000), rows)
    days = [chance.randrange(0, 2000) for _ in range(rows)]
    start = dt.datetime(2019, 12, 30, 22, 30, 0, 250_000, UTC)
    moments = [start + dt.timedelta(hours=7 * day) for day in days]
    when = [
        pa.array([moment.date() for moment in moments], pa.date32()),
        pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp("us")),
        pa.array(moments, pa.timestamp("us", "UTC")),
        pa.array(moments, pa.timestamp("ms", "UTC")),
    ][number % 4]
    numbers = [None if chance.random() < 0.1 else chance.randrange(-400, 400) / 8 for _ in range(rows)]
    reals = [math.nan if n == 7.5 else -0.0 if n == 0 else n for n in numbers]
    amount = [
        pa.array(reals, pa.float64()),
        pa.array([None if n is None else Decimal(str(n)) for n in numbers], pa.decimal128(12, 3)),
        pa.array(reals, pa.float32()),
        pa.array([None if n is None else int(n) for n in numbers], pa.int16()),
    ][number % 4]
    groups = [None if chance.random() < 0.05 else chance.choice(GROUPS) for _ in range(rows)]
    columns = [
        pa.array(ids, pa.int64()),
        when,
        amount,
        pa.array(groups, pa.string()),
        pa.array([chance.choice([True, False, None]) for _ in range(rows)], pa.bool_()),
        pa.array([bytes([chance.randrange(4), 255]) if chance.random() < 0.9 else None for _ in range(rows)]),
        pa.array([f"{chance.getrandbits(256):064x}" for _ in range(rows)], pa.string()),
    ]
    return pa.table(columns, names=names_of(number))


def kept(table: pa.Table, test: Callable[[Row], bool], dropped: tuple[int, ...] = ()) -> pa.Table:
    """The rows that pass a test, by the plain names of the columns, without some columns."""
    plain = table.rename_columns(list(NAMES[0]))
    chosen = [place for place, row in enumerate(plain.to_pylist()) if test(row)]
    return table.take(chosen).select([place for place in range(table.num_columns) if place not in dropped])


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The rows in another order."""
    order = list(range(table.num_rows))
    random.Random(seed).shuffle(order)
    return table.take(order)


def cut(table: pa.Table, column: int, share: float) -> Any:
    """The value of a column that about this share of its values is below."""
    values = sorted(v for v in table.column(column).to_pylist() if v is not None and v == v)
    return values[int(share * (len(values) - 1))]


def is_number(value: Any) -> bool:
    return value is not None and value == value


def boxes(parent: pa.Table) -> list[tuple[Callable[[Row], bool], tuple[int, ...]]]:
    """Ten predicates over columns that the child keeps or lacks: test, and the columns that it reads."""
    early, late = cut(parent, 1, 0.3), cut(parent, 1, 0.7)
    low, high = cut(parent, 2, 0.25), cut(parent, 2, 0.75)
    return [
        (lambda row: early <= row["when"] <= late, (1,)),
        (lambda row: row["when"] >= late, (1,)),
        (lambda row: is_number(row["amount"]) and low <= row["amount"] <= high, (2,)),
        (lambda row: row["amount"] is None, (2,)),
        (lambda row: row["group"] in ("it's", "back\\slash", "ünï 漢"), (3,)),
        (lambda row: row["group"] is None or row["group"] == "a AND b", (3,)),
        (lambda row: row["flag"] is True, (4,)),
        (lambda row: row["flag"] is not False and row["when"] < early, (1, 4)),
        (lambda row: row["blob"] == b"\x01\xff", (5,)),
        (lambda row: is_number(row["amount"]) and row["amount"] >= high and row["group"] != "plain", (2, 3)),
    ]


def selections() -> list[Case]:
    """Ten over columns that the child has, ten over columns that it lacks."""
    cases = []
    for number in range(10):
        parent = parent_of(number)
        test, _ = boxes(parent)[number]
        cases.append(Case(name=f"box{number}", kind="selection", parent=parent, child=kept(parent, test)))
        parent = parent_of(100 + number)
        test, used = boxes(parent)[number]
        child = shuffled(kept(parent, test, used), number)
        cases.append(Case(name=f"dropped{number}", kind="selection", parent=parent, child=child))
    return cases


def copies() -> list[Case]:
    """Equal tables with other orders and wider types, and projections of them."""
    cases = []
    for number in range(200, 210):
        parent = parent_of(number)
        child = shuffled(parent, number)
        if number % 2:
            child = wider(child.select(list(range(child.num_columns))[::-1]))
        cases.append(Case(name=f"equal{number}", kind="equal", parent=parent, child=child))
        columns = random.Random(number).sample(range(1, 7), 4)
        parent = parent_of(1000 + number)
        child = shuffled(wider(parent).select(columns), number)
        cases.append(Case(name=f"projection{number}", kind="projection", parent=parent, child=child))
    return cases


def wider(table: pa.Table) -> pa.Table:
    """The same values in wider types."""
    types = {
        pa.float32(): pa.float64(),
        pa.decimal128(12, 3): pa.decimal128(20, 5),
        pa.int16(): pa.int64(),
        pa.timestamp("ms", "UTC"): pa.timestamp("us", "UTC"),
    }
    return table.cast(pa.schema([field.with_type(types.get(field.type, field.type)) for field in table.schema]))


def distincts() -> list[Case]:
    """The different rows of a projection, some of them under a predicate."""
    cases = []
    for number in range(300, 310):
        parent = parent_of(number)
        parent = pa.concat_tables([parent, parent.slice(0, 150)])
        columns = [3, 4, 5] if number % 2 else [1, 3]
        test: Callable[[Row], bool] = (lambda row: row["group"] in ("plain", "z--")) if number >= 307 else bool
        different = kept(parent, test).select(columns)
        child = pa.Table.from_pylist(
            [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in different.to_pylist())],
            schema=different.schema,
        )
        cases.append(Case(name=f"distinct{number}", kind="distinct", parent=parent, child=child))
    return cases


def key_lists() -> list[Case]:
    """Rows without rhyme or reason."""
    cases = []
    for number in range(400, 410):
        parent = parent_of(number, 2 * ROWS)
        chosen = set(random.Random(number).sample(parent.column(0).to_pylist(), ROWS))
        dropped = (0,) if number % 2 else ()
        child = kept(parent, lambda row, chosen=chosen: row["id"] in chosen, dropped)  # type: ignore[misc]
        cases.append(Case(name=f"keys{number}", kind="key_list", parent=parent, child=child))
    return cases


def distractors() -> list[Case]:
    """Almost right: a row off, a row twice, or a NULL in place of a value."""
    cases = []
    for number in range(500, 510):
        parent = parent_of(number)
        child = kept(parent, boxes(parent)[number % 10][0])
        if number % 3 == 0:
            child = pa.concat_tables([child, child.slice(0, 1)])
        else:
            row = child.slice(0, 1).to_pylist()[0]
            column = child.column_names[0 if number % 3 == 1 else 3]
            row[column] = None if number % 3 == 1 else "nobody has this"
            child = pa.concat_tables([child.slice(1), pa.Table.from_pylist([row], schema=child.schema)])
        cases.append(Case(name=f"almost{number}", kind=None, parent=parent, child=child))
    return cases


def planted() -> list[Case]:
    """All cases."""
    return [*selections(), *copies(), *distincts(), *key_lists(), *distractors()]
