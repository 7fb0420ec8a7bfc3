"""Exercises of C6: its functions, and what goes beyond them."""

import numpy as np

from chapters.exact import lqr
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def soft_optimum(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, gamma: float, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """(gain K, covariance) of the best policy N(-K x, covariance) of a linear system, eqs. (6) and (E1)."""
    P = np.zeros_like(Q)
    for _ in range(500):
        M = R + gamma * B.T @ P @ B
        K = gamma * np.linalg.solve(M, B.T @ P @ A)
        after = A - B @ K
        P = Q + K.T @ R @ K + gamma * after.T @ P @ after
    return K, 0.5 * alpha * np.linalg.inv(M)


def check_soft_optimum(soft_optimum):
    rng = np.random.default_rng(6)
    systems = [lqr.double_integrator(), lqr.mass_on_a_line()]
    for size, num_actions in ((1, 1), (3, 2)):
        A, B = rng.normal(size=(size, size)), rng.normal(size=(size, num_actions))
        systems.append(lqr.LQR(A, B, np.eye(size), 0.5 * np.eye(num_actions), 0.9))
    for system in systems:
        P = lqr.riccati(system)
        for alpha in (0.1, 2.0):
            K, covariance = soft_optimum(*system, alpha)
            expected = lqr.best_gain(system, P), lqr.soft_covariance(system, P, alpha)
            for name, found, right in zip(("gain", "covariance"), (K, covariance), expected):
                assert np.shape(found) == right.shape, f"{name}: expected shape {right.shape}"
                assert np.allclose(found, right, rtol=1e-5, atol=1e-7), (
                    f"gamma {system.gamma}, alpha {alpha}: expected {name} {right.round(4).tolist()}, "
                    f"found {np.round(found, 4).tolist()}"
                )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write what keeps an actor from being flattered, (4) and (5), and what a squashed sample costs, (7).
""",
        minutes=35,
        difficulty="medium",
        functions=("soft_value", "blurred", "squashed_log_prob"),
    ),
    "soft_optimum": Exercise(
        title="The answer beforehand",
        task=r"""
On a linear system $x' = A x + B u$ with reward $-(x^\top Q x + u^\top R u)$ find the policy (6) without
learning. If the future is worth $-x^\top P x$, the best action is $-Kx$, and

$$K = \gamma M^{-1} B^\top P A, \qquad
P \leftarrow Q + K^\top R K + \gamma (A - BK)^\top P (A - BK) \tag{E1}$$

with $M$ as in (6). Begin with $P = 0$. What happens to $K$ if entropy
is paid twice as much?
""",
        minutes=30,
        difficulty="medium",
        solution=soft_optimum,
        check=check_soft_optimum,
        hints=(
            "It is value iteration; a value function is the matrix P.",
            "With gamma = 0 nothing follows: K is 0, and the covariance alpha/2 times R's inverse.",
            "M = R + gamma * B.T @ P @ B",
        ),
        edits={
            "no_half": Edit(
                function="soft_optimum",
                old="0.5 * alpha *",
                new="alpha *",
                says="forgets the half: a normal density is exp(-u^2 / (2 variance))",
            ),
            "narrow_where_steep": Edit(
                function="soft_optimum",
                old="alpha * np.linalg.inv(M)",
                new="alpha * M",
                says="takes M for its inverse: wide where a wrong action is dear",
            ),
            "no_future_in_the_width": Edit(
                function="soft_optimum",
                old="np.linalg.inv(M)",
                new="np.linalg.inv(R)",
                says="leaves the future out of the width: as if an action cost only itself",
            ),
            "undiscounted": Edit(
                function="soft_optimum",
                old="K = gamma * np.linalg.solve",
                new="K = np.linalg.solve",
                says="leaves the discount out of the gain",
            ),
        },
        answer=r"""
Nothing: $K$ does not know $\alpha$. On a linear system only the width asks what chance is worth.
""",
    ),
    "pessimism": Exercise(
        title="Two wrong critics",
        task=r"""
Two critics are right on average, each with an independent normal error of standard deviation $\sigma$. How
far below the truth is the smaller of them, on average? And what if both err alike?
""",
        minutes=15,
        difficulty="medium",
        answer=r"""
By $\sigma / \sqrt\pi \approx 0.56\,\sigma$: the difference of the two is normal with standard deviation
$\sqrt2\,\sigma$; the smaller lies below their mean by half its absolute value; and that of a normal number is
$\sqrt{2/\pi}$ standard deviations on average. If both err alike, not at all: then the minimum is no
protection either. So twins that see the same minibatches are less cautious than two strangers.
""",
    ),
    "clipped": Exercise(
        title="Why not simply cut?",
        task="""
`rl break C6 cut_off` cuts actions at the limits instead of squashing them, as C3 does. What is lost here?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
PPO only asks how likely the uncut sample was. Here the slope of $Q$ must reach the actor *through* the
action, and beyond a limit a cut has slope 0: an actor that is out there never learns to come back. Also the
cut action has no density: with some chance it is exactly the limit.
""",
    ),
}
