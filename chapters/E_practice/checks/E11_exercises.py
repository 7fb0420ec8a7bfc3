"""Exercises of E11: its functions, and the likelihood of what was shown."""

import numpy as np
from jaxtyping import Float, Int

from chapters.E_practice.checks.E11 import small_world, soft_in_loops
from chapters.exact.gardens import World, demonstrate
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def likelihood_gradient(
    world: World,
    policy: Float[np.ndarray, "T S A"],
    states: Int[np.ndarray, "T1 N"],
    actions: Int[np.ndarray, "T N"],
) -> Float[np.ndarray, " K"]:
    """The gradient (E1) of the demonstrated actions' log-likelihood, mean of N episodes, in the weights.

    policy: the soft policy at the weights. states: the first state, and where each step led.
    """
    gradient = np.zeros(world.features.shape[1])
    to_come = np.zeros(world.features.shape)  # [S, K] g_{t+1}, 0 after the last step
    for t in reversed(range(len(policy))):
        chosen = world.P @ (world.features + to_come)  # [S, A, K] eq. (E1), right
        to_come = np.einsum("sa,sak->sk", policy[t], chosen)
        gradient += (chosen[states[t], actions[t]] - to_come[states[t]]).mean(axis=0)  # eq. (E1), left
    return gradient


def check_likelihood_gradient(likelihood_gradient):
    """By central differences of the log-likelihood, from soft plans in loops."""
    for seed, num_steps, num_demos in ((0, 4, 5), (1, 1, 1), (2, 3, 40)):
        world, rng = small_world(seed, num_actions=3), np.random.default_rng(seed)
        weights = rng.normal(size=2)

        def soft(weights, world=world, num_steps=num_steps):
            paid = world.P @ (world.features @ weights)
            return soft_in_loops(world.P, np.stack([paid] * num_steps))[1]

        at_random = np.full((num_steps, 3, 3), 1 / 3)
        states, actions = demonstrate(world, at_random, num_demos, rng)

        def told(weights, soft=soft, states=states, actions=actions, num_demos=num_demos):
            policy = soft(weights)
            return sum(np.log(policy[t, states[t], a]).sum() for t, a in enumerate(actions)) / num_demos

        found = likelihood_gradient(world, soft(weights), states, actions)
        for k, row in enumerate(1e-5 * np.eye(2)):
            expected = (told(weights + row) - told(weights - row)) / 2e-5
            assert abs(found[k] - expected) < 1e-6, (
                f"{num_steps} steps, weight {k}: expected {expected:.5f}, found {found[k]:.5f}"
            )


EXERCISES = {
    "heart": Exercise(
        title="Backwards, forwards, uphill",
        task="""
Write the soft plan of (2), the occupancies of (3), and the height and the slope of (5).
""",
        minutes=35,
        difficulty="medium",
        functions=("soft_plan", "occupancies", "dual"),
    ),
    "ask": Exercise(
        title="Ask again",
        task="""
Write the cost of (1), and the learner that is told what it should have done.
""",
        minutes=20,
        difficulty="easy",
        functions=("expected_cost", "dagger"),
    ),
    "likelihood_gradient": Exercise(
        title="What the floor tells",
        task=r"""
The counts of a demonstration depend on where the floor let the gardener slip, which says nothing of wishes.
The likelihood of the *actions* looks only at what was chosen where one stood. Its gradient is, on average
over $N$ episodes,

$$\frac{1}{N} \sum_{i, t} \bigl( G_t(s_t^i, a_t^i) - g_t(s_t^i) \bigr), \quad
G_t(s, a) = \sum_{s'} P(s' \mid s, a) \bigl( \phi(s') + g_{t+1}(s') \bigr), \quad
g_t(s) = \sum_a \pi_t(a \mid s)\, G_t(s, a) \tag{E1}$$

with $g_T = 0$: features still to come after the action, less those to come before it was chosen. Write it.
Which needs fewer demonstrations for the same error, the counts or this likelihood?
And when do both need as many?
""",
        minutes=30,
        difficulty="hard",
        solution=likelihood_gradient,
        check=check_likelihood_gradient,
        hints=(
            "One pass backwards: g of the step after, then G, then g; add up what the episodes chose.",
            "If all actions lead to the same place the gradient is 0: no choice, nothing told.",
            "chosen = world.P @ (world.features + to_come)  # [S, A, K]",
        ),
        edits={
            "own_choice_alone": Edit(
                function="likelihood_gradient",
                old="(chosen[states[t], actions[t]] - to_come[states[t]])",
                new="chosen[states[t], actions[t]]",
                says="forgets what was to come anyway, whatever had been chosen",
            ),
            "next_step_only": Edit(
                function="likelihood_gradient",
                old="(world.features + to_come)",
                new="world.features",
                says="counts what the next step collects, and nothing after it",
            ),
            "where_it_led": Edit(
                function="likelihood_gradient",
                old="- to_come[states[t]])",
                new="- to_come[states[t + 1]])",
                says="compares with what is to come in the next state, where the floor has had its say",
            ),
            "sum_of_episodes": Edit(
                function="likelihood_gradient",
                old=".mean(axis=0)  # eq.",
                new=".sum(axis=0)  # eq.",
                says="the sum over episodes, not their mean",
            ),
            "stays_where_it_is": Edit(
                function="likelihood_gradient",
                old="world.P @ (world.features + to_come)",
                new="(world.features[:, None] + world.P @ to_come)",
                says="counts the state that is left, not the one that is entered",
            ),
        },
        answer=r"""
The likelihood: its error has the covariance $H^{-1} / N$, the counts' $H^{-1} C H^{-1} / N$, and $C$ is $H$
plus what slips and the first cell add. In the old garden, with the wishes of seed 0, the counts need 2.3
times as many demonstrations. If nothing slips and the first cell is given, $C = H$: as many.
""",
    ),
    "always_best": Exercise(
        title="One who never errs",
        task="""
A gardener always takes a best action. What do the weights do that explain it, with exact counts and no prior?
What does a prior make of them, and which part of the answer may you use?
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
They grow for ever. Soft policies come as near to the best one as one likes, but only as $|w| \to \infty$:
such counts lie on the edge of what can be collected, and $L$ has no highest point. A prior stops the growth
where it costs more than it gains. Then the length of $w$ says how sure the gardener seemed, and how many
demonstrations there were; its direction is about the wishes, and a plan for the best needs no more.
""",
    ),
}
