"""Definition checks of B4: each function against its equation, written out one number at a time."""

import itertools
import math
from collections import Counter

import numpy as np
import torch

from chapters.B_core_algorithms.checks import B3
from chapters.utils.edits import Edit

SHAPES = ((1, 1), (3, 2), (8, 5), (64, 2))  # (B, A)
CONSTANT = ("td_target", "double_value", "n_step_targets")  # to the loss: with or without a gradient


def check_td_target(td_target):
    B3.check_td_target(td_target)


def check_double_value(double_value):
    torch.manual_seed(2)
    for batch, num_actions in SHAPES:
        online_q, target_q = torch.randn(2, batch, num_actions)
        values = double_value(online_q, target_q)
        for i in range(batch):
            chosen = max(range(num_actions), key=lambda a: float(online_q[i, a]))
            assert values[i] == target_q[i, chosen]
        # plain DQN is the special case of one network in both roles: the maximum
        assert torch.equal(double_value(target_q, target_q), target_q.amax(dim=1))


def check_ReplayBuffer(ReplayBuffer):
    names = ("obs", "actions", "rewards", "next_obs", "terminated")
    rng = np.random.default_rng(4)
    for capacity, num_envs, rounds in ((10, 1, 27), (12, 5, 7), (50, 4, 3)):
        buffer = ReplayBuffer(capacity)
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
        columns = [batch[name].numpy() for name in names]
        assert all(len(column) == 4000 for column in columns)
        drawn = list(zip(*(column.reshape(4000, -1).tolist() for column in columns)))
        times = Counter(map(str, drawn))  # as text, since a transition is lists
        counts = [times[str(one)] for one in kept]
        assert sum(counts) == 4000, "something was drawn that is not among the last `capacity` transitions"
        expected = 4000 / len(kept)
        assert all(abs(count - expected) < 6 * math.sqrt(expected) for count in counts), "not uniform"


def check_move_average(move_average):
    torch.manual_seed(7)
    for sizes, rate in itertools.product(((1, 1), (3, 2)), (0.0, 0.01, 0.5, 1.0)):
        average, network = torch.nn.Linear(*sizes), torch.nn.Linear(*sizes)
        before = [p.detach().clone() for p in average.parameters()]
        goal = [p.detach().clone() for p in network.parameters()]
        move_average(average, network, rate)
        for moved, start, end, untouched in zip(
            average.parameters(), before, goal, network.parameters(), strict=True
        ):
            assert torch.equal(untouched, end), "the network itself must stay as it is"
            weights = (part.detach().flatten().tolist() for part in (moved, start, end))
            for found, old, new in zip(*weights, strict=True):
                expected = (1 - rate) * old + rate * new
                assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-6), (
                    f"rate {rate}, average's weight {old:.4f}, the network's {new:.4f}: "
                    f"expected {expected:.4f}, found {found:.4f}"
                )


