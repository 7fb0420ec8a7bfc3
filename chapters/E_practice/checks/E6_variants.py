"""Right answers to E6's exercises in other idioms: the grader must pass each."""

import torch

UNNAMED: dict[str, str] = {}


def targets_of__hstack(obs, rewards, next_obs):
    return torch.hstack((next_obs.sub(obs), rewards[:, None]))


def targets_of__filled(obs, rewards, next_obs):
    batch, size = obs.shape
    columns = [(next_obs[:, d] - obs[:, d]) for d in range(size)]
    return torch.stack([*columns, rewards], dim=-1).reshape(batch, size + 1)


def weighted_error__einsum(outputs, targets, counts):
    errors = ((outputs - targets.unsqueeze(0)) ** 2).mean(-1)
    return torch.einsum("bc,cb->", counts, errors) / len(targets)


def weighted_error__members(outputs, targets, counts):
    loss = 0.0
    for c, said in enumerate(outputs):
        loss = loss + (counts[:, c, None] * (said - targets).square()).mean()
    return loss


def successors__split(outputs, obs):
    changes, rewards = outputs.split([obs.shape[1], 1], dim=-1)
    return changes + obs.unsqueeze(0), rewards.squeeze(-1)


def successors__sliced(outputs, obs):
    size = obs.shape[-1]
    return obs[None] + outputs[:, :, :size], outputs[:, :, size]


def disagreement__variance(next_obs):
    return next_obs.var(dim=0, correction=0).sum(dim=-1).sqrt()


def disagreement__norms(next_obs):
    apart = next_obs - next_obs.mean(0, keepdim=True)
    return (torch.linalg.vector_norm(apart, dim=-1) ** 2).mean(0) ** 0.5


def value_bound__sum(model_error, length, max_reward, gamma):
    total = 0.0
    for i in range(length):
        total += gamma ** (i + 1) * model_error * max_reward / (1 - gamma)
    return total


def value_bound__recursion(model_error, length, max_reward, gamma):
    bound = 0.0
    for _ in range(length):
        bound = gamma * model_error * max_reward / (1 - gamma) + gamma * bound
    return bound


def stray_bound__recursion(step_error, length, stretch):
    bound = 0.0
    for _ in range(length):
        bound = stretch * bound + step_error
    return bound


def stray_bound__geometric(step_error, length, stretch):
    if stretch == 1:
        return step_error * length
    return step_error * (stretch**length - 1) / (stretch - 1)


def branch__columns(imagine, act, starts, length, ends=lambda obs: torch.zeros(len(obs), dtype=torch.bool)):
    columns = {name: [] for name in ("obs", "actions", "rewards", "next_obs", "terminated")}
    obs = starts
    while length > 0:
        actions = act(obs)
        next_obs, rewards = imagine(obs, actions)
        ended = ends(next_obs)
        for name, value in zip(columns, (obs, actions, rewards, next_obs, ended)):
            columns[name].append(value)
        obs = next_obs[torch.nonzero(~ended).squeeze(1)]
        length -= 1
    return {name: torch.cat(values, dim=0) for name, values in columns.items()}


def trusted__largest(disagreements, limit):
    return disagreements.cummax(dim=0).values <= limit


def trusted__loop(disagreements, limit):
    found = torch.zeros_like(disagreements, dtype=torch.bool)
    still = torch.ones(disagreements.shape[1], dtype=torch.bool)
    for t, row in enumerate(disagreements):
        still = still & (row <= limit)
        found[t] = still
    return found
