"""Definition checks of D14: each function against its equation, one answer, pair or prompt at a time."""

import itertools
import math
from dataclasses import replace

import numpy as np
import torch

from chapters.envs.token_world import token_world
from chapters.exact.preferences import chance_to_win
from chapters.text.listed import every_pair
from chapters.utils.edits import Edit

CONSTANT = ("reference_point", "answer_lengths", "balance", "logistic_end", "ipo_end", "own_pairs")


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def random_pairs(seed, size=12):
    """(log_probs, ref_log_probs, lengths, labels), each [B, 2] or [B]."""
    rng = np.random.default_rng(seed)
    log_probs, reference = -rng.exponential(3.0, size=(2, size, 2))
    labels = np.where(rng.random(size) < 0.5, rng.random(size), rng.integers(2, size=size))
    lengths = rng.integers(1, 9, size=(size, 2))
    return tuple(torch.from_numpy(values) for values in (log_probs, reference, lengths, labels))


def small_world(seed=3):
    return token_world(seed, num_symbols=3, length=3)


def knobs(function, **changes):
    """A loss with these knobs, of the module that the function belongs to."""
    import sys

    module = sys.modules[function.__module__]
    return (module.Loss if hasattr(module, "Loss") else lesson_loss())(**changes)


def lesson_loss():
    from chapters.D_rlhf.D14_preference_variants import Loss

    return Loss


def check_answer_lengths(answer_lengths):
    world = small_world()
    found = answer_lengths(world).tolist()
    for length, ids in zip(found, world.completion_ids.tolist(), strict=True):
        written = [token for token in ids if token != world.pad_id]
        assert length == len(written), f"{written}: expected {len(written)}, found {length}"


def check_score(score):
    log_probs, reference, lengths, _ = random_pairs(1)
    for uses, per_token, beta in itertools.product((True, False), (True, False), (0.1, 2.0)):
        found = score(log_probs, reference, lengths, beta, knobs(score, reference=uses, per_token=per_token))
        for b, side in itertools.product(range(len(found)), range(2)):
            expected = log_probs[b, side].item() - (reference[b, side].item() if uses else 0.0)
            expected *= beta / (lengths[b, side].item() if per_token else 1)
            assert math.isclose(found[b, side], expected, rel_tol=1e-9, abs_tol=1e-12)


def check_logistic_loss(logistic_loss):
    scores, _, _, labels = random_pairs(2)
    for margin in (0.0, 0.5, 2.0):
        found = logistic_loss(scores, labels, margin)
        for loss, (first, second), p in zip(found.tolist(), scores.tolist(), labels.tolist(), strict=True):
            wins, loses = sigmoid(first - second - margin), sigmoid(second - first - margin)
            expected = -p * math.log(wins) - (1 - p) * math.log(loses)
            assert math.isclose(loss, expected, rel_tol=1e-7, abs_tol=1e-12)
    far = logistic_loss(torch.tensor([[-2000.0, 2000.0]]), torch.ones(1), 0.0)
    assert math.isclose(far, 4000.0, rel_tol=1e-6), "no overflow where the policy is quite wrong"


def check_likelihood_loss(likelihood_loss):
    log_probs, _, lengths, labels = random_pairs(3)
    weights = torch.rand(len(labels), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total, tokens = 0.0, 0.0
    for lp, n, p, w in zip(log_probs.tolist(), lengths.tolist(), labels.tolist(), weights.tolist()):
        total += w * (p * lp[0] + (1 - p) * lp[1])
        tokens += w * (p * n[0] + (1 - p) * n[1])
    found = likelihood_loss(log_probs, lengths, labels, weights)
    assert math.isclose(found, -total / tokens, rel_tol=1e-9)


def slope(loss, log_probs):
    """Steepest slope of a loss by the logits of whole answers."""
    logits = log_probs.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(logits.log_softmax(dim=1)), logits)
    return found.abs().max().item()


def listed(world):
    """Everything that an expectation needs: pairs one by one, as numbers."""
    pairs = every_pair(world.reference_log_probs(), world.rewards)
    return pairs, world.reference_log_probs(), world.completion_mask.sum(1)


