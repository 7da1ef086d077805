"""The examples and the books of the documentation are what the model computes."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from r2d2.errors import UsageError
from r2d2.retention.costs import CostModel, rebuild_cost, storage_cost_per_month
from r2d2.retention.offers import Candidate, Offers
from r2d2.retention.policy import load_policy
from r2d2.retention.prices import BUILT_IN, load_price_book
from r2d2.retention.reasons import Constraint

DOCS = Path(__file__).parents[2] / "docs"
GIB = 1 << 30
BOOK = load_price_book()
PER_GB = dataclasses.replace(BOOK, storage=dataclasses.replace(BOOK.storage, unit="GB"))
YEAR = CostModel(prices=BOOK, reads_per_month=10, horizon_months=12)
UNREAD = CostModel(prices=BOOK, reads_per_month=0, horizon_months=12)
GB12 = 12 * 10**9
CLONE = Candidate(
    table=0, id="c", bytes=100 * GIB, history_bytes=0, shared_bytes=80 * GIB, rows=1, columns=1, may_delete=True,
    keep_reason="",
)  # fmt: skip

MODEL = {
    "gib": storage_cost_per_month(10**12, BOOK),
    "gb": storage_cost_per_month(10**12, PER_GB),
    "month": storage_cost_per_month(100 * GIB, BOOK),
    "horizon": YEAR.cost_kept(100 * GIB),
    "history": YEAR.cost_kept(100 * GIB, history_bytes=50 * GIB),
    "shared": Offers([CLONE], [], YEAR).cost_kept(0),
    "tier": YEAR.cost_kept(100 * GIB, tier="standard-ia"),
    "rebuild": rebuild_cost(GB12, 0, BOOK),
    "rebuilds": YEAR.cost_deleted(GB12, 0),
    "chain": rebuild_cost(GB12, 0, BOOK, steps=2),
    "key list": UNREAD.cost_deleted(0, 0, recipe_bytes=2 * GIB),
    "tier read": rebuild_cost(10 * GIB, 0, BOOK, tiers=["standard-ia"]) - rebuild_cost(10 * GIB, 0, BOOK),
}
ROW = re.compile(r"^\| ([a-z ]+) \| [^|]+ \| `([-+*/(). \d]+)` \| ([\d.]+) \|$", re.MULTILINE)
EXAMPLES = {name: (text, value) for name, text, value in ROW.findall((DOCS / "retention.md").read_text())}


def test_every_example_of_the_page_is_tested() -> None:
    assert EXAMPLES.keys() == MODEL.keys()


@pytest.mark.parametrize("name", MODEL)
def test_the_model_computes_what_the_page_says(name: str) -> None:
    text, value = EXAMPLES[name]
    half = 0.5 * 10.0 ** -len(value.partition(".")[2])
    assert eval(text, {"__builtins__": {}}) == pytest.approx(float(value), abs=half)  # digits and signs only
    assert MODEL[name] == pytest.approx(float(value), abs=half)
    assert MODEL[name] == pytest.approx(eval(text, {"__builtins__": {}}), rel=1e-9)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_lists_each_built_in_book_as_it_is(name: str) -> None:
    book = load_price_book(name)
    found = re.search(rf"^\| `{name}`[^|]*\|(.+)\|$", (DOCS / "prices.md").read_text(), re.MULTILINE)
    assert found is not None
    date, _, storage, hour, tiers = [cell.strip() for cell in found[1].split("|")]
    assert (date, float(storage), float(hour)) == (
        book.date.isoformat(),
        book.storage.price_per_month,
        book.compute.price_per_hour,
    )
    assert re.findall(r"`([\w-]+)`", tiers) == list(book.tiers)
    assert (book.storage.unit, book.currency) == ("GiB", "USD")
    assert all(part.source.startswith("https://") for part in (book.storage, book.transfer, *book.tiers.values()))
    for tier, prices in book.tiers.items():
        inside = load_price_book(f"{name}/{tier}")
        assert inside.storage.price_per_month == prices.price_per_month
        assert inside.transfer.read_price == prices.read_price


def fenced(page: str) -> str:
    (block,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_policy_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "tables.csv").write_text("table,owner,tags\n")
    (tmp_path / "policy.toml").write_text(fenced("retention.md"))
    assert [rule.name for rule in load_policy(str(tmp_path / "policy.toml")).rules] == [
        "gdpr-hold",
        "fresh",
        "dashboards",
    ]


def test_the_book_of_the_page_extends_a_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(fenced("prices.md"))
    book = load_price_book(str(path))
    assert tomllib.loads(path.read_text())["extends"] == "aws-s3"
    assert (book.storage.price_per_month, book.storage.unit, book.storage.source) == (0.019, "GiB", "set in ours.toml")
    assert (book.compute.throughput_bytes_per_second, book.compute.price_per_hour) == (4e8, 0.1632)
    assert book.tiers == BOOK.tiers
    assert CostModel(prices=book, reads_per_month=0, horizon_months=2).cost_kept(
        GIB, history_bytes=GIB
    ) == pytest.approx(2 * (2 * 0.019 + 0.005))


def test_every_constraint_is_explained() -> None:
    page = (DOCS / "retention.md").read_text()
    assert {"saving", *Constraint} == set(re.findall(r"^\| `(\w+)` \| (?:kept:|equal)", page, re.MULTILINE))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('extends = "aws"', "extends must be one of aws-s3, azure-adls-gen2, google-cloud-storage, got 'aws'"),
        ('extends = "aws-s3"\n[storage]\nprice = 1', "unknown key 'storage.price'; known: storage.price_per_month"),
        ('extends = "aws-s3"\nstorage = 1', "storage must be a table of keys, got int"),
        ('extends = "aws-s3"\n[tiers.x]\nread_price = 1', "missing key 'tiers.x.price_per_month'"),
        ('extends = "aws-s3"\n[maintenance]\nscan_price = 1', "missing key 'maintenance.scans_per_month'"),
        ('extends = "aws-s3"\nnote = 1', "unknown key 'note'"),
    ],
)
def test_a_wrong_extension_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "book.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        load_price_book(str(tmp_path / "book.toml"))
