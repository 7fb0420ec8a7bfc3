# %% [markdown]
r"""
# B2 · Monte Carlo methods, and the step to bootstrapping

**Question.** What can be learned from whole episodes alone, without a model, how fast does the error fall,
and what is gained by not waiting for the end?

**Before this:** B1 (Q-learning, which updates after every step). **Changes from B1:** nothing is
bootstrapped at first: an estimate is the mean of complete returns. Then TD(0) comes back as one end of a
scale, with Monte Carlo as the other. **Next:** B3 replaces the tables.

**Time budget.** 60 s on 2 cores.

<!-- results: B2 -->

`rl run B2`: 12 s, 304 MB. `rl run B2 --smoke`: 2 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| loop_first_visit_mean    | 1.34 (0.911 to 2.3)     | ≤ 4.5         | 10/10  |
| loop_every_visit_mean    | 1.32 (0.534 to 2.47)    | ≤ 4.5         | 10/10  |
| loop_squared_errors      | 0.454 (0.444 to 0.46)   | 0.45 ± 0.05   | 10/10  |
| visits_coincide          | 0                       | ≤ 0           | 10/10  |
| error_slope              | -0.5 (-0.534 to -0.463) | -0.5 ± 0.1    | 10/10  |
| interval_coverage        | 0.955 (0.93 to 0.98)    | 0.945 ± 0.045 | 10/10  |
| optimum_as_published     | 0                       | ≤ 0           | 10/10  |
| control_is_optimal       | 0                       | ≤ 0           | 10/10  |
| control_loss             | 0 (0 to 7.36e-05)       | ≤ 0.001       | 10/10  |
| walk_values              | 3.33e-16                | ≤ 1e-12       | 10/10  |
| n_step_beats_td0         | 0.763 (0.756 to 0.775)  | ≤ 0.9         | 10/10  |
| n_step_beats_monte_carlo | 0.541 (0.53 to 0.547)   | ≤ 0.9         | 10/10  |
| best_n_between           | 4                       | 5 ± 3         | 10/10  |
| walk_error               | 0.263 (0.259 to 0.269)  | 0.265 ± 0.02  | 10/10  |
| error_slope_pooled       | -0.502                  | -0.5 ± 0.05   | pooled |

<!-- /results -->

References: `suttonbarto2018` (chapters 5 and 7), `singh1996replacing`, `sutton1988td`,
`towers2024gymnasium`.

Symbols: `T` steps, `N` episodes side by side, `S` states, `R` repeated runs, `A` step sizes.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int

from chapters.envs.blackjack import CARD_PROBABILITIES, CARDS, HIT, SHAPE, STICK, BatchedBlackjack, add_card
from chapters.utils import RunLog, in_range, plotting, run_lesson

PLAYED = np.s_[:, 1:, 12:]  # the 200 states in which there is something to decide: sums 12 to 21
STICK_FROM = ((17, 13, 13, 12, 12, 12, 17, 17, 17, 17), (19, 18, 18, 18, 18, 18, 18, 18, 19, 19))
"""The published optimum: stick from this sum on, by dealer's card 1 to 10, without and with a usable ace."""
NUM_WALK_STATES = 19
ALPHAS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NUM_AHEAD = (1, 2, 4, 8, 16, 32, 0)  # the n of n-step TD; 0 stands for "to the end": Monte Carlo


# %%
@dataclass(frozen=True)
class Config:
    """Monte Carlo prediction and control on Blackjack; n-step TD on a random walk."""

    seed: int = 0
    """Seed of every draw."""
    loop_probability: Annotated[float, in_range(0.0, 0.95)] = 0.8
    """Chance of staying in the one-state loop of section 2."""
    num_experiments: Annotated[int, in_range(100, 1_000_000)] = 20_000
    """Repetitions of the experiment in the one-state loop, ten episodes each."""
    batch_size: Annotated[int, in_range(100, 1_000_000)] = 50_000
    """Blackjack hands played side by side."""
    num_doublings: Annotated[int, in_range(2, 12)] = 8
    """Prediction plays batch_size * 2**num_doublings hands."""
    num_control_batches: Annotated[int, in_range(2, 100_000)] = 300
    """Control plays this many batches, and improves its policy after each."""
    num_walk_runs: Annotated[int, in_range(10, 10_000)] = 500
    """Repeated runs of ten episodes on the random walk."""


SMOKE = {
    "num_experiments": 2000,
    "batch_size": 4000,
    "num_doublings": 3,
    "num_control_batches": 10,
    "num_walk_runs": 10,
}

