"""Key lists beside results: which a setup reads, whether they are whole, and how long they stay."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

KEYS = "keys"
"""Folder of the key lists that recipes read: private, since they hold row values."""
NEW = ".new"
"""Ending of a key list that is being written."""

_FILE = re.compile(r"[0-9a-f]{64}\.parquet")
_VIEW = re.compile(
    r"CREATE OR REPLACE TEMPORARY VIEW `keys ([0-9a-f]{16})_*` .*"
    rf" OPTIONS \(path '(.*/{KEYS}/\1[0-9a-f]{{48}}\.parquet)'\)"
)


def key_lists(setup: Sequence[str]) -> list[str]:
    """Absolute paths of the key lists that the statements of a setup read."""
    found = filter(None, map(_VIEW.fullmatch, setup))
    return [re.sub(r"\\(.)", r"\1", match.group(2)) for match in found]


def has_key_lists(setup: Sequence[str]) -> bool:
    """Whether the key lists of a setup are there as they were written: Sail takes a missing file for an empty one."""
    return all(is_whole(path) for path in key_lists(setup))


def is_whole(path: str) -> bool:
    """Whether a key list is there with the content that its name is the digest of."""
    try:
        return f"{hashlib.sha256(Path(path).read_bytes()).hexdigest()}.parquet" == os.path.basename(path)
    except (OSError, ValueError):
        return False


def keep_key_lists(proposals: pa.Table) -> None:
    """Make the key lists of proposals read-only, which keeps them for good: who has followed a proposal needs them."""
    for setup in proposals["setup_sql"].to_pylist():
        for path in key_lists(setup or ()):
            with contextlib.suppress(OSError):
                os.chmod(path, stat.S_IRUSR)


def remove_key_lists(out: Path, recipes: pa.Table) -> None:
    """Remove the key lists below a result folder that none of its recipes reads and that no proposal has read."""
    statements = (text for setup in recipes["setup_sql"].to_pylist() for text in setup or ())
    used = {name for text in statements for name in _FILE.findall(text)}
    with contextlib.suppress(OSError):
        for file in (out / KEYS).iterdir():
            if (
                _FILE.fullmatch(file.name.removesuffix(NEW))
                and file.name not in used
                and file.lstat().st_mode & stat.S_IWUSR
            ):
                file.unlink(missing_ok=True)
        if not any((out / KEYS).iterdir()):
            (out / KEYS).rmdir()
