"""The benchmarks tell the truth: lakes, peers, the paper's pipeline, measurements and the page made of them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import ablations, report, run
from benchmarks.lakes.columns import key_columns, plain_columns
from benchmarks.lakes.lake import Table, contained, read_facts, read_truth, schema_pairs, write_lake
from benchmarks.lakes.plan import Plan, tables_of, with_corrections
from benchmarks.lakes.rows import Rows, codes_of, drawn
from benchmarks.lakes.shapes import SHAPES
from benchmarks.lakes.write import rows_of
from benchmarks.paper import Stage, clustered_schema_graph, in_range, paper_peer, sample_found, schema_graph, stage
from benchmarks.peers import duck
from benchmarks.peers import spark as spark_peers
from benchmarks.peers.__main__ import as_json, from_json
from benchmarks.peers.registry import PEERS
from benchmarks.peers.tables import Answer, Edge, PeerTable, Task, groups_of, in_random_order, read_tables, shuffled
from benchmarks.plot import THEMES, ratio_plot
from benchmarks.process_tree import Finished, run_watched
from r2d2.session import Engine
from tests.integration.audit_helpers import run_audit

ROOT = Path(__file__).parents[2]
few = settings(max_examples=25)
codes = st.frozensets(st.integers(0, 40), max_size=25)
plans = st.builds(
    Plan,
    tables=st.integers(2, 9),
    families=st.integers(1, 3),
    family_skew=st.floats(0, 1),
    rows=st.integers(2, 12),
    row_skew=st.floats(0, 1),
    columns=st.integers(3, 7),
    classes=st.integers(1, 3),
    contained=st.floats(0, 0.6),
    near=st.floats(0, 0.4),
    repeated=st.floats(0, 0.7),
    overlap=st.floats(1, 2),
    scatter=st.booleans(),
    own_names=st.booleans(),
)


def rows_with(numbers: Iterable[int]) -> Rows:
    return Rows.of_codes(np.array(sorted(numbers), np.int64))


def brute_force(tables: Mapping[str, pa.Table]) -> tuple[set[Edge], set[Edge]]:
    """Contained pairs of tables, as sets and as bags, by looking at rows."""

    @functools.cache
    def rows(table: str, names: tuple[str, ...]) -> Counter[tuple[Any, ...]]:
        return Counter(zip(*(tables[table][name].to_pylist() for name in names), strict=True))

    sets, bags = set(), set()
    for child, parent in itertools.permutations(tables, 2):
        names = tuple(sorted(tables[child].column_names))
        if set(names) <= set(tables[parent].column_names):
            mine, its = rows(child, names), rows(parent, names)
            if mine.keys() <= its.keys():
                sets.add((child, parent))
                bags |= {(child, parent)} if all(count <= its[row] for row, count in mine.items()) else set()
    return sets, bags


def read_lake(folder: Path) -> dict[str, pa.Table]:
    found = {}
    for entry in (folder / "tables").iterdir():
        paths = sorted(entry.glob("*.parquet")) if entry.is_dir() else [entry]
        if (entry / "_delta_log").exists():
            paths = files_of_log(entry)
        found[entry.name] = pa.concat_tables([pq.read_table(path) for path in paths])
    return found


def files_of_log(table: Path) -> list[Path]:
    """Data files of a Delta table without removals; an absolute one is a URL."""
    actions = [
        json.loads(line)
        for log in sorted((table / "_delta_log").glob("*.json"))
        for line in log.read_text().splitlines()
    ]
    return [table / urlsplit(action["add"]["path"]).path for action in actions if "add" in action]


def made(folder: Path, tables: list[Table]) -> Path:
    write_lake(tables, folder, shape="mixed", scale=1, seed=0)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with containments as sets and as bags, near misses, repeated rows and a table of several files."""
    plan = Plan(
        tables=9, families=2, rows=12, row_skew=0.4, columns=10, classes=2, contained=0.5, near=0.2, repeated=0.4
    )
    tables = [dataclasses.replace(table, files=1 + 2 * (place == 1)) for place, table in enumerate(tables_of(plan, 4))]
    folder = made(tmp_path_factory.mktemp("small"), tables)
    assert len(read_truth(folder, bag=False)) > len(read_truth(folder, bag=True)) > 2
    return folder


