"""`rl break`: a lesson with one named edit, run beside the right one."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chapters.course.catalog import Item
from chapters.course.parts import checks_of, edits_of, function_checks, lesson_of
from chapters.utils.claims import Claim
from chapters.utils.edits import Edit, diff, edited
from chapters.utils.lesson import RunOptions, UsageError, execute
from chapters.utils.runlog import RunLog

SAYS_LITTLE = ("Not equal to tolerance", "Tensor-likes are not close", "assert ")
"""How libraries begin where numbers differ: pages of them, and none that a learner can follow."""


def find_edit(item: Item, name: str) -> Edit:
    """The edit of a lesson called `name`. Raises UsageError with what is allowed."""
    edits = edits_of(item)
    if name not in edits:
        raise UsageError(f"{item.id} has no edit {name!r} (there are: {', '.join(edits)})")
    return edits[name]


def table(item: Item) -> Iterator[str]:
    """The edits of a lesson, a line each, by the function that they change."""
    edits = edits_of(item)
    width = max(map(len, edits))
    for function in dict.fromkeys(edit.function for edit in edits.values()):
        yield f"{function}"
        for name, edit in edits.items():
            if edit.function == function:
                fails = f"; fails {', '.join(edit.fails)}" if edit.fails else ""
                yield f"  {name:<{width}}  {edit.says}{fails}"


def verdict_of_check(item: Item, edit: Edit) -> str:
    """What the check of the edited function says of it, in a line."""
    check = function_checks(checks_of(item)).get(edit.function)
    if check is None:
        return f"{edit.function} has no check of its own"
    wrong = getattr(edited(lesson_of(item), edit), edit.function)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check(wrong)
    except Exception as error:  # an assertion, a shape, a crash: each is a rejection
        said = " ".join(str(error).split())
        if not said or said.startswith(SAYS_LITTLE):
            said = difference(item, edit.function, wrong) or said
        return f"the check of {edit.function} rejects it: {type(error).__name__}: {said[:200]}".rstrip(": ")
    return f"the check of {edit.function} does not notice it"


def difference(item: Item, name: str, wrong: Callable) -> str:
    """Where a wrong function answers otherwise than the right one, on the check's smallest such input."""
    from chapters.course.grading import example
    from chapters.course.spying import replay, same_answer, spied

    spy, calls = spied(wrong)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        function_checks(checks_of(item))[name](spy)
    pairs = zip(replay(wrong, calls), replay(getattr(lesson_of(item), name), calls))
    differ = [pair for pair in pairs if not pair[1].error and not same_answer(*pair)]
    if not differ:
        return ""
    mine, theirs = min(differ, key=lambda pair: pair[0].size)
    several = isinstance(mine.answer, tuple) and isinstance(theirs.answer, tuple)
    first = first_part(mine.answer, theirs.answer) if several else ""
    told = example(wrong, mine, theirs)
    return first or told.get("index") or f"{told['expected']} expected, {told['found']} found"


def first_part(found: tuple, right: tuple) -> str:
    """Of several answers the first number that differs, "" if what differs is no number."""
    from chapters.course.spying import alike, as_array, first_difference, is_numeric, shown

    for number, (one, other) in enumerate(zip(found, right), 1):
        if alike(one, other):
            continue
        index = first_difference(one, other) or ()
        if not (is_numeric(one) and is_numeric(other)) or as_array(one)[index].ndim:
            return ""
        at = f", {list(index)}" if index else ""
        wrong, expected = (shown(as_array(answer)[index]) for answer in (one, other))
        return f"answer {number} of {len(right)}{at}: {expected} expected, {wrong} found"
    return ""


@dataclass(frozen=True)
class Comparison:
    """The right lesson and the broken one, run with the same settings."""

    edit: Edit
    right: RunLog
    broken: RunLog | None
    """None if the broken one did not come to its end."""
    stopped: str = ""
    """How it stopped then."""

    def failed(self) -> list[str]:
        """The claims that hold for the right lesson and not for the broken one, made or not."""
        made = {claim.name: claim for claim in self.broken.claims} if self.broken else {}
        right = [claim for claim in self.right.claims if claim.holds]
        return [claim.name for claim in right if claim.name not in made or not made[claim.name].holds]

    def surprises(self) -> list[str]:
        """The claims that were predicted to fail and did not."""
        known = {*self.failed(), *self.untold()}
        return [name for name in self.edit.fails if name not in known]

    def untold(self) -> list[str]:
        """The claims that were predicted to fail and fail for the right lesson, too, as in a smoke run."""
        right = {claim.name for claim in self.right.claims if not claim.holds}
        return [name for name in self.edit.fails if name in right]


