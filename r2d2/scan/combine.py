"""Fingerprints of rows from digests of their leaves, in numpy: what `RowHasher.row` says in SQL.

To plan an expression over the digests of a thousand leaves takes DuckDB longer than to hash them, and here no more than
one column of digests has to be held at a time. The functions are those of the DuckDB version that HASH_VERSION names.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from r2d2.scan.rowhash import RowHasher

Words = npt.NDArray[np.uint64]
Lanes = tuple[Words, Words]
"""Two lanes: digests of values, or fingerprints of rows, in the order of the rows."""

_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


def row_fingerprints(hasher: RowHasher, columns: Iterable[Lanes]) -> Lanes:
    """Fingerprints of rows.

    Args:
        hasher: Row identity.
        columns: Digests of the leaves, at least one, in the order given; all have as many as there are rows.
    """
    combined = Combined()
    for lanes in columns:
        combined.add(lanes)
    return combined.fingerprints(hasher)


class Combined:
    """The digests of rows so far, leaf by leaf."""

    def __init__(self) -> None:
        self._leaves = 0
        self._lanes: Lanes | None = None

    def add(self, digests: Lanes) -> None:
        """Take in the next leaf's digests."""
        hashed = hash_words(digests[0]), hash_words(digests[1])
        if self._lanes is None:
            self._lanes = hashed
        else:
            self._lanes = _combine(self._lanes[0], hashed[0]), _combine(self._lanes[1], hashed[1])
        self._leaves += 1

    def fingerprints(self, hasher: RowHasher) -> Lanes:
        """The fingerprints of rows that have these leaves and no more."""
        if self._lanes is None:
            raise ValueError("a row has at least one leaf")
        first, second = hasher.row_constants(self._leaves)
        return hash_words(self._lanes[0] ^ np.uint64(first)), hash_words(self._lanes[1] ^ np.uint64(second))


def hash_words(words: Words) -> Words:
    """DuckDB's `hash` of a UBIGINT."""
    mixed = (words ^ (words >> _HALF)) * _FACTOR
    mixed = (mixed ^ (mixed >> _HALF)) * _FACTOR
    return mixed ^ (mixed >> _HALF)


def _combine(left: Words, right: Words) -> Words:
    """DuckDB's `hash` of several values, from that of all but the last and that of the last."""
    return ((left ^ (left >> _HALF)) * _FACTOR) ^ right
