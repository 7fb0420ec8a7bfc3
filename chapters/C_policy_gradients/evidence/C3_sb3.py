"""C3 beside Stable-Baselines3: its PPO on our checks, clock and batch.

stable_baselines3 is imported by the functions that use it: it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chapters.utils import CpuClock, seed_everything

ZOO_PPO_CARTPOLE = {  # raffin2020zoo; names are those of Stable-Baselines3
    "num_envs": 8,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "ent_coef": 0.0,
    "learning_rate": lambda left: 1e-3 * left,
    "clip_range": lambda left: 0.2 * left,
}


def sb3_ppo_settings(cfg: Any) -> dict[str, Any]:
    """A lesson's configuration in SB3's names; SB3's early stop allows 1.5 times the KL it is given."""
    return {
        "num_envs": cfg.num_envs,
        "n_steps": cfg.num_steps,
        "batch_size": cfg.minibatch_size,
        "n_epochs": cfg.num_epochs,
        "gamma": cfg.gamma,
        "gae_lambda": cfg.gae_lambda,
        "ent_coef": cfg.ent_coef,
        "vf_coef": cfg.vf_coef,
        "max_grad_norm": cfg.max_grad_norm,
        "target_kl": cfg.target_kl / 1.5,
        "learning_rate": lambda left: cfg.learning_rate * left,
        "clip_range": lambda left: cfg.clip_eps * left,
    }


def train_sb3_ppo(
    env_id: str,
    seed: int,
    num_env_steps: int,
    eval_every: int,
    check: Callable[[int, float, Callable], bool],
    num_envs: int,
    **settings: Any,
) -> None:
    """Train SB3's PPO; after each update that ends on a multiple of `eval_every` steps, check it.

    `check(step, CPU seconds so far, greedy policy)` says whether to stop. Neither it nor building the model
    is on the clock; collecting and learning are.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    seed_everything(seed)
    envs = make_vec_env(env_id, n_envs=num_envs, seed=seed)
    model, clock = PPO("MlpPolicy", envs, seed=seed, device="cpu", **settings), CpuClock()

    class Checks(BaseCallback):
        done = False

        def _on_rollout_start(self) -> None:  # that is, after each update
            if (step := model.num_timesteps) and step % eval_every == 0:
                clock.__exit__()
                self.done = check(step, clock.seconds, lambda obs: model.predict(obs, deterministic=True)[0])
                clock.__enter__()

        def _on_step(self) -> bool:
            return not self.done

    with clock:
        model.learn(num_env_steps, callback=Checks())


def sb3_ppo_gaps(
    env_id: str, parameters: Sequence, loss: float, batch: dict, cfg: Any
) -> tuple[float, float]:
    """How far a loss, and the gradients that lie in `parameters`, are from those of SB3's PPO; relative.

    parameters: actor's weights and biases from below, then the critic's, then the log standard deviations if
    actions are continuous. batch: tensors obs, actions, old_log_probs, advantages, returns, a row for each
    transition. cfg: with clip_eps, ent_coef and vf_coef.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger

    size = len(batch["obs"])
    model = PPO(
        "MlpPolicy",
        env_id,
        device="cpu",
        n_steps=size,
        batch_size=size,
        n_epochs=1,
        max_grad_norm=1e9,
        clip_range=cfg.clip_eps,
        ent_coef=cfg.ent_coef,
        vf_coef=cfg.vf_coef,
    )
    policy, net, buffer = model.policy, model.policy.mlp_extractor, model.rollout_buffer
    layers = [*net.policy_net[::2], policy.action_net, *net.value_net[::2], policy.value_net]
    theirs = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    theirs += [policy.log_std] if hasattr(policy, "log_std") else []
    for copied, original in zip(theirs, parameters, strict=True):
        copied.data.copy_(original.data)
    buffer.observations[:, 0], buffer.actions[:, 0] = batch["obs"], batch["actions"].reshape(size, -1)
    buffer.log_probs[:, 0], buffer.advantages[:, 0] = batch["old_log_probs"], batch["advantages"]
    buffer.returns[:, 0], buffer.full = batch["returns"], True
    model.set_logger(Logger(None, []))
    model.train()  # one epoch of one minibatch: the gradients it leaves are those of this batch
    their_loss = model.logger.name_to_value["train/loss"]
    gap = max((a.grad - b.grad).abs().max().item() for a, b in zip(parameters, theirs))
    largest = max(b.grad.abs().max().item() for b in theirs)
    return abs(loss / their_loss - 1), gap / largest
