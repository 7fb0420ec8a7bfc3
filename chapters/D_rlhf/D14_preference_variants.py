# %% [markdown]
r"""
# D14 · After DPO: other losses, fresher pairs, and length

**Question.** Direct preference optimisation (DPO) has many successors. What does each of them change: where
does it end, which pairs does it learn from, and what does the length of an answer do to it?

**Before this:** D4 (DPO, and labels that miss its optimum), D16 (a learnt reward under pressure). **Changes
from D4:** the loss has knobs now, and pairs may be written by the policy itself. **Next:** D5 needs no pairs.

**Time.** 20 s on 2 cores; with all evidence 80 s.

References: `azar2024ipo`, `ethayarajh2024kto`, `meng2024simpo`, `pang2024rpo`, `guo2024online`,
`park2024length`.

Symbols: $s$ score, $|y|$ tokens of an answer, $\rho$, $k$, $\gamma$, $\alpha$ knobs, $p$ label, $q$ chance to
be liked, $z$ reference point, $c$ a constant of the prompt; $h$ log-ratio to the reference, $\beta$ as in D4.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.token_world import TokenWorld, token_world
from chapters.exact.preferences import centred_by_length, chance_to_win, kto_end, solve_sum_to_one
from chapters.text.charts import draw_ends_and_ways
from chapters.text.listed import Pairs, list_log_probs, minibatches, sample_pairs
from chapters.text.tasks import gap_watcher
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.optim import Adam

Both, Vector = Float[Tensor, "B 2"], Float[Tensor, " B"]  # a number for each of a pair, or for each pair
Table = Float[Tensor, "N M"]  # a number for each answer to each prompt of the token world
SMALL = {"num_symbols": 3, "length": 6}  # a world of 127 answers: every pair of them can be listed


@dataclass(frozen=True)
class Config:
    """DPO's successors on token worlds whose optimum is known."""

    seed: int = 0
    """Seed of the worlds and of all sampling."""
    beta: Annotated[float, in_range(1e-3, 100.0)] = 0.5
    """Weight of the Kullback–Leibler (KL) penalty in the objective whose optimum is sought."""
    token_beta: Annotated[float, in_range(1e-3, 100.0)] = 2.0
    """The same where a score is a mean over tokens: it is smaller than a sum."""
    learning_rate: Annotated[float, in_range(1e-6, 10.0)] = 0.1
    """Adam's step size at the start; it falls to 0 in a line."""
    num_pairs: Annotated[int, in_range(2, 10_000_000)] = 20_000
    """Fixed pairs, each labelled once."""
    batch_size: Annotated[int, in_range(2, 1_000_000)] = 500
    """B: pairs in a gradient step."""
    num_epochs: Annotated[int, in_range(2, 1000)] = 20
    """Passes over the fixed pairs, in the longest training; online DPO takes as many steps."""
    length_bonus: Annotated[float, in_range(0.0, 10.0)] = 0.2
    """What each token of an answer is worth to a judge who likes long ones."""


SMOKE = {"num_pairs": 40, "batch_size": 20, "num_epochs": 2}

