"""What guards one file directly: its lesson's checks and worked examples, or the originals' checks of copies.

No part of the suite, where `test_checks.py` and `test_contract.py` do the same for all lessons at once:
`mutate.py` runs this for the one file in which it planted an error, named by `RL_MUTATED`.
"""

import doctest
import importlib
import os
import re

import jupytext
import pytest

from chapters.course.catalog import ROOT, find
from chapters.course.parts import checks_of, function_checks

PATH = ROOT / os.environ["RL_MUTATED"]
TEXT = PATH.read_text(encoding="utf-8")
COPIES = re.compile(r"# same-as: ([A-E]\d+)\.(\w+)\n(?:@.*\n)*(?:def|class) (\w+)")


def cases() -> list[tuple[str, str, str]]:
    """(lesson whose check it is, name of the check, name of the function in this file)."""
    found = COPIES.findall(TEXT)
    if match := re.match(r"([A-E]\d+)_", PATH.name):
        found += [(match[1], name, name) for name in function_checks(checks_of(find(match[1])))]
    return found


def module():
    return importlib.import_module(".".join(PATH.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize(("original", "name", "here"), cases())
def test_function_meets_its_definition(original, name, here):
    function_checks(checks_of(find(original)))[name](getattr(module(), here))


def test_worked_examples_come_out_as_written():
    space = vars(module())
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    notebook = jupytext.reads(TEXT, fmt="py:percent")
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    tests = [parser.get_doctest(block, space, PATH.stem, str(PATH), 0) for block in blocks]
    for test in tests + doctest.DocTestFinder().find(module(), PATH.stem, module=module()):
        runner.run(test, clear_globs=False)
    assert not runner.failures
