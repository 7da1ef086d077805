"""Predicates over the columns of a parent, and how they read in DuckDB and in Spark SQL.

A predicate is a disjunction of boxes, a box a conjunction of conditions, a condition about one column. A condition
says whether NULL, and NaN, fulfil it; so a predicate is true or false of every row, never NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from r2d2.recipes.columns import Kind, PredicateColumn

Range = tuple[Any, Any]
"""Closed, of stored values; None is unbounded."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a column's value must be.

    Attributes:
        column: Position among the parent's predicate columns.
        ranges: Ascending and disjoint; the value, if it is neither NULL nor NaN, lies in one of them.
        null, nan: Whether NULL, and NaN, fulfil it.
    """

    column: int
    ranges: tuple[Range, ...]
    null: bool = False
    nan: bool = False

    @property
    def constants(self) -> int:
        """Number of values that it names."""
        return sum(len({end for end in ends if end is not None}) for ends in self.ranges)

    @property
    def cost(self) -> float:
        """How much there is to read."""
        points = sum(1 for low, high in self.ranges if low is not None and low == high)
        return reading_cost(len(self.ranges), points, self.constants, self.null + self.nan)


def reading_cost(ranges: int, points: int, constants: int, flags: int) -> float:
    """How much there is to read in a condition; that of `column = value` is 1.

    Args:
        ranges: How many it has.
        points: How many of them are one value.
        constants: How many values it names.
        flags: Whether it names NULL, and NaN, together.
    """
    further = max(0, points - 1), max(0, constants - points - 1), ranges - points
    return 1.0 + 0.2 * further[0] + 0.6 * further[1] + 0.3 * further[2] + 0.3 * flags * bool(ranges)


Box = tuple[Condition, ...]
Predicate = tuple[Box, ...]


def constants_of(predicate: Predicate) -> list[tuple[int, Any]]:
    """All values that a predicate names, each with its column."""
    return [
        (condition.column, value)
        for box in predicate
        for condition in box
        for ends in condition.ranges
        for value in dict.fromkeys(ends)
        if value is not None
    ]


def cost_of(predicate: Predicate) -> float:
    """How much there is to read."""
    return sum(condition.cost for box in predicate for condition in box) + 0.5 * (len(predicate) - 1)


def renumbered(predicate: Predicate, places: Sequence[int]) -> Predicate:
    """A predicate over some columns as one over all of them, among which they have these places."""
    return tuple(tuple(replace(c, column=places[c.column]) for c in box) for box in predicate)


def duck_sql(predicate: Predicate, columns: Sequence[PredicateColumn]) -> str:
    """The predicate over stored values that are called v0, v1, …; true or false of every row."""
    boxes = (" AND ".join(_duck_condition(c, columns[c.column]) for c in box) or "true" for box in predicate)
    return " OR ".join(f"({box})" for box in boxes) or "false"


def _duck_condition(condition: Condition, column: PredicateColumn) -> str:
    name = f"v{condition.column}"
    parts = []
    for low, high in condition.ranges:
        bounds = [f"{name} IS NOT NULL"]
        bounds += [f"NOT isnan({name})"] if column.kind.is_float else []
        bounds += [f"{name} >= {column.duck_literal(low)}"] if low is not None else []
        bounds += [f"{name} <= {column.duck_literal(high)}"] if high is not None else []
        parts.append(f"({' AND '.join(bounds)})")
    parts += [f"{name} IS NULL"] if condition.null else []
    parts += [f"({name} IS NOT NULL AND isnan({name}))"] if condition.nan and column.kind.is_float else []
    return f"coalesce({' OR '.join(parts) or 'false'}, false)"


def spark_sql(predicate: Predicate, columns: Sequence[PredicateColumn]) -> str:
    """The predicate in Spark SQL, to stand after WHERE: rows of which it is false may be NULL there."""
    boxes = [[_spark_condition(condition, columns[condition.column]) for condition in box] for box in predicate]
    if len(boxes) == 1 and len(boxes[0]) == 1:
        return boxes[0][0][0]
    several = len(boxes) > 1
    texts = [" AND ".join(f"({text})" if loose else text for text, loose in box) for box in boxes]
    return " OR ".join(
        f"({text})" if several and len(box) > 1 else text for text, box in zip(texts, boxes, strict=True)
    )


def _spark_condition(condition: Condition, column: PredicateColumn) -> tuple[str, bool]:
    """The condition, and whether it needs parentheses inside a conjunction."""
    points = [low for low, high in condition.ranges if low is not None and low == high]
    intervals = [(low, high) for low, high in condition.ranges if low is None or low != high]
    parts = [f"{column.name} IS NULL"] if condition.null else []
    parts += [_spark_points(points, column)] if points else []
    for low, high in intervals:
        text = _spark_interval(low, high, column, nan=condition.nan)
        is_alone = len(parts) + len(intervals) + condition.nan == 1
        parts.append(f"({text})" if column.kind.is_float and high is None and not is_alone else text)
    if condition.nan and (None, None) not in intervals:
        parts.append(f"isnan({column.name})")
    return " OR ".join(parts) or "false", len(parts) > 1


def _spark_points(points: Sequence[Any], column: PredicateColumn) -> str:
    if column.kind is Kind.BOOLEAN and len(points) == 1:
        return column.name if points[0] else f"NOT {column.name}"
    name, listed = _operand(points, column), [column.spark_literal(point) for point in points]
    return f"{name} = {listed[0]}" if len(listed) == 1 else f"{name} IN ({', '.join(listed)})"


def _spark_interval(low: Any, high: Any, column: PredicateColumn, *, nan: bool) -> str:
    """An interval of values. Engines lose NaN above a bound to statistics, so it is let in, or kept out, by name."""
    name = _operand((low, high), column)
    if low is not None and high is not None:
        return f"{name} BETWEEN {column.spark_literal(low)} AND {column.spark_literal(high)}"
    if low is None and high is None:
        without = f" AND NOT isnan({column.name})" if column.kind.is_float and not nan else ""
        return f"{column.name} IS NOT NULL{without}"
    if high is not None:
        return f"{name} <= {column.spark_literal(high)}"
    above = f"{name} >= {column.spark_literal(low)}"
    return f"{above} AND NOT isnan({column.name})" if column.kind.is_float else above


def _operand(values: Sequence[Any], column: PredicateColumn) -> str:
    """The column, with 0 added where it is compared with 0: engines lose a negative zero to statistics otherwise."""
    if column.kind.is_float and 0.0 in values:
        return f"{column.name} + CAST(0 AS {'DOUBLE' if column.kind is Kind.REAL else 'FLOAT'})"
    return column.name
