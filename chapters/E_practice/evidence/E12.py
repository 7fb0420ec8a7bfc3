"""E12's evidence: what Fisher matrices are and are not, each remedy's strength, and a language model."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from chapters.E_practice import E12_continual_learning as lesson
from chapters.E_practice.checks.E12_exercises import diagonal_loss
from chapters.E_practice.evidence.E12_text import doubt, table_tasks
from chapters.envs.maps import forgetting_maps
from chapters.exact.goals import GOALS, Task, goal_task
from chapters.exact.intervals import median_interval
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.networks import tanh_mlp

GRIDS = {"replay": (0.1, 1.0, 10.0), "ewc": (10.0, 100.0, 1000.0), "distil": (0.1, 1.0, 10.0)}
"""Strengths among which the best average accuracy on seed 0 decided, for policies and for language models."""
TABLE_GRIDS = {**GRIDS, "whole": GRIDS["ewc"]}
BATCHES = (32, 128)
CHECKS = (1, 2, 4)
"""When the language model's Fisher information is looked at, in tasks' lengths of its first table."""
COLOURS = {"nothing": plotting.RED, "replay": plotting.ORANGE, "ewc": plotting.GREEN, "distil": plotting.BLUE}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_batches: Annotated[int, in_range(2, 100_000)] = 4000
    """Batches of each size whose mean slopes are squared."""
    text_base: Annotated[int, in_range(2, 50)] = 7
    """Numbers in a table: it has the square of that many entries."""
    text_steps: Annotated[int, in_range(1, 100_000)] = 100
    """Its gradient steps for each table."""
    text_lr: Annotated[float, in_range(1e-6, 1.0)] = 0.003
    """Its step size."""
    text_replay: Annotated[float, in_range(0.0, 1e6)] = 1.0
    """Strengths for the language model, chosen like those of the lesson."""
    text_ewc: Annotated[float, in_range(0.0, 1e9)] = 100.0
    """The same for elastic weight consolidation."""
    text_whole: Annotated[float, in_range(0.0, 1e9)] = 100.0
    """The same penalty with the whole Fisher matrix, at the strength of the diagonal."""
    text_distil: Annotated[float, in_range(0.0, 1e6)] = 10.0
    """The same for distillation."""


SMOKE = {"num_batches": 20, "text_base": 2, "text_steps": 1}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    torch.manual_seed(cfg.seed + 1)  # not the draws of the lesson itself
    rng = np.random.default_rng((cfg.seed, 1))
    claim_diagonal(log, rng)
    claim_fisher(cfg, extra, log)
    try_strengths(cfg, log)
    claim_tables(cfg, extra, log)
    claim_fading(cfg, extra, log)
    draw_all([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    log.figure(forgetting_maps(metrics, "goals", lesson.TITLES))
    draw_all(metrics, log)


# Parabolas


def claim_diagonal(log: RunLog, rng: np.random.Generator) -> None:
    """What the diagonal of one curvature loses, against both losses at both ends."""
    gaps, lost = [], []
    for _ in range(20):
        roots, lowest = rng.normal(size=(2, 6, 6)), rng.normal(size=(2, 6))
        curvatures = roots @ roots.transpose(0, 2, 1)
        ends = [lesson.fold(curvatures, lowest, diagonal=one) for one in (False, True)]
        least, found = (
            sum((end - a) @ A @ (end - a) / 2 for A, a in zip(curvatures, lowest)) for end in ends
        )
        gaps.append(abs(diagonal_loss(curvatures, lowest) - (found - least)))
        lost.append((found - least) / least)
    log.write(0, diagonal_lost=np.median(lost))
    log.claim(
        "diagonal_loss",
        "the diagonal alone ends above the joint minimum by what exercise 2 tells",
        max(gaps),
        at_most=1e-9,
        unit="largest difference of a loss, of 20",
        source="both losses at both ends",
        always=True,
    )


# Fisher matrices


def squares(weights: lesson.Weights) -> float:
    return sum(one.sum().item() for one in weights)


def batch_mean(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The trace of what repositories often call the Fisher: squares of the slope of a batch's mean."""
    loss = nn.functional.cross_entropy(model(inputs), labels)
    return squares([one**2 for one in torch.autograd.grad(loss, list(model.parameters()))])


