# %% [markdown]
r"""
# C4 · PPO in JAX

**Question.** What has to change in C3's program so that environment, rollout, advantages and updates become
one compiled function, and what do you get for it?

**Before this:** C3 (PPO from scratch, in PyTorch). **Changes from C3:** the environment is written in JAX
too; loops become `lax.scan`, chance becomes an argument, and 32 learners train in one call. Discrete actions
only, and the epochs always run to their end. **Next:** chapter D takes PPO to language models.

**Time budget.** 90 s on 2 cores.

<!-- results: C4 -->

`rl run C4`: 29 s, 1445 MB. `rl run C4 --smoke`: 11 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| advantages_gap    | 9.54e-07 (9.54e-07 to 1.91e-06) | ≤ 1e-05 | 5/5 |
| loss_gap          | 5.96e-08 (0 to 5.96e-08)        | ≤ 1e-05 | 5/5 |
| gradient_gap      | 2.24e-08 (1.49e-08 to 3.73e-08) | ≤ 1e-05 | 5/5 |
| weights_gap       | 4.4e-07 (3.28e-07 to 6.56e-07)  | ≤ 1e-05 | 5/5 |
| solved_learners   | 32 (31 to 32)                   | ≥ 30    | 5/5 |
| solved_at_the_end | 32 (31 to 32)                   | ≥ 30    | 5/5 |
| speed_over_torch  | 6.06 (5.89 to 6.12)             | ≥ 1     | 5/5 |

<!-- /results -->

References: `schulman2017ppo`, `schulman2016gae`, `pardo2018timelimits`, `kingma2015adam`,
`barto1983neuronlike`, `lu2022discovered`.

Symbols: `K` independent learners, `N` parallel environments of each, `T` steps per environment in a rollout,
`B` transitions in a minibatch, `M` minibatches, `D` observation size, `A` actions, `P` weights, `E` epochs.
"""

# %%
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from jaxtyping import Bool, Float, Int, Key

from chapters.envs import make_envs
from chapters.utils import CpuClock, RunLog, UsageError, in_range, plotting, run_lesson

from chapters.utils import seed_everything  # isort: skip

Array = jax.Array | np.ndarray | torch.Tensor  # some functions below use operators only and take all three
Number = Float[jax.Array, ""] | float
RandomKey = Key[jax.Array, ""]
Shapes = list[tuple[int, int, float]]  # of layers: inputs, outputs, gain at the start
SOLVED = 475.0  # the threshold registered for CartPole-v1


# %%
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
    """Environment steps of each learner; learning rate and clip fall to zero over them."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """E: passes over each rollout."""
    minibatch_size: Annotated[int, in_range(2, 1_000_000)] = 256
    """B: transitions per gradient step; must divide T times N."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 5e-3
    """Adam's step size at the start."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one step; 1 never trusts it."""
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
    reuse_key: bool = False
    """The bug: every environment of a learner is handed the same random numbers."""

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

PyTorch runs a program line by line, and each line starts a kernel. With 64 hidden units the kernels are so
small that starting them costs more than computing them. JAX calls the function once with *tracers* in place
of numbers, writes down every operation, and compiles what it wrote. From then on Python is out of the loop.

| in C3 | in JAX | mind |
|---|---|---|
| run it | `jax.jit(f)`: trace, compile, run | no values while tracing: not `if x > 0`, but `jnp.where` |
| `for t in range(T)` | `lax.scan(step, carry, xs)` | a Python loop is compiled T times over |
| written for a batch | written for one, then `jax.vmap(f)` | all branches are computed for all |
| a global random state | an explicit `key` | the same key gives the same numbers |
| `loss.backward()` | `jax.grad(loss)`, a function | must be *pure*: arguments in, results out |
| weights change in place | old weights in, new weights out | all that changes travels in the carry |

So PPO becomes one pure function from a key to weights, made of scans in scans: over updates; in each, over T
steps of the environments, backwards over the same steps for the advantages, and over minibatches. That whole
training runs compile so, learners included, was made popular by PureJaxRL (`lu2022discovered`).

