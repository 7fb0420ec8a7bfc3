# %% [markdown]
r"""
# D7 · The trainers of TRL

**Question.** TRL (*Transformer Reinforcement Learning*) is the library that most people use. Which of its
defaults must be changed, are its losses those of this course, and what do its trainers make of one budget?

**Before this:** D2 to D6, each method from scratch; D15 for the penalties. **Changes from them:** nothing is
written anew; what was written there is called by the library's names. **Next:** D9, a text that calls tools.

**Time.** 60 s on 2 cores; with all evidence 120 s.

References: `hu2022lora`, `rafailov2023dpo`, `shao2024deepseekmath`, `yu2025dapo`, `ahmadian2024rloo`,
`schulman2017ppo`, `bradleyterry1952rank`.

Symbols: `N` judged texts, `B` of them where a trainer writes itself, `E` passes over each, `G` texts of a
group; $\beta$ weight of the penalty; of an adapter: $W$ weights, $L$, $R$ its factors, $r$ rank, $\alpha$.
"""

# %%
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.reviews import PROMPTS, sentiment
from chapters.text import trainers
from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import review_recipe
from chapters.text.trainers import LABELS, Judged, repeated, rest, run, start, table
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.peers import silence

ROUND = 2 * len(PROMPTS)  # texts: two after each of the 14 prompts
FAR = 50_000  # parts the seed of what is only measured from that of what is learnt from


@dataclass(frozen=True)
class Config:
    """Six trainers of TRL, on reviews that shall be warm."""

    seed: int = 0
    """Seed of the texts and of all training."""
    model: str = "tiny"
    """What is fine-tuned: tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2."""
    pretrain_steps: Annotated[int, in_range(1, 100_000)] = 300
    """Steps that train the tiny model, once; it is then kept in a cache."""
    lora: Annotated[int, in_range(0, 1024)] = 0
    """r: rank of the adapters (`peft`) that learn in place of all weights; 0 trains all weights."""
    num_batches: Annotated[int, in_range(1, 10_000)] = 3
    """Batches; N is so many times B."""
    rounds_a_batch: Annotated[int, in_range(2, 1000)] = 4
    """B in rounds of 28 texts, two after each prompt; GRPO and RLOO need a multiple of 4 at G = 8."""
    group_size: Annotated[int, in_range(2, 1000)] = 8
    """G: completions of one prompt that GRPO and RLOO compare; B must be a multiple of 14 G."""
    num_epochs: Annotated[int, in_range(1, 100)] = 2
    """E: passes of each trainer over each text."""
    num_tokens: Annotated[int, in_range(2, 40)] = 16
    """Longest completion."""
    beta: Annotated[float, in_range(1e-4, 100.0)] = 0.2
    """Weight of the KL penalty, where there is one."""
    learning_rate: Annotated[float, in_range(1e-9, 1.0)] = 1e-3
    """Step size of every trainer, falling to 0; a larger model needs smaller steps (1e-5 without LoRA)."""
    num_eval_texts: Annotated[int, in_range(2, 1_000_000)] = 196
    """Completions that a policy is judged by."""


SMOKE = {
    "pretrain_steps": 20, "num_batches": 1, "rounds_a_batch": 2, "group_size": 4, "num_epochs": 1,
    "num_tokens": 5, "num_eval_texts": 28,
}  # fmt: skip

