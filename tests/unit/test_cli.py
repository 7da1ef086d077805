"""The command line: what its help shows, what each option becomes, and how it ends when something is wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2 import pipeline
from r2d2.cli import audit, cli, main, parse_lane_keys, parse_size
from r2d2.config import AuditConfig
from r2d2.errors import EngineError, Interrupted, LakeError, R2D2Error, UsageError

SECRET = "SECRET-4711"

OPTIONS: dict[str, tuple[list[str], Any]] = {
    "work": (["--work", "s3://bucket/scratch"], "s3://bucket/scratch"),
    "engine": (["--engine", "spark"], "spark"),
    "master": (["--engine", "spark", "--master", "local[2]"], "local[2]"),
    "reader": (["--reader", "engine"], "engine"),
    "case_sensitive": (["--case-sensitive"], True),
    "files_as_tables": (["--files-as-tables"], True),
    "timestamps": (["--timestamps", "utc"], "utc"),
    "csv_delimiter": (["--csv-delimiter", ";"], ";"),
    "csv_types": (["--csv-types", "text"], "text"),
    "propose_empty": (["--propose-empty"], True),
    "no_unions": (["--no-unions"], True),
    "near": (["--near=0.9"], 0.9),
    "ignore_columns": (["--ignore-columns", "load_ts", "--ignore-columns", "s.a"], ("load_ts", "s.a")),
    "recipes": (["--recipes", "chosen"], "chosen"),
    "assume_reads": (["--assume-reads", "2.5"], 2.5),
    "horizon_months": (["--horizon", "36"], 36.0),
    "prices": (["--prices", "azure-adls-gen2/cool"], "azure-adls-gen2/cool"),
    "access": (["--access", "/a.csv", "--access", "b.parquet"], ("/a.csv", os.path.abspath("b.parquet"))),
    "policy": (["--policy", "/no/policy.toml"], "/no/policy.toml"),
    "max_latency_seconds": (["--max-latency", "15min"], 900.0),
    "chains": (["--chains", "2"], 2),
    "memory_bytes": (["--memory", "512M"], 512 << 20),
    "lane_keys": (["--lane-keys", "ff,0x10"], (255, 16)),
}
ARGUMENTS = {"lake", "out"}
INSTEAD_OF_LAKE = {"catalog", "schema"}
ONLY_FOR_PROGRAMS = {"sketch_rows", "whole_rows", "kernel_threads"}
"""Fields without an option: they change how fast an audit is and never what it finds."""


class Heard(Exception):
    """Carries the configuration that the command line made out of the audit that would have begun."""

    def __init__(self, config: AuditConfig) -> None:
        super().__init__()
        self.config = config


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def audit_instead(config: AuditConfig, **_options: Any) -> None:
        raise Heard(config)

    monkeypatch.setattr(pipeline, "audit", audit_instead)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave the levels of loggers as they were."""
    names = ("r2d2", "pyspark", "py4j", "grpc", "fsspec", "botocore", "s3fs", "pyiceberg")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def config_of(*arguments: str) -> AuditConfig:
    with pytest.raises(Heard) as heard:
        cli.main(["audit", "lake", "--out", "out", *arguments], standalone_mode=False)
    return heard.value.config


def ended(*arguments: str) -> int:
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


# ---- options


@pytest.mark.parametrize("field", OPTIONS)
def test_each_option_reaches_its_field(begun: None, field: str) -> None:
    arguments, value = OPTIONS[field]
    made = config_of(*arguments)
    assert getattr(made, field) == value
    if field != "lane_keys":
        assert getattr(AuditConfig(lake="lake", out="out"), field) != value, "the default would pass unnoticed"


def test_every_field_is_an_option_or_deliberately_none() -> None:
    fields = {field.name for field in dataclasses.fields(AuditConfig)}
    assert fields == ARGUMENTS | INSTEAD_OF_LAKE | OPTIONS.keys() | ONLY_FOR_PROGRAMS


def test_every_option_is_a_field_or_of_the_command_line_alone() -> None:
    taken = {"memory": "memory_bytes"}
    names = {taken.get(str(parameter.name), str(parameter.name)) for parameter in audit.params}
    assert names == ARGUMENTS | INSTEAD_OF_LAKE | OPTIONS.keys() | {"as_json", "verbose"}


