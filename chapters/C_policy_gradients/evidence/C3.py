"""C3's evidence: parity with a library and a race, one detail at a time, Pendulum, cost, the chapter's stage.

Every other version of the learner is the lesson with a named edit, or with other settings.
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

import numpy as np
import torch

from chapters.C_policy_gradients import C3_ppo_from_scratch as lesson
from chapters.C_policy_gradients.checks.C3 import EDITS
from chapters.C_policy_gradients.evidence.C3_profile import draw_profile, profile
from chapters.C_policy_gradients.evidence.C3_sb3 import (
    ZOO_PPO_CARTPOLE,
    sb3_ppo_gaps,
    sb3_ppo_settings,
    train_sb3_ppo,
)
from chapters.C_policy_gradients.evidence.C3_stage import claim_stage, draw_stage, stage
from chapters.envs import evaluate, make_envs
from chapters.envs.agents import ActorCritic
from chapters.envs.pendulum import BatchedPendulum, film_pendulums
from chapters.exact.pendulum import optimal_policy, optimum
from chapters.utils import RunLog, in_range, plotting, seed_everything
from chapters.utils.edits import edited
from chapters.utils.evaluation import crossing
from chapters.utils.optim import Adam

GOAL = -200.0  # for Pendulum-v1, which has no registered threshold; its computed optimum earns -137.8
NUM_PASSES = 40
PENDULUM = {  # the lesson's settings for Pendulum-v1
    "env_id": "Pendulum-v1",
    "num_envs": 64,
    "minibatch_size": 1024,
    "num_epochs": 10,
    "gamma": 0.97,
    "gae_lambda": 0.95,
    "target_kl": 0.03,
    "max_grad_norm": 5.0,
    "reward_scale": 0.1,
    "eval_every": 8192,
}
BY_EDIT = {  # one detail changed: name of the edit -> label in the figure
    "no_clip": "no clip",
    "no_min": "clip without min",
    "max_if_negative": "max where A < 0",
    "raw_advantages": "advantages as they are",
    "merged": "time limit merged with ends",
    "not_annealed": "nothing annealed",
    "default_weights": "torch's initial weights",
    "clipped_critic": "critic clipped too",
}
BY_SETTING = {  # name -> (label in the figure, the settings that differ)
    "one_pass": ("one pass", {"num_epochs": 1}),
    "one_batch": ("one pass of one batch", {"num_epochs": 1, "minibatch_size": 1_000_000}),
    "lambda_1": ("lambda 1", {"gae_lambda": 1.0}),
    "lambda_0": ("lambda 0", {"gae_lambda": 0.0}),
}
RACE = {"ours": "ours", "sb3_ours": "SB3, our settings", "sb3_zoo": "SB3, rl-zoo's settings"}
OBJECTIVES = {  # how each is drawn: the lesson's own, and three mistakes
    "ours": {"label": "PPO", "color": plotting.BLUE, "linewidth": 3.5},
    "no_clip": {"label": "no clip", "color": "grey", "linestyle": ":"},
    "no_min": {"label": "clip without min", "color": plotting.ORANGE, "linestyle": "--"},
    "max_if_negative": {"label": "max where A < 0", "color": plotting.RED, "linestyle": "-."},
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_pendulum_steps: Annotated[int, in_range(1, 10_000_000)] = 409_600
    """Environment steps on Pendulum."""
    num_stage_steps: Annotated[int, in_range(1, 10_000_000)] = 819_200
    """Environment steps of REINFORCE and A2C on the pendulum with five torques; PPO gets a quarter."""


SMOKE = {"num_pendulum_steps": 4096, "num_stage_steps": 8192}


def version(name: str) -> ModuleType:
    """The lesson, or the lesson with the edit of that name."""
    return lesson if name == "ours" else edited(lesson, EDITS[name])


def one_rollout(
    cfg: lesson.Config, agent: ActorCritic | None = None, seed: int = 0
) -> tuple[ActorCritic, lesson.Batch]:
    """(an agent, by default untrained, and what it learns from after one rollout of fresh episodes)."""
    seed_everything(cfg.seed + seed)
    envs = make_envs(cfg.env_id, cfg.num_envs)
    agent = agent or ActorCritic(envs)
    obs, _ = envs.reset(seed=cfg.seed + seed)
    rollout, _ = lesson.collect(agent, envs, obs, np.random.default_rng(seed), cfg)
    return agent, lesson.prepare(agent, rollout, cfg)


# Identities, and parity with a library


def gae_gap(seed: int, gamma: float = 0.9, gae_lambda: float = 0.8) -> float:
    """Largest difference between `gae` and the double sum it abbreviates, with random ends of both kinds."""
    rng = np.random.default_rng(seed)
    num_steps = 9
    rewards, values, next_values = torch.from_numpy(rng.normal(size=(3, num_steps, 4)))
    terminated, truncated = torch.from_numpy(rng.random((2, num_steps, 4)) < 0.2)
    gap = lesson.gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
    deltas = rewards + gamma * torch.where(terminated, 0.0, next_values) - values
    for t in range(num_steps):
        for k in range(t, num_steps):  # a delta counts as long as no episode has ended before it
            alive = ~(terminated | truncated)[t:k].any(dim=0)
            gap[t] -= (gamma * gae_lambda) ** (k - t) * deltas[k] * alive
    return gap.abs().max().item()


def identities(cfg: lesson.Config, log: RunLog) -> None:
    """What must hold in any run."""
    log.claim(
        "gae_gap",
        "GAE's recursion equals its definition, the double sum, across both kinds of end",
        gae_gap(cfg.seed),
        at_most=1e-10,
        unit="largest difference",
        source="schulman2016gae, eq. (16)",
        always=True,
        seeds="10/10",
    )
    for name in OBJECTIVES:
        ratio = torch.tensor([1.5], requires_grad=True)
        version(name).clipped_surrogate(ratio, -torch.ones(1), 0.2).sum().backward()
        log.write(0, **{f"pull_back_{name}": ratio.grad.item()})
    agent, batch = one_rollout(cfg)
    first = {name: values[: cfg.minibatch_size] for name, values in batch.items()}
    _, ratio = lesson.minibatch_loss(agent, first, cfg.clip_eps, cfg)
    log.claim(
        "first_ratio_gap",
        "in the first minibatch of a rollout every ratio is 1, but for rounding",
        (ratio - 1).abs().max().item(),
        at_most=1e-6,
        unit="largest distance from 1",
        source="the weights have not moved",
        always=True,
        seeds="10/10",
    )


def sb3_gaps(env_id: str, cfg: lesson.Config) -> tuple[float, float, float]:
    """Against SB3's PPO, same weights and batch: (gap of loss, of gradients, share of ratios clipped)."""
    cfg = dataclasses.replace(cfg, env_id=env_id, num_steps=16, ent_coef=0.01, reward_scale=0.1)
    agent, batch = one_rollout(cfg)
    for parameter in agent.parameters():  # move on from the weights that acted, or no ratio would be clipped
        parameter.data += 0.1 * torch.randn_like(parameter)
    loss, ratio = lesson.minibatch_loss(agent, batch, cfg.clip_eps, cfg)
    loss.backward()
    ours = [*agent.actor.parameters(), *agent.critic.parameters(), *agent.head.parameters()]
    clipped = ((ratio - 1).abs() > cfg.clip_eps).float().mean().item()
    return *sb3_ppo_gaps(env_id, ours, loss.item(), batch, cfg), clipped


