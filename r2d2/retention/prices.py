"""Price books: data files that say what storage, transfer and compute cost, where the prices come from, and of when."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from r2d2.errors import UsageError

UNIT_BYTES = {"GiB": 1 << 30, "GB": 10**9}
"""Bytes of the units that a price may be per."""


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
class PriceBook:
    """All prices of a plan, in one currency.

    Attributes:
        name: What the book is about, for people.
        currency: Code of three capital letters.
        date: When the prices held.
    """

    name: str
    currency: str
    date: datetime.date
    storage: StoragePrice
    transfer: TransferPrice
    compute: ComputePrice


def load_price_book(path: str | None = None) -> PriceBook:
    """Read and check a price book.

    Args:
        path: A local TOML file; None is the default book, AWS S3 Standard in us-east-1.

    Raises:
        UsageError: If the file cannot be read, is no TOML, has an unknown key, lacks one, or has a value out of range.
    """
    book = "the default price book" if path is None else f"price book {path!r}"
    keys = _parse(_read(path, book), book)
    try:
        _check_keys(keys, {**_HEAD, **dict.fromkeys(_SECTIONS, _table)}, "")
        head = {key: check(key, keys[key]) for key, check in _HEAD.items()}
        sections = {name: _section(name, keys[name]) for name in _SECTIONS}
    except UsageError as exc:
        raise UsageError(f"{book}: {exc}") from exc
    return PriceBook(
        **head,
        storage=StoragePrice(**sections["storage"]),
        transfer=TransferPrice(**sections["transfer"]),
        compute=ComputePrice(**sections["compute"]),
    )


def _read(path: str | None, book: str) -> bytes:
    if path is None:
        return resources.files("r2d2.retention").joinpath("price_book.toml").read_bytes()
    try:
        file = Path(path)
        if file.exists() and not file.is_file():  # a pipe would block for ever
            raise UsageError(f"{book} is not a plain file")
        return file.read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(f"{book} cannot be read ({type(exc).__name__}); give the path of a TOML file") from exc


def _parse(content: bytes, book: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as exc:
        raise UsageError(f"{book} is not UTF-8 text") from exc
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        raise UsageError(f"{book} is not valid TOML: {exc}") from exc


def _section(name: str, keys: Any) -> dict[str, Any]:
    checks = _SECTIONS[name]
    _check_keys(_table(name, keys), checks, f"{name}.")
    return {key: check(f"{name}.{key}", keys[key]) for key, check in checks.items()}


def _check_keys(keys: Mapping[str, Any], allowed: Mapping[str, Any], prefix: str) -> None:
    unknown = sorted(set(keys) - set(allowed))
    missing = [key for key in allowed if key not in keys]
    if unknown:
        known = ", ".join(prefix + key for key in allowed)
        raise UsageError(f"unknown key {_shown(prefix, unknown)}; known: {known}")
    if missing:
        raise UsageError(f"missing key {_shown(prefix, missing)}")


def _shown(prefix: str, keys: list[str]) -> str:
    return ", ".join(repr(prefix + key) for key in keys)


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{key} must be a table of keys, got {type(value).__name__}")
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} must be a text that is not empty, got {value!r}")
    return value


def _currency(key: str, value: Any) -> str:
    if not re.fullmatch("[A-Z]{3}", _text(key, value)):
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


def _amount(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number, got {value!r}")
    if not 0 <= value <= _LARGEST:
        raise UsageError(f"{key} must be at least 0 and at most {_LARGEST:g}, got {value!r}")
    return float(value)


def _speed(key: str, value: Any) -> float:
    if _amount(key, value) < 1:
        raise UsageError(f"{key} must be at least 1, got {value!r}")
    return float(value)


_LARGEST = 1e15
_Check = Callable[[str, Any], Any]
_HEAD: dict[str, _Check] = {"name": _text, "currency": _currency, "date": _date}
_SECTIONS: dict[str, dict[str, _Check]] = {
    "storage": {"price_per_month": _amount, "unit": _unit, "source": _text},
    "transfer": {
        "read_price": _amount,
        "write_price": _amount,
        "unit": _unit,
        "source": _text,
    },
    "compute": {
        "price_per_hour": _amount,
        "throughput_bytes_per_second": _speed,
        "start_up_seconds": _amount,
        "source": _text,
    },
}
