# %% [markdown]
r"""
# C5 · Trust regions: TRPO

**Question.** An old policy's data tell of a new one only while the two act alike. How far may a policy move
on them, in which direction, and how much of the answer is left in PPO?

**Before this:** C3 (PPO, proximal policy optimisation). **Changes from C3:** one large, measured step for
each rollout in place of many small, clipped ones. **Next:** C6, continuous actions from old data.

**Time.** 8 s on 2 cores; with all evidence 35 s.

References: `schulman2015trpo`, `kakade2002approximately`, `kakade2001natural`, `achiam2017cpo`,
`engstrom2020implementation`, `schulman2016gae`, `pardo2018timelimits`.

Symbols: `S` states, `A` actions, `T` steps of `N` environments, `B` transitions, `P` weights of the actor;
$\delta$ without an index: how far an update may move the policy.
"""

# %%
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor, nn

from chapters.envs import evaluate, make_envs
from chapters.envs.agents import ActorCritic
from chapters.envs.on_policy import Batch, collect, normalise, prepare
from chapters.exact.mdp import MDP, advantages_of, visits
from chapters.utils import CpuClock, RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

SOLVED = 475.0  # the threshold registered for CartPole-v1
Table = Float[np.ndarray, "S A"]
States = Float[np.ndarray, " S"]
Weights = Float[Tensor, " P"]  # a number for each weight of the actor, all in one row


@dataclass(frozen=True)
class Config:
    """TRPO on CartPole unless told otherwise, and its theory on small random processes."""

    seed: int = 0
    """Seed of torch, numpy, the environments and the random processes."""
    env_id: str = "CartPole-v1"
    """Any environment with vectors as observations and discrete actions."""
    num_envs: Annotated[int, in_range(1, 4096)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 4096)] = 64
    """T: steps per environment in one rollout."""
    num_env_steps: Annotated[int, in_range(1, 100_000_000)] = 61_440
    """Environment steps in all."""
    max_kl: Annotated[float, in_range(1e-8, 100.0)] = 0.01
    """delta: how far one update may move the policy."""
    damping: Annotated[float, in_range(1e-6, 1e6)] = 1e-3
    """Added to the Fisher matrix's diagonal. Large, and the direction becomes the plain gradient."""
    num_cg_steps: Annotated[int, in_range(1, 1000)] = 10
    """Conjugate gradient steps, each costs one product with the Fisher matrix."""
    num_halvings: Annotated[int, in_range(0, 30)] = 10
    """How often a step that went too far is halved before it is given up."""
    num_epochs: Annotated[int, in_range(1, 100)] = 5
    """Passes of the critic over each rollout."""
    minibatch_size: Annotated[int, in_range(2, 1_000_000)] = 256
    """Transitions in one gradient step of the critic."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 5e-3
    """Adam's step size for the critic; the actor needs none."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one step; 1 only at a time limit or the rollout's end."""
    reward_scale: Annotated[float, in_range(1e-6, 1e6)] = 1.0
    """Rewards are multiplied by this before learning."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 2048
    """Environment steps between evaluations."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""


SMOKE = {"num_env_steps": 2048, "eval_every": 1024, "num_eval_episodes": 5}

# %% [markdown]
r"""
## 1. What a new policy gains