def task_of(folder: Path, budget_seconds: float = 60) -> Task:
    return Task(folder=folder, threads=1, budget_seconds=budget_seconds)


# --- rows -------------------------------------------------------------------------------------------------------------


@given(mine=codes, its=codes)
def test_sets_of_rows_are_sets(mine: frozenset[int], its: frozenset[int]) -> None:
    a, b = rows_with(mine), rows_with(its)
    assert (a.size, a.expand().tolist()) == (len(mine), sorted(mine))
    assert (a | b).expand().tolist() == sorted(mine | its)
    assert (a & b).expand().tolist() == sorted(mine & its)
    assert (a - b).expand().tolist() == sorted(mine - its)
    assert (a <= b) == (mine <= its)
    assert (a.starts[1:] > a.ends[:-1]).all(), "ranges that touch are one range"


@given(numbers=codes, size=st.integers(0, 30), seed=st.integers(0, 5))
def test_a_sample_is_a_part_of_the_size_asked_for(numbers: frozenset[int], size: int, seed: int) -> None:
    sample = drawn(np.random.default_rng(seed), rows_with(numbers), size)
    assert sample.size == min(size, len(numbers))
    assert set(sample.expand().tolist()) <= numbers


# --- lakes ------------------------------------------------------------------------------------------------------------


@few
@given(plan=plans, seed=st.integers(0, 1000))
def test_the_truth_of_a_random_lake_is_that_of_its_rows(plan: Plan, seed: int) -> None:
    tables = tables_of(plan, seed)
    rows = {
        table.id: rows_of(table.columns, np.concatenate([layer.expand() for layer in table.layers])) for table in tables
    }
    sets, bags = brute_force(rows)
    edges = contained(tables)
    assert {(edge.child, edge.parent) for edge in edges} == sets
    assert {(edge.child, edge.parent) for edge in edges if edge.bag} == bags
    names = [frozenset(table.column_names) for table in rows.values()]
    assert schema_pairs(tables) == (len(set(names)), sum(a <= b for a, b in itertools.permutations(names, 2)))


SMALL_SHAPES: Mapping[str, Callable[[float, int], list[Table]]] = {
    **{name: shape.tables for name, shape in SHAPES.items()},
    "many_files": ablations.many_files,
    "clones": ablations.clones,
}


@pytest.mark.parametrize("shape", SMALL_SHAPES)
def test_the_truth_of_a_written_shape_is_that_of_its_files(shape: str, tmp_path: Path) -> None:
    tables = SMALL_SHAPES[shape](0.0001, 1)
    facts = write_lake(tables, tmp_path, shape=shape, scale=0.0001, seed=1)
    lake = read_lake(tmp_path)
    sets, bags = brute_force(lake)
    assert (read_truth(tmp_path, bag=False), read_truth(tmp_path, bag=True)) == (sets, bags)
    assert (facts.tables, facts.rows) == (len(lake), sum(table.num_rows for table in lake.values()))
    assert read_facts(tmp_path) == facts


@pytest.mark.parametrize("shape", SMALL_SHAPES)
def test_a_shape_is_a_function_of_scale_and_seed(shape: str) -> None:
    first, again, other = (SMALL_SHAPES[shape](0.001, seed) for seed in (5, 5, 6))

    def drawn_rows(tables: list[Table]) -> list[tuple[str, list[list[int]]]]:
        return [(table.name, [layer.starts.tolist() for layer in table.layers]) for table in tables]

    assert drawn_rows(first) == drawn_rows(again)
    assert drawn_rows(first) != drawn_rows(other)


def test_full_scale_has_the_tables_and_pairs_that_the_shapes_promise() -> None:
    mixed = SHAPES["mixed"].tables(1, 0)
    classes, pairs = schema_pairs(mixed)
    assert (len(mixed), 1_300 < classes < 1_700, 50_000 < pairs < 400_000) == (5_000, True, True)
    assert 300 < len(contained(mixed)) < 800


