"""Values of one type, whatever file and column they come from: digested, and observed, in one query each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from r2d2.scan.combine import Lanes
from r2d2.scan.observe import Observation, Observer
from r2d2.scan.rowhash import Column, RowHasher

VALUE = "v"
"""What a value is called in the queries."""


def digest_arrays(
    connection: duckdb.DuckDBPyConnection, hasher: RowHasher, dtype: pa.DataType, arrays: Sequence[pa.Array]
) -> Iterator[Lanes]:
    """Digests of some arrays of one type, in their order.

    Args:
        connection: With nothing under way.
        hasher: Row identity.
        dtype: What decides the type class: that of INT96 is not the arrays' own.
        arrays: The values.
    """
    values = pa.concat_arrays(list(arrays))
    connection.register("typed_values", pa.table({"i": np.arange(len(values)), VALUE: values}))
    types = connection.sql(f"SELECT {VALUE} FROM typed_values").types
    digest = hasher.value(Column(sql=VALUE, duckdb_type=types[0], type=dtype))
    lanes = _ordered(connection, f"SELECT i, {digest.first} AS a, {digest.second} AS b FROM typed_values")
    connection.unregister("typed_values")
    start = 0
    for array in arrays:
        yield lanes[0][start : start + len(array)], lanes[1][start : start + len(array)]
        start += len(array)


def _ordered(connection: duckdb.DuckDBPyConnection, sql: str) -> Lanes:
    """The columns a and b of a query in the order of its column i, which numbers the rows."""
    found = connection.sql(sql).to_arrow_table()
    places = np.asarray(found["i"])
    lanes = [np.asarray(found[name]) for name in ("a", "b")]
    if len(places) and (np.diff(places) != 1).any():
        for index, words in enumerate(lanes):
            lanes[index] = np.empty_like(words)
            lanes[index][places] = words
    return lanes[0], lanes[1]


def observe_arrays(
    connection: duckdb.DuckDBPyConnection, observer: Observer, arrays: Sequence[pa.Array]
) -> Iterator[Observation]:
    """What is seen in some arrays of one type, in their order.

    Args:
        connection: With nothing under way.
        observer: Of any one of them; its value is called VALUE.
        arrays: The values.
    """
    numbers = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
    connection.register("typed_values", pa.table({"s": numbers, VALUE: pa.concat_arrays(list(arrays))}))
    aggregates = ", ".join(observer.aggregates(VALUE))
    sql = f"SELECT s, {aggregates} FROM (SELECT s, {observer.value} AS {VALUE} FROM typed_values) GROUP BY s"
    found: Mapping[int, tuple[Any, ...]] = {row[0]: row[1:] for row in connection.sql(sql).fetchall()}
    connection.unregister("typed_values")
    for number in range(len(arrays)):
        low, high, values, nans = found.get(number, (None, None, 0, 0))
        yield Observation(low=low, high=high, values=values, nans=nans)
