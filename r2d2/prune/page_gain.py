"""Which pairs are worth a look at pages: those that may spare tables a scan, at less than the scan would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import numpy.typing as npt

from r2d2.components import components
from r2d2.scan.plan import Pair

GAIN = 2
"""Times the cost of the pages that the scans must be worth which they may spare: they do not refute every pair."""


def worth_reading(
    pairs: Sequence[Pair],
    read_anyway: Set[int],
    scan_bytes: Mapping[int, int],
    page_bytes: Mapping[int, int],
    least_bytes: int,
) -> list[Pair]:
    """The pairs whose pages may spare more than they cost.

    A table is spared only if all its pairs are refuted, and they link it to others: so linked tables count together.

    Args:
        pairs: Those that pages may refute.
        read_anyway: Tables that are scanned even if all these pairs are refuted.
        scan_bytes: By table of a pair, what a scan costs.
        page_bytes: By parent, what its pages cost.
        least_bytes: What all scans that may be spared are worth at least, else no pair is asked about.
    """
    asked = [pair for pair in pairs if pair.child not in read_anyway or pair.parent not in read_anyway]
    if not asked:
        return []
    tables, linked = _linked(asked, read_anyway)
    of_pair = np.array([linked[tables[p.child] if p.child in tables else tables[p.parent]] for p in asked])
    gains = np.bincount(linked, [scan_bytes[table] for table in tables])
    parents = {(group, pair.parent) for group, pair in zip(of_pair.tolist(), asked, strict=True)}
    costs = np.bincount([group for group, _ in parents], [page_bytes[parent] for _, parent in parents], len(gains))
    pays = gains > GAIN * costs
    if gains[pays].sum() < least_bytes:
        return []
    return [pair for pair, group in zip(asked, of_pair, strict=True) if pays[group]]


def _linked(pairs: Sequence[Pair], read_anyway: Set[int]) -> tuple[dict[int, int], npt.NDArray[np.intp]]:
    """The places of the tables that may be spared, and by place the number of the group that pairs link."""
    ends = {table for pair in pairs for table in (pair.child, pair.parent)} - read_anyway
    place = {table: number for number, table in enumerate(sorted(ends))}
    both = [(place[pair.child], place[pair.parent]) for pair in pairs if pair.child in place and pair.parent in place]
    return place, components(len(place), both)
