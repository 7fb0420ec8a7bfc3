# %% [markdown]
r"""
# C1 · Actor-critic methods and A2C

**Question.** How far should the actor look into the future before it trusts the critic, and what does it gain
by not waiting for an episode to end?

**Before this:** C0 (REINFORCE with a leave-one-out baseline). **Changes from C0:** a second network, the
critic, learns the value of a state. It serves as the baseline and stands in for the rest of the return, so
that a gradient step needs eight time steps instead of whole episodes. **Next:** C2 and C3 keep the advantages
and the critic, and stop the policy from jumping.

**Time budget.** 240 s on 2 cores.

<!-- results: C1 -->

`rl run C1`: 105 s, 1153 MB. `rl run C1 --smoke`: 9 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| gae_sb3_gap     | 0                      | ≤ 1e-05 | 5/5 |
| chain_gap       | 1.05 (0.842 to 2.5)    | ≤ 5     | 5/5 |
| middle_lambda   | 0.935 (0.932 to 0.946) | ≤ 1     | 5/5 |
| a2c_best_return | 500                    | ≥ 475   | 5/5 |
| sb3_best_return | 500                    | ≥ 475   | 5/5 |
| lander_gain     | 182 (146 to 205)       | ≥ 100   | 5/5 |

<!-- /results -->

References: `mnih2016a3c`, `schulman2016gae`, `pardo2018timelimits`, `sutton1988td`, `raffin2021sb3`,
`raffin2020zoo`.

Symbols: `T` steps per environment in a rollout, `N` parallel environments, `D` observation size, `A` actions,
`B` = `T` x `N` steps, $n$ steps before the critic takes over, $\lambda$ its soft version.
"""

# %%
import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from stable_baselines3 import A2C
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything  # fmt: skip

Steps, Flags = Float[Tensor, "T N"], Bool[Tensor, "T N"]
SOLVED, IN_A_ROW = 475.0, 3  # CartPole-v1's registered threshold, and for how many checks it must hold
LANDER = "LunarLander-v3"
LABELS = {"reinforce": "REINFORCE", "a2c": "A2C, ours", "sb3": "A2C, SB3"}
COLOURS = {"reinforce": plotting.ORANGE, "a2c": plotting.BLUE, "sb3": plotting.GREEN}
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
STEPS_AHEAD = (1, 2, 3, 5, 8, 12, 20, 40, 100)


