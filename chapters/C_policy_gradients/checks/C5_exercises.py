"""Exercises of C5: its heart, a guarantee in the mean, continuous actions, and a step without weights."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from chapters.exact.mdp import advantages_of, visits
from chapters.exact.trust_regions import random_pair
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def cautious_gain(
    advantages: Float[np.ndarray, "S A"], old: Float[np.ndarray, "S A"], new: Float[np.ndarray, "S A"],
    visited: Float[np.ndarray, " S"], gamma: float,
) -> float:  # fmt: skip
    """The least that going from `old` to `new` adds, by eq. (E1); `visited` is where `old` is."""
    expected = (new * advantages).sum(axis=1)  # [S]
    distance = 0.5 * np.abs(new - old).sum(axis=1)  # [S]
    price = 2 * gamma * np.abs(expected).max() / (1 - gamma)
    return float(visited @ (expected - price * distance)) / (1 - gamma)


def check_cautious_gain(cautious_gain):
    rng = np.random.default_rng(31)
    for num_states, num_actions in ((1, 2), (3, 2), (5, 3)):
        for _ in range(4):
            mdp, old, new, start = random_pair(rng, num_states, num_actions)
            advantages, visited = advantages_of(mdp, old), visits(mdp, old, start)
            worst, total = 0.0, 0.0
            for s in range(num_states):
                mean = sum(new[s, a] * advantages[s, a] for a in range(num_actions))
                worst = max(worst, abs(mean))
            for s in range(num_states):
                mean = sum(new[s, a] * advantages[s, a] for a in range(num_actions))
                half = sum(abs(new[s, a] - old[s, a]) for a in range(num_actions)) / 2
                total += visited[s] * (mean - 2 * mdp.gamma / (1 - mdp.gamma) * worst * half)
            found = cautious_gain(advantages, old, new, visited, mdp.gamma)
            np.testing.assert_allclose(found, total / (1 - mdp.gamma), rtol=1e-6, atol=1e-9)


def gaussian_kl(
    old_mean: Float[Tensor, "B A"], old_log_std: Float[Tensor, " A"],
    new_mean: Float[Tensor, "B A"], new_log_std: Float[Tensor, " A"],
) -> Float[Tensor, ""]:  # fmt: skip
    """Mean over the states of the KL from the old Gaussian policy to the new one, by eq. (E2)."""
    ratio = (2 * (old_log_std - new_log_std)).exp()  # of the variances
    shift = ((new_mean - old_mean) / new_log_std.exp()).square()
    return 0.5 * (ratio + shift - 1 - ratio.log()).sum(dim=1).mean()


def check_gaussian_kl(gaussian_kl):
    torch.manual_seed(32)
    for size, num_actions in ((1, 1), (4, 2), (7, 3)):
        old_mean, new_mean = torch.randn(2, size, num_actions, dtype=torch.float64)
        old_log_std, new_log_std = 0.5 * torch.randn(2, num_actions, dtype=torch.float64)
        for part in (new_mean, new_log_std):
            part.requires_grad_()
        old = torch.distributions.Normal(old_mean, old_log_std.exp())
        new = torch.distributions.Normal(new_mean, new_log_std.exp())
        expected = torch.distributions.kl_divergence(old, new).sum(dim=1).mean()
        found = gaussian_kl(old_mean, old_log_std, new_mean, new_log_std)
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-6, atol=1e-9)


EXERCISES = {
    "heart": Exercise(
        title="A matrix that is never there",
        task="""
Write conjugate gradients, the step (4) with them, and the line search, from (7).
""",
        minutes=40,
        difficulty="medium",
        functions=("conjugate_gradients", "trust_region_step", "line_search"),
    ),
    "cautious_gain": Exercise(
        title="A guarantee in the mean",
        task=r"""
TRPO bounds a mean over visited states, but (2) takes the worst state's KL. The bound (E1) takes a mean of
distances (`achiam2017cpo`); its maximum is over states. With the new policy's mean advantage, $\bar A(s) =
\sum_a \pi'(a \mid s) A^\pi(s, a)$, and the total variation, half the sum of absolute differences,
$\mathrm{TV}(s) = ½ \sum_a |\pi'(a \mid s) - \pi(a \mid s)|$,

$$J(\pi') - J(\pi) \;\ge\; \frac{1}{1 - \gamma} \sum_s d^\pi(s) \Bigl[\bar A(s) - \frac{2 \gamma
\max|\bar A|}{1 - \gamma}\, \mathrm{TV}(s)\Bigr] \tag{E1}$$