def test_one_schema_is_full_of_near_misses() -> None:
    tables = SHAPES["one_schema"].tables(0.02, 0)
    shares = [
        (child.layers[0] & parent.layers[0]).size / child.layers[0].size
        for child, parent in itertools.permutations(tables, 2)
    ]
    near = sum(0.5 <= share < 1 for share in shares)
    assert near > len(shares) / 3
    assert any(0.999 <= share < 1 for share in shares)


def test_a_corrected_row_differs_in_the_amount_alone() -> None:
    columns = (*key_columns(scatter=True), *plain_columns(8))
    rows = Rows.of_range(0, 50)
    changed = with_corrections(np.random.default_rng(0), rows, 0)
    assert (rows & changed).size == 49
    before, after = (rows_of(columns, np.sort(side.expand() % (1 << 32))) for side in (rows, changed))
    assert before == after
    original, fixed = (rows_of(columns, (one - other).expand()) for one, other in ((rows, changed), (changed, rows)))
    differing = [name for name in original.column_names if original[name] != fixed[name]]
    assert differing == ["amount"]


# --- pairs and peers --------------------------------------------------------------------------------------------------


@given(columns=st.lists(st.frozensets(st.sampled_from("abcd"), min_size=1), max_size=8))
def test_groups_hold_each_pair_whose_columns_fit_once(columns: list[frozenset[str]]) -> None:
    tables = [PeerTable(id=str(n), paths=(), columns=tuple(sorted(names))) for n, names in enumerate(columns)]
    fitting = {(a.id, b.id) for a, b in itertools.permutations(tables, 2) if set(a.columns) <= set(b.columns)}
    pairs = [(child.id, parent.id) for child, parent in in_random_order(groups_of(tables), seed=1)]
    assert (len(pairs), set(pairs)) == (len(fitting), fitting)
    assert sorted(pairs) == sorted((c.id, p.id) for group in groups_of(tables) for c, p in group.all())


def test_many_numbers_are_shuffled_lazily_and_without_repetition() -> None:
    first = list(itertools.islice(shuffled(25_000_000, 1), 5_000))
    assert len(set(first)) == len(first)
    assert min(first) < 1_000_000 < 24_000_000 < max(first) < 25_000_000


@pytest.mark.parametrize("peer", [duck.except_per_pair, duck.hash_sets, duck.minmax_except])
def test_an_exact_peer_finds_the_contained_sets(peer: Callable[[Task], Answer], small: Path) -> None:
    answer = peer(task_of(small))
    assert answer.edges == frozenset(read_truth(small, bag=False))
    assert answer.asked is None
    assert answer.pairs == read_facts(small).schema_pairs


@pytest.mark.parametrize("peer", [duck.except_per_pair, duck.minmax_except])
def test_a_peer_without_time_judges_a_sample_and_the_checks(peer: Callable[[Task], Answer], small: Path) -> None:
    answer = peer(task_of(small, budget_seconds=0))
    truth = read_truth(small, bag=True)
    assert answer.asked is not None
    assert truth <= answer.asked, "known containments are judged beside the sample"
    assert len(answer.asked) <= len(truth) + 1
    assert answer.edges == answer.asked & read_truth(small, bag=False)
    assert answer.facts["judged_pairs"] == 1


def test_raw_minima_and_maxima_leave_all_true_pairs_and_not_all_pairs(small: Path) -> None:
    tables = read_tables(small / "tables")
    bounds = {table.id: duck.footer_bounds(table) for table in tables}
    left = {
        (c.id, p.id) for group in groups_of(tables) for kept in duck.in_bounds(group, bounds) for c, p in kept.all()
    }
    assert read_truth(small, bag=False) <= left
    assert len(left) < read_facts(small).schema_pairs


def test_the_scan_reads_the_lake_and_says_nothing(small: Path) -> None:
    answer = duck.grouped_scan(task_of(small))
    assert answer.edges is None
    assert answer.seconds > 0


