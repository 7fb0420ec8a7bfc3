# %% [markdown]
r"""
# D5 · GRPO and verifiable rewards

**Question.** A program that checks answers replaces the reward model. Group relative policy optimisation
(GRPO) removes the critic as well: what takes its place, and why is its loss zero while its gradient is not?

**Before this:** D2, D4. **Changes from D2:** the critic is gone. **Next:** D15, where the penalty belongs.

**Time.** 60 s on 2 cores; with all evidence 300 s.

References: `shao2024deepseekmath`, `kool2019buy`, `ahmadian2024rloo`, `liu2025drgrpo`, `yu2025dapo`,
`zheng2025gspo`, `chen2021codex`, `yue2025reasoning`.

Symbols: $N$ prompts, $G$ completions of each (a *group*), $B = N G$. Completion $y_i$ has $|y_i|$ of at most
$T$ tokens $y_{it}$, and $m_{it}$ is 1 where there is one. $\pi(y_{it})$ is short for the probability of the
token after its prompt and the tokens before it.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.text.checkpoint import resumable
from chapters.text.grpo import schedule
from chapters.text.models import load_model
from chapters.text.recipes import arithmetic_recipe
from chapters.text.tasks import Task, log_probs_of
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

EPS = 1e-4  # added to a standard deviation before dividing by it, as TRL does
Groups = Float[Tensor, "N G"]  # a number for each completion of each prompt
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token


@dataclass(frozen=True)
class Config:
    """GRPO on sums whose answers a program checks."""

    seed: int = 0
    """Seed of prompts and sampling."""
    model: str = "tiny"
    """tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 120
    """Steps that train the tiny model, once; more make a better base and leave less to learn."""
    num_prompts: Annotated[int, in_range(1, 10_000)] = 32
    """N: prompts in a batch."""
    group_size: Annotated[int, in_range(2, 10_000)] = 8
    """G: completions of each prompt."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 200
    """Batches sampled and learnt from."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch; on the first, every ratio is 1."""
    learning_rate: Annotated[float, in_range(1e-8, 1.0)] = 2e-3
    """Adam's step size, after it has risen and before it falls."""
    baseline: Literal["group_mean", "leave_one_out"] = "group_mean"
    """What a completion is compared with: its whole group, or the others of it."""
    divide: bool = True
    """Divide a group's advantages by the standard deviation of its rewards."""
    ratio: Literal["token", "sequence"] = "token"
    """Importance ratio of each token, or the geometric mean over a completion."""
    clip_low: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a ratio may fall before the reason to lower it further is taken away."""
    clip_high: Annotated[float, in_range(0.0, 100.0)] = 0.2
    """How far a ratio may rise."""
    average: Literal["completions", "tokens", "constant"] = "completions"
    """The loss: mean of each completion's mean, one mean over all tokens, or each completion's sum over T."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.02
    """Weight of the KL penalty in the loss."""


SMOKE = {"pretrain_steps": 10, "num_prompts": 4, "num_updates": 2, "num_epochs": 2}

