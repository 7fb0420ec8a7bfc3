# %% [markdown]
r"""
# C1 · Actor-critic methods and A2C

**Question.** How far should the actor look into the future before it trusts the critic, and what does it gain
by not waiting for an episode to end?

**Before this:** C0 (REINFORCE with a leave-one-out baseline). **Changes from C0:** a second network, the
*critic*, learns the value of a state. It is the baseline, and stands in for the rest of the return, so that a
gradient step needs eight time steps, not whole episodes. **Next:** C2 and C3 stop the policy from jumping.

**Time.** 20 s on 2 cores; with all evidence 240 s.

References: `mnih2016a3c`, `schulman2016gae`, `pardo2018timelimits`, `sutton1988td`, `raffin2021sb3`.

Symbols: `T` steps per environment in a rollout, `N` parallel environments, `D` observation size, `A` actions,
`B` = `T` x `N` steps, $n$ steps before the critic takes over, $\lambda$ its soft version.
"""

# %%
import copy
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Steps = Float[Tensor, "T N"]  # a number for each step and environment
Flags = Bool[Tensor, "T N"]
Vector = Float[Tensor, " B"]  # a number for each step of a rollout, in one row
SOLVED = 475.0  # the threshold registered for CartPole-v1


@dataclass(frozen=True)
class Config:
    """A2C from scratch on CartPole."""

    seed: int = 0
    """Seed of torch, numpy, the environments and the chain."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation and discrete actions."""
    num_envs: Annotated[int, in_range(2, 1024)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 10_000)] = 8
    """T: steps per environment in one rollout, one gradient step each."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 100_000
    """Environment steps in all."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.98
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.9
    """0 trusts the critic after one step; 1 only where a time limit or the end of the rollout cuts."""
    ent_coef: Annotated[float, in_range(0.0, 10.0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[float, in_range(0.0, 10.0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e6)] = 0.5
    """Bound on the norm of the whole gradient."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers of actor and critic."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between checks."""
    num_eval_episodes: Annotated[int, in_range(2, 10_000)] = 100
    """Greedy episodes in one check."""


SMOKE = {"num_envs": 4, "num_env_steps": 512, "eval_every": 256, "num_eval_episodes": 4}

# %% [markdown]
r"""
## 1. One step, n steps, all of them

The policy gradient weighs each $\nabla \log \pi(a_t \mid s_t)$ by the action's *advantage*: how much better
it turned out than usual. C0 took the rest of the episode less what others got: unbiased, late and noisy. A
critic $V$ has an opinion after one step, the *temporal-difference* (TD) *error* (`sutton1988td`):

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{1}$$

If the critic is right, the mean of $\delta_t$ is $Q^\pi(s_t, a_t) - V^\pi(s_t)$, the advantage itself. If
not, $\delta_t$ is biased, but it varies little: one reward, one move. Between one step and a whole episode,
one can wait for $n$ rewards and then ask the critic. Within an episode that is a sum of TD errors, since each
value in between is added by one and subtracted by the next:

$$\hat A^{(n)}_t = r_t + \dots + \gamma^{n-1} r_{t+n-1} + \gamma^n V(s_{t+n}) - V(s_t)
= \sum_{k=0}^{n-1} \gamma^k\, \delta_{t+k} \tag{2}$$

*Generalised advantage estimation* (GAE, `schulman2016gae`) averages over all $n$ with weights $(1-\lambda)\,
\lambda^{n-1}$, which sum to 1. What weight does $\delta_{t+k}$ get? It occurs wherever $n > k$, so $\gamma^k
(1-\lambda) \sum_{n > k} \lambda^{n-1} = (\gamma\lambda)^k$. One sum is left, and each row's contains the next
row's, so it is computed from behind:

$$\hat A_t = \sum_{k \ge 0} (\gamma\lambda)^k\, \delta_{t+k}
= \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{3}$$

The critic's target is the advantage with $V(s_t)$ added back, $\hat R_t = \hat A_t + V(s_t)$: the average of
the $n$-step *returns* with the same weights, which is B2's *λ-return*. So the critic learns by TD(λ).

**The two masks of GAE** differ. *Done* is terminated or cut by a time limit. A cut ends the *sum* in (3): the
next row is another episode's. It keeps the *bootstrap* in (1), masked by *terminated* alone, since the state
it cut off still has a value (`pardo2018timelimits`).

*By hand.* Three steps with rewards 1, 1, 0, from states worth 4, 5, 6 to states worth 5, 6, 3; $\gamma = 1$.
The TD errors are $1 + 5 - 4 = 2$, $1 + 6 - 5 = 2$ and $0 + 3 - 6 = -3$. So $\lambda = ½$ gives $2 + ½ \cdot
(2 - ½ \cdot 3)$. With $\lambda = 1$ it is the rewards, the last value, less the first: $1 + 1 + 0 + 3 - 4$.
The critic has the last word *where the rollout ends*, unless the episode terminated there.

```python
>>> column = lambda *numbers: torch.tensor(numbers)[:, None]
>>> steps = column(1.0, 1.0, 0.0), column(4.0, 5.0, 6.0), column(5.0, 6.0, 3.0)
>>> never = column(False, False, False)
>>> [gae(*steps, never, never, gamma=1.0, gae_lambda=lam)[0].item() for lam in (0.5, 1.0)]
[2.25, 1.0]
```
"""


# %%
def gae(
    rewards: Steps, values: Steps, next_values: Steps, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Steps:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also at an end (schulman2016gae, eq. 16)."""
    deltas = rewards + gamma * next_values * ~terminated - values  # eq. (1)
    going_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * going_on[t]  # eq. (3)
        advantages[t] = running
    return advantages


# %% [markdown]
r"""
## 2. What waiting costs, and what it buys

Both estimates are sums $\sum_k w_k\,\delta_{t+k}$: for GAE $w_k = (\gamma\lambda)^k$; for $n$ steps $w_k =
\gamma^k$ where $k < n$, and 0 from there on. So their mean is a sum of means. The first error follows the
given action; call its mean $\bar\delta(s, a)$. A later one follows the policy from where we are by then, and
has the mean $\bar\delta_\pi(s') = \sum_{a'} \pi(a' \mid s')\, \bar\delta(s', a')$ there:

$$\mathbb{E}\bigl[\hat A \mid s, a\bigr] = \bar\delta(s, a)
+ \sum_{k \ge 1} w_k \sum_{s'} \Pr(s_{t+k} = s' \mid s, a)\; \bar\delta_\pi(s') \tag{4}$$

With a right critic each $\bar\delta_\pi(s')$ is 0 (the Bellman equation), and every $\lambda$ has the right
mean. With a wrong one the later terms make up for its errors, and each adds its noise. How much of both? On a
chain of seven states with a noisy reward at one end (`chapters/exact/chain.py`), with a critic that says half
the true value, the evidence computes (4) and samples the noise. The critic's error in $s$ itself does not
count as bias: the same for every action, it is a mere baseline.

![Bias against noise, for two critics; right, the error is smallest at a lambda below one](results/C1_gae.png)

Lines have the exact bias, points the measured one. A small $\lambda$ has the critic's bias, $\lambda = 1$ has
all the noise. The error of a mean over 16 environments is smallest in between (right). At equal bias GAE
varies less here than $n$ steps (left). That is no law. If the critic errs in every other state (middle), two
steps land where it is right: they have no bias, and vary less than GAE does without bias ($\lambda = 1$).

## 3. Actor and critic, and one loss for both

*A2C* (advantage actor-critic, `mnih2016a3c`) adds up three things. The actor climbs the policy gradient, the
critic regresses on $\hat R_t$ (weight $c_v$, `vf_coef`), and entropy, if its weight $c_e$ (`ent_coef`) is not
0, keeps the policy from settling too early:

$$L = -\frac1B \sum \log \pi(a_t \mid s_t)\,\hat A_t \;+\; c_v\,\frac1B \sum \bigl(V(s_t) - \hat R_t\bigr)^2
\;-\; c_e\,\frac1B \sum \mathcal{H}\bigl(\pi(\cdot \mid s_t)\bigr) \tag{5}$$

$\hat A$ and $\hat R$ are constants in it. Otherwise the first term would train the critic, too. As $-\log\pi$
is positive, the loss falls if $\hat A_t$ does, so $V(s_t)$ would *rise*, whatever the state is worth.
"""


# %%
def a2c_loss(
    log_probs: Vector, advantages: Vector, values: Vector, returns: Vector, entropy: Vector,
    vf_coef: float, ent_coef: float,
) -> Float[Tensor, ""]:  # fmt: skip
    """Policy loss, value loss and entropy bonus, each a mean over the batch."""
    policy_loss = -(log_probs * advantages).mean()
    value_loss = (values - returns).square().mean()
    return policy_loss + vf_coef * value_loss - ent_coef * entropy.mean()  # eq. (5)


def log_probs_of(logits: Float[Tensor, "T N A"], actions: Int[Tensor, "T N"]) -> tuple[Steps, Steps]:
    """(log-probability of the action taken, entropy of the policy) of each step."""
    log_policy = torch.log_softmax(logits, dim=-1)
    taken = log_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return taken, -(log_policy.exp() * log_policy).sum(dim=-1)


class ActorCritic(nn.Module):
    """Two networks of two hidden layers: logits [..., A] and values [...] from observations [..., D]."""

    def __init__(self, obs_dim: int, num_actions: int, hidden_size: int):
        super().__init__()

        def mlp(outputs: int) -> nn.Sequential:
            hidden = nn.Linear(obs_dim, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size)
            return nn.Sequential(*hidden, nn.Tanh(), nn.Linear(hidden_size, outputs))

        self.actor = mlp(num_actions)
        self.critic = mlp(1)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs).squeeze(-1)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Actions [N]: sampled with `rng`, greedy without."""
        logits = self.actor(torch.from_numpy(obs)).numpy()
        return (logits if rng is None else logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)


def rollout(
    agent: ActorCritic, envs: VectorEnv, obs: np.ndarray, num_steps: int, rng: np.random.Generator
) -> tuple[dict[str, Tensor], np.ndarray]:
    """(batch [T, N, ...], the observations to go on from)."""
    names = ("obs", "actions", "rewards", "terminated", "truncated", "next_obs")
    rows = []
    for _ in range(num_steps):
        actions = agent.act(obs, rng)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        successors = true_next_obs(next_obs, terminated | truncated, infos)
        rows.append((obs, actions, rewards.astype(np.float32), terminated, truncated, successors))
        obs = next_obs
    return {name: torch.from_numpy(np.stack(column)) for name, column in zip(names, zip(*rows))}, obs


def update(agent: ActorCritic, optimizer: Adam, batch: dict[str, Tensor], cfg: Config) -> None:
    """One gradient step on one rollout."""
    values = agent.value(batch["obs"])  # [T, N]
    with torch.no_grad():
        next_values = agent.value(batch["next_obs"])
    ends = batch["terminated"], batch["truncated"]
    advantages = gae(batch["rewards"], values.detach(), next_values, *ends, cfg.gamma, cfg.gae_lambda)
    returns = (advantages + values).detach()  # the critic's target, a constant
    log_probs, entropy = log_probs_of(agent.actor(batch["obs"]), batch["actions"])
    flat = (part.flatten() for part in (log_probs, advantages, values, returns, entropy))
    loss = a2c_loss(*flat, cfg.vf_coef, cfg.ent_coef)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), cfg.max_grad_norm)
    optimizer.step()


def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None) -> tuple[ActorCritic, ActorCritic]:
    """(the agent, as it was at its best check); in environments that are passed in it is not checked."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs(cfg.env_id, cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = best = ActorCritic(obs.shape[1], int(envs.single_action_space.n), cfg.hidden_size)
    optimizer = Adam(agent.parameters(), lr=cfg.learning_rate)
    rng = np.random.default_rng(cfg.seed)
    clock = CpuClock()
    best_return = -np.inf
    batch_size = cfg.num_envs * cfg.num_steps
    for number in log.track(range(1, cfg.num_env_steps // batch_size + 1), "A2C updates", "a2c_return"):
        with clock:
            batch, obs = rollout(agent, envs, obs, cfg.num_steps, rng)
            update(agent, optimizer, batch, cfg)
        if evaluated and number * batch_size % cfg.eval_every < batch_size:
            score = greedy_return(agent, cfg, 10_000)
            log.write(number * batch_size, a2c_return=score, a2c_cpu_seconds=clock.seconds)
            if score > best_return:
                best, best_return = copy.deepcopy(agent), score
    return agent, best


def greedy_return(agent: ActorCritic, cfg: Config, seed: int) -> float:
    """Mean return of the likeliest actions over whole episodes; training never sees `seed`."""
    returns = evaluate(agent.act, cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)
    return float(returns.mean())


# %% [markdown]
r"""
## 4. Look, break, write

![REINFORCE, A2C and SB3's A2C, a line for each seed: A2C is as early, and unsteady](results/C1.png)

The evidence adds C0 and the A2C of Stable-Baselines3 (SB3, `raffin2021sb3`). With a critic the actor learns
every eight steps. It reaches the top early, but no earlier than REINFORCE, and on most seeds it falls back
again and again. Why no earlier? Episodes are short, every step is paid, and C0's 15 other episodes are a good
baseline already: a critic adds little. Why unsteady? Each gradient step sees only 128 states, related ones,
and nothing limits how far it moves the policy. So we keep the best policy of all checks.

![SB3's A2C on LunarLander: return by seed before, while and after training](results/C1_lander.png)

On LunarLander flights are long and returns scatter by hundreds; A2C learns to fly and to hover, not yet to
land. ![The lander before and after training, each acting greedily](results/C1_film.gif)

**The verdict.** Look ahead until the critic's error weighs less than the noise that looking further adds:
neither one step nor to the end; the better the critic, the less far. Not waiting for an episode's end
makes many more gradient steps from the same experience. On CartPole that gains nothing over C0, as long as
nothing holds the policy back.

<!-- results: C1 -->

`rl run C1`: 8 s; with `--evidence`: 190 s, 1169 MB; with `--smoke --evidence`: 14 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| bootstrap_kept      | 5.88                            | 5.88 ± 1e-05 | 5/5 |
| a2c_best_return     | 500                             | ≥ 475        | 5/5 |
| critic_ceiling      | 0.999 (0.971 to 1)              | ≤ 1.02       | 5/5 |
| lambda_return_gap * | 1.78e-15 (8.88e-16 to 2.66e-15) | ≤ 1e-09      | 5/5 |
| gae_sb3_gap *       | 0                               | ≤ 1e-05      | 5/5 |
| middle_lambda *     | 0.935 (0.932 to 0.946)          | ≤ 1          | 5/5 |
| chain_gap *         | 1.05 (0.842 to 2.5)             | ≤ 5          | 5/5 |
| gae_quieter *       | 0.971 (0.969 to 0.972)          | ≤ 1          | 5/5 |
| two_steps_quieter * | 1.88 (1.87 to 1.89)             | ≥ 1          | 5/5 |
| sb3_best_return *   | 500                             | ≥ 475        | 5/5 |
| lander_gain *       | 182 (146 to 205)                | ≥ 100        | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `bootstrap_kept`: a time limit keeps the value of the state that it cuts off in the advantage, an end does
  not (difference of the advantages, for V(s') = 6)
- `a2c_best_return`: A2C, ours: the saved best model balances the pole afresh (mean return of 100 episodes)
- `critic_ceiling`: the critic values the upright pole at no more than a pole that never falls is worth (of
  1/(1 - gamma))
- `lambda_return_gap`: GAE is the average of the n-step advantages with weights (1 - lambda) lambda^(n - 1)
  (largest difference)
- `gae_sb3_gap`: our GAE equals Stable-Baselines3's buffer, with random terminations and time limits
- `middle_lambda`: some lambda between 0 and 1 comes nearer the truth than both ends (ratio of root mean
  square errors)
- `chain_gap`: the mean of every sampled estimator is what equation (4) computes (standard errors)
- `gae_quieter`: on the chain, with noisy rewards, GAE varies less than 2 to 20 steps of the same bias
  (largest ratio of standard deviations)
- `two_steps_quieter`: with a critic wrong in every other state, two steps have no bias, and vary less than
  GAE without (ratio of standard deviations, lambda = 1 over n = 2)
- `sb3_best_return`: A2C, SB3: the saved best model balances the pole afresh (mean return of 100 episodes)
- `lander_gain`: on LunarLander the trained policy beats the untrained one by far (return, lower end of the 95
  % interval of the gain)
</details>

<!-- /results -->

**Break it.** `rl break C1 leaks` lets the policy's gradient into the critic: how high do the values climb?
`rl break C1 bootstraps_through` asks the critic for a value behind a real end. `rl break C1 merged` takes a
time limit for an end, and CartPole hides it. What must a test look at?

**Exercises.**

<!-- exercises: C1 -->

*C1.1 · The heart of it* (30 minutes, medium). Write the advantages and the loss, from (1), (3) and (5). `rl
exercise C1.gae`, `rl exercise C1.a2c_loss`.

*C1.2 · n steps, then the critic* (25 minutes, medium). Write (2) for a whole rollout: each row adds up to $n$
of the TD errors (1), fewer where the episode or the rollout ends before. (In a rollout $V(s_{t+1})$ is
`next_values[t]`, which at an end is not `values[t + 1]`.) `rl exercise C1.n_step_advantages`.

*C1.3 · One mask instead of two* (10 minutes, easy). Stable-Baselines3 knows only *done*: where it is set, the
bootstrap in (1) and the sum in (3) both end. Before that, it changes the rewards so that the advantages are
those of our two masks all the same. Write the change. `rl exercise C1.rewards_for_one_mask`.

<details><summary>Answer</summary>

Add $\gamma V(s_{t+1})$ to the reward where a time limit cut and nothing terminated. The sum in (1) does not
care which part is called reward.
</details>

*C1.4 · Two ends of a scale* (10 minutes, easy). Show that (3) with $\lambda = 1$ is (2) with the largest $n$
that the rollout allows. How many steps is that for its first row, and for its last? When is it C0's
reward-to-go?

<details><summary>Answer</summary>

The weights are $\gamma^k$, as in (2): $T$ steps ahead for the first of $T$ rows, one for the last. Where the
episode terminates within the rollout, only $-V(s_t)$ is left of the critic: with $V = 0$, that is $G_t$.
</details>

*C1.5 · Find the bug* (10 minutes). `rl exercise C1.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    step = torch.ones(1, 1), torch.full((1, 1), 4.0), torch.full((1, 1), 6.0)  # reward, V(s), V(s')
    no, yes = torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    log.claim(
        "bootstrap_kept",
        "a time limit keeps the value of the state that it cuts off in the advantage, an end does not",
        (gae(*step, no, yes, cfg.gamma, 1.0) - gae(*step, yes, no, cfg.gamma, 1.0)).item(),
        near=(6.0 * cfg.gamma, 1e-5),
        unit="difference of the advantages, for V(s') = 6",
        source="eq. (1)",
        always=True,
    )
    agent, best = train(cfg, log)
    log.claim(
        "a2c_best_return",
        "A2C, ours: the saved best model balances the pole afresh",
        greedy_return(best, cfg, 20_000),
        at_least=SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
    )
    upright = torch.zeros(agent.critic[0].in_features)
    log.claim(
        "critic_ceiling",
        "the critic values the upright pole at no more than a pole that never falls is worth",
        agent.value(upright).item() * (1 - cfg.gamma),
        at_most=1.02,
        unit="of 1/(1 - gamma)",
        source="the geometric series, and 2 % for what a network misses",
    )
    labels = {"title": "A2C on CartPole", "xlabel": "environment steps", "ylabel": "greedy return"}
    plotting.learning_curve(log, "a2c_return", threshold=SOLVED, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
