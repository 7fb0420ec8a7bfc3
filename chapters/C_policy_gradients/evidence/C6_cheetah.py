"""C6's TD3 on HalfCheetah, beside the curves that its authors published, at the same number of steps."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from chapters.C_policy_gradients import C6_sac_td3 as lesson
from chapters.envs import evaluate, make_envs
from chapters.utils import CpuClock, RunLog, plotting, seed_everything

ENV_ID = "HalfCheetah-v5"
SETTINGS = {  # fujimoto2018td3, but for the networks: there 400 and 300 units, which earn more later
    "num_envs": 1, "num_warmup_steps": 10_000, "minibatch_size": 100, "hidden_size": 128,
    "learning_rate": 1e-3, "gamma": 0.99, "target_rate": 0.005, "exploration_noise": 0.1,
}  # fmt: skip
SMALL = {"num_warmup_steps": 20, "hidden_size": 16, "minibatch_size": 16}  # in a smoke run
EVERY, EPISODE = 5000, 1000  # environment steps
PUBLISHED = np.array(
    [
        [-2, -593, -591, -57, 17, 1177, 2005, 2238, 2441],
        [-1, -443, -553, -404, -16, 1118, 2306, 2745, 3520],
        [-1, -480, -531, -181, 210, 2103, 2514, 2605, 2827],
        [-1, -520, -520, -38, 1573, 1016, 1772, 2389, 3043],
        [-1, -575, -120, -459, 516, 1833, 2372, 3609, 3898],
        [-2, -571, -600, -449, 486, 1265, 1902, 2424, 3013],
        [-1, -595, -459, -398, 1395, 1720, 1673, 2764, 3680],
        [-2, -566, -604, -522, 49, 1007, 1604, 2436, 3106],
        [-3, -237, -642, -639, 866, 1151, 1739, 1929, 2866],
        [-1, -347, -463, -793, -334, 884, 1904, 2960, 3209],
    ]
)  # fmt: skip
"""TD3's learning curves on HalfCheetah-v1, [10 seeds, a check every 5,000 steps from 0 on], whole numbers.

From the files that the authors of fujimoto2018td3 keep beside their code (learning_curves/HalfCheetah). Each
check is the mean of 10 episodes without noise.
"""


def cheetah(num_env_steps: int, cfg: lesson.Config, log: RunLog) -> None:
    """Train TD3 for as long as their curves are compared, and check it when they did."""
    import mujoco

    mujoco.set_mju_user_warning(
        lambda warning: None
    )  # of an old word in the model's file; it would fill a log
    short = {"max_episode_steps": 20} if log.smoke else {}
    settings = SETTINGS | (SMALL if log.smoke else {})
    every = max(1, num_env_steps // 2) if log.smoke else EVERY
    own = replace(cfg, num_env_steps=num_env_steps, **settings)
    agent = train_checked(own, every, short, log)
    if not log.smoke:
        film(agent.greedy, log)


def train_checked(cfg: lesson.Config, every: int, short: dict, log: RunLog) -> lesson.Agent:
    """The lesson's loop in their order: when an episode ends, as many gradient steps as it had steps."""
    seed_everything(cfg.seed)
    envs = make_envs(ENV_ID, cfg.num_envs, **short)
    obs, _ = envs.reset(seed=cfg.seed)
    agent, clock = lesson.Agent(envs, lesson.RECIPES["td3"], cfg), CpuClock()
    episode = short.get("max_episode_steps", EPISODE)
    for step in range(1, cfg.num_env_steps + 1):
        with clock:
            obs = lesson.collect(agent, envs, obs, cfg)
            for _ in range(episode if step % episode == 0 else 0):
                lesson.update(agent, cfg)
        if step % every == 0 or step == cfg.num_env_steps:
            returns = evaluate(agent.greedy, ENV_ID, episodes=10, seed=cfg.seed + 10_000, **short)
            log.write(step, cheetah_return=returns.mean(), cheetah_cpu_seconds=clock.seconds)
    return agent


def compare_cheetah(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: where ours end, beside the published runs after as many steps."""
    ends = [run["metrics"]["cheetah_return"][-1] for run in runs]  # (step, return)
    theirs = PUBLISHED[:, min(int(ends[0][0]) // EVERY, PUBLISHED.shape[1] - 1)]
    log.claim(
        "cheetah_return",
        "on HalfCheetah our median is no lower than the lowest published run after as many steps",
        float(np.median([reached for _, reached in ends])),
        at_least=float(theirs.min()),
        unit="mean return of 10 episodes",
        source="fujimoto2018td3, the lowest of ten published curves at the same step",
    )


def film(policy: Callable, log: RunLog) -> None:
    """Six seconds of the last policy; where nothing can be drawn, one line says so."""
    import gymnasium as gym

    if platform.system() == "Linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # pictures without a screen
    try:
        view = {"width": 220, "height": 165, "camera_name": "track"}  # this one runs along
        env = gym.make(ENV_ID, render_mode="rgb_array", **view)
        obs, _ = env.reset(seed=0)
        frames = []
        for t in range(120):
            obs, *_ = env.step(policy(obs[None].astype(np.float32))[0])
            if t % 2:
                frames.append(env.render())
        env.close()
    except Exception as error:  # no driver, no screen: many kinds
        print(f"no film of the cheetah: {' '.join(str(error).split())[:80]}")
        return
    log.film(frames, "cheetah", fps=10)


def draw_cheetah(runs: list[dict], log: RunLog) -> None:
    """Our runs among the published ones, up to the step where ours end."""
    figure, ax = plotting.new_figure(width=7.2)
    steps = EVERY * np.arange(PUBLISHED.shape[1])
    for i, curve in enumerate(PUBLISHED):
        label = "published, HalfCheetah-v1: ten seeds" if i == 0 else None
        ax.plot(steps, curve, color="grey", alpha=0.5, linewidth=1, label=label)
    ax.plot(steps, np.median(PUBLISHED, axis=0), label="their median", **plotting.REFERENCE)
    of = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
    for i, run in enumerate(runs):
        label = f"the lesson's TD3, HalfCheetah-v5: {of}" if i == 0 else None
        ax.plot(*zip(*run["metrics"]["cheetah_return"]), "o-", color=plotting.BLUE, alpha=0.8, label=label)
    ax.set(xlabel="environment steps", ylabel="mean return of 10 episodes", title="TD3 on HalfCheetah")
    ax.legend()
    log.figure(figure, "cheetah")
