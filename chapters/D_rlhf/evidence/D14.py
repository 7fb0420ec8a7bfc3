"""D14's evidence: each loss at its end, length, fresh pairs, reward models, and TRL's losses."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from chapters.D_rlhf import D14_preference_variants as lesson
from chapters.D_rlhf.checks.D14 import EDITS
from chapters.D_rlhf.evidence.D14_figures import draw_ensembles, draw_lengths, draw_pairs
from chapters.D_rlhf.evidence.D14_trl import loss_gaps, trainers
from chapters.D_rlhf.evidence.D16 import fit_weights, symbol_features
from chapters.envs.token_world import TokenWorld
from chapters.exact.preferences import best_scores, chance_to_win, displacement
from chapters.text.direct import ipo_loss
from chapters.text.generation import log_probs_by_length
from chapters.text.listed import Pairs, every_pair, list_log_probs, sample_pairs
from chapters.text.models import LoadedModel, make_model, make_tokenizer
from chapters.text.pairs import review_pairs
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, in_range
from chapters.utils.edits import edited
from chapters.utils.optim import Adam

REFERENCE_PAIRS = EDITS["pairs_of_the_reference"]
MARGIN = 0.5  # SimPO's gamma beside TRL
LOSSES = {
    "DPO": lesson.DPO,
    "length-normalised": lesson.NORMALISED,
    "SimPO": lesson.SIMPO,
    "DPO + SFT": lesson.RPO,
}
STRENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # 1 / beta, at which proxies are maximised
Policy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    exact_steps: Annotated[int, in_range(1, 100_000)] = 400
    """Gradient steps of each loss on all pairs at once."""
    small_batch: Annotated[int, in_range(2, 1_000_000)] = 125
    """Pairs in a step of online DPO that gets no more labels than there are fixed pairs."""
    num_parity_pairs: Annotated[int, in_range(2, 1000)] = 8
    """Pairs of texts on which losses are compared with TRL's."""
    num_proxies: Annotated[int, in_range(2, 10_000)] = 40
    """Sets of pairs to which reward models are fitted."""


SMOKE = {"exact_steps": 2, "small_batch": 20, "num_parity_pairs": 3, "num_proxies": 2}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_slopes(cfg, log)
    descend_all(cfg, extra, log)
    claim_lengths(cfg, log)
    claim_moving_reference(cfg, log)
    train_fresh(cfg, extra, log)
    claim_reward_models(cfg, extra, log)
    claim_parity(cfg, extra, log)
    draw_lengths([log.metrics], log)
    draw_pairs([log.metrics], log)
    draw_ensembles([log.metrics], log)


# Where each loss ends


def expected_losses(world: TokenWorld, cfg: lesson.Config) -> dict[str, Policy]:
    """Each loss of a policy's log-probabilities [N, M], over all pairs or answers.

    They are weighted as the reference writes them; for losses whose end does not depend on that, half as the
    policy itself does: online, in expectation. Where the reference hardly writes the best answers, the way
    would be long.
    """
    reference, lengths = world.reference_log_probs(), lesson.answer_lengths(world)
    pairs, liked = every_pair(reference, world.rewards), chance_to_win(world.rewards, reference)

    def logistic(policy: Tensor, loss: lesson.Loss) -> Tensor:
        probs = (policy.detach().exp() + reference.exp()) / 2
        weights = probs[pairs.prompts, pairs.rows].prod(1)
        own = pairs if loss.sft else pairs._replace(weights=weights / weights.sum())
        beta = cfg.token_beta if loss.per_token else cfg.beta
        return lesson.pair_loss(policy, reference, lengths, own, beta, loss)

    def ipo(policy: Tensor) -> Tensor:
        h = (policy - reference)[pairs.prompts, pairs.rows]
        return pairs.weights @ ipo_loss(h, pairs.labels, cfg.beta)

    def kto(policy: Tensor) -> Tensor:
        h = policy - reference
        point = lesson.reference_point((reference.exp().flip(0) * h).sum(1))
        losses = lesson.kto_loss(h.flatten(), liked.flatten(), point, cfg.beta)
        return reference.exp().flatten() @ losses / len(reference)

    found = {name: functools.partial(logistic, loss=loss) for name, loss in LOSSES.items()}
    return found | {"IPO": ipo, "KTO": kto}


