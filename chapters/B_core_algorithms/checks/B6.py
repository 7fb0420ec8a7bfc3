"""Definition checks of B6: each function against its equation, written out one number at a time."""

import itertools
import math

import numpy as np
import torch

from chapters.utils.edits import Edit

CONSTANT = ("next_actions", "project", "scaled_noise")  # to the loss: without a gradient


def check_next_actions(next_actions):
    torch.manual_seed(1)
    for batch, num_actions in ((1, 1), (3, 2), (40, 5)):
        online_q, target_q = torch.randn(2, batch, num_actions)
        found = next_actions(online_q, target_q)
        for i in range(batch):
            assert int(found[i]) == max(range(num_actions), key=lambda a: float(online_q[i, a]))


def check_dueling(dueling):
    torch.manual_seed(2)
    for batch, num_actions, num_atoms in ((1, 1, 2), (3, 2, 5), (8, 5, 3)):
        value, advantages = torch.randn(batch, 1, num_atoms), torch.randn(batch, num_actions, num_atoms)
        found = dueling(value, advantages)
        for i, a, k in itertools.product(range(batch), range(num_actions), range(num_atoms)):
            mean = sum(float(advantages[i, b, k]) for b in range(num_actions)) / num_actions
            expected = float(value[i, 0, k]) + float(advantages[i, a, k]) - mean
            assert math.isclose(found[i, a, k], expected, rel_tol=1e-4, abs_tol=1e-5), (
                f"action {a}, atom {k}: expected {expected:.4f}, found {float(found[i, a, k]):.4f}"
            )


def check_n_step(n_step):
    rng = np.random.default_rng(3)
    for n, num_envs, gamma in itertools.product((1, 2, 5), (1, 30), (0.5, 0.9, 1.0)):
        rewards, done = rng.normal(size=(n, num_envs)), rng.random((n, num_envs)) < 0.3
        returns, last = n_step(rewards, done, gamma)
        for i in range(num_envs):
            expected, final = 0.0, n - 1
            for t in range(n):
                expected += gamma**t * rewards[t, i]
                if done[t, i]:
                    final = t
                    break
            assert int(last[i]) == final, f"ends {done[:, i].tolist()}: expected {final}, found {last[i]}"
            assert math.isclose(returns[i], expected, rel_tol=1e-9, abs_tol=1e-9), (
                f"rewards {rewards[:, i].round(2).tolist()}, ends {done[:, i].tolist()}: "
                f"expected {expected:.4f}, found {returns[i]:.4f}"
            )


def check_priority(priority):
    surprise = np.array([0.0, 0.01, 1.0, 4.0])
    assert np.allclose(priority(surprise, 0.5), np.sqrt(surprise), atol=2e-3)
    assert np.allclose(priority(surprise, 1.0), surprise, atol=1e-4)
    assert (priority(surprise, 0.5) > 0).all(), "a priority of 0 is never drawn again"


def check_importance(importance):
    rng = np.random.default_rng(5)
    for size in (1, 4, 20):
        chances = rng.dirichlet(np.ones(size))
        for beta in (0.0, 0.4, 1.0):
            for chance, found in zip(chances, importance(chances, size, beta)):
                assert math.isclose(found, (1 / (size * chance)) ** beta, rel_tol=1e-9)
        gradients = rng.normal(size=size)
        mean = (chances * importance(chances, size, 1.0) * gradients).sum()
        assert math.isclose(mean, gradients.mean(), rel_tol=1e-9), "at beta 1 the mean is the uniform one"


def projected_by_hand(chances, returns, discounts, atoms):
    """Equation (6), a chance at a time."""
    gap, found = atoms[1] - atoms[0], torch.zeros_like(chances)
    for i, j, k in itertools.product(range(len(chances)), range(len(atoms)), range(len(atoms))):
        moved = min(max(float(returns[i] + discounts[i] * atoms[j]), float(atoms[0])), float(atoms[-1]))
        found[i, k] += chances[i, j] * max(0.0, 1 - abs(moved - float(atoms[k])) / float(gap))
    return found


def check_project(project):
    torch.manual_seed(6)
    for batch, num_atoms in ((1, 2), (4, 5), (3, 11)):
        atoms = torch.linspace(-1.0, 2.0, num_atoms)
        chances = torch.randn(batch, num_atoms).softmax(dim=1)
        returns, discounts = 2 * torch.randn(batch), torch.tensor([0.9, 0.0, 1.0, 0.5])[:batch]
        expected = projected_by_hand(chances, returns, discounts, atoms)
        found = project(chances, returns, discounts, atoms)
        assert torch.allclose(found.sum(dim=1), torch.ones(batch), atol=1e-5), "chances must add up to 1"
        assert torch.allclose(found, expected, atol=1e-4), f"expected {expected[0]}, found {found[0]}"


def check_divergence(divergence):
    torch.manual_seed(7)
    for batch, num_atoms in ((1, 2), (5, 4)):
        target, log_chances = torch.randn(2, batch, num_atoms)
        target, log_chances = target.softmax(dim=1), log_chances.log_softmax(dim=1)
        target[0] = torch.eye(num_atoms)[0]  # all on one atom: 0 log 0 is 0
        found = divergence(target, log_chances, torch.linspace(-1, 1, num_atoms))
        for i in range(batch):
            expected = sum(
                float(p) * (math.log(p) - float(log_q))
                for p, log_q in zip(target[i], log_chances[i])
                if p > 0
            )
            assert math.isclose(found[i], expected, rel_tol=1e-4, abs_tol=1e-5)


