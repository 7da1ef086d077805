"""The configuration refuses what makes no sense, keeps secrets to itself, and takes options by name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from r2d2.config import CSV_TYPES, READERS, TIMESTAMPS, AuditConfig, default_memory_bytes, new_lane_keys
from r2d2.errors import UsageError


def config(**options: Any) -> AuditConfig:
    return AuditConfig(lake="lake", out="out", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reader": "spark"}, "reader must be one of auto, files, engine, got 'spark'"),
        ({"csv_types": "guess"}, "csv-types must be one of infer, text, got 'guess'"),
        ({"timestamps": "local"}, "timestamps must be one of distinct, utc, got 'local'"),
        ({"engine": "foo"}, "engine must be sail, spark or sc://host:port, got 'foo'"),
        ({"engine": ""}, "engine must be"),
        ({"engine": "SAIL"}, "engine must be"),
        ({"engine": "http://host:15002"}, "engine must be"),
        ({"master": "local[2]"}, "--master goes with --engine spark only"),
        ({"engine": "sc://h:1", "master": "local[2]"}, "--master goes with --engine spark only"),
        ({"csv_delimiter": ""}, "csv-delimiter must be one character"),
        ({"csv_delimiter": "||"}, "csv-delimiter must be one character"),
        ({"csv_delimiter": '"'}, "csv-delimiter must be one character, no quote or line break"),
        ({"csv_delimiter": "\n"}, "csv-delimiter must be one character, no quote or line break"),
        ({"assume_reads": -1.0}, "assume-reads must be at least 0, got -1.0"),
        ({"assume_reads": float("nan")}, "assume-reads must be at least 0, got nan"),
        ({"horizon_months": 0.5}, "horizon must be at least 1, got 0.5"),
        ({"horizon_months": float("nan")}, "horizon must be at least 1, got nan"),
        ({"sketch_rows": 15}, "sketch-rows must be at least 16, got 15"),
        ({"memory_bytes": 1 << 20}, "memory must be at least 268435456, got 1048576"),
        ({"kernel_threads": 0}, "kernel-threads must be at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(**options)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", ["assume_reads", "horizon_months"])
def test_an_infinite_number_is_refused(name: str) -> None:
    """It would make every cost infinite, and no JSON holds it."""
    with pytest.raises(UsageError, match=name.removesuffix("_months").replace("_", "-")):
        config(**{name: float("inf")})


def test_what_stands_at_the_border_is_allowed() -> None:
    made = config(
        assume_reads=0, horizon_months=1, sketch_rows=16, memory_bytes=256 << 20, kernel_threads=1, csv_delimiter="\t"
    )
    assert (made.assume_reads, made.horizon_months, made.sketch_rows) == (0, 1, 16)


@pytest.mark.parametrize(
    "options",
    [
        *[{"reader": reader} for reader in READERS],
        *[{"csv_types": types} for types in CSV_TYPES],
        *[{"timestamps": timestamps} for timestamps in TIMESTAMPS],
        {"engine": "sail"},
        {"engine": "spark", "master": "local[2]"},
        {"engine": "sc://host:15002"},
    ],
    ids=str,
)
def test_every_listed_choice_is_allowed(options: dict[str, str]) -> None:
    made = config(**options)
    assert {name: getattr(made, name) for name in options} == options


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown option 'colour'; known: access, assume_reads, .*, work"):
        AuditConfig.from_options({"lake": "l", "out": "o", "colour": "red"})


def test_an_option_not_given_keeps_its_default_and_an_explicit_zero_counts() -> None:
    made = AuditConfig.from_options({"lake": "l", "out": "o", "reader": None, "assume_reads": 0.0, "work": None})
    assert (made.reader, made.assume_reads, made.work) == ("auto", 0.0, None)


def test_the_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="reader"):
        config().reader = "files"  # type: ignore[misc]


def test_what_is_published_has_no_secrets_and_all_else() -> None:
    keys = (0xAAAAAAAAAAAAAAAA, 0xBBBBBBBBBBBBBBBB)
    made = config(engine="sc://host:15002/;token=hush;user_id=me", lane_keys=keys)
    shown = json.dumps(made.public(), allow_nan=False)
    assert made.public().keys() == {field.name for field in dataclasses.fields(AuditConfig)} - {"lane_keys"}
    assert "hush" not in shown
    assert all(str(key) not in shown + repr(made) for key in keys)
    assert made.public()["engine"] == "sc://host:15002"


def test_keys_are_64_bits_and_new_each_time() -> None:
    drawn = [key for _ in range(50) for key in new_lane_keys()]
    assert len(set(drawn)) == 100
    assert all(0 <= key < 1 << 64 for key in drawn)
    assert max(key.bit_length() for key in drawn) > 56
    assert config().lane_keys != config().lane_keys


def test_the_default_memory_is_allowed() -> None:
    assert config(memory_bytes=default_memory_bytes()).memory_bytes >= 1 << 30
