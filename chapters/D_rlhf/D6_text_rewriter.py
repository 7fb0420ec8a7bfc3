# %% [markdown]
r"""
# D6 · Text rewriter with preference feedback

**Question.** Can a model learn to rewrite blunt requests well when nobody can say what a good rewrite is, but
somebody can say which of two is better? And what if that somebody is you?

**Before this:** D2 (PPO, proximal policy optimisation), D3 (reward models). **Changes from D2 and D3:** no
part is new, but all are joined, and some of the comparisons may be your own. **Next:** D0 and D1 again.

**Time.** 60 s on 2 cores; with all evidence 170 s.

References: `stiennon2020summarize`, `bradleyterry1952rank`, `gao2023overoptimization`.

Symbols: request $x$, rewrite $y$ (chosen $y_w$, rejected $y_l$), learned reward $r_\phi$, the judge's score
$s$ and temperature $\tau$, $\pi_\text{ref}$ the imitating model, $\beta$ the penalty's weight.
"""

# %%
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from chapters.envs import rewriter as office
from chapters.envs.rewriter import blunt_texts, encode_prompts, encode_rewrites, judge
from chapters.rating.ask import ask, to_rate, who_rates
from chapters.text import own_pairs, ppo, rewriting
from chapters.text.charts import draw_rewriter
from chapters.text.checkpoint import resumable
from chapters.text.generation import masked_mean, sample, token_log_probs
from chapters.text.models import LoadedModel, load_model
from chapters.text.ppo import TEXT, PolicyWithValue, minibatch_loss, update
from chapters.text.preferences import bradley_terry_loss
from chapters.text.recipes import rewriter_recipe
from chapters.text.rewriting import FAR, Comparisons, Pairs, RewardModel, compare, pack, rewrite
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.optim import Adam

Rows = Int[np.ndarray, " I"]  # numbers of pairs
IMITATION_LR, REWARD_LR = 1e-3, 1e-3  # Adam's step sizes for the tiny model; they fall to zero in a line


@dataclass(frozen=True)
class Config(ppo.Settings):  # D2's settings of PPO are inherited
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
    """tau: how far apart two scores must be before the judge is fairly sure; every label is a draw."""
    rm_epochs: Annotated[int, in_range(1, 100)] = 1
    """Passes of the reward model over the pairs, 16 at a time; more would teach it the luck of the labels."""
    rater: Literal["heuristic", "terminal", "web", "scripted"] = "heuristic"
    """Whose comparisons count: the judge's alone, or also yours, or those of a script in your place."""
    rate: bool = False
    """Rate in the terminal: the same as --rater terminal."""
    rate_web: bool = False
    """Rate on a page that is served to this machine only: the same as --rater web."""
    port: Annotated[int, in_range(0, 65535)] = 0
    """The page's port, for an address that can be forwarded; 0 takes any that is free."""
    num_ratings: Annotated[int, in_range(2, 10_000)] = 40
    """Pairs that you are asked about; some come twice (10 of 40), to see how sure you are."""
    human_share: Annotated[float, in_range(0.0, 1.0)] = 0.3
    """Share of the reward model's minibatches that is drawn from your answers; 1 uses nothing else."""
    ratings: Path | None = None
    """File that keeps your answers and is resumed; default: one beside the runs of this lesson."""
    pairs: Path | None = None
    """A file of preferences (JSON lines: prompt, chosen, rejected) in place of answers; see `human_share`."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Weight of the KL penalty, for divergence from the imitating model."""
    learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 3e-4
    """PPO's step size; it falls to zero in a line."""
    num_prompts: Annotated[int, in_range(2, 10_000)] = 64
    """B: rewrites sampled in each update."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 20
    """Batches sampled and learnt from."""
    num_eval_texts: Annotated[int, in_range(4, 100_000)] = 400
    """Held-out requests to judge by."""


SMOKE = {
    "pretrain_steps": 20, "sft_steps": 2, "num_tokens": 8, "num_pairs": 24, "rm_epochs": 1, "num_ratings": 10,
    "num_prompts": 8, "num_updates": 1, "num_epochs": 2, "num_eval_texts": 16,
}  # fmt: skip

# %% [markdown]
r"""
## 1. A model that imitates

The task: `send the old report today now =>` is to be continued by, say, `would you please send the old report
today ? thank you .` The tiny model has read office notes: it knows the words, not the task. *Supervised
fine-tuning* (SFT) raises the probability of people's rewrites, not of the requests ($m_t$ masks padding):

