"""Opens and closes the engine of an audit. The only module that builds a session or knows which engine runs.

The rest of the code gets a `SparkSession` and uses what works through Spark Connect. Imports of pyspark and pysail are
lazy: they cost a second that `r2d2 --help` need not wait for.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import itertools
import logging
import os
import platform
import re
import shlex
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from r2d2 import workers
from r2d2.config import AuditConfig
from r2d2.errors import EngineError

if TYPE_CHECKING:
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

EngineName = Literal["sail", "spark", "connect"]

DELTA_VERSION = "4.4.0"
CONNECT_PORT = 15002
CONNECT_TIMEOUT_SECONDS = 5.0
ENGINE_LOG = "R2D2_ENGINE_LOG"
"""Environment variable with the path of a file that keeps what the Java process of Spark, and failed jobs, say."""

LEAST_WORKER_BYTES = 100 << 20
"""From lakes of this size on kernels get processes of their own, which take a second of processor time to start."""
WORKER_TABLE_BYTES = 100 << 10
"""A table takes as long as so many bytes more than it has."""

_SERVERS: set[str] = set()
"""Host and port of the servers that run in this process."""

_CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"
_TIME_ZONE = "spark.sql.session.timeZone"
_JOINED = {"spark.jars.packages", "spark.sql.extensions"}
"""Settings with lists, which take the user's and ours."""
_SAIL_STATISTICS = "SAIL_EXECUTION__COLLECT_STATISTICS"
"""With statistics Sail reads a column whose footer says minimum = maximum as that value, although NaN is neither."""


