"""Exercises of B4: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def n_step_targets(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, n: int, gamma: float
) -> Tensor:
    """Targets [T, N] that look up to n steps ahead within a rollout, eq. (E1).

    All arguments are [T, N]: of each step its reward, the value v of its true successor, and the two flags.
    """
    one_step = rewards + gamma * ~terminated * next_values
    goes_on = ~(terminated | truncated)[:-1]
    targets = one_step
    for _ in range(n - 1):
        longer = rewards[:-1] + gamma * targets[1:]
        targets = torch.cat([torch.where(goes_on, longer, one_step[:-1]), one_step[-1:]])
    return targets


def check_n_step_targets(n_step_targets):
    torch.manual_seed(21)
    for num_steps, num_envs, n in ((1, 1, 3), (6, 3, 1), (6, 3, 2), (12, 4, 5), (5, 2, 9)):
        rewards, next_values = torch.randn(2, num_steps, num_envs)
        terminated = torch.rand(num_steps, num_envs) < 0.15
        truncated = torch.rand(num_steps, num_envs) < 0.15
        for gamma in (0.9, 1.0):
            found = n_step_targets(rewards, next_values, terminated, truncated, n, gamma)
            for i in range(num_envs):
                for t in range(num_steps):
                    last = t
                    while last < min(t + n, num_steps) - 1 and not (
                        terminated[last, i] or truncated[last, i]
                    ):
                        last += 1
                    expected = sum(gamma ** (k - t) * float(rewards[k, i]) for k in range(t, last + 1))
                    if not terminated[last, i]:
                        expected += gamma ** (last - t + 1) * float(next_values[last, i])
                    assert math.isclose(found[t, i], expected, rel_tol=1e-4, abs_tol=1e-5), (
                        f"step {t} of {num_steps}, n {n}, up to {last}, terminated {terminated[last, i]}, "
                        f"truncated {truncated[last, i]}: expected {expected:.4f}, found {found[t, i]:.4f}"
                    )


def dueling_q(value: Tensor, advantages: Tensor) -> Tensor:
    """One Q-value an action [B, A] out of a state value [B, 1] and advantages [B, A], eq. (E2)."""
    return value + advantages - advantages.mean(dim=-1, keepdim=True)


def check_dueling_q(dueling_q):
    torch.manual_seed(3)
    for batch, num_actions in ((1, 1), (3, 2), (8, 5), (64, 2)):
        value, advantages = torch.randn(batch, 1), torch.randn(batch, num_actions)
        q = dueling_q(value, advantages)
        for i in range(batch):
            mean = sum(advantages[i].tolist()) / num_actions
            for a in range(num_actions):
                by_hand = float(value[i, 0]) + float(advantages[i, a]) - mean
                assert math.isclose(q[i, a], by_hand, rel_tol=1e-5, abs_tol=1e-6)
        # a constant in the advantages changes nothing: that is what the mean is subtracted for
        torch.testing.assert_close(dueling_q(value, advantages + 7.0), q, atol=1e-5, rtol=1e-5)


EXERCISES = {
    "heart": Exercise(
        title="Choose, remember, follow",
        task="""
Write double DQN's value (3), the ring that remembers, and the average that follows (4).
""",
        minutes=40,
        difficulty="medium",
        functions=("double_value", "ReplayBuffer", "move_average"),
    ),
    "n_step_targets": Exercise(
        title="Look further ahead",
        task=r"""
With (1) a reward travels back by only one step for each copy of the target network. Summing $m$ real rewards
first, as in B2, makes it faster:

$$y_t = \sum_{i=0}^{m-1} \gamma^i r_{t+i} + \gamma^m (1 - \text{terminated}_{t+m-1})\, v(s_{t+m}) \tag{E1}$$

