"""The search kernel: which query over a parent's rows returns exactly those of a child.

It reads both tables into DuckDB, labels the parent's rows by the child's, learns a predicate on a sample and tries it
on all rows; the rows about which it was wrong join the sample. What it returns is only a candidate: a recipe counts
once its SQL was run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.errors import TableFault
from r2d2.model import LeafPath, fold, leaf_key, leaf_path, leaves, schema_from_bytes
from r2d2.recipes.columns import PredicateColumn, predicate_columns
from r2d2.recipes.keys import KeyList, find_keys
from r2d2.recipes.learn import MAX_CONSTANTS, Sample, learn
from r2d2.recipes.predicates import Predicate, duck_sql, spark_sql
from r2d2.recipes.rows import Load, first_row, load_rows
from r2d2.scan.compare import numbered
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.items import ScanItem
from r2d2.scan.reports import Words
from r2d2.scan.rowhash import RowHasher, check_hash_version

SAMPLE_ROWS = 20_000
"""Rows of a sample: up to half of them wanted, up to half not."""
MISTAKES = 1_000
"""Wrongly selected, and wrongly left out, rows that join a sample after a trial."""
ROUNDS = 8
PART_ROWS = 4_000_000
"""Fingerprints that are numbered at once, with about 60 bytes each."""

NEGATIVE, POSITIVE, AMBIGUOUS = 0, 1, 2
"""Labels of a parent's rows: the child has none of them, all of them, or some of equal ones."""


@dataclass(frozen=True, kw_only=True)
class ChildWork:
    """A child of a search.

    Attributes:
        child: Its position.
        column_set: The number of its columns among the parent's column sets.
        items: Its files, with this one column set.
        most_key_bytes: A key list may not be larger.
    """

    child: int
    column_set: int
    items: tuple[ScanItem, ...]
    most_key_bytes: int


