"""Lesson E4's filter and model where the answer is known, its worlds, and what its evidence measures."""

import itertools
import types

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.special import log_softmax

import chapters.E_practice.E4_world_models as lesson
import chapters.envs.registration  # noqa: F401 — registers RingWorld
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E4 import EDITS, map_arrays, observe_in_loops, some_model
from chapters.E_practice.evidence import E4 as evidence
from chapters.envs import jax_memory, ring_world
from chapters.exact import beliefs, heads
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited

# The exact answers


def some_world(seed: int, num_states: int = 3, num_actions: int = 2, num_obs: int = 2):
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    emission = rng.dirichlet(np.ones(num_obs), size=num_states)
    start = rng.dirichlet(np.ones(num_states))
    return ring_world.HiddenWorld(P, emission, start, rng.normal(size=(num_states, num_actions)))


def paths_of(world, obs, actions, first):
    """(path, weight) of every hidden path of one recording."""
    for path in itertools.product(range(len(world.P)), repeat=len(obs)):
        weight = 1.0
        for t, state in enumerate(path):
            led = world.start[state] if first[t] else world.P[path[t - 1], actions[t - 1], state]
            weight *= led * world.emission[state, obs[t]]
        yield path, weight


def check_forward_filter(module: types.ModuleType) -> None:
    for seed in range(3):
        world = some_world(seed)
        told = ring_world.record(world, 4, 5, 0.4, np.random.default_rng(seed))
        predictions, found = module.forward_filter(*world[:3], *told[1:])
        logs = module.log_likelihood(predictions, told.obs)
        for n in range(5):
            ends, total = np.zeros(3), 0.0
            for path, weight in paths_of(world, told.obs[:, n], told.actions[:, n], told.first[:, n]):
                ends[path[-1]] += weight
                total += weight
            assert logs[:, n].sum() == pytest.approx(np.log(total), rel=1e-9)
            np.testing.assert_allclose(found[-1, n], ends / total, atol=1e-12)
    np.testing.assert_allclose(predictions.sum(axis=2), 1.0)


def test_the_filter_is_the_sum_over_hidden_paths():
    check_forward_filter(beliefs)
    world = some_world(0)._replace(emission=np.array([[1.0, 0.0]] * 3))
    flags = np.ones((1, 1), dtype=bool)
    with pytest.raises(ValueError, match="step 0: an observation that has no chance"):
        beliefs.forward_filter(*world[:3], np.ones((1, 1), int), np.zeros((1, 1), int), flags)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("belief = joint / total", "belief = joint"),
        ("predictions.append(belief @ emission)", "predictions.append((beliefs or [belief])[-1] @ emission)"),
        ("actions[t - 1]", "actions[t]"),
        ("np.where(first[t][:, None], start, moved)", "moved"),
        ('"ns,nsk->nk"', '"nk,nsk->ns"'),
    ],
)  # fmt: skip
def test_filters_that_are_none_are_noticed(old, new):
    with pytest.raises((AssertionError, ValueError)):
        check_forward_filter(edited(beliefs, Edit("forward_filter", old, new, "wrong")))


def check_one_guess_bound(module: types.ModuleType) -> None:
    """By all sequences of guesses: the mean of log p(o, path) - log q(path)."""
    for seed in range(3):
        world = some_world(seed)
        told = ring_world.record(world, 4, 3, 0.4, np.random.default_rng(seed))
        found = module.one_guess_bound(*world[:3], *told[1:]).sum(axis=0)
        predictions, _ = module.forward_filter(*world[:3], *told[1:])
        exact = module.log_likelihood(predictions, told.obs).sum(axis=0)
        for n in range(3):
            obs, actions, first = (x[:, n] for x in told[1:])
            bound = 0.0
            for path, weight in paths_of(world, obs, actions, first):
                q = 1.0
                for t, state in enumerate(path):
                    led = world.start if first[t] else world.P[path[t - 1], actions[t - 1]]
                    q *= led[state] * world.emission[state, obs[t]] / (led @ world.emission[:, obs[t]])
                bound += q * (np.log(weight) - np.log(q))
            assert found[n] == pytest.approx(bound, rel=1e-9)
            assert found[n] <= exact[n] + 1e-12


