"""C4's evidence: the same numbers as PyTorch's, how many learners hold the pole and for how long, time."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import numpy as np
import torch
from jaxtyping import Float

from chapters.C_policy_gradients import C4_ppo_in_jax as lesson
from chapters.envs import make_envs
from chapters.envs.jax_networks import Moments, Shapes, forward, layer_shapes, networks
from chapters.envs.jax_worlds import CARTPOLE, Batch
from chapters.utils import CpuClock, RunLog, in_range, plotting, seed_everything
from chapters.utils.evaluation import sustained
from chapters.utils.optim import Adam


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_timed_updates: Annotated[int, in_range(1, 1000)] = 12
    """Updates of the PyTorch learner that are timed; its whole training is reckoned from them."""


SMOKE = {"num_timed_updates": 1}


# The same in PyTorch, as C3 has it, on the same vector of weights


def torch_gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    next_values: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    gamma: float,
    gae_lambda: float,
) -> torch.Tensor:
    """Equation (2) in a loop; all [T, N]."""
    deltas = rewards + gamma * next_values * ~terminated - values
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * ~terminated[t] * ~truncated[t]
        advantages[t] = running
    return advantages


def torch_loss(theta: torch.Tensor, mini: Batch, cfg: lesson.Config, shapes: Shapes) -> torch.Tensor:
    """PPO's loss of a batch of torch tensors."""
    actor, critic = networks(theta, shapes)
    log_probs = forward(actor, mini.obs).log_softmax(dim=1)
    ratio = (log_probs.gather(1, mini.actions.unsqueeze(1)).squeeze(1) - mini.old_log_probs).exp()
    advantages = (mini.advantages - mini.advantages.mean()) / (mini.advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - cfg.clip_eps, 1 + cfg.clip_eps)
    objective = torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (forward(critic, mini.obs).squeeze(1) - mini.returns).pow(2).mean()
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    return -objective + cfg.vf_coef * value_loss - cfg.ent_coef * entropy


def torch_learn(
    theta: torch.Tensor, optimizer: Adam, batch: Batch, order, cfg: lesson.Config, shapes: Shapes
) -> None:
    """What `learn` does, in place."""
    for rows in order:
        optimizer.zero_grad()
        torch_loss(theta, Batch(*(x[rows] for x in batch)), cfg, shapes).backward()
        torch.nn.utils.clip_grad_norm_([theta], cfg.max_grad_norm)
        optimizer.step()


def random_case(cfg: lesson.Config) -> tuple[Shapes, list, Float[np.ndarray, " P"], Batch]:
    """(layer shapes, series [T, N] for `gae`, weights, a batch of T * N transitions), at random."""
    rng = np.random.default_rng(cfg.seed)
    normal = partial(rng.standard_normal, dtype=np.float32)
    shapes = layer_shapes(CARTPOLE)
    size = cfg.batch_size
    grid = (cfg.num_steps, cfg.num_envs)
    log_probs = 0.3 * normal(size) - math.log(2)  # ratios within the clip range and beyond
    batch = Batch(normal((size, 4)), rng.integers(2, size=size), log_probs, normal(size), normal(size))
    theta = normal(sum((inputs + 1) * outputs for inputs, outputs, _ in shapes)) / 8
    return shapes, [*normal((3, *grid)), *(rng.random((2, *grid)) < 0.1)], theta, batch


def in_both(cfg: lesson.Config) -> dict[str, tuple]:
    """{what: (in JAX, in PyTorch)} for advantages, loss, gradient, and the weights after a pass."""
    shapes, series, theta, batch = random_case(cfg)
    order = np.random.default_rng(cfg.seed).permutation(cfg.batch_size).reshape(-1, cfg.minibatch_size)
    moments = Moments(0 * theta, 0 * theta)
    rest = {"cfg": cfg, "shapes": shapes}
    our_loss = jax.jit(jax.value_and_grad(partial(lesson.loss, clip_eps=cfg.clip_eps, **rest)))
    our_value, our_gradient = our_loss(theta, batch)
    our_theta, _ = jax.jit(partial(lesson.learn, index=0, **rest))(theta, moments, batch, order)
    our_advantages = jax.jit(partial(lesson.gae, gamma=cfg.gamma, gae_lambda=cfg.gae_lambda))(*series)

    rows = Batch(*map(torch.from_numpy, batch))
    weights = torch.nn.Parameter(torch.tensor(theta))
    value = torch_loss(weights, rows, **rest)
    (gradient,) = torch.autograd.grad(value, weights)
    torch_learn(weights, Adam([weights], cfg.learning_rate, eps=1e-5), rows, order, **rest)
    advantages = torch_gae(*map(torch.from_numpy, series), cfg.gamma, cfg.gae_lambda)
    return {
        "advantages": (our_advantages, advantages),
        "loss": (our_value, value),
        "gradient": (our_gradient, gradient),
        "weights": (our_theta, weights),
    }


def parity(cfg: lesson.Config, log: RunLog) -> None:
    """Claims that hold in any run."""
    statements = {
        "advantages": "advantages by a reversed scan are those of a loop in PyTorch",
        "loss": "the loss of a batch is PyTorch's",
        "gradient": "its gradient in every weight is autograd's",
        "weights": "a pass of our Adam ends where PyTorch's does",
    }
    for what, (ours, theirs) in in_both(cfg).items():
        log.claim(
            f"{what}_gap",
            statements[what],
            np.abs(ours - theirs.detach().numpy()).max(),
            at_most=1e-5,
            unit="largest difference",
            source="two implementations, 32 bits",
            always=True,
        )


# Many learners


def third_in_a_row(scores: Float[np.ndarray, "K checks"]) -> np.ndarray:
    """For each learner [K], which check is the third in a row at 475; -1 if none is."""
    found = [sustained(row.tolist(), lesson.SOLVED) for row in scores]
    return np.array([-1 if check is None else check for check in found])


