"""A case: two tables, whether each is in the other, and what their metadata must not or must be able to say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.integration.adversarial.writers import Made


class Holds(StrEnum):
    """How one table is contained in another."""

    NONE = "none"
    SET = "set"
    BAG = "bag"


class Metadata(StrEnum):
    """What metadata may say about the containment of the child in the parent."""

    KEEP = "keep"
    REFUTE = "refute"
    ANY = "any"


NONE, SET, BAG = Holds
KEEP, REFUTE, ANY = Metadata


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trap with the tables that fall into it.

    Attributes:
        name: Folder of the lake, and start of the names of all columns, so that no other case has the same.
        covers: Traps (`T1`) and numbered examples (`S1`) of the reference that it stands for.
        child, parent: The two tables.
        there, back: How the child is contained in the parent, and the parent in the child.
        metadata: `keep`: metadata alone must not refute the child in the parent; `refute`: it must; `any`: it may.
        not_read: For `child`, `parent`, a pattern of the reason why it is unsupported.
        spark_only: The same for tables that Apache Spark reads all the same.
    """

    name: str
    covers: tuple[str, ...] = ()
    child: Made
    parent: Made
    there: Holds = BAG
    back: Holds = NONE
    metadata: Metadata = KEEP
    not_read: Mapping[str, str] = field(default_factory=dict)
    spark_only: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"{self.name!r} is no plain name")
        if self.there is not NONE and self.metadata is not KEEP:
            raise ValueError(f"{self.name}: metadata must keep what is contained")

    def table(self, side: str) -> str:
        """Id of the `child` or the `parent` in the lake."""
        return f"{self.name}/{side}"
