"""Plans with latency bounds, policies, key lists, expiries and chains cost what exhaustive search finds."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import random
from collections.abc import Sequence

import pytest

from r2d2.model import Recipe
from r2d2.recipes.sql import view_name
from r2d2.retention.chains import compose_chains
from r2d2.retention.offers import Candidate
from r2d2.retention.pareto import pareto_curve
from r2d2.retention.plan import Decision, Plan, make_offers, plan_of, plan_retention
from r2d2.retention.prices import load_price_book

GIB = 1 << 30
TODAY = datetime.date(2026, 11, 25)
HORIZON = 12.0
BOOK = load_price_book()
PRICES = dataclasses.replace(BOOK, transfer=dataclasses.replace(BOOK.transfer, read_price=0.002, write_price=0.003))


def view(table: int) -> str:
    return f"CREATE OR REPLACE TEMPORARY VIEW `t{table}` USING parquet OPTIONS (path 'p{table}')"


def recipe(child: int, parents: Sequence[int], read_bytes: int, **changes: object) -> Recipe:
    made = Recipe(
        child=child,
        parents=tuple(parents),
        kind="union" if len(parents) > 1 else "selection",
        setup_sql=tuple(view(parent) for parent in parents),
        recipe_sql=f"SELECT {child}, {read_bytes}",
        read_bytes=read_bytes,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Instance:
    candidates: list[Candidate]
    recipes: list[Recipe]
    reads: float
    chains: int


def instance(seed: int) -> Instance:
    """Up to 12 tables in chains and unions, some protected, with a bound, an access rate, a key list or an expiry."""
    rng = random.Random(seed)
    n = rng.randint(2, 12 if seed % 10 == 0 else 8)
    sizes = [rng.choice((GIB, 3 * GIB)) if seed % 3 == 0 else int(rng.lognormvariate(22, 2)) for _ in range(n)]
    candidates = [
        Candidate(
            table=i,
            id=f"t{i}",
            bytes=sizes[i],
            history_bytes=rng.choice((0, sizes[i] // 2)),
            shared_bytes=rng.choice((0, 0, sizes[i] // 4)),
            rows=rng.randint(1, 3),
            columns=rng.randint(1, 2),
            may_delete=(may := rng.random() > 0.15),
            keep_reason="" if may else "policy 'hold'",
            reads_per_month=rng.choice((None, None, 0.0, 3.0, 50.0)),
            latency_bound_seconds=rng.choice((None, None, 45.0, 200.0)),
        )
        for i in range(n)
    ]
    recipes = []
    for child in range(n):
        others = [other for other in range(n) if other != child]
        for _ in range(rng.choice((0, 1, 1, 2))):
            parents = rng.sample(others, min(len(others), rng.choice((1, 1, 1, 2))))
            stored = rng.choice((0, 0, sizes[child] // 10))
            expires = rng.choice((None, None, None, TODAY + datetime.timedelta(days=rng.choice((100, 364, 367, 900)))))
            read = sum(sizes[parent] for parent in parents) + stored
            recipes.append(recipe(child, parents, read, stored_bytes=stored, expires=expires))
    return Instance(candidates, recipes, rng.choice((0.0, 0.0, 1.0, 20.0)), seed % 3)


def month_price(stored: int) -> float:
    return stored / 2**30 * 0.023


def kept_cost(candidate: Candidate) -> float:
    own = candidate.bytes - candidate.shared_bytes
    return month_price(own + candidate.history_bytes) * HORIZON


Way = tuple[float, float, float, int]
"""Seconds and cost of one rebuild, stored bytes, deleted tables in a row."""


def ways_back(given: Instance, table: int, deleted: frozenset[int], depth: int, above: frozenset[int]) -> list[Way]:
    """Every way to rebuild a table, each deleted parent by any recipe of its own."""
    found: list[Way] = []
    for r in given.recipes:
        lasting = r.expires is None or r.expires > TODAY + datetime.timedelta(days=366)
        if r.child != table or not lasting:
            continue
        seconds = 30 + r.read_bytes / 1e8
        written = given.candidates[table].bytes
        cost = r.read_bytes / 2**30 * 0.002 + written / 2**30 * 0.003 + seconds / 3600 * 0.1632
        choices: list[list[Way]] = []
        for parent in r.parents:
            if parent not in deleted:
                choices.append([(0.0, 0.0, 0.0, 0)])
            elif depth and parent not in above:
                longer = ways_back(given, parent, deleted, depth - 1, above | {table})
                choices.append([(s, c, b, d + 1) for s, c, b, d in longer])
            else:
                choices.append([])
        for parts in itertools.product(*choices):
            s, c, b = (sum(part[i] for part in parts) for i in range(3))
            found.append((seconds + s, cost + c, r.stored_bytes + b, max(part[3] for part in parts)))
    return found


def cheapest(given: Instance) -> float:
    """Cost of the best plan over all sets of deletions."""
    free = [c.table for c in given.candidates if c.may_delete and any(r.child == c.table for r in given.recipes)]
    best = math.inf
    for size in range(len(free) + 1):
        for deleted in map(frozenset, itertools.combinations(free, size)):
            best = min(best, sum(cost_in(given, c, deleted) for c in given.candidates))
    return best


def cost_in(given: Instance, candidate: Candidate, deleted: frozenset[int]) -> float:
    if candidate.table not in deleted:
        return kept_cost(candidate)
    reads = given.reads if candidate.reads_per_month is None else candidate.reads_per_month
    bound = math.inf if candidate.latency_bound_seconds is None else candidate.latency_bound_seconds
    return min(
        (
            (reads * cost + month_price(int(stored))) * HORIZON
            for seconds, cost, stored, _ in ways_back(
                given, candidate.table, deleted, given.chains, frozenset({candidate.table})
            )
            if seconds <= bound
        ),
        default=math.inf,
    )


def chains_of(given: Instance) -> list[Recipe]:
    return compose_chains(
        given.recipes,
        [c.id for c in given.candidates],
        [c.bytes for c in given.candidates],
        depth=given.chains,
        view_name=view_name,
    )


def planned(given: Instance, **changes: float) -> Plan:
    return plan_retention(
        given.candidates,
        [*given.recipes, *chains_of(given)],
        PRICES,
        reads_per_month=given.reads,
        horizon_months=HORIZON,
        today=TODAY,
        **changes,
    )


def cost_of(given: Instance, decision: Decision) -> float:
    """The decision's cost computed anew, compared with the one it states."""
    candidate = given.candidates[decision.table]
    kept = kept_cost(candidate)
    assert decision.cost_kept == pytest.approx(kept, rel=1e-12)
    used = decision.recipe
    if used is None:
        return kept
    reads = given.reads if candidate.reads_per_month is None else candidate.reads_per_month
    seconds = 30 * (1 + len(used.through)) + used.read_bytes / 1e8
    written = sum(given.candidates[t].bytes for t in (used.child, *used.through))
    once = used.read_bytes / 2**30 * 0.002 + written / 2**30 * 0.003 + seconds / 3600 * 0.1632
    deleted = (reads * once + month_price(used.stored_bytes)) * HORIZON
    assert decision.rebuild_seconds == pytest.approx(seconds, rel=1e-12)
    assert decision.rebuild_cost == pytest.approx(once, rel=1e-12)
    assert decision.cost_deleted == pytest.approx(deleted, rel=1e-12)
    assert decision.saving_per_month == pytest.approx((kept - deleted) / HORIZON, rel=1e-9)
    return deleted


