"""What torch networks need outside of learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def in_numpy(network: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """A stack of linear layers with tanh between them, as a NumPy function on views of its weights.

    For 16 observations the arithmetic is nothing and torch's bookkeeping everything: this acts in a third of
    the time. It takes part in no gradient, and it follows the weights as an optimiser changes them.
    """
    import numpy as np

    layers = list(network)[::2]
    weights = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]

    def forward(obs: np.ndarray) -> np.ndarray:
        for weight, bias in weights[:-1]:
            obs = np.tanh(obs @ weight + bias)
        return obs @ weights[-1][0] + weights[-1][1]

    return forward


def tanh_mlp(sizes: list[int], last_gain: float) -> nn.Sequential:
    """Linear layers with tanh between them; orthogonal weights, the last layer's times `last_gain`."""
    from itertools import pairwise

    from torch import nn

    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        linear = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(linear.weight, last_gain if i == len(sizes) - 2 else 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
