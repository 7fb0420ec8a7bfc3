"""Exercises of E12: its functions, what the diagonal loses, and a parabola for each task."""

import numpy as np
from jaxtyping import Float

from chapters.E_practice.E12_continual_learning import fold
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def diagonal_loss(curvatures: Float[np.ndarray, "2 K K"], lowest: Float[np.ndarray, "2 K"]) -> float:
    """By how much the end with the diagonal of the first curvature lies above the joint minimum, by (E1)."""
    A = curvatures[0]
    weights = fold(curvatures, lowest, diagonal=True)
    slope = (A - np.diag(np.diag(A))) @ (weights - lowest[0])
    return float(slope @ np.linalg.solve(curvatures.sum(axis=0), slope) / 2)  # eq. (E1)


def some_parabolas(
    seed: int, num_tasks: int = 2, num_weights: int = 3
) -> tuple[Float[np.ndarray, "T K K"], Float[np.ndarray, "T K"]]:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(num_tasks, num_weights, num_weights))
    return roots @ roots.transpose(0, 2, 1), rng.normal(size=(num_tasks, num_weights))


def sum_of_losses(weights: np.ndarray, curvatures: np.ndarray, lowest: np.ndarray) -> float:
    total = 0.0
    for curvature, low in zip(curvatures, lowest):
        for k in range(len(weights)):
            for m in range(len(weights)):
                total += curvature[k, m] * (weights[k] - low[k]) * (weights[m] - low[m]) / 2
    return total


def check_diagonal_loss(diagonal_loss):
    """By the sum of both losses at both ends; nothing where weights do not interact."""
    for seed, size in ((0, 3), (1, 5), (2, 1)):
        curvatures, lowest = some_parabolas(seed, num_weights=size)
        A, B = curvatures
        D = np.diag(np.diag(A))
        end = np.linalg.inv(D + B) @ (D @ lowest[0] + B @ lowest[1])
        joint = np.linalg.inv(A + B) @ (A @ lowest[0] + B @ lowest[1])
        expected = sum_of_losses(end, curvatures, lowest) - sum_of_losses(joint, curvatures, lowest)
        found = diagonal_loss(curvatures, lowest)
        assert abs(found - expected) < 1e-9 * max(1.0, abs(expected)), (
            f"{size} weights: expected {expected:.5f}, found {found:.5f}"
        )


def own_centres(
    curvatures: Float[np.ndarray, "T K K"], lowest: Float[np.ndarray, "T K"]
) -> Float[np.ndarray, " K"]:
    """Where EWC ends that keeps a parabola for each task, each about where that task ended."""
    ends = [lowest[0]]
    for i in range(1, len(lowest)):
        pull = sum(curvatures[k] @ ends[k] for k in range(i)) + curvatures[i] @ lowest[i]
        ends.append(np.linalg.solve(curvatures[: i + 1].sum(axis=0), pull))
    return ends[-1]


def check_own_centres(own_centres):
    """At each end the slopes of the new loss and of all parabolas add up to 0."""
    for seed, num in ((0, 3), (1, 4), (2, 2), (3, 1)):
        curvatures, lowest = some_parabolas(seed, num)
        ends = []
        for i in range(num):
            hessian, slope = curvatures[i].copy(), curvatures[i] @ lowest[i]
            for k in range(i):
                hessian += curvatures[k]
                slope = slope + curvatures[k] @ ends[k]
            ends.append(np.linalg.inv(hessian) @ slope)
        np.testing.assert_allclose(
            own_centres(curvatures, lowest), ends[-1], rtol=1e-7, atol=1e-8, err_msg=f"{num} tasks"
        )


