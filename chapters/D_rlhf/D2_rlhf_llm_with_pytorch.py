# %% [markdown]
r"""
# D2 · RLHF on a language model, in PyTorch

**Question.** How does PPO turn a language model that writes anything into one that writes what is rewarded,
what holds it to its language meanwhile, and what happens when nothing does?

**Before this:** C3 (PPO) and D0 (where the objective comes from). **Changes from C3:** the policy is a
pretrained GPT-2, an action is a token, an episode is a text, the reward comes once, at its end, and every
token pays for its distance from a frozen copy of the model. **Next:** D3 learns the reward from comparisons.

**Time budget.** 150 s on 2 cores.

<!-- results: D2 -->

`rl run D2`: 56 s, 1056 MB. `rl run D2 --smoke`: 10 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| charge_gap      | 1.03e-15 (6.66e-16 to 1.22e-15) | ≤ 1e-10 | 5/5 |
| gae_gap         | 8.88e-16 (4.44e-16 to 8.88e-16) | ≤ 1e-10 | 5/5 |
| gap_closed      | 0.989 (0.983 to 0.992)          | ≥ 0.95  | 5/5 |
| flipped_gap     | -1.89 (-2.06 to -1.57)          | ≤ 0     | 5/5 |
| reward_before   | 0.0547 (0.0391 to 0.125)        | 0 ± 0.3 | 5/5 |
| reward_after    | 2.73 (2.67 to 2.75)             | ≥ 2     | 5/5 |
| positive        | 0.992 (0.988 to 0.996)          | ≥ 0.9   | 5/5 |
| kl              | 4.07 (3.48 to 4.27)             | ≤ 8     | 5/5 |
| distinct        | 1                               | ≥ 0.9   | 5/5 |
| broken_score    | 18.5 (17.1 to 19.4)             | ≥ 6     | 5/5 |
| broken_surprise | 11 (10.6 to 11.5)               | ≥ 4.554 | 5/5 |
| first_ratio_gap | 0                               | ≤ 1e-05 | 5/5 |

<!-- /results -->

References: `ziegler2019finetuning`, `stiennon2020summarize`, `ouyang2022instructgpt`, `schulman2017ppo`,
`schulman2016gae`, `schulman2020kl`, `korbak2022bayesian`, `gao2023overoptimization`, `huang2024nimpl`,
`radford2019language`.

Symbols: `B` texts in a batch, `P` tokens of the longest prompt, `T` tokens of the longest completion, `V`
words of the vocabulary, $x$ prompt, $y$ completion, $\beta$ price of divergence, $w_t$ importance ratio.
"""

# %%
import copy
import dataclasses
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs.reviews import PROMPTS, sentiment, write_reviews
from chapters.envs.token_world import EOS, TokenWorld, token_world
from chapters.text.models import load_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, in_range, plotting, run_lesson
from chapters.utils.seeding import seed_everything

Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token
TEXT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
PRESETS = (  # parameters up to: learning rate, beta. A larger model needs smaller steps
    (2e6, 5e-4, 0.2),  # tiny
    (5e8, 5e-5, 0.05),  # smollm2, gpt2
    (math.inf, 1e-5, 0.05),
)


# %%
@dataclass(frozen=True)
class Config:
    """PPO on a pretrained language model, and on a world small enough to know the exact answer."""

    seed: int = 0
    """Seed of sampling, of the shuffles and of the token world."""
    only: Literal["all", "reviews", "tokens"] = "all"
    """Run everything, or just fine-tune the language model, or just the token world."""
    model: str = "tiny"
    """tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps that train the tiny model, once; it is then kept in a cache."""
    learning_rate: Annotated[float, in_range(0.0, 1.0)] = 0.0
    """Adam's step size at the start; 0 takes the preset for the model's size."""
    beta: Annotated[float, in_range(-1.0, 100.0)] = -1.0
    """Price of a nat of divergence from the reference; below 0 takes the preset."""
    num_prompts: Annotated[int, in_range(2, 10_000)] = 64
    """B: texts sampled in each update."""
    num_tokens: Annotated[int, in_range(1, 1000)] = 20
    """T: longest completion."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 36
    """Batches sampled and learnt from."""
    num_epochs: Annotated[int, in_range(1, 100)] = 2
    """Passes over each batch."""
    num_minibatches: Annotated[int, in_range(1, 1000)] = 2
    """Parts of a batch, one gradient step each."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one token; 1 never trusts it."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a token's ratio may move before the reason to move it further is taken away."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Weight of the value loss."""
    max_grad_norm: Annotated[float, in_range(1e-6, 1e9)] = 1.0
    """Bound on the norm of the whole gradient."""
    target_kl: Annotated[float, in_range(0.0, 1e9)] = 0.1
    """Stop a batch's epochs once a token's distribution has moved this far."""
    anneal: bool = False
    """Let the learning rate fall to zero in a line."""
    reward_cap: Annotated[float, in_range(1e-3, 1e9)] = 3.0
    """Scores are cut off at plus and minus this before learning."""
    whiten_advantages: bool = True
    """Give the advantages of a batch's tokens mean 0 and deviation 1."""
    average: Literal["tokens", "texts"] = "tokens"
    """The loss: a mean over all tokens, or over texts of each text's mean."""
    count_after_eos: bool = False
    """The bug: treat the filling behind the end of a text as more of its tokens."""
    flip_kl: bool = False
    """The bug: pay for divergence instead of charging for it."""
    num_eval_texts: Annotated[int, in_range(2, 100_000)] = 256
    """Fresh texts for every measurement."""
    num_token_updates: Annotated[int, in_range(1, 100_000)] = 120
    """Updates of PPO on the token world."""


