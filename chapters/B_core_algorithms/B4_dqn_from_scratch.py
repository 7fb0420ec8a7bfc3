# %% [markdown]
r"""
# B4 · DQN from scratch

**Question.** What turns a Q-table into a network that can be trained, which parts carry the weight, and does
what it has learned last?

**Before this:** B3 (a deep Q-network, DQN, by Stable-Baselines3). **Changes from B3:** every part is written
out; double DQN takes the luck out of the maximum; four environments feed one learner; an average of the
weights acts when we evaluate. **Next:** chapter C improves the policy itself.

**Time.** 50 s on 2 cores; with all evidence 400 s.

References: `mnih2015dqn`, `lin1992replay`, `vanhasselt2016double`, `wang2016dueling`, `polyak1992averaging`.

Symbols: `N` parallel environments, `B` transitions in a minibatch, `D` observation size, `A` actions;
$\theta$ online, $\theta^-$ target, $\bar\theta$ averaged weights.
"""

# %%
import copy
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.exploration import epsilon_greedy, falling
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

SOLVED = 475.0  # the threshold registered for CartPole-v1
Numbers = Float[Tensor, " B"]  # one for each transition
Flags = Bool[Tensor, " B"]


@dataclass(frozen=True)
class Config:
    """Double DQN from scratch on CartPole."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    num_envs: Annotated[int, in_range(1, 1024)] = 4
    """N: environments stepped in parallel; one gradient step for every N environment steps."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 49_152
    """Environment steps of training."""
    num_warmup_steps: Annotated[int, in_range(1, 1_000_000)] = 1000
    """Environment steps before the first gradient step."""
    num_exploration_steps: Annotated[int, in_range(1, 10_000_000)] = 8000
    """Environment steps over which epsilon, the share of random actions, falls from 1 to 0.04."""
    buffer_size: Annotated[int, in_range(1, 10_000_000)] = 100_000
    """Transitions the replay buffer holds."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 64
    """B: transitions per gradient step."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 128
    """Units in each of the two hidden layers."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2e-3
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.99
    """Discount factor."""
    sync_every: Annotated[int, in_range(1, 1_000_000)] = 50
    """Gradient steps between copies of the online weights into the target network."""
    average_rate: Annotated[float, in_range(0.0, 1.0)] = 0.01
    """How fast the averaged weights follow the online ones; 1 makes them the same."""
    num_evaluations: Annotated[int, in_range(1, 10_000)] = 24
    """Evaluations of 100 greedy episodes, evenly spread over the training."""


SMOKE = {"num_env_steps": 256, "num_warmup_steps": 64, "hidden_size": 16, "num_evaluations": 2}

# %% [markdown]
r"""
## 1. The target, and who chooses

Q-learning moves $Q(s,a)$ towards one real reward and its own guess about the rest:

$$y = r + \gamma\,(1 - \text{terminated})\;v(s') \tag{1}$$

Only `terminated` removes the guess: a time limit cuts the *recording*, and the pole still stands at step 500.

What is $v(s')$, the guess? From the network that learns it would move with every gradient step, so it comes
from a frozen copy $\theta^-$, the *target network*. Plain DQN takes the copy's value of the action that the
copy itself likes best:

$$v(s') = \max_a Q_{\theta^-}(s', a) = Q_{\theta^-}\bigl(s', \arg\max_a Q_{\theta^-}(s', a)\bigr) \tag{2}$$

Every estimate is off by some noise, and of several noisy numbers the largest is more often lucky than good.
So (2) is too high on average, and (1) hands the excess on to earlier states: *maximisation bias*. *Double
DQN* lets one network choose and the other judge, so that the luck of the first does not count twice:

$$v(s') = Q_{\theta^-}\bigl(s', \arg\max_a Q_\theta(s', a)\bigr) \tag{3}$$

*By hand.* In truth both actions are worth 1. The online network, which learns, estimates 0.75 and 1.25, the
target network 2 and 0.5. Plain DQN believes the lucky 2. Double DQN lets the online network choose, here the
second action, and believes the target network's 0.5: too low this time, but the judge's noise points down as
often as up.

```python
>>> online_q, target_q = torch.tensor([[0.75, 1.25]]), torch.tensor([[2.0, 0.5]])
>>> torch.cat([double_value(target_q, target_q), double_value(online_q, target_q)]).tolist()
[2.0, 0.5]
```
"""


# %%
# same-as: B3.td_target
def td_target(rewards: Numbers, next_values: Numbers, terminated: Flags, gamma: float) -> Numbers:
    """What Q(s, a) should be, given the value of the true successor (mnih2015dqn)."""
    return rewards + gamma * ~terminated * next_values  # eq. (1)


def double_value(online_q: Float[Tensor, "B A"], target_q: Float[Tensor, "B A"]) -> Numbers:
    """The online network chooses, the target network judges (vanhasselt2016double)."""
    chosen = online_q.argmax(dim=1, keepdim=True)  # [B, 1]
    return target_q.gather(1, chosen).squeeze(1)  # eq. (3)


# %% [markdown]
r"""
## 2. Network, memory, learning

The *replay buffer* is a ring: it keeps the latest transitions and hands out random ones, lest a minibatch be
many views of one moment. At a time limit `step` returns the next episode's first observation; the buffer
stores the true successor instead. Of the two flags it stores `terminated` alone, as (1) needs no other.

A round is one step in every environment, with ever fewer random actions, and one gradient step. Every
`sync_every` gradient steps the target network copies the online weights $\theta$. A third set of weights,
$\bar\theta$, follows the online ones slowly:

$$\bar\theta \leftarrow \bar\theta + \rho\,(\theta - \bar\theta) \tag{4}$$

It never trains and never collects. It acts when we evaluate: the online policy flickers from one gradient
step to the next, and an average over about the last hundred steps ($\rho = 0.01$) flickers less. The target
network's copy is (4) with $\rho = 1$.
"""


# %%
class QNetwork(nn.Module):
    """Observations [..., D] to action values [..., A]; two hidden layers."""

    def __init__(self, obs_dim: int, num_actions: int, hidden_size: int):
        super().__init__()
        first = nn.Linear(obs_dim, hidden_size)
        second = nn.Linear(hidden_size, hidden_size)
        self.body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.head = nn.Linear(hidden_size, num_actions)

    def forward(self, obs: Tensor) -> Tensor:
        return self.head(self.body(obs))


class ReplayBuffer:
    """A ring of transitions in NumPy (lin1992replay)."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.num_added = 0
        self.arrays: dict[str, np.ndarray] = {}  # [capacity, ...] each, made by the first `add`

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    def add(self, **step: np.ndarray) -> None:
        """Store one array [N, ...] under each name; the oldest transitions make room."""
        num_new = len(step["obs"])
        slots = (self.num_added + np.arange(num_new)) % self.capacity
        for name, values in step.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self.capacity, *values.shape[1:]), values.dtype)
            self.arrays[name][slots] = values
        self.num_added += num_new

    def sample(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`size` transitions, each drawn from all that are stored with the same probability."""
        drawn = rng.integers(len(self), size=size)  # [B]
        return {name: torch.from_numpy(array[drawn]) for name, array in self.arrays.items()}


class Agent:
    """What learning changes: three sets of weights, the optimiser's state and the buffer."""

    def __init__(self, envs: gym.vector.VectorEnv, cfg: Config):
        (obs_dim,) = envs.single_observation_space.shape
        num_actions = int(envs.single_action_space.n)
        self.online = QNetwork(obs_dim, num_actions, cfg.hidden_size)
        self.target = copy.deepcopy(self.online)
        self.average = copy.deepcopy(self.online)
        self.optimizer = Adam(self.online.parameters(), lr=cfg.learning_rate)
        self.buffer = ReplayBuffer(cfg.buffer_size)
        self.rng = np.random.default_rng([cfg.seed, 1])  # not the stream that the environments draw from
        self.num_updates = 0
        self.num_episodes = 0
        self.best_return = -np.inf
        self.best: QNetwork | None = None


def collect(agent: Agent, envs: gym.vector.VectorEnv, obs: np.ndarray, epsilon: float) -> np.ndarray:
    """One step in each environment, into the buffer; returns the observations [N, D] to act on next."""
    with torch.inference_mode():
        q_values = agent.online(torch.from_numpy(obs)).numpy()  # [N, A]
    actions = epsilon_greedy(q_values, epsilon, agent.rng)
    next_obs, rewards, terminated, truncated, infos = envs.step(actions)
    done = terminated | truncated
    agent.buffer.add(
        obs=obs,
        actions=actions,
        rewards=rewards.astype(np.float32),
        next_obs=true_next_obs(next_obs, done, infos),
        terminated=terminated,
    )
    agent.num_episodes += int(done.sum())
    return next_obs


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the weights of `average` towards those of `network`; rate 1 copies (polyak1992averaging)."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), rate)  # eq. (4)


def update(agent: Agent, cfg: Config) -> None:
    """One gradient step on a random minibatch, then the two slower sets of weights."""
    batch = agent.buffer.sample(cfg.minibatch_size, agent.rng)
    with torch.no_grad():  # the target is a constant
        target_q = agent.target(batch["next_obs"])  # [B, A]
        next_values = double_value(agent.online(batch["next_obs"]), target_q)
        targets = td_target(batch["rewards"], next_values, batch["terminated"], cfg.gamma)
    predicted = agent.online(batch["obs"]).gather(1, batch["actions"].unsqueeze(1)).squeeze(1)  # [B]
    loss = nn.functional.smooth_l1_loss(predicted, targets)  # Huber's, as in B3
    agent.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.online.parameters(), 10.0)
    agent.optimizer.step()
    agent.num_updates += 1
    move_average(agent.average, agent.online, cfg.average_rate)
    if agent.num_updates % cfg.sync_every == 0:
        move_average(agent.target, agent.online, 1.0)


@torch.inference_mode()
def greedy_return(network: nn.Module, seed: int) -> float:
    """Mean return of 100 greedy episodes, on seeds that training did not use."""
    policy = lambda obs: network(torch.from_numpy(obs)).argmax(-1).numpy()  # noqa: E731
    return float(evaluate(policy, "CartPole-v1", seed=seed).mean())


def train(cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None, name: str = "double") -> Agent:
    """Train one learner, on CartPole with evaluations, or without any on environments that are passed in."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs("CartPole-v1", cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = Agent(envs, cfg)
    clock = CpuClock()
    num_rounds = cfg.num_env_steps // envs.num_envs
    eval_every = max(1, num_rounds // cfg.num_evaluations)
    for round_ in log.track(range(1, num_rounds + 1), f"rounds of {name}", f"{name}_return"):
        step = round_ * envs.num_envs
        with clock:  # evaluations are not on it
            obs = collect(agent, envs, obs, falling(step, cfg.num_exploration_steps, end=0.04))
            if len(agent.buffer) >= cfg.num_warmup_steps:
                update(agent, cfg)
        if evaluated and round_ % eval_every == 0:
            score = greedy_return(agent.average, cfg.seed + 10_000)
            log.write(step, **{f"{name}_return": score, f"{name}_cpu_seconds": clock.seconds})
            log.write(step, **{f"{name}_episodes": agent.num_episodes})
            if score > agent.best_return:
                agent.best_return = score
                agent.best = copy.deepcopy(agent.average)
    return agent


# %% [markdown]
r"""
## 3. Look, break, write

![The greedy return rises to 500 late in training on most seeds, and does not always stay](results/B4.png)

The best model is judged on episodes that did not choose it. The evidence takes the lesson's learner and
changes one thing in each row, with as many gradient steps (a dot is a seed, a line the median). "As in many
tutorials" is a recipe that is copied around, and makes several of these changes at once.

![Seconds to the first 475, and the share of later evaluations that keep it](results/B4_race.png)

Without a *target network* the values run away, and the pole falls at once. Copied every ten *episodes* it
lags: the longer episodes last, the rarer the copies, and (1) hands a reward back by one step a copy. Most
seeds are then never solved. The tutorials' recipe copies that way, too, and solves none; with copies every 50
steps it solves most, not all. Without *replay*, or with half the step size, a few seeds fail. Whether weights
are averaged, and how large the buffer is, matters less than the seed.

*Double.* No policy can earn more than $1 / (1 - \gamma) = 100$ here. CartPole has only two actions and no
noise in its rewards, and still plain DQN believes in more than that on most seeds, double DQN on fewer than
half (`B4_truth.png`). Double DQN's success also lasts longer. In Sutton and Barto's example 6.7 there are
more actions to pick from and noisy rewards: Q-learning at first prefers the worse of two ways and unlearns it
slowly, double Q-learning never prefers it (`B4_bias.png`).

**The verdict.** Regression on a target that a frozen copy computes, over transitions drawn at random, turns
the table into a network. The frozen copy carries the weight: without it no seed is solved, and renewed too
rarely it fails on most. No variant kept 475 on every seed once it had it, nor did the library. So save the
best model.

<!-- results: B4 -->

`rl run B4`: 18 s; with `--evidence`: 265 s, 915 MB; with `--smoke --evidence`: 8 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| q_values_changed_by_reload | 0                      | ≤ 0          | 10/10  |
| reloaded_return            | 500                    | ≥ 475        | 10/10  |
| endless_value *            | 100                    | 100 ± 0.01   | 10/10  |
| endless_value_merged *     | 9.17                   | 9.174 ± 0.01 | 10/10  |
| best_return *              | 500                    | ≥ 475        | 10/10  |
| plain_peak_left *          | 0.941 (0.94 to 0.943)  | ≥ 0.75       | 10/10  |
| double_peak_left *         | 0.508 (0.503 to 0.51)  | ≤ 0.53       | 10/10  |
| left_at_the_end *          | 0.267 (0.255 to 0.291) | ≤ 0.5        | 10/10  |
| cpu_seconds_ratio *        | 0.366                  | ≤ 1          | pooled |
| plain_overestimates_more * | 0.6                    | ≥ 0          | pooled |
| no_target_solves *         | 0                      | ≤ 0.5        | pooled |
| double_lasts_longer *      | 0.00586                | ≤ 0.05       | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `q_values_changed_by_reload`: the saved weights, loaded again, give exactly the same Q-values (of 2000)
- `reloaded_return`: the saved best model holds the threshold on fresh episodes (mean return of 100 episodes)
- `endless_value`: with the limit bootstrapped, a world without end is worth 1 / (1 - gamma)
- `endless_value_merged`: with the limit stored as an end, a world without end seems worth 1 / (1 - 0.9 gamma)
- `best_return`: the greedy policy crosses the threshold at some evaluation (mean return of 100 episodes)
- `plain_peak_left`: Q-learning learns to prefer the worse action: its share of going left rises to (share of
  runs going left)
- `double_peak_left`: double Q-learning never does: its share starts at a coin toss and falls (share of runs
  going left)
- `left_at_the_end`: at the end double Q-learning is less than half as far above the 5 % of exploration (ratio
  of the excesses)
- `cpu_seconds_ratio`: ours needs fewer CPU seconds to 475 than Stable-Baselines3's DQN (ratio of medians over
  paired seeds)
