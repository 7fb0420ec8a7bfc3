"""Exercises of E3: its loss, and a number that belongs to a bug that no rule knows."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def wrong_successors(obs: Tensor, next_obs: Tensor, terminated: Tensor, truncated: Tensor) -> float:
    """Share of a rollout's rows, but for the last, whose stored successor cannot be right: eq. (E1).

    obs, next_obs [T, N, D]: each row's observation and the successor stored with it; the flags are [T, N].
    """
    same = (next_obs[:-1] == obs[1:]).all(dim=-1)  # [T - 1, N]
    done = (terminated | truncated)[:-1]
    return (same == done).float().mean().item()


def check_wrong_successors(wrong_successors):
    torch.manual_seed(5)
    for num_steps, num_envs, size in ((2, 1, 1), (8, 3, 4), (40, 5, 2)):
        obs = torch.randn(num_steps, num_envs, size)
        terminated, truncated = torch.rand(2, num_steps, num_envs) < 0.2
        right = torch.cat([obs[1:], torch.randn(1, num_envs, size)])
        right[terminated | truncated] = torch.randn(int((terminated | truncated).sum()), size)
        after_the_reset = torch.cat([obs[1:], right[-1:]])
        half = right.clone()
        half[..., 0] += torch.rand(num_steps, num_envs) < 0.5  # one number of some rows
        for stored in (right, after_the_reset, obs.clone(), half):
            wrong = 0
            for i in range(num_envs):
                for t in range(num_steps - 1):
                    is_next = stored[t, i].tolist() == obs[t + 1, i].tolist()
                    ended = bool(terminated[t, i]) or bool(truncated[t, i])
                    wrong += is_next if ended else not is_next
            expected = wrong / ((num_steps - 1) * num_envs)
            found = wrong_successors(obs.clone(), stored.clone(), terminated, truncated)
            assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-7), (
                f"{wrong} wrong rows, {num_steps} steps: expected {expected:.4f}, found {found:.4f}"
            )


EXERCISES = {
    "loss": Exercise(
        title="The loss",
        task="""
Write PPO's loss with what it says of itself; the grader knows the bugs.
""",
        minutes=20,
        difficulty="medium",
        functions=("policy_loss",),
    ),
    "unknown_bug": Exercise(
        title="A bug that no rule knows",
        task="""
Let `rollout` store `next_obs` in place of the true successor. Where an episode ended, that is the first
observation of the next one. Which bug does the diagnosis name, and why?
""",
        minutes=20,
        difficulty="medium",
        answer="""
None. The identity is checked with the same wrong successors that the advantages were made from, so it holds:
a check sees only what was done with its inputs. A probe environment notices (`CutShort`).
""",
    ),
    "wrong_successors": Exercise(
        title="A number for it",
        task=r"""
Yet two neighbouring rows of a rollout give that bug away. Within an episode the successor stored at $t$ *is*
the observation of the next row; where an episode ended it is not, as the next row begins another. So ask two
questions of each row: is its successor the next row's observation, and did its episode end? In a right
rollout just one answer is yes. Count the rows in which both are, or neither is:

$$\frac{1}{(T-1)\,N} \sum_{t=0}^{T-2} \sum_{i=1}^{N} \mathbb 1\bigl[(s'_{t,i} = s_{t+1,i}) =
\text{done}_{t,i}\bigr] \tag{E1}$$

Where in the learner does it belong, and what must it be?
""",
        minutes=20,
        difficulty="medium",
        solution=wrong_successors,
        check=check_wrong_successors,
        hints=(
            "For each row two yes-or-no questions: is the successor the next row, and did the episode end?",
            "In a right rollout the answers always differ: without ends every successor is the next row.",
            "same = (next_obs[:-1] == obs[1:]).all(dim=-1)",
        ),
        edits={
            "looks_inside_only": Edit(
                function="wrong_successors",
                old="(same == done)",
                new="(~same & ~done)",
                says="looks within episodes only: the bug sits at their ends",
            ),
            "limits_forgotten": Edit(
                function="wrong_successors",
                old="(terminated | truncated)[:-1]",
                new="terminated[:-1]",
                says="forgets that a time limit ends an episode too",
            ),
            "one_number_is_enough": Edit(
                function="wrong_successors",
                old=".all(dim=-1)",
                new=".any(dim=-1)",
                says="takes two observations for the same if one of their numbers is",
            ),
            "its_own_row": Edit(
                function="wrong_successors",
                old="next_obs[:-1] == obs[1:]",
                new="next_obs[:-1] == obs[:-1]",
                says="compares a successor with its own row's observation, not with the next one's",
            ),
        },
        answer="""
In `batch`, beside the gaps: `note(rows, i, wrong_successors=...)`. It must be 0, exactly: the numbers are
copies, so no rounding comes between. With E3.2's bug it is the share of rows that end an episode.
""",
    ),
}
