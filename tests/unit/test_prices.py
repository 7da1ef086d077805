"""Price books and the costs that follow from them."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import pytest

from r2d2.errors import UsageError
from r2d2.retention.costs import CostModel, rebuild_cost, rebuild_seconds, storage_cost_per_month
from r2d2.retention.prices import load_price_book

BOOK = """
name = "a book"
currency = "EUR"
date = 2026-01-31
[storage]
price_per_month = 0.02
unit = "GB"
source = "list"
[transfer]
read_price = 0.01
write_price = 0.05
unit = "GiB"
source = "list"
[compute]
price_per_hour = 3.6
throughput_bytes_per_second = 1000
start_up_seconds = 20
source = "list"
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "book.toml"
    path.write_text(text)
    return str(path)


def test_the_default_book_says_what_the_documentation_says() -> None:
    book = load_price_book()
    assert (book.currency, book.storage.unit, book.storage.price_per_month) == ("USD", "GiB", 0.023)
    assert (book.transfer.read_price, book.transfer.write_price) == (0, 0)
    assert (book.compute.price_per_hour, book.compute.start_up_seconds) == (0.1632, 30)
    assert book.compute.throughput_bytes_per_second == 100e6
    assert all(part.source.startswith("https://aws.amazon.com/") for part in (book.storage, book.compute))


def test_a_book_is_read_as_written(tmp_path: Path) -> None:
    book = load_price_book(write(tmp_path, BOOK))
    assert (book.name, book.currency, book.date) == ("a book", "EUR", datetime.date(2026, 1, 31))
    assert dataclasses.astuple(book.storage) == (0.02, "GB", "list")
    assert dataclasses.astuple(book.transfer) == (0.01, 0.05, "GiB", "list")
    assert dataclasses.astuple(book.compute) == (3.6, 1000.0, 20.0, "list")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "a book"', 'name = "a book"\nnotes = 1', "unknown key 'notes'; known: name, currency, date"),
        ('unit = "GB"', 'unit = "GB"\ntier = 1', "unknown key 'storage.tier'; known: storage.price_per_month"),
        ('currency = "EUR"', "", "missing key 'currency'"),
        ("start_up_seconds = 20", "", "missing key 'compute.start_up_seconds'"),
        ("price_per_month = 0.02", "price_per_month = -0.02", "storage.price_per_month must be at least 0"),
        ("read_price = 0.01", "read_price = nan", "transfer.read_price must be at least 0"),
        ("read_price = 0.01", "read_price = inf", "transfer.read_price must be at least 0"),
        ("read_price = 0.01", 'read_price = "0.01"', "transfer.read_price must be a number"),
        ("read_price = 0.01", "read_price = true", "transfer.read_price must be a number"),
        ("second = 1000", "second = 0", "throughput_bytes_per_second must be at least 1"),
        ('unit = "GB"', 'unit = "TB"', "storage.unit must be GiB .* or GB"),
        ('currency = "EUR"', 'currency = "euro"', "currency must be a code of three capital letters"),
        ("2026-01-31", '"2026-01-31"', "date must be a date without quotes"),
        ("2026-01-31", "2026-01-31T00:00:00", "date must be a date without quotes"),
        ('source = "list"', 'source = " "', "storage.source must be a text"),
        ("[storage]", "[storage", "not valid TOML"),
    ],
)
def test_a_wrong_book_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in BOOK
    with pytest.raises(UsageError, match=message):
        load_price_book(write(tmp_path, BOOK.replace(old, new, 1)))


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    text = BOOK[: BOOK.index("[storage]")] + "storage = 1\n" + BOOK[BOOK.index("[transfer]") :]
    with pytest.raises(UsageError, match="storage must be a table of keys, got int"):
        load_price_book(write(tmp_path, text))


def test_a_book_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read \\(FileNotFoundError\\)"):
        load_price_book(str(tmp_path / "missing.toml"))
    with pytest.raises(UsageError, match="not a plain file"):
        load_price_book(str(tmp_path))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(UsageError, match="not UTF-8"):
        load_price_book(str(tmp_path / "latin.toml"))


def test_gib_and_gb_prices_of_the_documentation() -> None:
    """1 TB is 931.32 GiB: 21.42 USD a month where the price is per GiB, 23.00 where it is per GB."""
    book = load_price_book()
    per_gb = dataclasses.replace(book, storage=dataclasses.replace(book.storage, unit="GB"))
    assert storage_cost_per_month(10**12, book) == pytest.approx(21.42, abs=0.005)
    assert storage_cost_per_month(10**12, per_gb) == pytest.approx(23.00, abs=1e-9)
    assert storage_cost_per_month(100 << 30, book) == pytest.approx(2.30, abs=1e-9)


def test_horizon_and_rebuild_of_the_documentation() -> None:
    """100 GiB for 12 months cost 27.60 USD; a rebuild that reads 12 GB takes 150 s and costs 0.0068 USD."""
    model = CostModel(prices=load_price_book(), reads_per_month=10, horizon_months=12)
    assert model.cost_kept(100 << 30) == pytest.approx(27.60, abs=1e-9)
    assert rebuild_seconds(12 * 10**9, model.prices) == 150
    assert rebuild_cost(12 * 10**9, 0, model.prices) == pytest.approx(0.0068, abs=1e-9)
    assert model.cost_deleted(12 * 10**9, 0) == pytest.approx(0.816, abs=1e-9)


def test_transfer_is_paid_for_what_is_read_and_what_is_written(tmp_path: Path) -> None:
    book = load_price_book(write(tmp_path, BOOK))
    compute = (20 + 2 * 2**30 / 1000) / 3600 * 3.6
    assert rebuild_cost(2 << 30, 3 << 30, book) == pytest.approx(2 * 0.01 + 3 * 0.05 + compute, rel=1e-12)


@pytest.mark.parametrize(
    ("reads", "horizon", "message"),
    [
        (-1, 12, "reads per month"),
        (float("nan"), 12, "reads per month"),
        (0, 0, "horizon"),
        (0, float("inf"), "horizon"),
    ],
)
def test_reads_and_horizon_out_of_range_are_refused(reads: float, horizon: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CostModel(prices=load_price_book(), reads_per_month=reads, horizon_months=horizon)
