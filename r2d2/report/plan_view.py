"""A plan as lines for a terminal, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from r2d2.report.escape import bytes_text, money_text, seconds_text, visible
from r2d2.report.plans import decision_row
from r2d2.retention.facts import PlanInputs, TableFacts
from r2d2.retention.pareto import Curve
from r2d2.retention.plan import Decision, Plan

SHOWN_TABLES = 300


def plan_lines(
    plan: Plan,
    facts: Sequence[TableFacts],
    inputs: PlanInputs,
    curve: Curve | None,
    *,
    warnings: Sequence[str] = (),
    before: float | None = None,
    most: int = SHOWN_TABLES,
) -> list[str]:
    """The plan for a person; names are escaped.

    Args:
        plan: A decision for each table.
        facts: By table.
        inputs: What it counted with.
        curve: Savings against latency, where it was solved.
        warnings: What to look at in the inputs.
        before: Savings per month of the plan that the audit stored.
        most: Tables of a list that are shown.
    """
    deleted = sorted((d for d in plan.decisions if d.delete), key=lambda d: (-d.saving_per_month, d.table))
    kept = sorted((d for d in plan.decisions if not d.delete), key=lambda d: (d.cost_deleted is None, d.table))
    lines = [_headline(plan, deleted, facts, before), *_conditions(plan, inputs)]
    lines += [f"Note: {visible(warning, None)}" for warning in warnings]
    if deleted:
        lines += ["", f"{'per month':>14}  {'back in':>12}  {'size':>9}  table, and why it may go"]
        lines += [_deleted_line(d, facts, plan.currency) for d in deleted[:most]]
        lines += _more(len(deleted) - most)
    if kept:
        lines += ["", f"Kept: {_counts(kept)}"]
        lines += [f"  {visible(facts[d.table].id)}: {visible(d.reason, None)}" for d in kept[:most]]
        lines += _more(len(kept) - most)
    return lines + ([] if curve is None else ["", *curve_lines(curve, plan.currency)])


def _headline(plan: Plan, deleted: Sequence[Decision], facts: Sequence[TableFacts], before: float | None) -> str:
    size = bytes_text(sum(facts[d.table].bytes for d in deleted))
    saved = f"saving {money_text(plan.savings_per_month, plan.currency)} per month"
    was = "" if before is None else f"; the stored plan saves {money_text(before, plan.currency)}"
    return f"{len(deleted):,} of {len(plan.decisions):,} tables may go: {size}, {saved}{was}."


def _conditions(plan: Plan, inputs: PlanInputs) -> list[str]:
    options = inputs.options
    told = [
        f"prices: {visible(inputs.prices.name)} ({inputs.prices.date})",
        f"horizon {options.horizon_months:g} months",
        f"{options.assume_reads:g} reads a month where none are known",
    ]
    if options.max_latency_seconds is not None:
        told.append(f"rebuilds in at most {seconds_text(options.max_latency_seconds)}")
    if options.policy is not None:
        told.append(f"policy {visible(options.policy)}")
    if options.chains:
        told.append(f"chains of up to {options.chains} deleted tables")
    proof = [] if plan.optimal else [f"Not proved to be the cheapest plan: it may miss {plan.gap:.2%} of the savings."]
    return ["; ".join(told) + ".", *proof]


def _deleted_line(decision: Decision, facts: Sequence[TableFacts], currency: str) -> str:
    fact = facts[decision.table]
    saving = money_text(decision.saving_per_month, currency)
    took, size = seconds_text(decision.rebuild_seconds), bytes_text(fact.bytes)
    return f"{saving:>14}  {took:>12}  {size:>9}  {visible(fact.id)}: {visible(decision.reason, None)}"


def _counts(kept: Sequence[Decision]) -> str:
    found = Counter(decision.constraint for decision in kept)
    return ", ".join(f"{count:,} by {constraint}" for constraint, count in sorted(found.items()))


def _more(count: int) -> list[str]:
    return [f"  and {count:,} more; --json has all"] if count > 0 else []


def curve_lines(curve: Curve, currency: str) -> list[str]:
    """The savings for each bound on the time of a rebuild."""
    if not curve.points:
        return ["Savings against latency: no recipe saves anything."]
    lines = ["Savings against latency, were every rebuild bound to:"]
    for point in curve.points:
        took, saving = seconds_text(point.max_latency_seconds), money_text(point.savings_per_month, currency)
        proof = "" if point.optimal else "  (not proved)"
        lines.append(f"  {took:>12}  {saving:>14} per month  {point.deleted:>7,} deleted{proof}")
    if curve.solved < curve.breakpoints:
        lines.append(f"  ({curve.solved} of {curve.breakpoints:,} breakpoints were solved)")
    return lines


def plan_json(
    plan: Plan, facts: Sequence[TableFacts], curve: Curve | None, summary: Mapping[str, Any], warnings: Sequence[str]
) -> dict[str, Any]:
    """The plan for machines.

    Args:
        plan: A decision for each table.
        facts: By table.
        curve: Savings against latency, where it was solved.
        summary: What `summary.json` would say of the plan.
        warnings: What to look at in the inputs.
    """
    ids = [fact.id for fact in facts]
    return {
        **{name: summary[name] for name in ("run_id", "savings_per_month", "currency", "plan_optimal", "plan_gap")},
        "plan_inputs": summary["plan_inputs"],
        "deletable": summary["counts"]["deletable"],
        "warnings": list(warnings),
        "decisions": [_decision_json(decision, ids) for decision in plan.decisions],
        "pareto": None if curve is None else _curve_json(curve),
    }


def _decision_json(decision: Decision, ids: Sequence[str]) -> dict[str, Any]:
    row = decision_row(decision, ids)
    if decision.recipe is not None:
        row |= {
            "saving_per_month": decision.saving_per_month,
            "rebuild_seconds": decision.rebuild_seconds,
            "rebuild_cost": decision.rebuild_cost,
            "parents": [ids[parent] for parent in decision.recipe.parents],
            "through": [ids[table] for table in dict.fromkeys(decision.recipe.through)],
            "recipe_kind": decision.recipe.kind,
        }
    return row


def _curve_json(curve: Curve) -> dict[str, Any]:
    names = ("max_latency_seconds", "savings_per_month", "deleted", "optimal")
    points = [{name: getattr(point, name) for name in names} for point in curve.points]
    return {"points": points, "breakpoints": curve.breakpoints, "solved": curve.solved}
