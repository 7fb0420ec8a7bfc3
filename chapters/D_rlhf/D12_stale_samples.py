# %% [markdown]
r"""
# D12 · The sampler is not the trainer

**Question.** A server writes the texts, in its own arithmetic, or with parameters that are a few updates old.
Which weights on the samples make up for it, what do they cost, and where does a learner end with the others?

**Before this:** D15 (the token world's exact ends), C7 (the same question for values). **Changes from D15:**
the policy that writes is another than the one that learns. **Next:** D6.

**Time.** 30 s on 2 cores; with all evidence 120 s.

References: `yao2025offpolicy`, `hilton2022batch`, `fu2025areal`, `zheng2025gspo`, `espeholt2018impala`,
`sheng2025hybridflow`, `hu2024openrlhf`.

Symbols: policies $\mu$, the *sampler*; $\pi_\theta$, the *trainer*; $\pi_\text{prox}$, *proximal*, from which
a clip measures. Ratios $w_t$ of a token, $W$ of a text, $\rho_t$ that is clipped; $C$ cap, $\omega_t$ what a
token counts, $m_t$ mask, $\hat A$ advantage, $\varepsilon$ clip range, $\beta$ penalty weight.
"""

# %%
import copy
from collections import deque
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import tasks
from chapters.text.charts import draw_estimators
from chapters.text.grpo import advantages, importance_ratio, schedule
from chapters.text.serving import AdaptedPolicy, Sampler, Server, best_adapter, scores, share
from chapters.text.tasks import log_probs_of
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.optim import Adam

CUTS = ("token_truncated", "sequence_truncated", "token_masked", "sequence_masked")
WEIGHTINGS = ("none", "token", "sequence", *CUTS, "geometric")
Column = Float[Tensor, " B"]  # a number for each text of a batch
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token
Batch = dict[str, np.ndarray]  # {name: [B, ...]}: it may have come from another process


@dataclass(frozen=True)
class Config:
    """A learner on the token world whose texts another policy writes."""

    seed: int = 0
    """Seed of the world, of the server's arithmetic and of sampling."""
    beta: Annotated[float, in_range(1e-3, 100.0)] = 0.5
    """Weight of the KL penalty, which is taken from the reward."""
    weighting: Literal[WEIGHTINGS] = "sequence"  # type: ignore[valid-type]
    """What each token of a text counts."""
    cap: Annotated[float, in_range(1.0, 1e9)] = 2.0
    """C: the largest weight of a truncated or masked weighting."""
    temperature: Annotated[float, in_range(0.05, 20.0)] = 1.0
    """By which the server divides its logits."""
    noise: Annotated[float, in_range(0.0, 10.0)] = 0.5
    """Standard deviation of what the server's arithmetic adds to a logit, the same each time it is asked."""
    rounding: Literal["float64", "bfloat16"] = "float64"
    """Numbers in which the server keeps its logits."""
    lag: Annotated[int, in_range(0, 1000)] = 0
    """Updates that the trainer makes between handing out weights and learning from the texts."""
    proximal: Literal["trainer", "sampler"] = "trainer"
    """From which policy the clip measures: the trainer as it was before the first pass, or the sampler."""
    clip_eps: Annotated[float, in_range(1e-3, 1e9)] = 0.2
    """How far a ratio to the proximal policy may go from 1 before it stops paying."""
    group_size: Annotated[int, in_range(2, 10_000)] = 128
    """Texts after each prompt, in every batch."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 200
    """Batches learnt from; also steps along the exact expected update."""
    learning_rate: Annotated[float, in_range(1e-6, 10.0)] = 0.1
    """Adam's step size, after it has risen and before it falls."""


SMOKE = {"num_updates": 3, "group_size": 8}

