# %% [markdown]
r"""
# C7 · IMPALA: many actors, one learner, and data that is a little old

**Question.** If acting and learning run side by side, the learner is fed with steps that an older policy
took. How can it learn from them as if they were its own, and towards which policy's values does it learn
then?

**Before this:** C3 (PPO, proximal policy optimisation). **Changes from C3:** each rollout is used once, and
it was made by weights that are several updates old. **Next:** C8 (several machines).

**Time.** 8 s on 2 cores; with all evidence 60 s.

References: `espeholt2018impala`, `munos2016retrace`, `schulman2016gae`, `pardo2018timelimits`.

Symbols: `T` steps of each of `N` environments in a rollout, `S` states, `A` actions, `P` weights of an agent;
$\pi$ the learner's policy, $\mu$ the older one that acted, $w_t = \pi(a_t \mid s_t) / \mu(a_t \mid s_t)$.
"""

# %%
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs
from chapters.envs.agents import ActorCritic
from chapters.envs.on_policy import approx_kl, collect, gae
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

SOLVED = 475.0  # the threshold registered for CartPole-v1
Grid = Float[Tensor, "T N"]  # a number for each step and environment
Flags = Bool[Tensor, "T N"]
Table = Float[np.ndarray, "S A"]  # a probability for each action of each state
Weights = Float[np.ndarray, " P"]  # all weights of an agent, in one row
Rollout = dict[str, np.ndarray]  # {name: [T, N, ...]}


@dataclass(frozen=True)
class Config:
    """A learner and its actors, on CartPole unless told otherwise."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    env_id: str = "CartPole-v1"
    """Any environment with vectors as observations; actions discrete, or clipped to the bounds of a box."""
    num_actors: Annotated[int, in_range(1, 64)] = 2
    """Actors, each with environments of its own; they take turns in handing over a rollout."""
    num_envs: Annotated[int, in_range(1, 4096)] = 16
    """N: environments of each actor, stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 4096)] = 32
    """T: steps per environment in one rollout."""
    lag: Annotated[int, in_range(0, 1000)] = 4
    """Updates that the learner makes between handing out weights and learning from their rollout."""
    num_env_steps: Annotated[int, in_range(1, 100_000_000)] = 204_800
    """Environment steps in all; both step sizes fall to zero over them."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2e-3
    """Adam's step size for the actor at the start."""
    critic_learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 1e-2
    """Adam's step size for the critic at the start: it has to follow a policy that moves."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.98
    """Discount factor."""
    vtrace_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.9
    """How much the errors of later steps count, as in C3; 1 in the paper."""
    rho_bar: Annotated[float, in_range(1e-3, 1e9)] = 1.0
    """Bound on the ratio that weighs an error: it decides what is learnt."""
    c_bar: Annotated[float, in_range(0.0, 1e9)] = 1.0
    """Bound on ratios that carry an error back: it decides how fast; in the paper at most rho_bar."""
    ent_coef: Annotated[float, in_range(0.0, 1.0)] = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e9)] = 0.5
    """Bound on the norm of the actor's gradient."""
    reward_scale: Annotated[float, in_range(1e-6, 1e6)] = 0.1
    """Rewards are multiplied by this before learning."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 8192
    """Environment steps between evaluations."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""


SMOKE = {"num_env_steps": 4096, "eval_every": 2048, "num_eval_episodes": 5}

