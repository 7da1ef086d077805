"""The report: numbers that are right, names that stay text, and words for every state."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from r2d2.report.data import Report, build_report
from r2d2.report.escape import bytes_text, markup, money_text, seconds_text, share_text, visible
from r2d2.report.html import render_html
from r2d2.report.terminal import render_summary
from r2d2.store.results import RESULT_SCHEMAS

HOSTILE = (
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "a\nb\tc\r\x00\x1b[31mred\x1b]8;;http://x\x07",
    "gnp\u202egpj.exe\u2066\u200b\ufeff",
    "[red]x[/red][link=http://x]y",
    "{{ 7 * 7 }}{% raw %}",
    "'\"><svg onload=alert(1)>&amp;&lt;",
    "événements/表/🙂",
)


def results(**rows: list[dict[str, Any]]) -> dict[str, pa.Table]:
    return {name: pa.Table.from_pylist(rows.get(name, []), schema=schema) for name, schema in RESULT_SCHEMAS.items()}


def table(name: str, status: str = "ok", reason: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"table": name, "format": "csv", "bytes": 10, "status": status, "reason": reason} | changes


def proposal(name: str, saving: float | None = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "table": name,
        "parents": ["p"],
        "recipe_kind": "equal",
        "setup_sql": ["CREATE x"],
        "recipe_sql": "SELECT 1",
        "bytes": 10,
        "history_bytes": 0,
        "saving_per_month": saving,
        "rebuild_seconds": 1.0,
        "rebuild_cost": 0.0,
        "reason": "why",
    } | changes


def edge(child: str, parent: str) -> dict[str, Any]:
    counts = {"child_rows": 1, "parent_rows": 2}
    return {
        "child": child,
        "parent": parent,
        "relation": "contained",
        "bag": True,
        "set": True,
        "proof": "scan",
    } | counts


def everywhere(name: str) -> Report:
    """A report in which a name stands wherever text of the lake or of the user can stand."""
    texts = results(
        tables=[table(name, format=name), table(name, "unsupported", name), table(name, "failed", name)],
        edges=[edge(name, name)],
        proposals=[
            proposal(name, parents=[name, name], recipe_kind=name, setup_sql=[name], recipe_sql=name, reason=name)
        ],
        decisions=[{"table": name, "decision": "retain", "reason": name, "cost_kept": 1.0}],
        failures=[{"table": name, "parent": name, "stage": name, "error": name, "message": name}],
    )
    summary = {
        "run_id": name,
        "currency": name,
        "config": {"lake": name, "out": name, "assume_reads": name, "horizon_months": name, "key": name},
        "versions": {"software": name},
        "stages": [{"name": name, "seconds": 1.0, "bytes": 5}],
    }
    return build_report(texts, summary)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text without style sheets."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self._in_style = False
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))
        self._in_style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_style else data

    def structure(self) -> list[Any]:
        """The tags, without the notes that say that SQL is shown with escapes."""
        kept, in_note = [], False
        for tag in self.tags:
            in_note = in_note or tag == ("p", (("class", "note"),))
            if not in_note:
                kept.append(tag)
            in_note = in_note and tag[0] != "/p"
        return kept


anything = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(HOSTILE)
storable = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(HOSTILE)


@given(text=anything)
def test_visible_text_is_printable_one_line_and_says_what_was_there(text: str) -> None:
    shown = visible(text.replace("\\", "/"), None)
    assert shown.isprintable()
    assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == text.replace("\\", "/")
    assert visible(shown, None) == shown


@given(text=anything, limit=st.integers(1, 30))
def test_limited_text_keeps_both_ends_and_cuts_no_escape(text: str, limit: int) -> None:
    whole, shown = visible(text, None), visible(text, limit)
    assert len(shown) <= limit
    if len(whole) <= limit:
        assert shown == whole
    else:
        head, _, tail = shown.partition("…") if "…" not in text else ("", "", "")
        assert whole.startswith(head)
        assert whole.endswith(tail)
        pieces = [visible(character, None) for character in text]
        assert head in {"".join(pieces[:n]) for n in range(len(pieces) + 1)}


def test_hidden_characters_are_shown_and_plain_names_untouched() -> None:
    assert visible("a\n\t\x1b\x85\u202e\u2066\u200b\xa0\u3164\ufe0f\udc80\U000e0041") == (
        r"a\n\t\x1b\x85\u202e\u2066\u200b\xa0\u3164\ufe0f\udc80\U000e0041"
    )
    assert visible("sales/2024 Q1/événements_表.parquet") == "sales/2024 Q1/événements_表.parquet"
    assert visible("SELECT 1\n\tFROM x\r", keep="\n\t") == "SELECT 1\n\tFROM x\\r"
    assert visible("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"


@given(text=anything)
def test_rich_shows_markup_of_a_name_as_it_is(text: str) -> None:
    assert Text.from_markup(f"[bold]{markup(text, None)}[/bold]", emoji=False).plain == visible(text, None)


@given(share=st.floats(0, 1))
def test_a_share_is_nothing_or_all_only_when_it_is(share: float) -> None:
    assert (share_text(share) == "0 %") == (share == 0)
    assert (share_text(share) == "100 %") == (share == 1)
    assert share_text(share) not in ("0.0 %", "100.0 %")


def test_numbers_have_units_and_what_is_unknown_says_so() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 12_345, 999_600, 5 * 10**15)] == [
        "0 B", "999 B", "1.00 kB", "12.3 kB", "1.00 MB", "5.00 PB",
    ]  # fmt: skip
    assert [seconds_text(s) for s in (0.0, 9.99, 12.34, 59.97, 3599.6, 90_000)] == [
        "0.00 s", "9.99 s", "12.3 s", "1 min 00 s", "1 h 00 min", "25 h 00 min",
    ]  # fmt: skip
    assert [money_text(a, "EUR") for a in (0, 0.001, 0.006, 12345.678)] == [
        "0.00 EUR", "< 0.01 EUR", "0.01 EUR", "12,345.68 EUR",
    ]  # fmt: skip
    assert {bytes_text(None), seconds_text(None), money_text(None, "EUR"), share_text(None)} == {"unknown"}


def test_the_funnel_says_what_each_stage_removed() -> None:
    counts = {"schema_pairs": 40, "minmax_pairs": 10, "minhash_pairs": 10, "verified_edges": 12, "deletable": 2}
    report = build_report(results(tables=[table(str(n)) for n in range(9)]), {"counts": counts})
    assert [(step.key, step.count, step.removed) for step in report.funnel] == [
        ("tables", 9, None),
        ("pairs", 72, None),
        ("schema_pairs", 40, 32 / 72),
        ("minmax_pairs", 10, 0.75),
        ("minhash_pairs", 10, 0.0),
        ("verified_edges", 12, None),
        ("deletable", 2, None),
    ]


def test_proposals_come_by_saving_and_unknown_bytes_make_no_total() -> None:
    rows = [proposal("c", None), proposal("b", 2.0), proposal("a", 2.0), proposal("d", 3.0)]
    report = build_report(results(proposals=rows), {"lake_bytes": 100})
    assert [row.table for row in report.proposals.rows] == ["d", "a", "b", "c"]
    assert (report.deletable_bytes, report.deletable_share) == (40, 0.4)
    unknown = build_report(results(proposals=[*rows, proposal("e", bytes=None)]), {"lake_bytes": 100})
    assert (unknown.deletable_bytes, unknown.deletable_share) == (None, None)


def test_no_failed_table_disappears_and_unsupported_ones_are_told_apart() -> None:
    failure = {"stage": "harvest", "error": "E", "message": "m"}
    report = build_report(
        results(
            tables=[
                table("t1", "failed", "r1"),
                table("t2", "failed", "r2"),
                table("u", "unsupported", "r3"),
                table("ok"),
            ],
            failures=[
                {"table": "ok", "parent": "t9", **failure},
                {"table": "t1", "parent": None, **failure},
                {"table": "u", "parent": None, **failure},
            ],
        ),
        {},
    )
    assert [(row.table, row.parent, row.message) for row in report.failures.rows] == [
        ("t1", None, "m"),
        ("t2", None, "r2"),
        ("ok", "t9", "m"),
    ]
    assert [(row.table, row.reason) for row in report.unsupported.rows] == [("u", "r3")]


@settings(max_examples=60, deadline=None)
@given(name=storable)
def test_no_name_changes_the_structure_of_the_page_and_all_are_in_its_text(name: str) -> None:
    page = Page(render_html(everywhere(name)))
    assert page.structure() == Page(render_html(everywhere("x"))).structure()
    assert page.text.count(visible(name)) >= 25
    hidden = {character for character in page.text if not character.isprintable()}
    assert hidden <= {"\n", "\t"}


def test_the_page_is_complete_in_itself_and_runs_nothing() -> None:
    source = render_html(everywhere("x"))
    page = Page(source)
    policy = (("http-equiv", "Content-Security-Policy"), ("content", "default-src 'none'; style-src 'unsafe-inline'"))
    assert page.tags.index(("meta", policy)) < [tag for tag, _ in page.tags].index("style")
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object", "base", "form"}
    attributes = [attribute for _, attributes in page.tags for attribute in attributes]
    assert all(str(value).startswith("#") for key, value in attributes if key in ("href", "src"))
    assert not [key for key, _ in attributes if key.startswith("on")]
    assert "url(" not in source
    assert "@import" not in source


def test_sql_keeps_its_lines_and_a_changed_one_is_marked() -> None:
    plain = results(proposals=[proposal("t", setup_sql=["CREATE a\nUSING x", "CREATE b"])], tables=[table("t")])
    source = render_html(build_report(plain, {}))
    assert "CREATE a\nUSING x;\nCREATE b;" in Page(source).text
    assert "the exact text is in" not in source
    for sql in ("SELECT '\u202e'", "SELECT 1" * 2_000):
        changed = results(proposals=[proposal("t", recipe_sql=sql)], tables=[table("t")])
        assert "the exact text is in" in render_html(build_report(changed, {}))


def test_a_large_lake_makes_a_light_page_that_says_how_many_more_there_are() -> None:
    many = [f"folder/sub/table_{n:05}" for n in range(5_000)]
    decisions = [{"table": name, "decision": "retain", "reason": "r"} for name in many]
    rows = results(
        tables=[table(name) for name in many],
        edges=[edge(name, "parent") for name in reversed(many)],
        decisions=decisions,
        proposals=[proposal(name) for name in many],
        failures=[{"table": name, "parent": "p", "stage": "s", "error": "e", "message": "m"} for name in many],
    )
    report = build_report(rows, {})
    source = render_html(report)
    assert len(source) < 1_000_000
    text = Page(source).text
    for file, more in (("edges", 4_600), ("decisions", 4_600), ("failures", 4_600), ("proposals", 4_700)):
        assert f"{more:,} more in {file}.parquet" in text
    assert report.edges.rows[0].child == many[0]


STATES = {
    "no tables": (results(), "No tables found", "No tables found"),
    "no proposals": (results(tables=[table("t")]), "Nothing may go", "Nothing may go"),
    "all failed": (results(tables=[table("t", "failed", "broken")]), "No table could be judged", "1 failure"),
    "one": (results(tables=[table("t")], proposals=[proposal("t")]), "1 of 1 table may go", "1 table may go"),
}


def terminal(report: Report, **options: Any) -> str:
    console = Console(file=io.StringIO(), **options)
    render_summary(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_words(state: str) -> None:
    tables, on_page, in_terminal = STATES[state]
    report = build_report(tables, {"config": {"lake": "/lake", "out": "/out"}})
    assert on_page in Page(render_html(report)).text
    shown = terminal(report, width=80)
    assert in_terminal in shown
    assert "/out" in shown
    assert ("broken" in shown) == (state == "all failed")


@settings(max_examples=60, deadline=None)
@given(name=storable, width=st.sampled_from([80, 100]))
def test_the_summary_fits_its_width_and_lets_no_name_through_raw(name: str, width: int) -> None:
    shown = terminal(everywhere(name), width=width)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert max(Text(line).cell_len for line in shown.split("\n")) <= width


def test_the_summary_shows_names_as_they_are_without_markup_or_colour() -> None:
    shown = terminal(everywhere("[red]:smile:"), width=200)
    assert "R2D2 audit of [red]:smile:\n" in shown
    assert "\x1b" not in shown
    assert "\x1b" in terminal(everywhere("x"), width=80, force_terminal=True, color_system="truecolor")


def test_a_console_without_unicode_gets_escapes() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        render_summary(everywhere("é" * 300), Console(file=file, width=80))
        file.flush()
        assert b"\\xe9" in raw.getvalue()


PROGRESS = """
from r2d2.report.terminal import StageProgress
with StageProgress() as progress:
    progress.stage("[red]scan", 3)
    progress.advance(2)
    progress.stage("unknown size", None)
    progress.advance(5)
"""


def test_progress_is_silent_where_standard_error_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS], capture_output=True, check=True, env=os.environ | {"FORCE_COLOR": "1"}
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_progress_draws_a_bar_per_stage_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRESS], stderr=theirs, stdout=subprocess.PIPE, env=environment
    ) as run:
        os.close(theirs)
        drawn = b""
        while chunk := _read(ours):
            drawn += chunk
        assert run.stdout is not None
        assert run.stdout.read() == b""
    os.close(ours)
    assert run.returncode == 0
    assert b"[red]scan" in drawn
    assert b"3/3" in drawn
    assert b"5/5" in drawn


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end of a pseudo-terminal was closed
        return b""
