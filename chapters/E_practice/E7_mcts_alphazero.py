# %% [markdown]
r"""
# E7 · Search, a network in the search, and self-play

**Question.** A player who knows the rules can look ahead, but never far enough. How far do a network that
guesses and a search that corrects it carry each other, with nobody to teach them but themselves?

**Before this:** B0 (confidence bounds), C1 (policy and value networks), B7 (planning). **Changes from B7:**
the model is the rules of a game, and planning looks only at what may come from *here*. **Next:** E2.

**Time.** 30 s on 2 cores; with all evidence 120 s.

References: `coulom2006mcts`, `kocsis2006uct`, `auer2002finite`, `rosin2011puct`, `silver2016alphago`,
`silver2017alphagozero`, `silver2018alphazero`, `wang2023adversarial`.

Symbols: $s$ a board as the player to move sees it, $v(s)$ what it is worth to that player; $N(s, a)$ and
$W(s, a)$ how often a search tried move $a$ and what that earned in sum, $P(s, a)$ the network's chance of it,
$c$ a weight, $\pi$ shares of the visits, $z$ how the game ended; `A` moves, `N` boards side by side.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from chapters.envs.boards import LineGame, all_pictures, opened, tic_tac_toe
from chapters.exact import games, trees
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.networks import in_numpy, tanh_mlp
from chapters.utils.optim import Adam

NOISE, WIDTH, LEARNING_RATE = 0.25, 128, 3e-3  # noise's share of a root's prior; units of both hidden layers
WINDOW, BATCH = 8, 256  # rounds whose boards are learned from, and boards of a gradient step
Boards = Int[np.ndarray, "N 2"]  # the player to move's stones, then the other's: a bit for each cell
PerMove = Float[np.ndarray, "N A"]  # a number for each move of each board
Guide = Callable[[Boards], tuple[PerMove, np.ndarray]]  # boards -> (prior, values to the player to move)


@dataclass(frozen=True)
class Config:
    """Self-play at tic-tac-toe."""

    seed: int = 0
    """Seed of the network's first weights and of everything random in self-play."""
    num_iterations: Annotated[int, in_range(1, 10_000)] = 16
    """Rounds of self-play, each followed by updates."""
    num_games: Annotated[int, in_range(1, 10_000)] = 128
    """Games of a round, side by side."""
    most_random: Annotated[int, in_range(0, 50)] = 5
    """A game opens with 0 to this many random moves, each number as likely."""
    num_simulations: Annotated[int, in_range(2, 10_000)] = 24
    """Paths that a search walks before each move of self-play."""
    num_playing: Annotated[int, in_range(2, 10_000)] = 100
    """The same where the agent plays in earnest."""
    explore: Annotated[float, in_range(0.01, 100.0)] = 1.5
    """c, the weight of what was tried little."""
    num_updates: Annotated[int, in_range(1, 10_000)] = 150
    """Gradient steps of a round."""


SMOKE = {"num_iterations": 2, "num_games": 8, "num_simulations": 6, "num_playing": 6, "num_updates": 3}

