# %% [markdown]
r"""
# D16 · What becomes of a learnt reward when a policy maximises it

**Question.** A reward model is nearly as good as the truth on the texts it was tested on. What happens to
the true reward when a policy maximises the learnt one?

**Before this:** D3 (a reward model from noisy pairs), D2 (the token world). **Changes from D3:** the scorer
is fixed now, and a policy is trained to maximise it. **Next:** D4 learns from pairs without a reward model.

**Time.** 60 s on 2 cores; with all evidence 150 s.

References: `gao2023overoptimization`, `korbak2022bayesian`, `ahmadian2024rloo`, `beirami2024bestofn`.

Symbols: $r$ the true reward (*gold*), $\hat r$ the learnt one (the *proxy*), $\pi_\text{ref}$ the reference
that wrote the pairs, $\beta$ weight of the Kullback–Leibler (KL) penalty, $\lambda = 1/\beta$ (not D2's).
"""

# %%
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chapters.envs.reviews import PROMPTS, gold_reward
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import preferences
from chapters.text.checkpoint import resumable
from chapters.text.generation import token_log_probs
from chapters.text.models import LoadedModel, load_model
from chapters.text.preferences import score_texts, write_texts
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

WINDOW = 5  # updates whose mean gold decides where its peak is


@dataclass(frozen=True)
class Config:
    """A policy that maximises a learnt reward, judged by the true one."""

    seed: int = 0
    """Seed of pairs, first weights, policy and token world."""
    model: str = "tiny"
    """Writes the reviews and is the reward model's body: tiny, a folder, or a hub id."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps of making the tiny model; it is kept in the cache."""
    num_tokens: Annotated[int, in_range(1, 40)] = 24
    """Longest completion."""
    num_pairs: Annotated[int, in_range(64, 1_000_000)] = 4096
    """Labelled pairs that the reward model learns from, as in D3."""
    temperature: Annotated[float, in_range(0.01, 100.0)] = 0.5
    """How noisy the annotators are."""
    num_epochs: Annotated[int, in_range(1, 100)] = 1
    """The reward model's passes over the pairs."""
    batch_size: Annotated[int, in_range(1, 4096)] = 8
    """Pairs per gradient step of the reward model."""
    learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 7e-4
    """The reward model's step size at its highest."""
    num_policy_updates: Annotated[int, in_range(1, 10_000)] = 60
    """Updates of the policy that maximises the proxy."""
    policy_learning_rate: Annotated[float, in_range(1e-7, 1.0)] = 5e-4
    """The policy's step size."""
    num_judged: Annotated[int, in_range(8, 100_000)] = 512
    """Fresh completions of a policy by which it is judged."""


SMOKE = {
    "pretrain_steps": 20,
    "num_tokens": 8,
    "num_pairs": 64,
    "batch_size": 2,
    "num_policy_updates": 2,
    "num_judged": 16,
}

# %% [markdown]
r"""
## 1. The gentlest optimiser: the best of n

Write $n$ completions and keep the one that the proxy scores highest. Nothing is trained. From one pool of
$N$ scored completions the mean follows for every $n \le N$ at once. The completion of rank $i$ from below is
the best of a random subset of size $n$ if it is in it, and the other $n - 1$ rank lower:

$$\mathbb{E}[\text{best}] = \textstyle\sum_{i \ge n} \binom{i-1}{n-1} \binom{N}{n}^{-1} v_{(i)} \tag{1}$$

Here $v$ is proxy or gold; the order is the proxy's. How far is this from the reference? At most
(`beirami2024bestofn`)

$$\mathrm{KL} \le \log n - \frac{n-1}{n} \tag{2}$$

*By hand.* Of three completions with proxy 1, 2, 3 the best of two is the third in two of three subsets, and
the second in one. If gold is 0, 5, 1, the best of two earns $\tfrac23 \cdot 1 + \tfrac13 \cdot 5$:

```python
>>> proxy, gold = np.array([1.0, 2.0, 3.0]), np.array([0.0, 5.0, 1.0])
>>> [round(best_of_n(proxy, gold, n), 3) for n in (1, 2, 3)]
[2.0, 2.333, 1.0]
>>> round(best_of_n_kl(512), 2)
5.24
```

This is over-optimisation in small: with $n = 3$ the proxy's favourite wins, and gold has turned.
"""