$$\mathcal L_\text{SFT} = -\frac{\sum_t m_t \log \pi(y_t \mid x, y_{<t})}{\sum_t m_t} \tag{1}$$

A third of the people's rewrites are careful, the rest hasty or curt. A perfect imitator is as uneven.
"""


# %%
def imitation_loss(policy: nn.Module, lm: LoadedModel, requests: Sequence[str], rewrites: Sequence[str]):
    """Minus the mean log-probability of a token of the rewrites. Returns a scalar tensor."""
    prompts = encode_prompts(lm.tokenizer, requests)
    completion_ids, completion_mask = encode_rewrites(lm.tokenizer, rewrites)
    log_probs = token_log_probs(policy, *prompts, completion_ids, completion_mask)  # [B, T]
    return -masked_mean(log_probs, completion_mask)  # eq. (1)


def imitate(lm: LoadedModel, cfg: Config, log: RunLog) -> nn.Module:
    """Supervised fine-tuning of a copy of the model."""
    policy = copy.deepcopy(lm.model).requires_grad_(True)
    rng = np.random.default_rng([cfg.seed, 1])
    optimizer = Adam(policy.parameters(), lr=IMITATION_LR)
    state = (policy, optimizer, rng)  # all that changes: a run that is stopped can go on (`--resume`)
    for step in resumable(log, cfg.sft_steps, "SFT steps", state, "sft_loss"):
        optimizer.lr = IMITATION_LR * (1.0 - step / cfg.sft_steps)
        requests = office.draw_requests(rng, 64)
        rewrites = [office.demonstrate(rng, request) for request in requests]
        loss = imitation_loss(policy, lm, [request.text for request in requests], rewrites)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.write(step, sft_loss=loss.item())
    return policy.requires_grad_(False)  # from here on it is the reference: it must not train along


# %% [markdown]
r"""
## 2. Which of two is better?

The judge scores every rewrite: courtesy, content kept, nothing invented, not too many words. The learner
sees no score, only which of two rewrites of a request won. The nearer their scores $s$, the more the judge
wavers:

$$P(y_1 \succ y_2) = \sigma\!\left(\frac{s(x, y_1) - s(x, y_2)}{\tau}\right) \tag{2}$$

*By hand.* Without its "thank you" a rewrite scores 5, not 6. At $\tau = 1$ the better one wins in
$1 / (1 + e^{-1}) = 73$ % of the comparisons.

The reward model is D3's (`bradleyterry1952rank`). The loss sees differences only, so a constant is free:
at the end it is set so that the imitating model earns 0 on average (`stiennon2020summarize`).

$$\mathcal L_\text{RM} = -\operatorname{mean} \log \sigma\bigl(r_\phi(x, y_w) - r_\phi(x, y_l)\bigr) \tag{3}$$

**Your own ratings.** With `--rate` (in the terminal) or `--rate-web` you are shown pairs. Ties, skips and
pairs answered both ways teach nothing. One in five of the requests that you rated is held out, from the
judge's pairs too: your answers there test the reward model. With a `human_share` of a quarter two of each 8
pairs are yours (for the last batch the judge has only 4 left):

```python
>>> epoch = minibatches(20, num_human=3, batch_size=8, human_share=0.25, rng=np.random.default_rng(0))
>>> [(len(judged), len(own)) for judged, own in epoch]
[(6, 2), (6, 2), (4, 2)]
```
"""


# %%
def label(compared: Comparisons, rng: np.random.Generator) -> Pairs:
    """Ask the judge about every pair, once."""
    first_wins = rng.random(len(compared.probs)) < compared.probs  # eq. (2)
    sides = [(a, b) if win else (b, a) for win, a, b in zip(first_wins, compared.first, compared.second)]
    return Pairs(compared.requests, [side[0] for side in sides], [side[1] for side in sides])


def minibatches(
    num_pairs: int, num_human: int, batch_size: int, human_share: float, rng: np.random.Generator
) -> Iterator[tuple[Rows, Rows]]:
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
    reward_model = RewardModel(model)
    rng = np.random.default_rng([cfg.seed, 3])
    optimizer = Adam(reward_model.parameters(), lr=REWARD_LR)
    sizes = len(pairs.requests), len(human.requests), 16
    batches = [rows for _ in range(cfg.rm_epochs) for rows in minibatches(*sizes, cfg.human_share, rng)]
    state = (reward_model, optimizer)
    for step in resumable(log, len(batches), f"steps ({name})", state, f"{name}_loss"):
        judged, own = batches[step]
        optimizer.lr = REWARD_LR * min(1.0, (step + 1) / 20) * (1.0 - step / len(batches))
        mixed = [theirs + yours for theirs, yours in zip(pairs.pick(judged), human.pick(own))]
        loss = bradley_terry_loss(*reward_model.margins(lm, Pairs(*mixed)))  # eq. (3)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reward_model.parameters(), 1.0)
        optimizer.step()
        log.write(step, **{f"{name}_loss": loss.item()})
    with torch.no_grad():  # the constant that is free
        few = pairs.pick(range(min(256, len(pairs.requests))))
        reward_model.score.bias -= torch.cat(reward_model.margins(lm, few)).mean()
    return reward_model.requires_grad_(False)


# %% [markdown]
r"""
## 3. PPO against the learned reward

