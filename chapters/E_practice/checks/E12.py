"""E12's functions against loops and enumeration, and its named edits."""

import copy
import math

import numpy as np
import torch
from torch import nn

from chapters.exact.goals import Task
from chapters.utils.edits import Edit
from chapters.utils.optim import Adam

CONSTANT = ("remember", "fisher")  # to the loss: they may be written with or without a gradient


def some_matrix(seed: int, num_tasks: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 1.0, size=(num_tasks, num_tasks))


def check_average_accuracy(average_accuracy):
    for seed, num in ((0, 3), (1, 2), (2, 5)):
        R = some_matrix(seed, num)
        expected = sum(R[num - 1, j] for j in range(num)) / num
        assert math.isclose(average_accuracy(R), expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"expected {expected:.4f}, found {average_accuracy(R):.4f}"
        )


def check_backward_transfer(backward_transfer):
    for seed, num in ((0, 3), (1, 2), (2, 5)):
        R = some_matrix(seed, num)
        expected = sum(R[num - 1, j] - R[j, j] for j in range(num - 1)) / (num - 1)
        assert math.isclose(backward_transfer(R), expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"expected {expected:.4f}, found {backward_transfer(R):.4f}"
        )


def check_forgetting(forgetting):
    for seed, num in ((0, 3), (1, 2), (2, 5), (3, 4)):
        R = some_matrix(seed, num)
        lost = [max(R[i, j] for i in range(num - 1)) - R[num - 1, j] for j in range(num - 1)]
        expected = sum(lost) / (num - 1)
        assert math.isclose(forgetting(R), expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"expected {expected:.4f}, found {forgetting(R):.4f}"
        )


def check_fold(fold):
    """The joint minimum; with diagonals, a descent on the loss and the penalty of each task in turn."""
    for seed, (num, size) in enumerate(((3, 4), (2, 3), (4, 2), (1, 3))):
        rng = np.random.default_rng(seed)
        roots = rng.normal(size=(num, size, size))
        curvatures, lowest = (
            roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(size),
            rng.normal(size=(num, size)),
        )
        joint = np.linalg.inv(curvatures.sum(axis=0)) @ sum(A @ a for A, a in zip(curvatures, lowest))
        np.testing.assert_allclose(
            fold(curvatures, lowest), joint, rtol=1e-7, atol=1e-8, err_msg="joint minimum"
        )
        weights, kept = lowest[0], np.zeros((size, size))
        for i in range(1, num):
            for k in range(size):
                kept[k, k] += curvatures[i - 1, k, k]
            pull = curvatures[i] @ lowest[i] + np.diag(kept) * weights
            weights = np.linalg.inv(curvatures[i] + kept) @ pull
        np.testing.assert_allclose(
            fold(curvatures, lowest, diagonal=True), weights, rtol=1e-7, atol=1e-8, err_msg="with diagonals"
        )


