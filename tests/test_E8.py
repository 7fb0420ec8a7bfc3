"""Lesson E8's search, learning and model where the answer is known, and what its evidence measures."""

import json
import math
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import chapters.E_practice.E8_muzero as lesson
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E8 import EDITS, Even, SmallModel, some_batch
from chapters.E_practice.evidence import E8 as evidence
from chapters.envs import played_games
from chapters.envs.boards import opened, tic_tac_toe
from chapters.envs.latent_trees import normalised
from chapters.exact import games, trees
from chapters.utils import RunLog
from chapters.utils.edits import edited

GAME = tic_tac_toe()
SOLUTION = games.solve(GAME)
TREES = json.loads((Path(__file__).parent / "gumbel_trees.json").read_text(encoding="utf-8"))
"""What mctx 0.0.71 found in twenty searches of `SmallModel(6)`, values not rescaled, all moves considered."""


def broken(name: str) -> types.ModuleType:
    return edited(lesson, EDITS[name])


# Search


def theirs(model: SmallModel, seen: np.ndarray, legal: np.ndarray, num_simulations: int, seed: int):
    """(moves, policies, visits, Gumbel noise) of mctx in the same model."""
    import functools

    import jax
    import jax.numpy as jnp
    import mctx

    moves, heads = jnp.array(model.moves), jnp.array(model.heads)

    def recurrent(params, key, action, latents):
        after = jnp.tanh((latents[:, :, None] * moves[action]).sum(axis=1))
        found = (after[:, :, None] * heads).sum(axis=1)
        output = mctx.RecurrentFnOutput(
            reward=jax.nn.sigmoid(found[:, -1]),
            discount=-jnp.ones(len(action)),
            prior_logits=found[:, :-2],
            value=jnp.tanh(found[:, -2]),
        )
        return output, after

    latents, logits, values = (jnp.array(part) for part in model.look(seen))
    found = mctx.gumbel_muzero_policy(
        params=(),
        rng_key=jax.random.PRNGKey(seed),
        root=mctx.RootFnOutput(prior_logits=logits, value=values, embedding=latents),
        recurrent_fn=recurrent,
        num_simulations=num_simulations,
        invalid_actions=jnp.array(~legal),
        qtransform=functools.partial(mctx.qtransform_completed_by_mix_value, rescale_values=False),
        max_num_considered_actions=legal.shape[1],
    )
    visits = found.search_tree.summary().visit_counts
    noise = found.search_tree.extra_data.root_gumbel
    return tuple(np.asarray(part) for part in (found.action, found.action_weights, visits, noise))


@pytest.mark.parametrize("which", ["lesson", "plain"])
def test_searches_find_what_mctx_found(which):
    for case in TREES:
        seen, legal, gumbels = (np.array([case[name]]) for name in ("seen", "legal", "gumbels"))
        if which == "lesson":
            found = lesson.search(SmallModel(6), seen, legal, case["num_simulations"], gumbels)
            move, policy, visits = (part[0] for part in found)
        else:
            visits, move, policy = trees.gumbel_search(
                SmallModel(6), seen, case["legal"], case["num_simulations"], case["gumbels"]
            )
        assert list(visits) == case["visits"]
        assert move == case["move"]
        np.testing.assert_allclose(policy, case["policy"], atol=1e-4)


def test_a_search_is_mctxs_where_that_is_installed():
    pytest.importorskip("mctx", reason="mctx comes with the extra `games`; recorded searches stand in for it")
    rng = np.random.default_rng(0)
    seen, legal = rng.normal(size=(20, 4)), rng.random((20, 6)) < 0.7
    legal[:, 0] = True
    for num_simulations in (3, 24):
        moves, policies, visits, noise = theirs(SmallModel(6), seen, legal, num_simulations, seed=5)
        found = lesson.search(SmallModel(6), seen, legal, num_simulations, noise.astype(float))
        np.testing.assert_array_equal(found[2], visits)
        np.testing.assert_array_equal(found[0], moves)
        np.testing.assert_allclose(found[1], policies, atol=1e-4)


