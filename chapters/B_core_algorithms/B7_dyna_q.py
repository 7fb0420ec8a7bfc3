# %% [markdown]
r"""
# B7 · Dyna-Q: learning a model and planning in it

**Question.** If an agent remembers what its actions did and practises in that memory, how much less must it
do in the world? And what if the memory is wrong, or out of date?

**Before this:** A3 (planning in a given model), A4 (`true_next_obs`), B1 (Q-learning). **Changes from B1:**
after each real step $n$ imagined ones, updated alike. **Next:** B8 asks what such a comparison is worth.

**Time.** At most 15 s on 2 cores; with all evidence 20 s.

References: `sutton1990dyna`, `suttonbarto2018` (chapter 8), `moore1993prioritized`, `dijkstra1959note`,
`kearns2002simulation`, `janner2019mbpo`.

Symbols: `R` agents side by side, $n$ imagined steps for each real one, $\tau$ steps since an action was last
tried, $\kappa$ weight of the bonus for that, $\hat P$ a learned model's probabilities.
"""

# %%
import heapq
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float

from chapters.envs.exploration import epsilon_greedy
from chapters.envs.mazes import BOTH_GAPS, GAP_LEFT, MAZE, Mazes
from chapters.envs.vector import true_next_obs
from chapters.exact.mazes import steps_from_start
from chapters.exact.mdp import MDP, grid_mdp
from chapters.utils import RunLog, in_range, plotting, run_lesson

PLANS = (0, 5, 50)  # imagined steps for each real one in the book's maze
CHANGING = {"n": 10, "alpha": 1.0}  # in mazes that change; where nothing is random, 1 is no risk
Step = tuple  # one step of R agents, lived or imagined: obs, actions, rewards, next_obs, terminated, each [R]
Tables = Float[np.ndarray, "R S A"]


@dataclass(frozen=True)
class Config:
    """Dyna-Q in a maze, and in one that changes."""

    seed: int = 0
    """Seed of the agents and the worlds."""
    num_agents: Annotated[int, in_range(1, 1000)] = 50
    """Agents that learn side by side, each in its own world; curves are their means."""
    num_episodes: Annotated[int, in_range(2, 1000)] = 50
    """Episodes of each agent in the book's maze."""
    alpha: Annotated[float, in_range(0.01, 1.0)] = 0.1
    """Step size there."""
    gamma: Annotated[float, in_range(0.5, 0.99)] = 0.95
    """Discount."""
    epsilon: Annotated[float, in_range(0.01, 1.0)] = 0.1
    """Share of random actions."""
    kappa: Annotated[float, in_range(0.0, 1.0)] = 5e-4
    """Weight of Dyna-Q+'s bonus for what was not tried for long."""
    steps_each: Annotated[int, in_range(1, 10**6)] = 3000
    """Steps before a shortcut opens, and after it."""


SMOKE = {"num_agents": 1, "num_episodes": 2, "steps_each": 150}

# %% [markdown]
r"""
## 1. Practise in memory

Q-learning uses a step once and forgets it. Whoever has walked through a maze knows with closed eyes where
each corridor led. What actions lead to and pay is a **model**; to improve a policy from a model alone is to
**plan**. *Dyna* (`sutton1990dyna`) needs no second algorithm for it. After each real step it

1. *learns* from the step by one update, as in B1;
2. *remembers* what the action did in this state, $\text{model}(s, a) = (r, s', \text{terminated})$;
3. *plans*: $n$ times it draws a state that it met and an action tried there, asks the model, and makes the
   same update:

$$y = r + \gamma\,(1 - \text{terminated}) \max_{a'} Q(s', a'), \qquad
Q(s,a) \leftarrow Q(s,a) + \alpha\,\bigl(y - Q(s,a)\bigr) \tag{1}$$

*By hand*, with $\alpha = 1$: an agent has walked once through a corridor of three cells, to the goal on the
right. Only its last step has learned anything: $Q(1, \text{right}) = 1$. One imagined step from cell 0
carries the news back. In the code $R$ agents learn at once, each with a world and a table of its own: a curve
is the mean over them.

```python
>>> q = np.array([[[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])  # one agent, three cells, left and right
>>> imagined = tuple(np.array([part]) for part in (0, 1, 0.0, 1, False))  # from 0, right, to 1
>>> q_update(q, imagined, alpha=1.0, gamma=0.9)
>>> q[0, :, 1].tolist()
[0.9, 1.0, 0.0]
```

## 2. When the world changes: Dyna-Q+

A model that was right yesterday may be wrong today. If it promises too much, the agent goes there, is
disappointed and corrects it. If it promises too *little*, because a shortcut has opened, nothing ever
disappoints, and the agent does not look. **Dyna-Q+** pays itself, in imagination, for what it has not tried
for $\tau$ real steps. It imagines untried actions too, as if they had been tried at time 0, stayed in place
and paid 0:

$$r^+ = r + \kappa \sqrt{\tau} \tag{2}$$

The bonus is an imagined *reward*, so planning carries it back over any distance: the agent walks a long way
to look at an old wall once more. With $\kappa = 0$ what follows is Dyna-Q.
"""


