"""C9's functions against their definitions, and its named edits."""

import math

import numpy as np
import torch

from chapters.exact.market import Market, hjb_values
from chapters.utils.edits import Edit

MARKETS = (
    Market(),
    Market(arrival_rate=7.0, depth_decay=0.8, running_penalty=0.5, final_penalty=0.3, max_inventory=3),
    Market(max_inventory=1, num_steps=4, duration=0.5, final_penalty=0.0),
)


def check_closed_form_values(closed_form_values):
    """Against the equation itself, integrated; and by hand where no penalty is charged."""
    for market in MARKETS:
        found = closed_form_values(market)
        assert found.shape == (market.num_steps + 1, 2 * market.max_inventory + 1)
        np.testing.assert_allclose(found, hjb_values(market), atol=1e-7)
    # three inventories, no penalty: omega = exp(M t) 1 with M = rate (0 1 0; 1 0 1; 0 1 0), whose square is
    # rate^2 (1 0 1; 0 2 0; 1 0 1)
    market = Market(running_penalty=0.0, final_penalty=0.0, max_inventory=1)
    at = math.sqrt(2) * market.arrival_rate / math.e * market.duration
    middle = math.cosh(at) + math.sqrt(2) * math.sinh(at)
    outer = 1 + (math.cosh(at) - 1) + math.sinh(at) / math.sqrt(2)
    expected = np.log([outer, middle, outer]) / market.depth_decay
    np.testing.assert_allclose(closed_form_values(market)[0], expected, atol=1e-9)


def check_depths_from_values(depths_from_values):
    """Each depth is where depth -> exp(-decay depth) (depth + change of value) is largest."""
    rng = np.random.default_rng(1)
    grid = np.linspace(-4.0, 8.0, 24_001)
    for decay in (0.6, 1.5):
        values = rng.normal(scale=0.5, size=(4, 5))
        found = depths_from_values(values.copy(), decay)
        assert found.shape == (3, 5, 2), f"a depth for each step, inventory and side, not {found.shape}"
        for t in range(3):
            for s in range(5):
                for side, next_s in enumerate((s - 1, s + 1)):
                    change = values[t, next_s] - values[t, s] if 0 <= next_s < 5 else 0.0
                    best = grid[np.argmax(np.exp(-decay * grid) * (grid + change))]
                    name = f"{('ask', 'bid')[side]} of step {t} with inventory number {s}"
                    assert abs(found[t, s, side] - best) < 1e-3, (
                        f"{name}: {found[t, s, side]:.4f}, not {best:.4f}"
                    )


def random_sessions(rng, num_steps=6, num_sessions=40, limit=2):
    """Inventories that move by one share or none, and rewards."""
    held = np.zeros((num_steps + 1, num_sessions), dtype=int)
    for t in range(num_steps):
        held[t + 1] = np.clip(held[t] + rng.integers(-1, 2, size=num_sessions), -limit, limit)
    return held, rng.normal(size=(num_steps, num_sessions))


def check_cell_values(cell_values):
    """Session by session; cells where nobody was, and the end, are worth 0."""
    rng = np.random.default_rng(2)
    for limit in (1, 2, 4):
        held, rewards = random_sessions(rng, limit=min(limit, 2))
        found = cell_values(held.copy(), rewards.copy(), limit)
        values = np.zeros((len(held), 2 * limit + 1))
        for t in range(len(rewards) - 1, -1, -1):
            for q in range(-limit, limit + 1):
                there = [i for i in range(held.shape[1]) if held[t, i] == q]
                if there:
                    followed = [rewards[t, i] + values[t + 1, held[t + 1, i] + limit] for i in there]
                    values[t, q + limit] = sum(followed) / len(there)
        np.testing.assert_allclose(found, values, atol=1e-10)


def check_advantages(advantages):
    rng = np.random.default_rng(3)
    for limit in (2, 3):
        held, rewards = random_sessions(rng)
        values = rng.normal(size=(len(held), 2 * limit + 1))
        found = advantages(held.copy(), rewards.copy(), values.copy())
        assert found.shape == rewards.shape
        for t in range(rewards.shape[0]):
            for i in range(rewards.shape[1]):
                after, before = values[t + 1, held[t + 1, i] + limit], values[t, held[t, i] + limit]
                expected = rewards[t, i] + after - before
                assert math.isclose(found[t, i], expected, abs_tol=1e-9), (
                    f"step {t}, session {i}: expected {expected:.4f}, found {found[t, i]:.4f}"
                )


