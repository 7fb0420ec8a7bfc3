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
<!-- /results -->

References: `watkins1992qlearning`, `rummery1994online`, `suttonbarto2018`, `evendar2003learning`,
`pardo2018timelimits`.

Symbols: $S$ states, $A$ actions, $Q(s,a)$ action value, $\gamma$ discount, $\varepsilon$ exploration
rate, $\alpha_n$ step size of the n-th update of an entry, $H$ time limit in steps.
"""

# %%
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from chapters.utils import RunLog, in_range, plotting, run_lesson

LAKE_ARROWS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (row, column) step of left, down, right, up
CLIFF_ARROWS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # of up, right, down, left
WINDOWS = 25  # points in each learning curve


# %%
@dataclass(frozen=True)
class Config:
    """Q-learning on FrozenLake, and SARSA against Q-learning on CliffWalking."""

    seed: int = 0
    """Seed of the agent and the environments."""
    alpha: Annotated[float, in_range(1e-6, 1.0)] = 1.0
    """Step size of an entry's first update."""
    alpha_power: Annotated[float, in_range(0.0, 1.0)] = 0.5
    """The n-th update of an entry uses alpha / n**alpha_power; 0 keeps the step size constant."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.999
    """Discount factor on the lakes (the cliff is undiscounted)."""
    epsilon_end: Annotated[float, in_range(0.0, 1.0)] = 0.3
    """Exploration rate on the lakes after falling from 1 over the first half of the steps."""
    epsilon: Annotated[float, in_range(0.0, 1.0)] = 0.1
    """Fixed exploration rate on the cliff and in the tie-breaking runs."""
    steps_4x4: Annotated[int, in_range(100, 10**8)] = 200_000
    """Environment steps on the 4x4 lake."""
    steps_8x8: Annotated[int, in_range(100, 10**8)] = 800_000
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
of it, each with probability 1/3. Reaching the goal G pays 1, a hole H ends the episode with 0, and the clock
ends it after $H$ = 100 steps (4x4) or 200 (8x8). The next state depends only on the present state and
action, not on how we got there: that is the *Markov* property, and it is why one table row per state is enough.

Gymnasium keeps its transition table in `env.unwrapped.P`. The learner below never looks at it. We do, to
know the right answers. Rows of `transitions` leave out successors that are terminal: after them there is
nothing more to collect.
"""


# %%
class Model(NamedTuple):
    """The environment's dynamics as arrays."""

    transitions: Float[np.ndarray, "S A S"]
    """Probability of each successor that is not terminal; a row sums to 1 minus the chance of ending."""
    rewards: Float[np.ndarray, "S A"]
    """Expected reward."""
    start: Float[np.ndarray, "S"]
    """Distribution of the first state."""


def read_model(env: gym.Env) -> Model:
    """The model of a gymnasium toy-text environment."""
    table = env.unwrapped.P
    transitions = np.zeros((len(table), len(table[0]), len(table)))  # [S, A, S]
    rewards = np.zeros(transitions.shape[:2])  # [S, A]
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for probability, successor, reward, terminated in outcomes:
                rewards[state, action] += probability * reward
                if not terminated:
                    transitions[state, action, successor] += probability
    return Model(transitions, rewards, np.asarray(env.unwrapped.initial_state_distrib, dtype=float))


# %% [markdown]
r"""
Value iteration (A3) repeats the Bellman optimality update until nothing changes:

$$Q(s,a) \leftarrow R(s,a) + \gamma \sum_{s'} P(s' \mid s,a) \max_{a'} Q(s',a') \tag{1}$$

How good is a policy *in the world as it is*, with its clock? Not a sample of episodes but a sum answers
that. With $k$ steps left,

$$v_k(s) = \sum_a \pi(a \mid s) \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, v_{k-1}(s') \Big], \qquad v_0 = 0 \tag{2}$$

so $v_H$ at the start is the exact probability of success. Replace the average over actions by a maximum and
you get the best that anyone can do who may also look at the clock, the *time-dependent optimum*:

$$v^*_k(s) = \max_a \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, v^*_{k-1}(s') \Big], \qquad v^*_0 = 0 \tag{3}$$

Our agent sees only its position, so it may fall a little short of (3) even if it learns perfectly.
"""