def claim_solved(scores: Float[np.ndarray, "K checks"], cfg: lesson.Config, log: RunLog) -> None:
    """How many learners hold the pole up, when, and whether it lasts."""
    third = third_in_a_row(scores)
    for check, row in enumerate(scores.T):
        share = ((third >= 0) & (third <= check)).mean()
        log.write((check + 1) * cfg.eval_every, median_return=np.median(row), sustained_share=share)
    steps = np.where(third >= 0, (third + 1) * cfg.eval_every, np.inf)
    later = [(scores[k, third[k] :] >= lesson.SOLVED).mean() for k in np.flatnonzero(third >= 0)] or [0.0]
    log.write(cfg.num_env_steps, steps_to_sustained=np.median(steps), later_checks_solved=np.mean(later))
    log.claim(
        "solved_learners",
        "learners that score at least 475 in three evaluations in a row",
        (third >= 0).sum(),
        at_least=30 / 32 * len(scores),
        unit="learners",
        source="the threshold registered for CartPole-v1",
    )


# Time


def torch_seconds(cfg: lesson.Config, num_timed: int) -> float:
    """CPU seconds of a PyTorch learner in C3's way, NumPy acting; from updates on random data."""
    shapes, series, theta, batch = random_case(cfg)
    w1, b1, w2, b2, w3, b3 = (np.asarray(x) for pair in networks(theta, shapes)[0] for x in pair)
    series = [torch.from_numpy(x) for x in series]
    batch = Batch(*map(torch.from_numpy, batch))
    weights = torch.nn.Parameter(torch.from_numpy(theta))
    optimizer = Adam([weights], cfg.learning_rate, eps=1e-5)
    envs = make_envs("CartPole-v1", cfg.num_envs)
    rng = np.random.default_rng(cfg.seed)
    obs, _ = envs.reset(seed=cfg.seed)
    clock = CpuClock()
    with clock:
        for _ in range(num_timed * cfg.num_steps):
            logits = np.tanh(np.tanh(obs @ w1 + b1) @ w2 + b2) @ w3 + b3  # [N, A]
            obs, *_ = envs.step((logits + rng.gumbel(size=logits.shape)).argmax(axis=1))
        for _ in range(num_timed):
            torch_gae(*series, cfg.gamma, cfg.gae_lambda)
            order = torch.cat([torch.randperm(cfg.batch_size) for _ in range(cfg.num_epochs)])
            torch_learn(weights, optimizer, batch, order.split(cfg.minibatch_size), cfg, shapes)
    return clock.seconds / num_timed * cfg.num_env_steps / cfg.batch_size


def alone_seconds(cfg: lesson.Config, log: RunLog) -> tuple[float, float]:
    """(compiling, learning): CPU seconds of ONE learner in JAX, by the same program without `vmap`."""
    key = jax.random.key(cfg.seed)
    compiling, learning = CpuClock(), CpuClock()
    options = {"xla_backend_optimization_level": "0"} if log.smoke else {}
    with compiling:
        jitted = jax.jit(partial(lesson.train, cfg=cfg), compiler_options=options)
        program = jitted.lower(key, True).compile()
    jax.block_until_ready(program(key, False))  # a first call also finds memory
    with learning:
        jax.block_until_ready(program(key, False))
    return compiling.seconds, learning.seconds


def speed(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """All learners in one call, against one by one: in PyTorch, and in JAX without `vmap`."""
    seed_everything(cfg.seed)
    together = log.last("learning_seconds")
    one_in_torch = torch_seconds(cfg, extra.num_timed_updates)
    compiling, one_in_jax = alone_seconds(cfg, log)
    num_all = cfg.num_learners * cfg.num_env_steps
    log.write(
        cfg.num_env_steps,
        jax_steps_per_second=num_all / together,
        torch_steps_per_second=cfg.num_env_steps / one_in_torch,
        one_jax_steps_per_second=cfg.num_env_steps / one_in_jax,
        one_compile_seconds=compiling,
    )
    log.claim(
        "speed_over_torch",
        "once compiled, all learners in one call are this many times as fast as one by one in PyTorch",
        cfg.num_learners * one_in_torch / together,
        at_least=1.0,
        unit="times",
        source="even",
        timed=True,
    )
    bars = {
        "1 learner, PyTorch": (0.0, one_in_torch),
        "1 learner, JAX": (compiling, one_in_jax),
        f"{cfg.num_learners} learners, JAX": (log.last("compile_seconds"), together),
        f"{cfg.num_learners}, JAX, one by one": (compiling, cfg.num_learners * one_in_jax),
        f"{cfg.num_learners}, PyTorch, one by one": (0.0, cfg.num_learners * one_in_torch),
    }
    draw_seconds(bars, cfg, log)


def draw_seconds(bars: dict[str, tuple[float, float]], cfg: lesson.Config, log: RunLog) -> None:
    """Compiling and learning, stacked."""
    figure, ax = plotting.new_figure(width=8.0, height=3.6)
    for row, (who, (compiling, learning)) in enumerate(bars.items()):
        ax.barh(who, compiling, color=plotting.ORANGE, label="" if row else "compiling")
        ax.barh(who, learning, left=compiling, color=plotting.BLUE, label="" if row else "learning")
        ax.text(compiling + learning, row, f" {compiling + learning:.1f} s", va="center")
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="CPU seconds, without evaluation", title=f"{cfg.num_env_steps:,} steps of each learner")
    ax.legend(loc="upper right")
    log.figure(figure, "seconds")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    parity(cfg, log)
    claim_solved(log.kept["scores"], cfg, log)
    speed(cfg, extra, log)
