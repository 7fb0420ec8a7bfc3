"""Returns on MuJoCo's bodies as papers print them: what "the score of an algorithm" leaves out.

A table that is handed on has one number for each algorithm and body. In print each depends on how many steps
were taken, on how the best of them is chosen, and on whose code it was; for PPO and SAC by a factor of five.
"""

from __future__ import annotations

BODIES = ("HalfCheetah", "Ant", "Humanoid")
HANDED_ON = {"PPO": (1800, 3000, 600), "SAC": (11000, 5500, 5200), "TD3": (9500, 4700, 5100)}
"""The table of a source document: a return for each body, without steps, seeds, spread or source."""

PRINTED = {
    ("PPO", "fujimoto2018td3, table 1", 1): (1795.43, 1083.20, None),
    ("PPO", "weng2022tianshou", 1): (5783.9, 3258.4, 787.1),
    ("PPO", "weng2022tianshou", 3): (7337.4, 4079.3, 1359.7),
    ("SAC", "fujimoto2018td3, table 1", 1): (2347.19, 655.35, None),
    ("SAC", "weng2022tianshou", 1): (12138.8, 5850.2, 5488.5),
    ("TD3", "fujimoto2018td3, table 1", 1): (9636.95, 4372.44, None),
    ("TD3", "fujimoto2018td3, table 2", 1): (9532.99, 4185.06, None),
    ("TD3", "weng2022tianshou", 1): (10201.2, 5116.4, 5189.5),
}
"""(algorithm, where, millions of steps) -> returns, means of ten seeds; None where that body was not run.

Table 1 of fujimoto2018td3 has the largest of 200 averages over ten seeds, a check every 5,000 steps, by other
authors' code for PPO and SAC; table 2 the mean of the last ten checks. weng2022tianshou, the benchmark of a
library, has the largest average over ten seeds too, on later versions of the bodies (v3 for v1).
"""

READ_OFF_CURVES = {
    ("PPO", "schulman2017ppo", 1): (1800, None, None),
    ("PPO", "achiam2018spinningup", 1): (1670, 650, None),
    ("PPO", "achiam2018spinningup", 3): (3130, 3000, None),
    ("SAC", "haarnoja2018sac", 1): (10400, 3720, 5200),
    ("SAC", "achiam2018spinningup", 1): (11520, 3980, None),
    ("TD3", "achiam2018spinningup", 1): (9750, 3800, None),
}
"""The same, where a source prints curves alone: read off them by the authors of weng2022tianshou."""


def known(algorithm: str, body: str) -> dict[tuple[str, int], float]:
    """(where, millions of steps) -> return of an algorithm on a body, of everything above."""
    column = BODIES.index(body)
    return {
        (where, millions): row[column]
        for (name, where, millions), row in (PRINTED | READ_OFF_CURVES).items()
        if name == algorithm and row[column] is not None
    }