class Rules:
    """The rules in a model's place: a latent is a board, its line, and nothing is known of its worth."""

    def look(self, seen):
        boards = seen.astype(np.int64)
        return boards, np.zeros((len(boards), 9)), np.zeros(len(boards))

    def imagine(self, latents, actions):
        after, legal = latents.copy(), GAME.legal(latents)
        real = legal[np.arange(len(actions)), actions]
        after[real] = GAME.play(latents[real], actions[real])
        won = real & GAME.lost(after)
        after[won] = 2**9 - 1  # over: no move is left, and nobody is to be paid again
        logits = np.where(GAME.legal(after), 0.0, -1e9)
        return after, won.astype(float), logits, np.zeros(len(actions))


def share_with_the_rules(module: types.ModuleType) -> float:
    boards, q = games.even_sample(SOLUTION, 30, np.random.default_rng(0))
    legal = GAME.legal(boards)
    moves = module.search(Rules(), boards.astype(float), legal, 200, np.zeros(legal.shape))[0]
    return games.share_best(q, moves)


def test_with_the_rules_as_its_model_the_search_finds_best_moves():
    assert share_with_the_rules(lesson) > 0.9


@pytest.mark.parametrize("name", ["no_flip", "late_reward", "no_reward", "worst_first"])
def test_with_the_rules_a_wrong_search_does_not(name):
    assert share_with_the_rules(broken(name)) < 0.85, f'"{name}"'


def test_with_all_moves_tried_the_move_is_a_draw_from_the_better_policy():
    """Gumbel noise and exact values: softmax(logits + sigma(q)), by frequency."""
    q, logits = np.array([1.0, 0.0, -1.0, 0.0]) / 5, np.array([-0.5, 1.0, 1.5, 0.0])
    rng, num = np.random.default_rng(0), 20_000
    seen = np.tile(np.concatenate([q, logits]), (num, 1))
    gumbels = rng.gumbel(size=(num, 4))
    moves = lesson.search(trees.KnownMoves(), seen, np.full((num, 4), True), 4, gumbels)[0]
    better = np.exp(logits + 0.1 * 51 * q)
    np.testing.assert_allclose(np.bincount(moves) / num, better / better.sum(), atol=0.012)


def test_boards_are_searched_alike_in_company_and_alone():
    rng = np.random.default_rng(3)
    seen, legal, gumbels = rng.normal(size=(6, 4)), np.full((6, 5), True), rng.gumbel(size=(6, 5))
    legal[:3, 1:3] = False
    together = lesson.search(SmallModel(5), seen, legal, 12, gumbels)
    for row in range(6):
        one = slice(row, row + 1)
        alone = lesson.search(SmallModel(5), seen[one], legal[one], 12, gumbels[one])
        for both, single in zip(together, alone):
            np.testing.assert_allclose(both[row], single[0], atol=1e-12)


def test_one_simulation_without_noise_is_the_likeliest_move():
    boards = opened(GAME, 50, 6, np.random.default_rng(0))
    torch.manual_seed(0)
    model = lesson.Model(9, 9)
    logits = model.look(GAME.planes(boards))[1]
    expected = np.where(GAME.legal(boards), logits, -np.inf).argmax(axis=1)
    np.testing.assert_array_equal(lesson.player(GAME, model, 1)(boards)[0], expected)


# The model


def test_a_model_has_latents_of_one_size_and_pays_by_move_and_latent():
    torch.manual_seed(0)
    model = lesson.Model(9, 9)
    planes = torch.from_numpy(GAME.planes(opened(GAME, 6, 4, np.random.default_rng(0))))
    latents = model.represent(planes)
    after, paid = model.dynamics(latents, torch.arange(6))
    for x in (latents, after):
        size = (x**2).mean(dim=1).detach()
        assert ((size > 0.8) & (size < 1)).all()
    later, others = model.dynamics(latents, torch.arange(6) + 1)
    assert (paid != others).all(), "what a move pays depends on the move"
    assert (after != later).any(dim=1).all(), "and so does where it leads"
    assert model.predict(latents)[1].abs().max() <= 1