# %% [markdown]
r"""
## 1. Two policies where there should be one

The trainer here is a frozen reference with an *adapter*: a row of numbers for each last token, added to the
logits, so that a few parameters serve many texts, as in a language model. The server computes the same logits
in its own way: other kernels (our *noise*), coarser numbers, a forgotten temperature. The noise is drawn once
for each prefix: it does not average out. It is larger than a good server's, as our texts have four tokens.

## 2. What a token counts

A policy gradient from the sampler's texts is a mean of

$$\hat g(y) = \textstyle\sum_t m_t\, \omega_t\, \hat A(y)\, \nabla \log \pi_\theta(y_t \mid y_{<t}),
\qquad y \sim \mu \tag{1}$$

$$w_t = \frac{\pi(y_t \mid y_{<t})}{\mu(y_t \mid y_{<t})}, \qquad
W = \textstyle\prod_t w_t^{m_t} = \frac{\pi(y)}{\mu(y)} \tag{2}$$

Here $\pi$ is the trainer as the batch finds it. With $\omega_t = W$ the mean is right, since $\mu(y)\, W =
\pi(y)$. *Token* weights, $\omega_t = w_t$, set right how often this token is chosen, but not how often its
prefix was written, nor what came after. Either can be huge, $W$ sooner. So one *truncates* it, $\min(C,
\cdot)$ (`yao2025offpolicy`), or *masks* it: above $C$ it counts 0. GSPO (group sequence policy optimisation,
`zheng2025gspo`) takes the geometric mean of a text's ratios. So $\omega_t$ is one of

$$1,\quad w_t,\quad W,\quad \min(C, w_t),\quad \min(C, W),\quad w_t\, 1[w_t \le C],\quad W\, 1[W \le C],\quad
W^{1 / \sum_s m_s} \tag{3}$$

*By hand*: two texts of two tokens, with ratios 2 and ½, and 2 and 2; $C$ is 3.

```python
>>> log_probs = torch.tensor([[0.8, 0.3], [0.6, 0.6]]).log()
>>> sampler = torch.tensor([[0.4, 0.6], [0.3, 0.3]]).log()
>>> for kind in ("token", "sequence", "sequence_truncated", "sequence_masked", "geometric"):
...     found = weights(log_probs, sampler, torch.ones(2, 2).bool(), kind, cap=3.0)
...     print(kind, found.round(decimals=2).tolist())
token [[2.0, 0.5], [2.0, 2.0]]
sequence [[1.0, 1.0], [4.0, 4.0]]
sequence_truncated [[1.0, 1.0], [3.0, 3.0]]
sequence_masked [[1.0, 1.0], [0.0, 0.0]]
geometric [[1.0, 1.0], [2.0, 2.0]]
```
"""


# %%
def weights(log_probs: Grid, sampler_log_probs: Grid, mask: Mask, kind: str, cap: float) -> Grid:
    """What each token of the sampler's texts counts: a constant, no gradient flows through it."""
    log_ratio = (log_probs - sampler_log_probs).detach() * mask
    if kind == "none":
        return torch.ones_like(log_ratio)
    if kind == "geometric":
        return importance_ratio(log_probs, sampler_log_probs, mask, "sequence").detach()
    if kind.startswith("sequence"):
        log_ratio = log_ratio.sum(dim=1, keepdim=True).expand_as(log_ratio)
    ratio = log_ratio.exp()  # eq. (2)
    if kind.endswith("truncated"):
        return ratio.clamp(max=cap)
    if kind.endswith("masked"):
        return ratio * (ratio <= cap)
    return ratio  # eq. (3)


