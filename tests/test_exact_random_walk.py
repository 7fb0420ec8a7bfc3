"""The random walk's values against the gambler's ruin, and against walks walked."""

import numpy as np
import pytest

from chapters.exact import random_walk
from chapters.utils.edits import Edit, edited


def check(module):
    for num_states in (1, 5, 19):
        ruin = 2 * np.arange(1, num_states + 1) / (num_states + 1) - 1  # the closed form
        np.testing.assert_allclose(module.walk_values(num_states), ruin, atol=1e-12)


def test_closed_form():
    check(random_walk)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rewards[-1] += 0.5", "rewards[-1] += 1.0"),
        ("np.eye(num_states) - transitions", "np.eye(num_states) + transitions"),
    ],
    ids=["rewards not halved", "sign"],
)
def test_a_wrong_version_is_noticed(old, new):
    with pytest.raises(AssertionError):
        check(edited(random_walk, Edit("walk_values", old, new, "wrong")))


def test_walks_walked():
    rng = np.random.default_rng(0)
    for start, value in enumerate(random_walk.walk_values(5), start=1):
        places = np.full(4000, start)
        while ((places > 0) & (places < 6)).any():
            places += ((places > 0) & (places < 6)) * (2 * rng.integers(2, size=4000) - 1)
        rewards = np.where(places == 6, 1.0, -1.0)
        assert abs(rewards.mean() - value) < 4.5 * rewards.std() / np.sqrt(4000)
