"""Exercises of A4: its functions, and what goes beyond them."""

import gymnasium as gym
import numpy as np

from chapters.envs import registration  # noqa: F401 — makes GridWorld-v0 known to gymnasium
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


class Clock(gym.Wrapper):
    """Shows (obs, steps taken in this episode), for a world that is stopped after `time_limit` steps."""

    def __init__(self, env: gym.Env, time_limit: int) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Tuple(
            (env.observation_space, gym.spaces.Discrete(time_limit + 1))
        )

    def reset(self, **options) -> tuple[tuple, dict]:
        obs, info = self.env.reset(**options)
        self.steps = 0
        return (obs, self.steps), info

    def step(self, action: int) -> tuple[tuple, float, bool, bool, dict]:
        obs, *rest = self.env.step(action)
        self.steps += 1
        return (obs, self.steps), *rest


def check_Clock(Clock):
    inner = {"slip": 0.0, "max_episode_steps": 5}
    env, plain = Clock(gym.make("GridWorld-v0", **inner), 5), gym.make("GridWorld-v0", **inner)
    assert env.observation_space[0] == plain.observation_space
    assert env.observation_space[1].n == 6, "0, 1, ..., 5 steps are possible, and no more"
    for seed, actions in ((3, (0, 0, 1, 1, 1)), (4, (3, 2, 3, 2, 3)), (5, (0, 1))):
        (obs, steps), info = env.reset(seed=seed)
        assert (obs, info) == plain.reset(seed=seed)
        assert steps == 0, f"{steps} steps are shown before the first one"
        for taken, action in enumerate(actions, 1):
            seen, *rest = env.step(action)
            obs, *others = plain.step(action)
            assert rest == others, "reward, flags and info pass through"
            assert tuple(seen) == (obs, taken)
            assert seen in env.observation_space


def real_steps(terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """Which steps [T, N] of a next-step batch really happened: all but the dummies."""
    done = terminated | truncated
    real = np.ones_like(done)
    real[1:] = ~done[:-1]
    return real


def check_real_steps(real_steps):
    rng = np.random.default_rng(0)
    for num_steps, num_envs in ((1, 1), (6, 3), (30, 2)):
        terminated, truncated = rng.random((2, num_steps, num_envs)) < 0.3
        terminated[1:] &= ~(terminated | truncated)[:-1]  # a dummy ends nothing
        truncated[1:] &= ~(terminated | truncated)[:-1]
        found = real_steps(terminated, truncated)
        for t, i in np.ndindex(num_steps, num_envs):
            assert bool(found[t, i]) == (t == 0 or not (terminated[t - 1, i] or truncated[t - 1, i]))
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("GridWorld-v0", max_episode_steps=4)] * 3)
    envs.reset(seed=0)
    steps = [envs.step(rng.integers(4, size=3)) for _ in range(60)]
    _, rewards, terminated, truncated, _ = (np.array(column) for column in zip(*steps))
    found = real_steps(terminated, truncated)
    assert (found == (rewards != 0)).all(), (
        "every real step of this world costs 0.04 at least, a dummy nothing"
    )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write how a batch is collected, with the true successor of every step, and how values are learned from it.
""",
        minutes=40,
        difficulty="medium",
        functions=("collect", "td_solution"),
    ),
    "Clock": Exercise(
        title="A clock in the state",
        task="""
Write a wrapper that shows the number of steps taken beside the observation. With it, is the time limit an end
or a truncation?
""",
        minutes=20,
        difficulty="easy",
        solution=Clock,
        check=check_Clock,
        hints=(
            "It changes the observation of `reset` and of `step`, and passes the rest through.",
            "Right after a reset the clock shows 0; with a limit of 5 the last observation shows 5.",
            "super().__init__(env)",
        ),
        edits={
            "runs_on": Edit(
                function="Clock",
                old="self.steps = 0",
                new='self.steps = getattr(self, "steps", 0)',
                says="lets the clock run on into the next episode",
            ),
            "a_step_late": Edit(
                function="Clock",
                old="self.steps += 1\n        return (obs, self.steps)",
                new="self.steps += 1\n        return (obs, self.steps - 1)",
                says="shows a step too few after each step",
            ),
            "space_too_small": Edit(
                function="Clock",
                old="Discrete(time_limit + 1)",
                new="Discrete(time_limit)",
                says="promises a space that does not hold the last observation",
            ),
        },
        answer="""
If the task is to do well *within* the limit, the step number makes the limit part of the state, and reaching
it ends the world: terminated. Without the step number the agent cannot know, and the limit must not count as
an end (pardo2018timelimits).
""",
    ),
    "real_steps": Exercise(
        title="Throw the dummies away",
        task="""
A batch from gymnasium's default, next-step, holds a dummy after each end. Write the mask of the steps that
really happened. What does `td_solution` make of these alone?
""",
        minutes=15,
        difficulty="easy",
        solution=real_steps,
        check=check_real_steps,
        hints=(
            "A dummy is the step in which an environment resets: the one right after its episode ended.",
            "With a time limit of 1, every second step is a dummy; the first never is.",
            "done = terminated | truncated",
        ),
        edits={
            "drops_the_end": Edit(
                function="real_steps",
                old="real[1:] = ~done[:-1]",
                new="real = ~done",
                says="drops the last step of an episode, which happened, and keeps the dummy",
            ),
            "only_real_ends": Edit(
                function="real_steps",
                old="terminated | truncated",
                new="terminated",
                says="keeps the dummies after a time limit",
            ),
            "other_axis": Edit(
                function="real_steps",
                old="real[1:] = ~done[:-1]",
                new="real[:, 1:] = ~done[:, :-1]",
                says="looks at the environment beside instead of the step before",
            ),
        },
        answer="""
The right values, as from a same-step batch of as many real steps: next-step hands out the true successors.
""",
    ),
    "longer_limits": Exercise(
        title="Longer limits",
        task="""
Raise `--time-limit` to 50 and to 200. In which order do the mistakes fade?
""",
        minutes=10,
        difficulty="easy",
        answer="""
All three live on truncated steps, and with a limit of 200 almost no episode is truncated: they fade together,
and the bars move to the line.
""",
    ),
}
