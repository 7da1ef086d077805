"""The tables of the sample lake, each with what it was made to show."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.sample import company
from r2d2.sample.draw import Draw
from r2d2.sample.layout import CsvFile, DeltaTable, HiveFolder, JsonFile, Layout, ParquetFile, ParquetFolder

VERDICTS = {
    "equal": "equal",
    "projection": "bag",
    "filtered": "bag",
    "snapshot": "bag",
    "empty": "bag",
    "repeated": "set",
    "union": "none",
    "near": "none",
    "trap": "none",
}
"""What each kind of plant means: `equal`, contained as a `bag`, only as a `set`, or `none`."""

_DUCKDB, _RUST = ParquetFile(writer="duckdb"), ParquetFile(writer="delta-rs")


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """A table of the sample lake.

    Attributes:
        id: Path relative to the lake.
        rows: What a faithful reader sees.
        layout: How it is stored.
    """

    id: str
    rows: pa.Table
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A relation that a table was made to have; `kind` is a key of VERDICTS."""

    child: str
    parent: str
    kind: str

    @property
    def verdict(self) -> str:
        """`equal`, `bag`, `set` or `none`."""
        return VERDICTS[self.kind]


@dataclass(frozen=True, kw_only=True)
class SampleLake:
    """All tables and plants, in the order in which they are made."""

    tables: list[SampleTable] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)

    def add(self, name: str, rows: pa.Table, layout: Layout, **plants: str | Sequence[str]) -> None:
        """Add a table.

        Args:
            name: Its id.
            rows: Its rows.
            layout: How it is stored.
            plants: By kind, the table or tables that are its parents in that way.
        """
        self.tables.append(SampleTable(id=name, rows=rows.combine_chunks(), layout=layout))
        for kind, parents in plants.items():
            for parent in [parents] if isinstance(parents, str) else parents:
                self.plants.append(Plant(child=name, parent=parent, kind=kind))


def sample_lake() -> SampleLake:
    """Generate all tables; the same on every call."""
    lake = SampleLake()
    for department in (_sales, _customers, _products, _web, _payments, _ledger, _support, _sensors, _unions, _partners):
        department(lake)
    return lake


def sample_tables() -> tuple[SampleTable, ...]:
    """The tables of the sample lake, as `write_sample` writes them."""
    return tuple(sample_lake().tables)


# --- making tables from tables ----------------------------------------------------------------------------------------


def _shuffled(rows: pa.Table, seed: int) -> pa.Table:
    return rows.take(Draw(seed, rows.num_rows).order())


def _repeated(rows: pa.Table, count: int) -> pa.Table:
    """The rows, the first ones once more at the end."""
    return pa.concat_tables([rows, rows.slice(0, count)])


