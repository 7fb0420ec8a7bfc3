"""Several small networks of one shape that learn side by side: twin critics, or an ensemble of models."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """`count` stacks of linear layers with ReLU between them; one product a layer serves them all.

    Of two small networks one after the other, half of the time is torch's bookkeeping. Weights begin as
    torch's `nn.Linear` does: uniformly within one over the root of a layer's inputs.
    """

    def __init__(self, count: int, sizes: list[int]) -> None:
        super().__init__()
        self.count = count
        self.layers = nn.ParameterList()  # weight [C, in, out] and bias [C, 1, out] of each layer
        for inputs, outputs in pairwise(sizes):
            edge = inputs**-0.5
            self.layers.append(nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-edge, edge)))
            self.layers.append(nn.Parameter(torch.empty(count, 1, outputs).uniform_(-edge, edge)))

    def forward(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "C B O"]:
        """Every network's outputs for the same inputs."""
        *hidden, weight, bias = self.layers
        x = inputs.expand(self.count, *inputs.shape)
        for w, b in zip(hidden[::2], hidden[1::2]):
            x = torch.baddbmm(b, x, w).relu()
        return torch.baddbmm(bias, x, weight)