# %%
def best_of_n(proxy: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], n: int) -> float:
    """Mean of `values` at the completion that is best by `proxy`, over all subsets of size n."""
    order = np.argsort(proxy, kind="stable")
    size = len(proxy)
    weights = np.zeros(size)
    weight = n / size  # of the highest rank: C(N-1, n-1) / C(N, n)
    for rank in range(size, n - 1, -1):
        weights[rank - 1] = weight
        weight *= (rank - n) / max(1, rank - 1)  # C(i-2, n-1) / C(i-1, n-1)
    return float(weights @ values[order])  # eq. (1)


def best_of_n_kl(n: int) -> float:
    """Bound on the divergence of the best of n from the policy that wrote them, in nats."""
    return math.log(n) - (n - 1) / n  # eq. (2)


# %% [markdown]
r"""
## 2. A stronger one: policy gradient

REINFORCE leave-one-out (RLOO, `ahmadian2024rloo`) compares each of $G$ completions of a prompt with the mean
of the others. Here it maximises the proxy and nothing else, $J = \mathbb{E}[\hat r]$: no KL penalty.

$$\hat A_i = \hat r_i - \frac{1}{G-1} \textstyle\sum_{j \ne i} \hat r_j, \qquad
\nabla J = \mathbb{E}\bigl[\hat A_i \nabla \log\pi_\theta(y_i \mid x)\bigr] \tag{3}$$

```python
>>> leave_one_out(torch.tensor([[1.0, 2.0, 6.0]]))
tensor([[-3.0000, -1.5000,  4.5000]])
```
"""


