"""C6 where all is known: SAC's policy on a linear system, and what critics believe of noisy rewards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from chapters.C_policy_gradients import C6_sac_td3 as lesson
from chapters.envs.linear_system import BatchedLinearSystem
from chapters.exact import lqr
from chapters.utils import RunLog, plotting, seed_everything

SYSTEM = lqr.mass_on_a_line()
ALPHA = 0.5
TASK = {"max_action": 20.0, "max_episode_steps": 5}  # the limit is so far out that (3) hardly bends anything
LEARNER = {"num_envs": 16, "gamma": SYSTEM.gamma, "exploration_noise": 0.025}
CALM = {"minibatch_size": 1024}  # where a policy is compared number for number: minibatches say the same
LAST_STEP = 0.02  # of the first step size: what the last one is, so that the weights come to rest
NOISE = 10.0  # standard deviation of the noise on a reward: more than what a state is worth
SETTLED = 4  # of twelve checks, how many come before those that count
BLUR = 0.005  # of the target's action, in units of its limit, which is far out
CRITICS = {  # what learns from noisy rewards: name -> (label, recipe)
    "one": ("TD3 with one critic", lesson.RECIPES["td3"]._replace(num_critics=1, target_noise=BLUR)),
    "twin": ("TD3: the smaller of two", lesson.RECIPES["td3"]._replace(target_noise=BLUR)),
}


class NoisyRewards(BatchedLinearSystem):
    """Rewards that are right on average, over chance and in each step over the environments.

    Else what is in the buffer would be too good or too bad by NOISE over the root of its size, every critic
    would be off by 1 / (1 - gamma) times that, and this luck would be as large as the flattery.
    """

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        obs, rewards, *ends, infos = super().step(actions)
        noise = self.np_random.normal(size=rewards.shape)
        noise = (noise - noise.mean()) * math.sqrt(len(noise) / (len(noise) - 1))  # [N], deviation as before
        return obs, rewards + NOISE * noise, *ends, infos


def soft_optimum() -> tuple[np.ndarray, float]:
    """(gain [2], standard deviation) of the best policy at temperature ALPHA, eq. (6)."""
    P = lqr.riccati(SYSTEM)
    return lqr.best_gain(SYSTEM, P)[0], float(lqr.soft_covariance(SYSTEM, P, ALPHA)[0, 0]) ** 0.5


def states(count: int, seed: int, spread: float = 1.0) -> np.ndarray:
    """Where policies and critics are looked at: [count, 2], uniformly around 0."""
    return np.random.default_rng(seed).uniform(-spread, spread, size=(count, 2)).astype(np.float32)


def policy_of(agent: lesson.Agent, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) of SAC's actions in each state, before the squash that hardly matters."""
    with torch.no_grad():
        mean, log_std = agent.actor(torch.from_numpy(x))[0].numpy().T
    return mean, np.exp(log_std)


