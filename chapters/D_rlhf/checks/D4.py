"""Definition checks of D4: each function against its equation, one pair and one token at a time."""

import dataclasses
import math
import sys
from types import SimpleNamespace

import numpy as np
import torch

from chapters.envs.token_world import token_world
from chapters.utils.edits import Edit

NUM_IDS, P, T = 7, 4, 6


class Toy(torch.nn.Module):
    """A causal model in 64 bit whose logits depend on every attended token and on its position."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = {"words": (NUM_IDS, 5), "places": (P + T, 5), "out": (5, NUM_IDS)}
        for name, shape in shapes.items():
            numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
            setattr(self, name, torch.nn.Parameter(numbers))

    def forward(self, input_ids, attention_mask, position_ids, **_):
        seen = self.words[input_ids] * self.places[position_ids] * attention_mask[..., None]
        return SimpleNamespace(logits=seen.cumsum(1).tanh() @ self.out)

    def log_probs(self, prompt, completion):
        """log pi of each completion token, from lists without padding."""
        found = []
        for t, token in enumerate(completion):
            text = [*prompt, *completion[:t]]
            state = sum(self.words[word] * self.places[place] for place, word in enumerate(text))
            found.append((state.tanh() @ self.out).log_softmax(-1)[token].item())
        return found


def random_pairs(seed, num_pairs=9, padded=True):
    """(pairs, [(prompt, (chosen, rejected), their reference log-probabilities)] as lists without padding)."""
    rng = np.random.default_rng(seed)
    # padding is filled with ordinary tokens and numbers: only a mask can tell
    pairs = {
        "prompt_ids": torch.full((num_pairs, P), 3), "prompt_mask": torch.zeros(num_pairs, P).long(),
        "completion_ids": torch.full((num_pairs, 2, T), 3),
        "completion_mask": torch.zeros(num_pairs, 2, T).bool(),
        "ref_log_probs": torch.from_numpy(-rng.exponential(size=(num_pairs, 2, T))),
        "labels": torch.from_numpy(rng.random(num_pairs)),
    }  # fmt: skip
    plain = []
    for b in range(num_pairs):
        prompt = rng.integers(1, NUM_IDS, size=rng.integers(1, P + 1) if padded else P)
        pairs["prompt_ids"][b, P - len(prompt) :] = torch.from_numpy(prompt)
        pairs["prompt_mask"][b, P - len(prompt) :] = 1
        sides, reference = [], []
        for side in range(2):
            completion = rng.integers(1, NUM_IDS, size=rng.integers(1, T + 1))
            pairs["completion_ids"][b, side, : len(completion)] = torch.from_numpy(completion)
            pairs["completion_mask"][b, side, : len(completion)] = True
            sides.append(completion.tolist())
            reference.append(pairs["ref_log_probs"][b, side, : len(completion)].tolist())
        plain.append((prompt.tolist(), sides, reference))
    return pairs, plain


def total(numbers, average):
    return sum(numbers) / (len(numbers) if average else 1)


def ratios_of(toy, plain, average=False):
    """h of both completions of each pair, by the definition."""
    return [
        [total(toy.log_probs(prompt, y), average) - total(ref, average) for y, ref in zip(sides, reference)]
        for prompt, sides, reference in plain
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def check_preference(preference):
    rng = np.random.default_rng(0)
    for shape in ((1,), (8,), (3, 4)):
        a, b = torch.from_numpy(3 * rng.normal(size=(2, *shape)))
        found = preference(a, b)
        for p, x, y in zip(found.flatten(), a.flatten(), b.flatten()):
            assert math.isclose(p, math.exp(x) / (math.exp(x) + math.exp(y)), rel_tol=1e-9)


def check_implicit_rewards(implicit_rewards):
    """Given the optimum of a reward, differences of implicit rewards are those of the reward."""
    rng = np.random.default_rng(1)
    for beta in (0.1, 0.5, 2.0):
        reference, reward = rng.dirichlet(np.ones(6)), rng.normal(size=6)
        best = reference * np.exp(reward / beta)
        h = np.log(best / best.sum() / reference)
        pairs = rng.integers(6, size=(10, 2))
        found = implicit_rewards(torch.from_numpy(h[pairs]), beta).numpy()
        assert np.allclose(found[:, 0] - found[:, 1], reward[pairs[:, 0]] - reward[pairs[:, 1]])


def random_ratios(seed):
    rng = np.random.default_rng(seed)
    for size in (1, 5, 30):
        labels = np.where(rng.random(size) < 0.5, rng.random(size), rng.integers(2, size=size))
        yield torch.from_numpy(4 * rng.normal(size=(size, 2))), torch.from_numpy(labels)


def check_dpo_loss(dpo_loss):
    for ratios, labels in random_ratios(2):
        for beta in (0.1, 0.7, 2.0):
            found = dpo_loss(ratios, labels, beta)
            assert found.shape == labels.shape
            for loss, (chosen, rejected), p in zip(found, ratios.tolist(), labels.tolist()):
                wins, loses = sigmoid(beta * (chosen - rejected)), sigmoid(beta * (rejected - chosen))
                assert math.isclose(
                    loss, -p * math.log(wins) - (1 - p) * math.log(loses), rel_tol=1e-7, abs_tol=1e-12
                )
    far = dpo_loss(torch.tensor([[-2000.0, 2000.0]]), torch.ones(1), 1.0)
    assert math.isclose(far, 4000.0, rel_tol=1e-6), "no overflow where the policy is quite wrong"


def check_gradient_weight(gradient_weight):
    """Minus the loss's slope by the margin, as a finite difference of the definition."""

    def loss(m, p):
        return -p * math.log(sigmoid(m)) - (1 - p) * math.log(sigmoid(-m))

    for ratios, labels in random_ratios(3):
        for beta in (0.1, 0.7, 2.0):
            found = gradient_weight(ratios, labels, beta)
            for weight, (chosen, rejected), p in zip(found.tolist(), ratios.tolist(), labels.tolist()):
                m = beta * (chosen - rejected)
                slope = (loss(m + 1e-5, p) - loss(m - 1e-5, p)) / 2e-5
                assert math.isclose(weight, -slope, rel_tol=1e-5, abs_tol=1e-8)


