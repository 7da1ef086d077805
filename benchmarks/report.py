"""Makes docs/benchmarks.md and its plots from the stored results.

    python -m benchmarks.report
    python -m benchmarks.report --results build/bench --print

Everything on the page comes from the JSON files of `python -m benchmarks.run` and `python -m benchmarks.ablations`.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablations import ABLATIONS, RESULT
from benchmarks.lakes.shapes import SHAPES
from benchmarks.peers.registry import PEERS
from benchmarks.plot import THEMES, ratio_plot
from benchmarks.run import RESULTS, ROOT

PAGE, IMAGES = Path("docs/benchmarks.md"), Path("docs/images")
PLOT = "benchmarks-{}.svg"
TITLE = (
    "How many times as long as R2D2, until it has verified the containments, each of the other ways takes, by lake, on"
    " a logarithmic axis."
)
SPARK = ("paper", "except-all", "theta")
"""Peers that run on Spark; R2D2 on Spark is what they are compared with."""
PAIRS = "r2d2-pairs"
"""R2D2 on what the other peers look for alone."""
AFTER_VERIFY = ("unions", "recipes", "plan", "final check", "report")
"""Stages of an audit that do what no peer does."""

Json = dict[str, Any]
Row = Sequence[str]

INTRODUCTION = """\
# Benchmarks

What an audit costs and finds, beside other ways to the same answer. This page and its plot are made from the files in
`benchmarks/results` by `python -m benchmarks.report`; a test says that they agree.

```sh
benchmarks/environments.sh                                  # once: environments of peers that are no dependencies
python -m benchmarks.run --all --repeat 3 --budget 120      # everything at full scale: most of a day on 2 cores
python -m benchmarks.ablations --repeat 3
python -m benchmarks.report
make bench                                                  # small scales, a quarter of an hour, to build/bench
```

## How it is measured

* Lakes are made from a seed, with the truth by construction: each row has a code, two rows are equal where their codes
  are, and a table is contained in another where its codes are. Tests compare that with the rows of small lakes.
* Each run is a process of its own, one at a time, and its answer is compared with the truth before its time counts.
* Times are with the session up. R2D2 first audits a lake of one table twice: from a cold process and with the session
  up; the difference is the cold start.
* Ways that judge pair by pair judge pairs in random order until their budget is spent; then their time is extrapolated
  to all pairs, marked `~`. Pairs that are known to be contained are added after the clock has stopped, to see that
  none is lost.
* *CPU* is user and system time of the timed part. *Memory* is the largest resident memory of the process and all that
  it starts, together, engine and warm-up included. *Bytes* are those of the column chunks and footers that R2D2's
  readers asked for, but for checks of recipes, over the bytes of the lake.
* *Scan* is DuckDB hashing every column of every table once, the files of one schema in one query: what no exact method
  can do without, unless metadata answers.
* Times of different runs compare only where machine and load do; both stand below.
* A lake of a few megabytes measures fixed costs: R2D2 runs the same jobs on its engine however little they read.
"""


# ---- tables of the page


def name_of(result: Json) -> str:
    """A lake's shape, and its scale where it is not the full one."""
    lake = result["lake"]
    return str(lake["shape"]) if lake["scale"] == 1 else f"{lake['shape']} {lake['scale']:g}"


