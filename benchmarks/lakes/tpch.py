"""TPC-H's lineitem and orders, and tables that people derive from them.

DuckDB's tpch extension is downloaded when it is first used, which many machines cannot do, so this is a generator of
the same schemas, row counts and distributions of values: one to seven lines an order, dates from 1992 to 1998 that
follow from the order's date, prices from part and quantity, flags and states from the dates. Texts are of the lengths
of the original, of other words. The specification's own streams of random numbers are not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from benchmarks.lakes.columns import Column, below, texts, words
from benchmarks.lakes.lake import Table
from benchmarks.lakes.plan import with_corrections
from benchmarks.lakes.rows import (
    Codes,
    Mask,
    Rows,
    codes_of,
    drawn,
    number_of,
    version_of,
)

ORDERS = 1_500_000
PARTS, SUPPLIERS, CUSTOMERS = 200_000, 10_000, 150_000
FIRST_DAY, DAYS = 8_035, 2_406  # 1992-01-01; order dates end 151 days before 1998-12-31
TODAY = 9_298  # 1995-06-17, the specification's current date
LINES = 8
"""A line's number is its order's times this, plus its place."""

INSTRUCTIONS = ("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
LINEITEM, ORDER = 0, 1


def order_of(codes: Codes) -> Codes:
    """The order of each line, coded like a row of orders."""
    return codes_of(number_of(codes) // LINES, family=ORDER)


def order_day(orders: Codes) -> Codes:
    return FIRST_DAY + below(orders, 1, DAYS)


def ship_day(codes: Codes) -> Codes:
    return order_day(order_of(codes)) + 1 + below(codes, 4, 121)


def receipt_day(codes: Codes) -> Codes:
    return ship_day(codes) + 1 + below(codes, 5, 30)


def quantity(codes: Codes) -> Codes:
    return 1 + below(codes, 6, 50)


def price_cents(codes: Codes) -> Codes:
    """The extended price; a corrected line costs a cent more."""
    part = 1 + below(codes, 2, PARTS)
    retail = 90_000 + (part // 10) % 20_001 + 100 * (part % 1_000)
    return quantity(codes) * retail + version_of(codes)


def total_cents(codes: Codes) -> Codes:
    return 85_000 + below(codes, 20, 50_000_000) + version_of(codes)


def lines_of(orders: int) -> Rows:
    """The lines of all orders, one to seven each."""
    numbers = np.arange(orders, dtype=np.int64)
    counts = 1 + below(codes_of(numbers, family=ORDER), 3, 7)
    return Rows.of_ranges(numbers * LINES, numbers * LINES + counts)


def money(codes: Codes, cents: Callable[[Codes], Codes]) -> pa.Array:
    cells = np.zeros((len(codes), 2), np.int64)
    cells[:, 0] = cents(codes)
    return pa.Array.from_buffers(pa.decimal128(15, 2), len(codes), [None, pa.py_buffer(cells)])


def days(codes: Codes, day: Callable[[Codes], Codes]) -> pa.Array:
    return pa.array(day(codes).astype(np.int32), pa.date32())


def keys(codes: Codes, seed: int, bound: int) -> pa.Array:
    return pa.array(1 + below(codes, seed, bound))


def return_flags(codes: Codes) -> pa.Array:
    returned = np.where(below(codes, 8, 2) == 0, 0, 1)
    return pa.array(["R", "A", "N"]).take(pa.array(np.where(receipt_day(codes) <= TODAY, returned, 2)))


def line_states(codes: Codes) -> pa.Array:
    return pa.array(["F", "O"]).take(pa.array((ship_day(codes) > TODAY).astype(np.int8)))


def order_states(codes: Codes) -> pa.Array:
    """`F` and `O` by the order's date, `P` where its lines may be on either side of today."""
    age = order_day(codes) - TODAY
    return pa.array(["F", "P", "O"]).take(pa.array(np.where(age < -121, 0, np.where(age > 0, 2, 1))))


def comments(codes: Codes, seed: int, length: int) -> pa.Array:
    """Lengths are fixed where the original's vary around them."""
    return texts(codes, seed, length)


def clerks(codes: Codes) -> pa.Array:
    names = [f"Clerk#{number:09}" for number in range(1, 1_001)]
    return words(codes, 23, names)


