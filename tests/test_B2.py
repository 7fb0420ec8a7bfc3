"""B2: the batched Blackjack against gymnasium's, and the learners against exact values."""

import itertools
import math

import gymnasium as gym
import numpy as np
import pytest

from chapters.B_core_algorithms import B2_monte_carlo_methods as lesson
from chapters.B_core_algorithms.checks.B2 import EDITS
from chapters.B_core_algorithms.evidence import B2 as evidence
from chapters.envs import blackjack, random_walk
from chapters.envs.blackjack import HIT, SHAPE, STICK
from chapters.exact.blackjack import policy_loss, policy_values, solve_blackjack
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


class OneCardAtATime:
    """Stands in for a random generator: hands the same cards to both implementations."""

    def __init__(self, cards):
        self.cards = iter(cards)

    def choice(self, options):  # gymnasium draws a card by its value, and suits for its pictures
        return options[0] if isinstance(options[0], str) else next(self.cards)

    def integers(self, low, high, size):  # ours draws a rank; for the values 1 to 10 rank and value agree
        return np.array([next(self.cards) for _ in range(size)], dtype=int)


@pytest.mark.parametrize("seed", range(10))
def test_same_cards_same_hand(seed):
    """Observation, reward and end of every step equal gymnasium's when both are dealt the same cards."""
    rng = np.random.default_rng(seed)
    theirs = gym.make("Blackjack-v1", natural=False, sab=False).unwrapped
    theirs.reset(seed=0)
    for _ in range(100):
        dealer, player, rest = rng.integers(1, 11, 2), rng.integers(1, 11, 2), rng.integers(1, 11, 30)
        theirs.np_random = OneCardAtATime([*dealer, *player, *rest])
        expected, _ = theirs.reset()
        env = blackjack.BatchedBlackjack(1, OneCardAtATime([*dealer, *player, *rest]))
        ours = env.reset()
        done = False
        while not done:
            assert [int(part[0]) for part in ours] == [int(expected[2]), expected[1], expected[0]]
            action = int(rng.random() < 0.6)
            expected, reward, done, _, _ = theirs.step(action)
            ours, rewards, ended = env.step(np.array([action]))
            assert (rewards[0], ended[0]) == (reward, done)


def test_cards_come_as_from_an_infinite_deck():
    cards = blackjack.BatchedBlackjack(1, np.random.default_rng(0)).draw(130_000)
    shares = np.bincount(cards, minlength=11)[1:] / len(cards)
    assert np.abs(shares - blackjack.CARD_PROBABILITIES).max() < 5 * 0.5 / np.sqrt(len(cards))


def test_ended_hands_stay_as_they_are():
    env = blackjack.BatchedBlackjack(1000, np.random.default_rng(1))
    env.reset()
    _, first, done = env.step(np.arange(1000) % 2)
    assert done[::2].all()
    before = [part[done].copy() for part in env.obs()]
    _, second, _ = env.step(np.ones(1000, dtype=int))
    assert (second[done] == 0).all()
    assert all((old == new[done]).all() for old, new in zip(before, env.obs()))
    assert np.abs(first).max() == 1


def test_hands_follow_the_policy_and_pay_at_their_end():
    rng = np.random.default_rng(5)
    policy = rng.integers(2, size=SHAPE)
    policy[1, 10, 21] = 1  # the last entry, which index -1 reads
    starts = tuple(rng.integers((0, 1, 12), (2, 11, 22), (20_000, 3)).T)
    first = rng.integers(2, size=20_000)
    for start, first_actions in ((None, None), (starts, first), (starts, None)):
        states, actions, rewards = blackjack.play_hands(policy, 20_000, rng, start, first_actions)
        running = states >= 0
        assert running[0].all()
        assert (running[1:] <= running[:-1]).all()
        assert (rewards[~running] == 0).all()
        assert (actions[~running] == 0).all()
        last = running & ~np.vstack([running[1:], np.zeros((1, 20_000), dtype=bool)])
        assert (rewards[running & ~last] == 0).all()
        assert (actions[running & ~last] == HIT).all()  # only a hit goes on
        follows = running.copy()
        if start is not None:
            assert (states[0] == np.ravel_multi_index(start, SHAPE)).all()
        if first_actions is not None:
            follows[0] = False
            assert (actions[0] == first_actions).all()
        np.testing.assert_array_equal(actions[follows], policy.ravel()[states[follows]])
        # a hit that ends a hand went bust; a stick pays the sign of the comparison
        assert (rewards[last & (actions == HIT)] == -1).all()
        stuck = last & (actions == STICK)
        noise = rewards[stuck] - solve_blackjack()[STICK].ravel()[states[stuck]]
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(noise.size)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.where(running, actions, 0)", "actions"),
        ("if steps or first_actions is None else", "if first_actions is None else"),
        ("steps.append((state, np.where(running, actions, 0), rewards))",
         "steps.append((state, np.where(running, actions, 0), 0 * rewards))"),
        ("env.reset(start)", "env.reset()"),
    ],
    ids=["actions after the end", "first actions for ever", "rewards lost", "starts where it likes"],
)  # fmt: skip
def test_wrong_hands_are_noticed(old, new, monkeypatch):
    monkeypatch.setattr(blackjack, "play_hands", edited_one(blackjack, "play_hands", old, new).play_hands)
    with pytest.raises((AssertionError, IndexError)):
        test_hands_follow_the_policy_and_pay_at_their_end()


