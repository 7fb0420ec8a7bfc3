"""Exercises of B7: its functions, and what goes beyond them."""

import math

import numpy as np

from chapters.exact.mdp import MDP
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def counted_model(
    obs: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    next_obs: np.ndarray,
    terminated: np.ndarray,
    num_states: int,
    num_actions: int,
    gamma: float,
) -> MDP:
    """The model (E1) that N lived steps show, given as [N] each; where episodes terminated is terminal."""
    counts, sums = np.zeros((num_states, num_actions, num_states)), np.zeros((num_states, num_actions))
    np.add.at(counts, (obs, actions, next_obs), 1)
    np.add.at(sums, (obs, actions), rewards)
    tries = np.maximum(counts.sum(axis=2), 1)  # [S, A]
    terminal = np.zeros(num_states, dtype=bool)
    terminal[next_obs[terminated]] = True
    return MDP(counts / tries[:, :, None], sums / tries, terminal, gamma)  # eq. (E1)


def check_counted_model(counted_model):
    rng = np.random.default_rng(3)
    for num_steps, num_states, num_actions in ((60, 4, 2), (5, 6, 3), (1, 2, 1)):
        obs, next_obs = rng.integers(num_states, size=(2, num_steps))
        actions, rewards = rng.integers(num_actions, size=num_steps), rng.normal(1.0, 1.0, num_steps)
        terminated = (next_obs == num_states - 1) & (rng.random(num_steps) < 0.8)
        model = counted_model(obs, actions, rewards, next_obs, terminated, num_states, num_actions, gamma=0.8)
        for s, a in np.ndindex(num_states, num_actions):
            tries = [i for i in range(num_steps) if (obs[i], actions[i]) == (s, a)]
            mean = sum(rewards[i] for i in tries) / len(tries) if tries else 0.0
            assert abs(model.R[s, a] - mean) < 1e-9
            for n in range(num_states):
                share = sum(next_obs[i] == n for i in tries) / len(tries) if tries else 0.0
                assert abs(model.P[s, a, n] - share) < 1e-9
        ends = {int(next_obs[i]) for i in range(num_steps) if terminated[i]}
        assert set(np.flatnonzero(model.terminal).tolist()) == ends
        assert model.gamma == 0.8


def waiting_time(value: float, kappa: float, gamma: float) -> float:
    """After how many steps an action that seems to stay in place for nothing is the best one, (E2)."""
    return ((1 - gamma) * value / kappa) ** 2


def check_waiting_time(waiting_time):
    """By planning in a state with two actions: one is worth `value`, the other stays and pays the bonus."""
    for value, kappa, gamma in ((0.5, 5e-4, 0.95), (1.0, 0.01, 0.9), (0.3, 0.1, 0.5), (2.0, 1e-3, 0.99)):
        found = waiting_time(value, kappa, gamma)
        for waited, bored in ((0.99 * found, False), (1.01 * found, True)):
            curious = 0.0
            for _ in range(5000):
                curious = kappa * math.sqrt(waited) + gamma * max(value, curious)
            assert (curious > value) == bored, f"after {waited:.4g} steps"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the update that serves lived and imagined steps alike, (1), and the sweeping that always takes the
largest error of (3).
""",
        minutes=35,
        difficulty="medium",
        functions=("q_update", "prioritised_sweeping"),
    ),
    "who_knows": Exercise(
        title="Who knows more?",
        task="""
Agents that never planned wander longest, and yet it is in *their* memory that planning to the end finds the
shortest path. Why? What would you do with a new world of which you may see 10,000 steps?
""",
        minutes=10,
        difficulty="easy",
        answer="""
Who plans finds a way early and keeps to it, apart from a tenth of its steps; what lies elsewhere it hardly
sees. Who does not plan stumbles about until it has tried everything. Exploring and exploiting are in each
other's way, however well one plans. So: explore first, for the model's sake (or as Dyna-Q+ does, by a bonus),
and plan to the end afterwards.
""",
    ),
    "counted_model": Exercise(
        title="Count",
        task=r"""