# %%
def value_iteration(
    transitions: Float[np.ndarray, "S A S"],
    rewards: Float[np.ndarray, "S A"],
    gamma: float,
    tolerance: float = 1e-10,
) -> Float[np.ndarray, "S A"]:
    """The optimal action values without a time limit, to within `tolerance` * gamma / (1 - gamma)."""
    q = np.zeros_like(rewards)
    while True:
        updated = rewards + gamma * transitions @ q.max(axis=1)  # eq. (1)
        if np.abs(updated - q).max() < tolerance:
            return updated
        q = updated


def greedy_policy(q: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """Probabilities of the policy that takes a best action, ties (up to rounding) with equal chance."""
    best = q >= q.max(axis=1, keepdims=True) - 1e-9
    return best / best.sum(axis=1, keepdims=True)


def evaluate_exactly(
    transitions: Float[np.ndarray, "S A S"],
    rewards: Float[np.ndarray, "S A"],
    policy: Float[np.ndarray, "S A"],
    horizon: int,
) -> Float[np.ndarray, "S"]:
    """Expected undiscounted return of `policy` from each state within `horizon` steps."""
    values = np.zeros(len(rewards))
    for _ in range(horizon):
        values = (policy * (rewards + transitions @ values)).sum(axis=1)  # eq. (2)
    return values


def best_within(
    transitions: Float[np.ndarray, "S A S"],
    rewards: Float[np.ndarray, "S A"],
    horizon: int,
    epsilon: float = 0.0,
) -> Float[np.ndarray, "S"]:
    """The time-dependent optimum; with `epsilon` > 0 among policies that explore at that rate."""
    values = np.zeros(len(rewards))
    for _ in range(horizon):
        q = rewards + transitions @ values  # [S, A]
        values = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)  # eq. (3) if epsilon = 0
    return values


# %% [markdown]
r"""
## 2. Without a model: temporal differences

The agent cannot take the expectation in (1), but every step hands it a sample $(s, a, r, s')$ of what stands
behind it. That sample is the **TD target**:

$$y = r + \gamma\,(1 - \text{terminated}) \max_{a'} Q(s',a') \tag{4}$$

Q-learning moves the entry a little towards it. The difference $y - Q(s,a)$ is the *TD error*, a prediction
error like that of a regression whose label is partly the model's own estimate:

$$Q(s,a) \leftarrow Q(s,a) + \alpha_n \big[ y - Q(s,a) \big], \qquad \alpha_n = \alpha / n^{p} \tag{5}$$

`terminated` and `truncated` mean different things. In a hole the world is over: nothing follows, so the
bootstrap is dropped. When the clock runs out, the *recording* is over but the state still has its value, so
the bootstrap stays. Only `terminated` appears in (4).

SARSA differs in one symbol: it asks what the action $a'$ that it *will really take* is worth, so its table
describes the exploring agent itself (*on-policy*), where Q-learning's describes the greedy one (*off-policy*):

$$y = r + \gamma\,(1 - \text{terminated})\, Q(s',a') \tag{6}$$

**Step size.** To average the noise away, $\alpha_n$ must shrink: $p > 0$. The sample mean, $p = 1$, looks natural
and is a trap. The target moves as the table fills, and a mean never forgets its early, wrong targets: the
number of steps then grows exponentially with $1/(1-\gamma)$, while $p < 1$ needs polynomially many
(`evendar2003learning`). We take $p = 1/2$, the edge of what convergence theorems cover ($\sum_n \alpha_n^2$
just diverges), because in a run of fixed length it ends best.
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


def td_update(value: float, target: float, alpha: float, visits: int, alpha_power: float) -> float:
    """An entry after its update number `visits` (counted from 1)."""
    return value + alpha / visits**alpha_power * (target - value)  # eq. (5)


# %% [markdown]
r"""
## 3. Exploration, and the argmax that never arrives

$\varepsilon$-greedy takes a random action with probability $\varepsilon$ and a best one otherwise. One detail
decides everything on this lake: **who wins a tie?** Until the first success every reward was 0, so every entry
is 0 and every state is a tie. `np.argmax` takes the first maximum, action 0, "left": the agent walks into the
left wall 90 % of the time, never succeeds, and never gets a reason to stop. Random ties make it wander instead.

