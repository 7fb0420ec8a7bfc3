"""Boards and solved games against what is known of them, and exhaustion against plain recursion."""

import numpy as np
import pytest

from chapters.envs.boards import (
    LineGame,
    all_pictures,
    connect,
    opened,
    random_ends,
    random_moves,
    tic_tac_toe,
)
from chapters.exact import games, trees

TIC_TAC_TOE, SMALL = tic_tac_toe(), connect(4, 3, 3)
SOLVED = {game.name: games.solve(game) for game in (TIC_TAC_TOE, SMALL, connect(4, 4, 3))}


def played(game: LineGame, *actions: int) -> np.ndarray:
    boards = game.start(1)
    for action in actions:
        boards = game.play(boards, np.array([action]))
    return boards


# Boards


def test_a_game_by_hand():
    """X takes the first column, O two cells of the second."""
    boards = played(TIC_TAC_TOE, 0, 3, 1, 4)
    assert TIC_TAC_TOE.grid(boards)[0].tolist() == [[0, 0, 0], [1, 2, 0], [1, 2, 0]]
    assert not TIC_TAC_TOE.ended(boards)[0]
    boards = played(TIC_TAC_TOE, 0, 3, 1, 4, 2)
    assert TIC_TAC_TOE.lost(boards)[0]
    assert TIC_TAC_TOE.outcomes(boards)[0] == -1
    assert not TIC_TAC_TOE.legal(boards).any()
    assert TIC_TAC_TOE.grid(boards)[0].tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 0]]
    with pytest.raises(ValueError, match="illegal move"):
        TIC_TAC_TOE.play(boards, np.array([8]))


def test_stones_fall_and_a_full_column_is_closed():
    game = connect(4, 3, 3)
    boards = played(game, 1, 1, 1)
    assert game.grid(boards)[0].tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0]]
    assert game.legal(boards)[0].tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match="illegal move: action 1"):
        game.play(boards, np.array([1]))


@pytest.mark.parametrize(
    "game", [TIC_TAC_TOE, SMALL, connect(7, 6, 4), connect(5, 4, 4)], ids=lambda g: g.name
)
def test_lines_are_all_lines(game):
    cells = [(x, y) for x in range(game.width) for y in range(game.height)]
    expected = set()
    for x, y in cells:
        for right, up in ((1, 0), (0, 1), (1, 1), (1, -1)):
            line = [(x + k * right, y + k * up) for k in range(game.length)]
            if set(line) <= set(cells):
                expected.add(sum(1 << cells.index(cell) for cell in line))
    assert set(game.lines.tolist()) == expected
    w, h, k = game.width, game.height, game.length
    assert len(expected) == h * (w - k + 1) + w * max(h - k + 1, 0) + 2 * (w - k + 1) * max(h - k + 1, 0)


def test_a_draw_and_what_a_network_sees():
    boards = played(TIC_TAC_TOE, 0, 4, 8, 1, 7, 6, 2, 5, 3)
    assert TIC_TAC_TOE.ended(boards)[0]
    assert not TIC_TAC_TOE.lost(boards)[0]
    assert TIC_TAC_TOE.outcomes(boards)[0] == 0
    planes = TIC_TAC_TOE.planes(boards)[0]  # the second player is to move: its stones come first
    assert np.flatnonzero(planes[:9]).tolist() == [1, 4, 5, 6]
    assert np.flatnonzero(planes[9:]).tolist() == [0, 2, 3, 7, 8]
    assert TIC_TAC_TOE.num_stones(boards)[0] == 9


@pytest.mark.parametrize("wrong", [(0, 3, 3), (8, 8, 4), (3, 3, 4)])
def test_no_such_game(wrong):
    with pytest.raises(ValueError, match="no game of"):
        connect(*wrong)


def test_random_moves_are_legal_and_even():
    legal = np.tile([True, False, True, True], (30_000, 1))
    actions = random_moves(legal, np.random.default_rng(0))
    np.testing.assert_allclose(
        np.bincount(actions, minlength=4) / 30_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.01
    )


def test_openings_have_each_number_of_plies_as_often():
    boards = opened(connect(4, 4, 4), 20_000, 4, np.random.default_rng(0))
    stones = connect(4, 4, 4).num_stones(boards)
    np.testing.assert_allclose(np.bincount(stones) / 20_000, 1 / 5, atol=0.015)
    late = opened(TIC_TAC_TOE, 3000, 9, np.random.default_rng(0))
    assert not TIC_TAC_TOE.ended(late).any(), "a game that has ended begins anew"


def test_rollouts_end_and_go_on_from_where_they_are():
    boards = opened(SMALL, 200, 5, np.random.default_rng(1))
    before = boards.copy()
    ends = random_ends(SMALL, boards, np.random.default_rng(2))
    assert SMALL.ended(ends).all()
    assert (boards == before).all()
    swapped = (SMALL.num_stones(ends) - SMALL.num_stones(boards)) % 2 == 1
    ours = np.where(swapped[:, None], ends[:, ::-1], ends)
    assert ((ours & boards) == boards).all(), "no stone is ever taken away"


