"""C1's evidence: estimators on the chain, parity with Stable-Baselines3, C0 and SB3 on CartPole; LunarLander.

LunarLander's policies are judged in their better way to act, greedy or sampled, as found on other episodes:
an untrained network acts far worse greedily than by chance, and a trained one may hover for ever.
"""

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float
from stable_baselines3 import A2C
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from chapters.C_policy_gradients import C0_policy_gradients_reinforce as reinforce
from chapters.C_policy_gradients import C1_actor_critic_methods_a2c as lesson
from chapters.C_policy_gradients.evidence import C1_figures as figures
from chapters.envs import evaluate
from chapters.exact.chain import Chain
from chapters.utils import CpuClock, RunLog, in_range, seed_everything

Steps, Flags = lesson.Steps, lesson.Flags
IN_A_ROW = 3  # for how many checks the threshold must hold
LANDER = "LunarLander-v3"
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
STEPS_AHEAD = (1, 2, 3, 5, 8, 12, 20, 40, 100)
AGES = np.arange(500)  # how far ahead a TD error lies: further than any chain lasts


@dataclass(frozen=True)
class Config:
    """Stable-Baselines3 on LunarLander, how long C0 learns, and how much of the chain is seen."""

    num_lander_steps: Annotated[int, in_range(1, 100_000_000)] = 200_000
    """Environment steps on LunarLander (rl-zoo's number)."""
    num_reinforce_updates: Annotated[int, in_range(1, 100_000)] = 40
    """Batches of whole episodes that C0's learner gets; what goes beyond the others' steps is not shown."""
    num_chain_episodes: Annotated[int, in_range(100, 10_000_000)] = 20_000
    """Episodes of the chain on which each estimator is measured."""


SMOKE = {"num_lander_steps": 80, "num_reinforce_updates": 3, "num_chain_episodes": 4000}


# Estimators: the lesson's equations (2) and (3).


def n_step_advantages(
    rewards: Steps, values: Steps, next_values: Steps, terminated: Flags, truncated: Flags,
    gamma: float, n: int,
) -> Steps:  # fmt: skip
    """n real rewards, then the critic; fewer where the episode or the rollout ends before."""
    deltas = rewards + gamma * next_values * ~terminated - values
    going_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    for _ in range(n):  # one more error, behind those that are there
        following = torch.cat([advantages[1:], torch.zeros_like(advantages[:1])])
        advantages = deltas + gamma * following * going_on
    return advantages


def lambda_return_gap(cfg: lesson.Config) -> float:
    """Largest difference between `gae` and the average over n, on random rollouts with random ends."""
    torch.manual_seed(cfg.seed)
    rewards, values, next_values = torch.randn(3, 12, 5, dtype=torch.float64)
    terminated, truncated = torch.rand(2, 12, 5) < 0.1
    rollout = rewards, values, next_values, terminated, truncated, cfg.gamma
    average = 0.9**11 * n_step_advantages(*rollout, 12)  # no n above 12 adds anything
    for n in range(1, 12):
        average += 0.1 * 0.9 ** (n - 1) * n_step_advantages(*rollout, n)
    return float((lesson.gae(*rollout, 0.9) - average).abs().max())


def buffer_gap(cfg: lesson.Config) -> float:
    """Largest difference between our `gae` and Stable-Baselines3's, on random data with random ends.

    The library has one mask only: at a time limit it adds gamma V(final obs) to the *reward* and then calls
    the step an end: the same number as keeping the bootstrap in (1) and stopping the sum in (3).
    """
    torch.manual_seed(cfg.seed)
    T, N = 40, 6
    rewards, values, final_values = torch.randn(3, T + 1, N)
    terminated, truncated = torch.rand(2, T, N) < 0.1  # [T, N] each
    done = terminated | truncated
    next_values = torch.where(done, final_values[:T], values[1:])
    ends = terminated, truncated
    ours = lesson.gae(rewards[:T], values[:T], next_values, *ends, cfg.gamma, cfg.gae_lambda)

    space = gym.spaces.Box(-1.0, 1.0, (1,))
    buffer = RolloutBuffer(T, space, space, "cpu", gae_lambda=cfg.gae_lambda, gamma=cfg.gamma, n_envs=N)
    starts = np.zeros(N)
    for t in range(T):
        kept = rewards[t] + cfg.gamma * final_values[t] * (truncated[t] & ~terminated[t])
        buffer.add(np.zeros((N, 1)), np.zeros((N, 1)), kept.numpy(), starts, values[t], torch.zeros(N))
        starts = done[t].numpy()
    buffer.compute_returns_and_advantage(values[T], starts)
    return float(np.abs(buffer.advantages - ours.numpy()).max())


