"""What compiled learners share, worlds and networks in JAX: against definitions, and with planted errors.

Outside a compiled program JAX compiles each operation anew for each shape, which takes longer than all else
here: so checks ask for few shapes, and look at what they get in NumPy.
"""

import inspect
import math
import sys
import types
from functools import partial

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from chapters.envs import jax_networks, jax_worlds


def module_of(function):
    """The module a function comes from: the lesson, or a copy of it with an error planted."""
    return sys.modules[function.__module__]


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def counting_world(lesson):
    """State (place, 7): each step adds 1 + action to the place; the end is at 4 or beyond."""

    def step(obs, actions):
        place = obs[:, 0] + 1 + actions
        return jnp.stack([place, obs[:, 1]], axis=1), 10 * place, place >= 4

    return lesson.World(lambda u: jnp.stack([-u[:, 0], 7 + 0 * u[:, 1]], axis=1), step, 3, 2, 2)


def run_layers(layers, obs):
    for weight, bias in layers[:-1]:
        obs = np.tanh(obs @ np.asarray(weight) + np.asarray(bias))
    return obs @ np.asarray(layers[-1][0]) + np.asarray(layers[-1][1])


def run_jax(layers, obs):
    return jax_networks.forward(layers, obs)


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def check_cartpole_reset(cartpole_reset):
    close(cartpole_reset(jnp.array([[0.0, 0.5, 1.0, 0.25]])), [[-0.05, 0.0, 0.05, -0.025]])


def check_cartpole_step(cartpole_step):
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, size=(400, 4)).astype(np.float32) * [2.5, 3.0, 0.22, 3.0]
    actions = rng.integers(2, size=400)
    angle = math.radians(12)
    edges = np.array([[2.4, 0, 0, 0], [-2.4, 0, 0, 0], [0, 0, angle, 0], [0, 0, -angle, 0]])
    asked = np.concatenate([states, edges, edges * 1.001]).astype(np.float32)
    found = cartpole_step(jnp.asarray(asked), jnp.asarray([*actions, *[1] * 8]))
    next_obs, rewards, terminated = map(np.asarray, found)
    expectations = []
    for i in range(400):
        env.state, env.steps_beyond_terminated = asked[i].astype(float), None
        expected, reward, end, _, _ = env.step(int(actions[i]))
        expectations.append(expected)
        assert rewards[i] == reward
        near_the_edge = min(abs(abs(env.state[0]) - 2.4), abs(abs(env.state[2]) - angle)) < 1e-6
        assert bool(terminated[i]) == end or near_the_edge
    close(next_obs[:400], expectations, 1e-6)
    assert 50 < terminated[:400].sum() < 350
    assert not terminated[400:404].any(), "at an edge is not beyond it"
    assert terminated[404:].all(), "on either side"


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


def check_greedy_return(greedy_return):
    lesson = module_of(greedy_return)
    world = counting_world(lesson)
    for action, expected in ((0, lambda u: 30 * -u + 60.0), (1, lambda u: 20 * -u + 60.0)):
        # action 0: places 1, 2, 3 and the time limit; action 1: 2 and 4, or on to 6 from a start below 0
        sizes = [(2, 4), (4, 4), (4, 2)]
        actor = [tuple(np.zeros(size, np.float32) for size in (pair, pair[1])) for pair in sizes]
        actor[-1][1][action] = 1.0
        u = np.asarray(jax.random.uniform(jax.random.key(5), (50, 2)))[:, 0]
        if action == 1:
            expected = [10 * (2 - x) + 10 * (4 - x) + (10 * (6 - x) if 4 - x < 4 else 0) for x in u]
        else:
            expected = [expected(x) for x in u]
        close(greedy_return(world, partial(run_jax, actor), jax.random.key(5), 50), np.mean(expected), 1e-4)
    # what comes after an end does not count
    stops = world._replace(
        step=lambda obs, actions: (obs, jnp.ones(len(obs)), jnp.ones(len(obs), dtype=bool))
    )
    assert float(greedy_return(stops, partial(run_jax, actor), jax.random.key(5), 50)) == 1.0


