"""The search kernel of unions: which part of each parent, put together, gives a child back.

Every row of the child is taken from one parent: a parent gives those of its rows that the child still needs after the
parents before it, and the query for them is searched as that of a selection is. Where the child repeats no row, parts
may overlap instead, and repeated rows collapse. As for a selection, what is found is only a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import duckdb

from r2d2.errors import TableFault
from r2d2.model import LeafPath, fold, leaf_key, leaf_path, leaves, schema_from_bytes
from r2d2.recipes.columns import PredicateColumn, predicate_columns
from r2d2.recipes.predicates import spark_sql
from r2d2.recipes.rows import Load, first_row
from r2d2.recipes.search import AMBIGUOUS, NEGATIVE, POSITIVE, Answer, Found, find_query, show_labelled
from r2d2.recipes.stored import SEVERAL
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.items import ScanItem
from r2d2.scan.rowhash import RowHasher, check_hash_version

MOST_ORDERS = 6
"""Orders of the parents that are tried."""


@dataclass(frozen=True, kw_only=True)
class UnionParent:
    """One of the tables that hold a child together.

    Attributes:
        parent: Its position.
        items: Its files, with one column set: the child's columns.
        schema: Its columns, as `schema_to_bytes` writes them.
        shared: Its leaves that the child has too.
        is_inside: Every row of it is the child's.
    """

    parent: int
    items: tuple[ScanItem, ...]
    schema: bytes
    shared: tuple[LeafPath, ...]
    is_inside: bool


@dataclass(frozen=True, kw_only=True)
class UnionItem:
    """A child and the tables that hold it together, for one kernel call.

    Attributes:
        child: Its position.
        items: Its files, with one column set.
        may_collapse: Engines agree which of its rows are the same.
        has_repeats: It repeats rows.
        most_key_bytes: Key lists may not be larger, all of them together; with 0 none are looked for.
    """

    child: int
    items: tuple[ScanItem, ...]
    parents: tuple[UnionParent, ...]
    may_collapse: bool
    has_repeats: bool
    most_key_bytes: int

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(
            {
                "child": self.child,
                "items": [item.to_json() for item in self.items],
                "parents": [
                    {
                        "parent": one.parent,
                        "items": [item.to_json() for item in one.items],
                        "schema": one.schema.hex(),
                        "shared": [leaf_key(path) for path in one.shared],
                        "is_inside": one.is_inside,
                    }
                    for one in self.parents
                ],
                "may_collapse": self.may_collapse,
                "has_repeats": self.has_repeats,
                "most_key_bytes": self.most_key_bytes,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> UnionItem:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        parents = (
            UnionParent(
                parent=one["parent"],
                items=tuple(map(ScanItem.from_json, one["items"])),
                schema=bytes.fromhex(one["schema"]),
                shared=tuple(map(leaf_path, one["shared"])),
                is_inside=one["is_inside"],
            )
            for one in raw["parents"]
        )
        return cls(**{**raw, "items": tuple(map(ScanItem.from_json, raw["items"])), "parents": tuple(parents)})


def search_union(item: UnionItem, hasher: RowHasher, limits: KernelLimits, load: Load) -> Iterator[Answer]:
    """The parts of a union, one answer for each parent, and one for all.

    That about SEVERAL comes first. Its kind is `union` where the parts are concatenated, `distinct` where repeated rows
    collapse behind that, and empty where no parts were found.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    try:
        with connect(limits) as connection:
            connection.execute("SET preserve_insertion_order = true")
            yield from _found(connection, item, hasher, load)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
        said = str(exc) if isinstance(exc, TableFault) else type(exc).__name__
        yield Answer(child=item.child, parent=SEVERAL, reason=f"its rows could not be searched ({said})")


def _found(connection: duckdb.DuckDBPyConnection, item: UnionItem, hasher: RowHasher, load: Load) -> list[Answer]:
    load(connection, "child", item.items, hasher, ())
    connection.execute("CREATE TEMP TABLE wanted AS SELECT h0 AS h, g0 AS g, count(*) AS n FROM child GROUP BY ALL")
    sources = []
    for number, one in enumerate(item.parents):
        schema = schema_from_bytes(one.schema)
        source = UnionSource(
            parent=one.parent,
            name=f"parent{number}",
            columns=predicate_columns(schema, one.shared),
            taken=frozenset(fold(name) for path, _ in leaves(schema) for name in path),
            is_inside=one.is_inside,
        )
        load(connection, source.name, one.items, hasher, source.columns)
        sources.append(source)
    parts = find_parts(
        connection,
        sources,
        most_key_bytes=item.most_key_bytes,
        may_collapse=item.may_collapse,
        repeats=item.has_repeats,
    )
    kind = "" if parts.reason else "distinct" if parts.collapse else "union"
    whole = Answer(child=item.child, parent=SEVERAL, kind=kind, reason=parts.reason)
    return [whole, *(_answer(item.child, source, found) for source, found in parts.of)]


