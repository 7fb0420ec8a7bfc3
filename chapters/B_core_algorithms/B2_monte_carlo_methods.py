# %% [markdown]
r"""
# B2 · Monte Carlo methods, and the step to bootstrapping

**Question.** What can be learned from whole episodes alone, without a model, how fast does the error fall,
and what is gained by not waiting for the end?

**Before this:** B1 (Q-learning, which corrects a guess by the next guess: it *bootstraps*). **Changes from
B1:** estimates are means of whole returns; at the end bootstrapping comes back. **Next:** B3 (no tables).

**Time.** 20 s on 2 cores; with all evidence 25 s.

References: `suttonbarto2018` (chapters 5, 7 and 12), `precup2000eligibility`, `wang2022exploring`.

Symbols: `T` steps, `N` episodes side by side, `S` states, `R` repeated runs, `A` step sizes.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int

from chapters.envs.blackjack import HIT, SHAPE, STICK, play_hands
from chapters.envs.random_walk import walk_episodes
from chapters.exact.blackjack import PLAYED, policy_loss, policy_values
from chapters.exact.random_walk import walk_values
from chapters.utils import RunLog, in_range, plotting, run_lesson

NUM_STATES = int(np.prod(SHAPE))  # states of Blackjack as flat indices, those that never occur included
NUM_WALK_STATES = 19
ALPHAS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NUM_AHEAD = (1, 2, 4, 8, 16, 32, 0)  # the n of n-step TD; 0 stands for "to the end": Monte Carlo

Grid = Float[np.ndarray, "T N"]  # a number for each step and episode
Visits = Int[np.ndarray, "T N"]  # the state of each step, -1 after the end
Flags = Bool[np.ndarray, "T N"]
Policy = Int[np.ndarray, "2 11 22"]  # the action in each state of Blackjack
Sums = Float[np.ndarray, "3 ..."]  # for each state: number of visits, sum of returns, sum of their squares
Steps = Float[np.ndarray, " A"]


@dataclass(frozen=True)
class Config:
    """Monte Carlo prediction and control on Blackjack; n-step TD on a random walk."""

    seed: int = 0
    """Seed of every draw."""
    batch_size: Annotated[int, in_range(100, 1_000_000)] = 50_000
    """Blackjack hands played side by side."""
    num_doublings: Annotated[int, in_range(2, 12)] = 8
    """Prediction plays batch_size * 2**num_doublings hands."""
    num_control_batches: Annotated[int, in_range(2, 100_000)] = 300
    """Control plays this many batches, and improves its policy after each."""
    num_walk_runs: Annotated[int, in_range(10, 10_000)] = 500
    """Repeated runs of ten episodes on the random walk."""


SMOKE = {"batch_size": 4000, "num_doublings": 3, "num_control_batches": 10, "num_walk_runs": 10}

# %% [markdown]
r"""
## 1. Returns and visits

A policy's value in a state is the expected sum of rewards from there on (discounted by $\gamma$), the
expected *return*. Monte Carlo takes that literally: play episodes to the end, and average the returns. Each
return is one reward and the next return, so they are computed from the last step backwards:

$$G_t = r_t + \gamma\, G_{t+1}, \qquad G_T = 0 \tag{1}$$

If a state occurs several times within an episode, should it count each time (*every-visit*: more data, but
data that overlap) or only the first time (*first-visit*)? *By hand*: one state, every step pays 1, one
episode (a column) lasts one step, another three. First-visit averages 1 and 3, every-visit 1, 3, 2 and 1:

```python
>>> states = np.array([[0, 0], [-1, 0], [-1, 0]])
>>> returns = discounted_returns(np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), gamma=1.0)
>>> print(returns[first_visits(states)].mean(), returns[states >= 0].mean())
2.0 1.75
```

That is no accident: a long episode brings more returns, and most of them are smaller than its first. Let the
one state pay 1 a step and end the episode at each step with the same chance, so that it is worth $V$. After
$n$ episodes the every-visit estimate is $(nV + 1)/(n + 1)$ on average, the first-visit estimate $V$. But
every-visit varies less. In the figure $V = 5$:

