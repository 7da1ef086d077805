"""Fixtures that every test folder shares: the engines, a real lake, and tests that say why they did not run.

`--engine` chooses where the tests that ask for `engine` run. Each engine starts when its first test needs it and stops
after its last one, so only one runs at a time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

from r2d2.config import AuditConfig
from r2d2.errors import EngineError
from r2d2.session import Engine, delta_package, open_engine, spark_settings

if TYPE_CHECKING:
    from tests.integration.audit_helpers import RunInProcess

ENGINES = ("sail", "spark", "connect")
LOCAL_MASTER = "local[2]"
NOT_RUN = "not run: "
SERVER_START_SECONDS = 120
# A shared machine makes timings of single examples meaningless.
settings.register_profile("r2d2", deadline=None)
settings.load_profile("r2d2")
SHORT_LIVED_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Halves the processor time of Spark processes that live for minutes: most of it goes into compiling."""

_not_run: dict[str, set[str]] = defaultdict(set)


def not_run(reason: str) -> NoReturn:
    """Leave the test out for want of something on this machine; with `CI=true`, where nothing may want, fail it.

    Args:
        reason: What is missing and what to install or set; the run's last lines repeat it.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(NOT_RUN + reason, pytrace=False)
    pytest.skip(NOT_RUN + reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        default=os.environ.get("R2D2_TEST_ENGINE", "sail"),
        choices=(*ENGINES, "standard", "all"),
        help="engine of the tests that need one; standard: Sail, and Spark and Connect for tests marked core",
    )


def pytest_configure() -> None:
    os.environ.setdefault("JDK_JAVA_OPTIONS", SHORT_LIVED_JAVA)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that share a running engine, so that `-m` can choose them."""
    for item in items:
        if {"engine", "spark_process"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("engine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        core = metafunc.definition.get_closest_marker("core")
        chosen = _engines(metafunc.config.getoption("--engine"), core)
        metafunc.parametrize("engine", chosen, indirect=True, scope="session")


def _engines(option: str, core: pytest.Mark | None) -> tuple[str, ...]:
    if option != "standard":
        return ENGINES if option == "all" else (option,)
    return ("sail", *(core.args or ENGINES[1:])) if core else ("sail",)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    message = getattr(call.excinfo.value, "msg", None) if call.excinfo else None
    if isinstance(message, str) and message.startswith(NOT_RUN):
        _not_run[message].add(item.nodeid)
    return (yield)


def pytest_unconfigure() -> None:
    """Say last of all, after the counts, what did not run and why; a caller of several runs gets it in a file."""
    lines = []
    for message, tests in sorted(_not_run.items()):
        files = sorted({test.split("::")[0] for test in tests})
        lines.append(f"{message} [{len(tests)} tests of {', '.join(files)}]\n")
    _not_run.clear()
    if path := os.environ.get("R2D2_NOT_RUN"):
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(lines)
    else:
        sys.stdout.writelines(lines)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A running engine; the test runs once on each engine that `--engine` chooses."""
    name = request.param
    _send_test_modules_along(request.session)
    if name != "sail":
        _java()
        _need_jars()
    with contextlib.ExitStack() as stack:
        if name == "connect":
            url = stack.enter_context(connect_server(tmp_path_factory.mktemp("connect")))
            config = AuditConfig(lake="unused", out="unused", engine=url)
        else:
            master = LOCAL_MASTER if name == "spark" else None
            config = AuditConfig(lake="unused", out="unused", engine=name, master=master)
        yield stack.enter_context(_open(config))


def _send_test_modules_along(session: pytest.Session) -> None:
    """Workers cannot import test modules, so the functions of these travel whole."""
    from pyspark import cloudpickle

    for module in {item.module for item in session.items if isinstance(item, pytest.Function)}:
        cloudpickle.register_pickle_by_value(module)


def _open(config: AuditConfig) -> Engine:
    try:
        return open_engine(config)
    except EngineError as exc:
        if "Delta jars" in str(exc):
            not_run(str(exc))
        raise


@pytest.fixture(scope="session")
def spark_process() -> Iterator[RunInProcess]:
    """Runs functions in one other process, which keeps one classic Spark session for those that make tables with it."""
    from tests.integration.audit_helpers import own_process

    _java()
    _need_jars()
    with own_process(keeps_spark=True) as run:
        yield run


@pytest.fixture(scope="session")
def java() -> str:
    """Path of a Java that runs Spark, for tests that start Spark themselves."""
    return _java()


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(os.path.join(home, "bin", "java") if home else "java")
    if found is None:
        not_run("no Java was found; install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)")
    if _java_version(found) < 17:
        not_run("the Java found is too old; install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)")
    return found


@functools.cache
def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    return int(re.split(r"[.\-+]", said.split('"')[1])[0])


def _need_jars() -> None:
    if "R2D2_NO_JARS" in os.environ:  # the test script tried to fetch them
        not_run(f"the Delta jars ({delta_package()}) could not be fetched; run `make test` once with network access")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("spark") is not None or item.get_closest_marker("java") is not None:
        _java()
        _need_jars()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium or Chrome, for tests of the report as a person sees it."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    not_run("no Chromium was found; install it (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def open_data() -> Path:
    """Folder of a real lake with its truth."""
    folder = os.environ.get("R2D2_OPEN_DATA")
    if not folder:
        not_run("set R2D2_OPEN_DATA to a folder with a real lake and its truth.csv")
    if not (Path(folder) / "truth.csv").is_file():
        not_run(
            f"R2D2_OPEN_DATA is {folder}, which has no truth.csv; set it to a folder with a real lake and its truth"
        )
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def connect_url(java: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Spark Connect server in a process of its own, for tests that open their own sessions."""
    with connect_server(tmp_path_factory.mktemp("connect")) as url:
        yield url


@contextlib.contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """Run a Spark Connect server until the block ends, and yield its URL."""
    port = _free_port()
    words = folder / "server.log"
    with words.open("wb") as stderr:
        server = subprocess.Popen(
            _server_command(port),
            stdout=stderr,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | {"PYSPARK_PYTHON": sys.executable},  # else its workers run any python3 of PATH
        )
        try:
            _wait_for_server(server, port, words)
            yield f"sc://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _server_command(port: int) -> list[str]:
    import pyspark

    settings = spark_settings(LOCAL_MASTER) | {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    command = [str(Path(pyspark.__path__[0]) / "bin" / "spark-submit"), "--master", LOCAL_MASTER]
    for key, value in settings.items():
        command += ["--conf", f"{key}={value}"]
    return [*command, "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]


def _wait_for_server(server: subprocess.Popen[bytes], port: int, words: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.2)
    text = words.read_text(errors="replace")
    if "unresolved dependency" in text:
        not_run(f"the Delta jars ({delta_package()}) could not be fetched; run `make test` once with network access")
    pytest.fail(
        f"the Spark Connect server did not start within {SERVER_START_SECONDS} s: {text[-2000:]}", pytrace=False
    )
