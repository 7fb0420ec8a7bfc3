"""What C6 taught about soft actor-critic (SAC), for lessons that give it other data to learn from."""

from __future__ import annotations

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chapters.envs.agents import centre_of, units_of
from chapters.envs.ensembles import Ensemble
from chapters.envs.replay import move_average
from chapters.utils.optim import Adam

Numbers = Float[Tensor, " B"]  # one for each transition
Actions = Float[Tensor, "B A"]


# same-as: C6.squash
def squash(raw: Float[Tensor, "*B A"], limit: Float[Tensor, " A"]) -> Float[Tensor, "*B A"]:
    """Any number to one within the limits."""
    return limit * torch.tanh(raw / limit)


# same-as: C6.soft_value
def soft_value(q: Float[Tensor, "C B"], log_prob: Numbers, alpha: float | Tensor) -> Numbers:
    """The smallest critic's value of an action, and its rarity weighted by the temperature."""
    return q.amin(dim=0) - alpha * log_prob


# same-as: C6.squashed_log_prob
def squashed_log_prob(raw: Actions, mean: Actions, log_std: Actions, limit: Float[Tensor, " A"]) -> Numbers:
    """Log-density of `squash(raw, limit)` if `raw` is normal (haarnoja2018sac, appendix C)."""
    normal = -0.5 * ((raw - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    x = raw / limit
    packed = 2.0 * (math.log(2.0) - x - nn.functional.softplus(-2.0 * x))  # log(1 - tanh(x)^2), never log(0)
    return (normal - packed).sum(dim=-1)


# same-as: C6.temperature_loss
def temperature_loss(log_alpha: Tensor, log_prob: Numbers, target_entropy: float) -> Tensor:
    """Lowered, it moves the policy's entropy towards the target."""
    return -log_alpha * (log_prob + target_entropy).detach().mean()


class SoftActor:
    """C6's SAC without its memory: the networks, their slow copies, the temperature.

    Observations are counted in units of their bounds and actions from the middle of their range, as in C6:
    `obs_unit` [D], `centre` [A], `limit` [A]. cfg: a lesson's, with hidden_size and learning_rate.
    """

    def __init__(self, envs: gym.vector.VectorEnv, cfg: Any) -> None:
        self.obs_unit = units_of(envs.single_observation_space)
        self.centre, half_width = centre_of(envs.single_action_space)
        self.limit = torch.from_numpy(half_width)
        num_obs, num_actions, hidden = len(self.obs_unit), len(self.limit), [cfg.hidden_size] * 2
        self.actor = Ensemble(1, [num_obs, *hidden, 2 * num_actions])
        self.critics = Ensemble(2, [num_obs + num_actions, *hidden, 1])
        self.slow_critics = copy.deepcopy(self.critics)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.target_entropy = float(self.limit.log().sum()) - num_actions
        self.for_actor = Adam(self.actor.parameters(), lr=cfg.learning_rate)
        self.for_critics = Adam(self.critics.parameters(), lr=cfg.learning_rate)
        self.for_alpha = Adam([self.log_alpha], lr=cfg.learning_rate)

    def act(self, obs: Float[Tensor, "B D"]) -> tuple[Actions, Numbers]:
        """(a sample of the policy's actions, their log-probabilities)."""
        mean, log_std = self.actor(obs)[0].chunk(2, dim=-1)
        log_std = log_std.clamp(-20.0, 2.0)
        raw = mean + log_std.exp() * torch.randn_like(mean)
        return squash(raw, self.limit), squashed_log_prob(raw, mean, log_std, self.limit)

    def q(self, critics: Ensemble, obs: Float[Tensor, "B D"], actions: Actions) -> Float[Tensor, "C B"]:
        """Each critic's value of each action."""
        return critics(torch.cat([obs, actions], dim=-1)).squeeze(-1)

    @torch.inference_mode()
    def greedy(self, obs: np.ndarray) -> np.ndarray:
        """The action without any noise, as the environment takes it."""
        outputs = self.actor(torch.from_numpy(obs / self.obs_unit).float())[0]
        return squash(outputs[:, : len(self.limit)], self.limit).numpy() + self.centre

    def critic_loss(self, batch: dict[str, Tensor], gamma: float) -> Tensor:
        """The squared error of both critics against the one target; only `terminated` ends the future."""
        with torch.no_grad():
            actions, log_prob = self.act(batch["next_obs"])
            next_q = self.q(self.slow_critics, batch["next_obs"], actions)  # [2, B]
            next_values = soft_value(next_q, log_prob, self.log_alpha.exp())
            targets = batch["rewards"] + gamma * ~batch["terminated"] * next_values
        q = self.q(self.critics, batch["obs"], batch["actions"])  # [2, B]
        return (q - targets).pow(2).mean(dim=1).sum()

    def actor_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Numbers]:
        """(minus the value of the actor's own actions, their log-probabilities)."""
        actions, log_prob = self.act(batch["obs"])
        q = self.q(self.critics, batch["obs"], actions)
        return -soft_value(q, log_prob, self.log_alpha.detach().exp()).mean(), log_prob

    def update(self, batch: dict[str, Tensor], gamma: float, target_rate: float) -> None:
        """One gradient step of critics, actor and temperature, and the slow copies follow: C6's `update`.

        batch: obs [B, D], actions [B, A], rewards [B], next_obs [B, D], terminated [B].
        """
        descend(self.critic_loss(batch, gamma), self.for_critics)
        loss, log_prob = self.actor_loss(batch)
        descend(loss, self.for_actor)
        descend(temperature_loss(self.log_alpha, log_prob, self.target_entropy), self.for_alpha)
        move_average(self.slow_critics, self.critics, target_rate)


def descend(loss: Tensor, optimizer: Adam) -> None:
    """One step of the optimiser's own weights; all others stand still."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
