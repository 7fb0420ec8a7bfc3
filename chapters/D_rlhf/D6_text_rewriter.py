# %% [markdown]
r"""
# D6 · Text rewriter with preference feedback

**Question.** Can a model learn to rewrite blunt requests well when nobody can say what a good rewrite is, but
somebody can say which of two is better? And what if that somebody is you?

**Before this:** D2 (PPO on a language model) and D3 (reward models). **Changes from D2 and D3:** nothing is
new, but everything is joined: demonstrations, comparisons, a learned reward, and PPO against it, from our own
code and from TRL. **Next:** D0 and D1 again: every section of those notes has now been run.

**Time budget.** 240 s on 2 cores.

<!-- results: D6 -->

`rl run D6`: 110 s, 1966 MB. With `--smoke`, all of it: 13 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| ratings_round_trip | 1                               | 1 ± 0      | 5/5 |
| ratings_teach      | 0.32 (0.276 to 0.414)           | ≤ 0.6921   | 5/5 |
| rm_knowledge       | 0.669 (0.648 to 0.771)          | ≥ 0.5      | 5/5 |
| trl_parity         | 3.58e-07 (2.38e-07 to 4.77e-07) | ≤ 1e-05    | 5/5 |
| memory_beside_trl  | 0.987 (0.939 to 1.01)           | ≤ 1        | 4/5 |
| first_ratio_gap    | 0                               | ≤ 0.0001   | 5/5 |
| first_kl           | 0                               | 0 ± 0.0001 | 5/5 |
| reference_moved    | 0                               | ≤ 0        | 5/5 |
| win_rate           | 0.871 (0.858 to 0.895)          | ≥ 0.75     | 5/5 |
| content_gain       | 0.0985 (0.0915 to 0.117)        | ≥ 0        | 5/5 |
| polite             | 0.995 (0.99 to 0.998)           | ≥ 0.95     | 5/5 |
| trl_win_rate       | 0.841 (0.819 to 0.861)          | ≥ 0.5      | 5/5 |
| faster_than_trl    | 2.65 (1.5 to 5.34)              | ≥ 1        | 5/5 |

<!-- /results -->

References: `ouyang2022instructgpt`, `stiennon2020summarize`, `ziegler2019finetuning`,
`christiano2017preferences`, `bradleyterry1952rank`, `schulman2017ppo`, `schulman2016gae`,
`gao2023overoptimization`.

Symbols: `N` pairs, `B` texts in a batch, `P` tokens of the longest prompt, `T` tokens of the longest
completion, `L` tokens of the longest text, $x$ request, $y$ rewrite, $r_\phi$ learned reward, $s$ the judge's
score, $\tau$ its noise, $\beta$ price of divergence.
"""

# %%
import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.D_rlhf.evidence.D6_figures import draw_outcome, draw_rewrites
from chapters.D_rlhf.evidence.D6_trl import seconds_to, train_trl_ppo, trl_gap
from chapters.envs import rewriter as office
from chapters.envs.rewriter import blunt_texts, encode_prompts, encode_rewrites, judge
from chapters.rating import Pair
from chapters.rating.ask import ask, scripted_ratings, to_rate, who_rates
from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import rewriter_recipe
from chapters.utils import CpuClock, RunLog, in_range, run_lesson
from chapters.utils.seeding import seed_everything
from chapters.utils.timing import PeakMemory

Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each completion token
IMITATION_LR, REWARD_LR = 1e-3, 1e-3  # AdamW's step sizes for the tiny model; they fall to zero in a line
FAR = 10_000  # parts the seeds of what is only measured
EXACT = {"always": True, "seeds": "5/5"}  # claims that leave nothing to chance


