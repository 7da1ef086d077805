"""A plot of ratios as SVG, for light and for dark pages, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW = 1000, 130, 30, 116, 34
FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif'


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of a plot."""

    text: str
    note: str
    line: str
    colours: tuple[str, ...]


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        text="#1f2328", note="#59636e", line="#d1d9e0",
        colours=("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#bf3989", "#1b7c83", "#57606a"),
    ),
    "dark": Theme(
        text="#f0f6fc", note="#9198a1", line="#3d444d",
        colours=("#4493f8", "#db6d28", "#3fb950", "#ab7df8", "#f85149", "#d29922", "#db61a2", "#39c5cf", "#9198a1"),
    ),
}  # fmt: skip


def ratio_plot(title: str, rows: Mapping[str, Mapping[str, float]], names: Sequence[str], theme: Theme) -> str:
    """Points on a logarithmic axis, a line of them per row.

    Args:
        title: For readers who do not see the plot.
        rows: Ratios, above 0, by row and name.
        names: Names in the order of the legend and the colours.
        theme: Colours.
    """
    ratios = [ratio for row in rows.values() for ratio in row.values()]
    low = min([-1, *(math.floor(math.log10(ratio)) for ratio in ratios)])
    high = max([1, *(math.ceil(math.log10(ratio)) for ratio in ratios)])
    bottom = TOP + ROW * max(1, len(rows))

    def x(ratio: float) -> float:
        return LEFT + (math.log10(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [_legend(names, theme)]
    for power in range(low, high + 1):
        strong = ' stroke-width="2"' if power == 0 else ""
        parts.append(f'<path class="line"{strong} d="M{x(10.0**power):.1f} {TOP - 12} V{bottom}"/>')
        parts.append(f'<text class="note middle" x="{x(10.0**power):.1f}" y="{bottom + 18}">{_times(power)}</text>')
    for place, (row, found) in enumerate(rows.items()):
        y = TOP + ROW * place + ROW // 2 - 6
        parts.append(f'<text class="name end" x="{LEFT - 14}" y="{y + 5}">{escape(row)}</text>')
        parts += [
            f'<circle cx="{x(found[name]):.1f}" cy="{y}" r="6" fill="{theme.colours[number % len(theme.colours)]}"/>'
            for number, name in enumerate(names)
            if name in found
        ]
    parts.append(f'<text class="note middle" x="{x(1):.1f}" y="{bottom + 38}">as long as R2D2</text>')
    return _svg(title, bottom + 52, "\n".join(f"  {part}" for part in parts), theme)


def _times(power: int) -> str:
    return f"{10**power:,}x" if power >= 0 else f"{10.0**power:g}x"


def _legend(names: Sequence[str], theme: Theme) -> str:
    parts = []
    for number, name in enumerate(names):
        x, y = 20 + 325 * (number % 3), 24 + 22 * (number // 3)
        colour = theme.colours[number % len(theme.colours)]
        parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="{colour}"/>')
        parts.append(f'<text class="name" x="{x + 12}" y="{y + 5}">{escape(name)}</text>')
    return "\n  ".join(parts)


def _svg(title: str, height: int, body: str, theme: Theme) -> str:
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">
  <title id="title">{escape(title)}</title>
  <style>
    text {{ font-family: {FONT}; font-size: 13px; }}
    .name {{ fill: {theme.text}; }}
    .note {{ fill: {theme.note}; }}
    .line {{ stroke: {theme.line}; fill: none; }}
    .middle {{ text-anchor: middle; }}
    .end {{ text-anchor: end; }}
  </style>
{body}
</svg>
"""  # noqa: E501 - one element, one line
