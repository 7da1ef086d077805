"""What every stage is given: the stored tables, the engine and the configuration of one audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.config import AuditConfig
from r2d2.errors import EngineError, TableFault, TableUnsupported
from r2d2.lake.delta.table import PADDED
from r2d2.lake.ignored import ignored_leaves, without_leaves
from r2d2.lake.inventory import Inventory, read_inventory, write_failures
from r2d2.model import Harvest, LeafPath
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
        """The tables of the audit, once the harvest has stored them; without the columns that it ignores."""
        inventory = read_inventory(self.store, self.config.reader)
        whole = {table: inventory.harvests[table] for table in self.ignored}
        self._whole.update(whole)
        inventory.harvests |= {t: without_leaves(harvest, self.ignored[t]) for t, harvest in whole.items()}
        return inventory

    @cached_property
    def _whole(self) -> dict[int, Harvest]:
        """Metadata of the tables that have ignored columns, these included."""
        return {}

    @cached_property
    def ignored(self) -> dict[int, tuple[LeafPath, ...]]:
        """By table, the leaves that the audit leaves out of every comparison.

        Raises:
            UsageError: If no table has a column of that name.
        """
        names, exact = self.config.ignore_columns, self.config.case_sensitive
        leaf_paths = read_inventory(self.store, self.config.reader).leaf_paths() if names else {}
        return ignored_leaves(leaf_paths, names, case_sensitive=exact) if names else {}

    def show_ignored(self) -> None:
        """Give tables their ignored columns back, once all tables are compared: recipes and results name them."""
        for table, harvest in self._whole.items():
            compared = self.inventory.harvests[table]
            self.inventory.harvests[table] = replace(harvest, no_parent_reason=compared.no_parent_reason)

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
            if table not in self._whole:
                return engine_frame(spark, harvest, found.format, found.uri)
            whole = self._whole[table]
            places = [whole.schema.names.index(name) for name in harvest.schema.names]
            frame = engine_frame(spark, whole, found.format, found.uri).select(*[f"c{place}" for place in places])
            return frame.toDF(*[f"c{place}" for place in range(len(places))])

        return frame_of
