"""Definition checks of D16: each function against its equation, written out one text or policy at a time."""

import itertools
import math

import numpy as np
import torch

from chapters.envs.token_world import token_world
from chapters.utils.edits import Edit

CONSTANT = ("leave_one_out",)  # of the weights: with or without a gradient


def check_best_of_n(best_of_n):
    """Against every subset of that size, one by one."""
    rng = np.random.default_rng(7)
    for size in (1, 4, 7):
        proxy, values = rng.normal(size=(2, size))
        for n in range(1, size + 1):
            subsets = list(itertools.combinations(range(size), n))
            expected = sum(values[max(subset, key=lambda i: proxy[i])] for subset in subsets) / len(subsets)
            assert math.isclose(best_of_n(proxy, values, n), expected, rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(best_of_n(np.arange(600.0), np.ones(600), 300), 1.0), "large numbers do not overflow"


def check_best_of_n_kl(best_of_n_kl):
    """With many texts of equal probability and no ties the bound is all but reached, and never passed."""
    size = 20_000
    for n in (1, 2, 7, 64):
        ranks = np.arange(1, size + 1) / size
        probs = ranks**n - (ranks - 1 / size) ** n
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = np.nansum(probs * np.log(probs * size))
        assert exact <= best_of_n_kl(n) + 1e-9
        assert math.isclose(exact, best_of_n_kl(n), abs_tol=0.01)


def check_leave_one_out(leave_one_out):
    torch.manual_seed(8)
    for groups, size in ((1, 2), (3, 4), (5, 8)):
        rewards = torch.randn(groups, size)
        found = leave_one_out(rewards)
        for g in range(groups):
            for i in range(size):
                others = [float(rewards[g, j]) for j in range(size) if j != i]
                assert math.isclose(found[g, i], rewards[g, i] - sum(others) / len(others), abs_tol=1e-5)


def some_policies(seed, shape=(3, 12)):
    generator = torch.Generator().manual_seed(seed)
    logits, a, b = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1), a, b


def check_tilt(tilt):
    ref, proxy, _ = some_policies(9)
    for inverse_beta in (0.0, 0.3, 5.0):
        found = tilt(ref, proxy, inverse_beta)
        for row in range(3):
            weights = [
                math.exp(float(p)) * math.exp(inverse_beta * float(r)) for p, r in zip(ref[row], proxy[row])
            ]
            expected = [math.log(weight / sum(weights)) for weight in weights]
            assert np.allclose(found[row], expected)
    world = token_world(1)
    mine = tilt(world.reference_log_probs(), world.rewards, 2.0)
    assert torch.allclose(mine, world.optimum(0.5))


def check_covariance(covariance):
    log_probs, a, b = some_policies(10)
    a, b = a + 3.0, b - 2.0  # means that are not zero
    found = covariance(log_probs, a, b)
    for row in range(3):
        probs = log_probs[row].exp().tolist()
        mean_a = sum(p * float(x) for p, x in zip(probs, a[row]))
        mean_b = sum(p * float(x) for p, x in zip(probs, b[row]))
        expected = sum(p * float(x) * float(y) for p, x, y in zip(probs, a[row], b[row])) - mean_a * mean_b
        assert math.isclose(found[row], expected, abs_tol=1e-9)


EDITS = {
    "worst": Edit(
        function="best_of_n",
        old='np.argsort(proxy, kind="stable")',
        new='np.argsort(-proxy, kind="stable")',
        says="the worst",
    ),
    "sorted_what_averaged": Edit(
        function="best_of_n",
        old='np.argsort(proxy, kind="stable")',
        new='np.argsort(values, kind="stable")',
        says="sorted by what is averaged",
    ),
    "replacement": Edit(
        function="best_of_n",
        old="(rank - n) / max(1, rank - 1)",
        new="((rank - 1) / rank) ** (n - 1)",
        says="with replacement",
    ),
    "only_logarithm": Edit(
        function="best_of_n_kl",
        old="math.log(n) - (n - 1) / n",
        new="math.log(n)",
        says="only the logarithm",
    ),
    "wrong_way_round": Edit(
        function="best_of_n_kl",
        old="math.log(n) - (n - 1) / n",
        new="math.log(n) - n / (n + 1)",
        says="n - 1 over n the wrong way",
    ),
    "own_reward": Edit(
        function="leave_one_out",
        old="(rewards.shape[1] - 1)",
        new="rewards.shape[1]",
        says="one's own reward counts",
    ),
    "mean_over_all": Edit(
        function="leave_one_out",
        old="(rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)",
        new="rewards.mean(dim=1, keepdim=True)",
        says="mean over all",
    ),
    "across_prompts": Edit(
        function="leave_one_out",
        old="(rewards.sum(dim=1, keepdim=True) - rewards)",
        new="(rewards.sum(dim=0, keepdim=True) - rewards)",
        says="across prompts",
    ),
    "beta_inverse": Edit(
        function="tilt",
        old="ref_log_probs + inverse_beta * proxy",
        new="ref_log_probs + proxy / max(inverse_beta, 1e-9)",
        says="divides by lambda where it should multiply",
        fails=("covariance_gap",),
    ),
    "forgets_reference": Edit(
        function="tilt",
        old="(ref_log_probs + inverse_beta * proxy)",
        new="(0 * ref_log_probs + inverse_beta * proxy)",
        says="forgets the reference",
    ),
    "not_normalised": Edit(
        function="tilt",
        old=".log_softmax(dim=-1)  # eq. (4)",
        new="  # eq. (4)",
        says="not normalised",
    ),
    "unweighted_means": Edit(
        function="covariance",
        old="(probs * values).sum(dim=-1, keepdim=True) for",
        new="values.mean(dim=-1, keepdim=True) for",
        says="means that forget how likely each text is",
        fails=("covariance_gap",),
    ),
    "not_centred": Edit(
        function="covariance",
        old="(probs * (a - mean_a) * (b - mean_b))",
        new="(probs * a * b)",
        says="a mean of products instead of a covariance",
        fails=("covariance_gap",),
    ),
}
