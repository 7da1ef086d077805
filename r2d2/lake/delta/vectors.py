"""Deletion vectors of a Delta log: the files that hold them, and what they delete."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.delta.files import data_file_uri, shown
from r2d2.lake.delta.log import as_object
from r2d2.model import FileStamp
from r2d2.scan.deletes import DeleteFile, Deletes

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_UUID_LENGTH = 20
_FRAME_BYTES = 8
"""What stands around a vector in a file: its length before it, its checksum behind."""
_FIRST_VECTOR = 1
"""Where a file's only vector begins: behind the byte that names the file's version."""
_INLINE, _ABSOLUTE, _RELATIVE = "i", "p", "u"


def vector_uri(table_uri: str, add: Mapping[str, Any]) -> str | None:
    """Absolute uri of the file that holds a data file's deletion vector; None without one, or for one in the log.

    Raises:
        TableFailed: If its name is broken.
        TableUnsupported: If it is stored in a way that the protocol does not have yet.
    """
    vector = as_object(add.get("deletionVector"))
    kind, text = vector.get("storageType"), str(vector.get("pathOrInlineDv", ""))
    if not vector or kind == _INLINE:
        return None
    if kind == _ABSOLUTE:
        return data_file_uri(table_uri, text)
    if kind != _RELATIVE:
        raise TableUnsupported(f"deletion vectors of storage type {shown(kind)} are not supported", error="Vector")
    prefix, code = text[:-_UUID_LENGTH], text[-_UUID_LENGTH:]
    try:
        name = uuid.UUID(bytes=base64.b85decode(code.translate(str.maketrans(_Z85, _B85))))
    except ValueError as exc:
        raise TableFailed("the name of a deletion vector in the log is broken", error="DeltaLog") from exc
    return "/".join(part for part in (table_uri, prefix, f"deletion_vector_{name}.bin") if part)


def vector_deletes(
    table_uri: str, add: Mapping[str, Any], data_uri: str, stamps: Mapping[str, FileStamp]
) -> Deletes | None:
    """What deletes rows of a data file; None without a deletion vector.

    Where the vector lies counts, not how the log spells it: a clone names by absolute path what its source names by
    uuid.

    Args:
        table_uri: The table's folder.
        add: The file's action in the log.
        data_uri: The data file.
        stamps: By uri, the files that hold vectors.

    Raises:
        TableFailed: If the vector's numbers or its name are broken.
        TableUnsupported: If it is stored in a way that the protocol does not have yet.
    """
    vector = as_object(add.get("deletionVector"))
    if not vector:
        return None
    uri = vector_uri(table_uri, add)
    size, rows = _count(vector, "sizeInBytes"), _count(vector, "cardinality")
    if uri is None:
        return Deletes(path=data_uri, files=(), inline=_inline(str(vector.get("pathOrInlineDv", "")), size), rows=rows)
    offset = _count(vector, "offset") if vector.get("offset") is not None else _FIRST_VECTOR
    pinned = stamps[uri]
    file = DeleteFile(
        uri=uri, size=pinned.size, token=pinned.token, offset=offset, length=size + _FRAME_BYTES, rows=rows
    )
    return Deletes(path=data_uri, files=(file,))


def _count(vector: Mapping[str, Any], name: str) -> int:
    value = vector.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise TableFailed(f"the {name} of a deletion vector in the log is broken", error="DeltaLog")
    return value


def _inline(text: str, size: int) -> str:
    """The bytes of a vector that stands in the log, in hexadecimal."""
    try:
        data = base64.b85decode(text.translate(str.maketrans(_Z85, _B85)))
    except ValueError as exc:
        raise TableFailed("a deletion vector in the log is broken", error="DeltaLog") from exc
    if len(data) < size:
        raise TableFailed("a deletion vector in the log is broken", error="DeltaLog")
    return data[:size].hex()
