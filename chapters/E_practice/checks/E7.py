"""E7's functions against definitions written out board by board and game by game, and its named edits."""

import math

import numpy as np
import torch

from chapters.E_practice.E7_mcts_alphazero import Config, puct, ucb
from chapters.envs.boards import connect, opened, random_moves, tic_tac_toe
from chapters.exact import trees
from chapters.utils.edits import Edit
from chapters.utils.networks import tanh_mlp

CONSTANT = ("results",)  # of the weights


def some_statistics(seed: int, num_boards: int = 5, num_actions: int = 4):
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(num_actions), size=num_boards)
    visits = rng.integers(0, 6, size=prior.shape).astype(float)
    visits[0], visits[1] = 0.0, np.arange(num_actions)
    totals = visits * rng.uniform(-1, 1, size=prior.shape)
    return prior, visits, totals


def check_ucb(ucb):
    for seed, c in ((0, 1.0), (1, 0.3), (2, 2.0)):
        prior, visits, totals = some_statistics(seed)
        found = ucb(prior, visits, totals, c)
        for row, move in np.ndindex(visits.shape):
            n = visits[row, move]
            if n == 0:
                assert found[row, move] == math.inf, (
                    "a move that was not tried comes first: its score is infinite"
                )
                continue
            expected = totals[row, move] / n + c * math.sqrt(math.log(visits[row].sum()) / n)
            assert math.isclose(found[row, move], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"visits {visits[row]}, move {move}: expected {expected:.4f}, found {found[row, move]:.4f}"
            )


def check_puct(puct):
    for seed, c in ((0, 1.0), (1, 0.3), (2, 2.0)):
        prior, visits, totals = some_statistics(seed)
        found = puct(prior, visits, totals, c)
        for row, move in np.ndindex(visits.shape):
            n = visits[row, move]
            mean = totals[row, move] / n if n else 0.0
            expected = mean + c * prior[row, move] * math.sqrt(1 + visits[row].sum()) / (1 + n)
            assert math.isclose(found[row, move], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"visits {visits[row]}, move {move}: expected {expected:.4f}, found {found[row, move]:.4f}"
            )


def check_back_up(back_up):
    """Paths of three moves and of two; values are to who moves at the leaf, and must not be changed."""
    rng = np.random.default_rng(0)
    for values in (np.array([0.5, -0.25]), np.array([-1.0, 1.0])):
        visits = rng.integers(0, 4, size=(2, 5, 9)).astype(float)
        totals = visits * rng.uniform(-1, 1, size=visits.shape)
        found = visits.copy(), totals.copy()
        path = [
            (np.array([0, 1]), np.array([0, 0]), np.array([4, 8])),
            (np.array([0, 1]), np.array([1, 2]), np.array([0, 3])),
            (np.array([0]), np.array([3]), np.array([7])),
        ]
        before = values.copy()
        back_up(*found, path, values)
        assert (values == before).all(), "the leaves' values were changed"
        signs = {(0, 0, 4): -1, (0, 1, 0): 1, (0, 3, 7): -1, (1, 0, 8): 1, (1, 2, 3): -1}
        for (row, node, move), sign in signs.items():
            visits[row, node, move] += 1
            totals[row, node, move] += sign * values[row]
        np.testing.assert_allclose(found[0], visits, err_msg="visits")
        np.testing.assert_allclose(found[1], totals, err_msg="what the moves earned")


def hashed_guide(game):
    """A guide whose answers hang on the board alone; it gives illegal moves a part of the prior, too."""
    table = np.random.default_rng(3).normal(size=(2 * game.num_cells, game.num_actions + 1))

    def guide(boards):
        outputs = 3 * np.sin(7 * game.planes(boards) @ table + np.arange(game.num_actions + 1))
        chances = np.exp(outputs[:, :-1])
        return chances / chances.sum(axis=1, keepdims=True), np.tanh(outputs[:, -1])

    return guide


