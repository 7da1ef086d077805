"""Key lists of one parent, run together: the parent is read once for many small children, not once for each.

What runs is the text of the recipes with the union of their lists in place of each list; a number in each list tells
whose row is returned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2d2.model import Recipe, fold
from r2d2.recipes.sql import view_name
from r2d2.session import union_all

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MOST_LISTS = 64
"""Lists that are run together, in one task."""


@dataclass(frozen=True)
class ListQuery:
    """A recipe by key list in parts.

    Attributes:
        selected: Its text before the list.
        view: The name of its list.
        source: Its text behind the list.
        setup: What its parent needs.
    """

    selected: str
    view: str
    source: str
    setup: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> ListQuery | None:
        """The parts of a recipe; None where it has no key list that can be told from the rest."""
        if recipe.kind != "key_list":
            return None
        view = view_name(recipe.setup_sql[-1])
        selected, *rest = recipe.recipe_sql.split(f" FROM {view} JOIN ")
        return cls(selected, view, rest[0], recipe.setup_sql[:-1]) if len(rest) == 1 else None

    @property
    def shape(self) -> tuple[str, str, tuple[str, ...]]:
        """What it has in common with those that can be run together with it."""
        return self.selected, self.source, self.setup


def by_shape(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Recipes with those together that can be run together; else in their order."""
    alike: dict[object, list[Recipe]] = {}
    for recipe in recipes:
        query = ListQuery.of(recipe)
        alike.setdefault(query.shape if query else None, []).append(recipe)
    return [recipe for own in alike.values() for recipe in own]


def groups_of(queries: Mapping[int, ListQuery]) -> list[tuple[int, ...]]:
    """The numbers of queries that can be run together, in groups of at most MOST_LISTS."""
    alike: dict[object, list[int]] = {}
    for number, query in queries.items():
        alike.setdefault(query.shape, []).append(number)
    return [
        tuple(numbers[start : start + MOST_LISTS])
        for numbers in alike.values()
        for start in range(0, len(numbers), MOST_LISTS)
    ]


def free_names(recipes: Iterable[Recipe]) -> Iterator[str]:
    """Different names that stand nowhere in the SQL of some recipes."""
    used = fold("\n".join(text for recipe in recipes for text in (*recipe.setup_sql, recipe.recipe_sql)))
    return (name for n in itertools.count() if (name := f"r2d2_lists_{n}") not in used)


def together(spark: SparkSession, queries: Sequence[ListQuery], name: str) -> DataFrame:
    """The rows of queries of one shape, and behind the columns the place of the query among them.

    Args:
        spark: Session in which the setups have been run.
        queries: At least one.
        name: One of `free_names`, for a view of their lists, which must stay until the frame has been used, and for
            the column in it that numbers them.
    """
    from pyspark.sql.functions import lit

    lists = union_all([spark.table(query.view).withColumn(name, lit(n)) for n, query in enumerate(queries)])
    lists.createOrReplaceTempView(name)
    first = queries[0]
    return spark.sql(f"{first.selected}, {name}.{name} FROM {name} JOIN {first.source}")
