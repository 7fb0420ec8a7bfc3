"""Right answers to D4's exercises in other idioms: the grader must pass each."""

import torch
import torch.nn.functional as F


def preference__softmax(chosen, rejected):
    return torch.softmax(torch.stack([chosen, rejected]), dim=0)[0]


def preference__logistic(chosen, rejected):
    return 1 / (1 + torch.exp(rejected - chosen))


def preference__ratio(chosen, rejected):
    top = torch.maximum(chosen, rejected)
    one, other = (chosen - top).exp(), (rejected - top).exp()
    return one / (one + other)


def implicit_rewards__mul(log_ratios, beta):
    return torch.mul(log_ratios, beta)


def implicit_rewards__by_side(log_ratios, beta):
    return torch.stack([beta * log_ratios[:, 0], beta * log_ratios[:, 1]], dim=1)


def implicit_rewards__divide(log_ratios, beta):
    return log_ratios / (1 / beta)


def dpo_loss__unbound(log_ratios, labels, beta):
    chosen, rejected = log_ratios.unbind(dim=1)
    logits = beta * (chosen - rejected)
    return -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits))


def dpo_loss__cross_entropy(log_ratios, labels, beta):
    logits = beta * (log_ratios[:, 0] - log_ratios[:, 1])
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def dpo_loss__softplus(log_ratios, labels, beta):
    margin = beta * (log_ratios[..., 0] - log_ratios[..., 1])
    return labels * F.softplus(-margin) + (1 - labels) * F.softplus(margin)


def gradient_weight__sigmoid(log_ratios, labels, beta):
    return labels - torch.sigmoid(beta * (log_ratios[:, 0] - log_ratios[:, 1]))


def gradient_weight__other_side(log_ratios, labels, beta):
    wrong = torch.sigmoid(beta * (log_ratios[:, 1] - log_ratios[:, 0]))
    return labels * wrong - (1 - labels) * (1 - wrong)


def gradient_weight__softmax(log_ratios, labels, beta):
    return labels - (beta * log_ratios).softmax(dim=1)[:, 0]


def ipo_loss__unbound(log_ratios, labels, beta):
    chosen, rejected = log_ratios.unbind(1)
    gap = chosen - rejected
    return labels * (gap - 0.5 / beta).square() + (1 - labels) * (gap + 0.5 / beta).square()


def ipo_loss__expanded(log_ratios, labels, beta):
    gap, target = log_ratios[:, 0] - log_ratios[:, 1], 1 / (2 * beta)
    return gap**2 + target**2 - 2 * gap * target * (2 * labels - 1)


def ipo_loss__both_sides(log_ratios, labels, beta):
    gap = log_ratios[:, 0] - log_ratios[:, 1]
    errors = torch.stack([gap - 1 / (2 * beta), gap + 1 / (2 * beta)]) ** 2
    return (torch.stack([labels, 1 - labels]) * errors).sum(0)


def sequence_log_probs__where(token_log_probs, mask):
    return torch.where(mask, token_log_probs, torch.zeros_like(token_log_probs)).sum(-1)


def sequence_log_probs__masked_fill(token_log_probs, mask):
    return token_log_probs.masked_fill(~mask, 0.0).sum(dim=1)


def sequence_log_probs__einsum(token_log_probs, mask):
    return torch.einsum("bt,bt->b", token_log_probs, mask.to(token_log_probs.dtype))
