"""TRL's PPOTrainer as a yardstick: from our model and our reward model, on our prompts, silent.

It stands in `trl.experimental.ppo` and left TRL after 1.12. TRL is imported by the functions that use it: it
takes seconds.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chapters.utils.peers import silence
from chapters.utils.timing import CpuClock

if TYPE_CHECKING:
    from torch import nn

    from chapters.utils.runlog import RunLog


def ppo_settings(cfg: Any, folder: str) -> dict[str, Any]:
    """PPOConfig's arguments: a lesson's configuration in TRL's names."""
    return {
        "output_dir": folder, "seed": cfg.seed, "total_episodes": cfg.num_prompts * cfg.num_updates,
        "per_device_train_batch_size": cfg.num_prompts, "gradient_accumulation_steps": 1,
        "local_rollout_forward_batch_size": cfg.num_prompts, "num_mini_batches": cfg.num_minibatches,
        "num_ppo_epochs": cfg.num_epochs, "learning_rate": cfg.learning_rate, "lr_scheduler_type": "linear",
        "kl_coef": cfg.beta, "cliprange": cfg.clip_eps, "vf_coef": cfg.vf_coef, "gamma": 1.0,
        "lam": cfg.gae_lambda, "response_length": cfg.num_tokens, "temperature": 1.0, "stop_token": "eos",
        "num_sample_generations": 0, "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
    }  # fmt: skip


def train_trl_ppo(
    reference: nn.Module, reward_model: nn.Module, tokenizer: Any, prompts: list[str], cfg: Any, log: RunLog,
    watch: Callable[[int, float, nn.Module], None],
) -> nn.Module:  # fmt: skip
    """A copy of `reference` after TRL's PPO on `prompts`, each used once, in TRL's own order.

    The reward model has what TRL asks for: `base_model_prefix`, the trunk of that name, and `score`. A copy
    of it becomes the critic. `watch(step, CPU seconds, policy)` after every step is not charged for. TRL's
    own figures are logged as `trl_reward` and `trl_kl`.
    """
    with silence():
        from datasets import Dataset
        from transformers import TrainerCallback
        from transformers.trainer_callback import PrinterCallback
        from trl.experimental.ppo import PPOConfig, PPOTrainer

    policy, clock = copy.deepcopy(reference).requires_grad_(True), CpuClock()

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **_) -> None:
            clock.__exit__()
            watch(state.global_step, clock.seconds, policy)
            clock.__enter__()

        def on_log(self, args, state, control, logs, **_) -> None:
            if "objective/scores" in logs:
                figures = {"trl_reward": logs["objective/scores"], "trl_kl": logs["objective/kl"]}
                log.write(state.global_step - 1, **figures)

    with tempfile.TemporaryDirectory() as folder, silence():
        trainer = PPOTrainer(
            args=PPOConfig(**ppo_settings(cfg, folder)),
            processing_class=tokenizer,
            model=policy,
            ref_model=copy.deepcopy(reference),
            reward_model=copy.deepcopy(reward_model),
            value_model=copy.deepcopy(reward_model).requires_grad_(True),
            train_dataset=Dataset.from_dict({"input_ids": [tokenizer(text).input_ids for text in prompts]}),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        with clock:
            trainer.train()
    return policy.eval().requires_grad_(False)


def trl_gap(
    reward_model: nn.Module, whiten: Callable, pack: Callable, prompts: tuple, rewrites: tuple, pad_id: int
) -> float:
    """How far our rewards and whitened numbers are from TRL's, on texts of different lengths.

    prompts and rewrites: (ids, mask). `whiten(numbers, mask)`; `pack(*prompts, *rewrites)` makes
    the reward model's own input.
    """
    import torch

    with silence():
        from trl.experimental.ppo.ppo_trainer import masked_whiten
        from trl.experimental.utils import get_reward

    mask = rewrites[1]
    with torch.no_grad():
        ours = reward_model(*pack(*prompts, *rewrites))
        whole = torch.cat([prompts[0], rewrites[0]], dim=1)
        theirs = get_reward(reward_model, whole, pad_id, prompts[0].shape[1])[1]
    numbers = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0)) + 1.0
    whitened = whiten(numbers, mask) - masked_whiten(numbers, mask) * mask
    return max((ours - theirs).abs().max().item(), whitened.abs().max().item())


def seconds_to(log: RunLog, name: str, level: float) -> float:
    """CPU seconds at the first point of `<name>_score` at or above the level, or at its last."""
    seconds, scores = (log.series(f"{name}_{what}")[1] for what in ("cpu_seconds", "score"))
    return next((at for at, score in zip(seconds, scores) if score >= level), seconds[-1])
