"""Small pictures with a thing named in words: `touch the red cross on the left`.

A picture has 4 x 4 cells of 4 x 4 pixels. Eight cells hold a thing, eight are empty. An instruction has three
words, a colour, a shape and a place (a half of the picture). Beside them, the scene draws another colour,
another shape and the opposite half: its eight things are all that these pairs allow. So every word counts,
and the picture alone does not say which of the eight is meant.

One instruction in four is held out: each word, and each pair of words, occurs in those that remain.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("square", "ring", "cross", "bar")
PLACES = ("left", "right", "top", "bottom")
"""Halves of the picture, each beside its opposite."""
WORDS = COLOURS + SHAPES + PLACES
SIDE, PIXELS, NUM_THINGS = 4, 4, 8
"""Cells along a side of the picture; pixels along a side of a cell; things in a scene."""
NUM_CELLS = SIDE * SIDE
NOISE = 0.1
"""Standard deviation of what is added to each pixel."""
TEACHER_ERROR = 0.3
"""How often a teacher touches just any of the eight things."""
NUM_TEST = 600
"""Scenes to measure success by."""
_PAINT = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0], [0.7, 0.7, 0.1]], dtype=np.float32)
_DRAWN = {
    "square": ("1111", "1111", "1111", "1111"),
    "ring": ("1111", "1001", "1001", "1111"),
    "cross": ("1001", "0110", "0110", "1001"),
    "bar": ("0110", "0110", "0110", "0110"),
}
_STENCILS = np.array([[[float(c) for c in row] for row in _DRAWN[shape]] for shape in SHAPES], np.float32)


def instructions(held_out: bool | None = None) -> Int[np.ndarray, "N 3"]:
    """Word ids (colour, shape, place) of all 64 instructions, or of the 16 held out, or of the other 48."""
    every = np.array(list(itertools.product(range(4), repeat=3)))
    if held_out is not None:
        every = every[(every.sum(axis=1) % 4 == 0) == held_out]
    return every + np.array([0, 4, 8])


def half(place: int) -> Int[np.ndarray, " 8"]:
    """The cells, numbered row by row, of a half of the picture: 0 left, 1 right, 2 top, 3 bottom."""
    cells = np.arange(NUM_CELLS).reshape(SIDE, SIDE)
    return (cells[:, :2], cells[:, 2:], cells[:2], cells[2:])[place].ravel()


def chances() -> Float[np.ndarray, "64 16"]:
    """How likely it is that an instruction is given and a cell is the named one: [instruction, cell]."""
    table = np.zeros((64, NUM_CELLS))
    for row, (_, _, place) in enumerate(instructions()):
        table[row, half(place - 8)] = 1.0 / (64 * 8)
    return table


def draw(words: Int[np.ndarray, "B 3"], rng: np.random.Generator) -> dict[str, Tensor]:
    """A scene for each instruction.

    images [B, 16, 16, 3] (row, column, colour; about 0 to 1), words [B, 3], target [B] the named cell,
    things [B, 8] the cells that hold something, the named one first.
    """
    num, rows = len(words), np.arange(len(words))
    named = words - np.array([0, 4, 8])
    other = (named[:, :2] + rng.integers(1, 4, size=(num, 2))) % 4
    halves = np.array([half(place) for place in range(4)])
    cells = np.zeros((num, NUM_CELLS, PIXELS, PIXELS, 3), dtype=np.float32)
    things = []
    for place in (named[:, 2], named[:, 2] ^ 1):  # the opposite half differs in the last bit
        chosen = rng.random((num, 8)).argsort(axis=1)[:, :4]
        where = halves[place[:, None], chosen]
        kinds = itertools.product((named[:, 0], other[:, 0]), (named[:, 1], other[:, 1]))
        for at, (colour, shape) in zip(where.T, kinds):
            cells[rows, at] = _STENCILS[shape][..., None] * _PAINT[colour][:, None, None, :]
            things.append(at)
    cells += NOISE * rng.standard_normal(cells.shape, dtype=np.float32)
    grid = cells.reshape(num, SIDE, SIDE, PIXELS, PIXELS, 3).transpose(0, 1, 3, 2, 4, 5)
    images = grid.reshape(num, SIDE * PIXELS, SIDE * PIXELS, 3)
    scene = {"images": images, "words": words, "target": things[0], "things": np.stack(things, axis=1)}
    return {name: torch.from_numpy(value) for name, value in scene.items()}


def held_out_scenes(num: int, seed: int) -> dict[str, Tensor]:
    """`num` scenes with held-out instructions, from a random generator of their own."""
    rng = np.random.default_rng([seed, 1])
    return draw(rng.choice(instructions(held_out=True), size=num, replace=num > 16), rng)


def in_words(words: Int[Tensor, " 3"]) -> str:
    """An instruction to read, in two lines."""
    colour, shape, place = (WORDS[word] for word in words.tolist())
    return f"{colour} {shape}\n{place}"


def shown(scene: dict[str, Tensor], error: float, rng: np.random.Generator) -> Int[Tensor, " B"]:
    """What a teacher touches: the named thing, but with chance `error` any of the eight."""
    num = len(scene["target"])
    any_thing = scene["things"][torch.arange(num), torch.from_numpy(rng.integers(0, NUM_THINGS, size=num))]
    return torch.where(torch.from_numpy(rng.random(num) < error), any_thing, scene["target"])


def taught(error: float) -> float:
    """How often that teacher touches the named thing."""
    return 1.0 - error + error / NUM_THINGS


@torch.no_grad()
def figure_of(policy: Any, seed: int, num: int = 6) -> Figure:
    """A few scenes with held-out instructions, and below each where `policy.look(images, words)` looks."""
    scene = held_out_scenes(num, seed)
    attention = policy.look(scene["images"], scene["words"])
    figure, panels = plotting.new_figure(2, num, width=1.75, height=1.9)
    for column, (above, below) in enumerate(panels.T):
        above.imshow(scene["images"][column].clamp(0.0, 1.0))
        above.set_title(in_words(scene["words"][column]), fontsize=12, fontweight="normal")
        shown = below.imshow(attention[column].reshape(SIDE, SIDE), vmin=0.0, vmax=1.0, cmap="Greys")
        row, place = divmod(scene["target"][column].item(), SIDE)
        below.plot(place, row, "o", color=plotting.RED, markersize=6)
        below.set_xlabel("dot: named" if column == 0 else "")
        for panel in (above, below):
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
    panels[0, 0].set_ylabel("picture")
    panels[1, 0].set_ylabel("attention")
    figure.colorbar(shown, ax=panels[1].tolist(), label="share", ticks=[0, 1])
    return figure
