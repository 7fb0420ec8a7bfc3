# %% [markdown]
r"""
# C6 · DDPG, TD3 and SAC

**Question.** An action that is a number has too many values to try them all. How can a policy learn from a
critic then, what guards it against the critic's errors, and what is gained by paying it to act at random?

**Before this:** B4 (replay, target networks), C3 (continuous actions). **Changes from B4:** a second network
takes the place of the maximum; two critics; entropy counts as reward. **Next:** C7, many actors, one learner.

**Time.** 60 s on 2 cores; with all evidence 240 s.

References: `silver2014dpg`, `lillicrap2016ddpg`, `fujimoto2018td3`, `haarnoja2018sac`,
`haarnoja2018applications`.

Symbols: `N` environments, `B` transitions in a minibatch, `D` observation size, `A` numbers in an action, `C`
critics; $\mu$ a policy, $u$ a raw action, $L$ its limit, $\alpha$ the temperature; $^-$ a slow copy.
"""

# %%
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.agents import centre_of, units_of
from chapters.envs.ensembles import Ensemble
from chapters.envs.replay import ReplayBuffer, move_average
from chapters.exact import pendulum
from chapters.exact.densities import total_chance
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

GOAL = -200.0  # the course's goal for Pendulum-v1, which has no threshold of its own
Numbers = Float[Tensor, " B"]  # one for each transition
Actions = Float[Tensor, "B A"]


@dataclass(frozen=True)
class Config:
    """DDPG, TD3 and SAC on Pendulum."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    num_envs: Annotated[int, in_range(1, 1024)] = 4
    """N: environments stepped in parallel; one gradient step for every N environment steps."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 8000
    """Environment steps of training."""
    num_warmup_steps: Annotated[int, in_range(1, 10_000_000)] = 500
    """Environment steps of random actions before the first gradient step."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 256
    """B: transitions per gradient step."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of a network's two hidden layers."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam's step size, for all that learns."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.98
    """Discount factor. Lower, and the best policy for it plays visibly worse over whole episodes."""
    target_rate: Annotated[float, in_range(0.0, 1.0)] = 0.04
    """How fast the slow copies follow."""
    exploration_noise: Annotated[float, in_range(0.0, 10.0)] = 0.2
    """DDPG and TD3: standard deviation of the noise on an action, in units of the largest."""
    eval_every: Annotated[int, in_range(1, 10_000_000)] = 400
    """Environment steps between evaluations, of 100 episodes without noise."""


SMOKE = {"num_env_steps": 240, "num_warmup_steps": 80, "hidden_size": 16, "eval_every": 120}

# %% [markdown]
r"""
## 1. A network in place of the maximum: DDPG

Q-learning's target (1) asks what the next state is worth, $v(s')$: in B4, a maximum over two actions. Over
all of Pendulum's torques that is a search. *Deep deterministic policy gradient* (DDPG, `lillicrap2016ddpg`)
trains a second network to know the answer: the actor $\mu_\theta$, one action for each state, climbs the
critic's slope in the action, (2) (`silver2014dpg`). Copies that follow slowly, $^-$, give the target:

$$y = r + \gamma\,(1 - \text{terminated})\; v(s'), \qquad v(s') = Q^-(s', \mu^-(s')) \tag{1}$$

$$\nabla_\theta Q(s, \mu_\theta(s)) = \nabla_a Q(s,a)|_{a=\mu_\theta(s)} \nabla_\theta \mu_\theta(s) \tag{2}$$

For autograd (2) is one line: the loss is $-Q(s, \mu_\theta(s))$, on average; `descend` moves the actor alone.
To try new things, each action gets noise. A network's output $u$ knows no limits; it is *squashed* softly:

$$a = L \tanh(u / L) \tag{3}$$

## 2. The smaller of two critics, and a blurred action: TD3

An actor climbs to where its critic errs *upwards*, and (1) hands this overestimation on. *Twin-delayed DDPG*
(TD3, `fujimoto2018td3`) has three cures. Two critics learn from one target, which believes the smaller: (4)
replaces $v$. To flatter, an error must be in both. The target's action is blurred, (5), to level narrow peaks
(*target smoothing*). Actor and slow copies move at every second step only, so the critics settle first.

$$v(s') = \min_i Q^-_i(s', a') - \alpha \log \pi(a' \mid s') \tag{4}$$

$$a' = \mathrm{clip}\bigl(\mu^-(s') + \mathrm{clip}(\varepsilon, -\tfrac12 L, \tfrac12 L),\, -L,\, L\bigr),
\qquad \varepsilon \sim \mathcal N(0, (L/5)^2) \tag{5}$$

Until section 3, $\alpha = 0$. *By hand:* of one action two critics say 1 and 3, of another 5 and 2. Believed
are 1 and 2. If the first had log-probability -1, then with $\alpha = ½$ its rarity would be worth ½ more.

```python
>>> q = torch.tensor([[1.0, 5.0], [3.0, 2.0]])  # a row for each critic
>>> [soft_value(q, torch.tensor([-1.0, 0.0]), alpha).tolist() for alpha in (0.0, 0.5)]
[[1.0, 2.0], [1.5, 2.0]]
```
"""


