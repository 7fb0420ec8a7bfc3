"""What C3's update and rollout cost, in stages, beside the machine's limit for that work."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from chapters.C_policy_gradients import C3_ppo_from_scratch as lesson
from chapters.envs import make_envs
from chapters.envs.agents import ActorCritic
from chapters.utils import RunLog, plotting
from chapters.utils.networks import in_numpy
from chapters.utils.optim import Adam
from chapters.utils.timing import seconds_of

NUM_AT_ONCE = 8192  # environments stepped together, to see what one step costs where none waits for Python


def matmul_rate(size: int = 768) -> float:
    """GFLOP a second of a large matrix product in torch: the limit for everything made of products."""
    a, b = torch.randn(2, size, size)
    return 2e-9 * size**3 / seconds_of(lambda: a @ b, calls=4)


def product_cost(layers: Sequence[nn.Linear], num_rows: int, obs_size: int) -> tuple[float, float]:
    """(GFLOP, CPU seconds) of the bare products in one forward and backward pass of linear layers.

    Each layer needs its output, the gradient of its weights and, unless it reads the observations, that of
    its input.
    """
    products = []
    for layer in layers:
        outputs, inputs = layer.weight.shape
        x, g, w = torch.randn(num_rows, inputs), torch.randn(num_rows, outputs), layer.weight.detach()
        products += [(x, w.T), (g.T, x), *([(g, w)] if inputs != obs_size else [])]
    gflop = 2e-9 * sum(a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
    return gflop, seconds_of(lambda: [a @ b for a, b in products])


def update_stages(agent: ActorCritic, batch: lesson.Batch, cfg: lesson.Config, log: RunLog) -> None:
    """One update: its products at full rate, as they are, with tanh and autograd, and everything."""
    optimizer = Adam(agent.parameters(), lr=1e-5)
    rows = batch["obs"][: cfg.minibatch_size]  # [B, D]
    num_gradient_steps = cfg.num_epochs * math.ceil(len(batch["obs"]) / cfg.minibatch_size)
    gflop, products = product_cost([*agent.actor[::2], *agent.critic[::2]], *rows.shape)
    rate = matmul_rate()
    networks = seconds_of(lambda: (agent.actor(rows).sum() + agent.value(rows).sum()).backward())
    log.write(
        0,
        update_gflop=num_gradient_steps * gflop,
        gflop_per_second=rate,
        limit_cpu_seconds=num_gradient_steps * gflop / rate,
        products_cpu_seconds=num_gradient_steps * products,
        networks_cpu_seconds=num_gradient_steps * networks,
        update_cpu_seconds=seconds_of(lambda: lesson.update(agent, optimizer, batch, 0.2, cfg), 1, 10),
    )


def rollout_stages(agent: ActorCritic, cfg: lesson.Config, log: RunLog) -> None:
    """One rollout: the environments' steps, many at once and as few as they are; the policy; everything."""
    envs = make_envs(cfg.env_id, cfg.num_envs)
    rng = np.random.default_rng(cfg.seed)
    obs, _ = envs.reset(seed=cfg.seed)
    actor = in_numpy(agent.actor)
    many = make_envs(cfg.env_id, NUM_AT_ONCE)
    many.reset(seed=0)
    still = np.zeros(NUM_AT_ONCE, dtype=int)
    share = cfg.num_envs * cfg.num_steps / NUM_AT_ONCE
    log.write(
        0,
        collect_cpu_seconds=seconds_of(lambda: lesson.collect(agent, envs, obs, rng, cfg), 1, 10),
        policy_cpu_seconds=cfg.num_steps * seconds_of(lambda: agent.head.sample(actor(obs), rng), 200),
        step_cpu_seconds=cfg.num_steps * seconds_of(lambda: envs.step(still[: cfg.num_envs]), 200),
        step_limit_cpu_seconds=share * seconds_of(lambda: many.step(still)),
    )


def profile(cfg: lesson.Config, one: tuple[ActorCritic, lesson.Batch], log: RunLog) -> None:
    """`one`: an agent, and what it learns from after a rollout."""
    cfg = dataclasses.replace(cfg, target_kl=1e9)
    agent, batch = one
    update_stages(agent, batch, cfg, log)
    rollout_stages(agent, cfg, log)
    log.claim(
        "update_over_limit",
        "an update takes this many times as long as its matrix products at the machine's full rate",
        log.last("update_cpu_seconds") / log.last("limit_cpu_seconds"),
        at_least=1.0,
        unit="times",
        source="a large product, timed in the same run",
        timed=True,
        seeds="10/10",
    )


def draw_profile(log: RunLog) -> None:
    """Bars for one update and one rollout."""
    figure, axes = plotting.new_figure(1, 2, width=5.8, height=3.4)
    update = {
        "at the machine's rate": "limit",
        "matrix products": "products",
        "+ tanh, autograd": "networks",
        "+ shuffle, loss,\nclip, Adam: all": "update",
    }
    rollout = {
        "8192 at once": "step_limit",
        "environment": "step",
        "policy": "policy",
        "collect, all": "collect",
    }
    for ax, names, title in zip(axes, (update, rollout), ("One update", "One rollout")):
        values = {label: 1e3 * log.last(f"{key}_cpu_seconds") for label, key in names.items()}
        plotting.bar_rows(ax, values, [plotting.GREEN, *[plotting.BLUE] * 3])
        ax.set(xlabel="CPU milliseconds", title=title)
    log.figure(figure, "profile")