The environment has to be part of it: a `World` is two pure functions of arrays. An episode that ended starts
anew in the same step, and there is no `if` for that: a first observation is made for *every* environment at
*every* step, and `jnp.where` picks. Do not confuse the two that come out: `next_obs` in the transition is the
true successor, whose value a time limit keeps; what the agent acts on next may belong to a new episode.
"""


# %%
class World(NamedTuple):
    """An environment whose observation is its whole state, as pure functions on N copies."""

    reset: Callable  # uniform random numbers [N, D] -> first observations [N, D]
    step: Callable  # observations [N, D] and actions [N] -> (next observations, rewards, terminated)
    time_limit: int
    obs_dim: int
    num_actions: int


def cartpole_reset(uniform: Float[Array, "N 4"]) -> Float[Array, "N 4"]:
    """Everything nearly at rest: between -0.05 and 0.05."""
    return 0.1 * uniform - 0.05


def cartpole_step(
    obs: Float[jax.Array, "N 4"], actions: Int[jax.Array, " N"]
) -> tuple[Float[jax.Array, "N 4"], Float[jax.Array, " N"], Bool[jax.Array, " N"]]:
    """Cart and pole 0.02 s later (barto1983neuronlike, with gymnasium's constants)."""
    _, x_dot, theta, theta_dot = obs.T
    force = jnp.where(actions == 1, 10.0, -10.0)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    push = (force + 0.05 * theta_dot**2 * sin) / 1.1  # in all 1.1 kg; 0.05: the pole's mass times half length
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    x_acc = push - 0.05 * theta_acc * cos / 1.1
    next_obs = obs + 0.02 * jnp.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)
    terminated = (jnp.abs(next_obs[:, 0]) > 2.4) | (jnp.abs(next_obs[:, 2]) > math.radians(12))
    return next_obs, jnp.ones_like(x_dot), terminated


CARTPOLE = World(cartpole_reset, cartpole_step, time_limit=500, obs_dim=4, num_actions=2)


class Transition(NamedTuple):
    """One step of N environments; stacked by a scan, a rollout [T, N, ...]."""

    obs: Float[Array, "*T N D"]
    actions: Int[Array, "*T N"]
    rewards: Float[Array, "*T N"]
    next_obs: Float[Array, "*T N D"]
    terminated: Bool[Array, "*T N"]
    truncated: Bool[Array, "*T N"]


def env_step(
    world: World, obs: Float[jax.Array, "N D"], elapsed: Int[jax.Array, " N"], actions: Int[jax.Array, " N"],
    uniform: Float[jax.Array, "N D"],
) -> tuple[Transition, Float[jax.Array, "N D"], Int[jax.Array, " N"]]:  # fmt: skip
    """(what happened, observations to act on next, steps since their episodes began)."""
    next_obs, rewards, terminated = world.step(obs, actions)
    elapsed = elapsed + 1
    truncated = elapsed >= world.time_limit
    done = terminated | truncated
    transition = Transition(obs, actions, rewards, next_obs, terminated, truncated)
    return transition, jnp.where(done[:, None], world.reset(uniform), next_obs), jnp.where(done, 0, elapsed)


# %% [markdown]
r"""
## 2. Chance is an argument

A key is no generator: asked twice, it gives the same numbers twice. `jax.random.split` makes new keys of one,
and each is used once. Random numbers made inside a scan cost a call per step, so a rollout's are made
beforehand, all at once. What remains is a pure function of them. With one uniform number $u$ an action is
drawn by finding the slice of $[0, 1)$ that $u$ falls into:

$$a = \#\bigl\{b < A - 1 : \textstyle\sum_{c \le b} \pi(c \mid s) \le u\bigr\} \tag{1}$$

The epochs need the rows of a rollout in random order. Sorting random numbers does it, if each carries its
index along: chance in the high bits of an integer, the index in the low ones.
"""


# %%
def sample_actions(logits: Float[jax.Array, "N A"], uniform: Float[jax.Array, " N"]) -> Int[jax.Array, " N"]:
    """One action a row, with the probabilities of the softmax."""
    ends = jnp.cumsum(jax.nn.softmax(logits), axis=1)[:, :-1]  # [N, A - 1] where each slice but the last ends
    return (ends <= uniform[:, None]).sum(axis=1)  # eq. (1)


def shuffles(key: RandomKey, num_epochs: int, size: int) -> Int[jax.Array, "E size"]:
    """For each epoch a random order of `size` rows."""
    num_low = (size - 1).bit_length()  # bits an index needs
    chance = jax.random.bits(key, (num_epochs, size)) >> num_low << num_low
    return (jnp.sort(chance | jnp.arange(size, dtype=chance.dtype)) & (2**num_low - 1)).astype(int)


# %% [markdown]
r"""
## 3. The networks are one vector

C3's actor and critic are twelve arrays. Here they lie end to end in one vector $\theta$, and `networks` cuts
it up. (By `split`, whose gradient is one concatenation; that of a slice is a whole vector, mostly zeros.)
Clipping and Adam become a few lines on one array, with twelve times fewer operations to compile and to
start.
"""


# %%
def layer_shapes(world: World, hidden: int = 64) -> Shapes:
    """The actor's three layers, then the critic's."""
    body = [(world.obs_dim, hidden, math.sqrt(2)), (hidden, hidden, math.sqrt(2))]
    return [*body, (hidden, world.num_actions, 0.01), *body, (hidden, 1, 1.0)]