# %%
def squash(raw: Float[Tensor, "*B A"], limit: Float[Tensor, " A"]) -> Float[Tensor, "*B A"]:
    """Any number to one within the limits."""
    return limit * torch.tanh(raw / limit)  # eq. (3)


def soft_value(q: Float[Tensor, "C B"], log_prob: Numbers, alpha: float | Tensor) -> Numbers:
    """The smallest critic's value of an action, and its rarity weighted by the temperature."""
    return q.amin(dim=0) - alpha * log_prob  # eq. (4)


def blurred(actions: Actions, noise: Actions, limit: Float[Tensor, " A"]) -> Actions:
    """The target's action with noise that is cut at half the limits (fujimoto2018td3)."""
    noise = noise.clamp(-0.5 * limit, 0.5 * limit)
    return (actions + noise).clamp(-limit, limit)  # eq. (5)


# %% [markdown]
r"""
## 3. Paid for chance: SAC; and all three in one file

*Soft actor-critic* (SAC, `haarnoja2018sac`) changes the goal: each reward comes with $\alpha \mathcal H$, the
policy's entropy times a price, the *temperature*. Entropy is the mean of $-\log\pi$: hence the last term of
(4). The best policy is then $\pi(a \mid s) \propto e^{Q(s, a) / \alpha}$: wide where the action hardly
matters, narrow where it does. One case is known exactly: $x' = A x + B u$ with the reward $-(x^\top Q x +
u^\top R u)$, where $Q$ and $R$ are matrices. A state is then worth $-x^\top P x$, up to a constant. Away from
the best action, $-Kx$, the value falls like a parabola of steepness $M$, so $\pi$ is a normal distribution.
Riccati's equation gives $K$ and $P$ (exercise C6.2, `chapters/exact/lqr.py`):

$$\pi(u \mid x) = \mathcal N(-Kx,\; \tfrac12 \alpha M^{-1}), \qquad M = R + \gamma B^\top P B \tag{6}$$

In general the actor gives a mean $m$ and a width $\sigma$; it squashes a sample $u = m + \sigma\varepsilon$,
so (2) has a slope to follow (*reparametrisation*). The density of $u$ is then divided by the slope of (3):

$$\log\pi(a \mid s) = \log\mathcal N(u; m, \sigma^2) - \textstyle\sum_j \log(1 - \tanh^2(u_j / L_j)) \tag{7}$$

SAC keeps both critics; its samples are blur enough, and it has no slow actor. Its actor climbs (4), TD3's the
first critic. And $\alpha$? One names an entropy $\bar{\mathcal H}$, by habit $-1$ per number of an action in
units of its limit (`haarnoja2018applications`). Below it, a step down (8) raises $\alpha$; above, it lowers:

$$\mathcal L(\log\alpha) = -\log\alpha \cdot \tfrac1B \textstyle\sum (\log\pi + \bar{\mathcal H}) \tag{8}$$

The rest is B4's. An `Ensemble` is several networks in one; a `Recipe` tells the three algorithms apart.
"""


