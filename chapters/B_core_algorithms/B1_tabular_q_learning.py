# %% [markdown]
r"""
# B1 · Tabular Q-learning and SARSA

**Question.** How can an agent find the best policy from experience alone, without the transition
probabilities that value iteration needs?

**Before this:** A3 (Bellman equations, value iteration) and B0 (exploration). **Changes from A3:** the
expectation over next states becomes one sampled step, and a full sweep becomes one small correction.
**Next:** B2 replaces the bootstrap by whole returns; B3 and B4 replace the table by a network.

**Time budget.** 40 s on 2 cores.

<!-- results: B1 -->

`rl run B1`: 18 s, 501 MB. `rl run B1 --smoke`: 2 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| time_limit_bootstraps   | 9.99                   | 10 ± 0.1    | 10/10 |
| gamma_099_stops_short   | 0.945                  | ≤ 0.95      | 10/10 |
| gamma_099_gambles       | 0.894                  | ≤ 0.9       | 10/10 |
| gamma_0999_never_falls  | 1                      | 1 ± 0.001   | 10/10 |
| success_4x4             | 0.74                   | ≥ 0.7219    | 10/10 |
| success_8x8             | 0.89 (0.886 to 0.89)   | ≥ 0.8219    | 10/10 |
| start_value             | 0.988 (0.961 to 1.01)  | 1 ± 0.1     | 10/10 |
| start_value_mean        | 0.068 (0.0279 to 0.13) | ≤ 0.5       | 10/10 |
| ties_chance             | 2,513,037              | ≥ 1000      | 10/10 |
| naive_argmax_goals      | 0                      | ≤ 0         | 10/10 |
| random_ties_goals       | 1,318 (484 to 1,493)   | ≥ 10        | 10/10 |
| example_table           | 5 (4 to 5)             | ≥ 4         | 10/10 |
| example_repaired        | 1                      | ≥ 1         | 10/10 |
| sarsa_earns_more_online | 28.2 (26 to 32)        | ≥ 15.05     | 10/10 |
| q_learning_online       | -49.7 (-53 to -47.6)   | -50.8 ± 5   | 10/10 |
| sarsa_online            | -22.1 (-22.7 to -20.8) | -20.71 ± 5  | 10/10 |
| q_learning_greedy_path  | -13                    | -13 ± 1e-09 | 10/10 |
| sarsa_greedy_path       | -17 (-17 to -15)       | ≤ -15       | 10/10 |

<!-- /results -->

References: `watkins1992qlearning`, `rummery1994online`, `suttonbarto2018`, `evendar2003learning`,
`pardo2018timelimits`.

Symbols: $S$ states, $A$ actions, $Q(s,a)$ action value, $\gamma$ discount, $\varepsilon$ exploration rate,
$\alpha_n$ step size of the n-th update of an entry, $H$ time limit in steps.
"""

# %%
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Int

from chapters.utils import RunLog, in_range, plotting, run_lesson

LAKE_ARROWS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (row, column) step of left, down, right, up
WINDOWS = 25  # points in each learning curve
Values = Float[np.ndarray, " S"]
Table = Float[np.ndarray, "S A"]
Dynamics = Float[np.ndarray, "S A S"]


# %%
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
    """Fixed exploration rate on the cliff and in the tie-breaking runs."""
    steps_4x4: Annotated[int, in_range(100, 10**8)] = 200_000
    """Environment steps on the 4x4 lake."""
    steps_8x8: Annotated[int, in_range(100, 10**8)] = 1_000_000
    """Environment steps on the 8x8 lake."""
    steps_cliff: Annotated[int, in_range(100, 10**8)] = 100_000
    """Environment steps of each learner on the cliff."""
    steps_ties: Annotated[int, in_range(100, 10**8)] = 300_000
    """Environment steps of each tie-breaking run."""


SMOKE = {"steps_4x4": 2_000, "steps_8x8": 2_000, "steps_cliff": 2_000, "steps_ties": 1_000}

