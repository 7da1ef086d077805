"""Values as text for a person: hostile characters made visible, numbers with units.

Names of tables, columns and files come from outside. Everything that a terminal, a page or a message shows of them
goes through `visible`.
"""

from __future__ import annotations

from rich.markup import escape

# printable by Unicode's categories, yet blank or without a width of their own
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_VARIATION_SELECTORS = (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
UNKNOWN = "unknown"


def visible(text: str, limit: int | None = 200, *, keep: str = "") -> str:
    r"""Text with every character that hides, moves or reorders others written as an escape.

    Control characters, line breaks, bidirectional overrides, zero-width and blank characters other than the space,
    lone surrogates and unassigned code points become `\n`, `\x1b`, `\u202e` and the like. Backslashes stay single, so
    the result is for reading and not for parsing.

    Args:
        text: Any string.
        limit: Characters of the result at most; the middle of a longer one is replaced by an ellipsis, so that both
            ends of a path stay. None is no limit.
        keep: Characters to leave as they are (line breaks and tabs of SQL).
    """
    shown = [character if character in keep or _is_plain(character) else _escaped(character) for character in text]
    if limit is None or sum(map(len, shown)) <= limit:
        return "".join(shown)
    room = max(limit - 1, 0)
    tail = _fitting(shown[::-1], room // 2)
    head = _fitting(shown, room - sum(map(len, tail)))
    return "".join([*head, "…", *reversed(tail)])


def markup(text: str, limit: int | None = 200) -> str:
    """`visible` text for places where rich reads markup: `[red]x` shows as it is."""
    return escape(visible(text, limit))


def bytes_text(size: float | None) -> str:
    """A size in bytes with three significant digits and decimal units: `1.23 GB`; None is unknown."""
    if size is None:
        return UNKNOWN
    unit = 0
    scaled = float(size)
    while abs(scaled) >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        scaled, unit = scaled / 1000, unit + 1
    digits = 0 if unit == 0 or abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
    return f"{scaled:,.{digits}f} {_BYTE_UNITS[unit]}"


def count_text(count: int | None) -> str:
    """A count with thousands separators; None is unknown."""
    return UNKNOWN if count is None else f"{count:,}"


def money_text(amount: float | None, currency: str) -> str:
    """An amount of money; one too small for two decimals is said to be so, and never shown as zero."""
    if amount is None:
        return UNKNOWN
    if 0 < abs(amount) < 0.005:
        return f"{'< 0.01' if amount > 0 else '> -0.01'} {currency}"
    return f"{amount:,.2f} {currency}"


def seconds_text(seconds: float | None) -> str:
    """A duration: `0.42 s`, `3 min 05 s`, `2 h 10 min`; None is unknown."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def share_text(share: float | None) -> str:
    """A share between 0 and 1 in percent; only nothing is 0 % and only all is 100 %; None is unknown."""
    if share is None:
        return UNKNOWN
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _is_plain(character: str) -> bool:
    hidden = character in _UNSEEN or any(ord(character) in selectors for selectors in _VARIATION_SELECTORS)
    return character.isprintable() and not hidden


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _fitting(pieces: list[str], room: int) -> list[str]:
    """The longest run of pieces from the start that fits, so that no escape is cut in two."""
    used = 0
    for position, piece in enumerate(pieces):
        used += len(piece)
        if used > room:
            return pieces[:position]
    return pieces