SMOKE = {
    "pretrain_steps": 20, "num_prompts": 8, "num_tokens": 8, "num_updates": 1, "num_eval_texts": 16,
    "num_token_updates": 2,
}  # fmt: skip

# %% [markdown]
r"""
## 1. Texts in a batch

Prompts differ in length. They are padded on the **left**, so that every completion starts in the same column;
the padding must then not count when positions are numbered. Completions end at different times and are
padded on the right. The `completion_mask` is True up to and *including* the end-of-sequence token: to stop is
an action, and it must be learnt like any other.

`sample` draws from the policy's own distribution, nothing cut off and no temperature: the probabilities below
must be those that the tokens were drawn with.

$$\log \pi(y \mid x) = \textstyle\sum_t \log \pi(y_t \mid x, y_{<t}) \tag{1}$$

The logits in column $t$ predict the token of column $t + 1$. That shift by one is the most popular mistake
of this field.
"""


# %%
def positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token in its own text: padding on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


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
    return chosen.masked_fill(~completion_mask, 0.0)  # eq. (1): their sum is log pi(y | x)


# %% [markdown]
r"""
## 2. A reward for each token

The score $r(x, y)$ judges a whole text, so it is paid once, with the last token. What keeps the model at
its language is paid on the way: each token is charged by how much more likely it has become than under the
*reference*, a frozen copy of the model as it was (`ziegler2019finetuning`):

$$r_t = -\beta \bigl[\log \pi_{\theta_\text{old}}(y_t \mid x, y_{<t}) - \log \pi_\text{ref}(y_t \mid x,
y_{<t})\bigr] + \mathbb 1[t \text{ is the last token}]\; r(x, y) \tag{2}$$

Over a text these add up to $r(x, y) - \beta \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)}$, whose
mean over the policy's own texts is $\mathbb E[r] - \beta\,\mathrm{KL}(\pi \Vert \pi_\text{ref})$: the
objective of D0. A single charge may well be negative. Only its mean may not.

Everything else is C3's, with $\gamma = 1$: texts are short, and the last token's score belongs to the
first token as much. A text that was cut off at $T$ tokens is *complete*: its score was paid for what stands
there. So both ways to end are `terminated`, and nothing behind the last token has a value:

$$\delta_t = r_t + V(s_{t+1})\,m_{t+1} - V(s_t), \qquad \hat A_t = \delta_t + \lambda\, \hat A_{t+1}\, m_{t+1}
\tag{3}$$

with $m_t$ the mask. The advantages are whitened over the tokens that exist. Padding has no advantage, and if
it took part its zeros would shrink the spread:

$$\tilde A_t = \frac{\hat A_t - \mu_m}{\sigma_m}, \qquad \mu_m = \frac{\sum m_t \hat A_t}{\sum m_t} \tag{4}$$
"""


# %%
def token_rewards(
    scores: Float[Tensor, " B"], log_ratio: Grid, completion_mask: Mask, beta: float
) -> Float[Tensor, "B T"]:
    """A charge for each token's `log_ratio`, policy over reference; the score comes with the last."""
    last = completion_mask.sum(dim=1) - 1  # [B]
    rewards = -beta * log_ratio * completion_mask
    rewards[torch.arange(len(scores)), last] += scores  # eq. (2)
    return rewards


def gae(rewards: Grid, values: Grid, completion_mask: Mask, gae_lambda: float) -> Float[Tensor, "B T"]:
    """Advantages of tokens, undiscounted; behind the last token of a text there is nothing."""
    exists = completion_mask.to(rewards.dtype)
    values, advantages = values * exists, torch.zeros_like(rewards)
    next_values = running = torch.zeros_like(rewards[:, 0])  # [B]
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_values - values[:, t]  # eq. (3)
        running = (delta + gae_lambda * running) * exists[:, t]
        advantages[:, t], next_values = running, values[:, t]
    return advantages


