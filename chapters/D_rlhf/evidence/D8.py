"""D8's evidence: labels against exact values, two verifiers, three weights of a gradient, step sizes."""

import copy
import math
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chapters.D_rlhf import D8_process_rewards as lesson
from chapters.D_rlhf import D13_distillation as distillation
from chapters.envs import running_sums
from chapters.text import chains, grpo, tasks
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.optim import Adam

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""n of the best of n."""
FACTORS = (0.5, 1.0, 2.0)
"""Step sizes tried for either reward, as multiples of the lesson's, which are the best of them on seed 0."""
NOISY = ("outcome", "baseline", "instalments")
VERIFIERS = {
    "outcome": ("outcome reward model", plotting.BLUE),
    "process": ("process, last step", plotting.ORANGE),
    "weakest": ("process, weakest step", plotting.RED),
}
EXACT = {"always": True, "seeds": "5/5", "source": "enumeration of all chains"}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_tries: Annotated[int, in_range(1, 1000)] = 4
    """Continuations of each step that the process reward model's labels come from: K."""
    num_labelled: Annotated[int, in_range(1, 100_000)] = 2000
    """Chains whose steps are labelled; for the outcome reward model as many are written as that costs.

    With 1,000 the fit learns its labels by heart: on other problems a longer one explains less.
    """
    num_fits: Annotated[int, in_range(1, 100_000)] = 300
    """Gradient steps of either reward model, 64 chains each."""
    fit_rate: Annotated[float, in_range(1e-8, 1.0)] = 5e-4
    """Their step size: on one seed this one and 2e-3 were tried, and here more of the values is explained."""
    num_gradients: Annotated[int, in_range(1, 2000)] = 20
    """Held-out problems whose gradients are enumerated."""
    num_tuned: Annotated[int, in_range(0, 1000)] = 1
    """Seeds, from 0 on, on which other step sizes are tried, too."""


SMOKE = {"num_labelled": 8, "num_fits": 2, "num_gradients": 2}


def every_chain() -> Tensor:
    """All thousand chains as digits, [1000, 3], in the order of a flattened [10, 10, 10]."""
    return torch.cartesian_prod(*[torch.arange(running_sums.BASE)] * running_sums.NUM_STEPS)


def along(values: list[Tensor]) -> Tensor:
    """The value before each step of every chain, [N, M, T], from the values of all beginnings."""
    num, depth = len(values[-1]), len(values) - 1
    shape = values[-1].shape
    parts = [value.reshape(*value.shape, *[1] * (depth - t)).expand(shape) for t, value in enumerate(values)]
    return torch.stack([part.reshape(num, -1) for part in parts[:-1]], dim=-1)


def weights_of(values: list[Tensor]) -> dict[str, Tensor]:
    """What each step's grad log pi is multiplied with, for every chain: [N, M, T] each, eq. (6)."""
    before = along(values)
    outcomes = values[-1].flatten(1)  # [N, M]
    paid = lesson.instalments(before.flatten(0, 1), outcomes.flatten()).view_as(before)
    return {
        "outcome": outcomes[..., None].expand_as(before),
        "baseline": paid.flip(-1).cumsum(-1).flip(-1),
        "instalments": paid,
    }


def gradients(probs: list[Tensor], values: list[Tensor]) -> dict[str, tuple[Tensor, float]]:
    """(expected gradient, noise of one chain's) by each weight, in the logits after every beginning.

    The noise is the root of the summed variances. `exact` is the gradient of V itself, without noise.
    """
    logits = [prob.clamp(min=1e-300).log().requires_grad_() for prob in probs]
    logs = [logit.log_softmax(dim=-1) for logit in logits]
    taken = torch.stack([level.flatten(1) for level in spread(logs)], dim=-1)  # [N, M, T]
    chances = taken.detach().sum(dim=-1).exp()  # [N, M]
    squares = torch.stack([level.flatten(1) for level in spread(missed(probs))], dim=-1)
    found = {}
    for name, weight in weights_of(values).items():
        loss = (chances[..., None] * weight * taken).sum()
        mean = flat(torch.autograd.grad(loss, logits, retain_graph=True))
        second = (chances[..., None] * weight.pow(2) * squares).sum().item()
        found[name] = (mean, math.sqrt(max(0.0, second - mean.pow(2).sum().item())))
    root = lesson.prefix_values([log.exp() for log in logs], values[-1])[0].sum()
    found["exact"] = (flat(torch.autograd.grad(root, logits)), 0.0)
    return found


def spread(levels: list[Tensor]) -> list[Tensor]:
    """A number for each beginning of length 1, 2, 3 as one for each whole chain, [N, 10, 10, 10] each."""
    shape = levels[-1].shape
    return [x.reshape(*x.shape, *[1] * (len(shape) - x.dim())).expand(shape) for x in levels]


