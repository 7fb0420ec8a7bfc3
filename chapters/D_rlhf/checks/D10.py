"""D10's functions against their definitions, and the named edits of the lesson."""

import math

import numpy as np
import torch

from chapters.envs import tmaze
from chapters.utils.edits import Edit

CONSTANT = ("advantages", "rollout", "patches")
MAPS = ((1, 2, 4), (3, 5, 2), (4, 16, 8))


def close(found, expected, what):
    """Raise AssertionError with the first place where two tensors differ."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    assert found.shape == expected.shape, f"{what}: expected shape {expected.shape}, found {found.shape}"
    far = (found - expected).abs() > 1e-5
    if far.any():
        at = tuple(far.nonzero()[0].tolist())
        raise AssertionError(f"{what}, at {at}: expected {expected[at]:.6g}, found {found[at]:.6g}")


def softmax(scores):
    """Of a list of numbers, one by one."""
    top = max(scores)
    parts = [math.exp(score - top) for score in scores]
    return [part / sum(parts) for part in parts]


def dot(left, right):
    return sum(a * b for a, b in zip(left.tolist(), right.tolist()))


def random_normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_patches(patches):
    """Every pixel of every patch, looked up by row and column."""
    for num, rows, columns, size, colours in ((1, 2, 2, 1, 1), (2, 4, 6, 2, 3), (1, 6, 3, 3, 2)):
        images = torch.arange(num * rows * columns * colours).double().reshape(num, rows, columns, colours)
        found = patches(images, size)
        across = columns // size
        expected = torch.zeros(num, (rows // size) * across, size * size * colours, dtype=torch.float64)
        for patch in range(expected.shape[1]):
            top, left = size * (patch // across), size * (patch % across)
            for inside in range(expected.shape[2]):
                pixel, colour = divmod(inside, colours)
                place = (top + pixel // size, left + pixel % size)
                expected[:, patch, inside] = images[:, place[0], place[1], colour]
        close(found, expected, f"patches of {size} x {size} in {rows} x {columns}")


def check_attend(attend):
    """Row by row, with one softmax for each query."""
    for seed, (num, places, width) in enumerate(MAPS):
        query, keys = 2 * random_normal(seed, num, width), random_normal(seed + 9, num, places, width)
        expected = [
            softmax([dot(one, key) / math.sqrt(width) for key in theirs]) for one, theirs in zip(query, keys)
        ]
        close(attend(query, keys), torch.tensor(expected), "attention")


def check_touch(touch):
    """The code that was brought back, compared with each place's."""
    for seed, (num, places, width) in enumerate(MAPS):
        attention = random_normal(seed, num, places).softmax(dim=1)
        codes = random_normal(seed + 9, places, width)
        expected = []
        for row in attention:
            brought = sum(weight * code for weight, code in zip(row, codes))
            expected.append(softmax([dot(code, brought) / math.sqrt(width) for code in codes]))
        close(touch(attention, codes), torch.tensor(expected).log(), "log-probabilities")


def random_batch(seed, num, steps):
    """(log_probs, rewards, alive, asked): episodes of 1 to `steps` steps, asked at some of them."""
    rng = np.random.default_rng(seed)
    lengths = torch.from_numpy(rng.integers(1, steps + 1, size=num))
    alive = torch.arange(steps) < lengths[:, None]
    asked = alive & torch.from_numpy(rng.random((num, steps)) < 0.6)
    return -random_normal(seed, num, steps).abs(), random_normal(seed + 9, num, steps), alive, asked


def check_imitation_loss(imitation_loss):
    for seed, shape in enumerate(((1, 1), (3, 4), (6, 5))):
        log_probs, _, _, asked = random_batch(seed, *shape)
        total = -sum(log_probs[i, t].item() for i, t in asked.nonzero().tolist())
        close(imitation_loss(log_probs, asked), total / shape[0], "imitation loss")


def compared(rewards, alive):
    """Advantages, episode by episode and step by step."""
    num, steps = rewards.shape
    returns = [
        [sum(rewards[i, s].item() for s in range(t, steps) if alive[i, s]) for t in range(steps)]
        for i in range(num)
    ]
    found = torch.zeros(num, steps, dtype=torch.float64)
    for i, t in alive.nonzero().tolist():
        others = [returns[j][t] for j in range(num) if j != i and alive[j, t]]
        if others:
            found[i, t] = returns[i][t] - sum(others) / len(others)
    return found


def check_advantages(advantages):
    for seed, shape in enumerate(((2, 1), (3, 4), (6, 5), (1, 3))):
        _, rewards, alive, _ = random_batch(seed, *shape)
        close(advantages(rewards, alive), compared(rewards, alive), "advantages")


