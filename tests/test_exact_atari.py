"""The published Atari scores agree with what the papers print of them."""

import numpy as np
import pytest

from chapters.exact.atari import PRINTED, column, games, human_normalised


def test_57_games_in_order_each_once():
    assert len(games()) == len({*games()}) == 57
    assert games() == sorted(games())
    assert all(column(name).shape == (57,) for name in ("random", "human", "dqn", "dueling"))


def test_the_references_are_0_and_1():
    assert (human_normalised("random") == 0).all()
    assert (human_normalised("human") == 1).all()


@pytest.mark.parametrize(("name", "printed", "above"), [("dqn", "DQN", 24), ("dueling", "dueling", 37)])
def test_medians_and_counts_are_those_in_print(name, printed, above):
    scores = human_normalised(name)
    assert 100 * np.median(scores) == pytest.approx(PRINTED[printed][0], abs=0.1)
    assert (scores > 1).sum() == above  # bellemare2017distributional, the table of means and medians


@pytest.mark.parametrize(("name", "printed", "given"), [("dqn", "DQN", 227.7), ("dueling", "dueling", 372.9)])
def test_means_in_print_give_a_random_player_0_in_video_pinball(name, printed, given):
    scores, pinball = human_normalised(name), games().index("video_pinball")
    assert scores.mean() > PRINTED[printed][1] / 100 + 0.9
    scores[pinball] = column(name)[pinball] / column("human")[pinball]
    assert 100 * scores.mean() == pytest.approx(PRINTED[printed][1], abs=0.2)
    assert 100 * scores.mean() == pytest.approx(given, abs=0.05)


def test_single_scores():
    breakout = games().index("breakout")
    assert 100 * human_normalised("dqn")[breakout] == pytest.approx(100 * (385.5 - 1.7) / (30.5 - 1.7))
    assert games()[np.argmax(human_normalised("dqn"))] == "video_pinball"