def check_policy_loss(policy_loss):
    """Its gradient in the means is minus weight times (depth - mean) / scale^2, over the sessions."""
    rng = np.random.default_rng(4)
    for num_steps, num_sessions, scale in ((3, 5, 0.5), (1, 2, 1.5)):
        shape = (num_steps, num_sessions, 2)
        means = torch.tensor(rng.normal(size=shape), requires_grad=True)
        depths = torch.tensor(rng.normal(size=shape))
        weights = torch.tensor(rng.normal(size=shape[:2]), requires_grad=True)
        loss = policy_loss(means, depths, weights, scale, num_sessions)
        assert loss.shape == ()
        loss.backward()
        miss = (depths - means).detach().numpy()
        expected = -weights.detach().numpy()[..., None] * miss / scale**2 / num_sessions
        np.testing.assert_allclose(means.grad.numpy(), expected, atol=1e-9)
        flows = weights.grad is not None and weights.grad.abs().max() > 0
        assert not flows, "a gradient flows into the weights: they are measured numbers"


def check_paired_share(paired_share):
    """By hand, and against the spread of the share over many repetitions."""
    share, half = paired_share(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert math.isclose(share, 1.0)
    assert math.isclose(half, 1.96 * math.sqrt(2.0) / math.sqrt(2.0) / 2.0, rel_tol=1e-9)
    rng = np.random.default_rng(5)
    luck = rng.normal(size=(4000, 100))
    best, ours = 3.0 + luck, 2.4 + 0.8 * luck + 0.3 * rng.normal(size=luck.shape)
    shares = ours.mean(axis=1) / best.mean(axis=1)
    found = [paired_share(x, y) for x, y in zip(ours[:400], best[:400])]
    np.testing.assert_allclose([one[0] for one in found], shares[:400], rtol=1e-9)
    width = np.mean([one[1] for one in found])
    assert abs(width / (1.96 * shares.std()) - 1) < 0.05, (
        f"half a width of {width:.4f}, not {1.96 * shares.std():.4f}"
    )


CONSTANT = ("cell_values", "advantages", "paired_share", "closed_form_values", "depths_from_values")
LEARNING = ("gap_closed", "learned_share")
EDITS = {
    "penalty_in_cents": Edit(
        function="closed_form_values",
        old="np.diag(market.depth_decay * market.running_penalty * q**2)",
        new="np.diag(market.running_penalty * q**2)",
        says="charges the running penalty in cents, where the exponent counts in units of 1/kappa",
    ),
    "rate_at_the_mid": Edit(
        function="closed_form_values",
        old="market.arrival_rate / np.e * neighbours",
        new="market.arrival_rate * neighbours",
        says="lets orders come as often as they do at the mid price, not at the best depth",
        fails=("closed_form_loss",),
    ),
    "free_at_the_end": Edit(
        function="closed_form_values",
        old="np.exp(-market.depth_decay * market.final_penalty * q**2)",
        new="np.exp(0.0 * q)",
        says="forgets what is charged for the shares that are left at the end",
        fails=("closed_form_loss",),
    ),
    "time_runs_back": Edit(
        function="closed_form_values",
        old="np.log(omegas[::-1])",
        new="np.log(omegas)",
        says="gives the values in the order in which they are found: the end first",
        fails=("closed_form_loss",),
    ),
    "wrong_way": Edit(
        function="depths_from_values",
        old="depths[:, 1:, ASK] += one_more  # eq. (4)\n    depths[:, :-1, BID] -= one_more",
        new="depths[:, 1:, ASK] -= one_more\n    depths[:, :-1, BID] += one_more",
        says="skews the wrong way: who holds too much asks more and bids higher",
        fails=("closed_form_loss",),
    ),
    "one_side_only": Edit(
        function="depths_from_values",
        old="    depths[:, :-1, BID] -= one_more\n",
        new="",
        says="moves the ask with the inventory and leaves the bid where it is",
        fails=("closed_form_loss",),
    ),
    "whole_spread": Edit(
        function="depths_from_values",
        old="1.0 / depth_decay)",
        new="2.0 / depth_decay)",
        says="takes 2 / kappa, the distance of the two quotes from each other, for the depth of each",
        fails=("closed_form_loss",),
    ),
    "values_after_the_step": Edit(
        function="depths_from_values",
        old="np.diff(values[:-1], axis=1)",
        new="np.diff(values[1:], axis=1)",
        says="takes the values one step later",
    ),
    "nothing_follows": Edit(
        function="cell_values",
        old="rewards[t] + values[t + 1, rows[t + 1]]",
        new="rewards[t]",
        says="averages the reward alone: what the inventory costs later is no part of the value",
        fails=LEARNING,
    ),
    "stays_in_its_cell": Edit(
        function="cell_values",
        old="values[t + 1, rows[t + 1]]",
        new="values[t + 1, rows[t]]",
        says="goes on from the cell that the step came from, not from the one that it led to",
        fails=LEARNING,
    ),
    "sum_of_the_cell": Edit(
        function="cell_values",
        old=" / np.maximum(counts, 1)",
        new="",
        says="sums over the sessions of a cell where their mean was asked for",
        fails=LEARNING,
    ),
    "counts_everybody": Edit(
        function="cell_values",
        old="np.maximum(counts, 1)",
        new="len(followed)",
        says="divides by all sessions, not by those of the cell",
        fails=LEARNING,
    ),
    "blind_critic": Edit(
        function="advantages",
        old="np.take_along_axis(values, rows, axis=1)",
        new="np.take_along_axis(values, rows, axis=1).mean(axis=1, keepdims=True) + 0.0 * rows",
        says="a critic that knows the time only: in its eyes an inventory costs nothing later",
        fails=LEARNING,
    ),
    "to_the_end": Edit(
        function="advantages",
        old="rewards + of_cell[1:]",
        new="rewards[::-1].cumsum(axis=0)[::-1].copy()",
        says="waits for all rewards to the end of the session, and takes in all their noise",
    ),
    "no_baseline": Edit(
        function="advantages",
        old=" - of_cell[:-1]",
        new="",
        says="does not subtract what is usual in the cell",
        fails=("gap_closed",),
    ),
    "changed_signs": Edit(
        function="advantages",
        old="rewards + of_cell[1:] - of_cell[:-1]",
        new="rewards - of_cell[1:] + of_cell[:-1]",
        says="subtracts what follows and adds what is usual",
        fails=LEARNING,
    ),
    "downhill": Edit(
        function="policy_loss",
        old="return -(log_probs",
        new="return (log_probs",
        says="goes downhill: the loss has the gradient where it needs minus the gradient",
        fails=LEARNING,
    ),
    "weights_not_detached": Edit(
        function="policy_loss",
        old="weights.detach()",
        new="weights",
        says="lets a gradient into the weights, which are measured numbers",
    ),
    "scale_not_squared": Edit(
        function="policy_loss",
        old="(((depths - means) / scale) ** 2)",
        new="((depths - means) ** 2 / scale)",
        says="divides by the standard deviation where the variance belongs",
    ),
    "mean_over_steps": Edit(
        function="policy_loss",
        old=".sum() / num_sessions",
        new=".mean()",
        says="a mean over steps and sessions: the length of the session divides the gradient",
    ),
    "ask_only": Edit(
        function="policy_loss",
        old=".sum(dim=-1) / 2",
        new="[..., 0] / 2",
        says="learns from the ask alone: the bid stays where it is",
        fails=LEARNING,
    ),
    "strangers": Edit(
        function="paired_share",
        old="(ours - share * best).std(ddof=1)",
        new="np.hypot(ours.std(ddof=1), share * best.std(ddof=1))",
        says="an interval as if the two had met different sessions",
    ),
    "mean_of_shares": Edit(
        function="paired_share",
        old="ours.mean() / best.mean()",
        new="(ours / best).mean()",
        says="a mean of shares, in which sessions that earn next to nothing count without bound",
    ),
    "spread_of_a_session": Edit(
        function="paired_share",
        old="np.sqrt(len(ours)) * ",
        new="",
        says="the spread of one session, not of the mean of all",
        fails=("learned_share",),
    ),
    "not_relative": Edit(
        function="paired_share",
        old=" * abs(best.mean())",
        new="",
        says="a width in cents for a share of the optimum",
    ),
}