def missed(probs: list[Tensor]) -> list[Tensor]:
    """Squared length of the gradient of log pi(d): |one-hot(d) - pi|^2, for each d after each beginning."""
    return [1.0 - 2.0 * prob + prob.pow(2).sum(dim=-1, keepdim=True) for prob in probs]


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def claim_gradients(extra: Config, log: RunLog) -> None:
    """One gradient by three weights, and how noisy each is."""
    digits = log.kept["digits"][: extra.num_gradients]
    probs = chains.next_digit_probs(log.kept["base"], digits)
    values = lesson.prefix_values(probs, chains.every_outcome(digits))
    found = gradients(probs, values)
    exact = found.pop("exact")[0]
    gap = max(((mean - exact).norm() / exact.norm()).item() for mean, _ in found.values())
    says = "outcome, outcome less value, and difference of values have the gradient of the value"
    log.claim("same_gradient", says, gap, at_most=1e-9, unit="of the gradient", **EXACT)
    noise = {name: noise / exact.norm().item() for name, (_, noise) in found.items()}
    log.write(0, **{f"noise_{name}": value for name, value in noise.items()})
    says = "a difference of values is less noisy than the outcome less the value before the step"
    rule = EXACT | {"source": "Rao and Blackwell: a conditional mean has less variance"}
    ratio = noise["instalments"] / max(1e-12, noise["baseline"])
    log.claim("less_noise", says, ratio, at_most=1.0, unit="of its noise", **rule)


def labels_gap(values: Float[Tensor, " P"], num_tries: int = 4) -> float:
    """Largest distance of a label's exact mean from (3), over all outcomes of so many continuations."""
    tries = torch.tensor(list(product((0.0, 1.0), repeat=num_tries)), dtype=values.dtype)  # [2^K, K]
    chances = torch.where(tries == 1.0, values[:, None, None], 1.0 - values[:, None, None]).prod(dim=-1)
    gaps = []
    for kind, wanted in (("soft", values), ("hard", lesson.hard_mean(values, num_tries))):
        labels = lesson.step_labels(tries[:, None], kind)[:, 0]  # [2^K]
        gaps.append((chances @ labels - wanted).abs().max().item())
    return max(gaps)