# %%
@dataclass(frozen=True)
class Config:
    """From blunt to polite: demonstrations, comparisons (a judge's or yours), a reward model, PPO."""

    seed: int = 0
    """Seed of texts, sampling, labels and shuffles."""
    model: str = "tiny"
    """tiny, or a folder or hub id (a larger model needs smaller learning rates)."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 500
    """Steps that train the tiny model, once; it is then kept in a cache."""
    sft_steps: Annotated[int, in_range(1, 100_000)] = 120
    """Steps of imitation, 64 demonstrations each."""
    num_tokens: Annotated[int, in_range(1, 30)] = 22
    """T: longest rewrite in tokens."""
    num_pairs: Annotated[int, in_range(8, 100_000)] = 4000
    """N: pairs of rewrites that the judge compares."""
    judge_noise: Annotated[float, in_range(1e-3, 100.0)] = 1.0
    """How far apart two scores must be before the judge is fairly sure; every label is a draw."""
    rm_epochs: Annotated[int, in_range(1, 100)] = 3
    """Passes of the reward model over the pairs."""
    rater: Literal["heuristic", "terminal", "web", "scripted"] = "heuristic"
    """Whose comparisons count: the judge's alone, or also yours, or those of a script in your place."""
    rate: bool = False
    """Rate in the terminal: the same as --rater terminal."""
    rate_web: bool = False
    """Rate on a page that is served to this machine only: the same as --rater web."""
    num_ratings: Annotated[int, in_range(2, 10_000)] = 40
    """Pairs that you are asked about; one in ten comes twice, to see how sure you are."""
    human_share: Annotated[float, in_range(0.0, 1.0)] = 0.3
    """Share of the reward model's minibatches that is drawn from your answers; 1 uses nothing else."""
    ratings: Path | None = None
    """File that keeps your answers and is resumed; default: one beside the runs of this lesson."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Price of a nat of divergence from the imitating model."""
    learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 3e-4
    """PPO's step size, ours and TRL's."""
    num_prompts: Annotated[int, in_range(2, 10_000)] = 64
    """B: rewrites sampled in each update."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 30
    """Batches sampled and learnt from."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch."""
    num_minibatches: Annotated[int, in_range(1, 1000)] = 2
    """Parts of a batch, one gradient step each."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one token; 1 never trusts it."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a token's ratio may move before the reason to move it further is taken away."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Weight of the value loss."""
    num_eval_texts: Annotated[int, in_range(4, 100_000)] = 400
    """Held-out requests for the outcome; a quarter of them for each point of the learning curves."""
    eval_every: Annotated[int, in_range(1, 100_000)] = 5
    """Updates between two points of the learning curves."""
    compare_trl: bool = True
    """Fine-tune with TRL's PPOTrainer too; its import alone takes ten seconds."""


SMOKE = {
    "pretrain_steps": 20, "sft_steps": 2, "num_tokens": 8, "num_pairs": 24, "rm_epochs": 1, "num_ratings": 10,
    "num_prompts": 8, "num_updates": 1, "num_epochs": 2, "num_eval_texts": 16, "compare_trl": False,
}  # fmt: skip

# %% [markdown]
r"""
## 1. A model that imitates

The task: `send the old report today now =>` is to be continued by something like `would you please send the
old report today ? thank you .` The tiny model has read office notes (`chapters.envs.rewriter`); it knows the
words and that requests get repeated, and nothing of the task. Supervised fine-tuning (SFT) raises the
probability of people's rewrites, token by token:

$$\log \pi(y \mid x) = \textstyle\sum_t \log \pi(y_t \mid x, y_{<t}), \qquad
\mathcal L_\text{SFT} = -\frac{\sum_t m_t \log \pi(y_t \mid x, y_{<t})}{\sum_t m_t} \tag{1}$$

The request itself is not imitated: it will always be given. People are uneven, though. A third of the
demonstrations are careful, the rest hasty (short, with words lost or mixed up) or curt. A model that imitates
perfectly is just as uneven: that is the limit of imitation, and the reason for all that follows. The
functions are D2's: prompts are padded on the left, completions on the right.
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
    """(completion_ids, completion_mask); the mask is True up to and including the first EOS."""
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
    return chosen.masked_fill(~completion_mask, 0.0)  # eq. (1): their sum is log pi(y | x)


# same-as: D2.masked_mean
def masked_mean(numbers: Grid, mask: Mask) -> Float[Tensor, ""]:
    """Mean over the tokens that exist."""
    return (numbers * mask).sum() / mask.sum()


def imitate(lm: LoadedModel, cfg: Config, log: RunLog) -> nn.Module:
    """Supervised fine-tuning of a copy of the model."""
    policy, rng = copy.deepcopy(lm.model), np.random.default_rng([cfg.seed, 1])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=IMITATION_LR, fused=True)
    for step in log.track(range(cfg.sft_steps), "SFT steps", "sft_loss"):
        optimizer.param_groups[0]["lr"] = IMITATION_LR * (1.0 - step / cfg.sft_steps)
        requests = office.draw_requests(rng, 64)
        rewrites = [office.demonstrate(rng, request) for request in requests]
        completion_ids, completion_mask = encode_rewrites(lm.tokenizer, rewrites)
        prompts = encode_prompts(lm.tokenizer, [request.text for request in requests])
        log_probs = token_log_probs(policy, *prompts, completion_ids, completion_mask)
        loss = -masked_mean(log_probs, completion_mask)  # eq. (1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.write(step, sft_loss=loss.item())
    return policy.requires_grad_(False)  # from here on it is the reference: it must not train along


def rewrite(
    policy: Callable, lm: LoadedModel, requests: Sequence[str], num_tokens: int, seed: int, chunk: int = 256
) -> list[str]:
    """A sampled rewrite of each request. Requests of one length go together: less padding to compute."""
    generator, tokenizer = torch.Generator().manual_seed(seed), lm.tokenizer
    special = tokenizer.eos_token_id, tokenizer.pad_token_id
    order = sorted(range(len(requests)), key=lambda row: len(requests[row]))
    texts = [""] * len(requests)
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        prompts = encode_prompts(tokenizer, [requests[row] for row in rows])
        ids, _ = sample(policy, *prompts, num_tokens, *special, generator)
        for row, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            texts[row] = text.strip()
    return texts


# %% [markdown]
r"""
## 2. Which of two is better?