def masked_mean(numbers: Grid, mask: Mask) -> Float[Tensor, ""]:
    """Mean over the tokens that exist."""
    return (numbers * mask).sum() / mask.sum()


def whiten(advantages: Grid, mask: Mask) -> Float[Tensor, "B T"]:
    """Mean 0 and standard deviation 1 over the tokens that exist; 0 elsewhere."""
    centred = (advantages - masked_mean(advantages, mask)) * mask
    deviation = (centred.pow(2).sum() / (mask.sum() - 1)).sqrt()
    return centred / (deviation + 1e-8)  # eq. (4)


# %% [markdown]
r"""
## 3. The loss

The ratio of each token, and C3's objective for it:

$$w_t = \exp\bigl[\log \pi_\theta(y_t \mid x, y_{<t}) - \log \pi_{\theta_\text{old}}(y_t \mid x, y_{<t})\bigr]
\tag{5}$$

$$L_t = \min\bigl(w_t \tilde A_t,\; \mathrm{clip}(w_t,\, 1-\epsilon_\text{clip},\, 1+\epsilon_\text{clip})\,
\tilde A_t\bigr) \tag{6}$$

$$\mathcal L = \frac{1}{\sum m_t} \sum m_t \bigl[-L_t + c_v\,(V(s_t) - \hat R_t)^2\bigr],
\qquad \hat R_t = \hat A_t + V_\text{old}(s_t) \tag{7}$$

One mean over all tokens of the batch: every token weighs the same. The mean of each text's mean would let a
token of a short text weigh more, and the model would learn most from texts that happened to be short.
"""


# %%
# same-as: C3.clipped_surrogate
def clipped_surrogate(
    ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], clip_eps: float
) -> Float[Tensor, "*B"]:
    """PPO's objective of each token, to be raised (schulman2017ppo)."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (6)


def ppo_loss(
    objective: Grid, values: Grid, returns: Grid, mask: Mask, vf_coef: float, average: str = "tokens"
) -> Float[Tensor, ""]:
    """What the optimiser lowers: minus the objective, plus the critic's squared error, over real tokens."""
    losses = vf_coef * (values - returns).pow(2) - objective  # [B, T]
    if average == "texts":
        return ((losses * mask).sum(dim=1) / mask.sum(dim=1)).mean()
    return masked_mean(losses, mask)  # eq. (7)


# %% [markdown]
r"""
## 4. Policy, batch, update

The critic is one linear layer on the language model's last hidden state, which has read everything so far.
It starts at zero and shares the rest of the network with the policy.
"""


# %%
class PolicyWithValue(nn.Module):
    """A causal language model that also says, after each token, what reward it still expects."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.value_head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, **inputs) -> SimpleNamespace:
        """`.logits` [B, T, V], `.values` [B, T], `.past_key_values`."""
        out = self.model.base_model(**inputs)
        hidden = out.last_hidden_state  # [B, T, width]
        values = self.value_head(hidden).squeeze(-1)
        logits = self.model.get_output_embeddings()(hidden)
        return SimpleNamespace(logits=logits, values=values, past_key_values=out.past_key_values)


class Task(NamedTuple):
    """What to write about, and what it is worth."""

    prompt_ids: Int[Tensor, "N P"]
    prompt_mask: Int[Tensor, "N P"]
    num_tokens: int
    eos_id: int
    pad_id: int
    score: Callable[[Tensor, Tensor], Tensor]
    """(prompt_ids [B, P], completion_ids [B, T]) -> scores [B]."""


def log_probs_and_values(policy: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`token_log_probs` and, from the same pass, the value before each completion token: [B, T] each."""
    prompt_ids, prompt_mask, completion_ids, completion_mask = text = [batch[name] for name in TEXT]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)  # [B, P + T]
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    log_probs = token_log_probs(lambda **_: out, *text)  # of that pass: none is made twice
    return log_probs, out.values[:, prompt_ids.shape[1] - 1 : -1]


