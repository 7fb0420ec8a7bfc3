# %% [markdown]
r"""
# C0 · Policy gradients and REINFORCE

**Question.** How do you improve a policy directly, by gradient ascent on its return, when the reward cannot
be differentiated and all you have is a handful of noisy episodes?

**Before this:** B4 (a deep Q-network, DQN). **Changes from B4:** the outputs are no Q-values but logits of a
policy, and what turned out well becomes likelier. **Next:** C1, a critic in place of the sampled return.

**Time.** 15 s on 2 cores; with all evidence 40 s.

References: `williams1992reinforce`, `sutton2000policygradient`, `greensmith2004variance`, `kool2019buy`,
`nota2020gradient`, `pardo2018timelimits`.

Symbols: `T` steps, `N` episodes and `B` steps of a batch, `A` actions, $G_t$ reward-to-go, $b_t$ baseline.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs
from chapters.exact.episodes import mean_gradients, policy_gradient, small_process, softmax
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Steps = Float[np.ndarray, "T N *M"]  # a number for each step of each episode; M: repetitions of the batch
Vector = Float[Tensor, " B"]  # a number for each step that was really played
SOLVED = 475.0  # the threshold registered for CartPole-v1


@dataclass(frozen=True)
class Config:
    """REINFORCE on CartPole, and its estimate held against the exact gradient on a small process."""

    seed: int = 0
    """Seed of torch, numpy, the environments and the small process."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation, discrete actions and a time limit."""
    num_envs: Annotated[int, in_range(2, 1024)] = 16
    """N: episodes in one gradient estimate."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 40
    """Gradient steps, one a batch."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 1e-2
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor: a reward k steps later counts gamma^k."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one check."""


SMOKE = {"num_envs": 4, "num_updates": 3, "hidden_size": 16, "num_eval_episodes": 4}

# %% [markdown]
r"""
## 1. The gradient of an expectation, by way of a logarithm

A *policy* $\pi(a \mid s)$ is a network from states to logits over actions; an action is sampled from their
softmax. A language model is one: the state is the prompt with the tokens so far, an action the next token. An
*episode* $\tau$ runs from start to end; its probability is a product, half ours, half the world's:

$$p(\tau) = p(s_0) \prod_t \pi(a_t \mid s_t)\, P(s_{t+1} \mid s_t, a_t) \tag{1}$$

An episode's *return* $R(\tau) = \sum_t \gamma^t r_t$ sums its rewards, later ones discounted by $\gamma \le
1$. We want to raise the mean, $J = \sum_\tau p(\tau)\, R(\tau)$. Rewards may come from a simulator, a unit
test or a person: no gradient leads through them. None has to: only $p(\tau)$ depends on the weights $\theta$.
The *log-derivative trick*, $\nabla p = p\, \nabla \log p$, makes $\nabla J$ a mean, which can be sampled:

$$\nabla J = \sum_\tau p(\tau)\, \nabla \log p(\tau)\, R(\tau) = \mathbb{E}[\nabla \log p\; R(\tau)] \tag{2}$$

The logarithm also turns the product (1) into a sum. In it the world's terms, $\log p(s_0)$ and $\log P$, do
not contain $\theta$, so their gradient is zero: what we do not know drops out.

$$\nabla J = \mathbb{E}\Bigl[\sum_t \nabla \log \pi(a_t \mid s_t)\; R(\tau)\Bigr] \tag{3}$$

Without $R(\tau)$ you know this: the gradient of the log-likelihood of a sequence of tokens. So (3) is
fine-tuning on one's own samples, in which an episode counts by its return. For a softmax the *score* $\nabla
\log \pi$, taken in the logits $z$, is minus the gradient of cross-entropy: one-hot less probabilities.

$$\frac{\partial \log \pi(a)}{\partial z_{a'}} = \mathbb{1}[a' = a] - \pi(a') \tag{4}$$

*By hand.* One state, one step, two actions with equal logits; action 0 is paid 10, action 1 is paid 11. The
truth: $J = 10 + \pi(1)$, whose slope in $z_1$ is $\pi(1)\,\pi(0) = ¼$. What do samples say, and their mean?

```python
>>> scores = score(np.full((2, 2), 0.5), actions=np.array([0, 1]))  # a row for each action
>>> samples = scores * np.array([[10.0], [11.0]])
>>> samples.tolist()
[[5.0, -5.0], [-5.5, 5.5]]
>>> samples.mean(axis=0).tolist()  # both are equally likely
[-0.25, 0.25]
```

The mean is the gradient. But each sample is some twenty times as long, and the first points the wrong way.
"""


