"""File identity: the only proof that metadata can give. A table all of whose files are another's is contained in it.

Shallow clones and tables that adopted files share them. Two fragments are the same rows where file, partition values
and deleted rows are the same and the compared leaves are found in the file in the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from r2d2.model import Fragment, Harvest, LeafPath, SchemaClass, SchemaGraph, leaves
from r2d2.scan.plan import Pair, compared_paths

FileKey = tuple[str, int, str, tuple[tuple[str, str | None], ...]]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the files of a pair prove.

    Attributes:
        pair: The child is contained in the parent, as a bag.
        equal: They are the same rows.
    """

    pair: Pair
    equal: bool


def identities(graph: SchemaGraph, harvests: Mapping[int, Harvest]) -> Iterator[Identity]:
    """The pairs of a schema graph that files prove.

    Args:
        graph: Which pairs may be containments.
        harvests: Metadata of its tables.
    """
    edges = set(graph.edges)
    for child, parent in sorted(sharing_tables({table: harvests[table] for table in graph.class_of})):
        of_child, of_parent = graph.class_of[child], graph.class_of[parent]
        if (of_child.id, of_parent.id) in edges and same_leaves(of_child, of_parent, harvests[child], harvests[parent]):
            equal = proved(harvests[child], harvests[parent])
            if equal is not None:
                same = equal and len(of_child.names) == len(of_parent.names)
                yield Identity(pair=Pair(child=child, parent=parent, column_set=of_child.id), equal=same)


def sharing_tables(harvests: Mapping[int, Harvest]) -> set[tuple[int, int]]:
    """Ordered pairs of tables the first of which has a file of the other as its first."""
    readers = _readers(harvests)
    return {
        (table, other)
        for table, harvest in harvests.items()
        if harvest.fragments
        for other in readers[harvest.fragments[0].stamp.uri]
        if other != table
    }


def same_leaves(child: SchemaClass, parent: SchemaClass, of_child: Harvest, of_parent: Harvest) -> bool:
    """Whether the child's leaves mean the same values of a file that both tables read."""
    own, other = compared_paths(child, parent)
    types = [dict(leaves(harvest.schema)) for harvest in (of_child, of_parent)]
    return all(
        types[0][mine] == types[1][its] and _found_by(of_child, mine) == _found_by(of_parent, its)
        for mine, its in zip(own, other, strict=True)
    )


def _found_by(harvest: Harvest, path: LeafPath) -> str | LeafPath:
    return harvest.stored_as.get(path, path)


def proved(child: Harvest, parent: Harvest) -> bool | None:
    """Whether the child's files are all the parent's (True) or some of them (False); None where nothing is proved.

    What is deleted from a file in the parent must be deleted from it in the child. Where row counts are not known, or
    would not fit the answer, nothing is proved and the rows decide.
    """
    if child.rows is None or parent.rows is None:
        return None
    mine, its = _by_file(child.fragments), _by_file(parent.fragments)
    if not all(_covered(own, its.get(key, [])) for key, own in mine.items()):
        return None
    equal = _named(child.fragments) == _named(parent.fragments)
    return equal if equal == (child.rows == parent.rows) else None


def _covered(own: Sequence[str], there: Sequence[str]) -> bool:
    """Whether a file is read by the parent as often, and with no more rows deleted, as by the child."""
    return not Counter(own) - Counter(there) or (len(own) == len(there) == 1 and there[0] == "")


def _by_file(fragments: Sequence[Fragment]) -> dict[FileKey, list[str]]:
    found: dict[FileKey, list[str]] = defaultdict(list)
    for fragment in fragments:
        found[_key(fragment)].append(fragment.deletes)
    return found


def _named(fragments: Sequence[Fragment]) -> Counter[tuple[FileKey, str]]:
    return Counter((_key(fragment), fragment.deletes) for fragment in fragments)


def _key(fragment: Fragment) -> FileKey:
    stamp = fragment.stamp
    return stamp.uri, stamp.size, stamp.token, tuple(sorted(fragment.partition.items()))


def sharing_pairs(pairs: Iterable[Pair], graph: SchemaGraph, harvests: Mapping[int, Harvest]) -> list[Pair]:
    """The pairs whose shared files need not be read to compare them, where that saves more than it costs.

    Identical parts of two bags cancel, so only what is left of both is compared. What is left differs from pair to
    pair and is read for each: a table's pairs are taken as long as that is less than to read it whole once.
    """
    shared = {table for tables in _readers(harvests).values() if len(tables) > 1 for table in tables}
    left = {table: harvest.table_bytes for table, harvest in harvests.items()}
    taken = []
    for pair in sorted(pair for pair in pairs if {pair.child, pair.parent} <= shared):
        of_child, of_parent = harvests[pair.child], harvests[pair.parent]
        if not _can_be_cut(of_child, of_parent) or not same_leaves(
            graph.class_of[pair.child], graph.class_of[pair.parent], of_child, of_parent
        ):
            continue
        sizes = [_bytes(rest) for rest in remainders(of_child, of_parent)]
        if 2 * sizes[0] <= _bytes(of_child) and sizes[0] <= left[pair.child] and sizes[1] <= left[pair.parent]:
            left[pair.child] -= sizes[0]
            left[pair.parent] -= sizes[1]
            taken.append(pair)
    return taken


def remainders(child: Harvest, parent: Harvest) -> tuple[Harvest, Harvest]:
    """Both tables without the fragments that they share; a fragment that one has more often stays there."""
    common = _named(child.fragments) & _named(parent.fragments)
    return _without(child, common), _without(parent, common)


def _without(harvest: Harvest, common: Counter[tuple[FileKey, str]]) -> Harvest:
    room, kept = Counter(common), []
    for fragment in harvest.fragments:
        name = (_key(fragment), fragment.deletes)
        if room[name] > 0:
            room[name] -= 1
        else:
            kept.append(fragment)
    return replace(harvest, fragments=tuple(kept))


def _readers(harvests: Mapping[int, Harvest]) -> dict[str, set[int]]:
    """The tables that read each file."""
    readers: dict[str, set[int]] = defaultdict(set)
    for table, harvest in harvests.items():
        for fragment in harvest.fragments:
            readers[fragment.stamp.uri].add(table)
    return readers


def _can_be_cut(child: Harvest, parent: Harvest) -> bool:
    return all(harvest.reader == "files" and harvest.rows is not None for harvest in (child, parent))


def _bytes(harvest: Harvest) -> int:
    return sum(fragment.stamp.size for fragment in harvest.fragments)
