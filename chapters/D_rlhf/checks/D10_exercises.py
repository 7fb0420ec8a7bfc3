"""D10's exercises: its tasks, and the solutions and checks of those that go beyond the lesson."""

import math

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def share_kept(ahead: float, num_others: int) -> float:
    """The share of attention that one memory keeps among others, eq. (E1); its score is `ahead` of theirs."""
    return 1.0 / (1.0 + num_others * math.exp(-ahead))


def check_share_kept(share_kept):
    for ahead, num_others in ((0.0, 1), (0.0, 9), (2.0, 3), (5.0, 1000), (-1.0, 2), (3.0, 0)):
        scores = [ahead] + [0.0] * num_others
        expected = math.exp(scores[0]) / sum(math.exp(score) for score in scores)
        found = float(share_kept(ahead, num_others))
        assert abs(found - expected) < 1e-9, (
            f"{ahead} ahead of {num_others}: expected {expected}, found {found}"
        )


def imitated(accuracy: float) -> float:
    """How often an imitator is right that has learnt the belief itself, and draws its action from it."""
    return accuracy**2 + (1.0 - accuracy) ** 2


def check_imitated(imitated):
    for accuracy in (0.5, 0.7, 0.9, 1.0):
        chances = {True: accuracy, False: 1.0 - accuracy}
        # a sign is true or not, and the imitator follows it or not; it is right if both or neither
        expected = sum(
            chances[true] * chances[follows] for true in chances for follows in chances if true == follows
        )
        found = float(imitated(accuracy))
        assert abs(found - expected) < 1e-9, f"signs true with {accuracy}: expected {expected}, found {found}"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the attention of (1) and the retrieval of (6).
""",
        minutes=20,
        difficulty="medium",
        functions=("attend", "retrieve"),
    ),
    "reward": Exercise(
        title="Two stages",
        task="""
Write both losses, (3) and (5), and the advantages of (4).
""",
        minutes=25,
        difficulty="medium",
        functions=("imitation_loss", "advantages", "policy_loss"),
    ),
    "share_kept": Exercise(
        title="How a list thins out",
        task=r"""
A memory's score is $\Delta$ above that of $n$ others, which are all alike. Attention leaves it

$$\frac{1}{1 + n e^{-\Delta}} \tag{E1}$$

Write it. By how much must $\Delta$ grow to keep the share among $10 n$ others?
""",
        minutes=10,
        difficulty="easy",
        solution=share_kept,
        check=check_share_kept,
        hints=(
            "Divide above and below by the exponential of its own score.",
            "With no others it keeps everything; with n others that score alike, 1 / (n + 1).",
            "return 1.0 / ...",
        ),
        edits={
            "sign_of_the_lead": Edit(
                function="share_kept",
                old="math.exp(-ahead)",
                new="math.exp(ahead)",
                says="the lead's sign turned: who is ahead keeps less",
            ),
            "counts_itself": Edit(
                function="share_kept",
                old="1.0 + num_others *",
                new="1.0 + (num_others + 1) *",
                says="counts the memory among the others, too",
            ),
            "lead_unexponentiated": Edit(
                function="share_kept",
                old="num_others * math.exp(-ahead)",
                new="num_others / (1.0 + abs(ahead))",
                says="lets the lead act as a factor, not as an exponent",
            ),
        },
        answer=r"""
By $\log 10 = 2.3$, whatever the share: $n e^{-\Delta}$ must stay as it is. A softmax needs a lead that grows
with the logarithm of the list's length; weights have only learnt the lead that lists in training asked for.
""",
    ),
    "imitated": Exercise(
        title="A teacher who knows more",
        task=r"""
The teacher of the mazes knows the door; the pupil knows a sign that is true with probability $\rho$. How
often is a pupil right who imitates perfectly? Write it. Why does learning from rewards end higher?
""",
        minutes=10,
        difficulty="easy",
        solution=imitated,
        check=check_imitated,
        hints=(
            "The pupil goes where the sign points with the frequency with which the teacher did.",
            "With signs that are always true it is always right; with a coin for a sign, half the time.",
            "return accuracy**2 + ...",
        ),
        edits={
            "always_follows": Edit(
                function="imitated",
                old="accuracy**2 + (1.0 - accuracy) ** 2",
                new="accuracy",
                says="lets the imitator follow the sign each time: that is the optimum",
            ),
            "lies_forgotten": Edit(
                function="imitated",
                old=" + (1.0 - accuracy) ** 2",
                new="",
                says="forgets that going against a sign that lies is right",
            ),
        },
        answer=r"""
Imitation matches frequencies: the pupil goes against the sign in $1 - \rho$ of all cases, as the teacher did,
but not in the same cases. The mean reward is highest if it never does. The same gap opens whenever a
demonstrator acts on what the imitator cannot see.
""",
    ),
}