def test_look_and_imagine_are_the_three_functions():
    torch.manual_seed(1)
    model = lesson.Model(9, 9)
    planes = GAME.planes(opened(GAME, 8, 5, np.random.default_rng(1)))
    latents, logits, values = model.look(planes)
    x = model.represent(torch.from_numpy(planes))
    np.testing.assert_array_equal(latents, x.detach())
    np.testing.assert_array_equal(logits, model.predict(x)[0].detach())
    actions = np.arange(8)
    after, rewards, logits, values = model.imagine(latents, actions)
    y, paid = model.dynamics(x, torch.from_numpy(actions))
    np.testing.assert_array_equal(after, y.detach())
    np.testing.assert_allclose(rewards, 1 / (1 + np.exp(-paid.detach().numpy())), rtol=1e-5)
    np.testing.assert_array_equal(values, model.predict(y)[1].detach())


# Learning


def some_games(num: int = 40, most: int = 4, seed: int = 0) -> played_games.Games:
    rng = np.random.default_rng(seed)
    return played_games.play_games(
        GAME, rng.integers(most + 1, size=num), lesson.player(GAME, Even(), 3, rng), rng
    )


def test_games_follow_the_rules_and_say_what_was_thought():
    for most in (0, 4):
        played = some_games(300, most)
        for row in range(60):
            length, board = played.lengths[row], GAME.start(1)
            for ply in range(length):
                assert (played.boards[row, ply] == board[0]).all()
                assert GAME.legal(board)[0][played.actions[row, ply]]
                assert played.policies[row, ply].sum() == pytest.approx(
                    float(played.thought[row, ply]), abs=1e-6
                )
                board = GAME.play(board, played.actions[row, ply : ply + 1])
            assert (played.boards[row, length:] == board[0]).all()
            assert GAME.ended(board)[0]
            assert played.won[row] == GAME.lost(board)[0]
            assert not played.thought[row, length:].any()
        inside = np.arange(9) < played.lengths[:, None]
        counts = np.bincount((~played.thought & inside).sum(axis=1), minlength=most + 1)
        assert len(counts) == most + 1
        assert counts.min() > 0.6 * 300 / (most + 1)
        assert (np.diff(played.thought[:, :5].astype(int), axis=1) >= 0).all(), "random moves come first"


def a_batch(steps: int = 5) -> tuple[played_games.Games, np.ndarray, played_games.Batch]:
    played, rng = some_games(), np.random.default_rng(1)
    starts = (rng.random(40) * played.lengths).astype(int)
    batch = played_games.unrolled(GAME, played, np.arange(40), starts, steps, lesson.targets, rng)
    return played, starts, batch


def test_lines_are_cut_out_step_by_step():
    played, starts, batch = a_batch()
    after = []
    for row, start in enumerate(starts):
        for k in range(6):
            time, thought = start + k, False
            ended = time >= played.lengths[row]
            board = played.boards[row, min(time, 9)][None]
            assert (batch.planes[row, k].numpy() == GAME.planes(board)[0]).all()
            if not ended:
                thought = played.thought[row, time]
                np.testing.assert_allclose(batch.policies[row, k], played.policies[row, time], atol=1e-6)
            assert batch.thought[row, k] == thought
            assert batch.known[row, k] == (ended or thought), "after the end a value of 0 is to be learned"
            value, paid = lesson.targets(
                np.array([time]), played.lengths[row : row + 1], played.won[row : row + 1]
            )
            assert batch.values[row, k] == value[0]
            if k < 5:
                assert batch.rewards[row, k] == paid[0]
                if ended:
                    after.append(int(batch.actions[row, k]))
                else:
                    assert batch.actions[row, k] == played.actions[row, time]
    assert len(set(after)) > 4, "after the end moves are drawn at random"


def test_values_and_rewards_of_a_line_agree():
    """Over whole games, a value is what is still to be paid, with alternating signs."""
    played = some_games(30)
    starts, rng = np.zeros(30, dtype=int), np.random.default_rng(0)
    batch = played_games.unrolled(GAME, played, np.arange(30), starts, 9, lesson.targets, rng)
    for row in range(30):
        for k in range(9):
            still = sum((-1) ** (j - k) * float(batch.rewards[row, j]) for j in range(k, 9))
            assert float(batch.values[row, k]) == still