def networks(theta: Float[Array, " P"], shapes: Shapes) -> tuple[list, list]:
    """(actor, critic), each a list of (weight [inputs, outputs], bias [outputs])."""
    sizes = [size for inputs, outputs, _ in shapes for size in (inputs * outputs, outputs)]
    parts = theta.split(sizes) if isinstance(theta, torch.Tensor) else jnp.split(theta, np.cumsum(sizes)[:-1])
    pairs = zip(parts[::2], parts[1::2])
    layers = [(weight.reshape(shape[:2]), bias) for shape, (weight, bias) in zip(shapes, pairs)]
    return layers[:3], layers[3:]


def orthogonal_start(key: RandomKey, shapes: Shapes) -> Float[jax.Array, " P"]:
    """Orthogonal weights and zero biases; the policy's last layer nearly zero, as in C3."""
    noise = jax.random.normal(key, (sum(inputs * outputs for inputs, outputs, _ in shapes),))
    parts, start = [], 0
    for inputs, outputs, gain in shapes:
        tall = noise[start : start + inputs * outputs].reshape(max(inputs, outputs), min(inputs, outputs))
        q, r = jnp.linalg.qr(tall)
        q = q * jnp.sign(jnp.diagonal(r))  # or the rotations would not be uniformly distributed
        parts += [gain * (q if inputs >= outputs else q.T).ravel(), jnp.zeros(outputs)]
        start += inputs * outputs
    return jnp.concatenate(parts)


def forward(layers: list, obs: Float[Array, "*B D"]) -> Float[Array, "*B out"]:
    """Linear layers with tanh between them; on torch tensors too."""
    tanh = torch.tanh if isinstance(obs, torch.Tensor) else jnp.tanh
    for weight, bias in layers[:-1]:
        obs = tanh(obs @ weight + bias)
    return obs @ layers[-1][0] + layers[-1][1]


def categorical(
    logits: Float[jax.Array, "*B A"], actions: Int[jax.Array, "*B"]
) -> tuple[Float[jax.Array, "*B"], Float[jax.Array, "*B"]]:
    """(log-probability of each action, entropy)."""
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=-1)
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0], entropy


# %% [markdown]
r"""
## 4. Collect: a scan over time

`lax.scan(step, carry, xs)` calls `step(carry, x)` for each slice `x` of `xs`, hands the carry on, and stacks
what the calls put out. The carry is what C3 keeps in variables from step to step: observations and clocks.
The stack is the rollout. The actor does not change meanwhile, so `step` just sees it.
"""


# %%
def random_numbers(key: RandomKey, num_steps: int, width: int, cfg: Config) -> Float[jax.Array, "T N width"]:
    """Uniform numbers, for each environment its own."""
    num_streams = 1 if cfg.reuse_key else cfg.num_envs
    numbers = jax.random.uniform(key, (num_steps, num_streams, width))
    return jnp.broadcast_to(numbers, (num_steps, cfg.num_envs, width))


def rollout(
    world: World, actor: list, obs: Float[jax.Array, "N D"], elapsed: Int[jax.Array, " N"],
    uniform: Float[jax.Array, "T N D+1"],
) -> tuple[Transition, Float[jax.Array, "N D"], Int[jax.Array, " N"]]:  # fmt: skip
    """T steps in each environment: (transitions [T, N, ...], observations to act on next, elapsed)."""

    def step(carry, uniform):
        obs, elapsed = carry
        actions = sample_actions(forward(actor, obs), uniform[:, 0])
        transition, obs, elapsed = env_step(world, obs, elapsed, actions, uniform[:, 1:])
        return (obs, elapsed), transition

    (obs, elapsed), transitions = lax.scan(step, (obs, elapsed), uniform)
    return transitions, obs, elapsed


# %% [markdown]
r"""
## 5. Advantages: a scan backwards

As in C3 (`schulman2016gae`, `pardo2018timelimits`): a time limit keeps the bootstrap, a real end loses it,
and the sum stops at both.

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{2}$$

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{3}$$

(3) runs from the last step to the first. `reverse=True` walks `xs` from its end and puts each output back in
its place. Forget it and nothing fails: the advantages just add up the past instead of the future.
"""


# %%
def gae(
    rewards: Float[jax.Array, "T N"],
    values: Float[jax.Array, "T N"],
    next_values: Float[jax.Array, "T N"],
    terminated: Bool[jax.Array, "T N"],
    truncated: Bool[jax.Array, "T N"],
    gamma: float,
    gae_lambda: float,
) -> Float[jax.Array, "T N"]:
    """Advantages; `next_values[t]` is V of the true successor, also where an episode ended."""
    deltas = rewards + gamma * ~terminated * next_values - values  # eq. (2)
    weights = gamma * gae_lambda * ~(terminated | truncated)

    def step(advantage, row):
        delta, weight = row
        advantage = delta + weight * advantage  # eq. (3)
        return advantage, advantage

    return lax.scan(step, jnp.zeros_like(rewards[0]), (deltas, weights), reverse=True)[1]


