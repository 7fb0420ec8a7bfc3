# %% [markdown]
r"""
# D9 · Tools and turns

**Question.** An agent writes, asks a tool, reads the answer and writes on. Which of these tokens are its
actions, and how does a reward at the end reach the call at the beginning?

**Before this:** D5, and nothing in between. **Changes from D5:** the world writes, too. **Next:** D15.

**Time.** 60 s on 2 cores; with all evidence 150 s.

References: `williams1992reinforce`, `kool2019buy`, `liu2025drgrpo`, `jin2025searchr1`, `yao2025offpolicy`,
`villanova2026liger`, `kuhn1950poker`, `freund1999adaptive`.

Symbols: $y$ a text of at most $T$ tokens behind its problem $x$, $m_t$ 1 for the agent's own tokens, 0 for
the world's, $R$ its reward, $\mu$ the policy that sampled it, $c$ the world's part of its probability, $B$
texts in a batch, $G$ of each problem.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs import calculator
from chapters.envs.tool_world import ToolWorld
from chapters.text.dialogues import CalculatorDialogue, Dialogue, Text, forbidden, padded, pulls
from chapters.text.generation import positions
from chapters.text.grpo import schedule
from chapters.text.models import load_model
from chapters.text.recipes import calculator_recipe
from chapters.text.tasks import greedy, log_probs_of
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

Column = Float[Tensor, " B"]  # a number for each text of a batch
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token


@dataclass(frozen=True)
class Config:
    """A policy gradient over several turns, in a small world and on a language model with a calculator."""

    seed: int = 0
    """Seed of problems and sampling."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 400
    """Steps that train the small language model, once, on solved problems; three in ten of them call."""
    num_prompts: Annotated[int, in_range(1, 10_000)] = 24
    """Problems in a batch."""
    group_size: Annotated[int, in_range(2, 10_000)] = 8
    """G: texts of each problem."""
    num_updates: Annotated[int, in_range(1, 100_000)] = 30
    """Batches that the language model writes and learns from."""
    learning_rate: Annotated[float, in_range(1e-8, 1.0)] = 1e-3
    """Adam's step size for the language model, after it has risen and before it falls."""
    world_updates: Annotated[int, in_range(1, 100_000)] = 60
    """Batches in the small world, of 2 problems."""
    num_held_out: Annotated[int, in_range(1, 1_602)] = 400
    """Problems that nothing was trained on, to measure success by."""


WORLD = {"num_prompts": 2, "group_size": 32, "learning_rate": 0.05}  # what differs in the small world
SMOKE = {"pretrain_steps": 10, "num_prompts": 2, "num_updates": 2, "world_updates": 3, "num_held_out": 8}

# %% [markdown]
r"""
## 1. Who writes what

`37*84=` is asked, and the last three digits of the product, `108`, are wanted. A small language model cannot
multiply. But it can write `C37*84>`. Then a calculator writes `108;` into the same text, and the model goes
on: `108`, end. That is two *turns* of the agent, an *observation* between them. The model reads all tokens,
but chose only its own. A rollout must remember which:

```python
>>> class Calculator:
...     def reply(self, row, secret, written):
...         return (list("108;"), False) if written[-1] == ">" else ([], written[-1] == "end")
>>> text = Text(row=0, secret=None)
>>> for sampled in ["C", "37*84", ">", "x", "x", "x", "x", "108", "end"]:
...     _ = write(text, sampled, Calculator())
>>> "".join(text.written), "".join("own" if own else "..." for own in text.own)
('C37*84>108;108end', 'ownownown............ownown')
```

While the world speaks, what was sampled (`x`) is thrown away. `own` becomes the mask $m_t$.
"""


# %%
def write(text: Text, sampled: Any, dialogue: Any) -> Any:
    """Put one token behind a text and return it: the world's, if it has any left, else the sampled one."""
    own = not text.waiting
    token = sampled if own else text.waiting.pop(0)
    text.written.append(token)
    text.own.append(own)
    if own:
        text.waiting, text.over = dialogue.reply(text.row, text.secret, text.written)
    return token


