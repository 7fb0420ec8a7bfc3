"""B4's evidence: each part taken away alone, a library's DQN on the same clock, maximisation bias exactly.

Every other version of the learner is the lesson with named edits, or with other settings. All of ours make
the same number of gradient steps.

The world of two states is Sutton and Barto's Example 6.7. From A, *right* ends the episode with 0; *left*
leads to B with 0, and B offers ten actions that all end with a reward from a normal distribution around -0.1.
Left is a mistake, but the largest of ten noisy estimates at B is nearly always above zero. Double Q-learning
keeps two tables; a coin says which one is written, and the other judges the action that the first would
choose.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from chapters.B_core_algorithms import B4_dqn_from_scratch as lesson
from chapters.B_core_algorithms.checks.B4 import EDITS
from chapters.envs import make_envs
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.exploration import epsilon_greedy
from chapters.utils import CpuClock, RunLog, in_range, plotting, seed_everything
from chapters.utils.edits import edited
from chapters.utils.evaluation import sustained

SOLVED = lesson.SOLVED
LEFT = 1
EPSILON, ALPHA, NUM_BAD_ACTIONS, NUM_EPISODES = 0.1, 0.1, 10, 300  # the example's; its gamma is 1


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_sb3_steps: Annotated[int, in_range(1, 10_000_000)] = 50_000
    """Environment steps of Stable-Baselines3's DQN (rl-zoo's number)."""
    num_tabular_runs: Annotated[int, in_range(1, 1_000_000)] = 10_000
    """Independent learners in the world of two states."""


SMOKE = {"num_sb3_steps": 300, "num_tabular_runs": 30}


# The learners


@dataclass(frozen=True)
class Variant:
    """The lesson's learner with something changed."""

    label: str
    """What stands in the figures."""
    edits: tuple[str, ...] = ()
    """Names in the lesson's EDITS."""
    settings: tuple[tuple[str, float | int], ...] = ()
    """Fields of the lesson's Config, and what they are instead."""
    one_env: bool = False
    """One environment: as many gradient steps, from a quarter of the experience."""


TUTORIAL = (("average_rate", 1.0), ("learning_rate", 1e-3), ("buffer_size", 10_000))
VARIANTS = {
    "double": Variant("the lesson (double DQN)"),
    "plain": Variant("plain: one network chooses and judges", ("plain",)),
    "dueling": Variant("dueling head too", ("dueling",)),
    "no_replay": Variant("no replay: the latest steps only", ("no_replay",)),
    "no_target": Variant("no target network", ("no_target",)),
    "no_average": Variant("no average: online weights act", settings=TUTORIAL[:1]),
    "merged": Variant("time limit stored as an end", ("merged",)),
    "one_env": Variant("one environment", one_env=True),
    "small_step": Variant("half the step size", settings=TUTORIAL[1:2]),
    "small_buffer": Variant("a tenth of the buffer", settings=TUTORIAL[2:]),
    "synced_by_episodes": Variant("target copied every 10 episodes", ("synced_by_episodes",)),
    "tutorial": Variant(
        "as in many tutorials", ("plain", "merged", "synced_by_episodes"), TUTORIAL, one_env=True
    ),
    "tutorial_synced": Variant(
        "the same, copied every 50 steps", ("plain", "merged"), TUTORIAL, one_env=True
    ),
}  # fmt: skip
"""Our learners. "tutorial" is a recipe that is copied around; most rows above it are its changes, alone."""
LABELS = {name: variant.label for name, variant in VARIANTS.items()} | {"sb3": "SB3 at rl-zoo's settings"}


def train_variant(name: str, cfg: lesson.Config, log: RunLog) -> Any:
    """The trained agent of one row."""
    variant = VARIANTS[name]
    cfg = replace(cfg, **dict(variant.settings))
    if variant.one_env:
        num_rounds = cfg.num_env_steps // cfg.num_envs
        cfg = replace(
            cfg, num_envs=1, num_env_steps=num_rounds, num_exploration_steps=max(1, num_rounds // 4)
        )
    module = edited(lesson, *[EDITS[edit] for edit in variant.edits]) if variant.edits else lesson
    return module.train(cfg, log, name=name)


def train_sb3(cfg: lesson.Config, extra: Config, log: RunLog) -> nn.Module:
    """The last network of Stable-Baselines3's DQN at rl-zoo's settings (raffin2020zoo)."""
    from stable_baselines3 import DQN

    seed_everything(cfg.seed)
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        seed=cfg.seed,
        device="cpu",
        gamma=0.99,
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1000,
        train_freq=256,
        gradient_steps=128,
        target_update_interval=10,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
    )
    clock = CpuClock()

    def measure(step: int) -> None:
        score = lesson.greedy_return(model.q_net, cfg.seed + 10_000)
        log.write(step, sb3_return=score, sb3_cpu_seconds=clock.seconds)

    def after_step(learner: dict, _globals: dict) -> bool:
        step = learner["self"].num_timesteps
        if step % 512 == 1 and step > 1:  # a round's gradient steps come just before the next one
            clock.__exit__()
            measure(step - 1)
            clock.__enter__()
        return True

    with clock:
        model.learn(extra.num_sb3_steps, callback=after_step)
    measure(extra.num_sb3_steps)
    return model.q_net