# %%
def leave_one_out(rewards: Float[Tensor, "N G"]) -> Float[Tensor, "N G"]:
    """Each reward minus the mean of the others in its row."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others  # eq. (3)


def maximise(
    scorer: Callable, base: LoadedModel, cfg: Config, log: RunLog, num_prompts: int = 8, group_size: int = 8
) -> tuple[nn.Module, nn.Module, int]:
    """Train a copy of the base model on the proxy alone.

    Returns (the policy at the end, the policy before the update at gold's peak, the number of that update).
    The peak is a running mean's; the last few policies are held until it is known whether it was there.
    """
    policy = LoadedModel(copy.deepcopy(base.model), base.tokenizer)
    optimizer = Adam(policy.model.parameters(), lr=cfg.policy_learning_rate)
    generator = torch.Generator().manual_seed(cfg.seed)
    window = min(WINDOW, cfg.num_policy_updates)
    late = window - 1 - window // 2  # updates from the middle of a window to its end
    top, *held = (copy.deepcopy(base.model) for _ in range(late + 2))
    state = (policy.model, optimizer, generator, top, *held)  # all that changes (`--resume`)
    for update in resumable(log, cfg.num_policy_updates, "updates", state, show="rloo_gold"):
        held[update % len(held)].load_state_dict(policy.model.state_dict())
        chosen = torch.randint(len(PROMPTS), (num_prompts,), generator=generator)
        prompts = [PROMPTS[number] for number in chosen for _ in range(group_size)]
        texts, written = write_texts(policy, prompts, cfg.num_tokens, generator)
        rewards = torch.from_numpy(score_texts(scorer, base.tokenizer, texts)).float()
        advantages = leave_one_out(rewards.reshape(num_prompts, group_size)).flatten()  # [B]
        log_probs = token_log_probs(policy.model, *written).sum(dim=1)  # [B]
        with torch.no_grad():
            ref_log_probs = token_log_probs(base.model, *written).sum(dim=1)
        # the proxy in gold's unit: by D3's (1) scores differ by gold / temperature; their zero is arbitrary
        log.write(
            update,
            rloo_kl=(log_probs - ref_log_probs).mean().item(),
            rloo_gold=gold_reward(texts).mean(),
            rloo_proxy=cfg.temperature * rewards.mean().item(),
        )
        optimizer.zero_grad()
        (-(advantages * log_probs).mean()).backward()
        nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        if update >= window - 1 and peak_of(log, window) == update - late:
            top.load_state_dict(held[(update - late) % len(held)].state_dict())
    return policy.model, top, peak_of(log, window)


def peak_of(log: RunLog, window: int) -> int:
    """The update at which a running mean of gold is highest so far: the middle of its window."""
    smooth = np.convolve(log.series("rloo_gold")[1], np.ones(window) / window, "valid")
    return int(smooth.argmax()) + window // 2


# %% [markdown]
r"""
## 3. The strongest: what mathematics allows

In the token world there is no optimiser to blame. Under a KL penalty of weight $\beta$ the best policy for a
proxy is known (`korbak2022bayesian`), and $\lambda = 1/\beta$ says how hard it is optimised:

$$\pi_\lambda(y) \propto \pi_\text{ref}(y)\, e^{\lambda \hat r(y)} \tag{4}$$

Since $\frac{d}{d\lambda} \log \pi_\lambda(y) = \hat r(y) - \mathbb{E}_{\pi_\lambda}[\hat r]$, the derivative
of any average $\mathbb{E}_{\pi_\lambda}[v]$ is a covariance, and the whole story is one line:

$$\frac{d}{d\lambda}\, \mathbb{E}_{\pi_\lambda}[v] = \mathrm{Cov}_{\pi_\lambda}(v, \hat r) \tag{5}$$

* With $v = \hat r$ it is a variance. The proxy's own reward **never** falls.
* With $v = r$ it is the covariance of truth and proxy *among the completions sampled now*. At $\lambda = 0$,
  where the pairs came from, they go together: that is what held-out accuracy measures (by the signs of
  differences, of which a covariance is half the mean product). Gold peaks where the covariance reaches zero,
  and no sample of the reference that one can pay for says where: the texts that decide are too rare in it.

*By hand.* Of three texts, equally likely at first, the proxy likes the third best, the truth the second:

```python
>>> ref = torch.full((3,), 1 / 3).log()
>>> proxy, gold = torch.tensor([0.0, 1.0, 1.5]), torch.tensor([0.0, 1.0, 0.0])
>>> [round((tilt(ref, proxy, x).exp() @ gold).item(), 2) for x in (0.0, 0.5, 2.0, 8.0)]
[0.33, 0.35, 0.26, 0.02]
>>> [round(covariance(tilt(ref, proxy, x), gold, proxy).item(), 2) for x in (0.0, 1.0, 2.0)]
[0.06, -0.05, -0.08]
```
"""


# %%
def tilt(
    ref_log_probs: Float[Tensor, "*D M"], proxy: Float[Tensor, "*D M"], inverse_beta: float
) -> Float[Tensor, "*D M"]:
    """Log-probabilities of the best policy for `proxy` under a KL penalty of weight beta."""
    return (ref_log_probs + inverse_beta * proxy).log_softmax(dim=-1)  # eq. (4)


def covariance(
    log_probs: Float[Tensor, "*D M"], a: Float[Tensor, "*D M"], b: Float[Tensor, "*D M"]
) -> Float[Tensor, "*D"]:
    """Covariance of a and b under a policy: right side of eq. (5)."""
    probs = log_probs.exp()
    mean_a, mean_b = ((probs * values).sum(dim=-1, keepdim=True) for values in (a, b))
    return (probs * (a - mean_a) * (b - mean_b)).sum(dim=-1)


# %% [markdown]
r"""
## 4. Look

The run draws the middle panel for one seed; the evidence draws all three, over seeds:

![Gold rises and falls while the proxy climbs: chosen, trained, and exactly](results/D16.png)

*Left: choosing.* The proxy promises more with every doubling of $n$ (dashed). With a sixteenth of the pairs
it promises far more than it brings; with all of them, mostly too little. By (2) even the largest $n$ moves
only a few nats. Gold flattens rather than falls.

*Middle: training.* The policy gradient goes many times as far. At first both rewards rise. Then the policy
finds what is too rare among the pairs to count: praise without measure, words said again and again (D3: gold
dislikes both). Gold falls by far more than the proxy still gains; and this is the *good* proxy, near D3's
ceiling. (A dot is an update of one seed; a divergence below 0.02 is drawn at 0.02.)

*Right: exactly.* Small proxies, which count symbols and give each a weight, are fitted to noisy pairs of the
token world; gold dislikes a symbol that repeats the one before it, which counts cannot see. More pairs raise
the peak. The lowest score of five such proxies puts the fall off, but all are blind in the same place; one
shown repeats keeps its gains.

**The verdict.** The learnt reward goes on rising, at the exact optimum always (5); the true one rises with it
at first and falls as soon as the policy writes what the two disagree on. How far one may go is decided not by
accuracy on held-out pairs but by what the proxy cannot see: let gold, or people, judge what the policy writes
now.

<!-- results: D16 -->

`rl run D16`: 45 s; with `--evidence`: 77 s, 1370 MB; with `--smoke --evidence`: 9 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| covariance_gap          | 3.7e-10 (6.09e-11 to 5.3e-10)    | ≤ 1e-06  | 10/10  |
| rloo_gold_turns         | 17 (7.38 to 19.8)                | ≥ 3      | 10/10  |
| rloo_proxy_rises        | 0.441 (0.229 to 1.02)            | ≥ 0      | 10/10  |
| best_of_n_proxy_rises * | 0.00385 (0.00207 to 0.00676)     | ≥ 0      | 10/10  |
| token_proxy_rises *     | 0.000174 (9.53e-05 to 0.000707)  | ≥ -1e-09 | 10/10  |
| best_of_n_kl_excess *   | 2.36e-16 (-8.81e-16 to 6.46e-16) | ≤ 1e-09  | 10/10  |
| token_gold_turns *      | 7.47 (5.86 to 12.1)              | ≥ 3      | 10/10  |
| token_more_pairs *      | 0.129 (0.0946 to 0.25)           | ≥ 0      | 10/10  |
| token_sees_repeats *    | 1.11 (0.839 to 1.54)             | ≥ 0      | 10/10  |
| data_under_pressure *   | 0.625                            | ≥ 0      | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `covariance_gap`: the slope of any reward is its covariance with the proxy
- `rloo_gold_turns`: as policy gradient maximises the proxy, the true reward rises, then falls (the smaller
  change) (standard errors)
- `rloo_proxy_rises`: from gold's peak to the end the proxy's reward rises (gold)
- `best_of_n_proxy_rises`: with every doubling of n the best of n has more of the proxy's reward (smallest
  rise)