EXERCISES = {
    "fisher": Exercise(
        title="Three numbers and two penalties",
        task="""
Write the three measures of (1), the Fisher information of (5), and the penalty of (4).
""",
        minutes=35,
        difficulty="medium",
        functions=("average_accuracy", "backward_transfer", "forgetting", "fisher", "ewc_penalty"),
    ),
    "diagonal_loss": Exercise(
        title="What the diagonal loses",
        task=r"""
Two losses are parabolas with curvatures $A$ and $B$, the first lowest at $a$. Let $D$ be the diagonal of $A$,
and $\theta$ where (4) ends with $\Lambda = D$, $\lambda = 1$. The slope of the new loss and
of the penalty add up to 0 there, so the joint loss has the slope $g = (A - D)(\theta - a)$. It is a parabola
with curvature $A + B$, so $\theta$ lies above its minimum by

$$\tfrac12\, g^\top (A + B)^{-1} g \tag{E1}$$

Write it. When is it nothing, and when is it large?
""",
        minutes=15,
        difficulty="medium",
        solution=diagonal_loss,
        check=check_diagonal_loss,
        hints=(
            "Where does EWC with the diagonal end? `fold` says it. Then the slope there, then (E1).",
            "If A is diagonal nothing is lost.",
            "weights = fold(curvatures, lowest, diagonal=True)",
        ),
        edits={
            "whole_curvature": Edit(
                function="diagonal_loss",
                old="(A - np.diag(np.diag(A)))",
                new="A",
                says="takes the slope of the first loss, not what the diagonal leaves out of it",
            ),
            "from_the_second": Edit(
                function="diagonal_loss",
                old="(weights - lowest[0])",
                new="(weights - lowest[1])",
                says="measures how far the weights are from the second task's lowest point",
            ),
            "new_curvature_alone": Edit(
                function="diagonal_loss",
                old="curvatures.sum(axis=0)",
                new="curvatures[1]",
                says="divides by the curvature of the second loss alone",
            ),
            "without_a_half": Edit(
                function="diagonal_loss",
                old=", slope) / 2)",
                new=", slope))",
                says="forgets the half: twice too much",
            ),
        },
        answer=r"""
Nothing where $A$ is diagonal, and nothing if the new task leaves the old weights where they were,
$\theta = a$. Large where the old loss is a narrow valley that lies aslant: seen along the axes its walls look
as steep in all directions, so the way along the valley floor, which costs nothing, is barred.
""",
    ),
    "own_centres": Exercise(
        title="A parabola for each task",
        task=r"""
As first published, EWC keeps one parabola for each old task, about where that task *ended*. With parabolas
for losses and all of their curvatures, write where it ends. With two tasks it is the joint minimum. Is it
with three?
""",
        minutes=20,
        difficulty="hard",
        solution=own_centres,
        check=check_own_centres,
        hints=(
            "Remember all ends. At each, the pulls of all parabolas and of the new loss cancel.",
            "One task: its lowest point. Two: the same as `fold`.",
            "pull = sum(curvatures[k] @ ends[k] for k in range(i)) + curvatures[i] @ lowest[i]",
        ),
        edits={
            "about_the_lowest": Edit(
                function="own_centres",
                old="curvatures[k] @ ends[k]",
                new="curvatures[k] @ lowest[k]",
                says="centres on where each task alone is lowest, not on where it ended after the others",
            ),
            "about_the_newest": Edit(
                function="own_centres",
                old="curvatures[k] @ ends[k]",
                new="curvatures[k] @ ends[-1]",
                says="centres all on the newest weights: the one parabola of `fold`",
            ),
            "last_parabola_alone": Edit(
                function="own_centres",
                old="for k in range(i)) +",
                new="for k in range(i - 1, i)) +",
                says="is pulled by the task before alone",
            ),
        },
        answer=r"""
No. The second task's end already lies where the first one pulls it. A parabola about the first task's end
pulls there once more, so the first task counts twice, and the third less than it should (`huszar2018note`).
""",
    ),
    "sure": Exercise(
        title="Sure of everything",
        task=r"""
You fine-tune a language model on a task until it answers everything right with a chance of 0.9999, compute
the Fisher information, and go on to the next task with EWC. It forgets. A friend says: multiply $\lambda$ by
10,000. What happens, and what would you do?
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
The parabola's *scale* comes back, its *shape* does not: it measures how the KL bends within the small region
where the model is sure, and the weights leave that region. A strength that holds them inside it lets nothing
new be learnt, one that lets them out holds nothing. Stay near in answers instead: ask the old model, or keep
old prompts. If only weights can be kept, the Fisher information of an earlier, less certain network is
larger; whether its shape is the right one is for you to measure.
""",
    ),
}
