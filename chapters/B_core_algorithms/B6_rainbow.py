# %% [markdown]
r"""
# B6 · Rainbow: six additions to DQN

**Question.** Six papers added something to the deep Q-network (DQN). What does each addition do exactly, and
what are all of them worth together?

**Before this:** B4 (DQN from scratch). **Changes from B4:** six functions, one for each addition; the network
predicts how likely each return is, not its mean alone. **Next:** B7 learns a model and plans in it.

**Time.** 10 s on 2 cores; with all evidence 45 s.

References: `hessel2018rainbow`, `vanhasselt2016double`, `wang2016dueling`, `bellemare2017distributional`,
`sutton1988td`, `schaul2016prioritized`, `rowland2018analysis`, `fortunato2018noisy`, `young2019minatar`.

Symbols: `B` transitions, `Z` atoms; $\theta$, $\theta^-$ online and target weights; $\varepsilon$ noise.
"""

# %%
import copy
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs import true_next_obs
from chapters.envs.crossing import ROAD, Crossing
from chapters.envs.exploration import epsilon_greedy
from chapters.envs.replay import PrioritisedReplay
from chapters.exact.crossing import regret
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

SLIP = 0.1  # of the road: how often a random action is taken in place of the chosen one
BATCH, WARM_UP, BUFFER, HIDDEN = 64, 512, 16_384, 64  # transitions, transitions, transitions, units
BETA, ATOMS, MAX_RETURN, SYNC = 0.4, 51, 1.0, 50  # beta at first, it rises to 1; Z; rounds between copies
NUM_ENVS, LEARNING_RATE = 8, 3e-3  # N: one gradient step for every N environment steps
Numbers, Chances = Float[Tensor, " B"], Float[Tensor, "B Z"]


@dataclass(frozen=True)
class Config:
    """Rainbow on a road that must be crossed."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 10_000
    """Environment steps of training."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.97
    """Discount factor."""
    n_steps: Annotated[int, in_range(1, 100)] = 3
    """n: rewards that are summed before the network is asked."""
    noise_size: Annotated[float, in_range(0.0, 10.0)] = 0.5
    """Spread of the noisy weights at first, times the root of a layer's inputs."""
    noise_every: Annotated[int, in_range(1, 10_000)] = 1
    """Rounds for which one draw of the noise is kept."""


SMOKE = {"num_env_steps": 800}

# %% [markdown]
r"""
## 1. Double, dueling, n steps

*Double*, as in B4: the largest of noisy values is too high on average (by 1.54 for ten that are all 0, with
noise of size 1). So the online network chooses, and the target network judges:

$$a^\ast = \arg\max_a Q_\theta(s', a), \qquad v(s') = Q_{\theta^-}(s', a^\ast) \tag{1}$$

*Dueling* (B4.4): state and actions get outputs of their own, but only their sum is trained. Less its mean,
$A$ hides no constant, and $V$ is the mean of all $Q$. (In the code these are logits of section 3's atoms.)

$$Q(s, a) = V(s) + A(s, a) - \tfrac{1}{|A|} \textstyle\sum_b A(s, b) \tag{2}$$

*n steps*: one-step targets carry a reward back by one step for each copy into $\theta^-$. So sum $m = n$ of
them first, fewer where an episode ends. $d$ weighs the guess: 0 at a terminal state, not at a time limit:

$$y = \underbrace{\textstyle\sum_{i=0}^{m-1} \gamma^i r_{t+i}}_{R} + d\, v(s_{t+m}), \qquad
d = \gamma^m (1 - \text{terminated}_{t+m-1}) \tag{3}$$

The price: all rewards but the first were earned by the policy that filled the buffer, $\mu$. On average
$r_{t+i}$ is $A^\ast + V^\ast(s_{t+i}) - \gamma V^\ast(s_{t+i+1})$, where $A^\ast = Q^\ast - V^\ast$. Let the
guess be right, $v = V^\ast$: in the sum of (3) the values cancel, and what $\mu$'s actions lose remains,

$$\mathbb{E}[y] - Q^\ast(s_t, a_t) = \textstyle\sum_{i=1}^{n-1} \gamma^i\,
\mathbb{E}_\mu\bigl[A^\ast(s_{t+i}, a_{t+i})\bigr] \le 0 \tag{4}$$
"""