# %%
def score(probs: Float[np.ndarray, "*B A"], actions: Int[np.ndarray, "*B"]) -> Float[np.ndarray, "*B A"]:
    """The gradient of log pi(action) in the logits."""
    return np.eye(probs.shape[-1])[actions] - probs  # eq. (4)


# %% [markdown]
r"""
## 2. What may be left out, and what subtracted: past rewards, a baseline

Probabilities sum to one whatever $\theta$ is, so in every state the score has *mean zero*:

$$\sum_a \pi(a \mid s)\, \nabla \log \pi(a \mid s) = \nabla \sum_a \pi(a \mid s) = \nabla 1 = 0 \tag{5}$$

Let $c$ be any number that is settled *without* $a_t$: by what came before it, or by other episodes. Hold
$s_t$ and $c$ fixed. Then $a_t$ is drawn from $\pi(\cdot \mid s_t)$, whatever $c$ is, and by (5):

$$\mathbb{E}[c\, \nabla \log \pi] = \mathbb{E}[c\; \mathbb{E}_{a_t}[\nabla \log \pi(a_t | s_t)]] = 0 \tag{6}$$

**Causality.** Seen from step $t$ the return has two parts, $R(\tau) = \sum_{k<t} \gamma^k r_k + \gamma^t
G_t$: what was paid before, and what follows, a sum that is quickest from behind:

$$G_t = r_t + \gamma\, G_{t+1} \tag{7}$$

The first part was settled before $a_t$: by (6) it may be dropped. An action answers only for what comes after
it, its *reward-to-go*. **Baseline.** By (6), $\gamma^t b_t$ may be subtracted if it is settled without $a_t$:

$$\nabla J = \mathbb{E}\Bigl[\sum_t \gamma^t\, \nabla \log \pi(a_t \mid s_t)\, (G_t - b_t)\Bigr] \tag{8}$$

The mean is the same for every $b_t$; the noise is not. In the example take the usual, $b = 10.5$. Action 0
then says $(10 - 10.5) \cdot (½, -½)$ and action 1 says $(11 - 10.5) \cdot (-½, ½)$: both are $(-¼, ¼)$, the
gradient itself, without noise. Pushed up is only what was *better than usual*. The natural $b_t$ is the mean
return from the state, $V^\pi(s_t)$; then $G_t - b_t$ is a sample of the action's *advantage*. C1 learns $V$.
Here the $N - 1$ other episodes of the batch stand in for it, each from the same step on (`kool2019buy`):

$$b^i_t = \frac{1}{N-1} \sum_{j \ne i} G^j_t \tag{9}$$

Episodes are independent, so it is settled without $a^i_t$. An episode that has ended still counts, with 0.
*By hand*, two steps (rows) of three episodes (columns). The rewards-to-go are 2, 0, 2 and then 1, 0, 0. Both
times the first episode did better than the mean of the others, by 1:

```python
>>> returns = rewards_to_go(np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]]), gamma=1.0)
>>> (returns - leave_one_out(returns)).tolist()
[[1.0, -2.0, 1.0], [1.0, -0.5, -0.5]]
```

Two common shortcuts can work, but neither is (8). The mean over *all* $N$ episodes contains $G^i_t$, which
depends on $a^i_t$ (exercise C0.2). Dividing a batch's weights by their spread makes each weight depend on
every action.

**The loss** for autograd has minus (8) as its gradient, averaged over $N$ episodes. Its weight
$\psi_t = \gamma^t (G_t - b_t)$ is a constant, not differentiated; the loss's *value* means nothing:

$$L(\theta) = -\frac1N \sum_i \sum_t \log \pi(a^i_t \mid s^i_t)\; \psi^i_t \tag{10}$$

## 3. REINFORCE on CartPole

*REINFORCE* (`williams1992reinforce`) plays $N$ whole episodes and weighs each step by what followed, here
less what followed in the others. It takes one gradient step and throws the episodes away, since (2) is a mean
over episodes of the policy as it is *now*. We take two usual liberties. Adam sizes the steps. And the factor
$\gamma^t$ is left out, as it would silence late steps; what remains is in general not the gradient of any
objective (`nota2020gradient`). A *time limit* ends the sum as a fall does: REINFORCE has no value to put in
place of the rewards after it (`pardo2018timelimits`).
"""


