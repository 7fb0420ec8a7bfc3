# %% [markdown]
r"""
# D10 · Grounding and memory

**Question.** An agent sees a picture, reads what to do, and needs what it saw long ago. How does a word find
its thing in the picture, and which memory still holds when the way is far longer than any it was trained on?

**Before this:** C0, D9. **Changes from D9:** in place of tools, eyes and a memory. **Next:** E0.

**Time.** 60 s on 2 cores; with all evidence 150 s.

References: `vaswani2017attention`, `dosovitskiy2021vit`, `lewis2020rag`, `cho2014gru`, `bakker2002lstm`,
`kaelbling1998pomdp`, `williams1992reinforce`, `kool2019buy`.

Symbols: $x_p$ pixels of patch $p$, $u_p$ a code of its place, $e_w$ one of word $w$, $q$ a query, $k$ a key,
$v$ a value, $d$ their size, $\alpha$ attention, $c$ what it brings back; $a$ an action, $G$ the return from a
step on, $\hat A$ an advantage, $m$ 1 where the policy was asked, else 0; $B$ episodes, $B_t$ of them still
running at step $t$; $M$ memories, $K$ of them read; $\rho$ how often a sign is true.
"""

# %%
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from chapters.envs import scenes, tmaze
from chapters.exact import partial
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.optim import Adam

Grid = Float[Tensor, "B T"]  # a number for each step of each episode
Flags = Bool[Tensor, "B T"]


@dataclass(frozen=True)
class Config:
    """An agent that touches what is named, and one that turns as a sign told it long ago."""

    seed: int = 0
    """Seed of weights, scenes, mazes and sampling."""
    width: Annotated[int, in_range(2, 4096)] = 32
    """d: numbers in a code, a query, a key, a value."""
    batch_size: Annotated[int, in_range(2, 100_000)] = 128
    """B: scenes, or mazes, in a batch."""
    imitation_updates: Annotated[int, in_range(1, 100_000)] = 80
    """Batches that a teacher has shown."""
    rl_updates: Annotated[int, in_range(1, 100_000)] = 140
    """Batches after these, in which a reward alone says what was right."""
    learning_rate: Annotated[float, in_range(1e-8, 1.0)] = 7e-3
    """Adam's step size, before it falls to a tenth."""
    longest_delay: Annotated[int, in_range(2, 1000)] = 6
    """Cells of the longest corridor in training; the shortest has 2."""
    num_read: Annotated[int, in_range(1, 1000)] = 4
    """K: how many memories are read, once training is over."""


SMOKE = {"batch_size": 16, "imitation_updates": 2, "rl_updates": 2, "longest_delay": 3}

# %% [markdown]
r"""
## 1. Words look at a picture

A picture of 4 x 4 cells shows eight things. The instruction names one: `red cross left`. The scene adds a
second colour, a second shape and the opposite half, and shows all eight combinations. Ignore one word, and
you are right half the time; ignore all three, one time in eight. A blind agent knows the half, eight cells:
also one in eight. One instruction in four is *held out*: training meets its words, and its pairs of words.

An encoder $f$ turns each patch of pixels, here a cell, into a vector (`dosovitskiy2021vit`) and normalises
it. The words' codes are summed into one query; each patch offers a key, from what it shows and where it is. A
softmax of their products is *cross*-attention (`vaswani2017attention`): words ask, a picture answers.

$$\alpha_p = \mathrm{softmax}_p\big(q^\top k_p / \sqrt d\big),\; q = W_q \textstyle\sum_w e_w,\;
k_p = W_k (f(x_p) + u_p) \tag{1}$$

A score is a sum over the words: the red cross on the left can match all three, all else two at most. So a
triple never met can be found. Attention brings back *where*: $c$, a mean of the places' codes.

$$\log \pi(p) = \log\mathrm{softmax}_p(u_p^\top c / \sqrt d),\; c = \textstyle\sum_j \alpha_j u_j \tag{2}$$

```python
>>> query, keys = torch.tensor([[2.0, 0.0, 0.0, 0.0]]), torch.eye(4)[None, :2] * 3
>>> attend(query, keys)[0].mul(100).round().tolist()  # scores 6 / 2 and 0 / 2
[95.0, 5.0]
```
"""


