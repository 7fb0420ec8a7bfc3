# %% [markdown]
r"""
# D13 · Best of n, and a stronger model

**Question.** What can be had without reinforcement learning: by keeping the best of several answers and
learning from those, or by learning from a stronger model?

**Before this:** D5, D15. **Changes from D5:** there are no advantages. A token is worth 1 if its text was
kept, or what a stronger model says of it. **Next:** D6.

**Time.** 60 s on 2 cores; with all evidence 150 s.

References: `beirami2024bestofn`, `sessa2024bond`, `yuan2023rft`, `anthony2017exit`, `kim2016sequence`,
`agarwal2024gkd`, `gu2024minillm`, `lu2025onpolicy`, `korbak2022bayesian`.

Symbols: $\pi_\text{ref}$ the policy before training, $\pi_T$ a stronger one (the *teacher*), $\pi_\theta$ the
one that learns (the *student*), $n$ answers to one prompt, $r$ reward of an answer, $\tau$ a threshold for
it, $A_t$ worth of a token, $m_t$ mask, $\mathrm{KL}$ the Kullback–Leibler (KL) divergence of whole answers.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import tasks
from chapters.text.charts import draw_frontier
from chapters.text.grpo import schedule
from chapters.text.models import load_model
from chapters.text.recipes import arithmetic_recipe
from chapters.text.tasks import Task, log_probs_of, next_log_probs_of
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Table = Float[Tensor, "N M"]  # a number for each completion of each prompt of the token world
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token


@dataclass(frozen=True)
class Config:
    """A student of the best of n, or of a teacher; the numbers of GRPO are those of D5."""

    seed: int = 0
    """Seed of the token world, of prompts and of sampling."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 120
    """Steps that train the student, D5's small model, before the lesson, once."""
    teacher_steps: Annotated[int, in_range(1, 100_000)] = 600
    """Steps that train the teacher, once: the same small model, trained for longer."""
    how: Literal["best", "passed", "all", "on_policy", "whole"] = "whole"
    """Who writes the texts about sums, and what a token is worth: section 3."""
    group_size: Annotated[int, in_range(1, 10_000)] = 16
    """Completions of each prompt, of which the best is kept: n."""
    threshold: float = 1.0
    """What a completion must earn to be kept, if all are kept that pass."""
    batch_size: Annotated[int, in_range(1, 100_000)] = 256
    """Completions written for an update."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 50
    """Batches written and learnt from on sums."""
    num_world_updates: Annotated[int, in_range(1, 100_000)] = 300
    """The same on the token world."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch of sums; on the token world there is one."""
    learning_rate: Annotated[float, in_range(1e-8, 1.0)] = 2e-3
    """Adam's step size on sums, after it has risen and before it falls."""


SMOKE = {
    "pretrain_steps": 10,
    "teacher_steps": 10,
    "batch_size": 16,
    "num_updates": 2,
    "num_world_updates": 2,
}

# %% [markdown]
r"""
## 1. The best of n, exactly

Ask $n$ times and keep the answer of highest reward; among equals, any. How likely is $y$? Let $F(y)$ be the
chance that one answer earns at most $r(y)$, and $F_<(y)$ that it earns less. All $n$ earn at most $r(y)$, but
not all less, with probability $F^n - F_<^n$. Those that earn just $r(y)$ share it in their old proportions:

$$\pi_n(y) = \pi_\text{ref}(y)\, w(y), \qquad w(y) = \frac{F(y)^n - F_<(y)^n}{F(y) - F_<(y)} \tag{1}$$

How far is that from $\pi_\text{ref}$? Lay the answers, worst first, along a line of length 1, each as long as
it is likely. Those of one reward fill the piece from $F_<$ to $F$, and $w$ is the mean of $n u^{n-1}$ over
it. As $x \log x$ is convex, it can only fall if $x$ is replaced by its mean (`beirami2024bestofn`):

$$\mathrm{KL}(\pi_n \Vert \pi_\text{ref}) = \textstyle\sum_y \pi_\text{ref}\, w \log w \le
\int_0^1 n u^{n-1} \log(n u^{n-1})\, du = \log n - \frac{n-1}{n} \tag{2}$$

So what is often quoted as the divergence is an upper bound. It is exact for continuous rewards, where no
piece has a length. *By hand*, a right and a wrong answer, equally likely: the best of two is right in three
cases of four, and 0.131 nats away; the bound is 0.193. When both earn the same, nothing moves:

```python
>>> even, differ, same = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
>>> best_of_n(even, differ, 2).exp().tolist(), best_of_n(even, same, 2).exp().tolist()
([[0.25, 0.75]], [[0.5, 0.5]])
>>> best = torch.tensor([0.25, 0.75])
>>> round((best * (best / 0.5).log()).sum().item(), 3), round(tasks.best_of_n_kl(2), 3)
(0.131, 0.193)
```

Let the policy become $\pi_n$, and take its best of $n$: $F^n$ stands where $F$ did, so (1) gives the best of
$n^2$. **Three rounds of best of 4 are the best of 64**, with 12 answers to a prompt, not 64. That is *expert
iteration* (`anthony2017exit`, `sessa2024bond`). *Rejection sampling* keeps all that pass. It draws from
$\pi_\text{ref}(y \mid r \ge \tau)$, whose divergence is $-\log$ of the share that passes.
"""


