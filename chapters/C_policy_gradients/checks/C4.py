"""Definition checks of C4: each function against its equation in NumPy and Python loops, or a library."""

import math
import sys

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import torch

from chapters.utils.edits import Edit

SHAPES = ((1, 1), (6, 3), (12, 4))  # (T, N)


def module_of(function):
    """The module a function comes from: the lesson, or a copy of it with an error planted."""
    return sys.modules[function.__module__]


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_config(lesson, **changes):
    sizes = {"num_envs": 3, "num_steps": 5, "minibatch_size": 5, "num_epochs": 2}
    return lesson.Config(**{**sizes, **changes})


def counting_world(lesson):
    """State (place, 7): each step adds 1 + action to the place; the end is at 4 or beyond."""

    def step(obs, actions):
        place = obs[:, 0] + 1 + actions
        return jnp.stack([place, obs[:, 1]], axis=1), 10 * place, place >= 4

    return lesson.World(lambda u: jnp.stack([-u[:, 0], 7 + 0 * u[:, 1]], axis=1), step, 3, 2, 2)


def start(lesson, hidden=6, seed=0):
    """(shapes, weights of which every one matters) for CartPole."""
    shapes = lesson.layer_shapes(lesson.CARTPOLE, hidden)
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


def check_cartpole_reset(cartpole_reset):
    close(cartpole_reset(jnp.array([[0.0, 0.5, 1.0, 0.25]])), [[-0.05, 0.0, 0.05, -0.025]])


def check_cartpole_step(cartpole_step):
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, size=(400, 4)).astype(np.float32) * [2.5, 3.0, 0.22, 3.0]
    actions = rng.integers(2, size=400)
    next_obs, rewards, terminated = cartpole_step(
        jnp.asarray(states, dtype=jnp.float32), jnp.asarray(actions)
    )
    for i in range(400):
        env.state, env.steps_beyond_terminated = states[i].astype(np.float32).astype(float), None
        expected, reward, end, _, _ = env.step(int(actions[i]))
        close(next_obs[i], expected, 1e-6)
        assert rewards[i] == reward
        near_the_edge = min(abs(abs(env.state[0]) - 2.4), abs(abs(env.state[2]) - math.radians(12))) < 1e-6
        assert bool(terminated[i]) == end or near_the_edge
    assert 50 < np.asarray(terminated).sum() < 350


def check_env_step(env_step):
    lesson = module_of(env_step)
    world = counting_world(lesson)
    obs = jnp.array([[0.0, 7.0], [2.0, 7.0], [0.0, 7.0], [3.0, 7.0]])
    elapsed, actions = jnp.array([0, 1, 2, 2]), jnp.array([1, 1, 0, 0])
    uniform = jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])
    transition, seen, clock = env_step(world, obs, elapsed, actions, uniform)
    close(transition.obs, obs)
    close(transition.actions, actions)
    close(transition.rewards, [20.0, 40.0, 10.0, 40.0])
    close(transition.next_obs, [[2.0, 7.0], [4.0, 7.0], [1.0, 7.0], [4.0, 7.0]])  # the true successors
    assert transition.terminated.tolist() == [False, True, False, True]
    assert transition.truncated.tolist() == [False, False, True, True]  # third step of an episode
    close(seen, [[2.0, 7.0], [-0.3, 7.0], [-0.5, 7.0], [-0.7, 7.0]])  # each new episode from its own numbers
    assert clock.tolist() == [1, 0, 0, 0]


def check_sample_actions(sample_actions):
    for seed, num_actions in ((0, 2), (1, 3), (2, 5)):
        logits = normal(seed, num_actions)
        uniform = (np.arange(10_000) + 0.5) / 10_000  # an even grid: shares are then exact
        actions = sample_actions(jnp.tile(logits, (10_000, 1)), jnp.asarray(uniform, dtype=jnp.float32))
        share = np.bincount(np.asarray(actions), minlength=num_actions) / 10_000
        close(share, np.exp(log_softmax(logits)), 3e-4)
    rows = jnp.array([[0.0, 9.0], [9.0, 0.0]])  # each row has its own probabilities
    assert sample_actions(rows, jnp.array([0.5, 0.5])).tolist() == [1, 0]