def edited_one(module, function, old, new):
    return edited(module, Edit(function, old, new, "wrong"))


def check_walk_episodes(walk_episodes):
    walk, rewards, lengths = walk_episodes(5, 4000, np.random.default_rng(8))
    assert (walk[0] == 3).all()
    for run in range(100):
        path, end = walk[:, run], lengths[run]
        assert set(np.abs(np.diff(path[: end + 1]))) == {1}
        assert (path[:end] % 6 != 0).all()
        assert path[end] in (0, 6)
        assert (path[end:] == path[end]).all()
        assert rewards[end - 1, run] == (1 if path[end] == 6 else -1)
        assert np.abs(rewards[:, run]).sum() == 1
    assert abs(rewards.sum(axis=0).mean()) < 5 / np.sqrt(4000)  # left and right are equally likely
    assert abs(lengths.mean() - 9) < 5 * lengths.std() / np.sqrt(4000)  # 3 x 3 steps: gambler's ruin


def check_loop_estimates(loop_estimates):
    """From the same episode lengths, by lists."""
    p, num_experiments, num_episodes = 0.7, 50, 4
    estimates = loop_estimates(p, num_experiments, num_episodes, np.random.default_rng(3))
    lengths = np.random.default_rng(3).geometric(1 - p, num_experiments * num_episodes)
    for e in range(num_experiments):
        first, every = [], []
        for n in range(num_episodes):
            length = int(lengths[e * num_episodes + n])
            first.append(length)
            every.extend(range(1, length + 1))
            np.testing.assert_allclose(estimates[:, e, n], [np.mean(first), np.mean(every)], rtol=1e-12)


def check_expected_loop_estimates(expected_loop_estimates):
    """By summing over the lengths of one, two and three episodes."""
    p = 0.4
    chance = [(1 - p) * p ** (length - 1) for length in range(1, 60)]
    expected = np.zeros((2, 3))
    triples = [(a, b, c) for a in range(1, 26) for b in range(1, 26) for c in range(1, 26)]
    for lengths in triples:
        weight = math.prod(chance[length - 1] for length in lengths)
        for n in range(1, 4):
            steps, returns = sum(lengths[:n]), sum(x * (x + 1) / 2 for x in lengths[:n])
            expected[:, n - 1] += weight * np.array([steps / n, returns / steps])
    np.testing.assert_allclose(expected_loop_estimates(p, 3), expected, rtol=1e-7)


def check_standard_errors(standard_errors):
    sample = np.random.default_rng(7).normal(2.0, 3.0, (40, 5))
    sums = np.stack([np.full(5, 40.0), sample.sum(axis=0), (sample**2).sum(axis=0)])
    np.testing.assert_allclose(standard_errors(sums), sample.std(axis=0, ddof=1) / math.sqrt(40), rtol=1e-9)


def check_importance_returns(importance_returns):
    """Each reward with the product of the ratios up to it; over all action sequences the right mean."""
    rng = np.random.default_rng(2)
    rewards, ratios = rng.normal(size=(6, 4)), rng.uniform(0.2, 3.0, (6, 4))
    for gamma in (0.0, 0.8, 1.0):
        returns = importance_returns(rewards, ratios, gamma)
        for t, i in np.ndindex(6, 4):
            terms = [gamma ** (k - t) * ratios[t : k + 1, i].prod() * rewards[k, i] for k in range(t, 6)]
            assert math.isclose(returns[t, i], sum(terms), abs_tol=1e-12)
    target, behaviour = 0.9, 0.6  # chance of the action that pays 1, over three steps
    mean = 0.0
    for sequence in itertools.product((0, 1), repeat=3):
        good = np.array(sequence)[:, None]
        chance = np.where(good, behaviour, 1 - behaviour).prod()
        ratio = np.where(good, target / behaviour, (1 - target) / (1 - behaviour))
        mean += chance * importance_returns(good.astype(float), ratio, 1.0)[0, 0]
    assert math.isclose(mean, 3 * target, rel_tol=1e-12)