# %%
def q_update(q: Tables, step: Step, alpha: float, gamma: float) -> None:
    """Q-learning's update in each agent's own table, in place."""
    obs, actions, rewards, next_obs, terminated = step
    agents = np.arange(len(q))
    where = (agents, obs, actions)
    targets = rewards + gamma * (1 - terminated) * q[agents, next_obs].max(axis=1)  # eq. (1), left
    q[where] += alpha * (targets - q[where])  # eq. (1), right


class Memory:
    """Each agent's model: what every action did in every state when it was last tried."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.rewards, self.terminated = np.zeros(shape), np.zeros(shape, dtype=bool)  # [R, S, A]
        self.next_obs = np.zeros(shape, dtype=int) + np.arange(shape[1])[:, None]  # untried: stays in place
        self.last_tried = np.zeros(shape, dtype=int)  # 0: never
        self.met = np.zeros(shape[:2], dtype=int)  # [R, S] the states that were met, in order
        self.num_met = np.zeros(shape[0], dtype=int)

    def store(self, step: Step, time: int) -> None:
        """Remember a real step of each agent, the time-th, counted from 1."""
        obs, actions, rewards, next_obs, terminated = step
        agents = np.arange(len(self.met))
        new = (self.last_tried[agents, obs] == 0).all(axis=1)  # [R] met for the first time
        self.met[agents[new], self.num_met[new]] = obs[new]
        self.num_met += new
        where = (agents, obs, actions)
        self.rewards[where], self.next_obs[where], self.terminated[where] = rewards, next_obs, terminated
        self.last_tried[where] = time

    def imagine(self, n: int, time: int, kappa: float, rng: np.random.Generator) -> list[Step]:
        """n steps of each agent from random states that it has met; with kappa > 0 it is curious."""
        agents = np.arange(len(self.met))
        obs = self.met[agents, (rng.random((n, len(agents))) * self.num_met).astype(int)]  # [n, R]
        allowed = (self.last_tried[agents, obs] > 0) | (kappa > 0)  # [n, R, A]
        actions = (allowed * rng.random(allowed.shape)).argmax(axis=2)
        where = (agents, obs, actions)
        rewards = self.rewards[where] + kappa * np.sqrt(time - self.last_tried[where])  # eq. (2)
        return list(zip(obs, actions, rewards, self.next_obs[where], self.terminated[where]))


def learn(
    envs: gym.vector.VectorEnv, cfg: Config, n: int, *, alpha: float, kappa=0.0, num_steps=0, num_episodes=0
) -> tuple[Tables, Memory, Float[np.ndarray, "T R"], Bool[np.ndarray, "T R"]]:
    """(tables, models, rewards, where episodes ended) after so many steps, or episodes of every agent."""
    rng = np.random.default_rng((cfg.seed, n))
    agents = np.arange(envs.num_envs)
    q = np.zeros((len(agents), int(envs.single_observation_space.n), int(envs.single_action_space.n)))
    memory, earned, ended = Memory(q.shape), [], []
    episodes = np.zeros(len(agents), dtype=int)  # [R]

    obs, _ = envs.reset(seed=cfg.seed)
    while len(earned) < num_steps or episodes.min() < num_episodes:
        actions = epsilon_greedy(q[agents, obs], cfg.epsilon, rng)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        step = (obs, actions, rewards, true_next_obs(next_obs, done, infos), terminated)
        earned.append(rewards)
        ended.append(done)
        episodes += done
        obs = next_obs

        q_update(q, step, alpha, cfg.gamma)  # learn
        memory.store(step, time=len(earned))  # remember
        for imagined in memory.imagine(n, len(earned), kappa, rng):
            q_update(q, imagined, alpha, cfg.gamma)  # plan
    return q, memory, np.array(earned), np.array(ended)


# %% [markdown]
r"""
## 3. Plan where it matters: prioritised sweeping

