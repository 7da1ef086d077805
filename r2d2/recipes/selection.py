"""The steps that look at rows: one job searches queries over parents that return a part of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import (
    Edge,
    Harvest,
    LeafPath,
    Recipe,
    is_case_sensitive,
    leaves,
    schema_to_bytes,
    spark_name,
)
from r2d2.recipes.key_files import keeps_keys, key_join
from r2d2.recipes.offer import Offer
from r2d2.recipes.search import Answer, ChildWork, SearchItem, search
from r2d2.recipes.sql import collapses, distinct_rows, no_rebuild_reason, select_list, setup_sql
from r2d2.recipes.stars import equal_classes
from r2d2.recipes.stored import Ends
from r2d2.recipes.work import Kernel, Work, run_work, scan_items
from r2d2.scan.items import ColumnSet
from r2d2.scan.plan import column_order, matching_paths

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun
    from r2d2.recipes.rows import Load

MAX_SEARCH_BYTES = 1 << 30
"""Stored bytes of parent and child together, above which no query is searched."""
MAX_SEARCH_ROWS = 50_000_000
"""Rows of the parent, above which no query is searched."""
ITEM_CHILDREN = 16
"""Children of one parent in one work item in any case, if it has so many."""
ITEM_SETS = 8
"""Column sets of an item with more: the parent's fingerprints under all of them are held at once."""
KEY_SHARE = 4
"""A key list has at most this part of the child's bytes."""
MAX_KEY_BYTES = 32 << 20

ENGINE_BYTES = 256 << 20
"""The same as MAX_SEARCH_BYTES where the engine reads one of them: a task holds their rows, compressed."""


def search_queries(run: StageRun, edges: Sequence[Edge]) -> Offer:
    """Queries of the kinds distinct, selection and key list, searched in the rows of some edges' tables.

    Equal children of one parent are searched once, and the query serves all of them.
    """
    reasons: dict[Ends, str] = {}
    groups: dict[Ends, list[Edge]] = {}
    first_of = {table: members[0] for members in equal_classes(edges) for table in members}
    for edge in edges:
        reason = why_not_searched(run, edge)
        if reason is None:
            groups.setdefault((first_of.get(edge.child, edge.child), edge.parent), []).append(edge)
        elif reason:
            reasons[edge.child, edge.parent] = reason
    asked = {(own[0].child, own[0].parent): own for own in groups.values()}
    items = search_items(run, [own[0] for own in asked.values()])
    recipes: list[Recipe] = []
    answers = run_work(run, [_work_of(run, item) for item in items], _searcher(run))
    for answer in answers:
        for edge in asked[answer.child, answer.parent]:
            if answer.kind == "distinct" and not collapses(run.inventory.harvests[edge.child].schema):
                reasons[edge.child, edge.parent] = "engines do not agree which of its rows are the same"
            elif answer.kind:
                recipes.append(recipe_of(run, edge, answer))
            else:
                reasons[edge.child, edge.parent] = answer.reason
    return Offer(
        recipes=[recipe for recipe in recipes if recipe.kind != "key_list"],
        last=[recipe for recipe in recipes if recipe.kind == "key_list"],
        reasons=reasons,
        sums={
            answer.child: answer.bag
            for answer in answers
            if answer.bag is not None and _are_all(run, asked[answer.child, answer.parent][0])
        },
        bytes_read=sum(_bytes_of(run, item) for item in items),
    )


def _are_all(run: StageRun, edge: Edge) -> bool:
    """Whether the columns of an edge are all of the child's, in the order in which a recipe's rows are hashed."""
    return edge.columns == column_order([path for path, _ in leaves(run.inventory.harvests[edge.child].schema)])


def why_not_searched(run: StageRun, edge: Edge) -> str | None:
    """Why no query is searched for an edge; empty where an earlier step has said so, None where one is."""
    found, harvests = run.inventory.found, run.inventory.harvests
    child, parent = harvests[edge.child], harvests[edge.parent]
    if edge.child_rows in (0, edge.parent_rows):
        return ""
    if no_rebuild_reason(edge, found[edge.child], found[edge.parent], child, parent) is not None:
        return ""
    return too_large((child, parent), edge.parent_rows)


def too_large(harvests: Sequence[Harvest], parent_rows: int) -> str | None:
    """Why some tables are too large to be searched together; None where they are not."""
    if sum(harvest.table_bytes for harvest in harvests) > MAX_SEARCH_BYTES or parent_rows > MAX_SEARCH_ROWS:
        return (
            f"the tables are too large to be searched: above {MAX_SEARCH_BYTES >> 30} GiB, or {MAX_SEARCH_ROWS:,} rows"
        )
    by_engine = any(harvest.reader != "files" for harvest in harvests)
    if by_engine and sum(harvest.table_bytes for harvest in harvests) > ENGINE_BYTES:
        return f"the engine's reader reads the tables, which are too large for that: above {ENGINE_BYTES >> 20} MiB"
    return None