def check_ipo_loss(ipo_loss):
    for ratios, labels in random_ratios(4):
        for beta in (0.1, 0.7, 2.0):
            found = ipo_loss(ratios, labels, beta)
            for loss, (chosen, rejected), p in zip(found, ratios.tolist(), labels.tolist()):
                gap = chosen - rejected
                expected = p * (gap - 0.5 / beta) ** 2 + (1 - p) * (-gap - 0.5 / beta) ** 2
                assert math.isclose(loss, expected, rel_tol=1e-9, abs_tol=1e-12)


def check_token_log_probs(token_log_probs):
    toy, (pairs, plain) = Toy(5), random_pairs(5)
    for side in range(2):
        ids, mask = pairs["completion_ids"][:, side], pairs["completion_mask"][:, side]
        found = token_log_probs(toy, pairs["prompt_ids"], pairs["prompt_mask"], ids, mask)
        assert found.shape == (len(plain), T)
        for row, (prompt, sides, _) in zip(found.tolist(), plain):
            length = len(sides[side])
            assert np.allclose(row[:length], toy.log_probs(prompt, sides[side]), atol=1e-10)
            assert row[length:] == [0.0] * (T - length), "what stands behind the end is not counted"


def check_sequence_log_probs(sequence_log_probs):
    pairs, plain = random_pairs(6)  # behind the end stand numbers that must not count
    for side in range(2):
        for average in (False, True):
            mask = pairs["completion_mask"][:, side]
            found = sequence_log_probs(pairs["ref_log_probs"][:, side], mask, average)
            expected = [total(reference[side], average) for _, _, reference in plain]
            assert np.allclose(found, expected, rtol=1e-9)
    assert np.allclose(
        sequence_log_probs(pairs["ref_log_probs"][:, 0], pairs["completion_mask"][:, 0]),
        [sum(reference[0]) for _, _, reference in plain],
    ), "the sum if nothing is said"


