"""Definition checks of E6: each function against its equation, written out one number at a time."""

import math

import torch

from chapters.utils.edits import Edit


def check_targets_of(targets_of):
    torch.manual_seed(1)
    for batch, size in ((1, 1), (5, 3), (40, 2)):
        obs, next_obs, rewards = torch.randn(batch, size), torch.randn(batch, size), torch.randn(batch)
        found = targets_of(obs, rewards, next_obs)
        assert found.shape == (batch, size + 1), f"expected {size} changes and a reward for each transition"
        for i in range(batch):
            expected = [float(after - before) for before, after in zip(obs[i], next_obs[i])]
            expected.append(float(rewards[i]))
            assert torch.allclose(found[i], torch.tensor(expected), atol=1e-5), (
                f"from {obs[i].tolist()} to {next_obs[i].tolist()}, reward {rewards[i]:.4f}: "
                f"expected {expected}, found {found[i].tolist()}"
            )


def check_weighted_error(weighted_error):
    torch.manual_seed(2)
    for members, batch, size in ((1, 1, 1), (2, 3, 2), (5, 7, 4)):
        outputs, targets = torch.randn(members, batch, size), torch.randn(batch, size)
        counts = torch.poisson(torch.full((batch, members), 1.5))
        counts[0] = torch.arange(members)
        expected = 0.0
        for c in range(members):
            for i in range(batch):
                square = sum((float(a) - float(b)) ** 2 for a, b in zip(outputs[c, i], targets[i])) / size
                expected += float(counts[i, c]) * square / batch
        found = float(weighted_error(outputs, targets, counts))
        assert math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6), (
            f"{members} members, {batch} transitions, {size} numbers each: "
            f"expected {expected:.4f}, found {found:.4f}"
        )


def check_successors(successors):
    torch.manual_seed(3)
    for members, batch, size in ((1, 1, 1), (2, 4, 3), (5, 3, 2)):
        outputs, obs = torch.randn(members, batch, size + 1), torch.randn(batch, size)
        next_obs, rewards = successors(outputs, obs)
        assert next_obs.shape == (members, batch, size), "each member foresees a next state for each row"
        assert rewards.shape == (members, batch), "and a reward"
        for c in range(members):
            for i in range(batch):
                expected = [float(obs[i, d] + outputs[c, i, d]) for d in range(size)]
                assert torch.allclose(next_obs[c, i], torch.tensor(expected), atol=1e-5), (
                    f"from {obs[i].tolist()} with outputs {outputs[c, i].tolist()}: expected {expected}, "
                    f"found {next_obs[c, i].tolist()}"
                )
                assert math.isclose(rewards[c, i], outputs[c, i, size], rel_tol=1e-5), "the reward comes last"


def check_disagreement(disagreement):
    torch.manual_seed(4)
    for members, batch, size in ((1, 2, 3), (2, 1, 1), (5, 6, 3)):
        next_obs = torch.randn(members, batch, size)
        found = disagreement(next_obs)
        assert found.shape == (batch,), "one number for each state"
        for i in range(batch):
            square = 0.0
            for d in range(size):
                mean = sum(float(next_obs[c, i, d]) for c in range(members)) / members
                square += sum((float(next_obs[c, i, d]) - mean) ** 2 for c in range(members)) / members
            assert math.isclose(found[i], math.sqrt(square), rel_tol=1e-4, abs_tol=1e-6), (
                f"{members} members, state {i}: expected {math.sqrt(square):.4f}, found {found[i]:.4f}"
            )


def check_value_bound(value_bound):
    for error, max_reward, gamma in ((0.1, 1.0, 0.9), (1.0, 3.0, 0.5), (0.02, 2.0, 0.99)):
        for length in (0, 1, 2, 7):
            expected = sum(gamma ** (i + 1) * error * max_reward / (1 - gamma) for i in range(length))
            found = value_bound(error, length, max_reward, gamma)
            assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"error {error}, {length} steps, rewards up to {max_reward}, gamma {gamma}: "
                f"expected {expected:.5f}, found {found:.5f}"
            )


def check_stray_bound(stray_bound):
    for error, stretch in ((0.1, 1.0), (0.01, 1.3), (0.5, 0.8)):
        expected = 0.0
        for length in range(6):
            found = stray_bound(error, length, stretch)
            assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"misses of {error}, stretch {stretch}, {length} steps: "
                f"expected {expected:.5f}, found {found:.5f}"
            )
            expected = stretch * expected + error


