# %% [markdown]
r"""
# D5 · GRPO with verifiable rewards

**Question.** If a program can check the answer, reinforcement learning needs neither a reward model nor a
critic. What does GRPO put in the critic's place, which of its details change *what* is learnt and not just
how fast, and why is its loss zero while its gradient is not?

**Before this:** D4. **Changes from D2:** the critic is gone. Each prompt is answered several times, and an
answer is good if it beats the others of its group. **Next:** D6 puts a person in the place of the checker.

**Time budget.** 300 s on 2 cores.

<!-- results: D5 -->

`rl run D5`: 148 s, 1376 MB. `rl run D5 --smoke`: 16 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| first_loss         | 6.07e-18 (3.47e-18 to 1.21e-17) | ≤ 1e-10     | 5/5 |
| first_gradient     | 0.0614 (0.0335 to 0.0716)       | ≥ 0.001     | 5/5 |
| first_gradient_gap | 0                               | ≤ 1e-10     | 5/5 |
| gap_grpo_kl        | 0.998 (0.997 to 0.998)          | ≥ 0.95      | 5/5 |
| gap_rloo           | 0.998 (0.997 to 0.998)          | ≥ 0.95      | 5/5 |
| distance_dr_grpo   | 0.0169 (0.0101 to 0.0209)       | ≤ 0.05      | 5/5 |
| distance_stock     | 0.015 (0.0108 to 0.029)         | ≤ 0.05      | 5/5 |
| update_left        | 5.8e-06 (1.72e-06 to 7.2e-06)   | ≤ 0.001     | 5/5 |
| fixed_gap_stock    | 0.559 (0.366 to 0.617)          | ≤ 0.95      | 5/5 |
| beta_sigma         | 2.06e-15 (1.6e-15 to 3.03e-15)  | ≤ 1e-08     | 5/5 |
| k1_value           | 1.11e-16 (0 to 1.11e-16)        | ≤ 1e-10     | 5/5 |
| k3_value           | 2.22e-16 (1.11e-16 to 2.22e-16) | ≤ 1e-10     | 5/5 |
| gradient_k1_texts  | 8.1e-16 (6.84e-16 to 1.46e-15)  | ≤ 1e-08     | 5/5 |
| gradient_k2_texts  | 2.88e-15 (1.41e-15 to 3.73e-15) | ≤ 1e-08     | 5/5 |
| gradient_k3_texts  | 2.06e-15 (1.67e-15 to 3.17e-15) | ≤ 1e-08     | 5/5 |
| gradient_k3_ratio  | 9.9e-17 (6.79e-17 to 1.89e-16)  | ≤ 1e-08     | 5/5 |
| gradient_k3_tokens | 0.345 (0.199 to 0.411)          | ≥ 0.05      | 5/5 |
| trl_advantages_gap | 4.77e-07 (2.38e-07 to 4.77e-07) | ≤ 1e-05     | 5/5 |
| trl_loss_gap       | 5.96e-08 (5.96e-08 to 1.19e-07) | ≤ 1e-05     | 5/5 |
| faster_than_trl    | 1.3 (1.24 to 1.46)              | ≥ 1         | 5/5 |
| trl_seconds        | 1.44 (1.36 to 1.51)             | ≥ 1         | 5/5 |
| trl_memory         | 1.09 (1.07 to 1.12)             | ≥ 1         | 5/5 |
| entropy            | 0.107 (0.0924 to 0.135)         | ≤ 1         | 5/5 |
| pass_gain          | 0.788 (0.732 to 0.798)          | ≥ 0         | 5/5 |
| greedy_before      | 0.353                           | 0.3 ± 0.15  | 5/5 |
| greedy_after       | 0.996 (0.976 to 1)              | ≥ 0.9       | 5/5 |
| sampled_before     | 0.117 (0.0893 to 0.125)         | 0.17 ± 0.15 | 5/5 |
| sampled_after      | 0.924 (0.858 to 0.933)          | ≥ 0.6       | 5/5 |

<!-- /results -->

References: `shao2024deepseekmath`, `deepseek2025r1`, `ahmadian2024rloo`, `kool2019buy`, `liu2025drgrpo`,
`yu2025dapo`, `zheng2025gspo`, `schulman2017ppo`, `schulman2020kl`, `korbak2022bayesian`, `chen2021codex`,
`yue2025reasoning`.

Symbols: `N` prompts, `G` answers to each (a *group*), `B = N G` texts in a batch, `P` tokens of a prompt, `T`
of the longest completion, `M` completions that exist in the token world, $m_t$ mask.
"""

# %%
import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.D_rlhf.evidence import D5_figures as grpo_figures
from chapters.D_rlhf.evidence import D5_tools as tools
from chapters.D_rlhf.evidence import D5_trl as grpo_peer
from chapters.envs import arithmetic
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text.models import load_model
from chapters.text.recipes import arithmetic_recipe
from chapters.utils import CpuClock, RunLog, in_range, run_lesson
from chapters.utils.seeding import seed_everything

Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token
Table = Float[Tensor, "N M"]  # a number for each completion of each prompt of the token world
KINDS = ("k1", "k2", "k3")
WARMUP = 10  # updates over which the step size rises: Adam's first steps are its wildest
EPS = 1e-4  # keeps a group of equal rewards from dividing by zero


