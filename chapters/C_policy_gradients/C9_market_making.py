# %% [markdown]
r"""
# C9 · Market making

**Question.** Whoever offers to buy and to sell at all times earns a little from every trade, and is left with
what nobody wanted. Can a policy gradient find the best prices to offer, and what is its answer worth where
the market is not the simulator that it learned in?

**Before this:** C3 (proximal policy optimisation, PPO). **Changes from C3:** actions are prices; each batch
serves one step; the critic is a table; the best policy there is can be computed. No finance is needed:
section 1 explains each word of it. **Next:** chapter D, language models.

**Time.** 6 s on 2 cores; with all evidence 16 s.

References: `avellaneda2008market`, `gueant2013dealing`, `cartea2015algorithmic`, `cartea2014buy`.

Symbols: `T` steps, `N` sessions, `S` inventories; on the last axis ask and bid. $\lambda$ buyers an hour (and
sellers), $\kappa$ how depth $\delta$ deters them, $q$ inventory, $S_t$ mid price, $\phi$, $\alpha$ penalties.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.market import Played, draw_sessions, play
from chapters.exact.market import ASK, BID, Market, best_constant, optimum, utility
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.networks import tanh_mlp
from chapters.utils.optim import Adam

Depths = Float[np.ndarray, "T S 2"]  # what is quoted in each step with each inventory
Values = Float[np.ndarray, "T1 S"]  # what is still to come, before each of T steps and at the end: T1 = T + 1
Held = Int[np.ndarray, "T1 N"]  # shares
Grid = Float[np.ndarray, "T N"]
FIRST_DEPTH = 1.0  # what an untrained policy quotes everywhere, in cents


@dataclass(frozen=True)
class Config:
    """A policy that learns to quote in a market whose numbers it does not know."""

    seed: int = 0
    """Seed of the weights, of the sessions that are learned from, and of those that judge."""
    depth_decay: Annotated[float, in_range(0.3, 5.0)] = 1.5
    """Of those who come to trade, exp(-depth_decay * d) pay a depth of d cents."""
    running_penalty: Annotated[float, in_range(0.0, 2.0)] = 0.2
    """Penalty for one share held for an hour, in cents; for q shares q^2 times as much."""
    num_updates: Annotated[int, in_range(1, 10_000)] = 150
    """Gradient steps, one a batch."""
    num_sessions: Annotated[int, in_range(2, 100_000)] = 2000
    """N: sessions in one batch."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2e-2
    """Adam's step size at the start; it falls to zero."""
    scale: Annotated[float, in_range(0.01, 2.0)] = 0.3
    """Standard deviation, in cents, of the depths tried around the policy's; it falls to a third."""
    num_eval_sessions: Annotated[int, in_range(10, 200_000)] = 20_000
    """Fresh sessions in which the policy and the optimum are compared."""


SMOKE = {"num_updates": 3, "num_sessions": 200, "num_eval_sessions": 1000}

