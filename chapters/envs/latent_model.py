"""What E4 taught about recurrent latent models, in torch, for lessons that act in one: memory, codes, heads.

After each observation the model knows a *state*: its memory and a code of what was observed, end to end. The
observation alone determines the code, by the posterior; who imagines draws it from the prior instead. The
memory is a plain gated recurrent unit: E4 first weighs it by a product, which learns to filter sooner.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from chapters.utils.optim import Adam

Codes = Float[Tensor, "*B G C"]  # log-probabilities of a code, by groups
States = Float[Tensor, "B S"]  # memory and code, end to end


def mixed(logits: Float[Tensor, "*B C"], uniform: float) -> Float[Tensor, "*B C"]:
    """Log-probabilities of a softmax that has a share of the uniform distribution: nothing is impossible."""
    return ((1.0 - uniform) * logits.softmax(dim=-1) + uniform / logits.shape[-1]).log()


def drawn(log_probs: Codes) -> Float[Tensor, "*B Z"]:
    """A code, one-hot by groups; backward, the gradient of the probabilities (straight through, as in E4)."""
    gumbel = -(-torch.rand_like(log_probs).clamp(1e-7, 1 - 1e-6).log()).log()
    picked = F.one_hot((log_probs + gumbel).argmax(dim=-1), log_probs.shape[-1])
    probs = log_probs.exp()
    return (picked + probs - probs.detach()).flatten(-2)


def sampled(log_probs: Float[Tensor, "B A"]) -> Int[Tensor, " B"]:
    """A number drawn from each row's distribution."""
    return torch.multinomial(log_probs.exp(), 1).squeeze(1)


def code_kl(log_q: Codes, log_p: Codes) -> Float[Tensor, "*B"]:
    """KL(q || p) of whole codes: groups are independent, so theirs add up."""
    return (log_q.exp() * (log_q - log_p)).sum(dim=(-1, -2))


def pulls(posterior: Codes, prior: Codes, posterior_weight: float) -> Float[Tensor, "*B"]:
    """What draws the prior to the posterior, and, less, the posterior to the prior (KL balancing)."""
    return code_kl(posterior.detach(), prior) + posterior_weight * code_kl(posterior, prior.detach())


def layers(num_inputs: int, width: int, num_outputs: int, gain: float = 1.0) -> nn.Sequential:
    """One hidden layer; with gain 0 all outputs are 0 at first."""
    network = nn.Sequential(nn.Linear(num_inputs, width), nn.SiLU(), nn.Linear(width, num_outputs))
    nn.init.zeros_(network[-1].bias)
    network[-1].weight.data *= gain
    return network