def check_logistic_end(logistic_end):
    """It sums to 1, and by brute force no direction leads down from it."""
    world = small_world()
    pairs, reference, lengths = listed(world)
    for uses, per_token, beta in itertools.product((True, False), (True, False), (0.5, 2.0)):
        loss = knobs(logistic_end, reference=uses, per_token=per_token)
        end = logistic_end(world.rewards, reference, lengths, beta, loss)
        assert torch.allclose(end.exp().sum(1), torch.ones(2, dtype=torch.float64)), "sums to 1"

        def expected(policy, uses=uses, per_token=per_token, beta=beta):
            s = beta * (policy - reference if uses else policy) / (lengths if per_token else 1)
            first, second = s[pairs.prompts, pairs.rows].unbind(1)
            p = pairs.labels
            gap = first - second
            losses = p * torch.log1p((-gap).exp()) + (1 - p) * torch.log1p(gap.exp())
            return (pairs.weights * losses).sum()

        assert slope(expected, end) < 1e-8, f"reference {uses}, per token {per_token}: the loss has a slope"
    assert torch.allclose(
        logistic_end(world.rewards, reference, lengths, 0.5, knobs(logistic_end)), world.optimum(0.5)
    )


def check_ipo_end(ipo_end):
    world = small_world()
    pairs, reference, _ = listed(world)
    wins = chance_to_win(world.rewards, reference)
    for beta in (0.3, 1.0):
        end = ipo_end(wins, reference, beta)
        assert torch.allclose(end.exp().sum(1), torch.ones(2, dtype=torch.float64)), "sums to 1"

        def expected(policy, beta=beta):
            first, second = (policy - reference)[pairs.prompts, pairs.rows].unbind(1)
            p, target = pairs.labels, 0.5 / beta
            losses = p * (first - second - target) ** 2 + (1 - p) * (second - first - target) ** 2
            return (pairs.weights * losses).sum()

        assert slope(expected, end) < 1e-8, "the squared loss has a slope there"


def check_kto_loss(kto_loss):
    log_ratios, _, _, labels = (values[:, 0] if values.ndim == 2 else values for values in random_pairs(4))
    for point, beta in ((0.0, 0.5), (0.7, 0.2), (3.0, 1.0)):
        found = kto_loss(log_ratios, labels, torch.tensor(point, dtype=torch.float64), beta)
        for loss, h, q in zip(found.tolist(), log_ratios.tolist(), labels.tolist(), strict=True):
            liked, disliked = 1 - sigmoid(beta * (h - point)), 1 - sigmoid(beta * (point - h))
            assert math.isclose(loss, q * liked + (1 - q) * disliked, rel_tol=1e-9)


