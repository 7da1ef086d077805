"""What every stage is given: the stored tables, the engine and the configuration of one audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.config import AuditConfig
from r2d2.errors import EngineError, TableFault, TableUnsupported
from r2d2.lake.delta.table import PADDED
from r2d2.lake.inventory import Inventory, read_inventory, write_failures
from r2d2.scan.engine_reader import engine_frame
from r2d2.scan.job import FrameOf, Kernels
from r2d2.session import engine_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from r2d2.session import Engine
    from r2d2.store.stages import StageStore

_PROBE = "probe"


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One audit as its stages see it: they meet in `store` alone."""

    config: AuditConfig
    engine: Engine
    store: StageStore
    kernels: Kernels

    @property
    def utc(self) -> bool:
        """Whether dates, zone-less timestamps and instants are read on one clock."""
        return self.config.timestamps == "utc"

    @cached_property
    def inventory(self) -> Inventory:
        """The tables of the audit, once the harvest has stored them."""
        return read_inventory(self.store, self.config.reader)

    def fail(self, stage: str, faults: Mapping[int, TableFault]) -> None:
        """Take tables out of the audit, and store why."""
        for table, fault in faults.items():
            self.inventory.fail(table, stage, fault)
        write_failures(self.store, stage, self.inventory)

    def check_engine_reader(self) -> None:
        """Make sure that the engine's reader returns what a file holds, where some table needs it.

        Sail with its default settings takes a column whose footer says minimum = maximum for that one value, though
        NaN is neither.

        Raises:
            EngineError: If it returns anything else.
        """
        if any(harvest.reader == "engine" for _, harvest in self.inventory.active()):
            probe = pa.table({"x": [1.0, math.nan, 1.0]})
            self.store.write_table(_PROBE, "values", probe)
            with engine_errors():
                seen = self.store.read_frame(_PROBE, "values", probe.schema).toArrow()
            if pc.sum(pc.is_nan(seen["x"])).as_py() != 1:
                raise EngineError(
                    f"{self.engine.name} takes statistics for values: NaN beside one other number is lost. "
                    "Start the Sail server with SAIL_EXECUTION__COLLECT_STATISTICS=false, or use --reader files"
                )

    def engine_frames(self, spark: SparkSession) -> FrameOf:
        """Rows of tables through the engine's reader, in one session."""

        def frame_of(table: int) -> DataFrame:
            found, harvest = self.inventory.found[table], self.inventory.harvests[table]
            if harvest.spark_only_reason and not self.engine.is_spark:
                raise TableUnsupported(f"Sail's reader cannot read it: {harvest.spark_only_reason}", error="Sail")
            if harvest.no_parent_reason == PADDED:
                raise TableUnsupported(f"the engine's reader cannot read it: {PADDED}", error="Char")
            return engine_frame(spark, harvest, found.format, found.uri)

        return frame_of