def steepest(loss: Policy, log_probs: Tensor) -> float:
    """The steepest slope of a loss by the logits of whole answers."""
    logits = log_probs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits.log_softmax(dim=1)), logits)
    return slope.abs().max().item()


def claim_slopes(cfg: lesson.Config, log: RunLog) -> None:
    world = log.kept["small"]
    losses, start = expected_losses(world, cfg), world.reference_log_probs()
    ends = log.kept["ends"]
    simpo = ends["SimPO"]
    kls, rewards = world.frontier(np.geomspace(1e-3, 1e3, 2000))
    best = np.interp(world.expected_reward(simpo).item(), rewards[::-1], kls[::-1])
    log.claim(
        "simpo_excess",
        "SimPO ends further from the reference than the best policy of the same reward",
        world.kl(simpo).item() - best,
        at_least=0.0,
        unit="nats",
        source="no policy beats DPO's end (korbak2022bayesian)",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "slope_at_ends",
        "at the policies of (4), (5) and (7) no loss has a slope: DPO, length-normalised, SimPO, IPO, KTO",
        max(steepest(losses[name], end) / steepest(losses[name], start) for name, end in ends.items()),
        at_most=1e-6,
        unit="of the slope at the reference",
        source="autograd, all pairs listed",
        always=True,
        seeds="5/5",
    )


def descend(world: TokenWorld, loss: Policy, cfg: lesson.Config, num_steps: int) -> Tensor:
    """Log-probabilities after so many exact gradient steps from the reference."""
    policy, log_probs_of = world.reference(torch.float64), list_log_probs(world)
    optimizer = Adam([policy.table], lr=cfg.learning_rate)
    for step in range(num_steps):
        optimizer.lr = cfg.learning_rate * (1 - step / num_steps)
        optimizer.zero_grad()
        loss(log_probs_of(policy)).backward()
        optimizer.step()
    return world.log_probs(policy).detach()


def distance(log_probs: Tensor, others: Tensor) -> float:
    """Total variation between two policies, at the prompt where it is larger."""
    return 0.5 * (log_probs.exp() - others.exp()).abs().sum(1).max().item()


