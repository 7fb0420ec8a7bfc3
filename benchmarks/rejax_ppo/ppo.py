"""rejax's PPO, as compiled and timed as our C4. Runs in an environment of its own (`requirements.txt`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rejax import PPO
from rejax.evaluate import evaluate

from benchmarks.worker import Recorder


def greedy_return(algo: PPO, state: Any, key: jax.Array, num_episodes: int) -> jax.Array:
    """Mean return of rejax's own evaluation, with the likeliest action in place of a sampled one."""

    def act(obs, key):
        return algo.actor.apply(state.actor_ts.params, obs[None], method="_action_dist").logits[0].argmax()

    return evaluate(act, key, algo.env, algo.env_params, num_episodes)[1].mean()


def ppo(job: dict[str, Any], record: Recorder) -> int:
    """One learner. The program is run twice from the same key: once timed without, once with its evaluations.

    Every update of the compiled program does the same work, so a check's time is its share of the whole.
    """
    settings = job["settings"]
    iteration = settings["num_envs"] * settings["num_steps"]
    every = max(1, round(job["eval_every"] / iteration)) * iteration
    num_checks = max(1, round(job["num_env_steps"] / every))
    algo = PPO.create(
        env=job["env_id"], total_timesteps=num_checks * every, eval_freq=every, skip_initial_evaluation=True,
        agent_kwargs={"activation": "tanh"}, **settings,
    )  # fmt: skip

    def train(key: jax.Array, evaluated: bool) -> jax.Array:
        def check(algo, state, key):
            return jax.lax.cond(
                evaluated, lambda: greedy_return(algo, state, key, job["num_eval_episodes"]), lambda: jnp.nan
            )

        state, scores = algo.replace(eval_callback=check).train(key)
        return scores, state.actor_ts.params

    key = jax.random.PRNGKey(job["seed"])
    program = jax.jit(train).lower(key, True).compile()
    jax.block_until_ready(program(key, False))  # a first call also finds memory; it belongs to the warm-up
    with record.learning():
        jax.block_until_ready(program(key, False))
    scores = np.asarray(program(key, True)[0])  # [checks]
    for i, score in enumerate(scores, start=1):
        share = i / num_checks
        record.add(i * every, score, share * record.cpu, share * record.wall)
    return num_checks * every
