"""D13's functions against their definitions, and the named edits of the lesson."""

import itertools
import math
import sys

import torch

from chapters.D_rlhf.checks.D5 import SHAPES, random_batch
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.utils.edits import Edit

CONSTANT = ("on_policy_worth", "keep_best")  # of the weights: without a gradient


def check_best_of_n(best_of_n):
    """Against every way to draw n completions; equal rewards share what they win."""
    tables = ([0.3, -1.0, 2.0, 0.5], [1.0, 0.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0, 3.0, 3.0, 3.0])
    rewards = torch.tensor(tables, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(rewards.shape, generator=generator, dtype=torch.float64).log_softmax(dim=1)
    for n in (1, 2, 3, 5):
        found = best_of_n(log_probs, rewards, n).exp()
        for row, (probs, worth) in enumerate(zip(log_probs.exp().tolist(), tables)):
            expected = [0.0] * len(worth)
            for drawn in itertools.product(range(len(worth)), repeat=n):
                chance = math.prod(probs[i] for i in drawn)
                best = [i for i in drawn if worth[i] == max(worth[j] for j in drawn)]
                for i in best:
                    expected[i] += chance / len(best)
            for i, value in enumerate(expected):
                assert math.isclose(found[row, i], value, rel_tol=1e-9, abs_tol=1e-12), (
                    f"rewards {worth}, best of {n}, completion {i}: expected {value:.6g}, "
                    f"found {float(found[row, i]):.6g}"
                )


def check_on_policy_worth(on_policy_worth):
    """Token by token: what the teacher says of it and of all that follow."""
    for seed, (num, length) in enumerate(SHAPES):
        student, teacher, _, mask = random_batch(seed, num, length)
        student.requires_grad_()
        found = on_policy_worth(student, teacher, mask)
        assert found.shape == mask.shape
        assert not found.requires_grad, "a worth is a constant: no gradient flows through it"
        for b, t in itertools.product(range(num), range(length)):
            if not mask[b, t]:
                continue
            rest = [s for s in range(t, length) if mask[b, s]]
            expected = sum(teacher[b, s].item() - student[b, s].item() for s in rest)
            assert math.isclose(found[b, t], expected, rel_tol=1e-9, abs_tol=1e-9), (
                f"completion {b}, token {t}: expected {expected:.6g}, found {float(found[b, t]):.6g}"
            )


def check_keep_best(keep_best):
    """One of each group, and no other of the group earns more; with every order of three rewards."""
    tables = [list(order) for order in itertools.product((0.0, 1.0, 2.0), repeat=3)]
    found = keep_best(torch.tensor(tables))
    assert found.shape == (len(tables), 3)
    for row, rewards in zip(found.tolist(), tables):
        assert sum(row) == 1, f"of rewards {rewards} one is kept, not {sum(row)}"
        kept = rewards[row.index(True)]
        assert kept == max(rewards), f"of rewards {rewards} the best is kept, not {kept}"


def check_weighted_loss(weighted_loss):
    """Value and slope by loops; and of no text."""
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, _, _, mask = random_batch(seed, num, length)
        log_probs.requires_grad_()
        worth = torch.linspace(-2.0, 3.0, num * length, dtype=torch.float64).view(num, length)
        loss = weighted_loss(log_probs, worth, mask)
        (slope,) = torch.autograd.grad(loss, log_probs)
        total = 0.0
        for b, t in itertools.product(range(num), range(length)):
            steep = -worth[b, t].item() / num if mask[b, t] else 0.0
            total += steep * log_probs[b, t].item()
            assert math.isclose(slope[b, t], steep, rel_tol=1e-9, abs_tol=1e-12), (
                f"slope at completion {b}, token {t}: expected {steep:.6g}, found {float(slope[b, t]):.6g}"
            )
        assert math.isclose(loss.item(), total, rel_tol=1e-9, abs_tol=1e-12), f"{total:.6g} expected"
    log_probs, nothing = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 3)
    found = weighted_loss(log_probs, nothing, nothing.bool())
    assert found.item() == 0.0, "no text was kept: the loss is 0"


def two_writers(seed=1):
    """(world, task, two policies that never write the same: one begins with symbol 1, the other with 2)."""
    world = token_world(seed, num_symbols=4, length=3)
    writers = []
    for first in (1, 2):
        policy = world.reference(torch.float64)
        with torch.no_grad():
            rows = policy.prefix_rows(world.prompt_ids)[:, 0]
            policy.table[rows] = -40.0
            policy.table[rows, first] = 40.0
        writers.append(policy)
    return world, tasks.world_task(world), *writers