PPO is D2's (`chapters/text/ppo.py`): a penalty for each token, the learned reward at the last. The penalty
estimates the Kullback–Leibler divergence (KL) from the imitating model. It matters more than in D2: far from
that model the learned reward may say anything (`gao2023overoptimization`, D16).

$$r_t = -\beta \log \frac{\pi_{\theta_\text{old}}(y_t \mid x, y_{<t})}{\pi_\text{ref}(y_t \mid x, y_{<t})}
+ \mathbb 1[t \text{ is the last token}]\; r_\phi(x, y) \tag{4}$$
"""


# %%
@torch.no_grad()
def collect(
    policy: PolicyWithValue, reference: nn.Module, reward_model: RewardModel, lm: LoadedModel,
    requests: Sequence[str], generator: torch.Generator, cfg: Config,
) -> dict[str, Tensor]:  # fmt: skip
    """A rewrite of each request with everything that stays constant while it is learnt from."""
    prompts = encode_prompts(lm.tokenizer, requests)
    special = lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id
    completions = sample(policy, *prompts, cfg.num_tokens, *special, generator)
    batch = dict(zip(TEXT, (*prompts, *completions)))
    batch["old_log_probs"], values = ppo.log_probs_and_values(policy, batch)
    batch["log_ratio"] = batch["old_log_probs"] - token_log_probs(reference, *prompts, *completions)
    batch["scores"] = reward_model(*pack(*prompts, *completions))
    mask = batch["completion_mask"]
    rewards = ppo.token_rewards(batch["scores"], batch["log_ratio"], mask, cfg.beta)  # eq. (4)
    advantages = ppo.gae(rewards, values, mask, cfg.gae_lambda)
    batch["returns"] = advantages + values * mask
    batch["advantages"] = ppo.whiten(advantages, mask)
    return batch


def train(
    reference: nn.Module, reward_model: RewardModel, lm: LoadedModel, requests: Sequence[str], cfg: Config,
    log: RunLog, name: str = "ours", watch: Callable = lambda policy, step: None,
) -> PolicyWithValue:  # fmt: skip
    """PPO from a copy of `reference`, on `requests` in their order; `watch` is called after each update."""
    policy = PolicyWithValue(copy.deepcopy(reference)).requires_grad_(True)
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate, eps=1e-5)
    state = (policy, optimizer, generator)
    for i in resumable(log, cfg.num_updates, f"updates ({name})", state, f"{name}_reward"):
        optimizer.lr = cfg.learning_rate * (1.0 - i / cfg.num_updates)
        asked = requests[i * cfg.num_prompts : (i + 1) * cfg.num_prompts]
        batch = collect(policy, reference, reward_model, lm, asked, generator, cfg)
        gap = update(policy, optimizer, batch, minibatch_loss, generator, cfg)
        kl = batch["log_ratio"].sum(dim=1).mean()  # nats a rewrite: an estimate
        log.write(i, **{f"{name}_reward": batch["scores"].mean(), f"{name}_kl": kl, f"{name}_first_gap": gap})
        watch(policy, i + 1)
    return policy


# %% [markdown]
r"""
## 4. Look, rate, break

![Politer than the imitating model, with more of the content; reward and KL rise, then level](results/D6.png)

*Left*: how often our rewrites win against the imitating model's (a tie counts half), the share of the
content's words that are kept, and the share of polite rewrites. *Middle*: twelve words are free under the
judge. Lengths grow towards that, since courtesy and content take words. *Right*: what is optimised. The
learned reward soon stops rising, and the KL does not run away.