def test_a_picture_turns_boards_moves_and_policies_alike():
    _, _, batch = a_batch()
    policies = torch.from_numpy(np.random.default_rng(2).dirichlet(np.ones(9), size=(40, 6)))
    batch = batch._replace(policies=policies)
    pictures = np.arange(40) % 8
    found = played_games.turned(GAME, batch, pictures)
    for row, picture in enumerate(pictures):
        order = GAME.symmetries()[picture].tolist()
        for k in range(6):
            for cell in range(9):
                for side in (0, 9):
                    assert found.planes[row, k, side + cell] == batch.planes[row, k, side + order[cell]]
                assert found.policies[row, k, cell] == batch.policies[row, k, order[cell]]
            if k < 5:
                assert found.actions[row, k] == order.index(int(batch.actions[row, k]))
    for name in ("values", "rewards", "thought", "known"):
        assert getattr(found, name) is getattr(batch, name)


def test_latents_are_normalised_with_the_small_number_inside_the_root():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 8, generator=generator) * torch.tensor([0.1, 1.0, 10.0])[:, None, None]
    found = normalised(latents)
    for place in np.ndindex(3, 4):
        row = latents[place].tolist()
        size = math.sqrt(sum(x * x for x in row) / 8 + 1e-3)
        np.testing.assert_allclose(found[place].tolist(), [x / size for x in row], rtol=1e-4)
    nothing = torch.zeros(1, 8, requires_grad=True)
    normalised(nothing).sum().backward()
    np.testing.assert_allclose(nothing.grad.numpy(), 1e-3**-0.5, rtol=1e-4)


def test_the_loss_of_a_perfect_model_is_that_of_its_targets():
    """Exact outputs for every step: what is left is the entropy of the policies."""
    batch = some_batch(2)
    ones = torch.ones_like(batch.thought)
    batch = batch._replace(thought=ones, known=ones)

    class Perfect(lesson.Model):
        step = 0

        def represent(self, planes):
            return torch.full((*planes.shape[:-1], lesson.LATENT), 1.0)

        def dynamics(self, latents, actions):
            self.step += 1
            return latents, (2 * batch.rewards[:, self.step - 1] - 1) * 60

        def predict(self, latents):
            return batch.policies.reshape(-1, 9).log(), batch.values.reshape(-1)

    found = float(lesson.loss_of(Perfect(9, 9), batch))
    entropies = -(batch.policies * batch.policies.log()).sum(dim=2)
    expected = float((entropies[:, 0] + entropies[:, 1:].sum(dim=1) / 2).mean())
    assert math.isclose(found, expected, rel_tol=1e-4)


def learned(module: types.ModuleType, log: RunLog) -> tuple[float, float, float]:
    """(share of best moves of the network; how its values, and its chances of wins, go with exact ones)."""
    cfg = module.Config(num_iterations=2, num_games=64, num_simulations=8, num_updates=40)
    model = module.train(GAME, cfg, log, lambda iteration, model: None)
    boards, q = games.even_sample(SOLUTION, 40, np.random.default_rng(0))
    values = model.look(GAME.planes(boards))[2]
    chances, wins = evidence.tables(GAME, SOLUTION, model)[2:]
    best = evidence.share_best(GAME, model, 1, boards, q)
    return (
        best,
        float(np.mean(values * np.nanmax(q, axis=1))),
        float(chances[wins].mean() - chances[~wins].mean()),
    )


def test_a_few_rounds_teach_moves_values_and_wins(tmp_path):
    """A random legal move is a best one on 39 % of these boards."""
    moves, agreement, wins = learned(lesson, RunLog(tmp_path / "right", "E8"))
    assert moves > 0.41
    assert agreement > 0.05
    assert wins > 0.12


@pytest.mark.slow
def test_a_few_rounds_with_an_error_teach_no_values_or_no_wins(tmp_path):
    assert learned(broken("other_side"), RunLog(tmp_path / "wrong", "E8"))[1] < 0
    assert learned(broken("reward_too_late"), RunLog(tmp_path / "late", "E8"))[2] < 0.08


