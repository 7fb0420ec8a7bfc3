"""SBX: Stable-Baselines3's learners with their updates compiled by JAX. Runs in an environment of its own."""

from __future__ import annotations

from typing import Any

from sbx import PPO, SAC, TD3

from benchmarks.peers import sb3
from benchmarks.worker import Recorder


def ppo(job: dict[str, Any], record: Recorder) -> int:
    """Compiled in two first updates; then weights and optimisers are put back and the clock starts."""
    model = sb3.build(PPO, job)
    start = model.policy.actor_state, model.policy.vf_state  # never changed in place
    model.learn(2 * model.n_steps * model.n_envs)
    model.policy.actor_state, model.policy.vf_state = start
    return sb3.learn(model, job, record)


def off_policy(algorithm: type, job: dict[str, Any], record: Recorder) -> int:
    """Compiled in a few first updates; then all that they changed is put back and the clock starts."""
    model = sb3.build(algorithm, job)
    places = [(model.policy, "actor_state"), (model.policy, "qf_state"), (model, "ent_coef_state")]
    start = [(owner, name, getattr(owner, name)) for owner, name in places if hasattr(owner, name)]
    learning_starts, model.learning_starts = model.learning_starts, 8
    model.learn(16)
    for owner, name, state in start:
        setattr(owner, name, state)
    model.learning_starts = learning_starts
    model.replay_buffer.reset()
    return sb3.learn(model, job, record)


def sac(job: dict[str, Any], record: Recorder) -> int:
    return off_policy(SAC, job, record)


def td3(job: dict[str, Any], record: Recorder) -> int:
    return off_policy(TD3, job, record)