# %% [markdown]
r"""
## 1. With a model: what is there to learn?

FrozenLake is a grid of ice with holes. The ice is slippery: a step goes where you meant, or to either side
of it, each with probability 1/3. Reaching the goal G pays 1, a hole H ends the episode with 0, and the
clock ends it after $H$ = 100 steps (4x4) or 200 (8x8). What comes next depends only on the present state
and action, not on how we got there: that is the *Markov* property, and it is why one table row per state is
enough.

Gymnasium keeps the transition table in `env.unwrapped.P`. The learner below never looks at it. We do, to know
the right answers. Value iteration (A3) repeats the Bellman optimality update until nothing changes:

$$Q(s,a) \leftarrow R(s,a) + \gamma \sum_{s'} P(s' \mid s,a) \max_{a'} Q(s',a') \tag{1}$$

How good is a policy *in the world as it is*, with its clock? That needs no sampled episodes. With $k$ steps
left,

$$v_k(s) = \sum_a \pi(a \mid s) \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, v_{k-1}(s') \Big],
\qquad v_0 = 0 \tag{2}$$

so $v_H$ at the start is the exact chance of success. With a maximum in place of the average over actions it
is the *time-dependent optimum*, the best that anyone can do who may also look at the clock:

$$v^*_k(s) = \max_a \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, v^*_{k-1}(s') \Big], \qquad v^*_0 = 0 \tag{3}$$

Our agent sees only its position, so it may fall a little short of (3) even if it learns perfectly.
"""


# %%
class Model(NamedTuple):
    """The environment's dynamics as arrays."""

    transitions: Dynamics  # terminal successors left out: a row sums to 1 minus the chance of ending
    rewards: Table  # expected
    start: Values  # distribution of the first state


def read_model(env: gym.Env) -> Model:
    """The model of a gymnasium toy-text environment."""
    table = env.unwrapped.P
    transitions = np.zeros((len(table), len(table[0]), len(table)))  # [S, A, S]
    rewards = np.zeros(transitions.shape[:2])  # [S, A]
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for probability, successor, reward, terminated in outcomes:
                rewards[state, action] += probability * reward
                transitions[state, action, successor] += probability * (not terminated)
    return Model(transitions, rewards, np.asarray(env.unwrapped.initial_state_distrib, dtype=float))


def value_iteration(model: Model, gamma: float, tolerance: float = 1e-10) -> Table:
    """The optimal action values without a time limit, to within `tolerance` * gamma / (1 - gamma)."""
    q = np.zeros_like(model.rewards)
    while True:
        updated = model.rewards + gamma * model.transitions @ q.max(axis=1)  # eq. (1)
        if np.abs(updated - q).max() < tolerance:
            return updated
        q = updated


def greedy_policy(q: Table) -> Table:
    """Probabilities of the policy that takes a best action, ties (up to rounding) with equal chance."""
    best = q >= q.max(axis=1, keepdims=True) - 1e-9
    return best / best.sum(axis=1, keepdims=True)


def evaluate_exactly(model: Model, policy: Table, horizon: int) -> Values:
    """Expected undiscounted return of `policy` from each state within `horizon` steps."""
    values = np.zeros(len(model.rewards))
    for _ in range(horizon):
        values = (policy * (model.rewards + model.transitions @ values)).sum(axis=1)  # eq. (2)
    return values


def best_within(model: Model, horizon: int, epsilon: float = 0.0) -> Values:
    """The time-dependent optimum; with `epsilon` > 0 among policies that explore at that rate."""
    values = np.zeros(len(model.rewards))
    for _ in range(horizon):
        q = model.rewards + model.transitions @ values  # [S, A]
        values = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)  # eq. (3) if epsilon = 0
    return values


# %% [markdown]
r"""
## 2. Without a model: temporal differences

The agent cannot take the expectation in (1), but every step hands it a sample $(s, a, r, s')$ of what stands
behind it. That sample is the **TD target**:

$$y = r + \gamma\,(1 - \text{terminated}) \max_{a'} Q(s',a') \tag{4}$$

Q-learning moves the entry a little towards it. The difference $y - Q(s,a)$ is the *TD error*: a prediction
error like that of a regression whose label is partly the model's own estimate.

$$Q(s,a) \leftarrow Q(s,a) + \alpha_n \big[ y - Q(s,a) \big], \qquad \alpha_n = \alpha / n^{p} \tag{5}$$

`terminated` and `truncated` mean different things. In a hole the world is over: nothing follows, so the
bootstrap is dropped. When the clock runs out the *recording* is over, but the state still has its value, so
the bootstrap stays. Only `terminated` appears in (4).

SARSA differs in one symbol. It asks what the action $a'$ that it *will really take* is worth, so its table
describes the exploring agent itself (*on-policy*), where Q-learning's describes the greedy one
(*off-policy*):

$$y = r + \gamma\,(1 - \text{terminated})\, Q(s',a') \tag{6}$$

**Step size.** To average the noise away, $\alpha_n$ must shrink: $p > 0$. The sample mean, $p = 1$, looks
natural and is a trap. The target moves as the table fills, and a mean never forgets its early, wrong
targets: the steps needed then grow exponentially with $1/(1-\gamma)$, for $p$ between 1/2 and 1 only
polynomially (`evendar2003learning`). We take $p = 0.55$, close to the slowest decay that the
convergence theorem allows ($p > 1/2$): the table moves far enough in a run of fixed length and still settles.
"""


