"""TRL's GRPOTrainer and RLOOTrainer as yardsticks: on our model and our prompts, in our order, silent.

TRL is imported by the functions that use it: it takes seconds. A `grade` takes completion_ids, a list of
lists of tokens, and `prompts`, their texts, and returns a reward for each.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
from chapters.D_rlhf import D15_kl_penalty_placement as placement
from chapters.envs import arithmetic
from chapters.text import grpo, tasks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chapters.utils.runlog import RunLog

LOSSES: dict[str, tuple[str, dict]] = {  # name -> TRL's loss_type, D5's settings for the same loss
    "grpo": ("grpo", {}),
    "bnpo": ("bnpo", {"average": "tokens"}),
    "dapo": ("dapo", {"average": "tokens"}),
    "dr_grpo": ("dr_grpo", {"average": "constant"}),
    "gspo": ("grpo", {"ratio": "sequence"}),
    "grpo_corrected": ("grpo", {}),  # k3 times the ratio: TRL's default where beta is not 0
}
BARS = {"greedy": 0.9, "sampled": 0.6}
"""The lesson's own bars: TRL's time is taken to the same."""


def make_trainer(
    name: str, base: nn.Module, tokenizer: Any, prompts: Sequence[str], grade: Callable, cfg: lesson.Config,
    schedule: Callable[[int], float] = lambda update: 1.0, callbacks: Sequence = (),
) -> Any:  # fmt: skip
    """TRL's trainer `name`, GRPO or RLOO, on a copy of `base`; prompts come in the given order.

    Here the lesson's names are mapped to TRL's.
    """
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback

    options = {
        "use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "log_level": "error",
        "shuffle_dataset": False, "seed": cfg.seed, "beta": cfg.beta, "learning_rate": cfg.learning_rate,
        "max_grad_norm": 1.0, "num_generations": cfg.group_size,
        "per_device_train_batch_size": cfg.num_prompts * cfg.group_size,  # TRL counts completions
        "max_completion_length": arithmetic.ANSWER_TOKENS, "num_iterations": cfg.num_epochs,
        "max_steps": cfg.num_updates * cfg.num_epochs,
    }  # fmt: skip
    if name == "GRPO":
        options |= {"loss_type": "grpo", "scale_rewards": "group", "use_bias_correction_kl": False}

    def reward(prompts: list, completion_ids: list, **_: Any) -> list[float]:
        return grade(completion_ids, prompts)

    with tempfile.TemporaryDirectory() as folder:
        base.save_pretrained(folder)  # TRL loads the reference again by the model's name
        tokenizer.save_pretrained(folder)
        policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.learning_rate, fused=True)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step // cfg.num_epochs))
        trainer = getattr(trl, f"{name}Trainer")(
            model=policy, reward_funcs=[reward], processing_class=tokenizer, callbacks=list(callbacks),
            args=getattr(trl, f"{name}Config")(output_dir=folder, **options),
            train_dataset=Dataset.from_dict({"prompt": list(prompts)}), optimizers=(optimizer, falling),
        )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def train_grpo(
    base: nn.Module, tokenizer: Any, prompts: Sequence[str], grade: Callable, cfg: lesson.Config,
    watch: Callable[[nn.Module, int], None],
) -> None:  # fmt: skip
    """TRL's GRPO in its published form, with our step sizes; `watch(policy, number of updates)` from 0 on."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % cfg.num_epochs == 0:
                watch(model, state.global_step // cfg.num_epochs)

    def schedule(update: int) -> float:
        return grpo.schedule(update, cfg.num_updates)

    with quiet():
        trainer = make_trainer("GRPO", base, tokenizer, prompts, grade, cfg, schedule, [Watch()])
        watch(base, 0)
        trainer.train()


def sample_batch(trainer: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
    """A batch as the trainer samples and judges it: advantages, log-probabilities, masks."""
    trainer.model.eval()
    inputs = [{"prompt": prompt} for prompt in prompts for _ in range(trainer.num_generations)]
    with quiet():
        batch = trainer._generate_and_score_completions(inputs)
    return batch


def disturb(model: nn.Module, scale: float) -> None:
    """Move every weight a little, so that ratios are not 1 and log-probabilities not the reference's."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += scale * torch.randn(weights.shape, generator=generator)


@contextlib.contextmanager
def quiet() -> Any:
    """Without what TRL and transformers print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def full_width(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """TRL's batch in our names, padded to the longest completion allowed: TRL cuts at the longest written."""
    from torch.nn.functional import pad

    missing = arithmetic.ANSWER_TOKENS - batch["completion_ids"].shape[1]
    return {
        "prompt_ids": batch["prompt_ids"],
        "prompt_mask": batch["prompt_mask"],
        "advantages": batch["advantages"],
        "completion_ids": pad(batch["completion_ids"], (0, missing)),
        "completion_mask": pad(batch["completion_mask"].bool(), (0, missing)),
        "old_log_probs": pad(batch["old_per_token_logps"], (0, missing)),
        "ref_log_probs": pad(batch["ref_per_token_logps"], (0, missing)),
    }


def our_loss(log_probs: Tensor, batch: dict[str, Tensor], cfg: lesson.Config, corrected: bool) -> Tensor:
    """The lesson's loss; `corrected`: with each token's KL estimate times its ratio, as in D15."""
    if not corrected:
        return lesson.grpo_loss(log_probs, batch, cfg)
    mask = batch["completion_mask"]
    ratio = lesson.importance_ratio(log_probs, batch["old_log_probs"], mask, "token")
    penalty = ratio * placement.kl_estimate(log_probs, batch["ref_log_probs"], "k3")
    unpenalised = lesson.grpo_loss(log_probs, batch, replace(cfg, beta=0.0))
    return unpenalised + cfg.beta * lesson.average(penalty, mask, cfg.average)


def trl_gaps(base: nn.Module, tokenizer: Any, texts: Sequence[str], cfg: lesson.Config) -> dict[str, float]:
    """Largest differences between our advantages and losses and TRL's, on batches that TRL sampled."""
    import torch

    cfg = replace(cfg, num_prompts=6, group_size=4, beta=0.1)
    gaps, grades = {}, []

    def grade(completion_ids: list, _: list) -> list[float]:  # many values, whatever the base can do
        grades[:] = [float(sum(ids) * len(ids) % 7) for ids in completion_ids]
        return grades

    prompts = texts[:: len(texts) // cfg.num_prompts][: cfg.num_prompts]
    for name, divide in (("RLOO", False), ("GRPO", False), ("GRPO", True)):
        trainer = make_trainer(name, base, tokenizer, prompts, grade, cfg)
        disturb(trainer.model, 0.05)  # away from the reference, or there is no penalty
        trainer.scale_rewards = "group" if divide else "none"
        batch = sample_batch(trainer, prompts)
        mask = batch["completion_mask"] = batch["completion_mask"].bool()
        rewards = torch.tensor(grades)
        if name == "RLOO":
            judged = [tasks.log_probs_of(model, batch).detach() for model in (trainer.model, base)]
            rewards = placement.penalised_rewards(rewards, *judged, mask, cfg.beta)
        baseline = {"RLOO": "leave_one_out", "GRPO": "group_mean"}[name]
        ours = lesson.advantages(rewards.view(-1, cfg.group_size), baseline, divide).flatten()
        gaps[f"advantages_{name}_{divide}"] = (ours - batch["advantages"]).abs().max().item()
    disturb(trainer.model, 0.03)  # away from the weights that sampled, or no ratio is clipped
    ours = full_width(batch)
    for name, (trainer.loss_type, settings) in LOSSES.items():
        changed = replace(cfg, **settings, clip_high=0.28)
        trainer.epsilon_high, trainer.importance_sampling_level = changed.clip_high, changed.ratio
        trainer.args.use_bias_correction_kl = name == "grpo_corrected"
        found = our_loss(tasks.log_probs_of(trainer.model, ours), ours, changed, name == "grpo_corrected")
        gaps[f"loss_{name}"] = abs(found.item() - trainer._compute_loss(trainer.model, batch).item())
    return gaps


def seconds_to(log: RunLog, name: str, bars: dict[str, float]) -> float:
    """CPU seconds of learning until a measurement first met all bars; infinite if none did."""
    seconds = log.series(f"{name}_cpu_seconds")[1]
    series = [log.series(f"{name}_{what}")[1] for what in bars]
    met = (s for s, *found in zip(seconds, *series) if all(f >= b for f, b in zip(found, bars.values())))
    return next(met, math.inf)


def compare(cfg: lesson.Config, log: RunLog) -> None:
    """The lesson beside TRL: the same batch through both, then the same training."""
    import numpy as np

    base, tokenizer, prompts, held_out = (
        log.kept[name] for name in ("base", "tokenizer", "prompts", "held_out")
    )
    gaps = trl_gaps(base, tokenizer, prompts, cfg)
    log.write(0, **{f"trl_gap_{name}": gap for name, gap in gaps.items()})
    rng = np.random.default_rng(cfg.seed)  # as in the lesson's `train`
    draws = [rng.integers(len(prompts), size=cfg.num_prompts) for _ in range(cfg.num_updates)]
    watch = tasks.accuracy_watcher("trl", held_out, cfg.num_updates, cfg.seed, log)

    def grade(completion_ids: list, asked: list) -> list[float]:
        return arithmetic.grade(tokenizer, asked, completion_ids).tolist()

    train_grpo(base, tokenizer, [prompts[row] for draw in draws for row in draw], grade, cfg, watch)
    claim_parity(gaps, log)
    claim_cost(log)


def claim_parity(gaps: dict[str, float], log: RunLog) -> None:
    """The same numbers on the same batch."""
    worst = {what: max(gap for name, gap in gaps.items() if what in name) for what in ("advantages", "loss")}
    rule = {"at_most": 1e-5, "seeds": "10/10", "source": "trl 1.12 in the same process", "always": True}
    says = "our advantages equal those of TRL's GRPO, divided and not, and RLOO on the same completions"
    log.claim("trl_advantages_gap", says, worst["advantages"], **rule)
    says = "our losses equal TRL's on one batch: GRPO, BNPO, DAPO, Dr. GRPO, GSPO, GRPO with the KL corrected"
    log.claim("trl_loss_gap", says, worst["loss"], **rule)


def claim_cost(log: RunLog) -> None:
    """What the library costs beside the lesson."""
    ours, theirs = (seconds_to(log, name, BARS) for name in ("ours", "trl"))
    whole = log.last("trl_cpu_seconds") / log.last("ours_cpu_seconds")
    rule = {"at_least": 1.0, "unit": "times ours", "timed": True, "source": "the same run, one thread"}
    says = f"TRL's CPU seconds to {BARS['greedy']} greedy and {BARS['sampled']} sampled"
    log.claim("faster_than_trl", says, theirs / ours, **rule)
    log.claim("trl_time_per_update", "TRL's CPU seconds for as many updates", whole, **rule)
