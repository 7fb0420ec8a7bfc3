"""D5's functions against their definitions, and the named edits of the lesson."""

import dataclasses
import itertools
import math
import sys

import numpy as np
import torch

from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.utils.edits import Edit

SHAPES = ((1, 2), (3, 4), (5, 2), (2, 9))
CONSTANT = ("advantages",)  # of the weights: they may be written with or without a gradient


def random_batch(seed, num, length, dtype=torch.float64):
    """(log_probs, old_log_probs, ref_log_probs, mask): random numbers, lengths 1 to `length`."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, old, ref = -torch.rand(3, num, length, generator=generator, dtype=dtype) * 2.0
    lengths = torch.randint(1, length + 1, (num,), generator=generator)
    mask = torch.arange(length)[None] < lengths[:, None]
    return log_probs, old, ref, mask


def config(function, **changes):
    """A Config of the function's own module."""
    return dataclasses.replace(sys.modules[function.__module__].Config(), **changes)


def check_advantages(advantages):
    rng = np.random.default_rng(0)
    for N, G in SHAPES:
        rewards = torch.from_numpy(rng.normal(size=(N, G)) * 3.0 + rng.normal(size=(N, 1)))
        for baseline, divide in itertools.product(("group_mean", "leave_one_out"), (True, False)):
            found = advantages(rewards, baseline, divide)
            for n in range(N):
                row = rewards[n].tolist()
                mean = sum(row) / G
                deviation = math.sqrt(sum((r - mean) ** 2 for r in row) / (G - 1))
                for g in range(G):
                    others = [r for i, r in enumerate(row) if i != g]
                    base = mean if baseline == "group_mean" else sum(others) / (G - 1)
                    expected = (row[g] - base) / (deviation + 1e-4 if divide else 1.0)
                    assert math.isclose(found[n, g], expected, rel_tol=1e-9, abs_tol=1e-9), (
                        f"prompt {n}, completion {g}: expected {expected:.6g}, found {found[n, g]:.6g}"
                    )
    for constant, G, dtype in itertools.product(
        (1.0, 0.3, 0.1, -0.7, 1e8 / 3.0, 0.0), (2, 3, 6, 7), (torch.float32, torch.float64)
    ):
        for divide in (True, False):
            found = advantages(torch.full((2, G), constant, dtype=dtype), "group_mean", divide)
            assert (found == 0.0).all(), (
                f"a group of {G} rewards {constant}: expected 0, found {found[0, 0]:.3g}"
            )


def check_importance_ratio(importance_ratio):
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, old, _, mask = random_batch(seed, num, length)
        tokens = importance_ratio(log_probs, old, mask, "token")
        completions = importance_ratio(log_probs, old, mask, "sequence")
        assert tokens.shape == completions.shape == (num, length)
        for b in range(num):
            ratios = [math.exp(log_probs[b, t] - old[b, t]) for t in range(length) if mask[b, t]]
            for t in range(length):
                if mask[b, t]:
                    mean = math.prod(ratios) ** (1 / len(ratios))
                    assert math.isclose(tokens[b, t], ratios[t], rel_tol=1e-6), (b, t)
                    assert math.isclose(completions[b, t], mean, rel_tol=1e-6), (b, t)
                else:
                    assert tokens[b, t] == 1.0, "padding has no ratio but 1"
    none = torch.zeros(2, 3, dtype=torch.bool)
    for level in ("token", "sequence"):
        assert (importance_ratio(torch.rand(2, 3), torch.rand(2, 3), none, level) == 1.0).all(), "no token"
    log_probs = torch.zeros(1, 2, requires_grad=True)
    for level in ("token", "sequence"):
        ratio = importance_ratio(log_probs, log_probs.detach(), torch.ones(1, 2, dtype=torch.bool), level)
        (slope,) = torch.autograd.grad(ratio.sum(), log_probs)
        assert torch.allclose(slope, torch.ones(1, 2)), "its value is 1, its slope is not 0"