# %% [markdown]
r"""
## 1. One loss with four knobs

D4's loss compares two answers by their *scores*, $\beta (\log \pi - \log \pi_\text{ref})$. With two switches:

$$s(y) = \beta\, \frac{\log \pi(y \mid x) - \rho \log \pi_\text{ref}(y \mid x)}{|y|^k} \tag{1}$$

DPO has $\rho = 1$ and $k = 0$. With $k = 1$ it is *length-normalised*, a mean over tokens. SimPO (simple
preference optimisation, `meng2024simpo`) has $\rho = 0$ and $k = 1$: no reference is kept in memory. A third
knob asks for a margin $\gamma$; $p$ is the chance that the first answer is preferred:

$$L = -p \log \sigma(s_w - s_l - \gamma) - (1 - p) \log \sigma(s_l - s_w - \gamma) \tag{2}$$

D4 saw the chosen answers become *less* likely. A fourth knob adds their negative log-likelihood, with a
weight $\alpha$ (as in reasoning preference optimisation, RPO, of `pang2024rpo`):

$$L_\text{SFT} = -\frac{\sum p \log \pi(y_w) + (1 - p) \log \pi(y_l)}
{\sum p\,|y_w| + (1 - p)\,|y_l|} \tag{3}$$

SFT is supervised fine-tuning; the sums run over a batch. *By hand*, with log-ratios 1 and -2, $\beta = 0.5$:

```python
>>> log_probs, reference = torch.tensor([[-2.0, -6.0]]), torch.tensor([[-3.0, -4.0]])
>>> lengths = torch.tensor([[2, 4]])
>>> [score(log_probs, reference, lengths, 0.5, loss).tolist()[0] for loss in (DPO, NORMALISED, SIMPO)]
[[0.5, -1.0], [0.25, -0.25], [-0.5, -0.75]]
>>> logistic_loss(torch.tensor([[0.25, -0.25]]), torch.ones(1), margin=0.5)  # just the margin: log 2
tensor([0.6931])
```

Count the *answer's* tokens alone: the prompt's cancel in a sum (D4), but would make the divisor larger.
"""


# %%
class Loss(NamedTuple):
    """The knobs."""

    reference: bool = True  # rho: 1 or 0
    per_token: bool = False  # k: 1 or 0
    margin: float = 0.0  # gamma
    sft: float = 0.0  # alpha, weight of the chosen answers' likelihood


DPO, NORMALISED, SIMPO, RPO = Loss(), Loss(per_token=True), Loss(False, True), Loss(sft=1.0)


def answer_lengths(world: TokenWorld) -> Int[Tensor, " M"]:
    """|y| of every answer, the end-of-sequence token included."""
    return world.completion_mask.sum(dim=1)


def score(log_probs: Both, ref_log_probs: Both, lengths: Int[Tensor, "B 2"], beta: float, loss: Loss) -> Both:
    """What the loss compares."""
    kept = log_probs - ref_log_probs if loss.reference else log_probs
    return beta * kept / lengths if loss.per_token else beta * kept  # eq. (1)


def logistic_loss(scores: Both, labels: Vector, margin: float = 0.0) -> Vector:
    """Minus the log-likelihood of the labels, each side asked for a margin."""
    gap = scores[:, 0] - scores[:, 1]
    return -labels * F.logsigmoid(gap - margin) - (1 - labels) * F.logsigmoid(-gap - margin)  # eq. (2)


def likelihood_loss(
    log_probs: Both, lengths: Int[Tensor, "B 2"], labels: Vector, weights: Vector
) -> Float[Tensor, ""]:
    """Minus the mean log-probability of a token of the chosen answers."""
    chosen = weights[:, None] * torch.stack([labels, 1 - labels], dim=1)  # [B, 2]
    return -(chosen * log_probs).sum() / (chosen * lengths).sum()  # eq. (3)


