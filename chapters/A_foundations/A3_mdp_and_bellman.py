# %% [markdown]
r"""
# A3 · Markov decision processes and the Bellman equations

**Question.** You know exactly how a world works. What is each of its states worth, what is the best thing to
do there, and how do you compute both?

**Before this:** A1 (the words: agent, state, action, reward, policy). **Changes from A1:** the words become
three arrays, and everything about them can be computed exactly. **Next:** A4, such a world as a program.

**Time.** 6 s on 2 cores; with all evidence 15 s.

References: `suttonbarto2018` (chapters 3 and 4), `howard1960`, `puterman1994`, `ng1999shaping`.

Symbols: `S` states, `A` actions, `P[s, a, s']` chance of landing in `s'`, `R[s, a]` expected reward, `gamma`
discount, `V[s]` and `Q[s, a]` value of a state and of an action in it, `policy[s, a]` chance of an action.

## How to read a lesson

This is the first lesson that is a program. A function stands below the equation that it computes; a block
with `>>>` is an example to follow by hand. `Float[Array, "S A"]` is a remark on a shape: numbers in S rows
and A columns. `Config` holds the settings, `in_range` says what `rl run A3 --tolerance ...` will accept, and
`SMOKE` what is smaller in a quick trial, `--smoke`. `main(cfg, log)`, at the end, is what `rl run A3` runs;
its record `log` holds numbers against bounds (`log.claim`) and keeps pictures. `evidence/A3.py` measures what
else is said of the lesson.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
from jaxtyping import Float

from chapters.envs.maps import value_map
from chapters.exact import published
from chapters.exact.mdp import MDP, grid_mdp, where_it_ends  # noqa: F401 — the examples use grid_mdp
from chapters.utils import RunLog, in_range, plotting, run_lesson

Array = np.ndarray | jax.Array  # NumPy's; `solve_with_jax` runs the same functions on JAX's
Values = Float[Array, " S"]  # a number for each state
Policy = Float[Array, "S A"]  # the probability of each action in each state
TIE = 1e-10  # actions count as equally good if they differ by at most this part of the largest value
MAX_SWEEPS = 100_000
MAX_EVALUATIONS = 1000


@dataclass(frozen=True)
class Config:
    """Solve Markov decision processes exactly, and compare with what books have printed."""

    seed: int = 0
    """Seed of the random processes in the evidence; the lesson itself leaves nothing to chance."""
    tolerance: Annotated[float, in_range(1e-10, 1.0)] = 1e-9
    """Promised distance of an iterated value function from the true one."""


SMOKE = {}

# %% [markdown]
r"""
## 1. A decision process is three arrays

At each step an agent is in a **state**, picks an **action**, receives a **reward** and lands in the next
state. The process is **Markov** if next state and reward depend on the present state and action alone: the
state holds all of the past that still matters. A language model's prefix does, but 20 tokens
from a vocabulary of 50,000 make $50{,}000^{20}$ prefixes. Here all states fit in a table and every answer is
exact; later lessons approximate.

So the world is $P$ [S, A, S], $R$ [S, A] and a mask of the **terminal** states, after which nothing follows.
`grid_mdp` fills them in from a drawing: `G` goal (+1 for entering), `P` pit (−1), `T` an end that pays
nothing, `#` wall, all else floor. Actions 0 to 3 are up, right, down, left; a move against a wall or the edge
leaves one in place, and with probability `slip` the floor turns a move by a right angle. A corridor, firm and
slippery:

```python
>>> corridor = grid_mdp(["..G"], gamma=0.9)
>>> corridor.P[1, 1].tolist(), corridor.R[1, 1].item()  # in state 1, action 1 (right)
([0.0, 0.0, 1.0], 1.0)
>>> grid_mdp(["..G"], gamma=0.9, slip=0.2).P[1, 1].tolist()
[0.0, 0.2, 0.8]
```

## 2. What a state is worth

The **return** is the discounted sum of the rewards still to come,
$G_t = r_t + \gamma r_{t+1} + \gamma^2 r_{t+2} + \dots$, and the **value** $V^\pi(s)$ is its mean when the
agent starts in $s$ and follows the policy $\pi$. Summing over all futures looks hopeless. But the future
after one step is a future like any other. So the value of a state is the mean, over one step, of *reward plus
$\gamma$ times the value of where you land*. With $Q^\pi(s, a)$, the value of taking $a$ first, these are the
**Bellman equations**:

