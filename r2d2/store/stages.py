"""Stage tables: what one stage leaves for the next, committed together.

A stage's tables are Parquet under `WORK/<stage>/<name>`; the stage counts as done once `WORK/<stage>/_done.json` is
there. They hold bounds and fingerprints of user data, so a local work folder is private to its owner.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from r2d2.errors import UsageError
from r2d2.model import spark_ddl

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_DONE = "_done.json"
TEXT_SUFFIX = "-text"
"""How the names of folders end that hold converted text files."""


class StageStore:
    """Reads and writes the stage tables of one audit.

    Args:
        spark: Session of the audit; None where stored tables are only read.
        uri: Work folder, which the workers can read and write.
    """

    def __init__(self, spark: SparkSession | None, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._spark = spark
        self._fs, self._path = _filesystem(self.uri)
        try:
            self._fs.makedirs(self._path, exist_ok=True)
            if "://" not in self.uri:
                os.chmod(self._path, 0o700)
        except OSError as exc:
            raise UsageError(f"the work folder {self.uri} cannot be created: {exc.strerror or exc}") from exc

    def folder(self, stage: str, name: str) -> str:
        """Where a stage may put files of its own, such as converted text files."""
        return f"{self.uri}/{stage}/{name}"

    def write_frame(self, stage: str, name: str, frame: DataFrame) -> None:
        """Run a DataFrame and store its rows."""
        frame.write.mode("overwrite").parquet(self.folder(stage, name))

    def read_frame(self, stage: str, name: str, schema: pa.Schema) -> DataFrame:
        """A stored table as a DataFrame of the engine."""
        if self._spark is None:
            raise ValueError("stored tables that are kept with results are read without an engine")
        return self._spark.read.schema(spark_ddl(schema)).parquet(self.folder(stage, name)).select(*schema.names)

    def write_table(self, stage: str, name: str, table: pa.Table) -> None:
        """Store a small table that the driver has made."""
        folder = f"{self._path}/{stage}/{name}"
        self._fs.makedirs(folder, exist_ok=True)
        with self._fs.open(f"{folder}/part-0.parquet", "wb") as sink:
            pq.write_table(table, sink)

    def read_table(self, stage: str, name: str, schema: pa.Schema) -> pa.Table:
        """The rows of a stored table, on the driver, in the given schema."""
        folder = f"{self._path}/{stage}/{name}"
        parts = []
        for path in (path for path in self._files(folder) if path.endswith(".parquet")):
            with self._fs.open(path, "rb") as source:
                parts.append(pq.read_table(source, columns=schema.names).select(schema.names).cast(schema))
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def _files(self, folder: str) -> list[str]:
        """What is in a folder, sorted; nothing where it is not there.

        fsspec's `exists` says no whatever goes wrong, also where Ctrl-C comes in between.
        """
        try:
            return sorted(self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    def commit(self, stage: str, counts: Mapping[str, Any]) -> None:
        """Mark a stage as done."""
        self._fs.makedirs(f"{self._path}/{stage}", exist_ok=True)  # a lake without tables leaves nothing else
        with self._fs.open(f"{self._path}/{stage}/{_DONE}", "wb") as sink:
            sink.write(json.dumps(dict(counts), sort_keys=True).encode())

    def copy_tables(self, folder: str) -> None:
        """Copy the stored tables of all stages, and nothing else of the work folder, into a local folder."""
        for path in self._fs.find(self._path):
            relative = str(path)[len(self._path) :].lstrip("/")
            if not any(part.endswith(TEXT_SUFFIX) for part in relative.split("/")[:-1]):
                target = os.path.join(folder, relative)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                self._fs.get_file(path, target)

    def remove(self) -> None:
        """Delete the whole work folder, and the folder above it if nothing else is in it."""
        self._fs.rm(self._path, recursive=True)
        if "://" not in self.uri:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self._path))


def _filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    if "://" in uri:
        fs, path = url_to_fs(uri)
        return fs, path
    return fsspec.filesystem("file"), os.path.abspath(uri)
