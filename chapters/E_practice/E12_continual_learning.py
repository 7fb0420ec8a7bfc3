# %% [markdown]
r"""
# E12 · Learning one thing after another

**Question.** A network has learnt one task and now learns the next. What becomes of the first, and what keeps
it: old data, old weights, or the old network's answers?

**Before this:** A3 (values by a linear solve), C1 (policy gradients). **Changes from C1:** the task changes
under way, and the return is computed, not sampled. **Next:** E2, projects of your own.

**Time.** 25 s on 2 cores; with all evidence 180 s.

References: `mccloskey1989catastrophic`, `lopezpaz2017gem`, `chaudhry2018walk`, `kirkpatrick2017ewc`,
`huszar2018note`, `kunstner2019limitations`, `li2016lwf`, `rolnick2019clear`, `rusu2016progressive`,
`ouyang2022instructgpt`.

Symbols: $R_{ij}$ score on task $j$ after learning tasks 1 to $i$, of $T$; $\theta$ weights, $\theta^\ast$
those at the end of a task; $F$ the Fisher information, $\lambda$ how strongly the old is kept;
$p_\theta(y \mid x)$ the chance of an answer $y$ (here an action) to an input $x$.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.maps import forgetting_maps
from chapters.exact.goals import GOALS, Task, goal_task
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.networks import tanh_mlp
from chapters.utils.optim import Adam

TITLES = {"nothing": "No remedy", "replay": "Replay", "ewc": "EWC", "distil": "Distillation"}
Matrix = Float[np.ndarray, "T T"]
Weights = list[Tensor]  # one for each parameter of a network, in its shape
Penalty = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Config:
    """A small network that learns to reach three goals, one after another."""

    seed: int = 0
    """Seed of the first weights, and of what replay keeps."""
    num_steps: Annotated[int, in_range(1, 100_000)] = 200
    """Gradient steps for each task."""
    lr: Annotated[float, in_range(1e-6, 1.0)] = 0.01
    """Adam's step size; it begins anew with each task."""
    hidden: Annotated[int, in_range(1, 1000)] = 32
    """Units of the hidden layer."""
    replay: Annotated[float, in_range(0.0, 1e6)] = 0.1
    """Strength of replay. This and the next two: best of a short grid on seed 0, which the evidence shows."""
    ewc: Annotated[float, in_range(0.0, 1e9)] = 100.0
    """Strength of elastic weight consolidation."""
    distil: Annotated[float, in_range(0.0, 1e6)] = 1.0
    """Strength of distillation to the old network."""


SMOKE = {"num_steps": 3, "hidden": 4}

# %% [markdown]
r"""
## 1. Forgetting, measured

`mccloskey1989catastrophic` taught a network sums with 1, then sums with 2, and the first were gone. Nothing
in a new loss speaks of the old one. To measure it, test *all* tasks after each. That gives the **forgetting
matrix** $R$: row $i$ is when, column $j$ is what. From it come average accuracy and backward transfer
(`lopezpaz2017gem`), and forgetting (`chaudhry2018walk`):

$$\mathrm{ACC} = \frac{1}{T} \sum_j R_{Tj}, \quad
\mathrm{BWT} = \frac{1}{T - 1} \sum_{j < T} (R_{Tj} - R_{jj}), \quad
\mathrm{FGT} = \frac{1}{T - 1} \sum_{j < T} \Bigl( \max_{l < T} R_{lj} - R_{Tj} \Bigr) \tag{1}$$

Backward transfer compares with the score when a task had just been learnt, forgetting with the best there
ever was. Neither says whether anything was learnt: who stands still forgets nothing.

```python
>>> R = np.array([[0.9, 0.2, 0.1], [1.0, 0.8, 0.3], [0.3, 0.7, 1.0]])
>>> [round(float(measure(R)), 3) for measure in (average_accuracy, backward_transfer, forgetting)]
[0.667, -0.35, 0.4]
```

Task 1 rose from 0.9 to 1.0 before it was lost: forgetting counts 0.7 for it, backward transfer -0.6.
"""


# %%
def average_accuracy(R: Matrix) -> float:
    """Mean score over all tasks at the end."""
    return R[-1].mean()  # eq. (1), left


def backward_transfer(R: Matrix) -> float:
    """Mean change of the earlier tasks' scores since each was learnt; below 0 if they were forgotten."""
    return (R[-1] - np.diag(R))[:-1].mean()  # eq. (1), middle


