"""Audits with `--near` and with `--ignore-columns`, over lakes with planted near-duplicates."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r2d2.errors import UsageError
from r2d2.session import Engine
from r2d2.store.results import read_results
from tests.integration.audit_helpers import run_audit

KEYS = (0x1234, 0x5678)
ROWS = 3000
DAY = datetime.date(2024, 1, 1)
NOON = datetime.datetime.fromisoformat("2024-01-01T12:00:00")

OTHER_VALUES: dict[str, list[Any]] = {
    "amount": [decimal.Decimal(1_000_000 + i) / 100 for i in range(ROWS)],
    "day": [DAY - datetime.timedelta(days=1 + i) for i in range(ROWS)],
    "flag": [i % 2 == 1 for i in range(ROWS)],
    "load_ts": [NOON - datetime.timedelta(days=1)] * ROWS,
    "number": [-1 - i for i in range(ROWS)],
    "raw": [b"x%d" % i for i in range(ROWS)],
    "real": [-0.5 - i for i in range(ROWS)],
    "tags": [["y", str(i)] for i in range(ROWS)],
    "text": [f"other {i}" for i in range(ROWS)],
}
"""By column of the typed tables: values none of which the base has in that row."""


def typed_table(**changed: Any) -> pa.Table:
    columns = {
        "amount": [decimal.Decimal(i) / 100 for i in range(ROWS)],
        "day": [DAY + datetime.timedelta(days=i) for i in range(ROWS)],
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "load_ts": [NOON] * ROWS,
        "number": list(range(ROWS)),
        "raw": [b"%d" % i for i in range(ROWS)],
        "real": [i + 0.5 for i in range(ROWS)],
        "tags": [["x", str(i)] for i in range(ROWS)],
        "text": [f"text {i}" for i in range(ROWS)],
    }
    place = [{"u": i, "v": str(i)} for i in range(ROWS)]
    return pa.table({"key": list(range(ROWS)), **columns, "place": place} | changed)


FRACTIONS = {"f500": 0.5, "f850": 0.85, "f900": 0.9, "f990": 0.99, "f999": 0.999}


def sale_table(first: int, count: int) -> pa.Table:
    numbers = np.arange(first, first + count)
    return pa.table({"sale": numbers, "shop": numbers % 17, "price": numbers * 0.25})


def write(lake: Path, tables: dict[str, pa.Table]) -> Path:
    lake.mkdir()
    for name, table in tables.items():
        pq.write_table(table, lake / f"{name}.parquet", row_group_size=1000)
    return lake


def planted(tmp_path: Path) -> Path:
    """Tables that differ from a base in one column each, and tables that hold a part of another base."""
    tables = {"typed": typed_table()}
    tables |= {f"typed-{name}": typed_table(**{name: values}) for name, values in OTHER_VALUES.items()}
    tables["typed-place"] = typed_table(place=[{"u": i, "v": f"other {i}"} for i in range(ROWS)])
    tables["sales"] = sale_table(0, 2 * ROWS)
    for number, (name, share) in enumerate(FRACTIONS.items()):
        kept = round(share * ROWS)
        other = sale_table(100_000 * (number + 1), ROWS - kept)
        tables[f"sales-{name}"] = pa.concat_tables([sale_table(number * 100, kept), other])
    return write(tmp_path / "lake", tables)


def near_of(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    tables, _ = read_results(str(out))
    rows = tables["near"].to_pylist()
    return {(row["child"].removesuffix(".parquet"), row["parent"].removesuffix(".parquet")): row for row in rows}


SEEN: dict[str, Any] = {}


@pytest.mark.core
def test_planted_near_duplicates_are_found_and_explained(engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_audit(planted(tmp_path), out, spark=engine.spark, near=0.8, lane_keys=KEYS, no_unions=True)
    near = near_of(out)
    for name in (*OTHER_VALUES, "place.v"):
        for ends in ((f"typed-{name.split('.')[0]}", "typed"), ("typed", f"typed-{name.split('.')[0]}")):
            row = near[ends]
            assert (row["differing_columns"], row["difference"], row["estimate"]) == ([name], "column", 1.0), ends
            assert row["suggestion"] == f"--ignore-columns {name}"
            assert name not in row["columns"]
    two = near["typed-day", "typed-text"]
    assert (two["differing_columns"], two["difference"]) == (["day", "text"], "columns")
    assert ("sales-f500", "sales") not in near, "below the threshold"
    misses = 0
    for name, share in FRACTIONS.items():
        if share > 0.8:
            row, missing = near[f"sales-{name}", "sales"], ROWS - round(share * ROWS)
            assert row["estimate"] == pytest.approx(share, abs=0.02)
            assert (row["difference"], row["suggestion"]) == ("rows", "")
            misses += not row["low"] <= share <= row["high"]
            misses += not row["rows_only_in_child_low"] <= missing <= row["rows_only_in_child_high"]
    assert misses <= 1, "intervals of 95 % miss one of eight at most, with these keys"
    page = (out / "report.html").read_text()
    assert "Near-duplicates" in page
    assert "--ignore-columns amount" in page
    SEEN.setdefault("near", near)
    assert near == SEEN["near"], "all engines tell the same"


@pytest.mark.slow
def test_both_readers_tell_the_same(engine: Engine, tmp_path: Path) -> None:
    lake = planted(tmp_path)
    for reader in ("files", "engine"):
        run_audit(lake, tmp_path / reader, spark=engine.spark, near=0.8, lane_keys=KEYS, no_unions=True, reader=reader)
    assert near_of(tmp_path / "files") == near_of(tmp_path / "engine")


def loads(tmp_path: Path) -> Path:
    """Two loads of one table, a part of one, and a part without the load's timestamp."""

    def load(hour: int, count: int) -> pa.Table:
        rows = sale_table(0, count)
        meta = pa.array([{"load_ts": NOON + datetime.timedelta(hours=hour), "source": "x"}] * count)
        return rows.append_column("Meta", meta)

    tables = {"first": load(0, 300), "second": load(1, 300), "part": load(2, 100), "plain": sale_table(0, 50)}
    return write(tmp_path / "lake", tables)


