"""What DuckDB does not see in a Parquet file's pages, checked through pyarrow before DuckDB reads the file.

A column chunk whose statistics say that all of it is NULL is NULL to DuckDB, which does not read it. INT96 timestamps
lose what they have below a microsecond, as they do in Spark. No setting changes either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.model import fold
from r2d2.scan.duck import KernelLimits, connect, quote_text
from r2d2.scan.files import duckdb_path, open_file
from r2d2.scan.footer.read import Footer, read_footer
from r2d2.scan.footer.schema import width

_BATCH_ROWS = 65_536
_DAY_ZERO = "4714-11-24 (BC)"
"""Julian day 0 as DuckDB writes it."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A Parquet file that DuckDB is to read.

    Attributes:
        path: As `files.duckdb_path` returns it.
        uri: Of the file.
        footer: Of the file.
    """

    path: str
    uri: str
    footer: Footer


def check_faithful(connection: duckdb.DuckDBPyConnection, files: Sequence[StoredFile], names: Collection[str]) -> None:
    """Raise unless DuckDB reads some columns of files as they are stored.

    Reads the chunks that claim to be all NULL, and INT96 columns twice.

    Args:
        connection: Which will read the files.
        files: Each once, all with the same columns.
        names: Top-level columns that are read, compared without case.

    Raises:
        TableFailed: If a chunk's statistics deny values that it holds.
        TableUnsupported: If an INT96 timestamp has nanoseconds below a microsecond.
        duckdb.Error: If DuckDB cannot read a footer.
    """
    columns = _leaf_columns(files[0].footer, names)
    chunks = _null_chunks(connection, files, columns)
    for file in files:
        _check_null_chunks(file.uri, file.footer, chunks.get(file.path, {}))
        _check_int96(file.uri, file.footer, columns)


def check_engine_reads(uri: str) -> None:
    """Raise TableUnsupported if an engine's reader would cut INT96 timestamps of a file.

    Files of the legacy calendar are left to Apache Spark, whose answer is what counts there.
    """
    footer = read_footer(uri)
    if footer.int96 and not footer.legacy_calendar:
        _check_int96(uri, footer, range(footer.metadata.num_columns))


def _null_chunks(
    connection: duckdb.DuckDBPyConnection, files: Sequence[StoredFile], columns: Collection[int]
) -> dict[str, dict[int, list[int]]]:
    """Columns whose statistics say that they have no value, by row group, by path; those in arrays are always read.

    DuckDB is asked since it decides, and since pyarrow ends the process where a bound is shorter than its type.
    """
    schema = files[0].footer.metadata.schema
    single = {column for column in columns if schema.column(column).max_repetition_level == 0}
    query = "SELECT file_name, row_group_id, column_id FROM parquet_metadata(?) WHERE stats_null_count >= num_values"
    paths = [file.path for file in files]
    rows = connection.execute(query, [paths]).fetchall()
    if not {name for name, *_ in rows} <= set(paths):  # object stores may spell them in another way
        rows = [(path, *row) for path in paths for _, *row in connection.execute(query, [[path]]).fetchall()]
    found: dict[str, dict[int, list[int]]] = {}
    for path, group, column in rows:
        if column in single:
            found.setdefault(path, {}).setdefault(group, []).append(column)
    return found


def _check_null_chunks(uri: str, footer: Footer, chunks: Mapping[int, Sequence[int]]) -> None:
    """Raise TableFailed if a column chunk, of these row groups and columns, is not all NULL."""
    if not chunks:
        return
    with open_file(uri) as file:
        reader = pq.ParquetFile(file, metadata=footer.metadata)
        for group, columns in chunks.items():
            for name, leaf in _leaves_of(reader, [group], columns):
                if leaf.null_count != len(leaf):
                    message = f"the footer says that column {name!r} is all NULL in a part of a file, and it is not"
                    raise TableFailed(message, error="Statistics")


def _check_int96(uri: str, footer: Footer, columns: Collection[int]) -> None:
    """Raise TableUnsupported if an INT96 timestamp has nanoseconds below a microsecond, or might have."""
    stored = [column for column in columns if footer.metadata.schema.column(column).physical_type == "INT96"]
    if not stored or footer.rows == 0:
        return
    with open_file(uri) as one, open_file(uri) as other:
        nanos = pq.ParquetFile(one, metadata=footer.metadata, coerce_int96_timestamp_unit="ns")
        micros = pq.ParquetFile(other, metadata=footer.metadata, coerce_int96_timestamp_unit="us")
        groups = range(footer.metadata.num_row_groups)
        pairs = zip(_leaves_of(nanos, groups, stored), _leaves_of(micros, groups, stored), strict=True)
        may_hide: set[str] = set()
        for (name, fine), (_, coarse) in pairs:
            nanos_read, micros_read = _words(fine, "ns"), _words(coarse, "us")
            if ((nanos_read == 0) & (micros_read == 0)).any():
                may_hide.add(name)
            if below_microsecond(nanos_read, micros_read).any():
                raise _has_nanoseconds(name)
    for name in sorted(may_hide):
        if _has_day_zero(uri, footer, name):
            raise _has_nanoseconds(name)


def _has_nanoseconds(name: str) -> TableUnsupported:
    message = f"column {name!r} has INT96 timestamps with nanoseconds, which engines cut off"
    return TableUnsupported(message, error="Nanoseconds")


def _has_day_zero(uri: str, footer: Footer, name: str) -> bool:
    """Whether a column has a timestamp of Julian day 0: pyarrow reads each as 1970, whatever its nanoseconds are."""
    with connect(KernelLimits()) as connection:
        names = ", ".join(f"c{index}" for index in range(len(footer.schema)))
        scan = f"read_parquet([{quote_text(duckdb_path(connection, uri))}], hive_partitioning = false)"
        column = f"c{footer.schema.names.index(name)}"
        sql = f"SELECT count(*) FROM {scan} AS source({names}) WHERE CAST({column} AS VARCHAR) LIKE '%{_DAY_ZERO}%'"
        return connection.execute(sql).fetchone() != (0,)


def below_microsecond(nanos: npt.NDArray[np.int64], micros: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Nanoseconds above the last whole microsecond, 0 to 999, of timestamps that were read in both units.

    Exact although nanoseconds since 1970 fit 64 bits from 1677 to 2262 only: both readings are right modulo 2^64, and
    so is their difference, which fits.
    """
    return nanos - micros * 1000


