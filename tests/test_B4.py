"""B4's learner on the probe environments, whole, and wrong on them once edited; its evidence's verdicts."""

import itertools
import math

import numpy as np
import pytest
import stable_baselines3
import torch
from spies import assert_seeds_apart, each_probe, race, watch_adam, watch_seeds, weights

from chapters.B_core_algorithms import B4_dqn_from_scratch as lesson
from chapters.B_core_algorithms.checks import B4_probes as probes
from chapters.B_core_algorithms.checks.B4 import EDITS
from chapters.B_core_algorithms.evidence import B4 as evidence
from chapters.envs import evaluate, exploration, make_envs
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.probes import make_probe
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def wrongness(module, probe, folder):
    """Largest error in value over the probe's observations; infinite if an action is wrong."""
    log = RunLog(folder, "B4")
    found = probes.wrongness(module, probe, log)
    log.close()
    return found


@each_probe(probes.ANSWERS)
@pytest.mark.parametrize(
    "edit", [None, *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "dueling"))]
)
def test_learner_solves_probe(probe, edit, tmp_path):
    module = edited(lesson, EDITS[edit]) if edit else lesson
    tolerance = 0.5 if probe == "Endless" else 0.1
    assert wrongness(module, probe, tmp_path) < tolerance


def cut_short_value(module, folder):
    """Q(0) after training on `CutShort`; the truth is gamma."""
    log = RunLog(folder, "B4")
    agent = module.train(module.Config(**probes.QUICK), log, envs=make_probe("CutShort", 4))
    log.close()
    assert agent.best is None, "injected environments are trained on, not evaluated on"
    with torch.inference_mode():
        return float(agent.online(torch.tensor([0.0])).max())


def test_true_successor_is_bootstrapped(tmp_path):
    assert abs(cut_short_value(lesson, tmp_path) - probes.GAMMA) < 0.05


@pytest.mark.parametrize("name", ["after_the_reset", "merged"])
def test_wrong_successor_is_noticed(name, tmp_path):
    assert abs(cut_short_value(edited(lesson, EDITS[name]), tmp_path) - probes.GAMMA) > 0.1


FAILS_IN = {  # edit -> the probe that notices it
    "merged": "Endless",
    "minus_the_future": "DelayedReward",
    "no_terminal": "DelayedReward",
    "never_synced": "Endless",
    "stores_obs": "DelayedReward",
    "first_action_only": "ActionMatters",
    "no_step": "ConstantReward",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILS_IN)
def test_probe_notices_the_edit(name, tmp_path):
    probe = FAILS_IN[name]
    assert wrongness(edited(lesson, EDITS[name]), probe, tmp_path) > 0.5


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (None, 100.0),
        ("merged", 1 / (1 - 0.9 * 0.99)),
        ("after_the_reset", 100.0),  # the probe's states look alike: CutShort notices
        ("masks_reward", 100.0),  # nothing ends here
    ],
)
def test_endless_value_tells_a_limit_from_an_end(edit, expected):
    module = edited(lesson, EDITS[edit]) if edit else lesson
    assert evidence.endless_value(module, lesson.Config()) == pytest.approx(expected, abs=0.01)


def check_falling(falling):
    assert falling(0, 1000, 0.1) == 1.0
    assert math.isclose(falling(250, 1000, 0.2), 0.8)
    assert math.isclose(falling(1000, 1000, 0.1), 0.1)
    assert math.isclose(falling(50_000, 1000, 0.1), 0.1)
    values = [falling(step, 300, 0.04) for step in range(400)]
    assert values == sorted(values, reverse=True)


def test_epsilon_falls_in_a_line_to_its_floor():
    check_falling(exploration.falling)
    for old, new in (
        ("1.0 - (1.0 - end) * step", "1.0 + (1.0 - end) * step"),
        ("1.0 - (1.0 - end) * step", "1.0 - step"),
        ("return max(end,", "return max(0.0,"),
    ):
        with pytest.raises(AssertionError):
            check_falling(edited(exploration, Edit("falling", old, new, "a wrong line")).falling)


