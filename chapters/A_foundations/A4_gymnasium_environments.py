# %% [markdown]
r"""
# A4 · Environments: the Gymnasium contract

**Question.** What exactly does an environment promise, and which of its promises does code that learns from
it break most often?

**Before this:** A3 (the grid world as arrays, solved exactly). **Changes from A3:** the arrays are hidden
inside a program; one can only reset it and step it. We check that the program and the arrays are the same
world. **Next:** B1 learns in such a program without ever seeing the arrays.

**Time budget.** 20 s on 2 cores.

<!-- results: A4 -->

`rl run A4`: 7 s, 209 MB. `rl run A4 --smoke`: 3 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| check_env          | 0                                  | ≤ 0     | 10/10 |
| one_hot            | 0                                  | ≤ 0     | 10/10 |
| seeds              | 0                                  | ≤ 0     | 10/10 |
| native_parity      | 0                                  | ≤ 0     | 10/10 |
| transitions        | 0.511 (0.178 to 0.947)             | ≥ 0.001 | 10/10 |
| native_transitions | 0.65 (0.141 to 0.909)              | ≥ 0.001 | 10/10 |
| power              | 1.51e-108 (1.36e-112 to 8.82e-104) | ≤ 0.001 | 10/10 |
| terminated         | 1                                  | ≥ 1     | 10/10 |
| truncated          | 1                                  | ≥ 1     | 10/10 |
| true_successors    | 0                                  | ≤ 0     | 10/10 |
| wrong_successors   | 1                                  | ≥ 1     | 10/10 |
| dummies            | 1                                  | ≥ 1     | 10/10 |
| value              | 1.49 (0.756 to 2.85)               | ≤ 4     | 10/10 |
| value_merged       | 74.9 (73.7 to 76.5)                | ≥ 8     | 10/10 |
| value_obs          | 23.9 (23 to 25)                    | ≥ 8     | 10/10 |
| value_dummies      | 18.2 (17.2 to 19.7)                | ≥ 8     | 10/10 |
| native_speed       | 15.6 (15.3 to 16)                  | ≥ 4     | 10/10 |

<!-- /results -->

References: `towers2024gymnasium`, `pardo2018timelimits`, `russellnorvig2010aima`, `billingsley1961`,
`mannor2007bias`.

Symbols: `T` steps, `N` environments side by side, `S` states, `A` actions, `P[s, a, s']`, `gamma` and `V` as
in A3.
"""

# %%
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2

from chapters.envs import (
    make_envs,
    registration,  # noqa: F401 — registers GridWorld-v0
    true_next_obs,
)
from chapters.envs.gridworld import MAP
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson

Array = np.ndarray  # A3 allows JAX too
MOVES = (
    (-1, 0),
    (0, 1),
    (1, 0),
    (0, -1),
)  # actions 0 to 3: up, right, down, left, as (row step, column step)
EXIT_REWARD = {"G": 1.0, "P": -1.0, "T": 0.0}  # goal, pit, and an end without reward
START = "".join(MAP).index("S")
BEST_POLICY = (1, 1, 1, 0, 0, 0, 0, 0, 0, 3, 3, 3)  # by A3, for the default world
MISTAKES = {
    "merged": "time limit taken for an end: the values are wrong",
    "obs": "obs taken for the successor: the values are wrong",
    "dummies": "dummy transitions kept: the values are wrong",
}


# %%
@dataclass(frozen=True)
class Config:
    """Play the grid world, and hold what it hands out to the arrays of A3."""

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
    """Discount of the values in section 5."""
    speed_steps: Annotated[int, in_range(100, 10_000_000)] = 40_000
    """Environment steps for each measurement of speed."""


SMOKE = {"num_envs": 8, "num_steps": 200, "speed_steps": 500}

