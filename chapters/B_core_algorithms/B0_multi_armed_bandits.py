# %% [markdown]
r"""
# B0 · Multi-armed bandits

**Question.** How much should you try things that look worse, when every try costs reward, and how close to
the best possible answer do simple rules come?

**Before this:** A3 (values, and what "optimal" means). **Changes from A3:** the model is gone, you learn from
samples; with one state only, all that is left is to explore or to exploit. **Next:** B1 puts the states back.

**Time.** 25 s on 2 cores; with all evidence 35 s.

References: `suttonbarto2018` (chapter 2), `auer2002finite`, `hoeffding1963probability`,
`lai1985asymptotically`, `kaufmann2012thompson`.

Symbols: `B` bandits (or repeated runs) played at once, `K` arms, `T` plays; $q_*(a)$ true mean reward of an
arm, $Q(a)$ its estimate, $N(a)$ how often it was pulled.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

from chapters.envs.bandits import Curves, play
from chapters.exact.bandits import auer_bound, lai_robbins, log_slope
from chapters.utils import RunLog, in_range, plotting, run_lesson

NUM_ARMS = 10  # K: arms of each bandit in the testbed
MEANS = (0.5, 0.25)  # the two Bernoulli arms on which regret is measured


@dataclass(frozen=True)
class Config:
    """Bandits: the 10-armed testbed, and regret on two Bernoulli arms."""

    seed: int = 0
    """Seed of the bandits and of every draw."""
    num_bandits: Annotated[int, in_range(10, 100_000)] = 2000
    """B: random bandits in the testbed, all played at once."""
    num_steps: Annotated[int, in_range(100, 100_000)] = 1000
    """T: plays of each bandit in the testbed."""
    ucb_c: Annotated[float, in_range(0.0, 100.0)] = 2.0
    """Width of the confidence bonus in the testbed (2 in Sutton and Barto's figure 2.4)."""
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

A *bandit* is a row of slot machines: pulling arm $a$ pays a random reward of unknown mean $q_*(a)$. The
obvious estimate is the mean of the rewards so far. It needs no memory of them: after $N$ rewards,

$$Q \leftarrow Q + \frac{1}{N}\,(r - Q) \tag{1}$$

"Old estimate plus step size times error" is the shape of nearly every update in this course. *By hand*, an
arm that paid 2 and 4, so that its estimate is 3, pays 9 on its third pull: $3 + (9 - 3) / 3 = 5$.

```python
>>> updated_mean(np.array([3.0]), np.array([3.0]), np.array([9.0])).tolist()
[5.0]
```

Among equal estimates `np.argmax` always takes the first. That can sink an experiment, as B1 shows. So
`random_argmax` draws one of them at random.
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
## 2. Three ways to explore

**Epsilon-greedy** plays the best-looking arm, but with probability $\varepsilon$ any arm at all.

**UCB** (upper confidence bound) is optimistic: it plays the highest estimate plus bonus for the unknown:

$$\text{score}_t(a) = Q(a) + c\,\sqrt{\frac{\ln t}{N(a)}} \tag{2}$$

*Why this root?* For rewards in $[0, 1]$, Hoeffding's inequality bounds the chance that the true mean lies
more than $u$ above the mean of $N$ samples. Let that chance be $t^{-4}$: it must shrink, as the longer one
plays, the more occasions there are to be fooled. Solved for $u$ this gives the bonus of (2) with
$c = \sqrt 2$, the upper confidence bound called **UCB1**:

$$P\bigl(q_*(a) > Q(a) + u\bigr) \;\le\; e^{-2 N u^2} \;=\; t^{-4}
\quad\Longrightarrow\quad u = \sqrt{\frac{2 \ln t}{N}} \tag{3}$$

*By hand*, after 110 plays: an arm with mean 0.5 over 10 pulls beats one with mean 0.6 over 100:

```python
>>> estimates, counts = np.array([[0.5, 0.6]]), np.array([[10.0, 100.0]])
>>> ucb_scores(estimates, counts, num_plays=110, c=2**0.5).round(2).tolist()
[[1.47, 0.91]]
```

**Thompson sampling** keeps a belief about each arm, a distribution over its possible means. It draws one
guess from each belief, and plays the arm with the highest guess. So an arm is played with the probability
that it is the best, by these beliefs. For *Bernoulli* rewards (0 or 1), if at first every mean is as likely
as any other, the belief is a Beta distribution, which counts successes $S$ and failures $F$:

$$\theta(a) \sim \mathrm{Beta}\bigl(1 + S(a),\; 1 + F(a)\bigr) \tag{4}$$

For rewards 0 and 1, means and counts are all that Thompson sampling needs too: $S = Q \cdot N$.
"""


# %%
def epsilon_greedy(
    estimates: Float[np.ndarray, "B K"], epsilon: float, rng: np.random.Generator
) -> Int[np.ndarray, " B"]:
    """The best-looking arm, or with probability `epsilon` any of the K arms."""
    num_bandits, num_arms = estimates.shape
    explore = rng.random(num_bandits) < epsilon
    any_arm = rng.integers(num_arms, size=num_bandits)
    return np.where(explore, any_arm, random_argmax(estimates, rng))


def ucb_scores(
    estimates: Float[np.ndarray, "B K"], counts: Float[np.ndarray, "B K"], num_plays: int, c: float
) -> Float[np.ndarray, "B K"]:
    """Estimates plus bonus after `num_plays` plays; infinite for an arm that was never pulled."""
    bonus = c * np.sqrt(np.log(max(num_plays, 1)) / np.maximum(counts, 1))  # eq. (2)
    return np.where(counts > 0, estimates + bonus, np.inf)


def thompson_scores(
    successes: Float[np.ndarray, "B K"], failures: Float[np.ndarray, "B K"], rng: np.random.Generator
) -> Float[np.ndarray, "B K"]:
    """One draw from the belief about each arm."""
    return rng.beta(1.0 + successes, 1.0 + failures)  # eq. (4)


class ValueAgent:
    """Sample averages, and a rule `choose(estimates, counts, num_plays, rng)` that picks arms by them."""

    def __init__(self, shape: tuple[int, int], choose: Callable):
        # two tables, `estimates` and `counts` of pulls, and the rule
        self.estimates = np.zeros(shape)  # [B, K]
        self.counts = np.zeros(shape)  # [B, K]
        self.choose = choose

    def act(self, num_plays: int, rng: np.random.Generator) -> np.ndarray:
        return self.choose(self.estimates, self.counts, num_plays, rng)

    def learn(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        pulled = np.arange(len(actions)), actions
        self.counts[pulled] += 1
        self.estimates[pulled] = updated_mean(self.estimates[pulled], self.counts[pulled], rewards)


def greedy_rule(epsilon: float) -> Callable:
    return lambda estimates, counts, num_plays, rng: epsilon_greedy(estimates, epsilon, rng)


def ucb_rule(c: float) -> Callable:
    return lambda estimates, counts, num_plays, rng: random_argmax(
        ucb_scores(estimates, counts, num_plays, c), rng
    )


def thompson_rule(estimates, counts, num_plays, rng) -> Int[np.ndarray, " B"]:
    successes = np.round(estimates * counts)
    return thompson_scores(successes, counts - successes, rng).argmax(axis=1)


# %% [markdown]
r"""
## 3. The testbed, and regret

In the *10-armed testbed*, 2000 bandits draw ten means each from $\mathcal N(0, 1)$; rewards have variance 1.
Epsilon-greedy has a ceiling there: the best arm in $1 - \varepsilon + \varepsilon / K$ of all plays.

*Regret* is what exploring has cost: the sum, over all plays so far, of the gap $\Delta$ between the best
arm's mean and the played arm's. A fixed $\varepsilon$ never stops paying: in each play it costs $\varepsilon$
times the mean gap of all arms, so its regret grows linearly in $T$. For UCB1 there is a bound that holds at
every $T$ and grows only with the logarithm:

$$R(T) \le \sum_{a:\,\Delta_a > 0} \frac{8 \ln T}{\Delta_a}
+ \Bigl(1 + \frac{\pi^2}{3}\Bigr) \sum_a \Delta_a \tag{5}$$

*Where it comes from.* The unlikely cases of (3) aside, a worse arm is played only while twice its bonus
covers its gap, $2 \sqrt{2 \ln T / N} \ge \Delta$. That lasts for $8 \ln T / \Delta^2$ pulls, and each costs
$\Delta$: this is the first sum. The second pays for the unlikely cases.

> **Aside: how small can regret be?** A rule that is good on *every* bandit (its regret grows more slowly than
> any power of $T$) may give up a good arm with a chance of about $1/T$ only. A pull of a worse arm makes "it
> is as good as the best" less likely by $e^{-\mathrm{KL}}$ on average; so it takes $\ln T / \mathrm{KL}$
> pulls to be sure (Lai and Robbins; KL is the Kullback–Leibler divergence of its rewards from the best's):
>
> $$\liminf_{T \to \infty} \frac{R(T)}{\ln T} \;\ge\; C = \sum_{a:\,\Delta_a > 0}
> \frac{\Delta_a}{\mathrm{KL}(q_*(a) \,\|\, q_*(\text{best}))} \tag{6}$$
>
> Thompson sampling attains $C$. Mind the limit: (6) bounds nothing at a finite $T$, and Thompson's regret
> stays *below* $C \ln T$ as far as we follow it. What can be watched is the slope of $R$ against $\ln T$.
"""


# %%
def run_testbed(cfg: Config, rng: np.random.Generator) -> dict[str, Curves]:
    """Every rule on the same bandits."""
    means = rng.standard_normal((cfg.num_bandits, NUM_ARMS))
    rules = {
        "greedy": greedy_rule(0.0),
        "epsilon_0.01": greedy_rule(0.01),
        "epsilon_0.1": greedy_rule(0.1),
        "ucb": ucb_rule(cfg.ucb_c),
    }
    agents = {name: ValueAgent(means.shape, rule) for name, rule in rules.items()}
    return {name: play(agent, means, cfg.num_steps, rng) for name, agent in agents.items()}


def run_bernoulli(cfg: Config, rng: np.random.Generator) -> dict[str, Curves]:
    """Thompson sampling, UCB1 and epsilon-greedy on `num_runs` copies of one two-armed bandit."""
    means = np.tile(MEANS, (cfg.num_runs, 1))
    rules = {
        "thompson": (thompson_rule, cfg.horizon),
        "ucb1": (ucb_rule(2**0.5), cfg.short_horizon),
        "epsilon": (greedy_rule(0.1), cfg.short_horizon),
    }
    return {
        name: play(ValueAgent(means.shape, rule), means, num_steps, rng, bernoulli=True)
        for name, (rule, num_steps) in rules.items()
    }


# %% [markdown]
r"""
## 4. Look, break, write

![Left: UCB finds the best arm most often, epsilon 0.1 and 0.01 less, greedy least. Right: Thompson's regret
is a line over the logarithm of the plays, UCB1's a steeper one, epsilon's bends upwards](results/B0.png)

**Left**, greedy settles on the best arm in a third of the bandits. Epsilon 0.1 nears its ceiling, but is not
there yet.

**Right**, epsilon-greedy's regret bends upwards on the logarithmic axis. UCB1 stays far below its bound (5),
but its slope is several times $C$. Thompson's slope nears $C$ slowly. To see how slowly, the evidence follows
an easier case, in which the best arm's mean is known, to $T = 10^{12}$:

![The slope of Thompson's regret over the constant: it rises towards one, and with a known best arm comes
close to it](results/B0_slope.png)

**The verdict.** Try what looks worse less and less often, but never quite stop: as often as you could still
be wrong about it. Never trying mostly settles on a worse arm; trying a fixed share of the time pays for ever.
Rules that measure their own uncertainty pay a logarithm, Thompson's nearly the smallest possible.

<!-- results: B0 -->

`rl run B0`: 13 s; with `--evidence`: 17 s, 252 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| optimal_share_epsilon_0.1     | 0.8 (0.791 to 0.81)             | 0.8 ± 0.04    | 10/10  |
| ucb1_below_bound              | 0.181 (0.18 to 0.182)           | ≤ 1           | 10/10  |
| thompson_slope                | 0.831 (0.813 to 0.898)          | 1 ± 0.3       | 10/10  |
| ties_at_random *              | 2.13 (1.51 to 2.64)             | ≤ 4.5         | 10/10  |
| order_does_not_matter *       | 0.348 (0.0666 to 1.61)          | ≤ 4.5         | 10/10  |
| optimal_share_greedy *        | 0.356 (0.349 to 0.369)          | 0.3333 ± 0.05 | 10/10  |
| optimal_share_epsilon_0.01 *  | 0.596 (0.581 to 0.608)          | 0.6 ± 0.05    | 10/10  |
| epsilon_ceiling *             | 0.816 (0.81 to 0.831)           | ≤ 0.9356      | 10/10  |
| ucb_beats_greedy *            | 0.347 (0.322 to 0.361)          | ≥ 0           | 10/10  |
| ucb_beats_epsilon_0.01 *      | 0.178 (0.175 to 0.192)          | ≥ 0           | 10/10  |
| ucb_beats_epsilon_0.1 *       | 0.0783 (0.0759 to 0.0818)       | ≥ 0           | 10/10  |
| gradient_bandit_is_gradient * | 6.94e-17 (3.47e-17 to 1.11e-16) | ≤ 1e-12       | 10/10  |
| baseline_helps *              | 0.348 (0.339 to 0.357)          | ≥ 0.2         | 10/10  |
| epsilon_regret_linear *       | 1 (0.998 to 1)                  | 1 ± 0.05      | 10/10  |
| thompson_approaches *         | 0.784 (0.759 to 0.795)          | ≤ 1           | 10/10  |
| thompson_slope_known_best *   | 0.966 (0.963 to 0.968)          | 1 ± 0.05      | 10/10  |
| thompson_slope_pooled *       | 0.846                           | 1 ± 0.2       | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `optimal_share_epsilon_0.1`: epsilon 0.1 plays the best arm as often as published (share of the last 100
  steps)
- `ucb1_below_bound`: UCB1's regret stays below Auer's finite-time bound at every step (largest ratio) (regret
  / bound)
- `thompson_slope`: over the last decade the slope of Thompson's regret against ln T is near the constant, its
  limit (slope / C)
- `ties_at_random`: tied arms are chosen equally often: the largest deviation is sampling noise (standard
  errors)
- `order_does_not_matter`: thanks to random ties the greedy agent finds the best arm as often when it is
  listed last (standard errors)
- `optimal_share_greedy`: greedy plays the best arm as often as published (share of the last 100 steps)
- `optimal_share_epsilon_0.01`: epsilon 0.01 plays the best arm as often as published (share of the last 100
  steps)
- `epsilon_ceiling`: epsilon 0.1 never plays the best arm more often than its ceiling, plus four standard
  errors (share of one step)
- `ucb_beats_greedy`: UCB earns more than greedy (lower end of the difference's 95 % interval) (reward per
  step)
- `ucb_beats_epsilon_0.01`: UCB earns more than epsilon 0.01 (lower end of the difference's 95 % interval)
  (reward per step)
- `ucb_beats_epsilon_0.1`: UCB earns more than epsilon 0.1 (lower end of the difference's 95 % interval)
  (reward per step)
- `gradient_bandit_is_gradient`: averaged over actions, the gradient bandit's step is the exact gradient, with
  any baseline
- `baseline_helps`: on rewards shifted by 4 the baseline lets the gradient bandit find the best arm far more
  often (difference of shares)
- `epsilon_regret_linear`: a fixed epsilon keeps paying epsilon times the mean gap per step (second half of
  the run) (measured / exact)
- `thompson_approaches`: Thompson's regret per ln T is nearer to the constant at the end than after a
  hundredth of the plays (ratio of distances)
- `thompson_slope_known_best`: with a known best arm the slope from T = 10^6 to 10^12 reaches the constant to
  within 5 % (slope / C)
- `thompson_slope_pooled`: pooled over the seeds, the last decade's slope of Thompson's regret is within 20 %
  of the constant (slope / C)
</details>

<!-- /results -->

**Break it.** `rl break B0 pessimism` subtracts the bonus. `rl break B0 first_maximum` lets the first of equal
estimates win: no claim fails, as the testbed's best arm is as likely to stand at one place as at another. But
list each best arm last or first, and greedy looks hopeless or brilliant:

![With random ties the arms' order does not matter; with the first maximum it does](results/B0_order.png)

**Exercises.**

<!-- exercises: B0 -->

*B0.1 · The heart of it* (25 minutes, easy). Write the mean that needs no memory, the optimistic score and the
draw from a belief, from (1), (2) and (4). What should an arm score that was never pulled? `rl exercise
B0.updated_mean`, `rl exercise B0.ucb_scores`, `rl exercise B0.thompson_scores`.

<details><summary>Answer</summary>

Infinity: nothing is known of it, so no bonus is too high. Each arm is then pulled once before any is again.
</details>

*B0.2 · Predict first* (10 minutes, easy). Swap successes and failures in (4): `rl break B0 swapped_belief`.
Which of the lesson's claims fail, and which do not notice?

<details><summary>Answer</summary>

Only the claim about Thompson's slope fails: the agent takes the worse arm for the better one, plays it ever
more often, and its regret grows linearly. The other claims are about agents without such a belief.
</details>

*B0.3 · A bonus for noise that is not there* (15 minutes, medium). Move both means near 1, with the same gap.
What happens to $C$, to Thompson's slope, to UCB1's?

<details><summary>Answer</summary>

Near 1 a failure says much: KL grows, so $C$ and Thompson's slope fall. UCB1's bonus does not know that
rewards hardly vary: the worse arm is still pulled until its bonus has shrunk to the gap, some $2 \ln T /
\Delta^2$ times. Each pull costs $\Delta$, so the slope stays near $2 / \Delta$.
</details>

*B0.4 · The gradient bandit* (20 minutes, medium). Another kind of rule learns no values. It plays arm $a$
with the probability $\pi(a)$ that a softmax gives to its logit $H(a)$. After the reward $r$ it moves all
logits; the played arm's goes up if $r$ was more than usual. "Usual" is the baseline $\bar r$, mostly the mean
of the rewards so far:

$$H(b) \leftarrow H(b) + \alpha\,(r - \bar r)\,\bigl(\mathbb 1[b = a] - \pi(b)\bigr) \quad
\text{for every arm } b \tag{E1}$$

For which label is the last bracket minus the gradient of a cross-entropy loss?
And what is the baseline for? `rl exercise B0.gradient_step`.

<details><summary>Answer</summary>

For the label $a$, the played arm. On average over the plays the step follows the gradient of the
mean reward, whatever the baseline (the check tests it). With a good baseline the steps scatter less, and the
best arm is found far more often, as `B0_testbed.png` shows. With states added this becomes REINFORCE (C0).
</details>

*B0.5 · Find the bug* (10 minutes). `rl exercise B0.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def write_curves(testbed: dict[str, Curves], bernoulli: dict[str, Curves], log: RunLog) -> None:
    """The testbed in means over ten steps, and the regret at 60 horizons evenly apart in the logarithm."""
    for name, curves in testbed.items():
        for step in range(10, len(curves.optimal) + 1, 10):
            log.write(step, **{f"optimal_{name}": curves.optimal[step - 10 : step].mean()})
    for name, curves in bernoulli.items():
        for plays in np.unique(np.geomspace(1, len(curves.regret), 61).round().astype(int)):
            log.write(plays, **{f"regret_{name}": curves.regret[plays - 1]})


def draw(runs: list[dict], log: RunLog) -> None:
    """Best arm found and regret: means over the metrics of one run or of several."""
    figure, (left, right) = plotting.new_figure(1, 2)
    mean = {name: np.mean([run[name] for run in runs], axis=0).T for name in runs[0]}
    for name in ("ucb", "epsilon_0.1", "epsilon_0.01", "greedy"):
        steps, shares = mean[f"optimal_{name}"]
        left.plot(steps, 100 * shares, label=name.replace("ucb", "UCB").replace("_", " "))
    left.axhline(100 * (0.9 + 0.1 / NUM_ARMS), label="ceiling of epsilon 0.1", **plotting.REFERENCE)
    left.set(xlabel="plays", ylabel="bandits playing the best arm (%)", ylim=(0, 100), title="Best arm found")
    left.legend(loc="lower right", ncols=2)
    for name, label in (("ucb1", "UCB1"), ("epsilon", "epsilon 0.1"), ("thompson", "Thompson")):
        plays, regret = mean[f"regret_{name}"]
        right.plot(plays, regret, label=label)
    right.plot(plays, auer_bound(MEANS, plays), color="grey", linestyle=":", label="Auer's bound on UCB1")
    right.plot(plays, lai_robbins(MEANS) * np.log(plays), label=r"$C\,\ln T$ (a limit)", **plotting.REFERENCE)
    right.set(xscale="log", xlabel="plays T", ylabel="regret so far", title="Regret, two arms", ylim=(0, 150))
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    testbed = run_testbed(cfg, rng)
    bernoulli = run_bernoulli(cfg, rng)
    log.claim(
        "optimal_share_epsilon_0.1",
        "epsilon 0.1 plays the best arm as often as published",
        testbed["epsilon_0.1"].optimal[-100:].mean(),
        near=(0.8, 0.04),
        unit="share of the last 100 steps",
        source="suttonbarto2018, figure 2.2 and its text",
    )
    regret = bernoulli["ucb1"].regret
    log.claim(
        "ucb1_below_bound",
        "UCB1's regret stays below Auer's finite-time bound at every step (largest ratio)",
        (regret / auer_bound(MEANS, np.arange(1.0, len(regret) + 1))).max(),
        at_most=1.0,
        unit="regret / bound",
        source="auer2002finite, theorem 1",
        always=True,
    )
    log.claim(
        "thompson_slope",
        "over the last decade the slope of Thompson's regret against ln T is near the constant, its limit",
        log_slope(bernoulli["thompson"].regret, cfg.horizon // 10, cfg.horizon) / lai_robbins(MEANS),
        near=(1.0, 0.3),
        unit="slope / C",
        source="lai1985asymptotically, kaufmann2012thompson (asymptotic)",
    )
    write_curves(testbed, bernoulli, log)
    log.keep(testbed=testbed, bernoulli=bernoulli)
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
