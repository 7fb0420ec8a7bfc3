"""A chain of states on which every estimator of an advantage has a known mean: C1's world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor

Values = Float[np.ndarray, " S"]


class Chain:
    """States 0 to 6, an end beyond either; action 1 goes right, with probability 0.6; rewards are noisy.

    Only the step off the right end is paid. `V` are the policy's true values; `critic` is half trained: it
    says half of them, and a little noise.
    """

    size, p_right, gamma = 7, 0.6, 0.95

    def __init__(self, seed: int, noise: float = 0.3) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        left, right = np.eye(self.size, k=-1), np.eye(self.size, k=1)  # [S, S] a row without a 1 is an end
        self.moves = np.stack([left, right])  # [A, S, S]
        self.P = (1 - self.p_right) * left + self.p_right * right
        self.R = np.zeros((2, self.size))  # [A, S]
        self.R[1, -1] = 1.0
        self.V = np.linalg.solve(np.eye(self.size) - self.gamma * self.P, self.p_right * self.R[1])
        self.critic = 0.5 * self.V + self.rng.normal(0.0, 0.02, self.size)

    def mean(self, critic: Values, weights: Float[np.ndarray, " K"]) -> float:
        """The mean of sum_k weights[k] delta_{t+k} after a step to the right from the middle.

        C1's equation (4): the TD errors' means under the critic, in the states that are reached.
        """
        delta = self.R + self.gamma * self.moves @ critic - critic  # [A, S]
        under_policy = (1 - self.p_right) * delta[0] + self.p_right * delta[1]  # [S]
        middle = self.size // 2
        reached = self.moves[1, middle]  # [S] where one may be, one step later
        total = weights[0] * delta[1, middle]
        for weight in weights[1:]:
            total += weight * reached @ under_policy
            reached = reached @ self.P
        return float(total)

    def bias(self, weights: Float[np.ndarray, " K"]) -> float:
        """By how much the estimate plus the critic's value of the middle misses the true action value.

        An error in the middle's own value would be a baseline, and do no harm.
        """
        middle = self.size // 2
        truth = self.mean(self.V, np.ones(1)) + self.V[middle] - self.critic[middle]
        return self.mean(self.critic, weights) - truth

    def rms_error(
        self, estimates: Float[np.ndarray, " N"], weights: Float[np.ndarray, " K"], num_envs: int = 16
    ) -> float:
        """Root mean square error of a mean over `num_envs` estimates: exact bias, sampled noise."""
        return float(np.hypot(self.bias(weights), estimates.std(ddof=1) / num_envs**0.5))

    def sample(self, num_episodes: int, num_steps: int = 100) -> dict[str, Tensor]:
        """Rollouts [T, N] that begin with a step right from the middle; after an end nothing counts."""
        import torch

        state = np.full(num_episodes, self.size // 2)
        rows: dict[str, list] = {key: [] for key in ("rewards", "values", "next_values", "terminated")}
        critic = np.append(self.critic, 0.0)  # one more entry, for "has ended"
        for t in range(num_steps):
            right = self.rng.random(num_episodes) < (self.p_right if t else 1.0)
            after = state + np.where(right, 1, -1)
            ended = (state == self.size) | (after < 0) | (after >= self.size)
            paid = (after == self.size) & (state < self.size)
            noise = self.noise * self.rng.normal(size=num_episodes) * (state < self.size)
            after = np.where(ended, self.size, after)
            for key, row in zip(rows, (paid + noise, critic[state], critic[after], ended)):
                rows[key].append(row)
            state = after
        return {key: torch.from_numpy(np.stack(row)) for key, row in rows.items()}