def check_collect(collect):
    """Who writes, which texts are kept, and what their tokens are worth."""
    module = sys.modules[collect.__module__]
    world, task, policy, other = two_writers()
    drawn = []

    def score(rows, completion_ids):
        drawn.append((rows, world.reward(task.prompt_ids[rows], completion_ids)))
        return drawn[-1][1]

    task = task._replace(score=score)
    for how, size in (("best", 6), ("best", 1), ("passed", 6), ("all", 1), ("on_policy", 1), ("whole", 1)):
        cfg = module.Config(how=how, group_size=size, batch_size=48, threshold=0.4)
        data = collect(policy, other, task, torch.Generator().manual_seed(0), cfg)
        assert not any(values.requires_grad for values in data.values()), "a batch is constant"
        rows, rewards = drawn.pop()
        assert len(rows) == 48, f"{how}: {len(rows)} completions were written, not 48"
        groups = rewards.view(-1, size)
        assert (rows.view(-1, size) == rows.view(-1, size)[:, :1]).all(), "a group answers one prompt"
        first = 1 if how in ("on_policy", "whole") else 2
        assert (data["completion_ids"][:, 0] == first).all(), f"{how}: the wrong policy writes"
        wanted = {"best": groups.amax(dim=1), "passed": rewards[rewards >= 0.4]}.get(how, rewards)
        assert data["rewards"].tolist() == wanted.tolist(), f"{how}: other texts are kept"
        again = world.reward(data["prompt_ids"], data["completion_ids"])
        assert torch.equal(again, data["rewards"]), "prompts, completions and rewards belong together"
        mask = data["completion_mask"]
        assert ("teacher" in data) == (how == "whole"), "a teacher's distributions, where they are asked for"
        if how == "whole":
            chosen = data["teacher"].gather(-1, data["completion_ids"][..., None])[..., 0]
            assert torch.allclose(chosen * mask, tasks.log_probs_of(other, data)), "it is the teacher's word"
            continue
        if how != "on_policy":
            assert (data["worth"] == 1.0).all()
            continue
        ours, theirs = (tasks.log_probs_of(one, data).detach() for one in (policy, other))
        rest = torch.stack([((theirs - ours) * mask)[:, t:].sum(dim=1) for t in range(mask.shape[1])], dim=1)
        assert torch.allclose(data["worth"], rest)


def check_next_token_kl(next_token_kl):
    """Place by place, value and slope, from sums over the vocabulary."""
    for seed, (num, length, size) in enumerate(((1, 1, 2), (3, 4, 5), (2, 3, 7))):
        generator = torch.Generator().manual_seed(seed)
        logits, other = torch.randn(2, num, length, size, generator=generator, dtype=torch.float64)
        logits.requires_grad_()
        found = next_token_kl(logits.log_softmax(-1), other.log_softmax(-1))
        assert found.shape == (num, length)
        (slope,) = torch.autograd.grad(found.sum(), logits)
        found = found.detach()
        for b, t in itertools.product(range(num), range(length)):
            p, q = (row[b, t].detach().softmax(-1).tolist() for row in (logits, other))
            total = sum(x * math.log(x / y) for x, y in zip(p, q))
            assert math.isclose(found[b, t], total, rel_tol=1e-9), (
                f"completion {b}, token {t}: expected {total:.6g}, found {float(found[b, t]):.6g}"
            )
            for v in range(size):
                steep = p[v] * (math.log(p[v] / q[v]) - total)
                assert math.isclose(slope[b, t, v], steep, abs_tol=1e-9), f"slope at token {v}: {steep:.6g}"