On a slippery floor the last outcome says little. So count all of them. The model that makes what was seen
most likely is

$$\hat P(s' \mid s, a) = \frac{N(s, a, s')}{N(s, a)}, \qquad
\hat R(s, a) = \text{mean reward of the } N(s, a) \text{ tries} \tag{E1}$$

A pair that was never tried has $\hat P = 0$ for each $s'$, and $\hat R = 0$.
The evidence plans in such a model.
""",
        minutes=20,
        difficulty="medium",
        solution=counted_model,
        check=check_counted_model,
        hints=(
            "A table of counts [S, A, S], a table of sums [S, A]; divide both by the number of tries.",
            "After one step there is a single 1 in P, and all other pairs are 0: do not divide by 0.",
            "np.add.at(counts, (obs, actions, next_obs), 1)  # counts[...] += 1 counts repeated places once",
        ),
        edits={
            "counts_once": Edit(
                function="counted_model",
                old="np.add.at(counts, (obs, actions, next_obs), 1)",
                new="counts[obs, actions, next_obs] += 1",
                says="counts what happened twice only once: += adds to each place of an array once",
            ),
            "sums_of_rewards": Edit(
                function="counted_model",
                old="sums / tries, terminal",
                new="sums, terminal",
                says="takes the sum of a pair's rewards, not their mean",
            ),
            "joint": Edit(
                function="counted_model",
                old="counts / tries[:, :, None]",
                new="counts / max(counts.sum(), 1)",
                says="divides by the number of all steps: how often a pair occurs, not where it leads",
            ),
            "no_ends": Edit(
                function="counted_model",
                old="    terminal[next_obs[terminated]] = True\n",
                new="",
                says="does not mark where episodes ended",
            ),
            "ends_where_it_began": Edit(
                function="counted_model",
                old="terminal[next_obs[terminated]]",
                new="terminal[obs[terminated]]",
                says="marks the state before the last step as the end",
            ),
        },
    ),
    "waiting_time": Exercise(
        title="When curiosity wins",
        task=r"""
Dyna-Q+ stands before a wall that it last tried $\tau$ steps ago: the model says "stays in place, pays 0".
To go its usual way from here is worth $V$. To try the wall first is worth $\kappa\sqrt\tau + \gamma V$ in the
model: it earns the bonus, and the usual way is still there afterwards. So it tries the wall once $\tau$
exceeds

$$\tau^\ast = \Bigl( \frac{(1 - \gamma)\, V}{\kappa} \Bigr)^2 \tag{E2}$$

Derive it and write it. How long is that at the start of the maze with the gap on the left, 16 steps from the
goal, and what becomes of it with twice the $\kappa$?
""",
        minutes=15,
        difficulty="easy",
        solution=waiting_time,
        check=check_waiting_time,
        hints=(
            "Set the worth of trying equal to the worth of going on, and solve for the waiting time.",
            "With gamma = 0 nothing is lost later: the bonus must reach the whole value.",
            "kappa * sqrt(tau) = (1 - gamma) * value",
        ),
        edits={
            "no_root": Edit(
                function="waiting_time",
                old="((1 - gamma) * value / kappa) ** 2",
                new="(1 - gamma) * value / kappa",
                says="forgets the square root over the waiting time",
            ),
            "once_for_all": Edit(
                function="waiting_time",
                old="(1 - gamma) * value",
                new="value",
                says="gives up the whole value for one look: the way is still there afterwards",
            ),
            "upside_down": Edit(
                function="waiting_time",
                old="value / kappa",
                new="kappa / value",
                says="waits the longer, the more curious it is",
            ),
        },
        answer=r"""
Trying is better when $\kappa\sqrt\tau + \gamma V > V$; solve that for $\tau$. With $V = 0.95^{15} = 0.46$ and
$\kappa = 5 \cdot 10^{-4}$ it waits 2,146 steps. With twice the $\kappa$ it waits a quarter as long, and looks
at old walls four times as often, for ever after. Hence a tiny $\kappa$.
""",
    ),
}
