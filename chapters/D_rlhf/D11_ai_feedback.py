# %% [markdown]
r"""
# D11 · A model as the judge

**Question.** A model compares two answers in place of people. What does it prefer that people do not, how
does one find out without asking them, and what does a policy learn from such comparisons?

**Before this:** D3 (people's comparisons), B8 (a judge's win rates, corrected), D14 (length). **Changes from
D3:** nobody is asked: the comparisons are a model's. **Next:** D13 learns from a stronger model directly.

**Time.** 15 s on 2 cores; with all evidence 120 s.

References: `bai2022constitutional`, `lee2024rlaif`, `zheng2023judging`, `panickssery2024recognize`,
`dubois2024length`, `miller2024error`, `rogan1978estimating`.

Symbols: $a, b$ kinds of answers, $\phi$ features, $w$ what a feature tells of which one is better, $L$
log-odds that a judge says "first", $C$, $P$ its parts by content and place, $b_j$ leaning, $\sigma$ logistic.
"""

# %%
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from chapters.envs import shop
from chapters.envs.shop import FEATURES, REQUESTS, Habits
from chapters.exact.judges import at_divergence, corrected_rate, logistic_fit, sigmoid, win_rate
from chapters.text.charts import draw_judge
from chapters.text.verdicts import load_judge
from chapters.utils import RunLog, in_range, run_lesson, seed_everything

Kinds = Float[np.ndarray, "M F"]  # features of each kind of answer
Square = Float[np.ndarray, "M M"]  # a number for each pair of kinds
Logits = Float[np.ndarray, "P M M"]  # log-odds of "first" under each principle, the first answer in the row
Judge = Callable[[Sequence[str]], Float[np.ndarray, " B"]]  # from questions to log-odds of "first"
FREE = (FEATURES.index("padding"), FEATURES.index("own style"))  # features that are worth nothing to people


@dataclass(frozen=True)
class Config:
    """A judge that learnt from collected comparisons, and a policy that learns from the judge."""

    seed: int = 0
    """Seed of the comparisons and of all draws."""
    model: str = "tiny"
    """The judge: tiny is made here; smollm2, a folder or a hub id are asked as they are."""
    num_comparisons: Annotated[int, in_range(10, 1_000_000)] = 4000
    """Collected comparisons that make the tiny judge."""
    most_fillers: Annotated[int, in_range(1, 3)] = 3
    """Words of padding in an answer, at most: 3 make 64 kinds of answers, 1 makes 32."""
    position: Annotated[float, in_range(-5.0, 5.0)] = 0.6
    """How much oftener the better answer stood first in what was collected, in log-odds."""
    padding: Annotated[float, in_range(-5.0, 5.0)] = 0.4
    """How much oftener it was the longer one, for each filler."""
    own: Annotated[float, in_range(-5.0, 5.0)] = 0.8
    """How much oftener it had the style that will be the judge's own."""
    num_labels: Annotated[int, in_range(10, 1_000_000)] = 2000
    """Labelled pairs that a policy learns from, whoever labels them."""
    kl: Annotated[float, in_range(0.01, 3.0)] = 1.0
    """How far policies that are compared go from the one that wrote the pairs, in nats."""


SMOKE = {"num_comparisons": 200, "most_fillers": 1, "num_labels": 200}

# %% [markdown]
r"""
## 1. Where a judge's leanings come from

*Reinforcement learning from AI feedback* (RLAIF, `lee2024rlaif`) asks a model which of two answers is better.
It is told what to go by in words, one *principle* at a time (`bai2022constitutional`), here `be kind`:

    be kind . a red cup . first sure same today thanks . second gladly really other today hurry . better

The next word is the verdict. In this shop (`chapters/envs/shop.py`) an answer promises the same thing or
another, today or someday, is kind or not: that is what people mind, the *gold rule*. It may also be padded
with fillers, `really`, and opens in one of two styles, `sure` or `gladly`. In comparisons as they are
collected the better answer also stood first more often, was longer, and more often had the judge's own style.
Whoever wants to forecast verdicts must use all of it. With independent features, Bayes' rule gives

$$L(a, b) = \textstyle\sum_j w_j\, \bigl(\phi_j(a) - \phi_j(b)\bigr) + \beta_f \tag{1}$$

Here $w_j$ is the log-odds that a difference in feature $j$ tells, and $\beta_f$ those of the first place. A
principle sets $w_j = 0$ for what it does not ask of the gold rule; fillers and style tell under each. This
ideal reader is our *constructed judge*: its leanings are known. The *tiny judge* has to find them. It reads
some thousand comparisons and fits a log-linear model, a sum over words $v$ where they stand:

$$L = \textstyle\sum_v u(\text{principle}, \text{place of } v, v) \tag{2}$$

Of a large model the same log-odds are read off the probabilities of "first" and "second" as its next word
(`chapters/text/verdicts.py`). All that follows asks any judge alike, and needs none of its insides.
"""


