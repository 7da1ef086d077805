"""The search kernel of unions: which part of each parent, put together, gives a child back.

Every row of the child is taken from one parent: a parent gives those of its rows that the child still needs after the
parents before it, and the query for them is searched as that of a selection is. Where the child repeats no row, parts
may overlap instead, and repeated rows collapse. As for a selection, what is found is only a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from r2d2.model import LeafPath, leaf_key, leaf_path, schema_from_bytes
from r2d2.recipes.columns import predicate_columns
from r2d2.recipes.labels import AMBIGUOUS, FREE, NEGATIVE, POSITIVE, Counts, Labels, Numbers, label_rows, number_rows
from r2d2.recipes.learn import is_short_box
from r2d2.recipes.query import Found, find_key_query, find_query
from r2d2.recipes.rows import Load
from r2d2.recipes.search import Answer, names_in, not_searched, where_of
from r2d2.recipes.small_rows import WantedTable
from r2d2.recipes.stored import SEVERAL
from r2d2.recipes.tables import SearchTable, TableLoader, small_ahead
from r2d2.scan.bag_sums import BagSum
from r2d2.scan.duck import KernelLimits, connect
from r2d2.scan.items import ScanItem
from r2d2.scan.rowhash import RowHasher, check_hash_version

MOST_ORDERS = 3
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
        most_key_bytes: Key lists may not be larger, all of them together; with 0 none are looked for.
    """

    child: int
    items: tuple[ScanItem, ...]
    parents: tuple[UnionParent, ...]
    may_collapse: bool
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


def search_unions(items: Sequence[UnionItem], hasher: RowHasher, limits: KernelLimits, load: Load) -> Iterator[Answer]:
    """The parts of some unions, one answer for each parent, and one for all.

    That about SEVERAL comes first. Its kind is `union` where the parts are concatenated, `distinct` where repeated rows
    collapse behind that, and empty where no parts were found; then only the parent that had none has an answer, too.

    Raises:
        EngineError: If this worker's DuckDB is not the pinned one; nothing else is raised.
    """
    check_hash_version()
    wanted = [_wanted(item) for item in items]
    for item, tables, small in zip(items, wanted, small_ahead(wanted, hasher, limits), strict=True):
        try:
            with connect(limits) as connection:
                connection.execute("SET preserve_insertion_order = true")
                loader = TableLoader(connection, tables, small, hasher, load)
                yield from _found(item, [loader.table(table.name) for table in tables])
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not end the job for all other tables
            yield Answer(child=item.child, parent=SEVERAL, reason=not_searched(exc))


def _wanted(item: UnionItem) -> list[WantedTable]:
    wanted = [WantedTable(name="child", items=item.items, columns=())]
    for number, one in enumerate(item.parents):
        columns = predicate_columns(schema_from_bytes(one.schema), one.shared)
        wanted.append(WantedTable(name=f"parent{number}", items=one.items, columns=columns))
    return wanted


def _found(item: UnionItem, tables: Sequence[SearchTable]) -> list[Answer]:
    rows, *of_parents = (table.fingerprints(0) for table in tables)
    (own, *numbers), count = number_rows([rows, *of_parents])
    sources = [
        UnionSource(parent=one.parent, table=table, numbers=theirs, taken=names_in(one.schema), is_inside=one.is_inside)
        for one, table, theirs in zip(item.parents, tables[1:], numbers, strict=True)
    ]
    parts = find_parts(
        sources,
        np.bincount(own, minlength=count),
        most_key_bytes=item.most_key_bytes,
        may_collapse=item.may_collapse,
    )
    kind = "" if parts.reason else "distinct" if parts.collapse else "union"
    bag = BagSum.of(*rows, counts=None)
    whole = Answer(child=item.child, parent=SEVERAL, kind=kind, reason=parts.reason, bag=bag)
    if parts.failed is not None:
        return [whole, Answer(child=item.child, parent=parts.failed.parent, reason=parts.reason)]
    return [whole, *(_answer(item.child, source, found) for source, found in parts.of)]