LINEITEM_COLUMNS = (
    Column("l_orderkey", lambda codes: pa.array(number_of(codes) // LINES + 1)),
    Column("l_partkey", partial(keys, seed=2, bound=PARTS)),
    Column("l_suppkey", partial(keys, seed=7, bound=SUPPLIERS)),
    Column("l_linenumber", lambda codes: pa.array((number_of(codes) % LINES + 1).astype(np.int32))),
    Column("l_quantity", partial(money, cents=lambda codes: quantity(codes) * 100)),
    Column("l_extendedprice", partial(money, cents=price_cents)),
    Column("l_discount", partial(money, cents=lambda codes: below(codes, 9, 11))),
    Column("l_tax", partial(money, cents=lambda codes: below(codes, 10, 9))),
    Column("l_returnflag", return_flags),
    Column("l_linestatus", line_states),
    Column("l_shipdate", partial(days, day=ship_day)),
    Column("l_commitdate", partial(days, day=lambda codes: order_day(order_of(codes)) + 30 + below(codes, 11, 61))),
    Column("l_receiptdate", partial(days, day=receipt_day)),
    Column("l_shipinstruct", partial(words, seed=12, choice=INSTRUCTIONS)),
    Column("l_shipmode", partial(words, seed=13, choice=MODES)),
    Column("l_comment", partial(comments, seed=14, length=32)),
)
ORDERS_COLUMNS = (
    Column("o_orderkey", lambda codes: pa.array(number_of(codes) + 1)),
    Column("o_custkey", partial(keys, seed=21, bound=CUSTOMERS)),
    Column("o_orderstatus", order_states),
    Column("o_totalprice", partial(money, cents=total_cents)),
    Column("o_orderdate", partial(days, day=order_day)),
    Column("o_orderpriority", partial(words, seed=22, choice=PRIORITIES)),
    Column("o_clerk", clerks),
    Column("o_shippriority", lambda codes: pa.array(np.zeros(len(codes), np.int32))),
    Column("o_comment", partial(comments, seed=24, length=48)),
)


def tpch(scale: float, seed: int) -> list[Table]:
    """Both tables and, of each, filters, projections, samples and copies with one changed row: 30 in all."""
    orders = max(200, round(ORDERS * scale))
    lines, all_orders = lines_of(orders), Rows.of_range(0, orders, family=ORDER)
    rng = np.random.default_rng(seed)
    tables = [
        Table(name="lineitem", columns=LINEITEM_COLUMNS, layers=(lines,)),
        Table(name="orders", columns=ORDERS_COLUMNS, layers=(all_orders,)),
    ]
    tables += [
        Table(name=f"lineitem_shipped_{1992 + year}", columns=LINEITEM_COLUMNS, layers=(kept(lines, ship_day, year),))
        for year in range(1, 7)
    ]
    tables += [
        Table(name=f"orders_{1992 + year}", columns=ORDERS_COLUMNS, layers=(kept(all_orders, order_day, year),))
        for year in range(1, 5)
    ]
    for name, rows, columns, needed in (
        ("lineitem", lines, LINEITEM_COLUMNS, {"l_orderkey", "l_linenumber", "l_extendedprice"}),
        ("orders", all_orders, ORDERS_COLUMNS, {"o_orderkey", "o_totalprice"}),
    ):
        tables += derived(rng, name, rows, columns, needed)
    return tables


def derived(
    rng: np.random.Generator, name: str, rows: Rows, columns: tuple[Column, ...], needed: set[str]
) -> list[Table]:
    """Ten tables of one: projections keep the columns that tell rows and their versions apart."""
    others = [column.name for column in columns if column.name not in needed]
    tables = []
    for number in range(3):
        chosen = needed | set(rng.choice(others, 2 + number, replace=False).tolist())
        tables.append((f"{name}_narrow_{number}", tuple(c for c in columns if c.name in chosen), rows))
    tables += [
        (f"{name}_sample_{percent}", columns, drawn(rng, rows, rows.size * percent // 100))
        for percent in (1, 5, 10, 20)
    ]
    tables += [(f"{name}_fixed_{number}", columns, with_corrections(rng, rows, 0)) for number in range(2)]
    tables.append((f"{name}_copy", columns, rows))
    return [Table(name=title, columns=chosen, layers=(part,)) for title, chosen, part in tables]


def kept(rows: Rows, day: Callable[[Codes], Codes], year: int) -> Rows:
    """The rows of one year, the first being 1992."""
    codes = rows.expand()
    chosen: Mask = (day(codes) - FIRST_DAY) // 365 == year
    return Rows.of_codes(codes[chosen])