class LatentModel(nn.Module):
    """Memory and codes, and heads that say what is seen, what was paid, and whether it goes on.

    cfg: a lesson's, with width, num_groups, num_classes and uniform. num_values: outputs of the reward's head
    `pays`; those of `draws` are logits of pixels, that of `ends` the logit of going on.
    """

    def __init__(self, num_obs: int, num_actions: int, num_values: int, cfg: Any) -> None:
        super().__init__()
        H, Z = cfg.width, cfg.num_groups * cfg.num_classes
        self.sizes, self.parts = (cfg.num_groups, cfg.num_classes), [H, Z]
        self.uniform, self.num_actions = cfg.uniform, num_actions
        self.encoder, self.foresight = layers(num_obs, H, Z), layers(H, H, Z)
        self.gru = nn.GRU(Z + num_actions, H)
        self.draws = layers(H + Z, H, num_obs)
        self.pays, self.ends = layers(H + Z, H, num_values, gain=0.0), layers(H + Z, H, 1)

    def posterior(self, obs: Float[Tensor, "*B D"]) -> Codes:
        """Log-probabilities of the code of what is observed."""
        return mixed(self.encoder(obs).unflatten(-1, self.sizes), self.uniform)

    def prior(self, memory: Float[Tensor, "*B H"]) -> Codes:
        """Log-probabilities of the code that the memory foresees."""
        return mixed(self.foresight(memory).unflatten(-1, self.sizes), self.uniform)

    def remember(self, states: States, actions: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """The memory after an action."""
        memory, code = states.split(self.parts, dim=1)
        told = torch.cat([code, F.one_hot(actions, self.num_actions)], dim=1)
        return self.gru(told.unsqueeze(0), memory.unsqueeze(0).contiguous())[0][0]

    def dreamt(self, states: States, actions: Int[Tensor, " B"]) -> States:
        """The state after an action if nothing is observed: the prior draws the code."""
        memory = self.remember(states, actions)
        return torch.cat([memory, drawn(self.prior(memory))], dim=1)

    def observe(
        self, obs: Float[Tensor, "T1 N D"], actions: Int[Tensor, "T N"]
    ) -> tuple[Float[Tensor, "T1 N S"], Codes, Codes]:
        """(states, posterior, prior) along episodes that begin with the first observation."""
        posterior = self.posterior(obs)
        code = drawn(posterior)
        told = torch.cat([code[:-1], F.one_hot(actions, self.num_actions)], dim=-1)
        memory, _ = self.gru(told)
        memory = torch.cat([torch.zeros_like(memory[:1]), memory])  # nothing was before the first
        return torch.cat([memory, code], dim=-1), posterior, self.prior(memory)


class Player:
    """Plays in the world, with a memory for each game. `policy` maps states to log-probabilities."""

    def __init__(self, model: LatentModel, policy: Callable, num_envs: int, greedy: bool = False) -> None:
        self.model, self.policy, self.greedy = model, policy, greedy
        self.memory = torch.zeros(num_envs, model.parts[0])

    @torch.no_grad()
    def know(self, obs: np.ndarray) -> States:
        """What is remembered, and the code of what is seen: a draw, or, if greedy, the likeliest."""
        posterior = self.model.posterior(torch.from_numpy(obs))
        likeliest = F.one_hot(posterior.argmax(dim=-1), posterior.shape[-1]).float().flatten(-2)
        return torch.cat([self.memory, likeliest if self.greedy else drawn(posterior)], dim=1)

    @torch.no_grad()
    def __call__(self, obs: np.ndarray, random: np.ndarray | None = None) -> Int[np.ndarray, " N"]:
        """Actions for observations [N, D]; `random` [N] says in which games they are drawn evenly."""
        states = self.know(obs)
        log_probs = self.policy(states)
        actions = log_probs.argmax(dim=1) if self.greedy else sampled(log_probs)
        if random is not None:
            evenly = torch.randint(log_probs.shape[1], actions.shape)
            actions = torch.where(torch.from_numpy(random), evenly, actions)
        self.memory = self.model.remember(states, actions)
        return actions.numpy()

    def forget(self, done: np.ndarray) -> None:
        """Games that are over leave no memory."""
        self.memory[torch.from_numpy(done)] = 0.0


class StateActor:
    """A model, an actor and a critic of its states, the critic's slow copy, and an optimiser for each.

    cfg: also with learning_rate, of actor and critic, and model_rate. `spread` is for a lesson's scale of
    returns, 1 at first.
    """

    def __init__(self, envs: VectorEnv, num_values: int, cfg: Any) -> None:
        self.cfg, self.spread = cfg, 1.0
        num_obs, num_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
        self.model = LatentModel(num_obs, num_actions, num_values, cfg)
        size = sum(self.model.parts)
        self.actor = layers(size, cfg.width, num_actions, gain=0.0)
        self.critic = layers(size, cfg.width, num_values, gain=0.0)
        self.slow_critic = copy.deepcopy(self.critic)
        self.for_model = Adam(self.model.parameters(), lr=cfg.model_rate)
        self.for_actor = Adam(self.actor.parameters(), lr=cfg.learning_rate)
        self.for_critic = Adam(self.critic.parameters(), lr=cfg.learning_rate)

    def policy(self, states: Float[Tensor, "*B S"]) -> Float[Tensor, "*B A"]:
        """Log-probabilities of actions."""
        return mixed(self.actor(states), self.cfg.uniform)

    def descend_model(self, loss: Tensor) -> None:
        """One step of the model's optimiser; its gradient is no longer than 10."""
        self.for_model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.for_model.step()
