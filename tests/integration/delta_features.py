"""Delta tables with one feature of the format each, made by delta-spark, and the rows that each of them has.

A case is SQL: the statements that make the table, and a query over literals for its rows. `$t` stands for the table,
`$folder` for the folder of cases that it is in.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.integration.audit_helpers import QUICK_SPARK, classic_engine
from tests.integration.delta_tables import Row, spark_rows

TABLE = "t"
_MAKER_THREADS = 3
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A Delta table with known rows.

    Attributes:
        name: Folder of the case in the folder of its cases.
        make: Statements, in order.
        rows: Query that gives the table's rows from literals alone; empty for a table that is not read.
        folder: Folder of the lake: `core` for what is audited on every engine, `more`, or `unread`.
        marks: Texts that the table's log holds when the statements did what they are for.
        settings: Of the session that makes it.
        edit: What is done to its folder afterwards by hand, where no writer at hand does it.
    """

    name: str
    make: Sequence[str]
    rows: str = ""
    folder: str = "more"
    marks: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    edit: Callable[[Path], None] | None = None


def create(columns: str, *properties: str, tail: str = "") -> str:
    """CREATE TABLE with properties given as `name=value`."""
    pairs = ", ".join(f"'{name}' = '{value}'" for name, _, value in (p.partition("=") for p in properties))
    listed = f" TBLPROPERTIES ({pairs})" if pairs else ""
    return f"CREATE TABLE $t ({columns}) USING delta {tail}{listed}"


VECTORS = "delta.enableDeletionVectors=true"
TEN = "INSERT INTO $t SELECT cast(id AS int), nullif(concat('v', id), 'v0') FROM range(0, 10, 1, 1)"


def numbered(first: int, end: int, s: str = "nullif(concat('v', id), 'v0')") -> str:
    """Rows of `TEN` from one number to before another."""
    return f"SELECT cast(id AS int) AS id, {s} AS s FROM range({first}, {end})"


# ---- edits of a table's folder


def forget_commits(table: Path) -> None:
    """Delete the commits older than the newest checkpoint and all checksums, as log retention does."""
    log = table / "_delta_log"
    newest = max(file.name[:20] for file in log.glob("*.checkpoint.*"))
    for file in [*log.glob("*.json"), *log.glob("*.crc")]:
        if file.name.count(".") == 1 and file.name[:20] < newest:
            file.unlink()
    forget_checksums(table)


def forget_checksums(table: Path) -> None:
    """Delete the checksums of versions and those that Hadoop keeps of files."""
    for file in table.rglob("*.crc"):
        file.unlink()


