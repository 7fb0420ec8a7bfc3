"""D13's evidence: more identities, every method on one chart, and a race on sums: a teacher beside GRPO."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from chapters.D_rlhf import D5_grpo_verifiable_rewards as grpo
from chapters.D_rlhf import D13_distillation as lesson
from chapters.D_rlhf import D15_kl_penalty_placement as placement
from chapters.D_rlhf.checks.D13 import EDITS
from chapters.envs.token_world import TokenWorld
from chapters.text import tasks
from chapters.text.charts import draw_frontier
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

BETA = 0.5  # of the policy gradient's penalty, and of the optimum that teaches on the token world
BAR = 0.6  # D5's bar for sampled answers
RULE = {"source": "enumeration of all completions"}
EXACT = {**RULE, "always": True, "seeds": "5/5"}
RACERS = {
    "whole": "on-policy, whole",
    "all": "off-policy",
    "on_policy": "on-policy, drawn",
    "grpo": "GRPO (D5)",
}
COLOURS = dict(zip(RACERS, (plotting.BLUE, plotting.ORANGE, plotting.SKY, plotting.RED)))
NOISY = {"on_policy": "all that follows", "next_token_only": "own verdict", "whole": "whole distribution"}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_grpo_updates: Annotated[int, in_range(1, 100_000)] = 100
    """Updates of GRPO on the same sums, with D5's settings."""
    num_chart_updates: Annotated[int, in_range(1, 100_000)] = 300
    """Updates on the token world of each method that the lesson does not train there; for RFT twice as many.

    What fails is forgotten slowly: the less of its mass is left, the weaker the pull on it.
    """
    num_round_texts: Annotated[int, in_range(4, 1_000_000)] = 4096
    """Completions written for an update of expert iteration: one in four is kept, so it learns from 1,024.

    A table of S free numbers that is learnt from N texts is some S / 2N nats off. For each prompt S is 2,800;
    three rounds of 150 updates make that 0.05 nats, of 3.2. With 1,024 written it would be 0.2: above 5 %.
    """


SMOKE = {"num_grpo_updates": 1, "num_chart_updates": 2, "num_round_texts": 1024}


def imitated(world: TokenWorld, log_probs: Tensor) -> nn.Module:
    """The table of least cross-entropy to completions drawn by these log-probabilities [N, M]: it counts."""
    policy, batch = world.reference(torch.float64), tasks.every_completion(world)
    ids, mask = batch["completion_ids"], batch["completion_mask"]
    prefixes = policy.prefix_rows(torch.cat([batch["prompt_ids"], ids], dim=1))[:, :-1]  # [N M, T]
    weights = log_probs.exp().flatten()[:, None].expand_as(prefixes)
    counts = torch.zeros_like(policy.table)
    counts.index_put_((prefixes[mask], ids[mask]), weights[mask], accumulate=True)
    policy.table.data = counts.clamp(min=1e-300).log()
    return policy


def passing(world: TokenWorld, threshold: float) -> Tensor:
    """Log-probabilities [N, M] of the reference, given that a completion earns the threshold at least."""
    kept = world.reference_log_probs().masked_fill(world.rewards < threshold, -torch.inf)
    return kept.log_softmax(dim=1)


def gap(found: Tensor, wanted: Tensor) -> float:
    """Norm of a difference over the norm of what was wanted."""
    return ((found - wanted).norm() / wanted.norm()).item()


