"""RLlib's PPO and IMPALA, all of each in this process: for C8's evidence and for the benchmark."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

LIMIT = 10.0
"""Standardised observations are cut here, as RLlib's filter does."""


def lacks() -> str:
    """Why RLlib cannot run here; "" if it can."""
    try:
        import ray.rllib.algorithms.impala
        import ray.rllib.algorithms.ppo  # noqa: F401
    except ImportError as error:
        return f"RLlib is skipped: {error}"
    return ""


def ppo(cfg: Any) -> Any:
    """PPO at C3's settings, as far as RLlib has them."""
    from ray.rllib.algorithms.ppo import PPOConfig

    settings = PPOConfig().training(
        minibatch_size=cfg.minibatch_size, num_epochs=cfg.num_epochs, lambda_=cfg.gae_lambda,
        clip_param=cfg.clip_eps, use_kl_loss=False, vf_loss_coeff=cfg.vf_coef, vf_clip_param=1e9,
    )  # fmt: skip
    return in_this_process(at_settings_of(settings, cfg), cfg)


def impala(cfg: Any) -> Any:
    """IMPALA at C7's settings, as far as RLlib has them: one optimiser with the actor's step size."""
    from ray.rllib.algorithms.impala import IMPALAConfig

    settings = IMPALAConfig().training(vf_loss_coeff=1.0, vtrace_clip_rho_threshold=cfg.rho_bar)
    settings = settings.env_runners(rollout_fragment_length=cfg.num_steps)
    return in_this_process(at_settings_of(settings, cfg).reporting(min_time_s_per_iteration=0), cfg)


def impala_example(cfg: Any) -> Any:
    """IMPALA at the settings of RLlib's own example on CartPole, with as many environments as C7's actors."""
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    settings = IMPALAConfig().training(
        train_batch_size_per_learner=500, grad_clip=40.0, grad_clip_by="global_norm", lr=5e-4,
        vf_loss_coeff=0.05, entropy_coeff=0.0,
    )  # fmt: skip
    settings = settings.rl_module(model_config=DefaultModelConfig(vf_share_layers=True))
    settings = settings.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    return in_this_process(settings.reporting(min_time_s_per_iteration=0), cfg)


def at_settings_of(settings: Any, cfg: Any) -> Any:
    """What C3 and C7 share."""
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    model = DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
    return settings.training(
        lr=[[0, cfg.learning_rate], [cfg.num_env_steps, 0.0]], gamma=cfg.gamma, entropy_coeff=cfg.ent_coef,
        grad_clip=cfg.max_grad_norm, train_batch_size_per_learner=cfg.num_envs * cfg.num_steps,
    ).rl_module(model_config=model)  # fmt: skip


def in_this_process(settings: Any, cfg: Any) -> Any:
    """Environments and learner here, in no process of their own."""
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    return (
        settings.environment(cfg.env_id)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=cfg.num_envs)
        .learners(num_learners=0)
        .debugging(seed=cfg.seed, log_level="ERROR")
    )


def likeliest(algorithm: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The policy of the likeliest actions, its observations standardised if the learner's are."""
    import torch

    module, (mean, std) = algorithm.get_module(), standard(algorithm)

    def act(obs: np.ndarray) -> np.ndarray:
        obs = ((obs - mean) / std).clip(-LIMIT, LIMIT) if mean is not None else obs
        with torch.no_grad():
            given = {"obs": torch.from_numpy(obs.astype(np.float32))}
            return module.forward_inference(given)["action_dist_inputs"].argmax(dim=1).numpy()

    return act


def standard(algorithm: Any) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Mean and standard deviation of the observations so far, or None twice if it keeps none."""
    from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
    from ray.rllib.utils.filter import RunningStat

    pipeline = algorithm.env_runner._env_to_module
    found = [part for part in pipeline.connectors if isinstance(part, MeanStdFilter)]
    if not found:
        return None, None
    (state,) = found[0].get_state().values()
    stat = RunningStat.from_state(state["running_stats"][0])
    return stat.mean, stat.std + 1e-8


def steps_of(result: dict[str, Any]) -> int:
    """Environment steps that a learner has taken, from what `train` returns."""
    return int(result["num_env_steps_sampled_lifetime"])