def _leaf_columns(footer: Footer, names: Iterable[str]) -> list[int]:
    """Positions of the Parquet columns below some top-level ones."""
    folded = {fold(name) for name in names}
    found: list[int] = []
    first = 0
    for field in footer.schema:
        following = first + width(field.type)
        if fold(field.name) in folded:
            found += range(first, following)
        first = following
    return found


def _leaves_of(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[int]) -> Iterator[tuple[str, pa.Array]]:
    """Values of Parquet columns in batches, each with the name of its top-level column."""
    batches = file.reader.iter_batches(
        _BATCH_ROWS, row_groups=list(groups), column_indices=list(columns), use_threads=False
    )
    for batch in batches:
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            for leaf in _leaves(array):
                yield name, leaf


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays of values inside nested ones; a NULL struct has a NULL in each of its leaves."""
    dtype = array.type
    if isinstance(dtype, pa.BaseExtensionType):
        yield from _leaves(array.storage)
    elif pa.types.is_struct(dtype):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(dtype):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_nested(dtype):
        yield from _leaves(array.flatten())
    else:
        yield array


def _words(timestamps: pa.Array, unit: str) -> npt.NDArray[np.int64]:
    """The numbers of an array of timestamps that is of the unit asked for."""
    dtype = timestamps.type
    if not pa.types.is_timestamp(dtype) or dtype.unit != unit:
        raise TableUnsupported(f"INT96 timestamps of a file are declared as {dtype}", error="Type")
    return np.asarray(timestamps.drop_null().view(pa.int64()).to_numpy(zero_copy_only=False))