def claim_labels(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Labels that were sampled against the values that were enumerated."""
    task, values = chains.chains_task(log.kept["digits"]), log.kept["values"]
    rows = torch.arange(len(log.kept["digits"])).repeat_interleave(4)
    generator = torch.Generator().manual_seed(cfg.seed + 1)
    ids, outcomes = chains.try_steps(log.kept["base"], task, rows, extra.num_tries, generator)
    first, second = (ids[:, :2] - chains.FIRST_DIGIT).unbind(1)
    exact = torch.stack([values[1][rows, first], values[2][rows, first, second]], dim=1)
    soft, hard = (lesson.step_labels(outcomes, kind)[:, :2].double() for kind in ("soft", "hard"))
    spread = (exact * (1.0 - exact) / extra.num_tries).sum().sqrt()
    says = "the sum of sampled soft labels is that of the exact values"
    rule = {"unit": "standard errors", "source": "enumeration of all beginnings"}
    log.claim("sampled_labels", says, (soft - exact).sum() / spread, near=(0.0, 3.0), **rule)
    every = torch.cat([value.flatten() for value in values[:-1]])
    says = "a soft label is the value on average, a hard one 1 - (1 - V)^K, at every beginning"
    log.claim("labels_gap", says, labels_gap(every), at_most=1e-12, unit="of a label", **EXACT)
    log.write(0, mean_value=exact.mean(), mean_soft=soft.mean(), mean_hard=hard.mean())


# ---- two verifiers ----


def fit(
    base: nn.Module, asked: Tensor, written: Tensor, labels: Tensor, mask: Tensor, cfg: lesson.Config,
    extra: Config, log: RunLog, name: str,
) -> nn.Module:  # fmt: skip
    """A reward model of steps, from labels [B, T] where `mask` is 1."""
    torch.manual_seed(cfg.seed)
    model = chains.StepModel(base)
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(model.parameters(), lr=extra.fit_rate)
    for i in log.track(range(extra.num_fits), f"steps ({name})"):
        optimizer.lr = extra.fit_rate * grpo.schedule(i, extra.num_fits)
        rows = torch.randint(len(written), (64,), generator=generator)
        loss = lesson.label_loss(model(asked[rows], written[rows]), labels[rows], mask[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def verifiers(cfg: lesson.Config, extra: Config, log: RunLog) -> dict[str, nn.Module]:
    """An outcome and a process reward model for which the base model wrote equally many completions."""
    base, task = log.kept["base"], log.kept["task"]
    generator = torch.Generator().manual_seed(cfg.seed + 2)
    rows = torch.randint(len(task.prompt_ids), (extra.num_labelled,), generator=generator)
    ids, outcomes = chains.try_steps(base, task, rows, extra.num_tries, generator)
    num_written = extra.num_labelled * (1 + (running_sums.NUM_STEPS - 1) * extra.num_tries)
    many = torch.randint(len(task.prompt_ids), (num_written,), generator=generator)
    batch = tasks.answer(base, task, many, generator)
    last = torch.zeros(num_written, running_sums.NUM_STEPS)
    last[:, -1] = 1.0
    labels = batch["rewards"][:, None].expand_as(last)
    data = {
        "outcome": (batch["prompt_ids"], batch["completion_ids"], labels, last),
        "process": (
            task.prompt_ids[rows], ids, lesson.step_labels(outcomes, "soft"), torch.ones(ids.shape)
        ),
    }  # fmt: skip
    return {name: fit(base, *parts, cfg, extra, log, name) for name, parts in data.items()}


def score_all(model: nn.Module, digits: Tensor) -> list[Tensor]:
    """Its score of the last step of every beginning of each problem: [N, 10], [N, 10, 10], [N, 10, 10, 10].

    A step is judged by the output for its own token, at the place before it: no later step is read.
    """
    outputs = chains.next_digit_logits(model.model, digits)
    return [(output + model.bias.detach().double()).sigmoid() for output in outputs]


def choose(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The best of n by either verifier, exactly: every chain is scored, and its chance to win is known."""
    base, digits, values = (log.kept[name] for name in ("base", "digits", "values"))
    probs = chains.next_digit_probs(base, digits)
    log_probs = sum(level.clamp(min=1e-300).log() for level in spread(probs)).flatten(1)  # [N, M]
    outcomes = values[-1].flatten(1)
    right = (every_chain()[None] == chains.right_chains(digits)[:, None]).all(-1).double()  # [N, M]
    scores = {}
    for name, model in verifiers(cfg, extra, log).items():
        found = score_all(model, digits)
        steps = torch.stack(spread(found), dim=-1).flatten(1, -2)  # [N, M, T]
        scores[name] = steps[..., -1]
        if name == "process":
            scores["weakest"] = steps.amin(dim=-1)
            claim_scores(found, probs, values, log)
    for n in SIZES:
        found = {"perfect_answers": 1.0 - (1.0 - values[0]).pow(n).mean()}
        for name, score in scores.items():
            chosen = distillation.best_of_n(log_probs, score, n).exp()
            found[f"{name}_answers_of_n"] = (chosen * outcomes).sum(dim=1).mean()
            found[f"{name}_chains_of_n"] = (chosen * right).sum(dim=1).mean()
        log.write(n, **found)
    for name in VERIFIERS:
        rise = log.last(f"{name}_answers_of_n") - values[0].mean().item()
        log.write(0, **{f"{name}_rise": rise})
    above = max(
        found - best
        for name in VERIFIERS
        for found, best in zip(log.series(f"{name}_answers_of_n")[1], log.series("perfect_answers")[1])
    )
    says = "no verifier is right more often than one that knows the answer"
    log.claim("below_perfect", says, above, at_most=1e-9, unit="of the answers", **EXACT)


def claim_scores(scores: list[Tensor], probs: list[Tensor], values: list[Tensor], log: RunLog) -> None:
    """The process reward model's scores against the exact values of one- and two-step beginnings.

    Each beginning counts as often as the policy writes it.
    """
    chances = torch.cat([probs[0].flatten(), (probs[0][..., None] * probs[1]).flatten()])
    predicted = torch.cat([score.flatten() for score in scores[:-1]])
    exact = torch.cat([value.flatten() for value in values[1:-1]])

    def mean(numbers: Tensor) -> Tensor:
        return (chances * numbers).sum() / chances.sum()

    explained = 1.0 - mean((predicted - exact).pow(2)) / mean((exact - mean(exact)).pow(2))
    says = "on held-out problems the process model's outputs are nearer to the values than their mean is"
    rule = {"unit": "of the variance explained", "source": "a constant explains none"}
    log.claim("values_learnt", says, explained, at_least=0.0, **rule)
    log.write(0, explained=explained)


# ---- step sizes ----


def tune(cfg: lesson.Config, log: RunLog) -> None:
    """Either reward at step sizes beside the lesson's; answers and chains at the end go into the log."""
    base, task, right = (log.kept[name] for name in ("base", "task", "right"))
    for kind in lesson.KINDS:
        for number, factor in enumerate(FACTORS):
            name, rate = f"{kind}_{number}", factor * getattr(cfg, f"{kind}_rate")
            log.write(0, **{f"{name}_rate": rate})
            if factor == 1.0:
                ends = {what: log.last(f"{kind}_{what}") for what in ("answers", "chains")}
                log.write(cfg.num_updates, **{f"{name}_{what}": end for what, end in ends.items()})
                continue
            policy = copy.deepcopy(base)
            watch = chains.watcher(name, cfg.num_updates, cfg.seed, log, every=cfg.num_updates)
            lesson.train(policy, task, right, kind, rate, cfg, log, name, watch)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_gradients(extra, log)
    claim_labels(cfg, extra, log)
    choose(cfg, extra, log)
    if cfg.seed < extra.num_tuned:
        tune(cfg, log)
    draw_verifiers([{"metrics": log.metrics}], log)
    draw_learning([{"metrics": log.metrics}], log)


def ends(run: dict, name: str) -> float:
    """The last number of a metric of one run."""
    return run["metrics"][name][-1][1]


def lucky(run: dict, name: str) -> float:
    """Share of the right answers that wrong steps led to."""
    return 1.0 - ends(run, f"{name}_chains") / max(1e-9, ends(run, f"{name}_answers"))


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figures of all runs. Which reward or verifier leads is shown there, and no bound is set for it."""
    draw_verifiers(runs, log)
    draw_learning(runs, log)


def stacked(runs: list[dict], name: str) -> np.ndarray:
    """A metric of all runs, [runs, steps]."""
    return np.array([[value for _, value in run["metrics"][name]] for run in runs])


def draw_verifiers(runs: list[dict], log: RunLog) -> None:
    """The best of n by either verifier, answers and chains; how noisy three weights of one gradient are."""
    figure, (answers, whole, noise) = plotting.new_figure(1, 3, width=5.4, height=4.6)
    for name, (label, color) in VERIFIERS.items():
        plotting.seed_band(answers, SIZES, stacked(runs, f"{name}_answers_of_n"), label, color)
        plotting.seed_band(whole, SIZES, stacked(runs, f"{name}_chains_of_n"), label, color)
    perfect = np.median(stacked(runs, "perfect_answers"), axis=0)
    answers.plot(SIZES, perfect, label="answer known", **plotting.REFERENCE)
    for ax, what in ((answers, "answers"), (whole, "whole chains")):
        ax.set(xscale="log", xlabel="n, chains to choose from", ylim=(0, 1.03), title=f"Best of n: {what}")
        ax.set_xticks(SIZES, SIZES)
        ax.set_ylabel(f"{what} right, exactly")
    whole.legend(fontsize=9, loc="upper left")
    answers.legend(handles=answers.lines[-1:], fontsize=10, loc="upper left")
    labels = {"outcome": "r", "baseline": "r − V before", "instalments": "difference of V"}
    rows = {label: stacked(runs, f"noise_{name}")[:, -1] for name, label in labels.items()}
    plotting.dot_rows(noise, rows, (plotting.BLUE, plotting.SKY, plotting.ORANGE))
    noise.set(xlabel="noise of one chain's gradient, over its mean", title="Weight of a step")
    log.figure(figure, "verifiers")


def draw_learning(runs: list[dict], log: RunLog) -> None:
    """Learning curves of all runs, where each step size that was tried ends, and lucky answers."""
    figure, (curves, sizes, luck) = plotting.new_figure(1, 3, width=5.4, height=4.6)
    colors = {"outcome": plotting.BLUE, "process": plotting.ORANGE}
    tuned = [run["metrics"] for run in runs if "outcome_0_rate" in run["metrics"]]
    for kind, color in colors.items():
        steps = [step for step, _ in runs[0]["metrics"][f"{kind}_answers"]]
        plotting.seed_band(curves, steps, stacked(runs, f"{kind}_answers"), f"{kind} reward", color)
        for what, line in (("answers", "o-"), ("chains", "x:")):
            for metrics in tuned:
                at, found = (
                    [metrics[f"{kind}_{i}_{name}"][-1][1] for i in range(len(FACTORS))]
                    for name in ("rate", what)
                )
                label = f"{kind}: {what}" if metrics is tuned[0] else None
                sizes.plot(at, found, line, color=color, label=label)
    curves.set(xlabel="update", ylabel="held-out answers right", ylim=(0, 1.03), title="Answers")
    curves.legend(fontsize=9)
    sizes.set(xscale="log", xlabel="Adam's step size, in thousandths", ylabel="held-out share right")
    sizes.set(ylim=(0, 1.03), title="At the end, on seed 0")
    if tuned:
        rates = sorted({rate for line in sizes.lines for rate in line.get_xdata()})
        sizes.set_xticks(rates, [f"{1000 * rate:g}" for rate in rates])
        sizes.minorticks_off()
        sizes.legend(fontsize=9)
    rows = {f"{kind} reward": [lucky(run, kind) for run in runs] for kind in colors}
    plotting.dot_rows(luck, rows, list(colors.values()))
    luck.set(xlabel="share of the right answers", title="Reached by wrong steps")
    log.figure(figure, "learning")