def _answer(child: int, source: UnionSource, found: Found) -> Answer:
    where = where_of(found, source.table.columns)
    return Answer(child=child, parent=source.parent, kind=found.kind, where=where, keys=found.keys)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnionSource:
    """A loaded parent.

    Attributes:
        parent: Its position.
        table: Its rows.
        numbers: Of its rows under the child's columns.
        taken: Folded names that no column of a key list may have.
        is_inside: Every row of it is the child's.
    """

    parent: int
    table: SearchTable
    numbers: Numbers
    taken: frozenset[str]
    is_inside: bool = False

    def counts(self, numbers: int) -> Counts:
        """How often it has the row of each number."""
        return np.bincount(self.numbers, minlength=numbers)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a union, or the reason why none were found.

    Attributes:
        of: The parents that give rows, each with the query for them.
        collapse: Repeated rows are to collapse once the parts are put together.
        failed: The parent of which no part was found, if that is the reason.
    """

    of: Sequence[tuple[UnionSource, Found]] = ()
    collapse: bool = False
    reason: str = ""
    failed: UnionSource | None = None


def find_parts(sources: Sequence[UnionSource], wanted: Counts, *, most_key_bytes: int, may_collapse: bool) -> Parts:
    """The simplest parts of some parents that give the child's rows.

    Predicates are preferred to key lists, and then a concatenation to rows that collapse. With key lists, trees are
    grown only for parents whose own rows take one, and where a list is too long: they seldom tell rows apart that other
    parents have, too.

    Args:
        sources: The parents.
        wanted: By number, how often the child has the row.
        most_key_bytes: See UnionItem.
        may_collapse: See UnionItem.
    """
    holders, held = np.zeros_like(wanted), np.zeros_like(wanted)
    for own in (source.counts(len(wanted)) for source in sources):
        holders += own > 0
        held += own
    is_set = may_collapse and wanted.max(initial=0) <= 1
    ways = (False, True) if is_set and (held[wanted > 0] > 1).any() else (False,)
    search = _Search(wanted=wanted, may_collapse=may_collapse, key_bytes=most_key_bytes)
    if failure := search.settle_own(sources, holders):
        return failure
    parts = Parts(reason="no query was tried")
    for key_bytes in dict.fromkeys((most_key_bytes,) if search.unruly else (0, most_key_bytes)):
        for collapse in ways:
            search.key_bytes, search.collapse = key_bytes, collapse
            parts = search.in_orders(sources)
            if not parts.reason:
                return parts
    return parts


TOO_MANY_KEYS = "lists of its keys would not be much smaller than it"


@dataclass(kw_only=True)
class _Search:
    """Looks for parts.

    Attributes:
        wanted: By number, how often the child has the row.
        may_collapse: Repeated rows may collapse within a part.
        key_bytes: What key lists may take together; with 0 none are looked for.
        collapse: Repeated rows collapse behind the parts.
        grown: Parents whose own rows take a tree.
        unruly: Parents whose part no predicate gives, whatever the others give.
        known: Queries by what they depend on: way, parent, the parents before it in any order, with key lists, and with
            trees.
    """

    wanted: Counts
    may_collapse: bool
    key_bytes: int
    collapse: bool = False
    grown: set[int] = field(default_factory=set)
    unruly: set[int] = field(default_factory=set)
    known: dict[tuple[bool, int, frozenset[int], bool, bool], Found] = field(default_factory=dict)

    def settle_own(self, sources: Sequence[UnionSource], holders: Counts) -> Parts | None:
        """Find the parents without a predicate; returns the failure, if it is certain already that there are no parts.

        Every part has to return the rows that no other parent has, and none of those that the child lacks.

        Args:
            sources: The parents.
            holders: By number, how many of them have the row.
        """
        asked = [source for source in sources if not source.is_inside]
        listed_bytes = 0
        for source in sorted(asked, key=lambda one: -int(self._own(one, holders).sum())):  # the longest list first
            own = self._own(source, holders)
            found = self._query(source, label_rows(source.numbers, own, free=(self.wanted > 0) & (own == 0)))
            if found.predicate and not is_short_box(found.predicate):
                self.grown.add(source.parent)
            if found.keys is not None:
                self.unruly.add(source.parent)
                listed_bytes += len(found.keys.content)
            reason = found.reason or (TOO_MANY_KEYS if listed_bytes > self.key_bytes else "")
            if reason:
                return Parts(reason=reason, failed=source)
        return None

    def _own(self, source: UnionSource, holders: Counts) -> Counts:
        """By number, how often a parent has the row, where the child needs it and no other parent has it."""
        own = source.counts(len(self.wanted))
        needed: Counts = own * ((holders == 1) & (self.wanted >= own))
        return needed

    def in_orders(self, sources: Sequence[UnionSource]) -> Parts:
        """Parts in the first order that gives any: a parent of which no part is found is asked last, then first."""
        order = sorted(sources, key=lambda source: not source.is_inside)
        tried: list[list[UnionSource]] = []
        failures: list[Parts] = []
        while order not in tried and len(tried) < MOST_ORDERS:
            tried.append(order)
            parts = self.in_order(order)
            if parts.failed is None:
                return parts
            failures.append(parts)
            rest = [source for source in order if source is not parts.failed]
            order = [parts.failed, *rest] if parts.failed is order[-1] else [*rest, parts.failed]
        return failures[0]

    def in_order(self, sources: Sequence[UnionSource]) -> Parts:
        """Parts of the parents in this order."""
        free_bytes = self.key_bytes
        needed = self.wanted
        parts = []
        for place, source in enumerate(sources):
            grown = source.parent in self.grown or not self.key_bytes
            found = self._found(source, sources[:place], needed, trees=grown)
            if not grown and _refusal(found, free_bytes):
                found = self._found(source, sources[:place], needed, trees=True)
            if reason := _refusal(found, free_bytes):
                return Parts(reason=reason, failed=source)
            if found.keys is not None:
                free_bytes -= len(found.keys.content)
            if found.kind:
                parts.append((source, found))
                own = source.counts(len(needed))
                needed = np.where(own > 0, 0, needed) if self.collapse else np.maximum(needed - own, 0)
        if needed.any():
            return Parts(reason="the parents have some of its rows less often than it does", failed=sources[-1])
        return Parts(of=parts, collapse=self.collapse)

    def _found(self, source: UnionSource, before: Sequence[UnionSource], needed: Counts, *, trees: bool) -> Found:
        parents = frozenset(other.parent for other in before)
        plain = self.known.get((self.collapse, source.parent, parents, False, True))
        with_keys = self.key_bytes > 0 and (plain is None or plain.reason != "")
        trees = trees or not with_keys or plain is not None or source.parent in self.unruly  # they change nothing then
        key = (self.collapse, source.parent, parents, with_keys, trees)
        if key not in self.known:
            # Where rows collapse, those that another part gives already may be given again.
            free = (self.wanted > 0) & (needed == 0) if self.collapse else None
            labels = label_rows(source.numbers, needed, one_is_enough=self.collapse, free=free)
            self.known[key] = self._query(source, labels, has_predicate=plain is None, trees=trees)
        return self.known[key]

    def _query(self, source: UnionSource, labels: Labels, *, has_predicate: bool = True, trees: bool = True) -> Found:
        """The query of the labelled rows; of kind '' and without a reason where none of them is needed.

        Args:
            source: Whose rows they are.
            labels: Of its rows.
            has_predicate: There may be a predicate for them: none was looked for in vain.
            trees: See `learn.learn`.
        """
        kinds = np.bincount(labels.labels, minlength=FREE)
        if not kinds[POSITIVE] + kinds[AMBIGUOUS]:
            return Found()
        if not kinds[NEGATIVE] + kinds[AMBIGUOUS]:
            return Found(kind="selection", predicate=((),))
        with source.table.labelled(labels) as rows:
            if not has_predicate and kinds[AMBIGUOUS]:
                rows.settle()
            if source.parent in self.unruly or not has_predicate:
                return find_key_query(rows, self.key_bytes, source.taken)
            found = find_query(rows, self.key_bytes, source.taken, trees=trees)
        if found.kind == "distinct" and not self.may_collapse:
            return Found(reason="engines do not agree which of its rows are the same")
        return found


def _refusal(found: Found, free_bytes: int) -> str:
    """Why a query cannot be a part, given what its key list may take; empty where it can."""
    if found.keys is not None and len(found.keys.content) > free_bytes:
        return TOO_MANY_KEYS
    return found.reason