def check_search(search):
    """Visits against one tree at a time, with both rules, from early boards and from late ones."""
    for game, most in ((tic_tac_toe(), 6), (connect(4, 3, 3), 8)):
        boards, guide = opened(game, 5, most, np.random.default_rng(1)), hashed_guide(game)
        for name, rule, c in (("puct", puct, 1.5), ("ucb", ucb, 0.7)):
            found = search(game, boards, guide, 30, c, rule)
            assert (found.sum(axis=1) == 30).all(), "each simulation tries one move of the root"
            for board, visits in zip(boards, found):
                expected = trees.count_visits(game, board[None], guide, 30, name, c)
                assert (visits == expected).all(), f"{name}: visits {visits}, expected {expected}"
    game = tic_tac_toe()
    flat = np.full((200, 9), 1 / 9)

    def even(boards):
        return flat[: len(boards)], np.zeros(len(boards))

    tried = search(game, game.start(200), even, 9, 10.0)
    assert (tried == 1).all(), "with nothing to tell moves apart each of nine is tried once"
    rng = np.random.default_rng(0)
    noisy = search(game, game.start(200), even, 9, 10.0, puct, 0.9, rng)
    assert (noisy.sum(axis=1) == 9).all()
    assert (noisy != 1).any(axis=1).mean() > 0.9, "noise at the root changes what is tried"


def check_results(results):
    """Games at random, in which each player's own result is kept from move to move."""
    rng = np.random.default_rng(2)
    for game in (tic_tac_toe(), connect(4, 4, 3)):
        for _ in range(12):
            boards = [game.start(1)]
            while not game.ended(boards[-1])[0]:
                boards.append(game.play(boards[-1], random_moves(game.legal(boards[-1]), rng)))
            won = bool(game.lost(boards[-1])[0])
            winner = (len(boards) - 2) % 2 if won else None  # who made the last move
            movers = [at % 2 for at in range(len(boards))]
            expected = [0.0 if winner is None else 1.0 if who == winner else -1.0 for who in movers]
            stacked = np.concatenate(boards)
            found = results(game, stacked, np.repeat(boards[-1], len(boards), axis=0))
            np.testing.assert_allclose(found, expected, err_msg=f"winner {winner}, to move {movers}")


def check_noisy(noisy):
    """Shares of the noise: sums, means and spread of an even Dirichlet; none for an illegal move."""
    rng = np.random.default_rng(4)
    legal = np.tile([True, False, True, True, False], (20_000, 1))
    prior = np.tile([0.7, 0.0, 0.2, 0.1, 0.0], (20_000, 1))
    before = prior.copy()
    for share in (0.25, 1.0):
        found = noisy(prior, legal, share, rng)
        assert (prior == before).all(), "the prior was changed"
        np.testing.assert_allclose(found.sum(axis=1), 1.0, err_msg="chances of a board sum to 1")
        assert (found[:, [1, 4]] == 0).all(), "no noise for an illegal move"
        xi = (found - (1 - share) * prior) / share
        assert xi.min() > -1e-9, "the prior keeps its share, all of it"
        np.testing.assert_allclose(xi.mean(axis=0)[[0, 2, 3]], 1 / 3, atol=0.01, err_msg="mean of the noise")
        np.testing.assert_allclose(
            xi.var(axis=0)[[0, 2, 3]], 1 / 18, atol=0.004, err_msg="variance of the noise, 2 / (9 * 4)"
        )


def some_network(game, seed: int = 0):
    torch.manual_seed(seed)
    return tanh_mlp([2 * game.num_cells, 8, 8, game.num_actions + 1], last_gain=2.0)


def check_guide_of(guide_of):
    """Against torch; no chance for an illegal move; it follows the weights."""
    for game in (tic_tac_toe(), connect(4, 3, 3)):
        network = some_network(game)
        guide, boards = guide_of(game, network), opened(game, 30, 6, np.random.default_rng(5))
        for _ in range(2):
            prior, values = guide(boards)
            outputs = network(torch.from_numpy(game.planes(boards))).detach().numpy()
            for row, board in enumerate(boards):
                legal = game.legal(board[None])[0]
                weights = np.exp(outputs[row, :-1].astype(float)) * legal
                np.testing.assert_allclose(
                    prior[row],
                    weights / weights.sum(),
                    rtol=1e-4,
                    atol=1e-6,
                    err_msg="the softmax of legal moves",
                )
            np.testing.assert_allclose(
                values, np.tanh(outputs[:, -1]), rtol=1e-4, atol=1e-6, err_msg="values"
            )
            with torch.no_grad():
                for weight in network.parameters():
                    weight += 0.1


def some_batch(seed: int):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(6, 5, generator=generator)
    legal = torch.rand(6, 4, generator=generator) < 0.6
    legal[:, 0] = True
    shares = torch.rand(6, 4, generator=generator) * legal
    shares = shares / shares.sum(dim=1, keepdim=True)
    return outputs, legal, shares, torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0, 0.0])


