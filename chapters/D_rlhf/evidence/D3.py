"""D3's evidence: fewer pairs seen more often, the gradient, and TRL's RewardTrainer on the same pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from chapters.D_rlhf import D3_reward_model as lesson
from chapters.D_rlhf.evidence.D3_figures import draw_reward_model
from chapters.D_rlhf.evidence.D3_trl import train_trl, trl_loss
from chapters.text.models import LoadedModel
from chapters.utils import CpuClock, RunLog, in_range
from chapters.utils.timing import PeakMemory

SHARES = (16, 4, 1)  # 16: a sixteenth of the pairs


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_parity_pairs: Annotated[int, in_range(1, 4096)] = 32
    """Pairs of the batch on which our loss is compared with TRL's."""


SMOKE: dict[str, Any] = {}


def gradient_gap(loss: Callable[[], Tensor], weights: list, seed: int, size: float = 1e-5) -> float:
    """Largest relative gap between gradient and central differences, along three random ways through all
    weights (float64). The weights are left as they were."""
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    here = parameters_to_vector(weights).detach().clone()
    gradient = parameters_to_vector(torch.autograd.grad(loss(), weights))
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for _ in range(3):
        way = torch.randn(len(here), generator=generator, dtype=here.dtype)
        ends = []
        for step in (size, -size):
            vector_to_parameters(here + step * way, weights)
            ends.append(loss().item())
        worst = max(worst, abs((ends[0] - ends[1]) / (2 * size) / (gradient @ way).item() - 1))
    vector_to_parameters(here, weights)
    return worst


def claim_loss(base: LoadedModel, tokens: dict, cfg: lesson.Config, log: RunLog) -> None:
    """The loss's gradient, and the zero of the scores, which does not matter."""
    model = lesson.new_model(base, cfg).double()
    ids, mask = (tokens[key][:, :4].flatten(0, 1) for key in ("ids", "mask"))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss(shift: float = 0.0) -> Tensor:
        return lesson.bradley_terry_loss(*(model(ids, mask) + shift).chunk(2), margin=0.5)

    log.claim(
        "gradient_gap",
        "the loss's gradient is that of finite differences, along ways through all weights",
        gradient_gap(loss, weights, cfg.seed),
        at_most=1e-4,
        unit="relative, float64",
        source="finite differences",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "shift_gap",
        "adding 7 to every score changes no preference, hence not the loss",
        abs(loss().item() - loss(shift=7.0).item()),
        at_most=1e-12,
        source="eq. (3)",
        always=True,
        seeds="10/10",
    )


def fewer_pairs(base: LoadedModel, tokens: dict, test: dict, cfg: lesson.Config, log: RunLog) -> tuple:
    """Models of a sixteenth, a quarter and all of the pairs, each after the same number of steps.

    Returns what was found of the first and of the last, and CPU seconds and megabytes of training the last.
    """
    found = []
    for share in SHARES:
        less = {key: values[:, : cfg.num_pairs // share] for key, values in tokens.items()}
        longer = dataclasses.replace(cfg, num_epochs=cfg.num_epochs * share)
        clock = CpuClock()
        with PeakMemory() as peak, clock:
            model = lesson.train_reward_model(lesson.new_model(base, cfg), less, longer, log)
        found.append(lesson.judge(model, base.tokenizer, test))
        numbers = {key: found[-1][key] for key in ("accuracy", "ece", "slope")}
        log.write(cfg.num_pairs // share, train_cpu_seconds=clock.seconds, **numbers)
        for row, (forecast, truth) in enumerate(found[-1]["bins"].T):
            log.write(row, **{f"forecast_{share}": forecast, f"truth_{share}": truth})
    return found[0], found[-1], clock.seconds, peak.megabytes


def claim_fewer_pairs(few: dict, best: dict, log: RunLog) -> None:
    log.claim(
        "calibration_slope",
        "its scores are about as far apart as the noise of the labels tells",
        best["slope"],
        near=(1.0, 0.25),
        source="cox1958calibration: 1 is calibrated",
    )
    log.claim(
        "more_pairs",
        "sixteen times the pairs, with the same number of steps, raise the accuracy",
        best["accuracy"] - few["accuracy"],
        at_least=0.03,
        unit="accuracy",
        source="two standard errors of a proportion near 0.8 over 1,000 pairs",
    )
    log.claim(
        "overconfident",
        "many passes over few pairs put the scores too far apart",
        few["slope"],
        at_most=0.75,
        unit="calibration slope",
        source="below what counts as calibrated above",
    )


def compare_trl(
    base: LoadedModel, tokens: dict, test: dict, ours: tuple, cfg: lesson.Config, extra: Config, log: RunLog
) -> None:
    """TRL's RewardTrainer from the same weights on the same pairs in the same order."""
    accuracy, our_seconds, our_megabytes = ours
    model = lesson.new_model(base, cfg)
    batch = {key: values[:, : extra.num_parity_pairs] for key, values in tokens.items()}
    chosen, rejected = model(*(values.flatten(0, 1) for values in batch.values())).chunk(2)
    loss = lesson.bradley_terry_loss(chosen, rejected).item()
    log.claim(
        "trl_loss_gap",
        "our loss equals that of TRL's RewardTrainer on the same batch",
        abs(loss - trl_loss(model.body, model.score, base.tokenizer, batch, cfg)),
        at_most=1e-5,
        source="trl 1.12, run in the same process",
        always=True,
        seeds="10/10",
    )
    scorer, seconds, megabytes = train_trl(model.body, model.score, base.tokenizer, tokens, cfg)
    found = lesson.judge(scorer, base.tokenizer, test)
    numbers = {f"trl_{key}": found[key] for key in ("accuracy", "ece", "slope")}
    log.write(cfg.num_pairs, trl_train_cpu_seconds=seconds, **numbers)
    log.claim(
        "trl_accuracy_gap",
        "after the same steps on the same pairs TRL's model is as often right as ours",
        found["accuracy"] - accuracy,
        near=(0.0, 0.02),
        source="trl 1.12",
    )
    ratios = {"CPU seconds": seconds / our_seconds, "megabytes": megabytes / our_megabytes}
    for what, ratio in ratios.items():
        log.claim(
            f"trl_{what.split()[-1]}",
            f"TRL's training takes no fewer {what} than ours",
            ratio,
            at_least=1.0,
            unit="times ours",
            source="trl 1.12 in the same process",
            timed=True,
        )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    base, tokens, test = (log.kept[name] for name in ("base", "tokens", "test"))
    claim_loss(base, tokens, cfg, log)
    few, best, seconds, megabytes = fewer_pairs(base, tokens, test, cfg, log)
    claim_fewer_pairs(few, best, log)
    compare_trl(base, tokens, test, (best["accuracy"], seconds, megabytes), cfg, extra, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all recorded seeds."""
    log.figure(draw_reward_model(runs))