@torch.no_grad()
def rollout(
    policy: Callable, dialogue: Dialogue, rows: Int[Tensor, " B"], generator: torch.Generator
) -> dict[str, Tensor]:
    """A batch of texts, one for each of the problems `rows`; `agent_mask` marks what the policy chose."""
    ids, mask = dialogue.prompt_ids[rows], dialogue.prompt_mask[rows]
    batch = {"prompt_ids": ids, "prompt_mask": mask, "problems": rows}
    secrets = dialogue.secrets(rows.tolist(), generator)
    texts = [Text(row, secret) for row, secret in zip(rows.tolist(), secrets)]
    position_ids, cache = positions(mask), None
    for _ in range(dialogue.num_tokens):
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids}
        out = policy(**inputs, past_key_values=cache, use_cache=True)
        sampled = torch.multinomial(out.logits[:, -1].softmax(-1), 1, generator=generator)[:, 0].tolist()
        pairs = zip(texts, sampled)
        tokens = [dialogue.pad_id if text.over else write(text, token, dialogue) for text, token in pairs]
        if all(text.over for text in texts):
            break
        # the next call sees one new token; the cache remembers what stands before it
        cache, ids = out.past_key_values, torch.tensor(tokens)[:, None]
        position_ids = position_ids[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    rewards = [dialogue.reward(text.row, text.secret, text.written) for text in texts]
    return batch | padded(texts, dialogue) | {"rewards": torch.tensor(rewards)}


# %% [markdown]
r"""
## 2. The exact gradient

Let the world draw its part $c$ of a text (problem, hidden things, answers), the policy its own tokens. With
$y_{<t}$ for all that stands before a token, whoever wrote it, the expected return is

$$J = \sum_y c(y) \pi_\theta(y) R(y),\; \pi_\theta(y) = \prod_t \pi_\theta(y_t \mid x, y_{<t})^{m_t} \tag{1}$$

$c$ does not depend on $\theta$. So the gradient has *every* token that the agent chose, before and after an
answer, and no other (`williams1992reinforce`). A baseline $b(x)$ changes nothing in it:

$$\nabla J = \mathbb E[(R - b) \textstyle\sum_t m_t \nabla \log \pi_\theta(y_t \mid x, y_{<t})] \tag{2}$$

That a call's reward comes only after the tool has spoken is no reason to leave the call out: it is *why*
the answer was there. As baseline we take the other texts of the *same* problem (`kool2019buy`):

$$\hat A_i = R_i - \frac{1}{G - 1} \sum_{j \ne i,\; x_j = x_i} R_j \tag{3}$$

$$\mathcal L = -\frac{1}{B T} \sum_i w_i \hat A_i \sum_t m_{it} \log \pi_\theta(y_{it}) \tag{4}$$

$w_i$ is 1 for now. The divisor is a constant (`liu2025drgrpo`): divided by its own length, a text that called
would count less for having been answered. *By hand*, a text of call and answer, and a guess, of one problem:

```python
>>> judged = advantages(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]))
>>> own = torch.tensor([[True, False, True], [True, False, False]])
>>> log_probs = torch.full((2, 3), -0.7, requires_grad=True)
>>> loss = turns_loss(log_probs, {"agent_mask": own, "advantages": judged, "weights": torch.ones(2)})
>>> torch.autograd.grad(loss, log_probs)[0].mul(6).tolist()
[[-1.0, -0.0, -1.0], [1.0, 0.0, 0.0]]
```
"""


# %%
def expected_return(policy: Callable, texts: dict[str, Tensor]) -> Float[Tensor, ""]:
    """J of a policy in a world whose texts are all listed; autograd finds its exact gradient."""
    own = (log_probs_of(policy, texts) * texts["agent_mask"]).sum(dim=1)  # [M]
    return (texts["chance"] * own.exp() * texts["rewards"]).sum()  # eq. (1)


def advantages(rewards: Column, problems: Int[Tensor, " B"]) -> Column:
    """How much better each text is than the others of its problem, wherever in the batch they stand."""
    same = (problems[:, None] == problems).to(rewards.dtype)  # [B, B]
    others = same.sum(dim=1) - 1.0
    if (others < 1.0).any():
        raise ValueError("a text that is alone with its problem has nothing to be compared with")
    return rewards - (same @ rewards - rewards) / others  # eq. (3)


def turns_loss(log_probs: Grid, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """What the optimiser lowers: each token that the agent wrote bears its text's whole advantage."""
    own = (log_probs * batch["agent_mask"]).sum(dim=1)  # [B]
    worth = batch["weights"] * batch["advantages"]
    return -(worth * own).mean() / log_probs.shape[1]  # eq. (4)


# %% [markdown]
r"""
## 3. When the sampler is not the trainer

Rollouts with tools are slow, so another program writes them, with older weights, or rounded ones. Then $\mu$
wrote, but (2) asks for $\pi_\theta$. The remedy is a weight, how much likelier the agent's own tokens are to
the trainer, cut at $C$, for it can be huge (*truncated importance sampling*, `yao2025offpolicy`):

$$w_i = \min(C,\; \exp \textstyle\sum_t m_{it} \log \frac{\pi_\theta(y_{it})}{\mu(y_{it})}) \tag{5}$$

Uncut it is exact: $\sum_y c\, \mu\, \frac{\pi_\theta}{\mu} = \sum_y c\, \pi_\theta$. `expected_loss`
enumerates what a cut costs: (4) with every text as often as $\mu$ writes it. Here the second is the world's:

```python
>>> new, old = torch.tensor([[-0.5, -1.0, -0.5]]), torch.tensor([[-1.0, -9.0, -1.0]])
>>> [round(importance_weights(new, old, new > -0.9, cap).item(), 2) for cap in (2.0, 10.0)]
[2.0, 2.72]
```
"""


# %%
def importance_weights(log_probs: Grid, sampler_log_probs: Grid, agent_mask: Mask, cap: float) -> Column:
    """How much likelier the agent's part of a text is to the trainer than to the sampler, at most `cap`."""
    log_ratio = ((log_probs - sampler_log_probs) * agent_mask).sum(dim=1)
    return log_ratio.exp().clamp(max=cap).detach()  # eq. (5)


def expected_loss(
    policy: Callable, texts: dict[str, Tensor], sampler: Callable, cap: float = float("inf")
) -> Float[Tensor, ""]:
    """The loss of a batch without end that `sampler` wrote: every text, weighed by its probability."""
    log_probs = log_probs_of(policy, texts)
    own = texts["agent_mask"]
    with torch.no_grad():
        old = log_probs_of(sampler, texts)
        chance = texts["chance"] * (old * own).sum(dim=1).exp()  # [M], they sum to 1
        same = (texts["problems"][:, None] == texts["problems"]).double() * chance
        judged = texts["rewards"] - same @ texts["rewards"] / same.sum(dim=1)
    weights = len(chance) * chance * importance_weights(log_probs, old, own, cap)  # the loss is a mean
    return turns_loss(log_probs, texts | {"advantages": judged, "weights": weights})


# %% [markdown]
r"""
## 4. Learning

The same loop trains a policy of 120 numbers in the small world (`chapters/envs/tool_world.py`: a call at the
price of 0.1 shows which of three letters is hidden) and a language model with a calculator. It also logs
where its loss pulls, as shares of $|\partial\mathcal L/\partial\log\pi_t|$: *`world_pull`* on the world's
tokens, 0 or something is wrong; *`early_pull`*, in texts that have such tokens, on what the agent wrote
before the last of them: 0 means that no call is ever credited.
"""


# %%
def update(policy: nn.Module, optimizer: Adam, batch: dict[str, Tensor]) -> dict[str, float]:
    """One step along a batch that the policy itself has just written."""
    log_probs = log_probs_of(policy, batch)
    log_probs.retain_grad()
    judged = advantages(batch["rewards"], batch["problems"]).to(log_probs.dtype)
    loss = turns_loss(log_probs, batch | {"advantages": judged, "weights": torch.ones_like(judged)})
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return pulls(log_probs.grad, batch)


def train(
    policy: nn.Module, dialogue: Dialogue, cfg: Config, log: RunLog, name: str,
    watch: Callable = lambda policy, num_updates: None,
) -> None:  # fmt: skip
    """Learn in place from texts of its own; `watch(policy, number of updates)` is called after each."""
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    for i in log.track(range(cfg.num_updates), f"updates ({name})"):
        optimizer.lr = cfg.learning_rate * schedule(i, cfg.num_updates)
        problems = torch.randperm(len(dialogue.prompt_ids), generator=generator)[: cfg.num_prompts]
        batch = rollout(policy, dialogue, problems.repeat_interleave(cfg.group_size), generator)
        seen = update(policy, optimizer, batch) | {"reward": batch["rewards"].mean()}
        log.write(i, **{f"{name}_{what}": value for what, value in seen.items()})
        watch(policy, i + 1)


# %% [markdown]
r"""
## 5. Look, break, write

![Success on products never seen rises with the share of texts that ask](results/D9.png)

The language model had seen calls, three in ten demonstrations, and called as seldom, though nothing else is
likelier. Rewards alone made it call nearly always. With the calculator forbidden, it knows next to nothing.
The evidence makes known mistakes, named edits of (3) to (5), and compares gradients with the exact one:

![How far each fault's gradient is from the exact one, where it ends, what a cut costs](results/D9_faults.png)

If credit begins after the answer, no call is ever credited. The small world forgives that (and the next two):
guesses are blamed in full, and what they lose goes to the call. What stands *inside* a call is then taught by
nothing. Observations in the loss (`villanova2026liger`; `jin2025searchr1` measures it) teach the policy to
speak for the tool. Counted in a length, they make asking cheap when it fails and worth little when it helps.
Groups that mix problems leave the gradient right on average; their advantages spread as problems differ.

The same rollout plays a *guessing game*: a number up to $N$, $k$ guesses, "higher" or "lower" in between.
Nobody beats $\min(1, (2^k - 1)/N)$. The same loss plays *Kuhn poker*, three cards and one bet, in words
(`kuhn1950poker`) against itself: the other is the world. *Exploitability* is what a best response wins:

![Guessing against its optimum; exploitability in self-play beside CFR](results/D9_games.png)

Self-play runs in circles, so the last player can be worse than an earlier one. Learners that regret little,
as counterfactual regret minimisation (CFR, E9) does, come to rest in their *mean over time*
(`freund1999adaptive`). Ours is promised nothing, but may play its mean: draw a checkpoint before each game.

**The verdict.** Actions are the tokens that the agent sampled, all of them, and nothing that was put into its
text. The reward reaches a call because the call's own log-probability stands in the same sum (2): only a mask
can lose it. Log where the loss pulls: `world_pull` must be 0, `early_pull` must not (`rl diagnose` looks).

<!-- results: D9 -->

`rl run D9`: 28 s; with `--evidence`: 70 s, 1053 MB; with `--smoke --evidence`: 20 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| gradient_gap          | 3.86e-16 (3.57e-16 to 4.83e-16) | ≤ 1e-10      | 5/5 |
| world_return          | 0.976 (0.976 to 0.982)          | ≥ 0.95       | 5/5 |
| success_sampled       | 0.967 (0.955 to 0.985)          | ≥ 0.9        | 5/5 |
| success_forbidden     | 0.0025 (0 to 0.01)              | ≤ 0.5        | 5/5 |
| faults_off *          | 0.0932 (0.0314 to 0.197)        | ≥ 1e-08      | 5/5 |
| mixed_groups_off *    | 3.98e-16 (3.18e-16 to 5.43e-16) | ≤ 1e-08      | 5/5 |
| mixed_groups_spread * | 1 (1 to 1.03)                   | ≥ 1          | 5/5 |
| uncut_bias *          | 3.27e-16 (3.17e-16 to 7.13e-16) | ≤ 1e-08      | 5/5 |
| cut_bias *            | 0.148 (0.0379 to 0.365)         | ≥ 0.0001     | 5/5 |
| cut_beats_none *      | 0.449 (0.163 to 0.578)          | ≤ 1          | 5/5 |
| world_pull *          | 0                               | ≤ 0          | 5/5 |
| world_pull_learnt *   | 0.392 (0.355 to 0.422)          | ≥ 0.001      | 5/5 |
| early_pull_lost *     | 0                               | ≤ 0          | 5/5 |
| guess_optimum *       | 0                               | ≤ 1e-12      | 5/5 |
| guess_success *       | 0.995 (0.993 to 0.996)          | ≥ 0.9        | 5/5 |
| kuhn_before *         | 0.469                           | 0.4583 ± 0.1 | 5/5 |
| kuhn_after *          | 0.0875 (0.0738 to 0.0913)       | ≤ 0.1667     | 5/5 |
| kuhn_cfr *            | 0.0135                          | ≤ 1.96       | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `gradient_gap`: the masked loss has the exact gradient of the expected return (of the gradient)
- `world_return`: in the small world the policy earns nearly what the best one does (of the optimum)
- `success_sampled`: with its calculator the language model solves products that it has not seen (of held-out
  problems)
- `success_forbidden`: the same model with the calculator forbidden does not (of held-out problems)
- `faults_off`: each of the seven faults has another expected gradient, whatever the step size (the least
  distance) (of the gradient)
- `mixed_groups_off`: groups that mix problems leave the expected gradient as it is (of the gradient)
- `mixed_groups_spread`: but their advantages are spread wider, by how much the problems differ (times)
- `uncut_bias`: weights that are not cut make a stale sampler's expected gradient exact (of the gradient)
- `cut_bias`: weights cut at 2 leave a bias (of the gradient)
- `cut_beats_none`: which is smaller than that of no weights at all (ratio)
- `world_pull`: the right loss pulls at none of the world's tokens, in no update (of the loss's pull)
- `world_pull_learnt`: a loss of all tokens pulls at them (mean over updates) (of the loss's pull)
- `early_pull_lost`: if credit begins after the answer, nothing pulls at a call, in no update (of the loss's
  pull)
- `guess_optimum`: (2^k - 1) / N is what dynamic programming finds, for one to four guesses (of all games)
- `guess_success`: with one to four guesses the learner wins nearly as often as the best player (worst of the
  four) (of the optimum)
- `kuhn_before`: a language model that has read games of players who mix evenly loses to a best response as
  they do (coins a game)
- `kuhn_after`: one of its checkpoints of self-play, drawn by lot, loses less than any player who never mixes
  (coins a game)
- `kuhn_cfr`: CFR's average stays below its bound (coins a game)
</details>

<!-- /results -->

**Break it.** `rl break D9 observations_learnt`, `rl break D9 credit_after_answer`: which claims notice?

**Exercises.**

<!-- exercises: D9 -->

*D9.1 · The heart of it* (30 minutes, medium). Write the advantages, the loss and the weights of (3), (4) and
(5). `rl exercise D9.advantages`, `rl exercise D9.turns_loss`, `rl exercise D9.importance_weights`.

*D9.2 · Who wrote this?* (15 minutes, easy). Write the function that puts one token behind a text and
remembers whose it is. The world is asked after each token of the agent's, and never after its own. `rl
exercise D9.write`.

*D9.3 · The same mask for imitation* (10 minutes, easy). Before it learns from rewards, a model imitates
transcripts in which others called tools. There, too, only the assistant's tokens are to be learnt. Turn a
transcript into the labels that trainers of the transformers library take: -100 where nothing is to be learnt.
`rl exercise D9.labels`.

*D9.4 · What a stale batch is worth* (10 minutes, easy). Unequal weights waste texts: most of the gradient
comes from a few. The *effective sample size* says how many texts of equal weight would be as noisy:

$$\frac{(\sum_i w_i)^2}{\sum_i w_i^2} \tag{E1}$$

Write it. What is it for one weight that is huge beside all others? What does a cut at $C$
do to it? `rl exercise D9.effective_texts`.

<details><summary>Answer</summary>

One: the batch is worth a single text. A cut brings the weights together, so the batch is worth more, and the
gradient is biased towards what the sampler likes: less noise is paid for with bias.
</details>

*D9.5 · Find the bug* (10 minutes). `rl exercise D9.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def success(policy: Callable, dialogue: Dialogue, seed: int) -> float:
    """Share of all problems of a dialogue that are solved, one text each, with a generator of its own."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    batch = rollout(policy, dialogue, torch.arange(len(dialogue.prompt_ids)), generator)
    return batch["rewards"].mean().item()


def learn_world(cfg: Config, log: RunLog) -> float:
    """Train in the small world; returns the expected return at the end over the best there is."""
    world = ToolWorld()
    texts, policy = world.every_text(), world.policy(cfg.seed)
    exact = torch.autograd.grad(expected_return(policy, texts), policy.table)[0]
    found = torch.autograd.grad(expected_loss(policy, texts, policy), policy.table)[0] * -world.num_tokens
    gap = ((found - exact).norm() / exact.norm()).item()
    says = "the masked loss has the exact gradient of the expected return"
    rule = {"unit": "of the gradient", "source": "enumeration of all texts", "always": True}
    log.claim("gradient_gap", says, gap, at_most=1e-10, **rule)

    def watch(policy: nn.Module, num_updates: int) -> None:
        with torch.no_grad():
            log.write(num_updates, world_return=expected_return(policy, texts).item())

    watch(policy, 0)
    small = replace(cfg, num_updates=cfg.world_updates, **WORLD)
    train(policy, world, small, log, "world", watch)
    log.keep(small=small)
    return log.last("world_return") / world.best_return()


def learn_calculator(cfg: Config, log: RunLog) -> dict[str, float]:
    """Train the language model; returns its success on held-out problems: sampled, likeliest, forbidden."""
    model, tokenizer = load_model("tiny", calculator_recipe(cfg.pretrain_steps))
    policy = copy.deepcopy(model)
    pairs = calculator.operands(held_out=True)
    apart = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(cfg.seed))[: cfg.num_held_out]
    held_out = CalculatorDialogue(tokenizer, pairs[apart.numpy()])
    kinds = {"sampled": policy, "greedy": greedy(policy), "forbidden": forbidden(policy, held_out.call_id)}

    def watch(policy: nn.Module, num_updates: int) -> None:
        if num_updates % 5 == 0 or num_updates == cfg.num_updates:
            for kind, one in kinds.items():
                log.write(num_updates, **{f"success_{kind}": success(one, held_out, cfg.seed)})

    watch(policy, 0)
    train(policy, CalculatorDialogue(tokenizer, calculator.operands()), cfg, log, "model", watch)
    return {kind: log.last(f"success_{kind}") for kind in kinds}


def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    rule = {"unit": "of the optimum", "source": "enumeration of all texts"}
    says = "in the small world the policy earns nearly what the best one does"
    log.claim("world_return", says, learn_world(cfg, log), at_least=0.95, **rule)
    found = learn_calculator(cfg, log)
    rule = {"unit": "of held-out problems", "source": "CURRICULUM: 0.9 with the tool, 0.5 without"}
    says = "with its calculator the language model solves products that it has not seen"
    log.claim("success_sampled", says, found["sampled"], at_least=0.9, **rule)
    says = "the same model with the calculator forbidden does not"
    log.claim("success_forbidden", says, found["forbidden"], at_most=0.5, **rule)
    draw(log)


def draw(log: RunLog) -> None:
    """Success of the language model on held-out problems, and the share of its texts that ask."""
    figure, panel = plotting.new_figure(width=6.2, height=4.4)
    for name, colour, label in (
        ("success_greedy", plotting.SKY, "likeliest tokens"),
        ("success_sampled", plotting.BLUE, "sampled"),
        ("success_forbidden", plotting.RED, "calculator forbidden"),
        ("model_answered", plotting.ORANGE, "share of texts that ask"),
    ):
        panel.plot(*log.series(name), color=colour, label=label)
    panel.axhline(0.9, label="aim of the sampled: 0.9", **plotting.REFERENCE)
    panel.set(xlabel="update", ylabel="share of problems, or of texts", ylim=(0.0, 1.03))
    panel.set_title("Products never seen, solved")
    panel.legend(loc="center right")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