def claim_choice(world: TokenWorld, log: RunLog) -> None:
    """The best of n: in rounds, learnt exactly, and without ties."""
    ref, rewards = world.reference_log_probs(), world.rewards
    rounds = [ref]
    for _ in range(3):
        rounds.append(lesson.best_of_n(rounds[-1], rewards, 4))
    off = max((lp.exp() - world.best_of_n(4**i).exp()).abs().sum(1).max() for i, lp in enumerate(rounds))
    says = "one, two and three rounds of best of 4 are the best of 4, 16 and 64"
    log.claim("rounds_gap", says, off, at_most=1e-9, unit="of the probability", **EXACT)
    best = world.best_of_n(16)
    left = (best.exp() * (best - world.log_probs(imitated(world, best)))).sum(dim=1).mean()
    says = "the policy of least cross-entropy to the best of 16 is the best of 16"
    log.claim("learnt_gap", says, abs(left.item()), at_most=1e-9, unit="nats", **EXACT)
    even = torch.full((1, 100_000), -math.log(100_000), dtype=torch.float64)
    worth = torch.arange(100_000, dtype=torch.float64)[None]
    for n in (2, 16, 64):
        chosen = lesson.best_of_n(even, worth, n)
        short = tasks.best_of_n_kl(n) - (chosen.exp() * (chosen - even)).nansum().item()
        log.write(n, bound_left=short)
    worst = max(log.series("bound_left")[1])
    says = "with 100,000 different rewards, all but continuous, the bound is all but reached"
    log.claim("bound_left", says, worst, at_most=1e-5, unit="nats", **EXACT | {"source": "eq. (2)"})


def whole_gradient(world: TokenWorld, student: nn.Module, teacher: nn.Module) -> Tensor:
    """Expected gradient of the loss of whole distributions, on all that the student could write."""
    batch = tasks.every_completion(world)
    probs = tasks.log_probs_of(student, batch).detach().sum(dim=1).exp() / world.num_prompts
    nexts = (tasks.next_log_probs_of(model, batch) for model in (student, teacher))
    losses = (lesson.next_token_kl(*nexts) * batch["completion_mask"]).sum(dim=1)
    return torch.autograd.grad((probs * losses).sum(), student.table)[0]


def squared_gradients(world: TokenWorld, student: nn.Module, teacher: nn.Module) -> dict[str, float]:
    """Mean squared norm of the gradient that one completion gives, by the way its tokens are judged."""
    batch = tasks.every_completion(world)
    mask = batch["completion_mask"]
    with torch.no_grad():
        ours, theirs = (tasks.next_log_probs_of(model, batch) for model in (student, teacher))
        drawn, judged = (tasks.log_probs_of(model, batch) for model in (student, teacher))
        probs, ratio = ours.exp(), ours - theirs
        missed = 1.0 - 2.0 * drawn.exp() + probs.pow(2).sum(dim=-1)  # |one-hot - probs|^2, a row of the table
        worths = {
            "on_policy": lesson.on_policy_worth(drawn, judged, mask),
            "next_token_only": (judged - drawn) * mask,
        }
        squares = {name: worth.pow(2) * missed for name, worth in worths.items()}
        slopes = probs * (ratio - (probs * ratio).sum(dim=-1, keepdim=True))  # of the whole distribution
        squares["whole"] = slopes.pow(2).sum(dim=-1)
        weights = drawn.sum(dim=1).exp() / world.num_prompts
    return {name: (weights * (found * mask).sum(dim=1)).sum().item() for name, found in squares.items()}