# %%
def squashed_log_prob(raw: Actions, mean: Actions, log_std: Actions, limit: Float[Tensor, " A"]) -> Numbers:
    """Log-density of `squash(raw, limit)` if `raw` is normal (haarnoja2018sac, appendix C)."""
    normal = -0.5 * ((raw - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    x = raw / limit
    packed = 2.0 * (math.log(2.0) - x - nn.functional.softplus(-2.0 * x))  # log(1 - tanh(x)^2), never log(0)
    return (normal - packed).sum(dim=-1)  # eq. (7)


def temperature_loss(log_alpha: Tensor, log_prob: Numbers, target_entropy: float) -> Tensor:
    """Lowered, it moves the policy's entropy towards the target."""
    return -log_alpha * (log_prob + target_entropy).detach().mean()  # eq. (8)


class Recipe(NamedTuple):
    """What tells DDPG, TD3 and SAC apart."""

    num_critics: int
    target_noise: float  # standard deviation of the blur, in units of the largest action
    actor_every: int  # critic steps for each step of actor and slow copies
    stochastic: bool  # the policy is a distribution, and is paid for its entropy


RECIPES = {
    "ddpg": Recipe(num_critics=1, target_noise=0.0, actor_every=1, stochastic=False),
    "td3": Recipe(num_critics=2, target_noise=0.2, actor_every=2, stochastic=False),
    "sac": Recipe(num_critics=2, target_noise=0.0, actor_every=1, stochastic=True),
}


class Agent:
    """What learning changes: the networks, their slow copies, the temperature, and the memory."""

    def __init__(self, envs: VectorEnv, recipe: Recipe, cfg: Config):
        self.recipe = recipe
        self.obs_unit = units_of(envs.single_observation_space)  # [D]: the networks see numbers up to 1
        self.centre, half_width = centre_of(envs.single_action_space)  # [A]; actions are counted from it
        self.limit = torch.from_numpy(half_width)
        num_obs, num_actions, hidden = len(self.obs_unit), len(self.limit), [cfg.hidden_size] * 2
        self.actor = Ensemble(1, [num_obs, *hidden, (1 + recipe.stochastic) * num_actions])
        self.critics = Ensemble(recipe.num_critics, [num_obs + num_actions, *hidden, 1])
        self.slow_actor = self.actor if recipe.stochastic else copy.deepcopy(self.actor)  # SAC has none
        self.slow_critics = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.target_entropy = float(self.limit.log().sum()) - num_actions
        self.for_actor = Adam(self.actor.parameters(), lr=cfg.learning_rate)
        self.for_critics = Adam(self.critics.parameters(), lr=cfg.learning_rate)
        self.for_alpha = Adam([self.log_alpha], lr=cfg.learning_rate)
        self.buffer = ReplayBuffer(cfg.num_env_steps + envs.num_envs)
        self.rng = np.random.default_rng([cfg.seed, 1])  # not the stream that the environments draw from
        self.num_updates = 0

    def alpha(self) -> Tensor | float:
        """The price of entropy; 0 without a distribution."""
        return self.log_alpha.detach().exp() if self.recipe.stochastic else 0.0

    def act(self, actor: Ensemble, obs: Float[Tensor, "B D"]) -> tuple[Actions, Numbers]:
        """(actions, their log-probabilities): a sample, or the deterministic action and zeros."""
        outputs = actor(obs)[0]
        if not self.recipe.stochastic:
            return squash(outputs, self.limit), torch.zeros(len(obs))
        mean, log_std = outputs.chunk(2, dim=-1)
        log_std = log_std.clamp(-20.0, 2.0)
        raw = mean + log_std.exp() * torch.randn_like(mean)
        return squash(raw, self.limit), squashed_log_prob(raw, mean, log_std, self.limit)

    def q(self, critics: Ensemble, obs: Float[Tensor, "B D"], actions: Actions) -> Float[Tensor, "C B"]:
        """Each critic's value of each action."""
        return critics(torch.cat([obs, actions], dim=-1)).squeeze(-1)

    @torch.inference_mode()
    def greedy(self, obs: np.ndarray) -> np.ndarray:
        """The action without any noise, as the environment takes it."""
        outputs = self.actor(torch.from_numpy(obs / self.obs_unit).float())[0]
        return squash(outputs[:, : len(self.limit)], self.limit).numpy() + self.centre


def collect(agent: Agent, envs: VectorEnv, obs: np.ndarray, cfg: Config) -> np.ndarray:
    """One step in each environment, into the buffer; returns the observations [N, D] to act on next."""
    seen = (obs / agent.obs_unit).astype(np.float32)  # [N, D]
    noise = torch.randn(envs.num_envs, len(agent.limit))
    if len(agent.buffer) < cfg.num_warmup_steps:
        actions = squash(noise, agent.limit)
    else:
        with torch.inference_mode():
            actions, _ = agent.act(agent.actor, torch.from_numpy(seen))
        if not agent.recipe.stochastic:
            actions = (actions + cfg.exploration_noise * agent.limit * noise).clamp(-agent.limit, agent.limit)
    next_obs, rewards, terminated, truncated, infos = envs.step(actions.numpy() + agent.centre)
    successors = (true_next_obs(next_obs, terminated | truncated, infos) / agent.obs_unit).astype(np.float32)
    step = {"obs": seen, "actions": actions.numpy(), "rewards": rewards.astype(np.float32)}
    agent.buffer.add(**step, next_obs=successors, terminated=terminated)
    return next_obs


def critic_loss(agent: Agent, batch: dict[str, Tensor], gamma: float) -> Tensor:
    """The squared error of every critic against the one target."""
    with torch.no_grad():  # the target is a constant
        actions, log_prob = agent.act(agent.slow_actor, batch["next_obs"])
        if agent.recipe.target_noise:
            noise = agent.recipe.target_noise * agent.limit * torch.randn_like(actions)
            actions = blurred(actions, noise, agent.limit)
        next_q = agent.q(agent.slow_critics, batch["next_obs"], actions)  # [C, B]
        next_values = soft_value(next_q, log_prob, agent.alpha())
        targets = batch["rewards"] + gamma * ~batch["terminated"] * next_values  # eq. (1)
    q = agent.q(agent.critics, batch["obs"], batch["actions"])  # [C, B]
    return (q - targets).pow(2).mean(dim=1).sum()


def actor_loss(agent: Agent, batch: dict[str, Tensor]) -> tuple[Tensor, Numbers]:
    """(minus the value of the actor's own actions, their log-probabilities); its slope is eq. (2)."""
    actions, log_prob = agent.act(agent.actor, batch["obs"])
    q = agent.q(agent.critics, batch["obs"], actions)
    q = q if agent.recipe.stochastic else q[:1]  # TD3's actor climbs the first critic
    return -soft_value(q, log_prob, agent.alpha()).mean(), log_prob


def descend(loss: Tensor, optimizer: Adam) -> None:
    """One step of the optimiser's own weights; all others stand still."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()


def update(agent: Agent, cfg: Config) -> None:
    """One gradient step of the critics on a random minibatch, then of whoever's turn it is."""
    batch = agent.buffer.sample(cfg.minibatch_size, agent.rng)
    descend(critic_loss(agent, batch, cfg.gamma), agent.for_critics)
    agent.num_updates += 1
    if agent.num_updates % agent.recipe.actor_every:
        return
    loss, log_prob = actor_loss(agent, batch)
    descend(loss, agent.for_actor)
    if agent.recipe.stochastic:
        descend(temperature_loss(agent.log_alpha, log_prob, agent.target_entropy), agent.for_alpha)
    else:
        move_average(agent.slow_actor, agent.actor, cfg.target_rate)
    move_average(agent.slow_critics, agent.critics, cfg.target_rate)


def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None, name: str = "sac") -> Agent:
    """Train one of the three on Pendulum, or without evaluations on environments that are passed in."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs("Pendulum-v1", cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = Agent(envs, RECIPES[name], cfg)
    clock = CpuClock()
    num_rounds = max(1, cfg.num_env_steps // envs.num_envs)
    for i in log.track(range(1, num_rounds + 1), f"rounds of {name}", f"{name}_return"):
        step = i * envs.num_envs
        with clock:  # evaluations are not on it
            obs = collect(agent, envs, obs, cfg)
            if step >= cfg.num_warmup_steps:
                update(agent, cfg)
        if evaluated and step % cfg.eval_every < envs.num_envs:
            now = {"return": score(agent.greedy, cfg, 10_000), "cpu_seconds": clock.seconds}
            log.write(step, **{f"{name}_{what}": value for what, value in now.items()})
    return agent


def score(policy: Callable, cfg: Config, seed: int) -> float:
    """Mean return of 100 episodes from the starts that `seed` names; training never sees it."""
    return float(evaluate(policy, "Pendulum-v1", seed=cfg.seed + seed).mean())


# %% [markdown]
r"""
## 4. Look, break, write

Dynamic programming tells Pendulum's best (`chapters/exact/pendulum.py`). How much less a policy earns from
the same starts is its *regret*. TD3, whose actor moves at every second step only, is the last to come down.

![All three come near the best that can be done](results/C6.png)

*Flattery.* On the linear system of (6), exact values are known. Rewards are noisy here. With one critic TD3
believes too much, with the smaller of two less, at times too little. Early on both are far above the picture:

![One critic is above the exact value, the smaller of two is lower](results/C6_flattery.png)

*Chance.* Without that noise, at a fixed temperature, SAC finds mean and width (one deviation) of (6), dashed:

![SAC's mean and width lie close to the exact ones](results/C6_linear.png)

*The field.* A narrower TD3 on HalfCheetah-v5, its authors' ten curves on v1. Most of ours stop among theirs:

![The lesson's TD3 on HalfCheetah among the ten published curves](results/C6_cheetah.png)

![How it runs at the end of that training](results/C6_cheetah.gif)

**The verdict.** A second network stands in for the maximum, and learns from the critic's slope alone. Noise
flatters one critic; the smaller of two is flattered less. Pay for entropy buys exploration. Our SAC is faster
than Stable-Baselines3's by smaller networks and fewer gradient steps (`benchmarks/` has the whole race).

<!-- results: C6 -->

`rl run C6`: 33 s; with `--evidence`: 198 s, 1132 MB; with `--smoke --evidence`: 16 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| ddpg_return           | -154 (-157 to -141)             | ≥ -200    | 5/5    |
| td3_return            | -162 (-168 to -142)             | ≥ -200    | 5/5    |
| sac_return            | -153 (-160 to -144)             | ≥ -200    | 5/5    |
| density_integral      | 1                               | 1 ± 0.001 | 5/5    |
| sac_regret *          | 12.7 (12.3 to 15.2)             | ≤ 25.6    | 5/5    |
| td3_regret *          | 17.2 (10.4 to 23.7)             | ≤ 25.6    | 5/5    |
| td3_loss_gap *        | 7.45e-09 (0 to 1.15e-07)        | ≤ 1e-05   | 5/5    |
| td3_gradient_gap *    | 7.74e-08 (6.71e-08 to 2.16e-07) | ≤ 1e-05   | 5/5    |
| sac_loss_gap *        | 2.18e-07 (0 to 5.33e-07)        | ≤ 1e-05   | 5/5    |
| sac_gradient_gap *    | 5.31e-07 (1.85e-07 to 8.7e-07)  | ≤ 1e-05   | 5/5    |
| gain_error *          | 0.0107 (0.00548 to 0.0305)      | ≤ 0.05    | 5/5    |
| width_ratio *         | 0.992 (0.97 to 1.03)            | 1 ± 0.05  | 5/5    |
| one_critic_flatters * | 1.76 (0.512 to 3.96)            | ≥ 0       | 5/5    |
| twin_below_one *      | 1.27 (0.867 to 3.29)            | ≥ 0       | 5/5    |
| seconds_of_sb3 *      | 0.161                           | ≤ 0.25    | pooled |
| cheetah_return *      | 571                             | ≥ -334    | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `ddpg_return`: DDPG swings the pendulum up and holds it, on fresh episodes (mean return of 100 episodes)
- `td3_return`: TD3 swings the pendulum up and holds it, on fresh episodes (mean return of 100 episodes)
- `sac_return`: SAC swings the pendulum up and holds it, on fresh episodes (mean return of 100 episodes)
- `density_integral`: the densities of all torques that SAC, trained last, may choose, hanging still, add up
  to 1
- `sac_regret`: SAC is as near to the computed optimum, from the same starts, as published runs are (less than
  the optimum, mean return of 100 episodes)
- `td3_regret`: TD3 is as near to the computed optimum, from the same starts, as published runs are (less than
  the optimum, mean return of 100 episodes)
- `td3_loss_gap`: TD3: each loss equals Stable-Baselines3's on the same minibatch (of the largest, of critics,
  actor and temperature)
- `td3_gradient_gap`: TD3: each gradient equals Stable-Baselines3's on the same minibatch (of the largest, of
  critics, actor and temperature)
- `sac_loss_gap`: SAC: each loss equals Stable-Baselines3's on the same minibatch (of the largest, of critics,
  actor and temperature)