def check_completion_log_probs(completion_log_probs):
    toy, (pairs, plain) = Toy(7), random_pairs(7)
    for num_groups in (1, 2, 4, 7):
        found = completion_log_probs(toy, pairs, num_groups)
        assert found.shape == pairs["completion_mask"].shape
        for rows, (prompt, sides, _) in zip(found.tolist(), plain):
            for row, completion in zip(rows, sides):
                padding = [0.0] * (T - len(completion))
                assert np.allclose(row, toy.log_probs(prompt, completion) + padding, atol=1e-10)


def check_log_ratios(log_ratios):
    lesson, toy, (pairs, plain) = sys.modules[log_ratios.__module__], Toy(8), random_pairs(8)
    for average in (False, True):
        cfg = lesson.Config(average=average, num_groups=3)
        assert np.allclose(log_ratios(toy, pairs, cfg).detach(), ratios_of(toy, plain, average), atol=1e-10)
        along = log_ratios(toy, pairs, dataclasses.replace(cfg, reference_trains_along=True))
        assert along.abs().max() == 0.0
        (slope,) = torch.autograd.grad(along[:, 0].sum(), toy.out)
        assert slope.abs().max() > 0.1, "with itself for a reference the value is 0 and the gradient is not"


def check_pair_loss(pair_loss):
    """The value by the definition; the gradient by finite differences in every parameter."""
    lesson, (pairs, plain) = sys.modules[pair_loss.__module__], random_pairs(9)
    for loss, average, smoothing, beta in (
        ("dpo", False, 0.0, 0.3), ("dpo", True, 0.0, 2.0), ("dpo", False, 0.2, 0.1), ("ipo", False, 0.0, 0.3),
        ("ipo", True, 0.1, 0.5),
    ):  # fmt: skip
        toy, expected = Toy(9), 0.0
        cfg = lesson.Config(loss=loss, average=average, label_smoothing=smoothing, beta=beta, num_groups=2)
        for (chosen, rejected), label in zip(ratios_of(toy, plain, average), pairs["labels"].tolist()):
            p, gap = (1 - smoothing) * label + smoothing * (1 - label), chosen - rejected
            if loss == "dpo":
                expected -= p * math.log(sigmoid(beta * gap)) + (1 - p) * math.log(sigmoid(-beta * gap))
            else:
                expected += p * (gap - 0.5 / beta) ** 2 + (1 - p) * (gap + 0.5 / beta) ** 2
        found, ratios = pair_loss(toy, pairs, cfg)
        assert math.isclose(found.item(), expected / len(plain), rel_tol=1e-9)
        assert np.allclose(ratios.detach(), ratios_of(toy, plain, average), atol=1e-10)
        found.backward()
        for parameter in toy.parameters():
            values, slopes = parameter.data.view(-1), parameter.grad.view(-1)
            for i in range(0, len(values), 3):
                sides = []
                for step in (1e-5, -2e-5):
                    values[i] += step
                    sides.append(pair_loss(toy, pairs, cfg)[0].item())
                values[i] += 1e-5
                assert math.isclose((sides[0] - sides[1]) / 2e-5, slopes[i], rel_tol=1e-4, abs_tol=1e-6)


def check_add_reference(add_reference):
    toy, (pairs, plain) = Toy(10), random_pairs(10)
    found = add_reference(pairs, toy, 2)
    assert not found["ref_log_probs"].requires_grad, "the reference is a constant"
    for rows, (prompt, sides, _) in zip(found["ref_log_probs"].tolist(), plain):
        for row, completion in zip(rows, sides):
            assert np.allclose(row[: len(completion)], toy.log_probs(prompt, completion), atol=1e-10)
    assert torch.equal(found["labels"], pairs["labels"])


