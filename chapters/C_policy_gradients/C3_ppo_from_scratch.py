# %% [markdown]
r"""
# C3 · PPO from scratch

**Question.** How can a policy learn several times from the same data without walking away from it, and on
which of the details that every implementation carries does the result really hang?

**Before this:** C2 (PPO explained). **Changes from C1:** each rollout is used for several passes in
minibatches, and a clipped ratio takes away the reason to go far; actions may be continuous. **Next:** C4
writes the same algorithm as one compiled JAX function.

**Time budget.** 150 s on 2 cores.

<!-- results: C3 -->

`rl run C3`: 50 s, 941 MB. `rl run C3 --smoke`: 10 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| gae_gap              | 9.99e-16 (5.55e-16 to 1.22e-15) | ≤ 1e-10    | 10/10  |
| pull_back            | -1                              | -1 ± 1e-06 | 10/10  |
| first_ratio_gap      | 0                               | ≤ 1e-06    | 10/10  |
| sustained_475        | 500                             | ≥ 475      | 10/10  |
| fresh_return         | 500                             | ≥ 475      | 10/10  |
| sb3_loss_gap         | 2.71e-07 (0 to 1.16e-06)        | ≤ 1e-05    | 10/10  |
| sb3_gradient_gap     | 2.91e-07 (1.98e-07 to 4.21e-07) | ≤ 1e-05    | 10/10  |
| kl_no_clip           | 551 (353 to 2,081)              | ≥ 10       | 10/10  |
| kl_max_if_negative   | 116 (37.5 to 187)               | ≥ 10       | 10/10  |
| kl_clip_alone        | 6.55 (1.68 to 125)              | ≥ 1        | 10/10  |
| pendulum_return      | -173 (-183 to -148)             | ≥ -200     | 10/10  |
| merged_optimism      | 0.653 (0.591 to 0.711)          | ≥ 0.1      | 10/10  |
| update_over_limit    | 7.86 (7.8 to 7.94)              | ≥ 1        | 10/10  |
| faster_than_sb3_zoo  | 7.3                             | ≥ 4        | pooled |
| faster_than_sb3_ours | 2.16                            | ≥ 1        | pooled |
| several_passes       | 1.83                            | ≥ 1        | pooled |

<!-- /results -->

References: `schulman2017ppo`, `schulman2016gae`, `pardo2018timelimits`, `kingma2015adam`, `raffin2021sb3`,
`raffin2020zoo`, `huang2022details`, `andrychowicz2021matters`, `schulman2020kl`.

Symbols: `T` steps per environment in a rollout, `N` parallel environments, `B` transitions in a minibatch,
`D` observation size, `A` actions (or numbers in a continuous one), $w_t$ importance ratio.
"""

# %%
import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.pendulum import BatchedPendulum, film_pendulums
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson
from chapters.utils.evaluation import crossing
from chapters.utils.networks import in_numpy
from chapters.utils.peers import ZOO_PPO_CARTPOLE, sb3_ppo_gaps, sb3_ppo_settings, train_sb3_ppo
from chapters.utils.seeding import seed_everything
from chapters.utils.timing import matmul_rate, product_cost, seconds_of

SOLVED, GOAL = 475.0, -200.0  # CartPole-v1's registered threshold; a goal for Pendulum, best near -150
Grid, Flags = Float[Tensor, "T N"], Bool[Tensor, "T N"]  # a number, or a flag, for each step and environment
Vector = Float[Tensor, " B"]  # a number for each transition of a minibatch


# %%
@dataclass(frozen=True)
class Config:
    """PPO from scratch on CartPole and Pendulum, against Stable-Baselines3, one detail missing at a time."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    only: Literal["all", "cartpole"] = "all"
    """Run everything, or just learn CartPole: the quick look."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation; discrete or continuous actions."""
    num_envs: Annotated[int, in_range(1, 4096)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 4096)] = 64
    """T: steps per environment in one rollout."""
    num_env_steps: Annotated[int, in_range(1, 100_000_000)] = 61_440
    """Environment steps in all; learning rate and clip fall to zero over them."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each rollout."""
    minibatch_size: Annotated[int, in_range(2, 1_000_000)] = 256
    """B: transitions per gradient step."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 5e-3
    """Adam's step size at the start."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one step; 1 never trusts it."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far the ratio may move before the reason to move it further is taken away."""
    target_kl: Annotated[float, in_range(0.0, 1e9)] = 0.05
    """Stop a rollout's epochs once the policy has moved this far."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.5
    """Weight of the value loss."""
    ent_coef: Annotated[float, in_range(0.0, 1.0)] = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e9)] = 0.5
    """Bound on the norm of the whole gradient."""
    reward_scale: Annotated[float, in_range(1e-6, 1e6)] = 1.0
    """Rewards are multiplied by this before learning, lest the critic's targets be in the hundreds."""
    anneal: bool = True
    """Let learning rate and clip fall to zero in a line."""
    normalise: bool = True
    """Give the advantages of a minibatch mean 0 and deviation 1."""
    orthogonal: bool = True
    """Start from orthogonal weights and a policy head near zero; else from torch's defaults."""
    surrogate: Literal["min", "clip_alone", "max_if_negative", "no_clip"] = "min"
    """The objective; all but the first are mistakes to look at."""
    merge_time_limit: bool = False
    """The bug: treat a time limit as if the episode had truly ended."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between evaluations, the same for every learner."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""
    num_pendulum_steps: Annotated[int, in_range(1, 10_000_000)] = 409_600
    """Environment steps on Pendulum."""


SMOKE = {
    "num_env_steps": 2048, "eval_every": 1024, "num_eval_episodes": 5, "num_pendulum_steps": 8192,
}  # fmt: skip

# %% [markdown]
r"""
## 1. Advantages

