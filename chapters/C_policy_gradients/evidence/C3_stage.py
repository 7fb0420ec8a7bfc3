"""One task for the chapter's three learners: C0's REINFORCE, C1's A2C and C3's PPO swing up a pendulum.

Each is its lesson's own `train`, and each got a small search of its own on seeds 0 and 1 for the settings
below: three step sizes; batches of different length; discounts of 0.9 and 0.97; for A2C also its lambda.
"""

from __future__ import annotations

import math

import numpy as np

from chapters.C_policy_gradients import C0_policy_gradients_reinforce as reinforce
from chapters.C_policy_gradients import C1_actor_critic_methods_a2c as a2c
from chapters.C_policy_gradients import C3_ppo_from_scratch as ppo
from chapters.envs.pendulum import DiscretePendulum
from chapters.exact.pendulum import optimum
from chapters.utils import RunLog, plotting
from chapters.utils.evaluation import crossing

TASK, GOAL = "DiscretePendulum-v0", -200.0  # the course's goal for Pendulum-v1, three checks in a row
LABELS = {"reinforce": "REINFORCE (C0)", "a2c": "A2C (C1)", "ppo": "PPO (C3)"}
COLOURS = dict(zip(LABELS, (plotting.GREEN, plotting.ORANGE, plotting.BLUE)))
EPISODE, CHECK_EVERY = 200, 8192  # environment steps
SHARED = {"env_id": TASK, "num_envs": 16, "gamma": 0.97}
REINFORCE = {"learning_rate": 3e-3}
A2C = {"num_steps": 32, "learning_rate": 3e-3, "gae_lambda": 0.9, "max_grad_norm": 5.0}
PPO = {"num_steps": 200, "minibatch_size": 1024, "num_epochs": 10, "target_kl": 0.03, "max_grad_norm": 5.0}
PPO_SHARE = 4  # PPO learns for a quarter of the others' steps


def stage(num_env_steps: int, cfg: ppo.Config, log: RunLog) -> None:
    """Train all three; `stage_<name>_return` and `_cpu_seconds` at each check, against environment steps."""
    common = {"seed": cfg.seed, "num_eval_episodes": cfg.num_eval_episodes, **SHARED}
    num_updates = num_env_steps // (EPISODE * SHARED["num_envs"])
    for_a2c = {"num_env_steps": num_env_steps, "eval_every": min(CHECK_EVERY, num_env_steps)}
    for_ppo = {"num_env_steps": num_env_steps // PPO_SHARE}
    for_ppo["eval_every"] = min(CHECK_EVERY, for_ppo["num_env_steps"])
    runs = {
        "reinforce": (reinforce, reinforce.Config(num_updates=num_updates, **REINFORCE, **common)),
        "a2c": (a2c, a2c.Config(**for_a2c, **A2C, **common)),
        "ppo": (ppo, ppo.Config(**for_ppo, **PPO, **common)),
    }
    prefix = {"reinforce": "leave_one_out", "a2c": "a2c", "ppo": "ours"}  # what each lesson calls its learner
    for name, (lesson, own) in runs.items():
        quiet = RunLog(log.folder / "stage" / name, name)
        lesson.train(own, quiet)
        quiet.close()
        keep(name, prefix[name], quiet, log)


def keep(name: str, prefix: str, quiet: RunLog, log: RunLog) -> None:
    """Copy a learner's checks into `log`, returns in Pendulum-v1's units.

    REINFORCE checks itself after each batch; of its checks those count that are as far apart as the others'.
    """
    steps, returns = quiet.series(f"{prefix}_return")
    _, seconds = quiet.series(f"{prefix}_cpu_seconds")
    if name == "reinforce":  # its log counts episodes
        _, steps = quiet.series(f"{prefix}_env_steps")
    next_check = 0.0
    for step, value, cpu in zip(steps, returns, seconds):
        if step < next_check:
            continue
        next_check = (step // CHECK_EVERY + 1) * CHECK_EVERY
        value = value / DiscretePendulum.PART_OF_REWARD
        log.write(int(step), **{f"stage_{name}_return": value, f"stage_{name}_cpu_seconds": cpu})


def until_goal(runs: list[dict], name: str, column: int) -> list[float]:
    """CPU seconds (column 0) or environment steps (1) to the goal in each run; infinite if never."""
    return [crossing(run["metrics"], f"stage_{name}", GOAL)[column] for run in runs]


def claim_stage(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: what the other two need, in PPO's environment steps and seconds."""

    def median(name: str, column: int) -> float:
        # a run that never got there counts as if it had at its last check: a bound against our claims
        lasts = [run["metrics"][f"stage_{name}_cpu_seconds"][-1][::-1] for run in runs]
        found = until_goal(runs, name, column)
        return float(np.median([min(one, last[column]) for one, last in zip(found, lasts)]))

    for name, whose in (("reinforce", "REINFORCE"), ("a2c", "A2C")):
        for column, what in enumerate(("CPU seconds", "environment steps")):
            log.claim(
                f"stage_{name}_{'steps' if column else 'seconds'}",
                f"to a sustained {GOAL:g} on the pendulum {whose} needs more {what} than PPO",
                median(name, column) / median("ppo", column),
                at_least=1.0,
                unit=f"times PPO's{' or more' if name == 'reinforce' else ''}, medians",
                source="schulman2017ppo: several epochs of each sample",
                timed=column == 0,
            )
    reached = sum(math.isfinite(steps) for steps in until_goal(runs, "ppo", 1)) / len(runs)
    log.claim(
        "stage_ppo",
        f"on the pendulum PPO reaches a sustained {GOAL:g}",
        reached,
        at_least=0.9,
        unit="share of the seeds",
        source="the course's goal for Pendulum-v1",
    )


def draw_stage(runs: list[dict], log: RunLog) -> None:
    """Greedy return against environment steps and against CPU seconds, and when each seed got there."""
    figure, axes = plotting.new_figure(1, 3, width=5.0, height=4.0)
    best = optimum(len(DiscretePendulum.TORQUES))
    for ax, unit in ((axes[0], "thousand environment steps"), (axes[1], "CPU seconds of learning")):
        for name, label in LABELS.items():
            for number, run in enumerate(runs):
                steps, returns = zip(*run["metrics"][f"stage_{name}_return"])
                seconds = [value for _, value in run["metrics"][f"stage_{name}_cpu_seconds"]]
                x = np.array(steps) / 1000 if ax is axes[0] else seconds
                ax.plot(
                    x,
                    returns,
                    color=COLOURS[name],
                    linewidth=1.0,
                    alpha=0.7,
                    label=label if not number else None,
                )
        ax.axhline(GOAL, label=f"goal, {GOAL:g}", **plotting.REFERENCE)
        ax.axhline(best, label=f"optimum, {best:.0f}", **{**plotting.REFERENCE, "linestyle": ":"})
        ax.set(xlabel=unit, xscale="log")
    axes[0].set(ylabel="mean greedy return", title="The same task")
    axes[1].set(title="The same runs by time")
    axes[0].legend(loc="center left", bbox_to_anchor=(-0.02, 0.7), fontsize=9)
    rows = {label: [steps / 1000 for steps in until_goal(runs, name, 1)] for name, label in LABELS.items()}
    plotting.dot_rows(axes[2], rows, list(COLOURS.values()))
    axes[2].set(xlabel="thousand environment steps to a sustained goal", title="A dot is a seed")
    log.figure(figure, "stage")
