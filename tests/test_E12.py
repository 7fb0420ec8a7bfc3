"""Lesson E12's tasks against loops, its remedies where the answer is known, and what its evidence claims."""

import copy
import types

import numpy as np
import pytest
import torch
from torch import nn

import chapters.E_practice.E12_continual_learning as lesson
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E12 import EDITS, choice_tasks, small_network, some_inputs
from chapters.E_practice.checks.E12_exercises import own_centres, some_parabolas, sum_of_losses
from chapters.E_practice.evidence import E12 as evidence
from chapters.E_practice.evidence import E12_text
from chapters.exact import goals
from chapters.exact.goals import GAMMA, GOALS, ROOMS, exact_return, goal_task
from chapters.exact.mdp import evaluate_exactly, grid_mdp, policy_iteration
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def broken(name: str) -> types.ModuleType:
    return edited(lesson, EDITS[name])


class Fixed(nn.Module):
    """A network that gives the same logits for each input, whatever it is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(inputs)]


# The goals


def world_of(number: int):
    cells = list("".join(ROOMS))
    cells[GOALS[number]] = "G"
    return grid_mdp(["".join(cells[row : row + 5]) for row in range(0, 25, 5)], GAMMA, goals.SLIP)


def check_exact_return(exact_return):
    """A3's values, and the slope in each chance by differences."""
    rng = np.random.default_rng(0)
    for number in range(len(GOALS)):
        mdp = world_of(number)
        policy, start = rng.dirichlet(np.ones(4), size=25), rng.dirichlet(np.ones(25)) * ~mdp.terminal
        arrays = [torch.tensor(one) for one in (mdp.P, mdp.R, start)]
        asked = torch.tensor(policy, requires_grad=True)
        found = exact_return(asked, *arrays)
        assert found.item() == pytest.approx(start @ evaluate_exactly(mdp, policy), abs=1e-12)
        (slope,) = torch.autograd.grad(found, asked)
        s, a = int(np.flatnonzero(~mdp.terminal)[3]), 2
        sides = []
        for step in (1e-5, -1e-5):
            moved = torch.tensor(policy)
            moved[s, a] += step
            sides.append(exact_return(moved, *arrays).item())
        assert slope[s, a].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7)


def test_the_return_is_the_linear_solve_and_its_slope():
    check_exact_return(exact_return)


def check_goal_task(goal_task):
    for number in range(len(GOALS)):
        task, mdp = goal_task(number), world_of(number)
        best = policy_iteration(mdp)[1]
        sure = Fixed(torch.tensor(np.log(best + 1e-9), dtype=torch.float32))
        assert task.score(sure) == pytest.approx(1.0, abs=1e-5)
        assert task.score(Fixed(torch.zeros(25, 4))) == pytest.approx(0.0, abs=1e-5)
        assert task.loss(sure).item() == pytest.approx(-1.0, abs=1e-5)
        start = ~mdp.terminal / (~mdp.terminal).sum()
        policy = np.random.default_rng(number).dirichlet(np.ones(4), size=25)
        low, high, own = (
            start @ evaluate_exactly(mdp, one) for one in (np.full((25, 4), 0.25), best, policy)
        )
        found = task.score(Fixed(torch.tensor(np.log(policy), dtype=torch.float32)))
        assert found == pytest.approx((own - low) / (high - low), abs=1e-4)
        assert task.inputs.shape == (20, 28)
        assert (task.inputs.sum(dim=1) == 2).all()
        assert (task.inputs[:, 25 + number] == 1).all()
        asked = task.inputs[:, :25].argmax(dim=1).tolist()
        assert asked == np.flatnonzero(~mdp.terminal).tolist()


def test_a_goals_score_is_its_share_of_the_best_gain():
    check_goal_task(goal_task)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("exact_return", "- GAMMA * P_policy", "- 0.5 * P_policy"),
        ("exact_return", '"sa,sat->st"', '"sa,sat->ts"'),
        ("exact_return", "(policy * rewards).sum(dim=1)", "rewards.mean(dim=1)"),
        ("goal_task", 'cells[GOALS[number]] = "G"', 'cells[GOALS[0]] = "G"'),
        ("goal_task", "(earned - low) / (best - low)", "earned / best"),
        ("goal_task", "torch.eye(len(GOALS))[number]", "torch.eye(len(GOALS))[0]"),
        ("goal_task", "lambda model: -share(model)", "lambda model: share(model)"),
        ("goal_task", "inputs[torch.tensor(~mdp.terminal)]", "inputs"),
    ],
)
def test_a_goal_that_is_another_is_noticed(function, old, new):
    wrong = edited(goals, Edit(function, old, new, "wrong"))
    with pytest.raises(AssertionError):
        (check_exact_return if function == "exact_return" else check_goal_task)(getattr(wrong, function))


