"""Exercises of C8: its functions, and what goes beyond them."""

import numpy as np
from scipy.integrate import quad

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def seconds_with_failures(length: float, rate: float) -> float:
    """Expected seconds until a task of `length` seconds is done, nodes dying at `rate` a second, eq. (E1)."""
    return float(np.expm1(rate * length) / rate) if rate else length


def check_seconds_with_failures(seconds_with_failures):
    """Against the equation that the expectation solves, its integral taken numerically."""
    for length in (0.5, 3.0, 10.0):
        assert abs(seconds_with_failures(length, 0.0) - length) < 1e-12, f"nothing fails, {length} s"
        for rate in (0.01, 0.2, 1.0):
            survives = np.exp(-rate * length)
            lost = quad(lambda t, rate=rate: t * rate * np.exp(-rate * t), 0.0, length)[0]
            expected = (lost + survives * length) / survives  # E = lost + (1 - survives) E + survives length
            found = seconds_with_failures(length, rate)
            said = f"a task of {length} s, {rate} failures a second"
            np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=said)


def slowest(mean: float, num_workers: int) -> float:
    """Expected seconds until the last of `num_workers` is done, each after an exponential time, eq. (E2)."""
    return float(mean * sum(1.0 / k for k in range(1, num_workers + 1)))


def check_slowest(slowest):
    """Against the integral of the chance that somebody is still at work."""
    for num_workers in (1, 2, 3, 10, 40):
        for mean in (0.5, 2.0):
            at_work = lambda t, w=num_workers, mean=mean: 1.0 - (1.0 - np.exp(-t / mean)) ** w  # noqa: E731
            expected = quad(at_work, 0.0, 60.0 * mean, limit=200)[0]
            said = f"{num_workers} workers, {mean} s on average"
            np.testing.assert_allclose(slowest(mean, num_workers), expected, rtol=1e-6, err_msg=said)


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the noise that has an address, the weights (2), and the simulated sweep of section 4.
""",
        minutes=35,
        difficulty="medium",
        functions=("noises", "centred_ranks", "makespan"),
    ),
    "seconds_with_failures": Exercise(
        title="How long may a task be?",
        task=r"""
A node dies after an exponential time, $\lambda$ times a second on average, and a task that was under way on
it starts anew, at once and elsewhere. A task of $c$ seconds then takes on average

$$\mathbb E = \int_0^c (t + \mathbb E)\, \lambda e^{-\lambda t}\, dt + c\, e^{-\lambda c} \tag{E1}$$

seconds: either its node dies after $t$ of them and all begins again, or it lives. Solve for $\mathbb E$, and
mind $\lambda = 0$. *By hand*, $\lambda = \ln 2$ and $c = 1$: half of all tries succeed, and it takes
$1 / \ln 2 = 1.44$ s.
""",
        minutes=25,
        difficulty="medium",
        solution=seconds_with_failures,
        check=check_seconds_with_failures,
        hints=(
            "A try succeeds if its node outlives it; each failed one costs the time until then.",
            "If nothing fails it takes c; if a node dies once in c seconds on average, e - 1 = 1.72 times c.",
            "if rate == 0: return length  # else the integral of t times the density, and solve for E",
        ),
        edits={
            "whole_tries": Edit(
                function="seconds_with_failures",
                old="float(np.expm1(rate * length) / rate) if rate else length",
                new="float(length * np.exp(rate * length))",
                says="counts every failed try as a whole one, though its node died on the way",
            ),
            "fails_once": Edit(
                function="seconds_with_failures",
                old="float(np.expm1(rate * length) / rate) if rate else length",
                new="float(length + rate * length**2 / 2)",
                says="lets the second try succeed for sure, and the first fail half-way",
            ),
            "never_fails": Edit(
                function="seconds_with_failures",
                old="float(np.expm1(rate * length) / rate) if rate else length",
                new="float(length)",
                says="forgets the failures",
            ),
        },
        answer="""
It grows exponentially with the length: ten tasks of a minute lose little where one of ten minutes may never
end. Hence sweeps of many short runs, and checkpoints in long ones.
""",
    ),
    "slowest": Exercise(
        title="Everybody waits for the slowest",
        task=r"""
A step of one learner ends when its *last* worker has answered. Let each take an exponential time with mean
$\mu$. With $k$ of them still at it, the next answer comes after $\mu / k$ on average. So all have answered
after

$$\mathbb E \max_{i \le W} X_i = \mu \sum_{k=1}^{W} \frac1k \tag{E2}$$

Write it. *By hand*: three workers of 6 s on average, $6 + 3 + 2 = 11$ s. What becomes of
(4)'s $e / W$?
""",
        minutes=15,
        difficulty="easy",
        solution=slowest,
        check=check_slowest,
        hints=(
            "The first answer is the quickest of W, the next the quickest of those that are left, and so on.",
            "One worker takes the mean, two take one and a half times as long.",
            "return float(mean * sum(...))  # over k = 1 ... num_workers",
        ),
        edits={
            "mean_of_all": Edit(
                function="slowest",
                old="float(mean * sum(1.0 / k for k in range(1, num_workers + 1)))",
                new="float(mean)",
                says="takes the mean for the maximum",
            ),
            "one_short": Edit(
                function="slowest",
                old="range(1, num_workers + 1)",
                new="range(1, num_workers)",
                says="leaves the last term out",
            ),
            "one_after_another": Edit(
                function="slowest",
                old="float(mean * sum(1.0 / k for k in range(1, num_workers + 1)))",
                new="float(mean * num_workers)",
                says="lets the workers go one after another",
            ),
        },
        answer="""
A share takes $e / W$ on average and the step about $(e / W) \\ln W$: the best number of workers is smaller.
""",
    ),
    "twice": Exercise(
        title="Which of these may be done twice?",
        task="""
A task (a) writes its result to `results/seed7.json`; (b) adds a line to `results.csv`; (c) draws from
`np.random.default_rng()`; (d) renames its finished folder to its name. Which survive `max_retries`?
""",
        minutes=10,
        difficulty="easy",
        answer="""
(a) does, if nobody reads the file half-written: the second run writes the same one. (b) leaves two lines.
(c) gives another result, so what the sweep says depends on what died. (d) does, and nobody ever sees half a
folder: that is how `rl sweep` keeps its runs.
""",
    ),
}