def compare(item: Item, edit: Edit, seed: int, smoke: bool, out: Path) -> Comparison:
    """Run both `main`s, without evidence. Raises EditError if the edit does not fit."""
    lesson, wrong = lesson_of(item), edited(lesson_of(item), edit)
    options = RunOptions(smoke=smoke, out=out / "right")
    settings = {**(lesson.SMOKE if smoke else {}), "seed": seed}
    right = execute(lesson.main, lesson.Config(**settings), item.path, options, print_claims=False)
    options = RunOptions(smoke=smoke, out=out / "broken")
    try:
        broken = execute(wrong.main, wrong.Config(**settings), item.path, options, print_claims=False)
    except UsageError:
        raise
    except Exception as error:  # whatever a mistake can do: that is the lesson
        said = " ".join(str(error).split())[:200]
        return Comparison(edit, right, None, f"{type(error).__name__}: {said}".rstrip(": "))
    return Comparison(edit, right, broken)


def report(found: Comparison) -> Iterator[str]:
    """Which claims fail, what moved, and whether the edit did what its line says."""
    if found.broken is None:
        yield f"the broken lesson stops: {found.stopped}"
    else:
        made = {claim.name: claim for claim in found.broken.claims}
        width = max(len(claim.name) for claim in found.right.claims)
        yield f"{'claim':<{width}}  {'bound':<14}{'right':>12}{'broken':>12}"
        for claim in found.right.claims:
            other = made.get(claim.name)
            cells = [_cell(claim), _cell(other) if other else "not made"]
            yield f"{claim.name:<{width}}  {claim.bound:<14}" + "".join(f"{cell:>12}" for cell in cells)
    failed = found.failed()
    yield f"claims that fail: {', '.join(failed) if failed else 'none'}"
    if found.edit.fails:
        missed, untold = found.surprises(), found.untold()
        if missed:
            yield f"predicted and not seen: {', '.join(missed)}"
        elif not untold:
            yield "as its line predicts"
        if untold:
            yield f"predicted, but this run cannot tell: {', '.join(untold)} (fails in the right lesson, too)"
    elif failed:
        yield "its line predicts no claim: on other seeds these may hold, and the check is what notices it"
    else:
        yield "as its line predicts: no claim of the lesson notices it, only a check can"


def diff_of(item: Item, edit: Edit) -> str:
    """The edit as a diff of the lesson."""
    return diff(item.path.read_text(encoding="utf-8"), edit, name=item.path.name)


def side_by_side(found: Comparison, path: Path) -> Path | None:
    """The lesson's figure, right and broken, in one picture at `path`; None if one of the two is missing."""
    from PIL import Image

    from chapters.utils.files import write_atomic

    logs = [log for log in (found.right, found.broken) if log is not None]
    pictures = [next((f for f in log.figures if f.name == f"{log.lesson}.png"), None) for log in logs]
    if len(pictures) < 2 or None in pictures:
        return None
    images = [Image.open(picture).convert("RGB") for picture in pictures]
    bar = 36
    width, height = sum(image.width for image in images), max(image.height for image in images) + bar
    whole = Image.new("RGB", (width, height), "white")
    left = 0
    for image, title in zip(images, ("the lesson", f"edited: {found.edit.says}")):
        whole.paste(image, (left, bar))
        _write(whole, (left + 12, 8), title)
        left += image.width
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())
    return path


def _write(image, at: tuple[int, int], text: str) -> None:
    from PIL import ImageDraw, ImageFont

    ImageDraw.Draw(image).text(at, text, fill="black", font=ImageFont.load_default(size=18))


def _cell(claim: Claim) -> str:
    value = "not a number" if math.isnan(claim.value) else f"{claim.value:.4g}"
    return f"{value} {'✓' if claim.holds else '✗'}"
