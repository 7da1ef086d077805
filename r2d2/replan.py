"""A new plan from a finished audit: other prices, accesses, policies and bounds, without a look at the lake."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from r2d2.config import PlanOptions
from r2d2.errors import UsageError
from r2d2.model import Recipe
from r2d2.recipes.sql import view_name
from r2d2.report.data import build_report
from r2d2.report.html import render_html
from r2d2.report.plans import access_rows, accesses_of, decision_row, facts_of, plan_summary, proposal_row, recipes_of
from r2d2.retention.chains import compose_chains
from r2d2.retention.facts import PlanInputs, Prepared, TableFacts, load_inputs, prepare
from r2d2.retention.offers import Offers
from r2d2.retention.pareto import Curve, pareto_curve
from r2d2.retention.plan import Plan, make_offers, plan_of
from r2d2.retention.usage import CatalogAccesses, is_in_catalog
from r2d2.store.key_lists import has_key_lists
from r2d2.store.results import RESULT_SCHEMAS, ResultFolder, evidence_folder, read_results


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What a finished audit lets a plan choose from.

    Attributes:
        tables, summary: The results as they were read.
        facts: By table, sorted by id.
        offers: Recipes and costs.
        lost: Ids of tables that have recipes whose key list is gone, which are not used.
    """

    tables: Mapping[str, pa.Table]
    summary: Mapping[str, Any]
    inputs: PlanInputs
    facts: Sequence[TableFacts]
    prepared: Prepared
    offers: Offers
    lost: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Replan(Instance):
    """A plan of a finished audit.

    Attributes:
        out: Folder of the audit's results.
        curve: Savings against latency; None where nobody asked.
    """

    out: str
    plan: Plan
    curve: Curve | None

    @property
    def ids(self) -> list[str]:
        """Table ids by position."""
        return [fact.id for fact in self.facts]

    def warnings(self) -> list[str]:
        """What people should know of their inputs, in sentences."""
        warnings = self.prepared.warnings()
        if self.lost:
            some = ", ".join(self.lost[:5]) + (", …" if len(self.lost) > 5 else "")
            warnings.append(f"key lists are not where the audit put them, so recipes are not used: {some}; audit again")
        checked = int((self.summary.get("config") or {}).get("chains") or 0)
        if self.inputs.options.chains > checked:
            warnings.append(
                f"only chains that an audit has run are used, and this one ran those of up to {checked} deleted "
                f"tables: audit again with --chains {self.inputs.options.chains}"
            )
        return warnings

    def results(self) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """The results of the audit with this plan in place of its own."""
        ids = self.ids
        rows = {
            "decisions": [decision_row(decision, ids) for decision in self.plan.decisions],
            "proposals": [proposal_row(d, ids, self.facts[d.table]) for d in self.plan.decisions if d.delete],
            "accesses": access_rows(self.inputs.catalog_accesses),
        }
        new = {name: pa.Table.from_pylist(found, schema=RESULT_SCHEMAS[name]) for name, found in rows.items()}
        options = dataclasses.asdict(self.inputs.options)
        summary = {
            **self.summary,
            "config": {**self.summary["config"], **options, "price_book": self.inputs.prices.name},
            "counts": {**self.summary["counts"], "deletable": len(rows["proposals"])},
            **plan_summary(self.plan, self.inputs, self.prepared),
        }
        return {**self.tables, **new}, summary


def replan(
    out: str,
    changes: Mapping[str, Any],
    *,
    now: datetime.datetime,
    with_curve: bool = True,
    catalog_accesses: CatalogAccesses | None = None,
) -> Replan:
    """Plan again from the results in a folder; nothing is read but them and the files that the options name.

    Args:
        out: Folder of a finished audit.
        changes: Values of PlanOptions by name; what is not among them stays as it was.
        now: The first moment of the horizon.
        with_curve: Solve the savings for other bounds of latency too.
        catalog_accesses: What those of the accesses say that are tables of an engine's catalog
            (`read_catalog_accesses`); None for what they said to the audit.

    Raises:
        UsageError: If there is no finished audit, it is too old or damaged, or an option or a file is wrong.
    """
    instance = read_instance(out, changes, now=now, catalog_accesses=catalog_accesses)
    plan = plan_of(instance.offers)
    return Replan(
        out=out,
        tables=instance.tables,
        summary=instance.summary,
        inputs=instance.inputs,
        facts=instance.facts,
        prepared=instance.prepared,
        offers=instance.offers,
        lost=instance.lost,
        plan=plan,
        curve=pareto_curve(instance.offers) if with_curve else None,
    )


