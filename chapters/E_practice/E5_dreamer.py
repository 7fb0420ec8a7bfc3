# %% [markdown]
r"""
# E5 · Acting in imagination

**Question.** Can an agent learn to act inside its own model alone, with an actor and a critic that learn from
imagined steps only? How far is what it dreams true, and what does it never dream of?

**Before this:** E4 (a recurrent latent model), C1 (actor and critic). **Changes from E4:** the model also
foresees rewards and ends, and an actor learns in it. **Next:** E7, search.

**Time.** 60 s on 2 cores; with all evidence 240 s.

References: `hafner2020dreamer`, `hafner2021dreamerv2`, `hafner2025dreamer`, `bellemare2017distributional`,
`imani2018histogram`, `williams1992reinforce`, `osband2020bsuite`, `kearns2002simulation`.

Symbols: $h_t$ the model's memory, $z_t$ its code of the observation $o_t$, $s_t = (h_t, z_t)$ its state;
$\hat r, \hat c$ the reward and the chance to go on that it foresees, $v$ the critic, $B_i$ values between
which numbers are shared out; in shapes `T` steps of `N` episodes, `T1` = `T` + 1, `A` actions, `S` numbers of
a state, `G` groups of `C` classes, `K` = 21 values, `I` imagined steps of `M` dreams, `I1` = `I` + 1.
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from chapters.envs import evaluate
from chapters.envs.catch import BatchedCatch, EveryStart
from chapters.envs.episodes import EpisodeBuffer, mean_over
from chapters.envs.latent_model import LatentModel, Player, StateActor, pulls, sampled
from chapters.envs.replay import move_average
from chapters.envs.soft_actor import descend
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything

BRIGHT = 10.0  # how often a pixel counts that is 1: there are 2 of them in 30
PULL = 0.1  # how much the posterior is pulled to the prior, as in E4
SLOW = 0.02  # how fast the slow critic follows, and S of eq. (7)
GOAL = 0.9  # of the 1.0 that whoever remembers can have
Numbers = Float[Tensor, "*B"]
Dreams = Float[Tensor, "I M"]  # a number for each imagined step of each dream
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """A small Dreamer that catches a ball which hides."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    num_envs: Annotated[int, in_range(1, 1024)] = 8
    """Games played side by side."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 2000
    """Real steps of training."""
    num_warmup_steps: Annotated[int, in_range(1, 10_000_000)] = 600
    """Real steps of random actions before anything is learnt."""
    num_first_updates: Annotated[int, in_range(0, 1_000_000)] = 300
    """Gradient steps of the model alone after them."""
    explore: Annotated[float, in_range(0.0, 1.0)] = 0.25
    """Share of later episodes in which all actions are random."""
    num_updates: Annotated[int, in_range(1, 10_000)] = 16
    """Gradient steps of model, actor and critic whenever episodes have ended."""
    batch_size: Annotated[int, in_range(1, 10_000)] = 32
    """N: episodes in the model's minibatch."""
    num_dreams: Annotated[int, in_range(1, 100_000)] = 128
    """M: states of these episodes in which a dream begins."""
    horizon: Annotated[int, in_range(1, 1000)] = 5
    """I: imagined steps of a dream."""
    width: Annotated[int, in_range(1, 4096)] = 64
    """Numbers of memory, and units of the one hidden layer of each network."""
    num_groups: Annotated[int, in_range(1, 256)] = 8
    """G: one-hot vectors in a code."""
    num_classes: Annotated[int, in_range(2, 256)] = 8
    """C: classes of each."""
    model_rate: Annotated[float, in_range(1e-6, 1.0)] = 1e-2
    """Adam's step size for the model."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam's step size for actor and critic."""
    uniform: Annotated[float, in_range(0.0, 0.5)] = 0.01
    """Share of the uniform distribution in codes and policy."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.97
    """Discount factor."""
    return_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one imagined step, 1 only after a dream's last."""
    ent_coef: Annotated[float, in_range(0.0, 10.0)] = 0.3
    """Weight of the entropy bonus."""
    eval_every: Annotated[int, in_range(1, 10_000_000)] = 200
    """Real steps between evaluations, each over every way to begin."""