Next, some rewrites, also by TRL (*transformer reinforcement learning*) from the same start. Nearly all are
polite, but look at the papers: at times "report" has become "form". The judge, too, takes points for that.

![Requests, and what imitation and PPO make of them](results/D6_samples.png)
![Our PPO and TRL's reach about the same score; ours sooner](results/D6_trl.png)

**The verdict.** Yes. Comparisons alone took the model past what it had imitated: its rewrites win most
comparisons with the imitating model's, nearly all are polite, and they keep more of the content. If the
somebody is you, the same code learns your taste, and a rater who contradicts himself is a noisy judge (D1).

<!-- results: D6 -->

`rl run D6`: 52 s; with `--evidence`: 113 s, 2111 MB; with `--smoke --evidence`: 12 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| win_rate             | 0.86 (0.829 to 0.875)           | ≥ 0.75     | 10/10 |
| polite               | 0.993 (0.988 to 0.995)          | ≥ 0.95     | 10/10 |
| first_ratio_gap      | 0                               | ≤ 0.0001   | 10/10 |
| content_gain *       | 0.102 (0.0629 to 0.11)          | ≥ 0        | 10/10 |
| ratings_round_trip * | 1                               | 1 ± 0      | 10/10 |
| ratings_teach *      | 0.664 (0.608 to 0.689)          | ≥ 0.5      | 10/10 |
| rm_knowledge *       | 0.605 (0.563 to 0.633)          | ≥ 0.5      | 10/10 |
| first_kl *           | 0                               | 0 ± 0.0001 | 10/10 |
| trl_parity *         | 2.38e-07 (2.38e-07 to 4.77e-07) | ≤ 1e-05    | 10/10 |
| trl_win_rate *       | 0.828 (0.811 to 0.848)          | ≥ 0.5      | 10/10 |
| faster_than_trl *    | 2.32 (1.27 to 3.72)             | ≥ 1        | 10/10 |
| reference_moved *    | 0                               | ≤ 0        | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `win_rate`: our PPO's rewrites of unseen requests beat the imitating model's under the judge (win rate, ties
  half)
- `polite`: nearly all of them are polite (share)
- `first_ratio_gap`: in the first minibatch of every batch all ratios are 1, but for rounding
- `content_gain`: our PPO's rewrites keep no less of the content than the imitating model's (share of content
  words)
- `ratings_round_trip`: exported ratings come back, read as TRL reads a dataset, as they were given (1 is yes)
- `ratings_teach`: of pairs on unseen requests a reward model trained on exported ratings alone shares more
  than half (of the script's preferences)
- `rm_knowledge`: on unseen requests the reward model is over halfway from a coin to the ceiling (of the way)
- `first_kl`: before the first update no token pays a penalty: the policy is the imitating model (nats)
- `trl_parity`: TRL reads the same rewards from our reward model, and whitens advantages alike
- `trl_win_rate`: TRL's PPOTrainer, given as much, beats the imitating model too (win rate, ties half)
- `faster_than_trl`: TRL needs as many CPU seconds to four fifths of our gain in the judge's score (times
  ours)
- `reference_moved`: the imitating model, reference of the divergence, has not trained along (largest change
  of a weight)
</details>

<!-- /results -->

**From a file.** `rl run D6 --pairs FILE.jsonl --human-share 1` learns from yours alone (README). Then the
judge's taste was not asked for, and what it would say of the rewrites is drawn but not claimed.

**Break it.** `rl break D6 no_kl`: the learned reward ends as high, at several times the KL, and the judge
likes the rewrites less. `rl break D6 prefers_rejected`: what does a policy write that aims to displease?

**Exercises.**

<!-- exercises: D6 -->

*D6.1 · The heart of it* (35 minutes, medium). Write the loss of imitation (1), the judge's labels (2), and
the epoch that mixes in your own. `rl exercise D6.imitation_loss`, `rl exercise D6.label`, `rl exercise
D6.minibatches`.

*D6.2 · Rate 40 pairs yourself* (20 minutes, easy). `rl run D6 --rate-web`. How often do you agree with the
judge, and with yourself? What does the reward model make of the answers that it did not learn from? Then
prefer the *shorter* text throughout, with `--human-share 0.6`, and predict the length.

<details><summary>Answer</summary>

All three shares are printed. What you answer differently the second time, no model can predict. And at most
some eight of your answers are held out: one more or less is over ten percent. The judge penalises words from
the thirteenth on, your answers from the first: expect shorter rewrites.
</details>

*D6.3 · What no model can beat* (15 minutes, easy). You saw some pairs twice, and answered a share $c$ of them
alike. Say that each answer is a slip with probability $e \le \tfrac12$, whatever the pair. Two answers are
alike if both are slips or none is:

$$c = e^2 + (1 - e)^2 \tag{E1}$$

Return $1 - e$: how often a model that knows your taste can be right. `rl exercise D6.best_agreement`.

<details><summary>Answer</summary>

Say that 82 of 100 are answered alike: then $e = 0.1$, and the best model is right in 90. One that agrees with
88 of 100 held-out answers is almost perfect, though 88 sounds poor. The assumption is strong: people slip
where the choice is hard (D1).
</details>

*D6.4 · A price for words* (15 minutes, easy). Nobody rewards length, and the rewrites grow. Where raters like
long texts, reward models do too, and a price is put on it. With $|y|$ tokens, $n$ of them free, and price
$\lambda$:

$$r'(x, y) = r_\phi(x, y) - \lambda \max(0, |y| - n) \tag{E2}$$

In PPO it would stand in `collect`, where the scores are made. `rl exercise D6.priced_scores`.

*D6.5 · Find the bug* (10 minutes). `rl exercise D6.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def claim_outcome(found: dict[str, dict[str, np.ndarray]], log: RunLog) -> None:
    """Our PPO beside imitation, on held-out requests."""
    ours, goal = found["ours"], {"source": "goal of the mini project"}
    log.claim(
        "win_rate",
        "our PPO's rewrites of unseen requests beat the imitating model's under the judge",
        ours["wins"].mean(),
        at_least=0.75,
        unit="win rate, ties half",
        **goal,
    )
    polite = ours["polite"].mean()
    log.claim("polite", "nearly all of them are polite", polite, at_least=0.95, unit="share", **goal)


def main(cfg: Config, log: RunLog) -> None:
    who = who_rates(cfg)  # first of all: two raters at once are refused
    seed_everything(cfg.seed)
    lm = load_model(cfg.model, rewriter_recipe(cfg.pretrain_steps))
    own = own_pairs.columns(cfg, lm, log) if cfg.pairs else None
    sft = imitate(lm, cfg, log)
    compared = compare(sft, lm, cfg.num_pairs, cfg.num_tokens, cfg.judge_noise, cfg.seed)
    shown = to_rate(*compared[:3], cfg.num_ratings)
    human, unseen = rewriting.hold_out(Pairs(*(own or ask(who, shown, office.prefers, cfg, log))))
    pairs = label(compared, np.random.default_rng([cfg.seed, 4])).without(unseen.requests)
    reward_model = fit_reward_model(sft, lm, pairs, human, cfg, log)
    margins = rewriting.tell_agreement(reward_model, lm, unseen, log)
    requests = blunt_texts([cfg.seed, 5], cfg.num_prompts * cfg.num_updates)
    policy = train(sft, reward_model, lm, requests, cfg, log)

    tests = blunt_texts([cfg.seed, 6], cfg.num_eval_texts, held_out=True)
    texts, found = {}, {}
    for place, (name, writer) in enumerate({"sft": sft, "ours": policy}.items()):
        texts[name] = rewrite(writer, lm, tests, cfg.num_tokens, cfg.seed + (4 + place) * FAR)
        found[name] = vars(judge(tests, texts[name]))
        found[name]["wins"] = office.wins(found[name]["score"], found["sft"]["score"])
        log.write(0, **{f"{name}_final_{key}": values.mean() for key, values in found[name].items()})
    if own:  # what the judge likes is not what was asked for
        own_pairs.claim(margins, log, "win_rate, polite")
    else:
        claim_outcome(found, log)
    log.claim(
        "first_ratio_gap",
        "in the first minibatch of every batch all ratios are 1, but for rounding",
        max(log.series("ours_first_gap")[1]),
        at_most=1e-4,
        source="the weights have not moved",
        always=True,
        seeds="5/5",
    )
    draw_rewriter(found, log)
    log.keep(lm=lm, sft=sft, shown=shown, reward_model=reward_model, requests=requests)
    log.keep(tests=tests, texts=texts, found=found)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
