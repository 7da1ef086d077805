"""The configuration of an audit: one frozen value, validated when it is built."""

from __future__ import annotations

import dataclasses
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r2d2.errors import UsageError

READERS = ("auto", "files", "engine")
CSV_TYPES = ("infer", "text")
NEAR = 0.8
"""Containment from which a pair is a near-duplicate, unless another one is asked for."""
TIMESTAMPS = ("distinct", "utc")
RECIPES = ("all", "chosen")
MOST_CHAINS = 8


def new_lane_keys() -> tuple[int, int]:
    """Two random 64-bit keys for the lanes of row fingerprints."""
    return secrets.randbits(64), secrets.randbits(64)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a plan counts with.

    Attributes:
        assume_reads: Reads per month of a table whose accesses are unknown.
        horizon_months: Months over which costs count.
        prices: Name of a built-in price book, or path of one; None is the default.
        access: Tables that say how often tables are read: paths, or names in the engine's catalog after `table:`.
        policy: Path of the policy; None has no rules.
        max_latency_seconds: The longest time that a rebuild of any table may take; None is any.
        chains: Deleted tables in a row through which a table may be rebuilt.
    """

    assume_reads: float = 0.0
    horizon_months: float = 12.0
    prices: str | None = None
    access: tuple[str, ...] = ()
    policy: str | None = None
    max_latency_seconds: float | None = None
    chains: int = 0

    def __post_init__(self) -> None:
        _at_least("assume-reads", self.assume_reads, 0)
        _at_least("horizon", self.horizon_months, 1)
        if self.max_latency_seconds is not None:
            _at_least("max-latency", self.max_latency_seconds, 0)
        if not 0 <= self.chains <= MOST_CHAINS:
            raise UsageError(f"chains must be from 0 to {MOST_CHAINS}, got {self.chains}")


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What an audit is asked to do.

    Attributes:
        lake: Local folder or object-store URL; None with a catalog.
        out: Local folder for the results.
        catalog: Name of an Iceberg catalog in pyiceberg's configuration, to be audited instead of a lake.
        schema: Shell patterns for the namespaces of the catalog; none asks for all.
        work: Where stage tables lie; None is `OUT/.work/<run_id>`. Workers must reach it.
        engine: `sail`, `spark` or a Spark Connect URL (`sc://host:port`).
        master: Master URL for `spark`.
        reader: `files` (the kernel reads), `engine` (Spark's readers) or `auto` (the kernel where it is faithful).
        case_sensitive: Compare column names exactly.
        files_as_tables: Every data file is a table of its own.
        timestamps: `distinct`, or `utc` to read dates, zone-less timestamps and instants on the UTC clock.
        csv_delimiter: One character; None is a comma, and a tab for `.tsv`.
        csv_types: `infer` types without loss, or read all as `text`.
        propose_empty: Propose empty tables too.
        no_unions: Do not look for tables that several others hold together.
        near: Look for near-duplicates with at least this containment, above 0 and below 1; None does not.
        ignore_columns: Columns that are left out of every comparison; nothing is proposed because of such a one.
        recipes: Which recipes are run before they count: `all`, or only those that the plan has `chosen`.
        assume_reads: Reads per month of a table whose accesses are unknown.
        horizon_months: Months over which the plan counts costs.
        prices, access, policy, max_latency_seconds, chains: See PlanOptions.
        sketch_rows: Expected number of fingerprints in a table's sketch.
        whole_rows: Where the tables that are to be sketched have at most so many rows together, each times its column
            sets, all of them are compared at once, and no table is read again to be verified.
        kernel_threads: Kernels that run at once; None is the engine's parallelism.
        memory_bytes: Memory of all kernels of one machine together, half of it for DuckDB, half for fingerprints.
        lane_keys: Secret keys of the two lanes of the row fingerprint.
    """

    lake: str | None = None
    out: str
    catalog: str | None = None
    schema: tuple[str, ...] = ()
    work: str | None = None
    engine: str = "sail"
    master: str | None = None
    reader: str = "auto"
    case_sensitive: bool = False
    files_as_tables: bool = False
    timestamps: str = "distinct"
    csv_delimiter: str | None = None
    csv_types: str = "infer"
    propose_empty: bool = False
    no_unions: bool = False
    near: float | None = None
    ignore_columns: tuple[str, ...] = ()
    recipes: str = "all"
    assume_reads: float = 0.0
    horizon_months: float = 12.0
    prices: str | None = None
    access: tuple[str, ...] = ()
    policy: str | None = None
    max_latency_seconds: float | None = None
    chains: int = 0
    sketch_rows: int = 1024
    whole_rows: int = 1 << 24
    kernel_threads: int | None = None
    memory_bytes: int = 4 << 30
    lane_keys: tuple[int, int] = field(default_factory=new_lane_keys, repr=False)

    def __post_init__(self) -> None:
        if (self.lake is None) == (self.catalog is None):
            given = "Missing argument" if self.lake is None else "both given"
            raise UsageError(f"{given}: an audit needs either LAKE or --catalog NAME")
        if self.schema and self.catalog is None:
            raise UsageError("--schema goes with --catalog only")
        _one_of("reader", self.reader, READERS)
        _one_of("csv-types", self.csv_types, CSV_TYPES)
        _one_of("timestamps", self.timestamps, TIMESTAMPS)
        _one_of("recipes", self.recipes, RECIPES)
        if self.engine not in ("sail", "spark") and not self.engine.startswith("sc://"):
            raise UsageError(f"engine must be sail, spark or sc://host:port, got {self.engine!r}")
        if self.master is not None and self.engine != "spark":
            raise UsageError("--master goes with --engine spark only")
        if self.csv_delimiter is not None and (len(self.csv_delimiter) != 1 or self.csv_delimiter in '"\r\n'):
            raise UsageError(f"csv-delimiter must be one character, no quote or line break, got {self.csv_delimiter!r}")
        if self.near is not None and not 0 < self.near < 1:
            raise UsageError(f"near must be above 0 and below 1, got {self.near}")
        _ = self.plan_options  # checks what it holds
        _at_least("sketch-rows", self.sketch_rows, 16)
        _at_least("whole-rows", self.whole_rows, 0)
        _at_least("memory", self.memory_bytes, 256 << 20)
        if self.kernel_threads is not None:
            _at_least("kernel-threads", self.kernel_threads, 1)

    @property
    def plan_options(self) -> PlanOptions:
        """What the audit's plan counts with."""
        return PlanOptions(**{f.name: getattr(self, f.name) for f in dataclasses.fields(PlanOptions)})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> AuditConfig:
        """Build from named options, those that are None left at their defaults.

        Raises:
            UsageError: For an unknown name or a value out of range.
        """
        allowed = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(options) - allowed)
        if unknown:
            raise UsageError(f"unknown option {unknown[0]!r}; known: {', '.join(sorted(allowed))}")
        return cls(**{name: value for name, value in options.items() if value is not None})

    def public(self) -> dict[str, Any]:
        """The configuration for `summary.json`: everything but secrets (keys, and tokens in a Connect URL)."""
        shown = dataclasses.asdict(self)
        del shown["lane_keys"]
        return {**shown, "engine": self.engine.split("/;")[0]}


def default_memory_bytes() -> int:
    """Half of this machine's memory, at least 1 GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1 << 30, int(pages) // 2)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    if value == math.inf:
        raise UsageError(f"{name} must be finite, got {value}")
    if not value >= least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