PARTS = {
    "walk_episodes": (random_walk, check_walk_episodes),
    "loop_estimates": (evidence, check_loop_estimates),
    "expected_loop_estimates": (evidence, check_expected_loop_estimates),
    "standard_errors": (evidence, check_standard_errors),
    "importance_returns": (evidence, check_importance_returns),
}


@pytest.mark.parametrize("name", PARTS)
def test_part_meets_its_definition(name):
    module, check = PARTS[name]
    check(getattr(module, name))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("walk_episodes", " - (walk[1:] == 0))", ")"),
        ("walk_episodes", "2 * rng.integers(2, size=num_walks) - 1", "2 * (rng.random(num_walks) < 0.6) - 1"),
        ("walk_episodes", "(num_states + 1) // 2", "num_states // 2"),
        ("loop_estimates", "np.where(running, 0, -1)), running)", "np.where(running, 0, -1)),) * 2"),
        ("loop_estimates", "returns, 0.0).sum(axis=0).reshape(shape).cumsum(axis=1)",
         "returns, 0.0).sum(axis=0).reshape(shape)"),
        ("loop_estimates", "rng.geometric(1 - p,", "rng.geometric(p,"),
        ("expected_loop_estimates", "(n * value + 1) / (n + 1)", "(n * value - 1) / (n - 1 + 1e-9)"),
        ("expected_loop_estimates", "(n * value + 1) / (n + 1)", "(value + 1) / 2 + 0 * n"),
        ("standard_errors", "variance / (count - 1)", "variance"),
        ("standard_errors", " - (sums[1] / count) ** 2", ""),
        ("importance_returns", "ratios[t] * (rewards[t] + gamma * following)",
         "rewards[t] + gamma * ratios[t] * following"),
        ("importance_returns", "ratios[t] * (rewards[t]", "ratios[0] * (rewards[t]"),
    ],
    ids=[
        "left end pays nothing", "drifts", "starts beside the middle", "first-visit twice", "mean of means",
        "wrong lengths", "bias of the wrong sign", "bias that stays", "standard deviation",
        "mean not subtracted", "own ratio forgotten", "always the first ratio",
    ],
)  # fmt: skip
def test_a_wrong_part_is_noticed(name, old, new):
    module, check = PARTS[name]
    with pytest.raises(AssertionError):
        check(getattr(edited_one(module, name, old, new), name))


def test_deviations_are_as_large_as_standard_errors_say(tmp_path):
    policy = (np.indices(SHAPE)[2] < 17).astype(int)
    cfg = lesson.Config(batch_size=20_000, num_doublings=2)
    sums = lesson.evaluate_policy(policy, cfg, RunLog(tmp_path, "B2"), np.random.default_rng(6))
    often = sums[0] > 200
    deviations = sums[1, often] / sums[0, often] - policy_values(policy).ravel()[often]
    scores = deviations / np.maximum(evidence.standard_errors(sums)[often], 1e-9)
    assert often.sum() > 100
    assert np.abs(scores).max() < 5
    assert 0.8 < np.std(scores) < 1.2


def control_loss(module, tmp_path):
    """What the policy learned from 200,000 hands gives away."""
    cfg = module.Config(batch_size=5000, num_control_batches=40)
    policy, _ = module.control(cfg, RunLog(tmp_path, "B2"), np.random.default_rng(0))
    return policy_loss(policy)


def test_control_learns(tmp_path):
    assert control_loss(lesson, tmp_path) < 0.03


@pytest.mark.parametrize("name", ["no_exploring", "no_improvement", "worse_action"])
def test_control_fails_without_its_parts(name, tmp_path):
    assert control_loss(edited(lesson, EDITS[name]), tmp_path) > 0.1


