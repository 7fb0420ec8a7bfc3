# %% [markdown]
r"""
# D15 · Where the KL penalty stands

**Question.** The penalty for leaving the reference can be taken from the reward or added to the loss, and
estimated from samples in three ways. Do all of these ask for the same policy?

**Before this:** D5, which this lesson follows in the course's order. **Changes from D5:** in D2's token world
every completion can be listed. So estimates, gradients and the ends of training are exact. **Next:** D6.

**Time.** 55 s on 2 cores; with all evidence 150 s.

References: `schulman2020kl`, `shao2024deepseekmath`, `ahmadian2024rloo`, `korbak2022bayesian`.

Symbols: $u = \log \pi_\text{ref} - \log \pi_\theta$ of a token or completion $y$, $k$ an estimate made of it,
$r$ reward, $\beta$ penalty weight, $\hat A$ advantage, $w_t$ importance ratio, $m_t$ mask, $\sigma_r$ spread
of a prompt's rewards, as in (6).
"""

# %%
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import tasks
from chapters.text.charts import draw_frontier
from chapters.text.grpo import advantages, average, importance_ratio, schedule
from chapters.text.tasks import log_probs_of
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

KINDS = ("k1", "k2", "k3")
Column = Float[Tensor, " B"]  # a number for each completion of a batch
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token
Table = Float[Tensor, "N M"]  # a number for each completion of each prompt of the token world


@dataclass(frozen=True)
class Config:
    """GRPO on the token world, by default in its published form; other places for its KL penalty."""

    seed: int = 0
    """Seed of the world and of sampling."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.5
    """Weight of the KL penalty."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the penalty stands: a term of the loss, or taken from the reward."""
    kl_kind: Literal["k1", "k2", "k3"] = "k3"
    """The estimate of a token's divergence, if the penalty stands in the loss."""
    divide: bool = True
    """Divide a group's advantages by the standard deviation of its rewards."""
    average: Literal["completions", "tokens", "constant"] = "completions"
    """The loss: mean of each completion's mean, one mean over all tokens, or each completion's sum over T."""
    num_prompts: Annotated[int, in_range(1, 10_000)] = 8
    """Prompts in a batch."""
    group_size: Annotated[int, in_range(2, 10_000)] = 128
    """Completions of each prompt."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 1200
    """Batches sampled and learnt from, one pass over each; also steps along the exact expected update."""
    learning_rate: Annotated[float, in_range(1e-8, 10.0)] = 0.1
    """Adam's step size, after it has risen and before it falls."""


SMOKE = {"num_updates": 3}

# %% [markdown]
r"""
## 1. Three estimates, as values

Training is to raise $J(\pi) = \mathbb E_\pi[r] - \beta\, \mathrm{KL}(\pi \Vert \pi_\text{ref})$: the reward,
less the Kullback–Leibler (KL) divergence from the reference. One policy has the most of it: $\pi^\ast \propto
\pi_\text{ref}\, e^{r/\beta}$ (`korbak2022bayesian`). A learner only has samples $y \sim \pi$. Three estimates
of the divergence need just the $u$ of one sample (`schulman2020kl`):

$$k_1 = -u, \qquad k_2 = \tfrac12 u^2, \qquad k_3 = e^{u} - 1 - u \tag{1}$$

The mean of $k_1$ is the divergence. So is that of $k_3$: it adds $e^u - 1$, which has mean 0, as
$\mathbb E_\pi[e^u] = \sum_y \pi_\text{ref}(y) = 1$. And $k_3$ is never negative. $k_2$ is right only nearly,
while the policies are close. *By hand*, where the divergence is $0.8 \ln 1.6 + 0.2 \ln 0.4 = 0.193$:

```python
>>> policy, reference = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
>>> [round((policy * kl_estimate(policy.log(), reference.log(), kind)).sum().item(), 3) for kind in KINDS]
[0.193, 0.172, 0.193]
```
"""