# %% [markdown]
r"""
## 1. A group in the critic's place

A policy is asked `07+35=`. A program knows the answer (`24`, the digits of 42, last one first) and gives a
reward $r$ of 1 or 0: a *verifiable reward*. How much is a 1 worth? Little if the sum is easy. To know what is
usual, proximal policy optimisation (PPO) asks a critic, a learned value. GRPO (`shao2024deepseekmath`)
answers $G$ times instead: a *group*. The *advantage* says how far an answer beats the group's mean $\bar r$,
in standard deviations $\sigma_r$ of its rewards (squares summed and divided by $G - 1$):

$$\hat A_i = (r_i - \bar r) / (\sigma_r + \varepsilon), \qquad \varepsilon = 10^{-4} \tag{1}$$

REINFORCE leave-one-out (RLOO, `kool2019buy`, `ahmadian2024rloo`) leaves a completion's own reward out of the
mean and does not divide, which keeps the gradient unbiased:

$$\hat A_i = r_i - \tfrac{1}{G-1} \textstyle\sum_{j \ne i} r_j = \tfrac{G}{G-1}\,(r_i - \bar r) \tag{2}$$

*Division*, in (1), makes every group weigh the same in which both rewards occur, be the prompt easy or hard.
*By hand:* one of four right has mean ¼ and deviation ½:

```python
>>> [round(a, 2) for a in advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))[0].tolist()]
[1.5, -0.5, -0.5, -0.5]
```

**Ratio and clip**, (3) and (4), are PPO's: a token's *importance ratio* $w_{it}$, and bounds beyond which it
pays no more to move on. GSPO (*group sequence policy optimisation*, `zheng2025gspo`) takes one ratio
$\bar w_i$ for the whole completion, the geometric mean. DAPO (*decoupled clip and dynamic sampling policy
optimisation*, `yu2025dapo`) has a larger $\epsilon_+$, so that rare tokens can grow faster.

$$w_{it} = \pi_\theta(y_{it}) / \pi_\text{old}(y_{it}), \quad \bar w_i = (\prod_t w_{it})^{1/|y_i|} \tag{3}$$

$$L_{it} = \min(w_{it} \hat A_i,\, \mathrm{clip}(w_{it}, 1-\epsilon_-, 1+\epsilon_+) \hat A_i) \tag{4}$$

**The average** is where papers differ. $\ell_{it}$ is the loss of token $t$ of completion $i$, see (6):

$$\sum_{it} m_{it} \ell_{it} / d_i, \quad d_i = B |y_i| \text{ (completions)}, \;
\textstyle\sum_j |y_j| \text{ (tokens)}, \text{ or } B T \text{ (constant)} \tag{5}$$

GRPO's mean of means spreads an answer's blame over its length: little for each token of a long one. DAPO
counts all tokens alike. Only the constant of Dr. GRPO (*GRPO done right*, `liu2025drgrpo`), with undivided
advantages, keeps the gradient of the mean reward, up to a factor. *By hand*, a completion of one token with
loss 3, and one of three tokens with loss 0:

```python
>>> losses = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
>>> mask = torch.tensor([[True, False, False], [True, True, True]])
>>> [average(losses, mask, kind).item() for kind in ("completions", "tokens", "constant")]
[1.5, 0.75, 0.5]
```

**The penalty**, with weight $\beta$, estimates the Kullback–Leibler (KL) divergence from the *reference*, the
first policy. It is never negative, and 0 where both give the token the same probability (D15):

$$\ell_{it} = -L_{it} + \beta (e^u - 1 - u), \; u = \log \tfrac{\pi_\text{ref}}{\pi_\theta}(y_{it}) \tag{6}$$
"""


# %%
def advantages(rewards: Groups, baseline: str = "group_mean", divide: bool = True) -> Groups:
    """How much better each completion is than its group, of two at least: one alone has no measure."""
    size = rewards.shape[1]
    if size < 2:
        raise ValueError("a group of one completion has nothing to be compared with")
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    # of equal rewards the mean leaves nothing but rounding: it must not be divided by rounding
    equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)  # [N, 1]
    centred = centred.masked_fill(equal, 0.0)
    if baseline == "leave_one_out":
        centred = centred * size / (size - 1)  # eq. (2)
    if divide:
        centred = centred / (rewards.std(dim=1, keepdim=True) + EPS)  # eq. (1)
    return centred


def importance_ratio(log_probs: Grid, old_log_probs: Grid, mask: Mask, level: str) -> Grid:
    """New over old probability of each token; at level "sequence" all tokens of a completion share one."""
    log_ratio = (log_probs - old_log_probs) * mask
    if level == "sequence":
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)  # [B, 1]
        log_ratio = (log_ratio.sum(dim=1, keepdim=True) / lengths).expand_as(log_ratio)
    return log_ratio.exp()  # eq. (3)


def clipped_objective(
    ratio: Grid, advantages: Float[Tensor, "B 1"], clip_low: float, clip_high: float
) -> Grid:
    """PPO's objective of each token with two bounds, to be raised."""
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (4)


def average(losses: Grid, mask: Mask, kind: str) -> Float[Tensor, ""]:
    """One number from the loss of each token; a completion without tokens counts as 0."""
    lengths = mask.sum(dim=1)  # [B]
    sums = (losses * mask).sum(dim=1)  # [B]
    if kind == "completions":
        return (sums / lengths.clamp(min=1)).mean()
    if kind == "tokens":
        return sums.sum() / lengths.sum().clamp(min=1)
    return (sums / mask.shape[1]).mean()  # eq. (5)


FAMILY: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "RLOO's baseline": {"baseline": "leave_one_out", "divide": False, "average": "constant", "beta": 0.0},
    "Dr. GRPO": {"divide": False, "average": "constant", "beta": 0.0},
    "DAPO": {"clip_high": 0.28, "average": "tokens", "beta": 0.0},
    "GSPO": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "beta": 0.0},
    "TRL's default": {"average": "tokens", "beta": 0.0},
}


