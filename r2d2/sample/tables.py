"""The tables of the sample lake, each with what it was made to show."""

from __future__ import annotations

from r2d2.sample.office import add_ledger, add_partners, add_payments, add_sensors, add_support, add_unions
from r2d2.sample.plan import SampleLake, SampleTable
from r2d2.sample.shop import add_customers, add_products, add_sales, add_web

_DEPARTMENTS = (
    add_sales, add_customers, add_products, add_web, add_payments, add_ledger, add_support, add_sensors, add_unions,
    add_partners,
)  # fmt: skip


def sample_lake() -> SampleLake:
    """Generate all tables; the same on every call."""
    lake = SampleLake()
    for add_department in _DEPARTMENTS:
        add_department(lake)
    return lake


def sample_tables() -> tuple[SampleTable, ...]:
    """The tables of the sample lake, as `write_sample` writes them."""
    return tuple(sample_lake().tables)
