"""Right answers to C4's exercises in other idioms: the grader must pass each."""

import jax
import jax.numpy as jnp
from jax import lax

from chapters.C_policy_gradients.C4_ppo_in_jax import gae, loss, sample_actions
from chapters.envs import jax_networks as nets
from chapters.envs.jax_networks import Moments, forward, networks
from chapters.envs.jax_worlds import Batch, env_step


def sample_actions__searchsorted(logits, uniform):
    def draw(row, u):
        ends = jnp.cumsum(jax.nn.softmax(row))[:-1]
        return jnp.searchsorted(ends, u, side="right")

    return jax.vmap(draw)(logits, uniform)


def sample_actions__argmax(logits, uniform):
    ends = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1).at[:, -1].set(1.0)
    return jnp.argmax(uniform[:, None] < ends, axis=-1)


def sample_actions__written_out(logits, uniform):
    weights = jnp.exp(logits - logits.max(axis=1, keepdims=True))
    parts = weights / weights.sum(axis=1, keepdims=True)
    action, end = jnp.zeros(len(logits), dtype=int), jnp.zeros(len(logits))
    for b in range(logits.shape[1] - 1):
        end = end + parts[:, b]
        action = action + jnp.where(end <= uniform, 1, 0)
    return action


def rollout__unrolled(world, actor, obs, elapsed, uniform):
    steps = []
    for t in range(uniform.shape[0]):
        actions = sample_actions(forward(actor, obs), uniform[t, :, 0])
        transition, obs, elapsed = env_step(world, obs, elapsed, actions, uniform[t, :, 1:])
        steps.append(transition)
    return jax.tree.map(lambda *parts: jnp.stack(parts), *steps), obs, elapsed


def rollout__lambda(world, actor, obs, elapsed, uniform):
    def act(state, chance, fresh):
        transition, *state = env_step(world, *state, sample_actions(forward(actor, state[0]), chance), fresh)
        return tuple(state), transition

    inputs = {"chance": uniform[..., 0], "fresh": uniform[..., 1:]}
    state, transitions = lax.scan(lambda state, x: act(state, **x), init=(obs, elapsed), xs=inputs)
    return transitions, *state


def gae__where(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    def step(later, row):
        r, v, v_next, end, cut = row
        delta = r + gamma * jnp.where(end, 0.0, v_next) - v
        advantage = delta + gamma * gae_lambda * jnp.where(jnp.logical_or(end, cut), 0.0, later)
        return advantage, advantage

    rows = (rewards, values, next_values, terminated, truncated)
    _, advantages = lax.scan(step, jnp.zeros(rewards.shape[1]), rows, reverse=True)
    return advantages


def gae__flipped(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    alive = 1.0 - terminated.astype(float)
    goes_on = alive * (1.0 - truncated.astype(float))
    deltas = rewards + gamma * alive * next_values - values

    def step(later, row):
        later = row[0] + gamma * gae_lambda * row[1] * later
        return later, later

    rows = jnp.stack([deltas, goes_on], axis=1)[::-1]
    return lax.scan(step, jnp.zeros_like(deltas[-1]), rows)[1][::-1]


def gae__fori_loop(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    T = len(rewards)
    done = terminated | truncated

    def body(k, found):
        t = T - 1 - k
        delta = rewards[t] + gamma * (1 - terminated[t]) * next_values[t] - values[t]
        return found.at[t].set(delta + gamma * gae_lambda * (1 - done[t]) * found[t + 1])

    return lax.fori_loop(0, T, body, jnp.zeros((T + 1, rewards.shape[1])))[:T]


def gae__associative(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    deltas = rewards + jnp.where(terminated, 0.0, gamma * next_values) - values
    weights = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)

    def joined(later, earlier):
        return later[0] * earlier[0], earlier[1] + earlier[0] * later[1]

    return lax.associative_scan(joined, (weights, deltas), reverse=True)[1]


def prepare__by_name(theta, data, cfg, shapes):
    actor, critic = networks(theta, shapes)
    values, next_values = (forward(critic, obs).squeeze(-1) for obs in (data.obs, data.next_obs))
    advantages = gae(
        data.rewards,
        values,
        next_values,
        terminated=data.terminated,
        truncated=data.truncated,
        gamma=cfg.gamma,
        gae_lambda=cfg.gae_lambda,
    )
    all_log_probs = jax.nn.log_softmax(forward(actor, data.obs), axis=-1)
    chosen = jnp.take_along_axis(all_log_probs, data.actions[:, :, None], axis=2)
    return Batch(
        obs=data.obs.reshape(-1, data.obs.shape[-1]),
        actions=data.actions.ravel(),
        old_log_probs=chosen.ravel(),
        advantages=advantages.ravel(),
        returns=(values + advantages).ravel(),
    )


def prepare__rows_first(theta, data, cfg, shapes):
    actor, critic = networks(theta, shapes)
    rows = jax.tree.map(lambda x: jnp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])), data)
    values, next_values = forward(critic, rows.obs)[:, 0], forward(critic, rows.next_obs)[:, 0]
    shape = data.rewards.shape
    judged = gae(
        data.rewards, values.reshape(shape), next_values.reshape(shape), data.terminated, data.truncated,
        cfg.gamma, cfg.gae_lambda,
    ).reshape(-1)  # fmt: skip
    log_probs, _ = nets.categorical(forward(actor, rows.obs), rows.actions)
    return Batch(rows.obs, rows.actions, log_probs, judged, judged + values)


