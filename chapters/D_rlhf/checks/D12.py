"""D12's functions against their definitions, and the named edits of the lesson."""

import itertools
import math

import numpy as np
import torch

from chapters.D_rlhf.checks.D5 import SHAPES, config, random_batch
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.text.serving import AdaptedPolicy, Server
from chapters.text.tasks import log_probs_of
from chapters.utils.edits import Edit
from chapters.utils.optim import Adam

CONSTANT = ("weights", "penalised", "moments")  # of the weights: with or without a gradient
KINDS = (
    "none",
    "token",
    "sequence",
    "token_truncated",
    "sequence_truncated",
    "token_masked",
    "sequence_masked",
    "geometric",
)


def weight_by_hand(ratios, kind, cap):
    """The weights of one text's tokens, from their ratios."""
    whole = math.prod(ratios)
    found = []
    for ratio in ratios:
        ratio = whole if kind.startswith("sequence") else ratio
        if kind == "none":
            ratio = 1.0
        if kind == "geometric":
            ratio = whole ** (1.0 / len(ratios))
        if kind.endswith("truncated"):
            ratio = min(cap, ratio)
        if kind.endswith("masked"):
            ratio = ratio if ratio <= cap else 0.0
        found.append(ratio)
    return found


def check_weights(weights):
    for seed, (num, length) in enumerate(SHAPES):
        ours, theirs, _, mask = random_batch(seed, num, length)
        ours.requires_grad_()
        for kind, cap in itertools.product(KINDS, (1.2, 3.0)):
            found = weights(ours, theirs, mask, kind, cap)
            assert not found.requires_grad, f"{kind}: a weight is a constant"
            for b in range(num):
                places = [t for t in range(length) if mask[b, t]]
                ratios = [math.exp(ours[b, t].item() - theirs[b, t].item()) for t in places]
                for t, expected in zip(places, weight_by_hand(ratios, kind, cap)):
                    assert math.isclose(found[b, t], expected, rel_tol=1e-6), (
                        f"{kind}, cap {cap}, text {b}, token {t}: expected {expected:.6g}, "
                        f"found {found[b, t]:.6g}"
                    )


def check_surrogate(surrogate):
    """Token by token, for advantages of both signs: value and slope."""
    for seed, (num, length) in enumerate(SHAPES):
        now, proximal, sampler, mask = random_batch(seed, num, length)
        now.requires_grad_()
        judged = torch.linspace(-1.0, 2.0, num, dtype=torch.float64)
        for kind, eps in itertools.product(KINDS, (0.2, 0.5)):
            cfg = config(surrogate, weighting=kind, cap=1.5, clip_eps=eps)
            found = surrogate(now, proximal, sampler, judged, mask, cfg)
            (slope,) = torch.autograd.grad((found * mask).sum(), now)
            found = found.detach()
            for b in range(num):
                places = [t for t in range(length) if mask[b, t]]
                ratios = [math.exp(proximal[b, t].item() - sampler[b, t].item()) for t in places]
                for t, omega in zip(places, weight_by_hand(ratios, kind, 1.5)):
                    rho, a = math.exp(now[b, t].item() - proximal[b, t].item()), judged[b].item()
                    clipped = min(max(rho, 1.0 - eps), 1.0 + eps)
                    value = -omega * min(rho * a, clipped * a)
                    steep = -omega * rho * a if rho * a <= clipped * a else 0.0
                    where = f"{kind}, text {b}, token {t}"
                    assert math.isclose(found[b, t], value, rel_tol=1e-9, abs_tol=1e-12), where
                    assert math.isclose(slope[b, t], steep, rel_tol=1e-9, abs_tol=1e-12), f"slope, {where}"


def check_penalised(penalised):
    for seed, (num, length) in enumerate(SHAPES):
        ours, ref, _, mask = random_batch(seed, num, length)
        ours, ref = ours * mask, ref * mask
        rewards = torch.arange(num, dtype=torch.float64)
        found = penalised(rewards, ours, ref, 0.3)
        for b in range(num):
            expected = b - 0.3 * sum(ours[b, t].item() - ref[b, t].item() for t in range(length))
            assert math.isclose(found[b], expected, rel_tol=1e-9, abs_tol=1e-9), f"text {b}: {found[b]:.6g}"


def small_world(seed):
    """(world of 7 texts after each of 2 prompts, an adapted policy that is not the reference, all texts)."""
    world = token_world(seed, num_symbols=3, length=2)
    policy = AdaptedPolicy(world)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        policy.table += 0.5 * torch.randn(policy.table.shape, generator=generator, dtype=torch.float64)
    return world, policy, tasks.every_completion(world)


def scores_by_autograd(policy, batch):
    """[B, T, P], a backward pass for each token."""
    log_probs = log_probs_of(policy, batch)
    found = torch.zeros(*log_probs.shape, policy.table.numel(), dtype=torch.float64)
    for b, t in itertools.product(*map(range, log_probs.shape)):
        if batch["completion_mask"][b, t]:
            (slope,) = torch.autograd.grad(log_probs[b, t], policy.table, retain_graph=True)
            found[b, t] = slope.flatten()
    return found