def test_training_learns_from_the_last_rounds_each_move_alike_with_a_falling_rate(monkeypatch, tmp_path):
    seen, rates, checked, lines, asked = [], [], [], [], []
    always, right, turn = some_games(6, seed=1), lesson.drawn_lines, lesson.turned

    def play_games(game, random_plies, choose, rng):
        play_games.count += 1
        assert set(random_plies.tolist()) == set(range(7))
        return always._replace(policies=np.full_like(always.policies, play_games.count))

    play_games.count = 0

    def drawn_lines(game, played, num_lines, num_moves, targets, rng):
        assert num_moves == 5
        seen.append(set(played.policies[:, 0, 0].tolist()))
        return right(game, played, num_lines, num_moves, targets, rng)

    def turned(game, batch, pictures):
        asked.extend(pictures.tolist())
        return turn(game, batch, pictures)

    def loss_of(model, batch):
        return (model.judged.weight**2).sum()

    class Adam(lesson.Adam):
        def step(self):
            rates.append(self.lr)
            super().step()

    stand_ins = (play_games, drawn_lines, turned, loss_of, Adam)
    for stand_in in stand_ins:
        monkeypatch.setattr(lesson, stand_in.__name__, stand_in)
    cfg = lesson.Config(num_iterations=10, num_updates=3)
    lesson.train(GAME, cfg, RunLog(tmp_path, "E8"), lambda iteration, model: checked.append(iteration))
    assert checked == list(range(11))
    assert seen[-1] == set(range(5, 11)), "the last six rounds, and no others"
    assert seen[6] == {1, 2, 3}
    np.testing.assert_allclose(rates[::3], 3e-3 * (1 - 0.095 * np.arange(10)))
    counts = np.bincount(asked, minlength=8)
    assert len(counts) == 8
    assert counts.min() > 0.8 * counts.mean()
    monkeypatch.setattr(
        played_games, "unrolled", lambda game, played, rows, starts, *rest: lines.extend(zip(rows, starts))
    )
    right(GAME, always, 6000, 5, lesson.targets, np.random.default_rng(0))
    assert set(lines) == {(row, at) for row in range(6) for at in range(always.lengths[row])}
    counts = np.array([lines.count(place) for place in set(lines)])
    assert counts.min() > 0.7 * counts.mean()
    asked.clear()
    monkeypatch.undo()
    wrong = broken("no_pictures")
    monkeypatch.setattr(wrong, "turned", turned)
    small = wrong.Config(**{**lesson.SMOKE, "num_iterations": 1})
    wrong.train(GAME, small, RunLog(tmp_path, "E8"), lambda iteration, model: None)
    assert not asked


# Lines, and what evidence measures


def test_lines_of_play_follow_the_rules_and_the_solution():
    starts = opened(GAME, 200, 5, np.random.default_rng(0))
    for known in (None, SOLUTION):
        lines = games.lines_of_play(GAME, starts, np.random.default_rng(1), known)
        for row in range(200):
            board = starts[row : row + 1]
            worth = np.nanmax(SOLUTION.of(board))
            for ply in range(lines.lengths[row]):
                move = lines.actions[row, ply : ply + 1]
                if known:
                    q = SOLUTION.of(board)[0]
                    assert q[move[0]] == np.nanmax(q)
                board = GAME.play(board, move)
                assert (lines.boards[row, ply + 1] == board[0]).all()
            assert GAME.ended(board)[0]
            assert (lines.boards[row, lines.lengths[row] :] == board[0]).all()
            if known:
                assert worth == (-1) ** lines.lengths[row] * GAME.outcomes(board)[0]
    firsts = games.lines_of_play(GAME, GAME.start(900), np.random.default_rng(2)).actions[:, 0]
    assert np.bincount(firsts, minlength=9).min() > 60, "each of nine first moves about 100 times"


def test_known_moves_are_exact_at_every_depth():
    q = np.array([[0.5, -1.0, 1.0]])
    legal, logits = np.full((1, 3), True), np.zeros((1, 3))
    model = trees.KnownMoves()
    latents, _, _ = model.look(np.concatenate([q, logits], axis=1))
    for move in range(3):
        after, rewards, _, worth = model.imagine(latents, np.array([move]))
        for _ in range(3):
            assert rewards[0] == 0
            assert worth[0] == -q[0, move]
            after, rewards, _, worth = model.imagine(after, np.array([1]))
            assert worth[0] == q[0, move]
            after, rewards, _, worth = model.imagine(after, np.array([2]))
    moves = lesson.search(model, np.concatenate([q, logits], axis=1), legal, 20, np.zeros((1, 3)))[0]
    assert moves.tolist() == [2]


