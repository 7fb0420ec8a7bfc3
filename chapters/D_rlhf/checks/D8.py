"""D8's functions against their definitions, and the named edits of the lesson."""

import itertools
import math
import statistics
import sys

import torch

from chapters.utils.edits import Edit

CONSTANT = (
    "step_labels",
    "hard_mean",
    "step_rewards",
    "advantages",
    "prefix_values",
    "instalments",
    "token_reward",
)


def random_tree(seed, num, size, depth):
    """(probabilities of the next digit after every beginning, outcomes of all chains)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num, *[size] * t) for t in range(1, depth + 1)]
    probs = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    outcomes = (torch.rand(shapes[-1], generator=generator) < 0.4).double()
    return [prob / prob.sum(dim=-1, keepdim=True) for prob in probs], outcomes


def check_prefix_values(prefix_values):
    """Each beginning: the sum over all its chains of what they are likely to be, and worth."""
    for seed, (num, size, depth) in enumerate(((1, 2, 1), (2, 3, 2), (2, 3, 3))):
        probs, outcomes = random_tree(seed, num, size, depth)
        found = prefix_values(probs, outcomes)
        assert len(found) == depth + 1, f"{depth + 1} lengths of beginnings, from none to {depth} digits"
        for length in range(depth + 1):
            assert found[length].shape == (num, *[size] * length), f"shape after {length} digits"
        for n, length in itertools.product(range(num), range(depth + 1)):
            for start in itertools.product(range(size), repeat=length):
                expected = 0.0
                for rest in itertools.product(range(size), repeat=depth - length):
                    whole = (n, *start, *rest)
                    chances = [probs[t][whole[: t + 2]].item() for t in range(length, depth)]
                    expected += math.prod(chances) * outcomes[whole].item()
                value = found[length][(n, *start)]
                assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12), (
                    f"problem {n}, beginning {start}: expected {expected:.6g}, found {float(value):.6g}"
                )


def check_step_labels(step_labels):
    """Every set of outcomes of up to four continuations."""
    for num in (1, 2, 4):
        for tries in itertools.product((0.0, 1.0), repeat=num):
            outcomes = torch.tensor([[tries, tries[::-1]], [[0.0] * num, tries]])
            for kind in ("soft", "hard"):
                found = step_labels(outcomes, kind)
                assert found.shape == (2, 2), "a label for each step of each chain"
                label = sum(tries) / num if kind == "soft" else float(any(tries))
                assert torch.allclose(found, torch.tensor([[label, label], [0.0, label]])), (
                    f"{kind} label of outcomes {tries}: expected {label:.6g}"
                )


def check_hard_mean(hard_mean):
    """The chance that one of so many draws is a 1, over all outcomes of the draws."""
    values = torch.tensor([[0.0, 0.1, 0.5], [0.9, 1.0, 0.33]], dtype=torch.float64)
    for num in (1, 2, 5):
        found = hard_mean(values, num)
        for i, j in itertools.product(range(2), range(3)):
            v = values[i, j].item()
            draws = itertools.product((0, 1), repeat=num)
            expected = sum(math.prod(v if d else 1.0 - v for d in some) for some in draws if any(some))
            assert math.isclose(found[i, j], expected, abs_tol=1e-12), f"V = {v}, K = {num}: {expected:.6g}"


def check_label_loss(label_loss):
    """Step by step, value and slope; what has no label counts for nothing."""
    generator = torch.Generator().manual_seed(3)
    for num, length in ((1, 1), (3, 4), (2, 3)):
        logits = 2.0 * torch.randn(num, length, generator=generator, dtype=torch.float64)
        labels = torch.rand(num, length, generator=generator, dtype=torch.float64)
        mask = (torch.rand(num, length, generator=generator) < 0.6).double()
        mask[0, -1] = 1.0
        loss = label_loss(logits.requires_grad_(), labels, mask)
        (slope,) = torch.autograd.grad(loss, logits)
        total = 0.0
        for b, t in itertools.product(range(num), range(length)):
            p = 1.0 / (1.0 + math.exp(-logits[b, t].item()))
            y, counts = labels[b, t].item(), mask[b, t].item() / mask.sum().item()
            total -= counts * (y * math.log(p) + (1.0 - y) * math.log(1.0 - p))
            assert math.isclose(slope[b, t], counts * (p - y), rel_tol=1e-9, abs_tol=1e-12), (
                f"slope at chain {b}, step {t}: expected {counts * (p - y):.6g}, not {float(slope[b, t]):.6g}"
            )
        assert math.isclose(loss.item(), total, rel_tol=1e-9), (
            f"{total:.6g} expected, {loss.item():.6g} found"
        )
    one = torch.ones(1, 1)
    for label in (0.0, 1.0):
        far = label_loss((200.0 - 400.0 * label) * one, label * one, one)
        assert math.isclose(far.item(), 200.0, rel_tol=1e-6), "large outputs do not overflow"


def check_instalments(instalments):
    """Step by step, and their sum: the outcome less the first potential."""
    generator = torch.Generator().manual_seed(4)
    for num, length in ((1, 1), (3, 4), (2, 2)):
        potentials = torch.randn(num, length, generator=generator, dtype=torch.float64)
        outcomes = torch.arange(num, dtype=torch.float64) % 2
        found = instalments(potentials, outcomes)
        for b in range(num):
            path = [*potentials[b].tolist(), outcomes[b].item()]
            for t in range(length):
                assert math.isclose(found[b, t], path[t + 1] - path[t], abs_tol=1e-12), (
                    f"chain {b}, step {t}: {path[t + 1] - path[t]:.6g}, not {float(found[b, t]):.6g}"
                )
            assert math.isclose(found[b].sum(), path[-1] - path[0], abs_tol=1e-9), f"sum of chain {b}"


def check_token_reward(token_reward):
    """The three rewards of a token, inside a text and at its end, with an answer and without."""
    before, after = (torch.tensor([x], dtype=torch.float64) for x in (0.3, 0.7))
    cases = [  # outcome, the text has ended -> by outcome, by differences, by sum
        (0.0, False, 0.0, 0.4, 0.7),
        (0.0, True, 0.0, -0.3, 0.7),
        (1.0, True, 1.0, 0.7, 0.7),
    ]
    for outcome, ended, *wanted in cases:
        for kind, expected in zip(("outcome", "differences", "sum"), wanted):
            for cost in (0.0, 0.05):
                brings = torch.tensor([outcome], dtype=torch.float64)
                found = token_reward(before, after, brings, ended, kind, cost)
                assert math.isclose(found.item(), expected - cost, abs_tol=1e-9), (
                    f"by {kind}, outcome {outcome}, ended {ended}, cost {cost}: {expected - cost:.6g}, "
                    f"not {found.item():.6g}"
                )


def check_step_rewards(step_rewards):
    """All chains of three steps that are right or wrong."""
    right = torch.tensor([[4, 7, 2]]).expand(8, -1)
    wrong = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    written = right + wrong
    before = written.clone()
    for kind in ("outcome", "process"):
        found = step_rewards(right, written, kind)
        assert found.shape == (8, 3)
        for b, t in itertools.product(range(8), range(3)):
            expected = float(not wrong[b, t]) if kind == "process" or t == 2 else 0.0
            assert found[b, t].item() == expected, f"{kind}: chain wrong at {wrong[b].tolist()}, step {t}"
    assert torch.equal(written, before), "the chains stay as they were"


def check_advantages(advantages):
    """Chain by chain: what follows a step, beside the same step in the rest of its group."""
    generator = torch.Generator().manual_seed(5)
    for num, size, length in ((1, 2, 1), (2, 4, 3), (3, 3, 2)):
        rewards = (torch.rand(num, size, length, generator=generator) < 0.5).double()
        found = advantages(rewards)
        assert found.shape == rewards.shape
        for n, t in itertools.product(range(num), range(length)):
            returns = [sum(rewards[n, g, t:].tolist()) for g in range(size)]
            middle, spread = statistics.mean(returns), statistics.stdev(returns)
            for g in range(size):
                expected = (returns[g] - middle) / (spread + 1e-4)
                assert math.isclose(found[n, g, t], expected, rel_tol=1e-6, abs_tol=1e-9), (
                    f"group {n}, chain {g}, step {t}: {expected:.6g}, not {float(found[n, g, t]):.6g}"
                )


def check_collect(collect):
    """Groups answer one problem, and are paid for their own steps."""
    module = sys.modules[collect.__module__]
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(10, (50, 4), generator=generator)
    task, right = module.chains.chains_task(digits), module.chains.right_chains(digits)

    def policy(input_ids, **_):
        """Any digit, the last one plus 0 or 1 more often: some steps are right."""
        logits = torch.full((*input_ids.shape, 14), -torch.inf)
        logits[..., 3:13] = 0.0
        return type("Out", (), {"logits": logits, "past_key_values": None})

    cfg = module.Config(num_prompts=30, group_size=6)
    for kind in ("outcome", "process"):
        data = collect(policy, task, right, kind, torch.Generator().manual_seed(1), cfg)
        asked = data["prompt_ids"].view(30, 6, -1)
        assert (asked == asked[:, :1]).all(), "a group answers one problem"
        assert len(asked[:, 0].unique(dim=0)) > 15, "problems are drawn from all there are"
        written = (data["completion_ids"] - 3).view(30, 6, 3).tolist()
        problems = (asked[:, 0, :4] - 3).tolist()
        for n, group in enumerate(written):
            sums = [sum(problems[n][: t + 2]) % 10 for t in range(3)]
            for t in range(3):
                steps = [[chain[s] == sums[s] for s in range(t, 3)] for chain in group]
                returns = [float(sum(one) if kind == "process" else one[-1]) for one in steps]
                spread = statistics.stdev(returns) + 1e-4
                for g, value in enumerate(returns):
                    expected = (value - statistics.mean(returns)) / spread
                    found = data["advantages"].view(30, 6, 3)[n, g, t].item()
                    assert math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-5), (
                        f"{kind}: group {n}, chain {g}, step {t}: expected {expected:.6g}, found {found:.6g}"
                    )


EDITS = {
    "best_step_instead": Edit(
        function="prefix_values",
        old="(prob * values[0]).sum(dim=-1)",
        new="values[0].amax(dim=-1)",
        says="the value of the best continuation instead of the policy's own",
    ),
    "likeliest_step": Edit(
        function="prefix_values",
        old="(prob * values[0]).sum(dim=-1)",
        new="values[0].gather(-1, prob.argmax(dim=-1, keepdim=True))[..., 0]",
        says="goes on with the likeliest digit instead of a drawn one",
    ),
    "all_steps_alike": Edit(
        function="prefix_values",
        old="(prob * values[0]).sum(dim=-1)",
        new="values[0].mean(dim=-1)",
        says="as if all digits were equally likely",
    ),
    "soft_and_hard_swapped": Edit(
        function="step_labels",
        old='if kind == "soft" else',
        new='if kind == "hard" else',
        says="soft for hard",
    ),
    "all_must_be_right": Edit(
        function="step_labels",
        old="outcomes.amax(dim=-1)",
        new="outcomes.amin(dim=-1)",
        says="a hard label only if all continuations are right",
    ),
    "majority_label": Edit(
        function="step_labels",
        old="outcomes.amax(dim=-1)",
        new="outcomes.mean(dim=-1).round()",
        says="a hard label by majority",
    ),
    "all_succeed": Edit(
        function="hard_mean",
        old="1.0 - (1.0 - values) ** num_tries",
        new="values**num_tries",
        says="the chance that all are right, not that one is",
    ),
    "union_bound": Edit(
        function="hard_mean",
        old="1.0 - (1.0 - values) ** num_tries",
        new="(num_tries * values).clamp(max=1.0)",
        says="adds up chances as if no two could be right",
    ),
    "no_mask": Edit(
        function="label_loss",
        old="-(losses * mask).sum() / mask.sum()",
        new="-losses.mean()",
        says="learns from steps that have no label",
    ),
    "mean_over_all": Edit(
        function="label_loss",
        old="-(losses * mask).sum() / mask.sum()",
        new="-(losses * mask).mean()",
        says="divides by all steps, also those without a label",
    ),
    "only_good_steps": Edit(
        function="label_loss",
        old=" + (1.0 - labels) * nn.functional.logsigmoid(-logits)",
        new="",
        says="never told what is wrong: the best output is always 1",
    ),
    "not_a_logit": Edit(
        function="label_loss",
        old="(1.0 - labels) * nn.functional.logsigmoid(-logits)",
        new="(1.0 - labels) * (1.0 - logits.sigmoid()).log()",
        says="overflows where the output is large",
    ),
    "value_of_the_step": Edit(
        function="instalments",
        old="return after - potentials",
        new="return after",
        says="pays what stands, not what was added: the sum of scores",
    ),
    "taken_back": Edit(
        function="instalments",
        old="return after - potentials",
        new="return potentials - after",
        says="the sign: pays for losing value",
    ),
    "outcome_on_top": Edit(
        function="instalments",
        old="outcomes[:, None]], dim=1)",
        new="(outcomes + potentials[:, -1])[:, None]], dim=1)",
        says="keeps the last potential at the end: the sum is no longer the outcome's",
    ),
    "kept_at_the_end": Edit(
        function="token_reward",
        old="(outcome if ended else after) - before - cost",
        new="after - before - cost",
        says="a text without an answer keeps its potential when its tokens run out",
    ),
    "summed": Edit(
        function="token_reward",
        old="(outcome if ended else after) - before - cost",
        new="after - cost",
        says="does not subtract what stood before: every good step is paid, padding too",
        fails=("shaping_regret",),
    ),
    "cost_earned": Edit(
        function="token_reward",
        old="(outcome if ended else after) - before - cost",
        new="(outcome if ended else after) - before + cost",
        says="the sign of the cost: length is paid for",
        fails=("shaping_regret",),
    ),
    "cost_forgotten": Edit(
        function="token_reward",
        old="return outcome - cost",
        new="return outcome",
        says="tokens are free by outcome",
    ),
    "sum_of_differences": Edit(
        function="token_reward",
        old="return after - cost",
        new="return after - before - cost",
        says="the sum of differences, called the sum of scores: it telescopes",
        fails=("sum_padding",),
    ),
    "first_step_paid": Edit(
        function="step_rewards",
        old="correct[:, :-1] = 0.0",
        new="correct[:, 1:] = 0.0",
        says="the outcome is read off the first step",
    ),
    "paid_for_both": Edit(
        function="step_rewards",
        old='if kind == "outcome":',
        new='if kind == "process":',
        says="outcome and process reward swapped",
        fails=("fewer_lucky",),
    ),
    "wrong_steps_paid": Edit(
        function="step_rewards",
        old="(written == right)",
        new="(written != right)",
        says="pays for mistakes",
        fails=("both_learn",),
    ),
    "own_step_only": Edit(
        function="advantages",
        old="returns = rewards.flip(2).cumsum(dim=2).flip(2)",
        new="returns = rewards",
        says="a step is credited with itself alone: by outcome only the last is taught",
    ),
    "credit_for_the_past": Edit(
        function="advantages",
        old="returns = rewards.flip(2).cumsum(dim=2).flip(2)",
        new="returns = rewards.cumsum(dim=2)",
        says="a step is credited with what came before it",
    ),
    "whole_chain": Edit(
        function="advantages",
        old="returns = rewards.flip(2).cumsum(dim=2).flip(2)",
        new="returns = rewards.sum(dim=2, keepdim=True).expand_as(rewards)",
        says="every step is credited with the whole chain, with what came before it too",
    ),
    "steps_compared": Edit(
        function="advantages",
        old="columns = returns.transpose(1, 2)  # [N, T, G]",
        new="columns = returns",
        says="compares a step with the other steps of its own chain",
    ),
    "groups_torn": Edit(
        function="collect",
        old="rows = rows.repeat_interleave(cfg.group_size)",
        new="rows = rows.repeat(cfg.group_size)",
        says="groups hold chains of different problems",
    ),
    "ids_for_digits": Edit(
        function="collect",
        old='batch["completion_ids"] - chains.FIRST_DIGIT',
        new='batch["completion_ids"]',
        says="compares token ids with digits",
        fails=("both_learn",),
    ),
    "climbs_down": Edit(
        function="train",
        old='loss = -(batch["advantages"]',
        new='loss = (batch["advantages"]',
        says="the sign of the loss: unlearns what was paid",
        fails=("both_learn",),
    ),
}
