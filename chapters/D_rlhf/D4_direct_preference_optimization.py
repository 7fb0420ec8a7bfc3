# %% [markdown]
r"""
# D4 · Direct preference optimisation

**Question.** Can a language model learn from pairs of answers, one preferred to the other, with no reward
model, no sampling and no critic, by a loss as plain as a classifier's, and when does that reach the optimum
that PPO was after?

**Before this:** D3 (reward models). **Changes from D2 and D3:** no reward model is trained and then
maximised; the policy itself is read as a reward model and fitted to the pairs. **Next:** D5 samples again,
with rewards that a program can verify.

**Time budget.** 150 s on 2 cores.

<!-- results: D4 -->

`rl run D4`: 85 s, 1655 MB. With `--smoke`, all of it: 12 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| prompt_in_sum     | 1.98e-06 (1.06e-06 to 2.51e-06) | ≤ 1e-05   | 5/5 |
| prompt_in_mean    | 0.298 (0.281 to 0.375)          | ≥ 0.01    | 5/5 |
| trl_loss_gap      | 9.2e-08 (0 to 1.8e-07)          | ≤ 1e-05   | 5/5 |
| trl_reward_gap    | 8.2e-08 (2.24e-08 to 1.34e-07)  | ≤ 1e-05   | 5/5 |
| trl_gradient_gap  | 9.33e-07 (5.58e-07 to 1.12e-06) | ≤ 1e-05   | 5/5 |
| chosen_change     | -0.317 (-0.365 to -0.0115)      | ≤ 0       | 5/5 |
| margin_change     | 2.56 (2.31 to 2.76)             | ≥ 0       | 5/5 |
| win_rate          | 0.815 (0.804 to 0.872)          | ≥ 0.7     | 5/5 |
| kl                | 2.44 (1.31 to 2.48)             | ≤ 8       | 5/5 |
| fluency           | 1.12 (1.06 to 1.16)             | ≤ 1.5     | 5/5 |
| distinct          | 0.977 (0.963 to 0.989)          | ≥ 0.9     | 5/5 |
| same_outcome      | 0                               | 0 ± 0.059 | 5/5 |
| time_beside_trl   | 0.545 (0.505 to 0.642)          | ≤ 1       | 5/5 |
| memory_beside_trl | 0.749 (0.718 to 0.765)          | ≤ 1       | 5/5 |
| optimum_chosen    | -0.748 (-0.831 to -0.673)       | ≤ 0       | 5/5 |
| soft_gap          | 0.998 (0.986 to 1)              | ≥ 0.95    | 5/5 |
| uniform_gap       | 0.997 (0.994 to 0.998)          | ≥ 0.95    | 5/5 |
| beta_gap          | 0.983 (0.922 to 0.997)          | ≥ 0.95    | 4/5 |
| ipo_gap           | 0.972 (0.971 to 0.975)          | ≥ 0.95    | 5/5 |
| hard_gap          | 0.274 (0.131 to 0.413)          | ≤ 0.95    | 5/5 |
| mean_gap          | -0.21 (-0.551 to 0.00262)       | ≤ 0.95    | 5/5 |
| fixed_gap         | 0.0196 (-0.0675 to 0.0861)      | ≤ 0.95    | 5/5 |
| hard_kl           | 2.45 (2.13 to 2.85)             | ≥ 1       | 5/5 |
| along_kl          | 1.97 (1.8 to 2.37)              | ≥ 1       | 5/5 |

<!-- /results -->

References: `rafailov2023dpo`, `azar2024ipo`, `bradleyterry1952rank`, `korbak2022bayesian`,
`mitchell2023cdpo`, `razin2025displacement`.

Symbols: `B` pairs in a minibatch, `P` prompt tokens, `T` completion tokens, `N` prompts and `M` completions
of the token world; $y_w \succ y_l$ the chosen and the rejected completion; $h$ log-ratio to the reference.
"""

# %%
import copy
import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.D_rlhf.evidence.D4_figures import draw_results, draw_samples
from chapters.D_rlhf.evidence.D4_trl import dpo_gaps, dpo_trainer
from chapters.envs.reviews import PROMPTS, sentiment
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import review_recipe
from chapters.utils import CpuClock, RunLog, in_range, run_lesson
from chapters.utils.peers import silence
from chapters.utils.seeding import seed_everything
from chapters.utils.timing import PeakMemory

Pairs = dict[str, Tensor]
"""prompt_ids, prompt_mask [B, P]; completion_ids, completion_mask, ref_log_probs [B, 2, T], the chosen
completion before the rejected one; labels [B], the probability that the order is right."""
Both = Float[Tensor, "B 2"]  # a number for the chosen and one for the rejected completion of each pair
Vector = Float[Tensor, " B"]  # a number for each pair


