# %% [markdown]
r"""
# B1 · Tabular Q-learning and SARSA

**Question.** How can an agent find the best policy from experience alone, without the transition
probabilities that value iteration needs?

**Before this:** A3 (Bellman equations), B0 (exploration). **Changes from A3:** the mean over next states
becomes one sampled step, a sweep one small correction. **Next:** B2 replaces the bootstrap by whole returns.

**Time.** 25 s on 2 cores; with all evidence 50 s.

References: `watkins1992qlearning`, `rummery1994online`, `suttonbarto2018`, `robbins1951stochastic`,
`singh2000convergence`, `evendar2003learning`, `pardo2018timelimits`.

Symbols: $Q(s,a)$ action value, $\gamma$ discount, $\varepsilon$ exploration rate, $H$ time limit in steps.
"""

# %%
import random
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from chapters.exact.time_limits import best_return, expected_return, exploring_returns, greedy_policy
from chapters.utils import RunLog, UsageError, in_range, plotting, run_lesson

Table = Float[np.ndarray, "S A"]


@dataclass(frozen=True)
class Config:
    """Q-learning on FrozenLake, and SARSA against Q-learning on CliffWalking."""

    seed: int = 0
    """Seed of the agent and the environments."""
    alpha: Annotated[float, in_range(1e-6, 1.0)] = 1.0
    """Step size of an entry's first update."""
    alpha_power: Annotated[float, in_range(0.0, 1.0)] = 0.55
    """The n-th update of an entry uses alpha / n**alpha_power; 0 keeps the step size constant."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.999
    """Discount factor on the lakes (the cliff is undiscounted)."""
    epsilon_end: Annotated[float, in_range(0.0, 1.0)] = 0.3
    """Exploration rate on the lakes after falling from 1 over the first half of the steps."""
    epsilon: Annotated[float, in_range(0.01, 1.0)] = 0.1
    """Fixed exploration rate on the cliff and where ties are studied."""
    steps_4x4: Annotated[int, in_range(100, 10**8)] = 200_000
    """Environment steps on the 4x4 lake."""
    steps_8x8: Annotated[int, in_range(100, 10**8)] = 1_000_000
    """Environment steps on the 8x8 lake."""
    steps_cliff: Annotated[int, in_range(100, 10**8)] = 100_000
    """Environment steps of each learner on the cliff."""
    steps_ties: Annotated[int, in_range(100, 10**8)] = 300_000
    """Environment steps on the 8x8 lake at the fixed exploration rate."""


SMOKE = {"steps_4x4": 2_000, "steps_8x8": 2_000, "steps_cliff": 2_000, "steps_ties": 1_000}

# %% [markdown]
r"""
## 1. One sample for the expectation

Value iteration (A3) repeats the Bellman optimality update until nothing changes:

$$Q(s,a) \leftarrow R(s,a) + \gamma \sum_{s'} P(s' \mid s,a) \max_{a'} Q(s',a') \tag{1}$$

Without the model $P, R$ the agent cannot take the expectation in (1). But every step gives it one sample of
the right side of (1), the *temporal-difference* (TD) **target**. It is a label that is partly a guess:

$$y = r + \gamma\,(1 - \text{terminated}) \max_{a'} Q(s',a') \tag{2}$$

*Q-learning* moves the entry a little towards it, by a part $\alpha_n$ of the *TD error* $y - Q(s,a)$. The
part shrinks with the number $n$ of the entry's updates, faster for a larger power $p$:

$$Q(s,a) \leftarrow Q(s,a) + \alpha_n \big[ y - Q(s,a) \big], \qquad \alpha_n = \alpha / n^{p} \tag{3}$$

*By hand*: the target of a step that goes on, and of one that ends; an entry's third update, from 0 towards 1:

```python
>>> [q_learning_target(1.0, [0.2, 0.5], terminated, gamma=0.9) for terminated in (False, True)]
[1.45, 1.0]
>>> [round(td_update(0.0, 1.0, visits=3, alpha=1.0, alpha_power=power), 2) for power in (1.0, 0.55)]
[0.33, 0.55]
```

**A clock is not an end.** The guess $\gamma \max_{a'} Q(s', a')$ in (2) is called the *bootstrap*. After a
*terminated* step there is none: the world is over. A time limit *truncates* only the recording: the bootstrap
stays. Take a world of one state that pays 1 a step for ever. It is worth $1/(1-\gamma)$, which is 10 for
$\gamma = 0.9$, even if the recording is cut every ten steps. Who takes the cut for an end drops the bootstrap
in one step of ten, and so learns $Q = 1 + \tfrac{9}{10} \gamma\, Q$, which is about 5.3.

**SARSA** (state, action, reward, state, action) asks what the action $a'$ is worth that it *really* takes:

$$y = r + \gamma\,(1 - \text{terminated})\, Q(s',a') \tag{4}$$

So SARSA's table describes the agent as it acts, exploring included (*on-policy*). Q-learning's describes the
greedy policy, whatever the agent does meanwhile (*off-policy*).
"""


# %%
def q_learning_target(reward: float, next_row: list[float], terminated: bool, gamma: float) -> float:
    """What Q-learning moves towards; a truncated step still bootstraps."""
    return reward if terminated else reward + gamma * max(next_row)  # eq. (2)


def sarsa_target(
    reward: float, next_row: list[float], next_action: int, terminated: bool, gamma: float
) -> float:
    """What SARSA moves towards: the value of the action it takes next."""
    return reward if terminated else reward + gamma * next_row[next_action]  # eq. (4)


def td_update(value: float, target: float, visits: int, alpha: float, alpha_power: float) -> float:
    """An entry after its update number `visits` (counted from 1)."""
    return value + alpha / visits**alpha_power * (target - value)  # eq. (3)


# %% [markdown]
r"""
## 2. When does it converge?

Targets are noisy. To average the noise away the step sizes must fall, but not so fast that the table never
gets where it should. The conditions of Robbins and Monro (`robbins1951stochastic`) say both:

$$\sum_{n=1}^{\infty} \alpha_n = \infty, \qquad \sum_{n=1}^{\infty} \alpha_n^2 < \infty \tag{5}$$

In (3) this means $\frac12 < p \le 1$; with a constant step size the table never settles. If every entry is
updated for ever, with step sizes as in (5), rewards are bounded and $\gamma<1$, then Q-learning's table
converges to $Q^*$, *however* the agent behaves (`watkins1992qlearning`). SARSA's does if exploration fades,
but never ends (`singh2000convergence`).

How fast? The sample mean, $p = 1$, is a trap: early targets are wrong, and it never forgets them. The steps
needed can grow exponentially with $1/(1-\gamma)$; for $p < 1$ they grow only polynomially
(`evendar2003learning`). We take $p = 0.55$.

## 3. Exploration, who wins a tie, and the learner

Updating every entry for ever needs exploration. We take $\varepsilon$-greedy from B0:

$$a = \begin{cases} \text{uniform over all actions} & \text{with probability } \varepsilon \\
\text{uniform over } \arg\max_{a'} Q(s,a') & \text{otherwise} \end{cases} \tag{6}$$

Mind the second line. Until the first success every state is a tie of zeros. `np.argmax` always takes the
first action, which on FrozenLake is "left". At $\varepsilon = 0.1$ the agent then goes left more than nine
times in ten, and on ice drifts along the left wall. Even without ice most such agents end with a table of
zeros. Breaking ties at random, and nothing else, mends it.
"""


# %%
def epsilon_greedy(row: list[float], epsilon: float, rng: random.Random) -> int:
    """An action for the state whose action values are `row`; ties are broken at random, eq. (6)."""
    if rng.random() < epsilon:
        return int(rng.random() * len(row))  # rng.randrange is several times slower
    best = max(row)
    if row.count(best) == 1:
        return row.index(best)
    return rng.choice([action for action, value in enumerate(row) if value == best])


def learn(
    env: gym.Env, cfg: Config, num_steps: int, gamma: float, epsilon: float, anneal=False, sarsa=False
) -> tuple[Table, list[tuple[int, Table]], list[tuple[int, float]]]:
    """The table; the tables (step, Q) on the way to it, 25 of them; (step, return) of each episode's end."""
    rng = random.Random(cfg.seed)
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    q = [[0.0] * num_actions for _ in range(num_states)]  # [S, A], in lists: faster than NumPy for short rows
    visits = [[0] * num_actions for _ in range(num_states)]  # [S, A]
    tables, episodes, episode_return = [], [], 0.0
    rate = 1.0 if anneal else epsilon

    obs, _ = env.reset(seed=cfg.seed)
    action = epsilon_greedy(q[obs], rate, rng)
    for step in range(1, num_steps + 1):
        next_obs, reward, terminated, truncated, _ = env.step(action)
        reward = float(reward)
        if anneal:  # in a line, over half of the steps
            rate = max(epsilon, 1 - (1 - epsilon) * step / (0.5 * num_steps))
        next_action = epsilon_greedy(q[next_obs], rate, rng)

        if sarsa:
            target = sarsa_target(reward, q[next_obs], next_action, terminated, gamma)
        else:
            target = q_learning_target(reward, q[next_obs], terminated, gamma)
        visits[obs][action] += 1
        q[obs][action] = td_update(q[obs][action], target, visits[obs][action], cfg.alpha, cfg.alpha_power)

        obs, action = next_obs, next_action
        episode_return += reward
        if terminated or truncated:  # the episode is over either way; only the target tells them apart
            episodes.append((step, episode_return))
            episode_return = 0.0
            obs, _ = env.reset()
            action = epsilon_greedy(q[obs], rate, rng)
        if step % max(1, num_steps // 25) == 0:
            tables.append((step, np.array(q)))
    return np.array(q), tables, episodes


# %% [markdown]
r"""
## 4. Two worlds, and their right answers

**FrozenLake** is a slippery grid: a step goes where you meant, or to either side of it, each with probability
1/3. The goal pays 1, a hole ends the episode, the clock cuts it after $H$ = 100 steps (8x8: 200).

How good is a policy? Gymnasium keeps the true $P$ and $R$, which the learner never sees. From them we compute
$v_k(s)$, the expected sum of rewards with $k$ steps left on the clock:

$$v_k(s) = \sum_a \pi(a \mid s) \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, v_{k-1}(s') \Big]\tag{7}$$

from $v_0 = 0$ on. By (7), $v_H$ at the start is the exact chance of success. With a maximum over the actions
in place of the average over $\pi$ it is the *time-dependent optimum*: the best for an agent that may look at
the clock. Ours may not.

**CliffWalking** (`suttonbarto2018`, example 6.6): −1 a step, −100 and back to the start for stepping off the
edge, along which the shortest way runs. (7) also says what either learner should earn here.
"""


# %%
def make_lake(size: str) -> gym.Env:
    """The slippery lake, "4x4" or "8x8"; gymnasium's argument checks at every step are off for speed."""
    return gym.make({"4x4": "FrozenLake-v1", "8x8": "FrozenLake8x8-v1"}[size], disable_env_checker=True)


def learn_cliff(name: str, cfg: Config, log: RunLog) -> Table:
    """Learn by "q_learning" or "sarsa" at a fixed exploration rate; logs returns in windows of a tenth."""
    env = gym.make("CliffWalking-v1", disable_env_checker=True)
    q, _, episodes = learn(env, cfg, cfg.steps_cliff, 1.0, cfg.epsilon, sarsa=name == "sarsa")
    width = cfg.steps_cliff // 10
    for stop in range(width, cfg.steps_cliff + 1, width):
        inside = [gain for step, gain in episodes if stop - width < step <= stop]
        if inside:  # none before the first episode has ended
            log.write(stop, **{f"online_{name}": np.mean(inside)})
    late = [gain for step, gain in episodes if step > cfg.steps_cliff / 2]
    if not late:
        allowed = "allowed: more of them, or a smaller --epsilon"
        raise UsageError(f"--steps-cliff {cfg.steps_cliff}: no episode ends in the second half ({allowed})")
    log.write(cfg.steps_cliff, **{f"late_{name}": np.mean(late)})
    return q


# %% [markdown]
r"""
## 5. Look, break, write

![Left: success on both lakes nears the optimum. Right: SARSA earns more than Q-learning](results/B1.png)

**Left**, until the first success the table holds only zeros; then value spreads backwards from the goal. In
the tables (`B1_tables.png`) many arrows point *away* from a hole, into a wall. That is safe: a step may slip
to either side, but never backwards, so none of these ends in the hole.

**Right**, two right answers to two questions. Q-learning's table answers "what if I never explored again?".
Its agent walks along the edge, still explores, and keeps falling off. SARSA's answers "what if I go on as I
do?", with a detour.

![Q-learning's greedy path runs along the cliff, SARSA's keeps away from it](results/B1_cliff.png)

**Why $\gamma$ = 0.999?** A discount acts like a clock of about $1/(1-\gamma)$ steps. With 0.99 a success in
100 steps counts about a third of one now. So even its *exact* best policy hurries past holes, and falls into
some (`B1_gamma.png`).

**The verdict.** The agent averages sampled steps in place of the expectation. This comes close to the optimum
if ties are broken at random, if step sizes fall slowly and if a time limit does not stop the bootstrap. The
last matters where the world goes on for ever.

<!-- results: B1 -->

`rl run B1`: 14 s; with `--evidence`: 29 s, 501 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| time_limit_bootstraps    | 9.99                    | 10 ± 0.1      | 10/10 |
| success_4x4              | 0.74                    | ≥ 0.7219      | 10/10 |
| success_8x8              | 0.89                    | ≥ 0.8219      | 10/10 |
| random_ties_goals        | 1,318 (944 to 1,381)    | ≥ 10          | 10/10 |
| sarsa_earns_more_online  | 28.2 (26.7 to 30.4)     | ≥ 15.05       | 10/10 |
| gamma_099_stops_short *  | 0.945                   | ≤ 0.95        | 10/10 |
| gamma_099_gambles *      | 0.894                   | ≤ 0.9         | 10/10 |
| gamma_0999_never_falls * | 1                       | 1 ± 0.001     | 10/10 |
| start_value *            | 0.988 (0.97 to 1)       | 1 ± 0.1       | 10/10 |
| start_value_mean *       | 0.068 (0.0334 to 0.113) | ≤ 0.5         | 10/10 |
| ties_chance *            | 2,513,037               | ≥ 1000        | 10/10 |
| naive_argmax_goals *     | 0                       | ≤ 0           | 10/10 |
| example_table *          | 5                       | ≥ 4           | 10/10 |
| example_repaired *       | 1                       | ≥ 0.999999999 | 10/10 |
| q_learning_online *      | -49.7 (-52.8 to -48.7)  | -50.8 ± 5     | 10/10 |
| sarsa_online *           | -22.1 (-22.6 to -20.9)  | -20.71 ± 5    | 10/10 |
| q_learning_greedy_path * | -13                     | -13 ± 1e-09   | 10/10 |
| sarsa_greedy_path *      | -17 (-17 to -15)        | ≤ -15         | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `time_limit_bootstraps`: a reward of 1 for ever is worth 1/(1 - gamma), though a clock cuts episodes (value)
- `success_4x4`: on the 4x4 lake the learned policy succeeds nearly as often as the best possible (success
  rate)
- `success_8x8`: on the 8x8 lake the learned policy succeeds nearly as often as the best possible (success
  rate)
- `random_ties_goals`: at a fixed epsilon of 0.1, with random ties, the agent finds the 8x8 goal, and again
  (goals)
- `sarsa_earns_more_online`: while exploring, SARSA earns more per episode than Q-learning (return)
- `gamma_099_stops_short`: with gamma 0.99 even the exact policy stays below 95 % of the 8x8 optimum (share of
  optimum)
- `gamma_099_gambles`: why: it falls into a hole in a tenth of its episodes, however long they may last
  (success rate, no clock)
- `gamma_0999_never_falls`: the exact policy for gamma 0.999 never falls; it only runs out of time (success
  rate, no clock)
- `start_value`: the 4x4 table's value of the start is close to value iteration's (learned / exact)
- `start_value_mean`: with the sample mean (p = 1) not half of that value arrives in as many steps (learned /
  exact)
- `ties_chance`: random ties raise an untaught agent's chance to reach the 8x8 goal over a thousandfold (ratio
  of chances in one episode)
- `naive_argmax_goals`: at a fixed epsilon of 0.1 the first maximum never reaches the 8x8 goal (goals)
- `example_table`: on a 4x4 lake that is not even slippery the first maximum ends with a table of zeros (of 5
  runs)
- `example_repaired`: with random ties and nothing else changed it always reaches that goal (success rate)
- `q_learning_online`: Q-learning's online return is that of exploring around the shortest path (return)
- `sarsa_online`: SARSA's is close to the best of all policies that explore at this rate (return)
- `q_learning_greedy_path`: Q-learning's greedy path is the shortest there is: 13 steps (return)
- `sarsa_greedy_path`: SARSA's greedy path is longer (return within 100 steps)
</details>

<!-- /results -->

**Break it.** `rl break B1 merged` takes the time limit for an end. The lakes hardly notice, so this bug can
live long; the endless world of section 1 does notice. `rl break B1 first_maximum` never sees the 8x8 goal.
And which algorithm is SARSA after `rl break B1 sarsa_takes_maximum`?

**Exercises.**

<!-- exercises: B1 -->

*B1.1 · The heart of it* (20 minutes, easy). Write the two targets, (2) and (4), and the choice between
exploring and exploiting, (6). `rl exercise B1.q_learning_target`, `rl exercise B1.sarsa_target`, `rl exercise
B1.epsilon_greedy`.

*B1.2 · Optimism* (20 minutes, medium). Start the table at 1 and fix epsilon at 0.1. Why does this explore?

<details><summary>Answer</summary>

An untried action promises certain success, which no tried one does. So it is tried, until its value has come
down: the agent seeks out what it does not know, and needs no random steps for it.
</details>

*B1.3 · Expected SARSA* (15 minutes, easy). SARSA waits for one action of its $\varepsilon$-greedy policy
$\pi$. *Expected SARSA* takes the mean over all that it might choose:

$$y = r + \gamma\,(1 - \text{terminated}) \sum_{a'} \pi(a' \mid s')\, Q(s', a') \tag{E1}$$

Write this target, with the $\pi$ of (6).
Which of the two paths on the cliff will it choose? `rl exercise B1.expected_sarsa_target`.

<details><summary>Answer</summary>

The detour: like SARSA's, its table describes the policy that explores. Only the noise of the next action is
gone.
</details>

*B1.4 · Find the bug* (10 minutes). `rl exercise B1.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(runs: list[dict], log: RunLog) -> None:
    """Exact success on the lakes, returns on the cliff: from the metrics of one run or of several."""
    figure, (lake, cliff) = plotting.new_figure(1, 2)
    for ax, metric, label, color in (
        (lake, "success_4x4", "4x4", plotting.ORANGE),
        (lake, "success_8x8", "8x8", plotting.BLUE),
        (cliff, "online_sarsa", "SARSA", plotting.ORANGE),
        (cliff, "online_q_learning", "Q-learning", plotting.BLUE),
    ):
        if metric in runs[0]:
            rows = np.array([run[metric] for run in runs])  # [runs, points, (step, value)]
            plotting.seed_band(ax, rows[0, :, 0] / 1000, rows[:, :, 1], label, color)
        ax.axhline(runs[0][f"exact_{metric}"][0][1], **{**plotting.REFERENCE, "color": color})
    lake.set(title="FrozenLake", xlabel="thousand steps", ylabel="exact success rate", ylim=(0, 1))
    lake.legend(loc="lower right", title="dashed: time-dependent optimum")
    cliff.set(title="CliffWalking", xlabel="thousand steps", ylabel="return while exploring", ylim=(-100, 0))
    cliff.legend(loc="lower right", title="dashed: exact")
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    endless = gym.make("chapters.envs.registration:ProbeEndless-v0")  # 1 a step for ever, cut every ten
    endless = gym.wrappers.TransformObservation(endless, lambda obs: 0, gym.spaces.Discrete(1))
    log.claim(
        "time_limit_bootstraps",
        "a reward of 1 for ever is worth 1/(1 - gamma), though a clock cuts episodes",
        learn(endless, cfg, 2000, gamma=0.9, epsilon=0.1)[0][0, 0],
        near=(10.0, 0.1),
        unit="value",
        source="geometric series; pardo2018timelimits",
        always=True,
    )
    lakes = {}
    for size, num_steps, share in (("4x4", cfg.steps_4x4, 0.97), ("8x8", cfg.steps_8x8, 0.90)):
        lake = make_lake(size)
        lakes[size], tables, _ = learn(lake, cfg, num_steps, cfg.gamma, cfg.epsilon_end, anneal=True)
        for step, table in tables:
            log.write(step, **{f"success_{size}": expected_return(lake, greedy_policy(table))})
        log.write(num_steps, **{f"exact_success_{size}": best_return(lake)})
        log.claim(
            f"success_{size}",
            f"on the {size} lake the learned policy succeeds nearly as often as the best possible",
            expected_return(lake, greedy_policy(lakes[size])),
            at_least=share * log.last(f"exact_success_{size}"),
            unit="success rate",
            source=f"{share:.0%} of the time-dependent optimum",
            seeds="9/10",
        )
    log.claim(
        "random_ties_goals",
        "at a fixed epsilon of 0.1, with random ties, the agent finds the 8x8 goal, and again",
        sum(gain for _, gain in learn(make_lake("8x8"), cfg, cfg.steps_ties, cfg.gamma, cfg.epsilon)[2]),
        at_least=10,
        unit="goals",
        source="exact chance of a first success, far above zero",
        seeds="9/10",
    )
    log.keep(lakes=lakes, cliff={name: learn_cliff(name, cfg, log) for name in ("q_learning", "sarsa")})
    around_edge, detour = exploring_returns(gym.make("CliffWalking-v1"), cfg.epsilon, horizon=3000)
    log.write(cfg.steps_cliff, exact_online_q_learning=around_edge, exact_online_sarsa=detour)
    log.claim(
        "sarsa_earns_more_online",
        "while exploring, SARSA earns more per episode than Q-learning",
        log.last("late_sarsa") - log.last("late_q_learning"),
        at_least=(detour - around_edge) / 2,
        unit="return",
        source="half the gap between the exact returns of the two ways to explore",
        seeds="9/10",
    )
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