def fitted_gain(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """K of the linear policy u = -K x that is nearest to the means."""
    return -np.linalg.lstsq(x, mean, rcond=None)[0]


def rounds(agent: lesson.Agent, envs: BatchedLinearSystem, cfg: lesson.Config) -> Iterator[int]:
    """The lesson's loop: 1, 2, ... after each round."""
    obs, _ = envs.reset(seed=cfg.seed)
    for i in range(1, cfg.num_env_steps // envs.num_envs + 1):
        obs = lesson.collect(agent, envs, obs, cfg)
        if len(agent.buffer) >= cfg.num_warmup_steps:
            lesson.update(agent, cfg)
        yield i


def falling(done: float) -> float:
    """The share of the step size that is left once a share of the training is done: from 1 to LAST_STEP."""
    return 1.0 + (LAST_STEP - 1.0) * done


def soft_policy(num_env_steps: int, cfg: lesson.Config, log: RunLog) -> lesson.Agent:
    """SAC at a fixed temperature, against Riccati's equation."""
    own = replace(cfg, num_env_steps=num_env_steps, **LEARNER, **CALM)
    seed_everything(cfg.seed)
    envs = BatchedLinearSystem(own.num_envs, *SYSTEM[:4], **TASK)
    agent = lesson.Agent(envs, lesson.RECIPES["sac"], own)
    with torch.no_grad():
        agent.log_alpha.fill_(math.log(ALPHA))
    agent.for_alpha.lr = 0.0  # it stays there
    num_rounds = num_env_steps // own.num_envs
    for i in rounds(agent, envs, own):
        agent.for_actor.lr = agent.for_critics.lr = own.learning_rate * falling(i / num_rounds)
    K, std = soft_optimum()
    x = states(2000, seed=5)
    mean, stds = policy_of(agent, x)
    gain = fitted_gain(x, mean)
    log.write(num_env_steps, gain_position=gain[0], gain_speed=gain[1], policy_std=stds.mean())
    log.claim(
        "gain_error",
        "on a linear system SAC's mean action is the best linear policy's, number for number of its gain",
        np.abs(gain / K - 1).max(),
        at_most=0.05,
        unit="of the exact gain",
        source="Riccati's equation; 5 % is the course's tolerance for a network",
    )
    log.claim(
        "width_ratio",
        "and its width is the soft optimum's",
        stds.mean() / std,
        near=(1.0, 0.05),
        unit="of the exact standard deviation",
        source="(6); 5 % is the course's tolerance for a network",
    )
    return agent


def exact_values(policy: Callable, x: np.ndarray, actions: np.ndarray, num_steps: int = 200) -> np.ndarray:
    """What actions are worth [count] if a deterministic policy goes on: nothing is left to chance."""
    envs = BatchedLinearSystem(len(x), *SYSTEM[:4], max_action=TASK["max_action"], max_episode_steps=10**9)
    envs.reset(seed=0)
    envs.state = x.astype(float)
    values = np.zeros(len(x))
    for t in range(num_steps):
        obs, rewards, *_ = envs.step(actions)
        values += SYSTEM.gamma**t * rewards
        actions = policy(obs)
    return values


def excess(agent: lesson.Agent, x: np.ndarray) -> tuple[float, float]:
    """(what the believed critic thinks of the agent's own actions beyond their value, that value), means."""
    actions = agent.greedy(x)
    with torch.no_grad():
        q = agent.q(agent.critics, torch.from_numpy(x), torch.from_numpy(actions).float()).amin(dim=0)
    values = exact_values(agent.greedy, x, actions)
    return float((q.numpy() - values).mean()), float(values.mean())


def flattery(num_env_steps: int, cfg: lesson.Config, log: RunLog) -> None:
    """How far above the truth critics are as they learn from noisy rewards: one, and the smaller of two."""
    changes = {"num_env_steps": num_env_steps, **LEARNER}
    own = replace(cfg, **changes)
    x = states(1000, seed=7, spread=2.0)
    every = max(1, num_env_steps // own.num_envs // 12)
    for name, (_, recipe) in CRITICS.items():
        seed_everything(cfg.seed)
        envs = NoisyRewards(own.num_envs, *SYSTEM[:4], **TASK)
        agent = lesson.Agent(envs, recipe, own)
        for i in rounds(agent, envs, own):
            if i % every == 0:
                beyond, value = excess(agent, x)
                log.write(i * own.num_envs, **{f"{name}_excess": beyond, f"{name}_value": value})
    late = {name: np.mean(log.series(f"{name}_excess")[1][SETTLED:]) for name in CRITICS}
    log.claim(
        "one_critic_flatters",
        "a single critic believes its own actor's actions to be worth more than they are",
        late["one"],
        at_least=0.0,
        unit="critic minus exact value, mean of the last two thirds of training",
        source="fujimoto2018td3, section 4: an overestimation",
    )
    log.claim(
        "twin_below_one",
        "the smaller of two critics exceeds its actor's exact values by less than a single critic does",
        late["one"] - late["twin"],
        at_least=0.0,
        unit="by how much less, mean of the last two thirds of training",
        source="fujimoto2018td3, section 4.2",
    )


def draw_linear(agent: lesson.Agent, log: RunLog) -> None:
    """SAC's policy along positions at speed 0, with the exact one."""
    K, std = soft_optimum()
    x = np.stack([np.linspace(-1.5, 1.5, 61), np.zeros(61)], axis=1).astype(np.float32)
    mean, stds = policy_of(agent, x)
    figure, ax = plotting.new_figure(width=7.2)
    ax.plot(x[:, 0], mean, color=plotting.BLUE, label="SAC: mean action")
    band = {"color": plotting.BLUE, "alpha": 0.25, "linewidth": 0, "label": "± one standard deviation"}
    ax.fill_between(x[:, 0], mean - stds, mean + stds, **band)
    ax.plot(x[:, 0], -K[0] * x[:, 0], label="both exact, by (6)", **plotting.REFERENCE)
    for sign in (-1, 1):
        ax.plot(x[:, 0], -K[0] * x[:, 0] + sign * std, **plotting.REFERENCE)
    ax.set(xlabel="position (speed 0)", ylabel="action", title="The soft optimum, learned and exact")
    ax.legend()
    log.figure(figure, "linear")


def draw_flattery(runs: list[dict], log: RunLog) -> None:
    """Believed less true value along training, over the runs."""
    figure, ax = plotting.new_figure(width=7.2)
    late = []  # what both claims are about; before, some policies throw the mass far away
    for (name, (label, _)), color in zip(CRITICS.items(), (plotting.ORANGE, plotting.BLUE)):
        curves = np.array(
            [run["metrics"][f"{name}_excess"] for run in runs]
        )  # [runs, checks, (step, excess)]
        plotting.seed_band(ax, curves[0, :, 0], curves[:, :, 1], label, color)
        late.append(curves[:, SETTLED:, 1])
    ax.set_ylim(min(-1.0, np.min(late) - 1.0), max(1.0, 1.3 * np.max(late)))
    ax.axhline(0.0, label="the exact value", **plotting.REFERENCE)
    ax.set(xlabel="environment steps", ylabel="critic minus exact value", title="Who is flattered?")
    ax.legend()
    log.figure(figure, "flattery")