![Both estimates lie on their expectations; every-visit starts too low and catches up](results/B2_loop.png)
"""


# %%
def discounted_returns(rewards: Grid, gamma: float) -> Grid:
    """The return that follows each step (suttonbarto2018, eq. 3.9)."""
    returns = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * following  # eq. (1)
        returns[t] = following
    return returns


def first_visits(states: Visits) -> Flags:
    """Where a state occurs for the first time in its episode (column); never where the state is -1."""
    mask = states >= 0
    for t in range(1, len(states)):
        mask[t] &= (states[:t] != states[t]).all(axis=0)
    return mask


def visit_sums(states: Visits, returns: Grid, counted: Flags, num_states: int) -> Sums:
    """For each state: the number of counted visits, the sum of their returns, the sum of the squares."""
    where, what = states[counted], returns[counted]
    return np.stack([np.bincount(where, what**power, num_states) for power in (0, 1, 2)])


# %% [markdown]
r"""
## 2. Prediction: what is a policy worth?

Blackjack: you hold cards, the dealer shows one. *Hit*, and you get another card; above 21 you have lost.
*Stick*, and the dealer draws up to 17 or more; the higher sum wins. The last step pays 1 for a win, 0 for a
draw, -1 for a loss. A state is what you see: your sum, whether an ace counts 11 in it (a *usable* ace), the
dealer's card. The deck is infinite, so nothing else matters: this is *Markov*. From a sum of 12 on there is
something to decide, which makes $10 \cdot 10 \cdot 2 = 200$ states. We evaluate Sutton and Barto's policy:
stick on 20 and 21, else hit.

## 3. Control: a better policy from the same means

Estimate $Q(s, a)$ by the mean of the returns that followed action $a$ in $s$, and act greedily by it:

$$Q(s, a) = \frac{1}{N(s, a)} \sum_{\text{visits}} G_t, \qquad \pi(s) = \arg\max_a Q(s, a) \tag{2}$$

A greedy policy stops trying the other action. *Exploring starts* are the simplest remedy: every hand begins
in a random state with a random action, and follows the policy only then. Where no state recurs within an
episode, as in Blackjack, this is proven to find the best policy if the policy improves after each hand
(`wang2022exploring`). Ours improves only after each batch of hands, which is faster to compute.
"""


# %%
def evaluate_policy(policy: Policy, cfg: Config, log: RunLog, rng: np.random.Generator) -> Sums:
    """The policy's visit sums; logs the error over the 200 states each time the hands have doubled."""
    exact = policy_values(policy)
    sums = np.zeros((3, NUM_STATES))
    for batch in log.track(range(2**cfg.num_doublings), "batches", show="blackjack_error"):
        states, _, rewards = play_hands(policy, cfg.batch_size, rng)
        returns = discounted_returns(rewards, gamma=1.0)
        sums += visit_sums(states, returns, first_visits(states), NUM_STATES)
        if (batch + 1) & batch == 0:  # 1, 2, 4, 8, ... batches
            estimates = (sums[1] / np.maximum(sums[0], 1)).reshape(SHAPE)
            error = np.sqrt(((estimates - exact)[PLAYED] ** 2).mean())
            log.write((batch + 1) * cfg.batch_size, blackjack_error=error)
    return sums


def control(cfg: Config, log: RunLog, rng: np.random.Generator) -> tuple[Policy, Sums]:
    """Monte Carlo with exploring starts: the policy, and the visit sums of each [action, state]."""
    sums = np.zeros((3, 2, *SHAPE))
    policy = np.full(SHAPE, HIT)
    for _ in log.track(range(cfg.num_control_batches), "batches"):
        start = rng.integers((0, 1, 12), (2, 11, 22), (cfg.batch_size, 3)).T  # any of the 200 states
        first_actions = rng.integers(2, size=cfg.batch_size)
        states, actions, rewards = play_hands(policy, cfg.batch_size, rng, tuple(start), first_actions)
        pairs = np.where(states >= 0, actions * NUM_STATES + states, -1)  # one number per (action, state)
        returns = discounted_returns(rewards, gamma=1.0)
        sums += visit_sums(pairs, returns, first_visits(pairs), 2 * NUM_STATES).reshape(sums.shape)
        q = sums[1] / np.maximum(sums[0], 1)
        policy = np.where(q[HIT] > q[STICK], HIT, STICK)  # eq. (2)
    return policy, sums


