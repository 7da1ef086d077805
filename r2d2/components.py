"""Connected components: which things are linked, be it through others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def components(count: int, links: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """The number of its component for each of some things.

    Args:
        count: Things, numbered from 0.
        links: Two of them each.
    """
    from scipy.sparse import coo_array  # a third of a second, which processes of kernels have no use for
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.empty(0, np.intp)
    ends = np.array(links, np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])
