# %% [markdown]
r"""
# D8 · Rewards for steps

**Question.** Should a reward look at the answer alone, or at every step that led to it?

**Before this:** D5. **Changes from D5:** an answer is written out step by step, and a reward may be paid for
each. **Next:** D13.

**Time.** 60 s on 2 cores; with all evidence 180 s.

References: `cobbe2021gsm8k`, `uesato2022process`, `lightman2024verify`, `wang2024mathshepherd`,
`ng1999shaping`, `shao2024deepseekmath`, `setlur2025progress`, `cheng2025pure`.

Symbols: $x$ a problem, $y$ a chain of $T$ steps, each a token, $y_{\le t}$ its *beginning* of $t$ steps, $r$
the outcome: 1 if the last step is the right answer, else 0; $V$ value of a beginning, $K$ continuations tried
from it, $\ell$ label of a step, $\Phi$ a potential, $c$ cost of a token, $G$ chains for one problem.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs import running_sums
from chapters.exact import padding
from chapters.text import chains, grpo, tasks
from chapters.text.models import load_model
from chapters.text.recipes import running_sums_recipe
from chapters.text.tasks import Task, log_probs_of
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

KINDS = ("outcome", "process")


@dataclass(frozen=True)
class Config:
    """A policy that learns running sums, paid for its answers or for its steps."""

    seed: int = 0
    """Seed of problems and of sampling."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 220
    """Steps that train the small model before the lesson, once."""
    num_exact: Annotated[int, in_range(1, 2000)] = 100
    """Held-out problems on which everything is enumerated."""
    num_prompts: Annotated[int, in_range(1, 10_000)] = 32
    """Problems in a batch."""
    group_size: Annotated[int, in_range(2, 10_000)] = 8
    """Chains for each problem: G."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 150
    """Batches written and learnt from, once each."""
    outcome_rate: Annotated[float, in_range(1e-8, 1.0)] = 5e-4
    """Adam's step size if answers are paid; the evidence tries others."""
    process_rate: Annotated[float, in_range(1e-8, 1.0)] = 2e-3
    """The same if steps are paid."""


SMOKE = {"pretrain_steps": 5, "num_exact": 2, "num_prompts": 2, "group_size": 2, "num_updates": 2}

# %% [markdown]
r"""
## 1. What a beginning is worth

A problem is four digits, `3852=`. Its right chain is the running sums modulo 10, `168`: 3 + 8 = 11, so 1;
1 + 5 = 6; 6 + 2 = 8. Two steps, then the answer. A small GPT-2 has read such chains and writes some of them
right. It may write digits only, so there are a thousand chains, and nothing need be estimated. How likely is
the answer to be right once $y_{\le t}$ stands there, if the policy $\pi$ goes on as it does?

$$V(y_{\le t}) = \sum_d \pi(d \mid x, y_{\le t})\, V(y_{\le t}\, d), \qquad V(y_{\le T}) = r(x, y) \tag{1}$$

*By hand*, two digits, two steps, the answer 1: right one time in four after a 0, three times after a 1.

```python
>>> probs = [torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.75, 0.25], [0.25, 0.75]]])]
>>> root, after_one, _ = prefix_values(probs, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
>>> root.tolist(), after_one.tolist()
([0.5], [[0.25, 0.75]])
```

A wrong step need not have value 0: the policy may mend it by a second mistake. The value asks where a step
leads; whether it is *correct* is another question.
"""


# %%
def prefix_values(probs: list[Tensor], outcomes: Tensor) -> list[Tensor]:
    """V of every beginning, the empty one first: shapes [N], [N, V], [N, V, V], ...

    probs: of the next digit after each beginning, [N, V], [N, V, V], ...; outcomes: r of each whole chain.
    """
    values = [outcomes]
    for prob in reversed(probs):
        values.insert(0, (prob * values[0]).sum(dim=-1))  # eq. (1)
    return values


