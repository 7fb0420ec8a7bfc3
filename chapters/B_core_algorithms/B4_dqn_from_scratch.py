# %% [markdown]
r"""
# B4 · DQN from scratch

**Question.** What turns a Q-table into a network that can be trained, which of its parts carry the weight,
and once it balances the pole, does it stay that way?

**Before this:** B3 (DQN by Stable-Baselines3). **Changes from B3:** every part is written out: replay, target
network, double and dueling estimates, and a time limit that is not mistaken for an end. **Next:** chapter C
leaves values behind and improves the policy itself.

**Time budget.** 180 s on 2 cores.

<!-- results: B4 -->
<!-- /results -->

References: `mnih2015dqn`, `lin1992replay`, `vanhasselt2010double`, `vanhasselt2016double`, `wang2016dueling`,
`polyak1992averaging`, `pardo2018timelimits`, `suttonbarto2018`, `raffin2021sb3`, `raffin2020zoo`.

Symbols: `N` parallel environments, `B` transitions in a minibatch, `D` observation size, `A` actions,
$\theta$ online weights, $\theta^-$ target weights, $\bar\theta$ averaged weights.
"""

# %%
import copy
import dataclasses
import io
import time
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs.cartpole import BatchedCartPole
from chapters.utils import (
    RunLog,
    evaluate,
    in_range,
    make_envs,
    plotting,
    run_lesson,
    seed_everything,
    true_next_obs,
    write_atomic,
)  # fmt: skip

SOLVED = 475.0  # the threshold registered for CartPole-v1


# %%
@dataclass(frozen=True)
class Config:
    """DQN from scratch on CartPole, against Stable-Baselines3, and maximisation bias in a two-state world."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation and discrete actions."""
    num_envs: Annotated[int, in_range(1, 1024)] = 1
    """N: environments stepped in parallel, one gradient step for each round of N steps."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 12_288
    """Environment steps of each of our learners."""
    buffer_size: Annotated[int, in_range(1, 10_000_000)] = 100_000
    """Transitions the replay buffer holds."""
    num_warmup_steps: Annotated[int, in_range(1, 1_000_000)] = 500
    """Environment steps before the first gradient step."""
    num_exploration_steps: Annotated[int, in_range(1, 10_000_000)] = 3_000
    """Steps over which epsilon falls from 1."""
    epsilon_end: Annotated[float, in_range(0.0, 1.0)] = 0.04
    """What epsilon falls to."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 64
    """B: transitions per gradient step."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 128
    """Units in each of the two hidden layers."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2e-3
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e6)] = 10.0
    """Global gradient-norm clip."""
    sync_every: Annotated[int, in_range(1, 1_000_000)] = 50
    """Gradient steps between copies of the online weights into the target network."""
    average_rate: Annotated[float, in_range(0.0, 1.0)] = 0.01
    """How fast the averaged weights, which act in evaluations, follow the online ones; 1 switches it off."""
    double: bool = True
    """Let the online network choose the next action and the target network judge it."""
    dueling: bool = False
    """Split Q into a state value and advantages."""
    merge_time_limit: bool = False
    """The bug: store a time limit as if the episode had truly ended."""
    sync_episodes: Annotated[int, in_range(0, 1000)] = 0
    """If positive, copy the weights every so many episodes instead of every `sync_every` gradient steps."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 512
    """Environment steps between evaluations, for our learners and for Stable-Baselines3 alike."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""
    num_sb3_steps: Annotated[int, in_range(1, 10_000_000)] = 50_000
    """Environment steps of Stable-Baselines3's DQN (rl-zoo's number)."""
    num_tabular_runs: Annotated[int, in_range(1, 1_000_000)] = 10_000
    """Independent learners in the two-state world."""
    num_tabular_episodes: Annotated[int, in_range(20, 100_000)] = 300
    """Episodes of each of them."""


SMOKE = {
    "num_env_steps": 256, "num_warmup_steps": 64, "hidden_size": 16, "eval_every": 128,
    "num_eval_episodes": 4, "num_sb3_steps": 300, "num_tabular_runs": 100, "num_tabular_episodes": 40,
}  # fmt: skip