def first_crossing(metrics: dict, name: str) -> tuple[float, float]:
    """(CPU seconds until an evaluation first reached the threshold, share of those from it on that did).

    (infinity, 0) if none did. metrics: name -> [(step, value), ...], as run logs and ledgers keep them.
    """
    returns = [value for _, value in metrics[f"{name}_return"]]
    first = sustained(returns, SOLVED, in_a_row=1)
    if first is None:
        return math.inf, 0.0
    later = returns[first:]
    seconds = metrics[f"{name}_cpu_seconds"][first][1]
    return seconds, sum(value >= SOLVED for value in later) / len(later)


@torch.inference_mode()
def start_values(
    network: Callable, cfg: lesson.Config, num_steps: int = 1500
) -> tuple[float, float]:  # fmt: skip
    """(largest Q, discounted return without a time limit), means over 50 starts of the greedy policy."""
    envs = BatchedCartPole(50, max_episode_steps=num_steps + 1)
    obs, _ = envs.reset(seed=cfg.seed + 30_000)
    believed = network(torch.from_numpy(obs)).amax(dim=1).mean()
    returns = np.zeros(50)
    alive = np.ones(50)
    for t in range(num_steps):
        actions = network(torch.from_numpy(obs)).argmax(dim=1).numpy()
        obs, rewards, terminated, _, _ = envs.step(actions)
        returns += cfg.gamma**t * alive * rewards
        alive *= ~terminated
        if not alive.any():
            break
    return float(believed), float(returns.mean())


# Maximisation bias, where it is known to matter


def judged_value(
    chooser: Float[np.ndarray, "R A"], judge: Float[np.ndarray, "R A"], rng: np.random.Generator
) -> Float[np.ndarray, " R"]:
    """The judge's value of the chooser's best action; Q-learning's maximum if both are the same table."""
    return judge[np.arange(len(judge)), epsilon_greedy(chooser, 0.0, rng)]


def two_state_world(double: bool, num_runs: int, rng: np.random.Generator) -> Float[np.ndarray, " E"]:
    """Share of runs that go left in each episode (vanhasselt2010double; suttonbarto2018, figure 6.5)."""
    runs = np.arange(num_runs)
    first = np.zeros(num_runs, dtype=int)
    at_a = np.zeros((2, num_runs, 2))  # [table, run, action]
    at_b = np.zeros((2, num_runs, NUM_BAD_ACTIONS))
    share = np.zeros(NUM_EPISODES)
    for episode in range(NUM_EPISODES):
        action = epsilon_greedy(at_a.sum(axis=0), EPSILON, rng)  # the tables act together
        bad_action = epsilon_greedy(at_b.sum(axis=0), EPSILON, rng)
        left = action == LEFT
        share[episode] = left.mean()
        table = rng.integers(2, size=num_runs) if double else first
        judge = 1 - table if double else first
        bootstrap = left * judged_value(at_b[table, runs], at_b[judge, runs], rng)
        at_a[table, runs, action] += ALPHA * (bootstrap - at_a[table, runs, action])
        table = rng.integers(2, size=num_runs) if double else first
        error = rng.normal(-0.1, 1.0, size=num_runs) - at_b[table, runs, bad_action]
        at_b[table, runs, bad_action] += ALPHA * left * error  # only those who went left saw B
    return share


