"""Our PPO in JAX (lesson C4) against rejax's: each one compiled function, in fresh processes in turn.

python benchmarks/rejax_ppo/compare.py             every run that is not saved yet
python benchmarks/rejax_ppo/compare.py --quick     one seed each, printed only
python benchmarks/rejax_ppo/compare.py --table     the table again, from the saved runs
"""

import argparse
import sys
from pathlib import Path

from benchmarks.race import Contender, Race, heed_signals, in_a_line, load, render, run_all, tables
from chapters.utils import UsageError, write_atomic

HERE = Path(__file__).resolve().parent
REJAX = {  # the settings that rejax ships for CartPole (configs/gymnax/cartpole.yaml)
    "num_envs": 5, "num_steps": 100, "num_epochs": 5, "num_minibatches": 5, "learning_rate": 7.5e-4,
    "max_grad_norm": 0.5, "gamma": 0.99, "gae_lambda": 0.95, "clip_eps": 0.2, "ent_coef": 0.01,
    "vf_coef": 0.5,
}  # fmt: skip
OURS = {  # C4's, as far as rejax has them: step size and clip range stay what they are
    "num_envs": 16, "num_steps": 64, "num_epochs": 4, "num_minibatches": 4, "learning_rate": 5e-3,
    "max_grad_norm": 0.5, "gamma": 0.99, "gae_lambda": 0.95, "clip_eps": 0.2, "ent_coef": 0.0, "vf_coef": 0.5,
}  # fmt: skip
OWN_ENVIRONMENT = {"environment": "rejax_ppo/requirements.txt", "imports": ("rejax",)}
RACE = Race(
    name="rejax",
    env_id="CartPole-v1",
    threshold=475.0,
    eval_every=2048,
    contenders=(
        Contender("c4", "ours: PPO in JAX (C4)", "benchmarks.peers.ours_jax:ppo", 10),
        Contender("rejax", "rejax PPO, its settings", "benchmarks.rejax_ppo.ppo:ppo", 10, 100_000, REJAX,
                  **OWN_ENVIRONMENT),
        Contender("rejax_ours", "rejax PPO, our settings", "benchmarks.rejax_ppo.ppo:ppo", 10, 61_440, OURS,
                  **OWN_ENVIRONMENT),
    ),
    pairs=(("c4", "rejax"), ("c4", "rejax_ours")),
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Wrong usage is a line, not two."""

    def error(self, message: str) -> None:
        raise UsageError(f"{message} (see --help)")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed each, printed only")
    parser.add_argument("--table", action="store_true", help="only the table, of what is saved")
    parser.add_argument("--fresh", action="store_true", help="run again what was run before")
    given = parser.parse_args()
    path = HERE.parents[1] / "runs" / "benchmarks" / "rejax.json" if given.quick else HERE / "results.json"
    failed = [] if given.table else run_all(RACE, path, quick=given.quick, fresh=given.fresh)
    if given.quick:
        print(tables(RACE, load(path)))
    else:
        readme = HERE / "README.md"
        write_atomic(readme, render(readme.read_text(encoding="utf-8"), RACE, load(path)))
    return 1 if failed else 0


if __name__ == "__main__":
    heed_signals()
    sys.exit(in_a_line(main))
