"""Policies, table properties and accesses: what they say of a table, and what is wrong with a file."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from r2d2.config import PlanOptions
from r2d2.errors import UsageError
from r2d2.retention.documents import parse_duration
from r2d2.retention.facts import TableFacts, load_inputs, prepare
from r2d2.retention.policy import Policy, Properties, Rule, Subject, load_policy
from r2d2.retention.usage import Access, load_accesses

NOW = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def subject(id_: str = "sales/2023", **known: object) -> Subject:
    base = {"properties": Properties(), "created": None, "last_write": NOW - 90 * DAY, "last_read": NOW - 90 * DAY}
    return Subject(id=id_, **{**base, **known})  # type: ignore[arg-type]


def policy_of(tmp_path: Path, text: str, name: str = "policy.toml") -> Policy:
    path = tmp_path / name
    path.write_text(text)
    return load_policy(str(path))


@pytest.mark.parametrize(
    ("condition", "known", "applies"),
    [
        ('table = "sales/*"', {}, True),
        ('table = ["hr/*", "*2023"]', {}, True),
        ('table = "SALES/*"', {}, False),
        ('owner = "fin*"', {"properties": Properties(owner="finance")}, True),
        ('owner = "fin*"', {}, False),
        ('tag = "legal-*"', {"properties": Properties(tags=("pii", "legal-hold"))}, True),
        ('tag = "legal-*"', {"properties": Properties(tags=("pii",))}, False),
        ('modified_within = "30d"', {}, False),
        ('modified_within = "90d"', {}, True),
        ('modified_within = "30d"', {"last_write": None}, True),
        ('read_within = "30d"', {}, False),
        ('read_within = "30d"', {"last_read": None}, True),
        ('younger_than = "30d"', {"created": NOW - 31 * DAY, "last_write": NOW}, False),
        ('younger_than = "30d"', {"created": None, "last_write": NOW - DAY}, True),
        ('table = "sales/*"\nowner = "hr"', {}, False),
        ('table = "*"\nuntil = 2026-11-25', {}, True),
        ('table = "*"\nuntil = 2026-11-24', {}, False),
    ],
)
def test_a_rule_applies_where_all_its_conditions_hold(
    tmp_path: Path, condition: str, known: dict[str, object], applies: bool
) -> None:
    policy = policy_of(tmp_path, f'[[rule]]\nname = "r"\nkeep = true\n{condition}\n')
    ruling = policy.ruling(subject(**known), NOW)
    assert (ruling.keep_reason is not None) == applies
    assert ruling.rules == (("r",) if applies else ())


def test_the_first_keeping_rule_is_named_and_the_smallest_bound_counts() -> None:
    rules = [
        Rule(name="slow", table=("*",), max_latency_seconds=3600.0),
        Rule(name="gdpr-hold", table=("sales/*",), keep=True),
        Rule(name="fresh", table=("*",), keep=True, modified_within_seconds=1.0),
        Rule(name="dashboards", table=("sales/*",), max_latency_seconds=60.0),
    ]
    ruling = Policy(rules=tuple(rules)).ruling(subject(last_write=None), NOW)
    assert (ruling.keep_reason, ruling.latency_bound_seconds, ruling.latency_rule) == (
        "policy 'gdpr-hold'",
        60.0,
        "dashboards",
    )
    lone = Policy(rules=(rules[2],)).ruling(subject(last_write=None), NOW)
    assert lone.keep_reason == "policy 'fresh' (its last write is unknown)"


RULE = '[[rule]]\nname = "r"\nkeep = true\ntable = "x"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules = []", "unknown key 'rules'; known: rule, table_properties"),
        ("rule = 1", "rule must be a list of rules, got int"),
        ("rule = [1]", "rule 1 must be a table of keys, got int"),
        (RULE.replace("table", "tables"), "rule 1: unknown key 'tables'; known: name, keep, max_latency"),
        (RULE.replace('name = "r"\n', ""), "rule 1: missing key 'name'"),
        (RULE.replace("true", "false"), "keep must be true, got False"),
        (RULE + 'max_latency = "1h"', "must have either keep = true or max_latency, not both or neither"),
        (RULE.replace("keep = true\n", ""), "must have either keep = true or max_latency, not both or neither"),
        (RULE.replace('table = "x"\n', ""), "rule 'r' has no condition; give one of modified_within, owner"),
        (RULE.replace('"x"', "[]"), "table must be a shell pattern such as 'sales/\\*', or a list of them"),
        (RULE.replace('"x"', "7"), "table must be a shell pattern"),
        (RULE + 'modified_within = "soon"', "modified_within must be a duration such as 90s, 15min, 2h or 1d"),
        (RULE + "modified_within = -1", "modified_within must be at least 0"),
        (RULE + 'until = "2026-01-01"', "until must be a date without quotes"),
        (RULE + RULE, "two rules have the name 'r'"),
        ("[[rule]", "not valid TOML"),
        ('table_properties = "gone.csv"', "gone.csv' cannot be read \\(FileNotFoundError\\)"),
        ("table_properties = 1", "table_properties must be a text"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        policy_of(tmp_path, text)


def test_yaml_says_the_same_as_toml_and_no_key_twice(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    text = "rule:\n- name: r\n  max_latency: 2h\n  table: [a, b]\n- {name: s, keep: true, tag: x, until: 2027-01-31}\n"
    made = policy_of(tmp_path, text, "policy.yaml")
    assert made.rules == (
        Rule(name="r", max_latency_seconds=7200.0, table=("a", "b")),
        Rule(name="s", keep=True, tag=("x",), until=datetime.date(2027, 1, 31)),
    )
    with pytest.raises(UsageError, match=r"not valid YAML in line 3: a key stands twice"):
        policy_of(tmp_path, "rule: []\nx:\n  {a: 1, a: 2}\n", "policy.yml")
    with pytest.raises(UsageError, match="must hold keys, got list"):
        policy_of(tmp_path, "- 1", "policy.yml")


def test_properties_beside_the_policy_go_before_those_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "tables.csv").write_text('table,owner,tags,tier\n"a,b",hr,"pii; legal",standard-ia\nNA,,,\n')
    policy = policy_of(tmp_path, 'table_properties = "tables.csv"')
    assert policy.properties == {
        "a,b": Properties(owner="hr", tags=("pii", "legal"), tier="standard-ia"),
        "NA": Properties(),
    }
    assert policy.properties["a,b"].over(Properties(owner="it", tags=("raw",), keep=True)) == Properties(
        owner="hr", tags=("pii", "legal", "raw"), tier="standard-ia", keep=True
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("table,tags\na,x\n", "has the columns table, tags; expected: table, owner, tags, tier; or table, owner, tags"),
        ("table,owner,tags\na,,\na,,\n", "give each table one row, with its id; got 'a' again"),
    ],
)
def test_wrong_properties_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "tables.csv").write_text(content)
    with pytest.raises(UsageError, match=says):
        policy_of(tmp_path, 'table_properties = "tables.csv"')


# ---- accesses

EVENTS = 30 * [
    {"source_table_full_name": "main.sales.orders", "source_path": None, "event_id": "e1", "day": 0},
    {"source_table_full_name": "main.sales.orders", "source_path": None, "event_id": "e1", "day": 0},
    {"source_table_full_name": None, "source_path": "s3://bucket/lake/raw/", "event_id": "e2", "day": 3},
    {"source_table_full_name": None, "source_path": None, "event_id": "e3", "day": 61},
]


def lineage() -> pa.Table:
    rows = [
        {**event, "event_id": f"{event['event_id']}-{n // 4}", "event_time": NOW - (61 - event["day"]) * DAY}  # type: ignore[operator]
        for n, event in enumerate(EVENTS)
    ]
    return pa.Table.from_pylist(rows).drop_columns("day")


@pytest.mark.parametrize("form", ["parquet", "delta", "csv"])
def test_lineage_becomes_reads_per_month_over_the_time_it_covers(tmp_path: Path, form: str) -> None:
    """30 events in 61 days, each a row for every table that it wrote."""
    path = tmp_path / ("lineage.csv" if form == "csv" else "lineage")
    if form == "delta":
        write_deltalake(str(path), lineage())
    elif form == "parquet":
        pq.write_table(lineage(), path)
    else:
        lines = [",".join("" if v is None else str(v) for v in row.values()) for row in lineage().to_pylist()]
        path.write_text("\n".join([",".join(lineage().column_names), *lines]) + "\n")
    found, unknown = load_accesses([str(path)]).match(["main.sales.orders", "raw"], "s3://bucket/lake")
    expected = 30 / (61 / (365.25 / 12))
    assert found["main.sales.orders"].reads_per_month == pytest.approx(expected)
    assert found["raw"] == Access(reads_per_month=pytest.approx(expected), last_read=NOW - 58 * DAY)  # type: ignore[arg-type]
    assert unknown == []


def test_an_audit_log_counts_look_ups_or_reads_of_files(tmp_path: Path) -> None:
    def event(service: str, action: str, day: int, **parameters: str) -> dict[str, object]:
        moment = NOW - day * DAY
        return {
            "service_name": service,
            "action_name": action,
            "request_params": list(parameters.items()),
            "event_time": moment,
        }

    rows = [
        event("unityCatalog", "getTable", 30, full_name_arg="main.a.t"),
        event("unityCatalog", "generateTemporaryTableCredential", 20, table_full_name="main.a.t", operation="READ"),
        event("unityCatalog", "generateTemporaryTableCredential", 9, table_full_name="main.a.t", operation="READ"),
        event("unityCatalog", "generateTemporaryTableCredential", 1, table_full_name="main.a.t", operation="WRITE"),
        event("unityCatalog", "createTable", 1, name="main.a.t"),
        event("jobs", "getTable", 0, full_name_arg="main.a.t"),
    ]
    types = {"service_name": pa.string(), "action_name": pa.string()}
    schema = pa.schema(
        types | {"request_params": pa.map_(pa.string(), pa.string()), "event_time": pa.timestamp("us", tz="UTC")}
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "audit.parquet")
    (found,) = load_accesses([str(tmp_path / "audit.parquet")]).by_name.values()
    assert found == Access(reads_per_month=pytest.approx(2 / (30 / (365.25 / 12))), last_read=NOW - 9 * DAY)  # type: ignore[arg-type]
    asked = json.dumps({"full_name_arg": "main.a.t"}).replace('"', '""')
    (tmp_path / "audit.csv").write_text(
        f'service_name,action_name,request_params,event_time\nunityCatalog,getTable,"{asked}",2026-11-25 00:00:00\n'
    )
    (rate,) = load_accesses([str(tmp_path / "audit.csv")]).by_name.values()
    assert rate.reads_per_month == pytest.approx(365.25 / 12), "one event is one a day, not one in no time"


def test_names_are_ids_paths_or_the_only_one_in_another_case(tmp_path: Path) -> None:
    lines = ["table,reads_per_month,last_read", "A/b,3,", "/lake/x,,2026-01-31", "MAIN.S.T,5,", "y,1,", "gone,2,"]
    (tmp_path / "reads.csv").write_text("\n".join(lines) + "\n")
    accesses = load_accesses([str(tmp_path / "reads.csv")])
    found, unknown = accesses.match(["A/b", "a/B", "x", "main.s.t", "Y", "y"], "/lake/")
    assert {name: access.reads_per_month for name, access in found.items()} == {
        "A/b": 3.0,
        "x": None,
        "main.s.t": 5.0,
        "y": 1.0,
    }
    assert found["x"].last_read == datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    assert unknown == ["gone"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,reads\na,1\n", "has the columns id, reads; expected: table, reads_per_month, last_read; or table"),
        ("table,reads_per_month\na,often\n", "reads_per_month of table 'a' must be a number of at least 0"),
        ("table,reads_per_month\na,-1\n", "reads_per_month of table 'a' must be a number of at least 0"),
        ("table,reads_per_month\na,nan\n", "reads_per_month of table 'a' must be a number of at least 0"),
        ("table,reads_per_month\na,1\na,2\n", "table 'a' stands there twice"),
        ("table,reads_per_month\n,1\n", "a row names no table"),
        ("table,reads_per_month,last_read\na,1,monday\n", "last_read of table 'a' must be a date or a time"),
        ("source_table_full_name,source_path,event_time\na,,\n", "an event has no event_time"),
        ("table,reads_per_month\na,1,2\n", "cannot be read \\(ArrowInvalid\\); give a CSV or Parquet file"),
    ],
)
def test_wrong_accesses_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "reads.csv").write_text(content)
    with pytest.raises(UsageError, match=says):
        load_accesses([str(tmp_path / "reads.csv")])


def test_of_two_sources_the_larger_rate_counts(tmp_path: Path) -> None:
    for name, reads in (("one", 3), ("two", 7)):
        (tmp_path / f"{name}.csv").write_text(f"table,reads_per_month\na,{reads}\n")
    assert load_accesses([str(tmp_path / "one.csv"), str(tmp_path / "two.csv")]).by_name["a"].reads_per_month == 7


# ---- put together


def fact(number: int, **changes: object) -> TableFacts:
    base: dict[str, object] = {
        "table": number,
        "id": f"t{number}",
        "bytes": 10,
        "history_bytes": 0,
        "shared_bytes": 0,
        "rows": 1,
        "columns": 1,
        "keep_reason": None,
        "no_recipe_reason": None,
        "last_write": NOW,
    }
    return TableFacts(**{**base, **changes})  # type: ignore[arg-type]


def test_what_is_known_meets_what_people_say(tmp_path: Path) -> None:
    (tmp_path / "tables.csv").write_text("table,owner,tags\nt1,hr,\nelsewhere,x,\n")
    rules = [
        '[[rule]]\nname = "hr"\nkeep = true\nowner = "hr"',
        '[[rule]]\nname = "fast"\nmax_latency = 30\ntable = "t2"',
        '[[rule]]\nname = "idle"\nkeep = true\ntable = "z*"',
    ]
    (tmp_path / "p.toml").write_text("\n".join(['table_properties = "tables.csv"', *rules]))
    (tmp_path / "r.csv").write_text("table,reads_per_month\nt2,4\nnowhere,1\n")
    options = PlanOptions(policy=str(tmp_path / "p.toml"), access=(str(tmp_path / "r.csv"),), max_latency_seconds=60.0)
    facts = [fact(0, keep_reason="it could not be judged"), fact(1), fact(2), fact(3, properties=Properties(keep=True))]
    made = prepare(facts, load_inputs(options, NOW, None))
    assert [(c.may_delete, c.keep_reason) for c in made.candidates] == [
        (False, "it could not be judged"),
        (False, "policy 'hr'"),
        (True, ""),
        (False, "its table property r2d2.keep says so"),
    ]
    assert [(c.latency_bound_seconds, c.latency_rule) for c in made.candidates[1:3]] == [(60.0, ""), (30.0, "fast")]
    assert [c.reads_per_month for c in made.candidates] == [None, None, 4.0, None]
    assert made.warnings() == [
        "1 of the tables named in the accesses are not in the audit: nowhere",
        "1 of the tables named in the properties are not in the audit: elsewhere",
        "the rule 'idle' of the policy applies to no table",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15min", 900), ("1.5h", 5400), ("2d", 172800), (" 0 s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize("text", ["", "min", "5 weeks", "-1s", "nan", "inf", "1e400", "1_0s", "5M"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="x must be a duration such as 90s"):
        parse_duration(text, "x")
