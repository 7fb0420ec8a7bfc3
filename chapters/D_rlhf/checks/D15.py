"""D15's functions against their definitions, and the named edits of the lesson."""

import itertools
import math
import sys

import numpy as np
import torch

from chapters.D_rlhf.checks.D5 import SHAPES, config, random_batch
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.utils.edits import Edit

CONSTANT = ("penalised_rewards", "exact_advantages")  # of the weights: with or without a gradient


def small_world(seed):
    """(world of 2 prompts and 7 completions each, a policy in it that is not the reference), in float64."""
    world = token_world(seed, num_symbols=3, length=2)
    policy = world.reference(torch.float64)
    with torch.no_grad():
        policy.table += 0.5 * torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(seed))
    return world, policy


def check_kl_estimate(kl_estimate):
    """Samples in exact proportion to the policy; single numbers by hand."""
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    ref = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    exact = sum(p * math.log(p / q) for p, q in zip(probs.tolist(), ref.tolist()))
    for kind in ("k1", "k3"):
        found = (probs * kl_estimate(probs.log(), ref.log(), kind)).sum()
        assert math.isclose(found, exact, rel_tol=1e-9), (
            f"mean of {kind}: expected {exact:.6g}, found {found:.6g}"
        )
    for p, q in itertools.product((0.1, 0.35, 0.9), repeat=2):
        expected = {
            "k1": math.log(p / q),
            "k2": math.log(p / q) ** 2 / 2,
            "k3": q / p - 1 - math.log(q / p),
        }
        for kind, value in expected.items():
            found = float(kl_estimate(torch.tensor([[math.log(p)]]), torch.tensor([[math.log(q)]]), kind))
            assert math.isclose(found, value, abs_tol=1e-6), f"{kind} of {p} against {q}: {found:.6g}"


def check_penalised_rewards(penalised_rewards):
    for seed, (num, length) in enumerate(SHAPES):
        _, old, ref, mask = random_batch(seed, num, length)
        rewards = torch.arange(num, dtype=torch.float64)
        found = penalised_rewards(rewards, old, ref, mask, 0.3)
        for b in range(num):
            ratio = sum(old[b, t].item() - ref[b, t].item() for t in range(length) if mask[b, t])
            expected = b - 0.3 * ratio
            assert math.isclose(found[b], expected, rel_tol=1e-9, abs_tol=1e-9), (
                f"completion {b}: {found[b]:.6g}"
            )


def check_token_losses(token_losses):
    """Token by token, for every place and every estimate: value and slope."""
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, old, ref, mask = random_batch(seed, num, length)
        log_probs.requires_grad_()
        judged = torch.linspace(-1.0, 2.0, num, dtype=torch.float64)
        batch = {"completion_mask": mask, "old_log_probs": old, "ref_log_probs": ref, "advantages": judged}
        for place, kind in itertools.product(("loss", "reward"), ("k1", "k2", "k3")):
            cfg = config(token_losses, beta=0.3, kl_in=place, kl_kind=kind)
            found = token_losses(log_probs, batch, cfg)
            (slope,) = torch.autograd.grad((found * mask).sum(), log_probs)
            found = found.detach()
            for b, t in itertools.product(range(num), range(length)):
                if not mask[b, t]:
                    continue
                w, a = math.exp(log_probs[b, t].item() - old[b, t].item()), judged[b].item()
                u = ref[b, t].item() - log_probs[b, t].item()
                value = {"k1": -u, "k2": u * u / 2, "k3": math.exp(u) - 1 - u}[kind]
                steep = {"k1": 1.0, "k2": -u, "k3": 1 - math.exp(u)}[kind]
                weight = 0.3 if place == "loss" else 0.0
                where = f"{kind} in the {place}, completion {b}, token {t}"
                assert math.isclose(found[b, t], -w * a + weight * value, rel_tol=1e-9, abs_tol=1e-12), where
                assert math.isclose(slope[b, t], -w * a + weight * steep, rel_tol=1e-9, abs_tol=1e-12), where