# %% [markdown]
r"""
## 4. Somebody else's episodes: importance sampling

What if another policy $b$ played, and we want the value of $\pi$? Then an action that $\pi$ takes twice as
often as $b$ must count twice. With the *ratio* $w = \pi(a \mid s) / b(a \mid s)$ any function $f$ of the
action has the right mean: $\mathbb E_b[w f(a)] = \sum_a b(a) \frac{\pi(a)}{b(a)} f(a) = \mathbb E_\pi[f(a)]$.
A reward depends on the actions up to it and on no later one, so it is multiplied by their ratios only. This
is importance sampling *per step* (`precup2000eligibility`; the evidence tests it on Blackjack):

$$G^w_t = w_t\,\bigl(r_t + \gamma\, G^w_{t+1}\bigr), \qquad \mathbb E_b[G^w_t \mid s_t] = V^\pi(s_t) \tag{3}$$

*By hand.* $\pi$ always goes right, $b$ tosses a coin, so $w$ is 2 for right and 0 for left. An episode has
two steps, each pays 1, and $\gamma = 1$: $V^\pi = 2$. $b$ plays four sequences, all equally likely. By (3)
right-right gives $2 (1 + 2) = 6$, right-left $2 (1 + 0) = 2$, the other two 0. Their mean is 2, as it should.

The price is variance: here 6, where $\pi$'s own returns have none. Multiplying the *whole* return by both
ratios gives 8, 0, 0 and 0: again the mean 2, but a variance of 12. A product of $k$ ratios has mean 1, but in
this example the mean square $(\sum_a \pi(a)^2 / b(a))^k = 2^k$. Hence *proximal policy optimisation* (PPO,
C2) uses one ratio for each step instead of products, and clips it.

## 5. From episodes to bootstrapping

Monte Carlo takes in all the randomness of an episode. TD(0) (*temporal difference*) takes one reward and then
trusts its own estimate of the rest. Between them lies the *n-step* target:

$$G_t^{(n)} = \sum_{i=0}^{n-1} \gamma^i\, r_{t+i} + \gamma^n\, V(s_{t+n}), \qquad
V(s_t) \leftarrow V(s_t) + \alpha\,\bigl(G_t^{(n)} - V(s_t)\bigr) \tag{4}$$

With $n = 1$ this is TD(0), with $n = \infty$ Monte Carlo with a constant step size. If the episode terminates
within the $n$ steps, the last term is 0. *By hand*, three rewards of 1 and the end, $n = 2$, $\gamma = 0.5$:
the first row has for each step the sum of rewards, the second the weight of $V(s_{t+2})$.

```python
>>> [part.ravel().tolist() for part in n_step_parts(np.ones((3, 1)), np.array([3]), n=2, gamma=0.5)]
[[1.5, 1.5, 1.0], [0.25, 0.0, 0.0]]
```

Why choose one $n$? The *λ-return* averages over all of them. The share of each next $n$ is $\lambda$ times
the one before, and $1 - \lambda$ makes the shares sum to 1:

$$G_t^\lambda = (1 - \lambda) \sum_{n=1}^{\infty} \lambda^{n-1} G_t^{(n)}
= r_t + \gamma\,\bigl[(1 - \lambda)\, V(s_{t+1}) + \lambda\, G_{t+1}^\lambda\bigr] \tag{5}$$

*TD(λ)* is the learner whose target is the λ-return. It need not wait for the end of the episode. Let
$\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$ be the TD errors, and hold $V$ fixed: then $G_t^\lambda - V(s_t)
= \sum_k (\gamma\lambda)^k \delta_{t+k}$. So each error can be handed back, fading, to the states before it.
In C1 that sum returns as *generalised advantage estimation* (GAE). Exercise B2.3 writes (5); the lesson's
code compares values of $n$.

Our world is a walk (`suttonbarto2018`, example 7.1): 19 states in a row, start in the middle, left or right
with equal chance, -1 for leaving on the left, +1 on the right.
"""