# The remedies


def test_three_parabolas_with_a_centre_each_miss_the_joint_minimum():
    """Exercise 3: with two tasks both are the joint minimum; with three only the one parabola."""
    for seed in range(5):
        two, three = some_parabolas(seed, 2, 4), some_parabolas(seed, 3, 4)
        np.testing.assert_allclose(own_centres(*two), lesson.fold(*two), atol=1e-8)
        low = sum_of_losses(lesson.fold(*three), *three)
        assert sum_of_losses(own_centres(*three), *three) > low * (1 + 1e-4)


def test_the_models_own_slopes_average_to_nothing_and_a_batchs_square_is_its_share():
    """All batches of two inputs and answers, each by its chance: exactly half of the Fisher information."""
    network, inputs = small_network(3), some_inputs(3, 2)
    exact = lesson.fisher(network, inputs)
    chances = network(inputs).softmax(dim=1).detach()
    squared = broken("batch_mean").fisher
    mean = [torch.zeros_like(one) for one in exact]
    for i in range(2):
        for j in range(2):
            for y in range(3):
                for z in range(3):
                    weight = chances[i, y] * chances[j, z] / 4
                    rows = inputs[[i, j]]
                    for total, one in zip(mean, squared(network, rows, torch.tensor([y, z]))):
                        total += weight * one
    for found, one in zip(mean, exact):
        torch.testing.assert_close(found, one / 2, rtol=1e-9, atol=1e-12)
    assert max(one.abs().max() for one in squared(network, inputs)) < 1e-25


def test_the_evidences_batch_mean_is_the_named_edit():
    network, inputs, labels = small_network(4), some_inputs(4, 6), torch.tensor([0, 2, 1, 1, 0, 2])
    expected = evidence.squares(broken("batch_mean").fisher(network, inputs, labels))
    assert evidence.batch_mean(network, inputs, labels) == pytest.approx(expected, rel=1e-9)


def test_the_whole_matrix_is_the_fisher_information():
    """Its diagonal is that of the lesson; along any step it is half the second order of the divergence."""
    network, task = small_network(6), choice_tasks(1)[0]
    kept: list = []
    penalty = evidence.whole(network, [task], kept)
    diagonal = torch.cat([one.flatten() for one in lesson.fisher(network, task.inputs)])
    torch.testing.assert_close((torch.cat(kept) ** 2).sum(dim=0), diagonal, rtol=1e-9, atol=1e-12)
    assert penalty(network).item() == 0.0
    old = network(task.inputs).log_softmax(dim=1).detach()
    step = [
        torch.randn(one.shape, generator=torch.Generator().manual_seed(i)).double()
        for i, one in enumerate(network.parameters())
    ]
    sides = []
    for sign in (1e-4, -1e-4):
        moved = copy.deepcopy(network)
        with torch.no_grad():
            for one, direction in zip(moved.parameters(), step):
                one += sign * direction
        sides.append((lesson.kl(old, moved(task.inputs).log_softmax(dim=1)).item(), penalty(moved).item()))
    (kl_up, foreseen), (kl_down, _) = sides
    assert (kl_up + kl_down) / 2 == pytest.approx(foreseen, rel=1e-4)


def test_the_divergence_agrees_with_the_fisher_information_and_a_wrong_one_does_not(monkeypatch):
    network = small_network(7)
    task = choice_tasks(1)[0]
    assert evidence.curvature_gap(network, task, 1e-3) < 1e-3
    for name in ("sum_over_inputs", "slopes_of_chances", "answers_alike"):
        monkeypatch.setattr(lesson, "fisher", broken(name).fisher)
        assert evidence.curvature_gap(network, task, 1e-3) > 0.01
        monkeypatch.undo()


def test_a_sure_network_has_no_fisher_information():
    logits = torch.tensor([[1.0, 0.0], [4.0, 0.0], [8.0, 0.0], [16.0, 0.0]]).double()
    found = []
    for row in logits:
        model = nn.Linear(1, 2, bias=False).double()
        with torch.no_grad():
            model.weight.copy_(row[:, None])
        p = row.softmax(dim=0)[0].item()
        found.append(evidence.squares(lesson.fisher(model, torch.ones(1, 1).double())))
        assert found[-1] == pytest.approx(2 * p * (1 - p))
    assert (np.diff(found) < 0).all()
    assert found[-1] < 1e-6


# The tables