# %% [markdown]
r"""
## 1. Whose value?

Two players lay stones in turns; at tic-tac-toe three in a line win. A board is stored as **the player to
move** sees it: its own stones first. After a move the sides change places, so one network can play both
colours. A value is what a board brings the player to move, from $-1$ to 1; the other gets its negative:

$$v(s) = \max_a -v(s_a), \qquad v(s) = -1 \text{ or } 0 \text{ if the game has ended in } s, \tag{1}$$

with $s_a$ the board after move $a$, seen by the *other*. An ended game is never worth $+1$: only a last move
makes a line, so whoever would be next has lost, or nobody has. `chapters/exact` solves (1) for all 5,478
boards of tic-tac-toe, the full ones first. Three bits are a column; here each player has two stones in one:

```python
>>> own, other = 0b000_000_011, 0b000_011_000
>>> games.solve(tic_tac_toe()).of(np.array([[own, other]]))[0]  # nan: taken; a win, a draw, three losses
array([nan, nan,  1., nan, nan,  0., -1., -1., -1.])
```

## 2. Monte Carlo tree search: a bandit at every board

**Monte Carlo tree search** (MCTS, `coulom2006mcts`) grows a tree of boards from the one at hand, its root,
and only where that matters. A **simulation** adds one board: *walk* down, always by the move with the highest
score, until a board is new; *evaluate* it; *back up* its value. At each board the moves are a bandit's arms
(B0). Upper confidence bounds for trees (UCT, `kocsis2006uct`) score them as `auer2002finite` does,

$$\frac{W(s, a)}{N(s, a)} + c\, \sqrt{\frac{\ln \sum_b N(s, b)}{N(s, a)}}, \tag{2}$$

infinite for a move not tried yet. The new board, a leaf, is evaluated by a **rollout**: both play at random
to the end, which says how good a board is for random players. On the way up the sign changes at every step:
if the leaf is worth $v$ to the player to move there, the $k$-th move above it ($k = 1$ led to it) gets

$$N(s, a) \leftarrow N(s, a) + 1, \qquad W(s, a) \leftarrow W(s, a) + (-1)^k v. \tag{3}$$

## 3. A network in the search

UCT must try each move of a board before it can prefer one; a strong player looks at few. Let a network say
how likely each move is to be the best, the **prior** $P(s, a)$, and, in place of a rollout, what the board is
worth. PUCT (predictor and UCT: `rosin2011puct`, in the form of `silver2017alphagozero`) scores moves by

$$\frac{W(s, a)}{N(s, a)} + c P(s, a) \frac{\sqrt{N(s)}}{1 + N(s, a)}, \; N(s) = 1 + \sum_b N(s, b), \tag{4}$$

with 0, a draw, as the mean of a move not tried. $N(s)$ counts the board's visits, the first one too. The sum
alone, which that paper has, is 0 at first, and then so is the prior's term. A hopeless move needs no try.

```python
>>> prior, visits, totals = np.array([[[0.5, 0.25, 0.25]], [[2, 0, 1]], [[1, 0, -1]]])
>>> puct(prior, visits, totals, c=1.0)  # 1/2 + 1/2 * 2/3, 0 + 1/4 * 2/1, -1 + 1/4 * 2/2
array([[ 0.83333333,  0.5       , -0.75      ]])
```
"""


# %%
def ucb(prior: PerMove, visits: PerMove, totals: PerMove, c: float) -> PerMove:
    """Scores of UCT, eq. (2); it has no use for a prior."""
    tried = np.maximum(visits, 1.0)
    bonus = np.sqrt(np.log(np.maximum(visits.sum(axis=1, keepdims=True), 1.0)) / tried)
    return np.where(visits > 0, totals / tried + c * bonus, np.inf)  # eq. (2)


def puct(prior: PerMove, visits: PerMove, totals: PerMove, c: float) -> PerMove:
    """Scores with a prior, eq. (4)."""
    times_here = 1.0 + visits.sum(axis=1, keepdims=True)
    return totals / np.maximum(visits, 1.0) + c * prior * np.sqrt(times_here) / (1.0 + visits)  # eq. (4)


class Tree:
    """What N searches side by side know: `num_nodes` positions each, the root at 0."""

    def __init__(self, game: LineGame, num_boards: int, num_nodes: int) -> None:
        shape = (num_boards, num_nodes)
        self.boards = np.zeros((*shape, 2), dtype=np.int64)
        self.values = np.zeros(shape)  # to the player to move there
        self.children = np.full((*shape, game.num_actions), -1)  # the node behind a move; -1: none yet
        self.legal = np.zeros(self.children.shape, dtype=bool)  # all False where the game has ended
        self.prior, self.visits, self.totals = np.zeros((3, *self.children.shape))


def put(tree: Tree, game: LineGame, rows: np.ndarray, node: int, boards: Boards, guide: Guide) -> None:
    """Make these boards a node of the trees `rows`; the guide evaluates them, or the rules if ended."""
    tree.prior[rows, node], guessed = guide(boards)
    tree.boards[rows, node], tree.legal[rows, node] = boards, game.legal(boards)
    tree.values[rows, node] = np.where(game.ended(boards), game.outcomes(boards), guessed)