def claim_identities(cfg: lesson.Config, log: RunLog) -> None:
    log.claim(
        "lambda_return_gap",
        "GAE is the average of the n-step advantages with weights (1 - lambda) lambda^(n - 1)",
        lambda_return_gap(cfg),
        at_most=1e-9,
        unit="largest difference",
        source="eq. (3) against its definition, on random rollouts with both kinds of end",
        always=True,
    )
    log.claim(
        "gae_sb3_gap",
        "our GAE equals Stable-Baselines3's buffer, with random terminations and time limits",
        buffer_gap(cfg),
        at_most=1e-5,
        source="stable-baselines3, RolloutBuffer",
        always=True,
    )


# The chain: bias and noise of both families of estimators.


def curves_of(world: Chain, num_episodes: int) -> tuple[dict[str, np.ndarray], float]:
    """({family: [knobs, 3] exact bias, measured bias, deviation}, the worst measured mean in std. errors)."""
    data = world.sample(num_episodes)
    never = torch.zeros_like(data["terminated"])
    names = ("rewards", "values", "next_values", "terminated")
    rollout = *(data[name] for name in names), never, world.gamma
    families = {
        "gae": (LAMBDAS, lesson.gae, lambda lam: (world.gamma * lam) ** AGES),
        "n_step": (STEPS_AHEAD, n_step_advantages, lambda n: world.gamma**AGES * (n > AGES)),
    }
    curves, worst = {}, 0.0
    for family, (knobs, estimator, weights) in families.items():
        rows = []
        for knob in knobs:
            estimates = estimator(*rollout, knob)[0].numpy()  # [episodes]
            bias, deviation = world.bias(weights(knob)), estimates.std(ddof=1)
            off = estimates.mean() - world.mean(world.critic, weights(knob))
            worst = max(worst, abs(off) / deviation * len(estimates) ** 0.5)
            rows.append((bias, bias + off, deviation))
        curves[family] = np.array(rows)
    return curves, worst


def noise_ratios(curves: dict[str, np.ndarray], upto: int) -> Float[np.ndarray, " n"]:
    """For 2 to `upto` steps: GAE's deviation at the same bias, on a line between two lambdas, over theirs."""
    biases, _, deviations = np.abs(curves["gae"]).T
    order = np.argsort(biases)
    shown = [row for n, row in zip(STEPS_AHEAD, np.abs(curves["n_step"])) if 2 <= n <= upto]
    return np.array([np.interp(row[0], biases[order], deviations[order]) / row[2] for row in shown])


def half_wrong_chain(seed: int) -> Chain:
    """The critic is right in odd states, in one of which episodes begin, and says half of it in others."""
    world = Chain(seed)
    world.critic = np.where(np.arange(world.size) % 2 == 1, world.V, 0.5 * world.V)
    return world


def claim_middle_lambda(cfg: lesson.Config, log: RunLog) -> None:
    world = Chain(cfg.seed)
    data = world.sample(20_000)
    never = torch.zeros_like(data["terminated"])
    for lam in LAMBDAS:
        estimates = lesson.gae(**data, truncated=never, gamma=world.gamma, gae_lambda=lam)[0]  # [episodes]
        error = world.rms_error(estimates.numpy(), (world.gamma * lam) ** AGES)
        log.write(round(100 * lam), chain_error=error)
    errors = log.series("chain_error")[1]
    log.claim(
        "middle_lambda",
        "some lambda between 0 and 1 comes nearer the truth than both ends",
        min(errors[1:-1]) / min(errors[0], errors[-1]),
        at_most=1.0,
        unit="ratio of root mean square errors",
        source="schulman2016gae",
    )


