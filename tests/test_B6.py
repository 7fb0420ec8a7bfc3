"""Lesson B6: its learner on probes, its two worlds against their definitions, the sum tree by brute force."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from spies import each_probe

from chapters.B_core_algorithms import B6_rainbow as lesson
from chapters.B_core_algorithms.checks.B6 import EDITS
from chapters.B_core_algorithms.evidence import B6 as evidence
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.envs import replay
from chapters.envs.crossing import MOVES, ROAD, Crossing
from chapters.envs.long_chain import LongChain
from chapters.envs.probes import best_values, largest_error, make_probe
from chapters.exact.crossing import crossing_mdp, regret, starts
from chapters.exact.mdp import evaluate_exactly, policy_iteration
from chapters.exact.returns import DICE, Outcome, cdf, return_distributions, uniform_cdf
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def probe_error(module, probe, folder, monkeypatch, max_return=1.0, num_env_steps=6000):
    """Largest error of the greedy value over a probe's observations; infinite where the action is wrong."""
    monkeypatch.setattr(module, "MAX_RETURN", max_return)
    monkeypatch.setattr(module, "WARM_UP", 64)
    monkeypatch.setattr(module, "SYNC", 10)
    log = RunLog(folder, "B6")
    cfg = module.Config(num_env_steps=num_env_steps, gamma=0.9)
    agent = module.train(cfg, log, envs=make_probe(probe, 16))
    log.close()
    agent.online.draw(0.0)

    @torch.inference_mode()
    def judged(obs: float) -> tuple[float, int]:
        q = agent.online.q_values(torch.tensor([[obs]]))
        return float(q.max()), int(q.argmax())

    return largest_error(best_values(0.9)[probe], judged)


@each_probe(["DelayedReward", "ActionMatters"])
def test_learner_solves_the_probe(probe, tmp_path, monkeypatch):
    assert probe_error(lesson, probe, tmp_path, monkeypatch) < 0.15


def stored_discounts(module):
    envs = make_probe("Endless", 2)
    obs, _ = envs.reset(seed=0)
    agent = module.Agent(envs, module.Config())
    for _ in range(25):
        obs = module.collect(agent, envs, obs, 0.0, 0.5)
    return agent.buffer.arrays["discounts"][: len(agent.buffer)]


def test_a_time_limit_keeps_the_guess_and_an_end_does_not():
    """The endless probe is cut every ten steps and never terminates; `merged` takes that for an end."""
    found = stored_discounts(lesson)
    assert found.min() > 0
    assert set(found.round(4).tolist()) == {0.5, 0.25, 0.125}, "sums are shorter before a limit"
    assert stored_discounts(edited(lesson, EDITS["merged"])).min() == 0


def test_the_successor_is_the_one_before_the_reset():
    def successors(module):
        envs = make_probe("CutShort", 2)
        obs, _ = envs.reset(seed=0)
        agent = module.Agent(envs, module.Config(n_steps=1))
        for _ in range(8):
            obs = module.collect(agent, envs, obs, 0.0, 0.9)
        return agent.buffer.arrays["next_obs"][: len(agent.buffer)]

    wrong = successors(edited(lesson, EDITS["next_episode"]))
    assert not np.array_equal(successors(lesson), wrong), '"next_episode" is noticed'


class Numbered(gym.vector.VectorEnv):
    """Two environments whose observations say when they were seen; episodes end at given times."""

    num_envs = 2
    single_observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    single_action_space = gym.spaces.Discrete(2)
    terminated_at, truncated_at = {(4, 0), (9, 1)}, {(6, 1), (8, 0)}  # (time, environment)

    def __init__(self):
        self.time = 0

    def seen(self):
        return np.array([[self.time], [1000 + self.time]], dtype=np.float32)

    def step(self, actions):
        ends = [
            np.array([(self.time, i) in where for i in range(2)])
            for where in (self.terminated_at, self.truncated_at)
        ]
        self.time += 1
        last = np.array([[self.time - 0.5], [self.time + 999.5]], dtype=np.float32)  # before a reset
        return self.seen(), np.array([2.0**self.time, -1.0]), *ends, {"final_obs": last}


def test_what_is_stored_is_the_sum_of_n_rewards_and_what_was_seen_after_the_last():
    """Every stored transition, against the sum written out step by step, across both kinds of end."""
    envs, gamma, n = Numbered(), 0.5, 3
    agent = lesson.Agent(envs, lesson.Config(n_steps=n))
    obs = envs.seen()
    for _ in range(12):
        obs = lesson.collect(agent, envs, obs, 0.0, gamma)
    stored = agent.buffer.arrays
    assert len(agent.buffer) == 2 * (12 - n + 1)
    for row in range(len(agent.buffer)):
        t, i = divmod(row, 2)
        assert stored["obs"][row] == 1000 * i + t
        total, factor = 0.0, 1.0
        for at in range(t, t + n):
            total += factor * (2.0 ** (at + 1) if i == 0 else -1.0)
            factor *= gamma
            ended = (at, i) in envs.terminated_at | envs.truncated_at
            if ended:
                break
        assert stored["returns"][row] == total
        assert stored["discounts"][row] == (0.0 if (at, i) in envs.terminated_at else factor)
        assert stored["next_obs"][row] == 1000 * i + at + (0.5 if ended else 1.0)


