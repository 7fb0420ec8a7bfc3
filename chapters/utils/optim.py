"""Adam without the wait: the same arithmetic as torch's, without importing torch's compiler.

The first `torch.optim` object of a process costs three CPU seconds, because it imports the compiler (torch
2.15); a lesson that learns in half a second should not begin so. torch's functional form does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Adam:
    """Adam (kingma2015adam, algorithm 1); to the bit what `torch.optim.Adam(..., fused=True)` does.

    `lr` may be set between steps, as a schedule does. Parameters without a gradient stay where they are.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        import torch

        self.parameters = list(parameters)
        self.lr, self.betas, self.eps = lr, betas, eps
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32) for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient against it."""
        import torch
        from torch.optim.adam import adam

        moving = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        with torch.no_grad():
            adam(
                [self.parameters[i] for i in moving],
                [self.parameters[i].grad for i in moving],
                [self.means[i] for i in moving],
                [self.squares[i] for i in moving],
                [],
                [self.steps[i] for i in moving],
                foreach=False,
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=self.lr,
                weight_decay=0.0,
                eps=self.eps,
                maximize=False,
            )
