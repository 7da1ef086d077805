"""datasketch's MinHashLSHEnsemble, in an environment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.duck import connection, hashes
from benchmarks.peers.tables import Answer, Edge, Group, Task, by_group

if TYPE_CHECKING:
    import duckdb

THRESHOLD, PERMUTATIONS = 0.9, 128


def lsh_ensemble(task: Task) -> Answer:
    """Candidates for a containment of at least nine tenths, by column set; none of them is proved.

    Column sets beyond the budget are extrapolated by their number.
    """
    duck = connection(task)
    return by_group(task, lambda group: candidates(duck, group))


def candidates(duck: duckdb.DuckDBPyConnection, group: Group) -> set[Edge]:
    """Parents that the ensemble names for each child of a group."""
    from datasketch import MinHash, MinHashLSHEnsemble  # type: ignore[import-not-found, import-untyped, unused-ignore]

    sketches = {}
    for table in group.parents:
        values = hashes(duck, table, group.columns)
        sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=int, scheme="affine64")
        sketch.update_batch(list(values))
        sketches[table.id] = (sketch, len(values))
    ensemble = MinHashLSHEnsemble(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    ensemble.index((name, sketch, size) for name, (sketch, size) in sketches.items() if size)
    return {
        (child.id, parent)
        for child in group.children
        for parent in ensemble.query(*sketches[child.id])
        if parent != child.id
    }
