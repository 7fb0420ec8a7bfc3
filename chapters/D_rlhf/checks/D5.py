"""Definition checks for D5's public functions."""

import dataclasses
import itertools
import math
import sys

import numpy as np
import torch

from chapters.D_rlhf.checks import D2
from chapters.D_rlhf.evidence.D5_tools import encoded_world
from chapters.envs.token_world import token_world
from chapters.utils.edits import Edit

WRITES = "        completion_ids[:, t], completion_mask[:, t] = token, ~done\n"
ENDS = "        done = done | (token == eos_id)\n"
SHAPES = ((1, 2), (3, 4), (5, 2), (2, 9))


def batch(seed, num, length, dtype=torch.float64):
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
                    assert math.isclose(found[n, g], expected, rel_tol=1e-9, abs_tol=1e-9)
    assert advantages(torch.ones(2, 5)).abs().max() == 0.0, "a group that agrees has none, and no 0/0"


def check_informative(informative):
    rewards = torch.tensor(
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.5], [-1.0, -1.0, -1.0]]
    )
    assert informative(rewards).tolist() == [False, True, False, True, False]


def check_importance_ratio(importance_ratio):
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, old, _, mask = batch(seed, num, length)
        tokens = importance_ratio(log_probs, old, mask, "token")
        texts = importance_ratio(log_probs, old, mask, "sequence")
        assert tokens.shape == texts.shape == (num, length)
        for b in range(num):
            ratios = [math.exp(log_probs[b, t] - old[b, t]) for t in range(length) if mask[b, t]]
            for t in range(length):
                if mask[b, t]:
                    assert math.isclose(tokens[b, t], ratios[t], rel_tol=1e-9)
                    assert math.isclose(texts[b, t], math.prod(ratios) ** (1 / len(ratios)), rel_tol=1e-9)


def check_clipped_objective(clipped_objective):
    low, high = 0.2, 0.5
    ratio = torch.linspace(0.05, 2.5, 98, dtype=torch.float64).view(2, 49).requires_grad_()
    for advantage in (1.7, -0.6):
        found = clipped_objective(ratio, torch.full((2, 1), advantage, dtype=torch.float64), low, high)
        (slope,) = torch.autograd.grad(found.sum(), ratio)
        for w, value, s in zip(*(x.flatten().tolist() for x in (ratio, found, slope))):
            flat = w > 1 + high if advantage > 0 else w < 1 - low
            edge = (1 + high if advantage > 0 else 1 - low) * advantage
            assert math.isclose(value, edge if flat else w * advantage, rel_tol=1e-9)
            assert math.isclose(s, 0.0 if flat else advantage, abs_tol=1e-9)


def check_average(average):
    for seed, (num, length) in enumerate(SHAPES):
        losses, _, weights, mask = batch(seed, num, length)
        weights = weights[:, 0].softmax(0)
        for given in (None, weights):
            v = [1.0 / num] * num if given is None else given.tolist()
            sums = [sum(losses[b, t].item() for t in range(length) if mask[b, t]) for b in range(num)]
            sizes = [int(mask[b].sum()) for b in range(num)]
            expected = {
                "texts": sum(w * s / n for w, s, n in zip(v, sums, sizes)),
                "tokens": sum(w * s for w, s in zip(v, sums)) / sum(w * n for w, n in zip(v, sizes)),
                "constant": sum(w * s for w, s in zip(v, sums)) / 11,
            }
            for kind, value in expected.items():
                assert math.isclose(average(losses, mask, kind, 11, given), value, rel_tol=1e-9), kind


def check_kl_estimate(kl_estimate):
    """Samples in exact proportion to the policy; the best-known small case by hand."""
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    ref = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    exact = sum(p * math.log(p / q) for p, q in zip(probs.tolist(), ref.tolist()))
    for kind in ("k1", "k3"):
        found = (probs * kl_estimate(probs.log(), ref.log(), kind)).sum()
        assert math.isclose(found, exact, rel_tol=1e-9), kind
    for p, q in itertools.product((0.1, 0.35, 0.9), repeat=2):
        k1, k2, k3 = (
            float(kl_estimate(torch.tensor([[math.log(p)]]), torch.tensor([[math.log(q)]]), kind))
            for kind in ("k1", "k2", "k3")
        )
        assert math.isclose(k1, math.log(p / q), abs_tol=1e-6)
        assert math.isclose(k2, math.log(p / q) ** 2 / 2, abs_tol=1e-6)
        assert math.isclose(k3, q / p - 1 - math.log(q / p), abs_tol=1e-6)