def check_policy_loss(policy_loss):
    for seed, shape in enumerate(((2, 1), (3, 4), (6, 5))):
        log_probs, rewards, alive, asked = random_batch(seed, *shape)
        judged = compared(rewards, alive)
        total = -sum((judged[i, t] * log_probs[i, t]).item() for i, t in asked.nonzero().tolist())
        close(policy_loss(log_probs, rewards, alive, asked), total / shape[0], "policy loss")


def check_retrieve(retrieve):
    """The best few, found by sorting."""
    for seed, (num, count, width) in enumerate(MAPS):
        query, keys = 2 * random_normal(seed, num, width), random_normal(seed + 5, num, count, width)
        values = random_normal(seed + 9, num, count, width)
        for num_read in {1, 2, count, count + 3}:
            expected = torch.zeros(num, width, dtype=torch.float64)
            for row in range(num):
                scores = [dot(query[row], key) / math.sqrt(width) for key in keys[row]]
                best = sorted(range(count), key=lambda j: -scores[j])[:num_read]
                for weight, j in zip(softmax([scores[j] for j in best]), best):
                    expected[row] += weight * values[row, j]
            close(retrieve(query, keys, values, num_read), expected, f"what the best {num_read} give back")


class Listener:
    """A policy that writes down all it sees, and turns by the sign of its door."""

    def __init__(self, doors_from):
        self.doors_from, self.asked_with = doors_from, []

    def write(self, obs, memory):
        return [*(memory or []), obs.clone()]

    def act(self, obs, memory):
        self.asked_with.append((obs.clone(), list(memory or [])))
        chances = torch.full((len(obs), 2), 0.5)
        for row, door in enumerate((obs - self.doors_from).tolist()):
            for seen in memory or []:
                if door >= 0 and seen[row] // 2 == door:
                    chances[row] = (
                        torch.tensor([1.0, 0.0]) if seen[row] % 2 == 0 else torch.tensor([0.0, 1.0])
                    )
        return chances.log()


def check_rollout(rollout):
    """Mazes whose signs are all true: who follows them is always right, and is asked once."""
    for shown in (False, True):
        maze = tmaze.TMaze(12, (1, 4), np.random.default_rng(3), accuracy=1.0)
        policy = Listener(maze.doors_from)
        batch = rollout(policy, shown, maze, torch.Generator().manual_seed(0))
        lengths = torch.from_numpy(maze.junction) + 1
        steps = int(lengths.max())
        alive = torch.arange(steps) < lengths[:, None]
        last = torch.arange(steps) == lengths[:, None] - 1
        assert batch["alive"].equal(alive), "alive: every step until the turn, and none after it"
        assert batch["asked"].equal(last), "asked: at the junction alone"
        close(batch["rewards"], last.double(), "rewards of who follows true signs")
        close(batch["log_probs"][last], torch.zeros(12), "log-probabilities of what was done")
        for step, (_, memory) in enumerate(policy.asked_with):
            assert len(memory) == step, (
                f"step {step}: a policy acts first and writes then; memory {len(memory)}"
            )
            if step:
                assert policy.asked_with[step - 1][0].equal(memory[-1]), "what was seen is written down"
    maze = tmaze.TMaze(300, (1, 2), np.random.default_rng(4), accuracy=0.5)
    policy = Listener(maze.doors_from)
    rewards = rollout(policy, True, maze, torch.Generator().manual_seed(0))["rewards"]
    close(rewards.sum(dim=1), torch.ones(300), "rewards of a teacher who knows where doors open")
    wrong = rollout(policy, False, maze, torch.Generator().manual_seed(0))["rewards"].sum(dim=1).mean()
    assert 0.35 < wrong < 0.65, f"signs that say nothing: expected about half right, found {wrong:.3f}"