$$a = \begin{cases} \text{uniform over all actions} & \text{with probability } \varepsilon \\
\text{uniform over } \arg\max_{a'} Q(s,a') & \text{otherwise} \end{cases} \tag{7}$$
"""


# %%
def epsilon_greedy(row: list[float], epsilon: float, rng: random.Random) -> int:
    """An action for the state whose action values are `row`; ties are broken at random."""
    if rng.random() < epsilon:
        return int(rng.random() * len(row))  # rng.randrange is five times slower
    best = max(row)
    if row.count(best) == 1:
        return row.index(best)
    return rng.choice([action for action, value in enumerate(row) if value == best])  # eq. (7)


def naive_epsilon_greedy(row: list[float], epsilon: float, rng: random.Random) -> int:
    """The same with a first-maximum argmax. Do not use: it is here to be shown wrong."""
    if rng.random() < epsilon:
        return int(rng.random() * len(row))
    return row.index(max(row))


# %% [markdown]
r"""
## 4. The learner

Both algorithms in one loop. Its table is a list of lists, not an array: for rows of four numbers plain Python
is several times faster than NumPy.
"""


# %%
@dataclass(frozen=True)
class Settings:
    """What a learner needs to know besides the environment."""

    alpha: float = 1.0
    alpha_power: float = 0.5
    gamma: float = 1.0
    epsilon: float = 0.1
    """Exploration rate at the end."""
    anneal: float = 0.0
    """Share of the steps over which the exploration rate falls from 1 to `epsilon`; 0: fixed."""
    sarsa: bool = False
    choose: Callable[[list[float], float, random.Random], int] = epsilon_greedy


class Experience(NamedTuple):
    """What a learner ends with."""

    q: Float[np.ndarray, "S A"]
    """The action values."""
    episode_ends: list[int]
    """Step count at which each episode ended."""
    episode_returns: list[float]
    """Undiscounted return of each episode, exploration included."""


def learn(
    env: gym.Env,
    settings: Settings,
    num_steps: int,
    seed: int,
    report: Callable[[int, Float[np.ndarray, "S A"]], None] | None = None,
) -> Experience:
    """Q-learning or SARSA for `num_steps` steps; `report(step, q)` is called WINDOWS times."""
    rng = random.Random(seed)
    num_states, num_actions = int(env.observation_space.n), int(env.action_space.n)
    q = [[0.0] * num_actions for _ in range(num_states)]  # [S, A]
    visits = [[0] * num_actions for _ in range(num_states)]  # [S, A]
    episode_ends, episode_returns, episode_return = [], [], 0.0
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
        q[obs][action] = td_update(
            q[obs][action], target, settings.alpha, visits[obs][action], settings.alpha_power
        )

        obs, action = next_obs, next_action
        episode_return += reward
        if terminated or truncated:  # either way the episode is over: only the target tells them apart
            episode_ends.append(step)
            episode_returns.append(episode_return)
            episode_return = 0.0
            obs, _ = env.reset()
            action = settings.choose(q[obs], epsilon, rng)
        if report and step % max(1, num_steps // WINDOWS) == 0:
            report(step, np.array(q))
    return Experience(np.array(q), episode_ends, episode_returns)


# %% [markdown]
r"""
## 5. The lakes

`FrozenLake8x8-v1` has its own limit of 200 steps; `gym.make("FrozenLake-v1", map_name="8x8")` looks the same
and silently keeps 100.
"""


# %%
def make_lake(size: str) -> gym.Env:
    """The slippery lake, "4x4" or "8x8"; gymnasium's per-step argument checks are off for speed."""
    env_id = {"4x4": "FrozenLake-v1", "8x8": "FrozenLake8x8-v1"}[size]
    return gym.make(env_id, disable_env_checker=True)


def success(env: gym.Env, q: Float[np.ndarray, "S A"]) -> float:
    """Exact success rate of the greedy policy of `q` under the environment's own time limit."""
    model = read_model(env)
    values = evaluate_exactly(model.transitions, model.rewards, greedy_policy(q), env.spec.max_episode_steps)
    return float(model.start @ values)


def lake_optimum(env: gym.Env) -> float:
    """The time-dependent optimum of a lake."""
    model = read_model(env)
    return float(model.start @ best_within(model.transitions, model.rewards, env.spec.max_episode_steps))


