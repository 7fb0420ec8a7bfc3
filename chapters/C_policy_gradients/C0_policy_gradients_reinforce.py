# %% [markdown]
r"""
# C0 · Policy gradients and REINFORCE

**Question.** How do you improve a policy directly, by gradient ascent on its return, when the reward cannot
be differentiated and all you have is a handful of noisy episodes?

**Before this:** B4 (DQN from scratch). **Changes from B4:** no Q-values, no replay, no target network. The
network's outputs are the logits of a policy, and learning raises the probability of what turned out well.
**Next:** C1 trades the sampled return for a critic and no longer waits for an episode to end.

**Time budget.** 60 s on 2 cores.

<!-- results: C0 -->

`rl run C0`: 17 s, 1118 MB. `rl run C0 --smoke`: 9 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| cpu_seconds_to_475      | 0.252 (0.208 to 0.479)          | ≤ 2            | 10/10 |
| fresh_return            | 500 (205 to 500)                | ≥ 475          | 9/10  |
| enumerated_gap          | 4.68e-15 (1.58e-15 to 1.57e-14) | ≤ 1e-12        | 10/10 |
| own_mean_scale          | 0.667                           | 0.6667 ± 1e-09 | 10/10 |
| normalised_cosine       | 0.999 (0.948 to 1)              | ≤ 1            | 10/10 |
| leave_one_out_distance  | 0.0706 (0.0351 to 0.286)        | ≤ 1            | 10/10 |
| own_mean_distance       | 42.6 (12.9 to 138)              | ≥ 1            | 10/10 |
| normalised_distance     | 2,545 (503 to 48,728)           | ≥ 1            | 10/10 |
| baseline_variance_ratio | 0.056 (0.0177 to 0.298)         | ≤ 1            | 10/10 |
| fee_and_refund_ratio    | 41                              | ≥ 1            | 10/10 |

<!-- /results -->

References: `williams1992reinforce`, `sutton2000policygradient`, `greensmith2004variance`, `kool2019buy`,
`nota2020gradient`, `pardo2018timelimits`, `kingma2015adam`.

Symbols: `T` steps, `N` episodes in a batch, `S` states, `A` actions, `M` batches, `B` steps that were really
played in a batch, $\tau$ an episode, $\psi_t$ the weight of step $t$.
"""

# %%
import itertools
import os
import time
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything  # fmt: skip
from chapters.utils.evaluation import sustained as third_in_a_row

Table = Float[np.ndarray, "S A"]  # a number for each state and action
Steps = Float[np.ndarray, "*M T N"]  # a number for each step of each episode, in one batch or in M
Numbers = Int[np.ndarray, "*M T N"]
SOLVED = 475.0  # CartPole-v1's registered threshold; it must hold for three checks in a row
HONEST = {"total_return": "total return", "reward_to_go": "reward-to-go", "leave_one_out": "leave-one-out"}
COLOURS = {
    "total_return": plotting.RED, "reward_to_go": plotting.ORANGE, "leave_one_out": plotting.BLUE,
    "own_mean": plotting.GREEN, "normalised": plotting.PURPLE,
}  # fmt: skip


# %%
@dataclass(frozen=True)
class Config:
    """The estimated policy gradient against the exact one, then REINFORCE on CartPole."""

    seed: int = 0
    """Seed of the random decision process, of torch, numpy and the environments."""
    only: Literal["all", "cartpole"] = "all"
    """`cartpole` trains the best learner until CartPole is held, and leaves everything else out."""
    num_states: Annotated[int, in_range(2, 4)] = 3
    """S: states of the small decision process."""
    num_steps: Annotated[int, in_range(1, 3)] = 3
    """T: steps of its episodes."""
    num_batches: Annotated[int, in_range(100, 1_000_000)] = 20_000
    """M: gradient estimates that are averaged."""
    num_mdps: Annotated[int, in_range(1, 100_000)] = 2000
    """Random two-step processes on which reward-to-go is compared with the total return."""
    env_id: str = "CartPole-v1"
    """Any environment with a vector observation, discrete actions and a time limit."""
    num_envs: Annotated[int, in_range(2, 1024)] = 16
    """N: episodes in one gradient estimate."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 40
    """Gradient steps of each learner, one a batch."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 1e-2
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor on CartPole; the small process has its own, 0.9."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one check."""