def check_judged_value(judged_value):
    rng = np.random.default_rng(8)
    chooser, judge = rng.normal(size=(2, 40, 6))
    by_hand = [judge[i][max(range(6), key=lambda a: chooser[i][a])] for i in range(40)]
    assert np.allclose(judged_value(chooser, judge, rng), by_hand)
    # one table in both roles is Q-learning's maximum
    assert np.allclose(judged_value(judge, judge, rng), judge.max(axis=1))
    # ties fall to chance: of two equal favourites the judge's values average out
    chooser, judge = np.zeros((20_000, 2)), np.tile([0.0, 1.0], (20_000, 1))
    assert abs(judged_value(chooser, judge, rng).mean() - 0.5) < 0.02


def test_the_judge_values_what_the_chooser_likes():
    check_judged_value(evidence.judged_value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epsilon_greedy(chooser, 0.0, rng)]", "epsilon_greedy(judge, 0.0, rng)]"),
        ("return judge[np.arange(len(judge)),", "return chooser[np.arange(len(judge)),"),
        ("epsilon_greedy(chooser, 0.0, rng)]", "chooser.argmax(axis=1)]"),
    ],
    ids=["the judge chooses", "the chooser judges", "the first maximum wins ties"],
)
def test_a_wrong_judge_is_noticed(old, new):
    wrong = edited(evidence, Edit("judged_value", old, new, "a wrong judge"))
    with pytest.raises(AssertionError):
        check_judged_value(wrong.judged_value)


def test_two_state_world_agrees_with_one_learner_at_a_time():
    """The batched world against one written with loops, for both methods, in their mean over runs."""
    rng = np.random.default_rng(0)
    for double in (False, True):
        batched = evidence.two_state_world(double, 2000, rng)[:40]
        looped = np.mean([one_learner(double, 40, rng) for _ in range(400)], axis=0)
        assert np.abs(batched - looped)[-20:].mean() < 0.06


def one_learner(double, num_episodes, rng):
    """Example 6.7 for a single learner, in the words of the book. Whether it went left [episodes]."""
    at_a, at_b = np.zeros((2, 2)), np.zeros((2, 10))

    def one_of(highest):
        places = highest.nonzero()[0]
        return places[rng.integers(len(places))]

    def act(tables):
        total = tables.sum(axis=0)
        if rng.random() < 0.1:
            return rng.integers(len(total))
        return one_of(total == total.max())

    went_left = np.zeros(num_episodes)
    for episode in range(num_episodes):
        action, table = act(at_a), rng.integers(2) if double else 0
        judge = 1 - table if double else 0
        bootstrap = 0.0
        if action == evidence.LEFT:
            went_left[episode] = 1
            best = one_of(at_b[table] == at_b[table].max())
            bootstrap = at_b[judge, best]
        at_a[table, action] += 0.1 * (bootstrap - at_a[table, action])
        if action == evidence.LEFT:
            bad, table = act(at_b), rng.integers(2) if double else 0
            at_b[table, bad] += 0.1 * (rng.normal(-0.1, 1.0) - at_b[table, bad])
    return went_left


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([10, 475, 500, 20], (2.0, 2 / 3)),
        ([500, 500, 500, 500], (1.0, 1.0)),
        ([10, 20, 30, 474.9], (math.inf, 0.0)),
        ([10, 20, 30, 480], (4.0, 1.0)),
    ],
)
def test_first_crossing(returns, expected):
    assert evidence.first_crossing(race("x", returns, [1.0, 2.0, 3.0, 4.0]), "x") == pytest.approx(expected)


