# %% [markdown]
r"""
# D3 · A reward model, and what becomes of it under pressure

**Question.** How well can a scorer be learnt from noisy comparisons, and what happens to the true reward when
a policy maximises the learnt one?

**Before this:** D2 (PPO on a reward that was given), D1 (the ideas). **Changes from D2:** the reward is not
given but learnt, from pairs of which someone liked one better. **Next:** D4 learns from the same pairs and
does without a reward model.

**Time budget.** 120 s on 2 cores.

<!-- results: D3 -->

`rl run D3`: 69 s, 1367 MB. `rl run D3 --smoke`: 12 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| gradient_gap          | 1.85e-06 (2.17e-07 to 5.06e-06)  | ≤ 0.0001 | 5/5 |
| shift_gap             | 0 (0 to 2.22e-16)                | ≤ 1e-12  | 5/5 |
| padding_gap           | 1.11e-16 (2.78e-17 to 1.11e-16)  | ≤ 1e-10  | 5/5 |
| share_of_ceiling      | 0.979 (0.97 to 0.987)            | ≥ 0.95   | 5/5 |
| calibration_error     | 0.0165 (0.0146 to 0.0218)        | ≤ 0.05   | 5/5 |
| calibration_slope     | 0.89 (0.867 to 0.927)            | 1 ± 0.25 | 5/5 |
| more_pairs            | 0.126 (0.105 to 0.129)           | ≥ 0.03   | 5/5 |
| overconfident         | 0.171 (0.163 to 0.185)           | ≤ 0.75   | 5/5 |
| best_of_n_proxy_rises | 0.00522 (0.00165 to 0.00728)     | ≥ 0      | 5/5 |
| data_under_pressure   | 0.875 (0 to 1.75)                | ≥ 0      | 5/5 |
| rloo_gold_turns       | 7 (3.76 to 10.5)                 | ≥ 3      | 5/5 |
| rloo_proxy_rises      | 0.725 (0.24 to 1.23)             | ≥ 0      | 5/5 |
| token_proxy_rises     | 0.000222 (1.25e-05 to 0.000793)  | ≥ -1e-09 | 5/5 |
| covariance_gap        | 4.44e-10 (5.3e-11 to 8.49e-10)   | ≤ 1e-06  | 5/5 |
| best_of_n_kl_excess   | -4.64e-16 (-1.3e-15 to 8.43e-17) | ≤ 1e-09  | 5/5 |
| token_gold_turns      | 8.49 (7.59 to 24.7)              | ≥ 3      | 5/5 |
| token_more_pairs      | 0.0889 (0.0592 to 0.271)         | ≥ 0      | 5/5 |
| token_sees_repeats    | 1.09 (0.843 to 2.57)             | ≥ 0      | 5/5 |
| trl_loss_gap          | 0                                | ≤ 1e-05  | 5/5 |
| trl_accuracy_gap      | 0                                | 0 ± 0.02 | 5/5 |
| trl_seconds           | 1.03 (1.02 to 1.09)              | ≥ 1      | 5/5 |
| trl_megabytes         | 1.1 (1.09 to 1.12)               | ≥ 1      | 5/5 |

<!-- /results -->

References: `bradleyterry1952rank`, `christiano2017preferences`, `ouyang2022instructgpt`,
`gao2023overoptimization`, `korbak2022bayesian`, `ahmadian2024rloo`, `cox1958calibration`.

Symbols: `M` pairs, `B` texts in a batch, `T` tokens of a text, $y_w$, $y_l$ the chosen and the rejected text,
$r_\phi$ the learnt reward (the *proxy*), $r$ the true one (*gold*), $\tau$ the annotators' temperature.
"""

# %%
import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.D_rlhf.evidence.D3_figures import draw_reward_model
from chapters.D_rlhf.evidence.D3_tools import as_tokens, encode, gradient_gap, score_texts
from chapters.D_rlhf.evidence.D3_trl import train_trl, trl_loss
from chapters.envs.reviews import POSITIVE, PROMPTS, sentiment
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import review_recipe
from chapters.utils import CpuClock, RunLog, in_range, run_lesson, seed_everything
from chapters.utils.timing import PeakMemory

FILLERS = frozenset(["the", "was", "a", ".", "it", "this", "is", "and"])  # they come back in any review
Row = Float[np.ndarray, " M"]  # a number for each pair, or for each text


# %%
@dataclass(frozen=True)
class Config:
    """A Bradley-Terry reward model on noisy pairs of reviews, then everything that can maximise it."""

    seed: int = 0
    """Seed of torch, numpy and the token world."""
    model: str = "tiny"
    """Writes the reviews and is the reward model's body: tiny, a folder, or a hub id."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps of making the tiny model; kept in the cache."""
    num_tokens: Annotated[int, in_range(1, 40)] = 24
    """Longest completion."""
    num_pairs: Annotated[int, in_range(64, 1_000_000)] = 4096
    """M: labelled pairs to learn from."""
    num_test_pairs: Annotated[int, in_range(10, 1_000_000)] = 1000
    """Fresh pairs for judging, of the same prompts."""
    temperature: Annotated[float, in_range(0.01, 100.0)] = 0.5
    """tau: how noisy the annotators are; 0.5 is a fair lot, see the ceiling."""
    num_epochs: Annotated[int, in_range(1, 100)] = 1
    """Passes over the pairs; with less data as many more, so that every model takes the same steps."""
    batch_size: Annotated[int, in_range(1, 4096)] = 8
    """Pairs per gradient step."""
    learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 7e-4
    """AdamW's step size at its highest."""
    pool_size: Annotated[int, in_range(4, 100_000)] = 512
    """Texts for each of four prompts from which the best of n is taken; n goes up to this."""
    num_policy_updates: Annotated[int, in_range(1, 10_000)] = 60
    """Updates of the policy that maximises the proxy."""


