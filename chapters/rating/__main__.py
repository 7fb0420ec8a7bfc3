"""`python -m chapters.rating ratings.sqlite preferences.jsonl`: all preferences of a store, for TRL."""

import sys
from pathlib import Path

from chapters.rating import RatingStore, export
from chapters.utils.lesson import WRONG_USAGE, UsageError


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise UsageError("two paths are needed: the ratings, and the .jsonl file to write")
    source, target = map(Path, arguments)
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file")
    with RatingStore(source) as store:
        counts = export(store, store.pairs(), target)
    print(", ".join(f"{count} {name}" for name, count in counts.items()) + f": {target}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