# %% [markdown]
r"""
## 1. Judge another's steps

Where learner and actors wait for each other, one of them always idles. In IMPALA (importance weighted
actor-learner architecture, `espeholt2018impala`) nobody waits: actors go on with the weights they have. So
the steps that reach the learner were taken by $\mu$, a policy some updates old.

The error of a step, $r_t + \gamma V(s_{t+1}) - V(s_t)$, says how much better than expected it went. Averaged
over $\mu$'s actions it judges $\mu$. Weighed by the ratio $w_t$ it judges $\pi$, since $\mu(a)\, w = \pi(a)$.
But one ratio can be huge, and the errors of later steps need products of many. *V-trace* cuts each ratio at a
bound, $\bar\rho$ or $\bar c$:

$$\delta_t = \rho_t\, [\,r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t)\,], \qquad
\rho_t = \min(\bar\rho, w_t) \tag{1}$$

$$v_t - V(s_t) = \delta_t + \gamma\, c_t\, (1 - \text{done}_t)\, [\,v_{t+1} - V(s_{t+1})\,], \qquad
c_t = \lambda \min(\bar c, w_t) \tag{2}$$

$v_t$ is the critic's target. With ratios and bounds of 1, $v_t - V(s_t)$ is C3's advantage
(`schulman2016gae`). A small ratio stops later errors: $\pi$ hardly comes that way. Nothing is carried back
across the end of an episode or of the rollout. Only a terminal state is worth 0, though: at a time limit, and
after the rollout's last row, (1) keeps $V(s_{t+1})$ (`pardo2018timelimits`).

The actor asks how good $a_t$ was. For what followed it takes the best estimate there is, the next target
$v_{t+1}$; so it counts later corrections in full, where (2) counts only the part $c_t$ of them:

$$\hat A_t = \rho_t\, [\,r_t + \gamma\,(1 - \text{terminated}_t)\,v_{t+1} - V(s_t)\,] \tag{3}$$

where $v_{t+1}$ is $V(s_{t+1})$ if the row after $t$ belongs to another episode, or there is none.

*By hand.* Two steps with reward 1, from states worth 4 and 5 to one worth 6; $\gamma = \lambda = 1$, both
bounds 1. With ratios of 1 both errors are 2; the targets are $4 + 2 + 2$ and $5 + 2$, the advantages
$1 + 7 - 4$ and $1 + 6 - 5$. If $\pi$ takes the first action half as often as $\mu$, the first error and what
is carried back to it count half. If it takes it three times as often, the bounds cut the 3 to 1.

```python
>>> rewards, values, next_values = torch.tensor([[[1.0], [1.0]], [[4.0], [5.0]], [[5.0], [6.0]]])
>>> no = torch.tensor([[False], [False]])
>>> for first in (1.0, 0.5, 3.0):
...     ratio = torch.tensor([[first], [1.0]])
...     targets, advantages = vtrace(rewards, values, next_values, no, no, ratio, 1.0, 1.0, 1.0, 1.0)
...     print(targets.flatten().tolist(), advantages.flatten().tolist())
[8.0, 7.0] [4.0, 2.0]
[6.0, 7.0] [2.0, 2.0]
[8.0, 7.0] [4.0, 2.0]
```
"""


# %%
def vtrace(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags, ratio: Grid,
    gamma: float, vtrace_lambda: float, rho_bar: float, c_bar: float,
) -> tuple[Grid, Grid]:  # fmt: skip
    """(the critic's targets, the actor's advantages); `next_values[t]` is V of the true successor."""
    rho = ratio.clamp(max=rho_bar)
    c = vtrace_lambda * ratio.clamp(max=c_bar)
    goes_on = ~(terminated | truncated)
    deltas = rho * (rewards + gamma * next_values * ~terminated - values)  # eq. (1)
    targets = torch.zeros_like(rewards)
    next_targets = next_values.clone()
    correction = torch.zeros_like(rewards[0])  # [N]: target less value, of the row below
    for t in reversed(range(len(rewards))):
        next_targets[t] += goes_on[t] * correction  # now the target of the next step
        correction = deltas[t] + gamma * c[t] * goes_on[t] * correction  # eq. (2)
        targets[t] = values[t] + correction
    advantages = rho * (rewards + gamma * next_targets * ~terminated - values)  # eq. (3)
    return targets, advantages