def claim_chain(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    curves, worst = curves_of(Chain(cfg.seed), extra.num_chain_episodes)
    log.claim(
        "chain_gap",
        "the mean of every sampled estimator is what equation (4) computes",
        worst,
        at_most=5.0,
        unit="standard errors",
        source="exact mean by linear algebra",
        always=True,
    )
    log.claim(
        "gae_quieter",
        "on the chain, with noisy rewards, GAE varies less than 2 to 20 steps of the same bias",
        noise_ratios(curves, upto=20).max(),
        at_most=1.0,
        unit="largest ratio of standard deviations",
        source="equal noise",
    )
    half_wrong, _ = curves_of(half_wrong_chain(cfg.seed), extra.num_chain_episodes)
    two, all_rewards = half_wrong["n_step"][1], half_wrong["gae"][-1]
    log.write(0, half_wrong_two_step_bias=two[0], half_wrong_lambda_one_bias=all_rewards[0])
    log.claim(
        "two_steps_quieter",
        "with a critic wrong in every other state, two steps have no bias, and vary less than GAE without",
        all_rewards[2] / two[2],
        at_least=1.0,
        unit="ratio of standard deviations, lambda = 1 over n = 2",
        source="equal noise; both means exact",
        always=True,
    )
    figures.draw_chain(curves, half_wrong, LAMBDAS, STEPS_AHEAD, log)


# CartPole: C0's learner and the library's beside ours.


def crossings(steps: list, returns: list) -> tuple[float, float, float]:
    """(steps at the first check that reached 475, at the third in a row, share of checks that did)."""
    solved = np.array(returns) >= lesson.SOLVED
    first = [step for step, good in zip(steps, solved) if good]
    row = [steps[i - 1] for i in range(IN_A_ROW, len(steps) + 1) if solved[i - IN_A_ROW : i].all()]
    return float([*first, np.inf][0]), float([*row, np.inf][0]), float(solved.mean())


class Scores:
    """Greedy returns while a library's learner trains, its CPU seconds between them, and its best weights."""

    def __init__(self, name: str, cfg: lesson.Config, log: RunLog):
        self.name, self.cfg, self.log = name, cfg, log
        self.seconds, self.best_return, self.best = 0.0, -np.inf, None
        self.next_check, self.resumed = cfg.eval_every, time.process_time()

    def check(self, num_steps: int, policy: nn.Module) -> bool:
        """Evaluate with the clock stopped, once every `eval_every` steps; True, so that learning goes on."""
        if num_steps < self.next_check:
            return True
        self.next_check = (num_steps // self.cfg.eval_every + 1) * self.cfg.eval_every
        self.seconds += time.process_time() - self.resumed
        score = greedy_return(act_of(policy), self.cfg, 10_000)
        self.log.write(num_steps, **{f"{self.name}_return": score, f"{self.name}_cpu_seconds": self.seconds})
        if score > self.best_return:
            self.best_return, self.best = score, copy.deepcopy(policy)
        self.resumed = time.process_time()
        return True


def act_of(policy: nn.Module, greedy: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """How one of the library's policies acts."""
    return lambda obs: policy.predict(obs, deterministic=greedy)[0]


def greedy_return(act: Callable[[np.ndarray], np.ndarray], cfg: lesson.Config, seed: int) -> float:
    """Mean return of whole episodes."""
    return float(evaluate(act, cfg.env_id, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed).mean())


# Its `n_envs` is our `num_envs`, its `n_steps` our `num_steps`, not the n of (2); other names agree. It takes
# RMSprop for Adam, and at a time limit does what `buffer_gap` says.
def train_sb3(cfg: lesson.Config, log: RunLog) -> Scores:
    """Stable-Baselines3's A2C on CartPole at rl-zoo's settings, which are its defaults."""
    torch.optim.Adam([nn.Parameter(torch.zeros(1))]).step()  # imports torch's compiler, before the clock runs
    seed_everything(cfg.seed)
    envs = make_vec_env(cfg.env_id, n_envs=8, seed=cfg.seed)
    model = A2C("MlpPolicy", envs, ent_coef=cfg.ent_coef, n_steps=5, seed=cfg.seed, device="cpu")
    scores = Scores("sb3", cfg, log)
    # the library calls back after every step in the environments
    model.learn(cfg.num_env_steps, callback=lambda *_: scores.check(model.num_timesteps, model.policy))
    return scores


def train_reinforce(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """C0's learner as it stands there; of its checks those count that are `eval_every` steps apart."""
    own = reinforce.Config(
        seed=cfg.seed, num_updates=extra.num_reinforce_updates, num_eval_episodes=cfg.num_eval_episodes
    )
    quiet = RunLog(log.folder / "reinforce", "C0")
    reinforce.train(own, quiet)
    quiet.close()
    names = ("env_steps", "return", "cpu_seconds")
    next_check = cfg.eval_every
    for step, score, seconds in zip(*(quiet.series(f"leave_one_out_{name}")[1] for name in names)):
        if next_check <= step <= cfg.num_env_steps:
            next_check = (step // cfg.eval_every + 1) * cfg.eval_every
            log.write(step, reinforce_return=score, reinforce_cpu_seconds=seconds)


def compare_learners(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    train_reinforce(cfg, extra, log)
    scores = train_sb3(cfg, log)
    for name in figures.LABELS:
        first, third, share = crossings(*log.series(f"{name}_return"))
        found = {"first_steps": first, "third_steps": third, "share_solved": share}
        log.write(cfg.num_env_steps, **{f"{name}_{key}": value for key, value in found.items()})
    log.claim(
        "sb3_best_return",
        "A2C, SB3: the saved best model balances the pole afresh",
        greedy_return(act_of(scores.best), cfg, 20_000),
        at_least=lesson.SOLVED,
        unit="mean return of 100 episodes",
        source="the threshold registered for CartPole-v1",
    )


# LunarLander, by the library.


def lander_returns(policy: nn.Module, cfg: lesson.Config) -> np.ndarray:
    """Returns [episodes], acting greedily or by sampling, whichever did better on other episodes."""

    def returns(act: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
        return evaluate(act, LANDER, episodes=cfg.num_eval_episodes, seed=cfg.seed + seed)

    ways = (act_of(policy, greedy) for greedy in (True, False))
    return returns(max(ways, key=lambda act: returns(act, 10_000).mean()), 20_000)


def lander(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Stable-Baselines3's A2C on LunarLander at rl-zoo's settings: what is gained, and a film of it."""
    from scipy.stats import ttest_ind

    seed_everything(cfg.seed)
    envs = make_vec_env(LANDER, n_envs=8, seed=cfg.seed)
    model = A2C(
        "MlpPolicy", envs, gamma=0.995, n_steps=5, learning_rate=lambda left: 8.3e-4 * left, ent_coef=1e-5,
        seed=cfg.seed, device="cpu",
    )  # fmt: skip
    policies = {"before": copy.deepcopy(model.policy), "after": model.policy}

    def watch(*_) -> bool:
        if model.num_timesteps % 4000 == 0 and (recent := model.ep_info_buffer):
            log.write(model.num_timesteps, lander_training_return=np.mean([one["r"] for one in recent]))
        return True

    with (clock := CpuClock()):
        model.learn(extra.num_lander_steps, callback=watch)
    returns = {name: lander_returns(policy, cfg) for name, policy in policies.items()}
    gain = ttest_ind(returns["after"], returns["before"], equal_var=False).confidence_interval(0.95)
    means = {f"lander_{name}": values.mean() for name, values in returns.items()}
    log.write(extra.num_lander_steps, lander_cpu_seconds=clock.seconds, lander_gain_high=gain.high, **means)
    log.claim(
        "lander_gain",
        "on LunarLander the trained policy beats the untrained one by far",
        gain.low,
        at_least=100.0,
        unit="return, lower end of the 95 % interval of the gain",
        source="Welch's interval, 100 episodes each",
    )
    if not log.smoke:
        log.film(film_frames(policies, cfg.seed + 20_000), fps=12)


def film_frames(policies: dict[str, nn.Module], seed: int, num_steps: int = 400) -> list[np.ndarray]:
    """One greedy episode of each policy, one above the other; a finished one stays on its last picture."""
    from PIL import Image, ImageDraw

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    films = []
    for name, policy in policies.items():
        env = gym.make(LANDER, render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames, done, total = [], False, 0.0
        for step in range(num_steps):
            if not done:
                obs, reward, terminated, truncated, _ = env.step(int(act_of(policy)(obs)))
                total, done = total + reward, terminated or truncated
                if step % 6 and not done:
                    continue
                picture = Image.fromarray(env.render()).resize((300, 200))
                text = f"{name}: return {total:.0f}" + (", ended" if done else "")
                ImageDraw.Draw(picture).text((6, 4), text, fill="white", font_size=16)
            if step % 6 == 0:
                frames.append(np.asarray(picture))
        env.close()
        films.append(frames)
    return [np.concatenate(pair, axis=0) for pair in zip(*films)]


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_identities(cfg, log)
    claim_middle_lambda(cfg, log)
    claim_chain(cfg, extra, log)
    compare_learners(cfg, extra, log)
    figures.draw_learners([log.metrics], log)
    lander(cfg, extra, log)
    figures.draw_lander([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The learning curves of all recorded seeds."""
    figures.draw_learners([run["metrics"] for run in runs], log)
    figures.draw_lander([run["metrics"] for run in runs], log)
