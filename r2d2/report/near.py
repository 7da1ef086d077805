"""Near-duplicates: rows of `near.parquet`, and the few that a person is shown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from r2d2.model import LeafPath
from r2d2.near.difference import ROWS, NearDuplicate
from r2d2.report.escape import count_text

SHOWN_NEAR = 20


@dataclass(frozen=True, kw_only=True)
class NearPair:
    """A near-duplicate for a person.

    Attributes:
        estimate, low, high: Share of the child's distinct rows that the parent has, with its interval.
        difference: In words.
        bytes: Of the child: what there would be to save.
        suggestion: Options of the next audit; empty where there is none.
    """

    child: str
    parent: str
    estimate: float
    low: float
    high: float
    difference: str
    bytes: int
    suggestion: str


def leaf_name(path: LeafPath) -> str:
    """A leaf path as SQL writes it: names joined by dots, in backticks where they hold a dot or a backtick."""
    return ".".join("`" + name.replace("`", "``") + "`" if set(name) & {".", "`"} else name for name in path)


def near_row(pair: NearDuplicate, ids: Sequence[str], child_bytes: int) -> dict[str, Any]:
    """A row of `near.parquet`."""
    names = [leaf_name(path) for path in pair.differing]
    lacking = pair.rows_only_in_child
    return {
        "child": ids[pair.child],
        "parent": ids[pair.parent],
        "estimate": pair.containment.estimate,
        "low": pair.containment.low,
        "high": pair.containment.high,
        "differing_columns": names,
        "difference": pair.difference,
        "columns": [leaf_name(path) for path in pair.columns],
        "rows_only_in_child": lacking.estimate,
        "rows_only_in_child_low": lacking.low,
        "rows_only_in_child_high": lacking.high,
        "sampled_rows": pair.sampled,
        "child_bytes": child_bytes,
        "suggestion": suggestion(names),
    }


def suggestion(names: Sequence[str]) -> str:
    """Options by which an audit leaves columns out, quoted for a shell."""
    return " ".join(f"--ignore-columns {shlex.quote(name)}" for name in names)


def shown_near(near: pa.Table, proposed: set[str]) -> tuple[NearPair, ...]:
    """The pairs that would save the most, each once, without tables that may go anyway."""
    best: dict[frozenset[str], dict[str, Any]] = {}
    for row in near.to_pylist():
        ends = frozenset((row["child"], row["parent"]))
        if row["child"] not in proposed and (ends not in best or _rank(row) < _rank(best[ends])):
            best[ends] = row
    return tuple(_near_pair(row) for row in sorted(best.values(), key=_rank)[:SHOWN_NEAR])


def _rank(row: Mapping[str, Any]) -> Any:
    return -(row["child_bytes"] or 0), -row["estimate"], row["child"], row["parent"]


def _near_pair(row: Mapping[str, Any]) -> NearPair:
    return NearPair(
        child=row["child"],
        parent=row["parent"],
        estimate=row["estimate"],
        low=row["low"],
        high=row["high"],
        difference=_in_words(row),
        bytes=row["child_bytes"] or 0,
        suggestion=row["suggestion"] or "",
    )


def _in_words(row: Mapping[str, Any]) -> str:
    low, high = (count_text(round(row[f"rows_only_in_child_{end}"])) for end in ("low", "high"))
    lacking = f"{low} to {high} rows only in the child" if low != high else f"{low} rows only in the child"
    if row["difference"] == ROWS:
        return lacking
    names = row["differing_columns"]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    columns = f"column{'s' if len(names) > 1 else ''} {shown}"
    return columns if row["estimate"] == 1 else f"{columns}; then {lacking}"