def check_shuffles(shuffles):
    for num_epochs, size in ((1, 2), (3, 64), (4, 100), (2, 1024)):
        orders = np.asarray(shuffles(jax.random.key(size), num_epochs, size))
        assert orders.shape == (num_epochs, size)
        assert (np.sort(orders, axis=1) == np.arange(size)).all(), "every row once an epoch"
    assert (orders[0] != orders[1]).mean() > 0.9, "each epoch has its own order"
    # each row is equally likely in each place
    many = np.asarray(shuffles(jax.random.key(0), 6000, 5))
    counts = np.array([np.bincount(many[:, place], minlength=5) for place in range(5)])
    assert np.abs(counts - 1200).max() < 6 * math.sqrt(1200)


def check_layer_shapes(layer_shapes):
    lesson = module_of(layer_shapes)
    shapes = layer_shapes(lesson.World(None, None, 1, obs_dim=3, num_actions=5), 8)
    root = math.sqrt(2)
    assert shapes == [(3, 8, root), (8, 8, root), (8, 5, 0.01), (3, 8, root), (8, 8, root), (8, 1, 1.0)]


def check_networks(networks):
    shapes = [(2, 3, 1.0), (3, 3, 1.0), (3, 4, 1.0), (2, 3, 1.0), (3, 3, 1.0), (3, 1, 1.0)]
    pieces = [normal(i * o + len(size), *size) for i, o, _ in shapes for size in ((i, o), (o,))]
    theta = np.concatenate([piece.ravel() for piece in pieces])
    for convert in (jnp.asarray, torch.from_numpy):
        actor, critic = networks(convert(theta), shapes)
        assert len(actor) == len(critic) == 3
        found = [np.asarray(array) for layer in (*actor, *critic) for array in layer]
        for a, b in zip(found, pieces, strict=True):
            assert a.shape == b.shape
            close(a, b)


def check_orthogonal_start(orthogonal_start):
    lesson = module_of(orthogonal_start)
    shapes = [(4, 8, math.sqrt(2)), (8, 8, 2.0), (8, 2, 0.01), (4, 8, math.sqrt(2)), (8, 8, 1.0), (8, 1, 1.0)]
    layers = [
        layer
        for part in lesson.networks(orthogonal_start(jax.random.key(0), shapes), shapes)
        for layer in part
    ]
    for (weight, bias), (inputs, outputs, gain) in zip(layers, shapes, strict=True):
        weight = np.asarray(weight)
        gram = weight.T @ weight if inputs >= outputs else weight @ weight.T
        close(gram, gain**2 * np.eye(len(gram)), 1e-5)
        assert not np.asarray(bias).any()
    assert np.abs(np.asarray(layers[0][0]) - np.asarray(layers[3][0])).max() > 0.1, "actor and critic differ"
    # uniform rotations have no preferred sign: the first entry averages out over keys
    keys = jax.random.split(jax.random.key(1), 400)
    first = jax.vmap(lambda key: orthogonal_start(key, [(3, 3, 1.0)] * 6)[0])(keys)
    assert abs(np.asarray(first).mean()) < 0.15


def check_forward(forward):
    layers = [
        (normal(0, 3, 5), normal(1, 5)),
        (normal(2, 5, 4), normal(3, 4)),
        (normal(4, 4, 2), normal(5, 2)),
    ]
    for size in ((3,), (7, 3), (2, 7, 3)):
        obs = normal(6, *size)
        for convert in (jnp.asarray, torch.from_numpy):
            converted = [(convert(w), convert(b)) for w, b in layers]
            close(forward(converted, convert(obs)), run_layers(layers, obs))


def check_categorical(categorical):
    for size in ((5,), (4, 3)):
        logits = normal(0, *size, 4)
        actions = np.random.default_rng(1).integers(4, size=size)
        log_prob, entropy = categorical(jnp.asarray(logits), jnp.asarray(actions))
        for place in np.ndindex(*size):
            p = np.exp(logits[place]) / np.exp(logits[place]).sum()
            close(log_prob[place], math.log(p[actions[place]]))
            close(entropy[place], -(p * np.log(p)).sum())


def check_random_numbers(random_numbers):
    lesson = module_of(random_numbers)
    numbers = np.asarray(random_numbers(jax.random.key(0), 40, 3, lesson.Config(num_envs=50)))
    assert numbers.shape == (40, 50, 3)
    assert len(np.unique(numbers)) > 0.99 * numbers.size, "no number is handed out twice"
    assert abs(numbers.mean() - 0.5) < 0.02
    assert 0.0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1.0
    again = np.asarray(random_numbers(jax.random.key(0), 40, 3, lesson.Config(num_envs=50)))
    assert (numbers == again).all(), "the same key, the same numbers"
    copied = np.asarray(random_numbers(jax.random.key(0), 40, 3, lesson.Config(num_envs=50, reuse_key=True)))
    assert (copied == copied[:, :1]).all(), "the bug, on request"