Here $m$ is $n$, or less where an episode or the rollout (the recorded stretch of steps) ends before. A time
limit ends the sum too, but its state keeps its value. Which of these rewards follow from an older policy's
actions, and does double DQN mend that?
""",
        minutes=35,
        difficulty="hard",
        solution=n_step_targets,
        check=check_n_step_targets,
        hints=(
            "A target of m + 1 steps is a reward and the next row's discounted target of m steps, if the row "
            "belongs to the same episode.",
            "With n = 1 this is (1). With a large n and no ends only the last row's value is trusted.",
            "one_step = rewards + gamma * ~terminated * next_values",
        ),
        edits={
            "limit_is_an_end": Edit(
                function="n_step_targets",
                old="gamma * ~terminated * next_values",
                new="gamma * ~(terminated | truncated) * next_values",
                says="takes a time limit for an end: the state that it leaves is worth nothing",
            ),
            "sums_past_limits": Edit(
                function="n_step_targets",
                old="~(terminated | truncated)[:-1]",
                new="~terminated[:-1]",
                says="sums on past a time limit: the next row is another episode's",
            ),
            "one_step_short": Edit(
                function="n_step_targets",
                old="range(n - 1)",
                new="range(n - 2)",
                says="looks one step less far ahead",
            ),
            "bootstraps_past_ends": Edit(
                function="n_step_targets",
                old="gamma * ~terminated * next_values",
                new="gamma * next_values",
                says="bootstraps through a terminal state",
            ),
        },
        answer=r"""
All but the first, which is paid for the very $a_t$ that $Q(s_t, a_t)$ asks about. But $r_{t+1}, r_{t+2},
\dots$ follow actions of the policy that filled the buffer, not of the one whose value is learned, and double
DQN changes only $v$. B2's ratios would mend it. In practice a small $n$ is used without them: the buffer's
policy is not far off, and rewards arrive sooner.
""",
    ),
    "wrong_successor": Exercise(
        title="A wrong successor",
        task="""
At a time limit the mistake `after_the_reset` stores the next episode's first observation as the successor.
The evidence's `endless_value`, measured in a world that is cut every ten steps, stays right all the same.
Why, and what would a world look like that notices?
""",
        minutes=20,
        difficulty="medium",
        answer="""
In that world, `Endless`, all states look alike, so the next episode's first one is as good as the true
successor. A probe that notices must be cut in a state in which few episodes start: `CutShort` in
`chapters/envs/probes.py`.
""",
    ),
    "dueling_q": Exercise(
        title="Dueling",
        task=r"""
The last layer can have another shape: how good is the state, and how much better than average is each action
(`wang2016dueling`)?

$$Q(s,a) = V(s) + A(s,a) - \tfrac{1}{|A|}\textstyle\sum_{b} A(s,b) \tag{E2}$$

Why is the mean subtracted? `rl break B4 dueling` puts the layer in.
""",
        minutes=10,
        difficulty="easy",
        solution=dueling_q,
        check=check_dueling_q,
        hints=(
            "One number for the state, one for each action; the mean is over the actions of one state.",
            "Of a single action the advantage is always 0, and Q is V.",
            "return value + advantages - advantages.mean(dim=-1, keepdim=True)",
        ),
        edits={
            "mean_not_subtracted": Edit(
                function="dueling_q",
                old="advantages - advantages.mean(dim=-1, keepdim=True)",
                new="advantages",
                says="does not subtract the mean: a constant can wander between value and advantages",
            ),
            "mean_over_batch": Edit(
                function="dueling_q",
                old="advantages.mean(dim=-1, keepdim=True)",
                new="advantages.mean(dim=0, keepdim=True)",
                says="subtracts the mean over the batch",
            ),
            "maximum_for_mean": Edit(
                function="dueling_q",
                old="advantages.mean(dim=-1, keepdim=True)",
                new="advantages.amax(dim=-1, keepdim=True)",
                says="subtracts the maximum (the paper's other form)",
            ),
        },
        answer="""
Otherwise a constant could wander between the two: $V + 7$ and $A - 7$ give the same $Q$, and neither would
mean what it is called. With the mean subtracted, $V$ is the mean of the $Q$-values of its state.
""",
    ),
}
