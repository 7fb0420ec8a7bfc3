"""Exercises of C9: its functions, the best mean of a noisy quote, and a market's numbers from fills."""

import math

import numpy as np

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def best_noisy_mean(depth_decay: float, scale: float, change: float) -> float:
    """The mean m that makes eq. (E1) largest, where a fill changes the later value by `change`."""
    return 1 / depth_decay - change + depth_decay * scale**2


def check_best_noisy_mean(best_noisy_mean):
    """Against the mean over Gaussian noise, by quadrature, on a grid of means."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    for depth_decay, scale, change in ((1.5, 0.3, 0.0), (0.8, 0.5, -0.4), (2.0, 0.1, 0.3), (1.0, 1e-9, 0.2)):
        means = np.linspace(-1.0, 4.0, 5001)
        depths = means[:, None] + scale * nodes
        gain = (np.exp(-depth_decay * depths) * (depths + change)) @ weights
        best = means[gain.argmax()]
        found = best_noisy_mean(depth_decay, scale, change)
        told = f"decay {depth_decay}, scale {scale:.1g}, change {change}: {found:.4f}, not {best:.4f}"
        assert abs(found - best) < 2e-3, told


def fitted_market(depths: np.ndarray, tries: np.ndarray, fills: np.ndarray, dt: float) -> tuple[float, float]:
    """(arrival_rate, depth_decay) from two depths: `tries` steps were quoted at each, `fills` were filled."""
    shares = fills / tries
    depth_decay = np.log(shares[0] / shares[1]) / (depths[1] - depths[0])
    arrival_rate = shares[0] * np.exp(depth_decay * depths[0]) / dt
    return float(arrival_rate), float(depth_decay)


def check_fitted_market(fitted_market):
    """From the exact shares the exact numbers; the order of the two depths does not matter."""
    for rate, decay, dt, first, second in ((20.0, 1.5, 0.02, 0.3, 1.1), (4.0, 0.7, 0.1, 2.0, 0.5)):
        depths, tries = np.array([first, second]), np.array([50_000.0, 80_000.0])
        fills = tries * rate * dt * np.exp(-decay * depths)
        found = fitted_market(depths, tries, fills, dt)
        assert len(found) == 2, "two numbers: the rate and the decay"
        told = f"found rate {found[0]:.4g} and decay {found[1]:.4g}, expected {rate:.4g} and {decay:.4g}"
        assert math.isclose(found[0], rate, rel_tol=1e-6), told
        assert math.isclose(found[1], decay, rel_tol=1e-6), told


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the best depths from the values, the critic and the advantage, from (4), (8) and (9).
""",
        minutes=25,
        difficulty="easy",
        functions=("depths_from_values", "cell_values", "advantages"),
    ),
    "best_noisy_mean": Exercise(
        title="Exploring costs, and moves the answer",
        task=r"""
While the learner tries Gaussian depths with standard deviation $\sigma$, what it raises is the mean gain of
the *noisy* quotes. On one side, with $c$ for what a fill changes in later value:

$$\max_m\; \mathbb{E}_{\delta \sim \mathcal N(m, \sigma^2)} [e^{-\kappa\delta}(\delta + c)] \tag{E1}$$

Which $m$ is best? What does that say of `--scale`?
""",
        minutes=20,
        difficulty="medium",
        solution=best_noisy_mean,
        check=check_best_noisy_mean,
        hints=(
            "Complete the square: under exp(-kappa d) a Gaussian of mean m becomes one of another mean.",
            "Without noise it is (4). With noise low depths are filled far more often: one quotes deeper.",
            "E[exp(-kappa d) (d + c)] = exp(-kappa m + kappa^2 sigma^2 / 2) (m - kappa sigma^2 + c)",
        ),
        edits={
            "no_noise": Edit(
                function="best_noisy_mean",
                old=" + depth_decay * scale**2",
                new="",
                says="the best depth without noise, as if nothing were tried",
            ),
            "shallower": Edit(
                function="best_noisy_mean",
                old="+ depth_decay * scale**2",
                new="- depth_decay * scale**2",
                says="moves to the mid price because of the noise, where it should move away",
            ),
            "scale_not_squared": Edit(
                function="best_noisy_mean",
                old="scale**2",
                new="scale",
                says="moves with the standard deviation, not with the variance",
            ),
            "adds_the_change": Edit(
                function="best_noisy_mean",
                old="- change",
                new="+ change",
                says="asks more for a trade that raises the later value",
            ),
        },
        answer=r"""
$m = 1/\kappa - c + \kappa\sigma^2$. At the last scale, 0.1 cents, that is 0.015 cents deeper than (4), which
costs next to nothing; at the first, 0.3, it would be 0.135. So the scale falls while the policy learns.
""",
    ),
    "fitted_market": Exercise(
        title="Which market is this?",
        task=r"""
The simulator's $\lambda$ and $\kappa$ were wrong, and you have only your own fills, at two depths. By (1),
with $n_i$ fills in $m_i$ steps at depth $\delta_i$:

$$\frac{n_i}{m_i} \approx \lambda\Delta\, e^{-\kappa\delta_i} \qquad (i = 1, 2) \tag{E2}$$

Solve for both. Why can fills at a single depth never tell $\kappa$?
""",
        minutes=15,
        difficulty="easy",
        solution=fitted_market,
        check=check_fitted_market,
        hints=(
            "The logarithm of (E2) is a straight line in the depth.",
            "The quotient of the two shares no longer contains lambda.",
            "shares = fills / tries",
        ),
        edits={
            "counts_not_shares": Edit(
                function="fitted_market",
                old="shares = fills / tries",
                new="shares = fills / tries.sum()",
                says="compares counts of fills, though the two depths were tried differently often",
            ),
            "wrong_sign": Edit(
                function="fitted_market",
                old="(depths[1] - depths[0])",
                new="(depths[0] - depths[1])",
                says="finds that deeper quotes are filled more often",
            ),
            "rate_at_that_depth": Edit(
                function="fitted_market",
                old=" * np.exp(depth_decay * depths[0])",
                new="",
                says="gives the rate of fills at one depth for the rate at which orders come",
            ),
            "rate_of_a_step": Edit(
                function="fitted_market",
                old=" / dt",
                new="",
                says="gives orders a step, not orders an hour",
            ),
        },
        answer="""
One depth gives one equation for two unknowns. Who wants to know how fills fall with depth has to try another
now and then: exploration is not only for those who learn by gradient.
""",
    ),
    "informed": Exercise(
        title="The one who knows more",
        task=r"""
Where inventory is free, quotes at $1/\kappa$ meet traders to whom each fill loses $c$ on average. Show that
they keep $(1 - \kappa c)\, e^{\kappa c}$ of what is possible there. Where do they earn nothing, and what does
the simulator say?
""",
        minutes=15,
        difficulty="medium",
        answer=r"""
A side now brings $e^{-\kappa\delta}(\delta - c)$: $e^{-1}(1/\kappa - c)$ at $1/\kappa$, and $e^{-1 - \kappa
c}/\kappa$ at the best depth, $1/\kappa + c$. At $c = 1/\kappa$ a fill is worth nothing, however many there
are. The simulator has no such traders and promises what it always did (`riskless_toll`,
`informed_break_even`).
""",
    ),
}
