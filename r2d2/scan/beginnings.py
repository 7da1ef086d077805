"""First bits of hashes: rows of which these differ are different, and what is known of each fits into a cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BEGINS = 1 << 20
"""How many there are."""


def tell_apart(hashes: int) -> bool:
    """Whether so many hashes leave most beginnings to others."""
    return hashes <= BEGINS // 8


def beginnings(hashes: npt.NDArray[Any], begins: int | None = None) -> npt.NDArray[np.uint32]:
    """The first bits of 64-bit hashes: one of so many beginnings, a power of two; of BEGINS where it is None."""
    return (hashes.view(np.uint64) >> np.uint64(65 - (begins or BEGINS).bit_length())).astype(np.uint32)


def begin_alike(own: npt.NDArray[np.uint32], others: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which of some beginnings are among others."""
    there = np.zeros(BEGINS, bool)
    there[others] = True
    return there[own]
