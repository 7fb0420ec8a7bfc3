"""What D7 needs beside TRL: texts as the columns that its trainers read, and their outcome measured alike."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from chapters.envs.reviews import PROMPTS
from chapters.text.checkpoint import resumable
from chapters.text.models import LoadedModel
from chapters.text.pairs import judge, write_reviews
from chapters.utils import CpuClock, plotting
from chapters.utils.lesson import UsageError
from chapters.utils.peers import aloud, silence
from chapters.utils.runlog import RunLog
from chapters.utils.timing import PeakMemory

LABELS = {"sft": "SFT", "dpo": "DPO", "grpo": "GRPO", "rloo": "RLOO", "ppo": "PPO"}
"""The trainers that make a policy."""
COLUMNS = {
    "sentiment": "reward (-3 to 3)",
    "kl": "KL (nats a text)",
    "win_rate": "win rate (dashed: no better)",
    "cpu_seconds": "CPU seconds",
}


class Judged(NamedTuple):
    """Columns as TRL reads them: each prompt with a better completion and a worse one, EOS included."""

    prompt: list[str]
    chosen: list[str]
    rejected: list[str]

    def whole(self, side: str) -> list[str]:
        """The texts of one side, from the prompt's first letter on."""
        return [prompt + text for prompt, text in zip(self.prompt, getattr(self, side))]


class Written(NamedTuple):
    """Texts of a model: as tensors, and as their prompts and completions."""

    batch: dict[str, Tensor]
    prompts: list[str]
    texts: list[str]

    def pairs(self, rows: Int[Tensor, "M 2"]) -> tuple[Judged, dict[str, Tensor]]:
        """(columns, tensors as in `chapters/text/pairs.py`) of the rows of the chosen and of the rejected."""
        better, worse = rows.T.tolist()
        columns = (self.prompts, better), (self.texts, better), (self.texts, worse)
        judged = Judged(*([column[row] for row in which] for column, which in columns))
        tensors = {
            name: values[rows[:, 0] if name.startswith("prompt") else rows]
            for name, values in self.batch.items()
        }
        return judged, {**tensors, "labels": torch.ones(len(rows))}


def write(lm: LoadedModel, num: int, num_tokens: int, seed: int) -> Written:
    """Reviews in rounds of two after each prompt. One that was cut off is closed: every text ends in EOS.

    A completion begins where its prompt's text ends, the space between them included.
    """
    batch, _ = write_reviews(lm.model, lm.tokenizer, num, num_tokens, seed)
    batch["completion_ids"][batch["completion_mask"].all(1), -1] = lm.tokenizer.eos_token_id
    prompts, texts = [], []
    for prompt, real, completion, written in zip(*batch.values()):
        prompts.append(lm.tokenizer.decode(prompt[real.bool()]))
        whole = lm.tokenizer.decode(torch.cat([prompt[real.bool()], completion[written]]))
        texts.append(whole[len(prompts[-1]) :])
    return Written(batch, prompts, texts)


def repeated(num: int) -> list[str]:
    """So many prompts: each of the 14 in turn.

    >>> repeated(16)[13:]
    ['the story made us', 'the movie was', 'the film was']
    """
    return [PROMPTS[row % len(PROMPTS)] for row in range(num)]


def table(**columns: Sequence) -> Any:
    """What TRL's trainers read. Raises UsageError, one line, if there is nothing to read: no pair differs."""
    from datasets import Dataset

    if not all(columns.values()):
        raise UsageError("no two texts of one prompt differ in reward (allowed: a larger --num-batches)")
    return Dataset.from_dict(columns)


def adapters(rank: int) -> Any:
    """What every trainer takes as `peft_config`: adapters of this rank (hu2022lora), or None to train all.

    Raises UsageError, one line, where the package is missing.
    """
    if not rank:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise UsageError(f"--lora {rank} needs the package peft: uv sync --extra smollm") from None
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")


def check(rounds: int, group_size: int, rank: int) -> None:
    """Raises UsageError, one line, if a batch has no whole groups of each prompt, or peft is missing."""
    if 2 * rounds % group_size:
        sizes = ", ".join(str(size) for size in range(2, 2 * rounds + 1) if 2 * rounds % size == 0)
        raise UsageError(
            f"--group-size {group_size}: a batch has {2 * rounds} texts a prompt (allowed: {sizes})"
        )
    adapters(rank)


class Counted:
    """A rule that counts how many texts it judged."""

    def __init__(self, rule: Callable) -> None:
        functools.update_wrapper(self, rule)  # TRL asks it for its name
        self.count = torch.zeros((), dtype=torch.int64)  # a tensor, so that a run that goes on restores it

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **others: Any) -> list[float]:
        self.count += len(completions)
        return self.__wrapped__(prompts, completions, **others)

    @property
    def asked(self) -> int:
        """Texts judged so far."""
        return int(self.count)


def counting(rule: Callable) -> Counted:
    """The rule, which now counts in `asked` how many texts it judged."""
    return Counted(rule)


def start(lm: LoadedModel, folder: str) -> nn.Module:
    """A copy to be trained, dropout off, called by the folder where its reference can be loaded again."""
    policy = copy.deepcopy(lm.model).requires_grad_(True)
    policy.config._name_or_path = folder
    return policy