# %%
@dataclass(frozen=True)
class Config:
    """DPO and IPO from scratch, against the exact optimum of the token world and TRL's DPOTrainer."""

    seed: int = 0
    """Seed of torch, of all sampling and of the token world."""
    model: str = "tiny"
    """What is fine-tuned: tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps that train the tiny model, once; it is then kept in a cache."""
    loss: Literal["dpo", "ipo"] = "dpo"
    """Log-likelihood of the preferences, or squared distance from a fixed margin."""
    beta: Annotated[float, in_range(1e-4, 100.0)] = 0.3
    """Price of divergence from the reference, on the reviews."""
    label_smoothing: Annotated[float, in_range(0.0, 0.5)] = 0.0
    """Suppose that a label is wrong this often (mitchell2023cdpo)."""
    average: bool = False
    """Take the mean over a completion's tokens in place of the sum."""
    reference_trains_along: bool = False
    """The bug: the reference is not a frozen copy but the policy itself."""
    learning_rate: Annotated[float, in_range(0.0, 1.0)] = 0.0
    """Adam's step size on the reviews; 0 takes a preset for the model's size."""
    num_pairs: Annotated[int, in_range(1, 1_000_000)] = 1024
    """Pairs of reviews to learn from."""
    batch_size: Annotated[int, in_range(1, 100_000)] = 64
    """B: pairs in a gradient step on the reviews."""
    num_groups: Annotated[int, in_range(1, 1000)] = 4
    """A minibatch's texts are sorted by length and go through the model in so many groups."""
    num_epochs: Annotated[int, in_range(1, 1000)] = 3
    """Passes over the pairs of reviews."""
    num_tokens: Annotated[int, in_range(2, 1000)] = 36
    """T: longest completion."""
    num_eval_texts: Annotated[int, in_range(2, 1_000_000)] = 560
    """Completions that a policy is judged by."""
    world_beta: Annotated[float, in_range(1e-3, 100.0)] = 0.5
    """Price of divergence on the token world, the same as D2's."""
    labels: Literal["soft", "sampled", "hard"] = "soft"
    """On the token world: the Bradley-Terry probability itself, one draw from it, or the likelier side."""
    pairs_from: Literal["reference", "uniform"] = "reference"
    """Where the token world's pairs come from; both reach every completion."""
    num_fixed_pairs: Annotated[int, in_range(0, 10_000_000)] = 0
    """Draw so many of them once and reuse them; 0 draws fresh ones for every step."""
    world_steps: Annotated[int, in_range(1, 1_000_000)] = 800
    """Gradient steps on the token world."""
    world_batch: Annotated[int, in_range(2, 1_000_000)] = 512
    """Pairs in each of them, half for each prompt."""
    world_learning_rate: Annotated[float, in_range(1e-6, 10.0)] = 0.1
    """Adam's step size there; it falls to zero in a line."""


SMOKE = {
    "pretrain_steps": 20, "num_pairs": 16, "batch_size": 8, "num_epochs": 1, "num_tokens": 10,
    "num_eval_texts": 28, "world_steps": 5, "world_batch": 64,
}  # fmt: skip

# %% [markdown]
r"""
## 1. From the optimum to a loss

Chapter D maximises $\mathbb E_{y \sim \pi}[r(x, y)] - \beta\,\mathrm{KL}(\pi \Vert \pi_\text{ref})$. Put
both terms under one expectation, and it reads $\beta \log Z(x) - \beta\,\mathrm{KL}(\pi \Vert \pi^\ast)$
with (`korbak2022bayesian`)

$$\pi^\ast(y \mid x) = \tfrac{1}{Z(x)}\, \pi_\text{ref}(y \mid x)\, e^{r(x, y) / \beta} \tag{1}$$

A divergence is least where it is zero, so (1) is the optimum: the reference, tilted towards reward. $Z$ is
a sum over every possible text, which is why PPO goes the long way round. Now read (1) backwards. Take logs,
and *any* policy is the optimum of some reward, namely of

$$r(x, y) = \beta h(x, y) + \beta \log Z(x), \qquad
h(x, y) = \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} \tag{2}$$

$\beta h$ is the policy's *implicit reward*. Preferences only know differences of reward: Bradley and
Terry's model (`bradleyterry1952rank`) says

$$P(y_w \succ y_l) = \sigma\bigl(r(x, y_w) - r(x, y_l)\bigr) \tag{3}$$

and in the difference of two texts after the *same* prompt $\beta \log Z(x)$ cancels. What could not be
computed is not needed. So fit the policy to the preferences by maximum likelihood (`rafailov2023dpo`). The
label $p$ is 1 if $y_w$ was preferred for certain; the margin $m$ is a difference of implicit rewards:

$$L_\text{DPO} = -p \log \sigma(m) - (1 - p) \log \sigma(-m), \qquad
m = \beta h(x, y_w) - \beta h(x, y_l) \tag{4}$$

The slope tells what it does to a pair. With $p = 1$ its weight is $\sigma(-m)$: a half for a pair not yet
told apart, almost one where the policy has it backwards, almost nothing where the margin is wide already:

$$-\frac{\partial L_\text{DPO}}{\partial m} = p - \sigma(m) \tag{5}$$

For $0 < p < 1$ this vanishes at $m = \log \frac{p}{1 - p}$, by (3) the true difference of rewards. For
$p=1$ it never does: the margin of a pair that is always labelled one way grows for ever, and with it the
distance from the reference, whatever $\beta$. IPO (`azar2024ipo`) asks for a margin that is finite:

$$L_\text{IPO} = p \Bigl(h_w - h_l - \frac{1}{2 \beta}\Bigr)^2
+ (1 - p) \Bigl(h_w - h_l + \frac{1}{2 \beta}\Bigr)^2 \tag{6}$$

Over pairs from the reference its optimum is (1) again, with the chance to beat a random text for a reward.
"""


