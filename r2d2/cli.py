"""The command line: `r2d2 audit`, `r2d2 plan`, `r2d2 explain` and `r2d2 sample`."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from r2d2.config import CSV_TYPES, NEAR, READERS, RECIPES, TIMESTAMPS, AuditConfig, default_memory_bytes
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
  r2d2 plan demo/results --max-latency 15min   plan again with other bounds, prices or policies
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
  r2d2 audit ./lake --out results --prices azure-adls-gen2 --policy policy.toml --access reads.csv
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


_PLAN_HELP = """Plan again which tables to keep, from the results of a finished audit in DIR. The lake is not read.

\b
Examples:
  r2d2 plan results --max-latency 15min
  r2d2 plan results --prices google-cloud-storage/nearline --horizon 36
  r2d2 plan results --access reads.csv --policy policy.toml --write
  r2d2 plan results --access table:system.access.table_lineage --engine sc://localhost
  r2d2 plan results --assume-reads 4 --json | jq .pareto

Options that are not given stay as they were for the stored plan. The plan is printed; --write puts it in the place of
the stored one, and --out writes a copy of the results with it.
"""

_EXPLAIN_HELP = """Say why CHILD is contained in PARENT, or why it is not, according to the audit in DIR. Without
PARENT, say what the plan does with the table CHILD, and why.

\b
Examples:
  r2d2 explain sales/2023.parquet --out results
  r2d2 explain sales/2023.parquet sales/all --out results
  r2d2 explain sales/2023.parquet sales/all --out results --show-values
  r2d2 explain sales/2023.parquet sales/all --out results --json | jq -r .verdict

The lake is not read again. Tables are named as in tables.parquet.
"""


Command = Callable[..., Any]


def _duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    from r2d2.retention.documents import parse_duration

    return None if value is None else parse_duration(value, "--max-latency")


def _paths(
    _context: click.Context, _option: click.Parameter, value: str | tuple[str, ...] | None
) -> str | tuple[str, ...] | None:
    """Paths as the results keep them, so that they are found from any folder."""
    from r2d2.retention.usage import is_in_catalog

    if isinstance(value, tuple):
        return tuple(path if is_in_catalog(path) else os.path.abspath(path) for path in value)
    return os.path.abspath(value) if value is not None and os.path.exists(value) else value


def _prices(context: click.Context, option: click.Parameter, value: str | None) -> str | tuple[str, ...] | None:
    from r2d2.retention.prices import is_built_in

    return value if value is None or is_built_in(value) else _paths(context, option, value)


def plan_options(command: Command) -> Command:
    """The options that say what a plan counts with."""
    options = (
        click.option(
            "--assume-reads",
            type=float,
            metavar="N",
            help="Reads per month of a table whose accesses are unknown; default 0.",
        ),
        click.option(
            "--horizon", "horizon_months", type=float, metavar="MONTHS", help="Months that costs count; default 12."
        ),
        click.option(
            "--prices",
            metavar="NAME|FILE",
            callback=_prices,
            help="aws-s3 (default), azure-adls-gen2, google-cloud-storage, one of their tiers (aws-s3/standard-ia), "
            "or a TOML or YAML file.",
        ),
        click.option(
            "--access",
            multiple=True,
            metavar="FILE|table:NAME",
            callback=_paths,
            help="How often tables are read: CSV, Parquet or Delta with table and reads_per_month, or Unity Catalog's "
            "table_lineage or audit, exported to a file, or as a table that the engine knows "
            "(table:system.access.table_lineage); may be given more than once.",
        ),
        click.option(
            "--policy", metavar="FILE", callback=_paths, help="Rules that keep tables or bound rebuilds, TOML or YAML."
        ),
        click.option(
            "--max-latency",
            "max_latency_seconds",
            metavar="TIME",
            callback=_duration,
            help="The longest that a rebuild may take, such as 90s, 15min or 2h.",
        ),
        click.option(
            "--chains",
            type=int,
            metavar="N",
            help="Rebuild tables through up to N deleted ones in a row; default 0.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
@click.option("--no-unions", is_flag=True, help="Do not look for tables that only several others together hold.")
@click.option(
    "--near",
    type=float,
    is_flag=False,
    flag_value=NEAR,
    metavar="[THRESHOLD]",
    help=f"Look for near-duplicates too: pairs of which one table holds at least this part (default {NEAR}) of the "
    "other's rows. Reads all columns of all tables that have columns in common with others, once. Say --near=0.9, or "
    "put --near after LAKE.",
)
@click.option(
    "--ignore-columns",
    multiple=True,
    metavar="NAME",
    help="Compare tables without this column, such as load_ts; may be given more than once. Tables that have it are "
    "never proposed.",
)
@click.option(
    "--recipes",
    type=click.Choice(RECIPES),
    help="Run all (default) recipes before planning, or only those that the plan has chosen: less work in huge lakes.",
)
@plan_options
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


@cli.command(help=_PLAN_HELP)
@click.argument("folder", metavar="DIR")
@plan_options
@click.option(
    "--engine", metavar="ENGINE", help="With --access table:NAME: what reads it; default the engine of the audit."
)
@click.option("--master", metavar="URL", help="Master for --engine spark; default that of the audit.")
@click.option("--no-access", is_flag=True, help="Forget the accesses of the stored plan.")
@click.option("--no-policy", is_flag=True, help="Forget the policy of the stored plan.")
@click.option("--no-max-latency", is_flag=True, help="Forget the bound of the stored plan.")
@click.option("--write", is_flag=True, help="Replace the plan in DIR: decisions, proposals, summary and report.")
@click.option("--out", metavar="DIR", help="Write a copy of the results with this plan to another folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every table in it.")
def plan(
    folder: str, write: bool, out: str | None, engine: str | None, master: str | None, as_json: bool, **options: Any
) -> None:
    """Plan again."""
    from r2d2.replan import replan, write_plan
    from r2d2.report.plan_view import plan_json, plan_lines

    if write and out is not None:
        raise click.UsageError("--write replaces the plan in DIR, --out writes another folder: give one of them")
    changes = _plan_changes(options)
    told = _ask_catalog(folder, changes.get("access", ()), engine, master)
    made = replan(folder, changes, now=datetime.datetime.now(datetime.UTC), catalog_accesses=told)
    written = write_plan(made, out) if write or out is not None else None
    with _reader_may_leave():
        if as_json:
            _, summary = made.results()
            found = plan_json(made.plan, made.facts, made.curve, summary, made.warnings())
            click.echo(json.dumps({**found, "written": written}, indent=2))
            return
        before = made.summary.get("savings_per_month")
        lines = plan_lines(made.plan, made.facts, made.inputs, made.curve, warnings=made.warnings(), before=before)
        click.echo("\n".join(lines))
    said = f"the plan in {written} was replaced" if write else f"the results with this plan are in {written}"
    _say(said if written else "nothing was written; --write puts this plan in place")


def _ask_catalog(
    folder: str, sources: Sequence[str], engine: str | None, master: str | None
) -> dict[str, dict[str, Any]] | None:
    """What those sources say that are tables of an engine's catalog; None where there are none."""
    from r2d2.retention.usage import is_in_catalog

    if not any(map(is_in_catalog, sources)):
        if engine is not None or master is not None:
            raise click.UsageError("--engine and --master go with --access table:NAME only: planning needs no engine")
        return None
    from r2d2.retention.catalog_usage import read_catalog_accesses
    from r2d2.session import open_engine
    from r2d2.store.results import read_results

    before = read_results(folder)[1].get("config") or {}
    if engine is None or engine == before.get("engine"):
        engine, master = before.get("engine"), master or before.get("master")
    config = AuditConfig.from_options({"lake": folder, "out": folder, "engine": engine, "master": master})
    with open_engine(config) as opened:
        return read_catalog_accesses(opened.spark, sources)


