"""Stage *harvest*: one job reads the metadata of all tables and converts text files; its rows are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.config import AuditConfig
from r2d2.errors import TableFailed, TableFault, TableUnsupported
from r2d2.lake.harvest import HARVESTS, found_to_json, harvest_batches, harvest_from_row
from r2d2.lake.inventory import Inventory
from r2d2.lake.text import TextOptions
from r2d2.model import FoundTable, Harvest, Status, spark_ddl
from r2d2.scan.plan import deal

if TYPE_CHECKING:
    from r2d2.session import Engine
    from r2d2.store.stages import StageStore

STAGE = "harvest"


def run_harvest(engine: Engine, store: StageStore, config: AuditConfig, found: Sequence[FoundTable]) -> Inventory:
    """Harvest all tables that the listing could name.

    Returns:
        The inventory; tables with a fault in the listing or in their metadata are among its failures.
    """
    inventory = Inventory(found=tuple(found))
    for table in found:
        if table.fault is not None:
            kind = TableUnsupported if table.fault_status is Status.UNSUPPORTED else TableFailed
            inventory.fail(table.table, "discovery", kind(table.fault, error="Listing"))
    work = [table for table in found if table.fault is None]
    rows = HARVESTS.empty_table()
    if work:
        _store_harvest(engine, store, config, work)
        rows = store.read_table(STAGE, "tables", HARVESTS)
    store.commit(STAGE, {"tables": len(found)})
    harvests: dict[int, Harvest] = {}
    for row in rows.to_pylist():
        if row["status"] == Status.OK.value:
            harvests[row["table"]] = harvest_from_row(row)
        else:
            kind = TableUnsupported if row["status"] == Status.UNSUPPORTED.value else TableFailed
            inventory.fail(row["table"], STAGE, kind(row["message"], error=row["error"]))
    for number, harvest in harvests.items():
        try:
            harvests[number] = with_reader(harvest, config.reader)
        except TableFault as fault:
            inventory.fail(number, STAGE, fault)
    inventory.harvests = harvests
    return inventory


def with_reader(harvest: Harvest, reader: str) -> Harvest:
    """The harvest with the reader that the audit asks for.

    Raises:
        TableUnsupported: If the kernel is asked to read what it cannot read faithfully.
    """
    if reader == "engine":
        return dataclasses.replace(harvest, reader="engine")
    if reader == "files" and harvest.reader == "engine":
        raise TableUnsupported(f"the files reader cannot read it: {harvest.reader_reason}", error="Reader")
    return harvest


def _store_harvest(engine: Engine, store: StageStore, config: AuditConfig, work: Sequence[FoundTable]) -> None:
    dealt = deal([_work(table) for table in work], 4 * engine.parallelism)
    bins = [[found_to_json(work[position]) for position in positions] for positions in dealt]
    frame = engine.spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
    options = TextOptions(csv_delimiter=config.csv_delimiter, csv_types=config.csv_types)
    kernel = _harvester(options, store.folder(STAGE, "text"))
    store.write_frame(STAGE, "tables", frame.repartition(len(bins)).mapInArrow(kernel, spark_ddl(HARVESTS)))


def _work(table: FoundTable) -> int:
    is_text = table.format.value in ("csv", "tsv", "json")
    return 1 + len(table.files) + (sum(file.size for file in table.files) >> 14 if is_text else 0)


def _harvester(options: TextOptions, folder: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def harvest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for texts in batch.column(0).to_pylist():
                yield from harvest_batches(texts, options, folder)

    return harvest
