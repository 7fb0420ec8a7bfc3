# %% [markdown]
r"""
# C4 · PPO in JAX

**Question.** What has to change in C3's program so that environment, rollout, advantages and updates become
one compiled function, and what do you get for it?

**Before this:** C3 (PPO, proximal policy optimisation, in PyTorch). **Changes from C3:** the environment is
written in JAX too; loops become `lax.scan`, chance becomes an argument, and 32 learners train in one call.
Actions are discrete only, and no pass is left out when the policy has moved far (C3's `target_kl`).
**Next:** C5, the trust region that PPO comes from.

**Time.** 55 s on 2 cores; with all evidence 90 s.

References: `schulman2017ppo`, `schulman2016gae`, `pardo2018timelimits`, `kingma2015adam`, `lu2022discovered`.

Symbols: `K` learners, `N` environments each, `T` steps a rollout, `M` minibatches of `B` rows (those of all
passes over a rollout), `P` weights, `D` numbers in an observation, `A` actions.
"""

# %%
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from chapters.envs import jax_networks as nets
from chapters.envs.jax_networks import Learner, Moments, Number, Shapes, forward, networks
from chapters.envs.jax_worlds import CARTPOLE, Batch, Transition, World, env_step, greedy_return
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson

RandomKey = Key[Array, ""]
Weights = Float[Array, " P"]
Obs, Clocks = Float[Array, "N D"], Int[Array, " N"]  # of N environments; steps since their episodes began
Grid, Flags = Float[Array, "T N"], Bool[Array, "T N"]  # of a rollout
Rows = Int[Array, "M B"]  # of the batch, for each minibatch
Index = Int[Array, ""] | int
SOLVED = 475.0  # the threshold registered for CartPole-v1


@dataclass(frozen=True)
class Config:
    """PPO on CartPole as one compiled function, many learners at once."""

    seed: int = 0
    """Seed of the key from which all chance is derived."""
    num_learners: Annotated[int, in_range(1, 4096)] = 32
    """K: learners trained in one call, each from its own key."""
    num_envs: Annotated[int, in_range(1, 4096)] = 16
    """N: environments of each learner."""
    num_steps: Annotated[int, in_range(1, 4096)] = 64
    """T: steps per environment in one rollout."""
    num_env_steps: Annotated[int, in_range(1, 100_000_000)] = 61_440
    """Environment steps of each learner; learning rate and clip range fall to zero over them."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each rollout."""
    minibatch_size: Annotated[int, in_range(2, 1_000_000)] = 256
    """B: transitions per gradient step; must divide T times N."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 5e-3
    """Adam's step size at the start."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one step; 1 only where a time limit or the end of the rollout cuts."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far the ratio may move before the reason to move it further is taken away."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.5
    """Weight of the value loss."""
    ent_coef: Annotated[float, in_range(0.0, 1.0)] = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e9)] = 0.5
    """Bound on the norm of the whole gradient."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between evaluations; a multiple of T times N."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""

    @property
    def batch_size(self) -> int:
        return self.num_steps * self.num_envs

    @property
    def num_updates(self) -> int:
        return self.num_env_steps // self.batch_size


SMOKE = {
    "num_learners": 2, "num_env_steps": 512, "num_envs": 4, "num_steps": 32, "minibatch_size": 64,
    "num_epochs": 2, "eval_every": 256, "num_eval_episodes": 5,
}  # fmt: skip

# %% [markdown]
r"""
## 1. JAX for people who know PyTorch

PyTorch runs a program line by line, and each line starts a kernel. With 64 hidden units starting one costs
more than computing it. JAX calls the function once with *tracers* in place of numbers, writes down every
operation, and compiles what it wrote. From then on Python is out of the loop.

