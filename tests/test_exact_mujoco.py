"""What is said of the MuJoCo table that is handed on follows from what is in print."""

import pytest

from benchmarks.race import HERE
from chapters.exact.mujoco import BODIES, HANDED_ON, PRINTED, READ_OFF_CURVES, known


def near(algorithm, body, within):
    """Sources whose figure is that near, as a share, to the one handed on."""
    told = HANDED_ON[algorithm][BODIES.index(body)]
    return {source for source, value in known(algorithm, body).items() if abs(value / told - 1) <= within}


def test_which_of_the_handed_on_figures_are_found():
    assert ("fujimoto2018td3, table 1", 1) in near("PPO", "HalfCheetah", 0.01)
    assert near("PPO", "Ant", 0.05) == {("achiam2018spinningup", 3)}, "at three times the steps"
    assert near("PPO", "Humanoid", 0.2) == set()
    assert near("SAC", "HalfCheetah", 0.05) == {("achiam2018spinningup", 1)}
    assert near("SAC", "Ant", 0.05) == set()
    assert near("SAC", "Humanoid", 0.01) == {("haarnoja2018sac", 1)}
    assert ("fujimoto2018td3, table 2", 1) in near("TD3", "HalfCheetah", 0.01)
    assert near("TD3", "Ant", 0.05) == set()
    assert near("TD3", "Humanoid", 0.02) == {("weng2022tianshou", 1)}


@pytest.mark.parametrize(("algorithm", "body", "factor"), [("PPO", "HalfCheetah", 4.3), ("SAC", "Ant", 8.9)])
def test_how_far_sources_are_apart(algorithm, body, factor):
    values = known(algorithm, body).values()
    assert max(values) / min(values) == pytest.approx(factor, abs=0.1)


def test_the_note_shows_the_figures_that_stand_here():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## MuJoCo figures that are handed on") :]
    for (algorithm, where, millions), row in (PRINTED | READ_OFF_CURVES).items():
        about = "about " if (algorithm, where, millions) in READ_OFF_CURVES else ""
        key, _, table = where.partition(", ")
        source = f"`{key}`{', ' + table if table else ''}"
        cells = [f"{about}{value:,.0f}" if value else "–" for value in row]
        line = f"| {algorithm} | {source} | {millions} | {' | '.join(cells)} |"
        assert line in section, line
    for algorithm, row in HANDED_ON.items():
        assert f"| {algorithm} | handed on | ? | {' | '.join(f'{value:,}' for value in row)} |" in section
