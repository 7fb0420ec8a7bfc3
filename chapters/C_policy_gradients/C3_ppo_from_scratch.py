# %% [markdown]
r"""
# C3 · PPO from scratch

**Question.** How can a policy learn several times from the same data without drifting from the policy that
gathered them, and on which of the details that every implementation carries does the result depend?

**Before this:** C2 (PPO, proximal policy optimisation, explained). **Changes from C1:** several passes over
each rollout; a clipped ratio takes away the reason to go far; continuous actions. **Next:** C4, PPO in JAX.

**Time.** 12 s on 2 cores; with all evidence 130 s.

References: `schulman2017ppo`, `schulman2016gae`, `schulman2020kl`, `pardo2018timelimits`, `huang2022details`.

Symbols: `T` steps of each of `N` environments in a rollout, `B` transitions in a minibatch, `D` observation
size, $w_t$ importance ratio, $\epsilon_\text{clip}$ clip range; the rest as in C1 and C2.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.agents import ActorCritic
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.networks import in_numpy
from chapters.utils.optim import Adam

SOLVED = 475.0  # the threshold registered for CartPole-v1
Grid = Float[Tensor, "T N"]  # a number for each step and environment
Flags = Bool[Tensor, "T N"]
Vector = Float[Tensor, "*B"]  # a number for each transition, of a minibatch of B or of a rollout
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """PPO from scratch, on CartPole unless told otherwise."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    env_id: str = "CartPole-v1"
    """Any environment with vectors as observations; actions discrete, or clipped to the bounds of a box."""
    num_envs: Annotated[int, in_range(1, 4096)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 4096)] = 64
    """T: steps per environment in one rollout."""
    num_env_steps: Annotated[int, in_range(1, 100_000_000)] = 61_440
    """Environment steps in all; learning rate and clip range fall to zero over them."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each rollout."""
    minibatch_size: Annotated[int, in_range(2, 1_000_000)] = 256
    """B: transitions per gradient step."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 5e-3
    """Adam's step size at the start."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one step; 1 only where a time limit or the end of the rollout cuts."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far the ratio may move before the reason to move it further is taken away."""
    target_kl: Annotated[float, in_range(0.0, 1e9)] = 0.05
    """Stop a rollout's passes once the policy has moved this far."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.5
    """Weight of the value loss."""
    ent_coef: Annotated[float, in_range(0.0, 1.0)] = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e9)] = 0.5
    """Bound on the norm of the whole gradient."""
    reward_scale: Annotated[float, in_range(1e-6, 1e6)] = 1.0
    """Rewards are multiplied by this before learning, lest the critic's targets be in the hundreds."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between evaluations."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""


SMOKE = {
    "num_envs": 8, "num_steps": 32, "num_env_steps": 512, "minibatch_size": 64, "eval_every": 256,
    "num_eval_episodes": 3,
}  # fmt: skip

# %% [markdown]
r"""
## 1. Advantages

Was an action better than the critic expected? One step later it can judge, by the *temporal-difference error*
(1). Adding those of later steps, each weighted less, trusts the critic less and the rewards more. This is
generalised advantage estimation, GAE, (2) (`schulman2016gae`):

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{1}$$

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{2}$$

*Done* is terminated or cut by a time limit. A cut ends the *sum* in (2), as the next row is another
episode's. The state after the cut keeps its value in (1). After a rollout's last
row $\hat A_{t+1}$ is 0.

*By hand.* Two steps with reward 1, from states worth 4 and 5 to one worth 6; $\gamma = 1$, $\lambda = ½$. If
a time limit cuts there, both errors are 2, and the first advantage is $2 + ½ \cdot 2$. If the pole fell,
nothing follows: the last error is $1 - 5$, and the first advantage $2 - ½ \cdot 4$.

```python
>>> rewards, values, next_values = torch.tensor([[[1.0], [1.0]], [[4.0], [5.0]], [[5.0], [6.0]]])
>>> no, last = torch.tensor([[[False], [False]], [[False], [True]]])
>>> gae(rewards, values, next_values, terminated=no, truncated=last, gamma=1.0, gae_lambda=0.5).tolist()
[[3.0], [2.0]]
>>> gae(rewards, values, next_values, terminated=last, truncated=no, gamma=1.0, gae_lambda=0.5).tolist()
[[0.0], [-4.0]]
```
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


def normalise(advantages: Vector) -> Vector:
    """Mean 0 and standard deviation 1, so that no step depends on the rewards' unit; equal ones give 0."""
    differ = advantages.max() > advantages.min()  # else rounding would be divided by rounding
    return differ * (advantages - advantages.mean()) / (advantages.std() + 1e-8)


