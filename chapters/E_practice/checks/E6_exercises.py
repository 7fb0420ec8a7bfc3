"""Exercises of E6: its functions, and how long a branch may be where members begin to disagree."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def trusted(disagreements: Float[Tensor, "k B"], limit: float) -> Bool[Tensor, "k B"]:
    """Which steps of B branches to learn from, eq. (E1): none from the first on that exceeds the limit."""
    return (disagreements <= limit).long().cumprod(dim=0).bool()  # eq. (E1)


def check_trusted(trusted):
    torch.manual_seed(1)
    for length, count in ((1, 3), (4, 6), (7, 2)):
        disagreements = torch.rand(length, count)
        for limit in (0.3, 0.7, 2.0):
            found = trusted(disagreements, limit)
            assert found.shape == (length, count), "one answer for each step of each branch"
            for b in range(count):
                still = True
                for t in range(length):
                    still = still and float(disagreements[t, b]) <= limit
                    assert bool(found[t, b]) == still, (
                        f"disagreements {disagreements[:, b].tolist()}, limit {limit}, step {t}: "
                        f"expected {still}, found {bool(found[t, b])}"
                    )
    edge = torch.tensor([[0.5], [0.25]])
    assert bool(trusted(edge, 0.5)[0, 0]), "a step at the limit is trusted still"


EXERCISES = {
    "heart": Exercise(
        title="A model and its branches",
        task="""
Write what a model is to foresee (1), its loss (2), and the branches of (6).
""",
        minutes=30,
        difficulty="medium",
        functions=("targets_of", "weighted_error", "branch"),
    ),
    "trust": Exercise(
        title="What tells how far",
        task="""
Write the disagreement of (3) and both bounds, (4) and (5).
""",
        minutes=20,
        difficulty="easy",
        functions=("disagreement", "value_bound", "stray_bound"),
    ),
    "trusted": Exercise(
        title="As long as they agree",
        task=r"""
A fixed $k$ is too long in some places and too short in others. Let each branch go on as long as its members
agree. With $u_t$ for the disagreement about step $t$ and a limit $\bar u$, step $t$ is learnt from if

$$\max_{i \le t} u_i \le \bar u \tag{E1}$$

Write it for many branches at once. Why is it the largest up to now that must be below the limit, and not the
disagreement of the step itself?
""",
        minutes=15,
        difficulty="easy",
        solution=trusted,
        check=check_trusted,
        hints=(
            "Along the steps, once false stays false.",
            "With a limit of 2 all steps count; with one below the first disagreement, none does.",
            "(disagreements <= limit).long() is 1 where a step may stay; what does cumprod do to it?",
        ),
        edits={
            "forgives": Edit(
                function="trusted",
                old="(disagreements <= limit).long().cumprod(dim=0).bool()",
                new="disagreements <= limit",
                says="trusts a branch again that has already been where nothing is known",
            ),
            "one_more": Edit(
                function="trusted",
                old="(disagreements <= limit).long().cumprod(dim=0).bool()",
                new="torch.cat([torch.ones(1, disagreements.shape[1]), (disagreements <= limit)[:-1]])"
                ".cumprod(dim=0).bool()",
                says="learns from the step that exceeds the limit, too",
            ),
            "below_only": Edit(
                function="trusted",
                old="disagreements <= limit",
                new="disagreements < limit",
                says="does not trust a step at the limit",
            ),
            "across_branches": Edit(
                function="trusted",
                old="cumprod(dim=0)",
                new="cumprod(dim=1)",
                says="lets one branch end the others, not its own later steps",
            ),
            "adds_up": Edit(
                function="trusted",
                old="(disagreements <= limit).long().cumprod(dim=0).bool()",
                new="disagreements.cumsum(dim=0) <= limit",
                says="holds the sum of disagreements to the limit",
            ),
        },
        answer=r"""
Behind a step about which nothing was known, members may agree as much as they like: the state that they talk
about was made up.
""",
    ),
    "empty": Exercise(
        title="A bound that says nothing",
        task=r"""
Pendulum's reward lies between about $-16$ and 0, and $\gamma = 0.98$. Let the model miss each next state by a
millionth of a radian, never less. What does (4) say of a branch of one step? What does (5), with $L = 1.21$?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
Shift rewards by 16, so that they lie between 0 and 16. Every next state is missed, so $\epsilon_P = 1$, and
(4) allows $0.98 \cdot 16 / 0.02 = 784$: as much as any two values can differ one step later. It says nothing.
(5) allows a millionth of a radian after one step, and after 10 some 27 millionths. Chances do not know what
is near; distances do.
""",
    ),
    "saved": Exercise(
        title="What saved the steps?",
        task="""
`rl break E6 real_only` makes as many gradient steps on what was really met, and none on what was imagined.
Does it need more real steps? Name two cases in which a model would still be worth its price.
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
On Pendulum it does, on most seeds not many: most of what C6's learner lacked was practice, and old
transitions will do for that. A model is worth more where a policy must learn of actions that nobody tried in
a state: replay has nothing to say of them, and a critic makes it up. And where the task changes: a new
reward, or a new discount, needs no new step in the world if the model is at hand.
""",
    ),
}