# %%
def patches(images: Float[Tensor, "B H W C"], size: int) -> Float[Tensor, "B P F"]:
    """Cut each picture into squares of `size` x `size` pixels, row by row, and lay each out flat."""
    num, height, width, colours = images.shape
    squares = images.reshape(num, height // size, size, width // size, size, colours)
    return squares.transpose(2, 3).reshape(num, -1, size * size * colours)


def attend(query: Float[Tensor, "B D"], keys: Float[Tensor, "B P D"]) -> Float[Tensor, "B P"]:
    """How much of its attention each query gives to each of its keys; sums to 1."""
    scores = (keys * query[:, None]).sum(dim=-1) / query.shape[-1] ** 0.5
    return scores.softmax(dim=-1)  # eq. (1)


def touch(attention: Float[Tensor, "B P"], places: Float[Tensor, "P D"]) -> Float[Tensor, "B P"]:
    """Log-probabilities of touching each cell, from where the attention lies."""
    scores = attention @ places @ places.T / places.shape[-1] ** 0.5
    return scores.log_softmax(dim=-1)  # eq. (2)


class Seer(nn.Module):
    """Touches what an instruction names: one layer of cross-attention from words to a picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        num_pixels = scenes.PIXELS * scenes.PIXELS * 3
        self.eye = nn.Sequential(nn.Linear(num_pixels, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.places = nn.Parameter(torch.randn(scenes.NUM_CELLS, width))
        self.words = nn.Embedding(len(scenes.WORDS), width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(width, width, bias=False)

    def look(self, images: Float[Tensor, "B H W C"], words: Int[Tensor, "B N"]) -> Float[Tensor, "B P"]:
        """Where the attention falls. What is seen and where it is are made equally loud."""
        seen = self.eye(patches(images, scenes.PIXELS))
        seen = layer_norm(seen, seen.shape[-1:]) + self.places
        query = self.to_query(self.words(words).sum(dim=1))
        return attend(query, self.to_key(seen))

    def forward(self, images: Float[Tensor, "B H W C"], words: Int[Tensor, "B N"]) -> Float[Tensor, "B P"]:
        return touch(self.look(images, words), self.places)


# %% [markdown]
r"""
## 2. Imitation, then reward

A random touch is right one time in sixteen: rewards say little at first. A *teacher* shows what to do, but in
three of ten scenes it touches any of the eight things. Imitation makes likely what it did in episode $i$ at
step $t$ (a scene has one step):

$$\mathcal L_\text{imitation} = -\frac1B \sum_i \sum_t m_{it} \log \pi(a_{it}) \tag{3}$$

It is lowest where the policy has the teacher's habits, errors and all. Rewards tell the errors from the rest.
As in C0, an action counts by how much its return exceeds the mean of the others' (`williams1992reinforce`,
`kool2019buy`), over the $B_t$ episodes that still run:

$$\hat A_{it} = G_{it} - \frac{1}{B_t - 1} \sum_{j \ne i} G_{jt} \tag{4}$$

$$\mathcal L = -\frac1B \sum_i \sum_t m_{it} \hat A_{it} \log \pi(a_{it}) \tag{5}$$

*By hand.* The second episode ends after one step, so its 9 does not count, and the first goes on alone:

