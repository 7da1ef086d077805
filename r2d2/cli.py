"""The command line: `r2d2 audit`, `r2d2 explain` and `r2d2 sample`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from r2d2.config import CSV_TYPES, READERS, TIMESTAMPS, AuditConfig, default_memory_bytes
from r2d2.errors import Interrupted, R2D2Error

if TYPE_CHECKING:
    from r2d2.pipeline import Audit

_BUG = 1

_MAIN_HELP = """Prove which tables of a data lake are redundant, and how each would be rebuilt.

R2D2 reads a lake and never writes to it. It asserts that a table is contained in another one only after it has looked
at every row of both, and proposes to delete a table only with a query that was run and gave the table back.

\b
Try it:
  r2d2 sample demo/lake                     a small lake to play with
  r2d2 audit demo/lake --out demo/results   audit it; open demo/results/report.html
  r2d2 explain CHILD PARENT --out demo/results   why one table is in another one, or not
"""

_AUDIT_HELP = """Audit LAKE, a folder or an object-store URL, or an Iceberg catalog, and write the results to DIR.

\b
Examples:
  r2d2 audit ./lake --out results
  r2d2 audit s3://bucket/lake --out results --work s3://bucket/scratch
  r2d2 audit ./lake --out results --engine spark --master 'local[8]'
  r2d2 audit s3://bucket/lake --out results --engine sc://cluster:15002 --work s3://bucket/scratch
  r2d2 audit ./exports --out results --csv-delimiter ';' --files-as-tables
  r2d2 audit --catalog main --schema 'sales*' --out results
  r2d2 audit ./lake --out results --json | jq .savings_per_month

\b
What DIR holds afterwards:
  report.html        what may go, why, how it comes back, what it saves
  proposals.parquet  the same for machines, with the SQL that rebuilds each table
  edges.parquet      every containment that was proved
  tables.parquet, decisions.parquet, failures.parquet, summary.json, …

\b
Exit status:
  0  done            2  wrong usage            4  the lake cannot be read
  1  a bug of R2D2   3  done, some tables failed   130  interrupted
"""

_SAMPLE_HELP = """Write a small demonstration lake to DIR: copies, projections, snapshots, near-duplicates and traps.

\b
Examples:
  r2d2 sample demo/lake
  r2d2 sample demo/lake --overwrite
"""


_EXPLAIN_HELP = """Say why CHILD is contained in PARENT, or why it is not, according to the audit in DIR.

\b
Examples:
  r2d2 explain sales/2023.parquet sales/all --out results
  r2d2 explain sales/2023.parquet sales/all --out results --show-values
  r2d2 explain sales/2023.parquet sales/all --out results --json | jq -r .verdict

