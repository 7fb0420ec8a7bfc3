"""Lesson E9: games whose answers are known, worlds recorded with mpe2, and what its evidence measures."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import chapters.E_practice.E9_multi_agent as lesson
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E9 import EDITS, some_strategies
from chapters.E_practice.checks.E9_exercises import credit_gradient
from chapters.E_practice.evidence import E9 as evidence
from chapters.E_practice.evidence import E9_spread as team
from chapters.envs.spread import DIAMETER, MAX_STEPS, Spread, towards
from chapters.exact import kuhn
from chapters.utils import RunLog
from chapters.utils.edits import edited

PATHS = json.loads((Path(__file__).parent / "spread_paths.json").read_text(encoding="utf-8"))
"""Four episodes of simple_spread_v3 of mpe2 1.1.1, actions at random; in two, agents begin close together."""


def lone(path: dict) -> Spread:
    """One world as a recorded path begins."""
    spread = Spread(1)
    spread.reset()
    spread.positions, spread.landmarks = (np.array([path[name]]) for name in ("agents", "landmarks"))
    return spread


# Worlds


def test_spread_moves_pays_and_shows_as_mpe2_does():
    collided = 0
    for path in PATHS:
        spread, looks = lone(path), iter(path["obs"])
        for step, (actions, paid, cut) in enumerate(zip(path["actions"], path["rewards"], path["truncated"])):
            obs, rewards, terminated, truncated = spread.step(np.array([actions]))
            np.testing.assert_allclose(rewards[0], paid, rtol=0, atol=1e-12)
            assert (terminated[0], truncated[0]) == (False, cut)
            collided += len(set(paid)) > 1
            if step in (0, 12, 24):
                np.testing.assert_allclose(obs[0], next(looks), rtol=0, atol=1e-12)
    assert collided, "paths without collisions would not show them"


@pytest.mark.parametrize("apart", [1.0, 0.3], ids=["anywhere", "close together"])
def test_spread_is_mpe2s_where_that_is_installed(apart):
    theirs = pytest.importorskip(
        "mpe2.simple_spread_v3", reason="mpe2 comes with the extra `games`; recorded paths stand in for it"
    )
    env = theirs.parallel_env(max_cycles=MAX_STEPS)
    env.reset(seed=5)
    world = env.unwrapped.world
    for agent in world.agents:
        agent.state.p_pos *= apart
    path = {"agents": [agent.state.p_pos.tolist() for agent in world.agents]}
    spread = lone({**path, "landmarks": [one.state.p_pos.tolist() for one in world.landmarks]})
    rng = np.random.default_rng(0)
    collided = 0
    for step in range(MAX_STEPS):
        actions = rng.integers(5, size=3)
        seen, rewards, terminated, truncated, _ = env.step(dict(zip(env.agents, actions.tolist())))
        obs, paid, ended, cut = spread.step(actions[None])
        collided += len(set(rewards.values())) > 1
        np.testing.assert_allclose(paid[0], list(rewards.values()), rtol=0, atol=1e-12)
        np.testing.assert_allclose(obs[0], list(seen.values()), rtol=0, atol=1e-6)  # theirs are of 32 bits
        assert {bool(ended[0])} == set(terminated.values()), step
        assert {bool(cut[0])} == set(truncated.values()), step
    assert bool(collided) == (apart < 1)


def test_spread_batches_are_single_worlds_and_begin_anywhere_in_the_square():
    many = Spread(500, seed=3)
    many.reset()
    for part in (many.positions, many.landmarks):
        assert np.abs(part).max() <= 1
        assert part.std() == pytest.approx(1 / np.sqrt(3), rel=0.05)
    one = lone({"agents": many.positions[7], "landmarks": many.landmarks[7]})
    actions = np.random.default_rng(0).integers(5, size=(4, 500, 3))
    for step in actions:
        obs, rewards, *_ = many.step(step)
        single, paid, *_ = one.step(step[7:8])
        np.testing.assert_allclose(obs[7], single[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(rewards[7], paid[0], rtol=1e-12)


def test_agents_that_are_sent_somewhere_come_to_rest_there():
    spread = Spread(200, seed=0)
    spread.reset()
    spread.positions = spread.landmarks + np.random.default_rng(1).uniform(-0.5, 0.5, spread.landmarks.shape)
    for _ in range(MAX_STEPS):
        spread.step(towards(spread, spread.landmarks))
    apart = np.linalg.norm(spread.landmarks[:, :, None] - spread.landmarks[:, None], axis=-1) + 9 * np.eye(3)
    free = apart.min(axis=(1, 2)) > 2 * DIAMETER  # landmarks so far apart that nobody is in the way
    assert free.sum() > 20
    assert np.linalg.norm(spread.positions - spread.landmarks, axis=-1)[free].max() < 0.2


def test_who_is_assigned_goes_the_least_way_in_all():
    spread = lone(
        {"agents": [[0.0, 0.0], [0.5, 0.0], [-1.0, 1.0]], "landmarks": [[0.6, 0.0], [0.9, 0.0], [-1, 1]]}
    )
    spread.elapsed = 0
    act = team.assigned()
    # the first is nearest to the landmark at 0.6, and so is the second, which must go on to 0.9
    assert act(spread)[0].tolist() == [2, 2, 0]
    assert team.to_nearest(spread)[0, 1] in (0, 2)
    assert team.mean_return(team.assigned(), 50, 0) > team.mean_return(team.to_nearest, 50, 0)


def test_a_policy_is_judged_as_it_was_trained_by_draws_from_its_softmax():
    spread = Spread(4000, seed=0)
    spread.reset()
    logits = np.log([0.1, 0.2, 0.3, 0.15, 0.25])
    actions = team.sampled(
        lambda obs: np.broadcast_to(logits, (*obs.shape[:2], 5)), np.random.default_rng(0)
    )(spread)
    np.testing.assert_allclose(np.bincount(actions.ravel()) / actions.size, np.exp(logits), atol=0.02)
    paid = team.mean_return(lambda spread: np.zeros((spread.num_envs, 3), dtype=int), 300, 2)
    still = Spread(300, seed=2)
    still.reset()
    by_hand = sum(still.step(np.zeros((300, 3), dtype=int))[1].mean() for _ in range(25))
    assert paid == pytest.approx(by_hand, rel=1e-9)


# Teams that learn


def test_a_central_critic_sees_its_own_agent_first_and_then_the_others():
    obs = np.arange(2 * 3 * 18.0).reshape(2, 3, 18)
    seen = team.seen_by_critic(obs, central=True)
    assert seen.shape == (2, 3, 54)
    np.testing.assert_array_equal(seen[1, 1], np.concatenate([obs[1, 1], obs[1, 0], obs[1, 2]]))
    assert team.seen_by_critic(obs, central=False) is obs


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
def test_a_time_limit_keeps_the_bootstrap_and_an_end_does_not(ends):
    """A critic that says 7 everywhere; rewards 0; a single step."""
    batch = {name: torch.zeros(1, 1, 3, 4) for name in ("sees", "will_see")}
    batch |= {"rewards": torch.zeros(1, 1, 3)}
    batch |= {name: torch.full((1, 1), name == ends) for name in ("terminated", "truncated")}
    advantages, returns = team.advantages_of(batch, lambda seen: torch.full((*seen.shape[:-1], 1), 7.0))
    expected = 0.95 * 7 if ends == "truncated" else 0.0
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    np.testing.assert_allclose(advantages, expected - 7, rtol=1e-6)


def test_a_rollout_is_whole_episodes_with_their_true_successors():
    spread = Spread(4, seed=0)
    batch = team.collect(
        lambda obs: np.zeros((*obs.shape[:2], 5)), spread, np.random.default_rng(0), central=True
    )
    assert batch["obs"].shape == (25, 4, 3, 18)
    assert batch["will_see"].shape == (25, 4, 3, 54)
    np.testing.assert_array_equal(batch["sees"][1:], batch["will_see"][:-1])
    assert batch["truncated"].sum() == 4
    assert batch["truncated"][-1].all()
    assert not batch["terminated"].any()


def test_a_team_learns_to_rest_where_resting_is_all_that_pays(monkeypatch):
    """PPO's sign and masks: 8 updates in a world that pays 1 for every first action."""

    class Paid(Spread):
        def step(self, actions):
            obs, _, terminated, truncated = super().step(actions)
            return obs, 10.0 * (actions == 0), terminated, truncated

    monkeypatch.setattr(team, "Spread", Paid)
    for central in (False, True):
        _, returns = team.train(central, 8, 4, seed=0)
        assert returns[0] < 80 < returns[-1]  # of 250; at random 50


