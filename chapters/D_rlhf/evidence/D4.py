"""D4's evidence: each kind of label beside exact answers, a far world, parity with TRL and a race with it."""

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from chapters.D_rlhf import D4_direct_preference_optimization as lesson
from chapters.D_rlhf.checks.D4 import EDITS
from chapters.D_rlhf.evidence.D4_figures import draw_far, draw_labels, draw_samples, draw_trl
from chapters.D_rlhf.evidence.D4_trl import dpo_gaps, dpo_trainer
from chapters.envs.token_world import TokenWorld, token_world
from chapters.exact.preferences import chance_to_win, displacement
from chapters.text.pairs import judge, review_pairs, world_pairs
from chapters.utils import CpuClock, RunLog, in_range, seed_everything
from chapters.utils.edits import edited
from chapters.utils.peers import silence
from chapters.utils.timing import PeakMemory

BETAS = (0.35, 1.0, 2.0)
TRAINERS = ("ours", "trl", "trl_precomputed")  # the last computes the reference's log-probabilities first
MEANS = EDITS["mean_over_tokens"]
ALONG = EDITS["reference_trains_along"]
Draw = Callable[[torch.Generator], lesson.Pairs]


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_fixed_pairs: Annotated[int, in_range(1, 10_000_000)] = 20_000
    """Pairs of the token world that are drawn once and seen again and again."""
    far_seed: Annotated[int, in_range(0, 1_000_000)] = 13
    """Seed of a token world whose optimum lies far from the reference."""
    hasty_rate: Annotated[float, in_range(1e-9, 1.0)] = 1e-3
    """A step size that is too large for the reviews."""


SMOKE = {"num_fixed_pairs": 64}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    policies, costs = race(cfg, log)
    hasty = replace(cfg, learning_rate=extra.hasty_rate)
    policies["hasty"] = lesson.train(copy_of_base(log), log.kept["pairs"], hasty, log, "hasty")
    lm, found, texts = log.kept["lm"], {"ours": log.kept["found"]}, {"After DPO": log.kept["texts"]}
    for name, policy in {"base": lm.model, **policies}.items():
        if name != "ours":
            found[name], written = judge(policy, lm, cfg.num_eval_texts, cfg.num_tokens, cfg.seed)
            texts |= {"base": {"Base model": written}, "hasty": {"After DPO in a hurry": written}}.get(
                name, {}
            )
        log.write(0, **{f"{name}_{what}": value for what, value in found[name].items()})
    claim_changes(log)
    claim_reviews(found, costs, cfg, log)
    claim_labels(cfg, extra, log)
    claim_far(cfg, extra, log)
    draw_labels([log.metrics], log)
    draw_trl(found, costs, log)
    draw_samples({name: texts[name] for name in ("Base model", "After DPO", "After DPO in a hurry")}, log)


# Where each kind of label leads, on the token world


def learn(
    draw: Draw, cfg: lesson.Config, log: RunLog, name: str, rounds: int, module: Any = lesson
) -> Tensor:
    """Log-probabilities [N, M] of what `module` learns in at most so many rounds."""
    world = log.kept["world"]
    policy = module.train_on_world(
        world, draw, replace(cfg, **{**lesson.WORLD, "beta": cfg.beta}), log, name, rounds
    )
    return world.log_probs(policy).detach()


def rounds_of(log: RunLog, name: str, cfg: lesson.Config) -> int:
    """How many rounds a training took, from the steps it logged."""
    steps, rounds = log.series(f"token_gap_{name}")[0][-1], 0
    while steps > 0:
        steps -= cfg.world_steps * 2**rounds
        rounds += 1
    return rounds