The judge of `chapters.envs.rewriter` gives every rewrite a score $s$: courtesy, content kept, nothing
invented, no more words than needed. The learner never sees it. What it gets are comparisons of two rewrites
of one request; and the nearer the two scores, the more the judge wavers (`bradleyterry1952rank`):

$$P(y_1 \succ y_2) = \sigma\!\left(\frac{s(x, y_1) - s(x, y_2)}{\tau}\right) \tag{2}$$

No reward model can agree with such labels always. Whoever knew $s$ itself would choose the likelier answer of
each pair and be right in a share of

$$\text{ceiling} = \operatorname{mean}\bigl[\max(P, 1 - P)\bigr] \tag{3}$$

A reward model that prefers the first text of a pair is right with probability $P$ of (2). The mean of that is
its expected accuracy: the luck of the labels is averaged out, so it cannot exceed the ceiling.
"""


# %%
def preference(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"], noise: float
) -> Float[np.ndarray, " N"]:
    """Probability that the first text of each pair is preferred, from both texts' scores."""
    return 1.0 / (1.0 + np.exp(-(first - second) / noise))  # eq. (2)


def ceiling(probs: Float[np.ndarray, " N"]) -> float:
    """Accuracy of whoever knows the true scores."""
    return float(np.maximum(probs, 1.0 - probs).mean())  # eq. (3)


def expected_accuracy(margins: Float[np.ndarray, " N"], probs: Float[np.ndarray, " N"]) -> float:
    """Mean probability that a label agrees with the sign of the margin; no margin is a coin."""
    right = np.where(margins > 0, probs, np.where(margins < 0, 1.0 - probs, 0.5))
    return float(right.mean())


class Pairs(NamedTuple):
    """Two rewrites of each request, the chosen one apart from the other."""

    requests: list[str]
    chosen: list[str]
    rejected: list[str]

    def pick(self, rows: Iterable) -> "Pairs":
        return Pairs(*([column[row] for row in rows] for column in self))


class Comparisons(NamedTuple):
    """What the judge was shown, and how sure it was: for measuring only."""

    requests: list[str]
    first: list[str]
    second: list[str]
    probs: Float[np.ndarray, " N"]
    """Chance that the first is preferred."""


def label(compared: Comparisons, rng: np.random.Generator) -> Pairs:
    """Ask the judge about every pair, once."""
    first_wins = rng.random(len(compared.probs)) < compared.probs
    sides = [(a, b) if win else (b, a) for win, a, b in zip(first_wins, compared.first, compared.second)]
    return Pairs(compared.requests, [side[0] for side in sides], [side[1] for side in sides])


def compare(policy: nn.Module, lm: LoadedModel, num_pairs: int, held_out: bool, cfg: Config) -> Comparisons:
    """Two rewrites by the policy of each of `num_pairs` requests; where both are equal, it is left out."""
    requests = blunt_texts([cfg.seed, 2, held_out], num_pairs, held_out)
    texts = rewrite(policy, lm, requests * 2, cfg.num_tokens, cfg.seed + FAR * (1 + held_out))
    rows = [row for row in range(num_pairs) if texts[row] != texts[row + num_pairs]]
    asked = [requests[row] for row in rows]
    sides = [[texts[row + shift] for row in rows] for shift in (0, num_pairs)]
    scores = (judge(asked, side).score for side in sides)
    return Comparisons(asked, *sides, preference(*scores, cfg.judge_noise))


