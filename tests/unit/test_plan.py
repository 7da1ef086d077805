"""Plans: the same cost as exhaustive search, feasible, the same for any order of the input, and explained."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import time

import pytest

from r2d2.errors import UsageError
from r2d2.model import Recipe
from r2d2.retention.offers import Candidate
from r2d2.retention.plan import Decision, Plan, plan_retention
from r2d2.retention.prices import load_price_book

PRICES = load_price_book()
TRANSFER = dataclasses.replace(PRICES.transfer, read_price=0.002, write_price=0.003)
BOOKS = (PRICES, dataclasses.replace(PRICES, transfer=TRANSFER))
HORIZON = 12.0
GIB = 1 << 30


def table(position: int, size: int = GIB, **changes: object) -> Candidate:
    plain = Candidate(
        table=position,
        id=f"t{position}",
        bytes=size,
        history_bytes=0,
        rows=10,
        columns=3,
        may_delete=True,
        keep_reason="",
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def recipe(child: int, *parents: int, kind: str = "projection", read_bytes: int = GIB) -> Recipe:
    sql = f"{child} from {parents}"
    return Recipe(child=child, parents=parents, kind=kind, setup_sql=(), recipe_sql=sql, read_bytes=read_bytes)


def plan(candidates: list[Candidate], recipes: list[Recipe], reads: float = 0.0) -> Plan:
    return plan_retention(candidates, recipes, PRICES, reads_per_month=reads, horizon_months=HORIZON)


def reasons(found: Plan) -> list[str]:
    return [decision.reason for decision in found.decisions]


def instance(seed: int) -> tuple[list[Candidate], list[Recipe], float]:
    """Up to 9 tables; every third instance has few sizes, so that costs tie."""
    rng = random.Random(seed)
    n = rng.randint(1, 9)

    def size() -> int:
        return rng.choice((GIB, 2 * GIB)) if seed % 3 == 0 else int(rng.lognormvariate(22, 2))

    sizes = [size() for _ in range(n)]
    candidates = [
        table(
            i,
            sizes[i],
            history_bytes=rng.choice((0, 0, size())),
            columns=rng.randint(1, 2),
            rows=rng.randint(1, 2),
            may_delete=rng.random() > 0.15,
            keep_reason="protected",
        )
        for i in range(n)
    ]
    recipes = []
    for child in range(n):
        others = [other for other in range(n) if other != child]
        for _ in range(rng.randint(0, 3) if others else 0):
            parents = rng.sample(others, min(len(others), rng.choice((1, 1, 1, 2, 3))))
            kind = "equal" if len(parents) == 1 and sizes[child] == sizes[parents[0]] else "projection"
            recipes.append(recipe(child, *parents, kind=kind, read_bytes=sum(sizes[p] for p in parents)))
    return candidates, recipes, rng.choice((0.0, 0.0, 1.0, 20.0, 200.0))


def kept_cost(candidate: Candidate) -> float:
    return (candidate.bytes + candidate.history_bytes) / 2**30 * 0.023 * 12


def rebuild_cost(used: Recipe, child: Candidate, reads: float, book: int) -> float:
    read_price, write_price = ((0.0, 0.0), (0.002, 0.003))[book]
    hours = (30 + used.read_bytes / 1e8) / 3600
    once = used.read_bytes / 2**30 * read_price + child.bytes / 2**30 * write_price + hours * 0.1632
    return reads * once * 12


def cheapest(candidates: list[Candidate], recipes: list[Recipe], reads: float, book: int) -> float:
    """Cost of the best plan, over all sets of deletions."""
    free = [c.table for c in candidates if c.may_delete]
    best = math.inf
    for size in range(len(free) + 1):
        for deleted in map(set, itertools.combinations(free, size)):
            cost = 0.0
            for c in candidates:
                usable = [r for r in recipes if r.child == c.table and deleted.isdisjoint(r.parents)]
                rebuilt = min((rebuild_cost(r, c, reads, book) for r in usable), default=math.inf)
                cost += rebuilt if c.table in deleted else kept_cost(c)
            best = min(best, cost)
    return best


def check_feasible(found: Plan, candidates: list[Candidate], recipes: list[Recipe]) -> None:
    deleted = {d.table for d in found.decisions if d.delete}
    assert [d.table for d in found.decisions] == sorted(c.table for c in candidates)
    for decision, candidate in zip(found.decisions, sorted(candidates, key=lambda c: c.table), strict=True):
        if decision.delete:
            assert candidate.may_delete
            assert decision.recipe in recipes
            assert decision.recipe is not None
            assert decision.recipe.child == decision.table
            assert deleted.isdisjoint(decision.recipe.parents), "rebuilt from a deleted table"
            assert decision.saving_per_month > 0
        else:
            assert (decision.recipe, decision.saving_per_month, decision.rebuild_seconds) == (None, 0.0, None)
            assert decision.reason.startswith("kept: ")


def cost_of(decision: Decision, candidate: Candidate, reads: float, book: int) -> float:
    """The decision's cost computed anew, compared with the one it states."""
    kept = kept_cost(candidate)
    assert decision.cost_kept == pytest.approx(kept, rel=1e-12)
    if decision.recipe is None:
        return kept
    deleted = rebuild_cost(decision.recipe, candidate, reads, book)
    assert decision.cost_deleted == pytest.approx(deleted, rel=1e-12)
    assert decision.saving_per_month == pytest.approx((kept - deleted) / 12, rel=1e-9)
    assert decision.rebuild_seconds == pytest.approx(30 + decision.recipe.read_bytes / 1e8, rel=1e-12)
    assert decision.rebuild_cost is not None
    assert decision.rebuild_cost * reads * 12 == pytest.approx(deleted, rel=1e-12)
    return deleted