def server_log_probs(world, policy, batch, cfg):
    """The log-probability of each token of all texts under a server."""
    with torch.no_grad():
        return log_probs_of(Server(policy, world, cfg), batch)


def check_moments(moments):
    """Mean and variance from one text's estimate after another."""
    world, policy, batch = small_world(2)
    slopes, mask = scores_by_autograd(policy, batch), batch["completion_mask"]
    ours = log_probs_of(policy, batch).detach()
    for kind, proximal in itertools.product(KINDS, ("trainer", "sampler")):
        cfg = config(moments, weighting=kind, proximal=proximal, cap=1.2, noise=0.7, beta=0.3)
        sampler = server_log_probs(world, policy, batch, cfg)
        probs = sampler.sum(dim=1).exp()
        worth = world.rewards.flatten() - 0.3 * (ours - batch["ref_log_probs"]).sum(dim=1)
        half = len(probs) // 2
        means = [float((probs[part] * worth[part]).sum()) for part in (slice(half), slice(half, None))]
        estimates = []
        for b in range(len(probs)):
            places = [t for t in range(mask.shape[1]) if mask[b, t]]
            a = worth[b].item() - means[b // half]
            ratios = [math.exp(ours[b, t].item() - sampler[b, t].item()) for t in places]
            counted = weight_by_hand(ratios, kind, 1.2)
            if proximal == "sampler":
                counted = [0.0 if (a > 0 and w > 1.2) or (a < 0 and w < 0.8) else w for w in ratios]
            estimates.append(sum(w * a * slopes[b, t] for t, w in zip(places, counted)))
        each = torch.stack(estimates)
        expected = (probs[:, None] / 2 * each).sum(dim=0)
        spread = float((probs / 2 * (each - expected).square().sum(dim=1)).sum())
        mean, variance = moments(policy, sampler, batch, world, cfg)
        np.testing.assert_allclose(mean, expected, atol=1e-10, err_msg=f"mean, {kind}, {proximal}")
        assert math.isclose(variance, spread, rel_tol=1e-9), f"variance, {kind}, {proximal}"


class Recorder(Adam):
    """An optimiser that keeps each gradient, and takes a plain step."""

    def __init__(self, table):
        super().__init__([table], lr=0.5)
        self.table, self.found = table, []

    def zero_grad(self):
        self.table.grad = None

    def step(self):
        self.found.append(self.table.grad.clone())
        with torch.no_grad():
            self.table -= 0.5 * self.table.grad


def update_is_right(update):
    """The gradient of a batch from a noisy server, against (1), (4) and (5) written out."""
    for kind, proximal in itertools.product(("sequence", "token_truncated", "none"), ("trainer", "sampler")):
        world, policy, every = small_world(3)
        cfg = config(update, weighting=kind, proximal=proximal, cap=1.2, noise=0.7, group_size=7)
        sampler = server_log_probs(world, policy, every, cfg)
        reference = world.reference(torch.float64)
        batch = {name: values.numpy() for name, values in every.items() if name != "ref_log_probs"}
        batch |= {"sampler_log_probs": sampler.numpy(), "rewards": world.rewards.flatten().numpy()}
        recorder, start = Recorder(policy.table), policy.table.detach().clone()
        update(policy, reference, recorder, batch, cfg)
        assert len(recorder.found) == 1, f"{len(recorder.found)} steps on a batch, not 1"
        with torch.no_grad():
            policy.table.copy_(start)
            old = log_probs_of(policy, every)
        worth = world.rewards.flatten() - cfg.beta * (old - every["ref_log_probs"]).sum(dim=1)
        judged = (worth.view(2, 7) - worth.view(2, 7).mean(dim=1, keepdim=True)).flatten()
        before = old if proximal == "trainer" else sampler
        for found in recorder.found:
            now = log_probs_of(policy, every)
            total = 0.0
            for b in range(len(now)):
                places = [t for t in range(2) if every["completion_mask"][b, t]]
                ratios = [math.exp(before[b, t].item() - sampler[b, t].item()) for t in places]
                for t, omega in zip(places, weight_by_hand(ratios, kind, 1.2)):
                    rho = (now[b, t] - before[b, t]).exp()
                    total = total - omega * torch.minimum(rho * judged[b], rho.clamp(0.8, 1.2) * judged[b])
            (expected,) = torch.autograd.grad(total / len(now), policy.table)
            np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=f"{kind}, {proximal}")