# %%
def best_of_n(ref_log_probs: Table, rewards: Table, n: int) -> Table:
    """Log-probabilities of the best of n completions of the reference, ties broken at random."""
    found = []
    for probs, reward in zip(ref_log_probs.exp(), rewards):
        _, level = reward.unique(return_inverse=True)  # equal rewards share a level, the lowest is 0
        mass = probs.new_zeros(int(level.max()) + 1).index_add(0, level, probs)
        at_most = mass.cumsum(dim=0)
        below = (at_most - mass).clamp(min=0.0)
        weight = (at_most**n - below**n) / mass
        found.append(probs * weight[level])  # eq. (1)
    return torch.stack(found).log()


# %% [markdown]
r"""
## 2. Two directions of a divergence

Let $p$ write the texts. To learn from them is to raise their likelihood. That lowers a *cross-entropy*: a
divergence with the student second, the *forward* KL, plus the entropy of $p$, which training cannot change:

$$-\mathbb E_p \sum_t \log \pi_\theta(y_t) = \mathrm{KL}(p \Vert \pi_\theta) + \mathcal H(p) \tag{3}$$

With $p$ the best of $n$ this is best-of-$n$ *distilled*: paid once, not at each use. With $p$ what passed a
checker it is rejection-sampling fine-tuning (RFT, `yuan2023rft`). With $p$ a stronger model it is *off-policy
distillation* (`kim2016sequence`): the student learns to go on from what the teacher wrote, not from its own.

The *reverse* KL has the student first: *on-policy distillation* (`agarwal2024gkd`, `gu2024minillm`,
`lu2025onpolicy`). The student writes, the teacher says how likely it finds each token. Now $\theta$ stands in
two places, and the gradient has a term for each (D15). One is $\mathbb E[\nabla \log \pi_\theta] = 0$. The
other is a policy gradient. A token earns $\log \pi_T - \log \pi_\theta$, and the credit for what follows:

$$\nabla\, \mathrm{KL}(\pi_\theta \Vert \pi_T) = -\mathbb E_{\pi_\theta} \textstyle\sum_t m_t A_t \nabla
\log \pi_\theta(y_t), \qquad A_t = \sum_{s \ge t} m_s\, [\log \pi_T(y_s) - \log \pi_\theta(y_s)] \tag{4}$$

$A_t$ is a constant: no gradient flows through it. *By hand*: the teacher likes the second token less than the
student does, so the first, which led there, is blamed too. What stands behind the end is masked.

```python
>>> student, teacher = torch.tensor([[-1.0, -1.0, -9.0]]), torch.tensor([[-0.5, -3.0, -1.0]])
>>> on_policy_worth(student, teacher, torch.tensor([[True, True, False]])).tolist()
[[-1.5, -2.0, 0.0]]
```

**Is this not reinforcement learning?** If $\pi_T$ is $\pi^\ast \propto \pi_\text{ref}\, e^{r/\beta}$, it is:
$\beta\,\mathrm{KL}(\pi_\theta \Vert \pi^\ast)$ is a constant less what D15 raises, $\mathbb E[r] -
\beta\,\mathrm{KL}(\pi_\theta \Vert \pi_\text{ref})$. Outside small worlds nobody has that teacher. But any
teacher can say more: what it thinks of every token $v$ that *could* have come next. Then it does not matter
which one was drawn (`agarwal2024gkd`). Given $y_{<t}$,

$$D_t = \textstyle\sum_v \pi_\theta(v)\, [\log \pi_\theta(v) - \log \pi_T(v)] \tag{5}$$

As a loss $\sum_t m_t D_t$ has, on average, the gradient (4) with only the first term of $A_t$: what a token
leads to is forgotten. That is a bias, but the noise of that token's draw is gone. And a student that can
become its teacher does so with this loss too, since both divergences are zero only there.
"""


