"""Recipes of kind *union*: a table that comes back from several others, each with or without a predicate.

Where the parents hold exactly as many rows as the child, it is their concatenation. Otherwise one job searches the part
of each parent in the rows of all of them (`union_search`). Of tables that are too large for that, each parent that has
other rows too is cut to the bounds of the child, and where the child repeats no row, repeated ones collapse. The bounds
come from metadata: the child's rows lie within them; whether others do is found out by running the query.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from r2d2.lake.ignored import without_leaves
from r2d2.model import Edge, Harvest, LeafPath, Recipe, fold, fold_path, leaves, schema_to_bytes, spark_name
from r2d2.recipes.columns import Kind, PredicateColumn, predicate_columns
from r2d2.recipes.key_files import key_join
from r2d2.recipes.offer import Offer
from r2d2.recipes.predicates import Condition, spark_sql
from r2d2.recipes.search import Answer
from r2d2.recipes.selection import matching, most_key_bytes, query_of, too_large
from r2d2.recipes.sql import collapses, distinct_rows, no_rebuild_reason, select_list, setup_sql
from r2d2.recipes.stored import SEVERAL, Ends
from r2d2.recipes.union_search import UnionItem, UnionParent, search_unions
from r2d2.recipes.work import Kernel, Work, run_work, scan_items
from r2d2.scan.bag_sums import BagSum
from r2d2.scan.covers import OtherUnions, Union, read_unions
from r2d2.scan.evidence import Flag, number_of, of_table, unpack
from r2d2.scan.items import ColumnSet
from r2d2.scan.plan import column_order
from r2d2.scan.stored import MINMAX, read_evidence

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.recipes.rows import Load
    from r2d2.scan.duck import KernelLimits
    from r2d2.scan.rowhash import RowHasher

MOST_PARENTS = 64
"""Parents of one union whose parts are searched."""

MOST_COVERS = 3
"""Sets of parents that are tried for one child."""

SEARCHED_SHARE = 2
"""Times the bytes of the lake that are read at most to search the parts of all unions."""
OTHERS_SHARE = 0.125
"""The same for other sets of parents than the first, which help less often."""
LEAST_SEARCHED_BYTES = 64 << 20
"""This much is always read."""
TABLE_BYTES = 128 << 10
"""To search a table takes as long as to read this much more than it holds."""

_DAY_MICROSECONDS = 86_400_000_000

Bounds = Mapping[LeafPath, Mapping[str, Any]]
"""By folded leaf path: the row of `scan.evidence.ROWS` that speaks of the whole table."""


def offer_unions(run: StageRun, other_unions: OtherUnions) -> Offer:
    """A recipe of each union that the audit has found, or the reason why it has none.

    Where a parent stands in the way, other tables are tried that hold the child together without it. The reason is that
    of the union that was found.
    """
    tried = [_try(run, _active_unions(run), _Room.of(run, SEARCHED_SHARE))]
    room = _Room.of(run, OTHERS_SHARE)
    without: dict[int, set[int]] = defaultdict(set)
    while tried[-1].unfit and len(tried) < MOST_COVERS:
        asked = _affordable(run, list(tried[-1].unfit), replace(room))
        for union in asked:
            without[union.child].add(tried[-1].unfit[union])
        others = other_unions({union.child: without[union.child] for union in asked})
        tried.append(_try(run, others, room))
    reasons: dict[Ends, str] = {}
    for one in reversed(tried):
        reasons |= {(child, SEVERAL): reason for child, reason in one.reasons.items()}
    return Offer(
        recipes=[recipe for one in tried for recipe in one.recipes],
        reasons=reasons,
        sums={child: rows for one in tried for child, rows in one.sums.items()},
        bytes_read=sum(one.bytes_read for one in tried),
    )


@dataclass(kw_only=True)
class _Room:
    """How many bytes may still be read."""

    bytes: int

    @classmethod
    def of(cls, run: StageRun, share: float) -> _Room:
        lake = sum(harvest.table_bytes for _, harvest in run.inventory.active())
        return cls(bytes=max(LEAST_SEARCHED_BYTES, int(share * lake)))


@dataclass(kw_only=True)
class _Tried:
    """What came of some unions.

    Attributes:
        recipes: Unchecked, of some children.
        reasons: By child, why there is none.
        unfit: By union, the parent without which there may be one.
        sums: By child, of its rows where they were read.
        bytes_read: To find the recipes.
    """

    recipes: list[Recipe] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    unfit: dict[Union, int] = field(default_factory=dict)
    sums: dict[int, BagSum] = field(default_factory=dict)
    bytes_read: int = 0

    def refuse(self, union: Union, reason: str, unfit: int | None = None) -> None:
        self.reasons[union.child] = reason
        if unfit is not None:
            self.unfit[union] = unfit


def _try(run: StageRun, unions: Sequence[Union], room: _Room) -> _Tried:
    """Recipes of unions, the cheapest kind first."""
    tried = _Tried()
    searched: list[Union] = []
    bounded: dict[Union, str] = {}
    for union in unions:
        if refused := _no_union_reason(run, union):
            tried.refuse(union, *refused)
        elif _is_plain(union):
            parts = [_Part(parent=parent) for parent in union.parents]
            tried.recipes.append(_recipe(run, union, parts, collapse=False))
        elif reason := _why_not_searched(run, union):
            bounded[union] = reason
        else:
            searched.append(union)
    affordable = _affordable(run, searched, room)
    for union in searched:
        if union not in affordable:
            tried.refuse(union, "the unions of this lake are too many for the parts of all to be searched")
    _search(run, affordable, tried)
    _stay_within_bounds(run, bounded, tried)
    return tried


def _active_unions(run: StageRun) -> list[Union]:
    return [
        union
        for union in read_unions(run.store)
        if union.child not in run.ignored and all(map(run.inventory.is_active, union.tables))
    ]


def _is_plain(union: Union) -> bool:
    """Whether the parents put together are the child."""
    return union.bag and sum(union.parent_rows) == union.child_rows


def _no_union_reason(run: StageRun, union: Union) -> tuple[str, int | None] | None:
    """Why no query over the parents can give the child back, and the parent that is to blame; None where one may."""
    if not union.bag:
        return "the child repeats rows that the parents have less often", None
    names = [fold(run.inventory.found[table].id) for table in union.tables]
    for parent, name in zip(union.parents, names[1:], strict=True):
        if names.count(name) > 1:
            return "the names of two of the tables differ only by case", parent
        if reason := _edge_reason(run, union, parent):
            return _about(run, parent, reason), parent
    return None


def _about(run: StageRun, parent: int, reason: str) -> str:
    return f"{reason} (parent `{run.inventory.found[parent].id}`)"


def _why_not_searched(run: StageRun, union: Union) -> str | None:
    """Why the parts of a union are not searched; None where they are."""
    if len(union.parents) > MOST_PARENTS:
        return f"there are more than {MOST_PARENTS} parents, whose parts are not searched"
    return too_large([run.inventory.harvests[table] for table in union.tables], sum(union.parent_rows))


def _affordable(run: StageRun, unions: Sequence[Union], room: _Room) -> list[Union]:
    """The unions whose parts are searched: those that read least for what they save, until there is no room."""
    harvests = run.inventory.harvests
    cost = {union: sum(harvests[table].table_bytes + TABLE_BYTES for table in union.tables) for union in unions}
    kept = set()
    for union in sorted(unions, key=lambda union: (cost[union] / (1 + harvests[union.child].table_bytes), union.child)):
        room.bytes -= cost[union]
        if room.bytes >= 0:
            kept.add(union)
    return [union for union in unions if union in kept]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a query takes of one parent.

    Attributes:
        parent: Its position.
        kind: `selection`, or `distinct` where repeated rows of the part collapse.
        source: SQL of the parent's rows that are taken; empty for all.
        setup: What it needs besides the parent.
        stored_bytes: Of its key list.
    """

    parent: int
    kind: str = "selection"
    source: str = ""
    setup: tuple[str, ...] = ()
    stored_bytes: int = 0


