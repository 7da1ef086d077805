"""Learns a predicate from labelled rows of a sample, on arrays alone.

Values of a column become codes: their rank among the values of the sample, NULL below and NaN above all of them. A
condition is a set of codes, and the predicate that is learned tells the sample's wanted rows from all others exactly.
What it says of rows outside the sample is for the caller to find out.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.recipes.columns import Kind, PredicateColumn
from r2d2.recipes.predicates import Box, Condition, Predicate, Range, constants_of, cost_of, reading_cost

MAX_CONSTANTS = 64
MAX_BOXES = 8
MAX_POINTS = 24
"""Values of an IN list at most."""
MAX_LEAVES = 64
FEW_ROWS = 1_000
"""Rows of each side that are looked at first, see `is_hopeless`."""
MANY_ROWS = 3_000
"""Rows of both sides for which that is worth while."""
MOST_PRUNED = 4
"""Times MAX_BOXES that may be left of a tree before superfluous boxes are looked for, which costs their square."""
SHORT_BOX = 2
"""So many conditions on one row of a box are preferred to whatever a tree finds."""

_MOST_KEY = 1 << 62
_PAIRED_COLUMNS = 64
_NULL = 0  # place of NULL in a mask of codes; values follow, and NaN comes last

Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


class Domain(Sequence[Any]):
    """Different values of a column, ascending, which become Python objects one by one: most are never looked at."""

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return self._values[int(place)].as_py()

    def restricted(self, used: Mask) -> Domain:
        """Some of the values."""
        return Domain(self._values.filter(pa.array(used)))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows of a parent.

    Attributes:
        columns: What a predicate may name.
        codes: Rows by columns: 0 is NULL, 1 the least value, …; NaN is one more than the number of values.
        domains: By column, its values in the sample.
        wanted: By row, whether the predicate must select it; it must not select the others.
        most_constants: Values that a predicate may name.
    """

    columns: Sequence[PredicateColumn]
    codes: Codes
    domains: Sequence[Domain]
    wanted: Mask
    most_constants: int = MAX_CONSTANTS

    @classmethod
    def of(
        cls, rows: pa.Table, columns: Sequence[PredicateColumn], wanted: Mask, most_constants: int = MAX_CONSTANTS
    ) -> Sample:
        """A sample from stored values, one column of the table per predicate column."""
        coded = [_coded(rows.column(place), column) for place, column in enumerate(columns)]
        codes = np.stack([codes for codes, _ in coded]).T if coded else np.zeros((rows.num_rows, 0), np.int32)
        return cls(
            columns=columns,
            codes=codes,
            domains=[domain for _, domain in coded],
            wanted=wanted,
            most_constants=most_constants,
        )

    def width(self, column: int) -> int:
        """Length of a mask of a column's codes."""
        return len(self.domains[column]) + 2


def _coded(values: pa.ChunkedArray, column: PredicateColumn) -> tuple[Codes, Domain]:
    encoded = values.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    domain = encoded.dictionary.take(order)
    ranks = np.empty(len(order) + 1, np.int32)
    ranks[order.to_numpy()] = np.arange(1, len(order) + 1, dtype=np.int32)
    ranks[-1] = 0
    places = encoded.indices.fill_null(len(order)).to_numpy(zero_copy_only=False)
    if column.kind.is_float and len(domain) and math.isnan(domain[-1].as_py()):
        domain = domain[:-1]  # NaN, which Arrow sorts last, has the code after the last value's as it is
    return ranks[places], Domain(domain)


def combined_codes(sample: Sample, places: Sequence[int]) -> npt.NDArray[np.int64]:
    """A number for the values of some columns of each row, in the order of the values."""
    keys, most = np.zeros(len(sample.codes), np.int64), 1
    for place in places:
        width = sample.width(place)
        if most * width > _MOST_KEY:
            different, keys = np.unique(keys, return_inverse=True)
            most = len(different)
        keys, most = keys * width + sample.codes[:, place], most * width
    return keys


