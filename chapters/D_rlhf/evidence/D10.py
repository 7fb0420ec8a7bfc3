"""D10's evidence: what happens without eyes, words, a place or a teacher; memories far beyond training."""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.D_rlhf import D10_grounding_and_memory as lesson
from chapters.D_rlhf.checks.D10 import EDITS
from chapters.D_rlhf.checks.D10_exercises import share_kept
from chapters.envs import scenes, tmaze
from chapters.exact import partial
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

TAKEN = ("eyes_shut", "place_unread")
"""Named edits of the lesson: policies from which something was taken away."""
DELAYS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    far: Annotated[int, in_range(8, 100_000)] = 2048
    """Cells of the longest corridor that is tried."""
    taken_updates: Annotated[int, in_range(1, 100_000)] = 60
    """Batches of each stage for a policy from which something was taken away."""


SMOKE = {"far": 8, "taken_updates": 2}


class Recurrent(lesson.Walker):
    """A memory that is one vector, written over at each step (cho2014gru)."""

    def __init__(self, num_obs: int, width: int) -> None:
        super().__init__(num_obs, width)
        self.cell = nn.GRUCell(width, width)

    def write(self, obs: Int[Tensor, " B"], memory: Tensor | None) -> Float[Tensor, "B D"]:
        return self.cell(self.see(obs), memory)

    def recall(self, obs: Int[Tensor, " B"], memory: Tensor) -> Float[Tensor, "B D"]:
        return memory


