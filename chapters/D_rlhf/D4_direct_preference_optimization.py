# %% [markdown]
r"""
# D4 · Direct preference optimisation

**Question.** Can a language model learn from pairs of answers, one preferred to the other, with no reward
model, no sampling and no critic, by a loss as plain as a classifier's, and does it reach the same optimum?

**Before this:** D2 (the optimum of PPO, proximal policy optimisation), D3 (reward models). **Changes from
them:** no reward model is trained; the policy itself is read as one, and fitted. **Next:** D5 samples again.

**Time.** 60 s on 2 cores; with all evidence 300 s.

References: `rafailov2023dpo`, `azar2024ipo`, `bradleyterry1952rank`, `razin2025displacement`.

Symbols: `B` pairs, `T` tokens of a completion; $y_w$ chosen, $y_l$ rejected; $p$ label; $\sigma$ the
logistic function; $h$ log-ratio to the reference.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs.token_world import TokenWorld, token_world
from chapters.exact.preferences import displacement
from chapters.text import own_pairs
from chapters.text.charts import draw_frontier
from chapters.text.checkpoint import resumable
from chapters.text.generation import log_probs_by_length
from chapters.text.models import LoadedModel, load_model
from chapters.text.pairs import judge, review_pairs, world_pairs
from chapters.text.recipes import review_recipe
from chapters.text.tasks import gap_watcher
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Both, Vector = Float[Tensor, "B 2"], Float[Tensor, " B"]  # a number for each of a pair, or for each pair
Pairs = dict[str, Tensor]
"""Prompts [B, P]; completions, masks and `ref_log_probs` [B, 2, T], chosen before rejected; labels [B]."""
WORLD = {"beta": 0.5, "learning_rate": 0.1}  # on the token world; beta is D2's
WORLD_BATCH, NEAR, MAX_ROUNDS = 512, 0.12, 4  # there: pairs a step, when to stop, and when to give up


@dataclass(frozen=True)
class Config:
    """DPO from scratch, on pairs of reviews and on a token world whose optimum is known."""

    seed: int = 0
    """Seed of all sampling and of the token world."""
    model: str = "tiny"
    """What is fine-tuned: tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps that train the tiny model, once; it is then kept in a cache."""
    loss: Literal["dpo", "ipo"] = "dpo"
    """Log-likelihood of the preferences, or squared distance from a fixed margin."""
    beta: Annotated[float, in_range(1e-4, 100.0)] = 0.3
    """Coefficient of the KL penalty in the objective whose optimum is sought, on the reviews."""
    learning_rate: Annotated[float, in_range(1e-9, 1.0)] = 2e-4
    """Adam's step size; a larger model needs smaller steps (1e-5 for 100 million parameters)."""
    num_pairs: Annotated[int, in_range(1, 1_000_000)] = 1024
    """Pairs of reviews to learn from."""
    batch_size: Annotated[int, in_range(1, 100_000)] = 64
    """B: pairs in a gradient step on the reviews."""
    num_epochs: Annotated[int, in_range(1, 1000)] = 3
    """Passes over the pairs of reviews."""
    num_tokens: Annotated[int, in_range(2, 1000)] = 36
    """T: longest completion."""
    num_eval_texts: Annotated[int, in_range(2, 1_000_000)] = 560
    """Completions that a policy is judged by."""
    world_steps: Annotated[int, in_range(1, 1_000_000)] = 800
    """Gradient steps of the first round on the token world; each next round is twice as long."""
    pairs: Path | None = None
    """A file of preferences of your own (JSON lines: prompt, chosen, rejected) in place of the reviews."""


SMOKE = {"pretrain_steps": 20, "num_pairs": 16, "num_epochs": 1, "num_eval_texts": 14, "world_steps": 1}