def inline_vector(table: Path) -> None:
    """Move the one deletion vector of the last commit from its file into the log."""
    commit = max((table / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    (vector,) = [action["add"]["deletionVector"] for action in actions if "add" in action]
    (file,) = table.rglob("deletion_vector_*.bin")
    start = vector.pop("offset") + 4
    data = file.read_bytes()[start : start + vector["sizeInBytes"]]
    padded = data + bytes(-len(data) % 4)
    vector["storageType"] = "i"
    vector["pathOrInlineDv"] = base64.b85encode(padded).translate(bytes.maketrans(_B85, _Z85)).decode()
    commit.write_text("\n".join(map(json.dumps, actions)))
    file.unlink()
    forget_checksums(table)


def compact_log(table: Path) -> None:
    """Add the compaction of commits 1 and 2: what the two leave, in one file beside them."""
    log = table / "_delta_log"
    lines = (log / f"{1:020}.json").read_text().splitlines() + (log / f"{2:020}.json").read_text().splitlines()
    kept = [line for line in lines if not line.startswith('{"commitInfo"')]
    (log / f"{1:020}.{2:020}.compacted.json").write_text("\n".join(kept))


def leave_strays(table: Path) -> None:
    """Add data files that no commit names: of a writer that failed, and of changes."""
    stray = pa.table({"id": pa.array([77], pa.int32()), "s": ["stray"]})
    (table / "_change_data").mkdir(exist_ok=True)
    pq.write_table(stray, table / "part-00099-stray.snappy.parquet")
    pq.write_table(stray, table / "_change_data" / "cdc-00099-stray.snappy.parquet")


MANY_COMMITS = (
    "INSERT INTO $t VALUES (0, 'x'), (1, NULL)",
    "INSERT INTO $t VALUES (2, 'y'), (3, 'z'), (4, 'x')",
    "DELETE FROM $t WHERE id = 3",
    "INSERT INTO $t VALUES (5, 'w')",
)
MANY_ROWS = "SELECT * FROM VALUES (0, 'x'), (1, NULL), (2, 'y'), (4, 'x'), (5, 'w') AS v(id, s)"


def many(name: str, *properties: str, settings: Mapping[str, str] | None = None, marks: Sequence[str] = ()) -> Case:
    """Several commits with checkpoints, of which the log has kept only the newest ones."""
    return Case(
        name=name,
        make=[create("id int, s string", *properties), *MANY_COMMITS],
        rows=MANY_ROWS,
        marks=marks,
        settings=settings or {},
        edit=forget_commits,
    )


V2_FORMAT = "spark.databricks.delta.checkpointV2.topLevelFileFormat"

CASES: tuple[Case, ...] = (
    # ---- deletion vectors
    Case(
        name="dv_delete",
        folder="core",
        make=[create("id int, s string", VECTORS), TEN, "DELETE FROM $t WHERE id IN (0, 9)"],
        rows=numbered(1, 9),
        marks=['"deletionVector":{"storageType":"u"'],
    ),
    Case(
        name="dv_inline",
        folder="core",
        make=[create("id int, s string", VECTORS), TEN, "DELETE FROM $t WHERE id IN (0, 9)"],
        rows=numbered(1, 9),
        marks=['"storageType": "i"'],
        edit=inline_vector,
    ),
    Case(
        name="dv_update",
        make=[create("id int, s string", VECTORS), TEN, "UPDATE $t SET s = NULL WHERE id > 7"],
        rows=numbered(0, 10, "if(id IN (0, 8, 9), NULL, concat('v', id))"),
        marks=['"deletionVector":{', '"operation":"UPDATE"'],
    ),
    Case(
        name="dv_merge",
        make=[
            create("id int, s string", VECTORS),
            TEN,
            (
                "MERGE INTO $t t USING (SELECT * FROM VALUES (1, 'm'), (2, NULL), (20, 'new') AS v(id, s)) v"
                " ON t.id = v.id"
                " WHEN MATCHED AND v.s IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET s = v.s"
                " WHEN NOT MATCHED THEN INSERT *"
            ),
        ],
        rows=numbered(3, 10) + " UNION ALL SELECT * FROM VALUES (0, NULL), (1, 'm'), (20, 'new')",
        marks=['"deletionVector":{', '"operation":"MERGE"'],
    ),
    Case(
        name="dv_purged",
        make=[
            create("id int, s string", VECTORS),
            TEN,
            "DELETE FROM $t WHERE id = 4",
            "REORG TABLE $t APPLY (PURGE)",
        ],
        rows=numbered(0, 4) + " UNION ALL " + numbered(5, 10),
        marks=['"operation":"REORG"'],
    ),
    Case(
        name="dv_optimized",
        make=[
            create("id int, s string", VECTORS),
            TEN,
            "INSERT INTO $t VALUES (10, 'more')",
            "DELETE FROM $t WHERE id = 4",
            "OPTIMIZE $t",
        ],
        rows=numbered(0, 4) + " UNION ALL " + numbered(5, 10) + " UNION ALL SELECT 10, 'more'",
        marks=['"operation":"OPTIMIZE"'],
    ),
    Case(
        name="dv_in_checkpoint",
        make=[
            create("id int, s string", VECTORS, "delta.checkpointInterval=2"),
            TEN,
            "DELETE FROM $t WHERE id = 4",
            "DELETE FROM $t WHERE id = 5",
        ],
        rows=numbered(0, 4) + " UNION ALL " + numbered(6, 10),
        edit=forget_commits,
    ),
    # ---- column mapping
    *(
        Case(
            name=f"mapped_{mode}",
            folder="core",
            make=[
                create(
                    "id int, b string, st struct<x:int,y:string>, p string",
                    f"delta.columnMapping.mode={mode}",
                    tail="PARTITIONED BY (p)",
                ),
                "INSERT INTO $t VALUES (100, 'old', named_struct('x', 1, 'y', 'one'), 'u')",
                "ALTER TABLE $t RENAME COLUMN p TO q",
                "ALTER TABLE $t RENAME COLUMN st.x TO z",
                "ALTER TABLE $t DROP COLUMN b",
                "ALTER TABLE $t ADD COLUMN b string",
                "INSERT INTO $t (id, st, q, b) VALUES (2, named_struct('z', 2, 'y', 'two'), 'v', 'new')",
            ],
            rows="SELECT * FROM VALUES (100, named_struct('z', 1, 'y', 'one'), 'u', NULL),"
            " (2, named_struct('z', 2, 'y', 'two'), 'v', 'new') AS v(id, st, q, b)",
            marks=[f'"delta.columnMapping.mode":"{mode}"'],
        )
        for mode in ("name", "id")
    ),
    Case(
        name="mapped_later",
        make=[
            create("id int, a string, b string"),
            "INSERT INTO $t VALUES (1, 'a1', 'b1')",
            "ALTER TABLE $t SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
            "ALTER TABLE $t RENAME COLUMN a TO c",
            "ALTER TABLE $t RENAME COLUMN b TO a",
            "INSERT INTO $t VALUES (2, 'c2', 'a2')",
        ],
        rows="SELECT * FROM VALUES (1, 'a1', 'b1'), (2, 'c2', 'a2') AS v(id, c, a)",
        marks=['"delta.columnMapping.mode":"name"'],
    ),
    # ---- schemas that changed
    Case(
        name="widened",
        folder="core",
        make=[
            create(
                "id int, b tinyint, f float, m decimal(5,2), d date, x int, y int, ar array<int>,"
                " st struct<i:smallint>",
                "delta.enableTypeWidening=true",
                "delta.feature.timestampNtz=supported",
            ),
            (
                "INSERT INTO $t VALUES (1, 127, 3.4F, 123.45, date'2020-01-01', 2147483647, -3, array(1, NULL),"
                " named_struct('i', 7))"
            ),
            "ALTER TABLE $t ALTER COLUMN b TYPE int",
            "ALTER TABLE $t ALTER COLUMN b TYPE bigint",
            "ALTER TABLE $t ALTER COLUMN f TYPE double",
            "ALTER TABLE $t ALTER COLUMN m TYPE decimal(20,5)",
            "ALTER TABLE $t ALTER COLUMN d TYPE timestamp_ntz",
            "ALTER TABLE $t ALTER COLUMN x TYPE double",
            "ALTER TABLE $t ALTER COLUMN y TYPE decimal(20,2)",
            "ALTER TABLE $t ALTER COLUMN ar.element TYPE bigint",
            "ALTER TABLE $t ALTER COLUMN st.i TYPE bigint",
            (
                "INSERT INTO $t VALUES (2, 9007199254740993, 0.1D, 123456789012345.54321,"
                " timestamp_ntz'2020-01-01 12:00:00.5', 0.5D, 123456789012345678.25, array(9007199254740993),"
                " named_struct('i', 9007199254740993))"
            ),
        ],
        rows="SELECT 1 AS id, 127L AS b, cast(3.4F AS double) AS f, cast(123.45 AS decimal(20,5)) AS m,"
        " timestamp_ntz'2020-01-01 00:00:00' AS d, 2147483647D AS x, cast(-3 AS decimal(20,2)) AS y,"
        " array(1L, NULL) AS ar, named_struct('i', 7L) AS st UNION ALL"
        " SELECT 2, 9007199254740993, 0.1D, 123456789012345.54321, timestamp_ntz'2020-01-01 12:00:00.5', 0.5D,"
        " 123456789012345678.25, array(9007199254740993), named_struct('i', 9007199254740993)",
        marks=['"typeWidening"', "delta.typeChanges"],
    ),
    Case(
        name="evolved",
        make=[
            create("id int, st struct<x:int>"),
            "INSERT INTO $t VALUES (1, named_struct('x', 1)), (2, NULL)",
            "ALTER TABLE $t ADD COLUMNS (late string FIRST, st.y string)",
            "INSERT INTO $t VALUES ('three', 3, named_struct('x', NULL, 'y', 'why'))",
        ],
        rows="SELECT * FROM VALUES (NULL, 1, named_struct('x', 1, 'y', cast(NULL AS string))), (NULL, 2, NULL),"
        " ('three', 3, named_struct('x', NULL, 'y', 'why')) AS v(late, id, st)",
    ),
    Case(
        name="evolved_in_list",
        folder="core",
        make=[
            create("id int, ar array<struct<x:int>>"),
            "INSERT INTO $t VALUES (1, array(named_struct('x', 1)))",
            "ALTER TABLE $t ADD COLUMNS (ar.element.y string)",
            "INSERT INTO $t VALUES (3, array(named_struct('x', NULL, 'y', 'why')))",
        ],
        rows="SELECT * FROM VALUES (1, array(named_struct('x', 1, 'y', cast(NULL AS string)))),"
        " (3, array(named_struct('x', NULL, 'y', 'why'))) AS v(id, ar)",
    ),
    # ---- columns that are computed or constrained
    Case(
        name="generated",
        make=[
            create("id int, twice int GENERATED ALWAYS AS (id * 2)"),
            "INSERT INTO $t (id) VALUES (1), (21)",
        ],
        rows="SELECT * FROM VALUES (1, 2), (21, 42) AS v(id, twice)",
        marks=["delta.generationExpression"],
    ),
    Case(
        name="identity",
        make=[
            create("n bigint GENERATED ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 5), id int"),
            "INSERT INTO $t (id) SELECT cast(id AS int) FROM range(1, 2, 1, 1)",
        ],
        rows="SELECT 5L AS n, 1 AS id",
        marks=["delta.identity.highWaterMark"],
    ),
    Case(
        name="constrained",
        make=[
            create("id int NOT NULL, s string", "delta.constraints.positive=id > 0"),
            "INSERT INTO $t VALUES (1, NULL), (2, 'x')",
        ],
        rows="SELECT * FROM VALUES (1, NULL), (2, 'x') AS v(id, s)",
        marks=["delta.constraints.positive"],
    ),
    Case(
        name="defaults",
        make=[
            create("id int, s string DEFAULT 'd'", "delta.feature.allowColumnDefaults=supported"),
            "INSERT INTO $t (id) VALUES (1)",
            "INSERT INTO $t VALUES (2, NULL)",
            "ALTER TABLE $t ADD COLUMN late int",
            "ALTER TABLE $t ALTER COLUMN late SET DEFAULT 7",
            "INSERT INTO $t (id) VALUES (3)",
        ],
        rows="SELECT * FROM VALUES (1, 'd', NULL), (2, NULL, NULL), (3, 'd', 7) AS v(id, s, late)",
        marks=["CURRENT_DEFAULT"],
    ),
    # ---- texts
    Case(
        name="char_varchar",
        folder="core",
        make=[
            create("id int, c char(5), v varchar(5)"),
            "INSERT INTO $t VALUES (1, 'ab', 'ab'), (2, NULL, 'ab  '), (3, 'ab   ', '')",
        ],
        rows="SELECT * FROM VALUES (1, 'ab', 'ab'), (2, NULL, 'ab  '), (3, 'ab   ', '') AS x(id, c, v)",
        marks=["__CHAR_VARCHAR_TYPE_STRING"],
        settings={"spark.sql.readSideCharPadding": "false"},
    ),
    Case(
        name="collated",
        folder="core",
        make=[
            create("id int, s string COLLATE UTF8_LCASE, n string"),
            "INSERT INTO $t VALUES (1, 'b', 'x'), (2, 'A', 'x'), (3, NULL, NULL)",
        ],
        rows="SELECT * FROM VALUES (1, 'b', 'x'), (2, 'A', 'x'), (3, NULL, NULL) AS x(id, s, n)",
        marks=["UTF8_LCASE"],
        settings={"spark.databricks.delta.schema.typeCheck.enabled": "false"},
    ),
    # ---- partitions
    Case(
        name="partitioned",
        folder="core",
        make=[
            create(
                "id int, s string, i int, l bigint, h smallint, b tinyint, d date, n timestamp_ntz, o boolean,"
                " m decimal(10,2), f float, g double",
                tail="PARTITIONED BY (s, i, l, h, b, d, n, o, m, f, g)",
            ),
            (
                "INSERT INTO $t VALUES (1, 'a b%20/é:=#x', 7, 9007199254740993, -3, 4, date'2020-02-29',"
                " timestamp_ntz'1999-12-31 23:59:59.5', true, 1.50, 3.4F, 0.1D),"
                " (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
                " (3, '+[*]\\'\"', -7, -1, 3, -4, date'0001-01-01', timestamp_ntz'1500-01-01 00:00:00', false, -1.50,"
                " -0.0F, double('Infinity')),"
                " (4, 'null', 0, 0, 0, 0, date'9999-12-31', timestamp_ntz'9999-12-31 00:00:00', false, 0,"
                " float('NaN'), 1e300D)"
            ),
        ],
        rows="SELECT * FROM VALUES (1, 'a b%20/é:=#x', 7, 9007199254740993, -3S, 4Y, date'2020-02-29',"
        " timestamp_ntz'1999-12-31 23:59:59.5', true, 1.50, 3.4F, 0.1D),"
        " (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
        " (3, '+[*]\\'\"', -7, -1L, 3S, -4Y, date'0001-01-01', timestamp_ntz'1500-01-01 00:00:00', false, -1.50,"
        " 0.0F, double('Infinity')),"
        " (4, 'null', 0, 0L, 0S, 0Y, date'9999-12-31', timestamp_ntz'9999-12-31 00:00:00', false, 0.00,"
        " float('NaN'), 1e300D) AS v(id, s, i, l, h, b, d, n, o, m, f, g)",
    ),
    Case(
        name="partitioned_instant",
        make=[
            create("id int, p timestamp", tail="PARTITIONED BY (p)"),
            (
                "INSERT INTO $t VALUES (1, timestamp'2020-01-01 00:00:00.123456+00:00'), (2, NULL),"
                " (3, timestamp'1500-01-01 00:00:00+00:00')"
            ),
        ],
        rows="SELECT * FROM VALUES (1, timestamp'2020-01-01 00:00:00.123456+00:00'), (2, NULL),"
        " (3, timestamp'1500-01-01 00:00:00+00:00') AS v(id, p)",
        marks=["2020-01-01T00:00:00.123456Z"],
        settings={"spark.sql.session.timeZone": "America/New_York"},
    ),
    Case(
        name="partition_in_files",
        make=[
            create(
                "id int, p string",
                "delta.feature.materializePartitionColumns=supported",
                "delta.enableMaterializePartitionColumnsFeature=true",
                tail="PARTITIONED BY (p)",
            ),
            "INSERT INTO $t VALUES (1, 'a'), (2, NULL)",
        ],
        rows="SELECT * FROM VALUES (1, 'a'), (2, NULL) AS v(id, p)",
        marks=["materializePartitionColumns"],
    ),
    # ---- logs
    many("classic_checkpoint", "delta.checkpointInterval=2"),
    many(
        "multi_part_checkpoint",
        "delta.checkpointInterval=4",
        settings={"spark.databricks.delta.checkpoint.partSize": "2"},
    ),
    many(
        "struct_statistics",
        "delta.checkpointInterval=2",
        "delta.checkpoint.writeStatsAsStruct=true",
        "delta.checkpoint.writeStatsAsJson=false",
    ),
    *(
        many(
            f"v2_checkpoint_{form}",
            "delta.checkpointPolicy=v2",
            "delta.checkpointInterval=2",
            VECTORS,
            settings={V2_FORMAT: form},
        )
        for form in ("json", "parquet")
    ),
    Case(
        name="compacted_log",
        make=[create("id int, s string"), *MANY_COMMITS],
        rows=MANY_ROWS,
        edit=compact_log,
    ),
    Case(
        name="in_commit_timestamps",
        make=[create("id int, s string", "delta.enableInCommitTimestamps=true"), TEN],
        rows=numbered(0, 10),
        marks=["inCommitTimestamp"],
    ),
    Case(
        name="row_tracking",
        make=[
            create("id int, s string", "delta.enableRowTracking=true"),
            TEN,
            "UPDATE $t SET s = 'new' WHERE id = 3",
            "OPTIMIZE $t",
        ],
        rows=numbered(0, 10, "if(id = 3, 'new', nullif(concat('v', id), 'v0'))"),
        marks=["baseRowId"],
    ),
    Case(
        name="clustered",
        make=[
            create("id int, s string", tail="CLUSTER BY (s)"),
            TEN,
            "INSERT INTO $t VALUES (10, 'more')",
            "OPTIMIZE $t",
        ],
        rows=numbered(0, 10) + " UNION ALL SELECT 10, 'more'",
        marks=["clusteringColumns"],
    ),
    Case(
        name="restored",
        make=[
            create("id int, s string"),
            "INSERT INTO $t VALUES (1, 'a')",
            "INSERT INTO $t VALUES (2, 'b')",
            "DELETE FROM $t WHERE id = 1",
            "INSERT INTO $t VALUES (3, 'c')",
            "RESTORE TABLE $t TO VERSION AS OF 2",
        ],
        rows="SELECT * FROM VALUES (1, 'a'), (2, 'b') AS v(id, s)",
        marks=['"operation":"RESTORE"'],
    ),
    Case(
        name="overwritten_and_vacuumed",
        make=[
            create("id int, s string", "delta.checkpointInterval=2", "delta.feature.vacuumProtocolCheck=supported"),
            TEN,
            "INSERT OVERWRITE $t VALUES (1, 'only'), (2, 'these')",
            "VACUUM $t RETAIN 0 HOURS",
        ],
        rows="SELECT * FROM VALUES (1, 'only'), (2, 'these') AS v(id, s)",
        marks=["vacuumProtocolCheck", '"operation":"VACUUM END"'],
        settings={"spark.databricks.delta.retentionDurationCheck.enabled": "false"},
    ),
    Case(
        name="append_only",
        make=[create("id int, s string", "delta.appendOnly=true"), TEN],
        rows=numbered(0, 10),
        marks=["delta.appendOnly"],
        edit=leave_strays,
    ),
    Case(
        name="change_data_feed",
        make=[
            create("id int, s string", "delta.enableChangeDataFeed=true"),
            TEN,
            "UPDATE $t SET s = 'new' WHERE id = 3",
            "DELETE FROM $t WHERE id = 9",
        ],
        rows=numbered(0, 9, "if(id = 3, 'new', nullif(concat('v', id), 'v0'))"),
        marks=['"cdc":{'],
    ),
    # ---- clones
    Case(
        name="clone_source",
        folder="core",
        make=[
            create("id int, s string", VECTORS),
            TEN,
            "DELETE FROM $t WHERE id = 0",
            "CREATE TABLE delta.`$folder/clone_kept/t` SHALLOW CLONE $t",
            "CREATE TABLE delta.`$folder/clone_changed/t` SHALLOW CLONE $t",
            "DELETE FROM $t WHERE id = 1",
            "DELETE FROM delta.`$folder/clone_changed/t` WHERE id = 2",
            "INSERT INTO delta.`$folder/clone_changed/t` VALUES (100, 'own')",
        ],
        rows=numbered(2, 10),
    ),
    Case(
        name="clone_kept",
        folder="core",
        make=[],
        rows=numbered(1, 10),
        marks=['"operation":"CLONE"', '"storageType":"p"'],
    ),
    Case(
        name="clone_changed",
        folder="core",
        make=[],
        rows=numbered(3, 10) + " UNION ALL SELECT * FROM VALUES (1, 'v1'), (100, 'own')",
        marks=['"operation":"CLONE"'],
    ),
)


UNREAD: tuple[tuple[Case, str], ...] = (
    (Case(name="variant", folder="unread", make=[create("id int, v variant")]), "variant"),
    (
        Case(
            name="zoneless_partition",
            folder="unread",
            make=[
                create("id int, p timestamp", tail="PARTITIONED BY (p)"),
                "INSERT INTO $t VALUES (1, timestamp'2020-01-01 00:00:00+00:00')",
            ],
            marks=['"p":"2019-12-31 19:00:00"'],
            settings={
                "spark.sql.session.timeZone": "America/New_York",
                "spark.databricks.delta.write.utcTimestampPartitionValues": "false",
            },
        ),
        "partition value",
    ),
    (
        Case(
            name="binary_partition",
            folder="unread",
            make=[create("id int, p binary", tail="PARTITIONED BY (p)"), "INSERT INTO $t VALUES (1, X'61')"],
        ),
        "partition value",
    ),
)
"""Tables that end as unsupported, with a part of the reason."""


# ---- histories drawn at random

_TEXTS = (None, "", "a", "é\U0010ffff", "z" * 40, "\U0010ffff" * 40, "it's \\ %")
_DOUBLES = (None, 0.0, -0.0, 1.5, -3.4, 1e300, float("nan"), float("inf"))
_LONGS = (None, 0, -1, 2**53 + 1, -(2**63), 2**63 - 1)
_DRAWN_COLUMNS = "id int, n bigint, s string, d double, p string"
_Drawn = tuple[int, int | None, str | None, float | None, str | None]


def drawn_case(seed: int) -> Case:
    """A table after random statements, whose rows are followed in Python."""
    draw = random.Random(seed)
    properties = [text for text in (VECTORS, "delta.columnMapping.mode=name") if draw.random() < 0.5]
    tail = draw.choice(["", "PARTITIONED BY (p)"])
    make, rows = [create(_DRAWN_COLUMNS, *properties, tail=tail)], list[_Drawn]()
    for step in range(5):
        kind = "insert" if step in (0, 2) else draw.choice(["delete", "update", "optimize"])
        statement, rows = _drawn_step(draw, kind, rows)
        make.append(statement)
    return Case(name=f"drawn_{seed}", make=make, rows=_values(rows))


def _drawn_step(draw: random.Random, kind: str, rows: list[_Drawn]) -> tuple[str, list[_Drawn]]:
    modulus = draw.randint(2, 4)
    if kind == "insert":
        first = len(rows) and max(row[0] for row in rows) + 1
        new = [_drawn_row(draw, number) for number in range(first, first + draw.randint(2, 5))]
        return f"INSERT INTO $t {_values(new)}", rows + new
    if kind == "delete":
        return f"DELETE FROM $t WHERE id % {modulus} = 1", [row for row in rows if row[0] % modulus != 1]
    if kind == "update":
        s = draw.choice(_TEXTS)
        changed = [(i, None, s, d, p) if i % modulus == 0 else (i, n, old, d, p) for i, n, old, d, p in rows]
        return f"UPDATE $t SET s = {_literal(s)}, n = NULL WHERE id % {modulus} = 0", changed
    return "OPTIMIZE $t", rows


def _drawn_row(draw: random.Random, number: int) -> _Drawn:
    partition = draw.choice([None, "x", "y=/ é"])
    return number, draw.choice(_LONGS), draw.choice(_TEXTS), draw.choice(_DOUBLES), partition


def _values(rows: Sequence[_Drawn]) -> str:
    texts = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
    names = [column.split() for column in _DRAWN_COLUMNS.split(", ")]
    casts = ", ".join(f"CAST({name} AS {dtype}) AS {name}" for name, dtype in names)
    return f"SELECT /*+ COALESCE(1) */ {casts} FROM VALUES {texts} AS v({', '.join(name for name, _ in names)})"


def _literal(value: float | str | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"double('{value}')" if isinstance(value, float) else f"{value}BD"


DRAWN = tuple(drawn_case(seed) for seed in range(3))
READ = (*CASES, *DRAWN)


# ---- making them


@dataclass(frozen=True, kw_only=True)
class MadeLake:
    """What became of the cases.

    Attributes:
        wrong: By case, an error, or that Spark itself reads other rows than the case says.
        rows: By case and uri of a data file, its live rows as Spark reads them.
    """

    wrong: dict[str, str]
    rows: dict[str, dict[str, list[Row]]]


def make_lake(lake: str) -> MadeLake:
    """Make the tables of all cases with Spark, in a process of its own, and Parquet files of their rows beside them."""
    unread = [case for case, _ in UNREAD]
    made = MadeLake(wrong={}, rows={})
    with classic_engine() as engine, ThreadPoolExecutor(_MAKER_THREADS) as pool:
        for task, cases in ((_make, (*READ, *unread)), (_check, READ)):
            for case, running in [(case, pool.submit(task, engine.spark, lake, case, made)) for case in cases]:
                if error := running.exception():
                    made.wrong.setdefault(case.name, str(error)[:500])
    return made


def _make(spark: Any, lake: str, case: Case, _: MadeLake) -> None:
    session = _session(spark, case)
    folder = f"{lake}/{case.folder}"
    for statement in case.make:
        table = f"delta.`{folder}/{case.name}/{TABLE}`"
        session.sql(statement.replace("$folder", folder).replace("$t", table)).collect()


def _check(spark: Any, lake: str, case: Case, made: MadeLake) -> None:
    folder = Path(lake) / case.folder / case.name
    if case.edit is not None:
        case.edit(folder / TABLE)
    session = _session(spark, case)
    rows = session.sql(case.rows).toArrow()
    write_copies(folder, rows)
    by_file = made.rows[case.name] = spark_rows(session, folder / TABLE)
    read = pa.Table.from_pylist([row for found in by_file.values() for row in found], rows.schema)
    if counted(read) != counted(rows):
        made.wrong[case.name] = f"Spark reads other rows: {read.to_pylist()}"


def _session(spark: Any, case: Case) -> Any:
    session = spark.newSession()
    for name, value in (QUICK_SPARK | dict(case.settings)).items():
        session.conf.set(name, value)
    return session


def counted(table: pa.Table, names: Sequence[str] | None = None) -> Counter[tuple[Any, ...]]:
    """Rows of a table, each with how often it occurs; values of different type classes differ."""
    chosen = table.column_names if names is None else names
    columns = [[canonical(v) for v in table[n].to_pylist(maps_as_pydicts="strict")] for n in chosen]
    return Counter(zip(*columns, strict=True))


def canonical(value: Any) -> Any:
    """A value such that Python's equality is that of rows: numbers exactly, NaN as itself, dates at their midnight."""
    if value is None or isinstance(value, str | bytes | Decimal):
        return value
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, dict):
        return "struct", *((name, canonical(part)) for name, part in value.items())
    if isinstance(value, list):
        return "array", *map(canonical, value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return "instant", value.astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return "clock", value if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())
    return ("NaN",) if value != value else value + 0


def write_copies(folder: Path, rows: pa.Table) -> None:
    """The rows as `copy.parquet`, without the first as `subset.parquet`, with another first id as `near.parquet`."""
    ids = rows["id"].to_pylist()
    changed = pa.array([ids[0] + 1000, *ids[1:]], rows.schema.field("id").type)
    place = rows.schema.get_field_index("id")
    pq.write_table(rows, folder / "copy.parquet")
    pq.write_table(rows.slice(1), folder / "subset.parquet")
    pq.write_table(rows.set_column(place, "id", changed), folder / "near.parquet")
