"""The report in a terminal: a summary on standard output, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from r2d2.report.data import Failure, FunnelStep, Proposal, Report
from r2d2.report.escape import bytes_text, count_text, money_text, seconds_text, share_text, visible
from r2d2.report.near import SHOWN_NEAR, NearPair

SHOWN_PROPOSALS = 10
SHOWN_FAILURES = 5
_NAME_LIMIT = 72
_MESSAGE_LIMIT = 160


def render_summary(report: Report, console: Console) -> None:
    """Print what an audit found, for a terminal of 80 columns or a file.

    Names are escaped, nothing depends on colour, and characters that the console's encoding lacks are escaped too.
    """
    text = _Writer(console)
    blocks: list[RenderableType] = [_audited(report, text)]
    if report.tables:
        blocks.append(_funnel(report.funnel, text))
        blocks.append(_verdict(report, text))
    if report.proposals.rows:
        blocks.append(_proposals(report, text))
    if report.near:
        blocks.append(_near(report, text))
    if report.failures.total or report.unsupported.total:
        blocks.append(_not_judged(report, text))
    if report.misleading:
        blocks.append(_misleading(report, text))
    blocks.append(_next(report, text))
    for block in blocks:
        console.print(block, highlight=False, markup=False, emoji=False)
        console.print()


_VERDICTS = {
    "equal": "holds the same rows as",
    "contained": "is contained in",
    "not contained": "is not contained in",
    "not judged": "was not compared with",
}


def explanation_lines(
    child: str, parent: str, verdict: str, reasons: Sequence[str], values: Mapping[int, str]
) -> list[str]:
    """What an audit found out about a pair, as plain lines; names and values are escaped."""
    lines = [f"{visible(child, None)} {_VERDICTS[verdict]} {visible(parent, None)}"]
    for place, reason in enumerate(reasons):
        lines.append(f"  - {visible(reason, None)}")
        if place in values:
            lines.append(f"    {visible(values[place], _MESSAGE_LIMIT)}")
    return lines


class StageProgress:
    """Progress bars, one per stage, on standard error; silent where that is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._stage: TaskID | None = None

    def __enter__(self) -> Self:
        # not rich's own answer: FORCE_COLOR makes a terminal of every file
        if sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description:<12}", markup=False),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            if kind is None:
                self._finish()
            self._progress.stop()
            self._progress = None

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage, which ends the one before.

        Args:
            name: What the stage is called.
            total: Its work items; None is unknown.
        """
        if self._progress is not None:
            self._finish()
            self._stage = self._progress.add_task(visible(name), total=total)

    def advance(self, n: int = 1) -> None:
        """Count n more work items of the current stage as done."""
        if self._progress is not None and self._stage is not None:
            self._progress.advance(self._stage, n)

    def _finish(self) -> None:
        if self._progress is None or self._stage is None:
            return
        done = self._progress.tasks[self._progress.task_ids.index(self._stage)]
        total = done.completed if done.total is None else done.total
        self._progress.update(self._stage, total=total, completed=total)
        self._progress.stop_task(self._stage)
        self._stage = None


class _Writer:
    """Text that a console can show."""

    def __init__(self, console: Console) -> None:
        self._encoding = console.encoding

    def __call__(self, text: str, style: str = "", limit: int | None = _NAME_LIMIT) -> Text:
        shown = visible(text, limit)
        return Text(shown.encode(self._encoding, "backslashreplace").decode(self._encoding), style)

    def lines(self, lines: Iterable[str | Text]) -> Group:
        return Group(*(line if isinstance(line, Text) else self(line, limit=None) for line in lines))


def _audited(report: Report, text: _Writer) -> RenderableType:
    title = Text.assemble(Text("R2D2 audit of ", "bold"), text(report.lake, "bold", 200))
    if not report.tables:
        return text.lines([title, "No tables found: nothing to judge."])
    formats = ", ".join(f"{count:,} {name}" for name, count in report.formats)
    read = f", {bytes_text(report.bytes_read)} read" if report.bytes_read is not None else ""
    size = f"{bytes_text(report.lake_bytes)}{read}, {seconds_text(report.seconds)}"
    return text.lines([title, f"{_some(report.tables, 'table')} ({formats}), {size}"])


def _funnel(steps: tuple[FunnelStep, ...], text: _Writer) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim", justify="right")
    for step in steps:
        strong = "bold" if step.key in ("verified_edges", "deletable") else ""
        removed = "" if step.removed is None else f"{share_text(step.removed)} removed"
        table.add_row(text(step.label, strong), text(count_text(step.count), strong), text(step.unit), text(removed))
    return table


def _verdict(report: Report, text: _Writer) -> RenderableType:
    if not report.deletable:
        return text("Nothing may go: no table can be rebuilt from others at a saving.", "bold")
    share = "" if report.deletable_share is None else f" ({share_text(report.deletable_share)} of the lake)"
    saving = f", saving {money_text(report.savings_per_month, report.currency)} per month"
    what = f"{_some(report.deletable, 'table')} may go: {bytes_text(report.deletable_bytes)}{share}{saving}."
    return text.lines([text(what, "bold green", None), "Each has a recipe that was run and gave the same rows."])


def _proposals(report: Report, text: _Writer) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Table", overflow="fold", ratio=3)
    table.add_column("Rebuilt from", overflow="fold", ratio=3)
    table.add_column("How", overflow="fold")
    table.add_column("Size", justify="right", overflow="fold")
    table.add_column(text(f"{report.currency}/month", limit=12), justify="right", overflow="fold")
    for proposal in report.proposals.rows[:SHOWN_PROPOSALS]:
        table.add_row(*_proposal_row(proposal, text))
    more = report.proposals.total - SHOWN_PROPOSALS
    return Group(table, text(f"and {more:,} more in proposals.parquet", "dim")) if more > 0 else table


def _proposal_row(proposal: Proposal, text: _Writer) -> tuple[Text, ...]:
    parents = [text(parent) for parent in proposal.parents[:3]]
    if len(proposal.parents) > 3:
        parents.append(text(f"and {len(proposal.parents) - 3} more", "dim"))
    saving = money_text(proposal.saving_per_month, "").strip()
    return (
        text(proposal.table),
        Text("\n").join(parents),
        text(proposal.recipe_kind, limit=12),
        text(bytes_text(proposal.bytes)),
        text(saving),
    )


def _near(report: Report, text: _Writer) -> RenderableType:
    headline = f"{_some(report.near_total, 'near-duplicate pair')}, estimated from samples (95 % intervals):"
    lines = [_near_line(pair, text) for pair in report.near[:SHOWN_NEAR]]
    return Group(*_listed(text(headline, "bold", None), lines, report.near_total, "near.parquet", text))


def _near_line(pair: NearPair, text: _Writer) -> Text:
    share = f"{share_text(pair.estimate)} ({share_text(pair.low)} to {share_text(pair.high)}) in "
    parts: list[str | Text] = [
        text(pair.child),
        f": {share}",
        text(pair.parent),
        "; ",
        text(pair.difference, limit=_MESSAGE_LIMIT),
    ]
    if pair.suggestion:
        parts += ["; try ", text(pair.suggestion, limit=_MESSAGE_LIMIT)]
    return Text.assemble(*parts)


def _not_judged(report: Report, text: _Writer) -> RenderableType:
    failed = [_failure_line(failure, text) for failure in report.failures.rows[:SHOWN_FAILURES]]
    unsupported = [
        Text.assemble(text(row.table), ": ", text(row.reason, limit=_MESSAGE_LIMIT))
        for row in report.unsupported.rows[:SHOWN_FAILURES]
    ]
    headline = f"{_some(report.failures.total, 'failure')} (a failed table is never proposed):"
    groups = [_listed(text(headline, "bold red", None), failed, report.failures.total, "failures.parquet", text)]
    headline = f"{_some(report.unsupported.total, 'table')} not supported (kept):"
    groups.append(_listed(text(headline, "bold", None), unsupported, report.unsupported.total, "tables.parquet", text))
    return Group(*(line for group in groups for line in group))


def _misleading(report: Report, text: _Writer) -> RenderableType:
    headline = "Statistics that rows contradict; what they had refuted was judged by rows:"
    shown = report.misleading[:SHOWN_FAILURES]
    lines = [
        Text.assemble(text(f"{row.source} of {row.writer}, {row.type}: "), Text(", ").join(map(text, row.tables[:3])))
        for row in shown
    ]
    return Group(*_listed(text(headline, "bold red", None), lines, len(report.misleading), "summary.json", text))


def _listed(headline: Text, lines: list[Text], total: int, file: str, text: _Writer) -> list[RenderableType]:
    if not total:
        return []
    more = [text(f"and {total - len(lines):,} more in {file}", "dim")] if total > len(lines) else []
    return [headline, *(Padding(line, (0, 0, 0, 2)) for line in [*lines, *more])]


def _failure_line(failure: Failure, text: _Writer) -> Text:
    name = [text(failure.table)] if failure.parent is None else [text(failure.table), " in ", text(failure.parent)]
    return Text.assemble(*name, ": ", text(failure.message or failure.error, limit=_MESSAGE_LIMIT))


def _next(report: Report, text: _Writer) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Results", text(report.out, limit=200))
    table.add_row("Next", text(_next_step(report), limit=None))
    return table


def _next_step(report: Report) -> str:
    if report.deletable:
        return (
            "open report.html there and read why and how each table comes back. Nothing was deleted: R2D2 only reads."
        )
    if report.failures.total:
        return "see failures.parquet there for the reasons, repair the tables and run the audit again."
    return "open report.html there for what is kept and why. Nothing was changed: R2D2 only reads."


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