def parity(cfg: lesson.Config, log: RunLog) -> None:
    """Loss and gradients of one batch, beside Stable-Baselines3's."""
    gaps = np.array([sb3_gaps(env_id, cfg) for env_id in ("CartPole-v1", "Pendulum-v1")])
    log.write(0, parity_share_clipped=gaps[:, 2].min())
    for what, gap in zip(("loss", "gradient"), gaps[:, :2].max(axis=0)):
        log.claim(
            f"sb3_{what}_gap",
            f"our {what} equals that of Stable-Baselines3's PPO on the same batch",
            gap,
            at_most=1e-5,
            unit="of the largest, discrete and continuous",
            source="stable-baselines3, run in the same process",
            always=True,
            seeds="10/10",
        )


# The race, and one detail changed at a time


def sustained(cfg: lesson.Config, log: RunLog) -> None:
    """What the lesson's own run reached in its evaluations along the way."""
    returns = log.series("ours_return")[1]
    log.claim(
        "sustained_475",
        "three evaluations in a row score at least this much (the best such three of the run)",
        max(min(returns[i : i + 3]) for i in range(max(1, len(returns) - 2))),
        at_least=lesson.SOLVED,
        unit="mean return of 100 greedy episodes",
        source="the threshold registered for CartPole-v1",
        seeds="10/10",
    )
    seconds, steps = crossing(log.metrics, "ours", lesson.SOLVED)
    log.write(cfg.num_env_steps, ours_sustained_cpu_seconds=seconds, ours_sustained_steps=steps)