# %% [markdown]
r"""
## 3. Three policies, not two

The clip of proximal policy optimisation (PPO) holds a ratio within $1 \pm \varepsilon$. Its "old" policy has
two jobs: samples are *weighed* against the one that wrote them, and steps are *limited* from where the
trainer stood when it began with the batch. With fresh samples they are one policy; with stale ones they are
two (`hilton2022batch`, `fu2025areal`). The *decoupled* loss of a token:

$$\ell_t = -\,\omega_t(\pi_\text{prox}, \mu)\, \min\bigl(\rho_t \hat A,\;
\mathrm{clip}(\rho_t, 1 \pm \varepsilon)\, \hat A\bigr),
\qquad \rho_t = \frac{\pi_\theta(y_t \mid y_{<t})}{\pi_\text{prox}(y_t \mid y_{<t})} \tag{4}$$

At the first pass $\pi_\theta = \pi_\text{prox}$: each $\rho_t$ is 1, no clip acts, and the gradient is that
of (1). So a clip around the trainer corrects *nothing*. A clip around the sampler ($\pi_\text{prox} = \mu$,
then all $\omega_t$ are 1) is no correction either: $\rho_t$ is $w_t$, which weighs the token, and where $w_t$
is outside the range already, on the side that pays, the token gets no gradient from the first step on.

The penalty is taken from the reward, as in D15 (a constant, without a gradient), by the *trainer's* numbers:

$$\tilde r = r - \beta \textstyle\sum_t m_t \bigl[\log \pi_\theta - \log \pi_\text{ref}\bigr], \qquad
\hat A = \tilde r - \text{its mean in the group} \tag{5}$$
"""


# %%
def surrogate(
    log_probs: Grid, proximal: Grid, sampler: Grid, judged: Column, mask: Mask, cfg: Config
) -> Grid:
    """The decoupled loss of each token, from its log-probability under three policies."""
    omega = weights(proximal, sampler, mask, cfg.weighting, cfg.cap)
    ratio = importance_ratio(log_probs, proximal, mask, "token")
    clipped = ratio.clamp(1.0 - cfg.clip_eps, 1.0 + cfg.clip_eps)
    return -omega * torch.min(ratio * judged[:, None], clipped * judged[:, None])  # eq. (4)


def penalised(rewards: Column, log_probs: Grid, ref_log_probs: Grid, beta: float) -> Column:
    """The reward less beta times the text's log-ratio, trainer to reference; both are 0 in padding."""
    return rewards - beta * (log_probs - ref_log_probs).sum(dim=1)  # eq. (5)


# %% [markdown]
r"""
## 4. Bias and variance, by enumeration

All texts after all prompts can be listed, so mean and variance of (1) are sums. The loss (4) depends on
$\theta$ only through the tokens' log-probabilities. Minus its slope along each, times the gradient of that
log-probability (`scores`), summed over the tokens, is a text's $\hat g(y)$.

$$\mathbb E_\mu[\hat g] = \textstyle\sum_y \mu(y)\, \hat g(y), \qquad
\mathrm{Var} = \sum_y \mu(y)\, \lVert \hat g(y) \rVert^2 - \lVert \mathbb E_\mu[\hat g] \rVert^2 \tag{6}$$

For the group's mean in (5) stands the mean under $\mu$, that of an endless group. To see where a learner
*ends*, `exact_end` walks along $\mathbb E_\mu[\hat g]$ until little of it is left.

## 5. The learner

A sampler is sent parameters and answers with texts, as in C7; in the evidence it is a process of its own.
Either way, batch $i$ is written with the parameters after $\max(0, i - $ `lag`$)$ updates. The sampler sends
$\log \mu$ of each token along: *its* numbers, never recomputed by the trainer.
"""


