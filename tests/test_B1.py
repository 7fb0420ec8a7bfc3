"""Lesson B1's learner on worlds with known answers, and what becomes of it with a bug inside."""

import gymnasium as gym
import numpy as np
import pytest

import chapters.B_core_algorithms.B1_tabular_q_learning as lesson
from chapters.B_core_algorithms.checks.B1 import EDITS
from chapters.B_core_algorithms.evidence import B1 as evidence
from chapters.envs import registration  # noqa: F401 — makes the environments known to gymnasium
from chapters.exact.time_limits import greedy_policy, read_model, value_iteration
from chapters.utils import RunLog, UsageError
from chapters.utils.edits import edited

STEPS = 1000


def probe(name: str) -> gym.Env:
    """A probe environment whose observation -1, 0 or 1 is a row number."""
    env = gym.make(f"Probe{name}-v0")
    return gym.wrappers.TransformObservation(env, lambda obs: int(obs[0]) + 1, gym.spaces.Discrete(3))


def table(name: str, sarsa: bool, module=lesson) -> np.ndarray:
    return module.learn(probe(name), module.Config(), STEPS, gamma=0.9, epsilon=0.1, sarsa=sarsa)[0]


@pytest.mark.parametrize("sarsa", [False, True], ids=["q_learning", "sarsa"])
def test_solves_the_probe_environments(sarsa):
    assert table("ConstantReward", sarsa)[1, 0] == pytest.approx(1.0)
    np.testing.assert_allclose(table("RewardByObservation", sarsa)[[0, 2], 0], [-1, 1])
    np.testing.assert_allclose(table("DelayedReward", sarsa)[[1, 2], 0], [0.9, 1.0], rtol=0.01)
    np.testing.assert_allclose(table("ActionMatters", sarsa)[1], [-1, 1])
    np.testing.assert_allclose(table("BothMatter", sarsa)[[0, 2]], [[1, -1], [-1, 1]])


@pytest.mark.parametrize("sarsa", [False, True], ids=["q_learning", "sarsa"])
def test_bootstraps_at_a_time_limit(sarsa):
    assert table("Endless", sarsa)[1, 0] == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize(("sarsa", "edit"), [(False, "merged"), (True, "sarsa_merged")])
def test_merging_terminated_and_truncated_is_noticed(sarsa, edit):
    value = table("Endless", sarsa, edited(lesson, EDITS[edit]))[1, 0]
    assert value == pytest.approx(1 / (1 - 0.9 * 0.9), rel=0.1)  # the wrong fixed point, 5.3
    with pytest.raises(AssertionError):
        assert value == pytest.approx(10.0, rel=0.02)