def run_lake(size: str, num_steps: int, cfg: Config, log: RunLog) -> Float[np.ndarray, "S A"]:
    """Learn a lake, write the exact success on the way, claim the end; returns the table."""
    env = make_lake(size)
    settings = Settings(cfg.alpha, cfg.alpha_power, cfg.gamma, cfg.epsilon_end, anneal=0.5)
    name, optimum = f"success_{size}", lake_optimum(env)
    q = learn(
        env, settings, num_steps, cfg.seed, lambda step, q: log.write(step, **{name: success(env, q)})
    ).q
    bar = {"4x4": 0.97, "8x8": 0.90}[size]
    log.write(
        num_steps, **{f"optimum_{size}": optimum, f"share_of_optimum_{size}": success(env, q) / optimum}
    )
    log.claim(
        name,
        f"On the {size} lake the learned policy succeeds at least {bar:.0%} as often as the best clock-watcher.",
        success(env, q),
        at_least=bar * optimum,
        unit="success rate",
        source=f"{bar:.0%} of the time-dependent optimum, exact by eq. (3)",
        seeds="9/10",
    )
    return q


def compare_step_sizes(q_root: Float[np.ndarray, "S A"], cfg: Config, log: RunLog) -> None:
    """The 4x4 lake again with the sample mean (p = 1): how much of the true start value is found?"""
    env = make_lake("4x4")
    settings = Settings(cfg.alpha, 1.0, cfg.gamma, cfg.epsilon_end, anneal=0.5)
    q_mean = learn(
        env, settings, cfg.steps_4x4, cfg.seed,
        lambda step, q: log.write(step, success_4x4_mean=success(env, q)),
    ).q  # fmt: skip
    model = read_model(env)
    exact = value_iteration(model.transitions, model.rewards, cfg.gamma)[0].max()
    log.claim(
        "start_value",
        "With p = 1/2 the table's value of the 4x4 start is close to value iteration's.",
        q_root[0].max() / exact,
        near=(1.0, 0.1),
        unit="learned / exact",
        source="value iteration, eq. (1)",
        seeds="9/10",
    )
    log.claim(
        "start_value_mean",
        "With p = 1, the sample mean, less than half of that value has arrived after as many steps.",
        q_mean[0].max() / exact,
        at_most=0.5,
        unit="learned / exact",
        source="evendar2003learning: exponentially slow in 1/(1 - gamma)",
        seeds="9/10",
    )


# %% [markdown]
r"""
**Which discount?** The clock on the 8x8 lake allows 200 steps. A discount $\gamma$ acts like a clock of
about $1/(1-\gamma)$ steps: with 0.99 a success 100 steps from now counts only a third as much. So even the *exact*
optimal policy for 0.99, with nothing left to learn, hurries: it walks past holes and loses what caution would have
kept. The exact policy for 0.999 never falls into a hole at all, if one gives it time; under the clock it dawdles and
sometimes runs out of steps. Neither is the time-dependent optimum, because neither may look at the clock.
"""


# %%
def study_gamma(log: RunLog) -> None:
    """Exact policies of several discounts on the 8x8 lake, with and without the clock: no learning."""
    env = make_lake("8x8")
    model, optimum = read_model(env), lake_optimum(env)
    shares, patient = {}, {}
    for gamma in (0.9, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999):
        q = value_iteration(model.transitions, model.rewards, gamma)
        values = evaluate_exactly(model.transitions, model.rewards, greedy_policy(q), 10_000)
        shares[gamma], patient[gamma] = success(env, q) / optimum, float(model.start @ values)
        log.write(round(1 / (1 - gamma)), exact_share=shares[gamma], exact_success_patient=patient[gamma])
    log.claim(
        "gamma_099_stops_short",
        "With gamma 0.99 even the exact policy stays below 95 % of the 8x8 optimum.",
        shares[0.99], at_most=0.95, unit="share of optimum", source="exact policy evaluation", always=True,
    )  # fmt: skip
    log.claim(
        "gamma_0999_has_room",
        "With gamma 0.999 the exact policy gets past 95 % of the 8x8 optimum.",
        shares[0.999], at_least=0.95, unit="share of optimum", source="exact policy evaluation", always=True,
    )  # fmt: skip
    log.claim(
        "gamma_099_gambles",
        "Why: the gamma 0.99 policy falls into a hole in a tenth of its episodes, however long they last.",
        patient[0.99], at_most=0.9, unit="success rate, 10,000 steps", source="exact policy evaluation",
        always=True,
    )  # fmt: skip
    log.claim(
        "gamma_0999_never_falls",
        "The gamma 0.999 policy never falls; it only runs out of time.",
        patient[0.999], near=(1.0, 1e-3), unit="success rate, 10,000 steps", source="exact policy evaluation",
        always=True,
    )  # fmt: skip