# %%
def rewards_to_go(rewards: Steps, gamma: float) -> Steps:
    """The discounted sum of the rewards from each step on; rewards after an episode's end must be 0."""
    returns = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])  # [N, *M]
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * following  # eq. (7)
        returns[t] = following
    return returns


def leave_one_out(returns: Steps) -> Steps:
    """For each episode and step, the mean return of the other episodes from that step on."""
    others = returns.sum(axis=1, keepdims=True) - returns
    return others / (returns.shape[1] - 1)  # eq. (9)


def policy_loss(log_probs: Vector, weights: Vector, num_episodes: int) -> Float[Tensor, ""]:
    """A loss whose gradient is minus the estimate of the policy gradient."""
    return -(log_probs * weights.detach()).sum() / num_episodes  # eq. (10)


def three_weights(rewards: Float[np.ndarray, "T N M"], gamma: float) -> dict[str, Steps]:
    """Three weights whose mean gradient is the same: that of (3), and of (8) without and with a baseline."""
    returns = rewards_to_go(rewards, gamma)
    discounts = gamma ** np.arange(len(returns))[:, None, None]  # [T, 1, 1]
    return {
        "total_return": np.broadcast_to(returns[0], returns.shape),
        "reward_to_go": discounts * returns,
        "leave_one_out": discounts * (returns - leave_one_out(returns)),
    }


