"""B0: whole agents against the exact regret, found by enumerating every history of a small bandit."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from chapters.B_core_algorithms import B0_multi_armed_bandits as lesson
from chapters.course.planting import plant

MEANS, NUM_PLAYS, NUM_RUNS, EPSILON = (0.7, 0.4), 8, 40_000, 0.1


def ties_shared(scores):
    best = [score == max(scores) for score in scores]
    return [b / sum(best) for b in best]


def epsilon_greedy(counts, num_plays):
    means = [s / max(s + f, 1) for s, f in counts]
    return [(1 - EPSILON) * share + EPSILON / 2 for share in ties_shared(means)]


def ucb1(counts, num_plays):
    def score(s, f):
        return s / (s + f) + np.sqrt(2 * np.log(num_plays) / (s + f)) if s + f else np.inf

    return ties_shared([score(*arm) for arm in counts])


def thompson(counts, num_plays):
    (s0, f0), (s1, f1) = counts
    first = quad(lambda x: beta.pdf(x, 1 + s0, 1 + f0) * beta.cdf(x, 1 + s1, 1 + f1), 0, 1)[0]
    return [first, 1 - first]


def exact_regret(choose):
    """Expected regret after NUM_PLAYS plays: every history's counts, with their probability."""
    histories, regret = {((0, 0), (0, 0)): 1.0}, 0.0
    for num_plays in range(NUM_PLAYS):
        following = {}
        for (counts, probability), arm in itertools.product(histories.items(), (0, 1)):
            chance = probability * choose(counts, num_plays)[arm]
            regret += chance * (max(MEANS) - MEANS[arm])
            for success in (0, 1):
                after = list(counts)
                after[arm] = (counts[arm][0] + success, counts[arm][1] + 1 - success)
                share = chance * (MEANS[arm] if success else 1 - MEANS[arm])
                following[tuple(after)] = following.get(tuple(after), 0.0) + share
        histories = following
    return regret


AGENTS = {
    "epsilon": (epsilon_greedy, lambda module, shape: module.ValueAgent(shape, module.greedy_rule(EPSILON))),
    "ucb1": (ucb1, lambda module, shape: module.ValueAgent(shape, module.ucb_rule(2**0.5))),
    "thompson": (thompson, lambda module, shape: module.ThompsonAgent(shape)),
}


def deviation(module, name):
    """Simulated minus exact regret, in (at most) standard errors."""
    choose, make = AGENTS[name]
    rng = np.random.default_rng(0)
    agent = make(module, (NUM_RUNS, 2))
    curves = module.play(agent, np.tile(MEANS, (NUM_RUNS, 1)), NUM_PLAYS, rng, bernoulli=True)
    widest = NUM_PLAYS * (MEANS[0] - MEANS[1]) / 2  # no run's regret varies more than this
    return abs(curves.regret[-1] - exact_regret(choose)) / (widest / np.sqrt(NUM_RUNS))


@pytest.mark.parametrize("name", AGENTS)
def test_agent_has_the_exact_regret(name):
    assert deviation(lesson, name) < 4


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("epsilon", "rng.random(num_bandits) < epsilon", "rng.random(num_bandits) > epsilon"),
        ("epsilon", "np.argmax(best * (1.0 - rng.random(scores.shape)), axis=1)", "np.argmax(best, axis=1)"),
        ("ucb1", "estimates + bonus", "estimates - bonus"),
        (
            "thompson",
            "rng.beta(1.0 + successes, 1.0 + failures)",
            "rng.beta(1.0 + failures, 1.0 + successes)",
        ),
    ],
)
def test_a_wrong_agent_has_not(name, old, new):
    assert deviation(plant(lesson, old, new), name) > 5