def check_clipped_objective(clipped_objective):
    low, high = 0.2, 0.5
    ratio = torch.linspace(0.05, 2.5, 98, dtype=torch.float64).view(2, 49).requires_grad_()
    for advantage in (1.7, -0.6):
        found = clipped_objective(ratio, torch.full((2, 1), advantage, dtype=torch.float64), low, high)
        (slope,) = torch.autograd.grad(found.sum(), ratio)
        for w, value, s in zip(*(x.flatten().tolist() for x in (ratio, found, slope))):
            flat = w > 1 + high if advantage > 0 else w < 1 - low
            edge = (1 + high if advantage > 0 else 1 - low) * advantage
            assert math.isclose(value, edge if flat else w * advantage, rel_tol=1e-9), (advantage, w)
            assert math.isclose(s, 0.0 if flat else advantage, abs_tol=1e-9), (advantage, w)


def check_average(average):
    for seed, (num, length) in enumerate(SHAPES):
        losses, _, _, mask = random_batch(seed, num, length)
        for empty in range(-1, num):  # a completion without tokens counts as 0
            written = mask.clone()
            if empty >= 0:
                written[empty] = False
            sums = [sum(losses[b, t].item() for t in range(length) if written[b, t]) for b in range(num)]
            sizes = [int(written[b].sum()) for b in range(num)]
            expected = {
                "completions": sum(s / max(n, 1) for s, n in zip(sums, sizes)) / num,
                "tokens": sum(sums) / max(sum(sizes), 1),
                "constant": sum(sums) / length / num,
            }
            for kind, value in expected.items():
                found = average(losses, written, kind)
                assert math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-12), (
                    f"{kind}, lengths {sizes}: expected {value:.6g}, found {found:.6g}"
                )


def loss_by_hand(batch, cfg, log_probs):
    """(6) written out, token by token."""
    num, length = log_probs.shape
    mask, judged = batch["completion_mask"], batch["advantages"].tolist()
    sums, sizes = [], [int(row.sum()) for row in mask]
    for b in range(num):
        steps = [(log_probs - batch["old_log_probs"])[b, t].item() for t in range(sizes[b])]
        total = 0.0
        for t in range(sizes[b]):
            w = math.exp(steps[t] if cfg.ratio == "token" else sum(steps) / sizes[b])
            clipped = min(max(w, 1.0 - cfg.clip_low), 1.0 + cfg.clip_high)
            u = batch["ref_log_probs"][b, t].item() - log_probs[b, t].item()
            total += cfg.beta * (math.exp(u) - 1.0 - u) - min(w * judged[b], clipped * judged[b])
        sums.append(total)
    if cfg.average == "tokens":
        return sum(sums) / sum(sizes)
    return sum(s / (n if cfg.average == "completions" else length) for s, n in zip(sums, sizes)) / num


def check_grpo_loss(grpo_loss):
    """Token by token, for every setting."""
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, old, ref, mask = random_batch(seed, num, length)
        batch = {
            "completion_mask": mask,
            "old_log_probs": old,
            "ref_log_probs": ref,
            "advantages": torch.linspace(-1.0, 2.0, num, dtype=torch.float64),
        }
        for ratio, average, beta in itertools.product(
            ("token", "sequence"), ("completions", "tokens", "constant"), (0.0, 0.3)
        ):
            cfg = config(grpo_loss, ratio=ratio, average=average, beta=beta, clip_low=0.1, clip_high=0.4)
            found, expected = grpo_loss(log_probs, batch, cfg), loss_by_hand(batch, cfg, log_probs)
            assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-12), (
                f"ratio {ratio}, average {average}, beta {beta}: expected {expected:.6g}, found {found:.6g}"
            )


def check_collect(collect):
    """Groups stand together, whether they agree or not; nothing of a batch has a gradient."""
    world = token_world(1, num_symbols=3, length=2)
    task = tasks.world_task(world)
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    with torch.no_grad():
        policy.table += torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    cfg = config(collect, num_prompts=40, group_size=6, beta=0.7, divide=False)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    data = collect(policy, reference, task, rng, generator, cfg)
    assert not any(values.requires_grad for values in data.values())
    for name, model in {"old_log_probs": policy, "ref_log_probs": reference}.items():
        expected = world.log_probs(model).detach()[
            data["prompt_ids"][:, 0] - world.num_symbols - 1, world.rows(data["completion_ids"])
        ]
        assert torch.allclose(data[name].sum(1), expected), name
    groups = data["rewards"].view(40, 6)
    assert torch.allclose(data["advantages"].view(40, 6), groups - groups.mean(1, keepdim=True))
    prompts = data["prompt_ids"][:, 0].view(40, 6)
    assert (prompts == prompts[:, :1]).all()
    assert len(set(prompts[:, 0].tolist())) == 2, "both prompts are asked"
    scored = []

    def few_are_right(rows, ids):  # so now and then a group agrees
        scored.append(len(rows))
        return (ids[:, 0] == 1).double()

    few = task._replace(score=few_are_right)
    cfg = config(collect, num_prompts=40, group_size=2)
    data = collect(policy, reference, few, rng, generator, cfg)
    assert scored == [80], "one completion for each place of each group"
    groups = data["rewards"].view(40, 2)
    agree = groups[:, 0] == groups[:, 1]
    assert agree.any()
    assert not agree.all()
    assert ((data["advantages"].view(40, 2) == 0.0).all(1) == agree).all()