SMOKE = {
    "num_env_steps": 160, "num_warmup_steps": 80, "num_first_updates": 1, "num_updates": 1, "batch_size": 4,
    "num_dreams": 8, "width": 16, "num_groups": 2, "eval_every": 80,
}  # fmt: skip

# %% [markdown]
r"""
## 1. Numbers of any size

So that the same settings do for returns of 0.9 and of 900, `hafner2025dreamer` squeeze numbers:

$$\mathrm{symlog}(x) = \mathrm{sign}(x) \ln(1 + |x|), \qquad
\mathrm{symexp}(y) = \mathrm{sign}(y)\,(e^{|y|} - 1) \tag{1}$$

But a mean of logarithms is no logarithm of the mean: of a reward that is 0 or 99, evenly, least squares on
this scale would say 9. So the network gives chances $p_i$ to $K$ fixed values $B_1 < \dots < B_K$, evenly
spaced on the squeezed scale (here up to 6.4), and a target is a distribution, too: **two-hot**, shared out
between neighbours so that its mean is the number (`imani2018histogram`, `bellemare2017distributional`):

$$x = \frac{B_{i+1} - x}{B_{i+1} - B_i}\, B_i + \frac{x - B_i}{B_{i+1} - B_i}\, B_{i+1}, \qquad
\hat x = \sum_i p_i B_i \tag{2}$$

Cross-entropy pulls $p$ to the mean of the targets, and with it $\hat x$ to the mean of $x$.

```python
>>> values = torch.tensor([-1.0, 0.0, 1.0, 3.0])
>>> two_hot(torch.tensor([1.5, -0.5]), values).tolist()  # a quarter of the way from 1 to 3; half of it
[[0.0, 0.0, 0.75, 0.25], [0.5, 0.5, 0.0, 0.0]]
```
"""


# %%
def symexp(y: Numbers) -> Numbers:
    return y.sign() * y.abs().expm1()  # eq. (1), right


VALUES = symexp(torch.linspace(-2.0, 2.0, 21))  # B of eq. (2): from -6.4 to 6.4


def two_hot(x: Numbers, values: Float[Tensor, " K"]) -> Float[Tensor, "*B K"]:
    """Each number as a distribution over `values` with that mean; what lies outside, at the end."""
    x = x.clamp(values[0], values[-1]).contiguous()
    above = torch.searchsorted(values, x).clamp(min=1)
    low, high = values[above - 1], values[above]
    share = ((x - low) / (high - low)).unsqueeze(-1)
    K = len(values)
    return (1.0 - share) * F.one_hot(above - 1, K) + share * F.one_hot(above, K)  # eq. (2), left


def mean_of(logits: Float[Tensor, "*B K"], values: Float[Tensor, " K"]) -> Numbers:
    return logits.softmax(dim=-1) @ values  # eq. (2), right


def cross_entropy(logits: Float[Tensor, "*B K"], x: Numbers) -> Numbers:
    """How badly the chances fit the two-hot targets of x."""
    return -(two_hot(x, VALUES) * logits.log_softmax(dim=-1)).sum(dim=-1)


# %% [markdown]
r"""
## 2. A model to dream in

It is E4's model in torch (`chapters/envs/latent_model.py`), without the product: a gated recurrent unit (GRU)
as memory, a posterior that codes what is seen, a prior that guesses the code. To be dreamt in, it also
foresees what an action pays and whether there is anything after it, from the state it *leads to*:

$$h_t = \mathrm{GRU}(h_{t-1}, z_{t-1}, a_{t-1}), \quad s_t = (h_t, z_t), \quad
\hat r_{t-1} = \hat r(s_t), \quad \hat c_{t-1} = \hat c(s_t) \tag{3}$$

The loss adds up what is drawn badly (a bright pixel counts ten times, or an empty picture would be nearly
right for long), E4's two pulls between posterior $q$ and prior $p$, and the cross-entropy of rewards and of
going on: $c$ is 0 after an end, and 1 at a time limit. A bar stops the gradient, $w_z = 0.1$:

$$\mathcal L_\text{model} = -\log p(o_t \mid s_t) + \mathrm{KL}(\bar q_t \Vert p_t)
+ w_z\, \mathrm{KL}(q_t \Vert \bar p_t) - \log p(r_{t-1} \mid s_t) - \log p(c_{t-1} \mid s_t) \tag{4}$$
"""


