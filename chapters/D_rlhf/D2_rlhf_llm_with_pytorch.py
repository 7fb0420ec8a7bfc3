# %% [markdown]
r"""
# D2 · RLHF on a language model, in PyTorch

**Question.** How does proximal policy optimisation (PPO) turn a language model that writes anything into one
that writes what is rewarded, what holds it to its language meanwhile, and what happens when nothing does?

**Before this:** C3 (PPO) and D0. **Changes from C3:** the policy is a language model, a token is an action, a
completion an episode, the reward comes at its end, and each token is penalised by its log-ratio to a frozen
copy of the model. **Next:** D3 learns the reward from comparisons.

**Time.** 45 s on 2 cores; with all evidence 140 s.

References: `ziegler2019finetuning`, `ouyang2022instructgpt`, `schulman2017ppo`, `korbak2022bayesian`.

Symbols: `B` completions; `P` tokens of the longest prompt $x$; at most `T` tokens of a completion $y$; `V`
ids in the vocabulary, but $V(s)$ the critic; $m_t$ mask; $c_v$ is `vf_coef`, $\lambda$ `gae_lambda`.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs.token_world import token_world
from chapters.text.charts import draw_frontier, draw_score_and_kl
from chapters.text.checkpoint import resumable
from chapters.text.models import load_model
from chapters.text.ppo import TEXT, PolicyWithValue, clipped_surrogate, update
from chapters.text.recipes import review_recipe
from chapters.text.tasks import Task, best_of, gap_watcher, reviews_task, world_task
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Ids, Mask = Int[Tensor, "B T"], Bool[Tensor, "B T"]  # an id (or 0 or 1), or a flag, in each column
Grid, Scores = Float[Tensor, "B T"], Float[Tensor, " B"]  # a number for each token, or each completion
Prompt, Batch = Int[Tensor, "B P"], dict[str, Tensor]
WORLD = {"learning_rate": 0.03, "beta": 0.5, "num_prompts": 1024}  # what differs on the token world (4)


@dataclass(frozen=True)
class Config:
    """PPO on a pretrained language model, and on a world small enough to know the exact answer."""

    seed: int = 0
    """Seed of sampling, of the shuffles and of the token world."""
    model: str = "tiny"
    """tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps that train the tiny model, once; it is then kept in a cache."""
    learning_rate: Annotated[float, in_range(1e-9, 1.0)] = 5e-4
    """Adam's step size; a larger model needs smaller steps (5e-5 for 100 million parameters)."""
    beta: Annotated[float, in_range(0.0, 100.0)] = 0.2
    """Coefficient of the KL penalty: what a nat (natural log) of divergence from the reference costs."""
    num_prompts: Annotated[int, in_range(2, 10_000)] = 64
    """B: completions sampled in each update."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 36
    """Batches sampled and learnt from."""
    num_epochs: Annotated[int, in_range(1, 100)] = 2
    """Passes over each batch."""
    num_minibatches: Annotated[int, in_range(1, 1000)] = 2
    """Parts of a batch, one gradient step each."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one token; 1 takes all rewards to come, and the critic as a baseline."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a token's ratio may move before the reason to move it further is taken away."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Weight of the value loss."""


SMOKE = {"pretrain_steps": 20, "num_prompts": 8, "num_updates": 1}

# %% [markdown]
r"""
## 1. Completions in a batch

Prompts are padded on the **left**, so that all completions start in the same column; padding gets no position
of its own. Completions are padded on the right. Their mask is True up to and *including* the end-of-sequence
token (EOS): to stop is an action. `sample` draws at temperature 1, so it writes $y$ with this probability:

$$\log \pi(y \mid x) = \textstyle\sum_t \log \pi(y_t \mid x, y_{<t}) \tag{1}$$

The logits in column $t$ predict column $t + 1$. (`chapters/text/generation.py` samples alike, but faster:
with a cache.)
"""


