"""What it costs to keep a table, and to do without it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from r2d2.errors import UsageError
from r2d2.retention.prices import UNIT_BYTES, PriceBook

SECONDS_PER_HOUR = 3600


def storage_cost_per_month(stored_bytes: int, prices: PriceBook) -> float:
    """Price of keeping bytes for a month, in the book's currency."""
    return stored_bytes / UNIT_BYTES[prices.storage.unit] * prices.storage.price_per_month


def rebuild_seconds(read_bytes: int, prices: PriceBook) -> float:
    """Time until a table is back: start-up, then the parents' bytes at the configured throughput."""
    return prices.compute.start_up_seconds + read_bytes / prices.compute.throughput_bytes_per_second


def rebuild_cost(read_bytes: int, written_bytes: int, prices: PriceBook) -> float:
    """Price of one rebuild, in the book's currency: reading the parents, computing, writing the table.

    Args:
        read_bytes: Bytes of the parents that the recipe reads.
        written_bytes: Bytes of the table's snapshot; a rebuild brings no history back.
    """
    transfer = prices.transfer
    moved = read_bytes * transfer.read_price + written_bytes * transfer.write_price
    compute = rebuild_seconds(read_bytes, prices) / SECONDS_PER_HOUR * prices.compute.price_per_hour
    return moved / UNIT_BYTES[transfer.unit] + compute


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Costs over a plan's horizon.

    Attributes:
        reads_per_month: How often a table is read, at least 0; each read of a deleted table is one rebuild.
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

    def cost_kept(self, stored_bytes: int) -> float:
        """Cost of keeping a table over the horizon.

        Args:
            stored_bytes: Its snapshot and its history; both go when it is deleted.
        """
        return storage_cost_per_month(stored_bytes, self.prices) * self.horizon_months

    def cost_deleted(self, read_bytes: int, written_bytes: int) -> float:
        """Cost of rebuilding a deleted table at each read over the horizon."""
        return self.reads_per_month * rebuild_cost(read_bytes, written_bytes, self.prices) * self.horizon_months