def walk(tree: Tree, rule: Callable, c: float) -> list[tuple[np.ndarray, ...]]:
    """From the roots to new boards or ended games. Each step down: (trees, nodes, actions)."""
    rows, path = np.arange(len(tree.boards)), []
    nodes = np.zeros_like(rows)
    while len(rows):
        scores = rule(tree.prior[rows, nodes], tree.visits[rows, nodes], tree.totals[rows, nodes], c)
        actions = np.where(tree.legal[rows, nodes], scores, -np.inf).argmax(axis=1)
        path.append((rows, nodes, actions))
        after = tree.children[rows, nodes, actions]  # -1: the walk has come to something new
        goes_on = (after >= 0) & tree.legal[rows, after].any(axis=1)
        rows, nodes = rows[goes_on], after[goes_on]
    return path


def back_up(visits: np.ndarray, totals: np.ndarray, path: list, values: Float[np.ndarray, " N"]) -> None:
    """Credit every move of the paths, in both tables, with its leaf's value to whoever made it."""
    values = values.copy()
    for rows, nodes, actions in reversed(path):
        values[rows] = -values[rows]  # eq. (3): one step up the other player chose
        visits[rows, nodes, actions] += 1.0
        totals[rows, nodes, actions] += values[rows]


def search(
    game, boards: Boards, guide: Guide, num_simulations: int, c: float, rule=puct, noise=0.0, rng=None
) -> PerMove:
    """How often each move of each board was tried; `noise` is its share in the root's prior, eq. (6)."""
    tree = Tree(game, len(boards), num_simulations + 1)
    every = np.arange(len(boards))
    put(tree, game, every, 0, boards, guide)
    if noise:
        tree.prior[:, 0] = noisy(tree.prior[:, 0], tree.legal[:, 0], noise, rng)
    last_nodes, last_actions = np.zeros_like(every), np.zeros_like(every)
    for new_node in range(1, num_simulations + 1):
        path = walk(tree, rule, c)
        for rows, nodes, actions in path:  # what comes later on a path overwrites what came before
            last_nodes[rows], last_actions[rows] = nodes, actions
        leaves = tree.children[every, last_nodes, last_actions]
        new = np.flatnonzero(leaves < 0)  # the others came again to a game that has ended
        nodes, actions = last_nodes[new], last_actions[new]
        tree.children[new, nodes, actions] = leaves[new] = new_node
        put(tree, game, new, new_node, game.play(tree.boards[new, nodes], actions), guide)
        back_up(tree.visits, tree.totals, path, tree.values[every, leaves])
    return tree.visits[:, 0]


# %% [markdown]
r"""
## 4. Self-play: the search teaches the network

AlphaGo (`silver2016alphago`) began with games of people and used rollouts. AlphaGo Zero
(`silver2017alphagozero`) dropped both; AlphaZero (`silver2018alphazero`) went on to chess and shogi. Search
plays both sides. Moves are drawn in proportion to the *square* of their visits: games differ, but careless
moves are few. The **policy** learns what search made of it, the shares $\pi(a) = N(s, a) / \sum_b N(s, b)$.
The **value** learns how the game ended for the player to move: if $l$ moves led from $s$ to the end,

$$z(s) = (-1)^l\, v(s_\text{end}), \qquad L = -\sum_a \pi(a) \ln P(s, a) + (v(s) - z)^2. \tag{5}$$

A better network makes a better search, and a better search teaches a better network. But what is never played
is never learnt. Two things keep the circle wide. The prior of each search's *root* is mixed with **noise**,

$$P(s, a) \leftarrow (1 - \epsilon) P(s, a) + \epsilon\, \xi(a), \; \xi \sim \text{Dirichlet}(1), \tag{6}$$

where $\xi$ is as likely to be one list of shares (none negative, of legal moves only, with the sum 1) as any
other: now and then a move gets a chance that the network would not give it. And most games open with **random
moves**, so that boards come up which good players avoid. Each board is learned mirrored and turned as well,
where the game allows it. In earnest there is no noise, and the most visited move is played.
"""


# %%
def results(game: LineGame, boards: Boards, ends: Boards) -> Float[np.ndarray, " N"]:
    """How each game ended, to the player who is to move on the earlier board."""
    num_moves = game.num_stones(ends) - game.num_stones(boards)
    return (-1.0) ** num_moves * game.outcomes(ends)  # eq. (5), left


def noisy(prior: PerMove, legal: Bool[np.ndarray, "N A"], share: float, rng: np.random.Generator) -> PerMove:
    """The prior with Dirichlet noise over the legal moves: exponential numbers, divided by their sum."""
    xi = np.where(legal, rng.exponential(size=legal.shape), 0.0)
    return (1 - share) * prior + share * xi / xi.sum(axis=1, keepdims=True)  # eq. (6)