A policy $\pi$ has gathered data; another, $\pi'$, is on offer. How much more does it earn ($J$)? Each action
that it takes is better or worse than what $\pi$ would have done there, by $\pi$'s advantage $A^\pi$. These
add up over all the time that $\pi'$ acts. That is C2's *performance difference lemma*
(`kakade2002approximately`). Discounted, the time is $1/(1 - \gamma)$ in all, and $\pi'$ spends the share
$d^{\pi'}(s)$ of it in state $s$:

$$J(\pi') - J(\pi) = \frac{1}{1 - \gamma} \sum_s d^{\pi'}(s) \sum_a \pi'(a \mid s)\, A^\pi(s, a) \tag{1}$$

But nobody has been where the *new* policy goes. So the *surrogate* $L(\pi')$ puts $d^\pi$ in the place of
$d^{\pi'}$: where the old one goes, there are data. At $\pi' = \pi$ its value and slope are right; further off
it errs. Let $\alpha$ be the chance that the two choose differently, in the state where it is largest. The
error grows as $\alpha^2$: one $\alpha$ for having parted before, one for choosing differently now. And
$\alpha^2$ is at most the largest Kullback–Leibler divergence (KL) of any state. So this much is guaranteed
(`schulman2015trpo`):

$$J(\pi') - J(\pi) \;\ge\; L(\pi') - C \max_s \mathrm{KL}\bigl(\pi(\cdot \mid s) \,\Vert\,
\pi'(\cdot \mid s)\bigr), \qquad C = \frac{4\,\gamma\,\max|A^\pi|}{(1 - \gamma)^2} \tag{2}$$

At $\pi' = \pi$ the right side is 0. What raises it is sure to gain. *By hand*: one state, two actions that
pay 1 and 0, $\gamma = ½$. Tossing a coin earns $½ + ¼ + \dots = 1$; the advantages are $\pm ½$, and $C = 4$.
Going to ⅝ and ⅜ gains $2 (⅝ \cdot ½ - ⅜ \cdot ½) = ¼$, at a KL of 0.032: (2) guarantees 0.12. Going to ⅞ and
⅛ gains ¾, but so far from the coin (2) guarantees only -0.9.

```python
>>> coin = MDP(np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), np.array([False]), gamma=0.5)
>>> old, start = np.array([[0.5, 0.5]]), np.ones(1)
>>> print(*[guaranteed_gain(coin, old, np.array([[p, 1 - p]]), start).round(2) for p in (0.625, 0.875)])
0.12 -0.9
```
"""


# %%
def gain(advantages: Table, policy: Table, visited: States, gamma: float) -> float:
    """Eq. (1), if `visited` are the visits of `policy`; the surrogate, if they are the old policy's."""
    return float(visited @ (policy * advantages).sum(axis=1)) / (1 - gamma)  # eq. (1)


def guaranteed_gain(mdp: MDP, old: Table, new: Table, start: States) -> float:
    """The least that going from `old` to `new` adds: the surrogate less a price for the distance."""
    advantages = advantages_of(mdp, old)
    kl = (old * np.log(old / new)).sum(axis=1)  # [S]
    price = 4 * mdp.gamma * np.abs(advantages).max() / (1 - mdp.gamma) ** 2
    return gain(advantages, new, visits(mdp, old, start), mdp.gamma) - price * kl.max()  # eq. (2)


# %% [markdown]
r"""
## 2. The direction: a natural gradient

At $\gamma = 0.99$, $C$ is 39,600 times the largest advantage: steps for which (2) promises a gain are tiny.
*Trust region policy optimisation* (TRPO) puts a limit in the place of the price: raise the surrogate as far
as a *mean* KL of $\delta$ over the visited states allows. For a small step $\Delta$ of the weights the
surrogate is a line of slope $g$, and the mean KL a bowl. The bowl's curvature is the *Fisher matrix* $F$, the
mean outer product of the scores $\nabla \log \pi$ (C0).

$$\overline{\mathrm{KL}} \approx ½\, \Delta^\top F \Delta, \qquad F = \mathbb E_{s \sim d^\pi,\, a \sim \pi}
\bigl[\nabla \log \pi(a \mid s)\; \nabla \log \pi(a \mid s)^\top\bigr] \tag{3}$$

Of all steps with $½ \Delta^\top F \Delta = \delta$ the one along the *natural gradient* $x$ has the largest
gain, $g^\top \Delta$ (`kakade2001natural`). The root makes it as long as that allows:

$$\Delta = \sqrt{2 \delta \,/\, x^\top F x}\;\; x, \qquad F x = g \tag{4}$$

Why natural? The plain gradient calls a step short if the *weights* change little, and so depends on how the
policy happens to be written down. KL asks what the policy *does*. With a logit for each state and action,

$$x(s, a) = A^\pi(s, a) \,/\, (1 - \gamma) \tag{5}$$

up to a number for each state, which a softmax ignores. By (5) every action is pushed by its advantage,
however rare it is. *By hand*: one state, $\gamma = 0$, probabilities 0.9 and 0.1, advantages -0.1 and 0.9.
Nearly sure of the wrong action, this policy would learn slowly from $g = 0.09 \cdot (-1, 1)$. But $F = 0.09
\bigl(\begin{smallmatrix} 1 & -1 \\ -1 & 1 \end{smallmatrix}\bigr)$, and $F$ times the advantages is $g$. So
whoever solves $F x = g$ has the advantages back, in full size.

## 3. Without ever writing the matrix down

CartPole's actor has 4,610 weights, $F$ 21 million entries. But (4) needs only *products* $F v$, and $F$ is
the KL's second derivative: a product is the slope of a slope, two backward passes.

$$F v = \nabla_\theta \bigl(v^\top \nabla_\theta\, \overline{\mathrm{KL}}(\pi_\text{old} \,\Vert\,
\pi_\theta)\bigr) \quad\text{at } \theta = \theta_\text{old} \tag{6}$$

*Conjugate gradients* solve $F x = g$ from products. The solution is the lowest point of the bowl
$½ x^\top F x - g^\top x$. Each step goes to the lowest point along one direction, chosen such that it undoes
nothing of earlier steps. $P$ steps would suffice, and the first ten bring most. *Damping* takes $F v + c v$
for $F v$ ($c$: `damping`), and so keeps $x$ short where $F$ is nearly 0. *By hand*: $\bigl(
\begin{smallmatrix} 2 & 1 \\ 1 & 2 \end{smallmatrix}\bigr) x = (3, 0)$. The first step goes along $(3, 0)$ to
$(1.5, 0)$, the second to $(2, -1)$.

```python
>>> matrix, b = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([3.0, 0.0])
>>> [conjugate_gradients(lambda v: matrix @ v, b, num_steps).tolist() for num_steps in (1, 2)]
[[1.5, 0.0], [2.0, -1.0]]
```

The bowl (3) is an approximation, so the step may go too far. A *line search* measures: of the whole step,
half of it, a quarter and so on, it takes the first that (7) allows. If none is allowed, the policy stays.

$$L(\theta_\text{old} + 2^{-k} \Delta) > L(\theta_\text{old}) \quad\text{and}\quad
\overline{\mathrm{KL}} \le \delta \tag{7}$$

Here $L$ is estimated: it is a rollout's mean of C3's ratio times advantage. The advantages come from
generalised advantage estimation (GAE) and are normalised. $1/(1 - \gamma)$ is left out, and so, as in C0, is
$\gamma^t$: early and late steps count alike. The critic is fitted to the returns.
"""


# %%
def mean_kl(old: Float[Tensor, "B A"], new: Float[Tensor, "B A"]) -> Float[Tensor, ""]:
    """KL from the old policy to the new, exact in each state of the batch, and averaged over them."""
    return (old.exp() * (old - new)).sum(dim=1).mean()


def flat(tensors: Sequence[Tensor]) -> Weights:
    """All numbers of some tensors in one row."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def conjugate_gradients(product: Callable[[Weights], Weights], b: Weights, num_steps: int) -> Weights:
    """The x for which product(x) = b, nearly; `product` is that of a symmetric positive matrix."""
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    square = residual @ residual
    for _ in range(num_steps):
        if square <= 1e-20 * (b @ b):  # solved: another step would divide rounding by rounding
            break
        drop = product(direction)  # a step of length 1 takes this off the residual
        length = square / (direction @ drop)  # to the bottom of the bowl
        x = x + length * direction
        residual = residual - length * drop
        previous, square = square, residual @ residual
        direction = residual + square / previous * direction  # undoes no earlier step
    return x


def surrogate_and_kl(agent: ActorCritic, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(the surrogate, the mean KL from the policy that acted) of the actor as it is now."""
    log_probs = agent.actor(batch["obs"]).log_softmax(dim=1)  # [B, A]
    log_prob = log_probs.gather(1, batch["actions"].unsqueeze(1)).squeeze(1)
    ratio = (log_prob - batch["old_log_probs"]).exp()
    return (ratio * batch["advantages"]).mean(), mean_kl(batch["old_policy"], log_probs)


def fisher_products(agent: ActorCritic, batch: Batch, damping: float) -> Callable[[Weights], Weights]:
    """v -> (F + damping) v, at the weights that acted: there `slope` is 0, and its slope is F."""
    weights = list(agent.actor.parameters())
    _, kl = surrogate_and_kl(agent, batch)
    slope = flat(torch.autograd.grad(kl, weights, create_graph=True))
    return lambda v: flat(torch.autograd.grad(slope @ v, weights, retain_graph=True)) + damping * v  # eq. (6)


def trust_region_step(agent: ActorCritic, batch: Batch, cfg: Config) -> Weights:
    """A step along the natural gradient, so long that its KL by (3) is `max_kl`."""
    surrogate, _ = surrogate_and_kl(agent, batch)
    gradient = flat(torch.autograd.grad(surrogate, list(agent.actor.parameters())))
    product = fisher_products(agent, batch, cfg.damping)
    x = conjugate_gradients(product, gradient, cfg.num_cg_steps)
    return (2 * cfg.max_kl / (x @ product(x)).clamp_min(1e-20)).sqrt() * x  # eq. (4)


def line_search(
    look: Callable[[Weights], tuple[Tensor, Tensor]], old: Weights, step: Weights, cfg: Config
) -> tuple[Weights, float]:
    """(the weights after the largest good part of a step, their KL); `look`: weights -> surrogate, KL."""
    before, _ = look(old)
    for halvings in range(cfg.num_halvings + 1):
        weights = old + 0.5**halvings * step
        surrogate, kl = look(weights)
        if surrogate > before and kl <= cfg.max_kl:  # eq. (7)
            return weights, kl.item()
    return old, 0.0


@torch.no_grad()
def try_weights(agent: ActorCritic, batch: Batch, weights: Weights) -> tuple[Tensor, Tensor]:
    """Put these weights into the actor, and see: (surrogate, mean KL)."""
    nn.utils.vector_to_parameters(weights, agent.actor.parameters())
    return surrogate_and_kl(agent, batch)


def update(agent: ActorCritic, optimizer: Adam, batch: Batch, cfg: Config) -> float:
    """One step of the actor; `optimizer` fits the critic; returns how far the policy moved."""
    batch["advantages"] = normalise(batch["advantages"])
    batch["old_policy"] = agent.actor(batch["obs"]).log_softmax(dim=1).detach()
    old, step = flat(list(agent.actor.parameters())).detach(), trust_region_step(agent, batch, cfg)
    weights, kl = line_search(partial(try_weights, agent, batch), old, step, cfg)
    nn.utils.vector_to_parameters(weights, agent.actor.parameters())  # a refused try may be in there
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["obs"])).split(cfg.minibatch_size):
            loss = (agent.value(batch["obs"][rows]) - batch["returns"][rows]).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return kl


def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None, name: str = "ours") -> ActorCritic:
    """Train one learner; if `envs` are passed in, without evaluations on the way."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs(cfg.env_id, cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    agent = ActorCritic(envs)
    assert envs.single_action_space.n == agent.head.num_outputs  # a box has no `n`: told in a line
    rng = np.random.default_rng(cfg.seed)
    clock = CpuClock()
    optimizer = Adam(agent.critic.parameters(), lr=cfg.learning_rate, eps=1e-5)
    batch_size = envs.num_envs * cfg.num_steps
    num_updates = max(1, cfg.num_env_steps // batch_size)
    for i in log.track(range(num_updates), f"updates ({name})", f"{name}_return"):
        with clock:
            rollout, obs = collect(agent, envs, obs, rng, cfg)
            kl = update(agent, optimizer, prepare(agent, rollout, cfg), cfg)
        step = (i + 1) * batch_size
        log.write(step, **{f"{name}_kl": kl})
        if evaluated and step % cfg.eval_every < batch_size:
            now = {"cpu_seconds": clock.seconds, "return": score(agent, cfg, 10_000)}
            log.write(step, **{f"{name}_{what}": value for what, value in now.items()})
    return agent


def score(agent: ActorCritic, cfg: Config, seed: int) -> float:
    """Mean return of the likeliest actions over whole episodes; training never sees `seed`."""
    returns = evaluate(agent.greedy(), cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)
    return float(returns.mean())


# %% [markdown]
r"""
## 4. Look, break, write

![The surrogate rises on where the truth turns; TRPO's updates stay below delta; CartPole](results/C5.png)

**Left**, a policy with one weight: it takes action 1 with the same chance in both of two states. In the first
action 1 pays, but leads to the second, where it costs. The old policy takes it one time in ten and hardly
sees the second state: the surrogate goes on rising where the truth turns, and (2) soon guarantees nothing.
**Middle**, one run: no update of TRPO passes $\delta$, as many would without the line search. PPO's can; they
shrink with its step size (what is below 1e-5 is drawn there). **Right**, both on ten seeds.

![Steps and CPU seconds to three checks of 475 in a row; dots: seeds, bars: medians](results/C5_race.png)

**The verdict.** A policy may move as far as the surrogate can be believed, and should go where what it *does*
changes least for the gain. The plain gradient, held to the same $\delta$, needs far more steps. The guarantee
holds, but [charges about a thousand times the error](results/C5_bound.png). TRPO puts $\delta$ in its place.
That is a promise for the mean of a batch; single states move much further (`worst_state`).

Of all this PPO keeps the surrogate with its ratio, and the wish to stay near. It does without matrix,
conjugate gradients and line search. On CartPole TRPO with all three needs about as many steps and seconds (as
in `engstrom2020implementation`). Damping 0.1, which libraries take, makes hardly a difference.

<!-- results: C5 -->

`rl run C5`: 7 s; with `--evidence`: 31 s, 927 MB; with `--smoke --evidence`: 8 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| largest_kl           | 0.987 (0.98 to 0.999)           | ≤ 1      | 10/10  |
| fresh_return         | 500                             | ≥ 475    | 10/10  |
| lemma_gap *          | 4.86e-13 (2.91e-13 to 9.47e-13) | ≤ 1e-09  | 10/10  |
| bound_broken *       | 0                               | ≤ 0      | 10/10  |
| mean_bound_broken *  | 0                               | ≤ 0      | 10/10  |
| price_over_error *   | 1,272 (1,172 to 1,313)          | ≥ 1      | 10/10  |
| natural_gap *        | 3.41e-11 (9.09e-12 to 4.97e-11) | ≤ 1e-05  | 10/10  |
| natural_turned *     | 4.44e-16 (3.33e-16 to 5.55e-16) | ≤ 1e-06  | 10/10  |
| fisher_gap *         | 4.48e-16 (3.34e-16 to 8.91e-16) | ≤ 1e-09  | 10/10  |
| cg_gap *             | 2.87e-08 (2.61e-08 to 3.27e-08) | ≤ 1e-06  | 10/10  |
| sb3_gradient_gap *   | 5.4e-07 (4.92e-07 to 7.18e-07)  | ≤ 0.0001 | 10/10  |
| sb3_product_gap *    | 4.1e-07 (3.32e-07 to 5.34e-07)  | ≤ 0.0001 | 10/10  |
| sb3_step_cosine *    | 1                               | ≥ 0.999  | 10/10  |
| worst_state *        | 82.9 (52.2 to 137)              | ≥ 1      | 10/10  |
| unchecked_kl *       | 5.44 (4.25 to 18.3)             | ≥ 1      | 10/10  |
| steps_beside_ppo *   | 0.917                           | ≤ 1      | pooled |
| seconds_beside_ppo * | 1.19                            | ≤ 2      | pooled |
| plain_steps *        | 2.41                            | ≥ 1      | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `largest_kl`: no update of the whole training moves the policy further than delta (of delta)
- `fresh_return`: the last policy balances the pole on fresh episodes (mean return of 100 greedy episodes)
- `lemma_gap`: the gain is the old advantages' mean over the new policy's visits and actions (largest
  difference)
- `bound_broken`: no new policy, near or far, gains less than (2) guarantees (random pairs of policies)
- `mean_bound_broken`: nor less than (E1) guarantees, by the mean over the visited states (random pairs of
  policies)
- `price_over_error`: the price that (2) charges for distance is larger than the surrogate's error (times the
  error, median pair)
- `natural_gap`: with a logit for each state and action the natural gradient is A / (1 - gamma) (of the
  largest entry, 100 processes)
- `natural_turned`: with weights that mix the logits in another way, the natural step still moves the logits
  as it did (1 - cosine, the worst of 100)
- `fisher_gap`: products by two backward passes equal those with the matrix of outer products (of the largest
  entry)
- `cg_gap`: conjugate gradients find the solution of the linear system (of its length)
- `sb3_gradient_gap`: our policy gradient equals sb3-contrib's (of its length, same weights and batch)
- `sb3_product_gap`: our product with F equals sb3-contrib's (of its length, same weights and batch)
- `sb3_step_cosine`: with the linear system solved, our step and sb3-contrib's point the same way (cosine,
  same weights and batch)