def normalise(advantages: Float[jax.Array, "*B"]) -> Float[jax.Array, "*B"]:
    """Mean 0 and standard deviation 1 over all of them."""
    return (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)  # ddof=1: as torch's std


# %% [markdown]
r"""
## 6. Learn: a scan over minibatches

C3's, to the letter (`schulman2017ppo`); $w_t$ is the ratio of new to old probability:

$$L_t = \min\bigl(w_t \hat A_t,\; \mathrm{clip}(w_t,\, 1-\epsilon_\text{clip},\, 1+\epsilon_\text{clip})\,
\hat A_t\bigr) \tag{4}$$

$$\mathcal L = \tfrac1B \textstyle\sum_t \bigl[-L_t + c_v\,(V(s_t) - \hat R_t)^2 - c_e\,\mathcal H_t\bigr],
\qquad \hat R_t = \hat A_t + V_\text{old}(s_t) \tag{5}$$

JAX brings no optimiser. Adam (`kingma2015adam`) divides a running mean of the gradient by the root of a
running mean of its square. Both start at zero and would at first be too small; dividing by what their weights
sum to after $k$ steps makes up for it:

$$m \leftarrow \beta_1 m + (1-\beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2, \qquad
\theta \leftarrow \theta - \alpha\, \frac{m / (1-\beta_1^k)}{\sqrt{v / (1-\beta_2^k)} + 10^{-5}} \tag{6}$$

Before that, the gradient is shortened to a longest norm; and of step size and clip range, update $u$ of $U$
gets the share that is left:

$$g \leftarrow g\, \min\bigl(1,\; g_\text{max} / (\lVert g \rVert + 10^{-6})\bigr), \qquad
\text{left}_u = 1 - u / U, \quad u = 0, \dots, U - 1 \tag{7}$$

In `learn` the minibatches of all epochs are laid out beforehand, in the order of their use; the carry of the
scan over them is weights and moments. `jax.grad(loss)` is what C3 gets from `backward()`.
"""


# %%
def clipped_surrogate(
    ratio: Float[jax.Array, "*B"], advantages: Float[jax.Array, "*B"], clip_eps: Number
) -> Float[jax.Array, "*B"]:
    """PPO's objective of each transition, to be raised."""
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return jnp.minimum(ratio * advantages, clipped * advantages)  # eq. (4)


def ppo_loss(
    objective: Float[jax.Array, " B"], values: Float[jax.Array, " B"], returns: Float[jax.Array, " B"],
    entropy: Float[jax.Array, " B"], vf_coef: float, ent_coef: float,
) -> Float[jax.Array, ""]:  # fmt: skip
    """What the optimiser lowers."""
    critic_loss = ((values - returns) ** 2).mean()
    return -objective.mean() + vf_coef * critic_loss - ent_coef * entropy.mean()  # eq. (5)


class Moments(NamedTuple):  # what Adam remembers
    mean: Float[Array, " P"]
    square: Float[Array, " P"]


def adam_step(
    theta: Float[jax.Array, " P"], gradient: Float[jax.Array, " P"], moments: Moments,
    k: Int[Array, ""] | int, learning_rate: Number,
) -> tuple[Float[jax.Array, " P"], Moments]:  # fmt: skip
    """(new weights, new moments) of gradient step k = 1, 2, ...; nothing is changed in place."""
    mean = 0.9 * moments.mean + 0.1 * gradient
    square = 0.999 * moments.square + 0.001 * gradient**2
    change = mean / (1 - 0.9**k) / (jnp.sqrt(square / (1 - 0.999**k)) + 1e-5)
    return theta - learning_rate * change, Moments(mean, square)  # eq. (6)


def clip_norm(gradient: Float[jax.Array, " P"], max_grad_norm: float) -> Float[jax.Array, " P"]:
    """The gradient, no longer than `max_grad_norm`."""
    norm = jnp.sqrt((gradient**2).sum())
    return gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))  # eq. (7), left


def share_left(index: Int[Array, ""] | int, num_updates: int) -> Number:
    """What is left of step size and clip range at update `index`."""
    return 1.0 - index / num_updates  # eq. (7), right


class Batch(NamedTuple):
    """What the epochs learn from, a row per transition; constant, whatever the weights do next."""

    obs: Float[Array, "*B D"]
    actions: Int[Array, "*B"]
    old_log_probs: Float[Array, "*B"]
    advantages: Float[Array, "*B"]
    returns: Float[Array, "*B"]


