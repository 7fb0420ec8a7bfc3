# %% [markdown]
r"""
# B3 · Deep Q-networks with Stable-Baselines3

**Question.** CartPole has infinitely many states, so no table can hold its values. What does a library's deep
Q-network (DQN) put in the table's place, and when it has solved the task, does it stay solved?

**Before this:** B1 and B2 (Q-learning in tables, bootstrapping, learning from another policy's steps).
**Changes from B1:** the table becomes a network, which brings replay and a target network with it; the loop
is Stable-Baselines3's (SB3), and we watch it through callbacks. **Next:** B4 writes every part of this out.

**Time.** 60 s on 2 cores; with all evidence 65 s.

References: `mnih2015dqn`, `lin1992replay`, `suttonbarto2018`, `baird1995residual`, `tsitsiklis1997analysis`,
`vanhasselt2018triad`, `machado2018revisiting`, `agarwal2021rliable`, `pardo2018timelimits`, `raffin2021sb3`.

Symbols: `B` transitions in a minibatch, `A` actions; $w, \theta$ weights, $\theta^-$ those of the target
network, $x(s)$ features of a state, $\delta$ the TD error (*temporal difference*: target minus prediction).
"""

# %%
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor

from chapters.envs import evaluate
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything

SOLVED = 475.0  # the threshold registered for CartPole-v1
Numbers = Float[Tensor, " B"]  # one for each transition
Flags = Bool[Tensor, " B"]


@dataclass(frozen=True)
class Config:
    """Stable-Baselines3's DQN on CartPole; the defaults are rl-zoo's, a collection of tuned settings."""

    seed: int = 0
    """Seed of torch, numpy and the environment."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 40_000
    """Environment steps of training (rl-zoo: 50,000)."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2.3e-3
    """Adam step size."""
    num_warmup_steps: Annotated[int, in_range(1, 1_000_000)] = 1000
    """Environment steps before the first gradient step."""
    num_steps: Annotated[int, in_range(1, 100_000)] = 256
    """Environment steps between two rounds of gradient steps."""
    num_gradient_steps: Annotated[int, in_range(1, 100_000)] = 128
    """Gradient steps in each round."""
    sync_every: Annotated[int, in_range(1, 1_000_000)] = 10
    """Environment steps between copies of the online weights into the target network."""
    num_exploration_steps: Annotated[int, in_range(1, 10_000_000)] = 8000
    """Environment steps over which epsilon, the share of random actions, falls from 1 to 0.04."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 1024
    """Environment steps between evaluations."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""


SMOKE = {
    "num_env_steps": 300,
    "num_exploration_steps": 100,
    "num_warmup_steps": 64,
    "num_steps": 64,
    "num_gradient_steps": 4,
    "eval_every": 128,
    "num_eval_episodes": 4,
}

