"""The tables that a small mail-order company works with; all others of the lake are made from them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r2d2.sample.draw import Draw, dates, day_numbers, emptied, texts

CUSTOMERS, PRODUCTS, ORDERS, EVENTS, PAYMENTS, LEDGER, READINGS, TICKETS, LEADS = (
    3_000, 400, 30_000, 20_000, 8_000, 16_000, 2_400, 900, 1_200
)  # fmt: skip

_FIRST = ("Ada", "Björn", "Chen", "Dunja", "Emil", "Farah", "Goran", "Hatice", "Ivo", "Jana", "Kofi", "Lena")
_LAST = ("Abel", "Brandt", "Costa", "Díaz", "Engel", "Fischer", "Grau", "Horvat", "Imhof", "Jansen", "Król", "Lund")
_CITIES = ("Graz", "Zürich", "Köln", "Kraków", "Porto", "Lyon", "Tampere", "Osaka", "Austin", "Quito")
_COUNTRIES = ("AT", "CH", "DE", "PL", "PT", "FR", "FI", "JP", "US", "EC")
_GOODS = ("Lamp", "Chair", "Kettle", "Rug", "Clock", "Shelf", "Vase", "Bench")


def customers() -> pa.Table:
    """Customers with a nested address, tags, and a tier that the older ones do not have."""
    draw = Draw(11, CUSTOMERS)
    ids = np.arange(CUSTOMERS) + 1
    first, last = draw.pick(_FIRST), draw.pick(_LAST)
    streets, places = texts("Main Street {}", draw.integers(1, 200).tolist()), draw.integers(0, len(_CITIES))
    address = pa.StructArray.from_arrays(
        [
            streets,
            pa.array([_CITIES[i] for i in places]),
            emptied(texts("{:05d}", draw.integers(1000, 99999).tolist()), draw.chance(5)),
        ],
        names=["street", "city", "postcode"],
        mask=draw.chance(3),
    )
    tags = [["vip", "newsletter", "b2b"][:n] if n < 4 else None for n in draw.integers(0, 5)]
    tier = draw.pick(("bronze", "silver", "gold"))
    return pa.table(
        {
            "customer_id": pa.array(ids, pa.int64()),
            "name": pc.binary_join_element_wise(first, last, " "),
            "email": texts("customer{}@example.com", ids.tolist()),
            "country": pa.array([_COUNTRIES[i] for i in places]),
            "segment": draw.pick(("consumer", "business", "public", None)),
            "is_business": draw.chance(30),
            "credit_limit": draw.cents(0, 2_000_000, 12),
            "signed_up": draw.days("2019-01-01", 1800),
            "address": address,
            "tags": pa.array(tags, pa.list_(pa.string())),
            "loyalty_tier": emptied(tier, pa.array(ids <= CUSTOMERS // 2)),
        }
    )


def products() -> pa.Table:
    """Products; those still on sale have no `discontinued_on`."""
    draw = Draw(12, PRODUCTS)
    ids = np.arange(PRODUCTS) + 100
    return pa.table(
        {
            "product_id": pa.array(ids, pa.int32()),
            "sku": texts("SKU-{:06d}", (ids * 37).tolist()),
            "title": pc.binary_join_element_wise(draw.pick(("Small", "Large", "Oak", "Steel")), draw.pick(_GOODS), " "),
            "category": draw.pick(("home", "garden", "office", "kitchen")),
            "price": draw.cents(199, 49_999),
            "rating": emptied(draw.eighths(1, 5), draw.chance(10)),
            "in_stock": draw.chance(80),
            "listed_on": draw.days("2020-01-01", 1000),
            "discontinued_on": emptied(draw.days("2023-01-01", 700), draw.chance(85)),
        }
    )


def orders() -> pa.Table:
    """Orders of 2023 and 2024, by day."""
    draw = Draw(13, ORDERS)
    first = (datetime.date(2023, 1, 1) - datetime.date(1970, 1, 1)).days
    days = dates(first + np.arange(ORDERS) * 731 // ORDERS)
    shipped = dates(day_numbers(days) + draw.integers(1, 9))
    return pa.table(
        {
            "order_id": pa.array(np.arange(ORDERS) + 500_000, pa.int64()),
            "customer_id": pa.array(draw.integers(1, CUSTOMERS + 1), pa.int64()),
            "product_id": pa.array(draw.integers(100, 100 + PRODUCTS), pa.int32()),
            "quantity": pa.array(draw.integers(1, 12), pa.int32()),
            "unit_price": draw.cents(199, 49_999),
            "discount": pa.array(draw.integers(0, 7) * 5 / 100.0),
            "status": draw.pick(("open", "paid", "shipped", "returned")),
            "channel": draw.pick(("web", "shop", "phone")),
            "region": draw.pick(("EMEA", "AMER", "APAC", "Latin America")),
            "ordered_on": days,
            "ordered_at": draw.times(days),
            "shipped_on": emptied(shipped, draw.chance(20)),
        }
    )


def events() -> pa.Table:
    """Clicks of ten days, with the instant, a nested session and a list of products seen."""
    draw = Draw(14, EVENTS)
    first = (datetime.date(2024, 3, 1) - datetime.date(1970, 1, 1)).days
    days = dates(first + np.arange(EVENTS) * 10 // EVENTS)
    session = pa.StructArray.from_arrays(
        [
            texts("s{:05d}", draw.integers(0, 6000).tolist()),
            draw.pick(("phone", "desktop", "tablet", None)),
            draw.pick(("search", "mail", "", None)),
        ],
        names=["id", "device", "referrer"],
        mask=draw.chance(4),
    )
    seen = draw.integers(0, PRODUCTS)
    items = [[100 + int(s), 100 + int(s) // 2][: int(s) % 3] if s % 7 else None for s in seen]
    return pa.table(
        {
            "event_id": pa.array(np.arange(EVENTS) + 9_000_000_000, pa.int64()),
            "customer_id": pa.array(draw.integers(1, CUSTOMERS + 1), pa.int64()),
            "event_type": draw.pick(("page_view", "page_view", "page_view", "click", "basket")),
            "url": texts("/p/{}", draw.integers(100, 100 + PRODUCTS).tolist()),
            "event_time": draw.times(days, zone="UTC"),
            "session": session,
            "items": pa.array(items, pa.list_(pa.int64())),
            "duration_ms": pa.array(draw.integers(20, 90_000), pa.int32()),
            "event_date": days,
        }
    )


def payments() -> pa.Table:
    """Payments for some of the orders; some are refunds, and reversals are still unknown to the older half."""
    draw = Draw(15, PAYMENTS)
    refund = draw.chance(6)
    days = draw.days("2024-01-01", 366)
    note = draw.pick(("checked", "by phone", "late"))
    older = pa.array(np.arange(PAYMENTS) < PAYMENTS // 2)
    return pa.table(
        {
            "payment_id": pa.array(np.arange(PAYMENTS) + 70_000, pa.int64()),
            "order_id": pa.array(draw.integers(500_000, 500_000 + ORDERS), pa.int64()),
            "amount": draw.cents(500, 900_000, 12),
            "currency": draw.pick(("EUR", "USD", "CHF")),
            "method": draw.pick(("card", "transfer", "invoice")),
            "is_refund": refund,
            "paid_on": days,
            "booked_at": draw.times(days),
            "note": emptied(note, older),
        }
    )


def ledger() -> pa.Table:
    """Bookings of half a year, in the order they were made: a table that only grows."""
    draw = Draw(16, LEDGER)
    first = (datetime.date(2024, 1, 1) - datetime.date(1970, 1, 1)).days
    return pa.table(
        {
            "booking_id": pa.array(np.arange(LEDGER) + 1, pa.int64()),
            "account": texts("{}", draw.integers(1000, 1080).tolist()).cast(pa.int64()).cast(pa.int32()),
            "booked_on": dates(first + np.arange(LEDGER) * 182 // LEDGER),
            "amount": draw.cents(-500_000, 500_000, 12),
            "text": draw.pick(("sale", "rent", "salary", "returned goods, see file", 'so-called "misc"')),
        }
    )


def readings() -> pa.Table:
    """Sensor values with NaN, negative zero, infinity and NULL."""
    draw = Draw(17, READINGS)
    value = draw.integers(-4000, 4000) / 10.0
    kind = draw.integers(0, 40)
    value = np.where(kind == 0, np.nan, np.where(kind == 1, -0.0, np.where(kind == 2, np.inf, value)))
    return pa.table(
        {
            "sensor": draw.pick(("dock-1", "dock-2", "cold-room", "roof")),
            "minute": pa.array(np.arange(READINGS), pa.int32()),
            "celsius": emptied(pa.array(value, from_pandas=False), pa.array(kind == 3)),
            "serial": pa.array(9_007_199_254_740_993 + 2 * draw.integers(0, 50), pa.int64()),
        }
    )


def tickets() -> pa.Table:
    """Support tickets whose texts are sometimes empty and sometimes NULL."""
    draw = Draw(18, TICKETS)
    days = draw.days("2024-05-01", 60)
    return pa.table(
        {
            "ticket_id": pa.array(np.arange(TICKETS) + 1, pa.int64()),
            "customer_id": pa.array(draw.integers(1, CUSTOMERS + 1), pa.int64()),
            "subject": draw.pick(("late, again", "broken", "", None, 'says "urgent"', "two\nlines", "<b>bold</b>")),
            "priority": pa.array(draw.integers(1, 5), pa.int16()),
            "opened_at": draw.times(days),
        }
    )


def leads() -> pa.Table:
    """Prospects, half of them met at fairs."""
    draw = Draw(19, LEADS)
    ids = np.arange(LEADS) + 1
    return pa.table(
        {
            "lead_id": pa.array(ids, pa.int64()),
            "lead_name": pc.binary_join_element_wise(draw.pick(_FIRST), draw.pick(_LAST), " "),
            "met_on": draw.days("2024-02-01", 200),
            "budget": draw.cents(100_000, 9_000_000),
        }
    )


def holidays() -> pa.Table:
    """Days on which nothing is shipped."""
    days = [datetime.date(year, month, day) for year in (2023, 2024) for month, day in ((1, 1), (5, 1), (12, 25))]
    return pa.table({"day": pa.array(days, pa.date32()), "reason": ["new year", "labour day", "christmas"] * 2})


def promotions() -> pa.Table:
    """Vouchers; no two alike."""
    draw = Draw(20, 300)
    return pa.table(
        {
            "voucher": texts("PROMO{:04d}", range(300)),
            "percent_off": pa.array(draw.integers(1, 60), pa.int32()),
            "valid_from": draw.days("2024-01-01", 300),
            "minimum": pa.array([Decimal(int(n)) for n in draw.integers(0, 90)], pa.decimal128(6, 0)),
        }
    )