@dataclass(frozen=True, kw_only=True)
class SearchItem:
    """A parent and children that it contains, for one kernel call.

    Attributes:
        parent: Its position.
        items: Its files; their column sets have the numbers of the children's.
        schema: Its columns, as `schema_to_bytes` writes them.
        shared: Its leaves that a child has too.
    """

    parent: int
    items: tuple[ScanItem, ...]
    schema: bytes
    shared: tuple[LeafPath, ...]
    children: tuple[ChildWork, ...]

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(
            {
                "parent": self.parent,
                "items": [item.to_json() for item in self.items],
                "schema": self.schema.hex(),
                "shared": [leaf_key(path) for path in self.shared],
                "children": [
                    [work.child, work.column_set, [item.to_json() for item in work.items], work.most_key_bytes]
                    for work in self.children
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SearchItem:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            parent=raw["parent"],
            items=tuple(map(ScanItem.from_json, raw["items"])),
            schema=bytes.fromhex(raw["schema"]),
            shared=tuple(map(leaf_path, raw["shared"])),
            children=tuple(
                ChildWork(
                    child=child, column_set=number, items=tuple(map(ScanItem.from_json, items)), most_key_bytes=most
                )
                for child, number, items, most in raw["children"]
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found for a child and its parent.

    Attributes:
        kind: `distinct`, `selection` or `key_list`; empty where it found nothing.
        where: The predicate in Spark SQL; empty for none.
        keys: For a key list.
        reason: Why nothing was found.
    """

    child: int
    parent: int
    kind: str = ""
    where: str = ""
    keys: KeyList | None = None
    reason: str = ""


def search(item: SearchItem, hasher: RowHasher, limits: KernelLimits, load: Load = load_rows) -> Iterator[Answer]:
    """Answer for each child of an item, whose tables `load` loads.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    done: set[int] = set()
    try:
        with connect(limits) as connection:
            schema = schema_from_bytes(item.schema)
            columns = predicate_columns(schema, item.shared)
            names = {fold(name) for path, _ in leaves(schema) for name in path}
            connection.execute("SET preserve_insertion_order = true")
            load(connection, "parent", item.items, hasher, columns)
            fetched: dict[int, Fingerprints] = {}
            for work in item.children:
                load(connection, "child", work.items, hasher, ())
                yield _answer(connection, item.parent, work, columns, names, fetched)
                done.add(work.child)
                connection.execute("DROP VIEW labelled; DROP TABLE labels; DROP TABLE child")
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        said = str(exc) if isinstance(exc, TableFault) else type(exc).__name__
        for work in (work for work in item.children if work.child not in done):
            yield Answer(child=work.child, parent=item.parent, reason=f"its rows could not be searched ({said})")


def _answer(
    connection: duckdb.DuckDBPyConnection,
    parent: int,
    work: ChildWork,
    columns: Sequence[PredicateColumn],
    names: Set[str],
    parents: dict[int, Fingerprints],
) -> Answer:
    label_rows(connection, work.column_set, parents)
    found = find_query(connection, columns, work.most_key_bytes, names)
    return Answer(
        child=work.child,
        parent=parent,
        kind=found.kind,
        where=spark_sql(found.predicate, columns) if found.predicate not in (None, ((),)) else "",
        keys=found.keys,
        reason=found.reason,
    )


Fingerprints = tuple[Words, Words]
"""The two lanes of some rows' fingerprints, in the order of the rows."""


def label_rows(
    connection: duckdb.DuckDBPyConnection, column_set: int, parents: dict[int, Fingerprints] | None = None
) -> None:
    """Label the rows of the table `parent` by those of the table `child`, as the view `labelled`.

    Beside the values it has a number of each row's fingerprint under the child's columns (f), how often the child has
    it (n), and the label (y).

    Args:
        connection: Where the tables are.
        column_set: Number of the child's columns.
        parents: The parent's fingerprints by column set, as far as they were fetched; others are added.
    """
    known = {} if parents is None else parents
    if column_set not in known:
        known.clear()  # the lanes of one column set at a time
        known[column_set] = _fingerprints(connection, "parent", column_set)
    connection.register("found_labels", _labels(known[column_set], _fingerprints(connection, "child", column_set)))
    connection.execute("CREATE TEMP TABLE labels AS SELECT * FROM found_labels")
    connection.unregister("found_labels")
    show_labelled(connection, "parent")


def _labels(parent: Fingerprints, child: Fingerprints) -> pa.Table:
    """The columns f, n and y of a parent's rows, computed for a part of the fingerprints at a time."""
    rows = len(parent[0])
    numbers, wanted, labels = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows, np.int8)
    bits = ((rows + len(child[0])) // PART_ROWS).bit_length()
    following = 0
    for part in range(1 << bits):
        own, others = (_of_part(lanes[0], part, bits) for lanes in (parent, child))
        first, second = (np.concatenate([parent[lane][own], child[lane][others]]) for lane in (0, 1))
        ids, firsts = numbered(first, second)
        here, theirs = np.split(ids, [np.count_nonzero(own)])
        n, m = (np.bincount(side, minlength=len(firsts))[here] for side in (theirs, here))
        numbers[own], wanted[own] = following + here, n
        labels[own] = np.where(n == 0, NEGATIVE, np.where(n >= m, POSITIVE, AMBIGUOUS))
        following += len(firsts)
    return pa.table({"f": numbers, "n": wanted, "y": labels})


def _of_part(first: Words, part: int, bits: int) -> npt.NDArray[np.bool_]:
    """Which rows' first lanes begin with some bits."""
    if bits == 0:
        return np.ones(len(first), bool)
    begins: npt.NDArray[np.bool_] = first.view(np.uint64) >> np.uint64(64 - bits) == np.uint64(part)
    return begins


def _fingerprints(connection: duckdb.DuckDBPyConnection, table: str, column_set: int) -> Fingerprints:
    rows = connection.sql(f"SELECT h{column_set} AS h, g{column_set} AS g FROM {table}").to_arrow_table()
    first, second = (rows.column(lane).to_numpy().view(np.int64) for lane in ("h", "g"))
    return first, second


def show_labelled(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make the view `labelled` of a table's rows beside those of the table `labels`, which are in the same order."""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW labelled AS SELECT * FROM {table} POSITIONAL JOIN labels")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A query: its kind, predicate and key list, or the reason why there is none."""

    kind: str = ""
    predicate: Predicate | None = None
    keys: KeyList | None = None
    reason: str = ""


def find_query(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn], most_key_bytes: int, names: Set[str]
) -> Found:
    """The cheapest query over the table `labelled` that returns the child's rows.

    Args:
        connection: Where the table is.
        columns: The parent's, whose values the table has.
        most_key_bytes: A key list may not be larger; with 0 none is looked for.
        names: Folded names of the parent's columns and fields.
    """
    counted = first_row(
        connection, f"SELECT count(*) FILTER (y = {NEGATIVE}), count(*) FILTER (y = {AMBIGUOUS}), max(n) FROM labelled"
    )
    negatives, ambiguous, most = counted or (0, 0, 0)
    is_distinct = ambiguous > 0 and most == 1
    if is_distinct and not negatives:
        return Found(kind="distinct", predicate=((),))
    if ambiguous:
        _settle_ambiguous(connection, columns)
    predicate = find_predicate(connection, columns, distinct=False)
    if predicate is not None:
        return Found(kind="selection", predicate=predicate)
    if is_distinct:
        predicate = find_predicate(connection, columns, distinct=True)
        if predicate is not None:
            return Found(kind="distinct", predicate=predicate)
    return _with_keys(connection, columns, most_key_bytes, names)


def _with_keys(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn], most_key_bytes: int, names: Set[str]
) -> Found:
    said = "no short predicate over the parent's columns tells the child's rows from the others"
    if not most_key_bytes:
        return Found(reason=f"{said}, and the engine reads no key lists below the result folder")
    keys = find_keys(connection, columns, names)
    if keys is None:
        return Found(reason=f"{said}, and no columns of the parent identify them")
    if len(keys.content) > most_key_bytes:
        return Found(reason=f"{said}, and a list of their keys would not be much smaller than the child")
    return Found(kind="key_list", keys=keys)


def _settle_ambiguous(connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn]) -> None:
    """Where the child has some of the parent's equal rows: label those that one value of a dropped column picks.

    A value picks if, of each ambiguous row, the parent has it as often as the child has the row.
    """
    for place, column in enumerate(columns):
        if column.shared or column.kind.is_float:
            continue
        picked = first_row(
            connection,
            f"SELECT v FROM (SELECT f, v{place} AS v, any_value(n) AS n, count(*) AS m FROM labelled "
            f"WHERE y = {AMBIGUOUS} GROUP BY f, v) WHERE n = m GROUP BY v HAVING count(*) = "
            f"(SELECT count(DISTINCT f) FROM labelled WHERE y = {AMBIGUOUS}) ORDER BY v NULLS LAST LIMIT 1",
        )
        if picked is not None:
            value = f"v{place} IS NULL" if picked[0] is None else f"v{place} = {column.duck_literal(picked[0])}"
            settled = f"CASE WHEN coalesce({value}, false) THEN {POSITIVE} ELSE {NEGATIVE} END"
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE labels AS SELECT f, n, "
                f"CAST(CASE WHEN y = {AMBIGUOUS} THEN {settled} ELSE y END AS TINYINT) AS y FROM labelled"
            )
            return


def find_predicate(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PredicateColumn], *, distinct: bool
) -> Predicate | None:
    """A short predicate that is right about all rows of the table `labelled`; None if none was found.

    Args:
        connection: Where the table is.
        columns: What the predicate may name.
        distinct: Equal rows collapse afterwards, so at least one of each of the child's is enough.
    """
    shown = [place for place, column in enumerate(columns) if column.shared or not distinct]
    usable = [columns[place] for place in shown]
    positive, other = ("n > 0", "n = 0") if distinct else (f"y = {POSITIVE}", f"y = {NEGATIVE}")
    values = ", ".join(f"v{place}" for place in shown)
    if not usable:
        return None
    _hash_rows(connection, values)
    sides = f"count(*) FILTER ({positive}), count(*) FILTER ({other})"
    wanted, most = first_row(connection, f"SELECT {sides} FROM labelled") or (0, 0)
    most_constants = min(MAX_CONSTANTS, max(8, wanted // 2))
    rows = _examples(connection, values, positive, other, whole=max(wanted, most) <= SAMPLE_ROWS // 2)
    names = [f"v{place}" for place in shown]
    for _ in range(ROUNDS):
        labels = rows.column("wanted").to_numpy(zero_copy_only=False).astype(bool)
        found = learn(Sample.of(rows.select(names), usable, labels, most_constants))
        if found is None:
            return None
        predicate = _renumbered(found, shown)
        test = duck_sql(predicate, columns)
        missed, excess = f"{positive} AND NOT ({test})", f"{other} AND ({test})"
        if first_row(connection, f"SELECT 1 FROM labelled WHERE ({missed}) OR ({excess}) LIMIT 1") is None:
            return predicate if distinct or _settles(connection, test) else None
        sampled = (
            _sampled(connection, values, missed, True, MISTAKES),
            _sampled(connection, values, excess, False, MISTAKES),
        )
        rows = pa.concat_tables([rows, *sampled])
    return None


def _examples(
    connection: duckdb.DuckDBPyConnection, values: str, positive: str, other: str, *, whole: bool
) -> pa.Table:
    """Rows to learn from, half of them wanted where there are many; `whole` says that none need to be left out."""
    if whole:
        flagged = (
            f"SELECT DISTINCT CASE WHEN {positive} THEN 1 WHEN {other} THEN 0 END AS wanted, w, {values} FROM hashed"
        )
        ordered = f"SELECT * FROM ({flagged}) WHERE wanted IS NOT NULL ORDER BY wanted DESC, w, {values}"
        return connection.sql(f"SELECT {values}, wanted = 1 AS wanted FROM ({ordered})").to_arrow_table()
    return pa.concat_tables(
        _sampled(connection, values, condition, flag, SAMPLE_ROWS // 2)
        for condition, flag in ((positive, True), (other, False))
    )


def _renumbered(predicate: Predicate, places: Sequence[int]) -> Predicate:
    return tuple(tuple(replace(c, column=places[c.column]) for c in box) for box in predicate)


def _settles(connection: duckdb.DuckDBPyConnection, test: str) -> bool:
    """Whether a predicate selects each ambiguous row as often as the child has it."""
    chosen = f"count(*) FILTER ({test})"
    sql = f"SELECT f FROM labelled WHERE y = {AMBIGUOUS} GROUP BY f HAVING {chosen} <> any_value(n) LIMIT 1"
    return first_row(connection, sql) is None


def _sampled(connection: duckdb.DuckDBPyConnection, values: str, condition: str, wanted: bool, rows: int) -> pa.Table:
    """Rows under a condition, chosen and ordered by their values alone: however the files are cut, the same ones."""
    least = f"SELECT DISTINCT w FROM hashed WHERE {condition} ORDER BY w LIMIT {rows}"
    (last,) = first_row(connection, f"SELECT max(w) FROM ({least})") or (None,)
    chosen = "false" if last is None else f"{condition} AND w <= {last}::UBIGINT"
    picked = f"SELECT DISTINCT w, {values} FROM hashed WHERE {chosen} ORDER BY w, {values} LIMIT {rows}"
    table = connection.sql(f"SELECT {values} FROM ({picked})").to_arrow_table()
    return table.append_column("wanted", pa.array(np.full(table.num_rows, wanted)))


def _hash_rows(connection: duckdb.DuckDBPyConnection, values: str) -> None:
    """Make the view `hashed` of the labelled rows, each with a hash of some of its values (w)."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE hashes AS SELECT hash({values}) AS w FROM labelled")
    connection.execute("CREATE OR REPLACE TEMP VIEW hashed AS SELECT * FROM labelled POSITIONAL JOIN hashes")