def claim_taken(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Policies for scenes without eyes, words, a place; and one without a teacher."""
    short = replace(cfg, imitation_updates=extra.taken_updates, rl_updates=extra.taken_updates)
    for name in TAKEN:
        edited(lesson, EDITS[name]).train_seer(short, log, name)
    blind = partial.best_without(scenes.chances())
    # of a share of 1/8, in so many scenes
    spread = 4.0 * (blind * (1.0 - blind) / scenes.NUM_TEST) ** 0.5
    rule = {"unit": "of sampled touches", "always": True, "seeds": "5/5"}
    says = "without eyes nobody does better than the best blind policy, within four standard errors"
    source = "enumeration of instructions and cells"
    log.claim("eyes_shut", says, log.last("eyes_shut_success"), at_most=blind + spread, source=source, **rule)
    says = "without the word for the place it is right half the time at best, within four standard errors"
    bound = 0.5 + 4.0 * (0.25 / scenes.NUM_TEST) ** 0.5
    source = "two things differ in their place alone"
    log.claim("place_unread", says, log.last("place_unread_success"), at_most=bound, source=source, **rule)
    steps, success = log.series("seer_success")
    imitated = success[steps.index(cfg.imitation_updates)] if cfg.imitation_updates in steps else success[0]
    says = "imitation alone ends at its teacher's rate"
    rule = {"unit": "of sampled touches", "source": "the lowest point of (3)"}
    log.claim("as_taught", says, imitated, near=(scenes.taught(scenes.TEACHER_ERROR), 0.05), **rule)
    alone = replace(cfg, imitation_updates=0, rl_updates=cfg.imitation_updates + cfg.rl_updates)
    lesson.train_seer(alone, log, "untaught")
    says = "rewards alone, over as many scenes as both stages have, go beyond the teacher, too"
    rule = {"unit": "of sampled touches", "source": "the teacher's rate"}
    bound = scenes.taught(scenes.TEACHER_ERROR)
    log.claim("untaught", says, log.last("untaught_success"), at_least=bound, **rule)


def claim_memories(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Three memories, from the corridors of training to ones hundreds of times as long."""
    recurrent = lesson.train_walker(Recurrent, cfg, log, "recurrent")
    retrieval = log.kept["retrieval"]
    delays = [delay for delay in DELAYS if delay <= extra.far]
    optimum = partial.belief_optimum(1, tmaze.ACCURACY, cfg.longest_delay)
    ways = {"best_k": (retrieval, cfg.num_read), "whole_list": (retrieval, 10**9), "gru": (recurrent, None)}
    for name, (policy, num_read) in ways.items():
        if num_read is not None:
            policy.num_read = num_read
        for delay, chance in zip(delays, tmaze.right_turns(policy, delays, cfg.seed, num_orders=1)):
            log.write(delay, **{f"far_{name}": chance})
    rule = {"unit": "of the optimum", "source": "dynamic programming on beliefs"}
    says = (
        "a recurrent memory, too, turns nearly as well as anyone can, as long as corridors are as in training"
    )
    log.claim("recurrent_near", says, log.last("recurrent_chance") / optimum, at_least=0.95, **rule)
    says = "retrieval of the best K still does in the longest corridor that was tried"
    log.claim("best_far", says, log.last("far_best_k") / optimum, at_least=0.95, **rule)
    says = "reading the best K there is no worse than reading the whole list, with the same weights"
    rule = {"unit": "of turns", "source": "eq. (E1): the share of a memory falls with the list"}
    thinned = log.last("far_whole_list") - log.last("far_best_k")
    log.claim("list_thins", says, thinned, at_most=0.001, **rule)
    says = "nor is it worse than the recurrent memory there"
    rule = {"unit": "of turns", "source": "the belief optimum is the most that either can reach"}
    lead = log.last("far_gru") - log.last("far_best_k")
    log.claim("recurrent_far", says, lead, at_most=0.05 * optimum, **rule)


def claim_share(cfg: lesson.Config, log: RunLog) -> None:
    """The share of attention that one memory keeps among n others that all score alike."""
    worst = 0.0
    generator = torch.Generator().manual_seed(cfg.seed)
    for num_others in (1, 10, 100, 1000):
        query, keys = torch.zeros(1, 4), torch.zeros(1, num_others + 1, 4)
        ahead = 10.0 * torch.rand(1, generator=generator).item()
        query[0, 0], keys[0, 0, 0] = 2.0, ahead  # its score: 2 x ahead / sqrt(4)
        values = torch.zeros_like(keys)
        values[0, 0] = 1.0
        found = lesson.retrieve(query, keys, values, num_others + 1)[0, 0].item()
        worst = max(worst, abs(found - share_kept(ahead, num_others)))
    says = "plain attention leaves one memory the share of (E1) among up to 1,000 others (largest error)"
    rule = {"unit": "of attention", "source": "eq. (E1)", "always": True, "seeds": "5/5"}
    log.claim("share_kept", says, worst, at_most=1e-5, **rule)


def draw_learning(cfg: lesson.Config, log: RunLog) -> None:
    """Both stages of both tasks, beside what theory says of each."""
    figure, (left, right) = plotting.new_figure(1, 2, width=5.6, height=4.4)
    left.plot(*log.series("seer_success"), color=plotting.BLUE, label="imitation, then rewards")
    left.plot(*log.series("untaught_success"), color=plotting.GREEN, label="rewards alone")
    taught, blind = scenes.taught(scenes.TEACHER_ERROR), partial.best_without(scenes.chances())
    left.axhline(taught, label="the teacher", **plotting.REFERENCE)
    left.axhline(blind, color=plotting.RED, linestyle=":", label="best blind policy")
    left.set(title="scenes (held-out instructions)", ylabel="chance of the right action")
    best = partial.belief_optimum(1, tmaze.ACCURACY, cfg.longest_delay)
    right.plot(*log.series("retrieval_chance"), color=plotting.BLUE, label="retrieval")
    right.plot(*log.series("recurrent_chance"), color=plotting.PURPLE, label="recurrent")
    right.plot(*log.series("memoryless_chance"), color=plotting.ORANGE, label="no memory")
    right.axhline(best, label="belief optimum", **plotting.REFERENCE)
    right.axhline(best**2 + (1 - best) ** 2, color="grey", linestyle="-.", label="belief, imitated")
    right.axhline(0.5, color=plotting.RED, linestyle=":", label="best without memory")
    right.set(title="mazes")
    for panel, height in ((left, 0.13), (right, 0.0)):  # of the legend, between the references
        panel.axvline(cfg.imitation_updates, color="grey", linewidth=1)
        panel.text(cfg.imitation_updates, 1.04, " rewards", fontsize=10)
        panel.set(xlabel="update", ylim=(0.0, 1.1))
        panel.legend(loc="lower right", bbox_to_anchor=(1.0, height), fontsize=10)
    log.figure(figure, "learning")


def draw_delays(cfg: lesson.Config, log: RunLog) -> None:
    """Chance of the right turn against the length of the corridor, for three memories."""
    figure, panel = plotting.new_figure(width=6.6, height=4.4)
    for name, colour, label in (
        ("best_k", plotting.BLUE, f"retrieval, best {cfg.num_read} read"),
        ("whole_list", plotting.SKY, "retrieval, all read"),
        ("gru", plotting.PURPLE, "recurrent (GRU)"),
    ):
        panel.plot(*log.series(f"far_{name}"), "o-", color=colour, label=label, markersize=5)
    best = partial.belief_optimum(1, tmaze.ACCURACY, cfg.longest_delay)
    panel.axhline(best, label="belief optimum", **plotting.REFERENCE)
    panel.axhline(0.5, color=plotting.RED, linestyle=":", label="best without memory")
    panel.axvspan(2, cfg.longest_delay, color="grey", alpha=0.25, label="trained on")
    panel.set(
        xscale="log", xlabel="cells of the corridor", ylabel="chance of the right turn", ylim=(0.1, 1.0)
    )
    panel.legend(loc="lower left", fontsize=10)
    log.figure(figure, "delay")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_taken(cfg, extra, log)
    claim_memories(cfg, extra, log)
    claim_share(cfg, log)
    draw_learning(cfg, log)
    draw_delays(cfg, log)
