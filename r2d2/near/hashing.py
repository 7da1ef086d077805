"""Row hashes under many column sets at once: every leaf adds a word, so leaving a leaf out takes its word away.

These hashes are for samples only: nothing is asserted from them. A leaf's word is its digest under a key of the leaf's
name, times an odd number of that name; sums wrap at 64 bits. Columns may stand in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from r2d2.model import LeafPath, leaf_key
from r2d2.near.estimates import Words, smallest
from r2d2.near.subsets import LeftOut
from r2d2.scan.rowhash import structs_on

_FINAL = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ROOM = 8


@dataclass(frozen=True, kw_only=True)
class LeafKey:
    """What turns the digests of a leaf into words: a mask, and an odd factor."""

    mask: int
    factor: int

    @classmethod
    def of(cls, path: LeafPath, lane_keys: tuple[int, int], *, kind: str = "leaf") -> LeafKey:
        """The key of a leaf, or of the kind `struct` of whether a struct is NULL, by its name as children spell it."""
        key = b"".join(lane.to_bytes(8, "big") for lane in lane_keys)
        text = f"near {kind} {leaf_key(path)}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16, key=key).digest()
        return cls(mask=int.from_bytes(digest[:8], "big"), factor=int.from_bytes(digest[8:], "big") | 1)

    def words(self, digests: Words) -> Words:
        """The words of some digests."""
        return (digests ^ np.uint64(self.mask)) * np.uint64(self.factor)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a row's sum: its leaves, then the structs above them.

    Attributes:
        paths: The leaves, as the table that is compared spells them; its order is the child's.
        structs: The structs above the leaves, as the table spells them; they come after the leaves among the terms.
        keys: By term.
        lacking: By choice of leaves that are left out: the terms that go with them.
    """

    paths: tuple[LeafPath, ...]
    structs: tuple[LeafPath, ...]
    keys: tuple[LeafKey, ...]
    lacking: tuple[tuple[int, ...], ...]


def terms_of(
    names: Sequence[LeafPath], paths: Sequence[LeafPath], choices: Sequence[LeftOut], lane_keys: tuple[int, int]
) -> Terms:
    """The terms of a table's rows under the columns of a child.

    Args:
        names: The child's leaves, folded where names compare so.
        paths: The table's leaves for them, in the same order.
        choices: Which of the leaves are left out, one choice after the other.
        lane_keys: Secret keys of the audit.
    """
    structs = structs_on(names)
    keys = [LeafKey.of(name, lane_keys) for name in names]
    keys += [LeafKey.of(struct, lane_keys, kind="struct") for struct in structs]
    lacking = []
    for choice in choices:
        staying = set(structs_on([name for place, name in enumerate(names) if place not in choice]))
        gone = (len(names) + place for place, struct in enumerate(structs) if struct not in staying)
        lacking.append((*choice, *gone))
    spelled = {
        name[:depth]: path[:depth] for name, path in zip(names, paths, strict=True) for depth in range(len(name))
    }
    return Terms(
        paths=tuple(paths),
        structs=tuple(spelled[struct] for struct in structs),
        keys=tuple(keys),
        lacking=tuple(lacking),
    )


def row_hashes(sums: Words) -> Words:
    """Hashes of rows from the sums of their words: uniform in all bits."""
    return (sums ^ (sums >> _HALF)) * _FINAL


@dataclass(kw_only=True)
class Smallest:
    """Collects the smallest distinct hashes of a stream.

    Attributes:
        count: How many are kept.
    """

    count: int
    _kept: list[Words] = field(default_factory=list)
    _bound: int | None = None
    _held: int = 0

    def add(self, hashes: Words) -> None:
        """Take in some more hashes."""
        if self._bound is not None:
            hashes = hashes[hashes < np.uint64(self._bound)]
        if len(hashes) > _ROOM * self.count:
            hashes = smallest(hashes, self.count)
        self._kept.append(hashes)
        self._held += len(hashes)
        if self._held > 2 * self.count:
            self._trim()

    def result(self) -> Words:
        """The smallest so far, ascending."""
        self._trim()
        return self._kept[0]

    def _trim(self) -> None:
        kept = smallest(np.concatenate([np.empty(0, np.uint64), *self._kept]), self.count)
        self._kept, self._held = [kept], len(kept)
        if len(kept) == self.count:
            self._bound = int(kept[-1])