SMOKE = {
    "pretrain_steps": 20, "num_tokens": 8, "num_pairs": 64, "num_test_pairs": 16, "pool_size": 16,
    "num_policy_updates": 2, "batch_size": 2,
}  # fmt: skip

# %% [markdown]
r"""
## 1. The reader, and annotators who are not sure

To see what a reward model misses one must know what it should have learnt. So the truth is ours: a reader who
likes warm reviews, up to a point. More than three words of praise smell of being paid for; and of the words
that come back (`FILLERS` aside) three are forgiven, and each further one bores:

$$r(y) = \text{sentiment} - \tfrac32 \max(0,\ \text{praise} - 3) - \max(0,\ \text{echoes} - 3)$$

Nobody is told this. Annotators see two completions of one prompt and say which is better, with the odds that
the difference gives (`bradleyterry1952rank`); $\tau$ is their noise:

$$P(y_1 \succ y_2) = \sigma\bigl((r(y_1) - r(y_2)) / \tau\bigr) \tag{1}$$

Even the true reward cannot foresee a coin. On a pair of probability $p$ it is right with $\max(p, 1-p)$, so
no scorer beats the **Bayes ceiling**

$$\text{accuracy} \le \tfrac1M \textstyle\sum_i \max(p_i, 1 - p_i) \tag{2}$$

And because we know $p$, a scorer's accuracy on held-out pairs needs no labels: (2) with $p_i$ wherever it
prefers the first text and $1 - p_i$ where the second. That takes the coin out of the measurement.
"""


# %%
def gold_reward(texts: Sequence[str]) -> Float[np.ndarray, " B"]:
    """What the reader thinks of each text."""
    words = [text.split() for text in texts]
    praise = np.array([sum(word in POSITIVE for word in row) for row in words])
    content = [[word for word in row if word not in FILLERS] for row in words]
    echoes = np.array([len(row) - len(set(row)) for row in content])
    return sentiment(texts) - 1.5 * np.maximum(0, praise - 3) - np.maximum(0, echoes - 3)


def preference_probability(first: Row, second: Row, temperature: float) -> Row:
    """Probability that an annotator likes the first text of a pair better."""
    return 1.0 / (1.0 + np.exp(-(first - second) / temperature))  # eq. (1)


def expected_accuracy(differences: Row, probability: Row) -> float:
    """How often the sign of the score differences agrees with an annotator, the labels averaged out."""
    right = np.where(differences > 0, probability, 1.0 - probability)
    return float(np.where(differences == 0, 0.5, right).mean())  # eq. (2) if the differences are right


# %% [markdown]
r"""
## 2. The loss, and one number for a text

(1) is a logistic regression whose input is the *difference* of two scores. Minus its log-likelihood, with an
optional margin $m$ for pairs that are known to lie far apart:

$$\mathcal L(\phi) = -\tfrac1M \textstyle\sum_i \log\sigma\bigl(r_\phi(y_w^i) - r_\phi(y_l^i) - m_i\bigr)
\tag{3}$$

`logsigmoid` and not `log(sigmoid)`: at a difference of −200 the second is minus infinity, and its gradient
NaN.

Only differences enter. Add 7 to every score and nothing changes, neither loss nor preference: a reward
model's zero is arbitrary. Its *scale* is not: by (1) the scores should differ by $(r(y_1) - r(y_2))/\tau$.

The scorer is a language model without its last layer: one linear map turns a hidden state into a number. In a
causal model only the **last real token** has read the whole text. Which column that is depends on the
padding, so the mask must say. The mask also counts the positions; then the side of the padding makes no
difference.
"""


# %%
def bradley_terry_loss(
    chosen: Float[Tensor, " M"], rejected: Float[Tensor, " M"], margin: float | Float[Tensor, " M"] = 0.0
) -> Float[Tensor, ""]:
    """Minus the mean log-probability that the chosen text wins."""
    return -nn.functional.logsigmoid(chosen - rejected - margin).mean()  # eq. (3)


