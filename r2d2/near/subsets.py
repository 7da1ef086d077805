"""Which columns are left out when tables are compared: none, each one, and a bounded number of further choices."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from r2d2.model import LeafPath

LeftOut = tuple[int, ...]
"""Positions of the leaves that are left out, ascending."""

MOST_SINGLES = 64
"""Leaves that are left out one by one; of a wider table blocks of neighbours are left out, at most this many."""

MOST_IN_PAIRS = 12
"""Leaves of tables in which every two are left out together."""


def left_out_sets(paths: Sequence[LeafPath], temporal: Collection[LeafPath]) -> list[LeftOut]:
    """The choices for tables of some leaves, the empty one first, then by how many leaves are left out.

    More leaves always stay than are left out, and at least two: with fewer, unrelated tables would look alike.

    Args:
        paths: Leaves in the order in which they are compared.
        temporal: Those that hold dates or timestamps; they are left out all together too.
    """
    dates = tuple(place for place, path in enumerate(paths) if path in temporal)
    chosen = dict.fromkeys([(), *_singles(len(paths)), *_pairs(len(paths)), dates])
    return sorted((some for some in chosen if _enough_stay(len(paths), len(some))), key=lambda some: (len(some), some))


def _singles(leaves: int) -> Iterator[LeftOut]:
    """Each leaf, or blocks of neighbours of equal size."""
    size = -(-leaves // MOST_SINGLES)
    for start in range(0, leaves, max(1, size)):
        yield tuple(range(start, min(start + size, leaves)))


def _pairs(leaves: int) -> Iterator[LeftOut]:
    return combinations(range(leaves), 2) if leaves <= MOST_IN_PAIRS else iter(())


def _enough_stay(leaves: int, left_out: int) -> bool:
    stay = leaves - left_out
    return left_out == 0 or (stay >= 2 and stay > left_out)
