"""Stage tables: what is stored is read again or the reading fails; it is never taken for nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from r2d2.store.stages import StageStore

ROWS = pa.table({"a": pa.array([1, 2, 3], pa.int32())})


def store_of(folder: Path) -> StageStore:
    return StageStore(None, str(folder / "work"))


def test_a_stored_table_is_read_again_and_one_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.write_table("stage", "pairs", ROWS)
    assert store.read_table("stage", "pairs", ROWS.schema) == ROWS
    assert store.read_table("stage", "others", ROWS.schema).num_rows == 0


@pytest.mark.parametrize("fault", [KeyboardInterrupt, PermissionError, TimeoutError])
@pytest.mark.parametrize("asked", ["info", "ls"])
def test_what_comes_in_between_is_not_taken_for_an_empty_table(
    fault: type[BaseException], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or a store that does not answer: an empty table of pairs would lose containments."""
    store = store_of(tmp_path)
    store.write_table("stage", "pairs", ROWS)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(LocalFileSystem, asked, fail)
    try:
        found = store.read_table("stage", "pairs", ROWS.schema)
    except fault:
        return
    assert found == ROWS
