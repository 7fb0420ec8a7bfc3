"""Each lesson, as a notebook, executes from top to bottom in smoke mode and measures what the script does."""

import builtins
import os
import sys
import types

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from jupyter_client import KernelManager
from nbclient import NotebookClient
from traitlets.config import Config

from chapters.course import ledger
from chapters.course.catalog import find, lessons
from chapters.course.notebook import to_notebook
from chapters.utils import lesson


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """IPython as a kernel has it, with a `__main__` of its own, in this process, which has the libraries."""
    monkeypatch.setattr(builtins, "display", None, raising=False)  # IPython puts its own names there
    monkeypatch.setattr(builtins, "__IPYTHON__", False, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setenv("RL_SMOKE", "1")
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(config=quiet, ipython_dir=str(tmp_path / "ipython"))
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


def runs_of(folder, item) -> set:
    return set((folder / item.id).glob("*"))


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_notebook_runs_and_equals_the_script_to_the_bit(item, shell, smoke_run, tmp_path):
    script, before = smoke_run(item), runs_of(lesson.RUNS, item)
    notebook = nbformat.read(to_notebook(item, tmp_path / f"{item.id}.ipynb"), as_version=4)
    with capture_output() as shown:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source).raise_error()
    assert any("image/png" in output.data for output in shown.outputs), "the figure is shown in the notebook"
    (run,) = runs_of(lesson.RUNS, item) - before
    assert ledger.fingerprint(script.folder, lesson_only=True) == ledger.fingerprint(run)


def test_a_kernel_of_its_own_runs_it_too(smoke_run, tmp_path):
    """What a learner's Jupyter starts; with one lesson for all, since a process imports for seconds."""
    item = find("B0")
    notebook = nbformat.read(to_notebook(item, tmp_path / "B0.ipynb"), as_version=4)
    manager = KernelManager()
    manager.start_kernel(env={**os.environ, "RL_SMOKE": "1", "RL_RUNS": str(tmp_path)})
    try:
        NotebookClient(notebook, km=manager, timeout=120).execute()
    finally:
        manager.shutdown_kernel(now=True)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    (run,) = runs_of(tmp_path, item)
    script = smoke_run(item).folder
    assert ledger.fingerprint(script, lesson_only=True) == ledger.fingerprint(run)