def check_loss_of(loss_of):
    """Of texts with a worth, and of texts with a teacher's distributions: value and gradient of the table."""
    world, _, policy, teacher = two_writers(2)
    with torch.no_grad():
        for model, seed in ((policy, 5), (teacher, 6)):
            drawn = torch.randn(model.table.shape, generator=torch.Generator().manual_seed(seed))
            model.table.copy_(drawn)
    batch = {name: values[::3] for name, values in tasks.every_completion(world).items()}
    mask, num = batch["completion_mask"], len(batch["completion_mask"])
    worth = torch.linspace(-1.0, 2.0, mask.numel(), dtype=torch.float64).view(mask.shape)
    with torch.no_grad():
        theirs = tasks.next_log_probs_of(teacher, batch)
    judged = -(tasks.log_probs_of(policy, batch) * worth).masked_fill(~mask, 0.0).sum() / num
    ours = tasks.next_log_probs_of(policy, batch)
    places = (ours.exp() * (ours - theirs)).sum(dim=-1).masked_fill(~mask, 0.0)
    for extra, wanted in (({"worth": worth}, judged), ({"teacher": theirs}, places.sum() / num)):
        found = loss_of(policy, batch | extra)
        assert math.isclose(found.item(), wanted.item(), rel_tol=1e-9), (
            f"{next(iter(extra))}: {found.item():.6g}"
        )
        slopes = [torch.autograd.grad(loss, policy.table)[0] for loss in (found, wanted)]
        assert torch.allclose(*slopes, atol=1e-10), f"gradient with a {next(iter(extra))}"


def check_expected_gradient(expected_gradient):
    """Against finite differences of the divergence, summed completion by completion."""
    world = token_world(2, num_symbols=3, length=2)
    student, teacher = world.reference(torch.float64), world.reference(torch.float64)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for model in (student, teacher):
            model.table += torch.randn(model.table.shape, generator=generator, dtype=torch.float64)
    found = expected_gradient(world, student, teacher)
    theirs = world.log_probs(teacher).detach().flatten().tolist()

    def divergence():
        mine = world.log_probs(student).detach().flatten().tolist()
        return sum(math.exp(p) * (p - q) for p, q in zip(mine, theirs)) / world.num_prompts

    for at in itertools.product(*map(range, student.table.shape)):
        sides = []
        for step in (1e-5, -2e-5):
            student.table.data[at] += step
            sides.append(divergence())
        student.table.data[at] += 1e-5
        slope = (sides[0] - sides[1]) / 2e-5
        assert math.isclose(found[at], slope, abs_tol=1e-8), (
            f"logit {at}: {slope:.6g}, not {float(found[at]):.6g}"
        )