# %%
def next_actions(online_q: Float[Tensor, "B A"], target_q: Float[Tensor, "B A"]) -> Int[Tensor, " B"]:
    """The next states' best actions: the online network chooses, `target_q` judges (vanhasselt2016double)."""
    return online_q.argmax(dim=1)  # eq. (1)


def dueling(value: Float[Tensor, "*B 1 Z"], advantages: Float[Tensor, "*B A Z"]) -> Float[Tensor, "*B A Z"]:
    """Logits of the atoms of each action, from the state's and the advantages' (wang2016dueling)."""
    return value + advantages - advantages.mean(dim=-2, keepdim=True)  # eq. (2)


def n_step(rewards: Float[np.ndarray, "n N"], done: Bool[np.ndarray, "n N"], gamma: float) -> tuple:
    """(R [N] from the first row on, index [N] of the last row that was summed: m - 1) (sutton1988td)."""
    going = np.ones(rewards.shape, dtype=bool)  # [n, N] rows that belong to the first one's episode
    going[1:] = ~np.logical_or.accumulate(done[:-1])
    return gamma ** np.arange(len(rewards)) @ (going * rewards), going.sum(axis=0) - 1  # eq. (3)


# %% [markdown]
r"""
## 2. Prioritised replay

Draw transition $i$ the more often, the larger its last *surprise* $\delta_i$ was, the loss of section 3. Its
gradient weighs less in return, by $w_i$ ($N_b$ transitions are stored; $\omega$ is `exponent`):

$$P(i) = \delta_i^\omega \big/ \textstyle\sum_j \delta_j^\omega, \qquad w_i = (N_b\, P(i))^{-\beta} \tag{5}$$

At $\beta = 1$ the mean gradient $\sum_i P(i)\, w_i\, g_i$ is that of uniform draws, *exactly*. A draw takes
$\log_2 N_b$ steps in a *sum tree* (`chapters/envs/replay.py`): a node holds the sum of its children.
"""


# %%
def priority(surprise: Float[np.ndarray, " K"], exponent: float = 0.5) -> Float[np.ndarray, " K"]:
    """What (5) draws by; never 0, so that everything is seen again some day."""
    return (surprise + 1e-6) ** exponent


def importance(chances: Float[np.ndarray, " K"], num_stored: int, beta: float) -> Float[np.ndarray, " K"]:
    """The weights of transitions that are drawn with these chances."""
    return (num_stored * chances) ** -beta  # eq. (5)


# %% [markdown]
r"""
## 3. The whole distribution: C51

*C51* predicts how likely each return is, on $Z = 51$ fixed *atoms* $z_1 < \dots < z_Z$; Q is the mean. Its
target starts from the target network's chances $p$ for the action $a^\ast$ of (1). Each atom is shrunk by $d$
and moved by $R$ of (3). It lands between two atoms, which share its chance, the nearer one taking more:

$$\hat z_j = \text{clip}(R + d\, z_j), \qquad
(\Pi p)_k = \textstyle\sum_j p_j \max\bigl(0, 1 - |\hat z_j - z_k| / \Delta z\bigr) \tag{6}$$

That keeps the mean (but for what is clipped). How far off is the rest? Measure by $\ell^2 = \int (F - G)^2
dx$ between distribution functions. A backup leaves at most $\gamma$ of it, and (6) projects orthogonally. So
the fixed point $\hat\eta$ and the truth $\eta$ fulfil $\ell^2(\hat\eta, \eta) \le \ell^2(\Pi\eta, \eta) +
\gamma\, \ell^2(\hat\eta, \eta)$ by Pythagoras, hence (`rowland2018analysis`)

$$\ell^2(\hat\eta, \eta) \le \ell^2(\Pi \eta, \eta) / (1 - \gamma) \tag{7}$$

The loss, and surprise, is the Kullback-Leibler (KL) divergence of the prediction from the target:

$$\delta = \textstyle\sum_k (\Pi p)_k \log \bigl( (\Pi p)_k / p_\theta(z_k \mid s, a) \bigr) \tag{8}$$

```python
>>> half, atoms = torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.0, 0.5, 1.0])
>>> project(half, torch.tensor([0.25]), torch.tensor([0.5]), atoms).tolist()
[[0.25, 0.5, 0.25]]
```
"""