def read_instance(
    out: str, changes: Mapping[str, Any], *, now: datetime.datetime, catalog_accesses: CatalogAccesses | None = None
) -> Instance:
    """What `replan` solves; arguments and errors as there."""
    tables, summary = read_results(out)
    options = options_of(summary, changes)
    lake = (summary.get("config") or {}).get("lake")
    told = accesses_of(tables["accesses"]) if catalog_accesses is None else catalog_accesses
    inputs = load_inputs(options, now, str(lake) if lake is not None else None)
    before = (summary.get("config") or {}).get("access") or () if catalog_accesses is None else ()
    inputs = inputs.with_catalog(_asked(options.access, told, before))
    facts, stored = _stored(out, tables)
    there = {recipe for recipe in stored if has_key_lists(recipe.setup_sql)}
    prepared = prepare(facts, inputs)
    offers = make_offers(
        prepared.candidates,
        _usable([recipe for recipe in stored if recipe in there], prepared, options.chains),
        inputs.prices,
        reads_per_month=options.assume_reads,
        horizon_months=options.horizon_months,
        today=now.date(),
    )
    return Instance(
        tables=tables,
        summary=summary,
        inputs=inputs,
        facts=facts,
        prepared=prepared,
        offers=offers,
        lost=sorted({facts[recipe.child].id for recipe in stored if recipe not in there}),
    )


def _asked(sources: Sequence[str], told: CatalogAccesses, before: Sequence[str]) -> CatalogAccesses:
    """What those of the sources say that are tables of a catalog; those that were read `before` may say nothing."""
    asked = [source for source in sources if is_in_catalog(source)]
    if missing := [source for source in asked if source not in told and source not in before]:
        raise UsageError(f"accesses {missing[0]!r} were not read by the audit; give them again with --access")
    return {source: told.get(source, {}) for source in asked}


def options_of(summary: Mapping[str, Any], changes: Mapping[str, Any]) -> PlanOptions:
    """The options of an audit's plan, with changes.

    Raises:
        UsageError: If a value is out of range.
    """
    config = summary.get("config") or {}
    fields = {field.name for field in dataclasses.fields(PlanOptions)}
    before = {name: config[name] for name in fields & config.keys()}
    merged = {**before, **changes}
    merged["access"] = tuple(merged.get("access") or ())
    return PlanOptions(**merged)


def _stored(out: str, tables: Mapping[str, pa.Table]) -> tuple[list[TableFacts], list[Recipe]]:
    try:
        facts = facts_of(tables["tables"], tables["candidates"])
        return facts, recipes_of(tables["recipes"], [fact.id for fact in facts])
    except (KeyError, ValueError, TypeError) as exc:
        raise UsageError(f"the results in {out!r} do not fit together ({type(exc).__name__}); audit again") from exc


def _usable(recipes: Sequence[Recipe], prepared: Prepared, depth: int) -> list[Recipe]:
    """Plain recipes, and of the chains that were run those of at most so many deleted tables in a row."""
    plain = [recipe for recipe in recipes if not recipe.through]
    run = {recipe for recipe in recipes if recipe.through}
    if not depth or not run:
        return plain
    chains = compose_chains(
        plain,
        [candidate.id for candidate in prepared.candidates],
        [candidate.bytes for candidate in prepared.candidates],
        depth=depth,
        view_name=view_name,
    )
    return [*plain, *(chain for chain in chains if chain in run)]


def write_plan(made: Replan, target: str | None = None) -> str:
    """Put the plan in place of the audit's own, together with its summary and report.

    The results are replaced as a whole, `summary.json` last, as an audit replaces them.

    Args:
        made: The plan.
        target: Another folder, which gets a copy of the results with this plan; None replaces those of the audit.

    Returns:
        The folder that was written.

    Raises:
        UsageError: If the folder cannot be written to or is in use, or the results are not those of the plan any more.
    """
    tables, summary = made.results()
    lake = (made.summary.get("config") or {}).get("lake")
    folder = ResultFolder.open(made.out if target is None else target, *([str(lake)] if lake is not None else []))
    with folder as results:
        if target is None:
            _check_same(made)
        else:
            summary["config"]["out"] = target
            results.keep_evidence(str(summary["run_id"]), lambda place: _copy_evidence(made, place))
        results.commit(tables, summary, render_html(build_report(tables, summary)))
    return str(folder.path)


def _check_same(made: Replan) -> None:
    _, now = read_results(made.out)
    if now.get("run_id") != made.summary.get("run_id"):
        raise UsageError(f"another audit has written its results to {made.out!r} meanwhile; plan again")


def _copy_evidence(made: Replan, place: str) -> None:
    shutil.copytree(evidence_folder(made.out, made.summary), place, dirs_exist_ok=True)
