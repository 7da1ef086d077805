"""Columns that an audit leaves out of every comparison, at the wish of `--ignore-columns`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from r2d2.errors import UsageError
from r2d2.model import Edge, Harvest, LeafPath, fold_path, is_case_sensitive


def path_of_name(name: str) -> LeafPath:
    """The path that a name means: its parts are joined by dots; one in backticks may hold dots, and backticks doubled.

    Raises:
        UsageError: If a part is empty, or a backtick has no second one.
    """
    parts, rest = [], name
    while True:
        part, rest = _quoted(name, rest) if rest.startswith("`") else _plain(rest)
        if not part or (rest and not rest.startswith(".")):
            raise UsageError(f"ignore-columns: {name!r} is no column name; join names by dots, such as s.a, or `a.b`.c")
        parts.append(part)
        if not rest:
            return tuple(parts)
        rest = rest[1:]


def _plain(text: str) -> tuple[str, str]:
    part, dot, rest = text.partition(".")
    return part, dot + rest


def _quoted(name: str, text: str) -> tuple[str, str]:
    place, part = 1, ""
    while (end := text.find("`", place)) >= 0:
        part += text[place:end]
        if text[end + 1 : end + 2] != "`":
            return part, text[end + 1 :]
        part, place = part + "`", end + 2
    raise UsageError(f"ignore-columns: a backtick of {name!r} has no second one")


def ignored_leaves(
    leaf_paths: Mapping[int, Sequence[LeafPath]], names: Sequence[str], *, case_sensitive: bool
) -> dict[int, tuple[LeafPath, ...]]:
    """The leaves of each table that are left out; tables without any are not among them.

    Args:
        leaf_paths: By table.
        names: See `named_leaves`.
        case_sensitive: See `named_leaves`.

    Raises:
        UsageError: If no table has what a name means.
    """
    unknown = list(names)
    found: dict[int, tuple[LeafPath, ...]] = {}
    for table, paths in leaf_paths.items():
        if own := named_leaves(paths, names, case_sensitive=case_sensitive):
            found[table] = own
            unknown = [name for name in unknown if not named_leaves(paths, [name], case_sensitive=case_sensitive)]
    if unknown:
        raise UsageError(f"ignore-columns: no table of the lake has a column {unknown[0]!r}")
    return found


def named_leaves(paths: Sequence[LeafPath], names: Iterable[str], *, case_sensitive: bool) -> tuple[LeafPath, ...]:
    """The leaves of a table that some names mean.

    Args:
        paths: Leaves of the table.
        names: As `path_of_name` reads them; a struct's name stands for all that it holds.
        case_sensitive: Names compare exactly even where no two of the table differ by case only.
    """
    exact = case_sensitive or is_case_sensitive(list(paths))
    wanted = [path_of_name(name) for name in names]
    return tuple(path for path in paths if any(_is_in(path, name, exact=exact) for name in wanted))


def _is_in(path: LeafPath, name: LeafPath, *, exact: bool) -> bool:
    above = path[: len(name)]
    return above == name or (not exact and fold_path(above) == fold_path(name))


def without_leaves(harvest: Harvest, gone: Collection[LeafPath]) -> Harvest:
    """A table as if it had some of its leaves not: no column, claim or partition value is left of them."""
    if not gone:
        return harvest
    columns = [left for column in harvest.schema if (left := _left_of(column, (), gone)) is not None]
    schema = pa.schema(columns, metadata=harvest.schema.metadata)
    lost = set(harvest.schema.names) - set(schema.names)
    return replace(
        harvest,
        schema=schema,
        fragments=tuple(
            replace(one, partition={name: value for name, value in one.partition.items() if name not in lost})
            for one in harvest.fragments
        ),
        claims=tuple(claim for claim in harvest.claims if claim.leaf not in gone),
        stored_as={path: name for path, name in harvest.stored_as.items() if path not in gone},
    )


def _left_of(column: pa.Field, above: LeafPath, gone: Collection[LeafPath]) -> pa.Field | None:
    path = (*above, column.name)
    if not pa.types.is_struct(column.type):
        return None if path in gone else column
    inner = [left for child in column.type if (left := _left_of(child, path, gone)) is not None]
    return column.with_type(pa.struct(inner)) if inner else None


def as_compared(edge: Edge, ignored: Mapping[int, Sequence[LeafPath]]) -> Edge:
    """An edge whose relation is `equal` only if both of its tables, or neither, have columns that were left out."""
    one_sided = (edge.child in ignored) != (edge.parent in ignored)
    return replace(edge, relation="contained") if one_sided and edge.relation == "equal" else edge