def test_except_all_finds_the_contained_bags(engine: Engine, small: Path) -> None:
    answer = spark_peers.except_all(task_of(small, budget_seconds=0.5), engine.spark)
    truth = frozenset(read_truth(small, bag=True))
    assert answer.edges == (truth if answer.asked is None else truth & answer.asked)
    assert answer.edges


@pytest.mark.core("spark")
def test_theta_sketches_lose_no_containment(engine: Engine, tmp_path: Path) -> None:
    if not engine.is_spark:
        pytest.skip("Sail has no theta sketches")
    made(tmp_path, tables_of(Plan(tables=5, rows=12, columns=4, contained=0.7, near=0.1), 2))
    answer = spark_peers.theta_sketches(task_of(tmp_path), engine.spark)
    truth = read_truth(tmp_path, bag=False)
    assert answer.edges is not None
    assert truth
    assert truth <= answer.edges
    assert len(answer.edges) < read_facts(tmp_path).schema_pairs


def test_an_answer_survives_its_text() -> None:
    answer = Answer(
        edges=frozenset({("a", "b")}), asked=None, bag_edges=frozenset(), seconds=1.5, proposals=(("a", ("b", "c")),)
    )
    assert from_json(as_json(answer))[0] == answer


# --- judging and measuring --------------------------------------------------------------------------------------------


def test_an_answer_is_judged_on_what_was_asked() -> None:
    truth = {("a", "b"), ("b", "c")}
    whole = run.quality(frozenset({("a", "b"), ("x", "y")}), truth, None)
    assert whole == run.Quality(judged=None, true=2, found=2, missed=1, wrong=1)
    sample = run.quality(frozenset({("a", "b")}), truth, frozenset({("a", "b"), ("c", "a")}))
    assert sample == run.Quality(judged=2, true=1, found=1, missed=0, wrong=0)
    assert run.quality(None, truth, None) is None


def test_a_proposal_is_wrong_unless_a_parent_contains_its_table(small: Path) -> None:
    bags, sets = read_truth(small, bag=True), read_truth(small, bag=False)
    (child, parent), only_set = min(bags), min(sets - bags)
    proposals = ((child, (parent,)), (only_set[0], (only_set[1],)), (child, ("unknown",)))
    answer = Answer(
        edges=frozenset(sets),
        bag_edges=frozenset(bags),
        proposals=proposals,
        seconds=1,
        facts={"cpu_seconds": 1, "read_bytes": 1},
    )
    found = run.judged(PEERS["r2d2"], answer, small)
    assert (found["proposals"], found["wrong_proposals"]) == (3, 2)


def test_results_of_other_peers_stay_but_not_those_of_other_lakes(small: Path, tmp_path: Path) -> None:
    path, facts = tmp_path / "results" / "mixed-1.json", read_facts(small)

    def runs(name: str, *all_seconds: float) -> dict[str, list[run.Run]]:
        return {name: [run.Run(peer=name, status="ok", started="", machine={}, seconds=s) for s in all_seconds]}

    run.store(path, facts, runs("scan", 3, 1, 2))
    run.store(path, facts, runs("r2d2", 9))
    stored = json.loads(path.read_text())
    assert {name: found["seconds"] for name, found in stored["runs"].items()} == {"scan": 2, "r2d2": 9}
    run.store(path, dataclasses.replace(facts, seed=7), runs("r2d2", 8))
    assert list(json.loads(path.read_text())["runs"]) == ["r2d2"]


def test_a_process_tree_is_measured_with_its_children(tmp_path: Path) -> None:
    child = "x = bytearray(120 << 20); import time; e = time.process_time() + 0.4\nwhile time.process_time() < e: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    finished = run_watched([sys.executable, "-c", parent], timeout_seconds=60, log=tmp_path / "log", env={})
    assert finished.status == 0
    assert finished.cpu_seconds >= 0.4
    assert finished.peak_rss_bytes >= 120 << 20
    assert finished.wall_seconds >= 0.4