def race_sb3(name: str, num_env_steps: int, settings: dict, cfg: lesson.Config, log: RunLog) -> None:
    """Stable-Baselines3's PPO with the same evaluations as ours, until 475 is sustained."""

    def check(step: int, seconds: float, policy: Callable) -> bool:
        returns = evaluate(policy, cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + 10_000)
        log.write(step, **{f"{name}_return": returns.mean(), f"{name}_cpu_seconds": seconds})
        return math.isfinite(crossing(log.metrics, name, lesson.SOLVED)[0])

    train_sb3_ppo(cfg.env_id, cfg.seed, num_env_steps, cfg.eval_every, check, **settings)


def ablation(cfg: lesson.Config, log: RunLog) -> None:
    """The learner with one detail changed: by an edit of the lesson, or by a setting."""
    for name in BY_EDIT:
        version(name).train(cfg, log, name=name)
    for name, (_, changes) in BY_SETTING.items():
        lesson.train(dataclasses.replace(cfg, **changes), log, name=name)


def many_passes(cfg: lesson.Config, log: RunLog) -> dict[str, list[float]]:
    """KL after each pass over ONE rollout, for every objective, from the same half-trained weights."""
    early = dataclasses.replace(cfg, num_env_steps=min(cfg.num_env_steps, 8192), target_kl=1e9)
    agent = version("not_annealed").train(early, log, make_envs(cfg.env_id, cfg.num_envs), "early")
    _, batch = one_rollout(cfg, agent, seed=1)
    one_pass = dataclasses.replace(early, num_epochs=1)
    moved: dict[str, list[float]] = {}
    for name in OBJECTIVES:
        learner = copy.deepcopy(agent)
        module = version(name)
        optimizer = Adam(learner.parameters(), lr=cfg.learning_rate / 2, eps=1e-5)
        torch.manual_seed(cfg.seed)
        moved[name] = []
        for _ in range(NUM_PASSES):
            module.update(learner, optimizer, batch, cfg.clip_eps, one_pass)
            with torch.no_grad():
                _, ratio = lesson.minibatch_loss(learner, batch, cfg.clip_eps, early)
            moved[name].append(lesson.approx_kl(ratio).item())
    what = {
        "no_clip": ("without any clip", 10.0),
        "max_if_negative": ("with a max where the advantage is negative", 10.0),
        "no_min": ("with the clip alone, without the min", 1.0),
    }
    names = {"no_clip": "kl_no_clip", "max_if_negative": "kl_max_if_negative", "no_min": "kl_clip_alone"}
    for name, (words, factor) in what.items():
        log.claim(
            names[name],
            f"{words}, {NUM_PASSES} passes over one rollout move the policy further than PPO's do",
            moved[name][-1] / moved["ours"][-1],
            at_least=factor,
            unit="times PPO's KL divergence",
            source="schulman2017ppo, section 3",
            seeds="8/10",
        )
    return moved


# Pendulum: continuous actions, and a world that never ends


