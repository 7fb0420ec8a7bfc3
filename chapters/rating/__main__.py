"""`python -m chapters.rating ratings.sqlite preferences.jsonl`: all preferences of a store, for TRL.

The same as `rl rate export`; `--pairs` of D3, D4 and D6 reads the file.
"""

import sys
from pathlib import Path

from chapters.rating import RatingStore, export
from chapters.utils.lesson import WRONG_USAGE, UsageError


def main(arguments: list[str]) -> None:
    paths = [argument for argument in arguments if argument != "--chat"]
    if len(paths) != 2:
        raise UsageError("two paths are needed: the ratings, and the .jsonl file to write")
    print(write(*map(Path, paths), chat="--chat" in arguments))


def write(source: Path, target: Path, chat: bool = False) -> str:
    """Export a store, as texts or as messages; returns a line that says what became of its pairs."""
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file")
    with RatingStore(source) as store:
        counts = export(store, store.pairs(), target, chat)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) + f": {target}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
