"""Exercises of D2: its functions, and what goes beyond them."""

import itertools
import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def next_beta(beta: float, kl: float, target: float) -> float:
    """The next batch's coefficient, eq. (E1), from this one's KL and the KL that is wanted, both above 0."""
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return beta * (1.0 + 0.1 * error)


def check_next_beta(next_beta):
    for beta, kl, target in itertools.product((0.02, 1.0), (0.1, 3.0, 5.5, 6.0, 6.6, 50.0), (0.5, 6.0)):
        expected = beta * (1 + 0.1 * sorted((-0.2, kl / target - 1, 0.2))[1])
        assert math.isclose(next_beta(beta, kl, target), expected, rel_tol=1e-6), (
            f"beta {beta}, KL {kl}, target {target}: {next_beta(beta, kl, target):.6g}"
        )


def penalise_unfinished(
    scores: Tensor, completion_ids: Tensor, completion_mask: Tensor, eos_id: int, penalty: float
) -> Tensor:
    """Scores [B], less `penalty` where the completion [B, T] was cut off before its EOS, eq. (E2)."""
    ended = ((completion_ids == eos_id) & completion_mask).any(dim=1)
    return torch.where(ended, scores, scores - penalty)


def check_penalise_unfinished(penalise_unfinished):
    eos_id = 1
    for seed, (num, length) in enumerate(((1, 1), (6, 3), (30, 5))):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(num, generator=generator)
        ids = torch.randint(0, 4, (num, length), generator=generator)
        lengths = []
        for b in range(num):
            row = ids[b].tolist()
            lengths.append(row.index(eos_id) + 1 if eos_id in row else length)
        for pad_id in (0, eos_id):  # many models have one id for both
            mask = torch.arange(length) < torch.tensor(lengths)[:, None]
            given, kept = ids.masked_fill(~mask, pad_id), scores.clone()
            found = penalise_unfinished(scores, given, mask, eos_id, 1.5)
            for b in range(num):
                ended = int(ids[b, lengths[b] - 1]) == eos_id
                expected = float(scores[b]) - (0.0 if ended else 1.5)
                assert math.isclose(found[b], expected, abs_tol=1e-6), f"completion {b}: {found[b]:.6g}"
            assert torch.equal(scores, kept), "the scores that came in must stay as they were"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write a reward for each token, and advantages that end with the completion, from (2) and (3).
""",
        minutes=35,
        difficulty="medium",
        functions=("token_rewards", "gae"),
    ),
    "next_beta": Exercise(
        title="A beta that adapts",
        task=r"""
You may know how far the policy should go from the reference, say $d$ nats, without knowing a good $\beta$.
After each batch this raises $\beta$ if the policy is further away, and lowers it if nearer
(`ziegler2019finetuning`):

$$\beta \leftarrow \beta \bigl[1 + 0.1\, \mathrm{clip}(\mathrm{KL} / d - 1, \pm 0.2)\bigr] \tag{E1}$$

Why is the error clipped?
""",
        minutes=15,
        difficulty="easy",
        solution=next_beta,
        check=check_next_beta,
        hints=(
            "The error is relative: 0 where the KL is what is wanted, positive where it is larger.",
            "At twice the target, and at a hundred times it, beta grows by the same 2 %.",
            "error = min(max(kl / target - 1.0, -0.2), 0.2)",
        ),
        edits={
            "never_clipped": Edit(
                function="next_beta",
                old="min(max(kl / target - 1.0, -0.2), 0.2)",
                new="kl / target - 1.0",
                says="no clip: one batch with a strange text moves beta a long way",
            ),
            "runs_away": Edit(
                function="next_beta",
                old="1.0 + 0.1 * error",
                new="1.0 - 0.1 * error",
                says="the sign of the error: the further away, the cheaper it gets",
            ),
            "absolute_error": Edit(
                function="next_beta",
                old="kl / target - 1.0",
                new="kl - target",
                says="takes the error in nats, not as a share of the target",
            ),
            "steps_of_one_size": Edit(
                function="next_beta",
                old="beta * (1.0 + 0.1 * error)",
                new="beta + 0.1 * error",
                says="adds to beta instead of multiplying: a small one may fall below 0",
            ),
        },
        answer=r"""
The KL of a batch is noisy: a few completions that the reference finds absurd may double it. With the clip
$\beta$ moves by at most 2 % a batch: only a KL that stays off its target moves it far.
""",
    ),
    "penalise_unfinished": Exercise(
        title="Cut off",
        task=r"""
A completion of `T` tokens without an EOS was cut off, often in mid-sentence. Take a penalty $c$ from its
score:

$$\tilde r(x, y) = r(x, y) - c\; \mathbb 1[\text{no } y_t \text{ is the EOS}] \tag{E2}$$

Beware: the last of `T` may be the EOS. What is such a penalty for?
""",
        minutes=15,
        difficulty="easy",
        solution=penalise_unfinished,
        check=check_penalise_unfinished,
        hints=(
            "A completion has ended if some token of it that exists is the EOS.",
            "If all T tokens exist, only the last one can be the EOS.",
            "ended = ((completion_ids == eos_id) & completion_mask).any(dim=1)",
        ),
        edits={
            "long_is_unfinished": Edit(
                function="penalise_unfinished",
                old="((completion_ids == eos_id) & completion_mask).any(dim=1)",
                new="~completion_mask.all(dim=1)",
                says="punishes every completion of T tokens, even if the last one is the EOS",
            ),
            "only_the_last_column": Edit(
                function="penalise_unfinished",
                old="((completion_ids == eos_id) & completion_mask).any(dim=1)",
                new="(completion_ids[:, -1] == eos_id) & completion_mask[:, -1]",
                says="looks at the last column only: a completion that ended earlier is punished",
            ),
            "punishes_the_finished": Edit(
                function="penalise_unfinished",
                old="torch.where(ended, scores, scores - penalty)",
                new="torch.where(ended, scores - penalty, scores)",
                says="punishes what ended, and spares what was cut off",
            ),
        },
        answer=r"""
Nothing in D2's score says that a text should come to its end, and a longer one has room for more praise. With
a $c$ above 1, to be cut off costs more than one further positive word can bring.
""",
    ),
}
