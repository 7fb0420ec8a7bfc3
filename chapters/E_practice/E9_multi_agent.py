# %% [markdown]
r"""
# E9 · Several learners: self-play, exploitability, and a critic that sees all

**Question.** When the world contains others who learn too, what does following one's own gradient lead to,
and what must be added so that it ends well?

**Before this:** A3 (values), C0 (policy gradient), C1 (critics). **Changes from C0:** each learner's reward
depends on what the others have learned, so that "the best policy" is no longer a fixed thing to walk to.
**Next:** D9 lets a language model play the same poker against itself.

**Time.** 30 s on 2 cores; with all evidence 120 s.

References: `mertikopoulos2018cycles`, `kuhn1950poker`, `zinkevich2007cfr`, `sokota2023mmd`, `lowe2017maddpg`,
`claus1998dynamics`, `lauer2000distributed`, `foerster2018coma`, `lyu2021contrasting`, `yu2022mappo`.

Symbols: $x, y$ two players' leanings, $\eta$ a step size, $\tau$ the strength of a pull, $t$ the iteration,
$z$ preferences, $\pi$ a strategy, $q$ counterfactual values, `R` plays side by side.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from chapters.exact import kuhn
from chapters.utils import RunLog, in_range, plotting, run_lesson

PASS, BET = 0, 1  # a bet that answers a bet is a call, a pass that answers one is a fold
DEALT = (1 - np.eye(3)) / 6  # [own card, other's card] the chance of this deal
WINS = DEALT * np.sign(np.arange(3)[:, None] - np.arange(3))  # that, with a minus where the other's is higher
Strategy = Float[np.ndarray, "*R 3 4"]  # chance of a bet with each card in each of kuhn.BEGINNINGS
Moves = Float[np.ndarray, "*R 3 4 2"]  # something for both moves, PASS and BET, at each of these places


@dataclass(frozen=True)
class Config:
    """Self-play at a small poker."""

    seed: int = 0
    """Seed of the strategies that learners begin with."""
    num_starts: Annotated[int, in_range(1, 1000)] = 8
    """Plays of poker side by side, each from strategies of its own."""
    num_iterations: Annotated[int, in_range(20, 10**6)] = 10_000
    """Iterations of poker."""
    gradient_eta: Annotated[float, in_range(0.01, 10.0)] = 1.0
    """Step size of the policy gradient there."""
    magnet_eta: Annotated[float, in_range(0.1, 100.0)] = 8.0
    """First step size of magnetic mirror descent; it falls as one over the root of t."""
    magnet_pull: Annotated[float, in_range(0.01, 10.0)] = 0.25
    """First pull to the magnet; it falls alike."""


SMOKE = {"num_starts": 2, "num_iterations": 60}

# %% [markdown]
r"""
## 1. Matching pennies: two gradients that chase each other

Each of two players lays down a coin. If both show the same side the first wins one from the second, else the
second wins one. Let $x$ be the chance that the first shows heads less the chance of tails, from $-1$ to 1,
and $y$ the same for the second. The first wins $x y$ a game. Where both show both sides evenly, $x = y = 0$,
is the **equilibrium**: neither gains by leaving it while the other stays.

Let each follow the gradient of its own winnings, $y$ for the first and $-x$ for the second:

$$x \leftarrow \frac{x + \eta y}{1 + \eta \tau}, \quad y \leftarrow \frac{y - \eta x}{1 + \eta \tau} \tag{1}$$

with $\tau = 0$ for now. The two move at right angles to where they stand: in the limit of small steps on a
circle about the equilibrium, $x^2 + y^2$ being *conserved*, and never into it (`mertikopoulos2018cycles`
prove the like for all learners of this kind). Real steps, both at once, lead a little outward, by exactly

$$x^2 + y^2 \;\leftarrow\; (1 + \eta^2)\,(x^2 + y^2) \tag{2}$$