RESAMPLED = """    batch = tasks.answer(policy, task, rows.repeat_interleave(cfg.group_size), generator)
    for _ in range(4):  # then it takes what it has
        groups = batch["rewards"].view(-1, cfg.group_size)
        agree = (groups.amax(dim=1) == groups.amin(dim=1)).repeat_interleave(cfg.group_size)  # [B]
        rows = torch.from_numpy(rng.integers(len(task.prompt_ids), size=cfg.num_prompts))
        more = tasks.answer(policy, task, rows.repeat_interleave(cfg.group_size), generator)
        for name, values in batch.items():
            values[agree] = more[name][agree]
"""

EDITS = {
    "other_prompts": Edit(
        function="advantages",
        old="rewards - rewards.mean(dim=1, keepdim=True)",
        new="rewards - rewards.mean(dim=0, keepdim=True)",
        says="compares a completion with those of other prompts: an easy sum's answers look good",
        fails=("first_loss",),
    ),
    "no_baseline": Edit(
        function="advantages",
        old="rewards - rewards.mean(dim=1, keepdim=True)",
        new="rewards",
        says="no baseline: a right answer is praised, a wrong one never blamed",
        fails=("first_loss",),
    ),
    "rounding_divided": Edit(
        function="advantages",
        old="    centred = centred.masked_fill(equal, 0.0)\n",
        new="",
        says="divides rounding by rounding where all rewards of a group are equal",
    ),
    "spread_of_other_axis": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std(dim=0, keepdim=True)",
        says="the spread of other prompts",
        fails=("first_loss",),
    ),
    "spread_of_batch": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std()",
        says="the spread of the whole batch instead of the group's",
    ),
    "population_spread": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std(dim=1, keepdim=True, correction=0)",
        says="a standard deviation divided by G instead of G - 1",
    ),
    "variance": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.var(dim=1, keepdim=True)",
        says="divides by the variance instead of the standard deviation",
    ),
    "own_reward_in_baseline": Edit(
        function="advantages",
        old="centred = centred * size / (size - 1)",
        new="centred = centred",
        says="leave-one-out that leaves none out",
    ),
    "factor_upside_down": Edit(
        function="advantages",
        old="centred * size / (size - 1)",
        new="centred * (size - 1) / size",
        says="the factor of (2) turned over",
    ),
    "no_epsilon": Edit(
        function="advantages",
        old="keepdim=True) + EPS)",
        new="keepdim=True))",
        says="0 / 0 in a group of equal rewards",
    ),
    "always_divided": Edit(
        function="advantages",
        old="    if divide:\n",
        new="    if True:\n",
        says="divides whatever was asked for",
    ),
    "constant_ratio": Edit(
        function="importance_ratio",
        old="return log_ratio.exp()",
        new="return log_ratio.exp().detach()",
        says="a ratio without slope: its value is right, and nothing is learnt",
        fails=("first_gradient", "greedy_after", "sampled_after"),
    ),
    "no_length_normalisation": Edit(
        function="importance_ratio",
        old=" / lengths).expand_as",
        new=").expand_as",
        says="a product of ratios instead of their geometric mean",
    ),
    "mean_over_padding": Edit(
        function="importance_ratio",
        old=" / lengths).expand_as",
        new=" / mask.shape[1]).expand_as",
        says="counts padding in the length of a completion",
    ),
    "ratio_of_nothing": Edit(
        function="importance_ratio",
        old="keepdim=True).clamp(min=1)",
        new="keepdim=True)",
        says="0 / 0 where a completion has no token",
    ),
    "old_over_new": Edit(
        function="importance_ratio",
        old="(log_probs - old_log_probs) * mask",
        new="(old_log_probs - log_probs) * mask",
        says="old over new",
    ),
    "ratio_of_padding": Edit(
        function="importance_ratio",
        old="(log_probs - old_log_probs) * mask",
        new="(log_probs - old_log_probs)",
        says="padding has a ratio too",
    ),
    "no_min": Edit(
        function="clipped_objective",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="a clip alone: nothing pulls a bad action back",
    ),
    "max_for_min": Edit(
        function="clipped_objective",
        old="torch.min(ratio * advantages",
        new="torch.max(ratio * advantages",
        says="the optimistic bound for the pessimistic one",
    ),
    "bounds_swapped": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 - clip_high, 1.0 + clip_low",
        says="the two bounds swapped",
    ),
    "one_bound": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 - clip_low, 1.0 + clip_low",
        says="one bound for both sides",
    ),
    "lower_bound_above": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 + clip_low, 1.0 + clip_high",
        says="the lower bound on the wrong side of 1",
        fails=("first_loss",),
    ),
    "padding_counted": Edit(
        function="average",
        old="(losses * mask).sum(dim=1)",
        new="losses.sum(dim=1)",
        says="what stands behind the end counts",
        fails=("first_loss",),
    ),
    "padded_length": Edit(
        function="average",
        old="lengths = mask.sum(dim=1)",
        new="lengths = torch.full_like(mask.sum(dim=1), mask.shape[1])",
        says="every completion is as long as the longest",
        fails=("first_loss",),
    ),
    "kinds_swapped": Edit(
        function="average",
        old='kind == "completions"',
        new='kind != "completions"',
        says="the mean of means where it was not asked for",
        fails=("first_loss",),
    ),
    "mean_of_nothing": Edit(
        function="average",
        old="sums / lengths.clamp(min=1)",
        new="sums / lengths",
        says="0 / 0 where a completion has no token",
    ),
    "longest_written": Edit(
        function="average",
        old="(sums / mask.shape[1])",
        new="(sums / lengths.amax())",
        says="the constant changes from batch to batch",
    ),
    "wrong_sign": Edit(
        function="grpo_loss",
        old="losses = -clipped_objective",
        new="losses = clipped_objective",
        says="lowers what is to be raised",
        fails=("greedy_after", "sampled_after"),
    ),
    "kl_wrong_sign": Edit(
        function="grpo_loss",
        old="losses + cfg.beta *",
        new="losses - cfg.beta *",
        says="pays for leaving the reference",
    ),
    "kl_other_way_round": Edit(
        function="grpo_loss",
        old='batch["ref_log_probs"] - log_probs',
        new='log_probs - batch["ref_log_probs"]',
        says="the estimate with policy and reference swapped: wrong as a value too",
    ),
    "token_ratio_only": Edit(
        function="grpo_loss",
        old="mask, cfg.ratio)",
        new='mask, "token")',
        says="never the ratio of the completion",
    ),
    "groups_torn": Edit(
        function="collect",
        old='advantages(batch["rewards"].view(-1, cfg.group_size), cfg.baseline',
        new='advantages(batch["rewards"].view(cfg.group_size, -1).T, cfg.baseline',
        says="makes groups of completions of different prompts, and gives advantages to the wrong ones",
    ),
    "reference_is_policy": Edit(
        function="collect",
        old="log_probs_of(reference, batch)",
        new="log_probs_of(policy, batch)",
        says="the divergence from itself: never a penalty",
    ),
    "trains_through_samples": Edit(
        function="collect",
        old="@torch.no_grad()\ndef collect",
        new="def collect",
        says="a batch that carries gradients",
    ),
    "dynamic_sampling": Edit(
        function="collect",
        old="    batch = tasks.answer(policy, task, rows.repeat_interleave(cfg.group_size), generator)\n",
        new=RESAMPLED,
        says="DAPO's dynamic sampling: groups that agree are drawn again",
    ),
    "reference_trains_along": Edit(
        function="train",
        old="        optimizer.lr = ",
        new="        reference = policy\n        optimizer.lr = ",
        says="the reference is the policy itself: the KL penalty holds nothing back",
    ),
}
