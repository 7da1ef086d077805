"""The steps that look at rows: one job searches queries over parents that return a part of their rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from r2d2.model import (
    Edge,
    Harvest,
    LeafPath,
    Recipe,
    is_case_sensitive,
    leaf_key,
    leaf_path,
    leaves,
    schema_to_bytes,
    spark_ddl,
    spark_name,
)
from r2d2.recipes.key_files import keeps_keys, key_join
from r2d2.recipes.keys import KeyList
from r2d2.recipes.offer import Offer
from r2d2.recipes.search import Answer, ChildWork, SearchItem, search
from r2d2.recipes.sql import collapses, distinct_rows, no_rebuild_reason, select_list, setup_sql
from r2d2.recipes.stars import equal_classes
from r2d2.recipes.stored import Ends
from r2d2.scan.duck import KernelLimits
from r2d2.scan.items import ColumnSet, ScanItem
from r2d2.scan.plan import Buckets, TableScan, deal, items_of, matching_paths
from r2d2.scan.rowhash import RowHasher
from r2d2.session import engine_errors

if TYPE_CHECKING:
    from r2d2.lake.run import StageRun

MAX_SEARCH_BYTES = 1 << 30
"""Stored bytes of parent and child together, above which no query is searched."""
MAX_SEARCH_ROWS = 50_000_000
"""Rows of the parent, above which no query is searched."""
ITEM_CHILDREN = 16
"""Children of one parent in one work item."""
KEY_SHARE = 4
"""A key list has at most this part of the child's bytes."""
MAX_KEY_BYTES = 32 << 20

ANSWERS = pa.schema(
    [
        ("child", pa.int32()),
        ("parent", pa.int32()),
        ("kind", pa.string()),
        ("condition", pa.string()),
        ("keys", pa.string()),  # the listed leaves, as a JSON list of their keys
        ("content", pa.binary()),
        ("reason", pa.string()),
    ]
)
"""No NULLs, which not every engine hands over from a kernel alike."""


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
    for answer in _run(run, items):
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
        bytes_read=sum(map(_bytes_of, items)),
    )


def why_not_searched(run: StageRun, edge: Edge) -> str | None:
    """Why no query is searched for an edge; empty where an earlier step has said so, None where one is."""
    found, harvests = run.inventory.found, run.inventory.harvests
    child, parent = harvests[edge.child], harvests[edge.parent]
    if edge.child_rows in (0, edge.parent_rows):
        return ""
    if no_rebuild_reason(edge, found[edge.child], found[edge.parent], child, parent) is not None:
        return ""
    for harvest, which in ((child, "child"), (parent, "parent")):
        if harvest.reader != "files":
            return f"the {which} is read by the engine's reader, and predicates are searched in files only"
    if child.table_bytes + parent.table_bytes > MAX_SEARCH_BYTES or edge.parent_rows > MAX_SEARCH_ROWS:
        return (
            f"the tables are too large to be searched: above {MAX_SEARCH_BYTES >> 30} GiB, or {MAX_SEARCH_ROWS:,} rows"
        )
    return None


def search_items(run: StageRun, edges: Sequence[Edge]) -> list[SearchItem]:
    """The work: a parent with up to ITEM_CHILDREN of its children."""
    by_parent: dict[int, list[Edge]] = {}
    for edge in sorted(edges, key=lambda edge: (edge.parent, edge.child)):
        by_parent.setdefault(edge.parent, []).append(edge)
    return [
        _item(run, parent, own[start : start + ITEM_CHILDREN])
        for parent, own in by_parent.items()
        for start in range(0, len(own), ITEM_CHILDREN)
    ]


def _item(run: StageRun, parent: int, edges: Sequence[Edge]) -> SearchItem:
    harvest = run.inventory.harvests[parent]
    paths = [path for path, _ in leaves(harvest.schema)]
    numbers = {columns: number for number, columns in enumerate(dict.fromkeys(edge.columns for edge in edges))}
    matched = {columns: _matching(run, columns, paths) for columns in numbers}
    sets = tuple(ColumnSet(id=number, paths=matched[columns]) for columns, number in numbers.items())
    return SearchItem(
        parent=parent,
        items=_scan_items(parent, harvest, sets),
        schema=schema_to_bytes(harvest.schema),
        shared=tuple(dict.fromkeys(path for own in matched.values() for path in own)),
        children=tuple(_work(run, edge, numbers[edge.columns]) for edge in edges),
    )