def test_a_late_process_is_stopped_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    finished = run_watched([sys.executable, "-c", parent], timeout_seconds=1, log=tmp_path / "log", env={})
    assert finished.status == -9
    assert run.failure(finished, tmp_path / "log", 1) == "stopped after 1 s"
    time.sleep(2.5)
    assert not mark.exists()


def test_a_failure_is_told_by_the_type_of_its_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\nValueError: secret row value\n")
    finished = Finished(status=1, wall_seconds=1, cpu_seconds=1, peak_rss_bytes=1)
    assert run.failure(finished, log, 60) == "failed: ValueError"


def test_a_peer_runs_in_a_process_of_its_own(small: Path) -> None:
    found = run.run_peer("hash-sets", small, threads=1, budget_seconds=5, timeout_seconds=60)
    assert found.status == "ok"
    assert found.sets is not None
    assert (found.sets.missed, found.sets.wrong) == (0, 0)
    assert (found.peak_rss_bytes or 0) > 20 << 20


def test_peers_of_other_environments_need_nothing_of_the_project() -> None:
    lacking = "import sys; sys.modules |= dict.fromkeys(('deltalake', 'psutil', 'pyspark', 'r2d2'))\n"
    needed = "import benchmarks.peers.__main__, benchmarks.peers.ensemble, benchmarks.peers.frames"
    done = subprocess.run(
        [sys.executable, "-c", lacking + needed], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- the paper --------------------------------------------------------------------------------------------------------


@given(schemas=st.dictionaries(st.text("xyz", min_size=1), st.frozensets(st.sampled_from("abcde"), min_size=1)))
def test_cluster_centres_lose_no_pair_and_clustering_invents_none(schemas: dict[str, frozenset[str]]) -> None:
    fitting = {(a, b) for a, b in itertools.permutations(schemas, 2) if schemas[a] <= schemas[b]}
    assert schema_graph(schemas) == fitting
    if schemas:
        assert clustered_schema_graph(schemas, seed=1) <= fitting


def test_clustering_by_similarity_loses_narrow_children() -> None:
    wide = {f"w{n}": frozenset(f"{family}{c}" for c in range(20)) for n, family in enumerate("abcdefgh")}
    schemas = wide | {f"n{n}": frozenset({f"{family}0"}) for n, family in enumerate("abcdefgh")}
    assert len(schema_graph(schemas)) == 8
    assert len(clustered_schema_graph(schemas, seed=0)) < 8


def test_a_table_joins_every_centre_that_holds_it() -> None:
    schemas = {
        "orders": frozenset("abcd"),
        "visits": frozenset("bcef"),
        "both": frozenset("bc"),
        "one": frozenset("b"),
        "other": frozenset("g"),
    }
    assert schema_graph(schemas) == {
        ("both", "orders"), ("both", "visits"), ("one", "orders"), ("one", "visits"), ("one", "both"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("child", "kept"), [((1, 5), True), ((0, 5), False), ((1, 9), False), ((duck.NOTHING, duck.NOTHING), True)]
)
def test_raw_ranges_drop_an_edge_on_either_side(child: tuple[Any, Any], kept: bool) -> None:
    assert in_range({"a": (*child, 0)}, {"a": (1, 8, 0)}, {"a"}) is kept


def test_a_stage_counts_edges_beside_the_truth() -> None:
    found = stage("CLP", {("a", "b"), ("x", "y")}, {("a", "b"), ("b", "c")}, 4, 0.5)
    assert found == Stage(name="CLP", edges=2, correct=1, incorrect=1, undetected=1, judged=4, seconds=0.5)


def test_the_papers_pipeline_keeps_all_true_edges(engine: Engine, small: Path) -> None:
    answer = paper_peer(task_of(small, budget_seconds=1), engine.spark)
    after = {row["name"]: row for row in answer.facts["stages"]}
    assert (after["SGB"]["undetected"], after["MMP"]["undetected"], after["CLP"]["undetected"]) == (0, 0, 0)
    assert after["SGB"]["edges"] == read_facts(small).schema_pairs > after["MMP"]["edges"]
    assert all(row["correct"] + row["incorrect"] == row["edges"] for row in after.values())
    assert answer.facts["schema_stages"][0]["incorrect"] == 0


def test_sampled_rows_tell_strange_tables_and_miss_one_strange_row(engine: Engine, tmp_path: Path) -> None:
    columns = key_columns(scatter=True)
    base, strange = Rows.of_range(0, 200), Rows.of_range(200, 400)
    one = (base - Rows.of_range(7, 8)) | Rows.of_codes(codes_of(np.array([7], np.int64), version=1))
    names = {"base": base, "strange": strange, "one": one}
    made(tmp_path, [Table(name=name, columns=columns, layers=(rows,)) for name, rows in names.items()])
    tables = {table.id.removesuffix(".parquet"): table for table in read_tables(tmp_path / "tables")}

    def found(child: str, rows: int) -> bool:
        return sample_found(engine.spark, tables[child], tables["base"], columns=2, rows=rows, seed=1)

    assert not found("strange", 5)
    assert not found("one", 200), "a sample of all rows sees the one that differs"


# --- stages left out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ablations.ABLATIONS)
def test_an_ablation_replaces_what_r2d2_has_and_puts_it_back(name: str) -> None:
    import importlib

    ablation = ablations.ABLATIONS[name]
    places = [(importlib.import_module(module), function) for module, function, _ in ablation.replaced]
    before = [getattr(module, function) for module, function in places]
    with ablations.left_out(ablation):
        assert all(getattr(m, f) is not b for (m, f), b in zip(places, before, strict=True))
    assert [getattr(module, function) for module, function in places] == before


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["many_files", "clones"])
def test_stages_left_out_change_costs_but_no_edge(shape: str, engine: Engine, tmp_path: Path) -> None:
    if engine.name != "sail":
        pytest.skip("only on Sail are kernels threads of this process")
    lake = tmp_path / "lake"
    write_lake(ablations.LAKES[shape](0.0001, 0), lake, shape=shape, scale=0.0001, seed=0)
    truth, pairs, proofs = read_truth(lake, bag=False), {}, {}
    for name, ablation in ablations.ABLATIONS.items():
        with ablations.left_out(ablation):
            results = run_audit(lake / "tables", tmp_path / name, spark=engine.spark)
        assert {(edge["child"], edge["parent"]) for edge in results.edges} == truth, name
        counts = results.summary["counts"]
        pairs[name] = counts["minmax_pairs"], counts["minhash_pairs"]
        proofs[name] = {edge["proof"] for edge in results.edges}
    assert pairs["min-max"][0] > pairs["none"][0], "statistics refute pairs"
    if shape == "many_files":
        assert pairs["boxes"][0] > pairs["none"][0], "files refute pairs that tables do not"
        assert pairs["MinHash"][1] >= pairs["none"][1]
    else:
        assert "file-identity" in proofs["none"] - proofs["file identity"], "shared files prove pairs"


@pytest.mark.slow
def test_r2d2_is_a_peer_with_its_cold_start_apart(small: Path) -> None:
    found = run.run_peer("r2d2", small, threads=2, budget_seconds=5, timeout_seconds=300)
    assert found.status == "ok"
    assert found.sets is not None
    assert found.bags is not None
    assert (found.sets.missed, found.sets.wrong, found.bags.missed, found.bags.wrong) == (0, 0, 0, 0)
    assert found.wrong_proposals == 0
    assert found.facts is not None
    assert found.facts["cold_start_seconds"] > 0


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_and_its_plots_are_those_of_the_stored_results() -> None:
    for path, text in report.generated(run.RESULTS).items():
        assert (ROOT / path).read_text() == text, f"{path} is not what `python -m benchmarks.report` makes"


def a_run(**changes: Any) -> dict[str, Any]:
    facts = read_facts_of_a_run()
    whole = run.Run(
        peer="r2d2", status="ok", started="2026-01-01 00:00", seconds=2.0, cpu_seconds=3.0, read_bytes=10,
        machine={"cpu": "some", "cores": 2, "memory_gib": 8, "system": "Linux 6", "load": 0.1}, wall_seconds=9,
        peak_rss_bytes=1 << 30, pairs=20, sets=run.Quality(judged=None, true=4, found=4, missed=0, wrong=0),
        bags=run.Quality(judged=None, true=3, found=3, missed=0, wrong=0), proposals=1, wrong_proposals=0,
        versions={"duckdb": "2.0.0"}, facts=facts,
    )  # fmt: skip
    return {**dataclasses.asdict(whole), **changes}


def read_facts_of_a_run() -> dict[str, Any]:
    return {
        "bytes_read": 150, "lake_bytes": 100, "cold_start_seconds": 3.21,
        "stages": [{"name": "verify", "seconds": 1.5}, {"name": "recipes", "seconds": 0.75}],
        "counts": {"minmax_pairs": 7, "minhash_pairs": 5},
    }  # fmt: skip


def a_lake() -> dict[str, Any]:
    lake = {"shape": "mixed", "scale": 0.1, "seed": 0, "tables": 1_234, "files": 1, "rows": 5, "bytes": 2_000_000}
    return {**lake, "classes": 3, "schema_pairs": 20, "edges": 4, "bag_edges": 3}


def test_the_page_tells_times_ratios_and_failures() -> None:
    sample = dataclasses.asdict(run.Quality(judged=8, true=2, found=2, missed=1, wrong=1))
    runs = {
        "r2d2": a_run(),
        "scan": a_run(seconds=0.5, cpu_seconds=1.0, sets=None, bags=None),
        "except": a_run(seconds=400.0, extrapolated=True, sets=sample, bags=None),
        "paper": a_run(seconds=None, status="left out: too many pairs", sets=None, bags=None, facts=None),
    }
    page = report.page([{"lake": a_lake(), "runs": runs}], {})
    for line in (
        "| mixed 0.1 | 2.00 | 0.50 | ~400 |",
        "| mixed 0.1 | 2.50 | 320 |",
        "| mixed 0.1 | 4.00 | 200 |",
        "| mixed 0.1 | `except` | 8 | 2 | 1 | 1 | 0.500 | 0.500 |",
        "* `paper` on mixed 0.1: left out: too many pairs.",
        "| mixed 0.1 | 1.50 | 3.2 | 1,024 |",
        "Wrong proposals of `r2d2`: 0 of 1 proposals on mixed 0.1.",
    ):
        assert line in page
    assert "Stages left out" not in page
    assert "| mixed | 2.00 | 0.50 | ~400 |" in report.page([{"lake": {**a_lake(), "scale": 1}, "runs": runs}], {})


def test_the_page_tells_what_a_stage_saves() -> None:
    without = a_run(cpu_seconds=6.0, facts={**read_facts_of_a_run(), "bytes_read": 300})
    runs = {"none": a_run(), "MinHash": without, "boxes": a_run(status="failed: ValueError")}
    page = report.page([], {"mixed": {"lake": a_lake(), "runs": runs}})
    assert "| mixed | MinHash | 2.00 | 6.00 | 2.00 | 2.00 | 7 | 5 | 0 | 0 |" in page
    assert "| mixed | boxes | failed: ValueError |" in page


@pytest.mark.parametrize("theme", THEMES)
def test_a_plot_is_well_formed_and_in_proportion(theme: str) -> None:
    rows = {"<lake> & co": {"a": 0.01, "b": 1.0}, "other": {"a": 100.0}}
    root = ET.fromstring(ratio_plot('"title" <x>', rows, ["a", "b"], THEMES[theme]))
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))[2:]
    low, middle, high = (float(circle.attrib["cx"]) for circle in circles)
    assert middle - low == pytest.approx(high - middle, abs=0.11), "the axis is logarithmic"
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")].count("<lake> & co") == 1


def test_the_command_line_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*SHAPES, *PEERS))
    with pytest.raises(SystemExit):
        run.main([])
    assert "nothing to run" in capsys.readouterr().err