def test_one_guess_at_a_time_is_a_bound():
    check_one_guess_bound(beliefs)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(guess * np.log(Z)).sum(axis=1)", "np.log((guess * Z).sum(axis=1))"),
        ("guess / Z", "guess"),
        ("actions[t - 1]", "actions[t]"),
        ("np.where(first[t][:, None], begun, went_on)", "went_on"),
        ("np.where(first[t], np.log(fresh), ", "np.where(first[t], np.log(fresh) * 0, "),
    ],
)
def test_bounds_that_are_none_are_noticed(old, new):
    with pytest.raises(AssertionError):
        check_one_guess_bound(edited(beliefs, Edit("one_guess_bound", old, new, "wrong")))


def check_values(module: types.ModuleType) -> None:
    """Two steps: every deterministic policy of histories is tried, each by all that can happen."""
    for seed in range(2):
        world = some_world(seed, num_states=3)
        P, emission, start, rewards = world
        best, keys = -np.inf, [(o,) for o in range(2)] + list(itertools.product(range(2), repeat=3))
        for choice in itertools.product(range(2), repeat=len(keys)):
            table = dict(zip(keys, choice))
            total = 0.0
            for s, o in itertools.product(range(3), range(2)):
                a = table[o,]
                total += start[s] * emission[s, o] * rewards[s, a]
                for s2, o2 in itertools.product(range(3), range(2)):
                    weight = start[s] * emission[s, o] * P[s, a, s2] * emission[s2, o2]
                    total += weight * rewards[s2, table[o, a, o2]]

            def act(obs, actions, table=table):
                rows = [tuple(o) if len(o) == 1 else (o[0], a[0], o[1]) for o, a in zip(obs, actions)]
                return np.eye(2)[[table[row] for row in rows]]

            if total > best:
                best = total
                assert module.policy_value(*world, 2, act) == pytest.approx(total, rel=1e-9)
        assert module.belief_value(*world, 2) == pytest.approx(best, rel=1e-9)
    assert module.belief_value(*world, 1) == pytest.approx(
        sum(max(float((start * emission[:, o]) @ rewards[:, a]) for a in range(2)) for o in range(2))
    )


def test_values_of_beliefs_are_those_of_the_best_policy_of_histories():
    check_values(beliefs)
    with pytest.raises(ValueError, match="12 steps: a tree of"):
        beliefs.belief_value(*ring_world.ring(), 12)
    with pytest.raises(ValueError, match="0 steps"):
        beliefs.belief_value(*ring_world.ring(), 0)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("belief_value", "worth.max(axis=1)", "worth.mean(axis=1)"),
        ("belief_value", "joint @ rewards", "joint @ rewards * 0.5"),
        ("belief_value", "if left > 1:", "if left > 2:"),
        ("_grow", "* emission.T", "* emission.T[::-1]"),
        ("policy_value", "* chances[:, :, None, None]", ""),
        ("policy_value", "np.column_stack([actions, done])", "np.column_stack([actions, 1 - done])"),
    ],
)
def test_values_that_are_wrong_are_noticed(function, old, new):
    with pytest.raises(AssertionError):
        check_values(edited(beliefs, Edit(function, old, new, "wrong")))


def test_a_policy_at_random_lands_at_home_one_time_in_twelve():
    at_random = lambda obs, actions: np.full((len(obs), 2), 0.5)  # noqa: E731
    assert beliefs.policy_value(*ring_world.ring(), 4, at_random) == pytest.approx(4 / 12)
    assert beliefs.belief_value(*ring_world.ring(), 4) > 0.7


def test_to_remember_nothing_costs_half_a_nat():
    """What section 6 says, and the bars of the claims: a fifth of it."""
    world = ring_world.ring()
    told = ring_world.record(world, 24, 4000, ring_world.END, np.random.default_rng(0))
    predictions, _ = beliefs.forward_filter(*world[:3], *told[1:])
    loss = -beliefs.log_likelihood(predictions, told.obs).mean()
    assert np.log(3) - loss == pytest.approx(0.5, abs=0.03)


# The worlds


def test_recordings_follow_the_tables():
    world = some_world(1)
    told = ring_world.record(world, 6, 20_000, 0.25, np.random.default_rng(0))
    error = 5 * 0.5 / 20_000**0.5
    assert told.first[0].all()
    assert abs(told.first[1:].mean() - 0.25) < error
    assert abs(told.actions.mean() - 0.5) < error
    for s in range(3):
        assert abs((told.states[told.first] == s).mean() - world.start[s]) < error
        assert abs(told.obs[told.states == s].mean() - world.emission[s, 1]) < 2 * error
        for a in range(2):
            here = (told.states[:-1] == s) & (told.actions[:-1] == a) & ~told.first[1:]
            for s2 in range(3):
                assert abs((told.states[1:][here] == s2).mean() - world.P[s, a, s2]) < 3 * error


