"""D6's evidence: how good the reward model is, ratings there and back, and TRL's PPO on the same requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from chapters.D_rlhf import D6_text_rewriter as lesson
from chapters.D_rlhf.evidence.D6_figures import draw_peer, draw_rewrites
from chapters.D_rlhf.evidence.D6_trl import seconds_to, train_trl_ppo, trl_gap
from chapters.envs import rewriter as office
from chapters.envs.rewriter import encode_prompts, encode_rewrites, judge
from chapters.rating.ask import scripted_ratings
from chapters.text.models import LoadedModel
from chapters.text.ppo import whiten
from chapters.text.preferences import expected_accuracy
from chapters.text.rewriting import FAR, Comparisons, Pairs, RewardModel, compare, pack, rewrite
from chapters.utils import CpuClock, RunLog, in_range
from chapters.utils.timing import PeakMemory


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    eval_every: Annotated[int, in_range(1, 100_000)] = 5
    """Updates between two points of the learning curves; a quarter of the held-out requests for each."""


SMOKE: dict[str, int] = {}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_content(log)
    held = unseen_pairs(cfg, log)
    claim_ratings(held, cfg, log)
    claim_reward_model(held, log)
    claim_start(log)
    before = [parameter.clone() for parameter in log.kept["sft"].parameters()]
    claim_peer(cfg, extra, log)
    moved = max((start - now).abs().max().item() for start, now in zip(before, log.kept["sft"].parameters()))
    log.claim(
        "reference_moved",
        "the imitating model, reference of the divergence, has not trained along",
        moved,
        at_most=0.0,
        unit="largest change of a weight",
        source="identity",
        always=True,
        seeds="5/5",
    )


def claim_content(log: RunLog) -> None:
    ours, sft = (log.kept["found"][name]["content"].mean() for name in ("ours", "sft"))
    log.claim(
        "content_gain",
        "our PPO's rewrites keep no less of the content than the imitating model's",
        ours - sft,
        at_least=0.0,
        unit="share of content words",
        source="goal of the mini project",
    )


# Ratings and the reward model


def unseen_pairs(cfg: lesson.Config, log: RunLog) -> Comparisons:
    """Pairs of the imitating model's rewrites of requests whose content was in no training text."""
    num = max(8, cfg.num_pairs // 4)
    sft, lm = log.kept["sft"], log.kept["lm"]
    return compare(sft, lm, num, cfg.num_tokens, cfg.judge_noise, cfg.seed, held_out=True)


def claim_ratings(held: Comparisons, cfg: lesson.Config, log: RunLog) -> None:
    """A script in your place: what it prefers comes back from the file, and teaches a reward model."""
    given, found = scripted_ratings(log.kept["shown"], office.prefers, log)
    log.claim(
        "ratings_round_trip",
        "exported ratings come back, read as TRL reads a dataset, as they were given",
        float(given == found),
        near=(1.0, 0.0),
        unit="1 is yes",
        source="identity",
        always=True,
        seeds="5/5",
    )
    lm, rated, nobody = log.kept["lm"], Pairs(*found), Pairs([], [], [])
    brief = replace(cfg, rm_epochs=10)
    taught = lesson.fit_reward_model(log.kept["sft"], lm, rated, nobody, brief, log, "rated")
    likings = [office.prefers(*texts) for texts in zip(*held[:3])]
    chances = (1.0 + np.sign(likings)) / 2.0  # the script always answers alike; no opinion counts half
    log.claim(
        "ratings_teach",
        "of pairs on unseen requests a reward model trained on exported ratings alone shares more than half",
        expected_accuracy(margins(taught, held, lm), chances),
        at_least=0.5,
        unit="of the script's preferences",
        source="a coin",
    )


def margins(reward_model: RewardModel, held: Comparisons, lm: LoadedModel) -> np.ndarray:
    """Reward of the first text less that of the second, for each pair."""
    with torch.no_grad():
        first, second = reward_model.margins(lm, Pairs(*held[:3]))
    return (first - second).double().numpy()


def claim_reward_model(held: Comparisons, log: RunLog) -> None:
    """Accuracy on requests that it has not seen, beside the best possible."""
    accuracy = expected_accuracy(margins(log.kept["reward_model"], held, log.kept["lm"]), held.probs)
    ceiling = expected_accuracy(held.probs - 0.5, held.probs)  # of whoever knows the probabilities
    log.write(0, rm_accuracy=accuracy, rm_ceiling=ceiling)
    log.claim(
        "rm_knowledge",
        "on unseen requests the reward model is over halfway from a coin to the ceiling",
        (accuracy - 0.5) / (ceiling - 0.5),
        at_least=0.5,
        unit="of the way",
        source="the ceiling is exact",
    )


def claim_start(log: RunLog) -> None:
    """Before the first update nothing has moved."""
    log.claim(
        "first_kl",
        "before the first update no token pays a penalty: the policy is the imitating model",
        log.series("ours_kl")[1][0],
        near=(0.0, 1e-4),
        unit="nats",
        source="identity",
        always=True,
        seeds="5/5",
    )


# TRL's PPO, from the same start, on the same requests


def claim_peer(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Ours and TRL's once more, watched and timed."""
    sft, reward_model, lm = (log.kept[name] for name in ("sft", "reward_model", "lm"))
    requests, tests = log.kept["requests"], log.kept["tests"]
    few = tests[: len(tests) // 4]
    clock = CpuClock()

    def look(name: str, step: int, seconds: float, policy: torch.nn.Module) -> None:
        if step % extra.eval_every and step != cfg.num_updates:
            return
        found = judge(few, rewrite(policy, lm, few, cfg.num_tokens, cfg.seed + 3 * FAR))
        log.write(step, **{f"{name}_{key}": value.mean() for key, value in vars(found).items()})
        log.write(step, **{f"{name}_cpu_seconds": seconds})

    def watch(policy: torch.nn.Module, step: int) -> None:
        clock.__exit__()
        look("ours", step, clock.seconds, policy)
        clock.__enter__()

    with PeakMemory() as our_peak, clock:
        again = RunLog(log.folder / "again", "D6")
        lesson.train(sft, reward_model, lm, requests, cfg, again, watch=watch)
    again.close()
    prompts = [f"{text} {office.ARROW}" for text in requests]
    with PeakMemory() as their_peak:
        policy = train_trl_ppo(
            sft, reward_model, lm.tokenizer, prompts, cfg, log, lambda *seen: look("trl", *seen)
        )
    log.write(0, ours_megabytes=our_peak.megabytes, trl_megabytes=their_peak.megabytes)
    coded = encode_prompts(lm.tokenizer, few), encode_rewrites(lm.tokenizer, few)
    log.claim(
        "trl_parity",
        "TRL reads the same rewards from our reward model, and whitens advantages alike",
        trl_gap(reward_model, whiten, pack, *coded, lm.tokenizer.pad_token_id),
        at_most=1e-5,
        source="trl 1.12.0 on the same texts",
        seeds="5/5",
    )
    outcome(policy, cfg, log)


def outcome(policy: torch.nn.Module, cfg: lesson.Config, log: RunLog) -> None:
    """TRL's policy on all held-out requests, beside the others."""
    lm, tests = log.kept["lm"], log.kept["tests"]
    found = {**log.kept["found"], "trl": {}}
    texts = {**log.kept["texts"], "trl": rewrite(policy, lm, tests, cfg.num_tokens, cfg.seed + 6 * FAR)}
    found["trl"] = vars(judge(tests, texts["trl"]))
    found["trl"]["wins"] = office.wins(found["trl"]["score"], found["sft"]["score"])
    log.write(0, **{f"trl_final_{key}": values.mean() for key, values in found["trl"].items()})
    claim_race(found, log)
    draw_peer(found, log)
    draw_rewrites(tests, texts, {name: one["score"] for name, one in found.items()}, log)


def claim_race(found: dict, log: RunLog) -> None:
    log.claim(
        "trl_win_rate",
        "TRL's PPOTrainer, given as much, beats the imitating model too",
        found["trl"]["wins"].mean(),
        at_least=0.5,
        unit="win rate, ties half",
        source="one half: no better",
    )
    start, end = (found[name]["score"].mean() for name in ("sft", "ours"))
    level = start + 0.8 * (end - start)
    ours, trl = (seconds_to(log, name, level) for name in ("ours", "trl"))
    log.write(0, ours_to_level_cpu_seconds=ours, trl_to_level_cpu_seconds=trl)
    log.claim(
        "faster_than_trl",
        "TRL needs as many CPU seconds to four fifths of our gain in the judge's score",
        trl / ours,
        at_least=1.0,
        unit="times ours",
        timed=True,
        source="trl 1.12.0 in the same run; all of its seconds where it never gets there",
    )