class RandomWorld(gym.Env):
    """Five states, three actions, a random table with rewards and ends everywhere: all is soon seen."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.observation_space, self.action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(3)
        self.initial_state_distrib = np.full(5, 0.2)
        self.P = {s: {a: self.outcomes(rng) for a in range(3)} for s in range(5)}

    def outcomes(self, rng: np.random.Generator) -> list[tuple[float, int, float, bool]]:
        ends = [False] * 4 + [bool(rng.random() < 0.5)]
        return [(0.2, int(rng.integers(5)), float(rng.normal(1.0)), end) for end in ends]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(5))
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        _, self.state, reward, terminated = self.P[self.state][action][int(self.np_random.integers(5))]
        return self.state, reward, terminated, False, {}


def gaps_to_the_exact_tables(module) -> tuple[float, float]:
    """How far Q-learning ends from Q* and SARSA from Q of the random policy, when both act at random."""
    env, gamma = gym.wrappers.TimeLimit(RandomWorld(), 6), 0.8
    model = read_model(env)
    cfg = module.Config(alpha_power=0.8)
    learned = [module.learn(env, cfg, 15_000, gamma, epsilon=1.0, sarsa=sarsa)[0] for sarsa in (False, True)]
    best = value_iteration(model, gamma)
    chain = model.transitions.mean(axis=1)
    values = np.linalg.solve(np.eye(len(chain)) - gamma * chain, model.rewards.mean(axis=1))
    exact = [best, model.rewards + gamma * model.transitions @ values]
    return tuple(float(np.abs(a - b).max()) for a, b in zip(learned, exact))


def test_each_algorithm_finds_the_values_of_its_own_policy():
    assert max(gaps_to_the_exact_tables(lesson)) < 0.3


@pytest.mark.parametrize(
    "edit",
    [
        "swapped_algorithms",
        "wrong_row",
        "sarsa_previous_action",
        "present_maximum",
        "forgets_the_count",
        "start_lost",
        "sarsa_merged",
        "merged",
    ],
)
def test_planted_errors_in_the_loop_are_noticed(edit):
    assert max(gaps_to_the_exact_tables(edited(lesson, EDITS[edit]))) > 0.3


def test_first_maximum_never_finds_the_goal():
    goals = []
    for module in (lesson, edited(lesson, EDITS["first_maximum"])):
        env = gym.make("FrozenLake-v1", is_slippery=False)
        _, _, episodes = module.learn(env, module.Config(), 10_000, gamma=0.95, epsilon=0.1)
        goals.append(sum(gain for _, gain in episodes))
    assert goals[0] > 10
    assert goals[1] == 0


def test_returns_and_ends_of_episodes():
    """Every episode of the delayed reward takes two steps and returns 1."""
    _, _, episodes = lesson.learn(probe("DelayedReward"), lesson.Config(), 100, gamma=1.0, epsilon=0.1)
    assert episodes == [(step, 1.0) for step in range(2, 101, 2)]


def test_tables_on_the_way():
    """25 of them, evenly apart, each a copy; the last is the result."""
    q, tables, _ = lesson.learn(probe("Endless"), lesson.Config(), 100, gamma=0.9, epsilon=0.1)
    assert [step for step, _ in tables] == list(range(4, 101, 4))
    np.testing.assert_array_equal(tables[-1][1], q)
    assert tables[0][1][1, 0] < tables[5][1][1, 0] < q[1, 0]


def test_exploration_falls_in_a_line_and_stays(monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "epsilon_greedy", lambda row, epsilon, rng: seen.append(epsilon) or 0)
    lesson.learn(probe("Endless"), lesson.Config(), 20, gamma=1.0, epsilon=0.2, anneal=True)
    chosen = seen[:1] + [value for i, value in enumerate(seen[1:], 1) if i not in (11, 22)]  # after resets
    assert chosen[0] == 1.0
    np.testing.assert_allclose(chosen[1:11], 1 - 0.8 * np.arange(1, 11) / 10)
    assert set(chosen[11:]) == {0.2}
    seen.clear()
    lesson.learn(probe("Endless"), lesson.Config(), 20, gamma=1.0, epsilon=0.2)
    assert set(seen) == {0.2}


def test_returns_on_the_cliff_are_those_of_their_window(tmp_path, monkeypatch):
    """Ten windows, each with the mean of the episodes that ended in it; the late ones by themselves."""
    episodes = [(5, -10.0), (10, -20.0), (11, -50.0), (60, -40.0), (100, -6.0)]
    monkeypatch.setattr(lesson, "learn", lambda *_, **__: (np.zeros((1, 1)), [], episodes))
    log = RunLog(tmp_path, "B1")
    lesson.learn_cliff("sarsa", lesson.Config(steps_cliff=100), log)
    assert log.metrics["online_sarsa"] == [(10, -15.0), (20, -50.0), (60, -40.0), (100, -6.0)]
    assert log.metrics["late_sarsa"] == [(100, -23.0)]


@pytest.mark.parametrize("sarsa", [False, True], ids=["q_learning", "sarsa"])
def test_cliff_is_learned_by_the_algorithm_that_is_named(sarsa, tmp_path, monkeypatch):
    asked, late = [], [(100_000, -13.0)]
    monkeypatch.setattr(
        lesson, "learn", lambda *_, **named: asked.append(named["sarsa"]) or (np.zeros((1, 1)), [], late)
    )
    lesson.learn_cliff("sarsa" if sarsa else "q_learning", lesson.Config(), RunLog(tmp_path, "B1"))
    assert asked == [sarsa]


@pytest.mark.parametrize(("size", "limit"), [("4x4", 100), ("8x8", 200)])
def test_lakes_have_their_own_clocks(size, limit):
    assert lesson.make_lake(size).spec.max_episode_steps == limit


@pytest.mark.parametrize("naive", [False, True], ids=["random ties", "first maximum"])
def test_chance_of_an_untaught_agent(naive):
    """Played on the lake that is not slippery, with a table of zeros that is never changed."""
    module = edited(lesson, *([EDITS["first_maximum"]] if naive else []))
    module.td_update = lambda *_: 0.0
    env = gym.make("FrozenLake-v1", is_slippery=False)
    exact = evidence.untaught_chance(env, 0.5, naive)
    _, _, episodes = module.learn(env, module.Config(), 40_000, gamma=1.0, epsilon=0.5)
    gains = np.array([gain for _, gain in episodes])
    assert abs(gains.mean() - exact) < 4 * np.sqrt(exact * (1 - exact) / len(gains)) + 1e-9


def test_greedy_path_follows_the_table():
    """Up, eleven to the right, down: thirteen steps along the edge."""
    q = np.zeros((48, 4))  # up, right, down, left
    q[36, 0] = q[24:35, 1] = q[35, 2] = 1.0
    path = evidence.greedy_path(q)
    assert path.tolist() == [[3, 0], *[[2, column] for column in range(12)], [3, 11]]
    q[35, 2], q[35, 1] = 0.0, 1.0  # into the wall, for ever
    assert len(evidence.greedy_path(q)) == 31


def test_greedy_policy_of_the_exact_table_never_slips_into_a_hole():
    """What the lesson says of its arrows: away from a hole is the action that cannot end in it."""
    env = lesson.make_lake("8x8")
    policy = greedy_policy(value_iteration(read_model(env), 0.999))
    letters = env.unwrapped.desc.astype(str).ravel()
    reachable, agenda = set(), [0]
    while agenda:
        state = agenda.pop()
        if state in reachable:
            continue
        reachable.add(state)
        for action in np.flatnonzero(policy[state]):
            agenda += [after for _, after, _, ended in env.unwrapped.P[state][int(action)] if not ended]
            assert all(letters[after] != "H" for _, after, _, _ in env.unwrapped.P[state][int(action)])


def test_where_no_episode_ends_on_the_cliff_there_is_nothing_to_claim(tmp_path):
    cfg = lesson.Config(epsilon=1.0, steps_cliff=200)
    with pytest.raises(UsageError, match="--steps-cliff 200: no episode ends in the second half"):
        lesson.learn_cliff("sarsa", cfg, RunLog(tmp_path, "B1"))