def test_summary_is_a_ratio_of_medians_and_favours_the_library(tmp_path):
    """A library's run that never crosses counts as if it had at its end; one of ours counts as infinite."""
    runs = []
    for ours, theirs in (([500, 500], [0, 500]), ([0, 500], [0, 0]), ([0, 0], [500, 500])):
        metrics = {}
        for name in evidence.LABELS:
            metrics |= race(
                name, theirs if name == "sb3" else ours, [4.0, 8.0] if name == "sb3" else [1.0, 2.0]
            )
            metrics[f"{name}_q_of_start"] = [(0, 120.0 if name == "plain" else 90.0)]
            metrics[f"{name}_value_of_start"] = [(0, 80.0)]
        runs.append({"seed": len(runs), "config": {}, "metrics": metrics, "claims": {}})
    log = RunLog(tmp_path, "B4")
    evidence.summarise(runs, log)
    log.close()
    claims = {claim.name: claim for claim in log.claims}
    # median of (1, 2, inf) over median of (8, 8, 4)
    assert claims["cpu_seconds_ratio"].value == pytest.approx(2.0 / 8.0)
    assert claims["cpu_seconds_ratio"].timed
    assert claims["plain_overestimates_more"].value == 1.0
    assert claims["double_lasts_longer"].value == 1.0, "no difference: every sign gives as much"
    assert [path.name for path in log.figures] == ["B4.png", "B4_race.png", "B4_truth.png"]


def test_chance_of_more_counts_sign_flips():
    assert evidence.chance_of_more(np.array([1.0, 1.0, 1.0])) == 1 / 8
    assert evidence.chance_of_more(np.array([1.0, -1.0])) == 3 / 4
    assert evidence.chance_of_more(np.array([0.0, 2.0])) == 1 / 2


# Measuring and glue

BRIEF = lesson.Config(
    seed=3, num_envs=4, num_env_steps=80, num_warmup_steps=16, num_exploration_steps=40, num_evaluations=4,
    minibatch_size=8, hidden_size=8, sync_every=5, average_rate=0.25,
)  # fmt: skip


def test_training_selection_and_report_use_different_seeds(tmp_path, monkeypatch):
    assert_seeds_apart(monkeypatch, lesson, RunLog(tmp_path, "B4", smoke=True))


def test_the_first_of_equal_checks_is_kept_and_checks_act_greedily(tmp_path, monkeypatch):
    """Scores 1, 3, 3, 2 of the average: the second's weights are the best, and stay as they were."""
    _, evaluated = watch_seeds(monkeypatch, lesson, [1.0, 3.0, 3.0, 2.0])
    seen, obs = [], np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    score = lesson.greedy_return

    def watched(network, seed):
        seen.append((network, weights(network)))
        found = score(network, seed)
        likeliest = network(torch.from_numpy(obs)).argmax(-1).numpy()
        np.testing.assert_array_equal(evaluated[-1][1](obs), likeliest)
        return found

    monkeypatch.setattr(lesson, "greedy_return", watched)
    log = RunLog(tmp_path, "B4")
    agent = lesson.train(BRIEF, log)
    log.close()
    assert log.series("double_return") == ([20, 40, 60, 80], [1.0, 3.0, 3.0, 2.0])
    assert all(network is agent.average for network, _ in seen)
    assert torch.equal(weights(agent.best), seen[1][1])
    assert not torch.equal(seen[1][1], seen[2][1])
    assert agent.best_return == 3.0


def test_rounds_go_on_explore_less_and_learn_after_the_warm_up(tmp_path, monkeypatch):
    watch_seeds(monkeypatch, lesson)
    steps = watch_adam(monkeypatch, lesson)
    rounds = []
    collect = lesson.collect

    def watched(agent, envs, obs, epsilon):
        rounds.append((obs.copy(), epsilon, len(steps)))
        after = collect(agent, envs, obs, epsilon)
        rounds[-1] += (after.copy(),)
        return after

    monkeypatch.setattr(lesson, "collect", watched)
    log = RunLog(tmp_path, "B4")
    agent = lesson.train(BRIEF, log)
    log.close()
    for (*_, after), (before, *_) in itertools.pairwise(rounds):
        np.testing.assert_array_equal(after, before)
    # from 1 in a line to 0.04 after 40 of 80 steps, four steps a round
    expected = [max(0.04, 1 - 0.96 * 4 * (i + 1) / 40) for i in range(20)]
    assert [epsilon for _, epsilon, *_ in rounds] == pytest.approx(expected)
    assert [learned for _, _, learned, _ in rounds] == [0, 0, 0, 0, *range(1, 17)], "16 transitions first"
    assert (len(agent.buffer), agent.num_updates, len(steps)) == (80, 17, 17)
    assert agent.num_episodes == log.last("double_episodes")


