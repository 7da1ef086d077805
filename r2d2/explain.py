"""Why a table is contained in another one, or is not: read from the results of a finished audit and its evidence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.errors import UsageError
from r2d2.lake.inventory import Inventory, claims_of, read_inventory
from r2d2.model import Claim, LeafPath, SchemaClass, SchemaGraph, fold_path
from r2d2.prune.blocks import parent_places
from r2d2.prune.explain import Refutation, Rule, Side, page_refutation, refutations
from r2d2.prune.page_stage import read_page_refutation
from r2d2.prune.schema_graph import fits
from r2d2.scan.compare import Verdict
from r2d2.scan.plan import Pair, column_order
from r2d2.scan.stored import (
    GRAPH,
    MINHASH,
    MINMAX,
    PAGES,
    VERIFY,
    read_evidence,
    read_graph,
    read_identical,
    read_pairs,
    read_verdicts,
)
from r2d2.store.results import evidence_folder, read_results
from r2d2.store.stages import StageStore

_SHOWN = 5
_WRITER_CHARACTERS = 48


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What an audit found out about a pair.

    Attributes:
        child, parent: Table ids.
        verdict: `equal`, `contained`, `not contained` or `not judged`.
        stage: Which stage decided: `harvest`, `schema graph`, `min-max`, `MinHash` or `verify`.
        reasons: Sentences, complete without row values.
        values: For some reasons, by position, the values that they compare.
    """

    child: str
    parent: str
    verdict: str
    stage: str
    reasons: tuple[str, ...]
    values: Mapping[int, str] = field(default_factory=dict)

    def to_json(self, *, show_values: bool) -> dict[str, Any]:
        """The explanation for machines."""
        told = {name: getattr(self, name) for name in ("child", "parent", "verdict", "stage")}
        values = {"values": {str(place): text for place, text in self.values.items()}} if show_values else {}
        return {**told, "reasons": list(self.reasons), **values}


def explain_pair(out: str, child: str, parent: str) -> Explanation:
    """Why `child` is contained in `parent`, or why not, according to the finished audit in `out`.

    Raises:
        UsageError: If there is no finished audit, its evidence is gone, or it knows no such table.
    """
    tables, summary = read_results(out)
    for name in (child, parent):
        check_known(name, tables["tables"])
    if child == parent:
        raise UsageError("a table and itself: give two different tables")
    edge = _edge(tables["edges"], child, parent)
    if edge is not None:
        return Explanation(
            child=child, parent=parent, verdict=edge["relation"], stage=_stage_of(edge), reasons=_edge_reasons(edge)
        )
    unjudged = _unjudged(tables["tables"], child, parent)
    if unjudged:
        return Explanation(child=child, parent=parent, verdict="not judged", stage="harvest", reasons=unjudged)
    return _Finding(StageStore(None, evidence_folder(out, summary)), summary).explain(child, parent)


def check_known(name: str, tables: pa.Table) -> None:
    """Raise UsageError unless a table of that id was audited."""
    known = tables["table"].to_pylist()
    if name not in known:
        near = [other for other in known if name.lower() in other.lower()][:_SHOWN]
        hint = f"; similar: {', '.join(near)}" if near else ""
        raise UsageError(f"the audit knows no table {name!r}: give an id as in tables.parquet{hint}")


def _edge(edges: pa.Table, child: str, parent: str) -> dict[str, Any] | None:
    found = edges.filter(pc.and_(pc.equal(edges["child"], child), pc.equal(edges["parent"], parent))).to_pylist()
    return found[0] if found else None


def _stage_of(edge: Mapping[str, Any]) -> str:
    return "min-max" if edge["proof"] == "file-identity" else "verify"


def _edge_reasons(edge: Mapping[str, Any]) -> tuple[str, ...]:
    rows = f"{edge['child_rows']:,} rows, of the parent's {edge['parent_rows']:,}, over {len(edge['columns'])} columns"
    how = {
        "scan": f"every row was compared: {rows}",
        "file-identity": f"every file of the child is one of the parent's, with the same rows deleted or more: {rows}",
    }
    bag = (
        "each row occurs in the parent at least as often" if edge["bag"] else "some rows occur less often in the parent"
    )
    both = ("both tables hold the same rows equally often",)
    return (how.get(edge["proof"], rows), *(both if edge["relation"] == "equal" else (bag,)))


def _unjudged(tables: pa.Table, child: str, parent: str) -> tuple[str, ...]:
    rows = {row["table"]: row for row in tables.select(["table", "status", "reason"]).to_pylist()}
    return tuple(
        f"{name} is {rows[name]['status']}: {rows[name]['reason']}"
        for name in (child, parent)
        if rows[name]["status"] != "ok"
    )


