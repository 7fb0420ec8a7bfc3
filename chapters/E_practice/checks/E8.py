"""E8's functions against definitions written out move by move and line by line, and its named edits."""

import math

import numpy as np
import torch

from chapters.E_practice.E8_muzero import Model
from chapters.envs.boards import tic_tac_toe
from chapters.envs.latent_trees import Known, Tree
from chapters.envs.played_games import Batch
from chapters.exact import trees
from chapters.utils.edits import Edit

CONSTANT = ("targets",)  # of the weights


class SmallModel:
    """A random model in double precision, for searches: latents of six numbers."""

    def __init__(self, num_actions: int, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.eyes, self.moves = rng.normal(size=(4, 6)), rng.normal(size=(num_actions, 6, 6))
        self.heads = 2 * rng.normal(size=(6, num_actions + 2))

    def outputs(self, latents):
        found = (latents[:, :, None] * self.heads).sum(axis=1)
        return 1 / (1 + np.exp(-found[:, -1])), found[:, :-2], np.tanh(found[:, -2])

    def look(self, seen):
        latents = np.tanh((seen[:, :, None] * self.eyes).sum(axis=1))
        return latents, *self.outputs(latents)[1:]

    def imagine(self, latents, actions):
        after = np.tanh((latents[:, :, None] * self.moves[actions]).sum(axis=1))
        return after, *self.outputs(after)


def some_statistics(seed: int, num_boards: int = 5, num_actions: int = 4):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_boards, num_actions))
    visits = rng.integers(0, 5, size=logits.shape).astype(float)
    visits[0], visits[1] = 0.0, np.arange(num_actions)
    totals = visits * rng.uniform(-1, 1, size=logits.shape)
    return Known(logits, visits, totals, rng.uniform(-1, 1, size=num_boards))


def plainly_completed(known: Known, row: int) -> list[float]:
    """Eq. (4), one board, move by move."""
    logits, visits, totals = known.logits[row], known.visits[row], known.totals[row]
    weights = np.exp(logits - logits.max())
    tried = [move for move in range(len(logits)) if visits[move] > 0]
    means = {move: totals[move] / visits[move] for move in tried}
    mixed = known.values[row]
    if tried:
        q_hat = sum(weights[move] * means[move] for move in tried) / sum(weights[tried])
        mixed = (known.values[row] + visits.sum() * q_hat) / (1 + visits.sum())
    return [means.get(move, mixed) for move in range(len(logits))]


def plainly_raised(known: Known, row: int) -> list[float]:
    """Logits of the better policy, one board."""
    scale = 0.1 * (50 + known.visits[row].max())
    return [logit + scale * q for logit, q in zip(known.logits[row], plainly_completed(known, row))]


