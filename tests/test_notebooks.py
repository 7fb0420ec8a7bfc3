"""Each lesson as a notebook: its form, that it runs from top to bottom, and measures what the script does."""

import ast
import base64
import builtins
import doctest
import os
import re
import subprocess
import sys
import types

import jupytext
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from jupyter_client import KernelManager
from nbclient import NotebookClient
from traitlets.config import Config

from chapters.course import ledger
from chapters.course import notebook as notebooks
from chapters.course.catalog import ROOT, find, lessons
from chapters.course.notebook import to_notebook
from chapters.utils import lesson

LESSONS = pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
MEASURED = ("A3", "B1", "C5", "D3", "E11")  # one of each chapter; the others with `--whole`


def lines_of(cells) -> list[str]:
    return [line for cell in cells for line in cell.source.splitlines() if line.strip()]


def answers_of(cells) -> list[str]:
    """What the lesson says of its worked examples, in blocks of the text and in docstrings."""
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    trees = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    parts = [node for tree in trees for node in ast.walk(tree)]
    blocks += [ast.get_docstring(node) or "" for node in parts if isinstance(node, ast.FunctionDef)]
    examples = [one for block in blocks for one in doctest.DocTestParser().get_examples(block)]
    return [one.want.strip() for one in examples if one.want]


@LESSONS
def test_the_form_of_a_notebook(item, tmp_path):
    path = to_notebook(item, tmp_path / "x.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert str(ROOT) not in path.read_text(encoding="utf-8"), "a path of this machine"
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    first, *code = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert "%pip install" in first.source
    assert item.path.name in first.source
    assert "IProgress not found" in first.source, "that warning of tqdm names a path"
    written = jupytext.read(item.path, fmt="py:percent").cells

    # the lesson's code is there, whole and in its order; every worked example has its output below it
    (run,) = (cell for cell in code if "run_lesson(main" in cell.source)
    examples = [cell for cell in code if cell.outputs]
    program = "\n".join(lines_of(cell for cell in written if cell.cell_type == "code"))
    own = [cell for cell in code if not cell.outputs and cell is not run]
    assert lines_of(own) == program.partition('\nif __name__ == "__main__":')[0].splitlines()
    shown = [output.get("text") or output.data["text/plain"] for cell in examples for output in cell.outputs]
    assert sorted(map(str.strip, shown)) == sorted(answers_of(written))
    names = set().union(*(notebooks._names_of(node) for _, node in notebooks._statements(own)))
    for cell in examples:
        stored = set().union(*map(notebooks._names_of, ast.parse(cell.source).body))
        assert not stored & names, f"{item.id}: an example overwrites a name of the lesson"

    # figures are inside the text; the run is one cell, before the section of the verdict
    assert not re.search(r"\]\([^()\s:]+\.(png|gif)\)", text)
    inside = {base64.b64decode(found) for found in re.findall(r";base64,([^)]+)\)", text)}
    assert (item.results / f"{item.id}.png").read_bytes() in inside
    assert inside <= {figure.read_bytes() for figure in ledger.own_figures(item)}
    assert run.source == notebooks.RUN
    before = notebook.cells[: notebook.cells.index(run)]
    assert not any(notebooks.VERDICT in cell.source for cell in before)
    assert all(cell.outputs for cell in code[code.index(run) + 1 :])


def test_an_example_follows_what_it_needs_and_needs_what_that_needs():
    from nbformat.v4 import new_code_cell, new_markdown_cell

    text = "Twice.\n\n```python\n>>> x = 3\n>>> twice(x)\n6\n>>> print(x)\n3\n```\n\nMore."
    source = (
        "def twice(x):\n    return times(2, x)\n\n\ndef times(a, b):\n    return a * b\n\n\ndef last(): ..."
    )
    cells = notebooks.alive([new_markdown_cell(text), new_code_cell(source)])
    assert [cell.source for cell in cells] == [
        text,
        source.removesuffix("\n\n\ndef last(): ..."),
        "x = 3\ntwice(x)",
        "print(x)",
        "def last(): ...",
    ]
    assert cells[2].outputs[0].data == {"text/plain": "6"}
    assert cells[3].outputs[0].text == "3\n"
    earlier = notebooks.alive([new_code_cell(source), new_markdown_cell(text)])
    assert [cell.source for cell in earlier] == [source, "Twice.", "x = 3\ntwice(x)", "print(x)", "More."]


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        ("https://github.com/a-b/c.d.git", "git+https://github.com/a-b/c.d"),
        ("https://somebody:secret@github.com/a/b", "git+https://github.com/a/b"),
        ("git@github.com:a/b.git", "git+https://github.com/a/b"),
        ("ssh://git@example.org/a/b/", "git+https://example.org/a/b"),
        ("/home/somebody/course", ""),
        ("", ""),
    ],
)
def test_where_pip_finds_the_course(origin, found, monkeypatch):
    """No password, and no folder of this machine, gets into a notebook."""
    done = subprocess.CompletedProcess([], 0, stdout=f"{origin}\n")
    monkeypatch.setattr(notebooks.subprocess, "run", lambda *_, **__: done)
    assert notebooks.address() == found


