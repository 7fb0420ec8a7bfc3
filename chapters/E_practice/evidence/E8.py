"""E8's evidence: a plain second search, exact tables of all boards, the parts one at a time, and PUCT."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from chapters.E_practice import E8_muzero as lesson
from chapters.E_practice.checks.E8 import EDITS, SmallModel
from chapters.E_practice.E7_mcts_alphazero import puct
from chapters.envs.boards import LineGame, opened, tic_tac_toe
from chapters.envs.latent_trees import softmax
from chapters.exact import games, trees
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

EXPLORE = 1.5  # c of PUCT, as in E7
SIMULATIONS = (2, 4, 8, 16, 32)  # of searches with exact values
PARTS = {
    "whole": "as it is",
    "reward": "rewards weigh 1",
    "unroll": "one move unrolled",
    "openings": "no random openings",
    "pictures": "never turned",
    "tied": "latents tied",
}
"""What is changed in a training cut short, and its name in the figure."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    part_rounds: Annotated[int, in_range(1, 10_000)] = 6
    """Rounds of the trainings with one part changed, and of the one as it is beside them."""
    part_seeds: Annotated[int, in_range(1, 10_000)] = 1
    """Those trainings run where the lesson's seed is below this one: they take most of the time."""
    num_draws: Annotated[int, in_range(1, 10_000)] = 32
    """Draws of Gumbel noise for each board and number of simulations."""


SMOKE = {"part_rounds": 1, "num_draws": 2}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    game = tic_tac_toe()
    solution = games.solve(game)
    boards, q = games.even_sample(solution, 60, np.random.default_rng(0))
    claim_visits(cfg, log)
    claim_lines(game, solution, log.kept["model"], log)
    claim_tables(game, solution, log.kept["model"], log)
    shares = [
        share_best(game, log.kept["model"], num, boards, q)
        for num in (1, cfg.num_simulations, cfg.num_playing)
    ]
    log.write(0, best_alone=shares[0], best_searched=shares[1], best_playing=shares[2])
    log.claim(
        "search_gain",
        "the search of self-play finds a best move more often than the network in it does alone",
        shares[1] - shares[0],
        at_least=0.0,
        unit="of decisive boards, difference",
        source="exact values of all moves",
    )
    compare_with_puct(q, cfg, extra, log)
    if cfg.seed < extra.part_seeds:
        for name in PARTS:
            change(name, game, boards, q, replace(cfg, num_iterations=extra.part_rounds), log)
    draw_parts([log.metrics], log)


def share_best(game: LineGame, model, num_simulations: int, boards: np.ndarray, q: np.ndarray) -> float:
    return games.share_best(q, lesson.player(game, model, num_simulations)(boards)[0])


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_parts(metrics, log)


def claim_visits(cfg: lesson.Config, log: RunLog) -> None:
    """Searches side by side against one tree at a time, in a small random model."""
    rng, model, gaps = np.random.default_rng(cfg.seed), SmallModel(5), []
    seen, legal = rng.normal(size=(6, 4)), rng.random((6, 5)) < 0.7
    legal[:, 0] = True
    gumbels = rng.gumbel(size=legal.shape)
    for num_simulations in (1, 7, 30):
        found = lesson.search(model, seen, legal, num_simulations, gumbels)
        for row in range(len(seen)):
            visits, move, policy = trees.gumbel_search(
                model, seen[row : row + 1], legal[row], num_simulations, gumbels[row]
            )
            gaps.append(float(found[0][row] != move))
            gaps.append(np.abs(found[1][row] - policy).max())
            gaps.append(np.abs(found[2][row] - visits).max())
    log.claim(
        "search_gap",
        "searches side by side play, prefer and visit as one plain tree does by (2) to (6)",
        max(gaps),
        at_most=1e-9,
        unit="largest difference of a visit, a move, or a chance",
        source="the definition in plain Python, which plays as mctx 0.0.71 does",
        always=True,
    )


# The model against the rules, and against exact tables