def last_token(scores: Float[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """The score at the last real token, padding on either side."""
    columns = torch.arange(mask.shape[1])
    last = (columns * mask).argmax(dim=1)  # [B]
    return scores.gather(1, last[:, None])[:, 0]


# same-as: D2.positions
def positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token in its own text: padding on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


class RewardModel(nn.Module):
    """A language model's body, and one number read off its last hidden state."""

    def __init__(self, language_model: nn.Module, eos_id: int, like_id: int) -> None:
        super().__init__()
        self.body = copy.deepcopy(language_model.base_model)
        self.score = nn.Linear(self.body.config.hidden_size, 1, bias=False)  # a bias would cancel in (3)
        nn.init.normal_(self.score.weight, std=0.02)
        embeddings = self.body.get_input_embeddings().weight.data  # [V, D]
        embeddings[eos_id] = embeddings[like_id]  # EOS was never read before: it starts as a full stop

    def forward(self, ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
        hidden = self.body(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
        return last_token(self.score(hidden.last_hidden_state)[..., 0], mask)


# %% [markdown]
r"""
## 3. Learn

Chosen and rejected texts go through the model in one batch. The step size first rises, because the gradient
of a random head would wreck the body, then falls in a line.
"""


# %%
def step_size(step: int, num_steps: int, warmup_share: float = 0.1) -> float:
    """Share of the learning rate at `step`: from 0 up to 1, then down to 0, each in a line."""
    warmup = max(1, int(warmup_share * num_steps))
    return min(step / warmup, (num_steps - step) / max(1, num_steps - warmup))


def train_reward_model(model: nn.Module, pairs: dict, cfg: Config, log: RunLog) -> nn.Module:
    """Fit `model` to pairs: tensors ids and mask [2, M, T], the chosen texts before the rejected ones."""
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.learning_rate, weight_decay=0.0, fused=True)
    num_pairs = pairs["ids"].shape[1]
    num_steps = cfg.num_epochs * (num_pairs // cfg.batch_size)
    for step in log.track(range(num_steps), "steps"):
        start = step * cfg.batch_size % (num_pairs - num_pairs % cfg.batch_size)
        if start == 0 and step > 0:  # a new pass, in a new order; the first takes the pairs as they come
            shuffled = torch.randperm(num_pairs, generator=generator)
            pairs = {key: values[:, shuffled] for key, values in pairs.items()}
        ids, mask = (pairs[key][:, start : start + cfg.batch_size].flatten(0, 1) for key in ("ids", "mask"))
        longest = int(mask.sum(dim=1).max())
        chosen, rejected = model(ids[:, :longest], mask[:, :longest]).chunk(2)
        loss = bradley_terry_loss(chosen, rejected)
        optimizer.param_groups[0]["lr"] = cfg.learning_rate * step_size(step, num_steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


# %% [markdown]
r"""
## 4. Are its probabilities right?

$\sigma$ of a score difference is a forecast. Sort the held-out pairs by it and cut them into bins of equal
size: where it says 0.8, the first text should win in 80 of 100. The mean gap is the *expected calibration
error*; we average true probabilities and not labels, so the coin adds nothing.

$$\text{ECE} = \tfrac1K \textstyle\sum_k \bigl|\,\overline{\hat p}_k - \overline{p}_k\bigr| \tag{4}$$

The *slope* says what kind of error it is: multiply all score differences by $a$ so that the likelihood is
highest (`cox1958calibration`). Less than 1 is a model too sure of itself; there the scores are too far apart.

$$a = \arg\max_a \textstyle\sum_i \bigl[p_i \log\sigma(a\,\Delta_i) + (1 - p_i)\log\sigma(-a\,\Delta_i)\bigr]
\tag{5}$$
"""


# %%
def reliability(predicted: Row, probability: Row, num_bins: int = 10) -> Float[np.ndarray, "2 K"]:
    """Mean forecast and mean truth in bins of equal size."""
    bins = np.array_split(np.argsort(predicted, kind="stable"), num_bins)
    return np.array([[values[rows].mean() for rows in bins] for values in (predicted, probability)])


def calibration_error(predicted: Row, probability: Row, num_bins: int = 10) -> float:
    """Expected calibration error."""
    forecast, truth = reliability(predicted, probability, num_bins)
    return float(np.abs(forecast - truth).mean())  # eq. (4)


def calibration_slope(differences: Row, probability: Row) -> float:
    """The factor that would make the score differences most likely, by bisection; from 0 to 100."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        forecast = 0.5 + 0.5 * np.tanh(0.5 * middle * differences)  # the logistic function
        slope = (differences * (probability - forecast)).sum()  # derivative of eq. (5), falling in a
        low, high = (middle, high) if slope > 0 else (low, middle)
    return low


# %% [markdown]
r"""
## 5. Press on it: the best of n

The simplest way to maximise a reward needs no training: write $n$ texts, keep the one with the highest score.
From one pool of $N$ scored texts its mean follows for every $n \le N$ at once. The text of
rank $i$ from below is the best of a random subset of size $n$ if the other $n - 1$ rank lower:

$$\mathbb{E}[\text{best}] = \textstyle\sum_{i \ge n} \binom{i-1}{n-1} \binom{N}{n}^{-1} v_{(i)} \tag{6}$$

with $v$ whatever is to be averaged, proxy or gold, and the order always by the proxy. How far has this moved
from the model that wrote the texts? At most

$$\mathrm{KL} \le \log n - \frac{n-1}{n} \tag{7}$$

which the token world below, where the truth can be enumerated, confirms.
"""


# %%
def best_of_n(proxy: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], n: int) -> float:
    """Mean of `values` at the text that is best by `proxy`, over all subsets of size n."""
    order, size = np.argsort(proxy, kind="stable"), len(proxy)
    weights = np.zeros(size)
    weight = n / size  # of the highest rank: C(N-1, n-1) / C(N, n)
    for rank in range(size, n - 1, -1):
        weights[rank - 1] = weight
        weight *= (rank - n) / max(1, rank - 1)  # C(i-2, n-1) / C(i-1, n-1)
    return float(weights @ values[order])  # eq. (6)


def best_of_n_kl(n: int) -> float:
    """Bound on the divergence of the best of n from the policy that wrote them, in nats."""
    return math.log(n) - (n - 1) / n  # eq. (7)


# %% [markdown]
r"""
## 6. Press harder: policy gradient

RLOO is REINFORCE with the plainest baseline: of $G$ completions of one prompt each is compared with the mean
of the others (`ahmadian2024rloo`). Here it maximises the proxy and nothing else; no KL penalty holds it.

$$\hat A_i = r_i - \frac{1}{G-1} \textstyle\sum_{j \ne i} r_j, \qquad
\nabla J = \mathbb{E}\bigl[\hat A_i \nabla \log\pi_\theta(y_i \mid x)\bigr] \tag{8}$$
"""


# %%
def leave_one_out(rewards: Float[Tensor, "N G"]) -> Float[Tensor, "N G"]:
    """Each reward minus the mean of the others in its row."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others  # eq. (8)


# same-as: D2.sample
@torch.no_grad()
def sample(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"], num_tokens: int,
    eos_id: int, pad_id: int, generator: torch.Generator,
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:  # fmt: skip
    """(completion_ids, completion_mask), the mask True up to and including the first EOS."""
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
    return chosen.masked_fill(~completion_mask, 0.0)  # their sum is log pi(y | x)


def write_texts(
    language_model: LoadedModel, prompts: Sequence[str], num_tokens: int, generator: torch.Generator
) -> tuple[list[str], tuple]:
    """(the prompts with their completions as texts, what `token_log_probs` needs to judge them)."""
    model, tokenizer = language_model
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True)
    inputs = (batch["input_ids"], batch["attention_mask"])
    written = sample(model, *inputs, num_tokens, tokenizer.eos_token_id, tokenizer.pad_token_id, generator)
    completions = tokenizer.batch_decode(written[0], skip_special_tokens=True)
    return [f"{prompt} {text}".strip() for prompt, text in zip(prompts, completions)], (*inputs, *written)


def maximise(scorer: Callable, base: LoadedModel, cfg: Config, log: RunLog) -> list[str]:
    """Train a copy of the base model on the proxy alone. Returns the last batch of texts."""
    policy = LoadedModel(copy.deepcopy(base.model), base.tokenizer)
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=5e-4)
    generator = torch.Generator().manual_seed(cfg.seed)
    texts: list[str] = []
    for update in log.track(range(cfg.num_policy_updates), "updates", show="rloo_gold"):
        chosen = torch.randint(len(PROMPTS), (8,), generator=generator)  # 8 prompts
        prompts = [PROMPTS[number] for number in chosen for _ in range(8)]  # groups of 8
        texts, written = write_texts(policy, prompts, cfg.num_tokens, generator)
        rewards = torch.from_numpy(score_texts(scorer, base.tokenizer, texts)).float()
        advantages = leave_one_out(rewards.reshape(8, 8)).flatten()  # [B]
        log_probs = token_log_probs(policy.model, *written).sum(dim=1)  # [B]
        with torch.no_grad():
            ref_log_probs = token_log_probs(base.model, *written).sum(dim=1)
        gold = gold_reward(texts)
        log.write(
            update, rloo_kl=(log_probs - ref_log_probs).mean().item(), rloo_gold=gold.mean(),
            rloo_proxy=cfg.temperature * rewards.mean().item(), rloo_gold_se=gold.std() / len(gold) ** 0.5,
        )  # fmt: skip
        optimizer.zero_grad()
        (-(advantages * log_probs).mean()).backward()
        nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
    return texts


# %% [markdown]
r"""
## 7. Press as hard as mathematics allows

In the token world there is no optimiser to blame. Under a price $\beta$ for divergence the best policy for a
proxy is known (`korbak2022bayesian`), and $\lambda = 1/\beta$ says how hard one presses:

$$\pi_\lambda(y) \propto \pi_\text{ref}(y)\, e^{\lambda \hat r(y)} \tag{9}$$

Take the derivative of any average under it, and the whole story of over-optimisation is one line:

$$\frac{d}{d\lambda}\, \mathbb{E}_{\pi_\lambda}[v] = \mathrm{Cov}_{\pi_\lambda}(v, \hat r) \tag{10}$$

With $v = \hat r$ it is a variance: the proxy's own reward **never** falls. With $v = r$ it is the covariance
of truth and proxy *among the texts that the policy writes now*. Where data was collected, at $\lambda = 0$,
they go together; that is what held-out accuracy measures. The gold reward peaks where this covariance reaches
zero, and no number measured on the reference's texts says where that is.

The proxy is small: a weight for each symbol, fitted to noisy pairs by Newton's method, with a weak pull to
zero. The gold reward is the world's own, minus one for each symbol that repeats the one before it. Counts of
symbols cannot see that; a second proxy is given the number of repeats too.
"""


# %%
def tilt(
    ref_log_probs: Float[Tensor, "*D M"], proxy: Float[Tensor, "*D M"], inverse_beta: float
) -> Float[Tensor, "*D M"]:
    """Log-probabilities of the best policy for `proxy` under the price beta."""
    return (ref_log_probs + inverse_beta * proxy).log_softmax(dim=-1)  # eq. (9)


def covariance(
    log_probs: Float[Tensor, "*D M"], a: Float[Tensor, "*D M"], b: Float[Tensor, "*D M"]
) -> Float[Tensor, "*D"]:
    """Covariance of a and b under a policy: right side of eq. (10)."""
    probs = log_probs.exp()
    mean_a, mean_b = ((probs * values).sum(dim=-1, keepdim=True) for values in (a, b))
    return (probs * (a - mean_a) * (b - mean_b)).sum(dim=-1)


def fit_weights(
    differences: Float[Tensor, "D M F"], labels: Float[Tensor, "D M"], ridge: float = 1.0, num_steps: int = 12
) -> Float[Tensor, "D F"]:
    """Bradley-Terry weights of linear scores, D fits at once; label 1: the first text won."""
    weights = differences.new_zeros(len(differences), differences.shape[2])
    identity = ridge * torch.eye(differences.shape[2], dtype=differences.dtype)
    for _ in range(num_steps):
        probs = torch.sigmoid((differences @ weights[..., None])[..., 0])  # [D, M]
        gradient = (differences.mT @ (probs - labels)[..., None])[..., 0] + ridge * weights
        hessian = differences.mT @ (differences * (probs * (1 - probs))[..., None]) + identity
        weights = weights - torch.linalg.solve(hessian, gradient)
    return weights


def symbol_features(world: TokenWorld, sees_repeats: bool) -> Float[Tensor, "M F"]:
    """Counts of each symbol in each completion; then, maybe, how often one follows itself."""
    ids, mask = world.completion_ids, world.completion_mask
    counts = nn.functional.one_hot(ids, world.num_symbols + 1)[..., : world.num_symbols].sum(dim=1)
    repeats = ((ids[:, 1:] == ids[:, :-1]) & mask[:, 1:]).sum(dim=1, keepdim=True)
    return torch.cat([counts, repeats] if sees_repeats else [counts], dim=1).double()


# %% [markdown]
r"""
## 8. Run, look, break

*Top.* Three models took the same number of steps, on a sixteenth, a quarter and all of the pairs. With all of
them the accuracy nearly touches the ceiling, and the forecasts lie on the diagonal. Sixteen passes over few
pairs teach the annotators' coins: far too sure. TRL's `RewardTrainer`, with our weights, pairs, order and
step sizes, ends where we do. It appends EOS to every text (so do we) and pads on the right, since
transformers numbers positions by column; its `margin` and `center_rewards_coefficient` would add to the loss.

*Bottom left.* All proxies promise more with every doubling of n, and the fewer the pairs, the emptier the
promise. Choosing is a gentle press: n = 512 moves at most 5.2 nats, and gold flattens rather than falls.

*Bottom middle.* The policy gradient goes ten times as far. At first both rewards rise. Then the policy finds
what the proxy never saw: praise without measure, words said again and again. Gold falls, the proxy climbs on.
This is the *good* proxy, the one near the ceiling: such texts are too rare among the pairs to matter for its
accuracy.

*Bottom right.* Exact curves, averaged over proxies. More pairs raise the peak, an ensemble at its most
doubtful also puts it off. Neither takes the fall away: no amount of data shows a blind model what it cannot
express, and all members are blind in the same place. The proxy that sees repeats keeps what it gains.

**Break it.** Read the score in the last *column* (`scores[:, -1]` in `last_token`). Accuracy barely moves:
padding attends to the text and learns to speak for it. But a text's score now depends on its neighbours in
the batch: one long text beside them flipped 8 of 100 preferences.

**Exercises.** (1) Give `maximise` a price: subtract `beta` times the log-ratio from the rewards. Which beta
stops at the peak? (2) Label 500 pairs of the hacked policy, train on all, and press again.
"""

# %%
INVERSE_BETAS, NUM_DRAWS = tuple(np.geomspace(0.05, 40.0, 40).tolist()), 20  # proxies, each of its own pairs
SHARES, POOL_PROMPTS = (16, 4, 1), ("the music was", "i", "we", "it was a")  # 16: a sixteenth of the pairs
WORLDS = {  # name: (pairs, sees repeats, members of an ensemble)
    "few": (100, False, 1), "many": (1000, False, 1), "ensemble": (100, False, 5), "sees": (100, True, 1),
}  # fmt: skip
ALWAYS = {"always": True, "seeds": "10/10"}


def collect_pairs(base: LoadedModel, num_pairs: int, seed: int, cfg: Config) -> dict:
    """Two completions of each prompt, the probability that annotators prefer the first, and a label."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    prompts = [PROMPTS[number] for number in rng.integers(len(PROMPTS), size=num_pairs)]
    sides: list[list[str]] = [[], []]
    for start in range(0, num_pairs, 512):
        for side in sides:
            side += write_texts(base, prompts[start : start + 512], cfg.num_tokens, generator)[0]
    probability = preference_probability(*map(gold_reward, sides), cfg.temperature)
    return {"texts": sides, "probability": probability, "labels": rng.random(num_pairs) < probability}


def judge(scorer: Callable, tokenizer: Any, test: dict) -> dict[str, Any]:
    """Accuracy and calibration on held-out pairs."""
    first, second = (score_texts(scorer, tokenizer, side) for side in test["texts"])
    gaps, truth = first - second, test["probability"]
    forecast = preference_probability(first, second, 1.0)
    return {
        "accuracy": expected_accuracy(gaps, truth), "bins": reliability(forecast, truth),
        "ece": calibration_error(forecast, truth), "slope": calibration_slope(gaps, truth),
    }  # fmt: skip


def new_model(base: LoadedModel, cfg: Config) -> RewardModel:
    """The same first weights at every call."""
    torch.manual_seed(cfg.seed)
    return RewardModel(base.model, *base.tokenizer.convert_tokens_to_ids([base.tokenizer.eos_token, "."]))


def claim_identities(base: LoadedModel, tokens: dict, cfg: Config, log: RunLog) -> None:
    """The gradient, the zero that does not matter, the padding that does not matter."""
    model = new_model(base, cfg).double()
    ids, mask = (tokens[key][:, :4].flatten(0, 1) for key in ("ids", "mask"))
    weights = [p for p in model.parameters() if p.requires_grad]

    def loss(shift: float = 0.0) -> Tensor:
        return bradley_terry_loss(*(model(ids, mask) + shift).chunk(2), margin=0.5)

    log.claim("gradient_gap",
        "the loss's gradient is that of finite differences, along ways through all weights",
        gradient_gap(loss, weights, cfg.seed), at_most=1e-4, unit="relative, float64",
        source="finite differences", **ALWAYS)  # fmt: skip
    log.claim("shift_gap", "adding 7 to every score changes no preference, hence not the loss",
        abs(loss().item() - loss(shift=7.0).item()), at_most=1e-12, source="eq. (3)", **ALWAYS)  # fmt: skip
    texts = ["the plot was dull .", "i adored it . the story made us laugh .", "we saw it at home ."]
    right, left = (model(*encode(base.tokenizer, texts, side)) for side in ("right", "left"))
    log.claim("padding_gap", "a text's score does not depend on the side on which its batch is padded",
        (right - left).abs().max().item(), at_most=1e-10, source="the mask", **ALWAYS)  # fmt: skip


def learn(
    base: LoadedModel, tokens: dict, test: dict, cfg: Config, log: RunLog
) -> tuple[list[RewardModel], float, float]:
    """Models of a sixteenth, a quarter and all of the pairs; CPU seconds and megabytes of the last."""
    models, found = [], []
    for share in SHARES:
        less = {key: values[:, : cfg.num_pairs // share] for key, values in tokens.items()}
        clock, longer = CpuClock(), dataclasses.replace(cfg, num_epochs=cfg.num_epochs * share)
        with PeakMemory() as peak, clock:
            models.append(train_reward_model(new_model(base, cfg), less, longer, log))
        found.append(judge(models[-1], base.tokenizer, test))
        numbers = {key: found[-1][key] for key in ("accuracy", "ece", "slope")}
        log.write(cfg.num_pairs // share, train_cpu_seconds=clock.seconds, **numbers)
        for row, (forecast, truth) in enumerate(found[-1]["bins"].T):
            log.write(row, **{f"forecast_{share}": forecast, f"truth_{share}": truth})
    ceiling = expected_accuracy(test["probability"] - 0.5, test["probability"])  # the sides that are likelier
    log.write(0, bayes_ceiling=ceiling)
    few, _, best = found
    log.claim("share_of_ceiling",
        "on held-out pairs the model is nearly as often right as one who knows the truth",
        best["accuracy"] / ceiling, at_least=0.95, unit="of the ceiling", source="eq. (2)")  # fmt: skip
    log.claim("calibration_error", "its forecasts are off by a few hundredths on average", best["ece"],
        at_most=0.05, unit="probability, 10 bins", source="the true probabilities")  # fmt: skip
    log.claim("calibration_slope", "its scores are about as far apart as the noise of the labels tells",
        best["slope"], near=(1.0, 0.25), source="cox1958calibration: 1 is calibrated")  # fmt: skip
    log.claim("more_pairs", "sixteen times the pairs, with the same number of steps, raise the accuracy",
        best["accuracy"] - few["accuracy"], at_least=0.03, unit="accuracy",
        source="two standard errors of a proportion near 0.8 over 1,000 pairs")  # fmt: skip
    log.claim("overconfident", "many passes over few pairs put the scores too far apart", few["slope"],
        at_most=0.75, unit="calibration slope", source="below what counts as calibrated above")  # fmt: skip
    return models, clock.seconds, peak.megabytes


def compare_trl(base: LoadedModel, tokens: dict, test: dict, ours: tuple, cfg: Config, log: RunLog) -> None:
    """TRL's RewardTrainer from the same weights on the same pairs in the same order."""
    model = new_model(base, cfg)
    batch = {key: values[:, :32] for key, values in tokens.items()}
    loss = bradley_terry_loss(*model(*(values.flatten(0, 1) for values in batch.values())).chunk(2)).item()
    log.claim("trl_loss_gap", "our loss equals that of TRL's RewardTrainer on the same batch",
        abs(loss - trl_loss(model.body, model.score, base.tokenizer, batch, cfg)), at_most=1e-5,
        source="trl 1.12, run in the same process", **ALWAYS)  # fmt: skip
    scorer, seconds, megabytes = train_trl(model.body, model.score, base.tokenizer, tokens, cfg)
    found = judge(scorer, base.tokenizer, test)
    numbers = {f"trl_{key}": found[key] for key in ("accuracy", "ece", "slope")}
    log.write(cfg.num_pairs, trl_train_cpu_seconds=seconds, **numbers)
    log.claim("trl_accuracy_gap",
        "after the same steps on the same pairs TRL's model is as often right as ours",
        found["accuracy"] - log.last("accuracy"), near=(0.0, 0.02), source="trl 1.12")  # fmt: skip
    for what, theirs, our in (("CPU seconds", seconds, ours[0]), ("megabytes", megabytes, ours[1])):
        log.claim(f"trl_{what.split()[-1]}", f"TRL's training takes no fewer {what} than ours", theirs / our,
            at_least=1.0, unit="times ours", source="trl 1.12 in the same process", timed=True)  # fmt: skip


def press_by_choice(base: LoadedModel, models: list[RewardModel], cfg: Config, log: RunLog) -> None:
    """Best of n by each model; what is kept of its promise."""
    generator = torch.Generator().manual_seed(cfg.seed + 3)
    pools = [write_texts(base, [p] * cfg.pool_size, cfg.num_tokens, generator)[0] for p in POOL_PROMPTS]
    golds = [gold_reward(pool) for pool in pools]
    counts, gains = [2**k for k in range(int(math.log2(cfg.pool_size)) + 1)], {}
    for share, model in zip(SHARES, models):
        scores = [cfg.temperature * score_texts(model, base.tokenizer, pool) for pool in pools]  # gold units
        for what, values in (("proxy", scores), ("gold", golds)):
            curve = [np.mean([best_of_n(s, v, n) for s, v in zip(scores, values)]) for n in counts]
            gains[f"{what}_{share}"] = np.array(curve) - curve[0]
    for row, n in enumerate(counts):
        log.write(n, **{f"best_of_n_{name}": gain[row] for name, gain in gains.items()})
    log.claim("best_of_n_proxy_rises",
        "with every doubling of n the best of n has more of the proxy's reward",
        min(np.diff(gains[f"proxy_{share}"]).min() for share in SHARES), at_least=0.0, unit="smallest rise",
        source="equation (6)", **ALWAYS)  # fmt: skip
    log.claim("data_under_pressure", "at the largest n, sixteen times the pairs keep more of the gold reward",
        gains[f"gold_{SHARES[-1]}"][-1] - gains[f"gold_{SHARES[0]}"][-1], at_least=0.0, unit="gold reward",
        source="gao2023overoptimization")  # fmt: skip


def press_by_gradient(base: LoadedModel, model: RewardModel, cfg: Config, log: RunLog) -> list[str]:
    """RLOO against the best proxy: how far gold rises and falls. Returns the last texts."""
    texts = maximise(model, base, cfg, log)
    gold, error, proxy = (np.array(log.series(f"rloo_{name}")[1]) for name in ("gold", "gold_se", "proxy"))
    window = np.ones(min(5, len(gold)))  # means over five batches, lest a lucky one be the peak
    mean, proxy = (np.convolve(curve, window / len(window), "valid") for curve in (gold, proxy))
    error_of_mean = np.convolve(error**2, window, "valid") ** 0.5 / len(window)
    peak, ends = int(mean.argmax()), ((gold[0], error[0]), (mean[-1], error_of_mean[-1]))
    log.claim("rloo_gold_turns",
        "as policy gradient maximises the proxy, gold rises, then falls (the smaller)",
        min((mean[peak] - at) / (math.hypot(error_of_mean[peak], spread) + 1e-9) for at, spread in ends),
        at_least=3.0, unit="standard errors", source="the usual bar of significance")  # fmt: skip
    log.claim("rloo_proxy_rises", "from gold's peak to the end the proxy's reward rises",
        proxy[-1] - proxy[peak], at_least=0.0, unit="gold", source="gao2023overoptimization")  # fmt: skip
    return texts


def token_curves(world: TokenWorld, kind: str, cfg: Config) -> dict[str, Float[Tensor, "D L"]]:
    """Exact KL, proxy and gold of the tilted policy, for each draw of a proxy and each inverse beta."""
    num_pairs, sees, members = WORLDS[kind]
    features, ref = symbol_features(world, sees), world.reference_log_probs()  # [M, F], [N, M]
    repeats, generator = symbol_features(world, True)[:, -1], torch.Generator().manual_seed(cfg.seed)
    size = (NUM_DRAWS, len(INVERSE_BETAS))
    curves = {name: torch.zeros(size, dtype=torch.float64) for name in ("kl", "proxy", "gold")}
    for log_probs, reward in zip(ref, world.rewards):
        gold = reward - repeats
        gold = gold - (log_probs.exp() * gold).sum()
        shape = (2, NUM_DRAWS * members, num_pairs)
        rows = torch.multinomial(log_probs.exp(), math.prod(shape), True, generator=generator).reshape(shape)
        wins = torch.sigmoid((gold[rows[0]] - gold[rows[1]]) / cfg.temperature)
        labels = (torch.rand(wins.shape, generator=generator) < wins).double()
        weights = fit_weights(features[rows[0]] - features[rows[1]], labels)
        proxy = cfg.temperature * weights @ features.T  # [D members, M], in units of gold
        proxy = proxy - (log_probs.exp() * proxy).sum(dim=1, keepdim=True)
        proxy = proxy.unflatten(0, (-1, members)).amin(dim=1)  # an ensemble's most doubtful member
        proxy = proxy - (log_probs.exp() * proxy).sum(dim=1, keepdim=True)
        for column, inverse_beta in enumerate(INVERSE_BETAS):
            policy = tilt(log_probs.expand_as(proxy), proxy, inverse_beta)
            for name, values in (("kl", policy - log_probs), ("proxy", proxy), ("gold", gold)):
                curves[name][:, column] += (policy.exp() * values).sum(dim=1) / len(ref)
    return curves


def covariance_gap(world: TokenWorld) -> float:
    """Largest gap between the two sides of (10): the world's reward as v, the text's length as proxy."""
    ref, reward = world.reference_log_probs(), world.rewards
    length = world.completion_mask.sum(dim=1).double().expand_as(ref)
    ends = [(tilt(ref, length, 0.5 + size).exp() * reward).sum(dim=1) for size in (1e-4, -1e-4)]
    return (
        ((ends[0] - ends[1]) / 2e-4 - covariance(tilt(ref, length, 0.5), reward, length)).abs().max().item()
    )


def press_exactly(cfg: Config, log: RunLog) -> None:
    """The token world: chance is in the pairs alone, not in the optimiser."""
    world = token_world(cfg.seed)
    found = {kind: token_curves(world, kind, cfg) for kind in WORLDS}
    turns, gold = {}, {}
    for kind, curves in found.items():
        for column, values in enumerate(torch.stack(list(curves.values())).mean(dim=1).T.tolist()):
            log.write(column, **{f"token_{kind}_{name}": value for name, value in zip(curves, values)})
        gold[kind] = curves["gold"].mean(dim=0)  # [L]
        peak = int(gold[kind].argmax())
        fall = curves["gold"][:, peak] - curves["gold"][:, -1]
        turns[kind] = (fall.mean() / (fall.std() / NUM_DRAWS**0.5).clamp(min=1e-9)).item()
        log.write(0, **{f"token_{kind}_peak_kl": curves["kl"].mean(dim=0)[peak].item()})
    log.claim("token_proxy_rises", "pressing harder never lowers the proxy's own reward",
        min(curves["proxy"].diff(dim=1).min().item() for curves in found.values()), at_least=-1e-9,
        unit="smallest rise", source="equation (10): a variance", **ALWAYS)  # fmt: skip
    log.claim("covariance_gap", "the slope of any reward is its covariance with the proxy",
        covariance_gap(world), at_most=1e-6, source="finite differences of (9)", **ALWAYS)  # fmt: skip
    log.claim("best_of_n_kl_excess", "the exact divergence of the best of n stays below log n - (n - 1) / n",
        max(world.kl(world.best_of_n(n)).item() - best_of_n_kl(n) for n in (1, 2, 4, 16, 64, 256)),
        at_most=1e-9, unit="nats", source="enumeration", **ALWAYS)  # fmt: skip
    log.claim("token_gold_turns",
        "maximised exactly, proxies that cannot see repeats take gold below its peak",
        min(turns["few"], turns["many"]), at_least=3.0, unit="standard errors over proxies",
        source="the usual bar of significance")  # fmt: skip
    log.claim("token_more_pairs", "ten times the pairs raise the peak of the gold reward",
        (gold["many"].max() - gold["few"].max()).item(), at_least=0.0, unit="gold reward",
        source="gao2023overoptimization")  # fmt: skip
    log.claim("token_sees_repeats",
        "pressed hardest, a proxy that sees repeats keeps more gold than any blind one",
        (gold["sees"][-1] - max(gold[kind][-1] for kind in ("few", "many", "ensemble"))).item(),
        at_least=0.0, unit="gold reward", source="what the features can express")  # fmt: skip


def main(cfg: Config, log: RunLog) -> None:
    base = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    seed_everything(cfg.seed)
    tokens = as_tokens(collect_pairs(base, cfg.num_pairs, cfg.seed, cfg), base.tokenizer)
    test = collect_pairs(base, cfg.num_test_pairs, cfg.seed + 1_000_000, cfg)
    claim_identities(base, tokens, cfg, log)
    models, *cost = learn(base, tokens, test, cfg, log)
    press_by_choice(base, models, cfg, log)
    texts = press_by_gradient(base, models[-1], cfg, log)
    press_exactly(cfg, log)
    compare_trl(base, tokens, test, tuple(cost), cfg, log)
    if not log.smoke:
        print("The policy that maximised the proxy writes:", *texts[:6], sep="\n  ")
    claims = {claim.name: claim.value for claim in log.claims}
    log.figure(draw_reward_model([{"metrics": log.metrics, "claims": claims}]))


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all recorded seeds."""
    log.figure(draw_reward_model(runs))


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