# %% [markdown]
r"""
## 2. What the bounds cost

Where do these targets lead, if the critic follows them for long? $V$ rests where in every state the weighed
errors of $\mu$'s actions average 0: $\sum_a \mu(a \mid s)\, \rho(a \mid s)\, [\,r + \gamma V(s') - V(s)\,]
= 0$. The weights $\mu \rho = \min(\bar\rho\,\mu, \pi)$ act like a policy, once they are divided by their sum.
So $V$ becomes the value of

$$\pi_{\bar\rho}(a \mid s) = \frac{\min(\bar\rho\, \mu(a \mid s),\; \pi(a \mid s))}
{\sum_b \min(\bar\rho\, \mu(b \mid s),\; \pi(b \mid s))} \tag{4}$$

$\bar\rho$ decides *what* is learnt: without a bound the value of $\pi$, with a tiny one that of $\mu$, with 1
that of a policy on the way between (its *value* need not lie between theirs). $\bar c \le \bar\rho$ is not in
(4): it decides how fast errors travel. Both may be 1 if $\mu$ is a few updates old: (4) is then nearly $\pi$.
*By hand*: $\pi$ is (.1, .9), $\mu$ (.5, .5). The bound leaves (.1, .5), divided by their sum (.17, .83).

```python
>>> clipped_policy(np.array([[0.1, 0.9]]), np.array([[0.5, 0.5]]), rho_bar=1.0).round(3).tolist()
[[0.167, 0.833]]
```

![Distance of what is learnt from the learner's value; 1: the older policy's](results/C7_fixed_point.png)

Both policies of the figure are drawn at random, so they lie far apart, and a bound of 1 costs a lot. The few
updates between an actor and its learner leave them much closer together.
"""


# %%
def clipped_policy(policy: Table, behaviour: Table, rho_bar: float) -> Table:
    """The policy whose values V-trace finds (espeholt2018impala, eq. 3)."""
    kept = np.minimum(rho_bar * behaviour, policy)
    return kept / kept.sum(axis=1, keepdims=True)  # eq. (4)


# %% [markdown]
r"""
## 3. Actors

An actor has environments and a copy of the agent, and answers each set of weights with one rollout (C3's
`collect`) and the probabilities by which it acted. Here everything runs in turn, in one process: an `Actor`
begins only when `answer` is called. In the evidence a `RemoteActor` (`evidence/C7_processes.py`) is a process
of its own, and begins as soon as it is asked.

Rollout $i$ is made by the weights after $\max(0, i - $ `lag`$)$ updates, whoever makes it and however long
that takes. So the numbers do not depend on the machine: with processes they are the same to the last bit
(`process_gap`). Real systems learn from whatever has arrived, and their lag varies.
"""


# %%
class Actor:
    """Environments, and a copy of the agent that acts in them."""

    def __init__(self, cfg: Config, index: int, envs: VectorEnv | None = None) -> None:
        self.cfg = cfg
        self.envs = envs or make_envs(cfg.env_id, cfg.num_envs)
        self.agent = ActorCritic(self.envs)
        self.rng = np.random.default_rng([cfg.seed, index])
        self.obs, _ = self.envs.reset(seed=int(self.rng.integers(2**31)))
        self.asked: deque[Weights] = deque()

    def ask(self, weights: Weights) -> None:
        """Order a rollout by these weights."""
        self.asked.append(weights)

    @torch.no_grad()
    def answer(self) -> Rollout:
        """The rollout that was ordered first: `num_steps` steps in each environment."""
        nn.utils.vector_to_parameters(torch.from_numpy(self.asked.popleft()), self.agent.parameters())
        rollout, self.obs = collect(self.agent, self.envs, self.obs, self.rng, self.cfg)
        flat = (rollout[name].flatten(0, 1) for name in ("obs", "actions"))
        log_probs = self.agent.judge(*flat)[0]
        rollout["old_log_probs"] = log_probs.reshape(rollout["rewards"].shape)
        return {name: values.numpy() for name, values in rollout.items()}