def test_a_player_who_is_random_wins_as_often_as_is_known():
    """Tic-tac-toe at random: the first wins 58.5 %, the second 28.8 % (exact: 737/1260 and 121/420)."""
    ends = random_ends(TIC_TAC_TOE, TIC_TAC_TOE.start(60_000), np.random.default_rng(0))
    lost = TIC_TAC_TOE.lost(ends)
    turn = TIC_TAC_TOE.num_stones(ends) % 2
    assert np.mean(lost & (turn == 1)) == pytest.approx(737 / 1260, abs=0.008)
    assert np.mean(lost & (turn == 0)) == pytest.approx(121 / 420, abs=0.008)


# Solved


def test_counts_that_are_published():
    assert SOLVED["tic-tac-toe"].num_positions == games.TIC_TAC_TOE == 5478
    assert games.count_positions(connect(7, 6, 4), 6) == list(games.CONNECT_FOUR[:7])
    going = sum(int((~TIC_TAC_TOE.ended(boards)).sum()) for boards in SOLVED["tic-tac-toe"].boards)
    assert going == 4520


def test_values_that_are_known():
    assert SOLVED["tic-tac-toe"].values[0][0] == 0
    assert SOLVED["Connect-3 on 4 x 4"].values[0][0] == 1


def colours(board: tuple[int, int], ply: int) -> tuple[int, int]:
    return board if ply % 2 == 0 else board[::-1]


def plain_value(game: LineGame, cells: list[list[int]], mover: int) -> int:
    """Negamax on columns of stones, with lines looked for from every cell."""
    for x, column in enumerate(cells):
        for y, who in enumerate(column):
            for right, up in ((1, 0), (0, 1), (1, 1), (1, -1)):
                line = [(x + k * right, y + k * up) for k in range(game.length)]
                if all(
                    0 <= i < game.width and 0 <= j < len(cells[i]) and cells[i][j] == who for i, j in line
                ):
                    return 1 if who == mover else -1
    best = None
    for column in cells:
        if len(column) < game.height:
            column.append(mover)
            value = -plain_value(game, cells, 1 - mover)
            column.pop()
            best = value if best is None else max(best, value)
    return 0 if best is None else best


def test_stones_that_fall_are_solved_as_by_plain_negamax():
    """Forty boards of Connect-3, some way on, each solved anew without a bit."""
    solution = SOLVED[SMALL.name]
    boards = opened(SMALL, 60, 6, np.random.default_rng(4))
    boards = boards[SMALL.num_stones(boards) >= 4][:25]
    for board, q in zip(boards, solution.of(boards)):
        grid = SMALL.grid(board[None])[0][::-1].T  # [columns, cells]
        cells = [[int(stone) - 1 for stone in column if stone] for column in grid]
        mover = int(SMALL.num_stones(board[None])[0]) % 2
        assert np.nanmax(q) == plain_value(SMALL, cells, mover)


def test_every_board_of_tic_tac_toe_by_minimax():
    lines = tuple(tuple(np.flatnonzero(line >> np.arange(9) & 1).tolist()) for line in TIC_TAC_TOE.lines)
    seen = {}
    assert games.minimax((" ",) * 9, lines, seen) == 0
    assert len(seen) == 5478
    for ply, (boards, values) in enumerate(zip(SOLVED["tic-tac-toe"].boards, SOLVED["tic-tac-toe"].values)):
        for grid, value in zip(TIC_TAC_TOE.grid(boards), values):
            board = tuple(" XO"[stone] for stone in grid[::-1].T.ravel())
            assert seen[board] * (-1) ** ply == value


@pytest.mark.parametrize("solution", SOLVED.values(), ids=SOLVED)
def test_action_values_are_the_successors_turned(solution):
    game = solution.game
    for ply, boards in enumerate(solution.boards[:-1]):
        rows, actions = np.nonzero(game.legal(boards))
        after = game.play(boards[rows], actions)
        best = np.nanmax(np.nan_to_num(solution.of(after), nan=-2), axis=1)
        value = np.where(game.ended(after), game.outcomes(after), best)
        np.testing.assert_array_equal(solution.action_values[ply][rows, actions], -value)
        assert np.isnan(solution.action_values[ply][~game.legal(boards)]).all()


@pytest.mark.parametrize(("solution", "num"), [(SOLVED["tic-tac-toe"], 8), (SOLVED[SMALL.name], 2)])
def test_pictures_of_a_board_are_worth_the_same(solution, num):
    boards, q = games.even_sample(solution, 20, np.random.default_rng(0))
    pictures, moved = all_pictures(solution.game, boards, q)
    assert len(pictures) == num * len(boards)
    assert len(np.unique(solution.game.symmetries(), axis=0)) == num
    np.testing.assert_array_equal(solution.of(pictures), moved)