def test_ignored_columns_find_the_containment_and_nothing_is_proposed_from_it(engine: Engine, tmp_path: Path) -> None:
    lake = loads(tmp_path)
    plain = run_audit(lake, tmp_path / "plain", spark=engine.spark)
    only = {(e["child"], e["parent"]) for e in plain.edges}
    assert only == {("plain.parquet", f"{name}.parquet") for name in ("first", "second", "part")}
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, ignore_columns=("meta.LOAD_TS",))
    relations = {(e["child"].split(".")[0], e["parent"].split(".")[0]): e["relation"] for e in found.edges}
    assert relations["first", "second"] == relations["second", "first"] == "equal"
    assert relations["part", "first"] == relations["part", "second"] == "contained"
    assert all("Meta.load_ts" not in edge["columns"] for edge in found.edges)
    assert {proposal["table"] for proposal in found.proposals} == {"plain.parquet"}, "it has no ignored column"
    tables, _ = read_results(str(tmp_path / "out"))
    reasons = {row["table"]: row["reason"] for row in tables["decisions"].to_pylist() if row["decision"] == "retain"}
    for name in ("first", "second", "part"):
        assert "ignores its column Meta.load_ts" in reasons[f"{name}.parquet"]
    recipes = {row["child"] for row in tables["recipes"].to_pylist()}
    assert recipes <= {"plain.parquet"}
    (first,) = [row for row in tables["tables"].to_pylist() if row["table"] == "first.parquet"]
    assert "load_ts" in first["columns"][-1]["type"], "tables are told with all their columns"


def test_a_narrower_table_is_not_called_equal_because_a_column_is_ignored(engine: Engine, tmp_path: Path) -> None:
    wide = sale_table(0, 100).append_column("load_ts", pa.array([NOON] * 100))
    lake = write(tmp_path / "lake", {"narrow": sale_table(0, 100), "wide": wide})
    found = run_audit(lake, tmp_path / "out", spark=engine.spark, ignore_columns=("load_ts",), no_unions=True)
    relations = {(e["child"].split(".")[0], e["parent"].split(".")[0]): e["relation"] for e in found.edges}
    assert relations == {("narrow", "wide"): "contained", ("wide", "narrow"): "contained"}
    assert [(p["table"], p["recipe_kind"]) for p in found.proposals] == [("narrow.parquet", "projection")]


def test_an_unknown_column_is_a_usage_error(engine: Engine, tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", {"one": sale_table(0, 3)})
    with pytest.raises(UsageError, match="no table of the lake has a column 'load_ts'"):
        run_audit(lake, tmp_path / "out", spark=engine.spark, ignore_columns=("load_ts",))
