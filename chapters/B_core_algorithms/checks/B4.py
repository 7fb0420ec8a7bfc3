"""Definition checks of B4: each function against its equation, written out one number at a time."""

import math
from itertools import pairwise

import numpy as np
import torch

from chapters.B_core_algorithms.checks import B3

SHAPES = ((1, 1), (3, 2), (8, 5), (64, 2))  # (B, A)


def check_td_target(td_target):
    B3.check_td_target(td_target)


def check_max_value(max_value):
    B3.check_max_value(max_value)


def check_double_value(double_value):
    torch.manual_seed(2)
    for batch, num_actions in SHAPES:
        online_q, target_q = torch.randn(2, batch, num_actions)
        values = double_value(online_q, target_q)
        for i in range(batch):
            chosen = max(range(num_actions), key=lambda a: float(online_q[i, a]))
            assert values[i] == target_q[i, chosen]


def check_dueling_q(dueling_q):
    torch.manual_seed(3)
    for batch, num_actions in SHAPES:
        value, advantages = torch.randn(batch, 1), torch.randn(batch, num_actions)
        q = dueling_q(value, advantages)
        for i in range(batch):
            mean = sum(advantages[i].tolist()) / num_actions
            for a in range(num_actions):
                by_hand = float(value[i, 0]) + float(advantages[i, a]) - mean
                assert math.isclose(q[i, a], by_hand, rel_tol=1e-5, abs_tol=1e-6)
        # a constant in the advantages changes nothing: that is what the mean is subtracted for
        torch.testing.assert_close(dueling_q(value, advantages + 7.0), q, atol=1e-5, rtol=1e-5)


def check_ReplayBuffer(ReplayBuffer):
    names = ("obs", "actions", "rewards", "next_obs", "terminated")
    rng = np.random.default_rng(4)
    for capacity, num_envs, rounds in ((10, 1, 27), (12, 5, 7), (50, 4, 3)):
        buffer = ReplayBuffer(capacity, 3)
        added = []
        for _ in range(rounds):
            step = (
                rng.normal(size=(num_envs, 3)).astype(np.float32),
                rng.integers(4, size=num_envs),
                rng.normal(size=num_envs).astype(np.float32),
                rng.normal(size=(num_envs, 3)).astype(np.float32),
                rng.random(num_envs) < 0.5,
            )
            buffer.add(**dict(zip(names, step, strict=True)))
            added += [tuple(np.atleast_1d(part[i]).tolist() for part in step) for i in range(num_envs)]
        kept = added[-capacity:]  # exactly the last ones, each with its own parts
        assert len(buffer) == len(kept)

        batch = buffer.sample(4000, np.random.default_rng(5))
        assert batch["actions"].dtype == torch.int64
        assert batch["terminated"].dtype == torch.bool
        drawn = [tuple(np.atleast_1d(batch[name][i].numpy()).tolist() for name in names) for i in range(4000)]
        counts = [sum(transition == one for transition in drawn) for one in kept]
        assert sum(counts) == 4000, "something was drawn that is not among the last `capacity` transitions"
        expected = 4000 / len(kept)
        assert all(abs(count - expected) < 6 * math.sqrt(expected) for count in counts), "not uniform"


def check_epsilon_at(epsilon_at):
    assert epsilon_at(0, 1000, 0.1) == 1.0
    assert math.isclose(epsilon_at(500, 1000, 0.1), 0.55)
    assert math.isclose(epsilon_at(250, 1000, 0.2), 0.8)
    assert math.isclose(epsilon_at(1000, 1000, 0.1), 0.1)
    assert math.isclose(epsilon_at(50_000, 1000, 0.1), 0.1)
    values = [epsilon_at(step, 300, 0.04) for step in range(400)]
    assert all(a >= b for a, b in pairwise(values))


def check_epsilon_greedy(epsilon_greedy):
    rng = np.random.default_rng(6)
    size = 30_000
    q = np.tile(np.array([1.0, 3.0, 3.0, -1.0]), (size, 1))
    for epsilon in (0.0, 0.3, 1.0):
        actions = epsilon_greedy(q, epsilon, rng)
        share = np.bincount(actions, minlength=4) / size
        expected = np.array([epsilon / 4, epsilon / 4 + (1 - epsilon) / 2, 0.0, epsilon / 4])
        expected[2] = expected[1]  # the two best share what is not exploration
        assert np.abs(share - expected).max() < 0.015
    q = rng.normal(size=(50, 3))  # each row keeps its own best action
    assert (epsilon_greedy(q, 0.0, rng) == q.argmax(axis=1)).all()


def check_move_average(move_average):
    torch.manual_seed(7)
    for rate in (0.0, 0.01, 0.5, 1.0):
        average, network = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        before = [p.detach().clone() for p in average.parameters()]
        goal = [p.detach().clone() for p in network.parameters()]
        move_average(average, network, rate)
        for moved, start, end, untouched in zip(
            average.parameters(), before, goal, network.parameters(), strict=True
        ):
            torch.testing.assert_close(moved.detach(), (1 - rate) * start + rate * end)
            assert torch.equal(untouched, end), "the network itself must stay as it is"