# %%
def model_loss(model: LatentModel, batch: Batch) -> tuple[Tensor, Float[Tensor, "T1 N S"]]:
    """(the loss, the states along the episodes, as constants)."""
    states, posterior, prior = model.observe(batch["obs"], batch["actions"])
    mask, after = batch["mask"], states[1:]
    unlike = F.binary_cross_entropy_with_logits
    pixels = unlike(model.draws(states), batch["obs"], reduction="none")
    missed = (pixels * (1.0 + (BRIGHT - 1.0) * batch["obs"])).sum(dim=-1)
    missed = missed + pulls(posterior, prior, PULL)
    paid = cross_entropy(model.pays(after), batch["rewards"])
    ended = unlike(model.ends(after).squeeze(-1), batch["goes_on"], reduction="none")
    return mean_over(missed, mask) + mean_over(paid + ended, mask[1:]), states.detach()  # eq. (4)


# %% [markdown]
r"""
## 3. A dream, and what it was worth

A dream begins in a state that was really met, at *any* step of an episode. The actor acts, (3) goes on, and
the prior draws the code that nobody observes. What a step was worth follows from what the model foresees:

$$R_i = \hat r_i + \gamma\, \hat c_i \bigl( (1 - \lambda)\, v(s_{i+1}) + \lambda R_{i+1} \bigr), \qquad
R_I = v(s_I) \tag{5}$$

An end stops no dream; what lies behind counts by its chance to exist, $c_\text{start}$ for the first step:

$$w_0 = c_\text{start}, \qquad w_{i+1} = \gamma\, \hat c_i\, w_i \tag{6}$$

```python
>>> rewards, goes_on = torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]])  # the second step ends it
>>> values = torch.tensor([[0.3], [0.4], [5.0]])
>>> lambda_returns(rewards, goes_on, values, gamma=0.5, return_lambda=1.0).tolist()  # 0 + .5 x 1; 1 + 0 x 5
[[0.5], [1.0]]
>>> dream_weights(torch.tensor([1.0]), goes_on, gamma=0.5).tolist()
[[1.0], [0.5]]
```

The critic learns the returns as two-hot targets. The actor raises the log-probability of what paid more than
was expected (REINFORCE, `williams1992reinforce`). The advantage $A_i$ is divided by $S$, the range from the
5th to the 95th percentile of returns, if that is above 1: tiny rewards are not blown up into noise.

$$A_i = \frac{R_i - v(s_i)}{\max(1, S)}, \qquad
\mathcal L_\text{actor} = -\frac1{IM} \sum_{i, m} w_i \bigl[ \bar A_i \log \pi(a_i \mid s_i)
+ c_e\, \mathcal H(\pi(\cdot \mid s_i)) \bigr] \tag{7}$$

In (5) and (7), $v$ is a slow copy of the critic. No gradient reaches the model, or dreams would flatter.
"""


# %%
def lambda_returns(
    rewards: Dreams, goes_on: Dreams, values: Float[Tensor, "I1 M"], gamma: float, return_lambda: float
) -> Dreams:
    """What each imagined step was worth; `values[i]` is the critic's of the state before step i."""
    running, rows = values[-1], []
    for i in reversed(range(len(rewards))):
        later = (1.0 - return_lambda) * values[i + 1] + return_lambda * running
        running = rewards[i] + gamma * goes_on[i] * later  # eq. (5)
        rows.append(running)
    return torch.stack(rows[::-1])