def claim_fisher(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Second order of the KL, a batch's mean, and labels, on a policy that has learnt its first goal."""
    task = goal_task(0)
    model = tanh_mlp([25 + len(GOALS), cfg.hidden, 4], last_gain=0.01)
    lesson.train(model, [(1.0, task.loss)], cfg.num_steps, cfg.lr)
    exact = lesson.fisher(model, task.inputs)
    log.claim(
        "kl_curvature",
        "along single weights the KL divergence is half the Fisher information times the step's square",
        curvature_gap(model, task, 1e-2),
        at_most=1e-3,
        unit="largest relative gap, of the five weights of each tensor that matter most",
        source="KL divergences at a step of 0.01 to both sides, in double precision",
        always=True,
    )
    with torch.no_grad():
        log_probs = model(task.inputs).log_softmax(dim=1)
    for size in BATCHES:
        traces = []
        for _ in range(extra.num_batches):
            rows = torch.randint(len(task.inputs), (size,))
            labels = torch.multinomial(log_probs[rows].exp(), 1)[:, 0]
            traces.append(batch_mean(model, task.inputs[rows], labels))
        log.claim(
            f"batch_mean_{size}",
            f"the squared mean slope of {size} answers is one part in {size} of the Fisher information",
            np.mean(traces) / squares(exact) * size,
            near=(1.0, 0.15),
            unit=f"of 1 / {size}, traces, mean of batches",
            source="the model's own slopes are 0 on average",
        )
    labels = log_probs.argmax(dim=1)
    log.write(0, empirical_share=squares(lesson.fisher(model, task.inputs, labels)) / squares(exact))
    claim_labels(log)


def curvature_gap(model: nn.Module, task: Task, step: float) -> float:
    """How far the KL along single weights is from the parabola; five weights of each tensor."""
    model, inputs = copy.deepcopy(model).double(), task.inputs.double()
    old = model(inputs).log_softmax(dim=1).detach()
    gaps = []
    for weight, information in zip(model.parameters(), lesson.fisher(model, inputs)):
        for place in information.flatten().argsort(descending=True)[:5]:
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[place] += sign * step
                    sides.append(lesson.kl(old, model(inputs).log_softmax(dim=1)).item())
                    weight.view(-1)[place] -= sign * step
            gaps.append(abs(np.mean(sides) / (information.flatten()[place].item() * step**2 / 2) - 1))
    return max(gaps)


def claim_labels(log: RunLog) -> None:
    """A softmax over two answers whose logits are its weights: all that can happen is written down."""
    gaps, averaged = [], []
    for sure in (0.6, 0.9, 0.99, 0.999):
        model = nn.Linear(1, 2, bias=False).double()
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[sure], [1 - sure]], dtype=torch.float64).log())
        x = torch.ones(1, 1, dtype=torch.float64)
        exact = squares(lesson.fisher(model, x))
        for_label = [squares(lesson.fisher(model, x, torch.tensor([label]))) for label in (0, 1)]
        gaps.append(abs(for_label[0] / exact * sure / (1 - sure) - 1))
        averaged.append(abs((sure * for_label[0] + (1 - sure) * for_label[1]) / exact - 1))
    exactly = {"at_most": 1e-9, "unit": "largest relative gap, of four", "always": True}
    log.claim(
        "empirical_when_sure",
        "for its right label a model sure by p has (1 - p) / p of the Fisher information",
        max(gaps),
        source="(1 - p)^2 against p (1 - p)",
        **exactly,
    )
    log.claim(
        "empirical_when_drawn",
        "for labels that it draws itself both are one, on average",
        max(averaged),
        source="kunstner2019limitations",
        **exactly,
    )


# Strengths, and a penalty on new inputs alone


