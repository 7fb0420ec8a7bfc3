"""TRL's RewardTrainer as a yardstick: on our weights and our pairs, in our order, silent.

TRL is imported by the functions that use it: it takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chapters.utils.peers import silence
from chapters.utils.timing import CpuClock, PeakMemory

if TYPE_CHECKING:
    from torch import nn


def classifier(body: nn.Module, head: nn.Linear) -> nn.Module:
    """The same body and head as transformers writes a reward model: a classifier of one class."""
    import copy

    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(body.config)
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    model.base_model.load_state_dict(body.state_dict())
    model.score.load_state_dict(head.state_dict())
    return model.eval()


def reward_trainer(
    model: nn.Module, tokenizer: Any, chosen: Sequence, rejected: Sequence, cfg: Any, folder: str
) -> Any:
    """A RewardTrainer on lists of token ids; `cfg` has the lesson's names."""
    with silence():
        from datasets import Dataset
        from transformers.trainer_callback import PrinterCallback
        from trl import RewardConfig, RewardTrainer

        num_steps = cfg.num_epochs * (len(chosen) // cfg.batch_size)
        args = RewardConfig(
            output_dir=folder, learning_rate=cfg.learning_rate, per_device_train_batch_size=cfg.batch_size,
            num_train_epochs=cfg.num_epochs, lr_scheduler_type="linear", max_grad_norm=1.0,
            warmup_steps=max(1, int(0.1 * num_steps)), weight_decay=0.0, seed=cfg.seed,
            train_sampling_strategy="sequential", dataloader_drop_last=True, gradient_checkpointing=False,
            use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_dict({"chosen_ids": list(chosen), "rejected_ids": list(rejected)})
        trainer = RewardTrainer(model=model, args=args, processing_class=tokenizer, train_dataset=data)
    trainer.remove_callback(PrinterCallback)
    return trainer


def trl_loss(body: nn.Module, head: nn.Linear, tokenizer: Any, pairs: dict, cfg: Any) -> float:
    """RewardTrainer's loss on one batch of pairs, as its own collator pads them."""
    import torch

    chosen, rejected = _without_padding(pairs)
    with tempfile.TemporaryDirectory() as folder:
        model = classifier(body, head)
        trainer = reward_trainer(model, tokenizer, chosen, rejected, cfg, folder)
        batch = [{"chosen_ids": a, "rejected_ids": b} for a, b in zip(chosen, rejected)]
        with torch.no_grad():
            return float(trainer.compute_loss(model, trainer.data_collator(batch)))


def train_trl(
    body: nn.Module, head: nn.Linear, tokenizer: Any, pairs: dict, cfg: Any
) -> tuple[Callable, float, float]:
    """(the trained scorer, CPU seconds of training alone, largest resident memory meanwhile in MB)."""
    with tempfile.TemporaryDirectory() as folder:
        model = classifier(body, head)
        trainer = reward_trainer(model, tokenizer, *_without_padding(pairs), cfg, folder)
        clock = CpuClock()
        with silence(), PeakMemory() as peak, clock:
            trainer.train()
    model.eval()
    return (
        lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits[:, 0],
        clock.seconds,
        peak.megabytes,
    )


def _without_padding(pairs: dict) -> list[list[list[int]]]:
    """The token ids of the chosen texts and of the rejected ones; pairs: ids and mask [2, M, T]."""
    return [
        [row[real.bool()].tolist() for row, real in zip(ids, mask)]
        for ids, mask in zip(pairs["ids"], pairs["mask"])
    ]
