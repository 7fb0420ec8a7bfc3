"""Exercises of E5: its functions, and by how much a dream may miss what a belief is worth."""

import math

import numpy as np
from jaxtyping import Float

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def dream_bound(
    code_errors: Float[np.ndarray, " k"], reward_errors: Float[np.ndarray, " k"], gamma: float
) -> float:
    """By how much a dream of k steps may miss the belief's value, eq. (E1); rewards lie between 0 and 1."""
    k = len(code_errors)
    weights = gamma ** np.arange(k)
    still = np.array([weights[: k - i].sum() for i in range(k)])  # the most that steps i, i + 1, ... can pay
    return float((weights * (code_errors * still + reward_errors)).sum())  # eq. (E1)


def check_dream_bound(dream_bound):
    rng = np.random.default_rng(1)
    for k, gamma in ((1, 0.9), (3, 0.5), (6, 0.95), (4, 1.0)):
        code_errors, reward_errors = rng.random(k), rng.random(k)
        expected = 0.0
        for i in range(k):
            still = sum(gamma**j for j in range(k - i))
            expected += gamma**i * (code_errors[i] * still + reward_errors[i])
        found = float(dream_bound(code_errors, reward_errors, gamma))
        assert math.isclose(found, expected, rel_tol=1e-6), (
            f"{k} steps, gamma {gamma}: expected {expected:.4f}, found {found:.4f}"
        )


EXERCISES = {
    "numbers": Exercise(
        title="Numbers of any size",
        task="""
Write the scale of (1), numbers as distributions and back (2), and the loss between them.
""",
        minutes=25,
        difficulty="easy",
        functions=("symexp", "two_hot", "mean_of", "cross_entropy"),
    ),
    "worth": Exercise(
        title="What a dream was worth",
        task="""
Write the returns of imagined steps (5), how much each step counts (6), and the actor's loss (7).
""",
        minutes=30,
        difficulty="medium",
        functions=("lambda_returns", "dream_weights", "actor_loss"),
    ),
    "model": Exercise(
        title="A model to dream in",
        task="""
Write the model's loss (4). Which state foresees a reward, and what must not count?
""",
        minutes=30,
        difficulty="hard",
        functions=("model_loss",),
    ),
    "dream_bound": Exercise(
        title="How far a dream may be off",
        task=r"""
A dream begins after a history and pays rewards between 0 and 1. At its step $i$ the prior misses the codes
that the world would give by $\epsilon_i$ (total variation), and the reward that is foreseen misses the
expected one by $\delta_i$, both on average over *real* paths. Exchange the model's steps for the world's, one
after the other: each exchange costs at most its error, times all that may still come (`kearns2002simulation`,
along real paths instead of at the worst). So the first $k$ steps of a dream miss the belief's value by at
most

$$\bigl| \hat V_k - V_k \bigr| \;\le\; \sum_{i < k} \gamma^i \Bigl( \epsilon_i \sum_{j < k - i} \gamma^j
+ \delta_i \Bigr) \tag{E1}$$

Write it. How does it grow with $k$ if all errors are equal and $\gamma = 1$? The evidence measures both
errors on E4's ring.
""",
        minutes=20,
        difficulty="medium",
        solution=dream_bound,
        check=check_dream_bound,
        hints=(
            "Step i can mislead about itself and about all later steps, so it is worth k - i of them.",
            "With one step the bound is the sum of the two errors.",
            "weights = gamma ** np.arange(k); what steps i .. k-1 can pay is weights[: k - i].sum().",
        ),
        edits={
            "one_step_at_stake": Edit(
                function="dream_bound",
                old="code_errors * still",
                new="code_errors",
                says="lets a wrong code cost the reward of its own step alone",
            ),
            "all_steps_at_stake": Edit(
                function="dream_bound",
                old="weights[: k - i].sum()",
                new="weights.sum()",
                says="charges each step for the whole dream, also for what lies behind it",
            ),
            "steps_gone": Edit(
                function="dream_bound",
                old="weights[: k - i].sum()",
                new="weights[: i + 1].sum()",
                says="charges a step for those before it, not for those to come",
            ),
            "discount_forgotten": Edit(
                function="dream_bound",
                old="(weights * (code_errors",
                new="(1.0 * (code_errors",
                says="does not discount a step by when it comes",
            ),
            "rewards_forgotten": Edit(
                function="dream_bound",
                old=" + reward_errors",
                new="",
                says="leaves out that the reward itself may be foreseen wrongly",
            ),
        },
        answer=r"""
With equal errors and $\gamma = 1$ it is $\epsilon\, k (k + 1) / 2 + \delta k$: twice as long a dream may be
four times as wrong. With a discount it stays below $\epsilon / (1 - \gamma)^2 + \delta / (1 - \gamma)$: (1)
of E2, but for a factor $\gamma$ (there no first reward is wrong) and for errors of rewards.
""",
    ),
    "untried": Exercise(
        title="Never lived, never tried",
        task="""
Two settings are there for the walls alone: `explore` and `ent_coef`. Try `rl run E5 --ent-coef 0.03`, then
`rl break E5 never_random`. In which of them does the model know of catches at the wall, and in which does the
actor try them? Why can a better model not mend the first, nor more dreams the second?
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
With a small bonus the model knows, since random episodes go everywhere, but the actor became sure early and
hardly ever tries the action that leads there; a policy gradient is weighed by how often an action is tried,
so more dreams of the same actor bring little. Without random episodes, what is known of the walls comes from
the warm-up and from what the actor does by chance. A model foresees from what was recorded: if no catch at a
wall was, the best fit to the data says that there are none.
""",
    ),
}
