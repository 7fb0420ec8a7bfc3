"""Vector environments under one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np


def make_envs(env_id: str, num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv:
    """`num_envs` copies of `env_id` that reset in the same step in which an episode ends.

    After `obs, rewards, terminated, truncated, infos = envs.step(actions)`, a finished environment's `obs`
    is the first observation of its next episode, and the last one of the old episode is in
    `infos["final_obs"]`; `true_next_obs` picks the right one. `terminated` and `truncated` stay apart.

    CartPole-v1 and Pendulum-v1 come as our batched NumPy versions (same dynamics, many times faster);
    everything else as gymnasium's SyncVectorEnv. `kwargs` go to the environment's constructor.
    """
    import gymnasium as gym

    import chapters.envs  # noqa: F401 — registers the course's own environments
    from chapters.envs.cartpole import BatchedCartPole
    from chapters.envs.pendulum import BatchedPendulum

    batched = {"CartPole-v1": BatchedCartPole, "Pendulum-v1": BatchedPendulum}
    if env_id in batched and not kwargs:
        return batched[env_id](num_envs)
    return gym.vector.SyncVectorEnv(
        [lambda: gym.make(env_id, **kwargs)] * num_envs,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )


def true_next_obs(obs: np.ndarray, done: np.ndarray, infos: dict) -> np.ndarray:
    """The successors s_{t+1} of one step: `obs`, with the final observation wherever an episode ended.

    obs: [N, ...] as returned by `step`; done: [N] terminated | truncated; infos: as returned by `step`.
    """
    if not done.any():
        return obs
    successors = obs.copy()
    for i in done.nonzero()[0]:
        successors[i] = infos["final_obs"][i]
    return successors