# %%
def moments(
    policy: nn.Module, sampler: Grid, batch: dict[str, Tensor], world: TokenWorld, cfg: Config
) -> tuple[Float[Tensor, " P"], float]:
    """(mean, variance) of one text's estimate along `policy.table`, to be climbed; `batch` has all texts."""
    mask = batch["completion_mask"]
    log_probs = log_probs_of(policy, batch).detach().requires_grad_()
    old = log_probs.detach()
    probs = sampler.sum(dim=1).exp() / world.num_prompts  # [N M], they sum to 1
    ref = batch["ref_log_probs"]
    worth = penalised(world.rewards.flatten(), old, ref, cfg.beta).view_as(world.rewards)
    mean_worth = (probs.view_as(worth) * worth).sum(dim=1, keepdim=True) * world.num_prompts
    judged = (worth - mean_worth).flatten()
    proximal = old if cfg.proximal == "trainer" else sampler
    losses = surrogate(log_probs, proximal, sampler, judged, mask, cfg) * mask
    (slope,) = torch.autograd.grad(-losses.sum(), log_probs)
    each = torch.einsum("bt,btp->bp", slope, scores(policy, batch))  # eq. (1)
    mean = probs @ each
    return mean, (probs @ each.square().sum(dim=1) - mean.square().sum()).item()  # eq. (6)


def exact_end(world: TokenWorld, cfg: Config, policy: nn.Module | None = None) -> tuple[nn.Module, float]:
    """(policy at the end of a walk along the expected update, norm of the last over the first one's)."""
    policy = policy or AdaptedPolicy(world)
    older, batch = copy.deepcopy(policy), tasks.every_completion(world)
    server, optimizer = Server(older, world, cfg), Adam([policy.table], lr=cfg.learning_rate)
    tables, norms = deque(maxlen=cfg.lag + 1), []
    for i in range(cfg.num_updates):
        tables.append(policy.table.detach().clone())
        with torch.no_grad():
            older.table.copy_(tables[0])  # the weights of `lag` updates ago; at first the initial ones
            sampler = log_probs_of(server, batch)
        mean, _ = moments(policy, sampler, batch, world, cfg)
        policy.table.grad = -mean.view_as(policy.table)
        norms.append(mean.norm().item())
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)
        optimizer.step()
    return policy, norms[-1] / norms[0]


def update(policy: nn.Module, reference: nn.Module, optimizer: Adam, batch: Batch, cfg: Config) -> float:
    """One step on one batch; returns the mean weight of a token."""
    data = {name: torch.from_numpy(values) for name, values in batch.items()}
    mask, sampler = data["completion_mask"], data["sampler_log_probs"]
    log_probs = log_probs_of(policy, data)
    old, ref = log_probs.detach(), log_probs_of(reference, data).detach()
    worth = penalised(data["rewards"], old, ref, cfg.beta)
    judged = advantages(worth.view(-1, cfg.group_size), "group_mean", divide=False).flatten()
    proximal = old if cfg.proximal == "trainer" else sampler
    losses = surrogate(log_probs, proximal, sampler, judged, mask, cfg) * mask
    optimizer.zero_grad()
    (losses.sum() / len(mask)).backward()
    optimizer.step()
    return weights(old, sampler, mask, cfg.weighting, cfg.cap)[mask].mean().item()


def train(cfg: Config, log: RunLog, name: str, sampler: Any = None) -> nn.Module:
    """The policy that is learnt from this sampler's texts, or from those of one in this process."""
    world = token_world(cfg.seed, **WORLD)
    policy, reference = AdaptedPolicy(world), world.reference(torch.float64)
    optimizer = Adam([policy.table], lr=cfg.learning_rate)
    sampler = sampler or Sampler(world, cfg)
    for i in log.track(range(-cfg.lag, cfg.num_updates), f"updates ({name})"):
        if i + cfg.lag < cfg.num_updates:  # the first `lag` batches are ordered at once
            sampler.ask(policy.table.detach().numpy().copy())
        if i < 0:
            continue
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)
        batch = sampler.answer()
        weight = update(policy, reference, optimizer, batch, cfg)
        log.write(i, **{f"{name}_reward": batch["rewards"].mean(), f"{name}_weight": weight})
    return policy