# %% [markdown]
r"""
## 6. Ties

Until the first success the table is all zero and the behaviour is a fixed random walk, so the chance of success in
an episode can be computed by (2), no run needed. Then the runs.

The example from which this course grew (deterministic 4x4 lake, $\alpha$ 0.8, $\gamma$ 0.95, $\varepsilon$ 0.1,
`np.argmax`) has this fault: it prints a table of zeros and calls it learned. It also bootstraps through terminal
states. On a lake that happens to be harmless, since the rows of holes and goal are never updated and stay 0.
"""


# %%
def first_success_chance(env: gym.Env, epsilon: float, random_ties: bool) -> float:
    """Exact chance of success in one episode for an agent whose table is still all zero."""
    model = read_model(env)
    num_states, num_actions = model.rewards.shape
    uniform = np.full((num_states, num_actions), 1 / num_actions)
    left = np.eye(num_actions)[np.zeros(num_states, dtype=int)]  # the first maximum of a row of zeros
    policy = epsilon * uniform + (1 - epsilon) * (uniform if random_ties else left)
    values = evaluate_exactly(model.transitions, model.rewards, policy, env.spec.max_episode_steps)
    return float(model.start @ values)


def study_ties(cfg: Config, log: RunLog) -> None:
    """First-maximum argmax against random ties: the 8x8 lake, and the example this course grew from."""
    lake = make_lake("8x8")
    chances = [first_success_chance(lake, cfg.epsilon, random_ties) for random_ties in (True, False)]
    log.write(0, first_success_random=chances[0], first_success_naive=chances[1])
    log.claim(
        "ties_chance",
        "An untaught agent's chance to reach the 8x8 goal is over 1,000 times larger with random ties.",
        chances[0] / chances[1],
        at_least=1000, unit="ratio of chances", source="exact policy evaluation", always=True,
    )  # fmt: skip

    fixed = Settings(cfg.alpha, cfg.alpha_power, cfg.gamma, cfg.epsilon)
    naive, fair = (
        learn(lake, replace(fixed, choose=choose), cfg.steps_ties, cfg.seed)
        for choose in (naive_epsilon_greedy, epsilon_greedy)
    )
    log.write(cfg.steps_ties, success_8x8_random_ties=success(lake, fair.q))
    log.claim(
        "naive_argmax_goals",
        "At fixed epsilon the first-maximum argmax never reaches the 8x8 goal.",
        sum(naive.episode_returns), at_most=0, unit="goals reached", source="exact chance below 1e-8 an episode",
    )  # fmt: skip
    log.claim(
        "random_ties_goals",
        "At the same epsilon random ties reach it again and again.",
        sum(fair.episode_returns),
        at_least=10, unit="goals reached", source="exact chance above 1e-3 an episode", seeds="9/10",
    )  # fmt: skip

    dry = gym.make("FrozenLake-v1", is_slippery=False, disable_env_checker=True)
    example = Settings(alpha=0.8, alpha_power=0.0, gamma=0.95, epsilon=0.1)
    naive, fair = (
        learn(dry, replace(example, choose=choose), cfg.steps_ties, cfg.seed)
        for choose in (naive_epsilon_greedy, epsilon_greedy)
    )
    log.claim(
        "example_table",
        "The example this course grew from ends with its table still all zero.",
        np.count_nonzero(naive.q),
        at_most=0, unit="entries that are not 0", source="exact chance 5e-6 an episode", seeds="9/10",
    )  # fmt: skip
    log.claim(
        "example_repaired",
        "With random ties and nothing else changed it always succeeds.",
        success(dry, fair.q), at_least=1 - 1e-9, unit="success rate", source="exact policy evaluation",
        seeds="9/10",
    )  # fmt: skip


