"""Exercises of D9: its functions, and what goes beyond them."""

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit

IGNORED = -100


def labels(messages: list[tuple[str, list[int]]]) -> Tensor:
    """The targets of next-token training on a transcript of (role, token ids), one for each token.

    A token's own id where the assistant wrote it, -100 for all others; trainers shift them by one themselves.
    """
    found = []
    for role, ids in messages:
        found += ids if role == "assistant" else [IGNORED] * len(ids)
    return torch.tensor(found)


def check_labels(labels):
    """Transcripts of several turns, against their tokens one by one."""
    transcripts = [
        [("user", [5, 6]), ("assistant", [7])],
        [
            ("system", [1]),
            ("user", [2, 3]),
            ("assistant", [4, 5]),
            ("tool", [6, 7, 8]),
            ("assistant", [9, 2]),
        ],
        [("user", [3]), ("assistant", [4]), ("tool", [5]), ("assistant", [6]), ("tool", [7]), ("user", [8])],
    ]
    for messages in transcripts:
        found = labels(messages)
        expected = [token if role == "assistant" else -100 for role, ids in messages for token in ids]
        assert found.tolist() == expected, f"of {messages}: expected {expected}, found {found.tolist()}"


def effective_texts(weights: Tensor) -> float:
    """How many texts of equal weight are as good as these, eq. (E1), from weights [B]."""
    return (weights.sum() ** 2 / (weights**2).sum()).item()


def check_effective_texts(effective_texts):
    for weights, expected in (
        ([1.0, 1.0, 1.0, 1.0], 4.0),
        ([3.0, 0.0, 0.0], 1.0),
        ([1.0, 2.0], 1.8),
        ([0.5, 0.5, 2.0], 2.0),
    ):
        found = effective_texts(torch.tensor(weights, dtype=torch.float64))
        assert abs(float(found) - expected) < 1e-9, f"weights {weights}: expected {expected}, found {found}"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the advantages, the loss and the weights of (3), (4) and (5).
""",
        minutes=30,
        difficulty="medium",
        functions=("advantages", "turns_loss", "importance_weights"),
    ),
    "write": Exercise(
        title="Who wrote this?",
        task="""
Write the function that puts one token behind a text and remembers whose it is. The world is asked after each
token of the agent's, and never after its own.
""",
        minutes=15,
        difficulty="easy",
        functions=("write",),
    ),
    "labels": Exercise(
        title="The same mask for imitation",
        task="""
Before it learns from rewards, a model imitates transcripts in which others called tools. There, too, only the
assistant's tokens are to be learnt. Turn a transcript into the labels that trainers of the transformers
library take: -100 where nothing is to be learnt.
""",
        minutes=10,
        difficulty="easy",
        solution=labels,
        check=check_labels,
        hints=(
            "Go through the messages in order, and put as many labels behind each other as there are tokens.",
            "A transcript without an assistant has -100 everywhere; labels are as many as tokens.",
            "for role, ids in messages:",
        ),
        edits={
            "tools_learnt": Edit(
                function="labels",
                old='role == "assistant"',
                new='role in ("assistant", "tool")',
                says="learns to speak for the tool",
            ),
            "users_ignored_alone": Edit(
                function="labels",
                old='role == "assistant"',
                new='role != "user"',
                says="leaves out the user alone: system and tools are learnt",
            ),
            "mask_inverted": Edit(
                function="labels",
                old='ids if role == "assistant" else [IGNORED] * len(ids)',
                new='[IGNORED] * len(ids) if role == "assistant" else ids',
                says="turns the mask round",
            ),
            "last_turn_only": Edit(
                function="labels",
                old="    return torch.tensor(found)",
                new="    last = max(at for at, one in enumerate(messages) if one[0] == 'assistant')\n"
                "    before = sum(len(ids) for _, ids in messages[:last])\n"
                "    return torch.tensor([IGNORED] * before + found[before:])",
                says="learns the last turn alone: no call is ever imitated",
            ),
        },
    ),
    "effective_texts": Exercise(
        title="What a stale batch is worth",
        task=r"""
Unequal weights waste texts: most of the gradient comes from a few. The *effective sample size* says how many
texts of equal weight would be as noisy:

$$\frac{(\sum_i w_i)^2}{\sum_i w_i^2} \tag{E1}$$

Write it. What is it for one weight that is huge beside all others? What does a cut at $C$
do to it?
""",
        minutes=10,
        difficulty="easy",
        solution=effective_texts,
        check=check_effective_texts,
        hints=(
            "Square the sum above, sum the squares below.",
            "Equal weights give the number of texts, whatever they are; one weight alone gives 1.",
            "above = weights.sum() ** 2",
        ),
        edits={
            "upside_down": Edit(
                function="effective_texts",
                old="weights.sum() ** 2 / (weights**2).sum()",
                new="(weights**2).sum() / weights.sum() ** 2",
                says="turns the fraction upside down",
            ),
            "not_squared": Edit(
                function="effective_texts",
                old="weights.sum() ** 2",
                new="weights.sum()",
                says="forgets to square the sum",
            ),
            "mean_for_sum": Edit(
                function="effective_texts",
                old="(weights**2).sum()",
                new="(weights**2).mean()",
                says="takes a mean below and a sum above",
            ),
        },
        answer="""
One: the batch is worth a single text. A cut brings the weights together, so the batch is worth more, and the
gradient is biased towards what the sampler likes: less noise is paid for with bias.
""",
    ),
}