# %% [markdown]
r"""
## 1. The contract

An environment is an object with two methods and two spaces. `obs, info = env.reset(seed=...)` begins an
episode. `obs, reward, terminated, truncated, info = env.step(action)` takes one step. `env.observation_space`
and `env.action_space` say what `obs` and `action` can be: `Discrete(n)` is a token id below n, `Box(low,
high, shape)` a bounded array, `Dict` and `Tuple` put spaces together. Everything in between, such as
resetting after an end or seeding, is the caller's business.

Ours is `chapters/envs/gridworld.py`, registered as `GridWorld-v0`: read it now, it is one page. The time
limit is not in it. The registration states one, and `gym.make` wraps the environment in `TimeLimit`, which
counts steps and sets `truncated`. `check_env` plays an environment and complains about broken promises.

The two flags say different things. **Terminated**: the world ended; nothing follows, and the value of what
follows is 0. **Truncated**: somebody stopped watching; the world goes on, and its value there is what it
always was. Both may be true in one step.

## 2. Is the program the world we think it is?

A3 wrote this world as arrays. The class and the function below are A3's, to the letter.
"""


# %%
class MDP(NamedTuple):
    """A finite Markov decision process."""

    P: Float[Array, "S A S"]
    """P[s, a, s2]: probability that action a in state s leads to s2."""
    R: Float[Array, "S A"]
    """Expected reward of action a in state s."""
    terminal: Bool[Array, " S"]
    """Where the process has ended: no reward, nothing after it."""
    gamma: float
    """How much a reward one step later counts (1: as much)."""


# same-as: A3.grid_mdp
def grid_mdp(
    grid: Sequence[str], gamma: float, slip: float = 0.0, step_reward: float = 0.0, bump_reward: float = 0.0
) -> MDP:
    """The arrays of a grid: G goal (+1), P pit (-1), T end without reward, # wall, everything else floor.

    With probability `slip` the agent moves at a right angle to its action, half the time to either side. A
    move into a wall or off the grid leaves it in place and adds `bump_reward`. State number: row * columns +
    column. Nobody is ever inside a wall; walls count as terminal, so that their value is 0.
    """
    cells = np.array([list(row) for row in grid])  # [rows, columns]
    rows, columns = cells.shape
    terminal = np.isin(cells, ["#", *EXIT_REWARD]).ravel()  # [S]
    P, R = np.zeros((cells.size, len(MOVES), cells.size)), np.zeros((cells.size, len(MOVES)))
    for s, a in product(range(cells.size), range(len(MOVES))):
        if terminal[s]:
            P[s, a, s] = 1.0  # absorbing, reward 0
            continue
        for turn, probability in ((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2)):
            move = MOVES[(a + turn) % len(MOVES)]
            row, column = s // columns + move[0], s % columns + move[1]
            blocked = not (0 <= row < rows and 0 <= column < columns) or cells[row, column] == "#"
            next_s = s if blocked else row * columns + column
            reward = step_reward + bump_reward * blocked + EXIT_REWARD.get(cells.flat[next_s], 0.0)
            P[s, a, next_s] += probability
            R[s, a] += probability * reward  # R is the mean over where the agent may land
    return MDP(P, R, terminal, gamma)


# %% [markdown]
r"""
Play at random for a while and count. If the program follows $P$, then of the $n(s, a)$ visits to a pair about
$n(s, a)\,P(s' \mid s, a)$ end in $s'$, and Pearson's statistic

$$X^2 = \sum_{s, a, s' :\, P(s' \mid s, a) > 0}
\frac{\bigl(n(s, a, s') - n(s, a)\,P(s' \mid s, a)\bigr)^2}{n(s, a)\,P(s' \mid s, a)} \tag{1}$$

follows the chi-square law with one degree of freedom less than there are outcomes, summed over the pairs.
That the samples come from a chain rather than from independent throws does no harm (billingsley1961). A
single transition with $P = 0$ settles the matter: then the program is another world.
"""


