"""E5's evidence: PPO beside it, too little entropy, dreams of the ring against exact beliefs, and a film."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from chapters.C_policy_gradients import C3_ppo_from_scratch as c3
from chapters.E_practice import E5_dreamer as lesson
from chapters.envs import evaluate
from chapters.envs.catch import COLUMNS, NUM_STEPS, ROWS, BatchedCatch, EveryStart, ball_column
from chapters.envs.latent_model import LatentModel, Player
from chapters.envs.ring_world import HOME, RIGHT, HiddenWorld, ring
from chapters.exact import dreams
from chapters.exact.beliefs import forward_filter
from chapters.utils import RunLog, in_range, plotting, seed_everything
from chapters.utils.evaluation import sustained
from chapters.utils.optim import Adam

NUM_FRAMES = 4  # pictures that PPO sees at once: at a ball's last hidden row two of them show it
GAMMA = 0.95  # the ring's discount factor


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_ppo_steps: Annotated[int, in_range(1, 10_000_000)] = 10_240
    """Real steps of PPO, over which its step size falls to zero."""
    ppo_envs: Annotated[int, in_range(1, 4096)] = 16
    """Games that PPO plays side by side."""
    ppo_steps: Annotated[int, in_range(1, 4096)] = 10
    """Steps of each of them in a rollout."""
    ppo_minibatch: Annotated[int, in_range(2, 1_000_000)] = 40
    """Transitions in one of PPO's gradient steps."""
    low_ent_coef: Annotated[float, in_range(0.0, 1.0)] = 0.03
    """A weight of the entropy bonus that is too small."""
    ring_updates: Annotated[int, in_range(1, 1_000_000)] = 2000
    """Gradient steps of the model of the ring."""
    ring_batch: Annotated[int, in_range(1, 10_000)] = 16
    """Recordings in each of them, all of them new."""
    ring_steps: Annotated[int, in_range(2, 1000)] = 24
    """Steps of a recording."""
    ring_classes: Annotated[int, in_range(2, 256)] = 32
    """Classes of its code's one group, as many as Dreamer's have. As it begins to learn, each class goes to
    the colour that it suits best; if each of 3 colours is as likely, one of them gets none of 8 classes, and
    shares another's for good, with a chance of 12 %; of 32 it is one in a hundred thousand."""
    num_histories: Annotated[int, in_range(2, 100_000)] = 128
    """Histories after which it dreams."""
    dreams_each: Annotated[int, in_range(2, 10_000)] = 64
    """Dreams after each of them."""
    num_past: Annotated[int, in_range(1, 1000)] = 12
    """Steps of a history."""
    num_ahead: Annotated[int, in_range(2, 1000)] = 36
    """Steps of a dream: three times around."""


SMOKE = {
    "num_ppo_steps": 160, "ppo_envs": 4, "ppo_minibatch": 16, "ring_updates": 2, "ring_batch": 4,
    "num_histories": 8, "dreams_each": 4, "num_ahead": 4,
}  # fmt: skip


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    real_steps(cfg, extra, log)
    low_entropy(cfg, extra, log)
    dream_of_the_ring(cfg, extra, log)
    draw([log.metrics], log)
    draw_ring([log.metrics], log)
    if not log.smoke:
        log.film(film_frames(log.kept["learner"], cfg.seed), fps=1)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the figures."""
    metrics = [run["metrics"] for run in runs]
    draw(metrics, log)
    draw_ring(metrics, log)


# Real steps


def ppo(cfg: c3.Config, log: RunLog) -> None:
    """C3's PPO on the last pictures, by its own functions; checked as the lesson is, after each rollout."""
    seed_everything(cfg.seed)
    envs = BatchedCatch(cfg.num_envs, NUM_FRAMES)
    obs, _ = envs.reset(seed=cfg.seed)
    agent, rng = c3.ActorCritic(envs), np.random.default_rng(cfg.seed)
    optimizer = Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5)
    size = cfg.num_envs * cfg.num_steps
    num_updates = cfg.num_env_steps // size
    for i in log.track(range(num_updates), "updates (ppo)", "ppo_return"):
        left = 1.0 - i / num_updates
        optimizer.lr = cfg.learning_rate * left
        rollout, obs = c3.collect(agent, envs, obs, rng, cfg)
        c3.update(agent, optimizer, c3.prepare(agent, rollout, cfg), cfg.clip_eps * left, cfg)
        returns = evaluate(agent.greedy(), envs=EveryStart(NUM_FRAMES), seed=0)
        log.write((i + 1) * size, ppo_return=float(returns.mean()))