def descend_all(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Each loss trained on all pairs: does it get to the end that is written down?"""
    world, ends = log.kept["small"], log.kept["ends"]
    losses = expected_losses(world, cfg)
    found = {name: descend(world, loss, cfg, extra.exact_steps) for name, loss in losses.items()}
    apart = {name: distance(found[name], end) for name, end in ends.items()}
    log.write(0, **{f"apart_{key(name)}": value for name, value in apart.items()})
    log.claim(
        "ends_reached",
        "trained on all pairs, each loss comes to the end that (4), (5) or (7) names (the furthest of five)",
        max(apart.values()),
        at_most=0.05,
        unit="total variation",
        source="the formulas; a twentieth of the probability",
    )
    reference = world.reference_log_probs()
    alone, with_sft = (
        displacement(table - reference, world.rewards, reference)[0]
        for table in (ends["DPO"], found["DPO + SFT"])
    )
    log.write(0, chosen_dpo=alone, chosen_sft=with_sft)
    log.claim(
        "sft_keeps_chosen",
        "with the likelihood term the chosen answers end more likely than with DPO alone",
        with_sft - alone,
        at_least=0.0,
        unit="nats an answer",
        source="a penalty never raises what it penalises",
    )
    point = (reference.exp().flip(0) * (found["KTO"] - reference)).sum(1).mean().item()
    log.write(0, point_true=world.kl(found["KTO"]), point_estimate=point)
    log.claim(
        "reference_point",
        "averaged over the data's own answers, KTO's reference point is below 0, so it counts as 0",
        point,
        at_most=0.0,
        unit="nats; the divergence that it stands for is above 0",
        source="for one prompt it is minus a divergence",
    )


def key(name: str) -> str:
    """A name as a metric's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


# Length


def at_distance(kl: float, end: Callable[[float], Tensor], world: TokenWorld) -> Tensor:
    """The end whose divergence from the reference is `kl`, by halving the logarithm of beta."""
    low, high = 1e-2, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if world.kl(end(middle)) > kl else (low, middle)
    return end(high)


def balanced_end(rewards: Tensor, ref_log_probs: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """Where DPO ends on all pairs, balanced by (8)."""
    found = []
    for row, reference in zip(rewards, ref_log_probs):
        pairs = every_pair(reference[None], row[None])
        weights, labels = lesson.balance(lengths[pairs.rows], pairs.labels, pairs.weights)
        found.append(best_scores(pairs.rows, labels, weights, len(row)))
    return (ref_log_probs + torch.stack(found) / beta).log_softmax(dim=1)


def claim_lengths(cfg: lesson.Config, log: RunLog) -> None:
    """Exact: what is left of a judge's bonus, by each remedy."""
    world = log.kept["small"]
    reference, lengths = world.reference_log_probs(), lesson.answer_lengths(world)
    judged = world.rewards + cfg.length_bonus * lengths
    biased = lesson.logistic_end(judged, reference, lengths, cfg.beta, lesson.DPO)
    kl = float(world.kl(biased))
    found = {"reference": reference, "optimum": world.optimum(cfg.beta), "biased": biased}
    for name, loss in (("normalised", lesson.NORMALISED), ("simpo", lesson.SIMPO)):
        found[name] = at_distance(
            kl, lambda beta, loss=loss: lesson.logistic_end(judged, reference, lengths, beta, loss), world
        )
    found["fair"] = at_distance(
        kl,
        lambda beta: lesson.logistic_end(world.rewards, reference, lengths, beta, lesson.NORMALISED),
        world,
    )
    found["balanced"] = balanced_end(judged, reference, lengths, cfg.beta)
    size = {name: lesson.expected_length(world, table) for name, table in found.items()}
    log.write(0, **{f"length_{name}": value for name, value in size.items()})
    log.write(0, **{f"length_gap_{name}": world.gap_closed(table, cfg.beta) for name, table in found.items()})
    drift = size["biased"] - size["optimum"]
    log.claim(
        "normalised_drift",
        "as far from the reference as DPO, the length-normalised loss writes shorter answers",
        size["biased"] - size["normalised"],
        at_least=0.0,
        unit="tokens",
        source="meng2024simpo; exact here",
    )
    log.claim(
        "normalised_bias",
        "but not by forgetting the judge's bonus: without it, it would be shorter at the same distance",
        size["normalised"] - size["fair"],
        at_least=0.0,
        unit="tokens",
        source="(4): the bonus is a part of r",
    )
    log.claim(
        "balanced_drift",
        "balanced pairs take most of DPO's drift away",
        abs(size["balanced"] - size["optimum"]) / drift,
        at_most=0.5,
        unit="of the drift",
        source="enumeration; more than half is most",
    )


def claim_moving_reference(cfg: lesson.Config, log: RunLog) -> None:
    """Four rounds, each with the last one's end for a reference."""
    world, lengths = log.kept["small"], lesson.answer_lengths(log.kept["small"])
    table = world.reference_log_probs()
    for _ in range(4):
        table = lesson.logistic_end(world.rewards, table, lengths, cfg.beta, lesson.DPO)
    log.claim(
        "moving_reference",
        "four rounds, each with the last policy for its reference, end where a quarter of beta ends",
        (table - world.optimum(cfg.beta / 4)).abs().max().item(),
        at_most=1e-6,
        unit="nats",
        source="enumeration",
        always=True,
        seeds="5/5",
    )


# Fresh pairs


def train_fresh(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Fresh pairs of the reference instead of the policy's own; and own pairs for as few labels as before."""
    world, steps = log.kept["world"], -(-cfg.num_pairs // cfg.batch_size)
    generator = torch.Generator().manual_seed(cfg.seed)
    draw = edited(lesson, REFERENCE_PAIRS).own_pairs(world, cfg.batch_size, generator)
    lesson.train(world, draw, lesson.DPO, cfg, cfg.num_epochs * steps, log, "fresh")
    draw = lesson.own_pairs(world, extra.small_batch, generator)
    lesson.train(world, draw, lesson.DPO, cfg, -(-cfg.num_pairs // extra.small_batch), log, "few")
    gaps = {
        name: log.last(f"token_gap_{name}") for name in ("once", "twice", "often", "online", "fresh", "few")
    }
    log.claim(
        "own_pairs_gap",
        "in as many steps the policy's own pairs lead further than fresh pairs of the reference",
        gaps["online"] - gaps["fresh"],
        at_least=0.0,
        unit="of the gap to the optimum",
        source="exact policy evaluation",
    )
    log.claim(
        "few_labels_gap",
        "with no more labels than there are fixed pairs, online DPO leads further than one or two passes",
        gaps["few"] - max(gaps["once"], gaps["twice"]),
        at_least=0.0,
        unit="of the gap to the optimum",
        source="exact policy evaluation",
    )


# Reward models


def fit(features: Tensor, pairs: Pairs) -> Tensor:
    """Scores of all answers by a linear reward model of pairs, Bradley and Terry's."""
    first, second = features[pairs.rows].unbind(1)
    return features @ fit_weights((first - second)[None], pairs.labels[None])[0]


def per_token(scores: Tensor, log_probs: Tensor, lengths: Tensor) -> float:
    """By how much a score rises with a token, by least squares over a policy's answers."""
    probs, counts = log_probs.exp(), lengths.double()
    counts = counts - probs @ counts
    return float((probs * counts) @ scores / ((probs * counts) @ counts))


def keep_balanced(pairs: Pairs, lengths: Tensor, generator: torch.Generator) -> Pairs:
    """Some of the pairs, drawn so that at each pair of lengths the longer answer wins as often."""
    weights, _ = lesson.balance(lengths[pairs.rows], pairs.labels, pairs.weights)
    kept = torch.bernoulli(weights / weights.max(), generator=generator).bool()
    return Pairs(*(values[kept] for values in pairs))


def claim_reward_models(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    world = log.kept["small"]
    reference, lengths = world.reference_log_probs()[:1], lesson.answer_lengths(world)
    generator, features = torch.Generator().manual_seed(cfg.seed), symbol_features(world, True)
    judged = world.rewards[:1] + cfg.length_bonus * lengths
    pairs = sample_pairs(reference, judged, cfg.num_pairs, generator)
    found = {"all": pairs, "balanced": keep_balanced(pairs, lengths, generator)}
    found = {name: per_token(fit(features, some), reference[0], lengths) for name, some in found.items()}
    log.write(0, **{f"reward_model_{name}": value for name, value in found.items()})
    log.claim(
        "reward_model_bonus",
        "a reward model learns the judge's bonus: what it adds for a token, where the truth adds nothing",
        found["all"] / cfg.length_bonus,
        at_least=0.5,
        unit="of the bonus",
        source="the labels; most of it",
    )
    log.claim(
        "reward_model_balanced",
        "fitted to balanced pairs it adds less than half as much",
        abs(found["balanced"]) / abs(found["all"]),
        at_most=0.5,
        unit="of that",
        source="(8)",
    )
    measure_ensemble(cfg, extra, log)


def gold_under_pressure(world: TokenWorld, proxies: Tensor) -> Tensor:
    """Mean gold reward [len(STRENGTHS)] of the policies that maximise `proxies` [D, M], first prompt."""
    reference, gold = world.reference_log_probs()[0], world.rewards[0]
    tilted = ((reference + strength * proxies).softmax(dim=1) for strength in STRENGTHS)
    return torch.stack([(probs @ gold).mean() for probs in tilted])


def measure_ensemble(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """One reward model of 100 pairs, and the most doubtful of five: of the same pairs, and of 500."""
    world, generator = log.kept["world"], torch.Generator().manual_seed(cfg.seed)
    reference, features = world.reference_log_probs()[0], symbol_features(world, False)

    def scores(pairs: list[Pairs]) -> Tensor:
        found = torch.stack([fit(features, some) for some in pairs])
        return found - (reference.exp() * found).sum(1, keepdim=True)

    def again(pairs: Pairs) -> Pairs:
        rows = torch.randint(len(pairs.labels), (len(pairs.labels),), generator=generator)
        return Pairs(*(values[rows] for values in pairs))

    def fresh() -> Pairs:
        return sample_pairs(reference[None], world.rewards[:1], 100, generator)

    kinds: dict[str, list[Tensor]] = {"one": [], "same": [], "more": []}
    for _ in range(extra.num_proxies):
        pairs = fresh()
        kinds["one"].append(scores([pairs])[0])
        kinds["same"].append(scores([again(pairs) for _ in range(5)]).amin(0))
        kinds["more"].append(scores([pairs] + [fresh() for _ in range(4)]).amin(0))
    gold = {name: gold_under_pressure(world, torch.stack(proxies)) for name, proxies in kinds.items()}
    for row, strength in enumerate(STRENGTHS):
        log.write(row, ensemble_strength=strength, **{f"ensemble_{name}": v[row] for name, v in gold.items()})


# Beside TRL


def text_log_probs(policy: nn.Module, pairs: dict[str, Tensor]) -> Tensor:
    """log pi of both completions of each pair of texts, [B, 2]."""
    prompts = (pairs[name].repeat_interleave(2, dim=0) for name in ("prompt_ids", "prompt_mask"))
    completions = (pairs[name].flatten(0, 1) for name in ("completion_ids", "completion_mask"))
    return log_probs_by_length(policy, *prompts, *completions).sum(1).reshape(-1, 2)


def as_texts_liked(pairs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same texts one by one, all chosen before all rejected, as KTO reads them."""
    found = {name: pairs[name].repeat(2, 1) for name in ("prompt_ids", "prompt_mask")}
    for name in ("completion_ids", "completion_mask"):
        found[name] = pairs[name].transpose(0, 1).flatten(0, 1)  # [2 B, T]
    return found


def our_losses(base: nn.Module, pairs: dict[str, Tensor], beta: float) -> dict[str, Callable]:
    """By name, our loss of a policy on the texts."""
    lengths = pairs["completion_mask"].sum(-1)
    ones = torch.ones(len(lengths))
    weights = ones / len(lengths)
    texts = as_texts_liked(pairs)
    liked = torch.cat([ones, 1 - ones])
    moved_on = {**texts, **{n: texts[n].roll(1, 0) for n in ("completion_ids", "completion_mask")}}
    with torch.no_grad():
        reference = text_log_probs(base, pairs)
        theirs = [log_probs_by_length(base, **some).sum(1) for some in (texts, moved_on)]

    def logistic(loss: lesson.Loss) -> Callable:
        def found(policy: nn.Module) -> Tensor:
            ours = text_log_probs(policy, pairs)
            total = lesson.logistic_loss(
                lesson.score(ours, reference, lengths, beta, loss), ones, loss.margin
            )
            return total.mean() + loss.sft * lesson.likelihood_loss(ours, lengths, ones, weights)

        return found

    def kto(policy: nn.Module) -> Tensor:
        h, others = (
            log_probs_by_length(policy, **some).sum(1) - ref for some, ref in zip((texts, moved_on), theirs)
        )
        return lesson.kto_loss(h, liked, lesson.reference_point(others), beta).mean()

    return {
        "DPO": logistic(lesson.DPO),
        "length-normalised": logistic(lesson.NORMALISED),
        "IPO": lambda policy: ipo_loss(
            (text_log_probs(policy, pairs) - reference) / lengths, ones, beta
        ).mean(),
        "DPO + SFT": logistic(lesson.RPO),
        "SimPO": logistic(lesson.SIMPO._replace(margin=MARGIN)),
        "KTO": kto,
    }


def moved(base: nn.Module, pairs: dict[str, Tensor], seed: int) -> nn.Module:
    """A policy that is not its reference and finds these texts likelier, so that z is above 0."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        parameter.data += 0.005 * torch.randn(parameter.shape, generator=generator)
    optimizer = Adam(policy.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (-text_log_probs(policy, pairs).mean()).backward()
        optimizer.step()
    return policy


def claim_parity(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Loss and gradient of six losses against TRL's, from the same weights on the same texts."""
    recipe = review_recipe(1)
    tokenizer = make_tokenizer(recipe)
    torch.manual_seed(cfg.seed)
    base = make_model(recipe, len(tokenizer)).eval()
    pairs = review_pairs(LoadedModel(base, tokenizer), extra.num_parity_pairs, 12, cfg.seed)
    policy, ours, gaps = moved(base, pairs, cfg.seed), our_losses(base, pairs, cfg.beta), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, trainer in trainers(base, pairs, tokenizer, replace(cfg, batch_size=64), MARGIN, folder):
            gaps[name] = loss_gaps(trainer, policy, ours[name])
    for place, what in enumerate(("loss", "gradient")):
        log.write(0, **{f"trl_{what}_{key(name)}": gap[place] for name, gap in gaps.items()})
        log.claim(
            f"trl_{what}_gap",
            f"our {what} equals TRL's on the same texts: DPO, length-normalised, IPO, with SFT, SimPO, KTO",
            max(gap[place] for gap in gaps.values()),
            at_most=1e-5,
            unit="relative",
            source="trl 1.12.0's DPOTrainer, CPOTrainer and KTOTrainer, run in the same process",
            always=True,
            seeds="5/5",
        )


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: a dot for each."""
    draw_lengths([run["metrics"] for run in runs], log)
    draw_pairs([run["metrics"] for run in runs], log)
    draw_ensembles([run["metrics"] for run in runs], log)