EDITS = {
    "ties_to_the_first": Edit(
        function="best_of_n",
        old="_, level = reward.unique(return_inverse=True)",
        new="level = reward.argsort(stable=True).argsort()",
        says="among equal rewards the last of the list always wins",
    ),
    "ties_all_win": Edit(
        function="best_of_n",
        old="weight = (at_most**n - below**n) / mass",
        new="weight = n * at_most ** (n - 1)",
        says="the formula for rewards without ties and without mass: it does not add up to 1",
        fails=("bound_excess",),
    ),
    "worst_of_n": Edit(
        function="best_of_n",
        old="reward.unique(return_inverse=True)",
        new="(-reward).unique(return_inverse=True)",
        says="the worst of n",
        fails=("learnt_distance",),
    ),
    "n_not_all": Edit(
        function="best_of_n",
        old="(at_most**n - below**n) / mass",
        new="((1.0 - below) ** n - (1.0 - at_most) ** n) / mass",
        says="at least r(y) for at most: the worst of n",
        fails=("learnt_distance",),
    ),
    "next_token_only": Edit(
        function="on_policy_worth",
        old="verdicts.flip(1).cumsum(dim=1).flip(1)",
        new="verdicts",
        says="each token answers for itself alone: the term of the tokens it leads to is dropped",
        fails=("gradient_gap",),
    ),
    "credit_for_the_past": Edit(
        function="on_policy_worth",
        old="verdicts.flip(1).cumsum(dim=1).flip(1)",
        new="verdicts.cumsum(dim=1)",
        says="adds up what came before a token instead of what follows it",
        fails=("gradient_gap",),
    ),
    "teacher_and_student_swapped": Edit(
        function="on_policy_worth",
        old="teacher_log_probs - log_probs",
        new="log_probs - teacher_log_probs",
        says="teacher and student swapped: runs away from the teacher",
        fails=("gradient_gap",),
    ),
    "forward_on_own_texts": Edit(
        function="on_policy_worth",
        old="verdicts.flip(1).cumsum(dim=1).flip(1)",
        new="verdicts.sum(dim=1, keepdim=True).exp().expand_as(verdicts)",
        says="the gradient of the forward divergence, by importance weights on the student's own texts",
        fails=("gradient_gap",),
    ),
    "padding_judged": Edit(
        function="on_policy_worth",
        old="((teacher_log_probs - log_probs) * mask)",
        new="(teacher_log_probs - log_probs)",
        says="what stands behind the end is judged too",
    ),
    "verdict_differentiated": Edit(
        function="on_policy_worth",
        old="* mask).detach()",
        new="* mask)",
        says="the worth is differentiated as if it were no constant",
        fails=("gradient_gap",),
    ),
    "worst": Edit(
        function="keep_best",
        old="rewards.argmax(",
        new="rewards.argmin(",
        says="keeps the worst of each group",
        fails=("learnt_distance",),
    ),
    "ties_kept": Edit(
        function="keep_best",
        old="torch.arange(rewards.shape[1]) == rewards.argmax(dim=1, keepdim=True)",
        new="rewards == rewards.amax(dim=1, keepdim=True)",
        says="keeps all that are best: a group with ties counts more than once",
    ),
    "best_of_all_prompts": Edit(
        function="keep_best",
        old="rewards.argmax(dim=1, keepdim=True)",
        new="rewards.argmax(dim=1).mode().values",
        says="the same place in every group",
        fails=("learnt_distance",),
    ),
    "lowered": Edit(
        function="weighted_loss",
        old="return -(worth",
        new="return (worth",
        says="the sign: what is worth something becomes unlikely",
        fails=("gradient_gap", "learnt_distance"),
    ),
    "padding_learnt": Edit(
        function="weighted_loss",
        old="(worth * log_probs * mask)",
        new="(worth * log_probs)",
        says="what stands behind the end is learnt too",
    ),
    "mean_over_tokens": Edit(
        function="weighted_loss",
        old="max(1, len(mask))",
        new="mask.sum().clamp(min=1)",
        says="a mean over tokens: long texts count for more than short ones",
    ),
    "other_direction": Edit(
        function="next_token_kl",
        old="log_probs.exp() * (log_probs - teacher_log_probs)",
        new="teacher_log_probs.exp() * (teacher_log_probs - log_probs)",
        says="the forward divergence of each token: it minds what the student leaves out, not what it adds",
    ),
    "cross_entropy": Edit(
        function="next_token_kl",
        old="log_probs.exp() * (log_probs - teacher_log_probs)",
        new="-log_probs.exp() * teacher_log_probs",
        says="leaves out the student's entropy: the least of it is the teacher's favourite token alone",
    ),
    "constant_weights": Edit(
        function="next_token_kl",
        old="log_probs.exp() * (",
        new="log_probs.exp().detach() * (",
        says="weights without a slope: the value is right, the gradient is 0",
        fails=("greedy_after", "sampled_after"),
    ),
    "divergences_of_padding": Edit(
        function="loss_of",
        old='batch["teacher"]) * mask).sum()',
        new='batch["teacher"])).sum()',
        says="what stands behind the end is compared too",
    ),
    "mean_over_places": Edit(
        function="loss_of",
        old="/ len(mask)",
        new="/ mask.sum()",
        says="a mean over tokens: long texts count for more than short ones",
    ),
    "teacher_writes": Edit(
        function="collect",
        old='policy if cfg.how in ("on_policy", "whole") else other',
        new="other",
        says="the teacher writes what the student is judged for: off-policy, under the name of the other",
    ),
    "student_writes": Edit(
        function="collect",
        old='policy if cfg.how in ("on_policy", "whole") else other',
        new="policy",
        says="the student itself writes what it imitates: the best of its own, again at each update",
        fails=("learnt_distance",),
    ),
    "groups_torn": Edit(
        function="collect",
        old="rows.repeat_interleave(size)",
        new="rows.repeat(size)",
        says="groups hold answers to different prompts",
        fails=("learnt_distance",),
    ),
    "failed_kept": Edit(
        function="collect",
        old="groups >= cfg.threshold",
        new="groups <= cfg.threshold",
        says="keeps what did not pass",
    ),
    "nothing_rejected": Edit(
        function="collect",
        old='if cfg.how != "all":',
        new="if False:",
        says="keeps all of its samples: it learns what it could do before",
        fails=("learnt_distance",),
    ),
    "every_text_alike": Edit(
        function="expected_gradient",
        old="log_probs.detach().sum(dim=1, keepdim=True).exp() / world.num_prompts",
        new="torch.full((len(mask), 1), 1.0 / len(mask))",
        says="a mean over texts that forgets how likely the student writes each",
        fails=("gradient_gap",),
    ),
    "sum_over_prompts": Edit(
        function="expected_gradient",
        old=".exp() / world.num_prompts",
        new=".exp()",
        says="a sum over prompts instead of a mean",
        fails=("gradient_gap",),
    ),
}
