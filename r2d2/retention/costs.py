"""What it costs to keep a table, and to do without it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from r2d2.errors import UsageError
from r2d2.retention.prices import UNIT_BYTES, PriceBook

SECONDS_PER_HOUR = 3600


def storage_cost_per_month(stored_bytes: int, prices: PriceBook, tier: str | None = None) -> float:
    """Price of keeping bytes for a month, in the book's currency.

    Args:
        tier: A tier of the book; None is its default.
    """
    price = prices.storage.price_per_month if tier is None else prices.tiers[tier].price_per_month
    return stored_bytes / UNIT_BYTES[prices.storage.unit] * price


def maintenance_cost_per_month(stored_bytes: int, prices: PriceBook) -> float:
    """Price of the scans that run over a kept table in a month, in the book's currency."""
    maintenance = prices.maintenance
    return stored_bytes / UNIT_BYTES[maintenance.unit] * maintenance.scan_price * maintenance.scans_per_month


def rebuild_seconds(read_bytes: int, prices: PriceBook, steps: int = 1) -> float:
    """Time until a table is back: for each step the start-up, and the bytes of all at the configured throughput."""
    return prices.compute.start_up_seconds * steps + read_bytes / prices.compute.throughput_bytes_per_second


def rebuild_cost(
    read_bytes: int, written_bytes: int, prices: PriceBook, steps: int = 1, tiers: Iterable[str | None] = ()
) -> float:
    """Price of one rebuild, in the book's currency: reading the parents, computing, writing the table.

    Args:
        read_bytes: Bytes of the parents that the recipe reads.
        written_bytes: Bytes of the table's snapshot, and of tables rebuilt on the way; history does not come back.
        steps: Recipes that run one after another.
        tiers: Of the parents; all bytes are counted at the dearest of their prices.
    """
    transfer = prices.transfer
    moved = written_bytes * transfer.write_price / UNIT_BYTES[transfer.unit]
    moved += read_bytes * max(_read_price(tier, prices) for tier in (*tiers, None))
    return moved + rebuild_seconds(read_bytes, prices, steps) / SECONDS_PER_HOUR * prices.compute.price_per_hour


def _read_price(tier: str | None, prices: PriceBook) -> float:
    """Per byte."""
    if tier is None:
        return prices.transfer.read_price / UNIT_BYTES[prices.transfer.unit]
    return prices.tiers[tier].read_price / UNIT_BYTES[prices.storage.unit]


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Costs over a plan's horizon.

    Attributes:
        reads_per_month: How often a table is read of which nothing else is known, at least 0; each read of a deleted
            table is one rebuild.
        horizon_months: Months that are counted, > 0.
    """

    prices: PriceBook
    reads_per_month: float
    horizon_months: float

    def __post_init__(self) -> None:
        if not 0 <= self.reads_per_month < math.inf:
            raise UsageError(f"reads per month must be a number of at least 0, got {self.reads_per_month}")
        if not 0 < self.horizon_months < math.inf:
            raise UsageError(f"the horizon must be a number of months above 0, got {self.horizon_months}")

    def cost_kept(self, stored_bytes: int, *, history_bytes: int = 0, tier: str | None = None) -> float:
        """Cost of keeping a table over the horizon.

        Args:
            stored_bytes: Its snapshot, which maintenance scans.
            history_bytes: What is kept for older versions; it goes with the table.
            tier: The tier it lies in; None is the book's default.
        """
        stored = storage_cost_per_month(stored_bytes + history_bytes, self.prices, tier)
        return (stored + maintenance_cost_per_month(stored_bytes, self.prices)) * self.horizon_months

    def cost_deleted(
        self,
        read_bytes: int,
        written_bytes: int,
        *,
        reads_per_month: float | None = None,
        steps: int = 1,
        recipe_bytes: int = 0,
        tiers: Iterable[str | None] = (),
    ) -> float:
        """Cost of a deleted table over the horizon: a rebuild at each read, and what its recipe needs kept.

        Args:
            read_bytes, written_bytes, steps, tiers: As for `rebuild_cost`.
            reads_per_month: Of this table; None is the model's.
            recipe_bytes: Bytes of a key list.
        """
        reads = self.reads_per_month if reads_per_month is None else reads_per_month
        once = rebuild_cost(read_bytes, written_bytes, self.prices, steps, tiers)
        return (reads * once + storage_cost_per_month(recipe_bytes, self.prices)) * self.horizon_months