# %%
def n_step_parts(rewards: Grid, lengths: Int[np.ndarray, " N"], n: int, gamma: float) -> tuple[Grid, Grid]:
    """The n-step target in two parts: the sum of rewards, and the weight of V(s_{t+n})."""
    returns = discounted_returns(rewards, gamma)
    beyond = np.zeros_like(returns)
    beyond[:-n] = returns[n:]  # [T, N] what follows after n steps
    not_terminated = np.arange(len(rewards))[:, None] + n < lengths
    return returns - gamma**n * beyond, gamma**n * not_terminated  # eq. (4), left


def n_step_td(episodes: list[tuple], n: int, alphas: Steps, num_states: int) -> Float[np.ndarray, "E A R"]:
    """RMS error over the states after each episode, for each step size and run; n = 0 is Monte Carlo."""
    true_values = walk_values(num_states)
    runs = np.arange(episodes[0][0].shape[1])  # [R]
    values = np.zeros((len(alphas), len(runs), num_states + 2))  # [A, R, S + 2]: a terminal state at each end
    errors = []
    for states, rewards, lengths in episodes:
        ahead = n or len(rewards)
        sums, weights = n_step_parts(rewards, lengths, ahead, gamma=1.0)
        for t in range(len(rewards)):
            later = states[min(t + ahead, len(rewards))]  # [R]
            targets = sums[t] + weights[t] * values[:, runs, later]  # [A, R]
            td_errors = (targets - values[:, runs, states[t]]) * (t < lengths)
            values[:, runs, states[t]] += alphas[:, None] * td_errors  # eq. (4), right
        errors.append(np.sqrt(((values[:, :, 1:-1] - true_values) ** 2).mean(axis=2)))
    return np.stack(errors)


def best_walk_errors(cfg: Config, log: RunLog, rng: np.random.Generator) -> dict[int, float]:
    """For each n the smallest error among the step sizes: the mean over ten episodes and all runs."""
    episodes = [walk_episodes(NUM_WALK_STATES, cfg.num_walk_runs, rng) for _ in range(10)]
    best = {}
    for n in log.track(NUM_AHEAD, "values of n"):
        errors = n_step_td(episodes, n, np.array(ALPHAS), NUM_WALK_STATES).mean(axis=(0, 2))  # [A]
        for alpha, error in zip(ALPHAS, errors):
            log.write(round(1000 * alpha), **{f"walk_error_{n}": error})  # step: 1000 alpha
        best[n] = errors.min()
    return best