- `sac_gradient_gap`: SAC: each gradient equals Stable-Baselines3's on the same minibatch (of the largest, of
  critics, actor and temperature)
- `gain_error`: on a linear system SAC's mean action is the best linear policy's, number for number of its
  gain (of the exact gain)
- `width_ratio`: and its width is the soft optimum's (of the exact standard deviation)
- `one_critic_flatters`: a single critic believes its own actor's actions to be worth more than they are
  (critic minus exact value, mean of the last two thirds of training)
- `twin_below_one`: the smaller of two critics exceeds its actor's exact values by less than a single critic
  does (by how much less, mean of the last two thirds of training)
- `seconds_of_sb3`: SAC sustains -200 on Pendulum in a quarter of the CPU seconds of Stable-Baselines3's, or
  less (of theirs, medians; at most that, as theirs are stopped early)
- `cheetah_return`: on HalfCheetah our median is no lower than the lowest published run after as many steps
  (mean return of 10 episodes)
</details>

<!-- /results -->

**Break it.** `rl break C6 entropy_punished` pays for certainty, `rl break C6 descends_the_critic` looks for
the worst action, `rl break C6 larger_of_two` believes the flatterer: does Pendulum notice?

**Exercises.**

<!-- exercises: C6 -->

*C6.1 · The heart of it* (35 minutes, medium). Write what keeps an actor from being flattered, (4) and (5),
and what a squashed sample costs, (7). `rl exercise C6.soft_value`, `rl exercise C6.blurred`, `rl exercise
C6.squashed_log_prob`.

