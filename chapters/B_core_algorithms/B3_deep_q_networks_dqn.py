# %% [markdown]
r"""
# B3 · Deep Q-networks with Stable-Baselines3

**Question.** CartPole has infinitely many states, so no table can hold its values. What does a library's DQN
put in the table's place, and when it has solved the task, does it stay solved?

**Before this:** B1 and B2 (Q-learning and SARSA in tables). **Changes from B1:** the table becomes a
network, which brings replay and a target network with it; the loop is Stable-Baselines3's, and we watch it
through callbacks. **Next:** B4 writes every part of this out.

**Time budget.** 120 s on 2 cores.

<!-- results: B3 -->

`rl run B3`: 58 s, 1198 MB. `rl run B3 --smoke`: 7 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| actions_changed_by_reload | 0                | ≤ 0      | 5/5 |
| best_return               | 500              | ≥ 475    | 5/5 |
| loss_gap                  | 0                | ≤ 0.0001 | 5/5 |
| film_kilobytes            | 269 (249 to 285) | ≤ 500    | 5/5 |

<!-- /results -->

References: `mnih2015dqn`, `lin1992replay`, `raffin2021sb3`, `raffin2020zoo`, `pardo2018timelimits`.

Symbols: `B` transitions in a minibatch, `A` actions, $\theta$ online weights, $\theta^-$ target weights.
"""

# %%
import os
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor

from chapters.envs import evaluate
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything

SOLVED = 475.0  # the threshold registered for CartPole-v1


# %%
@dataclass(frozen=True)
class Config:
    """Stable-Baselines3's DQN on CartPole; the defaults are rl-zoo's, but half as many steps again."""

    seed: int = 0
    """Seed of torch, numpy and the environment."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 75_000
    """Environment steps of training (rl-zoo stops after 50,000)."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 2.3e-3
    """Adam step size."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.99
    """Discount factor."""
    buffer_size: Annotated[int, in_range(1, 10_000_000)] = 100_000
    """Transitions the replay buffer holds."""
    num_warmup_steps: Annotated[int, in_range(1, 1_000_000)] = 1000
    """Environment steps before the first gradient step."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 64
    """B: transitions per gradient step."""
    num_steps: Annotated[int, in_range(1, 100_000)] = 256
    """Environment steps between two rounds of gradient steps."""
    num_gradient_steps: Annotated[int, in_range(1, 100_000)] = 128
    """Gradient steps in each round."""
    sync_every: Annotated[int, in_range(1, 1_000_000)] = 10
    """Environment steps between copies of the online weights into the target network."""
    num_exploration_steps: Annotated[int, in_range(1, 10_000_000)] = 8000
    """Environment steps over which epsilon falls from 1."""
    epsilon_end: Annotated[float, in_range(0.0, 1.0)] = 0.04
    """What epsilon falls to."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 256
    """Units in each of the two hidden layers."""
    eval_every: Annotated[int, in_range(1, 1_000_000)] = 1024
    """Environment steps between evaluations."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Greedy episodes in one evaluation."""


SMOKE = {
    "num_env_steps": 300, "num_exploration_steps": 100, "num_warmup_steps": 64, "num_steps": 64,
    "num_gradient_steps": 4, "hidden_size": 16, "eval_every": 128, "num_eval_episodes": 4,
}  # fmt: skip

# %% [markdown]
r"""
## 1. From a table to a network

B1 kept one number for each state and action. CartPole's state is four real numbers: position, velocity,
angle, angular velocity. No state is ever seen twice, so the values must *generalise*: a network
$Q_\theta(s,\cdot)$ reads the four numbers and answers with one value for each of the two pushes. Training is
regression of $Q_\theta(s,a)$ on the target that Q-learning always used,

$$y = r + \gamma\,(1-\text{terminated})\,\max_a Q_{\theta^-}(s', a) \tag{1}$$

and regression wants two things that a stream of experience does not offer.

* **Independent samples.** Step 101 of an episode looks like step 100. *Replay*: keep the last 100,000
  transitions and train on random ones. Q-learning allows this: (1) does not care which policy chose $a$.
* **A fixed target.** In (1) the network itself says what it should learn, and each step of learning moves all
  of its answers, those in $y$ too. *Target network*: $\theta^-$ is a copy of $\theta$, renewed now and then.

When the time limit of 500 steps cuts an episode, `terminated` is false and the bootstrap stays. The library
knows this from `info["TimeLimit.truncated"]`, which its environments set.

A large error counts less than its square, so that one wild target does not throw all the weights off
(Huber's loss, with $e = Q_\theta(s,a) - y$):

$$\ell(e) = \begin{cases} \tfrac12 e^2 & |e| \le 1 \\ |e| - \tfrac12 & |e| > 1 \end{cases} \tag{2}$$

This is all the mathematics in the library's `DQN.train`, and we hold it to that: one gradient step of the
library, on a minibatch that we know, must log the very loss that (1) and (2) give.
"""


