"""What the tests of unions and of older versions share: audits as rows, and recipes run in a session of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from r2d2.config import AuditConfig
from r2d2.pipeline import audit
from r2d2.session import Engine
from r2d2.store.results import read_results

Rows = list[dict[str, Any]]


def audited(engine: Engine, lake: Path, out: Path, **options: Any) -> dict[str, Rows]:
    """Audit a lake; all result tables by name, as rows."""
    audit(AuditConfig(lake=str(lake), out=str(out), **options), spark=engine.spark)
    tables, _ = read_results(str(out))
    return {name: table.to_pylist() for name, table in tables.items()}


def assert_comes_back(engine: Engine, recipe: dict[str, Any], table: pa.Table) -> None:
    """Run a recipe in a plain session, and compare names, order and rows with the table."""
    with engine.scratch_session() as spark:
        for statement in recipe["setup_sql"]:
            spark.sql(statement)
        rebuilt = spark.sql(recipe["recipe_sql"]).toArrow()
    assert rebuilt.column_names == table.column_names
    assert bag(rebuilt) == bag(table), recipe["child"]


def bag(table: pa.Table) -> Counter[tuple[str, ...]]:
    """Rows with their numbers."""
    return Counter(tuple(map(repr, row.values())) for row in table.to_pylist())