| in C3 | in JAX | mind |
|---|---|---|
| run it | `jax.jit(f)`: trace, compile, run | no values while tracing: not `if x > 0`, but `jnp.where` |
| `for t in range(T)` | `lax.scan(step, carry, xs)` | a Python loop is compiled T times over |
| written for a batch | written for one, then `jax.vmap(f)` | both sides of an `if` are computed for all |
| a global random state | an explicit `key` | the same key gives the same numbers |
| `loss.backward()` | `jax.grad(loss)`, a function | must be *pure*: arguments in, results out |
| weights change in place | old weights in, new weights out | all that changes travels in the carry |

So PPO becomes one pure function from a key to weights (`lu2022discovered`), with the environment, a `World`
(`chapters/envs/jax_worlds.py`), in it. `env_step` makes a first observation for *every* environment at
*every* step; `jnp.where` picks it where an episode ended. The transition's `next_obs` is the true successor
all the same.

## 2. Chance is an argument

`jax.random.split` makes new keys of one, and each is used once. The random numbers of a rollout are made
beforehand: for each step and environment one that draws the action, and $D$ that make a first observation.

To draw an action, cut $[0, 1)$ into slices as long as the probabilities, and find the slice that a uniform
number $u$ falls into. Its number is how many slices end at or before $u$ (the last always ends behind it):

$$a = \#\bigl\{b < A - 1 : \textstyle\sum_{c \le b} \pi(c \mid s) \le u\bigr\} \tag{1}$$

*By hand.* Probabilities .2, .5 and .3 cut $[0, 1)$ at .2 and .7: .1, .6 and .95 fall into slices 0, 1 and 2.

```python
>>> logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]] * 3))
>>> sample_actions(logits, jnp.array([0.1, 0.6, 0.95])).tolist()
[0, 1, 2]
```

## 3. Loops are scans, and so is learning

`lax.scan(step, carry, xs)` calls `step(carry, x)` for each slice `x` of `xs`, hands the carry on, and stacks
what the calls put out. With `reverse=True` it walks `xs` from the end. Here each output is the sum of what
comes after:

```python
>>> lax.scan(lambda carry, x: (carry + x, carry), 0, jnp.array([1, 2, 3]), reverse=True)[1].tolist()
[5, 3, 0]
```

In a rollout the carry is what changes from step to step: the observations, and `elapsed`, the clocks that the
time limit is read from. Advantages (`schulman2016gae`) run from the last step to the first, with C3's two
masks: a time limit keeps the bootstrap (`pardo2018timelimits`).

$$\hat A_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t)
+ \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{2}$$

The loss is C3's, to the letter (`schulman2017ppo`), as a function of the weights. These are one vector
$\theta$, both networks end to end, and Adam (`kingma2015adam`), which JAX does not bring, is a few lines on
it (`chapters/envs/jax_networks.py`). The minibatches of all passes are laid out beforehand, as `order`:
a scan over its rows is all the learning of an update.

`train` is one learner from key to weights: a scan over checks, and in it a scan over the updates up to each.
`jax.vmap(train)` adds an axis for the learners to the arrays in it.
"""


# %%
def sample_actions(logits: Float[Array, "N A"], uniform: Float[Array, " N"]) -> Int[Array, " N"]:
    """One action a row, with the probabilities of the softmax."""
    ends = jnp.cumsum(jax.nn.softmax(logits), axis=1)[:, :-1]  # [N, A - 1] where each slice but the last ends
    return (ends <= uniform[:, None]).sum(axis=1)  # eq. (1)


def rollout(
    world: World, actor: list, obs: Obs, elapsed: Clocks, uniform: Float[Array, "T N D+1"]
) -> tuple[Transition, Obs, Clocks]:
    """T steps in each environment: (transitions [T, N, ...], observations to act on next, elapsed)."""

    def step(carry, uniform):
        obs, elapsed = carry
        actions = sample_actions(forward(actor, obs), uniform[:, 0])
        transition, obs, elapsed = env_step(world, obs, elapsed, actions, uniform[:, 1:])
        return (obs, elapsed), transition

    (obs, elapsed), transitions = lax.scan(step, (obs, elapsed), uniform)
    return transitions, obs, elapsed


def gae(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Grid:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also where an episode ended."""
    deltas = rewards + gamma * ~terminated * next_values - values
    weights = gamma * gae_lambda * ~(terminated | truncated)

    def step(advantage, row):
        delta, weight = row
        advantage = delta + weight * advantage  # eq. (2)
        return advantage, advantage

    return lax.scan(step, jnp.zeros_like(rewards[0]), (deltas, weights), reverse=True)[1]


