"""Exercises of E4: its filter, its model and its objectives, and a bound for the score of a pair."""

import itertools

import numpy as np
from jaxtyping import Float, Int

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def smooth(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    obs: Int[np.ndarray, " T"],
    actions: Int[np.ndarray, " T"],
) -> Float[np.ndarray, "T S"]:
    """The chance of each state at each step of one episode, given all that was observed, also later.

    `actions[t]` is done after `obs[t]`; the last one leads out of the recording.
    """
    T = len(obs)
    forward, backward = np.zeros((T, len(P))), np.ones((T, len(P)))
    forward[0] = start * emission[:, obs[0]]
    for t in range(1, T):
        forward[t] = forward[t - 1] @ P[:, actions[t - 1]] * emission[:, obs[t]]
        forward[t] /= forward[t].sum()
    for t in reversed(range(T - 1)):
        backward[t] = P[:, actions[t]] @ (emission[:, obs[t + 1]] * backward[t + 1])  # eq. (E1)
        backward[t] /= backward[t].sum()
    joint = forward * backward
    return joint / joint.sum(axis=1, keepdims=True)


def check_smooth(smooth):
    """By all hidden paths of short episodes."""
    for seed, (num_states, T) in enumerate(((2, 1), (3, 4), (2, 5))):
        rng = np.random.default_rng(seed)
        P, emission = (
            rng.dirichlet(np.ones(num_states), (num_states, 2)),
            rng.dirichlet(np.ones(3), num_states),
        )
        start, obs, actions = (
            rng.dirichlet(np.ones(num_states)),
            rng.integers(3, size=T),
            rng.integers(2, size=T),
        )
        expected = np.zeros((T, num_states))
        for path in itertools.product(range(num_states), repeat=T):
            weight = start[path[0]] * emission[path[0], obs[0]]
            for t in range(1, T):
                weight *= P[path[t - 1], actions[t - 1], path[t]] * emission[path[t], obs[t]]
            expected[np.arange(T), path] += weight
        expected /= expected.sum(axis=1, keepdims=True)
        found = smooth(P, emission, start, obs, actions)
        worst = np.unravel_index(np.abs(found - expected).argmax(), expected.shape)
        assert np.allclose(found, expected, atol=1e-9), (
            f"step {worst[0]} of {T}, state {worst[1]}: "
            f"expected {expected[worst]:.4f}, found {found[worst]:.4f}"
        )


EXERCISES = {
    "filter": Exercise(
        title="What can be known",
        task="""
Write the step of the filter, (1), and the measure (6) of all that falls short of it.
""",
        minutes=20,
        difficulty="easy",
        functions=("bayes_step", "nats_above"),
    ),
    "objectives": Exercise(
        title="Three things to ask for",
        task="""
Write the divergence of two codes, the bound (3), its balanced loss, (4) and (5).
""",
        minutes=35,
        difficulty="medium",
        functions=("code_kl", "elbo", "reconstruction_loss", "contrastive_loss", "latent_loss"),
    ),
    "model": Exercise(
        title="A memory that knows when to forget",
        task="""
Write the model's way through recordings, (2): codes that let a gradient back, and a memory that begins
anew where an episode does.
""",
        minutes=40,
        difficulty="hard",
        functions=("observe",),
    ),
    "smooth": Exercise(
        title="Wise after the event",
        task=r"""
The belief knows the past. Once an episode is over, later observations tell where the agent *was*: the
chance of $s_t$ given all of it is proportional to the forward belief times

$$\beta_t(s) = \sum_{s'} P(s' \mid s, a_t)\, E(o_{t+1} \mid s')\, \beta_{t+1}(s'),
\qquad \beta_T(s) = 1 \tag{E1}$$

(`rabiner1989hmm`). Write it. A posterior that knew this would make the bound (3) of a model of codes
alone tight. Why may a world model that acts not use it?
""",
        minutes=30,
        difficulty="medium",
        solution=smooth,
        check=check_smooth,
        hints=(
            "Two passes: forwards as in (1), backwards as in (E1); their product, divided by its sum.",
            "What does not depend on the state cancels at the end: divide each step by its sum.",
            "backward[t] = P[:, actions[t]] @ (emission[:, obs[t + 1]] * backward[t + 1])",
        ),
        edits={
            "past_alone": Edit(
                function="smooth",
                old="joint = forward * backward",
                new="joint = forward",
                says="knows the past alone: that is the filter's belief",
            ),
            "sees_twice": Edit(
                function="smooth",
                old="(emission[:, obs[t + 1]] * backward[t + 1])",
                new="(emission[:, obs[t]] * backward[t + 1])",
                says="weighs with the present observation twice, and with the next one never",
            ),
            "action_before": Edit(
                function="smooth",
                old="backward[t] = P[:, actions[t]]",
                new="backward[t] = P[:, actions[t - 1]]",
                says="takes the action that led here, not the one that leads on",
            ),
            "turned_table": Edit(
                function="smooth",
                old="P[:, actions[t]] @ (emission[:, obs[t + 1]] * backward[t + 1])",
                new="(emission[:, obs[t + 1]] * backward[t + 1]) @ P[:, actions[t]]",
                says="goes backwards with the table that leads forwards",
            ),
            "future_unweighed": Edit(
                function="smooth",
                old="(emission[:, obs[t + 1]] * backward[t + 1])",
                new="backward[t + 1]",
                says="goes back through time and looks at nothing on the way",
            ),
        },
        answer=r"""
At step $t$ it does not have $o_{t+1}$ yet. A code that tells of what comes cannot be foreseen from the
past, so the prior would never match it, and in imagination nobody could draw it. (It may be used to
*learn* $P$ and $E$ from recordings: that is the Baum-Welch algorithm.)
""",
    ),
    "wallpaper": Exercise(
        title="What tells recordings apart",
        task="""
In the pictures, each recording has a wallpaper of its own, and the contrastive memory keeps that and
loses the ball. Which score would it need for the ball as well, and why does it not get there? What do
negatives from other times of the same recording change, and what would they lose in a world where
something matters that never changes within an episode?
""",
        minutes=10,
        difficulty="medium",
        answer="""
The wallpaper alone names the right recording among 16 nearly always, so the loss is almost 0 and no
gradient asks for more; a ball would only tell apart the few recordings that share a wallpaper. At other
times of the same recording the wallpaper is the same and tells nothing, so what moves must be known. By
the same reasoning such a memory has no reason to keep what never changes within an episode: which map one
is on, or what the goal is.
""",
    ),
}
