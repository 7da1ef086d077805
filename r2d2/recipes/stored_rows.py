"""Rows of a large parent in DuckDB: a predicate is learned on samples, and tried on all rows.

The rows about which it was wrong join the sample. Samples depend on values alone, not on how the files are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.recipes.columns import PredicateColumn, places_shown
from r2d2.recipes.keys import listable
from r2d2.recipes.labels import AMBIGUOUS, FREE, NEGATIVE, POSITIVE, Labels
from r2d2.recipes.learn import Sample, constants_for, learn
from r2d2.recipes.predicates import Predicate, duck_sql, renumbered
from r2d2.recipes.rows import first_row

SAMPLE_ROWS = 20_000
"""Rows of a sample: up to half of them wanted, up to half not."""
MISTAKES = 1_000
"""Wrongly selected, and wrongly left out, rows that join a sample after a trial."""
ROUNDS = 8


class StoredRows:
    """Labelled rows of a table in DuckDB; see `query.Rows`.

    They are the view `labelled`: the values v0, v1, …, a number of each row (f), how often the child has it (n), and
    the label (y). A connection has one such view at a time, until `close`.

    Args:
        connection: Where the table is.
        table: Its name.
        columns: The parent's, whose values the table has.
        labels: Of its rows, in their order.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[PredicateColumn], labels: Labels
    ) -> None:
        self.columns = columns
        self._connection = connection
        kept = labels.labels != FREE
        fields: dict[str, npt.NDArray[Any]] = {"f": labels.numbers, "n": labels.wanted, "y": labels.labels}
        if not kept.all():
            connection.register("found_kept", pa.table({"kept": kept}))
            connection.execute(
                f"CREATE TEMP TABLE part AS SELECT * EXCLUDE kept FROM {table} POSITIONAL JOIN found_kept WHERE kept"
            )
            connection.unregister("found_kept")
            table, fields = "part", {name: values[kept] for name, values in fields.items()}
        connection.register("found_labels", pa.table(fields))
        connection.execute("CREATE TEMP TABLE labels AS SELECT * FROM found_labels")
        connection.unregister("found_labels")
        connection.execute(f"CREATE TEMP VIEW labelled AS SELECT * FROM {table} POSITIONAL JOIN labels")

    def close(self) -> None:
        """Remove what was made of the labels."""
        for kind, name in (("VIEW", "hashed"), ("TABLE", "hashes"), ("VIEW", "labelled"), ("TABLE", "labels")):
            self._connection.execute(f"DROP {kind} IF EXISTS {name}")
        self._connection.execute("DROP TABLE IF EXISTS part")

    def counts(self) -> tuple[int, int, int]:
        """See `query.Rows`."""
        sides = f"count(*) FILTER (y = {NEGATIVE}), count(*) FILTER (y = {AMBIGUOUS}), coalesce(max(n), 0)"
        negatives, ambiguous, most = self._first(f"SELECT {sides} FROM labelled") or (0, 0, 0)
        return negatives, ambiguous, most

    def settle(self) -> None:
        """See `query.Rows`."""
        for place, column in enumerate(self.columns):
            if column.shared or column.kind.is_float:
                continue
            picked = self._first(
                f"SELECT v FROM (SELECT f, v{place} AS v, any_value(n) AS n, count(*) AS m FROM labelled "
                f"WHERE y = {AMBIGUOUS} GROUP BY f, v) WHERE n = m GROUP BY v HAVING count(*) = "
                f"(SELECT count(DISTINCT f) FROM labelled WHERE y = {AMBIGUOUS}) ORDER BY v NULLS LAST LIMIT 1",
            )
            if picked is not None:
                value = f"v{place} IS NULL" if picked[0] is None else f"v{place} = {column.duck_literal(picked[0])}"
                settled = f"CASE WHEN coalesce({value}, false) THEN {POSITIVE} ELSE {NEGATIVE} END"
                self._connection.execute(
                    "CREATE OR REPLACE TEMP TABLE labels AS SELECT f, n, "
                    f"CAST(CASE WHEN y = {AMBIGUOUS} THEN {settled} ELSE y END AS TINYINT) AS y FROM labelled"
                )
                return

    def predicate(self, *, distinct: bool) -> Predicate | None:
        """See `query.Rows`."""
        shown = places_shown(self.columns, distinct=distinct)
        usable = [self.columns[place] for place in shown]
        positive, other = ("n > 0", "n = 0") if distinct else (f"y = {POSITIVE}", f"y = {NEGATIVE}")
        values = ", ".join(f"v{place}" for place in shown)
        if not usable:
            return None
        self._hash(values)
        sides = f"count(*) FILTER ({positive}), count(*) FILTER ({other})"
        wanted, most = self._first(f"SELECT {sides} FROM labelled") or (0, 0)
        most_constants = constants_for(wanted)
        rows = self._examples(values, positive, other, whole=max(wanted, most) <= SAMPLE_ROWS // 2)
        names = [f"v{place}" for place in shown]
        for _ in range(ROUNDS):
            labels = rows.column("wanted").to_numpy(zero_copy_only=False).astype(bool)
            found = learn(Sample.of(rows.select(names), usable, labels, most_constants))
            if found is None:
                return None
            predicate = renumbered(found, shown)
            test = duck_sql(predicate, self.columns)
            missed, excess = f"{positive} AND NOT ({test})", f"{other} AND ({test})"
            if self._first(f"SELECT 1 FROM labelled WHERE ({missed}) OR ({excess}) LIMIT 1") is None:
                return predicate if distinct or self._settles(test) else None
            sampled = (
                self._sampled(values, missed, True, MISTAKES),
                self._sampled(values, excess, False, MISTAKES),
            )
            rows = pa.concat_tables([rows, *sampled])
        return None

    def _examples(self, values: str, positive: str, other: str, *, whole: bool) -> pa.Table:
        """Rows to learn from, half of them wanted where there are many; `whole` says that none need to be left out."""
        if whole:
            flag = f"CASE WHEN {positive} THEN 1 WHEN {other} THEN 0 END"
            flagged = f"SELECT DISTINCT {flag} AS wanted, w, {values} FROM hashed"
            ordered = f"SELECT * FROM ({flagged}) WHERE wanted IS NOT NULL ORDER BY wanted DESC, w, {values}"
            return self._connection.sql(f"SELECT {values}, wanted = 1 AS wanted FROM ({ordered})").to_arrow_table()
        return pa.concat_tables(
            self._sampled(values, condition, flag, SAMPLE_ROWS // 2)
            for condition, flag in ((positive, True), (other, False))
        )

    def _sampled(self, values: str, condition: str, wanted: bool, rows: int) -> pa.Table:
        """Rows under a condition, chosen and ordered by their values alone."""
        least = f"SELECT DISTINCT w FROM hashed WHERE {condition} ORDER BY w LIMIT {rows}"
        (last,) = self._first(f"SELECT max(w) FROM ({least})") or (None,)
        chosen = "false" if last is None else f"{condition} AND w <= {last}::UBIGINT"
        picked = f"SELECT DISTINCT w, {values} FROM hashed WHERE {chosen} ORDER BY w, {values} LIMIT {rows}"
        table = self._connection.sql(f"SELECT {values} FROM ({picked})").to_arrow_table()
        return table.append_column("wanted", pa.array(np.full(table.num_rows, wanted)))

    def _hash(self, values: str) -> None:
        """Make the view `hashed` of the labelled rows, each with a hash of some of its values (w)."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE hashes AS SELECT hash({values}) AS w FROM labelled")
        self._connection.execute("CREATE OR REPLACE TEMP VIEW hashed AS SELECT * FROM labelled POSITIONAL JOIN hashes")

    def _settles(self, test: str) -> bool:
        """Whether a predicate selects each ambiguous row as often as the child has it."""
        chosen = f"count(*) FILTER ({test})"
        sql = f"SELECT f FROM labelled WHERE y = {AMBIGUOUS} GROUP BY f HAVING {chosen} <> any_value(n) LIMIT 1"
        return self._first(sql) is None

    def key_columns(self) -> list[int]:
        """See `query.Rows`."""
        usable = listable(self.columns)
        if not usable:
            return []
        counts = ", ".join(f"count(v{place}), approx_count_distinct(v{place})" for place in usable)
        (rows, *counted) = self._first(f"SELECT count(*), {counts} FROM labelled WHERE y = {POSITIVE}") or (0,)
        found = [
            (-different, place)
            for place, filled, different in zip(usable, counted[::2], counted[1::2], strict=True)
            if filled == rows and rows
        ]
        return [place for _, place in sorted(found)]

    def identify(self, places: Sequence[int]) -> bool:
        """See `query.Rows`."""
        names = ", ".join(f"v{place}" for place in places)
        sides = f"bool_or(y = {POSITIVE}) AND bool_or(y <> {POSITIVE})"
        ambiguous = self._first(f"SELECT 1 FROM labelled WHERE y = {AMBIGUOUS} LIMIT 1")
        mixed = f"SELECT 1 FROM labelled GROUP BY {names} HAVING {sides} LIMIT 1"
        return ambiguous is None and self._first(mixed) is None

    def keys(self, places: Sequence[int]) -> pa.Table:
        """See `query.Rows`."""
        names = ", ".join(f"v{place}" for place in places)
        sql = f"SELECT DISTINCT {names} FROM labelled WHERE y = {POSITIVE} ORDER BY {names}"
        return self._connection.sql(sql).to_arrow_table()

    def _first(self, sql: str) -> tuple[Any, ...] | None:
        return first_row(self._connection, sql)