At first all values are 0. Of all pairs of state and action, only those right before the goal have anything to
learn: most random draws are wasted. **Prioritised sweeping** (`moore1993prioritized`) always backs up the
pair that would change most, then puts those that lead to its state in line. A pair's priority is the size of
its error, by A3's $P$ and $R(s, a)$, which are given or counted (B7.3). After the end values are 0:

$$\delta(s, a) = R(s, a) + \gamma \sum_{s'} P(s' \mid s, a) \max_{a'} Q(s', a') - Q(s, a) \tag{3}$$

Where nothing is random and only the goal pays, a pair from which the goal is $d$ steps away gets the error
$\gamma^{d-1}$. So pairs come up in order of their distance, each when its successor's value is final, and
*once*: this is Dijkstra's shortest path algorithm (`dijkstra1959note`). In the corridor, with A3's four moves
in each of two cells, it makes eight backups:

```python
>>> q, order = prioritised_sweeping(grid_mdp(["..G"], gamma=0.9), theta=1e-9)
>>> len(order), order[:3], q[0, 1].item()  # (cell, action): right from 1, right from 0, up from 1: a bump
(8, [(1, 1), (0, 1), (1, 0)], 0.9)
```
"""


# %%
def prioritised_sweeping(mdp: MDP, theta: float) -> tuple[Float[np.ndarray, "S A"], list[tuple[int, int]]]:
    """Q whose errors are at most theta: within theta / (1 - gamma) of the optimum; the pairs as they came."""
    q, values = np.zeros_like(mdp.R), np.zeros(len(mdp.R))  # [S, A], [S]

    def error(pair: tuple[int, int]) -> float:
        return float(mdp.R[pair] + mdp.gamma * mdp.P[pair] @ values - q[pair])  # eq. (3)

    queue = [(-abs(error(pair)), pair) for pair in np.ndindex(*q.shape)]
    heapq.heapify(queue)
    order = []
    while queue:
        priority, pair = heapq.heappop(queue)
        if -priority <= theta:
            break
        if -priority != abs(error(pair)):
            continue  # out of date: its error has changed since, and is in line anew
        q[pair] += error(pair)
        order.append(pair)
        state = pair[0]
        values[state] = q[state].max() * (not mdp.terminal[state])
        for before in map(tuple, np.argwhere(mdp.P[:, :, state] > 0).tolist()):  # what leads here
            heapq.heappush(queue, (-abs(error(before)), before))
    return q, order


# %% [markdown]
r"""
## 4. How wrong may a model be?

Let rewards be known, between 0 and $r_\text{max}$. For each pair let the model's probabilities of next states
be wrong by at most $\epsilon_P$ in **total variation**: half the sum of their absolute differences.

Now walk by one policy in the world and in the model, and draw both next states *together*: two distributions
that far apart can be drawn so that they agree with chance $1 - \epsilon_P$ or more. As long as they agree,
both walks earn the same. To part later is cheaper, so at worst they part at step $t$ with chance
$(1-\epsilon_P)^{t-1} \epsilon_P$. What they earn from there on differs by at most $r_\text{max}/(1-\gamma)$,
discounted by $\gamma^t$. Summed over $t \ge 1$:

$$\bigl| V^\pi_{\hat P}(s) - V^\pi_P(s) \bigr| \;\le\;
\frac{\gamma\, \epsilon_P}{1 - \gamma (1 - \epsilon_P)} \cdot \frac{r_\text{max}}{1 - \gamma}
\;\le\; \frac{\gamma\, \epsilon_P\, r_\text{max}}{(1 - \gamma)^2} \tag{4}$$

On the right stands the *simulation bound*, (1) of E2 (`kearns2002simulation` prove a similar one). The middle
cannot be improved: it is met by a world that pays 1 for ever, and a model in which that ends with chance
$\epsilon_P$ at each step. With $\gamma = 0.9$ and one step in a hundred wrong, a value of 10 may be off by
$0.009 / 0.109 \cdot 10 = 0.83$. Who acts by the model's best plan may lose twice the bound: the model can
overrate this plan and underrate the best policy.

The square says: to look ten times as far ($1 / (1 - \gamma)$ steps) with the same error takes a model a
hundred times as good (ten times for the same share of the value). Hence later methods imagine few steps, from
real states (`janner2019mbpo`).

## 5. Look, break, write

![Steps to the goal fall within three episodes for n = 50, six for n = 5, thirty for n = 0](results/B7.png)

The maze is the book's example 8.1, with a shortest path of 14 steps. After one walk to the goal $n = 50$
carries the news back within an episode or two. Without planning it moves by about a cell an episode. The
dashed line is exact: the best policy that takes a tenth of its steps at random.

![Left: shares of agents whose path is the shortest, and whose memory holds it: nearly all that never planned.
Right: backups of prioritised sweeping, and in random order](results/B7_plans.png)

**Left**, why curves end above the dashed line. Orange: agents that have learned the shortest path. Blue:
agents that would find it if they solved their remembered model exactly. With $n = 50$ nothing is left to
plan: who keeps to a detour has not *seen* anything shorter. Agents that never planned wandered and saw enough
for the shortest path, but most have not learned it. **Right**, on ever finer mazes, prioritised sweeping of
the true model makes one backup for each pair; random order makes many times as many.

![Regret when a shortcut opens and when the way is blocked: Dyna-Q's goes on rising, that of Dyna-Q+ soon far
more slowly](results/B7_changes.png)

These are the book's examples 8.3 and 8.2. *Regret*: the goals by which the best policy that explores as much
is ahead. Dyna-Q passes the shortcut by: only a run of random steps leads there. When its way is blocked, it
walks among cells that still promise each other a goal. The promise fades by $\gamma$ an update, but stays
above 0, and 0 is what the unknown behind the new gap is worth. Half of the agents or more then earn nothing
(in the book they do find the gap). Dyna-Q+ goes and looks, for ever: a slope stays.

![Against the tries that a model is counted from: how far its values are off and what acting on it loses fall,
and the bound of (4) lies far above](results/B7_bound.png)

A model counted from $m$ tries of each pair errs as $1/\sqrt m$, far below (4).

**The verdict.** With fifty imagined steps for each real one, three episodes do the work of thirty; what is
missing then is knowledge, not planning. A wrong model may misjudge a policy by up to (4), and acting on it
may lose twice that. One that has become too gloomy is hardly found out by following it: the agent must be
paid to look.

<!-- results: B7 -->

`rl run B7`: 10 s; with `--evidence`: 15 s, 124 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| one_backup_each         | 184                             | 184 ± 0    | 10/10 |
| planning_saves_episodes | 0.5 (0.429 to 0.5)              | ≤ 0.6      | 10/10 |
| plus_takes_shortcut     | 0.083 (0.0804 to 0.0842)        | ≥ 0.0625   | 10/10 |
| planned_is_exact *      | 2.56e-11 (2.24e-11 to 3.39e-11) | ≤ 1e-08    | 10/10 |
| backups_2x *            | 748                             | 748 ± 0    | 10/10 |
| backups_4x *            | 3,004                           | 3004 ± 0   | 10/10 |
| random_order_ratio *    | 16.5 (14.7 to 17.8)             | ≥ 5        | 10/10 |
| plan_finds_shortest *   | 1                               | ≥ 0.95     | 10/10 |
| nothing_left_to_plan *  | 1                               | ≥ 0.95     | 10/10 |
| plain_misses_shortcut * | 0.055 (0.0548 to 0.0554)        | ≤ 0.0625   | 10/10 |
| plus_finds_detour *     | 0.0539 (0.0538 to 0.0542)       | ≥ 0.02851  | 10/10 |
| plain_stays_blocked *   | 0                               | ≤ 0.02851  | 10/10 |
| coupling_bound *        | 0.772 (0.708 to 0.872)          | ≤ 1        | 10/10 |
| simulation_bound *      | 0.688 (0.579 to 0.798)          | ≤ 1        | 10/10 |
| bound_is_met *          | 1                               | 1 ± 1e-09  | 10/10 |
| loss_bound *            | 0.0183 (0.0151 to 0.0198)       | ≤ 1        | 10/10 |
| counted_slope *         | -0.505 (-0.527 to -0.496)       | -0.5 ± 0.1 | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `one_backup_each`: prioritised sweeping solves the known maze with one backup for each pair of state and
  action (backups)
- `planning_saves_episodes`: from n = 0 to 5, and from 5 to 50, the episodes until 25 % above the best fall to
  at most this part (larger of the two ratios)
- `plus_takes_shortcut`: in the end Dyna-Q+ earns more than anyone could without the shortcut (goals per step)
- `planned_is_exact`: planning to the end in a model counted from a slippery world gives that model's exact
  optimum (largest difference)
- `backups_2x`: one backup for each pair also where each cell is cut into 2 x 2 (backups)
- `backups_4x`: one backup for each pair also where each cell is cut into 4 x 4 (backups)
- `random_order_ratio`: random order needs this many times the backups of prioritised sweeping, on the
  coarsest maze (times the backups)
- `plan_finds_shortest`: planned to the end, what agents remember that never planned holds the shortest path
  (share of agents)
- `nothing_left_to_plan`: with n = 50 the greedy path is as short as planning to the end would make it (share
  of agents)
- `plain_misses_shortcut`: in the end Dyna-Q earns no more than one could without the shortcut (goals per
  step)
- `plus_finds_detour`: after its way was blocked Dyna-Q+ earns at least half of what the best does that
  explores as much (goals per step)
- `plain_stays_blocked`: at least half of the Dyna-Q agents earn less than half of that (goals per step,
  median agent)
- `coupling_bound`: no value of a policy in a wrong model misses by more than the middle of (4) (largest error
  / bound)
- `simulation_bound`: nor by more than the simulation bound on the right of (4) (largest error / bound)
- `bound_is_met`: in the world that may break the error is the middle of (4) (error / bound, the furthest)
- `loss_bound`: acting by the best plan in a counted model never loses more than twice the bound (largest loss
  / bound)
- `counted_slope`: a counted model's values err as one over the root of the number of tries (slope, log-log)
</details>

<!-- /results -->

**Break it.** `rl break B7 never_plans`: Q-learning by a longer name. `rl break B7 no_bonus`: nobody looks.
`rl break B7 tells_nobody`: sweeping without the news. Predict how many backups are made.

**Exercises.**

<!-- exercises: B7 -->

*B7.1 · The heart of it* (35 minutes, medium). Write the update that serves lived and imagined steps alike,
(1), and the sweeping that always takes the largest error of (3). `rl exercise B7.q_update`, `rl exercise
B7.prioritised_sweeping`.

*B7.2 · Who knows more?* (10 minutes, easy). Agents that never planned wander longest, and yet it is in
*their* memory that planning to the end finds the shortest path. Why? What would you do with a new world of
which you may see 10,000 steps?

<details><summary>Answer</summary>

Who plans finds a way early and keeps to it, apart from a tenth of its steps; what lies elsewhere it hardly
sees. Who does not plan stumbles about until it has tried everything. Exploring and exploiting are in each
other's way, however well one plans. So: explore first, for the model's sake (or as Dyna-Q+ does, by a bonus),
and plan to the end afterwards.
</details>

*B7.3 · Count* (20 minutes, medium). On a slippery floor the last outcome says little. So count all of them.
The model that makes what was seen most likely is

$$\hat P(s' \mid s, a) = \frac{N(s, a, s')}{N(s, a)}, \qquad
\hat R(s, a) = \text{mean reward of the } N(s, a) \text{ tries} \tag{E1}$$