# %%
def q_learning_target(reward: float, next_row: list[float], terminated: bool, gamma: float) -> float:
    """What Q-learning moves towards; a truncated step still bootstraps."""
    return reward if terminated else reward + gamma * max(next_row)  # eq. (4)


def sarsa_target(
    reward: float, next_row: list[float], next_action: int, terminated: bool, gamma: float
) -> float:
    """What SARSA moves towards: the value of the action it takes next."""
    return reward if terminated else reward + gamma * next_row[next_action]  # eq. (6)


def td_update(value: float, target: float, visits: int, alpha: float, alpha_power: float) -> float:
    """An entry after its update number `visits` (counted from 1)."""
    return value + alpha / visits**alpha_power * (target - value)  # eq. (5)


# %% [markdown]
r"""
## 3. Exploration, and the argmax that never arrives

$$a = \begin{cases} \text{uniform over all actions} & \text{with probability } \varepsilon \\
\text{uniform over } \arg\max_{a'} Q(s,a') & \text{otherwise} \end{cases} \tag{7}$$

One detail of $\varepsilon$-greedy decides everything here: **who wins a tie?** Until the first success
every reward was 0, so every entry is 0 and every state is a tie. `np.argmax` takes the first maximum,
action 0, "left": the agent walks into the left wall nine times in ten, never succeeds, and so never learns
to stop. Random ties make it wander.
"""


# %%
def epsilon_greedy(row: list[float], epsilon: float, rng: random.Random) -> int:
    """An action for the state whose action values are `row`; ties are broken at random, eq. (7)."""
    if rng.random() < epsilon:
        return int(rng.random() * len(row))  # rng.randrange is several times slower
    best = max(row)
    if row.count(best) == 1:
        return row.index(best)
    return rng.choice([action for action, value in enumerate(row) if value == best])


def naive_epsilon_greedy(row: list[float], epsilon: float, rng: random.Random) -> int:
    """The same with a first-maximum argmax. Do not use: it is here to be shown wrong."""
    return int(rng.random() * len(row)) if rng.random() < epsilon else row.index(max(row))


# %% [markdown]
r"""
## 4. The learner

Both algorithms in one loop. The table is a list of lists: for rows of four numbers plain Python is several
times faster than NumPy.
"""


# %%
@dataclass(frozen=True)
class Settings:
    """What a learner needs besides the environment."""

    alpha: float = 1.0
    alpha_power: float = 0.55
    gamma: float = 1.0
    epsilon: float = 0.1
    anneal: float = 0.0  # share of the steps over which exploration falls from 1 to `epsilon`
    sarsa: bool = False
    choose: Callable[[list[float], float, random.Random], int] = epsilon_greedy


