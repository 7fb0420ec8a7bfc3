"""Exercises of E10: its functions, fitted evaluation in a table, and questions."""

import numpy as np
from jaxtyping import Float

from chapters.E_practice.checks.E10 import near, some_policies
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def fitted_table(
    log: dict[str, np.ndarray], policy: Float[np.ndarray, "S A"], gamma: float, num_sweeps: int
) -> Float[np.ndarray, "S A"]:
    """Q of a policy from a log of a finite world by (E1); 0 for pairs that never came.

    log: obs, actions, rewards, next_obs and terminated, each [n]; states and actions are numbers.
    """
    cells = (log["obs"], log["actions"])
    counts, Q = np.zeros(policy.shape), np.zeros(policy.shape)
    np.add.at(counts, cells, 1)
    for _ in range(num_sweeps):
        next_values = (policy * Q).sum(axis=1)[log["next_obs"]]  # [n]
        sums = np.zeros(policy.shape)
        np.add.at(sums, cells, log["rewards"] + gamma * ~log["terminated"] * next_values)
        Q = sums / np.maximum(counts, 1)  # eq. (E1)
    return Q


def a_log(seed: int, size: int, num_states: int, num_actions: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "obs": rng.integers(num_states, size=size),
        "actions": rng.integers(num_actions, size=size),
        "rewards": rng.normal(size=size),
        "next_obs": rng.integers(num_states, size=size),
        "terminated": rng.random(size) < 0.3,
    }


def check_fitted_table(fitted_table):
    for seed, size, num_states, num_actions, num_sweeps in (
        (0, 1, 2, 2, 3),
        (1, 12, 3, 2, 4),
        (2, 40, 3, 3, 1),
    ):
        log = a_log(seed, size, num_states, num_actions)
        policy, _ = some_policies(seed, num_states, num_actions)
        Q = np.zeros(policy.shape)
        for _ in range(num_sweeps):
            new = np.zeros(policy.shape)
            for s, a in np.ndindex(*policy.shape):
                targets = []
                for i in range(size):
                    if (log["obs"][i], log["actions"][i]) == (s, a):
                        later = log["next_obs"][i]
                        rest = 0.0 if log["terminated"][i] else sum(policy[later] * Q[later])
                        targets.append(log["rewards"][i] + 0.7 * rest)
                new[s, a] = sum(targets) / len(targets) if targets else 0.0
            Q = new
        found = fitted_table(log, policy, 0.7, num_sweeps)
        for s, a in np.ndindex(*policy.shape):
            near(found[s, a], Q[s, a], f"{size} transitions, {num_sweeps} sweeps, state {s}, action {a}")


EXERCISES = {
    "pessimists": Exercise(
        title="Two ways to be careful",
        task="""
Write CQL's penalty (2) and its price (3), IQL's lopsided square (5) and its weights (7).
""",
        minutes=25,
        difficulty="easy",
        functions=("conservative_penalty", "prices", "expectile_loss", "advantage_weights"),
    ),
    "losses": Exercise(
        title="Four targets",
        task="""
Write the squared error of (1), and around it the losses of CQL, IQL and fitted evaluation. Which network
may each of them move?
""",
        minutes=35,
        difficulty="medium",
        functions=("td_loss", "cql_loss", "iql_loss", "fitted_loss"),
    ),
    "fitted_table": Exercise(
        title="Fitted evaluation in a table",
        task=r"""
In a table each sweep of fitted evaluation sets a pair's value to the mean of its targets, over all
transitions $i$ of the log that begin with it:

$$Q(s, a) \leftarrow \frac{1}{n(s, a)} \sum_i \Bigl( r_i + \gamma\, (1 - \text{terminated}_i)
\sum_b \pi(b \mid s'_i)\, Q(s'_i, b) \Bigr) \tag{E1}$$

Write it. To the values of which world do the sweeps converge?
And how does their error fall as the log grows?
""",
        minutes=25,
        difficulty="medium",
        solution=fitted_table,
        check=check_fitted_table,
        hints=(
            "Count pairs once; then in each sweep add up targets by pair, and divide.",
            "Where all transitions end, Q is the mean reward after one sweep, and stays.",
            "next_values = (policy * Q).sum(axis=1)[log['next_obs']]",
        ),
        edits={
            "best_next": Edit(
                function="fitted_table",
                old="(policy * Q).sum(axis=1)",
                new="Q.max(axis=1)",
                says="values the best policy, not this one",
            ),
            "past_the_end": Edit(
                function="fitted_table",
                old='gamma * ~log["terminated"]',
                new="gamma",
                says="bootstraps through a terminal state",
            ),
            "last_one_wins": Edit(
                function="fitted_table",
                old='np.add.at(sums, cells, log["rewards"] + gamma * ~log["terminated"] * next_values)',
                new='sums[cells] += log["rewards"] + gamma * ~log["terminated"] * next_values',
                says="+= adds to each place of an array once: of all targets of a pair only the last counts",
            ),
            "not_a_mean": Edit(
                function="fitted_table",
                old="sums / np.maximum(counts, 1)",
                new="sums",
                says="adds targets up and does not divide by their number",
            ),
            "where_it_stood": Edit(
                function="fitted_table",
                old='[log["next_obs"]]',
                new='[log["obs"]]',
                says="bootstraps from where the transition began",
            ),
            "mean_over_the_log": Edit(
                function="fitted_table",
                old="sums / np.maximum(counts, 1)",
                new='sums / len(log["obs"])',
                says="divides by the length of the log, not by how often the pair came",
            ),
        },
        answer=r"""
To those of the *counted* world, whose chances are the log's frequencies (and a pair that never came is worth
0). Its error against the true world's values falls as one over the root of the log's length, as that of any
mean; the evidence measures both.
""",
    ),
    "higher_than_true": Exercise(
        title="A forecast, or a logit?",
        task=r"""
On the good log the network of CQL holds values above 1, which no policy can be worth. It is called
conservative, and (4) promised a lower bound. What is wrong?
""",
        minutes=10,
        difficulty="hard",
        answer=r"""
Nothing. We ask the network about actions that the log took, and those it *pushes up*: by (3) their price is
negative as long as the log takes them more often than the softmax of $Q$ does, and all that come later are
subsidised too. On average over that softmax the price is a $\chi^2$, as ever; on average over what is done,
the best action, it is not. Use CQL's values to choose, and fitted evaluation to forecast.
""",
    ),
}