# %%
def project(chances: Chances, returns: Numbers, discounts: Numbers, atoms: Float[Tensor, " Z"]) -> Chances:
    """The chances of returns + discounts * atoms, on the atoms (bellemare2017distributional)."""
    moved = (returns[:, None] + discounts[:, None] * atoms).clamp(atoms[0], atoms[-1])  # [B, Z]
    place = (moved - atoms[0]) / (atoms[1] - atoms[0])
    lower = place.floor().clamp(max=len(atoms) - 2).long()
    share = place - lower  # of the upper neighbour
    split = torch.zeros_like(chances).scatter_add_(1, lower, chances * (1 - share))
    return split.scatter_add_(1, lower + 1, chances * share)  # eq. (6)


def divergence(target: Chances, log_chances: Chances, atoms: Float[Tensor, " Z"]) -> Numbers:
    """How far the predicted distribution is from the target: the loss, and the surprise."""
    return (torch.xlogy(target, target) - target * log_chances).sum(dim=1)  # eq. (8)


# %% [markdown]
r"""
## 4. Noisy layers

Random actions undo each other: a coin gets through 15 doors in a row once in $2^{15}$ tries. Noise in the
*weights* errs alike in many states, as a plan does. $\mu$ and $\sigma$ are learned, $\varepsilon$ drawn:

$$w_{ij} = \mu_{ij} + \sigma_{ij} f(\varepsilon_i) f(\varepsilon'_j), \quad
b_i = \mu_i + \sigma_i f(\varepsilon_i), \quad f(x) = \text{sgn}(x) \sqrt{|x|} \tag{9}$$

Since $\mathbb{E}[f] = 0$ and $\mathbb{E}[f^2] = \sqrt{2/\pi} =: c$, the mean of an output $y_i$ stays, and

$$\text{Var}\,[y_i] = c\, \bigl(c \textstyle\sum_j \sigma_{ij}^2\, x_j^2 + \sigma_i^2\bigr) \tag{10}$$
"""


# %%
def scaled_noise(size: int) -> Float[Tensor, " size"]:
    """f of `size` normal numbers (fortunato2018noisy)."""
    x = torch.randn(size)
    return x.sign() * x.abs().sqrt()  # eq. (9), right


class NoisyLinear(nn.Module):
    """A linear layer whose weights are noisy; before the first `draw` it is quiet."""

    def __init__(self, inputs: int, outputs: int, noise_size: float) -> None:
        super().__init__()
        self.mean = nn.Linear(inputs, outputs)
        self.weight_spread = nn.Parameter(torch.full((outputs, inputs), noise_size * inputs**-0.5))
        self.bias_spread = nn.Parameter(torch.full((outputs,), noise_size * inputs**-0.5))
        self.draw(0.0)

    def draw(self, scale: float) -> None:
        self.noise = scale * scaled_noise(len(self.bias_spread))
        self.weight_noise = torch.outer(self.noise, scaled_noise(self.weight_spread.shape[1]))

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        weight = self.mean.weight + self.weight_spread * self.weight_noise  # eq. (9), left
        bias = self.mean.bias + self.bias_spread * self.noise  # eq. (9), middle
        return nn.functional.linear(x, weight, bias)


def exploration(step: int) -> tuple[float, float]:
    """(scale of the noise, share of random actions) at a step of training: the noise does it alone."""
    return 1.0, 0.0