- `token_proxy_rises`: to optimise harder never lowers the proxy's own reward (smallest rise)
- `best_of_n_kl_excess`: the exact divergence of the best of n stays below log n - (n - 1) / n (nats)
- `token_gold_turns`: maximised exactly, proxies that cannot see repeats take gold below its peak (standard
  errors over proxies)
- `token_more_pairs`: ten times the pairs raise the peak of the gold reward (gold reward)
- `token_sees_repeats`: optimised hardest, a proxy that sees repeats keeps more gold than any blind one (gold
  reward)
- `data_under_pressure`: at the largest n, sixteen times the pairs keep more of the gold reward (gold reward,
  median)
</details>

<!-- /results -->

**Break it.** `rl break D16 not_centred` and `rl break D16 beta_inverse` break the one line that explains it
all; `rl break D16 own_reward` lets a completion be its own baseline: say first which claim notices.

**Exercises.**

<!-- exercises: D16 -->

*D16.1 · The heart of it* (35 minutes, medium). Write the best of n, the baseline, and the two sides of the
story's one line, from (1), (3), (4) and (5). `rl exercise D16.best_of_n`, `rl exercise D16.leave_one_out`,
`rl exercise D16.tilt`, `rl exercise D16.covariance`.

*D16.2 · A penalty that stops at the peak* (25 minutes, medium). Someone who knew the gold reward could choose
the best $\beta$. By (5) gold rises as long as its covariance with the proxy is positive. If that crosses zero
once, halving an interval finds where: write it. For the three texts of section 3 it is $\lambda = 0.462$.
Which $\beta$ is that? And how is one chosen for `maximise`? `rl exercise D16.turning_point`.

<details><summary>Answer</summary>

$\beta = 1 / 0.462 = 2.2$. `maximise` needs the log-probabilities first, then `rewards -= beta * (log_probs -
ref_log_probs).detach()` before the baseline. At an optimum $\beta$ is what the last nat brought: the slope of
the proxy (in its own units) over the divergence, at gold's peak. Nobody knows gold, so the peak must be
looked for with people.
</details>

*D16.3 · Ask again* (30 minutes, hard). Label 500 pairs of the *optimised* policy, train the reward model on
all pairs, and maximise again. What moves, the height of the peak or its place?

<details><summary>Answer</summary>

Both, and the place more: the proxy has now seen gushing and echoes lose. It will be found out again further
away. This loop, policy, pairs, reward model, is how it is done at scale (D1).
</details>

