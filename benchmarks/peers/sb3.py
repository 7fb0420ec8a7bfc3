"""Stable-Baselines3 (raffin2021sb3), at the settings that its rl-zoo tuned (raffin2020zoo) and at ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.worker import Recorder
from chapters.utils import seed_everything


class Checks(BaseCallback):
    """Offers the policy for evaluation after each update."""

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self.record = record

    def offer(self) -> None:
        policy = lambda obs: self.model.predict(obs, deterministic=True)[0]  # noqa: E731
        self.record.offer(self.model.num_timesteps, policy)

    def _on_rollout_start(self) -> None:  # that is, after the update that followed the last rollout
        self.offer()

    def _on_step(self) -> bool:
        return True


def schedules(settings: dict[str, Any]) -> dict[str, Any]:
    """rl-zoo's "lin_0.001" as a function that falls from 0.001 to 0; everything else as it is."""
    linear = {name: float(value[4:]) for name, value in settings.items() if str(value).startswith("lin_")}
    return settings | {name: (lambda left, start=start: start * left) for name, start in linear.items()}


def build(algorithm: type[BaseAlgorithm], job: dict[str, Any]) -> BaseAlgorithm:
    """The model, ready to learn."""
    seed_everything(job["seed"])
    settings = schedules(job["settings"])
    envs = make_vec_env(job["env_id"], n_envs=settings.pop("n_envs", 1), seed=job["seed"])
    if std := settings.pop("noise_std", 0.0):
        size = envs.action_space.shape
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, std))
    return algorithm("MlpPolicy", envs, seed=job["seed"], device="cpu", **settings)


def learn(model: BaseAlgorithm, job: dict[str, Any], record: Recorder) -> int:
    """`model.learn` on the clock, checked on the way and at the end."""
    checks = Checks(record)
    with record.learning():
        model.learn(job["num_env_steps"], callback=checks)
        checks.offer()
    return model.num_timesteps


def ppo(job: dict[str, Any], record: Recorder) -> int:
    return learn(build(PPO, job), job, record)


def a2c(job: dict[str, Any], record: Recorder) -> int:
    return learn(build(A2C, job), job, record)


def dqn(job: dict[str, Any], record: Recorder) -> int:
    return learn(build(DQN, job), job, record)


def sac(job: dict[str, Any], record: Recorder) -> int:
    return learn(build(SAC, job), job, record)


def td3(job: dict[str, Any], record: Recorder) -> int:
    return learn(build(TD3, job), job, record)


def trpo(job: dict[str, Any], record: Recorder) -> int:
    from sb3_contrib import TRPO

    return learn(build(TRPO, job), job, record)


def ppo_at_our_settings(job: dict[str, Any], record: Recorder) -> int:
    """PPO with lesson C3's settings, as the lesson itself translates them."""
    from chapters.C_policy_gradients import C3_ppo_from_scratch as lesson
    from chapters.C_policy_gradients.evidence.C3_sb3 import sb3_ppo_settings

    cfg = lesson.Config(seed=job["seed"], **job["settings"])
    settings = sb3_ppo_settings(cfg)
    settings["n_envs"] = settings.pop("num_envs")
    num_env_steps = job["num_env_steps"] if job["smoke"] else cfg.num_env_steps
    job = job | {"settings": settings, "num_env_steps": num_env_steps}
    return learn(build(PPO, job), job, record)


def sac_at_our_settings(job: dict[str, Any], record: Recorder) -> int:
    """SAC with lesson C6's settings: its networks, step size and batch, one gradient step a round."""
    from chapters.C_policy_gradients import C6_sac_td3 as lesson

    changes = lesson.SMOKE if job["smoke"] else {}
    cfg = lesson.Config(seed=job["seed"], **changes)
    settings = {
        "n_envs": cfg.num_envs, "train_freq": 1, "gradient_steps": 1, "learning_starts": cfg.num_warmup_steps,
        "batch_size": cfg.minibatch_size, "learning_rate": cfg.learning_rate, "gamma": cfg.gamma,
        "tau": cfg.target_rate, "policy_kwargs": {"net_arch": [cfg.hidden_size] * 2},
    }  # fmt: skip
    num_env_steps = job["num_env_steps"] if job["smoke"] else cfg.num_env_steps
    job = job | {"settings": settings, "num_env_steps": num_env_steps}
    return learn(build(SAC, job), job, record)
