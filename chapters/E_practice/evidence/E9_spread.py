"""Three agents that are to cover three landmarks (lowe2017maddpg): PPO with either critic, oracles, a film.

All three share one policy, which sees what its agent sees. The critic sees the same (IPPO), or all three
agents' observations, the agent's own first (MAPPO, yu2022mappo). Whole episodes are collected; a time limit
keeps the bootstrap.

The world lists landmarks and agents by numbers that mean nothing: a network would have to learn each thing
for 12 orders of the same view. So it is shown them nearest first, and the evidence tells what that is worth.
"""

from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from chapters.envs.spread import (
    DIAMETER,
    MAX_STEPS,
    NUM_ACTIONS,
    NUM_AGENTS,
    OBS_DIM,
    OTHERS,
    Obs,
    Spread,
    towards,
)
from chapters.utils import plotting

REWARD_SCALE, GAMMA, GAE_LAMBDA, CLIP_EPS, ENT_COEF = 0.3, 0.9, 0.9, 0.2, 0.005
NUM_EPOCHS, NUM_MINIBATCHES, LEARNING_RATE = 4, 8, 2e-3
ORDERS = np.array(list(permutations(range(NUM_AGENTS))))
SHOWN_DIM = OBS_DIM - 4
Shown = Float[np.ndarray, "N 3 14"]


def shown(obs: Obs, by_number: bool = False) -> Shown:
    """What a network is shown: landmarks and others nearest first, or by number; no zeros for words."""
    parts = [obs[..., :4]]  # own velocity and position
    for list_of in (obs[..., 4:10], obs[..., 10:14]):
        places = list_of.reshape(*obs.shape[:2], -1, 2)
        order = (places**2).sum(axis=-1).argsort(axis=-1)
        nearest_first = np.take_along_axis(places, order[..., None], axis=2)
        parts.append((places if by_number else nearest_first).reshape(list_of.shape))
    return np.concatenate(parts, axis=2).astype(np.float32)


def seen_by_critic(view: Shown, central: bool) -> Float[np.ndarray, "N 3 C"]:
    """What a critic sees of each agent: what it is shown, and a central one then what the others are."""
    if not central:
        return view
    others = view[:, OTHERS].reshape(len(view), NUM_AGENTS, -1)
    return np.concatenate([view, others], axis=2)


def collect(actor, spread: Spread, rng: np.random.Generator, central: bool, by_number: bool = False) -> dict:
    """One episode of each world, as [T, N, 3, ...]."""
    rows = []
    obs = shown(spread.reset(), by_number)
    for _ in range(MAX_STEPS):
        logits = actor(obs)
        actions = (logits + rng.gumbel(size=logits.shape)).argmax(axis=2)
        after, rewards, terminated, truncated = spread.step(actions)
        next_obs = shown(after, by_number)
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


def update(policy, critic, optimizer, batch: dict, ent_coef: float, generator) -> None:
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
            (0.5 * error - gain - ent_coef * entropy).backward()
            optimizer.step()


def train(central: bool, num_updates: int, num_worlds: int, seed: int, by_number: bool = False) -> tuple:
    """(the policy's logits as a NumPy function, mean return of an agent in each update's episodes)."""
    import torch

    from chapters.utils.networks import in_numpy, tanh_mlp
    from chapters.utils.optim import Adam

    torch.manual_seed(seed)
    rng, generator = np.random.default_rng((seed, 5)), torch.Generator().manual_seed(seed)
    policy = tanh_mlp([SHOWN_DIM, 64, 64, NUM_ACTIONS], 0.01)
    critic = tanh_mlp([SHOWN_DIM * (NUM_AGENTS if central else 1), 64, 64, 1], 1.0)
    optimizer = Adam([*policy.parameters(), *critic.parameters()], LEARNING_RATE)
    spread, returns = Spread(num_worlds, seed), []
    actor = in_numpy(policy)
    for done in range(num_updates):
        left = 1 - done / num_updates
        optimizer.lr = LEARNING_RATE * left
        arrays = collect(actor, spread, rng, central, by_number)
        returns.append(arrays["rewards"].sum(axis=0).mean() / REWARD_SCALE)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch = {name: one.float() if one.is_floating_point() else one for name, one in tensors.items()}
        update(policy, critic, optimizer, batch, ENT_COEF * left, generator)
    return actor, returns


def sampled(actor, rng: np.random.Generator, by_number: bool = False):
    """Plays a policy's logits as it was trained: actions drawn from their softmax."""

    def act(spread: Spread) -> Int[np.ndarray, "N 3"]:
        logits = actor(shown(spread.observe(), by_number))
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


# A film


def film_frames(acts: dict, seed: int, num_episodes: int = 3) -> list[np.ndarray]:
    """Episodes one after the other, a frame a step: the same worlds, a panel for each way to act."""
    films = []
    for name, act in acts.items():
        spread = Spread(num_episodes, seed)
        spread.reset()
        earned = np.zeros(num_episodes)
        frames = [[] for _ in range(num_episodes)]  # of each episode
        for step in range(MAX_STEPS + 1):
            for episode, film in enumerate(frames):
                film.append(draw_world(spread, episode, f"{name}: reward {earned[episode]:.1f}"))
            if step < MAX_STEPS:
                earned += spread.step(act(spread))[1].mean(axis=1)
        films.append([frame for film in frames for frame in [*film, *film[-1:] * 8]])  # a second to look
    return [np.concatenate(panels, axis=1) for panels in zip(*films)]


def draw_world(spread: Spread, which: int, title: str) -> np.ndarray:
    """One world from above: agents as large as they are, landmarks as crosses."""
    from PIL import Image, ImageDraw

    size, top, reach = 300, 44, 1.35  # pixels; how far from the middle one sees
    picture = Image.new("RGB", (size, size + top), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle([2, top, size - 3, size + top - 3], outline="#BBBBBB", width=2)
    pixels = size / (2 * reach)  # of a unit of length
    middle, up = np.array([size / 2, top + size / 2]), np.array([1, -1])
    radius = pixels * DIAMETER / 2
    for place, ink in zip(spread.positions[which], (plotting.BLUE, plotting.ORANGE, plotting.GREEN)):
        x, y = middle + pixels * up * place
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink)
    for place in spread.landmarks[which]:
        x, y = middle + pixels * up * place
        for tilt in (-9, 9):
            pen.line([x - 9, y - tilt, x + 9, y + tilt], fill="black", width=5)
    pen.rectangle([0, 0, size, top - 1], fill="white")  # who left the picture is not seen over the text
    pen.text((8, 10), title, fill="black", font_size=24)
    return np.asarray(picture)