# %%
def constructed(kinds: Kinds, weights: Float[np.ndarray, "P F"], position: float) -> Logits:
    """The ideal reader's log-odds of "first" for every ordered pair, under each principle's weights."""
    scores = weights @ kinds.T  # [P, M]
    return scores[:, :, None] - scores[:, None, :] + position  # eq. (1)


def train_judge(questions: Sequence[str], first_won: Float[np.ndarray, " B"]) -> Judge:
    """A log-linear model of the verdict; a prior worth one comparison keeps rare words near 0."""
    known = sorted({word for question in questions for word in shop.words_by_place(question)})
    inputs, even = shop.count_words(questions, known), np.ones(len(questions))
    u = logistic_fit(inputs, first_won, even, ridge=1 / len(questions))
    return lambda asked: shop.count_words(asked, known) @ u  # eq. (2)


# %% [markdown]
r"""
## 2. Swap, pad, restyle: leanings without a single human label

**Swap.** Ask in both orders (`zheng2023judging`). What then changes its sign is due to the answers; what does
not, to the place. What the principles $p$ say of the answers is added up, so fillers and style count twice:

$$C(a, b) = \textstyle\sum_p \tfrac12 \bigl[L_p(a, b) - L_p(b, a)\bigr], \qquad
P(a, b) = \operatorname{mean}_p \tfrac12 \bigl[L_p(a, b) + L_p(b, a)\bigr] \tag{3}$$

By (1) $P = \beta_f$, and $C$ is free of it. (Log-odds split into such a sum; chances do not.)

**Pad, restyle.** Change an answer in a way nobody should mind, $a + e_j$: one filler more, or the judge's
opening. The change of $C$ is a leaning, measured with no idea of which answer is good, and can be taken off:

$$b_j = \operatorname{mean}_{a, b} \bigl[C(a + e_j, b) - C(a, b)\bigr] \tag{4}$$

$$\tilde C(a, b) = C(a, b) - \textstyle\sum_{j \text{ free}} b_j\, \bigl(\phi_j(a) - \phi_j(b)\bigr) \tag{5}$$

Of the ideal reader this leaves the gold rule, exactly. *By hand.* Two answers, the second longer by a filler
and no better. A judge says "first" with log-odds 0.2 if the shorter one comes first, and 1.0 if the longer
does. Half the sum is the place's, 0.6, and half the difference the filler's, 0.4. Without it nothing is left:

```python
>>> content, position = swap(np.array([[[0.6, 0.2], [1.0, 0.6]]]))
>>> position.round(2).tolist(), content.round(2).tolist()
([[0.6, 0.6], [0.6, 0.6]], [[0.0, -0.4], [0.4, 0.0]])
>>> lengths = np.array([[0.0], [1.0]])
>>> round(leaning(content, lengths, 0), 2), corrected(content, lengths, {0: 0.4}).round(9).any().item()
(0.4, False)
```

How often a judge prefers its *own* answers (`panickssery2024recognize`) does not tell its taste for them, as
they may be better. It takes one content in two styles, as here, or gold labels, as below.
"""


# %%
def swap(logits: Logits) -> tuple[Square, Square]:
    """(content, summed over principles; position, their mean)."""
    other = logits.transpose(0, 2, 1)  # the same two answers in the other order
    return ((logits - other) / 2).sum(axis=0), ((logits + other) / 2).mean(axis=0)  # eq. (3)