$$V^\pi(s) = \sum_a \pi(a \mid s)\, Q^\pi(s, a) \tag{1}$$

$$Q^\pi(s, a) = R(s, a) +
\gamma \sum_{s'} P(s' \mid s, a)\, \bigl(1 - \text{terminal}(s')\bigr)\, V^\pi(s') \tag{2}$$

Remember the factor $(1 - \text{terminal})$: nothing comes after an end. It returns as `1 - terminated`
wherever this course learns from samples. The best policy takes the best action in every state; $Q^*$ is (2)
with $V^*$:

$$V^*(s) = \max_a Q^*(s, a) \tag{3}$$

Read as an instruction, "replace V by the right-hand side", each is a **backup**: (1) averages over the
policy's actions, (3) takes the best. In the corridor, (3) finds the cell beside the goal, then the next:

```python
>>> corridor = grid_mdp(["..G"], gamma=0.9)
>>> once = optimality_backup(corridor, np.zeros(3))
>>> once.tolist(), optimality_backup(corridor, once).tolist()
([0.0, 1.0, 0.0], [0.9, 1.0, 0.0])
```
"""


# %%
def q_from_v(mdp: MDP, V: Values) -> Float[Array, "S A"]:
    """One step of lookahead: the value of each action if the rest of the future is worth `V`."""
    return mdp.R + mdp.gamma * (mdp.P @ (V * ~mdp.terminal))  # eq. (2); [S, A, S] @ [S] -> [S, A]


def policy_backup(mdp: MDP, policy: Policy, V: Values) -> Values:
    """The mean over the policy's actions of what they lead to."""
    return (policy * q_from_v(mdp, V)).sum(axis=1)  # eq. (1)


def optimality_backup(mdp: MDP, V: Values) -> Values:
    """The best action's value in each state."""
    return q_from_v(mdp, V).max(axis=1)  # eq. (3)


# %% [markdown]
r"""
## 3. Evaluation: the value of a given policy

With the policy fixed, (1) and (2) are S linear equations in S unknowns. Write $P_\pi$ for the policy's
state-to-state probabilities with the columns of ends set to zero, and $R_\pi$ for its mean rewards:

$$V = R_\pi + \gamma P_\pi V \quad\Longleftrightarrow\quad (I - \gamma P_\pi)\, V = R_\pi \tag{4}$$

In the corridor walked at random, $V_1 = \frac14 + 0.9\,(\frac14 V_0 + \frac12 V_1)$ and
$V_0 = 0.9\,(\frac34 V_0 + \frac14 V_1)$, for bumping leaves one in place:

```python
>>> corridor = grid_mdp(["..G"], gamma=0.9)
>>> evaluate_exactly(corridor, np.full((3, 4), 0.25)).round(3).tolist()
[0.439, 0.634, 0.0]
```

The linear solver costs $S^3$. The other way is to apply the backup to all states, again and again (each time
is a *sweep*). Each multiplies the distance to the solution by at most $\gamma$ (section 5). So if the last
changed no state by more than

$$\max_s |V_{k+1}(s) - V_k(s)| \;\le\; \varepsilon\, \frac{1 - \gamma}{\gamma}, \tag{5}$$

then $V_{k+1}$ is within $\varepsilon$ of the truth (puterman1994). At $\gamma = 0.99$ a change of $10^{-9}$
can hide an error of $10^{-7}$; at $\gamma = 1$ nothing is promised: we stop at $\varepsilon / 1000$.
"""


# %%
def evaluate_exactly(mdp: MDP, policy: Policy) -> Values:
    """The value of a policy by a linear solve; RuntimeError where it is not finite (section 5)."""
    going_on = ~where_it_ends(mdp, policy)  # [S]
    P_policy = np.einsum("sa,sat->st", policy, mdp.P) * going_on  # [S, S], nothing comes after an end
    R_policy = (policy * mdp.R).sum(axis=1)  # [S]
    return np.linalg.solve(np.eye(len(R_policy)) - mdp.gamma * P_policy, R_policy)  # eq. (4)


def stopping_gap(gamma: float, tolerance: float) -> float:
    """The change per sweep below which the value is within `tolerance` of the truth."""
    return tolerance * (1.0 - gamma) / max(gamma, 1e-12) if gamma < 1.0 else tolerance / 1000  # eq. (5)


def iterate(backup: Callable[[Values], Values], V: Values, gap: float) -> tuple[Values, int]:
    """(value, number of sweeps): `backup`, applied from `V` on until no state changes by more than `gap`."""
    for sweep in range(1, MAX_SWEEPS + 1):
        old, V = V, backup(V)
        if np.abs(V - old).max() <= max(gap, 1e-15 * np.abs(V).max()):  # less is mere rounding
            return V, sweep
    raise RuntimeError(
        f"still moving after {MAX_SWEEPS:,} sweeps: does every episode end, or is gamma far enough below 1?"
    )


def evaluate_iteratively(mdp: MDP, policy: Policy, tolerance: float) -> tuple[Values, int]:
    """(value of a policy, number of sweeps) by the backup (1)."""
    where_it_ends(mdp, policy)  # refuses an endless sum, which looks settled if each reward is tiny
    gap = stopping_gap(mdp.gamma, tolerance)
    return iterate(lambda V: policy_backup(mdp, policy, V), np.zeros(len(mdp.R)), gap)


# %% [markdown]
r"""
## 4. Control: the best policy

**Policy iteration** (`howard1960`) takes turns. Evaluate the policy $\pi$; then let a new policy $\pi'$ take,
in each state, an action with the highest $Q^\pi$. By that choice, one step of $\pi'$ and then $\pi$ for ever
is at least as good as $\pi$ at once. Say it again of the second step, and of the third:

$$V^\pi(s) \le \mathbb{E}_{\pi'}\bigl[r_0 + \gamma V^\pi(s_1)\bigr]
\le \mathbb{E}_{\pi'}\bigl[r_0 + \gamma r_1 + \gamma^2 V^\pi(s_2)\bigr] \le \dots \le V^{\pi'}(s) \tag{6}$$

This is the **policy improvement theorem**. If the new one is nowhere better, $V^\pi(s) = \max_a Q^\pi(s, a)$,
which is (3): $\pi$ is optimal. By (6) no policy comes twice, and there are finitely many: so this happens.

**Value iteration** does not wait for an evaluation to finish: it applies the backup (3) again and again, and
the *greedy* policy, of the best actions, is read off once, at the end. Several actions are often equally
good; we keep them all.

JAX can compile the same lines. It must compute in 64 bits: in 32, (5) may never be met for a small
$\varepsilon$.
"""


# %%
def greedy_policy(Q: Float[Array, "S A"]) -> Policy:
    """All best actions of each state, equally likely."""
    shortfall = Q.max(axis=1, keepdims=True) - Q  # [S, A] >= 0
    best = shortfall <= TIE * np.abs(Q).max()  # rounding grows with the values
    return best / best.sum(axis=1, keepdims=True)


def policy_iteration(mdp: MDP) -> tuple[Values, Policy, int]:
    """(optimal value, optimal policy, number of evaluations), starting from the random policy."""
    policy = np.full(mdp.R.shape, 1.0 / mdp.R.shape[1])
    for evaluations in range(1, MAX_EVALUATIONS + 1):
        V = evaluate_exactly(mdp, policy)
        greedy = greedy_policy(q_from_v(mdp, V))
        if not policy[greedy <= 0.0].any():  # all weight is on best actions already: (3) holds
            return V, greedy, evaluations
        policy = greedy
    raise RuntimeError(f"still improving after {MAX_EVALUATIONS:,} evaluations")


def value_iteration(mdp: MDP, tolerance: float) -> tuple[Values, int]:
    """(optimal value, number of sweeps) by the backup (3)."""
    gap = stopping_gap(mdp.gamma, tolerance)
    return iterate(lambda V: optimality_backup(mdp, V), np.zeros(len(mdp.R)), gap)


def solve_with_jax(mdp: MDP, tolerance: float) -> Values:
    """The optimal value by value iteration in 64 bits, with a compiled backup."""
    with jax.enable_x64(True):
        backup = jax.jit(lambda V: optimality_backup(mdp, V))  # the very function from section 2
        V, _ = iterate(backup, np.zeros(len(mdp.R)), stopping_gap(mdp.gamma, tolerance))
    return np.asarray(V)


# %% [markdown]
r"""
## 5. Why it works: every backup shrinks the error

Take any two guesses $U$ and $V$ of the value function. After one backup $T$, of either kind, they are closer:

$$\max_s |TU(s) - TV(s)| \;\le\; \gamma\, \max_s |U(s) - V(s)| \tag{7}$$

A backup averages values (weights that sum to at most 1), takes a maximum (which never widens a gap) and
multiplies by $\gamma$. So for $\gamma < 1$ there is exactly one fixed point, every guess is pulled into it,
and after $k$ sweeps the error is at most $\gamma^k$ times the first.

At $\gamma = 1$ the bound (7) promises nothing, and there may be other fixed points. In a corridor where
waiting costs nothing, a wrong guess of 5 confirms itself:

```python
>>> optimality_backup(grid_mdp(["..G"], gamma=1.0), np.array([5.0, 5.0, 0.0])).tolist()
[5.0, 5.0, 0.0]
```

Two of the worlds below have $\gamma = 1$. What saves them is their ends: from every state one is reached
within enough sweeps with some chance $p > 0$, and that many sweeps shrink a gap to $1 - p$ of it. A price on
each step makes the best policy end too (puterman1994). Where a sum has no finite value, every solver says so
instead of answering.

## 6. Other rewards, same behaviour: shaping

May one add rewards to help an agent along? A bonus for each step towards the goal invites it to walk back and
forth. But give each state a *potential* $\Phi(s)$, 0 at the ends, and pay what a step gains in it:

$$R'(s, a) = R(s, a) + \gamma \sum_{s'} P(s' \mid s, a)\, \Phi(s') - \Phi(s) \tag{8}$$

Along any path the discounted additions cancel, all but $-\Phi$ of its first state. By (8), then, every policy
is worth $\Phi(s)$ less than before, and the best stays the best (ng1999shaping). Exercise A3.3 tries it.

## 7. Look, break, write: worlds whose answers are in print

Sutton and Barto print the values of two grids. In **Example 3.5** ($\gamma = 0.9$) bumping into the edge
costs 1, cell A pays 10 and leads to A', cell B pays 5 and leads to B', whatever the action. In **Example
4.1** ($\gamma = 1$) each step costs 1 until one of two ends is reached. Russell and Norvig's **4x3 world**
($\gamma = 1$) has a goal, a pit, −0.04 a step, and a floor on which one move in five goes sideways.

![Two maps of the 5x5 grid: its values under the random policy, and under the best one](results/A3.png)

Left, cell A is worth *less* than the 10 it pays, because the agent lands at the edge, where it bumps.

The evidence solves random processes in every way above, and films how value spreads (`results/A3_film.gif`).
It also checks that the best policy of the 4x3 world turns at the four step rewards that Russell and Norvig's
fourth edition prints. The picture shows four of the five ranges between them:

![The best policy at four step rewards, from the pit to patience](results/A3_rewards.png)

Only the price of a step changes, and the best policy goes from despair (into the pit, then it is over) to
patience (into the wall, until a slip goes the right way). You get the behaviour you pay for.

**The verdict.** A state is worth what the Bellman equation says: the reward now, and the discounted worth of
what follows. For a given policy that is one linear solve; for the best, improvement in turns, or the backup
again and again. All ways agree with each other, and with the books to the last printed digit.

<!-- results: A3 -->

`rl run A3`: 1 s; with `--evidence`: 11 s, 387 MB; with `--smoke --evidence`: 4 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| example_3_5_random | 25                              | ≥ 25          | 10/10 |
| example_3_5_best   | 25                              | ≥ 25          | 10/10 |
| example_4_1_random | 16                              | ≥ 16          | 10/10 |
| world_4x3_best     | 9                               | ≥ 9           | 10/10 |
| turning_points *   | 4                               | ≥ 4           | 10/10 |
| evaluation *       | 9.11e-10 (8.64e-10 to 9.23e-10) | ≤ 1e-08       | 10/10 |
| control *          | 9.25e-10 (8.94e-10 to 9.57e-10) | ≤ 1e-08       | 10/10 |
| enumerated *       | 0                               | ≤ 1e-08       | 10/10 |
| jax *              | 8.88e-15 (5.33e-15 to 3.55e-14) | ≤ 1e-08       | 10/10 |
| contraction *      | 1                               | ≤ 1.000000001 | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `example_3_5_random`: 5x5 grid, random policy: each value reads as in the book (of 25 cells)
- `example_3_5_best`: 5x5 grid, best policy: each value reads as in the book (of 25 cells)
- `example_4_1_random`: 4x4 grid, random policy: each value reads as in the book (of 16 cells)
- `world_4x3_best`: slippery 4x3 world, best policy: each value reads as in the book (of 9 cells)
- `turning_points`: the 4x3 world's best policy turns at the four step rewards in the book (of 4)
- `evaluation`: evaluation: the linear solve and the iteration agree
- `control`: control: policy iteration and value iteration agree
- `enumerated`: trying all 243 policies of a small process finds no better
- `jax`: compiled JAX in 64 bits agrees with NumPy
- `contraction`: a backup brings any two guesses closer, by gamma at least (times gamma)
</details>

<!-- /results -->

**Break it.** `rl break A3 mean_for_max`: what does value iteration then find, and which tables are wrong?
`rl break A3 no_mask`: every claim holds! An end that leads to itself for no reward keeps the value 0 that it
starts with. Start from a guess, as every network does, and at $\gamma = 1$ the ends keep theirs for ever.

**Exercises.**

<!-- exercises: A3 -->

*A3.1 · The heart of it* (40 minutes, medium). Write one step of lookahead, the exact value of a policy, and
the best policy in turns, from (2), (4) and section 4. `rl exercise A3.q_from_v`, `rl exercise
A3.evaluate_exactly`, `rl exercise A3.policy_iteration`.

*A3.2 · No discount* (10 minutes, easy). Set `gamma` to 1 in Example 3.5, which has no end. Predict what each
solver does, then run it.

<details><summary>Answer</summary>

The sums diverge. Value iteration, in NumPy and in JAX, says after all its sweeps that it is still moving. The
linear system has no solution, and `where_it_ends` sees it before: rewards are paid, and no end is reached.
</details>

*A3.3 · The perfect potential* (20 minutes, easy). Write the rewards of (8). Then give the corridor the
potential $\Phi = V^*$, that is 0.9, 1 and 0 from left to right. What is left to earn, and what does a move to
the left cost in the middle? `rl exercise A3.shaped_rewards`.

<details><summary>Answer</summary>

Nothing, since every good move pays 0; and 0.19 at once, $0 + 0.9 \cdot 0.9 - 1$: no detour waits for its
price. A learner with a good guess of $V^*$ as its potential has little left to find out.
</details>

*A3.4 · In place* (25 minutes, medium). Value iteration computes all new values from the old ones. It may also
write each value over the old one at once, so that the states after it see it in the same sweep:

$$V(s) \leftarrow \max_a \Bigl[ R(s, a) + \gamma \sum_{s'} P(s' \mid s, a)\,
\bigl(1 - \text{terminal}(s')\bigr)\, V(s') \Bigr] \qquad \text{for } s = 0, 1, \dots, S - 1 \tag{E1}$$

Let `iterate` repeat it from 0 in Example 3.5. How many sweeps does it need, and value iteration? Is it always
faster? `rl exercise A3.sweep_in_place`.

<details><summary>Answer</summary>

50 sweeps and 241: news of a reward travels several cells within one sweep. It does so only in the order of
the states. In a corridor with its goal at the left end, two sweeps are enough; with the goal at the right
end, nothing is gained. The values are the same: each backup brings its own state within gamma times the
largest error, and after a sweep every state had its turn.
</details>

*A3.5 · Find the bug* (10 minutes). `rl exercise A3.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    grid, corners, slippery = published.example_3_5(), published.example_4_1(), published.world_4x3()
    random_policy = np.full((25, 4), 0.25)
    found = {
        "example_3_5_random": evaluate_exactly(grid, random_policy),
        "example_3_5_best": value_iteration(grid, cfg.tolerance)[0],
        "example_4_1_random": evaluate_iteratively(corners, random_policy[:16], cfg.tolerance)[0],
        "world_4x3_best": value_iteration(slippery, cfg.tolerance)[0],
    }
    for name, V in found.items():
        table = published.TABLES[name]
        log.claim(
            name,
            f"{table.world}: each value reads as in the book",
            table.num_equal(V),
            at_least=table.num_values,
            unit=f"of {table.num_values} cells",
            source=table.source,
            always=True,
        )

    walked, best = found["example_3_5_random"], found["example_3_5_best"]
    names = {1: "A, pays 10", 3: "B, pays 5", 21: "A′", 13: "B′"}
    arrows = greedy_policy(q_from_v(grid, best))
    figure, axes = plotting.new_figure(1, 2, width=4.6)
    value_map(axes[0], published.GRID_5X5, walked, names=names, title="random policy", decimals=1)
    value_map(axes[1], published.GRID_5X5, best, arrows, title="best policy", decimals=1)
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