# %% [markdown]
r"""
## 7. The cliff: what each algorithm believes about itself

CliffWalking (Sutton & Barto, Example 6.6): −1 a step, −100 and back to the start for stepping off the edge. Shortest
is to walk along the edge, 13 steps. Q-learning's table answers "what if I never explored again?", so that path is
its favourite, and with $\varepsilon$ = 0.1 it keeps falling off it. SARSA's table answers "what if I go on exploring
as I do?", and prefers a detour. Online, SARSA earns more; greedy, Q-learning's path is shorter. Each is right about
its own question. Where each should end is exact, too: the return of exploring around the shortest path, and the best
return of any policy that explores at this rate (3).
"""


# %%
def run_cliff(cfg: Config, log: RunLog) -> dict[str, Float[np.ndarray, "S A"]]:
    """Both learners at the same fixed exploration rate; returns their tables."""
    env = gym.make("CliffWalking-v1", disable_env_checker=True)
    model = read_model(env)
    tables, online, greedy = {}, {}, {}
    for name in ("q_learning", "sarsa"):
        settings = Settings(cfg.alpha, cfg.alpha_power, 1.0, cfg.epsilon, sarsa=name == "sarsa")
        tables[name], ends, returns = learn(env, settings, cfg.steps_cliff, cfg.seed)
        edges = np.linspace(0, cfg.steps_cliff, WINDOWS + 1)
        for low, high in zip(edges[:-1], edges[1:]):
            window = [value for end, value in zip(ends, returns) if low < end <= high]
            if window:
                log.write(int(high), **{f"online_{name}": np.mean(window)})
        second_half = [value for end, value in zip(ends, returns) if end > cfg.steps_cliff / 2]
        online[name] = float(np.mean(second_half)) if second_half else float("nan")
        # a path that loops for ever is cut after 100 steps and counts -100
        policy = greedy_policy(tables[name])
        greedy[name] = float(model.start @ evaluate_exactly(model.transitions, model.rewards, policy, 100))
    edge, detour = cliff_limits(model, cfg.epsilon)
    log.write(cfg.steps_cliff, exact_edge=edge, exact_detour=detour, greedy_sarsa=greedy["sarsa"])

    log.claim(
        "sarsa_earns_more_online",
        "While exploring, SARSA earns more per episode than Q-learning, by at least half the exact gap.",
        online["sarsa"] - online["q_learning"],
        at_least=(detour - edge) / 2, unit="return", source="eqs. (2) and (3)", seeds="9/10",
    )  # fmt: skip
    log.claim(
        "q_learning_online",
        "Q-learning's online return is that of exploring around the shortest path.",
        online["q_learning"], near=(edge, 5.0), unit="return", source="eq. (2)", seeds="9/10",
    )  # fmt: skip
    log.claim(
        "sarsa_online",
        "SARSA's online return comes close to the best of any policy that explores at this rate.",
        online["sarsa"], near=(detour, 5.0), unit="return", source="eq. (3)", seeds="9/10",
    )  # fmt: skip
    log.claim(
        "q_learning_greedy_path",
        "Q-learning's greedy path is the shortest there is: 13 steps.",
        greedy["q_learning"],
        near=(-13.0, 1e-9), unit="return", source="suttonbarto2018, Example 6.6", seeds="9/10",
    )  # fmt: skip
    log.claim(
        "sarsa_greedy_path",
        "SARSA's greedy path is at least two steps longer.",
        greedy["sarsa"],
        at_most=-15.0, unit="return, at most 100 steps", source="suttonbarto2018, Example 6.6", seeds="9/10",
    )  # fmt: skip
    return tables


def cliff_limits(model: Model, epsilon: float, horizon: int = 3000) -> tuple[float, float]:
    """Exact online returns: epsilon-greedy around the shortest path, and the best policy that explores so."""
    q = value_iteration(model.transitions, model.rewards, 1.0)
    policy = (1 - epsilon) * greedy_policy(q) + epsilon / q.shape[1]
    edge = model.start @ evaluate_exactly(model.transitions, model.rewards, policy, horizon)
    detour = model.start @ best_within(model.transitions, model.rewards, horizon, epsilon)
    return float(edge), float(detour)


# %% [markdown]
r"""
## 8. A clock is not an end

In the probe environment `ProbeEndless` every step pays 1 for ever, and a time limit cuts the recording every 10
steps. The value is $1 + \gamma + \gamma^2 + \dots = 1/(1-\gamma)$: 10 for $\gamma$ = 0.9. Whoever treats the cut as an
end solves $Q = 1 + \gamma \cdot \tfrac{9}{10} Q$ instead and gets 5.3.
"""


