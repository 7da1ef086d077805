"""File identity proves a containment only where the rows behind the files do, whatever is deleted from them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2d2.model import FileStamp, Fragment, Harvest
from r2d2.prune.schema_graph import build_schema_graph
from r2d2.scan.identity import identities, proved

SCHEMA = pa.schema([("x", pa.int64()), ("s", pa.struct([("a", pa.string())]))])
FILES = {f"/lake/f{number}": 10 for number in range(4)}
DELETED = {"": set(), "one": {1}, "two": {1, 2}}


def fragment(uri: str, *, deletes: str = "", token: str = "t", partition: str | None = None) -> Fragment:
    stamp = FileStamp(uri=uri, size=FILES.get(uri, 1), token=token)
    rows = 10 - len(DELETED[deletes])
    return Fragment(stamp=stamp, data_uri=uri, rows=rows, deletes=deletes, partition={"p": partition})


def harvest(*fragments: Fragment, schema: pa.Schema = SCHEMA) -> Harvest:
    return Harvest(schema=schema, version="1", fragments=fragments)


def rows_of(table: Harvest) -> Counter[tuple[str, str | None, int]]:
    """The bag of rows: row n of a file of a partition."""
    return Counter(
        (f.stamp.uri, f.partition["p"], row)
        for f in table.fragments
        for row in range(10)
        if row not in DELETED[f.deletes]
    )


def drawn(rng: random.Random) -> Harvest:
    return harvest(
        *(
            fragment(rng.choice(list(FILES)), deletes=rng.choice(list(DELETED)), partition=rng.choice((None, "1")))
            for _ in range(rng.randint(0, 3))
        )
    )


@settings(max_examples=500, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_what_files_prove_holds_for_their_rows(rng: random.Random) -> None:
    child, parent = drawn(rng), drawn(rng)
    verdict = proved(child, parent)
    mine, its = rows_of(child), rows_of(parent)
    if verdict is not None:
        assert mine <= its
        assert verdict is (mine == its)
    names = [Counter((f.stamp.uri, f.partition["p"], f.deletes) for f in t.fragments) for t in (child, parent)]
    if names[0] <= names[1] and (names[0] == names[1]) is (mine.total() == its.total()):
        assert verdict is not None, "shared files alone prove this"


def found(child: Harvest, parent: Harvest) -> list[tuple[int, int, bool]]:
    names = {0: [("x",), ("s", "a")], 1: [("x",), ("s", "a")]}
    graph = build_schema_graph(names, case_sensitive=False)
    pairs = identities(graph, {0: child, 1: parent})
    return [(one.pair.child, one.pair.parent, one.equal) for one in pairs]


ONE, BOTH = harvest(fragment("/lake/f0")), harvest(fragment("/lake/f0"), fragment("/lake/f1"))


def test_a_clone_of_fewer_files_is_contained_and_one_of_the_same_is_equal() -> None:
    assert found(ONE, BOTH) == [(0, 1, False)]
    assert found(BOTH, BOTH) == [(0, 1, True), (1, 0, True)]


@pytest.mark.parametrize(
    "other",
    [
        harvest(fragment("/lake/f0", token="rewritten"), fragment("/lake/f1")),
        harvest(fragment("/lake/f0", partition="1"), fragment("/lake/f1")),
        harvest(fragment("/lake/f0", deletes="one"), fragment("/lake/f1")),
        harvest(*BOTH.fragments, schema=SCHEMA.set(0, pa.field("x", pa.int32()))),
        replace(BOTH, stored_as={("x",): "col-1"}),
        harvest(replace(fragment("/lake/f0"), rows=None), fragment("/lake/f1")),
        harvest(fragment("/elsewhere/f0"), fragment("/lake/f1")),
    ],
    ids=["rewritten", "partition", "deleted", "type", "mapping", "rows unknown", "another path"],
)
def test_a_file_that_may_hold_other_rows_proves_nothing(other: Harvest) -> None:
    assert (0, 1, False) not in found(ONE, other)


def test_equal_column_mappings_prove_as_much_as_none() -> None:
    mapped = [replace(table, stored_as={("x",): "col-1"}) for table in (ONE, BOTH)]
    assert found(*mapped) == [(0, 1, False)]
