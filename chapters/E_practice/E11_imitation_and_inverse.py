# %% [markdown]
r"""
# E11 · Imitation, and the reward behind it

**Question.** Nobody can say what the reward is, but somebody can show how it is done. When is copying enough,
when must the expert be asked again, and when is it worth finding out what the expert wants?

**Before this:** A3 (planning, shaping), C1 (log-probabilities of actions). **Changes from A3:** the reward is
not given; what is given is an expert's behaviour. **Next:** E2, projects of your own.

**Time.** 10 s on 2 cores; with all evidence 40 s.

References: `pomerleau1989alvinn`, `ross2010efficient`, `ross2011dagger`, `ng2000irl`, `ziebart2008maxent`,
`ziebart2010causal`, `ng1999shaping`, `cao2021identifiability`, `agarwal2024gkd`.

Symbols: `T` steps of an episode, $\epsilon$ chance of a wrong action on the expert's states, $\rho$ chance to
come back; $\phi(s)$ features of a state, $w$ their weights, $f$ features that an episode collects on average;
$V_t(s), Q_t(s, a)$ *soft* values with the clock at $t$, $d_t(s, a)$ occupancies, $\Phi$ a potential.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import check_grad, minimize

from chapters.exact.finite_horizon import gain_share, plan
from chapters.exact.gardens import NEW, OLD, World, demonstrate, garden
from chapters.utils import RunLog, in_range, plotting, run_lesson

LEFT, RIGHT, FOG, OFF = range(4)  # what the driver observes: a bend, fog before it, or that it left the road
BACK = 2  # actions: 0 steers left, 1 steers right, 2 drives back on to the road
HORIZONS = (10, 20, 40, 80, 160)
NUM_STEPS = 12  # of an episode in the gardens
Rewards = Float[np.ndarray, "T S A"]  # a number for each step, state and action
Weights = Float[np.ndarray, " K"]  # a number for each feature


@dataclass(frozen=True)
class Config:
    """A driver who copies on a foggy road, and a gardener whose wishes are inferred."""

    seed: int = 0
    """Seed of the weather, of the demonstrations and of the gardener's wishes."""
    fog: Annotated[float, in_range(0.0, 0.5)] = 0.002
    """Chance that a bend is hidden from the learner; in half of these cases it steers wrongly."""
    num_labels: Annotated[int, in_range(160, 10**6)] = 8000
    """Steps that the expert labels in one round."""
    num_rounds: Annotated[int, in_range(2, 100)] = 5
    """Rounds of labels: all driven by the expert for cloning, only the first for DAgger."""
    num_measured: Annotated[int, in_range(160, 10**7)] = 2_000_000
    """Steps from which a driver's cost is measured, at each horizon."""
    num_demos: Annotated[int, in_range(1, 10**6)] = 300
    """Demonstrations from which the gardener's wishes are inferred."""


SMOKE = {"fog": 0.02, "num_labels": 320, "num_rounds": 2, "num_measured": 3200, "num_demos": 30}