def check_branch(branch):
    """Branches of one number that walk by rule; each is followed by itself."""

    def act(obs):
        return (obs + 2.0).remainder(3.0)

    def imagine(obs, actions):
        return obs + 1.0 + actions, 10.0 * obs[:, 0] + actions[:, 0]

    def ends(obs):
        return obs[:, 0] > 9.0

    def never(obs):
        return torch.zeros(len(obs), dtype=torch.bool)

    for starts, length, rule in (
        ([0.0], 1, never), ([0.0, 4.0, 7.0], 3, never), ([1.0, 8.0, 5.0, 0.5], 4, ends), ([9.0], 2, ends),
    ):  # fmt: skip
        expected, alive = [], list(starts)
        for _ in range(length):
            after = []
            for x in alive:
                a = (x + 2.0) % 3.0
                ended = rule is ends and x + 1.0 + a > 9.0
                expected.append((x, a, 10.0 * x + a, x + 1.0 + a, ended))
                after += [] if ended else [x + 1.0 + a]
            alive = after
        rows = branch(imagine, act, torch.tensor(starts).unsqueeze(1), length, rule)
        names = ("obs", "actions", "rewards", "next_obs", "terminated")
        assert set(rows) == set(names), f"expected the columns {names}"
        for name, column in zip(names, zip(*expected)):
            found = rows[name].flatten().tolist()
            some = "some end" if rule is ends else "none ends"
            assert len(found) == len(column), (
                f"{len(starts)} branches of {length} steps, where {some}: "
                f"expected {len(column)} transitions, found {len(found)}"
            )
            assert torch.allclose(torch.tensor(found).float(), torch.tensor(column).float()), (
                f"branches from {starts}, {length} steps: expected {name} {list(column)}, found {found}"
            )