```python
>>> rewards = torch.tensor([[0.0, 1.0], [0.5, 9.0]])
>>> advantages(rewards, torch.tensor([[True, True], [True, False]])).tolist()
[[0.5, 0.0], [-0.5, 0.0]]
```
"""


# %%
def imitation_loss(log_probs: Grid, asked: Flags) -> Float[Tensor, ""]:
    """How unlikely it is to do as the teacher did, where it did something."""
    return -(log_probs * asked).sum(dim=1).mean()  # eq. (3)


def advantages(rewards: Grid, alive: Flags) -> Grid:
    """How much better each return is than that of the other episodes that still run at this step."""
    returns = (rewards * alive).flip(1).cumsum(dim=1).flip(1)
    others = alive.sum(dim=0, keepdim=True) - 1.0
    mean = (returns.sum(dim=0, keepdim=True) - returns) / others.clamp(min=1.0)
    return torch.where(alive & (others > 0), returns - mean, 0.0)  # eq. (4)


def policy_loss(log_probs: Grid, rewards: Grid, alive: Flags, asked: Flags) -> Float[Tensor, ""]:
    """What the optimiser lowers; a policy answers only for steps at which it was asked."""
    return -(advantages(rewards, alive) * log_probs * asked).sum(dim=1).mean()  # eq. (5)


def train(policy: nn.Module, play: Callable, measure: Callable, cfg: Config, log: RunLog, name: str) -> None:
    """Both stages, in place. `play(policy, shown)` gives what policy_loss takes; a teacher acts if shown."""
    num_updates = cfg.imitation_updates + cfg.rl_updates
    optimizer = Adam(policy.parameters(), cfg.learning_rate)
    for i in log.track(range(num_updates), f"updates ({name})"):
        shown = i < cfg.imitation_updates
        batch = play(policy, shown)
        loss = imitation_loss(batch["log_probs"], batch["asked"]) if shown else policy_loss(**batch)
        optimizer.lr = cfg.learning_rate * (1.0 - 0.9 * i / num_updates)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        if (i + 1) % 10 == 0 or i + 1 == num_updates:
            log.write(i + 1, **{f"{name}_{what}": value for what, value in measure(policy).items()})


def train_seer(cfg: Config, log: RunLog, name: str) -> Seer:
    """A policy for scenes, measured on held-out instructions, which training never uses."""
    torch.manual_seed(cfg.seed)
    rng, generator = np.random.default_rng(cfg.seed), torch.Generator().manual_seed(cfg.seed)
    met, test = scenes.instructions(held_out=False), scenes.held_out_scenes(scenes.NUM_TEST, cfg.seed)

    def play(policy: Seer, shown: bool) -> dict[str, Tensor]:
        scene = scenes.draw(rng.choice(met, size=cfg.batch_size), rng)
        log_probs = policy(scene["images"], scene["words"])
        touched = torch.multinomial(log_probs.detach().exp(), 1, generator=generator)
        if shown:
            touched = scenes.shown(scene, scenes.TEACHER_ERROR, rng)[:, None]
        rewards, log_probs = (touched == scene["target"][:, None]).float(), log_probs.gather(1, touched)
        return {"log_probs": log_probs, "rewards": rewards, "alive": rewards >= 0, "asked": rewards >= 0}

    def measure(policy: Seer) -> dict[str, float]:
        attention = policy.look(test["images"], test["words"])
        found = {"success": touch(attention, policy.places).exp(), "attention": attention}
        return {what: value.gather(1, test["target"][:, None]).mean().item() for what, value in found.items()}

    policy = Seer(cfg.width)
    train(policy, play, measure, cfg, log, name)
    return policy


# %% [markdown]
r"""
## 3. What to remember

A T-maze (`bakker2002lstm`) has four doors. At its entrance hang four signs in any order, one for each door:
"opens left" or "opens right", true with probability $\rho = 0.9$. A corridor follows, with posters that mean
nothing, then a junction with *one* of the doors. A fixed reflex walks; the policy is asked only there, for
the turn. Without a memory it is right half the time. With one, all that can be known is the *belief*, the
chance of each side given what was seen (`kaelbling1998pomdp`): $\rho$ for the side that the door's sign
names. Going there is the optimum, right in 0.9 of all mazes.

The teacher here knows the door's true side, more than the pupil can. Imitation then ends at the belief
itself: it follows a sign with chance $\rho$, whether that is true or lies. Right are $\rho^2 + (1 - \rho)^2 =
0.82$ of its turns. Rewards turn the belief into a decision.

A *recurrent* memory (in the evidence: a gated recurrent unit, GRU, `cho2014gru`) is one vector, rewritten at
each step. A *retrieving* one keeps a list, a key and a value for each step. As language models retrieve
documents (`lewis2020rag`), it reads the $K$ of its $M$ memories whose scores are best:

