"""Right answers to B3's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch
import torch.nn.functional as F


def semi_gradient_step__values_first(w, x, next_x, reward, gamma, alpha):
    value, next_value = w * x, w * next_x
    target = reward + gamma * next_value
    return w + alpha * (target - value) * x


def semi_gradient_step__average(w, x, next_x, reward, gamma, alpha):
    step = alpha * x
    return w * (1 - step * (x - gamma * next_x)) + step * reward


def semi_gradient_step__autograd(w, x, next_x, reward, gamma, alpha):
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        target = reward + gamma * weight * next_x
    loss = 0.5 * (target - weight * x) ** 2
    loss.backward()
    return (weight - alpha * weight.grad).item()


def td_target__float_mask(rewards, next_values, terminated, gamma):
    return rewards + (1.0 - terminated.float()) * gamma * next_values


def td_target__where(rewards, next_values, terminated, gamma):
    return torch.where(terminated, rewards, rewards + gamma * next_values)


@torch.no_grad()
def td_target__masked_fill(rewards, next_values, terminated, gamma):
    return rewards + gamma * next_values.masked_fill(terminated, 0.0)


def td_target__loop(rewards, next_values, terminated, gamma):
    targets = rewards.clone()
    for i in range(len(targets)):
        if not terminated[i]:
            targets[i] += gamma * next_values[i]
    return targets


def max_value__max_values(target_q):
    return target_q.max(dim=1).values


def max_value__gather(target_q):
    target_q = target_q.detach()
    best = torch.argmax(target_q, dim=-1, keepdim=True)
    return target_q.gather(1, best).squeeze(1)


def max_value__rows(target_q):
    return torch.stack([torch.max(row) for row in target_q])


def huber_loss__library(predicted, target):
    return F.smooth_l1_loss(predicted, target)


def huber_loss__clamp(predicted, target):
    size = torch.abs(target - predicted)
    near = size.clamp(max=1.0)
    return torch.mean(near * (size - 0.5 * near))


def huber_loss__float_mask(predicted, target):
    error = predicted - target
    small = (error.abs() < 1).float()
    losses = small * error.square() / 2 + (1 - small) * (error.abs() - 0.5)
    return losses.sum() / losses.numel()


def weights_at_copies__power(w, num_copies, num_steps, gamma, alpha):
    stays = (1 - alpha) ** num_steps
    return w * (stays + (1 - stays) * 2 * gamma) ** np.arange(1, num_copies + 1)


def weights_at_copies__two_names(w, num_copies, num_steps, gamma, alpha):
    online = frozen = w
    weights = np.empty(num_copies)
    for copy in range(num_copies):
        target = gamma * (2.0 * frozen)
        for _ in range(num_steps):
            online = (1 - alpha) * online + alpha * target
        frozen = online
        weights[copy] = frozen
    return weights


def weights_at_copies__one_loop(w, num_copies, num_steps, gamma, alpha):
    history = [w]
    copied = w
    for step in range(1, num_copies * num_steps + 1):
        history.append(history[-1] + alpha * (2 * gamma * copied - history[-1]))
        if step % num_steps == 0:
            copied = history[-1]
    return np.array(history[num_steps::num_steps])


def interquartile_mean__sorted_list(scores):
    ordered = sorted(scores.ravel().tolist())
    cut = len(ordered) // 4
    middle = ordered[cut:-cut]
    return sum(middle) / len(middle)


def interquartile_mean__partition(scores):
    cut = scores.size // 4
    ordered = np.partition(scores.flatten(), [cut, scores.size - cut - 1])
    return np.mean(ordered[cut : scores.size - cut])


def interquartile_mean__equation(scores):
    flat = np.sort(scores.reshape(-1))
    n = flat.size
    return 2 / n * flat[n // 4 : 3 * n // 4].sum()
