"""Why metadata refutes a pair: the rule, the column, the file and the direction, with the values kept apart."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from r2d2.model import LeafPath, TypeClass
from r2d2.prune.boxes import file_verdict, has_files
from r2d2.prune.minmax import Tables, tables_of
from r2d2.prune.page_rule import PageRefutation
from r2d2.scan.evidence import KINDS, WHOLE, Flag, number_of, unpack
from r2d2.scan.footer.pages import Source

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_KIND_OF = {number: kind for kind, number in KINDS.items()}


class Rule(StrEnum):
    """Why a pair is refuted."""

    NO_ROWS = "no rows"  # the parent has none, the child has
    TYPE = "type"  # values of classes that are never equal
    ONLY_NULLS = "only nulls"  # a value, where the parent has only NULLs
    NULL = "null"  # a NULL, where the parent has none
    NAN = "nan"
    BELOW = "below"  # a value below all values of the parent
    ABOVE = "above"
    BETWEEN = "between"  # a value in none of the ranges of the parent's files
    BOX = "box"  # a file of the child meets no file of the parent in all columns
    DICTIONARY = "dictionary"  # a value that no dictionary of the parent's files has
    PAGES = "pages"  # a value in none of the ranges of the pages, or row groups, of the parent's files


@dataclass(frozen=True, kw_only=True)
class Refutation:
    """One reason, complete in itself.

    Attributes:
        rule: Why.
        leaf: The column; None where it takes all of them.
        child_file: Position of the child's file that shows it, or None.
        kinds: Type classes of the column in child and parent, where they matter.
        child_value, parent_value: The ends that are compared. These are values of rows: only for who asks.
    """

    rule: Rule
    leaf: LeafPath | None = None
    child_file: int | None = None
    kinds: tuple[TypeClass, TypeClass] | None = None
    child_value: str | None = None
    parent_value: str | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """A table of a pair: its evidence as stored, and its leaves in that order."""

    evidence: bytes
    leaves: Sequence[LeafPath]


def refutations(child: Side, parent: Side, parent_leaf: Sequence[int]) -> list[Refutation]:
    """All reasons for which metadata refutes a pair; none if it keeps it.

    Args:
        child, parent: The tables.
        parent_leaf: Per leaf of the child, the place of the parent's of the same name.
    """
    children, parents = tables_of(([0], [child.evidence]), ([1], [parent.evidence]))
    found = [Refutation(rule=Rule.NO_ROWS)] if _has_rows_beside_none(children, parents) else []
    for leaf, other in enumerate(parent_leaf):
        found += _by_leaf(child, parent, leaf, other)
    if not found and has_files(children, parents, 0, 0):
        verdict = file_verdict(children, parents, 0, 0, parent_leaf)
        if verdict.union is not None:
            leaf, file = verdict.union
            found.append(Refutation(rule=Rule.BETWEEN, leaf=child.leaves[leaf], child_file=file))
        elif verdict.box is not None:
            found.append(Refutation(rule=Rule.BOX, child_file=verdict.box))
    return found


def page_refutation(reason: PageRefutation, child: Side) -> Refutation:
    """The same for a pair that pages refute.

    Args:
        reason: As stored.
        child: The child.
    """
    kind = _KIND_OF[unpack(child.evidence).column("kind")[reason.leaf].as_py()]
    ends = ["unbounded" if end is None else shown(end, kind) for end in (reason.low, reason.high)]
    return Refutation(
        rule=_page_rule(reason.sources),
        leaf=child.leaves[reason.leaf],
        child_file=None if reason.child_file == WHOLE else reason.child_file,
        child_value=ends[0] if reason.low == reason.high else f"{ends[0]} to {ends[1]}",
    )


def _page_rule(sources: Sequence[str]) -> Rule:
    if not sources:  # a page of the child has a value between the ranges of the parent's files
        return Rule.BETWEEN
    return Rule.DICTIONARY if set(sources) == {Source.DICTIONARY.value} else Rule.PAGES


def _has_rows_beside_none(children: Tables, parents: Tables) -> bool:
    return _is_set(children, 0, Flag.HAS_ROW) and int(parents.evidence.rows[0]) == 0


def _is_set(tables: Tables, row: int, flag: Flag) -> bool:
    return bool(int(tables.evidence.flags[row]) & int(flag))


def _by_leaf(child: Side, parent: Side, leaf: int, other: int) -> list[Refutation]:
    """What the tables as wholes say about one leaf, in the terms of `minmax.refuted`."""
    mine, its = (unpack(side.evidence).slice(row, 1).to_pylist()[0] for side, row in ((child, leaf), (parent, other)))
    has, may = Flag(mine["flags"]), Flag(its["flags"])
    path = child.leaves[leaf]
    kinds = (_KIND_OF[mine["kind"]], _KIND_OF[its["kind"]])
    found = []
    if Flag.HAS_NULL in has and Flag.MAY_NULL not in may:
        found.append(Refutation(rule=Rule.NULL, leaf=path, child_file=_file_with(child, leaf, Flag.HAS_NULL)))
    if Flag.HAS_NAN in has and Flag.MAY_NAN not in may:
        found.append(Refutation(rule=Rule.NAN, leaf=path, child_file=_file_with(child, leaf, Flag.HAS_NAN)))
    if Flag.HAS_VALUE not in has:
        return found
    if Flag.MAY_VALUE not in may:
        return [*found, Refutation(rule=Rule.ONLY_NULLS, leaf=path)]
    if kinds[0] is not kinds[1]:
        return [*found, Refutation(rule=Rule.TYPE, leaf=path, kinds=kinds)]
    for rule, end, cover in ((Rule.BELOW, "first_high", "low"), (Rule.ABOVE, "last_low", "high")):
        if _is_beyond(rule, mine[end], its[cover]):
            found.append(
                Refutation(
                    rule=rule,
                    leaf=path,
                    child_file=_file_at(child, leaf, end, mine[end]),
                    child_value=shown(mine[end], kinds[0]),
                    parent_value=shown(its[cover], kinds[1]),
                )
            )
    return found


def _is_beyond(rule: Rule, end: bytes | None, cover: bytes | None) -> bool:
    if end is None or cover is None:
        return False
    return end < cover if rule is Rule.BELOW else end > cover


def _file_with(side: Side, leaf: int, flag: Flag) -> int | None:
    return next((file for file, row in _file_rows(side, leaf) if row["flags"] & int(flag)), None)


def _file_at(side: Side, leaf: int, end: str, key: bytes) -> int | None:
    return next((file for file, row in _file_rows(side, leaf) if row[end] == key), None)


def _file_rows(side: Side, leaf: int) -> list[tuple[int, dict[str, Any]]]:
    """Evidence of one leaf by file; a table of one file is that file."""
    rows = unpack(side.evidence)
    size = len(side.leaves)
    files = int(np.count_nonzero(np.asarray(rows.column("file")) != WHOLE)) // size
    starts = [size * (file + 1) for file in range(files)] or [0]
    return [(file, rows.slice(start + leaf, 1).to_pylist()[0]) for file, start in enumerate(starts)]


def shown(key: bytes, kind: TypeClass) -> str:
    """A key as the value it stands for."""
    if kind in (TypeClass.STRING, TypeClass.BINARY):
        return repr(key.decode()) if _is_text(key) else f"0x{key.hex()}"
    number = number_of(key)
    if kind is TypeClass.BOOLEAN:
        return "true" if number else "false"
    if kind in (TypeClass.WALL_CLOCK, TypeClass.INSTANT):
        return _moment(int(number), zone="Z" if kind is TypeClass.INSTANT else "")
    return format(number, "f") if -20 < number.adjusted() < 20 else str(number)


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _moment(microseconds: int, *, zone: str) -> str:
    try:
        moment = _EPOCH + datetime.timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{microseconds} microseconds since 1970"
    return moment.replace(tzinfo=None).isoformat(sep=" ") + zone
