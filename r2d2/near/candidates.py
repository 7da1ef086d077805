"""Which pairs of samples are worth comparing: those that a containment index finds, where there are many tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSHEnsemble

from r2d2.near.estimates import Sample, Words

SIGNATURE = 128
"""Positions of a MinHash signature."""

FEW_TABLES = 32
"""So many tables are compared all with all: building the index would cost more."""

LEEWAY = 0.2
"""The index is asked for a containment lower than the wanted one by this: it errs, and a false candidate is cheap."""

_SCHEME = "affine64"
_WEIGHTS = (0.1, 0.9)  # of false and of lost candidates, when the index tunes itself
_PARTITIONS = 8
_PERMUTATIONS = MinHash(num_perm=SIGNATURE, seed=1, scheme=_SCHEME).permutations
_PROBES = np.stack([np.random.default_rng(bin_).permutation(SIGNATURE) for bin_ in range(SIGNATURE)])


def candidate_pairs(
    samples: Mapping[int, Sample], children: Collection[int], threshold: float, *, few_tables: int = FEW_TABLES
) -> list[tuple[int, int]]:
    """Pairs (child, parent) whose containment may reach a threshold, in order; some that do may be missing.

    Args:
        samples: By table.
        children: Tables that are asked about; all tables may be parents.
        threshold: Containment, 0 to 1.
        few_tables: Up to so many tables that share rows with others are compared all with all.
    """
    sharing = tables_that_share(samples)
    asked = [table for table in sharing if table in children]
    if len(sharing) <= few_tables:
        return [(child, parent) for child in asked for parent in sharing if parent != child]
    index = MinHashLSHEnsemble(
        threshold=max(0.05, threshold - LEEWAY), num_perm=SIGNATURE, num_part=_PARTITIONS, weights=_WEIGHTS
    )
    signed = {table: (table, minhash_of(samples[table]), size_of(samples[table])) for table in sharing}
    index.index(list(signed.values()))
    found = {(child, int(str(parent))) for child in asked for parent in index.query(*signed[child][1:])}
    return sorted((child, parent) for child, parent in found if child != parent)


def tables_that_share(samples: Mapping[int, Sample]) -> list[int]:
    """Tables whose sample has a hash that is in another one's too, ascending."""
    tables = sorted(samples)
    hashes = np.concatenate([np.empty(0, np.uint64), *(samples[table].hashes for table in tables)])
    owners = np.repeat(np.array(tables, np.int64), [len(samples[table].hashes) for table in tables])
    order = np.argsort(hashes, kind="stable")
    equal = hashes[order][1:] == hashes[order][:-1]
    shared = np.zeros(len(order), bool)
    shared[1:] |= equal
    shared[:-1] |= equal
    return [int(table) for table in np.unique(owners[order][shared])]


def minhash_of(sample: Sample) -> MinHash:
    """The MinHash of the table behind a sample."""
    return MinHash(hashvalues=signature(sample.hashes), scheme=_SCHEME, permutations=_PERMUTATIONS)


def signature(hashes: Words) -> Words:
    """A one-permutation MinHash signature of the set whose smallest hashes these are, ascending, at least one.

    The low bits of a hash name its bin, and the smallest hash of a bin is that of the whole set, since the sample has
    all small ones. Empty bins take the value of another bin in an order of their own (Shrivastava 2017).
    """
    bins, first = np.unique(hashes % np.uint64(SIGNATURE), return_index=True)
    values = np.zeros(SIGNATURE, np.uint64)
    filled: npt.NDArray[np.bool_] = np.zeros(SIGNATURE, bool)
    values[bins.astype(np.intp)] = hashes[first]
    filled[bins.astype(np.intp)] = True
    source = _PROBES[np.arange(SIGNATURE), np.argmax(filled[_PROBES], axis=1)]
    return np.where(filled, values, values[source])


def size_of(sample: Sample) -> int:
    """The estimated number of distinct rows, at least 1."""
    return max(1, round(sample.extent.distinct().estimate))