def test_decisive_boards_and_even_samples():
    solution = SOLVED["tic-tac-toe"]
    counts = [len(solution.decisive(ply)) for ply in range(10)]
    assert sum(counts) == 3191
    boards, q = games.even_sample(solution, 20, np.random.default_rng(0))
    stones = TIC_TAC_TOE.num_stones(boards)
    assert np.bincount(stones, minlength=10).tolist() == [min(20, count) for count in counts]
    assert (np.nanmax(q, axis=1) > np.nanmin(q, axis=1)).all()
    np.testing.assert_array_equal(q, solution.of(boards))


def test_what_play_never_reaches_has_no_value():
    with pytest.raises(ValueError, match="never reaches"):
        SOLVED["tic-tac-toe"].of(np.array([[0b11, 0]]))


def test_share_of_best_moves():
    q = np.array([[1.0, 0.0, np.nan], [0.0, 0.0, -1.0], [np.nan, -1.0, 0.0]])
    assert games.share_best(q, np.array([0, 1, 2])) == 1
    assert games.share_best(q, np.array([1, 0, 0])) == pytest.approx(1 / 3)


# Every opponent


def lines_by_recursion(game, choose, seat, boards, ply=0) -> list[tuple]:
    """(what happened to the agent, last board) of every line, one after the other."""
    if game.ended(boards)[0]:
        if not game.lost(boards)[0]:
            return [("drawn", tuple(boards[0].tolist()))]
        return [("lost" if ply % 2 == seat else "won", tuple(boards[0].tolist()))]
    if ply % 2 == seat:
        return lines_by_recursion(game, choose, seat, game.play(boards, choose(boards)), ply + 1)
    found = []
    for action in np.flatnonzero(game.legal(boards)[0]):
        found += lines_by_recursion(game, choose, seat, game.play(boards, np.array([action])), ply + 1)
    return found


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("game", [TIC_TAC_TOE, SMALL], ids=lambda g: g.name)
def test_exhaustion_counts_every_line_once(game, seat):
    def choose(boards):
        return game.legal(boards).argmax(axis=1)

    found = games.exhaust(game, choose, seat)
    lines = lines_by_recursion(game, choose, seat, game.start(1))
    kinds = [kind for kind, _ in lines]
    assert found[:3] == tuple(kinds.count(kind) for kind in ("won", "drawn", "lost"))
    assert found.lost_positions == len({end for kind, end in lines if kind == "lost"})
    assert 0 < found.lost_positions < found.lost


@pytest.mark.parametrize("seat", [0, 1])
def test_who_plays_best_moves_loses_nothing_and_one_mistake_is_found(seat):
    solution = SOLVED["tic-tac-toe"]

    def best(boards):
        return np.nan_to_num(solution.of(boards), nan=-2).argmax(axis=1)

    right = games.exhaust(TIC_TAC_TOE, best, seat)
    assert right.lost == right.lost_positions == 0
    assert right.won > 0

    def nearly(boards):
        """The best move but for one board, where it is a losing one."""
        actions = best(boards)
        spoilt = TIC_TAC_TOE.num_stones(boards) == 2 + seat
        q = np.nan_to_num(solution.of(boards), nan=2)
        actions[spoilt] = q[spoilt].argmin(axis=1)
        return actions

    assert games.exhaust(TIC_TAC_TOE, nearly, seat).lost > 0


def test_ways_add_up():
    """All games of tic-tac-toe: 255,168 of them."""
    boards, ways, total = TIC_TAC_TOE.start(1), np.ones(1, dtype=np.int64), 0
    for _ in range(10):
        over = TIC_TAC_TOE.ended(boards)
        total += int(ways[over].sum())
        if over.all():
            break
        boards, _, ways = games.successors(TIC_TAC_TOE, boards[~over], ways[~over])
    assert total == 255_168


# One tree at a time


def test_a_tree_of_three_simulations_by_hand():
    """An even guide that says 0.5 of every board to its player to move: each move earns -0.5."""

    def guide(boards):
        prior = np.zeros((len(boards), 9))
        prior[:, 4], prior[:, 0] = 0.6, 0.4
        return prior, np.full(len(boards), 0.5)

    board = TIC_TAC_TOE.start(1)
    # 4 first. Then 4 has -.5 + .6 sqrt(2) / 2 = -.08 and 0 has .4 sqrt(2) = .57.
    # Then 4 has -.5 + .6 sqrt(3) / 2 = .02, 0 has -.5 + .4 sqrt(3) / 2 = -.15, the others 0: 4 again.
    visits = trees.count_visits(TIC_TAC_TOE, board, guide, 3, "puct", 1.0)
    assert visits.tolist() == [1, 0, 0, 0, 2, 0, 0, 0, 0]
    assert trees.count_visits(TIC_TAC_TOE, board, guide, 9, "ucb", 1.0).tolist() == [1] * 9


def test_a_tree_finds_the_win_and_the_block():
    def guide(boards):
        return np.full((len(boards), 9), 1 / 9), np.zeros(len(boards))

    for game_so_far, move in (((0, 3, 1, 4), 2), ((0, 3, 1), 2)):
        for rule in ("ucb", "puct"):
            visits = trees.count_visits(TIC_TAC_TOE, played(TIC_TAC_TOE, *game_so_far), guide, 300, rule, 1.0)
            assert visits.argmax() == move