$$c = \sum_{j \in \text{best } K} \alpha_j v_j,\; \alpha = \mathrm{softmax}_{j \in \text{best } K}
\big(q^\top k_j / \sqrt d\big) \tag{6}$$

With $K = M$ it is plain attention. Training reads all, for what is not read gets no gradient.

```python
>>> keys, values = torch.tensor([[[4.0], [0.0], [4.0]]]), torch.tensor([[[1.0], [9.0], [3.0]]])
>>> [round(retrieve(torch.ones(1, 1), keys, values, num_read).item(), 2) for num_read in (2, 3)]
[2.0, 2.06]
```
"""


# %%
def retrieve(
    query: Float[Tensor, "B D"], keys: Float[Tensor, "B M D"], values: Float[Tensor, "B M D"], num_read: int
) -> Float[Tensor, "B D"]:
    """Attention over the `num_read` memories whose keys suit the query best; the others are not read."""
    scores = (keys * query[:, None]).sum(dim=-1) / query.shape[-1] ** 0.5
    best = scores.topk(min(num_read, scores.shape[1]), dim=1)
    weights = torch.zeros_like(scores).scatter(1, best.indices, best.values.softmax(dim=1))
    return (weights[:, :, None] * values).sum(dim=1)  # eq. (6)


class Walker(nn.Module):
    """Turns by what it sees and by what its memory gives back; this one has no memory."""

    def __init__(self, num_obs: int, width: int) -> None:
        super().__init__()
        self.see = nn.Embedding(num_obs, width)
        self.inner, self.outer = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, 2)

    def write(self, obs: Int[Tensor, " B"], memory: Any) -> Any:
        """The memory after something was seen; None before."""
        return None

    def act(self, obs: Int[Tensor, " B"], memory: Any) -> Float[Tensor, "B 2"]:
        """Log-probabilities of left and right."""
        seen = self.see(obs)
        recalled = torch.zeros_like(seen) if memory is None else self.recall(obs, memory)
        return self.outer(self.inner(torch.cat([seen, recalled], dim=1)).relu()).log_softmax(dim=1)


class Retrieval(Walker):
    """Its memory is a list with a key and a value of each step; `num_read` of them are read."""

    def __init__(self, num_obs: int, width: int, num_read: int = 10**9) -> None:
        super().__init__(num_obs, width)
        self.num_read = num_read
        self.to_query, self.to_key, self.to_value = (nn.Linear(width, width) for _ in range(3))
        nn.init.zeros_(self.to_query.weight)  # at first, all that is seen asks for the same

    def write(self, obs: Int[Tensor, " B"], memory: list | None) -> list:
        seen = self.see(obs)
        return [*(memory or []), (self.to_key(seen), self.to_value(seen))]

    def recall(self, obs: Int[Tensor, " B"], memory: list) -> Float[Tensor, "B D"]:
        keys, values = (torch.stack(part, dim=1) for part in zip(*memory))
        return retrieve(self.to_query(self.see(obs)), keys, values, self.num_read)


def rollout(policy: Any, shown: bool, maze: tmaze.TMaze, generator: torch.Generator) -> dict[str, Tensor]:
    """One episode in each maze, for policy_loss. It acts first, and then writes down what it has seen."""
    obs, memory, steps = maze.reset(), None, []
    while not (maze.terminated | maze.truncated).all():
        alive = ~(maze.terminated | maze.truncated)
        asked = alive & maze.asked(obs)
        seen = torch.from_numpy(obs)
        log_probs = policy.act(seen, memory)
        turns = torch.multinomial(log_probs.detach().exp(), 1, generator=generator)
        if shown:
            turns = torch.from_numpy(maze.opens())[:, None]
        memory = policy.write(seen, memory)
        obs, rewards, _, _ = maze.step(np.where(asked, tmaze.LEFT + turns[:, 0].numpy(), tmaze.FORWARD))
        flags = (torch.from_numpy(rewards).float(), torch.from_numpy(alive), torch.from_numpy(asked))
        steps.append((log_probs.gather(1, turns)[:, 0], *flags))
    names = ("log_probs", "rewards", "alive", "asked")
    return {name: torch.stack(part, dim=1) for name, part in zip(names, zip(*steps))}


def train_walker(make: Callable[[int, int], Walker], cfg: Config, log: RunLog, name: str) -> Walker:
    """A policy for mazes with short corridors, measured on the longest of them."""
    torch.manual_seed(cfg.seed)
    maze = tmaze.TMaze(cfg.batch_size, (2, cfg.longest_delay), np.random.default_rng(cfg.seed))
    policy, generator = make(maze.num_obs, cfg.width), torch.Generator().manual_seed(cfg.seed)

    play = functools.partial(rollout, maze=maze, generator=generator)
    measure = functools.partial(tmaze.measured, delay=cfg.longest_delay, seed=cfg.seed)
    train(policy, play, measure, cfg, log, name)
    return policy


# %% [markdown]
r"""
## 4. Look, break, write

