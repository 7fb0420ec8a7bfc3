"""The course's own environments keep gymnasium's contract, and the probes give what their table says."""

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from chapters.envs import registration  # noqa: F401 — makes the environments known to gymnasium
from chapters.envs.probes import ANSWERS, CutShort, best_values, largest_error

OWN = sorted(spec.id for spec in gym.registry.values() if str(spec.entry_point).startswith("chapters.envs"))


@pytest.mark.parametrize("env_id", OWN)
def test_gymnasium_accepts_it(env_id):
    env = gym.make(env_id)
    check_env(env.unwrapped, skip_render_check=True)


def episode(env_id: str, action: int = 0, seed: int = 0):
    """[(obs, reward, terminated, truncated), ...] of one episode, and its first observation."""
    env = gym.make(env_id)
    first, _ = env.reset(seed=seed)
    steps = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        obs, reward, terminated, truncated, _ = env.step(action)
        steps.append((float(obs[0]), reward, terminated, truncated))
    return float(first[0]), steps


@pytest.mark.parametrize("seed", range(6))
def test_probes_give_what_their_table_says(seed):
    assert episode("ProbeConstantReward-v0", seed=seed) == (0.0, [(0.0, 1.0, True, False)])
    first, ((_, reward, terminated, _),) = episode("ProbeRewardByObservation-v0", seed=seed)
    assert reward == first
    assert terminated
    assert episode("ProbeDelayedReward-v0") == (0.0, [(1.0, 0.0, False, False), (1.0, 1.0, True, False)])
    for action in (0, 1):
        _, ((_, reward, _, _),) = episode("ProbeActionMatters-v0", action, seed)
        assert reward == (1.0 if action == 1 else -1.0)
        first, ((_, reward, _, _),) = episode("ProbeBothMatter-v0", action, seed)
        assert reward == (1.0 if action == (first > 0) else -1.0)


def test_both_observations_occur():
    assert {episode("ProbeBothMatter-v0", seed=seed)[0] for seed in range(20)} == {-1.0, 1.0}


def test_the_endless_probe_is_cut_and_never_ends():
    _, steps = episode("ProbeEndless-v0")
    assert len(steps) == 10
    assert all(reward == 1.0 and not terminated for _, reward, terminated, _ in steps)
    assert [truncated for *_, truncated in steps] == [False] * 9 + [True]


def test_cut_short_is_cut_from_0_and_ends_from_1():
    env, starts = CutShort(), []
    for seed in range(20):
        start, _ = env.reset(seed=seed)
        obs, reward, terminated, truncated, _ = env.step(0)
        assert (obs, reward, terminated, truncated) == (1.0, start, start == 1.0, start == 0.0)
        starts.append(float(start[0]))
    assert set(starts) == {0.0, 1.0}


def test_the_two_tables_of_the_probes_answers_agree():
    for name, best in best_values(0.7).items():
        values, actions = ANSWERS.get(f"Probe{name}-v0", ({}, {}))
        for obs, value in values.items():
            assert best[obs][0] == value(0.7)
        for obs, action in actions.items():
            assert best[obs][1] == action


@pytest.mark.parametrize(
    ("judged", "error"),
    [
        ({-1.0: (1.0, 0), 1.0: (1.0, 1)}, 0.0),
        ({-1.0: (0.75, 0), 1.0: (1.5, 1)}, 0.5),
        ({-1.0: (1.5, 0), 1.0: (0.75, 1)}, 0.5),
        ({-1.0: (1.0, 1), 1.0: (1.0, 1)}, float("inf")),
    ],
)
def test_the_error_on_a_probe_is_the_largest_and_a_wrong_action_is_no_answer(judged, error):
    assert largest_error(best_values(0.9)["BothMatter"], judged.__getitem__) == error