# %% [markdown]
r"""
## 1. Returns and visits

A policy's value in a state is the expected sum of rewards from there on. Monte Carlo takes that literally:
play episodes to the end, and average what followed. The return obeys a recursion from behind,

$$G_t = r_t + \gamma\, G_{t+1}, \qquad G_T = 0 \tag{1}$$

If a state occurs several times within an episode, should it count each time (*every-visit*) or only the
first time (*first-visit*)? The first gives more data, but data from one episode that overlap: the return
from the second visit is a part of the return from the first.

Episodes are held as arrays `[T, N]`, one column each; after the end of an episode its state is -1 and its
rewards are 0.
"""


# %%
def discounted_returns(rewards: Float[np.ndarray, "T N"], gamma: float) -> Float[np.ndarray, "T N"]:
    """The return that follows each step (suttonbarto2018, eq. 3.9)."""
    returns = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * following  # eq. (1)
        returns[t] = following
    return returns


def first_visits(states: Int[np.ndarray, "T N"]) -> Bool[np.ndarray, "T N"]:
    """Where a state occurs for the first time in its episode (column); never where the state is -1."""
    num_episodes = states.shape[1]
    present = np.flatnonzero(states >= 0)  # flat positions, time-major: earlier steps come first
    pairs = states.ravel()[present] * num_episodes + present % num_episodes  # one number per (state, episode)
    _, first = np.unique(pairs, return_index=True)
    mask = np.zeros(states.size, dtype=bool)
    mask[present[first]] = True
    return mask.reshape(states.shape)


def visit_sums(
    states: Int[np.ndarray, "T N"],
    returns: Float[np.ndarray, "T N"],
    counted: Bool[np.ndarray, "T N"],
    num_states: int,
) -> Float[np.ndarray, "3 S"]:
    """For each state: the number of counted visits, the sum of their returns, the sum of the squares."""
    where, what = states[counted], returns[counted]
    return np.stack([np.bincount(where, what**power, num_states) for power in (0, 1, 2)])


# %% [markdown]
r"""
## 2. First visit or every visit?

The smallest world that tells the two apart has one state: with probability $p$ it leads back to itself,
else to the end, and every step pays 1. So an episode of $L$ steps visits the state $L$ times, with returns
$L, L-1, \dots, 1$, and the true value is $V = 1/(1-p)$.

First-visit averages the $L$'s. It is unbiased. Every-visit averages all the returns: long episodes bring
more of them, but most of these are short. Given the total number of steps in $n$ episodes, all ways of
cutting it into episodes are equally likely, and counting them gives the expectation

$$\mathbb E[\hat V_{\text{first}}] = V, \qquad
\mathbb E[\hat V_{\text{every}}] = \frac{n V + 1}{n + 1} \tag{2}$$

So every-visit is biased towards 1, and the bias fades with $1/n$. Its variance is smaller, though: after one
episode the mean squared errors are

$$\mathrm{MSE}_{\text{first}} = \frac{p}{(1-p)^2}, \qquad
\mathrm{MSE}_{\text{every}} = \frac{p\,(1+p)}{4\,(1-p)^2} \tag{3}$$
"""


# %%
def loop_estimates(
    p: float, num_experiments: int, num_episodes: int, rng: np.random.Generator
) -> Float[np.ndarray, "2 E n"]:
    """First-visit (row 0) and every-visit estimates of E experiments after 1, 2, ... n episodes."""
    lengths = rng.geometric(1 - p, num_experiments * num_episodes)  # [N]
    running = np.arange(lengths.max())[:, None] < lengths  # [T, N]
    returns = discounted_returns(running.astype(float), gamma=1.0)  # every step pays 1
    estimates = []
    for counted in (first_visits(np.where(running, 0, -1)), running):
        shape = num_experiments, num_episodes
        totals = np.where(counted, returns, 0.0).sum(axis=0).reshape(shape).cumsum(axis=1)
        estimates.append(totals / counted.sum(axis=0).reshape(shape).cumsum(axis=1))
    return np.stack(estimates)


def expected_loop_estimates(p: float, num_episodes: int) -> Float[np.ndarray, "2 n"]:
    """What the two estimates are on average after 1, 2, ... n episodes."""
    n, value = np.arange(1, num_episodes + 1), 1 / (1 - p)
    return np.stack([np.full(num_episodes, value), (n * value + 1) / (n + 1)])  # eq. (2)