- `worst_state`: some update moves the policy further than delta in a single state of its batch (of delta, the
  largest of all)
- `unchecked_kl`: without the line search, some update moves the policy further than delta (of delta, the
  largest)
- `steps_beside_ppo`: TRPO needs no more environment steps than C3's PPO to a sustained 475 (times PPO's,
  medians)
- `seconds_beside_ppo`: TRPO needs at most twice the CPU seconds of C3's PPO to a sustained 475 (times PPO's,
  medians)
- `plain_steps`: the plain gradient, as long in KL, needs more environment steps to a sustained 475 (times
  TRPO's, medians)
</details>

<!-- /results -->

**Break it.** `rl break C5 no_line_search`: which promise falls, and does CartPole mind? `rl break C5
plain_gradient` goes along $g$, held to the same $\delta$: when does it arrive? `rl break C5 downhill` turns
the step round: which function refuses to take it?

**Exercises.**

<!-- exercises: C5 -->

*C5.1 · A matrix that is never there* (40 minutes, medium). Write conjugate gradients, the step (4) with them,
and the line search, from (7). `rl exercise C5.conjugate_gradients`, `rl exercise C5.trust_region_step`, `rl
exercise C5.line_search`.

*C5.2 · A guarantee in the mean* (20 minutes, medium). TRPO bounds a mean over visited states, but (2) takes
the worst state's KL. The bound (E1) takes a mean of distances (`achiam2017cpo`); its maximum is over states.
With the new policy's mean advantage, $\bar A(s) = \sum_a \pi'(a \mid s) A^\pi(s, a)$, and the total
variation, half the sum of absolute differences, $\mathrm{TV}(s) = ½ \sum_a |\pi'(a \mid s) - \pi(a \mid s)|$,

$$J(\pi') - J(\pi) \;\ge\; \frac{1}{1 - \gamma} \sum_s d^\pi(s) \Bigl[\bar A(s) - \frac{2 \gamma
\max|\bar A|}{1 - \gamma}\, \mathrm{TV}(s)\Bigr] \tag{E1}$$