SMOKE = {
    "num_states": 2, "num_batches": 2000, "num_mdps": 50, "num_envs": 4, "num_updates": 3, "hidden_size": 16,
    "num_eval_episodes": 4,
}  # fmt: skip

# %% [markdown]
r"""
## 1. The theorem

The objective is the expected return, $J(\theta) = \mathbb{E}_\tau\bigl[\sum_t \gamma^t r_t\bigr]$. An episode
depends on $\theta$ only through the probabilities of its actions; those of the world are the same for every
policy and vanish from $\nabla \log p_\theta(\tau)$. With $\nabla p = p\,\nabla \log p$,

$$\nabla J = \mathbb{E}\Bigl[\sum_t \nabla \log \pi_\theta(a_t \mid s_t)\; \psi_t\Bigr],
\qquad \psi_t = \sum_{k \ge 0} \gamma^k r_k \tag{1}$$

You know the bracket: it is the gradient of the log-likelihood of tokens that you sampled, each weighted by
$\psi_t$. It is fine-tuning on your own samples, in which good episodes count more than bad ones. Only the
policy is differentiated. For a softmax over a table of logits the *score* $\nabla \log \pi$ is

$$\frac{\partial \log \pi(a \mid s)}{\partial \theta_{s a'}} = \mathbb{1}[a' = a] - \pi(a' \mid s) \tag{2}$$

An action has no say in what was paid before it. Those terms have mean zero, so they can go. What is left is
*reward-to-go*, the weight $\psi_t = \gamma^t G_t$ with

$$G_t = r_t + \gamma\, G_{t+1} \tag{3}$$

Since $\mathbb{E}[G_t \mid s_t, a_t] = Q^\pi(s_t, a_t)$, the same gradient is a sum over states without any
episode in it, the policy gradient theorem (sutton2000policygradient):

$$\nabla J = \sum_t \gamma^t \sum_s \Pr(s_t = s) \sum_a \pi(a \mid s)\,\nabla \log \pi(a \mid s)\;
Q^\pi_t(s, a) \tag{4}$$
"""


# %%
class MDP(NamedTuple):
    """A decision process that starts in state 0 and takes `num_steps` steps."""

    P: Float[np.ndarray, "S A S"]
    """P[s, a, s2]: probability that action a in state s leads to s2."""
    R: Table
    """Reward of action a in state s."""
    gamma: float
    """Discount factor."""
    num_steps: int
    """T: length of every episode."""


def softmax(logits: Table) -> Table:
    """The policy that a table of logits stands for."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def theorem_gradient(mdp: MDP, policy: Table) -> Table:
    """The exact gradient of the expected return in the logits, from values and state probabilities."""
    Q = np.zeros((mdp.num_steps + 1, *policy.shape))  # [T + 1, S, A] nothing is paid after the last step
    for t in reversed(range(mdp.num_steps)):
        Q[t] = mdp.R + mdp.gamma * mdp.P @ (policy * Q[t + 1]).sum(axis=1)
    reached = np.eye(len(policy))[0]  # [S] Pr(s_t = s)
    gradient = np.zeros_like(policy)
    for t in range(mdp.num_steps):
        # the mean over a of the score (2) times Q leaves Q - V, the advantage
        advantages = Q[t] - (policy * Q[t]).sum(axis=1, keepdims=True)
        gradient += mdp.gamma**t * reached[:, None] * policy * advantages  # eq. (4)
        reached = np.einsum("s,sa,sab->b", reached, policy, mdp.P)
    return gradient


# %% [markdown]
r"""
## 2. Three honest weights, and two shortcuts

Subtract from $\psi_t$ a *baseline* that knows nothing of the action, and the mean stays, because the score
has mean zero in every state. The variance does not stay: if every step is paid, every action of every episode
is pushed up, and only the difference between two large pushes says anything. "Well" means better than the
others, so with $N$ episodes in a batch the natural baseline is what the *other* ones got from step $t$ on
(kool2019buy; for language models it is called RLOO):

