"""Right answers to C0's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch

from chapters.C_policy_gradients.C0_policy_gradients_reinforce import leave_one_out, rewards_to_go


def score__where(probs, actions):
    taken = np.arange(probs.shape[-1]) == actions[..., None]
    return np.where(taken, 1 - probs, -probs)


def score__add_one(probs, actions):
    found = -probs
    taken = actions[..., None]
    np.put_along_axis(found, taken, 1 + np.take_along_axis(found, taken, axis=-1), axis=-1)
    return found


def score__autograd(probs, actions):
    logits = torch.tensor(np.log(probs), requires_grad=True)
    log_probs = torch.log_softmax(logits, dim=-1)
    log_probs.gather(-1, torch.from_numpy(actions).unsqueeze(-1)).sum().backward()
    return logits.grad.numpy()


def rewards_to_go__append(rewards, gamma):
    found = [rewards[-1]]
    for reward in rewards[-2::-1]:
        found.append(reward + gamma * found[-1])
    return np.stack(found[::-1])


def rewards_to_go__copy(rewards, gamma):
    returns = rewards.astype(float)
    for t in range(len(returns) - 2, -1, -1):
        returns[t] += gamma * returns[t + 1]
    return returns


def rewards_to_go__powers(rewards, gamma):
    num_steps = len(rewards)
    later = np.arange(num_steps) - np.arange(num_steps)[:, None]
    powers = np.triu(float(gamma) ** np.maximum(later, 0))
    return np.tensordot(powers, rewards, axes=1)


def rewards_to_go__forward(rewards, gamma):
    returns = np.empty_like(rewards)
    for t in range(len(rewards)):
        discounts = gamma ** np.arange(len(rewards) - t)
        returns[t] = np.einsum("k,k...->...", discounts, rewards[t:])
    return returns


def leave_one_out__delete(returns):
    num_episodes = returns.shape[1]
    means = [np.delete(returns, i, axis=1).mean(axis=1) for i in range(num_episodes)]
    return np.stack(means, axis=1)


def leave_one_out__matrix(returns):
    num_episodes = returns.shape[1]
    others = 1 - np.eye(num_episodes)
    return np.einsum("ij,tj...->ti...", others / (num_episodes - 1), returns)


def leave_one_out__from_the_mean(returns):
    n = returns.shape[1]
    return (n * returns.mean(axis=1, keepdims=True) - returns) / (n - 1)


def leave_one_out__loop(returns):
    baseline = np.zeros_like(returns)
    episodes = range(returns.shape[1])
    for i in episodes:
        for j in episodes:
            if j != i:
                baseline[:, i] += returns[:, j]
    return baseline / (len(episodes) - 1)


def policy_loss__dot(log_probs, weights, num_episodes):
    return -torch.dot(weights.detach(), log_probs) / num_episodes


def policy_loss__mean(log_probs, weights, num_episodes):
    with torch.no_grad():
        psi = weights * len(weights) / num_episodes
    return torch.mean(-log_probs * psi)


def policy_loss__loop(log_probs, weights, num_episodes):
    total = 0.0
    for log_prob, weight in zip(log_probs, weights.tolist()):
        total = total - log_prob * weight
    return total / num_episodes


def three_weights__loop(rewards, gamma):
    G = rewards_to_go(rewards, gamma)
    better = G - leave_one_out(G)
    found = {"total_return": np.zeros_like(G), "reward_to_go": G.copy(), "leave_one_out": better}
    for t in range(len(G)):
        found["total_return"][t] = G[0]
        found["reward_to_go"][t] *= gamma**t
        found["leave_one_out"][t] *= gamma**t
    return found


def three_weights__discounted_first(rewards, gamma):
    num_steps, num_episodes, _ = rewards.shape
    discounted = np.power(gamma, np.arange(num_steps)).reshape(-1, 1, 1) * rewards
    total = discounted.sum(axis=0, keepdims=True)
    past = np.cumsum(discounted, axis=0) - discounted
    to_go = total - past
    others = (to_go.sum(axis=1, keepdims=True) - to_go) / (num_episodes - 1)
    return dict(
        leave_one_out=to_go - others,
        reward_to_go=to_go,
        total_return=np.repeat(total, num_steps, axis=0),
    )


def three_weights__einsum(rewards, gamma):
    returns = rewards_to_go(rewards, gamma)
    powers = np.array([gamma**t for t in range(returns.shape[0])])
    to_go = np.einsum("t,tnm->tnm", powers, returns)
    return {
        "total_return": np.ones_like(returns) * returns[0],
        "reward_to_go": to_go,
        "leave_one_out": to_go - leave_one_out(to_go),
    }


def best_baseline__closed_form(probs, rewards):
    weights = probs * (1 - 2 * probs + np.sum(probs**2))
    return np.average(rewards, weights=weights)


def best_baseline__loop(probs, rewards):
    above, below = 0.0, 0.0
    for a in range(len(probs)):
        gradient = -probs.copy()
        gradient[a] += 1
        length = gradient @ gradient
        above += probs[a] * length * rewards[a]
        below += probs[a] * length
    return above / below


def best_baseline__vertex(probs, rewards):
    lengths = np.linalg.norm(np.identity(probs.size) - probs[None, :], axis=1)

    def scatter(b):
        return np.dot(probs, ((rewards - b) * lengths) ** 2)

    square, slope, _ = np.polyfit([-1.0, 0.0, 1.0], [scatter(-1.0), scatter(0.0), scatter(1.0)], deg=2)
    return -slope / (2 * square)
