"""Stage *harvest*: one job reads the metadata of all tables and converts text files; its rows are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from r2d2.config import AuditConfig
from r2d2.errors import NotOneTable, TableFailed, TableFault, TableUnsupported
from r2d2.lake.discovery import numbered, split_into_files
from r2d2.lake.harvest import HARVESTS, found_to_json, harvest_batches, harvest_from_row
from r2d2.lake.inventory import Inventory
from r2d2.lake.text import TextOptions
from r2d2.model import FoundTable, Harvest, Status, spark_ddl
from r2d2.scan.plan import deal
from r2d2.session import engine_errors

if TYPE_CHECKING:
    from r2d2.session import Engine
    from r2d2.store.stages import StageStore

STAGE = "harvest"
_NOT_ONE_TABLE = NotOneTable().error


def run_harvest(engine: Engine, store: StageStore, config: AuditConfig, found: Sequence[FoundTable]) -> Inventory:
    """Harvest all tables that the listing could name.

    A folder whose files turn out not to be one table is replaced by its files, which a second job harvests.

    Returns:
        The inventory; tables with a fault in the listing or in their metadata are among its failures.
    """
    rows = _harvest(engine, store, config, [table for table in found if table.fault is None], "tables")
    folders = [table for table in found if table.id in rows and rows[table.id]["error"] == _NOT_ONE_TABLE]
    if folders:
        files = [file for folder in folders for file in split_into_files(folder)]
        new = {file.id for file in files}
        found = numbered([*(table for table in found if table not in folders), *files])
        rows |= _harvest(engine, store, config, [table for table in found if table.id in new], "files")
    store.commit(STAGE, {"tables": len(found)})
    return _inventory(found, rows, config.reader)


def _harvest(
    engine: Engine, store: StageStore, config: AuditConfig, work: Sequence[FoundTable], name: str
) -> dict[str, dict[str, Any]]:
    """Rows of HARVESTS by table id, from one job."""
    if not work:
        return {}
    dealt = deal([_work(table) for table in work], 4 * engine.parallelism)
    bins = [[found_to_json(work[position]) for position in positions] for positions in dealt]
    options = TextOptions(csv_delimiter=config.csv_delimiter, csv_types=config.csv_types)
    kernel = _harvester(options, store.folder(STAGE, f"{name}-text"))
    with engine_errors():
        frame = engine.spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
        store.write_frame(STAGE, name, frame.repartition(len(bins)).mapInArrow(kernel, spark_ddl(HARVESTS)))
    ids = {table.table: table.id for table in work}
    return {ids[row["table"]]: row for row in store.read_table(STAGE, name, HARVESTS).to_pylist()}


def _inventory(found: Sequence[FoundTable], rows: Mapping[str, dict[str, Any]], reader: str) -> Inventory:
    inventory = Inventory(found=tuple(found))
    harvests: dict[int, Harvest] = {}
    for table in found:
        row = rows.get(table.id)
        try:
            if table.fault is not None:
                raise _fault(table.fault_status, table.fault, "Listing")
            if row is None:
                raise TableFailed("the harvest returned nothing for it", error="Lost")
            if row["status"] != Status.OK.value:
                raise _fault(Status(row["status"]), row["message"], row["error"])
            harvests[table.table] = with_reader(harvest_from_row(row), reader)
        except TableFault as fault:
            inventory.fail(table.table, "discovery" if table.fault else STAGE, fault)
    inventory.harvests = harvests
    return inventory


def _fault(status: Status, message: str, error: str) -> TableFault:
    kind = TableUnsupported if status is Status.UNSUPPORTED else TableFailed
    return kind(message, error=error)


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


def _work(table: FoundTable) -> int:
    is_text = table.format.value in ("csv", "tsv", "json")
    return 1 + len(table.files) + (sum(file.size for file in table.files) >> 14 if is_text else 0)


def _harvester(options: TextOptions, folder: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def harvest(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for texts in batch.column(0).to_pylist():
                yield from harvest_batches(texts, options, folder)

    return harvest
