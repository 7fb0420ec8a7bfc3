"""E4's evidence: the filter against all paths, one guess at a time, and what a memory keeps of pictures."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from chapters.E_practice import E4_world_models as lesson
from chapters.envs.jax_memory import Arrays, Weights, linear, train
from chapters.envs.ring_world import (
    END,
    NUM_CELLS,
    Batch,
    Recording,
    as_batch,
    hidden_ball,
    pictures,
    record,
    ring,
)
from chapters.exact.beliefs import forward_filter, log_likelihood, one_guess_bound
from chapters.exact.heads import fit_net, later_half, read, share_named
from chapters.utils import RunLog, in_range, plotting

ASKED = ("reconstruction", "contrast", "own_times", "latent")
"""Objectives for pictures; `own_times` is contrast with what the same recording shows at other times."""
KINDS = ("ball", "wallpaper", "snow")
NUM_BITS = 8  # pixels of wallpaper, and as many of snow


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    picture_updates: Annotated[int, in_range(2, 10**6)] = 600
    """Updates of each model of pictures."""
    picture_batch: Annotated[int, in_range(2, 1000)] = 16
    """Recordings in one update."""
    picture_steps: Annotated[int, in_range(2, 1000)] = 24
    """Steps of a recording."""
    picture_tests: Annotated[int, in_range(4, 10**6)] = 192
    """Recordings to measure on, and as many to fit heads to."""


SMOKE = {"picture_updates": 4, "picture_batch": 3, "picture_steps": 6, "picture_tests": 8}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_filter(cfg, log)
    claim_one_guess(log)
    note_missing(log)
    claim_beliefs(log)
    claim_pictures(cfg, extra, log)
    draw_beliefs(cfg, log)
    draw_pictures([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw_nats(metrics, log)
    draw_pictures(metrics, log)


# What can be known


def claim_filter(cfg: lesson.Config, log: RunLog) -> None:
    """Short recordings by the filter, by the lesson's own step, and by all hidden paths."""
    world, gaps = ring(), []
    recording = record(world, 4, 3, 0.2, np.random.default_rng((cfg.seed, 2)))
    predictions, beliefs = forward_filter(*world[:3], *recording[1:])
    logs = log_likelihood(predictions, recording.obs).sum(axis=0)
    paths = np.array(list(product(range(NUM_CELLS), repeat=4)))
    for n in range(3):
        obs, actions, first = (x[:, n] for x in recording[1:])
        weights, likelihood, belief = np.ones(len(paths)), 1.0, world.start
        for t in range(4):
            move = np.tile(world.start, (NUM_CELLS, 1)) if first[t] else world.P[:, actions[t - 1]]
            weights = weights * (world.start[paths[:, 0]] if t == 0 else move[paths[:, t - 1], paths[:, t]])
            weights = weights * world.emission[paths[:, t], obs[t]]
            chance, belief = lesson.bayes_step(belief, move, world.emission[:, obs[t]])
            likelihood *= chance
        gaps += [abs(np.log(weights.sum()) - logs[n]), abs(np.log(likelihood) - logs[n])]
        gaps.append(np.abs(belief - beliefs[-1, n]).max())
    log.claim(
        "filter_is_exact",
        "the filter's log-likelihood is that of all hidden paths together, and eq. (1) gives it too",
        max(gaps),
        at_most=1e-9,
        unit="nats, largest difference",
        source="20,736 paths of each recording written out",
        always=True,
    )


def claim_one_guess(log: RunLog) -> None:
    tests, world = log.kept["tests"], ring()
    bound = -one_guess_bound(*world[:3], *tests[1:]).mean()
    exact = -log_likelihood(log.kept["predictions"], tests.obs).mean()
    log.write(0, loss_one_guess=bound, loss_filter=exact)
    log.claim(
        "one_guess_at_a_time",
        "who knows the tables, but passes on one guess of the cell, predicts worse than who knows nothing",
        bound,
        at_least=float(np.log(3)),
        unit="nats a step",
        source="ln 3: three colours, each as likely as the others",
    )


def note_missing(log: RunLog) -> None:
    """Where what a memory lacks lies, and what other instruments would say: no claims, but told of."""
    see, tests, batch = log.kept["see"], log.kept["tests"], log.kept["batch"]
    exact = later_half(log.kept["predictions"])
    upset = later_half(after_surprise(log.kept["predictions"], tests))
    log.write(0, upset_steps=float(upset.mean()))
    for weights, name in zip(log.kept["models"], lesson.OBJECTIVES):
        memory = see(weights, batch, 0.0).memory
        said = read(memory, log.kept["predictions"], fit_net)
        missing = (exact * (np.log(exact) - said)).sum(axis=1)
        linear_head = lesson.nats_above(exact, read(memory, log.kept["predictions"]))
        log.write(0, **{f"upset_{name}": float(missing[upset].sum() / missing.sum())})
        log.write(0, **{f"linear_{name}": linear_head})
    drawn = see(log.kept["models"][0], batch, 1.0).memory
    log.write(0, drawn_codes=lesson.nats_above(exact, read(drawn, log.kept["predictions"], fit_net)))


