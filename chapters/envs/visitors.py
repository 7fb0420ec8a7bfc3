"""Environments that a user brings by their id: whatever is wrong with one is told in a line.

`--env-id` takes any id that gymnasium knows, and `mymodule:My-v0`, which imports `mymodule` first.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from chapters.utils.lesson import UsageError

ALLOWED = "allowed: an id that gymnasium knows, such as Acrobot-v1, or mymodule:My-v0"
OBSERVATIONS = "allowed: vectors, a Box of one dimension"
ACTIONS = "allowed: Discrete, or a Box of one dimension"
COUNTED = "allowed in this lesson: Discrete, a number of actions"
ENDS = "allowed: episodes that end, by max_episode_steps if by nothing else"
LARGEST = 1e15
"""Rewards and observations beyond which a sum of squares is no 32-bit number any more."""
LONGEST = 100_000
"""Steps of an episode beyond which nobody waits for its end."""
WIDEST = 100_000
"""Numbers of an observation, or actions, beyond which a network's layers would fill the memory."""
STEP = "allowed: as in gymnasium, reset(seed=...) -> (obs, info) and step(action) -> 5 values"


def make(env_id: str, num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv:
    """The copies that `make_envs` makes, of an environment that is not the course's own."""
    inspect(env_id, **kwargs)
    envs = CheckedVectorEnv(
        [partial(_one, env_id, **kwargs)] * num_envs,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    envs.env_id = env_id
    return envs


def _one(env_id: str, **kwargs: Any) -> gym.Env:
    """One copy, as learners take it: all numbers have 32 bits, actions are counted from 0."""
    env = gym.make(env_id, disable_env_checker=True, **kwargs)
    space = env.observation_space
    if space.dtype != np.float32:
        cast = partial(np.asarray, dtype=np.float32)
        env = gym.wrappers.TransformObservation(env, cast, _in_32_bits(space))
    space = env.action_space
    if isinstance(space, gym.spaces.Box) and space.dtype != np.float32:
        return gym.wrappers.TransformAction(env, partial(_as_in, space), _in_32_bits(space))
    if isinstance(space, gym.spaces.Discrete) and space.start:
        first, from_zero = int(space.start), gym.spaces.Discrete(int(space.n))
        return gym.wrappers.TransformAction(env, lambda action: action + first, from_zero)
    return env


def _in_32_bits(space: gym.spaces.Box) -> gym.spaces.Box:
    """The same bounds as 32-bit numbers."""
    with np.errstate(over="ignore"):  # what is beyond them is as good as infinite
        return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def _as_in(space: gym.spaces.Box, action: np.ndarray) -> np.ndarray:
    """An action as the environment's own kind of number, the nearest that is in its space."""
    nearest = action if np.issubdtype(space.dtype, np.floating) else np.rint(action)
    return np.clip(nearest, space.low, space.high).astype(space.dtype)


class Continuous(gym.spaces.Box):
    """A Box that refuses in a line to be asked for its number of actions, as whoever can only count does."""

    def __init__(self, space: gym.spaces.Box, env_id: str) -> None:
        super().__init__(space.low, space.high, dtype=space.dtype)
        self.env_id = env_id

    @property
    def n(self) -> int:
        """Raises UsageError, which for `hasattr` is an AttributeError too."""
        raise Uncountable(f"--env-id {self.env_id}: actions of {_sentence(self)} ({COUNTED})")


class Uncountable(UsageError, AttributeError):
    """Continuous actions where a number of them is wanted."""


def inspect(env_id: str, **kwargs: Any) -> None:
    """Make one copy, reset it, take a step, throw it away. Raises UsageError with what is allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's checks say in many lines what is said here in one
        env = _make(env_id, **kwargs)
        try:
            check_spaces(env_id, env)
            _try(env_id, env)
        finally:
            with _in_a_line(env_id, "close"):
                env.close()


def _make(env_id: str, **kwargs: Any) -> gym.Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except (gym.error.Error, ImportError) as error:
        raise refusal(env_id, f"{_sentence(error)} ({ALLOWED})") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a constructor can raise
        told = f"it cannot be made, {type(error).__name__}: {_sentence(error)}"
        raise refusal(env_id, f"{told} ({ALLOWED})") from None


def check_spaces(env_id: str, env: gym.Env) -> None:
    """Raises UsageError for spaces that no learner here knows."""
    with _in_a_line(env_id, "its spaces"):
        obs, action = env.observation_space, env.action_space
    if not _is_vector(obs):
        raise refusal(env_id, f"observations of {_sentence(obs)} ({OBSERVATIONS})")
    if not isinstance(action, gym.spaces.Discrete) and not _is_vector(action):
        raise refusal(env_id, f"actions of {_sentence(action)} ({ACTIONS})")
    if max(obs.shape[0], getattr(action, "n", 0)) > WIDEST:
        told = f"observations of {_sentence(obs)}, actions of {_sentence(action)}"
        raise refusal(env_id, f"{told} (allowed: up to {WIDEST:,} of each)")


def _is_vector(space: Any) -> bool:
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def _try(env_id: str, env: gym.Env) -> None:
    """One reset and one step, as every learner does them."""
    try:
        obs, info = env.reset(seed=0)
        dict(info)
        env.action_space.seed(0)
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        float(reward), dict(info)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if bool(flag) != flag:  # a word is not False, whatever it says
                raise TypeError(f"{name} is {flag!r}, neither True nor False")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        told = f"{type(error).__name__} in its first step: {_sentence(error)}"
        raise refusal(env_id, f"{told} ({STEP})") from None
    if np.shape(obs) != env.observation_space.shape:
        told = f"an observation of shape {np.shape(obs)}, its space says {env.observation_space.shape}"
        raise refusal(env_id, told)
    check_finite(env_id, np.asarray(reward, dtype=float), np.asarray(obs))


def check_finite(env_id: str, rewards: np.ndarray, obs: np.ndarray) -> None:
    """Raises UsageError for the first reward or observation that is no finite number, or no usable one."""
    for what, numbers in (("a reward", rewards), ("an observation", obs)):
        usable = np.abs(numbers) <= LARGEST  # of NaN neither
        if not usable.all():
            allowed = f"allowed: finite numbers, of at most {LARGEST:g}"
            raise refusal(env_id, f"{what} is {numbers[~usable].flat[0]} ({allowed})")


class CheckedVectorEnv(gym.vector.SyncVectorEnv):
    """Refuses rewards and observations that are no finite numbers: a learner would go on for nothing.

    And episodes without an end, for which an evaluation would wait for ever.
    """

    env_id = ""

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict]:
        """As in gymnasium."""
        self.elapsed = np.zeros(self.num_envs, dtype=int)  # [N] steps of the episodes under way
        with _in_a_line(self.env_id, "a reset"):
            return super().reset(**kwargs)

    def step(self, actions: np.ndarray) -> tuple:
        """As in gymnasium."""
        with _in_a_line(self.env_id, "a step"):
            obs, rewards, terminated, truncated, infos = super().step(actions)
        check_finite(self.env_id, rewards, obs)
        self.elapsed = np.where(terminated | truncated, 0, self.elapsed + 1)
        if self.elapsed.max() >= LONGEST:
            raise refusal(self.env_id, f"an episode did not end in {LONGEST:,} steps ({ENDS})")
        return obs, rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """As in gymnasium."""
        with _in_a_line(self.env_id, "close"):
            super().close_extras(**kwargs)


@contextlib.contextmanager
def _in_a_line(env_id: str, when: str) -> Iterator[None]:
    """Whatever an environment raises is said in a line, and where."""
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{Path(last.filename).name}, line {last.lineno}"
        told = f"{type(error).__name__} in {when}: {_sentence(error)} ({where})"
        raise refusal(env_id, told) from error


def refusal(env_id: str, what: str) -> UsageError:
    """The error that names the flag, the environment and what is wrong with it."""
    shown = env_id if len(env_id) <= 120 else f"{env_id[:100]}… ({len(env_id)} letters)"
    return UsageError(f"--env-id {shown}: {what}")


def _sentence(thing: object) -> str:
    """On one line, not too long, without the full stop."""
    try:
        text = str(thing)
    except Exception:  # a user's own error may fail to say what it is
        text = f"a {type(thing).__name__} without words"
    return " ".join(text.split())[:200].rstrip(".")