def try_strengths(cfg: lesson.Config, log: RunLog) -> None:
    """Average accuracy of the policy with each strength of each remedy, all from the same first weights."""
    tasks = [goal_task(number) for number in range(len(GOALS))]

    def learn(remedy: str | Callable, strength: float) -> lesson.Matrix:
        torch.manual_seed(cfg.seed)  # the first weights and the memories of the lesson
        model = tanh_mlp([25 + len(GOALS), cfg.hidden, 4], last_gain=0.01)
        return lesson.learn_in_turn(model, tasks, remedy, strength, cfg.num_steps, cfg.lr)

    for remedy, grid in GRIDS.items():
        for strength in grid:
            score = lesson.average_accuracy(learn(remedy, strength))
            log.write(0, **{f"goals_{remedy}_at_{strength:g}": score})

    def reference(model: nn.Module, learnt: list[Task], kept: list) -> lesson.Penalty:
        inputs = tasks[len(learnt) % len(tasks)].inputs  # of the task that comes next
        old = model(inputs).log_softmax(dim=1).detach()
        return lambda model: lesson.kl(model(inputs).log_softmax(dim=1), old)

    R = max((learn(reference, strength) for strength in GRIDS["distil"][:2]), key=lesson.average_accuracy)
    for i in range(len(R)):
        log.write(i, **{f"goals_reference_{j}": R[i, j] for j in range(len(tasks))})
    log.claim(
        "goals_reference",
        "a KL penalty that asks about new inputs alone ends below distillation, the better of two strengths",
        lesson.average_accuracy(R),
        at_most=np.mean([log.last(f"goals_distil_{j}") for j in range(len(tasks))]),
        unit="average accuracy at the end",
        source="distillation, which asks about the old ones",
    )


# The language model


def whole(model: nn.Module, learnt: list[Task], kept: list) -> lesson.Penalty:
    """EWC with all of the Fisher matrix: half the mean square of what weights move each log-probability."""
    parameters, inputs = list(model.parameters()), learnt[-1].inputs
    for i in range(len(inputs)):
        log_probs = model(inputs[i : i + 1])[0].log_softmax(dim=0)
        slopes = torch.autograd.grad(log_probs, parameters, torch.eye(len(log_probs)), is_grads_batched=True)
        rows = torch.cat([one.reshape(len(log_probs), -1) for one in slopes], dim=1)  # [C, K]
        kept.append(rows * (log_probs.exp().detach()[:, None] / len(inputs)).sqrt())
    roots = torch.cat(kept)  # [rows, K]: F is their square
    anchor = nn.utils.parameters_to_vector(parameters).detach().clone()

    def penalty(model: nn.Module) -> Tensor:
        moved = nn.utils.parameters_to_vector(model.parameters()) - anchor
        return (roots @ moved).square().sum() / 2

    return penalty