def check_shuffles(shuffles):
    few, many = (np.asarray(shuffles(jax.random.key(0), *shape)) for shape in ((2, 1024), (6000, 5)))
    for orders, shape in ((few, (2, 1024)), (many, (6000, 5))):
        assert orders.shape == shape
        assert (np.sort(orders, axis=1) == np.arange(shape[1])).all(), "every row once an epoch"
    assert (few[0] != few[1]).mean() > 0.9, "each epoch has its own order"
    # each row is equally likely in each place
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
    shapes = [(4, 8, math.sqrt(2)), (8, 4, 2.0), (4, 8, 0.01), (4, 8, math.sqrt(2)), (8, 4, 1.0), (4, 8, 1.0)]
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
    # uniform rotations have no preferred sign: the first entries average out over keys; else -0.28 for 8 by 4
    firsts = np.cumsum([0, *(inputs * outputs + outputs for inputs, outputs, _ in shapes)])[:-1]
    gains = np.array([gain for *_, gain in shapes])
    found = [np.asarray(orthogonal_start(jax.random.key(k), shapes))[firsts] / gains for k in range(40)]
    assert abs(np.mean(found)) < 0.12  # five standard deviations of 240 entries


def check_forward(forward):
    layers = [
        (normal(0, 3, 5), normal(1, 5)),
        (normal(2, 5, 4), normal(3, 4)),
        (normal(4, 4, 2), normal(5, 2)),
    ]
    for size in ((3,), (7, 3), (2, 7, 3)):
        obs = normal(6, *size)
        for convert in (jnp.asarray, torch.from_numpy)[len(size) == 2 :]:
            converted = [(convert(w), convert(b)) for w, b in layers]
            close(forward(converted, convert(obs)), run_layers(layers, obs))


def check_categorical(categorical):
    for size in ((5,), (4, 3)):
        logits = normal(0, *size, 4)
        actions = np.random.default_rng(1).integers(4, size=size)
        log_prob, entropy = map(np.asarray, categorical(jnp.asarray(logits), jnp.asarray(actions)))
        for place in np.ndindex(*size):
            p = np.exp(logits[place]) / np.exp(logits[place]).sum()
            close(log_prob[place], math.log(p[actions[place]]))
            close(entropy[place], -(p * np.log(p)).sum())


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