Write its right side.
""",
        minutes=20,
        difficulty="medium",
        solution=cautious_gain,
        check=check_cautious_gain,
        hints=(
            "Two numbers for each state, the mean advantage of the new actions and TV; the largest of the "
            "first then sets the price for all.",
            "If the two policies are equal, both numbers are 0 everywhere, and so is the gain.",
            "expected = (new * advantages).sum(axis=1)",
        ),
        edits={
            "largest_advantage": Edit(
                function="cautious_gain",
                old="np.abs(expected).max()",
                new="np.abs(advantages).max()",
                says="charges by the largest advantage of all, as (2) does: true, and dearer than need be",
            ),
            "not_halved": Edit(
                function="cautious_gain",
                old="0.5 * np.abs(new - old)",
                new="np.abs(new - old)",
                says="counts each difference twice: what one action loses, another gets",
            ),
            "worst_state": Edit(
                function="cautious_gain",
                old="price * distance)",
                new="price * distance.max())",
                says="charges every state for the worst one, where the mean is enough",
            ),
            "old_actions": Edit(
                function="cautious_gain",
                old="expected = (new * advantages)",
                new="expected = (old * advantages)",
                says="takes the old policy's actions, whose mean advantage is 0",
            ),
        },
        answer=r"""
Pinsker's inequality, $\mathrm{TV} \le \sqrt{\mathrm{KL}/2}$, and Jensen's then give a bound in the mean KL,
which TRPO limits: if the surrogate rises within $\delta$, nothing worse can happen than a loss of $\sqrt{2
\delta}\, \gamma \max|\bar A| / (1 - \gamma)^2$. At $\gamma = 0.99$ and $\delta = 0.01$ that is still 1,400
times $\max|\bar A|$: true, but no help in choosing a step.
""",
    ),
    "gaussian_kl": Exercise(
        title="Continuous actions",
        task=r"""
Beyond what C3 asks of a policy, TRPO needs its KL. For Gaussians with means $\mu$ and widths $\sigma$, over
the numbers $i$ of an action, it is

$$\mathrm{KL} = ½ \sum_i \Bigl[\frac{\sigma_i^2}{\sigma_i'^2} + \frac{(\mu_i' - \mu_i)^2}{\sigma_i'^2} - 1 -
\log \frac{\sigma_i^2}{\sigma_i'^2}\Bigr] \tag{E2}$$

Write its mean over a batch, as `mean_kl` is for discrete actions. The primed ones are the new
policy's.
""",
        minutes=15,
        difficulty="easy",
        solution=gaussian_kl,
        check=check_gaussian_kl,
        hints=(
            "Everything but the shift of the means depends on the ratio of the variances alone.",
            "Equal policies: the ratio is 1, shift and KL are 0. Twice the shift adds four times that.",
            "ratio = (2 * (old_log_std - new_log_std)).exp()",
        ),
        edits={
            "old_width": Edit(
                function="gaussian_kl",
                old="/ new_log_std.exp()",
                new="/ old_log_std.exp()",
                says="measures the shift by the old width: that is the other divergence's",
            ),
            "widths_not_squared": Edit(
                function="gaussian_kl",
                old="(2 * (old_log_std - new_log_std)).exp()",
                new="(old_log_std - new_log_std).exp()",
                says="the ratio of the widths where that of the variances belongs",
            ),
            "mean_over_numbers": Edit(
                function="gaussian_kl",
                old=".sum(dim=1).mean()",
                new=".mean()",
                says="averages over the numbers of an action instead of adding them up",
            ),
            "ratio_inverted": Edit(
                function="gaussian_kl",
                old="(old_log_std - new_log_std)",
                new="(new_log_std - old_log_std)",
                says="the new variance over the old one",
            ),
        },
    ),
    "without_weights": Exercise(
        title="A step without weights",
        task=r"""
In one state, which distribution $\pi'$ maximises $\sum_a \pi'(a) A(a) - \frac1\eta \mathrm{KL}(\pi' \Vert
\pi)$? Compare it with a step of length $\eta (1 - \gamma)$ along (5). Where in the course does it come back?
""",
        minutes=15,
        difficulty="medium",
        answer=r"""
The best is proportional to $\pi(a)\, e^{\eta A(a)}$: the objective is a constant less $\frac1\eta$ times the
KL from $\pi'$ to that distribution. (This KL has its arguments the other way round than (3)'s; for small
steps the two agree.) The step along (5) adds $\eta A(a)$ to each logit, which gives the same distribution: a
step along the natural gradient *is* the best step under a KL penalty. With a reward model in place of $A$ and
a reference in place of $\pi$ it is the optimum of D2 and D4, $\pi_\text{ref}\, e^{r / \beta} / Z$.
""",
    ),
}