# %%
def count_transitions(
    obs: Int[np.ndarray, "*batch"],
    actions: Int[np.ndarray, "*batch"],
    next_obs: Int[np.ndarray, "*batch"],
    num_states: int,
    num_actions: int,
) -> Int[np.ndarray, "S A S"]:
    """How often each action in each state led to each state."""
    counts = np.zeros((num_states, num_actions, num_states), dtype=np.int64)
    np.add.at(counts, (obs, actions, next_obs), 1)  # unlike counts[...] += 1, repeats add up
    return counts


def chi_square_p_value(counts: Int[np.ndarray, "S A S"], P: Float[np.ndarray, "S A S"]) -> float:
    """How probable counts this far from `P` are, if `P` is right. Pairs with too few visits are left out."""
    if counts[P == 0].any():
        return 0.0  # something impossible happened
    expected = counts.sum(axis=2, keepdims=True) * P  # [S, A, S]
    possible = P > 0
    # the usual rule: the chi-square law needs five expected visits of each outcome
    enough = np.where(possible, expected, np.inf).min(axis=2) >= 5  # [S, A]
    cells = possible & enough[:, :, None]
    statistic = np.sum((counts - expected)[cells] ** 2 / expected[cells])  # eq. (1)
    degrees = cells.sum() - enough.sum()
    return float(chi2.sf(statistic, degrees)) if degrees else 1.0


# %% [markdown]
r"""
## 3. Wrappers

A wrapper is an environment around an environment. It changes one thing, an observation, a reward, a limit,
and passes the rest through; `env.unwrapped` is the innermost. A network cannot read cell number 8, so here is
the wrapper that you would write first.
"""


# %%
class OneHot(gym.ObservationWrapper):
    """Turns a number below n into a vector of n zeros with a single one."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 1, shape=(int(env.observation_space.n),), dtype=np.int64)

    def observation(self, observation: int) -> Int[np.ndarray, " n"]:
        return np.eye(len(self.observation_space.low), dtype=np.int64)[observation]


# %% [markdown]
r"""
## 4. Many environments at once, and who resets them

A vector environment steps N environments with one call; observations, rewards and flags become arrays of
length N. Episodes end at different times, so it must reset each environment by itself (**autoreset**). There
are two ways to do it, and both surprise. Suppose environment $i$ ends at step t:

| | `obs[i]` of step t | step t+1 for $i$ |
|---|---|---|
| same-step | first of the **next** episode; the old one's last is `infos["final_obs"][i]` | as always |
| next-step (gymnasium's default) | last of the old episode | ignores the action, resets, reward 0 |

So with same-step, `obs` is not always the successor of the state you were in; `true_next_obs` of
`chapters/utils` picks the right one. With next-step, the successors are right, but step t+1 is a **dummy**, a
transition that never happened, and must be thrown away. This course uses same-step everywhere (`make_envs`).
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
        if "final_obs" in infos:
            next_obs = true_next_obs(returned_obs, terminated | truncated, infos)
        steps.append((obs, actions, rewards, returned_obs, next_obs, terminated, truncated))
        obs = returned_obs  # where the next step starts, whatever the successor was
    return Batch(*(np.stack(column) for column in zip(*steps)))


def episode_steps(done: Bool[np.ndarray, "T N"]) -> Int[np.ndarray, "T N"]:
    """The number of each step within its episode, from 1."""
    steps = np.ones(done.shape, dtype=np.int64)
    for t in range(1, len(done)):
        steps[t] = np.where(done[t - 1], 1, steps[t - 1] + 1)
    return steps


# %% [markdown]
r"""
## 5. What the mistakes cost

Let us learn a value function from such a batch and see. With a table, the values at which all
temporal-difference errors of a state average to zero solve a linear system, one equation for each state $s$:

$$\sum_{t :\, s_t = s}
\Bigl( r_t + \gamma\,(1 - \text{terminated}_t)\, V(s_{t+1}) - V(s_t) \Bigr) = 0 \tag{2}$$

This is where TD(0) ends up if it runs over the batch for ever; no step size, no noise of its own. With right
successors and the right mask it is A3's evaluation with counted instead of true probabilities. The counts
make its error (mannor2007bias): with $M = I - \gamma P_\pi$, ends masked as in A3, and $\sigma_s^2$ the
variance of one target in state $s$ visited $n_s$ times,

$$\mathrm{Cov}(V) \approx M^{-1}\, \mathrm{diag}\bigl(\sigma_s^2 / n_s\bigr)\, M^{-\top}. \tag{3}$$

The exact values, to compare with, come from A3's linear solve,

$$(I - \gamma P_\pi)\, V = R_\pi. \tag{4}$$

So we can say in standard errors how far an estimate is off. Chance gives 1 or 2; a mistake gives tens.
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
    """The value table that solves (2); states never visited are 0.

    `ended` is the mask of the bootstrap. It should be `terminated`, and nothing else.
    """
    visits = np.bincount(obs.ravel(), minlength=num_states)  # [S]
    going_on = np.zeros((num_states, num_states))
    np.add.at(going_on, (obs, next_obs), 1.0 - ended)  # [S, S]
    system = np.diag(np.maximum(visits, 1.0)) - gamma * going_on  # eq. (2)
    return np.linalg.solve(system, np.bincount(obs.ravel(), weights=rewards.ravel(), minlength=num_states))


# same-as: A3.evaluate_exactly
def evaluate_exactly(mdp: MDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, " S"]:
    """The value of a policy by a linear solve."""
    P_policy = np.einsum("sa,sat->st", policy, mdp.P) * ~mdp.terminal  # [S, S], nothing comes after an end
    R_policy = (policy * mdp.R).sum(axis=1)  # [S]
    return np.linalg.solve(np.eye(len(R_policy)) - mdp.gamma * P_policy, R_policy)  # eq. (4)


def standard_errors(mdp: MDP, V: Float[np.ndarray, " S"], batch: Batch) -> Float[np.ndarray, " S"]:
    """How far (2) is off by chance, per state, if the random policy's true value is `V`."""
    targets = batch.rewards + mdp.gamma * ~batch.terminated * V[batch.next_obs]  # [T, N]
    squares = np.square(targets - V[batch.obs])
    visits = np.maximum(np.bincount(batch.obs.ravel(), minlength=len(V)), 1)  # [S]
    variance = np.bincount(batch.obs.ravel(), weights=squares.ravel(), minlength=len(V)) / visits
    inverse = np.linalg.inv(np.eye(len(V)) - mdp.gamma * mdp.P.mean(axis=1) * ~mdp.terminal)
    return np.sqrt(np.diag(inverse @ np.diag(variance / visits) @ inverse.T))  # eq. (3)


# %% [markdown]
r"""
## 6. A vector-native environment

`SyncVectorEnv` is a Python loop: it saves nothing. The way to speed is to write the environment itself for N
states at once, so that one NumPy call moves all of them. Random numbers, moves, rewards and resets become
array operations, and a table says where each move leads.
"""


# %%
class BatchedGridWorld(gym.vector.VectorEnv):
    """`num_envs` times GridWorld in NumPy (same moves, rewards and ends), with same-step autoreset."""

    def __init__(
        self,
        num_envs: int,
        grid: Sequence[str] = MAP,
        slip: float = 0.2,
        step_reward: float = -0.04,
        max_episode_steps: int = 50,
    ) -> None:
        self.num_envs, self.slip, self.step_reward = num_envs, slip, step_reward
        self.max_episode_steps = max_episode_steps
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        cells = "".join(grid)
        self.start = cells.index("S")
        self.landing = grid_mdp(grid, gamma=1.0).P.argmax(axis=2)  # [S, 4] where each direction leads
        self.exit_reward = np.array([EXIT_REWARD.get(symbol, 0.0) for symbol in cells])  # [S]
        self.ends = np.array([symbol in EXIT_REWARD for symbol in cells])  # [S]
        self.single_observation_space = gym.spaces.Discrete(len(cells))
        self.single_action_space = gym.spaces.Discrete(len(MOVES))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cells = np.full(self.num_envs, self.start)  # [N]
        self.elapsed = np.zeros(self.num_envs, dtype=np.int64)  # [N] steps since the episode began
        return self.cells.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        chance = self.np_random.random(self.num_envs)
        turn = (chance < self.slip / 2).astype(int) - ((chance >= self.slip / 2) & (chance < self.slip))
        self.cells = self.landing[self.cells, (actions + turn) % 4]
        self.elapsed += 1
        rewards = self.step_reward + self.exit_reward[self.cells]
        terminated, truncated = self.ends[self.cells], self.elapsed >= self.max_episode_steps
        done, infos = terminated | truncated, {}
        if done.any():
            infos = {"final_obs": self.cells, "_final_obs": done}
            self.cells = np.where(done, self.start, self.cells)
            self.elapsed[done] = 0
        return self.cells.copy(), rewards, terminated, truncated, infos


# %% [markdown]
r"""
## 7. Seeds

`reset(seed=7)` seeds the environment's own generator, `env.np_random`; a later `reset()` goes on drawing from
it, so episodes differ and the whole run repeats. In a vector environment, `reset(seed=7)` gives environment
$i$ the seed $7 + i$.

Two traps. Actions drawn from `action_space.sample()` have a generator of their own, which `reset` does not
touch: the usual reason why "I did set the seed" did not help. And `env.np_random` after `reset(seed=7)` is
bit for bit `np.random.default_rng(7)`: an agent that draws from `default_rng(7)` too gets the same numbers as
its world, and chance is no longer chance. `collect` takes `default_rng([seed, 1])`.

## 8. Run, look, break

**Look** at `A4.png`: the value of the start cell, learned from equally many steps in four ways. Only one
lands on A3's exact value. Taking the time limit for an end is the worst: the episode would have gone on
losing 0.04 a step, and all of that is forgotten, so life looks better than it is. The other two mistakes are
smaller and so harder to find. Notice what they have in common: at a *terminated* step the mask multiplies the
wrong successor by zero, and no harm is done. It is the truncated steps that spoil the values: `obs` is then
the start of the next episode, and the value of the start cell is counted instead of that of the cell the
agent was on. An environment whose time limit never strikes cannot show you the bug.

`A4_speed.png`: the loop over many environments is slower than one alone, whatever N. The NumPy version pays
once for each call, so at N = 1 it is no better, and from there its speed grows almost in proportion to N.
`A4_film.gif` shows A3's best policy at play: where it does not follow the arrows of `A3.png`, it slipped.

**Break it.** In `collect`, write `obs = next_obs` for `obs = returned_obs`. It looks like tidying up. Now,
after each end, the batch goes on from the old episode's last state while the environment is already in the
new one: the chi-square test finds impossible transitions and its p-value is 0.

**Exercises.** (1) Raise `--time-limit` to 50 and to 200. Predict the order in which the three mistakes fade.
(2) Write a wrapper that adds the number of the current step to the observation. With it, is the time limit an
end or a truncation? (3) How large must `--num-steps` be for the chi-square test to notice a slip probability
wrong by one part in a hundred? Its power grows with the square of the error.

<details><summary>Answers</summary>

(1) All three live on truncated steps, and with a limit of 200 almost no episode is truncated: they fade
together, the bars move to the line. (2) If the task is to do well *within* the limit, the step number makes
the limit part of the state, and reaching it ends the world: terminated. Without the step number the agent
cannot know, and the end of the limit must not count (pardo2018timelimits). (3) Between 20,000 and 50,000. A
tenth off is noticed with about 500, and a tenth of the error takes a hundred times the steps.

</details>
"""


# %%
def complaints() -> int:
    """How many promises `check_env` finds broken."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(gym.make("GridWorld-v0").unwrapped)
        except Exception as error:  # check_env raises whatever it stumbled over
            print(f"check_env: {error}")
            return 1
    return len(caught)


def seed_differences(num_envs: int, num_steps: int, seed: int) -> int:
    """Steps in which a vector environment and single ones, seeded by hand, show different things."""
    envs = SyncVectorEnv(
        [lambda: gym.make("GridWorld-v0")] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )
    batch = collect(envs, num_steps, seed)
    different = 0
    for i in range(num_envs):
        env = gym.make("GridWorld-v0")
        obs, _ = env.reset(seed=seed + i)
        for t in range(num_steps):
            different += int(obs != batch.obs[t, i])
            obs, _, terminated, truncated, _ = env.step(batch.actions[t, i])
            if terminated or truncated:
                obs, _ = env.reset()
    return different


def parity_differences(num_envs: int, num_steps: int, seed: int) -> int:
    """Entries in which the vector-native world and gymnasium's loop over ours differ, without slipping."""
    native = collect(BatchedGridWorld(num_envs, slip=0.0, max_episode_steps=12), num_steps, seed)
    loop = collect(make_envs("GridWorld-v0", num_envs, slip=0.0, max_episode_steps=12), num_steps, seed)
    return sum(int((ours != theirs).sum()) for ours, theirs in zip(native, loop))


# %%
def contract(cfg: Config, log: RunLog) -> None:
    """check_env, wrapper, seeds, parity: promises that hold exactly or not at all."""
    exact = {"at_most": 0, "always": True}
    log.claim("check_env", "check_env has nothing to complain about", complaints(), unit="complaints",
              source="gymnasium's own checker", **exact)  # fmt: skip
    ours, theirs = (wrapper(gym.make("GridWorld-v0")) for wrapper in (OneHot, FlattenObservation))
    different = sum(int((ours.observation(s) != theirs.observation(s)).sum()) for s in range(12))
    log.claim("one_hot", "our one-hot wrapper equals gymnasium's FlattenObservation", different,
              unit="differ", source="gymnasium.wrappers.FlattenObservation", **exact)  # fmt: skip
    steps = min(cfg.num_steps, 200)
    log.claim("seeds", "environment i of a vector seeded s replays one seeded s + i",
              seed_differences(4, steps, cfg.seed), unit="differ",
              source="gymnasium's rule", **exact)  # fmt: skip
    log.claim("native_parity", "without slip, the vector-native world repeats the single one",
              parity_differences(8, steps, cfg.seed), unit="differ",
              source="GridWorld-v0, step by step", **exact)  # fmt: skip


def transitions(cfg: Config, log: RunLog, mdp: MDP, batch: Batch, native: Batch) -> None:
    """The program against the arrays."""
    p_value = {}
    for name, data in (("loop", batch), ("native", native)):
        counts = count_transitions(data.obs, data.actions, data.next_obs, *mdp.R.shape)
        p_value[name] = chi_square_p_value(counts, mdp.P)
        log.write(cfg.num_steps * cfg.num_envs, **{f"p_value_{name}": p_value[name]})
    off = grid_mdp(MAP, cfg.gamma, slip=1.1 * cfg.slip)
    doubted = chi_square_p_value(
        count_transitions(batch.obs, batch.actions, batch.next_obs, *mdp.R.shape), off.P
    )
    level = {"at_least": 0.001, "unit": "p-value", "seeds": "9/10"}
    log.claim("transitions", "the program's transitions fit A3's P", p_value["loop"],
              source="chi-square test; a right P falls below once in 1000 seeds", **level)  # fmt: skip
    log.claim("native_transitions", "so do the vector-native program's", p_value["native"],
              source="chi-square test; a right P falls below once in 1000 seeds", **level)  # fmt: skip
    log.claim("power", "the same test rejects a slip probability a tenth off", doubted,
              at_most=0.001, unit="p-value", source="the level of the test above", seeds="9/10")  # fmt: skip


def endings(cfg: Config, log: RunLog, mdp: MDP, batch: Batch, next_step: Batch) -> None:
    """What arrives when an episode ends."""
    done = batch.terminated | batch.truncated
    impossible = mdp.P[batch.obs, batch.actions, batch.returned_obs] == 0
    late = next_step.terminated | next_step.truncated
    after = late[:-1]  # [T - 1, N] whose next step is a reset
    dummy = (next_step.rewards[1:] == 0) & (next_step.returned_obs[1:] == START)
    share = {"at_least": 1.0, "always": True}
    log.claim("terminated", "terminated comes exactly when the successor is an end",
              np.mean(batch.terminated == mdp.terminal[batch.next_obs]), unit="of steps",
              source="definition", **share)  # fmt: skip
    log.claim("truncated", "truncated comes exactly when the time limit strikes",
              np.mean(batch.truncated == (episode_steps(done) == cfg.time_limit)), unit="of steps",
              source="definition", **share)  # fmt: skip
    log.claim("true_successors", "no transition to true_next_obs is impossible under P",
              np.sum(mdp.P[batch.obs, batch.actions, batch.next_obs] == 0), at_most=0, unit="steps",
              source="P", always=True)  # fmt: skip
    log.claim("wrong_successors", "taking obs for it is, at every terminated step",
              np.mean(impossible[batch.terminated]), unit="of ends", source="P", **share)  # fmt: skip
    log.claim("dummies", "next-step autoreset adds a dummy transition after each end",
              np.mean(dummy[after]), unit="of ends", source="gymnasium's AutoresetMode", **share)  # fmt: skip


def values(cfg: Config, log: RunLog, mdp: MDP, batch: Batch, next_step: Batch) -> None:
    """The random policy's values learned in four ways, against the exact ones."""
    exact = evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25))
    errors = standard_errors(mdp, exact, batch)
    ways = {
        "right": (batch, batch.next_obs, batch.terminated),
        "merged": (batch, batch.next_obs, batch.terminated | batch.truncated),
        "obs": (batch, batch.returned_obs, batch.terminated),
        "dummies": (next_step, next_step.returned_obs, next_step.terminated),
    }
    starts, floor = {}, ~mdp.terminal
    for name, (data, next_obs, ended) in ways.items():
        V = td_solution(data.obs, data.rewards, next_obs, ended, cfg.gamma, len(exact))
        starts[name] = V[START]
        off = float(np.max(np.abs(V - exact)[floor] / errors[floor]))
        log.write(cfg.num_steps * cfg.num_envs, **{f"start_value_{name}": V[START], f"off_{name}": off})
        if name == "right":
            log.claim("value", "right successor, right mask: the values are right",
                      off, at_most=4.0, unit="std. errors", seeds="9/10",
                      source="A3's linear solve; equation (3), 9 cells")  # fmt: skip
        else:
            log.claim(f"value_{name}", MISTAKES[name], off, at_least=8.0, unit="std. errors", seeds="9/10",
                      source="twice the bound of the right way")  # fmt: skip
    draw_values(log, starts, exact[START], errors[START])