Write its right side. `rl exercise C5.cautious_gain`.

<details><summary>Answer</summary>

Pinsker's inequality, $\mathrm{TV} \le \sqrt{\mathrm{KL}/2}$, and Jensen's then give a bound in the mean KL,
which TRPO limits: if the surrogate rises within $\delta$, nothing worse can happen than a loss of $\sqrt{2
\delta}\, \gamma \max|\bar A| / (1 - \gamma)^2$. At $\gamma = 0.99$ and $\delta = 0.01$ that is still 1,400
times $\max|\bar A|$: true, but no help in choosing a step.
</details>

*C5.3 · Continuous actions* (15 minutes, easy). Beyond what C3 asks of a policy, TRPO needs its KL. For
Gaussians with means $\mu$ and widths $\sigma$, over the numbers $i$ of an action, it is

$$\mathrm{KL} = ½ \sum_i \Bigl[\frac{\sigma_i^2}{\sigma_i'^2} + \frac{(\mu_i' - \mu_i)^2}{\sigma_i'^2} - 1 -
\log \frac{\sigma_i^2}{\sigma_i'^2}\Bigr] \tag{E2}$$

Write its mean over a batch, as `mean_kl` is for discrete actions. The primed ones are the new
policy's. `rl exercise C5.gaussian_kl`.

*C5.4 · A step without weights* (15 minutes, medium). In one state, which distribution $\pi'$ maximises
$\sum_a \pi'(a) A(a) - \frac1\eta \mathrm{KL}(\pi' \Vert \pi)$? Compare it with a step of length $\eta (1 -
\gamma)$ along (5). Where in the course does it come back?

<details><summary>Answer</summary>

The best is proportional to $\pi(a)\, e^{\eta A(a)}$: the objective is a constant less $\frac1\eta$ times the
KL from $\pi'$ to that distribution. (This KL has its arguments the other way round than (3)'s; for small
steps the two agree.) The step along (5) adds $\eta A(a)$ to each logit, which gives the same distribution: a
step along the natural gradient *is* the best step under a KL penalty. With a reward model in place of $A$ and
a reference in place of $\pi$ it is the optimum of D2 and D4, $\pi_\text{ref}\, e^{r / \beta} / Z$.
</details>

*C5.5 · Find the bug* (10 minutes). `rl exercise C5.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    agent = train(cfg, log)
    log.claim(
        "largest_kl",
        "no update of the whole training moves the policy further than delta",
        max(log.series("ours_kl")[1]) / cfg.max_kl,
        at_most=1.0,
        unit="of delta",
        source="the line search, (7)",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "fresh_return",
        "the last policy balances the pole on fresh episodes",
        score(agent, cfg, 20_000),
        at_least=SOLVED,
        unit="mean return of 100 greedy episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )
    log.keep(agent=agent)
    labels = {"title": "TRPO on CartPole", "xlabel": "environment steps", "ylabel": "greedy return"}
    plotting.learning_curve(log, "ours_return", threshold=SOLVED, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
