"""Definition checks of C4: each function against its equation in NumPy and Python loops, or a library.

What C4 shares with others, its world, networks and optimiser, is checked in tests/test_jax_learners.py.
"""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch

from chapters.envs.jax_networks import Moments, layer_shapes, networks
from chapters.envs.jax_worlds import CARTPOLE, Batch, Transition, World
from chapters.utils.edits import Edit
from chapters.utils.optim import Adam

SHAPES = ((1, 1), (12, 4))  # (T, N): two, since every operation is compiled for each


def module_of(function):
    """The module a function comes from: the lesson, or a copy of it that is edited."""
    return sys.modules[function.__module__]


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def can_be_compiled(function, *arrays):
    """Refuse a function that asks for values: while JAX traces it, arrays have only a shape."""
    try:
        jax.eval_shape(inspect.unwrap(function), *arrays)
    except jax.errors.JAXTypeError:
        raise AssertionError("cannot be compiled: while it is traced, arrays have no values") from None


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_config(lesson, **changes):
    sizes = {"num_envs": 3, "num_steps": 5, "minibatch_size": 5, "num_epochs": 2}
    return lesson.Config(**{**sizes, **changes})


def counting_world():
    """State (place, 7): each step adds 1 + action to the place; the end is at 4 or beyond."""

    def step(obs, actions):
        place = obs[:, 0] + 1 + actions
        return jnp.stack([place, obs[:, 1]], axis=1), 10 * place, place >= 4

    return World(lambda u: jnp.stack([-u[:, 0], 7 + 0 * u[:, 1]], axis=1), step, 3, 2, 2)


def start(hidden=6, seed=0):
    """(shapes, weights of which every one matters) for CartPole."""
    shapes = layer_shapes(CARTPOLE, hidden)
    return shapes, jnp.asarray(normal(seed, sum((i + 1) * o for i, o, _ in shapes)))


def run_layers(layers, obs):
    for weight, bias in layers[:-1]:
        obs = np.tanh(obs @ np.asarray(weight) + np.asarray(bias))
    return obs @ np.asarray(layers[-1][0]) + np.asarray(layers[-1][1])


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def gae_by_hand(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    """The double sum: every weighted error up to the episode's end, written out."""
    T, N = rewards.shape
    advantages = np.zeros((T, N))
    for t, i in np.ndindex(T, N):
        for k in range(t, T):
            rest = 0.0 if terminated[k, i] else gamma * next_values[k, i]
            advantages[t, i] += (gamma * gae_lambda) ** (k - t) * (rewards[k, i] + rest - values[k, i])
            if terminated[k, i] or truncated[k, i]:
                break
    return advantages


def check_sample_actions(sample_actions):
    for seed, num_actions in ((0, 2), (2, 5)):
        logits = normal(seed, num_actions)
        uniform = (np.arange(10_000) + 0.5) / 10_000  # an even grid: shares are then exact
        rows = jnp.asarray(np.tile(logits, (10_000, 1)))
        actions = sample_actions(rows, jnp.asarray(uniform, dtype=jnp.float32))
        share = np.bincount(np.asarray(actions), minlength=num_actions) / 10_000
        close(share, np.exp(log_softmax(logits)), 3e-4)
    rows = jnp.array([[0.0, 9.0], [9.0, 0.0]])  # each row has its own probabilities
    assert sample_actions(rows, jnp.array([0.5, 0.5])).tolist() == [1, 0]
    can_be_compiled(sample_actions, rows, jnp.array([0.5, 0.5]))


def check_rollout(rollout):
    """Step by step in Python, from the same numbers."""
    world = counting_world()
    actor = [
        (normal(0, 2, 6), normal(1, 6)),
        (normal(2, 6, 6), normal(3, 6)),
        (normal(4, 6, 2), normal(5, 2)),
    ]
    uniform = np.random.default_rng(6).random((9, 3, 3)).astype(np.float32)
    obs, elapsed = np.array([[0.0, 7.0], [-0.5, 7.0], [2.0, 7.0]]), np.array([0, 1, 2])
    data, last_obs, last_elapsed = rollout(
        world, actor, jnp.asarray(obs, dtype=jnp.float32), jnp.asarray(elapsed), jnp.asarray(uniform)
    )
    data = Transition(*map(np.asarray, data))  # each index into one of JAX's is slow
    for t in range(9):
        for i in range(3):
            p = np.exp(log_softmax(run_layers(actor, obs[i])))
            action = int(uniform[t, i, 0] >= p[0])
            close(data.obs[t, i], obs[i])
            assert data.actions[t, i] == action
            place = obs[i, 0] + 1 + action
            close(data.next_obs[t, i], [place, 7.0])
            close(data.rewards[t, i], 10 * place)
            elapsed[i] += 1
            assert bool(data.terminated[t, i]) == (place >= 4)
            assert bool(data.truncated[t, i]) == (elapsed[i] >= 3)
            obs[i, 0] = place
            if place >= 4 or elapsed[i] >= 3:
                obs[i, 0], elapsed[i] = -uniform[t, i, 1], 0
    close(last_obs, obs)
    assert last_elapsed.tolist() == elapsed.tolist()


def check_gae(gae):
    for seed, (T, N) in enumerate(SHAPES):
        for terminates, cuts in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.2)):
            rng = np.random.default_rng(seed)
            rewards, values, next_values = normal(seed, 3, T, N)
            terminated, truncated = rng.random((T, N)) < terminates, rng.random((T, N)) < cuts
            found = gae(*map(jnp.asarray, (rewards, values, next_values, terminated, truncated)), 0.9, 0.8)
            close(found, gae_by_hand(rewards, values, next_values, terminated, truncated, 0.9, 0.8))
    given = map(jnp.asarray, (rewards, values, next_values, terminated, truncated))
    can_be_compiled(lambda *arrays: inspect.unwrap(gae)(*arrays, 0.9, 0.8), *given)