# %% [markdown]
r"""
## 2. Where each of them ends

Let the labels be Bradley and Terry's chances and any pair possible. With $\gamma = 0$ the loss (2) of a pair
is least where $s_w - s_l = r_w - r_l$, so that of all pairs where $s = r + c$. Solved for the policy:

$$\log \pi(y \mid x) = \rho \log \pi_\text{ref}(y \mid x)
+ \tfrac{1}{\beta} |y|^k \bigl(r(x, y) + c(x)\bigr) \tag{4}$$

and $c$ makes it sum to 1. DPO ends at D4's optimum. Length-normalised, a long answer is tilted more, up or
down. SimPO has lost the reference: what that never wrote, being no language, is as welcome as any other.

Identity preference optimisation (IPO, D4) has a squared margin. It tilts by an answer's chance to win over
the reference's, which is at most 1 however sure the labels are (`azar2024ipo`):

$$h(y) = \tfrac{1}{\beta} P(y \succ y'), \quad y' \sim \pi_\text{ref}, \quad \text{up to a constant} \tag{5}$$

KTO (Kahneman-Tversky optimisation, `ethayarajh2024kto`) needs no pairs. Someone liked an answer or not:

$$L_\text{KTO} = 1 - \sigma\bigl(\pm \beta (h - z)\bigr), \quad + \text{ if it was liked}, \quad
z = \max(0, \operatorname{mean} h) \tag{6}$$

The *reference point* $z$ stands for $\mathrm{KL}(\pi \Vert \pi_\text{ref})$: a mean over answers that belong
to *other* prompts, and a constant, without a gradient. If $y$ is liked with chance $q$, (6) is on average a
constant minus $(2q - 1)\,\sigma(\beta(h - z))$. For $q < \frac12$ the loss falls as $h$ does: the answer is
lost. For the others the sum to 1 sets an end, with one Lagrange multiplier $e^{-c}$ for them all:

$$(2q - 1)\,\beta\,\sigma'\bigl(\beta (h - z)\bigr) = e^{\,h - c} \tag{7}$$

*By hand.* Rewards 0 and $\log 3$, equally likely: DPO ($\beta = 1$) trebles the odds, KTO keeps one answer.

```python
>>> half, rewards = torch.full((1, 2), 0.5).log(), torch.tensor([[0.0, 1.0986]])
>>> short = torch.tensor([1, 2])
>>> logistic_end(rewards, half, short, 1.0, DPO).exp()
tensor([[0.2500, 0.7500]], dtype=torch.float64)
>>> kto_end(torch.tensor([[0.4, 0.6]]), half, 1.0).exp()
tensor([[0., 1.]])
```
"""


# %%
def logistic_end(
    rewards: Table, ref_log_probs: Table, lengths: Int[Tensor, " M"], beta: float, loss: Loss
) -> Table:
    """Where (2) with gamma = 0 ends."""
    tokens = lengths if loss.per_token else torch.ones_like(lengths)
    start = ref_log_probs if loss.reference else torch.zeros_like(ref_log_probs)
    return solve_sum_to_one(lambda c: start + tokens * (rewards + c) / beta)  # eq. (4)


def ipo_end(chances: Table, ref_log_probs: Table, beta: float) -> Table:
    """Where IPO ends, from each answer's chance to win."""
    return (ref_log_probs + chances / beta).log_softmax(dim=1)  # eq. (5)


def kto_loss(log_ratios: Vector, liked: Vector, point: Float[Tensor, ""], beta: float) -> Vector:
    """Loss of each answer; `liked` is 1 or 0, or the chance of it."""
    gain = (beta * (log_ratios - point)).sigmoid()
    return liked * (1 - gain) + (1 - liked) * gain  # eq. (6), left


def reference_point(log_ratios: Vector) -> Float[Tensor, ""]:
    """z from the log-ratios of answers that were written for other prompts."""
    return log_ratios.detach().mean().clamp(min=0.0)  # eq. (6), right


# %% [markdown]
r"""
## 3. Which pairs: fixed, or the policy's own

D4's pairs were written by the reference, once; what is learnt by heart from them, no other pair corrects.
*Online* DPO (`guo2024online`) has the policy write each batch as it is now; *iterative* DPO, new pairs every
few thousand. The end stays: (2) is least at (4) if every pair can occur. The reference must stay, too. If
each round took the last policy for it, the tilts would add up, after $K$ rounds to that of $\beta / K$.
"""


# %%
def own_pairs(world: TokenWorld, size: int, generator: torch.Generator) -> Callable[[Table], Pairs]:
    """`draw(log_probs)`: pairs that the policy writes now, one sampled label on each."""
    return lambda log_probs: sample_pairs(log_probs, world.rewards, size, generator)


