"""Lesson E7's search and self-play where the answer is known, and what its evidence measures."""

import types

import numpy as np
import pytest
import torch

import chapters.E_practice.E7_mcts_alphazero as lesson
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E7 import EDITS
from chapters.E_practice.evidence import E7 as evidence
from chapters.envs.boards import connect, opened, tic_tac_toe
from chapters.exact import games
from chapters.utils import RunLog
from chapters.utils.edits import edited

GAME, SMALL = tic_tac_toe(), connect(4, 3, 3)
SOLUTION = games.solve(GAME)


def broken(name: str) -> types.ModuleType:
    return edited(lesson, EDITS[name])


# Search


def oracle(boards):
    """Even priors and exact values."""
    q = SOLUTION.of(boards)
    legal = GAME.legal(boards)
    values = np.where(GAME.ended(boards), GAME.outcomes(boards), np.nanmax(q, axis=1, initial=-1))
    return legal / np.maximum(legal.sum(axis=1, keepdims=True), 1), values


def share_with_oracle(module: types.ModuleType) -> float:
    boards, q = games.even_sample(SOLUTION, 30, np.random.default_rng(0))
    return games.share_best(q, module.search(GAME, boards, oracle, 40, 1.5).argmax(axis=1))


def test_with_exact_values_the_search_finds_best_moves():
    assert share_with_oracle(lesson) > 0.97


@pytest.mark.parametrize(
    "name", ["no_flip", "flip_late", "from_the_root", "worst_score", "ends_of_the_other"]
)
def test_with_exact_values_a_wrong_search_does_not(name):
    assert share_with_oracle(broken(name)) < 0.9, f'"{name}"'


@pytest.mark.parametrize("rule", [lesson.ucb, lesson.puct])
def test_without_any_knowledge_the_search_finds_the_win_and_the_block(rule):

    def blind(boards):
        return np.full((len(boards), 9), 1 / 9), np.zeros(len(boards))

    wins = np.array([[0b000_000_011, 0b000_011_000]])
    blocks = np.array([[0b000_100_000, 0b000_000_011]])  # the other has two in the first column
    visits = lesson.search(GAME, np.concatenate([wins, blocks]), blind, 300, 1.0, rule)
    assert visits.argmax(axis=1).tolist() == [2, 2]
    assert visits.sum(axis=1).tolist() == [300, 300]


def test_one_simulation_is_the_likeliest_move():
    boards = opened(GAME, 50, 6, np.random.default_rng(0))
    torch.manual_seed(0)
    guide = lesson.guide_of(GAME, lesson.tanh_mlp([18, 16, 16, 10], last_gain=2.0))
    alone = lesson.agent(GAME, guide, 1, 1.5)(boards)
    np.testing.assert_array_equal(alone, guide(boards)[0].argmax(axis=1))


def test_boards_are_searched_alike_in_company_and_alone():
    boards = opened(SMALL, 6, 8, np.random.default_rng(3))
    torch.manual_seed(0)
    guide = lesson.guide_of(SMALL, lesson.tanh_mlp([24, 16, 16, 5], last_gain=2.0))
    together = lesson.search(SMALL, boards, guide, 12, 1.5)
    alone = np.concatenate([lesson.search(SMALL, board[None], guide, 12, 1.5) for board in boards])
    np.testing.assert_array_equal(together, alone)


def test_nothing_is_searched_where_the_game_has_ended():
    lost = np.array([[0b000_011_000, 0b000_000_111]])
    with pytest.raises(ValueError, match="illegal move"):
        lesson.search(GAME, lost, oracle, 3, 1.5)


# Self-play and training


def test_results_of_self_play_are_those_of_the_game():
    """With the oracle and enough simulations few boards end otherwise than they are worth."""
    cfg = lesson.Config(num_games=40, num_simulations=12, most_random=6)
    boards, _, ends = lesson.self_play(GAME, oracle, cfg, np.random.default_rng(0))
    late = GAME.num_stones(boards) >= 7
    worth = np.nanmax(SOLUTION.of(boards[late]), axis=1)
    assert np.mean(ends[late] == worth) > 0.7
    for name in ("other_side", "one_side_for_all"):
        wrong = broken(name).self_play(GAME, oracle, cfg, np.random.default_rng(0))
        late = GAME.num_stones(wrong[0]) >= 7
        worth = np.nanmax(SOLUTION.of(wrong[0][late]), axis=1)
        decided = worth != 0
        assert np.mean(wrong[2][late][decided] == worth[decided]) < 0.6, f'"{name}"'


def learned(module: types.ModuleType, log: RunLog) -> tuple[float, float]:
    """(share of best moves of the network alone, how far its values go with the exact ones)."""
    cfg = module.Config(num_iterations=3, num_games=64, num_simulations=12, num_updates=100)
    guide = module.train(GAME, cfg, log, lambda iteration, guide: None)
    boards, q = games.even_sample(SOLUTION, 40, np.random.default_rng(0))
    prior, values = guide(boards)
    return games.share_best(q, prior.argmax(axis=1)), float(np.mean(values * np.nanmax(q, axis=1)))


