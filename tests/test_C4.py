"""C4 against C3 on the same batch, its learner on probe worlds, and errors planted in it."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from chapters.C_policy_gradients import C3_ppo_from_scratch as original
from chapters.C_policy_gradients import C4_ppo_in_jax as lesson
from chapters.C_policy_gradients.checks import C3 as original_checks
from chapters.C_policy_gradients.checks.C4 import EDITS
from chapters.C_policy_gradients.evidence import C4 as evidence
from chapters.course.catalog import ROOT
from chapters.course.parts import function_checks
from chapters.envs import true_next_obs
from chapters.envs.agents import ActorCritic
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.jax_networks import check_sizes, forward, layer_shapes, networks
from chapters.envs.jax_worlds import CARTPOLE, Transition, World, env_step
from chapters.envs.probes import best_values, largest_error
from chapters.utils import UsageError
from chapters.utils.edits import edited

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = lesson.Config(
    num_env_steps=4096, num_envs=8, num_steps=16, minibatch_size=32, eval_every=4096, num_eval_episodes=1,
    learning_rate=0.01, gamma=GAMMA,
)  # fmt: skip

compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})  # half the time


# The same numbers as C3


def on_torch(function):
    """`function` of JAX arrays, as a function of torch tensors."""

    def convert(value):
        return jnp.asarray(value.detach().numpy()) if isinstance(value, torch.Tensor) else value

    def adapted(*args, **kwargs):
        found = function(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})
        return jax.tree.map(lambda x: torch.from_numpy(np.array(x)), found)

    return adapted


def test_advantages_meet_the_check_of_c3():
    with jax.enable_x64(True):  # C3's checks use 64 bits
        function_checks(original_checks)["gae"](on_torch(lesson.gae))


@pytest.fixture
def agents():
    """(C3's agent, its weights as C4's vector)."""
    torch.manual_seed(0)
    agent = ActorCritic(BatchedCartPole(1))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    layers = [m for part in (agent.actor, agent.critic) for m in part if isinstance(m, torch.nn.Linear)]
    flat = [p.detach().numpy() for m in layers for p in (m.weight.T.ravel(), m.bias)]
    return agent, jnp.asarray(np.concatenate(flat))


def gradient_of(agent):
    """The gradient of C3's agent in the order of C4's vector."""
    layers = [m for part in (agent.actor, agent.critic) for m in part if isinstance(m, torch.nn.Linear)]
    return np.concatenate([g.numpy() for m in layers for g in (m.weight.grad.T.ravel(), m.bias.grad)])


def rollout_of_c3(num_steps=40, num_envs=6):
    """A rollout with both kinds of end, as C3 collects it."""
    cfg = original.Config(num_steps=num_steps, num_envs=num_envs)
    envs = BatchedCartPole(num_envs, max_episode_steps=15)
    obs, _ = envs.reset(seed=1)
    torch.manual_seed(1)
    data, _ = original.collect(ActorCritic(envs), envs, obs, np.random.default_rng(1), cfg)
    assert data["terminated"].any()
    assert data["truncated"].any()
    return data


def test_same_advantages_loss_and_gradient_as_c3(agents):
    agent, theta = agents
    data, theirs_cfg = rollout_of_c3(), original.Config()
    theirs = original.prepare(agent, data, theirs_cfg)
    cfg = lesson.Config(gamma=theirs_cfg.gamma, gae_lambda=theirs_cfg.gae_lambda, ent_coef=0.01)
    shapes, names = layer_shapes(CARTPOLE), Transition._fields
    ours = Transition(*(jnp.asarray(data[name].numpy()) for name in names))
    ours = compiled(lambda theta, data: lesson.prepare(theta, data, cfg, shapes))(theta, ours)
    for name in ("advantages", "returns", "old_log_probs"):
        np.testing.assert_allclose(getattr(ours, name), theirs[name].numpy(), atol=1e-5, rtol=1e-5)

    # a policy that has moved since: ratios on both sides of the clip range
    old = theirs["old_log_probs"] + 0.3 * torch.randn(len(theirs["advantages"]))
    with_bonus = dataclasses.replace(theirs_cfg, ent_coef=0.01)
    loss, _ = original.minibatch_loss(agent, {**theirs, "old_log_probs": old}, 0.2, with_bonus)
    loss.backward()
    mini = ours._replace(old_log_probs=jnp.asarray(old.numpy()))
    loss_of = compiled(jax.value_and_grad(lambda theta, mini: lesson.loss(theta, mini, 0.2, cfg, shapes)))
    value, gradient = loss_of(theta, mini)
    assert abs(float(value) - loss.item()) < 1e-5
    np.testing.assert_allclose(gradient, gradient_of(agent), atol=1e-5, rtol=1e-4)


def test_same_policy_and_value_as_c3(agents):
    agent, theta = agents
    obs = torch.randn(30, 4)
    actor, critic = networks(theta, layer_shapes(CARTPOLE))
    with torch.no_grad():
        np.testing.assert_allclose(forward(actor, jnp.asarray(obs)), agent.actor(obs), atol=1e-5)
        np.testing.assert_allclose(forward(critic, jnp.asarray(obs))[:, 0], agent.value(obs), atol=1e-5)


def test_steps_like_the_batched_environment_of_c3():
    """From the same states and actions; both hand out the last observation of an episode that ended."""
    envs, rng = BatchedCartPole(16), np.random.default_rng(0)
    envs.reset(seed=0)
    step, ended = jax.jit(partial(env_step, CARTPOLE)), 0
    for _ in range(60):
        before, elapsed, actions = (
            envs.state.astype(np.float32),
            envs.elapsed.copy(),
            rng.integers(2, size=16),
        )
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        ours, _, clock = step(before, elapsed, actions, np.zeros((16, 4), np.float32))
        successors = true_next_obs(obs, terminated | truncated, infos)
        np.testing.assert_allclose(ours.next_obs, successors, atol=1e-6)
        for name, theirs in (("rewards", rewards), ("terminated", terminated), ("truncated", truncated)):
            assert (np.asarray(getattr(ours, name)) == theirs).all()
        assert (np.asarray(clock) == envs.elapsed).all()
        ended += terminated.sum()
    assert ended > 10


# The learner on probe worlds: (first observation from a number in [0, 1), what a step gives, steps at most,
# actions); with one action the learner still has two, which do the same


def sign(u):
    return jnp.where(u < 0.5, -1.0, 1.0)


def zero(u):
    return 0.0 * u


PROBES = {
    "ConstantReward": (zero, lambda obs, a: (obs, jnp.ones_like(obs), obs == obs), 500, 1),
    "RewardByObservation": (sign, lambda obs, a: (obs, obs, obs == obs), 500, 1),
    "DelayedReward": (zero, lambda obs, a: (jnp.ones_like(obs), obs, obs == 1.0), 500, 1),
    "Endless": (zero, lambda obs, a: (obs, jnp.ones_like(obs), obs != obs), 10, 1),
    "ActionMatters": (zero, lambda obs, a: (obs, 2.0 * a - 1.0, obs == obs), 500, 2),
    "BothMatter": (
        sign,
        lambda obs, a: (obs, jnp.where((a == 1) == (obs > 0), 1.0, -1.0), obs == obs),
        500,
        2,
    ),
    # a time limit cuts every episode at its first step, on the way from 0 to 1, where the reward would be
    "CutShort": (lambda u: 1.0 * (u < 0.25), lambda obs, a: (jnp.ones_like(obs), obs, obs == 1.0), 1, 1),
}
ANSWERS = best_values(GAMMA)


def world_of(probes, number):
    """The world at place `number` of several: so one program learns them all, and compiling takes seconds."""

    def chosen(*found):
        return jnp.stack(found)[number]

    def reset(u):
        return chosen(*(PROBES[probe][0](u) for probe in probes))

    def step(obs, actions):
        outcomes = [PROBES[probe][1](obs[:, 0], actions) for probe in probes]
        next_obs, rewards, terminated = jax.tree.map(chosen, *outcomes)
        return next_obs[:, None], rewards, terminated

    return World(reset, step, chosen(*(PROBES[probe][2] for probe in probes)), 1, 2)


def wrongness(module, *probes):
    """Of each probe: largest error of the critic over its observations; infinite where the policy is wrong.

    The returns that the learner measures on its way are left out: nothing of it is judged by them.
    """
    cfg = module.Config(**dataclasses.asdict(QUICK))

    def learn(number):
        return module.train(jax.random.key(0), False, cfg, world_of(probes, number))[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "greedy_return", lambda *_: jnp.nan)
        if len(probes) == 1:  # tracing takes longer under vmap
            learned = [compiled(learn)(0)]
        else:
            learned = compiled(jax.vmap(learn))(jnp.arange(len(probes)))
    found = {}
    for probe, theta in zip(probes, learned):
        actor, critic = networks(theta, layer_shapes(world_of(probes, 0)))

        def judged(obs: float, actor=actor, critic=critic, num_actions=PROBES[probe][3]) -> tuple[float, int]:
            at = jnp.array([[obs]])
            return float(forward(critic, at)[0, 0]), int(forward(actor, at)[0, :num_actions].argmax())

        found[probe] = largest_error(ANSWERS[probe], judged)
    return found


@pytest.fixture(scope="module")
def right():
    return wrongness(lesson, *PROBES)


@pytest.mark.parametrize("probe", PROBES)
def test_learner_solves_probe(probe, right):
    assert right[probe] < (0.5 if probe == "Endless" else 0.1)


NOTICED = {  # named edit -> the probe that notices it
    "merged": "Endless",
    "merged_before": "Endless",
    "swapped_masks": "DelayedReward",
    "past_the_end": "DelayedReward",
    "advantages_negated": "ActionMatters",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED)
def test_probe_notices_edit(name):
    (error,) = wrongness(edited(lesson, EDITS[name]), NOTICED[name]).values()
    assert error > 0.15


@pytest.mark.slow
def test_probe_notices_that_the_successor_of_an_end_is_the_new_episode():
    def wrong_step(world, obs, elapsed, actions, uniform):
        transition, obs, elapsed = env_step(world, obs, elapsed, actions, uniform)
        return transition._replace(next_obs=obs), obs, elapsed

    wrong = edited(lesson)
    wrong.env_step = wrong_step
    assert wrongness(wrong, "CutShort")["CutShort"] > 0.15


# One call, many learners


def test_environments_of_a_learner_have_their_own_chance(monkeypatch):
    """And with `"reuse_key"` they have not."""

    class Seen(Exception):
        """What follows the rollout need not be compiled."""

    cfg = dataclasses.replace(QUICK, num_steps=16)
    for module, streams in ((lesson, cfg.num_envs), (edited(lesson, EDITS["reuse_key"]), 1)):
        seen = []

        def spied(world, actor, obs, elapsed, uniform, seen=seen):
            seen.append(uniform)
            raise Seen

        monkeypatch.setattr(module, "rollout", spied)
        shapes = layer_shapes(CARTPOLE)
        theta = jnp.zeros(sum((inputs + 1) * outputs for inputs, outputs, _ in shapes))
        moments = lesson.Moments(theta, theta)
        start = lesson.Learner(theta, moments, jnp.zeros((8, 4)), jnp.zeros(8, dtype=int))
        with pytest.raises(Seen):
            module.update(start, jax.random.key(0), 0, cfg, CARTPOLE)
        assert seen[0].shape == (16, 8, 5)
        assert len(np.unique(np.asarray(seen[0][0, :, 0]))) == streams


@pytest.mark.slow
def test_learners_of_one_call_are_those_of_single_calls(monkeypatch):
    """vmap changes nothing but the last digits, and each learner has its own stream of chance."""
    cfg = lesson.Config(**(lesson.SMOKE | {"num_env_steps": 256, "num_eval_episodes": 1}))
    monkeypatch.setattr(lesson, "greedy_return", lambda *_: jnp.nan)  # only the weights are compared
    keys = jax.random.split(jax.random.key(3), 3)
    together, _ = compiled(jax.vmap(partial(lesson.train, cfg=cfg), in_axes=(0, None)))(keys, False)
    single = compiled(partial(lesson.train, cfg=cfg))
    for key, theta in zip(keys, together):
        np.testing.assert_allclose(single(key, False)[0], theta, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("change", [{"minibatch_size": 100}, {"eval_every": 1500}, {"num_env_steps": 60_000}])
def test_sizes_that_do_not_divide_are_refused(change):
    with pytest.raises(UsageError, match="multiple of"):
        check_sizes(lesson.Config(**change))


# What the evidence measures with


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "gaps"),
    [
        ("not_reversed", {"advantages"}),
        ("no_min", {"loss", "gradient", "weights"}),
        ("adam_counts_anew", set()),  # in the first update it counts from 1 all the same
        ("gradient_not_clipped", {"weights"}),
    ],
)
def test_parity_notices_an_edit(edit, gaps, monkeypatch):
    wrong = edited(lesson, EDITS[edit])
    for name in ("gae", "loss", "learn"):
        monkeypatch.setattr(evidence.lesson, name, getattr(wrong, name))
    found = evidence.in_both(lesson.Config(**lesson.SMOKE))
    far = {
        what for what, (ours, theirs) in found.items() if np.abs(ours - theirs.detach().numpy()).max() > 1e-5
    }
    assert far == gaps


def test_third_in_a_row():
    scores = np.array(
        [
            [500, 500, 500, 500],
            [500, 0, 500, 500],
            [0, 475, 475, 475],
            [474.9, 500, 500, 0],
            [0, 0, 0, 500],
            [500, 500, 0, 0],
        ]
    )
    assert evidence.third_in_a_row(scores).tolist() == [2, -1, 3, -1, -1, -1]


LEDGER = json.loads((ROOT / "chapters/C_policy_gradients/results/C4.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(
    "one_jax_steps_per_second" not in LEDGER["runs"][0]["metrics"], reason="the ledger is an older lesson's"
)
def test_the_verdict_is_what_was_measured():
    """Compiling outlasts a PyTorch learner's learning; `vmap` is no saving on one core."""
    for run in LEDGER["runs"]:
        found = run["metrics"]
        one_in_torch = LEDGER["config"]["num_env_steps"] / found["torch_steps_per_second"]
        assert found["compile_seconds"] > one_in_torch
        assert 0.5 < found["jax_steps_per_second"] / found["one_jax_steps_per_second"] < 2.0