# %%
def kl_estimate(log_probs: Tensor, ref_log_probs: Tensor, kind: str) -> Tensor:
    """Schulman's estimates, for tokens or for whole completions, whatever the shape."""
    u = ref_log_probs - log_probs
    return {"k1": -u, "k2": 0.5 * u**2, "k3": u.exp() - 1.0 - u}[kind]  # eq. (1)


# %% [markdown]
r"""
## 2. The same estimates, as gradients

In a loss an estimate is differentiated. But $\theta$ stands in two places: in $k$, and in the policy that
draws the samples. The product rule gives a term for each:

$$\nabla\, \mathbb E_\pi[k] = \mathbb E_\pi[\nabla k] + \mathbb E_\pi[k\, \nabla \log \pi] \tag{2}$$

Autograd takes the samples as given: it sees the first term only. For whole completions, with $\nabla u =
-\nabla \log \pi$, and in the last line $\pi\, e^u = \pi_\text{ref}$, that term is

$$\begin{aligned}
\mathbb E[\nabla k_1] &= \mathbb E[\nabla \log \pi] = \nabla \textstyle\sum_y \pi(y) = 0 \\
\mathbb E[\nabla k_2] &= \mathbb E[-u \nabla \log \pi] = \nabla \mathrm{KL}(\pi \Vert \pi_\text{ref}) \\
\mathbb E[\nabla k_3] &= \mathbb E[(1 - e^u) \nabla \log \pi] = \nabla \mathrm{KL}(\pi_\text{ref} \Vert \pi)
\end{aligned} \tag{3}$$

So $k_1$ in a loss is no penalty at all. $k_2$, wrong as a value, is right as a gradient. $k_3$, the choice of
GRPO (*group relative policy optimisation*), pulls along the *other* direction of the divergence. That hardly
minds what has become too *likely*: there $1 - e^u$ stays below 1, while $-u$ grows without bound.

GRPO takes the $u$ of single tokens. Then even $k_2$ forgets something: that a token decides which come next.
*By hand*, for the policies above, along the first logit. The divergence's own slope is
$0.8 \cdot 0.2 \cdot (\ln 1.6 - \ln 0.4) = 0.222$. For the estimates `detach` holds the sampling fixed:

```python
>>> logits, ref = torch.tensor([0.8, 0.2]).log().requires_grad_(), torch.tensor([0.5, 0.5]).log()
>>> estimates = [kl_estimate(logits.log_softmax(0), ref, kind) for kind in KINDS]
>>> slopes = [torch.autograd.grad(logits.detach().exp() @ k, logits, retain_graph=True)[0] for k in estimates]
>>> [round(abs(slope[0].item()), 3) for slope in slopes]
[0.0, 0.222, 0.3]
```
"""


# %%
def exact_estimates(world: TokenWorld, policy: nn.Module) -> dict[str, Float[Tensor, ""]]:
    """Expected value of each estimate in a loss; its gradient is what autograd sees of it, on average.

    `exact` is the divergence itself, with its whole gradient. `k1_reward` is k1 as a penalty in the reward:
    only its gradient means anything. `_tokens` are sums of the estimates of single tokens.
    """
    batch = tasks.every_completion(world)  # [N M] rows
    mask, ref = batch["completion_mask"], batch["ref_log_probs"]
    log_probs = log_probs_of(policy, batch)
    whole, ref_whole = log_probs.sum(dim=1), ref.sum(dim=1)  # [N M]
    probs = whole.detach().exp() / world.num_prompts  # a constant: autograd does not see the sampling
    found = {"exact": world.kl(whole.view(world.num_prompts, -1))}
    found["k1_reward"] = (probs * (whole - ref_whole).detach() * whole).sum()
    for kind in KINDS:
        found[f"{kind}_completions"] = (probs * kl_estimate(whole, ref_whole, kind)).sum()
        found[f"{kind}_tokens"] = (probs * (kl_estimate(log_probs, ref, kind) * mask).sum(dim=1)).sum()
    return found