def test_options_not_given_keep_their_defaults(begun: None) -> None:
    made = dataclasses.replace(config_of(), lane_keys=(0, 0), memory_bytes=1 << 30)
    assert made == AuditConfig(lake="lake", out="out", lane_keys=(0, 0), memory_bytes=1 << 30)


def test_a_catalog_takes_the_place_of_the_lake(begun: None) -> None:
    arguments = ["audit", "--catalog", "main", "--schema", "sales*", "--schema", "é.b", "--out", "out"]
    with pytest.raises(Heard) as heard:
        cli.main(arguments, standalone_mode=False)
    made = heard.value.config
    assert (made.lake, made.catalog, made.schema) == (None, "main", ("sales*", "é.b"))
    assert config_of().schema == ()


def test_an_explicit_zero_is_not_taken_for_a_missing_option(begun: None) -> None:
    assert config_of("--assume-reads", "0").assume_reads == 0
    assert config_of("--lane-keys", "0,0").lane_keys == (0, 0)


# ---- sizes and keys


@given(number=st.integers(0, 10**6), unit=st.sampled_from("KkMmGgTt"))
def test_sizes(number: int, unit: str) -> None:
    power = {"k": 1, "m": 2, "g": 3, "t": 4}[unit.lower()]
    assert parse_size(f"{number}{unit}") == number * 1024**power
    assert parse_size(str(number)) == number


@pytest.mark.parametrize("text", ["", "x", "G", "8X", "-1G", "1.5G", "8 G", "8GB", "1e9", "²G", " 8G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected a size such as 8G or 512M, got "):
        parse_size(text)


@given(keys=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)))
def test_lane_keys(keys: tuple[int, int]) -> None:
    assert parse_lane_keys(f"{keys[0]:x},{keys[1]:016X}") == keys


@pytest.mark.parametrize("text", ["", "ff", "ff,", "ff,ee,dd", "xyzzy,ff", "-1,ff", f"{1 << 64:x},0"])
def test_what_are_no_keys_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        parse_lane_keys(text)
    assert refused.value.message == "expected two hexadecimal numbers of up to 16 digits, joined by a comma"


