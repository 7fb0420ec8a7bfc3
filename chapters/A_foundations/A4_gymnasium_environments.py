# %% [markdown]
r"""
# A4 · Environments: the Gymnasium contract

**Question.** What exactly does an environment promise, and which of its promises does code that learns from
it easily break?

**Before this:** A3 (grid worlds as arrays, solved exactly). **Changes from A3:** the arrays are hidden inside
a program; one can only reset it and step it. **Next:** B0 learns by trying, in the smallest world there is.

**Time.** 8 s on 2 cores; with all evidence 20 s.

References: `towers2024gymnasium`, `pardo2018timelimits`, `mannor2007bias`.

Symbols: `T` steps, `N` environments side by side, `S` states, `P[s, a, s']`, `gamma` and `V` as in A3.
"""

# %%
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, Int

from chapters.envs import make_envs, registration, true_next_obs  # noqa: F401 — registers GridWorld-v0
from chapters.envs.gridworld import MAP
from chapters.exact.batches import episode_steps, standard_errors
from chapters.exact.mdp import MDP, evaluate_exactly, grid_mdp
from chapters.utils import RunLog, in_range, plotting, run_lesson

START = "".join(MAP).index("S")


@dataclass(frozen=True)
class Config:
    """Play the slippery grid world at random, and learn its values from what it hands out."""

    seed: int = 0
    """Seed of the environments and of the actions."""
    num_envs: Annotated[int, in_range(1, 10_000)] = 64
    """N: environments side by side."""
    num_steps: Annotated[int, in_range(10, 1_000_000)] = 5000
    """T: steps of each of them."""
    time_limit: Annotated[int, in_range(2, 10_000)] = 12
    """Steps after which an episode is cut short."""
    slip: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """Probability of moving at a right angle to the action."""
    gamma: Annotated[float, in_range(0.0, 0.999)] = 0.95
    """Discount of the values in section 4."""


SMOKE = {"num_envs": 8, "num_steps": 200}

# %% [markdown]
r"""
## 1. The contract: reset, step, and two ways to end

An environment is an object with two methods. `reset` begins an episode and returns what the agent sees first,
the **observation**. `step` takes an action and returns five things: observation, reward, two flags and a
dictionary of extras. Ours is the 4x3 world of A3 as a program (`chapters/envs/gridworld.py`, a short read).
Cells are counted row by row. From its start `S`, cell 8, the agent goes up to cell 4:

```python
>>> MAP
('...G', '.#.P', 'S...')
>>> env = gym.make("GridWorld-v0", slip=0.0)
>>> obs, info = env.reset(seed=7)
>>> obs, reward, terminated, truncated, info = env.step(0)
>>> obs, reward, terminated, truncated
(4, -0.04, False, False)
```

The last two are not the same. **Terminated**: the world ended, and what follows is worth 0. **Truncated**:
somebody stopped watching; the world goes on, and its value there is what it always was. Mostly that is a time
limit, a counter that `gym.make` adds. Both may be true in one step. With a limit of one step:

```python
>>> env = gym.make("GridWorld-v0", slip=0.0, max_episode_steps=1)
>>> env.reset(seed=7)[0], env.step(0)[:4]
(8, (4, -0.04, False, True))
```

## 2. Spaces and wrappers

`env.observation_space` and `env.action_space` say what `obs` and `action` can be: `Discrete(n)` is a whole
number from 0 to n − 1, such as a token id; `Box(low, high, shape)` an array between bounds; `Dict` and
`Tuple` put spaces together. A **wrapper** is an environment around an environment: it changes one thing, an
observation, a reward, a limit, and passes the rest through. A network would take cell 8 for twice cell 4, so
you would write this one first:

```python
>>> env = OneHot(gym.make("GridWorld-v0"))
>>> env.reset(seed=7)[0]
array([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
```
"""


