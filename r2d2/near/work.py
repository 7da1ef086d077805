"""Work items of the near-duplicate scan: files of one table, and which samples to take of their rows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from r2d2.model import LeafPath
from r2d2.near.hashing import LeafKey, Terms
from r2d2.scan.items import ScanItem


@dataclass(frozen=True, kw_only=True)
class Sketching:
    """Samples of a table's rows under the columns of one class of children, one per choice of leaves left out.

    Attributes:
        bucket: Of the samples of the first choice; those of the others follow.
        is_child: The table is of that class itself.
        size: Hashes per sample.
        terms: What is summed, and the choices.
    """

    bucket: int
    is_child: bool
    size: int
    terms: Terms


@dataclass(frozen=True, kw_only=True)
class Work:
    """Some files of one table, with all leaves that its samples need as the only column set, and the samples."""

    item: ScanItem
    sketchings: tuple[Sketching, ...]

    def to_json(self) -> str:
        """Text form, for a row of a DataFrame of work items."""
        return json.dumps({"item": self.item.to_json(), "sketchings": [_to_list(one) for one in self.sketchings]})

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        sketchings = tuple(_from_list(one) for one in raw["sketchings"])
        return cls(item=ScanItem.from_json(raw["item"]), sketchings=sketchings)


def _to_list(one: Sketching) -> list[object]:
    terms = one.terms
    keys = [[key.mask, key.factor] for key in terms.keys]
    return [one.bucket, one.is_child, one.size, terms.paths, terms.structs, keys, terms.lacking]


def _from_list(raw: list[object]) -> Sketching:
    bucket, is_child, size, paths, structs, keys, lacking = raw
    terms = Terms(
        paths=_paths(paths),
        structs=_paths(structs),
        keys=tuple(LeafKey(mask=mask, factor=factor) for mask, factor in keys),  # type: ignore[attr-defined]
        lacking=tuple(map(tuple, lacking)),  # type: ignore[call-overload]
    )
    return Sketching(bucket=int(str(bucket)), is_child=bool(is_child), size=int(str(size)), terms=terms)


def _paths(raw: object) -> tuple[LeafPath, ...]:
    return tuple(map(tuple, raw))  # type: ignore[call-overload]
