"""Metadata on its way into a stored table and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.lake import harvest as harvests
from r2d2.lake.discovery import discover
from r2d2.lake.harvest import HARVESTS, found_to_json, harvest_batches, harvest_from_row, harvest_rows, harvest_table
from r2d2.lake.text.table import TextOptions
from r2d2.model import Claim, FileStamp, FoundTable, Fragment, Harvest, Status, leaf_key, schema_to_bytes

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
COUNTS = st.integers(-(2**63), 2**63 - 1)
MAPPINGS = st.dictionaries(TEXTS, TEXTS, max_size=2)
LEAVES = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
STAMPS = st.builds(FileStamp, uri=TEXTS, size=COUNTS, token=TEXTS)
FRAGMENTS = st.builds(
    Fragment,
    stamp=STAMPS,
    data_uri=TEXTS,
    rows=st.none() | COUNTS,
    partition=st.dictionaries(TEXTS, st.none() | TEXTS, max_size=2),
    deletes=TEXTS,
)
CLAIMS = st.builds(
    Claim,
    fragment=st.integers(0, 9),
    leaf=LEAVES,
    source=TEXTS,
    writer=TEXTS,
    type=TEXTS,
    nulls=st.none() | COUNTS,
    low=st.none() | st.binary(max_size=4),
    high=st.none() | st.binary(max_size=4),
    nans=st.none() | COUNTS,
    low_exact=st.booleans(),
    high_exact=st.booleans(),
)
SCHEMAS = st.lists(st.tuples(TEXTS, st.sampled_from([pa.int64(), pa.list_(pa.string())])), max_size=3).map(pa.schema)
HARVEST_VALUES = st.builds(
    Harvest,
    schema=SCHEMAS,
    version=TEXTS,
    fragments=st.lists(FRAGMENTS, max_size=3).map(tuple),
    claims=st.lists(CLAIMS, max_size=4).map(tuple),
    table_bytes=COUNTS,
    history_bytes=COUNTS,
    reader=TEXTS,
    reader_reason=st.none() | TEXTS,
    spark_only_reason=st.none() | TEXTS,
    no_parent_reason=st.none() | TEXTS,
    view_options=MAPPINGS,
    stored_as=st.dictionaries(LEAVES, TEXTS, max_size=2),
    created_ms=st.none() | COUNTS,
    written_ms=st.none() | COUNTS,
    properties=MAPPINGS,
    bytes_read=COUNTS,
)
OPTIONS = TextOptions(csv_delimiter=",", csv_types="auto")


def row_of(table: int, harvest: Harvest) -> dict[str, Any]:
    """What is stored of a table, value by value."""
    told = {name: value for name, value in vars(harvest).items() if name in HARVESTS.names}
    return {
        **told,
        "table": table,
        "status": Status.OK.value,
        "error": None,
        "message": None,
        "schema": schema_to_bytes(harvest.schema),
        "view_options": json.dumps(harvest.view_options),
        "stored_as": json.dumps({leaf_key(path): name for path, name in harvest.stored_as.items()}),
        "properties": json.dumps(harvest.properties),
        "fragments": [{**vars(f), **vars(f.stamp), "partition": json.dumps(f.partition)} for f in harvest.fragments],
        "claims": [{**vars(claim), "leaf": leaf_key(claim.leaf)} for claim in harvest.claims],
    }


@given(found=st.lists(HARVEST_VALUES, min_size=1, max_size=4))
def test_rows_made_together_are_those_made_one_by_one_and_come_back(found: list[Harvest]) -> None:
    numbered = [(7 * n, harvest) for n, harvest in enumerate(found)]
    rows = harvest_rows(numbered)
    assert rows.equals(pa.RecordBatch.from_pylist([row_of(*one) for one in numbered], schema=HARVESTS))
    assert [harvest_from_row(row) for row in rows.to_pylist()] == found


@pytest.mark.parametrize("most", [1, harvests._BATCH_ELEMENTS])
@pytest.mark.parametrize(
    ("change", "error"),
    [({"table_bytes": 1 << 70}, "OverflowError"), ({"version": "\ud800"}, "UnicodeEncodeError")],
)
def test_a_table_that_cannot_be_stored_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], error: str, most: int
) -> None:
    for name in ("a", "b", "c"):
        pq.write_table(pa.table({name: [1]}), tmp_path / f"{name}.parquet")
    (tmp_path / "d.parquet").write_bytes(b"nothing")
    tables = discover(str(tmp_path)).tables

    def changed(found: FoundTable, options: TextOptions, text_folder: str) -> Harvest:
        harvest = harvest_table(found, options, text_folder)
        return harvest if found.id != "b.parquet" else Harvest(**{**vars(harvest), **change})

    monkeypatch.setattr(harvests, "harvest_table", changed)
    monkeypatch.setattr(harvests, "_BATCH_ELEMENTS", most)
    batches = harvest_batches(map(found_to_json, tables), OPTIONS, str(tmp_path / "text"))
    rows = {row["table"]: row for batch in batches for row in batch.to_pylist()}
    assert [(rows[n]["status"], rows[n]["error"]) for n in range(4)] == [
        ("ok", None),
        ("failed", error),
        ("ok", None),
        ("failed", "NotParquet"),
    ]
    assert rows[1]["message"] == f"the table's metadata could not be read ({error})"
    assert harvest_from_row(rows[2]) == harvest_table(tables[2], OPTIONS, "")