# %%
def positions(mask: Ids) -> Ids:
    """Position of each token in its own text: padding on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def sample(
    policy: Callable, prompt_ids: Prompt, prompt_mask: Prompt, num_tokens: int, eos_id: int, pad_id: int,
    generator: torch.Generator,
) -> tuple[Ids, Mask]:  # fmt: skip
    """(completion_ids, completion_mask): `num_tokens` columns, padding behind the EOS."""
    ids, mask = prompt_ids, prompt_mask
    done = torch.zeros(len(ids), dtype=torch.bool)  # [B]
    for _ in range(num_tokens):
        logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits[:, -1]
        token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]  # [B]
        ids = torch.cat([ids, token.masked_fill(done, pad_id)[:, None]], dim=1)
        mask = torch.cat([mask, ~done[:, None]], dim=1)
        done = done | (token == eos_id)
    completion = slice(prompt_ids.shape[1], None)
    return ids[:, completion], mask[:, completion].bool()


def token_log_probs(
    policy: Callable, prompt_ids: Prompt, prompt_mask: Prompt, completion_ids: Ids, completion_mask: Mask
) -> Grid:
    """log pi(token | everything before it) of each completion token; 0 where the mask is False."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)  # [B, P + T]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    predicting = logits[:, prompt_ids.shape[1] - 1 : -1]  # [B, T, V]: the position before a token predicts it
    chosen = predicting.log_softmax(-1).gather(-1, completion_ids[..., None])[..., 0]
    return chosen.masked_fill(~completion_mask, 0.0)  # eq. (1): their sum is log pi(y | x)


# %% [markdown]
r"""
## 2. A reward for each token

The score $r(x, y)$ judges a whole completion, so it comes once, with the last token. The *KL penalty*
(Kullback–Leibler) comes with every token: $-\beta$ times the log-ratio to the *reference*, a frozen copy of
the model before training (`ziegler2019finetuning`). With $\theta_\text{old}$, the weights that sampled:

$$r_t = -\beta \log \frac{\pi_{\theta_\text{old}}(y_t \mid x, y_{<t})}{\pi_\text{ref}(y_t \mid x, y_{<t})} +
\mathbb 1[t \text{ is the last token}]\; r(x, y) \tag{2}$$

Over a completion they sum to $r - \beta \log(\pi_{\theta_\text{old}} / \pi_\text{ref})$, whose mean over the
policy's own completions is D0's objective. The rest is C3's, with $\gamma = 1$. A text cut off at `T` tokens
is scored as it stands, so its end is `terminated` too: no value is added behind it. With $s_t = (x, y_{<t})$:

$$\delta_t = r_t + V(s_{t+1})m_{t+1} - V(s_t),\quad\hat A_t = \delta_t + \lambda \hat A_{t+1} m_{t+1}\tag{3}$$

*By hand*, with $\beta = \lambda = 0.5$. Two tokens, then padding; the score is 1. The first is likelier than
under the reference and pays 0.1; the second is less likely and gets 0.2 besides the score. From the end,
advantages are $1.2 - 0.6$ and $(-0.1 + 0.6 - 0.5) + 0.5 \cdot 0.6$. What stands in the padding does not
matter:

```python
>>> mask = torch.tensor([[True, True, False]])
>>> rewards = token_rewards(torch.tensor([1.0]), torch.tensor([[0.2, -0.4, -7.0]]), mask, beta=0.5)
>>> rewards
tensor([[-0.1000,  1.2000,  0.0000]])
>>> gae(rewards, values=torch.tensor([[0.5, 0.6, 9.0]]), completion_mask=mask, gae_lambda=0.5)
tensor([[0.3000, 0.6000, 0.0000]])
```

Then advantages are *whitened*: mean $\mu_m$ and standard deviation $\sigma_m$ are those of all tokens that
exist.

$$\tilde A_t = (\hat A_t - \mu_m) / \sigma_m, \qquad \mu_m = \textstyle\sum m_t \hat A_t / \sum m_t \tag{4}$$
"""