def claim_gradients(log: RunLog) -> None:
    """What each way to judge tokens has for an expected gradient, and how noisy one completion is."""
    world, student, teacher = (log.kept[name] for name in ("world", "world_student", "world_teacher"))
    exact = lesson.expected_gradient(world, student, teacher)
    optimum = imitated(world, world.optimum(BETA))
    climb = -world.objective(world.log_probs(student), BETA) / BETA
    (wanted,) = torch.autograd.grad(climb, student.table)
    found = lesson.expected_gradient(world, student, optimum)
    rule = EXACT | {"at_most": 1e-8, "unit": "of the gradient"}
    says = "to be taught on-policy by the optimum is the policy gradient of reward less beta KL, over beta"
    log.claim("optimum_teaches", says, gap(found, wanted), **rule)
    cut = edited(lesson, EDITS["next_token_only"]).expected_gradient(world, student, teacher)
    whole = whole_gradient(world, student, teacher)
    says = "whole distributions have the expected gradient of each token's own verdict"
    log.claim("whole_is_own_verdict", says, gap(whole, cut), **rule)
    says = "and that is not the gradient of KL(student || teacher)"
    log.claim("whole_bias", says, gap(whole, exact), at_least=0.05, unit="of the divergence's", **EXACT)
    means = {"on_policy": exact, "next_token_only": cut, "whole": whole}
    noise = {}
    for name, square in squared_gradients(world, student, teacher).items():
        noise[name] = math.sqrt(square - means[name].norm().item() ** 2) / exact.norm().item()
        log.write(0, **{f"noise_{name}": noise[name]})
    says = "with the same mean, whole distributions are less noisy than the drawn token's verdict"
    source = "Rao and Blackwell: a conditional mean has less variance"
    rule = EXACT | {"source": source, "at_most": 1.0, "unit": "of its noise"}
    log.claim("whole_noise", says, noise["whole"] / noise["next_token_only"], **rule)