def claim_labels(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Other labels, pairs, betas, losses: each against the optimum of (1)."""
    world, num, cfg = log.kept["world"], lesson.WORLD_BATCH, replace(cfg, beta=lesson.WORLD["beta"])
    reference = world.reference_log_probs()
    usual, uniform = reference.exp(), torch.ones_like(reference)
    rounds = rounds_of(log, "soft", cfg)  # for labels that never let training end
    log.write(0, token_rounds_soft=rounds, token_optimum_kl=world.kl(world.optimum(cfg.beta)))
    soft, hard = world_pairs(world, usual, num), world_pairs(world, usual, num, "hard")
    found = {
        "uniform": learn(world_pairs(world, uniform, num), cfg, log, "uniform", lesson.MAX_ROUNDS),
        "sampled": learn(world_pairs(world, usual, num, "sampled"), cfg, log, "sampled", rounds),
        "hard": learn(hard, cfg, log, "hard", rounds),
        "smoothed": learn(smoothed(hard), cfg, log, "smoothed", rounds),
        "ipo": learn(hard, replace(cfg, loss="ipo"), log, "ipo", rounds),
        "mean": learn(soft, cfg, log, "mean", rounds, edited(lesson, MEANS)),
        "along": learn(soft, cfg, log, "along", rounds, edited(lesson, ALONG)),
    }
    once = max(1, round(extra.num_fixed_pairs / num))
    for name, steps in (("fixed_once", once), ("fixed_twice", 2 * once), ("fixed", cfg.world_steps)):
        draw = fixed_pairs(world_pairs(world, usual, extra.num_fixed_pairs, "sampled"), num)
        found[name] = learn(draw, replace(cfg, world_steps=steps), log, name, 1)
    gaps = {name: world.gap_closed(log_probs, cfg.beta) for name, log_probs in found.items()}
    # azar2024ipo: with the chance to win for a reward, IPO's optimum has the form of (1)
    own = replace(world, rewards=chance_to_win(world.rewards, reference, hard=True))
    gaps |= {"ipo": own.gap_closed(found["ipo"], cfg.beta), "beta": worst_of_betas(cfg, log)}
    claim_gaps(gaps, log)
    claim_distances(found["hard"], cfg, log)
    claim_displaced(world, cfg.beta, log)


def smoothed(draw: Draw, wrong: float = 0.1) -> Draw:
    """Labels that suppose that so many verdicts are wrong (mitchell2023cdpo)."""

    def other(generator: torch.Generator) -> lesson.Pairs:
        pairs = draw(generator)
        return {**pairs, "labels": pairs["labels"] + wrong * (1 - 2 * pairs["labels"])}

    return other


def fixed_pairs(draw: Draw, num: int) -> Draw:
    """Minibatches of `num` out of pairs that are drawn once, at the first call."""
    fixed = {}

    def again(generator: torch.Generator) -> lesson.Pairs:
        if not fixed:
            fixed.update(draw(generator))
        rows = torch.randint(len(fixed["labels"]), (num,), generator=generator)
        return {name: values[rows] for name, values in fixed.items()}

    return again


def worst_of_betas(cfg: lesson.Config, log: RunLog) -> float:
    """The least share of the gap closed at other betas, on pairs half of which are drawn uniformly."""
    world = log.kept["world"]
    reference = world.reference_log_probs().exp()
    draw = world_pairs(world, reference / 2 + 0.5 / reference.shape[1], lesson.WORLD_BATCH)
    gaps = []
    for beta in BETAS:
        found = learn(draw, replace(cfg, beta=beta), log, f"beta_{beta:g}", lesson.MAX_ROUNDS)
        gaps.append(world.gap_closed(found, beta))
    return min(gaps)


def claim_gaps(gaps: dict[str, float], log: RunLog) -> None:
    exact = {"unit": "of the gap to the optimum", "source": "exact policy evaluation"}
    for name, statement in {
        "uniform": "DPO with soft labels reaches the exact optimum on pairs drawn uniformly, too",
        "beta": "and at other betas, on pairs half of which are drawn uniformly (the worst of them)",
        "ipo": "IPO with hard labels reaches a finite optimum of its own",
    }.items():
        log.claim(f"{name}_gap", statement, gaps[name], at_least=0.95, **exact)
    for name, statement in {
        "hard": "hard labels miss the exact optimum",
        "mean": "means over tokens miss the exact optimum",
        "fixed": "one sampled label for each of 20,000 fixed pairs misses it, after twenty passes",
    }.items():
        log.claim(f"{name}_gap", statement, gaps[name], at_most=0.95, **exact)


def claim_distances(hard: Tensor, cfg: lesson.Config, log: RunLog) -> None:
    """How far the push leads where nothing ends it, in units of the optimum's distance."""
    world, beta = log.kept["world"], max(BETAS)
    log.claim(
        "hard_kl",
        "DPO with hard labels ends further from the reference than the optimum lies",
        world.kl(hard) / world.kl(world.optimum(cfg.beta)),
        at_least=1.0,
        unit="times its KL",
        source="(5): the push never ends",
    )
    draw = world_pairs(world, world.reference_log_probs().exp(), lesson.WORLD_BATCH)
    along = learn(draw, replace(cfg, beta=beta), log, "along_far", 1, edited(lesson, ALONG))
    log.claim(
        "along_kl",
        "DPO whose reference trains along leaves the reference behind, though beta 2 should hold it near",
        world.kl(along) / world.kl(world.optimum(beta)),
        at_least=1.0,
        unit="times the KL of the optimum at beta 2",
        source="(5): at margin 0 the push is the same for each beta",
    )


def claim_displaced(world: TokenWorld, beta: float, log: RunLog) -> None:
    """How many of the reference's completions fall at the optimum, and how far the rejected ones."""
    reference = world.reference_log_probs()
    h = world.optimum(beta) - reference
    falling = (reference.exp() * (h < 0)).sum(1).mean()
    rejected = displacement(h, world.rewards, reference)[1]
    log.write(0, token_optimum_rejected=rejected, token_optimum_falling=falling)


def claim_far(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """A world in which a few rare completions are far better than all others."""
    world, cfg = token_world(extra.far_seed), replace(cfg, **lesson.WORLD)
    draw = world_pairs(world, world.reference_log_probs().exp(), lesson.WORLD_BATCH)
    policy = lesson.train_on_world(world, draw, cfg, log, "far")
    log.write(0, token_rounds_far=rounds_of(log, "far", cfg))
    log.write(0, token_optimum_kl_far=world.kl(world.optimum(cfg.beta)))
    log.claim(
        "far_gap",
        "where the optimum lies far away, DPO with soft labels reaches it in later rounds",
        world.gap_closed(world.log_probs(policy), cfg.beta),
        at_least=0.95,
        unit="of the gap to the optimum",
        source="exact policy evaluation",
    )
    draw_far(log)


# Beside TRL, on the reviews


def copy_of_base(log: RunLog) -> nn.Module:
    return copy.deepcopy(log.kept["lm"].model)


def moved(base: nn.Module, seed: int) -> nn.Module:
    """A policy that is not its reference, or every log-ratio would be 0."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy


def race(cfg: lesson.Config, log: RunLog) -> tuple[dict[str, nn.Module], dict[str, tuple[float, float]]]:
    """Ours and TRL's on the same pairs: ({name: policy}, {name: (CPU seconds, megabytes)})."""
    lm, policies, costs = log.kept["lm"], {}, {}
    bare = review_pairs(lm, cfg.num_pairs, cfg.num_tokens, cfg.seed)
    for name in TRAINERS:
        clock, start = CpuClock(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak, clock:
            if name == "ours":
                pairs = lesson.add_reference(bare, lm.model)
                policies[name] = lesson.train(copy_of_base(log), pairs, cfg, log, "raced")
            else:
                trainer = dpo_trainer(lm.model, bare, lm.tokenizer, cfg, folder, name == "trl_precomputed")
                with silence():
                    trainer.train()
                policies[name] = trainer.model.eval()
        costs[name] = clock.seconds, peak.megabytes
        seconds = {"cpu_seconds": clock.seconds, "wall_seconds": time.perf_counter() - start}
        log.write(0, **{f"{name}_{what}": value for what, value in seconds.items()})
        if name == "ours":  # now TRL is imported, which no racer is charged for
            claim_prompt(bare, cfg, log)
            claim_parity(pairs, cfg, log)
    both = zip(policies["ours"].parameters(), policies["trl"].parameters())
    log.write(0, trl_weight_gap=max((a - b).abs().max().item() for a, b in both))
    policies["ipo"] = lesson.train(copy_of_base(log), pairs, replace(cfg, loss="ipo"), log, "ipo")
    return policies, costs


def count_prompt(pairs: lesson.Pairs) -> lesson.Pairs:
    """The mistake: unpadded prompts' tokens, but for the first, count as if they had been written."""
    rest = pairs["prompt_ids"][:, None, 1:].expand(-1, 2, -1)  # [B, 2, P - 1]
    return {
        **pairs,
        "prompt_ids": pairs["prompt_ids"][:, :1],
        "prompt_mask": pairs["prompt_mask"][:, :1],
        "completion_ids": torch.cat([rest, pairs["completion_ids"]], 2),
        "completion_mask": torch.cat([torch.ones_like(rest).bool(), pairs["completion_mask"]], 2),
    }


@torch.no_grad()
def claim_prompt(pairs: lesson.Pairs, cfg: lesson.Config, log: RunLog) -> None:
    """What it changes to score the prompt's tokens as well: with sums, and with means."""
    base, lengths = log.kept["lm"].model, pairs["prompt_mask"].sum(1)
    usual = int(lengths.mode().values)  # prompts of one length need no padding
    some = {name: values[lengths == usual] for name, values in pairs.items()}
    some |= {name: some[name][:, -usual:] for name in ("prompt_ids", "prompt_mask")}
    policy, change = moved(base, cfg.seed), {}
    for name, module in (("sum", lesson), ("mean", edited(lesson, MEANS))):
        right, wrong = (
            module.log_ratios(policy, lesson.add_reference(batch, base)) @ torch.tensor([1.0, -1.0])
            for batch in (some, count_prompt(some))
        )
        change[name] = ((right - wrong).abs().max() / right.abs().max()).item()
    log.claim(
        "prompt_in_sum",
        "to score the prompt's tokens as well does not change the margin of any pair",
        change["sum"],
        at_most=1e-5,
        unit="of the largest margin",
        source="in (4) they cancel",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "prompt_in_mean",
        "with means over tokens it does",
        change["mean"],
        at_least=0.01,
        unit="of the largest margin",
        source="far above rounding",
    )


def claim_parity(pairs: lesson.Pairs, cfg: lesson.Config, log: RunLog) -> None:
    """The same numbers as TRL's from the same weights and pairs, for both losses."""
    few, lm, gaps = {name: values[:32] for name, values in pairs.items()}, log.kept["lm"], []
    with tempfile.TemporaryDirectory() as folder:
        trainer = dpo_trainer(lm.model, few, lm.tokenizer, cfg, folder)
        trainer.model.load_state_dict(moved(lm.model, cfg.seed).state_dict())
        for loss, theirs, module in (("dpo", "sigmoid", lesson), ("ipo", "ipo", edited(lesson, MEANS))):
            same = replace(cfg, loss=loss)

            def ours(policy: nn.Module, module: Any = module, same: Any = same) -> tuple:
                rewards = lesson.implicit_rewards(lesson.log_ratios(policy, few), cfg.beta)
                return module.pair_loss(policy, few, same)[0], rewards.mean(0).tolist()

            gaps.append(dpo_gaps(trainer, theirs, ours))
    for what, gap in zip(("loss", "reward", "gradient"), np.array(gaps).max(axis=0)):
        log.claim(
            f"trl_{what}_gap",
            f"our {what} equals TRL's on the same batch, DPO and IPO",
            gap,
            at_most=1e-5,
            source="trl 1.12.0's DPOTrainer, run in the same process",
            always=True,
            seeds="5/5",
        )


def claim_changes(log: RunLog) -> None:
    """What DPO did to the pairs it learnt from."""
    pairs = log.kept["pairs"]
    after = lesson.add_reference(pairs, log.kept["policy"])["ref_log_probs"]
    chosen, rejected = (after - pairs["ref_log_probs"]).sum(-1).mean(0).tolist()
    log.claim(
        "chosen_change",
        "DPO on pairs of reviews makes the chosen ones less likely",
        chosen,
        at_most=0.0,
        unit="nats a review",
        source="razin2025displacement",
    )
    log.claim(
        "margin_change",
        "the margin of the chosen reviews over the rejected ones grows",
        chosen - rejected,
        at_least=0.0,
        unit="nats",
        source="it is all that (4) rewards",
    )


def claim_reviews(found: dict[str, dict], costs: dict, cfg: lesson.Config, log: RunLog) -> None:
    """What became of the reviews, and what TRL needs for the same."""
    ours, base = found["ours"], found["base"]
    spread = 1.96 * (0.5 / cfg.num_eval_texts) ** 0.5  # of a difference of two rates, at most
    interval = "95 % interval of a difference of rates"
    log.claim(
        "kl",
        "DPO's reviews stay so near the base model that the sentiment gained outweighs the KL penalty",
        ours["kl"],
        at_most=(ours["sentiment"] - base["sentiment"]) / cfg.beta,
        unit="nats",
        source="E[r] - beta KL must rise",
    )
    log.claim(
        "fluency",
        "they read almost like the base model's own",
        ours["perplexity"] / base["perplexity"],
        at_most=1.5,
        unit="times its own perplexity",
        source="half as much again",
    )
    log.claim(
        "distinct",
        "they are as different from each other as the base model's",
        ours["distinct"],
        at_least=base["distinct"] - spread,
        unit="share of distinct texts",
        source=interval,
    )
    log.claim(
        "same_outcome",
        "TRL's policy wins as often as ours",
        found["trl"]["win_rate"] - ours["win_rate"],
        near=(0.0, spread),
        source=interval,
    )
    claim_costs(costs, log)


def claim_costs(costs: dict, log: RunLog) -> None:
    """CPU seconds beside TRL's. Peak memory, near equal, is reported in the figure only."""
    log.claim(
        "time_beside_trl",
        "ours takes no more CPU seconds than TRL's faster setting",
        costs["ours"][0] / min(costs["trl"][0], costs["trl_precomputed"][0]),
        at_most=1.0,
        unit="of TRL's",
        timed=True,
        source="trl 1.12.0, same pairs, same order",
    )


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: a dot for each."""
    draw_labels([run["metrics"] for run in runs], log)