def guide_of(game: LineGame, network: torch.nn.Sequential) -> Guide:
    """The network as a guide; it follows the weights as they change."""
    forward = in_numpy(network)

    def guide(boards: Boards) -> tuple[PerMove, np.ndarray]:
        outputs = forward(game.planes(boards)).astype(float)  # [N, A + 1], the last one for the value
        logits = np.where(game.legal(boards), outputs[:, :-1], -1e9)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return chances / chances.sum(axis=1, keepdims=True), np.tanh(outputs[:, -1])

    return guide


def loss_of(outputs: Float[torch.Tensor, "M A1"], legal, shares, ends) -> torch.Tensor:
    """Mean loss of M boards' outputs, given what is legal [M, A], shares of visits [M, A] and results [M]."""
    log_probs = outputs[:, :-1].masked_fill(~legal, -1e9).log_softmax(dim=1)
    values = torch.tanh(outputs[:, -1])
    return (-(shares * log_probs).sum(dim=1) + (values - ends) ** 2).mean()  # eq. (5), right


def self_play(game: LineGame, guide: Guide, cfg: Config, rng) -> tuple[Boards, PerMove, np.ndarray]:
    """(boards, shares of the visits, results): all boards of a round's games, random openings left out."""
    now = opened(game, cfg.num_games, cfg.most_random, rng)
    going, boards, shares, of_game = np.arange(len(now)), [], [], []
    while len(going):
        visits = search(game, now[going], guide, cfg.num_simulations, cfg.explore, noise=NOISE, rng=rng)
        boards.append(now[going])
        shares.append(visits / visits.sum(axis=1, keepdims=True))
        of_game.append(going)
        sharper = (visits**2).cumsum(axis=1)
        actions = (sharper > sharper[:, -1:] * rng.random((len(going), 1))).argmax(axis=1)
        now[going] = game.play(now[going], actions)
        going = going[~game.ended(now[going])]
    boards, ends = np.concatenate(boards), now[np.concatenate(of_game)]
    return boards, np.concatenate(shares), results(game, boards, ends)