# %% [markdown]
r"""
## 1. The target

Q-learning moves $Q(s,a)$ towards a target made of one real reward and its own guess about the rest. With a
network the guess moves whenever the weights do, so it is taken from a frozen copy $\theta^-$:

$$y = r + \gamma\,(1 - \text{terminated})\;v(s') \tag{1}$$

Only `terminated` removes the guess. A time limit cuts the *recording*, not the world: the pole still stands
at step 500, and what follows is worth as much as before. What is $v(s')$? Plain DQN asks the target network
for its best action and for that action's value:

$$v(s') = \max_a Q_{\theta^-}(s', a) \tag{2}$$

Of several noisy estimates the largest is more often lucky than good, so (2) is too high on average.
Double DQN lets one network choose and the other judge, so that the luck of the first is not counted twice:

$$v(s') = Q_{\theta^-}\bigl(s', \arg\max_a Q_\theta(s', a)\bigr) \tag{3}$$
"""


# %%
def td_target(
    rewards: Float[Tensor, " B"],
    next_values: Float[Tensor, " B"],
    terminated: Bool[Tensor, " B"],
    gamma: float,
) -> Float[Tensor, " B"]:
    """What Q(s, a) should be, given the value of the true successor (mnih2015dqn)."""
    return rewards + gamma * ~terminated * next_values  # eq. (1)