# %% [markdown]
r"""
## 1. The trade

A share's *mid price* $S_t$ lies halfway between what is asked and what is bid for it. A *market maker* offers
two *quotes*: to sell at $S_t + \delta^a$, the *ask*, and to buy at $S_t - \delta^b$, the *bid*. The distance
$\delta$ is the quote's *depth*. Whoever wants to trade at once takes (*fills*) the quote and pays the depth:
that is what a market maker waits for. A sale and a purchase earn $\delta^a + \delta^b$ and leave nothing
behind. But they do not come in pairs. In between one holds an *inventory* of $q$ shares (below 0: sold, and
owed), and the price moves.

A *session* is an hour in $T = 50$ steps of $\Delta$ hours. In a step a buyer comes with probability
$\lambda\Delta$, and a seller likewise. Each accepts depths up to a largest one, which is random: exponential
with mean $1/\kappa$. So a quote is filled with probability (`avellaneda2008market`)

$$p(\delta) = \lambda \Delta\, e^{-\kappa\delta}, \qquad \delta \ge 0 \tag{1}$$

*By hand*, with $\lambda = 20$ and $\kappa = 1.5$: at the mid price a quote is filled in 4 of 10 steps, and
earns nothing; at $1/\kappa = 0.67$ cents in $4/e = 1.5$ of 10. A fill ($f = 1$, else 0) earns its depth; the
rest of the price only swaps cash for a share. Then the price moves, and with it what is held. And a penalty
is charged for the risk of holding:

$$r_t = \delta^a_t f^a_t + \delta^b_t f^b_t + q_{t+1}\,(S_{t+1} - S_t) - \phi\Delta\, q_t^2, \qquad
q_{t+1} = q_t - f^a_t + f^b_t \tag{2}$$

The last reward also loses $\alpha q_T^2$, the cost of getting rid of what is left ($\phi = 0.2$, $\alpha =
0.1$ cents). With 8 shares held, or owed, the side that would add to them is closed. The *utility* of quotes
is a session's mean sum of rewards. The price is a Gaussian random walk, with a standard deviation of 1 cent
after an hour, whatever we hold: its term in (2) has mean 0. So only time and inventory matter. In these
$50 \times 17$ cells dynamic programming (A3) finds the best quotes, and the exact utility of any
(`exact/market.py`).

## 2. The best quotes as a matrix exponential

For short steps there is a formula (`cartea2015algorithmic`; `gueant2013dealing` for another utility). Let
$h(t, q)$ be the mean sum still to come, $t$ now in hours and $T = 1$. At the end $h(T, q) = -\alpha q^2$. The
Hamilton–Jacobi–Bellman equation, Bellman's in continuous time, says by how much $h$ grows for each hour
further from the end. It loses the penalty, and gains what each open side brings: $\lambda e^{-\kappa\delta}$
fills an hour, each of which earns $\delta$ and changes the inventory by one.

$$-\frac{\partial h}{\partial t} = -\phi q^2 + \max_\delta \lambda e^{-\kappa\delta}\bigl(\delta + h(q - 1) -
h(q)\bigr) + \max_\delta \lambda e^{-\kappa\delta}\bigl(\delta + h(q + 1) - h(q)\bigr) \tag{3}$$

The best depths are where the slope in $\delta$ is zero; where (4) is below 0, one quotes 0.

$$\delta^a = \frac1\kappa + h(q) - h(q - 1), \qquad \delta^b = \frac1\kappa + h(q) - h(q + 1) \tag{4}$$

$1/\kappa$ is what one would ask if inventory cost nothing; what the trade costs later is added. Who holds
too much sells cheaply to be rid of it, and bids low. With (4) put in, each maximum of (3) is
$\tfrac{\lambda}{e\kappa} e^{\kappa (h(q \mp 1) - h(q))}$. That is not linear in $h$. But multiply (3) by
$\kappa\omega$, with $\omega = e^{\kappa h}$, and all is linear in $\omega$: the solution is the exponential
of a matrix.

$$-\frac{d\omega}{dt} = M\omega, \quad M_{q,q} = -\kappa\phi q^2, \quad M_{q,q \pm 1} = \lambda / e \tag{5}$$

$$h = \tfrac1\kappa \log \omega, \qquad \omega(t) = e^{M (T - t)}\, \omega(T), \qquad
\omega(T, q) = e^{-\kappa\alpha q^2} \tag{6}$$

*For example*, the depths of ask and bid at the start, with no share (row 8 of 17) and with one. With one both
*prices* are lower: the ask is nearer to the mid price, the bid further away. With none both are deeper than
0.67, since any trade leaves an inventory.

```python
>>> depths_from_values(closed_form_values(Market()), depth_decay=1.5)[0, 8:10].round(2).tolist()
[[0.74, 0.74], [0.6, 0.88]]
```
"""


# %%
def closed_form_values(market: Market) -> Values:
    """What is still to come, h(t, q), if time were continuous."""
    from scipy.linalg import expm

    q = market.inventories
    neighbours = np.eye(len(q), k=1) + np.eye(len(q), k=-1)
    penalty = np.diag(market.depth_decay * market.running_penalty * q**2)
    growth = market.arrival_rate / np.e * neighbours - penalty  # eq. (5)
    one_step = expm(growth * market.dt)  # [S, S]
    omegas = [np.exp(-market.depth_decay * market.final_penalty * q**2)]
    for _ in range(market.num_steps):
        omegas.append(one_step @ omegas[-1])
    return np.log(omegas[::-1]) / market.depth_decay  # eq. (6)


def depths_from_values(values: Values, depth_decay: float) -> Depths:
    """The best depths for these values; 1 / depth_decay at the limit, where a side is closed."""
    one_more = np.diff(values[:-1], axis=1)  # [T, S - 1] h(q + 1) - h(q)
    depths = np.full((*values[:-1].shape, 2), 1.0 / depth_decay)
    depths[:, 1:, ASK] += one_more  # eq. (4)
    depths[:, :-1, BID] -= one_more
    return depths