# %% [markdown]
r"""
## 1. From the optimum to a loss

Chapter D maximises $\mathbb E_{y \sim \pi}[r(x, y)] - \beta\,\mathrm{KL}(\pi \Vert \pi_\text{ref})$. In one
expectation this reads $\beta \log Z(x) - \beta\,\mathrm{KL}(\pi \Vert \pi^\ast)$ with

$$\pi^\ast(y \mid x) = \tfrac{1}{Z(x)}\, \pi_\text{ref}(y \mid x)\, e^{r(x, y) / \beta} \tag{1}$$

A divergence is least at zero, so (1) is the optimum: the reference, tilted towards reward. $Z$ is a sum over
every completion: hence PPO's long way round. Read (1) backwards: *any* policy is the optimum of some reward,

$$r(x, y) = \beta h + \beta \log Z(x), \quad h = \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} \tag{2}$$

$\beta h$ is the policy's *implicit reward*, the one that direct preference optimisation (DPO) fits.
Preferences know differences only (`bradleyterry1952rank`):

$$P(y_w \succ y_l) = \sigma\bigl(r(x, y_w) - r(x, y_l)\bigr) \tag{3}$$

and in the difference of two completions of the *same* prompt $\beta \log Z(x)$ cancels: what could not be
computed is not needed. Fit the policy by maximum likelihood, with margin $m$, and $p = 1$ if $y_w$ was
preferred for certain:

$$L_\text{DPO} = -p \log \sigma(m) - (1 - p) \log \sigma(-m), \qquad m = \beta h_w - \beta h_l \tag{4}$$

The slope tells what it does to a pair. With $p = 1$ its weight is $\sigma(-m)$: a half for a pair not yet
told apart, almost one where the policy has it backwards, almost nothing where the margin is wide already:

$$-\frac{\partial L_\text{DPO}}{\partial m} = p - \sigma(m) \tag{5}$$

*By hand.* The chosen got $e^{0.8}$ times as likely, the rejected $e^{-0.2}$: at $\beta = 0.5$, $m = 0.5$.

```python
>>> h, labels = torch.tensor([[0.8, -0.2]]), (1.0, 0.8, 0.5)  # for certain, four times in five, by a coin
>>> [round(gradient_weight(h, torch.tensor([p]), beta=0.5).item(), 2) for p in labels]
[0.38, 0.18, -0.12]
```

For $0 < p < 1$ the push ends at $m = \log \frac{p}{1 - p}$, the true difference of rewards if $p$ is (3). For
$p = 1$ it never does. Identity preference optimisation (IPO, `azar2024ipo`) asks for a finite margin:

$$L_\text{IPO} = p\,(h_w - h_l - \tfrac{1}{2 \beta})^2 + (1 - p)\,(h_w - h_l + \tfrac{1}{2 \beta})^2 \tag{6}$$
"""