def claim_tables(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    torch.manual_seed(cfg.seed)
    tasks, first = table_tasks(extra.text_base)

    def learn(remedy: str | Callable, strength: float) -> lesson.Matrix:
        torch.manual_seed(cfg.seed)  # replay's memories
        steps = extra.text_steps
        return lesson.learn_in_turn(copy.deepcopy(first), tasks, remedy, strength, steps, extra.text_lr)

    found = {}
    for name in (*lesson.TITLES, "whole"):
        strength = 0.0 if name == "nothing" else getattr(extra, f"text_{name}")
        R = learn(whole if name == "whole" else name, strength)
        for i in range(len(R)):
            log.write(i, **{f"tables_{name}_{j}": R[i, j] for j in range(len(tasks))})
        found[name] = R
    together = copy.deepcopy(first)
    losses = [(1.0, task.loss) for task in tasks]
    lesson.train(together, losses, len(tasks) * extra.text_steps, extra.text_lr)
    joint = np.mean([task.score(together) for task in tasks])
    log.write(0, **{f"tables_joint_{j}": task.score(together) for j, task in enumerate(tasks)})
    if cfg.seed == 0 and not log.smoke:  # on which strengths were chosen: half a minute, once
        for name, grid in TABLE_GRIDS.items():
            for strength in grid:
                R = learn(whole if name == "whole" else name, strength)
                log.write(0, **{f"tables_{name}_at_{strength:g}": lesson.average_accuracy(R)})
    claim_text(extra, log, found, joint)


def claim_text(extra: Config, log: RunLog, found: dict[str, lesson.Matrix], joint: float) -> None:
    log.claim(
        "tables_forgotten",
        "without a remedy a language model loses more than half of the tables it had learnt",
        lesson.forgetting(found["nothing"]),
        at_least=0.5,
        unit="accuracy, mean of the earlier tables",
        source="what catastrophic is to mean here",
    )
    entries = extra.text_base**2
    replayed = round(0.25 * entries) / entries
    log.claim(
        "tables_replay_kept",
        "replay of a quarter keeps that quarter of a table; the rest is guessed",
        found["replay"][-1, :-1].mean(),
        near=(replayed + (1 - replayed) / extra.text_base, 0.12),
        unit="accuracy at the end, mean of the earlier tables",
        source="counting, if nothing carries over from one entry to another",
    )
    low = lesson.average_accuracy(found["nothing"])
    for name, says, bound in (
        ("ewc", "EWC wins back less than half of what was lost", {"at_most": 0.5}),
        ("whole", "so does EWC with the whole Fisher matrix", {"at_most": 0.5}),
        ("distil", "distillation wins back more than half", {"at_least": 0.5}),
    ):
        log.claim(
            f"tables_{name}_share",
            says,
            (lesson.average_accuracy(found[name]) - low) / max(joint - low, 1e-9),
            unit="of joint training's average accuracy, both less that of no remedy",
            source="exact accuracies; a half is what to work is to mean here",
            **bound,
        )


def claim_fading(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The Fisher information of a model that goes on training, and what its parabola foresees."""
    torch.manual_seed(cfg.seed)  # the same first weights
    tasks, model = table_tasks(extra.text_base)
    done = 0
    for times in CHECKS:
        lesson.train(model, [(1.0, tasks[0].loss)], (times - done) * extra.text_steps, extra.text_lr)
        done = times
        log.write(
            times * extra.text_steps,
            fading_fisher=squares(lesson.fisher(model, tasks[0].inputs)),
            fading_doubt=doubt(model, tasks[0]),
            fading_accuracy=tasks[0].score(model),
        )
    log.write(0, fading_least_accuracy=min(log.series("fading_accuracy")[1]))
    foreseen = whole(model, tasks[:1], [])
    old = model(tasks[0].inputs).log_softmax(dim=1).detach()
    lesson.train(model, [(1.0, tasks[1].loss)], extra.text_steps, extra.text_lr)
    come = lesson.kl(old, model(tasks[0].inputs).log_softmax(dim=1)).item()
    log.write(0, fading_foreseen=foreseen(model).item(), fading_come=come)
    kept, sure = log.series("fading_fisher")[1], log.series("fading_doubt")[1]
    log.write(0, fading_kept=kept[-1] / kept[0])
    log.claim(
        "fisher_fades",
        "a language model that goes on training on one table loses its Fisher information with its doubt",
        np.log(kept[-1] / kept[0]) / np.log(sure[-1] / sure[0]),
        near=(1.0, 0.3),
        unit="slope of the trace against the doubt, log-log",
        source="p (1 - p) falls as 1 - p",
    )
    log.claim(
        "parabola_foresees",
        "a parabola with all of its Fisher matrix does not foresee a tenth of what the next table does to it",
        foreseen(model).item() / come,
        at_most=0.1,
        unit="of the KL divergence that came",
        source="both, exactly",
    )


# Figures


def draw_all(runs: list[dict], log: RunLog) -> None:
    draw_remedies(runs, log)
    draw_sure(runs, log)
    draw_strengths(runs, log)


def ends(runs: list[dict], name: str) -> list[float]:
    """Average accuracy at the end, of each run, from the scores written under a name."""
    return [float(np.mean([run[f"{name}_{task}"][-1][1] for task in range(3)])) for run in runs]


def draw_remedies(runs: list[dict], log: RunLog) -> None:
    """Average accuracy with each remedy, the policy's and the language model's; a dot for each run."""
    figure, axes = plotting.new_figure(1, 2, width=5.4, height=4.0)
    titles = {**lesson.TITLES, "whole": "EWC, whole F", "reference": "KL, new inputs"}
    for ax, tasks, title in zip(
        axes, ("goals", "tables"), ("Policy, three goals", "Language model, three tables")
    ):
        shown = {
            words: ends(runs, f"{tasks}_{name}")
            for name, words in titles.items()
            if f"{tasks}_{name}_0" in runs[0]
        }
        plotting.dot_rows(ax, shown, [COLOURS.get(name, plotting.SKY) for name in titles])
        for row, values in enumerate(shown.values()):
            low, high = median_interval(np.array(values))
            ax.plot([low, high], [row, row], color="black", linewidth=1.2)
        joint = np.median(ends(runs, f"{tasks}_joint"))
        ax.axvline(joint, label="all together", **plotting.REFERENCE)
        ax.set(title=title, xlabel="average accuracy at the end", xlim=(0.0, 1.05))
    axes[0].legend(loc="lower left")
    log.figure(figure, "remedies")


def draw_sure(runs: list[dict], log: RunLog) -> None:
    """One logit: the KL and its parabola, exactly; a language model that goes on training."""
    figure, (one, fading) = plotting.new_figure(1, 2, width=5.4, height=4.0)
    new = np.linspace(-10, 10, 201)
    for old, color in ((1.0, plotting.BLUE), (8.0, plotting.RED)):
        p = 1 / (1 + np.exp(-old))
        exact = p * np.logaddexp(0, -new) + (1 - p) * np.logaddexp(0, new)
        exact -= p * np.logaddexp(0, -old) + (1 - p) * np.logaddexp(0, old)
        one.plot(new, exact, color=color, label=f"KL, old logit {old:.0f}")
        one.plot(new, p * (1 - p) * (new - old) ** 2 / 2, ":", color=color, label="its parabola")
    one.set(xlabel="new logit", ylabel="nats", title="One logit", ylim=(-0.2, 15))
    one.legend(loc="upper right")
    for name, label, color in (
        ("fisher", "trace of F", plotting.GREEN),
        ("doubt", "1 less the likeliest answer's chance", plotting.ORANGE),
    ):
        rows = np.array([run[f"fading_{name}"] for run in runs])
        plotting.seed_band(fading, rows[0, :, 0], rows[:, :, 1], label, color)
    fading.set(xscale="log", yscale="log", xlabel="training steps on one table", title="Trained on and on")
    fading.set_ylabel("trace; chance")
    steps = rows[0, :, 0].astype(int)
    fading.set_xticks(steps, [str(step) for step in steps])
    fading.set_xticks([], minor=True)
    fading.set_ylim(None, 30 * fading.get_ylim()[1])
    fading.legend(loc="upper right", fontsize=10)
    log.figure(figure, "sure")


def draw_strengths(runs: list[dict], log: RunLog) -> None:
    """The policy's average accuracy against the strength of each remedy."""
    figure, ax = plotting.new_figure(width=6.8)
    for remedy, grid in GRIDS.items():
        scores = [[run[f"goals_{remedy}_at_{strength:g}"][-1][1] for strength in grid] for run in runs]
        plotting.seed_band(ax, grid, scores, lesson.TITLES[remedy], COLOURS[remedy])
    ax.axhline(np.median(ends(runs, "goals_nothing")), label="no remedy (median)", **plotting.REFERENCE)
    ax.set(
        xscale="log", xlabel="strength λ", ylabel="average accuracy at the end", title="How much is enough"
    )
    ax.set_ylim(0.0, 1.05)
    ax.legend(loc="center right")
    log.figure(figure, "strengths")
