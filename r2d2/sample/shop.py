"""Tables of the shop: sales, customers, products and the web site, with their copies and extracts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from r2d2.sample import company
from r2d2.sample.layout import DUCKDB, RUST, CsvFile, DeltaTable, HiveFolder, JsonFile, ParquetFile, ParquetFolder
from r2d2.sample.plan import SampleLake
from r2d2.sample.reshape import all_null, from_day, one_changed, renamed, repeated, shuffled, where, with_types


def add_sales(lake: SampleLake) -> None:
    """Orders in every format and cut."""
    orders = company.orders()
    of_2023 = orders.filter(pc.equal(pc.year(orders["ordered_on"]), 2023))
    last_quarter = from_day(orders, "ordered_on", "2024-10-01")
    slim = orders.select(["order_id", "customer_id", "status"])
    lake.add("sales/orders", orders, DeltaTable(commits=4))
    lake.add("sales/orders_by_region", shuffled(orders, 31), DeltaTable(partition_by=("region",)), equal="sales/orders")
    lake.add(
        "archive/orders_2023", of_2023, ParquetFolder(files=3), filtered=("sales/orders", "sales/orders_by_region")
    )
    lake.add(
        "archive/orders_2023_reload.parquet",
        repeated(of_2023, 40),
        DUCKDB,
        repeated=("archive/orders_2023", "sales/orders", "sales/orders_by_region"),
    )
    lake.add(
        "sales/orders_warehouse",
        where(orders, "region", "EMEA", "Latin America"),
        HiveFolder(by="region", files=2),
        filtered="sales/orders",
    )
    lake.add("exports/orders_q4.csv", last_quarter, CsvFile(), filtered=("sales/orders", "sales/orders_by_region"))
    lake.add("exports/order_status.parquet", slim, RUST, projection="sales/orders")
    lake.add(
        "exports/ORDER_STATUS_2.parquet", renamed(shuffled(slim, 32), str.upper), DUCKDB,
        equal="exports/order_status.parquet",
    )  # fmt: skip
    lake.add(
        "exports/order_dates.csv.gz",
        orders.select(["order_id", "ordered_on", "shipped_on"]),
        CsvFile(),
        projection=("sales/orders", "sales/orders_by_region"),
    )
    lake.add("archive/orders_empty.parquet", orders.slice(0, 0), ParquetFile(), empty="sales/orders")
    late = where(orders, "status", "open").slice(0, 900)
    lake.add(
        "sales/orders_open.parquet",
        all_null(late.filter(late["shipped_on"].is_null()), "shipped_on", pa.string()),
        ParquetFile(compression="zstd"),
        filtered="sales/orders",
    )
    lake.add(
        "archive/orders_2023_edited.parquet",
        one_changed(of_2023, "status", "cancelled"),
        ParquetFile(),
        near=("archive/orders_2023", "sales/orders"),
    )


def add_customers(lake: SampleLake) -> None:
    """Customers with nested columns, an evolved Delta table among their copies."""
    customers = company.customers()
    profile = customers.drop_columns(["credit_limit", "signed_up", "loyalty_tier"])
    lake.add("sales/customers", customers, DeltaTable(commits=2, added="loyalty_tier"))
    lake.add(
        "archive/customers_backup.parquet",
        shuffled(customers.select(customers.column_names[::-1]), 33),
        ParquetFile(group_rows=1000, compression="gzip"),
        equal="sales/customers",
    )
    lake.add(
        "marketing/contacts.parquet",
        with_types(customers.select(["customer_id", "name", "email"]), {"customer_id": pa.int32()}),
        DUCKDB,
        projection="sales/customers",
    )
    lake.add(
        "marketing/mailing_list.csv", shuffled(customers.select(["email", "country", "signed_up"]), 34), CsvFile(),
        projection=("sales/customers", "archive/customers_backup.parquet"),
    )  # fmt: skip
    lake.add("marketing/profiles.jsonl", profile, JsonFile(), projection="sales/customers")
    lake.add("marketing/profiles_alps.jsonl.zst", where(profile, "country", "AT", "CH"), JsonFile(),
        filtered=("marketing/profiles.jsonl", "sales/customers"),
    )  # fmt: skip
    first_half = customers.slice(0, customers.num_rows // 2)
    lake.add(
        "archive/customers_founding.parquet",
        all_null(first_half, "loyalty_tier", pa.int32()),
        ParquetFile(),
        filtered=("sales/customers", "archive/customers_backup.parquet"),
    )
    lake.add(
        "archive/customers_edited.parquet", one_changed(customers, "email", "somebody@example.org"), ParquetFile(),
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


def add_products(lake: SampleLake) -> None:
    """Products: other number types, text for numbers, columns of NULLs."""
    products = company.products()
    wide = {"product_id": pa.decimal128(12, 0), "price": pa.decimal128(18, 4), "rating": pa.float32()}
    lake.add("sales/products.parquet", products, ParquetFile(group_rows=128))
    lake.add("finance/products", with_types(products, wide), DeltaTable(), equal="sales/products.parquet")
    lake.add(
        "exports/products.tsv", shuffled(products, 35), CsvFile(), equal=("sales/products.parquet", "finance/products")
    )
    lake.add(
        "marketing/catalog.json.gz", products.select(["product_id", "sku", "title", "category"]), JsonFile(),
        projection="sales/products.parquet",
    )  # fmt: skip
    on_sale = products.filter(products["discontinued_on"].is_null())
    lake.add(
        "marketing/on_sale.parquet",
        all_null(on_sale, "discontinued_on", pa.bool_()),
        DUCKDB,
        filtered=("sales/products.parquet", "exports/products.tsv"),
    )
    untyped = all_null(on_sale, "discontinued_on", pa.string())
    lake.add("exports/on_sale.csv", untyped, CsvFile(), equal="marketing/on_sale.parquet")
    lake.add(
        "exports/products_as_text.parquet",
        with_types(products, {"product_id": pa.string()}),
        ParquetFile(),
        trap="sales/products.parquet",
    )
    lake.add(
        "exports/products_as_float.parquet",
        with_types(products, {"price": pa.float64()}),
        ParquetFile(),
        trap="sales/products.parquet",
    )
    sold = company.orders().select(["product_id"]).slice(0, 2_000)
    lake.add("exports/sold_products.csv", sold, CsvFile(), repeated=("sales/products.parquet", "finance/products"))


def add_web(lake: SampleLake) -> None:
    """Events: instants, partitions, repeated rows."""
    events = company.events()
    clicks = where(events, "event_type", "click")
    lake.add("web/events", events, DeltaTable(partition_by=("event_date",), commits=2))
    lake.add("web/events_by_day", shuffled(events, 36), HiveFolder(by="event_date"), equal="web/events")
    lake.add("web/clicks.parquet", clicks, DUCKDB, filtered=("web/events", "web/events_by_day"))
    lake.add(
        "web/clicks_retried.parquet",
        repeated(clicks, 12),
        RUST,
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
        with_types(clicks, {"event_time": pa.timestamp("us")}),
        ParquetFile(),
        trap=("web/clicks.parquet", "web/events"),
    )
    baskets = where(events, "event_type", "basket")
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