# Poker


def test_learners_meet_the_answers_of_chapters_exact():
    strategy = some_strategies(0)
    assert lesson.nash_conv(strategy) == pytest.approx(2 * kuhn.exploitability(strategy))
    cfg = lesson.Config(num_iterations=30)
    _, averages = lesson.self_play(*lesson.LEARNERS["regret"], np.zeros((3, 4, 2)), cfg)
    np.testing.assert_allclose(averages[-1], kuhn.counterfactual_regret(30), atol=1e-12)


def test_batches_learn_as_each_alone():
    starts = np.random.default_rng(2).normal(size=(3, 3, 4, 2))
    cfg = lesson.Config(num_iterations=20)
    for step, policy in lesson.LEARNERS.values():
        together = lesson.self_play(step, policy, starts, cfg)
        alone = lesson.self_play(step, policy, starts[1], cfg)
        for many, one in zip(together, alone):
            np.testing.assert_allclose(many[:, 1], one, rtol=1e-12)


def test_what_section_1_calls_conserved_and_the_edits_that_break_it():
    for name in ("no_turns", "both_want_the_same"):
        path = edited(lesson, EDITS[name]).orbit((0.4, 0.1), 200, eta=0.05, turns=True)
        energy = (path**2).sum(axis=1) + 0.05 * path.prod(axis=1)
        assert np.ptp(energy) / energy[0] > 0.1, f'"{name}"'


