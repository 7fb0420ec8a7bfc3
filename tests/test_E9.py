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
    asked = []

    def actor(view):
        asked.append(view)
        return np.broadcast_to(logits, (*view.shape[:2], 5))

    actions = team.sampled(actor, np.random.default_rng(0))(spread)
    team.sampled(actor, np.random.default_rng(0), by_number=True)(spread)
    for view, by_number in zip(asked, (False, True)):
        np.testing.assert_array_equal(view, team.shown(spread.observe(), by_number))
    np.testing.assert_allclose(np.bincount(actions.ravel()) / actions.size, np.exp(logits), atol=0.02)
    paid = team.mean_return(lambda spread: np.zeros((spread.num_envs, 3), dtype=int), 300, 2)
    still = Spread(300, seed=2)
    still.reset()
    by_hand = sum(still.step(np.zeros((300, 3), dtype=int))[1].mean() for _ in range(25))
    assert paid == pytest.approx(by_hand, rel=1e-9)


# Teams that learn


def test_landmarks_and_others_are_shown_nearest_first_or_by_number():
    obs = np.zeros((1, 3, 18))
    obs[0, 1, :4] = 0.1, 0.2, 0.3, 0.4  # velocity, position
    obs[0, 1, 4:10] = 1.0, 1.0, -0.3, 0.4, 0.0, -0.9  # landmarks at 1.41, 0.5 and 0.9
    obs[0, 1, 10:14] = 0.0, 2.0, -1.5, 0.0
    obs[0, :, 14:] = 9.0
    expected = [0.1, 0.2, 0.3, 0.4, -0.3, 0.4, 0.0, -0.9, 1.0, 1.0, -1.5, 0.0, 0.0, 2.0]
    np.testing.assert_allclose(team.shown(obs)[0, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(team.shown(obs, by_number=True), obs[..., :14], rtol=1e-6)
    assert team.shown(obs).dtype == np.float32, "what a network is made of"


def test_a_view_is_the_same_however_landmarks_and_others_are_numbered():
    spread = Spread(20, seed=1)
    spread.reset()
    seen = team.shown(spread.observe())
    spread.landmarks = spread.landmarks[:, [2, 0, 1]]
    np.testing.assert_array_equal(team.shown(spread.observe()), seen)
    assert not np.array_equal(team.shown(spread.observe(), by_number=True)[..., 4:10], seen[..., 4:10])
    spread.positions = spread.positions[:, [0, 2, 1]]
    np.testing.assert_array_equal(team.shown(spread.observe()), seen[:, [0, 2, 1]])


def test_a_central_critic_sees_its_own_agent_first_and_then_the_others():
    obs = np.arange(2 * 3 * 14.0, dtype=np.float32).reshape(2, 3, 14)
    seen = team.seen_by_critic(obs, central=True)
    assert seen.shape == (2, 3, 42)
    np.testing.assert_array_equal(seen[1, 1], np.concatenate([obs[1, 1], obs[1, 0], obs[1, 2]]))
    assert team.seen_by_critic(obs, central=False) is obs


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
def test_a_time_limit_keeps_the_bootstrap_and_an_end_does_not(ends):
    """A critic that says 7 everywhere; rewards 0; a single step."""
    batch = {name: torch.zeros(1, 1, 3, 4) for name in ("sees", "will_see")}
    batch |= {"rewards": torch.zeros(1, 1, 3)}
    batch |= {name: torch.full((1, 1), name == ends) for name in ("terminated", "truncated")}
    advantages, returns = team.advantages_of(batch, lambda seen: torch.full((*seen.shape[:-1], 1), 7.0))
    expected = 0.9 * 7 if ends == "truncated" else 0.0
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    np.testing.assert_allclose(advantages, expected - 7, rtol=1e-6)


@pytest.mark.parametrize("by_number", [False, True], ids=["nearest first", "by number"])
def test_a_rollout_is_whole_episodes_with_their_true_successors(by_number):
    spread, first = Spread(4, seed=0), Spread(4, seed=0)
    batch = team.collect(
        lambda obs: np.zeros((*obs.shape[:2], 5)),
        spread,
        np.random.default_rng(0),
        central=True,
        by_number=by_number,
    )
    assert batch["obs"].shape == (25, 4, 3, 14)
    assert batch["will_see"].shape == (25, 4, 3, 42)
    np.testing.assert_array_equal(batch["obs"][0], team.shown(first.reset(), by_number))
    np.testing.assert_array_equal(batch["will_see"][-1, ..., :14], team.shown(spread.observe(), by_number))
    np.testing.assert_array_equal(batch["sees"][..., :14], batch["obs"])
    np.testing.assert_array_equal(batch["sees"][1:], batch["will_see"][:-1])
    assert batch["truncated"].sum() == 4
    assert batch["truncated"][-1].all()
    assert not batch["terminated"].any()


def test_a_team_learns_to_rest_where_resting_is_all_that_pays(monkeypatch):
    """PPO's sign and masks: six updates in a world that pays 1 for every first action."""

    class Paid(Spread):
        def step(self, actions):
            obs, _, terminated, truncated = super().step(actions)
            return obs, 10.0 * (actions == 0), terminated, truncated

    monkeypatch.setattr(team, "Spread", Paid)
    for central in (False, True):
        _, returns = team.train(central, 6, 4, seed=0)
        assert returns[0] < 80 < returns[-1]  # of 250; at random 50


def test_a_team_is_trained_on_the_lists_it_asked_for():
    view = np.random.default_rng(0).normal(size=(2, 3, 14)).astype(np.float32)
    first, numbered, again = (
        team.train(False, 1, 2, 0, by_number=one)[0](view) for one in (False, True, False)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, numbered)


def test_a_film_shows_the_same_worlds_with_each_way_to_act_and_what_was_earned(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        team,
        "draw_world",
        lambda spread, which, title: (
            drawn.append((title, spread.landmarks[which].copy())) or np.full((4, 3, 3), which, dtype=np.uint8)
        ),
    )
    rest = lambda spread: np.zeros((spread.num_envs, 3), dtype=int)  # noqa: E731
    frames = team.film_frames({"rest": rest, "best": team.assigned()}, seed=3, num_episodes=2)
    assert len(frames) == 2 * (26 + 8)
    assert {frame.shape for frame in frames} == {(4, 6, 3)}
    assert [int(frame.mean()) for frame in frames] == [0] * 34 + [1] * 34, "one episode after the other"
    world, total = Spread(2, 3), 0.0
    world.reset()
    half = len(drawn) // 2
    for step in range(26):
        title, landmarks = drawn[2 * step + 1]
        assert title == f"rest: reward {total:.1f}"
        np.testing.assert_array_equal(landmarks, world.landmarks[1])
        np.testing.assert_array_equal(drawn[half + 1][1], landmarks)
        total += world.step(np.zeros((2, 3), dtype=int))[1][1].mean()
    assert drawn[half][0] == "best: reward 0.0"


def test_the_film_is_of_the_untrained_team_and_of_the_trained_one(tmp_path, monkeypatch):
    shown = []

    def frames(acts, seed):
        shown.append((acts, seed))
        return [np.zeros((4, 6, 3), dtype=np.uint8)] * 2

    monkeypatch.setattr(team, "film_frames", frames)
    monkeypatch.setattr(team, "sampled", lambda actor, rng: actor)
    log, _ = measured(tmp_path, evidence.film_spread, lesson.Config(seed=3), spread_central="trained")
    ((acts, seed),) = shown
    assert list(acts) == ["before", "after"]
    assert acts["after"] == "trained"
    assert np.abs(acts["before"](np.ones((2, 3, 14), dtype=np.float32))).max() < 0.1, "all actions alike"
    assert seed not in range(1000), "seeds of training are small numbers"
    assert [path.name for path in log.figures] == ["E9_film.gif"]


def test_agents_and_landmarks_are_drawn_where_they_are():
    world = lone(
        {"agents": [[-0.9, 0.9], [0.0, 0.0], [5.0, 0.0]], "landmarks": [[0.9, -0.9], [0.5, 0], [-0.5, 0]]}
    )
    picture = team.draw_world(world, 0, "before: reward 0.0")
    height, width, _ = picture.shape
    assert (height, width) == (344, 300)

    def at(x, y):
        return tuple(picture[round(44 + 150 - 150 * y / 1.35), round(150 + 150 * x / 1.35)])

    assert at(-0.9, 0.9) == at(-0.9 + 0.14, 0.9) == (0, 114, 178), "blue, as large as it is"
    assert at(-0.9 + 0.17, 0.9) == (255, 255, 255)
    assert at(0, 0) == (230, 159, 0)
    assert at(0.9, -0.9) == at(0.5, 0) == (0, 0, 0)


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
    for run in runs:
        learned = [run["return_own"], run["return_central"]]
        assert min(learned) > run["return_nearest"], '"with either critic"'
        assert run["return_numbered"] < run["return_nearest"], '"with lists by number they do not"'
        assert max(learned) < run["return_assigned"], '"less than with a landmark each"'
        apart = abs(learned[0] - learned[1])
        assert 2 * apart < run["return_own"] - run["return_numbered"], '"the view sets teams apart"'


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


# What its claims measure


def measured(folder, claim, *given, **kept) -> tuple[RunLog, dict]:
    """(the log, the values of its claims) after one of the functions that make them."""
    log = RunLog(folder, "E9")
    log.keep(**kept)
    claim(*given, log)
    log.close()
    return log, {one.name: one.value for one in log.claims}


def test_the_lessons_claims_are_of_what_they_name(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "draw", lambda *_: None)
    monkeypatch.setattr(lesson, "orbit", lambda *_, **__: np.array([[0.4, 0.1], [0.5, 0.1], [0.4, 0.2]]))
    cfg = lesson.Config(num_iterations=300, num_starts=3)
    log, values = measured(tmp_path / "0", lesson.main, cfg)
    before, grown = 0.17 + 0.05 * 0.04, 0.26 + 0.05 * 0.05  # x^2 + y^2 + eta x y, least and most
    assert values["closed_orbit"] == pytest.approx((grown - before) / before)
    losses = {name: [lesson.nash_conv(part) for part in parts] for name, parts in log.kept.items()}  # [K, R]
    assert values["regret_average"] == pytest.approx(np.median(losses["regret"][1][-1]))
    assert values["magnet_last"] == pytest.approx(np.median(losses["magnet"][0][-1]))
    late = np.array(lesson.points(300)) >= 30
    assert values["gradient_circles"] == pytest.approx(
        np.median(np.median(losses["gradient"][0][late], axis=1))
    )
    assert log.kept["magnet"][0].shape[1] == 3
    other, _ = measured(tmp_path / "1", lesson.main, lesson.Config(seed=1, num_iterations=20, num_starts=3))
    assert not np.allclose(other.kept["magnet"][0][0], log.kept["magnet"][0][0]), "the seed is asked"


@pytest.mark.parametrize("which", ["none", "at once", "in turns", "with a magnet"])
def test_each_of_the_pennies_identities_counts(which, tmp_path, monkeypatch):
    orbit = lesson.orbit

    def wrong(start, num_steps, eta, pull=0.0, turns=False):
        here = "in turns" if turns else "with a magnet" if pull else "at once"
        return orbit(start, num_steps, eta=eta, pull=pull, turns=turns) + (here == which) * np.array(
            [0, 0.01]
        )

    monkeypatch.setattr(lesson, "orbit", wrong)
    _, values = measured(tmp_path, evidence.claim_pennies, evidence.Config(pennies_steps=20))
    assert (values["pennies_identities"] > 1e-3) == (which != "none")
    assert (values["pennies_identities"] < 1e-9) == (which == "none")


def test_exact_peers_that_differ_are_noticed(tmp_path, monkeypatch):
    some = np.random.default_rng(0).random((3, 2, 4, 3, 4))  # of learners, of last and average, of starts
    some = 0.3 * some + 0.7 * kuhn.equilibrium(0.2)  # as near an equilibrium as averages are
    kept = {name: (one[:1], one[None, 1]) for name, one in zip(lesson.LEARNERS, some)}
    shares = [
        abs(kuhn.value(one, one) + 1 / 18) / lesson.nash_conv(one) for one in some[:, 1].reshape(-1, 3, 4)
    ]
    given = evidence.claim_exact, lesson.Config()
    _, values = measured(tmp_path / "right", *given, **kept)
    assert values["value_within"] == pytest.approx(max(shares))
    assert max(values["nash_conv_is_exact"], values["regret_is_exact"]) < 1e-12
    exploitability, regret = kuhn.exploitability, kuhn.counterfactual_regret
    asked = []

    def wrong_once(strategy):
        asked.append(1)
        return exploitability(strategy) + 0.1 * (len(asked) == 10)

    monkeypatch.setattr(kuhn, "exploitability", wrong_once)
    monkeypatch.setattr(
        kuhn, "counterfactual_regret", lambda num: regret(num) - 0.3 * (np.eye(3, 4)[::-1] > 0)
    )
    _, values = measured(tmp_path / "wrong", *given, **kept)
    assert values["nash_conv_is_exact"] == pytest.approx(0.2)
    assert values["regret_is_exact"] == pytest.approx(0.3)


def test_rates_are_of_the_metrics_that_they_name(tmp_path, monkeypatch):
    """Falls as t^-0.7 from iteration 100 on, and does not fall before."""

    def claim(log):
        for t in lesson.points(10_000):
            log.write(t, regret_average=max(t, 100) ** -0.7, gradient_last=0.5 + 0.1 * (t > 9000))
            log.write(t, gradient_average=0.1 * (1 + (t < 10_000)), magnet_last=1 / t, regret_last=0.4)
        evidence.claim_rates(lesson.Config(seed=4), evidence.Config(plus_iterations=7), log)

    strategies, asked = some_strategies(1, 5), []
    monkeypatch.setattr(evidence, "play_plus", lambda *given: asked.append(given) or strategies)
    log, values = measured(tmp_path, claim)
    assert values["regret_slope"] == pytest.approx(-0.7)
    plus = np.median(lesson.nash_conv(strategies))
    assert log.metrics["plus_average"] == [(7, pytest.approx(plus))]
    assert values["plus_is_faster"] == pytest.approx(plus / 10_000**-0.7)
    assert values["gradient_average"] == pytest.approx(0.1 / 0.5)
    ((start, num_iterations),) = asked
    assert num_iterations == 7
    np.testing.assert_array_equal(start, np.random.default_rng(4).normal(size=(8, 3, 4, 2)))  # as `main`'s


def test_self_play_with_ppo_is_judged_by_its_strategies_and_their_lot(tmp_path, monkeypatch):
    """Moves that are known; games in which jacks open and the second player, a king, folds."""
    games = np.array([0, 2]), np.array([0, 2]), np.array([True, False]), np.array([1, -1])
    moves, seen, critics = np.random.default_rng(0).normal(size=(20, 3, 4)), [], []

    def update(logits, played, critic, eta):
        assert played is games
        assert eta == 0.7
        critics.append(critic.copy())
        return moves[len(critics) - 1]

    def play(strategy, num_games, rng):
        seen.append(strategy)
        return games

    monkeypatch.setattr(evidence, "ppo_update", update)
    monkeypatch.setattr(evidence, "play_games", play)
    extra = evidence.Config(ppo_updates=20, ppo_games=9, ppo_eta=0.7)
    log, values = measured(tmp_path / "0", evidence.claim_ppo, lesson.Config(), extra)
    np.testing.assert_allclose(seen[1:], 1 / (1 + np.exp(-moves[:19])))
    for what, found in (
        ("ppo_last", lambda all: all[-1]),
        ("ppo_average", lambda all: kuhn.drawn_by_lot(np.array(all))),
    ):
        steps, losses = log.series(what)
        assert steps == lesson.points(20)
        expected = [lesson.nash_conv(found(seen[:step])) for step in steps]
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
    for number, critic in enumerate(critics):  # a tenth of the way to what was won, where something was
        expected = np.zeros((3, 4))
        expected[[0, 2], [0, 2]] = np.array([1, -1]) * (1 - 0.9**number)
        np.testing.assert_allclose(critic, expected, atol=1e-12)
    late = np.median(log.series("ppo_last")[1])
    assert values["ppo_circles"] == pytest.approx(late)
    assert values["ppo_average"] == pytest.approx(log.last("ppo_average") / late)
    first = seen[0]
    seen.clear(), critics.clear()
    measured(tmp_path / "1", evidence.claim_ppo, lesson.Config(seed=1), extra)
    assert not np.allclose(first, seen[0]), "the seed is asked"


def test_late_strategies_are_those_of_the_last_nine_tenths(tmp_path, monkeypatch):
    def play(cfg, extra, log):
        for update in range(1, 21):
            log.write(update, ppo_last=5.0 if update < 2 else 0.1 * update, ppo_average=0.3)

    monkeypatch.setattr(evidence, "play_ppo", play)
    _, values = measured(tmp_path, evidence.claim_ppo, lesson.Config(), evidence.Config(ppo_updates=20))
    assert values == {"ppo_circles": pytest.approx(1.1), "ppo_average": pytest.approx(0.3 / 1.1)}


def test_noise_and_means_of_both_credits_are_compared(tmp_path, monkeypatch):
    extra, given = evidence.Config(num_teams=3), (evidence.claim_credit, lesson.Config(seed=2))
    log, values = measured(tmp_path / "right", *given, extra)
    rng, ratios = np.random.default_rng((2, 3)), []
    for _ in range(3):
        pair = rng.dirichlet(np.ones(3), 2)
        own, central = (one(*pair) for one in (evidence.own_credit, evidence.central_credit))
        ratios.append(credit_gradient(central, *pair)[1] / credit_gradient(own, *pair)[1])
    assert log.last("quieter") == pytest.approx(np.mean(np.array(ratios) < 1))
    assert log.last("loudest") == pytest.approx(max(ratios))
    assert values["same_gradient"] < 1e-12
    wrong = evidence.CLIMBING.T  # depends on the first one's action: no baseline
    monkeypatch.setattr(evidence, "central_credit", lambda first, second: evidence.CLIMBING - wrong)
    assert measured(tmp_path / "wrong", *given, extra)[1]["same_gradient"] > 0.1


def test_ends_of_teams_are_counted_by_kind(tmp_path, monkeypatch):
    ends = {
        "alone": [11, 7, 5, 5],
        "independent": [7, 7, 7, 5],
        "optimistic": [11, 11, 11, 7],
        "joint": [11, 11, 0, 0],
    }
    climbed, learned = [], []

    def climb(starts, eta, num_steps):
        climbed.append((starts, eta, num_steps))
        return np.array([11.0, 11, 11, 6]) if len(starts) == 1 else np.array(ends["alone"]) - 0.2

    def learn(kind, num_teams, num_episodes, rng):
        learned.append((kind, num_teams, num_episodes))
        return np.array(ends[kind], dtype=float)

    monkeypatch.setattr(evidence, "climb", climb)
    monkeypatch.setattr(evidence, "learn_from_samples", learn)
    extra = evidence.Config(num_teams=4, climb_steps=9, climb_eta=0.2, climb_episodes=6)
    log, values = measured(tmp_path, evidence.claim_climbing, lesson.Config(), extra)
    for kind, rewards in ends.items():
        for reward in (11, 7, 5):
            assert log.last(f"{kind}_{reward}") == rewards.count(reward) / 4, (kind, reward)
    assert values == {"jointly_best": 0.75, "alone_misses": 0.25, "optimists_find_it": 0.75}
    assert learned == [(kind, 4, 6) for kind in ("independent", "optimistic", "joint")]
    ((alone, *how), (pairs, *same)) = climbed
    assert how == same == [0.2, 9]
    for team_pairs, first, second in zip(pairs[0], *alone):  # the joint policy starts where both alone do
        np.testing.assert_allclose(team_pairs.reshape(3, 3), np.outer(first, second))


def test_policies_for_landmarks_are_judged_in_the_same_worlds_which_nobody_trained_in(tmp_path, monkeypatch):
    asked, trained = [], []
    fixed = {team.to_nearest: -14.0}
    monkeypatch.setattr(team, "at_random", lambda rng: "random")
    monkeypatch.setattr(team, "assigned", lambda: "assigned")
    judged = []

    def sampled(actor, rng, by_number):
        judged.append(by_number)
        return actor

    monkeypatch.setattr(team, "sampled", sampled)

    def train(central, num_updates, num_worlds, seed, by_number):
        trained.append((central, num_updates, num_worlds, seed, by_number))
        return ("by number" if by_number else f"central {central}"), [-20.0] * 10 + [-19.0 + central, -18.0]

    def mean_return(act, num_worlds, seed):
        asked.append((num_worlds, seed))
        known = {"random": -24.0, "assigned": -6.0, "central False": -12.0, "central True": -13.0}
        known["by number"] = -19.0
        return known[act] if act in known else fixed[act]

    monkeypatch.setattr(team, "train", train)
    monkeypatch.setattr(team, "mean_return", mean_return)
    extra = evidence.Config(spread_updates=12, spread_worlds=5, spread_tests=30)
    log, values = measured(tmp_path, evidence.claim_spread, lesson.Config(seed=3), extra)
    assert trained == [(False, 12, 5, 3, False), (True, 12, 5, 3, False), (False, 12, 5, 3, True)]
    assert judged == [False, False, True], "a policy is judged by the lists it was trained with"
    assert set(asked) == {(30, asked[0][1])}
    assert asked[0][1] not in range(1000), "seeds of training are small numbers"
    assert values == {
        "assignment_is_ahead": 8.0,
        "ahead_of_nearest": 1.0,
        "nearest_first": 7.0,
        "critics_alike": pytest.approx(1 / 18),
    }
    assert log.series("spread_own") == ([10, 12], [-20.0, -18.5])
    assert log.series("spread_central") == ([10, 12], [-20.0, -18.0])
    names = ("random", "nearest", "assigned", "own", "central", "numbered")
    assert [log.last(f"return_{name}") for name in names] == [-24.0, -14.0, -6.0, -12.0, -13.0, -19.0]
    assert log.kept["spread_central"] == "central True"