def dream_weights(alive: Float[Tensor, " M"], goes_on: Dreams, gamma: float) -> Dreams:
    """How much each imagined step counts; `alive` is 0 where the episode was over before."""
    return torch.cat([alive.unsqueeze(0), gamma * goes_on[:-1]]).cumprod(dim=0)  # eq. (6)


def actor_loss(
    log_probs: Float[Tensor, "I M A"], actions: Int[Tensor, "I M"], advantages: Dreams, weights: Dreams,
    ent_coef: float,
) -> Float[Tensor, ""]:  # fmt: skip
    chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    return -(weights * (advantages.detach() * chosen + ent_coef * entropy)).mean()  # eq. (7)


class Dreamer(StateActor):
    """E4's model, with an actor and a critic of its states; `critic` and `pays` give chances to VALUES."""

    @torch.no_grad()
    def dream(
        self, states: Float[Tensor, "M S"], horizon: int
    ) -> tuple[Float[Tensor, "I1 M S"], Int[Tensor, "I M"]]:
        """(states before and after each step, the actor's actions) of a dream from each state."""
        rows, acts = [states], []
        for _ in range(horizon):
            acts.append(sampled(self.policy(rows[-1])))
            rows.append(self.model.dreamt(rows[-1], acts[-1]))
        return torch.stack(rows), torch.stack(acts)

    def learn_from_dreams(self, starts: Float[Tensor, "M S"], alive: Float[Tensor, " M"]) -> None:
        """One gradient step of actor and critic."""
        cfg = self.cfg
        states, actions = self.dream(starts, cfg.horizon)
        with torch.no_grad():
            rewards = mean_of(self.model.pays(states[1:]), VALUES)
            goes_on = self.model.ends(states[1:]).squeeze(-1).sigmoid()
            values = mean_of(self.slow_critic(states), VALUES)
            returns = lambda_returns(rewards, goes_on, values, cfg.gamma, cfg.return_lambda)
            weights = dream_weights(alive, goes_on, cfg.gamma)
            low, high = torch.quantile(returns, torch.tensor([0.05, 0.95]))
            self.spread += SLOW * (float(high - low) - self.spread)  # a running S of eq. (7)
            advantages = (returns - values[:-1]) / max(1.0, self.spread)
        before = states[:-1]
        loss = actor_loss(self.policy(before), actions, advantages, weights, cfg.ent_coef)
        descend(loss, self.for_actor)
        descend((weights * cross_entropy(self.critic(before), returns)).mean(), self.for_critic)
        move_average(self.slow_critic, self.critic, SLOW)


def update(learner: Dreamer, batch: Batch, rng: np.random.Generator) -> None:
    """The model learns from episodes, actor and critic from dreams that begin anywhere in them."""
    loss, states = model_loss(learner.model, batch)
    learner.descend_model(loss)
    alive = batch["mask"][:-1].clone()
    alive[1:] *= batch["goes_on"][:-1]
    starts = torch.from_numpy(rng.permutation(alive.numel())[: learner.cfg.num_dreams])
    learner.learn_from_dreams(states[:-1].flatten(0, 1)[starts], alive.flatten()[starts])


# %% [markdown]
r"""
## 4. In the world

*Catch* (`chapters/envs/catch.py`, after `osband2020bsuite`): a ball falls slantwise through 6 x 5 pixels,
bounces off the walls and hides before it lands. The paddle must be there, for 1 or else -1. One picture does
not tell where; with a memory all balls can be caught. *What was never lived is never dreamt*: an actor that
avoids the walls brings home no catch there, and the model dreams that there are none. So a share of episodes
is random, to the end. And *what is never tried in a dream is not learnt there*: REINFORCE learns from what it
tries. So the entropy bonus is large.
"""