def prepare(theta: Float[jax.Array, " P"], data: Transition, cfg: Config, shapes: Shapes) -> Batch:
    """A rollout [T, N, ...] as rows [T * N, ...] with advantages, targets and old log-probabilities."""
    actor, critic = networks(theta, shapes)
    values, next_values = forward(critic, data.obs)[..., 0], forward(critic, data.next_obs)[..., 0]  # [T, N]
    ends = data.terminated, data.truncated
    advantages = gae(data.rewards, values, next_values, *ends, cfg.gamma, cfg.gae_lambda)
    log_probs, _ = categorical(forward(actor, data.obs), data.actions)
    batch = Batch(data.obs, data.actions, log_probs, advantages, advantages + values)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def loss(theta: Float[jax.Array, " P"], mini: Batch, clip_eps: Number, cfg: Config, shapes: Shapes) -> Number:
    """PPO's loss of one minibatch, as a function of the weights."""
    actor, critic = networks(theta, shapes)
    log_probs, entropy = categorical(forward(actor, mini.obs), mini.actions)
    ratio = jnp.exp(log_probs - mini.old_log_probs)
    objective = clipped_surrogate(ratio, normalise(mini.advantages), clip_eps)
    values = forward(critic, mini.obs)[:, 0]
    return ppo_loss(objective, values, mini.returns, entropy, cfg.vf_coef, cfg.ent_coef)


def learn(
    theta: Float[jax.Array, " P"], moments: Moments, batch: Batch, order: Int[jax.Array, "M B"],
    index: Int[Array, ""] | int, cfg: Config, shapes: Shapes,
) -> tuple[Float[jax.Array, " P"], Moments]:  # fmt: skip
    """Update `index`: one gradient step on each of M minibatches; `order` holds the rows of each."""
    left = share_left(index, cfg.num_updates)

    def step(carry, x):
        (theta, moments), (k, mini) = carry, x
        gradient = clip_norm(jax.grad(loss)(theta, mini, cfg.clip_eps * left, cfg, shapes), cfg.max_grad_norm)
        return adam_step(theta, gradient, moments, k, cfg.learning_rate * left), None

    k = index * len(order) + 1 + jnp.arange(len(order))  # Adam counts from 1, through all updates
    minis = jax.tree.map(lambda x: x[order], batch)  # [M, B, ...]
    return lax.scan(step, (theta, moments), (k, minis))[0]


# %% [markdown]
r"""
## 7. One learner, then many

`train` says what one learner does. `jax.vmap(train)` adds an axis to every array inside it, and 32 keys go in
where one went in before.
"""


# %%
class Learner(NamedTuple):
    """What one update hands to the next."""

    theta: Float[Array, " P"]
    moments: Moments
    obs: Float[Array, "N D"]
    elapsed: Int[Array, " N"]


def update(learner: Learner, key: RandomKey, index: Int[Array, ""], cfg: Config, world: World) -> Learner:
    """One rollout, and what is learned from it."""
    shapes, (key_rollout, key_order) = layer_shapes(world), jax.random.split(key)
    uniform = random_numbers(key_rollout, cfg.num_steps, 1 + world.obs_dim, cfg)
    actor, _ = networks(learner.theta, shapes)
    data, obs, elapsed = rollout(world, actor, learner.obs, learner.elapsed, uniform)
    batch = prepare(learner.theta, data, cfg, shapes)
    order = shuffles(key_order, cfg.num_epochs, len(batch.obs)).reshape(-1, cfg.minibatch_size)
    theta, moments = learn(learner.theta, learner.moments, batch, order, index, cfg, shapes)
    return Learner(theta, moments, obs, elapsed)


def greedy_return(world: World, actor: list, key: RandomKey, num_episodes: int) -> Float[jax.Array, ""]:
    """Mean undiscounted return of whole episodes with the likeliest action."""

    def step(carry, _):  # all run to the time limit; what comes after an end does not count
        obs, alive, total = carry
        obs, rewards, terminated = world.step(obs, forward(actor, obs).argmax(axis=1))
        return (obs, alive & ~terminated, total + rewards * alive), None

    obs = world.reset(jax.random.uniform(key, (num_episodes, world.obs_dim)))
    start = (obs, jnp.ones(num_episodes, dtype=bool), jnp.zeros(num_episodes))
    return lax.scan(step, start, length=world.time_limit)[0][2].mean()