def _with_types(rows: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    fields = [pa.field(f.name, types.get(f.name, f.type)) for f in rows.schema]
    return rows.cast(pa.schema(fields))


def _with_column(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def _all_null(rows: pa.Table, name: str, dtype: pa.DataType) -> pa.Table:
    return _with_column(rows, name, pa.nulls(rows.num_rows, dtype))


def _renamed(rows: pa.Table, change: Callable[[str], str]) -> pa.Table:
    return rows.rename_columns([change(name) for name in rows.column_names])


def _where(rows: pa.Table, name: str, *values: object) -> pa.Table:
    column = rows.column(name)
    return rows.filter(pc.is_in(column, value_set=pa.array(values, column.type)))


def _from_day(rows: pa.Table, name: str, day: str) -> pa.Table:
    return rows.filter(pc.greater_equal(rows.column(name), pa.scalar(datetime.date.fromisoformat(day))))


def _one_changed(rows: pa.Table, name: str, value: object) -> pa.Table:
    """The rows, one value in the middle of a column replaced."""
    values = rows.column(name).to_pylist()
    values[len(values) // 2] = value
    return _with_column(rows, name, pa.array(values, rows.column(name).type))


# --- departments ------------------------------------------------------------------------------------------------------


def _sales(lake: SampleLake) -> None:
    orders = company.orders()
    of_2023 = orders.filter(pc.equal(pc.year(orders["ordered_on"]), 2023))
    last_quarter = _from_day(orders, "ordered_on", "2024-10-01")
    slim = orders.select(["order_id", "customer_id", "status"])
    lake.add("sales/orders", orders, DeltaTable(commits=4))
    lake.add(
        "sales/orders_by_region", _shuffled(orders, 31), DeltaTable(partition_by=("region",)), equal="sales/orders"
    )
    lake.add("archive/orders_2023", of_2023, ParquetFolder(files=3), filtered=("sales/orders", "sales/orders_by_region"))
    lake.add(
        "archive/orders_2023_reload.parquet",
        _repeated(of_2023, 40),
        _DUCKDB,
        repeated=("archive/orders_2023", "sales/orders", "sales/orders_by_region"),
    )
    lake.add(
        "sales/orders_warehouse",
        _where(orders, "region", "EMEA", "Latin America"),
        HiveFolder(by="region", files=2),
        filtered="sales/orders",
    )
    lake.add("exports/orders_q4.csv", last_quarter, CsvFile(), filtered=("sales/orders", "sales/orders_by_region"))
    lake.add("exports/order_status.parquet", slim, _RUST, projection="sales/orders")
    lake.add(
        "exports/ORDER_STATUS_2.parquet", _renamed(_shuffled(slim, 32), str.upper), _DUCKDB,
        equal="exports/order_status.parquet",
    )  # fmt: skip
    lake.add(
        "exports/order_dates.csv.gz",
        orders.select(["order_id", "ordered_on", "shipped_on"]),
        CsvFile(),
        projection=("sales/orders", "sales/orders_by_region"),
    )
    lake.add("archive/orders_empty.parquet", orders.slice(0, 0), ParquetFile(), empty="sales/orders")
    late = _where(orders, "status", "open").slice(0, 900)
    lake.add(
        "sales/orders_open.parquet",
        _all_null(late.filter(late["shipped_on"].is_null()), "shipped_on", pa.string()),
        ParquetFile(compression="zstd"),
        filtered="sales/orders",
    )
    lake.add(
        "archive/orders_2023_edited.parquet",
        _one_changed(of_2023, "status", "cancelled"),
        ParquetFile(),
        near=("archive/orders_2023", "sales/orders"),
    )


def _customers(lake: SampleLake) -> None:
    customers = company.customers()
    profile = customers.drop_columns(["credit_limit", "signed_up", "loyalty_tier"])
    lake.add("sales/customers", customers, DeltaTable(commits=2, added="loyalty_tier"))
    lake.add(
        "archive/customers_backup.parquet",
        _shuffled(customers.select(customers.column_names[::-1]), 33),
        ParquetFile(group_rows=1000, compression="gzip"),
        equal="sales/customers",
    )
    lake.add(
        "marketing/contacts.parquet",
        _with_types(customers.select(["customer_id", "name", "email"]), {"customer_id": pa.int32()}),
        _DUCKDB,
        projection="sales/customers",
    )
    lake.add(
        "marketing/mailing_list.csv", _shuffled(customers.select(["email", "country", "signed_up"]), 34), CsvFile(),
        projection=("sales/customers", "archive/customers_backup.parquet"),
    )  # fmt: skip
    lake.add("marketing/profiles.jsonl", profile, JsonFile(), projection="sales/customers")
    lake.add("marketing/profiles_alps.jsonl.zst", _where(profile, "country", "AT", "CH"), JsonFile(),
        filtered=("marketing/profiles.jsonl", "sales/customers"),
    )  # fmt: skip
    first_half = customers.slice(0, customers.num_rows // 2)
    lake.add(
        "archive/customers_founding.parquet",
        _all_null(first_half, "loyalty_tier", pa.int32()),
        ParquetFile(),
        filtered=("sales/customers", "archive/customers_backup.parquet"),
    )
    lake.add(
        "archive/customers_edited.parquet", _one_changed(customers, "email", "somebody@example.org"), ParquetFile(),
        near="sales/customers",
    )  # fmt: skip
    lake.add("exports/addresses.parquet", _address_parts(customers), ParquetFile(), projection="sales/customers")
    lake.add("exports/addresses_filled.parquet", _filled_structs(customers), ParquetFile(), trap="sales/customers")


def _address_parts(customers: pa.Table) -> pa.Table:
    """Customers with two of the three fields of their address, a missing address still missing."""
    address = customers["address"].combine_chunks()
    fields = [pc.struct_field(address, "city"), pc.struct_field(address, "street")]
    smaller = pa.StructArray.from_arrays(fields, names=["city", "street"], mask=address.is_null())
    return pa.table({"customer_id": customers["customer_id"], "address": smaller})


def _filled_structs(customers: pa.Table) -> pa.Table:
    """Customers with an address of NULLs for each missing address."""
    address = customers["address"].combine_chunks()
    parts = [pc.struct_field(address, name) for name in ("street", "city", "postcode")]
    filled = pa.StructArray.from_arrays(parts, names=["street", "city", "postcode"])
    return pa.table({"customer_id": customers["customer_id"], "address": filled})


def _products(lake: SampleLake) -> None:
    products = company.products()
    wide = {"product_id": pa.decimal128(12, 0), "price": pa.decimal128(18, 4), "rating": pa.float32()}
    lake.add("sales/products.parquet", products, ParquetFile(group_rows=128))
    lake.add("finance/products", _with_types(products, wide), DeltaTable(), equal="sales/products.parquet")
    lake.add("exports/products.tsv", _shuffled(products, 35), CsvFile(), equal=("sales/products.parquet", "finance/products"))
    lake.add(
        "marketing/catalog.json.gz", products.select(["product_id", "sku", "title", "category"]), JsonFile(),
        projection="sales/products.parquet",
    )  # fmt: skip
    on_sale = products.filter(products["discontinued_on"].is_null())
    lake.add(
        "marketing/on_sale.parquet",
        _all_null(on_sale, "discontinued_on", pa.bool_()),
        _DUCKDB,
        filtered=("sales/products.parquet", "exports/products.tsv"),
    )
    lake.add("exports/on_sale.csv", on_sale, CsvFile(), equal="marketing/on_sale.parquet")
    lake.add(
        "exports/products_as_text.parquet",
        _with_types(products, {"product_id": pa.string()}),
        ParquetFile(),
        trap="sales/products.parquet",
    )
    lake.add(
        "exports/products_as_float.parquet",
        _with_types(products, {"price": pa.float64()}),
        ParquetFile(),
        trap="sales/products.parquet",
    )
    sold = company.orders().select(["product_id"]).slice(0, 2_000)
    lake.add("exports/sold_products.csv", sold, CsvFile(), repeated=("sales/products.parquet", "finance/products"))


def _web(lake: SampleLake) -> None:
    events = company.events()
    clicks = _where(events, "event_type", "click")
    lake.add("web/events", events, DeltaTable(partition_by=("event_date",), commits=2))
    lake.add("web/events_by_day", _shuffled(events, 36), HiveFolder(by="event_date"), equal="web/events")
    lake.add("web/clicks.parquet", clicks, _DUCKDB, filtered=("web/events", "web/events_by_day"))
    lake.add(
        "web/clicks_retried.parquet",
        _repeated(clicks, 12),
        _RUST,
        repeated=("web/clicks.parquet", "web/events", "web/events_by_day"),
    )
    lake.add(
        "archive/clicks_int96.parquet",
        clicks.drop_columns(["session"]),
        ParquetFile(int96=True),
        projection="web/clicks.parquet",
    )
    lake.add(
        "web/clicks_local_time.parquet",
        _with_types(clicks, {"event_time": pa.timestamp("us")}),
        ParquetFile(),
        trap=("web/clicks.parquet", "web/events"),
    )
    baskets = _where(events, "event_type", "basket")
    lake.add(
        "exports/baskets.jsonl",
        baskets.select(["event_id", "customer_id", "url", "items", "duration_ms"]),
        JsonFile(),
        filtered="web/events",
    )
    lake.add(
        "marketing/active_customers.csv",
        baskets.select(["customer_id"]),
        CsvFile(),
        repeated=("sales/customers", "marketing/contacts.parquet"),
        filtered="web/events",
    )


def _payments(lake: SampleLake) -> None:
    payments = company.payments()
    refunds = payments.filter(payments["is_refund"])
    first_quarter = payments.filter(pc.less(payments["paid_on"], pa.scalar(datetime.date(2024, 4, 1))))
    lake.add("finance/payments", payments, DeltaTable(rewritten=2))
    lake.add("exports/payments_full", payments, ParquetFolder(files=4, lean=True), equal="finance/payments")
    lake.add("exports/payments_q1.csv.zst", first_quarter, CsvFile(), filtered="finance/payments")
    lake.add("finance/refunds.parquet", refunds, ParquetFile(), filtered="finance/payments")
    lake.add(
        "finance/refunds_twice.parquet",
        _repeated(refunds, refunds.num_rows),
        ParquetFile(),
        repeated=("finance/refunds.parquet", "finance/payments", "exports/payments_full"),
    )
    lake.add(
        "finance/payment_amounts",
        _with_types(payments.select(["payment_id", "amount"]), {"payment_id": pa.float64(), "amount": pa.decimal128(20, 6)}),
        DeltaTable(commits=2),
        projection="finance/payments",
    )
    lake.add(
        "finance/payments_edited.parquet", _one_changed(payments, "currency", "GBP"), _DUCKDB,
        near=("finance/payments", "exports/payments_full"),
    )  # fmt: skip


def _ledger(lake: SampleLake) -> None:
    ledger = company.ledger()
    lake.add("finance/ledger", ledger, DeltaTable(commits=6))
    layouts: tuple[tuple[str, Layout], ...] = (
        ("parquet", ParquetFile()), ("csv", CsvFile()), ("parquet", _DUCKDB), ("tsv.gz", CsvFile()), ("parquet", _RUST)
    )  # fmt: skip
    later: list[str] = ["finance/ledger"]
    for month, (ending, layout) in reversed(list(enumerate(layouts, start=1))):
        name = f"finance/ledger_2024_{month:02d}.{ending}"
        rows = ledger.filter(pc.less_equal(pc.month(ledger["booked_on"]), month))
        lake.add(name, rows, layout, snapshot=later)
        later.append(name)


def _support(lake: SampleLake) -> None:
    tickets = company.tickets()
    subject = tickets["subject"]
    blank = pc.if_else(pc.equal(subject, ""), pa.scalar(None, pa.string()), subject)
    lake.add("support/tickets", tickets, DeltaTable(rewritten=1))
    lake.add("support/tickets_export.csv", tickets, CsvFile(), equal="support/tickets")
    lake.add("support/tickets_no_blanks.csv", _with_column(tickets, "subject", blank), CsvFile(), trap="support/tickets")
    lake.add(
        "support/tickets_binary.parquet", _with_types(tickets, {"subject": pa.binary()}), ParquetFile(),
        trap="support/tickets",
    )  # fmt: skip
    holidays = company.holidays()
    lake.add("support/holidays.parquet", holidays, ParquetFile())
    lake.add(
        "support/holidays_at_midnight.parquet",
        _with_types(holidays, {"day": pa.timestamp("us")}),
        _DUCKDB,
        equal="support/holidays.parquet",
    )
    codes = pa.table({"code": [1, 2, 3, 4], "Code": ["a", "b", "c", "d"]})
    lake.add("support/codes.parquet", codes, ParquetFile())
    lake.add("support/code_numbers.parquet", codes.select(["code"]), ParquetFile(), projection="support/codes.parquet")
    upper = _renamed(codes.select(["code"]), str.upper)
    lake.add("support/code_upper.parquet", upper, ParquetFile(), trap="support/codes.parquet")


def _sensors(lake: SampleLake) -> None:
    readings = company.readings()
    celsius = readings["celsius"]
    unsigned = pc.if_else(pc.equal(celsius, 0.0), pa.scalar(0.0), celsius)
    no_nan = pc.if_else(pc.is_nan(celsius), pa.scalar(None, pa.float64()), celsius)
    lake.add("iot/readings", readings, DeltaTable(partition_by=("sensor",)))
    lake.add("iot/readings_clean_zero.parquet", _with_column(readings, "celsius", unsigned), _DUCKDB, equal="iot/readings")
    lake.add("iot/readings_no_nan.parquet", _with_column(readings, "celsius", no_nan), ParquetFile(), trap="iot/readings")
    lake.add(
        "iot/readings_float32.parquet", _with_types(readings, {"celsius": pa.float32()}), ParquetFile(),
        trap="iot/readings",
    )  # fmt: skip
    rounded = pc.cast(readings["serial"], pa.float64(), safe=False)
    lake.add(
        "iot/readings_serial_as_float.parquet", _with_column(readings, "serial", rounded), ParquetFile(),
        trap="iot/readings",
    )  # fmt: skip


def _unions(lake: SampleLake) -> None:
    leads = company.leads()
    web, fairs = leads.slice(0, 700), leads.slice(700)
    mixed = _shuffled(pa.concat_tables([web.slice(300), fairs.slice(0, 200)]), 37)
    lake.add("marketing/leads_web.parquet", web, ParquetFile())
    lake.add("marketing/leads_fairs", fairs, ParquetFolder(files=2))
    lake.add(
        "marketing/leads_called.csv", mixed, CsvFile(), union=("marketing/leads_web.parquet", "marketing/leads_fairs")
    )
    north = pa.table({"bin": pa.array(range(400), pa.int64()), "pieces": pa.array([n * 7 % 50 for n in range(400)])})
    south = pa.table({"bin": pa.array(range(400, 900), pa.int64()), "pieces": pa.array([n % 11 for n in range(500)])})
    lake.add("sales/stock_north.parquet", north, _DUCKDB)
    lake.add("sales/stock_south.parquet", south, _RUST)
    counted = pa.concat_tables([north.slice(100), south.slice(0, 300)])
    lake.add(
        "sales/stock_counted", counted, DeltaTable(), union=("sales/stock_north.parquet", "sales/stock_south.parquet")
    )


def _partners(lake: SampleLake) -> None:
    promotions = company.promotions()
    hostile = "partners/50%20off <script>alert(\"x\")<script> it's.parquet"
    lake.add("partners/promotions", promotions, DeltaTable(commits=3))
    lake.add(hostile, _shuffled(promotions, 38), ParquetFile(), equal="partners/promotions")
    lake.add(
        "partners/vouchers & dates.csv", promotions.select(["voucher", "valid_from"]), CsvFile(),
        projection=("partners/promotions", hostile),
    )  # fmt: skip
