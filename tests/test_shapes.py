"""The checks of shapes that all tests run under (conftest.py) see a wrong one."""

import jaxtyping
import pytest
import torch
from beartype import beartype
from conftest import WATCHED
from jaxtyping import Float
from torch import Tensor

from chapters.course.catalog import find
from chapters.course.parts import lesson_of

WRONG = jaxtyping.TypeCheckError


def test_a_lesson_refuses_a_wrong_shape():
    gae = lesson_of(find("C3")).gae
    row = torch.zeros(4, 2)
    flags = torch.zeros(4, 2, dtype=torch.bool)
    gae(row, row, row, flags, flags, 0.9, 0.8)

    def often():  # other tests of this process may have had its first calls
        for _ in range(WATCHED):
            gae(row, row[:, :1], row, flags, flags, 0.9, 0.8)

    with pytest.raises(WRONG):
        often()


def test_a_wrong_shape_is_seen_in_each_of_the_first_calls_and_in_every_so_many_th():
    @jaxtyping.jaxtyped(typechecker=beartype)
    def double(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return 2 * x

    noticed = []
    for number in range(4 * WATCHED):
        try:
            double(torch.zeros(2, 2))
        except WRONG:
            noticed.append(number)
    assert noticed == [*range(WATCHED + 1), 2 * WATCHED, 3 * WATCHED]