def forgetting(R: Matrix) -> float:
    """Mean loss of the earlier tasks' scores since each was at its best."""
    return (R[:-1, :-1].max(axis=0) - R[-1, :-1]).mean()  # eq. (1), right


# %% [markdown]
r"""
## 2. Three goals

Our world is a grid of 21 cells. In each task another corner is the goal: reaching it pays 1 and ends the
episode, which begins anywhere. The policy is a network that is told the cell *and which goal is meant*, so
one network can do all three. What it earns need not be sampled. With $P_\pi$ and $R_\pi$ the moves and the
rewards under a policy $\pi$ (A3) and $\mu$ the chances of the first cell, it is

$$J(\pi) = \mu \cdot (I - \gamma P_\pi)^{-1} R_\pi \tag{2}$$

and automatic differentiation of (2), in `goal_task`, is the policy gradient of C1 without its noise:
whatever a score loses here, it loses by forgetting. A **score** is the share of what the best policy gains
over a random walk. 1 is best; below 0 is worse than the walk, such as running to the wrong goal.
"""

# %% [markdown]
r"""
## 3. Old weights: elastic weight consolidation

Bayes' rule says what an old task should leave behind. After the data 1 and 2 of two tasks one believes

$$\log p(\theta \mid 1, 2) = \log p(2 \mid \theta) + \log p(\theta \mid 1) + \text{const} \tag{3}$$

In (3) the old data come in only through $\log p(\theta \mid 1)$. **Elastic weight consolidation** (EWC,
`kirkpatrick2017ewc`) puts a parabola in its place, about where the old task ended, $\theta^\ast$, and with a
curvature $\Lambda$. With the new loss $\mathcal L_2 = -\log p(2 \mid \theta)$ it lowers

$$\mathcal L_2(\theta) + \tfrac\lambda2 (\theta - \theta^\ast)^\top \Lambda (\theta - \theta^\ast) \tag{4}$$

If losses *are* parabolas with curvatures $A$ and $B$, then $\Lambda = A$ and $\lambda = 1$ lose nothing: (4)
is the sum of both losses, up to a constant. Before a third task, add $B$ to $\Lambda$ and move $\theta^\ast$
to where you are: one parabola holds all that was. (A parabola for each task, about that task's own end,
counts the older twice, `huszar2018note`.) A million weights allow no full matrix, so EWC keeps the diagonal
of $A$. That loses nothing if weights do not interact; if they do, exercise 2 tells exactly how much.
"""


# %%
def fold(
    curvatures: Float[np.ndarray, "T K K"], lowest: Float[np.ndarray, "T K"], diagonal: bool = False
) -> Float[np.ndarray, " K"]:
    """Where (4) ends after parabolas, one after another; with the diagonal of each alone, if asked."""
    kept = [np.diag(np.diag(one)) if diagonal else one for one in curvatures]
    weights, precision = lowest[0], kept[0]
    for i in range(1, len(lowest)):
        pull = precision @ weights + curvatures[i] @ lowest[i]
        weights = np.linalg.solve(precision + curvatures[i], pull)  # eq. (4), where its slope is 0
        precision = precision + kept[i]
    return weights


# %% [markdown]
r"""
## 4. Which weights matter: the Fisher information

A network's loss is no parabola. EWC takes for its curvature the **Fisher information**, the mean square of
the slopes of $\log p_\theta$ when *the model itself* gives the answers:

$$F_{kk} = \mathbb E_x \sum_y p_\theta(y \mid x) \left( \frac{\partial \log p_\theta(y \mid x)}{\partial
\theta_k} \right)^2, \qquad
\mathbb E_x \mathrm{KL}(p_{\theta^\ast} \| p_\theta) = \tfrac12 (\theta - \theta^\ast)^\top F\, (\theta -
\theta^\ast) + \dots \tag{5}$$

On the right is why: $F$ is the curvature of the Kullback–Leibler (KL) divergence from the old network. With
few answers the sum over $y$ is exact. Two things that repositories compute instead bear the same name.

* **The empirical Fisher**: squares of slopes for the *labels*, another matrix unless labels are drawn as
  the model would (`kunstner2019limitations`). For one logit, sure of the right label with chance $p$, the
  true one is $p\,(1 - p)$, the empirical $(1 - p)^2$.
* **The batch-mean "Fisher"**: the square of a batch's *mean* slope, since that is what `backward` leaves.
  For the model's own answers slopes are 0 on average, so a mean of $B$ has the mean square $F/B$: 3 % at 32.

**A model that is sure has no Fisher.** As $p \to 1$, $p\,(1 - p) \to 0$, and (4) keeps nothing. The parabola
is right, very near $\theta^\ast$; the KL it stands for is flat there and rises steeply further out.

```python
>>> old, new = torch.tensor([[8.0, 0.0], [-8.0, 0.0]]).log_softmax(dim=1)[:, None]  # sure, and changed
>>> p = old[0, 0].exp()
>>> round((p * (1 - p) / 2 * 16**2).item(), 3), round(kl(old, new).item(), 1)  # parabola, and divergence
(0.043, 8.0)
```
"""


