"""A random walk over a row of states, many walks at once: every step left or right with equal chance.

States are numbered from 1; 0 and `num_states + 1` are terminal. Leaving on the left pays -1, on the right +1.
"""

from __future__ import annotations

import numpy as np


def walk_episodes(
    num_states: int, num_walks: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One episode per walk, from the middle: states [T + 1, N], rewards [T, N], lengths [N].

    A walk that has ended stays where it is, and its rewards are 0.
    """
    states = [np.full(num_walks, (num_states + 1) // 2)]
    while (running := (states[-1] > 0) & (states[-1] <= num_states)).any():
        states.append(states[-1] + running * (2 * rng.integers(2, size=num_walks) - 1))
    walk = np.stack(states)
    running = (walk[:-1] > 0) & (walk[:-1] <= num_states)  # [T, N]
    rewards = running * ((walk[1:] > num_states).astype(float) - (walk[1:] == 0))
    return walk, rewards, running.sum(axis=0)