def train(
    key: RandomKey, evaluate: Bool[Array, ""] | bool, cfg: Config, world: World = CARTPOLE
) -> tuple[Float[jax.Array, " P"], Float[jax.Array, " checks"]]:
    """(weights after all steps, greedy return at every check or NaN): PPO from a key to a policy."""
    shapes, num_checks = layer_shapes(world), cfg.num_env_steps // cfg.eval_every
    keys = jax.random.split(key, 2 + num_checks + cfg.num_updates)  # one for each use

    def one_update(learner, x):
        return update(learner, *x, cfg, world), None

    def until_check(learner, x):
        key_check, updates = x
        learner, _ = lax.scan(one_update, learner, updates)
        actor, _ = networks(learner.theta, shapes)
        score = partial(greedy_return, world, actor, key_check, cfg.num_eval_episodes)
        return learner, lax.cond(evaluate, score, lambda: jnp.nan)

    theta = orthogonal_start(keys[0], shapes)
    obs = world.reset(random_numbers(keys[1], 1, world.obs_dim, cfg)[0])
    moments = Moments(jnp.zeros_like(theta), jnp.zeros_like(theta))
    learner = Learner(theta, moments, obs, jnp.zeros(cfg.num_envs, dtype=int))
    updates = keys[2 + num_checks :], jnp.arange(cfg.num_updates)
    updates = jax.tree.map(lambda x: x.reshape(num_checks, -1), updates)  # [checks, updates between them]
    learner, scores = lax.scan(until_check, learner, (keys[2 : 2 + num_checks], updates))
    return learner.theta, scores


# %% [markdown]
r"""
## 8. Run, look, break

**Look** at `C4.png`. Left, learners that differ in nothing but their key. Some reach the threshold far sooner
than others, some dip again; with step size and clip range gone to zero they stand. One such curve proves
little. Right, where the time goes. Compiling takes longer than a PyTorch learner takes to learn: for one
short run PyTorch is done first. Once compiled, learning costs a fraction, because nothing stands between the
kernels any more. `vmap` itself gains little: it fills the lanes of a GPU, but one learner keeps a core busy.

Compiling costs by the number of operations in the program, however often they run. Hence one vector for all
weights, one draw of random numbers for a rollout, and scans. The same against rejax, a library of this build,
is in the [benchmark](../../benchmarks/rejax_ppo/README.md).

**Break it.** Run with `--reuse-key`: all environments of a learner get the same random numbers. They start
alike, draw alike and fall alike, 16 copies of one. No shape is wrong and nothing fails; but a rollout holds a
sixteenth of what it seems to hold, and with seed 0 two learners in three never hold the pole up. No global
generator could do that to you. In JAX it is the first thing to look for: use each key once, or split it.

**Exercises.** (1) Delete `reverse=True` in `gae` and run. Which claim notices, and would the curves have told
you? (2) Skip the updates of a learner that is solved, by `lax.cond`. Why does that save nothing under `vmap`?

<details><summary>Answers</summary>

(1) `advantages_gap`, at once. The curves say that something is wrong, not what: every learner falls at once.
(2) Under `vmap` the predicate differs between learners: both branches run for all, and a `where` picks.

</details>
"""


# %%
def check_sizes(cfg: Config) -> None:  # shapes are compiled in: what does not divide is refused
    for name, size, part in (
        ("--num-envs times --num-steps", cfg.batch_size, cfg.minibatch_size),
        ("--eval-every", cfg.eval_every, cfg.batch_size),
        ("--num-env-steps", cfg.num_env_steps, cfg.eval_every),
    ):
        if size % part:
            raise UsageError(f"{name} is {size}, which must be a multiple of {part}")


def torch_gae(rewards, values, next_values, terminated, truncated, gamma: float, gae_lambda: float):
    """Equations (2) and (3) in a loop, as C3 has them; all [T, N] tensors."""
    deltas = rewards + gamma * next_values * ~terminated - values
    advantages, running = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * ~terminated[t] * ~truncated[t]
        advantages[t] = running
    return advantages


def torch_loss(theta: torch.Tensor, mini: Batch, cfg: Config, shapes: Shapes) -> torch.Tensor:
    """Equations (4) and (5)."""
    actor, critic = networks(theta, shapes)
    log_probs = forward(actor, mini.obs).log_softmax(dim=1)
    ratio = (log_probs.gather(1, mini.actions.unsqueeze(1)).squeeze(1) - mini.old_log_probs).exp()
    advantages = (mini.advantages - mini.advantages.mean()) / (mini.advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - cfg.clip_eps, 1 + cfg.clip_eps)
    objective = torch.min(ratio * advantages, clipped * advantages).mean()
    critic_loss = (forward(critic, mini.obs).squeeze(1) - mini.returns).pow(2).mean()
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    return -objective + cfg.vf_coef * critic_loss - cfg.ent_coef * entropy