# %%
def train(cfg: Config, log: RunLog, envs: VectorEnv | None = None, name: str = "dreamer") -> Dreamer:
    """Train one learner. Environments that are passed in are not evaluated on, only trained on."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or BatchedCatch(cfg.num_envs)
    N, rng = envs.num_envs, np.random.default_rng([cfg.seed, 1])
    learner, past, begun = Dreamer(envs, len(VALUES), cfg), EpisodeBuffer(N, cfg.num_env_steps), False
    player, random = Player(learner.model, learner.policy, N), np.ones(N, dtype=bool)
    obs, _ = envs.reset(seed=cfg.seed)
    for step in log.track(range(N, cfg.num_env_steps + 1, N), f"steps ({name})", f"{name}_return"):
        obs, done = past.play(envs, obs, player, random)
        share = 1.0 if step < cfg.num_warmup_steps else cfg.explore
        random = np.where(done, rng.random(N) < share, random)
        if step >= cfg.num_warmup_steps and done.any():
            for _ in range(0 if begun else cfg.num_first_updates):
                learner.descend_model(model_loss(learner.model, past.sample(cfg.batch_size, rng))[0])
            for _ in range(cfg.num_updates):
                update(learner, past.sample(cfg.batch_size, rng), rng)
            begun = True
        if evaluated and step % cfg.eval_every < N:
            log.write(step, **{f"{name}_return": score(learner)})
    return learner


def score(learner: Dreamer) -> float:
    """Exact: the mean return of the likeliest actions over every way to begin."""
    envs = EveryStart()
    player = Player(learner.model, learner.policy, envs.num_envs, greedy=True)
    return float(evaluate(player, envs=envs, seed=0).mean())


# %% [markdown]
r"""
## 5. Look, break, write

![Returns against real steps, and what an actor that tries too little leaves undone](results/E5.png)

In dreams it takes fewer real steps than C3's proximal policy optimisation (PPO) on the last four pictures.
Right, with a tenth of the entropy bonus: its model knows of catches that its actor leaves undone.

![Five games: the world, what is seen of it, what is dreamt from the second picture on](results/E5_film.gif)

![What dreams of the ring miss, against their length](results/E5_ring.png)

On E4's ring the exact belief says what "always to the right" is worth after a history. Beside what there is
to tell of a reward (left, black) a dream's error grows with the distance. (Catch, of five steps, is too short
to dream too far.) *What is not coded is not known*: each class goes at first to the colour it suits best. Of
8 classes one of three colours gets none with a chance near $3 (2/3)^8$, 12 %; so the ring's code has 32.

**The verdict.** Yes: all that it takes from the world are episodes for its model. Its dreams are as true as
the model, for as long. It never dreams of what nobody lived, nor learns there what it never tries.

<!-- results: E5 -->

`rl run E5`: 27 s; with `--evidence`: 105 s, 866 MB; with `--smoke --evidence`: 8 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| mean_kept         | 4.77e-07                         | ≤ 1e-05 | 5/5 |
| caught            | 1                                | ≥ 0.9   | 5/5 |
| real_steps *      | 0.45 (0.352 to 0.595)            | ≤ 1     | 5/5 |
| entropy_gain *    | 0.4 (0.2 to 0.4)                 | ≥ 0     | 5/5 |
| dream_is_belief * | 0.205 (0.136 to 0.342)           | ≤ 0.5   | 5/5 |
| dream_bound *     | -0.000145 (-0.000834 to 0.00144) | ≤ 1     | 5/5 |
| too_far *         | 1.89 (1.64 to 4.36)              | ≥ 1     | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `mean_kept`: a number that is shared out between two values is their mean (largest difference, of 101
  numbers)
- `caught`: an actor that never saw the world catches nearly every ball in it (mean return over every way to
  begin)