def _plan_changes(options: dict[str, Any]) -> dict[str, Any]:
    """Values of PlanOptions that the command line gives; what it does not give stays."""
    resets: dict[str, Any] = {"access": (), "policy": None, "max_latency": None}
    changes = {}
    for name, nothing in resets.items():
        field = "max_latency_seconds" if name == "max_latency" else name
        given, reset = options.pop(field), options.pop(f"no_{name}")
        if given and reset:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} and --no-{flag} exclude each other")
        if reset:
            changes[field] = nothing
        elif given is not None and given != ():
            changes[field] = given
    return changes | {name: value for name, value in options.items() if value is not None}


@cli.command(help=_EXPLAIN_HELP)
@click.argument("child")
@click.argument("parent", required=False)
@click.option("--out", required=True, metavar="DIR", help="Results of a finished audit.")
@click.option("--show-values", is_flag=True, help="Show the values that are compared; they are row values of the lake.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(child: str, parent: str | None, out: str, show_values: bool, as_json: bool) -> None:
    """Explain a pair of tables, or what the plan does with one."""
    if parent is None:
        _explain_table(child, out, as_json=as_json)
        return
    from r2d2.explain import explain_pair
    from r2d2.report.terminal import explanation_lines

    found = explain_pair(out, child, parent)
    with _reader_may_leave():
        if as_json:
            click.echo(json.dumps(found.to_json(show_values=show_values), indent=2))
        else:
            values = found.values if show_values else {}
            click.echo("\n".join(explanation_lines(found.child, found.parent, found.verdict, found.reasons, values)))


def _explain_table(table: str, out: str, *, as_json: bool) -> None:
    from r2d2.explain_table import explain_table

    found = explain_table(out, table)
    with _reader_may_leave():
        click.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))


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
