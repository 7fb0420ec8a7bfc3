"""Right answers to E8's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch

from chapters.E_practice.E8_muzero import raised


def schedule__move_by_move(num_considered, num_simulations):
    needed, visits, left = [], [0] * num_considered, num_considered
    phases = math.ceil(math.log2(num_considered)) or 1
    while len(needed) < num_simulations:
        for _ in range(max(1, num_simulations // (phases * left))):
            for move in range(left):
                needed.append(visits[move])
                visits[move] += 1
        left = left if left < 3 else left // 2
        left = max(left, min(2, num_considered))
    return needed[:num_simulations]


def completed__in_loops(known):
    found = np.empty(known.visits.shape)
    for row, visits in enumerate(known.visits):
        tried = np.flatnonzero(visits)
        found[row] = known.values[row]
        if len(tried):
            means = known.totals[row, tried] / visits[tried]
            weights = np.exp(known.logits[row, tried] - known.logits[row, tried].max())
            n = visits.sum()
            found[row] = (known.values[row] + n * np.average(means, weights=weights)) / (1 + n)
            found[row, tried] = means
    return found


def completed__divided_where(known):
    tried = known.visits > 0
    q = np.divide(known.totals, known.visits, out=np.zeros(known.visits.shape), where=tried)
    shifted = np.where(tried, known.logits, -np.inf)
    top = np.where(tried.any(axis=1), shifted.max(axis=1), 0.0)[:, None]
    weights = np.exp(shifted - top)
    sums = weights.sum(axis=1)
    q_hat = np.divide((weights * q).sum(axis=1), sums, out=np.zeros(len(q)), where=sums > 0)
    n = known.visits.sum(axis=1)
    found = np.repeat(((known.values + n * q_hat) / (n + 1))[:, None], q.shape[1], axis=1)
    found[tried] = q[tried]
    return found


def raised__in_loops(known):
    from chapters.E_practice.E8_muzero import completed

    q, found = completed(known), np.empty(known.visits.shape)
    for row, visits in enumerate(known.visits):
        for move in range(len(visits)):
            found[row, move] = known.logits[row, move] + (50 + max(visits)) * q[row, move] / 10
    return found


def inner_choice__in_loops(known):
    found = []
    for logits, visits in zip(raised(known), known.visits):
        chances = np.exp(logits - logits.max())
        found.append(int(np.argmax(chances / chances.sum() - visits / (1 + visits.sum()))))
    return np.array(found)


def back_up__by_where(tree, path, values):
    worth = np.array(values)
    for trees, nodes, moves in path[::-1]:
        behind = tree.children[trees, nodes, moves]
        worth[trees] = tree.rewards[trees, behind] + -1 * worth[trees]
        tree.visits[trees, nodes, moves] = tree.visits[trees, nodes, moves] + 1
        tree.totals[trees, nodes, moves] = tree.totals[trees, nodes, moves] + worth[trees]


def back_up__tree_by_tree(tree, path, values):
    for row, worth in enumerate(values.tolist()):
        for rows, nodes, moves in reversed(path):
            for at in np.flatnonzero(rows == row):
                behind = tree.children[row, nodes[at], moves[at]]
                worth = float(tree.rewards[row, behind]) - worth
                tree.visits[row, nodes[at], moves[at]] += 1
                tree.totals[row, nodes[at], moves[at]] += worth


def targets__by_parity(times, lengths, won):
    left = lengths - times
    signs = np.where(left % 2 == 1, 1.0, -1.0)
    return np.where(left > 0, signs, 0.0) * won, np.logical_and(won, left == 1)


def loss_of__step_by_step(model, batch):
    x, total = model.represent(batch.planes[:, 0]), 0.0
    for k in range(batch.planes.shape[1]):
        logits, values = model.predict(x)
        policy = torch.nn.functional.cross_entropy(logits, batch.policies[:, k], reduction="none")
        step = batch.thought[:, k] * policy + batch.known[:, k] * (values - batch.values[:, k]).square()
        total = total + (step if k == 0 else 0.5 * step).mean()
        if k < batch.actions.shape[1]:
            if k:
                x = 0.5 * (x + x.detach())
            x, paid = model.dynamics(x, batch.actions[:, k])
            reward = torch.nn.functional.binary_cross_entropy(torch.sigmoid(paid), batch.rewards[:, k])
            total = total + 0.5 * 4 * reward
    return total


def loss_of__with_a_hook(model, batch):
    x = model.represent(batch.planes[:, 0])
    latents, paid = [x], []
    for actions in batch.actions.T:
        x, logit = model.dynamics(x, actions)
        latents.append(x)
        paid.append(logit)
        x = x * 1.0
        if x.requires_grad:
            x.register_hook(lambda slope: slope * 0.5)
    total = 0.0
    for k, x in enumerate(latents):
        logits, values = model.predict(x)
        policy = -(batch.policies[:, k] * logits.log_softmax(1)).sum(1)
        step = batch.thought[:, k] * policy + batch.known[:, k] * (values - batch.values[:, k]) ** 2
        if k:
            won = batch.rewards[:, k - 1]
            logit = paid[k - 1]
            step = step + 4 * (torch.nn.functional.softplus(logit) - won * logit)
        total = total + step.mean() * (0.5 if k else 1.0)
    return total


def rescaled__in_loops(q):
    found = np.zeros(q.shape)
    for row, values in enumerate(q):
        span = max(values) - min(values)
        if span > 0:
            found[row] = (values - min(values)) / span
    return found


def rescaled__peak_to_peak(q):
    return (q - q.min(-1)[:, None]) / np.clip(np.ptp(q, axis=-1), 1e-8, None)[:, None]


UNNAMED = {
    "no_flip": "it writes into a tree, an object, and objects are not compared",
    "late_reward": "the same: it writes into a tree",
    "no_reward": "the same: it writes into a tree",
    "without_noise": "it returns a player, a function, and functions are not compared",
    "always_noise": "it returns a player, a function, and functions are not compared",
}