# %%
@dataclass(frozen=True)
class Config:
    """GRPO and its relatives on sums whose answers are checked, and on a world small enough to enumerate."""

    seed: int = 0
    """Seed of prompts, sampling and the token world."""
    only: Literal["all", "arithmetic", "tokens"] = "all"
    """Run everything, or just the sums with GRPO, or just the token world."""
    model: str = "tiny"
    """tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 120
    """Steps that train the tiny model, once; more make a better base and leave less to learn."""
    num_prompts: Annotated[int, in_range(1, 10_000)] = 32
    """N: prompts in a batch."""
    group_size: Annotated[int, in_range(2, 10_000)] = 8
    """G: answers to each prompt."""
    num_tokens: Annotated[int, in_range(1, 1000)] = arithmetic.ANSWER_TOKENS
    """T: longest completion."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 200
    """Batches sampled and learnt from."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch; on the first, every ratio is 1."""
    learning_rate: Annotated[float, in_range(1e-8, 1.0)] = 2e-3
    """Adam's step size, after a warm-up and before it falls."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.02
    """Price of divergence from the reference."""
    baseline: Literal["group_mean", "leave_one_out"] = "group_mean"
    """What an answer is compared with: its whole group, or the others of it."""
    divide: bool = True
    """Divide a group's advantages by the standard deviation of its rewards."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where divergence is paid for: a term of the loss, or a charge on the reward."""
    kl_kind: Literal["k1", "k2", "k3"] = "k3"
    """The estimator of a token's divergence if it stands in the loss."""
    kl_ratio: bool = False
    """There, weigh it by the token's ratio: 1 in value, and it turns k3's gradient into k2's."""
    average: Literal["texts", "tokens", "constant"] = "texts"
    """The loss: mean of each text's mean, one mean over all tokens, or each text's sum over T."""
    ratio: Literal["token", "sequence"] = "token"
    """Importance ratio of each token, or the geometric mean of a text's ratios."""
    clip_low: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a ratio may fall before the reason to lower it further is taken away."""
    clip_high: Annotated[float, in_range(0.0, 100.0)] = 0.2
    """How far a ratio may rise."""
    dynamic_sampling: bool = False
    """Sample until every group of the batch holds different rewards."""
    num_samples: Annotated[int, in_range(2, 10_000)] = 64
    """Answers to each held-out sum for pass@k."""
    num_ablation_updates: Annotated[int, in_range(1, 100_000)] = 50
    """Updates of each changed learner on the sums."""
    num_token_updates: Annotated[int, in_range(1, 100_000)] = 400
    """Updates on the token world, and steps along the exact expected update."""
    token_beta: Annotated[float, in_range(0.0, 100.0)] = 0.5
    """Price of divergence there."""


SMOKE = {
    "pretrain_steps": 10, "num_prompts": 4, "num_updates": 2, "num_epochs": 2, "num_samples": 8,
    "num_ablation_updates": 1, "num_token_updates": 3,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {  # what each paper changes, next to GRPO as it was published
    "GRPO": {},
    "RLOO": {"baseline": "leave_one_out", "divide": False, "kl_in": "reward", "average": "constant"},
    "Dr. GRPO": {"divide": False, "average": "constant"},
    "DAPO": {"clip_high": 0.28, "average": "tokens", "dynamic_sampling": True, "beta": 0.0},
    "GSPO": {"ratio": "sequence", "clip_low": 0.02, "clip_high": 0.03},
}  # fmt: skip

# %% [markdown]
r"""
## 1. A group in the critic's place

Ask the same question $G$ times. The checker gives each answer a reward $r_i$, here 1 or 0. How much a 1 means
depends on how hard the question is, and the other answers tell (`shao2024deepseekmath`):

$$\hat A_i = \frac{r_i - \bar r}{\sigma_r + \varepsilon}, \qquad
\bar r = \tfrac1G \textstyle\sum_j r_j, \quad
\sigma_r^2 = \tfrac1{G-1} \textstyle\sum_j (r_j - \bar r)^2 \tag{1}$$

The mean holds the answer's own reward. RLOO leaves that out, and the gradient is unbiased (`kool2019buy`,
`ahmadian2024rloo`):

$$\hat A_i = r_i - \tfrac{1}{G-1} \textstyle\sum_{j \ne i} r_j = \tfrac{G}{G-1}\,(r_i - \bar r) \tag{2}$$

The two differ by a factor that a learning rate absorbs. The *division* is another matter: every question
weighs the same, however little its answers differ. A group whose rewards are all equal has nothing to say;
DAPO samples until it has $N$ groups that do (`yu2025dapo`).
"""


# %%
def advantages(
    rewards: Float[Tensor, "N G"], baseline: str = "group_mean", divide: bool = True
) -> Float[Tensor, "N G"]:
    """How much better each answer is than its group."""
    size = rewards.shape[1]
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if baseline == "leave_one_out":
        centred = centred * size / (size - 1)  # eq. (2)
    if divide:
        centred = centred / (rewards.std(dim=1, keepdim=True) + EPS)  # eq. (1)
    return centred


def informative(rewards: Float[Tensor, "N G"]) -> Bool[Tensor, " N"]:
    """Which groups hold different rewards: the others have no gradient but the KL's."""
    return rewards.amax(dim=1) > rewards.amin(dim=1)


