"""Vector environments under one contract, and how good a policy is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chapters.utils import lesson

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np


def make_envs(env_id: str, num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv:
    """`num_envs` copies of `env_id` that reset in the same step in which an episode ends.

    After `obs, rewards, terminated, truncated, infos = envs.step(actions)`, a finished environment's `obs`
    is the first observation of its next episode, and the last one of the old episode is in
    `infos["final_obs"]`; `true_next_obs` picks the right one. `terminated` and `truncated` stay apart.

    CartPole-v1 and Pendulum-v1 come as our batched NumPy versions (same dynamics, many times faster), and so
    does our DiscretePendulum-v0; everything else as gymnasium's SyncVectorEnv. `kwargs` go to the
    environment's constructor. An environment that is not the course's own is looked at first, and at every
    step: UsageError says in one line what is wrong with its id, its spaces or its numbers. So it does where a
    lesson that can only count asks a space of continuous actions for its number `n`.
    """
    import gymnasium as gym

    from chapters.envs.visitors import Continuous

    envs = _made(env_id, num_envs, **kwargs)
    if isinstance(envs.single_action_space, gym.spaces.Box):
        envs.single_action_space = Continuous(envs.single_action_space, env_id)
    return envs


def _made(env_id: str, num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv:
    import gymnasium as gym

    from chapters.envs import registration  # noqa: F401 — makes the course's own environments known
    from chapters.envs.cartpole import BatchedCartPole
    from chapters.envs.pendulum import BatchedPendulum, DiscretePendulum

    batched = {
        "CartPole-v1": BatchedCartPole,
        "Pendulum-v1": BatchedPendulum,
        "DiscretePendulum-v0": DiscretePendulum,
    }
    if env_id in batched and not kwargs:
        return batched[env_id](num_envs)
    if env_id in gym.registry and str(gym.registry[env_id].entry_point).startswith("chapters."):
        return gym.vector.SyncVectorEnv(
            [lambda: gym.make(env_id, **kwargs)] * num_envs,
            autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
        )
    from chapters.envs import visitors

    return visitors.make(env_id, num_envs, **kwargs)


def check_env_id(cfg: Any) -> None:
    """Whoever takes `--env-id` learns from vectors: UsageError for a world of the course that has none."""
    if not hasattr(cfg, "env_id"):
        return
    import gymnasium as gym

    from chapters.envs import registration, visitors  # noqa: F401 — makes the course's own known

    if cfg.env_id in gym.registry and str(gym.registry[cfg.env_id].entry_point).startswith("chapters."):
        visitors.check_spaces(cfg.env_id, gym.make(cfg.env_id))


lesson.CHECKS.append(check_env_id)


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


def evaluate(
    policy: Callable[[Any], Any],
    env_id: str = "",
    *,
    episodes: int = 100,
    seed: int,
    envs: Any = None,
    **env_kwargs: Any,
) -> np.ndarray:
    """Undiscounted returns [episodes] of one whole episode in each of `episodes` parallel environments.

    One episode each, rather than the first so many to finish, because the latter favours short ones.
    `policy` maps a batch of observations [episodes, ...] to a batch of actions (numpy or torch).
    Choose a `seed` that training did not use. `envs` are used in place of new ones, one episode in each.
    """
    import numpy as np

    envs = make_envs(env_id, episodes, **env_kwargs) if envs is None else envs
    obs, _ = envs.reset(seed=seed)
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    while running.any():
        obs, rewards, terminated, truncated, _ = envs.step(np.asarray(policy(obs)))
        returns[running] += rewards[running]
        running &= ~(terminated | truncated)
    envs.close()
    return returns