# %%
@dataclass(frozen=True)
class Config:
    """A2C from scratch beside Stable-Baselines3's, on CartPole and LunarLander."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation and discrete actions."""
    num_envs: Annotated[int, in_range(2, 1024)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 10_000)] = 8
    """T: steps per environment in one rollout, one gradient step each."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 100_000
    """Environment steps of each of our learners, and of Stable-Baselines3's on CartPole."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.98
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.9
    """0 trusts the critic after one step; 1 never does before the rollout ends."""
    ent_coef: Annotated[float, in_range(0.0, 10.0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[float, in_range(0.0, 10.0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e6)] = 0.5
    """Bound on the global norm of the gradient."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers of actor and critic."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between checks."""
    num_eval_episodes: Annotated[int, in_range(2, 10_000)] = 100
    """Greedy episodes in one check."""
    num_lander_steps: Annotated[int, in_range(1, 100_000_000)] = 200_000
    """Environment steps on LunarLander (rl-zoo's number)."""
    num_chain_episodes: Annotated[int, in_range(100, 10_000_000)] = 20_000
    """Sampled episodes on the chain whose advantages are known."""


SMOKE = {
    "num_envs": 4, "num_env_steps": 512, "hidden_size": 16, "eval_every": 256, "num_eval_episodes": 4,
    "num_lander_steps": 80, "num_chain_episodes": 2000,
}  # fmt: skip

# %% [markdown]
r"""
## 1. Advantages

The policy gradient weighs each $\nabla \log \pi(a_t \mid s_t)$ by how much better the action turned out than
usual. C0 estimated that from whole episodes: unbiased, late and noisy. A critic $V(s)$ offers an estimate
after a single step. Its *TD error* is what was paid, plus what the critic thinks of where we landed, minus
what it thought before (sutton1988td):

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{1}$$

If the critic is right, the mean of $\delta_t$ is the advantage $A^\pi(s_t, a_t)$ exactly. If it is not,
$\delta_t$ is biased, but hardly noisy. In between one can wait $n$ steps before asking the critic. Written as
a recursion in $n$, with $\hat A^{(0)} = 0$:

$$\hat A^{(n)}_t = \delta_t + \gamma\,(1 - \text{done}_t)\,\hat A^{(n-1)}_{t+1} \tag{2}$$

Summed up, the values in between cancel: $\hat A^{(n)}_t = r_t + \dots + \gamma^{n-1} r_{t+n-1} + \gamma^n
V(s_{t+n}) - V(s_t)$. *Generalised advantage estimation* does not pick one $n$. It averages over all of them
with weights $(1-\lambda)\lambda^{n-1}$, which comes out simpler than any one (schulman2016gae):

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{3}$$

Two masks, and they differ. A time limit ends the *sum* in (2) and (3), because the next row belongs to
another episode. It keeps the *bootstrap* in (1), because the state it cut off still has a value
(pardo2018timelimits). At $\lambda = 1$ and with $V = 0$, (3) is C0's reward-to-go.
"""


# %%
def td_errors(rewards: Steps, values: Steps, next_values: Steps, terminated: Flags, gamma: float) -> Steps:
    """The critic's one-step errors; `next_values[t]` is V of the true successor, also at an episode's end."""
    return rewards + gamma * next_values * ~terminated - values  # eq. (1)


def n_step_advantages(
    rewards: Steps, values: Steps, next_values: Steps, terminated: Flags, truncated: Flags, gamma: float,
    n: int,
) -> Steps:  # fmt: skip
    """n real rewards, then the critic; fewer where the episode or the rollout ends before."""
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    going_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    for _ in range(n):
        following = torch.cat([advantages[1:], torch.zeros_like(advantages[:1])])
        advantages = deltas + gamma * following * going_on  # eq. (2)
    return advantages


def gae(
    rewards: Steps, values: Steps, next_values: Steps, terminated: Flags, truncated: Flags, gamma: float,
    gae_lambda: float,
) -> Steps:  # fmt: skip
    """Generalised advantage estimation, backwards through the rollout (schulman2016gae, eq. 16)."""
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
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

On a chain of seven states, with ends at both sides and a reward at the right one, everything is known: the
values, and the mean of each estimator under a given critic. Our critic is half trained: it says half the true
value, and a little noise. An estimator of the form $\sum_k w_k\,\delta_{t+k}$ has the mean

$$\mathbb{E}\bigl[\hat A(s, a)\bigr]
= \bar\delta(s,a) + \sum_{k \ge 1} w_k \sum_{s'} \Pr(s_{t+k} = s' \mid s, a)\; \bar\delta_\pi(s'),
\qquad w_k = (\gamma\lambda)^k \;\text{ or }\; \gamma^k\,[k < n] \tag{4}$$

where $\bar\delta$ is the critic's mean TD error after an action, and $\bar\delta_\pi$ the same under the
policy. The lesson samples 20,000 episodes and holds the estimates to (4). What is drawn is $\hat A + V(s)$
against $Q^\pi(s,a)$, because a constant error in $s$ alone is a baseline and does no harm.
"""


# %%
class Chain:
    """States 0 to 6, an end beyond either; action 1 goes right, with probability 0.6; rewards are noisy."""

    size, p_right, gamma, noise = 7, 0.6, 0.95, 0.3

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        left, right = np.eye(self.size, k=-1), np.eye(self.size, k=1)  # [S, S] a row without a 1 is an end
        self.moves = np.stack([left, right])  # [A, S, S]
        self.P = (1 - self.p_right) * left + self.p_right * right
        reward = np.zeros((2, self.size))
        reward[1, -1] = 1.0  # [A, S] only the step off the right end is paid
        self.R, mean_reward = reward, self.p_right * reward[1]
        self.V = np.linalg.solve(np.eye(self.size) - self.gamma * self.P, mean_reward)
        self.critic = 0.5 * self.V + self.rng.normal(0.0, 0.02, self.size)

    def exact(self, critic: np.ndarray, weights: np.ndarray) -> float:
        """Equation (4) for a step to the right from the middle."""
        delta = self.R + self.gamma * self.moves @ critic - critic  # [A, S]
        under_policy = (1 - self.p_right) * delta[0] + self.p_right * delta[1]  # [S]
        reached, total = self.moves[1, self.size // 2], weights[0] * delta[1, self.size // 2]
        for weight in weights[1:]:
            total += weight * reached @ under_policy  # eq. (4)
            reached = reached @ self.P
        return float(total)

    def sample(self, num_episodes: int, num_steps: int = 100) -> dict[str, Tensor]:
        """Rollouts [T, N] that begin with a step right from the middle; after an end nothing counts."""
        state = np.full(num_episodes, self.size // 2)
        rows: dict[str, list] = {key: [] for key in ("rewards", "values", "next_values", "terminated")}
        critic = np.append(self.critic, 0.0)  # one more entry, for "has ended"
        for t in range(num_steps):
            right = self.rng.random(num_episodes) < (self.p_right if t else 1.0)
            after = state + np.where(right, 1, -1)
            ended = (state == self.size) | (after < 0) | (after >= self.size)
            paid = (after == self.size) & (state < self.size)
            noise = self.noise * self.rng.normal(size=num_episodes) * (state < self.size)
            after = np.where(ended, self.size, after)
            for key, row in zip(rows, (paid + noise, critic[state], critic[after], ended)):
                rows[key].append(row)
            state = after
        return {key: torch.from_numpy(np.stack(row)) for key, row in rows.items()}


# %% [markdown]
r"""
## 3. Actor and critic, and one loss for both

The actor climbs the policy gradient with the advantage as its weight. The critic regresses on the *return*
$\hat R_t = \hat A_t + V(s_t)$. Entropy, if it has a weight, keeps the policy from settling too early
(mnih2016a3c):

$$L = -\frac1B \sum \log \pi(a_t \mid s_t)\,\hat A_t \;+\; c_v\,\frac1B \sum \bigl(V(s_t) - \hat R_t\bigr)^2
\;-\; c_e\,\frac1B \sum \mathcal{H}\bigl(\pi(\cdot \mid s_t)\bigr) \tag{5}$$

$\hat A$ and $\hat R$ are constants in it. Were the first term differentiated through $\hat A$, it would teach
the critic to flatter the actor.
"""


# %%
def a2c_loss(
    log_probs: Float[Tensor, " B"],
    advantages: Float[Tensor, " B"],
    values: Float[Tensor, " B"],
    returns: Float[Tensor, " B"],
    entropy: Float[Tensor, " B"],
    vf_coef: float,
    ent_coef: float,
) -> Float[Tensor, ""]:
    """Policy loss, value loss and entropy bonus, each a mean over the batch."""
    policy_loss = -(log_probs * advantages.detach()).mean()
    value_loss = (values - returns.detach()).square().mean()
    return policy_loss + vf_coef * value_loss - ent_coef * entropy.mean()  # eq. (5)


class ActorCritic(nn.Module):
    """Two networks of two hidden layers: logits [..., A] and values [...] from observations [..., D]."""

    def __init__(self, obs_dim: int, num_actions: int, hidden_size: int):
        super().__init__()

        def mlp(outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(obs_dim, hidden_size), nn.Tanh(),
                nn.Linear(hidden_size, hidden_size), nn.Tanh(),
                nn.Linear(hidden_size, outputs),
            )  # fmt: skip

        self.actor, self.critic = mlp(num_actions), mlp(1)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs).squeeze(-1)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Actions [N]: sampled with `rng`, greedy without."""
        logits = self.actor(torch.from_numpy(obs)).numpy()
        return (logits if rng is None else logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)


def rollout(
    agent: ActorCritic, envs: gym.vector.VectorEnv, obs: np.ndarray, num_steps: int, rng: np.random.Generator,
    until_all_done: bool = False,
) -> tuple[dict[str, Tensor], np.ndarray]:  # fmt: skip
    """(batch [T, N, ...], the observations to go on from)."""
    steps, running = [], np.ones(len(obs), dtype=bool)
    for _ in range(num_steps):
        actions = agent.act(obs, rng)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        steps.append({
            "obs": obs, "actions": actions, "rewards": rewards.astype(np.float32), "terminated": terminated,
            "truncated": truncated, "next_obs": true_next_obs(next_obs, done, infos),
        })  # fmt: skip
        obs, running = next_obs, running & ~done
        if until_all_done and not running.any():
            break
    return {key: torch.from_numpy(np.stack([step[key] for step in steps])) for key in steps[0]}, obs


def log_probs_of(
    logits: Float[Tensor, "*B A"], actions: Int[Tensor, "*B"]
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """(log-probability of the action taken, entropy of the policy) of each step."""
    log_policy = torch.log_softmax(logits, dim=-1)
    taken = log_policy.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return taken, -(log_policy.exp() * log_policy).sum(dim=-1)


def update(
    agent: ActorCritic, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], cfg: Config
) -> None:
    """One gradient step on one rollout."""
    values = agent.value(batch["obs"])  # [T, N]
    with torch.no_grad():
        next_values = agent.value(batch["next_obs"])
    advantages = gae(
        batch["rewards"], values.detach(), next_values, batch["terminated"], batch["truncated"], cfg.gamma,
        cfg.gae_lambda,
    )  # fmt: skip
    log_probs, entropy = log_probs_of(agent.actor(batch["obs"]), batch["actions"])
    flat = (part.flatten() for part in (log_probs, advantages, values, advantages + values.detach(), entropy))
    loss = a2c_loss(*flat, cfg.vf_coef, cfg.ent_coef)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), cfg.max_grad_norm)
    optimizer.step()


class Scores:
    """Greedy returns while a learner trains, its CPU seconds between them, and its best weights."""

    def __init__(self, name: str, cfg: Config, log: RunLog):
        self.name, self.cfg, self.log = name, cfg, log
        self.seconds, self.best_return, self.best = 0.0, -np.inf, None
        self.next_check, self.resumed = cfg.eval_every, time.process_time()

    def check(self, num_steps: int, policy: nn.Module, act: Callable[[np.ndarray], np.ndarray]) -> None:
        """Evaluate with the clock stopped, once every `eval_every` steps."""
        if num_steps < self.next_check:
            return
        self.next_check = (num_steps // self.cfg.eval_every + 1) * self.cfg.eval_every
        self.seconds += time.process_time() - self.resumed
        score = greedy_returns(act, self.cfg, self.cfg.seed + 10_000)
        self.log.write(num_steps, **{f"{self.name}_return": score, f"{self.name}_cpu_seconds": self.seconds})
        if score > self.best_return:
            self.best_return, self.best = score, copy.deepcopy(policy)
        self.resumed = time.process_time()


def train(
    cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None
) -> tuple[ActorCritic, Scores | None]:
    """Train A2C; environments that are passed in are not evaluated on."""
    seed_everything(cfg.seed)
    rng, own = np.random.default_rng(cfg.seed), envs is None
    envs = make_envs(cfg.env_id, cfg.num_envs) if own else envs
    obs, _ = envs.reset(seed=cfg.seed)
    agent = ActorCritic(obs.shape[1], int(envs.single_action_space.n), cfg.hidden_size)
    optimizer = torch.optim.Adam(agent.parameters(), lr=cfg.learning_rate, fused=True)
    scores, per_update = Scores("a2c", cfg, log) if own else None, cfg.num_envs * cfg.num_steps
    for number in log.track(range(1, cfg.num_env_steps // per_update + 1), "A2C updates", "a2c_return"):
        batch, obs = rollout(agent, envs, obs, cfg.num_steps, rng)
        update(agent, optimizer, batch, cfg)
        if scores:
            scores.check(number * per_update, agent, agent.act)
    return agent, scores


# %% [markdown]
r"""
## 4. The two to compare with

C0's learner in this lesson's words: whole episodes, $V = 0$, $\lambda = 1$, and the mean of the other
episodes as the baseline. And Stable-Baselines3's A2C with the settings that its rl-zoo has for CartPole
(raffin2020zoo): eight environments, five steps a rollout, RMSprop at a step size of 7e-4, $\lambda = 1$. Its
names meet ours in one place.
"""


# %%
def train_reinforce(cfg: Config, log: RunLog, learning_rate: float = 1e-2, gamma: float = 0.99) -> Scores:
    """C0's REINFORCE, with its settings."""
    seed_everything(cfg.seed)
    rng, envs = np.random.default_rng(cfg.seed), make_envs(cfg.env_id, cfg.num_envs)
    envs.reset(seed=cfg.seed)
    agent = ActorCritic(envs.single_observation_space.shape[0], 2, cfg.hidden_size)
    optimizer = torch.optim.Adam(agent.actor.parameters(), lr=learning_rate, fused=True)
    scores, num_steps = Scores("reinforce", cfg, log), 0
    while num_steps < cfg.num_env_steps:
        batch, _ = rollout(agent, envs, envs.reset()[0], 10_000, rng, until_all_done=True)
        done = batch["terminated"] | batch["truncated"]
        alive = done.int().cumsum(dim=0) - done.int() == 0  # [T, N] no end before this step
        zeros = torch.zeros_like(batch["rewards"])
        masks = batch["terminated"], batch["truncated"]
        returns = gae(batch["rewards"], zeros, zeros, *masks, gamma, 1.0) * alive  # C0's reward-to-go
        weights = (returns - returns.mean(dim=1, keepdim=True)) * cfg.num_envs / (cfg.num_envs - 1)
        log_probs, _ = log_probs_of(agent.actor(batch["obs"][alive]), batch["actions"][alive])
        loss = -(log_probs * weights[alive]).sum() / cfg.num_envs
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        num_steps += int(alive.sum())
        scores.check(num_steps, agent, agent.act)
    return scores


def act_of(policy: nn.Module, greedy: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """How one of the library's policies acts."""
    return lambda obs: policy.predict(obs, deterministic=greedy)[0]


def train_sb3(cfg: Config, log: RunLog) -> Scores:
    """Stable-Baselines3's A2C on CartPole at rl-zoo's settings; left its names, right ours or rl-zoo's."""
    seed_everything(cfg.seed)
    envs = make_vec_env(cfg.env_id, n_envs=8, seed=cfg.seed)
    model = A2C("MlpPolicy", envs, ent_coef=cfg.ent_coef, n_steps=5, seed=cfg.seed, device="cpu")
    scores = Scores("sb3", cfg, log)
    model.learn(  # the library calls back after every step in the environments
        cfg.num_env_steps,
        callback=lambda *_: scores.check(model.num_timesteps, model.policy, act_of(model.policy)) or True,
    )
    return scores


def buffer_gap(cfg: Config) -> float:
    """Largest difference between our `gae` and Stable-Baselines3's, on random data with random ends.

    The library has one mask only: at a time limit it adds gamma V(final obs) to the *reward* and then calls
    the step an end: the same number as keeping the bootstrap in (1) and stopping the sum in (3).
    """
    torch.manual_seed(cfg.seed)
    T, N = 40, 6
    rewards, values, final_values = torch.randn(3, T + 1, N)
    terminated, truncated = torch.rand(2, T, N) < 0.1  # [T, N] each
    done = terminated | truncated
    next_values = torch.where(done, final_values[:T], values[1:])
    ours = gae(rewards[:T], values[:T], next_values, terminated, truncated, cfg.gamma, cfg.gae_lambda)

    space = gym.spaces.Box(-1.0, 1.0, (1,))
    buffer = RolloutBuffer(T, space, space, "cpu", gae_lambda=cfg.gae_lambda, gamma=cfg.gamma, n_envs=N)
    starts = np.zeros(N)
    for t in range(T):
        kept = rewards[t] + cfg.gamma * final_values[t] * (truncated[t] & ~terminated[t])
        buffer.add(np.zeros((N, 1)), np.zeros((N, 1)), kept.numpy(), starts, values[t], torch.zeros(N))
        starts = done[t].numpy()
    buffer.compute_returns_and_advantage(values[T], starts)
    return float(np.abs(buffer.advantages - ours.numpy()).max())


# %% [markdown]
r"""
## 5. Run, look, break

The first figure is what changes from C0, with every seed drawn. The critic lets the actor learn every eight
steps instead of after 16 whole episodes, and on CartPole that buys *nothing* in samples: A2C reaches 475
about as soon as REINFORCE, ours and the library's alike, and then loses it again and again. CartPole's
episodes are short, every step is paid, and 16 of them make a good baseline, so a critic has little to add.
Its price shows instead: each gradient step sees 128 strongly related states, and nothing limits how far it
moves the policy. One bad batch undoes a hundred good ones. We therefore save the best model and judge it on
fresh episodes. C3 removes the cause.

The second figure shows where a critic does pay. At $\lambda = 0$ the estimate has less than half the noise
and the whole bias of the critic, at $\lambda = 1$ all the noise and no bias; in between, the error of a mean
over 16 environments is smallest. For the same bias GAE is less noisy than any fixed $n$: its weights fade
where those of $n$ steps break off. A better critic moves the best $\lambda$ to the left.

The third is LunarLander, whose flights are long and whose returns scatter by hundreds. With rl-zoo's settings
A2C learns to fly and to hover, not yet to land. Both policies are judged in their better way to act, greedy
or sampled, as found on other episodes: an untrained network acts far worse greedily than by chance, and a
trained one may hover for ever. The film shows the first and the last policy over the same ground.

**Break it.** Let the gradient through: in `update` pass `values` instead of `values.detach()` to `gae`, and
in `a2c_loss` drop `.detach()` from `advantages`. It still runs, and CartPole still looks half learned. Now
ask the critic for the value of the upright pole, `agent.value(torch.zeros(1, 4))`. At $\gamma = 0.98$ no
state is worth more than $1/(1-\gamma) = 50$. We saw 51 to 73 on five seeds: the critic is paid for being
wrong in the actor's favour.

**Exercises.** (1) Show that (2) with large $n$ and (3) with $\lambda = 1$ are the same. (2) `--gae-lambda 0`
and `--gae-lambda 1`: predict from the second figure which one CartPole minds more, then run. Does
`--num-steps 64` change your answer? (3) Stable-Baselines3 takes 5 steps at $\lambda = 1$. Which $n$ is that
for the first row of a rollout, and which for the last?
"""


# %%
def greedy_returns(act: Callable[[np.ndarray], np.ndarray], cfg: Config, seed: int) -> float:
    """Mean return of greedy episodes."""
    return float(evaluate(act, cfg.env_id, episodes=cfg.num_eval_episodes, seed=seed).mean())


def crossings(metrics: dict, name: str) -> tuple[float, float, float]:
    """(steps at the first check that reached 475, at the third in a row, share of checks that did)."""
    steps, returns = zip(*metrics[f"{name}_return"])
    solved = np.array(returns) >= SOLVED
    first = [step for step, good in zip(steps, solved) if good]
    row = [steps[i - 1] for i in range(IN_A_ROW, len(steps) + 1) if solved[i - IN_A_ROW : i].all()]
    return float([*first, np.inf][0]), float([*row, np.inf][0]), float(solved.mean())


def chain(cfg: Config, log: RunLog) -> None:
    """Section 2: bias and noise of both families of estimators."""
    world = Chain(cfg.seed)
    data = world.sample(cfg.num_chain_episodes)
    never = torch.zeros_like(data["terminated"])
    arguments = (data["rewards"], data["values"], data["next_values"], data["terminated"], never, world.gamma)
    ages = np.arange(500)
    families = {
        "gae": (LAMBDAS, gae, lambda lam: (world.gamma * lam) ** ages),
        "n_step": (STEPS_AHEAD, n_step_advantages, lambda n: world.gamma**ages * (ages < n)),
    }
    # Q(s, a) - critic(s): what every estimate is after; with a perfect critic one step has no bias
    middle = world.size // 2
    truth = world.exact(world.V, np.ones(1)) + world.V[middle] - world.critic[middle]
    curves, worst = {}, 0.0
    for family, (knobs, estimator, weights) in families.items():
        rows = []
        for knob in knobs:
            estimates = estimator(*arguments, knob)[0].numpy()
            mean, deviation = world.exact(world.critic, weights(knob)), estimates.std(ddof=1)
            worst = max(worst, abs(estimates.mean() - mean) / deviation * len(estimates) ** 0.5)
            rows.append((mean - truth, estimates.mean() - truth, deviation))
        curves[family] = np.array(rows)  # [knobs, 3] exact bias, measured bias, deviation
    log.claim(
        "chain_gap", "the mean of every sampled estimator is what equation (4) computes", worst, at_most=5.0,
        unit="standard errors", source="exact mean by linear algebra", always=True,
    )  # fmt: skip
    errors = np.hypot(curves["gae"][:, 0], curves["gae"][:, 2] / 16**0.5)
    log.claim(
        "middle_lambda", "some lambda between 0 and 1 comes nearer the truth than both ends",
        errors[1:-1].min() / min(errors[0], errors[-1]), at_most=1.0, unit="ratio of root mean square errors",
        source="schulman2016gae",
    )  # fmt: skip
    draw_chain(curves, errors, log)


def draw_chain(curves: dict[str, np.ndarray], errors: np.ndarray, log: RunLog) -> None:
    figure, (left, right) = plotting.new_figure(1, 2)
    for family, knobs, color, label, shown in (
        ("gae", LAMBDAS, plotting.BLUE, "λ = ", (0.0, 0.5, 0.9, 1.0)),
        ("n_step", STEPS_AHEAD, plotting.ORANGE, "n = ", (2, 5, 12)),
    ):  # fmt: skip
        bias, measured, deviation = curves[family].T
        left.plot(np.abs(bias), deviation, color=color, label={"gae": "GAE", "n_step": "n steps"}[family])
        left.plot(np.abs(measured), deviation, "o", color=color)
        for x, y, knob in zip(np.abs(bias), deviation, knobs):
            if knob in shown:
                left.annotate(f"{label}{knob:g}", (x, y), (8, 5), textcoords="offset points", color=color)
    left.plot([], [], "o", color="grey", label="measured")
    left.set(xlabel="|bias| of the estimated Q", ylabel="standard deviation of one estimate")
    left.set(title="Wait longer: less bias, more noise", xlim=(-0.01, None), ylim=(0, 1))
    left.legend(fontsize=11)
    right.plot(LAMBDAS, errors, "o-", color=plotting.BLUE)
    right.set(xlabel="λ", ylabel="RMS error of a mean over 16", ylim=(0, None), title="In between is best")
    log.figure(figure, "gae")


def draw_learning(metrics: list[dict], log: RunLog) -> None:
    """One entry of `metrics` a seed."""
    figure, (left, right) = plotting.new_figure(1, 2, width=7.0)
    for row, name in enumerate(LABELS):
        grid = np.arange(0, max(step for one in metrics for step, _ in one[f"{name}_return"]) + 1, 2048)
        curves = [np.interp(grid, *zip(*one[f"{name}_return"])) for one in metrics]
        plotting.seed_band(left, grid / 1000, curves, LABELS[name], COLOURS[name])
        first, third, _ = zip(*[crossings(one, name) for one in metrics])
        for steps, marker, face in ((first, "o", "none"), (third, "o", COLOURS[name])):
            x = np.array([step for step in steps if np.isfinite(step)]) / 1000
            right.plot(x, row + 0.15 * (face == "none") + 0 * x, marker, color=COLOURS[name], mfc=face)
    left.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    left.set(xlabel="environment steps (thousands)", ylabel="greedy return", ylim=(0, 760))
    left.set(title="As early, and unsteady")
    left.legend(loc="upper left", fontsize=10, ncols=2)
    right.plot([], [], "o", color="grey", mfc="none", label="first check at 475")
    right.plot([], [], "o", color="grey", label="third in a row")
    right.set(yticks=range(3), yticklabels=LABELS.values())
    right.set(xlabel="environment steps (thousands), one point a seed", xlim=(0, None), ylim=(-0.5, 3.2))
    right.set(title="Samples to 475")
    right.legend(loc="upper left", fontsize=10, ncols=2)
    log.figure(figure)


def lander_returns(policy: nn.Module, cfg: Config) -> np.ndarray:
    """Returns [episodes], acting greedily or by sampling, whichever did better on other episodes."""

    def returns(act: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
        return evaluate(act, LANDER, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)

    ways = (act_of(policy, greedy) for greedy in (True, False))
    return returns(max(ways, key=lambda act: returns(act, 10_000).mean()), 20_000)


def lander(cfg: Config, log: RunLog) -> None:
    """Stable-Baselines3's A2C on LunarLander at rl-zoo's settings: what is gained, and a film of it."""
    from scipy.stats import ttest_ind

    seed_everything(cfg.seed)
    envs = make_vec_env(LANDER, n_envs=8, seed=cfg.seed)
    model = A2C(
        "MlpPolicy", envs, gamma=0.995, n_steps=5, learning_rate=lambda left: 8.3e-4 * left, ent_coef=1e-5,
        seed=cfg.seed, device="cpu",
    )  # fmt: skip
    policies = {"before": copy.deepcopy(model.policy), "after": model.policy}

    def watch(*_) -> bool:
        if model.num_timesteps % 4000 == 0 and (recent := model.ep_info_buffer):
            log.write(model.num_timesteps, lander_training_return=np.mean([one["r"] for one in recent]))
        return True

    with (clock := CpuClock()):
        model.learn(cfg.num_lander_steps, callback=watch)
    returns = {name: lander_returns(policy, cfg) for name, policy in policies.items()}
    gain = ttest_ind(returns["after"], returns["before"], equal_var=False).confidence_interval(0.95)
    means = {f"lander_{name}": values.mean() for name, values in returns.items()}
    log.write(cfg.num_lander_steps, lander_cpu_seconds=clock.seconds, lander_gain_high=gain.high, **means)
    log.claim(
        "lander_gain", "on LunarLander the trained policy beats the untrained one by far",
        gain.low, at_least=100.0, unit="return, lower end of the 95 % interval of the gain",
        source="Welch's interval, 100 episodes each",
    )  # fmt: skip
    if not log.smoke:
        log.film(film_frames(policies, cfg.seed + 20_000), fps=12)


def draw_lander(metrics: list[dict], log: RunLog) -> None:
    """One entry of `metrics` a seed."""
    figure, ax = plotting.new_figure(width=8.0)
    for number, one in enumerate(metrics):
        color, end = plotting.COLOURS[number % 6], one["lander_after"][-1][0] / 1000
        steps, values = np.array(one.get("lander_training_return", [(0, np.nan)])).T
        ax.plot(steps / 1000, values, color=color)
        ax.plot(0, one["lander_before"][-1][1], "o", color=color, mfc="none", markersize=9)
        ax.plot(end, one["lander_after"][-1][1], "o", color=color, markersize=9)
    ax.plot([], [], "o", color="grey", mfc="none", label="untrained")
    ax.plot([], [], "o", color="grey", label="trained")
    ax.plot([], [], color="grey", label="while training, last 100 episodes")
    ax.axhline(200.0, label="solved (200)", **plotting.REFERENCE)
    ax.set(xlabel="environment steps (thousands)", ylabel="mean return", title="A2C on LunarLander, by seed")
    ax.legend(loc="lower right", fontsize=10)
    log.figure(figure, "lander")


def film_frames(policies: dict[str, nn.Module], seed: int, num_steps: int = 400) -> list[np.ndarray]:
    """One greedy episode of each policy, one above the other; a finished one stays on its last picture."""
    from PIL import Image, ImageDraw

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    films = []
    for name, policy in policies.items():
        env = gym.make(LANDER, render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames, done, total = [], False, 0.0
        for step in range(num_steps):
            if not done:
                obs, reward, terminated, truncated, _ = env.step(int(act_of(policy)(obs)))
                total, done = total + reward, terminated or truncated
                if step % 6 and not done:
                    continue
                picture = Image.fromarray(env.render()).resize((300, 200))
                text = f"{name}: return {total:.0f}" + (", ended" if done else "")
                ImageDraw.Draw(picture).text((6, 4), text, fill="white", font_size=16)
            if step % 6 == 0:
                frames.append(np.asarray(picture))
        env.close()
        films.append(frames)
    return [np.concatenate(pair, axis=0) for pair in zip(*films)]


def main(cfg: Config, log: RunLog) -> None:
    log.claim(
        "gae_sb3_gap", "our GAE equals Stable-Baselines3's buffer, with random terminations and time limits",
        buffer_gap(cfg), at_most=1e-5, source="stable-baselines3, RolloutBuffer", always=True,
    )  # fmt: skip
    chain(cfg, log)
    torch.optim.Adam([nn.Parameter(torch.zeros(1))]).step()  # imports torch's compiler, before any clock runs
    scores = {"reinforce": train_reinforce(cfg, log), "a2c": train(cfg, log)[1], "sb3": train_sb3(cfg, log)}
    for name in LABELS:
        first, third, share = crossings(log.metrics, name)
        found = {"first_steps": first, "third_steps": third, "share_solved": share}
        log.write(cfg.num_env_steps, **{f"{name}_{key}": value for key, value in found.items()})
    for name, act in (("a2c", scores["a2c"].best.act), ("sb3", act_of(scores["sb3"].best))):
        log.claim(
            f"{name}_best_return", f"{LABELS[name]}: the saved best model balances the pole afresh",
            greedy_returns(act, cfg, cfg.seed + 20_000), at_least=SOLVED,
            unit="mean return of 100 episodes", source="the threshold registered for CartPole-v1",
        )  # fmt: skip
    draw_learning([log.metrics], log)
    lander(cfg, log)
    draw_lander([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The learning curves of all recorded seeds."""
    draw_learning([run["metrics"] for run in runs], log)
    draw_lander([run["metrics"] for run in runs], log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