A pair that was never tried has $\hat P = 0$ for each $s'$, and $\hat R = 0$.
The evidence plans in such a model. `rl exercise B7.counted_model`.

*B7.4 · When curiosity wins* (15 minutes, easy). Dyna-Q+ stands before a wall that it last tried $\tau$ steps
ago: the model says "stays in place, pays 0". To go its usual way from here is worth $V$. To try the wall
first is worth $\kappa\sqrt\tau + \gamma V$ in the model: it earns the bonus, and the usual way is still there
afterwards. So it tries the wall once $\tau$ exceeds

$$\tau^\ast = \Bigl( \frac{(1 - \gamma)\, V}{\kappa} \Bigr)^2 \tag{E2}$$

Derive it and write it. How long is that at the start of the maze with the gap on the left, 16 steps from the
goal, and what becomes of it with twice the $\kappa$? `rl exercise B7.waiting_time`.

<details><summary>Answer</summary>

Trying is better when $\kappa\sqrt\tau + \gamma V > V$; solve that for $\tau$. With $V = 0.95^{15} = 0.46$ and
$\kappa = 5 \cdot 10^{-4}$ it waits 2,146 steps. With twice the $\kappa$ it waits a quarter as long, and looks
at old walls four times as often, for ever after. Hence a tiny $\kappa$.
</details>