def check_rollout(rollout):
    """Step by step in Python, from the same numbers."""
    lesson = module_of(rollout)
    world = counting_world(lesson)
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


def check_normalise(normalise):
    for size in ((2,), (7,), (3, 4)):
        numbers = 5 + 3 * normal(0, *size)
        close(
            normalise(jnp.asarray(numbers)), (numbers - numbers.mean()) / (numbers.std(ddof=1) + 1e-8), 1e-4
        )
    assert np.isfinite(np.asarray(normalise(jnp.full(6, 2.0)))).all(), (
        "equal advantages divide by nearly nothing"
    )


def check_clipped_surrogate(clipped_surrogate):
    for ratio in (0.1, 0.7, 0.9, 1.0, 1.05, 1.3, 4.0):
        for advantage in (-2.0, -0.5, 0.0, 0.5, 2.0):
            for clip_eps in (0.1, 0.2):
                if advantage >= 0:  # no gain beyond 1 + clip_eps
                    expected = advantage * min(ratio, 1 + clip_eps)
                else:  # no gain below 1 - clip_eps; above, the loss is felt in full
                    expected = advantage * max(ratio, 1 - clip_eps)
                close(clipped_surrogate(jnp.array([ratio]), jnp.array([advantage]), clip_eps), [expected])


def check_ppo_loss(ppo_loss):
    objective, values, returns, entropy = normal(0, 4, 9)
    for vf_coef, ent_coef in ((0.5, 0.0), (1.0, 0.1), (0.0, 2.0)):
        terms = [
            -objective[i] + vf_coef * (values[i] - returns[i]) ** 2 - ent_coef * entropy[i] for i in range(9)
        ]
        found = ppo_loss(*map(jnp.asarray, (objective, values, returns, entropy)), vf_coef, ent_coef)
        close(found, sum(terms) / 9)


def check_adam_step(adam_step):
    """Against torch's Adam, over steps with different gradients and step sizes."""
    lesson = module_of(adam_step)
    theta = normal(0, 6)
    ours, moments = jnp.asarray(theta), lesson.Moments(jnp.zeros(6), jnp.zeros(6))
    theirs = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = torch.optim.Adam([theirs], lr=1.0, eps=1e-5)
    for k in range(1, 7):
        gradient, rate = normal(k, 6) * 10.0 ** (1 - k), 0.1 / k
        ours, moments = adam_step(ours, jnp.asarray(gradient), moments, k, rate)
        optimizer.param_groups[0]["lr"], theirs.grad = rate, torch.from_numpy(gradient)
        optimizer.step()
        close(ours, theirs.detach().numpy(), 5e-6)


def check_clip_norm(clip_norm):
    for scale in (0.01, 1.0, 100.0):
        gradient = scale * normal(0, 7)
        norm = math.sqrt(sum(x**2 for x in gradient))
        close(clip_norm(jnp.asarray(gradient), 0.5), gradient if norm <= 0.5 else gradient * 0.5 / norm, 1e-4)


def check_share_left(share_left):
    close([share_left(index, 4) for index in range(4)], [1.0, 0.75, 0.5, 0.25])
    close(share_left(jnp.array(0), 1), 1.0)


