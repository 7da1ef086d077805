"""Recipes as SQL that Spark and Sail understand alike, whatever the session's time zone and ANSI setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from r2d2.model import (
    Edge,
    Format,
    FoundTable,
    Harvest,
    Recipe,
    TypeClass,
    fold,
    is_case_sensitive,
    leaves,
    spark_ddl,
    spark_name,
    spark_type,
    type_class,
)
from r2d2.recipes.text import quote_text

_VIEW = "CREATE OR REPLACE TEMPORARY VIEW"

_UNORDERED = (pa.types.is_floating, pa.types.is_map)
"""Types in whose values engines do not agree what is the same: NaN of either sign, the order of entries."""

_SHORTEST_DIGITS = {"float": 6, "double": 15}
"""Decimals of so many digits are the shortest text of the float or double that equals them."""


def build_recipe(
    edge: Edge, child: FoundTable, parent: FoundTable, of_child: Harvest, of_parent: Harvest
) -> Recipe | None:
    """The recipe that an edge offers, unchecked; None where it offers none that could be proved.

    A parent with as many rows as the child contains each exactly as often, so the child is the parent's projection.
    Under `--propose-empty` callers ask for empty children too, which a projection without rows rebuilds.
    """
    if no_rebuild_reason(edge, child, parent, of_child, of_parent) is not None:
        return None
    if edge.child_rows == edge.parent_rows:
        kind, condition = ("equal" if edge.relation == "equal" else "projection"), ""
    elif edge.child_rows == 0:
        kind, condition = "selection", " WHERE false"
    else:
        return None
    return Recipe(
        child=edge.child,
        parents=(edge.parent,),
        kind=kind,
        setup_sql=(setup_sql(parent, of_parent),),
        recipe_sql=f"SELECT {select_list(of_child, of_parent)} FROM {spark_name(parent.id)}{condition}",
        read_bytes=of_parent.table_bytes,
    )


def select_list(of_child: Harvest, of_parent: Harvest) -> str:
    """The child's columns, in its order and types, out of the parent's.

    Raises:
        ValueError: If the types of a column cannot be restored; `no_rebuild_reason` says so before.
    """
    columns = list(_restored_columns(of_child, of_parent))
    if None in columns:
        raise ValueError("a column whose type the parent cannot restore")
    return ", ".join(f"{sql} AS {spark_name(f.name)}" for sql, f in zip(columns, of_child.schema, strict=True))


def no_rebuild_reason(
    edge: Edge, child: FoundTable, parent: FoundTable, of_child: Harvest, of_parent: Harvest
) -> str | None:
    """Why no query over the parent can give the child back, whatever it selects; None where one may."""
    if not edge.bag:
        return "the child repeats rows that the parent has less often"
    if reason := no_recipe_reason(child, of_child):
        return f"no query gives the child back: {reason}"
    if reason := no_parent_reason(parent, of_parent):
        return f"no recipe reads the parent: {reason}"
    if fold(child.id) == fold(parent.id):
        return "the names of the two differ only by case"
    for column, sql in zip(of_child.schema, _restored_columns(of_child, of_parent), strict=True):
        if sql is None:
            return f"the parent's type of column {column.name!r} cannot be turned into the child's"
    return None


def no_recipe_reason(child: FoundTable, harvest: Harvest) -> str | None:
    """Why no query of Spark could give this table back; None where one may."""
    if is_case_sensitive([path for path, _ in leaves(harvest.schema)]):
        return "it has columns that differ only by case"
    odd = [column for column in harvest.schema if not _is_spark_type(column.type)]
    if odd:
        return f"Spark has no type for one of its columns ({odd[0].type})"
    if not child.id.isprintable():
        return "its name has control characters"
    if any("${" in name for name in _names(harvest.schema)):
        return "the name of one of its columns has '${', where Spark puts a variable of the session"
    return None


def no_parent_reason(parent: FoundTable, harvest: Harvest) -> str | None:
    """Why no recipe may read this table; None where one may."""
    if harvest.no_parent_reason is not None:
        return harvest.no_parent_reason
    if parent.format is Format.JSON:
        return "JSON lines are not read by recipes"
    if not parent.uri.isprintable() or not parent.id.isprintable():
        return "its path has control characters"
    if "${" in parent.id:
        return "its name has '${', where Spark puts a variable of the session"
    return no_recipe_reason(parent, harvest)


def collapses(schema: pa.Schema) -> bool:
    """Whether every engine can be made to agree which rows of a table are the same."""
    others = [column.type for column in schema if not pa.types.is_floating(column.type)]
    return not any(test(inner) for dtype in others for inner in _types(dtype) for test in _UNORDERED)


def distinct_rows(schema: pa.Schema, query: str) -> str:
    """The different rows of a query that returns these columns, floats with one NaN and one zero only."""
    listed = ", ".join(
        _one_nan(column) if pa.types.is_floating(column.type) else spark_name(column.name) for column in schema
    )
    return f"SELECT DISTINCT {listed} FROM ({query})"


def setup_sql(table: FoundTable, harvest: Harvest) -> str:
    """The statement that defines a table's name in a plain session.

    Schemas are explicit, since engines infer them apart; a Delta table's comes from its pinned version.
    """
    options = {"path": table.uri, **harvest.view_options}
    columns, using = f" ({spark_ddl(harvest.schema)})", "csv" if table.format is Format.TSV else table.format.value
    if table.format is Format.DELTA:
        options["versionAsOf"], columns = harvest.version, ""
    return view_statement(table.id, columns, using, options)


def view_statement(name: str, columns: str, using: str, options: Mapping[str, str]) -> str:
    """The statement that defines a view, its columns in parentheses behind a blank or empty."""
    listed = ", ".join(f"{key} {quote_text(value)}" for key, value in options.items())
    return f"{_VIEW} {spark_name(name)}{columns} USING {using} OPTIONS ({listed})"


def view_name(statement: str) -> str:
    """The name, in backticks, of the view that a setup statement defines."""
    quoted = re.match(re.escape(_VIEW) + " (`(?:[^`]|``)+`)", statement)
    if quoted is None:
        raise ValueError("a setup statement that defines no view")
    return quoted.group(1)


def _restored_columns(of_child: Harvest, of_parent: Harvest) -> Iterator[str | None]:
    """SQL that restores each column of the child; None where the types cannot be restored without a time zone."""
    by_name = {column.name: column for column in of_parent.schema}
    by_folded = {fold(name): by_name[name] for name in reversed(by_name)}
    for column in of_child.schema:
        source = by_name[column.name] if column.name in by_name else by_folded[fold(column.name)]
        yield _restored(spark_name(source.name), source.type, column.type)


def _restored(sql: str, have: pa.DataType, want: pa.DataType) -> str | None:
    if spark_type(have) == spark_type(want):
        return sql
    if pa.types.is_struct(want) and pa.types.is_struct(have):
        return _restored_struct(sql, have, want)
    if pa.types.is_struct(want) or pa.types.is_struct(have):
        return f"CAST(NULL AS {spark_type(want)})"
    classes = {type_class(have), type_class(want)}
    if classes == {TypeClass.WALL_CLOCK, TypeClass.INSTANT}:
        return None
    if pa.types.is_decimal(want) and want.precision > _SHORTEST_DIGITS.get(str(have), want.precision):
        return None  # engines go through the shortest text of the number, which has no more digits than it needs
    if len(classes) > 1:  # equal all the same: every value is NULL
        return f"CAST(NULL AS {spark_type(want)})"
    return f"CAST({sql} AS {spark_type(want)})"


def _restored_struct(sql: str, have: pa.StructType, want: pa.StructType) -> str | None:
    parts = []
    for field in want:
        found = [f for f in have if f.name == field.name] or [f for f in have if fold(f.name) == fold(field.name)]
        inner = found and _restored(f"{sql}.{spark_name(found[0].name)}", found[0].type, field.type)
        if not inner:
            return None
        parts.append(f"{quote_text(field.name)}, {inner}")
    struct = f"CASE WHEN {sql} IS NULL THEN NULL ELSE named_struct({', '.join(parts)}) END"
    return f"CAST({struct} AS {spark_type(want)})"


def _names(fields: Iterable[pa.Field]) -> Iterator[str]:
    """Of columns, and of the fields of structs at any depth."""
    for field in fields:
        yield field.name
        yield from _names(field.type.field(index) for index in range(field.type.num_fields))


def _types(dtype: pa.DataType) -> Iterator[pa.DataType]:
    yield dtype
    for index in range(dtype.num_fields):
        yield from _types(dtype.field(index).type)


def _one_nan(column: pa.Field) -> str:
    name, dtype = spark_name(column.name), spark_type(column.type).upper()
    return f"CASE WHEN isnan({name}) THEN CAST('NaN' AS {dtype}) ELSE {name} + CAST(0 AS {dtype}) END AS {name}"


def _is_spark_type(dtype: pa.DataType) -> bool:
    if pa.types.is_null(dtype) or (pa.types.is_timestamp(dtype) and dtype.unit == "ns"):
        return False
    return all(_is_spark_type(dtype.field(index).type) for index in range(dtype.num_fields))
