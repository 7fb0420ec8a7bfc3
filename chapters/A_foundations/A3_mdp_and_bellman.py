# %% [markdown]
r"""
# A3 · Markov decision processes and the Bellman equations

**Question.** You know exactly how a world works. What is each of its states worth, what is the best thing to
do there, and how do you compute both?

**Before this:** A1 (the words: agent, state, action, reward, policy). **Changes from A1:** the words become
three arrays, and everything about them can be computed exactly. **Next:** A4 meets the same grid world as a
program that one can only play; from B1 on the arrays are hidden, and the agent must learn from what it sees.

**Time budget.** 20 s on 2 cores.

<!-- results: A3 -->

`rl run A3`: 8 s, 362 MB. `rl run A3 --smoke`: 4 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| example_3_5_random | 25                              | ≥ 25    | 10/10 |
| example_3_5_best   | 25                              | ≥ 25    | 10/10 |
| example_4_1_random | 16                              | ≥ 16    | 10/10 |
| world_4x3_best     | 9                               | ≥ 9     | 10/10 |
| turning_points     | 4                               | ≥ 4     | 10/10 |
| evaluation         | 9.11e-10 (8.49e-10 to 9.27e-10) | ≤ 1e-08 | 10/10 |
| control            | 9.25e-10 (8.85e-10 to 9.66e-10) | ≤ 1e-08 | 10/10 |
| enumerated         | 0                               | ≤ 1e-08 | 10/10 |
| jax                | 8.88e-15 (5.33e-15 to 4.97e-14) | ≤ 1e-08 | 10/10 |
| contraction        | 1                               | ≤ 1     | 10/10 |

<!-- /results -->

References: `suttonbarto2018` (chapters 3 and 4), `russellnorvig2010aima`, `russellnorvig2021aima`,
`bellman1957`, `howard1960`, `puterman1994`.

Symbols: `S` states, `A` actions, `P[s, a, s']` probability of landing in `s'`, `R[s, a]` expected reward,
`gamma` discount, `V[s]` value of a state, `Q[s, a]` value of an action in a state, `policy[s, a]` probability
of an action.
"""

# %%
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Annotated, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from chapters.utils import RunLog, in_range, plotting, run_lesson

Array = np.ndarray | jax.Array
MOVES = (
    (-1, 0),
    (0, 1),
    (1, 0),
    (0, -1),
)  # actions 0 to 3: up, right, down, left, as (row step, column step)
EXIT_REWARD = {"G": 1.0, "P": -1.0, "T": 0.0}  # goal, pit, and an end without reward
TIE = 1e-10  # actions whose values differ by less count as equally good
MAX_SWEEPS = 100_000


# %%
@dataclass(frozen=True)
class Config:
    """Solve Markov decision processes exactly: grids with published answers, then random ones."""

    seed: int = 0
    """Seed of the random processes."""
    num_mdps: Annotated[int, in_range(1, 10_000)] = 40
    """How many random processes the methods must agree on."""
    num_states: Annotated[int, in_range(2, 1000)] = 30
    """S: states of each random process."""
    num_actions: Annotated[int, in_range(2, 100)] = 4
    """A: actions of each random process."""
    max_gamma: Annotated[float, in_range(0.0, 0.999)] = 0.99
    """The random processes draw their discount between half of this and this."""
    tolerance: Annotated[float, in_range(1e-10, 1.0)] = 1e-9
    """Promised distance of an iterated value function from the true one."""
    largest: Annotated[int, in_range(16, 4096)] = 1024
    """Speed is measured on 16, 32, 64, ... states up to this."""


SMOKE = {"num_mdps": 3, "num_states": 10, "largest": 32}