# %% [markdown]
r"""
## 3. A policy that learns them

Now forget $\lambda$, $\kappa$ and section 2. A network sees time and inventory and gives two mean depths
$\mu_\theta(t, q)$. The depths that are tried are Gaussian around them, with standard deviation $\sigma$ (one
below 0 is quoted as 0):

$$\log \pi_\theta(\delta \mid t, q) = -\sum_{\text{ask, bid}} \frac{(\delta - \mu_\theta(t, q))^2}{2\sigma^2}
+ \text{const} \tag{7}$$

Of 2,000 sessions side by side hundreds hold the same inventory at the same time, so the critic can be a
table: from the last step back, average in each cell what was paid and the estimate for the cell it led to.
If $n_t(q)$ sessions $i$ hold $q$ shares at step $t$:

$$\hat V_t(q) = \frac1{n_t(q)} \sum_{i:\, q^i_t = q} \bigl(r^i_t + \hat V_{t+1}(q^i_{t+1})\bigr), \qquad
\hat V_T = 0 \tag{8}$$

$$\hat A^i_t = r^i_t + \hat V_{t+1}(q^i_{t+1}) - \hat V_t(q^i_t) \tag{9}$$

A session's end is an end, no time limit: what is left is paid for in the last reward, and nothing follows.
The advantage (9) says how much better a step turned out than its cell's average. What one more share costs
later is part of $\hat V_{t+1}$, a mean over many sessions: the noise of this session's later prices is left
out. *By hand*, one step of three sessions: one sells at 1 cent, one buys at 1, one trades with nobody. The
average is ⅔.

```python
>>> held, rewards = np.array([[0, 0, 0], [-1, 1, 0]]), np.array([[1.0, 1.0, 0.0]])
>>> values = cell_values(held, rewards, max_inventory=1)
>>> values[0].round(2).tolist(), advantages(held, rewards, values).round(2).tolist()
([0.0, 0.67, 0.0], [[0.33, 0.33, -0.67]])
```

Raise the log-probability of each quote by its advantage. The batch comes from the policy as it is: PPO's
ratio is 1, and there is nothing to clip.

$$\mathcal L(\theta) = -\frac1N \sum_i \sum_t \hat A^i_t \log \pi_\theta(\delta^i_t \mid t, q^i_t) \tag{10}$$
"""


# %%
def cell_values(held: Held, rewards: Grid, max_inventory: int) -> Values:
    """The mean of what followed in each cell, in this batch; 0 in cells where nobody was."""
    rows = held + max_inventory  # [T + 1, N]
    values = np.zeros((len(held), 2 * max_inventory + 1))
    for t in reversed(range(len(rewards))):
        followed = rewards[t] + values[t + 1, rows[t + 1]]  # [N]
        counts = np.bincount(rows[t], minlength=values.shape[1])
        values[t] = np.bincount(rows[t], followed, values.shape[1]) / np.maximum(counts, 1)  # eq. (8)
    return values


def advantages(held: Held, rewards: Grid, values: Values) -> Grid:
    """Eq. (9) for every step."""
    rows = held + values.shape[1] // 2
    of_cell = np.take_along_axis(values, rows, axis=1)  # [T + 1, N]
    return rewards + of_cell[1:] - of_cell[:-1]  # eq. (9)


def policy_loss(
    means: Float[Tensor, "*B 2"], depths: Float[Tensor, "*B 2"], weights: Float[Tensor, "*B"],
    scale: float, num_sessions: int,
) -> Float[Tensor, ""]:  # fmt: skip
    """A loss whose gradient is minus the policy gradient."""
    log_probs = -(((depths - means) / scale) ** 2).sum(dim=-1) / 2  # eq. (7)
    return -(log_probs * weights.detach()).sum() / num_sessions  # eq. (10)


# %%
def mean_depths(policy: nn.Module, market: Market) -> Float[Tensor, "T S 2"]:
    """What the policy quotes in every cell; time and inventory reach it as numbers from -1 to 1."""
    sizes = market.num_steps, len(market.inventories)
    cells = torch.cartesian_prod(*(torch.linspace(-1.0, 1.0, size) for size in sizes))  # [T * S, 2]
    return policy(cells).reshape(*sizes, 2) + FIRST_DEPTH


