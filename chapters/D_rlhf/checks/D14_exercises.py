"""Exercises of D14: its functions, and what goes beyond them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def length_penalty_loss(
    log_ratios: Tensor, lengths: Tensor, labels: Tensor, beta: float, rate: float
) -> Tensor:
    """DPO's loss of each pair [B] for a reward less `rate` for each token, eq. (E1).

    log_ratios: h [B, 2]; lengths: tokens [B, 2]; labels: probability that the first is preferred [B].
    """
    scores = beta * log_ratios + rate * lengths
    gap = scores[:, 0] - scores[:, 1]
    return -labels * F.logsigmoid(gap) - (1 - labels) * F.logsigmoid(-gap)


def check_length_penalty_loss(length_penalty_loss):
    """Pair by pair; and where the loss has no slope, h is the reward less the penalty, over beta."""
    generator = torch.Generator().manual_seed(11)
    h = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, 9, (12, 2), generator=generator)
    labels = torch.rand(12, generator=generator, dtype=torch.float64)
    for beta, rate in ((0.5, 0.3), (2.0, 0.1), (0.5, 0.0)):
        found = length_penalty_loss(h, lengths, labels, beta, rate)
        assert tuple(found.shape) == (12,), "a number for each pair"
        for loss, ratios, sizes, p in zip(found.tolist(), h.tolist(), lengths.tolist(), labels.tolist()):
            gap = beta * (ratios[0] - ratios[1]) + rate * (sizes[0] - sizes[1])
            expected = p * math.log1p(math.exp(-gap)) + (1 - p) * math.log1p(math.exp(gap))
            assert math.isclose(loss, expected, rel_tol=1e-5, abs_tol=1e-9), (
                f"beta {beta}, rate {rate}: expected {expected:.6g}, found {loss:.6g}"
            )
    rewards = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    counts = torch.tensor([[7, 2]])
    end = ((rewards - 0.3 * counts) / 0.5).requires_grad_()
    label = (rewards[:, 0] - rewards[:, 1]).sigmoid()
    (slope,) = torch.autograd.grad(length_penalty_loss(end, counts, label, 0.5, 0.3).sum(), end)
    assert slope.abs().max() < 1e-6, "the end is the optimum of the reward less the penalty"


EXERCISES = {
    "heart": Exercise(
        title="The knobs",
        task="Write (1), (2) and (3), then KTO's loss and its reference point, (6).",
        minutes=35,
        difficulty="medium",
        functions=("score", "logistic_loss", "likelihood_loss", "kto_loss", "reference_point"),
    ),
    "length_penalty_loss": Exercise(
        title="A penalty for length",
        task=r"""
Let the reward be $r - \lambda |y|$, with $\lambda$ a rate of your choice (`park2024length`). Its optimum has
$\beta h = r - \lambda |y|$ plus a constant. So preferences by $r$ are preferences by $\beta h + \lambda |y|$:

$$L = -p \log \sigma(g) - (1 - p) \log \sigma(-g), \quad
g = \beta (h_w - h_l) + \lambda (|y_w| - |y_l|) \tag{E1}$$

Mind the sign: a longer winner needs *less* of $h$.

At which rate does a judge's bonus of 0.2 a token vanish?
""",
        minutes=20,
        difficulty="medium",
        solution=length_penalty_loss,
        check=check_length_penalty_loss,
        hints=(
            "Solve the optimum of the penalised reward for r, as D4 did for the plain one.",
            "Equal lengths, or a rate of 0: D4's loss with soft labels.",
            "scores = beta * log_ratios + rate * lengths",
        ),
        edits={
            "sign": Edit(
                function="length_penalty_loss",
                old="+ rate * lengths",
                new="- rate * lengths",
                says="the penalty's sign: long answers are rewarded",
            ),
            "inside_beta": Edit(
                function="length_penalty_loss",
                old="beta * log_ratios + rate * lengths",
                new="beta * (log_ratios + rate * lengths)",
                says="the rate is multiplied by beta: the penalty is not in units of the reward",
            ),
            "divided": Edit(
                function="length_penalty_loss",
                old="beta * log_ratios + rate * lengths",
                new="beta * log_ratios / lengths",
                says="a mean over tokens: the length-normalised loss",
            ),
            "winner_only": Edit(
                function="length_penalty_loss",
                old="gap = scores[:, 0] - scores[:, 1]",
                new="gap = scores[:, 0] - beta * log_ratios[:, 1]",
                says="only the first answer pays for its length",
            ),
            "hard": Edit(
                function="length_penalty_loss",
                old="-labels * F.logsigmoid(gap) - (1 - labels) * F.logsigmoid(-gap)",
                new="-F.logsigmoid(gap)",
                says="as if every label were 1",
            ),
        },
        answer=r"""
At 0.2: judged rewards $r + 0.2 |y|$, less $0.2 |y|$, are $r$, and (E1) ends at the optimum exactly. In
practice nobody tells you that number; too large a rate makes the answers too short.
""",
    ),
    "thumbs": Exercise(
        title="Thumbs",
        task=r"""
In a product one answer in five is given a thumb, and nine of ten thumbs are up. What does KTO's end (7) say
of an answer that is liked in 8 of 10 cases, and of one that is liked in 4 of 10? What would weights for ups
and downs change?
""",
        minutes=15,
        difficulty="hard",
        answer=r"""
The end knows the chance to be liked, $q$, alone: 0.8 stays and 0.4 is lost, although the usual answer is
liked in 9 of 10 cases. With weights $w_u$ and $w_d$ the border $q = \frac12$ moves to $w_u q = w_d (1 - q)$.
`ethayarajh2024kto` advises to balance the totals: here $w_d = 9 w_u$, a border at 0.9, so that 0.8 is lost,
too. An answer without a thumb says nothing, unless silence depends on quality.
""",
    ),
}