def prepare(theta: Weights, data: Transition, cfg: Config, shapes: Shapes) -> Batch:
    """A rollout [T, N, ...] as rows [T * N, ...] with advantages, targets and old log-probabilities."""
    actor, critic = networks(theta, shapes)
    values = forward(critic, data.obs)[..., 0]  # [T, N]
    next_values = forward(critic, data.next_obs)[..., 0]
    ends = data.terminated, data.truncated
    advantages = gae(data.rewards, values, next_values, *ends, cfg.gamma, cfg.gae_lambda)
    log_probs, _ = nets.categorical(forward(actor, data.obs), data.actions)
    batch = Batch(data.obs, data.actions, log_probs, advantages, advantages + values)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def loss(theta: Weights, mini: Batch, clip_eps: Number, cfg: Config, shapes: Shapes) -> Number:
    """PPO's loss of one minibatch."""
    actor, critic = networks(theta, shapes)
    log_probs, entropy = nets.categorical(forward(actor, mini.obs), mini.actions)
    ratio = jnp.exp(log_probs - mini.old_log_probs)
    spread = mini.advantages.std(ddof=1) + 1e-8  # ddof=1: as torch's std
    advantages = (mini.advantages - mini.advantages.mean()) / spread
    advantages *= mini.advantages.max() > mini.advantages.min()  # else rounding divided by rounding
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    objective = jnp.minimum(ratio * advantages, clipped * advantages)
    value_loss = ((forward(critic, mini.obs)[:, 0] - mini.returns) ** 2).mean()
    return -objective.mean() + cfg.vf_coef * value_loss - cfg.ent_coef * entropy.mean()


def learn(
    theta: Weights, moments: Moments, batch: Batch, order: Rows, index: Index, cfg: Config, shapes: Shapes
) -> tuple[Weights, Moments]:
    """Update `index`: one gradient step on each of M minibatches."""
    left = 1.0 - index / cfg.num_updates  # of step size and clip range

    def step(carry, x):
        theta, moments = carry
        k, mini = x
        gradient = jax.grad(loss)(theta, mini, cfg.clip_eps * left, cfg, shapes)
        gradient = nets.clip_norm(gradient, cfg.max_grad_norm)
        return nets.adam_step(theta, gradient, moments, k, cfg.learning_rate * left), None

    k = index * len(order) + 1 + jnp.arange(len(order))  # Adam counts from 1, through all updates
    minis = jax.tree.map(lambda x: x[order], batch)  # [M, B, ...]
    return lax.scan(step, (theta, moments), (k, minis))[0]


def update(learner: Learner, key: RandomKey, index: Index, cfg: Config, world: World) -> Learner:
    """One rollout, and what is learned from it."""
    shapes = nets.layer_shapes(world)
    key_rollout, key_order = jax.random.split(key)
    uniform = jax.random.uniform(key_rollout, (cfg.num_steps, cfg.num_envs, 1 + world.obs_dim))
    actor, _ = networks(learner.theta, shapes)
    data, obs, elapsed = rollout(world, actor, learner.obs, learner.elapsed, uniform)
    batch = prepare(learner.theta, data, cfg, shapes)
    order = nets.shuffles(key_order, cfg.num_epochs, len(batch.obs)).reshape(-1, cfg.minibatch_size)
    theta, moments = learn(learner.theta, learner.moments, batch, order, index, cfg, shapes)
    return Learner(theta, moments, obs, elapsed)


