"""What the documentation says about commands, files and columns is so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest

from r2d2.cli import cli, parse_size
from r2d2.config import AuditConfig
from r2d2.errors import R2D2Error
from r2d2.lake.harvest import CLAIM, FRAGMENT, HARVESTS
from r2d2.lake.inventory import FAILURES, FOUND
from r2d2.prune.page_stage import PAGE_REASONS
from r2d2.recipes.stored import REASONS, STORED_RECIPES
from r2d2.scan.compare import QUESTIONS, VERDICTS
from r2d2.scan.covers import ANSWERS, CANDIDATES, STORED_KINDS, STORED_UNIONS
from r2d2.scan.reports import FINGERPRINTS
from r2d2.scan.stored import CLASS_EDGES, CLASSES, EVIDENCE, IDENTICAL, LEAVES_OF_FILES, STORED_PAIRS
from r2d2.scan.stored import VERDICTS as STORED_VERDICTS
from r2d2.session import delta_package
from r2d2.store.results import RESULT_SCHEMAS
from r2d2.verify.stage import EDGES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MADE_BY_COMMANDS = ("demo/", "results/")
OPERATORS = set("|&;<>")
COMMAND = re.compile("[a-z]+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
TEST_NAME = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


# --- commands ---------------------------------------------------------------------------------------------------------


def quoted_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks, continued ones joined, and code within sentences."""
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "bash", "console"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(without_fences(text))


def calls_of(line: str) -> Iterator[list[str]]:
    """Arguments of each call of the command in a line; a mere mention, `r2d2 audit`, is none."""
    if "r2d2" not in line and "jobs/audit.py" not in line:
        return
    words = shell_words(line)
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        ends = (index for index, other in enumerate(rest) if set(other) <= OPERATORS)
        arguments = [unquoted(other) for other in rest[: next(ends, len(rest))]]
        if word == "jobs/audit.py":
            yield ["audit", "--engine", "spark", *arguments]
        elif word.rsplit("/", 1)[-1] == "r2d2" and COMMAND.fullmatch("".join(arguments[:1])) and len(words) > 2:
            yield arguments


