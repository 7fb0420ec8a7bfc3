"""D7's evidence: TRL's losses against ours on one batch, two defaults left, our trainers on this budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chapters.D_rlhf import D4_direct_preference_optimization as dpo_lesson
from chapters.D_rlhf import D7_trl_trainers as lesson
from chapters.D_rlhf.checks.D7 import EDITS
from chapters.D_rlhf.evidence import D7_ours as ours
from chapters.D_rlhf.evidence.D4_trl import dpo_gaps
from chapters.D_rlhf.evidence.D5_trl import disturb, our_loss, sample_batch
from chapters.text import grpo, tasks, trainers
from chapters.text.models import LoadedModel
from chapters.text.ppo import whiten
from chapters.text.preferences import bradley_terry_loss
from chapters.text.trainers import LABELS, Judged, loss_of, run, saved
from chapters.text.trainers import measure as measure_policies
from chapters.utils import CpuClock, RunLog, plotting
from chapters.utils.edits import edited
from chapters.utils.peers import silence
from chapters.utils.timing import PeakMemory

FEW = 8
"""Pairs on which losses are compared."""
SMALL = {"num_batches": 1, "rounds_a_batch": 2, "group_size": 4, "num_epochs": 2}
"""Settings of the trainers that only compute a loss."""


@dataclass(frozen=True)
class Config:
    """Nothing of its own: the evidence runs on the lesson's budget."""


