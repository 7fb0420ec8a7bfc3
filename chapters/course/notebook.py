"""A lesson as a Jupyter notebook."""

from __future__ import annotations

from pathlib import Path

from chapters.course.catalog import Item
from chapters.utils.files import write_atomic


def to_notebook(item: Item, path: Path) -> Path:
    """Write the lesson to `path` as .ipynb; a first cell tells the run log which lesson it is."""
    import jupytext
    from nbformat.v4 import new_code_cell

    notebook = jupytext.read(item.path, fmt="py:percent")
    source = f"__file__ = {str(item.path)!r}  # tells the run log which lesson this is"
    notebook.cells.insert(0, new_code_cell(source))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write_atomic(path, jupytext.writes(notebook, fmt="ipynb"))
    return path