class _Finding:
    """Finds the stage that refuted a pair, in the stored tables of an audit."""

    def __init__(self, store: StageStore, summary: Mapping[str, Any]) -> None:
        config = summary.get("config") or {}
        self._store = store
        self._inventory: Inventory = read_inventory(store, str(config.get("reader", "auto")))
        self._graph: SchemaGraph = read_graph(store, GRAPH, case_sensitive=bool(config.get("case_sensitive")))

    def explain(self, child: str, parent: str) -> Explanation:
        numbers = {found.id: found.table for found in self._inventory.found}
        stage, reasons, values = self._refuted(numbers[child], numbers[parent])
        verdict = "not contained" if stage != "verify" or reasons else "not judged"
        return Explanation(
            child=child, parent=parent, verdict=verdict, stage=stage, reasons=tuple(reasons), values=values
        )

    def _refuted(self, child: int, parent: int) -> tuple[str, list[str], dict[int, str]]:
        class_of = self._graph.class_of
        if child not in class_of or parent not in class_of:
            return "schema graph", ["one of them has no columns"], {}
        of_child, of_parent = class_of[child], class_of[parent]
        if not fits(of_child, of_parent):
            return "schema graph", [_lacking(of_child, of_parent)], {}
        pair = Pair(child=child, parent=parent, column_set=of_child.id)
        for stage, name in ((MINHASH, "MinHash"), (VERIFY, "verify")):
            verdict = read_verdicts(self._store, stage).get(pair)
            if verdict is not None and verdict.missing:
                return name, [_missing(verdict)], {}
        kept = [read_pairs(self._store, PAGES), read_pairs(self._store, MINMAX, name="sharing")]
        if any(pair in pairs for pairs in (*kept, read_identical(self._store, MINMAX))):
            return "verify", [], {}
        return "min-max", *self._by_metadata(pair, of_child, of_parent)

    def _by_metadata(
        self, pair: Pair, of_child: SchemaClass, of_parent: SchemaClass
    ) -> tuple[list[str], dict[int, str]]:
        evidence = read_evidence(self._store, MINMAX, {pair.child, pair.parent})
        sides = [
            Side(evidence=evidence[table], leaves=column_order(list(c.names)))
            for table, c in ((pair.child, of_child), (pair.parent, of_parent))
        ]
        found = refutations(sides[0], sides[1], parent_places(of_child, of_parent))
        of_pages = read_page_refutation(self._store, pair)
        if of_pages is not None:
            found.append(page_refutation(of_pages, sides[0]))
        claims = claims_of(self._store, self._inventory, [pair.child, pair.parent])
        names = self._file_names(pair.child)
        reasons = [_sentence(one, names, claims.get(pair.child, ()), claims.get(pair.parent, ())) for one in found]
        values = {
            place: one.child_value + ("" if one.parent_value is None else f" against {one.parent_value}")
            for place, one in enumerate(found)
            if one.child_value is not None
        }
        return reasons, values

    def _file_names(self, table: int) -> list[str]:
        home = self._inventory.found[table].uri.rstrip("/") + "/"
        uris = [fragment.stamp.uri for fragment in self._inventory.harvests[table].fragments]
        return [uri.removeprefix(home) if uri.startswith(home) else os.path.basename(uri) for uri in uris]


def _lacking(child: SchemaClass, parent: SchemaClass) -> str:
    exact = child.exact or parent.exact
    there = set(parent.names) if exact else {fold_path(path) for path in parent.names}
    lacking = sorted(path for path in child.names if (path if exact else fold_path(path)) not in there)
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return f"the parent lacks the columns {', '.join(map(_named, lacking[:_SHOWN]))}{more}"


def _named(path: LeafPath) -> str:
    return ".".join(f"`{name}`" for name in path)


def _missing(verdict: Verdict) -> str:
    return (
        f"of {verdict.distinct:,} distinct rows of the child that were looked at the parent lacks {verdict.missing:,}"
    )


_SENTENCES = {
    Rule.NO_ROWS: "the child has rows and the parent has none",
    Rule.TYPE: "column {leaf} holds values of type class {kinds[0]} in the child and {kinds[1]} in the parent",
    Rule.ONLY_NULLS: "column {leaf} has a value in the child and only NULLs in the parent",
    Rule.NULL: "column {leaf} has a NULL in the child{file} and none in the parent",
    Rule.NAN: "column {leaf} has a NaN in the child{file} and none in the parent",
    Rule.BELOW: "column {leaf}: the child{file} has a value below all values of the parent",
    Rule.ABOVE: "column {leaf}: the child{file} has a value above all values of the parent",
    Rule.BETWEEN: "column {leaf}: the child{file} has a value in none of the ranges of the parent's files",
    Rule.DICTIONARY: "column {leaf}: the child{file} has a value that the dictionaries of the parent's files lack",
    Rule.PAGES: "column {leaf}: the child{file} has a value in none of the ranges of the parent's pages",
    Rule.BOX: "no file of the parent can hold the rows of the child{file}: each differs from it in some column",
}


def _sentence(one: Refutation, files: Sequence[str], child: Sequence[Claim], parent: Sequence[Claim]) -> str:
    number = one.child_file
    file = f" (file {files[number]})" if number is not None and len(files) > 1 else ""
    said = _SENTENCES[one.rule].format(
        leaf=_named(one.leaf) if one.leaf else "", kinds=one.kinds or ("", ""), file=file
    )
    sources = [_sources(one.leaf, claims) for claims in (child, parent)] if one.leaf else []
    told = [f"{who}: {what}" for who, what in zip(("child", "parent"), sources, strict=False) if what]
    return f"{said} ({'; '.join(told)})" if told else said


def _sources(leaf: LeafPath | None, claims: Sequence[Claim]) -> str:
    """Who says so about a leaf."""
    found = {f"{c.source} by {_short(c.writer)}" if c.writer else c.source for c in claims if _is_same(c.leaf, leaf)}
    return ", ".join(sorted(found)[:2])


def _short(writer: str) -> str:
    return writer.split(" (", maxsplit=1)[0][:_WRITER_CHARACTERS]


def _is_same(path: LeafPath, other: LeafPath | None) -> bool:
    return other is not None and fold_path(path) == fold_path(other)
