"""The report as one self-contained page: no script, no request, every name escaped."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

import jinja2

from r2d2.report.data import FunnelStep, Report
from r2d2.report.escape import bytes_text, count_text, money_text, seconds_text, share_text, visible
from r2d2.store.results import SUMMARY_FILE, TABLE_FILES

_OPEN_RECIPES = 5
_SQL_LIMIT = 8_000
_KEPT = "\n\t"
_TEXT_LIMIT = 2_000
_TITLE_LIMIT = 120

_FILE_NOTES = {
    "tables": "every table with its columns, size and status",
    "edges": "every proved containment",
    "unions": "tables covered only by several others together",
    "near": "near duplicates",
    "recipes": "every query that gives a table back, run and compared",
    "proposals": "what may go, with setup and recipe SQL",
    "decisions": "what is kept or deleted, and why",
    "candidates": "what the plan counted with, for r2d2 plan",
    "accesses": "reads that tables of the catalog told of, for r2d2 plan",
    "failures": "what could not be judged",
}


class Sql(str):
    """SQL to be shown with its own line breaks."""


def render_html(report: Report) -> str:
    """The page for a person, complete in itself.

    Every value that the template prints passes `visible` and then HTML escaping, so that no name of the lake can act
    as markup, hide text or reorder it.
    """
    return _template().render(
        report=report,
        funnel=[(step, _bar_percent(step, report.funnel)) for step in report.funnel],
        files=[(file, _FILE_NOTES[name]) for name, file in TABLE_FILES.items()]
        + [(SUMMARY_FILE, "counts, timings, configuration, versions")],
        open_recipes=_OPEN_RECIPES,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "size": bytes_text,
        "count": count_text,
        "seconds": seconds_text,
        "share": share_text,
        "title": lambda text: visible(text, _TITLE_LIMIT),
        "setup": lambda statements: Sql(";\n".join(statements) + ";" if statements else ""),
        "sql": Sql,
        "number": lambda number: f"{number:g}" if isinstance(number, int | float) else number,
        "changed": _is_changed,
    }
    environment.globals["money"] = money_text
    source = resources.files("r2d2.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _shown(value: Any) -> Any:
    """What jinja prints for an expression, before it escapes HTML."""
    if hasattr(value, "__html__"):  # what a macro made
        return value
    if isinstance(value, Sql):
        return visible(value, _SQL_LIMIT, keep=_KEPT)
    return visible(str(value), _TEXT_LIMIT)


def _is_changed(sql: Sql) -> bool:
    """Whether SQL is shown other than it is, so that a copy of it would not run."""
    return visible(sql, _SQL_LIMIT, keep=_KEPT) != sql


def _bar_percent(step: FunnelStep, steps: tuple[FunnelStep, ...]) -> float:
    """Width of a step's bar, 0 to 100, logarithmic: pairs shrink by orders of magnitude."""
    largest = max((other.count or 0) for other in steps)
    if not step.count or not largest:
        return 0.0
    return round(100 * math.log1p(step.count) / math.log1p(largest), 1)