class Network(nn.Module):
    """From observations [B, D] to log-probabilities of the atoms, for each action [B, A, Z]."""

    def __init__(self, obs_dim: int, num_actions: int, cfg: Config) -> None:
        super().__init__()
        self.atoms = torch.linspace(-MAX_RETURN, MAX_RETURN, ATOMS)
        self.body = nn.Sequential(nn.Linear(obs_dim, HIDDEN), nn.ReLU())
        self.value = NoisyLinear(HIDDEN, ATOMS, cfg.noise_size)
        self.advantages = NoisyLinear(HIDDEN, num_actions * ATOMS, cfg.noise_size)

    def forward(self, obs: Tensor) -> Tensor:
        features = self.body(obs)
        advantages = self.advantages(features).unflatten(-1, (-1, ATOMS))
        return dueling(self.value(features).unsqueeze(-2), advantages).log_softmax(dim=-1)

    def q_values(self, obs: Float[Tensor, "B D"]) -> Float[Tensor, "B A"]:
        return self(obs).exp() @ self.atoms

    def draw(self, scale: float) -> None:
        self.value.draw(scale)
        self.advantages.draw(scale)


# %% [markdown]
r"""
## 5. All together

Cross a road of three lanes: one step in ten is random, the far side pays 1, a crash ends the episode. With
125 states, the optimum and the greedy policy (noise off) are valued exactly. **Regret** is the difference.
"""


# %%
class Agent:
    """What learning changes: two sets of weights, the optimiser's state, the buffer and the last n steps."""

    def __init__(self, envs: gym.vector.VectorEnv, cfg: Config) -> None:
        (obs_dim,) = envs.single_observation_space.shape
        self.online = Network(obs_dim, int(envs.single_action_space.n), cfg)
        self.target = copy.deepcopy(self.online)
        self.optimizer = Adam(self.online.parameters(), lr=LEARNING_RATE)
        self.buffer = PrioritisedReplay(BUFFER, priority, importance)
        self.recent: deque = deque(maxlen=cfg.n_steps)
        self.rng = np.random.default_rng([cfg.seed, 1])  # not the stream that the environments draw from


@torch.inference_mode()
def act(agent: Agent, obs: np.ndarray, epsilon: float) -> Int[np.ndarray, " N"]:
    """The best action by the online network, noise and all, or a random one."""
    return epsilon_greedy(agent.online.q_values(torch.from_numpy(obs)).numpy(), epsilon, agent.rng)


def collect(agent: Agent, envs: gym.vector.VectorEnv, obs: np.ndarray, epsilon: float, gamma: float):
    """One step in each environment; the oldest of the last n steps goes into the buffer."""
    actions = act(agent, obs, epsilon)
    next_obs, rewards, terminated, truncated, infos = envs.step(actions)
    done = terminated | truncated
    agent.recent.append((obs, actions, rewards, true_next_obs(next_obs, done, infos), terminated, done))
    if len(agent.recent) == agent.recent.maxlen:
        rows = [np.stack(part) for part in zip(*agent.recent)]  # [n, N, ...] each
        returns, last = n_step(rows[2], rows[5], gamma)
        where = (last, np.arange(len(last)))
        discounts = gamma ** (last + 1) * ~rows[4][where]  # d of (3)
        step = {"obs": rows[0][0], "actions": rows[1][0], "next_obs": rows[3][where]}
        agent.buffer.add(returns=np.float32(returns), discounts=np.float32(discounts), **step)
    return next_obs


def update(agent: Agent, beta: float) -> None:
    """One gradient step on transitions that surprised."""
    places, weights, batch = agent.buffer.draw(BATCH, beta, agent.rng)
    rows, atoms = torch.arange(BATCH), agent.online.atoms
    with torch.no_grad():
        after = agent.target(batch["next_obs"]).exp()  # [B, A, Z]
        chosen = next_actions(agent.online.q_values(batch["next_obs"]), after @ atoms)
        target = project(after[rows, chosen], batch["returns"], batch["discounts"], atoms)
    surprise = divergence(target, agent.online(batch["obs"])[rows, batch["actions"]], atoms)
    agent.optimizer.zero_grad()
    (weights * surprise).mean().backward()
    agent.optimizer.step()
    agent.buffer.learn(places, surprise.detach().numpy())


