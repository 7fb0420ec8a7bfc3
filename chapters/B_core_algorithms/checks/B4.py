"""Definition checks of B4: each function against its equation, written out one number at a time."""

import math
from itertools import pairwise

import numpy as np
import torch

from chapters.B_core_algorithms.checks import B3
from chapters.utils.edits import Edit

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


EDITS = {
    "sign_bootstrap": Edit(
        function="td_target",
        old="return rewards + gamma * ~terminated",
        new="return rewards - gamma * ~terminated",
        says="sign of the bootstrap",
    ),
    "bootstraps_through_terminal_state": Edit(
        function="td_target",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "keeps_bootstrap_only_at": Edit(
        function="td_target",
        old="* ~terminated *",
        new="* terminated *",
        says="keeps the bootstrap only at terminal states",
    ),
    "no_discount": Edit(
        function="td_target",
        old="rewards + gamma * ~terminated",
        new="rewards + ~terminated",
        says="no discount",
    ),
    "masks_reward_too": Edit(
        function="td_target",
        old="return rewards + gamma * ~terminated * next_values",
        new="return ~terminated * (rewards + gamma * next_values)",
        says="masks the reward too",
    ),
    "mean_max": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.mean(dim=1)",
        says="mean for max",
    ),
    "maximum_over_batch": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=0)",
        says="maximum over the batch",
    ),
    "never_below_zero": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=1).clamp(min=0)",
        says="never below zero",
    ),
    "target_network_chooses": Edit(
        function="double_value",
        old="chosen = online_q.argmax",
        new="chosen = target_q.argmax",
        says="the target network chooses",
    ),
    "online_network_judges": Edit(
        function="double_value",
        old="return target_q.gather(1, chosen)",
        new="return online_q.gather(1, chosen)",
        says="the online network judges",
    ),
    "worst_action": Edit(
        function="double_value",
        old="chosen = online_q.argmax",
        new="chosen = online_q.argmin",
        says="the worst action",
    ),
    "mean_not_subtracted": Edit(
        function="dueling_q",
        old="advantages - advantages.mean(dim=-1, keepdim=True)",
        new="advantages",
        says="mean not subtracted",
    ),
    "mean_over_batch": Edit(
        function="dueling_q",
        old="advantages.mean(dim=-1, keepdim=True)",
        new="advantages.mean(dim=0, keepdim=True)",
        says="mean over the batch",
    ),
    "maximum_mean": Edit(
        function="dueling_q",
        old="advantages.mean(dim=-1, keepdim=True)",
        new="advantages.amax(dim=-1, keepdim=True)",
        says="maximum for mean",
    ),
    "off_one_ring": Edit(
        function="ReplayBuffer",
        old="slots = (self.num_added +",
        new="slots = (self.num_added + 1 +",
        says="off by one in the ring",
    ),
    "writes_every_environment_one": Edit(
        function="ReplayBuffer",
        old="slots = (self.num_added + np.arange",
        new="slots = (self.num_added + 0 * np.arange",
        says="writes every environment to one slot",
    ),
    "ring_one_too_short": Edit(
        function="ReplayBuffer",
        old="% self.capacity\n",
        new="% (self.capacity - 1)\n",
        says="ring one too short",
    ),
    "never_draws_newest": Edit(
        function="ReplayBuffer",
        old="rng.integers(len(self), size=size)",
        new="rng.integers(max(len(self) - 1, 1), size=size)",
        says="never draws the newest",
    ),
    "draws_empty_slots": Edit(
        function="ReplayBuffer",
        old="rng.integers(len(self), size=size)",
        new="rng.integers(self.capacity, size=size)",
        says="draws empty slots",
    ),
    "stores_obs_next_obs": Edit(
        function="ReplayBuffer",
        old="getattr(self, name)[slots] = values",
        new="getattr(self, name)[slots] = step['obs'] if name == 'next_obs' else values",
        says="stores obs as next_obs",
    ),
    "sign": Edit(
        function="epsilon_at",
        old="1.0 - (1.0 - epsilon_end) * step",
        new="1.0 + (1.0 - epsilon_end) * step",
        says="sign",
    ),
    "falls_zero_first": Edit(
        function="epsilon_at",
        old="1.0 - (1.0 - epsilon_end) * step",
        new="1.0 - step",
        says="falls to zero first",
    ),
    "no_floor": Edit(
        function="epsilon_at",
        old="return max(epsilon_end, 1.0 -",
        new="return max(0.0, 1.0 -",
        says="no floor",
    ),
    "explores_1_epsilon": Edit(
        function="epsilon_greedy",
        old="rng.random(num_envs) < epsilon",
        new="rng.random(num_envs) >= epsilon",
        says="explores with 1 - epsilon",
    ),
    "first_maximum_wins_ties": Edit(
        function="epsilon_greedy",
        old="np.where(is_best, rng.random(q_values.shape), -1.0).argmax(axis=1)",
        new="q_values.argmax(axis=1)",
        says="first maximum wins ties",
    ),
    "maximum_over_all_rows": Edit(
        function="epsilon_greedy",
        old="q_values.max(axis=1, keepdims=True)",
        new="q_values.max(keepdims=True)",
        says="maximum over all rows",
    ),
    "explores_over_one_action": Edit(
        function="epsilon_greedy",
        old="rng.integers(num_actions, size=num_envs), greedy",
        new="rng.integers(num_actions - 1, size=num_envs), greedy",
        says="explores over one action fewer",
    ),
    "keeps_what_should_replace": Edit(
        function="move_average",
        old="list(network.parameters()), rate)",
        new="list(network.parameters()), 1 - rate)",
        says="keeps what it should replace",
    ),
    "moves_network": Edit(
        function="move_average",
        old="list(average.parameters()), list(network.parameters())",
        new="list(network.parameters()), list(average.parameters())",
        says="moves the network",
    ),
    "judge_chooses": Edit(
        function="judged_value",
        old="epsilon_greedy(chooser, 0.0, rng)]",
        new="epsilon_greedy(judge, 0.0, rng)]",
        says="the judge chooses",
    ),
    "chooser_judges": Edit(
        function="judged_value",
        old="return judge[np.arange(len(judge)),",
        new="return chooser[np.arange(len(judge)),",
        says="the chooser judges",
    ),
    "judged_value_first_maximum_wins_ties": Edit(
        function="judged_value",
        old="epsilon_greedy(chooser, 0.0, rng)]",
        new="chooser.argmax(axis=1)]",
        says="first maximum wins ties",
    ),
}