*D16.4 · Find the bug* (10 minutes). `rl exercise D16.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def train_proxy(base: LoadedModel, cfg: Config, log: RunLog) -> nn.Module:
    """The reward model of D3, from the same pairs and the same first weights."""
    pairs = preferences.collect_pairs(base, cfg.num_pairs, cfg.seed, cfg.num_tokens, cfg.temperature)
    tokens = preferences.as_tokens(pairs, base.tokenizer)
    torch.manual_seed(cfg.seed)
    model = preferences.RewardModel(base.model, *preferences.marks(base.tokenizer))
    log.keep(base=base, tokens=tokens)
    return preferences.train_reward_model(model, tokens, cfg, log)


def judge(
    model: nn.Module, scorer: Callable, base: LoadedModel, cfg: Config
) -> dict[str, Float[np.ndarray, " num"]]:
    """Gold and proxy of fresh completions of a policy, both in units of gold."""
    policy = LoadedModel(model, base.tokenizer)
    generator = torch.Generator().manual_seed(cfg.seed + 1_000_003)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(cfg.num_judged)]
    texts, _ = write_texts(policy, prompts, cfg.num_tokens, generator)
    return {
        "gold": gold_reward(texts),
        "proxy": cfg.temperature * score_texts(scorer, base.tokenizer, texts),
    }


def claim_turn(
    final: nn.Module, highest: nn.Module, peak: int, scorer: Callable, base: LoadedModel, cfg: Config,
    log: RunLog,
) -> None:  # fmt: skip
    """Gold at its peak against either end: the peak is chosen on training batches, judged on fresh texts."""
    start, top, end = (judge(model, scorer, base, cfg) for model in (base.model, highest, final))
    log.write(
        peak, gold_start=start["gold"].mean(), gold_peak=top["gold"].mean(), gold_end=end["gold"].mean()
    )

    def above(other: dict) -> float:
        """By how many standard errors gold at the peak is higher than there."""
        error = math.sqrt(top["gold"].var() + other["gold"].var()) / math.sqrt(cfg.num_judged)
        return (top["gold"].mean() - other["gold"].mean()) / max(error, 1e-9)

    says = "as policy gradient maximises the proxy, the true reward rises, then falls (the smaller change)"
    rule = {"unit": "standard errors", "source": "the usual bar of significance"}
    log.claim("rloo_gold_turns", says, min(above(start), above(end)), at_least=3.0, **rule)
    says = "from gold's peak to the end the proxy's reward rises"
    rise = end["proxy"].mean() - top["proxy"].mean()
    log.claim("rloo_proxy_rises", says, rise, at_least=0.0, unit="gold", source="gao2023overoptimization")


def covariance_gap(world: TokenWorld) -> float:
    """Largest gap between the two sides of (5): the world's reward as v, the text's length as proxy."""
    ref, reward = world.reference_log_probs(), world.rewards
    length = world.completion_mask.sum(dim=1).double().expand_as(ref)
    above, below = ((tilt(ref, length, 0.5 + step).exp() * reward).sum(dim=1) for step in (1e-4, -1e-4))
    slope = covariance(tilt(ref, length, 0.5), reward, length)
    return ((above - below) / 2e-4 - slope).abs().max().item()


def main(cfg: Config, log: RunLog) -> None:
    base = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    seed_everything(cfg.seed)
    says = "the slope of any reward is its covariance with the proxy"
    rule = {"source": "finite differences of (4)", "always": True, "seeds": "10/10"}
    log.claim("covariance_gap", says, covariance_gap(token_world(cfg.seed)), at_most=1e-6, **rule)
    scorer = train_proxy(base, cfg, log)
    claim_turn(*maximise(scorer, base, cfg, log), scorer, base, cfg, log)
    log.keep(scorer=scorer)
    figure, ax = plotting.new_figure()
    kl = np.maximum(log.series("rloo_kl")[1], 0.02)
    ax.plot(kl, log.series("rloo_proxy")[1], "o", markerfacecolor="none", label="promised by the proxy")
    ax.plot(kl, log.series("rloo_gold")[1], "o", label="gold: the true reward")
    ax.set(
        xscale="log", xlabel="KL from the reference, nats (log)", ylabel="reward", title="One policy, updated"
    )
    ax.set_yscale("symlog", linthresh=2.0)
    ax.legend(loc="lower left")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