def _matching(run: StageRun, columns: Sequence[LeafPath], paths: Sequence[LeafPath]) -> tuple[LeafPath, ...]:
    exact = run.config.case_sensitive or is_case_sensitive(list(paths))
    return matching_paths(columns, paths, exact=exact)


def _work(run: StageRun, edge: Edge, number: int) -> ChildWork:
    harvest = run.inventory.harvests[edge.child]
    return ChildWork(
        child=edge.child,
        column_set=number,
        items=_scan_items(edge.child, harvest, (ColumnSet(id=number, paths=edge.columns),)),
        most_key_bytes=min(MAX_KEY_BYTES, harvest.table_bytes // KEY_SHARE) if keeps_keys(run) else 0,
    )


def _scan_items(table: int, harvest: Harvest, sets: tuple[ColumnSet, ...]) -> tuple[ScanItem, ...]:
    return tuple(items_of(TableScan(table=table, harvest=harvest, column_sets=sets), Buckets(first=0, count=1)))


def _bytes_of(item: SearchItem) -> int:
    scans = (*item.items, *(scan for work in item.children for scan in work.items))
    return sum(file.stamp.size for scan in scans for file in scan.files)


# --- the job ----------------------------------------------------------------------------------------------------------


def _run(run: StageRun, items: Sequence[SearchItem]) -> list[Answer]:
    """The answers to all items, in one job."""
    if not items:
        return []
    dealt = deal([_bytes_of(item) + (1 << 20) * len(item.children) for item in items], 4 * run.kernels.parallelism)
    bins = [[items[place].to_json() for place in places] for places in dealt]
    work = run.engine.spark.createDataFrame(pa.table({"items": pa.array(bins, pa.list_(pa.string()))}))
    kernel = _searcher(run.kernels.hasher, run.kernels.limits)
    with engine_errors():
        rows = work.repartition(len(bins)).mapInArrow(kernel, spark_ddl(ANSWERS)).toArrow()
    return sorted(map(_answer_of, rows.to_pylist()), key=lambda answer: (answer.child, answer.parent))


def _searcher(
    hasher: RowHasher, limits: KernelLimits
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def searched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for text in (text for texts in batch.column(0).to_pylist() for text in texts):
                for answer in search(SearchItem.from_json(text), hasher, limits):
                    yield pa.RecordBatch.from_pylist([_row(answer)], schema=ANSWERS)

    return searched


def _row(answer: Answer) -> dict[str, object]:
    keys = answer.keys
    return {
        "child": answer.child,
        "parent": answer.parent,
        "kind": answer.kind,
        "condition": answer.where,
        "keys": json.dumps([leaf_key(path) for path in keys.paths] if keys else []),
        "content": keys.content if keys else b"",
        "reason": answer.reason,
    }


def _answer_of(row: Mapping[str, object]) -> Answer:
    paths = tuple(leaf_path(key) for key in json.loads(str(row["keys"])))
    content = row["content"]
    return Answer(
        child=int(str(row["child"])),
        parent=int(str(row["parent"])),
        kind=str(row["kind"]),
        where=str(row["condition"]),
        keys=KeyList(paths=paths, content=content) if paths and isinstance(content, bytes) else None,
        reason=str(row["reason"]),
    )


# --- the recipes ------------------------------------------------------------------------------------------------------


def recipe_of(run: StageRun, edge: Edge, answer: Answer) -> Recipe:
    """The recipe of an answer; a key list is written to its file."""
    found, harvests = run.inventory.found, run.inventory.harvests
    child, parent = harvests[edge.child], harvests[edge.parent]
    name = spark_name(found[edge.parent].id)
    setup = [setup_sql(found[edge.parent], parent)]
    tail = f" WHERE {answer.where}" if answer.where else ""
    stored = 0
    if answer.keys is not None:
        view, tail = key_join(run, answer.keys)
        setup.append(view)
        stored = len(answer.keys.content)
    return Recipe(
        child=edge.child,
        parents=(edge.parent,),
        kind=answer.kind,
        setup_sql=tuple(setup),
        recipe_sql=_query(answer.kind, child.schema, f"{select_list(child, parent)} FROM {name}{tail}"),
        read_bytes=parent.table_bytes + stored,
        stored_bytes=stored,
    )


def _query(kind: str, schema: pa.Schema, selected: str) -> str:
    if kind != "distinct":
        return f"SELECT {selected}"
    has_floats = any(pa.types.is_floating(column.type) for column in schema)
    return distinct_rows(schema, f"SELECT {selected}") if has_floats else f"SELECT DISTINCT {selected}"