# %% [markdown]
r"""
## 3. Blackjack, exactly

The rules are those of gymnasium's Blackjack-v1 with `natural=False, sab=False`; they stand in
`chapters/envs/blackjack.py`. A state is what the player sees: whether an ace counts 11, the dealer's card,
the own sum. Since cards come from an infinite deck, nothing else matters for what comes next, and that is
all that "Markov" says.

Because the deck is infinite, the game can be solved without playing. First the dealer, who has no choice:

$$P(\text{score} \mid \text{hand}) = \sum_c P(c)\, P(\text{score} \mid \text{hand} + c),
\qquad \text{hands of 17 or more stand} \tag{4}$$

Then the player. Sticking compares scores; hitting leads to another state or over 21:

$$Q(s, \text{stick}) = \sum_k P(k \mid \text{dealer's card})\, \mathrm{sign}(\text{sum} - k), \qquad
Q(s, \text{hit}) = \sum_c P(c)\, V(s + c), \tag{5}$$

with $V = -1$ above 21. A hand only grows, so sweeping (5) with $V = Q(s, \pi(s))$, or with
$V = \max_a Q(s, a)$ for the optimum, stops changing after a few sweeps and is then exact.
"""


# %%
def dealer_scores() -> Float[np.ndarray, "2 22 22"]:
    """Chance of each final score (last axis; 0: bust) of a dealer who holds [usable ace, total]."""
    usable, total = np.indices((2, 22))
    stands = np.zeros((2, 22, 22))
    stands[:, np.arange(17, 22), np.arange(17, 22)] = 1.0
    bust = np.eye(22)[0]
    scores = stands
    while True:
        drawn = np.zeros_like(scores)
        for card, probability in zip(CARDS, CARD_PROBABILITIES):
            next_total, next_usable = add_card(total, usable.astype(bool), card)
            reached = scores[next_usable.astype(int), np.minimum(next_total, 21)]  # [2, 22, 22]
            drawn += probability * np.where((next_total > 21)[..., None], bust, reached)
        improved = np.where((total < 17)[..., None], drawn, stands)  # eq. (4)
        if np.array_equal(improved, scores):
            return scores
        scores = improved


def stick_values() -> Float[np.ndarray, "2 11 22"]:
    """Expected reward of sticking in each state; row 0 of the dealer's card is unused."""
    total, usable = add_card(0, False, CARDS)
    chances = np.zeros((11, 22))  # [dealer's card, score]
    chances[CARDS] = dealer_scores()[usable.astype(int), total]
    outcome = np.sign(np.arange(22)[:, None] - np.arange(22))  # [sum, score]
    return np.tile(chances @ outcome.T, (2, 1, 1))  # eq. (5), left


def hit_values(values: Float[np.ndarray, "2 11 22"]) -> Float[np.ndarray, "2 11 22"]:
    """Expected value of hitting in each state, if `values` holds afterwards."""
    usable, showing, total = np.indices(SHAPE)
    hit = np.zeros(SHAPE)
    for card, probability in zip(CARDS, CARD_PROBABILITIES):
        next_total, next_usable = add_card(total, usable.astype(bool), card)
        reached = values[next_usable.astype(int), showing, np.minimum(next_total, 21)]
        hit += probability * np.where(next_total > 21, -1.0, reached)  # eq. (5), right
    return hit


def solve_blackjack(policy: Int[np.ndarray, "2 11 22"] | None = None) -> Float[np.ndarray, "2 2 11 22"]:
    """Exact Q[action, state] of `policy`, or of the optimal policy if none is given."""
    q = np.stack([stick_values(), np.zeros(SHAPE)])
    while True:
        values = q.max(axis=0) if policy is None else np.where(policy == HIT, q[HIT], q[STICK])
        hit = hit_values(values)
        if np.array_equal(hit, q[HIT]):
            return q
        q[HIT] = hit


# %% [markdown]
r"""
## 4. Blackjack from episodes

The same numbers, now from hands played by the simulator, which knows nothing of (4) and (5). The policy to be
evaluated is Sutton and Barto's: stick on 20 and 21, else hit. The sum grows with every card (or an ace
stops counting 11), so no state recurs within a hand, and first-visit and every-visit are one and the same.

**Control** improves the policy as it goes: estimate $Q(s, a)$ by the mean of the returns that followed
action $a$ in $s$, and make the policy greedy,

$$Q(s, a) = \frac{1}{N(s, a)} \sum_{\text{visits}} G_t, \qquad \pi(s) = \arg\max_a Q(s, a) \tag{6}$$

A greedy policy stops trying the other action. *Exploring starts* are the simplest remedy: every hand begins
in a random state with a random action, and follows the policy only then. A batch of hands is played
between improvements, so that the hands can be simulated together.
"""


