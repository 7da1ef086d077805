"""Checks recipes by running them: what comes back must be the child, names, order, types and bag of rows."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r2d2.errors import EngineError, TableFault, TableUnsupported
from r2d2.model import FileStamp, Fragment, Harvest, Recipe, fold, leaves, spark_type
from r2d2.recipes.shared_lists import MOST_LISTS, ListQuery, by_shape, free_names, groups_of, together
from r2d2.recipes.sql import view_name
from r2d2.scan.bag_job import SmallFrame, sum_small_frames, sum_tables
from r2d2.scan.bag_sums import BagSum
from r2d2.scan.items import ColumnSet
from r2d2.scan.job import FrameOf, Kernels
from r2d2.scan.pieces import TABLE, are_plain
from r2d2.scan.plan import TableScan, column_order

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from r2d2.lake.inventory import Inventory

log = logging.getLogger(__name__)

ONE_TASK_BYTES = 4 << 20
"""What a recipe may read to be run in one task: a kernel call costs more than the few rows of each task otherwise."""
SCANNED_BYTES = 256 << 20
"""The same where the child is that small, so that most of what is read is dropped before the kernel."""

SMALL_TOGETHER = 200
"""Recipes of few rows that are run in one job."""
SMALL_READ_BYTES = 4 * SCANNED_BYTES
"""What they read together at most: an engine may start all of them at once."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of some recipes.

    Attributes:
        good: Those that gave their child back exactly.
        refused: The others, with the reason in words.
        bytes_read: What was read to find out.
    """

    good: Sequence[Recipe]
    refused: Mapping[Recipe, str]
    bytes_read: int


def check_recipes(
    spark: SparkSession,
    recipes: Sequence[Recipe],
    inventory: Inventory,
    kernels: Kernels,
    engine_frame_of: FrameOf,
    known: dict[int, BagSum] | None = None,
) -> Checked:
    """Run recipes and compare what comes back with their children.

    Args:
        spark: Session whose temporary views the setups may define.
        recipes: Any; several may name the same child.
        inventory: The children's metadata.
        kernels: How to fingerprint.
        engine_frame_of: Rows of a child that the engine reads.
        known: Sums of children's rows; those of others are added, so that no child is read twice.
    """
    from pyspark.errors import PySparkException

    known = {} if known is None else known
    good: set[Recipe] = set()
    refused: dict[Recipe, str] = {}
    bytes_read = 0
    small = [recipe for recipe in recipes if _is_small(recipe, inventory.harvests[recipe.child])]
    large = [recipe for recipe in recipes if not _is_small(recipe, inventory.harvests[recipe.child])]
    pending = _batches(by_shape(small), SMALL_TOGETHER, SMALL_READ_BYTES) + _batches(large, kernels.queries)
    while pending:
        batch = pending.pop()
        try:
            confirmed, read = _run(spark, batch, inventory, kernels, engine_frame_of, known)
        except (PySparkException, EngineError):
            if len(batch) > 1:
                pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            else:
                log.info("a recipe of kind %s does not run on this engine", batch[0].kind)
                refused[batch[0]] = f"{_a(batch[0])} does not run on this engine, or returns other columns"
            continue
        good.update(confirmed)
        refused |= {recipe: f"{_a(recipe)} gave other rows when it was run" for recipe in batch}
        bytes_read += read
    for recipe in good:
        refused.pop(recipe, None)
    return Checked(good=[recipe for recipe in recipes if recipe in good], refused=refused, bytes_read=bytes_read)


def _a(recipe: Recipe) -> str:
    return f"a query of the kind {recipe.kind!r}"


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A recipe with what decides which batch takes it.

    Attributes:
        views: Statements by the folded name of the view that they define.
        shape: Of its key list, if it has one.
    """

    recipe: Recipe
    views: Mapping[str, str]
    shape: object

    @classmethod
    def of(cls, recipe: Recipe) -> _Candidate:
        """The same for a recipe."""
        query = ListQuery.of(recipe)
        views = {fold(view_name(statement)): statement for statement in recipe.setup_sql}
        return cls(recipe=recipe, views=views, shape=query.shape if query else None)


@dataclass(kw_only=True)
class _Batch:
    """Recipes that are run in one job.

    Attributes:
        views: Of all of them.
        lists: Key lists by shape.
        read_bytes: What the job reads at once.
    """

    recipes: list[Recipe] = field(default_factory=list)
    views: dict[str, str] = field(default_factory=dict)
    lists: Counter[object] = field(default_factory=Counter)
    read_bytes: int = 0

    def takes(self, one: _Candidate, most: int, most_bytes: float) -> bool:
        """Whether it has room, and no view would overwrite another: to Spark names that differ by case are one."""
        return (
            len(self.recipes) < most
            and self.read_bytes + self._added_bytes(one) <= most_bytes
            and all(self.views.get(name, statement) == statement for name, statement in one.views.items())
        )

    def add(self, one: _Candidate) -> None:
        """Take a recipe."""
        self.read_bytes += self._added_bytes(one)
        self.recipes.append(one.recipe)
        self.views |= one.views
        self.lists[one.shape] += 1

    def _added_bytes(self, one: _Candidate) -> int:
        """What one more recipe adds: MOST_LISTS key lists of one shape read their parent once."""
        is_shared = one.shape is not None and self.lists[one.shape] % MOST_LISTS > 0
        return 0 if is_shared else one.recipe.read_bytes