- `plain_overestimates_more`: the last network believes its start to be worth more than is possible on more
  seeds with plain DQN (share of seeds with plain, less that with double)
- `no_target_solves`: without a target network 475 is reached on fewer than half of the seeds (share of seeds)
- `double_lasts_longer`: after the first 475, double DQN keeps it for a larger share of the evaluations than
  plain DQN (p, all sign flips of the paired differences)
</details>

<!-- /results -->

**Break it.** `rl break B4 no_target`: the network chases its own guess. `rl break B4 plain`, `dueling` (B4.4)
or `no_replay`: one run proves little here, so compare the change with the spread over seeds in the figure.
`rl break B4 merged` stores a time limit as an end. No claim about CartPole notices; a world that pays 1 for
ever and is cut every ten steps does (`endless_value_merged`).

**Exercises.**

<!-- exercises: B4 -->

*B4.1 · Choose, remember, follow* (40 minutes, medium). Write double DQN's value (3), the ring that remembers,
and the average that follows (4). `rl exercise B4.double_value`, `rl exercise B4.ReplayBuffer`, `rl exercise
B4.move_average`.

*B4.2 · Look further ahead* (35 minutes, hard). With (1) a reward travels back by only one step for each copy
of the target network. Summing $m$ real rewards first, as in B2, makes it faster:

$$y_t = \sum_{i=0}^{m-1} \gamma^i r_{t+i} + \gamma^m (1 - \text{terminated}_{t+m-1})\, v(s_{t+m}) \tag{E1}$$

Here $m$ is $n$, or less where an episode or the rollout (the recorded stretch of steps) ends before. A time
limit ends the sum too, but its state keeps its value. Which of these rewards follow from an older policy's
actions, and does double DQN mend that? `rl exercise B4.n_step_targets`.

<details><summary>Answer</summary>

All but the first, which is paid for the very $a_t$ that $Q(s_t, a_t)$ asks about. But $r_{t+1}, r_{t+2},
\dots$ follow actions of the policy that filled the buffer, not of the one whose value is learned, and double
DQN changes only $v$. B2's ratios would mend it. In practice a small $n$ is used without them: the buffer's
policy is not far off, and rewards arrive sooner.
</details>

*B4.3 · A wrong successor* (20 minutes, medium). At a time limit the mistake `after_the_reset` stores the next
episode's first observation as the successor. The evidence's `endless_value`, measured in a world that is cut
every ten steps, stays right all the same. Why, and what would a world look like that notices?

<details><summary>Answer</summary>

In that world, `Endless`, all states look alike, so the next episode's first one is as good as the true
successor. A probe that notices must be cut in a state in which few episodes start: `CutShort` in
`chapters/envs/probes.py`.
</details>