# The two worlds


def test_the_road_moves_as_its_arrays_say():
    mdp = crossing_mdp(ROAD, 0.9, 0.25)
    envs = Crossing(4000, ROAD, slip=0.25)
    rng = np.random.default_rng(0)
    envs.reset(seed=1)
    for _ in range(4):
        before, actions = envs.states, rng.integers(len(MOVES), size=4000)
        _, rewards, terminated, _, infos = envs.step(actions)
        after = before.copy()
        reached = infos["final_obs"] if terminated.any() else envs.pictures[envs.states]
        after = np.array(
            [np.flatnonzero((envs.pictures == picture).all(axis=1))[0] for picture in reached[:300]]
        )
        chances = mdp.P[before[:300], actions[:300], after]
        assert (chances > 0).all(), "only what may happen happens"
        np.testing.assert_array_equal(terminated[:300], mdp.terminal[after])
        assert (rewards[:300] == (after < 25)).all(), "the far side pays"
    np.testing.assert_allclose(mdp.P.sum(axis=2), 1.0)


def test_mean_rewards_of_the_road_agree():
    mdp, envs = crossing_mdp(ROAD, 0.9, 0.25), Crossing(50_000, ROAD, slip=0.25)
    envs.reset(seed=1)
    envs.row[:], envs.column[:], envs.phase[:] = 1, 2, 2
    state = envs.states[0]
    _, rewards, terminated, _, _ = envs.step(np.zeros(50_000, dtype=int))
    assert rewards.mean() == pytest.approx(mdp.R[state, 0], abs=0.01)
    assert terminated.mean() == pytest.approx(mdp.P[state, 0] @ mdp.terminal, abs=0.01)


def test_first_states_and_time_limits_of_the_road():
    envs = Crossing(500, ROAD, max_episode_steps=3)
    envs.reset(seed=0)
    assert set(envs.states.tolist()) == set(np.flatnonzero(starts(ROAD)).tolist())
    for step in range(3):
        _, _, terminated, truncated, _ = envs.step(np.full(500, 4))
        assert truncated.any() == (step == 2)
        assert not (truncated & terminated).all() or step < 2


def test_regret_of_the_best_and_of_staying():
    mdp = crossing_mdp(ROAD, 0.97, 0.1)
    V, policy, _ = policy_iteration(mdp)
    assert regret(policy.argmax(axis=1), ROAD, 0.97, 0.1) == pytest.approx(0.0, abs=1e-12)
    stay = np.full(len(V), 4)
    lost = V - evaluate_exactly(mdp, np.eye(5)[stay])
    assert regret(stay, ROAD, 0.97, 0.1) == pytest.approx(starts(ROAD) @ lost)


def test_the_doors_pay_at_the_end_and_for_leaving():
    envs = LongChain(2, 3)
    envs.reset(seed=0)
    paid = []
    for actions in ([1, 1], [1, 0], [1, 1]):
        _, rewards, terminated, truncated, _ = envs.step(np.array(actions))
        paid.append((rewards.tolist(), terminated.tolist()))
        assert not truncated.any()
    assert paid == [([0, 0], [False, False]), ([0, 0.02], [False, True]), ([1, 0], [True, False])]
    assert envs.num_arrivals == 1


# Replay


def brute_force(tree, weights, numbers):
    return np.searchsorted(np.cumsum(weights), numbers, side="right")


def tree_is_right(SumTree):
    rng = np.random.default_rng(4)
    for capacity in (1, 2, 5, 8, 33):
        tree, weights = SumTree(capacity), np.zeros(capacity)
        for _ in range(6):
            places = rng.permutation(capacity)[: rng.integers(1, capacity + 1)]
            weights[places] = rng.integers(0, 5, len(places)).astype(float)
            weights[places[0]] += 1.0
            tree.set(places, weights[places])
            total = weights.sum()
            numbers = np.concatenate([rng.random(50) * total, np.arange(int(total))])
            if not np.array_equal(tree.find(numbers.copy()), brute_force(tree, weights, numbers)):
                return False
    return True


def test_the_sum_tree_against_brute_force_and_with_errors_in_it():
    assert tree_is_right(replay.SumTree)
    for old, new in (
        ("(numbers >= left)", "(numbers > left)"),
        ("numbers = numbers - right * left", "numbers = numbers + 0.0"),
        ("self.sums[2 * nodes] + self.sums[2 * nodes + 1]\n", "self.sums[2 * nodes] * 2\n"),
        ("nodes - self.num_leaves\n", "nodes - self.num_leaves - 1\n"),
    ):
        assert not tree_is_right(edited(replay, Edit("SumTree", old, new, "wrong")).SumTree), new


