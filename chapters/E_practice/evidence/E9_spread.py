"""Three agents that are to cover three landmarks (lowe2017maddpg): PPO with either critic, and oracles.

All three share one policy, which sees what its agent sees. The critic sees the same, or all three agents'
observations, the agent's own first. Whole episodes are collected; a time limit keeps the bootstrap.
"""

from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from chapters.envs.spread import MAX_STEPS, NUM_ACTIONS, NUM_AGENTS, OBS_DIM, OTHERS, Obs, Spread, towards

REWARD_SCALE, GAMMA, GAE_LAMBDA, CLIP_EPS, ENT_COEF = 0.1, 0.95, 0.95, 0.2, 0.01
NUM_EPOCHS, NUM_MINIBATCHES, LEARNING_RATE = 4, 4, 2e-3
ORDERS = np.array(list(permutations(range(NUM_AGENTS))))


def seen_by_critic(obs: Obs, central: bool) -> Float[np.ndarray, "N 3 C"]:
    """What a critic sees of each agent: its own observation, and a central one then those of the others."""
    if not central:
        return obs
    others = obs[:, OTHERS].reshape(len(obs), NUM_AGENTS, -1)
    return np.concatenate([obs, others], axis=2)


def collect(actor, spread: Spread, rng: np.random.Generator, central: bool) -> dict:
    """One episode of each world, as [T, N, 3, ...]."""
    rows = []
    obs = spread.reset()
    for _ in range(MAX_STEPS):
        logits = actor(obs.astype(np.float32))
        actions = (logits + rng.gumbel(size=logits.shape)).argmax(axis=2)
        next_obs, rewards, terminated, truncated = spread.step(actions)
        sees, will_see = (seen_by_critic(one, central) for one in (obs, next_obs))
        rows.append((obs, actions, sees, will_see, REWARD_SCALE * rewards, terminated, truncated))
        obs = next_obs
    names = ("obs", "actions", "sees", "will_see", "rewards", "terminated", "truncated")
    return {name: np.stack(column) for name, column in zip(names, zip(*rows))}


def advantages_of(batch: dict, critic) -> tuple:
    """(advantages, returns) of each step and agent, [T, N, 3]."""
    import torch

    from chapters.envs.on_policy import gae

    with torch.no_grad():
        values, next_values = (critic(batch[name]).squeeze(-1) for name in ("sees", "will_see"))
    ends = (batch[name][:, :, None].expand_as(values) for name in ("terminated", "truncated"))
    advantages = gae(batch["rewards"], values, next_values, *ends, GAMMA, GAE_LAMBDA)
    return advantages, advantages + values


def update(policy, critic, optimizer, batch: dict, generator) -> None:
    """PPO (C3) on the steps of all agents together."""
    import torch

    from chapters.envs.on_policy import normalise
    from chapters.text.ppo import clipped_surrogate

    advantages, returns = (part.flatten() for part in advantages_of(batch, critic))
    obs, sees = batch["obs"].flatten(0, 2), batch["sees"].flatten(0, 2)
    actions = batch["actions"].flatten()[:, None]
    with torch.no_grad():
        old = policy(obs).log_softmax(-1).gather(1, actions).squeeze(1)
    for _ in range(NUM_EPOCHS):
        for rows in torch.randperm(len(obs), generator=generator).chunk(NUM_MINIBATCHES):
            log_probs = policy(obs[rows]).log_softmax(-1)
            ratio = (log_probs.gather(1, actions[rows]).squeeze(1) - old[rows]).exp()
            gain = clipped_surrogate(ratio, normalise(advantages[rows]), CLIP_EPS).mean()
            entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
            error = (critic(sees[rows]).squeeze(-1) - returns[rows]).square().mean()
            optimizer.zero_grad()
            (0.5 * error - gain - ENT_COEF * entropy).backward()
            optimizer.step()


def train(central: bool, num_updates: int, num_worlds: int, seed: int) -> tuple:
    """(the policy as a NumPy function, mean return of an agent in each update's episodes)."""
    import torch

    from chapters.utils.networks import in_numpy, tanh_mlp
    from chapters.utils.optim import Adam

    torch.manual_seed(seed)
    rng, generator = np.random.default_rng((seed, 5)), torch.Generator().manual_seed(seed)
    policy = tanh_mlp([OBS_DIM, 64, 64, NUM_ACTIONS], 0.01)
    critic = tanh_mlp([OBS_DIM * (NUM_AGENTS if central else 1), 64, 64, 1], 1.0)
    optimizer = Adam([*policy.parameters(), *critic.parameters()], LEARNING_RATE)
    spread, returns = Spread(num_worlds, seed), []
    actor = in_numpy(policy)
    for done in range(num_updates):
        optimizer.lr = LEARNING_RATE * (1 - done / num_updates)
        arrays = collect(actor, spread, rng, central)
        returns.append(arrays["rewards"].sum(axis=0).mean() / REWARD_SCALE)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch = {name: one.float() if one.is_floating_point() else one for name, one in tensors.items()}
        update(policy, critic, optimizer, batch, generator)
    return actor, returns


def sampled(actor, rng: np.random.Generator):
    """Plays a policy's logits as it was trained: actions drawn from their softmax."""

    def act(spread: Spread) -> Int[np.ndarray, "N 3"]:
        logits = actor(spread.observe().astype(np.float32))
        return (logits + rng.gumbel(size=logits.shape)).argmax(axis=2)

    return act


# Without learning


def at_random(rng: np.random.Generator):
    """Any action, evenly."""
    return lambda spread: rng.integers(NUM_ACTIONS, size=(spread.num_envs, NUM_AGENTS))


def to_nearest(spread: Spread) -> Int[np.ndarray, "N 3"]:
    """Each agent to the landmark that is nearest to it, whoever else goes there."""
    nearest = distances(spread).argmin(axis=2)
    return towards(spread, np.take_along_axis(spread.landmarks, nearest[..., None], 1))


def distances(spread: Spread) -> Float[np.ndarray, "N 3 3"]:
    """From each agent to each landmark."""
    return np.linalg.norm(spread.landmarks[:, None] - spread.positions[:, :, None], axis=-1)


def assigned():
    """Each agent to a landmark of its own, with the least way in all, settled at the first step."""
    targets = []

    def act(spread: Spread) -> Int[np.ndarray, "N 3"]:
        if spread.elapsed == 0:
            apart = distances(spread)
            ways = np.stack(
                [apart[:, np.arange(NUM_AGENTS), order].sum(axis=1) for order in ORDERS]
            )  # [6, N]
            order = ORDERS[ways.argmin(axis=0)]
            targets[:] = [np.take_along_axis(spread.landmarks, order[..., None], 1)]
        return towards(spread, targets[0])

    return act


def mean_return(act, num_worlds: int, seed: int) -> float:
    """What an agent earns an episode, on average over so many worlds, the same ones for the same seed."""
    spread = Spread(num_worlds, seed)
    spread.reset()
    total = 0.0
    for _ in range(MAX_STEPS):
        total += spread.step(act(spread))[1].mean()
    return total