def some_rollout(lesson, seed=0, T=5, N=3):
    """Random transitions in which rows, ends and successors have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    parts = (
        normal(seed, T, N, 4),
        rng.integers(2, size=(T, N)),
        normal(seed + 1, T, N),
        normal(seed + 2, T, N, 4),
    )
    return lesson.Transition(*map(jnp.asarray, (*parts, rng.random((T, N)) < 0.2, rng.random((T, N)) < 0.2)))


def check_prepare(prepare):
    lesson = module_of(prepare)
    cfg, (shapes, theta), data = (
        small_config(lesson, gamma=0.9, gae_lambda=0.7),
        start(lesson),
        some_rollout(lesson),
    )
    batch = prepare(theta, data, cfg, shapes)
    actor, critic = lesson.networks(theta, shapes)
    values, next_values = (run_layers(critic, np.asarray(x))[..., 0] for x in (data.obs, data.next_obs))
    advantages = gae_by_hand(
        np.asarray(data.rewards), values, next_values, *map(np.asarray, data[4:]), cfg.gamma, cfg.gae_lambda
    )
    log_probs = log_softmax(run_layers(actor, np.asarray(data.obs)))
    for t, i in np.ndindex(5, 3):
        row = 3 * t + i
        close(batch.obs[row], data.obs[t, i])
        assert batch.actions[row] == data.actions[t, i]
        close(batch.old_log_probs[row], log_probs[t, i, int(data.actions[t, i])], 1e-4)
        close(batch.advantages[row], advantages[t, i], 1e-4)
        close(batch.returns[row], advantages[t, i] + values[t, i], 1e-4)
    assert len(batch.obs) == 15


def some_batch(lesson, size=20, seed=3):
    rng = np.random.default_rng(seed)
    old_log_probs, advantages, returns = normal(seed, 3, size)
    parts = (
        normal(seed + 1, size, 4),
        rng.integers(2, size=size),
        0.3 * old_log_probs - 0.7,
        advantages,
        returns,
    )
    return lesson.Batch(*map(jnp.asarray, parts))


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
        start(lesson),
        some_batch(lesson),
    )
    theirs = torch.tensor(np.asarray(theta), requires_grad=True)
    value = loss_by_hand(theirs, mini, 0.2, cfg, shapes)
    value.backward()
    ours, gradient = jax.value_and_grad(loss)(theta, mini, 0.2, cfg, shapes)
    close(ours, value.item())
    close(gradient, theirs.grad.numpy())


def check_learn(learn):
    """Two updates of a few minibatches, the second with half the step size and clip, against torch's Adam."""
    lesson = module_of(learn)
    changes = {"num_env_steps": 30, "max_grad_norm": 0.3, "clip_eps": 0.2, "learning_rate": 0.02}
    cfg, (shapes, theta) = small_config(lesson, **changes), start(lesson)
    theta /= 4  # ratios near the edges of the clip range
    ours, moments = theta, lesson.Moments(jnp.zeros_like(theta), jnp.zeros_like(theta))
    theirs = torch.nn.Parameter(torch.tensor(np.asarray(theta)))
    optimizer = torch.optim.Adam([theirs], lr=1.0, eps=1e-5)
    for index, left in ((0, 1.0), (1, 0.5)):
        batch, order = some_batch(lesson, 120), np.random.default_rng(index).permutation(120).reshape(4, 30)
        ours, moments = learn(ours, moments, batch, jnp.asarray(order), index, cfg, shapes)
        optimizer.param_groups[0]["lr"] = 0.02 * left
        for rows in order:
            optimizer.zero_grad()
            mini = lesson.Batch(*(np.asarray(part)[rows] for part in batch))
            loss_by_hand(theirs, mini, 0.2 * left, cfg, shapes).backward()
            torch.nn.utils.clip_grad_norm_([theirs], 0.3)
            optimizer.step()
        close(ours, theirs.detach().numpy(), 1e-4)


def check_greedy_return(greedy_return):
    lesson = module_of(greedy_return)
    world = counting_world(lesson)
    for action, expected in ((0, lambda u: 30 * -u + 60.0), (1, lambda u: 20 * -u + 60.0)):
        # action 0: places 1, 2, 3 and the time limit; action 1: 2 and 4, or on to 6 from a start below 0
        actor = [(jnp.zeros((2, 4)), jnp.zeros(4)), (jnp.zeros((4, 4)), jnp.zeros(4))]
        actor.append((jnp.zeros((4, 2)), jnp.eye(2)[action]))
        u = np.asarray(jax.random.uniform(jax.random.key(5), (50, 2)))[:, 0]
        if action == 1:
            expected = [10 * (2 - x) + 10 * (4 - x) + (10 * (6 - x) if 4 - x < 4 else 0) for x in u]
        else:
            expected = [expected(x) for x in u]
        close(greedy_return(world, actor, jax.random.key(5), 50), np.mean(expected), 1e-4)
    # what comes after an end does not count
    stops = world._replace(
        step=lambda obs, actions: (obs, jnp.ones(len(obs)), jnp.ones(len(obs), dtype=bool))
    )
    assert float(greedy_return(stops, actor, jax.random.key(0), 8)) == 1.0


def check_sustained(sustained):
    scores = np.array([
        [500, 500, 500, 500], [500, 0, 500, 500], [0, 475, 475, 475], [474.9, 500, 500, 0], [0, 0, 0, 500],
        [500, 500, 0, 0],
    ])  # fmt: skip
    assert sustained(scores.astype(float), 475.0).tolist() == [2, -1, 3, -1, -1, -1]