# %%
def token_rewards(scores: Scores, log_ratio: Grid, completion_mask: Mask, beta: float) -> Grid:
    """A KL penalty for each token's `log_ratio`, policy over reference; the score comes with the last."""
    last = completion_mask.sum(dim=1) - 1  # [B]
    rewards = -beta * log_ratio * completion_mask
    rewards[torch.arange(len(scores)), last] += scores  # eq. (2)
    return rewards


def gae(rewards: Grid, values: Grid, completion_mask: Mask, gae_lambda: float) -> Grid:
    """Advantages of tokens, undiscounted; behind a completion's last token nothing more is expected."""
    values = values * completion_mask
    advantages = torch.zeros_like(rewards)
    next_values = running = torch.zeros_like(rewards[:, 0])  # [B]
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_values - values[:, t]  # eq. (3)
        running = (delta + gae_lambda * running) * completion_mask[:, t]
        advantages[:, t] = running
        next_values = values[:, t]
    return advantages


def masked_mean(numbers: Grid, mask: Mask) -> Float[Tensor, ""]:
    """Mean over the tokens that exist; 0 if there are none."""
    return (numbers * mask).sum() / mask.sum().clamp(min=1)


def whiten(advantages: Grid, mask: Mask) -> Grid:
    """Mean 0 and standard deviation 1 over the tokens that exist; 0 if all are equal, and in padding."""
    kept = advantages[mask]
    differ = (kept != kept[:1]).any()  # if not, only rounding errors would be scaled up
    centred = (advantages - masked_mean(advantages, mask)) * mask * differ
    deviation = (centred.pow(2).sum() / (mask.sum() - 1).clamp(min=1)).sqrt()
    return centred / (deviation + 1e-8)  # eq. (4)


# %% [markdown]
r"""
## 3. Policy, loss, update

The critic is one linear layer on the hidden states from which the logits come. It starts at zero; its weights
are part of $\theta$ (`PolicyWithValue` and C3's `update`: `chapters/text/ppo.py`). A `Task` holds prompts and
the score. The loss is C3's for each token, without entropy bonus; the critic's target $\hat R_t = \hat A_t +
V_\text{old}(s_t)$ is made before whitening:

$$w_t = \frac{\pi_\theta(y_t \mid x, y_{<t})}{\pi_{\theta_\text{old}}(y_t \mid x, y_{<t})}, \qquad
L_t = \min\bigl(w_t \tilde A_t,\; \mathrm{clip}(w_t, 1 \pm \epsilon_\text{clip})\, \tilde A_t\bigr) \tag{5}$$

$$\mathcal L = \frac{1}{\sum m_t} \sum m_t \bigl[-L_t + c_v\,(V(s_t) - \hat R_t)^2\bigr] \tag{6}$$

The sums run over a minibatch: every *token* weighs the same. In a mean of completions' own means, every
*completion* would (D5).
"""


# %%
def log_probs_and_values(policy: nn.Module, batch: Batch) -> tuple[Grid, Grid]:
    """`token_log_probs` and, from the same pass, the value before each completion token: [B, T] each."""
    prompt_ids, prompt_mask, completion_ids, completion_mask = text = [batch[name] for name in TEXT]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)  # [B, P + T]
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    log_probs = token_log_probs(lambda **_: out, *text)  # reads the pass above; the model runs once
    return log_probs, out.values[:, prompt_ids.shape[1] - 1 : -1]