@dataclass(frozen=True, kw_only=True)
class UnionSource:
    """A loaded parent.

    Attributes:
        parent: Its position.
        name: The table of its rows: values v0, v1, … and the fingerprint h0, g0 under the child's columns.
        columns: What a predicate may name.
        taken: Folded names that no column of a key list may have.
        is_inside: Every row of it is the child's.
    """

    parent: int
    name: str
    columns: Sequence[PredicateColumn]
    taken: frozenset[str]
    is_inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a union, or the reason why none were found.

    Attributes:
        of: The parents that give rows, each with the query for them.
        collapse: Repeated rows are to collapse once the parts are put together.
    """

    of: Sequence[tuple[UnionSource, Found]] = ()
    collapse: bool = False
    reason: str = ""


def find_parts(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[UnionSource],
    *,
    most_key_bytes: int,
    may_collapse: bool,
    repeats: bool,
) -> Parts:
    """The simplest parts of some parents that give the rows of the table `wanted`.

    Predicates are preferred to key lists, and then a concatenation to rows that collapse.

    Args:
        connection: Where the tables are; `wanted` has h, g and n, how often the child has the row.
        sources: The parents.
        most_key_bytes: See UnionItem.
        may_collapse: See UnionItem.
        repeats: The child repeats rows.
    """
    for source in sources:
        connection.execute(
            f"CREATE TEMP TABLE counts_{source.name} AS SELECT h0 AS h, g0 AS g, count(*) AS m "
            f"FROM {source.name} GROUP BY ALL"
        )
    ways = (False, True) if may_collapse and not repeats and _overlap(connection, sources) else (False,)
    search = _Search(connection=connection, may_collapse=may_collapse)
    parts = Parts(reason="no query was tried")
    for key_bytes in dict.fromkeys((0, most_key_bytes)):
        for collapse in ways:
            search.key_bytes, search.collapse = key_bytes, collapse
            parts = search.in_orders(sources)
            if not parts.reason:
                return parts
    return parts


def _overlap(connection: duckdb.DuckDBPyConnection, sources: Sequence[UnionSource]) -> bool:
    """Whether a wanted row stands in the parents more than once."""
    counts = " UNION ALL ".join(f"FROM counts_{source.name}" for source in sources)
    sql = f"SELECT 1 FROM ({counts}) SEMI JOIN wanted USING (h, g) GROUP BY h, g HAVING sum(m) > 1 LIMIT 1"
    return first_row(connection, sql) is not None


@dataclass(kw_only=True)
class _Search:
    """Looks for parts.

    Attributes:
        connection: Where the tables are.
        may_collapse: Repeated rows may collapse within a part.
        key_bytes: What key lists may take together.
        collapse: Repeated rows collapse behind the parts.
        known: Queries by what they depend on: way, parent, the parents before it in any order, and with key lists.
    """

    connection: duckdb.DuckDBPyConnection
    may_collapse: bool
    key_bytes: int = 0
    collapse: bool = False
    known: dict[tuple[bool, str, frozenset[str], bool], Found] = field(default_factory=dict)

    def in_orders(self, sources: Sequence[UnionSource]) -> Parts:
        """Parts in the first order that gives any: a parent of which no part is found is asked last, then first."""
        order = sorted(sources, key=lambda source: not source.is_inside)
        tried: list[list[UnionSource]] = []
        reason = ""
        while order not in tried and len(tried) < MOST_ORDERS:
            tried.append(order)
            parts, failed = self.in_order(order)
            if failed is None:
                return parts
            reason = reason or parts.reason
            rest = [source for source in order if source is not failed]
            order = [failed, *rest] if failed is order[-1] else [*rest, failed]
        return Parts(reason=reason)

    def in_order(self, sources: Sequence[UnionSource]) -> tuple[Parts, UnionSource | None]:
        """Parts of the parents in this order, or the parent of which none was found."""
        free_bytes = self.key_bytes
        self.connection.execute("CREATE OR REPLACE TEMP TABLE needed AS SELECT * FROM wanted")
        parts = []
        for place, source in enumerate(sources):
            found = self._found(source, sources[:place])
            if found.keys is not None:
                free_bytes -= len(found.keys.content)
            if found.reason or free_bytes < 0:
                return Parts(reason=found.reason or "lists of its keys would not be much smaller than it"), source
            if found.kind:
                parts.append((source, found))
                self._take(source)
        if first_row(self.connection, "SELECT 1 FROM needed LIMIT 1") is not None:
            return Parts(reason="the parents have some of its rows less often than it does"), sources[-1]
        return Parts(of=parts, collapse=self.collapse), None

    def _found(self, source: UnionSource, before: Sequence[UnionSource]) -> Found:
        names = frozenset(other.name for other in before)
        plain = self.known.get((self.collapse, source.name, names, False))
        key = (self.collapse, source.name, names, self.key_bytes > 0 and (plain is None or plain.reason != ""))
        if key not in self.known:
            self._label(source)
            try:
                self.known[key] = self._query(source)
            finally:
                self.connection.execute("DROP VIEW labelled; DROP TABLE labels; DROP TABLE part")
        return self.known[key]

    def _label(self, source: UnionSource) -> None:
        """Make the view `labelled` of a parent, as `search.label_rows` does, by the rows that are still needed.

        Where rows collapse, those that another part gives already may be given again: they are left out.
        """
        positive = "true" if self.collapse else "needed.n >= theirs.m"
        free = "wanted.n IS NOT NULL AND needed.n IS NULL" if self.collapse else "false"
        self.connection.execute(
            "CREATE TEMP TABLE kinds AS SELECT theirs.h AS h, theirs.g AS g, coalesce(needed.n, 0) AS n, "
            f"row_number() OVER () AS f, CAST(CASE WHEN needed.n IS NULL THEN {NEGATIVE} WHEN {positive} "
            f"THEN {POSITIVE} ELSE {AMBIGUOUS} END AS TINYINT) AS y FROM counts_{source.name} AS theirs "
            "LEFT JOIN needed ON theirs.h = needed.h AND theirs.g = needed.g "
            "LEFT JOIN wanted ON theirs.h = wanted.h AND theirs.g = wanted.g "
            f"WHERE NOT ({free})"
        )
        self.connection.execute(
            f"CREATE TEMP TABLE part AS SELECT own.*, kinds.f, kinds.n, kinds.y FROM {source.name} AS own "
            "JOIN kinds ON own.h0 = kinds.h AND own.g0 = kinds.g"
        )
        self.connection.execute("CREATE TEMP TABLE labels AS SELECT f, n, y FROM part; DROP TABLE kinds")
        self.connection.execute("".join(f"ALTER TABLE part DROP COLUMN {name};" for name in "fny"))
        show_labelled(self.connection, "part")

    def _query(self, source: UnionSource) -> Found:
        """The query of the labelled rows; of kind '' and without a reason where none of them is needed."""
        needed, others = first_row(
            self.connection,
            f"SELECT count(*) FILTER (y <> {NEGATIVE}), count(*) FILTER (y <> {POSITIVE}) FROM labelled",
        ) or (0, 0)
        if not needed:
            return Found()
        if not others:
            return Found(kind="selection", predicate=((),))
        found = find_query(self.connection, source.columns, self.key_bytes, source.taken)
        if found.kind == "distinct" and not self.may_collapse:
            return Found(reason="engines do not agree which of its rows are the same")
        return found

    def _take(self, source: UnionSource) -> None:
        """What a part gives is needed no more."""
        given = "needed.n" if self.collapse else "least(needed.n, theirs.m)"
        self.connection.execute(
            f"CREATE TEMP TABLE left_over AS SELECT h, g, n FROM (SELECT needed.h, needed.g, needed.n - "
            f"CASE WHEN theirs.m IS NULL THEN 0 ELSE {given} END AS n FROM needed LEFT JOIN counts_{source.name} "
            "AS theirs ON needed.h = theirs.h AND needed.g = theirs.g) WHERE n > 0"
        )
        self.connection.execute("DROP TABLE needed")
        self.connection.execute("ALTER TABLE left_over RENAME TO needed")


def _answer(child: int, source: UnionSource, found: Found) -> Answer:
    where = spark_sql(found.predicate, source.columns) if found.predicate not in (None, ((),)) else ""
    return Answer(child=child, parent=source.parent, kind=found.kind, where=where, keys=found.keys)
