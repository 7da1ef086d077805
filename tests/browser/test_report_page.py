"""The report in a real browser: hostile names are seen as text, and nothing of them runs or is fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from r2d2.report.data import build_report
from r2d2.report.escape import visible
from r2d2.report.html import render_html
from r2d2.store.results import RESULT_SCHEMAS

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
)
OWNED = "document.documentElement.setAttribute('data-owned','1')"


class Browser:
    """Headless Chromium with a profile of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def run(self, source: str, *options: str) -> str:
        page = self._folder / "page.html"
        page.write_text(source, encoding="utf-8")
        profile = f"--user-data-dir={self._folder / 'profile'}"
        done = subprocess.run(
            [self._program, *FLAGS, profile, *options, page.as_uri()], capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2_000:]
        return done.stdout.decode()

    def dom(self, source: str) -> str:
        """The document after everything that wants to run has run."""
        return self.run(source, "--dump-dom")


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no headless Chromium on this machine: install chromium", pytrace=False)
        pytest.skip("not run: install chromium")
    return Browser(program, tmp_path)


class Server:
    """A web server that remembers what was asked of it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever)
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def hostile_names(url: str) -> list[str]:
    return [
        f"<script>{OWNED}</script>",
        f"</title></style></pre></script><script>{OWNED}</script>",
        f'"><img src="{url}/img" onerror="{OWNED}">',
        f"<svg/onload={OWNED}>",
        f"<link rel=stylesheet href={url}/css><iframe src='javascript:{OWNED}'></iframe>",
        "<script>alert(1)</script>",
        "two\nlines\tand\x1b[31m colour",
        "gnp\u202egpj.parquet\u2066\u200b",
        "événements/表",
    ]


def page_with(names: list[str]) -> str:
    rows = {
        "tables": [{"table": name, "format": "csv", "status": "ok"} for name in names],
        "edges": [{"child": name, "parent": "p", "relation": name, "bag": True} for name in names],
        "proposals": [
            {"table": name, "parents": [name], "recipe_kind": "equal", "setup_sql": [name], "recipe_sql": name}
            | {"reason": name}
            for name in names
        ],
        "decisions": [{"table": name, "decision": "retain", "reason": name} for name in names],
        "failures": [{"table": name, "parent": name, "stage": "s", "error": "e", "message": name} for name in names],
    }
    results = {name: pa.Table.from_pylist(rows.get(name, []), schema=schema) for name, schema in RESULT_SCHEMAS.items()}
    summary = {"run_id": names[0], "config": {"lake": names[1], "out": names[2]}, "versions": {"x": names[3]}}
    return render_html(build_report(results, summary))


class Text(HTMLParser):
    """The tags, attributes and text of a document's body."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(source.partition("</head>")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_seen_and_neither_run_nor_fetch(browser: Browser, server: Server) -> None:
    names = hostile_names(server.url)
    document = browser.dom(page_with(names))
    shown = Text(document)
    assert "data-owned" not in re.findall(r"<html[^>]*>", document)[0]
    assert not shown.tags & {"script", "img", "svg", "link", "iframe"}
    assert not [name for name in shown.attributes if name.startswith("on")]
    assert server.requests == []
    for name in names:
        assert shown.text.count(visible(name)) >= 8, "in each section"


def test_the_browser_would_have_run_and_fetched_raw_names(browser: Browser, server: Server) -> None:
    names = [name for name in hostile_names(server.url) if "alert" not in name]
    document = browser.dom(f"<!doctype html><html><body>{''.join(names)}</body></html>")
    assert "data-owned" in re.findall(r"<html[^>]*>", document)[0]
    assert "/img" in server.requests


def test_the_policy_stops_even_a_script_that_got_into_the_page(browser: Browser, server: Server) -> None:
    injected = f'<script>{OWNED}</script><img src="{server.url}/img" onerror="{OWNED}"><footer>'
    source = page_with(["plain", "lake", "out", "version"]).replace("<footer>", injected)
    document = browser.dom(source)
    assert "<script>" in document
    assert "data-owned" not in re.findall(r"<html[^>]*>", document)[0]
    assert server.requests == []


def test_the_page_is_drawn_in_light_and_in_dark(browser: Browser, tmp_path: Path) -> None:
    source = page_with(hostile_names("http://x"))
    pictures = []
    for scheme in ("0", "1"):
        picture = tmp_path / f"{scheme}.png"
        browser.run(
            source,
            "--window-size=900,1200",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={picture}",
        )
        pictures.append(picture.read_bytes())
    assert all(len(picture) > 20_000 for picture in pictures), "an empty page makes a small picture"
    assert pictures[0] != pictures[1]
