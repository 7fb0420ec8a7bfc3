# %% [markdown]
r"""
# E8 · Search without the rules

**Question.** Tree search asks the rules what a move leads to. If nobody gives them, can a model learned from
played games take their place, and how good must it be, and where?

**Before this:** E7 (search and self-play). **Changes from E7:** the search looks into a learned model, and
the move is the best by noise, logit and value together, no longer by visits alone. **Next:** E2.

**Time.** 60 s on 2 cores; with all evidence 80 s.

References: `schrittwieser2020muzero`, `grimm2020value`, `danihelka2022gumbel`, `karnin2013halving`,
`ye2021efficientzero`.

Symbols: $s$ a board as the player to move sees it, $x$ a latent, $D$ numbers; $h, g, f$ three networks;
$r_{t+1}$ what the move at $t$ paid to who made it; $v, z$ a value guessed and found; $P$ chances of moves,
$l$ their logits; $N, Q$ visits and the mean of what they brought; $G$ Gumbel noise; `A` moves, `N` boards.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from chapters.envs.boards import LineGame, tic_tac_toe
from chapters.envs.latent_trees import Known, LatentModel, Path, Tree, normalised, softmax
from chapters.envs.played_games import Batch, Games, drawn_lines, play_games, turned
from chapters.exact import games, trees
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

LATENT, WIDE, HIDDEN = 64, 128, 256  # D; units inside h and f, and inside g
LEARNING_RATE, BATCH, WINDOW = 3e-3, 128, 6  # boards of a gradient step; rounds that are learned from
FIRST_VISITS, Q_SCALE, REWARD_WEIGHT = 50, 0.1, 4.0  # of eq. (3), as mctx has them; of eq. (8)
PerMove = Float[np.ndarray, "N A"]  # a number for each move of each board


@dataclass(frozen=True)
class Config:
    """Self-play at tic-tac-toe, its rules unknown."""

    seed: int = 0
    """Seed of the networks' first weights and of everything random in self-play."""
    num_iterations: Annotated[int, in_range(1, 10_000)] = 14
    """Rounds of self-play, each followed by updates."""
    num_games: Annotated[int, in_range(1, 100_000)] = 512
    """Games of a round, side by side."""
    most_random: Annotated[int, in_range(0, 9)] = 6
    """A game opens with 0 to this many random moves, each number as likely."""
    num_simulations: Annotated[int, in_range(1, 10_000)] = 16
    """Paths that a search walks before each move of self-play."""
    num_playing: Annotated[int, in_range(1, 10_000)] = 64
    """The same where the agent plays in earnest."""
    num_updates: Annotated[int, in_range(1, 10_000)] = 150
    """Gradient steps of a round."""
    num_unrolled: Annotated[int, in_range(1, 9)] = 5
    """K, moves that the model is unrolled along in training."""


SMOKE = {"num_iterations": 2, "num_games": 8, "num_simulations": 5, "num_playing": 5, "num_updates": 2}

# %% [markdown]
r"""
## 1. Three functions in place of the rules

MuZero (`schrittwieser2020muzero`) is E7's agent with its rules taken away. It is told which moves are legal
on the board before it, and after a game what each move was paid: 1 if it won, else 0. The rest it makes up:

$$x_0 = h(s), \qquad (x_{k+1}, r_{k+1}) = g(x_k, a_k), \qquad (P_k, v_k) = f(x_k). \tag{1}$$

The **representation** $h$ turns a board into a latent $x$; the **dynamics** $g$ say to which latent a move
leads and what it is paid; the **prediction** $f$ says which moves are likely to be best, and what the rest of
the game is worth. As sides change, a move is worth $r_{k+1} - v_{k+1}$. (In E7 an ended game was worth $-1$
to the loser; here the winner has been paid, and what comes is worth 0.) A latent need not be a picture of the
board. A model that gives the right $r$, $P$ and $v$, now and after any moves, is as good as the world for all
that planning asks: it is **value equivalent** (`grimm2020value`). `normalised` keeps latents at one size.
"""


