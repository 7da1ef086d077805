"""What a step of the stage *recipes* hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from r2d2.model import Recipe
from r2d2.recipes.stored import Ends
from r2d2.scan.bag_sums import BagSum


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What one step offers for edges without a recipe.

    Attributes:
        recipes: Unchecked, at most one for each child and its parents.
        last: The same, for edges that no step serves: key lists, which cost storage.
        reasons: Why some edges get none from this step, in words.
        sums: Of the rows of children that were read whole, under all their columns.
        bytes_read: What was read to find them.
    """

    recipes: Sequence[Recipe] = ()
    last: Sequence[Recipe] = ()
    reasons: Mapping[Ends, str] = field(default_factory=dict)
    sums: Mapping[int, BagSum] = field(default_factory=dict)
    bytes_read: int = 0
