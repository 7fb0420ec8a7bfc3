"""B3's evidence: what is saved comes back, whether it stays solved, and both models on film."""

import io
import os
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw
from stable_baselines3 import DQN

from chapters.B_core_algorithms import B3_deep_q_networks_dqn as lesson
from chapters.utils import RunLog, in_range, plotting


@dataclass(frozen=True)
class Config:
    """Observations to compare on, and the film."""

    num_compared: Annotated[int, in_range(1, 1_000_000)] = 1000
    """Random observations on which a reloaded model is asked to act."""
    film_every: Annotated[int, in_range(1, 500)] = 4
    """Environment steps from one picture of the film to the next."""


SMOKE = {}


def claim_reload(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    model = log.kept["last"]
    file = io.BytesIO()
    model.save(file)
    again = DQN.load(file, device="cpu")
    obs = np.random.default_rng(cfg.seed).normal(size=(extra.num_compared, 4)).astype(np.float32)
    before = model.predict(obs, deterministic=True)[0]
    after = again.predict(obs, deterministic=True)[0]
    log.claim(
        "actions_changed_by_reload",
        "a model that was saved and loaded again acts identically",
        (before != after).sum(),
        at_most=0.0,
        unit=f"of {extra.num_compared} observations",
        source="identity",
        always=True,
    )


def claim_forgetting(cfg: lesson.Config, log: RunLog) -> None:
    returns = np.array(log.series("eval_return")[1])
    solved = returns >= lesson.SOLVED
    since = returns[solved.argmax() :] if solved.any() else returns[:0]  # from the first success on
    falls = (since < lesson.SOLVED).sum()
    if len(since):
        log.write(
            cfg.num_env_steps, mean_after_success=since.mean(), share_after_success=1 - falls / len(since)
        )
    log.claim(
        "falls_after_success",
        "after the first evaluation that reaches the threshold, later ones of the same run are below it",
        falls,
        at_least=1,
        unit="evaluations below 475",
        source="one suffices to disprove that it stays solved",
        seeds="9/10",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_reload(cfg, extra, log)
    claim_forgetting(cfg, log)
    models = {"best": log.kept["best"], "last": log.kept["last"]}
    film = log.film(film_frames(models, cfg.seed + 20_000, extra.film_every))
    log.claim(
        "film_kilobytes",
        "the film of the best model above the last one is small enough to send around",
        film.stat().st_size / 1000,
        at_most=500.0,
        unit="kB",
        source="our limit for films",
        always=True,
    )


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


def summarise(runs: list[dict], log: RunLog) -> None:
    """Best against last on fresh episodes, and how often it was solved after the first success."""
    figure, (ends, shares) = plotting.new_figure(1, 2, width=6.0, height=2.6)
    best = [run["claims"]["best_return"] for run in runs]
    last = [run["metrics"]["last_return"][-1][1] for run in runs]
    plotting.dot_rows(ends, {"best, saved": best, "last": last}, (plotting.GREEN, plotting.RED))
    ends.axvline(lesson.SOLVED, **plotting.REFERENCE)
    ends.set(xlim=(0, 510), xlabel="return on fresh episodes (dashed: 475)")
    ends.set_title(f"{len(runs)} seeds: a dot each, bar: median")
    successful = [
        run["metrics"]["share_after_success"] for run in runs if "share_after_success" in run["metrics"]
    ]
    after = [100 * series[-1][1] for series in successful]
    plotting.dot_rows(shares, {"at 475 or more": after}, (plotting.BLUE,))
    shares.set(xlim=(0, 100), xlabel="% of evaluations after the first success")
    shares.set_title("Does it stay solved?")
    log.figure(figure, "seeds")