# %% [markdown]
r"""
## 2. Labels for steps, by trying

Longer chains cannot be listed. There a person labels each step (`lightman2024verify`), or one tries: go on
from $y_{\le t}$ to the end $K$ times, and look at the outcomes $r_k$ (`wang2024mathshepherd`).

$$\ell^\text{soft} = \tfrac1K \textstyle\sum_k r_k, \qquad \ell^\text{hard} = \max_k r_k \tag{2}$$

Each $r_k$ is 1 with chance $V$, so the soft label is right on average. The hard one, "can a right answer
still be reached?", is 0 only if all $K$ fail:

$$\mathbb E[\ell^\text{soft}] = V, \qquad \mathbb E[\ell^\text{hard}] = 1 - (1 - V)^K \tag{3}$$

For $0 < V < 1$ and $K > 1$ that is above $V$, and grows with $K$. Say that one try in four succeeds. At
$K = 4$ two hard labels in three then call the step good:

```python
>>> tried = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
>>> [step_labels(tried, kind).item() for kind in ("soft", "hard")], hard_mean(tried.mean(), 4).item()
([0.25, 1.0], 0.68359375)
```

A *process reward model* is a network that learns such labels at every step; an *outcome reward model* is told
$r$ alone, here at the last step. Their loss is the same cross-entropy, with other labels in other places:

$$\mathcal L = -\frac{\sum_{it} m_{it}\, [\ell_{it} \log \sigma(z_{it}) + (1 - \ell_{it}) \log(1 -
\sigma(z_{it}))]}{\sum_{it} m_{it}} \tag{4}$$

$z_{it}$ is its output at step $t$ of chain $i$, $\sigma$ the logistic function, $m_{it}$ is 1 where there is
a label. The best output for soft labels is $\sigma(z) = V$: a value function, learnt by Monte Carlo (B2). The
chain's own outcome is a soft label of all its steps, with $K = 1$: so `cobbe2021gsm8k` trains at every token.
"""


# %%
def step_labels(outcomes: Float[Tensor, "B T K"], kind: str) -> Float[Tensor, "B T"]:
    """A label for each step from the outcomes of K continuations of it."""
    return outcomes.mean(dim=-1) if kind == "soft" else outcomes.amax(dim=-1)  # eq. (2)


def hard_mean(values: Float[Tensor, "*D"], num_tries: int) -> Float[Tensor, "*D"]:
    """What a hard label is on average, for beginnings of these values."""
    return 1.0 - (1.0 - values) ** num_tries  # eq. (3)