def some_rollout(seed=0, T=5, N=3):
    """Random transitions in which rows, ends and successors have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    parts = (
        normal(seed, T, N, 4),
        rng.integers(2, size=(T, N)),
        normal(seed + 1, T, N),
        normal(seed + 2, T, N, 4),
    )
    return Transition(*map(jnp.asarray, (*parts, rng.random((T, N)) < 0.2, rng.random((T, N)) < 0.2)))


def check_prepare(prepare):
    lesson = module_of(prepare)
    cfg, (shapes, theta), data = (
        small_config(lesson, gamma=0.9, gae_lambda=0.7),
        start(),
        some_rollout(),
    )
    batch = Batch(*map(np.asarray, prepare(theta, data, cfg, shapes)))
    data = Transition(*map(np.asarray, data))
    actor, critic = networks(theta, shapes)
    values, next_values = (run_layers(critic, x)[..., 0] for x in (data.obs, data.next_obs))
    advantages = gae_by_hand(
        data.rewards, values, next_values, data.terminated, data.truncated, cfg.gamma, cfg.gae_lambda
    )
    log_probs = log_softmax(run_layers(actor, data.obs))
    for t, i in np.ndindex(5, 3):
        row = 3 * t + i
        close(batch.obs[row], data.obs[t, i])
        assert batch.actions[row] == data.actions[t, i]
        close(batch.old_log_probs[row], log_probs[t, i, int(data.actions[t, i])], 1e-4)
        close(batch.advantages[row], advantages[t, i], 1e-4)
        close(batch.returns[row], advantages[t, i] + values[t, i], 1e-4)
    assert len(batch.obs) == 15


def some_batch(size=20, seed=3):
    rng = np.random.default_rng(seed)
    old_log_probs, advantages, returns = normal(seed, 3, size)
    parts = (
        normal(seed + 1, size, 4),
        rng.integers(2, size=size),
        0.3 * old_log_probs - 0.7,
        advantages,
        returns,
    )
    return Batch(*map(jnp.asarray, parts))


def loss_by_hand(theta, mini, clip_eps, cfg, shapes):
    """PPO's loss in torch, for autograd to differentiate."""
    layers, at = [], 0
    for inputs, outputs, _ in shapes:
        weight, at = theta[at : at + inputs * outputs].reshape(inputs, outputs), at + inputs * outputs
        layers.append((weight, theta[at : at + outputs]))
        at += outputs

    def run(three, obs):
        hidden = torch.tanh(torch.tanh(obs @ three[0][0] + three[0][1]) @ three[1][0] + three[1][1])
        return hidden @ three[2][0] + three[2][1]

    obs, actions, old, advantages, returns = (torch.tensor(np.asarray(part)) for part in mini)
    policy = torch.distributions.Categorical(logits=run(layers[:3], obs))
    ratio = torch.exp(policy.log_prob(actions) - old)
    scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    best = torch.where(scaled > 0, ratio.clamp(max=1 + clip_eps), ratio.clamp(min=1 - clip_eps)) * scaled
    error = (run(layers[3:], obs)[:, 0] - returns).square().mean()
    return -best.mean() + cfg.vf_coef * error - cfg.ent_coef * policy.entropy().mean()


