"""What C1 and C3 taught about learning from one's own policy's steps, for the lessons after them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor

from chapters.envs.agents import ActorCritic
from chapters.envs.vector import true_next_obs
from chapters.utils.networks import in_numpy

Grid = Float[Tensor, "T N"]  # a number for each step and environment
Flags = Bool[Tensor, "T N"]
Vector = Float[Tensor, "*B"]  # a number for each transition
Batch = dict[str, Tensor]


# same-as: C3.gae
def gae(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Grid:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also at an end (schulman2016gae)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    goes_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * goes_on[t]
        advantages[t] = running
    return advantages


# same-as: C3.approx_kl
def approx_kl(ratio: Float[Tensor, "*B"]) -> Float[Tensor, ""]:
    """How far a policy has moved since the samples were drawn, from their probability ratios."""
    return ((ratio - 1.0) - ratio.log()).mean()


# same-as: C3.normalise
def normalise(advantages: Vector) -> Vector:
    """Mean 0 and standard deviation 1 over all of them; equal ones give 0."""
    differ = advantages.max() > advantages.min()  # else rounding would be divided by rounding
    return differ * (advantages - advantages.mean()) / (advantages.std() + 1e-8)


# same-as: C3.collect
def collect(
    agent: ActorCritic, envs: VectorEnv, obs: np.ndarray, rng: np.random.Generator, cfg: Any
) -> tuple[Batch, np.ndarray]:
    """`num_steps` steps in each environment: ({name: [T, N, ...]}, the observations to act on next).

    cfg: a lesson's, with num_steps and reward_scale.
    """
    names = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated")
    rows = []
    actor = in_numpy(agent.actor)
    for _ in range(cfg.num_steps):
        seen = obs / agent.obs_unit  # [N, D]: numbers up to about 1
        actions = agent.head.sample(actor(seen), rng)
        obs, rewards, terminated, truncated, infos = envs.step(agent.head.applied(actions))
        next_obs = true_next_obs(obs, terminated | truncated, infos) / agent.obs_unit
        rewards = cfg.reward_scale * rewards.astype(np.float32)
        rows.append((seen, actions, rewards, next_obs, terminated, truncated))
    return {name: torch.from_numpy(np.stack(column)) for name, column in zip(names, zip(*rows))}, obs


# same-as: C3.prepare
@torch.no_grad()
def prepare(agent: ActorCritic, rollout: Batch, cfg: Any) -> Batch:
    """What is learned from, one row a transition, by the weights that acted; all of it constant.

    cfg: a lesson's, with gamma and gae_lambda.
    """
    values = agent.value(rollout["obs"])  # [T, N]
    next_values = agent.value(rollout["next_obs"])
    ends = rollout["terminated"], rollout["truncated"]
    advantages = gae(rollout["rewards"], values, next_values, *ends, cfg.gamma, cfg.gae_lambda)
    batch = {name: rollout[name].flatten(0, 1) for name in ("obs", "actions")}  # [T * N, ...]
    batch["old_log_probs"] = agent.judge(batch["obs"], batch["actions"])[0]
    batch["advantages"] = advantages.flatten()
    batch["returns"] = (advantages + values).flatten()  # the critic's target
    return batch