@torch.no_grad()
def collect(
    policy: nn.Module, reference: nn.Module, task: Task, generator: torch.Generator, cfg: Config
) -> Batch:
    """Sample a batch and judge it: a score each, each token's advantage and target; no gradient flows."""
    rows = torch.randint(len(task.prompt_ids), (cfg.num_prompts,), generator=generator)
    prompt = task.prompt_ids[rows], task.prompt_mask[rows]
    ids, mask = sample(policy, *prompt, task.num_tokens, task.eos_id, task.pad_id, generator)
    batch = dict(zip(TEXT, (*prompt, ids, mask)))
    batch["old_log_probs"], values = log_probs_and_values(policy, batch)
    batch["log_ratio"] = batch["old_log_probs"] - token_log_probs(reference, *prompt, ids, mask)
    batch["scores"] = task.score(rows, ids).to(values.dtype)
    rewards = token_rewards(batch["scores"], batch["log_ratio"], mask, cfg.beta)
    advantages = gae(rewards, values, mask, cfg.gae_lambda)
    batch["returns"] = advantages + values * mask  # not whitened: in the score's own units
    batch["advantages"] = whiten(advantages, mask)
    return batch


def minibatch_loss(policy: nn.Module, mini: Batch, clip_eps: float, vf_coef: float) -> tuple[Tensor, Grid]:
    """(loss, ratio of each token; 1 where there is none)."""
    log_probs, values = log_probs_and_values(policy, mini)
    ratio = (log_probs - mini["old_log_probs"]).exp()  # eq. (5)
    errors = (values - mini["returns"]).pow(2)  # [B, T]
    losses = vf_coef * errors - clipped_surrogate(ratio, mini["advantages"], clip_eps)
    return masked_mean(losses, mini["completion_mask"]), ratio  # eq. (6)


def train(
    policy: nn.Module, reference: nn.Module, task: Task, cfg: Config, log: RunLog, name: str,
    watch: Callable[[nn.Module, int], None] = lambda policy, step: None,
) -> None:  # fmt: skip
    """Fine-tune `policy` in place; `watch(policy, number of updates)` is called after each update."""
    generator = torch.Generator().manual_seed(cfg.seed)
    reference.requires_grad_(False)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate, eps=1e-5)
    state = (policy, optimizer, generator)  # all that changes: a run that is stopped can go on
    for i in resumable(log, cfg.num_updates, f"updates ({name})", state, f"{name}_score"):
        batch = collect(policy, reference, task, generator, cfg)
        gap = update(policy, optimizer, batch, minibatch_loss, generator, cfg)  # of the first ratios to 1
        kl = batch["log_ratio"].sum(dim=1).mean()  # of whole completions, in nats: an estimate
        log.write(i, **{f"{name}_score": batch["scores"].mean(), f"{name}_kl": kl, f"{name}_first_gap": gap})
        watch(policy, i + 1)


