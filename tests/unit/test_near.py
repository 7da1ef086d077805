"""Near-duplicates without an engine: row hashes, samples, intervals, candidates, and the smallest difference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.config import AuditConfig
from r2d2.errors import UsageError
from r2d2.lake.ignored import named_leaves, path_of_name
from r2d2.near.candidates import SIGNATURE, candidate_pairs, signature
from r2d2.near.difference import Finding, smallest_difference
from r2d2.near.estimates import Extent, Interval, Overlap, Sample, Words, clopper_pearson, overlap, rows_lacking
from r2d2.near.hashing import Smallest, Terms, row_hashes, terms_of
from r2d2.near.subsets import MOST_IN_PAIRS, MOST_SINGLES, left_out_sets
from r2d2.report.near import leaf_name, shown_near, suggestion
from r2d2.store.results import RESULT_SCHEMAS

KEYS = (7, 8)
TRIALS = 200


def uniform(generator: np.random.Generator, count: int) -> Words:
    return generator.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def hashes_of(terms: Terms, digests: list[Words], choice: int) -> Words:
    words = [key.words(digest) for key, digest in zip(terms.keys, digests, strict=True)]
    return row_hashes(sum(words) - sum(words[term] for term in terms.lacking[choice]))  # type: ignore[arg-type]


# --- row hashes -------------------------------------------------------------------------------------------------------


def test_leaving_a_column_out_gives_the_hashes_of_a_table_without_it() -> None:
    generator = np.random.default_rng(1)
    names = [("a",), ("s", "u"), ("s", "v"), ("t", "w"), ("z",)]
    choices = left_out_sets(names, [])
    terms = terms_of(names, names, choices, KEYS)
    digests = [uniform(generator, 50) for _ in terms.keys]
    by_name = dict(zip([*names, *terms.structs], digests, strict=True))
    for place, choice in enumerate(choices):
        left = [name for position, name in enumerate(names) if position not in choice]
        alone = terms_of(left, left, [()], KEYS)
        own = [by_name[name] for name in (*left, *alone.structs)]
        assert np.array_equal(hashes_of(terms, digests, place), hashes_of(alone, own, 0)), choice


def test_equal_digests_under_other_names_do_not_cancel() -> None:
    names = [("a",), ("b",)]
    terms = terms_of(names, names, [()], KEYS)
    first, second = (np.array(values, np.uint64) for values in ([1, 2], [2, 1]))
    swapped = hashes_of(terms, [first, second], 0)
    assert swapped[0] != swapped[1], "rows (1, 2) and (2, 1) must differ"


@given(parts=st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=8), count=st.integers(1, 20))
def test_the_smallest_of_a_stream_are_those_of_the_whole(parts: list[list[int]], count: int) -> None:
    stream = Smallest(count=count)
    for part in parts:
        stream.add(np.array(part, np.uint64))
    assert stream.result().tolist() == sorted({value for part in parts for value in part})[:count]


@given(values=st.sets(st.integers(0, 2**64 - 1), max_size=60), cuts=st.integers(1, 5), size=st.integers(1, 40))
def test_a_sample_does_not_depend_on_how_a_table_is_cut(values: set[int], cuts: int, size: int) -> None:
    rows = list(values)
    parts = [np.sort(np.array(rows[start::cuts], np.uint64))[: size + 1] for start in range(cuts)]
    sample = Sample.of(parts, size)
    assert sample.hashes.tolist() == sorted(values)[:size]
    assert (sample.limit is None) == (len(values) <= size)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 0.999])
def test_intervals_cover_the_truth(share: float) -> None:
    inside = lacking = distinct = 0
    for seed in range(TRIALS):
        generator = np.random.default_rng([seed, round(1000 * share)])
        rows, shared = 4000, round(4000 * share)
        child = uniform(generator, rows)
        parent = np.concatenate([child[:shared], uniform(generator, 9000)])
        samples = Sample.of([child], 256), Sample.of([parent], 512)
        found = overlap(*samples)
        interval, lost = found.containment(), rows_lacking(samples[0].extent, found, None)
        inside += interval.low <= shared / rows <= interval.high
        lacking += lost.low <= rows - shared <= lost.high
        counted = samples[0].extent.distinct()
        distinct += counted.low <= rows <= counted.high
    assert inside >= 0.9 * TRIALS, "containment"
    assert lacking >= 0.9 * TRIALS, "rows only in the child"
    assert distinct >= 0.9 * TRIALS, "distinct rows"


def test_whole_samples_have_no_error() -> None:
    child, parent = (Sample.of([np.array(rows, np.uint64)], 10) for rows in ([1, 2, 3, 4], [2, 3, 4, 5, 6]))
    found = overlap(child, parent)
    assert found.containment() == Interval(estimate=0.75, low=0.75, high=0.75)
    assert rows_lacking(child.extent, found, None) == Interval(estimate=1, low=1, high=1)


def test_rows_beyond_a_parents_sample_are_not_counted_as_missing() -> None:
    child, parent = Sample.of([np.arange(1, 50, dtype=np.uint64)], 100), Sample.of([np.arange(30, dtype=np.uint64)], 10)
    found = overlap(child, parent)
    assert (found.sampled, found.matched, found.whole) == (9, 9, False)


@pytest.mark.parametrize(("matched", "sampled"), [(0, 20), (20, 20), (7, 20), (1, 1)])
def test_clopper_pearson_is_the_binomial_tail(matched: int, sampled: int) -> None:
    from scipy.stats import binom

    low, high = clopper_pearson(matched, sampled)
    assert low <= matched / sampled <= high
    assert low == 0 or binom.sf(matched - 1, sampled, low) == pytest.approx(0.025)
    assert high == 1 or binom.cdf(matched, sampled, high) == pytest.approx(0.025)


# --- candidates -------------------------------------------------------------------------------------------------------


def test_signatures_agree_as_often_as_the_sets() -> None:
    generator = np.random.default_rng(3)
    agreed = total = 0
    for _ in range(20):
        shared, own, others = uniform(generator, 3000), uniform(generator, 1000), uniform(generator, 2000)
        first, second = (Sample.of([np.concatenate([shared, more])], 1024).hashes for more in (own, others))
        agreed += int(np.count_nonzero(signature(first) == signature(second)))
        total += SIGNATURE
    assert agreed / total == pytest.approx(3000 / 6000, abs=0.04)


def planted_samples() -> tuple[dict[int, Sample], set[tuple[int, int]]]:
    """Many families of a base and of tables that hold parts of it and rows of their own; pairs above 0.8."""
    generator = np.random.default_rng(4)
    samples: dict[int, Sample] = {}
    near: set[tuple[int, int]] = set()
    for family in range(20):
        base = uniform(generator, 6000)
        number = 10 * family
        samples[number] = Sample.of([base], 1024)
        for offset, share in enumerate((0.3, 0.5, 0.82, 0.85, 0.9, 0.95, 0.99, 0.999), start=1):
            rows = 2000 if offset % 2 else 5000
            kept = round(rows * share)
            child = np.concatenate([generator.permutation(base)[:kept], uniform(generator, rows - kept)])
            samples[number + offset] = Sample.of([child], 1024)
            if share > 0.8:
                near.add((number + offset, number))
    return samples, near


def test_the_index_finds_most_planted_pairs_and_few_others() -> None:
    samples, near = planted_samples()
    found = set(candidate_pairs(samples, samples.keys(), 0.8, few_tables=0))
    recall = len(near & found) / len(near)
    assert recall >= 0.9, f"recall {recall:.3f}"
    related = {(child, parent) for child in samples for parent in samples if child // 10 == parent // 10}
    assert not found - related, "tables without a common row are no candidates"


def test_few_tables_are_compared_all_with_all() -> None:
    samples, _ = planted_samples()
    few = {table: samples[table] for table in (0, 1, 3, 10)}
    assert candidate_pairs(few, {0, 1}, 0.8) == [(0, 1), (0, 3), (1, 0), (1, 3)]


# --- which columns are left out ---------------------------------------------------------------------------------------


@given(leaves=st.integers(1, 300), dates=st.sets(st.integers(0, 299), max_size=5))
def test_what_is_left_out_is_bounded_and_less_than_what_stays(leaves: int, dates: set[int]) -> None:
    paths = [(f"c{place}",) for place in range(leaves)]
    chosen = left_out_sets(paths, [path for place, path in enumerate(paths) if place in dates])
    assert chosen[0] == ()
    assert len(set(chosen)) == len(chosen) <= 2 + max(MOST_SINGLES, MOST_IN_PAIRS * (MOST_IN_PAIRS + 1) // 2)
    assert all(len(some) < leaves - len(some) and leaves - len(some) >= 2 for some in chosen[1:])
    if leaves > 2:
        assert set(range(leaves)) == {place for some in chosen for place in some}, "each column is left out somewhere"


def finding(left_out: str, matched: int, sampled: int = 1000, rows: int = 1000) -> Finding:
    paths = tuple((name,) for name in left_out)
    overlap_ = Overlap(sampled=sampled, matched=matched, whole=False)
    return Finding(left_out=paths, columns=(("k",),), extent=Extent(kept=rows, limit=None), overlap=overlap_)


@pytest.mark.parametrize(
    ("findings", "chosen"),
    [
        ([finding("", 990)], ""),
        ([finding("", 900), finding("a", 1000)], "a"),  # one column explains all of it
        ([finding("", 900), finding("a", 950)], ""),  # it explains a part only
        ([finding("a", 1000), finding("ab", 1000), finding("b", 900)], "a"),
        ([finding("a", 850), finding("ab", 1000)], "ab"),
        ([finding("", 1000), finding("a", 1000)], ""),
        ([finding("a", 1000, rows=300)], None),  # without it nearly all rows look alike
    ],
)
def test_the_smallest_difference_that_explains_a_pair(findings: list[Finding], chosen: str | None) -> None:
    found = smallest_difference(findings, Interval(estimate=1000, low=1000, high=1000))
    assert (None if found is None else "".join(name for (name,) in found.left_out)) == chosen


# --- what a person is shown -------------------------------------------------------------------------------------------


def near_table(*rows: tuple[str, str, float, int]) -> pa.Table:
    lacking = {"rows_only_in_child_low": 1.2, "rows_only_in_child_high": 3.4, "differing_columns": []}
    told = {"low": 0.8, "high": 0.9, "difference": "rows", "suggestion": "", **lacking}
    named = [dict(zip(("child", "parent", "estimate", "child_bytes"), row, strict=True)) for row in rows]
    return pa.Table.from_pylist([{**told, **row} for row in named], schema=RESULT_SCHEMAS["near"])


def test_each_pair_is_shown_once_by_what_it_would_save() -> None:
    near = near_table(("a", "b", 0.9, 10), ("b", "a", 0.8, 30), ("c", "a", 0.9, 20), ("d", "a", 0.9, 90))
    shown = shown_near(near, {"d"})
    assert [(pair.child, pair.parent) for pair in shown] == [("b", "a"), ("c", "a")]
    assert shown[0].difference == "1 to 3 rows only in the child"


def test_options_are_quoted_for_a_shell() -> None:
    assert suggestion(["load_ts", "a b;`c`"]) == "--ignore-columns load_ts --ignore-columns 'a b;`c`'"


# --- names of columns to ignore ---------------------------------------------------------------------------------------


@given(path=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple))
def test_a_shown_name_means_its_leaf(path: tuple[str, ...]) -> None:
    assert path_of_name(leaf_name(path)) == path


@pytest.mark.parametrize("name", ["", ".a", "a.", "a..b", "`a", "`a`b", "``"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="ignore-columns"):
        path_of_name(name)


def test_names_compare_like_column_names() -> None:
    paths = [("Load_TS",), ("s", "A"), ("s", "b")]
    assert named_leaves(paths, ["load_ts", "S.a"], case_sensitive=False) == (("Load_TS",), ("s", "A"))
    assert named_leaves(paths, ["s"], case_sensitive=False) == (("s", "A"), ("s", "b"))
    assert named_leaves(paths, ["load_ts", "s.A"], case_sensitive=True) == (("s", "A"),)
    assert named_leaves([("a",), ("A",)], ["a"], case_sensitive=False) == (("a",),)


@pytest.mark.parametrize("near", [0.0, 1.0, -1.0, float("nan")])
def test_thresholds_out_of_range_are_refused(near: float) -> None:
    with pytest.raises(UsageError, match="near must be above 0 and below 1"):
        AuditConfig(lake="lake", out="out", near=near)