# %%
def td_target(
    rewards: Float[Tensor, " B"],
    next_values: Float[Tensor, " B"],
    terminated: Bool[Tensor, " B"],
    gamma: float,
) -> Float[Tensor, " B"]:
    """What Q(s, a) should be, given the value of the true successor (mnih2015dqn)."""
    return rewards + gamma * ~terminated * next_values  # eq. (1)


def max_value(target_q: Float[Tensor, "B A"]) -> Float[Tensor, " B"]:
    """The value of a state is that of its best action, as the target network sees it."""
    return target_q.amax(dim=1)  # eq. (1), the maximum


def huber_loss(predicted: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean of (2): its gradient in each prediction is the error, clipped to [-1, 1], over B."""
    error = (predicted - target).abs()
    return torch.where(error <= 1.0, 0.5 * error**2, error - 0.5).mean()  # eq. (2)


def loss_gap(model: DQN) -> float:
    """|loss that the library logs for one gradient step - loss by (1) and (2)| on the same minibatch."""
    state = np.random.get_state()  # noqa: NPY002 — the library draws from the global generator
    batch = model.replay_buffer.sample(model.batch_size)
    with torch.no_grad():
        targets = td_target(
            batch.rewards.squeeze(1), max_value(model.q_net_target(batch.next_observations)),
            batch.dones.squeeze(1).bool(), model.gamma,
        )  # fmt: skip
        predicted = model.q_net(batch.observations).gather(1, batch.actions).squeeze(1)
        ours = huber_loss(predicted, targets)
    np.random.set_state(state)  # noqa: NPY002 — so that it draws the same minibatch
    model.train(gradient_steps=1, batch_size=model.batch_size)
    return abs(model.logger.name_to_value["train/loss"] - float(ours))


# %% [markdown]
r"""
## 2. The library, and our names for its settings

Every library has its own words. They are translated once, here.
"""


# %%
def make_model(cfg: Config) -> DQN:
    """Stable-Baselines3's DQN; left its names, right ours."""
    return DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=cfg.learning_rate,
        gamma=cfg.gamma,
        buffer_size=cfg.buffer_size,
        learning_starts=cfg.num_warmup_steps,
        batch_size=cfg.minibatch_size,
        train_freq=cfg.num_steps,
        gradient_steps=cfg.num_gradient_steps,
        target_update_interval=cfg.sync_every,
        exploration_fraction=cfg.num_exploration_steps / cfg.num_env_steps,
        exploration_final_eps=cfg.epsilon_end,
        policy_kwargs={"net_arch": [cfg.hidden_size, cfg.hidden_size]},
        seed=cfg.seed,
        device="cpu",
    )


# %% [markdown]
r"""
## 3. Watching it: a logger and a callback

The library logs through writers. Ours passes everything on to the run log, so that `--track tensorboard` or
`--track wandb` shows the library's curves too. The callback plays 100 greedy episodes every thousand steps
and keeps the best model on disk. (The library's own `EvalCallback` does the same, but steps one environment
at a time: 100 episodes of 500 steps would take longer than the thousand steps of training in between.)
"""


# %%
# the run log knows timings, which differ from run to run, by the ends of their names
TIMINGS = {"time/fps": "steps_per_second", "time/time_elapsed": "elapsed_seconds"}


class RunLogWriter(KVWriter):
    """Stable-Baselines3's logger, mirrored to the run log."""

    def __init__(self, log: RunLog):
        self.log = log

    def write(self, key_values: dict, key_excluded: dict, step: int = 0) -> None:
        names = {key: TIMINGS.get(key, key.replace("/", "_")) for key in key_values}
        self.log.write(step, **{names[key]: value for key, value in key_values.items()})

    def close(self) -> None:
        """The run log closes itself."""


class KeepBest(BaseCallback):
    """Evaluates every `eval_every` steps and saves the model whenever it did better than ever before."""

    def __init__(self, cfg: Config, log: RunLog):
        super().__init__()
        self.cfg, self.log, self.best_return = cfg, log, -np.inf
        self.progress = iter(log.track(range(cfg.num_env_steps), "steps", show="eval_return"))

    def _on_step(self) -> bool:
        next(self.progress, None)
        # one step late: the library's gradient steps come after this call for the last step of a round
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
    return evaluate(
        lambda obs: model.predict(obs, deterministic=True)[0],
        "CartPole-v1", episodes=cfg.num_eval_episodes, seed=seed,
    )  # fmt: skip


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
## 4. Run, look, break

