"""Exercises of D7: its functions, and what goes beyond them."""

import math
from collections.abc import Sequence

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def share_trained(shapes: Sequence[tuple[int, int]], rank: int) -> float:
    """The share of eq. (E1); shapes: (rows, columns) of each matrix that gets an adapter."""
    learnt = sum(rank * (rows + columns) for rows, columns in shapes)
    return learnt / sum(rows * columns for rows, columns in shapes)


def check_share_trained(share_trained):
    """Matrices of many shapes, and several at once; against counting the numbers of the factors."""
    for shapes, rank in (([(4, 6)], 2), ([(128, 384), (128, 128)], 8), ([(7, 3), (5, 5), (2, 9)], 1)):
        learnt = whole = 0
        for rows, columns in shapes:
            left, right = [[0] * rank] * rows, [[0] * columns] * rank
            learnt += sum(map(len, left)) + sum(map(len, right))
            whole += rows * columns
        found = share_trained(shapes, rank)
        assert math.isclose(found, learnt / whole, rel_tol=1e-9), (
            f"{shapes}, rank {rank}: {learnt} of {whole} numbers, {learnt / whole:.6g}; found {found:.6g}"
        )


def texts_needed(share: float, half_width: float) -> int:
    """The smallest n of eq. (E2)."""
    return math.ceil((1.96 / half_width) ** 2 * share * (1.0 - share) - 1e-9)


def check_texts_needed(texts_needed):
    """The interval of n texts is narrow enough, that of n - 1 is not."""
    for share, half_width in ((0.5, 0.05), (0.6, 0.01), (0.9, 0.1), (0.5, 0.98), (0.75, 0.003)):
        found = texts_needed(share, half_width)
        assert int(found) == found, "a number of texts"
        halves = [1.96 * math.sqrt(share * (1.0 - share) / max(1, num)) for num in (found, found - 1)]
        assert halves[0] <= half_width * (1 + 1e-9), f"{share}, {half_width}: {found} texts are too few"
        assert found <= 1 or halves[1] > half_width * (1 - 1e-9), f"{share}, {half_width}: {found} are more"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write what a trainer is called with (1), the pairs that it reads, and SFT's loss (2).
""",
        minutes=35,
        difficulty="medium",
        functions=("settings", "pair_up", "sft_loss"),
    ),
    "share_trained": Exercise(
        title="How much learns",
        task=r"""
Adapters of rank $r$ stand beside matrices of $m_i$ rows and $n_i$ columns. Which share of the matrices'
numbers do they have?

$$\frac{\sum_i r\,(m_i + n_i)}{\sum_i m_i n_i} \tag{E1}$$

For which square matrix is rank 8 no saving?
""",
        minutes=10,
        difficulty="easy",
        solution=share_trained,
        check=check_share_trained,
        hints=(
            "Count the numbers in L and in R, for each matrix.",
            "For a square matrix of n rows the share is 2 r / n.",
            "learnt = sum(rank * (rows + columns) for rows, columns in shapes)",
        ),
        edits={
            "one_factor": Edit(
                function="share_trained",
                old="rank * (rows + columns)",
                new="rank * columns",
                says="counts one of the two factors",
            ),
            "of_products": Edit(
                function="share_trained",
                old="rank * (rows + columns)",
                new="rank * rows * columns",
                says="counts the product of the factors, which is never stored",
            ),
            "mean_of_shares": Edit(
                function="share_trained",
                old="return learnt / sum(rows * columns for rows, columns in shapes)",
                new="return sum(rank * (m + n) / (m * n) for m, n in shapes) / len(shapes)",
                says="the mean of each matrix's share: small matrices count like large ones",
            ),
        },
        answer=r"""
$2 r / n = 1$ at $n = 16$. SmolLM2's are 576 by 192 and larger: rank 8 learns less than 3 % of them in all.
""",
    ),
    "texts_needed": Exercise(
        title="How many texts decide?",
        task=r"""
Two policies win 60 % and 62 % against the base. How many texts does it take until the half width of (4) is at
most $h$?

$$n \ge \left(\frac{1.96}{h}\right)^2 p\,(1 - p) \tag{E2}$$
""",
        minutes=10,
        difficulty="easy",
        solution=texts_needed,
        check=check_texts_needed,
        hints=(
            "Solve (4) for n; the answer is a whole number.",
            "Half the width takes four times the texts.",
            "(1.96 / half_width) ** 2 * share * (1.0 - share), rounded up",
        ),
        edits={
            "rounded_down": Edit(
                function="texts_needed",
                old="math.ceil(",
                new="math.floor(",
                says="rounds down: the interval is a little too wide",
            ),
            "not_squared": Edit(
                function="texts_needed",
                old="(1.96 / half_width) ** 2",
                new="(1.96 / half_width)",
                says="as if half the width took twice the texts",
            ),
            "whole_width": Edit(
                function="texts_needed",
                old="1.96 / half_width",
                new="2 * 1.96 / half_width",
                says="takes the half width for the whole one",
            ),
        },
        answer="""
At 0.6 and a half width of 0.01, 9,220 texts each. Two points among a hundred texts are luck.
""",
    ),
    "which_default": Exercise(
        title="Which default was it?",
        task="""
Four colleagues train with GRPOTrainer. The first one's `kl` is missing in the log, and the texts end as one
word repeated. The second one's reward does not move, and neither does anything else. The third one gets an
error about an index out of range. The fourth one's loss differs from the course's in the third digit. Which
default did each leave?
""",
        minutes=5,
        difficulty="easy",
        answer="""
`beta` 0.0: without a penalty the reference is not even loaded. `learning_rate` 1e-06. `max_completion_length`
512, longer than the model has positions. `bf16`.
""",
    ),
    "real_model": Exercise(
        title="A model that has read more",
        task="""
The extra `smollm` has SmolLM2, of 135 million weights. A few updates of its adapters:

    rl run D7 --model smollm2 --lora 8 --num-batches 1 --rounds-a-batch 2 --group-size 4 --num-eval-texts 56

It takes some minutes, and about ten gigabytes: PPO comes last, beside all that was made. A line tells when a
trainer has ended. Say first: of its 28 pairs of texts, will many differ in what the rule counts? Which
trainers take longest? And then: who has learnt?
Stop it by Ctrl-C behind GRPO's line, and go on: the same command, with `--resume` and the run's folder.
""",
        minutes=15,
        difficulty="medium",
        answer="""
Few pairs differ: in 16 tokens SmolLM2 seldom writes one of the words that the rule counts, so most texts are
worth 0. SFT, Reward and DPO have little to read and end soon. GRPO, RLOO and PPO write texts, and read all of
them, which takes most of the time; in a group whose texts are all worth 0 no advantage is left. By (4) a win
rate over 56 texts is uncertain by more than a tenth: after so few updates nobody can tell who has learnt, and
a claim may fail. A rule that is never met teaches nothing: begin with what a model solves now and then (D5).
""",
    ),
}