# %%
class OneHot(gym.ObservationWrapper):
    """Turns a number below n into a vector of n numbers: a one in its place, zeros elsewhere."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        num_values = int(env.observation_space.n)
        self.observation_space = gym.spaces.Box(0, 1, shape=(num_values,), dtype=np.int64)

    def observation(self, observation: int) -> Int[np.ndarray, " n"]:
        return np.eye(len(self.observation_space.low), dtype=np.int64)[observation]


# %% [markdown]
r"""
## 3. Many environments at once, and who resets them

A **vector environment** steps N environments with one call; observations, rewards and flags become arrays of
length N. Episodes end at different times, so it must reset each environment by itself (**autoreset**). There
are two ways to do it, and both surprise. Suppose environment $i$ ends at step t:

| | `obs[i]` of step t | step t+1 for $i$ |
|---|---|---|
| same-step | first of the **next** episode; the old one's last is `infos["final_obs"][i]` | a normal step |
| next-step (the default) | last of the old episode | a **dummy** to drop: action ignored, reset, reward 0 |

This course uses same-step everywhere (`make_envs`). There, `obs` is not always the successor of the state you
were in. With a limit of two steps, up and up again lead to cells 4 and 0, but `step` then shows the start:

```python
>>> envs = make_envs("GridWorld-v0", 1, slip=0.0, max_episode_steps=2)
>>> obs, infos = envs.reset(seed=7)
>>> obs, rewards, terminated, truncated, infos = envs.step(np.array([0]))
>>> obs, rewards, terminated, truncated, infos = envs.step(np.array([0]))
>>> obs.tolist(), true_next_obs(obs, terminated | truncated, infos).tolist()
([8], [0])
```
"""


# %%
class Batch(NamedTuple):
    """Transitions as a learner would store them."""

    obs: Int[np.ndarray, "T N"]
    actions: Int[np.ndarray, "T N"]
    rewards: Float[np.ndarray, "T N"]
    returned_obs: Int[np.ndarray, "T N"]
    """What `step` returned: after an autoreset, already the next episode."""
    next_obs: Int[np.ndarray, "T N"]
    """The true successor."""
    terminated: Bool[np.ndarray, "T N"]
    truncated: Bool[np.ndarray, "T N"]


def collect(envs: gym.vector.VectorEnv, num_steps: int, seed: int) -> Batch:
    """`num_steps` steps of the random policy in every environment."""
    rng = np.random.default_rng([seed, 1])  # not `seed`: that is the environments' own stream
    obs, _ = envs.reset(seed=seed)
    steps = []
    for actions in rng.integers(envs.single_action_space.n, size=(num_steps, envs.num_envs)):
        returned_obs, rewards, terminated, truncated, infos = envs.step(actions)
        next_obs = returned_obs
        if "final_obs" in infos:  # only same-step has it
            next_obs = true_next_obs(returned_obs, terminated | truncated, infos)
        steps.append((obs, actions, rewards, returned_obs, next_obs, terminated, truncated))
        obs = returned_obs  # where the next step starts, whatever the successor was
    return Batch(*(np.stack(column) for column in zip(*steps)))


# %% [markdown]
r"""
## 4. What the mistakes cost: values learned from a batch

By A3, the value of $s$ is the mean of *reward plus $\gamma$ times the successor's value*. So look for the
table $V$ with which the errors seen in each state, *temporal-difference errors*, average to zero. That is one
linear equation for each $s$:

$$\sum_{t :\, s_t = s}
\Bigl( r_t + \gamma\,(1 - \text{terminated}_t)\, V(s_{t+1}) - V(s_t) \Bigr) = 0 \tag{1}$$

It is A3's linear solve, with counted transitions in the place of probabilities. By hand: of three steps from
state 0, two led to state 1 and paid nothing, and one ended and paid 3; from state 1, the one step ended and
paid 1. Then $V_1 = 1$ and $V_0 = \frac13 (0.9 \cdot 1 + 0.9 \cdot 1 + 3) = 1.6$:

