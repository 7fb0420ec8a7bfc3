"""Definition checks of D4: each function against its equation, one pair and one token at a time."""

import copy
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


def ratios_of(toy, plain):
    """h of both completions of each pair, by the definition."""
    return [
        [sum(toy.log_probs(prompt, y)) - sum(ref) for y, ref in zip(sides, reference)]
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


def check_sequence_log_probs(sequence_log_probs):
    pairs, plain = random_pairs(6)  # behind the end stand numbers that must not count
    for side in range(2):
        mask = pairs["completion_mask"][:, side]
        found = sequence_log_probs(pairs["ref_log_probs"][:, side], mask)
        assert np.allclose(found, [sum(reference[side]) for _, _, reference in plain], rtol=1e-9)


def check_completion_log_probs(completion_log_probs):
    toy, (pairs, plain) = Toy(7), random_pairs(7)
    found = completion_log_probs(toy, pairs)
    assert found.shape == pairs["completion_mask"].shape
    for rows, (prompt, sides, _) in zip(found.tolist(), plain):
        for row, completion in zip(rows, sides):
            padding = [0.0] * (T - len(completion))
            assert np.allclose(row, toy.log_probs(prompt, completion) + padding, atol=1e-10)


def check_log_ratios(log_ratios):
    toy, (pairs, plain) = Toy(8), random_pairs(8)
    found = log_ratios(toy, pairs)
    assert np.allclose(found.detach(), ratios_of(toy, plain), atol=1e-10)
    (slope,) = torch.autograd.grad(found[:, 0].sum(), toy.out)
    assert slope.abs().max() > 0.1, "the policy's side has a gradient"


def check_pair_loss(pair_loss):
    """The value by the definition; the gradient by finite differences along directions of all parameters."""
    lesson, (pairs, plain) = sys.modules[pair_loss.__module__], random_pairs(9)
    for loss, beta in (("dpo", 0.3), ("dpo", 2.0), ("ipo", 0.3), ("ipo", 0.5)):
        toy, expected = Toy(9), 0.0
        cfg = lesson.Config(loss=loss, beta=beta)
        for (chosen, rejected), p in zip(ratios_of(toy, plain), pairs["labels"].tolist()):
            gap = chosen - rejected
            if loss == "dpo":
                expected -= p * math.log(sigmoid(beta * gap)) + (1 - p) * math.log(sigmoid(-beta * gap))
            else:
                expected += p * (gap - 0.5 / beta) ** 2 + (1 - p) * (gap + 0.5 / beta) ** 2
        found, ratios = pair_loss(toy, pairs, cfg)
        assert math.isclose(found.item(), expected / len(plain), rel_tol=1e-9)
        assert np.allclose(ratios.detach(), ratios_of(toy, plain), atol=1e-10)
        found.backward()
        generator = torch.Generator().manual_seed(9)
        for _ in range(3):  # drawn at random: one wrong slope is enough to be seen in each
            sides = []
            parts = [(one, torch.randn(one.shape, generator=generator).double()) for one in toy.parameters()]
            for step in (1e-5, -1e-5):
                moved = copy.deepcopy(toy)
                for parameter, (_, way) in zip(moved.parameters(), parts):
                    parameter.data += step * way
                sides.append(pair_loss(moved, pairs, cfg)[0].item())
            slope = sum((parameter.grad * way).sum().item() for parameter, way in parts)
            assert math.isclose((sides[0] - sides[1]) / 2e-5, slope, rel_tol=1e-4, abs_tol=1e-6)


def check_add_reference(add_reference):
    toy, (pairs, plain) = Toy(10), random_pairs(10)
    found = add_reference(pairs, toy)
    assert not found["ref_log_probs"].requires_grad, "the reference is a constant"
    for rows, (prompt, sides, _) in zip(found["ref_log_probs"].tolist(), plain):
        for row, completion in zip(rows, sides):
            assert np.allclose(row[: len(completion)], toy.log_probs(prompt, completion), atol=1e-10)
    assert torch.equal(found["labels"], pairs["labels"])


def check_reward_error(reward_error):
    world, beta = token_world(3, num_symbols=3, length=2), 0.4
    policy = world.reference(torch.float64)
    with torch.no_grad():
        policy.table += torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    variances = []
    for rewards, log_probs, reference in zip(
        world.rewards.tolist(), world.log_probs(policy).tolist(), world.reference_log_probs().tolist()
    ):
        errors = [r - beta * (lp - ref) for r, lp, ref in zip(rewards, log_probs, reference)]
        mean = sum(math.exp(lp) * error for lp, error in zip(log_probs, errors))
        variances.append(sum(math.exp(lp) * (error - mean) ** 2 for lp, error in zip(log_probs, errors)))
    assert math.isclose(reward_error(world, policy, beta), math.sqrt(sum(variances) / 2), rel_tol=1e-9)

    own = (world.log_probs(policy) - world.reference_log_probs()).detach() * beta
    constants = torch.tensor([[3.0], [-1.0]])  # of the prompts: no preference sees them
    assert reward_error(dataclasses.replace(world, rewards=own + constants), policy, beta) < 1e-6


EDITS = {
    "swapped": Edit(
        function="dpo_loss",
        old="margin = rewards[:, 0] - rewards[:, 1]",
        new="margin = rewards[:, 1] - rewards[:, 0]",
        says="chosen and rejected change places: the worse is learnt",
    ),
    "loss_without_beta": Edit(
        function="dpo_loss",
        old="rewards = implicit_rewards(log_ratios, beta)\n    margin",
        new="rewards = log_ratios\n    margin",
        says="leaves beta out of the margin",
    ),
    "mean_over_tokens": Edit(
        function="sequence_log_probs",
        old="return (token_log_probs * mask).sum(dim=1)",
        new="return (token_log_probs * mask).sum(dim=1) / mask.sum(dim=1)",
        says="a mean over the tokens where the sum belongs",
        fails=("soft_gap",),
    ),
    "reference_trains_along": Edit(
        function="log_ratios",
        old='completion_log_probs(policy, pairs), pairs["ref_log_probs"]',
        new="completion_log_probs(policy, pairs), completion_log_probs(policy, pairs).detach()",
        says="the reference is the policy itself: every margin is 0",
    ),
    "no_reference": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return ours.reshape(-1, 2)",
        says="no reference: nothing holds the policy near",
    ),
    "no_beta": Edit(
        function="implicit_rewards",
        old="return beta * log_ratios",
        new="return log_ratios",
        says="beta is missing",
    ),
    "hard_labels": Edit(
        function="pair_loss",
        old='pairs["labels"], cfg.beta',
        new='pairs["labels"].round(), cfg.beta',
        says="labels rounded to 0 and 1",
    ),
    "labels_swapped": Edit(
        function="pair_loss",
        old='pairs["labels"], cfg.beta',
        new='1 - pairs["labels"], cfg.beta',
        says="the probability that the order is wrong",
    ),
    "padding_counted": Edit(
        function="sequence_log_probs",
        old="(token_log_probs * mask).sum(dim=1)",
        new="token_log_probs.sum(dim=1)",
        says="padding is counted",
    ),
    "weight_swapped": Edit(
        function="gradient_weight",
        old="preference(rewards[:, 0], rewards[:, 1])",
        new="preference(rewards[:, 1], rewards[:, 0])",
        says="the weight of a pair that has chosen and rejected swapped",
    ),
    "weight_without_label": Edit(
        function="gradient_weight",
        old="return labels - preference",
        new="return 1 - preference",
        says="as if every label were 1",
    ),
    "ipo_swapped": Edit(
        function="ipo_loss",
        old="gap = log_ratios[:, 0] - log_ratios[:, 1]",
        new="gap = log_ratios[:, 1] - log_ratios[:, 0]",
        says="chosen and rejected change places",
    ),
    "ipo_margin_1_over_beta": Edit(
        function="ipo_loss",
        old="target = 1 / (2 * beta)",
        new="target = 1 / beta",
        says="asks for twice the margin",
    ),
    "ipo_margin_half_beta": Edit(
        function="ipo_loss",
        old="target = 1 / (2 * beta)",
        new="target = beta / 2",
        says="the margin grows with beta",
    ),
    "other_prompt": Edit(
        function="completion_log_probs",
        old="pairs[name].repeat_interleave(2, dim=0)",
        new="pairs[name].repeat(2, 1)",
        says="completions meet the prompts of other pairs",
    ),
    "sides_mixed": Edit(
        function="completion_log_probs",
        old="pairs[name].flatten(0, 1) for",
        new="pairs[name].transpose(0, 1).flatten(0, 1) for",
        says="all chosen before all rejected, and read as pairs",
    ),
    "reference_has_a_gradient": Edit(
        function="add_reference",
        old="@torch.no_grad()\ndef add_reference",
        new="def add_reference",
        says="the reference keeps a gradient",
    ),
    "reference_not_replaced": Edit(
        function="add_reference",
        old='{**pairs, "ref_log_probs": completion_log_probs(reference, pairs)}',
        new='{"ref_log_probs": completion_log_probs(reference, pairs), **pairs}',
        says="an older reference stays",
    ),
    "ratios_swapped": Edit(
        function="log_ratios",
        old="(ours - theirs).reshape(-1, 2)",
        new="(ours - theirs).reshape(-1, 2).flip(1)",
        says="rejected before chosen",
    ),
    "error_under_the_reference": Edit(
        function="reward_error",
        old="probs = log_probs.exp()",
        new="probs = world.reference_log_probs().exp()",
        says="measured on what the reference writes",
    ),
    "error_without_beta": Edit(
        function="reward_error",
        old="world.rewards - beta * (",
        new="world.rewards - (",
        says="beta is missing",
    ),
    "constant_counts": Edit(
        function="reward_error",
        old="(errors - means) ** 2",
        new="errors**2",
        says="the constant of a prompt counts as an error",
    ),
    "no_step": Edit(
        function="update",
        old="    optimizer.step()\n",
        new="",
        says="no gradient step",
        fails=("soft_gap", "win_rate"),
    ),
    "sign_of_the_difference": Edit(
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
    "beta_upside_down": Edit(
        function="implicit_rewards",
        old="return beta * log_ratios",
        new="return log_ratios / beta",
        says="beta upside down",
    ),
    "sign_of_the_margin": Edit(
        function="dpo_loss",
        old="-labels * F.logsigmoid(margin) - (1 - labels) * F.logsigmoid(-margin)",
        new="-labels * F.logsigmoid(-margin) - (1 - labels) * F.logsigmoid(margin)",
        says="sign of the margin",
    ),
    "sign_of_the_loss": Edit(
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
    "log_of_zero": Edit(
        function="dpo_loss",
        old="return -labels * F.logsigmoid(margin)",
        new="return -labels * margin.sigmoid().log()",
        says="log of a sigmoid that is 0",
    ),
    "sign_of_the_weight": Edit(
        function="gradient_weight",
        old="return labels - preference(rewards[:, 0], rewards[:, 1])",
        new="return preference(rewards[:, 0], rewards[:, 1]) - labels",
        says="sign",
    ),
    "not_squared": Edit(
        function="ipo_loss",
        old="labels * (gap - target) ** 2",
        new="labels * (gap - target).abs()",
        says="not squared",
    ),
    "other_side_asks_for_the_same": Edit(
        function="ipo_loss",
        old="(1 - labels) * (gap + target) ** 2",
        new="(1 - labels) * (gap - target) ** 2",
        says="the other side asks for the same",
    ),
    "reference_over_policy": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return (theirs - ours).reshape(-1, 2)",
        says="sign",
    ),
    "pairs_mixed": Edit(
        function="log_ratios",
        old="return (ours - theirs).reshape(-1, 2)",
        new="return (ours - theirs).reshape(2, -1).T",
        says="pairs mixed",
    ),
    "other_loss": Edit(
        function="pair_loss",
        old='if cfg.loss == "dpo" else ipo_loss',
        new='if cfg.loss != "dpo" else ipo_loss',
        says="the other loss",
    ),
    "summed_over_pairs": Edit(
        function="pair_loss",
        old="cfg.beta).mean(), ratios",
        new="cfg.beta).sum(), ratios",
        says="summed over pairs",
    ),
    "policy_without_gradient": Edit(
        function="pair_loss",
        old="ratios = log_ratios(policy, pairs)",
        new="ratios = log_ratios(policy, pairs).detach()",
        says="policy without a gradient",
    ),
    "fixed_beta": Edit(
        function="pair_loss",
        old="cfg.beta).mean()",
        new="0.1).mean()",
        says="beta fixed",
    ),
}