def check_loss_of(loss_of):
    for seed in (0, 1):
        outputs, legal, shares, ends = some_batch(seed)
        total = 0.0
        for row in range(len(outputs)):
            logits = [float(x) for x in outputs[row, :-1]]
            moves = [move for move in range(4) if legal[row, move]]
            norm = math.log(sum(math.exp(logits[move]) for move in moves))
            total -= sum(float(shares[row, move]) * (logits[move] - norm) for move in moves)
            total += (math.tanh(float(outputs[row, -1])) - float(ends[row])) ** 2
        found = float(loss_of(outputs, legal, shares, ends))
        assert math.isclose(found, total / len(outputs), rel_tol=1e-5), (
            f"expected {total / len(outputs):.5f}, found {found:.5f}"
        )


def few(**settings) -> Config:
    return Config(**{"num_games": 60, "num_simulations": 6, "most_random": 3, **settings})


def check_self_play(self_play):
    """Every board of every game is there, with its own result, and moves are drawn by the visits."""
    game = tic_tac_toe()
    sharp = np.array([0.6, 0.4, 0, 0, 0, 0, 0, 0, 0]) * 0.999 + 0.001 / 9

    def guide(boards):
        return np.tile(sharp, (len(boards), 1)), np.zeros(len(boards))

    many = self_play(game, guide, few(most_random=0, num_games=400), np.random.default_rng(1))
    compare_draws(*many[:2])
    for most in (0, 3):
        cfg = few(most_random=most)
        boards, shares, ends = self_play(game, guide, cfg, np.random.default_rng(0))
        assert len(boards) == len(shares) == len(ends), "a target of each kind for each board"
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, err_msg="shares of the visits sum to 1")
        assert (shares[~game.legal(boards)] == 0).all(), "no visits for an illegal move"
        assert not game.ended(boards).any(), "nothing is searched where the game has ended"
        stones = game.num_stones(boards)
        starts = int((stones == 0).sum())
        if most == 0:
            assert starts == cfg.num_games, "without random moves each game begins with an empty board"
            opening = boards[stones == 1]
            kinds = {int(board[1]) for board in opening}
            assert len(kinds) > 1, "moves are drawn, not the likeliest each time"
        else:
            assert 5 <= starts <= 25, f"{starts} of 60 games begin empty, expected about a quarter"
        in_time = [boards[stones == n] for n in range(9)]
        for n, later in enumerate(in_time[1:]):
            reached = {tuple(board) for board in in_time[n]}
            for board in later if most == 0 else ():
                back = [(int(board[1]) & ~(1 << cell), int(board[0])) for cell in range(9)]
                assert reached & set(back), "a board that no move leads to"
        compare_ends(game, boards, ends)
        assert (shares[stones == 0].round(6) != shares[stones == 0][:1].round(6)).any(), "noise at each root"


def compare_draws(boards: np.ndarray, shares: np.ndarray) -> None:
    """How often 400 games began with the move that was visited most, against what the squares say."""
    shares, taken = shares[:400], np.log2(boards[400:800, 1]).astype(int)  # both in the order of the games
    squares = shares**2 / (shares**2).sum(axis=1, keepdims=True)
    likely = squares.max(axis=1)
    surprise = (taken == shares.argmax(axis=1)).sum() - likely.sum()
    assert abs(surprise) < 3.5 * np.sqrt((likely * (1 - likely)).sum()), (
        f"the most visited move was drawn {surprise:+.0f} times more than squares of visits say"
    )


def compare_ends(game, boards, ends):
    """With one cell left the last move wins, or the game is drawn."""
    assert set(np.unique(ends)) <= {-1.0, 0.0, 1.0}
    last = game.num_stones(boards) >= 8
    assert (ends[last] != -1).all(), "with one cell left the player to move can win or draw, not lose"
    legal = game.legal(boards[last])
    wins = game.lost(game.play(boards[last], legal.argmax(axis=1)))  # the other one is then to move
    for win, end in zip(wins, ends[last]):
        assert end == float(win), f"the last move brings {float(win):g}, the result says {end:g}"


