"""The two CartPole examples of the documents that this course grew from, as they were written.

Added: a seed, and the checks. Changed: in the PPO example the stored log-probabilities are detached; without
that it stops at its second gradient step ("trying to backward through the graph a second time"). Everything
else is kept, its faults included: lessons B4 and C3 say what they are.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions import Categorical

from benchmarks.worker import Recorder
from chapters.utils import seed_everything


def greedy(network: nn.Module):
    """Observations [N, 4] to the actions with the largest output [N]."""

    def act(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = network(torch.from_numpy(obs))
        return (out[0] if isinstance(out, tuple) else out).argmax(dim=-1).numpy()

    return act


def seeded_env(seed: int) -> tuple[gym.Env, np.ndarray]:
    """(CartPole, first observation), everything seeded."""
    seed_everything(seed)
    env = gym.make("CartPole-v1")
    state, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    return env, state


# Example 2


class ReplayBuffer:
    def __init__(self, capacity: int) -> None:
        self.buffer = deque(maxlen=capacity)

    def push(self, *transition: Any) -> None:
        self.buffer.append(transition)

    def sample(self, batch_size: int) -> tuple:
        states, actions, rewards, next_states, dones = zip(*random.sample(self.buffer, batch_size))
        arrays = (np.array(x) for x in (states, actions, rewards, next_states, dones))
        kinds = (torch.FloatTensor, torch.LongTensor, torch.FloatTensor, torch.FloatTensor, torch.FloatTensor)
        return tuple(kind(array) for kind, array in zip(kinds, arrays))

    def __len__(self) -> int:
        return len(self.buffer)


def dqn_update(q_network, target_network, optimizer, batch: tuple, gamma: float = 0.99) -> None:
    states, actions, rewards, next_states, dones = batch
    q_values = q_network(states).gather(1, actions.unsqueeze(1))
    with torch.no_grad():
        next_q_values = target_network(next_states).max(1)[0]
        target_q = rewards + gamma * next_q_values * (1 - dones)
    loss = nn.MSELoss()(q_values.squeeze(), target_q)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def dqn(job: dict[str, Any], record: Recorder) -> int:
    """Example 2, until 500 episodes or `num_env_steps` are over."""
    env, state = seeded_env(job["seed"])

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))

    q_network, target_network = network(), network()
    target_network.load_state_dict(q_network.state_dict())
    optimizer, buffer = optim.Adam(q_network.parameters(), lr=1e-3), ReplayBuffer(10_000)
    epsilon, epsilon_decay, epsilon_min, batch_size, step = 1.0, 0.995, 0.01, 64, 0
    with record.learning():
        for episode in range(500):
            done = False
            while not done:
                if random.random() < epsilon:
                    action = env.action_space.sample()
                else:
                    with torch.no_grad():
                        action = q_network(torch.FloatTensor(state)).argmax().item()
                next_state, reward, terminated, truncated, _ = env.step(action)
                done = terminated or truncated
                buffer.push(state, action, reward, next_state, done)
                state, step = next_state, step + 1
                if len(buffer) >= batch_size:
                    dqn_update(q_network, target_network, optimizer, buffer.sample(batch_size))
                record.offer(step, greedy(q_network))
            if step >= job["num_env_steps"]:
                break
            state, _ = env.reset()
            if episode % 10 == 0:
                target_network.load_state_dict(q_network.state_dict())
            epsilon = max(epsilon_min, epsilon * epsilon_decay)
    return step


# Example 3


class ActorCritic(nn.Module):
    def __init__(self, state_dim: int, action_dim: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(state_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor = nn.Linear(64, action_dim)
        self.critic = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.shared(x)
        return self.actor(features), self.critic(features)

    def get_action(self, state: torch.Tensor) -> tuple:
        logits, value = self.forward(state)
        dist = Categorical(logits=logits)
        action = dist.sample()
        return action, dist.log_prob(action).detach(), value  # .detach() is the fix


def compute_gae(rewards, values, dones, next_value, gamma=0.99, gae_lambda=0.95) -> torch.Tensor:
    advantages, gae = [], 0
    for t in reversed(range(len(rewards))):
        next_val = next_value if t == len(rewards) - 1 else values[t + 1]
        delta = rewards[t] + gamma * next_val * (1 - dones[t]) - values[t]
        gae = delta + gamma * gae_lambda * (1 - dones[t]) * gae
        advantages.insert(0, gae)
    return torch.tensor(advantages)


def ppo_update(model, optimizer, states, actions, old_log_probs, returns, advantages, clip_ratio=0.2) -> None:
    states, actions = torch.FloatTensor(np.array(states)), torch.LongTensor(actions)
    old_log_probs = torch.stack(old_log_probs)
    for _ in range(10):
        logits, values = model(states)
        dist = Categorical(logits=logits)
        ratio = (dist.log_prob(actions) - old_log_probs).exp()
        clipped_ratio = torch.clamp(ratio, 1 - clip_ratio, 1 + clip_ratio)
        actor_loss = -torch.min(ratio * advantages, clipped_ratio * advantages).mean()
        critic_loss = nn.MSELoss()(values.squeeze(), returns)
        loss = actor_loss + 0.5 * critic_loss + 0.01 * -dist.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def ppo(job: dict[str, Any], record: Recorder) -> int:
    """Example 3, until 500 episodes or `num_env_steps` are over."""
    env, state = seeded_env(job["seed"])
    model = ActorCritic(4, 2)
    optimizer, step = optim.Adam(model.parameters(), lr=3e-4), 0
    with record.learning():
        for _ in range(500):
            states, actions, rewards, log_probs, values, dones = [], [], [], [], [], []
            done = False
            while not done:
                action, log_prob, value = model.get_action(torch.FloatTensor(state))
                next_state, reward, terminated, truncated, _ = env.step(action.item())
                done = terminated or truncated
                states.append(state)
                actions.append(action.item())
                rewards.append(reward)
                log_probs.append(log_prob)
                values.append(value.item())
                dones.append(done)
                state = next_state
            with torch.no_grad():
                _, next_value = model(torch.FloatTensor(state))
            advantages = compute_gae(rewards, values, dones, next_value.item())
            returns = advantages + torch.tensor(values)
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            ppo_update(model, optimizer, states, actions, log_probs, returns, advantages)
            step += len(rewards)
            record.offer(step, greedy(model))
            if step >= job["num_env_steps"]:
                break
            state, _ = env.reset()
    return step
