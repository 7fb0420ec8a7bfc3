# %% [markdown]
r"""
# B5 · Contextual bandits, and what a log can tell

**Question.** A page shows each visitor one article, and sees only whether that one was clicked. How should it
choose while it learns, and what does its log say about a page that never ran?

**Before this:** B0 (regret, upper confidence bounds (UCB), Thompson sampling), B2 (importance ratios).
**Changes from B0:** arms have features, and the data may be somebody else's. **Next:** C0 (gradients).

**Time.** At most 15 s on 2 cores; with all evidence 25 s.

References: `li2010contextual`, `agrawal2013thompson`, `lattimore2020bandit`, `bastani2021mostly`,
`horvitz1952generalization`, `swaminathan2015self`, `dudik2011doubly`, `chernozhukov2018double`.

Symbols: $x$ an arm's `d` features, in section 4 who came; $\theta$ weights; `B` bandits played at once, `K`
arms, `T` plays; `S` types of visitors, `A` articles, `n` records in a log, `M` logs; $w$ importance ratio.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

from chapters.envs.recommendation import Log, Page, draw_logs, random_page, regret_by_gap
from chapters.exact.bandits import hypercube_bound
from chapters.exact.logged import all_records
from chapters.utils import RunLog, in_range, plotting, run_lesson

SHAPE = (20, 5)  # S types of visitors, A articles
NUM_FEATURES = 3  # d
GAPS = 2.0 ** (-np.arange(15) / 2)  # Delta, each weight's size, 1 to 1/128; a wrong sign costs 2 Delta

Means = Float[np.ndarray, "B d"]  # of the belief about the weights, for each bandit
Covs = Float[np.ndarray, "B d d"]
Rewards = Float[np.ndarray, " B"]
Features = Float[np.ndarray, "*B K d"]  # of each arm; [K, d] where all bandits have the same
Scores = Float[np.ndarray, "B K"]
Rng = np.random.Generator
Table = Float[np.ndarray, "S A"]  # a policy, or a model of the clicks
Terms = Float[np.ndarray, "*M n"]  # one for each record; their mean is an estimate


@dataclass(frozen=True)
class Config:
    """Linear bandits of fifteen gaps, and many logs of one page."""

    seed: int = 0
    """Seed of the page and of every draw."""
    num_runs: Annotated[int, in_range(2, 1000)] = 100
    """Bandits of each gap, all played at once."""
    horizon: Annotated[int, in_range(256, 16_384)] = 4096
    """T: plays of each bandit."""
    num_logs: Annotated[int, in_range(100, 5000)] = 2000
    """M: logs of the old page, each of which gives an estimate."""
    log_size: Annotated[int, in_range(10, 2000)] = 500
    """n: visits recorded in each log."""


SMOKE = {"num_runs": 10, "horizon": 256, "num_logs": 100}

# %% [markdown]
r"""
## 1. One belief for all arms

A *context* is what is known before the choice. It gives each arm, here a pair of visitor and article, a
vector of *features* $x$. Let an arm pay $x^\top \theta$ on average, with noise of variance 1, and start from
the belief $\theta \sim \mathcal N(0, I)$. After plays of features $x$ that paid $r$ it is Gaussian with

$$\Sigma = \Bigl(I + \sum x x^\top\Bigr)^{-1}, \qquad \hat\theta = \Sigma \sum x\, r \tag{1}$$

This is ridge regression, with the prior as penalty. One more reward needs no inverse: (1) moves as B0's "old
estimate plus step size times error", and the step size is a *gain* $g$, large where little is known:

$$g = \frac{\Sigma x}{1 + x^\top \Sigma x}, \qquad \hat\theta \leftarrow \hat\theta + g\,(r - x^\top
\hat\theta), \qquad \Sigma \leftarrow \Sigma - g\, x^\top \Sigma \tag{2}$$

*By hand*: one feature, $x = 1$, and the first reward is 2. The gain is 1/2, the mean 1, the variance 1/2:

```python
>>> one = np.ones((1, 1))
>>> [part.item() for part in posterior_update(0 * one, one[None], one, np.array([2.0]))]
[1.0, 0.5]
```

## 2. Two ways to choose

