"""The chain's values, means and samples against sums written out state by state."""

import math

import numpy as np

from chapters.exact.chain import Chain

WORLD = Chain(3)
GAMMA, RIGHT, SIZE = WORLD.gamma, WORLD.p_right, WORLD.size
MIDDLE = SIZE // 2


def test_values_solve_their_own_equation():
    for s in range(SIZE):
        left = WORLD.V[s - 1] if s > 0 else 0.0
        right = WORLD.V[s + 1] if s < SIZE - 1 else 0.0
        pay = 1.0 if s == SIZE - 1 else 0.0
        expected = (1 - RIGHT) * GAMMA * left + RIGHT * (pay + GAMMA * right)
        assert math.isclose(WORLD.V[s], expected, rel_tol=1e-9)


def test_a_right_critic_has_no_bias():
    advantage = GAMMA * WORLD.V[MIDDLE + 1] - WORLD.V[MIDDLE]
    for weights in (np.ones(1), GAMMA ** np.arange(9), 0.5 ** np.arange(50)):
        assert math.isclose(WORLD.mean(WORLD.V, weights), advantage, rel_tol=1e-9)


def test_all_the_way_to_the_end_only_the_error_at_the_start_stays():
    advantage = GAMMA * WORLD.V[MIDDLE + 1] - WORLD.V[MIDDLE]
    off = WORLD.critic[MIDDLE] - WORLD.V[MIDDLE]
    weights = GAMMA ** np.arange(2000)
    assert math.isclose(WORLD.mean(WORLD.critic, weights), advantage - off, abs_tol=1e-9)
    assert abs(WORLD.bias(weights)) < 1e-9


def test_one_and_two_steps_ahead_by_hand():
    c = WORLD.critic
    one = GAMMA * c[MIDDLE + 1] - c[MIDDLE]
    assert math.isclose(WORLD.mean(c, np.ones(1)), one, rel_tol=1e-9)
    back = GAMMA * c[MIDDLE] - c[MIDDLE + 1]
    on = GAMMA * c[MIDDLE + 2] - c[MIDDLE + 1]
    two = one + 0.7 * ((1 - RIGHT) * back + RIGHT * on)
    assert math.isclose(WORLD.mean(c, np.array([1.0, 0.7])), two, rel_tol=1e-9)
    # with one step, what is missed is the critic's error one state further on
    assert math.isclose(WORLD.bias(np.ones(1)), GAMMA * (c[MIDDLE + 1] - WORLD.V[MIDDLE + 1]), rel_tol=1e-9)


def test_samples_are_rollouts_of_the_chain():
    world = Chain(3)
    c = world.critic
    data = {key: value.numpy() for key, value in world.sample(4000, 60).items()}
    assert np.allclose(data["values"][0], c[MIDDLE])
    assert np.allclose(data["next_values"][0], c[MIDDLE + 1])
    ended = data["terminated"].cumsum(axis=0)  # an ended chain stays ended
    assert (np.diff(data["terminated"].astype(int), axis=0) >= 0).all()
    before = ended - data["terminated"] == 0
    assert np.allclose(data["next_values"][:-1][before[1:]], data["values"][1:][before[1:]])
    assert (data["rewards"][~before] == 0).all()
    assert (data["next_values"][data["terminated"]] == 0).all()
    discounted = (GAMMA ** np.arange(60)[:, None] * data["rewards"]).sum(axis=0)
    error = discounted.std() / math.sqrt(len(discounted))
    assert abs(discounted.mean() - GAMMA * WORLD.V[MIDDLE + 1]) < 5 * error
    assert set(data["values"][before].tolist()) == set(c.tolist()), "all are visited"
    last = data["terminated"] & (ended == 1)
    assert set(data["values"][last].tolist()) == {c[0], c[-1]}, "it ends from the outer ones alone"
    goes_right = data["next_values"][1] == c[MIDDLE + 2]
    assert abs(goes_right.mean() - RIGHT) < 5 * math.sqrt(RIGHT * (1 - RIGHT) / 4000)


def test_without_noise_only_the_right_end_is_paid():
    rewards = Chain(0, noise=0.0).sample(200, 40)["rewards"]
    assert set(rewards.unique().tolist()) == {0.0, 1.0}
