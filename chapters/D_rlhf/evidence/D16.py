"""D16's evidence: choosing by proxies of few and many pairs, and small proxies optimised exactly."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chapters.D_rlhf import D16_reward_overoptimization as lesson
from chapters.D_rlhf.evidence.D16_figures import draw_overoptimization
from chapters.envs.reviews import gold_reward
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import preferences
from chapters.text.preferences import score_texts, write_texts
from chapters.utils import RunLog, in_range

INVERSE_BETAS = tuple(np.geomspace(0.05, 40.0, 40).tolist())
SHARES = (16, 4, 1)  # 16: a sixteenth of the pairs
POOL_PROMPTS = ("the music was", "i", "we", "it was a")
WORLDS = {  # name: (pairs, sees repeats, members of an ensemble)
    "few": (100, False, 1),
    "many": (1000, False, 1),
    "ensemble": (100, False, 5),
    "sees": (100, True, 1),
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    pool_size: Annotated[int, in_range(4, 100_000)] = 512
    """Texts for each of four prompts from which the best of n is taken; n goes up to this."""
    num_proxies: Annotated[int, in_range(2, 10_000)] = 40
    """Small proxies of each kind in the token world, each fitted to pairs of its own; an even number."""


SMOKE = {"pool_size": 16, "num_proxies": 4}


def fit_weights(
    differences: Float[Tensor, "D M F"], labels: Float[Tensor, "D M"], ridge: float = 1.0, num_steps: int = 12
) -> Float[Tensor, "D F"]:
    """Bradley-Terry weights of linear scores by Newton's method, D fits at once; label 1: the first won."""
    weights = differences.new_zeros(len(differences), differences.shape[2])
    identity = ridge * torch.eye(differences.shape[2], dtype=differences.dtype)
    for _ in range(num_steps):
        probs = torch.sigmoid((differences @ weights[..., None])[..., 0])  # [D, M]
        gradient = (differences.mT @ (probs - labels)[..., None])[..., 0] + ridge * weights
        hessian = differences.mT @ (differences * (probs * (1 - probs))[..., None]) + identity
        weights = weights - torch.linalg.solve(hessian, gradient)
    return weights


def symbol_features(world: TokenWorld, sees_repeats: bool) -> Float[Tensor, "M F"]:
    """Counts of each symbol in each completion; then, maybe, how often one follows itself."""
    ids, mask = world.completion_ids, world.completion_mask
    counts = nn.functional.one_hot(ids, world.num_symbols + 1)[..., : world.num_symbols].sum(dim=1)
    repeats = ((ids[:, 1:] == ids[:, :-1]) & mask[:, 1:]).sum(dim=1, keepdim=True)
    return torch.cat([counts, repeats] if sees_repeats else [counts], dim=1).double()


def fitted_proxies(
    world: TokenWorld,
    log_probs: Float[Tensor, " M"],
    gold: Float[Tensor, " M"],
    kind: str,
    num_proxies: int,
    temperature: float,
    generator: torch.Generator,
) -> Float[Tensor, "D M"]:
    """Scores of all completions by `num_proxies` small reward models, in units of gold, mean 0 at first."""
    num_pairs, sees, members = WORLDS[kind]
    features = symbol_features(world, sees)  # [M, F]
    shape = (2, num_proxies * members, num_pairs)
    drawn = torch.multinomial(log_probs.exp(), math.prod(shape), True, generator=generator)
    first, second = drawn.reshape(shape)
    wins = torch.sigmoid((gold[first] - gold[second]) / temperature)
    labels = (torch.rand(wins.shape, generator=generator) < wins).double()
    weights = fit_weights(features[first] - features[second], labels)
    proxy = temperature * weights @ features.T  # [D members, M]
    proxy = proxy - (log_probs.exp() * proxy).sum(dim=1, keepdim=True)
    proxy = proxy.unflatten(0, (-1, members)).amin(dim=1)  # an ensemble's most doubtful member
    return proxy - (log_probs.exp() * proxy).sum(dim=1, keepdim=True)


def token_curves(
    world: TokenWorld, kind: str, num_proxies: int, cfg: lesson.Config
) -> dict[str, Float[Tensor, "D L"]]:
    """Exact KL, proxy and gold of the tilted policy, for each draw of a proxy and each inverse beta.

    Gold is the world's own reward, minus one for each symbol that repeats the one before it.
    """
    ref = world.reference_log_probs()  # [N, M]
    repeats = symbol_features(world, True)[:, -1]
    generator = torch.Generator().manual_seed(cfg.seed)
    size = (num_proxies, len(INVERSE_BETAS))
    curves = {name: torch.zeros(size, dtype=torch.float64) for name in ("kl", "proxy", "gold")}
    for log_probs, reward in zip(ref, world.rewards):
        gold = reward - repeats
        gold = gold - (log_probs.exp() * gold).sum()
        proxy = fitted_proxies(world, log_probs, gold, kind, num_proxies, cfg.temperature, generator)
        for column, inverse_beta in enumerate(INVERSE_BETAS):
            policy = lesson.tilt(log_probs.expand_as(proxy), proxy, inverse_beta)
            for name, values in (("kl", policy - log_probs), ("proxy", proxy), ("gold", gold)):
                curves[name][:, column] += (policy.exp() * values).sum(dim=1) / len(ref)
    return curves