# %%
def endless_value(gamma: float, seed: int, num_steps: int = 2000) -> float:
    """The value Q-learning finds for one reward a step for ever, cut every 10 steps."""
    endless = gym.make("chapters.envs:ProbeEndless-v0")
    env = gym.wrappers.TransformObservation(endless, lambda obs: 0, gym.spaces.Discrete(1))
    return float(learn(env, Settings(gamma=gamma), num_steps, seed).q[0, 0])


# %% [markdown]
r"""
## 9. Run, look, break

**Look.** The first figure shows the exact success of the greedy policy against experience, with the time-dependent
optimum drawn in. Nothing happens until the first success; then value spreads backwards from the goal, one step of
bootstrapping at a time. The orange curve is the sample mean ($p = 1$), which crawls. The heat maps show
$\max_a Q(s,a)$: arrows often point *away* from a neighbouring hole, into a wall, because on slippery ice only the two
sideways slips and the intended move can happen, and never the step back. The third shows the discount's price, the
last the two paths along the cliff.

**Break.** Merge the two ends: in `learn`, pass `terminated or truncated` to `q_learning_target` instead of
`terminated`. The lakes' curves hardly change, which is why this bug lives so long. The claim about the endless probe
fails at once: the value drops from 10 to about 5.3, as computed above.

**Exercises.** (1) Set `--epsilon-end 0`. The agent still learns something on the way down; what does it miss? (2) Start
the table at 1 instead of 0 and fix epsilon at 0.1: untried actions now look good, and the agent explores by optimism.
Does it beat the annealed run after 100,000 steps, and after 800,000? (3) *Expected* SARSA bootstraps from the average of
$Q(s',\cdot)$ under the $\varepsilon$-greedy policy. Write its target; which of the two paths does it choose?
"""


# %%
def draw_learning(runs: list[dict], log: RunLog) -> None:
    """Exact success against steps, one run or a band over several."""
    figure, axes = plotting.new_figure(1, 2)
    curves = {
        "4x4": [
            ("success_4x4", "step size 1/√n", plotting.BLUE),
            ("success_4x4_mean", "1/n", plotting.ORANGE),
        ],
        "8x8": [("success_8x8", "step size 1/√n", plotting.BLUE)],
    }
    for ax, (size, lines) in zip(axes, curves.items()):
        for metric, label, color in lines:
            steps = [step / 1000 for step, _ in runs[0]["metrics"][metric]]
            values = [[value for _, value in run["metrics"][metric]] for run in runs]
            if len(runs) > 1:
                plotting.seed_band(ax, steps, values, label, color)
            else:
                ax.plot(steps, values[0], color=color, label=label)
        optimum = lake_optimum(make_lake(size))
        ax.axhline(optimum, label=f"time-dependent optimum {optimum:.3f}", **plotting.REFERENCE)
        ax.set(title=f"FrozenLake {size}", xlabel="environment steps (thousands)", ylim=(0, 1.25))
        ax.set_yticks(np.arange(0, 1.01, 0.2))
        ax.legend(loc="upper left")
    axes[0].set_ylabel("exact success rate of the greedy policy")
    log.figure(figure)


def draw_tables(tables: dict[str, Float[np.ndarray, "S A"]], log: RunLog) -> None:
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


def draw_gamma(log: RunLog) -> None:
    """Exact success on the 8x8 lake against the discount's horizon."""
    figure, ax = plotting.new_figure(width=7.2)
    horizons, patient = log.series("exact_success_patient")
    optimum = lake_optimum(make_lake("8x8"))
    clocked = optimum * np.array(log.series("exact_share")[1])
    ax.plot(horizons, patient, "o-", color=plotting.ORANGE, label="exact policy without a clock")
    ax.plot(horizons, clocked, "o-", color=plotting.BLUE, label="exact policy, 200 steps")
    ax.axhline(optimum, label=f"time-dependent optimum, 200 steps: {optimum:.3f}", **plotting.REFERENCE)
    ax.axvline(200, color="grey", linestyle=":", label="the clock: 200 steps")
    ax.set(
        xscale="log", ylim=(0.7, 1.03), title="A small discount gambles (8x8 lake)",
        xlabel="horizon of the discount, 1/(1 - gamma), in steps", ylabel="exact success rate",
    )  # fmt: skip
    ax.legend(loc="lower right")
    log.figure(figure, "gamma")