The lake is not read again. Tables are named as in tables.parquet.
"""


@click.group(help=_MAIN_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="r2d2-lake", prog_name="r2d2")
def cli() -> None:
    """Group of the subcommands."""


@cli.command(help=_AUDIT_HELP)
@click.argument("lake", required=False)
@click.option("--out", required=True, metavar="DIR", help="Local folder for the results; outside the lake.")
@click.option(
    "--catalog", metavar="NAME", help="Audit the Iceberg tables of a catalog instead; configured as in pyiceberg."
)
@click.option(
    "--schema",
    multiple=True,
    metavar="PATTERN",
    help="With --catalog: only namespaces that match, such as 'sales*'; may be given more than once.",
)
@click.option("--engine", metavar="ENGINE", help="sail (default, embedded), spark, or sc://host:port (Spark Connect).")
@click.option("--master", metavar="URL", help="Master for --engine spark; default local[*].")
@click.option("--work", metavar="URI", help="Scratch space that all workers reach; default inside DIR.")
@click.option(
    "--reader",
    type=click.Choice(READERS),
    help="files: kernels read the files; engine: Spark's readers do; auto (default): kernels where they are faithful.",
)
@click.option("--case-sensitive", is_flag=True, help="Column names that differ by case are different.")
@click.option("--files-as-tables", is_flag=True, help="Every data file is a table of its own.")
@click.option(
    "--timestamps",
    type=click.Choice(TIMESTAMPS),
    help="distinct (default), or utc: dates, zone-less timestamps and instants are read on the UTC clock and compared.",
)
@click.option("--csv-delimiter", metavar="CHAR", help="Delimiter of text tables; default a comma, a tab for .tsv.")
@click.option("--csv-types", type=click.Choice(CSV_TYPES), help="infer (default) types without loss, or read as text.")
@click.option("--propose-empty", is_flag=True, help="Propose tables without rows too.")
@click.option(
    "--assume-reads",
    type=float,
    metavar="N",
    help="Reads per month of a table whose accesses are unknown; default 0.",
)
@click.option("--horizon", "horizon_months", type=float, metavar="MONTHS", help="Months that costs count; default 12.")
@click.option("--memory", metavar="SIZE", help="Memory of all kernels of a machine, such as 8G; default half of it.")
@click.option("--lane-keys", metavar="HEX,HEX", help="Keys of row fingerprints, to make them comparable across audits.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of the summary for people.")
@click.option("-v", "--verbose", is_flag=True, help="Log stages with counts and seconds to stderr.")
def audit(as_json: bool, verbose: bool, memory: str | None, lane_keys: str | None, **options: Any) -> None:
    """Audit a lake."""
    _set_up_logging(verbose)
    options["memory_bytes"] = default_memory_bytes() if memory is None else parse_size(memory)
    options["lane_keys"] = None if lane_keys is None else parse_lane_keys(lane_keys)
    config = AuditConfig.from_options({name: value for name, value in options.items() if value is not False})
    from r2d2.pipeline import audit as run_audit
    from r2d2.report.terminal import StageProgress

    with StageProgress() as progress:
        finished = run_audit(config, progress=progress)
    with _reader_may_leave():
        _show(finished, as_json=as_json)
    sys.exit(finished.exit_status)


@cli.command(help=_SAMPLE_HELP)
@click.argument("folder", metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace a sample lake that lies there already.")
def sample(folder: str, overwrite: bool) -> None:
    """Write the sample lake."""
    from r2d2.sample import write_sample

    truth = write_sample(folder, overwrite=overwrite)
    click.echo(f"{len(truth.tables)} tables in {folder}; next: r2d2 audit {folder} --out results")


@cli.command(help=_EXPLAIN_HELP)
@click.argument("child")
@click.argument("parent")
@click.option("--out", required=True, metavar="DIR", help="Results of a finished audit.")
@click.option("--show-values", is_flag=True, help="Show the values that are compared; they are row values of the lake.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(child: str, parent: str, out: str, show_values: bool, as_json: bool) -> None:
    """Explain a pair of tables."""
    from r2d2.explain import explain_pair
    from r2d2.report.terminal import explanation_lines

    found = explain_pair(out, child, parent)
    with _reader_may_leave():
        if as_json:
            click.echo(json.dumps(found.to_json(show_values=show_values), indent=2))
        else:
            values = found.values if show_values else {}
            click.echo("\n".join(explanation_lines(found.child, found.parent, found.verdict, found.reasons, values)))


def parse_size(text: str) -> int:
    """Bytes of a size such as `512M`, `8G` or `1073741824`.

    Raises:
        click.BadParameter: For anything else.
    """
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    number, unit = (text[:-1], units.get(text[-1:].upper())) if text[-1:].isalpha() else (text, 0)
    if unit is None or not number.isdecimal():
        raise click.BadParameter(f"expected a size such as 8G or 512M, got {text!r}", param_hint="--memory")
    return int(number) << unit


def parse_lane_keys(text: str) -> tuple[int, int]:
    """Two keys of 64 bits in hexadecimal, joined by a comma.

    Raises:
        click.BadParameter: For anything else; the message does not repeat the keys.
    """
    parts = text.split(",")
    try:
        keys = [int(part, 16) for part in parts]
    except ValueError:
        keys = []
    if len(keys) != 2 or not all(0 <= key < 1 << 64 for key in keys):
        raise click.BadParameter("expected two hexadecimal numbers of up to 16 digits, joined by a comma")
    return keys[0], keys[1]


def _show(finished: Audit, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(finished.summary, indent=2, sort_keys=True))
        return
    from rich.console import Console

    from r2d2.report.data import build_report
    from r2d2.report.terminal import render_summary
    from r2d2.store.results import read_results

    tables, summary = read_results(finished.out)
    render_summary(build_report(tables, summary), Console())


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Go on where nobody reads stdout any more (`| head`): the exit status still tells how the audit ended."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich turns the one into the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("r2d2").setLevel(logging.INFO if verbose else logging.WARNING)
    for noisy in ("pyspark", "py4j", "grpc", "fsspec", "botocore", "s3fs", "pyiceberg"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM into the same orderly end as Ctrl-C."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the status of the contract."""
    try:
        with interruptible():
            cli.main(args=arguments, prog_name="r2d2", standalone_mode=False)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; the results folder is as it was before")
        sys.exit(Interrupted.exit_status)
    except R2D2Error as exc:
        _say(str(exc))
        sys.exit(exc.exit_status)
    except Exception as exc:  # the last line of defence: a traceback may hold row values
        _say(f"a bug of R2D2: {type(exc).__name__}; set R2D2_DEBUG=1 to see where, and please report it")
        if os.environ.get("R2D2_DEBUG"):
            raise
        sys.exit(_BUG)
    sys.exit(0)


def _say(message: str) -> None:
    from r2d2.report.escape import visible

    click.echo(f"r2d2: {visible(message, None)}", err=True)


if __name__ == "__main__":
    main()
