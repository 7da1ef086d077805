"""The cheapest query over a parent's labelled rows that returns those of a child."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from r2d2.recipes.columns import PredicateColumn
from r2d2.recipes.keys import KeyList, find_keys
from r2d2.recipes.predicates import Predicate


class Rows(Protocol):
    """Labelled rows of a parent, of which the free ones are left out."""

    columns: Sequence[PredicateColumn]

    def counts(self) -> tuple[int, int, int]:
        """The negative and the ambiguous rows, and how often the child has one row at most."""

    def settle(self) -> None:
        """Where the child has some of the parent's equal rows: label those that one value of a dropped column picks.

        A value picks if, of each ambiguous row, the parent has it as often as the child has the row.
        """

    def predicate(self, *, distinct: bool, trees: bool = True) -> Predicate | None:
        """A short predicate that is right about all rows; None if none was found.

        Args:
            distinct: Equal rows collapse afterwards, so at least one of each of the child's is enough.
            trees: See `learn.learn`.
        """

    def key_columns(self) -> list[int]:
        """Columns that a key list may have, without NULL in a positive row: the most different values first."""

    def identify(self, places: Sequence[int]) -> bool:
        """Whether no combination of values stands in a positive row and in another one."""

    def keys(self, places: Sequence[int]) -> pa.Table:
        """The different stored values of some columns in positive rows, ascending."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A query: its kind, predicate and key list, or the reason why there is none."""

    kind: str = ""
    predicate: Predicate | None = None
    keys: KeyList | None = None
    reason: str = ""


def find_query(rows: Rows, most_key_bytes: int, taken: Set[str], *, trees: bool = True) -> Found:
    """The cheapest query that returns the child's rows.

    Args:
        rows: The parent's.
        most_key_bytes: A key list may not be larger; with 0 none is looked for.
        taken: Folded names that no column of a key list may have.
        trees: See `learn.learn`.
    """
    negatives, ambiguous, most = rows.counts()
    is_distinct = ambiguous > 0 and most == 1
    if is_distinct and not negatives:
        return Found(kind="distinct", predicate=((),))
    if ambiguous:
        rows.settle()
    predicate = rows.predicate(distinct=False, trees=trees)
    if predicate is not None:
        return Found(kind="selection", predicate=predicate)
    if is_distinct:
        predicate = rows.predicate(distinct=True, trees=trees)
        if predicate is not None:
            return Found(kind="distinct", predicate=predicate)
    return find_key_query(rows, most_key_bytes, taken)


def find_key_query(rows: Rows, most_key_bytes: int, taken: Set[str]) -> Found:
    """The query by a key list, given that there is none by a predicate."""
    said = "no short predicate over the parent's columns tells the child's rows from the others"
    if not most_key_bytes:
        return Found(reason=f"{said}, and the engine reads no key lists below the result folder")
    keys = find_keys(rows, taken)
    if keys is None:
        return Found(reason=f"{said}, and no columns of the parent identify them")
    if len(keys.content) > most_key_bytes:
        return Found(reason=f"{said}, and a list of their keys would not be much smaller than the child")
    return Found(kind="key_list", keys=keys)