def check_exact_estimates(exact_estimates):
    """Values by sums over all completions, slopes by finite differences with the sampling held fixed."""
    world, policy = small_world(2)
    with torch.no_grad():
        held = world.log_probs(policy).exp() / world.num_prompts
        start = world.reference_log_probs()

    def whole(table, kind):
        policy.table.data.copy_(table)
        with torch.no_grad():
            lp = world.log_probs(policy)
        if kind == "exact":
            return float((lp.exp() * (lp - start)).sum() / world.num_prompts)
        u = start - lp
        return float((held * {"k1": -u, "k2": u**2 / 2, "k3": u.exp() - 1 - u}[kind]).sum())

    table, width = policy.table.detach().clone(), 1e-5
    wanted = {}
    for kind in ("exact", "k1", "k2", "k3"):
        wanted[kind] = torch.zeros_like(table)
        for at in itertools.product(*map(range, table.shape)):
            step = torch.zeros_like(table)
            step[at] = width
            wanted[kind][at] = (whole(table + step, kind) - whole(table - step, kind)) / (2 * width)
    values = {kind: whole(table, kind) for kind in wanted}
    policy.table.data.copy_(table)
    found = exact_estimates(world, policy)
    for name, kind in {"exact": "exact", **{f"{k}_completions": k for k in ("k1", "k2", "k3")}}.items():
        assert math.isclose(found[name].item(), values[kind], rel_tol=1e-9, abs_tol=1e-12), f"value of {name}"
    (slope,) = torch.autograd.grad(found["k1_reward"], policy.table, retain_graph=True)
    assert torch.allclose(slope, wanted["exact"], atol=1e-7), "k1 in the reward has the divergence's gradient"
    for name in ("k1_tokens", "k3_tokens"):
        assert math.isclose(found[name].item(), values["exact"], rel_tol=1e-9), f"value of {name}"
    for name, kind in {"exact": "exact", **{f"{k}_completions": k for k in ("k1", "k2", "k3")}}.items():
        (slope,) = torch.autograd.grad(found[name], policy.table, retain_graph=True)
        assert torch.allclose(slope, wanted[kind], atol=1e-7), f"slope of {name}"


def check_exact_advantages(exact_advantages):
    """A group that holds every completion in exact proportion; and one of equal rewards."""
    counts = torch.tensor([[1, 2, 3, 4], [4, 1, 4, 1]])
    rewards = torch.tensor([[0.5, -1.0, 2.0, 0.0], [3.0, 1.0, -2.0, 0.0]], dtype=torch.float64)
    for divide in (True, False):
        found = exact_advantages(rewards, counts.double() / 10.0, divide)
        for n in range(2):
            group = rewards[n].repeat_interleave(counts[n]).numpy()
            expected = (rewards[n].numpy() - group.mean()) / (group.std() if divide else 1.0)
            np.testing.assert_allclose(found[n], expected, rtol=1e-6)
    for constant in (0.0, 0.3, -0.7, 1e8 / 3.0):
        equal = torch.full((1, 7), constant, dtype=torch.float64)
        probs = torch.full((1, 7), 1.0 / 7.0, dtype=torch.float64)
        assert (exact_advantages(equal, probs, True) == 0.0).all(), f"all rewards {constant}: expected 0"


def gradient_by_hand(world, policy, cfg):
    """The expected gradient with respect to the table, by loops and without autograd."""
    table, ref_table = policy.table.detach().numpy(), world.reference_table.numpy()
    wanted = np.zeros_like(table)
    for n in range(world.num_prompts):
        texts = []
        for ids, mask in zip(world.completion_ids.tolist(), world.completion_mask.tolist()):
            written = [token for token, on in zip(ids, mask) if on]
            steps, prefix = [], [world.num_symbols + 1 + n]
            for token in written:
                row = int(policy.prefix_rows(torch.tensor([prefix]))[0, -1])
                p, q = (np.exp(t[row]) / np.exp(t[row]).sum() for t in (table, ref_table))
                steps.append((row, token, p, math.log(q[token]) - math.log(p[token])))
                prefix.append(token)
            texts.append((math.prod(p[token] for _, token, p, _ in steps), steps))
        probs = np.array([prob for prob, _ in texts])
        rewards = world.rewards[n].numpy().copy()
        if cfg.kl_in == "reward":
            rewards += cfg.beta * np.array([sum(u for *_, u in steps) for _, steps in texts])
        judged = rewards - (probs * rewards).sum()
        if cfg.divide:
            judged = judged / math.sqrt((probs * judged**2).sum())
        for (prob, steps), a in zip(texts, judged):
            per = {"completions": len(steps), "constant": world.length, "tokens": mean_length(world, policy)}
            for row, token, p, u in steps:
                slope = -a
                if cfg.kl_in == "loss":
                    slope += cfg.beta * {"k1": 1.0, "k2": -u, "k3": 1.0 - math.exp(u)}[cfg.kl_kind]
                chosen = (np.arange(len(p)) == token).astype(float)
                wanted[row] += prob / world.num_prompts * slope / per[cfg.average] * (chosen - p)
    return wanted