def test_a_magnet_without_pull_or_without_fading_does_not_arrive():
    start, cfg = np.random.default_rng(0).normal(size=(3, 4, 2)), lesson.Config(num_iterations=500)
    right = lesson.self_play(*lesson.LEARNERS["magnet"], start, cfg)[0][-1]
    for name in ("no_pull", "never_fades", "steps_never_shrink"):
        wrong = edited(lesson, EDITS[name]).self_play(
            edited(lesson, EDITS[name]).magnetic_step, lesson.softmax, start, cfg
        )[0][-1]
        assert lesson.nash_conv(wrong) > 5 * lesson.nash_conv(right), f'"{name}"'


def test_plus_takes_turns_and_counts_late_iterations_more():
    """Two iterations by hand, the second player answering the first's new strategy."""
    z = np.random.default_rng(3).normal(size=(3, 4, 2))
    found = evidence.play_plus(z, 2)
    total, reached = np.zeros((3, 4)), np.zeros((3, 4))
    for t in (1, 2):
        for places in ((0, 3), (1, 2)):
            strategy = lesson.regret_matching(z)
            gain = lesson.advantages(strategy, lesson.counterfactual_values(strategy))
            z = z.copy()
            for place in places:
                z[:, place] = np.maximum(z[:, place] + gain[:, place], 0)
        strategy = lesson.regret_matching(z)
        reach = lesson.own_reach(strategy)
        total, reached = total + t * reach * strategy, reached + t * reach
    np.testing.assert_allclose(found, np.where(reached > 0, total / np.maximum(reached, 1e-300), 0.5))


def test_slopes():
    assert evidence.slope([(t, 3 * t**-0.5) for t in (1, 10, 100, 1000)], 10) == pytest.approx(-0.5)
    assert evidence.slope([(1, 99.0), (10, 1.0), (100, 0.1)], 10) == pytest.approx(-1.0)


def test_sampled_games_are_the_trees():
    """Winnings at every place, over many games, are the tree's values there."""
    strategy = some_strategies(4)
    num_games = 60_000
    cards, places, bets, winnings = evidence.play_games(strategy, num_games, np.random.default_rng(0))
    q = lesson.counterfactual_values(strategy) * lesson.own_reach(strategy)[..., None]
    for card, place, move in np.ndindex(3, 4, 2):
        chance = strategy[card, place] if move else 1 - strategy[card, place]
        here = (cards == card) & (places == place) & (bets == move)
        assert abs((winnings * here).sum() / num_games - chance * q[card, place, move]) < 0.015
    assert winnings[places == 0].mean() == pytest.approx(kuhn.value(strategy, strategy), abs=0.03)


def test_ppo_moves_as_its_surrogates_gradient_and_stops_at_the_clip():
    rng = np.random.default_rng(5)
    logits, critic = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    games = evidence.play_games(1 / (1 + np.exp(-logits)), 40, rng)
    found = evidence.ppo_update(logits, games, critic, eta=0.7, num_epochs=2)
    cards, places, bets, winnings = games
    table = torch.tensor(logits, requires_grad=True)
    old = torch.sigmoid(torch.tensor(logits))[cards, places]
    bet = torch.tensor(bets)
    advantages = torch.tensor(winnings - critic[cards, places])
    for _ in range(2):
        now = torch.sigmoid(table)[cards, places]
        ratio = torch.where(bet, now / old, (1 - now) / (1 - old))
        gain = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        (gradient,) = torch.autograd.grad(gain, table)
        table = (table + 0.7 * 12 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(found, table.detach().numpy(), rtol=1e-9)
    far = evidence.ppo_update(logits, games, critic, eta=50.0, num_epochs=1)
    again = evidence.ppo_update(logits, games, critic, eta=50.0, num_epochs=30)
    assert np.abs(again).max() < 40 * np.abs(far).max()


# Teams of two


def test_credits_are_rewards_less_what_is_said():
    first, second = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.6, 0.3])
    own, central = evidence.own_credit(first, second), evidence.central_credit(first, second)
    for a, b in np.ndindex(3, 3):
        mean = sum(first[i] * second[j] * evidence.CLIMBING[i, j] for i in range(3) for j in range(3))
        assert own[a, b] == pytest.approx(evidence.CLIMBING[a, b] - mean)
        given = sum(first[i] * evidence.CLIMBING[i, b] for i in range(3))
        assert central[a, b] == pytest.approx(evidence.CLIMBING[a, b] - given)