def test_the_ring_is_a_ring():
    for world in (ring_world.ring(), ring_world.hidden_ball()):
        np.testing.assert_allclose(world.P.sum(axis=2), 1.0)
        np.testing.assert_allclose(world.emission.sum(axis=1), 1.0)
        assert world.P[0, ring_world.LEFT, 11] == world.P[11, ring_world.RIGHT, 0] == pytest.approx(0.9)
        assert world.rewards[11, ring_world.RIGHT] == world.rewards[1, ring_world.LEFT] == pytest.approx(0.9)
        assert world.rewards[0].tolist() == pytest.approx([0.1, 0.1])
    assert ring_world.ring().emission[4].tolist() == pytest.approx([0.025, 0.025, 0.95])
    assert ring_world.hidden_ball().emission[4, [4, 5, 12]].tolist() == pytest.approx([0.7, 0.0, 0.3])


def test_gymnasium_s_ring_is_the_same_world():
    env = gym.make("RingWorld-v0")
    seen, paid, steps = np.zeros((12, 3)), 0.0, 0
    for episode in range(60):
        obs, _ = env.reset(seed=episode)
        cell, over = env.unwrapped.cell, False
        while not over:
            seen[cell, obs] += 1
            obs, reward, terminated, over, _ = env.step(ring_world.RIGHT)
            assert not terminated
            assert (env.unwrapped.cell - cell) % 12 in (0, 1)
            cell = env.unwrapped.cell
            assert reward == (cell == ring_world.HOME)
            paid, steps = paid + reward, steps + 1
    assert steps == 60 * 24, "the time limit cuts an episode off"
    assert (seen.argmax(axis=1) == ring_world.COLOURS).all()
    assert paid / steps == pytest.approx(1 / 12, abs=0.03)


def test_a_picture_shows_the_ball_on_the_rim_and_the_wallpaper_in_the_middle():
    wallpaper = np.arange(16) % 2 == 0
    for cell in range(13):
        image = ring_world.pictures(np.array(cell), wallpaper).reshape(8, 8)
        np.testing.assert_array_equal(image[2:6, 2:6].ravel(), wallpaper)
        rim = image.copy()
        rim[2:6, 2:6] = 0
        assert rim.sum() == (4 if cell < 12 else 0)
        if cell < 12:
            row, column = ring_world.RIM[cell]
            assert rim[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].all()
    steps = np.abs(np.diff(np.array([*ring_world.RIM, ring_world.RIM[0]]), axis=0)).sum(axis=1)
    assert (steps == 1).all(), "neighbours on the ring are neighbours in the picture"


# Memory and heads


def test_the_recurrent_unit_is_torch_s():
    rng = np.random.default_rng(0)
    unit = torch.nn.GRUCell(4, 6)
    weights = {
        "input": (unit.weight_ih.detach().numpy().T, unit.bias_ih.detach().numpy()),
        "memory": (unit.weight_hh.detach().numpy().T, unit.bias_hh.detach().numpy()),
    }
    h, x = rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    expected = unit(torch.from_numpy(x), torch.from_numpy(h)).detach()
    np.testing.assert_allclose(jax_memory.gru(weights, h, x), expected, atol=1e-5)


def test_models_side_by_side_are_models_alone():
    """Two quadratics, each by its own objective: the one goes to 1, the other to its target."""
    start = {"w": (np.zeros((1, 1), np.float32), np.zeros(1, np.float32))}

    def objective(weights, average, choice, batch, cfg):
        w, b = weights["w"]
        return choice @ jnp.stack([((w - 1.0) ** 2).sum() + (b**2).sum(), ((b - batch.mean()) ** 2).sum()])

    cfg = lesson.Config(num_updates=400, batch_size=2, learning_rate=0.05)
    told = []
    first, second = jax_memory.train(
        objective,
        start,
        np.eye(2),
        lambda num, rng: np.full((3, num, 1), 2.0, dtype=np.float32),
        cfg,
        types.SimpleNamespace(track=lambda steps, unit: steps),
        lambda models, step: told.append((step, float(models[0]["w"][0][0, 0]))),
        num_rounds=2,
    )
    assert first["w"][0][0, 0] == pytest.approx(1.0, abs=0.01)
    assert first["w"][1][0] == 0.0
    assert second["w"][1][0] == pytest.approx(2.0, abs=0.02)
    assert second["w"][0][0, 0] == 0.0
    assert [step for step, _ in told] == [200, 400]