def test_draws_are_as_frequent_as_priorities_and_weights_make_them_unbiased():
    rng = np.random.default_rng(0)
    buffer = replay.PrioritisedReplay(8, lesson.priority, lesson.importance)
    buffer.add(obs=np.arange(6.0))
    surprise = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 0.0])
    buffer.learn(np.arange(6), surprise)
    chances = lesson.priority(surprise) / lesson.priority(surprise).sum()
    drawn, weighted = np.zeros(6), np.zeros(6)
    for _ in range(3000):
        places, weights, batch = buffer.draw(4, 1.0, rng)
        np.testing.assert_array_equal(batch["obs"].numpy(), places)
        np.add.at(drawn, places, 1)
        np.add.at(weighted, places, weights.numpy())
        assert weights.max() <= 1 + 1e-6
    np.testing.assert_allclose(drawn / drawn.sum(), chances, atol=0.015)
    common = weighted[:5] / weighted[:5].mean()
    np.testing.assert_allclose(common, 1.0, atol=0.1)
    buffer.add(obs=np.array([6.0]))
    assert buffer.tree.sums[buffer.tree.num_leaves + 6] == pytest.approx(lesson.priority(np.array([1.6]))[0])


# Exact returns, and the evidence's measuring


def test_returns_of_a_chain_by_all_paths():
    chain = [[Outcome(0.5, 1.0, 1), Outcome(0.5, 0.0, 2)], [Outcome(1.0, 2.0, 2)]]
    assert return_distributions(chain, 0.5) == [{2.0: 0.5, 0.0: 0.5}, {2.0: 1.0}, {0.0: 1.0}]
    with pytest.raises(ValueError, match="need not end"):
        return_distributions([[Outcome(1.0, 0.0, 0)]], 0.5)
    assert all(sum(one.values()) == pytest.approx(1.0) for one in return_distributions(DICE, 0.9))
    np.testing.assert_allclose(
        cdf({0.0: 0.25, 1.0: 0.75}, np.array([-1.0, 0.0, 0.5, 1.0])), [0, 0.25, 0.25, 1]
    )
    np.testing.assert_allclose(uniform_cdf(np.array([-1.0, 0.25, 2.0])), [0, 0.25, 1])


def test_distance_to_the_uniform_distribution_and_its_projection():
    atoms = np.array([0.0, 1.0])
    assert evidence.distance_to_uniform(np.array([0.5, 0.5]), atoms) == pytest.approx(1 / 12)
    assert evidence.distance_to_uniform(np.array([1.0, 0.0]), atoms) == pytest.approx(1 / 3)
    assert evidence.distance_to_uniform(
        np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.5, 1.0])
    ) == pytest.approx(1 / 12)
    np.testing.assert_allclose(evidence.projected_uniform(np.linspace(0, 1, 3)), [0.25, 0.5, 0.25])


def test_a_wrong_projection_has_a_wrong_fixed_point(monkeypatch):
    atoms = np.linspace(-5.0, 9.0, 51)
    means = [sum(v * p for v, p in one.items()) for one in return_distributions(DICE, 0.9)][:-1]
    assert np.allclose(evidence.fixed_point(DICE, 0.9, atoms)[:-1] @ atoms, means)
    wrong = edited(lesson, EDITS["nearest_atom"])
    monkeypatch.setattr(lesson, "project", wrong.project)
    assert not np.allclose(evidence.fixed_point(DICE, 0.9, atoms)[:-1] @ atoms, means)


def test_paired_differences_are_taken_seed_by_seed(tmp_path):
    runs = []
    for extra in (0.1, 0.3, -0.2):
        metrics = {f"{name}_regret": [(0, 0.5), (1, 0.5)] for name in evidence.LABELS}
        metrics["none_regret"] = [(0, 0.5 + extra), (1, 0.5 + extra)]
        metrics |= {"doors_noise": [(0, 5.0)], "doors_random": [(0, 0.0)]}
        runs.append({"metrics": metrics})
    log = RunLog(tmp_path, "B6")
    evidence.summarise(runs, log)
    log.close()
    assert log.last("none_minus_rainbow") == pytest.approx(0.1)
    assert log.last("none_minus_rainbow_low") == pytest.approx(-0.2)
    assert log.last("plain_minus_rainbow") == 0.0


def test_the_text_says_of_the_ablation_what_was_recorded():
    """None above all six on each of five seeds; nothing else is; two seeds that hardly learned."""
    runs = ledger.load(find("B6"))["runs"]
    lost = {
        name: np.array([run["metrics"][f"{name}_mean_regret"] for run in runs]) for name in evidence.LABELS
    }
    assert len(runs) == 5
    worse = {name for name, regrets in lost.items() if (regrets > lost["rainbow"]).all()}
    assert worse == {"none"}
    assert (lost["none"] - lost["rainbow"]).max() < 0.1
    assert {name: int((regrets > 0.6).sum()) for name, regrets in lost.items() if regrets.max() > 0.6} == {
        "plain": 1,
        "one_stream": 1,
    }


def test_a_layers_biases_share_the_noise_of_their_outputs():
    """(9) draws one number for each output; moments cannot tell it from two."""
    torch.manual_seed(0)
    layer = lesson.NoisyLinear(3, 4, 0.5)
    layer.draw(1.0)
    inputs = layer.weight_noise[0] / layer.noise[0]
    torch.testing.assert_close(layer.weight_noise, torch.outer(layer.noise, inputs))