If they take turns, the second answering the *new* $x$, then exactly $x^2 + y^2 + \eta\, x y$ stays what it
was: a closed orbit. An average does converge. By (1) a step adds $\eta y$ to $x$, $T$ of them $x_T - x_0$:

$$\bar y = \frac{x_T - x_0}{\eta\, T}, \tag{3}$$

which falls as $1/T$ on any bounded orbit. *An average of the strategies is near the equilibrium although no
strategy ever is.* Averages of networks are no networks, though. So pull each a little to a **magnet**, here
the middle: with $\tau > 0$ a step at once multiplies $x^2 + y^2$ by $(1 + \eta^2) / (1 + \eta \tau)^2$, less
than 1 if $\tau \ge \eta / 2$, and the last strategy itself converges.

```python
>>> pennies_step(0.5, 0.0, eta=0.5)  # heads too often: the second learns to show tails
(0.5, -0.25)
>>> pennies_step(0.5, -0.25, eta=0.5)  # ... and the first then leans to heads less
(0.375, -0.5)
```
"""


# %%
def pennies_step(x: float, y: float, eta: float, pull=0.0, turns=False) -> tuple[float, float]:
    """Both players' next leanings; with turns the second answers the first's new one."""
    new_x = (x + eta * y) / (1 + eta * pull)  # eq. (1)
    seen = new_x if turns else x
    return new_x, (y - eta * seen) / (1 + eta * pull)


def orbit(start: tuple[float, float], num_steps: int, **how) -> Float[np.ndarray, "T 2"]:
    """Where both stand before the first step and after each."""
    path = [start]
    for _ in range(num_steps):
        path.append(pennies_step(*path[-1], **how))
    return np.array(path)


# %% [markdown]
r"""
## 2. Kuhn poker: what a move is worth, and what a strategy can lose

Three cards, jack, queen and king; each of two players pays a coin and gets one card. The first passes or
bets a coin; after a pass so does the second. Who faces a bet folds, or calls with a coin; after a call or two
passes the higher card takes all (`kuhn1950poker`). A player knows its card and what was done so far, an
**information set** $I$: there are twelve, six for each. A strategy is a table of chances to bet; who learns
by **self-play** fills in all twelve. Played well by both, a game is worth $-1/18$ to the first.

How good is a move at $I$? The player cannot see the other's card, so weigh each deal by how likely *chance
and the other* make it that one comes to $I$, and leave one's own choices out:

$$q(I, a) = \sum_{h \in I} P(\text{cards of } h)\; \pi_{\text{other}}(h)\; u(h\, a), \tag{4}$$

where $h$ is what really happened, both cards included, $\pi_\text{other}(h)$ the chance that the other made
its moves in $h$, and $u(h\,a)$ what the player earns on average if it goes on with $a$, both playing $\pi$.
These are **counterfactual values**: what if I had come here on purpose?

Nobody's winnings tell whether self-play has got anywhere: a player who meets itself wins nothing. But an
exact **best response** does: the better move at each $I$, the last ones first. With $v_i$ what $i$ wins,

$$\text{NashConv}(\pi) = \sum_{i} \max_{\pi'} v_i(\pi', \pi_{\text{other}}), \tag{5}$$

the first's and the second's added (their $v_i(\pi)$, not subtracted, cancel). It is 0 at an equilibrium and
above 0 elsewhere. Half of it is the **exploitability**, what a best responder wins when seats are drawn by
lot (D9). Who bets and passes evenly has $11/12$:

```python
>>> even = np.full((3, 4), 0.5)
>>> nash_conv(np.stack([even, kuhn.equilibrium(0.2)])).round(3)
array([0.917, 0.   ])
>>> counterfactual_values(even)[:, 2, BET].round(3)  # to call, with jack, queen, king
array([-0.333,  0.   ,  0.333])
```
"""


# %%
def counterfactual_values(strategy: Strategy) -> Moves:
    """What each move is worth to who makes it, weighed by the chance that the rest leads there, eq. (4)."""
    opens, bets, calls, calls_late = np.moveaxis(strategy, -1, 0)  # [*R, 3] first, second, second, first
    passes = 1 - opens
    q = np.empty((*strategy.shape, 2))
    q[..., 3, PASS] = -bets @ DEALT  # the first player; the other's cards are summed over
    q[..., 3, BET] = 2 * bets @ WINS.T
    later = (1 - calls_late) * q[..., 3, PASS] + calls_late * q[..., 3, BET]  # a bet behind its pass
    q[..., 0, PASS] = (1 - bets) @ WINS.T + later
    q[..., 0, BET] = (1 - calls) @ DEALT + 2 * calls @ WINS.T
    q[..., 1, PASS] = passes @ WINS.T  # the second player
    q[..., 1, BET] = (passes * (1 - calls_late)) @ DEALT + 2 * (passes * calls_late) @ WINS.T
    q[..., 2, PASS] = -opens @ DEALT
    q[..., 2, BET] = 2 * opens @ WINS.T
    return q


def advantages(strategy: Strategy, q: Moves) -> Moves:
    """What each move earns more than playing on by the strategy."""
    return q - ((1 - strategy) * q[..., PASS] + strategy * q[..., BET])[..., None]


def own_reach(strategy: Strategy) -> Strategy:
    """The chance that a player's own earlier choices lead to each place: only a pass comes before another."""
    reach = np.ones_like(strategy)
    reach[..., 3] = 1 - strategy[..., 0]
    return reach


def nash_conv(strategy: Strategy) -> Float[np.ndarray, "*R"] | float:
    """Coins that two best responders win, one in each seat, eq. (5); 0 for an equilibrium only."""
    q = counterfactual_values(strategy)
    better_late = advantages(strategy, q)[..., 3, :].max(axis=-1)  # the last choice first
    first = np.maximum(q[..., 0, PASS] + better_late, q[..., 0, BET]).sum(axis=-1)
    return first + q[..., 1:3, :].max(axis=-1).sum(axis=(-2, -1))


# %% [markdown]
r"""
## 3. Three learners, three lines

Each keeps a number $z(I, a)$ for every move. With $v(I) = \sum_a \pi(a \mid I)\, q(I, a)$:

**Policy gradient.** $\pi$ is the softmax of $z$. C0's gradient of one's own winnings, exactly and not from
samples, is, with $\pi_\text{own}(I)$ the chance that one's *own* earlier choices lead to $I$,

$$z(I, a) \leftarrow z(I, a) + \eta\, \pi_\text{own}(I)\, \pi(a \mid I)\, (q(I, a) - v(I)) \tag{6}$$

**Counterfactual regret minimisation** (CFR, `zinkevich2007cfr`). The *regret* of a move is what it would have
earned more than one's mix. Add it up, and play in proportion to what is regretted,
$\pi(a \mid I) \propto \max(z(I, a), 0)$, evenly if nothing is:

$$z(I, a) \leftarrow z(I, a) + q(I, a) - v(I) \tag{7}$$

However the other plays, regrets grow at most as $\sqrt T$. All of them, over $T$, bound the NashConv of the
*averages*: it falls at least as $1/\sqrt T$. **Magnetic mirror descent** (`sokota2023mmd`) is softmax again,
with (1)'s pull, here to even chances; it must fade, for they are not poker's equilibrium:

$$z(I, a) \leftarrow \frac{z(I, a) + \eta_t\, q(I, a)}{1 + \eta_t \tau_t}, \qquad
\eta_t = \eta / \sqrt t, \quad \tau_t = \tau / \sqrt t \tag{8}$$

Averages need care. To play like one who draws one of $T$ strategies by lot *before each game*, a strategy
must count at $I$ as often as it comes there:

$$\bar\pi(a \mid I) = \sum_t \pi_{\text{own},t}(I)\, \pi_t(a \mid I) / \sum_t \pi_{\text{own},t}(I) \tag{9}$$
"""