**LinUCB** is optimistic: it scores an arm by what it may well pay. The belief about an arm has the mean
$x^\top \hat\theta$ and the variance $x^\top \Sigma x$. A Gaussian lies more than $\alpha$ standard deviations
above its mean with a chance of at most $e^{-\alpha^2 / 2}$. If that is to be $1/t$ after $t$ plays, then
$\alpha_t$ is as in (3). (`li2010contextual` keeps $\alpha$ constant. Proofs that hold for every $\theta$ need
a bonus about $\sqrt d$ times as large.)

$$\text{score}_t(x) = x^\top \hat\theta + \alpha_t \sqrt{x^\top \Sigma\, x}, \qquad \alpha_t = \sqrt{2 \ln t}
\tag{3}$$

**Thompson sampling** (`agrawal2013thompson`) draws one $\theta$ from the belief and takes it for true:

$$\text{score}(x) = x^\top \tilde\theta, \qquad \tilde\theta \sim \mathcal N(\hat\theta, \Sigma) \tag{4}$$
"""


# %%
def posterior_update(mean: Means, covariance: Covs, features: Means, rewards: Rewards) -> tuple[Means, Covs]:
    """The belief after one more reward for the arms with these features."""
    reach = (covariance @ features[:, :, None])[:, :, 0]  # [B, d] Sigma x
    gain = reach / (1.0 + (features * reach).sum(axis=1, keepdims=True))
    errors = rewards - (features * mean).sum(axis=1)  # [B]
    return mean + gain * errors[:, None], covariance - gain[:, :, None] * reach[:, None, :]  # eq. (2)


def ucb_scores(mean: Means, covariance: Covs, features: Features, num_plays: int, rng: Rng) -> Scores:
    """What each arm may well pay, after `num_plays` plays."""
    variances = ((features @ covariance) * features).sum(axis=2)
    width = np.sqrt(2 * np.log(max(num_plays, 1)))  # alpha_t
    return (features @ mean[:, :, None])[:, :, 0] + width * np.sqrt(variances)  # eq. (3)


def thompson_scores(mean: Means, covariance: Covs, features: Features, num_plays: int, rng: Rng) -> Scores:
    """What each arm would pay if one draw from the belief were true."""
    root = np.linalg.cholesky(covariance)  # root @ root.T = Sigma
    draw = mean[:, :, None] + root @ rng.standard_normal((*mean.shape, 1))  # [B, d, 1]
    return (features @ draw)[:, :, 0]  # eq. (4)


class LinearAgent:
    """A belief for each of B bandits, and a rule that scores arms by it; all rules get the same arguments."""

    def __init__(self, num_bandits: int, num_features: int, score: Callable):
        # two arrays, `mean` and `covariance`, and the rule
        self.mean = np.zeros((num_bandits, num_features))
        self.covariance = np.tile(np.eye(num_features), (num_bandits, 1, 1))
        self.score = score

    def act(self, features: Features, num_plays: int, rng: Rng) -> Int[np.ndarray, " B"]:
        return self.score(self.mean, self.covariance, features, num_plays, rng).argmax(axis=1)  # ties: arm 0

    def learn(self, features: Means, rewards: Rewards) -> None:
        self.mean, self.covariance = posterior_update(self.mean, self.covariance, features, rewards)


RULES = {
    "greedy": lambda mean, covariance, features, num_plays, rng: (features @ mean[:, :, None])[:, :, 0],
    "LinUCB": ucb_scores,
    "Thompson": thompson_scores,
}

# %% [markdown]
r"""
## 3. How hard can it be?

On one bandit, played ever longer, regret grows with $\ln T$ (B0). Ask instead: given $T$, how much is lost on
the *worst* one? That needs no visitors. Let the same arms be on offer at each play, all $x \in \{-1, 1\}^d$,
and let each weight be $\Delta$ or $-\Delta$: the best arm has the signs of $\theta$.

A wrong sign costs $2 \Delta$ a play, and some $1 / \Delta^2$ plays show that it is wrong. So each of the $d$
features costs some $2 / \Delta$, and never over $2 \Delta T$. A large $\Delta$ is seen soon, a small one
costs little. The worst is near $\Delta = 1 / \sqrt T$, where both bounds come to $2 d \sqrt T$ for all
features. There *every* rule loses, on average over the signs (`lattimore2020bandit`, theorem 24.1),

