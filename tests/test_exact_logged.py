"""Exact means and variances of estimates from a log, against sums over every log that there can be."""

import itertools

import numpy as np
import pytest

from chapters.exact import logged
from chapters.utils.edits import Edit, edited


def small_world(seed, num_types=2, num_articles=2):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(num_types))
    means = rng.random((num_types, num_articles))
    logging, policy = (rng.dirichlet(np.full(num_articles, 2.0), num_types) for _ in range(2))
    return shares, means, logging, policy


def every_record(shares, means, logging):
    """[(context, action, reward, probability)] by three loops."""
    for x, a, r in itertools.product(range(means.shape[0]), range(means.shape[1]), (0, 1)):
        yield x, a, r, shares[x] * logging[x, a] * (means[x, a] if r else 1 - means[x, a])


def every_log(world, num_records):
    """(records, probability) of each log that n visits can leave."""
    for log in itertools.product(list(every_record(*world[:3])), repeat=num_records):
        yield log, float(np.prod([record[3] for record in log]))


def check_policy_value(module):
    for seed in range(3):
        shares, means, _, policy = small_world(seed, 3, 4)
        value = sum(shares[x] * policy[x, a] * means[x, a] for x, a in np.ndindex(means.shape))
        assert module.policy_value(shares, means, policy) == pytest.approx(value, abs=1e-14)


def check_all_records(module):
    for size in ((2, 2), (3, 4)):
        world = small_world(0, *size)
        found = {(x, a, r): p for x, a, r, p in zip(*module.all_records(*world[:3]))}
        expected = {(x, a, r): p for x, a, r, p in every_record(*world[:3])}
        assert found == pytest.approx(expected, abs=1e-15)


def check_variance_parts(module):
    """The sum is the variance of one record's term; each part is what is left when the others are fixed."""
    for seed in range(4):
        shares, means, logging, policy = small_world(seed, 3, 2)
        model = np.random.default_rng(seed).random(means.shape)
        parts = module.variance_parts(shares, means, logging, policy, model)

        def term(x, a, r, policy=policy, logging=logging, model=model):
            return policy[x] @ model[x] + policy[x, a] / logging[x, a] * (r - model[x, a])

        terms = np.array([term(x, a, r) for x, a, r, _ in every_record(shares, means, logging)])
        chances = np.array([p for *_, p in every_record(shares, means, logging)])
        values = (policy * means).sum(axis=1)
        given = np.array([[term(x, a, means[x, a]) for a in range(2)] for x in range(3)])  # mean over clicks
        expected = [
            shares @ (values - shares @ values) ** 2,
            chances @ terms**2 - (shares[:, None] * logging * given**2).sum(),
            shares @ (logging * (given - values[:, None]) ** 2).sum(axis=1),
        ]
        np.testing.assert_allclose(parts, expected, atol=1e-12)
        np.testing.assert_allclose(parts.sum(), chances @ terms**2 - (chances @ terms) ** 2, atol=1e-12)
        assert module.variance_parts(shares, means, logging, policy, means)[2] == pytest.approx(0, abs=1e-15)


def check_self_normalised_mean(module):
    for seed, num_records in itertools.product(range(3), (1, 2, 3)):
        world = shares, means, logging, policy = small_world(seed)
        if seed == 2:
            policy = np.array([[1.0, 0.0], policy[1]])  # a ratio of 0: then 0 / 0 counts 0
        mean = 0.0
        for log, probability in every_log(world, num_records):
            ratios = np.array([policy[x, a] / logging[x, a] for x, a, _, _ in log])
            paid = ratios @ np.array([r for _, _, r, _ in log])
            mean += probability * (paid / ratios.sum() if ratios.sum() else 0.0)
        x, a, rewards, chances = module.all_records(shares, means, logging)
        found = module.self_normalised_mean((policy / logging)[x, a], rewards, chances, num_records)
        assert found == pytest.approx(mean, abs=1e-12)


def check_self_normalised_mean_of_large_logs(module):
    """Its bias comes to (V E[w^2] - E[w^2 r]) / n, the first term of the delta method."""
    shares, means, logging, policy = small_world(5, 4, 3)
    x, a, rewards, chances = module.all_records(shares, means, logging)
    ratios = (policy / logging)[x, a]
    value = module.policy_value(shares, means, policy)
    first = value * (chances @ ratios**2) - chances @ (ratios**2 * rewards)
    bias = module.self_normalised_mean(ratios, rewards, chances, 100_000) - value
    assert 100_000 * bias == pytest.approx(first, rel=1e-3)


def check_filled_table_mean(module):
    for seed, num_records in itertools.product(range(3), (1, 2, 3)):
        world = shares, means, logging, policy = small_world(seed)
        mean = 0.0
        for log, probability in every_log(world, num_records):
            table = np.zeros(means.shape)
            for x, a in np.ndindex(table.shape):
                clicks = [record[2] for record in log if record[:2] == (x, a)]
                table[x, a] = np.mean(clicks) if clicks else 0.0
            mean += probability * np.mean([policy[x] @ table[x] for x, *_ in log])
        found = module.filled_table_mean(shares, means, logging, policy, num_records)
        assert found == pytest.approx(mean, abs=1e-12)


CHECKS = [check for name, check in globals().items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.filterwarnings("error")
def test_answers(check):
    check(logged)


WRONG = {
    "value of all articles": ("policy_value", "policy * means", "means", check_policy_value),
    "clicks for none": ("all_records", "[1 - means, means]", "[means, 1 - means]", check_all_records),
    "policy of the records": ("all_records", "logging[:, :, None] *", "1.0 *", check_all_records),
    "ratio not squared": ("variance_parts", "logging * ratios**2", "logging * ratios", check_variance_parts),
    "clicks not random": ("variance_parts", "means * (1 - means)", "means", check_variance_parts),
    "mean not taken off": (
        "variance_parts", " - (logging * errors).sum(axis=1) ** 2", "", check_variance_parts,
    ),
    "model added": ("variance_parts", "(means - model)", "(means + model)", check_variance_parts),
    "contexts not centred": ("variance_parts", "(values - shares @ values)", "values", check_variance_parts),
    "one record too many": (
        "self_normalised_mean", "** (num_records - 1)", "** num_records", check_self_normalised_mean,
    ),
    "t for y": ("self_normalised_mean", "* rest * times", "* rest", check_self_normalised_mean),
    "range cut on the left": (
        "self_normalised_mean", "-40.0 - np.log(num_records)", "-8.0",
        check_self_normalised_mean_of_large_logs,
    ),
    "range cut on the right": (
        "self_normalised_mean", "50.0 / smallest", "1.0 / smallest", check_self_normalised_mean,
    ),
    "own record forgotten": (
        "filled_table_mean", "(1 - logging) * (1 - shares", "(1 - shares", check_filled_table_mean,
    ),
    "own record twice": ("filled_table_mean", "(num_records - 1)", "num_records", check_filled_table_mean),
}  # fmt: skip


@pytest.mark.parametrize(("function", "old", "new", "check"), WRONG.values(), ids=WRONG)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_version_is_noticed(function, old, new, check):
    module = edited(logged, Edit(function, old, new, "wrong"))
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion, a shape or a crash: each is a rejection
        check(module)