def weights_of(agent: ActorCritic) -> Weights:
    """A copy of all weights."""
    return nn.utils.parameters_to_vector(agent.parameters()).detach().numpy().copy()


# %% [markdown]
r"""
## 4. The learner

Each rollout serves one step: the actor's by the policy gradient (C0), the critic's towards its targets. The
advantages contain $\rho_t$ already, so each action counts as often as $\pi$ would take it, up to the bound.
`losses` gives the two parts of the sum one by one, the actor's terms and the critic's square:

$$\mathcal L = \tfrac{1}{TN} \textstyle\sum_{t,n} \bigl[-\hat A_t \log \pi_\theta(a_t \mid s_t)
- c_e\,\mathcal H_t + (V(s_t) - v_t)^2\bigr], \qquad \hat A_t,\, v_t \text{ constant} \tag{5}$$

Actor and critic share no weights here; each has an optimiser, and the critic takes the larger steps.
"""


# %%
def losses(agent: ActorCritic, rollout: dict[str, Tensor], cfg: Config) -> tuple[Tensor, Tensor, Tensor]:
    """(the actor's loss, the critic's, the ratio of each transition [T, N]); both losses are lowered."""
    obs, actions = (rollout[name].flatten(0, 1) for name in ("obs", "actions"))
    log_prob, entropy = agent.judge(obs, actions)
    log_prob = log_prob.reshape(rollout["rewards"].shape)
    values = agent.value(rollout["obs"])  # [T, N]
    with torch.no_grad():
        ratio = (log_prob - rollout["old_log_probs"]).exp()
        ends = (rollout[name] for name in ("terminated", "truncated"))
        settings = cfg.gamma, cfg.vtrace_lambda, cfg.rho_bar, cfg.c_bar
        next_values = agent.value(rollout["next_obs"])
        targets, advantages = vtrace(rollout["rewards"], values, next_values, *ends, ratio, *settings)
    actor_loss = -(advantages * log_prob).mean() - cfg.ent_coef * entropy.mean()
    return actor_loss, (values - targets).pow(2).mean(), ratio  # eq. (5)


def update(agent: ActorCritic, optimizers: tuple[Adam, Adam], rollout: Rollout, cfg: Config) -> float:
    """One step on one rollout; returns how far the policy has moved since the rollout was made."""
    actor_loss, critic_loss, ratio = losses(agent, {k: torch.from_numpy(x) for k, x in rollout.items()}, cfg)
    for optimizer in optimizers:
        optimizer.zero_grad()
    (actor_loss + critic_loss).backward()
    nn.utils.clip_grad_norm_(optimizers[0].parameters, cfg.max_grad_norm)
    for optimizer in optimizers:
        optimizer.step()
    return approx_kl(ratio).item()


