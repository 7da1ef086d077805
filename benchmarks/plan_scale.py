"""How long the plan of a large lake takes, and how close to the best it is proved to be.

    python benchmarks/plan_scale.py --tables 100000 --recipes 300000

Tables and recipes that do not exist, in four shapes: families of 20 tables, one random graph, one random graph without
cycles, and families of three union recipes over two tables each. Sizes are log-normal, every table is read once a
month. Prints wall and CPU seconds, the gap and the deletions of each as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Callable, Iterator

from r2d2.model import Recipe
from r2d2.retention.offers import Candidate
from r2d2.retention.plan import plan_retention
from r2d2.retention.prices import load_price_book

FAMILY = 20
Pairs = Iterator[tuple[int, tuple[int, ...]]]


def families(rng: random.Random, tables: int) -> Pairs:
    """Recipes within families."""
    while True:
        start = rng.randrange(tables // FAMILY) * FAMILY
        child, parent = rng.sample(range(start, start + FAMILY), 2)
        yield child, (parent,)


def graph(rng: random.Random, tables: int) -> Pairs:
    """Recipes between any two tables."""
    while True:
        child, parent = rng.sample(range(tables), 2)
        yield child, (parent,)


def acyclic(rng: random.Random, tables: int) -> Pairs:
    """Recipes from smaller numbers only, as among growing tables."""
    while True:
        parent, child = sorted(rng.sample(range(tables), 2))
        yield child, (parent,)


def unions(rng: random.Random, tables: int) -> Pairs:
    """Recipes with two parents each, within families."""
    while True:
        start = rng.randrange(tables // FAMILY) * FAMILY
        child, *parents = rng.sample(range(start, start + FAMILY), 3)
        yield child, tuple(sorted(parents))


SHAPES: dict[str, Callable[[random.Random, int], Pairs]] = {
    "families": families,
    "graph": graph,
    "acyclic": acyclic,
    "unions": unions,
}


def instance(shape: str, tables: int, recipes: int, seed: int) -> tuple[list[Candidate], list[Recipe]]:
    """Tables, and so many different recipes over them."""
    rng = random.Random(seed)
    sizes = [int(rng.lognormvariate(22, 2)) for _ in range(tables)]
    candidates = [
        Candidate(
            table=i, id=f"t{i:06}", bytes=size, history_bytes=0, rows=1, columns=1, may_delete=True, keep_reason=""
        )
        for i, size in enumerate(sizes)
    ]
    wanted: set[tuple[int, tuple[int, ...]]] = set()
    for pair in SHAPES[shape](rng, tables):
        wanted.add(pair)
        if len(wanted) == recipes:
            break
    made = [
        Recipe(
            child=child,
            parents=parents,
            kind="projection" if len(parents) == 1 else "union",
            setup_sql=(),
            recipe_sql="",
            read_bytes=sum(sizes[parent] for parent in parents),
        )
        for child, parents in sorted(wanted)
    ]
    return candidates, made


def measured(shape: str, tables: int, recipes: int, reads: float) -> dict[str, object]:
    """One plan with its costs."""
    candidates, made = instance(shape, tables, recipes, seed=1)
    wall, cpu = time.monotonic(), time.process_time()
    plan = plan_retention(candidates, made, load_price_book(), reads_per_month=reads, horizon_months=12)
    return {
        "shape": shape,
        "tables": tables,
        "recipes": recipes,
        "wall_seconds": round(time.monotonic() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "optimal": plan.optimal,
        "gap": plan.gap,
        "deleted": sum(decision.delete for decision in plan.decisions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=100_000, help="at least 40")
    parser.add_argument("--recipes", type=int, default=300_000)
    parser.add_argument("--reads", type=float, default=1.0, help="reads of each table per month")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all, one after another")
    arguments = parser.parse_args()
    for shape in arguments.shape or SHAPES:
        print(json.dumps(measured(shape, arguments.tables, arguments.recipes, arguments.reads)), flush=True)


if __name__ == "__main__":
    main()