# %% [markdown]
r"""
## 1. Copying, and why its errors compound

**Behaviour cloning** is supervised learning: take the states that an expert met, label each with what the
expert did, fit. `pomerleau1989alvinn` steered a van that way, and a language model is trained so: its texts'
prefixes are states, the next token is the label. The loss is small where the expert goes. But the *learner*
acts, and after its first mistake it stands where the expert never was, and where nothing was fitted.

Our road is the smallest world that shows it. Each step brings a bend to the left or to the right, as likely
as not. Who steers wrongly leaves the road, and each step begun off it costs 1; the action `BACK` leads on to
it again. Now and then fog hides the bend from the learner, though not from the expert, who never leaves the
road and hence never shows how one comes back. Let a learner err on the road with chance $\epsilon$, here half
that of fog, and get back on to it with chance $\rho$. If $o_t$ is the chance to begin step $t$ off the road,

$$o_1 = 0, \quad o_{t+1} = (1 - o_t)\, \epsilon + o_t\, (1 - \rho), \quad \text{cost} = \sum_t o_t \tag{1}$$

A clone that never saw `BACK` has $\rho = 0$, and one mistake costs all the steps that are left: for small
$\epsilon T$ the cost is $\epsilon\, T (T-1) / 2$, nearly half of what no policy with this error exceeds,
$\epsilon T^2$ (`ross2010efficient`). With $\rho = 1$ a mistake costs one step: $\epsilon\, (T-1)$ in all.

```python
>>> round(expected_cost(0.1, 0.0, 3), 3), round(expected_cost(0.1, 1.0, 3), 3)  # 0 + .1 + .19; 0 + .1 + .09
(0.29, 0.19)
```

**DAgger** (data set aggregation, `ross2011dagger`) collects the missing states. After a first round by the
expert the *learner* drives. At each step the expert says what it would have done, and after each round the
learner is fitted anew to all labels so far. Its cost grows as $\epsilon T$ times what one mistake costs if
the expert then takes over, here 1. Where nothing leads back, that factor is up to $T$, and nothing is gained.
On-policy distillation (D13, `agarwal2024gkd`) does so too: the student writes, the teacher corrects.
"""


# %%
def expected_cost(error: float, recovery: float, horizon: int) -> float:
    """Expected steps that begin off the road, of a driver with these chances, in an episode."""
    off, total = 0.0, 0.0
    for _ in range(horizon):
        total += off
        off = (1 - off) * error + off * (1 - recovery)  # eq. (1)
    return total


def chances(policy: Int[np.ndarray, "4"], fog: float) -> tuple[float, float]:
    """(error on the road, recovery) of a table of actions, exactly: what goes into (1)."""
    bends = np.array([LEFT, RIGHT])
    seen, hidden = np.mean(policy[bends] != bends), np.mean(policy[FOG] != bends)
    return float((1 - fog) * seen + fog * hidden), float(policy[OFF] == BACK)


def fit(obs: Int[np.ndarray, " M"], labels: Int[np.ndarray, " M"]) -> Int[np.ndarray, "4"]:
    """The most frequent label of each observation; of one that never came, the most frequent of all."""
    counts = np.zeros((4, 3), dtype=int)
    np.add.at(counts, (obs, labels), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())