def train(cfg: Config, log: RunLog, actors: list | None = None, name: str = "ours") -> ActorCritic:
    """Train one learner with these actors, or with `num_actors` in this process."""
    seed_everything(cfg.seed)
    agent = ActorCritic(make_envs(cfg.env_id, 1))
    actors = actors or [Actor(cfg, index) for index in range(cfg.num_actors)]
    optimizers = (
        Adam([*agent.actor.parameters(), *agent.head.parameters()], lr=cfg.learning_rate, eps=1e-5),
        Adam(agent.critic.parameters(), lr=cfg.critic_learning_rate, eps=1e-5),
    )
    clock = CpuClock()
    batch_size = cfg.num_envs * cfg.num_steps
    num_updates = max(1, cfg.num_env_steps // batch_size)
    for i in range(cfg.lag):
        actors[i % len(actors)].ask(weights_of(agent))
    for i in log.track(range(num_updates), f"updates ({name})", f"{name}_return"):
        with clock:
            left = 1.0 - i / num_updates  # of both step sizes
            optimizers[0].lr, optimizers[1].lr = cfg.learning_rate * left, cfg.critic_learning_rate * left
            actors[(i + cfg.lag) % len(actors)].ask(weights_of(agent))
            kl = update(agent, optimizers, actors[i % len(actors)].answer(), cfg)
        step = (i + 1) * batch_size
        if step % cfg.eval_every < batch_size:
            now = {"cpu_seconds": clock.seconds, "kl": kl, "return": score(agent, cfg, 10_000)}
            log.write(step, **{f"{name}_{what}": value for what, value in now.items()})
    return agent


def score(agent: ActorCritic, cfg: Config, seed: int) -> float:
    """Mean return of the likeliest actions over whole episodes; training never sees `seed`."""
    returns = evaluate(agent.greedy(), cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)
    return float(returns.mean())


# %% [markdown]
r"""
## 5. Look, break, write

![On data that is four updates old the score rises, falls back and ends at its maximum](results/C7.png)

Falls on the way come with fresh data, too (`--lag 0`). How old may data be? **Left**, what learners reach on
data up to 64 updates old, with V-trace and without any ratio. **Right**, how far the learner has moved away
from the policy that acted, as a Kullback-Leibler (KL) divergence:

![Older data costs return, with the correction and without](results/C7_lags.png)

Four updates cost next to nothing, with or without. From 16 on some of the five seeds fail, either way; five
are too few to say which way is better. V-trace mends how much *actions* count, not which *states* were
visited; and the learner sees its errors late.

Language models learn from old samples, too. In a small world all texts can be enumerated, so the bias of a
gradient and its spread are exact. To the right the learner is further from the policy that wrote the texts:

![Bias and spread of a gradient from old texts, weighed by text, by token and not](results/C7_tokens.png)

Weighed by the whole text's ratio the gradient is right on average, but its spread grows, until the learner is
nearly sure. Each token's ratio, cut at 1, forgets how likely the text before it has become. That is a bias,
but a smaller one than without weights, and until that last point the spread is the smallest.

**The verdict.** A learner makes an older step its own by a weight: the action's chance now over its chance
then. Uncut, that is right on average, but noisy. Cut as in V-trace, it is calmer, but what is learnt is the
value of another policy, (4). For data of a few updates ago this hardly matters. For very old data it does not
suffice: keep its age down. Processes pay where an actor has to wait for its world (`overlap`).

<!-- results: C7 -->

`rl run C7`: 6 s; with `--evidence`: 49 s, 759 MB; with `--smoke --evidence`: 9 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| own_steps_gap         | 2.22e-16 (1.11e-16 to 4.44e-16) | ≤ 1e-12 | 5/5 |
| fresh_return          | 500                             | ≥ 475   | 5/5 |
| fixed_point_gap *     | 4.44e-15 (3.11e-15 to 3.18e-13) | ≤ 1e-08 | 5/5 |
| unbounded_gap *       | 1.33e-15 (3.33e-16 to 1.78e-15) | ≤ 1e-08 | 5/5 |
| sequence_bias *       | 2.36e-15 (2.21e-15 to 3.93e-15) | ≤ 1e-09 | 5/5 |
| token_second_moment * | 1                               | ≤ 1     | 5/5 |
| token_bias *          | 0.0674 (0.0588 to 0.128)        | ≤ 1     | 5/5 |
| process_gap *         | 0                               | ≤ 0     | 5/5 |
| overlap *             | 2.36 (1.99 to 2.57)             | ≥ 1.5   | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `own_steps_gap`: on the learner's own steps, where every ratio is 1, V-trace gives C3's generalised
  advantages (largest difference)
- `fresh_return`: the last policy, which learnt from data of `lag` updates ago, balances the pole on fresh
  episodes (mean return of 100 greedy episodes)
- `fixed_point_gap`: a critic that follows V-trace rests at the value of (4)'s policy, with any c_bar <=
  rho_bar (largest difference in value)
- `unbounded_gap`: without a bound on rho a critic comes to rest at the value of the learner's own policy
  (largest difference in value)
- `sequence_bias`: weighed by the whole text's ratio, stale texts give the learner's exact gradient on average
  (of the first gradient's norm)
- `token_second_moment`: weights of at most 1 a token never raise the mean square of a text's estimate (of the
  mean square without weights)
- `token_bias`: after 32 steps truncated token weights have a bias, and a smaller one than no weights (of the
  bias without weights)
- `process_gap`: an actor in a process of its own gives the learner the same weights as one in this process
  (largest difference of a weight)
- `overlap`: in a world that keeps an actor waiting, two processes give more steps a second than none (times
  the steps a second)
</details>

<!-- /results -->

**Break it.** With `rl break C7 value_added` (1) adds $V(s_t)$ where it should subtract; with `rl break C7
forwards` (2)'s loop runs forwards. `rl break C7 uncorrected` leaves every ratio out. Say first what fails.

**Exercises.**

<!-- exercises: C7 -->

*C7.1 · The heart of it* (35 minutes, medium). Write V-trace from (1) to (3), and the policy that it answers
for from (4). `rl exercise C7.vtrace`, `rl exercise C7.clipped_policy`.

*C7.2 · A server that lags behind* (10 minutes, easy). A language model is trained on completions that a
server wrote with older weights. Weigh each token's loss by

$$\min\bigl(\bar\rho,\; \pi_\theta(y_t \mid y_{<t}) / \mu(y_t \mid y_{<t})\bigr) \cdot m_t \tag{E1}$$

where $\mu$ is the server's policy and $m_t = 0$ for padding. No gradient goes through the weight: else the
loss could be lowered by lowering weights. `rl exercise C7.token_weights`.

<details><summary>Answer</summary>

See "each token's ratio, at most 1" in the last figure: it is no longer right on average, but up to the last
point its spread is the smallest of the three.
</details>

*C7.3 · How old may data be?* (10 minutes, easy). `rl run C7 --lag 32`, then the same with `--learning-rate
5e-4 --critic-learning-rate 2.5e-3`. What changed, and why?

<details><summary>Answer</summary>

At 32 updates most seeds come near 475 and then fall far; with smaller steps they rise later and end nearer.
Age counts in how far the policy moves meanwhile, not in updates: with a quarter of the step size 32 updates
move it about as far as 8 did.
</details>

*C7.4 · Find the bug* (10 minutes). `rl exercise C7.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    agent = train(cfg, log)
    rng = torch.Generator().manual_seed(cfg.seed)
    rewards, values, next_values = torch.randn(3, 9, 4, dtype=torch.float64, generator=rng)
    terminated, truncated = torch.rand(2, 9, 4, generator=rng) < 0.2
    given = rewards, values, next_values, terminated, truncated
    targets, _ = vtrace(*given, torch.ones_like(rewards), 0.9, 0.8, 1.0, 1.0)
    log.claim(
        "own_steps_gap",
        "on the learner's own steps, where every ratio is 1, V-trace gives C3's generalised advantages",
        (targets - values - gae(*given, 0.9, 0.8)).abs().max().item(),
        at_most=1e-12,
        unit="largest difference",
        source="(2) with w = 1, across both kinds of end",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "fresh_return",
        "the last policy, which learnt from data of `lag` updates ago, balances the pole on fresh episodes",
        score(agent, cfg, 20_000),
        at_least=SOLVED,
        unit="mean return of 100 greedy episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )
    figure, ax = plotting.new_figure()
    steps, returns = log.series("ours_return")
    ax.plot(np.array(steps) / 1000, returns, label="this run")
    ax.axhline(SOLVED, label="solved", **plotting.REFERENCE)
    ax.set(xlabel="thousand environment steps", ylabel="greedy return", title="Learning from older steps")
    ax.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