def train(
    key: RandomKey, evaluate: Bool[Array, ""] | bool, cfg: Config, world: World = CARTPOLE
) -> tuple[Weights, Float[Array, " checks"]]:
    """(weights after all steps, greedy return at every check or NaN): PPO from a key to a policy."""
    shapes = nets.layer_shapes(world)
    num_checks = cfg.num_env_steps // cfg.eval_every
    keys = jax.random.split(key, 2 + num_checks + cfg.num_updates)  # one for each use

    def until_check(learner, x):
        key_check, updates = x
        learner, _ = lax.scan(lambda learner, x: (update(learner, *x, cfg, world), None), learner, updates)
        actor, _ = networks(learner.theta, shapes)
        score = partial(greedy_return, world, partial(forward, actor), key_check, cfg.num_eval_episodes)
        return learner, lax.cond(evaluate, score, lambda: jnp.nan)

    theta = nets.orthogonal_start(keys[0], shapes)
    moments = Moments(jnp.zeros_like(theta), jnp.zeros_like(theta))
    obs = world.reset(jax.random.uniform(keys[1], (cfg.num_envs, world.obs_dim)))
    learner = Learner(theta, moments, obs, jnp.zeros(cfg.num_envs, dtype=int))
    updates = keys[2 + num_checks :], jnp.arange(cfg.num_updates)
    updates = jax.tree.map(lambda x: x.reshape(num_checks, -1), updates)  # [checks, updates up to each]
    learner, scores = lax.scan(until_check, learner, (keys[2 : 2 + num_checks], updates))
    return learner.theta, scores


