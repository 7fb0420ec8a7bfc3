"""The scenes of D10: what is shown, what is held out, what a teacher does, what a blind policy can reach."""

import itertools

import numpy as np
import pytest
import torch

from chapters.envs import scenes
from chapters.exact import partial


def test_held_out_instructions_are_new_and_their_words_and_pairs_are_not():
    met, new = ({tuple(row) for row in scenes.instructions(held)} for held in (False, True))
    assert (len(met), len(new)) == (48, 16)
    assert not met & new
    assert met | new == {tuple(row) for row in scenes.instructions()}
    for places in itertools.combinations(range(3), 2):
        pairs = [{tuple(row[place] for place in places) for row in rows} for rows in (met, new)]
        assert pairs[1] <= pairs[0]


def kind_of(cell):
    """(colour, shape) ids of a cell's pixels, or None of an empty one; noise is small beside the paint."""
    pixels = cell.double()
    drawn = pixels.max(dim=-1).values > 0.5
    if not drawn.any():
        return None
    shape = next(i for i in range(4) if np.array_equal(drawn.numpy(), scenes._STENCILS[i] > 0))
    colour = int(np.argmin([np.abs(pixels[drawn].mean(0).numpy() - paint).sum() for paint in scenes._PAINT]))
    return colour, shape


def test_a_scene_shows_all_eight_mixtures_of_two_colours_two_shapes_and_two_halves(monkeypatch):
    monkeypatch.setattr(scenes, "NOISE", 0.02)
    words = scenes.instructions()
    scene = scenes.draw(words, np.random.default_rng(0))
    for image, named, target, things in zip(*(scene[key] for key in ("images", "words", "target", "things"))):
        colour, shape, place = (named - torch.tensor([0, 4, 8])).tolist()
        cells = [
            image[4 * (cell // 4) : 4 * (cell // 4) + 4, 4 * (cell % 4) : 4 * (cell % 4) + 4]
            for cell in range(16)
        ]
        shown = {cell: kind_of(pixels) for cell, pixels in enumerate(cells) if kind_of(pixels) is not None}
        assert shown[target.item()] == (colour, shape)
        assert target.item() in scenes.half(place)
        assert set(shown) == set(things.tolist())
        halves = [
            [kind for cell, kind in shown.items() if cell in scenes.half(side)] for side in (place, place ^ 1)
        ]
        assert sorted(halves[0]) == sorted(halves[1]), "both halves show the same kinds"
        colours, shapes = ({kind[i] for kind in shown.values()} for i in range(2))
        assert sorted(halves[0]) == sorted(itertools.product(colours, shapes))
        assert len(shown) == 8


def test_the_named_cell_is_anywhere_in_its_half_and_the_teacher_errs_as_often_as_it_should():
    rng = np.random.default_rng(1)
    words = np.repeat(scenes.instructions()[:1], 4000, axis=0)
    scene = scenes.draw(words, rng)
    counts = np.bincount(scene["target"].numpy(), minlength=16) / 4000
    expected = scenes.chances()[0] * 64
    assert np.abs(counts - expected).max() < 5 * (1 / 8 * 7 / 8 / 4000) ** 0.5
    for error in (0.0, 0.3, 1.0):
        right = (scenes.shown(scene, error, rng) == scene["target"]).double().mean().item()
        assert right == pytest.approx(scenes.taught(error), abs=0.03)


def test_the_best_blind_policy_is_right_one_time_in_eight():
    assert scenes.chances().sum() == pytest.approx(1.0)
    assert partial.best_without(scenes.chances()) == pytest.approx(1 / 8)
    assert partial.best_without(np.array([[0.2, 0.3], [0.5, 0.0]])) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="sum to 1"):
        partial.best_without(np.ones((2, 2)))