def shell_words(line: str) -> list[str]:
    """Words with their quotes, so that a quoted operator is told from a real one."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    return list(lexer)


def unquoted(word: str) -> str:
    return word[1:-1] if word[0] in "'\"" else word


def check_call(arguments: list[str]) -> None:
    """Parse as the command line does, without running anything."""
    name, *rest = arguments
    if name not in cli.commands:
        cli.make_context("r2d2", arguments).fail(f"no such command: {name}")
    with cli.commands[name].make_context(name, rest, **cli.context_settings) as context:
        if name == "audit":
            check_audit_options(context.params)


def check_audit_options(params: dict[str, Any]) -> None:
    options = {name: value for name, value in params.items() if name not in ("as_json", "verbose", "lane_keys")}
    memory = options.pop("memory")
    if memory not in (None, "SIZE"):
        options["memory_bytes"] = parse_size(memory)
    AuditConfig.from_options({name: value for name, value in options.items() if value is not False})


CALLS = [
    (name_of(page), arguments)
    for page in (*PAGES, *NOTEBOOKS)
    for line in quoted_lines(text_of(page))
    for arguments in calls_of(line)
]


@pytest.mark.parametrize(("page", "arguments"), CALLS, ids=lambda value: value if isinstance(value, str) else "call")
def test_quoted_commands_parse(page: str, arguments: list[str]) -> None:
    check_call(arguments)


def test_commands_are_found_where_they_are_quoted() -> None:
    pages = {page for page, _ in CALLS}
    assert pages >= {"README.md", "docs/audit.md"}
    assert ["audit", "LAKE", "--out", "DIR"] in [arguments for _, arguments in CALLS]


@pytest.mark.parametrize(
    "line",
    [
        "r2d2 audti LAKE --out DIR",
        "r2d2 audit LAKE --out DIR --no-such-option",
        "r2d2 audit LAKE",
        "x=1 .venv/bin/r2d2 audit LAKE --out DIR --reader both | cat",
        "r2d2 audit LAKE --out DIR --engine flink",
        "r2d2 audit LAKE --out DIR --master 'local[2]'",
        "spark-submit --conf a=b jobs/audit.py s3a://bucket/lake",
        "docker run r2d2 sample DIR --owerwrite",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    (arguments,) = calls_of(line)
    with pytest.raises((click.UsageError, R2D2Error)):
        check_call(arguments)


def test_every_option_of_the_audit_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| (?:`-\w`, )?`(--[a-z-]+)", section("docs/audit.md", "Options"), re.MULTILINE)
    options = {max(option.opts, key=len) for option in cli.commands["audit"].params if isinstance(option, click.Option)}
    assert sorted(documented) == sorted(options)


def test_the_delta_jars_are_those_that_go_with_the_installed_spark() -> None:
    assert delta_package() in (ROOT / "docs/audit.md").read_text()


def test_exit_statuses_are_the_same_everywhere() -> None:
    readme = re.findall(r"^\| (\d+) \|", section("README.md", "Exit status"), re.MULTILINE)
    page = re.findall(r"^\| (\d+) \|", section("docs/audit.md", "Exit status"), re.MULTILINE)
    raised = {cls.exit_status for cls in (R2D2Error, *R2D2Error.__subclasses__())}
    assert readme == page
    assert {int(status) for status in page} == raised | {0, 3}


# --- links and files --------------------------------------------------------------------------------------------------


def headings(path: Path) -> set[str]:
    """Anchors that GitHub makes of a page's headings."""
    found = re.findall(r"^#+ (.+)$", without_fences(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in (one or other for one, other in LINK.findall(without_fences(text_of(page)))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    return broken


def missing_files(page: Path) -> list[str]:
    """Paths of the repository that a page names in code; `path::test` names a test."""
    folders = {entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    missing = []
    for code in INLINE.findall(without_fences(text_of(page))):
        path, _, test = code.partition("::")
        known = "/" in path and path.split("/")[0] in folders and not path.startswith(MADE_BY_COMMANDS)
        if not known or " " in path:
            continue
        found = sorted(ROOT.glob(path))
        if not found or (test and test not in TEST_NAME.findall(found[0].read_text())):
            missing.append(code)
    return missing


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_links_and_named_files_exist(page: Path) -> None:
    assert broken_links(page) == []
    assert missing_files(page) == []


def test_a_broken_link_and_a_missing_file_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[a](gone.md) [b](#a-page) [c](#other) `tests/unit/test_docs.py::test_x` `r2d2/gone.py`\n"
    )
    assert broken_links(page) == ["gone.md", "#other"]
    assert missing_files(page) == ["tests/unit/test_docs.py::test_x", "r2d2/gone.py"]


def test_pages_name_no_place_of_one_machine() -> None:
    for page in (*PAGES, *NOTEBOOKS):
        assert not re.search(r"/(?:home|root|work|Users)/", text_of(page)), page


def test_both_pictures_of_the_funnel_are_the_same_but_for_colours() -> None:
    light, dark = ((ROOT / f"docs/images/funnel-{theme}.svg").read_text() for theme in ("light", "dark"))
    assert light != dark
    assert re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)


# --- columns ----------------------------------------------------------------------------------------------------------


def section(page: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    _, found, below = (ROOT / page).read_text().partition(f"\n## {heading}\n")
    assert found, f"{page} has no section {heading}"
    return below.split("\n## ")[0]


def documented_type(dtype: pa.DataType) -> str:
    if pa.types.is_list(dtype):
        return f"list of {documented_type(dtype.value_type)}"
    if pa.types.is_struct(dtype):
        return f"struct({', '.join(field.name for field in dtype)})"
    return str(dtype)


@pytest.mark.parametrize("name", RESULT_SCHEMAS)
def test_columns_of_results_are_documented_in_their_order(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("docs/results.md", f"{name}.parquet"), re.MULTILINE)
    assert rows == [(field.name, documented_type(field.type)) for field in RESULT_SCHEMAS[name]]


STORED: dict[str, pa.Schema | pa.StructType] = {
    "harvest/tables": HARVESTS,
    "schema_graph/classes": CLASSES,
    "schema_graph/edges": CLASS_EDGES,
    "harvest/found": FOUND,
    "minmax/evidence-tables": EVIDENCE,
    "minmax/identical": IDENTICAL,
    "minmax/sharing": STORED_PAIRS,
    "pages/refuted": PAGE_REASONS,
    "minmax/pairs": STORED_PAIRS,
    "recipes/recipes": STORED_RECIPES,
    "recipes/reasons": REASONS,
    "minhash/verdicts": STORED_VERDICTS,
    "minhash/lies": LEAVES_OF_FILES,
    "minhash/pairs": STORED_PAIRS,
    "minhash/failures": FAILURES,
    "verify/edges": EDGES,
    "minhash/answers": ANSWERS,
    "minhash/kinds": STORED_KINDS,
    "unions/candidates": CANDIDATES,
    "unions/unions": STORED_UNIONS,
    "fragments": FRAGMENT,
    "claims": CLAIM,
    "FINGERPRINTS": FINGERPRINTS,
    "QUESTIONS": QUESTIONS,
    "VERDICTS": VERDICTS,
}


def test_columns_of_stored_tables_are_documented_in_their_order() -> None:
    rows = re.findall(
        r"^\| `([\w/-]+)` \|[^|]+\| `([^`]+)` \|$", section("docs/architecture.md", "Stored tables"), re.MULTILINE
    )
    assert {name: columns.split(", ") for name, columns in rows} == {
        name: [field.name for field in schema] for name, schema in STORED.items()
    }