def check_draw_pairs(draw_pairs):
    world, num = token_world(3, num_symbols=3, length=2), 40_000
    weights = torch.rand(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prompts = torch.arange(2).repeat_interleave(num // 2)
    for labels in ("soft", "hard", "sampled"):
        pairs = draw_pairs(world, weights, num, labels, torch.Generator().manual_seed(1))
        assert torch.equal(pairs["prompt_ids"], world.prompt_ids[prompts])
        rows = torch.stack([world.rows(pairs["completion_ids"][:, side]) for side in range(2)], dim=1)
        assert torch.equal(pairs["completion_mask"], world.completion_mask[rows])
        for prompt in range(2):
            joint = torch.zeros(7, 7).index_put_(
                tuple(rows[prompts == prompt].T), torch.tensor(2.0 / num), accumulate=True
            )
            share = weights[prompt] / weights[prompt].sum()
            assert (joint - share[:, None] * share[None]).abs().max() < 0.01, "two independent draws"
        gap = (world.rewards[prompts, rows[:, 0]] - world.rewards[prompts, rows[:, 1]]).float()
        if labels == "soft":
            assert torch.allclose(pairs["labels"], 1 / (1 + (-gap).exp()), atol=1e-6)
        elif labels == "hard":
            assert torch.equal(pairs["labels"][gap > 0], torch.ones(int((gap > 0).sum())))
            assert torch.equal(pairs["labels"][gap < 0], torch.zeros(int((gap < 0).sum())))
            assert (pairs["labels"][gap == 0] == 0.5).all()
        else:
            assert set(pairs["labels"].tolist()) == {0.0, 1.0}
            for sign in (-1, 1):
                some = gap.sign() == sign
                error = pairs["labels"][some].mean() - (1 / (1 + (-gap[some]).exp())).mean()
                assert error.abs() < 0.02


def check_chance_to_win(chance_to_win):
    world = token_world(4, num_symbols=3, length=3)
    probs = world.reference_log_probs().exp()
    for hard in (False, True):
        found = chance_to_win(world, hard)
        for n in range(2):
            for y, mine in enumerate(world.rewards[n].tolist()):
                expected = 0.0
                for other, prob in zip(world.rewards[n].tolist(), probs[n].tolist()):
                    verdict = 0.5 if mine == other else float(mine > other)
                    expected += prob * (verdict if hard else sigmoid(mine - other))
                assert math.isclose(found[n, y], expected, rel_tol=1e-9)


def check_optimal_displacement(optimal_displacement):
    world, beta = token_world(5, num_symbols=3, length=2), 0.4
    probs = world.reference_log_probs().exp().numpy()
    moved, rewards = np.zeros(2), world.rewards.numpy()
    for n in range(2):
        best = probs[n] * np.exp(rewards[n] / beta)
        h = np.log(best / best.sum() / probs[n])
        for a in range(7):
            for b in range(7):
                wins = sigmoid(rewards[n, a] - rewards[n, b])
                share = probs[n, a] * probs[n, b] / 2  # of the prompts, one in two
                moved += share * (wins * np.array([h[a], h[b]]) + (1 - wins) * np.array([h[b], h[a]]))
    assert np.allclose(optimal_displacement(world, beta), moved, rtol=1e-9)


def check_count_prompt(count_prompt):
    """The new completion is the old one behind all but the first token of the prompt."""
    pairs, plain = random_pairs(11, padded=False)
    found = count_prompt(pairs)
    for b, (prompt, sides, _) in enumerate(plain):
        assert found["prompt_ids"][b].tolist() == prompt[:1]
        assert found["prompt_mask"][b].tolist() == [1]
        for side, completion in enumerate(sides):
            mask = found["completion_mask"][b, side]
            assert found["completion_ids"][b, side][mask].tolist() == prompt[1:] + completion


EDITS = {
    "sign_difference": Edit(
        function="preference",
        old="return (chosen - rejected).sigmoid()",
        new="return (rejected - chosen).sigmoid()",
        says="sign of the difference",
    ),
    "no_difference": Edit(
        function="preference",
        old="return (chosen - rejected).sigmoid()",
        new="return chosen.sigmoid()",
        says="no difference",
    ),
    "beta_missing": Edit(
        function="implicit_rewards",
        old="return beta * log_ratios",
        new="return log_ratios",
        says="beta missing",
    ),
    "beta_upside_down": Edit(
        function="implicit_rewards",
        old="return beta * log_ratios",
        new="return log_ratios / beta",
        says="beta upside down",
    ),
    "sign_margin": Edit(
        function="dpo_loss",
        old="-labels * F.logsigmoid(margin) - (1 - labels) * F.logsigmoid(-margin)",
        new="-labels * F.logsigmoid(-margin) - (1 - labels) * F.logsigmoid(margin)",
        says="sign of the margin",
    ),
    "chosen_rejected_swapped": Edit(
        function="dpo_loss",
        old="margin = rewards[:, 0] - rewards[:, 1]",
        new="margin = rewards[:, 1] - rewards[:, 0]",
        says="chosen and rejected swapped",
    ),
    "dpo_loss_beta_missing": Edit(
        function="dpo_loss",
        old="    rewards = implicit_rewards(log_ratios, beta)\n    margin",
        new="    rewards = log_ratios\n    margin",
        says="beta missing",
    ),
    "sign_loss": Edit(
        function="dpo_loss",
        old="return -labels * F.logsigmoid(margin) -",
        new="return labels * F.logsigmoid(margin) +",
        says="sign of the loss",
    ),
    "labels_ignored": Edit(
        function="dpo_loss",
        old="return -labels * F.logsigmoid(margin) - (1 - labels)",
        new="return -F.logsigmoid(margin) - 0 * (1 - labels)",
        says="labels ignored",
    ),
    "log_sigmoid_0": Edit(
        function="dpo_loss",
        old="return -labels * F.logsigmoid(margin)",
        new="return -labels * margin.sigmoid().log()",
        says="log of a sigmoid that is 0",
    ),
    "sign": Edit(
        function="gradient_weight",
        old="return labels - preference(rewards[:, 0], rewards[:, 1])",
        new="return preference(rewards[:, 0], rewards[:, 1]) - labels",
        says="sign",
    ),
    "gradient_weight_chosen_rejected_swapped": Edit(
        function="gradient_weight",
        old="return labels - preference(rewards[:, 0], rewards[:, 1])",
        new="return labels - preference(rewards[:, 1], rewards[:, 0])",
        says="chosen and rejected swapped",
    ),
    "gradient_weight_labels_ignored": Edit(
        function="gradient_weight",
        old="return labels - preference(rewards[:, 0]",
        new="return 1 - preference(rewards[:, 0]",
        says="labels ignored",
    ),
    "target_1_beta": Edit(
        function="ipo_loss",
        old="target = log_ratios[:, 0] - log_ratios[:, 1], 1 / (2 * beta)",
        new="target = log_ratios[:, 0] - log_ratios[:, 1], 1 / beta",
        says="target 1 / beta",
    ),
    "target_beta_2": Edit(
        function="ipo_loss",
        old="target = log_ratios[:, 0] - log_ratios[:, 1], 1 / (2 * beta)",
        new="target = log_ratios[:, 0] - log_ratios[:, 1], beta / 2",
        says="target beta / 2",
    ),
    "ipo_loss_chosen_rejected_swapped": Edit(
        function="ipo_loss",
        old="target = log_ratios[:, 0] - log_ratios[:, 1],",
        new="target = log_ratios[:, 1] - log_ratios[:, 0],",
        says="chosen and rejected swapped",
    ),
    "not_squared": Edit(
        function="ipo_loss",
        old="labels * (gap - target) ** 2",
        new="labels * (gap - target).abs()",
        says="not squared",
    ),
    "other_side_asks_same": Edit(
        function="ipo_loss",
        old="(1 - labels) * (gap + target) ** 2",
        new="(1 - labels) * (gap - target) ** 2",
        says="the other side asks for the same",
    ),
    "logits_off_one": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, prompt_ids.shape[1] :]",
        says="logits off by one",
    ),
    "prompt_not_masked": Edit(
        function="token_log_probs",
        old="predicting = logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="completion_ids = ids[:, 1:]; completion_mask = mask[:, 1:].bool(); predicting = logits[:, :-1]",
        says="prompt not masked",
    ),
    "padding_counted": Edit(
        function="token_log_probs",
        old="return chosen.masked_fill(~completion_mask, 0.0)",
        new="return chosen",
        says="padding counted",
    ),
    "padding_attended": Edit(
        function="token_log_probs",
        old="attention_mask=mask, position_ids=positions(mask)).logits",
        new="attention_mask=torch.ones_like(mask), position_ids=positions(mask)).logits",
        says="padding attended to",
    ),
    "positions_count_padding": Edit(
        function="token_log_probs",
        old="attention_mask=mask, position_ids=positions(mask)).logits",
        new="attention_mask=mask, position_ids=positions(torch.ones_like(mask))).logits",
        says="positions count the padding",
    ),
    "sequence_log_probs_padding_counted": Edit(
        function="sequence_log_probs",
        old="total = (token_log_probs * completion_mask).sum(1)",
        new="total = token_log_probs.sum(1)",
        says="padding counted",
    ),
    "mean_over_padding_too": Edit(
        function="sequence_log_probs",
        old="return total / completion_mask.sum(1) if average",
        new="return total / completion_mask.shape[1] if average",
        says="mean over the padding too",
    ),
    "mean_default": Edit(
        function="sequence_log_probs",
        old="average: bool = False\n) -> Vector:",
        new="average: bool = True\n) -> Vector:",
        says="mean by default",
    ),
    "average_ignored": Edit(
        function="sequence_log_probs",
        old="return total / completion_mask.sum(1) if average else total",
        new="return total",
        says="average ignored",
    ),
    "order_not_restored": Edit(
        function="completion_log_probs",
        old="torch.cat(parts)[order.argsort()]",
        new="torch.cat(parts)",
        says="order not restored",
    ),
    "restored_wrong_way": Edit(
        function="completion_log_probs",
        old="torch.cat(parts)[order.argsort()]",
        new="torch.cat(parts)[order]",
        says="restored the wrong way",
    ),
    "another_pair_s_prompt": Edit(
        function="completion_log_probs",
        old="(pairs[name][rows // 2] for name in",
        new="(pairs[name][rows % len(ids) // 3] for name in",
        says="another pair's prompt",
    ),
    "cut_at_group_s": Edit(
        function="completion_log_probs",
        old="longest = int(mask[rows].sum(1).max())",
        new="longest = int(mask[rows].sum(1).min())",
        says="cut at the group's shortest",
    ),
    "reference_dropped": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return ours.reshape(-1, 2)",
        says="reference dropped",
    ),
    "log_ratios_sign": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return (theirs - ours).reshape(-1, 2)",
        says="sign",
    ),
    "log_ratios_chosen_rejected_swapped": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return (ours - theirs).reshape(-1, 2).flip(1)",
        says="chosen and rejected swapped",
    ),
    "pairs_mixed": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return (ours - theirs).reshape(2, -1).T",
        says="pairs mixed",
    ),
    "always_means": Edit(
        function="log_ratios",
        old="sequence_log_probs(lp.flatten(0, 1), mask, cfg.average)",
        new="sequence_log_probs(lp.flatten(0, 1), mask, True)",
        says="always means",
    ),
    "gradient_through_reference_trains": Edit(
        function="log_ratios",
        old="reference = tokens.detach() if",
        new="reference = tokens if",
        says="gradient through a reference that trains along",
    ),
    "other_loss": Edit(
        function="pair_loss",
        old='if cfg.loss == "dpo" else ipo_loss',
        new='if cfg.loss != "dpo" else ipo_loss',
        says="the other loss",
    ),
    "summed_over_pairs": Edit(
        function="pair_loss",
        old="return loss(ratios, labels, cfg.beta).mean(), ratios",
        new="return loss(ratios, labels, cfg.beta).sum(), ratios",
        says="summed over pairs",
    ),
    "smoothing_one_direction": Edit(
        function="pair_loss",
        old="cfg.label_smoothing * (1 - 2 * pairs",
        new="cfg.label_smoothing * (1 - pairs",
        says="smoothing in one direction",
    ),
    "labels_swapped": Edit(
        function="pair_loss",
        old='labels = pairs["labels"] + cfg',
        new='labels = 1 - pairs["labels"] + cfg',
        says="labels swapped",
    ),
    "policy_without_gradient": Edit(
        function="pair_loss",
        old="    ratios = log_ratios(policy, pairs, cfg)\n",
        new="    ratios = log_ratios(policy, pairs, cfg).detach()\n",
        says="policy without a gradient",
    ),
    "beta_fixed": Edit(
        function="pair_loss",
        old="loss(ratios, labels, cfg.beta).mean()",
        new="loss(ratios, labels, 0.1).mean()",
        says="beta fixed",
    ),
    "gradient_kept": Edit(
        function="add_reference",
        old="@torch.no_grad()\ndef add_reference",
        new="def add_reference",
        says="gradient kept",
    ),
    "not_replaced": Edit(
        function="add_reference",
        old='return {**pairs, "ref_log_probs": completion_log_probs(reference, pairs, num_groups)}',
        new='return {"ref_log_probs": completion_log_probs(reference, pairs, num_groups), **pairs}',
        says="not replaced",
    ),
    "sampled_from_reference_whatever": Edit(
        function="draw_pairs",
        old="torch.multinomial(weights, 2 * each",
        new="torch.multinomial(world.reference_log_probs().exp(), 2 * each",
        says="sampled from the reference whatever is asked",
    ),
    "prompts_turn": Edit(
        function="draw_pairs",
        old="torch.arange(world.num_prompts).repeat_interleave(each)",
        new="torch.arange(world.num_prompts).repeat(each)",
        says="prompts in turn",
    ),
    "without_replacement_likely_ones": Edit(
        function="draw_pairs",
        old="rows = rows.reshape(-1, 2)  # [B, 2]",
        new="rows = rows.reshape(-1, 2).sort(dim=1).values",
        says="without replacement of likely ones",
    ),
    "soft_label_other_side": Edit(
        function="draw_pairs",
        old="chances = preference(better, worse)",
        new="chances = preference(worse, better)",
        says="soft label of the other side",
    ),
    "hard_label_other_side": Edit(
        function="draw_pairs",
        old="(1 + (better - worse).sign()) / 2",
        new="(1 - (better - worse).sign()) / 2",
        says="hard label of the other side",
    ),
    "ties_are_wins": Edit(
        function="draw_pairs",
        old="(1 + (better - worse).sign()) / 2",
        new="(better >= worse).float()",
        says="ties are wins",
    ),
    "sampled_coin": Edit(
        function="draw_pairs",
        old="torch.bernoulli(chances, generator",
        new="torch.bernoulli(0 * chances + 0.5, generator",
        says="sampled by a coin",
    ),
    "chance_lose": Edit(
        function="chance_to_win",
        old="gap = rewards[:, None] - rewards[None]",
        new="gap = rewards[None] - rewards[:, None]",
        says="chance to lose",
    ),
    "ties_are_losses": Edit(
        function="chance_to_win",
        old="(1 + gap.sign()) / 2 if hard",
        new="(gap > 0).double() if hard",
        says="ties are losses",
    ),
    "opponents_uniform": Edit(
        function="chance_to_win",
        old="gap.sigmoid()) @ probs)",
        new="gap.sigmoid()) @ torch.ones_like(probs) / len(probs))",
        says="opponents uniform",
    ),
    "kinds_swapped": Edit(
        function="chance_to_win",
        old="/ 2 if hard else gap.sigmoid()",
        new="/ 2 if not hard else gap.sigmoid()",
        says="kinds swapped",
    ),
    "optimal_displacement_chosen_rejected_swapped": Edit(
        function="optimal_displacement",
        old="for share in (wins, 1 - wins))",
        new="for share in (1 - wins, wins))",
        says="chosen and rejected swapped",
    ),
    "half_pairs": Edit(
        function="optimal_displacement",
        old="((2 * share * reference.exp() * h)",
        new="((share * reference.exp() * h)",
        says="half the pairs",
    ),
    "over_optimum_s_texts": Edit(
        function="optimal_displacement",
        old="share * reference.exp() * h)",
        new="share * world.optimum(beta).exp() * h)",
        says="over the optimum's texts",
    ),
    "optimal_displacement_sign": Edit(
        function="optimal_displacement",
        old="h = world.optimum(beta) - reference",
        new="h = reference - world.optimum(beta)",
        says="sign",
    ),
    "prompt_not_counted": Edit(
        function="count_prompt",
        old="torch.ones_like(rest).bool()",
        new="torch.zeros_like(rest).bool()",
        says="prompt not counted",
    ),
    "behind_completion": Edit(
        function="count_prompt",
        old='torch.cat([rest, pairs["completion_ids"]], 2)',
        new='torch.cat([pairs["completion_ids"], rest], 2)',
        says="behind the completion",
    ),
    "first_token_twice": Edit(
        function="count_prompt",
        old='rest = pairs["prompt_ids"][:, None, 1:]',
        new='rest = pairs["prompt_ids"][:, None]',
        says="first token twice",
    ),
}
