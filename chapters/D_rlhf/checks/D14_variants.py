"""Right answers to D14's exercises in other idioms: the grader must pass each."""

import torch
import torch.nn.functional as F

UNNAMED = {
    "pairs_of_the_reference": "what it draws is random: right answers in other idioms need not draw the same",
}


def score__in_place_of_switches(log_probs, ref_log_probs, lengths, beta, loss):
    kept = log_probs - float(loss.reference) * ref_log_probs
    return beta * kept / lengths ** int(loss.per_token)


def score__where(log_probs, ref_log_probs, lengths, beta, loss):
    if not loss.reference:
        ref_log_probs = torch.zeros_like(ref_log_probs)
    scaled = (log_probs - ref_log_probs).mul(beta)
    if loss.per_token:
        scaled = scaled.div(lengths)
    return scaled


def logistic_loss__softplus(scores, labels, margin=0.0):
    first, second = scores.unbind(dim=1)
    wins, loses = F.softplus(margin - (first - second)), F.softplus(margin - (second - first))
    return labels * wins + (1 - labels) * loses


def logistic_loss__diff(scores, labels, margin=0.0):
    gap = -scores.diff(dim=1).squeeze(1)
    sides = torch.stack([F.logsigmoid(gap - margin), F.logsigmoid(-gap - margin)])
    return -(torch.stack([labels, 1 - labels]) * sides).sum(0)


def logistic_loss__logaddexp(scores, labels, margin=0.0):
    gap = scores[:, 0] - scores[:, 1]
    zero = torch.zeros_like(gap)
    return labels * torch.logaddexp(zero, margin - gap) + (1 - labels) * torch.logaddexp(zero, gap + margin)


def likelihood_loss__two_sides(log_probs, lengths, labels, weights):
    first, second = weights * labels, weights * (1 - labels)
    total = first @ log_probs[:, 0] + second @ log_probs[:, 1]
    tokens = first @ lengths[:, 0].to(first) + second @ lengths[:, 1].to(first)
    return -total / tokens


def likelihood_loss__einsum(log_probs, lengths, labels, weights):
    sides = torch.stack((labels, 1.0 - labels), -1)
    total = torch.einsum("b,bs,bs->", weights, sides, log_probs)
    return -total / torch.einsum("b,bs,bs->", weights, sides, lengths.to(log_probs.dtype))


def kto_loss__sides(log_ratios, liked, point, beta):
    up = torch.sigmoid(beta * log_ratios - beta * point)
    down = torch.sigmoid(beta * point - beta * log_ratios)
    return liked - liked * up + (1 - liked) - (1 - liked) * down


def kto_loss__tanh(log_ratios, liked, point, beta):
    return 0.5 - (liked - 0.5) * torch.tanh(0.5 * beta * (log_ratios - point))


def reference_point__relu(log_ratios):
    return F.relu(log_ratios.mean()).detach()


@torch.no_grad()
def reference_point__no_grad(log_ratios):
    return torch.clamp_min(log_ratios.sum() / len(log_ratios), 0.0)


def length_penalty_loss__softplus(log_ratios, lengths, labels, beta, rate):
    gap = beta * (log_ratios[:, 0] - log_ratios[:, 1]) + rate * (lengths[:, 0] - lengths[:, 1])
    return labels * F.softplus(-gap) + (1 - labels) * F.softplus(gap)


def length_penalty_loss__cross_entropy(log_ratios, lengths, labels, beta, rate):
    targets = torch.stack([labels, 1 - labels], dim=1)
    return F.cross_entropy(rate * lengths + beta * log_ratios, targets, reduction="none")