# %% [markdown]
r"""
## 3. The reward model

A copy of the imitating model whose last hidden state, at the text's last token, is turned into one number
$r_\phi(x, y)$. Its loss is minus the log-probability of the labels, with (2) in the learned reward's own unit
(`christiano2017preferences`):

$$\mathcal L_\text{RM} = -\operatorname{mean} \log \sigma\bigl(r_\phi(x, y_\text{chosen}) - r_\phi(x,
y_\text{rejected})\bigr) \tag{4}$$

Only differences are learnt, so a constant is free: it is chosen such that the imitating model earns 0 on
average (`stiennon2020summarize`).

**Your own ratings.** With `--rate` or `--rate-web` you are shown some of the pairs, and `human_share` of each
minibatch is drawn from your answers, the rest from the judge's: few answers, read many times.
`--human-share 1` trains on yours alone. Ties and skips teach nothing; pairs answered both ways are left out.
All answers in the file count, also those of earlier runs. Ctrl-C loses none; the same command goes on.
"""


# %%
def bradley_terry_loss(chosen: Float[Tensor, " B"], rejected: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Minus the mean log-probability that the chosen texts are preferred."""
    return -nn.functional.logsigmoid(chosen - rejected).mean()  # eq. (4)


def pack(
    prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"],
    completion_ids: Int[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"],
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:  # fmt: skip
    """(ids, mask) of whole texts without holes, padded on the right: fewer columns than P + T."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    order = mask.argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(dim=1).max())]
    return ids.gather(1, order), mask.gather(1, order)


class RewardModel(nn.Module):
    """One number for each text. `base_model_prefix`, the trunk it names and `score` are what TRL asks for."""

    base_model_prefix = "trunk"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(model.base_model).requires_grad_(True)
        self.score = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.score.weight)  # at first nothing is preferred
        nn.init.zeros_(self.score.bias)

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"]) -> Float[Tensor, " B"]:
        """Rewards of texts padded on the right."""
        hidden = self.trunk(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, L, width]
        last = mask.sum(dim=1) - 1
        return self.score(hidden[torch.arange(len(ids)), last]).squeeze(-1)

    def margins(self, lm: LoadedModel, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(rewards of the chosen, rewards of the rejected) [B] each, in one pass."""
        prompts = encode_prompts(lm.tokenizer, pairs.requests * 2)
        return self(*pack(*prompts, *encode_rewrites(lm.tokenizer, pairs.chosen + pairs.rejected))).chunk(2)


def minibatches(
    num_pairs: int, num_human: int, batch_size: int, human_share: float, rng: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, " I"], Int[np.ndarray, " J"]]]:
    """One epoch: (rows of the judge's pairs in random order; rows of yours in place of the others)."""
    ours = round(human_share * batch_size) if num_human else 0
    order = rng.permutation(num_pairs)
    for start in range(0, num_pairs, batch_size):
        rows = order[start : start + batch_size]
        yield rows[: batch_size - ours], rng.integers(max(1, num_human), size=ours)


def fit_reward_model(
    model: nn.Module, lm: LoadedModel, pairs: Pairs, human: Pairs, cfg: Config, log: RunLog, name: str = "rm"
) -> RewardModel:
    """Bradley-Terry on the judge's pairs and, if there are any, yours."""
    reward_model, rng = RewardModel(model), np.random.default_rng([cfg.seed, 3])
    optimizer = torch.optim.AdamW(reward_model.parameters(), lr=REWARD_LR, fused=True)
    size, num_pairs, step = 16, len(pairs.requests), 0
    num_steps = cfg.rm_epochs * math.ceil(num_pairs / size)
    for _ in log.track(range(cfg.rm_epochs), f"epochs ({name})", f"{name}_loss"):
        total = 0.0
        for judged, own in minibatches(num_pairs, len(human.requests), size, cfg.human_share, rng):
            warm = min(1.0, (step + 1) / 20)
            optimizer.param_groups[0]["lr"] = REWARD_LR * warm * (1.0 - step / num_steps)
            both = [one + two for one, two in zip(pairs.pick(judged), human.pick(own))]
            loss = bradley_terry_loss(*reward_model.margins(lm, Pairs(*both)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reward_model.parameters(), 1.0)
            optimizer.step()
            step, total = step + 1, total + loss.item()
        log.write(step, **{f"{name}_loss": total * cfg.rm_epochs / num_steps})
    with torch.no_grad():  # the constant that is free
        few = pairs.pick(range(min(256, num_pairs)))
        reward_model.score.bias -= torch.cat(reward_model.margins(lm, few)).mean()
    return reward_model.requires_grad_(False)


# %% [markdown]
r"""
## 4. PPO against the learned reward

As in D2, whose functions these are. Each token is charged for its distance from the imitating model, and the
last one earns the learned reward; advantages run backwards over the tokens that exist and are whitened; and
the loss is D2's:

$$r_t = -\beta \log \frac{\pi_{\theta_\text{old}}(y_t \mid x, y_{<t})}{\pi_\text{ref}(y_t \mid x, y_{<t})}
+ \mathbb 1[t \text{ is the last token}]\; r_\phi(x, y) \tag{5}$$

$$\hat A_t = r_t + V(s_{t+1})\,m_{t+1} - V(s_t) + \lambda\, \hat A_{t+1}\, m_{t+1},
\qquad \tilde A_t = (\hat A_t - \mu_m) / \sigma_m \tag{6}$$

$$\mathcal L = \operatorname{mean}_m \bigl[-\min(w_t \tilde A_t, \mathrm{clip}(w_t, 1 \pm
\epsilon_\text{clip}) \tilde A_t) + c_v (V(s_t) - \hat R_t)^2\bigr],
\quad w_t = \pi_\theta / \pi_{\theta_\text{old}} \tag{7}$$

The charge matters more here than in D2. There the reward was the truth. Here it is a model of somebody's
taste, fitted where the imitating model writes; far away from there it has never been asked, and may say
anything (`gao2023overoptimization`, D3).
"""


# %%
# same-as: D2.token_rewards
def token_rewards(
    scores: Float[Tensor, " B"], log_ratio: Grid, completion_mask: Mask, beta: float
) -> Float[Tensor, "B T"]:
    """A charge for each token's `log_ratio`, policy over reference; the score comes with the last."""
    last = completion_mask.sum(dim=1) - 1  # [B]
    rewards = -beta * log_ratio * completion_mask
    rewards[torch.arange(len(scores)), last] += scores  # eq. (5)
    return rewards


# same-as: D2.gae
def gae(rewards: Grid, values: Grid, completion_mask: Mask, gae_lambda: float) -> Float[Tensor, "B T"]:
    """Advantages of tokens, undiscounted; behind the last token of a text there is nothing."""
    exists = completion_mask.to(rewards.dtype)
    values, advantages = values * exists, torch.zeros_like(rewards)
    next_values = running = torch.zeros_like(rewards[:, 0])  # [B]
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_values - values[:, t]  # eq. (6)
        running = (delta + gae_lambda * running) * exists[:, t]
        advantages[:, t], next_values = running, values[:, t]
    return advantages


# same-as: D2.whiten
def whiten(advantages: Grid, mask: Mask) -> Float[Tensor, "B T"]:
    """Mean 0 and standard deviation 1 over the tokens that exist; 0 elsewhere."""
    centred = (advantages - masked_mean(advantages, mask)) * mask
    deviation = (centred.pow(2).sum() / (mask.sum() - 1)).sqrt()
    return centred / (deviation + 1e-8)  # eq. (6)


# same-as: C3.clipped_surrogate
def clipped_surrogate(
    ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], clip_eps: float
) -> Float[Tensor, "*B"]:
    """PPO's objective of each token, to be raised (schulman2017ppo)."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (7)


class PolicyWithValue(nn.Module):
    """A language model that also says, after each token, what reward it still expects; one trunk for both."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.value_head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, **inputs) -> SimpleNamespace:
        """`.logits` [B, T, V], `.values` [B, T], `.past_key_values`."""
        out = self.model.base_model(**inputs)
        logits = self.model.get_output_embeddings()(out.last_hidden_state)
        values = self.value_head(out.last_hidden_state).squeeze(-1)
        return SimpleNamespace(logits=logits, values=values, past_key_values=out.past_key_values)


def log_probs_and_values(policy: nn.Module, *text: Tensor) -> tuple[Tensor, Tensor]:
    """`token_log_probs` and, from the same pass, the value before each completion token: [B, T] each."""
    prompt_ids, prompt_mask, completion_ids, completion_mask = text
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)  # [B, P + T]
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    log_probs = token_log_probs(lambda **_: out, *text)  # of that pass: none is made twice
    return log_probs, out.values[:, prompt_ids.shape[1] - 1 : -1]


@torch.no_grad()
def collect(
    policy: PolicyWithValue, reference: nn.Module, reward_model: RewardModel, lm: LoadedModel,
    requests: Sequence[str], generator: torch.Generator, cfg: Config,
) -> dict[str, Any]:  # fmt: skip
    """A rewrite of each request with everything that stays constant while it is learnt from."""
    prompts = encode_prompts(lm.tokenizer, requests)
    eos_id, pad_id = lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id
    text = (*prompts, *sample(policy, *prompts, cfg.num_tokens, eos_id, pad_id, generator))
    old_log_probs, values = log_probs_and_values(policy, *text)
    mask, log_ratio = text[3], old_log_probs - token_log_probs(reference, *text)
    scores = reward_model(*pack(*text))
    advantages = gae(token_rewards(scores, log_ratio, mask, cfg.beta), values, mask, cfg.gae_lambda)
    return {
        "text": text, "old_log_probs": old_log_probs, "returns": advantages + values * mask,
        "advantages": whiten(advantages, mask), "scores": scores, "log_ratio": log_ratio.sum(dim=1),
    }  # fmt: skip


def minibatch_loss(
    policy: PolicyWithValue, batch: dict[str, Any], rows: Int[Tensor, " I"], cfg: Config
) -> tuple[Float[Tensor, ""], Float[Tensor, "I T"]]:
    """(loss, ratio of each token; 1 where there is none)."""
    text = [tensor[rows] for tensor in batch["text"]]
    log_probs, values = log_probs_and_values(policy, *text)
    ratio = (log_probs - batch["old_log_probs"][rows]).exp()  # eq. (7), left
    objective = clipped_surrogate(ratio, batch["advantages"][rows], cfg.clip_eps)
    errors = (values - batch["returns"][rows]).pow(2)
    return masked_mean(cfg.vf_coef * errors - objective, text[3]), ratio  # eq. (7), right


def update(
    policy: PolicyWithValue, optimizer: torch.optim.Optimizer, batch: dict[str, Any],
    generator: torch.Generator, cfg: Config,
) -> float:  # fmt: skip
    """Several passes over one batch. Returns how far the very first ratio was from 1."""
    first_gap = math.nan
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["scores"]), generator=generator).chunk(cfg.num_minibatches):
            loss, ratio = minibatch_loss(policy, batch, rows, cfg)
            if math.isnan(first_gap):
                first_gap = (ratio.detach() - 1.0).abs().max().item()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return first_gap


