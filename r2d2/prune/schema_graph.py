"""Stage 1: which tables have all the columns of which others, on schema classes instead of tables.

A class is the set of leaf paths of a table. Names compare folded, but exactly where the audit asks for it or where
either table has columns that differ only by case. Types do not matter here: a column of NULLs fits every type.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from r2d2.model import LeafPath, Names, SchemaClass, SchemaGraph, fold_path, is_case_sensitive


def build_schema_graph(leaves_of: Mapping[int, Sequence[LeafPath]], *, case_sensitive: bool) -> SchemaGraph:
    """The schema graph of some tables.

    Args:
        leaves_of: Leaf paths by table; tables without any are left out, having nothing in common with others.
        case_sensitive: Compare all names exactly.
    """
    members: dict[Names, list[int]] = defaultdict(list)
    for table in sorted(leaves_of):
        if leaves_of[table]:
            members[frozenset(leaves_of[table])].append(table)
    classes = tuple(
        SchemaClass(
            id=number,
            names=names,
            exact=case_sensitive or is_case_sensitive(list(names)),
            tables=tuple(tables),
        )
        for number, (names, tables) in enumerate(members.items())
    )
    edges = sorted(edge for edge in _class_edges(classes) if _has_pairs(classes, edge))
    return SchemaGraph(classes=classes, edges=tuple(edges))


def fits(child: SchemaClass, parent: SchemaClass) -> bool:
    """Whether every column name of the child is one of the parent."""
    if child.exact or parent.exact:
        return child.names <= parent.names
    return _folded(child.names) <= _folded(parent.names)


def _class_edges(classes: Sequence[SchemaClass]) -> Iterator[tuple[int, int]]:
    """Tests a class only against the classes that have its rarest column."""
    folded = [_folded(c.names) for c in classes]
    frequency = Counter(path for names in folded for path in names)
    having: dict[LeafPath, list[int]] = defaultdict(list)
    for number, names in enumerate(folded):
        for path in names:
            having[path].append(number)
    for child, names in enumerate(folded):
        rarest = min(names, key=lambda path: (frequency[path], path))
        for parent in having[rarest]:
            if fits(classes[child], classes[parent]):
                yield child, parent


def _has_pairs(classes: Sequence[SchemaClass], edge: tuple[int, int]) -> bool:
    return edge[0] != edge[1] or len(classes[edge[0]].tables) > 1


def _folded(names: Names) -> Names:
    return frozenset(fold_path(path) for path in names)
