"""A small DQN that watches itself, and its bugs: one of E3's other learners."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.diagnosis.quantities import explained_variance, gaps, note
from chapters.envs import evaluate, true_next_obs
from chapters.envs.cartpole import BatchedCartPole
from chapters.utils import seed_everything
from chapters.utils.edits import Edit
from chapters.utils.networks import in_numpy, tanh_mlp
from chapters.utils.optim import Adam

Numbers = Float[Tensor, " B"]
Rows = dict[str, list[tuple[int, float]]]
NAMES = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated")


@dataclass(frozen=True)
class Settings:
    """What the learner is made of."""

    seed: int = 0
    num_updates: int = 1500
    learning_rate: float = 1e-3
    num_envs: int = 16  # N
    minibatch_size: int = 128  # B
    gamma: float = 0.95
    reward_scale: float = 0.1
    sync_every: int = 25  # updates between copies into the target network
    explore_for: int = 450  # updates over which epsilon falls to 0.05
    check_every: int = 150  # updates between evaluations; 0 is never


def td_target(
    rewards: Numbers, next_values: Numbers, terminated: Bool[Tensor, " B"], gamma: float
) -> Numbers:
    """What an action's value should be, given that of the true successor."""
    return rewards + gamma * next_values * ~terminated


class Dqn:
    """Two networks and a replay buffer that forgets nothing."""

    def __init__(self, cfg: Settings, envs: gym.vector.VectorEnv) -> None:
        self.cfg = cfg
        self.envs = envs
        self.running = np.zeros(envs.num_envs)
        obs_size = envs.single_observation_space.shape[0]
        self.obs, _ = envs.reset(seed=cfg.seed)
        self.online = tanh_mlp([obs_size, 64, 64, int(envs.single_action_space.n)], 0.1)
        self.target = copy.deepcopy(self.online)
        self.first = copy.deepcopy(self.online)
        self.memory: dict[str, np.ndarray] = {}
        self.optimizer = Adam(self.online.parameters(), lr=cfg.learning_rate)
        self.rng = np.random.default_rng([cfg.seed, 1])
        self.epsilon = 1.0

    def act(self, obs: np.ndarray, epsilon: float) -> np.ndarray:
        """Epsilon-greedy."""
        q_values = in_numpy(self.online)(obs)  # [N, A]
        anything = self.rng.integers(q_values.shape[1], size=len(obs))
        explore = self.rng.random(len(obs))
        return np.where(explore < epsilon, anything, q_values.argmax(axis=1))

    def collect(self, rows: Rows, i: int) -> None:
        """One step in each environment, into the buffer."""
        actions = self.act(self.obs, self.epsilon)
        next_obs, rewards, terminated, truncated, infos = self.envs.step(actions)
        done = terminated | truncated
        self.running += rewards
        if done.any():
            note(rows, i, **{"return": self.running[done].mean()})
        self.running[done] = 0
        scaled = self.cfg.reward_scale * rewards.astype(np.float32)
        successors = true_next_obs(next_obs, done, infos)
        for name, values in zip(NAMES, (self.obs, actions, scaled, successors, terminated, truncated)):
            room = np.zeros((self.cfg.num_updates, *values.shape), values.dtype)
            self.memory.setdefault(name, room)[i] = values
        self.obs = next_obs

    def learn(self, rows: Rows, i: int) -> None:
        """One gradient step, and now and then a look at it."""
        cfg = self.cfg
        t = self.rng.integers(i + 1, size=cfg.minibatch_size)
        n = self.rng.integers(cfg.num_envs, size=cfg.minibatch_size)
        batch = {name: torch.from_numpy(values[t, n]) for name, values in self.memory.items()}
        ended = batch["terminated"]
        with torch.no_grad():
            next_values = self.target(batch["next_obs"]).amax(dim=1)  # [B]
            targets = td_target(batch["rewards"], next_values, ended, cfg.gamma)
        q_values = self.online(batch["obs"]).gather(1, batch["actions"][:, None])[:, 0]  # [B]
        loss = nn.functional.smooth_l1_loss(q_values, targets)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        if (i + 1) % cfg.sync_every == 0:
            self.target.load_state_dict(self.online.state_dict())
        if i % 10 == 0:
            note(rows, i, value_loss=loss, grad_norm=norm, constants_with_grad=float(targets.requires_grad))
            self.report(rows, i, batch, next_values, targets, q_values.detach())

    @torch.no_grad()
    def report(
        self, rows: Rows, i: int, batch: dict, next_values: Numbers, targets: Numbers, q_values: Numbers
    ) -> None:
        """The identities of a target, and the usual curves."""
        terminated = batch["terminated"]
        loss = nn.functional.smooth_l1_loss
        right = td_target(batch["rewards"], next_values, terminated, self.cfg.gamma)
        note(rows, i, **gaps(targets - right, right.square().mean().sqrt(), terminated, batch["truncated"]))
        again = self.online(batch["obs"]).gather(1, batch["actions"][:, None])[:, 0]
        note(rows, i, descended=loss(again, targets) < loss(q_values, targets), q_mean=q_values.mean())
        note(rows, i, explained_variance=explained_variance(q_values, targets))
        note(rows, i, return_bound=batch["rewards"].abs().max() / (1 - self.cfg.gamma))
        if i >= 4 * self.cfg.sync_every:  # by now the target has moved
            now = nn.utils.parameters_to_vector(self.target.parameters())
            then = nn.utils.parameters_to_vector(self.first.parameters())
            note(rows, i, target_change=(now - then).norm())

    def score(self) -> float:
        """Mean return of an episode in each of 20 environments, on seeds that training does not see."""
        policy = lambda obs: self.act(obs, epsilon=0.0)  # noqa: E731
        return float(evaluate(policy, envs=BatchedCartPole(20, 200), seed=self.cfg.seed + 10_000).mean())


def train(cfg: Settings, rows: Rows, envs: gym.vector.VectorEnv) -> Dqn:
    """A step in each environment, a step of learning, and so on."""
    seed_everything(cfg.seed)
    learner = Dqn(cfg, envs)
    for i in range(cfg.num_updates):
        learner.epsilon = max(0.05, 1.0 - i / cfg.explore_for)
        learner.collect(rows, i)
        if i >= 10:
            learner.learn(rows, i)
        if cfg.check_every and ((i + 1) % cfg.check_every == 0 or i + 1 == cfg.num_updates):
            note(rows, i, eval_return=learner.score(), eval_return_again=learner.score())
    return learner


ENDED = 'ended = batch["terminated"]'
EDITS = {
    "merged_time_limit": Edit(
        "Dqn", ENDED, ENDED + ' | batch["truncated"]', "a time limit is taken for an end"
    ),
    "bootstraps_past_the_end": Edit("Dqn", ENDED, ENDED + " & False", "even a fallen pole has a future"),
    "frozen_target": Edit(
        "Dqn", "if (i + 1) % cfg.sync_every == 0:", "if False:", "the copy is never renewed"
    ),
    "noisy_evaluation": Edit("Dqn", "epsilon=0.0", "self.epsilon", "evaluated while exploring"),
    "unseeded_environment": Edit(
        "Dqn", "envs.reset(seed=cfg.seed)", "envs.reset()", "a reset without a seed"
    ),
    "learning_rate_too_high": Edit(
        "Dqn", "lr=cfg.learning_rate", "lr=100 * cfg.learning_rate", "0.1 for 0.001"
    ),
    "reward_scale": Edit(
        "Dqn", "scaled = self.cfg", "scaled = 1000 * self.cfg", "millimetres for metres"
    ),
}  # fmt: skip
