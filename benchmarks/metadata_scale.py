"""How the metadata stages scale: schema graph and min-max over the metadata of many tables that do not exist.

    python benchmarks/metadata_scale.py --tables 100000

Makes stored harvests as the harvest stage leaves them: 40 columns a table, 50 schema classes, 20 of which have
thousands of members (daily dumps: a day and an id of their own, other columns with ranges that overlap), one table in a
hundred a copy of the one before it. Prints pairs, seconds and peak memory as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.config import AuditConfig
from r2d2.lake.harvest import harvest_rows
from r2d2.lake.inventory import HARVEST, write_found
from r2d2.lake.run import StageRun
from r2d2.model import Claim, FileStamp, Format, FoundTable, Fragment, Harvest, encode_bound
from r2d2.pipeline import kernels_of
from r2d2.prune.stage import run_minmax, run_schema_graph
from r2d2.session import open_engine
from r2d2.store.stages import StageStore

COLUMNS, CLASSES, LARGE = 40, 50, 20
WRITER = "parquet-mr version 1.17.0"
DAY_US = 86_400_000_000
BATCH = 2_000


def schema_of(number: int) -> pa.Schema:
    """A day, an id, and columns of three types under names of the class."""
    types = (pa.int64(), pa.float64(), pa.string())
    others = [(f"c{number}_{place}", types[place % 3]) for place in range(COLUMNS - 2)]
    return pa.schema([("day", pa.date32()), (f"id_{number}", pa.int64()), *others])


def bounds_of(rng: random.Random, place: int, day: int) -> tuple[int | float | str, int | float | str]:
    """Ends of one column of the dump of one day."""
    if place == 0:
        return day * DAY_US, day * DAY_US
    if place == 1:
        return day * 1_000_000, day * 1_000_000 + 999_999
    low, high = sorted(rng.randint(0, 1000) for _ in range(2))
    kind = (place - 2) % 3
    return (low, high) if kind == 0 else (float(low), float(high)) if kind == 1 else (f"{low:05}", f"{high:05}")


def harvest_of(rng: random.Random, schema: pa.Schema, table: int, day: int) -> Harvest:
    """Metadata of one file of a million rows."""
    stamp = FileStamp(uri=f"/lake/{table}.parquet", size=1 << 20, token="1")
    claims = []
    for place, column in enumerate(schema):
        low, high = bounds_of(rng, place, day)
        claims.append(
            Claim(
                fragment=0,
                leaf=(column.name,),
                source="footer",
                writer=WRITER,
                type=str(column.type),
                nulls=0,
                low=encode_bound(low),
                high=encode_bound(high),
            )
        )
    fragment = Fragment(stamp=stamp, data_uri=stamp.uri, rows=1_000_000)
    return Harvest(schema=schema, version="1", fragments=(fragment,), claims=tuple(claims), table_bytes=1 << 20)


def numbered_harvests(tables: int) -> Iterator[tuple[int, Harvest]]:
    """Tables by number with their metadata."""
    schemas = [schema_of(number) for number in range(CLASSES)]
    harvest = None
    for table in range(tables):
        large = table % 100 < 99
        number = table % LARGE if large else LARGE + table // 100 % (CLASSES - LARGE)
        if harvest is None or table % 100 != 50:
            harvest = harvest_of(random.Random(table), schemas[number], table, table)
        yield table, harvest


def write_harvests(store: StageStore, folder: str, tables: int) -> None:
    """Store the metadata of all tables."""
    Path(folder).mkdir(parents=True)
    harvests, part = numbered_harvests(tables), 0
    while batch := list(islice(harvests, BATCH)):
        pq.write_table(pa.Table.from_batches([harvest_rows(batch)]), f"{folder}/part-{part:05}.parquet")
        part += 1
    found = [
        FoundTable(table=table, id=f"{table:06}.parquet", format=Format.PARQUET, uri=f"/lake/{table}.parquet")
        for table in range(tables)
    ]
    write_found(store, found, {table.id: ("tables", table.table) for table in found})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--tables", type=int, default=100_000)
    parser.add_argument("--engine", default="sail")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        config = AuditConfig(lake="/lake", out=f"{work}/out", engine=options.engine)
        with open_engine(config, None) as engine:
            store = StageStore(engine.spark, f"{work}/stages")
            write_harvests(store, store.folder(HARVEST, "tables"), options.tables)
            run = StageRun(config=config, engine=engine, store=store, kernels=kernels_of(config, engine, store.uri))
            begun = time.monotonic()
            graph = run_schema_graph(run)
            middle = time.monotonic()
            kept = run_minmax(run, "minhash")
            ended = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "tables": options.tables,
        "schema_pairs": graph["pairs"],
        "minmax_pairs": kept["pairs"],
        "schema_graph_seconds": round(middle - begun, 1),
        "minmax_seconds": round(ended - middle, 1),
        "peak_gib": round(peak / (1 << 20), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