# %%
def fisher(model: nn.Module, inputs: Tensor, labels: Int[Tensor, " N"] | None = None) -> Weights:
    """The diagonal of F, exact over all answers; for labels, the empirical one."""
    parameters = list(model.parameters())
    found = [torch.zeros_like(one) for one in parameters]
    for i in range(len(inputs)):
        log_probs = model(inputs[i : i + 1])[0].log_softmax(dim=0)  # [C]
        each = torch.eye(len(log_probs)).to(log_probs)
        slopes = torch.autograd.grad(log_probs, parameters, each, is_grads_batched=True)  # [C, *shape] each
        weights = log_probs.exp().detach() if labels is None else each[labels[i]]
        for total, slope in zip(found, slopes):
            total += torch.einsum("c,c...->...", weights, slope**2) / len(inputs)  # eq. (5)
    return found


def ewc_penalty(model: nn.Module, anchor: Weights, precision: Weights) -> Tensor:
    """Half the squared distance of the weights from where they were, each as it matters."""
    parts = zip(model.parameters(), anchor, precision)
    return sum((matters * (now - old) ** 2).sum() for now, old, matters in parts) / 2  # eq. (4)


def kl(old: Float[Tensor, "N C"], new: Float[Tensor, "N C"]) -> Tensor:
    """KL(old || new) in nats, mean over inputs, from log-probabilities of all answers."""
    return (old.exp() * (old - new)).sum(dim=1).mean()


# %% [markdown]
r"""
## 5. Old data, old answers, and the loop

**Replay** keeps a share of the old inputs with what the network answered when it could, and goes on
training on them. `rolnick2019clear` does so for policies. InstructGPT mixes texts of pretraining into
proximal policy optimisation (PPO-ptx, `ouyang2022instructgpt`): that is replay.

**Distillation** (learning without forgetting, `li2016lwf`) keeps no old answers. It asks the *old network*
what it would do in each cell, were the old goal meant, and stays near by the KL of (5) itself, not its
parabola. The penalty that ties a policy to its reference (D2, D15) is the same idea with the KL turned round,
but asks only about *new* prompts. With $x_m, y_m$ what replay kept and $x$ all old inputs, each old task adds

$$\lambda\, \mathbb E_m \bigl[ -\log p_\theta(y_m \mid x_m) \bigr], \qquad \lambda\, \mathbb E_x\,
\mathrm{KL}\bigl( p_{\theta^\ast}(\cdot \mid x) \,\|\, p_\theta(\cdot \mid x) \bigr) \tag{6}$$

A fourth way gives each task columns of its own and freezes the old ones (`rusu2016progressive`): nothing can
be forgotten, and the network grows.
"""


# %%
def remember(model: nn.Module, inputs: Tensor, share: float = 0.25) -> tuple[Tensor, Int[Tensor, " M"]]:
    """(some of the inputs, the likeliest answer to each): a random share, none of them twice."""
    rows = torch.randperm(len(inputs))[: round(share * len(inputs))]
    return inputs[rows], model(inputs[rows]).argmax(dim=1)


def replay(model: nn.Module, learnt: list[Task], kept: list) -> Penalty:
    kept.append(remember(model, learnt[-1].inputs))
    memory = tuple(kept)
    return lambda model: sum(nn.functional.cross_entropy(model(x), y) for x, y in memory)  # eq. (6), left


def ewc(model: nn.Module, learnt: list[Task], kept: list) -> Penalty:
    kept.append(fisher(model, learnt[-1].inputs))
    precision = [sum(parts) for parts in zip(*kept)]
    anchor = [one.detach().clone() for one in model.parameters()]
    return partial(ewc_penalty, anchor=anchor, precision=precision)


def distil(model: nn.Module, learnt: list[Task], kept: list) -> Penalty:
    inputs = torch.cat([task.inputs for task in learnt])
    old = model(inputs).log_softmax(dim=1).detach()
    return lambda model: len(learnt) * kl(old, model(inputs).log_softmax(dim=1))  # eq. (6), right