def test_a_head_finds_the_weights_that_made_the_targets():
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(8, 400, 3)), rng.normal(size=(3, 4))
    chances = np.exp(log_softmax(inputs @ weights, axis=2))
    found = heads.read(inputs, chances)
    np.testing.assert_allclose(np.exp(found), heads.later_half(chances), atol=5e-3)
    states = (inputs @ weights).argmax(axis=2)
    said = heads.read(inputs, np.eye(4)[states])
    assert heads.share_named(said, states, np.eye(4)[states]) > 0.95
    blunt = np.tile([0.0, 0.0, 0.0, 1.0], (8, 400, 1))
    assert heads.share_named(said, states, blunt) > 2.0, "per time that the belief's best guess is right"


def test_a_head_with_a_hidden_layer_finds_what_a_linear_one_cannot():
    """Logs of chances that are linear in the inputs, as the latent objective's memory holds them."""
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(3, 0.4), size=(8, 400))
    inputs = chances @ rng.normal(size=(3, 5))
    missing = {
        fit.__name__: lesson.nats_above(heads.later_half(chances), heads.read(inputs, chances, fit))
        for fit in (heads.fit_head, heads.fit_net)
    }
    assert missing["fit_net"] < 0.005 < 0.02 < missing["fit_head"], missing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(1.0 - hidden**2)", "(1.0 - hidden)"),
        ("np.exp(log_probs) - targets", "targets - np.exp(log_probs)"),
        ("_standardised(x, mean, spread) @ enter", "_with_one(x) @ enter"),
        ("enter, leave = layers(found.x)", "enter, leave = layers(start)"),
    ],
)
def test_hidden_layers_that_learn_wrongly_are_noticed(old, new, monkeypatch):
    monkeypatch.setattr(heads, "fit_net", edited(heads, Edit("fit_net", old, new, "wrong")).fit_net)
    with pytest.raises(AssertionError):
        test_a_head_with_a_hidden_layer_finds_what_a_linear_one_cannot()


# The model


def test_a_model_with_the_filter_s_memory_loses_what_the_filter_loses():
    """A prior that is the exact prediction, and codes that are the observation: the bound (3) is tight."""
    world = ring_world.ring()
    told = ring_world.record(world, 8, 50, 0.1, np.random.default_rng(0))
    predictions, _ = beliefs.forward_filter(*world[:3], *told[1:])
    exact = beliefs.log_likelihood(predictions, told.obs)
    codes = np.log(np.clip(np.eye(3)[told.obs], 1e-12, 1.0))[:, :, None]
    bound = lesson.elbo(jnp.zeros((8, 50)), jnp.asarray(codes), jnp.asarray(np.log(predictions))[:, :, None])
    np.testing.assert_allclose(bound, exact, atol=1e-4)


def test_the_bound_is_below_the_model_s_own_likelihood():
    """A small model with one code of three classes: all its codes are summed over."""
    weights, batch = some_model(4, num_groups=1)
    obs, actions, first, _ = (np.asarray(x)[:3, :1] for x in batch)
    first = np.array([[1.0], [0.0], [0.0]], dtype=np.float32)
    total, bound = 0.0, 0.0
    for classes in itertools.product(range(3), repeat=3):
        forced = np.full((3, 1, 1, 3), -1e4, dtype=np.float32)
        forced[np.arange(3), 0, 0, classes] = 0.0
        small = lesson.Batch(obs, actions, first, forced)
        seen = observe_in_loops(weights, small, 1.0)
        logits = (
            np.concatenate([seen.memory, seen.code], axis=2) @ weights["decode"][0] + weights["decode"][1]
        )
        chance = (log_softmax(logits, axis=2) * obs).sum(axis=2)
        picked = lambda log_probs: log_probs[np.arange(3), 0, 0, classes]  # noqa: B023, E731
        total += np.exp((chance[:, 0] + picked(seen.prior)).sum())
        q = np.exp(picked(seen.posterior).sum())
        parts = lesson.elbo(*map_arrays((chance, seen.posterior, seen.prior)))
        bound += q * float(parts.sum())
    assert bound < np.log(total)


