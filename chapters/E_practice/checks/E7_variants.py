"""Right answers to E7's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch


def ucb__in_loops(prior, visits, totals, c):
    scores = np.empty(visits.shape)
    for i, row in enumerate(visits):
        for a, n in enumerate(row):
            scores[i, a] = np.inf if n == 0 else totals[i, a] / n + c * (np.log(row.sum()) / n) ** 0.5
    return scores


def ucb__errors_off(prior, visits, totals, c):
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = totals / visits + c * np.sqrt(np.log(visits.sum(axis=-1, keepdims=True)) / visits)
    scores[visits == 0] = np.inf
    return scores


def puct__in_loops(prior, visits, totals, c):
    scores = np.zeros(visits.shape)
    for i in range(len(visits)):
        here = visits[i].sum() + 1
        for a in range(visits.shape[1]):
            n = visits[i, a]
            scores[i, a] = (totals[i, a] / n if n else 0) + c * prior[i, a] * here**0.5 / (n + 1)
    return scores


def puct__divided_where(prior, visits, totals, c):
    means = np.divide(totals, visits, out=np.zeros(visits.shape), where=visits > 0)
    return means + prior * (c * np.sqrt(visits.sum(1) + 1))[:, None] / (visits + 1)


def back_up__by_parity(visits, totals, path, values):
    lengths = np.zeros(len(values), dtype=int)
    for rows, _, _ in path:
        lengths[rows] += 1
    for depth, (rows, nodes, actions) in enumerate(path):
        visits[rows, nodes, actions] += 1
        totals[rows, nodes, actions] += (-1.0) ** (lengths[rows] - depth) * values[rows]


def back_up__tree_by_tree(visits, totals, path, values):
    for row, value in enumerate(values.tolist()):
        for rows, nodes, actions in path[::-1]:
            for at in np.flatnonzero(rows == row):
                value = -value
                visits[row, nodes[at], actions[at]] += 1
                totals[row, nodes[at], actions[at]] += value


def results__by_where(game, boards, ends):
    same = game.num_stones(boards) % 2 == game.num_stones(ends) % 2
    return np.where(same, game.outcomes(ends), -game.outcomes(ends))


def noisy__dirichlet(prior, legal, share, rng):
    found = (1 - share) * prior
    for row, allowed in enumerate(legal):
        found[row, allowed] += share * rng.dirichlet(np.ones(allowed.sum()))
    return found


def noisy__gamma(prior, legal, share, rng):
    xi = rng.gamma(1.0, size=prior.shape) * legal
    return prior + share * (xi / xi.sum(-1, keepdims=True) - prior)


def loss_of__infinite_mask(outputs, legal, shares, ends):
    logits, value = outputs[:, :-1], outputs[:, -1].tanh()
    log_norm = torch.where(legal, logits, -torch.inf).logsumexp(dim=1)
    policy = (shares * torch.where(legal, logits, 0.0)).sum(dim=1) - log_norm
    return torch.nn.functional.mse_loss(value, ends) - policy.mean()


def loss_of__cross_entropy(outputs, legal, shares, ends):
    logits = outputs[:, :-1] + (~legal).float() * -1e9
    policy = torch.nn.functional.cross_entropy(logits, shares)
    return policy + ((torch.tanh(outputs[:, -1]) - ends) ** 2).mean()


def mirrored__bit_by_bit(boards, shares, height):
    width = shares.shape[1]
    found = np.zeros_like(boards)
    for column in range(width):
        for row in range(height):
            bit = boards >> (column * height + row) & 1
            found |= bit << ((width - 1 - column) * height + row)
    return found, np.flip(shares, axis=1)


def mirrored__as_grids(boards, shares, height):
    width = shares.shape[1]
    bits = (boards[..., None] >> np.arange(width * height) & 1).reshape(*boards.shape, width, height)
    turned = bits[:, :, ::-1].reshape(*boards.shape, -1)
    return turned @ (1 << np.arange(width * height)), shares[:, list(range(width))[::-1]]


UNNAMED = {
    "guide_not_masked": "it returns a guide, a function, and functions are not compared",
    "value_without_tanh": "it returns a guide, a function, and functions are not compared",
}