def train(
    reference: nn.Module, reward_model: RewardModel, lm: LoadedModel, requests: Sequence[str], cfg: Config,
    log: RunLog, watch: Callable[[int, float, nn.Module], None],
) -> PolicyWithValue:  # fmt: skip
    """PPO from a copy of `reference`, on `requests` in their order; `watch` is not charged for."""
    policy, generator, clock = PolicyWithValue(reference), torch.Generator().manual_seed(cfg.seed), CpuClock()
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, eps=1e-5, fused=True)
    for i in log.track(range(cfg.num_updates), "updates (ours)", "ours_reward"):
        with clock:
            optimizer.param_groups[0]["lr"] = cfg.learning_rate * (1.0 - i / cfg.num_updates)
            asked = requests[i * cfg.num_prompts : (i + 1) * cfg.num_prompts]
            batch = collect(policy, reference, reward_model, lm, asked, generator, cfg)
            first_gap = update(policy, optimizer, batch, generator, cfg)
        kl = batch["log_ratio"].mean().item()
        log.write(i, ours_reward=batch["scores"].mean(), ours_kl=kl, ours_first_gap=first_gap)
        watch(i + 1, clock.seconds, policy)
    return policy


# %% [markdown]
r"""
## 5. The same with TRL

`PPOTrainer` (`trl.experimental.ppo`, gone after TRL 1.12; see `utils/lessons/ppo_peer.py`) gets copies of
the same imitating model and reward model, the same requests, as many updates, epochs and minibatches. What it
does differently: its critic is a network of its own, which starts as the reward model; the value loss is
clipped too; the gradient is not; the requests are shuffled; and the reward is paid one token *after* the end,
where its mask for values still reaches.

## 6. Run, look, break

The first figure has the outcome on requests whose content was in no training text; the judge's score against
CPU seconds, ours and TRL's; learned reward and divergence on the way; and lengths. The second has texts.

Look at the **length**. Nobody pays for it, and the judge charges from the thirteenth word on. It drifts up
all the same, for courtesy and content take words, and it piles up: the policy settles on one or two ways of
being polite. People's labels lean to length too (`stiennon2020summarize` had to correct for it).

**Break it.** `--beta 0 --no-compare-trl`: the learned reward ends as high as before, the divergence ten times
as high, and a request comes back as `would you by evening thank thank`. Nobody ever compared such a text with
another, and where nobody has asked, a reward model says anything.

**Exercises.** (1) Rate 40 pairs yourself (`--rate-web`). How often do you agree with the judge, and with
yourself? (2) Prefer the *shorter* text throughout, with `--human-share 0.6`. Predict the length first.
(3) `--judge-noise 4`: where is the ceiling, and how much survives labels that are little better than a coin?
"""


