"""A memory of whole episodes, for learners that must read them from the beginning."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor

from chapters.envs.vector import true_next_obs

STEP = ("obs", "actions", "rewards", "next_obs", "terminated")


class EpisodeBuffer:
    """The last `capacity` episodes, and those that are still going on.

    An episode is closed by an end or by a time limit. The two stay apart: `goes_on` is 0 after a step that
    terminated, and 1 after one that was cut.
    """

    def __init__(self, num_envs: int, capacity: int) -> None:
        self.open: list[list[tuple]] = [[] for _ in range(num_envs)]
        self.episodes: deque[dict[str, np.ndarray]] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self.episodes)

    def play(
        self, envs: VectorEnv, obs: np.ndarray, player: Any, random: Bool[np.ndarray, " N"]
    ) -> tuple[np.ndarray, Bool[np.ndarray, " N"]]:
        """One step of every game: (observations to act on next, where an episode is over).

        player(obs, random) gives actions; player.forget(done) is told what is over.
        """
        actions = player(obs, random)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        successors = true_next_obs(next_obs, done, infos)
        self.add(done, obs=obs, actions=actions, rewards=rewards, next_obs=successors, terminated=terminated)
        player.forget(done)
        return next_obs, done

    def add(self, done: Bool[np.ndarray, " N"], **step: np.ndarray) -> None:
        """One step of every environment: obs, actions, rewards, next_obs (the true ones) and terminated."""
        for i, row in enumerate(zip(*(step[name] for name in STEP))):
            self.open[i].append(row)
            if done[i]:
                self._close(i)

    def _close(self, i: int) -> None:
        obs, actions, rewards, next_obs, terminated = zip(*self.open[i])
        self.episodes.append({
            "obs": np.stack([*obs, next_obs[-1]]).astype(np.float32),
            "actions": np.array(actions),
            "rewards": np.array(rewards, dtype=np.float32),
            "goes_on": 1.0 - np.array(terminated, dtype=np.float32),
        })  # fmt: skip
        self.open[i] = []

    def sample(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`size` episodes, time first, padded at their ends; `mask` is 1 where an observation is real.

        obs [T+1, N, D], actions, rewards and goes_on [T, N] (after each action), mask [T+1, N].
        """
        drawn = [self.episodes[i] for i in rng.integers(len(self), size=size)]
        longest = max(len(episode["rewards"]) for episode in drawn)

        def padded(name: str, length: int) -> Tensor:
            first = drawn[0][name]
            rows = np.zeros((length, size, *first.shape[1:]), dtype=first.dtype)
            for i, episode in enumerate(drawn):
                rows[: len(episode[name]), i] = episode[name]
            return torch.from_numpy(rows)

        batch = {"obs": padded("obs", longest + 1)}
        batch |= {name: padded(name, longest) for name in ("actions", "rewards", "goes_on")}
        ends = np.array([len(episode["obs"]) for episode in drawn])
        batch["mask"] = torch.from_numpy((np.arange(longest + 1)[:, None] < ends).astype(np.float32))
        return batch


def mean_over(x: Float[Tensor, "T N"], mask: Float[Tensor, "T N"]) -> Float[Tensor, ""]:
    """Mean of what is not padding."""
    return (x * mask).sum() / mask.sum()