def search_items(run: StageRun, edges: Sequence[Edge]) -> list[SearchItem]:
    """The work: a parent with ITEM_CHILDREN of its children, with more where these are small beside it."""
    by_parent: dict[int, list[Edge]] = {}
    for edge in sorted(edges, key=lambda edge: (edge.parent, edge.columns, edge.child)):
        by_parent.setdefault(edge.parent, []).append(edge)
    return [_item(run, parent, part) for parent, own in by_parent.items() for part in _parts(run, parent, own)]


def _parts(run: StageRun, parent: int, edges: Sequence[Edge]) -> Iterator[Sequence[Edge]]:
    """The work on a parent for one kernel each: to load it may cost more than to search it for many small children."""
    sizes = {edge.child: run.inventory.harvests[edge.child].table_bytes for edge in edges}
    most = min(run.inventory.harvests[parent].table_bytes, sum(sizes.values())) / run.kernels.parallelism
    part: list[Edge] = []
    held = 0
    for edge in edges:
        sets = {own.columns for own in part} | {edge.columns}
        if len(part) >= ITEM_CHILDREN and (held + sizes[edge.child] > most or len(sets) > ITEM_SETS):
            yield part
            part, held = [], 0
        part.append(edge)
        held += sizes[edge.child]
    yield part


def _item(run: StageRun, parent: int, edges: Sequence[Edge]) -> SearchItem:
    harvest = run.inventory.harvests[parent]
    paths = [path for path, _ in leaves(harvest.schema)]
    numbers = {columns: number for number, columns in enumerate(dict.fromkeys(edge.columns for edge in edges))}
    matched = {columns: matching(run, columns, paths) for columns in numbers}
    sets = tuple(ColumnSet(id=number, paths=matched[columns]) for columns, number in numbers.items())
    return SearchItem(
        parent=parent,
        items=scan_items(parent, harvest, sets),
        schema=schema_to_bytes(harvest.schema),
        shared=tuple(dict.fromkeys(path for own in matched.values() for path in own)),
        children=tuple(_work(run, edge, numbers[edge.columns]) for edge in edges),
    )


def matching(run: StageRun, columns: Sequence[LeafPath], paths: Sequence[LeafPath]) -> tuple[LeafPath, ...]:
    """The leaves of a parent that have the names of some columns of a child."""
    exact = run.config.case_sensitive or is_case_sensitive(list(paths))
    return matching_paths(columns, paths, exact=exact)


def _work(run: StageRun, edge: Edge, number: int) -> ChildWork:
    harvest = run.inventory.harvests[edge.child]
    return ChildWork(
        child=edge.child,
        column_set=number,
        items=scan_items(edge.child, harvest, (ColumnSet(id=number, paths=edge.columns),)),
        most_key_bytes=most_key_bytes(run, harvest),
    )


def most_key_bytes(run: StageRun, child: Harvest) -> int:
    """What key lists of a child may take."""
    return min(MAX_KEY_BYTES, child.table_bytes // KEY_SHARE) if keeps_keys(run) else 0


def _work_of(run: StageRun, item: SearchItem) -> Work:
    tables = (item.parent, *(work.child for work in item.children))
    return Work(
        text=item.to_json(),
        cost=_bytes_of(run, item) + (1 << 20) * len(item.children),
        by_engine=tuple(table for table in tables if run.inventory.harvests[table].reader != "files"),
    )


def _bytes_of(run: StageRun, item: SearchItem) -> int:
    tables = (item.parent, *(work.child for work in item.children))
    return sum(run.inventory.harvests[table].table_bytes for table in tables)


def _searcher(run: StageRun) -> Kernel:
    hasher, limits = run.kernels.hasher, run.kernels.limits

    def searched(texts: Sequence[str], load: Load) -> Iterable[Answer]:
        return search(list(map(SearchItem.from_json, texts)), hasher, limits, load)

    return searched


# --- the recipes ------------------------------------------------------------------------------------------------------


def recipe_of(run: StageRun, edge: Edge, answer: Answer) -> Recipe:
    """The recipe of an answer; a key list is written to its file."""
    found, harvests = run.inventory.found, run.inventory.harvests
    child, parent = harvests[edge.child], harvests[edge.parent]
    name = spark_name(found[edge.parent].id)
    setup = [setup_sql(found[edge.parent], parent)]
    source = f"{name} WHERE {answer.where}" if answer.where else name
    stored = 0
    if answer.keys is not None:
        view, source = key_join(run, answer.keys, name)
        setup.append(view)
        stored = len(answer.keys.content)
    return Recipe(
        child=edge.child,
        parents=(edge.parent,),
        kind=answer.kind,
        setup_sql=tuple(setup),
        recipe_sql=query_of(answer.kind, child.schema, f"{select_list(child, parent)} FROM {source}"),
        read_bytes=parent.table_bytes + stored,
        stored_bytes=stored,
    )


def query_of(kind: str, schema: pa.Schema, selected: str) -> str:
    """The query of a kind that selects something."""
    if kind != "distinct":
        return f"SELECT {selected}"
    has_floats = any(pa.types.is_floating(column.type) for column in schema)
    return distinct_rows(schema, f"SELECT {selected}") if has_floats else f"SELECT DISTINCT {selected}"
