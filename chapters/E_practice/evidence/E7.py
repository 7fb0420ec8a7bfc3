"""E7's evidence: two solvers, plain tree search, Connect-4 on 4 x 4 against its solution, and a film."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from chapters.E_practice import E7_mcts_alphazero as lesson
from chapters.E_practice.checks.E7 import EDITS
from chapters.envs.boards import LineGame, connect, random_ends, tic_tac_toe
from chapters.exact import games
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

PLAIN_EXPLORE = 0.7  # c of plain tree search: of 0.7 and 1.4 the better one on the boards measured here


@dataclass(frozen=True)
class Config:
    """What only the evidence needs: Connect-4 on 4 x 4 cells."""

    connect_rounds: Annotated[int, in_range(1, 10_000)] = 8
    """Rounds of self-play at Connect-4."""
    connect_games: Annotated[int, in_range(1, 10_000)] = 256
    """Games of a round."""
    connect_random: Annotated[int, in_range(0, 16)] = 8
    """The most random moves that open a game."""
    connect_simulations: Annotated[int, in_range(2, 10_000)] = 32
    """Simulations before each move, in self-play and where moves are counted."""
    connect_updates: Annotated[int, in_range(1, 10_000)] = 250
    """Gradient steps of a round."""
    boards_each: Annotated[int, in_range(1, 10_000)] = 60
    """Decisive boards of each ply on which moves are counted."""


SMOKE = {
    "connect_rounds": 1,
    "connect_games": 4,
    "connect_simulations": 3,
    "connect_updates": 2,
    "boards_each": 2,
}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_solver(log)
    claim_tic_tac_toe(cfg, log)
    game = connect(4, 4, 4)
    solution = games.solve(game)
    learn_connect(game, solution, cfg, extra, log)
    draw_others([log.metrics], log)
    if not log.smoke:
        log.film(film_frames(game, log.kept["played"]), fps=1)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_others(metrics, log)


# The exact answers


def claim_solver(log: RunLog) -> None:
    game = tic_tac_toe()
    solution = games.solve(game)
    lines = tuple(tuple(np.flatnonzero(line >> np.arange(9) & 1).tolist()) for line in game.lines)
    seen: dict = {}
    games.minimax((" ",) * 9, lines, seen)
    gaps = []
    for ply, (boards, values) in enumerate(zip(solution.boards, solution.values)):
        for grid, value in zip(game.grid(boards), values):
            board = tuple(" XO"[stone] for stone in grid[::-1].T.ravel())
            gaps.append(abs(seen.pop(board) * (-1) ** ply - value))
    log.claim(
        "two_solvers",
        "the solver, ply by ply on bits, agrees with plain minimax on every board of tic-tac-toe",
        max(gaps) + len(seen),  # what is left over was missed
        at_most=0.0,
        unit="largest difference of a value, and boards missed",
        source="minimax on tuples, in plain Python",
        always=True,
    )
    log.claim(
        "num_positions",
        "play can reach so many boards of tic-tac-toe",
        solution.num_positions,
        near=(games.TIC_TAC_TOE, 0),
        unit="boards",
        source="the known count, ended games included",
        always=True,
    )
    found = games.count_positions(connect(7, 6, 4), 6)
    log.claim(
        "published_counts",
        "Connect-4 on 7 x 6 has as many boards after 0 to 6 plies as are published",
        np.abs(np.subtract(found, games.CONNECT_FOUR[:7])).max(),
        at_most=0.0,
        unit="boards, largest difference",
        source="OEIS A212693",
        always=True,
    )


# Tic-tac-toe


def claim_tic_tac_toe(cfg: lesson.Config, log: RunLog) -> None:
    """What the search adds to its network, and plain tree search against every opponent."""
    log.claim(
        "search_gain",
        "at tic-tac-toe the search finds a best move more often than the network in it does alone",
        log.last("best_with_search") - log.last("best_alone"),
        at_least=0.0,
        unit="of decisive boards, difference",
        source="exact values of all moves",
    )
    game = tic_tac_toe()
    plain = plain_agent(game, cfg.num_playing, np.random.default_rng((cfg.seed, 1)))
    lost = [games.exhaust(game, plain, seat) for seat in (0, 1)]
    log.write(0, lost_plain=lost[0].lost + lost[1].lost)
    ours = [
        games.exhaust(game, lesson.agent(game, log.kept["guide"], cfg.num_playing, cfg.explore), seat)
        for seat in (0, 1)
    ]
    log.write(0, lines_first=sum(ours[0][:3]), lines_second=sum(ours[1][:3]))
    boards, q = games.even_sample(games.solve(game), 60, np.random.default_rng(0))
    guide = edited(lesson, EDITS["no_openings"]).train(game, cfg, log, lambda iteration, guide: None)
    choose = lesson.agent(game, guide, cfg.num_simulations, cfg.explore)
    log.write(0, best_no_openings=games.share_best(q, choose(boards)))
    log.claim(
        "openings_gain",
        "trained with random openings, the search finds a best move more often than trained without",
        log.last("best_with_search") - log.last("best_no_openings"),
        at_least=0.0,
        unit="of decisive boards, difference",
        source="the same training, each game from the empty board",
    )


def rollouts(game: LineGame, rng: np.random.Generator) -> lesson.Guide:
    """A guide that knows nothing: all legal moves alike, and as the value how one random game ended."""

    def guide(boards: lesson.Boards) -> tuple[lesson.PerMove, np.ndarray]:
        legal = game.legal(boards)
        prior = legal / np.maximum(legal.sum(axis=1, keepdims=True), 1)
        return prior, lesson.results(game, boards, random_ends(game, boards, rng))

    return guide


def plain_agent(game: LineGame, num_simulations: int, rng: np.random.Generator) -> Callable:
    """Monte Carlo tree search by (2) with rollouts: no network, no prior."""
    guide = rollouts(game, rng)
    return lambda boards: lesson.search(
        game, boards, guide, num_simulations, PLAIN_EXPLORE, lesson.ucb
    ).argmax(axis=1)


# Connect-4 on 4 x 4


def learn_connect(
    game: LineGame, solution: games.Solution, cfg: lesson.Config, extra: Config, log: RunLog
) -> None:
    boards, q = games.even_sample(solution, extra.boards_each, np.random.default_rng(0))
    few, many = extra.connect_simulations, 4 * extra.connect_simulations
    for name, num in (("few", few), ("many", many)):
        plain = plain_agent(game, num, np.random.default_rng((cfg.seed, 2)))
        log.write(0, **{f"plain_{name}": games.share_best(q, plain(boards))})
    settings = replace(
        cfg,
        num_iterations=extra.connect_rounds,
        num_games=extra.connect_games,
        most_random=extra.connect_random,
        num_simulations=few,
        num_updates=extra.connect_updates,
    )

    def check(iteration: int, guide: lesson.Guide) -> None:
        if iteration & (iteration - 1) and iteration != extra.connect_rounds:
            return
        for name, num in (("alone", 1), ("quarter", few // 4), ("searched", few)):
            choose = lesson.agent(game, guide, max(num, 1), cfg.explore)
            best = games.share_best(q, choose(boards))
            log.write(iteration * extra.connect_games, **{f"connect_{name}": best})
        if iteration == 0:
            alone = lesson.agent(game, guide, 1, cfg.explore)
            log.keep(played={"untrained": recorded(alone, game, solution)})

    guide = lesson.train(game, settings, log, check)
    claim_connect(game, guide, cfg, log)
    for name, num in (("trained", 1), ("with search", few)):
        log.kept["played"][name] = recorded(lesson.agent(game, guide, num, cfg.explore), game, solution)


def claim_connect(game: LineGame, guide: lesson.Guide, cfg: lesson.Config, log: RunLog) -> None:
    alone, searched = (np.array(log.series(f"connect_{name}")[1]) for name in ("alone", "searched"))
    log.claim(
        "connect_search_gain",
        "at Connect-4 the search finds a best move more often than its network alone, at every check",
        (searched - alone).min(),
        at_least=0.0,
        unit="of decisive boards, smallest difference",
        source="exact values of all moves",
    )
    log.claim(
        "quarter_of_the_simulations",
        "and more often than plain tree search with four times as many simulations, at the end",
        searched[-1] - log.last("plain_many"),
        at_least=0.0,
        unit="of decisive boards, difference",
        source="plain tree search on the same boards",
    )
    log.claim(
        "learned_gain",
        "training makes the search better than it was with an untrained network",
        searched[-1] - searched[0],
        at_least=0.0,
        unit="of decisive boards, difference",
        source="the same search, before training",
    )
    in_earnest = lesson.agent(game, guide, cfg.num_playing, cfg.explore)
    lines = [games.exhaust(game, in_earnest, seat) for seat in (0, 1)]
    log.write(0, connect_lost=lines[0].lost + lines[1].lost)
    log.write(0, connect_lines=sum(map(sum, (one[:3] for one in lines))))


# A film, and the figure


def setting_traps(solution: games.Solution) -> Callable:
    """The solver: of its best moves it takes the one behind which the fewest replies are right."""

    def choose(boards: np.ndarray) -> np.ndarray:
        actions = []
        for board, q in zip(boards, solution.of(boards)):
            best = np.flatnonzero(q == np.nanmax(q))
            after = solution.of(solution.game.play(board[None].repeat(len(best), axis=0), best))
            right = [np.mean(row == np.nanmax(row, initial=-2)) for row in after]
            actions.append(best[int(np.argmin(right))])
        return np.array(actions)

    return choose


def recorded(agent: Callable, game: LineGame, solution: games.Solution) -> list[np.ndarray]:
    """The boards [1, 2] of a game that the solver begins, the last one included."""
    players = (setting_traps(solution), agent)
    boards = [game.start(1)]
    while not game.ended(boards[-1])[0]:
        choose = players[(len(boards) - 1) % 2]
        boards.append(game.play(boards[-1], choose(boards[-1])))
    return boards


def film_frames(game: LineGame, recordings: dict[str, list]) -> list[np.ndarray]:
    """Games side by side, a frame for each move; one that has ended stays on its last board."""
    length = max(map(len, recordings.values()))
    films = []
    for name, boards in recordings.items():
        frames = [draw_board(game, board, name) for board in boards]
        films.append(frames + [frames[-1]] * (length + 2 - len(frames)))
    return [np.concatenate(pair, axis=1) for pair in zip(*films)]


def draw_board(game: LineGame, board: np.ndarray, name: str) -> np.ndarray:
    """One board as a picture: the solver's stones orange, the agent's blue."""
    from PIL import Image, ImageDraw

    cell, top = 72, 60
    picture = Image.new("RGB", (game.width * cell + 30, game.height * cell + top + 12), "white")
    pen = ImageDraw.Draw(picture)
    said = ""
    if game.ended(board)[0]:
        agents_turn = game.num_stones(board)[0] % 2 == 1
        said = ": a draw" if not game.lost(board)[0] else ": loses" if agents_turn else ": wins"
    pen.text((8, 12), f"{name}{said}", fill="black", font_size=26)
    inks = ("#E8E8E8", plotting.ORANGE, plotting.BLUE)
    for (row, column), stone in np.ndenumerate(game.grid(board)[0]):
        x, y = 6 + column * cell, top + 6 + row * cell
        pen.ellipse([x + 5, y + 5, x + cell - 5, y + cell - 5], fill=inks[stone])
    return np.asarray(picture)


def draw_others(runs: list[dict], log: RunLog) -> None:
    figure, (left, right) = plotting.new_figure(1, 2, width=5.6)
    for name, label, color in (
        ("alone", "network alone", plotting.ORANGE),
        ("quarter", "with 8 simulations", plotting.SKY),
        ("searched", "with 32 simulations", plotting.BLUE),
    ):
        rows = np.array([run[f"connect_{name}"] for run in runs])  # [runs, checks, (games, share)]
        plotting.seed_band(left, rows[0, :, 0], rows[:, :, 1], label, color)
    for name, label, style in (("many", "plain search, 128", "--"), ("few", "plain search, 32", ":")):
        plain = np.median([run[f"plain_{name}"][0][1] for run in runs])
        left.axhline(plain, label=label, **{**plotting.REFERENCE, "linestyle": style})
    left.set(xlabel="games of self-play", ylabel="share of decisive boards", xlim=(0, None), ylim=(0, 1))
    left.set_title("Connect-4 on 4 x 4: a best move found")
    left.legend(fontsize=10, loc="lower right")
    for name, label, color in (
        ("alone", "network alone", plotting.ORANGE),
        ("with_search", "with 24 simulations", plotting.BLUE),
    ):
        rows = np.array([run[f"lost_{name}"] for run in runs])
        plotting.seed_band(right, rows[0, :, 0], rows[:, :, 1], label, color)
    plain = np.median([run["lost_plain"][0][1] for run in runs])
    right.axhline(plain, label="plain search, 100", **plotting.REFERENCE)
    right.set_yscale("symlog", linthresh=1)
    right.set(xlabel="games of self-play", ylabel="lines lost, both seats", xlim=(0, None), ylim=(0, None))
    right.set_title("Tic-tac-toe: against every opponent")
    right.legend(fontsize=10)
    log.figure(figure, "others")
