"""Exercises of C4: its functions, a carry of one's own, and two questions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from chapters.C_policy_gradients.checks.C4 import can_be_compiled
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def finished_returns(rewards: jax.Array, done: jax.Array, running: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(return [T, N] of the episode that ended at each step, or 0; what each of N has earned since [N]).

    rewards, done: [T, N]. running: [N], what the episodes under way had earned before the rollout.
    """

    def step(running, row):
        reward, ends = row
        total = running + reward
        return jnp.where(ends, 0.0, total), jnp.where(ends, total, 0.0)

    running, returns = lax.scan(step, running, (rewards, done))
    return returns, running


def check_finished_returns(finished_returns):
    rng = np.random.default_rng(24)
    for T, N in ((1, 1), (6, 2), (10, 3)):
        for share in (0.0, 0.3, 1.0):
            rewards, running = rng.normal(size=(T, N)), rng.normal(size=N)
            done = rng.random((T, N)) < share
            given = (jnp.asarray(rewards), jnp.asarray(done), jnp.asarray(running))
            returns, after = finished_returns(*given)
            for i in range(N):
                total = float(running[i])
                for t in range(T):
                    total += float(rewards[t, i])
                    assert np.isclose(returns[t, i], total if done[t, i] else 0.0, atol=1e-5)
                    if done[t, i]:
                        total = 0.0
                assert np.isclose(after[i], total, atol=1e-5)
    can_be_compiled(finished_returns, *given)


EXERCISES = {
    "heart": Exercise(
        title="Backwards, and by chance",
        task="""
Write the advantages, from (2), as a scan, and the draw of an action, from (1), without any loop.
""",
        minutes=15,
        difficulty="medium",
        functions=("gae", "sample_actions"),
    ),
    "finished_returns": Exercise(
        title="A carry of your own",
        task=r"""
What did each episode earn? It may have begun in an earlier rollout, and may still be under way at the end of
this one. Write it as one scan, without an `if`, so that it can be compiled into `train`.
""",
        minutes=20,
        difficulty="medium",
        solution=finished_returns,
        check=check_finished_returns,
        hints=(
            "The carry is what changes from step to step: the sum of the episode under way.",
            "If no episode ends, all returns are 0, and the carry has grown by the column sums.",
            "def step(running, row):\n    reward, ends = row",
        ),
        edits={
            "never_reset": Edit(
                function="finished_returns",
                old="return jnp.where(ends, 0.0, total),",
                new="return total,",
                says="never starts a new sum: returns grow from episode to episode",
            ),
            "last_reward_lost": Edit(
                function="finished_returns",
                old="jnp.where(ends, total, 0.0)",
                new="jnp.where(ends, running, 0.0)",
                says="leaves out the reward of the step that ends the episode",
            ),
            "begins_at_zero": Edit(
                function="finished_returns",
                old="lax.scan(step, running,",
                new="lax.scan(step, jnp.zeros_like(running),",
                says="forgets what was earned before the rollout",
            ),
            "backwards": Edit(
                function="finished_returns",
                old="(rewards, done))",
                new="(rewards, done), reverse=True)",
                says="scans from the end: an episode gets what the next one earned",
            ),
        },
    ),
    "no_saving": Exercise(
        title="A saving that is none",
        task="Skip a solved learner's updates by `lax.cond`. Why does that save nothing?",
        minutes=20,
        difficulty="hard",
        answer="""
Under `jax.vmap` the condition is an array with an entry for each learner. Then `lax.cond` computes both
branches for all of them, and a `where` picks. (`evaluate` in `train` is one for all, by `in_axes`: there the
branch that is not taken does cost nothing.)
""",
    ),
    "forked": Exercise(
        title="Where else",
        task="`reuse_key` breaks no shape and stops nothing. Where does the same happen without JAX?",
        minutes=5,
        difficulty="easy",
        answer="""
Workers that are forked with one seed draw alike too: environments, or a data loader's. In JAX look for a key
that is used twice first; elsewhere, for a generator that was copied.
""",
    ),
}