```python
>>> obs, next_obs = np.array([0, 0, 0, 1]), np.array([1, 1, 2, 2])
>>> rewards, ended = np.array([0.0, 0.0, 3.0, 1.0]), np.array([False, False, True, True])
>>> td_solution(obs, rewards, next_obs, ended, gamma=0.9, num_states=3).round(6).tolist()
[1.6, 1.0, 0.0]
```

Chance leaves an error of known size (mannor2007bias; `chapters/exact/batches.py`). So we can say in
**standard errors** how far an estimate is from the exact value: chance gives a few, a mistake many.
"""


# %%
def td_solution(
    obs: Int[np.ndarray, "*batch"],
    rewards: Float[np.ndarray, "*batch"],
    next_obs: Int[np.ndarray, "*batch"],
    ended: Bool[np.ndarray, "*batch"],
    gamma: float,
    num_states: int,
) -> Float[np.ndarray, " S"]:
    """The value table that solves (1), with `ended` as its mask; states never visited are 0."""
    visits = np.bincount(obs.ravel(), minlength=num_states)  # [S]
    paid = np.bincount(obs.ravel(), weights=rewards.ravel(), minlength=num_states)  # [S]
    going_on = np.zeros((num_states, num_states))
    np.add.at(going_on, (obs, next_obs), 1.0 - ended)  # [S, S]; unlike going_on[...] += 1, repeats add up
    system = np.diag(np.maximum(visits, 1.0)) - gamma * going_on
    return np.linalg.solve(system, paid)  # eq. (1)


# %% [markdown]
r"""
## 5. Seeds

`reset(seed=7)` seeds the environment's own generator, `env.np_random`; a later `reset()` goes on drawing from
it, so episodes differ and the whole run repeats. In a vector environment, environment $i$ gets the seed
$7 + i$. Two traps. Actions from `action_space.sample()` have a generator of their own, which `reset` does not
touch: hence "but I did set the seed". And `env.np_random` is then `np.random.default_rng(7)`: an agent with a
generator of its own from the same seed draws the very numbers that its world draws. `collect` takes
`default_rng([seed, 1])`.

## 6. Look, break, write