def grpo_loss(log_probs: Grid, batch: dict[str, Tensor], cfg: Config) -> Float[Tensor, ""]:
    """What the optimiser lowers, for GRPO and all its relatives."""
    mask = batch["completion_mask"]
    ratio = importance_ratio(log_probs, batch["old_log_probs"], mask, cfg.ratio)
    losses = -clipped_objective(ratio, batch["advantages"][:, None], cfg.clip_low, cfg.clip_high)
    if cfg.beta:
        log_ratio = batch["ref_log_probs"] - log_probs
        losses = losses + cfg.beta * (log_ratio.exp() - 1.0 - log_ratio)  # eq. (6)
    return average(losses, mask, cfg.average)


@torch.no_grad()
def collect(
    policy: nn.Module, reference: nn.Module, task: Task, rng: np.random.Generator,
    generator: torch.Generator, cfg: Config,
) -> dict[str, Tensor]:  # fmt: skip
    """A batch with advantages, sampled by `policy`; all of it constant."""
    rows = torch.from_numpy(rng.integers(len(task.prompt_ids), size=cfg.num_prompts))  # [N]
    batch = tasks.answer(policy, task, rows.repeat_interleave(cfg.group_size), generator)
    batch["old_log_probs"] = log_probs_of(policy, batch)
    batch["ref_log_probs"] = log_probs_of(reference, batch) if cfg.beta else batch["old_log_probs"]
    groups = advantages(batch["rewards"].view(-1, cfg.group_size), cfg.baseline, cfg.divide)
    batch["advantages"] = groups.flatten().to(batch["old_log_probs"].dtype)
    return batch


def update(policy: nn.Module, optimizer: Adam, batch: dict[str, Tensor], cfg: Config) -> tuple[float, float]:
    """Several passes over one batch. Returns (loss, gradient norm) of the first, where every ratio is 1."""
    passes = []
    for _ in range(cfg.num_epochs):
        loss = grpo_loss(log_probs_of(policy, batch), batch, cfg)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        passes.append((loss.item(), norm.item()))
    return passes[0]


def train(
    policy: nn.Module, reference: nn.Module, task: Task, cfg: Config, log: RunLog, name: str,
    watch: Callable = lambda policy, num_updates: None,
) -> None:  # fmt: skip
    """Fine-tune in place; `watch(policy, number of updates)` is called after each."""
    rng = np.random.default_rng(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    state = (policy, optimizer, rng, generator)  # all that changes: a run that is stopped can go on
    for i in resumable(log, cfg.num_updates, f"updates ({name})", state):
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)  # up, level, down
        batch = collect(policy, reference, task, rng, generator, cfg)
        loss, norm = update(policy, optimizer, batch, cfg)
        entropy = -batch["old_log_probs"].sum() / batch["completion_mask"].sum()
        seen = {"reward": batch["rewards"].mean(), "loss": loss, "gradient": norm, "entropy": entropy}
        log.write(i, **{f"{name}_{what}": value for what, value in seen.items()})
        watch(policy, i + 1)