def torch_learn(theta: torch.Tensor, optimizer, batch: Batch, order, cfg: Config, shapes: Shapes) -> None:
    """What `learn` does, in place."""
    for rows in order:
        optimizer.zero_grad()
        torch_loss(theta, Batch(*(x[rows] for x in batch)), cfg, shapes).backward()
        torch.nn.utils.clip_grad_norm_([theta], cfg.max_grad_norm)
        optimizer.step()


def random_case(cfg: Config) -> tuple[Shapes, list, Float[np.ndarray, " P"], Batch]:
    """(layer shapes, series [T, N] for `gae`, weights, a batch of T * N transitions), at random."""
    rng, shapes, size = np.random.default_rng(cfg.seed), layer_shapes(CARTPOLE), cfg.batch_size
    normal, T_N = partial(rng.standard_normal, dtype=np.float32), (cfg.num_steps, cfg.num_envs)
    log_probs = 0.3 * normal(size) - math.log(2)  # ratios within the clip range and beyond
    batch = Batch(normal((size, 4)), rng.integers(2, size=size), log_probs, normal(size), normal(size))
    theta = normal(sum((inputs + 1) * outputs for inputs, outputs, _ in shapes)) / 8
    return shapes, [*normal((3, *T_N)), *(rng.random((2, *T_N)) < 0.1)], theta, batch


def parity(cfg: Config, log: RunLog) -> None:
    """Claims that hold in any run: advantages, loss, gradient and weights, here and in PyTorch."""
    shapes, series, theta, batch = random_case(cfg)
    order = np.random.default_rng(cfg.seed).permutation(cfg.batch_size).reshape(-1, cfg.minibatch_size)
    moments, rest = Moments(0 * theta, 0 * theta), {"cfg": cfg, "shapes": shapes}
    our_loss = jax.jit(jax.value_and_grad(partial(loss, clip_eps=cfg.clip_eps, **rest)))
    our_value, our_gradient = our_loss(theta, batch)
    our_theta, _ = jax.jit(partial(learn, index=0, **rest))(theta, moments, batch, order)
    our_advantages = jax.jit(partial(gae, gamma=cfg.gamma, gae_lambda=cfg.gae_lambda))(*series)

    rows, weights = Batch(*map(torch.from_numpy, batch)), torch.nn.Parameter(torch.tensor(theta))
    value = torch_loss(weights, rows, **rest)
    (gradient,) = torch.autograd.grad(value, weights)
    torch_learn(weights, torch.optim.Adam([weights], cfg.learning_rate, eps=1e-5), rows, order, **rest)
    advantages = torch_gae(*map(torch.from_numpy, series), cfg.gamma, cfg.gae_lambda)
    for name, statement, ours, theirs in (
        ("advantages", "advantages are those of a loop in PyTorch", our_advantages, advantages),
        ("loss", "the loss of a batch is PyTorch's", our_value, value),
        ("gradient", "its gradient in every weight is autograd's", our_gradient, gradient),
        ("weights", "an epoch of our Adam ends where PyTorch's does", our_theta, weights),
    ):
        gap = np.abs(ours - theirs.detach().numpy()).max()
        log.claim(f"{name}_gap", statement, gap, at_most=1e-5, unit="largest difference",
                  source="two implementations, 32 bits", always=True)  # fmt: skip


def sustained(scores: Float[np.ndarray, "K checks"], threshold: float) -> Int[np.ndarray, " K"]:
    """For each learner, which check is the third in a row at the threshold; -1 if none is."""
    solved = np.pad(scores >= threshold, ((0, 0), (2, 0)))
    third = solved[:, 2:] & solved[:, 1:-1] & solved[:, :-2]  # [K, checks]
    return np.where(third.any(axis=1), third.argmax(axis=1), -1)


def claim_solved(scores: Float[np.ndarray, "K checks"], cfg: Config, log: RunLog) -> None:
    """What the learners reached, and whether it lasted."""
    third = sustained(scores, SOLVED)
    held, at_the_end = (third >= 0).sum(), (scores[:, -1] >= SOLVED).sum()
    for check, row in enumerate(scores.T):
        share = ((third >= 0) & (third <= check)).mean()
        log.write((check + 1) * cfg.eval_every, median_return=np.median(row), sustained_share=share)
    steps = np.where(third >= 0, (third + 1) * cfg.eval_every, np.inf)
    later = [(scores[k, third[k] :] >= SOLVED).mean() for k in np.flatnonzero(third >= 0)] or [0.0]
    log.write(cfg.num_env_steps, steps_to_sustained=np.median(steps), later_checks_solved=np.mean(later))
    bound = {"at_least": 30 / 32 * len(scores), "unit": f"of {len(scores)}", "source": "registered: 475"}
    log.claim("solved_learners", "learners that hold the pole up in three checks in a row", held, **bound)
    log.claim("solved_at_the_end", "and it lasts: those that do at the last check", at_the_end, **bound)