def _recipe(run: StageRun, union: Union, parts: Sequence[_Part], *, collapse: bool) -> Recipe:
    found, harvests = run.inventory.found, run.inventory.harvests
    child = harvests[union.child]
    selects = [
        query_of(
            part.kind,
            child.schema,
            f"{select_list(child, harvests[part.parent])} FROM {part.source or spark_name(found[part.parent].id)}",
        )
        for part in parts
    ]
    together = " UNION ALL ".join(selects)
    setup = [setup_sql(found[part.parent], harvests[part.parent]) for part in parts]
    stored_bytes = sum(part.stored_bytes for part in parts)
    return Recipe(
        child=union.child,
        parents=tuple(part.parent for part in parts),
        kind="union",
        setup_sql=tuple(dict.fromkeys((*setup, *(text for part in parts for text in part.setup)))),
        recipe_sql=distinct_rows(child.schema, together) if collapse else together,
        read_bytes=sum(harvests[part.parent].table_bytes for part in parts) + stored_bytes,
        stored_bytes=stored_bytes,
    )


# --- parts that are searched ------------------------------------------------------------------------------------------


def _search(run: StageRun, unions: Sequence[Union], tried: _Tried) -> None:
    """Add the recipes of unions whose parts are found in their rows, and why the others have none."""
    harvests = run.inventory.harvests
    work = [
        Work(
            text=_item(run, union).to_json(),
            cost=sum(harvests[table].table_bytes + (1 << 20) for table in union.tables),
            by_engine=tuple(table for table in union.tables if harvests[table].reader != "files"),
        )
        for union in unions
    ]
    answers: dict[int, list[Answer]] = {union.child: [] for union in unions}
    for answer in run_work(run, work, _searcher(run.kernels.hasher, run.kernels.limits)):
        answers[answer.child].append(answer)
    for union in unions:
        whole, *parts = sorted(answers[union.child], key=lambda answer: answer.parent)
        if whole.bag is not None:
            tried.sums[union.child] = whole.bag
        if whole.kind:
            found = [_part(run, answer) for answer in parts]
            tried.recipes.append(_recipe(run, union, found, collapse=whole.kind == "distinct"))
        else:
            tried.refuse(union, whole.reason, *(answer.parent for answer in parts))
    tried.bytes_read += sum(harvests[table].table_bytes for union in unions for table in union.tables)


