"""Peers on pandas frames, each in an environment of its own: datacompy and Desbordante."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.tables import Answer, PeerTable, Task, by_pair

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

KEYS = (("id",), ("l_orderkey", "l_linenumber"), ("o_orderkey",))
"""Primary keys of the lakes' tables."""


def frame(table: PeerTable, columns: tuple[str, ...]) -> pd.DataFrame:
    parts = [pq.read_table(path, columns=list(columns)) for path in table.paths]
    return pa.concat_tables(parts).to_pandas()


def datacompy_pairs(task: Task) -> Answer:
    """A comparison of each pair, joined on the primary key: no row without a partner, and no partner that differs."""
    import datacompy  # type: ignore[import-not-found, import-untyped, unused-ignore]

    def contained(child: PeerTable, parent: PeerTable) -> bool:
        key = next(list(key) for key in KEYS if set(key) <= set(child.columns))
        sides = (frame(table, child.columns) for table in (child, parent))
        compared = datacompy.PandasCompare(*sides, join_columns=key)
        return not len(compared.df1_unq_rows) and bool(compared.intersect_rows_match())

    return by_pair(task, contained)


def desbordante_pairs(task: Task) -> Answer:
    """Verification of the inclusion dependency between all columns of each pair."""
    import desbordante  # type: ignore[import-not-found, import-untyped, unused-ignore]

    def contained(child: PeerTable, parent: PeerTable) -> bool:
        places = list(range(len(child.columns)))
        check = desbordante.ind_verification.algorithms.Default()
        check.load_data(tables=[frame(table, child.columns) for table in (child, parent)])
        check.execute(lhs_indices=places, rhs_indices=places)
        return bool(check.ind_holds())

    return by_pair(task, contained)
