"""What `rl diagnose` names first in logs of Stable-Baselines3 and TRL, on seeds that E3 did not record.

.venv/bin/python tests/foreign_logs.py --first 100 --seeds 3      # the table; a few seconds a run
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from chapters.E_practice.evidence.E3_foreign import BUGS, PAIRS, named_first, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    parser.add_argument("--learner", choices=BUGS, help="only one")
    parser.add_argument("--bug", help="only one")
    parser.add_argument("--keep", type=Path, help="a folder for the logs")
    options = parser.parse_args()
    right, broken, alarms, healthy = 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for learner, bug in PAIRS:
            if options.learner not in (None, learner) or options.bug not in (None, bug):
                continue
            first: Counter[str] = Counter()
            for seed in range(options.first, options.first + options.seeds):
                folder = (options.keep or Path(scratch)) / f"{learner}-{bug}-{seed}"
                run(folder, learner, bug, seed)
                first[named_first(folder)] += 1
            if bug == "none":
                healthy += options.seeds
                alarms += options.seeds - first[bug]
            else:
                broken += options.seeds
                right += first[bug]
            told = ", ".join(f"{name} {count}" for name, count in first.most_common())
            print(f"{learner:<9} {bug:<24} {told}", flush=True)
    print(f"named first: {right} of {broken} broken runs; alarms: {alarms} of {healthy} healthy runs")


if __name__ == "__main__":
    main()
