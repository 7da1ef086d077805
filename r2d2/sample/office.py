"""Tables of the office: finance, support, sensors, prospects and partners, with their copies and extracts."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.sample import company
from r2d2.sample.layout import DUCKDB, RUST, CsvFile, DeltaTable, Layout, ParquetFile, ParquetFolder
from r2d2.sample.plan import SampleLake
from r2d2.sample.reshape import one_changed, renamed, repeated, shuffled, with_column, with_types


def add_payments(lake: SampleLake) -> None:
    """Payments, a Delta table with history, and what was taken out of it."""
    payments = company.payments()
    refunds = payments.filter(payments["is_refund"])
    first_quarter = payments.filter(pc.less(payments["paid_on"], pa.scalar(datetime.date(2024, 4, 1))))
    lake.add("finance/payments", payments, DeltaTable(rewritten=2))
    lake.add("exports/payments_full", payments, ParquetFolder(files=4, lean=True), equal="finance/payments")
    lake.add("exports/payments_q1.csv.zst", first_quarter, CsvFile(), filtered="finance/payments")
    lake.add("finance/refunds.parquet", refunds, ParquetFile(), filtered="finance/payments")
    lake.add(
        "finance/refunds_twice.parquet",
        repeated(refunds, refunds.num_rows),
        ParquetFile(),
        repeated=("finance/refunds.parquet", "finance/payments", "exports/payments_full"),
    )
    lake.add(
        "finance/payment_amounts",
        with_types(
            payments.select(["payment_id", "amount"]), {"payment_id": pa.float64(), "amount": pa.decimal128(20, 6)}
        ),
        DeltaTable(commits=2),
        projection="finance/payments",
    )
    lake.add(
        "finance/payments_edited.parquet", one_changed(payments, "currency", "GBP"), DUCKDB,
        near=("finance/payments", "exports/payments_full"),
    )  # fmt: skip


def add_ledger(lake: SampleLake) -> None:
    """A ledger that only grows, and what it was at the end of each month."""
    ledger = company.ledger()
    lake.add("finance/ledger", ledger, DeltaTable(commits=6))
    layouts: tuple[tuple[str, Layout], ...] = (
        ("parquet", ParquetFile()), ("csv", CsvFile()), ("parquet", DUCKDB), ("tsv.gz", CsvFile()), ("parquet", RUST)
    )  # fmt: skip
    later: list[str] = ["finance/ledger"]
    for month, (ending, layout) in reversed(list(enumerate(layouts, start=1))):
        name = f"finance/ledger_2024_{month:02d}.{ending}"
        rows = ledger.filter(pc.less_equal(pc.month(ledger["booked_on"]), month))
        lake.add(name, rows, layout, snapshot=later)
        later.append(name)


def add_support(lake: SampleLake) -> None:
    """Tickets, holidays and codes: empty text, dates at midnight, names that differ by case."""
    tickets = company.tickets()
    subject = tickets["subject"]
    blank = pc.if_else(pc.equal(subject, ""), pa.scalar(None, pa.string()), subject)
    lake.add("support/tickets", tickets, DeltaTable(rewritten=1))
    lake.add("support/tickets_export.csv", tickets, CsvFile(), equal="support/tickets")
    lake.add("support/tickets_no_blanks.csv", with_column(tickets, "subject", blank), CsvFile(), trap="support/tickets")
    lake.add(
        "support/tickets_binary.parquet", with_types(tickets, {"subject": pa.binary()}), ParquetFile(),
        trap="support/tickets",
    )  # fmt: skip
    holidays = company.holidays()
    lake.add("support/holidays.parquet", holidays, ParquetFile())
    lake.add(
        "support/holidays_at_midnight.parquet",
        with_types(holidays, {"day": pa.timestamp("us")}),
        DUCKDB,
        equal="support/holidays.parquet",
    )
    codes = pa.table({"code": [1, 2, 3, 4], "Code": ["a", "b", "c", "d"]})
    lake.add("support/codes.parquet", codes, ParquetFile())
    lake.add("support/code_numbers.parquet", codes.select(["code"]), ParquetFile(), projection="support/codes.parquet")
    upper = renamed(codes.select(["code"]), str.upper)
    lake.add("support/code_upper.parquet", upper, ParquetFile(), trap="support/codes.parquet")


def add_sensors(lake: SampleLake) -> None:
    """Sensor values: NaN, negative zero, and numbers that other types do not hold."""
    readings = company.readings()
    celsius = readings["celsius"]
    unsigned = pc.if_else(pc.equal(celsius, 0.0), pa.scalar(0.0), celsius)
    no_nan = pc.if_else(pc.is_nan(celsius), pa.scalar(None, pa.float64()), celsius)
    lake.add("iot/readings", readings, DeltaTable(partition_by=("sensor",)))
    lake.add(
        "iot/readings_clean_zero.parquet", with_column(readings, "celsius", unsigned), DUCKDB, equal="iot/readings"
    )
    lake.add(
        "iot/readings_no_nan.parquet", with_column(readings, "celsius", no_nan), ParquetFile(), trap="iot/readings"
    )
    lake.add(
        "iot/readings_float32.parquet", with_types(readings, {"celsius": pa.float32()}), ParquetFile(),
        trap="iot/readings",
    )  # fmt: skip
    rounded = pc.cast(readings["serial"], pa.float64(), safe=False)
    lake.add(
        "iot/readings_serial_as_float.parquet", with_column(readings, "serial", rounded), ParquetFile(),
        trap="iot/readings",
    )  # fmt: skip


def add_unions(lake: SampleLake) -> None:
    """Tables that only two others together cover."""
    leads = company.leads()
    web, fairs = leads.slice(0, 700), leads.slice(700)
    mixed = shuffled(pa.concat_tables([web.slice(300), fairs.slice(0, 200)]), 37)
    lake.add("marketing/leads_web.parquet", web, ParquetFile())
    lake.add("marketing/leads_fairs", fairs, ParquetFolder(files=2))
    lake.add(
        "marketing/leads_called.csv", mixed, CsvFile(), union=("marketing/leads_web.parquet", "marketing/leads_fairs")
    )
    north = pa.table({"bin": pa.array(range(400), pa.int64()), "pieces": pa.array([n * 7 % 50 for n in range(400)])})
    south = pa.table({"bin": pa.array(range(400, 900), pa.int64()), "pieces": pa.array([n % 11 for n in range(500)])})
    lake.add("sales/stock_north.parquet", north, DUCKDB)
    lake.add("sales/stock_south.parquet", south, RUST)
    counted = pa.concat_tables([north.slice(100), south.slice(0, 300)])
    lake.add(
        "sales/stock_counted", counted, DeltaTable(), union=("sales/stock_north.parquet", "sales/stock_south.parquet")
    )


def add_partners(lake: SampleLake) -> None:
    """Vouchers, one copy of them under a hostile name."""
    promotions = company.promotions()
    hostile = 'partners/50%20off <script>alert("x")<script> it\'s.parquet'
    lake.add("partners/promotions", promotions, DeltaTable(commits=3))
    lake.add(hostile, shuffled(promotions, 38), ParquetFile(), equal="partners/promotions")
    lake.add(
        "partners/vouchers & dates.csv", promotions.select(["voucher", "valid_from"]), CsvFile(),
        projection=("partners/promotions", hostile),
    )  # fmt: skip