def update(optimizer: Adam, means: Float[Tensor, "T S 2"], batch: Played, scale: float) -> None:
    """One gradient step on one batch; `means` is what the network gave for every cell."""
    max_inventory = means.shape[1] // 2
    values = cell_values(batch.inventory, batch.rewards, max_inventory)
    weights = torch.from_numpy(advantages(batch.inventory, batch.rewards, values)).float()  # [T, N]
    steps = torch.arange(len(means))[:, None]  # [T, 1]
    of_cell = means[steps, torch.from_numpy(batch.inventory[:-1] + max_inventory)]  # [T, N, 2]
    loss = policy_loss(of_cell, torch.from_numpy(batch.depths).float(), weights, scale, weights.shape[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(cfg: Config, log: RunLog, market: Market, name: str = "share") -> Depths:
    """Learn from `num_updates` batches; gives what the policy then quotes in every cell."""
    seed_everything(cfg.seed)
    policy = tanh_mlp([2, 32, 2], last_gain=0.1)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    rng = np.random.default_rng(cfg.seed)
    best = optimum(market)[0][0, market.max_inventory]  # from no share; only for the log
    for number in log.track(range(cfg.num_updates), "updates", name):
        done = number / cfg.num_updates
        scale = cfg.scale * (1.0 - done * 2 / 3)
        optimizer.lr = cfg.learning_rate * (1.0 - done)
        means = mean_depths(policy, market)
        noise = scale * rng.standard_normal((market.num_steps, cfg.num_sessions, 2))
        sessions = draw_sessions(market, cfg.num_sessions, rng)
        batch = play(market, means.detach().double().numpy(), sessions, noise)
        update(optimizer, means, batch, scale)
        depths = mean_depths(policy, market).detach().double().numpy()
        log.write((number + 1) * cfg.num_sessions, **{name: utility(market, depths) / best})
    return depths


# %% [markdown]
r"""
## 4. The same buyers and sellers for both

Sessions differ far more than good quotes do: one has luck with the price, one with its buyers. So let policy
and optimum meet the *same* sessions. Who comes, what they would pay and how the price moves is drawn before
anybody quotes (*common random numbers*), and luck cancels. If session $i$ of $n$ pays the policy $x_i$ and
the optimum $y_i$, the policy earns the part $\hat\rho = \bar x / \bar y$ of the optimum's utility, with this
95 % interval (sd: standard deviation):

$$\hat\rho \pm 1.96\; \mathrm{sd}(x_i - \hat\rho\, y_i) \,/\, (\sqrt n\, |\bar y|) \tag{11}$$
"""


# %%
def paired_share(ours: Float[np.ndarray, " N"], best: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """(part of the mean utility, half the width of its 95 % interval) from the same sessions."""
    share = ours.mean() / best.mean()
    spread = (ours - share * best).std(ddof=1)
    return float(share), float(1.96 * spread / (np.sqrt(len(ours)) * abs(best.mean())))  # eq. (11)


# %% [markdown]
r"""
## 5. Look, break, write

![Learned quotes lie near the optimal ones; only a critic that sees the inventory gets there](results/C9.png)

**Left**, what is quoted halfway through a session. Nobody told the policy of (4), and it slopes as (4) does.
Far out, where hardly a session comes, its deep quotes are mostly too deep, at little cost. **Right**,
the utility lost. With a critic that does not see the inventory the policy hardly beats the best constant
depth. Returns to the end of the session, in place of what (9) takes for the rest, also tell what a share
costs, but with the noise of every later price.

![One session: quotes lean against the inventory; nine of ten hold two shares at most](results/C9_session.png)

And in another market? The best quotes of one market are taken to others; their utility there is exact:

![A wrong decay costs much, a wrong rate little; informed traders take everything](results/C9_misfit.png)

**Left**, quotes for a wrong $\kappa'$. Were inventory free, quotes at $1/\kappa'$ would by (1) earn
$x e^{1 - x}$ of the optimum, $x = \kappa / \kappa'$ (dashed). That is nearly the whole effect. **Middle**, a
wrong $\lambda$ moves the depths (4) through later values alone, and costs little. **Right**, *informed*
traders (`cartea2014buy`): each buyer moves the price up and each seller down, so what was sold was sold too
low, and what was bought too high. Where that takes $1/\kappa$ from each fill, one trades for an hour and
earns nothing, while the simulator promises what it always did.

**The verdict.** A policy gradient finds quotes that earn nearly all that the best could, without the model,
if its critic sees the inventory. In another market two things in the simulator decide what they are worth:
how fills fall with depth, and who comes; how many come hardly matters. No training mends that, and nothing
inside the simulator shows it. (Real markets also have queues, fees and rivals: this is no advice to trade.)

<!-- results: C9 -->

`rl run C9`: 6 s; with `--evidence`: 15 s, 824 MB; with `--smoke --evidence`: 5 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| closed_form_loss           | 0.00045                   | ≤ 0.001        | 10/10 |
| gap_closed                 | 0.989 (0.983 to 0.991)    | ≥ 0.95         | 10/10 |
| learned_share              | 0.997 (0.996 to 0.998)    | ≥ 0.95         | 10/10 |
| closed_form_gap *          | 2.35e-10                  | ≤ 1e-06        | 10/10 |
| continuous_limit *         | 1.02                      | 1 ± 0.1        | 10/10 |
| constant_share *           | 0.851                     | 0.8508 ± 0.001 | 10/10 |
| simulator_error *          | 0.722 (0.139 to 1.08)     | ≤ 4.5          | 10/10 |
| simulator_error_informed * | 0.593 (0.134 to 1.24)     | ≤ 4.5          | 10/10 |
| interval_error *           | 0.251 (0.0111 to 2.16)    | ≤ 4.5          | 10/10 |
| common_numbers_variance *  | 0.0384 (0.0299 to 0.0476) | ≤ 0.1          | 10/10 |
| critic_pays *              | 0.259 (0.18 to 0.498)     | ≤ 1            | 10/10 |
| blind_critic_gap *         | 0.0327 (-0.0862 to 0.102) | ≤ 0.5          | 10/10 |
| riskless_decay *           | 7.88e-15                  | ≤ 1e-09        | 10/10 |
| riskless_toll *            | 6.11e-15                  | ≤ 1e-09        | 10/10 |
| rate_against_decay *       | 0.019                     | ≤ 0.1          | 10/10 |
| informed_break_even *      | -0.174                    | ≤ 0            | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `closed_form_loss`: the quotes of (4) and (6), made for short steps, lose next to nothing in steps of 72
  seconds (of the optimum's utility)
- `gap_closed`: the learned quotes close nearly all of the gap between the best constant depth and the optimum
  (of the gap)
- `learned_share`: in fresh sessions that both meet, they earn nearly what the optimum earns: lower end of
  (11) (of the optimum's utility)
- `closed_form_gap`: the matrix exponential solves the equation in continuous time, as integrating it shows
  (largest difference, cents)
- `continuous_limit`: with shorter steps the optimum of dynamic programming becomes the formula's value (slope
  of log error against log step)
- `constant_share`: the best depth that knows neither time nor inventory gives away a seventh (of the
  optimum's utility)
- `simulator_error`: simulated sessions average to what dynamic programming says (standard errors)
- `simulator_error_informed`: simulated sessions average to what dynamic programming says, also where buyers
  and sellers move the price (standard errors)
- `interval_error`: the part earned, measured with common random numbers, is the exact one (standard errors)
- `common_numbers_variance`: meeting the same sessions takes nine tenths of the variance out of the comparison
  (of the variance with different sessions)
- `critic_pays`: advantages (9) lead to quotes that lose less utility than those by returns to the end do
  (ratio of the utilities lost)
- `blind_critic_gap`: with a critic that does not see the inventory most of the gap to the optimum stays open
  (of the gap between the best constant depth and the optimum)
- `riskless_decay`: where inventory is free, quotes for a wrong kappa' earn x exp(1 - x), x = kappa / kappa',
  of the optimum's utility (largest difference)
- `riskless_toll`: where inventory is free, quotes at 1/kappa, each fill losing c, earn (1 - kappa c)
  exp(kappa c) of the optimum's utility (largest difference)
- `rate_against_decay`: off by a factor of up to two, a wrong lambda costs less than a tenth of what a wrong
  kappa costs (ratio of the largest losses)
- `informed_break_even`: where each fill loses 1/kappa to informed traders, the quotes of a market without
  them earn nothing (of that market's optimum)
</details>

<!-- /results -->

**Break it.** `rl break C9 blind_critic`: the critic knows the time only. `rl break C9 wrong_way`: (4) with
its signs turned. `rl break C9 nothing_follows`: the critic averages single rewards, without the estimate of
what follows. Say first which claims fail.

**Exercises.**

<!-- exercises: C9 -->

*C9.1 · The heart of it* (25 minutes, easy). Write the best depths from the values, the critic and the
advantage, from (4), (8) and (9). `rl exercise C9.depths_from_values`, `rl exercise C9.cell_values`, `rl
exercise C9.advantages`.

*C9.2 · Exploring costs, and moves the answer* (20 minutes, medium). While the learner tries Gaussian depths
with standard deviation $\sigma$, what it raises is the mean gain of the *noisy* quotes. On one side, with $c$
for what a fill changes in later value:

$$\max_m\; \mathbb{E}_{\delta \sim \mathcal N(m, \sigma^2)} [e^{-\kappa\delta}(\delta + c)] \tag{E1}$$

Which $m$ is best? What does that say of `--scale`? `rl exercise C9.best_noisy_mean`.

<details><summary>Answer</summary>

$m = 1/\kappa - c + \kappa\sigma^2$. At the last scale, 0.1 cents, that is 0.015 cents deeper than (4), which
costs next to nothing; at the first, 0.3, it would be 0.135. So the scale falls while the policy learns.
</details>

*C9.3 · Which market is this?* (15 minutes, easy). The simulator's $\lambda$ and $\kappa$ were wrong, and you
have only your own fills, at two depths. By (1), with $n_i$ fills in $m_i$ steps at depth $\delta_i$:

$$\frac{n_i}{m_i} \approx \lambda\Delta\, e^{-\kappa\delta_i} \qquad (i = 1, 2) \tag{E2}$$

Solve for both. Why can fills at a single depth never tell $\kappa$? `rl exercise C9.fitted_market`.

<details><summary>Answer</summary>

One depth gives one equation for two unknowns. Who wants to know how fills fall with depth has to try another
now and then: exploration is not only for those who learn by gradient.
</details>

*C9.4 · The one who knows more* (15 minutes, medium). Where inventory is free, quotes at $1/\kappa$ meet
traders to whom each fill loses $c$ on average. Show that they keep $(1 - \kappa c)\, e^{\kappa c}$ of what is
possible there. Where do they earn nothing, and what does the simulator say?

<details><summary>Answer</summary>

A side now brings $e^{-\kappa\delta}(\delta - c)$: $e^{-1}(1/\kappa - c)$ at $1/\kappa$, and $e^{-1 - \kappa
c}/\kappa$ at the best depth, $1/\kappa + c$. At $c = 1/\kappa$ a fill is worth nothing, however many there
are. The simulator has no such traders and promises what it always did (`riskless_toll`,
`informed_break_even`).
</details>

*C9.5 · Find the bug* (10 minutes). `rl exercise C9.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    market = Market(depth_decay=cfg.depth_decay, running_penalty=cfg.running_penalty)
    values, best_depths = optimum(market)
    best, constant = values[0, market.max_inventory], best_constant(market)[1]
    by_formula = depths_from_values(closed_form_values(market), market.depth_decay)
    log.claim(
        "closed_form_loss",
        "the quotes of (4) and (6), made for short steps, lose next to nothing in steps of 72 seconds",
        1 - utility(market, by_formula) / best,
        at_most=0.001,
        unit="of the optimum's utility",
        source="exact dynamic programming",
        always=True,
    )
    learned = train(cfg, log, market)
    log.claim(
        "gap_closed",
        "the learned quotes close nearly all of the gap between the best constant depth and the optimum",
        (utility(market, learned) - constant) / (best - constant),
        at_least=0.95,
        unit="of the gap",
        source="exact dynamic programming",
        seeds="9/10",
    )
    sessions = draw_sessions(market, cfg.num_eval_sessions, np.random.default_rng(cfg.seed + 10_000))
    ours, oracle = (play(market, quotes, sessions).rewards.sum(axis=0) for quotes in (learned, best_depths))
    share, half_width = paired_share(ours, oracle)
    log.claim(
        "learned_share",
        "in fresh sessions that both meet, they earn nearly what the optimum earns: lower end of (11)",
        share - half_width,
        at_least=0.95,
        unit="of the optimum's utility",
        source="the quotes of dynamic programming, common random numbers",
        seeds="9/10",
    )
    log.keep(learned=learned, ours=ours, oracle=oracle)
    labels = {"title": "Learning to quote", "xlabel": "sessions", "ylabel": "part of the optimum's utility"}
    plotting.learning_curve(log, "share", threshold=constant / best, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