def table(names: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown, all columns but the first to the right."""
    marks = ["---", *(["--:"] * (len(names) - 1))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (names, marks, *rows))


def lakes(results: Sequence[Json]) -> str:
    names = ("lake", "scale", "tables", "rows", "MB", "schema classes", "schema pairs", "contained", "as bags")
    rows = [
        (
            lake["shape"], f"{lake['scale']:g}", *(f"{lake[name]:,}" for name in ("tables", "rows")),
            megabytes(lake["bytes"]),
            *(f"{lake[name]:,}" for name in ("classes", "schema_pairs", "edges", "bag_edges")),
        )
        for lake in (result["lake"] for result in results)
    ]  # fmt: skip
    shapes = [f"* *{name}*: {shape.says}." for name, shape in SHAPES.items()]
    return f"## Lakes\n\nAt scale 1:\n\n{lines(shapes)}\n\n{table(names, rows)}"


def times(results: Sequence[Json]) -> str:
    peers = seen(results)
    rows = [(name_of(result), *(seconds(result["runs"].get(peer)) for peer in peers)) for result in results]
    listed = [f"* `{name}`: {PEERS[name].says}." for name in peers]
    left_out = [
        f"* `{name}` on {name_of(result)}: {run['status']}."
        for result in results
        for name, run in ordered(result["runs"])
        if run["seconds"] is None
    ]
    gaps = f"\n\nWithout a time:\n\n{lines(left_out)}" if left_out else ""
    return f"## Time\n\nSeconds.\n\n{table(('lake', *peers), rows)}\n\n{lines(listed)}{gaps}"


def ratios(results: Sequence[Json]) -> str:
    others = [peer for peer in seen(results) if not peer.startswith("r2d2") and peer != "scan"]
    judged = [{**result, "runs": judging(result["runs"])} for result in results]
    says = paragraph(
        "The scan ratio is R2D2's time over that of the scan, so small is good; the others are how many times as long"
        " as R2D2 each way takes. Ways on Spark are compared with R2D2 on Spark where that was run. The other ways find"
        " containments between two tables, so the first table counts R2D2's time until those are verified. It asks more"
        " than they do: which tables may be held by several others together is looked at in the same scans, and tables"
        " are read for that alone; the second table is without it. After verification an audit looks for those unions"
        " and for recipes, runs the recipes and makes a plan, which the third table counts too."
    )
    return (
        f"## Ratios\n\n{says}\n\n{picture()}\n\nUntil containments are verified:\n\n{ratio_table(judged, others)}\n\n"
        f"The same with `--no-unions`:\n\n{ratio_table(pairs_only(judged), others)}\n\n"
        f"The whole audit:\n\n{ratio_table(results, others)}"
    )


def pairs_only(results: Sequence[Json]) -> list[Json]:
    """Results where R2D2 was run on pairs alone, with that run as R2D2's."""
    found = [result for result in results if (result["runs"].get(PAIRS) or {}).get("seconds") is not None]
    return [{**result, "runs": {**result["runs"], "r2d2": result["runs"][PAIRS]}} for result in found]


def ratio_table(results: Sequence[Json], others: Sequence[str]) -> str:
    rows = []
    for result in results:
        runs = result["runs"]
        scan = ratio(runs.get("r2d2"), runs.get("scan"))
        rows.append((name_of(result), shown(scan), *(shown(speed_up(runs, peer)) for peer in others)))
    return table(("lake", "scan ratio", *others), rows)


def judging(runs: Json) -> Json:
    """Runs with the time of R2D2 until the containments are verified."""
    found = dict(runs)
    for name in (
        name for name in ("r2d2", PAIRS, "r2d2-spark") if runs.get(name) and runs[name]["seconds"] is not None
    ):
        later = sum(stage["seconds"] for stage in runs[name]["facts"]["stages"] if stage["name"] in AFTER_VERIFY)
        found[name] = {**runs[name], "seconds": runs[name]["seconds"] - later}
    return found


def quality(results: Sequence[Json]) -> str:
    names = ("lake", "way", "judged", "contained", "missed", "wrong", "recall", "precision")
    rows = [
        (name_of(result), f"`{name}`{of_bags}", *quality_cells(found))
        for result in results
        for name, run in ordered(result["runs"])
        for found, of_bags in ((run["sets"], ""), (run["bags"], " bags"))
        if found is not None
    ]
    proposals = [
        f"{run['wrong_proposals']} of {run['proposals']} proposals on {name_of(result)}"
        for result in results
        for name, run in result["runs"].items()
        if name == "r2d2" and run["proposals"] is not None
    ]
    wrong = paragraph(f"Wrong proposals of `r2d2`: {', '.join(proposals) or 'not run'}.")
    return f"## What is found\n\n{wrong}\n\n{table(names, rows)}"


def quality_cells(found: Json) -> Row:
    correct = found["found"] - found["wrong"]
    recall = correct / found["true"] if found["true"] else None
    precision = correct / found["found"] if found["found"] else None
    judged = "all" if found["judged"] is None else f"{found['judged']:,}"
    counts = (f"{found[name]:,}" for name in ("true", "missed", "wrong"))
    return (judged, *counts, *("-" if share is None else f"{share:.3f}" for share in (recall, precision)))


def memory(results: Sequence[Json]) -> str:
    peers = seen(results)
    rows = []
    for result in results:
        runs = result["runs"]
        own = runs.get("r2d2") or {}
        facts = own.get("facts") or {}
        bytes_read = facts["bytes_read"] / facts["lake_bytes"] if facts.get("lake_bytes") else None
        cold = facts.get("cold_start_seconds")
        rows.append(
            (
                name_of(result), shown(bytes_read), "-" if cold is None else f"{cold:.1f}",
                *(mebibytes(runs.get(peer)) for peer in peers),
            )
        )  # fmt: skip
    names = ("lake", "bytes read", "cold start, s", *peers)
    return f"## Memory, bytes and cold start\n\nMemory in MiB.\n\n{table(names, rows)}"


def stages(results: Sequence[Json]) -> str:
    rows, names = [], []
    for result in results:
        run = result["runs"].get("r2d2")
        if run is not None and run["seconds"] is not None:
            spent = {stage["name"]: stage["seconds"] for stage in run["facts"]["stages"] if stage["seconds"] >= 0.05}
            names += [name for name in spent if name not in names]
            rows.append((name_of(result), spent))
    cells = [(lake, *(f"{spent[name]:.2f}" if name in spent else "" for name in names)) for lake, spent in rows]
    return f"## Where R2D2's time goes\n\nSeconds, those below 0.05 left out.\n\n{table(('lake', *names), cells)}"


def paper(results: Sequence[Json]) -> str:
    found = [
        (name_of(result), run)
        for result in results
        for name, run in result["runs"].items()
        if name == "paper" and run["seconds"] is not None
    ]
    if not found:
        return ""
    facts = found[0][1]["facts"]
    schema = [
        (lake, stage["name"], *(f"{stage[name]:,}" for name in ("correct", "incorrect", "undetected")))
        for lake, run in found
        for stage in run["facts"]["schema_stages"]
    ]
    after = [
        (
            lake,
            stage["name"],
            f"{stage['judged']:,}",
            *(f"{stage[n]:,}" for n in ("correct", "incorrect", "undetected")),
        )
        for lake, run in found
        for stage in run["facts"]["stages"]
    ]
    says = paragraph(
        "*R2D2: Reducing Redundancy and Duplication in Data Lakes* (SIGMOD 2024, arXiv:2312.13427) as it describes it:"
        " a schema graph around cluster centres (SGB), raw minimum and maximum (MMP), then a query per edge that looks"
        f" for {facts['sampled_rows']} sampled rows in {facts['sampled_columns']} sampled columns of the child (CLP)."
        " What is left it takes for contained."
    )
    return (
        f"## The paper's pipeline\n\n{says}\n\n"
        "Edges of schema containment, beside those that clustering schemas by k-means finds:\n\n"
        f"{table(('lake', 'method', 'correct edges', 'incorrect edges', 'not detected'), schema)}\n\n"
        "Edges of containment after each stage; where the last one judged a sample, it counts that alone:\n\n"
        f"{table(('lake', 'after', 'edges judged', 'correct edges', 'incorrect edges', 'not detected'), after)}"
    )


def ablations(stored: Json) -> str:
    if not stored:
        return ""
    rows = [
        (shape, name, *ablation_cells(stored[shape]["runs"][name], stored[shape]["runs"]["none"]))
        for shape in sorted(stored)
        for name in ABLATIONS
        if name in stored[shape]["runs"]
    ]
    names = (
        "lake", "left out", "seconds", "CPU, s", "CPU, times", "bytes read, times", "pairs after min-max",
        "after MinHash", "missed", "wrong",
    )  # fmt: skip
    says = [f"* *{name}*: {ablation.says}." for name, ablation in ABLATIONS.items()]
    scales = ", ".join(f"{shape} at {stored[shape]['lake']['scale']:g}" for shape in sorted(stored))
    text = paragraph(
        "Whole audits with a stage before verification left out. The answers stay the same, as these stages only"
        " refute, or prove from files. *times* are over the audit with nothing left out."
    )
    return f"## Stages left out\n\n{text}\n\n{lines(says)}\n\nLakes: {scales}.\n\n{table(names, rows)}"


def ablation_cells(run: Json, whole: Json) -> Row:
    if run["status"] != "ok":
        return (run["status"], *([""] * 7))
    of_whole = whole["status"] == "ok"
    counts = run["facts"]["counts"]
    read = run["facts"]["bytes_read"] / whole["facts"]["bytes_read"] if of_whole else None
    return (
        f"{run['seconds']:.2f}", f"{run['cpu_seconds']:.2f}",
        shown(run["cpu_seconds"] / whole["cpu_seconds"] if of_whole else None), shown(read),
        f"{counts['minmax_pairs']:,}", f"{counts['minhash_pairs']:,}",
        *(str(run["sets"][name] + run["bags"][name]) for name in ("missed", "wrong")),
    )  # fmt: skip


def machines(results: Sequence[Json], stored: Json) -> str:
    runs = [run for result in [*results, *stored.values()] for run in result["runs"].values()]
    kinds = sorted(
        {f"{m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB, {m['system']}" for m in machine_of(runs)}
    )
    loads = sorted(m["load"] for m in machine_of(runs))
    used = sorted({f"{name} {version}" for run in runs for name, version in (run.get("versions") or {}).items()})
    load = f"{loads[0]:g} to {loads[-1]:g}" if loads else "-"
    busy = " Other programs ran beside these: times are indicative." if loads and loads[len(loads) // 2] > 0.5 else ""
    versions = paragraph(f"* {', '.join(used)}.", indent="  ")
    text = paragraph(
        "DuckDB's tpch extension is not used, as it is downloaded when it is first loaded: *tpch* has the schemas, row"
        " counts and distributions of TPC-H, not its very rows. Desbordante (AGPL) runs in an environment of its own"
        " and is no dependency."
    )
    return (
        f"## Machine and versions\n\n{lines([f'* {kind}.' for kind in kinds])}\n"
        f"* Load (runnable processes) just before the runs: {load}.{busy}\n"
        f"{versions}\n\n{text}"
    )


# ---- cells


def machine_of(runs: Sequence[Json]) -> list[Json]:
    return [run["machine"] for run in runs]


def ordered(runs: Json) -> Iterator[tuple[str, Json]]:
    """Runs in the order of the peers."""
    return ((name, runs[name]) for name in PEERS if name in runs)


def seen(results: Sequence[Json]) -> list[str]:
    """The peers with a time on some lake, in their order."""
    return [name for name in PEERS if any((r["runs"].get(name) or {}).get("seconds") is not None for r in results)]


def seconds(run: Json | None) -> str:
    if run is None or run["seconds"] is None:
        return ""
    return f"{'~' if run['extrapolated'] else ''}{rounded(run['seconds'])}"


def mebibytes(run: Json | None) -> str:
    return "" if run is None or run["peak_rss_bytes"] is None else f"{run['peak_rss_bytes'] / 2**20:,.0f}"


def megabytes(size: int) -> str:
    return rounded(size / 1e6)


def rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shown(value: float | None) -> str:
    return "" if value is None else rounded(value)


def ratio(over: Json | None, under: Json | None, name: str = "seconds") -> float | None:
    """One run's cost over another's; None where there is none."""
    if over is None or under is None or over[name] is None or not under[name]:
        return None
    return float(over[name] / under[name])


def speed_up(runs: Json, peer: str) -> float | None:
    """How many times as long as R2D2 a peer takes, on the same engine where that was run."""
    own = runs["r2d2-spark"] if peer in SPARK and "r2d2-spark" in runs else runs.get("r2d2")
    return ratio(runs.get(peer), own)


def paragraph(text: str, indent: str = "") -> str:
    """A text in lines of the page's width."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def lines(items: Sequence[str]) -> str:
    return "\n".join(items)


def picture() -> str:
    dark, light = (f"images/{PLOT.format(theme)}" for theme in ("dark", "light"))
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'  <img src="{light}" alt="{TITLE}">\n'
        "</picture>"
    )


# ---- files


def read_results(folder: Path) -> tuple[list[Json], Json]:
    """Runs by lake in the order of the shapes, and ablations."""
    results, stored = [], {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if path.name == RESULT:
            stored = content
        else:
            results.append(content)
    order = list(SHAPES)
    return sorted(results, key=lambda r: (order.index(r["lake"]["shape"]), r["lake"]["scale"])), stored


def page(results: Sequence[Json], stored: Json) -> str:
    """The page."""
    parts: list[Callable[[Sequence[Json]], str]] = [lakes, times, ratios, quality, memory, stages, paper]
    made = [INTRODUCTION.rstrip(), *(part(results) for part in parts), ablations(stored), machines(results, stored)]
    return "\n\n".join(part for part in made if part) + "\n"


def plots(results: Sequence[Json]) -> Mapping[str, str]:
    """The plot by file name, for light and dark pages."""
    names = [name for name in seen(results) if not name.startswith("r2d2") and name != "scan"]
    rows = {
        name_of(result): {
            PEERS[name].says: value for name in names if (value := speed_up(judging(result["runs"]), name)) is not None
        }
        for result in results
    }
    legend = [PEERS[name].says for name in names]
    return {PLOT.format(name): ratio_plot(TITLE, rows, legend, theme) for name, theme in THEMES.items()}


def generated(folder: Path) -> Mapping[Path, str]:
    """Each file that the results of a folder make, by its path below the repository."""
    results, stored = read_results(folder)
    return {PAGE: page(results, stored), **{IMAGES / name: text for name, text in plots(results).items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: benchmarks/results)")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing files")
    options = parser.parse_args(arguments)
    made = generated(options.results)
    if options.print:
        print(made[PAGE])
        return 0
    for path, text in made.items():
        (ROOT / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