def torch_seconds(cfg: Config, num_timed: int) -> float:
    """CPU seconds of a PyTorch learner in C3's way, NumPy acting; from updates on random data."""
    shapes, series, theta, batch = random_case(cfg)
    w1, b1, w2, b2, w3, b3 = (np.asarray(x) for pair in networks(theta, shapes)[0] for x in pair)
    series, batch = [torch.from_numpy(x) for x in series], Batch(*map(torch.from_numpy, batch))
    weights, envs = torch.nn.Parameter(torch.from_numpy(theta)), make_envs("CartPole-v1", cfg.num_envs)
    optimizer, clock = torch.optim.Adam([weights], cfg.learning_rate, eps=1e-5, fused=True), CpuClock()
    rng, (obs, _) = np.random.default_rng(cfg.seed), envs.reset(seed=cfg.seed)
    with clock:
        for _ in range(num_timed * cfg.num_steps):
            logits = np.tanh(np.tanh(obs @ w1 + b1) @ w2 + b2) @ w3 + b3  # [N, A]
            obs, *_ = envs.step((logits + rng.gumbel(size=logits.shape)).argmax(axis=1))
        for _ in range(num_timed):
            torch_gae(*series, cfg.gamma, cfg.gae_lambda)
            order = torch.cat([torch.randperm(cfg.batch_size) for _ in range(cfg.num_epochs)])
            torch_learn(weights, optimizer, batch, order.split(cfg.minibatch_size), cfg, shapes)
    return clock.seconds / num_timed * cfg.num_env_steps / cfg.batch_size


def draw(scores: Float[np.ndarray, "K checks"], bars: dict[str, tuple], cfg: Config, log: RunLog) -> None:
    figure, (left, right) = plotting.new_figure(1, 2)
    steps = np.arange(1, scores.shape[1] + 1) * cfg.eval_every / 1000
    left.plot(steps, scores.T, color=plotting.BLUE, alpha=0.2, linewidth=1)
    plotting.seed_band(left, steps, scores, "learners")
    left.axhline(SOLVED, label=f"solved, {SOLVED:g}", **plotting.REFERENCE)
    left.set(xlabel="environment steps of each learner (thousands)", ylabel="mean return of greedy episodes")
    left.set(ylim=(0, 520), title=f"{len(scores)} learners in one call")
    left.legend(loc="lower right")
    for row, (who, (compiling, learning)) in enumerate(bars.items()):
        right.barh(who, compiling, color=plotting.ORANGE, label="" if row else "compiling")
        right.barh(who, learning, left=compiling, color=plotting.BLUE, label="" if row else "learning")
        right.text(compiling + learning, row, f" {compiling + learning:.1f} s", va="center")
    right.invert_yaxis()
    right.margins(x=0.15)
    right.grid(axis="y", visible=False)
    right.set(xlabel="CPU seconds, without evaluation", title=f"{cfg.num_env_steps:,} steps of each learner")
    right.legend(loc="lower right")
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    check_sizes(cfg)
    seed_everything(cfg.seed)
    parity(cfg, log)
    keys = jax.random.split(jax.random.key(cfg.seed), cfg.num_learners)
    compiling, learning = CpuClock(), CpuClock()
    with compiling:  # `jax.jit` alone would compile in the first call; taken apart, each can be timed
        options = {"xla_backend_optimization_level": "0"} if log.smoke else {}
        many = jax.vmap(partial(train, cfg=cfg), in_axes=(0, None))
        program = jax.jit(many, compiler_options=options).lower(keys, True).compile()
    scores = np.asarray(program(keys, True)[1])  # [K, checks]
    claim_solved(scores, cfg, log)
    with learning:  # once more, without evaluations
        jax.block_until_ready(program(keys, False))

    one = torch_seconds(cfg, num_timed=1 if log.smoke else 12)
    alone, num_all = cfg.num_learners * one, cfg.num_learners * cfg.num_env_steps
    rates = {"jax_steps_per_second": num_all / learning.seconds, "torch_steps_per_second": num_all / alone}
    log.write(cfg.num_env_steps, compile_seconds=compiling.seconds, **rates)
    log.claim("speed_over_torch", "once compiled, all learners together against one by one in PyTorch",
              alone / learning.seconds, at_least=1.0, unit="times", source="even", timed=True)  # fmt: skip
    who = f"{cfg.num_learners} learners,\n"
    bars = {f"{who}JAX": (compiling.seconds, learning.seconds), f"{who}PyTorch,\none by one": (0.0, alone)}
    draw(scores, bars | {"1 learner,\nPyTorch": (0.0, one)}, cfg, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
