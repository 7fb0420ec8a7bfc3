"""mpe2's simple_spread_v3, many worlds at once in NumPy: three agents cover three landmarks (lowe2017maddpg).

The same motion, contacts, observations and rewards as the package's, without it; a test holds this to paths
that were recorded with mpe2 1.1.1. It never terminates: after 25 steps a time limit cuts it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

NUM_AGENTS, NUM_ACTIONS, OBS_DIM, MAX_STEPS = 3, 5, 18, 25
SECONDS_PER_STEP, DAMPING, PUSH = 0.1, 0.25, 5.0
DIAMETER, STIFFNESS, MARGIN = 0.3, 100.0, 1e-3  # agents nearer than this collide
DIRECTIONS = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
"""Of each action: rest, left, right, down, up."""
OTHERS = np.array([[j for j in range(NUM_AGENTS) if j != i] for i in range(NUM_AGENTS)])
Obs = Float[np.ndarray, "N 3 18"]


class Spread:
    """`num_envs` worlds that begin and end together."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs, self.rng = num_envs, np.random.default_rng(seed)

    def reset(self) -> Obs:
        """Agents and landmarks anywhere in the square from -1 to 1; agents at rest."""
        self.positions, self.landmarks = self.rng.uniform(-1, 1, (2, self.num_envs, NUM_AGENTS, 2))
        self.velocities = np.zeros_like(self.positions)  # [N, 3, 2]
        self.elapsed = 0
        return self.observe()

    def step(
        self, actions: Int[np.ndarray, "N 3"]
    ) -> tuple[Obs, Float[np.ndarray, "N 3"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        """(obs, rewards, terminated, truncated); after a cut, reset before the next step."""
        force = PUSH * DIRECTIONS[actions] + self._contacts()
        self.positions = self.positions + SECONDS_PER_STEP * self.velocities  # before the velocities change
        self.velocities = (1 - DAMPING) * self.velocities + SECONDS_PER_STEP * force
        self.elapsed += 1
        truncated = np.full(self.num_envs, self.elapsed >= MAX_STEPS)
        return self.observe(), self.rewards(), np.zeros(self.num_envs, dtype=bool), truncated

    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        """(from agent j to agent i [N, 3, 3, 2], distances [N, 3, 3]; infinite from itself)."""
        apart = self.positions[:, :, None] - self.positions[:, None]
        distances = np.sqrt((apart**2).sum(axis=-1))
        distances[:, np.arange(NUM_AGENTS), np.arange(NUM_AGENTS)] = np.inf
        return apart, distances

    def _contacts(self) -> Float[np.ndarray, "N 3 2"]:
        """Forces that push agents apart; all but nothing at a distance."""
        apart, distances = self._apart()
        depth = MARGIN * np.logaddexp(0.0, (DIAMETER - distances) / MARGIN)
        return ((STIFFNESS * depth / distances)[..., None] * apart).sum(axis=2)

    def rewards(self) -> Float[np.ndarray, "N 3"]:
        """Half of what all are short of the landmarks, and half of one's own collisions, below 0."""
        to_landmarks = self.landmarks[:, :, None] - self.positions[:, None]  # [N, landmark, agent, 2]
        nearest = np.sqrt((to_landmarks**2).sum(axis=-1)).min(axis=2).sum(axis=1)  # [N]
        collisions = (self._apart()[1] < DIAMETER).sum(axis=2)  # [N, 3]
        return -0.5 * nearest[:, None] - 0.5 * collisions

    def observe(self) -> Obs:
        """Own velocity and position, the landmarks and the other agents from there, four zeros for words."""
        own = self.positions[:, :, None]
        landmarks = (self.landmarks[:, None] - own).reshape(self.num_envs, NUM_AGENTS, 6)
        others = (self.positions[:, OTHERS] - own).reshape(self.num_envs, NUM_AGENTS, 4)
        silence = np.zeros((self.num_envs, NUM_AGENTS, 4))
        return np.concatenate([self.velocities, self.positions, landmarks, others, silence], axis=2)


def towards(spread: Spread, targets: Float[np.ndarray, "N 3 2"]) -> Int[np.ndarray, "N 3"]:
    """The action that brings each agent nearest to its target where it would come to rest."""
    slide = SECONDS_PER_STEP / DAMPING  # how far a velocity of 1 carries if nobody pushes any more
    rest = spread.positions + slide * spread.velocities  # [N, 3, 2]
    after = rest[:, :, None] + slide * SECONDS_PER_STEP * PUSH * DIRECTIONS  # [N, 3, A, 2]
    return ((after - targets[:, :, None]) ** 2).sum(axis=-1).argmin(axis=2)