def _batches(recipes: Iterable[Recipe], most: int, most_bytes: float = math.inf) -> list[list[Recipe]]:
    """Batches of so many recipes, and of so many bytes unless one recipe reads more."""
    batches: list[_Batch] = []
    for one in map(_Candidate.of, recipes):
        batch = next((batch for batch in batches if batch.takes(one, most, most_bytes)), None)
        if batch is None:
            batch = _Batch()
            batches.append(batch)
        batch.add(one)
    return [batch.recipes for batch in batches]


def _run(
    spark: SparkSession,
    batch: Sequence[Recipe],
    inventory: Inventory,
    kernels: Kernels,
    engine_frame_of: FrameOf,
    known: dict[int, BagSum],
) -> tuple[list[Recipe], int]:
    """The recipes of a batch that give their children back, found out in two jobs at most, and bytes that they read."""
    offset = len(inventory.found)
    numbered = {offset + number: recipe for number, recipe in enumerate(batch)}
    child_of = {table: inventory.harvests[recipe.child] for table, recipe in numbered.items()}
    defined: set[str] = set()

    def frame_of(table: int) -> DataFrame:
        if table not in numbered:
            return engine_frame_of(table)
        return rebuilt(spark, numbered[table], child_of[table], defined)

    small = {table: numbered[table] for table in numbered if _is_small(numbered[table], child_of[table])}
    frames = _small_frames(spark, small, child_of, frame_of)
    sums = sum_small_frames(frames, kernels) if frames else {}
    scans = [_scan(table, child_of[table], is_rebuilt=True) for table in numbered if table not in small]
    children = sorted({recipe.child for recipe in batch} - known.keys())
    scans += [_scan(child, inventory.harvests[child], is_rebuilt=False) for child in children]
    summed = sum_tables(spark, scans, kernels, frame_of)
    known |= {child: summed.of[child] for child in children if child in summed.of}
    sums |= summed.of
    good = [r for table, r in numbered.items() if table in sums and sums[table] == known.get(r.child)]
    return good, summed.bytes_read + sum(child_of[table].table_bytes for table in small)


def _is_small(recipe: Recipe, child: Harvest) -> bool:
    """Whether the rows of a recipe are summed with those of others: few are read, or wanted."""
    return _in_one_task(recipe, child) and are_plain(child.schema)


def _small_frames(
    spark: SparkSession, recipes: Mapping[int, Recipe], child_of: Mapping[int, Harvest], frame_of: FrameOf
) -> list[SmallFrame]:
    """The rows of recipes, without those that the engine refuses or that return other columns."""
    from pyspark.errors import PySparkException

    frames: dict[int, DataFrame] = {}
    for table in recipes:
        with suppress(TableFault, PySparkException):
            frames[table] = frame_of(table)
    queries = {table: query for table in frames if (query := ListQuery.of(recipes[table]))}
    names = free_names(recipes.values())
    found: list[SmallFrame] = []
    for tables in groups_of(queries):
        if len(tables) > 1:
            rows = together(spark, [queries[table] for table in tables], next(names))
            rows = rows.toDF(*frames[tables[0]].columns, TABLE).coalesce(1)
            found.append(SmallFrame(frame=rows, tables=tables, schema=child_of[tables[0]].schema))
    served = {table for one in found for table in one.tables}
    alone = (table for table in frames if table not in served)
    return found + [SmallFrame(frame=frames[t], tables=(t,), schema=child_of[t].schema) for t in alone]


def rebuilt(spark: SparkSession, recipe: Recipe, child: Harvest, defined: set[str]) -> DataFrame:
    """The rows of a recipe, columns renamed c0, c1, ….

    Args:
        spark: Session whose views the setup defines.
        recipe: Any.
        child: The child's metadata.
        defined: Statements of setups that the session has run, and that no other has replaced; those run are added.

    Raises:
        TableUnsupported: If names, order or types are not the child's.
    """
    for statement in recipe.setup_sql:
        if statement not in defined:
            spark.sql(statement)
            defined.add(statement)
    frame = spark.sql(recipe.recipe_sql)
    want = [(column.name, _plain(spark_type(column.type))) for column in child.schema]
    have = [(column.name, _plain(column.dataType.simpleString())) for column in frame.schema]
    if have != want:
        raise TableUnsupported("the recipe returns other columns than the table has", error="Recipe")
    frame = frame.toDF(*[f"c{index}" for index in range(len(want))])
    return frame.coalesce(1) if _in_one_task(recipe, child) else frame


def _in_one_task(recipe: Recipe, child: Harvest) -> bool:
    """Whether several tasks would cost more than they save: each plans the fingerprints of the few rows it gets."""
    most = SCANNED_BYTES if child.table_bytes <= ONE_TASK_BYTES else ONE_TASK_BYTES
    return recipe.read_bytes <= most


def _plain(type_text: str) -> str:
    return type_text.replace("`", "").replace(" ", "").lower()


def _scan(table: int, harvest: Harvest, *, is_rebuilt: bool) -> TableScan:
    if is_rebuilt:
        rows = Fragment(stamp=FileStamp(uri="", size=harvest.table_bytes, token=""), data_uri="", rows=harvest.rows)
        harvest = Harvest(schema=harvest.schema, version="", fragments=(rows,), reader="engine")
    paths = column_order([path for path, _ in leaves(harvest.schema)])
    return TableScan(table=table, harvest=harvest, column_sets=(ColumnSet(id=0, paths=paths),))