# %%
def softmax(z: Moves) -> Strategy:
    """Chances to bet from preferences."""
    return 1 / (1 + np.exp(z[..., PASS] - z[..., BET]))


def regret_matching(z: Moves) -> Strategy:
    """Chances to bet in proportion to positive regrets; even where there are none."""
    positive = z.clip(min=0.0)
    total = positive.sum(axis=-1)
    return np.where(total > 0, positive[..., BET] / np.where(total > 0, total, 1.0), 0.5)


def gradient_step(z: Moves, strategy: Strategy, q: Moves, t: int, cfg) -> Moves:
    chances = np.stack([1 - strategy, strategy], axis=-1) * own_reach(strategy)[..., None]
    return z + cfg.gradient_eta * chances * advantages(strategy, q)  # eq. (6)


def regret_step(z: Moves, strategy: Strategy, q: Moves, t: int, cfg) -> Moves:
    return z + advantages(strategy, q)  # eq. (7)


def magnetic_step(z: Moves, strategy: Strategy, q: Moves, t: int, cfg) -> Moves:
    eta, pull = cfg.magnet_eta / t**0.5, cfg.magnet_pull / t**0.5
    return (z + eta * q) / (1 + eta * pull)  # eq. (8)


LEARNERS = {
    "gradient": (gradient_step, softmax),
    "regret": (regret_step, regret_matching),
    "magnet": (magnetic_step, softmax),
}


def points(num_iterations: int) -> list[int]:
    """Iterations at which strategies are looked at: evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(10, num_iterations, 40).astype(int)).tolist()


def self_play(step: Callable, policy: Callable, z: Moves, cfg) -> tuple[np.ndarray, np.ndarray]:
    """[K, *R, 3, 4] strategies at each of K `points`, and their averages so far."""
    strategy = policy(z)
    total, reached, even = np.zeros_like(strategy), np.zeros_like(strategy), np.full_like(strategy, 0.5)
    looks, last, averages = set(points(cfg.num_iterations)), [], []
    for t in range(1, cfg.num_iterations + 1):
        reach = own_reach(strategy)
        total += reach * strategy
        reached += reach
        if t in looks:
            last.append(strategy)
            averages.append(np.divide(total, reached, out=even.copy(), where=reached > 0))  # eq. (9)
        z = step(z, strategy, counterfactual_values(strategy), t, cfg)
        strategy = policy(z)
    return np.array(last), np.array(averages)


# %% [markdown]
r"""
## 4. A team: whose mistake was it?

Now both get the *same* reward $r(a, b)$. In the **climbing game** (`claus1998dynamics`) its rows, for the
first's three actions, are $(11, -30, 0)$, $(-30, 7, 6)$ and $(0, 0, 5)$: 11 waits where both choose their
first action, but who does so while the other still tries its second pays 30: each learns to avoid it, on
account of what the *other* did. Would a **central critic** help, which sees both actions in training
(`lowe2017maddpg`)? It credits the first with what *its* action changed, given the other's,
$r(a, b) - \sum_{a'} \pi(a')\, r(a', b)$ (`foerster2018coma`), where an agent alone only knows its average
reward. Both are rewards less a **baseline** that does not depend on $a$, which changes nothing in the mean of
the gradient (C0): *both climb the same hill* (`lyu2021contrasting`). Only the noise differs (E9.3 writes it).

## 5. Look, break, write

![The policy gradient's NashConv stays high; averages and the magnet's last strategy fall](results/E9.png)

The policy gradient turns in circles that its own winnings never show: its NashConv stays as high as that of
the best strategies that never mix, its average falls. CFR's average falls as theory says or faster. The
magnet's *last* strategy is good, with no average at all.

![Orbits of matching pennies; what sampled self-play loses; where teams end](results/E9_others.png)

**Left**, orbits of (1): at once, in turns, with a magnet. **Middle**: sampled games and C3's PPO (proximal
policy optimisation), as self-play is mostly done: its clip makes steps small, not inward. **Right**: where
teams end. With either credit they find 11 only if they begin near it. What helps is another *objective*:
one policy, or Q, of pairs, or **optimism**: of an action the best it ever brought (`lauer2000distributed`).