# %% [markdown]
r"""
## 2. The loss is zero, the gradient is not

On the first pass over a batch the policy *is* the one that sampled: $w_{it} = 1$. Then the first term of the
loss, averaged over completions, is minus the mean advantage, and by (1) the advantages of a group sum to 0.
(With one mean over all tokens they need not: D5.2.) What remains is $\beta$ times a small KL.

But $w_{it}$ has a slope: $\nabla w_{it} = w_{it} \nabla \log \pi_\theta(y_{it})$. So, KL apart, the gradient
is that of REINFORCE, with a baseline in $\hat A_i$ and a weight $1 / |y_i|$:

$$\nabla \mathcal L = -\tfrac1B \sum_i \tfrac{\hat A_i}{|y_i|} \sum_t \nabla \log \pi_\theta(y_{it}) \tag{7}$$

*By hand*, two completions of one token, one better and one worse than their mean:

```python
>>> log_probs = torch.tensor([[-0.7], [-0.7]], requires_grad=True)
>>> ratio = importance_ratio(log_probs, log_probs.detach(), torch.ones(2, 1, dtype=torch.bool), "token")
>>> loss = -clipped_objective(ratio, torch.tensor([[1.0], [-1.0]]), 0.2, 0.2).mean()
>>> abs(loss.item()), torch.autograd.grad(loss, log_probs)[0].flatten().tolist()
(0.0, [-0.5, 0.5])
```

A small GPT-2 has learnt a little adding from examples. From now on only the checker teaches. *Left*, sums
that are in no batch: *greedy* takes the likeliest token each time, *sampled* draws it. *Right*, first passes:

![Accuracy rises past its bar; the loss stays near zero, the norm of its gradient does not](results/D5.png)

Is that new, or is the policy surer of what it could do? The evidence measures *pass@k*, the chance that at
least one of $k$ answers is right. It also trains TRL's (*transformer reinforcement learning*) `GRPOTrainer`,
and each member of `FAMILY`.

![pass@k, accuracy against CPU seconds beside TRL's, and the family, a dot a seed](results/D5_family.png)

*Left:* one try gains most. With 64 tries nearly every sum was solved before training: much of the gain is
that the policy has become sure of answers it could already find (`yue2025reasoning`). *Middle:* for as many
updates TRL needs more CPU seconds. *Right*, after only 50 updates: in an orange row one setting of GRPO is
changed, a green row takes its settings from a paper, or from TRL.

**The verdict.** The policy's other answers stand in the critic's place: a completion is judged against its
group's mean. The loss, a mean of such advantages, is zero; by (7) its gradient is a weighted policy gradient.

<!-- results: D5 -->

`rl run D5`: 40 s; with `--evidence`: 164 s, 1401 MB; with `--smoke --evidence`: 14 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| first_loss              | 5.2e-18 (0 to 1.21e-17)         | ≤ 1e-10     | 10/10 |
| first_gradient          | 0.0531 (0.0486 to 0.0654)       | ≥ 0.001     | 10/10 |
| greedy_after            | 0.992 (0.976 to 1)              | ≥ 0.9       | 10/10 |
| sampled_after           | 0.926 (0.873 to 0.933)          | ≥ 0.6       | 10/10 |
| first_gradient_gap *    | 3.65e-17 (9.72e-18 to 6.42e-17) | ≤ 1e-10     | 10/10 |
| greedy_before *         | 0.353                           | 0.3 ± 0.15  | 10/10 |
| sampled_before *        | 0.117 (0.108 to 0.124)          | 0.17 ± 0.15 | 10/10 |
| trl_advantages_gap *    | 4.77e-07 (2.38e-07 to 5.96e-07) | ≤ 1e-05     | 10/10 |
| trl_loss_gap *          | 5.96e-08                        | ≤ 1e-05     | 10/10 |
| faster_than_trl *       | 1.29 (1.13 to 1.41)             | ≥ 1         | 10/10 |
| trl_time_per_update *   | 1.36 (1.33 to 1.38)             | ≥ 1         | 10/10 |
| entropy_ratio *         | 0.101 (0.0897 to 0.128)         | ≤ 1         | 10/10 |
| gain_at_one_over_many * | 0.793 (0.745 to 0.799)          | ≥ 0         | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `first_loss`: before any update the loss is 0
- `first_gradient`: before any update the gradient of the loss is not 0 (norm)
- `greedy_after`: after GRPO the answers are right, greedy (share of held-out sums)
- `sampled_after`: after GRPO the answers are right, sampled (share of held-out sums)
- `first_gradient_gap`: the gradient of the first loss is minus the mean of advantage times gradient of
  log-probability (of its norm)
- `greedy_before`: before training the base is right now and then, greedy (share of held-out sums)
- `sampled_before`: before training the base is right now and then, sampled (share of held-out sums)
- `trl_advantages_gap`: our advantages equal those of TRL's GRPO, divided and not, and RLOO on the same
  completions
- `trl_loss_gap`: our losses equal TRL's on one batch: GRPO, BNPO, DAPO, Dr. GRPO, GSPO, GRPO with the KL
  corrected
- `faster_than_trl`: TRL's CPU seconds to 0.9 greedy and 0.6 sampled (times ours)
- `trl_time_per_update`: TRL's CPU seconds for as many updates (times ours)
- `entropy_ratio`: the policy ends surer of itself: entropy of a token after training, over that before
  (times)
- `gain_at_one_over_many`: training gains more for one try than for many: gain in pass@1 less gain in pass@k
  at the largest k (share of held-out sums)
</details>

<!-- /results -->

**Break it.** `rl break D5 constant_ratio`: the ratio is 1 at first, so why not take it as a number without a
slope? The loss stays, its gradient goes. `rl break D5 other_prompts` compares an answer with those to other
prompts: the first loss is not 0. No mistake, but DAPO's: `rl break D5 dynamic_sampling` draws again where all
answers of a group earned the same.

**Exercises.**

<!-- exercises: D5 -->

*D5.1 · The heart of it* (30 minutes, medium). Write what takes the critic's place, (1) and (2), and what
papers argue about, (5). `rl exercise D5.advantages`, `rl exercise D5.average`.

*D5.2 · A first loss that is not zero* (15 minutes, medium). Why is it not, after `rl run D5 --average
tokens`?

<details><summary>Answer</summary>

With one mean over all tokens a completion counts $|y_i|$ times: the loss is
$-\sum_i |y_i| \hat A_i / \sum_i |y_i|$. In a group the advantages sum to 0; times lengths they need not.
</details>

*D5.3 · One of k* (20 minutes, medium). How likely is at least one of $k$ answers right, if they are drawn
without replacement from $n$ answers, $c$ of them right (`chen2021codex`)? Return the mean over problems of

$$\text{pass@}k = 1 - \binom{n-c}{k} \Big/ \binom{n}{k} \tag{E1}$$

The tempting $1 - (1 - c/n)^k$ puts each answer back, and is too low. `rl exercise D5.pass_at_k`.

*D5.4 · Answers that are too long* (10 minutes, easy). DAPO (`yu2025dapo`) warns a policy before its answers
are cut off at $T$ tokens. Each of the last $M$ of these tokens costs $1 / M$ of reward. So this is added to
the reward:

$$p(|y|) = \begin{cases} 0 & |y| \le T - M \\ \dfrac{T - M - |y|}{M} & T - M < |y| \le T \\ -1 & |y| > T
\end{cases} \tag{E2}$$

For completions of many lengths at once: `rl exercise D5.overlong_penalty`.

*D5.5 · Find the bug* (10 minutes). `rl exercise D5.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def claim_first_batch(cfg: Config, log: RunLog) -> None:
    """Loss and gradient before any update, on a small world where every completion has its own reward."""
    world = token_world(cfg.seed)
    cfg = replace(cfg, num_prompts=8, group_size=128)
    policy = world.reference(torch.float64)
    rng = np.random.default_rng(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    batch = collect(policy, policy, tasks.world_task(world), rng, generator, cfg)
    loss = grpo_loss(log_probs_of(policy, batch), batch, cfg)
    (gradient,) = torch.autograd.grad(loss, policy.table)
    rule = {"source": "(6) at ratio 1, on the token world", "always": True, "seeds": "10/10"}
    log.claim("first_loss", "before any update the loss is 0", abs(loss.item()), at_most=1e-10, **rule)
    says = "before any update the gradient of the loss is not 0"
    log.claim("first_gradient", says, gradient.norm(), at_least=1e-3, unit="norm", **rule)
    log.keep(first_batch=batch, first_gradient=gradient, first_policy=policy)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    claim_first_batch(cfg, log)
    base, tokenizer = load_model(cfg.model, arithmetic_recipe(cfg.pretrain_steps))
    base.requires_grad_(False)
    prompts, task = tasks.sums_task(tokenizer)
    _, held_out = tasks.sums_task(tokenizer, held_out=True)
    policy = copy.deepcopy(base).requires_grad_(True)
    watch = tasks.accuracy_watcher("ours", held_out, cfg.num_updates, cfg.seed, log)
    watch(base, 0)
    train(policy, base, task, cfg, log, "ours", watch)
    rule = {"unit": "share of held-out sums", "source": "the course's bar"}
    for how, bar in (("greedy", 0.9), ("sampled", 0.6)):
        value = log.last(f"ours_{how}")
        log.claim(f"{how}_after", f"after GRPO the answers are right, {how}", value, at_least=bar, **rule)
    draw(log)
    log.keep(base=base, policy=policy, tokenizer=tokenizer, prompts=prompts, task=task, held_out=held_out)


def draw(log: RunLog) -> None:
    """Accuracy; loss and gradient of the first pass over each batch."""
    figure, (accuracy, first_pass) = plotting.new_figure(1, 2, width=5.4)
    accuracy.plot(*log.series("ours_greedy"), color=plotting.BLUE, label="greedy")
    accuracy.plot(*log.series("ours_sampled"), ":", color=plotting.BLUE, label="sampled")
    accuracy.axhline(0.9, label="bar for greedy", **plotting.REFERENCE)
    accuracy.set(xlabel="update", ylabel="held-out sums right", title="Right or wrong is all it is told")
    accuracy.legend(loc="lower right")
    first_pass.plot(*log.series("ours_gradient"), color=plotting.PURPLE, label="norm of the gradient")
    first_pass.plot(*log.series("ours_loss"), color=plotting.RED, label="loss")
    first_pass.set(xlabel="update", ylabel="first pass over each batch", title="Loss near 0, gradient not")
    first_pass.legend(loc="upper left")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