def test_a_few_rounds_teach_moves_and_the_sign_of_values(tmp_path):
    """A random legal move is a best one on 39 % of these boards."""
    moves, agreement = learned(lesson, RunLog(tmp_path / "right", "E7"))
    assert moves > 0.55
    assert agreement > 0.1
    assert learned(broken("values_upside_down"), RunLog(tmp_path / "wrong", "E7"))[1] < -0.1


def test_training_learns_from_the_last_rounds_with_a_falling_rate(monkeypatch, tmp_path):
    seen, rates, checked, turned, pictures = [], [], [], [], lesson.all_pictures

    def played(game, guide, cfg, rng):
        played.count += 1
        boards = game.start(5)
        return boards, np.full((5, 9), 1 / 9), np.full(5, float(played.count))

    played.count = 0

    def loss_of(outputs, legal, shares, ends):
        seen.append(set(ends.tolist()))
        return (outputs**2).mean()

    def all_pictures(game, boards, shares):
        turned.append(len(boards))
        return pictures(game, boards, shares)

    class Adam(lesson.Adam):
        def step(self):
            rates.append(self.lr)
            super().step()

    for name, stand_in in (
        ("self_play", played),
        ("loss_of", loss_of),
        ("Adam", Adam),
        ("all_pictures", all_pictures),
    ):
        monkeypatch.setattr(lesson, name, stand_in)
    cfg = lesson.Config(num_iterations=10, num_updates=1)
    lesson.train(GAME, cfg, RunLog(tmp_path, "E7"), lambda iteration, guide: checked.append(iteration))
    assert checked == list(range(11))
    assert seen[-1] == set(range(3, 11)), "the last eight rounds, and no others"
    assert seen[2] == {1, 2, 3}
    assert turned[-1] == 40, "five boards of eight rounds, before they are mirrored and turned"
    np.testing.assert_allclose(rates, 3e-3 * (1 - 0.09 * np.arange(10)))


# Evidence


def test_values_of_rollouts_are_those_of_random_play():
    board = played_board()
    values = evidence.rollouts(GAME, np.random.default_rng(0))(np.repeat(board, 20_000, axis=0))[1]
    assert values.mean() == pytest.approx(random_value(board), abs=0.02)


def played_board() -> np.ndarray:
    board = GAME.start(1)
    for cell in (0, 4, 8, 1):
        board = GAME.play(board, np.array([cell]))
    return board


def random_value(board: np.ndarray) -> float:
    """To the player to move, both at random, by all orders of moves."""
    if GAME.ended(board)[0]:
        return float(GAME.outcomes(board)[0])
    moves = np.flatnonzero(GAME.legal(board)[0])
    return -np.mean([random_value(GAME.play(board, np.array([move]))) for move in moves])


def test_rollouts_know_nothing_of_moves():
    boards = opened(GAME, 20, 6, np.random.default_rng(0))
    prior, values = evidence.rollouts(GAME, np.random.default_rng(0))(boards)
    legal = GAME.legal(boards)
    np.testing.assert_allclose(prior, legal / legal.sum(axis=1, keepdims=True))
    assert set(values.tolist()) <= {-1.0, 0.0, 1.0}
    over = np.array([[0b000_011_000, 0b000_000_111]])
    assert evidence.rollouts(GAME, np.random.default_rng(0))(over)[1].tolist() == [-1.0]


def test_the_solver_that_sets_traps_plays_best_moves_only():
    solution = games.solve(SMALL)
    choose = evidence.setting_traps(solution)
    boards, q = games.even_sample(solution, 8, np.random.default_rng(0))
    actions = choose(boards)
    assert games.share_best(q, actions) == 1
    for board, values, action in zip(boards, q, actions):
        right = {}
        for move in np.flatnonzero(values == np.nanmax(values)):
            after = SMALL.play(board[None], np.array([move]))
            replies = solution.of(after)[0]
            right[move] = 0 if SMALL.ended(after)[0] else np.mean(replies == np.nanmax(replies))
        assert right[action] == min(right.values())