# %%
def preference(chosen: Float[Tensor, "*B"], rejected: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Probability that a text with the first reward is preferred to one with the second."""
    return (chosen - rejected).sigmoid()  # eq. (3)


def implicit_rewards(log_ratios: Both, beta: float) -> Both:
    """The reward whose optimum the policy is, up to a constant of the prompt."""
    return beta * log_ratios  # eq. (2)


def dpo_loss(log_ratios: Both, labels: Vector, beta: float) -> Vector:
    """Minus the log-likelihood of the labels under the policy's own reward."""
    rewards = implicit_rewards(log_ratios, beta)
    margin = rewards[:, 0] - rewards[:, 1]
    return -labels * F.logsigmoid(margin) - (1 - labels) * F.logsigmoid(-margin)  # eq. (4)


def gradient_weight(log_ratios: Both, labels: Vector, beta: float) -> Vector:
    """How hard DPO pushes the margin of each pair up, or down if negative."""
    rewards = implicit_rewards(log_ratios, beta)
    return labels - preference(rewards[:, 0], rewards[:, 1])  # eq. (5)


def ipo_loss(log_ratios: Both, labels: Vector, beta: float) -> Vector:
    """Squared distance of the log-ratios' difference from the margin that is asked for."""
    gap, target = log_ratios[:, 0] - log_ratios[:, 1], 1 / (2 * beta)
    return labels * (gap - target) ** 2 + (1 - labels) * (gap + target) ** 2  # eq. (6)


# %% [markdown]
r"""
## 2. The log-probability of a completion

The logits at one position predict the *next* token, and a text's log-probability is the sum over the tokens
that were written: not the prompt's, nor anything behind EOS.

$$\log \pi(y \mid x) = \textstyle\sum_t \log \pi(y_t \mid x, y_{<t}) \tag{7}$$

The sum, not the mean: (1) speaks of whole texts. The reference is frozen; its log-probabilities are
numbers.
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
    """Continue each prompt by up to `num_tokens`. Returns (completion_ids, completion_mask).

    The mask is True up to and including the first EOS; behind it stands padding.
    """
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
        # the next call sees one new token; the cache remembers what stands before it
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


def sequence_log_probs(
    token_log_probs: Float[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"], average: bool = False
) -> Vector:
    """log pi(completion | prompt); `average` takes the mean over its tokens, which is another quantity."""
    total = (token_log_probs * completion_mask).sum(1)  # eq. (7)
    return total / completion_mask.sum(1) if average else total


def completion_log_probs(policy: nn.Module, pairs: Pairs, num_groups: int = 4) -> Float[Tensor, "B 2 T"]:
    """`token_log_probs` of both completions. Texts of like length share a pass, so that little is padding."""
    ids, mask = (pairs[name].flatten(0, 1) for name in ("completion_ids", "completion_mask"))  # [2 B, T]
    order, parts = mask.sum(1).argsort(stable=True), []
    for rows in order.chunk(num_groups):
        longest = int(mask[rows].sum(1).max())
        prompts = (pairs[name][rows // 2] for name in ("prompt_ids", "prompt_mask"))
        found = token_log_probs(policy, *prompts, ids[rows, :longest], mask[rows, :longest])
        parts.append(F.pad(found, (0, mask.shape[1] - longest)))
    return torch.cat(parts)[order.argsort()].reshape(pairs["completion_mask"].shape)


def log_ratios(policy: nn.Module, pairs: Pairs, cfg: Config) -> Both:
    """h of the chosen and of the rejected completion of each pair."""
    tokens, mask = completion_log_probs(policy, pairs, cfg.num_groups), pairs["completion_mask"].flatten(0, 1)
    reference = tokens.detach() if cfg.reference_trains_along else pairs["ref_log_probs"]
    ours, theirs = (sequence_log_probs(lp.flatten(0, 1), mask, cfg.average) for lp in (tokens, reference))
    return (ours - theirs).reshape(-1, 2)  # eq. (2), right


def pair_loss(policy: nn.Module, pairs: Pairs, cfg: Config) -> tuple[Float[Tensor, ""], Both]:
    """(what the optimiser lowers, log-ratios) of a minibatch of pairs."""
    ratios = log_ratios(policy, pairs, cfg)
    labels = pairs["labels"] + cfg.label_smoothing * (1 - 2 * pairs["labels"])
    loss = dpo_loss if cfg.loss == "dpo" else ipo_loss
    return loss(ratios, labels, cfg.beta).mean(), ratios


@torch.no_grad()
def add_reference(pairs: Pairs, reference: nn.Module, num_groups: int = 1) -> Pairs:
    """The pairs with the reference's log-probability of each token. It never moves: once is enough."""
    return {**pairs, "ref_log_probs": completion_log_probs(reference, pairs, num_groups)}


def update(policy: nn.Module, optimizer: torch.optim.Optimizer, batch: Pairs, cfg: Config) -> Both:
    """One gradient step; returns the log-ratios that it started from."""
    loss, ratios = pair_loss(policy, batch, cfg)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return ratios.detach()


def train(policy: nn.Module, pairs: Pairs, cfg: Config, log: RunLog, name: str = "dpo") -> nn.Module:
    """Passes over the pairs, in their own order. This loop is the whole learner."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, fused=True)
    rows = torch.arange(len(pairs["labels"])).split(cfg.batch_size)
    for step in log.track(range(cfg.num_epochs * len(rows)), f"updates ({name})", f"{name}_margin"):
        batch = {what: values[rows[step % len(rows)]] for what, values in pairs.items()}
        ratios = update(policy, optimizer, batch, cfg)
        chosen, rejected = ratios.mean(0).tolist()
        found = {"chosen": chosen, "rejected": rejected, "margin": chosen - rejected}
        log.write(step, **{f"{name}_{what}": value for what, value in found.items()})
    return policy


# %% [markdown]
r"""
## 3. Does it reach the optimum?

On the token world every completion can be listed, so (1) is known to the last digit. Given the
Bradley–Terry probability itself as a *soft* label, on pairs that can be any pair, DPO's minimum is
$\pi^\ast$, the point that D2's PPO aimed at. Annotators give less: one *sampled* verdict a pair, on
finitely many pairs. A judge that always answers the same gives *hard* labels. Where does each of these end?
"""


# %%
def draw_pairs(
    world: TokenWorld, weights: Float[Tensor, "N M"], num: int, labels: str, generator: torch.Generator
) -> Pairs:
    """Completions drawn in proportion to `weights`, in pairs, as many of each prompt; and their labels."""
    each = num // world.num_prompts
    rows = torch.multinomial(weights, 2 * each, replacement=True, generator=generator)  # [N, 2 B / N]
    rows = rows.reshape(-1, 2)  # [B, 2]
    prompts = torch.arange(world.num_prompts).repeat_interleave(each)  # [B]
    better, worse = world.rewards[prompts[:, None], rows].float().unbind(1)
    chances = preference(better, worse)
    if labels == "hard":
        chances = (1 + (better - worse).sign()) / 2  # a tie is worth a half
    elif labels == "sampled":
        chances = torch.bernoulli(chances, generator=generator)
    return {
        "prompt_ids": world.prompt_ids[prompts], "prompt_mask": torch.ones_like(world.prompt_ids[prompts]),
        "completion_ids": world.completion_ids[rows], "completion_mask": world.completion_mask[rows],
        "labels": chances,
    }  # fmt: skip


def train_on_world(world: TokenWorld, cfg: Config, log: RunLog, name: str) -> Float[Tensor, "N M"]:
    """The same `update` on the token world; returns log-probabilities of all completions, logs the way."""
    cfg, num = dataclasses.replace(cfg, beta=cfg.world_beta, num_groups=1), cfg.num_fixed_pairs
    policy, reference = world.reference(), world.reference()
    generator = torch.Generator().manual_seed(cfg.seed)
    weights = world.reference_log_probs().exp() ** (cfg.pairs_from == "reference")  # [N, M]
    fixed = draw_pairs(world, weights, num, cfg.labels, generator) if num else {}
    optimizer = torch.optim.Adam([policy.table], lr=cfg.world_learning_rate, fused=True)
    for step in log.track(range(cfg.world_steps), f"updates ({name})", f"token_gap_{name}"):
        optimizer.param_groups[0]["lr"] = cfg.world_learning_rate * (1 - step / cfg.world_steps)
        if fixed:
            rows = torch.randint(num, (cfg.world_batch,), generator=generator)
            batch = {what: values[rows] for what, values in fixed.items()}
        else:
            batch = draw_pairs(world, weights, cfg.world_batch, cfg.labels, generator)
        update(policy, optimizer, add_reference(batch, reference), cfg)
        if (step + 1) % -(-cfg.world_steps // 10) == 0 or step + 1 == cfg.world_steps:
            found = world.log_probs(policy).detach()
            kl, reward, gap = world.kl(found), world.expected_reward(found), world.gap_closed(found, cfg.beta)
            values = {"kl": kl, "reward": reward, "gap": gap}
            log.write(step + 1, **{f"token_{what}_{name}": value for what, value in values.items()})
    return found


# %% [markdown]
r"""
## 4. Reviews

A pair is two reviews that the base model wrote after one prompt. The one with the better sentiment is
chosen; ties are dropped. The verdict never varies: these are hard labels on finitely many pairs, so section
3 promises no optimum. What stops the policy here is that training stops. That is common practice: one to
three epochs.
"""


# %%
@torch.no_grad()
def write_texts(policy: nn.Module, lm: LoadedModel, num: int, cfg: Config, seed: int) -> dict[str, Any]:
    """Completions of each prompt in turn, `num` rounded up to an even number of rounds, and their texts."""
    encoded = lm.tokenizer(list(PROMPTS), return_tensors="pt", padding=True)
    rounds = 2 * -(-num // (2 * len(PROMPTS)))
    prompt_ids, prompt_mask = (encoded[name].repeat(rounds, 1) for name in ("input_ids", "attention_mask"))
    eos, pad = lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id
    generator, parts = torch.Generator().manual_seed(seed), []
    for rows in torch.arange(len(prompt_ids)).split(20 * len(PROMPTS)):
        parts.append(sample(policy, prompt_ids[rows], prompt_mask[rows], cfg.num_tokens, eos, pad, generator))
    ids, mask = (torch.cat(part) for part in zip(*parts))
    texts = lm.tokenizer.batch_decode(torch.cat([prompt_ids, ids], 1), skip_special_tokens=True)
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "texts")
    return dict(zip(names, (prompt_ids, prompt_mask, ids, mask, texts)))


def review_pairs(base: nn.Module, lm: LoadedModel, cfg: Config) -> Pairs:
    """Pairs of the base model's reviews after the same prompt, the better one first."""
    written = write_texts(base, lm, 7 * cfg.num_pairs // 2, cfg, seed=cfg.seed)
    # a text that was cut off is closed
    written["completion_ids"][written["completion_mask"].all(1), -1] = lm.tokenizer.eos_token_id
    whole = torch.cat([written["prompt_ids"], written["completion_ids"]], 1)
    texts = lm.tokenizer.batch_decode(whole, skip_special_tokens=True)
    # the prompts come round in turn: rows that lie one round apart continue the same prompt
    scores = torch.from_numpy(sentiment(texts)).reshape(-1, 2, len(PROMPTS))
    order = scores.argsort(dim=1, descending=True)
    rows = torch.arange(scores.numel()).reshape(scores.shape).gather(1, order)
    rows = rows.transpose(1, 2)[scores[:, 0] != scores[:, 1]]  # [pairs that differ, 2]: chosen, rejected
    generator = torch.Generator().manual_seed(cfg.seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[: cfg.num_pairs]]
    prompts = {name: written[name][rows[:, 0]] for name in ("prompt_ids", "prompt_mask")}
    completions = {name: written[name][rows] for name in ("completion_ids", "completion_mask")}
    return {**prompts, **completions, "labels": torch.ones(len(rows))}


@torch.no_grad()
def judge(policy: nn.Module, lm: LoadedModel, usual: np.ndarray, cfg: Config) -> tuple[dict, list[str]]:
    """({measure: value}, texts) of fresh samples; `usual` is the sentiment of the base model's."""
    ours = write_texts(policy, lm, cfg.num_eval_texts, cfg, seed=cfg.seed + 10_000)
    written = [ours[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
    log_probs, ref_log_probs = token_log_probs(policy, *written), token_log_probs(lm.model, *written)
    good = sentiment(ours["texts"])  # [B], the same prompts as those of `usual`
    found = {
        "win_rate": ((good > usual) + 0.5 * (good == usual)).mean(),
        "kl": (log_probs - ref_log_probs).sum(1).mean(), "sentiment": good.mean(),
        "positive": (good > 0).mean(), "perplexity": (-ref_log_probs.sum() / written[3].sum()).exp(),
        "distinct": len(set(ours["texts"])) / len(good), "length": written[3].sum(1).float().mean(),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}, ours["texts"]


# %% [markdown]
r"""
## 5. Run, look, break

*The figure, above.* Soft labels end on the star, and at every other $\beta$ on the frontier. Sampled labels
find the same place, with noise. Hard labels run past it: a little more reward, dearly bought. Fixed pairs
leave the frontier, for the policy learns 20,000 verdicts and not the reward. IPO stops at an optimum of its
own, at the same $\beta$ a more timid one. Means over tokens let a long text move further than a short one,
which is another problem with another answer. If the reference trains along, every margin is 0, every weight
in (5) stays a half, and nothing ever pulls back.

*Below.* In the end even the **chosen** reviews are less likely than before (`razin2025displacement`). That
looks like a bug, and the exact optimum does it as well: over the reference's own texts the mean of $h$ is
$-\mathrm{KL}(\pi_\text{ref} \Vert \pi^\ast)$, so most texts must fall, and the mass goes to those that beat
both of a pair. The danger lies elsewhere: (4) sees only differences, and does not say *where* the mass
goes.

*TRL.* On the same pairs in the same order its weights end where ours do, but for rounding. Its default asks
the reference again at every step; with `precompute_ref_log_probs=True` it asks once, as `add_reference`
does, before it starts. Ours is faster because texts of like length share a pass and little of it is
padding; with `--num-groups 1` it takes about as long as TRL. In its IPO loss TRL 1.12 divides each $h$ by
the number of tokens, and notes that the authors' experiments did so; equation 17 of `azar2024ipo`, our (6),
does not. `average=True` gives TRL's. Its `sigmoid` loss takes no soft labels, and ignores
`label_smoothing`. And it glues EOS to a text without one, which a tokenizer that splits at spaces cannot
read: end your texts with it.

*The prompt.* With sums it does no harm to score the prompt's tokens as well. Both texts share the prompt,
and its log-probability cancels in $h_w - h_l$. With means it does not cancel.

**Break it.** `--learning-rate 1e-3`, five times the preset. It wins 98 times in 100 and the margin is five
times as wide, so every curve that one usually watches looks better. But KL went from 3 nats to 15, the base
model's perplexity doubled, and the texts read "i adored . ending and the critics loved it with my family".

**Exercises.** (1) Derive the mean of $h$ over the reference, and when the chosen texts rise at the optimum.
(2) With `--world-steps 8000` the gap of sampled labels on fresh pairs closes, and that of fixed pairs
opens. Why? (3) Draw pairs from the 100 likeliest completions only. Where does DPO with soft labels end, and
what did (4) never see?
"""

# %%
WORLD = {  # one factor changed at a time
    "soft": {}, "uniform": {"pairs_from": "uniform"}, "sampled": {"labels": "sampled"},
    "fixed": {"labels": "sampled", "num_fixed_pairs": 20_000}, "hard": {"labels": "hard"},
    "smoothed": {"labels": "hard", "label_smoothing": 0.1}, "ipo": {"labels": "hard", "loss": "ipo"},
    "mean": {"average": True}, "along": {"reference_trains_along": True},
}  # fmt: skip
BETAS = (0.35, 1.0, 2.0)
TRAINERS = ("ours", "trl", "trl_precomputed")  # the last computes the reference's log-probabilities first


def chance_to_win(world: TokenWorld, hard: bool) -> Float[Tensor, "N M"]:
    """Probability that each completion is preferred to a random one of the reference."""
    chances = []
    for rewards, probs in zip(world.rewards, world.reference_log_probs().exp()):
        gap = rewards[:, None] - rewards[None]  # [M, M]
        chances.append(((1 + gap.sign()) / 2 if hard else gap.sigmoid()) @ probs)
    return torch.stack(chances)


def optimal_displacement(world: TokenWorld, beta: float) -> tuple[float, float]:
    """Mean h of the chosen and of the rejected completions of all pairs, at the exact optimum."""
    reference, wins = world.reference_log_probs(), chance_to_win(world, hard=False)
    h = world.optimum(beta) - reference
    chosen, rejected = ((2 * share * reference.exp() * h).sum(1).mean() for share in (wins, 1 - wins))
    return float(chosen), float(rejected)


def claim_world(cfg: Config, log: RunLog) -> TokenWorld:
    """Every kind of label and every ablation, beside the exact answers."""
    world, beta = token_world(cfg.seed), cfg.world_beta
    chosen, rejected = optimal_displacement(world, beta)
    log.write(0, token_optimum_rejected=rejected)
    log.claim(
        "optimum_chosen", "at the exact optimum of the token world the chosen completions are less likely",
        chosen, at_most=0.0, unit="nats", source="enumeration of all pairs", always=True, seeds="5/5",
    )  # fmt: skip
    found, gaps = {}, {}
    for name, changes in WORLD.items():
        found[name] = train_on_world(world, dataclasses.replace(cfg, **changes), log, name)
        gaps[name] = world.gap_closed(found[name], beta)
    sweep = []
    for other in BETAS:
        variant = dataclasses.replace(cfg, world_beta=other)
        sweep.append(world.gap_closed(train_on_world(world, variant, log, f"beta_{other:g}"), other))
    # azar2024ipo: with the chance to win for a reward, IPO's optimum has the form of (1)
    own = dataclasses.replace(world, rewards=chance_to_win(world, hard=True))
    gaps |= {"beta": min(sweep), "ipo": own.gap_closed(found["ipo"], beta)}
    exact = {"unit": "of the gap to the optimum", "source": "exact policy evaluation"}
    for name, statement in {
        "soft": "DPO with soft labels on fresh pairs reaches PPO's optimum",
        "uniform": "so it does on pairs drawn uniformly", "beta": "and at other betas (the worst of them)",
        "ipo": "IPO with hard labels reaches a finite optimum of its own",
    }.items():  # fmt: skip
        log.claim(f"{name}_gap", statement, gaps[name], at_least=0.95, **exact)
    for name, statement in {
        "hard": "hard labels miss PPO's optimum", "mean": "means over tokens miss it",
        "fixed": "one sampled label for each of 20,000 fixed pairs misses it",
    }.items():  # fmt: skip
        log.claim(f"{name}_gap", statement, gaps[name], at_most=0.95, **exact)
    far = {"hard": "DPO with hard labels", "along": "DPO whose reference trains along"}
    for name, who in far.items():
        log.claim(
            f"{name}_kl", f"{who} ends further from the reference than the optimum lies",
            world.kl(found[name]) / world.kl(world.optimum(beta)), at_least=1.0, unit="times its KL",
            source="(5): the push never ends",
        )  # fmt: skip
    return world


def count_prompt(pairs: Pairs) -> Pairs:
    """The mistake: unpadded prompts' tokens, but for the first, count as if they had been written."""
    rest = pairs["prompt_ids"][:, None, 1:].expand(-1, 2, -1)  # [B, 2, P - 1]
    return {
        **pairs, "prompt_ids": pairs["prompt_ids"][:, :1], "prompt_mask": pairs["prompt_mask"][:, :1],
        "completion_ids": torch.cat([rest, pairs["completion_ids"]], 2),
        "completion_mask": torch.cat([torch.ones_like(rest).bool(), pairs["completion_mask"]], 2),
    }  # fmt: skip


def moved(base: nn.Module, cfg: Config) -> nn.Module:
    """A policy that is not its reference, or every log-ratio would be 0."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(cfg.seed)
    for parameter in policy.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy


@torch.no_grad()
def claim_prompt(base: nn.Module, pairs: Pairs, cfg: Config, log: RunLog) -> None:
    lengths = pairs["prompt_mask"].sum(1)
    usual = int(lengths.mode().values)  # prompts of one length need no padding
    some = {name: values[lengths == usual] for name, values in pairs.items()}
    some |= {name: some[name][:, -usual:] for name in ("prompt_ids", "prompt_mask")}
    policy, change = moved(base, cfg), {}
    for average in (False, True):
        variant = dataclasses.replace(cfg, average=average)
        right, wrong = (
            log_ratios(policy, add_reference(batch, base), variant) @ torch.tensor([1.0, -1.0])
            for batch in (some, count_prompt(some))
        )
        change[average] = ((right - wrong).abs().max() / right.abs().max()).item()
    largest = {"unit": "of the largest margin"}
    log.claim(
        "prompt_in_sum", "to score the prompt's tokens as well does not change the margin of any pair",
        change[False], at_most=1e-5, source="in (4) they cancel", always=True, seeds="5/5", **largest,
    )  # fmt: skip
    log.claim(
        "prompt_in_mean", "with means over tokens it does", change[True], at_least=0.01,
        source="far above rounding", **largest,
    )  # fmt: skip


def claim_parity(base: nn.Module, pairs: Pairs, lm: LoadedModel, cfg: Config, log: RunLog) -> None:
    """The same numbers as TRL's from the same weights and pairs, for both losses."""
    few = {name: values[:32] for name, values in pairs.items()}
    plain = dataclasses.replace(cfg, average=False, label_smoothing=0.0, reference_trains_along=False)
    gaps = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = dpo_trainer(base, few, lm.tokenizer, cfg, folder)
        trainer.model.load_state_dict(moved(base, cfg).state_dict())
        for loss, theirs in (("dpo", "sigmoid"), ("ipo", "ipo")):
            same = dataclasses.replace(plain, loss=loss, average=loss == "ipo")

            def ours(policy: nn.Module, same: Config = same) -> tuple:
                rewards = implicit_rewards(log_ratios(policy, few, plain), plain.beta)
                return pair_loss(policy, few, same)[0], rewards.mean(0).tolist()

            gaps.append(dpo_gaps(trainer, theirs, ours))
    for what, gap in zip(("loss", "reward", "gradient"), np.array(gaps).max(axis=0)):
        log.claim(
            f"trl_{what}_gap", f"our {what} equals TRL's on the same batch, DPO and IPO", gap, at_most=1e-5,
            source="trl 1.12.0's DPOTrainer, run in the same process", always=True, seeds="5/5",
        )  # fmt: skip


@torch.no_grad()
def claim_displacement(policy: nn.Module, pairs: Pairs, log: RunLog) -> None:
    """How far training moved the log-probabilities of its own pairs."""
    change = add_reference(pairs, policy, 16)["ref_log_probs"] - pairs["ref_log_probs"]
    chosen, rejected = change.sum(-1).mean(0).tolist()
    log.claim(
        "chosen_change", "training on them makes the chosen reviews less likely", chosen, at_most=0.0,
        unit="nats", source="razin2025displacement",
    )  # fmt: skip
    log.claim(
        "margin_change", "while the margin to the rejected ones grows", chosen - rejected, at_least=0.0,
        unit="nats", source="it is all that (4) rewards",
    )  # fmt: skip


def race(base: nn.Module, lm: LoadedModel, cfg: Config, log: RunLog) -> tuple[dict, dict]:
    """Ours and TRL's on the same pairs: ({name: policy}, {name: (CPU seconds, megabytes)})."""
    bare, policies, costs = review_pairs(base, lm, cfg), {}, {}
    for name in TRAINERS:
        clock, start = CpuClock(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak, clock:
            if name == "ours":
                pairs = add_reference(bare, base, num_groups=16)
                policies[name] = train(copy.deepcopy(base), pairs, cfg, log)
            else:
                trainer = dpo_trainer(base, bare, lm.tokenizer, cfg, folder, name == "trl_precomputed")
                with silence():
                    trainer.train()
                policies[name] = trainer.model.eval()
        costs[name] = clock.seconds, peak.megabytes
        seconds = {"cpu_seconds": clock.seconds, "wall_seconds": time.perf_counter() - start}
        log.write(0, **{f"{name}_{what}": value for what, value in seconds.items()})
        if name == "ours":  # now TRL is imported, which no racer is charged for
            claim_prompt(base, bare, cfg, log)
            claim_parity(base, pairs, lm, cfg, log)
    both = zip(policies["ours"].parameters(), policies["trl"].parameters())
    log.write(0, trl_weight_gap=max((a - b).abs().max().item() for a, b in both))
    claim_displacement(policies["ours"], pairs, log)
    policies["ipo"] = train(copy.deepcopy(base), pairs, dataclasses.replace(cfg, loss="ipo"), log, "ipo")
    return policies, costs


def claim_reviews(found: dict[str, dict], costs: dict, cfg: Config, log: RunLog) -> None:
    ours, base = found["ours"], found["base"]
    spread = 1.96 * (0.5 / cfg.num_eval_texts) ** 0.5  # of a difference of two rates, at most
    for name, statement, value, bound, unit, source in (
        ("win_rate", "DPO's reviews beat the base model's after the same prompts, ties at half",
         ours["win_rate"], {"at_least": 0.7}, "", "the course's bar; the base itself has 0.5"),
        ("kl", "they stay near the base model", ours["kl"], {"at_most": 8.0}, "nats", "D2's bar"),
        ("fluency", "they read almost like its own", ours["perplexity"] / base["perplexity"],
         {"at_most": 1.5}, "times its own perplexity", "half as much again"),
        ("distinct", "hardly any text comes twice", ours["distinct"], {"at_least": 0.9}, "", "D2's bar"),
        ("same_outcome", "TRL's policy wins as often as ours", found["trl"]["win_rate"] - ours["win_rate"],
         {"near": (0.0, spread)}, "", "95 % interval of a difference of rates"),
    ):  # fmt: skip
        log.claim(name, statement, value, **bound, unit=unit, source=source)
    fastest = min(costs["trl"][0], costs["trl_precomputed"][0])
    for name, statement, value in (
        ("time", "ours takes no more CPU seconds than TRL's faster setting", costs["ours"][0] / fastest),
        ("memory", "nor more memory, libraries included", costs["ours"][1] / costs["trl"][1]),
    ):  # fmt: skip
        log.claim(
            f"{name}_beside_trl", statement, value, at_most=1.0, unit="of TRL's", timed=True,
            source="trl 1.12.0, same pairs, same order",
        )  # fmt: skip


def main(cfg: Config, log: RunLog) -> None:
    lm = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    base = lm.model.requires_grad_(True)
    preset = 2e-4 if base.num_parameters() < 2e6 else 1e-5
    cfg = dataclasses.replace(cfg, learning_rate=cfg.learning_rate or preset)
    seed_everything(cfg.seed)
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # imports torch's compiler: no racer is charged for that
    policies, costs = race(base, lm, cfg, log)
    found, texts = {}, {}
    usual = sentiment(write_texts(base, lm, cfg.num_eval_texts, cfg, seed=cfg.seed + 20_000)["texts"])
    for name, policy in {"base": base, **policies}.items():
        found[name], texts[name] = judge(policy, lm, usual, cfg)
        log.write(0, **{f"{name}_{what}": value for what, value in found[name].items()})
    claim_reviews(found, costs, cfg, log)
    draw_results(claim_world(cfg, log), BETAS, found, costs, cfg, log)
    draw_samples({"Base model": texts["base"], "After DPO": texts["ours"]}, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