@torch.no_grad()
def collect(
    policy: nn.Module, reference: nn.Module, task: Task, generator: torch.Generator, cfg: Config
) -> dict[str, Tensor]:
    """Sample a batch of texts, score them, and judge each token by policy and reference; all constant."""
    rows = torch.randint(len(task.prompt_ids), (cfg.num_prompts,), generator=generator)
    prompt_ids, prompt_mask = task.prompt_ids[rows], task.prompt_mask[rows]
    completion_ids, completion_mask = sample(
        policy, prompt_ids, prompt_mask, task.num_tokens, task.eos_id, task.pad_id, generator
    )
    scores = task.score(prompt_ids, completion_ids)
    if cfg.count_after_eos:  # what happens if padding is the EOS token and nobody makes a mask
        completion_ids = completion_ids.masked_fill(~completion_mask, task.eos_id)
        completion_mask = torch.ones_like(completion_mask)
    text = (prompt_ids, prompt_mask, completion_ids, completion_mask)
    batch = dict(zip(TEXT, text))
    batch["old_log_probs"], batch["values"] = log_probs_and_values(policy, batch)
    batch["ref_log_probs"] = token_log_probs(reference, *text)
    batch["scores"] = scores.to(batch["values"].dtype)
    return batch


def prepare(batch: dict[str, Tensor], cfg: Config) -> dict[str, Tensor]:
    """The batch with each token's advantage and the critic's target."""
    mask, log_ratio = batch["completion_mask"], batch["old_log_probs"] - batch["ref_log_probs"]
    scores = batch["scores"].clamp(-cfg.reward_cap, cfg.reward_cap)
    rewards = token_rewards(scores, log_ratio, mask, -cfg.beta if cfg.flip_kl else cfg.beta)
    advantages = gae(rewards, batch["values"], mask, cfg.gae_lambda)
    returns = advantages + batch["values"] * mask
    advantages = whiten(advantages, mask) if cfg.whiten_advantages else advantages
    return {**batch, "advantages": advantages, "returns": returns}


def minibatch_loss(
    policy: nn.Module, mini: dict[str, Tensor], cfg: Config
) -> tuple[Float[Tensor, ""], Float[Tensor, "B T"]]:
    """(loss, ratio of each token; 1 where there is none)."""
    log_probs, values = log_probs_and_values(policy, mini)
    ratio = (log_probs - mini["old_log_probs"]).exp()  # eq. (5)
    objective = clipped_surrogate(ratio, mini["advantages"], cfg.clip_eps)
    mask = mini["completion_mask"]
    return ppo_loss(objective, values, mini["returns"], mask, cfg.vf_coef, cfg.average), ratio


def update(
    policy: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor],
    generator: torch.Generator, cfg: Config,
) -> tuple[float, float]:  # fmt: skip
    """Several passes over one batch. Returns (KL moved a token, how far the very first ratio was from 1)."""
    size, first_gap = len(batch["scores"]), None
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(size, generator=generator).chunk(cfg.num_minibatches):
            mini = {name: values[rows] for name, values in batch.items()}
            loss, ratio = minibatch_loss(policy, mini, cfg)
            if first_gap is None:
                first_gap = (ratio.detach() - 1.0).abs().max().item()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), cfg.max_grad_norm)
            optimizer.step()
        ratio = ratio.detach()  # of the epoch's last minibatch: a look, not a proof
        kl = masked_mean(ratio - 1.0 - ratio.log(), mini["completion_mask"]).item()  # schulman2020kl
        if kl > cfg.target_kl:
            break
    return kl, first_gap


def train(
    policy: nn.Module, reference: nn.Module, task: Task, cfg: Config, log: RunLog, name: str,
    watch: Callable[[int], None] = lambda step: None,
) -> float:  # fmt: skip
    """Fine-tune `policy` in place. Returns the largest distance of a first ratio from 1."""
    generator = torch.Generator().manual_seed(cfg.seed)
    reference.requires_grad_(False)
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, eps=1e-5, fused=True)
    gap = 0.0
    for i in log.track(range(cfg.num_updates), f"updates ({name})", f"{name}_score"):
        left = 1.0 - i / cfg.num_updates if cfg.anneal else 1.0
        optimizer.param_groups[0]["lr"] = cfg.learning_rate * left
        batch = collect(policy, reference, task, generator, cfg)
        moved, first_gap = update(policy, optimizer, prepare(batch, cfg), generator, cfg)
        gap = max(gap, first_gap)
        kl = (batch["old_log_probs"] - batch["ref_log_probs"]).sum(dim=1).mean()
        scores = batch["scores"].clamp(-cfg.reward_cap, cfg.reward_cap)
        seen = {"score": scores.mean(), "kl": kl, "moved": moved}
        log.write(i, **{f"{name}_{what}": value for what, value in seen.items()})
        watch(i + 1)
    return gap