# %%
def claim_ratings(model: nn.Module, lm: LoadedModel, pairs: list[Pair], cfg: Config, log: RunLog) -> None:
    """A script in your place: what it prefers comes back from the file, and teaches a reward model."""
    given, found = scripted_ratings(pairs, office.prefers, log)
    log.claim(
        "ratings_round_trip", "exported ratings come back, read as TRL reads a dataset, as they were given",
        float(given == found), near=(1.0, 0.0), unit="1 is yes", source="identity", **EXACT,
    )  # fmt: skip
    rated, brief = Pairs(*found), dataclasses.replace(cfg, rm_epochs=10)
    taught = fit_reward_model(model, lm, rated, Pairs([], [], []), brief, log, "rated")
    with torch.no_grad():
        loss = bradley_terry_loss(*taught.margins(lm, rated)).item()
    log.claim(
        "ratings_teach", "a reward model trained on exported ratings alone agrees with them", loss,
        at_most=math.log(2.0) - 1e-3, unit="nats", source="log 2: prefers nothing", **EXACT,
    )  # fmt: skip


def claim_reward_model(
    reward_model: RewardModel, lm: LoadedModel, held: Comparisons, human: Pairs, log: RunLog
) -> None:
    """Accuracy on requests it has not seen, beside the best possible."""
    with torch.no_grad():
        first, second = reward_model.margins(lm, Pairs(held.requests, held.first, held.second))
        if human.requests:
            chosen, rejected = reward_model.margins(lm, human)
            log.write(0, human_rm_agreement=(chosen > rejected).double().mean())
    accuracy = expected_accuracy((first - second).double().numpy(), held.probs)
    best = ceiling(held.probs)
    log.write(0, rm_accuracy=accuracy, rm_ceiling=best)
    log.claim(
        "rm_knowledge", "on unseen requests the reward model is over halfway from a coin to the ceiling",
        (accuracy - 0.5) / (best - 0.5), at_least=0.5, unit="of the way", source="ceiling (3), exact",
    )  # fmt: skip