def _searcher(hasher: RowHasher, limits: KernelLimits) -> Kernel:
    def searched(texts: Sequence[str], load: Load) -> Iterable[Answer]:
        return search_unions(list(map(UnionItem.from_json, texts)), hasher, limits, load)

    return searched


def _item(run: StageRun, union: Union) -> UnionItem:
    child = run.inventory.harvests[union.child]
    columns = column_order([path for path, _ in leaves(child.schema)])
    return UnionItem(
        child=union.child,
        items=scan_items(union.child, child, (ColumnSet(id=0, paths=columns),)),
        parents=tuple(
            _parent(run, parent, columns, is_inside=not outside)
            for parent, outside in zip(union.parents, union.outside, strict=True)
        ),
        may_collapse=collapses(child.schema),
        most_key_bytes=most_key_bytes(run, child),
    )


def _parent(run: StageRun, parent: int, columns: Sequence[LeafPath], *, is_inside: bool) -> UnionParent:
    harvest = run.inventory.harvests[parent]
    paths = matching(run, columns, [path for path, _ in leaves(harvest.schema)])
    return UnionParent(
        parent=parent,
        items=scan_items(parent, harvest, (ColumnSet(id=0, paths=paths),)),
        schema=schema_to_bytes(harvest.schema),
        shared=paths,
        is_inside=is_inside,
    )


def _part(run: StageRun, answer: Answer) -> _Part:
    """What an answer says to take of its parent; a key list is written to its file."""
    name = spark_name(run.inventory.found[answer.parent].id)
    if answer.keys is not None:
        view, source = key_join(run, answer.keys, name)
        return _Part(parent=answer.parent, source=source, setup=(view,), stored_bytes=len(answer.keys.content))
    source = f"{name} WHERE {answer.where}" if answer.where else ""
    return _Part(parent=answer.parent, kind=answer.kind, source=source)


# --- parts within the child's bounds ----------------------------------------------------------------------------------


def _stay_within_bounds(run: StageRun, unions: Mapping[Union, str], tried: _Tried) -> None:
    """Add the recipes that metadata alone suggests; with each union comes why its parts were not searched."""
    tables = {table for union in unions for table in union.tables}
    evidence = read_evidence(run.store, MINMAX, tables) if tables else {}
    compared = {t: without_leaves(run.inventory.harvests[t], run.ignored.get(t, ())) for t in sorted(tables)}
    bounds = {table: _bounds(harvest, evidence[table]) for table, harvest in compared.items()}
    for union, reason in unions.items():
        recipe = _bounded(run, union, bounds)
        if isinstance(recipe, Recipe):
            tried.recipes.append(recipe)
        else:
            tried.refuse(union, reason, recipe)