def test_starts_reach_every_state(tmp_path):
    cfg = lesson.Config(batch_size=5000, num_control_batches=2)
    log = RunLog(tmp_path, "B2")

    def visits_of_21(module):
        """How often the first of a hand's states was a 21 without an ace, over all dealer's cards."""
        _, sums = module.control(cfg, log, np.random.default_rng(0))
        return sums[0, STICK, :, 1:, 21].sum()

    assert visits_of_21(lesson) > 1.5 * visits_of_21(edited(lesson, EDITS["starts_never_on_21"]))


def test_most_exact_claims_of_the_text():
    """Every-visit's lead over first-visit in the loop, and the returns of the importance sampling example."""
    estimates = evidence.loop_estimates(0.8, 20_000, 6, np.random.default_rng(0))
    first, every = ((estimates - 5.0) ** 2).mean(axis=1)
    assert (every[:4] < first[:4]).all()
    ratios = np.array([[2.0, 2.0, 0.0, 0.0], [2.0, 0.0, 2.0, 0.0]])  # right-right, right-left, ...
    per_step = evidence.importance_returns(np.ones((2, 4)), ratios, gamma=1.0)[0]
    assert per_step.tolist() == [6.0, 2.0, 0.0, 0.0]
    assert (per_step.mean(), per_step.var()) == (2.0, 6.0)
    whole = ratios.prod(axis=0) * 2.0
    assert whole.tolist() == [8.0, 0.0, 0.0, 0.0]
    assert (whole.mean(), whole.var()) == (2.0, 12.0)


# Measuring and glue


def test_the_error_is_that_of_all_hands_so_far_each_time_they_have_doubled(tmp_path):
    policy, log = solve_blackjack().argmax(axis=0), RunLog(tmp_path, "B2")
    sums = lesson.evaluate_policy(
        policy, lesson.Config(batch_size=2000, num_doublings=3), log, np.random.default_rng(0)
    )
    log.close()
    steps, errors = log.series("blackjack_error")
    assert steps == [2000, 4000, 8000, 16_000]
    estimates = (sums[1] / np.maximum(sums[0], 1)).reshape(SHAPE)
    gaps = (estimates - policy_values(policy))[lesson.PLAYED]
    assert gaps.size == 200
    assert errors[-1] == pytest.approx(math.sqrt(np.mean(gaps**2)))
    assert sums[0].sum() >= 0.9 * 16_000, "nearly every hand has a state that counts"
    assert errors[-1] < errors[0]


def test_the_best_step_size_is_taken_for_each_n(tmp_path, monkeypatch):
    """Errors of E episodes, A step sizes and R runs that are known: 3 + n + the number of the step size."""
    asked = []

    def n_step_td(episodes, n, alphas, num_states):
        asked.append((len(episodes), episodes[0][0].shape[1], n, num_states))
        errors = 3.0 + n + np.arange(len(alphas))[::-1]  # the last is best
        return np.tile(errors[None, :, None], (2, 1, 7))

    monkeypatch.setattr(lesson, "n_step_td", n_step_td)
    log = RunLog(tmp_path, "B2")
    best = lesson.best_walk_errors(lesson.Config(num_walk_runs=11), log, np.random.default_rng(0))
    log.close()
    assert best == {n: 3.0 + n for n in lesson.NUM_AHEAD}
    assert asked == [(10, 11, n, lesson.NUM_WALK_STATES) for n in lesson.NUM_AHEAD]
    steps, errors = log.series(f"walk_error_{lesson.NUM_AHEAD[0]}")
    assert steps == [round(1000 * alpha) for alpha in lesson.ALPHAS]
    assert errors[-1] == 3.0 + lesson.NUM_AHEAD[0]


def test_hands_of_a_coin_tosser_are_weighted_until_they_end_and_no_longer():
    """The mean weight is 1, and weighted returns average the other policy's value."""
    policy, num_hands = np.full(SHAPE, STICK), 20_000
    policy[:, :, :16] = HIT
    start = (0, 5, 13)
    hands = tuple(np.full(num_hands, part) for part in start)
    rewards, ratios = evidence.play_by_coin(policy, hands, np.random.default_rng(4))
    weights = ratios.prod(axis=0)
    assert set(np.unique(ratios)) == {0.0, 1.0, 2.0}
    assert (rewards[:-1] * (ratios[1:] != 1.0) == 0).all(), "no weight after a hand was paid"
    weighted = weights * rewards.sum(axis=0)
    for found, expected in ((weights, 1.0), (weighted, policy_values(policy)[start])):
        assert abs(found.mean() - expected) < 4.5 * found.std() / num_hands**0.5
