"""The policy: rules with a name that keep tables, or bound the time that a rebuild of them may take."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from r2d2.errors import UsageError
from r2d2.retention.documents import Check, as_duration, as_text, check_keys, read_document
from r2d2.retention.rows import read_rows


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What people say of a table.

    Attributes:
        owner: None where nobody said.
        tier: Of the price book; None is its default.
        keep: The owner wants it kept.
    """

    owner: str | None = None
    tags: tuple[str, ...] = ()
    tier: str | None = None
    keep: bool = False

    def over(self, other: Properties) -> Properties:
        """These, and what they leave open from others."""
        return Properties(
            owner=self.owner if self.owner is not None else other.owner,
            tags=tuple(dict.fromkeys((*self.tags, *other.tags))),
            tier=self.tier if self.tier is not None else other.tier,
            keep=self.keep or other.keep,
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A table as rules see it. A time is None where unknown."""

    id: str
    properties: Properties
    created: datetime.datetime | None
    last_write: datetime.datetime | None
    last_read: datetime.datetime | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Applies to the tables for which each of its conditions holds; of several patterns one suffices.

    Attributes:
        keep: It keeps them.
        max_latency_seconds: A rebuild of them may take so long; None is any.
        until: The last day on which the rule applies; None is always.
        table, owner, tag: Shell patterns; none is no condition.
        modified_within_seconds, read_within_seconds, younger_than_seconds: None is no condition. An unknown time counts
            as recent: nothing is deleted on the guess that it is old.
    """

    name: str
    keep: bool = False
    max_latency_seconds: float | None = None
    until: datetime.date | None = None
    table: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    modified_within_seconds: float | None = None
    read_within_seconds: float | None = None
    younger_than_seconds: float | None = None

    def applies(self, subject: Subject, now: datetime.datetime) -> bool:
        """Whether it applies to a table at a moment."""
        born = subject.created if subject.created is not None else subject.last_write
        return (
            (self.until is None or now.date() <= self.until)
            and _matches(self.table, [subject.id])
            and _matches(self.owner, [] if subject.properties.owner is None else [subject.properties.owner])
            and _matches(self.tag, subject.properties.tags)
            and _is_recent(subject.last_write, self.modified_within_seconds, now)
            and _is_recent(subject.last_read, self.read_within_seconds, now)
            and _is_recent(born, self.younger_than_seconds, now)
        )

    def unknown_time(self, subject: Subject) -> str:
        """Which time of the table the rule asks for and nobody knows; empty where there is none."""
        times = {
            "last write": (self.modified_within_seconds, subject.last_write),
            "last read": (self.read_within_seconds, subject.last_read),
            "age": (self.younger_than_seconds, subject.created or subject.last_write),
        }
        return next((name for name, (asked, known) in times.items() if asked is not None and known is None), "")


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the policy says of one table.

    Attributes:
        keep_reason: To follow "kept: "; None where it may go.
        latency_bound_seconds: None is any.
        latency_rule: The rule that bounds it.
        rules: All that apply.
    """

    keep_reason: str | None = None
    latency_bound_seconds: float | None = None
    latency_rule: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules, and what a file beside them says of tables, by the names it uses."""

    rules: tuple[Rule, ...] = ()
    properties: Mapping[str, Properties] = field(default_factory=dict)

    def ruling(self, subject: Subject, now: datetime.datetime) -> Ruling:
        """What the rules say of a table: the first one that keeps it, and the smallest bound."""
        rules = [rule for rule in self.rules if rule.applies(subject, now)]
        keeping = next((rule for rule in rules if rule.keep), None)
        bounds = [(rule.max_latency_seconds, rule.name) for rule in rules if rule.max_latency_seconds is not None]
        bound, name = min(bounds, default=(None, ""))
        reason = None if keeping is None else _reason(keeping, subject)
        names = tuple(rule.name for rule in rules)
        return Ruling(keep_reason=reason, latency_bound_seconds=bound, latency_rule=name, rules=names)


def _reason(rule: Rule, subject: Subject) -> str:
    unknown = rule.unknown_time(subject)
    return f"policy {rule.name!r}" + (f" (its {unknown} is unknown)" if unknown else "")


def _matches(patterns: Sequence[str], values: Iterable[str]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


def _is_recent(moment: datetime.datetime | None, within_seconds: float | None, now: datetime.datetime) -> bool:
    if within_seconds is None or moment is None:
        return True
    return (now - moment).total_seconds() <= within_seconds


def load_policy(path: str | None) -> Policy:
    """Read and check a policy.

    Args:
        path: A TOML or YAML file with a list `rule`, and perhaps `table_properties`, the path of a table with the
            columns `table`, `owner` and `tags` and perhaps `tier`, relative to the policy. None has no rules.

    Raises:
        UsageError: If a file cannot be read, has an unknown key, or a value is wrong.
    """
    if path is None:
        return Policy()
    what = f"policy {path!r}"
    keys = read_document(path, what)
    try:
        check_keys(keys, {"rule": None, "table_properties": None}, needed=False)
        rules = keys.get("rule", [])
        if not isinstance(rules, list):
            raise UsageError(f"rule must be a list of rules, got {type(rules).__name__}")
        made = tuple(_rule(number, rule) for number, rule in enumerate(rules, start=1))
        names = [rule.name for rule in made]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"two rules have the name {twice[0]!r}; give each its own")
        beside = keys.get("table_properties")
        place = None if beside is None else as_text("table_properties", beside)
    except UsageError as exc:
        raise UsageError(f"{what}: {exc}") from exc
    properties = {} if place is None else load_properties(os.path.join(os.path.dirname(path), place))
    return Policy(rules=made, properties=properties)


def _rule(number: int, given: Any) -> Rule:
    if not isinstance(given, dict):
        raise UsageError(f"rule {number} must be a table of keys, got {type(given).__name__}")
    keys: dict[str, Any] = given
    try:
        check_keys(keys, _CHECKS, needed=False)
        if "name" not in keys:
            raise UsageError("missing key 'name'")
        values: dict[str, Any] = {_FIELDS.get(key, key): _CHECKS[key](key, value) for key, value in keys.items()}
    except UsageError as exc:
        raise UsageError(f"rule {number}: {exc}") from exc
    rule = Rule(**values)
    if rule.keep == (rule.max_latency_seconds is not None):
        raise UsageError(f"rule {rule.name!r} must have either keep = true or max_latency, not both or neither")
    if not keys.keys() & _CONDITIONS:
        wanted = ", ".join(sorted(_CONDITIONS))
        raise UsageError(f"rule {rule.name!r} has no condition; give one of {wanted} (all tables: table = ['*'])")
    return rule


def _patterns(key: str, value: Any) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise UsageError(f"{key} must be a shell pattern such as 'sales/*', or a list of them, got {value!r}")
    return tuple(patterns)


def _true(key: str, value: Any) -> bool:
    if value is not True:
        raise UsageError(f"{key} must be true, got {value!r}; leave the rule out to lift it")
    return True


def _day(key: str, value: Any) -> datetime.date:
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise UsageError(f"{key} must be a date without quotes such as 2026-01-31, got {value!r}")
    return value


_CHECKS: dict[str, Check] = {
    "name": as_text,
    "keep": _true,
    "max_latency": as_duration,
    "until": _day,
    "table": _patterns,
    "owner": _patterns,
    "tag": _patterns,
    "modified_within": as_duration,
    "read_within": as_duration,
    "younger_than": as_duration,
}
_CONDITIONS = frozenset({"table", "owner", "tag", "modified_within", "read_within", "younger_than"})
_FIELDS = {key: f"{key}_seconds" for key in ("max_latency", "modified_within", "read_within", "younger_than")}


def load_properties(path: str) -> dict[str, Properties]:
    """What a table of owners and tags says, by table.

    Raises:
        UsageError: If it cannot be read, lacks columns, or names a table twice.
    """
    what = f"table properties {path!r}"
    columns = ("table", "owner", "tags")
    _, rows = read_rows(path, what, [(*columns, "tier"), columns])
    found: dict[str, Properties] = {}
    for row in rows.to_pylist():
        if not row["table"] or row["table"] in found:
            raise UsageError(f"{what}: give each table one row, with its id; got {row['table']!r} again or none")
        tier = row.get("tier") or None
        found[row["table"]] = Properties(owner=row["owner"] or None, tags=split_tags(row["tags"]), tier=tier)
    return found


def split_tags(value: Any) -> tuple[str, ...]:
    """Tags of a list, or of a text with commas or semicolons between them."""
    texts = value.replace(";", ",").split(",") if isinstance(value, str) else value or []
    return tuple(text for tag in texts if (text := str(tag).strip()))