$$R(T) \;\ge\; \frac{e^{-2}}{8}\, d \sqrt T \tag{5}$$

since one turned sign changes the rewards of $T$ plays by a Kullback–Leibler divergence of only
$T (2 \Delta)^2 / 2 = 2$: too little to be sure which it is. Unlike B0's limit, (5) holds at each $T$, but
only for the worst bandit.

## 4. A page that never ran

Now the data are a log: $n$ records of who came ($x_i$, one of 20 types), which of 5 articles the old page $b$
showed ($a_i$), and whether it was clicked ($r_i$, 1 or 0). A new page $\pi$ would mostly show each type its
best article. How many clicks per visit, $V$, would it earn? The **direct method** asks a model
$\hat q(x, a)$ of the click rates $q$:

$$\hat V_\text{DM} = \frac{1}{n} \sum_i \sum_a \pi(a \mid x_i)\, \hat q(x_i, a) \tag{6}$$

**Inverse propensity scoring** (IPS; `horvitz1952generalization`) needs no model. It weighs what was seen by
B2's importance ratio $w_i = \pi(a_i \mid x_i) / b(a_i \mid x_i)$. It is right on average if whatever $\pi$
may show, $b$ shows with some chance. **Self-normalised** (SNIPS), it divides by the sum of the ratios, not by
their number: that scatters less, and is a little biased.

$$\hat V_\text{IPS} = \frac{1}{n} \sum_i w_i r_i, \qquad
\hat V_\text{SNIPS} = \frac{\sum_i w_i r_i}{\sum_i w_i} \tag{7}$$

The **doubly robust** estimate (DR; `dudik2011doubly`) asks the model, and corrects it by what was seen:

$$\hat V_\text{DR} = \frac{1}{n} \sum_i \Bigl[\, \sum_a \pi(a \mid x_i)\, \hat q(x_i, a)
+ w_i \bigl(r_i - \hat q(x_i, a_i)\bigr) \Bigr] \tag{8}$$

It is right on average if either of two things is. With the true $b$, *whatever* the model:
$w_i\, \hat q(x_i, a_i)$ takes away on average what the first term put in. With the true $q$, whatever the
ratios: $r - q$ is 0 on average.

*By hand*: one type of visitor; $b$ tosses a coin, $\pi$ always shows article 1, so $w$ is 0 or 2. Shown: 1,
1, 1, 0; clicks: 1, 0, 1, 1; model: 0.5. IPS: $(2 + 2) / 4$; SNIPS: $4 / 6$; DR: $0.5 + (1 - 1 + 1) / 4$.

```python
>>> log = Log(np.zeros(4, int), np.array([1, 1, 1, 0]), np.array([1.0, 0.0, 1.0, 1.0]))
>>> old, new, model = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
>>> print(ips(log, new, old).mean(), doubly_robust(log, new, old, model).mean())
1.0 0.75
```
"""


# %%
def importance_ratios(log: Log, policy: Table, logging: Table) -> Terms:
    """How much likelier `policy` is than `logging` to show what was shown."""
    return (policy / logging)[log.contexts, log.actions]


def direct_method(log: Log, policy: Table, model: Table) -> Terms:
    """What the model expects of the policy for each visitor."""
    return (policy * model).sum(axis=1)[log.contexts]  # eq. (6)


def ips(log: Log, policy: Table, logging: Table) -> Terms:
    return importance_ratios(log, policy, logging) * log.rewards  # eq. (7), left


def self_normalised(log: Log, policy: Table, logging: Table) -> Float[np.ndarray, " M"]:
    """One estimate for each of M logs."""
    ratios = importance_ratios(log, policy, logging)
    return (ratios * log.rewards).sum(axis=1) / ratios.sum(axis=1)  # eq. (7), right


def doubly_robust(log: Log, policy: Table, logging: Table, model: Table) -> Terms:
    """The model's answer, corrected by its error on what was seen."""
    errors = log.rewards - model[log.contexts, log.actions]
    return direct_method(log, policy, model) + importance_ratios(log, policy, logging) * errors  # eq. (8)