# %% [markdown]
r"""
## 3. Two places for the penalty

The old way, of proximal policy optimisation (PPO) and of REINFORCE leave-one-out (RLOO), takes $\beta k_1$
from the reward. A policy gradient multiplies a reward by $\nabla \log \pi$, and $k_1 \nabla \log \pi$ is just
the term of (2) that autograd misses. The other one is 0 by (3).

$$\tilde r = r - \beta \textstyle\sum_t m_t \bigl[\log \pi_\text{old} - \log \pi_\text{ref}\bigr] \tag{4}$$

At $\pi^\ast$ this is the same for every completion of a prompt: $\beta \log (\pi^\ast / \pi_\text{ref})$ is
$r$ less a constant. So every advantage is zero, and neither a division nor weights by length (D5) can move
that point. The new way, GRPO's, adds an estimate of each token's divergence to the loss. (Each batch is used
once here: every ratio $w_t = \pi_\theta / \pi_\text{old}$ is 1, and no clip acts.)

$$\ell_t = -w_t \hat A + \beta\, k(u_t) \tag{5}$$

The library `trl` has $w_t k_3$ in place of $k_3$. Where $w_t = 1$, this has the gradient $(k_3 + 1 - e^u)\,
\nabla \log \pi = -u\, \nabla \log \pi$: that of $k_2$.
"""


# %%
def penalised_rewards(rewards: Column, old: Grid, ref: Grid, mask: Mask, beta: float) -> Column:
    """The reward less beta times the log-ratio of what was sampled, policy to reference."""
    return rewards - beta * ((old - ref) * mask).sum(dim=1)  # eq. (4)


def token_losses(log_probs: Grid, batch: dict[str, Tensor], cfg: Config) -> Grid:
    """The loss of each token, before any average."""
    ratio = importance_ratio(log_probs, batch["old_log_probs"], batch["completion_mask"], "token")
    losses = -ratio * batch["advantages"][:, None]
    if cfg.kl_in == "loss":
        estimate = kl_estimate(log_probs, batch["ref_log_probs"], cfg.kl_kind)
        losses = losses + cfg.beta * estimate  # eq. (5)
    return losses


# %% [markdown]
r"""
## 4. Where does it end? Enumerate

A learner rests where its *expected* update is zero. To find that point, weigh each completion by its
probability, as in a group without end, and walk along the expected gradient until hardly anything is left of
it. The advantages in such a group (if the penalty stands in the reward, with $\tilde r$ for $r$):

$$\hat A(y) = \frac{r(y) - \mathbb E_\pi[r]}{\sigma_r}, \qquad \sigma_r^2 = \mathrm{Var}_\pi[r] \tag{6}$$

With the penalty in the loss, a completion's push $\hat A\, \nabla \log \pi - \beta \nabla k$ is
$\bigl[(r - \mathbb E_\pi[r])\, \nabla \log \pi - \beta \sigma_r \nabla k\bigr] / \sigma_r$. So **to divide is
to have $\beta \sigma_r$ in $\beta$'s place**, prompt by prompt. The less a prompt's completions differ in
worth, the less its policy is held. (A factor $1 / \sigma_r$ for a whole prompt does not move its end.)
"""


# %%
def exact_advantages(rewards: Table, probs: Table, divide: bool) -> Table:
    """`advantages` in a group so large that it holds every completion as often as the policy says."""
    centred = rewards - (probs * rewards).sum(dim=1, keepdim=True)
    if not divide:
        return centred
    spread = (probs * centred**2).sum(dim=1, keepdim=True).sqrt()  # [N, 1]
    rounding = 1e-12 * rewards.abs().amax(dim=1, keepdim=True)  # all the spread that equal rewards have
    return torch.where(spread > rounding, centred / spread, 0.0)  # eq. (6)


