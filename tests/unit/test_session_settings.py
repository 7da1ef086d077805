"""Settings of Spark: the user's win, and a cluster is as large as what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.errors import PySparkException

from r2d2.errors import EngineError
from r2d2.session import _joined, _setting, _tasks_at_once, _user_settings, engine_errors


def test_what_an_engine_says_is_kept_only_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    for kept in (False, True):
        if kept:
            monkeypatch.setenv("R2D2_ENGINE_LOG", str(log))
        with pytest.raises(EngineError, match="a job of the audit failed") as told, engine_errors():
            raise PySparkException("row with a secret")
        assert "secret" not in str(told.value)
        assert log.exists() == kept
    assert log.read_text() == "row with a secret\n"


NAMES = st.from_regex(r"spark\.[a-zA-Z.]{1,20}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9_/.,:=-]{0,20}", fullmatch=True).filter(lambda text: text[:1] not in {"=", ":"})


@given(name=NAMES, value=VALUES, between=st.sampled_from([" ", "\t", "=", ":", " = ", "   "]))
def test_a_setting_is_read_from_any_form_of_a_line(name: str, value: str, between: str) -> None:
    assert _setting(name + between + value) == (name, value)


def test_settings_come_from_the_file_and_the_arguments_which_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["# spark.comment 1", "", "spark.ui.enabled true", "spark.both=file", "  spark.jars.packages  a:b:1"]
    (tmp_path / "spark-defaults.conf").write_text("\n".join(lines))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.both=arguments --conf 'spark.text=a b' pyspark-shell")
    assert _user_settings() == {
        "spark.ui.enabled": "true",
        "spark.jars.packages": "a:b:1",
        "spark.both": "arguments",
        "spark.text": "a b",
    }


def test_without_a_file_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    assert _user_settings() == {}


@pytest.mark.parametrize(
    ("theirs", "ours", "joined"),
    [(None, "x", "x"), ("", "x", "x"), ("a, b", "x", "a,b,x"), ("x,a", "x", "x,a")],
)
def test_lists_hold_the_users_and_ours_once(theirs: str | None, ours: str, joined: str) -> None:
    assert _joined(theirs, ours) == joined


@pytest.mark.parametrize(
    ("master", "settings", "registered", "tasks"),
    [
        ("local[8]", {}, 8, 8),
        ("local[2]", {"spark.cores.max": "64"}, 2, 2),
        ("spark://h:7077", {}, 2, 2),
        ("spark://h:7077", {"spark.cores.max": "64"}, 2, 64),
        ("yarn", {"spark.executor.instances": "10", "spark.executor.cores": "4"}, 2, 40),
        ("yarn", {"spark.executor.instances": "10"}, 24, 24),
        ("spark://h:7077", {"spark.cores.max": "64", "spark.default.parallelism": "5"}, 5, 5),
    ],
)
def test_a_cluster_counts_the_executors_that_are_still_to_come(
    master: str, settings: dict[str, str], registered: int, tasks: int
) -> None:
    assert _tasks_at_once(master, settings, registered) == tasks