def optimism(agent: ActorCritic, cfg: lesson.Config, num_steps: int = 300) -> float:
    """How much of the true cost the critic leaves out, on episodes that nothing cuts (0: none)."""
    envs = BatchedPendulum(50, max_episode_steps=10**6)
    obs, _ = envs.reset(seed=cfg.seed + 30_000)
    long = dataclasses.replace(cfg, num_steps=num_steps)
    rollout, _ = lesson.collect(agent, envs, obs, np.random.default_rng(cfg.seed), long)
    nothing = torch.zeros_like(rollout["rewards"])
    never = torch.zeros_like(rollout["terminated"])
    # without a critic and with lambda 1, GAE is the return; the second half lets it settle
    returns = lesson.gae(rollout["rewards"], nothing, nothing, never, never, cfg.gamma, 1.0)
    half = num_steps // 2
    with torch.no_grad():
        values = agent.value(rollout["obs"])
    return ((values - returns)[:half].mean() / -returns[:half].mean()).item()


def pendulum(cfg: lesson.Config, log: RunLog) -> None:
    """Continuous actions; and what merging does to the critic when a time limit cuts every 40 steps."""
    agent = lesson.train(cfg, log, name="pendulum")
    earned = lesson.score(agent, cfg, 20_000)
    log.claim(
        "pendulum_return",
        "the last policy swings the pendulum up and holds it, on fresh episodes",
        earned,
        at_least=GOAL,
        unit="mean return of 100 greedy episodes",
        source="the course's goal for Pendulum-v1",
        seeds="9/10",
    )
    best = evaluate(optimal_policy, cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + 20_000)
    log.claim(
        "pendulum_regret",
        "from the same starts it stays behind the computed optimum by no more than that goal does",
        best.mean() - earned,
        at_most=optimum() - GOAL,
        unit="of return, mean of 100 greedy episodes",
        source="dynamic programming; the goal of -200",
        seeds="9/10",
    )
    errors = {}
    half = dataclasses.replace(cfg, num_env_steps=cfg.num_env_steps // 2)
    for name, module in (("kept", lesson), ("merged", version("merged"))):
        envs = BatchedPendulum(cfg.num_envs, max_episode_steps=40)
        errors[name] = optimism(module.train(half, log, envs, name), cfg)
        log.write(half.num_env_steps, **{f"optimism_{name}": errors[name]})
    log.claim(
        "merged_optimism",
        "a critic that takes time limits for ends leaves out more of the true cost than the right one",
        errors["merged"] - errors["kept"],
        at_least=0.1,
        unit="more of the true cost",
        source="above the right critic's own error",
        seeds="9/10",
    )
    if not log.smoke:
        before, _ = one_rollout(cfg)  # the weights that training began with
        log.film(film_pendulums({"before": before.greedy(), "after": agent.greedy()}))


# Figures, and claims over all seeds


def draw_moves(log: RunLog) -> None:
    """The score, and how far each update moved the policy."""
    figure, (left, right) = plotting.new_figure(1, 2)
    left.plot(*log.series("ours_return"))
    left.axhline(lesson.SOLVED, label="solved", **plotting.REFERENCE)
    left.set(xlabel="environment steps", ylabel="mean greedy return", title="What it earns", ylim=(0, None))
    right.semilogy(*log.series("ours_kl"), "o-")
    steps, ranges = log.series("ours_clip_eps")
    edges = [lesson.approx_kl(torch.tensor(1.0 - clip_eps)).item() for clip_eps in ranges]
    right.semilogy(steps, edges, label="every ratio at the clip's edge", **plotting.REFERENCE)
    right.set(xlabel="environment steps", ylabel="KL divergence", title="How far each update moved")
    left.legend()
    right.legend()
    log.figure(figure)


def draw_clip(moved: dict[str, list[float]], log: RunLog) -> None:
    """The objective for both signs of the advantage, and what each rule does to passes over one rollout."""
    figure, axes = plotting.new_figure(1, 3, width=4.8)
    ratio = torch.linspace(0.0, 2.2, 221)
    for ax, sign, title in ((axes[0], 1, "better than average: A = 1"), (axes[1], -1, "worse: A = -1")):
        for name, look in OBJECTIVES.items():
            ax.plot(ratio, version(name).clipped_surrogate(ratio, sign * torch.ones(221), 0.2), **look)
        ax.axvspan(0.8, 1.2, color=plotting.YELLOW, alpha=0.25, linewidth=0)
        ax.set(xlabel="ratio: new over old probability", ylabel="objective", title=title)
    axes[0].legend(loc="upper left", fontsize=10)
    arrow = {"arrowstyle": "->"}
    axes[1].annotate("pulled back:\nonly with min", (1.7, -1.7), (0.1, -1.95), arrowprops=arrow)
    for name, curve in moved.items():
        axes[2].plot(range(1, len(curve) + 1), np.maximum(curve, 1e-4), **OBJECTIVES[name])
    axes[2].set(xlabel="passes over one rollout", ylabel="KL from the policy that sampled it", yscale="log")
    axes[2].set_title("what holds the policy back")
    log.figure(figure, "clip")


def draw_ablation(runs: list[dict], log: RunLog) -> None:
    """The race and the ablation, a dot for each run and a bar for their median."""
    labels = {"ours": "the lesson", **BY_EDIT, **{name: label for name, (label, _) in BY_SETTING.items()}}
    figure, axes = plotting.new_figure(1, 2, width=6.8, height=4.9)
    for ax, names, column, unit in ((axes[0], RACE, 0, 1.0), (axes[1], labels, 1, 1e-3)):
        rows = {
            label: [unit * crossing(run["metrics"], name, lesson.SOLVED)[column] for run in runs]
            for name, label in names.items()
        }
        plotting.dot_rows(ax, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    axes[0].set(xlabel="CPU seconds to a sustained 475", title="Against Stable-Baselines3")
    axes[1].set(xlabel="thousand environment steps to a sustained 475", title="One detail changed")
    log.figure(figure, "ablation")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    draw_moves(log)
    identities(cfg, log)
    parity(cfg, log)
    sustained(cfg, log)
    race_sb3("sb3_ours", cfg.num_env_steps, sb3_ppo_settings(cfg), cfg, log)
    race_sb3("sb3_zoo", 1280 if log.smoke else 100_000, ZOO_PPO_CARTPOLE, cfg, log)
    ablation(cfg, log)
    draw_clip(many_passes(cfg, log), log)
    pendulum(dataclasses.replace(cfg, **PENDULUM, num_env_steps=extra.num_pendulum_steps), log)
    profile(cfg, one_rollout(cfg), log)
    draw_profile(log)
    stage(extra.num_stage_steps, cfg, log)
    draw_stage([{"metrics": log.metrics}], log)
    draw_ablation([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: seconds against Stable-Baselines3, and what several passes are worth."""

    def median(name: str, column: int) -> float:
        # a run that never got there counts as if it had at its last check: a bound against our claims
        lasts = [run["metrics"][f"{name}_cpu_seconds"][-1][::-1] for run in runs]
        found = [crossing(run["metrics"], name, lesson.SOLVED) for run in runs]
        return float(np.median([min(one[column], last[column]) for one, last in zip(found, lasts)]))

    for name, bound, whose in (("sb3_zoo", 4.0, "rl-zoo's"), ("sb3_ours", 1.0, "our")):
        log.claim(
            f"faster_than_{name}",
            f"SB3's PPO at {whose} settings learns for more CPU seconds before 475 is sustained",
            median(name, 0) / median("ours", 0),
            at_least=bound,
            unit="times ours, medians",
            source="stable-baselines3 in the same runs, one thread each",
            timed=True,
        )
    log.claim(
        "several_passes",
        "one pass of one batch, as A2C takes it, needs more environment steps to a sustained 475",
        median("one_batch", 1) / median("ours", 1),
        at_least=1.0,
        unit="times ours, medians",
        source="schulman2017ppo: several epochs of each sample",
    )
    draw_ablation(runs, log)
    claim_stage(runs, log)
    draw_stage(runs, log)