def check_schedule(schedule):
    """By phases, with the moves' visits counted one by one."""
    for num_considered in range(1, 10):
        for num_simulations in (1, 2, 5, 16, 33):
            phases, expected = max(1, math.ceil(math.log2(num_considered))), []
            visits, left = [0] * num_considered, num_considered
            while len(expected) < num_simulations:
                for _ in range(max(1, num_simulations // (phases * left))):
                    expected += visits[:left]
                    visits[:left] = [count + 1 for count in visits[:left]]
                left = max(min(2, num_considered), left // 2)
            found = list(schedule(num_considered, num_simulations))
            assert found == expected[:num_simulations], (
                f"{num_considered} moves, {num_simulations} simulations: "
                f"expected {expected[:num_simulations]}, found {found}"
            )


def compare(found, known, expected_of, what: str) -> None:
    for row in range(len(known.visits)):
        for move, expected in enumerate(expected_of(known, row)):
            assert math.isclose(found[row, move], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"{what}, visits {known.visits[row]}, move {move}: "
                f"expected {expected:.4f}, found {found[row, move]:.4f}"
            )


def check_completed(completed):
    for seed in range(3):
        known = some_statistics(seed)
        compare(completed(known), known, plainly_completed, "completed values")
    one = Known(np.array([[-1e9, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.5, 0.0]]), np.array([0.0]))
    assert np.isfinite(completed(one)).all(), "a move of no chance that was tried must not divide by 0"


def check_raised(raised):
    for seed in range(3):
        known = some_statistics(seed)
        compare(raised(known), known, plainly_raised, "logits of the better policy")


def check_inner_choice(inner_choice):
    for seed in range(90):
        known = some_statistics(seed)
        times = (1, 0, 3)[seed % 3]
        totals = known.totals * times / (1 if seed % 2 else 50)
        known = known._replace(visits=known.visits * times, totals=totals)
        found = inner_choice(known)
        for row, visits in enumerate(known.visits):
            better = np.array(plainly_raised(known, row))
            chances = np.exp(better - better.max())
            behind = chances / chances.sum() - visits / (1 + visits.sum())
            assert behind[found[row]] > behind.max() - 1e-9, (
                f"visits {visits}: how far each is behind {behind.round(3)}, found move {found[row]}"
            )


def check_back_up(back_up):
    """Paths of three moves and of two; values are to who moves at the last, and must not be changed."""
    rng = np.random.default_rng(0)
    tree = Tree(np.zeros((2, 3)), 5, 4)
    tree.rewards[:] = rng.uniform(0, 1, size=(2, 5))
    tree.visits[:] = rng.integers(0, 4, size=tree.visits.shape)
    tree.totals[:] = tree.visits * rng.uniform(-1, 1, size=tree.visits.shape)
    tree.children[0, 0, 1], tree.children[0, 2, 3], tree.children[0, 3, 0] = 2, 3, 4
    tree.children[1, 0, 0], tree.children[1, 1, 2] = 1, 2
    path = [
        (np.array([0, 1]), np.array([0, 0]), np.array([1, 0])),
        (np.array([0, 1]), np.array([2, 1]), np.array([3, 2])),
        (np.array([0]), np.array([3]), np.array([0])),
    ]
    visits, totals, values = tree.visits.copy(), tree.totals.copy(), np.array([0.5, -0.25])
    r = tree.rewards
    worth = {
        (0, 3, 0): r[0, 4] - 0.5,
        (0, 2, 3): r[0, 3] - (r[0, 4] - 0.5),
        (0, 0, 1): r[0, 2] - (r[0, 3] - (r[0, 4] - 0.5)),
        (1, 1, 2): r[1, 2] + 0.25,
        (1, 0, 0): r[1, 1] - (r[1, 2] + 0.25),
    }
    back_up(tree, path, values)
    assert values.tolist() == [0.5, -0.25], "the values that came were changed"
    for place, expected in worth.items():
        visits[place] += 1
        totals[place] += expected
    np.testing.assert_allclose(tree.visits, visits, err_msg="visits")
    np.testing.assert_allclose(tree.totals, totals, err_msg="what the moves brought")


def check_search(search):
    """Against one tree at a time in plain Python, with a random model; and with values that are exact."""
    rng = np.random.default_rng(1)
    model = SmallModel(6)
    for num_simulations in (1, 3, 12, 40):
        seen, legal = rng.normal(size=(7, 4)), rng.random((7, 6)) < 0.6
        legal[:, 2] = True
        gumbels = rng.gumbel(size=legal.shape)
        moves, policies, visits = search(model, seen, legal, num_simulations, gumbels)
        for row in range(len(seen)):
            expected = trees.gumbel_search(
                model, seen[row : row + 1], legal[row].tolist(), num_simulations, gumbels[row].tolist()
            )
            assert visits[row].tolist() == expected[0], f"visits {visits[row]}, expected {expected[0]}"
            assert moves[row] == expected[1], f"visits {visits[row]}: move {moves[row]}, not {expected[1]}"
            np.testing.assert_allclose(policies[row], expected[2], atol=1e-9, err_msg="the better policy")
    q = rng.choice([-1.0, 0.0, 1.0], size=(300, 9))
    logits, gumbels = 2 * rng.normal(size=q.shape), rng.gumbel(size=q.shape)
    for num_simulations in (1, 4, 16):
        seen = np.concatenate([q, logits], axis=1)
        moves = search(trees.KnownMoves(), seen, np.full(q.shape, True), num_simulations, gumbels)[0]
        drawn = (gumbels + logits).argmax(axis=1)
        every = np.arange(len(q))
        assert (q[every, moves] >= q[every, drawn]).all(), (
            "with exact values a move is worse than the prior's"
        )


class Even:
    """A model that tells nothing apart, but likes the first move better."""

    def look(self, planes):
        logits = np.zeros((len(planes), 9), dtype=np.float32)
        logits[:, 0] = 1.0
        return np.zeros((len(planes), 2), dtype=np.float32), logits, np.zeros(len(planes))

    def imagine(self, latents, actions):
        return latents, np.zeros(len(latents)), np.zeros((len(latents), 9)), np.zeros(len(latents))


def check_player(player):
    """One simulation: the likeliest move without noise, with it a draw from the prior; legal ones only."""
    game = tic_tac_toe()
    boards = np.repeat(np.array([[0, 0], [0b000_000_010, 0b000_000_001]]), 2000, axis=0)
    moves, policies = player(game, Even(), 1)(boards)
    assert (moves[:2000] == 0).all(), "in earnest the likeliest move is played"
    legal = game.legal(boards)
    assert legal[np.arange(4000), moves].all(), "an illegal move"
    np.testing.assert_allclose(policies.sum(axis=1), 1.0, atol=1e-6, err_msg="policies sum to 1")
    assert (policies[~legal] < 1e-9).all(), "the policy gives chances to illegal moves"
    moves, _ = player(game, Even(), 1, np.random.default_rng(0))(boards)
    expected = math.e / (math.e + 8)
    found = np.mean(moves[:2000] == 0)
    assert abs(found - expected) < 0.04, f"likeliest move: {found:.2f} of games, chance {expected:.2f}"
    assert legal[np.arange(4000), moves].all(), "an illegal move"
    few = player(game, SmallGame(), 1)(boards[:2])[1]
    many = player(game, SmallGame(), 30)(boards[:2])[1]
    assert np.abs(few - many).max() > 1e-3, "the number of simulations changes nothing"


class SmallGame(SmallModel):
    """The random model, for boards of tic-tac-toe."""

    def __init__(self) -> None:
        super().__init__(9)

    def look(self, planes):
        return super().look(planes[:, [0, 4, 9, 13]].astype(float))


def check_targets(targets):
    """Move by move, in games of every length and outcome."""
    times = np.arange(12)[None] + np.zeros((2, 1), dtype=int)
    for length in range(5, 10):
        lengths, won = np.full((2, 1), length), np.array([[True], [False]])
        values, rewards = targets(times, lengths, won)
        for time in range(12):
            at = f"a game of {length} moves, at {time}"
            mine = (length - time) % 2 == 1
            result = 0.0 if time >= length else 1.0 if mine else -1.0
            assert values[0, time] == result, f"{at}: value {values[0, time]:g}, not {result:g}"
            assert rewards[0, time] == (time == length - 1), f"{at}: reward {float(rewards[0, time]):g}"
            assert values[1, time] == rewards[1, time] == 0, f"{at}: a draw pays nothing"


def some_batch(seed: int = 0, num: int = 5, steps: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.rand(*shape, generator=generator)

    policies = numbers(num, steps + 1, 9)
    thought = (numbers(num, steps + 1) < 0.6).float()
    return Batch(
        planes=(numbers(num, steps + 1, 18) < 0.3).float(),
        actions=torch.randint(9, (num, steps), generator=generator),
        policies=policies / policies.sum(dim=2, keepdim=True),
        values=torch.randint(-1, 2, (num, steps + 1), generator=generator).float(),
        rewards=(numbers(num, steps) < 0.4).float(),
        thought=thought,
        known=torch.maximum(thought, (numbers(num, steps + 1) < 0.5).float()),
    )


def plain_loss(model: Model, batch: Batch) -> torch.Tensor:
    """Eq. (8) line by line, with gradients halved by hand."""
    total = torch.zeros(())
    for row in range(len(batch.actions)):
        x = model.represent(batch.planes[row : row + 1, 0])
        for k in range(batch.actions.shape[1] + 1):
            weight = 1.0 if k == 0 else 0.5
            logits, values = model.predict(x)
            chances = logits[0].softmax(dim=0)
            if batch.thought[row, k]:
                total = total - weight * (batch.policies[row, k] * chances.log()).sum()
            if batch.known[row, k]:
                total = total + weight * (values[0] - batch.values[row, k]) ** 2
            if k == batch.actions.shape[1]:
                break
            slow = x if k == 0 else 0.5 * x + 0.5 * x.detach()
            x, paid = model.dynamics(slow, batch.actions[row : row + 1, k])
            won = torch.sigmoid(paid[0])
            of_reward = -won.log() if batch.rewards[row, k] else -(1 - won).log()
            total = total + 0.5 * 4.0 * of_reward
    return total / len(batch.actions)


def check_loss_of(loss_of):
    torch.manual_seed(0)
    model = Model(9, 9)
    for seed in (0, 1):
        batch = some_batch(seed)
        slopes = []
        for function in (loss_of, plain_loss):
            model.zero_grad()
            loss = function(model, batch)
            loss.backward()
            slopes.append((float(loss.detach()), torch.cat([w.grad.ravel() for w in model.parameters()])))
        (found, slope), (expected, right) = slopes
        assert math.isclose(found, expected, rel_tol=1e-4), f"expected {expected:.5f}, found {found:.5f}"
        np.testing.assert_allclose(
            slope, right, rtol=1e-3, atol=2e-5, err_msg="the loss is right, its gradient is not"
        )


EDITS = {
    "never_halved": Edit(
        function="schedule",
        old="max(min(2, left), left // 2)",
        new="left",
        says="never halves: all moves are tried alike to the end",
    ),
    "down_to_one": Edit(
        function="schedule",
        old="max(min(2, left), left // 2)",
        new="max(1, left // 2)",
        says="goes on with a single move: nothing is left to compare it with",
    ),
    "phases_too_few": Edit(
        function="schedule",
        old="np.ceil(",
        new="np.floor(",
        says="rounds the number of phases down",
    ),
    "untried_is_a_draw": Edit(
        function="completed",
        old="mixed[:, None])",
        new="0.0)",
        says="takes a move that was not tried for a draw",
    ),
    "value_alone": Edit(
        function="completed",
        old="mixed[:, None])",
        new="known.values[:, None])",
        says="gives a move that was not tried the network's value alone, whatever the search found",
    ),
    "unweighed": Edit(
        function="completed",
        old="np.maximum(softmax(known.logits), 1e-30)",
        new="1.0",
        says="takes the plain mean of the moves tried, not the prior's",
    ),
    "own_value_lost": Edit(
        function="completed",
        old="(known.values + num_tried * q_hat) / (1.0 + num_tried)",
        new="np.where(num_tried > 0, q_hat, known.values)",
        says="forgets the network's value once a move was tried",
    ),
    "q_times_one": Edit(
        function="raised",
        old="(FIRST_VISITS + most) * Q_SCALE * completed(known)",
        new="completed(known)",
        says="adds Q as it is: the noise drowns it",
    ),
    "own_visits": Edit(
        function="raised",
        old="known.visits.max(axis=1, keepdims=True)",
        new="known.visits",
        says="scales each Q by the move's own visits: what was tried often is raised for that alone",
    ),
    "worst_first": Edit(
        function="raised",
        old="known.logits + (",
        new="known.logits - (",
        says="lowers what is good",
        fails=("never_worse", "lost_second"),
    ),
    "by_the_prior": Edit(
        function="inner_choice",
        old="softmax(raised(known))",
        new="softmax(known.logits)",
        says="follows the prior below the root: what was found there changes nothing",
    ),
    "not_one_more": Edit(
        function="inner_choice",
        old="(1.0 + known.visits.sum(axis=1, keepdims=True))",
        new="np.maximum(known.visits.sum(axis=1, keepdims=True), 1.0)",
        says="forgets the one in the divisor",
    ),
    "highest_chance": Edit(
        function="inner_choice",
        old="(softmax(raised(known)) - shares)",
        new="softmax(raised(known))",
        says="takes the likeliest move each time, however often it was tried",
    ),
    "no_flip": Edit(
        function="back_up",
        old="- values[rows]  # eq. (2)",
        new="+ values[rows]  # eq. (2)",
        says="forgets that the other player moves next: both want the same",
        fails=("never_worse", "lost_second"),
    ),
    "late_reward": Edit(
        function="back_up",
        old="tree.rewards[rows, tree.children[rows, nodes, actions]]",
        new="tree.rewards[rows, nodes]",
        says="pays a move what the move before it earned",
        fails=("lost_second",),
    ),
    "no_reward": Edit(
        function="back_up",
        old="tree.rewards[rows, tree.children[rows, nodes, actions]] - values[rows]",
        new="-values[rows]",
        says="leaves the rewards out: a win in the tree is worth nothing",
    ),
    "values_overwritten": Edit(
        function="back_up",
        old="    values = values.copy()\n",
        new="",
        says="writes over the values that came: the tree's own",
    ),
    "illegal_prior": Edit(
        function="search",
        old="np.where(legal, logits, -1e9)",
        new="logits",
        says="lets illegal moves keep a part of the root's prior",
    ),
    "noise_forgotten": Edit(
        function="search",
        old="gumbels + raised(known), -np.inf)  # eq. (3)",
        new="raised(known), -np.inf)  # eq. (3)",
        says="tries moves without the noise, and adds it only at the end",
        fails=("never_worse",),
    ),
    "any_visits": Edit(
        function="search",
        old="last = legal & (known.visits == known.visits.max(axis=1, keepdims=True))",
        new="last = legal",
        says="plays a move that halving had left behind, or never tried",
    ),
    "not_completed": Edit(
        function="search",
        old="moves, softmax(raised(known))",
        new="moves, known.visits / num_simulations",
        says="teaches shares of visits, as AlphaZero does",
    ),
    "without_noise": Edit(
        function="player",
        old="np.zeros(legal.shape) if rng is None else rng.gumbel(size=legal.shape)",
        new="np.zeros(legal.shape)",
        says="plays without noise: games are nearly all alike",
    ),
    "always_noise": Edit(
        function="player",
        old="np.zeros(legal.shape) if rng is None else rng.gumbel(size=legal.shape)",
        new="np.random.default_rng(0).gumbel(size=legal.shape)",
        says="plays with noise in earnest too, the same each time",
    ),
    "other_side": Edit(
        function="targets",
        old="(lengths - times + 1)",
        new="(lengths - times)",
        says="gives each board the other player's result",
        fails=("lost_second",),
    ),
    "after_the_end": Edit(
        function="targets",
        old="times < lengths, won",
        new="times <= lengths + 9, won",
        says="goes on counting the result after the end: a win is paid twice",
    ),
    "reward_too_late": Edit(
        function="targets",
        old="(times + 1 == lengths)",
        new="(times == lengths)",
        says="pays the win one move late",
        fails=("lost_second",),
    ),
    "draws_pay": Edit(
        function="targets",
        old="won & (times",
        new="(won >= 0) & (times",
        says="pays for the last move of a draw, too",
    ),
    "no_pictures": Edit(
        function="train",
        old="turned(game, batch, rng.integers(8, size=BATCH))",
        new="batch",
        says="shows every game as it was played, never turned or mirrored",
    ),
    "full_gradient": Edit(
        function="loss_of",
        old="        x = x / 2 + x.detach() / 2  # eq. (9)\n",
        new="",
        says="lets gradients from far ahead through whole",
    ),
    "cut_gradient": Edit(
        function="loss_of",
        old="x / 2 + x.detach() / 2",
        new="x.detach()",
        says="lets no gradient back through a move: the dynamics learn one step only",
    ),
    "tied_latents": Edit(
        function="loss_of",
        old="    later = (of_policy + of_value)[:, 1:] + REWARD_WEIGHT * of_reward\n",
        new="""    came = model.represent(batch.planes[:, 1:]).detach()
    later = (of_policy + of_value)[:, 1:] + REWARD_WEIGHT * of_reward
    later = later + 1 - (all_latents[:, 1:] * came).mean(dim=2)
""",
        says="asks, as EfficientZero does, that an imagined latent be the one of the board that came",
    ),
    "random_taught": Edit(
        function="loss_of",
        old="-batch.thought * (",
        new="-(",
        says="learns policies where no search was",
    ),
    "random_values": Edit(
        function="loss_of",
        old="batch.known * (values",
        new="(values",
        says="learns the results of random moves",
    ),
    "reward_weighs_one": Edit(
        function="loss_of",
        old="REWARD_WEIGHT * of_reward",
        new="of_reward",
        says="forgets the weight of the rewards",
    ),
    "all_weigh_one": Edit(
        function="loss_of",
        old="later.sum(dim=1) / 2",
        new="later.sum(dim=1)",
        says="gives later steps the weight of the first",
    ),
}