PLANTED = {  # function -> what is wrong -> (piece of the source, its replacement)
    "cartpole_reset": {
        "not centred": ("return 0.1 * uniform - 0.05", "return 0.1 * uniform"),
    },
    "cartpole_step": {
        "pushes the wrong way": ("actions == 1, 10.0, -10.0", "actions == 0, 10.0, -10.0"),
        "gravity reversed": ("(9.8 * sin - cos * push)", "(-9.8 * sin - cos * push)"),
        "half the length in full": ("/ (0.5 * (4.0 / 3.0", "/ (1.0 * (4.0 / 3.0"),
        "moves with the new speed": (
            "jnp.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)",
            "jnp.stack([x_dot + 0.02 * x_acc, x_acc, theta_dot + 0.02 * theta_acc, theta_acc], axis=1)",
        ),
        "judges the state before the step": ("jnp.abs(next_obs[:, 2])", "jnp.abs(obs[:, 2])"),
    },
    "env_step": {
        "successor of an end is the new episode": (
            "transition = Transition(obs, actions, rewards, next_obs,",
            "next_obs = jnp.where(done[:, None], world.reset(uniform), next_obs)\n"
            "    transition = Transition(obs, actions, rewards, next_obs,",
        ),
        "a time limit counts as terminated": (
            "next_obs, terminated, truncated)\n",
            "next_obs, done, truncated)\n",
        ),
        "one step too many": ("elapsed >= world.time_limit", "elapsed > world.time_limit"),
        "clock runs on": ("jnp.where(done, 0, elapsed)", "elapsed"),
        "no reset at a time limit": (
            "jnp.where(done[:, None], world.reset(uniform)",
            "jnp.where(terminated[:, None], world.reset(uniform)",
        ),
    },
    "greedy_return": {
        "counts after the end": ("total + rewards * alive), None", "total + rewards), None"),
        "the ending step does not count": (
            "total + rewards * alive), None",
            "total + rewards * (alive & ~terminated)), None",
        ),
        "the unlikeliest action": (
            "logits_of(obs).argmax(axis=1)",
            "logits_of(obs).argmin(axis=1)",
        ),
        "one step short": ("length=world.time_limit)", "length=world.time_limit - 1)"),
    },
    "shuffles": {
        "no chance": (">> num_low << num_low", ">> 32 - num_low << num_low"),
        "chance overwrites the index": (
            "(key, (num_epochs, size)) >> num_low << num_low",
            "(key, (num_epochs, size))",
        ),
        "every epoch alike": (
            "jax.random.bits(key, (num_epochs, size))",
            "jax.random.bits(key, (1, size)).repeat(num_epochs, 0)",
        ),
        "one bit lost": ("(2**num_low - 1)).astype", "(2**num_low - 2)).astype"),
    },
    "layer_shapes": {
        "policy starts with an opinion": ("world.num_actions, 0.01)", "world.num_actions, 1.0)"),
        "critic as wide as the actor": (
            "*body, (hidden, 1, 1.0)]",
            "*body, (hidden, world.num_actions, 1.0)]",
        ),
    },
    "networks": {
        "bias from the weights": ("parts[::2], parts[1::2])", "parts[::2], parts[::2])"),
        "biases shifted by a layer": ("parts[::2], parts[1::2])", "parts[::2], parts[3::2] + parts[1:2])"),
        "weights transposed": ("weight.reshape(shape[:2])", "weight.reshape(shape[1::-1]).T"),
        "critic and actor swapped": ("return layers[:3], layers[3:]", "return layers[3:], layers[:3]"),
    },
    "orthogonal_start": {
        "no gain": ("gain * (q if", "1.0 * (q if"),
        "not orthogonal": ("q, r = jnp.linalg.qr(tall)", "q, r = tall, jnp.linalg.qr(tall)[1]"),
        "preferred signs": ("q = q * jnp.sign(jnp.diagonal(r))", "q = q * 1.0"),
        "actor and critic alike": (
            "        start += inputs * outputs\n",
            "        start = (start + inputs * outputs) % 96\n",
        ),
    },
    "forward": {
        "no bias": ("tanh(obs @ weight + bias)", "tanh(obs @ weight)"),
        "last layer squashed": (
            "return obs @ layers[-1][0] + layers[-1][1]",
            "return tanh(obs @ layers[-1][0] + layers[-1][1])",
        ),
        "no tanh": ("obs = tanh(obs @ weight + bias)", "obs = obs @ weight + bias"),
    },
    "categorical": {
        "sign of the entropy": (
            "entropy = -(jnp.exp(log_probs) * log_probs)",
            "entropy = (jnp.exp(log_probs) * log_probs)",
        ),
        "logit for log-probability": (
            "jnp.take_along_axis(log_probs, actions",
            "jnp.take_along_axis(logits, actions",
        ),
        "normalised over the batch": (
            "log_probs = jax.nn.log_softmax(logits)",
            "log_probs = jax.nn.log_softmax(logits, axis=0)",
        ),
    },
    "adam_step": {
        "no bias correction of the mean": ("mean / (1 - 0.9**k) / (jnp", "mean / (jnp"),
        "no bias correction of the square": ("jnp.sqrt(square / (1 - 0.999**k))", "jnp.sqrt(square)"),
        "climbs": ("return theta - learning_rate", "return theta + learning_rate"),
        "square of the mean": ("0.001 * gradient**2", "0.001 * mean**2"),
    },
    "clip_norm": {
        "lengthens too": (
            "gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))",
            "gradient * max_grad_norm / (norm + 1e-6)",
        ),
        "each number by itself": (
            "gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))",
            "jnp.clip(gradient, -max_grad_norm, max_grad_norm)",
        ),
        "no root": ("norm = jnp.sqrt((gradient**2).sum())", "norm = (gradient**2).sum()"),
    },
}


def home(name):
    return jax_worlds if hasattr(jax_worlds, name) and name != "networks" else jax_networks


@pytest.mark.parametrize("name", PLANTED)
def test_function_meets_its_definition(name):
    globals()[f"check_{name}"](getattr(home(name), name))


CASES = [(name, error) for name, errors in PLANTED.items() for error in errors]


@pytest.mark.parametrize(("name", "error"), CASES, ids=[f"{name}-{error}" for name, error in CASES])
def test_check_rejects_planted_error(name, error):
    old, new = PLANTED[name][error]
    source = inspect.getsource(home(name))
    start = source.index(f"def {name}(")
    assert source[start:].count(old) >= 1
    wrong = types.ModuleType(f"planted_{home(name).__name__.rpartition('.')[2]}")
    sys.modules[wrong.__name__] = wrong
    exec(source[:start] + source[start:].replace(old, new, 1), wrong.__dict__)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        globals()[f"check_{name}"](getattr(wrong, name))