def claim_bias(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    plain = two_state_world(False, extra.num_tabular_runs, rng)
    double = two_state_world(True, extra.num_tabular_runs, rng)
    unit = "share of runs going left"
    source = "suttonbarto2018, figure 6.5"
    log.claim(
        "plain_peak_left",
        "Q-learning learns to prefer the worse action: its share of going left rises to",
        plain.max(),
        at_least=0.75,
        unit=unit,
        source=source,
        seeds="1/1",
    )
    log.claim(
        "double_peak_left",
        "double Q-learning never does: its share starts at a coin toss and falls",
        double.max(),
        at_most=0.53,
        unit=unit,
        source=source,
        seeds="1/1",
    )
    log.claim(
        "left_at_the_end",
        "at the end double Q-learning is less than half as far above the 5 % of exploration",
        (double[-20:].mean() - 0.05) / (plain[-20:].mean() - 0.05),
        at_most=0.5,
        unit="ratio of the excesses",
        source=source,
        seeds="1/1",
    )
    draw_bias(plain, double, log)


# All of it


def endless_value(module: ModuleType, cfg: lesson.Config) -> float:
    """Where Q-learning settles on 100 transitions of the endless probe, collected as in training.

    The probe pays 1 a step for ever and is cut every 10 steps.
    """
    envs = make_envs("ProbeEndless-v0", 1)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = module.Agent(envs, cfg)
    for _ in range(100):
        obs = module.collect(agent, envs, obs, epsilon=1.0)
    rewards = torch.from_numpy(agent.buffer.arrays["rewards"][:100])
    terminated = torch.from_numpy(agent.buffer.arrays["terminated"][:100])
    value = torch.zeros(())
    for _ in range(3000):
        value = module.td_target(rewards, value.expand(100), terminated, cfg.gamma).double().mean()
    return value.item()


def claim_limits(cfg: lesson.Config, log: RunLog) -> None:
    log.claim(
        "endless_value",
        "with the limit bootstrapped, a world without end is worth 1 / (1 - gamma)",
        endless_value(lesson, cfg),
        near=(1 / (1 - cfg.gamma), 0.01),
        source="geometric series",
        always=True,
    )
    log.claim(
        "endless_value_merged",
        "with the limit stored as an end, a world without end seems worth 1 / (1 - 0.9 gamma)",
        endless_value(edited(lesson, EDITS["merged"]), cfg),
        near=(1 / (1 - 0.9 * cfg.gamma), 0.01),
        source="geometric series",
        always=True,
    )
    log.claim(
        "best_return",
        "the greedy policy crosses the threshold at some evaluation",
        log.kept["agent"].best_return,
        at_least=SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_limits(cfg, log)
    claim_bias(cfg, extra, log)
    networks = {"double": log.kept["agent"].average}
    for name in VARIANTS:
        if name not in networks:
            networks[name] = train_variant(name, cfg, log).average
    networks["sb3"] = train_sb3(cfg, extra, log)
    for name, network in networks.items():
        seconds, share = first_crossing(log.metrics, name)
        believed, true = start_values(network, cfg)
        log.write(0, **{f"{name}_first_475_seconds": seconds, f"{name}_share_solved_after": share})
        log.write(0, **{f"{name}_q_of_start": believed, f"{name}_value_of_start": true})
    draw_race([log.metrics], log)
    draw_truth([log.metrics], cfg.gamma, log)


def chance_of_more(differences: np.ndarray) -> float:
    """p of a mean at least as large, were either sign of each difference as likely; all signs are tried."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
    means = (signs * differences).mean(axis=1)
    return float((means >= differences.mean() - 1e-12).mean())


def claim_over_seeds(metrics: list[dict], gamma: float, log: RunLog) -> None:
    """What double cures, and what the target network is for."""
    beyond = {
        name: np.array([run[f"{name}_q_of_start"][-1][1] > 1 / (1 - gamma) for run in metrics])
        for name in ("plain", "double")
    }
    log.claim(
        "plain_overestimates_more",
        "the last network believes its start to be worth more than is possible on more seeds with plain DQN",
        beyond["plain"].mean() - beyond["double"].mean(),
        at_least=0.0,
        unit="share of seeds with plain, less that with double",
        source="vanhasselt2016double",
    )
    without = np.array([first_crossing(run, "no_target")[0] for run in metrics])
    log.claim(
        "no_target_solves",
        "without a target network 475 is reached on fewer than half of the seeds",
        np.isfinite(without).mean(),
        at_most=0.5,
        unit="share of seeds",
        source="mnih2015dqn, extended data table 3: without it scores fall",
    )
    lasting = {
        name: np.array([first_crossing(run, name)[1] for run in metrics]) for name in ("plain", "double")
    }
    log.claim(
        "double_lasts_longer",
        "after the first 475, double DQN keeps it for a larger share of the evaluations than plain DQN",
        chance_of_more(lasting["double"] - lasting["plain"]),
        at_most=0.05,
        unit="p, all sign flips of the paired differences",
        source="vanhasselt2016double; the usual level of a test",
    )


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: seconds against the library, what double cures, and all the figures."""
    metrics = [run["metrics"] for run in runs]
    gamma = runs[0]["config"].get("gamma", lesson.Config().gamma)
    ours = [first_crossing(run, "double")[0] for run in metrics]
    # a run of theirs that never got there counts as if it had on its last step: in their favour
    theirs = [min(first_crossing(run, "sb3")[0], run["sb3_cpu_seconds"][-1][1]) for run in metrics]
    log.claim(
        "cpu_seconds_ratio",
        "ours needs fewer CPU seconds to 475 than Stable-Baselines3's DQN",
        np.median(ours) / np.median(theirs),
        at_most=1.0,
        unit="ratio of medians over paired seeds",
        source="stable-baselines3 at rl-zoo's settings in the same runs",
        timed=True,
    )
    claim_over_seeds(metrics, gamma, log)
    draw_return(metrics, log)
    draw_race(metrics, log)
    draw_truth(metrics, gamma, log)


# Figures


def colours() -> list[str]:
    """The lesson and the library stand out, what tutorials change together is of one colour."""
    chosen = {"double": plotting.BLUE, "sb3": plotting.GREEN}
    chosen |= {"tutorial": plotting.RED, "tutorial_synced": plotting.RED}
    return [chosen.get(name, plotting.ORANGE) for name in LABELS]


def draw_return(runs: list[dict], log: RunLog) -> None:
    """The lesson's figure over all seeds."""
    figure, ax = plotting.new_figure(width=8.0)
    curves = np.array([run["double_return"] for run in runs])  # [runs, evaluations, (step, return)]
    plotting.seed_band(ax, curves[0, :, 0], curves[:, :, 1], "averaged weights")
    ax.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    ax.set(xlabel="environment steps", ylabel="greedy return", ylim=(0, 510), title="Does it last?")
    ax.legend(loc="lower right")
    log.figure(figure)


def draw_race(runs: list[dict], log: RunLog) -> None:
    """A row for each learner, a dot for each run, a line at their median: how fast, and for how long."""
    figure, (fast, stays) = plotting.new_figure(1, 2, width=6.0, height=1.6 + 0.42 * len(LABELS))
    found = {name: np.array([first_crossing(run, name) for run in runs]) for name in LABELS}  # [runs, 2]
    plotting.dot_rows(fast, {LABELS[name]: rows[:, 0] for name, rows in found.items()}, colours())
    plotting.dot_rows(stays, {LABELS[name]: 100 * rows[:, 1] for name, rows in found.items()}, colours())
    fast.set(xlabel="CPU seconds to the first 475", title="How fast?")
    stays.set(xlabel="later evaluations at 475 or above (%)", xlim=(-3, 103), title="Does it last?")
    stays.set_yticks(range(len(LABELS)), [""] * len(LABELS))
    log.figure(figure, "race")


def draw_truth(runs: list[dict], gamma: float, log: RunLog) -> None:
    """Of each learner's last network: what it believes its start to be worth, and what it then gets."""
    figure, (believes, gets) = plotting.new_figure(1, 2, width=6.0, height=1.6 + 0.42 * len(LABELS))
    most = 1 / (1 - gamma)
    end = 1.5 * most  # of the axis
    believed = {name: np.array([run[f"{name}_q_of_start"][-1][1] for run in runs]) for name in LABELS}
    true = {name: np.array([run[f"{name}_value_of_start"][-1][1] for run in runs]) for name in LABELS}
    rows = {LABELS[name]: np.minimum(values, end) for name, values in believed.items()}
    plotting.dot_rows(believes, rows, colours())
    plotting.dot_rows(gets, {LABELS[name]: values for name, values in true.items()}, colours())
    for row, values in enumerate(believed.values()):
        if beyond := int((values > end).sum()):
            text = f"{beyond} of {len(values)} off the scale "
            believes.text(0.97 * end, row - 0.2, text, ha="right", fontsize=10, color=plotting.RED)
    for ax in (believes, gets):
        ax.axvline(most, **plotting.REFERENCE)
    believes.set(xlim=(0, end), xlabel="largest Q of the start (dashed: most there is)", title="Believed")
    gets.set(xlim=(0, 1.05 * most), xlabel="discounted return that followed", title="True")
    gets.set_yticks(range(len(LABELS)), [""] * len(LABELS))
    log.figure(figure, "truth")


def draw_bias(plain: np.ndarray, double: np.ndarray, log: RunLog) -> None:
    """The share of learners that make the mistake, along the episodes."""
    figure, ax = plotting.new_figure()
    ax.plot(100 * plain, color=plotting.ORANGE, label="Q-learning")
    ax.plot(100 * double, color=plotting.BLUE, label="double Q-learning")
    ax.axhline(5, label="optimal with epsilon 0.1", **plotting.REFERENCE)
    ax.set(xlabel="episode", ylabel="runs that go left (%)", ylim=(0, 100), title="Maximisation bias")
    ax.legend()
    log.figure(figure, "bias")