# %% [markdown]
r"""
## 2. The objective, and the program around it

How much more would a new policy earn? Samples of the old one can say so, each weighed by its *ratio* (C2):

$$w_t = \pi_\theta(a_t \mid s_t) \,/\, \pi_{\theta_\text{old}}(a_t \mid s_t) \tag{3}$$

The mean of $w_t \hat A_t$, the *surrogate*, is a good guide near $w_t = 1$ and a poor one far off; yet it can
go on rising as $w_t$ moves away. PPO pays nothing for going further than $\epsilon = \epsilon_\text{clip}$:

$$L_t = \min\bigl(w_t \hat A_t,\; \mathrm{clip}(w_t,\, 1-\epsilon,\, 1+\epsilon)\, \hat A_t\bigr) \tag{4}$$

*By hand*, with $\epsilon = 0.2$. A good action ($\hat A = 1$) that is already 1.5 times as likely
counts as 1.2: a constant, no gradient, nothing to gain. A bad one at half its probability counts as if at
0.8. But a bad one that has become *likelier* counts in full, and its gradient pulls it back. That is what the
`min` is for: a clip alone is flat there, and so is a `max` where $\hat A < 0$. Nothing would undo the step.

```python
>>> ratio, advantages = torch.tensor([[1.5, 0.5, 1.5], [1.0, -1.0, -1.0]])
>>> [round(objective, 2) for objective in clipped_surrogate(ratio, advantages, clip_eps=0.2).tolist()]
[1.2, -0.8, -1.5]
```

The loss (5) adds the critic's squared error and the entropy $\mathcal H$, weighted by $c_v$ and $c_e$. How
far the policy has moved, its Kullback–Leibler (KL) divergence, is estimated by (6): never negative, as
$w - 1 \ge \log w$, and right on average over samples that the new policy was not fitted to, as $w$ has mean 1
there (`schulman2020kl`). We take the samples at hand.

$$\mathcal L = \tfrac1B \textstyle\sum_t \bigl[-L_t + c_v\,(V(s_t) - \hat R_t)^2 - c_e\,\mathcal H_t\bigr],
\qquad \hat R_t = \hat A_t + V_\text{old}(s_t) \tag{5}$$

$$\mathrm{KL}(\pi_\text{old} \Vert \pi_\theta) \approx \tfrac1B \sum_t [(w_t - 1) - \log w_t] \tag{6}$$

The rest is C2's program; a *head* (`chapters/envs/agents.py`) samples actions and says how likely one is.
"""


