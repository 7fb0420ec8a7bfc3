# %% [markdown]
r"""
# D3 · A reward model from noisy comparisons

**Question.** How well can a scorer be learnt from comparisons that are often wrong, and how does one know
that it is as good as it can be?

**Before this:** D2 (a given reward), D1 (the ideas). **Changes from D2:** the reward is learnt, from pairs of
texts of which someone liked one better. **Next:** D16 lets a policy maximise what was learnt here.

**Time.** 45 s on 2 cores; with all evidence 150 s.

References: `bradleyterry1952rank`, `ouyang2022instructgpt`, `cox1958calibration`.

Symbols: `M` pairs, `B` texts in a batch, `T` tokens of a text, $y_w$, $y_l$ the chosen and the rejected one,
$r_\phi$ the learnt reward, $r$ the true one, $\tau$ the annotators' temperature, $\sigma$ logistic function.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.text import own_pairs
from chapters.text.checkpoint import resumable
from chapters.text.generation import positions
from chapters.text.models import LoadedModel, load_model
from chapters.text.preferences import as_tokens, collect_pairs, encode, marks, score_texts
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Row = Float[np.ndarray, " M"]  # a number for each pair


@dataclass(frozen=True)
class Config:
    """A Bradley-Terry reward model, fitted to noisy pairs of reviews."""

    seed: int = 0
    """Seed of the texts, the annotators and the first weights."""
    model: str = "tiny"
    """Writes the reviews and is the reward model's body: tiny, a folder, or a hub id."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps of making the tiny model; it is kept in the cache."""
    num_tokens: Annotated[int, in_range(1, 40)] = 24
    """Longest completion."""
    num_pairs: Annotated[int, in_range(64, 1_000_000)] = 4096
    """M: labelled pairs to learn from."""
    num_test_pairs: Annotated[int, in_range(10, 1_000_000)] = 1000
    """Fresh pairs for judging, of the same prompts."""
    temperature: Annotated[float, in_range(0.01, 100.0)] = 0.5
    """tau: how noisy the annotators are."""
    num_epochs: Annotated[int, in_range(1, 100)] = 1
    """Passes over the pairs."""
    batch_size: Annotated[int, in_range(1, 4096)] = 8
    """Pairs per gradient step."""
    learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 7e-4
    """Adam's step size at its highest."""
    pairs: Path | None = None
    """A file of preferences of your own (JSON lines: prompt, chosen, rejected) in place of the reviews."""


SMOKE = {"pretrain_steps": 20, "num_tokens": 8, "num_pairs": 64, "num_test_pairs": 16, "batch_size": 2}

# %% [markdown]
r"""
## 1. A reader, and annotators who are not sure

To see how good a reward model is, one must know what it should have learnt. So the truth is ours: a reader
who likes warm reviews, up to a point. More than three words of praise smell of being paid for; of the words
that come back, common ones apart, three are forgiven, and each further one bores. This is `gold_reward` of
`chapters/envs/reviews.py`; *gold* is the field's word for the reward that one really means.

Annotators see two completions of one prompt and say which is better. The larger the difference of the two
rewards, the likelier they get it right (`bradleyterry1952rank`):

$$P(y_1 \succ y_2) = \sigma\bigl((r(y_1) - r(y_2)) / \tau\bigr) \tag{1}$$

*By hand.* Rewards that differ by $\tau \ln 3$ are told apart in three of four cases; equal ones are a toss:

```python
>>> first, second = np.array([np.log(3.0), 2.0]), np.array([0.0, 2.0])
>>> preference_probability(first, second, temperature=1.0).round(3)
array([0.75, 0.5 ])
```

Annotators err, so even one who knows the true reward agrees with them only with probability $\max(p, 1-p)$.
No scorer beats the **Bayes ceiling**:

$$\text{accuracy} \le \tfrac1M \textstyle\sum_i \max(p_i, 1 - p_i) \tag{2}$$

As $p$ is known here, no labels are needed to judge a scorer: it is right with probability $p_i$ if it prefers
the first text, else with $1 - p_i$.
"""