# %% [markdown]
r"""
## 4. Look, break, write

![Learners that differ only in their key climb at very different times; nearly all then stay](results/C4.png)

Some dip again on the way; the lower edge at the end is one learner that has not come back. A single such
curve proves little. Where the time goes (`rl run C4 --evidence`):

![CPU seconds of compiling and learning, one learner and 32, in JAX and in PyTorch](results/C4_seconds.png)

**The verdict.** Every loop becomes a scan, every `if` a `where`, every change in place an argument and a
result, and chance a key. The numbers stay PyTorch's. You get speed, after a wait: compiling takes longer than
a PyTorch learner takes to learn; once compiled, learning costs a fraction. `vmap` saves no CPU time here: all
learners together take no less than one by one, and their program takes longer to compile. A GPU has lanes for
them. Compiling takes the longer the more operations a program has. Hence one vector for all weights, and
scans, whose step is compiled once ([benchmark](../../benchmarks/rejax_ppo/README.md)).

<!-- results: C4 -->

`rl run C4`: 42 s; with `--evidence`: 52 s, 1266 MB; with `--smoke --evidence`: 12 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| same_key_gap       | 0                               | ≤ 0     | 5/5 |
| solved_at_the_end  | 31 (31 to 32)                   | ≥ 30    | 5/5 |
| advantages_gap *   | 9.54e-07 (9.54e-07 to 1.91e-06) | ≤ 1e-05 | 5/5 |
| loss_gap *         | 5.96e-08 (0 to 5.96e-08)        | ≤ 1e-05 | 5/5 |
| gradient_gap *     | 2.24e-08 (1.49e-08 to 5.96e-08) | ≤ 1e-05 | 5/5 |
| weights_gap *      | 4.4e-07 (3.13e-07 to 6.56e-07)  | ≤ 1e-05 | 5/5 |
| solved_learners *  | 32                              | ≥ 30    | 5/5 |
| speed_over_torch * | 4.33 (3.95 to 4.76)             | ≥ 1     | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `same_key_gap`: the same keys give the same weights, to the last bit, whether they are evaluated on the way
  or not
- `solved_at_the_end`: learners whose last policy holds the pole up (learners)
- `advantages_gap`: advantages by a reversed scan are those of a loop in PyTorch (largest difference)
- `loss_gap`: the loss of a batch is PyTorch's (largest difference)
- `gradient_gap`: its gradient in every weight is autograd's (largest difference)
- `weights_gap`: a pass of our Adam ends where PyTorch's does (largest difference)
- `solved_learners`: learners that score at least 475 in three evaluations in a row (learners)
- `speed_over_torch`: once compiled, all learners in one call are this many times as fast as one by one in
  PyTorch (times)
</details>

<!-- /results -->

**Break it.** `rl break C4 reuse_key`: all environments of a learner get the same random numbers. Two whose
episodes once restart in the same step are identical from then on. No shape is wrong, but a rollout holds far
less than it seems to. `rl break C4 not_reversed`: advantages add up the past.

**Exercises.**

<!-- exercises: C4 -->

*C4.1 · Backwards, and by chance* (15 minutes, medium). Write the advantages, from (2), as a scan, and the
draw of an action, from (1), without any loop. `rl exercise C4.gae`, `rl exercise C4.sample_actions`.

*C4.2 · A carry of your own* (20 minutes, medium). What did each episode earn? It may have begun in an earlier
rollout, and may still be under way at the end of this one. Write it as one scan, without an `if`, so that it
can be compiled into `train`. `rl exercise C4.finished_returns`.

*C4.3 · A saving that is none* (20 minutes, hard). Skip a solved learner's updates by `lax.cond`. Why does
that save nothing?

<details><summary>Answer</summary>

Under `jax.vmap` the condition is an array with an entry for each learner. Then `lax.cond` computes both
branches for all of them, and a `where` picks. (`evaluate` in `train` is one for all, by `in_axes`: there the
branch that is not taken does cost nothing.)
</details>

*C4.4 · Where else* (5 minutes, easy). `reuse_key` breaks no shape and stops nothing. Where does the same
happen without JAX?

<details><summary>Answer</summary>

Workers that are forked with one seed draw alike too: environments, or a data loader's. In JAX look for a key
that is used twice first; elsewhere, for a generator that was copied.
</details>

*C4.5 · Find the bug* (10 minutes). `rl exercise C4.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    nets.check_sizes(cfg)
    keys = jax.random.split(jax.random.key(cfg.seed), cfg.num_learners)
    compiling, learning = CpuClock(), CpuClock()
    with compiling:  # `jax.jit` alone would compile in the first call; taken apart, each can be timed
        options = {"xla_backend_optimization_level": "0"} if log.smoke else {}
        many = jax.vmap(partial(train, cfg=cfg), in_axes=(0, None))
        program = jax.jit(many, compiler_options=options).lower(keys, True).compile()
    weights, scores = map(np.asarray, program(keys, True))  # [K, P] and [K, checks]
    with learning:  # once more, without evaluations
        again, _ = jax.block_until_ready(program(keys, False))
    log.write(cfg.num_env_steps, compile_seconds=compiling.seconds, learning_seconds=learning.seconds)
    log.keep(scores=scores)
    log.claim(
        "same_key_gap",
        "the same keys give the same weights, to the last bit, whether they are evaluated on the way or not",
        np.abs(weights - again).max(),
        at_most=0.0,
        source="a pure function of its arguments",
        always=True,
    )
    log.claim(
        "solved_at_the_end",
        "learners whose last policy holds the pole up",
        (scores[:, -1] >= SOLVED).sum(),
        at_least=30 / 32 * len(scores),
        unit="learners",
        source="the threshold registered for CartPole-v1, 475",
    )
    figure, ax = plotting.new_figure(width=7.5)
    steps = np.arange(1, scores.shape[1] + 1) * cfg.eval_every / 1000
    ax.plot(steps, scores.T, color=plotting.BLUE, alpha=0.2, linewidth=1)
    plotting.seed_band(ax, steps, scores, "learners")
    ax.axhline(SOLVED, label="solved", **plotting.REFERENCE)
    ax.set(xlabel="thousand environment steps of each learner", ylabel="mean greedy return", ylim=(0, 520))
    ax.legend(loc="lower right")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
