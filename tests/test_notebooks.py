"""Each lesson, as a notebook, executes from top to bottom in smoke mode and measures what the script does."""

import os

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

from chapters.course import ledger
from chapters.course.catalog import lessons
from chapters.course.notebook import to_notebook


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """(a running kernel, the folder of its runs): one a worker, so that libraries are imported once."""
    runs = tmp_path_factory.mktemp("runs")
    manager = KernelManager()
    manager.start_kernel(env={**os.environ, "RL_SMOKE": "1", "RL_RUNS": str(runs)})
    yield manager, runs
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_notebook_runs_and_equals_the_script_to_the_bit(item, kernel, smoke_run, tmp_path):
    script = smoke_run(item)
    manager, runs = kernel
    path = to_notebook(item, tmp_path / f"{item.id}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    NotebookClient(notebook, km=manager, timeout=120).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures, "the figure is shown in the notebook"
    (run,) = (runs / item.id).iterdir()
    assert ledger.fingerprint(script.folder, lesson_only=True) == ledger.fingerprint(run)