EDITS = {
    "rows_mixed": Edit(
        function="patches",
        old=".transpose(2, 3)",
        new="",
        says="cuts the picture into strips, not squares",
        fails=("named_touched",),
    ),
    "columns_first": Edit(
        function="patches",
        old=".transpose(2, 3)",
        new=".permute(0, 3, 1, 2, 4, 5)",
        says="numbers the squares column by column",
    ),
    "scores_unscaled": Edit(
        function="attend",
        old=" / query.shape[-1] ** 0.5",
        new="",
        says="forgets the root of d: attention is too sharp",
    ),
    "softmax_over_batch": Edit(
        function="attend",
        old="scores.softmax(dim=-1)",
        new="scores.softmax(dim=0)",
        says="shares attention between the pictures of a batch",
        fails=("named_seen",),
    ),
    "divided_by_width": Edit(
        function="attend",
        old="query.shape[-1] ** 0.5",
        new="query.shape[-1]",
        says="divides by d, not by its root: attention is too flat",
    ),
    "places_unscaled": Edit(
        function="touch",
        old=" / places.shape[-1] ** 0.5",
        new="",
        says="forgets the root of d: touches are too sure",
    ),
    "touches_unnormalised": Edit(
        function="touch",
        old="scores.log_softmax(dim=-1)",
        new="scores",
        says="gives scores for log-probabilities",
    ),
    "eyes_shut": Edit(
        function="Seer",
        old="layer_norm(seen, seen.shape[-1:]) + self.places",
        new="0.0 * seen + self.places",
        says="the picture is not looked at",
        fails=("named_touched", "named_seen"),
    ),
    "place_unread": Edit(
        function="Seer",
        old="self.words(words).sum(dim=1)",
        new="self.words(words[:, :2]).sum(dim=1)",
        says="the word for the place is not read",
        fails=("named_touched",),
    ),
    "teacher_avoided": Edit(
        function="imitation_loss",
        old="-(log_probs",
        new="(log_probs",
        says="the sign turned: what the teacher does becomes unlikely",
        fails=("named_touched", "door_opened"),
    ),
    "reflexes_imitated": Edit(
        function="imitation_loss",
        old="log_probs * asked",
        new="log_probs",
        says="imitates turns at steps that a reflex walks",
    ),
    "whole_return": Edit(
        function="advantages",
        old=".flip(1).cumsum(dim=1).flip(1)",
        new=".sum(dim=1, keepdim=True).expand_as(rewards)",
        says="judges a step by rewards from before it, too",
    ),
    "past_return": Edit(
        function="advantages",
        old=".flip(1).cumsum(dim=1).flip(1)",
        new=".cumsum(dim=1)",
        says="sums the rewards up to a step, not from it on",
    ),
    "ends_forgotten": Edit(
        function="advantages",
        old="(rewards * alive)",
        new="rewards",
        says="counts rewards from behind the end of an episode",
    ),
    "own_return": Edit(
        function="advantages",
        old="(returns.sum(dim=0, keepdim=True) - returns) / others.clamp(min=1.0)",
        new="returns.sum(dim=0, keepdim=True) / (others + 1.0).clamp(min=1.0)",
        says="an episode is part of its own baseline",
    ),
    "ended_compared": Edit(
        function="advantages",
        old="alive.sum(dim=0, keepdim=True) - 1.0",
        new="len(alive) - torch.ones(1, alive.shape[1])",
        says="compares with episodes that are over",
    ),
    "climbs_the_loss": Edit(
        function="policy_loss",
        old="return -(adv",
        new="return (adv",
        says="the sign turned: what was worse becomes more likely",
        fails=("named_touched", "door_opened"),
    ),
    "reflexes_credited": Edit(
        function="policy_loss",
        old="log_probs * asked",
        new="log_probs * alive",
        says="credits turns at steps that a reflex walked",
    ),
    "worst_read": Edit(
        function="retrieve",
        old="num_read, scores.shape[1]), dim=1)",
        new="num_read, scores.shape[1]), dim=1, largest=False)",
        says="reads what suits the query least",
        fails=("door_opened",),
    ),
    "all_read": Edit(
        function="retrieve",
        old="min(num_read, scores.shape[1])",
        new="scores.shape[1]",
        says="reads the whole list, however long",
    ),
    "weights_of_all": Edit(
        function="retrieve",
        old="best.values.softmax(dim=1)",
        new="scores.softmax(dim=1).gather(1, best.indices)",
        says="keeps the weights that the whole list would give: they do not sum to 1",
    ),
    "read_evenly": Edit(
        function="retrieve",
        old="best.values.softmax(dim=1)",
        new="torch.full_like(best.values, 1.0 / best.values.shape[1])",
        says="weighs all that is read alike",
    ),
    "memories_unscaled": Edit(
        function="retrieve",
        old=" / query.shape[-1] ** 0.5",
        new="",
        says="forgets the root of d",
    ),
    "memory_unread": Edit(
        function="Walker",
        old="if memory is None else",
        new="if True else",
        says="writes a memory and never reads it",
        fails=("door_opened",),
    ),
    "never_writes": Edit(
        function="rollout",
        old="memory = policy.write(seen, memory)",
        new="memory = policy.write(seen, None)",
        says="begins a new memory at each step",
        fails=("door_opened",),
    ),
    "turns_everywhere": Edit(
        function="rollout",
        old="alive & maze.asked(obs)",
        new="alive",
        says="asks the policy at every step, where a turn is a bump",
        fails=("door_opened",),
    ),
    "ended_alive": Edit(
        function="rollout",
        old="        alive = ~(maze.terminated | maze.truncated)",
        new="        alive = ~maze.truncated",
        says="goes on counting after the turn",
    ),
    "teacher_unseen": Edit(
        function="rollout",
        old="        if shown:",
        new="        if False:",
        says="lets the policy turn where a teacher should show it",
    ),
}