# %% [markdown]
r"""
## 1. A decision process is three arrays

At each step an agent is in a **state**, picks an **action**, receives a **reward** and lands in a next state.
The process is **Markov** if the next state and the reward depend on the present state and action alone, and
not on how the agent got there. That is less a law of nature than a demand on what you call the state: it must
hold everything about the past that still matters.

You already know one such process well.

| | grid world | a language model writing an answer |
|---|---|---|
| state $s$ | the cell the agent is on | the prompt and the tokens so far |
| action $a$ | up, right, down, left | the next token |
| $P(s' \mid s, a)$ | where it lands; the floor may be slippery | the token is appended, for certain |
| reward $R(s, a)$ | −0.04 a step, +1 at the goal | 0 until the end, then a score of the whole text |
| terminal state | goal, pit | after the end-of-text token |
| policy $\pi(a \mid s)$ | probabilities of the four moves | softmax over the logits |
| value $V(s)$ | expected sum of rewards from here | expected score of a text sampled from this prefix |

A prefix contains its whole history, so text is Markov for free. What text does not have is a small number of
states: with 50,000 tokens there are $50{,}000^{20}$ prefixes of length 20. This lesson stays where all states
fit in a table and every answer is exact. Later lessons keep the same equations and approximate.

So the whole world is $P$ [S, A, S], $R$ [S, A] and a mask of the **terminal** states. Terminal means: nothing
follows. We write that down twice, on purpose. A terminal state leads only to itself with reward 0, so that
every row of $P$ is a distribution; and equation (2) below multiplies what comes after a terminal state by
zero.
"""


# %%
class MDP(NamedTuple):
    """A finite Markov decision process."""

    P: Float[Array, "S A S"]
    """P[s, a, s2]: probability that action a in state s leads to s2."""
    R: Float[Array, "S A"]
    """Expected reward of action a in state s."""
    terminal: Bool[Array, " S"]
    """Where the process has ended: no reward, nothing after it."""
    gamma: float
    """How much a reward one step later counts (1: as much)."""


def grid_mdp(
    grid: Sequence[str], gamma: float, slip: float = 0.0, step_reward: float = 0.0, bump_reward: float = 0.0
) -> MDP:
    """The arrays of a grid: G goal (+1), P pit (-1), T end without reward, # wall, everything else floor.

    With probability `slip` the agent moves at a right angle to its action, half the time to either side. A
    move into a wall or off the grid leaves it in place and adds `bump_reward`. State number: row * columns +
    column. Nobody is ever inside a wall; walls count as terminal, so that their value is 0.
    """
    cells = np.array([list(row) for row in grid])  # [rows, columns]
    rows, columns = cells.shape
    terminal = np.isin(cells, ["#", *EXIT_REWARD]).ravel()  # [S]
    P, R = np.zeros((cells.size, len(MOVES), cells.size)), np.zeros((cells.size, len(MOVES)))
    for s, a in product(range(cells.size), range(len(MOVES))):
        if terminal[s]:
            P[s, a, s] = 1.0  # absorbing, reward 0
            continue
        for turn, probability in ((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2)):
            move = MOVES[(a + turn) % len(MOVES)]
            row, column = s // columns + move[0], s % columns + move[1]
            blocked = not (0 <= row < rows and 0 <= column < columns) or cells[row, column] == "#"
            next_s = s if blocked else row * columns + column
            reward = step_reward + bump_reward * blocked + EXIT_REWARD.get(cells.flat[next_s], 0.0)
            P[s, a, next_s] += probability
            R[s, a] += probability * reward  # R is the mean over where the agent may land
    return MDP(P, R, terminal, gamma)


# %% [markdown]
r"""
## 2. What a state is worth

The **return** is the discounted sum of the rewards still to come,
$G_t = r_t + \gamma r_{t+1} + \gamma^2 r_{t+2} + \dots$, and the **value** $V^\pi(s)$ is its mean when the
agent starts in $s$ and follows the policy $\pi$. Summing over all futures looks hopeless. But the future
after one step is a future like any other:

> the value of a state = the mean over one step of (reward + $\gamma$ · the value of where you land).

This is the **Bellman equation**, the law of total expectation applied to time. For a language model it says
that the value of a prefix is the average, over next tokens, of the values of the prefixes one token longer.
Say a reviewer model at "The film was" goes on with "great" (probability 0.7) or "awful" (0.3), and the
finished texts score 0.9 and 0.1 on average. Then these are the $Q$ of the two tokens, and the prefix is worth
$0.7 \cdot 0.9 + 0.3 \cdot 0.1 = 0.66$. That "great" is 0.24 better than what the model does on average is its
**advantage**, and raising the probability of such tokens is what PPO will do in chapters C and D.

In symbols,

$$V^\pi(s) = \sum_a \pi(a \mid s)\, Q^\pi(s, a) \tag{1}$$

$$Q^\pi(s, a) = R(s, a) +
\gamma \sum_{s'} P(s' \mid s, a)\, \bigl(1 - \text{terminal}(s')\bigr)\, V^\pi(s') \tag{2}$$

Remember the factor $(1 - \text{terminal})$: it comes back as `1 - terminated` in every temporal-difference
target of this course.

Read as an instruction rather than an equation, "replace V by the right-hand side" is a **backup**. There are
two: one averages over the policy's actions (1), the other takes the best action and so belongs to the best
policy:

$$V^*(s) = \max_a Q^*(s, a) \tag{3}$$

The functions below use only operators that NumPy and JAX share, so the same lines run on both.
"""