def check_loss(loss):
    """Value, and gradient in every weight, against autograd's."""
    lesson = module_of(loss)
    cfg, (shapes, theta), mini = (
        small_config(lesson, vf_coef=0.7, ent_coef=0.3),
        start(),
        some_batch(),
    )
    theirs = torch.tensor(np.asarray(theta), requires_grad=True)
    value = loss_by_hand(theirs, mini, 0.2, cfg, shapes)
    value.backward()
    close(loss(theta, mini, 0.2, cfg, shapes), value.item())
    slope = jax.jit(jax.grad(lambda theta: inspect.unwrap(loss)(theta, mini, 0.2, cfg, shapes)))
    close(slope(theta), theirs.grad.numpy())
    without = loss(theta, mini._replace(advantages=jnp.zeros(len(mini.advantages))), 0.2, cfg, shapes)
    assert jnp.isfinite(without), "equal advantages must not divide by zero"
    for constant in (0.3, 0.9, 123456.789):
        alike = mini._replace(advantages=jnp.full(len(mini.advantages), constant))
        close(loss(theta, alike, 0.2, cfg, shapes), without)  # of equal ones only rounding would be left


def check_learn(learn):
    """Two updates of a few minibatches, the second with half the step size and clip, against torch's Adam."""
    lesson = module_of(learn)
    changes = {"num_env_steps": 30, "max_grad_norm": 0.3, "clip_eps": 0.2, "learning_rate": 0.02}
    cfg, (shapes, theta) = small_config(lesson, **changes), start()
    theta /= 4  # ratios near the edges of the clip range
    ours, moments = theta, Moments(jnp.zeros_like(theta), jnp.zeros_like(theta))
    theirs = torch.nn.Parameter(torch.tensor(np.asarray(theta)))
    optimizer = Adam([theirs], lr=1.0, eps=1e-5)  # torch's to the bit (tests/test_optim.py)
    for index, left in ((0, 1.0), (1, 0.5)):
        batch, order = some_batch(120), np.random.default_rng(index).permutation(120).reshape(4, 30)
        ours, moments = learn(ours, moments, batch, jnp.asarray(order), index, cfg, shapes)
        optimizer.lr = 0.02 * left
        for rows in order:
            optimizer.zero_grad()
            mini = Batch(*(np.asarray(part)[rows] for part in batch))
            loss_by_hand(theirs, mini, 0.2 * left, cfg, shapes).backward()
            torch.nn.utils.clip_grad_norm_([theirs], 0.3)
            optimizer.step()
        close(ours, theirs.detach().numpy(), 1e-4)