# %% [markdown]
r"""
## 2. Ratio, clip, average

The ratio is PPO's, for each token. GSPO has one for the whole text, as the reward has (`zheng2025gspo`): the
geometric mean, for without the $1/|y|$ it would swing the more, the longer the text is:

$$w_t = \frac{\pi_\theta(y_t \mid x, y_{<t})}{\pi_{\theta_\text{old}}(y_t \mid x, y_{<t})}, \qquad
w^\text{GSPO} = \exp\Bigl[\tfrac{1}{|y|} \textstyle\sum_t m_t \log w_t\Bigr] \tag{3}$$

The objective is PPO's; DAPO lets a ratio rise further than it may fall, so that rare tokens have room:

$$L_t = \min\bigl(w_t \hat A,\; \mathrm{clip}(w_t,\, 1-\epsilon_\text{low},\, 1+\epsilon_\text{high})\, \hat A
\bigr) \tag{4}$$

Then the average over tokens, where papers part. Each text has weight $v_i = 1/B$:

$$\text{texts: } \sum_i v_i \tfrac{1}{|y_i|} \sum_t m_{it} \ell_{it}, \qquad
\text{tokens: } \frac{\sum_i v_i \sum_t m_{it} \ell_{it}}{\sum_i v_i |y_i|}, \qquad
\text{constant: } \sum_i v_i \tfrac1T \sum_t m_{it} \ell_{it} \tag{5}$$

GRPO's mean of means pushes a token of a long answer less: a long wrong answer is hardly punished. DAPO counts
all tokens alike. Only Dr. GRPO's constant leaves the gradient that of the mean reward (`liu2025drgrpo`).
"""


# %%
def importance_ratio(log_probs: Grid, old_log_probs: Grid, mask: Mask, level: str) -> Grid:
    """New over old probability of each token; at level "sequence" all tokens of a text share one."""
    log_ratio = (log_probs - old_log_probs) * mask
    if level == "sequence":
        log_ratio = (log_ratio.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)).expand_as(log_ratio)
    return log_ratio.exp()  # eq. (3)


def clipped_objective(
    ratio: Grid, advantages: Float[Tensor, "B 1"], clip_low: float, clip_high: float
) -> Float[Tensor, "B T"]:
    """PPO's objective of each token with two bounds, to be raised."""
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (4)


