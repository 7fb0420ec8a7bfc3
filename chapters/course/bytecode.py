"""Leaves the bytecode of what the course imports behind: `python -m chapters.course.bytecode`.

uv installs packages as source. Python compiles each module when it is first imported and keeps the outcome,
but not where PYTHONDONTWRITEBYTECODE is set, as in many containers, or where nothing can be written later on:
there every start would compile torch anew. So the set-up imports once what lessons import, with writing
allowed. Compiling every installed file instead would take a minute.
"""

from __future__ import annotations

import ast
import compileall
import contextlib
import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1]
MARK = "course-bytecode"
"""Name of the file in the environment that says for which packages and Python this was done."""
AT_FIRST_USE = (
    "torch._dynamo",
    "torch.optim.adam",
    "transformers.models.gpt2.modeling_gpt2",
    "matplotlib.figure",
)
"""What libraries import by themselves when they are used: an optimiser, a model, a figure."""


def imports(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """(module, name or "") of every import in these files that is not the course's own."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node.module, alias.name) for alias in node.names)


def import_all(modules: list[tuple[str, str]]) -> None:
    """Import each; what is an optional extra, or belongs to another system, is passed over."""
    for module, name in modules:
        if module.split(".")[0] in ("chapters", "__future__"):
            continue
        with contextlib.suppress(Exception):
            found = importlib.import_module(module)
            if name:
                getattr(found, name)  # libraries that load lazily load now


def state() -> str:
    """What the bytecode depends on: this Python, and the packages that are pinned."""
    lock = CHAPTERS.parent / "uv.lock"
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return f"{sys.version}\n{hashlib.sha256(text.encode()).hexdigest()}\n"


def main() -> None:
    """Do it once for these packages; say nothing if it was done, or cannot be."""
    mark = Path(sys.prefix) / MARK
    if mark.exists() and mark.read_text(encoding="utf-8") == state():
        return
    if len(sys.argv) > 1:  # a worker: every second file's imports
        sys.dont_write_bytecode = False
        first = int(sys.argv[1])
        paths = sorted(CHAPTERS.rglob("*.py"))
        found = sorted(set(imports(paths[first::2])))
        import_all([*found, *((name, "") for name in AT_FIRST_USE)])
        return
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "chapters.course.bytecode"]
    workers = [
        subprocess.Popen([*command, str(n)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for n in range(2)
    ]
    for worker in workers:
        worker.wait()
    compileall.compile_dir(CHAPTERS, quiet=2)
    with contextlib.suppress(OSError):
        mark.write_text(state(), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