def label_loss(
    logits: Float[Tensor, "B T"], labels: Float[Tensor, "B T"], mask: Float[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the labels, mean over the steps that have one."""
    losses = labels * nn.functional.logsigmoid(logits) + (1.0 - labels) * nn.functional.logsigmoid(-logits)
    return -(losses * mask).sum() / mask.sum()  # eq. (4)


# %% [markdown]
r"""
## 3. The outcome, in instalments

How should a score of steps become a reward? Pay what a step *adds* (`setlur2025progress`). With
$\Phi_t = \Phi(y_{\le t})$ any number that depends on the beginning alone:

$$F_t = \Phi_t - \Phi_{t-1} \;\; (t < T), \qquad F_T = r - \Phi_{T-1} \tag{5}$$

The sum *telescopes*: $\sum_t F_t = r - \Phi_0$, and $\Phi_0$ is the same for all chains of a problem.
So the order of the chains is the outcome's, even if $\Phi$ is a bad guess. This is *potential-based shaping*
(`ng1999shaping`), with a potential of 0 after the end. *By hand*, good step, bad step, right answer:

```python
>>> instalments(torch.tensor([[0.5, 0.75, 0.25]]), torch.tensor([1.0])).tolist()
[[0.25, -0.5, 0.75]]
```

With $\Phi = V$ it is more: the *advantage* of step $t$, how much better it is than what the policy usually
does there. In the policy gradient of the outcome, each $\nabla \log \pi$ may have any of these weights,

$$r, \qquad \textstyle\sum_{s \ge t} F_s = r - V_{t-1}, \qquad F_t \tag{6}$$

and the mean stays: $V_{t-1}$ is a baseline (C0), and $V_t$ is what $r$ is on average once step $t$ stands. So
$F_t$ is no noisier than $r - V_{t-1}$, but no new goal. (`setlur2025progress` takes another policy's values.)
"""


# %%
def instalments(potentials: Float[Tensor, "B T"], outcomes: Float[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """The reward of each step: what it adds. `potentials` are those *before* each step."""
    after = torch.cat([potentials[:, 1:], outcomes[:, None]], dim=1)
    return after - potentials  # eq. (5)


# %% [markdown]
r"""
## 4. The sum of scores, and what it buys

The tempting reward is the sum of the scores itself: every good step earns its score. Let a text contain
padding, steps that are true and add nothing (in practice, too, the sum is gamed: `cheng2025pure`). A text
ends with its third sum, or without an answer after $L$ tokens, each at a cost $c$. A token that leads from
value $V$ to $V'$ earns as follows. Padding has $V' = V$, the last sum $V' = r$; before that sum $r = 0$.

$$\rho^\text{outcome} = r - c, \qquad \rho^\text{sum} = V' - c, \qquad
\rho^\text{differences} = \begin{cases} r - V - c & \text{at the end} \\ V' - V - c & \text{before}\end{cases}
\tag{7}$$

Dynamic programming (A3) finds each reward's best text: the best token, then the best rest, one token shorter.
"""


# %%
def token_reward(
    before: Tensor, after: Tensor, outcome: Tensor, ended: bool, kind: str, cost: float
) -> Tensor:  # fmt: skip
    """What a token earns that leads from a beginning worth `before` to one worth `after`."""
    if kind == "sum":
        return after - cost
    if kind == "outcome":
        return outcome - cost
    return (outcome if ended else after) - before - cost  # eq. (7)


# %% [markdown]
r"""
## 5. Learning from either

Now the policy learns. A checker knows the right running sums, so both rewards are exact: the *outcome*
reward pays 1 for the right last step, the *process* reward 1 for every step that is the right running sum.
All else is the same. A step is credited with what it and later steps earn, compared within its group ($j$):

$$R_{it} = \sum_{s \ge t} r_{is}, \qquad
\hat A_{it} = \frac{R_{it} - \mathrm{mean}_j R_{jt}}{\mathrm{std}_j R_{jt} + \varepsilon} \tag{8}$$

With the outcome reward $R_{it} = r_i$ at each step, and (8) is D5's. With steps it is close to process
supervision in `shao2024deepseekmath`, which takes mean and deviation over all steps of a group. $R_{it}$ is a
sum of scores; it is safe here, since a chain has exactly three steps and no room for padding. *By hand*, two
chains with a right answer: the outcome does not tell them apart, the steps tell which was luck:

```python
>>> paid = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]])
>>> [[round(a, 2) for a in row] for row in advantages(paid)[0].tolist()]
[[0.71, 0.0, 0.0], [-0.71, 0.0, 0.0]]
```
"""


# %%
def step_rewards(right: Int[Tensor, "B T"], written: Int[Tensor, "B T"], kind: str) -> Float[Tensor, "B T"]:
    """1 for each step that is the right running sum; by outcome, only the last step is paid."""
    correct = (written == right).float()
    if kind == "outcome":
        correct[:, :-1] = 0.0
    return correct


def advantages(rewards: Float[Tensor, "N G T"]) -> Float[Tensor, "N G T"]:
    """What a step and those after it earn, compared with the same step in the other chains of its group."""
    returns = rewards.flip(2).cumsum(dim=2).flip(2)
    columns = returns.transpose(1, 2)  # [N, T, G]
    found = grpo.advantages(columns.flatten(0, 1))  # eq. (8)
    return found.view(columns.shape).transpose(1, 2)


@torch.no_grad()
def collect(
    policy: Callable, task: Task, right: Int[Tensor, "N T"], kind: str, generator: torch.Generator,
    cfg: Config,
) -> dict[str, Tensor]:  # fmt: skip
    """A batch of chains with advantages, sampled by `policy`; all of it constant."""
    rows = torch.randint(len(right), (cfg.num_prompts,), generator=generator)
    rows = rows.repeat_interleave(cfg.group_size)
    batch = tasks.answer(policy, task, rows, generator)
    paid = step_rewards(right[rows], batch["completion_ids"] - chains.FIRST_DIGIT, kind)  # [B, T]
    groups = advantages(paid.view(-1, cfg.group_size, task.num_tokens))
    return batch | {"advantages": groups.flatten(0, 1)}


def train(
    policy: nn.Module, task: Task, right: Int[Tensor, "N T"], kind: str, learning_rate: float, cfg: Config,
    log: RunLog, name: str, watch: Callable = lambda policy, num_updates: None,
) -> None:  # fmt: skip
    """REINFORCE in place; `watch(policy, number of updates)` is called after each."""
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=learning_rate)
    for i in log.track(range(cfg.num_updates), f"updates ({name})"):
        optimizer.lr = learning_rate * grpo.schedule(i, cfg.num_updates)
        batch = collect(policy, task, right, kind, generator, cfg)
        loss = -(batch["advantages"] * log_probs_of(policy, batch)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        watch(policy, i + 1)


# %% [markdown]
r"""
## 6. Look, break, write

![The sum of scores buys padding; answers and whole chains under either reward](results/D8.png)

*Left*, exactly: judged by the sum of its scores, the best text puts padding into every place that is free. By
differences it is the text that is best by outcome, without any. *Right*, learnt from equally many chains:
solid lines are right answers, dotted ones chains without a wrong step. In the end the process reward leads on
every recorded seed, in answers too. What lies between solid and dotted is luck: to the outcome reward a
wrong step that a second mistake mends is as good as a right one. Equal samples are not equal knowledge,
though: somebody had to know every running sum. Below, *middle*, the step sizes: of three tried for each
reward on seed 0, the best for steps is four times the best for answers.

![Answers over training, step sizes, and right answers from wrong steps](results/D8_learning.png)
![Best of n by either reward model; how noisy three weights of a gradient are](results/D8_verifiers.png)

Last, a reward model chooses the best of $n$ chains of the first policy. Both models cost equally many
completions. The process model's weakest step (exercise 2) chooses best. But neither model is good enough to
choose among many. Of 64 chains the last step's score, by either, chooses worse than a draw, and the weakest
step's as a rule no better: some chain looks better than it is (D16). *Right*: how noisy the weights (6) are.

**The verdict.** Look at the steps, if somebody can say whether they are right: from equally many chains more
is learnt, and right answers come from right steps. But pay what a step adds, never the sum of scores. With
exact values that is the outcome's own gradient, with less noise: no new goal, only earlier news.

<!-- results: D8 -->

`rl run D8`: 34 s; with `--evidence`: 52 s, 1506 MB; with `--smoke --evidence`: 14 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| shaping_regret   | 0                               | ≤ 1e-09 | 5/5 |
| sum_padding      | 1                               | ≥ 1     | 5/5 |
| both_learn       | 6.64 (5.63 to 7.29)             | ≥ 3     | 5/5 |
| fewer_lucky      | 0.193 (0.171 to 0.212)          | ≥ 0     | 5/5 |
| same_gradient *  | 4.27e-16 (3.85e-16 to 5.91e-16) | ≤ 1e-09 | 5/5 |
| less_noise *     | 0.734 (0.719 to 0.748)          | ≤ 1     | 5/5 |
| sampled_labels * | -0.203 (-1.37 to 1.65)          | 0 ± 3   | 5/5 |
| labels_gap *     | 4.44e-16                        | ≤ 1e-12 | 5/5 |
| values_learnt *  | 0.163 (0.093 to 0.188)          | ≥ 0     | 5/5 |
| below_perfect *  | 0 (-5.55e-17 to 1.11e-16)       | ≤ 1e-09 | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `shaping_regret`: the text that is best by differences of values is best by the outcome (outcome less cost)
- `sum_padding`: the text that is best by the sum of its scores has padding in every free place (of the free
  places, fewest)
- `both_learn`: either reward makes held-out answers right more often than before, the smaller gain (standard
  errors)
- `fewer_lucky`: of the right answers, fewer come from wrong steps if steps were paid (of the right answers)
- `same_gradient`: outcome, outcome less value, and difference of values have the gradient of the value (of
  the gradient)
- `less_noise`: a difference of values is less noisy than the outcome less the value before the step (of its
  noise)
- `sampled_labels`: the sum of sampled soft labels is that of the exact values (standard errors)
- `labels_gap`: a soft label is the value on average, a hard one 1 - (1 - V)^K, at every beginning (of a
  label)
- `values_learnt`: on held-out problems the process model's outputs are nearer to the values than their mean
  is (of the variance explained)
- `below_perfect`: no verifier is right more often than one that knows the answer (of the answers)
</details>

<!-- /results -->

**Break it.** `rl break D8 summed`: the potential that stood before is not taken off.
`rl break D8 paid_for_both`: section 5's rewards swapped. Without an edit: `rl run D8 --outcome-rate 2e-3`.

**Exercises.**

<!-- exercises: D8 -->

*D8.1 · The heart of it* (35 minutes, medium). Write the value of every beginning, the outcome in instalments,
and what a step is credited with, from (1), (5) and (8). `rl exercise D8.prefix_values`, `rl exercise
D8.instalments`, `rl exercise D8.advantages`.

*D8.2 · One number for a chain* (20 minutes, easy). To choose the best of n, the scores of a chain's steps
must become one number. Three are in use: the score of the last step, the product of all
(`lightman2024verify`), and the weakest step (`wang2024mathshepherd`). Chains differ in length; what stands
behind a chain's end says nothing. Write all three. Which of them does padding raise, which does it lower, and
which leaves it alone? `rl exercise D8.chain_score`.

<details><summary>Answer</summary>

A step that is true and adds nothing scores what stood before it. It leaves the last score alone, and the
weakest; the product it lowers, since no score is above 1. Only a *sum* does it raise.
</details>

*D8.3 · With a discount* (20 minutes, medium). With $\gamma < 1$ the order of the chains is that of
$\gamma^{T-1} r$: sooner is better. Write rewards whose *discounted* sum telescopes (`ng1999shaping`):

$$\sum_{t=1}^T \gamma^{t-1} F_t = \gamma^{T-1} r - \Phi_0, \qquad
F_t = \gamma \Phi_t - \Phi_{t-1} \;\; (t < T)
\tag{E1}$$

What must $F_T$ be? And what would plain differences, eq. (5),
do to a text that waits? `rl exercise D8.discounted_instalments`.

<details><summary>Answer</summary>

$F_T = r - \Phi_{T-1}$: the outcome is paid with the last step itself. For waiting at a potential
$\Phi_t = \Phi_{t-1} > 0$ plain differences pay 0, where $\gamma \Phi_t - \Phi_{t-1} < 0$ is right. Waiting
then delays only $r - \Phi_{T-1}$, not all of $r$. So before a right answer ($r = 1$) it costs too little, and
before a wrong one ($r = 0$) it pays: what was earned early is taken back late, at a discount.
</details>

*D8.4 · A reward model that stays behind* (10 minutes, medium). A process reward model was trained on what the
policy wrote last week, and is kept while the policy learns. Which of the three weights in (6) still has the
gradient of the outcome, if each is made with last week's V?

<details><summary>Answer</summary>

The first two. $r$ needs no model, and $r - \Phi_{t-1}$ has a baseline that does not know step $t$, however
wrong it is. $\Phi_t - \Phi_{t-1}$ alone is the advantage under last week's policy: it credits a step with
what the old policy would have made of it. Kept for long, it is a reward that can be maximised against (D16).
</details>

*D8.5 · Find the bug* (10 minutes). `rl exercise D8.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
REWARDS = ("outcome", "differences", "sum")
LONGEST, COST = 8, 0.01  # most tokens of a text that may be padded, L, and what each costs, c


def claim_exact(values: list[Tensor], log: RunLog) -> None:
    """The best texts by three rewards, where every beginning's value is known."""
    for longest in range(running_sums.NUM_STEPS, LONGEST + 1):
        true = {}
        for kind in REWARDS:
            reward = partial(token_reward, kind=kind, cost=COST)
            _, outcome, length = padding.best_text(values, longest, reward)
            true[kind] = outcome - COST * length
            free = length - running_sums.NUM_STEPS
            log.write(longest, **{f"padding_{kind}": free.mean(), f"true_{kind}": true[kind].mean()})
    rule = {"source": "dynamic programming over all texts", "always": True, "seeds": "5/5"}
    says = "the text that is best by differences of values is best by the outcome"
    regret = (true["outcome"] - true["differences"]).max()
    log.claim("shaping_regret", says, regret, at_most=1e-9, unit="outcome less cost", **rule)
    says = "the text that is best by the sum of its scores has padding in every free place"
    share = free.min() / (LONGEST - running_sums.NUM_STEPS)
    log.claim("sum_padding", says, share, at_least=1.0, unit="of the free places, fewest", **rule)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    base = chains.DigitsOnly(load_model("tiny", running_sums_recipe(cfg.pretrain_steps)).model)
    held_out, known = (torch.from_numpy(running_sums.problems(held_out=part)) for part in (True, False))
    some = held_out[torch.randperm(len(held_out))[: cfg.num_exact]]
    values = prefix_values(chains.next_digit_probs(base, some), chains.every_outcome(some))
    claim_exact(values, log)
    task, right = chains.chains_task(known), chains.right_chains(known)
    for kind, rate in (("outcome", cfg.outcome_rate), ("process", cfg.process_rate)):
        policy, watch = copy.deepcopy(base), chains.watcher(kind, cfg.num_updates, cfg.seed, log)
        watch(base, 0)
        train(policy, task, right, kind, rate, cfg, log, kind, watch)
    gains = [log.last(f"{kind}_answers") - log.series(f"{kind}_answers")[1][0] for kind in KINDS]
    error = 0.5 / len(held_out) ** 0.5  # at most, of two shares of twice as many answers, subtracted
    says = "either reward makes held-out answers right more often than before, the smaller gain"
    rule = {"unit": "standard errors", "source": "the usual bar of significance"}
    log.claim("both_learn", says, min(gains) / error, at_least=3.0, **rule)
    says = "of the right answers, fewer come from wrong steps if steps were paid"
    sound = [log.last(f"{kind}_chains") / max(1e-9, log.last(f"{kind}_answers")) for kind in KINDS]
    rule = {"unit": "of the right answers", "source": "uesato2022process"}
    log.claim("fewer_lucky", says, sound[1] - sound[0], at_least=0.0, **rule)
    log.keep(base=base, digits=some, values=values, task=task, right=right)
    draw(log)


def draw(log: RunLog) -> None:
    """Padding against the longest text, and both rewards' learning curves."""
    figure, (bought, learnt) = plotting.new_figure(1, 2, width=6.2, height=4.6)
    styles = {"sum": ("o-", plotting.RED), "differences": ("s-", plotting.BLUE), "outcome": ("x--", "black")}
    for kind, (line, color) in styles.items():
        bought.plot(*log.series(f"padding_{kind}"), line, color=color, label=f"best by {kind}")
    bought.set(xlabel="most tokens of a text, L", ylabel="tokens of padding", title="What the best text buys")
    bought.legend()
    for kind, color in (("outcome", plotting.BLUE), ("process", plotting.ORANGE)):
        learnt.plot(*log.series(f"{kind}_answers"), color=color, label=f"{kind} reward: answers")
        learnt.plot(*log.series(f"{kind}_chains"), ":", color=color, label=f"{kind} reward: whole chains")
    learnt.set(xlabel="update", ylabel="held-out share right", ylim=(0, 1.03), title="What is learnt")
    learnt.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