def train_on_world(cfg: lesson.Config, extra: Config, log: RunLog) -> dict[str, tuple[float, float]]:
    """Where the other methods end on the token world: (KL, reward)."""
    world, ends = log.kept["world"], {}
    task, num = tasks.world_task(world), extra.num_chart_updates
    small = replace(cfg, **lesson.ON_WORLD, num_updates=num)

    def learn(name: str, other: nn.Module, policy: nn.Module, settings: lesson.Config) -> None:
        lesson.train(policy, other, task, settings, log, name)
        ends[name] = lesson.report(world, policy, log, f"world_{name}")

    learn("passed", world.reference(), world.reference(), replace(small, how="passed", num_updates=2 * num))
    policy, short = world.reference(), max(1, num // 2)
    for i in (1, 2, 3):
        few = replace(small, how="best", group_size=4, num_updates=short, batch_size=extra.num_round_texts)
        learn(f"round_{i}", copy.deepcopy(policy), policy, few)
    optimum = imitated(world, world.optimum(BETA)).float()
    for how in ("on_policy", "whole"):
        learn(how, optimum, world.reference(), replace(small, how=how))
    changed = placement.Config(seed=cfg.seed, num_updates=num, beta=BETA, **placement.IN_REWARD)
    learner = placement.train(world, changed, log, "policy_gradient")
    ends["policy_gradient"] = lesson.report(world, learner, log, "world_policy_gradient")
    return ends


def claim_chart(ends: dict[str, tuple[float, float]], log: RunLog) -> None:
    """Each end against its exact counterpart, and all against the frontier."""
    world = log.kept["world"]
    points = [*ends.values(), log.kept["end"], *zip(log.series("exact_kl")[1], log.series("exact_reward")[1])]
    above = max(reward - world.best_reward(kl) for kl, reward in points)
    says = "no method has more reward than the frontier allows at its divergence"
    log.claim("chart_above", says, above, at_most=1e-6, unit="reward", **EXACT)
    exact = {
        "passed": passing(world, 1.0),
        "round_3": world.best_of_n(64),
        "on_policy": world.optimum(BETA),
        "whole": world.optimum(BETA),
        "policy_gradient": world.optimum(BETA),
    }
    names = {
        "passed": "what passed, learnt, keeps its reward and divergence",
        "round_3": "three rounds of best of 4 end where the best of 64 does",
        "on_policy": "taught by the optimum, the drawn tokens judged, a student ends at the optimum",
        "whole": "so it does if whole distributions are compared, though another gradient leads there",
        "policy_gradient": "so does the policy gradient, which is told the reward alone",
    }
    for name, log_probs in exact.items():
        wanted = world.kl(log_probs).item(), world.expected_reward(log_probs).item()
        far = max(abs(found / target - 1.0) for found, target in zip(ends[name], wanted))
        log.claim(f"distance_{name}", names[name], far, at_most=0.05, unit="off in KL or reward", **RULE)


@torch.no_grad()
def distance_on(writer: nn.Module, student: nn.Module, cfg: lesson.Config, log: RunLog) -> float:
    """Mean KL(student || teacher) of the next token, where the writer's answers to held-out sums lead."""
    task, teacher = log.kept["held_out"], log.kept["teacher"]
    rows = torch.arange(len(task.prompt_ids)).repeat_interleave(2)
    batch = tasks.answer(writer, task, rows, torch.Generator().manual_seed(20_000 + cfg.seed))
    nexts = (tasks.next_log_probs_of(model, batch) for model in (student, teacher))
    mask = batch["completion_mask"]
    return ((lesson.next_token_kl(*nexts) * mask).sum() / mask.sum()).item()


def race(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The lesson's student, one taught off-policy, one by drawn verdicts, and GRPO: same base, same seed."""
    base, teacher, task, held_out = (log.kept[name] for name in ("base", "teacher", "task", "held_out"))
    students = {"whole": log.kept["student"]}
    for how, epochs in (("all", cfg.num_epochs), ("on_policy", 1)):
        student = students[how] = copy.deepcopy(base).requires_grad_(True)
        watch = tasks.accuracy_watcher(how, held_out, cfg.num_updates, cfg.seed, log)
        watch(base, 0)
        lesson.train(student, teacher, task, replace(cfg, how=how, num_epochs=epochs), log, how, watch)
    theirs = grpo.Config(seed=cfg.seed, num_updates=extra.num_grpo_updates)
    if log.smoke:
        theirs = replace(theirs, num_prompts=2, num_epochs=1)
    watch = tasks.accuracy_watcher("grpo", held_out, extra.num_grpo_updates, cfg.seed, log)
    watch(base, 0)
    grpo.train(copy.deepcopy(base).requires_grad_(True), base, task, theirs, log, "grpo", watch)
    for name in ("whole", "all"):
        for where, writer in (("own", students[name]), ("teachers", teacher)):
            log.write(0, **{f"exposed_{name}_{where}": distance_on(writer, students[name], cfg, log)})


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    world = log.kept["world"]
    claim_choice(world, log)
    claim_gradients(log)
    ends = train_on_world(cfg, extra, log)
    claim_chart(ends, log)
    draw_chart(world, ends, log)
    race(cfg, extra, log)
    draw_race([{"metrics": log.metrics}], log)


def curve(run: dict, name: str, what: str) -> list[float]:
    """A racer's measurements in a run, from before its first update on."""
    return [value for _, value in run["metrics"][f"{'student' if name == 'whole' else name}_{what}"]]


def until_bar(run: dict, name: str, what: str) -> float:
    """What a racer had spent when its sampled answers first met the bar; infinite if they never did."""
    steps = [step for step, _ in run["metrics"][f"{'student' if name == 'whole' else name}_sampled"]]
    spent = steps if what == "updates" else curve(run, name, what)
    found = (float(s) for s, share in zip(spent, curve(run, name, "sampled")) if share >= BAR)
    return next(found, math.inf)


def summarise(runs: list[dict], log: RunLog) -> None:
    """A teacher beside GRPO over paired seeds, and the figure of all of them."""
    for what, unit in (("updates", "completions"), ("cpu_seconds", "CPU seconds")):
        ratios = [until_bar(run, "grpo", what) / until_bar(run, "whole", what) for run in runs]
        log.claim(
            f"grpo_{what}_over_taught",
            f"GRPO's {unit} to {BAR} of sampled answers right, over those of the student with a teacher",
            float(np.median(ratios)),
            at_least=1.0,
            unit="times, median of seeds",
            source="lu2025onpolicy",
            **({"timed": True} if what == "cpu_seconds" else {}),
        )
    exposed = [last(run, "exposed_all_own") / last(run, "exposed_all_teachers") for run in runs]
    log.claim(
        "exposure",
        "taught off-policy, a student is further from its teacher on its own answers than on the teacher's",
        float(np.median(exposed)),
        at_least=1.0,
        unit="times, median of seeds",
        source="agarwal2024gkd",
    )
    draw_race(runs, log)


def last(run: dict, metric: str) -> float:
    """A run's latest value of a metric."""
    return run["metrics"][metric][-1][1]


def draw_chart(world: TokenWorld, ends: dict[str, tuple[float, float]], log: RunLog) -> None:
    """Every method on one chart of reward against KL; the noise of one completion's gradient."""
    figure, (chart, bars) = plotting.new_figure(1, 2, width=6.6, height=5.0)
    draw_frontier(chart, world, BETA)
    rounds = [ends[f"round_{i}"] for i in (1, 2, 3)]
    chart.plot(*log.kept["end"], "o", color=plotting.BLUE, markersize=9, label="best of 16, learnt")
    chart.plot(*zip(*rounds), "o:", color=plotting.ORANGE, label="expert iteration: 3 rounds, best of 4")
    chart.plot(*ends["passed"], "D", color=plotting.PURPLE, label="what passed, learnt (RFT)")
    chart.plot(*ends["policy_gradient"], "v", color=plotting.RED, label="policy gradient")
    chart.plot(*ends["on_policy"], "^", color=plotting.SKY, label="taught by the optimum, on-policy")
    chart.legend(loc="lower right", fontsize=10)
    noise = {label: log.last(f"noise_{name}") for name, label in NOISY.items()}
    plotting.bar_rows(bars, noise, [plotting.SKY, plotting.SKY, plotting.BLUE])
    bars.set(xlabel="deviation of one completion's gradient,\nover the norm of the exact gradient")
    bars.set_title("On-policy distillation: noise")
    log.figure(figure, "chart")


def draw_race(runs: Sequence[dict], log: RunLog) -> None:
    """Accuracy against completions, all seeds; what each racer spent; exposure to one's own states."""
    figure, (sums, spent, exposed) = plotting.new_figure(1, 3, width=5.4, height=4.4)
    per_update = runs[0].get("batch", 256)
    for name, label in RACERS.items():
        prefix = "student" if name == "whole" else name
        steps = [step * per_update / 1000 for step, _ in runs[0]["metrics"][f"{prefix}_sampled"]]
        curves = np.array([curve(run, name, "sampled") for run in runs])
        sums.plot(steps, np.median(curves, axis=0), color=COLOURS[name], label=label)
        sums.fill_between(steps, curves.min(0), curves.max(0), color=COLOURS[name], alpha=0.2, linewidth=0)
    sums.axhline(BAR, label="D5's bar", **plotting.REFERENCE)
    sums.set(xlabel="completions written (thousands)", ylabel="held-out sums right, sampled", ylim=(0, 1.02))
    sums.set_title("Sums: median and range of seeds")
    sums.legend(loc="lower right", fontsize=9)
    rows = {RACERS[name]: [until_bar(run, name, "cpu_seconds") for run in runs] for name in RACERS}
    plotting.dot_rows(spent, rows, list(COLOURS.values()))
    spent.set(xlabel=f"CPU seconds to {BAR} right, a dot a seed", title="What it costs")
    pairs = {
        f"{'off-policy' if name == 'all' else 'whole'}, {label}": [
            last(r, f"exposed_{name}_{where}") for r in runs
        ]
        for name in ("all", "whole")
        for where, label in (("teachers", "teacher's texts"), ("own", "own texts"))
    }
    plotting.dot_rows(exposed, pairs, [plotting.ORANGE, plotting.ORANGE, plotting.BLUE, plotting.BLUE])
    exposed.set(xlabel="KL to the teacher, a token (nats)", title="Where the student differs")
    log.figure(figure, "race")