# %% [markdown]
r"""
## 5. Run, look, break

*The figure.* The **token world** is so small that every text in it can be listed, so the best reward at each
KL is known: the dashed line, where $\pi \propto \pi_\text{ref}\, e^{r/\beta}$ lies for every $\beta$
(`korbak2022bayesian`). The same `update` that trains the language model walks up to the star, the optimum for
$\beta = 0.5$. The best of $n$ samples of the reference, computed exactly, comes close to the line with no
training at all, but every answer costs $n$.

The **reviews**: the score rises within a dozen updates and the KL follows. Compare the texts: warm, and still
grammatical. The sweep shows what $\beta$ holds together. Its height is how surprised the *reference* is by a
word; above the upper line a text is stranger to it than words drawn from a hat.

*The ablations*, on the token world, one change at a time. Filling counted as text costs a good part of the
gap: to subtract a mean from the advantages is harmless for tokens that were sampled, but filling was not. Its
probability drifts, and the charge for that falls on texts that have ended. Clipping the rewards is another
objective; grey marks show where *its* optimum lies. Whitening and the mean of means change nothing here, and
it is worth knowing why: whitening rescales the step, and Adam takes scale out anyway; weights by length leave
the optimum where it was, because there every action of every state has advantage zero, whatever its weight.
Neither argument survives without a critic (D5). A flipped sign pays the policy for leaving.

*A larger model.* `--model smollm2 --only reviews --num-prompts 16 --num-updates 10 --num-eval-texts 32` tunes
135 M parameters, offline, with the extra `smollm`. One such run took 150 CPU seconds; positive texts went
from 2 of 32 to 5, at a KL of 2 nats. Few of them hold a word of the lexicon, so a batch of 16 says little.

**Break it.** `--only reviews --beta 0 --reward-cap 1e9`: "loved loved loved". The score has no ceiling,
nothing is charged for leaving, and of the language only the lexicon is left. `--beta 0` alone breaks too,
less wildly: the cap ends the climb, but if leaving is free, a heap of good words is worth as much as a
sentence with three.

**Exercises.** (1) Why may a single token's charge in (2) be negative, though a KL never is? (2) Run with
`--vf-coef 0` and explain what whitening then does for you. (3) In `token_rewards` put the score in column
`-1` instead of the last token's. Which texts still feel it? Run the check, then the token world.
"""

# %%
TOKENS = {
    "learning_rate": 0.03, "beta": 0.5, "num_prompts": 1024, "reward_cap": 1e9, "anneal": True,
    "vf_coef": 0.5, "max_grad_norm": 1e9, "target_kl": 1e9,
}  # fmt: skip
VARIANTS = {  # one detail changed at a time
    "as above": {}, "advantages not whitened": {"whiten_advantages": False},
    "mean of each text's mean": {"average": "texts"}, "filling counted as text": {"count_after_eos": True},
    "rewards clipped at 1": {"reward_cap": 1.0}, "sign of the KL flipped": {"flip_kl": True},
}  # fmt: skip
SWEEP = {
    "beta 1": {"beta": 1.0}, "beta 0.05": {"beta": 0.05}, "beta 0": {"beta": 0.0},
    "beta 0, no cap": {"beta": 0.0, "reward_cap": 1e9},
}  # fmt: skip


def with_presets(cfg: Config, num_parameters: int) -> Config:
    """The configuration with learning rate and beta that suit a model of this size, where none was given."""
    _, learning_rate, beta = next(row for row in PRESETS if num_parameters <= row[0])
    beta = cfg.beta if cfg.beta >= 0 else beta
    return dataclasses.replace(cfg, learning_rate=cfg.learning_rate or learning_rate, beta=beta)


def key(name: str) -> str:
    """A name as part of a metric's name."""
    return name.replace(" ", "_").replace(",", "")


def token_task(world: TokenWorld) -> Task:
    ones = torch.ones_like(world.prompt_ids)
    return Task(world.prompt_ids, ones, world.length, EOS, world.pad_id, world.reward)


def review_task(tokenizer, cfg: Config) -> Task:
    """Continue the beginning of a review; the score is the sentiment of the whole text, not yet capped."""
    encoded = tokenizer(list(PROMPTS), return_tensors="pt", padding=True)

    def score(prompt_ids: Tensor, completion_ids: Tensor) -> Tensor:
        texts = tokenizer.batch_decode(torch.cat([prompt_ids, completion_ids], 1), skip_special_tokens=True)
        return torch.from_numpy(sentiment(texts, cap=math.inf))

    ids = tokenizer.eos_token_id, tokenizer.pad_token_id
    return Task(encoded["input_ids"], encoded["attention_mask"], cfg.num_tokens, *ids, score)


