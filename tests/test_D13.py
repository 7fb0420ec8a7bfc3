"""D13's learners on small token worlds: where they end, and wrong once edited; its frontier and its race."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from chapters.D_rlhf import D13_distillation as lesson
from chapters.D_rlhf.checks.D13 import EDITS
from chapters.D_rlhf.evidence import D13 as evidence
from chapters.envs.token_world import token_world
from chapters.text import tasks
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.seeding import seed_everything

WORLD = {"num_symbols": 4, "length": 3}
FEW = {"batch_size": 256, "num_epochs": 1, "learning_rate": 0.1}


def learn(module, folder, world, other, num=80, **changes):
    """The policy that a short run on a small world makes of the reference."""
    seed_everything(0)
    cfg = dataclasses.replace(module.Config(), num_updates=num, **FEW | changes)
    policy, log = world.reference(), RunLog(folder, "D13")
    module.train(policy, other, tasks.world_task(world), cfg, log, "quick")
    log.close()
    return world.log_probs(policy).detach()


def divergence(found, wanted):
    """KL(wanted || found), mean over prompts."""
    return float((wanted.exp() * (wanted - found).masked_fill(wanted == -torch.inf, 0.0)).sum(1).mean())


def test_the_best_of_n_is_the_worlds(tmp_path):
    world = token_world(3, **WORLD)
    for n in (1, 2, 7, 64):
        ours = lesson.best_of_n(world.reference_log_probs(), world.rewards, n)
        assert torch.allclose(ours.exp(), world.best_of_n(n).exp(), atol=1e-12)


@pytest.mark.parametrize("how", ["best", "passed"])
def test_what_was_kept_is_learnt(how, tmp_path):
    world = token_world(0, **WORLD)
    found = learn(lesson, tmp_path, world, world.reference(), how=how, group_size=4, threshold=0.5)
    wanted = world.best_of_n(4) if how == "best" else evidence.passing(world, 0.5)
    assert divergence(found, wanted) < 0.1 * divergence(world.reference_log_probs(), wanted)


@pytest.mark.parametrize("how", ["all", "on_policy", "whole"])
def test_a_student_becomes_its_teacher(how, tmp_path):
    world = token_world(1, **WORLD)
    best = world.optimum(0.5)
    found = learn(lesson, tmp_path, world, evidence.imitated(world, best).float(), how=how)
    assert divergence(found, best) < 0.15 * divergence(world.reference_log_probs(), best)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("teacher_and_student_swapped", "on_policy"),
        ("constant_weights", "whole"),
        ("lowered", "all"),
        ("groups_torn", "best"),
    ],
)
def test_an_edited_learner_ends_elsewhere(name, how, tmp_path):
    world = token_world(1, **WORLD)
    best = world.best_of_n(4) if how == "best" else world.optimum(0.5)
    other = world.reference() if how == "best" else evidence.imitated(world, best).float()
    found = learn(edited(lesson, EDITS[name]), tmp_path, world, other, how=how, group_size=4)
    assert not divergence(found, best) < 0.15 * divergence(world.reference_log_probs(), best)


def test_nothing_kept_is_nothing_learnt(tmp_path):
    world = token_world(0, **WORLD)
    found = learn(lesson, tmp_path, world, world.reference(), num=2, how="passed", threshold=1e9)
    assert torch.allclose(found, world.reference_log_probs(), atol=1e-5)


def test_the_frontier_is_where_the_optima_lie_and_no_policy_is_above():
    world = token_world(2, **WORLD)
    for beta in (0.2, 0.5, 2.0):
        best = world.optimum(beta)
        assert world.best_reward(float(world.kl(best))) == pytest.approx(float(world.expected_reward(best)))
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 0.5, 2.0):
        noise = scale * torch.randn(world.rewards.shape, generator=generator, dtype=torch.float64)
        policy = (world.reference_log_probs() + world.rewards + noise).log_softmax(1)
        assert world.best_reward(float(world.kl(policy))) > float(world.expected_reward(policy))
    assert world.best_reward(0.0) == pytest.approx(0.0, abs=1e-3)


def test_every_tokens_log_probability_holds_the_chosen_ones():
    world = token_world(1, **WORLD)
    batch = tasks.every_completion(world)
    policy = world.reference(torch.float64)
    nexts = tasks.next_log_probs_of(policy, batch)
    assert torch.allclose(nexts.exp().sum(-1), torch.ones(nexts.shape[:2], dtype=torch.float64))
    chosen = nexts.gather(-1, batch["completion_ids"][..., None])[..., 0]
    assert torch.allclose(chosen * batch["completion_mask"], tasks.log_probs_of(policy, batch))


def test_the_noise_of_a_gradient_is_that_of_all_completions_one_by_one():
    world = token_world(2, num_symbols=3, length=2)
    student, teacher = world.reference(torch.float64), world.reference(torch.float64)
    generator = torch.Generator().manual_seed(0)
    for model in (student, teacher):
        model.table.data += torch.randn(model.table.shape, generator=generator, dtype=torch.float64)
    found = evidence.squared_gradients(world, student, teacher)
    batch = tasks.every_completion(world)
    cut = edited(lesson, EDITS["next_token_only"])
    expected, means = dict.fromkeys(found, 0.0), {}
    for row in range(len(batch["prompt_ids"])):
        one = {name: values[row : row + 1] for name, values in batch.items()}
        mask, ours = one["completion_mask"], tasks.log_probs_of(student, one)
        prob = ours.sum().exp().item() / world.num_prompts
        theirs = tasks.log_probs_of(teacher, one).detach()
        nexts = tasks.next_log_probs_of(student, one), tasks.next_log_probs_of(teacher, one).detach()
        losses = {
            "on_policy": lesson.weighted_loss(ours, lesson.on_policy_worth(ours, theirs, mask), mask),
            "next_token_only": lesson.weighted_loss(ours, cut.on_policy_worth(ours, theirs, mask), mask),
            "whole": (lesson.next_token_kl(*nexts) * mask).sum(),
        }
        for name, loss in losses.items():
            (slope,) = torch.autograd.grad(loss, student.table, retain_graph=True)
            expected[name] += prob * slope.pow(2).sum().item()
            means[name] = means.get(name, 0.0) + prob * slope
    assert found == pytest.approx(expected)
    assert torch.allclose(means["on_policy"], lesson.expected_gradient(world, student, teacher))
    assert torch.allclose(means["whole"], evidence.whole_gradient(world, student, teacher))
    assert torch.allclose(means["next_token_only"], means["whole"])


def test_what_was_spent_when_the_bar_was_met():
    steps = [0, 10, 20, 30]

    def series(values):
        return [list(pair) for pair in zip(steps, values)]

    run = {
        "metrics": {
            "grpo_sampled": series([0.1, 0.5, 0.7, 0.6]),
            "grpo_cpu_seconds": series([0.0, 1.5, 3.0, 4.5]),
            "student_sampled": series([0.1, 0.2, 0.3, 0.59]),
            "student_cpu_seconds": series([0.0, 1.0, 2.0, 3.0]),
        }
    }
    assert evidence.until_bar(run, "grpo", "updates") == 20
    assert evidence.until_bar(run, "grpo", "cpu_seconds") == 3.0
    assert evidence.until_bar(run, "whole", "updates") == math.inf


def test_a_student_is_judged_where_the_writer_leads(tmp_path):
    """On its own answers and on the teacher's: known from enumeration in the limit of many."""
    world = token_world(1, num_symbols=3, length=2)
    student, teacher = world.reference(), world.reference()
    teacher.table.data += torch.randn(teacher.table.shape, generator=torch.Generator().manual_seed(2))
    task = tasks.world_task(world)
    many = torch.arange(2).repeat_interleave(2000)
    task = task._replace(prompt_ids=task.prompt_ids[many], prompt_mask=task.prompt_mask[many])
    task = task._replace(score=lambda rows, completion_ids: torch.zeros(len(rows)))
    log = RunLog(tmp_path, "D13")
    log.keep(held_out=task, teacher=teacher)
    batch = tasks.every_completion(world)
    mask = batch["completion_mask"]
    with torch.no_grad():
        nexts = (tasks.next_log_probs_of(model, batch) for model in (student, teacher))
        places = (lesson.next_token_kl(*nexts) * mask).sum(1)
    for writer in (student, teacher):
        with torch.no_grad():
            probs = world.log_probs(writer).exp().flatten()
        exact = float((probs * places).sum() / (probs * mask.sum(1)).sum())
        found = evidence.distance_on(writer, student, lesson.Config(), log)
        assert found == pytest.approx(exact, rel=0.08)
    log.close()