# %%
def on_policy_worth(log_probs: Grid, teacher_log_probs: Grid, mask: Mask) -> Grid:
    """What a token is worth to the student that wrote it: the teacher's verdict on it and on what follows."""
    verdicts = ((teacher_log_probs - log_probs) * mask).detach()
    return verdicts.flip(1).cumsum(dim=1).flip(1)  # eq. (4)


def next_token_kl(log_probs: Float[Tensor, "B T V"], teacher_log_probs: Float[Tensor, "B T V"]) -> Grid:
    """KL(student || teacher) of the next token, at each place of each completion."""
    return (log_probs.exp() * (log_probs - teacher_log_probs)).sum(dim=-1)  # eq. (5)


# %% [markdown]
r"""
## 3. One loop: who writes, and what a token is worth

Every method but the last is one weighted sum over the $B$ texts $i$ that it keeps. What differs is who writes
the texts, and what a token is worth, $A_{it}$:

$$\mathcal L = -\frac1B \sum_{it} m_{it}\, A_{it} \log \pi_\theta(y_{it}) \tag{6}$$

| `how` | who writes | $A_{it}$ |
|---|---|---|
| `best`: best of $n$, distilled | the reference, $n$ to a prompt | 1; of each group the best is kept |
| `passed`: RFT | the reference | 1; those with $r \ge \tau$ are kept |
| either, in rounds: expert iteration | the policy after the last round | 1 |
| `all`: off-policy distillation | the teacher | 1 |
| `on_policy`: on-policy distillation | the student | $A_t$ of (4) |
| `whole`: by whole distributions | the student | none: the loss is the mean of $\sum_t m_t D_t$ |
"""


# %%
def keep_best(rewards: Float[Tensor, "N G"]) -> Bool[Tensor, "N G"]:
    """One of each group, the first of its best: as good as any other, since they were drawn alike."""
    return torch.arange(rewards.shape[1]) == rewards.argmax(dim=1, keepdim=True)