def learn(
    env: gym.Env,
    settings: Settings,
    num_steps: int,
    seed: int,
    report: Callable[[int, Table], None] = lambda step, q: None,
) -> tuple[Table, list[int], list[float]]:
    """Q-learning or SARSA for `num_steps` steps; `report(step, q)` is called WINDOWS times.

    Returns the table and, of each episode, the step at which it ended and its undiscounted return.
    """
    rng = random.Random(seed)
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    q = [[0.0] * num_actions for _ in range(num_states)]  # [S, A]
    visits = [[0] * num_actions for _ in range(num_states)]  # [S, A]
    ends, returns, episode_return = [], [], 0.0
    anneal_steps = settings.anneal * num_steps
    epsilon = 1.0 if anneal_steps else settings.epsilon

    obs, _ = env.reset(seed=seed)
    action = settings.choose(q[obs], epsilon, rng)
    for step in range(1, num_steps + 1):
        next_obs, reward, terminated, truncated, _ = env.step(action)
        reward = float(reward)
        if anneal_steps:
            epsilon = max(settings.epsilon, 1 - (1 - settings.epsilon) * step / anneal_steps)
        next_action = settings.choose(q[next_obs], epsilon, rng)

        if settings.sarsa:
            target = sarsa_target(reward, q[next_obs], next_action, terminated, settings.gamma)
        else:
            target = q_learning_target(reward, q[next_obs], terminated, settings.gamma)
        visits[obs][action] += 1
        value, count = q[obs][action], visits[obs][action]
        q[obs][action] = td_update(value, target, count, settings.alpha, settings.alpha_power)

        obs, action = next_obs, next_action
        episode_return += reward
        if terminated or truncated:  # the episode is over either way; only the target tells them apart
            ends.append(step)
            returns.append(episode_return)
            obs, episode_return = env.reset()[0], 0.0
            action = settings.choose(q[obs], epsilon, rng)
        if step % max(1, num_steps // WINDOWS) == 0:
            report(step, np.array(q))
    return np.array(q), ends, returns


# %% [markdown]
r"""
## 5. The lakes

`FrozenLake8x8-v1` has a limit of 200 steps; `gym.make("FrozenLake-v1", map_name="8x8")` looks the same and
silently keeps 100. Exploration falls from 1 to `epsilon_end` over the first half of the steps. Since
Q-learning is off-policy, the greedy policy, which is what we evaluate, does not pay for it.
"""


# %%
def make_lake(size: str) -> gym.Env:
    """The slippery lake, "4x4" or "8x8"; gymnasium's argument checks at every step are off for speed."""
    env_id = {"4x4": "FrozenLake-v1", "8x8": "FrozenLake8x8-v1"}[size]
    return gym.make(env_id, disable_env_checker=True)


def start_value(env: gym.Env, policy: Table, horizon: int | None = None) -> float:
    """Exact expected return of `policy`; on a lake, its success rate under the lake's own clock."""
    model = read_model(env)
    return float(model.start @ evaluate_exactly(model, policy, horizon or env.spec.max_episode_steps))


def lake_optimum(size: str) -> float:
    """The time-dependent optimum of a lake."""
    env = make_lake(size)
    model = read_model(env)
    return float(model.start @ best_within(model, env.spec.max_episode_steps))


def learn_lake(size: str, num_steps: int, alpha_power: float, cfg: Config, log: RunLog, metric: str) -> Table:
    """Learn a lake while writing the exact success of the greedy policy; returns the table."""
    env = make_lake(size)

    def report(step: int, q: Table) -> None:
        log.write(step, **{metric: start_value(env, greedy_policy(q))})

    settings = Settings(cfg.alpha, alpha_power, cfg.gamma, cfg.epsilon_end, anneal=0.5)
    return learn(env, settings, num_steps, cfg.seed, report)[0]


def study_lakes(cfg: Config, log: RunLog) -> dict[str, Table]:
    """Both lakes, and the small one again with the sample mean as step size; returns the two tables."""
    tables = {}
    for size, num_steps, bar in (("4x4", cfg.steps_4x4, 0.97), ("8x8", cfg.steps_8x8, 0.90)):
        metric, optimum = f"success_{size}", lake_optimum(size)
        tables[size] = learn_lake(size, num_steps, cfg.alpha_power, cfg, log, metric)
        value = start_value(make_lake(size), greedy_policy(tables[size]))
        log.write(num_steps, **{f"share_of_optimum_{size}": value / optimum})
        log.claim(metric,
                  f"On the {size} lake the learned policy succeeds nearly as often as the best possible.",
                  value, at_least=bar * optimum, unit="success rate", seeds="9/10",
                  source=f"{bar:.0%} of the time-dependent optimum, eq. (3)")  # fmt: skip

    mean_table = learn_lake("4x4", cfg.steps_4x4, 1.0, cfg, log, "success_4x4_mean")
    exact = value_iteration(read_model(make_lake("4x4")), cfg.gamma)[0].max()
    log.claim("start_value", "The 4x4 table's value of the start is close to value iteration's.",
              tables["4x4"][0].max() / exact, near=(1.0, 0.1), unit="learned / exact",
              source="value iteration, eq. (1)", seeds="9/10")  # fmt: skip
    log.claim("start_value_mean",
              "With the sample mean (p = 1) not half of that value arrives in as many steps.",
              mean_table[0].max() / exact, at_most=0.5, unit="learned / exact", seeds="9/10",
              source="evendar2003learning: exponentially slow in 1/(1 - gamma)")  # fmt: skip
    return tables


# %% [markdown]
r"""
**Which discount?** The 8x8 clock allows 200 steps. A discount acts like a clock of about $1/(1-\gamma)$
steps: with 0.99, a success 100 steps from now counts only a third as much. So even the *exact* optimal
policy for 0.99, with nothing left to learn, hurries: it walks past holes and loses what caution would have
kept. The exact policy for 0.999 never falls at all, given time; under the clock it sometimes dawdles too
long. Neither is the time-dependent optimum, because neither may look at the clock.
"""


# %%
def study_gamma(log: RunLog) -> None:
    """Exact policies of several discounts on the 8x8 lake, with and without the clock: no learning."""
    env, optimum = make_lake("8x8"), lake_optimum("8x8")
    clocked, patient = {}, {}
    for gamma in (0.9, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999):
        policy = greedy_policy(value_iteration(read_model(env), gamma))
        clocked[gamma], patient[gamma] = start_value(env, policy), start_value(env, policy, horizon=10_000)
        log.write(round(1 / (1 - gamma)), success_clocked=clocked[gamma], success_patient=patient[gamma])
    exact = {"source": "exact policy evaluation, eq. (2)", "always": True}
    log.claim("gamma_099_stops_short",
              "With gamma 0.99 even the exact policy stays below 95 % of the 8x8 optimum.",
              clocked[0.99] / optimum, at_most=0.95, unit="share of optimum", **exact)  # fmt: skip
    log.claim("gamma_099_gambles",
              "Why: it falls into a hole in a tenth of its episodes, however long they may last.",
              patient[0.99], at_most=0.9, unit="success rate, no clock", **exact)  # fmt: skip
    log.claim("gamma_0999_never_falls",
              "The exact policy for gamma 0.999 never falls; it only runs out of time.",
              patient[0.999], near=(1.0, 1e-3), unit="success rate, no clock", **exact)  # fmt: skip

    figure, ax = plotting.new_figure(width=7.2)
    ax.plot(*log.series("success_patient"), "o-", color=plotting.ORANGE, label="exact policy, no clock")
    ax.plot(*log.series("success_clocked"), "o-", color=plotting.BLUE, label="exact policy, 200 steps")
    ax.axhline(optimum, label=f"time-dependent optimum, 200 steps: {optimum:.3f}", **plotting.REFERENCE)
    ax.set(xscale="log", ylim=(0.65, 1.03), title="A short horizon gambles (8x8 lake)", ylabel="success rate")
    ax.set_xlabel("horizon of the discount, 1/(1 − gamma), in steps")
    ax.legend(loc="lower right")
    log.figure(figure, "gamma")


# %% [markdown]
r"""
## 6. Ties

Until the first success the table is all zero and the behaviour is a fixed random walk, so its chance of
success in one episode follows from (2), without a run. The runs then agree.

The example from which this course grew (deterministic 4x4 lake, $\alpha$ 0.8, $\gamma$ 0.95, $\varepsilon$
0.1, `np.argmax`) has this fault: it prints a table of zeros and calls it learned. It also bootstraps
through terminal states. On a lake that happens to be harmless: a hole's row is never updated, so it
stays 0.
"""


# %%
def untaught_chance(env: gym.Env, epsilon: float, naive: bool) -> float:
    """Exact chance of success in one episode while the table is still all zero."""
    zeros = np.zeros_like(read_model(env).rewards)
    policy = greedy_policy(zeros)  # every action is a best one
    if naive:
        policy = epsilon * policy + (1 - epsilon) * np.eye(zeros.shape[1])[zeros.argmax(axis=1)]
    return start_value(env, policy)


def study_ties(cfg: Config, log: RunLog) -> None:
    """First-maximum argmax against random ties: the 8x8 lake, and the example this course grew from."""
    lake, dry = make_lake("8x8"), gym.make("FrozenLake-v1", is_slippery=False, disable_env_checker=True)
    chance_random, chance_naive = (untaught_chance(lake, cfg.epsilon, naive) for naive in (False, True))
    log.write(0, first_success_random=chance_random, first_success_naive=chance_naive)
    log.claim("ties_chance",
              "Random ties raise an untaught agent's chance to reach the 8x8 goal over a thousandfold.",
              chance_random / chance_naive, at_least=1000, unit="ratio of chances in one episode",
              source="exact policy evaluation, eq. (2)", always=True)  # fmt: skip

    fixed = Settings(cfg.alpha, cfg.alpha_power, cfg.gamma, cfg.epsilon)
    _, _, naive = learn(lake, replace(fixed, choose=naive_epsilon_greedy), cfg.steps_ties, cfg.seed)
    _, _, fair = learn(lake, fixed, cfg.steps_ties, cfg.seed)
    log.claim("naive_argmax_goals", "At fixed epsilon the first-maximum argmax never reaches the 8x8 goal.",
              sum(naive), at_most=0, unit="goals", seeds="9/10",
              source=f"eq. (2): a chance of {chance_naive:.0e} an episode")  # fmt: skip
    log.claim("random_ties_goals", "With random ties and nothing else changed it finds the goal, and again.",
              sum(fair), at_least=10, unit="goals", seeds="9/10",
              source=f"eq. (2): a first chance of {chance_random:.0e} an episode")  # fmt: skip

    example = Settings(alpha=0.8, alpha_power=0.0, gamma=0.95, epsilon=0.1)
    num_steps, num_runs = cfg.steps_ties // 2, 5  # about the 2,000 episodes that the example runs
    all_zero = 0
    for run in range(num_runs):
        broken = replace(example, choose=naive_epsilon_greedy)
        all_zero += not learn(dry, broken, num_steps, num_runs * cfg.seed + run)[0].any()
    all_fail = (1 - untaught_chance(dry, example.epsilon, naive=True)) ** 2000
    log.claim("example_table", "The example this course grew from ends with its table still all zero.",
              all_zero, at_least=num_runs - 1, unit=f"of {num_runs} runs", seeds="9/10",
              source=f"eq. (2): all 2,000 episodes fail in {all_fail:.1%} of runs")  # fmt: skip
    fair, _, _ = learn(dry, example, num_steps, cfg.seed)
    log.claim("example_repaired", "With random ties and nothing else changed it always reaches the goal.",
              start_value(dry, greedy_policy(fair)), at_least=1 - 1e-9, unit="success rate", seeds="9/10",
              source="exact policy evaluation, eq. (2)")  # fmt: skip


# %% [markdown]
r"""
## 7. The cliff: two right answers to two questions

CliffWalking (Sutton & Barto, Example 6.6): −1 a step, −100 and back to the start for stepping off the edge.
The shortest way, 13 steps, runs along the edge. Q-learning's table answers "what if I never explored
again?", so that path is its favourite, and with $\varepsilon$ = 0.1 it keeps falling off it. SARSA's table
answers "what if I go on exploring as I do?" and prefers a detour. Online, SARSA earns more; greedy,
Q-learning's path is shorter.

Where each should end is exact too: the return of exploring around the shortest path by (2), and the best
return of all policies that explore at this rate by (3), its maximum softened by $\varepsilon$. With a large
constant step size SARSA's noisy table can make the greedy walk circle for ever, so a walk is cut after 100
steps.
"""


# %%
def study_cliff(cfg: Config, log: RunLog) -> dict[str, Table]:
    """Both learners at the same fixed exploration rate; returns their tables."""
    env = gym.make("CliffWalking-v1", disable_env_checker=True)
    model, horizon = read_model(env), 3000  # by then hardly any exploring walk is still under way
    shortest = greedy_policy(value_iteration(model, 1.0))
    edge = start_value(env, (1 - cfg.epsilon) * shortest + cfg.epsilon / shortest.shape[1], horizon)
    detour = float(model.start @ best_within(model, horizon, cfg.epsilon))
    tables, online, greedy = {}, {}, {}
    for name in ("q_learning", "sarsa"):
        settings = Settings(cfg.alpha, cfg.alpha_power, 1.0, cfg.epsilon, sarsa=name == "sarsa")
        tables[name], ends, returns = learn(env, settings, cfg.steps_cliff, cfg.seed)
        ends, returns = np.array(ends), np.array(returns)  # [episodes]
        width = cfg.steps_cliff // 10
        for low in range(0, cfg.steps_cliff, width):
            if (inside := (ends > low) & (ends <= low + width)).any():
                log.write(low + width, **{f"online_{name}": returns[inside].mean()})
        second_half = returns[ends > cfg.steps_cliff / 2]
        online[name] = float(second_half.mean()) if len(second_half) else float("nan")
        greedy[name] = start_value(env, greedy_policy(tables[name]), horizon=100)
    log.write(cfg.steps_cliff, exact_edge=edge, exact_detour=detour, greedy_sarsa=greedy["sarsa"])

    log.claim("sarsa_earns_more_online", "While exploring, SARSA earns more per episode than Q-learning.",
              online["sarsa"] - online["q_learning"], at_least=(detour - edge) / 2, unit="return",
              source="half the exact gap of the next two", seeds="9/10")  # fmt: skip
    log.claim("q_learning_online",
              "Q-learning's online return is that of exploring around the shortest path.",
              online["q_learning"], near=(edge, 5.0), unit="return", source="eq. (2)",
              seeds="9/10")  # fmt: skip
    log.claim("sarsa_online", "SARSA's is close to the best of all policies that explore at this rate.",
              online["sarsa"], near=(detour, 5.0), unit="return", source="eq. (3), softened",
              seeds="9/10")  # fmt: skip
    log.claim("q_learning_greedy_path", "Q-learning's greedy path is the shortest there is: 13 steps.",
              greedy["q_learning"], near=(-13.0, 1e-9), unit="return", source="suttonbarto2018, Example 6.6",
              seeds="9/10")  # fmt: skip
    log.claim("sarsa_greedy_path", "SARSA's greedy path is longer.", greedy["sarsa"], at_most=-15.0,
              unit="return within 100 steps", source="suttonbarto2018, Example 6.6",
              seeds="9/10")  # fmt: skip
    return tables


# %% [markdown]
r"""
## 8. A clock is not an end

In the probe `ProbeEndless` every step pays 1 for ever, and a time limit cuts the recording every 10 steps.
The value is $1 + \gamma + \gamma^2 + \dots = 1/(1-\gamma)$, which is 10 for $\gamma$ = 0.9. Whoever treats
the cut as an end solves $Q = 1 + \gamma \cdot \tfrac{9}{10} Q$ instead and gets 5.3.
"""


# %%
def endless_value(gamma: float, seed: int, num_steps: int = 2000) -> float:
    """What Q-learning finds a reward of 1 a step for ever to be worth, cut every 10 steps."""
    endless = gym.make("chapters.envs.registration:ProbeEndless-v0")
    env = gym.wrappers.TransformObservation(endless, lambda obs: 0, gym.spaces.Discrete(1))
    return float(learn(env, Settings(gamma=gamma), num_steps, seed)[0][0, 0])


# %% [markdown]
r"""
## 9. Run, look, break

**Look.** The first figure shows the exact success of the greedy policy against experience, the
time-dependent optimum drawn in. Nothing happens until the first success; then value spreads backwards from
the goal, one bootstrap at a time. A late dip of one run is a single arrow flipping: many neighbours' values
differ by less than one update's noise. The orange curve is the sample mean ($p = 1$), which crawls. In the
heat maps of $\max_a Q(s,a)$ many arrows point *away* from a neighbouring hole and into a wall: on this ice
a step never slips backwards, so that is the one action that cannot end in the hole. The figure of the
discounts shows what a short horizon costs, the last one the two paths along the cliff and what they earn.

**Break it.** Merge the two ends: in `learn`, pass `terminated or truncated` instead of `terminated` to
`q_learning_target`. The lakes' curves hardly change, which is why this bug lives so long. The claim about
the endless probe fails at once: the value drops from 10 to about 5.3, as computed above.

**Exercises.** (1) Run with `--epsilon-end 0`, then with `--epsilon-end 1`. Which entries of the 8x8 table
does each know well? (2) Start the table at 1 instead of 0 and fix epsilon at 0.1: every untried action now
looks good, so the agent explores by *optimism*. Compare it with the annealed run after 100,000 steps and
after 1,000,000. (3) *Expected* SARSA bootstraps from the average of $Q(s',\cdot)$ under the
$\varepsilon$-greedy policy. Write its target; which of the two paths will it choose?
"""


# %%
def draw_learning(runs: list[dict], log: RunLog) -> None:
    """Exact success against steps: one run, or a band over several."""
    figure, axes = plotting.new_figure(1, 2)
    slow = (f"step size 1/n^{runs[0]['config']['alpha_power']:g}", plotting.BLUE)
    mean = ("step size 1/n", plotting.ORANGE)
    curves = ((0, "success_4x4", *slow), (0, "success_4x4_mean", *mean), (1, "success_8x8", *slow))
    for panel, metric, label, color in curves:
        series = [run["metrics"][metric] for run in runs]
        steps = [step / 1000 for step, _ in series[0]]
        values = [[value for _, value in points] for points in series]
        if len(runs) > 1:
            plotting.seed_band(axes[panel], steps, values, label, color)
        else:
            axes[panel].plot(steps, values[0], color=color, label=label)
    for ax, size in zip(axes, ("4x4", "8x8")):
        optimum = lake_optimum(size)
        ax.axhline(optimum, label=f"time-dependent optimum {optimum:.3f}", **plotting.REFERENCE)
        ax.set(title=f"FrozenLake {size}", xlabel="environment steps (thousands)", ylim=(0, 1.35))
        ax.set(yticks=np.arange(0, 1.01, 0.2), ylabel="exact success rate")
        ax.legend(loc="upper left")
    log.figure(figure)


def draw_tables(tables: dict[str, Table], log: RunLog) -> None:
    """Heat maps of the lakes' tables with the greedy actions as arrows."""
    figure, axes = plotting.new_figure(1, 2, width=7.2, height=6.4)
    for ax, (size, q) in zip(axes, tables.items()):
        letters = make_lake(size).unwrapped.desc.astype(str)  # [rows, columns] of S F H G
        ends = np.isin(letters, ("H", "G"))
        values = np.where(letters == "G", 1.0, q.max(axis=1).reshape(letters.shape))
        labels = np.where(ends, letters, np.char.mod("%.2f", values))
        actions = np.where(ends, -1, q.argmax(axis=1).reshape(letters.shape))
        plotting.grid_map(ax, values, actions, arrows=LAKE_ARROWS, labels=labels, title=f"FrozenLake {size}")
    figure.colorbar(axes[1].images[0], ax=axes, label="max Q(s, a): discounted chance of success", shrink=0.8)
    log.figure(figure, "tables")


def film_lake(q: Table, cfg: Config, log: RunLog) -> None:
    """One greedy episode on the 8x8 lake, whatever its end."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory: no screen needed
    env = gym.make("FrozenLake8x8-v1", render_mode="rgb_array")
    obs, _ = env.reset(seed=cfg.seed)
    frames, done = [env.render()], False
    while not done:
        obs, _, terminated, truncated, _ = env.step(int(q[obs].argmax()))
        done = terminated or truncated
        frames.append(env.render())
    log.film(frames, fps=12)


def greedy_path(q: Table, limit: int = 30) -> Int[np.ndarray, "T 2"]:
    """(row, column) of the cells that the greedy policy visits on the cliff, in at most `limit` steps."""
    env = gym.make("CliffWalking-v1")
    path, terminated = [env.reset()[0]], False
    while not terminated and len(path) <= limit:
        obs, _, terminated, _, _ = env.step(int(q[path[-1]].argmax()))
        path.append(obs)
    return np.stack(np.divmod(path, 12), axis=1)


def draw_cliff(tables: dict[str, Table], log: RunLog) -> None:
    """The greedy paths, and what each learner earned while it learned."""
    figure, axes = plotting.new_figure(1, 2, width=7.0)
    ground = np.zeros((4, 12))
    ground[3, 1:11] = 1  # the cliff
    axes[0].pcolormesh(ground, cmap="Greys", vmax=2.5, edgecolors="lightgrey", linewidth=0.5)
    learners = {
        "q_learning": ("Q-learning", plotting.BLUE, "exact_edge", "exploring around the shortest path", ":"),
        "sarsa": ("SARSA", plotting.ORANGE, "exact_detour", "best policy that explores", "--"),
    }
    for name, (label, color, limit, text, dashes) in learners.items():
        rows, columns = greedy_path(tables[name]).T + 0.5
        length = f"{len(rows) - 1} steps" if len(rows) <= 30 else "circles"
        axes[0].plot(columns, rows, "o-", color=color, markersize=4, label=f"{label}: {length}")
        if f"online_{name}" in log.metrics:  # not before the first episode has ended
            steps, returns = log.series(f"online_{name}")
            axes[1].plot(np.array(steps) / 1000, returns, "o-", color=color, label=label)
        label = f"exact, {text}: −{-log.last(limit):.1f}"
        axes[1].axhline(log.last(limit), label=label, **{**plotting.REFERENCE, "linestyle": dashes})
    for column, text in ((0.5, "start"), (6, "cliff: −100"), (11.5, "goal")):
        axes[0].text(column, 3.8, text, ha="center", va="center", fontsize=11)
    axes[0].set(title="Greedy paths", xticks=[], yticks=[], ylim=(4, -1), aspect="equal")
    axes[0].legend(loc="upper center", ncols=2)
    axes[1].set(title="Return per episode while exploring", xlabel="environment steps (thousands)")
    axes[1].set(ylabel="return", ylim=(-110, 0), yticks=range(-80, 1, 20))
    axes[1].legend(loc="lower right")
    log.figure(figure, "cliff")


# %%
def main(cfg: Config, log: RunLog) -> None:
    log.claim("time_limit_bootstraps",
              "A reward of 1 for ever is worth 1/(1 - gamma), though a clock cuts episodes.",
              endless_value(0.9, cfg.seed), near=(10.0, 0.1), unit="value", always=True,
              source="geometric series; pardo2018timelimits")  # fmt: skip
    study_gamma(log)
    tables = study_lakes(cfg, log)
    study_ties(cfg, log)
    cliff_tables = study_cliff(cfg, log)
    draw_learning([{"metrics": log.metrics, "config": asdict(cfg)}], log)
    draw_tables(tables, log)
    draw_cliff(cliff_tables, log)
    if not log.smoke:  # rendering costs more than a whole smoke run
        film_lake(tables["8x8"], cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the learning curves as bands."""
    draw_learning(runs, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