# %% [markdown]
r"""
## 1. From a table to a function, and what can go wrong

B1 kept one number for each state and action. CartPole's state is four real numbers, position, velocity, angle
and angular velocity, and hardly one is seen twice: values must *generalise*. A function with weights $w$
answers for states that it has never met. The simplest is linear: a state is described by a few numbers, its
*features* $x(s)$, and its value is $V_w(s) = w \cdot x(s)$. Training is regression on the bootstrapped target
$r + \gamma V_w(s')$; a terminal $s'$ is worth 0. One step of it is *linear TD(0)*:

$$w \leftarrow w + \alpha\, \delta\, \nabla_w V_w(s), \qquad
\delta = r + \gamma V_w(s') - V_w(s), \qquad \nabla_w V_w(s) = x(s) \text{ if linear} \tag{1}$$

This is a *semi-gradient*: the target depends on $w$ too, but we treat it as a constant. Where states come as
often as the evaluated policy visits them, linear TD(0) converges nevertheless (`tsitsiklis1997analysis`).
Elsewhere it need not.

*By hand:* two states share one weight, $x(s_1) = 1$ and $x(s_2) = 2$, so $V(s_1) = w$ and $V(s_2) = 2w$.
From $s_1$ one comes to $s_2$, from $s_2$ to the end, and nothing is ever paid: $w = 0$ is right. Start with
$w > 0$.

* Both steps come equally often, as when the policy itself walks. By (1) the first moves $w$ up by
  $\alpha(2\gamma - 1)w$, the second down by $4\alpha w$, which is more: $w$ shrinks to 0.
* Only the first step comes, as it may in another policy's data. What raises the prediction $w$ raises the
  target $2\gamma w$ nearly twice as much, and each step multiplies $w$ by $1 + \alpha(2\gamma - 1)$:

```python
>>> on_policy = off_policy = 1.0
>>> for _ in range(100):
...     on_policy = semi_gradient_step(on_policy, x=1.0, next_x=2.0, reward=0.0, gamma=0.99, alpha=0.1)
...     on_policy = semi_gradient_step(on_policy, x=2.0, next_x=0.0, reward=0.0, gamma=0.99, alpha=0.1)
...     off_policy = semi_gradient_step(off_policy, x=1.0, next_x=2.0, reward=0.0, gamma=0.99, alpha=0.1)
>>> print(f"{on_policy:.4f} {off_policy:.0f}")
0.0000 11488
```

It takes three things together, the *deadly triad*: approximation, bootstrapping, and data of another policy
(off-policy; `suttonbarto2018`, chapter 11; `baird1995residual`). With a table, with whole returns, or with
the policy's own steps this example converges. Q-learning with a network has all three, and no theorem
protects it. Yet in practice its values seldom run to infinity (`vanhasselt2018triad`). How its policy swings
all the same, section 4 shows.

## 2. DQN: two remedies and a loss

A network $Q_\theta(s,\cdot)$ takes a state and answers with one value for each action, here two: push left
and push right. Its target is Q-learning's,

$$y = r + \gamma\,(1-\text{terminated})\,\max_a Q_{\theta^-}(s', a) \tag{2}$$

where only a terminal state ends the sum. A time limit does not (`pardo2018timelimits`): the library knows it
by `info["TimeLimit.truncated"]`. And regression wants two things that a stream of experience does not offer.

* **Independent samples.** Step 101 of an episode looks like step 100. *Replay*: keep the latest transitions
  and train on random ones (`lin1992replay`). Q-learning allows it: (2) does not care which policy chose $a$.
* **A fixed target.** Each gradient step would move the target, too. *Target network*: $\theta^-$ is an older
  copy of $\theta$, and stands still until the next copy.

With the error $e = Q_\theta(s,a) - y$ the loss is Huber's: small errors count by their square, large ones
only by their size, so that one wild target cannot throw all weights off. This is all that the library's
`DQN.train` minimises, as `loss_gap` checks:

$$\ell(e) = \begin{cases} \tfrac12 e^2 & |e| \le 1 \\ |e| - \tfrac12 & |e| > 1 \end{cases} \tag{3}$$

*By hand.* A reward of 1, a successor whose actions are worth 2 and 5, $\gamma = 0.9$: the target is $1 + 0.9
\cdot 5 = 5.5$, or 1 if the pole fell. Predictions of 5 and 4 miss these by 0.5 and 3. By (3) that costs 0.125
and 2.5, on average 1.3125:

```python
>>> successors = max_value(torch.tensor([[2.0, 5.0], [2.0, 5.0]]))
>>> y = td_target(torch.ones(2), successors, terminated=torch.tensor([False, True]), gamma=0.9)
>>> y.tolist(), huber_loss(torch.tensor([5.0, 4.0]), y).item()
([5.5, 1.0], 1.3125)
```
"""


# %%
def semi_gradient_step(w: float, x: float, next_x: float, reward: float, gamma: float, alpha: float) -> float:
    """One weight after one step of linear TD(0); `next_x` is 0 after a terminal state."""
    td_error = reward + gamma * w * next_x - w * x
    return w + alpha * td_error * x  # eq. (1)


