"""Parts of recipes that engines would read differently if they were written otherwise."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.model import Format, FoundTable, Harvest
from r2d2.recipes.sql import collapses, distinct_rows, no_parent_reason, no_recipe_reason, view_statement
from r2d2.recipes.text import quote_text
from r2d2.session import Engine

TEXTS = ["${env:HOME}", "${spark.app.name}", "a${}${nosuch}b", "\\${x}", "$", "${", "it's $\\{x}"]


@pytest.mark.core
def test_texts_with_variables_are_taken_literally(engine: Engine) -> None:
    listed = ", ".join(f"{quote_text(text)} AS c{number}" for number, text in enumerate(TEXTS))
    with engine.scratch_session() as spark:
        assert list(spark.sql(f"SELECT {listed}").first() or ()) == TEXTS


@pytest.mark.core
def test_rows_that_differ_in_the_sign_of_nan_are_one(engine: Engine, tmp_path: Path) -> None:
    if not engine.workers_share_files:
        pytest.skip("the engine does not see local files")
    negative = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0]
    table = pa.table({"id": [1, 1, 2, 2, 3], "d": [0.0, -0.0, float("nan"), negative, None]})
    pq.write_table(table, tmp_path / "t.parquet")
    with engine.scratch_session() as spark:
        columns = " (`id` BIGINT, `d` DOUBLE)"
        spark.sql(view_statement("t", columns, "parquet", {"path": str(tmp_path / "t.parquet")}))
        found = spark.sql(distinct_rows(table.schema, "SELECT `id`, `d` FROM `t`")).collect()
    assert sorted((row.id, str(row.d)) for row in found) == [(1, "0.0"), (2, "nan"), (3, "None")]


def test_types_in_which_engines_disagree_are_not_collapsed() -> None:
    assert collapses(pa.schema([("a", pa.float32()), ("b", pa.list_(pa.string()))]))
    assert not collapses(pa.schema([("a", pa.list_(pa.float64()))]))
    assert not collapses(pa.schema([("a", pa.map_(pa.string(), pa.string()))]))


@pytest.mark.parametrize(
    "dtype", [pa.int64(), pa.struct([("${x}", pa.int64())]), pa.list_(pa.struct([("${x}", pa.int8())]))]
)
def test_names_with_variables_have_no_recipe(dtype: pa.DataType) -> None:
    found = FoundTable(table=0, id="t", format=Format.PARQUET, uri="/lake/t")
    name = "${x}" if dtype == pa.int64() else "x"
    reason = no_recipe_reason(found, Harvest(schema=pa.schema([(name, dtype)]), version="", fragments=()))
    assert "variable" in str(reason)


def test_a_name_with_a_variable_makes_no_parent() -> None:
    found = FoundTable(table=0, id="${x}", format=Format.PARQUET, uri="/lake/t")
    harvest = Harvest(schema=pa.schema([("a", pa.int64())]), version="", fragments=())
    assert "variable" in str(no_parent_reason(found, harvest))
    assert no_recipe_reason(found, harvest) is None