def drive(
    policy: Int[np.ndarray, "4"] | None, num_episodes: int, horizon: int, fog: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"], Float[np.ndarray, " N"]]:
    """(observations, the expert's labels, both step by step; costs of episodes); None: the expert drives."""
    off, costs, obs, labels = np.zeros(num_episodes, dtype=bool), np.zeros(num_episodes), [], []
    for _ in range(horizon):
        bend, hidden = rng.integers(2, size=num_episodes), rng.random(num_episodes) < fog
        obs.append(np.where(off, OFF, np.where(hidden, FOG, bend)))
        labels.append(np.where(off, BACK, bend))  # the expert sees through the fog
        actions = labels[-1] if policy is None else policy[obs[-1]]
        costs += off
        off = actions != labels[-1]
    return np.concatenate(obs), np.concatenate(labels), costs


def clone(horizon: int, cfg: Config, rng: np.random.Generator) -> Int[np.ndarray, "4"]:
    """Fitted once, to as many labels as DAgger gets, all of the expert's own driving."""
    num_episodes = cfg.num_rounds * (cfg.num_labels // horizon)
    return fit(*drive(None, num_episodes, horizon, cfg.fog, rng)[:2])


def dagger(horizon: int, cfg: Config, rng: np.random.Generator) -> Int[np.ndarray, "4"]:
    """The expert drives once, then the learner does, fitted anew each time to all labels so far."""
    policy, obs, labels = None, [], []
    for _ in range(cfg.num_rounds):
        met, told, _ = drive(policy, cfg.num_labels // horizon, horizon, cfg.fog, rng)
        obs.append(met)
        labels.append(told)
        policy = fit(np.concatenate(obs), np.concatenate(labels))
    return policy


# %% [markdown]
r"""
## 2. What does the expert want?

A copy is of no use where the world changes: a new wall, and what to do before it was never shown. The wish
behind the behaviour would carry over. **Inverse reinforcement learning** (`ng2000irl`) looks for a reward
under which the behaviour makes sense. Let the reward for landing in $s$ be $w \cdot \phi(s)$. In the garden
below, $\phi$ says whether the cell is home, mud or water, and $w$ is how much the gardener likes each. An
action then pays $R_t(s, a) = \sum_{s'} P(s' \mid s, a)\, w \cdot \phi(s')$ on average, the same at each $t$.

"The gardener acts best" will not do: with $w = 0$ whatever one does is best. So take one who is *surer the
more it matters*: of all policies that collect as many features as were seen, the one with the most entropy
(`ziebart2008maxent`; `ziebart2010causal` where moves may slip, as here). For some $w$ A3's recursion finds
it, backwards from $V_T = 0$, with a soft maximum in place of the maximum:

$$Q_t(s, a) = R_t(s, a) + \sum_{s'} P(s' \mid s, a)\, V_{t+1}(s'), \qquad
V_t(s) = \log \sum_a e^{Q_t(s, a)}, \qquad \pi_t(a \mid s) = e^{Q_t(s, a) - V_t(s)} \tag{2}$$

```python
>>> P = np.array([[[1.0, 0.0], [0.0, 1.0]]] * 2)  # two cells; action 0 leads to the first, 1 to the second
>>> V, policy = soft_plan(P, np.array([[[0.0, 1.0]] * 2]))  # one step; the second cell pays 1
>>> policy[0, 0].round(3).tolist(), round(V[0, 0].item(), 3)  # a softmax of (0, 1); log(1 + e)
([0.269, 0.731], 1.313)
```

Forwards, a policy's **occupancies** say how often each pair is met at each step, from the chances $\mu$ of
the first state, and so what it collects:

$$d_t(s, a) = \Pr(s_t = s)\, \pi_t(a \mid s), \quad \Pr(s_0 = s) = \mu(s), \quad
\Pr(s_{t+1} = s') = \sum_{s, a} d_t(s, a)\, P(s' \mid s, a) \tag{3}$$

$$f^\pi = \sum_t \sum_{s, a} d_t(s, a) \sum_{s'} P(s' \mid s, a)\, \phi(s') \tag{4}$$
"""


# %%
def rewards_of(world: World, weights: Weights, num_steps: int = NUM_STEPS) -> Rewards:
    """What landing pays on average, the same at each step."""
    return np.tile(world.P @ (world.features @ weights), (num_steps, 1, 1))


def soft_plan(P: Float[np.ndarray, "S A S"], rewards: Rewards) -> tuple[Float[np.ndarray, "T1 S"], Rewards]:
    """(soft values, with those after the last step; the policy that goes with them)."""
    V, policy = np.zeros((len(rewards) + 1, rewards.shape[1])), np.zeros(rewards.shape)
    for t in reversed(range(len(rewards))):
        Q = rewards[t] + P @ V[t + 1]
        V[t] = np.logaddexp.reduce(Q, axis=1)
        policy[t] = np.exp(Q - V[t][:, None])  # eq. (2)
    return V, policy


def occupancies(P: Float[np.ndarray, "S A S"], policy: Rewards, start: Float[np.ndarray, " S"]) -> Rewards:
    """How often each step finds the agent in s, taking a."""
    d, reached = np.zeros(policy.shape), start
    for t in range(len(policy)):
        d[t] = reached[:, None] * policy[t]  # eq. (3), left
        reached = np.einsum("sa,san->n", d[t], P)  # eq. (3), right
    return d


def feature_counts(world: World, policy: Rewards) -> Weights:
    """What an episode collects on average."""
    landed = np.einsum("tsa,san->n", occupancies(world.P, policy, world.start), world.P)
    return landed @ world.features  # eq. (4)


# %% [markdown]
r"""
## 3. The gradient is a difference of counts

For which $w$? Call $f^E$ what the expert collects. The soft policy $\pi_w$ of (2) collects as much at the top
of a concave function, the *dual* of that search for entropy. Its gradient could not be simpler:

$$L(w) = w \cdot f^E - \sum_s \mu(s)\, V_0(s), \qquad \nabla L(w) = f^E - f^{\pi_w} \tag{5}$$

*Why*: by (2) $\partial V_t(s) / \partial w$ is the mean over $\pi_t$ of $\partial Q_t(s, a) / \partial w$,
which is the features of landing plus the same of what comes later: the features still to come. Where the
expert meets less mud than the learner, the weight of mud falls, until both meet as much. On average over
slips, $L$ is the log-likelihood of the expert's actions: a language model's loss, with its sign turned.

From $N$ demonstrations $f^E$ is a mean of $N$ sums, with an error that falls as $1/\sqrt N$. If they are so
few that nobody steps into the water, $L$ rises for ever as its weight falls. So we add a prior: $w$ is
standard normal, with log-density $-|w|^2 / 2$. That counts once for all demonstrations. $L$ is a mean over
them, so it gets $-|w|^2 / 2N$ (the `ridge`). With exact counts nothing is added.

## 4. What no behaviour can tell

Pay on top what a step gains in a potential $\Phi_t(s)$ that is 0 when the time is up:

$$R'_t(s, a) = R_t(s, a) + \sum_{s'} P(s' \mid s, a)\, \Phi_{t+1}(s') - \Phi_t(s), \qquad \Phi_T = 0 \tag{6}$$

Over an episode this adds $-\Phi_0(s_0)$ on average, whatever is done (A3, `ng1999shaping`): the best
policy stays, and by (2) the soft one too. Behaviour in one world leaves rewards open up to such gains, and
nothing else (`cao2021identifiability`). Take $\Phi = V$: then $R'_t = Q_t - V_t = \log \pi_t$. "It wants to
do what it does" explains as well as any reward, and its soft plan is a clone. Features close the gap, as a
number for mud may not depend on where the mud lies. One thing may stay open: if the features of each cell
add up to 1, a constant added to all weights changes nothing, since all episodes collect it alike.
"""


# %%
def dual(weights: Weights, counts: Weights, world: World, ridge: float = 0.0) -> tuple[float, Weights]:
    """(L less ridge / 2 times the square of w, the gradient of that) for the counts of an expert."""
    V, policy = soft_plan(world.P, rewards_of(world, weights))
    value = weights @ counts - world.start @ V[0] - ridge / 2 * weights @ weights
    return float(value), counts - feature_counts(world, policy) - ridge * weights  # eq. (5)


def recover(counts: Weights, world: World, ridge: float = 0.0) -> Weights:
    """The weights at the top of L; the ridge is 1 / N for the counts of N demonstrations."""

    def below(weights: Weights) -> tuple[float, Weights]:
        value, gradient = dual(weights, counts, world, ridge)
        return -value, -gradient

    return minimize(below, np.zeros(len(counts)), jac=True, method="BFGS", options={"gtol": 1e-7}).x


def shaped(P: Float[np.ndarray, "S A S"], rewards: Rewards, potential: Float[np.ndarray, "T1 S"]) -> Rewards:
    """The rewards with what each step gains in the potential; ValueError if that is not 0 at the end."""
    if potential[-1].any():
        raise ValueError("a potential must be 0 when the time is up")
    gains = [P @ potential[t + 1] - potential[t][:, None] for t in range(len(rewards))]
    return rewards + np.array(gains)  # eq. (6)


# %% [markdown]
r"""
## 5. Look, break, write

![The clone's cost grows as the square of the horizon, DAgger's in proportion to it](results/E11.png)

Both drivers got the same number of labels and err in the fog alike; lines are (1) with each driver's own
$\epsilon$ and $\rho$. The clone copies no worse, but off the road it does not know what to do. (Where nothing
leads back, DAgger's cost grows as the square too.)

![Old garden, and the new one with a plan for recovered wishes and with a copy](results/E11_gardens.png)

Arrows show the likeliest move at the start of an episode (seed 0). In the new garden home and mud lie
elsewhere, and a wall is in the way. In the titles 0 % is a random walk, 100 % the best plan for the true
wishes. A plan for weights from demonstrations gains nearly all of it. A perfect copy walks to where home was.
A plan for the reward $\log \pi_t$, which explains what was seen exactly as well, gains little too.

![The error of recovered weights falls as one over the root of the demonstrations](results/E11_error.png)

From exact counts the weights come back as exactly as the ascent was asked for. From $N$ demonstrations they
miss by an amount that can be foretold. What one demonstration collects has a covariance $C$. The inverse of
$L$'s curvature $H$ turns errors of $f^E$ into errors of $w$, and the dashed line is the root of
$\operatorname{tr}(H^{-1} C H^{-1}) / N$. $H$ is the part of $C$ that comes from the gardener's choices. The
rest comes from slips and from the first cell, and tells nothing of wishes.

**The verdict.** Copying is enough where mistakes are cheap or episodes short: its cost grows as the square of
the horizon. Asking again makes that linear, if the expert can get back from where the learner goes. The
reward is worth finding where the world will change: features recovered it from behaviour, up to what they
leave open. Without features behaviour says nothing that a copy does not.

<!-- results: E11 -->

`rl run E11`: 4 s; with `--evidence`: 13 s, 338 MB; with `--smoke --evidence`: 5 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| clone_slope            | 2.02 (2.01 to 2.02)             | 2 ± 0.1    | 10/10 |
| dagger_slope           | 1.03 (1.01 to 1.04)             | 1 ± 0.1    | 10/10 |
| gradient_gap           | 7.26e-07 (5.38e-07 to 1e-06)    | ≤ 1e-05    | 10/10 |
| weights_gap            | 9.5e-09 (1.23e-09 to 5.02e-08)  | ≤ 1e-05    | 10/10 |
| changed_garden         | 1                               | ≥ 0.95     | 10/10 |
| cloning_bound *        | 0.494                           | ≤ 1        | 10/10 |
| rollouts_agree *       | 1.99 (1.6 to 2.28)              | ≤ 4        | 10/10 |
| no_way_back_slope *    | 2.02 (2.01 to 2.04)             | 2 ± 0.1    | 10/10 |
| shaping_gap *          | 3.66e-15 (2.61e-15 to 4.77e-15) | ≤ 1e-09    | 10/10 |
| log_policy_gap *       | 2.28e-15 (1.44e-15 to 3.44e-15) | ≤ 1e-09    | 10/10 |
| open_directions *      | 1                               | 1 ± 0      | 10/10 |
| gain_over_clone *      | 0.907 (0.878 to 0.942)          | ≥ 0        | 10/10 |
| gain_over_log_policy * | 0.932 (0.877 to 0.978)          | ≥ 0        | 10/10 |
| policy_gap *           | 2.63e-09 (6.53e-10 to 1.43e-08) | ≤ 1e-05    | 10/10 |
| error_slope *          | -0.51 (-0.534 to -0.491)        | -0.5 ± 0.1 | 10/10 |
| error_foretold *       | 0.974 (0.941 to 1.02)           | 1 ± 0.2    | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `clone_slope`: the clone's cost grows as the square of the horizon (slope, log-log)
- `dagger_slope`: DAgger's cost grows in proportion to the horizon (slope, log-log)
- `gradient_gap`: the gradient of L is the expert's feature counts less the learner's (length of the
  difference, largest of three places)
- `weights_gap`: from exact counts the weights come back (largest difference)
- `changed_garden`: in a changed garden, planning for weights from demonstrations gains nearly what the best
  plan gains (of the best plan's gain over a random walk)
- `cloning_bound`: no driver who errs with chance eps on the road costs more than eps T^2 (largest cost /
  bound)
- `rollouts_agree`: measured costs scatter about (1) as their standard errors say (standard errors, largest of
  ten differences)
- `no_way_back_slope`: where nothing leads back, DAgger's cost grows as the square too (slope, log-log)
- `shaping_gap`: rewards shaped by random potentials have the same soft policy (largest difference of a
  probability)
- `log_policy_gap`: the reward log pi explains the gardener exactly as well as the gardener's wishes do
  (largest difference of a probability)
- `open_directions`: with a weight for each cell, L is level in one direction: all weights may rise together
  (eigenvalues of L's curvature that are 0)
- `gain_over_clone`: in the changed garden planning for the weights gains more than a perfect copy does (of
  the best plan's gain, difference)
- `gain_over_log_policy`: and more than a plan for log pi, which explained the gardener as well (of the best
  plan's gain, difference)
- `policy_gap`: from exact counts the gardener's policy comes back (largest difference of a probability)
- `error_slope`: weights from N demonstrations miss by one over the root of N (slope, log-log)
- `error_foretold`: from 3,000 demonstrations they miss by what the exact covariances foretell (measured /
  foretold)
</details>

<!-- /results -->

**Break it.** `rl break E11 expert_drives`: the learner never drives. `rl break E11 own_labels`: nobody is
asked. `rl break E11 no_way_back`: no action leads back. `rl break E11 best_for_soft`: A3's maximum.

**Exercises.**

<!-- exercises: E11 -->

*E11.1 · Backwards, forwards, uphill* (35 minutes, medium). Write the soft plan of (2), the occupancies of
(3), and the height and the slope of (5). `rl exercise E11.soft_plan`, `rl exercise E11.occupancies`, `rl
exercise E11.dual`.

*E11.2 · Ask again* (20 minutes, easy). Write the cost of (1), and the learner that is told what it should
have done. `rl exercise E11.expected_cost`, `rl exercise E11.dagger`.

*E11.3 · What the floor tells* (30 minutes, hard). The counts of a demonstration depend on where the floor let
the gardener slip, which says nothing of wishes. The likelihood of the *actions* looks only at what was chosen
where one stood. Its gradient is, on average over $N$ episodes,

$$\frac{1}{N} \sum_{i, t} \bigl( G_t(s_t^i, a_t^i) - g_t(s_t^i) \bigr), \quad
G_t(s, a) = \sum_{s'} P(s' \mid s, a) \bigl( \phi(s') + g_{t+1}(s') \bigr), \quad
g_t(s) = \sum_a \pi_t(a \mid s)\, G_t(s, a) \tag{E1}$$

with $g_T = 0$: features still to come after the action, less those to come before it was chosen. Write it.
Which needs fewer demonstrations for the same error, the counts or this likelihood?
And when do both need as many? `rl exercise E11.likelihood_gradient`.

<details><summary>Answer</summary>

The likelihood: its error has the covariance $H^{-1} / N$, the counts' $H^{-1} C H^{-1} / N$, and $C$ is $H$
plus what slips and the first cell add. In the old garden, with the wishes of seed 0, the counts need 2.3
times as many demonstrations. If nothing slips and the first cell is given, $C = H$: as many.
</details>

*E11.4 · One who never errs* (10 minutes, medium). A gardener always takes a best action. What do the weights
do that explain it, with exact counts and no prior? What does a prior make of them, and which part of the
answer may you use?

<details><summary>Answer</summary>

They grow for ever. Soft policies come as near to the best one as one likes, but only as $|w| \to \infty$:
such counts lie on the edge of what can be collected, and $L$ has no highest point. A prior stops the growth
where it costs more than it gains. Then the length of $w$ says how sure the gardener seemed, and how many
demonstrations there were; its direction is about the wishes, and a plan for the best needs no more.
</details>

*E11.5 · Find the bug* (10 minutes). `rl exercise E11.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def learn_to_drive(cfg: Config, log: RunLog) -> None:
    """Both drivers at each horizon: measured costs, their standard errors, and (1); claims on the slopes."""
    for horizon in HORIZONS:
        rng = np.random.default_rng((cfg.seed, horizon))
        for name, learn in (("clone", clone), ("dagger", dagger)):
            policy = learn(horizon, cfg, rng)
            costs = drive(policy, cfg.num_measured // horizon, horizon, cfg.fog, rng)[2]
            found = {"cost": max(costs.mean(), 1 / len(costs)), "stderr": costs.std() / len(costs) ** 0.5}
            found["exact"] = expected_cost(*chances(policy, cfg.fog), horizon)
            log.write(horizon, **{f"{what}_{name}": value for what, value in found.items()})

    for name, power, says, source in (
        ("clone", 2.0, "the clone's cost grows as the square of the horizon", "ross2010efficient; eq. (1)"),
        ("dagger", 1.0, "DAgger's cost grows in proportion to the horizon", "ross2011dagger; eq. (1)"),
    ):
        slope = np.polyfit(np.log(HORIZONS), np.log(log.series(f"cost_{name}")[1]), 1)[0]
        log.claim(f"{name}_slope", says, slope, near=(power, 0.1), unit="slope, log-log", source=source)


def main(cfg: Config, log: RunLog) -> None:
    learn_to_drive(cfg, log)
    rng = np.random.default_rng(cfg.seed)
    wishes = rng.uniform((0.5, -1.0, -1.5), (1.5, -0.2, -0.5))  # home, mud, water
    old, new = garden(OLD), garden(NEW)
    expert = soft_plan(old.P, rewards_of(old, wishes))[1]
    counts = feature_counts(old, expert)
    gaps = [
        check_grad(lambda w: dual(w, counts, old)[0], lambda w: dual(w, counts, old)[1], weights)
        for weights in rng.normal(size=(3, 3))
    ]
    log.claim(
        "gradient_gap",
        "the gradient of L is the expert's feature counts less the learner's",
        max(gaps),
        at_most=1e-5,
        unit="length of the difference, largest of three places",
        source="finite differences of L",
        always=True,
    )
    log.claim(
        "weights_gap",
        "from exact counts the weights come back",
        np.abs(recover(counts, old) - wishes).max(),
        at_most=1e-5,
        unit="largest difference",
        source="the true weights",
        always=True,
    )
    states, _ = demonstrate(old, expert, cfg.num_demos, rng)
    guess = recover(old.features[states[1:]].sum(axis=0).mean(axis=0), old, ridge=1 / cfg.num_demos)
    planned = plan(new.P, rewards_of(new, guess))[1]
    log.claim(
        "changed_garden",
        "in a changed garden, planning for weights from demonstrations gains nearly what the best plan gains",
        gain_share(new.P, rewards_of(new, wishes), new.start, planned),
        at_least=0.95,
        unit="of the best plan's gain over a random walk",
        source="dynamic programming for the true weights",
    )
    log.keep(old=old, new=new, wishes=wishes, expert=expert, counts=counts, planned=planned)
    draw([log.metrics], log)


def draw(runs: list[dict], log: RunLog) -> None:
    """Costs against the horizon, from the metrics of one run or of several."""
    figure, ax = plotting.new_figure(width=7.2)
    for name, label, color in (("clone", "clone", plotting.ORANGE), ("dagger", "DAgger", plotting.BLUE)):
        ax.plot(*np.array(runs[0][f"exact_{name}"]).T, "--", color=color, label=f"{label}, by eq. (1)")
        points = np.concatenate([run[f"cost_{name}"] for run in runs])  # [runs x horizons, (horizon, cost)]
        ax.plot(*points.T, "o", color=color, alpha=0.6, label=f"{label}, measured (seeds: {len(runs)})")
    ax.set(xscale="log", yscale="log", title="A clone pays for a mistake to the end")
    ax.set(xlabel="steps T of an episode", ylabel="steps off the road, mean of episodes")
    ax.set_xticks(HORIZONS, [str(horizon) for horizon in HORIZONS])
    ax.set_xticks([], minor=True)
    ax.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