*B7.5 · Find the bug* (10 minutes). `rl exercise B7.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(runs: list[dict], log: RunLog) -> None:
    """Steps an episode in the book's maze, from the metrics of one run or of several."""
    figure, ax = plotting.new_figure(width=7.2)
    for n, color in zip(PLANS, plotting.COLOURS):
        rows = np.array([run[f"steps_n{n}"] for run in runs])  # [runs, episodes, (episode, steps)]
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], f"n = {n}", color)
    ax.axhline(runs[0]["best_steps"][0][1], label="best policy that explores", **plotting.REFERENCE)
    ax.set(xlabel="episode", ylabel="steps to the goal", yscale="log", title="Imagined steps save real ones")
    ax.legend()
    log.figure(figure)


def learn_in_maze(cfg: Config, log: RunLog) -> None:
    """Agents with n = 0, 5 and 50 in the book's maze; logs their mean steps an episode."""
    best = steps_from_start(MAZE, cfg.epsilon)
    log.write(0, best_steps=best)
    for n in PLANS:
        envs = Mazes(cfg.num_agents, MAZE)
        q, memory, _, ended = learn(envs, cfg, n, alpha=cfg.alpha, num_episodes=cfg.num_episodes)
        lengths = [np.diff(np.flatnonzero(column), prepend=-1)[: cfg.num_episodes] for column in ended.T]
        steps = np.mean(lengths, axis=0)  # [E]
        for episode, mean in enumerate(steps, start=1):
            log.write(episode, **{f"steps_n{n}": mean})
        needed = np.append(steps <= 1.25 * best, True).argmax() + 1
        log.write(cfg.num_episodes, **{f"episodes_needed_n{n}": needed})
        log.keep(**{f"n{n}": (q, memory)})


def learn_changing(grids: tuple, steps: tuple, cfg: Config) -> dict[str, Float[np.ndarray, "T R"]]:
    """What Dyna-Q and Dyna-Q+ earn where a maze changes after the first of so many steps."""
    earned = {}
    for name, kappa in (("plain", 0.0), ("plus", cfg.kappa)):
        envs = Mazes(cfg.num_agents, *grids, change_after=steps[0])
        earned[name] = learn(envs, cfg, **CHANGING, kappa=kappa, num_steps=sum(steps))[2]
    return earned


def main(cfg: Config, log: RunLog) -> None:
    maze = grid_mdp(MAZE, cfg.gamma)
    _, order = prioritised_sweeping(maze, theta=1e-9)
    log.claim(
        "one_backup_each",
        "prioritised sweeping solves the known maze with one backup for each pair of state and action",
        len(order),
        near=(maze.R[~maze.terminal].size, 0.0),
        unit="backups",
        source="Dijkstra's algorithm: each pair's successor is final when its turn comes",
        always=True,
    )
    learn_in_maze(cfg, log)
    none, some, many = (log.last(f"episodes_needed_n{n}") for n in PLANS)
    log.claim(
        "planning_saves_episodes",
        "from n = 0 to 5, and from 5 to 50, the episodes until 25 % above the best fall to at most this part",
        max(some / none, many / some),
        at_most=3 / 5,
        unit="larger of the two ratios",
        source="suttonbarto2018, figure 8.2: about 25, 5 and 3 episodes",
        seeds="9/10",
    )
    earned = learn_changing((GAP_LEFT, BOTH_GAPS), 2 * (cfg.steps_each,), cfg)
    log.keep(shortcut=earned)
    log.claim(
        "plus_takes_shortcut",
        "in the end Dyna-Q+ earns more than anyone could without the shortcut",
        earned["plus"][-cfg.steps_each // 3 :].mean(),
        at_least=1 / steps_from_start(GAP_LEFT),
        unit="goals per step",
        source="exact: one over the shortest path before the change",
        seeds="9/10",
    )
    draw([log.metrics], log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