def check_allowed(given: Instance, plan: Plan) -> None:
    gone = {d.table for d in plan.decisions if d.delete}
    for decision in plan.decisions:
        candidate = given.candidates[decision.table]
        if decision.recipe is None:
            assert decision.reason.startswith("kept: ")
            continue
        assert candidate.may_delete
        assert gone.isdisjoint(decision.recipe.parents), "the plan ends in a deleted table"
        bound = candidate.latency_bound_seconds
        assert bound is None or (decision.rebuild_seconds is not None and decision.rebuild_seconds <= bound)
        assert decision.recipe.expires is None or (decision.recipe.expires - TODAY).days > 366


@pytest.mark.parametrize("block", range(5))
def test_plans_cost_what_exhaustive_search_finds(block: int) -> None:
    """Hyperedges, bounds, protected tables, key lists, expiries; two of three instances with chains."""
    used_chains = 0
    for seed in range(block * 100, block * 100 + 100):
        given = instance(seed)
        plan = planned(given)
        check_allowed(given, plan)
        cost = math.fsum(cost_of(given, decision) for decision in plan.decisions)
        assert cost == pytest.approx(cheapest(given), rel=1e-8), seed
        assert plan.optimal
        used_chains += any(d.recipe is not None and d.recipe.through for d in plan.decisions)
    assert used_chains > 3, "no instance needs a chain: the test proves nothing about them"


