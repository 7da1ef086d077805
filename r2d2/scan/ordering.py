"""Orders of many numbers, by radix: numpy sorts 16-bit words in linear time, and 64-bit ones in several times that.

How fast the latter is depends on the processor, by a factor of six; this is nearly as fast as the best of it anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Order = npt.NDArray[np.intp]

FEW = 1 << 11
"""Numbers that numpy orders as they are."""

_DIGIT = 16


def order_of(numbers: npt.NDArray[Any]) -> Order:
    """The stable ascending order of whole numbers, none of them negative; the fewer bits they need, the faster."""
    if len(numbers) <= FEW:
        return np.argsort(numbers, kind="stable")
    digits = -(-int(numbers.max()).bit_length() // _DIGIT)
    order: Order | None = None
    for digit in range(digits):
        own = (numbers >> numbers.dtype.type(_DIGIT * digit)).astype(np.uint16)
        step = np.argsort(own if order is None else own[order], kind="stable")
        order = step if order is None else order[step]
    return np.arange(len(numbers)) if order is None else order


def order_of_hashes(words: npt.NDArray[Any]) -> Order:
    """The stable ascending order of 64-bit words, taken for unsigned.

    By their first 32 bits, in which few hashes agree that differ; these are put in order behind that.
    """
    words = words.view(np.uint64)
    if len(words) <= FEW:
        return np.argsort(words, kind="stable")
    firsts = (words >> np.uint64(32)).astype(np.uint32)
    order = order_of(firsts)
    firsts, ordered = firsts[order], words[order]
    differs = np.flatnonzero((firsts[1:] == firsts[:-1]) & (ordered[1:] != ordered[:-1]))
    if len(differs):
        mixed = np.unique(firsts[differs])
        starts, ends = (np.searchsorted(firsts, mixed, side=side) for side in ("left", "right"))
        sizes = ends - starts
        places = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        order[places] = order[places][np.argsort(ordered[places], kind="stable")]
    return order


def changes(words: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a word differs from the one before; it does at the beginning."""
    found = np.ones(len(words), bool)
    found[1:] = words[1:] != words[:-1]
    return found


def ordered(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> tuple[Order, npt.NDArray[np.bool_]]:
    """An order of fingerprints, by first lanes as unsigned bits, and where in it one differs from that before."""
    order = order_of_hashes(first)
    own_first, own_second = changes(first[order]), changes(second[order])
    if (own_second & ~own_first).any():  # rows with one first lane and different second ones
        order = np.lexsort((second, first.view(np.uint64)))
        own_first, own_second = changes(first[order]), changes(second[order])
    return order, own_first | own_second
