"""Exercises of B2: its functions, and what goes beyond them."""

import numpy as np

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def lambda_returns(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """The λ-return [T] of each step of one episode that terminates after T steps, by the lesson's (5).

    rewards, values [T]: the reward of each step, and V of the state in which it was taken.
    """
    returns = np.zeros_like(rewards)
    following, next_value = 0.0, 0.0  # after the end
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * ((1 - lam) * next_value + lam * following)
        next_value = values[t]
        returns[t] = following
    return returns


def check_lambda_returns(lambda_returns):
    """Against the left of (5): every n-step return with its share, the last with all the rest."""
    rng = np.random.default_rng(12)
    for num_steps in (1, 2, 6):
        rewards, values = rng.normal(size=(2, num_steps))
        for gamma, lam in ((1.0, 0.5), (0.9, 0.0), (0.9, 1.0), (0.8, 0.7)):
            found = lambda_returns(rewards.copy(), values.copy(), gamma, lam)
            for t in range(num_steps):
                left = num_steps - t
                expected = 0.0
                for n in range(1, left + 1):
                    target = sum(gamma**i * rewards[t + i] for i in range(n))
                    target += gamma**n * values[t + n] if n < left else 0.0
                    expected += target * ((1 - lam) * lam ** (n - 1) if n < left else lam ** (left - 1))
                np.testing.assert_allclose(
                    found[t], expected, atol=1e-12, err_msg=f"step {t} of {num_steps}, λ {lam}, gamma {gamma}"
                )


def weighted_estimates(returns: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """The weighted estimate [N] of a state's value after 1, 2, ... N episodes of another policy, eq. (E1).

    returns, ratios [N]: each episode's whole return, and the product of all its ratios.
    """
    totals = np.cumsum(ratios * returns)
    weights = np.cumsum(ratios)
    return np.divide(totals, weights, out=np.zeros_like(totals), where=weights > 0)


def check_weighted_estimates(weighted_estimates):
    rng = np.random.default_rng(13)
    by_hand = weighted_estimates(np.array([1.0, 2.0, 0.0]), np.array([0.0, 4.0, 4.0]))
    np.testing.assert_allclose(by_hand, [0.0, 2.0, 1.0], err_msg="returns 1, 2, 0 with ratios 0, 4, 4")
    for size in (1, 4, 30):
        returns = rng.normal(size=size)
        ratios = rng.exponential(size=size) * (rng.random(size) < 0.6)
        found = weighted_estimates(returns.copy(), ratios.copy())
        total = weight = 0.0
        for i in range(size):
            total += ratios[i] * returns[i]
            weight += ratios[i]
            expected = total / weight if weight > 0 else 0.0
            np.testing.assert_allclose(found[i], expected, atol=1e-12, err_msg=f"after episode {i + 1}")


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the return that follows each step, (1); where a state occurs for the first time in its episode; and the
two parts of the n-step target, (4).
""",
        minutes=35,
        difficulty="medium",
        functions=("discounted_returns", "first_visits", "n_step_parts"),
    ),
    "past_the_end": Exercise(
        title="Past the end",
        task="""
`n_step_parts` gives a terminated episode's bootstrap the weight 0. With `gamma**n` instead the figure stays
as it is. Why, and in which environment would it not?
""",
        minutes=10,
        difficulty="easy",
        answer="""
Nothing updates the table's entries for the two terminal states, so they stay 0. A network (B3) answers
something for a terminal state too, and without the mask the learner would believe it.
""",
    ),
    "lambda_returns": Exercise(
        title="All n at once",
        task=r"""
Write the λ-returns of one episode, from the last step backwards, as on the right of (5). Past the terminal
state there is nothing: neither a value nor a return. *By hand*, two rewards of 1, $V = 0.4$ in state two,
$\gamma = 1$, $\lambda = 0.5$: the last λ-return is 1, the first $1 + 0.5 \cdot 0.4 + 0.5 \cdot 1 = 1.7$.
""",
        minutes=20,
        difficulty="medium",
        solution=lambda_returns,
        check=check_lambda_returns,
        hints=(
            "What follows a step is a mixture: its successor's value, and its successor's own λ-return.",
            "With λ = 0 these are one-step targets; with λ = 1 the values play no part, and (1) is left.",
            "following, next_value = 0.0, 0.0",
        ),
        edits={
            "shares_swapped": Edit(
                function="lambda_returns",
                old="(1 - lam) * next_value + lam * following",
                new="lam * next_value + (1 - lam) * following",
                says="swaps the shares: λ = 1 is TD(0)",
            ),
            "own_value": Edit(
                function="lambda_returns",
                old="(1 - lam) * next_value",
                new="(1 - lam) * values[t]",
                says="takes the value of the state itself for that of its successor",
            ),
            "fades_without_values": Edit(
                function="lambda_returns",
                old="(1 - lam) * next_value + lam * following",
                new="lam * following",
                says="forgets the values: a return with the discount gamma λ",
            ),
            "value_past_the_end": Edit(
                function="lambda_returns",
                old="following, next_value = 0.0, 0.0",
                new="following, next_value = 0.0, values[-1]",
                says="bootstraps past the terminal state",
            ),
        },
    ),
    "weighted_estimates": Exercise(
        title="Another average",
        task=r"""
Another policy played $N$ episodes from one state. $G_i$ is the $i$-th episode's whole return, $W_i$ the
product of all its ratios. The mean of the $W_i G_i$ is right on average, but one large $W_i$ can throw it far
off. *Weighted* importance sampling divides by the sum of the ratios instead of by their number:

$$V_n = \frac{\sum_{i \le n} W_i\, G_i}{\sum_{i \le n} W_i}, \qquad V_n = 0 \text{ while all } W_i
\text{ are } 0 \tag{E1}$$

Then: is it right on average after one episode, and what is gained?
""",
        minutes=20,
        difficulty="easy",
        solution=weighted_estimates,
        check=check_weighted_estimates,
        hints=(
            "Two running sums, and their quotient wherever the second is not 0.",
            "If every ratio is 1, it is the running mean of the returns.",
            "totals = np.cumsum(ratios * returns)",
        ),
        edits={
            "divides_by_the_number": Edit(
                function="weighted_estimates",
                old="np.cumsum(ratios)",
                new="np.arange(1.0, len(ratios) + 1)",
                says="divides by the number of episodes: the ordinary estimate, whose variance is large",
            ),
            "only_the_whole": Edit(
                function="weighted_estimates",
                old="np.cumsum(ratios)",
                new="np.full(len(ratios), ratios.sum())",
                says="divides by the ratios of all episodes, also of those to come",
            ),
            "ratios_dropped": Edit(
                function="weighted_estimates",
                old="np.cumsum(ratios * returns)",
                new="np.cumsum((ratios > 0) * returns)",
                says="sums the returns without their ratios",
            ),
        },
        answer=r"""
No: after the first episode whose ratio is not 0 it is that episode's return, whatever its ratio, so it has
the mean of such episodes under the other policy. That bias dies out. In exchange no estimate lies outside the
returns that were seen. In section 4's example each episode adds 0 or 8 to the ordinary mean; this estimate is
2, the truth, as soon as right-right has come once (`suttonbarto2018`, section 5.5).
""",
    ),
}