The critic's one-step error, and its exponentially weighted sum along the episode (`schulman2016gae`):

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{1}$$

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{2}$$

Two masks. A time limit ends the *sum* in (2), because the next row belongs to another episode. It does not
end the world, so the state it leaves keeps its value in (1).
"""


# %%
def gae(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Grid:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also at an end (pardo2018timelimits)."""
    deltas = rewards + gamma * next_values * ~terminated - values  # eq. (1)
    goes_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * goes_on[t]  # eq. (2)
        advantages[t] = running
    return advantages


def normalise(advantages: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Mean 0 and standard deviation 1 over all of them."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


# %% [markdown]
r"""
## 2. Two kinds of action

All that PPO asks of a policy is to sample an action and to say how likely a given one is. For discrete
actions the network gives logits $z$, for continuous ones a mean $\mu$, beside one learned $\log\sigma$
per number:

$$\log \pi(a \mid s) = z_a - \log \textstyle\sum_b e^{z_b} \tag{3}$$

$$\log \pi(a \mid s) = -\textstyle\sum_i \Bigl[\tfrac{(a_i-\mu_i)^2}{2\sigma_i^2} + \log\sigma_i
+ \tfrac12\log 2\pi\Bigr] \tag{4}$$

An action outside the allowed range is clipped on its way into the environment, and only there: (4) is the
density of what was *sampled*. The entropies, for the bonus that keeps a policy undecided for longer:

$$\mathcal H = -\textstyle\sum_a \pi(a \mid s) \log \pi(a \mid s), \qquad
\mathcal H = \textstyle\sum_i \bigl[\log\sigma_i + \tfrac12\log(2\pi e)\bigr] \tag{5}$$

`torch.distributions` has all of this; written out it is four lines, and faster on small batches.
"""


# %%
def categorical(logits: Float[Tensor, "B A"], actions: Int[Tensor, " B"]) -> tuple[Vector, Vector]:
    """(log-probability of each action, entropy)."""
    log_probs = logits.log_softmax(dim=-1)  # eq. (3)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)  # eq. (5), left
    return log_probs.gather(1, actions.unsqueeze(1)).squeeze(1), entropy


def gaussian(
    mean: Float[Tensor, "B A"], log_std: Float[Tensor, " A"], actions: Float[Tensor, "B A"]
) -> tuple[Vector, Vector]:
    """(log-density of each action, entropy)."""
    deviation = (actions - mean) / log_std.exp()
    log_prob = -(0.5 * deviation**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=-1)  # eq. (4)
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()  # eq. (5), right
    return log_prob, entropy.expand(len(mean))


def sample_categorical(logits: Float[np.ndarray, "N A"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """The largest of logit plus Gumbel noise is distributed as the softmax: no normalising, no loop."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def sample_gaussian(
    mean: Float[np.ndarray, "N A"], log_std: Float[np.ndarray, " A"], rng: np.random.Generator
) -> Float[np.ndarray, "N A"]:
    """Mean plus noise of the learned width."""
    return (mean + np.exp(log_std) * rng.standard_normal(mean.shape)).astype(np.float32)


# %% [markdown]
r"""
## 3. The objective, then the agent that pursues it

How much more likely is the action now than when it was taken?

$$w_t = \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\theta_\text{old}}(a_t \mid s_t)}
= \exp\bigl(\log\pi_\theta - \log\pi_{\theta_\text{old}}\bigr) \tag{6}$$

The mean of $w_t \hat A_t$ estimates, from old data, how the new policy would fare, and its gradient at
$w_t = 1$ is the policy gradient. But far from 1 it says little, and it can always be raised by going further.
So PPO offers nothing for going further than $\epsilon_\text{clip}$ (`schulman2017ppo`, eq. 7):

$$L_t = \min\bigl(w_t \hat A_t,\; \mathrm{clip}(w_t,\, 1-\epsilon_\text{clip},\, 1+\epsilon_\text{clip})\,
\hat A_t\bigr) \tag{7}$$

The `min` matters where a step went *wrong*: an action that is worse than average and has nonetheless become
more likely. There the first term is the smaller one, and its gradient pulls the action back. A clip alone,
or a `max` for negative advantages as one widely read course has it, is flat there: nothing undoes it.

The whole loss adds the critic's squared error and the entropy, with signs for a minimiser:

$$\mathcal L = \tfrac1B \textstyle\sum_t \bigl[-L_t + c_v\,(V(s_t) - \hat R_t)^2 - c_e\,\mathcal H_t\bigr],
\qquad \hat R_t = \hat A_t + V_\text{old}(s_t) \tag{8}$$

How far the policy has moved is measured on the same samples, by an estimate of $\mathrm{KL}(\pi_\text{old}
\Vert \pi_\theta)$ that is never negative and right on average (`schulman2020kl`):

$$\widehat{\mathrm{KL}} = \tfrac1B \textstyle\sum_t \bigl[(w_t - 1) - \log w_t\bigr] \tag{9}$$
"""


# %%
def clipped_surrogate(
    ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], clip_eps: float
) -> Float[Tensor, "*B"]:
    """PPO's objective of each transition, to be raised (schulman2017ppo)."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (7)


SURROGATES: dict[str, Callable] = {  # the right one, and three mistakes to look at
    "min": clipped_surrogate,
    "clip_alone": lambda ratio, adv, eps: ratio.clamp(1 - eps, 1 + eps) * adv,
    "max_if_negative": lambda ratio, adv, eps: ratio.clamp(max=1 + eps) * adv,
    "no_clip": lambda ratio, adv, eps: ratio * adv,
}  # fmt: skip


def ppo_loss(
    objective: Vector, values: Vector, returns: Vector, entropy: Vector, vf_coef: float, ent_coef: float
) -> Float[Tensor, ""]:
    """What the optimiser lowers: minus the objective, plus the critic's error, minus the entropy."""
    value_loss = (values - returns).pow(2).mean()
    return -objective.mean() + vf_coef * value_loss - ent_coef * entropy.mean()  # eq. (8)


def approx_kl(ratio: Vector) -> Float[Tensor, ""]:
    """How far the policy has moved since the samples were drawn."""
    return ((ratio - 1.0) - ratio.log()).mean()  # eq. (9)


def mlp(sizes: list[int], last_gain: float, orthogonal: bool) -> nn.Sequential:
    """Linear layers with tanh between them; a small last gain makes the first policy prefer nothing."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        linear = nn.Linear(inputs, outputs)
        if orthogonal:
            nn.init.orthogonal_(linear.weight, last_gain if i == len(sizes) - 2 else math.sqrt(2))
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Agent(nn.Module):
    """Actor and critic for one environment's spaces, nothing shared between them."""

    def __init__(self, envs: gym.vector.VectorEnv, cfg: Config, hidden: int = 64):
        super().__init__()
        space, (obs_dim,) = envs.single_action_space, envs.single_observation_space.shape
        self.discrete = isinstance(space, gym.spaces.Discrete)
        width = int(space.n) if self.discrete else space.shape[0]
        self.actor = mlp([obs_dim, hidden, hidden, width], 0.01, cfg.orthogonal)
        self.critic = mlp([obs_dim, hidden, hidden, 1], 1.0, cfg.orthogonal)
        bounds = envs.single_observation_space.high  # if it has any, the networks see numbers up to 1
        self.obs_unit = bounds if (bounds < 1e6).all() else np.ones(obs_dim, dtype=np.float32)  # [D]
        if not self.discrete:
            self.log_std = nn.Parameter(torch.zeros(width))

    def judge(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probability of `actions`, entropy), [B] each."""
        if self.discrete:
            return categorical(self.actor(obs), actions)
        return gaussian(self.actor(obs), self.log_std, actions)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs).squeeze(-1)  # [..., 1] -> [...]


def collect(
    agent: Agent, envs: gym.vector.VectorEnv, obs: np.ndarray, rng: np.random.Generator, cfg: Config
) -> tuple[dict[str, Tensor], np.ndarray]:
    """`num_steps` steps in each environment: ({name: [T, N, ...]}, the observations to act on next)."""
    names = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated")
    rows: dict[str, list] = {name: [] for name in names}
    actor, space = in_numpy(agent.actor), envs.single_action_space
    for _ in range(cfg.num_steps):
        seen = obs / agent.obs_unit  # [N, D]
        if agent.discrete:
            actions = applied = sample_categorical(actor(seen), rng)  # [N]
        else:
            actions = sample_gaussian(actor(seen), agent.log_std.detach().numpy(), rng)  # [N, A]
            applied = actions.clip(space.low, space.high)  # the environment's business, not the policy's
        next_obs, rewards, terminated, truncated, infos = envs.step(applied)
        successors = true_next_obs(next_obs, terminated | truncated, infos)
        rewards = cfg.reward_scale * rewards.astype(np.float32)
        step = (seen, actions, rewards, successors / agent.obs_unit, terminated, truncated)
        for name, value in zip(names, step):
            rows[name].append(value)
        obs = next_obs
    return {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}, obs


@torch.no_grad()
def prepare(agent: Agent, rollout: dict[str, Tensor], cfg: Config) -> dict[str, Tensor]:
    """What the epochs learn from, one row a transition, by the weights that acted; all of it constant."""
    rewards, terminated, truncated = (rollout[name] for name in ("rewards", "terminated", "truncated"))
    if cfg.merge_time_limit:
        terminated = terminated | truncated
    values, next_values = agent.value(rollout["obs"]), agent.value(rollout["next_obs"])  # [T, N]
    advantages = gae(rewards, values, next_values, terminated, truncated, cfg.gamma, cfg.gae_lambda)
    batch = {name: rollout[name].flatten(0, 1) for name in ("obs", "actions")}  # [T * N, ...]
    batch["old_log_probs"] = agent.judge(batch["obs"], batch["actions"])[0]
    batch["advantages"] = advantages.flatten()
    batch["returns"] = (advantages + values).flatten()  # the critic's target
    return batch


def minibatch_loss(agent: Agent, mini: dict[str, Tensor], clip_eps: float, cfg: Config) -> tuple:
    """(loss, ratio of each transition [B]) of one minibatch."""
    log_prob, entropy = agent.judge(mini["obs"], mini["actions"])
    entropy = entropy if cfg.ent_coef else entropy.detach()  # a bonus of nothing needs no gradient
    ratio = (log_prob - mini["old_log_probs"]).exp()  # [B] eq. (6)
    advantages = normalise(mini["advantages"]) if cfg.normalise else mini["advantages"]
    objective = SURROGATES[cfg.surrogate](ratio, advantages, clip_eps)
    values = agent.value(mini["obs"])
    return ppo_loss(objective, values, mini["returns"], entropy, cfg.vf_coef, cfg.ent_coef), ratio


def update(
    agent: Agent, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], clip_eps: float, cfg: Config
) -> float:
    """Several passes, each in a new order, unless the policy moves too far; returns how far it moved."""
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["obs"])).split(cfg.minibatch_size):
            mini = {name: values[rows] for name, values in batch.items()}
            loss, ratio = minibatch_loss(agent, mini, clip_eps, cfg)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), cfg.max_grad_norm)
            optimizer.step()
        kl = approx_kl(ratio.detach()).item()  # on the epoch's last minibatch: a look, not a proof
        if kl > cfg.target_kl:
            break
    return kl


def train(cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None, name: str = "ours") -> Agent:
    """Train one learner. Environments that are passed in are not evaluated on, only trained on."""
    seed_everything(cfg.seed)
    own = envs is None
    envs = make_envs(cfg.env_id, cfg.num_envs) if own else envs
    obs, _ = envs.reset(seed=cfg.seed)
    agent, rng, clock = Agent(envs, cfg), np.random.default_rng(cfg.seed), CpuClock()
    optimizer = torch.optim.Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5, fused=True)
    batch_size = envs.num_envs * cfg.num_steps
    num_updates = max(1, cfg.num_env_steps // batch_size)
    for i in log.track(range(num_updates), f"updates ({name})", f"{name}_return"):
        with clock:
            left = 1.0 - i / num_updates if cfg.anneal else 1.0
            optimizer.param_groups[0]["lr"] = cfg.learning_rate * left
            rollout, obs = collect(agent, envs, obs, rng, cfg)
            kl = update(agent, optimizer, prepare(agent, rollout, cfg), cfg.clip_eps * left, cfg)
        step = (i + 1) * batch_size
        if own and step % cfg.eval_every < batch_size:
            measure(name, step, clock.seconds, greedy(agent), cfg, log)
            log.write(step, **{f"{name}_kl": kl})
    return agent


def greedy(agent: Agent) -> Callable[[np.ndarray], np.ndarray]:
    """The likeliest action: the largest logit, or the mean."""
    actor = in_numpy(agent.actor)
    if agent.discrete:
        return lambda obs: actor(obs / agent.obs_unit).argmax(axis=1)
    return lambda obs: actor(obs / agent.obs_unit)


def score(policy: Callable, cfg: Config, seed: int) -> float:
    """Mean return of greedy episodes; training never sees `seed`."""
    return float(evaluate(policy, cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed).mean())


def measure(name: str, step: int, seconds: float, policy: Callable, cfg: Config, log: RunLog) -> None:
    """One check: the score, beside the CPU seconds of learning so far."""
    log.write(step, **{f"{name}_return": score(policy, cfg, 10_000), f"{name}_cpu_seconds": seconds})


# %% [markdown]
r"""
## 4. Run, look, break

*The figure.* Left, the CPU seconds until three checks in a row found 475, a dot for each seed, beside
Stable-Baselines3's PPO with the same checks. Right, environment steps to it with one detail changed. `clip`
shows the objective for both signs of the advantage, and 40 passes over one rollout under each rule. `profile`
sets an update against its matrix products at the processor's full rate: what lies between is tanh, autograd,
and many small calls for loss, shuffle, norm and Adam. A step is dear because 16 environments share it.

*Pendulum* never ends, it is only cut. Merging that with an end tells the critic that some futures are free.

**Break it.** `--surrogate no_clip --target-kl 1e9 --num-epochs 40`: watch `ours_kl`, then again with `min`.

**Exercises.** (1) Why is the first minibatch's gradient that of A2C, whatever the clip? (2) Take the mask
out of (1) and find the probe in `tests/test_C3.py` that notices. (3) Clip the critic's step as well, as some
implementations do, and judge it over ten seeds.
"""

# %%
PENDULUM = {
    "env_id": "Pendulum-v1", "num_envs": 64, "minibatch_size": 1024, "num_epochs": 10, "gamma": 0.97,
    "gae_lambda": 0.95, "target_kl": 0.03, "max_grad_norm": 5.0, "reward_scale": 0.1, "eval_every": 8192,
}  # fmt: skip
VARIANTS = {  # one detail changed at a time
    "ours": {}, "no_clip": {"surrogate": "no_clip"}, "clip_without_min": {"surrogate": "clip_alone"},
    "max_if_A_is_negative": {"surrogate": "max_if_negative"}, "one_pass": {"num_epochs": 1},
    "one_pass_of_one_batch": {"num_epochs": 1, "minibatch_size": 1_000_000},
    "advantages_as_they_are": {"normalise": False}, "lambda_1": {"gae_lambda": 1.0},
    "lambda_0": {"gae_lambda": 0.0}, "time_limit_merged": {"merge_time_limit": True},
    "nothing_annealed": {"anneal": False}, "torch_initial_weights": {"orthogonal": False},
}  # fmt: skip
LOOKS = {
    "min": {"label": "PPO", "color": plotting.BLUE, "linewidth": 3.5},
    "no_clip": {"label": "no clip", "color": "grey", "linestyle": ":"},
    "clip_alone": {"label": "clip without min", "color": plotting.ORANGE, "linestyle": "--"},
    "max_if_negative": {"label": "max where A < 0", "color": plotting.RED, "linestyle": "-."},
}  # how each surrogate is drawn
RACE = {"ours": "ours", "sb3_ours": "SB3, our settings", "sb3_zoo": "SB3, rl-zoo's settings"}


def race_sb3(name: str, num_env_steps: int, settings: dict, cfg: Config, log: RunLog) -> None:
    """Stable-Baselines3's PPO with the same checks as ours, until 475 is sustained."""

    def check(step: int, seconds: float, policy: Callable) -> bool:
        measure(name, step, seconds, policy, cfg, log)
        return math.isfinite(crossing(log.metrics, name, SOLVED)[0])

    train_sb3_ppo(cfg.env_id, cfg.seed, num_env_steps, cfg.eval_every, check, **settings)


def one_rollout(cfg: Config, agent: Agent | None = None, seed: int = 0) -> tuple[Agent, dict[str, Tensor]]:
    """(an agent, by default untrained, and what it learns from after one rollout of fresh episodes)."""
    seed_everything(cfg.seed + seed)
    envs = make_envs(cfg.env_id, cfg.num_envs)
    agent, (obs, _) = agent or Agent(envs, cfg), envs.reset(seed=cfg.seed + seed)
    return agent, prepare(agent, collect(agent, envs, obs, np.random.default_rng(seed), cfg)[0], cfg)


def sb3_gaps(env_id: str, cfg: Config) -> tuple[float, float, float]:
    """Against SB3's PPO, same weights and batch: (gap of loss, of gradients, share of ratios clipped)."""
    cfg = dataclasses.replace(cfg, env_id=env_id, num_steps=16, ent_coef=0.01, reward_scale=0.1)
    agent, batch = one_rollout(cfg)
    for parameter in agent.parameters():  # move on from the weights that acted, or no ratio would be clipped
        parameter.data += 0.1 * torch.randn_like(parameter)
    loss, ratio = minibatch_loss(agent, batch, cfg.clip_eps, cfg)
    loss.backward()
    ours = [*agent.actor.parameters(), *agent.critic.parameters()]
    ours += [] if agent.discrete else [agent.log_std]
    clipped = ((ratio - 1).abs() > cfg.clip_eps).float().mean().item()
    return *sb3_ppo_gaps(env_id, ours, loss.item(), batch, cfg), clipped


def gae_gap(seed: int) -> float:
    """Largest difference between `gae` and the double sum it abbreviates, with random ends of both kinds."""
    rng, T = np.random.default_rng(seed), 9
    rewards, values, next_values = torch.from_numpy(rng.normal(size=(3, T, 4)))
    terminated, truncated = torch.from_numpy(rng.random((2, T, 4)) < 0.2)
    gap = gae(rewards, values, next_values, terminated, truncated, 0.9, 0.8)
    deltas = rewards + 0.9 * torch.where(terminated, 0.0, next_values) - values
    for t in range(T):
        for k in range(t, T):  # a delta counts as long as no episode has ended before it
            gap[t] -= 0.72 ** (k - t) * deltas[k] * ~(terminated | truncated)[t:k].any(dim=0)
    return gap.abs().max().item()


def claim_identities(cfg: Config, log: RunLog) -> None:
    exact = {"always": True, "seeds": "10/10"}
    log.claim(
        "gae_gap", "GAE's recursion equals its definition, the double sum, across both kinds of end",
        gae_gap(cfg.seed), at_most=1e-10, source="schulman2016gae, eq. (16)", **exact,
    )  # fmt: skip
    at, pull = torch.tensor([1.5], requires_grad=True), {}
    for kind, rule in SURROGATES.items():
        pull[kind] = torch.autograd.grad(rule(at, -torch.ones(1), 0.2).sum(), at)[0].item()
    log.claim(
        "pull_back", "an action with advantage -1 that is 1.5 times as likely as it was is pulled back",
        pull["min"], near=(-1.0, 1e-6), unit="slope of the objective", source="derivative of (7)", **exact,
    )  # fmt: skip
    log.write(0, **{f"pull_back_{kind}": slope for kind, slope in pull.items()})
    agent, batch = one_rollout(cfg)
    first = {name: values[: cfg.minibatch_size] for name, values in batch.items()}
    log.claim(
        "first_ratio_gap", "in the first minibatch of a rollout every ratio is 1, but for rounding",
        (minibatch_loss(agent, first, 0.2, cfg)[1] - 1).abs().max().item(), at_most=1e-6,
        source="the weights have not moved", **exact,
    )  # fmt: skip


def claim_parity(cfg: Config, log: RunLog) -> None:
    gaps = np.array([sb3_gaps(env_id, cfg) for env_id in ("CartPole-v1", "Pendulum-v1")])
    log.write(0, parity_share_clipped=gaps[:, 2].min())
    for what, gap in zip(("loss", "gradient"), gaps[:, :2].max(axis=0)):
        log.claim(
            f"sb3_{what}_gap", f"our {what} equals that of Stable-Baselines3's PPO on the same batch",
            gap, at_most=1e-5, unit="of the largest, discrete and continuous", seeds="10/10", always=True,
            source="stable-baselines3, run in the same process",
        )  # fmt: skip


def many_passes(cfg: Config, log: RunLog, num_passes: int = 40) -> dict[str, list[float]]:
    """KL after each pass over ONE rollout, for every surrogate, from the same half-trained weights."""
    early = dataclasses.replace(cfg, num_env_steps=min(cfg.num_env_steps, 8192), anneal=False, target_kl=1e9)
    agent, moved = train(early, log, make_envs(cfg.env_id, cfg.num_envs), "early"), {}
    _, batch = one_rollout(cfg, agent, seed=1)
    for kind in SURROGATES:
        learner, one_pass = copy.deepcopy(agent), dataclasses.replace(early, surrogate=kind, num_epochs=1)
        optimizer = torch.optim.Adam(learner.parameters(), lr=cfg.learning_rate / 2, eps=1e-5, fused=True)
        torch.manual_seed(cfg.seed)
        moved[kind] = []
        for _ in range(num_passes):
            update(learner, optimizer, batch, cfg.clip_eps, one_pass)
            with torch.no_grad():
                moved[kind].append(approx_kl(minibatch_loss(learner, batch, 0.2, early)[1]).item())
    for kind, factor in (("no_clip", 10.0), ("max_if_negative", 10.0), ("clip_alone", 1.0)):
        log.claim(
            f"kl_{kind}", f"{num_passes} passes over one rollout go further with {LOOKS[kind]['label']}",
            moved[kind][-1] / moved["min"][-1], at_least=factor, unit="times PPO's KL",
            source="schulman2017ppo, section 3", seeds="8/10",
        )  # fmt: skip
    return moved


def optimism(agent: Agent, cfg: Config, num_steps: int = 300) -> float:
    """How much of the true cost the critic leaves out, on episodes that nothing cuts (0: none)."""
    long, envs = dataclasses.replace(cfg, num_steps=num_steps), BatchedPendulum(50, max_episode_steps=10**6)
    obs, _ = envs.reset(seed=cfg.seed + 30_000)
    rollout, _ = collect(agent, envs, obs, np.random.default_rng(cfg.seed), long)
    nothing, never = torch.zeros_like(rollout["rewards"]), torch.zeros_like(rollout["terminated"])
    # without a critic and with lambda 1, (2) is the return; the second half lets it settle
    returns = gae(rollout["rewards"], nothing, nothing, never, never, cfg.gamma, 1.0)[: num_steps // 2]
    with torch.no_grad():
        values = agent.value(rollout["obs"])[: num_steps // 2]
    return ((values - returns).mean() / -returns.mean()).item()


def pendulum(cfg: Config, log: RunLog) -> None:
    """Continuous actions, and what merging the time limit does to the critic if it cuts every 40 steps."""
    cfg = dataclasses.replace(cfg, **PENDULUM, num_env_steps=cfg.num_pendulum_steps)
    agent = train(cfg, log, name="pendulum")
    log.claim(
        "pendulum_return", "the last policy swings the pendulum up and holds it, on fresh episodes",
        score(greedy(agent), cfg, 20_000), at_least=GOAL, seeds="9/10",
        unit="mean return of 100 greedy episodes", source="the course's goal for Pendulum-v1",
    )  # fmt: skip
    errors = {}
    for name, merge in (("kept", False), ("merged", True)):
        variant = dataclasses.replace(cfg, merge_time_limit=merge, num_env_steps=cfg.num_env_steps // 2)
        envs = BatchedPendulum(cfg.num_envs, max_episode_steps=40)
        errors[name] = optimism(train(variant, log, envs, name), cfg)
        log.write(variant.num_env_steps, **{f"optimism_{name}": errors[name]})
    log.claim(
        "merged_optimism", "a critic that takes time limits for ends leaves out more of the cost",
        errors["merged"] - errors["kept"], at_least=0.1, unit="more of the true cost", seeds="9/10",
        source="above the right critic's own error",
    )  # fmt: skip
    if not log.smoke:
        before, _ = one_rollout(cfg)  # the weights that training began with
        log.film(film_pendulums({"before": greedy(before), "after": greedy(agent)}))


def profile(cfg: Config, log: RunLog) -> None:
    """One update and one rollout in stages, beside the machine's limit for that work."""
    cfg = dataclasses.replace(cfg, target_kl=1e9)
    agent, batch = one_rollout(cfg)
    envs, rng = make_envs(cfg.env_id, cfg.num_envs), np.random.default_rng(cfg.seed)
    obs, _ = envs.reset(seed=cfg.seed)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-5, fused=True)
    size, rows = cfg.num_envs * cfg.num_steps, batch["obs"][: cfg.minibatch_size]  # [B, D]
    count = cfg.num_epochs * math.ceil(size / cfg.minibatch_size)  # gradient steps in an update
    gflop, products = product_cost([*agent.actor[::2], *agent.critic[::2]], len(rows), obs.shape[1])
    rate, actor = matmul_rate(), in_numpy(agent.actor)
    many, still = make_envs(cfg.env_id, 8192), np.zeros(8192, dtype=int)
    many.reset(seed=0)
    networks = seconds_of(lambda: (agent.actor(rows).sum() + agent.value(rows).sum()).backward())
    log.write(
        0, update_gflop=count * gflop, gflop_per_second=rate, limit_cpu_seconds=count * gflop / rate,
        products_cpu_seconds=count * products,
        networks_cpu_seconds=count * networks,
        update_cpu_seconds=seconds_of(lambda: update(agent, optimizer, batch, 0.2, cfg), 1, 10),
        collect_cpu_seconds=seconds_of(lambda: collect(agent, envs, obs, rng, cfg), 1, 10),
        policy_cpu_seconds=cfg.num_steps * seconds_of(lambda: sample_categorical(actor(obs), rng), 200),
        step_cpu_seconds=cfg.num_steps * seconds_of(lambda: envs.step(still[: cfg.num_envs]), 200),
        step_limit_cpu_seconds=size / 8192 * seconds_of(lambda: many.step(still)),
    )  # fmt: skip
    log.claim(
        "update_over_limit", "an update takes this many times its matrix products at the machine's full rate",
        log.last("update_cpu_seconds") / log.last("limit_cpu_seconds"), at_least=1.0, unit="times",
        source="a large product, timed in the same run", timed=True, seeds="10/10",
    )  # fmt: skip


def draw_clip(moved: dict[str, list[float]], log: RunLog) -> None:
    """The objective for both signs of the advantage, and what each rule does to passes over one rollout."""
    figure, axes = plotting.new_figure(1, 3, width=4.8)
    ratio = torch.linspace(0.0, 2.2, 221)
    for ax, sign, title in ((axes[0], 1, "better than average: A = 1"), (axes[1], -1, "worse: A = -1")):
        for kind, look in LOOKS.items():
            ax.plot(ratio, SURROGATES[kind](ratio, sign * torch.ones(221), 0.2), **look)
        ax.axvspan(0.8, 1.2, color=plotting.YELLOW, alpha=0.25, linewidth=0)
        ax.set(xlabel="ratio: new over old probability", ylabel="objective", title=title)
    axes[0].legend(loc="upper left", fontsize=10)
    arrow = {"arrowstyle": "->"}
    axes[1].annotate("pulled back:\nonly with min", (1.7, -1.7), (0.1, -1.95), arrowprops=arrow)
    for kind, curve in moved.items():
        axes[2].plot(range(1, len(curve) + 1), np.maximum(curve, 1e-4), **LOOKS[kind])
    axes[2].set(xlabel="passes over one rollout", ylabel="KL from the policy that sampled it", yscale="log")
    axes[2].set_title("what holds the policy back")
    log.figure(figure, "clip")


def draw_profile(log: RunLog) -> None:
    figure, axes = plotting.new_figure(1, 2, width=5.8, height=3.4)
    bars = (
        {"at the machine's rate": "limit", "matrix products": "products", "+ tanh, autograd": "networks",
         "+ shuffle, loss,\nclip, Adam: all": "update"},
        {"8192 at once": "step_limit", "environment": "step", "policy": "policy", "collect, all": "collect"},
    )  # fmt: skip
    for ax, names, title in zip(axes, bars, ("One update", "One rollout")):
        values = {label: 1e3 * log.last(f"{key}_cpu_seconds") for label, key in names.items()}
        plotting.bar_rows(ax, values, [plotting.GREEN, *[plotting.BLUE] * 3])
        ax.set(xlabel="CPU milliseconds", title=title)
    log.figure(figure, "profile")


def draw(runs: list[dict], log: RunLog) -> None:
    """The race and the ablation, a dot for each run and a bar for their median."""
    figure, axes = plotting.new_figure(1, 2, width=6.8, height=4.6)
    for ax, names, column, unit in ((axes[0], RACE, 0, 1.0), (axes[1], VARIANTS, 1, 1e-3)):
        labels = [RACE.get(name, name.replace("_", " ")) for name in names]
        found = [[unit * crossing(run["metrics"], name, SOLVED)[column] for run in runs] for name in names]
        rows = dict(zip(labels, found))
        plotting.dot_rows(ax, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    axes[0].set(xlabel="CPU seconds to a sustained 475", title="Against Stable-Baselines3")
    axes[1].set(xlabel="thousand environment steps to it", title="One detail changed")
    log.figure(figure)


def cartpole(cfg: Config, log: RunLog) -> None:
    agent = train(cfg, log)
    returns = log.series("ours_return")[1]
    best = max(min(returns[i : i + 3]) for i in range(max(1, len(returns) - 2)))
    common = {
        "at_least": SOLVED, "unit": "mean return of 100 greedy episodes", "seeds": "10/10",
        "source": "the threshold registered for CartPole-v1",
    }  # fmt: skip
    log.claim("sustained_475", "the lowest of three checks in a row, at its best, holds 475", best, **common)
    fresh = score(greedy(agent), cfg, 20_000)
    log.claim("fresh_return", "the last policy balances the pole on fresh episodes", fresh, **common)
    seconds, steps = crossing(log.metrics, "ours", SOLVED)
    log.write(cfg.num_env_steps, ours_sustained_cpu_seconds=seconds, ours_sustained_steps=steps)


def main(cfg: Config, log: RunLog) -> None:
    startup, warm_up = time.process_time(), CpuClock()
    with warm_up:  # the first optimiser of a process imports torch's compiler: no learner is charged for that
        torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    log.write(0, startup_cpu_seconds=startup, optimizer_warm_up_cpu_seconds=warm_up.seconds)
    claim_identities(cfg, log)
    cartpole(cfg, log)
    if cfg.only == "cartpole":
        plotting.learning_curve(log, "ours_return", threshold=SOLVED, title="PPO", xlabel="environment steps")
        return
    claim_parity(cfg, log)
    race_sb3("sb3_ours", cfg.num_env_steps, sb3_ppo_settings(cfg), cfg, log)
    race_sb3("sb3_zoo", 1280 if log.smoke else 100_000, ZOO_PPO_CARTPOLE, cfg, log)
    for name, changes in list(VARIANTS.items())[1:]:
        train(dataclasses.replace(cfg, **changes), log, name=name)
    draw_clip(many_passes(cfg, log), log)
    pendulum(cfg, log)
    profile(cfg, log)
    draw_profile(log)
    draw([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: seconds against Stable-Baselines3, and what several passes are worth."""

    def median(name: str, column: int) -> float:
        # a run that never got there counts as if it had at its last check: a bound against our claims
        lasts = [run["metrics"][f"{name}_cpu_seconds"][-1][::-1] for run in runs]
        found = [crossing(run["metrics"], name, SOLVED) for run in runs]
        return float(np.median([min(one[column], last[column]) for one, last in zip(found, lasts)]))

    for name, bound, whose in (("sb3_zoo", 4.0, "rl-zoo's"), ("sb3_ours", 1.0, "our")):
        log.claim(
            f"faster_than_{name}", f"SB3's PPO at {whose} settings needs more CPU seconds to a sustained 475",
            median(name, 0) / median("ours", 0), at_least=bound, unit="times ours, medians",
            source="stable-baselines3 in the same runs, one thread each", timed=True,
        )  # fmt: skip
    log.claim(
        "several_passes", "one pass of one batch, as A2C takes it, needs more environment steps to it",
        median("one_pass_of_one_batch", 1) / median("ours", 1), at_least=1.0, unit="times ours, medians",
        source="schulman2017ppo: several epochs of each sample",
    )  # fmt: skip
    draw(runs, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
