"""TRL's DPOTrainer as a yardstick: on our model and our pairs, in our order, silent.

Pairs are a dictionary: prompt_ids and prompt_mask [B, P], padded on the left; completion_ids and
completion_mask [B, 2, T], the chosen completion before the rejected one. TRL is imported by the functions
that use it: it takes seconds.

What TRL 1.12 does differently. By default it asks the reference again at every step; with
`precompute_ref_log_probs=True` it asks once, as `add_reference` does, before it starts. It pads a minibatch
to its longest text; ours groups texts of like length. In its IPO loss it divides each h by the number of
tokens, and notes that the authors' experiments did so; equation 17 of azar2024ipo does not. Its `sigmoid`
loss takes no soft labels, and ignores `label_smoothing`. And it glues EOS to a text without one, which a
tokenizer that splits at spaces cannot read: end your texts with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chapters.utils.peers import silence

if TYPE_CHECKING:
    from torch import nn


def as_texts(pairs: dict, tokenizer: Any) -> dict[str, list[str]]:
    """The columns that DPOTrainer reads; a completion begins where its prompt's text ends, spaces included.

    Each completion must end in EOS: TRL glues one to a text without, and a tokenizer that splits at spaces
    cannot read that.
    """
    import torch

    columns: dict[str, list[str]] = {"prompt": [], "chosen": [], "rejected": []}
    for row, prompt_ids in enumerate(pairs["prompt_ids"]):
        prompt = prompt_ids[pairs["prompt_mask"][row].bool()]
        start = tokenizer.decode(prompt)
        columns["prompt"].append(start)
        for side, name in enumerate(("chosen", "rejected")):
            written = pairs["completion_ids"][row, side][pairs["completion_mask"][row, side]]
            columns[name].append(tokenizer.decode(torch.cat([prompt, written]))[len(start) :])
    return columns


def dpo_trainer(
    base: nn.Module, pairs: dict, tokenizer: Any, cfg: Any, folder: str, precompute: bool = False
) -> Any:
    """A DPOTrainer with a lesson's configuration in TRL's names, and the pairs in their own order."""
    with silence():
        from datasets import Dataset
        from transformers.trainer_callback import PrinterCallback
        from trl import DPOConfig, DPOTrainer

        args = DPOConfig(
            output_dir=folder, beta=cfg.beta, learning_rate=cfg.learning_rate, max_grad_norm=1.0,
            per_device_train_batch_size=cfg.batch_size, num_train_epochs=cfg.num_epochs, max_length=None,
            lr_scheduler_type="constant", train_sampling_strategy="sequential", seed=cfg.seed,
            precompute_ref_log_probs=precompute, use_cpu=True, bf16=False, activation_checkpointing=False,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = DPOTrainer(
            copy.deepcopy(base), None if precompute else copy.deepcopy(base), args,
            train_dataset=Dataset.from_dict(as_texts(pairs, tokenizer)), processing_class=tokenizer,
        )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def dpo_gaps(trainer: Any, loss: str, ours: Callable[[nn.Module], tuple]) -> tuple[float, float, float]:
    """How far loss, mean rewards and gradients are from TRL's, on all of the trainer's pairs at once.

    loss: TRL's name, "sigmoid" or "ipo". ours: policy -> (loss, (mean chosen reward, mean rejected reward)).
    Relative to the loss and to the largest gradient; the rewards as they are.
    """
    with silence():
        trainer.loss_types, policy = [loss], trainer.model
        inputs = trainer.data_collator(list(trainer.train_dataset))
        gradients, losses = [], []
        for found in (lambda: ours(policy)[0], lambda: trainer.compute_loss(policy, inputs)):
            policy.zero_grad()
            losses.append(found())
            losses[-1].backward()
            gradients.append([parameter.grad.clone() for parameter in policy.parameters()])
        metrics = trainer._metrics["train" if policy.training else "eval"]
        theirs = [metrics[f"rewards/{side}"][-1] for side in ("chosen", "rejected")]
    rewards = max(abs(float(a) - b) for a, b in zip(ours(policy)[1], theirs, strict=True))
    gap = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    largest = max(b.abs().max().item() for b in gradients[1])
    return abs(losses[0].item() / losses[1].item() - 1), rewards, gap / largest
