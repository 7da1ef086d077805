"""Stage *MinHash*: samples of rows refute pairs whose child has a sampled row that the parent lacks.

The sample of a table under a column set holds every distinct fingerprint below a threshold that follows from its row
count alone. So a child's fingerprint below both thresholds that is not in the parent's sample is not in the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import Harvest, SchemaGraph
from r2d2.scan.fingerprints import EVERYTHING
from r2d2.scan.job import Comparison, FrameOf, Kernels, compare_tables
from r2d2.scan.plan import Pair, TableScan, column_sets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from r2d2.lake.inventory import Inventory
    from r2d2.store.stages import StageStore

STAGE = "minhash"
SURVIVORS = pa.schema(
    [("child", pa.int32()), ("parent", pa.int32()), ("column_set", pa.int32()), ("sampled", pa.int64())]
)
_UNKNOWN_ROWS = 1 << 20


def run_minhash(
    spark: SparkSession,
    store: StageStore,
    inventory: Inventory,
    graph: SchemaGraph,
    pairs: Sequence[Pair],
    kernels: Kernels,
    engine_frame_of: FrameOf,
    sketch_rows: int,
) -> tuple[list[Pair], Comparison]:
    """The pairs that samples do not refute, sorted and stored; tables that failed on the way leave the inventory."""
    scans = [
        TableScan(
            table=table,
            harvest=inventory.harvests[table],
            column_sets=sets,
            threshold=sample_threshold(inventory.harvests[table], sketch_rows),
        )
        for table, sets in sorted(column_sets(pairs, graph).items())
    ]
    comparison = compare_tables(spark, scans, pairs, kernels, engine_frame_of)
    for table, fault in comparison.faults.items():
        inventory.fail(table, STAGE, fault)
    survivors = sorted(pair for pair, verdict in comparison.verdicts.items() if verdict.missing == 0)
    rows = [
        {
            "child": pair.child,
            "parent": pair.parent,
            "column_set": pair.column_set,
            "sampled": comparison.verdicts[pair].distinct,
        }
        for pair in survivors
    ]
    store.write_table(STAGE, "pairs", pa.Table.from_pylist(rows, schema=SURVIVORS))
    store.commit(STAGE, {"pairs": len(survivors), "bytes_read": comparison.bytes_read})
    return survivors, comparison


def sample_threshold(harvest: Harvest, sketch_rows: int) -> int:
    """The threshold under which a table without repeated rows has about `sketch_rows` fingerprints."""
    rows = _UNKNOWN_ROWS if harvest.rows is None else harvest.rows
    return min(EVERYTHING, EVERYTHING * sketch_rows // max(1, rows))