# %% [markdown]
r"""
## 6. Look, break, write

![Bias against spread of nine estimators; how far from the best adapter each ends](results/D12.png)

*Left*, halfway to the best adapter: only the whole text's ratio has no bias, and it has the largest spread.
*Right*, how far below the best each ends: bias moves the end, if in another order. All seeds, more faults:

![Where learners end: a noisy server, a forgotten temperature, old texts](results/D12_ends.png)

A mismatch is there at each update. Staleness is not: at rest the old policy *is* the new one, every ratio is
1, and all end at one place (right panel; with larger steps, some still swing about it, as in the last panel
of "age" below). Masking can be worse than doing nothing: it drops just what the server writes too seldom. A
clip around the sampler silences good tokens that are written too seldom, and bad ones written too often.

![Bias and spread against the size of the mismatch](results/D12_mismatch.png)
![Bias and spread against the age of texts; several passes over old texts](results/D12_stale.png)
![What length costs, and what age brings](results/D12_cost.png)

The mean square of $W$ is at least $e$ to the divergence (`square_above_kl`), which adds up over tokens: $W$
costs more on long texts (a zigzag: each length is another world). Age buys speed: neither side waits. A
policy that can write *any* distribution ends right without weights (`table_end`): every $\hat A$ is 0 there.

**What libraries do by default.** Transformer Reinforcement Learning (TRL) 1.12.0 (a test reads its source),
with vLLM as the server: `vllm_importance_sampling_correction` on, mode `sequence_mask`, $C = 3$, clip around
the trainer; a penalty in its loss is not weighed. As of August 2026: verl (`sheng2025hybridflow`, commit
1dda039), clip around the trainer, `rollout_is: null`, no weights; OpenRLHF (`hu2024openrlhf`, 0.11.0) none
unless asked, then tokens cut to 0.5 to 5, so small weights are *raised*; AReaL (`fu2025areal`, 2.0.0):
decoupled loss and staleness off, a clip around the *sampler*, by its numbers.

**The verdict.** Only the ratio of the whole text leaves the end in place despite a mismatch. It costs spread,
more on longer texts. Truncated, it spreads less and ends near; other weights, or none, end farther off, a
clip around the sampler farthest. Staleness alone does not move the end. Weigh by the *sampler's* numbers.

<!-- results: D12 -->

`rl run D12`: 19 s; with `--evidence`: 63 s, 915 MB; with `--smoke --evidence`: 23 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| sequence_bias       | 1.2e-15 (7.89e-16 to 1.82e-15) | ≤ 1e-09          | 5/5 |
| clip_alone          | 0                              | ≤ 1e-12          | 5/5 |
| end_sequence        | 1                              | ≥ 0.999          | 5/5 |
| end_none            | 0.966 (0.948 to 0.991)         | ≤ 0.999          | 5/5 |
| learnt              | 0.996 (0.995 to 1)             | ≥ 0.9662         | 5/5 |
| cap_second_moment * | 0.982 (0.908 to 0.99)          | ≤ 1              | 5/5 |
| stale_bias *        | 3.6e-15 (2.4e-15 to 7.23e-15)  | ≤ 1e-09          | 5/5 |
| stale_clip *        | 0.0143 (0.00812 to 0.0815)     | ≥ 1e-06          | 5/5 |
| end_clip *          | 0.767 (0.155 to 0.885)         | ≤ 0.999          | 5/5 |
| stale_ends *        | 1 (0.999 to 1)                 | ≥ 0.99           | 5/5 |
| table_end *         | 1 (0.999 to 1)                 | ≥ 0.99           | 5/5 |
| square_above_kl *   | 1.09 (1.08 to 1.11)            | ≥ 0.999999999999 | 5/5 |
| process_gap *       | 0                              | ≤ 0              | 5/5 |
| above_shortest *    | 1.09 (1.07 to 1.13)            | ≥ 1              | 5/5 |
| overlap *           | 1.86 (1.58 to 2.09)            | ≥ 1.414          | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `sequence_bias`: weighed by the whole text's ratio, any server's texts give the exact gradient on average
  (of the exact gradient's norm)
- `clip_alone`: a clip around the trainer's own old policy leaves the bias as it is without: it corrects
  nothing (of the exact gradient's norm)
- `end_sequence`: where the expected update of sequence weights is 0 stands the best adapter (of the best
  adapter's objective)
- `end_none`: without weights the expected update ends elsewhere, and lower (of the best adapter's objective)
- `learnt`: sampled, too, sequence weights bring the learner above where no weights end even on average (of
  the best adapter's objective)
- `cap_second_moment`: a cap on a text's ratio, truncated or masked, never raises the mean square of its
  estimate (of the mean square without a cap)
- `stale_bias`: weighed by the whole text's ratio, texts of any age give the exact gradient at the first pass
  (of the exact gradient's norm)
- `stale_clip`: a clip corrects no old text: around the trainer or the sampler, it leaves a bias at every age
  (of the exact gradient's norm)
- `end_clip`: on a noisy server's texts a clip around the sampler, too, ends elsewhere, and lower (of the best
  adapter's objective)
- `stale_ends`: with texts of 16 updates ago from an exact server, and small steps, all end at the best
  adapter (of the best adapter's objective)
- `table_end`: without weights, a policy that can write every distribution still ends at the exact optimum (of
  the gap to the exact optimum)
- `square_above_kl`: the mean square of a text's ratio is at least e to the divergence of trainer from sampler
  (times e to the KL divergence of a text, smallest of six lengths)
- `process_gap`: a sampler in a process of its own gives the trainer the same weights as one in this process
  (largest difference of a weight)
- `above_shortest`: no run takes less time than its waits alone (of the shortest possible time, at the fastest
  lag)
- `overlap`: data 4 updates old bring half at least of the speed that overlapping waits could bring (times the
  updates a second of lag 0)
</details>

<!-- /results -->

**Break it.** `rl break D12 no_weights` forgets who wrote; `rl break D12 sampler_penalised` takes the penalty
by the server's numbers. Without an edit: `rl run D12 --weighting sequence_masked --temperature 0.7`.

**Exercises.**

<!-- exercises: D12 -->

*D12.1 · The heart of it* (40 minutes, medium). Write the weights of (3), the loss of (4), and the exact mean
and variance of (6). `rl exercise D12.weights`, `rl exercise D12.surrogate`, `rl exercise D12.moments`.

*D12.2 · How many texts are these worth?* (15 minutes, easy). A log has the log-ratio of each token, trainer
to sampler. If the trainer had written texts itself, which share of $B$ would have done as well?

$$\frac{1}{B}\, \frac{\bigl(\sum_i W_i\bigr)^2}{\sum_i W_i^2} \tag{E1}$$

Real texts have thousands of tokens: take care that nothing overflows. `rl exercise D12.effective_share`.

*D12.3 · How long may a text be?* (10 minutes, easy). Say that each token's ratio has $\mathbb E_\mu[w_t^2] =
1 + \chi^2$, whatever stands before it. Then a text of $T$ tokens has $\mathbb E_\mu[W^2] = (1 + \chi^2)^T$.
How long may it be, if that is to stay within a budget?

$$(1 + \chi^2)^T \le \text{budget} \tag{E2}$$

Try $\chi^2$ of 0.01 and 0.001 with a budget of 2. `rl exercise D12.longest_text`.

<details><summary>Answer</summary>

69 and 693 tokens. So on long texts nobody can afford the ratio of the whole, even with a good server. One
pays with bias instead: weights by token, or a cap.
</details>

*D12.4 · A ratio of 1 in the log* (5 minutes, easy). A trainer gets texts from a server without their
log-probabilities, recomputes these itself, and takes them for the sampler's. Its log shows a mean ratio of
exactly 1 at every first pass, and no token clipped. Is the server exact?

<details><summary>Answer</summary>

Nobody can say. The ratio compares the trainer with itself. Only the sampler's own numbers tell (here
`sampler_log_probs`); `rl break D12 numbers_recomputed` has this log and ends where no weights end.
</details>

*D12.5 · Find the bug* (10 minutes). `rl exercise D12.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""

# %%
WORLD = {"num_symbols": 4, "length": 4}
LABELS = {name: name.replace("_", ", ") for name in WEIGHTINGS} | {
    "none": "no weights",
    "geometric": "geometric mean",
    "clip": "clip around the sampler",
}


def settings(name: str) -> dict[str, Any]:
    """What a key of `LABELS` changes in a Config."""
    if name == "clip":
        return {"weighting": "none", "proximal": "sampler"}
    return {"weighting": name, "proximal": "trainer"}


def bias_and_spread(world: TokenWorld, policy: nn.Module, old: nn.Module, cfg: Config) -> tuple[float, float]:
    """(distance of the mean estimate from the exact gradient, deviation of one text's), over its norm."""
    batch = tasks.every_completion(world)
    objective = world.objective(world.log_probs(policy), cfg.beta)
    exact = torch.autograd.grad(objective, policy.table)[0].flatten()
    with torch.no_grad():
        sampler = log_probs_of(Server(old, world, cfg), batch)
    mean, variance = moments(policy, sampler, batch, world, cfg)
    return ((mean - exact).norm() / exact.norm()).item(), max(variance, 0.0) ** 0.5 / exact.norm().item()


def claim_gradients(world: TokenWorld, policy: nn.Module, cfg: Config, log: RunLog) -> None:
    """What is exactly so of (1) and (4), whatever the server does."""
    rule = {"always": True, "seeds": "5/5", "source": "enumeration of all texts"}
    rule |= {"unit": "of the exact gradient's norm"}
    whole = replace(cfg, weighting="sequence", proximal="trainer")
    servers = ({}, {"temperature": 0.7}, {"noise": 2.0}, {"rounding": "bfloat16"})
    off = [bias_and_spread(world, policy, policy, replace(whole, **one))[0] for one in servers]
    says = "weighed by the whole text's ratio, any server's texts give the exact gradient on average"
    log.claim("sequence_bias", says, max(off), at_most=1e-9, **rule)
    alone = replace(whole, weighting="none")
    clipped, _ = bias_and_spread(world, policy, policy, alone)
    never, _ = bias_and_spread(world, policy, policy, replace(alone, clip_eps=1e9))
    says = "a clip around the trainer's own old policy leaves the bias as it is without: it corrects nothing"
    log.claim("clip_alone", says, abs(clipped - never), at_most=1e-12, **rule)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    world = token_world(cfg.seed, **WORLD)
    best = best_adapter(world, cfg.beta)
    midway = AdaptedPolicy(world)
    midway.table.data.copy_(0.5 * best.table.data)
    ends = {}
    for name in LABELS:
        changed = replace(cfg, lag=0, **settings(name))
        bias, spread = bias_and_spread(world, midway, midway, changed)
        end, left = exact_end(world, changed)
        ends[name] = share(world, end, best, cfg.beta)
        found = {"bias": bias, "spread": spread, "end": ends[name], "update_left": left}
        log.write(0, **{f"{what}_{name}": value for what, value in found.items()})
    claim_gradients(world, midway, cfg, log)
    rule = {"unit": "of the best adapter's objective", "source": "enumeration of all texts"}
    says = "where the expected update of sequence weights is 0 stands the best adapter"
    log.claim("end_sequence", says, ends["sequence"], at_least=0.999, **rule)
    says = "without weights the expected update ends elsewhere, and lower"
    log.claim("end_none", says, ends["none"], at_most=0.999, **rule)
    learnt = share(world, train(cfg, log, "ours"), best, cfg.beta)
    says = "sampled, too, sequence weights bring the learner above where no weights end even on average"
    log.claim("learnt", says, learnt, at_least=ends["none"], **rule)
    draw_estimators(LABELS, log)
    log.keep(world=world, best=best, midway=midway)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