def expected_loss(policy: nn.Module, batch: dict[str, Tensor], rewards: Table, cfg: Config) -> Tensor:
    """A number whose gradient is the expected gradient of a batch, in the limit of large groups."""
    mask = batch["completion_mask"]
    log_probs = log_probs_of(policy, batch)
    old = log_probs.detach()  # the policy that samples: a constant
    probs = old.sum(dim=1).exp().view_as(rewards)
    if cfg.kl_in == "reward":
        flat = penalised_rewards(rewards.flatten(), old, batch["ref_log_probs"], mask, cfg.beta)
        rewards = flat.view_as(rewards)
    judged = exact_advantages(rewards, probs, cfg.divide).flatten()
    losses = token_losses(log_probs, batch | {"old_log_probs": old, "advantages": judged}, cfg) * mask
    weights = probs.flatten() / len(rewards)  # [N M], they sum to 1
    lengths = mask.sum(dim=1)
    per = {"completions": lengths, "tokens": (weights * lengths).sum(), "constant": mask.shape[1]}
    return (weights * losses.sum(dim=1) / per[cfg.average]).sum()


def fixed_point(world: TokenWorld, cfg: Config) -> tuple[nn.Module, float]:
    """(policy at which the expected update is zero, norm of what is left of it over the first one's)."""
    policy, batch = world.reference(torch.float64), tasks.every_completion(world)
    optimizer = Adam([policy.table], lr=0.1)
    norms = []
    for i in range(cfg.num_updates):
        optimizer.lr = 0.1 * (1.0 - i / cfg.num_updates)
        optimizer.zero_grad()
        expected_loss(policy, batch, world.rewards, cfg).backward()
        norms.append(policy.table.grad.norm().item())
        optimizer.step()
    return policy, norms[-1] / norms[0]


@torch.no_grad()
def collect(
    policy: nn.Module, reference: nn.Module, task: tasks.Task, generator: torch.Generator, cfg: Config
) -> dict[str, Tensor]:
    """D5's batch; if the penalty stands in the reward, it is taken off before the group is judged."""
    rows = torch.randint(len(task.prompt_ids), (cfg.num_prompts,), generator=generator)
    batch = tasks.answer(policy, task, rows.repeat_interleave(cfg.group_size), generator)
    rewards, mask = batch["rewards"], batch["completion_mask"]
    old = batch["old_log_probs"] = log_probs_of(policy, batch)
    ref = batch["ref_log_probs"] = log_probs_of(reference, batch)
    if cfg.kl_in == "reward":
        rewards = penalised_rewards(rewards, old, ref, mask, cfg.beta)
    groups = advantages(rewards.view(-1, cfg.group_size), "group_mean", cfg.divide)
    batch["advantages"] = groups.flatten().to(old.dtype)
    return batch


def train(world: TokenWorld, cfg: Config, log: RunLog, name: str) -> nn.Module:
    """The policy that GRPO makes of the reference by sampling, as in D5."""
    policy, reference, task = world.reference(), world.reference(), tasks.world_task(world)
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam([policy.table], lr=cfg.learning_rate)
    for i in log.track(range(cfg.num_updates), f"updates ({name})"):
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)
        batch = collect(policy, reference, task, generator, cfg)
        losses = token_losses(log_probs_of(policy, batch), batch, cfg)
        loss = average(losses, batch["completion_mask"], cfg.average)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([policy.table], 1.0)
        optimizer.step()
        log.write(i, **{f"{name}_reward": batch["rewards"].mean(), f"{name}_loss": loss.item()})
    return policy