# %% [markdown]
r"""
## 6. Look, break, write

![Blackjack's error falls with slope minus one half; on the walk n = 4 has the deepest valley](results/B2.png)

**Left**, one more correct digit costs a hundred times as many hands. **Right**, each curve is one $n$, and
its lowest point the best that it can do. TD(0) needs a large step size, Monte Carlo a tiny one and still does
worst. A long return is unbiased but carries the noise of many steps. A short one varies little, but hands on
the errors of the estimates it trusts.

The evidence adds what control learned:

![Learned value surfaces and borders between hit and stick lie on the exact ones](results/B2_blackjack.png)

**The verdict.** Whole episodes suffice to say what a policy is worth, and to find one for Blackjack that
gives away next to nothing, without a model; the error falls with the root of their number. Not waiting pays:
on the walk, four steps and then one's own guess err clearly less than whole returns do.

<!-- results: B2 -->

`rl run B2`: 13 s; with `--evidence`: 15 s, 334 MB; with `--smoke --evidence`: 2 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| error_slope              | -0.506 (-0.528 to -0.478) | -0.5 ± 0.1    | 10/10  |
| control_loss             | 0 (0 to 7.36e-05)         | ≤ 0.001       | 10/10  |
| n_step_beats_monte_carlo | 0.539 (0.536 to 0.545)    | ≤ 0.9         | 10/10  |
| loop_first_visit_mean *  | 1.34 (0.932 to 1.92)      | ≤ 4.5         | 10/10  |
| loop_every_visit_mean *  | 1.32 (0.874 to 1.8)       | ≤ 4.5         | 10/10  |
| loop_squared_errors *    | 0.454 (0.446 to 0.46)     | 0.45 ± 0.05   | 10/10  |
| interval_coverage *      | 0.95 (0.935 to 0.965)     | 0.945 ± 0.045 | 10/10  |
| visits_coincide *        | 0                         | ≤ 0           | 10/10  |
| optimum_as_published *   | 0                         | ≤ 0           | 10/10  |
| control_is_optimal *     | 0                         | ≤ 0           | 10/10  |
| importance_mean *        | 0.841 (0.385 to 1.2)      | ≤ 4.5         | 10/10  |
| walk_values *            | 3.33e-16                  | ≤ 1e-12       | 10/10  |
| best_n_between *         | 4                         | 5 ± 3         | 10/10  |
| n_step_beats_td0 *       | 0.762 (0.76 to 0.772)     | ≤ 0.9         | 10/10  |
| walk_error *             | 0.263 (0.262 to 0.268)    | 0.265 ± 0.02  | 10/10  |
| error_slope_pooled *     | -0.504                    | -0.5 ± 0.05   | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `error_slope`: the error of the value estimates falls as one over the root of the number of hands (slope,
  log-log)
- `control_loss`: the learned policy gives away less than a thousandth of the stake per hand (reward per hand)
- `n_step_beats_monte_carlo`: with the best step size for each, 4-step TD has a smaller error than Monte Carlo
  (ratio of errors)
- `loop_first_visit_mean`: in the loop, first-visit estimates average what theory says, after 1 to 10 episodes
  (standard errors)
- `loop_every_visit_mean`: in the loop, every-visit estimates average what theory says, after 1 to 10 episodes
  (standard errors)
- `loop_squared_errors`: after one episode the biased every-visit estimate has the smaller mean squared error
  (every-visit / first-visit)
- `interval_coverage`: 95 % confidence intervals contain the exact value in about 95 % of the states (share of
  200 states)
- `visits_coincide`: no state recurs within a hand of Blackjack, so first- and every-visit are the same
  (repeated visits)
- `optimum_as_published`: the policy that dynamic programming finds is the published one (states that differ)
- `control_is_optimal`: control chooses as the optimum does wherever the actions differ by more than 3
  standard errors (wrong states of 200)
- `importance_mean`: weighted by the ratios, the hands of a player who tosses a coin average another policy's
  value (standard errors)
- `walk_values`: the random walk's Bellman equations have the solution -0.9, -0.8, ... 0.9 (largest
  difference)
- `best_n_between`: the best n lies between the two ends: 2, 4 or 8 (steps)
- `n_step_beats_td0`: with the best step size for each, 4-step TD has a smaller error than TD(0) (ratio of
  errors)
- `walk_error`: the smallest error of 4-step TD over the first ten episodes is the published one (RMS error)
- `error_slope_pooled`: pooled over the seeds, the slope of the error is -1/2 (slope, log-log)
</details>

<!-- /results -->

**Break it.** `rl break B2 no_exploring`: the first action is the policy's own, and it never learns where one
more card helps. `rl break B2 rewards_for_returns`: only a hand's last step is paid, so earlier states look
worthless. `rl break B2 sums_to_the_end`: the target sums all rewards to the end and adds $V(s_{t+n})$
all the same, so what comes after $n$ steps counts twice.

**Exercises.**

<!-- exercises: B2 -->

*B2.1 · The heart of it* (35 minutes, medium). Write the return that follows each step, (1); where a state
occurs for the first time in its episode; and the two parts of the n-step target, (4). `rl exercise
B2.discounted_returns`, `rl exercise B2.first_visits`, `rl exercise B2.n_step_parts`.

*B2.2 · Past the end* (10 minutes, easy). `n_step_parts` gives a terminated episode's bootstrap the weight 0.
With `gamma**n` instead the figure stays as it is. Why, and in which environment would it not?

<details><summary>Answer</summary>

Nothing updates the table's entries for the two terminal states, so they stay 0. A network (B3) answers
something for a terminal state too, and without the mask the learner would believe it.
</details>

*B2.3 · All n at once* (20 minutes, medium). Write the λ-returns of one episode, from the last step backwards,
as on the right of (5). Past the terminal state there is nothing: neither a value nor a return. *By hand*, two
rewards of 1, $V = 0.4$ in state two, $\gamma = 1$, $\lambda = 0.5$: the last λ-return is 1, the first $1 +
0.5 \cdot 0.4 + 0.5 \cdot 1 = 1.7$. `rl exercise B2.lambda_returns`.

*B2.4 · Another average* (20 minutes, easy). Another policy played $N$ episodes from one state. $G_i$ is the
$i$-th episode's whole return, $W_i$ the product of all its ratios. The mean of the $W_i G_i$ is right on
average, but one large $W_i$ can throw it far off. *Weighted* importance sampling divides by the sum of the
ratios instead of by their number:

$$V_n = \frac{\sum_{i \le n} W_i\, G_i}{\sum_{i \le n} W_i}, \qquad V_n = 0 \text{ while all } W_i
\text{ are } 0 \tag{E1}$$

Then: is it right on average after one episode, and what is gained? `rl exercise B2.weighted_estimates`.

<details><summary>Answer</summary>

No: after the first episode whose ratio is not 0 it is that episode's return, whatever its ratio, so it has
the mean of such episodes under the other policy. That bias dies out. In exchange no estimate lies outside the
returns that were seen. In section 4's example each episode adds 0 or 8 to the ordinary mean; this estimate is
2, the truth, as soon as right-right has come once (`suttonbarto2018`, section 5.5).
</details>

*B2.5 · Find the bug* (10 minutes). `rl exercise B2.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(runs: list[dict], log: RunLog) -> None:
    """Errors at Blackjack and on the walk, from the metrics of one run or of several."""
    figure, (blackjack, walk) = plotting.new_figure(1, 2, width=6.0)
    curves = np.array([run["blackjack_error"] for run in runs])  # [runs, checkpoints, (hands, error)]
    hands = curves[0, :, 0]
    plotting.seed_band(blackjack, hands, curves[:, :, 1], "Monte Carlo")
    middle = np.exp((np.log(curves[:, :, 1]) + np.log(hands) / 2).mean())
    blackjack.plot(hands, middle / np.sqrt(hands), label="slope −1/2", **plotting.REFERENCE)
    blackjack.set(xscale="log", yscale="log", xlabel="hands", ylabel="RMS error over 200 states")
    blackjack.set_title("Blackjack: what is a policy worth?")
    blackjack.legend()
    for n, colour in zip(NUM_AHEAD, (*plotting.COLOURS, "black")):
        mean = np.mean([run[f"walk_error_{n}"] for run in runs], axis=0)[:, 1]
        label = {0: "Monte Carlo", 1: "n = 1, TD(0)"}.get(n, f"n = {n}")
        walk.plot(ALPHAS, mean, color=colour, label=label)
    walk.set(xlabel=r"step size $\alpha$", ylabel="RMS error, 10 episodes", xlim=(0, 1), ylim=(0.2, 0.65))
    walk.set_title("Random walk: how far to look?")
    walk.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    policy = np.where(np.indices(SHAPE)[2] < 20, HIT, STICK)
    sums = evaluate_policy(policy, cfg, log, rng)
    hands, errors = log.series("blackjack_error")
    log.claim(
        "error_slope",
        "the error of the value estimates falls as one over the root of the number of hands",
        np.polyfit(np.log(hands), np.log(errors), 1)[0],
        near=(-0.5, 0.1),
        unit="slope, log-log",
        source="central limit theorem; exact values by dynamic programming",
    )
    learned, control_sums = control(cfg, log, rng)
    log.claim(
        "control_loss",
        "the learned policy gives away less than a thousandth of the stake per hand",
        policy_loss(learned),
        at_most=0.001,
        unit="reward per hand",
        source="exact evaluation of the learned policy",
    )
    best = best_walk_errors(cfg, log, rng)
    log.claim(
        "n_step_beats_monte_carlo",
        "with the best step size for each, 4-step TD has a smaller error than Monte Carlo",
        best[4] / best[0],
        at_most=0.9,
        unit="ratio of errors",
        source="suttonbarto2018, figure 7.2",
        always=True,
    )
    log.keep(policy=policy, sums=sums, learned=learned, control_sums=control_sums, best=best)
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