def td_target(rewards: Numbers, next_values: Numbers, terminated: Flags, gamma: float) -> Numbers:
    """What Q(s, a) should be, given the value of the true successor (mnih2015dqn)."""
    return rewards + gamma * ~terminated * next_values  # eq. (2)


def max_value(target_q: Float[Tensor, "B A"]) -> Numbers:
    """The value of a state is that of its best action, as the target network sees it."""
    return target_q.amax(dim=1)  # eq. (2), the maximum


def huber_loss(predicted: Numbers, target: Numbers) -> Float[Tensor, ""]:
    """Mean of (3): its gradient in each prediction is the error, clipped to [-1, 1], over B."""
    error = (predicted - target).abs()
    return torch.where(error <= 1.0, 0.5 * error**2, error - 0.5).mean()  # eq. (3)


def loss_gap(model: DQN, size: int = 2048) -> float:
    """|loss that the library logs for one gradient step - loss by (2) and (3)| on the same minibatch."""
    state = np.random.get_state()  # noqa: NPY002 — the library draws from the global generator
    batch = model.replay_buffer.sample(size)
    with torch.no_grad():
        next_values = max_value(model.q_net_target(batch.next_observations))
        targets = td_target(batch.rewards[:, 0], next_values, batch.dones[:, 0].bool(), model.gamma)
        predicted = model.q_net(batch.observations).gather(1, batch.actions)[:, 0]
        ours = huber_loss(predicted, targets)
    np.random.set_state(state)  # noqa: NPY002 — so that it draws the same minibatch
    model.train(gradient_steps=1, batch_size=size)
    return abs(model.logger.name_to_value["train/loss"] - float(ours))


# %% [markdown]
r"""
## 3. The library, and how we watch it

SB3 hands its metrics to *writers*. Ours, `RunLogWriter`, passes them on to the lesson's log, so that `--track
tensorboard` or `--track wandb` shows them. A *callback* is called after each environment step: ours,
`KeepBest`, tests the greedy policy at intervals, and saves the model whenever it is the best so far.
"""


# %%
def make_model(cfg: Config) -> DQN:
    """Stable-Baselines3's DQN; left its names, right ours. It also clips the gradient's norm, at 10."""
    return DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=cfg.learning_rate,
        gamma=0.99,
        buffer_size=100_000,  # more than a run has transitions
        learning_starts=cfg.num_warmup_steps,
        batch_size=64,
        train_freq=cfg.num_steps,
        gradient_steps=cfg.num_gradient_steps,
        target_update_interval=cfg.sync_every,
        exploration_fraction=cfg.num_exploration_steps / cfg.num_env_steps,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        seed=cfg.seed,
        device="cpu",
    )


class RunLogWriter(KVWriter):
    """Stable-Baselines3's logger, mirrored to the run log."""

    def __init__(self, log: RunLog):
        self.log = log

    def write(self, key_values: dict, key_excluded: dict, step: int = 0) -> None:
        timings = {"time/fps": "steps_per_second", "time/time_elapsed": "elapsed_seconds"}
        named = {timings.get(key, key.replace("/", "_")): value for key, value in key_values.items()}
        self.log.write(step, **named)


class KeepBest(BaseCallback):
    """Evaluates every `eval_every` steps and saves the model whenever it did better than ever before."""

    def __init__(self, cfg: Config, log: RunLog):
        super().__init__()
        self.cfg, self.log, self.best_return = cfg, log, -np.inf
        self.progress = iter(log.track(range(cfg.num_env_steps), "steps", show="eval_return"))

    def _on_step(self) -> bool:
        next(self.progress, None)
        # the library calls this before the gradient steps of a round: one step later they are surely done
        if self.num_timesteps % self.cfg.eval_every == 1:
            self.measure(self.num_timesteps - 1)
        return True

    def _on_training_end(self) -> None:
        self.measure(self.num_timesteps)

    def measure(self, step: int) -> None:
        score = greedy_returns(self.model, self.cfg, self.cfg.seed + 10_000).mean()
        self.log.write(step, eval_return=score)
        if score > self.best_return:
            self.best_return = score
            self.model.save(self.log.folder / "best.zip")