def test_links_lead_from_where_the_notebook_stands(tmp_path):
    folder, text = (
        find("B1").path.parent,
        "[a](../D_rlhf/D1_reward_modeling_concepts.md#x) [b](https://x.org)",
    )
    told = notebooks.self_contained(text, folder, ROOT)
    assert told == "[a](chapters/D_rlhf/D1_reward_modeling_concepts.md) [b](https://x.org)"
    assert notebooks.self_contained(text, folder, tmp_path) == "a [b](https://x.org)"


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


def execute(item, shell, folder, skipped="") -> list:
    """Run the cells of a lesson's notebook, but the one that equals `skipped`; what they displayed."""
    notebook = nbformat.read(to_notebook(item, folder / f"{item.id}.ipynb"), as_version=4)
    with capture_output() as shown:
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.source != skipped:
                shell.run_cell(cell.source).raise_error()
    for place in (ROOT, lesson.RUNS, folder):
        assert str(place) not in shown.stdout + shown.stderr, "a path is printed"
    return shown.outputs


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(item, id=item.id, marks=() if item.id in MEASURED else pytest.mark.slow)
        for item in lessons()
    ],
)
def test_notebook_measures_what_the_script_does_to_the_bit(item, shell, smoke_run, tmp_path):
    script, before = smoke_run(item), runs_of(lesson.RUNS, item)
    outputs = execute(item, shell, tmp_path)
    assert any("image/png" in output.data for output in outputs), "the figure is shown in the notebook"
    (run,) = runs_of(lesson.RUNS, item) - before
    assert ledger.fingerprint(script.folder, lesson_only=True) == ledger.fingerprint(run)


@LESSONS
def test_every_other_cell_runs_too(item, shell, tmp_path):
    """All but the one that measures, which is the same in every notebook: what it calls is then defined."""
    execute(item, shell, tmp_path, skipped=notebooks.RUN)
    defined = shell.user_ns
    assert callable(defined["main"])
    assert defined["Config"](**defined["SMOKE"])


def test_a_kernel_of_its_own_runs_it_too(smoke_run, tmp_path):
    """What a learner's Jupyter starts; with one lesson for all, since a process imports for seconds."""
    item = find("B0")
    notebook = nbformat.read(to_notebook(item, tmp_path / "B0.ipynb"), as_version=4)
    told = [cell.outputs for cell in notebook.cells if cell.get("outputs")]
    manager = KernelManager()
    manager.start_kernel(env={**os.environ, "RL_SMOKE": "1", "RL_RUNS": str(tmp_path)})
    try:
        NotebookClient(notebook, km=manager, timeout=120).execute()
    finally:
        manager.shutdown_kernel(now=True)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for before in told:
        assert any(before[0].get("data") == output.get("data") for output in outputs), "as it was written"
    said = "".join(output.get("text", "") for output in outputs)
    assert not re.search(r"(?<![\w.])/\w+/", said), "a path is printed"
    assert any("image/png" in output.get("data", {}) for output in outputs)
    (run,) = runs_of(tmp_path, item)
    script = smoke_run(item).folder
    assert ledger.fingerprint(script, lesson_only=True) == ledger.fingerprint(run)
