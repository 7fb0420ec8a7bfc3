"""The random walk's state values, from its Bellman equations as a linear system."""

import numpy as np
from jaxtyping import Float


def walk_values(num_states: int) -> Float[np.ndarray, " S"]:
    """Values of a walk that steps left or right with equal chance and is paid -1 and +1 at its two ends."""
    transitions = (np.eye(num_states, k=1) + np.eye(num_states, k=-1)) / 2
    rewards = np.zeros(num_states)
    rewards[0] -= 0.5  # half of the steps from the outermost states leave, and are paid
    rewards[-1] += 0.5
    return np.linalg.solve(np.eye(num_states) - transitions, rewards)