EDITS = {
    "bonus_of_all": Edit(
        function="ucb",
        old="1.0)) / tried)",
        new="1.0)))",
        says="the bonus does not shrink with the move's own visits: it is the same for all",
        fails=("visits_gap",),
    ),
    "no_log": Edit(
        function="ucb",
        old="np.log(np.maximum(visits.sum(axis=1, keepdims=True), 1.0))",
        new="np.maximum(visits.sum(axis=1, keepdims=True), 1.0)",
        says="forgets the logarithm: every move is tried for ever",
        fails=("visits_gap",),
    ),
    "untried_is_a_draw": Edit(
        function="ucb",
        old="c * bonus, np.inf)",
        new="c * bonus, 0.0)",
        says="takes a move that was not tried for a draw, in place of trying it first",
        fails=("visits_gap",),
    ),
    "own_visits": Edit(
        function="puct",
        old="1.0 + visits.sum(axis=1, keepdims=True)",
        new="1.0 + visits",
        says="takes the root of the move's own visits, not of its board's",
        fails=("visits_gap",),
    ),
    "no_prior": Edit(
        function="puct",
        old="c * prior * np.sqrt",
        new="c * np.sqrt",
        says="leaves the prior out: the network's policy is never asked",
        fails=("visits_gap",),
    ),
    "sum_alone": Edit(
        function="puct",
        old="1.0 + visits.sum",
        new="visits.sum",
        says="counts the moves tried, not the board's visits: first choices are blind to the prior",
        fails=("visits_gap",),
    ),
    "sums_for_means": Edit(
        function="puct",
        old="totals / np.maximum(visits, 1.0)",
        new="totals",
        says="takes the sum of what a move earned for the mean",
        fails=("visits_gap",),
    ),
    "no_root": Edit(
        function="puct",
        old="np.sqrt(times_here)",
        new="times_here",
        says="forgets the root: the prior outweighs what was found",
        fails=("visits_gap",),
    ),
    "no_flip": Edit(
        function="back_up",
        old="        values[rows] = -values[rows]  # eq. (3): one step up the other player chose\n",
        new="",
        says="carries the value up without changing its sign: both players want the same",
        fails=("visits_gap", "lost_first", "lost_second"),
    ),
    "flip_late": Edit(
        function="back_up",
        old="""        values[rows] = -values[rows]  # eq. (3): one step up the other player chose
        visits[rows, nodes, actions] += 1.0
        totals[rows, nodes, actions] += values[rows]
""",
        new="""        visits[rows, nodes, actions] += 1.0
        totals[rows, nodes, actions] += values[rows]
        values[rows] = -values[rows]
""",
        says="credits each move with what it brought the other: it plays to lose",
        fails=("visits_gap", "lost_first", "lost_second"),
    ),
    "from_the_root": Edit(
        function="back_up",
        old="reversed(path)",
        new="path",
        says="flips the sign from the root down: right only for paths of odd length",
        fails=("visits_gap",),
    ),
    "last_value": Edit(
        function="back_up",
        old="totals[rows, nodes, actions] += values",
        new="totals[rows, nodes, actions] = values",
        says="keeps the last value in place of the sum",
        fails=("visits_gap",),
    ),
    "leaf_only": Edit(
        function="back_up",
        old="reversed(path)",
        new="path[-1:]",
        says="credits the last move only, and only in the longest paths",
        fails=("visits_gap",),
    ),
    "not_masked": Edit(
        function="search",
        old="np.where(tree.legal[rows, nodes], scores, -np.inf).argmax(axis=1)",
        new="scores.argmax(axis=1)",
        says="does not leave out illegal moves: at the first that it tries the run stops",
        fails=("visits_gap", "lost_first", "lost_second"),
    ),
    "guessed_ends": Edit(
        function="search",
        old="np.where(game.ended(boards), game.outcomes(boards), guessed)",
        new="guessed",
        says="lets the network guess how an ended game ended",
        fails=("visits_gap",),
    ),
    "ends_of_the_other": Edit(
        function="search",
        old="np.where(game.ended(boards), game.outcomes(boards), guessed)",
        new="np.where(game.ended(boards), -game.outcomes(boards), guessed)",
        says="gives a won game to the player to move, who has lost it",
        fails=("visits_gap", "lost_first", "lost_second"),
    ),
    "worst_score": Edit(
        function="search",
        old="scores, -np.inf).argmax(axis=1)",
        new="scores, np.inf).argmin(axis=1)",
        says="walks by the lowest score: by (2) untried moves are as high as illegal ones, and it stops",
        fails=("visits_gap", "lost_first", "lost_second"),
    ),
    "old_board": Edit(
        function="search",
        old="game.play(tree.boards[new, nodes], actions)",
        new="game.play(tree.boards[new, 0 * nodes], actions)",
        says="makes every move from the root's board",
        fails=("visits_gap",),
    ),
    "no_noise": Edit(
        function="search",
        old="    if noise:\n",
        new="    if False:\n",
        says="leaves the noise out: self-play never doubts the network",
    ),
    "other_side": Edit(
        function="results",
        old="(-1.0) ** num_moves * game.outcomes(ends)",
        new="-((-1.0) ** num_moves) * game.outcomes(ends)",
        says="gives every board the result of the other player",
        fails=("lost_first", "lost_second"),
    ),
    "one_side_for_all": Edit(
        function="results",
        old="(-1.0) ** num_moves * game.outcomes(ends)",
        new="game.outcomes(ends) + 0.0 * num_moves",
        says="gives every board the result of who is to move at the end: wins do not exist",
    ),
    "illegal_noise": Edit(
        function="noisy",
        old="np.where(legal, rng.exponential(size=legal.shape), 0.0)",
        new="rng.exponential(size=legal.shape)",
        says="gives illegal moves a part of the noise, which is lost to the others",
    ),
    "noise_on_top": Edit(
        function="noisy",
        old="(1 - share) * prior + share",
        new="prior + share",
        says="adds the noise to the whole prior: the chances sum to more than 1",
    ),
    "flat_noise": Edit(
        function="noisy",
        old="rng.exponential(size=legal.shape)",
        new="rng.random(legal.shape)",
        says="divides uniform numbers by their sum: shares that stay near even, no Dirichlet",
    ),
    "shares_swapped": Edit(
        function="noisy",
        old="(1 - share) * prior + share * xi",
        new="share * prior + (1 - share) * xi",
        says="swaps the shares of prior and noise",
    ),
    "guide_not_masked": Edit(
        function="guide_of",
        old="np.where(game.legal(boards), outputs[:, :-1], -1e9)",
        new="outputs[:, :-1]",
        says="gives illegal moves a part of the prior",
    ),
    "value_without_tanh": Edit(
        function="guide_of",
        old="np.tanh(outputs[:, -1])",
        new="outputs[:, -1]",
        says="forgets the tanh: values beyond a win",
    ),
    "loss_not_masked": Edit(
        function="loss_of",
        old="outputs[:, :-1].masked_fill(~legal, -1e9).log_softmax",
        new="outputs[:, :-1].log_softmax",
        says="spends chances on illegal moves",
    ),
    "values_upside_down": Edit(
        function="loss_of",
        old="(values - ends) ** 2",
        new="(values + ends) ** 2",
        says="learns the other player's results",
        fails=("lost_first", "lost_second"),
    ),
    "no_value": Edit(
        function="loss_of",
        old=" + (values - ends) ** 2",
        new="",
        says="learns no values",
    ),
    "mean_of_moves": Edit(
        function="loss_of",
        old="(shares * log_probs).sum(dim=1)",
        new="(shares * log_probs).mean(dim=1)",
        says="averages over the moves: the policy counts for less the more moves there are",
    ),
    "likeliest_move": Edit(
        function="self_play",
        old="(sharper > sharper[:, -1:] * rng.random((len(going), 1))).argmax(axis=1)",
        new="visits.argmax(axis=1)",
        says="plays the most visited move in self-play too: games are nearly all alike",
    ),
    "in_proportion": Edit(
        function="self_play",
        old="(visits**2).cumsum",
        new="visits.cumsum",
        says="draws moves in proportion to the visits, not to their squares: results tell of careless play",
    ),
    "no_openings": Edit(
        function="self_play",
        old="opened(game, cfg.num_games, cfg.most_random, rng)",
        new="opened(game, cfg.num_games, 0, rng)",
        says="begins every game with an empty board: what good players avoid never comes up",
    ),
    "without_doubt": Edit(
        function="self_play",
        old="cfg.explore, noise=NOISE, rng=rng)",
        new="cfg.explore)",
        says="asks for no noise in self-play",
    ),
    "result_of_the_last_game": Edit(
        function="self_play",
        old="now[np.concatenate(of_game)]",
        new="now[np.sort(np.concatenate(of_game))]",
        says="mixes up whose result is whose",
    ),
    "half_a_game": Edit(
        function="self_play",
        old="        boards.append(now[going])\n",
        new="        boards.append(game.play(now[going], (visits > 0).argmax(axis=1)))\n",
        says="keeps the board after a move with the visits before it",
    ),
}
