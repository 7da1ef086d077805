"""A table of Parquet files: its schema over all files, and what the footers claim."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import pyarrow as pa

from r2d2.errors import NotOneTable, TableFailed, TableUnsupported
from r2d2.lake.discovery import holds_other_files, listing_token
from r2d2.lake.partitions import (
    NULL_TEXT,
    infer_partition_types,
    kept_partitions,
    partition_bound,
    partition_scalar,
    partition_values,
)
from r2d2.model import (
    LEGACY_CALENDAR,
    Claim,
    FileStamp,
    FoundTable,
    Fragment,
    Harvest,
    LeafPath,
    check_supported,
    fold,
    leaves,
)
from r2d2.scan.files import check_unchanged
from r2d2.scan.footer.claims import footer_claims
from r2d2.scan.footer.layout import Layout
from r2d2.scan.footer.read import Footer, read_footer

_UNSAFE_IN_PATHS = frozenset("*?[]{}\\\x7f") | frozenset(map(chr, range(32)))

_ESCAPED_BYTE = re.compile(r"%[89a-fA-F][0-9a-fA-F]")

Values = dict[str, str | None]


def harvest_parquet(found: FoundTable) -> Harvest:
    """Read the footers of a table's files and nothing else of them.

    Args:
        found: A Parquet table without a fault; its files lie below its uri, or are its uri.

    Raises:
        TableFailed: If a file is damaged, the files' columns do not fit one another, or a partition column is in the
            files too and the footers do not prove that both agree.
        TableUnsupported: If a type is not of the contract, two columns of a file have the same name, or a partition
            column's type depends on the session.
        TableChanged: If a file is not the pinned one.
    """
    footers = [_read(stamp) for stamp in found.files]
    layouts = list(dict.fromkeys(footer.layout for footer in footers))
    values = [partition_values(file.uri[len(found.uri) :]) for file in found.files]
    types = infer_partition_types(values)
    merged, widened = _merged_schema([layout.schema for layout in layouts])
    claims = [footer_claims(footer, i) for i, footer in enumerate(footers)]
    kept = kept_partitions(types, values, merged, claims, [footer.rows for footer in footers])
    respelled = [name for name in types if name not in kept and name not in merged.names]
    schema = pa.schema([*merged, *(pa.field(name, dtype) for name, dtype in kept.items())]) if kept else merged
    traits = _traits(layouts[0]) if schema is layouts[0].schema else _traits_of(schema)
    is_legacy = any(layout.legacy_calendar for layout in layouts)
    return Harvest(
        schema=schema,
        version=listing_token(found),
        fragments=tuple(
            Fragment(stamp=stamp, data_uri=stamp.uri, rows=footer.rows, partition={name: own[name] for name in kept})
            for stamp, footer, own in zip(found.files, footers, values, strict=True)
        ),
        claims=tuple(_claims(merged, kept, values, footers, claims)),
        table_bytes=sum(stamp.size for stamp in found.files),
        reader="engine" if is_legacy else "files",
        reader_reason=LEGACY_CALENDAR if is_legacy else None,
        spark_only_reason=LEGACY_CALENDAR if is_legacy else None,
        no_parent_reason=LEGACY_CALENDAR if is_legacy else _no_parent_reason(found, traits, widened, respelled),
        bytes_read=sum(footer.footer_bytes for footer in footers),
    )


def _read(stamp: FileStamp) -> Footer:
    footer = read_footer(stamp.uri)
    check_unchanged(stamp)
    if _traits(footer.layout).same_names:
        name = os.path.basename(stamp.uri)
        raise TableUnsupported(f"{name!r} has two columns, or two fields of a struct, of the same name", error="Schema")
    return footer


@dataclass(frozen=True, kw_only=True)
class _Traits:
    """What columns are checked for.

    Attributes:
        same_names, twins: Two columns, or two fields of one struct, have the same name; names that differ only by case.
        nanoseconds: There are timestamps that Spark cannot read.
    """

    same_names: bool
    twins: bool
    nanoseconds: bool


_KNOWN: WeakKeyDictionary[Layout, _Traits] = WeakKeyDictionary()


def _traits(layout: Layout) -> _Traits:
    """Those of the columns of files, looked at once per layout."""
    known = _KNOWN.get(layout)
    if known is None:
        known = _KNOWN[layout] = _traits_of(layout.schema)
    return known


def _traits_of(schema: pa.Schema) -> _Traits:
    """Those of some columns.

    Raises:
        TableUnsupported: If a type is not of the contract.
    """
    same_names = _has_twins(schema, str)
    for column in schema if not same_names else ():
        check_supported(column.type)
    return _Traits(same_names=same_names, twins=_has_twins(schema, fold), nanoseconds=_has_nanoseconds(schema))


# --- one schema of many files -----------------------------------------------------------------------------------------


def _merged_schema(schemas: Sequence[pa.Schema]) -> tuple[pa.Schema, list[str]]:
    """The schema of the widest file with the types widened over all, and the columns that were."""
    if len(schemas) == 1:
        return schemas[0], []
    widest = max(schemas, key=len)
    types = {column.name: column.type for column in widest}
    widened: dict[str, None] = {}
    for schema in dict.fromkeys(schemas):
        _check_names(schema, types)
    for schema in dict.fromkeys(schemas):
        for column in schema:
            before = types[column.name]
            after = _common_type(before, column.type)
            if after is None:
                raise TableFailed(
                    f"files disagree on column {column.name!r}: {before} and {column.type}", error="SchemaClash"
                )
            types[column.name] = after
    for schema in dict.fromkeys(schemas):
        widened |= {c.name: None for c in schema if not _reads_as(c.type, types[c.name])}
    return pa.schema([pa.field(name, dtype) for name, dtype in types.items()]), list(widened)


def _check_names(schema: pa.Schema, types: dict[str, pa.DataType]) -> None:
    for name in schema.names:
        if name in types:
            continue
        other = next((known for known in types if fold(known) == fold(name)), None)
        if other is not None:
            raise TableFailed(f"files disagree on the case of column {name!r} and {other!r}", error="SchemaClash")
        raise NotOneTable


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds the values of both exactly; None where the contract calls it a clash."""
    t = pa.types
    if one == other or t.is_null(other):
        return one
    if t.is_null(one):
        return other
    if t.is_integer(one) and t.is_integer(other):
        return _common_integer(one, other)
    if t.is_floating(one) and t.is_floating(other):
        return pa.float64()
    if t.is_decimal(one) and t.is_decimal(other):
        scale = max(one.scale, other.scale)
        precision = scale + max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(precision, scale) if precision <= 38 else None
    if t.is_timestamp(one) and t.is_timestamp(other) and one.tz == other.tz and {one.unit, other.unit} == {"ms", "us"}:
        return pa.timestamp("us", tz=one.tz)  # one type to every reader
    return _common_nested(one, other)


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    t = pa.types
    if t.is_signed_integer(one) == t.is_signed_integer(other):
        return max(one, other, key=lambda dtype: dtype.bit_width)
    unsigned, signed = (one, other) if t.is_unsigned_integer(one) else (other, one)
    bits = max(2 * unsigned.bit_width, signed.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits, pa.decimal128(20, 0))


