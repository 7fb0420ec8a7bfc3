"""TRL's GRPOTrainer and RLOOTrainer as yardsticks: on our model and our prompts, in our order, silent.

TRL is imported by the functions that use it: it takes seconds. A `grade` takes completion_ids, a list of
lists of tokens, and `prompts`, their texts, and returns a reward for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chapters.D_rlhf.evidence.D5_tools import claim_all, seconds_to
from chapters.envs import arithmetic
from chapters.utils.lesson import peak_memory_mb
from chapters.utils.timing import CpuClock

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chapters.utils.runlog import RunLog

LOSSES: dict[str, tuple[str, dict]] = {  # name -> TRL's loss_type, D5's switches for the same loss
    "grpo": ("grpo", {}),
    "bnpo": ("bnpo", {"average": "tokens"}),
    "dapo": ("dapo", {"average": "tokens"}),
    "dr_grpo": ("dr_grpo", {"average": "constant"}),
    "gspo": ("grpo", {"ratio": "sequence"}),
    "grpo_corrected": ("grpo", {"kl_ratio": True}),  # TRL's default since DeepSeek-V3.2
}


def make_trainer(
    name: str, base: nn.Module, tokenizer: Any, prompts: Sequence[str], grade: Callable, cfg: Any,
    schedule: Callable[[int], float] = lambda update: 1.0, callbacks: Sequence = (),
) -> Any:  # fmt: skip
    """TRL's trainer `name`, GRPO or RLOO, on a copy of `base`; prompts come in the given order.

    `cfg` is a lesson's configuration: here its names are mapped to TRL's.
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
        "max_completion_length": cfg.num_tokens, "num_iterations": cfg.num_epochs,
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
    base: nn.Module, tokenizer: Any, prompts: Sequence[str], grade: Callable, cfg: Any,
    schedule: Callable[[int], float], watch: Callable[[nn.Module, int, float], None],
) -> None:  # fmt: skip
    """TRL's GRPO as published, with our step sizes; `watch(policy, updates, CPU seconds)` is not timed."""
    from transformers import TrainerCallback

    clock = CpuClock()

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % cfg.num_epochs == 0:
                clock.__exit__()
                watch(model, state.global_step // cfg.num_epochs, clock.seconds)
                clock.__enter__()

    with quiet():
        trainer = make_trainer("GRPO", base, tokenizer, prompts, grade, cfg, schedule, [Watch()])
        with clock:
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


def trl_gaps(
    base: nn.Module, tokenizer: Any, texts: Sequence[str], cfg: Any,
    advantages: Callable, charged: Callable, log_probs_of: Callable, grpo_loss: Callable,
) -> dict[str, float]:  # fmt: skip
    """Largest differences between a lesson's advantages and losses and TRL's, on batches that TRL sampled."""
    import torch

    cfg, gaps, grades = dataclasses.replace(cfg, num_prompts=6, group_size=4, beta=0.1), {}, []

    def grade(completion_ids: list, _: list) -> list[float]:  # many values, whatever the base can do
        grades[:] = [float(sum(ids) * len(ids) % 7) for ids in completion_ids]
        return grades

    prompts = texts[:: len(texts) // cfg.num_prompts][: cfg.num_prompts]
    for name, divide in (("RLOO", False), ("GRPO", False), ("GRPO", True)):
        trainer = make_trainer(name, base, tokenizer, prompts, grade, cfg)
        disturb(trainer.model, 0.05)  # away from the reference, or nothing is charged
        trainer.scale_rewards = "group" if divide else "none"
        batch = sample_batch(trainer, prompts)
        mask = batch["completion_mask"] = batch["completion_mask"].bool()
        rewards = torch.tensor(grades)
        if name == "RLOO":
            judged = [log_probs_of(model, batch).detach() for model in (trainer.model, base)]
            rewards = charged(rewards, *judged, mask, cfg.beta)
        baseline = {"RLOO": "leave_one_out", "GRPO": "group_mean"}[name]
        ours = advantages(rewards.view(-1, cfg.group_size), baseline, divide).flatten()
        gaps[f"advantages_{name}_{divide}"] = (ours - batch["advantages"]).abs().max().item()
    disturb(trainer.model, 0.03)  # away from the weights that sampled, or no ratio is clipped
    ours = batch | {
        "old_log_probs": batch["old_per_token_logps"],
        "ref_log_probs": batch["ref_per_token_logps"],
    }
    for name, (trainer.loss_type, switches) in LOSSES.items():
        changed = dataclasses.replace(cfg, **switches, clip_high=0.28)
        trainer.epsilon_high, trainer.importance_sampling_level = changed.clip_high, changed.ratio
        trainer.args.use_bias_correction_kl = changed.kl_ratio
        loss = grpo_loss(log_probs_of(trainer.model, ours), ours, changed)
        gaps[f"loss_{name}"] = abs(loss.item() - trainer._compute_loss(trainer.model, batch).item())
    return gaps


def compare(
    base: nn.Module, tokenizer: Any, texts: Sequence[str], watch: Callable, schedule: Callable,
    functions: Sequence[Callable], cfg: Any, log: RunLog,
) -> None:  # fmt: skip
    """A lesson beside TRL: the same batch through both, then the same training; `texts` are the prompts.

    `functions` are the lesson's advantages, charged, log_probs_of and grpo_loss.
    """
    import numpy as np

    before, rng = peak_memory_mb(), np.random.default_rng(cfg.seed)  # as in the lesson's `train`
    draws = [rng.integers(len(texts), size=cfg.num_prompts) for _ in range(cfg.num_updates)]
    gaps = trl_gaps(base, tokenizer, texts, cfg, *functions)
    watch(base, 0, 0.0)
    log.write(0, **{f"trl_gap_{name}": gap for name, gap in gaps.items()})
    train_grpo(
        base, tokenizer, [texts[row] for draw in draws for row in draw],
        lambda ids, prompts: arithmetic.grade(tokenizer, prompts, ids).tolist(), cfg,
        lambda i: schedule(i, cfg), watch,
    )  # fmt: skip
    worst = {what: max(g for name, g in gaps.items() if what in name) for what in ("advantages", "loss")}
    same = {"at_most": 1e-5, "seeds": "10/10", "source": "trl 1.12 in the same process", "always": True}
    bars = {"greedy": 0.9, "sampled": 0.6}
    ours, theirs = (seconds_to(log, name, bars) for name in ("ours", "trl"))
    whole = log.last("trl_cpu_seconds") / log.last("ours_cpu_seconds")
    times, memory = {"at_least": 1.0, "unit": "times ours", "timed": True}, peak_memory_mb() / before
    rows = [
        ("trl_advantages_gap", "our advantages equal TRL's", worst["advantages"], same),
        ("trl_loss_gap", "our losses equal TRL's, for every variant it has", worst["loss"], same),
        ("faster_than_trl", "TRL's CPU seconds to 0.9 greedy and 0.6 sampled", theirs / ours, times),
        ("trl_seconds", "TRL's CPU seconds for as many updates", whole, times),
        ("trl_memory", "peak memory of the process with TRL in it", memory, times),
    ]
    claim_all(log, rows, source="the same run, one thread")