# %% [markdown]
r"""
## 1. One task, one budget

A small GPT-2 has read warm and cold reviews. It shall write warm ones: a *rule* counts positive less negative
words, from -3 to 3. Some trainers subtract a penalty for the Kullback–Leibler divergence (KL) from the start.
For each trainer `N` texts are judged, and no more:

* SFT (supervised fine-tuning), Reward and DPO (direct preference optimisation) get the model's own texts, in
  pairs after one prompt. The better is *chosen*, the other *rejected*; ties teach nothing and are left out.
  SFT imitates the chosen. Reward learns to tell which is chosen (`bradleyterry1952rank`).
* GRPO (group relative policy optimisation) and RLOO (REINFORCE leave-one-out) write `N` texts for the rule.
* PPO (proximal policy optimisation) writes `N` texts and asks the reward model that Reward made.

All pass `E` times over what they get. Each counts in its own unit: SFT, Reward and DPO in *pairs*, the others
in *completions*. With $u$ texts in a unit, 2 or 1, the budget (before ties are left out) is

$$N = u \times \text{units in a batch} \times \text{batches} \tag{1}$$

## 2. What must be changed, and what is left

Four defaults must be changed for a small model on a CPU, and two more of PPO's. As TRL 1.12.0 has them:

| | SFT | Reward | DPO | GRPO | RLOO | PPO |
|---|---|---|---|---|---|---|
| `learning_rate` | 2e-05 | 0.0001 | 1e-06 | 1e-06 | 1e-06 | 3e-06 |
| `beta`, `kl_coef` | | | 0.1 | 0.0 | 0.05 | 0.05 |
| `max_length`, `max_completion_length`, `response_length` | 1024 | 1024 | 1024 | 512 | 512 | 53 |
| `bf16` | yes | yes | yes | yes | yes | yes |

1. *Step size*: made for billions of parameters and thousands of steps. Here nothing would move.
2. *Penalty*: four trainers, three values, so three different problems. GRPO has none unless it is asked for.
3. *Length*: our model has 48 positions. PPO needs `stop_token`, too: without it, it writes on behind the end,
   and is judged there. And its temperature is 0.7: it trains a sharper policy than the one measured here.
4. *Precision*: unless told not to, TRL computes in 16 bits, also on a CPU.

What is left: step sizes fall in a line, gradients are cut at norm 1. Given columns `prompt` and `completion`,
SFT learns the completion alone. GRPO divides advantages by the group's deviation, averages over all tokens
of a batch (`yu2025dapo`), and weighs its KL estimate by the ratio (D15). RLOO takes the penalty from the
reward, divides by nothing, and clips one ratio for a whole text (`ahmadian2024rloo`). PPO pays the score one
token after the end, clips its critic's steps, and cuts no gradient. Our model has no dropout; GRPO and RLOO
leave it on where a model has it.

*By hand*: `B` is 4 rounds of 28 texts: 14 prompts with 8 completions each. With two passes over each of 3
batches GRPO takes 6 steps, though it samples 3 times. DPO gets pairs of as many texts, $336 = 2 \times 14
\times 12$: a round, 14 pairs, at a time, so up to 24 steps:

```python
>>> [settings(name, Config())["per_device_train_batch_size"] for name in ("dpo", "grpo", "ppo")]
[14, 112, 112]
>>> settings("grpo", Config())["max_steps"]
6
```
"""


# %%
def settings(name: str, cfg: Config, folder: str = "") -> dict[str, Any]:
    """The arguments of a trainer's configuration: our names mapped to TRL's."""
    batch = cfg.rounds_a_batch * ROUND  # B
    shared = {
        "learning_rate": cfg.learning_rate,  # the first of four
        "use_cpu": True, "bf16": False,  # the fourth
        "output_dir": folder, "seed": cfg.seed, "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False,
    }  # fmt: skip
    pairs = {
        "per_device_train_batch_size": ROUND // 2,  # eq. (1) with u = 2
        "num_train_epochs": cfg.num_epochs,
        "max_length": None,  # the third; 1024 would cut nothing either: our texts are short
    }
    groups = {
        "per_device_train_batch_size": batch,  # completions, not prompts: eq. (1) with u = 1
        "num_generations": cfg.group_size,
        "num_iterations": cfg.num_epochs, "max_steps": cfg.num_batches * cfg.num_epochs,
        "max_completion_length": cfg.num_tokens,
        "beta": cfg.beta,  # the second
        "shuffle_dataset": False,
    }  # fmt: skip
    alone = {
        "per_device_train_batch_size": batch, "local_rollout_forward_batch_size": batch,
        "total_episodes": batch * cfg.num_batches,
        "num_ppo_epochs": cfg.num_epochs, "num_mini_batches": 2,
        "kl_coef": cfg.beta,
        "response_length": cfg.num_tokens, "stop_token": "eos", "temperature": 1.0,
        "num_sample_generations": 0,  # else it prints tables of samples
    }  # fmt: skip
    own = {"dpo": {**pairs, "beta": cfg.beta}, "grpo": groups, "rloo": groups, "ppo": alone}
    return {**shared, **own.get(name, pairs)}