# %%
class Model(LatentModel):
    """Representation, dynamics and prediction, eq. (1)."""

    def __init__(self, num_cells: int, num_actions: int) -> None:
        super().__init__()
        self.see, self.seen = torch.nn.Linear(2 * num_cells, WIDE), torch.nn.Linear(WIDE, LATENT)
        self.act, self.acted = torch.nn.Linear(LATENT + num_actions, HIDDEN), torch.nn.Linear(HIDDEN, LATENT)
        self.paid = torch.nn.Linear(HIDDEN + LATENT, 1)
        self.judge, self.judged = torch.nn.Linear(LATENT, WIDE), torch.nn.Linear(WIDE, num_actions + 1)
        self.num_actions = num_actions

    def represent(self, planes: Float[torch.Tensor, "*N C2"]) -> Float[torch.Tensor, "*N D"]:
        return normalised(self.seen(F.relu(self.see(planes))))

    def dynamics(self, latents: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(the next latents [N, D], logits of the chance that the move won [N])."""
        hidden = F.relu(self.act(torch.cat([latents, F.one_hot(actions, self.num_actions)], dim=1)))
        after = normalised(self.acted(hidden))
        return after, self.paid(torch.cat([hidden, after], dim=1))[:, 0]

    def predict(self, latents: Float[torch.Tensor, "N D"]) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits of moves [N, A], values [N])."""
        outputs = self.judged(F.relu(self.judge(latents)))
        return outputs[:, :-1], torch.tanh(outputs[:, -1])


# %% [markdown]
r"""
## 2. A search that cannot make things worse

The tree is E7's, of latents. Rules are asked once, what is legal at the *root*; below it the model must know.
What is worth $y$ to the player to move is worth $r - y$ to whoever made the move that led there:

$$y \leftarrow r - y, \;\; N(a) \leftarrow N(a) + 1, \;\; W(a) \leftarrow W(a) + y, \;\; Q = W / N. \tag{2}$$

With few simulations E7's PUCT (predictor and UCT, upper confidence bounds for trees) judges poorly: play by
its visits can be *worse* than by the prior it began with. `danihelka2022gumbel` choose otherwise. Draw a
number $G(a)$ for each move from the Gumbel distribution. The largest $G(a) + l(a)$ is then a draw from
$P = \text{softmax}(l)$, the $m$ largest $m$ draws without putting back. Try those, here all; play the best by

$$G(a) + l(a) + \sigma(Q(a)), \qquad \sigma(q) = (50 + \max_b N(b))\, 0.1\, q. \tag{3}$$

**It never does worse than the prior, draw by draw.** Let $A_1$ be the prior's draw and $A$ the winner. By the
first two terms $A$ is not ahead of $A_1$, by all three not behind: so $Q(A)$, which $\sigma$ only stretches,
is $Q(A_1)$ or more. Where $Q$ is right, no draw is worse than the prior's.

**Sequential halving** (`karnin2013halving`) shares out $n$ simulations: $\lceil \log_2 m \rceil$ phases get
as many each; in one all moves left are tried equally often, once at least; the better half by (3), two at
least, goes on, and the argument holds for each half. In a list: the visits that a move must have to be next.

```python
>>> schedule(4, 8)  # four moves once; the better two of them twice more
[0, 0, 0, 0, 1, 1, 2, 2]
```

What is not tried gets the mean of what is known: of the network's $v$, and of the moves tried, weighed by the
prior. Such **completed** values make a better policy $\pi$, which is what the network learns:

$$\bar Q(a) = Q(a) \text{ or } \frac{v + \sum_b N(b)\; \hat q}{1 + \sum_b N(b)}, \quad
\hat q = \frac{\sum_{b: N(b) > 0} P(b) Q(b)}{\sum_{b: N(b) > 0} P(b)}, \tag{4}$$

$$\pi = \text{softmax}(l + \sigma(\bar Q)). \tag{5}$$

Below the root, without noise, visits are kept close to this policy by the move with the largest

$$\pi(a) - N(a) \,/\, (1 + \textstyle\sum_b N(b)). \tag{6}$$

```python
>>> visits, totals = np.array([[2.0, 0, 1]]), np.array([[1.0, 0, -1]])
>>> completed(Known(np.zeros((1, 3)), visits, totals, np.array([0.4])))  # q-hat -1/4; (0.4 - 3/4) / 4
array([[ 0.5   , -0.0875, -1.    ]])
```
"""


# %%
def schedule(num_considered: int, num_simulations: int) -> list[int]:
    """Sequential halving: how many visits the moves have among which each simulation chooses."""
    phases = max(1, int(np.ceil(np.log2(num_considered))))
    visits, left, needed = 0, num_considered, []
    while len(needed) < num_simulations:
        times = max(1, num_simulations // (phases * left))
        needed += [visits + time for time in range(times) for _ in range(left)]
        visits, left = visits + times, max(min(2, left), left // 2)
    return needed[:num_simulations]


def completed(known: Known) -> PerMove:
    """Q of the moves that were tried, and for all others the mean of what is known, eq. (4)."""
    tried = known.visits > 0
    q = known.totals / np.maximum(known.visits, 1.0)
    weights = np.where(tried, np.maximum(softmax(known.logits), 1e-30), 0.0)
    q_hat = (weights * q).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-30)
    num_tried = known.visits.sum(axis=1)
    mixed = (known.values + num_tried * q_hat) / (1.0 + num_tried)  # eq. (4), right
    return np.where(tried, q, mixed[:, None])


def raised(known: Known) -> PerMove:
    """Logits of the better policy, l + sigma of the completed Q: eq. (3) without its noise, and (5)."""
    most = known.visits.max(axis=1, keepdims=True)
    return known.logits + (FIRST_VISITS + most) * Q_SCALE * completed(known)


def inner_choice(known: Known) -> Int[np.ndarray, " N"]:
    """Below the root: the move whose visits are furthest behind the better policy, eq. (6)."""
    shares = known.visits / (1.0 + known.visits.sum(axis=1, keepdims=True))
    return (softmax(raised(known)) - shares).argmax(axis=1)  # eq. (6)


def back_up(tree: Tree, path: Path, values: Float[np.ndarray, " N"]) -> None:
    """Credit every move of the paths with what it was paid and what came after, eq. (2)."""
    values = values.copy()
    for rows, nodes, actions in reversed(path):
        values[rows] = tree.rewards[rows, tree.children[rows, nodes, actions]] - values[rows]  # eq. (2)
        tree.visits[rows, nodes, actions] += 1.0
        tree.totals[rows, nodes, actions] += values[rows]


def search(model, seen, legal, num_simulations: int, gumbels: PerMove) -> tuple[np.ndarray, PerMove, PerMove]:
    """(moves to play, the better policy, visits of the root). `model` has `look` and `imagine`."""
    latents, logits, values = model.look(seen)
    tree = Tree(latents, num_simulations + 1, legal.shape[1])
    tree.logits[:, 0], tree.values[:, 0] = np.where(legal, logits, -1e9), values
    every, root = np.arange(len(seen)), np.zeros(len(seen), dtype=int)
    needed = np.array([schedule(max(m, 1), num_simulations) for m in range(legal.shape[1] + 1)])
    for new in range(1, num_simulations + 1):
        known = tree.known(every, root)
        in_turn = legal & (known.visits == needed[legal.sum(axis=1), new - 1][:, None])
        scores = np.where(in_turn, gumbels + raised(known), -np.inf)  # eq. (3)
        path = tree.walk(scores.argmax(axis=1), inner_choice)
        back_up(tree, path, tree.grow(path, new, model))
    known = tree.known(every, root)
    last = legal & (known.visits == known.visits.max(axis=1, keepdims=True))
    moves = np.where(last, gumbels + raised(known), -np.inf).argmax(axis=1)
    return moves, softmax(raised(known)), known.visits  # eq. (5)


# %% [markdown]
r"""
## 3. What the three functions learn from

Self-play goes as in E7, its moves and policies by (3) and (5). From a board at time $t$ the model is
**unrolled** along the $K$ moves that were played, and each imagined step is compared with what happened. With
$w = 1$ if the last of $T$ moves won, else 0,

$$r_{t+1} = w\,[t + 1 = T], \qquad z_t = w\,(-1)^{T - t + 1} \text{ for } t < T, \text{ else } 0: \tag{7}$$

the winner's boards are worth 1, the loser's $-1$. The tree knows no end and walks on past a win, so this is
learned, too: after it moves are drawn at random and bring nothing. With $c_0 = 1$, else $\frac12$, the loss

$$L = \sum_{k=0}^{K} c_k \Bigl[ -\sum_a \pi_{t+k}(a) \ln P_k(a) + (v_k - z_{t+k})^2 \Bigr]
 + 4 \sum_{k=1}^{K} c_k\, H(r_{t+k}, \hat r_k) \tag{8}$$

with $H$ the cross-entropy of $\hat r_k$, the model's chance that the $k$-th move won: a search that misses
wins is lost, so it weighs 4. Gradients from far ahead pass $g$ many times, and are halved each time, by

$$x_k \leftarrow x_k / 2 + \text{stop}(x_k) / 2, \qquad \text{where stop lets none through.} \tag{9}$$

Most games open with random moves, as in E7. Nobody chose them, so they teach rewards, but no $\pi$ (`thought`
is 0) and no $z$ (`known` is 0). Each line is turned or mirrored at random, boards, moves and policies alike.
"""


# %%
def targets(times: np.ndarray, lengths: np.ndarray, won: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values at these times, rewards of the moves there) in games of these lengths, eq. (7)."""
    values = np.where(times < lengths, won * (-1.0) ** (lengths - times + 1), 0.0)
    return values, won & (times + 1 == lengths)  # eq. (7)


def player(game: LineGame, model, num_simulations: int, rng: np.random.Generator | None = None) -> Callable:
    """boards -> (moves, better policies); with Gumbel noise if there is an `rng`, else in earnest."""

    def choose(boards: Int[np.ndarray, "N 2"]) -> tuple[Int[np.ndarray, " N"], PerMove]:
        legal = game.legal(boards)
        gumbels = np.zeros(legal.shape) if rng is None else rng.gumbel(size=legal.shape)
        return search(model, game.planes(boards), legal, num_simulations, gumbels)[:2]

    return choose


def loss_of(model: Model, batch: Batch) -> torch.Tensor:
    """Mean loss of B lines, eq. (8)."""
    x = model.represent(batch.planes[:, 0])
    latents, paid = [x], []
    for k in range(batch.actions.shape[1]):
        x, logits = model.dynamics(x, batch.actions[:, k])
        latents.append(x)
        paid.append(logits)
        x = x / 2 + x.detach() / 2  # eq. (9)
    all_latents = torch.stack(latents, dim=1)  # [B, K + 1, D]
    logits, values = model.predict(all_latents.reshape(-1, LATENT))
    log_probs = logits.log_softmax(dim=1).reshape(batch.policies.shape)
    of_policy = -batch.thought * (batch.policies * log_probs).sum(dim=2)
    of_value = batch.known * (values.reshape(batch.values.shape) - batch.values) ** 2
    of_reward = F.binary_cross_entropy_with_logits(torch.stack(paid, dim=1), batch.rewards, reduction="none")
    here = (of_policy + of_value)[:, 0]
    later = (of_policy + of_value)[:, 1:] + REWARD_WEIGHT * of_reward
    return (here + later.sum(dim=1) / 2).mean()  # eq. (8)


def train(game: LineGame, cfg: Config, log: RunLog, check: Callable[[int, Model], None]) -> Model:
    """Self-play and updates in turns; `check(iteration, model)` looks at what has been learnt by then."""
    seed_everything(cfg.seed)
    model, rng = Model(game.num_cells, game.num_actions), np.random.default_rng(cfg.seed)
    optimizer, rounds = Adam(model.parameters(), LEARNING_RATE), []
    check(0, model)
    for iteration in log.track(range(cfg.num_iterations), "round"):
        openings = rng.integers(cfg.most_random + 1, size=cfg.num_games)
        noisy = player(game, model, cfg.num_simulations, rng)
        rounds = [*rounds, play_games(game, openings, noisy, rng)][-WINDOW:]
        played = Games(*(np.concatenate(part) for part in zip(*rounds)))
        optimizer.lr = LEARNING_RATE * (1 - 0.95 * iteration / cfg.num_iterations)
        for _ in range(cfg.num_updates):
            batch = drawn_lines(game, played, BATCH, cfg.num_unrolled, targets, rng)
            loss = loss_of(model, turned(game, batch, rng.integers(8, size=BATCH)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        check(iteration + 1, model)
    return model


# %% [markdown]
r"""
## 4. Where must a model be right?

![Lines lost during training: the network alone, and with a search of 16 simulations](results/E8.png)

As in E7, every line that an opponent can play against the agent is played, and counted where the agent lost.

![Error of the model on good and random lines; lines lost with one part changed; gains](results/E8_parts.png)

**Left**: two players go on from boards of all kinds, at random or with best moves only; the model imagines
$k$ of those moves, and says whether the last one won. The further it looks the more it errs, most on random
lines: it learned from games of a search that sees threats. **Middle**: training cut short, one part changed,
one seed; *tied* latents are to be as $h$ of the next board (`ye2021efficientzero`). Unrolled one move only,
it loses far more lines. **Right**: with exact values, (3) plays no board worse than its prior; PUCT does.

**The verdict.** It can: told what is legal now, who won, and which boards are alike, it learns in 7,168 games
to lose no line with 64 simulations (with self-play's 16, a few). It errs where good players do not go.

<!-- results: E8 -->

`rl run E8`: 52 s; with `--evidence`: 59 s, 794 MB; with `--smoke --evidence`: 10 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| never_worse       | 0                               | ≤ 0       | 5/5 |
| lost_first        | 0                               | ≤ 0       | 5/5 |
| lost_second       | 0                               | ≤ 0       | 5/5 |
| search_gap *      | 2.22e-16 (2.22e-16 to 4.44e-16) | ≤ 1e-09   | 5/5 |
| worse_on_random * | 0.0361 (0.0274 to 0.0498)       | ≥ 0       | 5/5 |
| values_right *    | 0.211 (0.189 to 0.243)          | ≥ 0       | 5/5 |
| wins_known *      | 0.00291 (0.00142 to 0.00467)    | ≤ 0.5     | 5/5 |
| search_gain *     | 0.0461 (0.0379 to 0.0623)       | ≥ 0       | 5/5 |
| puct_lowers *     | 0.352 (0.328 to 0.39)           | ≥ 0.00271 | 5/5 |
| gumbel_gain *     | 0.263 (0.244 to 0.347)          | ≥ 0       | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `never_worse`: where values are exact, no move of a Gumbel search is worth less than the prior's own draw
  (draws that are worse)
- `lost_first`: moving first, the agent loses no line, whatever the opponent replies (lines lost, of all there
  are)
- `lost_second`: moving second, the agent loses no line, whatever the opponent replies (lines lost, of all
  there are)
- `search_gap`: searches side by side play, prefer and visit as one plain tree does by (2) to (6) (largest
  difference of a visit, a move, or a chance)
- `worse_on_random`: five moves ahead the model is more wrong about wins on random lines than on lines of best
  play (mean error of a chance, difference)
- `values_right`: on all boards the value is nearest to the exact one more often than the commonest value
  would be (of 4,520 boards, difference)
- `wins_known`: one move ahead the model tells a move that wins from one that does not, better than a coin
  (wrong, mean of both kinds of all legal moves)
- `search_gain`: the search of self-play finds a best move more often than the network in it does alone (of
  decisive boards, difference)
- `puct_lowers`: by the shares of two visits of PUCT, values exact, play is worth less than the prior on some
  boards (of decisive boards)
- `gumbel_gain`: a Gumbel search of two simulations, values exact, gains more over the prior than PUCT's
  shares (value, difference of means over decisive boards)
</details>

<!-- /results -->

**Break it.** `rl break E8 no_flip`: both want the same. `rl break E8 late_reward`. `rl break E8 other_side`.

**Exercises.**

<!-- exercises: E8 -->

*E8.1 · The heart of the search* (40 minutes, hard). Write the way back up a path, (2), the completed values,
(4), what the noise is added to, (3), and the choice below the root, (6). Where does the sign change, and
which reward belongs to which move? `rl exercise E8.back_up`, `rl exercise E8.completed`, `rl exercise
E8.raised`, `rl exercise E8.inner_choice`.

*E8.2 · What the three functions learn* (40 minutes, hard). Write the targets of a game, (7), and the loss of
an unrolled line, (8) and (9). What is learned of the moves after the end, and what would a search do without
it? `rl exercise E8.targets`, `rl exercise E8.loss_of`.

*E8.3 · Half of them go on* (20 minutes, medium). Write sequential halving as a list: how many visits a move
must have to be next. How often is each of nine moves tried with 16 simulations, at least and at most? `rl
exercise E8.schedule`.

<details><summary>Answer</summary>

Once and four times. All nine are tried; the better four a second time; the better two of them a third time;
one is left of 16, and goes to the better of the two.
</details>

*E8.4 · Points, coins, or wins* (10 minutes, easy). A win counts 1 here, and (3) is made for that. In a game
whose rewards are points nobody knows beforehand how large values become: MuZero rescales them by the least
and the largest that its tree has found, and mctx does so at each board. With $\bar Q$ the completed values,

$$\tilde Q(a) = \frac{\bar Q(a) - \min_b \bar Q(b)}{\max\bigl(\max_b \bar Q(b) - \min_b \bar Q(b),\;
10^{-8}\bigr)}. \tag{E1}$$

Write it for many boards at once. What does it make of two moves that are
worth 0.01 and 0.02? `rl exercise E8.rescaled`.

<details><summary>Answer</summary>

0 and 1: as far apart as a loss and a win. Where the true scale is known, as here, rescaling makes noise loud;
so this lesson does without, and its parity with mctx is tested with rescaling off.
</details>

*E8.5 · What is it still told?* (10 minutes, easy). Name all that this agent is told of the game. Why may the
rules say what is legal at the root, and why not below it? And what happens in the tree when a move is
imagined onto a cell that is taken?

<details><summary>Answer</summary>

The two planes of a board, what is legal on the board that lies there, that players take turns (the minus in
(2)), when a game has ended and whether its last move won, and that a game turned or mirrored is a game. What
is legal now one sees; what will be legal after moves that nobody has made only the rules know. A move onto a
taken cell was never played, so the model was never taught what it does; but the policy has learned not to
like it, and (6) seldom tries it.
</details>

*E8.6 · Find the bug* (10 minutes). `rl exercise E8.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def lost_lines(game: LineGame, model, num_simulations: int, seat: int) -> int:
    """How many lines the agent loses in a seat, of all that its opponents can play."""
    choose = player(game, model, num_simulations)
    return games.exhaust(game, lambda boards: choose(boards)[0], seat).lost


def main(cfg: Config, log: RunLog) -> None:
    game = tic_tac_toe()
    q = games.even_sample(games.solve(game), 60, np.random.default_rng(0))[1]

    def check(iteration: int, model: Model) -> None:
        if iteration & (iteration - 1) and iteration != cfg.num_iterations:
            return  # after 0, 1, 2, 4, 8, ... rounds, and at the end
        for name, num in (("alone", 1), ("with_search", cfg.num_simulations)):
            lost = sum(lost_lines(game, model, num, seat) for seat in (0, 1))
            log.write(iteration * cfg.num_games, **{f"lost_{name}": lost})

    model = train(game, cfg, log, check)
    rng, worse = np.random.default_rng(cfg.seed), 0
    for num in (1, 2, 4, 8, 16):
        played, drawn = trees.gumbel_draws(search, q, 2 * rng.normal(size=q.shape), num, rng)
        worse += int((played < drawn).sum())
    log.claim(
        "never_worse",
        "where values are exact, no move of a Gumbel search is worth less than the prior's own draw",
        worse,
        at_most=0.0,
        unit="draws that are worse",
        source="danihelka2022gumbel, draw by draw, on exact values of all moves",
        always=True,
    )
    for seat, name in enumerate(("first", "second")):
        log.claim(
            f"lost_{name}",
            f"moving {name}, the agent loses no line, whatever the opponent replies",
            lost_lines(game, model, cfg.num_playing, seat),
            at_most=0.0,
            unit="lines lost, of all there are",
            source="every legal reply is played; with best play the game is a draw",
        )
    log.keep(model=model)
    draw([log.metrics], log)


def draw(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    for name, color in (("alone", plotting.ORANGE), ("with_search", plotting.BLUE)):
        rows = np.array([run[f"lost_{name}"] for run in runs])  # [runs, checks, (games, lines)]
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], f"network {name.replace('_', ' ')}", color)
    ax.set_yscale("symlog", linthresh=1)
    ax.set(xlabel="games of self-play", ylabel="lines lost, both seats", title="Against every opponent")
    ax.set(xlim=(0, None), ylim=(0, None))
    ax.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