$$\psi^i_t = \gamma^t\Bigl(G^i_t - \frac{1}{N-1}\sum_{j \ne i} G^j_t\Bigr) \tag{5}$$

An episode that has ended gets 0 from then on, and counts. The mean is taken step by step, so that it knows
how much of the episode is left.

Two shortcuts look harmless. The mean over *all* $N$ episodes contains episode $i$ itself, hence its action:
$\psi$ becomes (5) times $1 - \tfrac1N$, and so does the gradient. That only rescales. Dividing a batch by its
own standard deviation is worse: the divisor depends on the actions too, and the mean of the result points
elsewhere. Both are common, and both can work. Neither is the gradient.
"""


# %%
def rewards_to_go(rewards: Steps, gamma: float) -> Steps:
    """The discounted sum of the rewards from each step on; rewards after an episode's end must be 0."""
    returns = np.zeros_like(rewards)
    running = np.zeros_like(rewards[..., 0, :])  # [*M, N]
    for t in reversed(range(rewards.shape[-2])):
        running = rewards[..., t, :] + gamma * running  # eq. (3)
        returns[..., t, :] = running
    return returns


def leave_one_out(returns: Steps) -> Steps:
    """For each episode and step, the mean return of the other episodes from that step on."""
    return (returns.sum(axis=-1, keepdims=True) - returns) / (returns.shape[-1] - 1)  # eq. (5), the mean


def step_weights(rewards: Steps, gamma: float, kind: str, discounted: bool = True) -> Steps:
    """The weight psi of every step; without `discounted`, the factor gamma^t is left out (section 4)."""
    returns = rewards_to_go(rewards, gamma)
    if kind == "total_return":
        return np.broadcast_to(returns[..., :1, :], returns.shape)  # eq. (1)
    if kind == "leave_one_out":
        returns = returns - leave_one_out(returns)  # eq. (5)
    elif kind in ("own_mean", "normalised"):
        returns = returns - returns.mean(axis=-1, keepdims=True)
    if discounted:
        returns = returns * gamma ** np.arange(returns.shape[-2])[:, None]
    if kind == "normalised":
        returns = returns - returns.mean(axis=(-2, -1), keepdims=True)
        returns = returns / (returns.std(axis=(-2, -1), keepdims=True) + 1e-8)
    return returns


def gradient_estimate(
    policy: Table, states: Numbers, actions: Numbers, weights: Steps
) -> Float[np.ndarray, "*M S A"]:
    """Score times weight, summed over the steps and averaged over the N episodes of a batch."""
    score = np.eye(policy.shape[1])[actions] - policy[states]  # [*M, T, N, A], eq. (2)
    visited = np.eye(len(policy))[states]  # [*M, T, N, S] a step moves the logits of its own state only
    return np.einsum("...tn,...tns,...tna->...sa", weights, visited, score) / states.shape[-1]  # eq. (1)


# %% [markdown]
r"""
## 3. Is it the gradient?

Three states, two actions and three steps make 72 different episodes. Sum over all of them, each with its
probability, and nothing is left to chance; for batches, sum over all combinations of three episodes. Means
and variances of the estimators are then exact numbers. Beside that stands the experiment one would run in
practice: draw 20,000 batches and ask whether their mean could be the exact gradient, by Hotelling's $T^2$,
which is $z^2$ in several dimensions. (The logits of a state matter only up to a constant, so one column is
left out.)
"""


# %%
def enumerate_episodes(
    mdp: MDP, policy: Table
) -> tuple[Int[np.ndarray, "T K"], Int[np.ndarray, "T K"], Float[np.ndarray, " K"]]:
    """(states, actions, probability) of every possible episode."""
    num_states, num_actions = policy.shape
    moves = list(itertools.product(range(num_states), range(num_actions)))
    episodes = itertools.product(moves[:num_actions], *[moves] * (mdp.num_steps - 1))  # all begin in state 0
    states, actions = np.array(list(episodes)).transpose(2, 1, 0)  # [T, K] each
    arrivals = mdp.P[states[:-1], actions[:-1], states[1:]].prod(axis=0)  # [K]
    return states, actions, policy[states, actions].prod(axis=0) * arrivals