def mean_length(world, policy):
    """Expected number of tokens of a completion."""
    probs = world.log_probs(policy).detach().exp()
    return float((probs * world.completion_mask.sum(1)).sum() / world.num_prompts)


def check_expected_loss(expected_loss):
    """Its gradient against loops; with the penalty in the reward and undivided, the objective's own."""
    world, policy = small_world(3)
    rows = tasks.every_completion(world)
    for place, kind, divide, average in itertools.product(
        ("loss", "reward"), ("k1", "k2", "k3"), (True, False), ("completions", "tokens", "constant")
    ):
        cfg = config(expected_loss, beta=0.3, kl_in=place, kl_kind=kind, divide=divide, average=average)
        (found,) = torch.autograd.grad(expected_loss(policy, rows, world.rewards, cfg), policy.table)
        np.testing.assert_allclose(
            found, gradient_by_hand(world, policy, cfg), atol=1e-10,
            err_msg=f"{kind} in the {place}, divide {divide}, average {average}",
        )  # fmt: skip
    cfg = config(expected_loss, beta=0.3, kl_in="reward", divide=False, average="constant")
    (found,) = torch.autograd.grad(expected_loss(policy, rows, world.rewards, cfg), policy.table)
    (wanted,) = torch.autograd.grad(-world.objective(world.log_probs(policy), 0.3) / 2, policy.table)
    assert torch.allclose(found, wanted, atol=1e-10), "at a constant average it climbs the objective itself"


def check_collect(collect):
    """Groups stand together, and the penalty enters before the advantage."""
    module = sys.modules[collect.__module__]
    world, policy = small_world(1)
    reference, task = world.reference(torch.float64), tasks.world_task(world)
    for place, divide in itertools.product(("reward", "loss"), (False, True)):
        cfg = module.Config(num_prompts=5, group_size=6, beta=0.7, kl_in=place, divide=divide)
        data = collect(policy, reference, task, torch.Generator().manual_seed(0), cfg)
        assert not any(values.requires_grad for values in data.values())
        where = data["prompt_ids"][:, 0] - world.num_symbols - 1, world.rows(data["completion_ids"])
        ratio = (world.log_probs(policy).detach() - world.reference_log_probs())[where]
        assert ratio.abs().max() > 0.1
        assert torch.allclose((data["old_log_probs"] - data["ref_log_probs"]).sum(1), ratio)
        worth = world.rewards[where] - (0.7 * ratio if place == "reward" else 0.0)
        groups = worth.view(5, 6)
        expected = groups - groups.mean(1, keepdim=True)
        if divide:
            expected = expected / (groups.std(1, keepdim=True) + 1e-4)
        assert torch.allclose(data["advantages"].view(5, 6), expected), f"in the {place}, divide {divide}"
        prompts = data["prompt_ids"][:, 0].view(5, 6)
        assert (prompts == prompts[:, :1]).all()


