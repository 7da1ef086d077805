"""What more patience would save: the savings of the best plan for each bound on the time of a rebuild."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

from r2d2.retention.instance import Options, rebuildable, total
from r2d2.retention.offers import Offers
from r2d2.retention.optret import solve

MOST_POINTS = 20
TIME_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """The best plan in which no rebuild takes longer than `max_latency_seconds`.

    Attributes:
        optimal: Proved to save most.
    """

    max_latency_seconds: float
    savings_per_month: float
    deleted: int
    optimal: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points by ascending latency, each saving more than the one before.

    Attributes:
        breakpoints: Latencies at which the best plan may change.
        solved: How many of them were looked at: at most MOST_POINTS, evenly chosen, and fewer where time ran out.
    """

    points: tuple[Point, ...]
    breakpoints: int
    solved: int


def pareto_curve(
    offers: Offers, *, most_points: int = MOST_POINTS, time_limit_seconds: float = TIME_LIMIT_SECONDS
) -> Curve:
    """Solve the instance at its latency breakpoints: the distinct rebuild times of recipes that save something.

    Bounds of policies hold beside those of the curve.
    """
    deadline = time.monotonic() + time_limit_seconds
    breakpoints = sorted({seconds for _, seconds in offers.timed_options()})
    chosen = _spread(breakpoints, most_points)
    points: list[Point] = []
    solved = 0
    for bound in reversed(chosen):  # the most patient plan first: it is the one that people compare with
        left = deadline - time.monotonic()
        if left <= 0:
            break
        points.append(_point(offers, bound, left))
        solved += 1
    points.sort(key=lambda point: point.max_latency_seconds)
    rising = [p for n, p in enumerate(points) if not n or p.savings_per_month > points[n - 1].savings_per_month]
    return Curve(points=tuple(rising), breakpoints=len(breakpoints), solved=solved)


def _spread(values: list[float], most: int) -> list[float]:
    """At most so many of the values, evenly chosen, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(n * (len(values) - 1) / (most - 1))] for n in range(most)]


def _point(offers: Offers, bound: float, seconds: float) -> Point:
    options = [option for option, took in offers.timed_options() if took <= bound]
    solution = solve(options, time_limit_seconds=seconds)
    graph: Options = defaultdict(dict)
    for option in options:
        graph[option.child][option.parents] = max(option.saving, graph[option.child].get(option.parents, 0.0))
    saved = total(rebuildable(graph, solution.deleted)) / offers.costs.horizon_months
    return Point(
        max_latency_seconds=bound,
        savings_per_month=saved,
        deleted=len(solution.deleted),
        optimal=solution.optimal,
    )