# %%
def preference_probability(first: Row, second: Row, temperature: float) -> Row:
    """Probability that an annotator likes the first text of a pair better."""
    return 1.0 / (1.0 + np.exp(-(first - second) / temperature))  # eq. (1)


def expected_accuracy(differences: Row, probability: Row) -> float:
    """How often the sign of the score differences agrees with an annotator, the labels averaged out."""
    right = np.where(differences > 0, probability, 1.0 - probability)
    return float(np.where(differences == 0, 0.5, right).mean())  # eq. (2) if the differences are right


# %% [markdown]
r"""
## 2. The loss

(1) is a logistic regression on the *difference* of two scores. Its loss is minus the log-likelihood of what
the annotators said, here with an optional margin $m$ for pairs that are known to lie far apart. The lesson
itself leaves it at 0:

$$\mathcal L(\phi) = -\tfrac1M \textstyle\sum_i \log\sigma(r_\phi(y_w^i) - r_\phi(y_l^i) - m_i) \tag{3}$$

*By hand.* Scores that are equal cost $\ln 2$ a pair. Adding 7 to both changes nothing:

```python
>>> chosen, rejected = torch.tensor([1.0]), torch.tensor([1.0])
>>> [round(bradley_terry_loss(chosen + x, rejected + x).item(), 3) for x in (0, 7)]
[0.693, 0.693]
```

So a reward model's zero is arbitrary. Its *scale* is not: by (1) the scores should differ by $(r(y_1) -
r(y_2))/\tau$. The code says `logsigmoid`: at a difference of −200 `log(sigmoid)` is minus infinity.
"""


# %%
def bradley_terry_loss(
    chosen: Float[Tensor, " M"], rejected: Float[Tensor, " M"], margin: float | Float[Tensor, " M"] = 0.0
) -> Float[Tensor, ""]:
    """Minus the mean log-probability that the chosen text wins."""
    return -nn.functional.logsigmoid(chosen - rejected - margin).mean()  # eq. (3)


# %% [markdown]
r"""
## 3. One number for a text

The scorer is a language model whose last layer is one linear map to a number. In a causal model only the
hidden state of the **last real token** has read the whole text. Which column that is, the mask must say:

```python
>>> scores = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
>>> mask = torch.tensor([[1, 1, 0], [0, 1, 1]])  # padding on the right, and on the left
>>> last_token(scores, mask)
tensor([0.2000, 0.6000])
```

Positions, too, are counted along the mask: padding on the left must not shift the text. The head has no bias,
which would cancel in (3). The score is read at the end-of-sequence token (EOS). The language model wrote that
token, but never had to read on from it, so its embedding has learnt nothing: it starts as a full stop's.
"""