# ---- wrong usage


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--assume-reads", "-1"], "assume-reads must be at least 0, got -1.0"),
        (["--assume-reads", "many"], "'many' is not a valid float"),
        (["--horizon", "0"], "horizon must be at least 1, got 0.0"),
        (["--max-latency", "soon"], "--max-latency must be a duration such as 90s, 15min, 2h or 1d, got 'soon'"),
        (["--chains", "9"], "chains must be from 0 to 8, got 9"),
        (["--prices", "aws"], "there is no price book or file 'aws'; built-in books: aws-s3, azure-adls-gen2"),
        (["--prices", "aws-s3/tape"], "has no tier 'tape'; known: standard-ia, one-zone-ia"),
        (["--policy", "nowhere.toml"], "nowhere.toml' cannot be read (FileNotFoundError)"),
        (["--access", "nowhere.csv"], "nowhere.csv' cannot be read (FileNotFoundError)"),
        (["--memory", "x"], "expected a size such as 8G or 512M, got 'x'"),
        (["--memory", "1K"], "memory must be at least 268435456, got 1024"),
        (["--engine", "foo"], "engine must be sail, spark or sc://host:port, got 'foo'"),
        (["--master", "local[2]"], "--master goes with --engine spark only"),
        (["--lane-keys", "nonsense"], "expected two hexadecimal numbers of up to 16 digits"),
        (["--reader", "slow"], "'slow' is not one of 'auto', 'files', 'engine'"),
        (["--timestamps", "local"], "'local' is not one of 'distinct', 'utc'"),
        (["--csv-types", "guess"], "'guess' is not one of 'infer', 'text'"),
        (["--csv-delimiter", "ab"], "csv-delimiter must be one character"),
        (["--sketch-rows", "16"], "No such option"),
        (["another"], "unexpected extra argument"),
        (["--catalog", "main"], "both given: an audit needs either LAKE or --catalog NAME"),
        (["--schema", "x"], "--schema goes with --catalog only"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_2_before_anything_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    out = tmp_path / "out"
    assert ended("audit", str(tmp_path), "--out", str(out), *arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""
    assert not out.exists()
    assert "nonsense" not in shown.err


@pytest.mark.parametrize(
    "arguments", [["audit"], ["audit", "lake"], ["audit", "--out", "x"], ["nothing"], ["--nothing"]]
)
def test_what_is_missing_or_unknown_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert ended(*arguments) == 2
    assert re.search(r"Missing|No such", capsys.readouterr().err)


@pytest.mark.parametrize("out", ["", "s3://bucket/results"])
def test_a_result_folder_must_be_a_local_path(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    assert ended("audit", str(tmp_path), "--out", out) == 2
    assert "the result folder must be a path on this machine" in capsys.readouterr().err


# ---- help


@pytest.mark.parametrize("command", [[], ["audit"], ["sample"]])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_examples(capsys: pytest.CaptureFixture[str], command: list[str], option: str) -> None:
    assert ended(*command, option) == 0
    shown = capsys.readouterr().out
    name = command[0] if command else "audit"
    assert re.search(rf"(?:Examples|Try it):\n +(?:r2d2 .*\n +)*r2d2 {name} ", shown)


def test_the_examples_of_the_help_are_right(begun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each audit in a help text is one that the command line takes."""
    texts = [cli.help or "", *[command.help or "" for command in cli.commands.values()]]
    lines = [line for text in texts for line in re.findall(r"^ *r2d2 (audit .*)$", text, re.MULTILINE)]
    assert len(lines) >= 6
    for line in lines:
        with pytest.raises(Heard):
            cli.main(shlex.split(re.split(r" \| |   |; open", line)[0]), standalone_mode=False)


def test_help_lists_every_option_and_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("audit", "--help") == 0
    shown = capsys.readouterr().out
    for parameter in audit.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert all(name in shown for name in parameter.opts)
    for status in {0, 3, *[error.exit_status for error in (R2D2Error, UsageError, LakeError, Interrupted)]}:
        assert re.search(rf"(?:^| ){status}  \w", shown, re.MULTILINE), status


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    assert capsys.readouterr().out == f"r2d2, version {importlib.metadata.version('r2d2-lake')}\n"


def test_help_needs_no_engine() -> None:
    code = "import sys; from r2d2.cli import cli; cli.main(['audit', '--help'], standalone_mode=False); "
    code += "sys.exit(sorted({'pyspark', 'pysail', 'duckdb', 'pyarrow'} & set(sys.modules)).__str__())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"


# ---- how it ends


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (UsageError("no \x1b[31m such\nthing"), 2, "r2d2: no \\x1b[31m such\\nthing\n"),
        (LakeError("the lake is gone"), 4, "r2d2: the lake is gone\n"),
        (EngineError("no engine"), 1, "r2d2: no engine\n"),
        (KeyboardInterrupt(), 130, "r2d2: interrupted; the results folder is as it was before\n"),
        (
            ValueError(f"row ({SECRET}, 1) is odd"),
            1,
            "r2d2: a bug of R2D2: ValueError; set R2D2_DEBUG=1 to see where, and please report it\n",
        ),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_errors_end_with_a_status_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    says: str,
) -> None:
    """A bug of ours shows neither a traceback nor the words of the error, which may quote a row."""

    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.delenv("R2D2_DEBUG", raising=False)
    monkeypatch.setattr(pipeline, "discover", fail)
    assert ended("audit", str(tmp_path), "--out", str(tmp_path.parent / f"{tmp_path.name}-out")) == status
    shown = capsys.readouterr()
    assert (shown.out, shown.err.removeprefix("\n")) == ("", says)  # click ends the line of ^C


def test_a_bug_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise ValueError(SECRET)

    monkeypatch.setenv("R2D2_DEBUG", "1")
    monkeypatch.setattr(pipeline, "discover", fail)
    with pytest.raises(ValueError, match=SECRET):
        main(["audit", str(tmp_path), "--out", str(tmp_path.parent / f"{tmp_path.name}-out")])


@pytest.mark.parametrize("failed", [0, 2])
def test_a_reader_that_leaves_does_not_change_the_exit_status(tmp_path: Path, failed: int) -> None:
    """As with `r2d2 audit … --json | head`."""
    code = f"""
from r2d2 import pipeline
from r2d2.cli import main
pipeline.audit = lambda config, progress: pipeline.Audit(out="", summary={{"x": "x" * 100000}}, failed={failed})
main(["audit", "lake", "--out", "out", "--json"])
"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (3 if failed else 0, b"")