def test_tables_are_all_their_entries_and_their_answers_are_right():
    torch.manual_seed(0)
    tasks, model = E12_text.table_tasks(3)
    numbers = {int(row[0]) for row in tasks[0].inputs}
    zero = min(numbers)
    assert numbers == {zero, zero + 1, zero + 2}, "digits are tokens in their order"
    for task, right in zip(
        tasks, ((0, 1, 2, 1, 2, 0, 2, 0, 1), (0, 2, 1, 1, 0, 2, 2, 1, 0), (0, 0, 0, 0, 1, 2, 0, 2, 1))
    ):
        pairs = [(int(row[0]) - zero, int(row[2]) - zero) for row in task.inputs]
        assert pairs == [(a, b) for a in range(3) for b in range(3)]
        logits = torch.zeros(9, 10)
        logits[torch.arange(9), zero + torch.tensor(right)] = 9.0
        assert task.score(Fixed(logits)) == 1.0
        assert task.loss(Fixed(logits)).item() < 0.01
        assert task.score(Fixed(-logits)) < 0.5
    assert len({int(task.inputs[0, 1]) for task in tasks}) == 3, "each table has a sign of its own"
    assert model(tasks[0].inputs).shape[0] == 9
    for name, weights in model.named_parameters():
        if weights.dim() == 1:
            whole = 1.0 if name.endswith("weight") else 0.0
            assert (weights == whole).all(), "only matrices are spread: norms and biases begin as they do"


def test_doubt_is_what_the_likeliest_answer_lacks():
    model = Fixed(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]).log())
    task = lesson.Task(torch.zeros(2, 1), lambda model: None, lambda model: 0.0)
    assert E12_text.doubt(model, task) == pytest.approx((0.5 + 0.2) / 2)


# What the evidence claims


def claims_of(log: RunLog) -> dict[str, float]:
    return {claim.name: claim.value for claim in log.claims}


def test_shares_of_what_was_lost(tmp_path):
    log = RunLog(tmp_path, "E12")
    R = np.eye(3)
    found = {name: R.copy() for name in ("nothing", "replay", "ewc", "whole", "distil")}
    found["replay"][-1] = (0.3, 0.4, 1.0)
    found["ewc"][-1] = (0.0, 0.3, 1.0)
    found["distil"][-1] = (1.0, 0.8, 1.0)
    evidence.claim_text(evidence.Config(), log, found, joint=1.0)
    log.close()
    values = claims_of(log)
    assert values["tables_forgotten"] == 1.0
    assert values["tables_replay_kept"] == pytest.approx(0.35)
    assert values["tables_ewc_share"] == pytest.approx(0.15)
    assert values["tables_whole_share"] == pytest.approx(0.0)
    assert values["tables_distil_share"] == pytest.approx(0.9)
    bound = next(claim for claim in log.claims if claim.name == "tables_replay_kept").near[0]
    assert bound == pytest.approx(12 / 49 + 37 / 49 / 7)


def fake_learning(monkeypatch, ends: dict) -> list[tuple]:
    """Nobody learns: (remedy, strength) of each call is noted, and its last row is told beforehand."""
    asked = []

    def learn_in_turn(model, tasks, remedy, strength, num_steps, lr):
        asked.append((remedy, strength))
        R = np.eye(3)
        R[-1] = ends.get((remedy, strength), ends.get(remedy, 0.0))
        return R

    monkeypatch.setattr(lesson, "learn_in_turn", learn_in_turn)
    return asked


def test_each_strength_is_tried_and_a_penalty_on_new_inputs_is_what_it_says(tmp_path, monkeypatch):
    asked = fake_learning(monkeypatch, {("ewc", 100.0): 0.9, ("distil", 1.0): 0.8})
    log = RunLog(tmp_path, "E12")
    log.write(0, goals_distil_0=0.7, goals_distil_1=0.8, goals_distil_2=0.9)
    evidence.try_strengths(lesson.Config(), log)
    log.close()
    named = [(remedy, strength) for remedy, grid in evidence.GRIDS.items() for strength in grid]
    assert asked[:-2] == named
    assert log.last("goals_ewc_at_100") == pytest.approx(0.9)
    assert log.last("goals_ewc_at_10") == 0.0
    assert log.last("goals_distil_at_1") == pytest.approx(0.8)
    (claim,) = log.claims
    assert claim.at_most == pytest.approx(0.8)
    assert claim.value == 0.0
    reference, strength = asked[-1]
    assert [strength, asked[-2][1]] == [1.0, 0.1]
    tasks = [goal_task(number) for number in range(3)]
    old, new = nn.Linear(28, 4), nn.Linear(28, 4)
    penalty = reference(old, tasks[:1], [])
    before, now = (one(tasks[1].inputs).softmax(dim=1) for one in (old, new))
    expected = (now * (now.log() - before.log())).sum(dim=1).mean().item()
    assert penalty(new).item() == pytest.approx(expected, rel=1e-5)
    assert penalty(old).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("seed", "smoke", "more"), [(0, False, 12), (1, False, 0), (0, True, 0)])