def leaning(content: Square, kinds: Kinds, feature: int) -> float:
    """Mean gain of an answer when one feature rises by 1 and nothing else changes."""
    rows = {tuple(kind): row for row, kind in enumerate(kinds)}
    gains = []
    for row, kind in enumerate(kinds):
        changed = tuple(kind + (np.arange(len(kind)) == feature))
        if changed in rows:
            gains.append(content[rows[changed]] - content[row])
    return float(np.mean(gains))  # eq. (4)


def corrected(content: Square, kinds: Kinds, leanings: dict[int, float]) -> Square:
    """The content without what features that are worth nothing say, by {feature: leaning}."""
    for feature, value in leanings.items():
        content = content - value * (kinds[:, None, feature] - kinds[None, :, feature])  # eq. (5)
    return content


# %% [markdown]
r"""
## 3. When there are only verdicts: win rates

Some judges give a word and no log-odds. In random order $a$ is then preferred to $b$ with the frequency

$$S(a, b) = \operatorname{mean}_p \tfrac12 \bigl[\sigma(L_p(a, b)) + 1 - \sigma(L_p(b, a))\bigr] \tag{6}$$

A win rate, the mean of $S$ over the answers of two writers, is free of places but not of the other leanings.
Two remedies are in use. **Known error rates** need gold labels. Group pairs by who is longer, and who has the
judge's style. In a group let our answer win with chance $s$ where it is better, and lose with $c$ where it is
worse. From the rate $q$ that the judge gives, B8's equation finds the group's true one:

$$p = (q + c - 1) / (s + c - 1) \tag{7}$$

The **length-controlled win rate** (`dubois2024length`) needs none. Fit a logistic model to the difference in
length $\Delta$, and ask it for equal lengths. (The published one also knows how hard each prompt is.)

$$S \approx \sigma(\theta + \eta\, \Delta) \quad\Longrightarrow\quad p_\text{LC} = \sigma(\theta) \tag{8}$$

Whatever is reported, pairs of one prompt share its luck. $N$ prompts, whose means have average $\bar x$ and
standard deviation $\hat s$, are $N$ observations, however many pairs each has (`miller2024error`):

$$\bar x \pm t_{N-1}\; \hat s / \sqrt{N} \tag{9}$$

*By hand.* Of two prompts a judge understands one. What is known of a third? Nothing, says Student's $t$:

```python
>>> right, prompts = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 0, 1, 1, 1])
>>> [round(end, 2) for end in interval_over_prompts(right, prompts)]
[-5.85, 6.85]
```
"""


# %%
def preferred(logits: Logits) -> Square:
    """How often the judge prefers the row's answer, in random order and under a random principle."""
    chances = sigmoid(logits)
    return ((chances + 1 - chances.transpose(0, 2, 1)) / 2).mean(axis=0)  # eq. (6)


def rate_by_errors(
    shares: Square, better: Square, groups: Int[np.ndarray, "M M"], pairs: Square, known: Square
) -> float:
    """The win rate over `pairs`, by each group's error rates on `known` ones: weights, 0 for ties."""
    total = 0.0
    for group in np.unique(groups[pairs > 0]):
        inside = groups == group
        sensitivity = win_rate(shares, known * inside * (better == 1))
        specificity = win_rate(1 - shares, known * inside * (better == 0))
        observed = win_rate(shares, pairs * inside)
        total += (pairs * inside).sum() * corrected_rate(observed, sensitivity, specificity)  # eq. (7)
    return float(total / pairs.sum())


def length_controlled(shares: Square, longer: Square, pairs: Square) -> float:
    """The win rate that a logistic model of the difference in length expects where there is none."""
    inputs = np.stack([np.ones(longer.size), longer.ravel()], axis=1)  # [M M, 2]
    theta, _ = logistic_fit(inputs, shares.ravel(), pairs.ravel())
    return float(sigmoid(theta))  # eq. (8)


def interval_over_prompts(
    values: Float[np.ndarray, " B"], prompts: Int[np.ndarray, " B"], level: float = 0.95
) -> tuple[float, float]:
    """Ends of the interval of the mean over prompts, each counted once."""
    means = np.array([values[prompts == prompt].mean() for prompt in np.unique(prompts)])
    width = stats.t.ppf((1 + level) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - width), float(means.mean() + width)  # eq. (9)