**On film**, three agents are to cover three landmarks (`mpe2`'s *simple_spread*). A step costs half of every
landmark's distance from the nearest agent, and half a point a touch. Sharing one network's weights, and with
either critic (`yu2022mappo`), they earn more than each going to its nearest, where two often meet, and less
than with a landmark each. The view sets teams apart: by *number* the same has $3!\, 2! = 12$ orders.

![Three agents (discs) and three landmarks (crosses), before and after training](results/E9_film.gif)

![With either critic they beat each to its nearest; with lists by number they do not](results/E9_spread.png)

**The verdict.** One's own gradient leads round in circles where interests are opposed, and to the nearest
agreement where they are shared. In the first case an average or a fading pull to a magnet ends it well, and
only a best response can tell. In the second it takes another objective; a critic that sees all changes noise.

<!-- results: E9 -->

`rl run E9`: 8 s; with `--evidence`: 82 s, 909 MB; with `--smoke --evidence`: 11 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| closed_orbit          | 4.03e-15                        | ≤ 1e-09    | 5/5 |
| regret_average        | 0.00489 (0.00478 to 0.00497)    | ≤ 0.005556 | 5/5 |
| gradient_circles      | 0.406 (0.367 to 0.429)          | ≥ 0.1111   | 5/5 |
| magnet_last           | 0.00242                         | ≤ 0.005556 | 5/5 |
| pennies_identities *  | 5.35e-14                        | ≤ 1e-09    | 5/5 |
| nash_conv_is_exact *  | 3.33e-16 (2.22e-16 to 4.44e-16) | ≤ 1e-12    | 5/5 |
| regret_is_exact *     | 1.78e-15                        | ≤ 1e-12    | 5/5 |
| value_within *        | 0.22 (0.173 to 0.355)           | ≤ 1        | 5/5 |
| regret_slope *        | -0.676 (-0.697 to -0.631)       | ≤ -0.45    | 5/5 |
| plus_is_faster *      | 0.0472 (0.0292 to 0.0686)       | ≤ 1        | 5/5 |
| gradient_average *    | 0.0316 (0.0271 to 0.0374)       | ≤ 0.25     | 5/5 |
| ppo_circles *         | 0.443 (0.328 to 0.463)          | ≥ 0.1111   | 5/5 |
| ppo_average *         | 0.0606 (0.0514 to 0.151)        | ≤ 0.5      | 5/5 |
| same_gradient *       | 2.66e-15                        | ≤ 1e-12    | 5/5 |
| jointly_best *        | 1                               | ≥ 1        | 5/5 |
| alone_misses *        | 0.29 (0.264 to 0.326)           | ≤ 0.5      | 5/5 |
| optimists_find_it *   | 1                               | ≥ 0.95     | 5/5 |
| assignment_is_ahead * | 8.02 (7.81 to 8.52)             | ≥ 0        | 5/5 |
| ahead_of_nearest *    | 1.96 (1.44 to 2.09)             | ≥ 0        | 5/5 |
| nearest_first *       | 4.1 (3.64 to 4.36)              | ≥ 0        | 5/5 |
| critics_alike *       | 0.0251 (0.00261 to 0.0325)      | ≤ 0.1      | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `closed_orbit`: matching pennies in turns: what section 1 says is conserved stays the same for 1,000 steps
- `regret_average`: CFR's average strategy loses less than a tenth of what the game is worth (NashConv, coins
  a game, median start)