# %% [markdown]
r"""
## 3. What goes in

The base model's texts come in rounds of 28: one after each of 14 prompts, then one more after each. A pair is
a text and the one 14 rows later. GRPO and RLOO call a function of yours: columns of texts in, a list
of numbers out, and `**_` for what else they hand over. Three traps that no message names:

* *Padding must not be the end-of-sequence token* (EOS), or the end is never learnt.
* *Texts must end in EOS*: TRL appends one, without a space, which our tokenizer cannot read.
* *A reference is loaded by name* where GRPO or RLOO has a penalty: save a model that is in memory only first.
"""


# %%
def pair_up(rewards: Float[Tensor, " N"], num_prompts: int) -> Int[Tensor, "M 2"]:
    """(row of the chosen, row of the rejected) text of each pair that differs in reward.

    Texts stand in half rounds of `num_prompts`; the first half belongs to the second, and so on.
    """
    rows = torch.arange(len(rewards)).view(-1, 2, num_prompts).transpose(1, 2).reshape(-1, 2)
    first, second = rewards[rows].unbind(1)
    rows = torch.where((first > second)[:, None], rows, rows.flip(1))
    return rows[first != second]


def rule(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """The reward of each text, as GRPOTrainer and RLOOTrainer call it."""
    return sentiment([f"{prompt} {text}" for prompt, text in zip(prompts, completions)]).tolist()


def write_and_judge(lm: LoadedModel, cfg: Config, seed: int) -> tuple[Judged, dict[str, Tensor]]:
    """(columns prompt, chosen, rejected, the same as tensors) of N texts of the model."""
    written = trainers.write(lm, cfg.num_batches * cfg.rounds_a_batch * ROUND, cfg.num_tokens, seed)
    rewards = torch.tensor(rule(written.prompts, written.texts))
    return written.pairs(pair_up(rewards, len(PROMPTS)))


# %% [markdown]
r"""
## 4. Six trainers

Each wants a model, a configuration, a table and a tokenizer. SFT's loss, over tokens with a label, is

$$\mathcal L_\text{SFT} = -\operatorname{mean}_{t : \ell_t \ne -100} \log \pi(\ell_t \mid x_{<t}) \tag{2}$$

The other five were written down where they were taught: Reward D3 (3), DPO D4 (4), GRPO D5 (4) to (6), RLOO
D5 (2) with D15 (4), PPO D2 (6). The evidence holds TRL's numbers against ours on one batch.

**LoRA** (low-rank adaptation, `hu2022lora`). A larger model is not trained whole: beside some of its matrices
stands a product of two thin ones. Only these learn; with the adapter off, the model is its own reference:

$$W' = W + \tfrac{\alpha}{r} L R, \quad L \in \mathbb R^{m \times r},\, R \in \mathbb R^{r \times n} \tag{3}$$

$L$ starts at zero, so nothing changes at first. *By hand*, of rank 1 with $\alpha = 2$, one weight of four:

```python
>>> adapted(torch.eye(2), torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 0.5]]), alpha=2.0)
tensor([[1., 1.],
        [0., 1.]])
```

`rl run D7 --lora 8` has all but Reward do so (`peft`, in the extra `smollm`). A real model is had by folder,
by its name on the hub, or from a wheel (exercise 5). A run that was stopped goes on with `--resume`: a
trainer that had ended, after a minute or more, is restored to the bit; the others start again as they did.
"""


# %%
def sft_loss(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Minus the mean log-probability of the labelled tokens; logits in column t predict column t + 1."""
    predicted, labels = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    counted = labels != -100
    chosen = predicted.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return -(chosen * counted).sum() / counted.sum()  # eq. (2)


def adapted(
    weight: Float[Tensor, "m n"], left: Float[Tensor, "m r"], right: Float[Tensor, "r n"], alpha: float
) -> Float[Tensor, "m n"]:
    """A matrix with its adapter merged into it."""
    return weight + alpha / left.shape[1] * left @ right  # eq. (3)


def sft(lm: LoadedModel, judged: Judged, cfg: Config, folder: str) -> Any:
    """Imitates the chosen completions."""
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(**settings("sft", cfg, folder))
    data = table(prompt=judged.prompt, completion=judged.chosen)
    return SFTTrainer(start(lm, folder), args, train_dataset=data, **rest(lm, cfg))


def reward(lm: LoadedModel, judged: Judged, cfg: Config, folder: str) -> Any:
    """Learns a score of whole texts, from pairs; the head that gives it is new."""
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = lm.tokenizer.pad_token_id  # the score is read at the last token before it
    data = table(chosen=judged.whole("chosen"), rejected=judged.whole("rejected"))
    args = RewardConfig(**settings("reward", cfg, folder))
    return RewardTrainer(model, args, train_dataset=data, processing_class=lm.tokenizer)


def dpo(lm: LoadedModel, judged: Judged, cfg: Config, folder: str) -> Any:
    """Learns from pairs directly; the reference is given, or is the model with its adapter off."""
    from trl import DPOConfig, DPOTrainer

    args, reference = DPOConfig(**settings("dpo", cfg, folder)), None if cfg.lora else copy.deepcopy(lm.model)
    data = table(**judged._asdict())
    return DPOTrainer(start(lm, folder), reference, args, train_dataset=data, **rest(lm, cfg))


def groups(name: str, lm: LoadedModel, judge_texts: Callable, cfg: Config, folder: str) -> Any:
    """GRPO or RLOO: they sample, and ask the function `judge_texts`."""
    import trl

    args = getattr(trl, f"{name.upper()}Config")(**settings(name, cfg, folder))
    num_prompts = cfg.num_batches * cfg.rounds_a_batch * ROUND // cfg.group_size  # each is repeated G times
    data, trainer = table(prompt=repeated(num_prompts)), getattr(trl, f"{name.upper()}Trainer")
    return trainer(start(lm, folder), judge_texts, args, train_dataset=data, **rest(lm, cfg))


def ppo(lm: LoadedModel, reward_model: nn.Module, cfg: Config, folder: str) -> Any:
    """Samples, and asks a reward model, of which a copy becomes the critic. It left TRL after 1.12."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    args, reference = PPOConfig(**settings("ppo", cfg, folder)), None if cfg.lora else copy.deepcopy(lm.model)
    prompts = [lm.tokenizer(text).input_ids for text in repeated(args.total_episodes)]
    scorer, critic = copy.deepcopy(reward_model), copy.deepcopy(reward_model).requires_grad_(True)
    models = {"ref_model": reference, "reward_model": scorer, "value_model": critic}
    data, policy = table(input_ids=prompts), start(lm, folder)
    return PPOTrainer(args=args, model=policy, train_dataset=data, **models, **rest(lm, cfg))


def win_interval(share: float, num: int) -> tuple[float, float]:
    """The 95 % interval of a win rate, by chance alone; ties make it narrower."""
    half = 1.96 * (share * (1.0 - share) / num) ** 0.5  # eq. (4)
    return share - half, share + half


def train_all(lm: LoadedModel, judged: Judged, cfg: Config, log: RunLog) -> tuple[dict[str, nn.Module], int]:
    """({name: what it made}, how many texts the rule was asked about in all by GRPO and RLOO)."""
    made, judge_texts = {}, trainers.counting(rule)
    with trainers.saved(lm) as folder, silence():
        trainer = sft(lm, judged, cfg, folder)
        theirs, logits, labels = trainers.loss_of(trainer)
        log.write(0, sft_loss_gap=abs(theirs / sft_loss(logits, labels).item() - 1.0))
        made["sft"] = run(trainer, "sft", log)
        made["reward"] = run(reward(lm, judged, cfg, folder), "reward", log)
        made["dpo"] = run(dpo(lm, judged, cfg, folder), "dpo", log)
        for name in ("grpo", "rloo"):
            made[name] = run(groups(name, lm, judge_texts, cfg, folder), name, log)
        made["ppo"] = run(ppo(lm, made["reward"], cfg, folder), "ppo", log)
    return made, judge_texts.asked


# %% [markdown]
r"""
## 5. Look, break, write

A *win* is a text that the rule likes better than the base model's after the same prompt; ties count half. The
share $p$ of wins among $n$ texts is uncertain by

$$p \pm 1.96 \sqrt{p (1 - p) / n} \tag{4}$$

![Reward, divergence, win rate and CPU seconds of five trainers from one budget](results/D7.png)

One seed; the bars are (4). All seeds, and our own trainers beside the library's, from the same base:

![Five trainers and the reward model on all seeds, ours beside TRL's](results/D7_table.png)

DPO makes most of a judged text, and goes farthest: its labels never waver (D4), so only the end of its steps
holds it. SFT has no penalty either. GRPO gains about as much as SFT for a fraction of the divergence. PPO
gains nothing: all it is told comes from the reward model, and after so few pairs that is little better than a
coin on unseen ones; D3's saw over ten times as many. Ours of SFT and DPO end as the library's do. Our GRPO
and RLOO gain more; our step size falls batch by batch, TRL's step by step. (Memory: the whole process's.)

**The verdict.** Step size, penalty, length and precision must be set; the rest may stay, if one knows it.
Then five of six losses are ours but for rounding; of PPO's, in a loop, only scores and whitening can be seen.
For one budget of texts (not of steps) DPO has most reward, GRPO most for its divergence, PPO too few pairs.

<!-- results: D7 -->

`rl run D7`: 46 s; with `--evidence`: 78 s, 1284 MB; with `--smoke --evidence`: 33 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| sft_loss_gap        | 7.8e-08 (0 to 2.19e-07)         | ≤ 1e-05     | 5/5 |
| texts_asked         | 336                             | 336 ± 0     | 5/5 |
| win_rate            | 0.587 (0.554 to 0.62)           | ≥ 0.5       | 5/5 |
| penalty_paid        | 0.286 (0.0155 to 0.483)         | ≥ 0         | 5/5 |
| trl_loss_gap *      | 7.31e-07 (4.78e-07 to 9.94e-07) | ≤ 1e-05     | 5/5 |
| sixteen_bits *      | 0.000249 (0.000138 to 0.000475) | ≥ 1e-05     | 5/5 |
| default_step_size * | 1e-05 (9.32e-06 to 1.04e-05)    | ≤ 6.335e-05 | 5/5 |
| our_win_rate *      | 0.605 (0.592 to 0.638)          | ≥ 0.5       | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `sft_loss_gap`: before the first step SFTTrainer's loss is (2)
- `texts_asked`: GRPO and RLOO asked the rule about N texts each, however often they passed over them (texts)
- `win_rate`: taught by the rule, SFT, DPO, GRPO and RLOO all beat the base model: the least of four (win
  rate, ties half)
- `penalty_paid`: with GRPO and with RLOO the reward gained outweighs the KL penalty (reward, the lesser of
  two)
- `trl_loss_gap`: TRL's losses are ours: Reward, DPO, GRPO and RLOO, and PPO's scores and whitened advantages
- `sixteen_bits`: in the 16 bits of TRL's default SFT's loss is off by more than 32 bits can explain (of the
  loss)
- `default_step_size`: with DPOTrainer's own step size no weight moves further in its steps than Adam can
  carry it (largest change of a weight)
- `our_win_rate`: our SFT, DPO, GRPO and RLOO beat the base model, too: the least of four (win rate, ties
  half)
</details>

<!-- /results -->

**Break it.** `rl break D7 samples_counted_as_steps`: GRPO and RLOO end before their budget is spent, and no
message says so. `rl break D7 prefers_rejected`: what do SFT and DPO learn then, and what does PPO?

**Exercises.**

<!-- exercises: D7 -->

*D7.1 · The heart of it* (35 minutes, medium). Write what a trainer is called with (1), the pairs that it
reads, and SFT's loss (2). `rl exercise D7.settings`, `rl exercise D7.pair_up`, `rl exercise D7.sft_loss`.

*D7.2 · How much learns* (10 minutes, easy). Adapters of rank $r$ stand beside matrices of $m_i$ rows and
$n_i$ columns. Which share of the matrices' numbers do they have?

$$\frac{\sum_i r\,(m_i + n_i)}{\sum_i m_i n_i} \tag{E1}$$

For which square matrix is rank 8 no saving? `rl exercise D7.share_trained`.

<details><summary>Answer</summary>

$2 r / n = 1$ at $n = 16$. SmolLM2's are 576 by 192 and larger: rank 8 learns less than 3 % of them in all.
</details>

*D7.3 · How many texts decide?* (10 minutes, easy). Two policies win 60 % and 62 % against the base. How many
texts does it take until the half width of (4) is at most $h$?

$$n \ge \left(\frac{1.96}{h}\right)^2 p\,(1 - p) \tag{E2}$$ `rl exercise D7.texts_needed`.

<details><summary>Answer</summary>

At 0.6 and a half width of 0.01, 9,220 texts each. Two points among a hundred texts are luck.
</details>

*D7.4 · Which default was it?* (5 minutes, easy). Four colleagues train with GRPOTrainer. The first one's `kl`
is missing in the log, and the texts end as one word repeated. The second one's reward does not move, and
neither does anything else. The third one gets an error about an index out of range. The fourth one's loss
differs from the course's in the third digit. Which default did each leave?

<details><summary>Answer</summary>

`beta` 0.0: without a penalty the reference is not even loaded. `learning_rate` 1e-06. `max_completion_length`
512, longer than the model has positions. `bf16`.
</details>

*D7.5 · A model that has read more* (15 minutes, medium). The extra `smollm` has SmolLM2, of 135 million
weights. A few updates of its adapters:

    rl run D7 --model smollm2 --lora 8 --num-batches 1 --rounds-a-batch 2 --group-size 4 --num-eval-texts 56

It takes some minutes, and about ten gigabytes: PPO comes last, beside all that was made. A line tells when a
trainer has ended. Say first: of its 28 pairs of texts, will many differ in what the rule counts? Which
trainers take longest? And then: who has learnt?
Stop it by Ctrl-C behind GRPO's line, and go on: the same command, with `--resume` and the run's folder.

<details><summary>Answer</summary>

Few pairs differ: in 16 tokens SmolLM2 seldom writes one of the words that the rule counts, so most texts are
worth 0. SFT, Reward and DPO have little to read and end soon. GRPO, RLOO and PPO write texts, and read all of
them, which takes most of the time; in a group whose texts are all worth 0 no advantage is left. By (4) a win
rate over 56 texts is uncertain by more than a tenth: after so few updates nobody can tell who has learnt, and
a claim may fail. A rule that is never met teaches nothing: begin with what a model solves now and then (D5).
</details>

*D7.6 · Find the bug* (10 minutes). `rl exercise D7.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    trainers.check(cfg.rounds_a_batch, cfg.group_size, cfg.lora)  # before anything is trained
    lm = load_model(cfg.model, review_recipe(cfg.pretrain_steps))
    judged, pairs = write_and_judge(lm, cfg, cfg.seed)
    made, asked = train_all(lm, judged, cfg, log)
    unseen, _ = write_and_judge(lm, cfg, cfg.seed + FAR)
    log.write(0, reward_accuracy=trainers.accuracy(made["reward"], lm, unseen))
    found = trainers.measure({"base": lm.model, **made}, lm, cfg, cfg.seed + FAR, log)
    claim(found, asked, cfg, log)
    ends = {name: win_interval(one["win_rate"], cfg.num_eval_texts) for name, one in found.items()}
    trainers.show(found, ends, log)
    log.keep(lm=lm, judged=judged, pairs=pairs, unseen=unseen, made=made)


def claim(found: dict[str, dict[str, float]], asked: int, cfg: Config, log: RunLog) -> None:
    """What a learner must see."""
    rule = {"always": True, "seeds": "5/5"}
    says, source = "before the first step SFTTrainer's loss is (2)", "trl 1.12.0 on the same rows"
    log.claim("sft_loss_gap", says, log.last("sft_loss_gap"), at_most=1e-5, source=source, **rule)
    says = "GRPO and RLOO asked the rule about N texts each, however often they passed over them"
    budget = (float(cfg.num_batches * cfg.rounds_a_batch * ROUND), 0.0)
    log.claim("texts_asked", says, asked / 2, near=budget, unit="texts", source="(1)", **rule)
    says = "taught by the rule, SFT, DPO, GRPO and RLOO all beat the base model: the least of four"
    least = min(found[name]["win_rate"] for name in LABELS if name != "ppo")
    rule = {"unit": "win rate, ties half", "source": "one half: no better"}
    log.claim("win_rate", says, least, at_least=0.5, **rule)
    says = "with GRPO and with RLOO the reward gained outweighs the KL penalty"
    gained = {name: found[name]["sentiment"] - found["base"]["sentiment"] for name in LABELS}
    left = min(gained[name] - cfg.beta * found[name]["kl"] for name in ("grpo", "rloo"))
    rule = {"unit": "reward, the lesser of two", "source": "E[r] - beta KL must rise"}
    log.claim("penalty_paid", says, left, at_least=0.0, **rule)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