*C6.2 · The answer beforehand* (30 minutes, medium). On a linear system $x' = A x + B u$ with reward $-(x^\top
Q x + u^\top R u)$ find the policy (6) without learning. If the future is worth $-x^\top P x$, the best action
is $-Kx$, and

$$K = \gamma M^{-1} B^\top P A, \qquad
P \leftarrow Q + K^\top R K + \gamma (A - BK)^\top P (A - BK) \tag{E1}$$

with $M$ as in (6). Begin with $P = 0$. What happens to $K$ if entropy
is paid twice as much? `rl exercise C6.soft_optimum`.

<details><summary>Answer</summary>

Nothing: $K$ does not know $\alpha$. On a linear system only the width asks what chance is worth.
</details>

*C6.3 · Two wrong critics* (15 minutes, medium). Two critics are right on average, each with an independent
normal error of standard deviation $\sigma$. How far below the truth is the smaller of them, on average? And
what if both err alike?

<details><summary>Answer</summary>

By $\sigma / \sqrt\pi \approx 0.56\,\sigma$: the difference of the two is normal with standard deviation
$\sqrt2\,\sigma$; the smaller lies below their mean by half its absolute value; and that of a normal number is
$\sqrt{2/\pi}$ standard deviations on average. If both err alike, not at all: then the minimum is no
protection either. So twins that see the same minibatches are less cautious than two strangers.
</details>