def claim_identities(start: dict[str, Tensor], reference: nn.Module, log: RunLog) -> None:
    log.claim(
        "first_ratio_gap", "in the first minibatch of every batch all ratios are 1, but for rounding",
        max(log.series("ours_first_gap")[1]), at_most=1e-4, source="the weights have not moved", **EXACT,
    )  # fmt: skip
    log.claim(
        "first_kl", "before the first update no token is charged: the policy is the imitating model",
        log.series("ours_kl")[1][0], near=(0.0, 1e-4), unit="nats", source="identity", **EXACT,
    )  # fmt: skip
    moved = max((start[name] - now).abs().max().item() for name, now in reference.state_dict().items())
    log.claim(
        "reference_moved", "the imitating model, reference of the divergence, has not trained along", moved,
        at_most=0.0, unit="largest change of a weight", source="identity", **EXACT,
    )  # fmt: skip


def claim_outcome(found: dict[str, dict[str, np.ndarray]], log: RunLog) -> None:
    means = {name: {key: float(values.mean()) for key, values in one.items()} for name, one in found.items()}
    for name, one in means.items():
        log.write(0, **{f"{name}_final_{key}": value for key, value in one.items()})
    ours, sft, goal = means["ours"], means["sft"], {"source": "goal of the mini project"}
    log.claim(
        "win_rate", "our PPO's rewrites of unseen requests beat the imitating model's under the judge",
        ours["wins"], at_least=0.75, unit="win rate, ties half", **goal,
    )  # fmt: skip
    gain, unit = ours["content"] - sft["content"], "share of content words"
    log.claim("content_gain", "they keep no less of the content", gain, at_least=0.0, unit=unit, **goal)
    log.claim("polite", "nearly all of them are polite", ours["polite"], at_least=0.95, unit="share", **goal)
    if "trl" not in found:
        return
    log.claim(
        "trl_win_rate", "TRL's PPOTrainer, given as much, beats the imitating model too",
        means["trl"]["wins"], at_least=0.5, unit="win rate, ties half", source="one half: no better",
    )  # fmt: skip
    level = sft["score"] + 0.8 * (ours["score"] - sft["score"])
    ours_needs, trl_needs = (seconds_to(log, name, level) for name in ("ours", "trl"))
    log.write(0, ours_to_level_cpu_seconds=ours_needs, trl_to_level_cpu_seconds=trl_needs)
    log.claim(
        "faster_than_trl", "TRL needs as many CPU seconds to four fifths of our gain in the judge's score",
        trl_needs / ours_needs, at_least=1.0, unit="times ours", timed=True,
        source="trl 1.12.0 in the same run; all of its seconds where it never gets there",
    )  # fmt: skip