def _common_nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    t = pa.types
    if t.is_struct(one) and t.is_struct(other):
        if [child.name for child in one] != [child.name for child in other]:
            return None
        children = [_common_type(mine.type, its.type) for mine, its in zip(one, other, strict=True)]
        if any(child is None for child in children):
            return None
        return pa.struct([pa.field(mine.name, child) for mine, child in zip(one, children, strict=True)])
    if t.is_map(one) and t.is_map(other):
        key, item = _common_type(one.key_type, other.key_type), _common_type(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if t.is_list(one) and t.is_list(other):
        value = _common_type(one.value_type, other.value_type)
        return None if value is None else pa.list_(value)
    return None


def _reads_as(stored: pa.DataType, dtype: pa.DataType) -> bool:
    """Whether engines read a stored type as the table's without widening it."""
    t = pa.types
    if stored == dtype or t.is_null(stored) or (t.is_timestamp(stored) and t.is_timestamp(dtype)):
        return True
    if t.is_struct(stored):
        return all(_reads_as(mine.type, its.type) for mine, its in zip(stored, dtype, strict=True))
    if t.is_map(stored):
        return _reads_as(stored.key_type, dtype.key_type) and _reads_as(stored.item_type, dtype.item_type)
    return bool(t.is_list(stored)) and _reads_as(stored.value_type, dtype.value_type)


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(
    merged: pa.Schema,
    partitions: dict[str, pa.DataType],
    values: list[Values],
    footers: list[Footer],
    claims: list[list[Claim]],
) -> Iterator[Claim]:
    """Claims of all files, on the leaves of the table's schema."""
    table_leaves = leaves(merged)
    for i, (footer, own, texts) in enumerate(zip(footers, claims, values, strict=True)):
        yield from own if footer.schema is merged else _file_claims(table_leaves, footer, own, i)
        for name, dtype in partitions.items():
            bound = partition_bound(partition_scalar(texts[name], dtype))
            nulls = footer.rows if texts[name] is None else 0
            yield _claim(i, (name,), "partition", footer, dtype, nulls, bound)


def _file_claims(
    table_leaves: list[tuple[LeafPath, pa.DataType]], footer: Footer, claims: list[Claim], fragment: int
) -> Iterator[Claim]:
    """The footer's claims; a leaf whose column, or struct, the file lacks or has without a type gets its own."""
    stored = {leaf for leaf, _ in leaves(footer.schema)}
    by_leaf = {claim.leaf: claim for claim in claims}
    columns = set(footer.schema.names)
    for leaf, dtype in table_leaves:
        if leaf in by_leaf:
            yield by_leaf[leaf]
        elif leaf[0] not in columns:
            yield _claim(fragment, leaf, "footer", footer, dtype, footer.rows, None)
        elif leaf not in stored:
            above = next((by_leaf[leaf[:n]] for n in range(1, len(leaf)) if leaf[:n] in by_leaf), None)
            yield _claim(fragment, leaf, "footer", footer, dtype, above.nulls if above else None, None)


def _claim(
    fragment: int,
    leaf: LeafPath,
    source: str,
    footer: Footer,
    dtype: pa.DataType,
    nulls: int | None,
    bound: bytes | None,
) -> Claim:
    return Claim(
        fragment=fragment,
        leaf=leaf,
        source=source,
        writer=footer.writer,
        type=str(dtype),
        nulls=nulls,
        low=bound,
        high=bound,
    )


# --- parents ----------------------------------------------------------------------------------------------------------


def _no_parent_reason(
    found: FoundTable, traits: _Traits, widened: Sequence[str], respelled: Sequence[str]
) -> str | None:
    """Why no recipe may read the table, if so."""
    if widened:
        return f"its files store column {widened[0]!r} in different types, which engines widen differently"
    if respelled:
        return f"its files spell partition column {respelled[0]!r} otherwise, and engines choose between the names"
    if traits.nanoseconds:
        return "it has nanosecond timestamps, which Spark cannot read"
    if not all(map(_UNSAFE_IN_PATHS.isdisjoint, (found.uri, *(file.uri for file in found.files)))):
        return "its path has characters that engines take for patterns or refuse"
    if any(_ESCAPED_BYTE.search(file.uri, len(found.uri)) for file in found.files):
        return "a partition folder's name has escapes outside ASCII, which engines decode differently"
    if any(f"={NULL_TEXT}/" in file.uri[len(found.uri) :] for file in found.files):
        return "a partition value is NULL, which Sail reads as text"
    if holds_other_files(found):
        return "its folder holds other files, which Spark or Sail would read too"
    if traits.twins:
        return "two of its columns differ only by case"
    return None


def _has_nanoseconds(fields: Iterable[pa.Field]) -> bool:
    return any(
        (pa.types.is_timestamp(column.type) and column.type.unit == "ns") or _has_nanoseconds(_inner(column.type))
        for column in fields
    )


def _has_twins(fields: Iterable[pa.Field], key: Callable[[str], str]) -> bool:
    """Whether two columns, or two fields of one struct, have the same name under a key."""
    names = [key(column.name) for column in fields]
    return len(set(names)) < len(names) or any(_has_twins(_inner(column.type), key) for column in fields)


def _inner(dtype: pa.DataType) -> list[pa.Field]:
    """The fields directly inside a type."""
    t = pa.types
    if t.is_map(dtype):
        return [pa.field("key", dtype.key_type), pa.field("value", dtype.item_type)]
    if t.is_list(dtype):
        return [pa.field("element", dtype.value_type)]
    return list(dtype) if t.is_struct(dtype) else []