def estimates_of(
    mdp: MDP, policy: Table, kind: str, chosen: Int[np.ndarray, "M N"]
) -> Float[np.ndarray, "M S A"]:
    """The estimates from M batches of N episodes, each given by its number among all possible ones."""
    states, actions, _ = enumerate_episodes(mdp, policy)
    states, actions = states[:, chosen].swapaxes(0, 1), actions[:, chosen].swapaxes(0, 1)  # [M, T, N]
    return gradient_estimate(policy, states, actions, step_weights(mdp.R[states, actions], mdp.gamma, kind))


def exact_moments(mdp: MDP, policy: Table, kind: str, num_episodes: int) -> tuple[Table, float]:
    """(mean, total variance) of an estimator over all combinations of `num_episodes` episodes."""
    probability = enumerate_episodes(mdp, policy)[2]
    chosen = np.indices((len(probability),) * num_episodes).reshape(num_episodes, -1).T  # [K^N, N]
    estimates, weight = estimates_of(mdp, policy, kind, chosen), probability[chosen].prod(axis=1)
    mean = np.einsum("m,msa->sa", weight, estimates)
    return mean, float(np.einsum("m,msa->", weight, (estimates - mean) ** 2))


def hotelling(estimates: Float[np.ndarray, "M S A"], target: Table) -> float:
    """T^2 of the hypothesis that the mean of the estimates is `target`, in units of its 99.9 % quantile."""
    from scipy.stats import f

    sample = (estimates - target)[..., :-1].reshape(len(estimates), -1)  # [M, p]
    (size, p), mean = sample.shape, sample.mean(axis=0)
    t2 = size * mean @ np.linalg.solve(np.cov(sample.T).reshape(p, p), mean)
    return float(t2 / (p * (size - 1) / (size - p) * f.ppf(0.999, p, size - p)))


# %% [markdown]
r"""
## 4. REINFORCE on CartPole

The same weights, now for a network (williams1992reinforce). Autograd differentiates a loss, so we write one
whose gradient is minus (1):

$$L(\theta) = -\frac1N \sum_i \sum_t \log \pi_\theta(a^i_t \mid s^i_t)\; \psi^i_t \tag{6}$$

Its *value* means nothing, and it need not fall. In it $\psi$ is a constant, a number that was measured.

Two liberties, both usual. The factor $\gamma^t$ is left out, because at $\gamma = 0.99$ it would all but
silence the last 300 of 500 steps. What remains is the gradient of no function at all (nota2020gradient), but
late steps count. And the steps are Adam's, which divides each coordinate by its own recent size
(kingma2015adam); that is why nothing here needs to be normalised.

**The time limit.** After 500 steps the recording is cut, though the pole still stands. The return of such an
episode lacks its tail, $\gamma^{500-t}\,V(s_{500})$. Judged as an endless task, that is a bias: late steps of
a perfect episode look worse than they are, and REINFORCE has no critic to ask for the rest
(pardo2018timelimits). Judged as a task of 500 steps, nothing is missing: the return *is* the sum of its
rewards, and (1) is exact. The best policy of such a task may depend on the time, which ours cannot see. The
step-by-step baseline (5) can: it compares an episode only with what the others got in the same remaining
time, so the missing tail cancels among those that still stand.
"""


# %%
def policy_loss(
    log_probs: Float[Tensor, " B"], weights: Float[Tensor, " B"], num_episodes: int
) -> Float[Tensor, ""]:
    """A loss whose gradient is minus the estimate (1)."""
    return -(log_probs * weights.detach()).sum() / num_episodes  # eq. (6)


def make_policy(envs: gym.vector.VectorEnv, hidden_size: int) -> nn.Sequential:
    """A network from observations [..., D] to the logits of a policy [..., A]."""
    (obs_dim,), num_actions = envs.single_observation_space.shape, int(envs.single_action_space.n)
    return nn.Sequential(
        nn.Linear(obs_dim, hidden_size), nn.Tanh(),
        nn.Linear(hidden_size, hidden_size), nn.Tanh(),
        nn.Linear(hidden_size, num_actions),
    )  # fmt: skip