def loss__where(theta, mini, clip_eps, cfg, shapes):
    actor, critic = networks(theta, shapes)
    log_probs, entropies = nets.categorical(forward(actor, mini.obs), mini.actions)
    ratio = jnp.exp(log_probs - mini.old_log_probs)
    a = mini.advantages
    equal = jnp.all(a == a[0])
    a = jnp.where(equal, 0.0, (a - jnp.mean(a)) / (jnp.std(a, ddof=1) + 1e-8))
    near = jnp.where(a > 0, jnp.minimum(ratio, 1 + clip_eps), jnp.maximum(ratio, 1 - clip_eps))
    values = forward(critic, mini.obs).squeeze(axis=1)
    value_loss = jnp.mean(jnp.square(values - mini.returns))
    return -jnp.mean(near * a) + cfg.vf_coef * value_loss - cfg.ent_coef * jnp.mean(entropies)


def loss__row_by_row(theta, mini, clip_eps, cfg, shapes):
    actor, critic = networks(theta, shapes)
    size = len(mini.advantages)
    centred = mini.advantages - mini.advantages.sum() / size
    spread = jnp.sqrt((centred**2).sum() / (size - 1))
    centred = jnp.where(jnp.ptp(mini.advantages) > 0, centred, 0.0) / (spread + 1e-8)

    def one(row, advantage):
        log_probs = jax.nn.log_softmax(forward(actor, row.obs))
        ratio = jnp.exp(log_probs[row.actions] - row.old_log_probs)
        free, held = ratio * advantage, jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps) * advantage
        error = forward(critic, row.obs)[0] - row.returns
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs)
        return cfg.vf_coef * error**2 - jnp.minimum(free, held) - cfg.ent_coef * entropy

    return jax.vmap(one)(mini, centred).mean()


def learn__unrolled(theta, moments, batch, order, index, cfg, shapes):
    left = (cfg.num_updates - index) / cfg.num_updates
    step_of = jax.grad(loss)
    for number, rows in enumerate(order):
        mini = Batch(*(part[rows] for part in batch))
        gradient = step_of(theta, mini, left * cfg.clip_eps, cfg, shapes)
        gradient = nets.clip_norm(gradient, cfg.max_grad_norm)
        k = index * order.shape[0] + number + 1
        theta, moments = nets.adam_step(theta, gradient, moments, k, left * cfg.learning_rate)
    return theta, moments


def learn__own_adam(theta, moments, batch, order, index, cfg, shapes):
    left = 1 - index / cfg.num_updates

    def step(carry, rows):
        theta, mean, square, k = carry
        mini = jax.tree.map(lambda part: jnp.take(part, rows, axis=0), batch)
        _, g = jax.value_and_grad(loss)(theta, mini, cfg.clip_eps * left, cfg, shapes)
        norm = jnp.linalg.norm(g)
        g = jnp.where(norm > cfg.max_grad_norm, g * cfg.max_grad_norm / norm, g)
        mean, square = mean + 0.1 * (g - mean), square + 0.001 * (g * g - square)
        change = mean / (1 - 0.9**k) / (jnp.sqrt(square / (1 - 0.999**k)) + 1e-5)
        return (theta - cfg.learning_rate * left * change, mean, square, k + 1), None

    first = 1.0 + index * len(order)
    (theta, mean, square, _), _ = lax.scan(step, (theta, *moments, first), order)
    return theta, Moments(mean, square)


def finished_returns__masks(rewards, done, running):
    def step(earned, x):
        earned = earned + x[0]
        return earned * (1 - x[1]), earned * x[1]

    left, returns = lax.scan(step, running, (rewards, done.astype(rewards.dtype)))
    return returns, left


def finished_returns__fori_loop(rewards, done, running):
    def body(t, state):
        returns, running = state
        total = running + rewards[t]
        returns = returns.at[t].set(jnp.where(done[t], total, 0.0))
        return returns, jnp.where(done[t], jnp.zeros_like(total), total)

    return lax.fori_loop(0, rewards.shape[0], body, (jnp.zeros_like(rewards), running))


def finished_returns__cumulative(rewards, done, running):
    T, N = rewards.shape
    totals = jnp.vstack([jnp.zeros((1, N)), running + jnp.cumsum(rewards, axis=0)])
    last_end = lax.cummax(jnp.where(done, jnp.arange(1, T + 1)[:, None], 0), axis=0)
    before = jnp.vstack([jnp.zeros((1, N), dtype=int), last_end])
    since = totals[1:] - jnp.take_along_axis(totals, before[:-1], axis=0)
    return jnp.where(done, since, 0.0), totals[-1] - jnp.take_along_axis(totals, before[-1:], axis=0)[0]


def finished_returns__unrolled(rewards, done, running):
    returns = []
    for reward, ends in zip(rewards, done):
        running = running + reward
        returns.append(jnp.where(ends, running, 0))
        running = jnp.where(ends, 0, running)
    return jnp.stack(returns), running
