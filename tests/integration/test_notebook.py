"""The notebook runs from its first cell to its last, and shows what its text says it shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The notebook after a run in a kernel of its own, whose files stay out of the user's folders."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        notebook = read_notebook()
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute()
        left = [path.name for path in (folder / "TMPDIR").iterdir() if path.name.startswith("r2d2-")]
        assert left == [], "the notebook leaves its scratch folder behind"
        yield notebook


def cell_with(notebook: Any, text: str) -> Any:
    """The only code cell that holds a text."""
    (cell,) = [cell for cell in code_cells(notebook) if text in cell.source]
    return cell


def shown(cell: Any) -> str:
    """What the reader sees below a cell, as plain text."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(parts)


def value_of(cell: Any) -> Any:
    return ast.literal_eval(shown(cell))


def test_the_notebook_is_committed_without_outputs() -> None:
    for cell in code_cells(read_notebook()):
        assert (cell.outputs, cell.execution_count) == ([], None)


def test_every_cell_ran_in_order_and_none_complained(executed: Any) -> None:
    cells = code_cells(executed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    complaints = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert complaints == []


def test_the_funnel_narrows_to_tables_that_may_go(executed: Any) -> None:
    counts = value_of(cell_with(executed, 'finished.summary["counts"]'))
    funnel = [counts[name] for name in ("schema_pairs", "minmax_pairs", "minhash_pairs", "verified_edges")]
    assert funnel == sorted(funnel, reverse=True)
    assert funnel[-1] > 0
    assert 0 < counts["deletable"] < counts["tables"]


def test_the_audit_finds_just_the_containments_of_the_sample(executed: Any) -> None:
    found = value_of(cell_with(executed, "planted = "))
    assert found["found"] > 0
    assert (found["missed"], found["wrong"]) == (0, 0)


def test_proposals_are_shown_with_sql_that_gives_the_table_back(executed: Any) -> None:
    proposals = shown(cell_with(executed, 'proposals[["table"'))
    comparison = value_of(cell_with(executed, "comparison = "))
    assert comparison["table"] in proposals
    assert comparison["rows"] == comparison["rebuilt"] > 0
    assert (comparison["only in the table"], comparison["only in the rebuild"]) == (0, 0)
    sql = shown(cell_with(executed, 'print(proposal["recipe_sql"])'))
    assert sql.startswith("CREATE OR REPLACE TEMPORARY VIEW ")
    assert "\nSELECT " in sql


def test_nothing_in_the_lake_changes(executed: Any) -> None:
    assert value_of(cell_with(executed, "files_of(lake) == before")) is True