def constants_for(rows: int) -> int:
    """How many values a predicate of so many rows may name: a list of the rows is no rule."""
    return min(MAX_CONSTANTS, max(8, rows // 2))


def is_hopeless(few: Sample, *, trees: bool = True) -> bool:
    """Whether nothing can be learned from any sample that has these rows: no bounds nor tree tell even them apart.

    So it is for rows without a rule, as a random part of a table has them.
    """
    return bounding_box(few) is None and not (trees and _tree_boxes(few) is not None)


def learn(sample: Sample, *, trees: bool = True) -> Predicate | None:
    """The simplest predicate found that is right about every row of a sample; None where none is simple enough.

    Args:
        sample: The rows.
        trees: Whether a decision tree is grown where bounds do not do, which costs several times as much.
    """
    if not sample.wanted.any():
        return None
    box = bounding_box(sample)
    if box is not None and is_short_box(box):
        return box
    grown = tree_predicate(sample) if trees else None
    found = [one for one in (box, grown) if one is not None and is_simple(one, sample)]
    return min(found, key=cost_of, default=None)


def is_short_box(predicate: Predicate) -> bool:
    """Whether a predicate is a box of so few conditions that no tree is grown."""
    return len(predicate) == 1 and len(predicate[0]) <= SHORT_BOX


def is_simple(predicate: Predicate, sample: Sample) -> bool:
    """Whether a predicate is short enough to be read, and all of its values may be written down."""
    constants = constants_of(predicate)
    return (
        len(predicate) <= MAX_BOXES
        and len(constants) <= sample.most_constants
        and all(sample.columns[column].has_literal(value) for column, value in constants)
    )


# --- the bounding box -------------------------------------------------------------------------------------------------


def bounding_box(sample: Sample) -> Predicate | None:
    """The cheapest conditions that bound the wanted rows and keep all others out; None where no bounds do."""
    others = np.flatnonzero(~sample.wanted)
    if not len(others):
        return ((),)
    bounds = [_bounds(sample, column) for column in range(len(sample.columns))]
    if _any_within(bounds, sample, others):
        return None
    offers: list[_Offer] = []
    for column, masks in enumerate(bounds):
        codes = sample.codes[others, column]
        for mask in masks:
            kept_out = ~mask[codes]
            if not kept_out.any():
                continue
            condition = _readable(mask, sample, column)
            if is_simple(((condition,),), sample):
                cost = condition.cost + (0.0 if sample.columns[column].shared else 0.01)
                offers.append(_Offer(cost, condition, kept_out, int(np.count_nonzero(kept_out))))
    offers.sort(key=lambda offer: (offer.cost, offer.condition.column))
    chosen = _cover(offers, len(others))
    if chosen is None:
        return None
    box = tuple(sorted((offer.condition for offer in chosen), key=lambda condition: condition.column))
    return simplified((box,), sample)


def _any_within(bounds: Sequence[Sequence[Mask]], sample: Sample, rows: npt.NDArray[np.intp]) -> bool:
    """Whether any of some rows is within all bounds."""
    for column, masks in enumerate(bounds):
        for mask in masks:
            rows = rows[mask[sample.codes[rows, column]]]
    return len(rows) > 0


def _bounds(sample: Sample, column: int) -> list[Mask]:
    """Codes that a bound of the wanted rows allows: a range, and where they are few the values themselves."""
    width, last = sample.width(column), sample.width(column) - 1
    used = np.zeros(width, bool)
    used[sample.codes[sample.wanted, column]] = True
    values = np.flatnonzero(used[1:last]) + 1
    flags = np.zeros(width, bool)
    flags[_NULL], flags[last] = used[_NULL], used[last]
    is_listed = sample.columns[column].kind in (Kind.TEXT, Kind.BYTES) and len(values) <= MAX_POINTS
    found: list[Mask] = []
    if len(values) and not is_listed:  # nobody thinks of a status between two others
        ranged = flags.copy()
        ranged[values[0] : values[-1] + 1] = True
        found.append(ranged)
    if len(values):
        whole = flags.copy()
        whole[1:last] = True
        found.append(whole)
    if len(values) <= MAX_POINTS:
        found.append(used)
    return found


class _Offer(NamedTuple):
    """A condition that bounds the wanted rows, and which of the others it keeps out."""

    cost: float
    condition: Condition
    kept_out: Mask
    number: int


def _cover(offers: Sequence[_Offer], others: int) -> list[_Offer] | None:
    """The cheapest offers that together keep out all other rows: exact for one and two, greedy for more."""
    single = next((offer for offer in offers if offer.number == others), None)
    if single is not None:
        return [single]
    pairs = (
        (one, other)
        for one, other in itertools.combinations(offers[:_PAIRED_COLUMNS], 2)
        if one.number + other.number >= others
        and one.condition.column != other.condition.column
        and (one.kept_out | other.kept_out).all()
    )
    pair = min(pairs, key=lambda pair: pair[0].cost + pair[1].cost, default=None)
    if pair is not None:
        return list(pair)
    chosen: list[_Offer] = []
    left = np.ones(others, bool)
    while left.any():
        best = max(offers, key=lambda offer: (offer.kept_out & left).sum() / offer.cost, default=None)
        if best is None or not (best.kept_out & left).any():
            return None
        chosen.append(best)
        left &= ~best.kept_out
    return chosen


# --- conditions and masks ---------------------------------------------------------------------------------------------


def condition_of(mask: Mask, sample: Sample, column: int) -> Condition:
    """The condition that allows the codes of a mask, and no value between two of them that the mask denies."""
    domain = sample.domains[column]
    if _is_open(mask):
        ranges: tuple[Range, ...] = ((None, None),)
    else:
        firsts, ends = _runs(mask)
        ranges = tuple((domain[first], domain[end - 1]) for first, end in zip(firsts, ends, strict=True))
    return Condition(column=column, ranges=ranges, null=bool(mask[_NULL]), nan=bool(mask[-1]))


def _is_open(mask: Mask) -> bool:
    """Whether every value is allowed, of which there is one at least."""
    return len(mask) > 2 and bool(mask[1:-1].all())


def _runs(mask: Mask) -> tuple[Places, Places]:
    """The first places, and those behind the last, of the values that a mask allows one after another."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask[1:-1], [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def _cost(mask: Mask) -> float:
    """The cost of the condition that allows the codes of a mask."""
    flags = int(mask[_NULL]) + int(mask[-1])
    if _is_open(mask):
        return reading_cost(1, 0, 0, flags)
    firsts, ends = _runs(mask)
    points = int(np.count_nonzero(ends - firsts == 1))
    return reading_cost(len(firsts), points, 2 * len(firsts) - points, flags)


def simplified(predicate: Predicate, sample: Sample) -> Predicate:
    """The predicate without the conditions and the outer bounds that keep no row of the sample out."""
    shorter: Predicate | None = predicate
    while shorter is not None:
        predicate, shorter = shorter, _shorter(shorter, sample)
    return predicate


def _shorter(predicate: Predicate, sample: Sample) -> Predicate | None:
    """The predicate with a condition or a bound less in one box, if it still selects exactly the wanted rows."""
    fulfilled = {id(condition): _fulfilled(condition, sample) for box in predicate for condition in box}

    def rows_of(box: Box) -> Mask:
        masks = (fulfilled.get(id(condition)) for condition in box)
        inside = [_fulfilled(c, sample) if mask is None else mask for c, mask in zip(box, masks, strict=True)]
        return np.logical_and.reduce(inside, axis=0) if inside else np.ones(len(sample.wanted), bool)

    own = [rows_of(box) for box in predicate]
    for place, box in enumerate(predicate):
        others = np.logical_or.reduce([*own[:place], *own[place + 1 :], np.zeros(len(sample.wanted), bool)], axis=0)
        for trial in _simpler(box):
            if np.array_equal(others | rows_of(trial), sample.wanted):
                return (*predicate[:place], trial, *predicate[place + 1 :])
    return None


def _simpler(box: Box) -> Iterator[Box]:
    """The box without one condition, the dearest first, then with one bound less."""
    for condition in sorted(box, key=lambda condition: (-condition.cost, -condition.column)):
        if len(box) > 1:
            yield tuple(other for other in box if other is not condition)
    for condition in box:
        for ranges in _opened(condition.ranges):
            yield tuple(replace(other, ranges=ranges) if other is condition else other for other in box)


def _opened(ranges: tuple[Range, ...]) -> Iterator[tuple[Range, ...]]:
    """The ranges with the lower or the upper end opened; single values are left as they are."""
    if ranges and ranges[0][0] is not None and ranges[0][0] != ranges[0][1] and ranges[0][1] is not None:
        yield ((None, ranges[0][1]), *ranges[1:])
    if ranges and ranges[-1][1] is not None and ranges[-1][0] != ranges[-1][1] and ranges[-1][0] is not None:
        yield (*ranges[:-1], (ranges[-1][0], None))


def selected(predicate: Predicate, sample: Sample) -> Mask:
    """Which rows of a sample a predicate selects."""
    chosen = np.zeros(len(sample.wanted), bool)
    for box in predicate:
        inside = np.ones(len(sample.wanted), bool)
        for condition in box:
            inside &= _fulfilled(condition, sample)
        chosen |= inside
    return chosen


def _fulfilled(condition: Condition, sample: Sample) -> Mask:
    """Which rows of a sample fulfil a condition."""
    return mask_of(condition, sample)[sample.codes[:, condition.column]]


def _selects_exactly(predicate: Predicate, sample: Sample) -> bool:
    return bool((selected(predicate, sample) == sample.wanted).all())


def mask_of(condition: Condition, sample: Sample) -> Mask:
    """The codes that a condition allows."""
    domain = sample.domains[condition.column]
    mask = np.zeros(len(domain) + 2, bool)
    mask[_NULL], mask[-1] = condition.null, condition.nan
    for low, high in condition.ranges:
        first = 0 if low is None else bisect.bisect_left(domain, low)
        end = len(domain) if high is None else bisect.bisect_right(domain, high)
        mask[1 + first : 1 + end] = True
    return mask


# --- the tree ---------------------------------------------------------------------------------------------------------


def tree_predicate(sample: Sample) -> Predicate | None:
    """The leaves of a decision tree as a predicate, made as short as the sample allows; None where it stays impure."""
    boxes = _tree_boxes(sample)
    if boxes is None:
        return None
    boxes = _merged(_pruned(boxes, sample))
    if len(boxes) > MAX_BOXES:
        return None
    predicate = tuple(tuple(_readable(mask, sample, column) for column, mask in sorted(box.items())) for box in boxes)
    return simplified(predicate, sample) if _selects_exactly(predicate, sample) else None


def _tree_boxes(sample: Sample) -> list[MaskBox] | None:
    """The wanted rows as leaves of a decision tree; None where these stay impure, or are too many."""
    if sample.codes.shape[1] == 0 or sample.wanted.all() or not sample.wanted.any():
        return None
    boxes = _leaf_boxes(_tree_of(sample), sample)
    merged = _merged(boxes) if boxes is not None else []
    return merged if 0 < len(merged) <= MOST_PRUNED * MAX_BOXES else None


def _tree_of(sample: Sample) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(criterion="entropy", max_leaf_nodes=MAX_LEAVES, random_state=0)
    return tree.fit(sample.codes.astype(np.float32), sample.wanted).tree_


MaskBox = dict[int, Mask]


def _leaf_boxes(tree: Any, sample: Sample) -> list[MaskBox] | None:
    """The leaves with wanted rows only; None if a leaf has both kinds."""
    boxes: list[MaskBox] = []
    pending: list[tuple[int, MaskBox]] = [(0, {})]
    while pending:
        node, box = pending.pop()
        column, threshold = int(tree.feature[node]), float(tree.threshold[node])
        if tree.children_left[node] == -1:
            shares = tree.value[node][0]
            if min(shares) > 0:
                return None
            if shares[1] > 0:
                boxes.append(box)
            continue
        below = np.arange(sample.width(column)) <= threshold
        old = box.get(column, np.ones(sample.width(column), bool))
        pending.append((int(tree.children_right[node]), {**box, column: old & ~below}))
        pending.append((int(tree.children_left[node]), {**box, column: old & below}))
    return boxes


def _merged(boxes: list[MaskBox]) -> list[MaskBox]:
    """Boxes that differ in one column only become one, until none do."""
    boxes = [{c: m for c, m in box.items() if not m.all()} for box in boxes]
    for one, other in itertools.combinations(range(len(boxes)), 2):
        joined = _join(boxes[one], boxes[other])
        if joined is not None:
            return _merged([joined, *(box for place, box in enumerate(boxes) if place not in (one, other))])
    return boxes


def _join(one: MaskBox, other: MaskBox) -> MaskBox | None:
    if one.keys() != other.keys():
        return None
    differing = [column for column in one if not np.array_equal(one[column], other[column])]
    if len(differing) > 1:
        return None
    return one | {column: one[column] | other[column] for column in differing}


def _pruned(boxes: list[MaskBox], sample: Sample) -> list[MaskBox]:
    """Boxes without the conditions that keep no row out, and without the boxes that others make superfluous."""
    kept = [_shortened(box, sample) for box in boxes]
    rows = [_inside(box, sample)[sample.wanted] for box in kept]
    times = np.sum(rows, axis=0)
    found = []
    for place in sorted(range(len(kept)), key=lambda place: int(rows[place].sum())):
        if (times[rows[place]] > 1).all():
            times -= rows[place]
        else:
            found.append(place)
    return [kept[place] for place in sorted(found)]


def _shortened(box: MaskBox, sample: Sample) -> MaskBox:
    """The box without the conditions, the dearest first, and with the gaps closed, that keep no row out.

    What a box without one condition takes more are the rows that fail this one alone.
    """
    outside = {column: ~mask[sample.codes[:, column]] for column, mask in box.items()}
    fails = np.sum(list(outside.values()), axis=0, dtype=np.int16)
    for column in sorted(box, key=lambda column: (-_cost(box[column]), -column)):
        if len(outside) > 1 and not (outside[column] & (fails == 1) & ~sample.wanted).any():
            fails -= outside.pop(column)
    is_inside = fails == 0
    narrowed = {}
    for column in (column for column in box if column in outside):
        codes = sample.codes[:, column]
        without = outside[column] & (fails == 1) & ~sample.wanted
        narrowed[column] = _narrowed(codes[is_inside], codes[without], sample.width(column))
    return narrowed


def _narrowed(used: Codes, denied: Codes, width: int) -> Mask:
    """The mask of some codes with the gaps closed in which no code is denied."""
    mask = np.zeros(width, bool)
    mask[used] = True
    denials = np.zeros(width, np.int64)
    denials[denied] = 1
    denials = np.cumsum(denials)
    values = np.flatnonzero(mask[1:-1]) + 1
    is_closed = denials[values[1:]] == denials[values[:-1]]
    steps = np.zeros(width, np.int8)
    steps[values[:-1][is_closed]] += 1
    steps[values[1:][is_closed]] -= 1
    closed: Mask = mask | (np.cumsum(steps) > 0)
    return closed


def _inside(box: MaskBox, sample: Sample) -> Mask:
    inside = np.ones(len(sample.wanted), bool)
    for column, mask in box.items():
        inside &= mask[sample.codes[:, column]]
    return inside


def _readable(mask: Mask, sample: Sample, column: int) -> Condition:
    """Few texts one by one, all else in ranges."""
    codes = np.flatnonzero(mask[1:-1]) + 1
    is_text = sample.columns[column].kind in (Kind.TEXT, Kind.BYTES)
    if is_text and len(codes) <= MAX_POINTS and not mask[1:-1].all():
        points = tuple((sample.domains[column][code - 1],) * 2 for code in codes.tolist())
        return Condition(column=column, ranges=points, null=bool(mask[_NULL]), nan=bool(mask[-1]))
    return condition_of(mask, sample, column)
