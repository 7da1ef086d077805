"""Recipes of kind *union*: a table that comes back from several others, each with or without a predicate.

Where the parents hold exactly as many rows as the child, it is their concatenation. Otherwise each parent that has
other rows too is cut to the bounds of the child, and where the child repeats no row, repeated ones collapse. The bounds
come from metadata: the child's rows lie within them; whether others do is found out by running the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from r2d2.lake.ignored import without_leaves
from r2d2.model import Edge, Harvest, LeafPath, Recipe, fold, fold_path, leaves, spark_name
from r2d2.recipes.columns import Kind, PredicateColumn, predicate_columns
from r2d2.recipes.offer import Offer
from r2d2.recipes.predicates import Condition, spark_sql
from r2d2.recipes.sql import collapses, distinct_rows, no_rebuild_reason, select_list, setup_sql
from r2d2.scan.covers import Union, read_unions
from r2d2.scan.evidence import Flag, number_of, of_table, unpack
from r2d2.scan.plan import column_order
from r2d2.scan.stored import MINMAX, read_evidence

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

_DAY_MICROSECONDS = 86_400_000_000

Bounds = Mapping[LeafPath, Mapping[str, Any]]
"""By folded leaf path: the row of `scan.evidence.ROWS` that speaks of the whole table."""


def offer_unions(run: StageRun, _: Sequence[Edge]) -> Offer:
    """A recipe of each union that the audit has found and that offers one."""
    unions = [
        union
        for union in read_unions(run.store)
        if union.child not in run.ignored and all(map(run.inventory.is_active, union.tables))
    ]
    tables = {table for union in unions for table in union.tables}
    evidence = read_evidence(run.store, MINMAX, tables) if tables else {}
    compared = {t: without_leaves(run.inventory.harvests[t], run.ignored.get(t, ())) for t in sorted(tables)}
    bounds = {table: _bounds(harvest, evidence[table]) for table, harvest in compared.items()}
    recipes = (union_recipe(run, union, bounds) for union in unions)
    return Offer(recipes=[recipe for recipe in recipes if recipe is not None])


def _bounds(harvest: Harvest, packed: bytes) -> Bounds:
    paths = column_order([path for path, _ in leaves(harvest.schema)])
    rows = unpack(of_table(packed)).to_pylist()
    return {fold_path(path): row for path, row in zip(paths, rows, strict=True)}


def union_recipe(run: StageRun, union: Union, bounds: Mapping[int, Bounds]) -> Recipe | None:
    """The recipe that a union offers, unchecked; None where it offers none.

    Args:
        run: The audit.
        union: Tables that hold the child together.
        bounds: What metadata proves of the tables.
    """
    found, harvests = run.inventory.found, run.inventory.harvests
    names = {fold(found[table].id) for table in union.tables}
    if len(names) < len(union.tables) or any(_edge_reason(run, union, parent) for parent in union.parents):
        return None
    is_plain = union.bag and sum(union.parent_rows) == union.child_rows
    selects = []
    for parent, outside in zip(union.parents, union.outside, strict=True):
        condition = None if is_plain or not outside else _condition(harvests, union.child, parent, bounds)
        if not is_plain and outside and condition is None:
            return None
        where = f" WHERE {condition}" if condition else ""
        columns = select_list(harvests[union.child], harvests[parent])
        selects.append(f"SELECT {columns} FROM {spark_name(found[parent].id)}{where}")
    sql = " UNION ALL ".join(selects)
    if not is_plain and union.distinct == union.child_rows:
        schema = harvests[union.child].schema
        sql = distinct_rows(schema, sql) if collapses(schema) else sql
    return Recipe(
        child=union.child,
        parents=union.parents,
        kind="union",
        setup_sql=tuple(setup_sql(found[parent], harvests[parent]) for parent in union.parents),
        recipe_sql=sql,
        read_bytes=sum(harvests[parent].table_bytes for parent in union.parents),
    )


def _edge_reason(run: StageRun, union: Union, parent: int) -> str | None:
    """Why one parent may not be read for the child's rows."""
    found, harvests = run.inventory.found, run.inventory.harvests
    part = Edge(
        child=union.child,
        parent=parent,
        relation="contained",
        bag=True,
        set=True,
        child_rows=union.child_rows,
        parent_rows=union.child_rows,
        columns=(),
    )
    return no_rebuild_reason(part, found[union.child], found[parent], harvests[union.child], harvests[parent])


def _condition(harvests: Mapping[int, Harvest], child: int, parent: int, bounds: Mapping[int, Bounds]) -> str | None:
    """The bounds of the child in the columns in which the parent goes beyond them; None where it does in none."""
    paths = [path for path, _ in leaves(harvests[child].schema)]
    columns = predicate_columns(harvests[parent].schema, paths)
    box = tuple(
        condition
        for place, column in enumerate(columns)
        if column.shared
        if (condition := _bound(place, column, bounds[child], bounds[parent])) is not None
    )
    return spark_sql((box,), columns) if box else None


def _bound(place: int, column: PredicateColumn, of_child: Bounds, of_parent: Bounds) -> Condition | None:
    mine, its = of_child[fold_path(column.path)], of_parent[fold_path(column.path)]
    if mine["kind"] != its["kind"] or not mine["flags"] & int(Flag.MAY_VALUE):
        return None
    low = _stored(mine["low"], column) if _is_beyond(its["low"], mine["low"], -1) else None
    high = _stored(mine["high"], column) if _is_beyond(its["high"], mine["high"], 1) else None
    null = bool(mine["flags"] & int(Flag.MAY_NULL))
    if low is None and high is None and (null or not its["flags"] & int(Flag.MAY_NULL)):
        return None
    nan = column.kind.is_float and bool(mine["flags"] & int(Flag.MAY_NAN))
    return Condition(column=place, ranges=((low, high),), null=null, nan=nan)


def _is_beyond(its: bytes | None, mine: bytes | None, side: int) -> bool:
    """Whether the parent may have values on one side of the child's: before the least (-1) or after the greatest."""
    if mine is None:
        return False
    return its is None or (its < mine if side < 0 else its > mine)


def _stored(key: bytes, column: PredicateColumn) -> Any:
    """A bound as a stored value of the column; None where it has no literal. Outer bounds stay outside."""
    if column.kind is Kind.TEXT:
        value: Any = _text(key)
    elif column.kind is Kind.BYTES:
        value = key.hex().upper()
    else:
        value = _number(number_of(key), column)
    return value if value is not None and column.has_literal(value) else None


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _number(number: Decimal, column: PredicateColumn) -> Any:
    if column.kind is Kind.DECIMAL:
        return number
    if column.kind.is_float:
        return float(number) if Decimal(float(number)) == number else None
    if column.kind is Kind.BOOLEAN or number != int(number):
        return None
    if column.kind is Kind.DATE:
        return int(number) // _DAY_MICROSECONDS if number % _DAY_MICROSECONDS == 0 else None
    return int(number)
