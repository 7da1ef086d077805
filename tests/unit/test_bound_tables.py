"""Which tables stay because of where files lie, and because their owner says so."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from r2d2.lake.inventory import Inventory
from r2d2.model import FileStamp, Format, FoundTable, Fragment, Harvest
from r2d2.planning import bound_tables, table_facts


def table_of(number: int, uri: str, file: str) -> tuple[FoundTable, Harvest]:
    found = FoundTable(table=number, id=uri.rsplit("/", 1)[-1], format=Format.DELTA, uri=uri)
    fragment = Fragment(stamp=FileStamp(uri=file, size=1, token=""), data_uri=file, rows=1)
    return found, Harvest(schema=pa.schema([("a", pa.int64())]), version="0", fragments=(fragment,))


@pytest.mark.parametrize(("lake", "log"), [("s3a", "s3"), ("s3", "s3"), ("abfs", "abfss"), ("gcs", "gs"), ("S3", "s3")])
def test_the_source_of_a_clone_stays_whatever_its_store_is_called(lake: str, log: str) -> None:
    tables = [
        table_of(0, f"{lake}://b/lake/clone", f"{log}://b/lake/source/f.parquet"),
        table_of(1, f"{lake}://b/lake/source", f"{lake}://b/lake/source/f.parquet"),
        table_of(2, f"{lake}://b/lake/third", f"{lake}://b/lake/third/f.parquet"),
    ]
    inventory = Inventory(
        found=tuple(found for found, _ in tables), harvests={found.table: harvest for found, harvest in tables}
    )
    assert bound_tables(inventory).keys() == {0, 1}
    assert [fact.shared_bytes for fact in table_facts(inventory, {}, {}, {})] == [1, 0, 0]


@pytest.mark.parametrize(
    ("said", "keep"),
    [
        ("true", True),
        (" TRUE", True),
        ("on", True),
        ("legal hold", True),
        ("false", False),
        ("0", False),
        (None, False),
    ],
)
def test_what_may_mean_that_an_owner_wants_a_table_keeps_it(said: str | None, keep: bool) -> None:
    found, harvest = table_of(0, "/lake/t", "/lake/t/f.parquet")
    harvest = replace(harvest, properties={} if said is None else {"r2d2.keep": said})
    (fact,) = table_facts(Inventory(found=(found,), harvests={0: harvest}), {}, {}, {})
    assert fact.properties.keep == keep