# %%
def last_token(scores: Float[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """The score at the last real token, padding on either side."""
    columns = torch.arange(mask.shape[1])
    last = (columns * mask).argmax(dim=1)  # [B]
    return scores.gather(1, last[:, None])[:, 0]


class RewardModel(nn.Module):
    """A language model's body, and one number read off its last hidden state."""

    def __init__(self, language_model: nn.Module, eos_id: int, like_id: int) -> None:
        super().__init__()
        self.body = copy.deepcopy(language_model.base_model)
        self.score = nn.Linear(self.body.config.hidden_size, 1, bias=False)
        nn.init.normal_(self.score.weight, std=0.02)
        embeddings = self.body.get_input_embeddings().weight.data  # [V, D]
        embeddings[eos_id] = embeddings[like_id]

    def forward(self, ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
        hidden = self.body(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
        return last_token(self.score(hidden.last_hidden_state)[..., 0], mask)


# %% [markdown]
r"""
## 4. Learn

Chosen and rejected texts go through the model in one batch. The step size first rises, because the gradient
of a random head would wreck the body, then falls. Each pair is seen once: more passes teach the labels' luck.
"""


# %%
def step_size(step: int, num_steps: int, warmup_share: float = 0.1) -> float:
    """Share of the learning rate at `step`: from 0 up to 1, then down to 0, each in a line."""
    warmup = max(1, int(warmup_share * num_steps))
    return min(step / warmup, (num_steps - step) / max(1, num_steps - warmup))


def train_reward_model(model: nn.Module, pairs: dict, cfg: Config, log: RunLog) -> nn.Module:
    """Fit `model` to pairs: tensors ids and mask [2, M, T], the chosen texts before the rejected ones."""
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(model.parameters(), lr=cfg.learning_rate)
    num_pairs = pairs["ids"].shape[1]
    num_steps = cfg.num_epochs * (num_pairs // cfg.batch_size)
    order = torch.arange(num_pairs)
    for step in resumable(log, num_steps, "steps", (model, optimizer, generator, order)):  # `--resume`
        start = step * cfg.batch_size % (num_pairs - num_pairs % cfg.batch_size)
        if start == 0 and step > 0:  # a new pass, in a new order; the first takes the pairs as they come
            order.copy_(order[torch.randperm(num_pairs, generator=generator)])
        rows = order[start : start + cfg.batch_size]
        ids, mask = (pairs[key][:, rows].flatten(0, 1) for key in ("ids", "mask"))
        longest = int(mask.sum(dim=1).max())
        chosen, rejected = model(ids[:, :longest], mask[:, :longest]).chunk(2)
        loss = bradley_terry_loss(chosen, rejected)
        optimizer.lr = cfg.learning_rate * step_size(step, num_steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


# %% [markdown]
r"""
## 5. Are its probabilities right?

Accuracy asks for the order only. But a policy will maximise the *number*, so ask more. By (1) a score
difference $\Delta_i$ forecasts that the first text wins with probability $\hat p_i = \sigma(\Delta_i)$. Where
it says 0.8, the first text should win in 80 of 100. Sort the held-out pairs by $\hat p_i$ and cut them into
$K$ bins of equal size. In bin $j$ compare the mean forecast with the mean of the true $p_i$ (bars). The mean
gap is the *expected calibration error* (ECE):

$$\text{ECE} = \tfrac1K \textstyle\sum_j \bigl|\,\overline{\hat p}_j - \overline{p}_j\bigr| \tag{4}$$

The *slope* says what kind of error it is. By which factor $a$ should all $\Delta_i$ be multiplied to make the
annotators likeliest (`cox1958calibration`)? Below 1 the scores lie too far apart: the model is too sure.

$$a = \arg\max_a \textstyle\sum_i [p_i \log\sigma(a\Delta_i) + (1 - p_i)\log\sigma(-a\Delta_i)] \tag{5}$$
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
## 6. Look

![Accuracy near the ceiling, and forecasts on the diagonal if no pair is seen twice](results/D3.png)

*Left:* three models after the same number of steps, on a sixteenth, a quarter and all of the pairs, so with
16, 4 and 1 passes. With all pairs the accuracy comes near the dashed ceiling. *Middle:* that model's
forecasts lie near the diagonal. Sixteen passes over few pairs teach the wrong labels by heart: the order is
still mostly right, but the model is far too sure of it. *Right:* `RewardTrainer` of TRL (Transformer
Reinforcement Learning), given our first weights, pairs, order and step sizes, ends where we do.

**The verdict.** With some thousand noisy pairs the scorer is nearly as often right as one who knows the
truth, and its probabilities are nearly right too. We can say so because $p$ is known here. With human labels
only bounds of the ceiling are known, from how often two people agree (exercise 2, D1). And all of this holds
for texts as the language model writes them now: D16 leaves those behind.

<!-- results: D3 -->

`rl run D3`: 28 s; with `--evidence`: 86 s, 1370 MB; with `--smoke --evidence`: 10 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| padding_gap         | 5.55e-17 (4.86e-17 to 1.11e-16)    | ≤ 1e-10  | 10/10 |
| share_of_ceiling    | 0.977 (0.97 to 0.984)              | ≥ 0.95   | 10/10 |
| calibration_error   | 0.0172 (0.0146 to 0.0228)          | ≤ 0.05   | 10/10 |
| gradient_gap *      | 9.73e-07 (2.17e-07 to 3.89e-06)    | ≤ 0.0001 | 10/10 |
| shift_gap *         | 5.55e-17 (0 to 2.22e-16)           | ≤ 1e-12  | 10/10 |
| calibration_slope * | 0.883 (0.844 to 0.927); worst 0.73 | 1 ± 0.25 | 9/10  |
| more_pairs *        | 0.11 (0.0824 to 0.127)             | ≥ 0.03   | 10/10 |
| overconfident *     | 0.182 (0.168 to 0.207)             | ≤ 0.75   | 10/10 |
| trl_loss_gap *      | 0                                  | ≤ 1e-05  | 10/10 |
| trl_accuracy_gap *  | 0                                  | 0 ± 0.02 | 10/10 |
| trl_seconds *       | 1.08 (1.04 to 1.1)                 | ≥ 1      | 10/10 |
| trl_megabytes *     | 1.08 (1.03 to 1.11)                | ≥ 1      | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `padding_gap`: a text's score does not depend on the side on which its batch is padded
- `share_of_ceiling`: on held-out pairs the model is nearly as often right as one who knows the truth (of the
  ceiling)
- `calibration_error`: its forecasts are off by a few hundredths on average (probability, 10 bins)
- `gradient_gap`: the loss's gradient is that of finite differences, along ways through all weights (relative,
  float64)
- `shift_gap`: adding 7 to every score changes no preference, hence not the loss
- `calibration_slope`: its scores are about as far apart as the noise of the labels tells
- `more_pairs`: sixteen times the pairs, with the same number of steps, raise the accuracy (accuracy)
- `overconfident`: many passes over few pairs put the scores too far apart (calibration slope)
- `trl_loss_gap`: our loss equals that of TRL's RewardTrainer on the same batch
- `trl_accuracy_gap`: after the same steps on the same pairs TRL's model is as often right as ours
- `trl_seconds`: TRL's training takes no fewer CPU seconds than ours (times ours)
- `trl_megabytes`: TRL's training takes no fewer megabytes than ours (times ours)
</details>

<!-- /results -->

**Your own pairs.** `rl run D3 --pairs FILE.jsonl` learns from them (README says how they stand in the file).

**Break it.** `rl break D3 last_column` reads the score in the last column, padding or not. Accuracy barely
moves: a padding token, too, reads the text before it, and learns to score it. But a text's score now depends
on its neighbours in the batch. `rl break D3 swapped` exchanges chosen and rejected, and learns the opposite.

**Exercises.**

<!-- exercises: D3 -->

*D3.1 · The heart of it* (30 minutes, medium). Write the loss, the accuracy without labels, and the score at
the last real token, from (2), (3) and section 3. The check of the loss knows the overflow, the sign, and the
margin. `rl exercise D3.bradley_terry_loss`, `rl exercise D3.expected_accuracy`, `rl exercise D3.last_token`.

*D3.2 · A ceiling for your own data* (25 minutes, medium). Nobody tells you $p$, but you can ask two
annotators. The share of pairs on which they agree is

$$g = \tfrac1M \textstyle\sum_i \bigl[p_i^2 + (1 - p_i)^2\bigr] \tag{E1}$$

Between which two numbers does the ceiling (2) lie? Where, if $g$ is 0.73? `rl exercise D3.ceiling_between`.

<details><summary>Answer</summary>

Between 0.73 and 0.84. If every label is right with the same probability $a$, then $a^2 + (1-a)^2 = 0.73$ and
$a = 0.84$: the highest ceiling. Agreement is a convex function of $\max(p, 1-p)$, so at the same agreement
pairs of mixed difficulty have a lower one. It is lowest if some pairs are clear and all others a toss: on
each pair the two then agree as often as the best scorer is right, so the ceiling is $g$ itself.
</details>

*D3.3 · More than two* (20 minutes, medium). Show an annotator $K$ texts at once, and one ranking gives $K
(K-1) / 2$ pairs (`ouyang2022instructgpt`). With $y^1$ the text liked best, the loss of a ranking is a mean
over all of them:

$$-\tfrac{2}{K (K-1)} \textstyle\sum_{i<j} \log\sigma\bigl(r_\phi(y^i) - r_\phi(y^j)\bigr) \tag{E2}$$

Why should the pairs of one ranking stand in one batch? `rl exercise D3.ranking_loss`.

<details><summary>Answer</summary>

Each text goes through the model once instead of K - 1 times. And the pairs of one ranking depend on each
other: in batches of their own they are K - 1 passes over the same texts, which teach the labels' luck.
</details>

*D3.4 · Find the bug* (10 minutes). `rl exercise D3.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def judge(scorer: Callable, tokenizer: Any, test: dict) -> dict[str, Any]:
    """Accuracy and calibration on held-out pairs."""
    first, second = (score_texts(scorer, tokenizer, side) for side in test["texts"])
    differences, truth = first - second, test["probability"]
    forecast = preference_probability(first, second, 1.0)
    return {
        "accuracy": expected_accuracy(differences, truth),
        "bins": reliability(forecast, truth),
        "ece": calibration_error(forecast, truth),
        "slope": calibration_slope(differences, truth),
    }


def new_model(base: LoadedModel, cfg: Config) -> RewardModel:
    """The same first weights at every call."""
    torch.manual_seed(cfg.seed)
    return RewardModel(base.model, *marks(base.tokenizer))


def claim_padding(base: LoadedModel, cfg: Config, log: RunLog) -> None:
    """The padding that must not matter."""
    model = new_model(base, cfg).double()
    texts = ["the plot was dull .", "i adored it . the story made us laugh .", "we saw it at home ."]
    right, left = (model(*encode(base.tokenizer, texts, side)) for side in ("right", "left"))
    log.claim(
        "padding_gap",
        "a text's score does not depend on the side on which its batch is padded",
        (right - left).abs().max().item(),
        at_most=1e-10,
        source="the mask",
        always=True,
        seeds="10/10",
    )


def learn_own(base: LoadedModel, cfg: Config, log: RunLog) -> None:
    """A reward model from the pairs of a file, of which nobody knows the true probabilities."""
    learn, test = own_pairs.texts(cfg, base, log)
    claim_padding(base, cfg, log)
    model = train_reward_model(new_model(base, cfg), learn, cfg, log)
    chosen, rejected = own_pairs.scores(model, test, cfg.batch_size)
    own_pairs.claim(chosen - rejected, log, "share_of_ceiling, calibration_error")


def main(cfg: Config, log: RunLog) -> None:
    base = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    seed_everything(cfg.seed)
    if cfg.pairs:
        return learn_own(base, cfg, log)
    pairs = collect_pairs(base, cfg.num_pairs, cfg.seed, cfg.num_tokens, cfg.temperature)
    tokens = as_tokens(pairs, base.tokenizer)
    test = collect_pairs(base, cfg.num_test_pairs, cfg.seed + 1_000_000, cfg.num_tokens, cfg.temperature)
    claim_padding(base, cfg, log)
    model = train_reward_model(new_model(base, cfg), tokens, cfg, log)
    found = judge(model, base.tokenizer, test)
    ceiling = expected_accuracy(test["probability"] - 0.5, test["probability"])  # the sides that are likelier
    log.write(0, bayes_ceiling=ceiling)
    log.claim(
        "share_of_ceiling",
        "on held-out pairs the model is nearly as often right as one who knows the truth",
        found["accuracy"] / ceiling,
        at_least=0.95,
        unit="of the ceiling",
        source="eq. (2)",
    )
    log.claim(
        "calibration_error",
        "its forecasts are off by a few hundredths on average",
        found["ece"],
        at_most=0.05,
        unit="probability, 10 bins",
        source="the true probabilities",
    )
    figure, ax = plotting.new_figure()
    ax.plot([0, 1], [0, 1], label="calibrated", **plotting.REFERENCE)
    ax.plot(*found["bins"], "o-", label="this model, a tenth of the pairs each")
    ax.set(xlabel="forecast: the first text wins", ylabel="true probability", title="Reliability")
    ax.legend(loc="upper left")
    log.figure(figure)
    log.keep(base=base, tokens=tokens, test=test, found=found)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