![The start cell's value, learned in four ways; only one meets the exact value](results/A4.png)

Taking the time limit for an end is worst: the episode would have gone on losing 0.04 a step and now and then
fallen into the pit, so life looks better than it is. The other mistakes are smaller, so harder to find. Both
do harm only at *truncated* steps: at a terminated one the mask takes the wrong successor out, and nobody uses
the value of the end that a dummy starts from.

The evidence compares the counts of where each action led with A3's $P$ by a chi-square test, which a slip
probability a tenth too high does not pass. It replays seeds, and times many environments in one program.

**The verdict.** An environment promises five things a step. The one that learning code easily breaks (A2
names a library that does) also costs most here: that *truncated* is not *terminated*. Merging them, taking
the first observation of the next episode for a successor, or keeping dummy steps shifts the learned values by
many standard errors, without an error message, and more data does not help.

<!-- results: A4 -->

`rl run A4`: 3 s; with `--evidence`: 10 s, 194 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| terminated           | 1                                  | ≥ 1     | 10/10 |
| truncated            | 1                                  | ≥ 1     | 10/10 |
| true_successors      | 0                                  | ≤ 0     | 10/10 |
| value                | 1.49 (1.15 to 2.34)                | ≤ 4     | 10/10 |
| value_merged         | 74.9 (74.3 to 76.2)                | ≥ 8     | 10/10 |
| check_env *          | 0                                  | ≤ 0     | 10/10 |
| one_hot *            | 0                                  | ≤ 0     | 10/10 |
| seeds *              | 0                                  | ≤ 0     | 10/10 |
| native_parity *      | 0                                  | ≤ 0     | 10/10 |
| transitions *        | 0.511 (0.229 to 0.841)             | ≥ 0.001 | 10/10 |
| native_transitions * | 0.65 (0.233 to 0.88)               | ≥ 0.001 | 10/10 |
| power *              | 1.51e-108 (1.54e-111 to 2.29e-104) | ≤ 0.001 | 10/10 |
| wrong_successors *   | 1                                  | ≥ 1     | 10/10 |
| dummies *            | 1                                  | ≥ 1     | 10/10 |
| value_obs *          | 23.9 (23.1 to 24.6)                | ≥ 8     | 10/10 |
| value_dummies *      | 18.2 (17.3 to 19.5)                | ≥ 8     | 10/10 |
| native_speed *       | 17 (10.9 to 18.1)                  | ≥ 4     | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `terminated`: terminated comes exactly when the successor is an end (of steps)
- `truncated`: truncated comes exactly when the time limit strikes (of steps)
- `true_successors`: no transition to the true successor is impossible under A3's P (steps)
- `value`: right successor, right mask: the values are right (std. errors)
- `value_merged`: time limit taken for an end: the values are wrong (std. errors)
- `check_env`: check_env has nothing to complain about (complaints)
- `one_hot`: our one-hot wrapper equals gymnasium's FlattenObservation (differ)
- `seeds`: environment i of a vector seeded s replays one seeded s + i (differ)
- `native_parity`: without slip, the vector-native world repeats the single one (differ)
- `transitions`: the program's transitions fit A3's P (p-value)
- `native_transitions`: the vector-native program's transitions fit A3's P (p-value)
- `power`: the same test rejects a slip probability a tenth off (p-value)
- `wrong_successors`: taking obs for the successor is impossible under P, at every terminated step (of ends)
- `dummies`: next-step autoreset adds a dummy transition after each end (of ends)
- `value_obs`: obs taken for the successor: the values are wrong (std. errors)
- `value_dummies`: dummy transitions kept: the values are wrong (std. errors)
- `native_speed`: 64 worlds in one NumPy program outrun a loop over 64 (times faster)
</details>

<!-- /results -->

**Break it.** `rl break A4 merged` is the classic, and `rl break A4 final_obs_forgotten` the quieter one. `rl
break A4 continues_old_episode` looks like tidying up: `obs = next_obs`. But then, after each end, the batch
goes on from the old episode's last state while the environment is in the new one. Which two claims notice?

**Exercises.**

<!-- exercises: A4 -->

*A4.1 · The heart of it* (40 minutes, medium). Write how a batch is collected, with the true successor of
every step, and how values are learned from it. `rl exercise A4.collect`, `rl exercise A4.td_solution`.

*A4.2 · A clock in the state* (20 minutes, easy). Write a wrapper that shows the number of steps taken beside
the observation. With it, is the time limit an end or a truncation? `rl exercise A4.Clock`.

<details><summary>Answer</summary>

If the task is to do well *within* the limit, the step number makes the limit part of the state, and reaching
it ends the world: terminated. Without the step number the agent cannot know, and the limit must not count as
an end (pardo2018timelimits).
</details>

*A4.3 · Throw the dummies away* (15 minutes, easy). A batch from gymnasium's default, next-step, holds a dummy
after each end. Write the mask of the steps that really happened. What does `td_solution` make of these alone?
`rl exercise A4.real_steps`.

<details><summary>Answer</summary>

The right values, as from a same-step batch of as many real steps: next-step hands out the true successors.
</details>

*A4.4 · Longer limits* (10 minutes, easy). Raise `--time-limit` to 50 and to 200. In which order do the
mistakes fade?

<details><summary>Answer</summary>

All three live on truncated steps, and with a limit of 200 almost no episode is truncated: they fade together,
and the bars move to the line.
</details>

*A4.5 · Find the bug* (10 minutes). `rl exercise A4.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    mdp = grid_mdp(MAP, cfg.gamma, slip=cfg.slip, step_reward=-0.04)
    options = {"slip": cfg.slip, "max_episode_steps": cfg.time_limit}
    batch = collect(make_envs("GridWorld-v0", cfg.num_envs, **options), cfg.num_steps, cfg.seed)
    by_default = gym.vector.SyncVectorEnv([lambda: gym.make("GridWorld-v0", **options)] * cfg.num_envs)
    next_step = collect(by_default, cfg.num_steps, cfg.seed)
    log.keep(mdp=mdp, batch=batch, next_step=next_step)
    claim_endings(cfg, log, mdp, batch)

    exact = evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25))
    errors = standard_errors(mdp, exact, batch.obs, batch.rewards, batch.next_obs, batch.terminated)
    floor = ~mdp.terminal
    ways = {
        "right": (batch, batch.next_obs, batch.terminated),
        "merged": (batch, batch.next_obs, batch.terminated | batch.truncated),
        "obs": (batch, batch.returned_obs, batch.terminated),
        "dummies": (next_step, next_step.returned_obs, next_step.terminated),
    }
    starts, off = {}, {}
    for name, (data, next_obs, ended) in ways.items():
        V = td_solution(data.obs, data.rewards, next_obs, ended, cfg.gamma, len(exact))
        starts[name] = V[START]
        off[name] = float(np.max(np.abs(V - exact)[floor] / errors[floor]))
        log.write(cfg.num_steps * cfg.num_envs, **{f"start_value_{name}": V[START], f"off_{name}": off[name]})
    log.claim(
        "value",
        "right successor, right mask: the values are right",
        off["right"],
        at_most=4.0,
        unit="std. errors",
        source="A3's linear solve; standard errors of the 9 cells",
        seeds="9/10",
    )
    log.claim(
        "value_merged",
        "time limit taken for an end: the values are wrong",
        off["merged"],
        at_least=8.0,
        unit="std. errors",
        source="twice the bound of the right way",
        seeds="9/10",
    )
    draw(log, starts, exact[START], errors[START])


def claim_endings(cfg: Config, log: RunLog, mdp: MDP, batch: Batch) -> None:
    """What arrives when an episode ends."""
    done = batch.terminated | batch.truncated
    log.claim(
        "terminated",
        "terminated comes exactly when the successor is an end",
        np.mean(batch.terminated == mdp.terminal[batch.next_obs]),
        at_least=1.0,
        unit="of steps",
        source="definition",
        always=True,
    )
    log.claim(
        "truncated",
        "truncated comes exactly when the time limit strikes",
        np.mean(batch.truncated == (episode_steps(done) == cfg.time_limit)),
        at_least=1.0,
        unit="of steps",
        source="definition",
        always=True,
    )
    log.claim(
        "true_successors",
        "no transition to the true successor is impossible under A3's P",
        np.sum(mdp.P[batch.obs, batch.actions, batch.next_obs] == 0),
        at_most=0,
        unit="steps",
        source="P",
        always=True,
    )


def draw(log: RunLog, starts: dict[str, float], exact: float, error: float) -> None:
    """Value of the start cell, learned in four ways."""
    ways = ["all right", "time limit taken\nfor an end", "obs taken for\nthe successor", "dummies\nkept"]
    colours = [plotting.GREEN, plotting.RED, plotting.ORANGE, plotting.PURPLE]
    figure, ax = plotting.new_figure(width=7.4)
    ax.bar(ways, list(starts.values()), yerr=2 * error, color=colours, width=0.6, capsize=5)
    ax.axhline(exact, label=f"exact value {exact:.3f} (A3)".replace("-", "−"), **plotting.REFERENCE)
    ax.set_ylabel("learned value of the start cell\n(bar: ± 2 standard errors)")
    ax.set(title="One world, four ways to read what it says", ylim=(1.35 * min(*starts.values(), exact), 0.0))
    ax.legend(loc="lower left")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