REMEDIES = {"nothing": lambda *_: lambda model: 0.0, "replay": replay, "ewc": ewc, "distil": distil}


def train(model: nn.Module, losses: list[tuple[float, Penalty]], num_steps: int, lr: float) -> None:
    """Lower the sum of losses, each with its weight, by an Adam that knows nothing of earlier tasks."""
    optimizer = Adam(model.parameters(), lr=lr)
    for _ in range(num_steps):
        optimizer.zero_grad()
        sum(weight * loss(model) for weight, loss in losses).backward()
        optimizer.step()


def learn_in_turn(
    model: nn.Module, tasks: list[Task], remedy: str | Callable, strength: float, num_steps: int, lr: float
) -> Matrix:
    """R of a model, changed by it; remedy: (model, learnt, its own list) -> what is added, or its name."""
    R, kept = np.zeros((len(tasks), len(tasks))), []
    penalty = REMEDIES["nothing"]()
    for i in range(len(tasks)):
        train(model, [(1.0, tasks[i].loss), (strength, penalty)], num_steps, lr)
        R[i] = [task.score(model) for task in tasks]
        penalty = REMEDIES.get(remedy, remedy)(model, tasks[: i + 1], kept)
    return R


# %% [markdown]
r"""
## 6. Look, break, write

![Four forgetting matrices: without a remedy a task is lost when the next is learnt](results/E12.png)

Medians over seeds. Without a remedy the policy runs to the newest goal whichever is meant: at the end it is
worse at the old ones than a random walk. What replay keeps depends on which five cells of twenty it drew.

![Average accuracy of policies and of a language model with each remedy](results/E12_remedies.png)

A dot is a seed, a bar the median, a thin line the interval of B8. (The dot near 0 on the left is a policy so
sure of the old goal that it hardly learnt the last.) Right: a small GPT-2 learns three tables modulo 7 (`3 +
5 =`; sums, differences, products). Replay keeps the quarter that it replays and guesses the rest: unlike
cells of a room, entries of a table tell nothing of each other. EWC wins back little, even with the whole
matrix $F$, at any strength tried. Left, last row: a KL penalty that asks about *new* inputs alone, as that
to a policy's reference does, holds the new goal back and still loses much of the old.

![The KL of one logit and its parabola; a trace of F that vanishes](results/E12_sure.png)

Left, a sure logit's parabola stays near 0 where its KL rises. It, not the diagonal, fails the tables: the KL
itself keeps nearly all. Right, as doubt vanishes so does $F$: what $\lambda$ means depends on when you stop.

![Average accuracy against the strength of each remedy](results/E12_strengths.png)

Each remedy had three strengths to choose from, by seed 0 alone, and as many steps from the same weights. For
the policy (shown) EWC is best in the middle; for the tables none of its three was enough. Replay scatters.

**The verdict.** The first task is lost unless the loss speaks for it. The old network's answers to old
questions speak best, old data for what they cover. Old weights did for the policy and failed the language
model, without a sign before it was too late. So keep old prompts, or an old model that can be asked them.

<!-- results: E12 -->

`rl run E12`: 14 s; with `--evidence`: 89 s, 1245 MB; with `--smoke --evidence`: 19 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| ewc_is_joint           | 4.44e-16 (1.11e-16 to 7.77e-16) | ≤ 1e-09       | 5/5 |
| goals_forgotten        | 1.13 (1.08 to 1.15)             | ≥ 0.5         | 5/5 |
| goals_replay           | 0.875 (0.706 to 0.969)          | ≥ 0.2301      | 5/5 |
| goals_ewc              | 0.99 (0.988 to 0.991)           | ≥ 0.9497      | 5/5 |
| goals_distil           | 0.999                           | ≥ 0.9497      | 5/5 |
| diagonal_loss *        | 8.88e-15 (7.11e-15 to 1.07e-14) | ≤ 1e-09       | 5/5 |
| kl_curvature *         | 3.47e-05 (2.64e-05 to 5.66e-05) | ≤ 0.001       | 5/5 |
| batch_mean_32 *        | 0.997 (0.943 to 1.01)           | 1 ± 0.15      | 5/5 |
| batch_mean_128 *       | 1.02 (0.978 to 1.02)            | 1 ± 0.15      | 5/5 |
| empirical_when_sure *  | 1.11e-13                        | ≤ 1e-09       | 5/5 |
| empirical_when_drawn * | 4.44e-16                        | ≤ 1e-09       | 5/5 |
| goals_reference *      | 0.531 (0.526 to 0.535)          | ≤ 0.9994      | 5/5 |
| tables_forgotten *     | 0.878 (0.776 to 0.878)          | ≥ 0.5         | 5/5 |
| tables_replay_kept *   | 0.347 (0.306 to 0.398)          | 0.3528 ± 0.12 | 5/5 |
| tables_ewc_share *     | 0.093 (0.0233 to 0.174)         | ≤ 0.5         | 5/5 |
| tables_whole_share *   | 0.116 (0.0116 to 0.337)         | ≤ 0.5         | 5/5 |
| tables_distil_share *  | 0.93 (0.756 to 1)               | ≥ 0.5         | 5/5 |
| fisher_fades *         | 0.955 (0.769 to 1)              | 1 ± 0.3       | 5/5 |
| parabola_foresees *    | 0.00012 (4.76e-05 to 0.00304)   | ≤ 0.1         | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `ewc_is_joint`: three random parabolas one after another, all curvatures kept: EWC ends at the joint minimum
  (largest difference of a weight)
- `goals_forgotten`: without a remedy more than half of what was gained is lost (of the best gain, mean of the
  earlier tasks)
- `goals_replay`: replay of a quarter keeps more than no remedy (average accuracy at the end)
- `goals_ewc`: EWC ends nearly where learning all together does (average accuracy at the end)
- `goals_distil`: distillation ends nearly where learning all together does (average accuracy at the end)
- `diagonal_loss`: the diagonal alone ends above the joint minimum by what exercise 2 tells (largest
  difference of a loss, of 20)
- `kl_curvature`: along single weights the KL divergence is half the Fisher information times the step's
  square (largest relative gap, of the five weights of each tensor that matter most)
- `batch_mean_32`: the squared mean slope of 32 answers is one part in 32 of the Fisher information (of 1 /
  32, traces, mean of batches)
- `batch_mean_128`: the squared mean slope of 128 answers is one part in 128 of the Fisher information (of 1 /
  128, traces, mean of batches)
- `empirical_when_sure`: for its right label a model sure by p has (1 - p) / p of the Fisher information
  (largest relative gap, of four)
- `empirical_when_drawn`: for labels that it draws itself both are one, on average (largest relative gap, of
  four)
- `goals_reference`: a KL penalty that asks about new inputs alone ends below distillation, the better of two
  strengths (average accuracy at the end)
- `tables_forgotten`: without a remedy a language model loses more than half of the tables it had learnt
  (accuracy, mean of the earlier tables)
- `tables_replay_kept`: replay of a quarter keeps that quarter of a table; the rest is guessed (accuracy at
  the end, mean of the earlier tables)
- `tables_ewc_share`: EWC wins back less than half of what was lost (of joint training's average accuracy,
  both less that of no remedy)
- `tables_whole_share`: so does EWC with the whole Fisher matrix (of joint training's average accuracy, both
  less that of no remedy)
- `tables_distil_share`: distillation wins back more than half (of joint training's average accuracy, both
  less that of no remedy)
- `fisher_fades`: a language model that goes on training on one table loses its Fisher information with its
  doubt (slope of the trace against the doubt, log-log)
- `parabola_foresees`: a parabola with all of its Fisher matrix does not foresee a tenth of what the next
  table does to it (of the KL divergence that came)
</details>

<!-- /results -->

**Break it.** `rl break E12 batch_mean`: the model's own slopes cancel, and EWC keeps nothing. `rl break E12
about_zero`: EWC becomes weight decay. `rl break E12 asks_itself`: the KL of a network from itself is 0.

**Exercises.**

<!-- exercises: E12 -->

*E12.1 · Three numbers and two penalties* (35 minutes, medium). Write the three measures of (1), the Fisher
information of (5), and the penalty of (4). `rl exercise E12.average_accuracy`, `rl exercise
E12.backward_transfer`, `rl exercise E12.forgetting`, `rl exercise E12.fisher`, `rl exercise E12.ewc_penalty`.

*E12.2 · What the diagonal loses* (15 minutes, medium). Two losses are parabolas with curvatures $A$ and $B$,
the first lowest at $a$. Let $D$ be the diagonal of $A$, and $\theta$ where (4) ends with $\Lambda = D$,
$\lambda = 1$. The slope of the new loss and of the penalty add up to 0 there, so the joint loss has the slope
$g = (A - D)(\theta - a)$. It is a parabola with curvature $A + B$, so $\theta$ lies above its minimum by

$$\tfrac12\, g^\top (A + B)^{-1} g \tag{E1}$$

Write it. When is it nothing, and when is it large? `rl exercise E12.diagonal_loss`.

<details><summary>Answer</summary>

Nothing where $A$ is diagonal, and nothing if the new task leaves the old weights where they were,
$\theta = a$. Large where the old loss is a narrow valley that lies aslant: seen along the axes its walls look
as steep in all directions, so the way along the valley floor, which costs nothing, is barred.
</details>

*E12.3 · A parabola for each task* (20 minutes, hard). As first published, EWC keeps one parabola for each old
task, about where that task *ended*. With parabolas for losses and all of their curvatures, write where it
ends. With two tasks it is the joint minimum. Is it with three? `rl exercise E12.own_centres`.

<details><summary>Answer</summary>

No. The second task's end already lies where the first one pulls it. A parabola about the first task's end
pulls there once more, so the first task counts twice, and the third less than it should (`huszar2018note`).
</details>

*E12.4 · Sure of everything* (10 minutes, medium). You fine-tune a language model on a task until it answers
everything right with a chance of 0.9999, compute the Fisher information, and go on to the next task with EWC.
It forgets. A friend says: multiply $\lambda$ by 10,000. What happens, and what would you do?

<details><summary>Answer</summary>

The parabola's *scale* comes back, its *shape* does not: it measures how the KL bends within the small region
where the model is sure, and the weights leave that region. A strength that holds them inside it lets nothing
new be learnt, one that lets them out holds nothing. Stay near in answers instead: ask the old model, or keep
old prompts. If only weights can be kept, the Fisher information of an earlier, less certain network is
larger; whether its shape is the right one is for you to measure.
</details>

*E12.5 · Find the bug* (10 minutes). `rl exercise E12.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    roots, lowest = rng.normal(size=(3, 6, 6)), rng.normal(size=(3, 6))
    curvatures = roots @ roots.transpose(0, 2, 1)
    joint = np.linalg.solve(curvatures.sum(axis=0), np.einsum("tkl,tl->k", curvatures, lowest))
    log.claim(
        "ewc_is_joint",
        "three random parabolas one after another, all curvatures kept: EWC ends at the joint minimum",
        np.abs(fold(curvatures, lowest) - joint).max(),
        at_most=1e-9,
        unit="largest difference of a weight",
        source="the joint minimum by a linear solve",
        always=True,
    )
    tasks = [goal_task(number) for number in range(len(GOALS))]
    first = tanh_mlp([25 + len(GOALS), cfg.hidden, 4], last_gain=0.01)
    strengths = {"nothing": 0.0, "replay": cfg.replay, "ewc": cfg.ewc, "distil": cfg.distil}
    found = {
        remedy: learn_in_turn(copy.deepcopy(first), tasks, remedy, strength, cfg.num_steps, cfg.lr)
        for remedy, strength in strengths.items()
    }
    train(first, [(1.0, task.loss) for task in tasks], len(tasks) * cfg.num_steps, cfg.lr)  # all together
    found["joint"] = np.array([[task.score(first) for task in tasks]])
    for remedy, R in found.items():
        for i in range(len(R)):
            log.write(i, **{f"goals_{remedy}_{j}": R[i, j] for j in range(len(GOALS))})
    claim_goals(found, log)
    log.figure(forgetting_maps([log.metrics], "goals", TITLES))


def claim_goals(found: dict[str, np.ndarray], log: RunLog) -> None:
    log.claim(
        "goals_forgotten",
        "without a remedy more than half of what was gained is lost",
        forgetting(found["nothing"]),
        at_least=0.5,
        unit="of the best gain, mean of the earlier tasks",
        source="what catastrophic is to mean here",
    )
    low, best = average_accuracy(found["nothing"]), found["joint"].mean()
    for remedy, says, bound, source in (
        (
            "replay",
            "replay of a quarter keeps more than no remedy",
            low,
            "no remedy's, from the same weights",
        ),
        ("ewc", "EWC ends nearly where learning all together does", 0.95 * best, "joint training"),
        (
            "distil",
            "distillation ends nearly where learning all together does",
            0.95 * best,
            "joint training",
        ),
    ):
        score, unit = average_accuracy(found[remedy]), "average accuracy at the end"
        log.claim(f"goals_{remedy}", says, score, at_least=bound, unit=unit, source=source)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
