"""From what an audit knows of tables, and what people say of them, to the candidates of a plan."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from r2d2.config import PlanOptions
from r2d2.retention.offers import Candidate
from r2d2.retention.policy import Policy, Properties, Ruling, Subject, load_policy
from r2d2.retention.prices import PriceBook, load_price_book
from r2d2.retention.usage import Access, Accesses, CatalogAccesses, is_in_catalog, load_accesses

OPT_OUT = "its table property r2d2.keep says so"
"""Why a table is kept that its owner wants kept."""


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What an audit found out about a table that a plan asks for, whatever prices and policies.

    Attributes:
        table: Position among all tables.
        bytes, history_bytes, shared_bytes, rows, columns: As for `Candidate`; rows is None where unknown.
        keep_reason: Why no policy may let it go; None where one may.
        no_recipe_reason: Why it has no recipe although another table contains it; None where there is no such reason.
        created, last_write: None where unknown.
        properties: What the table's own metadata says.
    """

    table: int
    id: str
    bytes: int
    history_bytes: int
    shared_bytes: int
    rows: int | None
    columns: int
    keep_reason: str | None
    no_recipe_reason: str | None
    created: datetime.datetime | None = None
    last_write: datetime.datetime | None = None
    properties: Properties = Properties()  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What a plan counts with, read and checked.

    Attributes:
        accesses: What all sources say together.
        now: The first moment of the horizon.
        root: The lake's path or URL; None with a catalog.
        catalog_accesses: What each source said that is a table of the engine's catalog, by source and name.
    """

    options: PlanOptions
    prices: PriceBook
    accesses: Accesses
    policy: Policy
    now: datetime.datetime
    root: str | None
    catalog_accesses: CatalogAccesses = field(default_factory=dict)

    def with_catalog(self, told: CatalogAccesses) -> PlanInputs:
        """The same, with what sources in the engine's catalog say."""
        accesses = self.accesses
        for by_name in told.values():
            accesses = accesses.joined(Accesses(by_name=by_name))
        return replace(self, accesses=accesses, catalog_accesses=told)


def load_inputs(options: PlanOptions, now: datetime.datetime, root: str | None) -> PlanInputs:
    """Read the files that the options name, but no table of the engine's catalog.

    Raises:
        UsageError: If one cannot be read or is wrong.
    """
    return PlanInputs(
        options=options,
        prices=load_price_book(options.prices),
        accesses=load_accesses([source for source in options.access if not is_in_catalog(source)]),
        policy=load_policy(options.policy),
        now=now,
        root=root,
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The candidates of a plan.

    Attributes:
        candidates: One per table.
        accesses: By table id.
        properties: By table id.
        unknown_accesses, unknown_properties: Names in the inputs that are of no table.
        rules: How many tables each rule of the policy applies to.
    """

    candidates: tuple[Candidate, ...]
    accesses: Mapping[str, Access]
    properties: Mapping[str, Properties]
    unknown_accesses: tuple[str, ...]
    unknown_properties: tuple[str, ...]
    rules: Mapping[str, int]

    def warnings(self) -> list[str]:
        """What people should look at in their inputs, in sentences."""
        told = [
            f"{len(names)} of the tables named in the {source} are not in the audit: {', '.join(names[:5])}"
            + (", …" if len(names) > 5 else "")
            for source, names in (("accesses", self.unknown_accesses), ("properties", self.unknown_properties))
            if names
        ]
        idle = [name for name, count in self.rules.items() if not count]
        return told + [f"the rule {name!r} of the policy applies to no table" for name in idle]


def prepare(facts: Sequence[TableFacts], inputs: PlanInputs) -> Prepared:
    """Put together what is known of each table, by id."""
    ids = [fact.id for fact in facts]
    accesses, unknown = inputs.accesses.match(ids, inputs.root)
    said = inputs.policy.properties
    properties = {fact.id: said.get(fact.id, Properties()).over(fact.properties) for fact in facts}
    rules: Counter[str] = Counter({rule.name: 0 for rule in inputs.policy.rules})
    candidates = []
    for fact in facts:
        access, own = accesses.get(fact.id), properties[fact.id]
        ruling = inputs.policy.ruling(
            Subject(
                id=fact.id,
                properties=own,
                created=fact.created,
                last_write=fact.last_write,
                last_read=None if access is None else access.last_read,
            ),
            inputs.now,
        )
        rules.update(ruling.rules)
        candidates.append(_candidate(fact, own, access, ruling, inputs.options))
    return Prepared(
        candidates=tuple(candidates),
        accesses=accesses,
        properties=properties,
        unknown_accesses=tuple(unknown),
        unknown_properties=tuple(sorted(set(said) - set(ids))),
        rules=rules,
    )


def _candidate(
    fact: TableFacts, properties: Properties, access: Access | None, ruling: Ruling, options: PlanOptions
) -> Candidate:
    bound, rule = ruling.latency_bound_seconds, ruling.latency_rule
    everywhere = options.max_latency_seconds
    if everywhere is not None and (bound is None or everywhere < bound):
        bound, rule = everywhere, ""
    opt_out = OPT_OUT if properties.keep else None
    keep = next((reason for reason in (fact.keep_reason, opt_out, ruling.keep_reason) if reason is not None), None)
    since = fact.created if fact.created is not None else fact.last_write
    return Candidate(
        table=fact.table,
        id=fact.id,
        bytes=fact.bytes,
        history_bytes=fact.history_bytes,
        rows=fact.rows or 0,
        columns=fact.columns,
        may_delete=keep is None,
        keep_reason=keep or "",
        no_recipe_reason=fact.no_recipe_reason or "",
        shared_bytes=fact.shared_bytes,
        reads_per_month=None if access is None else access.reads_per_month,
        latency_bound_seconds=bound,
        latency_rule=rule,
        tier=properties.tier,
        since=None if since is None else since.timestamp(),
    )
