"""The picture of chapter D shows what the ledgers hold."""

import numpy as np
import pytest

from chapters.course import pictures
from chapters.envs.token_world import token_world


def test_the_picture_is_up_to_date():
    assert pictures.points(), "a ledger of D2, D4 or D15 is missing"
    assert pictures.update(check=True) == [], "run `rl tables`"


def test_a_moved_ledger_is_noticed_and_drawn_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURE", tmp_path / "D0.png")
    monkeypatch.setattr(pictures, "stored", lambda stored=pictures.stored: stored(tmp_path / "D0.png"))
    assert pictures.update(check=True) == [tmp_path / "D0.png"]
    assert not (tmp_path / "D0.png").exists()
    assert pictures.update() == [tmp_path / "D0.png"]
    assert pictures.update() == []
    moved = {**pictures.points(), "PPO (D2)": [0.0, 0.0]}
    monkeypatch.setattr(pictures, "points", lambda: moved)
    assert pictures.update(check=True) == [tmp_path / "D0.png"]


@pytest.mark.parametrize("label", [label for label, row in pictures.METHODS.items() if row[3] == "o"])
def test_what_is_said_to_reach_the_optimum_does(label):
    """At least 95 % of the gap between the reference and the exact optimum."""
    world, (kl, reward) = token_world(pictures.SEED), pictures.points()[label]
    best = float(world.objective(world.optimum(pictures.BETA), pictures.BETA))
    assert (reward - pictures.BETA * kl) / best >= 0.95


def test_nothing_lies_above_the_frontier():
    kl, reward = token_world(pictures.SEED).frontier(np.geomspace(0.05, 50.0, 400))
    for label, (at, found) in pictures.points().items():
        assert found <= np.interp(at, kl[::-1], reward[::-1]) + 1e-3, label