def check_charged(charged):
    for seed, (num, length) in enumerate(SHAPES):
        _, old, ref, mask = batch(seed, num, length)
        rewards = torch.arange(num, dtype=torch.float64)
        found = charged(rewards, old, ref, mask, 0.3)
        for b in range(num):
            ratio = sum(old[b, t].item() - ref[b, t].item() for t in range(length) if mask[b, t])
            assert math.isclose(found[b], b - 0.3 * ratio, rel_tol=1e-9, abs_tol=1e-9)


def check_grpo_loss(grpo_loss):
    """Token by token, for every switch."""
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, old, ref, mask = batch(seed, num, length)
        judged = torch.linspace(-1.0, 2.0, num, dtype=torch.float64)
        data = {"completion_mask": mask, "old_log_probs": old, "ref_log_probs": ref, "advantages": judged}
        for ratio, kl_in, kl_ratio in itertools.product(
            ("token", "sequence"), ("loss", "reward"), (False, True)
        ):
            cfg = config(
                grpo_loss, beta=0.3, ratio=ratio, kl_in=kl_in, kl_ratio=kl_ratio, clip_low=0.1, clip_high=0.4
            )
            total = 0.0
            for b in range(num):
                size = int(mask[b].sum())
                steps = [log_probs[b, t].item() - old[b, t].item() for t in range(size)]
                for t in range(size):
                    w = math.exp(steps[t] if ratio == "token" else sum(steps) / size)
                    a = judged[b].item()
                    loss = -min(w * a, min(max(w, 0.9), 1.4) * a)
                    rho = ref[b, t].item() - log_probs[b, t].item()
                    if kl_in == "loss":
                        loss += 0.3 * (math.exp(rho) - 1 - rho) * (w if kl_ratio else 1.0)
                    total += loss / size / num
            assert math.isclose(grpo_loss(log_probs, data, cfg), total, rel_tol=1e-9, abs_tol=1e-12)


def check_sample(sample):
    D2.check_sample(sample)


def check_token_log_probs(token_log_probs):
    D2.check_token_log_probs(token_log_probs)


def check_positions(positions):
    D2.check_positions(positions)


def check_pass_at_k(pass_at_k):
    """Against all subsets; and where none or all are right."""
    for n, correct in ((4, [0, 1, 2, 4]), (6, [3, 5]), (7, [1])):
        for k in range(1, n + 1):
            shares = []
            for c in correct:
                subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
                shares.append(sum(any(subset) for subset in subsets) / len(subsets))
            assert math.isclose(pass_at_k(np.array(correct), n, k), sum(shares) / len(shares), rel_tol=1e-9)
    assert pass_at_k(np.array([32]), 64, 1) == 0.5


def check_exact_advantages(exact_advantages):
    """A group that holds every completion in exact proportion."""
    counts = torch.tensor([[1, 2, 3, 4], [4, 1, 4, 1]])
    rewards = torch.tensor([[0.5, -1.0, 2.0, 0.0], [3.0, 1.0, -2.0, 0.0]], dtype=torch.float64)
    for divide in (True, False):
        found = exact_advantages(rewards, counts / 10.0, divide)
        for n in range(2):
            group = rewards[n].repeat_interleave(counts[n]).numpy()
            expected = (rewards[n].numpy() - group.mean()) / (group.std() if divide else 1.0)
            assert np.allclose(found[n], expected, rtol=1e-6)


def check_expected_loss(expected_loss):
    """Its gradient is the sampled loss's, averaged; with the KL in the reward, the objective's own."""
    lesson, world = sys.modules[expected_loss.__module__], token_world(3, num_symbols=3, length=2)
    rows = lesson.enumerated(world)
    policy = world.reference(torch.float64)
    with torch.no_grad():
        policy.table += 0.5 * torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    same = {"beta": 0.3, "num_tokens": 2, "average": "constant"}
    cfg = config(expected_loss, kl_in="reward", divide=False, **same)
    (found,) = torch.autograd.grad(expected_loss(policy, rows, world.rewards, cfg), policy.table)
    (wanted,) = torch.autograd.grad(-world.objective(world.log_probs(policy), 0.3) / 2, policy.table)
    assert torch.allclose(found, wanted, atol=1e-10)
    task, size = lesson.Task(*encoded_world(world)), 40_000
    for changes in ({}, {"average": "texts"}, {"divide": False, "kl_kind": "k2"}):
        cfg = config(expected_loss, **same | {"num_prompts": 2, "group_size": size} | changes)
        (found,) = torch.autograd.grad(expected_loss(policy, rows, world.rewards, cfg), policy.table)
        data = lesson.answer_groups(policy, task, torch.arange(2), torch.Generator().manual_seed(1), cfg)
        data["old_log_probs"] = lesson.log_probs_of(policy, data).detach()
        data["ref_log_probs"] = lesson.log_probs_of(world.reference(torch.float64), data).detach()
        groups = data["rewards"].view(2, size)
        centred = groups - groups.mean(1, keepdim=True)
        data["advantages"] = (centred / groups.std(1, keepdim=True) if cfg.divide else centred).flatten()
        loss = lesson.grpo_loss(lesson.log_probs_of(policy, data), data, cfg)
        (sampled,) = torch.autograd.grad(loss, policy.table)
        assert (found - sampled).norm() < 0.05 * found.norm()