def test_tables_hold_all_boards_and_moves():
    torch.manual_seed(0)
    guessed, values, chances, wins = evidence.tables(GAME, SOLUTION, lesson.Model(9, 9))
    assert len(guessed) == len(values) == 4520
    assert len(chances) == len(wins) == sum(int(GAME.legal(boards).sum()) for boards in SOLUTION.boards)
    assert set(values.tolist()) == {-1.0, 0.0, 1.0}
    boards = np.concatenate([boards for boards in SOLUTION.boards])
    won = 0
    for board in boards[~GAME.ended(boards)]:
        own, other = int(board[0]), int(board[1])
        for cell in range(9):
            free = not (own | other) >> cell & 1
            won += free and any((own | 1 << cell) & line == line for line in GAME.lines.tolist())
    assert wins.sum() == won


class Solved:
    """A model that knows everything: a latent is a board, values are exact, and a win is paid `certainty`."""

    def __init__(self, certainty: float = 1.0, sign: float = 1.0) -> None:
        self.certainty, self.sign, self.depth = certainty, sign, 0

    def look(self, planes):
        bits = planes.reshape(len(planes), 2, 9).astype(np.int64)
        boards, self.depth = (bits << np.arange(9)).sum(axis=2), 0
        going = ~GAME.ended(boards)
        values = np.zeros(len(boards))
        values[going] = self.sign * np.nanmax(SOLUTION.of(boards[going]), axis=1)
        return boards, np.zeros((len(boards), 9)), values

    def imagine(self, latents, actions):
        after, self.depth = latents.copy(), self.depth + 1
        real = GAME.legal(latents)[np.arange(len(actions)), actions]
        after[real] = GAME.play(latents[real], actions[real])
        won = real & GAME.lost(after)
        return after, np.where(won, self.certainty, 0.2 * (self.depth == 5)), None, None


def test_tables_of_a_model_that_knows_everything(tmp_path):
    commonest = 2836 / 4520
    values = np.concatenate(SOLUTION.values)[~GAME.ended(np.concatenate(SOLUTION.boards))]
    assert commonest == max(np.mean(values == value) for value in (-1, 0, 1))
    for model, right, wrong in (
        (Solved(), 1.0, 0.0),
        (Solved(0.4, -1.0), np.mean(values == 0), 0.5),
    ):
        log = RunLog(tmp_path / str(right), "E8")
        evidence.claim_tables(GAME, SOLUTION, model, log)
        found = {claim.name: claim.value for claim in log.claims}
        assert found == pytest.approx({"values_right": right - commonest, "wins_known": wrong})
        assert log.last("wins_missed") == 2 * wrong
        assert log.last("wins_imagined") == 0


def test_lines_of_a_model_that_knows_everything(tmp_path):
    log = RunLog(tmp_path, "E8")
    evidence.claim_lines(GAME, SOLUTION, Solved(0.7), log)
    for name in ("random", "best"):
        steps, errors = log.series(f"error_{name}")
        assert list(steps) == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(errors, [0.15] * 4 + [0.25], atol=1e-9)
    assert log.claims[0].value == pytest.approx(0, abs=1e-12)


def test_visits_of_puct_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    q, prior = rng.choice([-1.0, 0.0, 1.0, np.nan], size=(10, 5)), rng.dirichlet(np.ones(5), size=10)
    q[:, 0] = 0.0
    found = evidence.puct_visits(prior, q, 12)
    for row in range(10):
        visits = [0] * 5
        for _ in range(12):
            scores = [
                -math.inf
                if np.isnan(q[row, a])
                else (q[row, a] if visits[a] else 0.0)
                + 1.5 * prior[row, a] * math.sqrt(1 + sum(visits)) / (1 + visits[a])
                for a in range(5)
            ]
            visits[int(np.argmax(scores))] += 1
        assert found[row].tolist() == visits