def test_what_was_before_an_episode_must_not_matter():
    weights, batch = map_arrays(some_model(5))
    first = jnp.zeros_like(batch.first).at[0].set(1.0).at[3].set(1.0)
    batch = batch._replace(first=first)
    other = batch._replace(
        obs=batch.obs.at[:3].set(1.0 - batch.obs[:3]),
        actions=batch.actions[::-1].at[3:].set(batch.actions[3:]),
    )
    both = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), batch, other)
    for name in (None, "carries_over", "tells_over"):
        module = edited(lesson, EDITS[name]) if name else lesson
        see = jax.jit(module.observe, compiler_options=jax_memory.AT_ONCE)
        a, b = np.split(np.asarray(see(weights, both, 0.0).memory[3:]), 2, axis=1)
        assert np.allclose(a, b, atol=1e-6) == (name is None), name


def test_without_a_stop_the_latent_objective_has_a_gradient_towards_one_vector_for_all():
    weights, batch = map_arrays(some_model(6))
    cfg = lesson.Config(num_groups=2, num_classes=3)

    seen = jax.jit(lesson.observe, compiler_options=jax_memory.AT_ONCE)(weights, batch, 0.0)

    def moved(module):
        def loss(average):
            return module.losses(weights, average, batch.obs, seen, cfg)[2]

        slope = jax.jit(jax.grad(loss), compiler_options=jax_memory.AT_ONCE)(weights)
        return max(np.abs(x).max() for x in jax.tree.leaves(slope))

    assert moved(lesson) == 0.0
    assert moved(edited(lesson, EDITS["no_stop"])) > 1e-3


# What the evidence measures


def test_wallpaper_stays_through_an_episode_and_snow_does_not():
    cfg = lesson.Config(num_steps=400)
    shown = evidence.film(cfg, 20, np.random.default_rng(0))
    wallpaper, snow = shown.bits[..., :8], shown.bits[..., 8:]
    goes_on = ~shown.recording.first[1:]
    assert (wallpaper[1:] == wallpaper[:-1])[goes_on].all()
    assert 0.4 < (wallpaper[1:] == wallpaper[:-1])[~goes_on].mean() < 0.6
    assert 0.45 < (snow[1:] == snow[:-1]).mean() < 0.55
    np.testing.assert_array_equal(shown.batch.obs, ring_world.pictures(shown.recording.obs, shown.bits))


def test_bits_are_asked_of_the_half_that_no_head_was_fitted_to():
    rng = np.random.default_rng(0)
    bits = rng.random((5, 400, 4)) < 0.5
    assert evidence.bits_kept(bits.astype(float), bits) == 1.0
    assert evidence.bits_kept(rng.normal(size=(5, 400, 4)), bits) == pytest.approx(0.5, abs=0.05)


def test_a_filter_that_is_none_is_noticed_by_the_evidence(tmp_path, monkeypatch):
    for name, holds in ((None, True), ("not_normalised", False), ("stands_still", False)):
        log = RunLog(tmp_path / str(name), "E4")
        step = lesson.bayes_step if name is None else edited(lesson, EDITS[name]).bayes_step
        monkeypatch.setattr(evidence.lesson, "bayes_step", step)
        evidence.claim_filter(lesson.Config(), log)
        log.close()
        assert [claim.holds for claim in log.claims] == [holds]
        monkeypatch.undo()


def test_surprises_are_looked_for_three_steps_back_and_not_across_episodes():
    chances = np.full((7, 2, 2), [0.05, 0.95])
    obs = np.ones((7, 2), dtype=int)
    obs[1] = 0
    first = np.zeros((7, 2), dtype=bool)
    first[0], first[3, 1] = True, True
    found = evidence.after_surprise(chances, ring_world.Recording(obs, obs, obs, first))
    np.testing.assert_array_equal(found[:, 0], [False, False, True, True, True, False, False])
    np.testing.assert_array_equal(found[:, 1], [False, False, True, False, False, False, False])


def test_what_is_said_of_the_objectives_is_what_was_recorded():
    runs = ledger.load(find("E4"))["runs"]
    for run in runs:
        last = run["metrics"]
        assert last["ball_contrast"] < 0.5 < min(last["ball_own_times"], last["ball_latent"])
        assert last["loss_filter"] < 0.7 < np.log(3) < last["loss_one_guess"]
        assert last["drawn_codes"] > 1.5 * last["nats_reconstruction"], "drawn codes are heard wrong"
        by_head = {name: last[f"linear_{name}"] / last[f"nats_{name}"] for name in lesson.OBJECTIVES}
        assert max(by_head, key=by_head.get) == "latent", "a linear head falls short above all there"
        assert min(last[f"upset_{name}"] for name in lesson.OBJECTIVES) > 2 * last["upset_steps"]
