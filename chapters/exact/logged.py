"""What can be known of a policy from another policy's log: exact means and variances of the estimators.

World: shares [S] of the contexts, means [S, A] of rewards that are 0 or 1; `logging` and `policy` are [S, A].
"""

import numpy as np
from jaxtyping import Float, Int

Table = Float[np.ndarray, "S A"]
Shares = Float[np.ndarray, " S"]


def policy_value(shares: Shares, means: Table, policy: Table) -> float:
    """Expected reward of one visit under `policy`."""
    return float(shares @ (policy * means).sum(axis=1))


def all_records(
    shares: Shares, means: Table, logging: Table
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Every record that one visit can leave: contexts, actions, rewards, and their probabilities."""
    shape = (*means.shape, 2)
    contexts, actions, rewards = (index.ravel() for index in np.indices(shape))
    paid = np.stack([1 - means, means], axis=2)  # [S, A, 2]
    probabilities = shares[:, None, None] * logging[:, :, None] * paid
    return contexts, actions, rewards.astype(float), probabilities.ravel()


def variance_parts(
    shares: Shares, means: Table, logging: Table, policy: Table, model: Table
) -> Float[np.ndarray, " 3"]:
    """Variance of one record's doubly robust term: from contexts, from rewards, from the actions drawn.

    Its sum over n is the variance of the estimate from n records. A model of zeros gives that of importance
    sampling: only the last part depends on the model, and it is 0 for the right one.
    """
    ratios = policy / logging
    values = (policy * means).sum(axis=1)  # [S]
    from_contexts = shares @ (values - shares @ values) ** 2
    from_rewards = shares @ (logging * ratios**2 * means * (1 - means)).sum(axis=1)
    errors = ratios * (means - model)  # [S, A]
    spread = (logging * errors**2).sum(axis=1) - (logging * errors).sum(axis=1) ** 2
    return np.array([from_contexts, from_rewards, shares @ spread])


def self_normalised_mean(
    ratios: Float[np.ndarray, " N"],
    rewards: Float[np.ndarray, " N"],
    probabilities: Float[np.ndarray, " N"],
    num_records: int,
) -> float:
    """E of sum(w r) / sum(w) over n independent records, 0 where all ratios are 0, by one integral.

    1/s is the integral of exp(-s t) over t > 0, and the exponential of a sum factorises over the records:
    n E[w r exp(-w t)] E[exp(-w t)]^(n-1), integrated. Over y = ln t it falls off exponentially on both sides,
    and there the trapezoidal rule is exact to rounding.
    """
    smallest = ratios[ratios > 0].min()
    grid, step = np.linspace(-40.0 - np.log(num_records), np.log(50.0 / smallest), 4001, retstep=True)
    times = np.exp(grid)  # [4001]
    fading = probabilities * np.exp(-times[:, None] * ratios)  # [4001, N]
    rest = fading.sum(axis=1) ** (num_records - 1)
    return float(num_records * step * ((fading @ (ratios * rewards)) * rest * times).sum())


def filled_table_mean(shares: Shares, means: Table, logging: Table, policy: Table, num_records: int) -> float:
    """E of the direct method whose model is the table of the same log's mean rewards, 0 where there are none.

    A cell that was seen is right on average. For a record of context x the cell (x, a) is empty if neither
    this record nor one of the n - 1 others fell into it.
    """
    empty = (1 - logging) * (1 - shares[:, None] * logging) ** (num_records - 1)
    return policy_value(shares, means * (1 - empty), policy)