def greedy_path(q: Float[np.ndarray, "S A"], model: Model, limit: int = 100) -> list[int]:
    """States visited by the greedy policy in a deterministic world, up to a repeated state or the end."""
    path = [int(model.start.argmax())]
    while len(path) < limit:
        successors = model.transitions[path[-1], q[path[-1]].argmax()]
        if not successors.any() or int(successors.argmax()) in path:
            break
        path.append(int(successors.argmax()))
    return path


def draw_paths(ax, tables: dict[str, Float[np.ndarray, "S A"]]) -> None:
    """Both greedy paths over the cliff."""
    model = read_model(gym.make("CliffWalking-v1"))
    ground = np.zeros((4, 12))
    ground[3, 1:11] = 1
    ax.imshow(ground, cmap="Greys", vmin=0, vmax=2.5)
    styles = {"q_learning": ("Q-learning", plotting.BLUE, 0.08), "sarsa": ("SARSA", plotting.ORANGE, -0.08)}
    for name, (label, color, shift) in styles.items():
        path = greedy_path(tables[name], model)
        if path[-1] == 35:  # the state above the goal: the last step ends the episode and is not in the model
            path.append(47)
        rows, columns = np.divmod(path, 12)
        ending = f"{len(path) - 1} steps" if path[-1] == 47 else "loops"
        ax.plot(columns + shift, rows - shift, "o-", color=color, markersize=4, label=f"{label}: {ending}")
    for column, text in ((0, "S"), (5.5, "cliff: −100"), (11, "G")):
        ax.text(column, 3.28, text, ha="center", va="center", fontsize=11)
    ax.set(title="Greedy paths", xticks=[], yticks=[], ylim=(3.5, -1.9))
    ax.grid(False)
    ax.legend(loc="upper center", ncols=2)


def draw_cliff(tables: dict[str, Float[np.ndarray, "S A"]], cfg: Config, log: RunLog) -> None:
    """The greedy paths, and what each learner earned while it learned."""
    figure, axes = plotting.new_figure(1, 2, width=7.0)
    draw_paths(axes[0], tables)
    for name, label, color in (
        ("q_learning", "Q-learning", plotting.BLUE),
        ("sarsa", "SARSA", plotting.ORANGE),
    ):
        if f"online_{name}" in log.metrics:
            steps, returns = log.series(f"online_{name}")
            axes[1].plot(np.array(steps) / 1000, returns, color=color, label=label)
    for metric, text in (
        ("exact_detour", "best exploring policy"),
        ("exact_edge", "exploring around the edge"),
    ):
        value = log.last(metric)
        axes[1].axhline(value, **plotting.REFERENCE)
        axes[1].text(
            cfg.steps_cliff / 1000, value + 1.5, f"exact: {text} {value:.1f}", ha="right", fontsize=11
        )
    axes[1].set(
        title="Online return", xlabel="environment steps (thousands)", ylabel="return per episode",
        ylim=(-80, 0),
    )  # fmt: skip
    axes[1].legend(loc="lower right", ncols=2)
    log.figure(figure, "cliff")


# %%
def main(cfg: Config, log: RunLog) -> None:
    log.claim(
        "time_limit_bootstraps",
        "A reward of 1 for ever is worth 1/(1 - gamma), though a time limit cuts every episode.",
        endless_value(0.9, cfg.seed),
        near=(10.0, 0.1), unit="value", source="geometric series; pardo2018timelimits", always=True,
    )  # fmt: skip
    study_gamma(log)
    tables = {
        "4x4": run_lake("4x4", cfg.steps_4x4, cfg, log),
        "8x8": run_lake("8x8", cfg.steps_8x8, cfg, log),
    }
    compare_step_sizes(tables["4x4"], cfg, log)
    study_ties(cfg, log)
    cliff_tables = run_cliff(cfg, log)

    draw_learning([{"metrics": log.metrics}], log)
    draw_tables(tables, log)
    draw_gamma(log)
    draw_cliff(cliff_tables, cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the learning curves as bands."""
    draw_learning(runs, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