def test_numbers_of_the_exercise():
    even = np.full(3, 1 / 3)
    noise = [
        credit_gradient(one(even, even), even, even)[1]
        for one in (evidence.own_credit, evidence.central_credit)
    ]
    assert [round(one) for one in noise] == [138, 121]
    for run in ledger.load(find("E9"))["runs"]:
        assert 0.5 < run["metrics"]["quieter"] < 0.7, '"in little more than half of them"'
        assert run["metrics"]["loudest"] > 2, '"several times larger"'


def test_climbing_goes_where_a_single_climber_goes():
    starts = [np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]), np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])]
    found = evidence.climb(starts, 0.05, 1500)
    np.testing.assert_allclose(found, [11, 7], atol=0.2)
    pairs = (starts[0][:, :, None] * starts[1][:, None, :]).reshape(2, 9)
    np.testing.assert_allclose(evidence.climb([pairs], 0.05, 500), 11, atol=1e-6)
    one_step = evidence.climb([start[:1] for start in starts], 0.1, 2)
    logits = [np.log(start[0]) for start in starts]
    worth = [evidence.CLIMBING @ starts[1][0], starts[0][0] @ evidence.CLIMBING]
    policies = [np.exp(z + 0.1 * w) / np.exp(z + 0.1 * w).sum() for z, w in zip(logits, worth)]
    assert one_step[0] == pytest.approx(policies[0] @ evidence.CLIMBING @ policies[1])


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("joint", 1, 1), ("optimistic", 1, 1), ("independent", 0, 0.5)]
)
def test_who_finds_11_from_samples(kind, least, most):
    rewards = evidence.learn_from_samples(kind, 30, 1000, np.random.default_rng(0))
    assert least <= np.mean(rewards == 11) <= most


def test_texts_say_what_was_recorded():
    runs = [run["metrics"] for run in ledger.load(find("E9"))["runs"]]
    assert len(runs) >= 5
    pure = 2 * kuhn.PURE_LOSS
    high = np.median([run["gradient_last"] for run in runs])
    assert 0.5 * pure < high < 2 * pure, '"as high as that of strategies that never mix"'


def test_the_batch_is_far_faster_than_the_packages_worlds():
    """1,015 microseconds a step took mpe2's on a slow machine; a batch of 64 a tenth of that or less."""
    spread = Spread(64)
    spread.reset()
    begin = time.process_time()
    for _ in range(25):
        spread.step(np.zeros((64, 3), dtype=int))
    assert (time.process_time() - begin) / (25 * 64) < 100e-6


def test_regret_and_magnet_write_their_medians(tmp_path):
    log = RunLog(tmp_path, "E9")
    cfg = lesson.Config(num_iterations=30, num_starts=3)
    lesson.play_poker(cfg, log)
    log.close()
    for name in lesson.LEARNERS:
        last, averages = log.kept[name]
        assert log.last(f"{name}_last") == pytest.approx(
            np.median([lesson.nash_conv(one) for one in last[-1]])
        )
        assert log.last(f"{name}_average") == pytest.approx(np.median(lesson.nash_conv(averages[-1])))


def test_an_agent_of_the_oracles_reckons_with_how_far_it_will_slide():
    """What a velocity of 1 carries in all, 0.1 (1 + 0.75 + 0.75^2 + ...) = 0.4, needs no push any more."""
    world = Spread(1)
    world.reset()
    world.positions[:], world.velocities[:] = 0.0, 0.0
    world.velocities[0, 0, 0] = 1.0
    targets = np.array([[[0.4, 0.0], [0.0, 0.2], [-0.2, 0.0]]])
    assert towards(world, targets).tolist() == [[0, 4, 1]]