@torch.no_grad()
def collect(
    policy: nn.Module, other: nn.Module, task: Task, generator: torch.Generator, cfg: Config
) -> dict[str, Tensor]:
    """Texts to learn from, and what is said of their tokens; `other`: the reference, or the teacher."""
    size = cfg.group_size if cfg.how in ("best", "passed") else 1
    rows = torch.randint(len(task.prompt_ids), (max(1, cfg.batch_size // size),), generator=generator)
    writer = policy if cfg.how in ("on_policy", "whole") else other
    batch = tasks.answer(writer, task, rows.repeat_interleave(size), generator)
    if cfg.how == "whole":
        return batch | {"teacher": next_log_probs_of(other, batch)}  # [B, T, V]
    if cfg.how == "on_policy":
        old, theirs = log_probs_of(policy, batch), log_probs_of(other, batch)
        return batch | {"worth": on_policy_worth(old, theirs, batch["completion_mask"])}
    if cfg.how != "all":
        groups = batch["rewards"].view(-1, size)
        kept = keep_best(groups) if cfg.how == "best" else groups >= cfg.threshold
        batch = {name: values[kept.flatten()] for name, values in batch.items()}
    return batch | {"worth": torch.ones(batch["completion_ids"].shape)}


def weighted_loss(log_probs: Grid, worth: Grid, mask: Mask) -> Float[Tensor, ""]:
    """Minus the mean over texts of worth times log-probability, summed over tokens; 0 without a text."""
    return -(worth * log_probs * mask).sum() / max(1, len(mask))  # eq. (6)


def loss_of(policy: nn.Module, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """What the optimiser lowers: (6), or the divergences (5), if the batch has a teacher's distributions."""
    mask = batch["completion_mask"]
    if "teacher" in batch:
        return (next_token_kl(next_log_probs_of(policy, batch), batch["teacher"]) * mask).sum() / len(mask)
    return weighted_loss(log_probs_of(policy, batch), batch["worth"], mask)


def train(
    policy: nn.Module, other: nn.Module, task: Task, cfg: Config, log: RunLog, name: str,
    watch: Callable = lambda policy, num_updates: None,
) -> None:  # fmt: skip
    """Fine-tune in place; `watch(policy, number of updates)` is called after each."""
    generator = torch.Generator().manual_seed(cfg.seed)
    weights = [values for values in policy.parameters() if values.requires_grad]
    optimizer = Adam(weights, lr=cfg.learning_rate)
    for i in log.track(range(cfg.num_updates), f"updates ({name})"):
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)
        batch = collect(policy, other, task, generator, cfg)
        for _ in range(cfg.num_epochs):
            loss = loss_of(policy, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
        watch(policy, i + 1)


def expected_gradient(world: TokenWorld, policy: nn.Module, teacher: nn.Module) -> Float[Tensor, "S V"]:
    """The mean, over all that the policy could write, of the gradient of (6), on-policy."""
    batch = tasks.every_completion(world)
    mask, log_probs = batch["completion_mask"], log_probs_of(policy, batch)
    worth = on_policy_worth(log_probs, log_probs_of(teacher, batch), mask)
    probs = log_probs.detach().sum(dim=1, keepdim=True).exp() / world.num_prompts  # [N M, 1]
    loss = weighted_loss(log_probs, worth * probs * len(mask), mask)
    return torch.autograd.grad(loss, policy.table)[0]


# %% [markdown]
r"""
## 4. Look, break, write

![The distilled best of n ends on its exact point, under the frontier; a teacher's sums](results/D13.png)

*Left*, `best`: trained on the best of 16, the student lies on its square. *Right*, `whole`: nobody says if a
sum is right, and it learns. The evidence adds others, and group relative policy optimisation (GRPO, D5):

![Every method below the exact frontier; how noisy one completion's gradient is](results/D13_chart.png)
![Accuracy against completions; CPU seconds to the bar; where a student differs](results/D13_race.png)

RFT lies furthest under the frontier. Off-policy, a student is as fast on sums as by whole distributions, and
hardly further from its teacher on its own texts: three tokens do not lead far from what the teacher writes.
Far behind is who learns by drawn tokens (4), in one pass over each batch, where the others have four.

**The verdict.** A lot. The best of $n$ is close under the frontier, and supervised learning puts it into the
weights, in rounds further still: it asks for a reward alone. With a stronger model not even that is needed,
and sums take fewer completions than with GRPO. The exact gradient of the reverse KL, from drawn tokens, is
noisy. The loss that forgets what follows is biased and quiet, and ends at the same teacher, never beyond it.

<!-- results: D13 -->

`rl run D13`: 31 s; with `--evidence`: 118 s, 1206 MB; with `--smoke --evidence`: 21 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| bound_excess                   | 5.74e-16 (-1.24e-15 to 1.36e-15)   | ≤ 1e-09 | 5/5    |
| gradient_gap                   | 2.82e-15 (1.31e-15 to 3.87e-15)    | ≤ 1e-08 | 5/5    |
| learnt_distance                | 0.0126 (0.0106 to 0.0149)          | ≤ 0.05  | 5/5    |
| greedy_after                   | 0.988 (0.986 to 0.988)             | ≥ 0.9   | 5/5    |
| sampled_after                  | 0.722 (0.706 to 0.731)             | ≥ 0.6   | 5/5    |
| rounds_gap *                   | 5.95e-14 (5.34e-14 to 9.06e-14)    | ≤ 1e-09 | 5/5    |
| learnt_gap *                   | 9.64e-15 (1.55e-15 to 2.14e-14)    | ≤ 1e-09 | 5/5    |
| bound_left *                   | 1.76e-08                           | ≤ 1e-05 | 5/5    |
| optimum_teaches *              | 2.53e-15 (1.56e-15 to 3.17e-15)    | ≤ 1e-08 | 5/5    |
| whole_is_own_verdict *         | 2.03e-15 (1.03e-15 to 2.44e-15)    | ≤ 1e-08 | 5/5    |
| whole_bias *                   | 0.439 (0.326 to 0.708)             | ≥ 0.05  | 5/5    |
| whole_noise *                  | 0.397 (0.371 to 0.436)             | ≤ 1     | 5/5    |
| chart_above *                  | -5.75e-05 (-9.58e-05 to -3.22e-05) | ≤ 1e-06 | 5/5    |
| distance_passed *              | 0.017 (0.0132 to 0.0181)           | ≤ 0.05  | 5/5    |
| distance_round_3 *             | 0.00724 (0.00228 to 0.0318)        | ≤ 0.05  | 5/5    |
| distance_on_policy *           | 0.00336 (0.00272 to 0.0052)        | ≤ 0.05  | 5/5    |
| distance_whole *               | 0.000562 (0.000259 to 0.00191)     | ≤ 0.05  | 5/5    |
| distance_policy_gradient *     | 0.00639 (0.00482 to 0.00878)       | ≤ 0.05  | 5/5    |
| grpo_updates_over_taught *     | 2.25                               | ≥ 1     | pooled |
| grpo_cpu_seconds_over_taught * | 2.64                               | ≥ 1     | pooled |
| exposure *                     | 1.01                               | ≥ 1     | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `bound_excess`: the exact divergence of the best of n is never above log n - (n - 1) / n (nats)
- `gradient_gap`: on-policy distillation's expected gradient is that of KL(student || teacher) (of the
  divergence's)
- `learnt_distance`: learnt, the best of 16 keeps its reward and its divergence (off in KL or reward)
- `greedy_after`: taught by a stronger model, the student's answers are right, greedy (share of held-out sums)
- `sampled_after`: taught by a stronger model, the student's answers are right, sampled (share of held-out
  sums)
- `rounds_gap`: one, two and three rounds of best of 4 are the best of 4, 16 and 64 (of the probability)
- `learnt_gap`: the policy of least cross-entropy to the best of 16 is the best of 16 (nats)
- `bound_left`: with 100,000 different rewards, all but continuous, the bound is all but reached (nats)
- `optimum_teaches`: to be taught on-policy by the optimum is the policy gradient of reward less beta KL, over
  beta (of the gradient)
- `whole_is_own_verdict`: whole distributions have the expected gradient of each token's own verdict (of the
  gradient)
- `whole_bias`: and that is not the gradient of KL(student || teacher) (of the divergence's)
- `whole_noise`: with the same mean, whole distributions are less noisy than the drawn token's verdict (of its
  noise)
- `chart_above`: no method has more reward than the frontier allows at its divergence (reward)
- `distance_passed`: what passed, learnt, keeps its reward and divergence (off in KL or reward)
- `distance_round_3`: three rounds of best of 4 end where the best of 64 does (off in KL or reward)
- `distance_on_policy`: taught by the optimum, the drawn tokens judged, a student ends at the optimum (off in
  KL or reward)
- `distance_whole`: so it does if whole distributions are compared, though another gradient leads there (off
  in KL or reward)
- `distance_policy_gradient`: so does the policy gradient, which is told the reward alone (off in KL or
  reward)
- `grpo_updates_over_taught`: GRPO's completions to 0.6 of sampled answers right, over those of the student
  with a teacher (times, median of seeds)
- `grpo_cpu_seconds_over_taught`: GRPO's CPU seconds to 0.6 of sampled answers right, over those of the
  student with a teacher (times, median of seeds)
- `exposure`: taught off-policy, a student is further from its teacher on its own answers than on the
  teacher's (times, median of seeds)
</details>

<!-- /results -->

**Break it.** `rl break D13 next_token_only` has only the first term of each $A_t$. `rl break D13 worst` keeps
the worst of $n$. Without an edit: `rl run D13 --how all`.

**Exercises.**

<!-- exercises: D13 -->

*D13.1 · The heart of it* (35 minutes, medium). Write the exact best of n, what a token is worth to the
student that wrote it, and the divergence of whole distributions, from (1), (4) and (5). `rl exercise
D13.best_of_n`, `rl exercise D13.on_policy_worth`, `rl exercise D13.next_token_kl`.

*D13.2 · What passes* (20 minutes, easy). Rejection sampling keeps every completion that earns $\tau$ at
least. Write its exact distribution, and show that its divergence is a single number:

$$\pi_\tau(y) = \frac{\pi_\text{ref}(y)\, \mathbb{1}[r(y) \ge \tau]}{P_\tau}, \qquad
\mathrm{KL}(\pi_\tau \Vert \pi_\text{ref}) = -\log P_\tau, \qquad
P_\tau = \textstyle\sum_{r(y) \ge \tau} \pi_\text{ref}(y) \tag{E1}$$

Then draw its reward against its divergence for some thresholds, beside `world.best_of_n` and the most that is
possible, `world.best_reward`.
Which spends its divergence better, a threshold or the best of $n$? `rl exercise D13.passing`.

<details><summary>Answer</summary>

The best of $n$: a threshold treats what just passes and what passes by far alike. The best of $n$ in turn
minds ranks alone, not by how much an answer is better. The frontier's weights $e^{r/\beta}$ mind the reward
itself: both lie under it.
</details>

*D13.3 · A baseline is free here too* (20 minutes, medium). In (4) the mean of $A_t$ is minus a divergence:
below 0. So a token is pushed down, on the whole, whenever it is drawn, and up when others are: noise. Take
from each worth the mean of the *other* texts of the batch at the same place, where they have a token; a token
that is alone there keeps its worth.

$$A_{it} - \frac{\sum_{j \ne i} m_{jt} A_{jt}}{\sum_{j \ne i} m_{jt}} \tag{E2}$$

Why does the others' mean leave the expected gradient as it is?
Would the mean of all? `rl exercise D13.centred`.

<details><summary>Answer</summary>

Another text says nothing about which token was drawn here, so its worth multiplies a mean that is 0,
$\mathbb E[\nabla \log \pi_\theta(y_t)]$. The mean of all holds the token's own worth, too, and shrinks the
gradient by $(B - 1)/B$, as in D5's (2).
</details>

*D13.4 · Better than the teacher?* (10 minutes, easy). Which methods of this lesson can make a student that is
better than its teacher, or than the model that wrote what it learns from? And what would a wrong teacher do
to each?

<details><summary>Answer</summary>

Those that ask a reward: best of $n$, RFT, expert iteration, GRPO. What the model writes now and then, they
make it write most of the time; what it never writes, they never find. The others end at the teacher itself,
where their divergences, (3) to (5), are least, mistakes and all.
</details>

*D13.5 · Find the bug* (10 minutes). `rl exercise D13.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""

# %%
ON_WORLD = {"batch_size": 1024, "num_epochs": 1, "learning_rate": 0.1}  # each text once, a table's step size


def claim_exact(world: TokenWorld, log: RunLog) -> None:
    """The bound on the divergence of the best of n, and the gradient of on-policy distillation."""
    ref, excess = world.reference_log_probs(), []
    for n in (1, 2, 4, 8, 16, 32, 64):
        best = best_of_n(ref, world.rewards, n)
        kls = (best.exp() * (best - ref)).sum(dim=1)  # [N]
        excess.append((kls - tasks.best_of_n_kl(n)).max().item())  # eq. (2)
        log.write(n, exact_kl=world.kl(best), exact_reward=world.expected_reward(best))
    rule = {"source": "enumeration of all completions", "always": True, "seeds": "5/5"}
    says = "the exact divergence of the best of n is never above log n - (n - 1) / n"
    log.claim("bound_excess", says, max(excess), at_most=1e-9, unit="nats", **rule)
    policy, teacher = world.reference(torch.float64), world.reference(torch.float64)
    for model in (policy, teacher):
        model.table.data += torch.randn(model.table.shape, dtype=torch.float64)
    mine, theirs = world.log_probs(policy), world.log_probs(teacher)
    (wanted,) = torch.autograd.grad((mine.exp() * (mine - theirs)).sum(dim=1).mean(), policy.table)
    says = "on-policy distillation's expected gradient is that of KL(student || teacher)"
    gap = (expected_gradient(world, policy, teacher) - wanted).norm() / wanted.norm()
    log.claim("gradient_gap", says, gap, at_most=1e-8, unit="of the divergence's", **rule)
    log.keep(world=world, world_student=policy, world_teacher=teacher)


def report(world: TokenWorld, policy: nn.Module, log: RunLog, name: str) -> tuple[float, float]:
    """(KL, reward) of a policy, exactly; both are written under `name`."""
    log_probs = world.log_probs(policy).detach()
    kl, reward = world.kl(log_probs).item(), world.expected_reward(log_probs).item()
    log.write(0, **{f"{name}_kl": kl, f"{name}_reward": reward})
    return kl, reward


def learn_best(world: TokenWorld, cfg: Config, log: RunLog) -> tuple[float, float]:
    """The best of n into the weights, on the token world: where the student ends, (KL, reward)."""
    policy, few = world.reference(), replace(cfg, how="best", num_updates=cfg.num_world_updates, **ON_WORLD)
    train(policy, world.reference(), tasks.world_task(world), few, log, "best")
    end = report(world, policy, log, "best_of_16")
    best = best_of_n(world.reference_log_probs(), world.rewards, cfg.group_size)
    exact = world.kl(best).item(), world.expected_reward(best).item()
    far = max(abs(found / wanted - 1.0) for found, wanted in zip(end, exact))
    says = "learnt, the best of 16 keeps its reward and its divergence"
    rule = {"unit": "off in KL or reward", "source": "enumeration of all completions"}
    log.claim("learnt_distance", says, far, at_most=0.05, **rule)
    return end


def learn_sums(cfg: Config, log: RunLog) -> None:
    """The student learns sums from the teacher; whether an answer is right is never said."""
    base, tokenizer = load_model("tiny", arithmetic_recipe(cfg.pretrain_steps))
    teacher = load_model("tiny", arithmetic_recipe(cfg.teacher_steps)).model
    (_, task), (_, held_out) = tasks.sums_task(tokenizer), tasks.sums_task(tokenizer, held_out=True)
    student = copy.deepcopy(base)
    watch = tasks.accuracy_watcher("student", held_out, cfg.num_updates, cfg.seed, log)
    watch(base, 0)
    train(student, base if cfg.how in ("best", "passed") else teacher, task, cfg, log, cfg.how, watch)
    log.write(0, teacher_sampled=tasks.count_right(teacher, held_out, 4, cfg.seed)[0].mean() / 4)
    rule = {"unit": "share of held-out sums", "source": "D5's bars"}
    for how, bar in (("greedy", 0.9), ("sampled", 0.6)):
        says = f"taught by a stronger model, the student's answers are right, {how}"
        log.claim(f"{how}_after", says, log.last(f"student_{how}"), at_least=bar, **rule)
    log.keep(base=base, teacher=teacher, student=student, task=task, held_out=held_out)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    world = token_world(cfg.seed)
    claim_exact(world, log)
    log.keep(end=learn_best(world, cfg, log))
    learn_sums(cfg, log)
    draw(world, log.kept["end"], log)


def draw(world: TokenWorld, end: tuple[float, float], log: RunLog) -> None:
    """Reward against KL on the token world; accuracy of the student on sums."""
    figure, (chart, sums) = plotting.new_figure(1, 2, width=6.2, height=4.8)
    draw_frontier(chart, world, 0.5)
    chart.plot(*end, "o", color=plotting.BLUE, markersize=9, label="best of 16, learnt")
    chart.legend(loc="lower right")
    for how, line in (("greedy", "-"), ("sampled", ":")):
        sums.plot(*log.series(f"student_{how}"), line, color=plotting.BLUE, label=f"student, {how}")
    sums.axhline(log.last("teacher_sampled"), label="teacher, sampled", **plotting.REFERENCE)
    sums.set(xlabel="update", ylabel="held-out sums right", ylim=(0, 1.03), title="Sums: taught by a teacher")
    sums.legend(loc="lower right")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