def test_gumbel_never_lowers_and_puct_does(tmp_path):
    log = RunLog(tmp_path, "E8")
    q = games.even_sample(SOLUTION, 20, np.random.default_rng(0))[1]
    evidence.compare_with_puct(q, lesson.Config(), evidence.Config(num_draws=8), log)
    assert max(log.series("lowered_gumbel")[1]) == 0
    assert min(log.series("worst_gumbel")[1]) >= 0
    assert log.series("lowered_puct")[1][0] > 0
    for name, num in (("noise_forgotten", 1), ("worst_first", 2), ("no_flip", 2)):
        rng = np.random.default_rng(0)
        search = broken(name).search
        played, drawn = trees.gumbel_draws(search, q, 2 * rng.normal(size=q.shape), num, rng)
        assert (played < drawn).any(), f'"{name}"'


def test_each_part_is_changed_by_itself(monkeypatch, tmp_path):
    made = []

    def train(game, cfg, log, check):
        made.append(cfg)
        return Even()

    def stand_in(module, edit):
        made.append(edit)
        return types.SimpleNamespace(train=train)

    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(evidence, "edited", stand_in)
    monkeypatch.setattr(lesson, "lost_lines", lambda game, model, num, seat: 100 + seat)
    monkeypatch.setattr(trees, "reward_errors", lambda *args: np.arange(3.0))
    log, cfg = RunLog(tmp_path, "E8"), lesson.Config(num_playing=1)
    boards, q = games.even_sample(SOLUTION, 5, np.random.default_rng(0))
    for name in evidence.PARTS:
        made.clear()
        evidence.change(name, GAME, boards, q, cfg, log)
        changed = [one for one in made if one not in (cfg,)]
        assert len(changed) == (name != "whole"), name
        if name in ("unroll", "openings"):
            expected = {"unroll": {"num_unrolled": 1}, "openings": {"most_random": 0}}[name]
            assert changed == [replace(cfg, **expected)]
        assert log.last(f"part_lost_{name}") == 201
        assert log.last(f"part_error_{name}") == 1
        assert 0 < log.last(f"part_best_{name}") < 1


def test_errors_count_wins_and_other_moves_alike():
    starts = opened(GAME, 400, 7, np.random.default_rng(3))
    lines = games.lines_of_play(GAME, starts, np.random.default_rng(0))
    rewards = np.random.default_rng(1).random((4, len(starts)))

    class Told(Even):
        step = 0

        def imagine(self, latents, actions):
            self.step += 1
            assert (actions == lines.actions[:, self.step - 1]).all()
            return latents, rewards[self.step - 1], None, None

    found = trees.reward_errors(GAME, Told(), lines, 4)
    for k in range(4):
        apart: dict[bool, list[float]] = {True: [], False: []}
        for row, reward in enumerate(rewards[k]):
            if lines.lengths[row] > k:
                won = bool(GAME.lost(lines.boards[row, k + 1 : k + 2])[0])
                apart[won].append(abs(reward - won))
        assert found[k] == pytest.approx((np.mean(apart[True]) + np.mean(apart[False])) / 2)


def test_lost_lines_are_those_of_the_player_in_its_seat():
    torch.manual_seed(0)
    model = lesson.Model(9, 9)
    choose = lesson.player(GAME, model, 2)
    for seat in (0, 1):
        lines = games.exhaust(GAME, lambda boards: choose(boards)[0], seat)
        assert lesson.lost_lines(GAME, model, 2, seat) == lines.lost > 0


def test_texts_say_what_was_recorded():
    cfg = lesson.Config()
    assert cfg.num_games * cfg.num_iterations == 7168
    runs = [run["metrics"] for run in ledger.load(find("E8"))["runs"]]
    assert len(runs) >= 5
    last = {name: [run[name] for run in runs] for name in ("error_random", "error_best")}
    assert np.median(last["error_best"]) < 0.05, '"on best lines it errs little, however far it looks"'
    assert np.median(last["error_random"]) > np.median(last["error_best"]), '"on random ones more"'
    for run in runs:
        assert run["lowered_gumbel"] == 0
        assert run["worst_gumbel"] >= 0, '"plays no board worse than its prior"'
        assert run["worst_puct"] < 0, '"PUCT does"'


def test_answers_say_what_halving_does():
    needed = lesson.schedule(9, 16)
    assert needed.count(0) == 9, "all nine are tried once"
    assert needed == [0] * 9 + [1] * 4 + [2, 2, 3], "four twice, two of them three times, one four times"