def check_judged_value(judged_value):
    rng = np.random.default_rng(8)
    chooser, judge = rng.normal(size=(2, 40, 6))
    by_hand = [judge[i][max(range(6), key=lambda a: chooser[i][a])] for i in range(40)]
    assert np.allclose(judged_value(chooser, judge, rng), by_hand)
    # one table in both roles is Q-learning's maximum
    assert np.allclose(judged_value(judge, judge, rng), judge.max(axis=1))
    # ties fall to chance: of two equal favourites the judge's values average out
    chooser, judge = np.zeros((20_000, 2)), np.tile([0.0, 1.0], (20_000, 1))
    assert abs(judged_value(chooser, judge, rng).mean() - 0.5) < 0.02


PLANTED = {
    "td_target": {
        "sign of the bootstrap": (
            "return rewards + gamma * ~terminated",
            "return rewards - gamma * ~terminated",
        ),
        "bootstraps through a terminal state": ("gamma * ~terminated * next_values", "gamma * next_values"),
        "keeps the bootstrap only at terminal states": ("* ~terminated *", "* terminated *"),
        "no discount": ("rewards + gamma * ~terminated", "rewards + ~terminated"),
        "masks the reward too": (
            "return rewards + gamma * ~terminated * next_values",
            "return ~terminated * (rewards + gamma * next_values)",
        ),
    },
    "max_value": {
        "mean for max": ("return target_q.amax(dim=1)", "return target_q.mean(dim=1)"),
        "maximum over the batch": ("return target_q.amax(dim=1)", "return target_q.amax(dim=0)"),
        "never below zero": ("return target_q.amax(dim=1)", "return target_q.amax(dim=1).clamp(min=0)"),
    },
    "double_value": {
        "the target network chooses": ("chosen = online_q.argmax", "chosen = target_q.argmax"),
        "the online network judges": (
            "return target_q.gather(1, chosen)",
            "return online_q.gather(1, chosen)",
        ),
        "the worst action": ("chosen = online_q.argmax", "chosen = online_q.argmin"),
    },
    "dueling_q": {
        "mean not subtracted": ("advantages - advantages.mean(dim=-1, keepdim=True)", "advantages"),
        "mean over the batch": (
            "advantages.mean(dim=-1, keepdim=True)",
            "advantages.mean(dim=0, keepdim=True)",
        ),
        "maximum for mean": (
            "advantages.mean(dim=-1, keepdim=True)",
            "advantages.amax(dim=-1, keepdim=True)",
        ),
    },
    "ReplayBuffer": {
        "off by one in the ring": ("slots = (self.num_added +", "slots = (self.num_added + 1 +"),
        "writes every environment to one slot": (
            "slots = (self.num_added + np.arange",
            "slots = (self.num_added + 0 * np.arange",
        ),
        "ring one too short": ("% self.capacity\n", "% (self.capacity - 1)\n"),
        "never draws the newest": (
            "rng.integers(len(self), size=size)",
            "rng.integers(max(len(self) - 1, 1), size=size)",
        ),
        "draws empty slots": ("rng.integers(len(self), size=size)", "rng.integers(self.capacity, size=size)"),
        "stores obs as next_obs": (
            "getattr(self, name)[slots] = values",
            "getattr(self, name)[slots] = step['obs'] if name == 'next_obs' else values",
        ),
    },
    "epsilon_at": {
        "sign": ("1.0 - (1.0 - epsilon_end) * step", "1.0 + (1.0 - epsilon_end) * step"),
        "falls to zero first": ("1.0 - (1.0 - epsilon_end) * step", "1.0 - step"),
        "no floor": ("return max(epsilon_end, 1.0 -", "return max(0.0, 1.0 -"),
    },
    "epsilon_greedy": {
        "explores with 1 - epsilon": ("rng.random(num_envs) < epsilon", "rng.random(num_envs) >= epsilon"),
        "first maximum wins ties": (
            "np.where(is_best, rng.random(q_values.shape), -1.0).argmax(axis=1)",
            "q_values.argmax(axis=1)",
        ),
        "maximum over all rows": ("q_values.max(axis=1, keepdims=True)", "q_values.max(keepdims=True)"),
        "explores over one action fewer": (
            "rng.integers(num_actions, size=num_envs), greedy",
            "rng.integers(num_actions - 1, size=num_envs), greedy",
        ),
    },
    "move_average": {
        "keeps what it should replace": (
            "list(network.parameters()), rate)",
            "list(network.parameters()), 1 - rate)",
        ),
        "moves the network": (
            "list(average.parameters()), list(network.parameters())",
            "list(network.parameters()), list(average.parameters())",
        ),
    },
    "judged_value": {
        "the judge chooses": ("epsilon_greedy(chooser, 0.0, rng)]", "epsilon_greedy(judge, 0.0, rng)]"),
        "the chooser judges": (
            "return judge[np.arange(len(judge)),",
            "return chooser[np.arange(len(judge)),",
        ),
        "first maximum wins ties": ("epsilon_greedy(chooser, 0.0, rng)]", "chooser.argmax(axis=1)]"),
    },
}