# %%
def q_from_v(mdp: MDP, V: Float[Array, " S"]) -> Float[Array, "S A"]:
    """One step of lookahead: the value of each action if the rest of the future is worth `V`."""
    return mdp.R + mdp.gamma * (mdp.P @ (V * ~mdp.terminal))  # eq. (2); [S, A, S] @ [S] -> [S, A]


def policy_backup(mdp: MDP, policy: Float[Array, "S A"], V: Float[Array, " S"]) -> Float[Array, " S"]:
    """The mean over the policy's actions of what they lead to."""
    return (policy * q_from_v(mdp, V)).sum(axis=1)  # eq. (1)


def optimality_backup(mdp: MDP, V: Float[Array, " S"]) -> Float[Array, " S"]:
    """The best action's value in each state."""
    return q_from_v(mdp, V).max(axis=1)  # eq. (3)


# %% [markdown]
r"""
## 3. Evaluation: the value of a given policy

With the policy fixed, (1) and (2) are S linear equations in S unknowns. Write $P_\pi$ for the policy's
state-to-state probabilities with the columns of terminal states set to zero, and $R_\pi$ for its mean
rewards:

$$V = R_\pi + \gamma P_\pi V \quad\Longleftrightarrow\quad (I - \gamma P_\pi)\, V = R_\pi \tag{4}$$

One call of a linear solver gives the answer, at a cost of $S^3$. The other way is to apply the backup until
nothing changes. When may one stop? A backup multiplies the distance to the solution by at most $\gamma$
(section 5), and from this follows (puterman1994, theorem 6.3.1): if the last sweep changed no state by more
than

$$\max_s |V_{k+1}(s) - V_k(s)| \;\le\; \varepsilon\, \frac{1 - \gamma}{\gamma}, \tag{5}$$

then $V_{k+1}$ is within $\varepsilon$ of the truth. Note the factor: at $\gamma = 0.99$ a change of $10^{-9}$
can still hide an error of $10^{-7}$. At $\gamma = 1$ there is no such promise, and we stop at a change of
$\varepsilon / 1000$.
"""


# %%
def evaluate_exactly(mdp: MDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, " S"]:
    """The value of a policy by a linear solve."""
    P_policy = np.einsum("sa,sat->st", policy, mdp.P) * ~mdp.terminal  # [S, S], nothing comes after an end
    R_policy = (policy * mdp.R).sum(axis=1)  # [S]
    return np.linalg.solve(np.eye(len(R_policy)) - mdp.gamma * P_policy, R_policy)  # eq. (4)


def stopping_gap(gamma: float, tolerance: float) -> float:
    """The change per sweep below which the value is within `tolerance` of the truth."""
    return tolerance * (1.0 - gamma) / max(gamma, 1e-12) if gamma < 1.0 else tolerance / 1000  # eq. (5)


def iterate(
    backup: Callable[[Array], Array], V: Float[np.ndarray, " S"], gap: float
) -> tuple[Float[np.ndarray, " S"], int]:
    """(value, number of sweeps): `backup`, applied from `V` on until no state changes by more than `gap`."""
    for sweep in range(1, MAX_SWEEPS + 1):
        old, V = V, backup(V)
        if np.abs(V - old).max() <= gap:
            return V, sweep
    raise RuntimeError(f"still moving after {MAX_SWEEPS:,} sweeps: does every episode end?")


def evaluate_iteratively(
    mdp: MDP, policy: Float[np.ndarray, "S A"], tolerance: float
) -> tuple[Float[np.ndarray, " S"], int]:
    """(value of a policy, number of sweeps) by the backup (1)."""
    gap = stopping_gap(mdp.gamma, tolerance)
    return iterate(lambda V: policy_backup(mdp, policy, V), np.zeros(len(mdp.R)), gap)


