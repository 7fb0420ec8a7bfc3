# %% [markdown]
r"""
# B0 · Multi-armed bandits

**Question.** How much should you try things that look worse, when every try costs reward, and how close
to the best possible answer do simple rules come?

**Before this:** A3 (values, and what "optimal" means). **Changes from A3:** the model is gone, you learn
from samples; and there is only one state, so that nothing is left but the choice between exploring and
exploiting. **Next:** B1 puts the states back.

**Time budget.** 15 s on 2 cores.

<!-- results: B0 -->

`rl run B0`: 12 s, 169 MB. `rl run B0 --smoke`: 3 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| ties_at_random              | 2.2 (1.37 to 2.71)              | ≤ 4.5         | 10/10  |
| order_does_not_matter       | 0.614 (0 to 1.88)               | ≤ 4.5         | 10/10  |
| gradient_bandit_is_gradient | 8.33e-17 (4.16e-17 to 2.22e-16) | ≤ 1e-12       | 10/10  |
| optimal_share_greedy        | 0.359 (0.343 to 0.38)           | 0.3333 ± 0.05 | 10/10  |
| optimal_share_epsilon_0.01  | 0.603 (0.577 to 0.628)          | 0.6 ± 0.05    | 10/10  |
| optimal_share_epsilon_0.1   | 0.8 (0.787 to 0.812)            | 0.8 ± 0.04    | 10/10  |
| epsilon_ceiling             | 0.815 (0.803 to 0.834)          | ≤ 0.9356      | 10/10  |
| ucb_beats_greedy            | 0.334 (0.308 to 0.353)          | ≥ 0           | 10/10  |
| ucb_beats_epsilon_0.01      | 0.168 (0.15 to 0.19)            | ≥ 0           | 10/10  |
| ucb_beats_epsilon_0.1       | 0.0795 (0.0742 to 0.0839)       | ≥ 0           | 10/10  |
| baseline_helps              | 0.347 (0.317 to 0.365)          | ≥ 0.2         | 10/10  |
| ucb1_below_bound            | 0.181 (0.178 to 0.184)          | ≤ 1           | 10/10  |
| epsilon_regret_linear       | 1 (0.996 to 1)                  | 1 ± 0.05      | 10/10  |
| thompson_slope              | 0.863 (0.777 to 0.921)          | 1 ± 0.3       | 10/10  |
| thompson_approaches         | 0.772 (0.732 to 0.82)           | ≤ 1           | 10/10  |
| thompson_slope_known_best   | 0.965 (0.962 to 0.973)          | 1 ± 0.05      | 10/10  |
| thompson_slope_pooled       | 0.854                           | 1 ± 0.2       | pooled |

<!-- /results -->

References: `suttonbarto2018` (chapter 2), `auer2002finite`, `lai1985asymptotically`,
`kaufmann2012thompson`, `williams1992reinforce`.

Symbols: `B` bandits (or repeated runs) played at once, `K` arms, `T` steps.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy.integrate import quad
from scipy.special import betainc
from scipy.stats import norm

from chapters.utils import RunLog, in_range, plotting, run_lesson

MEANS = (0.5, 0.25)  # the two Bernoulli arms of section 4


# %%
@dataclass(frozen=True)
class Config:
    """Bandits: the 10-armed testbed, and regret on two Bernoulli arms."""

    seed: int = 0
    """Seed of the bandits and of every draw."""
    num_bandits: Annotated[int, in_range(10, 100_000)] = 2000
    """B: random 10-armed bandits in the testbed, all played at once."""
    num_arms: Annotated[int, in_range(2, 1000)] = 10
    """K: arms of each bandit in the testbed."""
    num_steps: Annotated[int, in_range(100, 100_000)] = 1000
    """T: plays of each bandit in the testbed."""
    ucb_c: Annotated[float, in_range(0.0, 100.0)] = 2.0
    """Width of the confidence bonus in the testbed (2 in Sutton and Barto's figure 2.4)."""
    gradient_alpha: Annotated[float, in_range(0.0, 10.0)] = 0.1
    """Step size of the gradient bandit."""
    num_runs: Annotated[int, in_range(10, 100_000)] = 400
    """Repetitions of the Bernoulli bandit."""
    horizon: Annotated[int, in_range(1000, 10_000_000)] = 100_000
    """Plays of Thompson sampling on the Bernoulli bandit."""
    short_horizon: Annotated[int, in_range(100, 1_000_000)] = 10_000
    """Plays of UCB1 and of epsilon-greedy on it."""


SMOKE = {"num_bandits": 500, "num_steps": 100, "num_runs": 50, "horizon": 1000, "short_horizon": 500}

# %% [markdown]
r"""
## 1. Values from samples, and ties

A *bandit* has $K$ arms. Pulling arm $a$ pays a random reward with the unknown mean $q_*(a)$. The obvious
estimate of $q_*(a)$ is the mean of the rewards seen so far. It needs no memory of them: with $N$ rewards
including the new one,

$$Q \leftarrow Q + \frac{1}{N}\,(r - Q) \tag{1}$$

"Old estimate plus step size times error" is the shape of nearly every update in this course.

The obvious choice is the arm with the highest estimate. At the start all estimates are equal, and
`np.argmax` then returns arm 0, always. That small thing has sunk whole experiments (B1 shows one that
never learns at all), so here the maximum is drawn at random among the equals.
"""


# %%
def updated_mean(
    estimates: Float[np.ndarray, " B"], counts: Float[np.ndarray, " B"], rewards: Float[np.ndarray, " B"]
) -> Float[np.ndarray, " B"]:
    """The mean after one more reward; `counts` includes it (suttonbarto2018, eq. 2.3)."""
    return estimates + (rewards - estimates) / counts  # eq. (1)


def random_argmax(scores: Float[np.ndarray, "B K"], rng: np.random.Generator) -> Int[np.ndarray, " B"]:
    """The position of each row's maximum; each of several equal maxima is equally likely."""
    best = scores == scores.max(axis=1, keepdims=True)
    return np.argmax(best * (1.0 - rng.random(scores.shape)), axis=1)  # 1 - u is never 0


# %% [markdown]
r"""
## 2. Four ways to explore

**Epsilon-greedy** plays the best-looking arm, but with probability $\varepsilon$ any arm at all.

**UCB** (upper confidence bound) is optimistic: it adds to each estimate a bonus for what is not yet known,
and plays the highest sum. The bonus shrinks with the pulls of the arm and grows slowly with time:

$$\text{score}_t(a) = Q(a) + c\,\sqrt{\frac{\ln t}{N(a)}} \tag{2}$$

An arm never pulled scores infinity. With rewards in $[0, 1]$ and $c = \sqrt 2$ this is UCB1.

**Thompson sampling** keeps a belief about each arm, draws one guess from each belief, and plays the arm
with the highest guess. An arm is thus played as often as it is believed to be the best. For rewards 0 or
1 and a uniform prior the belief is a Beta distribution that counts successes $S$ and failures $F$:

$$\theta(a) \sim \mathrm{Beta}\bigl(1 + S(a),\; 1 + F(a)\bigr) \tag{3}$$

**The gradient bandit** learns no values. It has a logit $H(a)$ per arm, plays from their softmax $\pi$, and
raises the logit of an arm that paid more than the average so far, the *baseline* $\bar r$:

$$H(b) \leftarrow H(b) + \alpha\,(r - \bar r)\,\bigl(\mathbb 1[b = a] - \pi(b)\bigr) \tag{4}$$

You know the bracket: it is minus the gradient of the cross-entropy loss on the label $a$. On average (4)
climbs the expected reward, whatever the baseline is; the baseline only makes the climb steadier. With
states added, (4) becomes REINFORCE in chapter C.
"""


# %%
def epsilon_greedy(
    estimates: Float[np.ndarray, "B K"], epsilon: float, rng: np.random.Generator
) -> Int[np.ndarray, " B"]:
    """The best-looking arm, or with probability `epsilon` any of the K arms."""
    num_bandits, num_arms = estimates.shape
    explore = rng.random(num_bandits) < epsilon
    return np.where(explore, rng.integers(num_arms, size=num_bandits), random_argmax(estimates, rng))


def ucb_scores(
    estimates: Float[np.ndarray, "B K"], counts: Float[np.ndarray, "B K"], num_plays: int, c: float
) -> Float[np.ndarray, "B K"]:
    """Estimates plus confidence bonus after `num_plays` plays (auer2002finite, figure 1)."""
    bonus = c * np.sqrt(np.log(max(num_plays, 1)) / np.maximum(counts, 1))  # eq. (2)
    return np.where(counts > 0, estimates + bonus, np.inf)


def thompson_scores(
    successes: Float[np.ndarray, "B K"], failures: Float[np.ndarray, "B K"], rng: np.random.Generator
) -> Float[np.ndarray, "B K"]:
    """One draw from the belief about each arm."""
    return rng.beta(1.0 + successes, 1.0 + failures)  # eq. (3)


def softmax(logits: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def gradient_step(
    logits: Float[np.ndarray, "B K"],
    actions: Int[np.ndarray, " B"],
    rewards: Float[np.ndarray, " B"],
    baseline: Float[np.ndarray, " B"],
    alpha: float,
) -> Float[np.ndarray, "B K"]:
    """The logits after one step of stochastic gradient ascent on the expected reward."""
    chosen = np.arange(logits.shape[1]) == actions[:, None]  # [B, K] one-hot
    return logits + alpha * (rewards - baseline)[:, None] * (chosen - softmax(logits))  # eq. (4)


# %% [markdown]
r"""
An agent is a rule plus what it remembers. All agents have the same two methods, and each of their arrays
has one row per bandit, so that 2000 bandits cost little more than one.
"""


# %%
class ValueAgent:
    """Sample averages, and a rule `choose(estimates, counts, num_plays, rng)` that picks arms by them."""

    def __init__(self, shape: tuple[int, int], choose: Callable):
        self.estimates, self.counts, self.choose = np.zeros(shape), np.zeros(shape), choose  # [B, K]

    def act(self, num_plays: int, rng: np.random.Generator) -> np.ndarray:
        return self.choose(self.estimates, self.counts, num_plays, rng)

    def learn(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        pulled = np.arange(len(actions)), actions
        self.counts[pulled] += 1
        self.estimates[pulled] = updated_mean(self.estimates[pulled], self.counts[pulled], rewards)


class ThompsonAgent:
    """Counts of successes and failures, for rewards 0 or 1."""

    def __init__(self, shape: tuple[int, int]):
        self.successes, self.failures = np.zeros(shape), np.zeros(shape)  # [B, K]

    def act(self, num_plays: int, rng: np.random.Generator) -> np.ndarray:
        scores = thompson_scores(self.successes, self.failures, rng)
        return scores.argmax(axis=1)  # continuous draws never tie

    def learn(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        pulled = np.arange(len(actions)), actions
        self.successes[pulled] += rewards
        self.failures[pulled] += 1.0 - rewards


class GradientAgent:
    """Softmax policy; the baseline is the mean of the earlier rewards, or 0 without one."""

    def __init__(self, shape: tuple[int, int], alpha: float, use_baseline: bool = True):
        self.logits, self.baseline = np.zeros(shape), np.zeros(shape[0])  # [B, K], [B]
        self.alpha, self.use_baseline, self.num_plays = alpha, use_baseline, 0

    def act(self, num_plays: int, rng: np.random.Generator) -> np.ndarray:
        gumbel = -np.log(-np.log(1.0 - rng.random(self.logits.shape)))  # argmax of logit + Gumbel ~ softmax
        return np.argmax(self.logits + gumbel, axis=1)

    def learn(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        self.logits = gradient_step(self.logits, actions, rewards, self.baseline, self.alpha)
        self.num_plays += 1
        if self.use_baseline:
            counts = np.full(len(rewards), float(self.num_plays))
            self.baseline = updated_mean(self.baseline, counts, rewards)


def greedy_rule(epsilon: float) -> Callable:
    return lambda estimates, counts, num_plays, rng: epsilon_greedy(estimates, epsilon, rng)


def ucb_rule(c: float) -> Callable:
    return lambda estimates, counts, num_plays, rng: random_argmax(
        ucb_scores(estimates, counts, num_plays, c), rng
    )


# %%
@dataclass
class Curves:
    """What happened over T plays: averages over the bandits, and one total per bandit."""

    reward: Float[np.ndarray, " T"]
    """Mean reward of each step."""
    optimal: Float[np.ndarray, " T"]
    """Share of the bandits on which the step played the best arm."""
    regret: Float[np.ndarray, " T"]
    """Mean regret so far: sum over steps of q*(best) - q*(played)."""
    bandit_reward: Float[np.ndarray, " B"]
    """Reward per step of each bandit."""


def play(
    agent, means: Float[np.ndarray, "B K"], num_steps: int, rng: np.random.Generator, bernoulli: bool = False
) -> Curves:
    """Let `agent` play each bandit `num_steps` times: rewards N(mean, 1), or 0 and 1 if `bernoulli`."""
    num_bandits = len(means)
    rows = np.arange(num_bandits)
    best = means.max(axis=1)  # [B]
    reward, optimal, gaps, bandit_reward = *np.zeros((3, num_steps)), np.zeros(num_bandits)
    for step in range(num_steps):
        actions = agent.act(step, rng)
        played = means[rows, actions]  # [B]
        if bernoulli:
            rewards = (rng.random(num_bandits) < played).astype(float)
        else:
            rewards = played + rng.standard_normal(num_bandits)
        agent.learn(actions, rewards)
        reward[step], optimal[step] = rewards.mean(), (played == best).mean()
        gaps[step] = (best - played).mean()
        bandit_reward += rewards
    return Curves(reward, optimal, gaps.cumsum(), bandit_reward / num_steps)


# %% [markdown]
r"""
## 3. The 10-armed testbed

Each of 2000 bandits draws its ten means from $\mathcal N(0, 1)$; rewards have variance 1. Two exact
numbers frame the result. The best arm pays $\mathbb E[\max_a q_*(a)] = 1.54$ on average. And epsilon-greedy
can never play it more often than

$$1 - \varepsilon + \varepsilon / K, \tag{5}$$

which is 91 % for $\varepsilon = 0.1$, even with perfect estimates.
"""


# %%
def expected_maximum(num_arms: int) -> float:
    """E of the largest of `num_arms` standard normal numbers, by numerical integration."""
    return quad(lambda x: x * num_arms * norm.pdf(x) * norm.cdf(x) ** (num_arms - 1), -12, 12)[0]


def run_testbed(cfg: Config, rng: np.random.Generator) -> dict[str, Curves]:
    """Every agent on the same bandits; the two gradient agents on the same bandits paying 4 more."""
    shape = cfg.num_bandits, cfg.num_arms
    means = rng.standard_normal(shape)
    agents = {
        "greedy": ValueAgent(shape, greedy_rule(0.0)),
        "epsilon_0.01": ValueAgent(shape, greedy_rule(0.01)),
        "epsilon_0.1": ValueAgent(shape, greedy_rule(0.1)),
        "ucb": ValueAgent(shape, ucb_rule(cfg.ucb_c)),
    }
    curves = {name: play(agent, means, cfg.num_steps, rng) for name, agent in agents.items()}
    for name, use_baseline in (("gradient", True), ("gradient_no_baseline", False)):
        agent = GradientAgent(shape, cfg.gradient_alpha, use_baseline)
        curves[name] = play(agent, means + 4.0, cfg.num_steps, rng)
    return curves


# %% [markdown]
r"""
## 4. Regret

*Regret* is what the exploring has cost: the sum, over all plays so far, of the gap $\Delta$ between the best
arm's mean and the played arm's. How small can it be? Lai and Robbins proved that a rule which is good on
every bandit must, in the long run, pay at least

$$\liminf_{T \to \infty} \frac{R(T)}{\ln T} \;\ge\; C = \sum_{a:\,\Delta_a > 0}
\frac{\Delta_a}{\mathrm{KL}(q_*(a) \,\|\, q_*(\text{best}))} \tag{6}$$

The KL divergence says how many pulls it takes to tell the arm from the best one. Thompson sampling
attains $C$. Mind the limit: (6) bounds nothing at a finite $T$, and Thompson's regret lies well *below*
$C \ln T$ for as long as anyone will ever play. What can be watched is the slope of $R$ against $\ln T$. If
the slope tends to $C$, so does $R / \ln T$; it only takes longer.

For UCB1 there is a bound that holds at every $T$:

$$R(T) \le \sum_{a:\,\Delta_a > 0} \frac{8 \ln T}{\Delta_a}
+ \Bigl(1 + \frac{\pi^2}{3}\Bigr) \sum_a \Delta_a \tag{7}$$

And a fixed $\varepsilon$ never stops paying. Once the estimates are right, each step costs
$\varepsilon$ times the mean gap: linear, not logarithmic.

How far away is the limit in (6)? A simpler game tells. Suppose the best arm's mean is known, and only the
other arm's belief is sampled. Then nothing changes until that arm is played, and the waiting time is
geometric; so we can draw it in one go and jump to $T = 10^{12}$. The constant is the same.
"""


# %%
def bernoulli_kl(p: float, q: float) -> float:
    """KL(Bernoulli(p) || Bernoulli(q)) in nats, for 0 < p, q < 1."""
    return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def lai_robbins(means: tuple[float, ...]) -> float:
    """C of eq. (6) for Bernoulli arms (lai1985asymptotically)."""
    best = max(means)
    worse = [mean for mean in means if mean < best]
    return float(sum((best - mean) / bernoulli_kl(mean, best) for mean in worse))  # eq. (6)


def auer_bound(means: tuple[float, ...], num_plays: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """UCB1's regret after `num_plays` plays is at most this (auer2002finite, theorem 1)."""
    gaps = [max(means) - mean for mean in means if mean < max(means)]
    return sum(8 * np.log(num_plays) / gap for gap in gaps) + (1 + np.pi**2 / 3) * sum(gaps)  # eq. (7)


def log_slope(regret: Float[np.ndarray, " T"], start: int, stop: int) -> float:
    """Slope of the regret against ln T between the horizons `start` and `stop`."""
    return float((regret[stop - 1] - regret[start - 1]) / np.log(stop / start))


def known_best_regret(
    mean: float, best: float, horizons: Float[np.ndarray, " H"], num_runs: int, rng: np.random.Generator
) -> Float[np.ndarray, " H"]:
    """Mean regret at each horizon when only the worse arm must be learned, jumping from pull to pull."""
    successes, failures, time = np.zeros((3, num_runs))
    pulls = np.zeros(len(horizons))
    while time.min() < horizons[-1]:
        # P(theta > best) for theta ~ Beta(1 + S, 1 + F): how likely each step is to play the worse arm
        chance = np.maximum(betainc(1.0 + failures, 1.0 + successes, 1.0 - best), 1e-300)
        time += np.maximum(np.ceil(np.log(1.0 - rng.random(num_runs)) / np.log1p(-chance)), 1.0)
        pulls += (time[:, None] <= horizons).mean(axis=0)
        success = rng.random(num_runs) < mean  # [R]
        successes += success
        failures += ~success
    return (best - mean) * pulls


def run_bernoulli(cfg: Config, rng: np.random.Generator) -> dict[str, Curves]:
    """Thompson sampling, UCB1 and epsilon-greedy on `num_runs` copies of one two-armed bandit."""
    shape = cfg.num_runs, len(MEANS)
    means = np.tile(MEANS, (cfg.num_runs, 1))
    return {
        "thompson": play(ThompsonAgent(shape), means, cfg.horizon, rng, bernoulli=True),
        "ucb1": play(ValueAgent(shape, ucb_rule(2**0.5)), means, cfg.short_horizon, rng, bernoulli=True),
        "epsilon": play(ValueAgent(shape, greedy_rule(0.1)), means, cfg.short_horizon, rng, bernoulli=True),
    }


# %% [markdown]
r"""
## 5. Run, look, break

**The first figure** is Sutton and Barto's figures 2.2 and 2.4, measured again. The greedy agent settles on
the first arm that looks good, and on a third of the bandits that happens to be the best one. Epsilon 0.1
finds the best arm sooner, but its 91 % ceiling is in sight; epsilon 0.01 is slower and will pass it one day.
UCB spends its tries on the arms that might still be the best.

**The second figure** shows regret on two Bernoulli arms. Epsilon-greedy's line bends upwards on the
logarithmic axis, because it is straight on a linear one. UCB1 stays far below the bound (7), and its slope is
several times the constant $C$. Thompson sampling's slope nears $C$, slowly: the right panel follows it over
decades of $T$, and the simpler game with a known best arm takes over where simulation ends. The slope lags
by a term of order $1 / \ln T$, so even at $T = 10^{12}$ a few per cent are missing.

**Break it.** Make `random_argmax` return `np.argmax(scores, axis=1)`. On the testbed nothing seems to change:
its arms are exchangeable, so favouring arm 0 is as good as favouring any other. Now list each bandit's
worst arm first (`means.sort(axis=1)` in `run_testbed`): the greedy agent finds the best arm on 9 % of the
bandits instead of 36 %. Listed best first it finds it on 91 %, and would look like a discovery. With random
ties the order makes no difference, and one of the claims says so.

**Exercises.**
1. Start all estimates at 5 instead of 0 and set epsilon to 0 ("optimistic initial values"). Equation (1)
   erases the optimism with the first pull of each arm. What step size keeps it for longer? Predict the
   first 20 steps of the curve before you run it.
2. Swap successes and failures in (3). Which of the claims fail, and which do not notice?
3. UCB1's bonus treats every arm as if its rewards had the largest possible variance. Move both means near 1,
   with the same gap: what happens to $C$, to UCB1's slope, to Thompson's? (Compare $2 \Delta^2$ with the KL.)
"""


# %%
def tie_bias(num_arms: int, rng: np.random.Generator, num_draws: int = 50_000) -> float:
    """Largest deviation of an arm's share from 1/K when all arms are tied, in standard errors."""
    picks = random_argmax(np.zeros((num_draws, num_arms)), rng)
    shares = np.bincount(picks, minlength=num_arms) / num_draws
    return float(np.abs(shares - 1 / num_arms).max() / np.sqrt((1 - 1 / num_arms) / num_arms / num_draws))


def gradient_error(num_arms: int, rng: np.random.Generator) -> float:
    """Largest difference between the mean of step (4) over actions and the gradient of sum pi(a) q(a)."""
    logits, q = rng.standard_normal((2, num_arms))
    pi = softmax(logits[None])[0]  # [K]
    every_action = np.arange(num_arms)
    baseline = np.full(num_arms, rng.standard_normal())  # any number will do
    steps = gradient_step(np.tile(logits, (num_arms, 1)), every_action, q, baseline, 1.0) - logits  # [K, K]
    return float(np.abs(pi @ steps - pi * (q - pi @ q)).max())


def order_effect(cfg: Config, rng: np.random.Generator) -> float:
    """Change of the greedy agent's share of best arms when they are listed last, in standard errors."""
    means = rng.standard_normal((cfg.num_bandits, cfg.num_arms))
    shares = []
    for bandits in (means, np.sort(means, axis=1)):
        agent = ValueAgent(bandits.shape, greedy_rule(0.0))
        shares.append(play(agent, bandits, 100, rng).optimal[-1])
    share = float(np.mean(shares))
    return abs(shares[0] - shares[1]) / np.sqrt(2 * share * (1 - share) / cfg.num_bandits)


def claim_identities(cfg: Config, log: RunLog, rng: np.random.Generator) -> None:
    log.claim(
        "ties_at_random",
        "tied arms are chosen equally often: the largest deviation is sampling noise",
        tie_bias(cfg.num_arms, rng),
        at_most=4.5,
        unit="standard errors",
        source="binomial distribution",
        always=True,
    )
    log.claim(
        "order_does_not_matter",
        "thanks to random ties the greedy agent finds the best arm as often when it is listed last",
        order_effect(cfg, rng),
        at_most=4.5,
        unit="standard errors",
        source="exchangeability of the arms",
        always=True,
    )
    log.claim(
        "gradient_bandit_is_gradient",
        "averaged over actions, the gradient bandit's step is the exact gradient, with any baseline",
        gradient_error(cfg.num_arms, rng),
        at_most=1e-12,
        source="closed form; suttonbarto2018, section 2.8",
        always=True,
    )


def claim_testbed(curves: dict[str, Curves], cfg: Config, log: RunLog) -> None:
    published = {"greedy": (1 / 3, 0.05), "epsilon_0.01": (0.6, 0.05), "epsilon_0.1": (0.8, 0.04)}
    for name, near in published.items():
        log.claim(
            f"optimal_share_{name}",
            f"{name.replace('_', ' ')} plays the best arm as often as published",
            curves[name].optimal[-100:].mean(),
            near=near,
            unit="share of the last 100 steps",
            source="suttonbarto2018, figure 2.2 and its text",
        )
    ceiling = 1 - 0.1 + 0.1 / cfg.num_arms  # eq. (5)
    log.claim(
        "epsilon_ceiling",
        "epsilon 0.1 never plays the best arm more often than its ceiling, plus four standard errors",
        curves["epsilon_0.1"].optimal.max(),
        at_most=ceiling + 4 * np.sqrt(ceiling * (1 - ceiling) / cfg.num_bandits),
        unit="share of one step",
        source="eq. (5), exact",
        always=True,
    )
    for rival in ("greedy", "epsilon_0.01", "epsilon_0.1"):
        ahead = curves["ucb"].bandit_reward - curves[rival].bandit_reward  # [B] on the same bandits
        log.claim(
            f"ucb_beats_{rival}",
            f"UCB earns more than {rival.replace('_', ' ')} (lower end of the difference's 95 % interval)",
            ahead.mean() - 1.96 * ahead.std() / np.sqrt(len(ahead)),
            at_least=0.0,
            unit="reward per step",
            source="suttonbarto2018, figure 2.4",
        )
    with_baseline, without = curves["gradient"].optimal, curves["gradient_no_baseline"].optimal
    log.claim(
        "baseline_helps",
        "on rewards shifted by 4 the baseline lets the gradient bandit find the best arm far more often",
        (with_baseline[-100:] - without[-100:]).mean(),
        at_least=0.2,
        unit="difference of shares",
        source="suttonbarto2018, figure 2.5",
    )


def claim_regret(curves: dict[str, Curves], known: float, cfg: Config, log: RunLog) -> None:
    """`known`: slope / C of the game with a known best arm, from 10^6 to 10^12."""
    constant = lai_robbins(MEANS)
    ucb1, epsilon, thompson = (curves[name].regret for name in ("ucb1", "epsilon", "thompson"))
    log.claim(
        "ucb1_below_bound",
        "UCB1's regret stays below Auer's finite-time bound at every step (largest ratio)",
        (ucb1 / auer_bound(MEANS, np.arange(1.0, len(ucb1) + 1))).max(),
        at_most=1.0,
        unit="regret / bound",
        source="auer2002finite, theorem 1",
        always=True,
    )
    half = len(epsilon) // 2
    log.claim(
        "epsilon_regret_linear",
        "a fixed epsilon keeps paying epsilon times the mean gap per step (second half of the run)",
        (epsilon[-1] - epsilon[half - 1]) / (len(epsilon) - half) / (0.1 * (max(MEANS) - np.mean(MEANS))),
        near=(1.0, 0.05),
        unit="measured / exact",
        source="exact slope of epsilon-greedy with correct estimates",
    )
    log.claim(
        "thompson_slope",
        "over the last decade the slope of Thompson's regret against ln T is near the constant, its limit",
        log_slope(thompson, cfg.horizon // 10, cfg.horizon) / constant,
        near=(1.0, 0.3),
        unit="slope / C",
        source="lai1985asymptotically, kaufmann2012thompson (asymptotic)",
    )
    early, late = (
        abs(1 - thompson[plays - 1] / (constant * np.log(plays)))
        for plays in (cfg.horizon // 100, cfg.horizon)
    )
    log.claim(
        "thompson_approaches",
        "Thompson's regret per ln T is nearer to the constant at the end than after a hundredth of the plays",
        late / early,
        at_most=1.0,
        unit="ratio of distances",
        source="kaufmann2012thompson (asymptotic)",
    )
    log.claim(
        "thompson_slope_known_best",
        "with a known best arm the slope from T = 10^6 to 10^12 reaches the constant to within 5 %",
        known,
        near=(1.0, 0.05),
        unit="slope / C",
        source="lai1985asymptotically (asymptotic)",
    )


# %%
def write_curves(testbed: dict[str, Curves], bernoulli: dict[str, Curves], log: RunLog) -> None:
    """Every tenth step of the testbed (means over ten), and the regret at 60 horizons a log-scale apart."""
    num_steps = len(testbed["greedy"].reward)
    for step in range(10, num_steps + 1, 10):
        window = slice(step - 10, step)
        shares = {f"optimal_{name}": c.optimal[window].mean() for name, c in testbed.items()}
        log.write(step, **shares, **{f"reward_{n}": c.reward[window].mean() for n, c in testbed.items()})
    for name, c in bernoulli.items():
        for horizon in np.unique(np.geomspace(1, len(c.regret), 61).round().astype(int)):
            log.write(horizon, **{f"regret_{name}": c.regret[horizon - 1]})


def curve(runs: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values [runs, steps]) of one metric over runs."""
    rows = [np.array(run["metrics"][name]) for run in runs]
    return rows[0][:, 0], np.stack([row[:, 1] for row in rows])


def draw_testbed(runs: list[dict], log: RunLog) -> None:
    labels = {
        "ucb": ("UCB, c = 2", plotting.ORANGE),
        "epsilon_0.1": ("epsilon 0.1", plotting.BLUE),
        "epsilon_0.01": ("epsilon 0.01", plotting.GREEN),
        "greedy": ("greedy", plotting.PURPLE),
    }
    figure, (left, right) = plotting.new_figure(1, 2)
    for name, (label, color) in labels.items():
        for ax, metric, scale in ((left, "optimal", 100), (right, "reward", 1)):
            steps, values = curve(runs, f"{metric}_{name}")
            ax.plot(steps, scale * values.mean(axis=0), color=color, label=label)
    left.axhline(91, **plotting.REFERENCE)
    left.text(20, 93, "ceiling of epsilon 0.1: 91 %", fontsize=11)
    right.axhline(expected_maximum(10), **plotting.REFERENCE)
    right.text(20, expected_maximum(10) + 0.03, "best arm always: 1.54", fontsize=11)
    left.set(xlabel="step", ylabel="bandits playing the best arm (%)", ylim=(0, 100), title="Best arm found")
    right.set(xlabel="step", ylabel="mean reward", ylim=(0, 1.65), title="Reward")
    right.legend(loc="lower right")
    log.figure(figure)


def draw_regret(runs: list[dict], log: RunLog) -> None:
    figure, (left, right) = plotting.new_figure(1, 2)
    constant = lai_robbins(MEANS)
    labels = {  # colour and where its name stands
        "epsilon": ("epsilon 0.1", plotting.BLUE, (12_000, 125)),
        "ucb1": ("UCB1", plotting.ORANGE, (12_000, 52)),
        "thompson": ("Thompson", plotting.GREEN, (12_000, 3)),
    }
    for name, (label, color, place) in labels.items():
        steps, values = curve(runs, f"regret_{name}")
        left.plot(steps, values.mean(axis=0), color=color)
        left.text(*place, label, color=color)
    left.plot(steps, constant * np.log(steps), **plotting.REFERENCE)
    left.text(12_000, 25, r"$C\,\ln T$ (a limit)")
    left.plot(steps, auer_bound(MEANS, steps), color="grey", linestyle=":")
    left.text(125, 140, "Auer's bound on UCB1", color="dimgrey")
    left.set(xscale="log", xlabel="plays T", ylabel="regret so far", title="Regret", ylim=(0, 150))
    left.set_xlim(1, 200_000)

    for name, label, color in (
        ("thompson", "Thompson", plotting.GREEN),
        ("known", "Thompson, best arm known", plotting.SKY),
    ):
        steps, values = curve(runs, f"slope_{name}")
        right.plot(steps, values.mean(axis=0), marker="o", color=color, label=label)
    right.axhline(1, label="Lai and Robbins' limit", **plotting.REFERENCE)
    right.set(xscale="log", xlabel="plays T", ylabel="slope in the decade up to T / C", ylim=(0, 1.1))
    right.set_title("Slope of regret against ln T")
    right.legend(loc="lower right")
    log.figure(figure, "regret")


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together, and the Thompson slope without most of its noise."""
    draw_testbed(runs, log)
    draw_regret(runs, log)
    _, slopes = curve(runs, "slope_thompson")
    log.claim(
        "thompson_slope_pooled",
        "pooled over the seeds, the last decade's slope of Thompson's regret is within 20 % of the constant",
        slopes.mean(axis=0)[-1],
        near=(1.0, 0.2),
        unit="slope / C",
        source="lai1985asymptotically, kaufmann2012thompson (asymptotic)",
    )


def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    claim_identities(cfg, log, rng)
    testbed = run_testbed(cfg, rng)
    claim_testbed(testbed, cfg, log)
    bernoulli = run_bernoulli(cfg, rng)
    write_curves(testbed, bernoulli, log)

    constant = lai_robbins(MEANS)
    horizons = 10.0 ** np.arange(1, 13)  # [H]
    known = known_best_regret(MEANS[1], MEANS[0], horizons, 50 * cfg.num_runs, rng)
    for decade in range(1, len(horizons)):
        log.write(horizons[decade], slope_known=(known[decade] - known[decade - 1]) / np.log(10) / constant)
        if horizons[decade] <= cfg.horizon:
            stop = int(horizons[decade])
            slope = log_slope(bernoulli["thompson"].regret, stop // 10, stop) / constant
            log.write(stop, slope_thompson=slope)
    late_slope = (known[11] - known[5]) / np.log(horizons[11] / horizons[5]) / constant
    claim_regret(bernoulli, late_slope, cfg, log)

    this_run = [{"metrics": log.metrics}]
    draw_testbed(this_run, log)
    draw_regret(this_run, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
