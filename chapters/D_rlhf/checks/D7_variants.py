"""Right answers to D7's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch

from chapters.D_rlhf.D7_trl_trainers import ROUND
from chapters.envs.reviews import sentiment


def settings__update(name, cfg, folder=""):
    found = dict(
        learning_rate=cfg.learning_rate, bf16=False, use_cpu=True, seed=cfg.seed, output_dir=folder,
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    size = cfg.rounds_a_batch * ROUND
    if name in ("sft", "reward", "dpo"):
        found.update(per_device_train_batch_size=14, num_train_epochs=cfg.num_epochs, max_length=None)
        if name == "dpo":
            found["beta"] = cfg.beta
    elif name == "ppo":
        found.update(
            per_device_train_batch_size=size, total_episodes=cfg.num_batches * size,
            num_ppo_epochs=cfg.num_epochs, kl_coef=cfg.beta, response_length=cfg.num_tokens, stop_token="eos",
            temperature=1.0, num_sample_generations=0,
        )  # fmt: skip
    else:
        found.update(
            per_device_train_batch_size=size, num_generations=cfg.group_size, beta=cfg.beta,
            num_iterations=cfg.num_epochs, max_steps=cfg.num_epochs * cfg.num_batches,
            max_completion_length=cfg.num_tokens,
        )  # fmt: skip
    return found


def pair_up__loop(rewards, num_prompts):
    found = []
    for row in range(len(rewards)):
        if row // num_prompts % 2 == 0:
            other = row + num_prompts
            if rewards[row] > rewards[other]:
                found.append([row, other])
            elif rewards[other] > rewards[row]:
                found.append([other, row])
    return torch.tensor(found, dtype=torch.long).reshape(-1, 2)


def pair_up__argsort(rewards, num_prompts):
    rounds = rewards.reshape(-1, 2, num_prompts)
    rows = torch.arange(rewards.numel()).reshape(rounds.shape)
    order = rounds.argsort(dim=1, descending=True)
    return rows.gather(1, order).permute(0, 2, 1)[rounds[:, 0] != rounds[:, 1]]


def rule__one_by_one(prompts, completions, **_):
    return [float(sentiment([" ".join(both)])[0]) for both in zip(prompts, completions)]


def sft_loss__cross_entropy(logits, labels):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def sft_loss__picked(logits, labels):
    labels = labels[:, 1:]
    log_probs = torch.log_softmax(logits, dim=-1)[:, :-1]
    real = labels.ne(-100)
    return -log_probs[real].gather(1, labels[real].unsqueeze(1)).mean()


def adapted__sum_of_outer_products(weight, left, right, alpha):
    scale = alpha / right.shape[0]
    return weight + scale * sum(torch.outer(left[:, k], right[k]) for k in range(right.shape[0]))


def adapted__einsum(weight, left, right, alpha):
    return torch.einsum("mr,rn->mn", left * (alpha / left.size(1)), right) + weight


def win_interval__numpy(share, num):
    ends = share + np.array([-1.96, 1.96]) * np.sqrt(share * (1 - share) / num)
    return tuple(ends)


def share_trained__two_sums(shapes, rank):
    return rank * (sum(m for m, _ in shapes) + sum(n for _, n in shapes)) / sum(m * n for m, n in shapes)


def share_trained__numpy(shapes, rank):
    shapes = np.array(shapes)
    return rank * shapes.sum() / shapes.prod(axis=1).sum()


def texts_needed__counting(share, half_width):
    num = int((1.96 / half_width) ** 2 * share * (1.0 - share) * (1 - 1e-6))
    while 1.96 * math.sqrt(share * (1.0 - share) / max(1, num)) > half_width * (1 + 1e-12):
        num += 1
    return max(1, num)


UNNAMED: dict[str, str] = {}