# %% [markdown]
r"""
## 4. Look, break, write

The **token world** is so small that all its completions can be listed; the policy there is a table. So the
best reward at each KL is known: for some $\beta$, $\pi \propto \pi_\text{ref}\, e^{r/\beta}$ attains it
(`korbak2022bayesian`). The **reviews** come from a tiny GPT-2, trained here on an invented grammar of film
reviews and nothing else. Their score: positive words minus negative ones, capped at ±3.

![PPO climbs below the best possible curve to the optimum; on reviews score and KL level off](results/D2.png)

Left ($\beta = 0.5$), PPO ends next to the optimum. *Best of n*, the highest-scored of $n$ completions of the
reference, comes near the curve untrained, but each answer costs $n$. Right ($\beta = 0.2$), the score passes
the best of 16 and levels off below 3; the KL overshoots, then settles. With other $\beta$:

![With beta 0 the reference finds the words written, on average, less likely than 1/V](results/D2_sweep.png)

*Surprise* is minus the log-probability that the *reference* gives to a word, on average; dotted: $\log V$,
what it is if all words are equally likely. The cap alone saves no language: repeated praise earns 3 too.
Next, how much of the way from the reference's objective (0) to the optimum's (1) is closed with one detail
changed:

![One detail changed, on the token world: a flipped KL sign costs most by far](results/D2_ablations.png)

Padding that counts as text is trained as if it were sampled. Rewards clipped at ±1 are another objective
(grey: where *its* optimum stands). Whitening and the mean of means change little here: at the optimum $r -
\beta \log(\pi / \pi_\text{ref})$ is the same for all completions of a prompt, so no weighting pulls away from
it.

**The verdict.** PPO treats each token as an action: advantages pass a text's score on to its tokens, and what
is rewarded is written more, on the token world nearly as well as possible. The KL penalty holds the model to
its language. Without it only the score counts, and of the language only words that score are left.

<!-- results: D2 -->

`rl run D2`: 33 s; with `--evidence`: 134 s, 1173 MB; with `--smoke --evidence`: 16 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| first_ratio_gap            | 0                               | ≤ 1e-05  | 10/10 |
| gap_closed                 | 0.986 (0.98 to 0.987)           | ≥ 0.95   | 10/10 |
| reward_after               | 2.73 (2.69 to 2.75)             | ≥ 2.143  | 10/10 |
| kl                         | 4.15 (3.72 to 4.39)             | ≤ 13.42  | 10/10 |
| kl_penalty_sum_gap *       | 8.88e-16 (6.66e-16 to 1.11e-15) | ≤ 1e-10  | 10/10 |
| gae_gap *                  | 8.88e-16 (4.44e-16 to 8.88e-16) | ≤ 1e-10  | 10/10 |
| gap_with_kl_sign_flipped * | -1.92 (-2.33 to -1.6)           | ≤ 0      | 10/10 |
| reward_before *            | 0.0586 (0.0391 to 0.125)        | 0 ± 0.3  | 10/10 |
| positive_share *           | 0.992 (0.988 to 0.996)          | ≥ 0.9358 | 10/10 |
| distinct_share *           | 1                               | ≥ 0.9648 | 10/10 |
| reward_without_kl *        | 18.3 (17.1 to 19)               | ≥ 6      | 10/10 |
| surprise_without_kl *      | 11 (10.6 to 11.3)               | ≥ 4.554  | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `first_ratio_gap`: in the first minibatch of a batch every token's ratio is 1, but for rounding
- `gap_closed`: PPO closes the gap between the reference and the exact optimum on the token world
- `reward_after`: a completion of the trained model scores higher than the best of 16 of the reference
- `kl`: the policy stays so near the reference that the score gained outweighs the KL penalty (nats a
  completion)
- `kl_penalty_sum_gap`: the rewards of a completion's tokens add up to its score minus beta times its
  log-ratio (nats)
- `gae_gap`: with lambda 1 an advantage is all reward to come minus the value
- `gap_with_kl_sign_flipped`: with the sign of the KL flipped the policy ends worse than it began (of the gap)
- `reward_before`: before training positive and negative words balance (mean score, at most 3)
- `positive_share`: a completion of the trained model is positive more often than the best of 6 of the
  reference (share of fresh completions)
- `distinct_share`: the trained model repeats itself no more often than the reference (share of distinct
  texts)
- `reward_without_kl`: with beta 0 and no cap the mean text outdoes the best of 1,000 genuine reviews (mean
  score of a text)
- `surprise_without_kl`: with beta 0 and no cap the reference gives the words written less probability than a
  uniform model (nats a word)
</details>

<!-- /results -->

**Break it.** `rl break D2 no_kl`: no penalty. `rl break D2 kl_sign`: a bonus for divergence.
`rl break D2 padding_counted`: no mask. Before each run, say which of the claims will fail.

**Exercises.**

<!-- exercises: D2 -->

*D2.1 · The heart of it* (35 minutes, medium). Write a reward for each token, and advantages that end with the
completion, from (2) and (3). `rl exercise D2.token_rewards`, `rl exercise D2.gae`.

*D2.2 · A beta that adapts* (15 minutes, easy). You may know how far the policy should go from the reference,
say $d$ nats, without knowing a good $\beta$. After each batch this raises $\beta$ if the policy is further
away, and lowers it if nearer (`ziegler2019finetuning`):

$$\beta \leftarrow \beta \bigl[1 + 0.1\, \mathrm{clip}(\mathrm{KL} / d - 1, \pm 0.2)\bigr] \tag{E1}$$

Why is the error clipped? `rl exercise D2.next_beta`.

<details><summary>Answer</summary>

The KL of a batch is noisy: a few completions that the reference finds absurd may double it. With the clip
$\beta$ moves by at most 2 % a batch: only a KL that stays off its target moves it far.
</details>

*D2.3 · Cut off* (15 minutes, easy). A completion of `T` tokens without an EOS was cut off, often in
mid-sentence. Take a penalty $c$ from its score:

$$\tilde r(x, y) = r(x, y) - c\; \mathbb 1[\text{no } y_t \text{ is the EOS}] \tag{E2}$$

Beware: the last of `T` may be the EOS. What is such a penalty for? `rl exercise D2.penalise_unfinished`.

<details><summary>Answer</summary>

Nothing in D2's score says that a text should come to its end, and a longer one has room for more praise. With
a $c$ above 1, to be cut off costs more than one further positive word can bring.
</details>

*D2.4 · Find the bug* (10 minutes). `rl exercise D2.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def fresh(policy: nn.Module, reference: nn.Module, task: Task, cfg: Config) -> Batch:
    """A batch to measure by: the same prompts for each policy, and a generator of its own."""
    generator = torch.Generator().manual_seed(cfg.seed + 10_000)
    return collect(policy, reference, task, generator, replace(cfg, num_prompts=256))


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    world = token_world(cfg.seed)
    on_world = replace(cfg, **WORLD, num_updates=3 * cfg.num_updates)
    watch = gap_watcher("", world, on_world.beta, on_world.num_updates, log)
    train(world.reference(), world.reference(), world_task(world), on_world, log, "world", watch)
    base, tokenizer = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    task = reviews_task(tokenizer, num_tokens=20)
    policy = PolicyWithValue(copy.deepcopy(base)).requires_grad_(True)  # a copy of a frozen model is frozen
    train(policy, base, task, cfg, log, "review")
    before, after = (fresh(model, base, task, cfg) for model in (PolicyWithValue(base), policy))
    says = "in the first minibatch of a batch every token's ratio is 1, but for rounding"
    gap = max(*log.series("world_first_gap")[1], *log.series("review_first_gap")[1])
    rule = {"source": "the weights have not moved", "seeds": "10/10", "always": True}
    log.claim("first_ratio_gap", says, gap, at_most=1e-5, **rule)
    says = "PPO closes the gap between the reference and the exact optimum on the token world"
    rule = {"source": "enumeration of all completions", "seeds": "10/10"}
    log.claim("gap_closed", says, log.last("token_gap"), at_least=0.95, **rule)
    score, best = after["scores"].mean().item(), best_of(before["scores"], 16)
    log.claim(
        "reward_after",
        "a completion of the trained model scores higher than the best of 16 of the reference",
        score,
        at_least=best,
        source="the reference's own fresh completions",
    )
    log.claim(
        "kl",
        "the policy stays so near the reference that the score gained outweighs the KL penalty",
        after["log_ratio"].sum(dim=1).mean(),
        at_most=(score - before["scores"].mean().item()) / max(cfg.beta, 1e-9),
        unit="nats a completion",
        source="E[r] - beta KL must rise",
    )
    log.keep(world=world, base=base, tokenizer=tokenizer, task=task, before=before, after=after)
    figure, (chart, curve) = plotting.new_figure(1, 2, width=6.2, height=4.4)
    draw_frontier(chart, world, WORLD["beta"], log)
    draw_score_and_kl(curve, log, "review", best)
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