def draw_values(log: RunLog, starts: dict[str, float], exact: float, error: float) -> None:
    """Value of the start cell, learned in four ways."""
    figure, ax = plotting.new_figure(width=7.4)
    labels = [
        "all right",
        "time limit taken\nfor an end",
        "obs taken for\nthe successor",
        "dummy steps\nkept",
    ]
    colours = [plotting.GREEN, plotting.RED, plotting.ORANGE, plotting.PURPLE]
    ax.bar(labels, list(starts.values()), yerr=2 * error, color=colours, width=0.6, capsize=5)
    ax.axhline(exact, label=f"exact value {exact:.3f} (A3)".replace("-", "−"), **plotting.REFERENCE)
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set(
        ylabel="learned value of the start cell\n(bar: ± 2 standard errors)",
        title="One batch, four ways to read it",
    )
    ax.set_ylim(1.35 * min(*starts.values(), exact), 0.05)
    ax.legend(loc="lower left")
    log.figure(figure)


# %%
def steps_per_second(env: gym.Env | gym.vector.VectorEnv, num_steps: int) -> float:
    """Environment steps per CPU second under random actions; the best of three rounds."""
    num_envs = getattr(env, "num_envs", None)
    calls = max(num_steps // (num_envs or 1), 20)
    actions = np.random.default_rng(0).integers(4, size=(calls, num_envs) if num_envs else calls)
    env.reset(seed=0)
    rates = []
    for _ in range(3):
        clock = CpuClock()
        with clock:
            for action in actions:
                _, _, terminated, truncated, _ = env.step(action)
                if num_envs is None and (terminated or truncated):
                    env.reset()
        rates.append(actions.size / max(clock.seconds, 1e-9))
    return max(rates)


def speed(cfg: Config, log: RunLog) -> None:
    """Steps per second of one environment, a loop over many, and many in one."""
    single = steps_per_second(gym.make("GridWorld-v0"), cfg.speed_steps)
    sizes = (1, 8, 64, 512)
    for num_envs in sizes:
        log.write(
            num_envs,
            single_steps_per_second=single,
            sync_steps_per_second=steps_per_second(make_envs("GridWorld-v0", num_envs), cfg.speed_steps),
            native_steps_per_second=steps_per_second(BatchedGridWorld(num_envs), cfg.speed_steps),
        )
    sync, native = (log.series(f"{kind}_steps_per_second")[1] for kind in ("sync", "native"))
    log.claim("native_speed", "64 worlds in one NumPy program outrun a loop over 64", native[2] / sync[2],
              at_least=4.0, unit="times faster", timed=True,
              source="one NumPy call for all against a Python call for each")  # fmt: skip

    figure, ax = plotting.new_figure()
    ax.loglog(sizes, native, "o-", label="vector-native (NumPy)", color=plotting.BLUE)
    ax.loglog(sizes, sync, "s-", label="SyncVectorEnv (a loop)", color=plotting.ORANGE)
    ax.axhline(single, label="one environment", **plotting.REFERENCE)
    ax.set(xlabel="environments side by side", ylabel="steps per CPU second", title="GridWorld: speed")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.legend()
    log.figure(figure, "speed")


def film(cfg: Config, log: RunLog) -> None:
    """A3's best policy at play; where the disc leaves the arrow's way, it slipped."""
    env = gym.make("GridWorld-v0", render_mode="rgb_array", slip=cfg.slip)
    obs, _ = env.reset(seed=cfg.seed)
    frames = [env.render()]
    for _ in range(40):
        obs, _, terminated, truncated, _ = env.step(BEST_POLICY[obs])
        frames.append(env.render())
        if terminated or truncated:
            frames += [frames[-1]] * 2
            obs, _ = env.reset()
            frames.append(env.render())
    log.film(frames, fps=4)


# %%
def main(cfg: Config, log: RunLog) -> None:
    mdp = grid_mdp(MAP, cfg.gamma, slip=cfg.slip, step_reward=-0.04)
    options = {"slip": cfg.slip, "max_episode_steps": cfg.time_limit}
    batch = collect(make_envs("GridWorld-v0", cfg.num_envs, **options), cfg.num_steps, cfg.seed)
    native = collect(BatchedGridWorld(cfg.num_envs, **options), cfg.num_steps, cfg.seed)
    late = SyncVectorEnv([lambda: gym.make("GridWorld-v0", **options)] * cfg.num_envs)  # next-step autoreset
    next_step = collect(late, cfg.num_steps, cfg.seed)

    contract(cfg, log)
    transitions(cfg, log, mdp, batch, native)
    endings(cfg, log, mdp, batch, next_step)
    values(cfg, log, mdp, batch, next_step)
    speed(cfg, log)
    film(cfg, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
