"""Episodes counted, and standard errors against the spread over many drawn batches."""

import numpy as np
import pytest

from chapters.exact import batches
from chapters.exact.mdp import MDP
from chapters.utils.edits import Edit, edited


def check_episode_steps(episode_steps):
    done = np.array([[0, 1], [0, 0], [1, 0], [0, 0], [1, 1], [1, 0]], dtype=bool)
    np.testing.assert_array_equal(episode_steps(done), np.transpose([[1, 2, 3, 1, 2, 1], [1, 1, 2, 3, 4, 1]]))


def check_standard_errors(standard_errors):
    """Against the spread of the estimate over many drawn batches of a chain with two ways to end."""
    P = np.zeros((4, 2, 4))
    P[0, :, :] = (0.2, 0.5, 0.3, 0.0)
    P[1, :, :] = (0.4, 0.0, 0.1, 0.5)
    P[2, :, 2] = P[3, :, 3] = 1.0
    terminal, landing_reward = np.array([False, False, True, True]), np.array([0.0, -1.0, 2.0, 5.0])
    R = (P @ landing_reward) * ~terminal[:, None]
    mdp, rng = MDP(P, R, terminal, 0.8), np.random.default_rng(0)
    chain = P.mean(axis=1)
    V = np.linalg.solve(np.eye(4) - 0.8 * chain * ~terminal, R.mean(axis=1))
    V[terminal] = 7.0  # nobody may look behind an end
    reach = chain.cumsum(axis=1)
    estimates, stated = [], []
    for _ in range(300):
        obs = rng.permutation(np.repeat([0, 1], [150, 450]))[:, None]  # [600, 1] state 1 three times as often
        next_obs = (rng.random((600, 1, 1)) > reach[obs]).sum(axis=2)  # drawn from the row of `chain`
        rewards, ended = landing_reward[next_obs], terminal[next_obs]
        stated.append(standard_errors(mdp, V, obs, rewards, next_obs, ended)[:2])
        counted = np.array([[np.mean(next_obs[obs == s] == n) for n in range(4)] for s in (0, 1)])
        means = np.array([rewards[obs == s].mean() for s in (0, 1)])
        estimates.append(np.linalg.solve(np.eye(2) - 0.8 * counted[:, :2], means))
    ratio = np.std(estimates, axis=0) / np.mean(stated, axis=0)
    assert (np.abs(ratio - 1) < 0.15).all(), ratio


CHECKS = {
    name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")
}
WRONG = (
    Edit("episode_steps", "np.where(done[t - 1], 1,", "np.where(done[t], 1,", "starts a step late"),
    Edit("episode_steps", "np.where(done[t - 1], 1,", "np.where(done[t - 1], 0,", "counts from 0"),
    Edit("standard_errors", "np.diag(variance / visits)", "np.diag(variance)", "not divided by the visits"),
    Edit("standard_errors", "mdp.gamma * ~terminated * V", "mdp.gamma * V", "looks behind the ends"),
    Edit(
        "standard_errors",
        "inverse @ np.diag(variance / visits) @ inverse.T",
        "inverse.T @ np.diag(variance / visits) @ inverse",
        "transposed",
    ),
    Edit("standard_errors", "return np.sqrt(np.diag(inverse", "return (np.diag(inverse", "no root"),
)


@pytest.mark.parametrize("name", CHECKS)
def test_function_meets_its_definition(name):
    CHECKS[name](getattr(batches, name))


@pytest.mark.parametrize("edit", WRONG, ids=lambda edit: f"{edit.function}: {edit.says}")
def test_check_rejects_the_edit(edit):
    wrong = getattr(edited(batches, edit), edit.function)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        CHECKS[edit.function](wrong)