- `real_steps`: acting learnt in dreams holds the goal after fewer real steps than C3's PPO on four pictures
  (of PPO's real steps, the same seed)
- `entropy_gain`: with a tenth of the entropy bonus it catches fewer balls after as many real steps (of
  return, difference)
- `dream_is_belief`: what dreams half around the ring pay differs little from the exact value of the belief
  (root mean square difference, of the spread of exact values over histories)
- `dream_bound`: on average over histories dreams of any length miss the belief's value by no more than (E1)
  (largest miss, less four standard errors, of the bound)
- `too_far`: of a reward at the end of a long dream it knows less than of the next one (times the error, each
  of the exact spread over histories)
</details>

<!-- /results -->

**Break it.** `rl break E5 reward_late`: foreseen too early. `rl break E5 sure_of_itself`: paid to be sure.

**Exercises.**

<!-- exercises: E5 -->

*E5.1 · Numbers of any size* (25 minutes, easy). Write the scale of (1), numbers as distributions and back
(2), and the loss between them. `rl exercise E5.symexp`, `rl exercise E5.two_hot`, `rl exercise E5.mean_of`,
`rl exercise E5.cross_entropy`.

*E5.2 · What a dream was worth* (30 minutes, medium). Write the returns of imagined steps (5), how much each
step counts (6), and the actor's loss (7). `rl exercise E5.lambda_returns`, `rl exercise E5.dream_weights`,
`rl exercise E5.actor_loss`.

*E5.3 · A model to dream in* (30 minutes, hard). Write the model's loss (4). Which state foresees a reward,
and what must not count? `rl exercise E5.model_loss`.

*E5.4 · How far a dream may be off* (20 minutes, medium). A dream begins after a history and pays rewards
between 0 and 1. At its step $i$ the prior misses the codes that the world would give by $\epsilon_i$ (total
variation), and the reward that is foreseen misses the expected one by $\delta_i$, both on average over *real*
paths. Exchange the model's steps for the world's, one after the other: each exchange costs at most its error,
times all that may still come (`kearns2002simulation`, along real paths instead of at the worst). So the first
$k$ steps of a dream miss the belief's value by at most

$$\bigl| \hat V_k - V_k \bigr| \;\le\; \sum_{i < k} \gamma^i \Bigl( \epsilon_i \sum_{j < k - i} \gamma^j
+ \delta_i \Bigr) \tag{E1}$$

Write it. How does it grow with $k$ if all errors are equal and $\gamma = 1$? The evidence measures both
errors on E4's ring. `rl exercise E5.dream_bound`.

<details><summary>Answer</summary>

With equal errors and $\gamma = 1$ it is $\epsilon\, k (k + 1) / 2 + \delta k$: twice as long a dream may be
four times as wrong. With a discount it stays below $\epsilon / (1 - \gamma)^2 + \delta / (1 - \gamma)$: (1)
of E2, but for a factor $\gamma$ (there no first reward is wrong) and for errors of rewards.
</details>

*E5.5 · Never lived, never tried* (10 minutes, medium). Two settings are there for the walls alone: `explore`
and `ent_coef`. Try `rl run E5 --ent-coef 0.03`, then `rl break E5 never_random`. In which of them does the
model know of catches at the wall, and in which does the actor try them? Why can a better model not mend the
first, nor more dreams the second?

<details><summary>Answer</summary>

With a small bonus the model knows, since random episodes go everywhere, but the actor became sure early and
hardly ever tries the action that leads there; a policy gradient is weighed by how often an action is tried,
so more dreams of the same actor bring little. Without random episodes, what is known of the walls comes from
the warm-up and from what the actor does by chance. A model foresees from what was recorded: if no catch at a
wall was, the best fit to the data says that there are none.
</details>

*E5.6 · Find the bug* (10 minutes). `rl exercise E5.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    numbers = torch.linspace(-6.0, 6.0, 101)
    log.claim(
        "mean_kept",
        "a number that is shared out between two values is their mean",
        (two_hot(numbers, VALUES) @ VALUES - numbers).abs().max().item(),
        at_most=1e-5,
        unit="largest difference, of 101 numbers",
        source="(2)",
        always=True,
    )
    learner = train(cfg, log)
    log.claim(
        "caught",
        "an actor that never saw the world catches nearly every ball in it",
        log.last("dreamer_return"),
        at_least=GOAL,
        unit="mean return over every way to begin",
        source="1.0 by construction, for whoever remembers; the course's goal of 0.9",
    )
    log.keep(learner=learner)
    labels = {"title": "Catch, learnt in dreams", "xlabel": "real steps", "ylabel": "return"}
    plotting.learning_curve(log, "dreamer_return", threshold=GOAL, **labels)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