def check_collect(collect):
    """Groups stand together; the charge enters before the advantage; dynamic groups all differ."""
    lesson, world = sys.modules[collect.__module__], token_world(1, num_symbols=3, length=2)
    task = lesson.Task(*encoded_world(world))
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    with torch.no_grad():
        policy.table += torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    cfg = config(collect, num_prompts=5, group_size=6, num_tokens=2, beta=0.7, kl_in="reward", divide=False)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    data = collect(policy, reference, task, rng, generator, cfg)
    assert not any(values.requires_grad for values in data.values())
    ratio = (data["old_log_probs"] - data["ref_log_probs"]).sum(1)
    assert ratio.abs().max() > 0.1
    groups = (data["rewards"] - 0.7 * ratio).view(5, 6)
    assert torch.allclose(data["advantages"].view(5, 6), groups - groups.mean(1, keepdim=True))
    prompts = data["prompt_ids"][:, 0].view(5, 6)
    assert (prompts == prompts[:, :1]).all()
    few = task._replace(score=lambda rows, ids: (ids[:, 0] == 1).double())  # now and then a group agrees
    cfg = config(collect, num_prompts=8, group_size=2, num_tokens=2, dynamic_sampling=True)
    data = collect(policy, reference, few, rng, generator, cfg)
    groups = data["rewards"].view(-1, 2)
    assert len(groups) == 8
    assert (groups[:, 0] != groups[:, 1]).all()
    never = task._replace(score=lambda rows, ids: torch.zeros(len(ids)))
    assert collect(policy, reference, never, rng, generator, cfg) == {}