def train(game: LineGame, cfg: Config, log: RunLog, check: Callable[[int, Guide], None]) -> Guide:
    """Self-play and updates in turns; `check(iteration, guide)` looks at what has been learnt by then."""
    seed_everything(cfg.seed)
    network = tanh_mlp([2 * game.num_cells, WIDTH, WIDTH, game.num_actions + 1], last_gain=0.1)
    guide, rng, played = guide_of(game, network), np.random.default_rng(cfg.seed), []
    optimizer = Adam(network.parameters(), LEARNING_RATE)
    check(0, guide)
    for iteration in log.track(range(cfg.num_iterations), "round"):
        played = [*played, self_play(game, guide, cfg, rng)][-WINDOW:]
        boards, shares, ends = (np.concatenate(part) for part in zip(*played))
        boards, shares = all_pictures(game, boards, shares)  # mirrored and turned, ends stay the same
        ends = np.tile(ends, len(boards) // len(ends))
        planes, legal = torch.from_numpy(game.planes(boards)), torch.from_numpy(game.legal(boards))
        shares, ends = torch.from_numpy(shares).float(), torch.from_numpy(ends).float()
        optimizer.lr = LEARNING_RATE * (1 - 0.9 * iteration / cfg.num_iterations)
        for _ in range(cfg.num_updates):
            rows = torch.from_numpy(rng.integers(len(boards), size=BATCH))
            loss = loss_of(network(planes[rows]), legal[rows], shares[rows], ends[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        check(iteration + 1, guide)
    return guide


# %% [markdown]
r"""
## 5. Does it ever lose?

Wins against a few opponents prove little. Tic-tac-toe is small enough for **every** opponent: the agent moves
where it is its turn, and *all* legal replies are played where it is not. Each sequence of replies is one
**line**; whoever could beat the agent would do so in one. Besides, (1) says which moves are best. We count
how often one is found on **decisive** boards, where some legal move is worth less than another: 60 for each
number of stones, or all if fewer, lest the many late ones drown the early ones.

![The search finds best moves more often than the network in it](results/E7.png)

The search, of 24 simulations, is ahead of its network from the start: even with an untrained one it sees wins
and losses within reach. The network learns from that lead; better guesses then let search look further.

![Connect-4 on 4 x 4: net, search, plain search; tic-tac-toe: lines lost](results/E7_others.png)

**Left**, Connect-4 on 4 x 4 cells, all 161,029 boards solved. Here the network stays far below its search:
what lies many moves deep is easier to find than to guess. *Plain* is tree search by (2) with rollouts.
**Right**, lines lost at tic-tac-toe: plain search loses some, the trained network none, even alone. Not
drawn: without random openings the agent finds fewer best moves. On film the solver (orange) sets traps:
![At Connect-4, against an untrained network, a trained one, and the search with it](results/E7_film.gif)

**The verdict.** Far enough to lose to nobody, where that can be tried: from the rules alone, in 2,048 games,
they learn to lose no line of tic-tac-toe with 100 simulations. In the larger game each is weaker alone: the
network finds fewer best moves, and so does search with rollouts, in four times as many simulations.

<!-- results: E7 -->

`rl run E7`: 18 s; with `--evidence`: 51 s, 813 MB; with `--smoke --evidence`: 8 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| visits_gap                   | 0                          | ≤ 0      | 5/5 |
| lost_first                   | 0                          | ≤ 0      | 5/5 |
| lost_second                  | 0                          | ≤ 0      | 5/5 |
| two_solvers *                | 0                          | ≤ 0      | 5/5 |
| num_positions *              | 5,478                      | 5478 ± 0 | 5/5 |
| published_counts *           | 0                          | ≤ 0      | 5/5 |
| search_gain *                | 0.0108 (0.00813 to 0.0163) | ≥ 0      | 5/5 |
| openings_gain *              | 0.0271 (0.0136 to 0.0434)  | ≥ 0      | 5/5 |
| connect_search_gain *        | 0.231 (0.217 to 0.286)     | ≥ 0      | 5/5 |
| quarter_of_the_simulations * | 0.0786 (0.0549 to 0.105)   | ≥ 0      | 5/5 |
| learned_gain *               | 0.208 (0.175 to 0.231)     | ≥ 0      | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `visits_gap`: searches side by side try each move as often as one plain tree does by (2) to (4) (visits,
  largest difference)
- `lost_first`: moving first, the agent loses no line, whatever the opponent replies (lines lost, of all there
  are)
- `lost_second`: moving second, the agent loses no line, whatever the opponent replies (lines lost, of all
  there are)
- `two_solvers`: the solver, ply by ply on bits, agrees with plain minimax on every board of tic-tac-toe
  (largest difference of a value, and boards missed)
- `num_positions`: play can reach so many boards of tic-tac-toe (boards)
- `published_counts`: Connect-4 on 7 x 6 has as many boards after 0 to 6 plies as are published (boards,
  largest difference)
- `search_gain`: at tic-tac-toe the search finds a best move more often than the network in it does alone (of
  decisive boards, difference)
- `openings_gain`: trained with random openings, the search finds a best move more often than trained without
  (of decisive boards, difference)
- `connect_search_gain`: at Connect-4 the search finds a best move more often than its network alone, at every
  check (of decisive boards, smallest difference)
- `quarter_of_the_simulations`: and more often than plain tree search with four times as many simulations, at
  the end (of decisive boards, difference)
- `learned_gain`: training makes the search better than it was with an untrained network (of decisive boards,
  difference)
</details>

<!-- /results -->

**Break it.** `rl break E7 no_flip`: both want the same. `rl break E7 values_upside_down`: it seeks to lose.

**Exercises.**

<!-- exercises: E7 -->

*E7.1 · The heart of it* (30 minutes, medium). Write both scores, (2) and (4), and the way back up a path,
(3). Whose value is it at each step? `rl exercise E7.ucb`, `rl exercise E7.puct`, `rl exercise E7.back_up`.

*E7.2 · What self-play teaches* (25 minutes, medium). Write the results and the loss of (5), and the noise of
(6). `rl exercise E7.results`, `rl exercise E7.noisy`, `rl exercise E7.loss_of`.

*E7.3 · Twice the games for nothing* (15 minutes, easy). Connect-4 does not know left from right: from each
board that was played one may learn twice, from itself and from what a mirror shows. With $h$ cells a column
and $W$ columns,

$$\text{bit } k\, h + r \;\to\; \text{bit } (W - 1 - k)\, h + r, \quad \pi(k) \to \pi(W - 1 - k), \tag{E1}$$

for column $k$ and row $r$, both counted from 0. Write it for many boards at once. How many such pictures of
one board has tic-tac-toe? `rl exercise E7.mirrored`.

<details><summary>Answer</summary>

Eight: four turns, each with its mirror image. Up to these, tic-tac-toe has 765 boards in place of 5,478.
AlphaGo Zero learned from all eight pictures of a Go board (`silver2017alphagozero`); AlphaZero did without,
since chess has none.
</details>

*E7.4 · What exhaustion says, and what not* (10 minutes, easy). The agent of tic-tac-toe lost no line. Has it
found a best move on every board? May you put a search of 24 simulations in place of its 100, or the network
alone? And what do you know of an agent of Go that has won a thousand games in a row?

<details><summary>Answer</summary>

No: it was asked only on boards that its own moves lead to, a small part of all. Elsewhere it may still err,
and a win that it overlooks loses no line. A search of 24 simulations is another agent, and must be tried
against every reply itself. At Connect-4 on 4 x 4 cells the lesson's agent loses no line on four of five
recorded seeds, and 6 of 4,878 on the fifth: one weak board on the way is enough. Of Go's agent you know
that those opponents did not find the line that beats it. `wang2023adversarial` trained opponents that beat
an agent far above all people, though they lose to amateurs.
</details>

*E7.5 · Find the bug* (10 minutes). `rl exercise E7.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def agent(game: LineGame, guide: Guide, num_simulations: int, c: float) -> Callable:
    """What is played in earnest: boards -> the moves with the most visits."""
    return lambda boards: search(game, boards, guide, num_simulations, c).argmax(axis=1)


def claim_visits(game: LineGame, guide: Guide, cfg: Config, log: RunLog) -> None:
    boards, gaps = opened(game, 4, 4, np.random.default_rng(cfg.seed)), []
    for name, rule in (("ucb", ucb), ("puct", puct)):
        for board, found in zip(boards, search(game, boards, guide, 40, cfg.explore, rule)):
            gaps.append(found - trees.count_visits(game, board[None], guide, 40, name, cfg.explore))
    log.claim(
        "visits_gap",
        "searches side by side try each move as often as one plain tree does by (2) to (4)",
        np.abs(gaps).max(),
        at_most=0.0,
        unit="visits, largest difference",
        source="the definition, one board at a time in plain Python",
        always=True,
    )


def main(cfg: Config, log: RunLog) -> None:
    game = tic_tac_toe()
    boards, q = games.even_sample(games.solve(game), 60, np.random.default_rng(0))

    def check(iteration: int, guide: Guide) -> None:
        if iteration & (iteration - 1) and iteration != cfg.num_iterations:
            return  # after 0, 1, 2, 4, 8, ... rounds, and at the end
        for name, num in (("alone", 1), ("with_search", cfg.num_simulations)):
            choose = agent(game, guide, num, cfg.explore)  # one simulation: the network's likeliest move
            lost = sum(games.exhaust(game, choose, seat).lost for seat in (0, 1))
            best = games.share_best(q, choose(boards))
            log.write(iteration * cfg.num_games, **{f"best_{name}": best, f"lost_{name}": lost})

    guide = train(game, cfg, log, check)
    claim_visits(game, guide, cfg, log)
    in_earnest = agent(game, guide, cfg.num_playing, cfg.explore)
    for seat, name in enumerate(("first", "second")):
        log.claim(
            f"lost_{name}",
            f"moving {name}, the agent loses no line, whatever the opponent replies",
            games.exhaust(game, in_earnest, seat).lost,
            at_most=0.0,
            unit="lines lost, of all there are",
            source="every legal reply is played; with best play the game is a draw",
        )
    log.keep(guide=guide)
    draw([log.metrics], log)


def draw(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    for name, color in (("alone", plotting.ORANGE), ("with_search", plotting.BLUE)):
        rows = np.array([run[f"best_{name}"] for run in runs])  # [runs, checks, (games, share)]
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], f"network {name.replace('_', ' ')}", color)
    ax.set(xlabel="games of self-play", ylabel="share of decisive boards", ylim=(0, 1), title="Best moves")
    ax.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
