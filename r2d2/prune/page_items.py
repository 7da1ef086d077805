"""Page evidence as work items: children whose pages have witnesses, parents whose pages are held against them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from r2d2.model import FileStamp
from r2d2.prune.page_rule import Question, judge
from r2d2.prune.pages import Belief, PagedFile, PagedTable, Witness, file_witnesses, page_witnesses
from r2d2.scan.evidence import unpack

WITNESSES = pa.schema([("table", pa.int32()), ("pages", pa.binary())])
"""What the pages of a child witness, packed by `pack_witnesses`."""

ANSWERS = pa.schema(
    [
        pa.field("item", pa.int32()),
        pa.field("child", pa.int32()),  # DONE in a row that counts bytes
        pa.field("parent", pa.int32()),
        pa.field("column_set", pa.int32()),
        pa.field("reason", pa.string()),  # PageRefutation in text form
        pa.field("bytes", pa.int64()),
    ]
)
"""Refuted pairs, the bytes read of each table, and a row without a table that ends the answer to an item."""

DONE = -1
AS_CHILD = -2
"""Column set of a row that counts what was read once for all items of a child."""

MOST_QUESTIONS = 1000
"""Pairs of one parent in one item, at most."""


@dataclass(frozen=True, kw_only=True)
class ParentWork:
    """A parent and its candidate children."""

    parent: PagedTable
    questions: tuple[Question, ...]

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ParentWork:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        questions = [Question(**{**one, "parent_leaf": tuple(one["parent_leaf"])}) for one in raw["questions"]]
        return cls(parent=_table_of(raw["parent"]), questions=tuple(questions))


def table_to_json(table: PagedTable) -> str:
    """A child as a work item."""
    return json.dumps(asdict(table))


def table_from_json(text: str) -> PagedTable:
    """Inverse of `table_to_json`."""
    return _table_of(json.loads(text))


def _table_of(raw: Mapping[str, Any]) -> PagedTable:
    files = [
        PagedFile(**{**file, "stamp": FileStamp(**file["stamp"]), "partition": tuple(file["partition"])})
        for file in raw["files"]
    ]
    leaves = tuple(tuple(path) for path in raw["leaves"])
    return PagedTable(**{**raw, "leaves": leaves, "kinds": tuple(raw["kinds"]), "files": tuple(files)})


def pack_witnesses(witnesses: Mapping[int, Sequence[Witness]], bytes_read: int) -> bytes:
    """Witnesses by leaf, and the bytes that were read for them, as they travel."""
    ends = {
        leaf: [
            [None if low is None else low.hex(), None if high is None else high.hex(), file] for low, high, file in own
        ]
        for leaf, own in witnesses.items()
    }
    return json.dumps({"bytes": bytes_read, "leaves": ends}).encode()


def unpack_witnesses(packed: bytes) -> tuple[dict[int, list[Witness]], int]:
    """Inverse of `pack_witnesses`."""
    raw = json.loads(packed)
    found: dict[int, list[Witness]] = {
        int(leaf): [
            (None if low is None else bytes.fromhex(low), None if high is None else bytes.fromhex(high), file)
            for low, high, file in own
        ]
        for leaf, own in raw["leaves"].items()
    }
    return found, raw["bytes"]


def witness_batches(texts: Sequence[str], belief: Belief) -> Iterator[pa.RecordBatch]:
    """What the pages of some children witness: rows of WITNESSES."""
    for table in map(table_from_json, texts):
        packed = pack_witnesses(*page_witnesses(table, belief))
        yield pa.RecordBatch.from_pydict({"table": [table.table], "pages": [packed]}, schema=WITNESSES)


def answer_pages(
    item: int, work: Sequence[ParentWork], evidence: Mapping[int, bytes], pages: Mapping[int, bytes], belief: Belief
) -> pa.Table:
    """The pairs of a work item that pages refute: rows of ANSWERS.

    Args:
        item: Its number.
        work: The parents.
        evidence: Packed evidence of all tables of the item.
        pages: Packed witnesses of those children whose pages were looked at.
        belief: What is believed.
    """
    rows: list[dict[str, Any]] = [
        {"child": DONE, "parent": table, "column_set": AS_CHILD, "bytes": unpack_witnesses(packed)[1]}
        for table, packed in sorted(pages.items())
    ]
    for one in work:
        witnesses = [_witnesses(question, one.parent, evidence, pages) for question in one.questions]
        refuted, read = judge(one.parent, evidence[one.parent.table], one.questions, witnesses, belief)
        rows.append({"child": DONE, "parent": one.parent.table, "bytes": read})
        for number, reason in sorted(refuted.items()):
            question = one.questions[number]
            pair = {"child": question.child, "parent": one.parent.table, "column_set": question.column_set}
            rows.append({**pair, "reason": reason.to_json()})
    rows.append({"child": DONE, "parent": DONE})
    nothing = {"item": item, "column_set": DONE, "reason": "", "bytes": 0}
    return pa.Table.from_pylist([{**nothing, **row} for row in rows], schema=ANSWERS)


def _witnesses(
    question: Question, parent: PagedTable, evidence: Mapping[int, bytes], pages: Mapping[int, bytes]
) -> dict[int, list[Witness]]:
    """Witnesses by leaf, where both sides have the same type class: keys of different ones cannot be compared."""
    packed = evidence[question.child]
    found = file_witnesses(packed, len(question.parent_leaf))
    if question.child in pages:
        for leaf, own in unpack_witnesses(pages[question.child])[0].items():
            found[leaf] = [*found.get(leaf, ()), *own]
    kinds = unpack(packed).column("kind").to_pylist()
    return {leaf: own for leaf, own in found.items() if kinds[leaf] == parent.kinds[question.parent_leaf[leaf]]}