def race(
    sft: nn.Module, reward_model: RewardModel, lm: LoadedModel, tests: list[str], cfg: Config, log: RunLog
) -> dict[str, nn.Module]:
    """Our PPO and TRL's from the same start, on the same requests; `tests` for their learning curves."""
    requests = blunt_texts([cfg.seed, 5], cfg.num_prompts * cfg.num_updates)

    def watch(name: str, step: int, seconds: float, policy: nn.Module) -> None:
        if step % cfg.eval_every == 0 or step == cfg.num_updates:
            found = judge(tests, rewrite(policy, lm, tests, cfg.num_tokens, cfg.seed + 3 * FAR))
            log.write(step, **{f"{name}_{key}": value.mean() for key, value in vars(found).items()})
            log.write(step, **{f"{name}_cpu_seconds": seconds})

    with PeakMemory() as our_peak:
        ours = train(sft, reward_model, lm, requests, cfg, log, partial(watch, "ours"))
    if not cfg.compare_trl:
        return {"ours": ours}
    prompts = [f"{text} {office.ARROW}" for text in requests]
    with PeakMemory() as peak:
        trl = train_trl_ppo(sft, reward_model, lm.tokenizer, prompts, cfg, log, partial(watch, "trl"))
    coded = encode_prompts(lm.tokenizer, tests), encode_rewrites(lm.tokenizer, tests)
    log.claim(
        "trl_parity", "TRL reads the same rewards from our reward model, and whitens advantages alike",
        trl_gap(reward_model, whiten, pack, *coded, lm.tokenizer.pad_token_id), at_most=1e-5,
        source="trl 1.12.0 on the same texts", seeds="5/5",
    )  # fmt: skip
    log.claim(
        "memory_beside_trl", "our PPO takes no more memory than TRL's, libraries included",
        our_peak.megabytes / peak.megabytes, at_most=1.0, unit="of TRL's peak", timed=True,
        source="trl 1.12.0 in the same run",
    )  # fmt: skip
    return {"ours": ours, "trl": trl}


def main(cfg: Config, log: RunLog) -> None:
    who = who_rates(cfg)  # first of all: two raters at once are refused
    seed_everything(cfg.seed)
    lm = load_model(cfg.model, rewriter_recipe(cfg.pretrain_steps))
    sft = imitate(lm, cfg, log)
    start = copy.deepcopy(sft.state_dict())

    compared = compare(sft, lm, cfg.num_pairs, False, cfg)
    held = compare(sft, lm, max(8, cfg.num_pairs // 4), True, cfg)
    to_show = to_rate(*compared[:3], cfg.num_ratings)
    claim_ratings(sft, lm, to_show, cfg, log)
    human = Pairs(*ask(who, to_show, office.prefers, cfg, log))
    pairs = label(compared, np.random.default_rng([cfg.seed, 4]))
    reward_model = fit_reward_model(sft, lm, pairs, human, cfg, log)
    claim_reward_model(reward_model, lm, held, human, log)

    tests = blunt_texts([cfg.seed, 6], cfg.num_eval_texts, held_out=True)
    policies = {"sft": sft, **race(sft, reward_model, lm, tests[: len(tests) // 4], cfg, log)}
    claim_identities(start, sft, log)
    texts, found = {}, {}
    for name, policy in policies.items():
        texts[name] = rewrite(policy, lm, tests, cfg.num_tokens, cfg.seed + (4 + len(texts)) * FAR)
        found[name] = vars(judge(tests, texts[name]))
        found[name]["wins"] = office.wins(found[name]["score"], found["sft"]["score"])
    claim_outcome(found, log)
    draw_outcome(found, log)
    draw_rewrites(tests, texts, {name: one["score"] for name, one in found.items()}, log)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