@torch.inference_mode()
def logits_of(policy: nn.Module, obs: np.ndarray) -> np.ndarray:
    """The logits [..., A] in NumPy, without a gradient."""
    return policy(torch.from_numpy(obs)).numpy()


def collect(policy: nn.Module, envs: gym.vector.VectorEnv, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One whole episode in each environment: arrays [T, N, ...]; `alive` marks what was really played."""
    obs, _ = envs.reset()
    alive = np.ones(envs.num_envs, dtype=bool)
    steps = []
    while alive.any():
        logits = logits_of(policy, obs)  # [N, A]
        actions = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a sample of their softmax
        next_obs, rewards, terminated, truncated, _ = envs.step(actions)
        steps.append({"obs": obs, "actions": actions, "rewards": rewards * alive, "alive": alive})
        alive = alive & ~(terminated | truncated)  # both end the sum; there is no bootstrap to keep
        obs = next_obs
    return {key: np.stack([step[key] for step in steps]) for key in steps[0]}


def update(policy: nn.Module, optimizer: torch.optim.Optimizer, batch: dict, gamma: float, kind: str) -> None:
    """One gradient step on one batch of episodes."""
    alive = batch["alive"]  # [T, N], B of them true
    weights = step_weights(batch["rewards"], gamma, kind, discounted=False)[alive]  # [B]
    log_probs = torch.log_softmax(policy(torch.from_numpy(batch["obs"][alive])), dim=-1)  # [B, A]
    taken = log_probs.gather(1, torch.from_numpy(batch["actions"][alive])[:, None]).squeeze(1)  # [B]
    loss = policy_loss(taken, torch.from_numpy(weights).float(), alive.shape[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(
    cfg: Config, log: RunLog, envs: gym.vector.VectorEnv | None = None, kind: str = "leave_one_out"
) -> nn.Module:
    """Learn from `num_updates` batches; environments that are passed in are not evaluated on."""
    seed_everything(cfg.seed)
    rng, own, clock, num_steps = np.random.default_rng(cfg.seed), envs is None, CpuClock(), 0
    envs = make_envs(cfg.env_id, cfg.num_envs) if own else envs
    envs.reset(seed=cfg.seed)
    policy = make_policy(envs, cfg.hidden_size)
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, fused=True)
    for number in log.track(range(1, cfg.num_updates + 1), f"updates ({kind})", f"{kind}_return"):
        with clock:
            batch = collect(policy, envs, rng)
            update(policy, optimizer, batch, cfg.gamma, kind)
        num_steps += int(batch["alive"].sum())
        if own:
            score = greedy_returns(policy, cfg, cfg.seed + 10_000).mean()
            measured = {"return": score, "env_steps": num_steps, "cpu_seconds": clock.seconds}
            log.write(number * cfg.num_envs, **{f"{kind}_{name}": value for name, value in measured.items()})
            if cfg.only == "cartpole" and np.isfinite(sustained(log.metrics, kind)[0]):
                break  # the quick look has seen it
    return policy


# %% [markdown]
r"""
## 5. Run, look, break

The first figure is what the weights buy on CartPole, where everything else is the same: network, step size,
number of episodes. With the baseline every seed holds the pole after a few hundred episodes. Without one,
each step of each episode is pushed up, the longer the episode the harder, and the policy drifts to whatever
it happened to do. The total return adds the past to that.

The second figure is the small process. Left: the mean of 20,000 estimates over the exact gradient.
Leave-one-out sits on 1, the mean over all 16 episodes on 15/16, and the normalised estimate, even when
rescaled to fit as well as it can, is off by a different factor in each state. Middle: what the weights buy in
variance where every step is paid. Right: reward-to-go is *no theorem about variance*. A process charges 5 on
its first step and pays 5 on its second, or 6 for the better action. The total return is 0 or 1. The
reward-to-go of the second step is 5 or 6, and the 5 is pure noise: the fee happened to be a perfect baseline
(greensmith2004variance treat baselines as control variates). Subtract a real one and the accident no longer
matters. The log says on which share of random two-step processes reward-to-go is the noisier: an exception,
but not a freak.

The film shows the greedy policy before and after, from the same start.

**Break it.** In `leave_one_out` take the mean over time instead of over episodes: `axis=-2` and `shape[-2]`.
It still looks like a baseline, the code runs, and the shapes agree. But now it contains the return that the
action itself earned, and it forgets what the time is: early steps are praised and late ones blamed, whatever
was done. On four seeds the return rose to between 150 and 450, fell back, and 475 was never held.

**Exercises.** (1) Put the factor $\gamma^t$ back (`discounted=True` in `update`) and predict at which episode
length learning slows down. (2) Show that the mean over all episodes turns (5) into itself times $1-\tfrac1N$.
Why does Adam not care? (3) With `--num-envs 2` the baseline is one other episode. Is the estimate still
unbiased? Does CartPole still learn?
"""


# %%
def greedy_returns(policy: nn.Module, cfg: Config, seed: int) -> np.ndarray:
    """Returns [episodes] of the greedy policy."""
    greedy = lambda obs: logits_of(policy, obs).argmax(axis=-1)  # noqa: E731
    return evaluate(greedy, cfg.env_id, episodes=cfg.num_eval_episodes, seed=seed)


def sustained(metrics: dict, kind: str) -> tuple[float, float]:
    """(CPU seconds, environment steps) at the third check in a row that reached 475; infinite if none did."""
    returns, seconds, steps = (
        [value for _, value in metrics[f"{kind}_{name}"]] for name in ("return", "cpu_seconds", "env_steps")
    )
    third = third_in_a_row(returns, SOLVED)
    return (np.inf, np.inf) if third is None else (seconds[third], steps[third])


def random_mdp(rng: np.random.Generator, num_states: int, num_steps: int, reward: float) -> MDP:
    """Two actions; rewards scatter about `reward`."""
    P = rng.dirichlet(np.ones(num_states), size=(num_states, 2))
    return MDP(P, reward + 0.5 * rng.normal(size=(num_states, 2)), 0.9, num_steps)


def fee_and_refund() -> MDP:
    """State 0 charges 5, state 1 pays 5, or 6 for action 1."""
    P = np.zeros((2, 2, 2))
    P[:, :, 1] = 1.0
    return MDP(P, np.array([[-5.0, -5.0], [5.0, 6.0]]), 1.0, 2)


def claim_exact(mdp: MDP, policy: np.ndarray, log: RunLog) -> Table:
    """What the sum over all batches of three episodes settles; returns the exact gradient."""
    exact = theorem_gradient(mdp, policy)
    means = {kind: exact_moments(mdp, policy, kind, 3)[0] for kind in COLOURS}
    size = np.sqrt((means["normalised"] ** 2).sum() * (exact**2).sum())
    log.claim(
        "enumerated_gap", "total return, reward-to-go and leave-one-out have the exact gradient as mean",
        max(np.abs(means[kind] - exact).max() for kind in HONEST), at_most=1e-12,
        source="the policy gradient theorem, against all batches of three episodes", always=True,
    )  # fmt: skip
    log.claim(
        "own_mean_scale", "a baseline that contains its own episode shrinks the gradient by 1 - 1/N",
        (means["own_mean"] * exact).sum() / (exact**2).sum(), near=(1 - 1 / 3, 1e-9),
        unit="of the gradient, N = 3", source="eq. (5), against all batches of three episodes", always=True,
    )  # fmt: skip
    log.claim(
        "normalised_cosine", "the mean of the batch-normalised estimator is no multiple of the gradient",
        (means["normalised"] * exact).sum() / size, at_most=1 - 1e-6, unit="cosine to the gradient",
        source="a multiple has cosine 1; all batches of three episodes", seeds="9/10",
    )  # fmt: skip
    return exact


def claim_sampled(mdp: MDP, policy: np.ndarray, exact: np.ndarray, cfg: Config, log: RunLog) -> dict:
    """What sampled batches say of the same; returns the mean of each estimator and its standard error."""
    probability = enumerate_episodes(mdp, policy)[2]
    rng = np.random.default_rng(cfg.seed + 1)
    chosen = rng.choice(len(probability), size=(cfg.num_batches, cfg.num_envs), p=probability)
    measured, distance, variance = {}, {}, {}
    for kind in COLOURS:
        estimates = estimates_of(mdp, policy, kind, chosen)
        error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
        measured[kind], distance[kind] = (estimates.mean(axis=0), error), hotelling(estimates, exact)
        variance[kind] = estimates.var(axis=0, ddof=1).sum()
    log.write(0, **{f"{kind}_variance": variance[kind] for kind in HONEST})
    unit = {"unit": "of the 99.9 % quantile of Hotelling's T²", "source": "exact gradient", "seeds": "9/10"}
    log.claim(
        "leave_one_out_distance", "the mean of sampled leave-one-out estimates is the exact gradient",
        distance["leave_one_out"], at_most=1.0, **unit,
    )  # fmt: skip
    for kind, words in (("own_mean", "a mean over the whole batch"), ("normalised", "batch normalisation")):
        statement = f"estimates with {words} do not average to the gradient"
        log.claim(f"{kind}_distance", statement, distance[kind], at_least=1.0, **unit)
    log.claim(
        "baseline_variance_ratio", "the leave-one-out baseline lowers the variance where every step is paid",
        variance["leave_one_out"] / variance["reward_to_go"], at_most=1.0, unit="ratio of variances",
        source="greensmith2004variance", seeds="9/10",
    )  # fmt: skip
    return measured


def small_process(cfg: Config, log: RunLog) -> None:
    """Sections 1 to 3 on a random process, and the counterexample."""
    rng = np.random.default_rng(cfg.seed)
    mdp = random_mdp(rng, cfg.num_states, cfg.num_steps, reward=1.0)
    policy = softmax(rng.normal(size=(cfg.num_states, 2)))
    exact = claim_exact(mdp, policy, log)
    measured = claim_sampled(mdp, policy, exact, cfg, log)
    processes = (mdp, policy), (fee_and_refund(), np.full((2, 2), 0.5))
    variances = [{kind: 3 * exact_moments(*one, kind, 3)[1] for kind in HONEST} for one in processes]
    log.claim(
        "fee_and_refund_ratio", "where an early fee cancels a later payment, reward-to-go is noisier",
        variances[1]["reward_to_go"] / variances[1]["total_return"], at_least=1.0, unit="ratio of variances",
        source="all batches of three episodes", always=True,
    )  # fmt: skip
    noisier = 0
    for _ in range(cfg.num_mdps):
        one = random_mdp(rng, 2, 2, reward=0.0), softmax(rng.normal(size=(2, 2)))
        noisier += exact_moments(*one, "reward_to_go", 1)[1] > exact_moments(*one, "total_return", 1)[1]
    log.write(0, share_where_reward_to_go_is_noisier=noisier / cfg.num_mdps)
    draw_gradient(measured, exact, variances, cfg, log)


def draw_gradient(measured: dict, exact: np.ndarray, variances: list, cfg: Config, log: RunLog) -> None:
    figure, (left, *others) = plotting.new_figure(1, 3, width=5.0)
    names = {
        "leave_one_out": "leave-one-out",
        "own_mean": "mean of all",
        "normalised": "normalised, rescaled",
    }
    for place, (kind, label) in enumerate(names.items()):
        mean, error = measured[kind]
        unit = exact * ((mean * exact).sum() / (exact**2).sum() if kind == "normalised" else 1.0)
        x = np.arange(len(exact)) + 0.2 * (place - 1)
        height, bar = (mean / unit)[:, 0], (1.96 * error / np.abs(unit))[:, 0]
        left.errorbar(x, height, bar, fmt="o", color=COLOURS[kind], capsize=4, label=label)
    left.axhline(1.0, label="exact gradient", **plotting.REFERENCE)
    left.axhline(1 - 1 / cfg.num_envs, color=COLOURS["own_mean"], linestyle=":", label="1 − 1/N")
    low, high = left.get_ylim()
    left.set(xticks=range(len(exact)), xlabel="state", ylabel="mean / exact (95 % interval)")
    left.set(ylim=(low, high + 0.5 * (high - low)), title="Is it the gradient?")
    left.legend(fontsize=10, loc="upper center", ncols=2)
    for ax, values, title in zip(others, variances, ("Every step is paid", "Fee and refund")):
        bars = ax.bar(range(3), values.values(), color=[COLOURS[kind] for kind in values], width=0.6)
        ax.bar_label(bars, fmt="%.2g")
        ax.set(xticks=range(3), xticklabels=["total\nreturn", "reward-\nto-go", "leave-\none-out"])
        ax.set(ylabel="variance × episodes", title=title)
    log.figure(figure, "gradient")


def draw_learning(metrics: list[dict], kinds: list[str], log: RunLog) -> None:
    """Greedy return against episodes; one entry of `metrics` a seed."""
    figure, ax = plotting.new_figure(width=8.0)
    for kind in kinds:
        series = [one[f"{kind}_return"] for one in metrics]  # (episodes, return) pairs
        returns = [[value for _, value in one] for one in series]
        plotting.seed_band(ax, [step for step, _ in series[0]], returns, HONEST[kind], COLOURS[kind])
    ax.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    ax.set(xlabel="training episodes", ylabel="greedy return, mean of 100 episodes", ylim=(0, 690))
    ax.set(title="REINFORCE on CartPole: the weight decides")
    ax.legend(loc="upper left", ncols=2, fontsize=10)
    log.figure(figure)


def film_frames(policies: dict[str, nn.Module], seed: int, num_steps: int = 240) -> list[np.ndarray]:
    """Greedy episodes from one start, one above the other; a fallen one stays on its last picture."""
    from PIL import Image, ImageDraw

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    films = []
    for name, policy in policies.items():
        env = gym.make("CartPole-v1", render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames, terminated = [], False
        for step in range(1, num_steps + 1):
            if not terminated:
                obs, _, terminated, _, _ = env.step(int(logits_of(policy, obs).argmax()))
                picture = Image.fromarray(env.render()[120:330])  # without the floor and the empty sky
                text = f"{name}: step {step}" + (", fallen" if terminated else "")
                ImageDraw.Draw(picture).text((12, 4), text, fill="black", font_size=30)
            frames.append(np.asarray(picture))
        env.close()
        films.append(frames[::3])
    return [np.concatenate(pair, axis=0) for pair in zip(*films)]


def main(cfg: Config, log: RunLog) -> None:
    startup, warm_up = time.process_time(), CpuClock()
    with warm_up:  # the first optimiser of a process imports torch's compiler
        torch.optim.Adam([nn.Parameter(torch.zeros(1))]).step()
    log.write(0, startup_cpu_seconds=startup, optimizer_warm_up_cpu_seconds=warm_up.seconds)

    policy = train(cfg, log)
    seconds, steps = sustained(log.metrics, "leave_one_out")
    log.write(cfg.num_updates, sustained_475_cpu_seconds=seconds, sustained_475_env_steps=steps)
    log.claim(
        "cpu_seconds_to_475", "REINFORCE holds 475 on CartPole for three checks in a row",
        seconds, at_most=2.0, unit="CPU s of learning, to the third check",
        source="below the 2.5 s that SB3's PPO needs at rl-zoo's settings", seeds="9/10", timed=True,
    )  # fmt: skip
    log.claim(
        "fresh_return", "the last policy balances the pole on fresh episodes",
        greedy_returns(policy, cfg, cfg.seed + 20_000).mean(), at_least=SOLVED,
        unit="mean return of 100 episodes", source="the threshold registered for CartPole-v1", seeds="9/10",
    )  # fmt: skip
    kinds = list(HONEST) if cfg.only == "all" else ["leave_one_out"]
    for kind in kinds[:-1]:
        train(cfg, log, kind=kind)
    draw_learning([log.metrics], kinds, log)
    if cfg.only == "all":
        small_process(cfg, log)
    if cfg.only == "all" and not log.smoke:
        seed_everything(cfg.seed)  # the initial weights of `train` once more
        before = make_policy(make_envs(cfg.env_id, 1), cfg.hidden_size)
        log.film(film_frames({"before": before, "after": policy}, cfg.seed + 20_000))


def summarise(runs: list[dict], log: RunLog) -> None:
    """The learning curves over all recorded seeds."""
    draw_learning([run["metrics"] for run in runs], list(HONEST), log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