def test_claims_are_differences_of_what_was_measured(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "E7")
    for step, alone, searched in ((0, 0.3, 0.6), (1, 0.5, 0.7), (2, 0.7, 0.95)):
        log.write(step, connect_alone=alone, connect_searched=searched)
    log.write(0, plain_many=0.85, best_alone=0.9, best_with_search=0.97)
    cfg = lesson.Config(num_playing=2)
    blind = evidence.rollouts(SMALL, np.random.default_rng(0))
    evidence.claim_connect(SMALL, blind, cfg, log)
    choose = lesson.agent(SMALL, blind, 2, cfg.explore)
    lines = [games.exhaust(SMALL, choose, seat) for seat in (0, 1)]
    assert 0 < log.last("connect_lost") < log.last("connect_lines")
    assert log.last("connect_lost") == pytest.approx(sum(one.lost for one in lines), rel=0.5)
    log.keep(guide=oracle)
    shares = iter((0.91,))  # without openings

    def edited_lesson(module, edit):
        guide = evidence.rollouts(GAME, np.random.default_rng(0))
        return types.SimpleNamespace(train=lambda *args: guide)

    monkeypatch.setattr(evidence, "edited", edited_lesson)
    monkeypatch.setattr(games, "share_best", lambda q, actions: next(shares))
    evidence.claim_tic_tac_toe(cfg, log)
    found = {claim.name: claim.value for claim in log.claims}
    expected = {
        "connect_search_gain": 0.2,
        "quarter_of_the_simulations": 0.1,
        "learned_gain": 0.35,
        "search_gain": 0.07,
        "openings_gain": 0.06,
    }
    assert found == pytest.approx(expected)
    assert log.last("lost_plain") > 0, "two simulations are far too few"


def test_connect_is_learnt_and_checked_with_as_many_simulations_as_it_says(tmp_path, monkeypatch):
    """Whoever plays is a number here: its simulations, more by 1,000 for plain search; so is its share."""
    solution, asked = games.solve(SMALL), []
    monkeypatch.setattr(evidence, "plain_agent", lambda game, num, rng: lambda boards: 1000 + num)
    monkeypatch.setattr(lesson, "agent", lambda game, guide, num, explore: lambda boards: num)
    monkeypatch.setattr(games, "share_best", lambda q, actions: float(actions))
    monkeypatch.setattr(evidence, "recorded", lambda agent, game, solution: agent(None))
    monkeypatch.setattr(evidence, "claim_connect", lambda game, guide, cfg, log: asked.append(guide))

    def train(game, cfg, log, check):
        asked.append(
            (cfg.num_iterations, cfg.num_games, cfg.most_random, cfg.num_simulations, cfg.num_updates)
        )
        for iteration in range(8):
            check(iteration, oracle)
        return share_with_oracle  # any function

    monkeypatch.setattr(lesson, "train", train)
    extra = evidence.Config(
        connect_rounds=7, connect_games=10, connect_random=3, connect_simulations=12, connect_updates=5
    )
    log = RunLog(tmp_path, "E7")
    evidence.learn_connect(SMALL, solution, lesson.Config(), extra, log)
    log.close()
    assert asked == [(7, 10, 3, 12, 5), share_with_oracle]
    assert (log.last("plain_few"), log.last("plain_many")) == (1012, 1048)
    for name, num in (("alone", 1), ("quarter", 3), ("searched", 12)):
        assert log.series(f"connect_{name}") == ([0, 10, 20, 40, 70], [num] * 5), name
    assert log.kept["played"] == {"untrained": 1, "trained": 1, "with search": 12}


def test_a_game_on_film():
    solution = games.solve(SMALL)

    def first(boards):
        return SMALL.legal(boards).argmax(axis=1)

    boards = evidence.recorded(first, SMALL, solution)
    assert SMALL.num_stones(np.concatenate(boards)).tolist() == list(range(len(boards)))
    assert SMALL.ended(boards[-1])[0]
    assert SMALL.lost(boards[-1])[0], "the solver wins Connect-3 on 4 x 3, who begins"
    frames = evidence.film_frames(SMALL, {"one": boards, "two": boards[:3]})
    assert len(frames) == len(boards) + 2
    assert len({frame.shape for frame in frames}) == 1
    assert (frames[-1] != frames[0]).any()


def test_texts_say_what_is_solved():
    assert games.solve(connect(4, 4, 4)).num_positions == 161_029
    pictures = set()
    for boards in SOLUTION.boards:
        grids = GAME.grid(boards)
        turned = [np.rot90(grid, k, axes=(1, 2)) for k in range(4) for grid in (grids, grids[:, :, ::-1])]
        keys = np.stack([grid.reshape(len(boards), 9) @ 3 ** np.arange(9) for grid in turned])
        pictures |= set(keys.min(axis=0).tolist())
    assert len(pictures) == 765, "the answer of an exercise"


def test_texts_say_what_was_recorded():
    runs = [run["metrics"] for run in ledger.load(find("E7"))["runs"]]
    assert len(runs) >= 5
    last = {name: [run[name] for run in runs] for name in runs[0]}
    gaps = np.subtract(last["best_with_search"], last["best_no_openings"])
    assert np.median(gaps) > 0.01, '"the agent finds fewer best moves"'
    assert min(last["lost_plain"]) > 0, '"plain search loses some"'
    assert np.median(last["lost_alone"]) == 0, '"the trained network none"'
    assert min(np.subtract(last["connect_searched"], last["connect_alone"])) > 0.1
    lost = sorted(zip(last["connect_lost"], last["connect_lines"]))
    assert [of for of, _ in lost[:4]] == [0] * 4, '"loses no line on four of five recorded seeds"'
    assert lost[4] == (6, 4878), '"6 of 4,878 on the fifth", in the answer of E7.4'