def claim_identities(cfg: Config, log: RunLog) -> None:
    world, beta, exact = token_world(cfg.seed), 0.5, {"always": True, "seeds": "10/10"}
    cfg = Config(num_prompts=cfg.num_prompts)  # whatever bug was asked for
    task, generator = token_task(world), torch.Generator().manual_seed(0)
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    with torch.no_grad():
        policy.table += torch.randn(policy.table.shape, generator=generator, dtype=torch.float64)
        policy.value_table += torch.randn(policy.value_table.shape, generator=generator, dtype=torch.float64)
        listed = world.log_probs(policy) - world.reference_log_probs()  # [N, M]
    batch = collect(policy, reference, task, generator, cfg)
    log_ratio, mask = batch["old_log_probs"] - batch["ref_log_probs"], batch["completion_mask"]
    rewards = token_rewards(batch["scores"], log_ratio, mask, beta)
    rows = batch["prompt_ids"][:, 0] - world.prompt_ids[0, 0], world.rows(batch["completion_ids"])
    log.claim(
        "charge_gap", "the rewards of a text's tokens add up to its score minus beta times its log-ratio",
        (rewards.sum(dim=1) - batch["scores"] + beta * listed[rows]).abs().max(), at_most=1e-10,
        unit="nats", source="the enumerated log-probabilities of whole texts", **exact,
    )  # fmt: skip
    to_go = rewards.flip(1).cumsum(1).flip(1)
    gap = gae(rewards, batch["values"], mask, 1.0) - (to_go - batch["values"]) * mask
    log.claim(
        "gae_gap", "with lambda 1 an advantage is all reward to come minus the value",
        gap.abs().max(), at_most=1e-10, source="telescoping sum of (3)", **exact,
    )  # fmt: skip


def tokens(cfg: Config, log: RunLog) -> tuple[float, list[Callable]]:
    """PPO on the token world, whole and with one detail changed. Returns (first ratio's gap, panels)."""
    world, cfg = token_world(cfg.seed), dataclasses.replace(cfg, **TOKENS, num_updates=cfg.num_token_updates)
    gap = 0.0
    for variant, changes in VARIANTS.items():
        policy, name = world.reference(), key(variant)

        def measure(step: int, policy=policy, name=name) -> None:
            if step % 4 == 0 or step == cfg.num_updates:
                with torch.no_grad():
                    lp = world.log_probs(policy)
                log.write(step, **{f"gap_{name}": world.gap_closed(lp, cfg.beta)})
                if name == "as_above":
                    log.write(step, token_kl=world.kl(lp), token_reward=world.expected_reward(lp))

        changed = dataclasses.replace(cfg, **changes)
        gap = max(gap, train(policy, world.reference(), token_task(world), changed, log, name, measure))
    common = {"unit": "of the gap", "source": "enumeration of all texts", "seeds": "10/10"}
    log.claim(
        "gap_closed", "PPO closes the gap between the reference and the exact optimum on the token world",
        log.last("gap_as_above"), at_least=0.95, **common,
    )  # fmt: skip
    log.claim(
        "flipped_gap", "with the sign of the KL flipped the policy ends worse than it began",
        log.last("gap_sign_of_the_KL_flipped"), at_most=0.0, **common,
    )  # fmt: skip
    clipped = dataclasses.replace(world, rewards=world.rewards.clamp(-1.0, 1.0)).optimum(cfg.beta)
    log.write(0, gap_of_the_clipped_optimum=world.gap_closed(clipped, cfg.beta))
    return gap, [lambda ax: draw_chart(ax, world, cfg.beta, log)]


