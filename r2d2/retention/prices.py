"""Price books: data files that say what storage, transfer and compute cost, where the prices come from, and of when."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from r2d2.errors import UsageError
from r2d2.retention.documents import (
    Check,
    as_amount,
    as_table,
    as_text,
    check_keys,
    parse_toml,
    read_document,
)

UNIT_BYTES = {"GiB": 1 << 30, "GB": 10**9}
"""Bytes of the units that a price may be per."""

BUILT_IN = ("aws-s3", "azure-adls-gen2", "google-cloud-storage")
"""Books that come with R2D2; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class StoragePrice:
    """Price of keeping bytes.

    Attributes:
        price_per_month: Currency per unit and month.
        unit: `GiB` (2^30 bytes) or `GB` (10^9 bytes); the provider's bill decides, not its wording.
        source: Where the price was read.
    """

    price_per_month: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class TierPrice:
    """Another storage class of the book: its prices, per the unit of `storage`, and where they were read."""

    price_per_month: float
    read_price: float
    source: str


@dataclass(frozen=True, kw_only=True)
class TransferPrice:
    """Price of reading and writing bytes, in currency per unit."""

    read_price: float
    write_price: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ComputePrice:
    """Price and speed of the machine that rebuilds a table.

    Attributes:
        price_per_hour: Currency per hour, start-up included in the hours.
        throughput_bytes_per_second: Stored bytes that a rebuild reads per second, > 0.
        start_up_seconds: Time before the first byte is read.
        source: Where the price was read.
    """

    price_per_hour: float
    throughput_bytes_per_second: float
    start_up_seconds: float
    source: str


@dataclass(frozen=True, kw_only=True)
class MaintenancePrice:
    """Price of what runs over every kept table, such as compliance scans.

    Attributes:
        scan_price: Currency per unit scanned.
        scans_per_month: How often each table is scanned.
    """

    scan_price: float
    scans_per_month: float
    unit: str
    source: str


NO_MAINTENANCE = MaintenancePrice(scan_price=0.0, scans_per_month=0.0, unit="GiB", source="none")


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """All prices of a plan, in one currency.

    Attributes:
        name: What the book is about, for people.
        currency: Code of three capital letters.
        date: When the prices held.
        storage: Of tables that name no tier.
        tiers: Other storage classes by name.
    """

    name: str
    currency: str
    date: datetime.date
    storage: StoragePrice
    transfer: TransferPrice
    compute: ComputePrice
    maintenance: MaintenancePrice = NO_MAINTENANCE
    tiers: Mapping[str, TierPrice] = field(default_factory=dict)

    def in_tier(self, tier: str) -> PriceBook:
        """The book for a lake whose tables lie in one of the tiers.

        Raises:
            UsageError: If there is no such tier.
        """
        if tier not in self.tiers:
            raise UsageError(f"{self.name} has no tier {tier!r}; known: {', '.join(self.tiers) or 'none'}")
        prices = self.tiers[tier]
        storage = dataclasses.replace(self.storage, price_per_month=prices.price_per_month, source=prices.source)
        per_unit = UNIT_BYTES[self.transfer.unit] / UNIT_BYTES[self.storage.unit]
        transfer = dataclasses.replace(self.transfer, read_price=prices.read_price * per_unit)
        return dataclasses.replace(self, name=f"{self.name}, {tier}", storage=storage, transfer=transfer)


def is_built_in(name: str) -> bool:
    """Whether `load_price_book` takes a name for a built-in book, perhaps with a tier, and not for a file."""
    return name.partition("/")[0] in BUILT_IN


def load_price_book(name: str | None = None) -> PriceBook:
    """Read and check a price book.

    Args:
        name: A built-in book, `NAME` or `NAME/TIER`, or the path of a TOML or YAML file; None is the default book,
            AWS S3 Standard in us-east-1. A file may extend a built-in book: `extends = "aws-s3"`.

    Raises:
        UsageError: If the file cannot be read or parsed, has an unknown key, lacks one, or has a value out of range.
    """
    chosen = BUILT_IN[0] if name is None else name
    built_in, _, tier = chosen.partition("/")
    if is_built_in(chosen):
        book = _checked(_built_in_keys(built_in), f"price book {built_in!r}")
        return book.in_tier(tier) if tier else book
    if not os.path.exists(chosen) and re.fullmatch(r"[\w-]+(/[\w-]+)?", chosen):
        raise UsageError(f"there is no price book or file {chosen!r}; built-in books: {', '.join(BUILT_IN)}")
    what = f"price book {chosen!r}"
    keys = read_document(chosen, what)
    if "extends" in keys:
        keys = _extended(keys, chosen, what)
    return _checked(keys, what)