# %% [markdown]
r"""
## 5. Look, break, write

![k1 in the reward and k2 of completions are right as gradients; where two learners end](results/D15.png)

*Left*, at a policy about half-way from the reference to the cross: how far the gradient that autograd sees
lies from the divergence's; without a penalty it would be 1. *Right:* no policy lies above the dashed
frontier, the star is $\pi^\ast$, and squares are the best of $n$ samples (D13). In its published form GRPO
goes elsewhere, and not for want of steps: the cross is where its expected update is zero, found without a
sample. Three causes are the other direction of the divergence, its split into tokens, and the division. The
evidence (`rl run D15 --evidence`) takes them apart:

![The estimates as values and as gradients; one change each, a dot a seed](results/D15_estimates.png)

*Right*: with the penalty in the reward, averages, the division and group sizes hardly matter. In the loss,
$k_1$ is worse than no training; $k_3$ closes less of the gap than $k_2$ does; times the ratio, as much.

![Four learners and the exact frontier; the divergence of each prompt](results/D15_ends.png)

*Right*: on the second prompt rewards differ half as much. There $\pi^\ast$ moves less, and so does $k_3$
undivided; GRPO's published form, which divides, moves equally far on both.

**The verdict.** No. Taken from the reward, the penalty asks for $\pi^\ast$, and sampled GRPO gets there. In
the loss, token by token, every estimate asks for something else: $k_1$ for no penalty, $k_2$ for the right
direction of the divergence and $k_3$ for the other one, both of the next token alone. And there a division
gives each prompt its own $\beta$. A right value is not a right gradient: if you mean $J$, use the reward.

<!-- results: D15 -->

`rl run D15`: 35 s; with `--evidence`: 84 s, 772 MB; with `--smoke --evidence`: 5 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| k3_value             | 8.33e-17 (0 to 2.22e-16)                 | ≤ 1e-10 | 10/10 |
| gradient_k1_texts    | 9.56e-16 (7.3e-16 to 1.09e-15)           | ≤ 1e-08 | 10/10 |
| gap_grpo_kl          | 0.999 (0.998 to 0.999)                   | ≥ 0.95  | 10/10 |
| distance_stock       | 0.0171 (0.00953 to 0.0434); worst 0.0637 | ≤ 0.05  | 9/10  |
| fixed_gap_stock      | 0.538 (0.366 to 0.617)                   | ≤ 0.95  | 10/10 |
| k1_value *           | 2.78e-17 (0 to 1.11e-16)                 | ≤ 1e-10 | 10/10 |
| gradient_k2_texts *  | 2.37e-15 (1.74e-15 to 3.98e-15)          | ≤ 1e-08 | 10/10 |
| gradient_k3_texts *  | 1.79e-15 (1.38e-15 to 2.29e-15)          | ≤ 1e-08 | 10/10 |
| gradient_k3_ratio *  | 1.13e-16 (5.76e-17 to 1.87e-16)          | ≤ 1e-08 | 10/10 |
| gradient_k3_tokens * | 0.345 (0.206 to 0.411)                   | ≥ 0.05  | 10/10 |
| gap_rloo *           | 0.999 (0.998 to 0.999)                   | ≥ 0.95  | 10/10 |
| distance_dr_grpo *   | 0.0104 (0.00563 to 0.024); worst 0.0904  | ≤ 0.05  | 9/10  |
| update_left *        | 3.18e-11 (5.84e-12 to 9.98e-10)          | ≤ 0.001 | 10/10 |
| beta_sigma *         | 1.99e-15 (1.61e-15 to 2.88e-15)          | ≤ 1e-08 | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `k3_value`: as a value, k3 is right on average (nats off)
- `gradient_k1_texts`: k1 in the loss has no expected gradient (of the divergence's)
- `gap_grpo_kl`: with the KL penalty in the reward, undivided, GRPO closes the gap to the exact optimum (of
  the gap)
- `distance_stock`: GRPO in its published form ends where its expected update is 0 (off in KL or reward)
- `fixed_gap_stock`: at that fixed point it has closed only a part of the gap to the exact optimum (of the
  gap)
- `k1_value`: as a value, k1 is right on average (nats off)
- `gradient_k2_texts`: k2 of whole completions in the loss has the gradient of KL(pi || ref) (of the
  divergence's)
- `gradient_k3_texts`: k3 of whole completions in the loss has the gradient of KL(ref || pi) (of the
  divergence's)
- `gradient_k3_ratio`: k3 of tokens, times the ratio, has the gradient of k2 of tokens (of the divergence's)
- `gradient_k3_tokens`: k3 of tokens, GRPO's, has not the gradient of KL(pi || ref) (of the divergence's)
- `gap_rloo`: RLOO closes the gap between the reference and the exact optimum (of the gap)
- `distance_dr_grpo`: Dr. GRPO's undivided loss, with k3 added, ends where its expected update is 0 (off in KL
  or reward)
- `update_left`: at the two fixed points hardly anything is left of the expected update (of the first one)
- `beta_sigma`: to divide by the standard deviation is to have beta times it in beta's place (of the expected
  gradient)
</details>

<!-- /results -->

**Break it.** `rl break D15 reward_for_leaving` turns the sign in (4). `rl break D15 sees_the_sampling` shows
autograd both terms of (2): then $k_1$ has a gradient. Without an edit: `rl run D15 --kl-kind k1`.

**Exercises.**

<!-- exercises: D15 -->

*D15.1 · The heart of it* (30 minutes, medium). Write the three estimates, the loss of each token, and the
advantages of a group that holds every completion, from (1), (5) and (6). `rl exercise D15.kl_estimate`, `rl
exercise D15.token_losses`, `rl exercise D15.exact_advantages`.

*D15.2 · A free number* (25 minutes, medium). As $e^u - 1$ has mean 0, this is right as a value for every $c$,
and it is $k_3$ for $c = 1$:

$$k = -u + c\,(e^u - 1) \tag{E1}$$

A term with mean 0 that is added to lower the variance is called a *control variate*. The least variance is at

$$c = \frac{\mathbb E_\pi[u\,(e^u - 1)]}{\mathbb E_\pi[(e^u - 1)^2]} \tag{E2}$$

Write this $c$, and try it on $\pi = (0.8, 0.2)$, $\pi_\text{ref} = (0.5, 0.5)$, then on policies that are
nearly equal. And what is the mean gradient of (E1), if it stands in a loss? `rl exercise D15.best_factor`.

<details><summary>Answer</summary>

About 0.74 for the two given policies, and nearly 1 for nearly equal ones: that is what recommends $k_3$ as a
value. In a loss the mean gradient is
$-c\, \mathbb E_{\pi_\text{ref}}[\nabla \log \pi] = c\, \nabla\, \mathrm{KL}(\pi_\text{ref} \Vert \pi)$.
So $c$, which is free as a value, sets the penalty's strength.
</details>

*D15.3 · Ask every token* (20 minutes, medium). No estimate is needed for the *next* token: its divergence is
a sum over the vocabulary. Add it up along a completion that was sampled.

$$\textstyle\sum_t m_t \sum_v \pi(v \mid y_{<t})\, \bigl[\log \pi(v \mid y_{<t}) -
\log \pi_\text{ref}(v \mid y_{<t})\bigr] \tag{E3}$$

Its mean over sampled completions is the divergence. Which token is drawn at $t$ adds no noise to the term of
$t$. Does it have the right gradient in a loss? `rl exercise D15.next_token_kl`.

<details><summary>Answer</summary>

No. Its mean gradient is that of $k_2$ of tokens: autograd still does not see that a token decides which come
next.
</details>

*D15.4 · Find the bug* (10 minutes). `rl exercise D15.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""

# %%
BARS = {f"{kind}_{of}": f"{kind} of {of}" for of in ("completions", "tokens") for kind in KINDS} | {
    "k1_reward": "k1 in the reward"
}
IN_REWARD: dict[str, Any] = {"kl_in": "reward", "divide": False, "average": "constant"}
METHODS = {"grpo_kl": IN_REWARD, "stock": {}}  # name of the metrics: settings


def claim_estimates(world: TokenWorld, policy: nn.Module, log: RunLog) -> None:
    """Value and gradient of each estimate at one policy, against the exact divergence."""
    found = exact_estimates(world, policy)
    slopes = {name: torch.autograd.grad(found[name], policy.table, retain_graph=True)[0] for name in found}
    size = slopes["exact"].norm()
    for name in BARS:
        log.write(0, **{f"off_{name}": (slopes[name] - slopes["exact"]).norm() / size})
    rule = {"always": True, "seeds": "10/10", "source": "enumeration of all completions"}
    gap = abs(found["k3_tokens"] - found["exact"]).item()
    log.claim("k3_value", "as a value, k3 is right on average", gap, at_most=1e-10, unit="nats off", **rule)
    says, rest = "k1 in the loss has no expected gradient", slopes["k1_completions"].norm() / size
    log.claim("gradient_k1_texts", says, rest, at_most=1e-8, unit="of the divergence's", **rule)


def report(world: TokenWorld, policy: nn.Module, beta: float, log: RunLog, name: str) -> tuple[float, float]:
    """(KL, reward) of a policy; both, and the share of the gap closed, are written under `name`."""
    log_probs = world.log_probs(policy).detach()
    kl, reward = world.kl(log_probs).item(), world.expected_reward(log_probs).item()
    values = {"token_kl": kl, "token_reward": reward, "gap": world.gap_closed(log_probs, beta)}
    log.write(0, **{name.format(what): value for what, value in values.items()})
    return kl, reward


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    world = token_world(cfg.seed)
    point, left = fixed_point(world, cfg)
    log.write(0, update_left_stock=left)
    places = {"point": report(world, point, cfg.beta, log, "fixed_{}_stock")}
    between = world.reference(torch.float64)
    between.table.data.lerp_(point.table.data, 0.55)
    claim_estimates(world, between, log)
    ends = {name: train(world, replace(cfg, **changes), log, name) for name, changes in METHODS.items()}
    places |= {name: report(world, end, cfg.beta, log, "{}_" + name) for name, end in ends.items()}
    far = max(abs(end / fixed - 1.0) for end, fixed in zip(places["stock"], places["point"]))
    rule = {"source": "enumeration of all completions"}
    says = "with the KL penalty in the reward, undivided, GRPO closes the gap to the exact optimum"
    log.claim("gap_grpo_kl", says, log.last("gap_grpo_kl"), at_least=0.95, unit="of the gap", **rule)
    says = "GRPO in its published form ends where its expected update is 0"
    log.claim("distance_stock", says, far, at_most=0.05, unit="off in KL or reward", **rule)
    says = "at that fixed point it has closed only a part of the gap to the exact optimum"
    log.claim("fixed_gap_stock", says, log.last("fixed_gap_stock"), at_most=0.95, unit="of the gap", **rule)
    draw(world, places, cfg.beta, log)
    log.keep(world=world, point=point, between=between, ends=ends)


def draw(world: TokenWorld, places: dict[str, tuple[float, float]], beta: float, log: RunLog) -> None:
    """The estimates as gradients; reward against KL."""
    figure, (bars, chart) = plotting.new_figure(1, 2, width=6.2, height=4.6)
    off = {label: round(log.last(f"off_{name}"), 3) for name, label in BARS.items()}
    plotting.bar_rows(bars, off, [*[plotting.BLUE] * 3, *[plotting.ORANGE] * 3, plotting.GREEN])
    bars.set(xlabel="distance from the gradient of KL(pi || ref), relative", title="As gradients")
    draw_frontier(chart, world, beta)
    chart.plot(*places["grpo_kl"], "o", color=plotting.BLUE, label="GRPO, penalty in the reward")
    chart.plot(*places["stock"], "o", color=plotting.PURPLE, label="GRPO, its published form")
    chart.plot(*places["point"], "x", color="black", markersize=13, label="where its expected update is 0")
    chart.set_title("Where they end")
    chart.legend(loc="lower right")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