EDITS = {
    "slices_reversed": Edit(
        function="sample_actions",
        old="(ends <= uniform[:, None])",
        new="(ends > uniform[:, None])",
        says="counts the slices above the number: the first action's chance becomes the last one's",
    ),
    "sums_over_the_batch": Edit(
        function="sample_actions",
        old="jnp.cumsum(jax.nn.softmax(logits), axis=1)",
        new="jnp.cumsum(jax.nn.softmax(logits), axis=0)",
        says="adds up probabilities over environments, not over actions",
    ),
    "one_number_for_all": Edit(
        function="sample_actions",
        old="ends <= uniform[:, None]",
        new="ends <= uniform[0]",
        says="draws the actions of all environments with the first one's number",
    ),
    "same_chance_twice": Edit(
        function="rollout",
        old="actions, uniform[:, 1:])",
        new="actions, uniform[:, :-1])",
        says="starts new episodes with the number that drew the action",
    ),
    "observations_stand_still": Edit(
        function="rollout",
        old="        transition, obs, elapsed = env_step(",
        new="        transition, _, elapsed = env_step(",
        says="leaves the observations out of the carry: every step begins at the first one",
    ),
    "backwards": Edit(
        function="rollout",
        old="lax.scan(step, (obs, elapsed), uniform)",
        new="lax.scan(step, (obs, elapsed), uniform, reverse=True)",
        says="walks through time backwards",
    ),
    "not_reversed": Edit(
        function="gae",
        old="(deltas, weights), reverse=True)",
        new="(deltas, weights))",
        says="scans forwards: advantages add up the past",
        fails=("solved_at_the_end",),
    ),
    "past_the_end": Edit(
        function="gae",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "merged": Edit(
        function="gae",
        old="gamma * ~terminated * next",
        new="gamma * ~(terminated | truncated) * next",
        says="takes a time limit for an end: the state that it cuts is worth nothing",
    ),
    "sum_past_a_limit": Edit(
        function="gae",
        old="gae_lambda * ~(terminated | truncated)",
        new="gae_lambda * ~terminated",
        says="sums through a time limit into the next episode",
    ),
    "sum_past_an_end": Edit(
        function="gae",
        old="gae_lambda * ~(terminated | truncated)",
        new="gae_lambda * ~truncated",
        says="sums through a terminal state into the next episode",
    ),
    "no_gamma": Edit(
        function="gae",
        old="weights = gamma * gae_lambda *",
        new="weights = gae_lambda *",
        says="leaves gamma out of the sum",
    ),
    "no_lambda": Edit(
        function="gae",
        old="weights = gamma * gae_lambda *",
        new="weights = gamma *",
        says="leaves lambda out of the sum",
    ),
    "value_added": Edit(
        function="gae",
        old="* next_values - values",
        new="* next_values + values",
        says="adds the value that should be subtracted",
    ),
    "merged_before": Edit(
        function="prepare",
        old="ends = data.terminated, data.truncated",
        new="ends = data.terminated | data.truncated, data.truncated",
        says="merges time limits with ends before the advantages see them",
    ),
    "swapped_masks": Edit(
        function="prepare",
        old="ends = data.terminated, data.truncated",
        new="ends = data.truncated, data.terminated",
        says="swaps terminated and truncated",
    ),
    "successor_is_the_state": Edit(
        function="prepare",
        old="forward(critic, data.next_obs)[..., 0]",
        new="forward(critic, data.obs)[..., 0]",
        says="takes the state's own value for its successor's",
    ),
    "target_without_value": Edit(
        function="prepare",
        old="log_probs, advantages, advantages + values)",
        new="log_probs, advantages, advantages)",
        says="the critic's target is the advantage: the value is missing",
    ),
    "transposed": Edit(
        function="prepare",
        old="x.reshape(-1, *x.shape[2:])",
        new="(x.T if x.ndim == 2 else x).reshape(-1, *x.shape[2:])",
        says="flattens numbers in another order than observations",
    ),
    "ratio_upside_down": Edit(
        function="loss",
        old="jnp.exp(log_probs - mini.old_log_probs)",
        new="jnp.exp(mini.old_log_probs - log_probs)",
        says="old over new probability: good actions become less likely",
    ),
    "raw_advantages": Edit(
        function="loss",
        old="advantages = (mini.advantages - mini.advantages.mean()) / spread",
        new="advantages = mini.advantages",
        says="uses the advantages as they are",
    ),
    "mean_stays": Edit(
        function="loss",
        old="(mini.advantages - mini.advantages.mean()) / spread",
        new="mini.advantages / spread",
        says="divides by the deviation and leaves the mean",
    ),
    "population_deviation": Edit(
        function="loss",
        old="mini.advantages.std(ddof=1)",
        new="mini.advantages.std()",
        says="divides by n, where torch divides by n - 1",
    ),
    "unguarded": Edit(
        function="loss",
        old="mini.advantages.std(ddof=1) + 1e-8",
        new="mini.advantages.std(ddof=1)",
        says="divides by zero when all advantages are alike",
    ),
    "advantages_negated": Edit(
        function="loss",
        old="advantages = (mini.advantages - mini.advantages.mean())",
        new="advantages = -(mini.advantages - mini.advantages.mean())",
        says="what went well becomes less likely",
        fails=("solved_at_the_end",),
    ),
    "no_gradient_through_the_ratio": Edit(
        function="loss",
        old="ratio = jnp.exp(log_probs -",
        new="ratio = jnp.exp(lax.stop_gradient(log_probs) -",
        says="stops the gradient at the ratio: the policy never moves",
        fails=("solved_at_the_end",),
    ),
    "no_min": Edit(
        function="loss",
        old="jnp.minimum(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="a clip alone: nothing pulls a bad action back",
    ),
    "no_clip": Edit(
        function="loss",
        old="jnp.minimum(ratio * advantages, clipped * advantages)",
        new="ratio * advantages",
        says="no clip: the further the policy moves, the better it looks",
    ),
    "max_for_min": Edit(
        function="loss",
        old="jnp.minimum(ratio * advantages",
        new="jnp.maximum(ratio * advantages",
        says="max in place of min: it pays for distance, and never pulls back",
    ),
    "one_sided_clip": Edit(
        function="loss",
        old="jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)",
        new="jnp.clip(ratio, 0.0, 1.0 + clip_eps)",
        says="clips from above alone",
    ),
    "objective_lowered": Edit(
        function="loss",
        old="return -objective.mean()",
        new="return objective.mean()",
        says="lowers the objective: what went well becomes less likely",
        fails=("solved_at_the_end",),
    ),
    "entropy_lowered": Edit(
        function="loss",
        old="- cfg.ent_coef * entropy",
        new="+ cfg.ent_coef * entropy",
        says="punishes entropy, which the bonus should reward",
    ),
    "half_the_value_loss": Edit(
        function="loss",
        old="value_loss = ((forward",
        new="value_loss = 0.5 * ((forward",
        says="halves the critic's error",
    ),
    "critic_learns_advantages": Edit(
        function="loss",
        old="[:, 0] - mini.returns) ** 2",
        new="[:, 0] - mini.advantages) ** 2",
        says="gives the critic the advantage for its target",
    ),
    "clip_range_stays": Edit(
        function="learn",
        old="cfg.clip_eps * left, cfg, shapes)",
        new="cfg.clip_eps, cfg, shapes)",
        says="keeps the clip range as it began",
    ),
    "step_size_stays": Edit(
        function="learn",
        old="cfg.learning_rate * left)",
        new="cfg.learning_rate)",
        says="keeps the step size as it began",
    ),
    "share_one_early": Edit(
        function="learn",
        old="1.0 - index / cfg.num_updates",
        new="1.0 - (index + 1) / cfg.num_updates",
        says="lets the share fall one update early: the last one learns nothing",
    ),
    "share_grows": Edit(
        function="learn",
        old="1.0 - index / cfg.num_updates",
        new="index / cfg.num_updates",
        says="lets the share grow, not fall",
    ),
    "share_ends_at_zero": Edit(
        function="learn",
        old="1.0 - index / cfg.num_updates",
        new="1.0 - index / max(cfg.num_updates - 1, 1)",
        says="lets the share reach zero at the last update",
    ),
    "adam_counts_from_zero": Edit(
        function="learn",
        old="len(order) + 1 + jnp",
        new="len(order) + jnp",
        says="lets Adam count from 0: its first step divides by zero",
    ),
    "adam_counts_anew": Edit(
        function="learn",
        old="k = index * len(order) + 1",
        new="k = 1",
        says="lets Adam count anew in each update",
    ),
    "gradient_not_clipped": Edit(
        function="learn",
        old="        gradient = nets.clip_norm(gradient, cfg.max_grad_norm)\n",
        new="",
        says="does not shorten the gradient",
    ),
    "not_shuffled": Edit(
        function="learn",
        old="lambda x: x[order], batch)",
        new="lambda x: x.reshape(*order.shape, *x.shape[1:]), batch)",
        says="takes the rows in the order of the rollout",
    ),
    "reuse_key": Edit(
        function="update",
        old="jax.random.uniform(key_rollout, (cfg.num_steps, cfg.num_envs, 1 + world.obs_dim))",
        new="jax.random.uniform(key_rollout, (cfg.num_steps, 1, 1 + world.obs_dim))\n"
        "    uniform = uniform.repeat(cfg.num_envs, axis=1)",
        says="hands every environment of a learner the same random numbers",
        fails=("solved_at_the_end",),
    ),
}