def steps_to_goal(metrics: dict, name: str) -> float:
    """Real steps until three checks in a row have shown the goal; infinite if none did."""
    checks = metrics[f"{name}_return"]
    at = sustained([value for _, value in checks], lesson.GOAL)
    return float("inf") if at is None else float(checks[at][0])


def real_steps(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    settings = c3.Config(
        seed=cfg.seed, num_env_steps=extra.num_ppo_steps, num_envs=extra.ppo_envs, num_steps=extra.ppo_steps,
        minibatch_size=extra.ppo_minibatch, ent_coef=0.01,
    )  # fmt: skip
    ppo(settings, log)
    theirs = min(steps_to_goal(log.metrics, "ppo"), extra.num_ppo_steps)  # a bound against the claim
    log.claim(
        "real_steps",
        "acting learnt in dreams holds the goal after fewer real steps than C3's PPO on four pictures",
        steps_to_goal(log.metrics, "dreamer") / theirs,
        at_most=1.0,
        unit="of PPO's real steps, the same seed",
        source="C3's PPO; three checks in a row, each over every way to begin",
        seeds="5/5",
    )


# What is not tried in dreams


def ideal_play(model: LatentModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(columns in which balls land, dreamt reward of catching them, its start) for every way to begin.

    The model sees two pictures, then dreams of the paddle going where the ball will land.
    """
    envs = EveryStart()
    obs, _ = envs.reset()
    landing = ball_column(envs.first, envs.direction, np.full(envs.num_envs, ROWS - 1))
    seen, acts = [obs], []
    paddle = envs.paddle.copy()
    for _ in range(NUM_STEPS):
        acts.append(1 + np.sign(landing - paddle))
        paddle = np.clip(paddle + acts[-1] - 1, 0, COLUMNS - 1)
    seen.append(envs.step(acts[0])[0])
    actions = torch.from_numpy(np.array(acts))
    with torch.no_grad():
        states = model.observe(torch.from_numpy(np.array(seen)), actions[:1])[0][-1].repeat(20, 1)
        for row in actions[1:]:
            states = model.dreamt(states, row.repeat(20))
        rewards = foreseen_rewards(model, states).unflatten(0, (20, -1)).mean(dim=0)
    return landing, rewards.numpy(), envs.direction


def low_entropy(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """A tenth of the entropy bonus: the model knows what the actor does not try."""
    learner = lesson.train(replace(cfg, ent_coef=extra.low_ent_coef), log, name="timid")
    landing, dreamt, _ = ideal_play(learner.model)
    lived = evaluate(
        Player(learner.model, learner.policy, len(landing), greedy=True), envs=EveryStart(), seed=0
    )
    for column in range(COLUMNS):
        at = landing == column
        log.write(column, timid_knows=dreamt[at].mean(), timid_earns=lived[at].mean())
    log.claim(
        "entropy_gain",
        "with a tenth of the entropy bonus it catches fewer balls after as many real steps",
        log.last("dreamer_return") - log.last("timid_return"),
        at_least=0.0,
        unit="of return, difference",
        source="the same training with the smaller weight",
    )


# The ring: what a dream says, and what a belief is worth


def ring_batch(world: HiddenWorld, actions: np.ndarray, rng: np.random.Generator) -> tuple[dict, np.ndarray]:
    """(what the lesson's model learns from, numbers of the colours [T+1, N]) along actions [T, N]."""
    states, obs = dreams.walk(*world[:3], actions, rng)
    batch = {
        "obs": torch.from_numpy(np.eye(world.emission.shape[1], dtype=np.float32)[obs]),
        "actions": torch.from_numpy(actions),
        "rewards": torch.from_numpy((states[1:] == HOME).astype(np.float32)),
        "goes_on": torch.ones(actions.shape),
        "mask": torch.ones(obs.shape),
    }
    return batch, obs


def learn_ring(world: HiddenWorld, cfg: lesson.Config, extra: Config) -> LatentModel:
    """The lesson's model, from recordings of random actions alone."""
    seed_everything(cfg.seed)
    rng = np.random.default_rng([cfg.seed, 3])
    model = LatentModel(world.emission.shape[1], 2, len(lesson.VALUES), cfg)
    optimizer = Adam(model.parameters(), lr=cfg.model_rate)
    for i in range(extra.ring_updates):
        optimizer.lr = cfg.model_rate * (1.0 - i / extra.ring_updates)
        coins = rng.random(cfg.batch_size)  # a chance of going right for each recording: some run in circles
        actions = (rng.random((extra.ring_steps, cfg.batch_size)) < coins).astype(np.int64)
        loss, _ = lesson.model_loss(model, ring_batch(world, actions, rng)[0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    return model


def foreseen_rewards(model: LatentModel, states: torch.Tensor) -> torch.Tensor:
    """The reward of the step that led to each state."""
    return lesson.mean_of(model.pays(states), lesson.VALUES)


@torch.no_grad()
def missed_by_the_model(
    model: LatentModel, world: HiddenWorld, batch: dict, obs: np.ndarray, num_past: int
) -> tuple[np.ndarray, np.ndarray]:
    """(errors in codes, errors in rewards) [I, M] of each step after the first `num_past`, on real paths.

    Both are exact given a path: the filter says what may be observed next, the posterior turns that into
    codes, and the reward that the model foresees is averaged over these.
    """
    actions = batch["actions"].numpy()
    first = np.zeros(obs.shape, dtype=bool)
    first[0] = True
    extended = np.concatenate([actions, actions[-1:]])  # the last action leads nowhere
    predictions, beliefs = forward_filter(*world[:3], obs, extended, first)
    states, _, prior = model.observe(batch["obs"], batch["actions"])
    told = model.posterior(torch.eye(world.emission.shape[1])).exp()[:, 0].numpy()  # [O, C]: one group
    given = predictions @ told  # [T+1, M, C]
    code_error = 0.5 * np.abs(prior[..., 0, :].exp().numpy() - given).sum(axis=-1)
    memory = states[..., : -given.shape[-1]].unsqueeze(2).expand(-1, -1, given.shape[-1], -1)
    every = torch.eye(given.shape[-1]).expand(*memory.shape[:2], -1, -1)
    foreseen = foreseen_rewards(model, torch.cat([memory, every], dim=-1)).clamp(0.0, 1.0).numpy()
    due = (beliefs[:-1] * world.rewards[:, actions].transpose(1, 2, 0)).sum(axis=-1)
    reward_error = np.abs((given * foreseen).sum(axis=-1)[1:] - due)
    return code_error[1:][num_past:], reward_error[num_past:]


@torch.no_grad()
def dreamt_rewards(
    model: LatentModel, states: torch.Tensor, actions: np.ndarray, num_dreams: int
) -> np.ndarray:
    """[I, num_dreams, M]: rewards that dreams from each state foresee, along given actions [I]."""
    num = len(states)
    states, rows = states.repeat(num_dreams, 1), []
    for action in actions:
        states = model.dreamt(states, torch.full((len(states),), int(action)))
        rows.append(foreseen_rewards(model, states).clamp(0.0, 1.0).reshape(num_dreams, num).numpy())
    return np.array(rows)


def dream_of_the_ring(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Always to the right, after histories of random steps: what dreams say, and the exact belief value."""
    world = ring()
    own = replace(cfg, num_groups=1, num_classes=extra.ring_classes, width=48, batch_size=extra.ring_batch)
    model = learn_ring(world, own, extra)
    rng = np.random.default_rng([cfg.seed, 4])
    T, k = extra.num_past, extra.num_ahead
    actions = np.full((T + k, extra.num_histories), RIGHT)
    actions[:T] = rng.integers(2, size=(T, extra.num_histories))
    batch, obs = ring_batch(world, actions, rng)
    first = np.zeros((T + 1, extra.num_histories), dtype=bool)
    first[0] = True
    belief = forward_filter(*world[:3], obs[: T + 1], actions[: T + 1], first)[1][-1]
    with torch.no_grad():
        states = model.observe(batch["obs"][: T + 1], batch["actions"][:T])[0][-1]
    ahead = np.tile(np.eye(2)[RIGHT], (k, 1))
    exact = dreams.rewards_ahead(world.P, world.rewards, belief, ahead)  # [I, M]
    dreamt = dreamt_rewards(model, states, actions[T:, 0], extra.dreams_each)
    values = dreams.discounted(exact, GAMMA), dreams.discounted(dreamt, GAMMA)
    of_value, of_step = (root_error(*pair) for pair in (values, (exact, dreamt)))
    spread = values[0].std(axis=1), exact.std(axis=1)
    bounds = dreams.dream_bound(*missed_by_the_model(model, world, batch, obs, T), GAMMA)
    missed, noise = mean_miss(*values)
    for i in range(k):
        log.write(
            i + 1, value_error=of_value[i], value_spread=spread[0][i], step_error=of_step[i],
            step_spread=spread[1][i], miss=missed[i], miss_bound=bounds[i],
        )  # fmt: skip
    claim_ring(of_value / spread[0], of_step / spread[1], (missed - noise) / bounds, log)


def root_error(exact: np.ndarray, dreamt: np.ndarray) -> np.ndarray:
    """[I]: root mean square difference of the dreams' mean from exact, the dreams' own noise taken off."""
    num_dreams = dreamt.shape[1]
    square = (dreamt.mean(axis=1) - exact) ** 2 - dreamt.var(axis=1, ddof=1) / num_dreams
    return np.sqrt(np.maximum(square.mean(axis=1), 0.0))


def mean_miss(exact: np.ndarray, dreamt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[I] each: by how much dreams miss exact values on average over histories, and four standard errors."""
    gaps = dreamt.mean(axis=1) - exact  # [I, M]
    return np.abs(gaps.mean(axis=1)), 4.0 * gaps.std(axis=1) / np.sqrt(gaps.shape[1])


def claim_ring(of_value: np.ndarray, of_step: np.ndarray, of_bound: np.ndarray, log: RunLog) -> None:
    log.claim(
        "dream_is_belief",
        "what dreams half around the ring pay differs little from the exact value of the belief",
        of_value[min(5, len(of_value) - 1)],
        at_most=0.5,
        unit="root mean square difference, of the spread of exact values over histories",
        source="exact belief values; 1 if dreams knew nothing, 0.5 if three quarters of the variance",
    )
    log.claim(
        "dream_bound",
        "on average over histories dreams of any length miss the belief's value by no more than (E1)",
        of_bound.max(),
        at_most=1.0,
        unit="largest miss, less four standard errors, of the bound",
        source="the simulation lemma along real paths, with measured errors",
        always=True,
    )
    log.claim(
        "too_far",
        "of a reward at the end of a long dream it knows less than of the next one",
        of_step[-1] / of_step[0],
        at_least=1.0,
        unit="times the error, each of the exact spread over histories",
        source="errors of the model add up along a dream",
    )


# Figures and film


def curves_of(runs: list[dict], name: str) -> np.ndarray:
    """[runs, checks, (step, value)]."""
    return np.array([run[name] for run in runs])


def draw(runs: list[dict], log: RunLog) -> None:
    """Returns against real steps; what the timid actor's model knows, and what it earns."""
    figure, (left, right) = plotting.new_figure(ncols=2)
    for name, label, color in (
        ("dreamer", "in dreams", plotting.BLUE),
        ("timid", "a tenth of the entropy", plotting.ORANGE),
        ("ppo", "PPO, four pictures", plotting.GREEN),
    ):
        curves = curves_of(runs, f"{name}_return")
        plotting.seed_band(left, curves[0, :, 0], curves[:, :, 1], label, color)
    left.axhline(lesson.GOAL, label="goal", **plotting.REFERENCE)
    left.set(xlabel="real steps", ylabel="return, every way to begin", ylim=(-1.05, 1.05), title="Catch")
    left.set_xlim(0, 2.5 * max(step for step, _ in runs[0]["dreamer_return"]))
    left.legend(fontsize=9, loc="lower right")
    for name, label, color in (
        ("timid_knows", "its model dreams of a catch", plotting.BLUE),
        ("timid_earns", "it earns", plotting.ORANGE),
    ):
        curves = curves_of(runs, name)
        plotting.seed_band(right, curves[0, :, 0], curves[:, :, 1], label, color)
    right.set(xlabel="column in which the ball lands", ylabel="reward", ylim=(-1.05, 1.05))
    right.set(title="A tenth of the entropy", xticks=range(COLUMNS))
    right.legend(fontsize=9, loc="lower center")
    log.figure(figure)


def draw_ring(runs: list[dict], log: RunLog) -> None:
    """Errors of dreams against their length."""
    figure, (left, right) = plotting.new_figure(ncols=2)
    for ax, names, title in (
        (left, ("step_error", "step_spread"), "The ring: each reward"),
        (right, ("value_error", "value_spread"), "Their discounted sum so far"),
    ):
        for name, label, color in zip(
            names, ("the dream's error", "spread of exact values"), (plotting.BLUE, "black")
        ):
            curves = curves_of(runs, name)
            plotting.seed_band(ax, curves[0, :, 0], curves[:, :, 1], label, color)
        ax.set(xlabel="steps ahead", ylabel="root mean square, reward", ylim=(0, None), title=title)
        ax.legend(fontsize=9)
    log.figure(figure, "ring")


@torch.no_grad()
def film_frames(learner: lesson.Dreamer, seed: int, num_games: int = 5) -> list[np.ndarray]:
    """Games one after the other, a frame for each step: the world, what is seen of it, what is dreamt."""
    seed_everything(seed)
    envs = EveryStart()
    obs, _ = envs.reset()
    player = Player(learner.model, learner.policy, envs.num_envs, greedy=True)
    shown = np.random.default_rng(seed).choice(envs.num_envs, num_games, replace=False)
    first, direction = envs.first[shown], envs.direction[shown]
    frames, states = [], None
    for t in range(NUM_STEPS + 1):
        ball = ball_column(first, direction, np.full(num_games, t))
        seen = obs[shown]
        drawn = seen if states is None else learner.model.draws(states).sigmoid().numpy()
        for i in range(num_games):
            frames.append(((t, i), draw_game(t, int(ball[i]), seen[i], drawn[i], dreaming=t >= 2)))
        if t == NUM_STEPS:
            break
        memory = player.memory.clone()
        actions = player(obs)
        if t == 1:  # two pictures are seen; from here on it dreams, with the actions that it takes awake
            code = F.one_hot(
                learner.model.posterior(torch.from_numpy(obs)).argmax(-1), learner.cfg.num_classes
            )
            states = torch.cat([memory, code.float().flatten(-2)], dim=1)[shown]
        if states is not None:
            states = learner.model.dreamt(states, torch.from_numpy(actions[shown]))
        obs, _, _, _, infos = envs.step(actions)
        obs = infos.get("final_obs", obs)
    ordered = {place: frame for place, frame in frames}
    return [ordered[t, i] for i in range(num_games) for t in [*range(NUM_STEPS + 1), NUM_STEPS]]


def draw_game(t: int, ball: int, seen: np.ndarray, dreamt: np.ndarray, dreaming: bool) -> np.ndarray:
    """Three pictures: the world with the ball always drawn, what is seen, what is dreamt."""
    from PIL import Image, ImageDraw

    cell, top, gap = 40, 36, 20
    width, height = COLUMNS * cell, ROWS * cell
    image = Image.new("RGB", (3 * width + 4 * gap, height + top + gap), "white")
    pen = ImageDraw.Draw(image)
    blue, orange = ((0, 114, 178), (230, 159, 0))
    for k, (name, values) in enumerate(
        (("the world", seen), ("what is seen", seen), ("dreamt" if dreaming else "looks on", dreamt))
    ):
        left = gap + k * (width + gap)
        pen.text((left, 8), name, fill="black", font_size=20)
        for (row, column), value in np.ndenumerate(values.reshape(ROWS, COLUMNS)):
            ink = tuple(int(240 + value * (c - 240)) for c in (blue if row < ROWS - 1 else orange))
            x, y = left + column * cell, top + row * cell
            pen.rectangle([x, y, x + cell - 3, y + cell - 3], fill=ink)
        if k == 0:
            x, y = left + ball * cell, top + t * cell
            pen.ellipse([x + 6, y + 6, x + cell - 9, y + cell - 9], fill=blue)
    return np.asarray(image)
