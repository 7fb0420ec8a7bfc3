"""SBX: Stable-Baselines3's PPO and SAC, the update compiled by JAX. Runs in an environment of its own."""

from __future__ import annotations

from typing import Any

from sbx import PPO, SAC

from benchmarks.peers import sb3
from benchmarks.worker import Recorder


def ppo(job: dict[str, Any], record: Recorder) -> int:
    """Compiled in two first updates; then weights and optimisers are put back and the clock starts."""
    model = sb3.build(PPO, job)
    start = model.policy.actor_state, model.policy.vf_state  # never changed in place
    model.learn(2 * model.n_steps * model.n_envs)
    model.policy.actor_state, model.policy.vf_state = start
    return sb3.learn(model, job, record)


def sac(job: dict[str, Any], record: Recorder) -> int:
    """Compiled in a few first updates; then what they learned is put back and the clock starts."""
    model = sb3.build(SAC, job)
    start = model.policy.actor_state, model.policy.qf_state, model.ent_coef_state, model.key
    model.learn(model.learning_starts + 4)
    model.policy.actor_state, model.policy.qf_state, model.ent_coef_state, model.key = start
    model.replay_buffer.reset()
    model._n_updates = 0
    return sb3.learn(model, job, record)