# %%
def preference(chosen: Float[Tensor, "*B"], rejected: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Probability that a completion with the first reward is preferred to one with the second."""
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
    gap = log_ratios[:, 0] - log_ratios[:, 1]
    target = 1 / (2 * beta)
    return labels * (gap - target) ** 2 + (1 - labels) * (gap + target) ** 2  # eq. (6)


# %% [markdown]
r"""
## 2. The learner, and whether it reaches the optimum

A completion's log-probability is the sum over its tokens (D2), not the mean: (1) is about whole completions.

$$\log \pi(y \mid x) = \textstyle\sum_t \log \pi(y_t \mid x, y_{<t}) \tag{7}$$

On the token world every completion can be listed, so (1) is known exactly. Given *soft* labels, the chance
(3) itself, on fresh pairs that can be any pair, direct preference optimisation (DPO) has its minimum there.
Less is usual: one *sampled* label on each of some *fixed* pairs, or *hard* ones, of a judge who never wavers.

Training goes on in rounds until $r - \beta h$, at the optimum constant for each prompt, hardly varies. Most
worlds need one; where a few rare completions are far better than the rest, more, as pairs with them are rare.
"""


# %%
def sequence_log_probs(token_log_probs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Vector:
    """log pi(completion | prompt)."""
    return (token_log_probs * mask).sum(dim=1)  # eq. (7)


def completion_log_probs(policy: nn.Module, pairs: Pairs) -> Float[Tensor, "B 2 T"]:
    """log pi of each token of both completions, as one batch of 2 B texts; 0 in the padding."""
    prompts = (pairs[name].repeat_interleave(2, dim=0) for name in ("prompt_ids", "prompt_mask"))
    completions = (pairs[name].flatten(0, 1) for name in ("completion_ids", "completion_mask"))
    return log_probs_by_length(policy, *prompts, *completions).reshape(pairs["completion_mask"].shape)


@torch.no_grad()
def add_reference(pairs: Pairs, reference: nn.Module) -> Pairs:
    """The pairs with the reference's log-probability of each token."""
    return {**pairs, "ref_log_probs": completion_log_probs(reference, pairs)}


def log_ratios(policy: nn.Module, pairs: Pairs) -> Both:
    """h of the chosen and of the rejected completion of each pair."""
    tokens, reference = completion_log_probs(policy, pairs), pairs["ref_log_probs"]
    mask = pairs["completion_mask"].flatten(0, 1)
    ours, theirs = (sequence_log_probs(lp.flatten(0, 1), mask) for lp in (tokens, reference))
    return (ours - theirs).reshape(-1, 2)  # eq. (2), right


def pair_loss(policy: nn.Module, pairs: Pairs, cfg: Config) -> tuple[Float[Tensor, ""], Both]:
    """(what the optimiser lowers, log-ratios) of a minibatch of pairs."""
    ratios = log_ratios(policy, pairs)
    loss = dpo_loss if cfg.loss == "dpo" else ipo_loss
    return loss(ratios, pairs["labels"], cfg.beta).mean(), ratios


def update(policy: nn.Module, optimizer: Adam, batch: Pairs, cfg: Config) -> Both:
    """One gradient step; returns the log-ratios that it started from."""
    loss, ratios = pair_loss(policy, batch, cfg)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return ratios.detach()


def train(policy: nn.Module, pairs: Pairs, cfg: Config, log: RunLog, name: str = "dpo") -> nn.Module:
    """Passes over the pairs, in their own order."""
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    rows = torch.arange(len(pairs["labels"])).split(cfg.batch_size)
    state, num_steps = (policy, optimizer), cfg.num_epochs * len(rows)  # state: all that changes (`--resume`)
    for step in resumable(log, num_steps, f"updates ({name})", state, f"{name}_margin"):
        batch = {what: values[rows[step % len(rows)]] for what, values in pairs.items()}
        chosen, rejected = update(policy, optimizer, batch, cfg).mean(0).tolist()
        found = {"chosen": chosen, "rejected": rejected, "margin": chosen - rejected}
        log.write(step, **{f"{name}_{what}": value for what, value in found.items()})
    return policy


@torch.no_grad()
def reward_error(world: TokenWorld, policy: nn.Module, beta: float) -> float:
    """Standard deviation of reward minus implicit reward over what the policy writes: 0 at the optimum."""
    log_probs = world.log_probs(policy)  # [N, M]
    errors = world.rewards - beta * (log_probs - world.reference_log_probs())  # a constant, by (2)
    probs = log_probs.exp()
    means = (probs * errors).sum(dim=1, keepdim=True)
    return (probs * (errors - means) ** 2).sum(dim=1).mean().sqrt().item()


def train_on_world(
    world: TokenWorld, draw: Callable[[torch.Generator], Pairs], cfg: Config, log: RunLog, name: str,
    max_rounds: int = MAX_ROUNDS,
) -> nn.Module:  # fmt: skip
    """A policy that learnt from fresh pairs, in rounds, until its implicit reward is right or it gives up."""
    policy, num_done = world.reference(), 0
    generator = torch.Generator().manual_seed(cfg.seed)
    watch = gap_watcher(f"_{name}", world, cfg.beta, 0, log, every=-(-cfg.world_steps // 10))
    for i in range(max_rounds):
        optimizer, num_steps = Adam([policy.table], lr=cfg.learning_rate), cfg.world_steps * 2**i
        for step in log.track(range(num_steps), f"updates ({name})", f"token_gap_{name}"):
            optimizer.lr = cfg.learning_rate * (1 - step / num_steps)  # in each round down to 0
            update(policy, optimizer, draw(generator), cfg)
            watch(policy, num_done + step + 1)
        num_done += num_steps
        if reward_error(world, policy, cfg.beta) < NEAR:
            break
    return policy


# %% [markdown]
r"""
## 3. Look, break, write

Of two reviews by the base model the better sentiment wins. Hard labels on fixed pairs promise no optimum.

![Soft labels walk to the optimum; on the reviews both log-ratios end below zero](results/D4.png)

*Left*, soft labels end on the star. *Right*, log-ratios $h$ and their difference, without $\beta$: even the
**chosen** reviews end less likely than before (`razin2025displacement`). On the token world they do at the
exact optimum, too, but (4) does not see *where* the mass goes.

![Soft labels close the gap; hard labels run past the optimum; many passes lose it](results/D4_labels.png)

Dashed: the bar, and the optimum's distance. All are held against DPO's optimum; IPO reaches its own
(`ipo_gap`), which is another. Sampled labels on *fresh* pairs close nine tenths of the gap; on
20,000 *fixed* ones the median is half or more after a pass or two, hardly any after twenty: luck was learnt,
too. If the reference learns along, margins stay 0, and the push (5) never ends. TRL (*transformer
reinforcement learning*) ends as ours.

**The verdict.** Yes: a classifier's loss over pairs suffices, and the reviews beat the base model's. It
reaches the optimum if the labels are probabilities and the pairs fresh, any of them possible. With labels
that never vary, or with few pairs seen often, it does not; stopping early then does the work of $\beta$.

<!-- results: D4 -->

`rl run D4`: 22 s; with `--evidence`: 154 s, 1609 MB; with `--smoke --evidence`: 32 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| optimum_chosen     | -0.751 (-0.824 to -0.673)       | ≤ 0       | 10/10 |
| soft_gap           | 0.998 (0.991 to 1)              | ≥ 0.95    | 10/10 |
| win_rate           | 0.833 (0.804 to 0.855)          | ≥ 0.7     | 10/10 |
| prompt_in_sum *    | 1.8e-06 (1.13e-06 to 2.31e-06)  | ≤ 1e-05   | 10/10 |
| prompt_in_mean *   | 0.308 (0.281 to 0.432)          | ≥ 0.01    | 10/10 |
| trl_loss_gap *     | 1.28e-07 (8.22e-08 to 1.8e-07)  | ≤ 1e-05   | 10/10 |
| trl_reward_gap *   | 9.87e-08 (4.47e-08 to 2.09e-07) | ≤ 1e-05   | 10/10 |
| trl_gradient_gap * | 9e-07 (5.98e-07 to 1.05e-06)    | ≤ 1e-05   | 10/10 |
| chosen_change *    | -0.31 (-0.365 to -0.108)        | ≤ 0       | 10/10 |
| margin_change *    | 2.55 (2.48 to 2.67)             | ≥ 0       | 10/10 |
| kl *               | 2.19 (1.74 to 2.48)             | ≤ 6.315   | 10/10 |
| fluency *          | 1.13 (1.09 to 1.16)             | ≤ 1.5     | 10/10 |
| distinct *         | 0.987 (0.968 to 0.991)          | ≥ 0.9111  | 10/10 |
| same_outcome *     | 0                               | 0 ± 0.059 | 10/10 |
| time_beside_trl *  | 0.572 (0.556 to 0.63)           | ≤ 1       | 10/10 |
| uniform_gap *      | 0.997 (0.995 to 1)              | ≥ 0.95    | 10/10 |
| beta_gap *         | 0.985 (0.984 to 1)              | ≥ 0.95    | 10/10 |
| ipo_gap *          | 0.974 (0.972 to 0.978)          | ≥ 0.95    | 10/10 |
| hard_gap *         | 0.28 (0.131 to 0.405)           | ≤ 0.95    | 10/10 |
| mean_gap *         | -0.126 (-0.284 to 0.00262)      | ≤ 0.95    | 10/10 |
| fixed_gap *        | 0.0376 (-0.0675 to 0.0861)      | ≤ 0.95    | 10/10 |
| hard_kl *          | 2.49 (2.13 to 2.85)             | ≥ 1       | 10/10 |
| along_kl *         | 28 (23.4 to 31.7)               | ≥ 1       | 10/10 |
| far_gap *          | 0.991 (0.99 to 0.993)           | ≥ 0.95    | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `optimum_chosen`: at the token world's exact optimum the chosen completions are less likely than before
  (nats a completion)
- `soft_gap`: DPO with soft labels on fresh pairs reaches the exact optimum (of the gap to the optimum)
- `win_rate`: DPO's reviews beat the base model's after the same prompts, ties at half
- `prompt_in_sum`: to score the prompt's tokens as well does not change the margin of any pair (of the largest
  margin)
- `prompt_in_mean`: with means over tokens it does (of the largest margin)
- `trl_loss_gap`: our loss equals TRL's on the same batch, DPO and IPO
- `trl_reward_gap`: our reward equals TRL's on the same batch, DPO and IPO
- `trl_gradient_gap`: our gradient equals TRL's on the same batch, DPO and IPO
- `chosen_change`: DPO on pairs of reviews makes the chosen ones less likely (nats a review)
- `margin_change`: the margin of the chosen reviews over the rejected ones grows (nats)
- `kl`: DPO's reviews stay so near the base model that the sentiment gained outweighs the KL penalty (nats)
- `fluency`: they read almost like the base model's own (times its own perplexity)
- `distinct`: they are as different from each other as the base model's (share of distinct texts)
- `same_outcome`: TRL's policy wins as often as ours
- `time_beside_trl`: ours takes no more CPU seconds than TRL's faster setting (of TRL's)
- `uniform_gap`: DPO with soft labels reaches the exact optimum on pairs drawn uniformly, too (of the gap to
  the optimum)
- `beta_gap`: and at other betas, on pairs half of which are drawn uniformly (the worst of them) (of the gap
  to the optimum)
- `ipo_gap`: IPO with hard labels reaches a finite optimum of its own (of the gap to the optimum)
- `hard_gap`: hard labels miss the exact optimum (of the gap to the optimum)
- `mean_gap`: means over tokens miss the exact optimum (of the gap to the optimum)
- `fixed_gap`: one sampled label for each of 20,000 fixed pairs misses it, after twenty passes (of the gap to
  the optimum)
- `hard_kl`: DPO with hard labels ends further from the reference than the optimum lies (times its KL)
- `along_kl`: DPO whose reference trains along leaves the reference behind, though beta 2 should hold it near
  (times the KL of the optimum at beta 2)
- `far_gap`: where the optimum lies far away, DPO with soft labels reaches it in later rounds (of the gap to
  the optimum)
</details>

<!-- /results -->

**Your own pairs.** `rl run D4 --pairs FILE.jsonl` learns from them (README says how they stand in the file).

**Break it.** `rl break D4 mean_over_tokens`: a mean where the sum belongs. `rl break D4 swapped`: the chosen
for the rejected. Or `rl run D4 --learning-rate 1e-3`: margin and win rate look better, and the texts fall
apart.

**Exercises.**

<!-- exercises: D4 -->

*D4.1 · The loss* (25 minutes, medium). Write (4), so that nothing overflows, its slope (5), and (6). `rl
exercise D4.dpo_loss`, `rl exercise D4.gradient_weight`, `rl exercise D4.ipo_loss`.

*D4.2 · The prompt* (10 minutes, medium). A mask forgets to leave out the prompt, and its tokens are scored
too. What changes?

<details><summary>Answer</summary>

With sums nothing: the prompt is the same, and its log-probability cancels in $h_w - h_l$. With means over
tokens it does not cancel, for it is divided by two different lengths.
</details>

*D4.3 · More than two* (25 minutes, hard). Annotators often rank $K$ completions of a prompt. Say that they
choose the best of all, then the best of the rest, and so on, each time by the softmax of the rewards. Put (2)
for the rewards: $\log Z$ cancels again (`rafailov2023dpo`). From the best, $h_1$, to the worst, $h_K$:

$$L = -\sum_{k=1}^{K} \log \frac{e^{\beta h_k}}{\sum_{j \ge k} e^{\beta h_j}} \tag{E1}$$

Nothing may overflow. `rl exercise D4.ranking_loss`.

<details><summary>Answer</summary>

Four ranked completions hold six pairs, and (4) on each of them is common, too. They are no independent
evidence: shuffled among others, they made InstructGPT's reward model overfit in one pass.
</details>

*D4.4 · Find the bug* (10 minutes). `rl exercise D4.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def learn_own(lm: LoadedModel, cfg: Config, log: RunLog) -> None:
    """DPO on the pairs of a file, and what can be said where nobody knows which completion is better."""
    learn, test = own_pairs.batches(cfg, lm, log)
    learn = own_pairs.in_parts(lambda some: add_reference(some, lm.model), learn, cfg.batch_size)
    policy = train(copy.deepcopy(lm.model), learn, cfg, log)
    with torch.no_grad():
        test = own_pairs.in_parts(lambda some: add_reference(some, lm.model), test, cfg.batch_size)
        ratios = own_pairs.in_parts(lambda some: log_ratios(policy, some), test, cfg.batch_size)
    log.claim(
        "first_margin",
        "before the first step policy and reference agree about every pair",
        log.series("dpo_margin")[1][0],
        near=(0.0, 1e-3),
        source="(2): they are the same",
        always=True,
    )
    chosen, rejected = implicit_rewards(ratios, cfg.beta).unbind(1)
    own_pairs.claim(chosen - rejected, log, "optimum_chosen, soft_gap, win_rate")


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    lm = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    base = lm.model.requires_grad_(True)
    if cfg.pairs:
        return learn_own(lm, cfg, log)
    pairs = add_reference(review_pairs(lm, cfg.num_pairs, cfg.num_tokens, cfg.seed), base)
    policy = train(copy.deepcopy(base), pairs, cfg, log)
    found, texts = judge(policy, lm, cfg.num_eval_texts, cfg.num_tokens, cfg.seed)
    world, on_world = token_world(cfg.seed), replace(cfg, **WORLD)
    draw = world_pairs(world, world.reference_log_probs().exp(), WORLD_BATCH)
    soft = train_on_world(world, draw, on_world, log, "soft")
    h = world.optimum(on_world.beta) - world.reference_log_probs()
    log.claim(
        "optimum_chosen",
        "at the token world's exact optimum the chosen completions are less likely than before",
        displacement(h, world.rewards, world.reference_log_probs())[0],
        at_most=0.0,
        unit="nats a completion",
        source="enumeration of all pairs",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "soft_gap",
        "DPO with soft labels on fresh pairs reaches the exact optimum",
        world.gap_closed(world.log_probs(soft), on_world.beta),
        at_least=0.95,
        unit="of the gap to the optimum",
        source="exact policy evaluation",
    )
    log.claim(
        "win_rate",
        "DPO's reviews beat the base model's after the same prompts, ties at half",
        found["win_rate"],
        at_least=0.7,
        source="the course's bar; the base itself has 0.5",
    )
    log.keep(lm=lm, pairs=pairs, policy=policy, found=found, texts=texts, world=world)
    draw_results(world, on_world.beta, log)


def draw_results(world: TokenWorld, beta: float, log: RunLog) -> None:
    """The way on the token world; the log-probabilities of the reviews on the way."""
    figure, (chart, curves) = plotting.new_figure(1, 2, width=6.2, height=4.4)
    draw_frontier(chart, world, beta, log, "_soft")
    for name, color in (("chosen", plotting.GREEN), ("rejected", plotting.RED), ("margin", plotting.BLUE)):
        curves.plot(*log.series(f"dpo_{name}"), color=color, label=name)
    curves.axhline(0.0, **plotting.REFERENCE)
    curves.set(xlabel="gradient step", ylabel="log-probability over the base's (nats)", title="Reviews")
    curves.legend(loc="lower left")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