The figure shows the greedy return of the network after every thousand steps. A policy that scores 500 out of
500 can score 100 a thousand steps later, and nothing is broken: each gradient step changes the values of all
states at once, and the action changes wherever two values cross. Nothing in (1) asks the *policy* to stay. So
the last model of a run is a lottery ticket. A DQN is judged by its best model, chosen on one set of episodes
and tested on another: that is what the callback is for. `last_return` in the log is what you get without it,
and the film shows both from the same start.

The pale line is the return while exploring, as the library logs it: the mean of the last 100 episodes, with
one action in 25 random. It moves smoothly and hides most of the forgetting. Do not judge a DQN by it.

**Break it.** `--sync-every 5000` renews the target network fifteen times in a run instead of once a round.
By (1) a reward travels back one step for each renewal. With seed 0 the greedy return then touched 500 in
five of 75 evaluations, never in two together. And still the claim about the best model passed: a best of
many looks forgives a lot. Read the curve, not only the claim.

**Exercises.** (1) Halve and double `--num-gradient-steps` and predict which curve falls more often. (2) With
these settings `--sync-every 1` changes next to nothing. Why? (When are the copies made, and when the gradient
steps?) Which settings would take the target network away in earnest? (3) Let `KeepBest` stop the training at
the first 475 by returning `False` from `_on_step`, and compare the time.
"""


# %%
def film_frames(models: dict[str, DQN], seed: int, every: int = 4) -> list[np.ndarray]:
    """One greedy episode of each model, one above the other; a finished one stays on its last picture."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    films = []
    for name, model in models.items():
        env = gym.make("CartPole-v1", render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames, done = [], False
        while not done:
            action, _ = model.predict(obs, deterministic=True)
            obs, _, terminated, truncated, _ = env.step(int(action))
            done = terminated or truncated
            picture = Image.fromarray(env.render()[120:330])  # without the floor and the empty sky
            text = f"{name}: step {len(frames) + 1}" + (", fallen" if terminated else "")
            ImageDraw.Draw(picture).text((12, 4), text, fill="black", font_size=30)
            frames.append(np.asarray(picture))
        env.close()
        films.append(frames[:-1:every] + frames[-1:])
    length = max(map(len, films))
    films = [frames + frames[-1:] * (length - len(frames)) for frames in films]
    return [np.concatenate(pair, axis=0) for pair in zip(*films)]


def draw(log: RunLog, best: int) -> None:
    figure, ax = plotting.new_figure(width=8.0)
    steps, returns = log.series("eval_return")
    ax.plot(steps, returns, color=plotting.BLUE, label="greedy, mean of 100 episodes")
    if "rollout_ep_rew_mean" in log.metrics:
        ax.plot(
            *log.series("rollout_ep_rew_mean"), color=plotting.SKY, linewidth=1.5, label="while exploring"
        )
    ax.plot(steps[best], returns[best], "o", color=plotting.GREEN, markersize=9, label="best, saved")
    ax.plot(steps[-1], returns[-1], "s", color=plotting.RED, markersize=9, label="last")
    ax.axhline(SOLVED, label="threshold 475", **plotting.REFERENCE)
    ax.set(xlabel="environment steps", ylabel="return", ylim=(0, 640), title="Does it stay solved?")
    ax.legend(loc="upper center", ncols=3)
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    last = train(cfg, log)
    best = DQN.load(log.folder / "best.zip", device="cpu")
    again = DQN.load(log.folder / "last.zip", device="cpu")
    obs = np.random.default_rng(cfg.seed).normal(size=(1000, 4)).astype(np.float32)
    different = last.predict(obs, deterministic=True)[0] != again.predict(obs, deterministic=True)[0]
    log.claim(
        "actions_changed_by_reload", "a model that was saved and loaded again acts identically",
        different.sum(), at_most=0.0, unit="of 1000 observations", source="identity", always=True,
    )  # fmt: skip
    fresh = {name: greedy_returns(model, cfg, cfg.seed + 20_000).mean() for name, model in
             (("best", best), ("last", last))}  # fmt: skip
    log.claim(
        "best_return", "the saved best model balances the pole on fresh episodes",
        fresh["best"], at_least=SOLVED, unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1", seeds="9/10",
    )  # fmt: skip

    log.claim(
        "loss_gap", "the library's loss is equations (1) and (2), on the same minibatch",
        loss_gap(last), at_most=1e-4, source="mnih2015dqn", always=True,
    )  # fmt: skip

    _, returns = log.series("eval_return")
    solved = np.array(returns) >= SOLVED
    log.write(cfg.num_env_steps, last_return=fresh["last"], share_of_evaluations_solved=solved.mean())
    draw(log, int(np.argmax(returns)))
    film = log.film(film_frames({"best": best, "last": last}, cfg.seed + 20_000))
    log.claim(
        "film_kilobytes", "the film of the best model above the last one is small enough to send around",
        film.stat().st_size / 1000, at_most=500.0, unit="kB", source="our limit for films", always=True,
    )  # fmt: skip


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