# %%
def rollout(
    policy: Int[np.ndarray, "2 11 22"], num_hands: int, rng: np.random.Generator, exploring: bool = False
) -> tuple[Int[np.ndarray, "T N"], Int[np.ndarray, "T N"], Float[np.ndarray, "T N"]]:
    """States (flat indices into `SHAPE`), actions and rewards of whole hands; -1, 0, 0 after the end."""
    env = BatchedBlackjack(num_hands, rng)
    if exploring:
        obs = env.reset(tuple(rng.integers((0, 1, 12), (2, 11, 22), (num_hands, 3)).T))
    else:
        obs = env.reset()
    steps: list[tuple] = []
    running = np.ones(num_hands, dtype=bool)
    while running.any():
        usable, showing, total = obs
        state = np.where(running, np.ravel_multi_index((usable, showing, np.minimum(total, 21)), SHAPE), -1)
        actions = policy.ravel()[state]
        if exploring and not steps:
            actions = rng.integers(2, size=num_hands)
        obs, rewards, done = env.step(actions)
        steps.append((state, np.where(running, actions, 0), rewards))
        running = ~done
    states, actions, rewards = (np.stack(arrays) for arrays in zip(*steps))
    return states, actions, rewards


def predict(policy: np.ndarray, num_hands: int, rng: np.random.Generator) -> Float[np.ndarray, "4 S"]:
    """`visit_sums` of one batch, first visits only; the last row counts the visits left out."""
    states, _, rewards = rollout(policy, num_hands, rng)
    returns = discounted_returns(rewards, gamma=1.0)
    first = first_visits(states)
    repeated = np.bincount(states[(states >= 0) & ~first], minlength=np.prod(SHAPE))
    return np.vstack([visit_sums(states, returns, first, int(np.prod(SHAPE))), repeated])


def control(cfg: Config, log: RunLog, rng: np.random.Generator) -> Float[np.ndarray, "3 2 2 11 22"]:
    """Monte Carlo with exploring starts; returns the visit sums of each [action, state]."""
    num_states = int(np.prod(SHAPE))
    sums = np.zeros((3, 2 * num_states))
    policy = np.full(SHAPE, HIT)
    for batch in log.track(range(cfg.num_control_batches), "batches"):
        states, actions, rewards = rollout(policy, cfg.batch_size, rng, exploring=True)
        pairs = np.where(states >= 0, actions * num_states + states, -1)
        sums += visit_sums(pairs, discounted_returns(rewards, 1.0), first_visits(pairs), 2 * num_states)
        q = (sums[1] / np.maximum(sums[0], 1)).reshape(2, *SHAPE)  # eq. (6)
        policy = np.where(q[HIT] > q[STICK], HIT, STICK)
        if (batch + 1) & batch == 0:  # 1, 2, 4, 8, ... batches
            log.write((batch + 1) * cfg.batch_size, control_loss=policy_loss(policy))
    return sums.reshape(3, 2, *SHAPE)


def standard_errors(sums: Float[np.ndarray, "3 ..."]) -> Float[np.ndarray, "..."]:
    """Standard error of each mean return, from its visit sums."""
    count = np.maximum(sums[0], 2)
    return np.sqrt(np.maximum(sums[2] / count - (sums[1] / count) ** 2, 0.0) / (count - 1))


def policy_loss(policy: Int[np.ndarray, "2 11 22"]) -> float:
    """Exact reward per hand that `policy` gives away, with hands that start in a random state."""
    q = solve_blackjack(policy)
    values = np.where(policy == HIT, q[HIT], q[STICK])
    return float((solve_blackjack().max(axis=0) - values)[PLAYED].mean())


# %% [markdown]
r"""
## 5. From episodes to bootstrapping

Monte Carlo waits for the end of an episode and takes in all of its randomness. TD(0) takes one reward and
then trusts its own estimate of the rest. Between them lies the *n-step* target,

$$G_t^{(n)} = \sum_{i=0}^{n-1} \gamma^i\, r_{t+i} + \gamma^n\, V(s_{t+n}), \qquad
V(s_t) \leftarrow V(s_t) + \alpha\,\bigl(G_t^{(n)} - V(s_t)\bigr) \tag{7}$$

If the episode has terminated within the $n$ steps, there is no state left to trust: the sum stops and the
last term is 0. With $n = 1$ this is TD(0), with $n = \infty$ Monte Carlo with a constant step size.

The world is Sutton and Barto's random walk: 19 states in a row, start in the middle, each step left or
right with equal chance; leaving on the left pays -1, on the right +1. Each pair of $n$ and $\alpha$ learns
from the same episodes.
"""