def check_scaled_noise(scaled_noise):
    torch.manual_seed(8)
    noise = scaled_noise(200_000).double()
    assert noise.shape == (200_000,)
    moments = {1: 0.0, 2: math.sqrt(2 / math.pi), 4: 1.0}  # of f: E|x|, E x^2
    for power, expected in moments.items():
        found = float((noise**power).mean())
        assert abs(found - expected) < 0.02, (
            f"mean of power {power}: expected {expected:.3f}, found {found:.3f}"
        )


EDITS = {
    "plain": Edit(
        function="next_actions",
        old="return online_q.argmax",
        new="return target_q.argmax",
        says="no double: the target network chooses what it judges",
    ),
    "worst_action": Edit(
        function="next_actions",
        old="online_q.argmax",
        new="online_q.argmin",
        says="bootstraps from the worst action",
        fails=("final_regret",),
    ),
    "one_stream": Edit(
        function="dueling",
        old="return value + advantages - advantages.mean(dim=-2, keepdim=True)",
        new="return advantages",
        says="no dueling: every action has outputs of its own",
    ),
    "not_centred": Edit(
        function="dueling",
        old=" - advantages.mean(dim=-2, keepdim=True)",
        new="",
        says="does not take the mean off: a constant can hide in the advantages",
    ),
    "centred_over_atoms": Edit(
        function="dueling",
        old="mean(dim=-2",
        new="mean(dim=-1",
        says="takes the mean over the atoms, not over the actions",
    ),
    "one_step": Edit(
        function="n_step",
        old="going[1:] = ~np.logical_or.accumulate(done[:-1])",
        new="going[1:] = False",
        says="no n-step returns: one reward, then the network's guess",
    ),
    "past_the_end": Edit(
        function="n_step",
        old="    going[1:] = ~np.logical_or.accumulate(done[:-1])\n",
        new="",
        says="sums on into the next episode",
    ),
    "only_the_last_end": Edit(
        function="n_step",
        old="~np.logical_or.accumulate(done[:-1])",
        new="~done[:-1]",
        says="leaves out the step after an end, and then sums on",
    ),
    "end_left_out": Edit(
        function="n_step",
        old="    going[1:] = ~np.logical_or.accumulate(done[:-1])\n",
        new="    going[1:] = ~np.logical_or.accumulate(done[1:])\n",
        says="leaves out the step on which the episode ends",
    ),
    "discounted_once": Edit(
        function="n_step",
        old="gamma ** np.arange(len(rewards))",
        new="gamma * np.ones(len(rewards))",
        says="discounts every reward alike",
    ),
    "uniform": Edit(
        function="priority",
        old="return (surprise + 1e-6) ** exponent",
        new="return np.ones_like(surprise)",
        says="no priorities: everything is drawn equally often",
    ),
    "never_again": Edit(
        function="priority",
        old="(surprise + 1e-6)",
        new="surprise",
        says="what does not surprise is never drawn again",
    ),
    "not_corrected": Edit(
        function="importance",
        old="return (num_stored * chances) ** -beta",
        new="return np.ones_like(chances)",
        says="does not correct for drawing some too often",
    ),
    "corrected_twice": Edit(
        function="importance",
        old="** -beta",
        new="** beta",
        says="weighs what is drawn often even more",
    ),
    "neighbours_swapped": Edit(
        function="project",
        old="share = place - lower",
        new="share = 1 - (place - lower)",
        says="gives the farther atom the larger part",
        fails=("projection_keeps_mean",),
    ),
    "nearest_atom": Edit(
        function="project",
        old="share = place - lower",
        new="share = (place - lower).round()",
        says="rounds to the nearest atom: the mean moves",
        fails=("projection_keeps_mean",),
    ),
    "not_clipped": Edit(
        function="project",
        old=".clamp(atoms[0], atoms[-1])",
        new=".clamp(atoms[1] - 0.5, atoms[-1])",
        says="clips at the wrong end",
    ),
    "mean_only": Edit(
        function="divergence",
        old="return (torch.xlogy(target, target) - target * log_chances).sum(dim=1)",
        new="return 0.5 * ((target - log_chances.exp()) @ atoms).square()",
        says="no distribution: the same network learns the mean alone",
    ),
    "divergence_reversed": Edit(
        function="divergence",
        old="torch.xlogy(target, target) - target * log_chances",
        new="log_chances.exp() * (log_chances - (target + 1e-6).log())",
        says="the other divergence: of the target from the prediction",
    ),
    "not_rooted": Edit(
        function="scaled_noise",
        old="x.abs().sqrt()",
        new="x.abs()",
        says="takes no root: products of two such numbers have heavier tails",
    ),
    "never_negative": Edit(
        function="scaled_noise",
        old="x.sign() * x.abs().sqrt()",
        new="x.abs().sqrt()",
        says="loses the sign: the noise shifts the mean",
    ),
    "quiet": Edit(
        function="exploration",
        old="return 1.0, 0.0",
        new="return 0.0, max(0.02, 1.0 - step / 4000)",
        says="no noise: a falling share of random actions explores",
    ),
    "merged": Edit(
        function="collect",
        old="~rows[4][where]",
        new="~rows[5][where]",
        says="takes a time limit for an end",
    ),
    "next_episode": Edit(
        function="collect",
        old="true_next_obs(next_obs, done, infos), terminated, done",
        new="next_obs, terminated, done",
        says="takes the first observation of the next episode for the successor",
    ),
}