![Six scenes with instructions never met; the attention lies on what is named](results/D10.png)

![Imitation brings success near the teacher's rate, rewards above it](results/D10_learning.png)

No label ever said where to look. Imitation comes near where theory puts its end, the teacher's rate and the
imitated belief; rewards take both further. (Alone they find the things as well: sixteen cells are soon
tried.) Now for corridors far longer than in training:

![Chance of the right turn after corridors of up to 2,048 cells](results/D10_delay.png)

*Attention over the whole list* thins out: a thousand posters get a thousand times what one gets. A sign whose
score is $\Delta$ above that of $n$ others keeps $1/(1 + n e^{-\Delta})$ (exercise 3); here it hurts late.
Reading the best $K$, with the same weights, has no such limit. Either list grows with the way. A *recurrent*
memory does not, but each poster rewrites it. Here its state drifts, and most of what signs said is lost.

**The verdict.** A word finds its thing because its score adds to those of the other words, and the policy has
nothing else to act by. A memory holds if later writing leaves what is read as it is: the best few of a list
stay, a softmax over all of it thins out, a recurrent state may drift.

<!-- results: D10 -->

`rl run D10`: 17 s; with `--evidence`: 36 s, 763 MB; with `--smoke --evidence`: 10 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| named_touched    | 0.959 (0.951 to 0.97)           | ≥ 0.9         | 5/5 |
| named_seen       | 0.975 (0.967 to 0.98)           | ≥ 0.5         | 5/5 |
| door_opened      | 1                               | ≥ 0.95        | 5/5 |
| memoryless       | 0.5                             | ≤ 0.5         | 5/5 |
| eyes_shut *      | 0.0992 (0.0961 to 0.114)        | ≤ 0.179       | 5/5 |
| place_unread *   | 0.385 (0.368 to 0.39)           | ≤ 0.5816      | 5/5 |
| as_taught *      | 0.705 (0.679 to 0.734)          | 0.7375 ± 0.05 | 4/5 |
| untaught *       | 0.979 (0.934 to 0.984)          | ≥ 0.7375      | 5/5 |
| recurrent_near * | 0.997 (0.996 to 0.998)          | ≥ 0.95        | 5/5 |
| best_far *       | 1                               | ≥ 0.95        | 5/5 |
| list_thins *     | -0.0495 (-0.156 to -0.00594)    | ≤ 0.001       | 5/5 |
| recurrent_far *  | -0.385 (-0.4 to -0.313)         | ≤ 0.045       | 5/5 |
| share_kept *     | 8.31e-08 (1.52e-08 to 2.53e-06) | ≤ 1e-05       | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `named_touched`: the agent touches what held-out instructions name (of sampled touches)
- `named_seen`: more of its attention lies on the named thing than on all the rest (of its attention)
- `door_opened`: reading the best K of its memories, it turns nearly as well as anyone can (of the optimum)
- `memoryless`: without a memory it turns no better than the best policy without one (of turns)
- `eyes_shut`: without eyes nobody does better than the best blind policy, within four standard errors (of
  sampled touches)
- `place_unread`: without the word for the place it is right half the time at best, within four standard
  errors (of sampled touches)
- `as_taught`: imitation alone ends at its teacher's rate (of sampled touches)
- `untaught`: rewards alone, over as many scenes as both stages have, go beyond the teacher, too (of sampled
  touches)
- `recurrent_near`: a recurrent memory, too, turns nearly as well as anyone can, as long as corridors are as
  in training (of the optimum)
- `best_far`: retrieval of the best K still does in the longest corridor that was tried (of the optimum)
- `list_thins`: reading the best K there is no worse than reading the whole list, with the same weights (of
  turns)
- `recurrent_far`: nor is it worse than the recurrent memory there (of turns)
- `share_kept`: plain attention leaves one memory the share of (E1) among up to 1,000 others (largest error)
  (of attention)
</details>

<!-- /results -->

**Break it.** `rl break D10 eyes_shut`, `rl break D10 memory_unread`: which claims notice?

**Exercises.**

<!-- exercises: D10 -->

*D10.1 · The heart of it* (20 minutes, medium). Write the attention of (1) and the retrieval of (6). `rl
exercise D10.attend`, `rl exercise D10.retrieve`.

*D10.2 · Two stages* (25 minutes, medium). Write both losses, (3) and (5), and the advantages of (4). `rl
exercise D10.imitation_loss`, `rl exercise D10.advantages`, `rl exercise D10.policy_loss`.

*D10.3 · How a list thins out* (10 minutes, easy). A memory's score is $\Delta$ above that of $n$ others,
which are all alike. Attention leaves it

$$\frac{1}{1 + n e^{-\Delta}} \tag{E1}$$

Write it. By how much must $\Delta$ grow to keep the share among $10 n$ others? `rl exercise D10.share_kept`.

<details><summary>Answer</summary>

By $\log 10 = 2.3$, whatever the share: $n e^{-\Delta}$ must stay as it is. A softmax needs a lead that grows
with the logarithm of the list's length; weights have only learnt the lead that lists in training asked for.
</details>

*D10.4 · A teacher who knows more* (10 minutes, easy). The teacher of the mazes knows the door; the pupil
knows a sign that is true with probability $\rho$. How often is a pupil right who imitates perfectly? Write
it. Why does learning from rewards end higher? `rl exercise D10.imitated`.

<details><summary>Answer</summary>

Imitation matches frequencies: the pupil goes against the sign in $1 - \rho$ of all cases, as the teacher did,
but not in the same cases. The mean reward is highest if it never does. The same gap opens whenever a
demonstrator acts on what the imitator cannot see.
</details>

*D10.5 · Find the bug* (10 minutes). `rl exercise D10.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    seed_everything(cfg.seed)
    seer = train_seer(cfg, log, "seer")
    says = "the agent touches what held-out instructions name"
    rule = {"unit": "of sampled touches", "source": "CURRICULUM: 0.9"}
    log.claim("named_touched", says, log.last("seer_success"), at_least=0.9, **rule)
    says = "more of its attention lies on the named thing than on all the rest"
    rule = {"unit": "of its attention", "source": "definition: the larger part"}
    log.claim("named_seen", says, log.last("seer_attention"), at_least=0.5, **rule)
    log.figure(scenes.figure_of(seer, cfg.seed + 1))
    retrieval = train_walker(Retrieval, cfg, log, "retrieval")
    retrieval.num_read = cfg.num_read
    best = partial.belief_optimum(1, tmaze.ACCURACY, cfg.longest_delay)
    chance = tmaze.right_turns(retrieval, [cfg.longest_delay], cfg.seed)[0]
    says = "reading the best K of its memories, it turns nearly as well as anyone can"
    rule = {"unit": "of the optimum", "source": "dynamic programming on beliefs"}
    log.claim("door_opened", says, chance / best, at_least=0.95, **rule)
    train_walker(Walker, replace(cfg, imitation_updates=2, rl_updates=20), log, "memoryless")
    best = partial.best_memoryless(1, tmaze.ACCURACY, cfg.longest_delay)
    says = "without a memory it turns no better than the best policy without one"
    rule = {"unit": "of turns", "source": "all 81 policies without memory", "always": True, "seeds": "5/5"}
    log.claim("memoryless", says, log.last("memoryless_chance"), at_most=best + 1e-9, **rule)
    log.keep(retrieval=retrieval)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