def average(
    losses: Grid, mask: Mask, kind: str, num_tokens: int, weights: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """One number from the loss of each token; `weights` of texts sum to 1, by default all alike."""
    lengths, sums = mask.sum(dim=1), (losses * mask).sum(dim=1)  # [B]
    weights = torch.full_like(sums, 1.0 / len(sums)) if weights is None else weights
    if kind == "texts":
        return (weights * sums / lengths).sum()
    if kind == "tokens":
        return (weights * sums).sum() / (weights * lengths).sum()
    return (weights * sums).sum() / num_tokens  # eq. (5)


# %% [markdown]
r"""
## 3. Three estimators of one divergence

What a text says about $\mathrm{KL}(\pi \Vert \pi_\text{ref})$, if it was sampled from $\pi$. With
$\rho = \log \pi_\text{ref} - \log \pi$ (`schulman2020kl`):

$$k_1 = -\rho, \qquad k_2 = \tfrac12 \rho^2, \qquad k_3 = e^{\rho} - 1 - \rho \tag{6}$$

As **values**, $k_1$ and $k_3$ are right on average, and $k_3$ is never negative. But a loss is
differentiated, and the samples depend on $\theta$ too, which autograd does not see. Over whole texts:

$$\mathbb E[\nabla k_1] = \mathbb E[\nabla \log \pi] = 0, \qquad
\mathbb E[\nabla k_2] = \nabla\, \mathrm{KL}(\pi \Vert \pi_\text{ref}), \qquad
\mathbb E[\nabla k_3] = \nabla\, \mathrm{KL}(\pi_\text{ref} \Vert \pi) \tag{7}$$

By (7), as **gradients** $k_1$ in the loss is no penalty at all, $k_2$ is what we want, and GRPO's $k_3$
belongs to the *other* direction of the divergence. (TRL multiplies it by the ratio, 1 with a slope:
$\mathbb E[\nabla (w\,k_3)] = \mathbb E[\nabla k_2]$.) Token by token, as in GRPO, even $k_2$ forgets
something: that a token decides which tokens come next. The old way has neither trouble. Charge the reward,
and let the policy gradient differentiate it:

$$\tilde r_i = r_i - \beta \textstyle\sum_t m_t \bigl[\log \pi_{\theta_\text{old}} - \log \pi_\text{ref}\bigr]
\tag{8}$$

At the optimum $\pi \propto \pi_\text{ref} e^{r/\beta}$ this is the same for every text. Every advantage is
zero there, so no division and no weights by length can move that point. With the KL in the loss they do.
"""


# %%
def kl_estimate(log_probs: Tensor, ref_log_probs: Tensor, kind: str) -> Tensor:
    """Schulman's estimators, for tokens or for whole texts, whatever the shape."""
    rho = ref_log_probs - log_probs
    return {"k1": -rho, "k2": 0.5 * rho**2, "k3": rho.exp() - 1.0 - rho}[kind]  # eq. (6)


def charged(
    rewards: Float[Tensor, " B"], old_log_probs: Grid, ref_log_probs: Grid, mask: Mask, beta: float
) -> Float[Tensor, " B"]:
    """The reward less what the text's distance from the reference costs."""
    return rewards - beta * ((old_log_probs - ref_log_probs) * mask).sum(dim=1)  # eq. (8)


def grpo_loss(
    log_probs: Grid, batch: dict[str, Tensor], cfg: Config, weights: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """What the optimiser lowers, for GRPO and all its relatives."""
    mask = batch["completion_mask"]
    ratio = importance_ratio(log_probs, batch["old_log_probs"], mask, cfg.ratio)
    losses = -clipped_objective(ratio, batch["advantages"][:, None], cfg.clip_low, cfg.clip_high)
    if cfg.beta and cfg.kl_in == "loss":
        distance = kl_estimate(log_probs, batch["ref_log_probs"], cfg.kl_kind)
        losses = losses + cfg.beta * distance * (ratio if cfg.kl_ratio else 1.0)
    return average(losses, mask, cfg.average, cfg.num_tokens, weights)


# %% [markdown]
r"""
## 4. Sample, score, update

*Why is the loss 0?* On the first pass the policy is the one that sampled: $w_t = 1$, and the loss is minus
the mean advantage, 0 in every group, plus $\beta$ times a small KL. The *value* of $w_t$ is 1, but its slope
is $\nabla \log \pi$, so the gradient is $-\tfrac1B \sum_i \hat A_i \nabla \log \pi(y_i \mid x)$, each
text's mean over its tokens, and that is not 0. Watch the reward, not the loss.
"""


# %%
# same-as: D2.positions
def positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token in its own text: padding on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


# same-as: D2.sample
@torch.no_grad()
def sample(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"], num_tokens: int,
    eos_id: int, pad_id: int, generator: torch.Generator,
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:  # fmt: skip
    """Continue each prompt by up to `num_tokens`; the mask is True up to and including the first EOS."""
    ids, mask, cache = prompt_ids, prompt_mask, None
    position_ids = positions(prompt_mask)  # [B, P]
    done = torch.zeros(len(prompt_ids), dtype=torch.bool)  # [B]
    completion_ids = torch.full((len(prompt_ids), num_tokens), pad_id)  # [B, T]
    completion_mask = torch.zeros_like(completion_ids, dtype=torch.bool)  # [B, T]
    for t in range(num_tokens):
        out = policy(
            input_ids=ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        probs = out.logits[:, -1].softmax(-1)  # [B, V]
        token = torch.multinomial(probs, 1, generator=generator)[:, 0].masked_fill(done, pad_id)  # [B]
        completion_ids[:, t], completion_mask[:, t] = token, ~done
        done = done | (token == eos_id)
        if done.all():
            break
        cache, ids, position_ids = out.past_key_values, token[:, None], position_ids[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return completion_ids, completion_mask


# same-as: D2.token_log_probs
def token_log_probs(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"],
    completion_ids: Int[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:  # fmt: skip
    """log pi(token | everything before it) of each completion token; 0 where the mask is False."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)  # [B, P + T]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    predicting = logits[:, prompt_ids.shape[1] - 1 : -1]  # [B, T, V]: the position before a token predicts it
    chosen = predicting.log_softmax(-1).gather(-1, completion_ids[..., None])[..., 0]
    return chosen.masked_fill(~completion_mask, 0.0)


class Task(NamedTuple):
    """What to answer, and what an answer is worth."""

    prompt_ids: Int[Tensor, "N P"]
    prompt_mask: Int[Tensor, "N P"]
    eos_id: int
    pad_id: int
    score: Callable[[Tensor, Tensor], Tensor]  # (rows of the prompts [B], completion_ids [B, T]) -> [B]


@torch.no_grad()
def answer_groups(
    policy: Callable, task: Task, rows: Int[Tensor, " N"], generator: torch.Generator, cfg: Config
) -> dict[str, Tensor]:
    """Sample G answers to each of the prompts `rows` and score them."""
    rows = rows.repeat_interleave(cfg.group_size)  # [B]
    prompt_ids, prompt_mask = task.prompt_ids[rows], task.prompt_mask[rows]
    completion_ids, completion_mask = sample(
        policy, prompt_ids, prompt_mask, cfg.num_tokens, task.eos_id, task.pad_id, generator
    )
    return {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "completion_ids": completion_ids,
        "completion_mask": completion_mask, "rewards": task.score(rows, completion_ids),
    }  # fmt: skip


def log_probs_of(policy: Callable, batch: dict[str, Tensor]) -> Float[Tensor, "B T"]:
    """`token_log_probs` of a batch."""
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    return token_log_probs(policy, *(batch[name] for name in names))


@torch.no_grad()
def collect(
    policy: nn.Module, reference: nn.Module, task: Task, rng: np.random.Generator,
    generator: torch.Generator, cfg: Config, max_draws: int = 4,
) -> dict[str, Tensor]:  # fmt: skip
    """A batch with advantages, by the weights that sampled; all of it constant."""
    draws, wanted, size = [], cfg.num_prompts * cfg.group_size, 0
    while size < wanted and len(draws) < (max_draws if cfg.dynamic_sampling else 1):
        rows = torch.from_numpy(rng.integers(len(task.prompt_ids), size=cfg.num_prompts))
        drawn = answer_groups(policy, task, rows, generator, cfg)
        if cfg.dynamic_sampling:
            keep = informative(drawn["rewards"].view(-1, cfg.group_size)).repeat_interleave(cfg.group_size)
            drawn = {name: values[keep] for name, values in drawn.items()}
        draws.append(drawn)
        size += len(drawn["rewards"])
    if not size:  # every group of every draw agreed: nothing to learn from
        return {}
    batch = {name: torch.cat([drawn[name] for drawn in draws])[:wanted] for name in draws[0]}
    batch["old_log_probs"] = log_probs_of(policy, batch)
    batch["ref_log_probs"] = log_probs_of(reference, batch) if cfg.beta else batch["old_log_probs"]
    rewards = batch["rewards"]
    if cfg.kl_in == "reward":
        names = ("old_log_probs", "ref_log_probs", "completion_mask")
        rewards = charged(rewards, *(batch[name] for name in names), cfg.beta)
    groups = advantages(rewards.view(-1, cfg.group_size), cfg.baseline, cfg.divide)
    batch["advantages"] = groups.flatten().to(batch["old_log_probs"].dtype)
    return batch


def update(
    policy: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], cfg: Config
) -> tuple[float, float]:
    """Several passes over one batch. Returns (loss, gradient norm) of the first, where every ratio is 1."""
    first = None
    for _ in range(cfg.num_epochs):
        loss = grpo_loss(log_probs_of(policy, batch), batch, cfg)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        first = first or (loss.item(), norm.item())
        optimizer.step()
    return first


def schedule(i: int, cfg: Config) -> float:
    """Share of the learning rate at update `i`: up, level, down."""
    return min(1.0, (i + 1) / WARMUP, (1.0 - i / cfg.num_updates) / 0.4)


def train(
    policy: nn.Module, reference: nn.Module, task: Task, cfg: Config, log: RunLog, name: str,
    watch: Callable | None = None, stop: int = 10**9,
) -> None:  # fmt: skip
    """Fine-tune in place, up to update `stop`; `watch(policy, updates, CPU seconds)` is not timed."""
    prompts, generator = np.random.default_rng(cfg.seed), torch.Generator().manual_seed(cfg.seed)
    optimizer, clock = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, fused=True), CpuClock()
    for i in log.track(range(min(stop, cfg.num_updates)), f"updates ({name})"):
        with clock:
            optimizer.param_groups[0]["lr"] = cfg.learning_rate * schedule(i, cfg)
            batch = collect(policy, reference, task, prompts, generator, cfg)
            if batch:
                loss, norm = update(policy, optimizer, batch, cfg)
        if batch:
            surprise = -batch["old_log_probs"].sum() / batch["completion_mask"].sum()  # estimates the entropy
            seen = {"reward": batch["rewards"].mean(), "loss": loss, "gradient": norm, "entropy": surprise}
            log.write(i, **{f"{name}_{what}": value for what, value in seen.items()})
        if watch:
            watch(policy, i + 1, clock.seconds)


# %% [markdown]
r"""
## 5. More tries

*pass@k* is the chance that one of $k$ answers is right. From $n > k$ answers, $c$ of them right, it is the
chance that $k$ drawn without replacement are not all wrong (`chen2021codex`). The tempting $1 - (1 - c/n)^k$
is too low.

$$\text{pass@}k = \mathbb E\Bigl[1 - \binom{n-c}{k} \Big/ \binom{n}{k}\Bigr] \tag{9}$$
"""


# %%
def pass_at_k(num_correct: Int[np.ndarray, " N"], num_samples: int, k: int) -> float:
    """Unbiased, mean over problems of which `num_correct` of `num_samples` answers were right."""
    all_wrong = [math.comb(num_samples - int(c), k) / math.comb(num_samples, k) for c in num_correct]
    return 1.0 - float(np.mean(all_wrong))  # eq. (9)


# %% [markdown]
r"""
## 6. Where does it end? Enumerate

In the token world every completion can be listed, so the *expected* update is the same loss with each
completion weighted by its probability, and a learner ends where it is zero. For a large group:

$$\hat A(y) = \frac{r(y) - \mathbb E_\pi[r]}{\sqrt{\mathrm{Var}_\pi[r]}} \tag{10}$$

With $k$ for the gradient of the KL, $\hat A - \beta k = [(r - \mathbb E_\pi[r]) - \beta\sigma k] / \sigma$,
where $\sigma$ is the root in (10): **to divide is to charge $\beta\sigma$ instead of $\beta$**, prompt by
prompt. The less the answers to a prompt differ in worth, the less the policy is held there.
"""


# %%
def exact_advantages(rewards: Table, probs: Table, divide: bool) -> Table:
    """`advantages` in a group so large that it holds every completion as often as the policy says."""
    centred = rewards - (probs * rewards).sum(dim=1, keepdim=True)
    if divide:
        centred = centred / (probs * centred**2).sum(dim=1, keepdim=True).sqrt()  # eq. (10)
    return centred


def enumerated(world: TokenWorld) -> dict[str, Tensor]:
    """A batch of all completions of all prompts, [N M] rows, with what the reference thinks of them."""
    batch = tools.every_completion(world)
    with torch.no_grad():
        return batch | {"ref_log_probs": log_probs_of(world.reference(torch.float64), batch)}


def expected_loss(policy: nn.Module, batch: dict[str, Tensor], rewards: Table, cfg: Config) -> Tensor:
    """A number whose gradient is the expected gradient of `grpo_loss`, in the limit of a large group."""
    log_probs = log_probs_of(policy, batch)
    old, mask = log_probs.detach(), batch["completion_mask"]
    probs = old.sum(dim=1).exp().view_as(rewards)
    if cfg.kl_in == "reward":
        rewards = charged(rewards.flatten(), old, batch["ref_log_probs"], mask, cfg.beta).view_as(rewards)
    judged = exact_advantages(rewards, probs, cfg.divide).flatten()
    batch = batch | {"old_log_probs": old, "advantages": judged}
    return grpo_loss(log_probs, batch, cfg, weights=probs.flatten() / len(rewards))


def fixed_point(world: TokenWorld, cfg: Config) -> tuple[nn.Module, float]:
    """(policy at which the expected update is zero, norm of what is left of it over the first one's)."""
    policy, batch, norms = world.reference(torch.float64), enumerated(world), []
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    for i in range(cfg.num_token_updates):
        optimizer.param_groups[0]["lr"] = 0.1 * (1.0 - i / cfg.num_token_updates)
        optimizer.zero_grad()
        expected_loss(policy, batch, world.rewards, cfg).backward()
        norms.append(policy.table.grad.norm().item())
        optimizer.step()
    return policy, norms[-1] / norms[0]


# %% [markdown]
r"""
## 7. Run, look, break

*The sums.* A small GPT-2 learnt to add from examples and was stopped early; from there only the checker
speaks. All accuracies are of sums that neither training saw. TRL's `GRPOTrainer` gets the same weights,
prompts and step sizes. *pass@k:* probability moves to answers that the base could already find, so one try
gains most (`yue2025reasoning`). The entropy falls: a policy that is sure of itself explores no more. *The
switches* differ by hardly more than the seeds of one of them do: mind the dots before you rank methods.

*The chart* shows where each method **ends** on the token world. With the KL in the reward, GRPO and RLOO go
to the star, the exact optimum. Dr. GRPO and GRPO as published go elsewhere, and that is no failure to
converge: the crosses are where their own expected update is zero. Two causes. $k_3$ belongs to the other
direction of the divergence, which hardly minds a token that has become too *likely*. And the division makes
$\beta$ act as $\beta\sigma$, with another $\sigma$ for each prompt: on the right, what becomes of either.

**Break it.** `--only tokens --kl-kind k1`: its price has no gradient. GRPO ends 8.5 nats away, at the best
texts and nothing else, its objective far below no training at all; and the claims about its end fail.

**Exercises.** (1) Show from (2) that leaving one out changes nothing if the learning rate may change. (2)
With `--average tokens` the first loss of a batch is not 0. Why? (3) Run `--only
tokens --kl-kind k2` and explain why even that misses the star.
"""

# %%
TOKENS = {"num_prompts": 8, "group_size": 128, "num_tokens": 4, "num_epochs": 1, "learning_rate": 0.1}
KL_IN_REWARD = {"kl_in": "reward", "divide": False, "average": "constant"}
CHART: dict[str, tuple[str, dict]] = {  # name of the metric -> label, switches
    "grpo_kl": ("GRPO, KL in the reward, no division", KL_IN_REWARD),
    "rloo": ("RLOO", VARIANTS["RLOO"]),
    "dr_grpo": ("Dr. GRPO", VARIANTS["Dr. GRPO"]),
    "stock": ("GRPO as published", VARIANTS["GRPO"]),
}
ONE_CHANGE: dict[str, dict] = {  # on the token world, from GRPO with the KL in the reward, undivided
    "GRPO, KL in the reward": {}, "mean of each text's mean": {"average": "texts"},
    "one mean over tokens": {"average": "tokens"}, "divided by deviation": {"divide": True},
    "128 groups of 2": {"num_prompts": 128, "group_size": 2},
    "32 groups of 8": {"num_prompts": 32, "group_size": 8},
    "2 groups of 128": {"num_prompts": 2, "group_size": 128},
    **{f"{kind} in the loss": {"kl_in": "loss", "kl_kind": kind} for kind in KINDS},
    "k3 x ratio in the loss": {"kl_in": "loss", "kl_ratio": True},
}  # fmt: skip
ON_SUMS: dict[str, dict] = {
    "GRPO": {}, "no division": {"divide": False}, "beta 0": {"beta": 0.0},
    "neither": {"divide": False, "beta": 0.0}, **{name: VARIANTS[name] for name in list(VARIANTS)[1:]},
}  # fmt: skip
IDENTITY = {"always": True, "seeds": "10/10", "source": "enumeration of all texts"}


def estimators(world: TokenWorld, policy: nn.Module) -> tuple[dict[str, tuple], dict[str, Tensor]]:
    """Exact (mean, deviation) of each estimator's sum over a text; its exact expected gradient in a loss."""
    batch = enumerated(world)
    log_probs, ref, mask = log_probs_of(policy, batch), batch["ref_log_probs"], batch["completion_mask"]
    texts, ref_texts = log_probs.sum(dim=1), ref.sum(dim=1)
    probs = texts.detach().exp() / world.num_prompts  # a constant: autograd does not see the sampling
    reverse = world.kl(texts.view(world.num_prompts, -1))
    forward = (ref_texts.exp() * (ref_texts - texts)).sum() / world.num_prompts
    values, losses = {"exact": (reverse.item(), 0.0)}, {"reverse": reverse, "forward": forward}
    for kind in KINDS:
        each = (kl_estimate(log_probs, ref, kind) * mask).sum(dim=1)
        losses[f"{kind}_texts"] = (probs * kl_estimate(texts, ref_texts, kind)).sum()
        mean = losses[f"{kind}_tokens"] = (probs * each).sum()
        values[kind] = (mean.item(), (probs * (each - mean) ** 2).sum().sqrt().item())
    ratio = (log_probs - log_probs.detach()).exp()
    losses["k3_ratio"] = (probs * (ratio * kl_estimate(log_probs, ref, "k3") * mask).sum(dim=1)).sum()
    grads = torch.autograd.grad
    return values, {name: grads(loss, policy.table, retain_graph=True)[0] for name, loss in losses.items()}


def claim_estimators(values: dict[str, tuple], gradients: dict[str, Tensor], log: RunLog) -> None:
    wanted, exact, rows = gradients["reverse"], values["exact"][0], []
    for name, gradient in gradients.items():
        log.write(0, **{f"cosine_{name}": torch.cosine_similarity(gradient.flatten(), wanted.flatten(), 0)})
    for kind in ("k1", "k3"):
        gap, bound = abs(values[kind][0] - exact), {"at_most": 1e-10, "unit": "nats off"}
        rows.append((f"{kind}_value", f"as a value, {kind} is right on average", gap, bound))
    for name, target, says, bound in (
        ("k1_texts", 0 * wanted, "k1 in the loss has no expected gradient", {"at_most": 1e-8}),
        ("k2_texts", wanted, "k2 of texts in the loss has that of KL(pi || ref)", {"at_most": 1e-8}),
        ("k3_texts", gradients["forward"], "k3 of texts has that of KL(ref || pi)", {"at_most": 1e-8}),
        ("k3_ratio", gradients["k2_tokens"], "k3 of tokens times ratio has that of k2", {"at_most": 1e-8}),
        ("k3_tokens", wanted, "k3 of tokens, GRPO's, has not that of KL(pi || ref)", {"at_least": 0.05}),
    ):
        gap, bound = (gradients[name] - target).norm() / wanted.norm(), bound | {"unit": "of that norm"}
        rows.append(
            (f"gradient_{name}", says, gap, bound | ({"always": False} if name == "k3_tokens" else {}))
        )
    tools.claim_all(log, rows, **IDENTITY)


def claim_first_loss(world: TokenWorld, task: Task, cfg: Config, log: RunLog) -> None:
    """A batch of GRPO before any update: value, gradient, and what the gradient is."""
    policy, rng = world.reference(torch.float64), np.random.default_rng(cfg.seed)
    batch = collect(policy, policy, task, rng, torch.Generator().manual_seed(cfg.seed), cfg)
    log_probs, mask = log_probs_of(policy, batch), batch["completion_mask"]
    loss = grpo_loss(log_probs, batch, cfg)
    by_hand = -(batch["advantages"] * log_probs.sum(dim=1) / mask.sum(dim=1)).mean()
    found, expected = (torch.autograd.grad(x, policy.table, retain_graph=True)[0] for x in (loss, by_hand))
    gap, tiny = (found - expected).norm() / expected.norm(), {"at_most": 1e-10}
    rows = [
        ("first_loss", "the first loss of a batch is 0", abs(loss.item()), tiny),
        ("first_gradient", "its gradient is not", found.norm(), {"at_least": 1e-3, "unit": "norm"}),
        ("first_gradient_gap", "it is minus the mean of advantage x gradient of log-probability", gap, tiny),
    ]
    tools.claim_all(log, rows, **IDENTITY | {"source": "(4) at ratio 1"})


def tokens(cfg: Config, log: RunLog) -> None:
    """Where each method ends on the token world, beside where its expected update is zero."""
    task = Task(*tools.encoded_world(world := token_world(cfg.seed)))
    cfg = dataclasses.replace(cfg, **TOKENS, beta=cfg.token_beta, num_updates=cfg.num_token_updates)
    claim_first_loss(world, task, cfg, log)

    def learn(name: str, changes: dict) -> Tensor:
        policy, reference = world.reference(), world.reference()
        train(policy, reference, task, dataclasses.replace(cfg, **changes), log, name)
        return report(cfg.num_updates, policy, "{}_" + name)

    def report(step: int, policy: nn.Module, name: str) -> Tensor:
        log_probs = world.log_probs(policy).detach()
        numbers = world.kl(log_probs), world.expected_reward(log_probs), world.gap_closed(log_probs, cfg.beta)
        log.write(step, **dict(zip(map(name.format, ("token_kl", "token_reward", "gap")), numbers)))
        return log_probs

    ends, points = {name: learn(name, changes) for name, (_, changes) in CHART.items()}, {}
    for name in ("dr_grpo", "stock"):
        policy, left = fixed_point(world, dataclasses.replace(cfg, **CHART[name][1]))
        points[name] = report(0, policy, "fixed_{}_" + name)
        log.write(0, **{f"update_left_{name}": left})
    claim_ends(log)
    claim_division(world, policy, cfg, log)
    for i, share in enumerate(np.linspace(0.1, 1.0, 7)):  # from the reference to where GRPO ends
        mixed = world.reference(torch.float64)
        mixed.table.data.lerp_(policy.table.data, share)
        values, gradients = estimators(world, mixed)
        for kind, (mean, spread) in values.items():
            log.write(i, **{f"kl_{kind}_mean": mean, f"kl_{kind}_deviation": spread})
        if i == 3:
            claim_estimators(values, gradients, log)
    for name, changes in ONE_CHANGE.items():
        learn(tools.key(name), KL_IN_REWARD | {"group_size": 32} | changes)
    grpo_figures.draw_chart(world, cfg.beta, ends, points, {k: v[0] for k, v in CHART.items()}, log)
    grpo_figures.draw_estimators([{"metrics": log.metrics}], list(ONE_CHANGE), log)


def claim_ends(log: RunLog) -> None:
    gap, near, rows = {"at_least": 0.95}, {"at_most": 0.05, "unit": "off in KL or reward"}, []
    for name in ("grpo_kl", "rloo"):
        says = f"{CHART[name][0]}: closes the gap between the reference and the exact optimum"
        rows.append((f"gap_{name}", says, log.last(f"gap_{name}"), gap))
    for name in ("dr_grpo", "stock"):
        pairs = [
            (log.last(f"{w}_{name}"), log.last(f"fixed_{w}_{name}")) for w in ("token_kl", "token_reward")
        ]
        far = max(abs(found / exact - 1.0) for found, exact in pairs)
        rows.append((f"distance_{name}", f"{CHART[name][0]}: ends where its expected update is 0", far, near))
    left, small = max(log.last(f"update_left_{name}") for name in ("dr_grpo", "stock")), {"at_most": 1e-3}
    rows.append(
        ("update_left", "what enumeration leaves of the expected update", left, small | {"unit": "of it"})
    )
    says, other = "and for GRPO as published that is not the optimum", log.last("fixed_gap_stock")
    rows.append(("fixed_gap_stock", says, other, {"at_most": 0.95}))
    tools.claim_all(log, rows, source=IDENTITY["source"], unit="of the gap")


def claim_division(world: TokenWorld, policy: nn.Module, cfg: Config, log: RunLog) -> None:
    """Dividing is charging beta sigma, shown on the expected gradient of GRPO where it ends."""
    batch, probs = enumerated(world), world.log_probs(policy).detach().exp()
    sigma = (probs * exact_advantages(world.rewards, probs, False) ** 2).sum(dim=1).sqrt()  # [N]

    def gradient(beta: float, divide: bool) -> Tensor:
        loss = expected_loss(policy, batch, world.rewards, dataclasses.replace(cfg, beta=beta, divide=divide))
        return torch.autograd.grad(loss, policy.table)[0].view(len(sigma), -1)  # [N, its rows]

    found = gradient(2 * cfg.beta, True)  # at another beta, where it is not 0
    same = [gradient(2 * cfg.beta * s, False)[i] / s for i, s in enumerate(sigma.tolist())]
    gap, says = (
        (found - torch.stack(same)).norm() / found.norm(),
        "to divide is to charge beta sigma for beta",
    )
    log.claim("beta_sigma", says, gap, at_most=1e-8, unit="of the expected gradient", **IDENTITY)
    log.write(0, **{f"sigma_of_prompt_{i}": value for i, value in enumerate(sigma.tolist())})


def sums(cfg: Config, log: RunLog) -> None:
    """GRPO on arithmetic, before and after, beside TRL's, and with one thing changed."""
    base, tokenizer = load_model(cfg.model, arithmetic_recipe(cfg.pretrain_steps))
    base.requires_grad_(False)
    (texts, task), (_, test) = tools.encoded_sums(tokenizer), tools.encoded_sums(tokenizer, held_out=True)
    count = tools.counter(answer_groups, log_probs_of, Task(*test), cfg)

    def learn(name: str, changes: dict, stop: int = 10**9) -> nn.Module:
        changed, policy = dataclasses.replace(cfg, **changes), copy.deepcopy(base).requires_grad_(True)
        watch = tools.watcher(name, count, cfg, log, every=min(stop, 10))
        train(policy, base, Task(*task), changed, log, name, watch, stop)
        return policy

    tools.watcher("ours", count, cfg, log)(base, 0, 0.0)
    policies = {"before": base, "after": learn("ours", {})}
    if cfg.only == "all" and cfg.model == "tiny":
        watch = tools.watcher("trl", count, cfg, log)
        functions = advantages, charged, log_probs_of, grpo_loss
        grpo_peer.compare(base, tokenizer, texts, watch, schedule, functions, cfg, log)
        for name in list(ON_SUMS)[1:]:
            learn(tools.key(name), ON_SUMS[name], cfg.num_ablation_updates)
    for name, policy in policies.items():
        correct, entropy = count(policy, cfg.num_samples)
        log.write(0, **{f"entropy_{name}": entropy})
        for k in (2**power for power in range(cfg.num_samples.bit_length())):
            log.write(k, **{f"pass_{name}": pass_at_k(correct, cfg.num_samples, k)})
    first, *_, final = np.subtract(log.series("pass_after")[1], log.series("pass_before")[1])
    entropy, less = log.last("entropy_after") / log.last("entropy_before"), {"at_most": 1.0, "unit": "times"}
    rows = [
        ("entropy", "the policy ends surer of itself", entropy, less),
        ("pass_gain", "one try gains more than many do", first - final, {"at_least": 0.0}),
    ]
    for how, bar, start in (("greedy", 0.9, 0.3), ("sampled", 0.6, 0.17)):
        first, *_, final = log.series(f"ours_{how}")[1]
        rows.append((f"{how}_before", f"the base is seldom right, {how}", first, {"near": (start, 0.15)}))
        rows.append((f"{how}_after", f"GRPO makes it right, {how}", final, {"at_least": bar}))
    tools.claim_all(log, rows, unit="share of held-out sums", source="a prototype")
    grpo_figures.draw_sums([{"metrics": log.metrics}], list(ON_SUMS), cfg.num_ablation_updates, log)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    for part in {"all": (tokens, sums), "tokens": (tokens,), "arithmetic": (sums,)}[cfg.only]:
        part(cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    grpo_figures.draw_sums(runs, list(ON_SUMS), runs[0]["config"]["num_ablation_updates"], log)
    grpo_figures.draw_estimators(runs, list(ONE_CHANGE), log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