# %%
def walk_values(num_states: int) -> Float[np.ndarray, " S"]:
    """The true values, from the Bellman equations as a linear system (gamma 1)."""
    transitions = (np.eye(num_states, k=1) + np.eye(num_states, k=-1)) / 2
    rewards = np.zeros(num_states)
    rewards[0] -= 0.5
    rewards[-1] += 0.5  # half of the steps from there leave and are paid
    return np.linalg.solve(np.eye(num_states) - transitions, rewards)


def walk_episodes(
    num_states: int, num_runs: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "T1 R"], Float[np.ndarray, "T R"], Int[np.ndarray, " R"]]:
    """One episode per run: states [T + 1, R] (0 and num_states + 1 are terminal), rewards, lengths."""
    states = [np.full(num_runs, (num_states + 1) // 2)]
    while ((states[-1] > 0) & (states[-1] <= num_states)).any():
        running = (states[-1] > 0) & (states[-1] <= num_states)
        states.append(states[-1] + running * (2 * rng.integers(2, size=num_runs) - 1))
    walk = np.stack(states)  # [T + 1, R]; a terminated walk stays where it is
    running = (walk[:-1] > 0) & (walk[:-1] <= num_states)  # [T, R]
    rewards = running * ((walk[1:] > num_states).astype(float) - (walk[1:] == 0))
    return walk, rewards, running.sum(axis=0)


def n_step_parts(
    rewards: Float[np.ndarray, "T N"], lengths: Int[np.ndarray, " N"], n: int, gamma: float
) -> tuple[Float[np.ndarray, "T N"], Float[np.ndarray, "T N"]]:
    """The n-step target in two parts: the sum of rewards, and the weight of V(s_{t+n})."""
    returns = discounted_returns(rewards, gamma)
    beyond = np.zeros_like(returns)
    beyond[:-n] = returns[n:]  # [T, N] what follows after n steps
    not_terminated = np.arange(len(rewards))[:, None] + n < lengths
    return returns - gamma**n * beyond, gamma**n * not_terminated  # eq. (7), left


def n_step_td(
    episodes: list[tuple], n: int, alphas: Float[np.ndarray, " A"], num_states: int
) -> Float[np.ndarray, "E A R"]:
    """RMS error over the states after each episode, for each step size and run; n = 0 is Monte Carlo."""
    true_values = walk_values(num_states)
    num_runs = episodes[0][0].shape[1]
    values = np.zeros((len(alphas), num_runs, num_states + 2))  # [A, R, S + 2]
    runs, errors = np.arange(num_runs), []
    for states, rewards, lengths in episodes:
        ahead = n or len(rewards)
        sums, weights = n_step_parts(rewards, lengths, ahead, gamma=1.0)
        for t in range(len(rewards)):
            later = states[min(t + ahead, len(rewards))]  # [R]
            targets = sums[t] + weights[t] * values[:, runs, later]  # [A, R]
            td_errors = (targets - values[:, runs, states[t]]) * (t < lengths)
            values[:, runs, states[t]] += alphas[:, None] * td_errors  # eq. (7), right
        errors.append(np.sqrt(((values[:, :, 1:-1] - true_values) ** 2).mean(axis=2)))
    return np.stack(errors)


# %% [markdown]
r"""
## 6. Run, look, break

**The first figure.** Left: in the one-state loop, the means of both estimates lie on the dashed lines (2).
Middle: the error of Blackjack prediction falls like $1/\sqrt{n}$, so one more correct digit costs a hundred
times as many hands. Right: each curve is one $n$. TD(0) needs a large step size, Monte Carlo a tiny one and
still does worst, and the best is in between. A long return is unbiased but carries the noise of many steps; a
short one is calm but repeats what the estimates do not know yet. Chapter C meets this trade again as
GAE's $\lambda$.

**The second figure** shows what control has learned. The wire frame over the value surface is the exact
solution, and so is the dashed border of the policy. Where the policy sticks below 17 the surface is flat:
such a hand wins only if the dealer goes bust, whatever its sum.

**Break it.** In `rollout`, take the random first action away (replace `rng.integers(2, size=num_hands)` by
`actions`). The starts still visit every state. The run begins with a policy that always hits, finds that
this loses, and turns to sticking, which it has never tried; from then on it sticks everywhere and
cannot learn that one card more would help. It ends with the wrong action in 90 of 200 states, and gives away
0.124 of the stake per hand, however many hands it plays.

**Exercises.**
1. `n_step_parts` gives a terminated episode's bootstrap the weight 0. Give it `gamma**n` instead. The figure
   does not change. Why not, and in which environment would it?
2. Set `sab=True` in gymnasium's Blackjack: a two-card 21 then beats a 21 of three cards. Is the observation
   still Markov? Which of the claims would fail?
3. After one episode in the loop every-visit has the smaller squared error. For how many episodes does that
   stay so? `loop_estimates` can tell. Which of the two would you use, then?
"""


# %%
def claim_loop(cfg: Config, log: RunLog, rng: np.random.Generator) -> None:
    p, num_episodes = cfg.loop_probability, 10
    estimates = loop_estimates(p, cfg.num_experiments, num_episodes, rng)  # [2, E, n]
    means, exact = estimates.mean(axis=1), expected_loop_estimates(p, num_episodes)  # [2, n]
    for n in range(num_episodes):
        log.write(n + 1, loop_first=means[0, n], loop_every=means[1, n])
    deviations = np.abs(means - exact) / (estimates.std(axis=1) / np.sqrt(cfg.num_experiments))
    for row, name in enumerate(("first", "every")):
        log.claim(
            f"loop_{name}_visit_mean",
            f"in the loop, {name}-visit estimates average what theory says, after 1 to 10 episodes",
            deviations[row].max(),
            at_most=4.5,
            unit="standard errors",
            source="eq. (2), exact",
            always=True,
        )
    first, every = ((estimates[:, :, 0] - 1 / (1 - p)) ** 2).mean(axis=1)
    log.claim(
        "loop_squared_errors",
        "after one episode the biased every-visit estimate has the smaller mean squared error",
        every / first,
        near=((1 + p) / 4, 0.05),
        unit="every-visit / first-visit",
        source="eq. (3), exact; singh1996replacing",
    )


def claim_prediction(cfg: Config, log: RunLog, rng: np.random.Generator) -> None:
    policy = np.full(SHAPE, HIT)
    policy[:, :, 20:] = STICK
    q = solve_blackjack(policy)
    exact = np.where(policy == HIT, q[HIT], q[STICK])
    sums = np.zeros((4, exact.size))
    for batch in log.track(range(2**cfg.num_doublings), "batches", show="blackjack_error"):
        sums += predict(policy, cfg.batch_size, rng)
        if (batch + 1) & batch == 0:  # 1, 2, 4, 8, ... batches
            deviation = ((sums[1] / np.maximum(sums[0], 1)).reshape(SHAPE) - exact)[PLAYED]
            log.write((batch + 1) * cfg.batch_size, blackjack_error=np.sqrt((deviation**2).mean()))
    errors_of_mean = standard_errors(sums[:3]).reshape(SHAPE)[PLAYED]  # [2, 10, 10]
    log.write(2**cfg.num_doublings * cfg.batch_size, expected_error=np.sqrt((errors_of_mean**2).mean()))
    log.claim(
        "visits_coincide",
        "no state recurs within a hand of Blackjack, so first- and every-visit are the same",
        sums[3].sum(),
        at_most=0,
        unit="repeated visits",
        source="the rules of the game",
        always=True,
    )
    hands, errors = log.series("blackjack_error")
    log.claim(
        "error_slope",
        "the error of the value estimates falls as one over the root of the number of hands",
        np.polyfit(np.log(hands), np.log(errors), 1)[0],
        near=(-0.5, 0.1),
        unit="slope, log-log",
        source="central limit theorem; exact values by dynamic programming",
    )
    log.claim(
        "interval_coverage",
        "95 % confidence intervals contain the exact value in about 95 % of the states",
        (np.abs(deviation) <= 1.96 * errors_of_mean).mean(),
        near=(0.945, 0.045),
        unit="share of 200 states",
        source="central limit theorem; exact values by dynamic programming",
    )


def claim_control(cfg: Config, log: RunLog, rng: np.random.Generator) -> None:
    exact = solve_blackjack()
    optimal = np.where(exact[HIT] > exact[STICK], HIT, STICK)
    published = np.where(np.arange(12, 22) >= np.array(STICK_FROM)[:, :, None], STICK, HIT)  # [2, 10, 10]
    log.claim(
        "optimum_as_published",
        "the policy that dynamic programming finds is the published one",
        (optimal[PLAYED] != published).sum(),
        at_most=0,
        unit="states that differ",
        source="suttonbarto2018, figure 5.2",
        always=True,
    )
    sums = control(cfg, log, rng)
    q = sums[1] / np.maximum(sums[0], 1)
    learned = np.where(q[HIT] > q[STICK], HIT, STICK)
    clear = np.abs(exact[HIT] - exact[STICK]) > 3 * np.hypot(*standard_errors(sums))
    log.write(cfg.num_control_batches * cfg.batch_size, close_states=(~clear)[PLAYED].sum())
    log.claim(
        "control_is_optimal",
        "control chooses as the optimum does wherever the actions differ by more than 3 standard errors",
        ((learned != optimal) & clear)[PLAYED].sum(),
        at_most=0,
        unit="wrong states of 200",
        source="exact dynamic programming",
    )
    log.claim(
        "control_loss",
        "the learned policy gives away less than a thousandth of the stake per hand",
        policy_loss(learned),
        at_most=0.001,
        unit="reward per hand",
        source="exact evaluation of the learned policy",
    )
    draw_blackjack(np.where(learned == HIT, q[HIT], q[STICK]), learned, exact, log)


def claim_walk(cfg: Config, log: RunLog, rng: np.random.Generator) -> None:
    log.claim(
        "walk_values",
        "the random walk's Bellman equations have the solution -0.9, -0.8, ... 0.9",
        np.abs(walk_values(NUM_WALK_STATES) - np.linspace(-0.9, 0.9, NUM_WALK_STATES)).max(),
        at_most=1e-12,
        unit="largest difference",
        source="closed form; suttonbarto2018, example 7.1",
        always=True,
    )
    episodes = [walk_episodes(NUM_WALK_STATES, cfg.num_walk_runs, rng) for _ in range(10)]
    best = {}
    for n in log.track(NUM_AHEAD, "values of n"):
        errors = n_step_td(episodes, n, np.array(ALPHAS), NUM_WALK_STATES).mean(axis=(0, 2))  # [A]
        for alpha, error in zip(ALPHAS, errors):
            log.write(round(1000 * alpha), **{f"walk_error_{n}": error})  # step: 1000 alpha
        best[n] = errors.min()
    for rival, name in ((1, "TD(0)"), (0, "Monte Carlo")):
        log.claim(
            f"n_step_beats_{'td0' if rival else 'monte_carlo'}",
            f"with the best step size for each, 4-step TD has a smaller error than {name}",
            best[4] / best[rival],
            at_most=0.9,
            unit="ratio of errors",
            source="suttonbarto2018, figure 7.2",
        )
    log.claim(
        "best_n_between",
        "the best n lies between the two ends: 2, 4 or 8",
        min(best, key=best.get),
        near=(5, 3),
        unit="steps",
        source="suttonbarto2018, figure 7.2",
    )
    log.claim(
        "walk_error",
        "the smallest error of 4-step TD over the first ten episodes is the published one",
        best[4],
        near=(0.265, 0.02),
        unit="RMS error",
        source="suttonbarto2018, figure 7.2, read off",
    )


# %%
def draw_curves(runs: list[dict], log: RunLog) -> None:
    """The first figure; several runs give means (left, right) and a band (middle)."""

    def curve(name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array([run["metrics"][name] for run in runs])  # [runs, steps, 2]
        return rows[0, :, 0], rows[:, :, 1]

    figure, (loop, blackjack, walk) = plotting.new_figure(1, 3, width=5.6, height=4.4)
    n, first = curve("loop_first")
    for exact in expected_loop_estimates(runs[0]["config"]["loop_probability"], len(n)):
        loop.plot(n, exact, **plotting.REFERENCE)
    loop.plot(n, first.mean(axis=0), "o", color=plotting.BLUE, label="first-visit")
    loop.plot(n, curve("loop_every")[1].mean(axis=0), "s", color=plotting.ORANGE, label="every-visit")
    loop.plot([], [], label="exact expectation", **plotting.REFERENCE)
    loop.set(xlabel="episodes", ylabel="mean estimate", title="One-state loop: who is biased?")
    loop.legend(loc="lower right")

    hands, errors = curve("blackjack_error")
    plotting.seed_band(blackjack, hands, errors, "Monte Carlo")
    expected = np.mean([run["metrics"]["expected_error"][-1][1] for run in runs])
    line = expected * np.sqrt(hands[-1] / hands)
    blackjack.plot(hands, line, label="expected, slope −1/2", **plotting.REFERENCE)
    blackjack.set(xscale="log", yscale="log", xlabel="hands", ylabel="RMS error over 200 states")
    blackjack.set_title("Blackjack prediction")
    blackjack.legend()

    colours = (
        plotting.BLUE,
        plotting.SKY,
        plotting.GREEN,
        plotting.ORANGE,
        plotting.RED,
        plotting.PURPLE,
        "black",
    )
    for ahead, colour in zip(NUM_AHEAD, colours):
        alphas, errors = curve(f"walk_error_{ahead}")
        label = {0: "Monte Carlo", 1: "n = 1, TD(0)"}.get(ahead, f"n = {ahead}")
        mean = errors.mean(axis=0)
        steep = ahead in (16, 32)  # named to their left, the others where they leave the picture
        last = np.flatnonzero(mean < (0.58 if steep else 0.62))[-1]
        walk.plot(alphas / 1000, mean, color=colour)
        side, gap = ("right", -0.02) if steep else ("left", 0.02)
        place = alphas[last] / 1000 + gap, mean[last]
        walk.text(*place, label, color=colour, ha=side, va="center", fontsize=11)
    walk.set(
        xlabel=r"step size $\alpha$", ylabel="RMS error, first 10 episodes", ylim=(0.22, 0.64), xlim=(0, 1.32)
    )
    walk.set_title("Random walk: how far to look")
    log.figure(figure)


def draw_blackjack(values: np.ndarray, policy: np.ndarray, exact: np.ndarray, log: RunLog) -> None:
    """Value surfaces with the exact ones as a wire frame; policies with the exact boundary."""
    figure, axes = plotting.new_figure(2, 2, width=5.6, height=4.4)
    cards, totals = np.meshgrid(np.arange(1, 11), np.arange(12, 22), indexing="ij")
    optimal = exact[HIT] > exact[STICK]
    for usable, name in enumerate(("no usable ace", "usable ace")):
        axes[0, usable].remove()
        surface = figure.add_subplot(2, 2, 1 + usable, projection="3d")
        surface.plot_surface(
            cards, totals, values[PLAYED][usable], cmap="viridis", vmin=-1, vmax=1, alpha=0.8
        )
        frame = exact.max(axis=0)[PLAYED][usable]
        surface.plot_wireframe(cards, totals, frame, color="black", linewidth=0.6)
        surface.set(
            xlabel="dealer's card",
            ylabel="player's sum",
            zlabel="value",
            zlim=(-1, 1),
            title=f"Value, {name}",
        )
        surface.view_init(elev=28, azim=-130)

        flat = axes[1, usable]
        flat.imshow(policy[PLAYED][usable].T, origin="lower", cmap="cividis", extent=(0.5, 10.5, 11.5, 21.5))
        flat.contour(
            *np.meshgrid(np.linspace(0.5, 10.5, 1000), np.linspace(11.5, 21.5, 1000)),
            np.kron(optimal[PLAYED][usable].T, np.ones((100, 100))),
            [0.5], colors="white", linestyles="--", linewidths=2.5,
        )  # fmt: skip
        flat.set(
            xlabel="dealer's card (1: ace)", ylabel="player's sum", title=f"Policy, {name} (dashed: exact)"
        )
        flat.set(xticks=range(1, 11), yticks=range(12, 22, 2))
        flat.grid(False)
        flat.text(5.5, 20, "stick", color="white", ha="center", va="center")
        flat.text(8 if not usable else 5.5, 14, "hit", color="black", ha="center", va="center")
    log.figure(figure, "blackjack")


def summarise(runs: list[dict], log: RunLog) -> None:
    """The first figure from all recorded seeds, and the slope without most of its noise."""
    draw_curves(runs, log)
    curves = np.array([run["metrics"]["blackjack_error"] for run in runs])  # [seeds, checkpoints, 2]
    log.claim(
        "error_slope_pooled",
        "pooled over the seeds, the slope of the error is -1/2",
        np.polyfit(np.log(curves[0, :, 0]), np.log(curves[:, :, 1]).mean(axis=0), 1)[0],
        near=(-0.5, 0.05),
        unit="slope, log-log",
        source="central limit theorem; exact values by dynamic programming",
    )


def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    claim_loop(cfg, log, rng)
    claim_prediction(cfg, log, rng)
    claim_control(cfg, log, rng)
    claim_walk(cfg, log, rng)
    draw_curves([{"metrics": log.metrics, "config": {"loop_probability": cfg.loop_probability}}], log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
