"""Stage *harvest*: one job reads the metadata of all tables and converts text files; its rows are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.errors import NotOneTable
from r2d2.lake.discovery import numbered, split_into_files
from r2d2.lake.harvest import HARVESTS, found_to_json, harvest_batches
from r2d2.lake.inventory import HARVEST, write_found
from r2d2.lake.text.table import TextOptions
from r2d2.model import FoundTable
from r2d2.scan.plan import deal
from r2d2.session import engine_errors
from r2d2.store.stages import TEXT_SUFFIX
from r2d2.workers import map_batches

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

_NOT_ONE_TABLE = NotOneTable().error
_OUTCOME = pa.schema([HARVESTS.field(name) for name in ("table", "error", "bytes_read")])


def run_harvest(run: StageRun, found: Sequence[FoundTable]) -> dict[str, int]:
    """Harvest and store the metadata of all tables that the listing could name.

    A folder whose files turn out not to be one table is replaced by its files, which a second job harvests. Tables with
    a fault in the listing or in their metadata are among the failures of the stored inventory.

    Returns:
        Tables, and bytes that were read.
    """
    tables = _harvest(run, [table for table in found if table.fault is None], "tables")
    folders = [table for table in found if tables.get(table.id, {}).get("error") == _NOT_ONE_TABLE]
    places = {name: ("tables", row["table"]) for name, row in tables.items()}
    files: dict[str, dict[str, Any]] = {}
    if folders:
        split = [file for folder in folders for file in split_into_files(folder)]
        found = numbered([*(table for table in found if table not in folders), *split])
        new = {file.id for file in split}
        files = _harvest(run, [table for table in found if table.id in new], "files")
        places |= {name: ("files", row["table"]) for name, row in files.items()}
    write_found(run.store, found, places)
    bytes_read = sum(row["bytes_read"] or 0 for row in (*tables.values(), *files.values()))
    counts = {"tables": len(found), "bytes_read": bytes_read}
    run.store.commit(HARVEST, counts)
    return counts


def _harvest(run: StageRun, work: Sequence[FoundTable], name: str) -> dict[str, dict[str, Any]]:
    """Rows of HARVESTS by table id, stored under a name by one job."""
    if not work:
        return {}
    dealt = deal([_work(table) for table in work], run.kernels.tasks)
    bins = [[found_to_json(work[position]) for position in positions] for positions in dealt]
    options = TextOptions(csv_delimiter=run.config.csv_delimiter, csv_types=run.config.csv_types)
    kernel = _harvester(options, run.store.folder(HARVEST, f"{name}{TEXT_SUFFIX}"))
    with engine_errors():
        frame = run.engine.spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
        run.store.write_frame(HARVEST, name, map_batches(frame.repartition(len(bins)), kernel, HARVESTS))
    ids = {table.table: table.id for table in work}
    narrow = run.store.read_table(HARVEST, name, _OUTCOME).to_pylist()
    return {ids[row["table"]]: row for row in narrow}


def _work(table: FoundTable) -> int:
    is_text = table.format.value in ("csv", "tsv", "json")
    return 1 + len(table.files) + (sum(file.size for file in table.files) >> 14 if is_text else 0)


def _harvester(options: TextOptions, folder: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def harvest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for texts in batch.column(0).to_pylist():
                yield from harvest_batches(texts, options, folder)

    return harvest