def check_reference_point(reference_point):
    for shift in (2.0, -2.0):
        h = torch.randn(9, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + shift
        h.requires_grad_()
        found = reference_point(h)
        assert not found.requires_grad, "a constant: no gradient"
        assert math.isclose(found, max(0.0, sum(h.tolist()) / 9), rel_tol=1e-9)


def check_own_pairs(own_pairs):
    """Drawn from the policy that asks, labelled by Bradley and Terry's chances."""
    world = small_world()
    num = world.rewards.shape[1]
    policy = torch.full((2, num), -30.0, dtype=torch.float64)
    policy[0, 1], policy[0, 2], policy[1, 4], policy[1, 5] = map(math.log, (0.25, 0.75, 0.5, 0.5))
    found = own_pairs(world, 40_000, torch.Generator().manual_seed(6))(policy)
    assert found.rows.shape == (40_000, 2)
    for prompt, likely in ((0, {1: 0.25, 2: 0.75}), (1, {4: 0.5, 5: 0.5})):
        here = found.prompts[:, 0] == prompt
        assert int(here.sum()) == 20_000, "as many of each prompt"
        for row, share in likely.items():
            assert abs((found.rows[here] == row).double().mean().item() - share) < 0.02
        first, second = likely
        both = here & (found.rows[:, 0] == first) & (found.rows[:, 1] == second)
        chance = sigmoid(world.rewards[prompt, first].item() - world.rewards[prompt, second].item())
        assert abs(found.labels[both].double().mean().item() - chance) < 0.03, "labels"
    assert set(found.labels.tolist()) <= {0.0, 1.0}, "one sampled label on each"


def check_pair_loss(pair_loss):
    world = small_world()
    pairs, reference, lengths = listed(world)
    pairs = pairs._replace(weights=pairs.weights * torch.linspace(0.5, 1.5, len(pairs.labels)))
    policy = (reference + torch.sin(torch.arange(reference.numel()).reshape(reference.shape))).log_softmax(1)
    for changes in (
        {},
        {"per_token": True},
        {"reference": False, "per_token": True, "margin": 0.5},
        {"sft": 0.7},
    ):
        loss = knobs(pair_loss, **changes)
        total, chosen, tokens = 0.0, 0.0, 0.0
        for prompt, rows, p, w in zip(*(values.tolist() for values in pairs)):
            x, ways = prompt[0], []
            for row in rows:
                s = policy[x, row].item() - (reference[x, row].item() if loss.reference else 0.0)
                ways.append(0.4 * s / (lengths[row].item() if loss.per_token else 1))
            gap = ways[0] - ways[1]
            total -= w * p * math.log(sigmoid(gap - loss.margin))
            total -= w * (1 - p) * math.log(sigmoid(-gap - loss.margin))
            for row, share in zip(rows, (p, 1 - p)):
                chosen += w * share * policy[x, row].item()
                tokens += w * share * lengths[row].item()
        found = pair_loss(policy, reference, lengths, pairs, 0.4, loss)
        assert math.isclose(found, total - loss.sft * chosen / tokens, rel_tol=1e-8), changes


def check_balance(balance):
    rng = np.random.default_rng(8)
    lengths = torch.from_numpy(rng.integers(1, 4, size=(400, 2)))
    labels = torch.from_numpy(rng.integers(2, size=400) * 1.0)
    soft = torch.from_numpy(rng.random(400))

    def for_longer(values, i, longest):
        """A label of pair i, read as the chance of the longer answer."""
        return values[i].item() if lengths[i, 0] == longest else 1 - values[i].item()

    for some in (labels, soft):
        weights = torch.from_numpy(rng.random(400))
        found, new = balance(lengths, some, weights)
        for a, b in itertools.combinations_with_replacement((1, 2, 3), 2):
            kind = [i for i, pair in enumerate(lengths.tolist()) if sorted(pair) == [a, b]]
            before = sum(weights[i].item() for i in kind)
            assert math.isclose(sum(found[i].item() for i in kind), before, rel_tol=1e-6), "weight is kept"
            if a != b:
                longer = sum(found[i].item() * for_longer(new, i, b) for i in kind)
                assert math.isclose(longer, before / 2, rel_tol=1e-6), "the longer wins as often"
                share = sum(weights[i].item() * for_longer(some, i, b) for i in kind) / before
                for i in kind:
                    p = for_longer(some, i, b)
                    odds = p / share, (1 - p) / (1 - share)
                    expected = odds[0] / sum(odds)
                    assert math.isclose(for_longer(new, i, b), expected, rel_tol=1e-6, abs_tol=1e-9), "odds"
            else:
                assert np.allclose(found[kind], weights[kind]), "pairs of equal length stay"


def check_expected_length(expected_length):
    world = replace(small_world())
    table = world.optimum(0.7)
    total = 0.0
    for row in table.tolist():
        total += sum(math.exp(lp) * n for lp, n in zip(row, world.completion_mask.sum(1).tolist())) / 2
    assert math.isclose(expected_length(world, table), total, rel_tol=1e-9)


EDITS = {
    "prompt_counted": Edit(
        function="answer_lengths",
        old="world.completion_mask.sum(dim=1)",
        new="world.completion_mask.sum(dim=1) + world.prompt_ids.shape[1]",
        says="the prompt's token is counted as the answer's",
    ),
    "no_reference": Edit(
        function="score",
        old="log_probs - ref_log_probs if loss.reference else log_probs",
        new="log_probs",
        says="no loss has a reference",
    ),
    "reference_added": Edit(
        function="score",
        old="log_probs - ref_log_probs if",
        new="log_probs + ref_log_probs if",
        says="the reference's log-probability is added",
        fails=("online_gap",),
    ),
    "sum_for_mean": Edit(
        function="score",
        old="beta * kept / lengths if loss.per_token else beta * kept",
        new="beta * kept",
        says="sums over tokens where the mean belongs",
    ),
    "mean_for_sum": Edit(
        function="score",
        old="beta * kept / lengths if loss.per_token else beta * kept",
        new="beta * kept / lengths",
        says="means over tokens where the sum belongs",
    ),
    "swapped": Edit(
        function="logistic_loss",
        old="gap = scores[:, 0] - scores[:, 1]",
        new="gap = scores[:, 1] - scores[:, 0]",
        says="chosen and rejected change places: the worse is learnt",
        fails=("online_gap",),
    ),
    "margin_given": Edit(
        function="logistic_loss",
        old="F.logsigmoid(gap - margin)",
        new="F.logsigmoid(gap + margin)",
        says="the margin's sign: the winner is content before it is ahead",
    ),
    "margin_for_one": Edit(
        function="logistic_loss",
        old="F.logsigmoid(-gap - margin)",
        new="F.logsigmoid(-gap + margin)",
        says="the second answer, if it wins, is asked for less than no margin",
    ),
    "likelihood_of_both": Edit(
        function="likelihood_loss",
        old="torch.stack([labels, 1 - labels], dim=1)",
        new="torch.ones_like(log_probs)",
        says="the rejected answers' likelihood is raised as well",
    ),
    "likelihood_by_texts": Edit(
        function="likelihood_loss",
        old="(chosen * lengths).sum()",
        new="chosen.sum()",
        says="a mean over texts, not over tokens",
    ),
    "likelihood_falls": Edit(
        function="likelihood_loss",
        old="return -(chosen",
        new="return (chosen",
        says="the chosen answers are made less likely",
    ),
    "constant_kept": Edit(
        function="logistic_end",
        old="tokens * (rewards + c) / beta",
        new="tokens * rewards / beta + c",
        says="the constant is not multiplied by the number of tokens",
    ),
    "end_without_beta": Edit(
        function="logistic_end",
        old="tokens * (rewards + c) / beta",
        new="tokens * (rewards + c)",
        says="beta is missing",
    ),
    "end_keeps_reference": Edit(
        function="logistic_end",
        old="ref_log_probs if loss.reference else torch.zeros_like(ref_log_probs)",
        new="ref_log_probs",
        says="SimPO's end is given a reference",
    ),
    "half_the_tilt": Edit(
        function="ipo_end",
        old="chances / beta",
        new="chances / (2 * beta)",
        says="half of the tilt: the margin is 1 / (2 beta) for a sure pair on either side",
    ),
    "odds_for_chance": Edit(
        function="ipo_end",
        old="chances / beta",
        new="chances.logit() / beta",
        says="log-odds instead of the chance: DPO's tilt, without an end",
    ),
    "same_sign": Edit(
        function="kto_loss",
        old="(1 - liked) * gain",
        new="(1 - liked) * (1 - gain)",
        says="what was disliked is made likelier, too",
    ),
    "point_forgotten": Edit(
        function="kto_loss",
        old="(log_ratios - point)",
        new="log_ratios",
        says="no reference point",
    ),
    "point_added": Edit(
        function="kto_loss",
        old="(log_ratios - point)",
        new="(log_ratios + point)",
        says="the reference point's sign",
    ),
    "point_attached": Edit(
        function="reference_point",
        old="log_ratios.detach().mean()",
        new="log_ratios.mean()",
        says="a gradient flows through the reference point",
    ),
    "point_below_zero": Edit(
        function="reference_point",
        old=".clamp(min=0.0)",
        new="",
        says="a divergence below 0",
    ),
    "pairs_of_the_reference": Edit(
        function="own_pairs",
        old="sample_pairs(log_probs,",
        new="sample_pairs(world.reference_log_probs(),",
        says="fresh pairs, but of the reference: not online",
    ),
    "sft_forgotten": Edit(
        function="pair_loss",
        old="if loss.sft:",
        new="if False:",
        says="the likelihood term is left out",
    ),
    "weights_forgotten": Edit(
        function="pair_loss",
        old="(pairs.weights * losses).sum()",
        new="losses.mean()",
        says="every pair counts the same",
    ),
    "labels_kept": Edit(
        function="balance",
        old="first / (first + second)",
        new="labels",
        says="only the weights are balanced: soft labels still favour the longer",
    ),
    "one_side": Edit(
        function="balance",
        old="total = none.index_add(0, kinds, weights).index_add(0, other, weights)",
        new="total = none.index_add(0, kinds, 2 * weights)",
        says="a pair of lengths is counted from one side only",
    ),
    "share_of_the_other": Edit(
        function="balance",
        old="labels / (2 * share), (1 - labels) / (2 * (1 - share))",
        new="labels / (2 * (1 - share)), (1 - labels) / (2 * share)",
        says="makes the longer answer win even more often",
    ),
    "longest_only": Edit(
        function="expected_length",
        old="(log_probs.exp() * answer_lengths(world)).sum(1)",
        new="answer_lengths(world).double().mean().expand(2)",
        says="the mean over the list, however likely an answer is",
    ),
}