EDITS = {
    "minus_the_future": Edit(
        function="td_target",
        old="return rewards + gamma * ~terminated",
        new="return rewards - gamma * ~terminated",
        says="subtracts the value of the successor",
        fails=("reloaded_return",),
    ),
    "no_terminal": Edit(
        function="td_target",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state: a fallen pole has a future",
        fails=("reloaded_return",),
    ),
    "only_terminal": Edit(
        function="td_target",
        old="* ~terminated *",
        new="* terminated *",
        says="keeps the bootstrap only at terminal states",
        fails=("reloaded_return",),
    ),
    "no_discount": Edit(
        function="td_target",
        old="rewards + gamma * ~terminated",
        new="rewards + ~terminated",
        says="no discount: a world without end is worth more than any number",
    ),
    "masks_reward": Edit(
        function="td_target",
        old="return rewards + gamma * ~terminated * next_values",
        new="return ~terminated * (rewards + gamma * next_values)",
        says="masks the last reward too",
    ),
    "plain": Edit(
        function="double_value",
        old="chosen = online_q.argmax",
        new="chosen = target_q.argmax",
        says="plain DQN: the target network chooses and judges",
    ),
    "online_judges": Edit(
        function="double_value",
        old="return target_q.gather(1, chosen)",
        new="return online_q.gather(1, chosen)",
        says="the online network chooses and judges: the target network is out of the game",
    ),
    "worst_action": Edit(
        function="double_value",
        old="chosen = online_q.argmax",
        new="chosen = online_q.argmin",
        says="the value of the worst action",
    ),
    "dueling": Edit(
        function="QNetwork",
        old="""        self.head = nn.Linear(hidden_size, num_actions)

    def forward(self, obs: Tensor) -> Tensor:
        return self.head(self.body(obs))
""",
        new="""        self.head = nn.Linear(hidden_size, 1 + num_actions)

    def forward(self, obs: Tensor) -> Tensor:
        outputs = self.head(self.body(obs))
        value, advantages = outputs[..., :1], outputs[..., 1:]
        return value + advantages - advantages.mean(dim=-1, keepdim=True)
""",
        says="a dueling head: a value of the state, and advantages",
    ),
    "no_replay": Edit(
        function="ReplayBuffer",
        old="drawn = rng.integers(len(self), size=size)",
        new="drawn = (self.num_added - 1 - np.arange(size)) % self.capacity",
        says="no replay: a minibatch is the latest transitions, in order",
    ),
    "off_by_one": Edit(
        function="ReplayBuffer",
        old="slots = (self.num_added +",
        new="slots = (self.num_added + 1 +",
        says="off by one in the ring",
    ),
    "one_slot": Edit(
        function="ReplayBuffer",
        old="np.arange(num_new)",
        new="0 * np.arange(num_new)",
        says="writes every environment to one slot",
    ),
    "ring_too_short": Edit(
        function="ReplayBuffer",
        old="% self.capacity\n",
        new="% (self.capacity - 1)\n",
        says="a ring one slot too short",
    ),
    "never_the_newest": Edit(
        function="ReplayBuffer",
        old="rng.integers(len(self), size=size)",
        new="rng.integers(max(len(self) - 1, 1), size=size)",
        says="never draws the newest transition",
    ),
    "empty_slots": Edit(
        function="ReplayBuffer",
        old="rng.integers(len(self), size=size)",
        new="rng.integers(self.capacity, size=size)",
        says="draws slots that are still empty",
    ),
    "merged": Edit(
        function="collect",
        old="        terminated=terminated,\n",
        new="        terminated=done,\n",
        says="stores a time limit as if the episode had truly ended",
    ),
    "after_the_reset": Edit(
        function="collect",
        old="true_next_obs(next_obs, done, infos)",
        new="next_obs",
        says="stores the first observation of the next episode as the successor",
    ),
    "stores_obs": Edit(
        function="collect",
        old="true_next_obs(next_obs, done, infos)",
        new="obs",
        says="stores the observation as its own successor",
        fails=("reloaded_return",),
    ),
    "keeps_what_it_should_replace": Edit(
        function="move_average",
        old="list(network.parameters()), rate)",
        new="list(network.parameters()), 1 - rate)",
        says="keeps the share that it should replace",
    ),
    "moves_the_network": Edit(
        function="move_average",
        old="list(average.parameters()), list(network.parameters())",
        new="list(network.parameters()), list(average.parameters())",
        says="moves the network, not the average",
    ),
    "no_target": Edit(
        function="update",
        old='agent.target(batch["next_obs"])',
        new='agent.online(batch["next_obs"])',
        says="no target network: the guess moves with every step, and the network chases itself",
        fails=("reloaded_return",),
    ),
    "never_synced": Edit(
        function="update",
        old="move_average(agent.target, agent.online, 1.0)",
        new="pass",
        says="the target network is never renewed",
        fails=("reloaded_return",),
    ),
    "synced_by_episodes": Edit(
        function="update",
        old="""    if agent.num_updates % cfg.sync_every == 0:
""",
        new="""    if agent.num_episodes // 10 > getattr(agent, "num_syncs", 0):
        agent.num_syncs = agent.num_episodes // 10
""",
        says="copies every ten episodes: the longer an episode lasts, the rarer the copies",
    ),
    "first_action_only": Edit(
        function="update",
        old='batch["actions"].unsqueeze(1)',
        new='0 * batch["actions"].unsqueeze(1)',
        says="trains the first action's value, whatever was done",
        fails=("reloaded_return",),
    ),
    "no_step": Edit(
        function="update",
        old="    agent.optimizer.step()\n",
        new="",
        says="computes gradients and takes no step",
        fails=("reloaded_return",),
    ),
}