*B4.4 · Dueling* (10 minutes, easy). The last layer can have another shape: how good is the state, and how
much better than average is each action (`wang2016dueling`)?

$$Q(s,a) = V(s) + A(s,a) - \tfrac{1}{|A|}\textstyle\sum_{b} A(s,b) \tag{E2}$$

Why is the mean subtracted? `rl break B4 dueling` puts the layer in. `rl exercise B4.dueling_q`.

<details><summary>Answer</summary>

Otherwise a constant could wander between the two: $V + 7$ and $A - 7$ give the same $Q$, and neither would
mean what it is called. With the mean subtracted, $V$ is the mean of the $Q$-values of its state.
</details>

*B4.5 · Find the bug* (10 minutes). `rl exercise B4.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    agent = train(cfg, log)
    plotting.learning_curve(log, "double_return", threshold=SOLVED, xlabel="steps", ylabel="greedy return")
    torch.save(agent.best.state_dict(), log.folder / "best.pt")
    loaded = copy.deepcopy(agent.online)
    # weights_only: tensors are read as data; without it, loading runs whatever code a file holds
    loaded.load_state_dict(torch.load(log.folder / "best.pt", weights_only=True))
    obs = torch.randn(1000, 4)
    with torch.inference_mode():
        changed = (agent.best(obs) != loaded(obs)).sum()
    log.claim(
        "q_values_changed_by_reload",
        "the saved weights, loaded again, give exactly the same Q-values",
        changed,
        at_most=0,
        unit="of 2000",
        source="identity",
        always=True,
    )
    log.claim(
        "reloaded_return",
        "the saved best model holds the threshold on fresh episodes",
        greedy_return(loaded, cfg.seed + 20_000),
        at_least=SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )
    log.keep(agent=agent)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
