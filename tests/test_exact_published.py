"""The worlds in print: their arrays, and the comparison of a value with what a book shows of it."""

import numpy as np
import pytest

from chapters.exact import published
from chapters.utils.edits import Edit, edited


def check(module):
    V = np.array([1.04, -0.26, 3.0, 7.0])
    for text, num_equal, num_values in (
        ("1.0 -0.3 3.0 7.0", 4, 4),
        ("1.1 -0.2 3.0 nan", 1, 3),
        ("1.04 -0.3 3.0 7.0", 3, 4),  # two decimals now, as the first entry has
    ):
        table = module.Table("", "", text)
        assert (table.num_equal(V), table.num_values) == (num_equal, num_values)
    assert module.Table("", "", "-14. 2.").num_equal(np.array([-14.0000001, 2.4])) == 2
    sizes = {name: table.num_values for name, table in module.TABLES.items()}
    assert sizes == {
        "example_3_5_random": 25,
        "example_3_5_best": 25,
        "example_4_1_random": 16,
        "world_4x3_best": 9,
    }
    grid = module.example_3_5()
    assert (grid.P[1, :, 21] == 1).all()
    assert (grid.P[3, :, 13] == 1).all()
    assert (grid.R[[1, 3]] == [[10.0], [5.0]]).all()
    assert grid.R[0].tolist() == [-1.0, 0.0, 0.0, -1.0]
    corners = module.example_4_1()
    assert np.flatnonzero(corners.terminal).tolist() == [0, 15]
    assert (corners.R[~corners.terminal] == -1.0).all()
    assert (corners.gamma, grid.gamma) == (1.0, 0.9)
    np.testing.assert_allclose(module.world_4x3().P[0, 1, [1, 0, 4]], [0.8, 0.1, 0.1])
    np.testing.assert_allclose(module.world_4x3(-3.0).R[0, 1], -3.0)


WRONG = (
    Edit("Table", "np.round(V, decimals)", "np.round(V)", "whole numbers only"),
    Edit("Table", "np.round(V, decimals)", "np.trunc(V * 10**decimals) / 10**decimals", "cuts"),
    Edit("Table", '- self.text.count("nan")', "", "counts what is not there"),
    Edit("example_3_5", "(3, 13, 5.0)", "(3, 13, 10.0)", "B pays as much as A"),
    Edit("example_3_5", "bump_reward=-1.0", "bump_reward=0.0", "bumps are free"),
    Edit("example_4_1", "step_reward=-1.0", "step_reward=0.0", "steps are free"),
    Edit("world_4x3", "slip=0.2", "slip=0.1", "slips half as often"),
)


def test_worlds_and_tables():
    check(published)


@pytest.mark.parametrize("edit", WRONG, ids=lambda edit: edit.says)
def test_wrong_ones_are_noticed(edit):
    with pytest.raises(AssertionError):
        check(edited(published, edit))
