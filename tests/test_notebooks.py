"""Each lesson, as a notebook, executes from top to bottom in smoke mode."""

import nbformat
import pytest
from nbclient import NotebookClient

from chapters.course.catalog import lessons
from chapters.course.notebook import to_notebook


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_notebook_runs(item, tmp_path, monkeypatch):
    monkeypatch.setenv("RL_SMOKE", "1")
    monkeypatch.setenv("RL_RUNS", str(tmp_path / "runs"))
    path = to_notebook(item, tmp_path / f"{item.id}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures, "the figure is shown in the notebook"
    assert list((tmp_path / "runs" / item.id).glob("*/claims.json"))