def max_value(target_q: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """The target network chooses and judges."""
    return target_q.amax(dim=1)  # eq. (2)


def double_value(online_q: Float[Tensor, "B A"], target_q: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """The online network chooses, the target network judges (vanhasselt2016double)."""
    chosen = online_q.argmax(dim=1, keepdim=True)  # [B, 1]
    return target_q.gather(1, chosen).squeeze(1)  # eq. (3)


# %% [markdown]
r"""
The loss is quadratic near zero and linear beyond one, so that a single wild target cannot throw the weights
far off (Huber's loss, with $e = Q_\theta(s,a) - y$):

$$\ell(e) = \begin{cases} \tfrac12 e^2 & |e| \le 1 \\ |e| - \tfrac12 & |e| > 1 \end{cases} \tag{4}$$
"""


# %%
def huber_loss(predicted: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean of (4): its gradient in each prediction is the error, clipped to [-1, 1], over B."""
    error = (predicted - target).abs()
    return torch.where(error <= 1.0, 0.5 * error**2, error - 0.5).mean()  # eq. (4)


# %% [markdown]
r"""
## 2. The network

Two hidden layers. The *dueling* head says how good the state is and how much better than average each
action is; the mean is subtracted because otherwise a constant could wander between the two:

$$Q(s,a) = V(s) + A(s,a) - \tfrac{1}{|A|}\textstyle\sum_{b} A(s,b) \tag{5}$$
"""


# %%
def dueling_q(value: Float[Tensor, "*B 1"], advantages: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
    """One Q-value an action out of a state value and advantages (wang2016dueling, eq. 9)."""
    return value + advantages - advantages.mean(dim=-1, keepdim=True)  # eq. (5)


class QNetwork(nn.Module):
    """Observations [..., D] to action values [..., A]."""

    def __init__(self, obs_dim: int, num_actions: int, hidden_size: int, dueling: bool):
        super().__init__()
        self.dueling = dueling
        self.layers = nn.Sequential(
            nn.Linear(obs_dim, hidden_size), nn.ReLU(),
            nn.Linear(hidden_size, hidden_size), nn.ReLU(),
            nn.Linear(hidden_size, num_actions + dueling),
        )  # fmt: skip

    def forward(self, obs: Tensor) -> Tensor:
        out = self.layers(obs)
        return dueling_q(out[..., :1], out[..., 1:]) if self.dueling else out


# %% [markdown]
r"""
## 3. Replay

Consecutive steps look alike, and a network that trains on them in order forgets the rest. The buffer keeps
the last `buffer_size` transitions in a ring and hands out random ones. It stores the *true* successor (not
the first observation of the next episode) and `terminated` alone: `truncated` plays no part in (1).
"""


# %%
class ReplayBuffer:
    """A ring of transitions in numpy; sampling is one indexing operation per array (lin1992replay)."""

    def __init__(self, capacity: int, obs_dim: int):
        self.capacity, self.num_added = capacity, 0
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.terminated = np.zeros(capacity, dtype=bool)

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    def add(
        self,
        obs: Float[np.ndarray, "N D"],
        actions: Int[np.ndarray, " N"],
        rewards: Float[np.ndarray, " N"],
        next_obs: Float[np.ndarray, "N D"],
        terminated: Bool[np.ndarray, " N"],
    ) -> None:
        """Store N transitions; the oldest ones make room."""
        slots = (self.num_added + np.arange(len(obs))) % self.capacity
        self.obs[slots], self.actions[slots], self.rewards[slots] = obs, actions, rewards
        self.next_obs[slots], self.terminated[slots] = next_obs, terminated
        self.num_added += len(obs)

    def sample(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`size` transitions, each drawn from all that are stored with the same probability."""
        drawn = rng.integers(len(self), size=size)  # [B]
        names = ("obs", "actions", "rewards", "next_obs", "terminated")
        return {name: torch.from_numpy(getattr(self, name)[drawn]) for name in names}


# %% [markdown]
r"""
## 4. Collect

At first the estimates are worth nothing, so every action is random; epsilon falls in a line and stays where
it ends, because a policy that stops exploring fills the buffer with one kind of memory:

$$\epsilon_k = \max\bigl(\epsilon_{\text{end}},\; 1 - (1-\epsilon_{\text{end}})\,k/K\bigr) \tag{6}$$
"""


# %%
def epsilon_at(step: int, num_exploration_steps: int, epsilon_end: float) -> float:
    """The share of random actions at environment step `step`."""
    return max(epsilon_end, 1.0 - (1.0 - epsilon_end) * step / num_exploration_steps)  # eq. (6)


def epsilon_greedy(
    q_values: Float[np.ndarray, "N A"], epsilon: float, rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """A uniformly random action with probability `epsilon`, else a best one, ties broken at random."""
    num_envs, num_actions = q_values.shape
    is_best = q_values == q_values.max(axis=1, keepdims=True)
    greedy = np.where(is_best, rng.random(q_values.shape), -1.0).argmax(axis=1)
    explore = rng.random(num_envs) < epsilon
    return np.where(explore, rng.integers(num_actions, size=num_envs), greedy)


class Agent:
    """What learning changes: three sets of weights, the optimiser's state and the buffer."""

    def __init__(self, envs: gym.vector.VectorEnv, cfg: Config):
        (obs_dim,), num_actions = envs.single_observation_space.shape, int(envs.single_action_space.n)
        self.online = QNetwork(obs_dim, num_actions, cfg.hidden_size, cfg.dueling)
        self.target, self.average = copy.deepcopy(self.online), copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=cfg.learning_rate, fused=True)
        self.buffer = ReplayBuffer(cfg.buffer_size, obs_dim)
        self.rng = np.random.default_rng(cfg.seed)
        self.num_updates = self.num_episodes = self.synced_at = 0


def collect(agent: Agent, envs: gym.vector.VectorEnv, obs: np.ndarray, epsilon: float, cfg: Config):
    """One step in each environment, into the buffer; returns the observations [N, D] to act on next."""
    with torch.inference_mode():
        q_values = agent.online(torch.from_numpy(obs)).numpy()  # [N, A]
    actions = epsilon_greedy(q_values, epsilon, agent.rng)
    next_obs, rewards, terminated, truncated, infos = envs.step(actions)
    done = terminated | truncated
    ended = done if cfg.merge_time_limit else terminated
    agent.buffer.add(obs, actions, rewards, true_next_obs(next_obs, done, infos), ended)
    agent.num_episodes += int(done.sum())
    return next_obs


# %% [markdown]
r"""
## 5. Learn

After each gradient step a third set of weights follows the online ones slowly:

$$\bar\theta \leftarrow \bar\theta + \rho\,(\theta - \bar\theta) \tag{7}$$

It never trains and never collects. It only acts when we evaluate, because the online network's policy
flickers from one gradient step to the next, and an average over the last hundred steps flickers less.
"""


# %%
def update(agent: Agent, cfg: Config) -> float:
    """One gradient step on a random minibatch; returns the loss."""
    batch = agent.buffer.sample(cfg.minibatch_size, agent.rng)
    with torch.no_grad():  # the target is a constant
        target_q = agent.target(batch["next_obs"])  # [B, A]
        next_q = (
            double_value(agent.online(batch["next_obs"]), target_q) if cfg.double else max_value(target_q)
        )
        targets = td_target(batch["rewards"], next_q, batch["terminated"], cfg.gamma)
    predicted = agent.online(batch["obs"]).gather(1, batch["actions"].unsqueeze(1)).squeeze(1)  # [B]
    loss = huber_loss(predicted, targets)

    agent.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.online.parameters(), cfg.max_grad_norm)
    agent.optimizer.step()
    agent.num_updates += 1

    move_average(agent.average, agent.online, cfg.average_rate)
    if cfg.sync_episodes:
        sync = agent.num_episodes - agent.synced_at >= cfg.sync_episodes
    else:
        sync = agent.num_updates % cfg.sync_every == 0
    if sync:
        move_average(agent.target, agent.online, 1.0)
        agent.synced_at = agent.num_episodes
    return loss.item()


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the weights of `average` towards those of `network`; rate 1 copies (polyak1992averaging)."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), rate)  # eq. (7)


class Scores:
    """Greedy returns while a learner trains, its CPU seconds between them, and its best weights."""

    def __init__(self, name: str, cfg: Config, log: RunLog):
        self.name, self.cfg, self.log = name, cfg, log
        self.seconds, self.best_return, self.best = 0.0, -np.inf, {}
        self.resumed = time.process_time()

    def measure(self, step: int, network: nn.Module) -> None:
        """Evaluate with the clock stopped; keep the weights if no earlier ones did better."""
        self.seconds += time.process_time() - self.resumed
        score = greedy_returns(network, self.cfg, seed=self.cfg.seed + 10_000).mean()
        self.log.write(step, **{f"{self.name}_return": score, f"{self.name}_cpu_seconds": self.seconds})
        if score > self.best_return:
            self.best_return, self.best = score, copy.deepcopy(network.state_dict())
        self.resumed = time.process_time()


def greedy_returns(network: nn.Module, cfg: Config, seed: int) -> np.ndarray:
    """Returns [episodes] of the greedy policy."""
    with torch.inference_mode():
        return evaluate(
            lambda obs: network(torch.from_numpy(obs)).argmax(dim=-1).numpy(),
            cfg.env_id, episodes=cfg.num_eval_episodes, seed=seed,
        )  # fmt: skip


def train(
    cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None, name: str = "double"
) -> tuple[Agent, Scores | None]:
    """Train one learner. Environments that are passed in are not evaluated on, only trained on."""
    seed_everything(cfg.seed)
    own = envs is None
    envs = make_envs(cfg.env_id, cfg.num_envs) if own else envs
    obs, _ = envs.reset(seed=cfg.seed)
    agent = Agent(envs, cfg)
    scores = Scores(name, cfg, log) if own else None
    steps = range(envs.num_envs, cfg.num_env_steps + 1, envs.num_envs)
    for step in log.track(steps, f"rounds ({name})", f"{name}_return"):
        epsilon = epsilon_at(step, cfg.num_exploration_steps, cfg.epsilon_end)
        obs = collect(agent, envs, obs, epsilon, cfg)
        if len(agent.buffer) >= cfg.num_warmup_steps:
            update(agent, cfg)
        if scores and step % cfg.eval_every < envs.num_envs:
            scores.measure(step, agent.average)
    return agent, scores


# %% [markdown]
r"""
## 6. What a merged time limit does

Probe `Endless` pays 1 a step for ever and is cut every 10 steps. Its value is $1/(1-\gamma)$. The average of
(1) over its transitions is a line in $v(s')$, whose fixed point is where Q-learning settles. Told that every
tenth step is the end, it settles at $1/(1-0.9\gamma)$: below a tenth of the truth for $\gamma=0.99$.
"""


# %%
def endless_value(cfg: Config, merge_time_limit: bool) -> float:
    """Where Q-learning settles on 100 collected transitions of the endless probe."""
    cfg = dataclasses.replace(cfg, merge_time_limit=merge_time_limit, dueling=False)
    envs = make_envs("ProbeEndless-v0", 1)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = Agent(envs, cfg)
    for _ in range(100):
        obs = collect(agent, envs, obs, 1.0, cfg)
    rewards, ended = (torch.from_numpy(x[:100]) for x in (agent.buffer.rewards, agent.buffer.terminated))
    at_zero, at_one = (
        float(td_target(rewards.double(), torch.full((100,), guess).double(), ended, cfg.gamma).mean())
        for guess in (0.0, 1.0)
    )
    return at_zero / (1.0 - (at_one - at_zero))


def value_against_truth(
    network: nn.Module, cfg: Config, num_envs: int = 50, num_steps: int = 1500
) -> tuple[np.ndarray, np.ndarray]:
    """(max Q, discounted return of the greedy policy) at each step of episodes without a time limit.

    Means over the episodes still running, for the first 2/3 of the steps; the rest lets the return settle.
    """
    envs = BatchedCartPole(num_envs, max_episode_steps=num_steps + 1)
    obs, _ = envs.reset(seed=cfg.seed + 30_000)
    q_values, going = np.zeros((2, num_steps, num_envs))  # [T, N] each
    alive = np.ones(num_envs, dtype=bool)
    for t in range(num_steps):
        with torch.inference_mode():
            q = network(torch.from_numpy(obs)).numpy()
        q_values[t], going[t] = q.max(axis=1), alive
        obs, _, terminated, _, _ = envs.step(q.argmax(axis=1))
        alive &= ~terminated
    returns = np.zeros((num_steps + 1, num_envs))
    for t in reversed(range(num_steps)):
        returns[t] = going[t] * (1.0 + cfg.gamma * returns[t + 1])
    kept = 2 * num_steps // 3
    count = np.maximum(going[:kept].sum(axis=1), 1e-9)  # nobody left: 0 / tiny = 0
    return (q_values * going)[:kept].sum(axis=1) / count, returns[:kept].sum(axis=1) / count


# %% [markdown]
r"""
## 7. The yardstick

Stable-Baselines3's DQN with the settings that its own rl-zoo tuned for CartPole, evaluated by the same
function, on the same grid of steps, with the same clock.
"""


# %%
def train_sb3(cfg: Config, log: RunLog) -> Scores:
    """Stable-Baselines3's DQN at rl-zoo's settings (raffin2020zoo)."""
    from stable_baselines3 import DQN

    seed_everything(cfg.seed)
    model = DQN(
        "MlpPolicy", cfg.env_id, seed=cfg.seed, device="cpu", gamma=0.99, learning_rate=2.3e-3, batch_size=64,
        buffer_size=100_000, learning_starts=1000, train_freq=256, gradient_steps=128,
        target_update_interval=10, exploration_fraction=0.16, exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
    )  # fmt: skip
    scores = Scores("sb3", cfg, log)

    def after_step(learner: dict, _globals: dict) -> bool:
        steps = learner["self"].num_timesteps
        if steps % cfg.eval_every == 1:  # the gradient steps of a round come just before its first step
            scores.measure(steps - 1, model.q_net)
        return True

    model.learn(cfg.num_sb3_steps, callback=after_step)
    scores.measure(cfg.num_sb3_steps, model.q_net)
    return scores


# %% [markdown]
r"""
## 8. Maximisation bias, where it is known to matter

Sutton and Barto's Example 6.7. From A, *right* ends the episode with 0; *left* leads to B with 0, and B
offers ten actions that all end with a reward drawn from $\mathcal N(-0.1, 1)$. Left is a mistake. But the
largest of ten noisy estimates at B is nearly always above zero, so Q-learning walks left. Double Q-learning
keeps two tables; for each update a coin says which one is written, and the other judges the action that the
first would choose:

$$Q_1(s,a) \leftarrow Q_1(s,a) + \alpha\,\bigl[r + \gamma\,Q_2\bigl(s', \arg\max_b Q_1(s',b)\bigr)
- Q_1(s,a)\bigr] \tag{8}$$

An optimal learner with $\epsilon = 0.1$ goes left in 5 % of the episodes. Ten thousand learners run at once.
"""

# %%
RIGHT, LEFT = 0, 1
TABULAR = {"epsilon": 0.1, "alpha": 0.1, "num_bad_actions": 10}  # the example's; gamma is 1


def judged_value(
    chooser: Float[np.ndarray, "R A"], judge: Float[np.ndarray, "R A"], rng: np.random.Generator
) -> Float[np.ndarray, " R"]:
    """The judge's value of the chooser's best action; Q-learning's maximum if both are the same table."""
    best = epsilon_greedy(chooser, 0.0, rng)
    return judge[np.arange(len(judge)), best]  # eq. (8), the bootstrap


def two_state_world(double: bool, num_runs: int, num_episodes: int, rng: np.random.Generator) -> np.ndarray:
    """Share of runs [episodes] that go left (vanhasselt2010double; suttonbarto2018, Figure 6.5)."""
    epsilon, alpha, num_bad = TABULAR["epsilon"], TABULAR["alpha"], TABULAR["num_bad_actions"]
    runs = np.arange(num_runs)
    at_a, at_b = np.zeros((2, num_runs, 2)), np.zeros((2, num_runs, num_bad))  # [table, run, action]
    share = np.zeros(num_episodes)
    for episode in range(num_episodes):
        action = epsilon_greedy(at_a.sum(axis=0), epsilon, rng)  # both tables act together
        bad_action = epsilon_greedy(at_b.sum(axis=0), epsilon, rng)
        left = action == LEFT
        share[episode] = left.mean()
        reward = rng.normal(-0.1, 1.0, size=num_runs)

        written = rng.integers(2, size=num_runs) if double else np.zeros(num_runs, dtype=int)
        judge = 1 - written if double else written
        bootstrap = left * judged_value(at_b[written, runs], at_b[judge, runs], rng)
        at_a[written, runs, action] += alpha * (bootstrap - at_a[written, runs, action])
        written = rng.integers(2, size=num_runs) if double else written
        error = reward - at_b[written, runs, bad_action]
        at_b[written, runs, bad_action] += alpha * left * error
    return share


# %% [markdown]
r"""
## 9. Run, look, break

PLACEHOLDER
"""


# %%
def variants(cfg: Config) -> dict[str, Config]:
    """The learners that are compared, each one switch away from the default or two."""
    return {
        "double": cfg,
        "plain": dataclasses.replace(cfg, double=False),
        "dueling": dataclasses.replace(cfg, dueling=True),
        "merged": dataclasses.replace(cfg, merge_time_limit=True),
        "slow_sync": dataclasses.replace(cfg, merge_time_limit=True, sync_episodes=10),
    }


def first_crossing(metrics: dict[str, list[tuple[int, float]]], name: str) -> tuple[float, float]:
    """(CPU seconds until an evaluation first reached 475, share of evaluations from then on that did).

    (infinity, 0) if none did. metrics: name -> [(step, value), ...], as the run log and the ledger keep them.
    """
    solved = np.array([value for _, value in metrics[f"{name}_return"]]) >= SOLVED
    if not solved.any():
        return np.inf, 0.0
    first = int(solved.argmax())
    return metrics[f"{name}_cpu_seconds"][first][1], float(solved[first:].mean())


def best_network(scores: Scores, cfg: Config, log: RunLog) -> tuple[nn.Module, nn.Module]:
    """The best weights of a learner in a network, and again after a round trip through a file."""
    best = Agent(make_envs(cfg.env_id, 1), cfg).online
    loaded = copy.deepcopy(best)
    best.load_state_dict(scores.best)
    content = io.BytesIO()
    torch.save(best.state_dict(), content)
    write_atomic(log.folder / f"{scores.name}_best.pt", content.getvalue())
    # weights_only: a file of tensors is data; without it, loading would run whatever code the file holds
    loaded.load_state_dict(torch.load(log.folder / f"{scores.name}_best.pt", weights_only=True))
    return best, loaded


def claim_time_limit(cfg: Config, log: RunLog) -> None:
    kept, merged = endless_value(cfg, merge_time_limit=False), endless_value(cfg, merge_time_limit=True)
    log.claim(
        "endless_value", "with the time limit bootstrapped, a world that never ends is worth 1 / (1 - gamma)",
        kept, near=(1 / (1 - cfg.gamma), 0.01), source="geometric series", always=True,
    )  # fmt: skip
    log.claim(
        "endless_value_merged", "with the limit stored as an end, it seems worth 1 / (1 - 0.9 gamma)",
        merged, near=(1 / (1 - 0.9 * cfg.gamma), 0.01), source="geometric series", always=True,
    )  # fmt: skip


def claim_bias(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    shares = {
        name: two_state_world(double, cfg.num_tabular_runs, cfg.num_tabular_episodes, rng)
        for name, double in (("Q-learning", False), ("double Q-learning", True))
    }
    plain, double = shares.values()
    source = "suttonbarto2018, Figure 6.5"
    log.claim(
        "plain_peak_left", "Q-learning learns to prefer the worse action", plain.max(), at_least=0.75,
        unit="share of runs going left", source=source, seeds="1/1",
    )  # fmt: skip
    log.claim(
        "double_peak_left", "double Q-learning never prefers it: its share starts at a coin toss and falls",
        double.max(), at_most=0.53, unit="share of runs going left", source=source, seeds="1/1",
    )  # fmt: skip
    log.claim(
        "excess_left_ratio", "at the end, double's excess over the optimal 5 % is less than half of plain's",
        (double[-20:].mean() - 0.05) / (plain[-20:].mean() - 0.05), at_most=0.5, source=source, seeds="1/1",
    )  # fmt: skip
    figure, ax = plotting.new_figure()
    for (name, share), color in zip(shares.items(), (plotting.ORANGE, plotting.BLUE)):
        ax.plot(np.arange(1, len(share) + 1), 100 * share, color=color, label=name)
    ax.axhline(5, label="optimal with epsilon 0.1", **plotting.REFERENCE)
    ax.set(xlabel="episode", ylabel="runs that go left (%)", ylim=(0, 100), title="Maximisation bias")
    ax.legend()
    log.figure(figure, "bias")


def draw_truth(curves: dict[str, tuple[np.ndarray, np.ndarray]], cfg: Config, log: RunLog) -> None:
    """Q along greedy episodes without a time limit, and what those episodes really return."""
    figure, axes = plotting.new_figure(1, len(curves), width=4.6)
    for ax, (name, (q, returns)) in zip(axes, curves.items()):
        ax.plot(q, color=COLOURS[name], label="max Q of the network")
        ax.plot(returns, label="return that followed", **plotting.REFERENCE)
        ax.axvline(500, color="grey", linewidth=1.0, linestyle=":")
        ax.set(xlabel="step of the episode", title=LABELS[name], ylim=(0, 1.3 / (1 - cfg.gamma)))
    axes[0].set_ylabel("discounted value")
    axes[0].legend(loc="lower left")
    log.figure(figure, "truth")


def draw_stays(ax, shares: dict[str, list[float]]) -> None:
    """How long each learner stays solved: a dot for each seed, a bar for their median."""
    names = list(shares)[::-1]
    for row, name in enumerate(names):
        percent = 100 * np.array(shares[name])
        ax.barh(row, np.median(percent), color=COLOURS[name], alpha=0.45)
        ax.plot(percent, np.full(len(percent), row), "o", color=COLOURS[name], markersize=5, clip_on=False)
    ax.set_yticks(range(len(names)), [LABELS[name] for name in names])
    ax.set(
        xlabel="evaluations at 475 or above after the first (%)", xlim=(0, 100), title="Does it stay solved?"
    )
    ax.grid(axis="y", visible=False)


def draw_learning(log: RunLog, shares: dict[str, list[float]]) -> None:
    figure, (left, right) = plotting.new_figure(1, 2)
    for name in ("double", "sb3"):
        left.plot(log.series(f"{name}_cpu_seconds")[1], log.series(f"{name}_return")[1],
                  color=COLOURS[name], label=LABELS[name])  # fmt: skip
    left.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    left.set(xlabel="CPU seconds of training", ylabel="mean greedy return", ylim=(0, 620), title="How fast?")
    left.legend(loc="upper right", ncols=3, columnspacing=1.0, handlelength=1.2)
    draw_stays(right, shares)
    log.figure(figure)


LABELS = {
    "double": "ours: double", "plain": "ours: plain", "dueling": "ours: double, dueling",
    "merged": "ours, limit merged", "slow_sync": "the seed's two faults", "sb3": "SB3 (rl-zoo)",
}  # fmt: skip
COLOURS = dict(zip(LABELS, plotting.COLOURS))


def main(cfg: Config, log: RunLog) -> None:
    claim_time_limit(cfg, log)
    claim_bias(cfg, log)

    # the first optimiser of a process imports torch's compiler: 3 s that no learner should be charged
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    configs = variants(cfg)
    scores = {name: train(variant, log, name=name)[1] for name, variant in configs.items()}
    scores["sb3"] = train_sb3(cfg, log)
    crossings = {name: first_crossing(log.metrics, name) for name in scores}
    for name, (seconds, share) in crossings.items():
        log.write(cfg.num_env_steps, **{f"{name}_first_475_seconds": seconds, f"{name}_share_solved": share})
    draw_learning(log, {name: [share] for name, (_, share) in crossings.items()})

    log.claim(
        "best_return", "the greedy policy crosses CartPole's threshold during training",
        scores["double"].best_return, at_least=SOLVED, unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1", seeds="9/10",
    )  # fmt: skip
    best, loaded = best_network(scores["double"], cfg, log)
    with torch.inference_mode():
        obs = torch.randn(1000, 4)
        difference = float((best(obs) - loaded(obs)).abs().max())
    log.claim(
        "reload_difference", "the saved weights, loaded again, give exactly the same Q-values",
        difference, at_most=0.0, source="identity", always=True,
    )  # fmt: skip
    log.claim(
        "reloaded_return", "the saved best model holds the threshold on fresh episodes",
        greedy_returns(loaded, cfg, seed=cfg.seed + 20_000).mean(), at_least=SOLVED,
        unit="mean return of 100 episodes", source="the threshold registered for CartPole-v1", seeds="9/10",
    )  # fmt: skip

    curves = {}
    for name in ("double", "plain", "merged"):
        network = best_network(scores[name], configs[name], log)[0]
        curves[name] = q, returns = value_against_truth(network, cfg)
        log.write(
            cfg.num_env_steps, **{f"{name}_q_of_start": q[0], f"{name}_true_value_of_start": returns[0]}
        )
    draw_truth(curves, cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: seconds against Stable-Baselines3, and how long each learner stays solved."""
    crossings = {name: [first_crossing(run["metrics"], name) for run in runs] for name in LABELS}
    ours = [seconds for seconds, _ in crossings["double"]]
    # a run of theirs that never got there counts as if it had on its last step: a bound in their favour
    budgets = [run["metrics"]["sb3_cpu_seconds"][-1][1] for run in runs]
    theirs = [min(seconds, budget) for (seconds, _), budget in zip(crossings["sb3"], budgets)]
    log.claim(
        "cpu_seconds_ratio",
        "ours needs fewer CPU seconds to 475 than Stable-Baselines3's DQN at rl-zoo's settings",
        float(np.median(ours) / np.median(theirs)), at_most=1.0, unit="ratio of medians",
        source="stable-baselines3 in the same runs, one thread each", timed=True,
    )  # fmt: skip
    figure, (left, right) = plotting.new_figure(1, 2)
    for row, (mine, other) in enumerate(sorted(zip(ours, theirs))):
        left.plot([mine, other], [row, row], color="grey", linewidth=1.0, zorder=1)
    for name, seconds in (("double", ours), ("sb3", theirs)):
        order = np.argsort(np.array(ours), kind="stable")
        left.plot(np.array(seconds)[order], range(len(runs)), "o", color=COLOURS[name], label=LABELS[name])
        left.axvline(np.median(seconds), color=COLOURS[name], linestyle="--", linewidth=1.2)
    left.set(xlabel="CPU seconds to the first 475 (dashed: median)", ylabel="seeds, in order of ours")
    left.set(yticks=[], xlim=(0, None), ylim=(-0.7, len(runs) + 1.2), title="How fast?")
    left.legend(loc="upper right", ncols=2)
    draw_stays(right, {name: [share for _, share in crossings[name]] for name in LABELS})
    log.figure(figure)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