*C6.4 · Why not simply cut?* (10 minutes, easy). `rl break C6 cut_off` cuts actions at the limits instead of
squashing them, as C3 does. What is lost here?

<details><summary>Answer</summary>

PPO only asks how likely the uncut sample was. Here the slope of $Q$ must reach the actor *through* the
action, and beyond a limit a cut has slope 0: an actor that is out there never learns to come back. Also the
cut action has no density: with some chance it is exactly the limit.
</details>

*C6.5 · Find the bug* (10 minutes). `rl exercise C6.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    best = score(pendulum.optimal_policy, cfg, 10_000)
    figure, ax = plotting.new_figure(width=8.0)
    for name in RECIPES:
        agent = train(cfg, log, name=name)
        steps, returns = log.series(f"{name}_return")
        ax.semilogy(steps, np.maximum(best - np.array(returns), 1.0), label=name.upper())
        log.claim(
            f"{name}_return",
            f"{name.upper()} swings the pendulum up and holds it, on fresh episodes",
            score(agent.greedy, cfg, 20_000),
            at_least=GOAL,
            unit="mean return of 100 episodes",
            source="the course's goal for Pendulum-v1",
            seeds="9/10",
        )
        log.keep(**{name: agent})
    says = "the densities of all torques that SAC, trained last, may choose, hanging still, add up to 1"
    chance = total_chance(agent, squash, squashed_log_prob)
    log.claim("density_integral", says, chance, near=(1.0, 1e-3), source="a distribution", always=True)
    ax.axhline(best - GOAL, label="a return of -200", **plotting.REFERENCE)
    ax.set(xlabel="environment steps", ylabel="regret to the optimum (log scale)", title="Pendulum")
    ax.legend()
    log.figure(figure)
    log.write(cfg.num_env_steps, best_return=best)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