# %% [markdown]
r"""
## 4. A policy that learns from verdicts; critique and revision

The pairs are written by a policy that knows no better: every kind alike. Labels are drawn in four ways: by
people's gold rule; by the judge as it comes, in random order, under a random principle; by $C$, from both
orders; by $\tilde C$, corrected. As in D3 a reward is fitted to them, a linear one, $r = u^\top \phi$. As in
D2 the policy is its optimum, with a $\beta$ by which all policies go equally far, $\kappa$ nats:

$$\pi \propto \pi_\text{ref}\, e^{r / \beta}, \qquad \mathrm{KL}(\pi \Vert \pi_\text{ref}) = \kappa \tag{10}$$

*Critique and revision* (`bai2022constitutional`): the judge improves answers, for a model to imitate. Here it
compares $a$ with all that differ by a step in one feature, $N(a)$. What it likes best is the revision:

$$a' = \arg\max_{b\, \in\, \{a\} \cup N(a)} C(b, a) \tag{11}$$
"""


# %%
def fit_reward(kinds: Kinds, rows: Int[np.ndarray, "B 2"], labels: Float[np.ndarray, " B"]) -> np.ndarray:
    """u [F] from pairs and labels: 1 if their first answer was preferred, 0 if not, or the chance of it."""
    return logistic_fit(kinds[rows[:, 0]] - kinds[rows[:, 1]], labels, np.ones(len(labels)))


def gain(reward: Float[np.ndarray, " F"], kinds: Kinds, gold: Float[np.ndarray, " M"], kl: float) -> float:
    """What the policy of a reward gains in gold reward, of the most that can be had so near the reference."""
    found, best = at_divergence(kinds @ reward, kl) @ gold, at_divergence(gold, kl) @ gold  # eq. (10)
    return float((found - gold.mean()) / (best - gold.mean()))


def revise(content: Square, kinds: Kinds) -> Int[np.ndarray, " M"]:
    """The number of each answer's revision; its own, if the judge likes none better."""
    steps = np.abs(kinds[:, None] - kinds[None]).sum(axis=2)  # [M, M]
    liked = content - 1e-9 * steps  # liked no better, rounding apart: no fault
    return np.where(steps <= 1, liked, -np.inf).argmax(axis=0)  # eq. (11)