@pytest.mark.parametrize("block", range(6))
def test_plans_are_feasible_and_cost_what_exhaustive_search_finds(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        candidates, recipes, reads = instance(seed)
        book = seed % 2
        found = plan_retention(candidates, recipes, BOOKS[book], reads_per_month=reads, horizon_months=HORIZON)
        check_feasible(found, candidates, recipes)
        costs = [cost_of(d, c, reads, book) for d, c in zip(found.decisions, candidates, strict=True)]
        assert math.fsum(costs) == pytest.approx(cheapest(candidates, recipes, reads, book), rel=1e-8), seed
        saved = math.fsum(kept_cost(c) for c in candidates) - math.fsum(costs)
        assert found.savings_per_month == pytest.approx(saved / 12, rel=1e-8, abs=1e-9), seed
        assert (found.optimal, found.gap, found.currency) == (True, 0.0, "USD")


def test_the_order_of_the_input_does_not_matter() -> None:
    for seed in range(120):
        candidates, recipes, reads = instance(seed)
        rng = random.Random(seed)
        shuffled = rng.sample(candidates, len(candidates)), rng.sample(recipes, len(recipes))
        assert plan(*shuffled, reads) == plan(candidates, recipes, reads), seed


def equal_pairs(n: int) -> list[Recipe]:
    return [recipe(c, p, kind="equal") for c, p in itertools.permutations(range(n), 2)]


def test_of_equal_tables_the_smallest_id_is_kept() -> None:
    found = plan([table(0, id="c"), table(1, id="a"), table(2, id="b")], equal_pairs(3))
    assert reasons(found) == ["equal to `a`", "kept: parent of 2 deleted tables", "equal to `a`"]


def test_a_table_that_may_not_be_deleted_is_the_one_that_is_kept() -> None:
    candidates = [table(0), table(1), table(2, may_delete=False, keep_reason="its files are read by `x`")]
    assert reasons(plan(candidates, equal_pairs(3))) == [
        "equal to `t2`",
        "equal to `t2`",
        "kept: its files are read by `x`",
    ]


def test_of_equal_tables_the_one_with_the_fewest_bytes_is_kept() -> None:
    found = plan([table(0, 3 * GIB), table(1, GIB), table(2, GIB, history_bytes=GIB)], equal_pairs(3))
    assert [decision.delete for decision in found.decisions] == [True, False, True]
    assert found.savings_per_month == pytest.approx(5 * 0.023)


def test_kept_tables_say_why() -> None:
    found = plan([table(0), table(1), table(2, 0)], [recipe(1, 0), recipe(2, 0)])
    assert reasons(found) == [
        "kept: parent of 1 deleted table",
        "its columns are a projection of `t0`",
        "kept: deleting it would save nothing",
    ]
    assert reasons(plan([table(0), table(1)], [recipe(1, 0)], reads=1000)) == [
        "kept: no other table contains it",
        "kept: costs less to keep than to rebuild",
    ]
    other = plan([table(0, 9 * GIB), table(1, 9 * GIB), table(2)], [recipe(2, 1), recipe(1, 0)])
    assert reasons(other)[2] == "kept: `t1`, which it would be rebuilt from, is deleted"


def test_the_cheaper_recipe_is_used_and_several_parents_are_named() -> None:
    recipes = [recipe(2, 0, read_bytes=5 * GIB), recipe(2, 0, 1, kind="union", read_bytes=2 * GIB)]
    decision = plan([table(0), table(1), table(2)], recipes, reads=0.1).decisions[2]
    assert decision.recipe == recipes[1]
    assert decision.reason == "its rows are those of `t0` and `t1` together"


def test_an_empty_lake_has_an_empty_plan() -> None:
    assert plan([], []) == Plan(decisions=(), savings_per_month=0.0, currency="USD", optimal=True, gap=0.0)


@pytest.mark.parametrize(
    ("candidates", "recipes", "message"),
    [
        ([table(0), table(0)], [], "two candidates"),
        ([table(0, -1)], [], "bytes must not be negative"),
        ([table(0)], [recipe(0, 1)], "not a candidate"),
        ([table(0), table(1)], [recipe(0, 0, 1)], "one or more other tables"),
        ([table(0)], [recipe(0)], "one or more other tables"),
        ([table(0), table(1)], [recipe(0, 1, read_bytes=-1)], "read_bytes must not be negative"),
    ],
)
def test_wrong_input_is_refused(candidates: list[Candidate], recipes: list[Recipe], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(candidates, recipes)


def test_a_wrong_time_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="time limit"):
        plan_retention([], [], PRICES, reads_per_month=0, horizon_months=12, time_limit_seconds=-1)


def test_a_plan_stopped_by_its_time_limit_says_so_and_is_feasible() -> None:
    rng = random.Random(3)
    candidates = [table(i, rng.randint(1, 9) * GIB) for i in range(60)]
    recipes = [recipe(c, p) for c, p in itertools.permutations(range(60), 2) if rng.random() < 0.05]
    found = plan_retention(candidates, recipes, PRICES, reads_per_month=0, horizon_months=12, time_limit_seconds=0)
    best = plan(candidates, recipes)
    check_feasible(found, candidates, recipes)
    assert not found.optimal
    assert 0 < found.savings_per_month <= best.savings_per_month * (1 + 1e-9)
    assert best.savings_per_month * (1 - found.gap) <= found.savings_per_month * (1 + 1e-9)


@pytest.mark.slow
def test_twenty_thousand_tables_are_planned_in_well_under_a_minute() -> None:
    rng = random.Random(1)
    candidates = [table(i, int(rng.lognormvariate(22, 2))) for i in range(20_000)]
    pairs = {tuple(rng.sample(range(20_000), 2)) for _ in range(60_000)}
    recipes = [recipe(c, p, read_bytes=candidates[p].bytes) for c, p in sorted(pairs)]
    start = time.monotonic()
    found = plan(candidates, recipes, reads=1.0)
    assert time.monotonic() - start < 40
    deleted = {d.table for d in found.decisions if d.delete}
    assert all(deleted.isdisjoint(d.recipe.parents) for d in found.decisions if d.recipe is not None)
    assert found.optimal