def rest(lm: LoadedModel, cfg: Any) -> dict[str, Any]:
    """What every trainer takes beside model, configuration and table; cfg: with `lora`, a rank."""
    return {"processing_class": lm.tokenizer, "peft_config": adapters(cfg.lora)}


@contextlib.contextmanager
def saved(lm: LoadedModel) -> Iterator[str]:
    """A folder that holds the model and its tokenizer, while it is needed.

    After each training TRL looks for garbage among all objects there are, which takes longer than a short
    training; nearly all belong to imported modules, so those that are there by now are left out.
    """
    gc.freeze()
    try:
        with tempfile.TemporaryDirectory() as folder:
            lm.model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)
            yield folder
    finally:
        gc.unfreeze()


def run(trainer: Any, name: str, log: RunLog) -> nn.Module:
    """Train in silence; CPU seconds and largest resident memory are logged. Returns what was trained.

    In a run that goes on (`--resume`) a trainer that had come to its end is not run again: what it made is
    restored, to the bit. One that was stopped in its midst begins anew, as it began then: TRL's own
    checkpoints know nothing of PPO's loop, nor of the texts that GRPO and RLOO pass over a second time.
    """
    trained = trainer.policy_model if hasattr(trainer, "policy_model") else trainer.model
    counts = [one.count for one in getattr(trainer, "reward_funcs", []) if isinstance(one, Counted)]
    with aloud():
        for _ in resumable(log, 1, f"trainer ({name})", (trained, *counts)):
            with silence(), PeakMemory() as peak, CpuClock() as clock:
                trainer.train()
            log.write(0, **{f"{name}_cpu_seconds": clock.seconds, f"{name}_megabytes": peak.megabytes})
    return trained.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(scorer: nn.Module, lm: LoadedModel, judged: Judged) -> float:
    """How often a reward model gives the chosen text the higher score; NaN where no two texts differed."""
    if not judged.prompt:
        return math.nan
    encode = {"return_tensors": "pt", "padding": True, "padding_side": "right"}
    chosen, rejected = (
        scorer(**lm.tokenizer(judged.whole(side), **encode)).logits for side in ("chosen", "rejected")
    )
    return (chosen > rejected).double().mean().item()


def measure(
    policies: dict[str, nn.Module], lm: LoadedModel, cfg: Any, seed: int, log: RunLog
) -> dict[str, dict[str, float]]:
    """What fresh texts of each policy are worth, by the same yardstick, and what its training cost.

    cfg: with num_eval_texts and num_tokens. A reward model, which writes nothing, is left out.
    """
    found = {}
    for name, policy in policies.items():
        if name.endswith("reward"):
            continue
        found[name], _ = judge(policy, lm, cfg.num_eval_texts, cfg.num_tokens, seed)
        log.write(0, **{f"{name}_{what}": value for what, value in found[name].items()})
        for what in ("cpu_seconds", "megabytes"):
            found[name][what] = log.last(f"{name}_{what}") if name != "base" else 0.0
    return found


def loss_of(trainer: Any, num: int = 8) -> tuple[float, Tensor, Tensor]:
    """(SFTTrainer's loss, logits [B, T, V] and labels [B, T]) of its first rows, in its own precision."""
    batch = trainer.data_collator(list(trainer.train_dataset)[:num])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = trainer.model(**inputs).logits
        with trainer.accelerator.autocast():  # as in training
            theirs = trainer.compute_loss(trainer.model, dict(batch))
    return float(theirs), logits, batch["labels"]


def show(found: dict[str, dict[str, float]], ends: dict[str, tuple[float, float]], log: RunLog) -> None:
    """A row for each policy, as a table on the terminal and as a figure; `ends` are those of its win rate."""
    print(f"{'':5} {'reward':>7} {'KL':>6} {'win rate':>9} {'(95 %)':>14} {'CPU s':>6} {'MB':>6}")
    figure, axes = plotting.new_figure(1, 4, width=3.6, height=3.8)
    for row, (name, values) in enumerate(found.items()):
        low, high = ends[name]
        told = f"{values['sentiment']:7.2f} {values['kl']:6.2f} {values['win_rate']:9.2f}"
        cost = f"{values.get('cpu_seconds', 0.0):6.1f} {values.get('megabytes', 0.0):6.0f}"
        print(f"{LABELS.get(name, name):5} {told} {low:6.2f} to {high:.2f} {cost}")
        axes[2].plot([low, high], [row, row], color=plotting.COLOURS[row], linewidth=6, alpha=0.4)
        for ax, what in zip(axes, COLUMNS):
            ax.plot(values.get(what, 0.0), row, "o", color=plotting.COLOURS[row], markersize=9)
    for ax, xlabel in zip(axes, COLUMNS.values()):
        ax.set(xlabel=xlabel, ylim=(len(found) - 0.5, -0.5))
        ax.set_yticks(range(len(found)), [""] * len(found))
    axes[0].set_yticklabels([LABELS.get(name, name) for name in found])
    axes[0].set_xlim(-0.5, 3.0)
    axes[1].set_xlim(left=-0.1)
    axes[2].axvline(0.5, **plotting.REFERENCE)
    axes[2].set_xlim(0.25, 1.0)
    axes[3].set_xlim(left=-0.1)
    log.figure(figure)
