"""What the days' experiments share: arms run over seeds, kept on disk as they finish, and a table with intervals.

`results.json` beside a day's script holds every run. The table in the day's README stands between two marks and is made
from that file alone, so no number is typed; a test makes it anew and compares.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chapters.utils import stopping
from chapters.utils.files import write_atomic, write_json

START, END = "<!-- measured -->", "<!-- /measured -->"


def command(path: Path, arms: dict[str, Callable[[int], dict[str, float]]], seeds: range, block: Callable, draw: Callable) -> None:
    """What a study's script does: run what `path` lacks, write the table into the README beside it, draw the figure.

    With --report nothing is run. Whatever cannot be used is told in one line, exit code 2; Ctrl-C keeps every finished run.
    """
    if sys.argv[1:] not in ([], ["--report"]):
        stop("unknown argument (allowed: --report, or none)")
    try:
        results, text = measured(path, arms, seeds, block)
        try:
            report(path.parent, text)
            draw(results)
        except (OSError, ValueError) as error:
            stop(f"{path.parent}: {getattr(error, 'strerror', None) or error}")
    except KeyboardInterrupt:
        interrupted(f": every run that finished is in {path.name}; the same command goes on")


def measured(path: Path, arms: dict, seeds: range, block: Callable) -> tuple[dict, str]:
    """The results, after what they lack was run unless --report is given, and the text that tells of them."""
    try:
        check(read(path), arms, seeds)
        results = run_arms(path, {} if "--report" in sys.argv else arms, seeds, fresh=False)
        lacking = [name for name in arms if {str(seed) for seed in seeds} - results.get(name, {}).keys()]
        text = "" if lacking else block(results)
    except OSError as error:
        stop(f"{path}: {error.strerror}")
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:100]
        stop(f"{path}: damaged ({type(error).__name__}: {said}): git checkout it, or delete it and run all again")
    if lacking:
        stop(f"{path}: lacks runs of {', '.join(lacking)}: run this without --report")
    return results, text


def script(ways: dict[str, Callable[[], str]]) -> None:
    """What a day's small script does: by its flag, "" for none, one of its ways, whose words are printed."""
    flag = " ".join(sys.argv[1:])
    if flag not in ways:
        stop(f"unknown argument (allowed: {', '.join([*filter(None, ways), 'none'])})")
    try:
        print(ways[flag](), flush=True)
    except KeyboardInterrupt:
        interrupted()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
        stop(f"{error.filename or 'the output'}: {error.strerror}")


def heed_signals() -> None:
    """SIGTERM and a closed terminal end a script as Ctrl-C does; whoever is a script of its own asks for it."""
    stopping.start()
    stopping.then("raise")


def interrupted(more: str = "") -> None:
    """One line, exit code 128 + the signal's number."""
    print(f"interrupted{more}", file=sys.stderr)
    sys.exit(128 + (stopping.asked or signal.SIGINT))


def stop(what: str) -> None:
    """One line, exit code 2."""
    print(f"error: {what}", file=sys.stderr)
    sys.exit(2)


def read(path: Path) -> dict:
    """The recorded runs; none before the first."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def check(results: dict, arms: dict, seeds: range) -> None:
    """Raises ValueError for runs that this script does not make, and for what is no number."""
    for arm, runs in results.items():
        if strange := {arm} - arms.keys() or runs.keys() - {str(seed) for seed in seeds}:
            raise ValueError(f"{strange.pop()!r} is none of this study's arms and seeds")
        for name, value in ((name, value) for run in runs.values() for name, value in run.items()):
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e100:
                raise ValueError(f"a {name} of {arm} is no number: {str(value)[:20]}")


def run_arms(path: Path, arms: dict[str, Callable[[int], dict[str, float]]], seeds: range, fresh: bool) -> dict:
    """Run each arm on each seed and return the results: {arm: {seed: {metric: value}}}.

    After each run everything so far is on disk, so that an interrupted study goes on where it stopped.
    """
    results = {} if fresh else read(path)
    for seed in seeds:
        for arm, run in arms.items():
            if str(seed) in results.get(arm, {}):
                continue
            measured = run(seed)
            results.setdefault(arm, {})[str(seed)] = {name: round(float(value), 6) for name, value in measured.items()}
            write_json(path, results)
            print(f"seed {seed}, {arm}: " + ", ".join(f"{name} {value:.3g}" for name, value in measured.items()))
    return results


def values(results: dict, arm: str, metric: str) -> np.ndarray:
    """One metric of one arm over its seeds, in their order."""
    return np.array([run[metric] for _, run in sorted(results[arm].items(), key=lambda item: int(item[0]))])


def interval(numbers: np.ndarray, comparisons: int = 1) -> str:
    """Mean with Student's 95 % interval: over five seeds a bootstrap would be too sure of itself.

    Of several comparisons each gets a wider one (Bonferroni), so that with 95 % all hold at once.
    """
    from scipy import stats  # takes longer to import than all else: not to refuse an argument, nor to draw

    mean, error = numbers.mean(), stats.sem(numbers)
    half = stats.t.ppf(1.0 - 0.025 / comparisons, len(numbers) - 1) * error if len(numbers) > 1 else np.inf
    shown = (f"{round(number, 6) + 0.0:.3g}" for number in (mean, mean - half, mean + half))
    return "{} ({} to {})".format(*shown)


def table(results: dict, metrics: dict[str, str]) -> str:
    """A row an arm, a column a metric (name in the results: heading)."""
    count = len(next(iter(results.values())))
    lines = [f"| mean over {count} seeds (95 % interval) | " + " | ".join(metrics.values()) + " |"]
    lines.append("|---" * (len(metrics) + 1) + "|")
    for arm in results:
        cells = (interval(values(results, arm, metric)) for metric in metrics)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(results: dict, first: str, second: str, metric: str, comparisons: int = 1) -> str:
    """Mean of the paired differences first - second, with its interval among so many comparisons."""
    return interval(values(results, first, metric) - values(results, second, metric), comparisons)


def fill(readme: str, block: str) -> str:
    """The README with what stands between the marks replaced by `block`. Raises ValueError without them."""
    filled, count = re.subn(
        f"{re.escape(START)}.*?{re.escape(END)}", lambda _: f"{START}\n\n{block}\n\n{END}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the README needs one pair of {START} and {END}, it has {count}")
    return filled


def report(folder: Path, block: str) -> None:
    """Write `block` into the day's README."""
    readme = folder / "README.md"
    write_atomic(readme, fill(readme.read_text(encoding="utf-8"), block))


def save(figure, path: Path) -> None:
    """Write a figure; the same picture is the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