SMOKE: dict[str, int] = {}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    lm, judged, pairs, made = (log.kept[name] for name in ("lm", "judged", "pairs", "made"))
    with saved(lm) as folder, silence():
        claim_losses(lm, judged, pairs, made["reward"], replace(cfg, **SMALL), folder, log)
        claim_precision(lm, judged, replace(cfg, **SMALL), folder, log)
        claim_step_size(lm, judged, replace(cfg, **SMALL), folder, log)

    def timed(name: str, work: Callable) -> nn.Module:
        with PeakMemory() as peak, CpuClock() as clock:
            found = work()
        log.write(0, **{f"{name}_cpu_seconds": clock.seconds, f"{name}_megabytes": peak.megabytes})
        return found

    policies = ours.train_all(lm, judged, pairs, made["reward"], cfg, timed)
    scored = trainers.accuracy(ours.Logits(policies["ours_reward"]), lm, log.kept["unseen"])
    log.write(0, ours_reward_accuracy=scored)
    found = measure_policies(policies, lm, cfg, cfg.seed + lesson.FAR, log)
    log.claim(
        "our_win_rate",
        "our SFT, DPO, GRPO and RLOO beat the base model, too: the least of four",
        min(one["win_rate"] for name, one in found.items() if name != "ours_ppo"),
        at_least=0.5,
        unit="win rate, ties half",
        source="one half: no better",
    )
    draw_table([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The table over all seeds."""
    draw_table(runs, log)


# The same numbers on the same batch


def claim_losses(
    lm: LoadedModel, judged: Judged, pairs: dict[str, Tensor], reward_model: nn.Module, cfg: lesson.Config,
    folder: str, log: RunLog,
) -> None:  # fmt: skip
    few = Judged(*(column[:FEW] for column in judged))
    tensors = {name: values[:FEW] for name, values in pairs.items()}
    gaps = {
        "reward": reward_gap(lm, few, cfg, folder),
        "dpo": dpo_gap(lm, few, tensors, cfg, folder),
        "grpo": group_gap("grpo", lm, cfg, folder),
        "rloo": group_gap("rloo", lm, cfg, folder),
        "ppo": ppo_gap(lm, reward_model, tensors),
    }
    log.write(0, **{f"trl_gap_{name}": gap for name, gap in gaps.items()})
    log.claim(
        "trl_loss_gap",
        "TRL's losses are ours: Reward, DPO, GRPO and RLOO, and PPO's scores and whitened advantages",
        max(gaps.values()),
        at_most=1e-5,
        source="trl 1.12.0 on the same batch",
        always=True,
        seeds="5/5",
    )


def reward_gap(lm: LoadedModel, few: Judged, cfg: lesson.Config, folder: str) -> float:
    """RewardTrainer's loss against Bradley and Terry's, of the scores that its model gives whole texts."""
    trainer = lesson.reward(lm, few, cfg, folder)
    batch = trainer.data_collator(list(trainer.train_dataset))
    encode = {"return_tensors": "pt", "padding": True, "padding_side": "right"}
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, batch)
        sides = [
            trainer.model(**lm.tokenizer(few.whole(side), **encode)).logits[:, 0]
            for side in ("chosen", "rejected")
        ]
    return abs(float(theirs) - bradley_terry_loss(*sides).item())


def dpo_gap(
    lm: LoadedModel, few: Judged, tensors: dict[str, Tensor], cfg: lesson.Config, folder: str
) -> float:
    """Loss, rewards and gradient of DPOTrainer, away from the reference; the largest of three gaps."""
    trainer = lesson.dpo(lm, few, cfg, folder)
    disturb(trainer.model, 0.01)
    compared = dpo_lesson.add_reference(tensors, lm.model)
    settings = dpo_lesson.Config(beta=cfg.beta)

    def our_numbers(policy: nn.Module) -> tuple:
        loss, ratios = dpo_lesson.pair_loss(policy, compared, settings)
        return loss, dpo_lesson.implicit_rewards(ratios, cfg.beta).mean(0).tolist()

    return max(dpo_gaps(trainer, "sigmoid", our_numbers))


def group_gap(name: str, lm: LoadedModel, cfg: lesson.Config, folder: str) -> float:
    """Loss of GRPO or RLOO on texts that TRL sampled; rewards, advantages and all else are ours."""
    trainer = lesson.groups(name, lm, lesson.rule, cfg, folder)
    disturb(trainer.model, 0.03)  # away from the reference, or there is no penalty
    prompts = list(lesson.PROMPTS[:4])
    batch = sample_batch(trainer, prompts)
    mask = batch["completion_mask"] = batch["completion_mask"].bool()
    texts = lm.tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    asked = [prompt for prompt in prompts for _ in range(cfg.group_size)]
    rewards = torch.tensor(lesson.rule(asked, texts))
    with torch.no_grad():
        old, ref = tasks.log_probs_of(trainer.model, batch), tasks.log_probs_of(lm.model, batch)
    seen = {"completion_mask": mask, "old_log_probs": old, "ref_log_probs": ref, "rewards": rewards}
    if name == "grpo":
        seen["advantages"] = grpo.advantages(rewards.view(-1, cfg.group_size)).flatten()
    else:
        seen["advantages"] = ours.rloo_advantages(seen, cfg)
    disturb(trainer.model, 0.03)  # away from the weights that sampled, or no ratio is clipped
    with torch.no_grad():
        theirs = trainer._compute_loss(trainer.model, batch)
        log_probs = tasks.log_probs_of(trainer.model, batch)
        settings = ours.group_settings(cfg)
        loss = (
            our_loss(log_probs, seen, settings, True) if name == "grpo" else ours.rloo_loss(log_probs, seen)
        )
    return abs(float(theirs) - loss.item())


def ppo_gap(lm: LoadedModel, reward_model: nn.Module, tensors: dict[str, Tensor]) -> float:
    """The score that PPOTrainer reads, and how it whitens; its loss it computes inside its loop."""
    from trl.experimental.ppo.ppo_trainer import masked_whiten
    from trl.experimental.utils import get_reward

    prompts = tensors["prompt_ids"], tensors["prompt_mask"]
    completions = tensors["completion_ids"][:, 0], tensors["completion_mask"][:, 0]
    whole = torch.cat([prompts[0], completions[0]], dim=1)
    with torch.no_grad():
        theirs = get_reward(reward_model, whole, lm.tokenizer.pad_token_id, prompts[0].shape[1])[1]
    gap = (ours.scores(reward_model, *prompts, *completions) - theirs).abs().max()
    numbers = torch.randn(completions[1].shape, generator=torch.Generator().manual_seed(0)) + 1.0
    whitened = whiten(numbers, completions[1]) - masked_whiten(numbers, completions[1]) * completions[1]
    return max(gap.item(), whitened.abs().max().item())


# Two defaults left


def claim_precision(lm: LoadedModel, judged: Judged, cfg: lesson.Config, folder: str, log: RunLog) -> None:
    """SFT's loss in the 16 bits that are the default."""
    trainer = edited(lesson, EDITS["sixteen_bits"]).sft(lm, judged, cfg, folder)
    theirs, logits, labels = loss_of(trainer)
    log.claim(
        "sixteen_bits",
        "in the 16 bits of TRL's default SFT's loss is off by more than 32 bits can explain",
        abs(theirs / lesson.sft_loss(logits, labels).item() - 1.0),
        at_least=1e-5,
        unit="of the loss",
        source="the bound of sft_loss_gap",
        always=True,
        seeds="5/5",
    )


def claim_step_size(lm: LoadedModel, judged: Judged, cfg: lesson.Config, folder: str, log: RunLog) -> None:
    """DPO's passes over the pairs with the library's own step size."""
    trainer = edited(lesson, EDITS["default_rate"]).dpo(lm, judged, cfg, folder)
    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    policy = run(trainer, "default_dpo", log)
    moved = max((a - b).abs().max().item() for a, b in zip(before, policy.parameters()))
    furthest = trainer.args.learning_rate * trainer.state.global_step * (1 - 0.9) / (1 - 0.999) ** 0.5
    log.claim(
        "default_step_size",
        "with DPOTrainer's own step size no weight moves further in its steps than Adam can carry it",
        moved,
        at_most=furthest + 1e-7,
        unit="largest change of a weight",
        source="Adam's longest step is 3.2 step sizes; 1e-7 for rounding",
        always=True,
        seeds="5/5",
    )


# Figures


def draw_table(runs: Sequence[dict], log: RunLog) -> None:
    """A row for each trainer and each maker, a dot for each run."""
    shown = {
        "sentiment": ("reward (-3 to 3)", "Reward"),
        "kl": ("nats a text", "KL to the base"),
        "win_rate": ("dashed: no better", "Win rate"),
        "cpu_seconds": ("CPU seconds", "Training"),
        "megabytes": ("MB, resident", "Memory"),
    }
    figure, grid = plotting.new_figure(2, 3, width=4.4, height=4.6)
    axes, makers = grid.flat, {"": "TRL", "ours_": "ours"}
    colours = [plotting.ORANGE, plotting.BLUE] * len(LABELS)

    def values(metric: str) -> list[float]:
        return [run["metrics"][metric][-1][1] for run in runs]

    for ax, (what, (xlabel, title)) in zip(axes, shown.items()):
        rows = {
            f"{label}, {maker}": values(f"{prefix}{name}_{what}")
            for name, label in LABELS.items()
            for prefix, maker in makers.items()
        }
        plotting.dot_rows(ax, rows, colours)
        ax.set(xlabel=xlabel, title=title)
        if ax not in grid[:, 0]:
            ax.set_yticklabels([])
    axes[0].set_xlim(min(0.0, *axes[0].dataLim.intervalx) - 0.1, None)
    axes[2].axvline(0.5, **plotting.REFERENCE)
    axes[2].set_xlim(0.25, 1.0)
    rows = {f"Reward, {maker}": values(f"{prefix}reward_accuracy") for prefix, maker in makers.items()}
    plotting.dot_rows(axes[5], rows, colours)
    axes[5].axvline(0.5, **plotting.REFERENCE)
    axes[5].set(xlabel="share right; dashed: a coin", title="Unseen pairs", xlim=(0.25, 1.0))
    log.figure(figure, "table")