def greedy_returns(model: DQN, cfg: Config, seed: int) -> np.ndarray:
    """Returns [episodes] of the greedy policy, on seeds that training did not use."""
    policy = lambda obs: model.predict(obs, deterministic=True)[0]  # noqa: E731
    return evaluate(policy, "CartPole-v1", episodes=cfg.num_eval_episodes, seed=seed)


def train(cfg: Config, log: RunLog) -> DQN:
    """The model at the end of training; the best one on the way is in `best.zip`."""
    seed_everything(cfg.seed)
    model = make_model(cfg)
    model.set_logger(Logger(str(log.folder), [RunLogWriter(log)]))
    model.learn(cfg.num_env_steps, callback=KeepBest(cfg, log), log_interval=20)
    model.save(log.folder / "last.zip")
    return model


# %% [markdown]
r"""
## 4. Look, break, write

![The greedy return reaches 500 and falls back, several times; best and last are marked](results/B3.png)

A policy that scores 500 of 500 can score a fraction of it a thousand steps later, and nothing is broken: each
gradient step changes the values of all states at once, and the action changes wherever two values cross.
Nothing in (2) asks the *policy* to stay, so the last model of a run is a lottery ticket. Hence the callback:
it chooses the best model on one set of episodes, and we test it on another.

The pale line is what the library itself reports: the mean return of the latest 100 training episodes, whose
actions are partly random (in the end one in 25). So long an average hides most of the forgetting.

![Film from the same start: above the best model, which holds the pole, below the last](results/B3_film.gif)

The best model is picked with hindsight: it says nothing of the rest of the run. Here are both, for all seeds:

![For each seed: the best and the last model's return; how many evaluations after the first success reach
475](results/B3_seeds.png)

**The verdict.** A network takes the table's place, trained by regression on its own delayed answers. It finds
a policy that balances the pole, and does not stay there. The saved best model holds on fresh episodes; but on
every seed some evaluations after the first success fall below the threshold again.

<!-- results: B3 -->

`rl run B3`: 56 s; with `--evidence`: 61 s, 1209 MB; with `--smoke --evidence`: 5 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| best_return                 | 500              | ≥ 475    | 5/5 |
| loss_gap                    | 0                | ≤ 0.0001 | 5/5 |
| actions_changed_by_reload * | 0                | ≤ 0      | 5/5 |
| falls_after_success *       | 11 (7 to 27)     | ≥ 1      | 5/5 |
| film_kilobytes *            | 278 (236 to 289) | ≤ 500    | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `best_return`: the saved best model balances the pole on fresh episodes (mean return of 100 episodes)
- `loss_gap`: the loss that the library minimises is that of equations (2) and (3), on the same minibatch
- `actions_changed_by_reload`: a model that was saved and loaded again acts identically (of 1000 observations)
- `falls_after_success`: after the first evaluation that reaches the threshold, later ones of the same run are
  below it (evaluations below 475)
- `film_kilobytes`: the film of the best model above the last one is small enough to send around (kB)
</details>

<!-- /results -->

**Break it.** Training is the library's, so a wrong target of ours shows only in `loss_gap`:
`rl break B3 mean_for_max` aims at the value of random play, `rl break B3 no_terminal` lets a fallen pole earn
on. `rl break B3 keeps_the_last` breaks the callback, which then saves every model as "best".

**Exercises.**

<!-- exercises: B3 -->

*B3.1 · The library's loss* (25 minutes, easy). Write a step of linear TD(0), (1), then the target (2) and the
loss (3) that the library holds you to. `rl exercise B3.semi_gradient_step`, `rl exercise B3.td_target`, `rl
exercise B3.huber_loss`.

*B3.2 · A target network that does nothing* (10 minutes, medium). Here `--sync-every 1` gives the same run,
number for number, `--sync-every 5000` quite another. Why? Which settings would take the target network away?

<details><summary>Answer</summary>

The library copies only while it steps the environment, and takes its gradient steps only in the rounds
between. While the environment is stepped $\theta$ does not change: one copy does as much as 256. During a
round there is no copy: $\theta^-$ stands still for all its gradient steps. With 5000 it stays the same for
some twenty rounds, and by (2) a reward travels back about one step a copy. To take the target network away,
set `--num-steps 1 --num-gradient-steps 1 --sync-every 1`: then $\theta^- = \theta$ at each gradient step.
</details>

*B3.3 · The triad again* (15 minutes, medium). Give section 1's example a target network, in the case where
only the step from $s_1$ comes. The target is computed with a copy $w^-$, which stands still for $n$ steps:

$$w \leftarrow w + \alpha\,(2 \gamma\, w^- - w) \quad (n \text{ times}), \qquad
\text{then } w^- \leftarrow w \tag{E1}$$

What is the weight at each copy? Guess before you run it:
does a large enough $n$ make $w$ converge? `rl exercise B3.weights_at_copies`.

<details><summary>Answer</summary>

No. While $w^-$ stands still, $w$ moves towards $2\gamma w^-$. So from copy to copy it grows by a factor
between 1 and $2\gamma$, which is 1.98 for $\gamma = 0.99$: slower divergence, but divergence. Taking away
one of the triad's three is all that helps.
</details>

*B3.4 · One number for all seeds* (10 minutes, easy). A best model is picked with hindsight.
`machado2018revisiting` asks for averages along the training instead, `agarwal2021rliable` for the
*interquartile mean* (IQM) over all seeds and evaluations. Put the $n$ scores in order, $x_{(1)} \le x_{(2)}
\le \dots$, and take the mean of the middle half:

$$\text{IQM} = \frac2n \sum_{i = n/4 + 1}^{3n/4} x_{(i)} \tag{E2}$$

Then think of five seeds, one of which never learns.
Does this number say so? `rl exercise B3.interquartile_mean`.

<details><summary>Answer</summary>

Hardly: that seed's scores are a fifth of all and among the lowest, and the lowest quarter is cut. That is the
price of a number that one accident barely moves. So draw all seeds beside it, as in the figure above.
</details>

*B3.5 · Find the bug* (10 minutes). `rl exercise B3.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(log: RunLog, best: int) -> None:
    """The greedy return along the training, with the best and the last model."""
    figure, ax = plotting.new_figure(width=8.0)
    steps, returns = log.series("eval_return")
    ax.plot(steps, returns, color=plotting.BLUE, label="greedy, mean of 100 episodes")
    if "rollout_ep_rew_mean" in log.metrics:
        steps_logged, while_exploring = log.series("rollout_ep_rew_mean")
        ax.plot(steps_logged, while_exploring, color=plotting.SKY, linewidth=1.5, label="while exploring")
    ax.plot(steps[best], returns[best], "o", color=plotting.GREEN, label="best, saved", clip_on=False)
    ax.plot(steps[-1], returns[-1], "s", color=plotting.RED, label="last", clip_on=False)
    ax.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    ax.set(xlabel="environment steps", ylabel="return", ylim=(0, 510), title="Does it stay solved?")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    last = train(cfg, log)
    best = DQN.load(log.folder / "best.zip", device="cpu")
    last_return = greedy_returns(last, cfg, cfg.seed + 20_000).mean()
    log.claim(
        "best_return",
        "the saved best model balances the pole on fresh episodes",
        greedy_returns(best, cfg, cfg.seed + 20_000).mean(),
        at_least=SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
        seeds="9/10",
    )
    log.claim(
        "loss_gap",
        "the loss that the library minimises is that of equations (2) and (3), on the same minibatch",
        loss_gap(last),
        at_most=1e-4,
        source="mnih2015dqn",
        always=True,
    )
    returns = np.array(log.series("eval_return")[1])
    solved = (returns >= SOLVED).mean()
    log.write(cfg.num_env_steps, last_return=last_return, share_of_evaluations_solved=solved)
    log.keep(best=best, last=last)
    draw(log, int(returns.argmax()))


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