EDITS = {
    "k1_upside_down": Edit(
        function="kl_estimate",
        old='"k1": -u',
        new='"k1": u',
        says="k1 with its sign turned",
    ),
    "k2_without_half": Edit(
        function="kl_estimate",
        old="0.5 * u**2",
        new="u**2",
        says="k2 without the half",
    ),
    "k3_sign": Edit(
        function="kl_estimate",
        old="u.exp() - 1.0 - u}",
        new="u.exp() - 1.0 + u}",
        says="k3 with the sign of its last term turned",
    ),
    "k3_other_way_round": Edit(
        function="kl_estimate",
        old="u.exp() - 1.0 - u}",
        new="(-u).exp() - 1.0 + u}",
        says="k3 with policy and reference swapped: an estimate of nothing",
        fails=("k3_value",),
    ),
    "k3_without_one": Edit(
        function="kl_estimate",
        old="u.exp() - 1.0 - u}",
        new="u.exp() - u}",
        says="k3 without the one: never 0, though its gradient is right",
    ),
    "reward_for_leaving": Edit(
        function="penalised_rewards",
        old="return rewards - beta *",
        new="return rewards + beta *",
        says="pays for leaving the reference",
        fails=("gap_grpo_kl",),
    ),
    "mean_of_ratios": Edit(
        function="penalised_rewards",
        old="* mask).sum(dim=1)",
        new="* mask).mean(dim=1)",
        says="the mean over tokens for the sum: less than the completion's divergence",
        fails=("gap_grpo_kl",),
    ),
    "padding_penalised": Edit(
        function="penalised_rewards",
        old="((old - ref) * mask)",
        new="(old - ref)",
        says="what stands behind the end is penalised",
    ),
    "penalty_subtracted": Edit(
        function="token_losses",
        old="losses + cfg.beta",
        new="losses - cfg.beta",
        says="the sign of the penalty in the loss",
        fails=("distance_stock",),
    ),
    "penalised_twice": Edit(
        function="token_losses",
        old='    if cfg.kl_in == "loss":\n',
        new="    if True:\n",
        says="penalises in the loss what the reward has paid already",
    ),
    "times_ratio": Edit(
        function="token_losses",
        old="cfg.beta * estimate",
        new="cfg.beta * estimate * ratio",
        says="each token's estimate times its ratio, as TRL has it: k3 gets the gradient of k2",
    ),
    "no_ratio": Edit(
        function="token_losses",
        old="losses = -ratio * ",
        new="losses = -ratio.detach() * ",
        says="a ratio without slope: only the penalty is learnt",
    ),
    "sees_the_sampling": Edit(
        function="exact_estimates",
        old="probs = whole.detach().exp()",
        new="probs = whole.exp()",
        says="autograd sees where the samples come from, as it never does on samples",
        fails=("gradient_k1_texts",),
    ),
    "reward_seen": Edit(
        function="exact_estimates",
        old="(whole - ref_whole).detach() * whole",
        new="(whole - ref_whole) * whole",
        says="the reward itself is differentiated",
    ),
    "padding_estimated": Edit(
        function="exact_estimates",
        old="(kl_estimate(log_probs, ref, kind) * mask)",
        new="(kl_estimate(log_probs - 1.0 * ~mask, ref, kind))",
        says="what stands behind the end has a divergence too",
    ),
    "plain_mean": Edit(
        function="exact_advantages",
        old="rewards - (probs * rewards).sum(dim=1, keepdim=True)",
        new="rewards - rewards.mean(dim=1, keepdim=True)",
        says="a mean over completions that forgets how likely they are",
        fails=("distance_stock",),
    ),
    "divides_by_variance": Edit(
        function="exact_advantages",
        old="(probs * centred**2).sum(dim=1, keepdim=True).sqrt()",
        new="(probs * centred**2).sum(dim=1, keepdim=True)",
        says="divides by the variance: beta is multiplied by it",
        fails=("distance_stock",),
    ),
    "spread_over_prompts": Edit(
        function="exact_advantages",
        old="spread = (probs * centred**2).sum(dim=1,",
        new="spread = (probs * centred**2).sum(dim=0,",
        says="the spread across prompts",
    ),
    "rounding_divided": Edit(
        function="exact_advantages",
        old="torch.where(spread > rounding, centred / spread, 0.0)",
        new="centred / spread",
        says="divides rounding by rounding where all rewards are equal",
    ),
    "weights_not_normalised": Edit(
        function="expected_loss",
        old="probs.flatten() / len(rewards)",
        new="probs.flatten()",
        says="sums over prompts instead of averaging",
    ),
    "every_completion_alike": Edit(
        function="expected_loss",
        old="weights = probs.flatten() / len(rewards)",
        new="weights = torch.full_like(probs.flatten(), 1.0 / probs.numel())",
        says="all completions alike, however seldom the policy writes them",
        fails=("distance_stock",),
    ),
    "no_penalty": Edit(
        function="expected_loss",
        old='    if cfg.kl_in == "reward":\n',
        new="    if False:\n",
        says="a penalty in the reward is forgotten",
    ),
    "sampling_differentiated": Edit(
        function="expected_loss",
        old="old = log_probs.detach()",
        new="old = log_probs",
        says="old and new are the same tensor: the ratio has no slope, the weights have",
    ),
    "leave_one_out": Edit(
        function="collect",
        old='"group_mean", cfg.divide',
        new='"leave_one_out", cfg.divide',
        says="compares with the others of the group, as RLOO does: the same up to a factor",
    ),
    "penalty_forgotten": Edit(
        function="collect",
        old='    if cfg.kl_in == "reward":\n',
        new="    if False:\n",
        says="a penalty in the reward is forgotten",
    ),
    "groups_torn": Edit(
        function="collect",
        old="rewards.view(-1, cfg.group_size)",
        new="rewards.view(cfg.group_size, -1).T",
        says="makes groups of completions of different prompts",
        fails=("gap_grpo_kl", "distance_stock"),
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
    "reference_trains_along": Edit(
        function="train",
        old="    optimizer = Adam(",
        new="    reference = policy\n    optimizer = Adam(",
        says="the reference is the policy itself: nothing is held",
        fails=("gap_grpo_kl", "distance_stock"),
    ),
}