# %% [markdown]
r"""
## 4. Control: the best policy

**Policy iteration** takes turns. Evaluate the policy; then, in every state, take the action with the highest
$Q$. The new policy is at least as good in every state (the policy improvement theorem), and when nothing is
left to improve, it satisfies (3): it is optimal.

**Value iteration** does not wait for an evaluation to finish. It applies the backup (3) again and again; the
greedy policy of the result is read off once, at the end.

Several actions are often equally good. We keep them all: the greedy policy is uniform over its ties.
"""


# %%
def greedy_policy(Q: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """All best actions of each state, equally likely."""
    shortfall = Q.max(axis=1, keepdims=True) - Q  # [S, A] >= 0
    best = shortfall <= TIE
    return best / best.sum(axis=1, keepdims=True)


def policy_iteration(mdp: MDP) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S A"], int]:
    """(optimal value, optimal policy, number of evaluations), starting from the random policy."""
    policy = np.full(mdp.R.shape, 1.0 / mdp.R.shape[1])
    for evaluations in count(1):
        V = evaluate_exactly(mdp, policy)
        greedy = greedy_policy(q_from_v(mdp, V))
        if not policy[greedy <= 0.0].any():  # all weight is on best actions already: (3) holds
            return V, greedy, evaluations
        policy = greedy


def value_iteration(mdp: MDP, tolerance: float) -> tuple[Float[np.ndarray, " S"], int]:
    """(optimal value, number of sweeps) by the backup (3)."""
    return iterate(
        lambda V: optimality_backup(mdp, V), np.zeros(len(mdp.R)), stopping_gap(mdp.gamma, tolerance)
    )


# %% [markdown]
r"""
## 5. Why it works: every backup shrinks the error

Take any two guesses $U$ and $V$ of the value function. After one backup $T$ (either of the two) they are
closer:

$$\max_s |TU(s) - TV(s)| \;\le\; \gamma\, \max_s |U(s) - V(s)| \tag{6}$$

The reason is short. A backup averages values (weights that sum to at most 1), takes a maximum (which never
widens a gap) and multiplies by $\gamma$. So there is exactly one fixed point, every starting guess is pulled
into it, and the error after $k$ sweeps is at most $\gamma^k$ times the error at the start. We measure the
ratio of both sides on random pairs. It must never exceed 1, save for rounding; and it reaches 1 when
$U = V + \text{constant}$ and no end is near.

## 6. The same lines, compiled

JAX turns the Python function into one compiled program, loop included. By default it computes in 32 bits,
where one backup of a value near 100 is off by $10^{-5}$ and (5) is never met for a small $\varepsilon$.
`jax.enable_x64` switches to 64 bits for the calls inside its `with` block only.
"""


# %%
def contraction_ratio(
    mdp: MDP,
    policy: Float[np.ndarray, "S A"] | None,
    U: Float[np.ndarray, " S"],
    V: Float[np.ndarray, " S"],
) -> float:
    """Left side of (6) over its right side, for the policy's backup, or for the optimal one if it is None."""

    def backup(values: np.ndarray) -> np.ndarray:
        return optimality_backup(mdp, values) if policy is None else policy_backup(mdp, policy, values)

    return float(np.abs(backup(U) - backup(V)).max() / (mdp.gamma * np.abs(U - V).max()))  # eq. (6)


def value_iteration_jax(mdp: MDP, gap: float | Array) -> tuple[Float[jax.Array, " S"], Array]:
    """(optimal value, number of sweeps): value iteration until no state changes by more than `gap`."""

    def sweep(state):
        V, _, sweeps = state
        new = optimality_backup(mdp, V)  # the very function from section 2, traced
        return new, abs(new - V).max(), sweeps + 1

    def unfinished(state):
        return (state[1] > gap) & (state[2] < MAX_SWEEPS)

    V, _, sweeps = jax.lax.while_loop(unfinished, sweep, (mdp.R[:, 0] * 0.0, np.inf, 0))
    return V, sweeps


def solve_with_jax(mdp: MDP, tolerance: float) -> Float[np.ndarray, " S"]:
    """The optimal value by compiled value iteration in 64 bits."""
    with jax.enable_x64(True):
        V, _ = jax.jit(value_iteration_jax)(mdp, stopping_gap(mdp.gamma, tolerance))
        return np.asarray(V)


# %% [markdown]
r"""
## 7. Worlds whose answers are in print

* **Example 3.5** of Sutton and Barto: a 5x5 grid, $\gamma = 0.9$. Bumping into the edge costs 1. Every action
  on cell A pays 10 and carries the agent to A'; cell B pays 5 and leads to B'. A teleport is no trouble: it
  is a row of $P$.
* **Example 4.1**: a 4x4 grid with two ends, −1 a step, $\gamma = 1$. The value of a cell under the random
  policy is minus the mean number of steps to an end.
* **The 4x3 world** of Russell and Norvig: goal, pit, a floor where one move in five goes sideways,
  $\gamma = 1$. This is the world that A4 plays. The book also prints at which step rewards its best policy
  changes.
"""

# %%
WORLD_4X3 = ("...G", ".#.P", "S...")
TURNING_POINTS = (-1.6497, -0.7311, -0.4526, -0.0274)  # russellnorvig2021aima, figure 16.2
EXAMPLE_3_5_RANDOM = """
 3.3  8.8  4.4  5.3  1.5
 1.5  3.0  2.3  1.9  0.5
 0.1  0.7  0.7  0.4 -0.4
-1.0 -0.4 -0.4 -0.6 -1.2
-1.9 -1.3 -1.2 -1.4 -2.0"""  # suttonbarto2018, figure 3.2
EXAMPLE_3_5_BEST = """
22.0 24.4 22.0 19.4 17.5
19.8 22.0 19.8 17.8 16.0
17.8 19.8 17.8 16.0 14.4
16.0 17.8 16.0 14.4 13.0
14.4 16.0 14.4 13.0 11.7"""  # suttonbarto2018, figure 3.5
EXAMPLE_4_1_RANDOM = """
  0. -14. -20. -22.
-14. -18. -20. -20.
-20. -20. -18. -14.
-22. -20. -14.   0."""  # suttonbarto2018, figure 4.1
WORLD_4X3_BEST = """
0.812 0.868 0.918 nan
0.762 nan   0.660 nan
0.705 0.655 0.611 0.388"""  # russellnorvig2010aima, figure 17.3; nan: wall, goal and pit


def example_3_5() -> MDP:
    """The grid with two teleports: A pays 10, B pays 5."""
    mdp = grid_mdp(["....."] * 5, gamma=0.9, bump_reward=-1.0)
    for cell, landing, reward in ((1, 21, 10.0), (3, 13, 5.0)):
        mdp.P[cell] = 0.0
        mdp.P[cell, :, landing] = 1.0
        mdp.R[cell] = reward
    return mdp


def example_4_1() -> MDP:
    """The grid with an end in two corners."""
    return grid_mdp(["T...", "....", "....", "...T"], gamma=1.0, step_reward=-1.0)


def world_4x3(step_reward: float = -0.04) -> MDP:
    """The slippery world with goal and pit."""
    return grid_mdp(WORLD_4X3, gamma=1.0, slip=0.2, step_reward=step_reward)


def cells_as_printed(V: Float[np.ndarray, " S"], table: str) -> int:
    """How many values, rounded as in the printed table, read the same there."""
    printed = np.array(table.split(), dtype=float)  # [S]
    decimals = len(table.split()[0].partition(".")[2])
    return int((np.round(V, decimals) == printed).sum())


def random_mdp(rng: np.random.Generator, num_states: int, num_actions: int, gamma: float) -> MDP:
    """Random transitions and rewards; the last state is terminal."""
    P = rng.dirichlet(np.full(num_states, 0.3), size=(num_states, num_actions))  # [S, A, S] a few likely ones
    R = rng.normal(size=(num_states, num_actions))
    P[-1], R[-1] = 0.0, 0.0
    P[-1, :, -1] = 1.0
    return MDP(P, R, np.arange(num_states) == num_states - 1, gamma)


# %% [markdown]
r"""
## 8. Run, look, break

**Look** at `A3.png`. Top left, the random policy: cell A is worth *less* than the 10 it pays, because the
agent lands at the edge, where it bumps. Top right, the best policy: every value is higher, and where several
arrows start in one cell, the moves are equally good. Bottom left, the slippery world: from the bottom row the
agent takes the long way round the wall rather than pass beside the pit. Bottom right: value iteration's error
falls as a straight line on a logarithmic axis, on this grid exactly along the bound $\gamma^k$; policy
iteration is done after a handful of evaluations.

`A3_rewards.png`: nothing changes but the reward per step, and the best policy goes from despair (jump into
the pit, then it is over) to patience (walk into the wall and wait to slip the right way). You get the
behaviour you pay for; chapter D meets the same effect as reward hacking. `A3_film.gif` shows value spreading
from the goal of a slippery maze, one cell a sweep. `A3_speed.png`: on few states NumPy spends its time
between the operations and compiled JAX does not; on many states both wait for memory. Policy iteration needs
few rounds, but the linear solve in each grows as $S^3$.

**Break it.** Delete `* ~mdp.terminal` from `q_from_v` and run. Everything still passes! An absorbing state
with reward 0 keeps the value 0 that it starts with. Now start `value_iteration` from a guess as well
(`np.ones` for `np.zeros`): at $\gamma = 1$ the ends keep their 1 for ever, and every value of the 4x3 world
comes out exactly 1 too high. A neural network always starts from a guess. That is why the mask is in the
equation and not left to luck.

**Exercises.** (1) Show with (2) that for $U = V + c$, away from the ends, the ratio in (6) is exactly 1. (2)
Set `gamma=1.0` in `example_3_5`; predict what each solver does, then run it. (3) `iterate` computes all
states from old values. Update `V` in place, state by state: how many sweeps does the 5x5 grid take now?

<details><summary>Answers</summary>

(1) The rows of $P$ sum to 1, so (2) adds $\gamma c$ to every $Q(s, a)$, and neither the mean nor the maximum
changes that. (2) There is no end and no discount: the sums diverge. Value iteration says after 100,000 sweeps
that it is still moving; the linear solve meets a singular matrix and either says so or returns numbers near
$10^{15}$. (3) 50 instead of 241: a new value is used in the same sweep.

</details>
"""


# %%
def agreement(cfg: Config, log: RunLog) -> None:
    """All methods on random processes, every answer found in at least two ways."""
    rng = np.random.default_rng(cfg.seed)
    worst = dict.fromkeys(("evaluation", "control", "jax", "ratio", "enumerated"), 0.0)
    for index in log.track(range(cfg.num_mdps), "random processes"):
        gamma = rng.uniform(cfg.max_gamma / 2, cfg.max_gamma)
        mdp = random_mdp(rng, cfg.num_states, cfg.num_actions, gamma)
        policy = rng.dirichlet(np.ones(cfg.num_actions), size=cfg.num_states)  # [S, A]
        evaluated, _ = evaluate_iteratively(mdp, policy, cfg.tolerance)
        best, best_policy, evaluations = policy_iteration(mdp)
        iterated, sweeps = value_iteration(mdp, cfg.tolerance)
        log.write(index, gamma=gamma, sweeps=sweeps, evaluations=evaluations)

        U, V = rng.normal(scale=10.0, size=(2, cfg.num_states))
        ratios = [contraction_ratio(mdp, p, U, other) for p in (None, policy) for other in (V, U + 1.0)]
        small = random_mdp(rng, 5, 3, gamma)
        errors = {
            "evaluation": np.abs(evaluated - evaluate_exactly(mdp, policy)).max(),
            "control": max(
                np.abs(iterated - best).max(), np.abs(evaluate_exactly(mdp, best_policy) - best).max()
            ),
            "jax": np.abs(solve_with_jax(mdp, cfg.tolerance) - iterated).max(),
            "ratio": max(ratios),
            "enumerated": np.abs(best_of_all_policies(small) - policy_iteration(small)[0]).max(),
        }
        worst = {name: max(worst[name], float(errors[name])) for name in worst}

    for name, statement, source in (
        (
            "evaluation",
            "evaluation: the linear solve and the iteration agree",
            "equation (4), stopping rule (5)",
        ),
        ("control", "control: policy iteration and value iteration agree", "(3) has one solution"),
        ("enumerated", "trying all 243 policies of a small process finds no better", "enumeration"),
        ("jax", "compiled JAX in 64 bits agrees with NumPy", "one backup, two backends"),
    ):
        log.claim(name, statement, worst[name], at_most=1e-8, source=source, always=True)
    log.claim(
        "contraction",
        "a backup brings any two guesses closer, by gamma at least",
        worst["ratio"],
        at_most=1 + 1e-9,
        unit="times gamma",
        source="puterman1994, proposition 6.2.4, and 1e-9 for rounding",
        always=True,
    )


def best_of_all_policies(mdp: MDP) -> Float[np.ndarray, " S"]:
    """The highest value of each state over all deterministic policies, by trying them all."""
    num_states, num_actions = mdp.R.shape
    choices = product(range(num_actions), repeat=num_states)
    return np.max([evaluate_exactly(mdp, np.eye(num_actions)[list(choice)]) for choice in choices], axis=0)


# %%
def published(cfg: Config, log: RunLog) -> None:
    """The worlds of section 7 against the books."""
    grid, corners = example_3_5(), example_4_1()
    random_policy = np.full(grid.R.shape, 0.25)
    walk, _ = evaluate_iteratively(corners, random_policy[:16], cfg.tolerance)
    best, _ = value_iteration(grid, cfg.tolerance)
    slippery, _ = value_iteration(world_4x3(), cfg.tolerance)
    for name, world, V, table, source in (
        ("example_3_5_random", "5x5 grid, random policy", evaluate_exactly(grid, random_policy),
         EXAMPLE_3_5_RANDOM, "suttonbarto2018, figure 3.2"),
        ("example_3_5_best", "5x5 grid, best policy", best, EXAMPLE_3_5_BEST, "suttonbarto2018, figure 3.5"),
        ("example_4_1_random", "4x4 grid, random policy", walk,
         EXAMPLE_4_1_RANDOM, "suttonbarto2018, figure 4.1"),
        ("world_4x3_best", "slippery 4x3 world, best policy", slippery,
         WORLD_4X3_BEST, "russellnorvig2010aima, figure 17.3"),
    ):  # fmt: skip
        num_cells = len(table.split()) - table.count("nan")
        log.claim(
            name,
            f"{world}: each value reads as in the book",
            cells_as_printed(V, table),
            at_least=num_cells,
            unit=f"of {num_cells} cells",
            source=source,
            always=True,
        )
    turns = 0
    for reward in TURNING_POINTS:
        below, above = (policy_iteration(world_4x3(reward + change))[1] for change in (-1e-4, 1e-4))
        turns += bool((below != above).any())
    log.claim(
        "turning_points",
        "its best policy turns at the four step rewards in the book",
        turns,
        at_least=4,
        unit="of 4",
        source="russellnorvig2021aima, figure 16.2",
        always=True,
    )


# %%
def seconds(call) -> float:
    """Wall seconds of the fastest of at least three calls; of more, if they are quick."""
    times = []
    while len(times) < 3 or sum(times) < 0.1:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def speed(cfg: Config, log: RunLog) -> None:
    """Seconds until solved to `tolerance`, against the number of states."""
    rng = np.random.default_rng(cfg.seed)
    num_states = 16
    while num_states <= cfg.largest:
        mdp = random_mdp(rng, num_states, cfg.num_actions, gamma=0.9)
        start = time.perf_counter()
        solve_with_jax(mdp, cfg.tolerance)  # the first call for each shape compiles
        first = time.perf_counter() - start
        log.write(
            num_states,
            value_iteration_numpy_seconds=seconds(lambda: value_iteration(mdp, cfg.tolerance)),  # noqa: B023
            value_iteration_jax_seconds=seconds(lambda: solve_with_jax(mdp, cfg.tolerance)),  # noqa: B023
            policy_iteration_numpy_seconds=seconds(lambda: policy_iteration(mdp)),  # noqa: B023
            jax_first_call_seconds=first,
        )
        num_states *= 2

    figure, ax = plotting.new_figure()
    for name, label, style in (
        ("value_iteration_numpy", "value iteration, NumPy", "o-"),
        ("value_iteration_jax", "value iteration, JAX compiled", "s-"),
        ("policy_iteration_numpy", "policy iteration, NumPy", "^-"),
        ("jax_first_call", "JAX, first call (compiles)", ":"),
    ):
        ax.loglog(*log.series(f"{name}_seconds"), style, label=label)
    ax.set(xlabel="states", ylabel="seconds until solved", title="Cost of an exact solution")
    ax.legend()
    log.figure(figure, "speed")


# %%
def arrows_of(mdp: MDP, policy: Float[np.ndarray, "S A"], shape: tuple[int, int]) -> list:
    """[rows][columns] of the actions the policy may take; none where the process has ended."""
    cells = [[] if end else list(np.flatnonzero(row)) for row, end in zip(policy, mdp.terminal)]
    return [cells[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]


def draw_world_4x3(ax, mdp: MDP, title: str) -> None:
    """Optimal values and moves of the slippery world; ends carry the reward for entering them."""
    V, policy, _ = policy_iteration(mdp)
    symbols = np.array([list(row) for row in WORLD_4X3])
    shown = np.where(symbols == "#", np.nan, V.reshape(symbols.shape))
    texts = {"#": "wall", "G": "goal +1", "P": "pit −1"}
    labels = [
        [texts.get(symbol, f"{value:.2f}") for symbol, value in zip(*rows)] for rows in zip(symbols, shown)
    ]
    shown = np.where(symbols == "G", 1.0, np.where(symbols == "P", -1.0, shown))
    plotting.grid_map(
        ax, shown, arrows_of(mdp, policy, symbols.shape), arrows=MOVES, labels=labels, title=title
    )


def draw_convergence(ax, mdp: MDP) -> None:
    """Error after each sweep of value iteration and each evaluation of policy iteration."""
    best, _, _ = policy_iteration(mdp)
    V, errors = np.zeros_like(best), []
    for _ in range(150):
        errors.append(np.abs(V - best).max())
        V = optimality_backup(mdp, V)
    policy, improved = np.full(mdp.R.shape, 0.25), []
    for _ in range(5):
        evaluated = evaluate_exactly(mdp, policy)
        improved.append(max(np.abs(evaluated - best).max(), 1e-14))
        policy = greedy_policy(q_from_v(mdp, evaluated))
    ax.semilogy(errors, label="value iteration", linewidth=4)
    ax.semilogy(range(1, 6), improved, "o-", color=plotting.ORANGE, label="policy iteration, k evaluations")
    ax.semilogy(errors[0] * mdp.gamma ** np.arange(150), label="bound γᵏ · first error", **plotting.REFERENCE)
    ax.set(
        xlabel="sweeps k",
        ylabel="largest error of a value",
        title="5x5 grid: error of the value",
    )
    ax.legend()


def figures(log: RunLog) -> None:
    """Value maps with arrows, convergence, and what the step reward does to the best policy."""
    grid = example_3_5()
    best, policy, _ = policy_iteration(grid)
    walked = evaluate_exactly(grid, np.full(grid.R.shape, 0.25))
    names = {1: "A, pays 10\n", 3: "B, pays 5\n", 21: "A′\n", 13: "B′\n"}
    figure, axes = plotting.new_figure(2, 2)
    for ax, V, moves, title in (
        (axes[0, 0], walked, None, "5x5 grid: random policy"),
        (axes[0, 1], best, arrows_of(grid, policy, (5, 5)), "5x5 grid: best policy"),
    ):
        texts = [f"{names.get(s, '') if moves is None else ''}{value:.1f}" for s, value in enumerate(V)]
        labels = np.array(texts).reshape(5, 5)
        plotting.grid_map(
            ax, V.reshape(5, 5), moves, arrows=MOVES, labels=labels, title=title, colorbar="value"
        )
    draw_world_4x3(axes[1, 0], world_4x3(), "Slippery 4x3 world: best policy")
    draw_convergence(axes[1, 1], grid)
    log.figure(figure)

    prices = (-2.0, -0.5, -0.04, -0.01)
    figure, axes = plotting.new_figure(1, len(prices), width=3.6, height=3.3)
    for ax, price in zip(axes, prices):
        draw_world_4x3(ax, world_4x3(price), f"step reward {price:g}".replace("-", "−"))
    log.figure(figure, "rewards")


MAZE = (
    ".....#......",
    ".###.#.####.",
    ".#........#.",
    ".#.#####.##.",
    ".#.....#....",
    ".#####.####.",
    ".......#G...",
)


def film(log: RunLog) -> None:
    """Value iteration on a slippery maze, a frame a sweep: value spreads from the goal."""
    from matplotlib import colormaps

    mdp = grid_mdp(MAZE, gamma=0.95, slip=0.2)
    symbols = np.array([list(row) for row in MAZE])  # [rows, columns]
    V, frames = np.zeros(len(mdp.R)), []
    for _ in range(45):
        shown = np.where(symbols == "G", 1.0, V.reshape(symbols.shape))
        picture = (colormaps["viridis"](shown)[..., :3] * 255).astype(np.uint8)  # [rows, columns, 3]
        picture[symbols == "#"] = 90
        frames.append(picture.repeat(24, axis=0).repeat(24, axis=1))
        V = optimality_backup(mdp, V)
    log.film(frames + frames[-1:] * 20, fps=10)


# %%
def main(cfg: Config, log: RunLog) -> None:
    published(cfg, log)
    agreement(cfg, log)
    speed(cfg, log)
    figures(log)
    film(log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