EDITS = {
    "spread_over_wrong_axis": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std(dim=0, keepdim=True)",
        says="spread over the wrong axis",
    ),
    "spread_whole_batch": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std()",
        says="spread of the whole batch",
    ),
    "spread_divided_g": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.std(dim=1, keepdim=True, correction=0)",
        says="spread divided by G",
    ),
    "variance_deviation": Edit(
        function="advantages",
        old="rewards.std(dim=1, keepdim=True)",
        new="rewards.var(dim=1, keepdim=True)",
        says="variance for deviation",
    ),
    "mean_over_wrong_axis": Edit(
        function="advantages",
        old="rewards - rewards.mean(dim=1",
        new="rewards - rewards.mean(dim=0",
        says="mean over the wrong axis",
    ),
    "baseline_holds_answer_itself": Edit(
        function="advantages",
        old="centred = centred * size / (size - 1)",
        new="centred = centred",
        says="the baseline holds the answer itself",
    ),
    "factor_turned_over": Edit(
        function="advantages",
        old="centred * size / (size - 1)",
        new="centred * (size - 1) / size",
        says="the factor turned over",
    ),
    "no_guard_against_zero": Edit(
        function="advantages",
        old="keepdim=True) + EPS)",
        new="keepdim=True))",
        says="no guard against zero",
    ),
    "always_divided": Edit(
        function="advantages",
        old="    if divide:\n        centred = centred / (rewards.std",
        new="    if True:\n        centred = centred / (rewards.std",
        says="always divided",
    ),
    "any_reward_at_all": Edit(
        function="informative",
        old="> rewards.amin(dim=1)",
        new="> 0",
        says="any reward at all",
    ),
    "not_all_right": Edit(
        function="informative",
        old="return rewards.amax(dim=1) > rewards.amin(dim=1)",
        new="return rewards.amin(dim=1) < 1",
        says="not all right",
    ),
    "sequence_ratio_without_length": Edit(
        function="importance_ratio",
        old=" / mask.sum(dim=1, keepdim=True)).expand_as",
        new=").expand_as",
        says="sequence ratio without length normalisation",
    ),
    "mean_over_padding_too": Edit(
        function="importance_ratio",
        old=" / mask.sum(dim=1, keepdim=True)).expand_as",
        new=" / mask.shape[1]).expand_as",
        says="mean over padding too",
    ),
    "old_over_new": Edit(
        function="importance_ratio",
        old="(log_probs - old_log_probs) * mask",
        new="(old_log_probs - log_probs) * mask",
        says="old over new",
    ),
    "padding_counted": Edit(
        function="importance_ratio",
        old="(log_probs - old_log_probs) * mask",
        new="(log_probs - old_log_probs)",
        says="padding counted",
    ),
    "max_min": Edit(
        function="clipped_objective",
        old="torch.min(ratio * advantages",
        new="torch.max(ratio * advantages",
        says="max for min",
    ),
    "clip_alone": Edit(
        function="clipped_objective",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="clip alone",
    ),
    "bounds_swapped": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 - clip_high, 1.0 + clip_low",
        says="bounds swapped",
    ),
    "one_bound_both": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 - clip_low, 1.0 + clip_low",
        says="one bound for both",
    ),
    "clip_sign": Edit(
        function="clipped_objective",
        old="1.0 - clip_low, 1.0 + clip_high",
        new="1.0 + clip_low, 1.0 + clip_high",
        says="clip sign",
    ),
    "tokens_after_eos_counted": Edit(
        function="average",
        old="(losses * mask).sum(dim=1)  # [B]",
        new="losses.sum(dim=1)  # [B]",
        says="tokens after EOS counted",
    ),
    "length_padded_text": Edit(
        function="average",
        old="lengths, sums = mask.sum(dim=1)",
        new="lengths, sums = mask.long().sum(dim=1) * 0 + mask.shape[1]",
        says="length of the padded text",
    ),
    "texts_tokens_swapped": Edit(
        function="average",
        old='kind == "texts"',
        new='kind != "texts"',
        says="texts and tokens swapped",
    ),
    "weights_forgotten": Edit(
        function="average",
        old="return (weights * sums / lengths).sum()",
        new="return (sums / lengths).mean()",
        says="weights forgotten",
    ),
    "unweighted_lengths": Edit(
        function="average",
        old="/ (weights * lengths).sum()",
        new="/ lengths.sum()",
        says="unweighted lengths",
    ),
    "lengths_constant": Edit(
        function="average",
        old="(weights * sums).sum() / num_tokens",
        new="(weights * sums).sum() / mask.shape[1]",
        says="lengths for the constant",
    ),
    "k1_s_sign": Edit(
        function="kl_estimate",
        old='"k1": -rho',
        new='"k1": rho',
        says="k1's sign",
    ),
    "k3_s_sign": Edit(
        function="kl_estimate",
        old="rho.exp() - 1.0 - rho}",
        new="rho.exp() - 1.0 + rho}",
        says="k3's sign",
    ),
    "k3_other_way_round": Edit(
        function="kl_estimate",
        old="rho.exp() - 1.0 - rho}",
        new="(-rho).exp() - 1.0 + rho}",
        says="k3 the other way round",
    ),
    "k3_without_one": Edit(
        function="kl_estimate",
        old="rho.exp() - 1.0 - rho}",
        new="rho.exp() - rho}",
        says="k3 without the one",
    ),
    "k2_without_half": Edit(
        function="kl_estimate",
        old="0.5 * rho**2",
        new="rho**2",
        says="k2 without the half",
    ),
    "paid_leaving": Edit(
        function="charged",
        old="return rewards - beta *",
        new="return rewards + beta *",
        says="paid for leaving",
    ),
    "mean_sum": Edit(
        function="charged",
        old="* mask).sum(dim=1)  # eq. (8)",
        new="* mask).mean(dim=1)  # eq. (8)",
        says="mean for sum",
    ),
    "padding_charged": Edit(
        function="charged",
        old="((old_log_probs - ref_log_probs) * mask)",
        new="(old_log_probs - ref_log_probs)",
        says="padding charged",
    ),
    "sign": Edit(
        function="grpo_loss",
        old="losses = -clipped_objective",
        new="losses = clipped_objective",
        says="sign",
    ),
    "sign_kl": Edit(
        function="grpo_loss",
        old="losses + cfg.beta * distance",
        new="losses - cfg.beta * distance",
        says="sign of the KL",
    ),
    "charged_twice": Edit(
        function="grpo_loss",
        old='if cfg.beta and cfg.kl_in == "loss":',
        new="if cfg.beta:",
        says="charged twice",
    ),
    "ratio_always": Edit(
        function="grpo_loss",
        old="(ratio if cfg.kl_ratio else 1.0)",
        new="ratio",
        says="ratio always",
    ),
    "ratio_tokens_only": Edit(
        function="grpo_loss",
        old="mask, cfg.ratio)",
        new='mask, "token")',
        says="ratio of tokens only",
    ),
    "mask_after_eos": Edit(
        function="sample",
        old="token, ~done\n",
        new="token, torch.ones_like(done)\n",
        says="mask after EOS",
    ),
    "eos_left_out": Edit(
        function="sample",
        old="        completion_ids[:, t], completion_mask[:, t] = token, ~done\n        done = done | (token == eos_id)\n",
        new="        done = done | (token == eos_id)\n        completion_ids[:, t], completion_mask[:, t] = token, ~done\n",
        says="EOS left out",
    ),
    "off_one": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, prompt_ids.shape[1] :]",
        says="off by one",
    ),
    "token_log_probs_padding_counted": Edit(
        function="token_log_probs",
        old="return chosen.masked_fill(~completion_mask, 0.0)",
        new="return chosen",
        says="padding counted",
    ),
    "positions_padding_counted": Edit(
        function="positions",
        old="(mask.cumsum(1) - 1)",
        new="(torch.ones_like(mask).cumsum(1) - 1)",
        says="padding counted",
    ),
    "replacement": Edit(
        function="pass_at_k",
        old="math.comb(num_samples - int(c), k) / math.comb(num_samples, k)",
        new="(1 - int(c) / num_samples) ** k",
        says="with replacement",
    ),
    "all_right": Edit(
        function="pass_at_k",
        old="math.comb(num_samples - int(c), k) /",
        new="math.comb(int(c), k) /",
        says="all right",
    ),
    "chance_fail": Edit(
        function="pass_at_k",
        old="return 1.0 - float(np.mean(all_wrong))",
        new="return float(np.mean(all_wrong))",
        says="the chance to fail",
    ),
    "plain_mean": Edit(
        function="exact_advantages",
        old="rewards - (probs * rewards).sum(dim=1, keepdim=True)",
        new="rewards - rewards.mean(dim=1, keepdim=True)",
        says="plain mean",
    ),
    "exact_advantages_variance_deviation": Edit(
        function="exact_advantages",
        old="(probs * centred**2).sum(dim=1, keepdim=True).sqrt()  # eq. (10)",
        new="(probs * centred**2).sum(dim=1, keepdim=True)  # eq. (10)",
        says="variance for deviation",
    ),
    "over_prompts": Edit(
        function="exact_advantages",
        old="centred / (probs * centred**2).sum(dim=1",
        new="centred / (probs * centred**2).sum(dim=0",
        says="over the prompts",
    ),
    "weights_not_normalised": Edit(
        function="expected_loss",
        old="probs.flatten() / len(rewards)",
        new="probs.flatten()",
        says="weights not normalised",
    ),
    "every_completion_alike": Edit(
        function="expected_loss",
        old="weights=probs.flatten() / len(rewards)",
        new="weights=torch.ones_like(probs.flatten()) / probs.numel()",
        says="every completion alike",
    ),
    "no_charge": Edit(
        function="expected_loss",
        old='    if cfg.kl_in == "reward":\n        rewards = charged(rewards.flatten()',
        new="    if False:\n        rewards = charged(rewards.flatten()",
        says="no charge",
    ),
    "sampling_differentiated": Edit(
        function="expected_loss",
        old="old, mask = log_probs.detach(), batch",
        new="old, mask = log_probs, batch",
        says="sampling differentiated",
    ),
    "collect_no_charge": Edit(
        function="collect",
        old='    if cfg.kl_in == "reward":\n        names',
        new="    if False:\n        names",
        says="no charge",
    ),
    "groups_torn_apart": Edit(
        function="collect",
        old="advantages(rewards.view(-1, cfg.group_size), cfg.baseline",
        new="advantages(rewards.view(cfg.group_size, -1).T, cfg.baseline",
        says="groups torn apart",
    ),
    "keeps_groups_agree": Edit(
        function="collect",
        old="keep = informative(",
        new="keep = ~informative(",
        says="keeps groups that agree",
    ),
    "reference_policy_swapped": Edit(
        function="collect",
        old="log_probs_of(reference, batch) if cfg.beta",
        new="log_probs_of(policy, batch) if cfg.beta",
        says="reference and policy swapped",
    ),
    "trains_through_samples": Edit(
        function="collect",
        old="@torch.no_grad()\ndef collect",
        new="def collect",
        says="trains through the samples",
    ),
}
