"""Deletion vectors of a Delta log: the files that hold them, and names by which two of them are the same."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

from r2d2.errors import TableFailed, TableUnsupported
from r2d2.lake.delta_files import data_file_uri, shown
from r2d2.lake.delta_log import as_object

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_UUID_LENGTH = 20
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


def vector_name(table_uri: str, add: Mapping[str, Any]) -> str:
    """A name for what deletes rows of a data file: for the same file, equal names delete the same rows.

    Where the vector lies counts, not how the log spells it: a clone names by absolute path what its source names by
    uuid. Empty without a deletion vector.
    """
    vector = as_object(add.get("deletionVector"))
    if not vector:
        return ""
    place = vector_uri(table_uri, add) or f"inline:{vector.get('pathOrInlineDv', '')}"
    numbers = [vector.get(part) for part in ("offset", "sizeInBytes", "cardinality")]
    return json.dumps([place, *numbers], default=str)