def test_gradients_are_clipped_and_slower_weights_follow_in_their_time(monkeypatch):
    steps = watch_adam(monkeypatch, lesson)
    envs = make_envs("CartPole-v1", 4)
    obs, _ = envs.reset(seed=0)
    torch.manual_seed(0)
    agent = lesson.Agent(envs, BRIEF)
    for _ in range(4):
        obs = lesson.collect(agent, envs, obs, 1.0)
    agent.buffer.arrays["obs"] *= 1000.0  # gradients far beyond the bound
    agent.buffer.arrays["rewards"] *= 1e6
    average, target = weights(agent.average), weights(agent.target)
    for number in range(1, 11):
        lesson.update(agent, BRIEF)
        average = average + 0.25 * (weights(agent.online) - average)
        target = weights(agent.online) if number % 5 == 0 else target
        torch.testing.assert_close(weights(agent.average), average)
        assert torch.equal(weights(agent.target), target)
    assert [norm for _, norm in steps] == pytest.approx([10.0] * 10, rel=1e-3)


def test_what_a_network_believes_of_its_start_and_what_it_earns():
    """Always pushing left; Q-values 5 and 3: believed 5, and paid a reward for each step."""

    def network(obs):
        return torch.tensor([[5.0, 3.0]]).repeat(len(obs), 1)

    cfg = lesson.Config(seed=3, gamma=0.5)
    believed, earned = evidence.start_values(network, cfg)
    envs = BatchedCartPole(50, max_episode_steps=1501)
    lengths = evaluate(lambda obs: np.zeros(len(obs), dtype=int), envs=envs, seed=30_003)
    assert believed == 5.0
    assert earned == pytest.approx(np.mean((1 - 0.5**lengths) / (1 - 0.5)))
    short = evidence.start_values(network, cfg, num_steps=3)[1]
    assert short == pytest.approx(1.75)


def test_each_row_is_trained_as_its_settings_say(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(lesson, "train", lambda cfg, log, name: trained.append((cfg, name)))
    cfg, log = (
        lesson.Config(num_envs=4, num_env_steps=4000, num_exploration_steps=1000),
        RunLog(tmp_path, "B4"),
    )
    for name, variant in evidence.VARIANTS.items():
        if variant.edits or name == "double":
            continue
        evidence.train_variant(name, cfg, log)
        found, called = trained.pop()
        assert called == name
        settings = dict(variant.settings)
        assert {key: getattr(found, key) for key in settings} == settings
        if variant.one_env:  # as many rounds, each with one step
            assert (found.num_envs, found.num_env_steps, found.num_exploration_steps) == (1, 1000, 250)
    log.close()


def test_the_library_is_checked_after_each_round_of_gradient_steps(tmp_path, monkeypatch):
    """And it is given what rl-zoo lists for CartPole (raffin2020zoo, dqn.yml)."""
    seeds, given = [], {}

    class Watched(stable_baselines3.DQN):
        def __init__(self, *arguments, **settings):
            given.update(settings)
            super().__init__(*arguments, **settings)

        def train(self, *arguments, **settings):
            """Nothing is learnt here."""

    monkeypatch.setattr(stable_baselines3, "DQN", Watched)
    monkeypatch.setattr(lesson, "greedy_return", lambda network, seed: seeds.append(seed) or 7.0)
    log = RunLog(tmp_path, "B4")
    evidence.train_sb3(lesson.Config(seed=3), evidence.Config(num_sb3_steps=1100), log)
    log.close()
    assert log.series("sb3_return")[0] == [512, 1024, 1100]
    assert set(seeds) == {10_003}
    assert log.last("sb3_cpu_seconds") > 0
    assert given == {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000,
        "gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128,
        "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]}, "seed": 3, "device": "cpu",
    }  # fmt: skip