EDITS = {
    "not_centred": Edit(
        function="cartpole_reset",
        old="return 0.1 * uniform - 0.05",
        new="return 0.1 * uniform",
        says="not centred",
    ),
    "pushes_wrong_way": Edit(
        function="cartpole_step",
        old="actions == 1, 10.0, -10.0",
        new="actions == 0, 10.0, -10.0",
        says="pushes the wrong way",
    ),
    "gravity_reversed": Edit(
        function="cartpole_step",
        old="(9.8 * sin - cos * push)",
        new="(-9.8 * sin - cos * push)",
        says="gravity reversed",
    ),
    "half_length_full": Edit(
        function="cartpole_step",
        old="/ (0.5 * (4.0 / 3.0",
        new="/ (1.0 * (4.0 / 3.0",
        says="half the length in full",
    ),
    "moves_new_speed": Edit(
        function="cartpole_step",
        old="jnp.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)",
        new="jnp.stack([x_dot + 0.02 * x_acc, x_acc, theta_dot + 0.02 * theta_acc, theta_acc], axis=1)",
        says="moves with the new speed",
    ),
    "judges_state_before_step": Edit(
        function="cartpole_step",
        old="jnp.abs(next_obs[:, 2])",
        new="jnp.abs(obs[:, 2])",
        says="judges the state before the step",
    ),
    "successor_end_new_episode": Edit(
        function="env_step",
        old="transition = Transition(obs, actions, rewards, next_obs,",
        new="next_obs = jnp.where(done[:, None], world.reset(uniform), next_obs)\n    transition = Transition(obs, actions, rewards, next_obs,",
        says="successor of an end is the new episode",
    ),
    "time_limit_counts_terminated": Edit(
        function="env_step",
        old="next_obs, terminated, truncated)\n",
        new="next_obs, done, truncated)\n",
        says="a time limit counts as terminated",
    ),
    "one_step_too_many": Edit(
        function="env_step",
        old="elapsed >= world.time_limit",
        new="elapsed > world.time_limit",
        says="one step too many",
    ),
    "clock_runs": Edit(
        function="env_step",
        old="jnp.where(done, 0, elapsed)",
        new="elapsed",
        says="clock runs on",
    ),
    "no_reset_at_time": Edit(
        function="env_step",
        old="jnp.where(done[:, None], world.reset(uniform)",
        new="jnp.where(terminated[:, None], world.reset(uniform)",
        says="no reset at a time limit",
    ),
    "slices_reversed": Edit(
        function="sample_actions",
        old="(ends <= uniform[:, None])",
        new="(ends > uniform[:, None])",
        says="slices reversed",
    ),
    "sums_over_batch": Edit(
        function="sample_actions",
        old="jnp.cumsum(jax.nn.softmax(logits), axis=1)",
        new="jnp.cumsum(jax.nn.softmax(logits), axis=0)",
        says="sums over the batch",
    ),
    "all_rows_share_number": Edit(
        function="sample_actions",
        old="ends <= uniform[:, None]",
        new="ends <= uniform[0]",
        says="all rows share a number",
    ),
    "no_chance": Edit(
        function="shuffles",
        old=">> num_low << num_low",
        new=">> 32 - num_low << num_low",
        says="no chance",
    ),
    "chance_overwrites_index": Edit(
        function="shuffles",
        old="(key, (num_epochs, size)) >> num_low << num_low",
        new="(key, (num_epochs, size))",
        says="chance overwrites the index",
    ),
    "every_epoch_alike": Edit(
        function="shuffles",
        old="jax.random.bits(key, (num_epochs, size))",
        new="jax.random.bits(key, (1, size)).repeat(num_epochs, 0)",
        says="every epoch alike",
    ),
    "one_bit_lost": Edit(
        function="shuffles",
        old="(2**num_low - 1)).astype",
        new="(2**num_low - 2)).astype",
        says="one bit lost",
    ),
    "policy_starts_opinion": Edit(
        function="layer_shapes",
        old="world.num_actions, 0.01)",
        new="world.num_actions, 1.0)",
        says="policy starts with an opinion",
    ),
    "critic_wide_actor": Edit(
        function="layer_shapes",
        old="*body, (hidden, 1, 1.0)]",
        new="*body, (hidden, world.num_actions, 1.0)]",
        says="critic as wide as the actor",
    ),
    "bias_from_weights": Edit(
        function="networks",
        old="parts[::2], parts[1::2])",
        new="parts[::2], parts[::2])",
        says="bias from the weights",
    ),
    "biases_shifted_layer": Edit(
        function="networks",
        old="parts[::2], parts[1::2])",
        new="parts[::2], parts[3::2] + parts[1:2])",
        says="biases shifted by a layer",
    ),
    "weights_transposed": Edit(
        function="networks",
        old="weight.reshape(shape[:2])",
        new="weight.reshape(shape[1::-1]).T",
        says="weights transposed",
    ),
    "critic_actor_swapped": Edit(
        function="networks",
        old="return layers[:3], layers[3:]",
        new="return layers[3:], layers[:3]",
        says="critic and actor swapped",
    ),
    "no_gain": Edit(
        function="orthogonal_start",
        old="gain * (q if",
        new="1.0 * (q if",
        says="no gain",
    ),
    "not_orthogonal": Edit(
        function="orthogonal_start",
        old="q, r = jnp.linalg.qr(tall)",
        new="q, r = tall, jnp.linalg.qr(tall)[1]",
        says="not orthogonal",
    ),
    "preferred_signs": Edit(
        function="orthogonal_start",
        old="q = q * jnp.sign(jnp.diagonal(r))",
        new="q = q * 1.0",
        says="preferred signs",
    ),
    "actor_critic_alike": Edit(
        function="orthogonal_start",
        old="        start += inputs * outputs\n",
        new="        start = (start + inputs * outputs) % 112\n",
        says="actor and critic alike",
    ),
    "no_bias": Edit(
        function="forward",
        old="tanh(obs @ weight + bias)",
        new="tanh(obs @ weight)",
        says="no bias",
    ),
    "last_layer_squashed": Edit(
        function="forward",
        old="return obs @ layers[-1][0] + layers[-1][1]",
        new="return tanh(obs @ layers[-1][0] + layers[-1][1])",
        says="last layer squashed",
    ),
    "no_tanh": Edit(
        function="forward",
        old="obs = tanh(obs @ weight + bias)",
        new="obs = obs @ weight + bias",
        says="no tanh",
    ),
    "sign_entropy": Edit(
        function="categorical",
        old="entropy = -(jnp.exp(log_probs) * log_probs)",
        new="entropy = (jnp.exp(log_probs) * log_probs)",
        says="sign of the entropy",
    ),
    "logit_log_probability": Edit(
        function="categorical",
        old="jnp.take_along_axis(log_probs, actions",
        new="jnp.take_along_axis(logits, actions",
        says="logit for log-probability",
    ),
    "normalised_over_batch": Edit(
        function="categorical",
        old="log_probs = jax.nn.log_softmax(logits)",
        new="log_probs = jax.nn.log_softmax(logits, axis=0)",
        says="normalised over the batch",
    ),
    "one_stream_all": Edit(
        function="random_numbers",
        old="num_streams = 1 if cfg.reuse_key else cfg.num_envs",
        new="num_streams = 1",
        says="one stream for all",
    ),
    "every_step_alike": Edit(
        function="random_numbers",
        old="numbers = jax.random.uniform(key, (num_steps, num_streams, width))",
        new="numbers = jax.random.uniform(key, (1, num_streams, width))",
        says="every step alike",
    ),
    "chance_action_used_again": Edit(
        function="rollout",
        old="actions, uniform[:, 1:])",
        new="actions, uniform[:, :-1])",
        says="chance of the action used again for the new episode",
    ),
    "observations_stand_still": Edit(
        function="rollout",
        old="        transition, obs, elapsed = env_step(",
        new="        transition, _, elapsed = env_step(",
        says="observations stand still",
    ),
    "walks_through_time_backwards": Edit(
        function="rollout",
        old="lax.scan(step, (obs, elapsed), uniform)",
        new="lax.scan(step, (obs, elapsed), uniform, reverse=True)",
        says="walks through time backwards",
    ),
    "not_reversed": Edit(
        function="gae",
        old="(deltas, weights), reverse=True)",
        new="(deltas, weights))",
        says="not reversed",
    ),
    "bootstraps_through_terminal_state": Edit(
        function="gae",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "time_limit_loses_bootstrap": Edit(
        function="gae",
        old="gamma * ~terminated * next",
        new="gamma * ~(terminated | truncated) * next",
        says="a time limit loses the bootstrap",
    ),
    "sum_runs_through_time": Edit(
        function="gae",
        old="gae_lambda * ~(terminated | truncated)",
        new="gae_lambda * ~terminated",
        says="the sum runs through a time limit",
    ),
    "sum_runs_through_terminal": Edit(
        function="gae",
        old="gae_lambda * ~(terminated | truncated)",
        new="gae_lambda * ~truncated",
        says="the sum runs through a terminal state",
    ),
    "gamma_missing_from_sum": Edit(
        function="gae",
        old="weights = gamma * gae_lambda *",
        new="weights = gae_lambda *",
        says="gamma missing from the sum",
    ),
    "lambda_missing_from_sum": Edit(
        function="gae",
        old="weights = gamma * gae_lambda *",
        new="weights = gamma *",
        says="lambda missing from the sum",
    ),
    "sign_value": Edit(
        function="gae",
        old="* next_values - values  #",
        new="* next_values + values  #",
        says="sign of the value",
    ),
    "mean_stays": Edit(
        function="normalise",
        old="return (advantages - advantages.mean()) /",
        new="return advantages /",
        says="mean stays",
    ),
    "population_deviation": Edit(
        function="normalise",
        old="advantages.std(ddof=1)",
        new="advantages.std()",
        says="population deviation",
    ),
    "nothing_added_zero": Edit(
        function="normalise",
        old="(advantages.std(ddof=1) + 1e-8)",
        new="advantages.std(ddof=1)",
        says="nothing added to zero",
    ),
    "max_min": Edit(
        function="clipped_surrogate",
        old="return jnp.minimum(ratio * advantages,",
        new="return jnp.maximum(ratio * advantages,",
        says="max for min",
    ),
    "clip_alone": Edit(
        function="clipped_surrogate",
        old="return jnp.minimum(ratio * advantages, clipped * advantages)",
        new="return clipped * advantages",
        says="clip alone",
    ),
    "no_clip": Edit(
        function="clipped_surrogate",
        old="return jnp.minimum(ratio * advantages, clipped * advantages)",
        new="return ratio * advantages",
        says="no clip",
    ),
    "lower_edge_missing": Edit(
        function="clipped_surrogate",
        old="jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)",
        new="jnp.clip(ratio, 0.0, 1.0 + clip_eps)",
        says="lower edge missing",
    ),
    "sign_objective": Edit(
        function="ppo_loss",
        old="return -objective.mean()",
        new="return objective.mean()",
        says="sign of the objective",
    ),
    "ppo_loss_sign_entropy": Edit(
        function="ppo_loss",
        old="- ent_coef * entropy",
        new="+ ent_coef * entropy",
        says="sign of the entropy",
    ),
    "half_critic_s_error": Edit(
        function="ppo_loss",
        old="critic_loss = ((values",
        new="critic_loss = 0.5 * ((values",
        says="half the critic's error",
    ),
    "no_bias_correction_mean": Edit(
        function="adam_step",
        old="mean / (1 - 0.9**k) / (jnp",
        new="mean / (jnp",
        says="no bias correction of the mean",
    ),
    "no_bias_correction_square": Edit(
        function="adam_step",
        old="jnp.sqrt(square / (1 - 0.999**k))",
        new="jnp.sqrt(square)",
        says="no bias correction of the square",
    ),
    "climbs": Edit(
        function="adam_step",
        old="return theta - learning_rate",
        new="return theta + learning_rate",
        says="climbs",
    ),
    "square_mean": Edit(
        function="adam_step",
        old="0.001 * gradient**2",
        new="0.001 * mean**2",
        says="square of the mean",
    ),
    "lengthens_too": Edit(
        function="clip_norm",
        old="gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))",
        new="gradient * max_grad_norm / (norm + 1e-6)",
        says="lengthens too",
    ),
    "each_number_itself": Edit(
        function="clip_norm",
        old="gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))",
        new="jnp.clip(gradient, -max_grad_norm, max_grad_norm)",
        says="each number by itself",
    ),
    "no_root": Edit(
        function="clip_norm",
        old="norm = jnp.sqrt((gradient**2).sum())",
        new="norm = (gradient**2).sum()",
        says="no root",
    ),
    "off_one": Edit(
        function="share_left",
        old="1.0 - index / num_updates",
        new="1.0 - (index + 1) / num_updates",
        says="off by one",
    ),
    "grows": Edit(
        function="share_left",
        old="1.0 - index / num_updates",
        new="index / num_updates",
        says="grows",
    ),
    "ends_at_zero": Edit(
        function="share_left",
        old="1.0 - index / num_updates",
        new="1.0 - index / max(num_updates - 1, 1)",
        says="ends at zero",
    ),
    "terminated_truncated_merged": Edit(
        function="prepare",
        old="ends = data.terminated, data.truncated",
        new="ends = data.terminated | data.truncated, data.truncated",
        says="terminated and truncated merged",
    ),
    "masks_swapped": Edit(
        function="prepare",
        old="ends = data.terminated, data.truncated",
        new="ends = data.truncated, data.terminated",
        says="masks swapped",
    ),
    "value_wrong_observation": Edit(
        function="prepare",
        old="forward(critic, data.next_obs)[..., 0]",
        new="forward(critic, data.obs)[..., 0]",
        says="value of the wrong observation",
    ),
    "target_without_value": Edit(
        function="prepare",
        old="log_probs, advantages, advantages + values)",
        new="log_probs, advantages, advantages)",
        says="target without the value",
    ),
    "columns_rows": Edit(
        function="prepare",
        old="x.reshape(-1, *x.shape[2:])",
        new="x.swapaxes(0, 1).reshape(-1, *x.shape[2:]) if x.ndim == 2 else x.reshape(-1, *x.shape[2:])",
        says="columns for rows",
    ),
    "ratio_upside_down": Edit(
        function="loss",
        old="jnp.exp(log_probs - mini.old_log_probs)",
        new="jnp.exp(mini.old_log_probs - log_probs)",
        says="ratio upside down",
    ),
    "advantages_they_are": Edit(
        function="loss",
        old="normalise(mini.advantages)",
        new="mini.advantages",
        says="advantages as they are",
    ),
    "sign_advantages": Edit(
        function="loss",
        old="normalise(mini.advantages)",
        new="normalise(-mini.advantages)",
        says="sign of the advantages",
    ),
    "no_gradient_through_ratio": Edit(
        function="loss",
        old="ratio = jnp.exp(log_probs -",
        new="ratio = jnp.exp(lax.stop_gradient(log_probs) -",
        says="no gradient through the ratio",
    ),
    "critic_s_target_advantage": Edit(
        function="loss",
        old="values, mini.returns, entropy",
        new="values, mini.advantages, entropy",
        says="critic's target is the advantage",
    ),
    "clip_range_does_not": Edit(
        function="learn",
        old="cfg.clip_eps * left, cfg, shapes)",
        new="cfg.clip_eps, cfg, shapes)",
        says="clip range does not shrink",
    ),
    "step_size_does_not": Edit(
        function="learn",
        old="cfg.learning_rate * left)",
        new="cfg.learning_rate)",
        says="step size does not shrink",
    ),
    "adam_counts_from_zero": Edit(
        function="learn",
        old="len(order) + 1 + jnp",
        new="len(order) + jnp",
        says="Adam counts from zero",
    ),
    "adam_counts_anew_each": Edit(
        function="learn",
        old="k = index * len(order) + 1",
        new="k = 1",
        says="Adam counts anew in each update",
    ),
    "gradient_not_clipped": Edit(
        function="learn",
        old="* left, cfg, shapes), cfg.max_grad_norm)",
        new="* left, cfg, shapes), math.inf)",
        says="gradient not clipped",
    ),
    "rows_order_rollout": Edit(
        function="learn",
        old="lambda x: x[order], batch)",
        new="lambda x: x.reshape(*order.shape, *x.shape[1:]), batch)",
        says="rows in the order of the rollout",
    ),
    "counts_after_end": Edit(
        function="greedy_return",
        old="total + rewards * alive), None",
        new="total + rewards), None",
        says="counts after the end",
    ),
    "ending_step_does_not": Edit(
        function="greedy_return",
        old="total + rewards * alive), None",
        new="total + rewards * (alive & ~terminated)), None",
        says="the ending step does not count",
    ),
    "unlikeliest_action": Edit(
        function="greedy_return",
        old="forward(actor, obs).argmax(axis=1)",
        new="forward(actor, obs).argmin(axis=1)",
        says="the unlikeliest action",
    ),
    "one_step_short": Edit(
        function="greedy_return",
        old="length=world.time_limit)",
        new="length=world.time_limit - 1)",
        says="one step short",
    ),
    "two_row_are_enough": Edit(
        function="sustained",
        old="third = solved[:, 2:] & solved[:, 1:-1] & solved[:, :-2]",
        new="third = solved[:, 2:] & solved[:, 1:-1]",
        says="two in a row are enough",
    ),
    "above_not_at": Edit(
        function="sustained",
        old="np.pad(scores >= threshold",
        new="np.pad(scores > threshold",
        says="above, not at",
    ),
    "first_three": Edit(
        function="sustained",
        old="third.argmax(axis=1), -1)",
        new="third.argmax(axis=1) - 2, -1)",
        says="the first of the three",
    ),
}
