"""Kernel: few tables that hold all rows of a child together, from which tables hold each kind of row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from r2d2.scan.members import Kinds

_STEP = 1 << 16
"""Kinds whose numbers are added up at once."""


def greedy(kinds: Kinds) -> list[int]:
    """Places of parents that hold all rows together: the one that adds most rows first, ties to the first place.

    Args:
        kinds: All rows, each held by a parent.
    """
    chosen: list[int] = []
    is_left = np.ones(len(kinds.distinct), bool)
    gains = _rows(kinds, is_left)
    while is_left.any():
        best = int(np.argmax(gains))
        chosen.append(best)
        added = is_left & kinds.held[:, best]
        gains -= _rows(kinds, added)
        is_left &= ~added
    return chosen


def _rows(kinds: Kinds, of: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many of the rows of some kinds each parent holds."""
    total = np.zeros(kinds.held.shape[1], np.int64)
    places = np.flatnonzero(of)
    for start in range(0, len(places), _STEP):
        part = places[start : start + _STEP]
        total += kinds.distinct[part] @ kinds.held[part]
    return total


def minimal(kinds: Kinds, chosen: Sequence[int]) -> list[int]:
    """The chosen places without those that the others make superfluous; the last chosen are dropped first.

    Args:
        kinds: All rows, each held by a chosen parent.
        chosen: In the order in which they were chosen.
    """
    holders = kinds.held[:, list(chosen)].sum(axis=1)
    kept = list(chosen)
    for place in reversed(chosen):
        if (holders[kinds.held[:, place]] > 1).all():
            holders -= kinds.held[:, place]
            kept.remove(place)
    return kept


def is_bag(kinds: Kinds, chosen: Sequence[int]) -> bool:
    """Whether the chosen parents have each row together as often as the child; each row is held by one of them."""
    return bool((kinds.there[:, list(chosen)].sum(axis=1) >= kinds.needed).all())


def outside(kinds: Kinds, place: int, distinct: int) -> int:
    """How many of a parent's distinct rows the child lacks."""
    return distinct - int(kinds.distinct[kinds.held[:, place]].sum())