def read_texts(policy: nn.Module, reference: nn.Module, task: Task, tokenizer, cfg: Config) -> tuple:
    """(measurements of fresh texts, the texts); the same seed for every policy."""
    cfg, generator = dataclasses.replace(cfg, num_prompts=cfg.num_eval_texts), torch.Generator()
    batch = collect(policy, reference, task, generator.manual_seed(cfg.seed + 10_000), cfg)
    mask, ids = batch["completion_mask"], torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    texts = [" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    scores = batch["scores"].clamp(-cfg.reward_cap, cfg.reward_cap)
    return {
        "reward": scores.mean().item(),
        "positive": (scores > 0).float().mean().item(),
        "kl": (batch["old_log_probs"] - batch["ref_log_probs"]).sum(dim=1).mean().item(),
        "surprise": masked_mean(-batch["ref_log_probs"], mask).item(),
        "distinct": len(set(texts)) / len(texts),
    }, texts


def fine_tune(name: str, base: nn.Module, tokenizer, cfg: Config, log: RunLog) -> tuple[float, dict, list]:
    """PPO on the language model. Returns (first ratio's gap, measurements of fresh texts, the texts)."""
    task = review_task(tokenizer, cfg)
    policy = PolicyWithValue(copy.deepcopy(base)).requires_grad_(True)  # a copy of a frozen model is frozen
    gap = train(policy, base, task, cfg, log, key(name))
    found, texts = read_texts(policy, base, task, tokenizer, cfg)
    log.write(cfg.num_updates, **{f"{what}_{key(name)}": value for what, value in found.items()})
    return gap, found, texts


def reviews(cfg: Config, log: RunLog) -> tuple[float, list[Callable]]:
    """PPO on the reviews, and what beta does. Returns (first ratio's gap, panels)."""
    base, tokenizer = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    cfg = with_presets(cfg, sum(weights.numel() for weights in base.parameters()))
    task = review_task(tokenizer, cfg)
    before, first = read_texts(PolicyWithValue(base), base, task, tokenizer, cfg)
    log.write(0, **{f"{what}_before": value for what, value in before.items()})
    gap, after, texts = fine_tune("review", base, tokenizer, cfg, log)
    found, shown = {f"beta {cfg.beta:g}": after}, {"before": first, f"beta {cfg.beta:g}": texts}
    if cfg.model == "tiny":  # the bars below are this model's
        claim_reviews(before, after, log)
        for name, changes in SWEEP.items():
            changed = dataclasses.replace(cfg, **changes)
            _, found[name], shown[name] = fine_tune(name, base, tokenizer, changed, log)
        claim_broken(found["beta 0, no cap"], len(tokenizer), cfg, log)
    kinds = {" ".join(text.split()[:2]): row for row, text in enumerate(first)}  # prompts that differ
    shown = {name: [texts[row] for row in list(kinds.values())[:3]] for name, texts in shown.items()}
    if not log.smoke:
        print("\n".join(f"{name}: {text}" for name, written in shown.items() for text in written))
    blind, names = math.log(len(tokenizer)), list(shown)
    return gap, [
        lambda ax: draw_curve(ax, log),
        lambda ax: draw_sweep(ax, found, before["surprise"], blind),
        lambda ax: draw_texts(ax, {name: shown[name] for name in dict.fromkeys((*names[:2], names[-1]))}),
    ]


def claim_reviews(before: dict, after: dict, log: RunLog) -> None:
    score, share = "mean score of a text, at most 3", "share of fresh texts"
    log.claim(
        "reward_before", "before training good words and bad ones balance", before["reward"],
        near=(0.0, 0.3), unit=score, source="the grammar treats both alike",
    )  # fmt: skip
    for name, statement, what, bound, unit in (
        ("reward_after", "after training the texts are warm", "reward", {"at_least": 2.0}, score),
        ("positive", "nearly every text is positive", "positive", {"at_least": 0.9}, share),
        ("kl", "the policy stays within 8 nats of the reference", "kl", {"at_most": 8.0}, "nats a text"),
        ("distinct", "it writes different texts, not one by heart", "distinct", {"at_least": 0.9}, share),
    ):
        source = "a prototype, before this lesson was written"
        log.claim(name, statement, after[what], unit=unit, source=source, **bound)


def claim_broken(broken: dict, num_words: int, cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    genuine = sentiment(write_reviews(rng, 1000), cap=math.inf).max()
    log.claim(
        "broken_score", "with beta 0 and no cap the mean text outdoes the best of 1,000 genuine reviews",
        broken["reward"], at_least=genuine, unit="mean score of a text", source="the grammar's own reviews",
    )  # fmt: skip
    log.claim(
        "broken_surprise", "and the reference would sooner expect words drawn blindly than its words",
        broken["surprise"], at_least=math.log(num_words), unit="nats a word",
        source="log of the size of the vocabulary",
    )  # fmt: skip


def draw_chart(ax, world: TokenWorld, beta: float, log: RunLog) -> None:
    """Reward against KL: the frontier, best of n, and the way that PPO went."""
    ax.plot(*world.frontier(np.geomspace(0.1, 20.0, 60)), label="best possible", **plotting.REFERENCE)
    best = [world.best_of_n(n) for n in (1, 2, 4, 8, 16, 32, 64)]
    points = [(float(world.kl(lp)), float(world.expected_reward(lp))) for lp in best]
    ax.plot(*zip(*points), "s", color=plotting.ORANGE, markersize=6, label="best of n = 1, 2, 4 … 64")
    path = log.series("token_kl")[1], log.series("token_reward")[1]
    ax.plot(*path, "o-", color=plotting.BLUE, markersize=3, linewidth=1.2, label="PPO, every 4 updates")
    ax.plot(path[0][-1], path[1][-1], "o", color=plotting.BLUE, markersize=9)
    star, look = world.optimum(beta), {"color": plotting.RED, "markersize": 17, "zorder": 1}
    ax.plot(world.kl(star), world.expected_reward(star), "*", label=f"optimum at beta {beta:g}", **look)
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(-0.1, 4.5))
    ax.set_title("Token world: exact")
    ax.legend(loc="lower right")


def draw_curve(ax, log: RunLog) -> None:
    steps, scores = log.series("review_score")
    ax.plot(steps, scores, color=plotting.BLUE, label="score, mean of a batch")
    ax.plot(*log.series("review_kl"), color=plotting.ORANGE, label="KL from the reference (nats)")
    ax.axhline(2.0, label="bar for the score", **plotting.REFERENCE)
    ax.set(xlabel="update", ylabel="score, and nats", title="Reviews: PPO on GPT-2")
    ax.legend(loc="upper left")
    ax.set_ylim(None, 1.5 * max(*scores, *log.series("review_kl")[1], 2.0))


def draw_sweep(ax, found: dict[str, dict], own: float, blind: float) -> None:
    """How strange the reference finds the texts, for each beta."""
    ax.axhline(blind, label="words drawn blindly", color="black", linestyle=":", linewidth=1.2)
    ax.axhline(own, label="the reference's own texts", **plotting.REFERENCE)
    for i, (name, row) in enumerate(sorted(found.items(), key=lambda item: item[1]["kl"])):
        broken = row["surprise"] > blind
        at = max(row["kl"], 0.01), row["surprise"]  # an estimate near 0 may be negative
        ax.plot(*at, "o", color=plotting.RED if broken else plotting.BLUE, markersize=9)
        text = f"{name}: score {row['reward']:.1f}"
        place = {"ha": "right", "xytext": (-9, -4)} if broken else {"xytext": (-6, 10 + 15 * (i % 2))}
        ax.annotate(text, at, textcoords="offset points", fontsize=10, **place)
    ax.set(xscale="log", xlabel="KL from the reference (nats a text)", ylabel="surprise (nats a word)")
    ax.set(title="What beta holds together", ylim=(0.0, 1.2 * ax.get_ylim()[1]))
    ax.legend(loc="upper left")


def draw_texts(ax, shown: dict[str, list[str]]) -> None:
    """What each policy writes after the same prompts."""
    lines = []
    for name, texts in shown.items():
        lines.append(name.upper())
        for text in texts:
            look = {"initial_indent": "· ", "subsequent_indent": "  ", "max_lines": 2, "placeholder": " …"}
            lines += textwrap.wrap(text, 72, **look)
        lines.append("")
    ax.axis("off")
    look = {"family": "monospace", "fontsize": 9, "linespacing": 1.25, "in_layout": False}
    ax.text(0.0, 1.0, "\n".join(lines), va="top", transform=ax.transAxes, **look)
    ax.set_title("What it writes")


def draw_ablations(runs: list[dict], log: RunLog) -> None:
    """The share of the gap closed with one detail changed, a dot for each run."""
    figure, ax = plotting.new_figure(width=8.4, height=3.6)
    rows = {name: [run["metrics"][f"gap_{key(name)}"][-1][1] for run in runs] for name in VARIANTS}
    plotting.dot_rows(ax, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    for row, (name, values) in enumerate(rows.items()):
        if np.median(values) < 0:
            words = f"◀ {np.median(values):.1f}: worse than no training"
            ax.text(0.01, row, words, va="center", color=plotting.RED)
        elif name == "rewards clipped at 1":
            exact = [run["metrics"]["gap_of_the_clipped_optimum"][-1][1] for run in runs]
            ax.plot(exact, np.full(len(exact), row + 0.3), "^", color="grey", markersize=6)
    ax.set(xlim=(0.0, 1.03), xlabel="share of the gap to the exact optimum that PPO closes")
    ax.set_title("Token world, one detail changed")
    log.figure(figure, "ablations")


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    claim_identities(cfg, log)
    parts = {"tokens": tokens, "reviews": reviews}
    done = [part(cfg, log) for name, part in parts.items() if cfg.only in ("all", name)]
    log.claim(
        "first_ratio_gap", "in the first minibatch of a batch every token's ratio is 1, but for rounding",
        max(gap for gap, _ in done), at_most=1e-5, source="the weights have not moved", always=True,
        seeds="10/10",
    )  # fmt: skip
    panels = [panel for _, group in done for panel in group]
    size = (2, 2) if len(panels) > 2 else (1, len(panels))
    figure, axes = plotting.new_figure(*size, width=7.0, height=4.6)
    for ax, panel in zip(np.atleast_1d(axes).flatten(), panels):
        panel(ax)
    log.figure(figure)
    if cfg.only != "reviews":
        draw_ablations([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    draw_ablations(runs, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