# %% [markdown]
r"""
## 5. Where the noise comes from

The scatter of (8) has three sources: who came ($V(x)$ is what $\pi$ earns from $x$), whether they clicked,
and what was shown to them. In this order:

$$n \operatorname{Var}[\hat V_\text{DR}] = \operatorname{Var}_x\bigl[V(x)\bigr] + \mathbb E\bigl[w^2 q (1 -
q)\bigr] + \mathbb E_x \operatorname{Var}_{a \sim b}\bigl[w\,(q - \hat q)\bigr] \tag{9}$$

IPS is (8) with $\hat q = 0$. A model moves the last part alone. Here even one that is upside down, $1 - q$,
is better than none.

**Fit no model on the log that it corrects.** If $\hat q$ is the log's own table of mean clicks, the errors in
(8) sum to 0 in each cell (type, article). So DR *is* the direct method, and a cell that was never shown
counts 0. *Cross-fitting* mends it: fit on one half, correct on the other, change sides, average.

![Only one part of the variance depends on the model; cross-fitting takes the bias off](results/B5_logs.png)

Left, (9) computed exactly, with five models from none to the true one. Right, the bias of DR with the log's
own table: clicks are missed, the fewer records the more. Cross-fitted, none is to be seen.

## 6. Look, break, write

![DR is right on average and narrower than IPS; the worst regret grows with the root of T](results/B5.png)

**Left**, a bar holds what nine of ten logs say. The model knows how often each article is clicked, but not by
whom: alone it is off, and scatters so little that it seems sure. Corrected, it is right on average and
narrower than IPS. SNIPS is narrower still: for long logs it is much like DR with the constant $\hat q = V$.
Its bias falls as $1/n$. (With one record the ratio cancels, so it says on average what the *old* page earns.)

**Right**, at each $T$ the worst of fifteen gaps $\Delta$. LinUCB and Thompson stay near $d \sqrt T$; LinUCB's
grows a little faster, since its width grows with the root of $\ln T$. Greedy can stay with a wrong arm for
good. All gaps, as the evidence shows them:

![Regret over d root T by gap times root T: LinUCB and Thompson have a hump, greedy none](results/B5_gaps.png)

In these units all $T$ nearly share one curve, whose top is the worst gap. *One* bandit is easier: its gap
stays while $T$ grows, so it moves right, off the hump. And where each visitor brings new features, these do
the exploring: there greedy loses less than LinUCB (`bastani2021mostly`).

**The verdict.** Choose by a belief, with a bonus or a draw for what it does not know: on the worst of these
bandits the loss grows with the root of the plays, as it must; greed loses a share of every play. Of a page
that never ran, a log that kept its probabilities tells the truth on average (IPS, DR); a model only calms it.

<!-- results: B5 -->

`rl run B5`: 10 s; with `--evidence`: 14 s, 231 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| ips_expected                | 1.11e-16 (0 to 2.22e-16)        | ≤ 1e-12      | 10/10 |
| dr_expected                 | 5.55e-17 (0 to 2.22e-16)        | ≤ 1e-12      | 10/10 |
| worst_slope_LinUCB          | 0.529 (0.525 to 0.536)          | 0.5 ± 0.08   | 10/10 |
| worst_slope_Thompson        | 0.489 (0.484 to 0.492)          | 0.5 ± 0.08   | 10/10 |
| worst_slope_greedy          | 0.995 (0.995 to 0.996)          | 1 ± 0.08     | 10/10 |
| posterior_is_ridge *        | 6.14e-16 (3.05e-16 to 8.88e-16) | ≤ 1e-10      | 10/10 |
| coverage_LinUCB *           | 0.901 (0.899 to 0.905)          | 0.9 ± 0.02   | 10/10 |
| coverage_Thompson *         | 0.901 (0.898 to 0.903)          | 0.9 ± 0.02   | 10/10 |
| above_lower_bound *         | 34.8 (33.9 to 36.9)             | ≥ 1          | 10/10 |
| one_bandit_slope_LinUCB *   | 0.268 (0.261 to 0.282)          | ≤ 0.5        | 10/10 |
| one_bandit_slope_Thompson * | 0.172 (0.163 to 0.177)          | ≤ 0.5        | 10/10 |
| varied_slope_greedy *       | 0.091 (0.0881 to 0.0993)        | ≤ 0.5        | 10/10 |
| varied_slope_LinUCB *       | 0.183 (0.178 to 0.187)          | ≤ 0.5        | 10/10 |
| varied_slope_Thompson *     | 0.115 (0.112 to 0.121)          | ≤ 0.5        | 10/10 |
| varied_greedy *             | 0.6 (0.584 to 0.603)            | ≤ 1          | 10/10 |
| direct_method_biased *      | 2.71 (1.91 to 3.37)             | ≥ 1          | 10/10 |
| variance_formula *          | 6.66e-16 (2.22e-16 to 1.33e-15) | ≤ 1e-12      | 10/10 |
| half_model_variance *       | 0.25                            | 0.25 ± 1e-12 | 10/10 |
| dr_beats_ips *              | 0.513 (0.418 to 0.58)           | ≤ 1          | 10/10 |
| measured_variance_IPS *     | 1 (0.983 to 1.05)               | 1 ± 0.2      | 10/10 |
| measured_variance_DR *      | 0.988 (0.978 to 1.04)           | 1 ± 0.2      | 10/10 |
| dr_wrong_model *            | 1.11e-16 (0 to 2.22e-16)        | ≤ 1e-12      | 10/10 |
| dr_wrong_ratios *           | 8.33e-17 (0 to 1.11e-16)        | ≤ 1e-12      | 10/10 |
| dr_both_wrong *             | 0.0879 (0.0237 to 0.335)        | ≥ 1e-06      | 10/10 |
| snips_exact_mean *          | 0.216 (0.0913 to 1.45)          | ≤ 4.5        | 10/10 |
| snips_biased *              | 70.3 (38.6 to 89)               | ≥ 5          | 10/10 |
| snips_bias_fades *          | 0.0112 (0.00508 to 0.0178)      | ≤ 0.1        | 10/10 |
| snips_calmer *              | 0.627 (0.557 to 0.715)          | ≤ 1          | 10/10 |
| snips_first_record *        | 4.16e-17 (0 to 1.11e-16)        | ≤ 1e-10      | 10/10 |
| same_log_is_direct *        | 3.33e-16 (2.22e-16 to 3.33e-16) | ≤ 1e-12      | 10/10 |
| same_log_exact *            | 1.14 (0.873 to 2.42)            | ≤ 4.5        | 10/10 |
| same_log_biased *           | 24.1 (21.5 to 27.8)             | ≥ 5          | 10/10 |
| cross_fitting *             | 0.624 (0.0783 to 1.43)          | ≤ 4.5        | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `ips_expected`: the mean of IPS over all records that a visit can leave is the new page's true value (clicks
  per visit)
- `dr_expected`: the mean of DR with a wrong model over all records that a visit can leave is the new page's
  true value (clicks per visit)
- `worst_slope_LinUCB`: at the worst gap LinUCB's regret grows as the root of T (slope, log-log)
- `worst_slope_Thompson`: at the worst gap Thompson's regret grows as the root of T (slope, log-log)
- `worst_slope_greedy`: at the worst gap greedy's regret grows as T itself (slope, log-log)
- `posterior_is_ridge`: a belief corrected play by play has the mean and covariance of one ridge regression on
  all plays
- `coverage_LinUCB`: after 30 plays by LinUCB, 90 % intervals for the arm that looks worst cover its true mean
  (share of the bandits drawn from the prior)
- `coverage_Thompson`: after 30 plays by Thompson, 90 % intervals for the arm that looks worst cover its true
  mean (share of the bandits drawn from the prior)
- `above_lower_bound`: at the gap 1 / root of T no rule's regret is below the bound (5): the smallest ratio,
  at any T (regret / bound)
- `one_bandit_slope_LinUCB`: on one bandit, of gap 1/4, LinUCB's regret grows more slowly than the root of T
  (slope, log-log, last factor of 16)
- `one_bandit_slope_Thompson`: on one bandit, of gap 1/4, Thompson's regret grows more slowly than the root of
  T (slope, log-log, last factor of 16)
- `varied_slope_greedy`: where features vary from play to play, greedy's regret grows more slowly than the
  root of T (slope, log-log, last factor of 16)
- `varied_slope_LinUCB`: where features vary from play to play, LinUCB's regret grows more slowly than the
  root of T (slope, log-log, last factor of 16)
- `varied_slope_Thompson`: where features vary from play to play, Thompson's regret grows more slowly than the
  root of T (slope, log-log, last factor of 16)
- `varied_greedy`: where features vary from play to play, greedy loses no more than LinUCB (ratio of regrets)
- `direct_method_biased`: a model that does not ask who is looking is further off, on average, than a log's
  IPS scatters (bias / standard deviation of IPS)
- `variance_formula`: the three parts of (9) sum to the variance over all records that a visit can leave, for
  five models
- `half_model_variance`: half the true model takes off three quarters of what comes of showing one article and
  not another (ratio of the third parts)
- `dr_beats_ips`: with a model that does not ask who is looking, DR's exact variance is below that of IPS
  (ratio of variances)
- `measured_variance_IPS`: the variance of IPS over the lesson's logs is the exact one (measured / exact)
- `measured_variance_DR`: the variance of DR over the lesson's logs is the exact one (measured / exact)
- `dr_wrong_model`: with a model turned upside down, but true ratios, the mean of DR over all records is the
  true value (clicks per visit)
- `dr_wrong_ratios`: with wrong ratios, but a true model, the mean of DR over all records is the true value
  (clicks per visit)
- `dr_both_wrong`: with both wrong it is not: the exact bias (clicks per visit)
- `snips_exact_mean`: over logs of 5 records the mean of SNIPS is the one computed by an integral (standard
  errors)
- `snips_biased`: over logs of 5 records SNIPS is biased (standard errors)
- `snips_bias_fades`: with 500 records its bias is small against its scatter (exact bias / standard deviation)
- `snips_calmer`: SNIPS scatters less than IPS (ratio of standard deviations)
- `snips_first_record`: with one record SNIPS has the old page's value, not the new one's (clicks per visit)
- `same_log_is_direct`: with the log's own table as its model DR is the direct method, on every log
- `same_log_exact`: its mean is the one computed from the chance that a cell is empty (the worst of four
  sizes) (standard errors)
- `same_log_biased`: fitted on the log that it corrects, DR is biased at 500 records (standard errors)
- `cross_fitting`: cross-fitted, DR is right on average at 500 records (standard errors)
</details>

<!-- /results -->

**Break it.** `rl break B5 no_correction` trusts the model alone;
`rl break B5 no_bonus` and `rl break B5 no_draw` make greedy rules.

**Exercises.**

<!-- exercises: B5 -->

*B5.1 · The heart of it* (35 minutes, medium). Write the step of the belief, (2), the optimistic score, (3),
and the doubly robust terms, (8). `rl exercise B5.posterior_update`, `rl exercise B5.ucb_scores`, `rl exercise
B5.doubly_robust`.

*B5.2 · Predict first* (10 minutes, easy). `rl break B5 no_draw` plays by the belief's mean. Where is its
regret *smaller* than Thompson sampling's, and why does its worst case grow with $T$ itself?

<details><summary>Answer</summary>

At first, and on many single runs: it spends nothing on exploring. But if its first rewards make a worse arm
look good enough, it plays that arm for ever. All its plays then have the same $x$, and in the directions
that $x$ does not tell apart the belief never moves again.
</details>

*B5.3 · Fit here, correct there* (20 minutes, medium). Write the cross-fitted estimate of section 5 for one
log, with two halves and the table of mean clicks (`click_table` of `chapters.envs.recommendation`) as the
model. Then: a cell that the other half never saw has the model 0. Is the estimate still right on average? `rl
exercise B5.cross_fitted`.

<details><summary>Answer</summary>

Yes. DR is right on average whatever the model, so long as the model does not depend on the records that it
is corrected by. A zero only costs variance: in that cell the estimate is IPS.
</details>

*B5.4 · A limit for the ratio* (10 minutes, easy). One record with $w = 30$ can move the whole estimate. Clip:
weigh with $\min(w, c)$ instead of $w$. Then: on which side of the truth is the estimate, and where have you
met this bargain, or will meet it? `rl exercise B5.clipped_ips`.

<details><summary>Answer</summary>

Below, or at it: clicks are never negative, and no weight grew. The bias is $-\mathbb E[\max(w - c, 0)\, r]$,
bought for less variance. PPO (C2) clips the ratio of one step too, within a loss; V-trace (C7) that of each
step.
</details>

*B5.5 · Find the bug* (10 minutes). `rl exercise B5.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def estimate_from_logs(page: Page, cfg: Config, log: RunLog, rng: Rng) -> dict:
    """Each estimator's estimates [M]; to the run's `log`: their mean error, and where nine of ten lie."""
    logs, model = draw_logs(page, cfg.num_logs, cfg.log_size, rng), page.article_rates
    estimates = {
        "direct": direct_method(logs, page.new, model).mean(axis=1),
        "IPS": ips(logs, page.new, page.old).mean(axis=1),
        "SNIPS": self_normalised(logs, page.new, page.old),
        "DR": doubly_robust(logs, page.new, page.old, model).mean(axis=1),
    }
    for row, errors in enumerate(values - page.value for values in estimates.values()):
        log.write(row, error=errors.mean(), low=np.quantile(errors, 0.05), high=np.quantile(errors, 0.95))
    return estimates


def draw(runs: list[dict], log: RunLog) -> None:
    """Errors of the estimators, and the worst regret: means over the metrics of one run or of several."""
    figure, (left, right) = plotting.new_figure(1, 2)
    mean = {name: np.mean([run[name] for run in runs], axis=0).T for name in runs[0]}
    rows, errors = mean["error"]
    left.hlines(rows, mean["low"][1], mean["high"][1], linewidth=9, alpha=0.35, label="90 % of the logs")
    left.plot(errors, rows, "o", markersize=9, label="mean")
    left.axvline(0, label="truth", **plotting.REFERENCE)
    left.set_yticks(rows, ("direct method", "IPS", "SNIPS", "doubly robust"))
    left.set(xlabel="estimate − truth (clicks per visit)", ylim=(3.5, -0.5), title="What would it earn?")
    left.locator_params(axis="x", nbins=6)
    left.legend(loc="lower left")
    for name in RULES:
        right.loglog(*mean[f"worst_{name}"], marker="o", label=name)
    plays = mean["worst_greedy"][0]
    right.plot(plays, NUM_FEATURES * np.sqrt(plays), label=r"$d\,\sqrt{T}$", **plotting.REFERENCE)
    right.plot(plays, hypercube_bound(NUM_FEATURES, plays), ":", color="grey", label="lower bound (5)")
    right.set(xlabel="plays T", ylabel="regret at the worst gap", ylim=(0.1, 1e5), title="Worst case")
    right.legend(loc="upper left", ncols=2)
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    page = random_page(*SHAPE, rng)
    regret = {}
    log.keep(page=page, regret=regret, estimates=estimate_from_logs(page, cfg, log, rng))
    *record, probabilities = all_records(page.shares, page.clicks, page.old)
    every = Log(*record)
    for name, label, terms in (
        ("ips", "IPS", ips(every, page.new, page.old)),
        ("dr", "DR with a wrong model", doubly_robust(every, page.new, page.old, page.article_rates)),
    ):
        log.claim(
            f"{name}_expected",
            f"the mean of {label} over all records that a visit can leave is the new page's true value",
            abs(terms @ probabilities - page.value),
            at_most=1e-12,
            unit="clicks per visit",
            source="exact enumeration",
            always=True,
        )
    for name, slope in (("LinUCB", 0.5), ("Thompson", 0.5), ("greedy", 1.0)):
        agent = LinearAgent(len(GAPS) * cfg.num_runs, NUM_FEATURES, RULES[name])
        regret[name] = regret_by_gap(agent, GAPS, cfg.horizon, rng)
        for plays, by_gap in regret[name].items():
            log.write(plays, **{f"worst_{name}": by_gap.max()})
        log.claim(
            f"worst_slope_{name}",
            f"at the worst gap {name}'s regret grows as {'the root of T' if slope < 1 else 'T itself'}",
            np.polyfit(*np.log(log.metrics[f"worst_{name}"][2:]).T, 1)[0],  # from 64 plays on
            near=(slope, 0.08),
            unit="slope, log-log",
            source="lattimore2020bandit, chapters 19, 24 and 36; greedy: a wrong arm for ever",
        )
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
