"""A density's sum over all actions, where it is known."""

import math
from types import SimpleNamespace

import pytest
import torch

from chapters.exact.densities import HANGING_STILL, total_chance

MEAN, LOG_STD, LIMIT = 0.7, -0.4, 3.0


def actor(obs):
    """Its mean is that of the angle's cosine, so that it matters which state is asked of."""
    assert obs.shape == (1, 3)
    assert obs.dtype == torch.float32
    return torch.stack([MEAN * obs[:, 0], LOG_STD + 0 * obs[:, 0]], dim=1).unsqueeze(0)


AGENT = SimpleNamespace(actor=actor, limit=torch.tensor([LIMIT]))


def gaussian(raw, mean, log_std, limit):
    """Log-density of the raw number, as it is."""
    assert (float(limit), float(log_std[0])) == pytest.approx((LIMIT, LOG_STD))
    assert (mean == mean[0]).all()
    assert (raw.diff(dim=0) > 0).all()
    return (-0.5 * ((raw - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def test_a_density_adds_up_to_1_and_a_stretch_of_the_actions_shows():
    assert total_chance(AGENT, lambda raw, limit: raw, gaussian) == pytest.approx(1.0, abs=1e-5)
    for stretch in (0.5, 3.0):
        found = total_chance(AGENT, lambda raw, limit, by=stretch: by * raw, gaussian)
        assert found == pytest.approx(stretch, abs=1e-4)
    found = total_chance(AGENT, lambda raw, limit: limit * raw, gaussian)
    assert found == pytest.approx(LIMIT, abs=1e-4)


def test_the_mean_is_that_of_the_state_and_actions_reach_twelve_widths_to_both_sides():
    for obs, mean in ((HANGING_STILL, -MEAN), ((0.5, 0.0, 0.0), 0.5 * MEAN)):
        seen = []

        def squash(raw, limit, seen=seen):
            seen.append(raw)
            return raw

        assert total_chance(AGENT, squash, gaussian, obs, num_points=101) == pytest.approx(1.0, abs=1e-3)
        (raw,) = seen
        assert raw.shape == (101, 1)
        assert raw.dtype == torch.float64
        reach = 12 * math.exp(LOG_STD)
        assert raw[[0, 50, 100], 0].tolist() == pytest.approx([mean - reach, mean, mean + reach], abs=1e-5)