# %%
def make_policy(envs: VectorEnv, hidden_size: int) -> nn.Sequential:
    """A network from observations [..., D] to the logits of a policy [..., A]."""
    (obs_dim,) = envs.single_observation_space.shape
    hidden = [nn.Linear(obs_dim, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(hidden_size, int(envs.single_action_space.n)))


@torch.inference_mode()
def logits_of(policy: nn.Module, obs: np.ndarray) -> np.ndarray:
    """The logits [..., A] in NumPy, without a gradient."""
    return policy(torch.from_numpy(obs)).numpy()


def collect(policy: nn.Module, envs: VectorEnv, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One whole episode in each environment: arrays [T, N, ...]; `alive` marks what was really played."""
    obs, _ = envs.reset()
    alive = np.ones(envs.num_envs, dtype=bool)
    steps = []
    while alive.any():
        logits = logits_of(policy, obs)  # [N, A]
        actions = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a sample of their softmax
        next_obs, rewards, terminated, truncated, _ = envs.step(actions)
        steps.append({"obs": obs, "actions": actions, "rewards": rewards * alive, "alive": alive})
        alive = alive & ~(terminated | truncated)  # both: no value estimate that a time limit should keep
        obs = next_obs
    return {key: np.stack([step[key] for step in steps]) for key in steps[0]}


def update(policy: nn.Module, optimizer: Adam, batch: dict[str, np.ndarray], gamma: float) -> None:
    """One gradient step on one batch of episodes."""
    alive = batch["alive"]  # [T, N], B of them true
    returns = rewards_to_go(batch["rewards"], gamma)
    weights = returns - leave_one_out(returns)  # eq. (8), without the factor gamma^t
    log_probs = torch.log_softmax(policy(torch.from_numpy(batch["obs"][alive])), dim=-1)  # [B, A]
    actions = torch.from_numpy(batch["actions"][alive])  # [B]
    taken = log_probs.gather(1, actions[:, None]).squeeze(1)  # [B]
    loss = policy_loss(taken, torch.from_numpy(weights[alive]).float(), alive.shape[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None, name: str = "leave_one_out") -> nn.Module:
    """Learn from `num_updates` batches; environments that are passed in are not evaluated on."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs(cfg.env_id, cfg.num_envs)
    envs.reset(seed=cfg.seed)
    policy = make_policy(envs, cfg.hidden_size)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    rng = np.random.default_rng(cfg.seed)
    clock = CpuClock()
    num_steps = 0
    for number in log.track(range(1, cfg.num_updates + 1), f"updates ({name})", f"{name}_return"):
        with clock:
            batch = collect(policy, envs, rng)
            update(policy, optimizer, batch, cfg.gamma)
        num_steps += int(batch["alive"].sum())
        if evaluated:
            mean_return = greedy_returns(policy, cfg, cfg.seed + 10_000).mean()
            measured = {"return": mean_return, "env_steps": num_steps, "cpu_seconds": clock.seconds}
            log.write(number * cfg.num_envs, **{f"{name}_{key}": value for key, value in measured.items()})
    return policy


def greedy_returns(policy: nn.Module, cfg: Config, seed: int) -> np.ndarray:
    """Returns [episodes] of the likeliest actions; training never sees `seed`."""
    greedy = lambda obs: logits_of(policy, obs).argmax(axis=-1)  # noqa: E731
    return evaluate(greedy, cfg.env_id, episodes=cfg.num_eval_episodes, seed=seed)


# %% [markdown]
r"""
## 4. Look, break, write

Is the mean gradient of (10) really $-\nabla J$? `enumerated_gap` compares two gradients on a small Markov
decision process. One is the mean over *every* batch of three episodes, each with its probability. The other,
the truth, needs no episodes. Let $Q^\pi_t(s, a)$ be the mean of $G_t$ after $a$ in $s$. Then (8), summed by
states, is the *policy gradient theorem* (`sutton2000policygradient`), in which $b_t$ is gone by (5):
$\nabla J = \sum_t \gamma^t \sum_s \Pr(s_t = s) \sum_a \nabla \pi(a \mid s)\, Q^\pi_t(s, a)$.

![Greedy return for each weight: only with the baseline do most seeds reach 500 and stay](results/C0.png)

A run of the lesson draws the right panel, the evidence the others. Without a baseline each step of each
episode is pushed up, the longer the episode the harder, and the policy drifts to whatever it happened to do.
The total return adds the past to that. With a baseline, too, a bad batch may undo much: there C3 begins.

![Greedy policy before and after training: the first falls, the second balances](results/C0_film.gif)

![Left, the mean of sampled estimates over the exact gradient; right, variances](results/C0_gradient.png)

Left: in each state leave-one-out agrees with the gradient; with the mean of all episodes as baseline the
estimate is $1 - \tfrac1N$ of it. The normalised estimate has no common factor: even scaled to fit as well as
it can, it points a little elsewhere. (The table's `distance` tests that: above 1, the mean is *not* the
gradient.) Middle: where every step is paid, dropping the past lowers the noise, and the baseline lowers it
far more. Right: dropping the past can also add noise (C0.4).

**The verdict.** Raise the log-probability of each sampled action by how much more followed it than followed
in the other episodes. That needs no gradient of the reward and no model of the world; with $\gamma^t$, its
mean is the exact gradient. The baseline makes it usable: with it all but one seed end at the top, after about
a second of learning on CartPole; without it most do not get there, or do not stay.

<!-- results: C0 -->

`rl run C0`: 9 s; with `--evidence`: 23 s, 1022 MB; with `--smoke --evidence`: 9 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| enumerated_gap            | 1.69e-15 (6.73e-16 to 3.1e-15) | ≤ 1e-12        | 10/10 |
| fresh_return              | 500; worst 205                 | ≥ 475          | 9/10  |
| cpu_seconds_to_475 *      | 0.62 (0.497 to 1.12)           | ≤ 2            | 10/10 |
| own_mean_scale *          | 0.667                          | 0.6667 ± 1e-09 | 10/10 |
| normalised_cosine *       | 0.999 (0.995 to 0.9997)        | ≤ 0.999999     | 10/10 |
| leave_one_out_distance *  | 0.0706 (0.0471 to 0.174)       | ≤ 1            | 10/10 |
| own_mean_distance *       | 42.6 (15.5 to 117)             | ≥ 1            | 10/10 |
| normalised_distance *     | 2,545 (1,156 to 44,921)        | ≥ 1            | 10/10 |
| baseline_variance_ratio * | 0.056 (0.0183 to 0.131)        | ≤ 1            | 10/10 |
| fee_and_refund_ratio *    | 41                             | ≥ 1            | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `enumerated_gap`: total return, reward-to-go and leave-one-out have the exact gradient as mean (largest
  difference)
- `fresh_return`: the last policy balances the pole on fresh episodes (mean return of 100 episodes)
- `cpu_seconds_to_475`: REINFORCE holds 475 on CartPole for three checks in a row (CPU s of learning, to the
  third check)
- `own_mean_scale`: a baseline that contains its own episode shrinks the gradient by 1 - 1/N (of the gradient,
  N = 3)
- `normalised_cosine`: the mean of the batch-normalised estimator is no multiple of the gradient (cosine to
  the gradient)
- `leave_one_out_distance`: the mean of sampled leave-one-out estimates is the exact gradient (of the 99.9 %
  quantile of Hotelling's T²)
- `own_mean_distance`: estimates with a mean over the whole batch do not average to the gradient (of the 99.9
  % quantile of Hotelling's T²)
- `normalised_distance`: estimates with batch normalisation do not average to the gradient (of the 99.9 %
  quantile of Hotelling's T²)
- `baseline_variance_ratio`: the leave-one-out baseline lowers the variance where every step is paid (ratio of
  variances)
- `fee_and_refund_ratio`: where an early fee cancels a later payment, reward-to-go is noisier than the total
  return (ratio of variances)
</details>

<!-- /results -->

**Break it.** `rl break C0 mean_over_time`: the baseline now contains what the action itself earned.
`rl break C0 own_mean`: the gradient shrinks by a factor, and CartPole does not care. Before you run them: say
which claims will fail.

**Exercises.**

<!-- exercises: C0 -->

*C0.1 · The weights* (20 minutes, easy). Write reward-to-go, the leave-one-out baseline and the loss, from
(7), (9) and (10). `rl exercise C0.rewards_to_go`, `rl exercise C0.leave_one_out`, `rl exercise
C0.policy_loss`.

*C0.2 · One's own episode in the mean* (15 minutes, medium). Show that with the mean over all $N$ episodes in
place of (9) every weight is $1 - \tfrac1N$ times what it should be. Why does Adam not care?

<details><summary>Answer</summary>

Let $S = \sum_{j \ne i} G^j$. Then $G^i - \frac1N (G^i + S) = \frac{N-1}{N} G^i - \frac1N S = \frac{N-1}{N}
\bigl(G^i - \frac{S}{N-1}\bigr)$, the same factor everywhere (`own_mean_scale`). Adam divides each coordinate
of the gradient by its own recent size: a common factor cancels, but for Adam's $\epsilon$.
</details>

*C0.3 · The best baseline there is* (20 minutes, medium). One state, one step. Any $b$ leaves the mean of the
samples $(r(a) - b)\, \nabla \log \pi(a)$ as it is, so they scatter least where the mean of their squared
length is least:

$$\sum_a \pi(a)\, (r(a) - b)^2\, |\nabla \log \pi(a)|^2 \;\to\; \min \tag{E1}$$

The gradient is that in the logits, (4). Write the $b$ that does it. `rl exercise C0.best_baseline`.

<details><summary>Answer</summary>

The derivative of (E1) is 0 at the mean of the rewards weighted by $\pi(a)\, |\nabla \log \pi(a)|^2$. With two
actions that is $\pi(1)\, r(0) + \pi(0)\, r(1)$, the mean with the probabilities swapped, and then both
samples *are* the gradient. The usual baseline, $V^\pi(s)$, is the mean as it is: good, seldom the best.
</details>

*C0.4 · A world that needs its past* (10 minutes, hard). Dropping the past leaves the mean as it is. Does it
always lower the noise? Find a task of two steps in which reward-to-go is noisier than the total return.

<details><summary>Answer</summary>

The first step costs 5 whatever one does, the second pays 5, or 6 for one of two actions. The total return is
0 or 1: the fee is a perfect baseline. The reward-to-go of the second step is 5 or 6, and 5 of it is pure
noise (`greensmith2004variance`; right panel of the figure, and `fee_and_refund_ratio`).
</details>

*C0.5 · Find the bug* (10 minutes). `rl exercise C0.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    mdp, logits = small_process(np.random.default_rng(cfg.seed))
    exact = policy_gradient(mdp, softmax(logits))
    means = mean_gradients(mdp, logits, three_weights, policy_loss, num_episodes=3)
    log.claim(
        "enumerated_gap",
        "total return, reward-to-go and leave-one-out have the exact gradient as mean",
        max(np.abs(mean - exact).max() for mean in means.values()),
        at_most=1e-12,
        unit="largest difference",
        source="the policy gradient theorem, against all batches of three episodes",
        always=True,
    )
    policy = train(cfg, log)
    log.keep(policy=policy)
    log.claim(
        "fresh_return",
        "the last policy balances the pole on fresh episodes",
        greedy_returns(policy, cfg, cfg.seed + 20_000).mean(),
        at_least=SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )
    labels = {"title": "REINFORCE on CartPole", "xlabel": "training episodes", "ylabel": "greedy return"}
    plotting.learning_curve(log, "leave_one_out_return", threshold=SOLVED, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