EDITS = {
    "ratio_upside_down": Edit(
        function="weights",
        old="(log_probs - sampler_log_probs).detach()",
        new="(sampler_log_probs - log_probs).detach()",
        says="the sampler's probability over the trainer's: what is too frequent counts even more",
        fails=("sequence_bias", "end_sequence", "learnt"),
    ),
    "weights_learn": Edit(
        function="weights",
        old="(log_probs - sampler_log_probs).detach()",
        new="(log_probs - sampler_log_probs)",
        says="a gradient flows through the weight",
    ),
    "padding_weighs": Edit(
        function="weights",
        old=".detach() * mask",
        new=".detach()",
        says="what stands behind the end has a ratio too",
    ),
    "mean_for_sum": Edit(
        function="weights",
        old="log_ratio.sum(dim=1, keepdim=True)",
        new="log_ratio.mean(dim=1, keepdim=True)",
        says="a mean over tokens for the sum: a whole text's ratio nearly like a token's",
        fails=("sequence_bias", "end_sequence"),
    ),
    "raises_small_weights": Edit(
        function="weights",
        old="ratio.clamp(max=cap)",
        new="ratio.clamp(1.0 / cap, cap)",
        says="cuts from below, too: what the trainer would hardly write counts for more than it should",
    ),
    "mask_turned": Edit(
        function="weights",
        old="(ratio <= cap)",
        new="(ratio >= cap)",
        says="keeps what should be dropped",
    ),
    "kept_counts_one": Edit(
        function="weights",
        old="return ratio * (ratio <= cap)",
        new="return (ratio <= cap).to(ratio.dtype)",
        says="drops what is above the cap and counts the rest as if the trainer had written it",
    ),
    "caps_tokens": Edit(
        function="weights",
        old='kind.startswith("sequence")',
        new='kind == "sequence"',
        says="the capped ratio of a text is that of each token",
    ),
    "no_weights": Edit(
        function="surrogate",
        old="return -omega * torch.min(",
        new="return -torch.min(",
        says="forgets who wrote the text",
        fails=("sequence_bias", "end_sequence"),
    ),
    "no_min": Edit(
        function="surrogate",
        old="torch.min(ratio * judged[:, None], clipped * judged[:, None])",
        new="(clipped * judged[:, None])",
        says="a clip alone: nothing pulls a bad token back",
    ),
    "weighs_what_moves": Edit(
        function="surrogate",
        old="weights(proximal, sampler,",
        new="weights(log_probs, sampler,",
        says="weighs the policy that moves, whose ratio the clip has counted already",
    ),
    "clips_above_only": Edit(
        function="surrogate",
        old="ratio.clamp(1.0 - cfg.clip_eps, 1.0 + cfg.clip_eps)",
        new="ratio.clamp(max=1.0 + cfg.clip_eps)",
        says="a bad token may be pushed down without end",
    ),
    "descends": Edit(
        function="surrogate",
        old="return -omega",
        new="return omega",
        says="goes down where it should climb",
        fails=("sequence_bias", "end_sequence"),
    ),
    "pays_for_leaving": Edit(
        function="penalised",
        old="rewards - beta *",
        new="rewards + beta *",
        says="pays for leaving the reference",
        fails=("sequence_bias", "end_sequence"),
    ),
    "mean_of_ratios": Edit(
        function="penalised",
        old=".sum(dim=1)",
        new=".mean(dim=1)",
        says="the mean over tokens for the sum: less than the text's divergence",
        fails=("sequence_bias", "end_sequence", "learnt"),
    ),
    "plain_mean": Edit(
        function="moments",
        old="(probs.view_as(worth) * worth).sum(dim=1, keepdim=True) * world.num_prompts",
        new="worth.mean(dim=1, keepdim=True)",
        says="a mean over texts that forgets how often the sampler writes them",
    ),
    "trainer_writes": Edit(
        function="moments",
        old="probs = sampler.sum(dim=1).exp()",
        new="probs = old.sum(dim=1).exp()",
        says="as if the trainer had written the texts",
        fails=("sequence_bias", "end_sequence", "end_none", "learnt"),
    ),
    "second_moment": Edit(
        function="moments",
        old=" - mean.square().sum()).item()",
        new=").item()",
        says="the mean square, not the variance",
    ),
    "sampler_penalised": Edit(
        function="moments",
        old="penalised(world.rewards.flatten(), old,",
        new="penalised(world.rewards.flatten(), sampler,",
        says="takes the penalty by the sampler's numbers: the sampler is held, not the trainer",
        fails=("sequence_bias", "end_sequence"),
    ),
    "numbers_recomputed": Edit(
        function="update",
        old='data["completion_mask"], data["sampler_log_probs"]\n',
        new='data["completion_mask"], log_probs_of(policy, data).detach()\n',
        says="recomputes the sampler's log-probabilities with the trainer: every weight is 1",
    ),
    "clip_from_here": Edit(
        function="update",
        old='old if cfg.proximal == "trainer" else sampler\n',
        new="old\n",
        says="the clip stands around the trainer, whatever was asked for",
    ),
    "mean_of_no_group": Edit(
        function="update",
        old='advantages(worth.view(-1, cfg.group_size), "group_mean", divide=False)',
        new="(worth - worth.mean())",
        says="one mean for all prompts: an easy prompt's texts all look good",
    ),
    "padding_learnt": Edit(
        function="update",
        old="(losses.sum() / len(mask))",
        new="(losses.sum() / mask.sum())",
        says="divides by tokens: another step size for longer texts",
    ),
}