def test_the_language_model_gets_each_remedy_at_its_strength(tmp_path, monkeypatch, seed, smoke, more):
    asked = fake_learning(monkeypatch, {"replay": (0.3, 0.4, 1.0), "nothing": (0.1, 0.1, 1.0), "distil": 0.9})
    log = RunLog(tmp_path, "E12", smoke=smoke)
    extra = evidence.Config(text_base=2, text_steps=1, text_ewc=5.0, text_whole=7.0)
    evidence.claim_tables(lesson.Config(seed=seed), extra, log)
    log.close()
    expected = [("nothing", 0.0), ("replay", 1.0), ("ewc", 5.0), ("distil", 10.0), (evidence.whole, 7.0)]
    assert asked[:5] == expected
    assert len(asked) == 5 + more
    if more:
        assert asked[-3:] == [(evidence.whole, strength) for strength in evidence.GRIDS["ewc"]]
        assert log.last("tables_distil_at_1") == pytest.approx(0.9)
    assert log.last("tables_replay_1") == pytest.approx(0.4)
    assert log.last("tables_nothing_0") == pytest.approx(0.1)
    assert claims_of(log)["tables_replay_kept"] == pytest.approx(0.35)


def test_the_slope_of_a_fading_fisher_information_and_what_was_foreseen(tmp_path, monkeypatch):
    traces, doubts, lengths = [8.0, 2.0, 0.5], [0.1, 0.025, 0.1 / 16], []
    monkeypatch.setattr(lesson, "fisher", lambda model, inputs: [torch.tensor(traces[len(lengths) - 1])])
    monkeypatch.setattr(evidence, "doubt", lambda model, task: doubts[len(lengths) - 1])
    monkeypatch.setattr(lesson, "train", lambda model, losses, num_steps, lr: lengths.append(num_steps))
    monkeypatch.setattr(evidence, "whole", lambda model, learnt, kept: lambda model: torch.tensor(0.3))
    monkeypatch.setattr(lesson, "kl", lambda old, new: torch.tensor(6.0))
    log = RunLog(tmp_path, "E12")
    evidence.claim_fading(lesson.Config(), evidence.Config(text_base=2, text_steps=10), log)
    log.close()
    assert lengths == [10, 10, 20, 10]
    assert log.series("fading_fisher") == ([10, 20, 40], pytest.approx(traces))
    assert claims_of(log)["fisher_fades"] == pytest.approx(1.0)
    assert claims_of(log)["parabola_foresees"] == pytest.approx(0.05)
    assert log.last("fading_kept") == pytest.approx(1 / 16)


def test_the_end_of_a_run_is_its_last_row():
    runs = [{f"x_{j}": [(0, 0.0), (1, 0.1), (2, value)] for j, value in enumerate((0.3, 0.6, 0.9))}]
    assert evidence.ends(runs, "x") == [pytest.approx(0.6)]


# What the text says


def runs() -> list[dict]:
    return ledger.load(find("E12"))["runs"]


def test_strengths_are_the_best_of_their_grids_on_seed_0():
    first = next(run for run in runs() if run["seed"] == 0)["metrics"]
    for prefix, cfg, before, grids in (
        ("goals", lesson.Config(), "", evidence.GRIDS),
        ("tables", evidence.Config(), "text_", evidence.GRIDS),
    ):
        for name, grid in grids.items():
            tried = {strength: first[f"{prefix}_{name}_at_{strength:g}"] for strength in grid}
            assert tried[getattr(cfg, before + name)] == max(tried.values()), f"{prefix}: {name}"


def test_what_is_said_of_the_model_that_goes_on_training_is_what_was_recorded():
    """All its answers are right at the last look, and of F next to nothing is left."""
    for run in runs():
        metrics = run["metrics"]
        assert metrics["fading_accuracy"] == 1.0
        assert metrics["fading_kept"] < 0.05


def test_no_strength_of_the_whole_matrix_was_enough_for_the_tables():
    first = next(run for run in runs() if run["seed"] == 0)["metrics"]
    low, high = (np.mean([first[f"tables_{name}_{j}"] for j in range(3)]) for name in ("nothing", "joint"))
    for name in ("ewc", "whole"):
        for strength in evidence.TABLE_GRIDS[name]:
            assert first[f"tables_{name}_at_{strength:g}"] < (low + high) / 2


def test_the_dot_near_0_is_a_policy_that_hardly_learnt_the_last_goal():
    ends = [[run["metrics"][f"goals_nothing_{j}"] for j in range(3)] for run in runs()]
    low = min(ends, key=np.mean)
    assert np.mean(low) < 0.1
    assert low[2] < 0.5
    assert sum(end[2] < 0.5 for end in ends) == 1