def turn(gold: Float[Tensor, "D L"]) -> float:
    """By how many standard errors gold falls from its peak to the end.

    The peak is chosen on every second proxy and the fall measured on the others: to choose the highest point
    and to test it on the same numbers would find a fall in noise.
    """
    chosen, tested = gold[::2], gold[1::2]
    peak = int(chosen.mean(dim=0).argmax())
    fall = tested[:, peak] - tested[:, -1]
    return (fall.mean() / (fall.std() / len(fall) ** 0.5).clamp(min=1e-9)).item()


def choose(scorer: nn.Module, cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Best of n by proxies of a sixteenth, a quarter and all of the pairs: what is kept of the promise."""
    base, tokens = log.kept["base"], log.kept["tokens"]
    scorers = {1: scorer}
    for share in SHARES[:-1]:
        less = {key: values[:, : cfg.num_pairs // share] for key, values in tokens.items()}
        torch.manual_seed(cfg.seed)
        model = preferences.RewardModel(base.model, *preferences.marks(base.tokenizer))
        longer = dataclasses.replace(cfg, num_epochs=cfg.num_epochs * share)
        scorers[share] = preferences.train_reward_model(model, less, longer, log)
    generator = torch.Generator().manual_seed(cfg.seed + 3)
    pools = [
        write_texts(base, [prompt] * extra.pool_size, cfg.num_tokens, generator)[0] for prompt in POOL_PROMPTS
    ]
    golds = [gold_reward(pool) for pool in pools]
    counts = [2**k for k in range(int(math.log2(extra.pool_size)) + 1)]
    gains = {}
    for share in SHARES:
        scores = [cfg.temperature * score_texts(scorers[share], base.tokenizer, pool) for pool in pools]
        for what, values in (("proxy", scores), ("gold", golds)):
            curve = [np.mean([lesson.best_of_n(s, v, n) for s, v in zip(scores, values)]) for n in counts]
            gains[f"{what}_{share}"] = np.array(curve) - curve[0]
    for row, n in enumerate(counts):
        log.write(n, **{f"best_of_n_{name}": gain[row] for name, gain in gains.items()})
    claim_choice(gains, log)


def claim_choice(gains: dict[str, np.ndarray], log: RunLog) -> None:
    log.claim(
        "best_of_n_proxy_rises",
        "with every doubling of n the best of n has more of the proxy's reward",
        min(np.diff(gains[f"proxy_{share}"]).min() for share in SHARES),
        at_least=0.0,
        unit="smallest rise",
        source="eq. (1)",
        always=True,
        seeds="10/10",
    )


def optimise_exactly(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The token world: chance is in the pairs alone, not in the optimiser."""
    world = token_world(cfg.seed)
    found = {kind: token_curves(world, kind, extra.num_proxies, cfg) for kind in WORLDS}
    for kind, curves in found.items():
        means = torch.stack(list(curves.values())).mean(dim=1).T.tolist()
        for column, values in enumerate(means):
            log.write(column, **{f"token_{kind}_{name}": value for name, value in zip(curves, values)})
        peak = int(curves["gold"].mean(dim=0).argmax())
        log.write(0, **{f"token_{kind}_peak_kl": curves["kl"].mean(dim=0)[peak].item()})
    exact = {"always": True, "seeds": "10/10"}
    log.claim(
        "token_proxy_rises",
        "to optimise harder never lowers the proxy's own reward",
        min(curves["proxy"].diff(dim=1).min().item() for curves in found.values()),
        at_least=-1e-9,
        unit="smallest rise",
        source="eq. (5): a variance",
        **exact,
    )
    excess = [world.kl(world.best_of_n(n)).item() - lesson.best_of_n_kl(n) for n in (1, 2, 4, 16, 64, 256)]
    log.claim(
        "best_of_n_kl_excess",
        "the exact divergence of the best of n stays below log n - (n - 1) / n",
        max(excess),
        at_most=1e-9,
        unit="nats",
        source="enumeration",
        **exact,
    )
    claim_worlds({kind: curves["gold"] for kind, curves in found.items()}, log)


def claim_worlds(gold: dict[str, Float[Tensor, "D L"]], log: RunLog) -> None:
    mean = {kind: values.mean(dim=0) for kind, values in gold.items()}
    log.claim(
        "token_gold_turns",
        "maximised exactly, proxies that cannot see repeats take gold below its peak",
        min(turn(gold["few"]), turn(gold["many"])),
        at_least=3.0,
        unit="standard errors over proxies",
        source="the usual bar of significance",
    )
    log.claim(
        "token_more_pairs",
        "ten times the pairs raise the peak of the gold reward",
        (mean["many"].max() - mean["few"].max()).item(),
        at_least=0.0,
        unit="gold reward",
        source="gao2023overoptimization",
    )
    log.claim(
        "token_sees_repeats",
        "optimised hardest, a proxy that sees repeats keeps more gold than any blind one",
        (mean["sees"][-1] - max(mean[kind][-1] for kind in ("few", "many", "ensemble"))).item(),
        at_least=0.0,
        unit="gold reward",
        source="what the features can express",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    choose(log.kept["scorer"], cfg, extra, log)
    optimise_exactly(cfg, extra, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all recorded seeds, and what single seeds are too noisy to show."""
    most, fewest = f"best_of_n_gold_{SHARES[-1]}", f"best_of_n_gold_{SHARES[0]}"
    kept = [run["metrics"][most][-1][1] - run["metrics"][fewest][-1][1] for run in runs]
    log.claim(
        "data_under_pressure",
        "at the largest n, sixteen times the pairs keep more of the gold reward",
        np.median(kept),
        at_least=0.0,
        unit="gold reward, median",
        source="gao2023overoptimization",
    )
    log.figure(draw_overoptimization(runs))