def pair_loss(
    log_probs: Table, ref_log_probs: Table, lengths: Int[Tensor, " M"], pairs: Pairs, beta: float, loss: Loss
) -> Float[Tensor, ""]:
    """(2), and (3) if it has a weight, of pairs."""
    ours, theirs = (table[pairs.prompts, pairs.rows] for table in (log_probs, ref_log_probs))  # [B, 2]
    counts = lengths[pairs.rows]
    losses = logistic_loss(score(ours, theirs, counts, beta, loss), pairs.labels, loss.margin)
    total = (pairs.weights * losses).sum()
    if loss.sft:
        total = total + loss.sft * likelihood_loss(ours, counts, pairs.labels, pairs.weights)
    return total


def train(
    world: TokenWorld, draw: Callable[[Table], Pairs], loss: Loss, cfg: Config, num_steps: int, log: RunLog,
    name: str,
) -> nn.Module:  # fmt: skip
    """The policy after so many steps; `draw` may look at the policy that asks."""
    policy = world.reference(torch.float64)
    optimizer = Adam([policy.table], lr=cfg.learning_rate)
    log_probs_of, lengths = list_log_probs(world), answer_lengths(world)
    reference = world.reference_log_probs()
    watch = gap_watcher(f"_{name}", world, cfg.beta, num_steps, log, every=-(-num_steps // 20))
    for step in log.track(range(num_steps), f"updates ({name})", f"token_gap_{name}"):
        optimizer.lr = cfg.learning_rate * (1 - step / num_steps)
        log_probs = log_probs_of(policy)
        found = pair_loss(log_probs, reference, lengths, draw(log_probs.detach()), cfg.beta, loss)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        watch(policy, step + 1)
    return policy


# %% [markdown]
r"""
## 4. What length does

Say that a judge adds a bonus $b$ for each token: $r + b|y|$. By (4) DPO then ends at the optimum times
$e^{b|y|/\beta}$, normalised. The expected length grows with $b$: its slope is $\mathrm{Var}(|y|) / \beta$. A
reward model of these labels learns the bonus, too. Three remedies are in use. The length-normalised loss has
$k = 1$. A penalty in the margin (`park2024length`, exercise D14.2) subtracts a bonus of a size to be guessed.
In *balanced data*, among pairs of the same two lengths the longer answer wins as often as the shorter. If, of
their weight $w$, the first one's length wins the share $S$, by labels $p$,

$$w \leftarrow w\, \Bigl(\frac{p}{2S} + \frac{1 - p}{2(1 - S)}\Bigr), \qquad
p \leftarrow \frac{p / S}{p / S + (1 - p) / (1 - S)} \tag{8}$$

*By hand.* In three of four pairs the longer one wins; the fourth counts as much as those three.

```python
>>> lengths, labels = torch.tensor([[3, 1]] * 4), torch.tensor([1.0, 1.0, 1.0, 0.0])
>>> balance(lengths, labels, torch.full((4,), 0.25))[0]  # the weights; hard labels stay
tensor([0.1667, 0.1667, 0.1667, 0.5000])
```
"""


# %%
def balance(lengths: Int[Tensor, "B 2"], labels: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """(weights, labels) by which length tells nothing of who wins."""
    longest = int(lengths.max()) + 1
    kinds = lengths[:, 0] * longest + lengths[:, 1]  # [B]
    other = lengths[:, 1] * longest + lengths[:, 0]  # the same pair of lengths, seen from the other side
    none = weights.new_zeros(longest**2)
    won = none.index_add(0, kinds, weights * labels).index_add(0, other, weights * (1 - labels))
    total = none.index_add(0, kinds, weights).index_add(0, other, weights)
    share = (won / total)[kinds].clamp(1e-6, 1 - 1e-6)
    first, second = labels / (2 * share), (1 - labels) / (2 * (1 - share))
    return weights * (first + second), first / (first + second)  # eq. (8)


# %% [markdown]
r"""
## 5. Look

![Ends of five losses beside the best possible; fixed pairs against the policy's own](results/D14.png)

*Left*, 127 answers, with rewards in which length is worth nothing. SimPO and KTO pay more divergence than
their rewards need: the one has no reference, the other lost what is liked less than half of the time (its
$z$, as (6) estimates it, is 0). IPO's tilt is bounded: it stays near. *Right*, 2,801 answers: after one or
two passes over fixed pairs the policy is more than half-way, then it unlearns; its own pairs go on teaching.

![Shares of the gap closed by each kind of pairs](results/D14_pairs.png)

Own pairs beat fixed ones at equal labels, and the reference's fresh ones at equal steps: it matters *where*.

![Expected length and what it costs, by each remedy](results/D14_lengths.png)

A judge who likes length makes DPO's answers longer. As far from the reference, losses that divide by length
write shorter ones, with the bonus still in them. Balanced pairs take most of it out, and any truth in it.

![True reward when one reward model, or the lowest score of five, is maximised](results/D14_ensembles.png)

Five reward models on the *same* 100 pairs are no sure gain over one. Nor are five on 500 pairs here.

**The verdict.** The loss decides where training would end, by a formula; the pairs, whether it gets there.
Ask first which pairs can still be labelled, and look at length before you look at a win rate.

<!-- results: D14 -->

`rl run D14`: 11 s; with `--evidence`: 42 s, 1244 MB; with `--smoke --evidence`: 21 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| length_drift            | 0.84 (0.538 to 1.38)            | ≥ 0     | 5/5 |
| stopping_early          | 0.631 (0.482 to 0.745)          | ≥ 0     | 5/5 |
| online_gap              | 0.939 (0.925 to 0.944)          | ≥ 0.5   | 5/5 |
| simpo_excess *          | 0.613 (0.218 to 1.24)           | ≥ 0     | 5/5 |
| slope_at_ends *         | 6.74e-15 (2.4e-15 to 8.39e-15)  | ≤ 1e-06 | 5/5 |
| ends_reached *          | 0.0186 (0.0101 to 0.0261)       | ≤ 0.05  | 5/5 |
| sft_keeps_chosen *      | 0.836 (0.257 to 4.52)           | ≥ 0     | 5/5 |
| reference_point *       | -4.4 (-6.15 to -3.33)           | ≤ 0     | 5/5 |
| normalised_drift *      | 0.44 (0.297 to 0.591)           | ≥ 0     | 5/5 |
| normalised_bias *       | 0.376 (0.134 to 0.461)          | ≥ 0     | 5/5 |
| balanced_drift *        | 0.146 (0.11 to 0.217)           | ≤ 0.5   | 5/5 |
| moving_reference *      | 1.42e-14 (7.11e-15 to 1.42e-14) | ≤ 1e-06 | 5/5 |
| own_pairs_gap *         | 0.0396 (0.00741 to 0.0433)      | ≥ 0     | 5/5 |
| few_labels_gap *        | 0.0888 (0.0239 to 0.114)        | ≥ 0     | 5/5 |
| reward_model_bonus *    | 0.894 (0.686 to 1)              | ≥ 0.5   | 5/5 |
| reward_model_balanced * | 0.177 (0.00474 to 0.361)        | ≤ 0.5   | 5/5 |
| trl_loss_gap *          | 4.41e-07 (1.79e-07 to 1.84e-06) | ≤ 1e-05 | 5/5 |
| trl_gradient_gap *      | 1.4e-06 (7.72e-07 to 2.17e-06)  | ≤ 1e-05 | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `length_drift`: a judge who likes length makes DPO's end longer than the optimum of the reward without the
  bonus (tokens)
- `stopping_early`: two passes over fixed pairs end closer to the optimum than many (of the gap to the
  optimum)
- `online_gap`: in as many steps the policy's own pairs close most of what the fixed ones leave open (of that)
- `simpo_excess`: SimPO ends further from the reference than the best policy of the same reward (nats)
- `slope_at_ends`: at the policies of (4), (5) and (7) no loss has a slope: DPO, length-normalised, SimPO,
  IPO, KTO (of the slope at the reference)
- `ends_reached`: trained on all pairs, each loss comes to the end that (4), (5) or (7) names (the furthest of
  five) (total variation)
- `sft_keeps_chosen`: with the likelihood term the chosen answers end more likely than with DPO alone (nats an
  answer)
- `reference_point`: averaged over the data's own answers, KTO's reference point is below 0, so it counts as 0
  (nats; the divergence that it stands for is above 0)
- `normalised_drift`: as far from the reference as DPO, the length-normalised loss writes shorter answers
  (tokens)
- `normalised_bias`: but not by forgetting the judge's bonus: without it, it would be shorter at the same
  distance (tokens)
- `balanced_drift`: balanced pairs take most of DPO's drift away (of the drift)
- `moving_reference`: four rounds, each with the last policy for its reference, end where a quarter of beta
  ends (nats)
- `own_pairs_gap`: in as many steps the policy's own pairs lead further than fresh pairs of the reference (of
  the gap to the optimum)
- `few_labels_gap`: with no more labels than there are fixed pairs, online DPO leads further than one or two
  passes (of the gap to the optimum)
- `reward_model_bonus`: a reward model learns the judge's bonus: what it adds for a token, where the truth
  adds nothing (of the bonus)
- `reward_model_balanced`: fitted to balanced pairs it adds less than half as much (of that)
- `trl_loss_gap`: our loss equals TRL's on the same texts: DPO, length-normalised, IPO, with SFT, SimPO, KTO
  (relative)
- `trl_gradient_gap`: our gradient equals TRL's on the same texts: DPO, length-normalised, IPO, with SFT,
  SimPO, KTO (relative)
</details>

<!-- /results -->

**Break it.** `rl break D14 swapped`, `rl break D14 reference_added`, `rl break D14 pairs_of_the_reference`.

**Exercises.**

<!-- exercises: D14 -->

*D14.1 · The knobs* (35 minutes, medium). Write (1), (2) and (3), then KTO's loss and its reference point,
(6). `rl exercise D14.score`, `rl exercise D14.logistic_loss`, `rl exercise D14.likelihood_loss`, `rl exercise
D14.kto_loss`, `rl exercise D14.reference_point`.

*D14.2 · A penalty for length* (20 minutes, medium). Let the reward be $r - \lambda |y|$, with $\lambda$ a
rate of your choice (`park2024length`). Its optimum has $\beta h = r - \lambda |y|$ plus a constant. So
preferences by $r$ are preferences by $\beta h + \lambda |y|$:

$$L = -p \log \sigma(g) - (1 - p) \log \sigma(-g), \quad
g = \beta (h_w - h_l) + \lambda (|y_w| - |y_l|) \tag{E1}$$

Mind the sign: a longer winner needs *less* of $h$.

At which rate does a judge's bonus of 0.2 a token vanish? `rl exercise D14.length_penalty_loss`.

<details><summary>Answer</summary>

At 0.2: judged rewards $r + 0.2 |y|$, less $0.2 |y|$, are $r$, and (E1) ends at the optimum exactly. In
practice nobody tells you that number; too large a rate makes the answers too short.
</details>

*D14.3 · Thumbs* (15 minutes, hard). In a product one answer in five is given a thumb, and nine of ten thumbs
are up. What does KTO's end (7) say of an answer that is liked in 8 of 10 cases, and of one that is liked in 4
of 10? What would weights for ups and downs change?

<details><summary>Answer</summary>

The end knows the chance to be liked, $q$, alone: 0.8 stays and 0.4 is lost, although the usual answer is
liked in 9 of 10 cases. With weights $w_u$ and $w_d$ the border $q = \frac12$ moves to $w_u q = w_d (1 - q)$.
`ethayarajh2024kto` advises to balance the totals: here $w_d = 9 w_u$, a border at 0.9, so that 0.8 is lost,
too. An answer without a thumb says nothing, unless silence depends on quality.
</details>

*D14.4 · Find the bug* (10 minutes). `rl exercise D14.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def expected_length(world: TokenWorld, log_probs: Table) -> float:
    """E|y| in tokens, prompts weighted equally."""
    return (log_probs.exp() * answer_lengths(world)).sum(1).mean().item()


def ends(world: TokenWorld, cfg: Config) -> dict[str, Table]:
    """Where each loss ends, by (4), (5) and (7), if pairs are the reference's."""
    rewards, reference, lengths = world.rewards, world.reference_log_probs(), answer_lengths(world)
    liked = chance_to_win(rewards, reference)
    return {
        "DPO": logistic_end(rewards, reference, lengths, cfg.beta, DPO),
        "length-normalised": logistic_end(rewards, reference, lengths, cfg.token_beta, NORMALISED),
        "SimPO": logistic_end(rewards, reference, lengths, cfg.token_beta, SIMPO),
        "IPO": ipo_end(liked, reference, cfg.beta),
        "KTO": kto_end(liked, reference, cfg.beta),  # eq. (7)
    }


def claim_length(world: TokenWorld, cfg: Config, log: RunLog) -> None:
    """Exact: what a judge who likes length does to DPO."""
    judged = replace(world, rewards=world.rewards + cfg.length_bonus * answer_lengths(world))
    drift = expected_length(world, judged.optimum(cfg.beta)) - expected_length(world, world.optimum(cfg.beta))
    says = "a judge who likes length makes DPO's end longer than the optimum of the reward without the bonus"
    rule = {"unit": "tokens", "source": "section 4: the slope is a variance", "always": True, "seeds": "5/5"}
    log.claim("length_drift", says, drift, at_least=0.0, **rule)


def train_both(world: TokenWorld, cfg: Config, log: RunLog) -> dict[str, float]:
    """Share of the gap closed by passes over fixed pairs and, in as many steps, by the policy's own."""
    generator = torch.Generator().manual_seed(cfg.seed)
    fixed = sample_pairs(world.reference_log_probs(), world.rewards, cfg.num_pairs, generator)
    passes = {"once": 1, "twice": 2, "often": cfg.num_epochs, "online": cfg.num_epochs}
    gaps = {}
    for name, num in passes.items():
        draw = minibatches(fixed, cfg.batch_size, generator)
        if name == "online":
            draw = own_pairs(world, cfg.batch_size, generator)
        num_steps = num * -(-cfg.num_pairs // cfg.batch_size)
        policy = train(world, draw, DPO, cfg, num_steps, log, name)
        gaps[name] = world.gap_closed(world.log_probs(policy), cfg.beta)
    return gaps


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    small, world = token_world(cfg.seed, **SMALL), token_world(cfg.seed)
    rewards = centred_by_length(small.rewards, small.reference_log_probs(), answer_lengths(small))
    small = replace(small, rewards=rewards)  # length is worth nothing in itself
    claim_length(small, cfg, log)
    gaps = train_both(world, cfg, log)
    log.keep(world=world, small=small, ends=ends(small, cfg))
    says = "two passes over fixed pairs end closer to the optimum than many"
    rule = {"unit": "of the gap to the optimum", "source": "section 3: fixed labels are learnt by heart"}
    log.claim("stopping_early", says, gaps["twice"] - gaps["often"], at_least=0.0, **rule)
    says = "in as many steps the policy's own pairs close most of what the fixed ones leave open"
    closed = (gaps["online"] - gaps["often"]) / (1 - gaps["often"])
    rule = {"unit": "of that", "source": "exact policy evaluation; more than half is most"}
    log.claim("online_gap", says, closed, at_least=0.5, **rule)
    draw_ends_and_ways(log.kept["ends"], small, cfg, log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