- `gradient_circles`: the policy gradient's last strategies lose more than twice what the game is worth
  (NashConv, coins a game, median over the last nine tenths)
- `magnet_last`: magnetic mirror descent's last strategy loses less than a tenth of what the game is worth
  (NashConv, coins a game, median start)
- `pennies_identities`: matching pennies: (2), what the magnet makes of it, and the average (3) are exact
  (largest error)
- `nash_conv_is_exact`: NashConv is twice the exploitability found by walking the tree, on ten random
  strategies (largest difference)
- `regret_is_exact`: from nothing, CFR's average after 50 iterations is that of an implementation that walks
  the tree (largest difference)
- `value_within`: no average strategy's own value misses -1/18 by more than its NashConv (largest error /
  NashConv)
- `regret_slope`: the NashConv of CFR's average falls at least about as one over the root of the iterations
  (slope, log-log, over the last two decades)
- `plus_is_faster`: CFR+ loses no more after 2,000 iterations than CFR after 10,000 (ratio of NashConvs)
- `gradient_average`: the policy gradient's average loses at most a quarter of what its strategies do (ratio
  of NashConvs)
- `ppo_circles`: self-play with PPO: the last strategies lose more than twice what the game is worth
  (NashConv, coins a game, median over the last nine tenths)
- `ppo_average`: its average strategy loses less than half of what its last strategies do (ratio of NashConvs)
- `same_gradient`: a central critic's mean gradient is that of an agent which knows its own average only
  (largest difference)
- `jointly_best`: one policy over pairs of actions finds 11 from every start (share of teams)
- `alone_misses`: agents that climb their own gradients miss 11 from more than half of all starts, with either
  critic (share of teams)
- `optimists_find_it`: agents that remember the best of each action find 11 nearly always (share of teams)
- `assignment_is_ahead`: one landmark for each by the least way in all earns more than each going to its
  nearest (return of an agent)
- `ahead_of_nearest`: three agents that learn earn more than each going to its nearest, with the worse of the
  two critics (return of an agent)
- `nearest_first`: shown landmarks and others nearest first they earn more than shown them by number (return
  of an agent, critic of one agent)
- `critics_alike`: the critics' ends differ by less than a tenth of what lies between random and assignment
  (share of that distance)
</details>

<!-- /results -->

**Break it.** `rl break E9 no_turns`: turns that are none. `rl break E9 no_pull`: a magnet that does not pull.

**Exercises.**

<!-- exercises: E9 -->

*E9.1 · The heart of it* (40 minutes, hard). Write what a move is worth, (4), and what a strategy can lose,
(5): with these two any learner of section 3 is a line, and is judged exactly. `rl exercise
E9.counterfactual_values`, `rl exercise E9.nash_conv`.

*E9.2 · Smaller steps?* (10 minutes, easy). Somebody sees the orbit of (1) spiral outward and halves the step
size $\eta$ until it does not any more, in as many steps. What has been gained? And what does taking turns
gain, which costs nothing?

<details><summary>Answer</summary>

Nothing: by (2) the distance grows by $\eta^2 / 2$ of itself a step, and a lap round the equilibrium takes
$2 \pi / \eta$ steps, so that each lap carries outward by a share of $\pi \eta$. Halving $\eta$ halves that,
and doubles the steps of a lap; no $\eta > 0$ leads inward. Taking turns closes the orbit: nothing grows, so
that the average converges as $1/T$ however large $\eta < 2$ is. The last strategy does not converge then,
either.
</details>

*E9.3 · Whose noise?* (20 minutes, medium). The first agent of a team samples $a$ from its policy $\pi$, a
softmax of preferences, the other samples $b$ from its own, and the first learns from

$$\text{credit}(a, b)\; \nabla \log \pi(a), \qquad
\frac{\partial \log \pi(a)}{\partial z(k)} = 1_{k = a} - \pi(k) \tag{E1}$$