def test_rounds_of_best_of_n_on_a_plain_table():
    """Four even answers: the best of 2 of the best of 2 is the best of 4."""
    even, rewards = torch.full((1, 4), 0.25, dtype=torch.float64).log(), torch.arange(4.0).double()[None]
    twice = lesson.best_of_n(lesson.best_of_n(even, rewards, 2), rewards, 2).exp()[0]
    np.testing.assert_allclose(twice, [(i**4 - (i - 1) ** 4) / 256 for i in (1, 2, 3, 4)])


def test_who_learns_from_what_on_the_chart(tmp_path, monkeypatch):
    """RFT twice as long as others; three rounds, each half as long, each from what the last one made."""
    seen, others = [], []

    def train(policy, other, task, cfg, log, name):
        seen.append((name, cfg.how, cfg.num_updates, cfg.batch_size, cfg.group_size))
        others.append(float(other.table[0, 0].detach()))
        policy.table.data[0, 0] = len(seen)  # so that the next one knows from whom it has it

    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(evidence.placement, "train", lambda world, *_: world.reference())
    world, log = token_world(1, **WORLD), RunLog(tmp_path, "D13")
    log.keep(world=world)
    extra = evidence.Config(num_chart_updates=6, num_round_texts=40)
    ends = evidence.train_on_world(lesson.Config(), extra, log)
    log.close()
    usual, few = lesson.ON_WORLD["batch_size"], [("best", 3, 40, 4)] * 3
    assert [row[1:] for row in seen] == [
        ("passed", 12, usual, 16), *few, ("on_policy", 6, usual, 16), ("whole", 6, usual, 16)
    ]  # fmt: skip
    start = pytest.approx(float(world.reference().table[0, 0].detach()))
    assert others[:4] == [start, start, 2.0, 3.0]
    assert list(ends) == ["passed", "round_1", "round_2", "round_3", "on_policy", "whole", "policy_gradient"]
