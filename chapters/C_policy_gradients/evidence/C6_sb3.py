"""C6 beside Stable-Baselines3: losses and gradients of one minibatch, and a race on Pendulum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from chapters.C_policy_gradients import C6_sac_td3 as lesson
from chapters.envs.ensembles import Ensemble
from chapters.envs.linear_system import BatchedLinearSystem
from chapters.exact import lqr
from chapters.utils import CpuClock, RunLog, seed_everything
from chapters.utils.evaluation import crossing

NUM_OBS, NUM_ACTIONS, BATCH = 3, 2, 64
PARITY = {  # TD3 with a wider blur, so that it is often cut
    "td3": lesson.RECIPES["td3"]._replace(target_noise=0.5),
    "sac": lesson.RECIPES["sac"],
}
ZOO_SAC = {"learning_rate": 1e-3}  # raffin2020zoo, Pendulum-v1; all else are the library's defaults


class Spaces(gym.Env):
    """An environment that has spaces, and nothing happens in it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (NUM_OBS,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32)


def an_agent(recipe: lesson.Recipe, cfg: lesson.Config) -> tuple[lesson.Agent, lesson.Batch]:
    """(an untrained agent whose slow copies are others than its networks, a minibatch of random numbers)."""
    seed_everything(cfg.seed)
    system = lqr.LQR(
        np.eye(NUM_OBS), np.ones((NUM_OBS, NUM_ACTIONS)), np.eye(NUM_OBS), np.eye(NUM_ACTIONS), 0.9
    )
    envs = BatchedLinearSystem(1, *system[:4], max_action=1.0)
    agent = lesson.Agent(envs, recipe, cfg)
    for slow in {agent.slow_actor, agent.slow_critics} - {agent.actor}:
        for parameter in slow.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    for actor in {agent.actor, agent.slow_actor} if not recipe.stochastic else ():
        for parameter in actor.layers[-2:]:
            parameter.data *= 4.0  # some actions near their limits, where blurred ones are cut
    obs, next_obs = torch.randn(2, BATCH, NUM_OBS)
    batch = {"obs": obs, "next_obs": next_obs, "actions": torch.rand(BATCH, NUM_ACTIONS) * 2 - 1}
    batch |= {"rewards": torch.randn(BATCH), "terminated": torch.rand(BATCH) < 0.2}
    return agent, batch


def copied(networks: Ensemble, which: int, layers: list[torch.nn.Linear]) -> None:
    """The weights of one of several networks into a library's layers."""
    for layer, weight, bias in zip(layers, networks.layers[::2], networks.layers[1::2]):
        layer.weight.data.copy_(weight[which].T)
        layer.bias.data.copy_(bias[which, 0])


def linears(*modules: torch.nn.Module) -> list[torch.nn.Linear]:
    return [part for module in modules for part in module.modules() if isinstance(part, torch.nn.Linear)]


@contextmanager
def given_noise(*noises: Tensor) -> Iterator[None]:
    """Whoever asks for normal noise, the lesson or torch's distributions, is given these, in turn."""
    left = list(noises)

    def next_noise(*_: Any, **__: Any) -> Tensor:
        return left.pop(0)

    with (
        mock.patch.object(torch, "randn_like", next_noise),
        mock.patch.object(torch.distributions.normal, "_standard_normal", next_noise),
    ):
        yield


def their_model(agent: lesson.Agent, batch: lesson.Batch, cfg: lesson.Config) -> Any:
    """The library's learner with the agent's weights, about to be given this minibatch."""
    from stable_baselines3 import SAC, TD3
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    stochastic = agent.recipe.stochastic
    network = {"net_arch": [cfg.hidden_size] * 2, "activation_fn": torch.nn.ReLU}
    common = {"gamma": cfg.gamma, "device": "cpu", "buffer_size": 10, "policy_kwargs": network}
    if stochastic:
        model = SAC("MlpPolicy", Spaces(), ent_coef="auto", **common)
        model.actor.action_dist.epsilon = 0.0  # it adds 1e-6 in the logarithm of (7), against log(0)
        copied(agent.actor, 0, linears(model.actor.latent_pi))
        *_, weight, bias = agent.actor.layers
        for head, columns in (
            (model.actor.mu, slice(NUM_ACTIONS)),
            (model.actor.log_std, slice(NUM_ACTIONS, None)),
        ):
            head.weight.data.copy_(weight[0].T[columns])
            head.bias.data.copy_(bias[0, 0, columns])
    else:
        noise = agent.recipe.target_noise
        model = TD3("MlpPolicy", Spaces(), policy_delay=1, target_policy_noise=noise, **common)
        copied(agent.actor, 0, linears(model.actor.mu))
        copied(agent.slow_actor, 0, linears(model.actor_target.mu))
    for networks, theirs in ((agent.critics, model.critic), (agent.slow_critics, model.critic_target)):
        for which, net in enumerate(theirs.q_networks):
            copied(networks, which, linears(net))
    column = lambda name: batch[name].float().unsqueeze(1)  # noqa: E731
    sample = ReplayBufferSamples(
        batch["obs"], batch["actions"], batch["next_obs"], column("terminated"), column("rewards")
    )
    model.replay_buffer.sample = lambda *_, **__: sample
    model.set_logger(Logger(None, []))
    return model