def after_surprise(predictions: Float[np.ndarray, "T N O"], told: Recording) -> Bool[np.ndarray, "T N"]:
    """Steps with a colour of a chance below a tenth among the three before them, in the same episode."""
    surprised = np.exp(log_likelihood(predictions, told.obs)) < 0.1
    episode = told.first.cumsum(axis=0)
    upset = np.zeros_like(surprised)
    for back in range(1, 4):
        upset[back:] |= surprised[:-back] & (episode[back:] == episode[:-back])
    return upset


def claim_beliefs(log: RunLog) -> None:
    """Beyond the best guess: the whole belief, read by a head that is fitted to true states."""
    tests, beliefs = log.kept["tests"], log.kept["beliefs"]
    for weights, name in zip(log.kept["models"], lesson.OBJECTIVES):
        seen = log.kept["see"](weights, log.kept["batch"], 0.0)
        inputs = np.concatenate([seen.memory, seen.code], axis=2)
        said = read(inputs, np.eye(NUM_CELLS)[tests.states])
        log.write(0, **{f"belief_{name}": lesson.nats_above(later_half(beliefs), said)})
        log.write(0, **{f"named_{name}": share_named(said, tests.states, beliefs)})
    worst = {
        "belief": max(log.last(f"belief_{name}") for name in lesson.OBJECTIVES),
        "named": min(log.last(f"named_{name}") for name in lesson.OBJECTIVES),
    }
    log.claim(
        "belief_read",
        "the whole belief is read from each memory: a linear probe of the cell lacks little of it",
        worst["belief"],
        at_most=0.25,
        unit="nats, the worst of three",
        source="a tenth of ln 12 = 2.48, what there is to know of a cell",
    )
    log.claim(
        "state_named",
        "a linear probe names the cell nearly as often as the filter's best guess is right",
        worst["named"],
        at_least=0.9,
        unit="of the filter's rate, the lowest of three",
        source="nothing that knows only the past is right more often than the filter's best guess",
    )


# Pictures


class Pictures(NamedTuple):
    """Recordings of the ball, with what the middle of each picture shows."""

    recording: Recording
    bits: Bool[np.ndarray, "T N 16"]
    """First the wallpaper, the same all through an episode, then snow, new in each picture."""
    batch: Batch


def film(cfg: lesson.Config, num: int, rng: np.random.Generator) -> Pictures:
    recording = record(hidden_ball(), cfg.num_steps, num, END, rng)
    bits = rng.random((cfg.num_steps, num, 2 * NUM_BITS)) < 0.5
    for t in range(1, cfg.num_steps):
        bits[t, :, :NUM_BITS] = np.where(recording.first[t][:, None], bits[t], bits[t - 1])[:, :NUM_BITS]
    batch = as_batch(recording, hidden_ball(), (cfg.num_groups, cfg.num_classes), rng)
    return Pictures(recording, bits, batch._replace(obs=pictures(recording.obs, bits)))


def picture_objective(
    weights: Weights,
    average: Weights,
    choice: Float[Arrays, "4"],
    batch: Batch,
    cfg: lesson.Config,
) -> Float[Arrays, ""]:
    """The lesson's objectives, pixels drawn one by one, and contrast with a recording's other times."""
    seen = lesson.observe(weights, batch, drawn=choice[0])
    logits = linear(weights["decode"], jnp.concatenate([seen.memory, seen.code], axis=-1))
    drawn = (logits * batch.obs - jax.nn.softplus(logits)).sum(axis=-1)
    draws = lesson.reconstruction_loss(drawn, seen.posterior, seen.prior, cfg.posterior_weight)
    sought = linear(weights["match"], seen.memory)
    own_times = lesson.contrastive_loss(jnp.einsum("tnd,snd->nts", sought, seen.features))
    _, others, latent = lesson.losses(weights, average, batch.obs, seen, cfg)
    return choice @ jnp.stack([draws, others, own_times, latent])


