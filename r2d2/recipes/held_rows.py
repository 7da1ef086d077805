"""Rows of a small parent in memory: as codes, on which every question of a search is an operation on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from r2d2.recipes.columns import PredicateColumn, places_shown
from r2d2.recipes.keys import listable
from r2d2.recipes.labels import AMBIGUOUS, FREE, NEGATIVE, POSITIVE, Labels, Positions
from r2d2.recipes.learn import (
    FEW_ROWS,
    MANY_ROWS,
    Codes,
    Domain,
    Mask,
    Sample,
    combined_codes,
    constants_for,
    is_hopeless,
    learn,
    selected,
)
from r2d2.recipes.predicates import Predicate, renumbered
from r2d2.scan.ordering import order_of_hashes


class HeldTable:
    """The values of a parent's rows, which may be labelled again and again.

    Args:
        values: Stored values, one column of the table per predicate column.
        columns: The parent's.
    """

    def __init__(self, values: pa.Table, columns: Sequence[PredicateColumn]) -> None:
        self.values = values
        self.columns = columns

    @cached_property
    def sample(self) -> Sample:
        """All rows."""
        return Sample.of(self.values, self.columns, np.ones(self.values.num_rows, bool))

    @cached_property
    def _order(self) -> Positions:
        """All rows by a hash of their values: which come first does not depend on how the files are cut."""
        words = np.zeros(len(self.sample.wanted), np.uint64)
        for codes in self.sample.codes.T:
            words = (words ^ codes.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            words ^= words >> np.uint64(29)
        return order_of_hashes(words)

    def first_of(self, chosen: Mask, rows: int) -> Positions:
        """Up to so many of the chosen rows."""
        return self._order[chosen[self._order]][:rows]


class HeldRows:
    """Labelled rows of a table in memory; see `query.Rows`."""

    def __init__(self, table: HeldTable, labels: Labels) -> None:
        self.columns = table.columns
        self._table = table
        self._numbers, self._wanted, self._labels = labels.numbers, labels.wanted, labels.labels

    @property
    def _codes(self) -> Codes:
        return self._table.sample.codes

    def counts(self) -> tuple[int, int, int]:
        """See `query.Rows`."""
        negatives, ambiguous = (int(np.count_nonzero(self._labels == label)) for label in (NEGATIVE, AMBIGUOUS))
        return negatives, ambiguous, int(self._wanted[self._labels != FREE].max(initial=0))

    def settle(self) -> None:
        """See `query.Rows`."""
        rows = np.flatnonzero(self._labels == AMBIGUOUS)
        _, firsts, numbers = np.unique(self._numbers[rows], return_index=True, return_inverse=True)
        wanted = self._wanted[rows][firsts]
        for place, column in enumerate(self.columns):
            if column.shared or column.kind.is_float:
                continue
            codes = self._codes[rows, place].astype(np.int64)
            width = self._table.sample.width(place)
            pairs, counts = np.unique(numbers * width + codes, return_counts=True)
            picked = np.bincount((pairs % width)[counts == wanted[pairs // width]], minlength=width) == len(wanted)
            if picked.any():
                code = int(np.argmax(picked[1:])) + 1 if picked[1:].any() else 0  # NULL comes last
                labels = self._labels.copy()
                labels[rows] = np.where(codes == code, POSITIVE, NEGATIVE)
                self._labels = labels
                return

    def predicate(self, *, distinct: bool, trees: bool = True) -> Predicate | None:
        """See `query.Rows`."""
        shown = places_shown(self.columns, distinct=distinct)
        kept = self._labels != FREE
        positive = kept & (self._wanted > 0) if distinct else self._labels == POSITIVE
        other = kept & (self._wanted == 0) if distinct else self._labels == NEGATIVE
        if not shown:
            return None
        rows = np.flatnonzero(positive | other)
        most_constants = constants_for(int(np.count_nonzero(positive)))

        def part(rows: Positions) -> Sample:
            return _part(self._table.sample, rows, shown, positive[rows], most_constants)

        if len(rows) > MANY_ROWS:
            few = [self._table.first_of(side, FEW_ROWS) for side in (positive, other)]
            if is_hopeless(part(np.concatenate(few)), trees=trees):
                return None
        found = learn(part(rows), trees=trees)
        if found is None:
            return None
        predicate = renumbered(found, shown)
        return predicate if distinct or self._settles(predicate) else None

    def _settles(self, predicate: Predicate) -> bool:
        """Whether a predicate selects each ambiguous row as often as the child has it."""
        rows = np.flatnonzero(self._labels == AMBIGUOUS)
        if not len(rows):
            return True
        sample = self._table.sample
        chosen = selected(predicate, replace(sample, codes=sample.codes[rows], wanted=sample.wanted[rows]))
        _, firsts, numbers = np.unique(self._numbers[rows], return_index=True, return_inverse=True)
        return bool((np.bincount(numbers[chosen], minlength=len(firsts)) == self._wanted[rows][firsts]).all())

    def key_columns(self) -> list[int]:
        """See `query.Rows`."""
        codes = self._codes[self._labels == POSITIVE]
        usable = [place for place in listable(self.columns) if len(codes) and codes[:, place].all()]
        return sorted(usable, key=lambda place: (-np.count_nonzero(np.bincount(codes[:, place])), place))

    def identify(self, places: Sequence[int]) -> bool:
        """See `query.Rows`."""
        if (self._labels == AMBIGUOUS).any():
            return False
        keys = self._combined(places)
        return not np.isin(keys[self._labels == NEGATIVE], keys[self._labels == POSITIVE]).any()

    def keys(self, places: Sequence[int]) -> pa.Table:
        """See `query.Rows`."""
        rows = np.flatnonzero(self._labels == POSITIVE)
        _, firsts = np.unique(self._combined(places)[rows], return_index=True)
        return self._table.values.select(list(places)).take(rows[firsts])

    def _combined(self, places: Sequence[int]) -> npt.NDArray[np.int64]:
        return combined_codes(self._table.sample, places)


def _part(sample: Sample, rows: Positions, places: Sequence[int], wanted: Mask, most: int) -> Sample:
    """Some rows and columns of a sample, with the codes of their own values."""
    coded = [_recoded(sample.codes[rows, place], sample.domains[place]) for place in places]
    return Sample(
        columns=[sample.columns[place] for place in places],
        codes=np.stack([codes for codes, _ in coded]).T,
        domains=[domain for _, domain in coded],
        wanted=wanted,
        most_constants=most,
    )


def _recoded(codes: Codes, domain: Domain) -> tuple[Codes, Domain]:
    used = np.zeros(len(domain) + 2, bool)
    used[codes] = True
    used[0] = used[-1] = True  # NULL and NaN
    if used.all():
        return codes, domain
    places = (np.cumsum(used) - 1).astype(np.int32)
    return places[codes], domain.restricted(used[1:-1])
