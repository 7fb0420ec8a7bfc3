"""The picture of chapter D: where PPO, DPO, GRPO, RLOO and best-of-n end on the token world.

No single lesson has all of them. Each recorded its end points in the same world, that of seed 0; here they
meet on one chart. The points are stored inside the picture, so that a test can tell when a ledger has moved.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from chapters.course import catalog, ledger
from chapters.utils.files import write_atomic

PICTURE = catalog.CHAPTERS / "D_rlhf" / "results" / "D0.png"
BETA, SEED = 0.5, 0
METHODS = {  # label: (lesson, suffix of token_kl and token_reward, colour, marker)
    "PPO (D2)": ("D2", "", "BLUE", "o"),
    "RLOO (D15)": ("D15", "_rloo", "GREEN", "o"),
    "GRPO, KL in the reward, not divided (D15)": ("D15", "_grpo_kl", "SKY", "o"),
    "GRPO as published (D15)": ("D15", "_stock", "RED", "D"),
    "Dr. GRPO's loss with a KL term (D15)": ("D15", "_dr_grpo", "ORANGE", "D"),
    "DPO, soft labels, fresh pairs (D4)": ("D4", "_soft", "PURPLE", "o"),
    "DPO, hard labels (D4)": ("D4", "_hard", "PURPLE", "D"),
    "DPO, 20,000 fixed pairs (D4)": ("D4", "_fixed", "PURPLE", "s"),
}
FIXED_POINTS = {
    "GRPO as published (D15)": "fixed_token_{}_stock",
    "Dr. GRPO's loss with a KL term (D15)": "fixed_token_{}_dr_grpo",
}
"""Where the expected update is zero, by enumeration: drawn as crosses."""


def points() -> dict[str, list[float]]:
    """{label: [KL, reward]} of seed 0's runs and of the fixed points; {} while a ledger is missing."""
    items = {lesson: catalog.find(lesson) for lesson in ("D2", "D4", "D15")}
    if not all(item.ledger.exists() for item in items.values()):
        return {}
    try:
        runs = {
            lesson: next(run for run in ledger.load(item)["runs"] if run["seed"] == SEED)
            for lesson, item in items.items()
        }
        found = _points(runs)
    except (KeyError, StopIteration) as error:
        raise ledger.LedgerError(
            f"the ledgers of {', '.join(items)} lack what D0's picture shows ({error})"
        ) from None
    return {label: [round(value, 6) for value in pair] for label, pair in found.items()}


def _points(runs: dict[str, dict]) -> dict[str, list[float]]:
    found = {}
    for label, (lesson, suffix, *_) in METHODS.items():
        found[label] = [runs[lesson]["metrics"][f"token_{what}{suffix}"] for what in ("kl", "reward")]
        if label in FIXED_POINTS:
            names = [FIXED_POINTS[label].format(what) for what in ("kl", "reward")]
            found[f"{label}: fixed point"] = [runs[lesson]["metrics"][name] for name in names]
    return found


def stored(path: Path = PICTURE) -> dict[str, list[float]]:
    """The points that the picture was drawn from; {} if it is missing or damaged."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return json.loads(picture.text.get("points", "{}"))
    except (AttributeError, OSError, SyntaxError, ValueError):
        return {}


def update(check: bool = False) -> list[Path]:
    """Draw the picture anew if the ledgers have other points; returns what changed, or would."""
    now = points()
    if not now or now == stored():
        return []
    if not check:
        write_atomic(PICTURE, drawn(now))
    return [PICTURE]


def drawn(found: dict[str, list[float]]) -> bytes:
    """The chart as PNG."""
    import numpy as np

    from chapters.envs.token_world import token_world
    from chapters.utils import plotting

    world = token_world(SEED)
    figure, ax = plotting.new_figure(width=9.6, height=5.6)
    zoom = ax.inset_axes((0.5, 0.08, 0.45, 0.42), xlim=(1.08, 1.28), ylim=(1.13, 1.24))
    star = world.optimum(BETA)
    best = [world.best_of_n(n) for n in (1, 2, 4, 8, 16, 32, 64)]
    exact = [(float(world.kl(lp)), float(world.expected_reward(lp))) for lp in best]
    for panel in (ax, zoom):
        panel.plot(*world.frontier(np.geomspace(0.1, 20.0, 200)), label="best possible", **plotting.REFERENCE)
        panel.plot(*zip(*exact), "s", color="grey", markersize=5, label="best of n = 1, 2, 4 … 64")
        look = {"color": "black", "markersize": 20, "zorder": 1, "fillstyle": "none"}
        panel.plot(
            world.kl(star), world.expected_reward(star), "*", label=f"optimum at beta {BETA:g}", **look
        )
        for label, (_, _, colour, marker) in METHODS.items():
            size = 12 if label.startswith("RLOO") else 8  # it ends where GRPO without division does
            style = {"color": getattr(plotting, colour), "markersize": size, "alpha": 0.85}
            panel.plot(*found[label], marker, label=label, **style)
            if label in FIXED_POINTS:
                where = found[f"{label}: fixed point"]
                panel.plot(*where, "x", color=style["color"], markersize=11, markeredgewidth=2)
    ax.plot([], [], "x", color="grey", markersize=11, label="where its expected update is zero")
    ax.indicate_inset_zoom(zoom)
    zoom.tick_params(labelsize=8)
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward")
    ax.set(xlim=(-0.1, 3.4), ylim=(-0.1, 2.2))
    ax.set_title("Token world: where each method ends, beside the exact frontier")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None, "points": json.dumps(found)})
    return buffer.getvalue()