def claim_pictures(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    cfg = replace(
        cfg, num_updates=extra.picture_updates, batch_size=extra.picture_batch, num_steps=extra.picture_steps,
        width=64, num_features=32, num_groups=8, num_classes=8, learning_rate=1e-2,
    )  # fmt: skip
    start = lesson.start_weights(64, cfg)
    models = train(
        picture_objective,
        start,
        np.eye(4),
        lambda num, rng: film(cfg, num, rng).batch,
        cfg,
        log,
        num_rounds=1,
    )
    tests = film(cfg, 2 * extra.picture_tests, np.random.default_rng((cfg.seed, 3)))
    world = hidden_ball()
    _, beliefs = forward_filter(*world[:3], *tests.recording[1:])
    cells = np.eye(NUM_CELLS)[tests.recording.states]
    for weights, name in zip(models, ASKED):
        seen = log.kept["see"](weights, tests.batch, 0.0)
        inputs = np.concatenate([seen.memory, seen.code], axis=2)
        kept = {
            "ball": share_named(read(inputs, cells), tests.recording.states, beliefs),
            "wallpaper": bits_kept(inputs, tests.bits[..., :NUM_BITS]),
            "snow": bits_kept(inputs, tests.bits[..., NUM_BITS:]),
        }
        log.write(0, **{f"{what}_{name}": value for what, value in kept.items()})
    claim_kept(log)


def claim_kept(log: RunLog) -> None:
    others = [name for name in ASKED if name != "contrast"]
    log.claim(
        "contrast_drops_ball",
        "where a wallpaper tells recordings apart, contrast between recordings drops the ball",
        log.last("ball_contrast"),
        at_most=0.5,
        unit="of the filter's rate",
        source="0.1 is blind; half of what can be known",
    )
    log.claim(
        "contrast_keeps_wallpaper",
        "and keeps the wallpaper, which no action ever changes",
        log.last("wallpaper_contrast"),
        at_least=0.95,
        unit="of its pixels named",
        source="the picture shows it: 1; blind is 0.5",
    )
    log.claim(
        "others_keep_ball",
        "the ball is kept by drawing, by foreseeing a code, and by contrast with a recording's other times",
        min(log.last(f"ball_{name}") for name in others),
        at_least=0.8,
        unit="of the filter's rate, the lowest of three",
        source="the exact filter: 1",
    )
    log.claim(
        "drawing_keeps_snow",
        "who draws pictures keeps more of the snow than any who foresees: it cannot be foreseen",
        log.last("snow_reconstruction") - max(log.last(f"snow_{name}") for name in ASKED[1:]),
        at_least=0.1,
        unit="of its pixels named, difference",
        source="blind is 0.5, and 0.5 is all that can be foreseen of snow",
    )


def bits_kept(inputs: Float[np.ndarray, "T N F"], bits: Bool[np.ndarray, "T N K"]) -> float:
    """Share of bits that linear probes name, every fourth of them asked."""
    shares = []
    for k in range(0, bits.shape[2], 4):
        said = read(inputs, np.eye(2)[bits[..., k].astype(int)]).argmax(axis=1)
        shares.append((said == later_half(bits[..., k])).mean())
    return float(np.mean(shares))


# Figures


def draw_beliefs(cfg: lesson.Config, log: RunLog) -> None:
    """One recording: the filter's belief, and what a probe reads from the contrastive memory."""
    tests, beliefs = log.kept["tests"], log.kept["beliefs"]
    seen = log.kept["see"](log.kept["models"][1], log.kept["batch"], 0.0)
    inputs = np.concatenate([seen.memory, seen.code], axis=2)
    said = np.exp(read(inputs, np.eye(NUM_CELLS)[tests.states])).reshape(cfg.num_steps, -1, NUM_CELLS)
    half = beliefs.shape[1] // 2
    figure, axes = plotting.new_figure(2, 1, width=7.2, height=2.9)
    for ax, chances, title in (
        (axes[0], beliefs[:, half], "The exact belief"),
        (axes[1], said[:, 0], "Read from the memory by a linear probe"),
    ):
        image = ax.imshow(chances.T, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="Blues")
        ax.plot(tests.states[:, half], "o", color=plotting.RED, markersize=4, label="true cell")
        for start in np.flatnonzero(tests.first[1:, half]) + 0.5:
            ax.axvline(start, color="black", linestyle=":", linewidth=1.5)
        ax.set(ylabel="cell", title=title, yticks=range(0, NUM_CELLS, 3))
        ax.grid(False)
    axes[1].set_xlabel("step (dotted: a new episode begins)")
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 0.98))
    figure.colorbar(image, ax=axes, label="chance")
    log.figure(figure, "belief")


def draw_pictures(runs: list[dict], log: RunLog) -> None:
    """What probes read from each memory, as a share of what the filter or the picture itself tells."""
    figure, ax = plotting.new_figure(width=7.2)
    for i, (kind, color) in enumerate(zip(KINDS, (plotting.BLUE, plotting.ORANGE, plotting.GREEN))):
        rows = np.array([[run[f"{kind}_{name}"][0][1] for name in ASKED] for run in runs])
        chance = 1 / NUM_CELLS if kind == "ball" else 0.5
        rows = (rows - chance) / (1 - chance)
        places = np.arange(len(ASKED)) + 0.26 * (i - 1)
        ax.bar(places, np.median(rows, axis=0), 0.24, color=color, label=kind)
        for row in rows:
            ax.plot(places, row, ".", color="black", markersize=4)
    ax.axhline(1.0, label="all there is to tell", **plotting.REFERENCE)
    ax.set_xticks(
        range(len(ASKED)),
        ["draw it", "tell it from\nother recordings", "tell it from\nother times", "foresee\na vector"],
    )
    ax.set(ylabel="read by a linear probe (0: chance, 1: all)", ylim=(-0.05, 1.3))
    ax.set_title(f"What a memory keeps (dots: seeds, {len(runs)})")
    ax.legend(ncols=4, loc="upper center")
    log.figure(figure, "pictures")