def their_gradients(model: Any) -> dict[str, list[Tensor]]:
    """What each optimiser is about to step along; none of them steps."""
    found: dict[str, list[Tensor]] = {}
    optimizers = {"critic": model.critic.optimizer, "actor": model.actor.optimizer}
    if hasattr(model, "ent_coef_optimizer"):
        optimizers["temperature"] = model.ent_coef_optimizer
    for name, optimizer in optimizers.items():

        def keep(name: str = name, optimizer: Any = optimizer) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            found[name] = [parameter.grad.clone() for parameter in parameters]

        optimizer.step = keep
    return found


def in_their_order(agent: lesson.Agent, gradients: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Our gradients, cut into the library's layers: its weights are transposed, each network apart."""

    def layers(of: list[Tensor], which: int) -> list[Tensor]:
        return [part for weight, bias in zip(of[::2], of[1::2]) for part in (weight[which].T, bias[which, 0])]

    critics = [
        part for which in range(agent.recipe.num_critics) for part in layers(gradients["critic"], which)
    ]
    actor = layers(gradients["actor"], 0)
    if agent.recipe.stochastic:
        *body, weight, bias = actor
        heads = [
            part[rows] for rows in (slice(NUM_ACTIONS), slice(NUM_ACTIONS, None)) for part in (weight, bias)
        ]
        return {"critic": critics, "actor": [*body, *heads], "temperature": gradients["temperature"]}
    return {"critic": critics, "actor": actor}


def our_losses(
    agent: lesson.Agent, batch: lesson.Batch, cfg: lesson.Config, noises: list[Tensor]
) -> tuple[dict[str, float], dict[str, list[Tensor]]]:
    """(losses, gradients) of one minibatch, by name; nothing steps."""
    losses, gradients = {}, {}
    with given_noise(*noises):
        loss = lesson.critic_loss(agent, batch, cfg.gamma)
        losses["critic"], gradients["critic"] = loss, agent.for_critics.parameters
        losses["actor"], log_prob = lesson.actor_loss(agent, batch)
        gradients["actor"] = agent.for_actor.parameters
    if agent.recipe.stochastic:
        losses["temperature"] = lesson.temperature_loss(agent.log_alpha, log_prob, agent.target_entropy)
        gradients["temperature"] = [agent.log_alpha]
    gradients = {name: list(torch.autograd.grad(losses[name], of)) for name, of in gradients.items()}
    return {name: loss.item() for name, loss in losses.items()}, gradients


def gaps(recipe: lesson.Recipe, cfg: lesson.Config) -> tuple[float, float]:
    """(largest gap of a loss, of a gradient) between the lesson and the library, relative."""
    agent, batch = an_agent(recipe, cfg)
    model = their_model(agent, batch, cfg)
    torch.manual_seed(cfg.seed)
    next_noise, noise = (torch.empty(BATCH, NUM_ACTIONS).normal_() for _ in range(2))
    losses, gradients = our_losses(agent, batch, cfg, [next_noise, noise])
    theirs = their_gradients(model)
    torch.manual_seed(cfg.seed)  # TD3's noise is drawn in place
    with given_noise(noise, next_noise):  # the library samples the actor's actions first
        model.train(gradient_steps=1, batch_size=BATCH)
    if recipe.stochastic:  # there the library's critics are paid half of the squares
        losses["critic"] /= 2
        gradients["critic"] = [gradient / 2 for gradient in gradients["critic"]]
    logged = {"critic": "critic_loss", "actor": "actor_loss", "temperature": "ent_coef_loss"}
    logged = {name: model.logger.name_to_value[f"train/{what}"] for name, what in logged.items()}
    ours = in_their_order(agent, gradients)
    loss_gap = max(abs(loss - logged[name]) / max(1.0, abs(loss)) for name, loss in losses.items())
    gradient_gap = 0.0
    for name, of in ours.items():
        largest = max(float(part.abs().max()) for part in theirs[name])
        gap = max(
            float((a.squeeze() - b.squeeze()).abs().max()) for a, b in zip(of, theirs[name], strict=True)
        )
        gradient_gap = max(gradient_gap, gap / largest)
    return loss_gap, gradient_gap


def claim_parity(cfg: lesson.Config, log: RunLog) -> None:
    for name, recipe in PARITY.items():
        for what, gap in zip(("loss", "gradient"), gaps(recipe, cfg)):
            log.claim(
                f"{name}_{what}_gap",
                f"{name.upper()}: each {what} equals Stable-Baselines3's on the same minibatch",
                gap,
                at_most=1e-5,
                unit="of the largest, of critics, actor and temperature",
                source="stable-baselines3, run in the same process",
                always=True,
            )


def race(num_env_steps: int, cfg: lesson.Config, log: RunLog) -> None:
    """Stable-Baselines3's SAC at rl-zoo's settings with the lesson's checks, until -200 is sustained."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    seed_everything(cfg.seed)
    model = SAC("MlpPolicy", "Pendulum-v1", seed=cfg.seed, device="cpu", **ZOO_SAC)
    clock = CpuClock()
    greedy = lambda obs: model.predict(obs, deterministic=True)[0]  # noqa: E731

    class Checks(BaseCallback):
        done = False

        def _on_rollout_start(self) -> None:  # that is, after each gradient step
            if (step := model.num_timesteps) and step % cfg.eval_every == 0:
                clock.__exit__()
                returns = lesson.score(greedy, cfg, 10_000)
                log.write(step, sb3_return=returns, sb3_cpu_seconds=clock.seconds)
                self.done = math.isfinite(crossing(log.metrics, "sb3", lesson.GOAL)[0])
                clock.__enter__()

        def _on_step(self) -> bool:
            return not self.done

    with clock:
        model.learn(num_env_steps, callback=Checks())