EDITS = {
    "next_state_itself": Edit(
        function="targets_of",
        old="next_obs - obs",
        new="next_obs",
        says="foresees the next state itself, to which the state is then added once more",
        fails=("mbpo_return",),
    ),
    "backwards": Edit(
        function="targets_of",
        old="next_obs - obs",
        new="obs - next_obs",
        says="takes the change with the wrong sign: the model runs backwards",
        fails=("mbpo_return",),
    ),
    "reward_first": Edit(
        function="targets_of",
        old="[next_obs - obs, rewards.unsqueeze(1)]",
        new="[rewards.unsqueeze(1), next_obs - obs]",
        says="puts the reward where a change is looked for",
        fails=("mbpo_return",),
    ),
    "no_bootstrap": Edit(
        function="weighted_error",
        old="(counts.T * errors)",
        new="errors",
        says="counts every transition once for every member: only their first weights differ",
    ),
    "one_data_set": Edit(
        function="weighted_error",
        old="counts.T",
        new="counts[:, :1].T",
        says="gives all members the first one's data",
    ),
    "absolute": Edit(
        function="weighted_error",
        old="(outputs - targets).pow(2)",
        new="(outputs - targets).abs()",
        says="takes the distance, not its square: a median, not a mean",
    ),
    "not_per_number": Edit(
        function="weighted_error",
        old=".mean(dim=2)",
        new=".sum(dim=2)",
        says="adds up over the numbers of a target",
    ),
    "mean_over_members": Edit(
        function="weighted_error",
        old=".mean(dim=1).sum()",
        new=".mean()",
        says="averages over the members: each learns from a part of its gradient",
    ),
    "nothing_to_add_to": Edit(
        function="successors",
        old="obs + outputs[..., :-1]",
        new="outputs[..., :-1]",
        says="takes a change for the next state",
        fails=("mbpo_return",),
    ),
    "reward_taken_first": Edit(
        function="successors",
        old="obs + outputs[..., :-1], outputs[..., -1]",
        new="obs + outputs[..., 1:], outputs[..., 0]",
        says="takes the first change for the reward",
        fails=("mbpo_return",),
    ),
    "change_taken_off": Edit(
        function="successors",
        old="obs + outputs",
        new="obs - outputs",
        says="takes the change off the state",
        fails=("mbpo_return",),
    ),
    "from_the_first": Edit(
        function="disagreement",
        old="next_obs - next_obs.mean(dim=0)",
        new="next_obs - next_obs[0]",
        says="measures from the first member, not from the mean",
    ),
    "between_states": Edit(
        function="disagreement",
        old="next_obs.mean(dim=0)",
        new="next_obs.mean(dim=1, keepdim=True)",
        says="measures how states differ, not how members do",
    ),
    "square_left": Edit(
        function="disagreement",
        old=".mean(dim=0).sqrt()",
        new=".mean(dim=0)",
        says="forgets the root",
    ),
    "mean_over_numbers": Edit(
        function="disagreement",
        old=".sum(dim=2)",
        new=".mean(dim=2)",
        says="averages over the numbers of a state: a distance adds their squares up",
    ),
    "a_step_too_many": Edit(
        function="value_bound",
        old="gamma**length",
        new="gamma ** (length + 1)",
        says="counts a step more than the branch has",
    ),
    "at_once": Edit(
        function="value_bound",
        old="return gamma * model_error",
        new="return model_error",
        says="takes the misled future for one that begins at once",
    ),
    "reward_at_stake": Edit(
        function="value_bound",
        old="(1 - gamma) ** 2",
        new="(1 - gamma)",
        says="puts one reward at stake at each step, not the future",
    ),
    "for_ever": Edit(
        function="value_bound",
        old=" * (1 - gamma**length)",
        new="",
        says="is the bound of E2, for a branch without an end",
    ),
    "misses_add_up": Edit(
        function="stray_bound",
        old="stretch**i",
        new="1",
        says="adds misses up as if the world did not pull states apart",
        fails=("strays_within_bound",),
    ),
    "first_miss_alone": Edit(
        function="stray_bound",
        old="sum(stretch**i for i in range(length))",
        new="stretch ** (length - 1)",
        says="follows the first miss, and forgets those that come after it",
    ),
    "one_miss_more": Edit(
        function="stray_bound",
        old="range(length)",
        new="range(length + 1)",
        says="counts a miss more than there are steps",
    ),
    "ends_at_its_length": Edit(
        function="branch",
        old="next_obs, terminated))",
        new="next_obs, terminated | (len(rows) == length - 1)))",
        says="takes the end of a branch for the end of the episode: nothing is worth anything after it",
    ),
    "a_step_short": Edit(
        function="branch",
        old="range(length)",
        new="range(length - 1)",
        says="stops a step too early",
    ),
    "a_step_long": Edit(
        function="branch",
        old="range(length)",
        new="range(length + 1)",
        says="goes a step too far",
    ),
    "does_not_move": Edit(
        function="branch",
        old="obs = next_obs[~terminated]",
        new="obs = obs[~terminated]",
        says="begins every step at the start: many branches of one step",
    ),
    "behind_the_end": Edit(
        function="branch",
        old="obs = next_obs[~terminated]",
        new="obs = next_obs",
        says="goes on behind the end of the episode",
    ),
    "ended_before": Edit(
        function="branch",
        old="terminated = ends(next_obs)",
        new="terminated = ends(obs)",
        says="asks of the state that is left whether the episode has ended",
    ),
    "a_rewards_step_late": Edit(
        function="branch",
        old="next_obs, rewards = imagine(obs, actions)",
        new="next_obs = imagine(obs, actions)[0]\n        rewards = imagine(next_obs, act(next_obs))[1]",
        says="pays the reward of the step after",
    ),
    # the program: noticed by whole learners
    "real_only": Edit(
        function="update",
        old="batch = learner.imagined.sample(cfg.minibatch_size, learner.rng)",
        new="batch = learner.real.sample(cfg.minibatch_size, learner.rng)\n"
        '        batch["terminated"] = ends(batch["next_obs"])',
        says="learns from real transitions alone: SAC with as many gradient steps, and no imagination",
    ),
    "from_the_start": Edit(
        function="update",
        old='learner.real.sample(cfg.num_branches, learner.rng)["obs"]',
        new='torch.from_numpy(learner.real.arrays["obs"])[torch.randint(cfg.num_envs, (cfg.num_branches,))]',
        says="begins all branches where episodes began",
    ),
    "own_predictions": Edit(
        function="update",
        old="    for _ in range(cfg.num_updates):",
        new='    told = {name: values.numpy() for name, values in rows.items() if name != "terminated"}\n'
        '    learner.real.add(**told, counts=np.ones((len(told["obs"]), cfg.num_members), np.float32))\n'
        "    for _ in range(cfg.num_updates):",
        says="stores what it imagined among what it met: the model learns from its own predictions",
        fails=("mbpo_return",),
    ),
    "after_the_reset": Edit(
        function="collect",
        old="true_next_obs(next_obs, terminated | truncated, infos)",
        new="next_obs",
        says="stores the first observation of the next episode as the successor",
    ),
    "same_counts": Edit(
        function="collect",
        old="learner.rng.poisson(1.0, (len(obs), cfg.num_members))",
        new="np.ones((len(obs), cfg.num_members))",
        says="gives every member the same data",
    ),
    "same_beginnings": Edit(
        function="Model",
        old="        self.networks = Ensemble(cfg.num_members, sizes)\n",
        new="        self.networks = Ensemble(cfg.num_members, sizes)\n"
        "        for part in self.networks.parameters():\n"
        "            part.data[1:] = part.data[:1].clone()\n",
        says="begins all members with the same weights",
    ),
    "no_units": Edit(
        function="Model",
        old="outputs * self.std + self.mean",
        new="outputs",
        says="takes outputs for changes in the world's units",
        fails=("mbpo_return",),
    ),
    "mean_forgotten": Edit(
        function="Model",
        old="outputs * self.std + self.mean",
        new="outputs * self.std",
        says="forgets to add the mean again: rewards are too high by it",
    ),
    "first_member_alone": Edit(
        function="Model",
        old="torch.randint(len(next_obs), (len(obs),))",
        new="torch.zeros(len(obs), dtype=torch.long)",
        says="believes the first member always",
    ),
}