def claim_lines(game: LineGame, solution: games.Solution, model, log: RunLog) -> None:
    """How wrong the model is about wins k moves ahead, on lines of random and of best moves."""
    starts = opened(game, 4000, 4, np.random.default_rng(1))
    for name, known in (("random", None), ("best", solution)):
        lines = games.lines_of_play(game, starts, np.random.default_rng(1), known)
        for k, error in enumerate(trees.reward_errors(game, model, lines, 5), start=1):
            log.write(k, **{f"error_{name}": float(error)})
    log.claim(
        "worse_on_random",
        "five moves ahead the model is more wrong about wins on random lines than on lines of best play",
        log.last("error_random") - log.last("error_best"),
        at_least=0.0,
        unit="mean error of a chance, difference",
        source="the rules, on lines from 4,000 boards of each kind",
    )


def tables(
    game: LineGame, solution: games.Solution, model
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(values, exact values) of all boards that have not ended; (chances, whether it wins) of all moves."""
    boards, values = np.concatenate(solution.boards), np.concatenate(solution.values)
    going = ~game.ended(boards)
    boards, values = boards[going], values[going]
    latents, _, guessed = model.look(game.planes(boards))
    rows, moves = np.nonzero(game.legal(boards))
    chances = model.imagine(latents[rows], moves)[1]
    return guessed, values, chances, game.lost(game.play(boards[rows], moves))


def claim_tables(game: LineGame, solution: games.Solution, model, log: RunLog) -> None:
    guessed, values, chances, wins = tables(game, solution, model)
    right = np.mean(np.abs(guessed - values) < 0.5)
    commonest = max(np.mean(values == value) for value in (-1, 0, 1))
    log.write(0, values_right=float(right), commonest_value=float(commonest))
    log.claim(
        "values_right",
        "on all boards the value is nearest to the exact one more often than the commonest value would be",
        right - commonest,
        at_least=0.0,
        unit="of 4,520 boards, difference",
        source="exact values of all boards",
    )
    missed, imagined = np.mean(chances[wins] < 0.5), np.mean(chances[~wins] >= 0.5)
    log.write(0, wins_missed=float(missed), wins_imagined=float(imagined))
    log.claim(
        "wins_known",
        "one move ahead the model tells a move that wins from one that does not, better than a coin",
        (missed + imagined) / 2,
        at_most=0.5,
        unit="wrong, mean of both kinds of all legal moves",
        source="the rules, on all boards; guessing has 0.5",
    )


# Gumbel and PUCT with exact values


def puct_visits(prior: np.ndarray, q: np.ndarray, num_simulations: int) -> np.ndarray:
    """Visits of the root's moves where each try of a move brings what the move is worth."""
    legal, visits = ~np.isnan(q), np.zeros(q.shape)
    worth = np.where(legal, q, 0.0)
    every = np.arange(len(q))
    for _ in range(num_simulations):
        scores = np.where(legal, puct(prior, visits, visits * worth, EXPLORE), -np.inf)
        visits[every, scores.argmax(axis=1)] += 1.0
    return visits


def compare_with_puct(q: np.ndarray, cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """What a search adds to the value of a random prior, in expectation, on each decisive board."""
    rng = np.random.default_rng((cfg.seed, 1))
    logits, legal = 2 * rng.normal(size=q.shape), ~np.isnan(q)
    prior = softmax(np.where(legal, logits, -1e9))
    worth = np.where(legal, q, 0.0)
    before = (prior * worth).sum(axis=1)
    for num_simulations in SIMULATIONS:
        shares = puct_visits(prior, q, num_simulations) / num_simulations
        gains = {"puct": (shares * worth).sum(axis=1) - before, "gumbel": np.zeros(len(q))}
        for _ in range(extra.num_draws):
            played, drawn = trees.gumbel_draws(lesson.search, q, logits, num_simulations, rng)
            gains["gumbel"] += (played - drawn) / extra.num_draws
        for name, gain in gains.items():
            log.write(num_simulations, **{f"gain_{name}": gain.mean(), f"worst_{name}": gain.min()})
            log.write(num_simulations, **{f"lowered_{name}": np.mean(gain < -1e-12)})
    log.claim(
        "puct_lowers",
        "by the shares of two visits of PUCT, values exact, play is worth less than the prior on some boards",
        log.series("lowered_puct")[1][0],
        at_least=1 / len(q),
        unit="of decisive boards",
        source="exact expected values; danihelka2022gumbel say that it can happen",
    )
    log.claim(
        "gumbel_gain",
        "a Gumbel search of two simulations, values exact, gains more over the prior than PUCT's shares",
        log.series("gain_gumbel")[1][0] - log.series("gain_puct")[1][0],
        at_least=0.0,
        unit="value, difference of means over decisive boards",
        source="exact values, the same priors",
    )


# The parts


def change(name: str, game: LineGame, boards, q, cfg: lesson.Config, log: RunLog) -> None:
    """Train with one part changed; count lines lost, and how wrong the model is on random lines."""
    edits = {"reward": "reward_weighs_one", "pictures": "no_pictures", "tied": "tied_latents"}
    settings = {"unroll": {"num_unrolled": 1}, "openings": {"most_random": 0}}
    module = edited(lesson, EDITS[edits[name]]) if name in edits else lesson
    model = module.train(game, replace(cfg, **settings.get(name, {})), log, lambda iteration, model: None)
    lost = sum(lesson.lost_lines(game, model, cfg.num_playing, seat) for seat in (0, 1))
    starts = opened(game, 4000, 4, np.random.default_rng(1))
    lines = games.lines_of_play(game, starts, np.random.default_rng(1))
    error = float(trees.reward_errors(game, model, lines, 5).mean())
    best = share_best(game, model, cfg.num_simulations, boards, q)
    log.write(0, **{f"part_lost_{name}": float(lost), f"part_best_{name}": best, f"part_error_{name}": error})


def draw_parts(runs: list[dict], log: RunLog) -> None:
    figure, (left, middle, right) = plotting.new_figure(1, 3, width=5.2)
    for name, color in (("random", plotting.ORANGE), ("best", plotting.BLUE)):
        rows = np.array([run[f"error_{name}"] for run in runs])
        plotting.seed_band(left, rows[0, :, 0], rows[:, :, 1], f"lines of {name} moves", color)
    left.set(xlabel="moves imagined", ylabel="mean error of the chance of a win", ylim=(0, None))
    left.set(title="Has the last move won?", xticks=range(1, 6))
    left.legend(fontsize=10, loc="upper left")
    for place, name in enumerate(PARTS):
        lost = [run[f"part_lost_{name}"][0][1] for run in runs if f"part_lost_{name}" in run]
        color = plotting.BLUE if name == "whole" else plotting.ORANGE
        middle.plot(lost, [place] * len(lost), "o", color=color, markersize=10, clip_on=False)
    middle.set_yticks(range(len(PARTS)), PARTS.values())
    middle.invert_yaxis()
    middle.set_xscale("symlog", linthresh=1)
    middle.set(xlabel="lines lost, both seats", xlim=(0, None), title="After 6 rounds, seed 0")
    for name, label, color in (("gumbel", "Gumbel", plotting.BLUE), ("puct", "PUCT", plotting.ORANGE)):
        for kind, said, style in (("gain", "mean", "-"), ("worst", "worst board", "--")):
            rows = np.array([run[f"{kind}_{name}"] for run in runs])
            median = np.median(rows[:, :, 1], axis=0)
            right.plot(rows[0, :, 0], median, style, color=color, label=f"{label}, {said}")
    right.axhline(0.0, label="the prior", **plotting.REFERENCE)
    right.set_xscale("log", base=2)
    right.set_xticks(SIMULATIONS, SIMULATIONS)
    right.set(xlabel="simulations", ylabel="value gained over the prior", title="With exact values")
    right.set(ylim=(-1, 1))  # room for the legend below all lines
    right.legend(fontsize=10, loc="lower right")
    log.figure(figure, "parts")