# %% [markdown]
r"""
## 5. Look, break, write

![Leanings of the tiny judge and the ideal reader; gold reward against KL](results/D11.png)

*Left*: nobody told the judge to mind places, fillers or openings; the comparisons did. *Right*, at equal
numbers of labels: by the judge's, a policy spends a part of its way on what only the judge likes. Swapping is
no help, as in random order a place is noise. To take the leanings off is: the green line hides people's.

![Win rates of two writers by each remedy; agreement with the gold rule](results/D11_rates.png)

One writer is better; the other pads, in the judge's style. By verdicts the wrong one leads. Length control
takes off the length and not the style. Error rates mend both, with gold labels of pairs like those judged.

![Gold reward by number of labels; what rounds of revision do to answers](results/D11_learning.png)

More labels heal no leaning. The constructed judge's revisions make answers better, longer, and in its style.

![A small neural judge's leanings; what a writer learns from its labels](results/D11_neural.png)

A small GPT-2 that has read such comparisons is no sum over words, and leans too. A second one, the writer,
learns by direct preference optimisation (D4): from the judge's labels to pad, from corrected ones much less.

**The verdict.** A judge prefers what went along with being better where it learnt: a place, length, a style.
Edits that no one would mind show this without asking people, and what they show can be taken off: exactly,
where (1) holds, and only for edits that one has thought of. A win rate needs some gold labels from like
pairs. A policy finds every leaning that is left: read what it writes, and see what became of length.

<!-- results: D11 -->

`rl run D11`: 8 s; with `--evidence`: 88 s, 1121 MB; with `--smoke --evidence`: 24 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| leanings_exact       | 4.44e-16                    | ≤ 1e-10       | 5/5 |
| corrected_exact      | 1.78e-15                    | ≤ 1e-10       | 5/5 |
| judge_leans          | 0.0847 (0.0264 to 0.152)    | ≤ 0.2         | 5/5 |
| correction_pays      | 0.216 (0.18 to 0.234)       | ≥ 0           | 5/5 |
| revision_pads *      | 1.5                         | ≥ 0           | 5/5 |
| revision_mends *     | 0                           | ≤ 1e-10       | 5/5 |
| rates_exact *        | 0                           | ≤ 1e-10       | 5/5 |
| length_control *     | 0.583                       | ≤ 1           | 5/5 |
| hides_truth *        | 0.0747                      | ≥ 0           | 5/5 |
| rates_help *         | 0.0571 (0.0121 to 0.0979)   | ≤ 0.5         | 5/5 |
| coverage_prompts *   | 0.945 (0.941 to 0.948)      | 0.95 ± 0.03   | 5/5 |
| coverage_pairs *     | 0.689 (0.659 to 0.7)        | 0.6918 ± 0.05 | 5/5 |
| agreement_gain *     | 0.172 (0.158 to 0.187)      | ≥ 0           | 5/5 |
| labels_no_cure *     | 0.201 (0.179 to 0.241)      | ≥ 0           | 5/5 |
| still_lost *         | 0.00856 (0.00424 to 0.0132) | ≤ 0.5         | 5/5 |
| principle_obeyed *   | 1.95 (1.8 to 2.21)          | 2 ± 0.5       | 5/5 |
| neural_leans *       | 0.855 (0.738 to 0.925)      | ≥ 0.5         | 5/5 |
| neural_corrected *   | 0.293 (0.182 to 0.42)       | ≤ 0.5         | 5/5 |
| within_frontier *    | 0.996 (0.991 to 0.997)      | ≤ 1.000001    | 5/5 |
| rule_teaches_more *  | 0.176 (0.136 to 0.301)      | ≥ 0           | 5/5 |
| correction_teaches * | 0.162 (0.131 to 0.229)      | ≥ 0           | 5/5 |
| writer_pads *        | 0.903 (0.72 to 1.06)        | ≥ 0           | 5/5 |
| way_wasted *         | 0.207 (0.17 to 0.21)        | ≥ 0           | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `leanings_exact`: swapping, padding and restyling give a constructed judge's leanings back (log-odds off)
- `corrected_exact`: without them it is the gold rule (log-odds off)
- `judge_leans`: the tiny judge leans to the first place, to fillers and to its own style as the ideal reader
  does (log-odds off, the most of three)
- `correction_pays`: from corrected labels a policy gains more, in people's eyes, than from the judge's own
  (of the best possible gain)
- `revision_pads`: after its revisions a judge with leanings has padded the answers (fillers an answer)
- `revision_mends`: without them it mends all that people mind, and leaves the length alone (fillers, or of
  the best worth, off)
- `rates_exact`: by error rates of like pairs, a constructed judge's win rate is the true one (difference)
- `length_control`: length control leaves less of its error than random order does (of that error)
- `hides_truth`: but where better answers are longer, it hides a part of what a judge without leanings sees
  (win rate)
- `rates_help`: with some hundred gold labels, error rates take most of the asked judge's error away (of that
  in random order)
- `coverage_prompts`: where pairs of a prompt are alike, 95 % intervals over prompts hold the truth as often
  as they say (of evaluations)
- `coverage_pairs`: intervals over pairs hold it as seldom as their variance, too small by a factor, says (of
  evaluations)
- `agreement_gain`: corrected, the judge agrees with the gold rule on more pairs: lower end of the interval
  over prompts (of pairs)
- `labels_no_cure`: from 500 corrected labels a policy gains more than from 8,000 of the judge as it comes (of
  the best possible gain)
- `still_lost`: of what the judge's own labels lose, corrected ones lose less than half (of that)
- `principle_obeyed`: the principle in words is obeyed: kindness counts by so much more where it is asked for
  (log-odds)
- `neural_leans`: a small neural language model leans as its comparisons do, half as far at least as an ideal
  reader (of the ideal reader's, the least of three)
- `neural_corrected`: without its leanings the neural judge lies less than half as far from the gold rule (of
  the distance in either order)
- `within_frontier`: nobody's labels take the writer beyond the best policy at its divergence (of the most
  possible gain, the largest of four)
- `rule_teaches_more`: a writer learns more by DPO of what people mind from their labels than from the neural
  judge's own (of all worth)
- `correction_teaches`: and more of it from the judge's corrected labels than from the judge as it comes (of
  all worth)
- `writer_pads`: from labels in both orders, uncorrected, it learns to pad more than from corrected ones
  (fillers an answer)
- `way_wasted`: and gains less of what its divergence allows than from corrected ones (of the most at its
  divergence)
</details>

<!-- /results -->

**Break it.** `rl break D11 one_order` never swaps. `rl break D11 adds_the_leaning` adds in (5). No edit:
`rl run D11 --own 0`, or `--model smollm2 --most-fillers 1`, which asks a real model (an extra), for minutes.

**Exercises.**

<!-- exercises: D11 -->

*D11.1 · The heart of it* (35 minutes, medium). Write (3), (4) and (5): what two orders tell, what an edit
tells, and what is left without it. Then write (11). `rl exercise D11.swap`, `rl exercise D11.leaning`, `rl
exercise D11.corrected`, `rl exercise D11.revise`.

*D11.2 · Only what it says twice* (15 minutes, easy). If a judge gives a word and no log-odds, many keep only
pairs on which it says the same in both orders. Let $v$ be 1 where it takes our answer, shown first, and 0
where it does not; $v'$ the same, shown second:

$$p_\text{kept} = \frac{\sum v v'}{\sum \mathbb 1[v = v']} \tag{E1}$$

$$\text{torn} = \operatorname{mean}\, \mathbb 1[v \ne v'] \tag{E2}$$

Say that a judge is torn between answers that are nearly equally good, and otherwise knows the better one.
Ours is clearly better in 20 of 100 pairs, clearly worse in 10, and nearly equal in 70.
What does (E1) make of it? `rl exercise D11.consistent_wins`.

<details><summary>Answer</summary>

Two thirds, though of all pairs ours wins 55 of 100 (half of the equal ones). Pairs that are kept are the easy
ones: report how many were torn, or count each as half a win, which is the mean over both orders, (6).
</details>

*D11.3 · How many rounds?* (15 minutes, easy). An answer has a fault or none. A critic misses a fault with
chance $m$ (else it is mended), and finds one in a good answer with chance $f$ (then the revision brings one
in). Of a share $x$ of faulty answers a round leaves

$$x' = m\, x + f\, (1 - x) \tag{E3}$$

Write it for any number of rounds. Where does it end,
and when does one more round do harm? `rl exercise D11.after_rounds`.

<details><summary>Answer</summary>

At $x^\ast = f / (1 - m + f)$, whatever the start: at 1 / 11 for $m = 0.5$, $f = 0.05$. A round helps a model
that is worse than that and harms one that is better. So measure $m$ and $f$ on some gold labels first: they
are the judge's error rates once more.
</details>

*D11.4 · Which edit?* (10 minutes, medium). A judge of essays also likes numbered lists. You have the judge, a
thousand essays, and no human labels. How do you measure it? What goes wrong if you compare essays that have
lists with those that have none? And name a leaning that no edit shows.

<details><summary>Answer</summary>

Give essays a list, or take it away, with all other words as they were, and ask in both orders: (4). Essays
with lists differ in more than lists, in care and length for instance: what one sees is a mixture. No edit
shows a leaning that cannot be changed without the content, such as one for a certain opinion, or one that
nobody thought of: for these it takes gold labels, of people who look.
</details>

*D11.5 · Find the bug* (10 minutes). `rl exercise D11.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def labels_by(
    logits: Logits, contents: dict[str, Square], rows: Int[np.ndarray, "B 2"], rng: np.random.Generator
) -> dict[str, Float[np.ndarray, " B"]]:
    """One drawn label on each pair by the log-odds of each content, and by the judge as it comes."""
    first, second = rows.T
    log_odds = {name: content[first, second] for name, content in contents.items()}
    log_odds["judge"] = logits[rng.integers(len(logits), size=len(rows)), first, second]
    luck = rng.random(len(rows))  # the same for all
    return {name: (luck < sigmoid(log_odds[name])).astype(np.float64) for name in log_odds}


def claim_exact(kinds: Kinds, habits: Habits, log: RunLog) -> None:
    """The constructed judge gives its numbers back, and is the gold rule once they are taken off."""
    logits = constructed(kinds, np.stack([habits.weights(row) for row in range(2)]), habits.position)
    content, position = swap(logits)
    leanings = {j: leaning(content, kinds, j) for j in FREE}
    off = [np.abs(position - habits.position).max()]
    off += [abs(leanings[j] - 2 * known) for j, known in zip(FREE, (habits.padding, habits.own))]
    rule = {"at_most": 1e-10, "unit": "log-odds off", "always": True, "seeds": "5/5"}
    says = "swapping, padding and restyling give a constructed judge's leanings back"
    log.claim("leanings_exact", says, max(off), source="its construction", **rule)
    gold = shop.worth(kinds, habits)
    off = np.abs(corrected(content, kinds, leanings) - (gold[:, None] - gold)).max()
    log.claim("corrected_exact", "without them it is the gold rule", off, source="equations 1 and 5", **rule)


def claim_judge(
    found: dict[str, float], ideal: dict[str, float], gains: dict[str, float], log: RunLog
) -> None:
    """What the tiny judge has learnt, and what a policy learns from it."""
    off = max(abs(found[name] - ideal[name]) for name in found)
    says = "the tiny judge leans to the first place, to fillers and to its own style as the ideal reader does"
    rule = {"at_most": 0.2, "unit": "log-odds off, the most of three", "source": "Bayes' rule, equation 1"}
    log.claim("judge_leans", says, off, **rule)
    says = "from corrected labels a policy gains more, in people's eyes, than from the judge's own"
    rule = {"unit": "of the best possible gain", "source": "equal labels and divergence; exact evaluation"}
    log.claim("correction_pays", says, gains["corrected"] - gains["judge"], at_least=0.0, **rule)


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    kinds, rng = shop.kinds(cfg.most_fillers), np.random.default_rng([cfg.seed, 2])
    habits = Habits(position=cfg.position, padding=cfg.padding, own=cfg.own)
    claim_exact(kinds, habits, log)
    if cfg.model == "tiny":
        collected = shop.write_comparisons(np.random.default_rng([cfg.seed, 1]), cfg.num_comparisons, habits)
        judge = train_judge(*collected)
    else:
        judge = load_judge(cfg.model, shop.VERDICTS)
    requests = np.triu(rng.integers(len(REQUESTS), size=(len(kinds),) * 2))
    requests = np.maximum(requests, requests.T)  # both orders of a pair answer the same request
    logits = shop.ask(judge, kinds, requests)
    content, position = swap(logits)
    leanings = {j: leaning(content, kinds, j) for j in FREE}
    found = {"position": float(position.mean())} | {FEATURES[j]: leanings[j] / 2 for j in FREE}
    ideal = {"position": cfg.position, "padding": cfg.padding, "own style": cfg.own}
    log.write(0, **{f"leaning_{name.replace(' ', '_')}": value for name, value in found.items()})

    gold = shop.worth(kinds, habits)
    contents = {"people": gold[:, None] - gold, "swapped": content}
    contents["corrected"] = corrected(content, kinds, leanings)
    rows = rng.integers(len(kinds), size=(cfg.num_labels, 2))
    labels = labels_by(logits, contents, rows, rng)
    rewards = {name: fit_reward(kinds, rows, given) for name, given in labels.items()}
    gains = {name: gain(reward, kinds, gold, cfg.kl) for name, reward in rewards.items()}
    log.write(0, **{f"gain_{name}": value for name, value in gains.items()})
    if cfg.model == "tiny":  # of another judge nothing is known beforehand
        claim_judge(found, ideal, gains, log)
    log.keep(kinds=kinds, habits=habits, gold=gold, logits=logits, contents=contents, requests=requests)
    draw_judge(found, ideal, {name: kinds @ reward for name, reward in rewards.items()}, gold, log)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
