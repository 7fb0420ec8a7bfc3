"""TRL's losses on the same texts: DPOTrainer's, KTOTrainer's, and SimPO from CPOTrainer.

TRL is imported by the functions that use it: it takes seconds.

What TRL 1.12 does differently. Its `ipo` divides each h by the number of tokens; `sigmoid_norm` is the
length-normalised loss; `sft` is a mean over all tokens of a minibatch, so texts in short company count more.
SimPO lives in the experimental CPOTrainer, whose `cpo_alpha`, a likelihood term, is 1 unless set to 0, and
whose `loss_type="ipo"` has no reference. KTOTrainer takes for the reference point the completions of a
minibatch, each moved on to the next prompt, so the order of the data and the batch size matter; what is below
0 counts as 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from chapters.D_rlhf.evidence.D4_trl import as_texts, dpo_trainer
from chapters.utils.peers import silence

if TYPE_CHECKING:
    from torch import nn

DPO_TYPES = {
    "DPO": (["sigmoid"], [1.0]),
    "length-normalised": (["sigmoid_norm"], [1.0]),
    "IPO": (["ipo"], [1.0]),
    "DPO + SFT": (["sigmoid", "sft"], [1.0, 1.0]),
}
"""Our name for a loss: TRL's types and their weights."""


def settings(cfg: Any, folder: str, num: int) -> dict[str, Any]:
    """What every trainer's configuration needs to stay silent, on a CPU, with all `num` texts in a batch."""
    return {
        "output_dir": folder, "beta": cfg.beta, "per_device_train_batch_size": num, "max_length": 64,
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def trainers(
    base: nn.Module, pairs: dict, tokenizer: Any, cfg: Any, margin: float, folder: str
) -> Iterator[tuple[str, Any]]:
    """(name of the loss, a trainer that has it), one after the other."""
    from datasets import Dataset

    trainer = dpo_trainer(base, pairs, tokenizer, cfg, folder)
    for name, (types, weights) in DPO_TYPES.items():
        trainer.loss_types, trainer.loss_weights = types, weights
        yield name, trainer
    columns = as_texts(pairs, tokenizer)
    with silence():
        from trl import KTOConfig, KTOTrainer
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        num = len(columns["prompt"])
        args = CPOConfig(
            **settings(cfg, folder, num), loss_type="simpo", simpo_gamma=margin, cpo_alpha=0.0,
            max_completion_length=64,
        )  # fmt: skip
        data = Dataset.from_dict(columns)
        simpo = CPOTrainer(copy.deepcopy(base), args, train_dataset=data, processing_class=tokenizer)
    yield "SimPO", simpo
    texts = {
        "prompt": columns["prompt"] * 2,
        "completion": columns["chosen"] + columns["rejected"],
        "label": [True] * num + [False] * num,
    }
    with silence():
        args = KTOConfig(**settings(cfg, folder, 2 * num), train_sampling_strategy="sequential")
        kto = KTOTrainer(
            copy.deepcopy(base), copy.deepcopy(base), args, train_dataset=Dataset.from_dict(texts),
            processing_class=tokenizer,
        )  # fmt: skip
    yield "KTO", kto


def loss_gaps(trainer: Any, policy: nn.Module, ours: Callable[[nn.Module], Any]) -> tuple[float, float]:
    """How far our loss is from the trainer's on all of its data, relative, and our gradient likewise."""
    with silence():
        trainer.model.load_state_dict(policy.state_dict())
        model = trainer.model
        inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
        losses, gradients = [], []
        for found in (lambda: ours(model), lambda: trainer.compute_loss(model, inputs)):
            model.zero_grad()
            losses.append(found())
            losses[-1].backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    gap = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    largest = max(b.abs().max().item() for b in gradients[1])
    return abs(losses[0].item() / losses[1].item() - 1), gap / largest