def _built_in_keys(name: str) -> dict[str, Any]:
    content = resources.files("r2d2.retention").joinpath("books", f"{name}.toml").read_bytes()
    return parse_toml(content, f"price book {name!r}")


def _extended(keys: dict[str, Any], path: str, what: str) -> dict[str, Any]:
    """A built-in book with the keys of a file in their places; changes without a source have the file for one."""
    base = keys["extends"]
    if base not in BUILT_IN:
        raise UsageError(f"{what}: extends must be one of {', '.join(BUILT_IN)}, got {base!r}")
    merged = _built_in_keys(base)
    try:
        for name, value in keys.items():
            if name == "tiers":
                tiers = as_table("tiers", value)
                merged["tiers"] = merged["tiers"] | {t: _merged(merged["tiers"], t, tiers[t], path) for t in tiers}
            elif name in _SECTIONS:
                merged[name] = _merged(merged, name, value, path)
            elif name != "extends":
                merged[name] = value
    except UsageError as exc:
        raise UsageError(f"{what}: {exc}") from exc
    return merged


def _merged(book: Mapping[str, Any], name: str, value: Any, path: str) -> dict[str, Any]:
    return {**book.get(name, {}), "source": f"set in {os.path.basename(path)}", **as_table(name, value)}


def _checked(keys: dict[str, Any], what: str) -> PriceBook:
    try:
        optional = [name for name in ("maintenance", "tiers") if name not in keys]
        check_keys({**keys, **dict.fromkeys(optional)}, {**_HEAD, **_SECTIONS, "tiers": as_table})
        head = {key: check(key, keys[key]) for key, check in _HEAD.items()}
        sections = {name: _section(name, keys[name], checks) for name, checks in _SECTIONS.items() if name in keys}
        tiers = {
            tier: TierPrice(**_section(f"tiers.{tier}", value, _TIER))
            for tier, value in as_table("tiers", keys.get("tiers", {})).items()
        }
    except UsageError as exc:
        raise UsageError(f"{what}: {exc}") from exc
    return PriceBook(
        **head,
        storage=StoragePrice(**sections["storage"]),
        transfer=TransferPrice(**sections["transfer"]),
        compute=ComputePrice(**sections["compute"]),
        maintenance=MaintenancePrice(**sections["maintenance"]) if "maintenance" in sections else NO_MAINTENANCE,
        tiers=tiers,
    )


def _section(name: str, keys: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    check_keys(as_table(name, keys), checks, f"{name}.")
    return {key: check(f"{name}.{key}", keys[key]) for key, check in checks.items()}


def _currency(key: str, value: Any) -> str:
    if not re.fullmatch("[A-Z]{3}", as_text(key, value)):
        raise UsageError(f"{key} must be a code of three capital letters such as USD, got {value!r}")
    return str(value)


def _date(key: str, value: Any) -> datetime.date:
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise UsageError(f"{key} must be a date without quotes such as 2026-01-31, got {value!r}")
    return value


def _unit(key: str, value: Any) -> str:
    if not isinstance(value, str) or value not in UNIT_BYTES:
        raise UsageError(f"{key} must be GiB (2^30 bytes) or GB (10^9 bytes), got {value!r}")
    return value


def _speed(key: str, value: Any) -> float:
    if as_amount(key, value) < 1:
        raise UsageError(f"{key} must be at least 1, got {value!r}")
    return float(value)


_HEAD: dict[str, Check] = {"name": as_text, "currency": _currency, "date": _date}
_SECTIONS: dict[str, dict[str, Check]] = {
    "storage": {"price_per_month": as_amount, "unit": _unit, "source": as_text},
    "transfer": {"read_price": as_amount, "write_price": as_amount, "unit": _unit, "source": as_text},
    "compute": {
        "price_per_hour": as_amount,
        "throughput_bytes_per_second": _speed,
        "start_up_seconds": as_amount,
        "source": as_text,
    },
    "maintenance": {"scan_price": as_amount, "scans_per_month": as_amount, "unit": _unit, "source": as_text},
}
_TIER: dict[str, Check] = {"price_per_month": as_amount, "read_price": as_amount, "source": as_text}