def train(cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None, name: str = "rainbow") -> Agent:
    """Train on the road, held against its optimum, or on environments that are passed in."""
    seed_everything(cfg.seed)
    on_road, envs = envs is None, envs or Crossing(NUM_ENVS, ROAD, SLIP)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = Agent(envs, cfg)
    rounds = range(cfg.num_env_steps // envs.num_envs)
    for round_ in log.track(rounds, f"rounds of {name}"):
        step = round_ * envs.num_envs
        if on_road and round_ % max(1, len(rounds) // 20) == 0:
            agent.online.draw(0.0)
            lost = regret(act(agent, envs.pictures, 0.0), ROAD, cfg.gamma, SLIP)
            log.write(step, **{f"{name}_regret": lost})
        noise, epsilon = exploration(step)
        if round_ % cfg.noise_every == 0:
            agent.online.draw(noise)
            agent.target.draw(noise)
        obs = collect(agent, envs, obs, epsilon, cfg.gamma)
        if len(agent.buffer) >= WARM_UP:
            update(agent, BETA + (1 - BETA) * step / cfg.num_env_steps)
        if round_ % SYNC == 0:
            agent.target.load_state_dict(agent.online.state_dict())
    return agent


# %% [markdown]
r"""
## 6. Look, break, write

![Mean regret of Rainbow, of Rainbow without each addition, and of none of them, a dot a seed](results/B6.png)

Regret is averaged over the training. With all six additions it is a little lower than with none, on each of
five seeds. No single addition is missed on all of them. (One run without double hardly learned, and one
without dueling.) No claim is made: step size and road were picked in trials, and in some of those the agent
with none was ahead. On Atari (`hessel2018rainbow`) priorities and n steps matter most, double and dueling
little. MinAtar (`young2019minatar`) has five such games in small; it is not run here.

![Left: C51's fixed point against the uniform truth of a coin tossed for ever; right: arrivals at the end of a
chain of 15 doors, with held noise and with random actions](results/B6_parts.png)

At each of 15 doors the wrong action ends the episode for a small pay. Noise that prefers "on" at one door
tends to at all, if it is held: here for 15 steps. (Its size, 2, was picked in trials on four seeds: 0.5
failed on one, a new draw at each step on two. Were "on" another action at each door, it might help less.)

**The verdict.** Each addition does what its equation says, exactly. Together they are made for games that are
long, sparse and large; where plain DQN learns within seconds, they need not help.

<!-- results: B6 -->

`rl run B6`: 7 s; with `--evidence`: 39 s, 822 MB; with `--smoke --evidence`: 7 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| final_regret           | 0.0192 (0.0173 to 0.0319)       | ≤ 0.1         | 5/5 |
| projection_keeps_mean  | 2.38e-08                        | ≤ 1e-06       | 5/5 |
| coin_within_bound *    | 0.5                             | ≤ 1           | 5/5 |
| exact_on_atoms *       | 1.11e-16                        | ≤ 1e-12       | 5/5 |
| means_exact *          | 1.51e-14                        | ≤ 1e-09       | 5/5 |
| replay_unbiased *      | 6.07e-17 (3.47e-17 to 1.32e-16) | ≤ 1e-09       | 5/5 |
| tree_is_right *        | 0                               | ≤ 0           | 5/5 |
| n_step_bias *          | 4.79e-16                        | ≤ 1e-10       | 5/5 |
| n_step_pessimistic *   | 0                               | ≤ 1e-12       | 5/5 |
| noise_mean *           | 1.11 (0.457 to 1.74)            | ≤ 5           | 5/5 |
| noise_variance *       | 0.0175 (0.00807 to 0.0317)      | ≤ 0.2         | 5/5 |
| plain_maximum *        | 1.54                            | 1.539 ± 0.016 | 5/5 |
| double_maximum *       | -0.00188 (-0.00275 to 0.00142)  | 0 ± 0.016     | 5/5 |
| value_is_mean *        | 9.91e-07 (9.54e-07 to 1.07e-06) | ≤ 1e-05       | 5/5 |
| noise_gets_through *   | 1                               | ≥ 1           | 5/5 |
| random_never_arrives * | 0                               | ≤ 0           | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `final_regret`: of all that there is to earn, the greedy policy misses at the end
- `projection_keeps_mean`: projected on the atoms a distribution keeps its mean
- `coin_within_bound`: C51's fixed point for a coin tossed for ever is as near to the uniform truth as (7)
  promises (squared distance / bound)
- `exact_on_atoms`: where all returns lie on atoms, C51's fixed point is the exact distribution of a chain's
  returns (largest difference of a chance)
- `means_exact`: between atoms its means are still exact
- `replay_unbiased`: at beta = 1 the mean gradient of prioritised draws is that of uniform ones (largest
  difference)
- `tree_is_right`: the sum tree finds what adding up all weights finds (of 20,000 draws)
- `n_step_bias`: n-step targets from another policy's data miss the optimum by what (4) says (largest
  difference)
- `n_step_pessimistic`: and never from above
- `noise_mean`: noise leaves the mean of a layer's outputs alone (standard errors)
- `noise_variance`: and has the variance of (10) (relative error)
- `plain_maximum`: ten actions worth 0 seem worth the mean of the largest of ten (standard deviations of the
  noise)
- `double_maximum`: to a judge with noise of its own they seem worth nothing (standard deviations of the
  noise)
- `value_is_mean`: dueling's V is the mean of the actions' outputs, whatever is added to all advantages
  (largest difference)
- `noise_gets_through`: with noise that is held, the greedy policy goes through all 15 doors (1 for yes)
- `random_never_arrives`: random actions never come to the end, not once (arrivals)
</details>

<!-- /results -->

**Break it.** `rl break B6 worst_action` stays behind. One addition less: `rl break B6 plain` (no double),
`one_stream` (no dueling), `one_step`, `uniform`, `mean_only`, `quiet` (no noise).

**Exercises.**

<!-- exercises: B6 -->

*B6.1 · Three of the six* (40 minutes, medium). Write the dueling sum (2), the sum of n steps (3), and the
projection (6). `rl exercise B6.dueling`, `rl exercise B6.n_step`, `rl exercise B6.project`.

*B6.2 · What looking ahead costs* (25 minutes, hard). Compute (4) for a process that is known. First take the
given action, then follow the buffer's policy: where is one after $i$ steps, and what do that policy's actions
lose there on average? Why do people use a small $n$ without any correction? `rl exercise B6.n_step_bias`.

<details><summary>Answer</summary>

Where the buffer's policy rarely takes a random action, each later step loses little, and news of a reward
travels n times as fast. But the loss grows with every step, so n stays small.
</details>

*B6.3 · How loud is the noise?* (15 minutes, easy). Write (10). Two outputs share the noise of their inputs:
are they correlated? `rl exercise B6.noise_variance`.

<details><summary>Answer</summary>

No: each output's noise has a factor of its own with mean 0. They are not independent, though: when the
inputs' noise is large, it is large for both.
</details>

*B6.4 · What is missing?* (10 minutes, easy). `mean_only` keeps the network and its atoms, and trains their
mean. What differs from plain DQN's head, and what would you measure to know whether it matters?

<details><summary>Answer</summary>

Plain DQN's outputs are linear and unbounded. These are means of atoms, and stay between the outermost two.
Put a linear layer with A outputs in place of the head, train both on the same seeds, and look at the
differences of regret, seed by seed.
</details>

*B6.5 · Find the bug* (10 minutes). `rl exercise B6.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    train(cfg, log)
    plotting.learning_curve(log, "rainbow_regret", xlabel="environment steps", ylabel="regret")
    to_earn = regret(np.full(125, 4), ROAD, cfg.gamma, SLIP)  # what is lost by staying where one is
    log.claim(
        "final_regret",
        "of all that there is to earn, the greedy policy misses at the end",
        log.last("rainbow_regret") / to_earn,
        at_most=0.1,
        source="policy iteration",
    )
    thirds, atoms = torch.full((1, 3), 1 / 3), torch.arange(-1.0, 2.0)
    moved = project(thirds, torch.tensor([0.1]), torch.tensor([0.87]), atoms)
    log.claim(
        "projection_keeps_mean",
        "projected on the atoms a distribution keeps its mean",
        abs(float(moved[0, 2] - moved[0, 0]) - 0.1),
        at_most=1e-6,
        source="equation (6): the two shares of an atom's chance average to where it landed",
        always=True,
    )


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