# %%
def clipped_surrogate(ratio: Vector, advantages: Vector, clip_eps: float) -> Vector:
    """PPO's objective of each transition, to be raised (schulman2017ppo)."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (4)


def approx_kl(ratio: Vector) -> Float[Tensor, ""]:
    """How far the policy has moved since the samples were drawn."""
    return ((ratio - 1.0) - ratio.log()).mean()  # eq. (6)


# %%
def collect(
    agent: ActorCritic, envs: VectorEnv, obs: np.ndarray, rng: np.random.Generator, cfg: Config
) -> tuple[Batch, np.ndarray]:
    """`num_steps` steps in each environment: ({name: [T, N, ...]}, the observations to act on next)."""
    names = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated")
    rows = []
    actor = in_numpy(agent.actor)
    for _ in range(cfg.num_steps):
        seen = obs / agent.obs_unit  # [N, D]: numbers up to about 1
        actions = agent.head.sample(actor(seen), rng)
        obs, rewards, terminated, truncated, infos = envs.step(agent.head.applied(actions))
        next_obs = true_next_obs(obs, terminated | truncated, infos) / agent.obs_unit
        rewards = cfg.reward_scale * rewards.astype(np.float32)
        rows.append((seen, actions, rewards, next_obs, terminated, truncated))
    return {name: torch.from_numpy(np.stack(column)) for name, column in zip(names, zip(*rows))}, obs


@torch.no_grad()
def prepare(agent: ActorCritic, rollout: Batch, cfg: Config) -> Batch:
    """What the passes learn from, one row a transition, by the weights that acted; all of it constant."""
    values = agent.value(rollout["obs"])  # [T, N]
    next_values = agent.value(rollout["next_obs"])
    ends = rollout["terminated"], rollout["truncated"]
    advantages = gae(rollout["rewards"], values, next_values, *ends, cfg.gamma, cfg.gae_lambda)
    batch = {name: rollout[name].flatten(0, 1) for name in ("obs", "actions")}  # [T * N, ...]
    batch["old_log_probs"] = agent.judge(batch["obs"], batch["actions"])[0]
    batch["advantages"] = advantages.flatten()
    batch["returns"] = (advantages + values).flatten()  # the critic's target
    return batch


def minibatch_loss(agent: ActorCritic, mini: Batch, clip_eps: float, cfg: Config) -> tuple[Tensor, Tensor]:
    """(the loss, which the optimiser lowers; the ratio of each transition [B]) of one minibatch."""
    log_prob, entropy = agent.judge(mini["obs"], mini["actions"])
    ratio = (log_prob - mini["old_log_probs"]).exp()  # eq. (3)
    objective = clipped_surrogate(ratio, normalise(mini["advantages"]), clip_eps)
    values = agent.value(mini["obs"])
    value_loss = (values - mini["returns"]).pow(2).mean()
    return -objective.mean() + cfg.vf_coef * value_loss - cfg.ent_coef * entropy.mean(), ratio  # eq. (5)


def update(agent: ActorCritic, optimizer: Adam, batch: Batch, clip_eps: float, cfg: Config) -> float:
    """Several passes, each in a new order, unless the policy moves too far; returns how far it moved."""
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["obs"])).split(cfg.minibatch_size):
            loss, ratio = minibatch_loss(agent, {name: x[rows] for name, x in batch.items()}, clip_eps, cfg)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), cfg.max_grad_norm)
            optimizer.step()
        kl = approx_kl(ratio.detach()).item()  # an estimate, on the pass's last minibatch before its step
        if kl > cfg.target_kl:
            break
    return kl


def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None, name: str = "ours") -> ActorCritic:
    """Train one learner; with `envs` given, nothing is evaluated on the way."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs(cfg.env_id, cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = ActorCritic(envs)
    rng = np.random.default_rng(cfg.seed)
    clock = CpuClock()
    optimizer = Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5)
    batch_size = envs.num_envs * cfg.num_steps
    num_updates = max(1, cfg.num_env_steps // batch_size)
    for i in log.track(range(num_updates), f"updates ({name})", f"{name}_return"):
        with clock:
            left = 1.0 - i / num_updates  # of step size and clip range
            optimizer.lr = cfg.learning_rate * left
            rollout, obs = collect(agent, envs, obs, rng, cfg)
            kl = update(agent, optimizer, prepare(agent, rollout, cfg), cfg.clip_eps * left, cfg)
        step = (i + 1) * batch_size
        if evaluated and step % cfg.eval_every < batch_size:
            now = {"cpu_seconds": clock.seconds, "kl": kl, "clip_eps": cfg.clip_eps * left}
            now["return"] = score(agent, cfg, 10_000)
            log.write(step, **{f"{name}_{what}": value for what, value in now.items()})
    return agent


def score(agent: ActorCritic, cfg: Config, seed: int) -> float:
    """Mean return of the likeliest actions over whole episodes; training never sees `seed`."""
    returns = evaluate(agent.greedy(), cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)
    return float(returns.mean())


# %% [markdown]
r"""
## 3. Look, break, write

![The score climbs to its maximum; most updates move the policy less than the clip's edge](results/C3.png)

The lesson draws the left panel, the evidence the rest. On the right, how far every second update moved the
policy, by (6); dashed, if every ratio stood at the lower edge of the clip range, $1 - \epsilon$. *Sustained*
means three evaluations in a row at 475 or more. Below, the seconds to get there, ours and
Stable-Baselines3's, then the steps with one detail changed; a dot is a seed:

![Seconds beside Stable-Baselines3, and steps with one detail changed](results/C3_ablation.png)

**The verdict.** A policy can use its data several times because the objective stops paying for distance *and*
charges for a step that went wrong. The clip is half of it: without the `min` the policy drifts, and with a
`max` it leaves. On CartPole every seed ends at 500. Without the `min`, without the clip, or with one pass,
many reach 475 and about half end below it; with $\lambda = 0$ most do not stay. Initial weights, annealing,
even merging the two masks hardly matter. Believe that of CartPole only: on Pendulum, cut every 40 steps, a
critic that takes time limits for ends leaves out most of the cost (`merged_optimism`).

On Pendulum the usual goal, −200, is reached, which need not be the best there is. That is known, by dynamic
programming (`chapters/exact/pendulum.py`): the computed optimum, $-137.8$. What a policy earns less than it,
from the same starts, is its *regret* (`pendulum_regret`); a better algorithm would have to show itself there.

<!-- results: C3 -->

`rl run C3`: 5 s; with `--evidence`: 124 s, 941 MB; with `--smoke --evidence`: 26 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| pull_back                 | -1                              | -1 ± 1e-06 | 10/10  |
| mean_kl                   | 0.00301 (0.00245 to 0.00341)    | ≤ 0.007423 | 10/10  |
| fresh_return              | 500                             | ≥ 475      | 10/10  |
| gae_gap *                 | 4.86e-16 (2.22e-16 to 6.66e-16) | ≤ 1e-10    | 10/10  |
| first_ratio_gap *         | 0                               | ≤ 1e-06    | 10/10  |
| sb3_loss_gap *            | 2.71e-07 (5.97e-08 to 1.06e-06) | ≤ 1e-05    | 10/10  |
| sb3_gradient_gap *        | 2.91e-07 (2.06e-07 to 3.46e-07) | ≤ 1e-05    | 10/10  |
| sustained_475 *           | 500                             | ≥ 475      | 10/10  |
| kl_no_clip *              | 551 (404 to 763)                | ≥ 10       | 10/10  |
| kl_max_if_negative *      | 116 (41.8 to 182)               | ≥ 10       | 10/10  |
| kl_clip_alone *           | 6.55 (1.94 to 14.7)             | ≥ 1        | 10/10  |
| pendulum_return *         | -172 (-185 to -160)             | ≥ -200     | 10/10  |
| pendulum_regret *         | 34.7 (24.3 to 40.8)             | ≤ 62.17    | 10/10  |
| merged_optimism *         | 0.659 (0.615 to 0.685)          | ≥ 0.1      | 10/10  |
| update_over_limit *       | 9.76 (9.49 to 10.8)             | ≥ 1        | 10/10  |
| faster_than_sb3_zoo *     | 8.56                            | ≥ 4        | pooled |
| faster_than_sb3_ours *    | 2.75                            | ≥ 1        | pooled |
| several_passes *          | 1.83                            | ≥ 1        | pooled |
| stage_reinforce_seconds * | 2.11                            | ≥ 1        | pooled |
| stage_reinforce_steps *   | 9.31                            | ≥ 1        | pooled |
| stage_a2c_seconds *       | 1.94                            | ≥ 1        | pooled |
| stage_a2c_steps *         | 5.82                            | ≥ 1        | pooled |
| stage_ppo *               | 1                               | ≥ 0.9      | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `pull_back`: a bad action (advantage -1) that has become 1.5 times as likely is pulled back (slope of the
  objective)
- `mean_kl`: an update moves the policy less, on average, than if every ratio stood at the clip's edge
- `fresh_return`: the last policy balances the pole on fresh episodes (mean return of 100 greedy episodes)
- `gae_gap`: GAE's recursion equals its definition, the double sum, across both kinds of end (largest
  difference)
- `first_ratio_gap`: in the first minibatch of a rollout every ratio is 1, but for rounding (largest distance
  from 1)
- `sb3_loss_gap`: our loss equals that of Stable-Baselines3's PPO on the same batch (of the largest, discrete
  and continuous)
- `sb3_gradient_gap`: our gradient equals that of Stable-Baselines3's PPO on the same batch (of the largest,
  discrete and continuous)
- `sustained_475`: three evaluations in a row score at least this much (the best such three of the run) (mean
  return of 100 greedy episodes)
- `kl_no_clip`: without any clip, 40 passes over one rollout move the policy further than PPO's do (times
  PPO's KL divergence)
- `kl_max_if_negative`: with a max where the advantage is negative, 40 passes over one rollout move the policy
  further than PPO's do (times PPO's KL divergence)
- `kl_clip_alone`: with the clip alone, without the min, 40 passes over one rollout move the policy further
  than PPO's do (times PPO's KL divergence)
- `pendulum_return`: the last policy swings the pendulum up and holds it, on fresh episodes (mean return of
  100 greedy episodes)
- `pendulum_regret`: from the same starts it stays behind the computed optimum by no more than that goal does
  (of return, mean of 100 greedy episodes)
- `merged_optimism`: a critic that takes time limits for ends leaves out more of the true cost than the right
  one (more of the true cost)
- `update_over_limit`: an update takes this many times as long as its matrix products at the machine's full
  rate (times)
- `faster_than_sb3_zoo`: SB3's PPO at rl-zoo's settings learns for more CPU seconds before 475 is sustained
  (times ours, medians)
- `faster_than_sb3_ours`: SB3's PPO at our settings learns for more CPU seconds before 475 is sustained (times
  ours, medians)
- `several_passes`: one pass of one batch, as A2C takes it, needs more environment steps to a sustained 475
  (times ours, medians)
- `stage_reinforce_seconds`: to a sustained -200 on the pendulum REINFORCE needs more CPU seconds than PPO
  (times PPO's or more, medians)
- `stage_reinforce_steps`: to a sustained -200 on the pendulum REINFORCE needs more environment steps than PPO
  (times PPO's or more, medians)
- `stage_a2c_seconds`: to a sustained -200 on the pendulum A2C needs more CPU seconds than PPO (times PPO's,
  medians)
- `stage_a2c_steps`: to a sustained -200 on the pendulum A2C needs more environment steps than PPO (times
  PPO's, medians)
- `stage_ppo`: on the pendulum PPO reaches a sustained -200 (share of the seeds)
</details>

<!-- /results -->

**Break it.** With `rl break C3 no_min` the policy drifts, with `rl break C3 no_clip` it runs away. `rl break
C3 merged` takes a time limit for an end. Which claim fails? On most seeds none: CartPole hides this mistake.

**Exercises.**

<!-- exercises: C3 -->

*C3.1 · The heart of it* (30 minutes, medium). Write the two functions that make PPO what it is, from (2) and
(4). `rl exercise C3.gae`, `rl exercise C3.clipped_surrogate`.

*C3.2 · A clip for the critic* (25 minutes, medium). Many implementations also clip the critic's step
(`huang2022details`): $V(s_t)$ counts only as far as $\epsilon_\text{clip}$ from the $V_\text{old}(s_t)$ of
the rollout, and of the two squared errors the larger is taken.

$$\tfrac1B \textstyle\sum_t \max\bigl[(V - \hat R)^2,\; (V_\text{old} + \mathrm{clip}(V - V_\text{old},
-\epsilon_\text{clip}, \epsilon_\text{clip}) - \hat R)^2\bigr] \tag{E1}$$

Then `rl break C3 clipped_critic`: does it help? `rl exercise C3.clipped_value_loss`.

<details><summary>Answer</summary>

It learns more slowly, and on some seeds not enough ("critic clipped too" in the figure). The range is in
units of value: CartPole's values grow towards $1 / (1 - \gamma) = 100$, and the critic may not follow.
</details>

*C3.3 · Find the bug* (10 minutes). `rl exercise C3.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    agent = train(cfg, log)
    ratio = torch.tensor([1.5], requires_grad=True)
    clipped_surrogate(ratio, -torch.ones(1), cfg.clip_eps).sum().backward()
    log.claim(
        "pull_back",
        "a bad action (advantage -1) that has become 1.5 times as likely is pulled back",
        ratio.grad.item(),
        near=(-1.0, 1e-6),
        unit="slope of the objective",
        source="derivative of the clipped objective",
        always=True,
        seeds="10/10",
    )
    edges = [approx_kl(torch.tensor(1.0 - clip_eps)).item() for clip_eps in log.series("ours_clip_eps")[1]]
    log.claim(
        "mean_kl",
        "an update moves the policy less, on average, than if every ratio stood at the clip's edge",
        np.mean(log.series("ours_kl")[1]),
        at_most=np.mean(edges),
        source="(6), every ratio at 1 - clip_eps",
        seeds="10/10",
    )
    log.claim(
        "fresh_return",
        "the last policy balances the pole on fresh episodes",
        score(agent, cfg, 20_000),
        at_least=SOLVED,
        unit="mean return of 100 greedy episodes",
        source="the threshold registered for CartPole-v1",
        seeds="10/10",
    )
    labels = {"title": "PPO on CartPole", "xlabel": "environment steps", "ylabel": "greedy return"}
    plotting.learning_curve(log, "ours_return", threshold=SOLVED, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