def test_the_curve_is_that_of_plans_with_the_bound() -> None:
    for seed in range(60):
        given = instance(seed)
        recipes = [*given.recipes, *chains_of(given)]
        options = {"reads_per_month": given.reads, "horizon_months": HORIZON, "today": TODAY}
        curve = pareto_curve(make_offers(given.candidates, recipes, PRICES, **options))  # type: ignore[arg-type]
        assert curve.solved == min(curve.breakpoints, 20)
        savings = [point.savings_per_month for point in curve.points]
        assert savings == sorted(set(savings))
        for point in curve.points:
            bounded = [
                dataclasses.replace(
                    c,
                    latency_bound_seconds=min(
                        point.max_latency_seconds,
                        math.inf if c.latency_bound_seconds is None else c.latency_bound_seconds,
                    ),
                )
                for c in given.candidates
            ]
            plan = plan_of(make_offers(bounded, recipes, PRICES, **options))  # type: ignore[arg-type]
            assert point.savings_per_month == pytest.approx(plan.savings_per_month, rel=1e-8), seed
        if curve.solved == curve.breakpoints:
            assert max(savings, default=0.0) == pytest.approx(planned(given).savings_per_month, rel=1e-8, abs=1e-12)


def test_a_curve_has_a_bounded_number_of_points() -> None:
    candidates = [
        Candidate(
            table=i,
            id=f"t{i}",
            bytes=(i + 1) * GIB,
            history_bytes=0,
            rows=1,
            columns=1,
            may_delete=True,
            keep_reason="",
        )
        for i in range(60)
    ]
    recipes = [recipe(child, [child - 1], child * GIB) for child in range(1, 60, 2)]
    offers = make_offers(candidates, recipes, PRICES, reads_per_month=0, horizon_months=12, today=TODAY)
    curve = pareto_curve(offers, most_points=7)
    assert (curve.breakpoints, curve.solved, len(curve.points)) == (30, 7, 7)
    assert curve.points[-1].max_latency_seconds == pytest.approx(30 + 59 * GIB / 1e8)
    assert pareto_curve(offers, time_limit_seconds=0).solved == 0


def test_reasons_name_the_bound_the_expiry_and_the_policy() -> None:
    slow = recipe(1, [0], 237 * 10**9)  # 2400 s
    ends = recipe(2, [0], 0, expires=TODAY + datetime.timedelta(days=40))
    size = {"history_bytes": 0, "rows": 1, "columns": 1, "may_delete": True, "keep_reason": ""}
    base = [Candidate(table=i, id=f"t{i}", bytes=GIB, **size) for i in range(4)]  # type: ignore[arg-type]
    base[1] = dataclasses.replace(base[1], latency_bound_seconds=900.0, latency_rule="dashboards")
    base[3] = dataclasses.replace(base[3], may_delete=False, keep_reason="policy 'gdpr-hold'")
    plan = plan_retention(base, [slow, ends], PRICES, reads_per_month=0, horizon_months=12, today=TODAY)
    assert [(d.constraint, d.reason) for d in plan.decisions] == [
        ("recipe", "kept: no other table contains it"),
        ("latency", "kept: latency 40 min > 15 min (policy 'dashboards')"),
        ("expires", "kept: its recipe works until 2027-01-04 only, within the horizon of 12 months"),
        ("policy", "kept: policy 'gdpr-hold'"),
    ]


def test_a_chain_defines_what_it_reads_before_it_is_read() -> None:
    chain = [recipe(2, [1], 10), recipe(1, [0], 20)]
    (made,) = compose_chains(chain, ["t0", "t1", "t2"], [1, 1, 1], depth=1, view_name=view_name)
    assert (made.child, made.parents, made.through, made.read_bytes, made.steps) == (2, (0,), (1,), 30, 2)
    assert made.setup_sql == (view(0), "CREATE OR REPLACE TEMPORARY VIEW `t1` AS SELECT 1, 20")
    assert made.recipe_sql == "SELECT 2, 10"


def test_no_chain_where_one_name_would_stand_for_two_things() -> None:
    old = "CREATE OR REPLACE TEMPORARY VIEW `t0` USING delta OPTIONS (path 'p0', versionAsOf '1')"
    recipes = [recipe(3, [1, 0], 10), recipe(1, [0], 20, setup_sql=(old,))]
    sizes = [1, 1, 1, 1]
    assert compose_chains(recipes, ["t0", "t1", "t2", "t3"], sizes, depth=1, view_name=view_name) == []
    cased = [recipe(2, [1], 10), recipe(1, [0], 20)]
    assert compose_chains(cased, ["T2", "t1", "t2"], sizes, depth=1, view_name=view_name) == []


def test_chains_end_at_their_depth_and_never_in_themselves() -> None:
    ring = [recipe(c, [(c + 1) % 5], 10) for c in range(5)]
    names = [f"t{i}" for i in range(5)]
    for depth in range(4):
        made = compose_chains(ring, names, [1] * 5, depth=depth, view_name=view_name)
        assert {len(chain.through) for chain in made} == set(range(1, min(depth, 3) + 1))
        assert all(chain.child not in (*chain.parents, *chain.through) for chain in made)