def _bounds(harvest: Harvest, packed: bytes) -> Bounds:
    paths = column_order([path for path, _ in leaves(harvest.schema)])
    rows = unpack(of_table(packed)).to_pylist()
    return {fold_path(path): row for path, row in zip(paths, rows, strict=True)}


def _bounded(run: StageRun, union: Union, bounds: Mapping[int, Bounds]) -> Recipe | int:
    """The child's bounds of each parent, or a parent with other rows that goes beyond them in no column."""
    parts = []
    for parent, outside in zip(union.parents, union.outside, strict=True):
        condition = _condition(run.inventory.harvests, union.child, parent, bounds) if outside else ""
        if condition is None:
            return parent
        name = spark_name(run.inventory.found[parent].id)
        parts.append(_Part(parent=parent, source=f"{name} WHERE {condition}" if condition else ""))
    is_set = union.distinct == union.child_rows and collapses(run.inventory.harvests[union.child].schema)
    return _recipe(run, union, parts, collapse=is_set)


def _edge_reason(run: StageRun, union: Union, parent: int) -> str | None:
    """Why one parent may not be read for the child's rows."""
    found, harvests = run.inventory.found, run.inventory.harvests
    part = Edge(
        child=union.child,
        parent=parent,
        relation="contained",
        bag=True,
        set=True,
        child_rows=union.child_rows,
        parent_rows=union.child_rows,
        columns=(),
    )
    return no_rebuild_reason(part, found[union.child], found[parent], harvests[union.child], harvests[parent])


def _condition(harvests: Mapping[int, Harvest], child: int, parent: int, bounds: Mapping[int, Bounds]) -> str | None:
    """The bounds of the child in the columns in which the parent goes beyond them; None where it does in none."""
    paths = [path for path, _ in leaves(harvests[child].schema)]
    columns = predicate_columns(harvests[parent].schema, paths)
    box = tuple(
        condition
        for place, column in enumerate(columns)
        if column.shared
        if (condition := _bound(place, column, bounds[child], bounds[parent])) is not None
    )
    return spark_sql((box,), columns) if box else None


def _bound(place: int, column: PredicateColumn, of_child: Bounds, of_parent: Bounds) -> Condition | None:
    mine, its = of_child[fold_path(column.path)], of_parent[fold_path(column.path)]
    if mine["kind"] != its["kind"] or not mine["flags"] & int(Flag.MAY_VALUE):
        return None
    low = _stored(mine["low"], column) if _is_beyond(its["low"], mine["low"], -1) else None
    high = _stored(mine["high"], column) if _is_beyond(its["high"], mine["high"], 1) else None
    null = bool(mine["flags"] & int(Flag.MAY_NULL))
    if low is None and high is None and (null or not its["flags"] & int(Flag.MAY_NULL)):
        return None
    nan = column.kind.is_float and bool(mine["flags"] & int(Flag.MAY_NAN))
    return Condition(column=place, ranges=((low, high),), null=null, nan=nan)


def _is_beyond(its: bytes | None, mine: bytes | None, side: int) -> bool:
    """Whether the parent may have values on one side of the child's: before the least (-1) or after the greatest."""
    if mine is None:
        return False
    return its is None or (its < mine if side < 0 else its > mine)


def _stored(key: bytes, column: PredicateColumn) -> Any:
    """A bound as a stored value of the column; None where it has no literal. Outer bounds stay outside."""
    if column.kind is Kind.TEXT:
        value: Any = _text(key)
    elif column.kind is Kind.BYTES:
        value = key.hex().upper()
    else:
        value = _number(number_of(key), column)
    return value if value is not None and column.has_literal(value) else None


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _number(number: Decimal, column: PredicateColumn) -> Any:
    if column.kind is Kind.DECIMAL:
        return number
    if column.kind.is_float:
        return float(number) if Decimal(float(number)) == number else None
    if column.kind is Kind.BOOLEAN or number != int(number):
        return None
    if column.kind is Kind.DATE:
        return int(number) // _DAY_MICROSECONDS if number % _DAY_MICROSECONDS == 0 else None
    return int(number)