def small_network(seed: int, inputs: int = 2, answers: int = 3, hidden: int = 2) -> nn.Sequential:
    """In double precision, with weights large enough that answers differ."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, answers)).double()
    with torch.no_grad():
        for one in network.parameters():
            one.copy_(torch.randn(one.shape, generator=generator, dtype=torch.float64))
    return network


def some_inputs(seed: int, num: int, size: int = 2) -> torch.Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)


def slopes_of(network: nn.Module, x: torch.Tensor, answer: int) -> list[torch.Tensor]:
    network = copy.deepcopy(network)
    network(x[None])[0].log_softmax(dim=0)[answer].backward()
    return [one.grad for one in network.parameters()]


def check_fisher(fisher):
    """Answer by answer and input by input; for labels, one answer each."""
    for seed, (num, answers) in enumerate(((3, 3), (1, 2), (5, 4))):
        network, inputs = small_network(seed, answers=answers), some_inputs(seed, num)
        labels = torch.arange(num) % answers
        for given in (None, labels):
            expected = [torch.zeros_like(one) for one in network.parameters()]
            for i, x in enumerate(inputs):
                chances = network(x[None])[0].softmax(dim=0).detach()
                for answer in range(answers):
                    chance = chances[answer] if given is None else float(given[i] == answer)
                    for total, slope in zip(expected, slopes_of(network, x, answer)):
                        total += chance * slope**2 / num
            found = fisher(network, inputs) if given is None else fisher(network, inputs, given)
            assert len(found) == len(expected), f"one tensor for each of {len(expected)} parameters"
            for i, (one, other) in enumerate(zip(found, expected)):
                torch.testing.assert_close(
                    one.double(), other, rtol=1e-6, atol=1e-9, msg=lambda said, i=i: f"parameter {i}: {said}"
                )


def check_ewc_penalty(ewc_penalty):
    for seed in (0, 1, 2):
        network, old = small_network(seed), small_network(seed + 10)
        anchor = [one.detach() for one in old.parameters()]
        precision = [one.detach() ** 2 for one in small_network(seed + 20).parameters()]
        expected = 0.0
        for now, was, matters in zip(network.parameters(), anchor, precision):
            for w, a, m in zip(now.flatten().tolist(), was.flatten().tolist(), matters.flatten().tolist()):
                expected += m * (w - a) ** 2 / 2
        found = ewc_penalty(network, anchor, precision)
        assert math.isclose(found.item(), expected, rel_tol=1e-6), (
            f"expected {expected:.4f}, found {found.item():.4f}"
        )
        slopes = torch.autograd.grad(found, list(network.parameters()))
        for slope, now, was, matters in zip(slopes, network.parameters(), anchor, precision):
            torch.testing.assert_close(slope, (matters * (now - was)).detach(), rtol=1e-6, atol=1e-9)


def check_kl(kl):
    for seed, (num, answers) in enumerate(((4, 3), (1, 2), (3, 5))):
        logits = torch.randn(2, num, answers, generator=torch.Generator().manual_seed(seed)).double()
        old, new = logits.log_softmax(dim=2)
        new = new.clone().requires_grad_()
        expected = 0.0
        for i in range(num):
            for c in range(answers):
                expected += math.exp(old[i, c]) * (old[i, c] - new[i, c]).item() / num
        found = kl(old, new)
        assert math.isclose(found.item(), expected, rel_tol=1e-6, abs_tol=1e-9), (
            f"expected {expected:.4f}, found {found.item():.4f}"
        )
        (slope,) = torch.autograd.grad(found, new)
        torch.testing.assert_close(slope, -old.exp() / num, rtol=1e-6, atol=1e-9)


def check_remember(remember):
    """As many rows as asked for, none twice, at random, each with the likeliest answer."""
    network, inputs = small_network(0, answers=4), some_inputs(0, 20)
    likeliest = network(inputs).argmax(dim=1)
    drawn = set()
    for seed, share in enumerate((0.25, 0.5, 1.0, 0.0, 0.25)):
        torch.manual_seed(seed)
        kept, answers = remember(network, inputs, share)
        assert len(kept) == len(answers) == round(20 * share), f"{len(kept)} of 20 kept, asked for {share}"
        rows = [int((inputs == one).all(dim=1).nonzero()[0]) for one in kept]
        assert len(set(rows)) == len(rows), "an input is kept twice"
        for row, answer in zip(rows, answers):
            assert int(answer) == int(likeliest[row]), "not the likeliest answer to this input"
        drawn.add(tuple(sorted(rows)) if share == 0.25 else ())
    assert len(drawn) == 3, "always the same inputs: draw them at random"
    assert len(remember(network, inputs)[0]) == 5, "a quarter, if nothing is said"


def choice_tasks(num_tasks: int = 3) -> list[Task]:
    """Tasks that conflict: inputs of their own, answers to be learnt."""
    tasks = []
    for seed in range(num_tasks):
        inputs, labels = some_inputs(seed, 8), torch.arange(8) % 3
        labels = (labels + seed) % 3

        def loss(model, inputs=inputs, labels=labels):
            return nn.functional.cross_entropy(model(inputs), labels)

        tasks.append(Task(inputs, loss, lambda model, loss=loss: -loss(model).item()))
    return tasks


def penalties_in_turn(remedy: str, model: nn.Module, old: list[tuple], inputs: list) -> torch.Tensor:
    """What a remedy adds, written out from (networks, Fisher matrices, memories) of the old tasks."""
    if remedy == "replay":
        return sum(nn.functional.cross_entropy(model(x), y) for _, _, (x, y) in old)
    newest = old[-1][0]
    if remedy == "ewc":
        total = 0.0
        for _, matrix, _ in old:
            for now, was, matters in zip(model.parameters(), newest.parameters(), matrix):
                total = total + (matters * (now - was.detach()) ** 2).sum() / 2
        return total
    x = torch.cat(inputs)
    with torch.no_grad():
        before = newest(x).softmax(dim=1)
    each = (before * (before.log() - model(x).log_softmax(dim=1))).sum(dim=1)
    return len(inputs) * each.mean()


def check_learn_in_turn(learn_in_turn):
    """Beside a loop of its own; with each remedy, and what it keeps written out."""
    from chapters.E_practice.E12_continual_learning import fisher, remember

    tasks, num_steps, lr = choice_tasks(), 3, 0.05
    for remedy, strength in (("nothing", 0.0), ("replay", 0.7), ("ewc", 3.0), ("distil", 0.7)):
        torch.manual_seed(1)
        found = learn_in_turn(small_network(5), tasks, remedy, strength, num_steps, lr)
        torch.manual_seed(1)
        model, old, R = small_network(5), [], np.zeros((3, 3))
        for i, task in enumerate(tasks):
            optimizer = Adam(model.parameters(), lr=lr)
            for _ in range(num_steps):
                loss = task.loss(model)
                if old and remedy != "nothing":
                    seen = [one.inputs for one in tasks[:i]]
                    loss = loss + strength * penalties_in_turn(remedy, model, old, seen)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            R[i] = [one.score(model) for one in tasks]
            memory = remember(model, task.inputs) if remedy == "replay" else None
            old.append((copy.deepcopy(model), fisher(model, task.inputs), memory))
        np.testing.assert_allclose(found, R, rtol=1e-5, atol=1e-6, err_msg=f"scores with {remedy}")


EDITS = {
    "mean_of_all_times": Edit(
        function="average_accuracy",
        old="R[-1].mean()",
        new="R.mean()",
        says="takes the mean over all times: what was not yet learnt counts too",
        fails=("goals_ewc", "goals_distil"),
    ),
    "one_task": Edit(
        function="average_accuracy",
        old="R[-1].mean()",
        new="R[:, -1].mean()",
        says="reads the matrix the wrong way round: one task at all times, not all tasks at the end",
        fails=("goals_replay", "goals_ewc", "goals_distil"),
    ),
    "since_the_start": Edit(
        function="backward_transfer",
        old="R[-1] - np.diag(R)",
        new="R[-1] - R[0]",
        says="compares with the time after the first task, when the others were not yet learnt",
    ),
    "last_task_too": Edit(
        function="backward_transfer",
        old=")[:-1].mean()",
        new=").mean()",
        says="counts the last task too, which had no time to be forgotten",
    ),
    "transposed": Edit(
        function="backward_transfer",
        old="R[-1] - np.diag(R)",
        new="R[:, -1] - np.diag(R)",
        says="reads the matrix the wrong way round: rows are times, columns are tasks",
    ),
    "sign_of_transfer": Edit(
        function="backward_transfer",
        old="R[-1] - np.diag(R)",
        new="np.diag(R) - R[-1]",
        says="has the sign of forgetting: transfer is above 0 if the old got better",
    ),
    "best_with_the_end": Edit(
        function="forgetting",
        old="R[:-1, :-1].max(axis=0)",
        new="R[:, :-1].max(axis=0)",
        says="counts the end among the times when it was best: what improves at last has forgotten nothing",
    ),
    "best_task": Edit(
        function="forgetting",
        old="R[:-1, :-1].max(axis=0)",
        new="R[:-1, :-1].max(axis=1)",
        says="takes the best task at each time, not the best time of each task",
    ),
    "since_learnt": Edit(
        function="forgetting",
        old="R[:-1, :-1].max(axis=0)",
        new="np.diag(R)[:-1]",
        says="compares with the time when a task was learnt: backward transfer with its sign turned",
    ),
    "last_task_forgets": Edit(
        function="forgetting",
        old="(R[:-1, :-1].max(axis=0) - R[-1, :-1])",
        new="(R[:-1].max(axis=0) - R[-1])",
        says="counts the last task too, before it was learnt",
        fails=("goals_forgotten",),
    ),
    "about_zero": Edit(
        function="fold",
        old="pull = precision @ weights + curvatures[i] @ lowest[i]",
        new="pull = curvatures[i] @ lowest[i]",
        says="centres the penalty on 0: it pulls all weights to nothing, as weight decay does",
        fails=("ewc_is_joint",),
    ),
    "about_the_lowest": Edit(
        function="fold",
        old="precision @ weights +",
        new="precision @ lowest[i - 1] +",
        says="centres on where the task before alone is lowest, not on where the weights are",
        fails=("ewc_is_joint",),
    ),
    "newest_curvature_alone": Edit(
        function="fold",
        old="precision = precision + kept[i]",
        new="precision = kept[i]",
        says="keeps the curvature of the last task alone: the first one is free to be forgotten",
        fails=("ewc_is_joint",),
    ),
    "diagonal_of_both": Edit(
        function="fold",
        old="precision + curvatures[i], pull)",
        new="precision + kept[i], pull)",
        says="takes the diagonal of the new loss too, which nobody need approximate",
    ),
    "empirical_for_true": Edit(
        function="fisher",
        old="log_probs.exp().detach() if labels is None else each[labels[i]]",
        new="each[log_probs.argmax() if labels is None else labels[i]]",
        says="squares slopes of the likeliest answer alone, where all answers count by their chance",
        fails=("goals_ewc",),
    ),
    "batch_mean": Edit(
        function="fisher",
        old="weights, slope**2) / len(inputs)  # eq. (5)\n    return found",
        new="weights, slope) / len(inputs)\n    return [total**2 for total in found]",
        says="squares the mean slope, where the mean of the squares is asked for",
        fails=("goals_ewc",),
    ),
    "answers_alike": Edit(
        function="fisher",
        old="log_probs.exp().detach() if labels is None",
        new="torch.full_like(log_probs.detach(), 1 / len(log_probs)) if labels is None",
        says="counts all answers alike, likely or not",
        fails=("goals_ewc",),
    ),
    "slopes_of_chances": Edit(
        function="fisher",
        old="torch.autograd.grad(log_probs, parameters",
        new="torch.autograd.grad(log_probs.exp(), parameters",
        says="takes slopes of the chances, not of their logarithms",
        fails=("goals_ewc",),
    ),
    "sum_over_inputs": Edit(
        function="fisher",
        old=" / len(inputs)",
        new="",
        says="adds up over inputs, where their mean is asked for: it grows with the data",
        fails=("goals_ewc",),
    ),
    "penalty_about_zero": Edit(
        function="ewc_penalty",
        old="(now - old) ** 2",
        new="now**2",
        says="centres the penalty on 0, not on the old weights",
        fails=("goals_ewc",),
    ),
    "all_weights_alike": Edit(
        function="ewc_penalty",
        old="(matters * (now - old) ** 2)",
        new="((now - old) ** 2)",
        says="holds all weights alike, whether they matter or not",
        fails=("goals_ewc",),
    ),
    "no_half": Edit(
        function="ewc_penalty",
        old="in parts) / 2",
        new="in parts)",
        says="forgets the half of a parabola: twice the strength",
    ),
    "absolute_distance": Edit(
        function="ewc_penalty",
        old="(now - old) ** 2",
        new="(now - old).abs()",
        says="takes the distance, not its square",
    ),
    "other_direction": Edit(
        function="kl",
        old="(old.exp() * (old - new))",
        new="(new.exp() * (new - old))",
        says="has the other direction: what the new network never answers any more costs nothing",
    ),
    "sum_of_inputs": Edit(
        function="kl",
        old=".sum(dim=1).mean()",
        new=".sum()",
        says="adds up over inputs, where their mean is asked for",
    ),
    "mean_of_answers": Edit(
        function="kl",
        old=".sum(dim=1).mean()",
        new=".mean()",
        says="takes the mean over answers too: as many times too little as there are answers",
    ),
    "first_inputs": Edit(
        function="remember",
        old="torch.randperm(len(inputs))",
        new="torch.arange(len(inputs))",
        says="keeps the first inputs, not some at random",
    ),
    "with_repetition": Edit(
        function="remember",
        old="torch.randperm(len(inputs))[: round(share * len(inputs))]",
        new="torch.randint(len(inputs), (round(share * len(inputs)),))",
        says="draws with repetition: some inputs are kept twice, and fewer in all",
    ),
    "least_likely": Edit(
        function="remember",
        old="argmax(dim=1)",
        new="argmin(dim=1)",
        says="keeps the answer that it would never give",
        fails=("goals_replay",),
    ),
    "last_memory_alone": Edit(
        function="learn_in_turn",
        old="memory = tuple(kept)",
        new="memory = tuple(kept[-1:])",
        says="replays the task before alone: what is older is forgotten",
    ),
    "old_fisher_dropped": Edit(
        function="learn_in_turn",
        old="precision = [sum(parts) for parts in zip(*kept)]",
        new="precision = kept[-1]",
        says="does not add the Fisher information of older tasks: only that of the task before is kept",
    ),
    "anchor_moves": Edit(
        function="learn_in_turn",
        old="anchor = [one.detach().clone() for one in model.parameters()]",
        new="anchor = list(model.parameters())",
        says="does not copy the old weights: they move along, and the penalty is always 0",
        fails=("goals_ewc",),
    ),
    "wrong_inputs": Edit(
        function="learn_in_turn",
        old="fisher(model, learnt[-1].inputs)",
        new="fisher(model, learnt[0].inputs)",
        says="asks for the Fisher information of the first task each time",
    ),
    "newest_answers_alone": Edit(
        function="learn_in_turn",
        old="torch.cat([task.inputs for task in learnt])",
        new="learnt[-1].inputs",
        says="asks the old network about the last task alone: what is older is forgotten",
        fails=("goals_distil",),
    ),
    "asks_itself": Edit(
        function="learn_in_turn",
        old="kl(old, model(inputs).log_softmax(dim=1))",
        new="kl(model(inputs).log_softmax(dim=1), model(inputs).log_softmax(dim=1))",
        says="asks the network itself, not its old self: the divergence is always 0",
        fails=("goals_distil",),
    ),
    "matrix_transposed": Edit(
        function="learn_in_turn",
        old="R[i] = [",
        new="R[:, i] = [",
        says="writes what was tested after a task into a column: the matrix lies on its side",
        fails=("goals_replay", "goals_ewc", "goals_distil"),
    ),
    "fisher_too_late": Edit(
        function="learn_in_turn",
        old="learnt[-1].inputs))\n    precision",
        new="learnt[max(len(learnt) - 2, 0)].inputs))\n    precision",
        says="measures what mattered to a task only after the next one was learnt, with that one's weights",
    ),
    "remedy_left_out": Edit(
        function="learn_in_turn",
        old="(strength, penalty)",
        new="(0.0, penalty)",
        says="never adds the remedy to the loss",
        fails=("goals_ewc", "goals_distil"),
    ),
}
