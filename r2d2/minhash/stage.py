"""Stage *MinHash*: samples of rows refute pairs whose child has a sampled row that the parent lacks.

The sample of a table under a column set holds every distinct fingerprint below a threshold that follows from its row
count alone. So a child's fingerprint below both thresholds that is not in the parent's sample is not in the parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2d2.model import Harvest
from r2d2.scan.fingerprints import EVERYTHING
from r2d2.scan.job import compare_tables
from r2d2.scan.plan import TableScan, column_sets
from r2d2.scan.stored import read_graph, read_pairs, write_pairs

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

MINHASH = "minhash"
_UNKNOWN_ROWS = 1 << 20


def run_minhash(run: StageRun, graph_stage: str, pairs_stage: str) -> dict[str, int]:
    """Store the pairs of an earlier stage that samples do not refute; tables that fail on the way are stored too.

    Returns:
        The pairs that survive, and bytes that were read.
    """
    graph = read_graph(run.store, graph_stage, case_sensitive=run.config.case_sensitive)
    pairs = read_pairs(run.store, pairs_stage)
    harvests = run.inventory.harvests
    scans = [
        TableScan(
            table=table,
            harvest=harvests[table],
            column_sets=sets,
            threshold=sample_threshold(harvests[table], run.config.sketch_rows),
        )
        for table, sets in sorted(column_sets(list(pairs), graph).items())
    ]
    spark = run.engine.spark
    comparison = compare_tables(spark, scans, list(pairs), run.kernels, run.engine_frames(spark))
    run.fail(MINHASH, comparison.faults)
    survivors = {pair: pairs[pair] for pair, verdict in comparison.verdicts.items() if verdict.missing == 0}
    write_pairs(run.store, MINHASH, survivors)
    counts = {"pairs": len(survivors), "bytes_read": comparison.bytes_read}
    run.store.commit(MINHASH, counts)
    return counts


def sample_threshold(harvest: Harvest, sketch_rows: int) -> int:
    """The threshold under which a table without repeated rows has about `sketch_rows` fingerprints."""
    rows = _UNKNOWN_ROWS if harvest.rows is None else harvest.rows
    return min(EVERYTHING, EVERYTHING * sketch_rows // max(1, rows))