@dataclass(kw_only=True)
class Engine:
    """A running engine; leaving its `with` block stops what `open_engine` has started.

    Attributes:
        spark: The session, classic or Connect, its time zone UTC.
        name: `sail`, `spark` (classic) or `connect`.
        parallelism: Tasks that run at once, at least 1.
        versions: Versions of r2d2, python, pyspark, duckdb and, under its name, of the engine.
        workers_share_files: A local path written by the driver is visible to the workers.
        is_spark: It is Apache Spark itself, whose readers know what Sail's do not: dates of the legacy calendar, Delta
            files named by absolute path (as in a shallow clone), Delta columns whose type was widened.
        runs_here: It runs in this process, kernels in its threads.
    """

    spark: SparkSession
    name: EngineName
    parallelism: int
    versions: dict[str, str]
    workers_share_files: bool
    is_spark: bool = False
    runs_here: bool = False
    _cleanup: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def starts_all_tasks(self) -> bool:
        """Whether all tasks of a job run at once, however many: Sail queues none, and its server is one process."""
        return not self.is_spark

    @property
    def shuffles_in_memory(self) -> bool:
        """Whether a shuffle is held in memory, as by Sail; Spark writes its shuffles to disk."""
        return not self.is_spark

    def prepare(self, kernels: int, tables: int, stored_bytes: int) -> None:
        """Get ready for an audit: where kernels would be threads of this process, they get processes where that pays.

        Args:
            kernels: That run at once.
            tables: To be audited.
            stored_bytes: Of their files.
        """
        if self.runs_here and tables * WORKER_TABLE_BYTES + stored_bytes >= LEAST_WORKER_BYTES:
            workers.start(min(kernels, cpu_count()))

    def stop(self) -> None:
        """Stop the engine if it was started here; a session that was handed in only gets its settings back."""
        self._cleanup.close()

    @contextmanager
    def scratch_session(self) -> Iterator[SparkSession]:
        """Another session of the same engine, so that temporary views disturb nobody; it ends with the block."""
        if self.name == "spark":
            fresh = self.spark.newSession()
            fresh.conf.set(_TIME_ZONE, "UTC")
            yield fresh
            return
        from pyspark.sql.connect.session import SparkSession as ConnectSession

        client: Any = self.spark.client
        session: Any = ConnectSession.builder.channelBuilder(client._builder).create()
        try:
            session.conf.set(_TIME_ZONE, "UTC")
            yield session
        finally:
            _stop_connect_session(session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def open_engine(config: AuditConfig, spark: SparkSession | None = None) -> Engine:
    """Start the configured engine, connect to it, or adopt a session.

    Args:
        config: `engine` and `master` choose.
        spark: A session to use as it is, whatever the configuration says; it is never stopped.

    Returns:
        The engine; the caller stops it.

    Raises:
        EngineError: If it cannot be started or reached; the message says what to do.
    """
    with ExitStack() as cleanup:
        if spark is not None:
            engine = _adopt(spark, cleanup)
        elif config.engine == "sail":
            engine = _open_sail(cleanup)
        elif config.engine == "spark":
            engine = _open_spark(config.master, cleanup)
        else:
            engine = _open_connect(config.engine, cleanup)
    log.info("engine %s with %d tasks at once", engine.name, engine.parallelism)
    return engine


def union_all(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of some frames, at least one, of equal columns.

    As a balanced tree: engines plan a chain of hundreds of unions by recursion, which costs Sail its stack and ends
    the process.
    """
    if len(frames) == 1:
        return frames[0]
    middle = len(frames) // 2
    return union_all(frames[:middle]).unionAll(union_all(frames[middle:]))


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the failure of a job into an EngineError that quotes nothing but R2D2's own words.

    Raises:
        EngineError: Instead of what pyspark raises, whose text may hold values of rows.
    """
    from pyspark.errors import PySparkException

    try:
        with pyspark_errors():
            yield
    except PySparkException as exc:
        _keep_words(exc)
        words = (
            f"a job of the audit failed ({type(exc).__name__}); set {ENGINE_LOG} to a file path to keep what it says"
        )
        raise EngineError(own_words(exc) or words) from None


def _keep_words(exc: PySparkException) -> None:
    """Add what the engine says of a failed job to the log that was asked for, which may hold values."""
    if path := os.environ.get(ENGINE_LOG):
        with suppress(OSError), open(path, "a", encoding="utf-8") as log:
            log.write(f"{exc}\n")


def own_words(exc: BaseException) -> str:
    """What an EngineError said that a kernel has raised, from the engine's own error; empty for any other."""
    found = re.search(r"\bEngineError: ([^\n]+)", str(exc))
    return found.group(1) if found else ""


@contextmanager
def pyspark_errors() -> Iterator[None]:
    """Turn what classic Spark raises as it came from Java, a vanished file say, into pyspark's own kind of error.

    Raises:
        PySparkException: Instead of py4j's error, whose text is dropped.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except Exception as exc:
        if not type(exc).__module__.startswith("py4j."):
            raise
        raise PySparkException(f"a job failed in Java ({type(exc).__name__})") from None


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_sail(cleanup: ExitStack) -> Engine:
    parallelism = int(os.environ.get("SAIL_EXECUTION__DEFAULT_PARALLELISM", "0")) or cpu_count()
    server = _start_sail_server(parallelism)
    cleanup.callback(server.stop)  # also keeps the server alive: once collected, its clients retry for ten minutes
    host, port = server.listening_address
    cleanup.callback(_forget_server, f"{host}:{port}")
    _SERVERS.add(f"{host}:{port}")
    session = _connect_session(f"sc://{host}:{port}", cleanup)
    session.conf.set(_TIME_ZONE, "UTC")
    return Engine(
        spark=session,
        name="sail",
        parallelism=parallelism,
        versions=_versions("sail", importlib.metadata.version("pysail")),
        workers_share_files=True,
        runs_here=True,
        _cleanup=cleanup.pop_all(),
    )


def _forget_server(endpoint: str) -> None:
    """Workers end with the last server of this process."""
    _SERVERS.discard(endpoint)
    if not _SERVERS:
        workers.close()


def _start_sail_server(parallelism: int) -> Any:
    defaults = {"RUST_LOG": "off", "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(parallelism)}
    with ExitStack() as environment:
        for name, value in defaults.items():
            _set_environment(name, os.environ.get(name, value), environment)
        _set_environment(_SAIL_STATISTICS, "false", environment)
        try:
            from pysail.spark import SparkConnectServer

            server = SparkConnectServer(ip="127.0.0.1", port=0)
            server.start(background=True)
        except (ImportError, OSError, RuntimeError, ValueError) as exc:
            raise EngineError(f"Sail could not be started ({type(exc).__name__}); try --engine spark") from exc
    return server


def _open_connect(url: str, cleanup: ExitStack) -> Engine:
    address = urlsplit(url)
    host, port = address.hostname, address.port or CONNECT_PORT
    if host is None:
        raise EngineError("the Spark Connect URL names no host; expected sc://host:port")
    _check_reachable(host, port)
    session = _connect_session(url, cleanup)
    _check_answers(session, f"{host}:{port}")
    session.conf.set(_TIME_ZONE, "UTC")
    return _connect_engine(session, _is_this_machine(host), cleanup)


def _connect_engine(session: Any, shares_files: bool, cleanup: ExitStack, *, runs_here: bool = False) -> Engine:
    is_spark = _is_apache_spark(session)
    return Engine(
        spark=session,
        name="connect",
        parallelism=_tasks_of_server(session, is_spark=is_spark),
        versions=_versions("connect", session.version),
        workers_share_files=shares_files,
        is_spark=is_spark,
        runs_here=runs_here,
        _cleanup=cleanup.pop_all(),
    )


def _is_apache_spark(session: Any) -> bool:
    """Whether Apache Spark answers behind Spark Connect: other servers claim its version, and say their own in SQL."""
    ((version,),) = session.sql("SELECT version()").collect()
    return str(version).startswith(str(session.version))


def _connect_session(url: str, cleanup: ExitStack) -> Any:
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    _set_environment(_CONNECT_MODE, "1", cleanup)  # pyspark's functions build Connect columns only with this
    try:
        session = ConnectSession.builder.remote(url).create()
    except PySparkException as exc:  # the URL may hold a token, and the exception the URL
        raise EngineError(
            f"the Spark Connect URL is not valid ({type(exc).__name__}); expected sc://host:port"
        ) from None
    cleanup.callback(_stop_connect_session, session)
    return session


def _stop_connect_session(session: Any) -> None:
    with _few_retries(session):
        session.stop()


def _check_reachable(host: str, port: int) -> None:
    """Fail at once where nobody listens; pyspark itself would retry for ten minutes."""
    if any(name.lower() in ("http_proxy", "https_proxy", "grpc_proxy") for name in os.environ):
        return  # gRPC goes through the proxy, a plain connection would not
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_SECONDS).close()
    except OSError as exc:
        raise _unreachable(f"{host}:{port}", exc) from exc


def _check_answers(session: Any, where: str) -> None:
    import grpc
    from pyspark.errors import PySparkException

    try:
        with _few_retries(session):
            _ = session.version
    except (PySparkException, grpc.RpcError) as exc:
        raise _unreachable(where, exc) from None


def _unreachable(where: str, exc: Exception) -> EngineError:
    return EngineError(
        f"no Spark Connect server answers at {where} ({type(exc).__name__}); "
        "check host, port and token, and that the server runs"
    )


@contextmanager
def _few_retries(session: Any) -> Iterator[None]:
    from pyspark.sql.connect.client.retries import DefaultPolicy

    usual = session.client.get_retry_policies()
    session.client.set_retry_policies([DefaultPolicy(max_retries=3)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pyspark warns that the retries are used up
        try:
            yield
        finally:
            session.client.set_retry_policies(usual)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tasks_of_server(session: Any, *, is_spark: bool) -> int:
    """Tasks at once of a server that we only know through Connect.

    Spark cuts a range into so many partitions. Sail does not cut it, but has so many partitions of groups.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    rows = session.range(1 << 20) if is_spark else session.range(1 << 16).groupBy("id").count()
    try:
        partitions = rows.select(F.spark_partition_id().alias("id")).distinct().count()
    except PySparkException as exc:
        raise EngineError(f"the engine cannot run a first job ({type(exc).__name__}); look into its own log") from exc
    return max(1, int(partitions))


def _open_spark(master: str | None, cleanup: ExitStack) -> Engine:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    if "SPARK_REMOTE" in os.environ:
        return _open_connect(os.environ["SPARK_REMOTE"], cleanup)
    existing = SparkSession.getActiveSession()
    if master is not None and (existing is not None or "PYSPARK_GATEWAY_PORT" in os.environ):
        log.warning("Spark is running already; its master is used, not %s", master)
    if existing is not None:
        return _adopt(existing, cleanup)
    _set_environment(_CONNECT_MODE, None, cleanup)
    if SparkContext._active_spark_context is not None:
        return _adopt(SparkSession.builder.getOrCreate(), cleanup)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit has started the Java process and chosen its settings
        session = SparkSession.builder.getOrCreate()
    else:
        session = _start_spark(master or "local[*]")
    cleanup.callback(session.stop)
    session.conf.set(_TIME_ZONE, "UTC")
    return _spark_engine(session, cleanup)


def _spark_engine(session: Any, cleanup: ExitStack) -> Engine:
    context = session.sparkContext
    return Engine(
        spark=session,
        name="spark",
        parallelism=_tasks_at_once(context.master, dict(context.getConf().getAll()), context.defaultParallelism),
        versions=_versions("spark", session.version),
        workers_share_files=_runs_here(context.master),
        is_spark=True,
        _cleanup=cleanup.pop_all(),
    )


def _tasks_at_once(master: str, settings: Mapping[str, str], registered: int) -> int:
    """Tasks at once of a classic session.

    On a cluster executors come one by one, and Spark's own number counts those that are here: so does what was asked
    for, unless the user gives the number.
    """
    asked = 0
    if not _runs_here(master) and "spark.default.parallelism" not in settings:
        cores = int(settings.get("spark.executor.cores", "1"))
        instances = int(settings.get("spark.executor.instances", "0"))
        asked = max(int(settings.get("spark.cores.max", "0")), cores * instances)
    return max(1, registered, asked)


def _runs_here(master: str) -> bool:
    return master.startswith("local")


def _start_spark(master: str) -> Any:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    _check_java()
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        os.environ.setdefault(name, sys.executable)  # workers need the driver's packages
    builder = SparkSession.builder.appName("r2d2").master(master)
    theirs = {key: value for key, value in _user_settings().items() if key != "spark.api.mode"}
    for key, value in spark_settings(master).items():
        if key not in theirs or key in _JOINED:
            builder = builder.config(key, _joined(theirs.get(key), value))
    with _java_words() as words:
        try:
            session = builder.getOrCreate()
        except (PySparkException, OSError, RuntimeError) as exc:
            raise EngineError(_why_spark_failed(words)) from exc
        except Exception as exc:  # py4j's errors share no other base
            if type(exc).__module__.startswith("py4j"):
                raise EngineError(_why_spark_failed(words)) from exc
            raise
    session.sparkContext.setLogLevel("ERROR")
    return session


def spark_settings(master: str) -> dict[str, str]:
    """Settings of a classic session that is started here, Delta included.

    Args:
        master: Master URL; a local one gets settings for small data on one machine too.
    """
    settings = {
        "spark.api.mode": "classic",
        "spark.jars.packages": delta_package(),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
        "spark.sql.adaptive.enabled": "true",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if _runs_here(master):
        settings |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": str(max(2, cpu_count())),
        }
    return settings


def _user_settings() -> dict[str, str]:
    """What the user sets in spark-defaults.conf and PYSPARK_SUBMIT_ARGS: the session's own settings would hide it."""
    import pyspark

    home = os.environ.get("SPARK_HOME") or pyspark.__path__[0]
    file = os.path.join(os.environ.get("SPARK_CONF_DIR") or os.path.join(home, "conf"), "spark-defaults.conf")
    found: dict[str, str] = {}
    if os.path.isfile(file):
        with open(file, encoding="utf-8", errors="replace") as lines:
            found |= dict(_setting(line) for line in map(str.strip, lines) if line and line[0] not in "#!")
    words = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    for option, value in itertools.pairwise(words):
        if option in {"--conf", "-c"}:
            found |= dict([_setting(value)])
        elif option == "--packages":
            found["spark.jars.packages"] = value
    return found


def _setting(text: str) -> tuple[str, str]:
    """Name and value around the first blank, `=` or `:`, as in files of Java properties."""
    name, *rest = re.split(r"\s*[\s=:]\s*", text, maxsplit=1)
    return name, "".join(rest).strip()


def _joined(theirs: str | None, ours: str) -> str:
    """A list of the user's with what Delta needs."""
    words = (theirs or "").split(",") + ours.split(",")
    return ",".join(dict.fromkeys(word.strip() for word in words if word.strip()))


def delta_package() -> str:
    """Maven coordinates of the Delta jars for the installed pyspark."""
    major, minor = importlib.metadata.version("pyspark").split(".")[:2]
    return f"io.delta:delta-spark_{major}.{minor}_2.13:{DELTA_VERSION}"


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    if shutil.which(java) is None:
        place = f"JAVA_HOME is {home!r}, which has no bin/java" if home else "there is none on PATH"
        raise EngineError(
            f"Apache Spark needs Java 17 or newer and {place}; install one (Debian: openjdk-17-jre-headless), "
            "or use --engine sail, which needs none"
        )


@contextmanager
def _java_words() -> Iterator[IO[bytes]]:
    """Send the stderr that the Java process inherits to a file: its messages quote rows, and its start is noisy."""
    path = os.environ.get(ENGINE_LOG)
    with open(path, "ab+") if path else tempfile.TemporaryFile() as words:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(words.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _why_spark_failed(words: IO[bytes]) -> str:
    words.seek(0)
    text = words.read().decode(errors="replace")
    if "unresolved dependency" in text or "UNRESOLVED DEPENDENCIES" in text:
        return (
            f"Spark could not fetch the Delta jars ({delta_package()}) from Maven; run once with network access, after "
            "which the copies under ~/.ivy2* serve offline, or use --engine sail, which needs no jars"
        )
    if "UnsupportedClassVersionError" in text:
        return "Apache Spark needs Java 17 or newer, and the Java found is older; set JAVA_HOME to a newer one"
    return (
        f"Apache Spark could not be started; set {ENGINE_LOG} to a file path to keep what it says, or use --engine sail"
    )


def _adopt(session: Any, cleanup: ExitStack) -> Engine:
    """Use somebody else's session: only its time zone changes, and only until the engine is stopped."""
    remote = type(session).__module__.startswith("pyspark.sql.connect")
    _set_environment(_CONNECT_MODE, "1" if remote else None, cleanup)
    cleanup.callback(session.conf.set, _TIME_ZONE, session.conf.get(_TIME_ZONE))
    session.conf.set(_TIME_ZONE, "UTC")
    if remote:
        runs_here = getattr(session.client._builder, "endpoint", None) in _SERVERS
        return _connect_engine(session, _is_this_machine(session.client.host), cleanup, runs_here=runs_here)
    return _spark_engine(session, cleanup)


def _set_environment(name: str, value: str | None, cleanup: ExitStack) -> None:
    """Set or remove a variable of the environment until the clean-up."""
    before = os.environ.get(name)
    _write_environment(name, value)
    cleanup.callback(_write_environment, name, before)


def _write_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _versions(name: str, version: str) -> dict[str, str]:
    shown = {"r2d2": _version_of("r2d2-lake"), "python": platform.python_version()}
    return shown | {"pyspark": _version_of("pyspark"), "duckdb": _version_of("duckdb"), name: version}


def _version_of(distribution: str) -> str:
    """A distribution's version; `unknown` where only its files were shipped, as `--py-files` does."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