Write its exact mean, and its variance summed over the preferences, by enumeration. For both credits of
section 4 the mean is the same. Is a central critic's variance smaller, in the climbing game with even
policies? And always? `rl exercise E9.credit_gradient`.

<details><summary>Answer</summary>

With even policies it is smaller, 121 in place of 138. Not always: over teams drawn at random it is so in
little more than half of them, and at the worst it is several times larger. The central baseline moves with
$b$, and that helps where the rewards of all actions move with $b$ alike. Here they do not. Say the first
agent has all but settled on its second action: when it tries its third, which hardly depends on $b$, the
central baseline subtracts $-30$, 7 or 6, a noise that was not there.
</details>

*E9.4 · Find the bug* (10 minutes). `rl exercise E9.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(runs: list[dict], log: RunLog) -> None:
    """NashConv of poker against iterations, from one run's metrics or several's."""
    figure, ax = plotting.new_figure(width=7.6, height=4.8)
    for name, label, color in (
        ("gradient_last", "policy gradient, last", plotting.ORANGE),
        ("gradient_average", "its average", plotting.PURPLE),
        ("regret_average", "CFR, average", plotting.BLUE),
        ("magnet_last", "magnet, last", plotting.GREEN),
    ):
        rows = np.array([run[name] for run in runs])  # [runs, points, (iteration, NashConv)]
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], label, color)
    ax.plot(rows[0, :, 0], rows[0, :, 0] ** -0.5, label=r"falls as $1/\sqrt{t}$", **plotting.REFERENCE)
    ax.set(
        xscale="log", yscale="log", xlabel="iteration", ylabel="NashConv (coins a game)", title="Kuhn poker"
    )
    ax.legend(fontsize=9, loc="lower left")
    log.figure(figure)


def play_poker(cfg: Config, log: RunLog) -> None:
    """All three learners from the same beginnings; logs the median NashConv over them."""
    starts = np.random.default_rng(cfg.seed).normal(size=(cfg.num_starts, 3, 4, 2))
    for name, (step, policy) in LEARNERS.items():
        last, averages = self_play(step, policy, starts, cfg)
        log.keep(**{name: (last, averages)})
        for t, now, mean in zip(points(cfg.num_iterations), nash_conv(last), nash_conv(averages)):
            log.write(t, **{f"{name}_last": np.median(now), f"{name}_average": np.median(mean)})


def main(cfg: Config, log: RunLog) -> None:
    path = orbit((0.4, 0.1), 1000, eta=0.05, turns=True)
    conserved = (path**2).sum(axis=1) + 0.05 * path.prod(axis=1)
    log.claim(
        "closed_orbit",
        "matching pennies in turns: what section 1 says is conserved stays the same for 1,000 steps",
        np.ptp(conserved) / conserved[0],
        at_most=1e-9,
        source="algebra",
        always=True,
    )
    play_poker(cfg, log)
    log.claim(
        "regret_average",
        "CFR's average strategy loses less than a tenth of what the game is worth",
        log.last("regret_average"),
        at_most=-kuhn.VALUE / 10,
        unit="NashConv, coins a game, median start",
        source="exact best responses; the game is worth 1/18",
    )
    tail = [value for t, value in log.metrics["gradient_last"] if t >= cfg.num_iterations / 10]
    log.claim(
        "gradient_circles",
        "the policy gradient's last strategies lose more than twice what the game is worth",
        np.median(tail),
        at_least=-2 * kuhn.VALUE,
        unit="NashConv, coins a game, median over the last nine tenths",
        source="exact best responses; the game is worth 1/18",
    )
    log.claim(
        "magnet_last",
        "magnetic mirror descent's last strategy loses less than a tenth of what the game is worth",
        log.last("magnet_last"),
        at_most=-kuhn.VALUE / 10,
        unit="NashConv, coins a game, median start",
        source="exact best responses; the game is worth 1/18",
    )
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
